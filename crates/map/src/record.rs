//! The record: one SQLite file that holds all that was read. Everything else is derived from it.
//!
//! INVARIANT: each change is one transaction that raises the generation; what it touched carries that
//! generation. A derived index that knows generation g catches up by reading what is newer than g.

use crate::about::{About, Day};
use crate::chunk::Passage;
use crate::document::Format;
use crate::half;
use crate::part::{self, FilePart};
use crate::place::Spots;
use crate::source::{Encoding, Run};
use crate::walk::Stamp;
use base::{Bytes, Code, Fault, Place};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const FILE: &str = "map.db";
/// Layout of the tables. An older one is brought up to date on opening; a newer one is refused.
const LAYOUT: i64 = 1;
/// Raised when reading or cutting changes, so that files are read again though they haven't changed.
pub(crate) const READING: i64 = 5;
/// Of a file that has to be read again though nothing changed.
pub(crate) const UNREAD: i64 = 0;
const BUSY_MS: u64 = 10_000;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE,
    bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    hash BLOB NOT NULL,
    reading INTEGER NOT NULL,
    format TEXT NOT NULL,
    title TEXT,
    encoding INTEGER NOT NULL,
    fault TEXT,
    generation INTEGER NOT NULL
);
CREATE INDEX file_generation ON file (generation);
CREATE TABLE passage (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    heading TEXT NOT NULL,
    place INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    byte_start INTEGER NOT NULL,
    byte_end INTEGER NOT NULL,
    runs BLOB NOT NULL,
    key BLOB NOT NULL
);
CREATE INDEX passage_file ON passage (file);
CREATE INDEX passage_key ON passage (key);
CREATE TABLE gone (file INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE vector (model TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (model, key)) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0), ('vectors', 0);
";

/// What a filter asks about and a passage doesn't need: beside the tables, so that an older record gains it on opening.
const ABOUT: &str = "
CREATE TABLE IF NOT EXISTS about (
    file INTEGER PRIMARY KEY REFERENCES file (id) ON DELETE CASCADE,
    author TEXT,
    language TEXT,
    written INTEGER
);
";

/// Identity of a passage's words: equal words under equal headings need one embedding.
pub(crate) type Key = [u8; 16];
pub(crate) type Hash = [u8; 32];

/// What is known of a file from an earlier run.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: i64,
    pub(crate) stamp: Stamp,
    pub(crate) hash: Hash,
    pub(crate) reading: i64,
    /// Why it holds no passages.
    pub(crate) fault: Option<Fault>,
    /// The rows of its parts, if it was read in parts.
    pub(crate) parts: Vec<KnownPart>,
}

impl Known {
    /// Its row and those of its parts.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        std::iter::once(self.id).chain(self.parts.iter().map(|part| part.id))
    }
}

/// What is known of a part of a large file.
#[derive(Debug, Clone)]
pub(crate) struct KnownPart {
    pub(crate) id: i64,
    pub(crate) part: FilePart,
    pub(crate) hash: Hash,
    pub(crate) reading: i64,
}

impl Known {
    /// Whether its words could be recognised if the program for that were there.
    pub(crate) fn waits_for_recognition(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.code == Code::RecogniserMissing)
    }
}

/// A file as it goes into the record.
#[derive(Debug)]
pub(crate) struct FileRow {
    pub(crate) path: PathBuf,
    /// This row is of a part of that file. The row of a file in parts itself has no passages.
    pub(crate) part: Option<FilePart>,
    /// Not all of it was read: the next run goes on with it.
    pub(crate) unfinished: bool,
    pub(crate) stamp: Stamp,
    pub(crate) hash: Hash,
    pub(crate) format: Format,
    pub(crate) title: Option<String>,
    pub(crate) encoding: Encoding,
    pub(crate) fault: Option<Fault>,
    pub(crate) about: Box<About>,
}

/// A passage as it goes into the record and comes out of it.
#[derive(Debug, Clone)]
pub(crate) struct PassageRow {
    pub(crate) text: String,
    pub(crate) heading: String,
    pub(crate) place: Place,
    /// Relative to the passage's text and to its first byte in the file.
    pub(crate) runs: Vec<Run>,
    /// Relative to the passage's text.
    pub(crate) spots: Spots,
    pub(crate) key: Key,
}

