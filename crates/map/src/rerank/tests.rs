//! Who decides about the order, and who can't.

use super::*;
use crate::cite::tests::hit;
use crate::document::Format;
use crate::fuse::Fusion;
use crate::search::Why;
use proptest::prelude::*;
use std::sync::Mutex;

const QUESTION: &str = "When is the boiler serviced?";

/// Says what it was told to say, and keeps what it was shown.
struct Told {
    says: Result<Judged, Fault>,
    shown: Mutex<Vec<String>>,
}

impl Told {
    fn new(scores: &[f32]) -> Self {
        Self { says: Ok(Judged { scores: scores.to_vec(), shortened: 0 }), shown: Mutex::default() }
    }
}

impl Rerank for Told {
    fn model(&self) -> String {
        "judge".into()
    }

    fn judge(&self, _: &str, passages: &[String]) -> Result<Judged, Fault> {
        *self.shown.lock().expect("no thread panicked") = passages.to_vec();
        self.says.clone()
    }
}

/// Hits with these fused scores, numbered by their passages from 0.
fn hits(scores: &[f32]) -> Vec<Hit> {
    let numbered = scores.iter().enumerate().map(|(at, score)| {
        let mut hit = hit(QUESTION, &format!("passage {at}"), Format::Text);
        (hit.passage, hit.score) = (at as i64, *score);
        hit.why = Some(Why {
            parts: Vec::new(),
            lexical_rank: None,
            vector_rank: None,
            lexical_share: *score,
            vector_share: 0.0,
            fusion: Fusion::Ranks { k: 60.0 },
            reranked: None,
        });
        hit
    });
    numbered.collect()
}

fn order(hits: &[Hit]) -> Vec<i64> {
    hits.iter().map(|hit| hit.passage).collect()
}

#[test]
fn the_reranker_orders_the_best_and_nothing_behind_them() {
    let mut found = hits(&[0.9, 0.8, 0.7, 0.6, 0.5]);
    let told = Told::new(&[-3.0, 8.0, 1.0]);
    let outcome = rerank(QUESTION, &mut found, &told, Weighing { candidates: 3, ..Weighing::default() });
    assert_eq!((order(&found), outcome.by.as_deref()), (vec![1, 2, 0, 3, 4], Some("judge")));
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "{found:?}");
    let first = found[0].why.as_ref().and_then(|why| why.reranked).expect("it says why");
    assert_eq!((first.score, first.rank_before), (8.0, 2));
    assert!(found[3].why.as_ref().is_some_and(|why| why.reranked.is_none()), "it wasn't looked at");
    let shown = told.shown.lock().expect("no thread panicked");
    assert_eq!(*shown, ["A\npassage 0", "A\npassage 1", "A\npassage 2"], "with its title, and only the best");
}

#[test]
fn a_reranker_that_fails_changes_nothing_and_a_notice_says_so() {
    let before = hits(&[0.9, 0.8, 0.7]);
    let slow = Fault::new(Code::DeadlineExceeded, "it wasn't done after 5000 ms");
    let bad = |scores: &[f32]| Ok(Judged { scores: scores.to_vec(), shortened: 0 });
    for (says, word) in [
        (Err(slow), "5000 ms"),
        (bad(&[1.0, 2.0]), "2 scores for 3 passages"),
        (bad(&[1.0, f32::NAN, 3.0]), "no numbers"),
        (bad(&[1.0, 2.0, f32::INFINITY]), "no numbers"),
    ] {
        let mut found = before.clone();
        let told = Told { says, shown: Mutex::default() };
        let outcome = rerank(QUESTION, &mut found, &told, Weighing::default());
        assert_eq!((&found, &outcome.by), (&before, &None));
        assert!(outcome.notices[0].starts_with("not reranked, because `judge` failed:"), "{outcome:?}");
        assert!(outcome.notices[0].contains(word), "{outcome:?}");
    }
}

#[test]
fn passages_that_it_could_not_read_whole_are_counted() {
    let mut found = hits(&[0.9, 0.8]);
    let says = Ok(Judged { scores: vec![1.0, 2.0], shortened: 1 });
    let outcome = rerank(QUESTION, &mut found, &Told { says, shown: Mutex::default() }, Weighing::default());
    assert_eq!(outcome.notices, ["1 of 2 passages are longer than `judge` reads; it judged their beginnings"]);
}

#[test]
fn one_hit_or_no_question_needs_no_model() {
    let told = Told { says: Err(Fault::new(Code::Internal, "it was asked")), shown: Mutex::default() };
    for (question, scores) in [(QUESTION, &[0.9][..]), (QUESTION, &[]), (" ", &[0.9, 0.8])] {
        let mut found = hits(scores);
        assert_eq!(rerank(question, &mut found, &told, Weighing::default()), Outcome::default());
    }
}

#[test]
fn a_near_tie_falls_to_the_earlier_order_and_a_sure_word_does_not() {
    let joined = blend(&[1.0, 0.0, 0.5], &[4.9, 5.0, -5.0], SHARE);
    assert!(joined[0] > joined[1], "a tenth of ten is a near tie: {joined:?}");
    let joined = blend(&[1.0, 0.0, 0.5], &[0.0, 5.0, -5.0], SHARE);
    assert!(joined[1] > joined[0], "half of it is none: {joined:?}");
}

proptest! {
    #[test]
    fn nothing_is_lost_and_scores_fall(
        fused in prop::collection::vec(0.0f32..=1.0, 0..40),
        said in prop::collection::vec(-20.0f32..20.0, 40),
        candidates in 0usize..50,
        share in 0.0f32..=1.0,
    ) {
        let mut fused = fused;
        fused.sort_by(|a, b| b.total_cmp(a));
        let mut found = hits(&fused);
        let count = found.len().min(candidates);
        rerank(QUESTION, &mut found, &Told::new(&said[..count]), Weighing { candidates, share });
        let mut ids = order(&found);
        prop_assert_eq!(&ids[count..], &(count as i64..fused.len() as i64).collect::<Vec<_>>()[..]);
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..fused.len() as i64).collect::<Vec<_>>());
        prop_assert!(found.iter().all(|hit| (0.0..=1.0 + 1e-6).contains(&hit.score)));
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score - 1e-6));
    }

    #[test]
    fn each_side_alone_keeps_its_own_order(pairs in prop::collection::vec((0.0f32..=1.0, -20.0f32..20.0), 2..40)) {
        let (before, judged): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        for (share, own) in [(0.0, &before), (1.0, &judged)] {
            let joined = blend(&before, &judged, share);
            for a in 0..own.len() {
                for b in 0..own.len() {
                    prop_assert!(own[a] < own[b] || joined[a] >= joined[b] - 1e-6);
                }
            }
        }
    }

    /// What the reranker likes better never falls for it.
    #[test]
    fn a_better_word_never_costs_a_place(
        pairs in prop::collection::vec((0.0f32..=1.0, -20.0f32..20.0), 2..20),
        more in 0.0f32..30.0,
        share in 0.0f32..=1.0,
    ) {
        let (before, mut judged): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let was = blend(&before, &judged, share);
        judged[0] += more;
        let now = blend(&before, &judged, share);
        for other in 1..was.len() {
            prop_assert!(now[0] - now[other] >= was[0] - was[other] - 1e-4);
        }
    }
}
