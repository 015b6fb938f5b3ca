//! One ranking from the searches of several maps. Pure.
//!
//! A hit's score, and how rare a word is, mean something within one map alone. Here each word is counted over
//! all maps, as if they were one, and hits are ordered by what speaks for them.

use crate::evidence;
use crate::search::{Found, Hit};
use crate::words::{self, Term, Terms};

/// The best hits of several searches for the same words, each with the number of passages in its map.
pub fn merge(searched: Vec<(Found, u64)>, limit: usize) -> Vec<Hit> {
    if let [_] = searched[..] {
        let mut hits: Vec<Hit> = searched.into_iter().flat_map(|(found, _)| found.hits).collect();
        hits.truncate(limit);
        return hits;
    }
    let terms = together(&searched);
    let mut hits: Vec<Hit> = searched.into_iter().flat_map(|(found, _)| found.hits).collect();
    let mut within: Vec<(f32, Hit)> = Vec::with_capacity(hits.len());
    for mut hit in hits.drain(..) {
        hit.terms = Terms::clone(&terms);
        let before = std::mem::replace(&mut hit.score, 0.0);
        hit.score = evidence::strength(&evidence::weigh(&hit));
        within.push((before, hit));
    }
    within.sort_by(|(a_before, a), (b_before, b)| b.score.total_cmp(&a.score).then(b_before.total_cmp(a_before)));
    within.into_iter().take(limit).map(|(_, hit)| hit).collect()
}

/// The question's words, counted over all maps. A map without hits holds none of them.
fn together(searched: &[(Found, u64)]) -> Terms {
    let all: u64 = searched.iter().map(|(_, passages)| passages).sum();
    let of_maps: Vec<&Terms> = searched.iter().filter_map(|(found, _)| Some(&found.hits.first()?.terms)).collect();
    let count = |stem: &str| -> u64 {
        let holding = |terms: &&Terms| terms.iter().find(|term| term.stem == stem).map_or(0, |term| term.passages);
        of_maps.iter().map(holding).sum()
    };
    let first = of_maps.first().map_or(&[][..], |terms| terms);
    let summed = |term: &Term| {
        let passages = count(&term.stem);
        Term { passages, idf: words::idf(passages, all), ..term.clone() }
    };
    first.iter().map(summed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cite::tests::hit;
    use crate::document::Format;
    use crate::evidence::{Verdict, judge};

    const QUESTION: &str = "When was the boiler serviced by Nordlicht?";

    /// What a map finds; `known` are the words that some of its passages hold.
    fn found(texts: &[&str], scores: &[f32], known: &[&str]) -> Found {
        let hits = texts.iter().zip(scores).map(|(text, score)| {
            let mut hit = hit(QUESTION, text, Format::Text);
            let mut terms = hit.terms.to_vec();
            for term in &mut terms {
                term.passages = u64::from(known.contains(&term.word.as_str()));
            }
            (hit.terms, hit.score) = (terms.into(), *score);
            hit
        });
        Found { hits: hits.collect(), arms: "lexical".into(), took_us: 1, notices: Vec::new() }
    }

    #[test]
    fn what_answers_comes_first_from_whichever_map() {
        let weak = ["The boiler is blue."; 12];
        let strong = ["Flowers are nice.", "The boiler was serviced by Nordlicht on 3 March."];
        let searched = || {
            let answering = found(&strong, &[1.0, 0.4], &["boiler", "serviced", "Nordlicht"]);
            vec![(found(&weak, &[1.0; 12], &["boiler"]), 500), (answering, 20)]
        };
        let hits = merge(searched(), 12);
        assert_eq!((hits.len(), hits[0].text.as_str()), (12, strong[1]));
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert_eq!(judge(QUESTION, &hits), Verdict::Found { used: vec![0] });
        let backwards = merge(searched().into_iter().rev().collect(), 12);
        assert_eq!(backwards[0].text, strong[1]);
    }

    #[test]
    fn only_words_that_no_map_holds_are_said_to_be_missing() {
        let weak = found(&["The boiler is blue."], &[1.0], &["boiler"]);
        let other = found(&["Someone serviced the bicycle."], &[1.0], &["serviced"]);
        let hits = merge(vec![(weak, 50), (other, 50)], 12);
        let Verdict::NotFound { reason } = judge(QUESTION, &hits) else { panic!("{hits:?}") };
        assert!(reason.starts_with("nothing in the files speaks of \"Nordlicht\";"), "{reason}");
    }

    #[test]
    fn one_map_keeps_its_own_order() {
        let one = found(&["The boiler is blue.", "The boiler was serviced by Nordlicht."], &[1.0, 0.2], &["boiler"]);
        assert_eq!(merge(vec![(one.clone(), 9)], 12), one.hits);
        assert_eq!(merge(Vec::new(), 12), []);
    }
}
