//! Which passages score best, and what made their scores.

use super::{Boosts, Lexical, fault};
use crate::catalogue::Allowed;
use crate::score::Score;
use crate::words::Term;
use base::Fault;
use roaring::RoaringBitmap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use tantivy::collector::DocSetCollector;
use tantivy::query::{BooleanQuery, ConstScoreQuery, EnableScoring, Occur, Query, RangeQuery, TermSetQuery, Weight};
use tantivy::{DocAddress, Searcher, TERMINATED};

/// So many documents are named to the word index one by one.
const LED_BY_FILES_MAX: usize = 1000;

/// What one word gave a passage's score by standing in one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub word: String,
    /// `body`, `title`, `heading` or `path`.
    pub field: String,
    pub score: f32,
}

/// A passage that may be among the best: what it scored on the way, its id, where it lies in the index.
type Candidate = (Reverse<Score>, i64, DocAddress);

impl Lexical {
    /// Passage ids with their scores, best first, none outside `allowed`. A score is the sum of its [`Part`]s.
    pub(crate) fn search(
        &self,
        terms: &[Term],
        boosts: Boosts,
        allowed: Option<&Allowed>,
        limit: usize,
    ) -> Result<Vec<(i64, f32)>, Fault> {
        let clauses: Vec<Box<dyn Query>> = self.clauses(terms, boosts).into_iter().map(|(_, _, query)| query).collect();
        if clauses.is_empty() || limit == 0 || allowed.is_some_and(|allowed| allowed.passages.is_empty()) {
            return Ok(Vec::new());
        }
        let any = clauses.iter().map(|query| (Occur::Should, query.box_clone())).collect();
        let mut query: Box<dyn Query> = Box::new(BooleanQuery::new(any));
        // Few documents: their lists lead, and nothing else is looked at. Many: each good hit is checked.
        if let Some(files) =
            allowed.and_then(|allowed| allowed.files.as_ref()).filter(|files| files.len() <= LED_BY_FILES_MAX)
        {
            let files = files.iter().map(|file| tantivy::Term::from_field_u64(self.fields.file, *file));
            let of_files = ConstScoreQuery::new(Box::new(TermSetQuery::new(files)), 0.0);
            query = Box::new(BooleanQuery::new(vec![(Occur::Must, Box::new(of_files)), (Occur::Must, query)]));
        }
        let searcher = self.reader.searcher();
        best(&searcher, &*query, allowed.map(|allowed| &allowed.passages), limit)
            .and_then(|best| summed(&searcher, &clauses, best))
            .map_err(|error| fault(&self.dir, error))
    }

    /// What each word gave a passage, by field: the parts of its score, in the order in which they are summed.
    pub(crate) fn parts(&self, terms: &[Term], boosts: Boosts, id: i64) -> Result<Vec<Part>, Fault> {
        let find = || -> tantivy::Result<Vec<Part>> {
            let searcher = self.reader.searcher();
            let range = Bound::Included(tantivy::Term::from_field_u64(self.fields.id, id.cast_unsigned()));
            let one = searcher.search(&RangeQuery::new(range.clone(), range), &DocSetCollector)?;
            let Some(address) = one.into_iter().next() else { return Ok(Vec::new()) };
            let mut parts = Vec::new();
            for (at, field, query) in self.clauses(terms, boosts) {
                let weight = query.weight(EnableScoring::enabled_from_searcher(&searcher))?;
                each_score(&searcher, &*weight, &[address], |_, score| {
                    parts.push(Part { word: terms[at].word.clone(), field: field.to_owned(), score });
                })?;
            }
            Ok(parts)
        };
        find().map_err(|error| fault(&self.dir, error))
    }
}

/// The best of what a query matches. Unlike the library's own collector, what isn't allowed never counts.
fn best(
    searcher: &Searcher,
    query: &dyn Query,
    allowed: Option<&RoaringBitmap>,
    limit: usize,
) -> tantivy::Result<Vec<Candidate>> {
    let weight = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
    let mut best: BinaryHeap<Candidate> = BinaryHeap::with_capacity(limit + 1);
    for (segment, reader) in (0u32..).zip(searcher.segment_readers()) {
        let (ids, alive) = (reader.fast_fields().u64("id")?, reader.alive_bitset());
        // What was read together lies together: a folder's passages are seldom in all segments.
        let bound = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
        let within = bound(ids.min_value())..=bound(ids.max_value());
        if allowed.is_some_and(|allowed| allowed.range_cardinality(within) == 0) {
            continue;
        }
        let threshold = |best: &BinaryHeap<Candidate>| match best.peek() {
            Some((Reverse(Score(least)), ..)) if best.len() == limit => *least,
            _ => f32::MIN,
        };
        weight.for_each_pruning(threshold(&best), reader, &mut |doc, score| {
            let id = ids.first(doc).filter(|_| alive.is_none_or(|alive| alive.is_alive(doc)));
            let may = |id: u64| allowed.is_none_or(|allowed| u32::try_from(id).is_ok_and(|id| allowed.contains(id)));
            if let Some(id) = id.filter(|id| may(*id)) {
                best.push((Reverse(Score(score)), id.cast_signed(), DocAddress::new(segment, doc)));
                if best.len() > limit {
                    best.pop();
                }
            }
            threshold(&best)
        })?;
    }
    Ok(best.into_vec())
}

/// Scores the candidates anew, clause by clause. The library adds in an order that hangs on where its lists stand
/// at that moment, and so on how passages lie in segments: equal files would differ in their scores' last bits.
fn summed(
    searcher: &Searcher,
    clauses: &[Box<dyn Query>],
    mut candidates: Vec<Candidate>,
) -> tantivy::Result<Vec<(i64, f32)>> {
    candidates.sort_unstable_by_key(|(_, _, address)| *address);
    let addresses: Vec<DocAddress> = candidates.iter().map(|(_, _, address)| *address).collect();
    let mut scores = vec![0f32; candidates.len()];
    for clause in clauses {
        let weight = clause.weight(EnableScoring::enabled_from_searcher(searcher))?;
        each_score(searcher, &*weight, &addresses, |at, score| scores[at] += score)?;
    }
    let mut found: Vec<(i64, f32)> = candidates.iter().map(|(_, id, _)| *id).zip(scores).collect();
    found.sort_unstable_by_key(|(id, score)| (Reverse(Score(*score)), *id));
    Ok(found)
}

/// Tells the score of each passage that a clause matches. The addresses ascend.
fn each_score(
    searcher: &Searcher,
    weight: &dyn Weight,
    addresses: &[DocAddress],
    mut tell: impl FnMut(usize, f32),
) -> tantivy::Result<()> {
    let mut at = 0;
    for of_segment in addresses.chunk_by(|a, b| a.segment_ord == b.segment_ord) {
        let mut scorer = weight.scorer(searcher.segment_reader(of_segment[0].segment_ord), 1.0)?;
        for (offset, address) in of_segment.iter().enumerate() {
            // A scorer only goes forward.
            let doc = if scorer.doc() < address.doc_id { scorer.seek(address.doc_id) } else { scorer.doc() };
            if doc == address.doc_id {
                tell(at + offset, scorer.score());
            } else if doc == TERMINATED {
                break;
            }
        }
        at += of_segment.len();
    }
    Ok(())
}
