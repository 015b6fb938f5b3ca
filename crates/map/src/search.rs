//! From a person's words to passages: two arms, one ranking.

use crate::document::Format;
use crate::embedding::{self, Embedded};
use crate::fuse::{Fusion, fuse};
use crate::index::stem;
use crate::lexical::{Boosts, Lexical};
use crate::map::{Embed, Map, locked};
use crate::place::Spots;
use crate::record::{Hash, Stored};
use crate::source::{Encoding, Run};
use crate::vector::cosine;
use crate::walk::Stamp;
use crate::words::{self, Term, Terms};
use base::{Code, Fault, Place};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What a person looks for. Any text is a valid query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub text: String,
    /// Most hits to return.
    pub limit: usize,
}

/// How to search; the default is what the development collections favour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    pub boosts: Boosts,
    pub fusion: Fusion,
    /// Candidates that each arm gives.
    pub candidates: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { boosts: Boosts::default(), fusion: Fusion::default(), candidates: 100 }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// `lexical+vector`, or `lexical` and why.
    pub arms: String,
    pub took_us: u64,
    pub notices: Vec<String>,
}

/// One passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub passage: i64,
    pub path: PathBuf,
    pub place: Place,
    /// The document's title, or its file's name.
    pub title: String,
    /// Headings above it, ` > ` between them.
    pub heading: String,
    /// The passage as it stands in the document, without markup.
    pub text: String,
    /// 0 to 1: within one search, or what speaks for it when the hits of several maps were merged.
    pub score: f32,
    /// BM25, when this arm found it.
    pub lexical: Option<f32>,
    /// Cosine to the question, when there is a vector.
    pub dense: Option<f32>,
    /// Byte ranges within `text` that match the query's words.
    pub highlights: Vec<(u32, u32)>,
    /// The query's words; the same for all hits of one search.
    pub terms: Terms,
    pub source: Source,
}

/// What a citation is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub format: Format,
    pub encoding: Encoding,
    pub stamp: Stamp,
    /// BLAKE3 of the file as it was indexed.
    pub hash: Hash,
    /// Where the passage's text stands in the file, relative to the place's first byte; empty for pages and paragraphs.
    pub runs: Vec<Run>,
    /// Where it stands on a page or in a table.
    pub spots: Spots,
}

impl Map {
    /// Finds the passages nearest to the query.
    ///
    /// # Errors
    /// When the record can't be read. A missing or failing embedder is no error: the notices say so.
    pub fn search(&self, query: &Query, embed: Option<&dyn Embed>) -> Result<Found, Fault> {
        self.search_with(query, embed, &Tuning::default())
    }

