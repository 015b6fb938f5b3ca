//! Finds out when an answer repeats itself without end.
//!
//! Only what is exactly the same counts, token for token, block after block: lists with running numbers, tables
//! and code have lines that are alike, but not many that are the same. Where blocks without a single letter
//! are concerned (rows of zeros, rules, padding), much more is let pass, since programs and drawings hold such.

/// LIMIT: tokens of the longest block that is looked for: a long paragraph.
const PERIOD_TOKENS_MAX: usize = 512;
/// LIMIT: tokens remembered: enough to compare each new one with all periods, moved down now and then.
const HISTORY_TOKENS_MAX: usize = 4 * PERIOD_TOKENS_MAX;

/// How much must have come again for it to count as a loop.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Tokens that only repeated what stood one period before …
    tokens_min: usize,
    /// … and how often the block came again.
    times_min: usize,
}

/// With letters in the block: about half a page of the same.
const WORDS: Bound = Bound { tokens_min: 240, times_min: 5 };
/// Without: more than a board of 20 rows of zeros.
const SIGNS: Bound = Bound { tokens_min: 1200, times_min: 8 };

/// Watches one answer.
#[derive(Debug, Default)]
pub struct Watch {
    tokens: Vec<i32>,
    /// For each token, how many of those up to it have letters; counts from the start of the answer.
    letters: Vec<u32>,
    /// For each period (at its own place), how many tokens in a row have been the same as one period before.
    runs: Vec<u32>,
}

impl Watch {
    /// Takes the next token, and whether its text has letters. `true`: it is a loop.
    pub fn push(&mut self, token: i32, has_letters: bool) -> bool {
        if self.tokens.len() >= HISTORY_TOKENS_MAX {
            let old = self.tokens.len() - PERIOD_TOKENS_MAX;
            self.tokens.drain(..old);
            self.letters.drain(..old);
        }
        let seen = self.letters.last().copied().unwrap_or(0);
        self.letters.push(seen.saturating_add(u32::from(has_letters)));
        let reach = self.tokens.len().min(PERIOD_TOKENS_MAX);
        self.runs.resize(self.runs.len().max(reach), 0);
        for (run, earlier) in self.runs.iter_mut().zip(self.tokens.iter().rev()) {
            *run = if *earlier == token { run.saturating_add(1) } else { 0 };
        }
        self.tokens.push(token);
        (1..=reach).any(|period| self.is_loop(period))
    }

    fn is_loop(&self, period: usize) -> bool {
        let run = self.runs[period - 1] as usize;
        let bound = if run < WORDS.tokens_min.min(SIGNS.tokens_min) {
            return false;
        } else if self.has_letters(period) {
            WORDS
        } else {
            SIGNS
        };
        run >= bound.tokens_min.max(bound.times_min * period)
    }

    /// Whether one of the last `period` tokens has letters.
    fn has_letters(&self, period: usize) -> bool {
        let now = self.letters.last().copied().unwrap_or(0);
        let before = self.letters.len().checked_sub(period + 1).map_or(0, |place| self.letters[place]);
        now > before
    }
}

#[cfg(test)]
mod tests;
