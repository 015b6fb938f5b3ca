//! Room in the cache: who may start, and who must step back when it runs out.
//!
//! All sequences share one pool of cells, one cell for each token. Reserving the longest possible
//! answer for each job would let only one run at a time, so jobs start when their prompt and a
//! little more fit; when the pool runs dry, the youngest gives its cells back and is read again later.

/// Cells beyond the prompt that must be free for a job to start.
pub const HEADROOM_TOKENS: u32 = 64;

/// The shared pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub cells: u32,
}

/// How much one job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Most tokens that it may generate; at least one.
    Fits { tokens_max: u32 },
    /// The window would have to have `requested` tokens.
    Overflow { requested: u32, available: u32 },
}

/// Whether a prompt leaves room for an answer. `tokens_max` 0 asks for what is left; more than is
/// left is cut to it (the answer then ends for its length, which is said).
pub fn fit(prompt_tokens: u32, tokens_max: u32, window: u32) -> Fit {
    let left = window.saturating_sub(prompt_tokens);
    if left == 0 {
        return Fit::Overflow { requested: prompt_tokens.saturating_add(1), available: window };
    }
    Fit::Fits { tokens_max: if tokens_max == 0 { left } else { tokens_max.min(left) } }
}

impl Pool {
    /// Whether a job with `tokens` to read and at most `more` to generate may start beside others that
    /// use `used` cells. Alone it always may: its window is the pool.
    pub fn admits(self, used: u32, tokens: u32, more: u32) -> bool {
        used == 0 || self.cells.saturating_sub(used) >= tokens.saturating_add(more.min(HEADROOM_TOKENS))
    }

    /// The jobs that must step back so that `wanted` more cells are there: youngest first, never the
    /// oldest. `used` holds the cells of each, oldest first; the answer holds indices into it.
    pub fn evict(self, used: &[u32], wanted: u32) -> Vec<usize> {
        let total: u32 = used.iter().sum();
        let mut short = total.saturating_add(wanted).saturating_sub(self.cells);
        let mut victims = Vec::new();
        for index in (1..used.len()).rev() {
            if short == 0 {
                break;
            }
            short = short.saturating_sub(used[index]);
            victims.push(index);
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prompt_that_leaves_no_room_says_both_numbers() {
        for (prompt, max, window, expected) in [
            (10, 0, 100, Fit::Fits { tokens_max: 90 }),
            (10, 5, 100, Fit::Fits { tokens_max: 5 }),
            (10, 500, 100, Fit::Fits { tokens_max: 90 }),
            (99, 0, 100, Fit::Fits { tokens_max: 1 }),
            (100, 1, 100, Fit::Overflow { requested: 101, available: 100 }),
            (250, 0, 100, Fit::Overflow { requested: 251, available: 100 }),
        ] {
            assert_eq!(fit(prompt, max, window), expected, "{prompt} {max} {window}");
        }
    }

    #[test]
    fn jobs_start_when_prompt_and_headroom_fit() {
        let pool = Pool { cells: 1000 };
        assert!(pool.admits(0, 999, 1));
        assert!(pool.admits(500, 400, 1000));
        assert!(!pool.admits(500, 450, 1000));
        assert!(pool.admits(500, 450, 50));
    }

    #[test]
    fn the_youngest_steps_back_first() {
        let pool = Pool { cells: 100 };
        assert_eq!(pool.evict(&[40, 30, 30], 0), Vec::<usize>::new());
        assert_eq!(pool.evict(&[40, 30, 30], 3), [2]);
        assert_eq!(pool.evict(&[40, 30, 30], 31), [2, 1]);
        assert_eq!(pool.evict(&[100], 1), Vec::<usize>::new(), "the oldest stays");
    }

    proptest! {
        #[test]
        fn after_stepping_back_there_is_room(
            used in prop::collection::vec(0_u32..400, 1..8),
            wanted in 0_u32..200,
        ) {
            let pool = Pool { cells: 1000 };
            let victims = pool.evict(&used, wanted);
            prop_assert!(!victims.contains(&0));
            let kept: u32 = used.iter().enumerate().filter(|(i, _)| !victims.contains(i)).map(|(_, n)| n).sum();
            prop_assert!(kept + wanted <= pool.cells, "{used:?} {wanted} {victims:?}");
        }
    }
}
