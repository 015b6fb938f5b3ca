//! The products and the attention that a backend's are judged by: plain Rust, in double precision.

use crate::ffi::{Attention, AttentionInputs};

/// `weights` row by row (`rows` × `depth`), `activations` column by column; the result column by column.
pub(crate) fn product(weights: &[f32], activations: &[f32], depth: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(weights.len() / depth * (activations.len() / depth));
    for column in activations.chunks_exact(depth) {
        out.extend(weights.chunks_exact(depth).map(|row| dot(row, column)));
    }
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums side by side let the compiler use vector registers.
    let mut sums = [0.0_f64; 8];
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for i in 0..8 {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Softmax of the scores of the cells that a token looks at, over their values, for each token and head.
pub(crate) fn attention(of: Attention, inputs: &AttentionInputs) -> Vec<f64> {
    let Attention { tokens, heads, shared, dim, cells } = of;
    let mut out = Vec::with_capacity(tokens * heads * dim);
    for (token, seen) in inputs.seen.chunks_exact(cells).enumerate() {
        for head in 0..heads {
            let query = &inputs.queries[(token * heads + head) * dim..][..dim];
            let place = |cell: usize| (cell * shared + head / (heads / shared)) * dim;
            #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
            let score = |cell: usize| dot(query, &inputs.keys[place(cell)..][..dim]) / (dim as f64).sqrt();
            let scores: Vec<(usize, f64)> =
                (0..cells).filter(|&cell| seen[cell]).map(|cell| (cell, score(cell))).collect();
            let most = scores.iter().fold(f64::NEG_INFINITY, |most, (_, score)| most.max(*score));
            let (mut sums, mut total) = (vec![0.0; dim], 0.0);
            for (cell, score) in scores {
                let share = (score - most).exp();
                total += share;
                for (sum, &value) in sums.iter_mut().zip(&inputs.values[place(cell)..][..dim]) {
                    *sum += share * f64::from(value);
                }
            }
            out.extend(sums.into_iter().map(|sum| if total > 0.0 { sum / total } else { 0.0 }));
        }
    }
    out
}

/// Largest difference, relative to the largest result. Infinite when something isn't a number.
pub(crate) fn error_relative(expected: &[f64], got: &[f32]) -> f64 {
    if expected.len() != got.len() || got.iter().any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(0.0_f64, |max, value| max.max(value.abs()));
    let worst = expected.iter().zip(got).fold(0.0_f64, |max, (&e, &g)| max.max((e - f64::from(g)).abs()));
    if largest > 0.0 { worst / largest } else { worst }
}

/// Numbers between -1 and 1, the same every time.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..count)
        .map(|_| {
            // xorshift64*: plenty for test data.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = u16::try_from((state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 48) & 0xFFFF).unwrap_or(0);
            f32::from(bits) / 32_768.0 - 1.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_product_by_hand() {
        // [1 2 3; 4 5 6] × [1 0 -1]ᵀ and [2 2 2]ᵀ
        let got = product(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 0.0, -1.0, 2.0, 2.0, 2.0], 3);
        assert_eq!(got, [-2.0, -2.0, 12.0, 30.0]);
    }

    #[test]
    fn long_rows_are_summed_whole() {
        let ones = vec![1.0; 19];
        assert_eq!(product(&ones, &ones, 19), [19.0]);
    }

    #[test]
    fn a_small_attention_by_hand() {
        let of = Attention { tokens: 2, heads: 2, shared: 1, dim: 1, cells: 3 };
        let three = 3.0_f32.ln();
        let inputs = AttentionInputs {
            queries: vec![1.0, 0.0, 1.0, 1.0],
            keys: vec![0.0, three, 7.0],
            values: vec![1.0, 2.0, 50.0],
            seen: vec![true, true, false, false, false, false],
        };
        // By 1 and 3 of 4, by halves; the second token sees nothing.
        let got = attention(of, &inputs);
        assert!(got.iter().zip([1.75, 1.5, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn errors_are_found() {
        assert_eq!(error_relative(&[2.0, -4.0], &[2.0, -4.0]), 0.0);
        assert_eq!(error_relative(&[2.0, -4.0], &[1.0, -4.0]), 0.25);
        assert_eq!(error_relative(&[2.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(error_relative(&[2.0], &[]), f64::INFINITY);
    }

    #[test]
    fn noise_is_spread_and_repeats() {
        let a = noise(1000, 7);
        assert_eq!(a, noise(1000, 7));
        assert_ne!(a, noise(1000, 8));
        assert!(a.iter().any(|&v| v < -0.9) && a.iter().any(|&v| v > 0.9));
        assert!(a.iter().all(|v| v.abs() <= 1.0));
    }
}
