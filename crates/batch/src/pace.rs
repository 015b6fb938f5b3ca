//! How many prompt tokens may join a step without making running answers stutter.
//!
//! Learned from the steps themselves: a small model reads hundreds of tokens in the time that a big
//! one needs for ten.

/// LIMIT: below this a step is mostly overhead.
const TOKENS_MIN: u32 = 16;
/// Before anything is known.
const TOKENS_FIRST: u32 = 64;

/// Keeps the smoothed cost of one prompt token.
#[derive(Debug, Clone)]
pub struct Pace {
    step_us_max: u32,
    token_us: Option<f64>,
}

impl Pace {
    /// `step_us_max`: how long a step may take while an answer runs beside it.
    pub fn new(step_us_max: u32) -> Self {
        Self { step_us_max, token_us: None }
    }

    /// Tells what a step cost. Steps too small to say anything about prompts are ignored.
    pub fn observe(&mut self, tokens: u32, took_us: u64) {
        if tokens < TOKENS_MIN {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one step are far below 2^53")]
        let now = took_us as f64 / f64::from(tokens);
        self.token_us = Some(self.token_us.map_or(now, |before| 0.7 * before + 0.3 * now));
    }

    /// Prompt tokens that fit into the time.
    pub fn prefill_tokens(&self) -> u32 {
        let Some(token_us) = self.token_us else { return TOKENS_FIRST };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast from a float saturates, and both numbers are positive"
        )]
        let fit = (f64::from(self.step_us_max) / token_us.max(0.01)) as u32;
        fit.max(TOKENS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_models_read_more_per_step_than_slow_ones() {
        let mut pace = Pace::new(100_000);
        assert_eq!(pace.prefill_tokens(), TOKENS_FIRST);
        pace.observe(1, 5_000_000);
        assert_eq!(pace.prefill_tokens(), TOKENS_FIRST, "a single token says nothing");
        pace.observe(500, 250_000);
        assert_eq!(pace.prefill_tokens(), 200);
        for _ in 0..50 {
            pace.observe(64, 1_600_000);
        }
        assert_eq!(pace.prefill_tokens(), TOKENS_MIN, "never less than is worth a step");
        for _ in 0..50 {
            pace.observe(512, 0);
        }
        assert!(pace.prefill_tokens() > 100_000);
    }
}
