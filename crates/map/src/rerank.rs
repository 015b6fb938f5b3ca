//! A second look at the best of a ranking, by a model that reads question and passage together.
//!
//! Such a model is slow, so it sees only the first passages of the fused ranking, each once, near-duplicates left out.
//! What lies behind them keeps its place. It sees nothing that the search's filter left out, for it is asked after it.
//! Pure: the model is behind [`Rerank`], which also keeps the time.

use crate::embedding;
use crate::search::Hit;
use base::{Code, Fault};

/// Passages that are looked at again, unless told otherwise.
pub const CANDIDATES: usize = 32;
/// LIMIT: passages that are looked at again, whatever is asked for.
pub const CANDIDATES_MAX: usize = 128;
/// What the reranker's word counts beside the fused score.
const SHARE: f32 = 0.8;

/// Judges how well passages answer a question. `runtime` implements it over the engine.
pub trait Rerank: Send + Sync {
    /// Name of the model.
    fn model(&self) -> String;

    /// Judges each passage, in order.
    ///
    /// # Errors
    /// When the model can't be run, or takes longer than it may; the search goes on with the order that it has.
    fn judge(&self, question: &str, passages: &[String]) -> Result<Judged, Fault>;
}

/// What a model says of some passages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// One for each passage, in order; more is better. They compare with each other alone.
    pub scores: Vec<f32>,
    /// Passages of which the model could read only the beginning.
    pub shortened: usize,
}

/// How far the reranker decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighing {
    /// So many of the best are looked at again.
    pub candidates: usize,
    /// 0: the order stays as it is; 1: the reranker's order alone.
    pub share: f32,
}

impl Default for Weighing {
    fn default() -> Self {
        Self { candidates: CANDIDATES, share: SHARE }
    }
}

/// What the reranker said of one hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reranked {
    /// As the model gave it.
    pub score: f32,
    /// From 1: where the hit stood before.
    pub rank_before: usize,
    /// What both together give among the hits that were looked at, 0 to 1.
    pub joined: f32,
}

/// What came of a second look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The model whose word counts; `None` when the order stayed as it was.
    pub by: Option<String>,
    pub notices: Vec<String>,
}

/// Orders the best hits anew. When the reranker fails they stay as they are, and a notice says why. One hit alone, or a
/// question without words, needs no second look.
pub fn rerank(question: &str, hits: &mut [Hit], reranker: &dyn Rerank, how: Weighing) -> Outcome {
    let count = hits.len().min(how.candidates.min(CANDIDATES_MAX));
    if count < 2 || question.trim().is_empty() {
        return Outcome::default();
    }
    let (best, rest) = hits.split_at_mut(count);
    let passages: Vec<String> =
        best.iter().map(|hit| embedding::in_context(&hit.title, &hit.heading, &hit.text)).collect();
    let judged = match reranker.judge(question, &passages).and_then(|judged| whole(judged, count)) {
        Ok(judged) => judged,
        Err(fault) => {
            let notice = format!("not reranked, because `{}` failed: {fault}", reranker.model());
            return Outcome { by: None, notices: vec![notice] };
        }
    };
    let before: Vec<f32> = best.iter().map(|hit| hit.score).collect();
    let joined = blend(&before, &judged.scores, how.share);
    // Scores go on falling where the hits begin that weren't looked at.
    let floor = rest.iter().map(|hit| hit.score).fold(0.0, f32::max);
    for (at, hit) in best.iter_mut().enumerate() {
        hit.score = floor + (1.0 - floor).max(0.0) * joined[at];
        if let Some(why) = &mut hit.why {
            why.reranked = Some(Reranked { score: judged.scores[at], rank_before: at + 1, joined: joined[at] });
        }
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| joined[*b].total_cmp(&joined[*a]));
    arrange(best, &order);
    let notices = (judged.shortened > 0).then(|| {
        let model = reranker.model();
        format!("{} of {count} passages are longer than `{model}` reads; it judged their beginnings", judged.shortened)
    });
    Outcome { by: Some(reranker.model()), notices: notices.into_iter().collect() }
}

fn whole(judged: Judged, count: usize) -> Result<Judged, Fault> {
    if judged.scores.len() == count && judged.scores.iter().all(|score| score.is_finite()) {
        return Ok(judged);
    }
    let came = judged.scores.len();
    Err(Fault::new(
        Code::ModelUnfit,
        format!("it gave {came} scores for {count} passages, or some that are no numbers"),
    ))
}

/// The earlier scores and the reranker's, each scaled so that its least is 0 and its best 1, added by their shares.
/// A reranker's scores have no scale of their own, so only their distances count; where it can't tell passages
/// apart, the earlier score does.
pub fn blend(before: &[f32], judged: &[f32], share: f32) -> Vec<f32> {
    let (before, judged) = (scaled(before), scaled(judged));
    before.iter().zip(&judged).map(|(before, judged)| share * judged + (1.0 - share) * before).collect()
}

fn scaled(scores: &[f32]) -> Vec<f32> {
    let top = scores.iter().copied().fold(f32::MIN, f32::max);
    let low = scores.iter().copied().fold(f32::MAX, f32::min);
    // In double precision: the distance of two single ones may be more than one of them holds.
    let width = f64::from(top) - f64::from(low);
    let share = |score: f32| ((f64::from(score) - f64::from(low)) / width) as f32;
    scores.iter().map(|score| if width > 0.0 { share(*score) } else { 1.0 }).collect()
}

/// Brings the items into this order, which names each once.
fn arrange<T: Clone>(items: &mut [T], order: &[usize]) {
    let ordered: Vec<T> = order.iter().map(|at| items[*at].clone()).collect();
    items.clone_from_slice(&ordered);
}

#[cfg(test)]
mod tests;