/// One step from what the record holds to what the folder holds.
#[derive(Debug)]
pub(crate) enum Change {
    /// A new or changed file, whole; an older row of that path goes.
    Put(FileRow, Vec<PassageRow>),
    /// The same bytes under another path.
    Move {
        id: i64,
        path: PathBuf,
        stamp: Stamp,
    },
    /// The same bytes at the same path with another time.
    Touch {
        id: i64,
        stamp: Stamp,
    },
    Remove {
        id: i64,
    },
}

/// A passage with its file, as search wants it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) path: PathBuf,
    pub(crate) part: Option<FilePart>,
    pub(crate) stamp: Stamp,
    pub(crate) hash: Hash,
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    pub(crate) title: Option<String>,
    pub(crate) about: About,
    pub(crate) passage: PassageRow,
}

/// What a map holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Files that gave text.
    pub documents: u64,
    pub passages: u64,
    /// Passages with a vector of the model that made most of them.
    pub embedded: u64,
    /// Files that were looked at and gave none.
    pub skipped: u64,
}

/// Takes a passage's id and a way to its vector, so that a vector that nobody wants isn't unpacked.
pub(crate) type OnVector<'a> = dyn FnMut(i64, &dyn Fn() -> Vec<f32>) -> Result<(), Fault> + 'a;

#[derive(Debug)]
pub(crate) struct Record {
    db: Connection,
    dir: PathBuf,
}

