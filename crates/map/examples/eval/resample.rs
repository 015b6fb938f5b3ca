//! Paired bootstrap: how sure a difference between two ways of searching is.

/// Samples that are drawn. Enough for two digits of a 95 % interval.
const SAMPLES: usize = 10_000;

/// A mean difference with its 95 % interval.
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The mean of `a - b`, query by query. The same queries are drawn again with the same numbers each time.
pub(crate) fn difference(a: &[f64], b: &[f64]) -> Interval {
    let each: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let count = each.len().max(1);
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % count
    };
    let mut means: Vec<f64> =
        (0..SAMPLES).map(|_| each.iter().map(|_| each[draw()]).sum::<f64>() / count as f64).collect();
    means.sort_by(f64::total_cmp);
    let mean = each.iter().sum::<f64>() / count as f64;
    Interval { mean, low: means[SAMPLES / 40], high: means[SAMPLES - 1 - SAMPLES / 40] }
}
