//! The word index: BM25 over passages, their headings, titles and paths. Derived from the record.
//!
//! Each commit carries the record's generation that it contains. It can be deleted at any time.

mod purge;
mod rank;

pub use rank::Part;

use crate::map::sound;
use crate::record::Record;
use crate::words::{self, ANALYZER, Term, Terms};
use base::{Code, Fault};
use roaring::RoaringBitmap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tantivy::directory::MmapDirectory;
use tantivy::query::{BoostQuery, EnableScoring, PhraseQuery, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError};

const FOLDER: &str = "lexical";
/// The writer's buffer; below 15 MB the library refuses.
const WRITER_BYTES: usize = 32 << 20;
const FILES_PER_STEP: u32 = 64;
/// An id that the record never gives.
const NO_FILE: i64 = -1;
/// Commit after this many passages, so that a long first run becomes searchable on the way.
const PASSAGES_PER_COMMIT: usize = 50_000;
/// Folders above a file whose names count as words of its path.
const PATH_PARTS: usize = 3;

/// How much a word counts by where it stands. Tuned on the development collections (docs/decisions/0007-map.md).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boosts {
    pub title: f32,
    pub heading: f32,
    pub path: f32,
    pub body: f32,
    /// Share of its weight that a common word keeps.
    pub light: f32,
}

impl Default for Boosts {
    fn default() -> Self {
        Self { title: 0.3, heading: 0.4, path: 0.3, body: 1.0, light: 0.5 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    id: Field,
    file: Field,
    title: Field,
    heading: Field,
    path: Field,
    body: Field,
}

pub(crate) struct Lexical {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    dir: PathBuf,
    /// What was on disk when this was opened is what was written.
    is_whole: AtomicBool,
    /// Why the index on disk was thrown away, when it was.
    pub(crate) replaced: Option<String>,
}

impl std::fmt::Debug for Lexical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lexical").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let text = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs),
    );
    // Only here are phrases looked for.
    let body = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqsAndPositions),
    );
    let fields = Fields {
        id: schema.add_u64_field("id", FAST),
        file: schema.add_u64_field("file", INDEXED),
        title: schema.add_text_field("title", text.clone()),
        heading: schema.add_text_field("heading", text.clone()),
        path: schema.add_text_field("path", text),
        body: schema.add_text_field("body", body),
    };
    (schema.build(), fields)
}

impl Lexical {
    /// Opens the index under a map's folder. One that can't be opened is replaced by an empty one.
    pub(crate) fn open(map: &Path) -> Result<Self, Fault> {
        let dir = map.join(FOLDER);
        let opened = sound(|| Self::try_open(&dir).map_err(|error| Fault::new(Code::MapDamaged, error.to_string())));
        opened.or_else(|fault| Self::replace(&dir, &fault.message))
    }

    fn replace(dir: &Path, why: &str) -> Result<Self, Fault> {
        if dir.exists() {
            std::fs::remove_dir_all(dir).map_err(|error| Fault::io("remove", dir, &error))?;
        }
        let mut lexical = Self::try_open(dir).map_err(|error| fault(dir, error))?;
        lexical.replaced = Some(why.to_owned());
        Ok(lexical)
    }

    /// Throws the index on disk away and starts an empty one.
    pub(crate) fn renew(map: &Path, why: &str) -> Result<Self, Fault> {
        Self::replace(&map.join(FOLDER), why)
    }

