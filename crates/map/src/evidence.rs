//! Whether the files answer a question, decided from what was found. Pure; no model is asked.
//!
//! Two kinds of evidence count: how much of the question's meaning the best passage holds in words
//! (each word weighs by its rarity), and how near the passage's vector lies, where there are vectors.
//! Thresholds were set on development questions with known answers and on questions whose answers lie
//! elsewhere; `docs/decisions/0007-map.md` says how often this is right.

use crate::search::Hit;
use crate::words::{self, Term};
use std::collections::HashSet;

/// Passages that a verdict may rest on.
const LOOKED_AT: usize = 8;
/// Passages that are handed on.
const USED_MAX: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Indices of the hits to answer from, best first.
    Found { used: Vec<usize> },
    /// A sentence: what was looked for, what wasn't found, and how near the nearest came.
    NotFound { reason: String },
}

/// What speaks for one hit. All between 0 and 1, but `dense`, which is a cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Share of the question's words that stand in the passage, by rarity.
    pub coverage: f32,
    /// The same, counting title and headings too.
    pub covered_with_headings: f32,
    /// The greatest share within one stretch of a few sentences.
    pub together: f32,
    pub dense: Option<f32>,
}

/// How much a word of the question counts: by its rarity, and little when it is a common word.
pub fn term_weight(term: &Term) -> f32 {
    const LIGHT_SHARE: f32 = 0.3;
    if words::is_light_word(&term.stem) { term.idf.min(LIGHT_IDF) * LIGHT_SHARE } else { term.idf }
}

/// A common word's rarity counts up to this.
const LIGHT_IDF: f32 = 4.0;

/// The weights of a question's words. Where only one of them is no common word, the common ones tell which
/// of the many things that could be said of it is asked for, and count in full.
fn term_weights(terms: &[Term]) -> Vec<f32> {
    let weighty = terms.iter().filter(|term| !words::is_light_word(&term.stem)).count();
    terms.iter().map(|term| if weighty > 1 { term_weight(term) } else { term.idf }).collect()
}

/// Weighs one hit against the question whose words it carries.
pub fn weigh(hit: &Hit) -> Weight {
    let weights = term_weights(&hit.terms);
    let all: f32 = weights.iter().sum();
    let share = |stems: &HashSet<String>| {
        let held: f32 = hit
            .terms
            .iter()
            .zip(&weights)
            .filter(|(term, _)| stems.contains(&term.stem))
            .map(|(_, weight)| weight)
            .sum();
        if all > 0.0 { held / all } else { 0.0 }
    };
    let body = words::words(&hit.text);
    let mut stems: HashSet<String> = body.iter().map(|word| word.stem.clone()).collect();
    let coverage = share(&stems);
    let mut together = 0f32;
    for start in (0..body.len()).step_by(NEAR_WORDS / 2) {
        let near = body[start..].iter().take(NEAR_WORDS).map(|word| word.stem.clone()).collect();
        together = together.max(share(&near));
    }
    stems.extend(words::words(&hit.title).into_iter().chain(words::words(&hit.heading)).map(|word| word.stem));
    Weight { coverage, covered_with_headings: share(&stems), together, dense: hit.dense }
}

/// Words that stand near each other: about two sentences.
const NEAR_WORDS: usize = 50;

/// The strength of one hit's evidence, from 0 to 1.
pub fn strength(weight: &Weight) -> f32 {
    let words = 0.5 * weight.covered_with_headings + 0.5 * weight.together;
    match weight.dense {
        Some(dense) => 0.5 * words + 0.5 * dense.max(0.0),
        None => words,
    }
}

/// The strength that carries an answer. A question of two words must be met nearly whole; of twelve,
/// even a passage that answers holds only some.
pub fn enough(question_words: usize) -> f32 {
    (0.68 - 0.04 * question_words as f32).clamp(0.33, 0.6)
}