impl Record {
    /// Opens or makes the record in `dir`, which must exist.
    ///
    /// # Errors
    /// [`Code::MapDamaged`] when the file isn't a record or a newer release made it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(FILE);
        owned_file(&path).map_err(|error| Fault::io("open", &path, &error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(|error| fault(dir, error))?;
        let mut record = Self { db, dir: dir.to_path_buf() };
        record.prepare().map_err(|error| fault(dir, error))?;
        let layout: i64 = record.get("PRAGMA user_version")?;
        if layout > LAYOUT {
            return Err(damaged(dir, format!("a newer Freehold wrote it (layout {layout}, this one knows {LAYOUT})")));
        }
        if layout == 0 {
            let dir = record.dir.clone();
            record.create().map_err(|error| fault(&dir, error))?;
        }
        record.db.execute_batch(scope::BESIDE).map_err(|error| fault(dir, error))?;
        record.db.execute_batch(ABOUT).map_err(|error| fault(dir, error))?;
        record.generation()?;
        Ok(record)
    }

    /// Another connection to a record that is there, for a long look. It makes nothing: the map may be removed meanwhile.
    pub(crate) fn beside(dir: &Path) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(dir.join(FILE), flags).map_err(|error| fault(dir, error))?;
        let record = Self { db, dir: dir.to_path_buf() };
        record.prepare().map_err(|error| fault(dir, error))?;
        Ok(record)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.db.busy_timeout(Duration::from_millis(BUSY_MS))?;
        // What is removed is overwritten, so that an erased document's words are gone from the file.
        self.db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON; PRAGMA cache_size = -4096;",
        )
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
        transaction.commit()
    }

    fn get(&self, sql: &str) -> Result<i64, Fault> {
        self.db.query_row(sql, [], |row| row.get(0)).map_err(|error| self.fault(error))
    }

    pub(crate) fn fault(&self, error: rusqlite::Error) -> Fault {
        fault(&self.dir, error)
    }

    pub(crate) fn generation(&self) -> Result<u64, Fault> {
        Ok(self.get("SELECT value FROM meta WHERE key = 'generation'")?.cast_unsigned())
    }

    /// Counts changes to the vectors of any model.
    pub(crate) fn vector_changes(&self) -> Result<u64, Fault> {
        Ok(self.get("SELECT value FROM meta WHERE key = 'vectors'")?.cast_unsigned())
    }

    /// Makes all changes in one transaction, or none.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'", [])?;
            let generation: i64 =
                transaction.query_row("SELECT value FROM meta WHERE key = 'generation'", [], |row| row.get(0))?;
            for change in changes {
                match change {
                    Change::Put(file, passages) => put(&transaction, file, passages, generation)?,
                    Change::Move { id, path, stamp } => {
                        transaction.execute(
                            "UPDATE file SET path = ?2, bytes = ?3, modified_ns = ?4, generation = ?5 WHERE id = ?1",
                            params![id, path_bytes(path), stamp.bytes.cast_signed(), stamp.modified_ns, generation],
                        )?;
                    }
                    Change::Touch { id, stamp } => {
                        transaction.execute(
                            "UPDATE file SET bytes = ?2, modified_ns = ?3 WHERE id = ?1",
                            params![id, stamp.bytes.cast_signed(), stamp.modified_ns],
                        )?;
                    }
                    Change::Remove { id } => remove(&transaction, *id, generation)?,
                }
            }
            transaction.commit()
        };
        run().map_err(|error| fault(&dir, error))
    }

    /// Files that changed after a generation: at most `limit` whose ids follow `after`.
    pub(crate) fn changed(&self, generation: u64, after: i64, limit: u32) -> Result<Vec<ChangedFile>, Fault> {
        let read = || -> rusqlite::Result<Vec<ChangedFile>> {
            let mut files = self.db.prepare_cached(
                "SELECT id, path, title FROM file WHERE generation > ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            )?;
            let rows = files.query_map(params![generation.cast_signed(), after, limit], |row| {
                Ok(ChangedFile { id: row.get(0)?, path: path_from(part::parse(row.get(1)?).0), title: row.get(2)? })
            })?;
            rows.collect()
        };
        read().map_err(|error| self.fault(error))
    }

    /// Hands over a file's passages one by one (id, words, headings), so that no file is in memory as a whole.
    pub(crate) fn each_passage(
        &self,
        file: i64,
        on: &mut dyn FnMut(i64, &str, &str) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let wrong = |error| self.fault(error);
        let mut passages = self
            .db
            .prepare_cached("SELECT id, text, heading FROM passage WHERE file = ?1 ORDER BY id")
            .map_err(wrong)?;
        let mut rows = passages.query([file]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            let text = |at| row.get_ref(at).and_then(|value| Ok(value.as_str()?));
            on(row.get(0).map_err(wrong)?, text(1).map_err(wrong)?, text(2).map_err(wrong)?)?;
        }
        Ok(())
    }

    /// Files that went after a generation.
    pub(crate) fn gone(&self, generation: u64) -> Result<Vec<i64>, Fault> {
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.db.prepare_cached("SELECT file FROM gone WHERE generation > ?1")?;
            statement.query_map([generation.cast_signed()], |row| row.get(0))?.collect()
        };
        read().map_err(|error| self.fault(error))
    }

    pub(crate) fn passages(&self, ids: &[i64]) -> Result<HashMap<i64, Stored>, Fault> {
        let read = || -> rusqlite::Result<HashMap<i64, Stored>> {
            let mut statement = self.db.prepare_cached(
                "SELECT p.id, f.path, f.bytes, f.modified_ns, f.hash, f.format, f.encoding, f.title,
                        p.text, p.heading, p.place, p.first, p.last, p.byte_start, p.byte_end, p.runs, p.key,
                        a.author, a.language, a.written
                 FROM passage p JOIN file f ON f.id = p.file LEFT JOIN about a ON a.file = f.id WHERE p.id = ?1",
            )?;
            let mut found = HashMap::new();
            for id in ids {
                if let Some(stored) = statement.query_row([id], stored).optional()? {
                    found.insert(*id, stored);
                }
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(error))
    }

    /// Ids of passages without a vector of `model` in files that changed after `since`, each key once. One walk: whoever
    /// asks again after each few of a million passages walks a million times a few hundred.
    pub(crate) fn unembedded(&self, model: &str, since: u64) -> Result<Vec<i64>, Fault> {
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.db.prepare_cached(&waiting("MIN(p.id)", since, "GROUP BY p.key"))?;
            let mut ids: Vec<i64> = statement
                .query_map(params![model, since.cast_signed()], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            ids.sort_unstable();
            Ok(ids)
        };
        read().map_err(|error| self.fault(error))
    }

    pub(crate) fn unembedded_count(&self, model: &str, since: u64) -> Result<u64, Fault> {
        self.db
            .query_row(&waiting("COUNT(DISTINCT p.key)", since, ""), params![model, since.cast_signed()], |row| {
                row.get::<_, i64>(0)
            })
            .map(i64::cast_unsigned)
            .map_err(|error| self.fault(error))
    }

    /// What a vector is made from. Passages that went meanwhile are left out.
    pub(crate) fn to_embed(&self, ids: &[i64]) -> Result<Vec<Unembedded>, Fault> {
        let read = || -> rusqlite::Result<Vec<Unembedded>> {
            let mut statement = self.db.prepare_cached(
                "SELECT p.key, f.title, f.path, p.heading, p.text FROM passage p JOIN file f ON f.id = p.file WHERE p.id = ?1",
            )?;
            let one = |id: &i64| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok(Unembedded {
                        key: row.get(0)?,
                        title: row.get(1)?,
                        path: path_from(part::parse(row.get(2)?).0),
                        heading: row.get(3)?,
                        text: row.get(4)?,
                    })
                };
                statement.query_row([id], row).optional().transpose()
            };
            ids.iter().filter_map(one).collect()
        };
        read().map_err(|error| self.fault(error))
    }

    /// Keeps vectors. `None`: the model refuses these words, and isn't asked about them again.
    pub(crate) fn put_vectors(&mut self, model: &str, vectors: &[(Key, Option<Vec<f32>>)]) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            {
                // What was forgotten while the model worked on it mustn't come back.
                let mut insert = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO vector SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM passage WHERE key = ?2)",
                )?;
                for (key, vector) in vectors {
                    insert.execute(params![model, key, half::pack(vector.as_deref().unwrap_or_default())])?;
                }
            }
            transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'vectors'", [])?;
            transaction.commit()
        };
        run().map_err(|error| fault(&dir, error))
    }

    /// Hands over each passage's id and a way to its vector of `model`, in the order of ids.
    pub(crate) fn each_vector(&self, model: &str, on: &mut OnVector<'_>) -> Result<(), Fault> {
        let wrong = |error| self.fault(error);
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT p.id, v.value FROM passage p JOIN vector v ON v.model = ?1 AND v.key = p.key
                 WHERE length(v.value) > 0 ORDER BY p.id",
            )
            .map_err(wrong)?;
        let mut rows = statement.query([model]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            let id = row.get(0).map_err(wrong)?;
            let packed = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(wrong)?;
            on(id, &|| half::unpack(packed))?;
        }
        Ok(())
    }

    /// Vectors of single passages.
    pub(crate) fn vectors(&self, model: &str, ids: &[i64]) -> Result<HashMap<i64, Vec<f32>>, Fault> {
        let read = || -> rusqlite::Result<HashMap<i64, Vec<f32>>> {
            let mut statement = self.db.prepare_cached(
                "SELECT v.value FROM passage p JOIN vector v ON v.model = ?1 AND v.key = p.key
                 WHERE p.id = ?2 AND length(v.value) > 0",
            )?;
            let mut found = HashMap::new();
            for id in ids {
                let vector: Option<Vec<u8>> = statement.query_row(params![model, id], |row| row.get(0)).optional()?;
                found.extend(vector.map(|bytes| (*id, half::unpack(&bytes))));
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(error))
    }

    /// Drops vectors of words that no passage holds any more, and tombstones that every index has seen.
    pub(crate) fn sweep(&mut self, seen: u64) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            transaction.execute("DELETE FROM gone WHERE generation <= ?1", [seen.cast_signed()])?;
            transaction.execute(
                "DELETE FROM vector WHERE NOT EXISTS (SELECT 1 FROM passage p WHERE p.key = vector.key)",
                [],
            )?;
            transaction.commit()?;
            // Readers may hold the log open: what stays in it now goes next time.
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        run().map_err(|error| fault(&dir, error))
    }

    pub(crate) fn passage_count(&self) -> Result<u64, Fault> {
        Ok(self.get("SELECT COUNT(*) FROM passage")?.cast_unsigned())
    }

    pub(crate) fn summary(&self) -> Result<Summary, Fault> {
        let count = |sql: &str| self.get(sql).map(i64::cast_unsigned);
        Ok(Summary {
            documents: count("SELECT COUNT(*) FROM file WHERE fault IS NULL AND instr(path, x'00') = 0")?,
            passages: self.passage_count()?,
            embedded: count(
                "SELECT COALESCE(MAX(n), 0) FROM (SELECT COUNT(*) AS n FROM vector v JOIN passage p ON p.key = v.key
                 WHERE length(v.value) > 0 GROUP BY v.model)",
            )?,
            skipped: count("SELECT COUNT(*) FROM file WHERE fault IS NOT NULL AND instr(path, x'00') = 0")?,
        })
    }

    /// Bounds the file's size in pages, as a full disk does.
    #[cfg(test)]
    pub(crate) fn bound_pages(&self, pages: u32) {
        self.db.pragma_update(None, "max_page_count", pages).expect("it is set");
    }
}

