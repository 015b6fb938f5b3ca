//! Which documents a search may see. Pure: facts of a document in, yes or no out.
//!
//! A filter is strict. What it leaves out is left out of both arms before they rank anything.

use crate::about::Day;
use crate::words;
use std::path::{Path, PathBuf};

/// All that is named must hold; of several values of one kind, one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// At or below one of these, from the root.
    pub folders: Vec<PathBuf>,
    /// A part of the path, in any case: all of these.
    pub paths: Vec<String>,
    /// Formats (`pdf`, `markdown`) or file endings (`md`).
    pub types: Vec<String>,
    /// Words of the title, or of the file's name where there is none: all of these.
    pub titles: Vec<String>,
    /// A part of an author's name or address, in any case.
    pub authors: Vec<String>,
    /// `en`, `de`.
    pub languages: Vec<String>,
    /// This day or later.
    pub after: Option<Day>,
    /// Before this day.
    pub before: Option<Day>,
    /// Filters that must hold as well: of several values of one kind one is enough, of two filters none is.
    pub also: Vec<Filter>,
}

/// What is known of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) path: PathBuf,
    pub(crate) format: String,
    pub(crate) title: String,
    pub(crate) author: Option<String>,
    pub(crate) language: Option<String>,
    /// The document's own day, or the day on which its file was changed.
    pub(crate) day: Day,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both filters at once.
    #[must_use]
    pub fn and(mut self, other: Filter) -> Filter {
        self.after = self.after.max(other.after);
        self.before = match (self.before, other.before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.paths.extend(other.paths);
        self.titles.extend(other.titles);
        self.also.extend(other.also);
        let rest = Filter {
            folders: either(&mut self.folders, other.folders),
            types: either(&mut self.types, other.types),
            authors: either(&mut self.authors, other.authors),
            languages: either(&mut self.languages, other.languages),
            ..Filter::default()
        };
        if !rest.is_empty() {
            self.also.push(rest);
        }
        self
    }

    pub(crate) fn admits(&self, facts: &Facts) -> bool {
        let folder = |path: &Path| self.folders.iter().any(|folder| path.starts_with(folder));
        let kind = |wanted: &String| {
            let ending = facts.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(wanted));
            facts.format.eq_ignore_ascii_case(wanted) || ending
        };
        let author = |wanted: &String| facts.author.as_deref().is_some_and(|author| holds(author, wanted));
        let language = |wanted: &String| facts.language.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(wanted));
        (self.folders.is_empty() || folder(&facts.path))
            && self.paths.iter().all(|part| holds(&facts.path.to_string_lossy(), part))
            && (self.types.is_empty() || self.types.iter().any(kind))
            && self.titles.iter().all(|title| has_words(&facts.title, title))
            && (self.authors.is_empty() || self.authors.iter().any(author))
            && (self.languages.is_empty() || self.languages.iter().any(language))
            && self.after.is_none_or(|after| facts.day >= after)
            && self.before.is_none_or(|before| facts.day < before)
            && self.also.iter().all(|filter| filter.admits(facts))
    }
}

/// Of two lists of which one value is enough, makes one where it can; else what is left must hold as well.
fn either<T>(own: &mut Vec<T>, other: Vec<T>) -> Vec<T> {
    if own.is_empty() {
        *own = other;
        return Vec::new();
    }
    other
}

fn holds(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn has_words(text: &str, wanted: &str) -> bool {
    let own: Vec<String> = words::words(text).into_iter().map(|word| word.stem).collect();
    words::words(wanted).iter().all(|word| own.contains(&word.stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            path: "/home/a/Notes/Boiler-2026.md".into(),
            format: "markdown".into(),
            title: "Servicing the boiler".into(),
            author: Some("Ada Lund <ada@example.org>".into()),
            language: Some("en".into()),
            day: Day(100),
        }
    }

    #[test]
    fn each_kind_decides_by_itself() {
        let one = |text: &str| vec![text.to_owned()];
        let none = Filter::default();
        assert!(none.is_empty() && none.admits(&facts()));
        for (filter, admitted) in [
            (Filter { folders: vec!["/home/a/Notes".into()], ..none.clone() }, true),
            (Filter { folders: vec!["/home/a/Note".into()], ..none.clone() }, false),
            (Filter { folders: vec!["/x".into(), "/home".into()], ..none.clone() }, true),
            (Filter { paths: one("boiler"), ..none.clone() }, true),
            (Filter { paths: vec!["boiler".into(), "rent".into()], ..none.clone() }, false),
            (Filter { types: one("MD"), ..none.clone() }, true),
            (Filter { types: one("markdown"), ..none.clone() }, true),
            (Filter { types: one("pdf"), ..none.clone() }, false),
            (Filter { titles: one("boilers service"), ..none.clone() }, true),
            (Filter { titles: one("rent"), ..none.clone() }, false),
            (Filter { authors: one("ada"), ..none.clone() }, true),
            (Filter { authors: one("bob"), ..none.clone() }, false),
            (Filter { languages: one("en"), ..none.clone() }, true),
            (Filter { languages: one("de"), ..none.clone() }, false),
            (Filter { after: Some(Day(100)), ..none.clone() }, true),
            (Filter { after: Some(Day(101)), ..none.clone() }, false),
            (Filter { before: Some(Day(100)), ..none.clone() }, false),
            (Filter { before: Some(Day(101)), ..none.clone() }, true),
        ] {
            assert_eq!(filter.admits(&facts()), admitted, "{filter:?}");
            assert!(!filter.is_empty());
        }
        let unknown = Facts { author: None, language: None, ..facts() };
        assert!(!Filter { authors: one(""), ..none.clone() }.admits(&unknown), "nobody is not everybody");
        assert!(!Filter { languages: one("en"), ..none }.admits(&unknown));
    }

    #[test]
    fn two_filters_together_admit_less() {
        let after = Filter { after: Some(Day(5)), types: vec!["pdf".into()], ..Filter::default() };
        let before = Filter { after: Some(Day(9)), before: Some(Day(20)), ..Filter::default() };
        let both = after.and(before);
        assert_eq!((both.after, both.before, both.types.len()), (Some(Day(9)), Some(Day(20)), 1));
        let of = |types: &[&str], folders: &[&str]| Filter {
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            folders: folders.iter().map(PathBuf::from).collect(),
            ..Filter::default()
        };
        for (one, other, admitted) in [
            (of(&["pdf"], &[]), of(&["md"], &[]), false),
            (of(&["pdf", "markdown"], &[]), of(&["md"], &[]), true),
            (of(&[], &["/home/a"]), of(&[], &["/home/b"]), false),
            (of(&[], &["/home/a"]), of(&[], &["/home/b", "/home/a/Notes"]), true),
            (of(&["pdf"], &[]).and(of(&["md"], &[])), Filter::default(), false),
            (Filter::default(), of(&["pdf"], &[]).and(of(&["md"], &[])), false),
        ] {
            assert_eq!(one.clone().and(other.clone()).admits(&facts()), admitted, "{one:?} {other:?}");
        }
    }
}
