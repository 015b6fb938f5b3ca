//! What erasing and checking need of the record.

use super::Record;
use base::{Code, Fault};
use rusqlite::Row;
use std::collections::{BTreeSet, HashSet};

/// LIMIT: faults of a damaged record that are told.
const FAULTS_MAX: usize = 10;

impl Record {
    /// What SQLite finds wrong with the file, and passages without a file.
    pub(crate) fn faults(&self) -> Result<Vec<String>, Fault> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut faults: Vec<String> = Vec::new();
            let mut statement = self.db.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
            for line in statement.query_map([], |row| row.get::<_, String>(0))? {
                faults.extend(Some(line?).filter(|line| line != "ok"));
            }
            let orphans: i64 = self.db.query_row(
                "SELECT COUNT(*) FROM passage p WHERE NOT EXISTS (SELECT 1 FROM file f WHERE f.id = p.file)",
                [],
                |row| row.get(0),
            )?;
            if orphans > 0 {
                faults.push(format!("{orphans} passages belong to no file"));
            }
            Ok(faults)
        };
        read().map_err(|error| self.fault(error))
    }

    pub(crate) fn passage_ids(&self) -> Result<BTreeSet<i64>, Fault> {
        let read = || -> rusqlite::Result<BTreeSet<i64>> {
            self.db.prepare("SELECT id FROM passage")?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|error| self.fault(error))
    }

    /// Gives back what a connection keeps of its last reads, so that the log can be emptied.
    pub(crate) fn let_go(&self) {
        self.db.flush_prepared_statement_cache();
    }

    /// Moves the log into the file and makes it empty, so that no earlier page is left in it.
    pub(crate) fn empty_log(&self) -> Result<(), Fault> {
        self.let_go();
        let left = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (busy, pages) =
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], left).map_err(|error| self.fault(error))?;
        if busy == 0 {
            return Ok(());
        }
        Err(Fault::new(Code::Busy, format!("{pages} pages of the record's log couldn't be emptied: somebody reads it"))
            .hint("try again when no other Freehold uses this home"))
    }

    /// Which patterns stand in the texts and names that are left. `look` adds those that it finds in one of them.
    pub(crate) fn found_among_texts(&self, look: &dyn Fn(&[u8], &mut HashSet<usize>)) -> Result<HashSet<usize>, Fault> {
        let read = || -> rusqlite::Result<HashSet<usize>> {
            let mut found = HashSet::new();
            for sql in [
                "SELECT text FROM passage",
                "SELECT heading FROM passage",
                "SELECT title FROM file WHERE title IS NOT NULL",
                "SELECT fault FROM file WHERE fault IS NOT NULL",
                "SELECT path FROM file",
            ] {
                let mut statement = self.db.prepare(sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    look(row.get_ref(0)?.as_bytes().unwrap_or_default(), &mut found);
                }
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(error))
    }
}
