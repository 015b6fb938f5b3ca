//! All documents of a record with what filters ask about, and the passages that a filter leaves.

use crate::filter::{Facts, Filter};
use crate::record::Record;
use base::Fault;
use roaring::RoaringBitmap;
use std::ops::RangeInclusive;

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
        Ok(Self { generation, entries: record.entries()? })
    }

    pub(crate) fn allowed(&self, filter: &Filter) -> Allowed {
        let mut allowed = Allowed { passages: RoaringBitmap::new(), files: Some(Vec::new()) };
        for entry in self.entries.iter().filter(|entry| filter.admits(&entry.facts)) {
            for range in &entry.passages {
                allowed.passages.insert_range(range.clone());
            }
            allowed.files.get_or_insert_default().push(entry.file);
        }
        allowed
    }
}
