//! The arithmetic of the vector scan: signs, 8-bit codes, distances. Pure.
//!
//! The loops are plain Rust that the compiler turns into vector instructions; `multiversion` has it compile them
//! for several kinds of processor and takes the best that there is at run time.

use crate::score::Score;
use multiversion::multiversion;
use std::cmp::Reverse;

/// 64-bit words of signs for one vector.
pub(crate) fn words_of(dimensions: usize) -> usize {
    dimensions.div_ceil(64)
}

/// One bit for each value: whether it is above zero.
pub(crate) fn signs(vector: &[f32]) -> Vec<u64> {
    let word =
        |values: &[f32]| values.iter().enumerate().fold(0, |word, (at, value)| word | (u64::from(*value > 0.0) << at));
    vector.chunks(64).map(word).collect()
}

/// An 8-bit copy: each value is `code * scale`.
pub(crate) fn quantize(vector: &[f32], codes: &mut Vec<u8>) -> f32 {
    let top = vector.iter().fold(0f32, |top, value| top.max(value.abs()));
    let scale = if top > 0.0 && top.is_finite() { top / 127.0 } else { 1.0 };
    codes.extend(vector.iter().map(|value| ((value / scale).round() as i8).cast_unsigned()));
    scale
}

/// A question's 8-bit copy, as wide as the product with it needs.
pub(crate) fn widened(vector: &[f32]) -> Vec<i16> {
    let mut codes = Vec::with_capacity(vector.len());
    quantize(vector, &mut codes);
    codes.into_iter().map(|code| i16::from(code.cast_signed())).collect()
}

/// In how many signs each row differs from the question.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vpopcntdq+popcnt", "x86_64+avx2+bmi2+popcnt"))]
pub(crate) fn distances(rows: &[u8], question: &[u64], out: &mut [u16]) {
    for (row, out) in rows.chunks_exact(question.len() * 8).zip(out) {
        let mut differing = 0;
        for (word, asked) in row.as_chunks::<8>().0.iter().zip(question) {
            differing += (u64::from_le_bytes(*word) ^ asked).count_ones();
        }
        *out = differing as u16;
    }
}

/// A row of codes begins with its scale.
pub(crate) const SCALE_BYTES: usize = 4;

/// A row's scale.
pub(crate) fn scale(row: &[u8]) -> f32 {
    row.first_chunk().map_or(0.0, |four| f32::from_le_bytes(*four))
}

/// The product of each row of codes with the question's; without the scales.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(crate) fn products(rows: &[u8], question: &[i16], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(SCALE_BYTES + question.len()).zip(out) {
        *out = row[SCALE_BYTES..]
            .iter()
            .zip(question)
            .map(|(code, asked)| i32::from(code.cast_signed()) * i32::from(*asked))
            .sum();
    }
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    let (mut product, mut left, mut right) = (0f32, 0f32, 0f32);
    for (a, b) in a.iter().zip(b) {
        product += a * b;
        left += a * a;
        right += b * b;
    }
    if left > 0.0 && right > 0.0 { product / (left.sqrt() * right.sqrt()) } else { 0.0 }
}

/// The best of many, in bounded memory. `K` is smaller for better.
#[derive(Debug)]
pub(crate) struct Best<K> {
    kept: Vec<(K, u32)>,
    limit: usize,
    /// What is no better than this can't be among the best.
    bound: Option<K>,
}

impl<K: Ord + Copy> Best<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: Vec::with_capacity(limit.saturating_mul(2).min(1 << 16)), limit, bound: None }
    }

    pub(crate) fn offer(&mut self, key: K, id: u32) {
        if self.bound.is_some_and(|bound| key > bound) || self.limit == 0 {
            return;
        }
        self.kept.push((key, id));
        if self.kept.len() >= self.limit * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.kept.len() > self.limit {
            self.kept.select_nth_unstable(self.limit - 1);
            self.kept.truncate(self.limit);
            self.bound = self.kept.last().map(|(key, _)| *key);
        }
    }

    /// Best first; equal keys by id.
    pub(crate) fn finish(mut self) -> Vec<(K, u32)> {
        self.cut();
        self.kept.sort_unstable();
        self.kept
    }
}

/// A score as a key of [`Best`]: the higher, the better.
pub(crate) type Descending = Reverse<Score>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn eight_bits_keep_the_product(a in prop::collection::vec(-1f32..1.0, 384), b in prop::collection::vec(-1f32..1.0, 384)) {
            let mut codes = vec![0; SCALE_BYTES];
            let scale = quantize(&a, &mut codes) * quantize(&b, &mut Vec::new());
            let mut out = [0];
            products(&codes, &widened(&b), &mut out);
            let product: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            prop_assert!((out[0] as f32 * scale - product).abs() < 1.0, "{product}");
        }

        #[test]
        fn distances_count_differing_signs(a in prop::collection::vec(-1f32..1.0, 100), b in prop::collection::vec(-1f32..1.0, 100)) {
            let mut out = [0];
            distances(&bytes(&signs(&a)), &signs(&b), &mut out);
            let differing = a.iter().zip(&b).filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
            prop_assert_eq!(usize::from(out[0]), differing);
        }

        #[test]
        fn the_best_are_those_of_a_full_sort(keys in prop::collection::vec(0u16..50, 0..300), limit in 0usize..40) {
            let mut best = Best::new(limit);
            let mut all: Vec<(u16, u32)> = keys.iter().copied().zip(0..).collect();
            all.iter().for_each(|(key, id)| best.offer(*key, *id));
            all.sort_unstable();
            all.truncate(limit);
            prop_assert_eq!(best.finish(), all);
        }
    }

    #[test]
    fn a_cosine_needs_no_unit_length() {
        assert!((cosine(&[3.0, 4.0], &[6.0, 8.0]) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), 0.0);
    }
}
