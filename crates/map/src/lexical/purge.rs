//! What erasing and checking need of the word index.

use super::{Fields, Lexical, WRITER_BYTES, fault, only_for_owner};
use crate::map::sound;
use base::{Code, Fault};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use tantivy::collector::Count;
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocSet, IndexWriter, SegmentReader, TERMINATED, TantivyError, Term};

impl Lexical {
    /// Writes every segment that holds deleted passages anew, without them, and removes the old files.
    pub(crate) fn purge(&self) -> Result<(), Fault> {
        let wrong = |error: TantivyError| fault(&self.dir, error);
        self.check()?;
        let mut writer: IndexWriter = self.index.writer_with_num_threads(1, WRITER_BYTES).map_err(wrong)?;
        for segment in self.index.searchable_segment_metas().map_err(wrong)? {
            if segment.num_deleted_docs() > 0 {
                writer.merge(&[segment.id()]).wait().map_err(wrong)?;
            }
        }
        // The reader lets go of the old segments, so that their files may go.
        self.reader.reload().map_err(wrong)?;
        writer.garbage_collect_files().wait().map_err(wrong)?;
        writer.wait_merging_threads().map_err(wrong)?;
        only_for_owner(&self.dir);
        Ok(())
    }

    /// Whether the dictionary of a field still holds this stem although no passage that can be found does.
    pub(crate) fn keeps_stem(&self, stem: &str) -> Result<bool, Fault> {
        let searcher = self.reader.searcher();
        let read = || -> tantivy::Result<bool> {
            for field in [self.fields.body, self.fields.title, self.fields.heading, self.fields.path] {
                let term = Term::from_field_text(field, stem);
                if searcher.doc_freq(&term)? > 0
                    && searcher.search(&TermQuery::new(term, IndexRecordOption::Basic), &Count)? == 0
                {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        read().map_err(|error| fault(&self.dir, error))
    }

    /// Passages that can be found.
    pub(crate) fn ids(&self) -> Result<BTreeSet<i64>, Fault> {
        let searcher = self.reader.searcher();
        let read = || -> tantivy::Result<BTreeSet<i64>> {
            let mut ids = BTreeSet::new();
            for segment in searcher.segment_readers() {
                let column = segment.fast_fields().u64("id")?;
                ids.extend(segment.doc_ids_alive().filter_map(|doc| column.first(doc)).map(u64::cast_signed));
            }
            Ok(ids)
        };
        read().map_err(|error| fault(&self.dir, error))
    }

    /// Before anything is written, once: a panic over damaged files in the thread of the library that commits (tantivy 0.27)
    /// ends the whole program, where one in a search can be caught.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.is_whole.load(Ordering::Acquire) {
            return Ok(());
        }
        let damaged = |why: String| Err(Fault::new(Code::MapDamaged, why));
        match self.damaged_files()? {
            0 => {}
            files => return damaged(format!("{files} files of the word index aren't what was written")),
        }
        // The list of segments has no checksum, so its numbers are held against the segments' own.
        for segment in self.reader.searcher().segment_readers() {
            let rows = segment.fast_fields().u64("id").map_err(|error| fault(&self.dir, error))?.num_docs();
            let (all, alive) = segment.alive_bitset().map_or((rows, rows), |alive| {
                (alive.bitset().max_value(), u32::try_from(alive.num_alive_docs()).unwrap_or(u32::MAX))
            });
            if [rows, all] != [segment.max_doc(); 2] || alive != segment.num_docs() {
                return damaged("the word index counts its passages wrongly".to_owned());
            }
            self.try_out(segment)?;
        }
        self.is_whole.store(true, Ordering::Release);
        Ok(())
    }

    /// Opens all that deleting and merging will open: a file that has another one's content has a right checksum. What panics over
    /// it does so here, where that is caught.
    fn try_out(&self, segment: &SegmentReader) -> Result<(), Fault> {
        let wrong = |error: TantivyError| fault(&self.dir, error);
        sound(|| {
            let Fields { file, title, heading, path, body, .. } = self.fields;
            for field in [file, title, heading, path, body] {
                let index = segment.inverted_index(field).map_err(wrong)?;
                let mut terms = index.terms().stream().map_err(|error| wrong(error.into()))?;
                while let Some((_, about)) = terms.next() {
                    // Of words only the first: there are many, and a file of another kind fails at once.
                    let mut rows = index
                        .read_postings_from_terminfo(about, IndexRecordOption::Basic)
                        .map_err(|error| wrong(error.into()))?;
                    let mut row = rows.doc();
                    while row != TERMINATED {
                        if row >= segment.max_doc() {
                            return Err(Fault::new(Code::MapDamaged, "the word index names passages that it hasn't"));
                        }
                        row = rows.advance();
                    }
                    if field != file {
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    /// Files whose content isn't what was written, by their checksums. The library's own check goes by a list of files that has
    /// no checksum, and looks at none when it is lost.
    pub(crate) fn damaged_files(&self) -> Result<u64, Fault> {
        let read = || -> tantivy::Result<u64> {
            let mut damaged = 0;
            for file in self.index.load_metas()?.list_segment_files() {
                if self.dir.join(&file).exists() && !self.index.directory().validate_checksum(&file)? {
                    damaged += 1;
                }
            }
            Ok(damaged)
        };
        read().map_err(|error| fault(&self.dir, error))
    }
}
