//! What a map reads: its sources, what is left out, and the part that one run looks at. Pure.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// The sources of a map, and how much of them a run looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Folders and single files, as absolute paths without links.
    pub sources: Vec<PathBuf>,
    /// What was forgotten and mustn't come back, by [`fingerprint`]: a list of names would itself remember them.
    pub forgotten: HashSet<String>,
    /// Only these paths and what lies below them; `None`: all of the sources.
    pub only: Option<BTreeSet<PathBuf>>,
}

impl Scope {
    pub fn of(sources: Vec<PathBuf>) -> Self {
        Self { sources, ..Self::default() }
    }

    #[must_use]
    pub fn only(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.only = Some(paths.into_iter().collect());
        self
    }

    /// Whether a path lies in one of the sources.
    pub fn covers(&self, path: &Path) -> bool {
        self.sources.iter().any(|source| path.starts_with(source))
    }

    /// Whether a path or a folder above it was forgotten.
    pub fn has_forgotten(&self, path: &Path) -> bool {
        !self.forgotten.is_empty() && path.ancestors().any(|path| self.forgotten.contains(&fingerprint(path)))
    }

    /// Whether this run is to look at a path: it is wanted itself, or lies on the way to one that is.
    pub(crate) fn wants(&self, path: &Path) -> bool {
        let Some(only) = &self.only else { return true };
        let below = only.range::<Path, _>((Bound::Included(path), Bound::Unbounded)).next();
        below.is_some_and(|below| below.starts_with(path)) || self.decides(path)
    }

    /// Whether this run decides what becomes of a file that the record knows.
    pub(crate) fn decides(&self, path: &Path) -> bool {
        self.only.as_ref().is_none_or(|only| path.ancestors().any(|path| only.contains(path)))
    }
}

/// What is kept of a path that was forgotten: enough to know it again, not enough to read it.
pub fn fingerprint(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex().to_string()
}

/// Where systems mount what comes and goes: a source that is missing there is away, not deleted.
const MOUNTS: [&str; 4] = ["/media", "/mnt", "/run/media", "/Volumes"];

/// Whether a source that isn't there is only away, as on a disk that isn't plugged in.
pub(crate) fn is_away(source: &Path, parent_exists: bool) -> bool {
    !parent_exists || MOUNTS.iter().any(|mount| source.starts_with(mount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_to_a_wanted_path_is_wanted_and_nothing_beside_it() {
        let scope = Scope::of(vec!["/a".into()]).only(["/a/b/c.md".into(), "/a/d".into()]);
        for (path, wants, decides) in [
            ("/a", true, false),
            ("/a/b", true, false),
            ("/a/b/c.md", true, true),
            ("/a/b/c.md.txt", false, false),
            ("/a/b/x", false, false),
            ("/a/d", true, true),
            ("/a/d/e/f", true, true),
            ("/a/dd", false, false),
        ] {
            assert_eq!((scope.wants(Path::new(path)), scope.decides(Path::new(path))), (wants, decides), "{path}");
        }
        let all = Scope::of(vec!["/a".into()]);
        assert!(all.wants(Path::new("/a/x")) && all.decides(Path::new("/b")));
    }

    #[test]
    fn what_was_forgotten_is_known_again_with_all_below_it() {
        let forgotten = [fingerprint(Path::new("/a/b"))].into();
        let scope = Scope { forgotten, ..Scope::of(vec!["/a".into()]) };
        assert!(scope.has_forgotten(Path::new("/a/b")) && scope.has_forgotten(Path::new("/a/b/c.md")));
        assert!(!scope.has_forgotten(Path::new("/a/bb")) && !scope.has_forgotten(Path::new("/a")));
    }

    #[test]
    fn a_source_on_a_disk_that_is_not_there_is_away() {
        assert!(is_away(Path::new("/media/me/stick"), true) && is_away(Path::new("/home/me/gone/docs"), false));
        assert!(!is_away(Path::new("/home/me/docs"), true));
    }

    proptest! {
        /// The search in the ordered set finds what looking at each path would find.
        #[test]
        fn wanted_is_what_a_plain_look_says(
            only in prop::collection::vec("(/[ab.]{1,2}){1,3}", 0..5),
            path in "(/[ab.]{1,2}){1,3}",
        ) {
            let path = Path::new(&path);
            let scope = Scope::of(Vec::new()).only(only.iter().map(PathBuf::from));
            let plain = only.iter().map(Path::new).any(|only| only.starts_with(path) || path.starts_with(only));
            prop_assert_eq!(scope.wants(path), plain);
        }
    }
}
