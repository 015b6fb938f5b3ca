//! The part of the record that a run or an erasure is about.

use super::{Known, KnownPart, Record, fault, path_bytes, path_from, stamp};
use crate::part;
use crate::scope::Scope;
use base::Fault;
use rusqlite::Row;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const KNOWN: &str = "SELECT path, id, bytes, modified_ns, hash, reading, fault FROM file";
/// A path, its parts, and what lies below it; see [`bounds`].
const UNDER: &str = "(path = ?1 OR (path >= ?2 AND path < ?3) OR (path >= ?4 AND path < ?5))";
/// Each model once, by jumping through the key instead of reading every vector.
const MODELS: &str = "WITH RECURSIVE each(model) AS (
        SELECT MIN(model) FROM vector
        UNION ALL SELECT (SELECT MIN(model) FROM vector WHERE vector.model > each.model) FROM each WHERE each.model IS NOT NULL
    ) SELECT model FROM each WHERE model IS NOT NULL";

/// Tables beside the record's own: which model's vectors answer, and (for this connection alone) the keys of
/// passages that went, whose vectors may have become loose.
pub(super) const BESIDE: &str = "
    CREATE TABLE IF NOT EXISTS serving (one INTEGER PRIMARY KEY CHECK (one = 1), model TEXT NOT NULL);
    PRAGMA temp_store = MEMORY;
    CREATE TEMP TABLE IF NOT EXISTS loose (key BLOB PRIMARY KEY) WITHOUT ROWID;";

/// Takes up one row. A file's own row comes before those of its parts, as its path is the beginning of theirs.
fn take(row: &Row<'_>, all: &mut HashMap<PathBuf, Known>) -> rusqlite::Result<()> {
    let (path, part) = part::parse(row.get(0)?);
    let (path, id, hash, reading) = (path_from(path), row.get(1)?, row.get(4)?, row.get(5)?);
    if let Some(part) = part {
        if let Some(whole) = all.get_mut(&path) {
            whole.parts.push(KnownPart { id, part, hash, reading });
        }
        return Ok(());
    }
    let fault: Option<String> = row.get(6)?;
    let fault = fault.and_then(|text| serde_json::from_str(&text).ok());
    all.insert(path, Known { id, stamp: stamp(row, 2)?, hash, reading, fault, parts: Vec::new() });
    Ok(())
}

/// A path, the first path that can lie below it, and the first after all of those: `0` follows `/`. Then the same for the
/// keys of its parts: 1 follows the zero byte.
fn bounds(path: &Path) -> [Vec<u8>; 5] {
    let path = path_bytes(path);
    let bare = path.strip_suffix(b"/").unwrap_or(&path);
    let (below, after) = ([bare, b"/"].concat(), [bare, b"0"].concat());
    let (part, after_parts) = ([&path[..], &[0]].concat(), [&path[..], &[1]].concat());
    [path, below, after, part, after_parts]
}

impl Record {
    /// The files that a run over this scope decides about: all, or those at and below its paths.
    pub(crate) fn known_in(&self, scope: &Scope) -> Result<HashMap<PathBuf, Known>, Fault> {
        let read = || -> rusqlite::Result<HashMap<PathBuf, Known>> {
            let mut all = HashMap::new();
            let Some(only) = &scope.only else {
                let mut statement = self.db.prepare(&format!("{KNOWN} ORDER BY path"))?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    take(row, &mut all)?;
                }
                return Ok(all);
            };
            let mut statement = self.db.prepare_cached(&format!("{KNOWN} WHERE {UNDER} ORDER BY path"))?;
            for path in only {
                let mut rows = statement.query(bounds(path))?;
                while let Some(row) = rows.next()? {
                    take(row, &mut all)?;
                }
            }
            Ok(all)
        };
        read().map_err(|error| self.fault(error))
    }

    /// Whether a run over this scope left any text.
    pub(crate) fn holds_documents(&self, scope: &Scope) -> Result<bool, Fault> {
        Ok(self.known_in(scope)?.values().any(|known| known.fault.is_none()))
    }

    /// As [`Record::sweep`], but looks only at what went since this record was opened: the vectors of a large
    /// map aren't gone through for one changed file.
    pub(crate) fn sweep_loose(&mut self, seen: u64) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            transaction.execute("DELETE FROM gone WHERE generation <= ?1", [seen.cast_signed()])?;
            let models: Vec<String> =
                transaction.prepare_cached(MODELS)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            for model in models {
                transaction.execute(
                    "DELETE FROM vector WHERE model = ?1 AND key IN (SELECT key FROM loose)
                     AND NOT EXISTS (SELECT 1 FROM passage p WHERE p.key = vector.key)",
                    [model],
                )?;
            }
            transaction.execute("DELETE FROM loose", [])?;
            transaction.commit()
        };
        run().map_err(|error| fault(&dir, error))
    }

    pub(crate) fn serving(&self) -> Result<Option<String>, Fault> {
        let mut statement = self.db.prepare_cached("SELECT model FROM serving").map_err(|error| self.fault(error))?;
        let mut rows = statement.query_map([], |row| row.get(0)).map_err(|error| self.fault(error))?;
        rows.next().transpose().map_err(|error| self.fault(error))
    }

    pub(crate) fn has_vectors(&self, model: &str) -> Result<bool, Fault> {
        self.db
            .query_row("SELECT EXISTS (SELECT 1 FROM vector WHERE model = ?1)", [model], |row| row.get(0))
            .map_err(|error| self.fault(error))
    }

    /// From now on this model's vectors answer; those of others go.
    pub(crate) fn serve(&mut self, model: &str) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            transaction.execute("INSERT OR REPLACE INTO serving VALUES (1, ?1)", [model])?;
            transaction.execute("DELETE FROM vector WHERE model <> ?1", [model])?;
            transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'vectors'", [])?;
            transaction.commit()
        };
        run().map_err(|error| fault(&dir, error))
    }

    /// Has every file read again, though it hasn't changed. Vectors stay: equal words need none anew.
    pub(crate) fn forget_readings(&mut self) -> Result<(), Fault> {
        self.db.execute("UPDATE file SET reading = 0", []).map(drop).map_err(|error| self.fault(error))
    }
}
