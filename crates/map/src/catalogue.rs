//! All documents of a record with what filters ask about, and the passages that a filter leaves.

use crate::filter::{Facts, Filter};
use crate::record::Record;
use base::Fault;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::ops::{Range, RangeInclusive};
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// One document's facts and passages.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) file: u64,
    pub(crate) facts: Facts,
    /// Ids that follow each other.
    pub(crate) passages: Vec<RangeInclusive<u32>>,
}

/// In memory, since a filter asks about every document; read again when the record's generation has changed.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) generation: u64,
    /// By the bytes of their paths: those below a folder stand together.
    entries: Vec<Entry>,
}

/// What a search may see. The one set that both arms are held to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Allowed {
    pub(crate) passages: RoaringBitmap,
    /// The documents that the passages belong to, when whole documents were chosen.
    pub(crate) files: Option<Vec<u64>>,
}

impl Catalogue {
    pub(crate) fn read(record: &Record) -> Result<Self, Fault> {
        // First the number: what changes in between only makes it be read once more.
        let generation = record.generation()?;
        Ok(Self::of(generation, record.entries()?))
    }

    fn of(generation: u64, mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|one, other| bytes(&one.facts.path).cmp(bytes(&other.facts.path)));
        Self { generation, entries }
    }

    pub(crate) fn allowed(&self, filter: &Filter) -> Allowed {
        let mut allowed = Allowed { passages: RoaringBitmap::new(), files: Some(Vec::new()) };
        // What stands at its place needn't be asked for its folder.
        let rest = Filter { folders: Vec::new(), ..filter.clone() };
        let all = rest.is_empty();
        // Files that stand side by side were mostly read one after the other: their passages go in together.
        let mut run: Option<RangeInclusive<u32>> = None;
        for range in self.below(&filter.folders) {
            for entry in self.entries[range].iter().filter(|entry| all || rest.admits(&entry.facts)) {
                for range in &entry.passages {
                    run = match run.take() {
                        Some(run) if run.end().checked_add(1) == Some(*range.start()) => {
                            Some(*run.start()..=*range.end())
                        }
                        before => {
                            before.into_iter().for_each(|run| _ = allowed.passages.insert_range(run));
                            Some(range.clone())
                        }
                    };
                }
                allowed.files.get_or_insert_default().push(entry.file);
            }
        }
        run.into_iter().for_each(|run| _ = allowed.passages.insert_range(run));
        allowed
    }

    /// Where entries at or below some folders stand, each once; without folders, all of them.
    fn below(&self, folders: &[PathBuf]) -> Vec<Range<usize>> {
        if folders.is_empty() {
            return std::iter::once(0..self.entries.len()).collect();
        }
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(2 * folders.len());
        for folder in folders {
            // Without a separator at its end, or two in a row.
            let folder: PathBuf = folder.components().collect();
            let mut inside = bytes(&folder).to_vec();
            ranges.push(self.standing(|path| path.cmp(&inside)));
            if !inside.ends_with(SEPARATOR) {
                inside.extend_from_slice(SEPARATOR);
            }
            ranges.push(self.standing(|path| path[..path.len().min(inside.len())].cmp(&inside)));
        }
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let mut end = 0;
        for range in &mut ranges {
            range.start = range.start.max(end);
            range.end = range.end.max(range.start);
            end = range.end;
        }
        ranges
    }

    /// The entries that are equal to what is looked for, which must agree with their order.
    fn standing(&self, compare: impl Fn(&[u8]) -> Ordering) -> Range<usize> {
        let at = |entry: &Entry| compare(bytes(&entry.facts.path));
        self.entries.partition_point(|entry| at(entry).is_lt())..self.entries.partition_point(|entry| at(entry).is_le())
    }
}

const SEPARATOR: &[u8] = if MAIN_SEPARATOR == '/' { b"/" } else { b"\\" };

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::about::Day;
    use crate::filter::Facts;
    use proptest::prelude::*;

    fn catalogue(paths: &[String]) -> Catalogue {
        let entry = |(file, path): (u32, &String)| {
            let facts = Facts {
                path: path.into(),
                format: "text".into(),
                title: String::new(),
                author: None,
                language: None,
                day: Day(1),
            };
            Entry { file: u64::from(file), facts, passages: std::iter::once(file * 2..=file * 2 + 1).collect() }
        };
        Catalogue::of(1, (0..).zip(paths).map(entry).collect())
    }

    /// Paths of few letters, so that folders are prefixes of each other, as words and as folders.
    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "a-", "b", "a.b", "ä"]), 1..4)
            .prop_map(|parts| format!("/{}", parts.join("/")))
    }

    proptest! {
        #[test]
        fn a_folder_s_place_holds_what_a_look_at_each_path_finds(
            paths in prop::collection::vec(path(), 0..20),
            folders in prop::collection::vec(prop_oneof![path(), path().prop_map(|path| path + "/"), Just("/".to_owned())], 0..4),
            typed: bool,
        ) {
            let mut types = Vec::new();
            if typed {
                types.push("b".to_owned());
            }
            let filter = Filter { folders: folders.iter().map(PathBuf::from).collect(), types, ..Filter::default() };
            let catalogue = catalogue(&paths);
            let found = catalogue.allowed(&filter);
            let mut looked = Allowed { passages: RoaringBitmap::new(), files: Some(Vec::new()) };
            for entry in catalogue.entries.iter().filter(|entry| filter.admits(&entry.facts)) {
                looked.passages.insert_range(entry.passages[0].clone());
                looked.files.get_or_insert_default().push(entry.file);
            }
            prop_assert_eq!(found, looked);
        }
    }
}
