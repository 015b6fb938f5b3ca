//! How likely each of some options is behind a prompt, from the model's scores.
//!
//! What comes first of each option is judged by the scores behind the prompt, which all share. The rest is fed to
//! the model, several options in one step, and each score row judges what comes next.

use crate::pack;
use multiversion::multiversion;
use std::ops::Range;

/// The options of one job, and what is known of them.
#[derive(Debug)]
pub struct Options {
    tokens: Vec<Vec<i32>>,
    /// Tokens that end a turn; none when the end doesn't count.
    ends: Vec<i32>,
    logs: Vec<f64>,
    /// Options that go together in one step.
    groups: Vec<Range<usize>>,
    /// Of the groups, how many are done.
    done: usize,
    has_first: bool,
}

impl Options {
    /// `ends`: tokens that end a turn, where the end counts. At most `rows` rows of scores come from one step, and
    /// so many branches of the prompt can be in it.
    pub fn new(tokens: Vec<Vec<i32>>, ends: Vec<i32>, rows: usize, branches: usize) -> Self {
        let mut options =
            Self { logs: vec![0.0; tokens.len()], tokens, ends, groups: Vec::new(), done: 0, has_first: false };
        let lengths: Vec<usize> = (0..options.tokens.len()).map(|option| options.fed(option).len()).collect();
        options.groups = pack::groups(&lengths, rows, branches);
        // What is judged by the first scores alone needs no step.
        options.groups.retain(|group| lengths[group.clone()].iter().any(|length| *length > 0));
        options
    }

    /// What of an option must be fed so that all of it can be judged.
    pub fn fed(&self, option: usize) -> &[i32] {
        let tokens = &self.tokens[option];
        let last_counts = usize::from(self.ends.is_empty());
        &tokens[..tokens.len().saturating_sub(last_counts)]
    }

    /// The scores behind the prompt. Told again, they change nothing.
    pub fn first(&mut self, scores: &[f32]) {
        if std::mem::replace(&mut self.has_first, true) {
            return;
        }
        let all = log_sum(scores);
        for (log, tokens) in self.logs.iter_mut().zip(&self.tokens) {
            *log += tokens.first().map_or(0.0, |token| score_of(scores, *token) - all);
        }
    }

    /// What the scores behind the fed token at `place` of an option say of what comes next in it.
    pub fn judge(&self, option: usize, place: usize, scores: &[f32]) -> f64 {
        let all = log_sum(scores);
        let judged = match self.tokens[option].get(place + 1) {
            Some(token) => score_of(scores, *token),
            None => {
                let ends: Vec<f32> = self.ends.iter().filter_map(|end| score(scores, *end)).collect();
                log_sum(&ends)
            }
        };
        judged - all
    }

    /// Takes such a word into account.
    pub fn add(&mut self, option: usize, log: f64) {
        self.logs[option] += log;
    }

    /// Options for the next step; none when all are judged.
    pub fn group(&self) -> Option<Range<usize>> {
        self.groups.get(self.done).cloned()
    }

    /// The group is done.
    pub fn end_group(&mut self) {
        self.done += 1;
    }

    pub fn is_done(&self) -> bool {
        self.has_first && self.done >= self.groups.len()
    }

    /// Most tokens that one group has in the cache at once.
    pub fn cells(&self) -> usize {
        let of = |group: &Range<usize>| group.clone().map(|option| self.fed(option).len()).sum();
        self.groups.iter().map(of).max().unwrap_or(0)
    }

    /// Of each option: the logarithm of its probability, and the tokens that it is the sum over.
    pub fn likelihoods(&self) -> Vec<(f64, u32)> {
        let end = usize::from(!self.ends.is_empty());
        let count = |tokens: &Vec<i32>| u32::try_from(tokens.len() + end).unwrap_or(u32::MAX);
        self.logs.iter().copied().zip(self.tokens.iter().map(count)).collect()
    }
}

fn score(scores: &[f32], token: i32) -> Option<f32> {
    scores.get(usize::try_from(token).ok()?).copied()
}

fn score_of(scores: &[f32], token: i32) -> f64 {
    score(scores, token).map_or(f64::NEG_INFINITY, f64::from)
}

/// Numbers added up in single precision before they go into the sum: more would lose digits.
const BLOCK: usize = 256;
const LANES: usize = 16;

/// Logarithm of the sum of the exponentials: what the probabilities of a row are relative to.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub fn log_sum(scores: &[f32]) -> f64 {
    let highest = highest(scores);
    if !highest.is_finite() {
        return f64::from(highest);
    }
    let mut sum = 0.0_f64;
    for block in scores.chunks(BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let (rows, rest) = block.as_chunks::<LANES>();
        for row in rows {
            for (lane, score) in lanes.iter_mut().zip(row) {
                *lane += exp(score - highest);
            }
        }
        let rest: f32 = rest.iter().map(|score| exp(score - highest)).sum();
        sum += f64::from(lanes.iter().sum::<f32>() + rest);
    }
    f64::from(highest) + sum.ln()
}

