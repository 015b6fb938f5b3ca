//! One ranking from two. Pure.

use std::collections::HashMap;

/// How the two arms' rankings become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// Reciprocal ranks, `1 / (k + rank)`: needs no tuning and knows nothing of how far apart scores lie.
    Ranks { k: f32 },
    /// Scores scaled to 0..=1 within their arm, the vector arm's share being `dense`.
    Scores { dense: f32 },
}

/// What was tuned for an embedding model on the development collections; ranks for one that nobody has tuned.
pub fn tuned(model: &str) -> Fusion {
    if model.to_ascii_lowercase().contains("all-minilm-l6") {
        Fusion::Scores { dense: 0.4 }
    } else {
        Fusion::Ranks { k: 60.0 }
    }
}

/// A passage in the joined ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fused {
    pub id: i64,
    /// 0 to 1; the sum of what both arms gave.
    pub score: f32,
    pub lexical: f32,
    pub dense: f32,
}

/// An arm of so many hits or more whose scores are all within [`FLAT_SHARE`] of the best can't tell one from another.
const FLAT_HITS_MIN: usize = 50;
const FLAT_SHARE: f32 = 0.01;

fn is_flat(arm: &[(i64, f32)]) -> bool {
    match (arm.first(), arm.last()) {
        (Some((_, top)), Some((_, low))) => arm.len() >= FLAT_HITS_MIN && top - low <= top.abs() * FLAT_SHARE,
        _ => false,
    }
}

/// Each arm's ids with their scores, best first. Returns ids with a fused score in 0..=1, best first. An arm whose
/// scores are flat is left out, unless both are.
pub fn fuse(fusion: Fusion, lexical: &[(i64, f32)], dense: &[(i64, f32)]) -> Vec<Fused> {
    let (lexical, dense) = match (is_flat(lexical), is_flat(dense)) {
        (true, false) if !dense.is_empty() => (&[][..], dense),
        (false, true) if !lexical.is_empty() => (lexical, &[][..]),
        _ => (lexical, dense),
    };
    let share = match (lexical.is_empty(), dense.is_empty(), fusion) {
        (true, _, _) => 1.0,
        (_, true, _) => 0.0,
        (_, _, Fusion::Scores { dense }) => dense,
        (_, _, Fusion::Ranks { .. }) => 0.5,
    };
    let given = |arm: &[(i64, f32)]| -> Vec<(i64, f32)> {
        match fusion {
            // Scaled so that the first is 1.
            Fusion::Ranks { k } => {
                arm.iter().enumerate().map(|(rank, (id, _))| (*id, (k + 1.0) / (k + 1.0 + rank as f32))).collect()
            }
            Fusion::Scores { .. } => scaled(arm),
        }
    };
    let mut parts: HashMap<i64, (f32, f32)> = HashMap::new();
    for (id, score) in given(lexical) {
        parts.entry(id).or_default().0 += (1.0 - share) * score;
    }
    for (id, score) in given(dense) {
        parts.entry(id).or_default().1 += share * score;
    }
    let whole = |(id, (lexical, dense))| Fused { id, score: lexical + dense, lexical, dense };
    let mut fused: Vec<Fused> = parts.into_iter().map(whole).collect();
    // Ids tell in which order files were read, which is no reason, and differs with what else was read: words decide first.
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.lexical.total_cmp(&a.lexical)).then(a.id.cmp(&b.id)));
    fused
}

/// Scores between the arm's least (0) and its best (1); an arm whose scores are all one says nothing.
fn scaled(arm: &[(i64, f32)]) -> Vec<(i64, f32)> {
    let top = arm.iter().map(|(_, score)| *score).fold(f32::MIN, f32::max);
    let low = arm.iter().map(|(_, score)| *score).fold(f32::MAX, f32::min);
    let width = top - low;
    arm.iter().map(|(id, score)| (*id, if width > 1e-6 { (score - low) / width } else { 1.0 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(fusion: Fusion, lexical: &[(i64, f32)], dense: &[(i64, f32)]) -> Vec<i64> {
        fuse(fusion, lexical, dense).into_iter().map(|fused| fused.id).collect()
    }

    #[test]
    fn of_two_with_one_score_the_better_by_words_comes_first_whatever_their_ids() {
        for (first, second) in [(1, 2), (2, 1)] {
            let ranks = Fusion::Ranks { k: 60.0 };
            let fused = fuse(ranks, &[(first, 2.0), (second, 1.0)], &[(second, 0.9), (first, 0.1)]);
            assert_eq!(fused.iter().map(|one| one.id).collect::<Vec<_>>(), [first, second]);
        }
    }

    #[test]
    fn what_both_arms_like_comes_first() {
        let (lexical, dense) = ([(1, 9.0), (2, 8.5), (3, 1.0)], [(4, 0.9), (2, 0.85), (5, 0.1)]);
        for fusion in [Fusion::Ranks { k: 60.0 }, Fusion::Scores { dense: 0.5 }] {
            assert_eq!(ids(fusion, &lexical, &dense)[0], 2, "{fusion:?}");
        }
    }

    #[test]
    fn one_arm_alone_keeps_its_order() {
        let arm = [(7, 3.0), (5, 2.0), (9, 1.0)];
        for fusion in [Fusion::Ranks { k: 60.0 }, Fusion::Scores { dense: 0.9 }] {
            assert_eq!(ids(fusion, &arm, &[]), [7, 5, 9]);
            assert_eq!(ids(fusion, &[], &arm), [7, 5, 9]);
            assert!(fuse(fusion, &arm, &[])[0].score <= 1.0);
        }
    }

    #[test]
    fn an_arm_that_tells_nothing_apart_is_left_out() {
        let flat: Vec<(i64, f32)> = (100..160).map(|id| (id, 0.9)).collect();
        let telling: Vec<(i64, f32)> = (0..60).map(|id| (id, 9.0 - id as f32 * 0.1)).collect();
        for fusion in [Fusion::Ranks { k: 60.0 }, Fusion::Scores { dense: 0.5 }] {
            let own: Vec<i64> = (0..60).collect();
            assert_eq!((ids(fusion, &telling, &flat), ids(fusion, &flat, &telling)), (own.clone(), own));
            assert_eq!(ids(fusion, &flat, &flat).len(), 60, "one of two must speak");
            assert_eq!(ids(fusion, &flat, &[]).len(), 60);
            assert!(ids(fusion, &telling, &flat[..3]).contains(&100), "few hits are few for a reason");
        }
    }

    #[test]
    fn what_the_arms_gave_makes_the_score() {
        for fused in fuse(Fusion::Scores { dense: 0.4 }, &[(1, 9.0), (2, 5.0)], &[(2, 0.9), (3, 0.2)]) {
            assert_eq!(fused.score, fused.lexical + fused.dense);
        }
        assert_eq!(tuned("all-MiniLM-L6-v2:f16"), Fusion::Scores { dense: 0.4 });
        assert_eq!(tuned("another"), Fusion::Ranks { k: 60.0 });
    }
}
