//! From a person's words to passages: two arms, one ranking.

use crate::about::About;
use crate::alike::Sketch;
use crate::catalogue::Allowed;
use crate::document::Format;
use crate::embedding::{self, Embedded};
use crate::filter::Filter;
use crate::fuse::{self, Fusion, fuse};
use crate::index::stem;
use crate::lexical::{Boosts, Lexical, Part};
use crate::map::{Embed, Map, locked, sound};
use crate::part::FilePart;
use crate::place::Spots;
use crate::record::{Hash, Stored};
use crate::rerank::Reranked;
use crate::source::{Encoding, Run};
use crate::syntax::Parsed;
use crate::vector::cosine;
use crate::walk::Stamp;
use crate::words::{self, Term, Terms};
use base::{Code, Fault, Place};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What a person looks for. Any text is a valid query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub text: String,
    /// Most hits to return.
    pub limit: usize,
    /// Documents that may be seen.
    pub filter: Filter,
    /// Words that must stand side by side in a passage.
    pub phrases: Vec<String>,
    /// Words, or words side by side, that mustn't stand in it.
    pub without: Vec<String>,
    /// Whether each hit is to say why it stands where it does.
    pub explain: bool,
}

impl Query {
    /// A query with what a person wrote beside words ([`crate::syntax`]). Labels choose maps: they are the caller's.
    pub fn of(parsed: Parsed, limit: usize) -> Self {
        let Parsed { words, phrases, without, filter, labels: _, notes: _ } = parsed;
        Self { text: words, limit, filter, phrases, without, explain: false }
    }

    fn is_filtered(&self) -> bool {
        !self.filter.is_empty() || !self.phrases.is_empty() || !self.without.is_empty()
    }
}

/// How to search; the default is what the development collections favour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    pub boosts: Boosts,
    /// `None`: what was tuned for the embedding model, or ranks where nothing was.
    pub fusion: Option<Fusion>,
    /// Candidates that each arm gives.
    pub candidates: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { boosts: Boosts::default(), fusion: None, candidates: 100 }
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
    /// What is known of the document beside its text.
    pub about: About,
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
    /// Other places that hold nearly the same words, which were left out for it.
    pub alike: Vec<(PathBuf, Place)>,
    /// Why it stands where it does, when that was asked for.
    pub why: Option<Why>,
    /// Byte ranges within `text` that match the query's words.
    pub highlights: Vec<(u32, u32)>,
    /// The query's words; the same for all hits of one search.
    pub terms: Terms,
    pub source: Source,
}

/// What made a hit's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// What each of the query's words gave, by field.
    pub parts: Vec<Part>,
    /// From 1, within each arm.
    pub lexical_rank: Option<usize>,
    pub vector_rank: Option<usize>,
    /// What each arm gave the score.
    pub lexical_share: f32,
    pub vector_share: f32,
    pub fusion: Fusion,
    /// What a second look said, where there was one.
    pub reranked: Option<Reranked>,
}

