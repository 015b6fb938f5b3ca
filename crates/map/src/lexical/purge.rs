//! What erasing and checking need of the word index.

use super::{Lexical, WRITER_BYTES, fault, only_for_owner};
use base::Fault;
use std::collections::BTreeSet;
use tantivy::collector::Count;
use tantivy::query::TermQuery;
use tantivy::schema::IndexRecordOption;
use tantivy::{IndexWriter, TantivyError, Term};

impl Lexical {
    /// Writes every segment that holds deleted passages anew, without them, and removes the old files.
    pub(crate) fn purge(&self) -> Result<(), Fault> {
        let wrong = |error: TantivyError| fault(&self.dir, error);
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

    /// Files whose content isn't what was written, by their checksums.
    pub(crate) fn damaged_files(&self) -> Result<u64, Fault> {
        Ok(self.index.validate_checksum().map_err(|error| fault(&self.dir, error))?.len() as u64)
    }
}