/// A file whose passages an index has to take anew.
#[derive(Debug)]
pub(crate) struct ChangedFile {
    pub(crate) id: i64,
    pub(crate) path: PathBuf,
    pub(crate) title: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Unembedded {
    pub(crate) key: Key,
    pub(crate) title: Option<String>,
    pub(crate) path: PathBuf,
    pub(crate) heading: String,
    pub(crate) text: String,
}

fn put(
    transaction: &Transaction<'_>,
    file: &FileRow,
    passages: &[PassageRow],
    generation: i64,
) -> rusqlite::Result<()> {
    let path = path_bytes(&file.path);
    let path = match file.part {
        Some(own) => part::key(path, own),
        None => path,
    };
    let old: Option<i64> =
        transaction.query_row("SELECT id FROM file WHERE path = ?1", [&path], |row| row.get(0)).optional()?;
    if let Some(old) = old {
        remove(transaction, old, generation)?;
    }
    let fault = file.fault.as_ref().and_then(|fault| serde_json::to_string(fault).ok());
    transaction.prepare_cached("INSERT INTO file VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute(
        params![
            path,
            file.stamp.bytes.cast_signed(),
            file.stamp.modified_ns,
            file.hash,
            if file.unfinished { 0 } else { READING },
            file.format.as_str(),
            file.title,
            encoding_number(file.encoding),
            fault,
            generation
        ],
    )?;
    let id = transaction.last_insert_rowid();
    let About { author, language, written } = &*file.about;
    transaction.prepare_cached("INSERT INTO about VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        id,
        author,
        language,
        written.map(|day| day.0)
    ])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO passage VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for passage in passages {
        let (kind, first, last, start, end) = match &passage.place {
            Place::Lines { first, last, byte_start, byte_end } => (0, *first, *last, *byte_start, *byte_end),
            Place::Page { first, last, .. } => (1, *first, *last, 0, 0),
            Place::Paragraph { first, last } => (2, *first, *last, 0, 0),
            Place::Slide { first, last } => (3, *first, *last, 0, 0),
            Place::Chapter { first, last } => (4, *first, *last, 0, 0),
            Place::Cells { byte_start, byte_end, .. } => {
                (CELLS, 0, u32::from(byte_start.is_some()), byte_start.unwrap_or(0), byte_end.unwrap_or(0))
            }
        };
        let (start, end) = (start.cast_signed(), end.cast_signed());
        let runs = postcard::to_stdvec(&(&passage.runs, &passage.spots))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute(params![id, passage.text, passage.heading, kind, first, last, start, end, runs, passage.key])?;
    }
    Ok(())
}

