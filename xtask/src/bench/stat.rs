//! Figures from repeated measurements: means and 95 % confidence intervals.

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean with the interval that holds the true one in 95 of 100 such runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) count: usize,
}

/// Mean and interval of plain values. One value alone has an interval of any width.
pub(super) fn estimate(values: &[f64]) -> Estimate {
    let count = values.len();
    let n = count as f64;
    let mean = values.iter().sum::<f64>() / n;
    if count < 2 {
        return Estimate { mean, low: f64::NEG_INFINITY, high: f64::INFINITY, count };
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T95.get(count - 2).copied().unwrap_or(1.96);
    let half = t * (variance / n).sqrt();
    Estimate { mean, low: mean - half, high: mean + half, count }
}

/// From so many pairs on, signed ranks judge them: with fewer their interval has gaps.
const RANKED_MIN: usize = 10;
/// Wide enough to tell a loss of five hundredths from none.
const NARROW: f64 = 0.04;

/// Ratio of pairs taken one after the other, so that a slow drift of the machine falls out; made on the
/// logarithms. Of few pairs it is the geometric mean. Of more it is the median of all pairs' means, with the
/// interval of the signed-rank test (Hodges and Lehmann 1963; Hollander and Wolfe, chapter 3): on a machine
/// that others share, a moment of theirs spoils one pair, and a mean with it.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> Estimate {
    let logs: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a / b).ln()).collect();
    let log = if logs.len() < RANKED_MIN { estimate(&logs) } else { estimate_ranked(&logs) };
    Estimate { mean: log.mean.exp(), low: log.low.exp(), high: log.high.exp(), count: log.count }
}

/// Whether more pairs are of little use: asks for the interval's width alone and not for where it lies.
pub(super) fn is_narrow(ratio: &Estimate) -> bool {
    (ratio.high / ratio.low).ln() <= NARROW
}

fn estimate_ranked(values: &[f64]) -> Estimate {
    let count = values.len();
    let mut means: Vec<f64> = (0..count)
        .flat_map(|first| (first..count).map(move |second| f64::midpoint(values[first], values[second])))
        .collect();
    means.sort_by(f64::total_cmp);
    let n = count as f64;
    // The rank sum's normal approximation, which is good from ten pairs on.
    let cut = n * (n + 1.0) / 4.0 - 1.96 * (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
    let cut = cut.max(0.0) as usize;
    Estimate { mean: median(&means), low: means[cut], high: means[means.len() - 1 - cut], count }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The smallest value that `share` of all don't exceed.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_books() {
        // 1..=5: mean 3, deviation 1.5811, standard error 0.7071, t(4) = 2.776.
        let got = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((got.mean - 3.0).abs() < 1e-12 && (got.high - 4.9629).abs() < 1e-3, "{got:?}");
        assert!(estimate(&[1.0]).high.is_infinite());
        let many = estimate(&[1.0; 100]);
        assert_eq!((many.low, many.high), (1.0, 1.0));
    }

    #[test]
    fn a_common_drift_falls_out_of_a_ratio() {
        let theirs = [100.0, 80.0, 120.0, 90.0];
        let ours: Vec<f64> = theirs.iter().map(|value| value * 0.97).collect();
        let got = ratio(&ours, &theirs);
        assert!((got.mean - 0.97).abs() < 1e-9 && got.high - got.low < 1e-9, "{got:?}");
    }

    #[test]
    fn one_spoiled_pair_moves_little() {
        let theirs = [100.0; 12];
        let mut ours: Vec<f64> = (0..12).map(|at| 96.0 + 0.5 * f64::from(at % 5)).collect();
        let clean = ratio(&ours, &theirs);
        assert!(clean.low < 0.97 && 0.97 < clean.high && is_narrow(&clean), "{clean:?}");
        ours[3] = 40.0;
        let spoiled = ratio(&ours, &theirs);
        assert!((spoiled.mean - clean.mean).abs() < 0.005 && is_narrow(&spoiled), "{spoiled:?}");
        let few = ratio(&ours[..5], &theirs[..5]);
        assert!(!is_narrow(&few), "{few:?}");
    }

    #[test]
    fn ranked_intervals_are_those_of_the_books() {
        // For ten values the tables give the ninth of the 55 means from each end: 1, 1.5, 2, 2, 2.5, 2.5, 3, 3, 3.
        let got = estimate_ranked(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!((got.low, got.mean, got.high), (3.0, 5.5, 8.0), "{got:?}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.95), quantile(&values, 0.5)), (95.0, 50.0));
        assert_eq!(quantile(&values[..10], 0.95), 100.0, "of few the worst");
        assert_eq!(quantile(&[7.0], 0.0), 7.0);
        assert!(quantile(&[], 0.95).is_nan());
    }
}