/// What a citation is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub format: Format,
    /// The part of a large file that stamp, hash and encoding are of.
    pub part: Option<FilePart>,
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
        let mut word_index = self.lexical(&mut notices)?;
        let allowed = match self.allowed_by(query, &word_index) {
            Err(fault) if fault.code == Code::MapDamaged => {
                word_index = self.rebuild_lexical(&fault.to_string(), &mut notices)?;
                self.allowed_by(query, &word_index)?
            }
            allowed => allowed?,
        };
        let limits = Limits { allowed: allowed.as_ref().map(|(allowed, _)| allowed), candidates };
        let (lexical, vector) = std::thread::scope(|scope| {
            let vector = embed.map(|embed| scope.spawn(move || self.vector_arm(embed, &query.text, limits)));
            let lexical = self.lexical_arm(&word_index, &query.text, tuning.boosts, limits, &mut notices);
            let failed = |_| Err(Fault::new(Code::Internal, "the vectors can't be searched"));
            (lexical, vector.map(|vector| vector.join().unwrap_or_else(failed)))
        });
        let (terms, lexical) = lexical?;
        let (vector, dense, arms) = match vector {
            None => (None, Vec::new(), "lexical (no embedding model)".to_owned()),
            Some(Ok(Some((vector, dense)))) => (Some(vector), dense, "lexical+vector".to_owned()),
            Some(Ok(None)) => (None, Vec::new(), "lexical (no passage has a vector yet; index again)".to_owned()),
            Some(Err(fault)) => {
                notices.push(format!("searched by words alone, because the embedding model failed: {fault}"));
                (None, Vec::new(), "lexical (the embedding model failed)".to_owned())
            }
        };
        let model = embed.map(Embed::model);
        let fusion = tuning.fusion.unwrap_or_else(|| fuse::tuned(model.as_deref().unwrap_or_default()));
        let fused = fuse(fusion, &lexical, &dense);
        // Some more than wanted, since passages with nearly equal words count once.
        let ids: Vec<i64> = fused.iter().take(query.limit * 2).map(|fused| fused.id).collect();
        let mut cosines: HashMap<i64, f32> = dense.iter().copied().collect();
        let reading = locked(&self.reading);
        let mut stored = reading.passages(&ids)?;
        if let Some((_, generation)) = allowed
            && reading.generation()? != generation
        {
            // The record has changed since the filter was applied: what was moved out of it mustn't be shown.
            let (now, _) = self.allowed(&query.filter, &reading)?;
            stored.retain(|id, _| {
                query.filter.is_empty() || u32::try_from(*id).is_ok_and(|id| now.passages.contains(id))
            });
        }
        if let (Some(model), Some(vector)) = (&model, &vector) {
            let missing: Vec<i64> = ids.iter().copied().filter(|id| !cosines.contains_key(id)).collect();
            for (id, own) in reading.vectors(model, &missing)? {
                cosines.insert(id, cosine(vector, &own));
            }
        }
        drop(reading);
        let scores: HashMap<i64, f32> = lexical.iter().copied().collect();
        let mut hits: Vec<Hit> = Vec::new();
        let mut sketches: Vec<Sketch> = Vec::new();
        for fused in fused {
            let Some(stored) = stored.remove(&fused.id) else { continue };
            let sketch = Sketch::of(&stored.passage.text);
            if let Some(at) = sketches.iter().position(|other| other.is_alike(&sketch)) {
                hits[at].alike.push((stored.path, stored.passage.place));
            } else if hits.len() < query.limit {
                let (of_words, of_vectors) = (scores.get(&fused.id).copied(), cosines.get(&fused.id).copied());
                let mut hit = hit(stored, fused.score, of_words, of_vectors, &terms);
                if query.explain {
                    let rank = |arm: &[(i64, f32)]| arm.iter().position(|(id, _)| *id == fused.id).map(|at| at + 1);
                    hit.why = Some(Why {
                        parts: self.parts(&mut word_index, &terms, tuning.boosts, fused.id, &mut notices)?,
                        lexical_rank: rank(&lexical),
                        vector_rank: rank(&dense),
                        lexical_share: fused.lexical,
                        vector_share: fused.dense,
                        fusion,
                        reranked: None,
                    });
                }
                hits.push(hit);
                sketches.push(sketch);
            }
        }
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Found { hits, arms, took_us, notices })
    }

    /// The passages that a query may see, and of which generation of the record that is true; `None` for all.
    fn allowed_by(&self, query: &Query, lexical: &Lexical) -> Result<Option<(Allowed, u64)>, Fault> {
        if !query.is_filtered() {
            return Ok(None);
        }
        let (mut allowed, generation) = self.allowed(&query.filter, &locked(&self.reading))?;
        for phrase in &query.phrases {
            allowed.passages &= sound(|| lexical.holding(phrase))?;
        }
        for without in &query.without {
            allowed.passages -= sound(|| lexical.holding(without))?;
        }
        Ok(Some((allowed, generation)))
    }

    /// Words and their passages. A damaged index is rebuilt once and asked again.
    fn lexical_arm(
        &self,
        lexical: &Lexical,
        text: &str,
        boosts: Boosts,
        limits: Limits<'_>,
        notices: &mut Vec<String>,
    ) -> Result<(Terms, Vec<(i64, f32)>), Fault> {
        match ask(lexical, text, boosts, limits) {
            Ok(found) => Ok(found),
            Err(fault) => {
                let rebuilt = self.rebuild_lexical(&fault.to_string(), notices)?;
                ask(&rebuilt, text, boosts, limits)
            }
        }
    }

    /// What each word gave a passage. A damaged index is rebuilt once and asked again.
    fn parts(
        &self,
        lexical: &mut Arc<Lexical>,
        terms: &Terms,
        boosts: Boosts,
        id: i64,
        notices: &mut Vec<String>,
    ) -> Result<Vec<Part>, Fault> {
        match sound(|| lexical.parts(terms, boosts, id)) {
            Err(fault) if fault.code == Code::MapDamaged => {
                *lexical = self.rebuild_lexical(&fault.to_string(), notices)?;
                lexical.parts(terms, boosts, id)
            }
            parts => parts,
        }
    }

    /// `None` while no passage has a vector of this model.
    #[expect(clippy::type_complexity, reason = "the query's vector and the passages that it found")]
    fn vector_arm(
        &self,
        embed: &dyn Embed,
        text: &str,
        limits: Limits<'_>,
    ) -> Result<Option<(Vec<f32>, Vec<(i64, f32)>)>, Fault> {
        let model = embed.model();
        let Some(vectors) = self.vectors(&model)? else { return Ok(None) };
        let vector = match embedding::alone(embed, text)? {
            Embedded::Whole(vector) | Embedded::Beginning(vector) => vector,
            Embedded::Refused(fault) => return Err(fault),
        };
        let allowed = limits.allowed.map(|allowed| &allowed.passages);
        let found = vectors.search(&model, &vector, &self.reading, allowed, limits.candidates)?;
        Ok(Some((vector, found)))
    }
}

/// What both arms are held to.
#[derive(Debug, Clone, Copy)]
struct Limits<'a> {
    allowed: Option<&'a Allowed>,
    candidates: usize,
}

fn ask(lexical: &Lexical, text: &str, boosts: Boosts, limits: Limits<'_>) -> Result<(Terms, Vec<(i64, f32)>), Fault> {
    sound(|| {
        let terms = lexical.terms(text)?;
        let found = lexical.search(&terms, boosts, limits.allowed, limits.candidates)?;
        Ok((terms, found))
    })
}

fn hit(stored: Stored, score: f32, lexical: Option<f32>, dense: Option<f32>, terms: &Terms) -> Hit {
    let Stored { id, path, part, stamp, hash, format, encoding, title, about, passage } = stored;
    Hit {
        passage: id,
        title: title.unwrap_or_else(|| stem(&path)),
        path,
        about,
        place: passage.place,
        heading: passage.heading,
        alike: Vec::new(),
        why: None,
        highlights: highlights(&passage.text, terms),
        text: passage.text,
        score,
        lexical,
        dense,
        terms: Arc::clone(terms),
        source: Source { format, part, encoding, stamp, hash, runs: passage.runs, spots: passage.spots },
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