    fn try_open(dir: &Path) -> Result<Self, TantivyError> {
        make_folder(dir)?;
        let (schema, fields) = schema();
        let index = Index::open_or_create(MmapDirectory::open(dir)?, schema)?;
        index.tokenizers().register(ANALYZER, words::analyzer());
        // Manual: no thread watches the folder while nothing happens.
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { index, reader, fields, dir: dir.to_path_buf(), is_whole: AtomicBool::new(false), replaced: None })
    }

    /// The record's generation that the last commit contains; 0 when there was none.
    pub(crate) fn generation(&self) -> Result<u64, Fault> {
        let metas = self.index.load_metas().map_err(|error| fault(&self.dir, error))?;
        Ok(metas.payload.and_then(|payload| payload.parse().ok()).unwrap_or(0))
    }

    /// Takes over what the record has that this index hasn't. Repeating it changes nothing.
    pub(crate) fn catch_up(&self, record: &Record) -> Result<u64, Fault> {
        let (has, wanted) = (self.generation()?, record.generation()?);
        if has > wanted {
            return Err(Fault::new(
                Code::MapDamaged,
                format!("the word index is of generation {has}, the record of {wanted}"),
            ));
        }
        if has < wanted {
            self.replay(record, has, wanted)?;
            self.reader.reload().map_err(|error| fault(&self.dir, error))?;
        }
        Ok(wanted)
    }

    fn replay(&self, record: &Record, has: u64, wanted: u64) -> Result<(), Fault> {
        let wrong = |error: TantivyError| fault(&self.dir, error);
        self.check()?;
        let mut writer: IndexWriter = self.index.writer_with_num_threads(1, WRITER_BYTES).map_err(wrong)?;
        // A kill may have left a file of the commit that it broke off, under the very name of the next one's.
        writer.garbage_collect_files().wait().map_err(wrong)?;
        let delete = |writer: &IndexWriter, file: i64| {
            writer.delete_term(tantivy::Term::from_field_u64(self.fields.file, file.cast_unsigned()));
        };
        // The first operation of a writer has the stamp of the commit before it, and a merge that begins before the next
        // commit takes it for done in segments that have deletions of that commit (tantivy 0.27): this one may get lost.
        delete(&writer, NO_FILE);
        for file in record.gone(has)? {
            delete(&writer, file);
        }
        let (mut after, mut uncommitted) = (0, 0);
        loop {
            let files = record.changed(has, after, FILES_PER_STEP)?;
            let Some(last) = files.last() else { break };
            after = last.id;
            for file in &files {
                delete(&writer, file.id);
                let (path, title) = (path_words(&file.path), file.title.clone().unwrap_or_default());
                record.each_passage(file.id, &mut |id, text, heading| {
                    let mut document = TantivyDocument::default();
                    document.add_u64(self.fields.id, id.cast_unsigned());
                    document.add_u64(self.fields.file, file.id.cast_unsigned());
                    document.add_text(self.fields.title, &title);
                    document.add_text(self.fields.heading, heading);
                    document.add_text(self.fields.path, &path);
                    document.add_text(self.fields.body, text);
                    writer.add_document(document).map_err(wrong)?;
                    uncommitted += 1;
                    Ok(())
                })?;
                if uncommitted >= PASSAGES_PER_COMMIT {
                    // Not all of it yet: the generation stays, so that a crash from here replays the rest.
                    let mut commit = writer.prepare_commit().map_err(wrong)?;
                    commit.set_payload(&has.to_string());
                    commit.commit().map_err(wrong)?;
                    uncommitted = 0;
                }
            }
        }
        let mut commit = writer.prepare_commit().map_err(wrong)?;
        commit.set_payload(&wanted.to_string());
        commit.commit().map_err(wrong)?;
        writer.wait_merging_threads().map_err(wrong)?;
        only_for_owner(&self.dir);
        Ok(())
    }

    /// Takes up what another handle of this process committed.
    pub(crate) fn refresh(&self) -> Result<(), Fault> {
        self.reader.reload().map_err(|error| fault(&self.dir, error))
    }

    /// The question's content words with their weights in this map.
    pub(crate) fn terms(&self, question: &str) -> Result<Terms, Fault> {
        let searcher = self.reader.searcher();
        let all = searcher.num_docs();
        let mut terms = Vec::new();
        for word in words::content_words(question).into_iter().take(TERMS_MAX) {
            let mut passages = 0;
            for field in [self.fields.body, self.fields.title, self.fields.heading] {
                let term = tantivy::Term::from_field_text(field, &word.stem);
                passages = passages.max(searcher.doc_freq(&term).map_err(|error| fault(&self.dir, error))?);
            }
            let idf = words::idf(passages, all);
            terms.push(Term { word: question[word.span].to_owned(), stem: word.stem, passages, idf });
        }
        Ok(terms.into())
    }

    fn clauses(&self, terms: &[Term], boosts: Boosts) -> Vec<(usize, &'static str, Box<dyn Query>)> {
        let fields = [
            ("body", self.fields.body, boosts.body),
            ("title", self.fields.title, boosts.title),
            ("heading", self.fields.heading, boosts.heading),
            ("path", self.fields.path, boosts.path),
        ];
        let weighty = terms.iter().any(|term| !words::is_light_word(&term.stem));
        let mut clauses: Vec<(usize, &'static str, Box<dyn Query>)> = Vec::new();
        for (at, term) in terms.iter().enumerate() {
            let share = if weighty && words::is_light_word(&term.stem) { boosts.light } else { 1.0 };
            for (name, field, boost) in fields.into_iter().filter(|(_, _, boost)| *boost > 0.0) {
                let term = tantivy::Term::from_field_text(field, &term.stem);
                let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                clauses.push((at, name, Box::new(BoostQuery::new(query, boost * share))));
            }
        }
        clauses
    }

    /// All passages that hold these words side by side.
    pub(crate) fn holding(&self, phrase: &str) -> Result<RoaringBitmap, Fault> {
        let find = || -> tantivy::Result<RoaringBitmap> {
            let terms: Vec<(usize, tantivy::Term)> = words::words(phrase)
                .into_iter()
                .enumerate()
                .map(|(at, word)| (at, tantivy::Term::from_field_text(self.fields.body, &word.stem)))
                .collect();
            let query: Box<dyn Query> = match terms.as_slice() {
                [] => return Ok(RoaringBitmap::new()),
                [(_, term)] => Box::new(TermQuery::new(term.clone(), IndexRecordOption::Basic)),
                _ => Box::new(PhraseQuery::new_with_offset(terms)),
            };
            let searcher = self.reader.searcher();
            let weight = query.weight(EnableScoring::disabled_from_searcher(&searcher))?;
            let mut found = RoaringBitmap::new();
            for reader in searcher.segment_readers() {
                let (ids, alive) = (reader.fast_fields().u64("id")?, reader.alive_bitset());
                weight.for_each_no_score(reader, &mut |docs| {
                    let living = docs.iter().filter(|doc| alive.is_none_or(|alive| alive.is_alive(**doc)));
                    found.extend(living.filter_map(|doc| u32::try_from(ids.first(*doc)?).ok()));
                })?;
            }
            Ok(found)
        };
        find().map_err(|error| fault(&self.dir, error))
    }
}

