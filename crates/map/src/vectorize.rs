//! Vectors for passages that have none: in a run that indexes, and in the background beside everything else.
//!
//! Words never wait for this. A model that fails costs vectors only, and another model takes over from the one
//! that serves when it has a vector for every passage, not earlier.

use crate::embedding::{self, Embedded};
use crate::index::{IndexStep, Stage, count};
use crate::map::{Embed, Map, locked};
use crate::record::{Key, Record, Unembedded};
use base::{Code, Fault};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const EMBED_TEXTS: usize = 32;
const EMBED_FETCH: usize = 2048;
/// Each writing down waits for the disk, so a model that is faster than it isn't held up by every batch; a kill costs
/// the vectors of so long at most, which are made again.
const KEEP_EVERY: Duration = Duration::from_millis(500);

/// One round of making vectors.
struct Embedding<'a> {
    map: &'a Map,
    embed: &'a dyn Embed,
    model: String,
    on: &'a mut dyn FnMut(IndexStep),
    done: u64,
    total: u64,
    made: u64,
    shortened: u64,
    refused: Vec<Fault>,
    /// Made and not written down yet.
    unkept: Vec<(Key, Option<Vec<f32>>)>,
    kept_at: Instant,
}

impl Map {
    /// Makes the vectors that are missing in files that changed after generation `since` (0: in all of them).
    /// Returns how many were made. Reading, searching and forgetting go on meanwhile.
    ///
    /// # Errors
    /// [`Code::Cancelled`] and faults of the disk. A failing model is a notice, and no error.
    pub fn embed(
        &self,
        embed: &dyn Embed,
        since: u64,
        on: &mut dyn FnMut(IndexStep),
        cancel: &AtomicBool,
    ) -> Result<u64, Fault> {
        let _one_at_a_time = locked(&self.embedding);
        let model = embed.model();
        let waiting = locked(&self.record).unembedded(&model, since)?;
        let mut round = Embedding {
            map: self,
            embed,
            model,
            on,
            done: 0,
            total: waiting.len() as u64,
            made: 0,
            shortened: 0,
            refused: Vec::new(),
            unkept: Vec::new(),
            kept_at: Instant::now(),
        };
        let outcome = round.all(&waiting, cancel);
        // What was made before a stop was made.
        round.keep()?;
        outcome?;
        round.tell();
        let (made, model) = (round.made, round.model);
        if self.serving()?.as_deref() != Some(model.as_str()) {
            let mut record = locked(&self.record);
            if record.unembedded_count(&model, 0)? == 0 && record.has_vectors(&model)? {
                record.serve(&model)?;
            }
        }
        Ok(made)
    }

    /// The model whose vectors answer, once a first one has been through all passages. Another takes its place
    /// when it is through them too.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn serving(&self) -> Result<Option<String>, Fault> {
        locked(&self.reading).serving()
    }

    /// Passages that wait for a vector of `model`. A walk through all keys, by a connection of its own: neither a search nor a
    /// save waits for it.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn without_vector(&self, model: &str) -> Result<u64, Fault> {
        Record::beside(&self.dir)?.unembedded_count(model, 0)
    }

    /// Counts changes of the record; what changed after it is what [`Map::embed`] may be asked for.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn generation(&self) -> Result<u64, Fault> {
        locked(&self.reading).generation()
    }
}

impl Embedding<'_> {
    fn all(&mut self, waiting: &[i64], cancel: &AtomicBool) -> Result<(), Fault> {
        for ids in waiting.chunks(EMBED_FETCH) {
            let mut fetched = locked(&self.map.record).to_embed(ids)?;
            // What went meanwhile needs none.
            self.done += (ids.len() - fetched.len()) as u64;
            // Texts of one length fill a batch without padding.
            fetched.sort_by_key(|waiting| waiting.text.len());
            for batch in fetched.chunks(EMBED_TEXTS) {
                if cancel.load(Ordering::Relaxed) {
                    let (done, total) = (self.done, self.total);
                    return Err(Fault::new(
                        Code::Cancelled,
                        format!("indexing was stopped after {done} of {total} vectors"),
                    )
                    .hint("all words are indexed; index again to make the other vectors"));
                }
                if !self.batch(batch)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// False when the model can't be run, so that going on would be in vain.
    fn batch(&mut self, batch: &[Unembedded]) -> Result<bool, Fault> {
        let texts: Vec<String> = batch.iter().map(embedding::text).collect();
        let outcomes = match embedding::batch(self.embed, &texts) {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                let left = self.total - self.made;
                (self.on)(IndexStep::Notice(format!(
                    "{left} passages have no vectors, because the embedding model failed ({fault}); they are found by their words"
                )));
                return Ok(false);
            }
        };
        for (waiting, outcome) in batch.iter().zip(outcomes) {
            let vector = match outcome {
                Embedded::Whole(vector) => Some(vector),
                Embedded::Beginning(vector) => {
                    self.shortened += 1;
                    Some(vector)
                }
                Embedded::Refused(fault) => {
                    self.refused.push(fault);
                    None
                }
            };
            self.made += u64::from(vector.is_some());
            self.unkept.push((waiting.key, vector));
        }
        if self.unkept.len() >= EMBED_FETCH || self.kept_at.elapsed() >= KEEP_EVERY {
            self.keep()?;
        }
        self.done += batch.len() as u64;
        (self.on)(IndexStep::Progress { stage: Stage::Embed, done: self.done, total: self.total, path: None });
        Ok(true)
    }

    /// Writes down what was made, in the order in which the record keeps it.
    fn keep(&mut self) -> Result<(), Fault> {
        if !self.unkept.is_empty() {
            self.unkept.sort_unstable_by_key(|(key, _)| *key);
            locked(&self.map.record).put_vectors(&self.model, &self.unkept)?;
            self.unkept.clear();
        }
        self.kept_at = Instant::now();
        Ok(())
    }

    fn tell(&mut self) {
        let model = &self.model;
        if self.shortened > 0 {
            (self.on)(IndexStep::Notice(format!(
                "{} longer than `{model}` can take; vectors were made from their beginnings",
                count(self.shortened, "passage is", "passages are")
            )));
        }
        if let Some(fault) = self.refused.first() {
            (self.on)(IndexStep::Notice(format!(
                "{} no vector, because `{model}` refuses them ({fault}); they are found by their words",
                count(self.refused.len() as u64, "passage has", "passages have")
            )));
        }
    }
}