/// The highest score, in lanes; of those that are no numbers nothing is said.
#[inline(always)]
fn highest(scores: &[f32]) -> f32 {
    let more = |one: f32, other: f32| if other > one { other } else { one };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (rows, rest) = scores.as_chunks::<LANES>();
    for row in rows {
        for (lane, score) in lanes.iter_mut().zip(row) {
            *lane = more(*lane, *score);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, more)
}

/// `e` to the power of a number not above 0, to seven digits. A row has up to hundreds of thousands of them, and
/// this form lets the compiler work on several at once.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Below this it is 0 for all purposes here.
    const LEAST: f32 = -126.0;
    let power = (x * std::f32::consts::LOG2_E).max(LEAST);
    #[expect(clippy::cast_possible_truncation, reason = "between -126 and 0")]
    let whole = (power - 0.5) as i32;
    let f = power - whole as f32;
    // 2^f for f from -1/2 to 1/2: its series.
    let fraction = 1.0
        + f * (std::f32::consts::LN_2
            + f * (0.240_226_5 + f * (0.055_504_11 + f * (0.009_618_129 + f * (0.001_333_356 + f * 0.000_154_035)))));
    #[expect(clippy::cast_sign_loss, reason = "between 1 and 127")]
    let scale = f32::from_bits(((whole + 127) as u32) << 23);
    scale * fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain_log_sum(scores: &[f32]) -> f64 {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(highest) + scores.iter().map(|s| f64::from(s - highest).exp()).sum::<f64>().ln()
    }

    /// A model whose scores are the same everywhere.
    fn judge(tokens: &[&[i32]], ends: &[i32], rows: usize, branches: usize, scores: &[f32]) -> Vec<(f64, u32)> {
        let tokens = tokens.iter().map(|option| option.to_vec()).collect();
        let mut options = Options::new(tokens, ends.to_vec(), rows, branches);
        options.first(scores);
        options.first(scores);
        while let Some(group) = options.group() {
            for option in group {
                for place in 0..options.fed(option).len() {
                    options.add(option, options.judge(option, place, scores));
                }
            }
            options.end_group();
        }
        assert!(options.is_done());
        options.likelihoods()
    }

    #[test]
    fn an_option_is_as_likely_as_all_its_tokens_together() {
        let scores = [0.5_f32, 0.25, 0.125, 0.125].map(f32::ln);
        let near = |made: Vec<(f64, u32)>, wanted: &[(f64, u32)]| {
            assert_eq!(made.len(), wanted.len());
            for ((log, count), (probability, wanted)) in made.iter().zip(wanted) {
                assert!((log.exp() - probability).abs() < 1e-6 && count == wanted, "{made:?}");
            }
        };
        near(judge(&[&[0], &[1, 0], &[2, 2, 2]], &[], 4, 2, &scores), &[(0.5, 1), (0.125, 2), (1.0 / 512.0, 3)]);
        // All ways to end count together.
        near(judge(&[&[0], &[1, 0]], &[2, 3], 4, 2, &scores), &[(0.125, 2), (0.03125, 3)]);
        // Only the first token counts: no step is needed.
        let alone = Options::new(vec![vec![0], vec![1]], vec![], 4, 2);
        assert_eq!((alone.group(), alone.cells()), (None, 0));
        assert!(!alone.is_done(), "the first scores are missing");
    }

    #[test]
    fn options_go_together_as_far_as_rows_and_branches_reach() {
        let options = |lengths: &[usize]| {
            let tokens = lengths.iter().map(|length| vec![1; *length]).collect();
            let options = Options::new(tokens, vec![9], 8, 3);
            (options.groups.clone(), options.cells())
        };
        assert_eq!(options(&[1, 1, 1, 1]), (vec![0..3, 3..4], 3));
        assert_eq!(options(&[5, 5, 20, 1]), (vec![0..1, 1..2, 2..3, 3..4], 20));
    }

    #[test]
    fn a_row_without_numbers_gives_no_number() {
        assert!(!log_sum(&[f32::NAN; 40]).is_finite());
        assert!(!log_sum(&[]).is_finite());
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_plain_arithmetic(scores in prop::collection::vec(-90.0_f32..40.0, 1..3000)) {
            prop_assert!((log_sum(&scores) - plain_log_sum(&scores)).abs() < 1e-5);
        }

        #[test]
        fn grouping_makes_no_difference(
            tokens in prop::collection::vec(prop::collection::vec(0_i32..20, 1..9), 1..12),
            scores in prop::collection::vec(-9.0_f32..9.0, 20),
            rows in 1_usize..20,
            branches in 1_usize..6,
        ) {
            let options: Vec<&[i32]> = tokens.iter().map(Vec::as_slice).collect();
            let (all, end) = (log_sum(&scores), f64::from(scores[7]));
            for (option, (log, count)) in judge(&options, &[7], rows, branches, &scores).into_iter().enumerate() {
                let plain: f64 = tokens[option].iter().map(|token| score_of(&scores, *token) - all).sum();
                prop_assert!((log - (plain + end - all)).abs() < 1e-4);
                prop_assert_eq!(count as usize, tokens[option].len() + 1);
            }
        }
    }
}