/// Asks for something of the passages without a vector of model ?1 in files that changed after ?2. All files: keys
/// come in order from their own index, and no passage is looked at. Some files: theirs alone are.
fn waiting(what: &str, since: u64, order: &str) -> String {
    let from = match since {
        0 => "passage p WHERE ?2 = 0",
        _ => "file f CROSS JOIN passage p ON p.file = f.id WHERE f.generation > ?2",
    };
    format!(
        "SELECT {what} FROM {from} AND NOT EXISTS (SELECT 1 FROM vector v WHERE v.model = ?1 AND v.key = p.key) {order}"
    )
}

fn remove(transaction: &Transaction<'_>, id: i64, generation: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("INSERT OR IGNORE INTO loose SELECT key FROM passage WHERE file = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM file WHERE id = ?1")?.execute([id])?;
    transaction.prepare_cached("INSERT OR REPLACE INTO gone VALUES (?1, ?2)")?.execute([id, generation])?;
    Ok(())
}

fn stamp(row: &Row<'_>, at: usize) -> rusqlite::Result<Stamp> {
    Ok(Stamp { bytes: row.get::<_, i64>(at)?.cast_unsigned(), modified_ns: row.get(at + 1)? })
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let wrong = |at: usize| rusqlite::Error::InvalidColumnType(at, "value".into(), rusqlite::types::Type::Null);
    let (first, last): (u32, u32) = (row.get(11)?, row.get(12)?);
    let (byte_start, byte_end) = (row.get::<_, i64>(13)?.cast_unsigned(), row.get::<_, i64>(14)?.cast_unsigned());
    let text: String = row.get(8)?;
    let (runs, spots) = trail(row.get_ref(15)?.as_blob()?).ok_or_else(|| wrong(15))?;
    let whole = 0..text.len();
    let place = match row.get::<_, i64>(10)? {
        0 => Place::Lines { first, last, byte_start, byte_end },
        1 => spots.pages(&whole).unwrap_or(Place::Page { first, last, boxes: Vec::new() }),
        2 => Place::Paragraph { first, last },
        3 => Place::Slide { first, last },
        4 => Place::Chapter { first, last },
        CELLS => {
            let bytes = (last > 0).then_some((byte_start, byte_end));
            spots.cells(&whole, bytes).ok_or_else(|| wrong(15))?
        }
        _ => return Err(wrong(10)),
    };
    let (path, part) = part::parse(row.get(1)?);
    Ok(Stored {
        id: row.get(0)?,
        path: path_from(path),
        part,
        stamp: stamp(row, 2)?,
        hash: row.get(4)?,
        format: Format::parse(&row.get::<_, String>(5)?).ok_or_else(|| wrong(5))?,
        encoding: encoding_from(row.get(6)?).ok_or_else(|| wrong(6))?,
        title: row.get(7)?,
        about: About { author: row.get(17)?, language: row.get(18)?, written: row.get::<_, Option<i64>>(19)?.map(Day) },
        passage: PassageRow { text, heading: row.get(9)?, place, runs, spots, key: row.get(16)? },
    })
}

