//! How many prompt tokens fit into a step of a given length.
//!
//! Learned from the steps themselves: a small model reads hundreds of tokens in the time that a big
//! one needs for ten. Beside running answers a step must be short, or they stutter; alone it may be
//! longer, but not so long that nobody hears how far the reading has come.

/// LIMIT: below this a step is mostly overhead.
const TOKENS_MIN: u32 = 16;

/// Keeps the smoothed cost of one prompt token.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    token_us: Option<f64>,
}

impl Pace {
    /// Tells what a step cost. Steps too small to say anything about prompts are ignored.
    pub fn observe(&mut self, tokens: u32, took_us: u64) {
        if tokens < TOKENS_MIN {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one step are far below 2^53")]
        let now = took_us as f64 / f64::from(tokens);
        self.token_us = Some(self.token_us.map_or(now, |before| 0.7 * before + 0.3 * now));
    }

    /// What so many prompt tokens cost, about, in microseconds; 0 before anything was observed.
    pub fn cost_us(&self, tokens: u32) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from a float saturates, and both numbers are positive"
        )]
        self.token_us.map_or(0, |token_us| (token_us * f64::from(tokens)) as u64)
    }

    /// What one prompt token costs, in microseconds, once it is known.
    pub fn token_us(&self) -> Option<f64> {
        self.token_us
    }

    /// Prompt tokens that take about `step_us`; `unknown` before anything was observed.
    pub fn tokens_within(&self, step_us: u32, unknown: u32) -> u32 {
        let Some(token_us) = self.token_us else { return unknown };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from a float saturates, and both numbers are positive"
        )]
        let fit = (f64::from(step_us) / token_us.max(0.01)) as u32;
        fit.max(TOKENS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_models_read_more_per_step_than_slow_ones() {
        let mut pace = Pace::default();
        assert_eq!(pace.tokens_within(100_000, 64), 64);
        pace.observe(1, 5_000_000);
        assert_eq!(pace.tokens_within(100_000, 64), 64, "a single token says nothing");
        pace.observe(500, 250_000);
        assert_eq!(pace.tokens_within(100_000, 64), 200);
        assert_eq!(pace.tokens_within(1_000_000, 64), 2000);
        assert_eq!((pace.cost_us(1000), Pace::default().cost_us(1000)), (500_000, 0));
        for _ in 0..50 {
            pace.observe(64, 1_600_000);
        }
        assert_eq!(pace.tokens_within(100_000, 64), TOKENS_MIN, "never less than is worth a step");
        for _ in 0..50 {
            pace.observe(512, 0);
        }
        assert!(pace.tokens_within(100_000, 64) > 100_000);
    }
}