    /// [`Map::search`] with other weights than the usual ones, for evaluations.
    ///
    /// # Errors
    /// As [`Map::search`].
    pub fn search_with(&self, query: &Query, embed: Option<&dyn Embed>, tuning: &Tuning) -> Result<Found, Fault> {
        let started = Instant::now();
        let mut notices = Vec::new();
        let candidates = tuning.candidates.max(query.limit);
        let (terms, lexical) = self.lexical_arm(&query.text, tuning.boosts, candidates, &mut notices)?;
        let (vector, dense, arms) = match embed {
            None => (None, Vec::new(), "lexical (no embedding model)".to_owned()),
            Some(embed) => match self.vector_arm(embed, &query.text, candidates) {
                Ok(Some((vector, dense))) => (Some((embed.model(), vector)), dense, "lexical+vector".to_owned()),
                Ok(None) => (None, Vec::new(), "lexical (no passage has a vector yet; index again)".to_owned()),
                Err(fault) => {
                    notices.push(format!("searched by words alone, because the embedding model failed: {fault}"));
                    (None, Vec::new(), "lexical (the embedding model failed)".to_owned())
                }
            },
        };
        let fused = fuse(tuning.fusion, &lexical, &dense);
        let lexical: HashMap<i64, f32> = lexical.into_iter().collect();
        let mut dense: HashMap<i64, f32> = dense.into_iter().collect();
        // Some more than wanted, since passages with equal words count once.
        let ids: Vec<i64> = fused.iter().take(query.limit * 2).map(|(id, _)| *id).collect();
        let reading = locked(&self.reading);
        let mut stored = reading.passages(&ids)?;
        if let Some((model, vector)) = &vector {
            let missing: Vec<i64> = ids.iter().copied().filter(|id| !dense.contains_key(id)).collect();
            for (id, own) in reading.vectors(model, &missing)? {
                dense.insert(id, cosine(vector, &own));
            }
        }
        drop(reading);
        let mut seen = HashSet::new();
        let mut hits = Vec::new();
        for (id, score) in fused {
            if hits.len() == query.limit {
                break;
            }
            let Some(stored) = stored.remove(&id) else { continue };
            if seen.insert(stored.passage.key) {
                hits.push(hit(stored, score, lexical.get(&id).copied(), dense.get(&id).copied(), &terms));
            }
        }
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Found { hits, arms, took_us, notices })
    }

    /// Words and their passages. A damaged index is rebuilt once and asked again.
    fn lexical_arm(
        &self,
        text: &str,
        boosts: Boosts,
        limit: usize,
        notices: &mut Vec<String>,
    ) -> Result<(Terms, Vec<(i64, f32)>), Fault> {
        let lexical = self.lexical(notices)?;
        match ask(&lexical, text, boosts, limit) {
            Ok(found) => Ok(found),
            Err(fault) => {
                drop(lexical);
                let rebuilt = self.rebuild_lexical(&fault.to_string(), notices)?;
                ask(&rebuilt, text, boosts, limit)
            }
        }
    }

    /// `None` while no passage has a vector of this model.
    #[expect(clippy::type_complexity, reason = "the query's vector and the passages that it found")]
    fn vector_arm(
        &self,
        embed: &dyn Embed,
        text: &str,
        limit: usize,
    ) -> Result<Option<(Vec<f32>, Vec<(i64, f32)>)>, Fault> {
        let model = embed.model();
        let Some(vectors) = self.vectors(&model)? else { return Ok(None) };
        let vector = match embedding::alone(embed, text)? {
            Embedded::Whole(vector) | Embedded::Beginning(vector) => vector,
            Embedded::Refused(fault) => return Err(fault),
        };
        let found = vectors.search(&model, &vector, &locked(&self.reading), limit)?;
        Ok(Some((vector, found)))
    }
}

fn ask(lexical: &Lexical, text: &str, boosts: Boosts, limit: usize) -> Result<(Terms, Vec<(i64, f32)>), Fault> {
    // Damaged files can make the library panic; the index is derived, so nothing is lost by starting anew.
    catch_unwind(AssertUnwindSafe(|| {
        let terms = lexical.terms(text)?;
        let found = lexical.search(&terms, boosts, limit)?;
        Ok((terms, found))
    }))
    .unwrap_or_else(|_| Err(Fault::new(Code::MapDamaged, "the word index can't be read")))
}

fn hit(stored: Stored, score: f32, lexical: Option<f32>, dense: Option<f32>, terms: &Terms) -> Hit {
    let Stored { id, path, stamp, hash, format, encoding, title, passage } = stored;
    Hit {
        passage: id,
        title: title.unwrap_or_else(|| stem(&path)),
        path,
        place: passage.place,
        heading: passage.heading,
        highlights: highlights(&passage.text, terms),
        text: passage.text,
        score,
        lexical,
        dense,
        terms: Arc::clone(terms),
        source: Source { format, encoding, stamp, hash, runs: passage.runs, spots: passage.spots },
    }
}

/// Byte ranges of the words of `text` that a query's word stands for.
fn highlights(text: &str, terms: &[Term]) -> Vec<(u32, u32)> {
    let stems: HashSet<&str> = terms.iter().map(|term| term.stem.as_str()).collect();
    words::words(text)
        .into_iter()
        .filter(|word| stems.contains(word.stem.as_str()))
        .map(|word| (word.span.start as u32, word.span.end as u32))
        .collect()
}