/// A question of more content words than this is a pasted text; its rarest words are within it anyway.
const TERMS_MAX: usize = 64;

/// The file's name and the names of the nearest folders, as words.
fn path_words(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(PATH_PARTS).map(|part| part.to_string_lossy()).collect();
    parts.join(" ").replace('_', " ")
}

fn make_folder(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    only_for_owner_at(dir, 0o700)
}

/// The folder is closed to others already; this keeps copies of its files closed too.
fn only_for_owner(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // A file that a merge has just removed needs no mode.
        let _ = only_for_owner_at(&entry.path(), 0o600);
    }
}

#[cfg(unix)]
fn only_for_owner_at(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn only_for_owner_at(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

fn fault(dir: &Path, error: TantivyError) -> Fault {
    if let TantivyError::IoError(inner) = &error {
        // Errors without a number of the system's are the library's own: bytes that it can't make sense of.
        let is_of_disk = inner.raw_os_error().is_some() || inner.kind() == ErrorKind::StorageFull;
        if is_of_disk && inner.kind() != ErrorKind::NotFound {
            return Fault::io("write", dir, inner);
        }
    }
    Fault::new(Code::MapDamaged, format!("the word index in `{}` can't be used", dir.display()))
        .cause(error)
        .hint("search again: it is rebuilt from the record")
}
