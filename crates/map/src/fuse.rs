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

impl Default for Fusion {
    fn default() -> Self {
        Fusion::Scores { dense: 0.4 }
    }
}

/// Each arm's ids with their scores, best first. Returns ids with a fused score in 0..=1, best first.
pub fn fuse(fusion: Fusion, lexical: &[(i64, f32)], dense: &[(i64, f32)]) -> Vec<(i64, f32)> {
    let mut scores: HashMap<i64, f32> = HashMap::new();
    match fusion {
        Fusion::Ranks { k } => {
            // Scaled so that first in both arms is 1.
            let arms = [lexical, dense].iter().filter(|arm| !arm.is_empty()).count().max(1) as f32;
            for arm in [lexical, dense] {
                for (rank, (id, _)) in arm.iter().enumerate() {
                    *scores.entry(*id).or_default() += (k + 1.0) / (k + 1.0 + rank as f32) / arms;
                }
            }
        }
        Fusion::Scores { dense: share } => {
            let share = if lexical.is_empty() {
                1.0
            } else if dense.is_empty() {
                0.0
            } else {
                share
            };
            for (arm, weight) in [(lexical, 1.0 - share), (dense, share)] {
                for (id, score) in scaled(arm) {
                    *scores.entry(id).or_default() += weight * score;
                }
            }
        }
    }
    let mut fused: Vec<(i64, f32)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
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
        fuse(fusion, lexical, dense).into_iter().map(|(id, _)| id).collect()
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
            assert!(fuse(fusion, &arm, &[])[0].1 <= 1.0);
        }
    }
}
