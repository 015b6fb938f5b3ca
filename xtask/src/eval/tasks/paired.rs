//! Two sides on the same cases: the mean of their differences, how sure it is, and whether one is worse.

use crate::bench::dice::Dice;

/// Times that cases are drawn anew for an interval.
const DRAWS: usize = 4000;
/// LIMIT: cases whose differences' signs are all tried out; of more, as many as are drawn.
const EXACT_CASES_MAX: usize = 12;
/// A difference that chance brings less often than this is none of chance.
const SIGNIFICANT: f64 = 0.05;

/// Mean of the differences, the interval of 95 in 100 means of cases drawn anew, and how often a mean as far from 0
/// comes when each difference's sign is left to chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) chance: f64,
}

impl Difference {
    pub(super) fn of(differences: &[f64]) -> Self {
        let mut dice = Dice(18);
        let mut means: Vec<f64> = (0..DRAWS).map(|_| drawn(differences, &mut dice)).collect();
        means.sort_by(f64::total_cmp);
        let (low, high) = ends(&means);
        Self { mean: mean(differences), low, high, chance: chance(differences, &mut dice) }
    }

    /// Both must say so: of three cases that all went wrong an interval says nothing.
    pub(super) fn is_worse(self) -> bool {
        self.high < 0.0 && self.chance < SIGNIFICANT
    }
}

/// The same of the mean over groups, each drawn anew in itself.
pub(super) fn over_groups(groups: &[Vec<f64>]) -> (f64, f64, f64) {
    let mut dice = Dice(18);
    let all = |means: &[f64]| mean(means);
    let mut means: Vec<f64> =
        (0..DRAWS).map(|_| all(&groups.iter().map(|group| drawn(group, &mut dice)).collect::<Vec<_>>())).collect();
    means.sort_by(f64::total_cmp);
    let (low, high) = ends(&means);
    (all(&groups.iter().map(|group| mean(group)).collect::<Vec<_>>()), low, high)
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn drawn(values: &[f64], dice: &mut Dice) -> f64 {
    let count = values.len() as u64;
    let sum: f64 = (0..count).map(|_| values[usize::try_from(dice.below(count)).unwrap_or(0)]).sum();
    sum / count.max(1) as f64
}

fn ends(sorted: &[f64]) -> (f64, f64) {
    (sorted[DRAWS / 40], sorted[DRAWS - 1 - DRAWS / 40])
}

fn chance(differences: &[f64], dice: &mut Dice) -> f64 {
    let differ: Vec<f64> = differences.iter().copied().filter(|one| one.abs() > 1e-12).collect();
    let sum = |signs: u64, differ: &[f64]| -> f64 {
        differ.iter().enumerate().map(|(at, one)| if signs >> (at % 64) & 1 == 1 { -one } else { *one }).sum()
    };
    let seen = sum(0, &differ).abs() - 1e-9;
    if differ.len() <= EXACT_CASES_MAX {
        let all = 1_u64 << differ.len();
        return (0..all).filter(|signs| sum(*signs, &differ).abs() >= seen).count() as f64 / all as f64;
    }
    let far = (0..DRAWS).filter(|_| {
        let parts: f64 = differ.chunks(64).map(|chunk| sum(dice.roll(), chunk)).sum();
        parts.abs() >= seen
    });
    (far.count() + 1) as f64 / (DRAWS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_always_there_is_seen() {
        let found = Difference::of(&[-0.5; 12]);
        assert_eq!((found.mean, found.low, found.high), (-0.5, -0.5, -0.5));
        assert!(found.is_worse() && found.chance < 0.001);
        assert!(Difference::of(&[-0.5; 40]).is_worse());
        let mixed = Difference::of(&[-1.0, 1.0, 0.0, 0.0]);
        assert!(mixed.low < 0.0 && mixed.high > 0.0 && !mixed.is_worse());
    }

    #[test]
    fn too_few_cases_show_nothing() {
        assert!(!Difference::of(&[-1.0]).is_worse());
        assert!(!Difference::of(&[-1.0; 5]).is_worse());
        assert!(Difference::of(&[-1.0; 6]).is_worse());
        assert!((Difference::of(&[0.0; 9]).chance - 1.0).abs() < 1e-9);
    }

    #[test]
    fn groups_weigh_the_same() {
        let (mean, low, high) = over_groups(&[vec![1.0; 100], vec![0.0; 2]]);
        assert_eq!((mean, low, high), (0.5, 0.5, 0.5));
    }
}