/// Decides whether the hits of one search answer its question.
pub fn judge(question: &str, hits: &[Hit]) -> Verdict {
    let weights: Vec<Weight> = hits.iter().take(LOOKED_AT).map(weigh).collect();
    let strengths: Vec<f32> = weights.iter().map(strength).collect();
    let best = strengths.iter().copied().fold(0.0, f32::max);
    if best < enough(hits.first().map_or(0, |hit| hit.terms.len())) {
        return Verdict::NotFound { reason: reason(question, hits, &strengths) };
    }
    // What is far behind the best only distracts.
    let mut used: Vec<usize> = (0..strengths.len()).filter(|at| strengths[*at] >= best * 0.7).collect();
    used.sort_by(|a, b| strengths[*b].total_cmp(&strengths[*a]));
    used.truncate(USED_MAX);
    Verdict::Found { used }
}

fn reason(question: &str, hits: &[Hit], strengths: &[f32]) -> String {
    let quoted = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let Some(first) = hits.first() else {
        let words: Vec<String> =
            words::content_words(question).into_iter().map(|word| question[word.span].to_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return format!("no passage holds any of {}", quoted(&words));
    };
    let missing: Vec<&str> =
        first.terms.iter().filter(|term| term.passages == 0).map(|term| term.word.as_str()).collect();
    let nearest = strengths.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(first, |(at, _)| &hits[at]);
    let stems: HashSet<String> = words::words(&nearest.text).into_iter().map(|word| word.stem).collect();
    let held = nearest.terms.iter().filter(|term| stems.contains(&term.stem)).count();
    let place = format!("`{}`:{}", nearest.path.display(), nearest.place);
    let near = match held {
        0 => format!("the nearest passage ({place}) holds none of the question's words"),
        _ => format!("the nearest passage ({place}) holds {held} of the question's {} words", nearest.terms.len()),
    };
    if missing.is_empty() {
        format!("no passage answers this; {near}")
    } else {
        format!("nothing in the files speaks of {}; {near}", quoted(&missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cite::tests::hit;
    use crate::document::Format;

    fn verdict(question: &str, text: &str, dense: Option<f32>, unknown: &[&str]) -> Verdict {
        let mut hit = hit(question, text, Format::Markdown);
        hit.dense = dense;
        let mut terms = hit.terms.to_vec();
        for term in terms.iter_mut().filter(|term| unknown.contains(&term.word.as_str())) {
            (term.passages, term.idf) = (0, 4.0);
        }
        hit.terms = terms.into();
        judge(question, &[hit])
    }

    #[test]
    fn a_passage_that_holds_the_question_answers_it() {
        for (question, text) in [
            ("How often must the boiler be serviced?", "The boiler is serviced once a year."),
            ("When is the hedge cut?", "The hedge is cut at the end of June."),
            ("What did the new pump for the well cost in the end?", "A new well pump costs 1,840 euros."),
        ] {
            assert_eq!(verdict(question, text, None, &[]), Verdict::Found { used: vec![0] }, "{question}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_words_that_are_missing() {
        let refused = verdict("When was the piano tuned?", "The boiler was tuned in May.", None, &["piano"]);
        let Verdict::NotFound { reason } = refused else { panic!("{refused:?}") };
        assert!(reason.contains("\"piano\"") && reason.contains("1 of the question's 2 words"), "{reason}");
        let refused = judge("When was the piano tuned?", &[]);
        let Verdict::NotFound { reason } = refused else { panic!("{refused:?}") };
        assert_eq!(reason, "no passage holds any of \"piano\", \"tuned\"");
    }

    #[test]
    fn common_words_alone_are_no_evidence() {
        let text = "The name of the street was changed in the last year.";
        assert!(matches!(verdict("What is the name of the cat?", text, None, &["cat"]), Verdict::NotFound { .. }));
    }

    #[test]
    fn far_behind_the_best_is_left_out() {
        let question = "When is the hornbeam hedge cut?";
        let texts = ["The hornbeam hedge is cut in June.", "The hedge is green.", "Cut the hornbeam hedge at noon."];
        let hits: Vec<Hit> = texts.iter().map(|text| hit(question, text, Format::Text)).collect();
        assert_eq!(judge(question, &hits), Verdict::Found { used: vec![0, 2] });
    }

    #[test]
    fn short_questions_must_be_met_more_fully() {
        assert!(enough(2) > enough(6));
        assert!(enough(6) > enough(12));
        assert!((0.3..0.7).contains(&enough(0)) && enough(100) > 0.3);
    }
}
