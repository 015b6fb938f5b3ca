//! The record as sets: ids of all passages, and all documents with what filters ask about.

use super::{Record, damaged, path_from};
use crate::about::Day;
use crate::catalogue::Entry;
use crate::filter::Facts;
use crate::index::stem;
use crate::part;
use base::Fault;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::ops::RangeInclusive;

impl Record {
    /// Ids of all passages.
    pub(crate) fn passage_ids(&self) -> Result<RoaringBitmap, Fault> {
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.db.prepare_cached("SELECT id FROM passage")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let ids = read().map_err(|error| self.fault(error))?;
        // LIMIT: an id counts every passage that was ever read; the indexes know the first 4,294,967,295.
        ids.into_iter()
            .map(|id| {
                u32::try_from(id).map_err(|_| damaged(&self.dir, format!("passage {id} is beyond what it can count")))
            })
            .collect()
    }

    /// All documents that have passages, with what filters ask about.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Fault> {
        let read = || -> rusqlite::Result<Vec<Entry>> {
            let mut passages = self.db.prepare_cached("SELECT file, id FROM passage ORDER BY file, id")?;
            let mut ranges: HashMap<i64, Vec<RangeInclusive<u32>>> = HashMap::new();
            let mut rows = passages.query([])?;
            while let Some(row) = rows.next()? {
                // What can't be counted can't be found under a filter; `passage_ids` reports it.
                let Ok(id) = u32::try_from(row.get::<_, i64>(1)?) else { continue };
                let own = ranges.entry(row.get(0)?).or_default();
                match own.last_mut() {
                    Some(last) if last.end().checked_add(1) == Some(id) => *last = *last.start()..=id,
                    _ => own.push(id..=id),
                }
            }
            let mut files = self.db.prepare_cached(
                "SELECT f.id, f.path, f.format, f.title, f.modified_ns, a.author, a.language, a.written
                 FROM file f LEFT JOIN about a ON a.file = f.id ORDER BY f.path",
            )?;
            let entries = files.query_map([], |row| {
                let (id, path): (i64, _) = (row.get(0)?, path_from(part::parse(row.get(1)?).0));
                let title: Option<String> = row.get(3)?;
                let facts = Facts {
                    title: title.unwrap_or_else(|| stem(&path)),
                    path,
                    format: row.get(2)?,
                    author: row.get(5)?,
                    language: row.get(6)?,
                    day: row
                        .get::<_, Option<i64>>(7)?
                        .map_or_else(|| row.get(4).map(Day::of_ns), |day| Ok(Day(day)))?,
                };
                Ok(Entry { file: id.cast_unsigned(), facts, passages: ranges.remove(&id).unwrap_or_default() })
            })?;
            entries.filter(|entry| entry.as_ref().map_or(true, |entry| !entry.passages.is_empty())).collect()
        };
        read().map_err(|error| self.fault(error))
    }
}