/// The number of tables among the kinds of places.
const CELLS: i64 = 5;

/// Runs and spots; a record of an earlier reading holds runs alone.
fn trail(bytes: &[u8]) -> Option<(Vec<Run>, Spots)> {
    let (runs, rest) = postcard::take_from_bytes(bytes).ok()?;
    let spots = if rest.is_empty() { Spots::default() } else { postcard::from_bytes(rest).ok()? };
    Some((runs, spots))
}

fn encoding_number(encoding: Encoding) -> i64 {
    match encoding {
        Encoding::Utf8 => 0,
        Encoding::Windows1252 => 1,
        Encoding::Utf16Le => 2,
        Encoding::Utf16Be => 3,
    }
}

fn encoding_from(number: i64) -> Option<Encoding> {
    [Encoding::Utf8, Encoding::Windows1252, Encoding::Utf16Le, Encoding::Utf16Be]
        .get(usize::try_from(number).ok()?)
        .copied()
}

/// The words that two passages must share to share a vector.
pub(crate) fn key(title: Option<&str>, passage: &Passage, text: &str) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in [title.unwrap_or_default(), &passage.heading.join(" > "), text] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(unix)]
fn path_from(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
fn path_from(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes an empty file that only its owner can read, if there is none. SQLite's other files take its mode.
fn owned_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn damaged(dir: &Path, cause: impl std::fmt::Display) -> Fault {
    let dir = dir.display();
    Fault::new(Code::MapDamaged, format!("the map in `{dir}` can't be used")).cause(cause).hint(format!(
        "`freehold stop`, then `mv '{dir}' '{dir}.damaged'`, then `freehold index FOLDER` makes it anew from your files"
    ))
}

fn fault(dir: &Path, error: rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode;
    let path = dir.join(FILE);
    match &error {
        rusqlite::Error::SqliteFailure(inner, _) => match inner.code {
            ErrorCode::DiskFull => Fault::new(Code::DiskFull, format!("no space left to write `{}`", path.display()))
                .hint("free some space and index again; what was indexed before is kept")
                .cause(error),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Fault::new(Code::Busy, format!("`{}` has been in use for {} s", path.display(), BUSY_MS / 1000))
                    .hint("another Freehold is writing to it; try again when it is done")
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                Fault::new(Code::FileUnwritable, format!("not allowed to write `{}`", path.display()))
                    .hint(format!("check who owns it: `ls -l {}`", path.display()))
            }
            ErrorCode::CannotOpen => Fault::new(Code::FileUnreadable, format!("cannot open `{}`", path.display()))
                .hint(format!("check who owns it: `ls -l {}`", path.display()))
                .cause(error),
            ErrorCode::SystemIoFailure => {
                Fault::new(Code::FileUnwritable, format!("cannot read or write `{}`", path.display()))
                    .hint(format!(
                        "the disk may be failing or full ({} are used by it)",
                        Bytes(std::fs::metadata(&path).map_or(0, |meta| meta.len()))
                    ))
                    .cause(error)
            }
            _ => damaged(dir, error),
        },
        // A table that isn't there, a value of another type: the file isn't what this program wrote.
        _ => damaged(dir, error),
    }
}

mod check;
mod scope;
mod set;

#[cfg(test)]
pub(crate) mod tests;
