//! Continuous batching: every running answer gets its one token in every step, and prompts are
//! read in chunks with what is left of the batch.

/// What one sequence wants from the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The sequence is free.
    Idle,
    /// One token of an answer.
    Decode,
    /// Tokens of a prompt that the model hasn't seen yet; at least one.
    Prefill { pending: u32 },
}

/// How many tokens of one sequence go into the step. Always at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Index into the slice that was asked about.
    pub sequence: usize,
    pub tokens: u32,
}

/// What the step may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most tokens in one step.
    pub batch_tokens: u32,
    /// Most prompt tokens in a step that also carries a running answer: it is what that answer
    /// waits for. At least one is always granted, so that prompts can't starve.
    pub prefill_tokens_beside: u32,
}

/// Remembers whose turn it is, nothing else.
#[derive(Debug, Default)]
pub struct Composer {
    next: usize,
}

impl Composer {
    /// The next batch: first one token for every running answer, then prompt tokens, divided evenly
    /// between the prompts (a short one's leftover goes to the others). When there is room for fewer
    /// than all, turns rotate, so that every sequence is served within as many steps as there are.
    pub fn compose(&mut self, work: &[Work], budget: Budget) -> Vec<Share> {
        let mut shares = Vec::new();
        let mut left = budget.batch_tokens;
        let turn: Vec<usize> = (0..work.len()).map(|i| (self.next + i) % work.len()).collect();
        for &sequence in turn.iter().filter(|&&i| work[i] == Work::Decode) {
            if left == 0 {
                self.next = sequence;
                return shares;
            }
            shares.push(Share { sequence, tokens: 1 });
            left -= 1;
        }
        if !shares.is_empty() {
            left = left.min(budget.prefill_tokens_beside.max(1));
        }
        let prompts: Vec<(usize, u32)> = turn
            .iter()
            .filter_map(|&i| match work[i] {
                Work::Prefill { pending } if pending > 0 => Some((i, pending)),
                _ => None,
            })
            .collect();
        self.next = prompts.first().map_or(0, |(first, _)| (first + 1) % work.len());
        shares.extend(divide(&prompts, left).into_iter().filter(|share| share.tokens > 0));
        shares
    }
}

/// Fair division: nobody gets more than it wants, and nobody gets less than another that still wants.
fn divide(prompts: &[(usize, u32)], budget: u32) -> Vec<Share> {
    let mut shares: Vec<Share> = prompts.iter().map(|&(sequence, _)| Share { sequence, tokens: 0 }).collect();
    let mut left = budget;
    loop {
        let hungry: Vec<usize> = (0..prompts.len()).filter(|&i| shares[i].tokens < prompts[i].1).collect();
        let Ok(mouths) = u32::try_from(hungry.len()) else { return shares };
        if mouths == 0 || left == 0 {
            return shares;
        }
        let each = (left / mouths).max(1);
        for i in hungry {
            let more = each.min(prompts[i].1 - shares[i].tokens).min(left);
            shares[i].tokens += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: Work = Work::Decode;
    const I: Work = Work::Idle;

    fn p(pending: u32) -> Work {
        Work::Prefill { pending }
    }

    fn shares(work: &[Work], batch_tokens: u32, beside: u32) -> Vec<(usize, u32)> {
        let budget = Budget { batch_tokens, prefill_tokens_beside: beside };
        Composer::default().compose(work, budget).into_iter().map(|s| (s.sequence, s.tokens)).collect()
    }

    #[test]
    fn running_answers_come_first_and_prompts_share_the_rest() {
        assert_eq!(shares(&[], 8, 8), []);
        assert_eq!(shares(&[I, I], 8, 8), []);
        assert_eq!(shares(&[p(100)], 64, 8), [(0, 64)]);
        assert_eq!(shares(&[p(100), D], 64, 8), [(1, 1), (0, 8)]);
        assert_eq!(shares(&[p(100), p(100)], 64, 8), [(0, 32), (1, 32)]);
        assert_eq!(shares(&[p(5), p(100)], 64, 8), [(0, 5), (1, 59)]);
        assert_eq!(shares(&[D, D, D], 2, 8), [(0, 1), (1, 1)]);
        assert_eq!(shares(&[D, p(9)], 64, 0), [(0, 1), (1, 1)]);
    }

    #[test]
    fn turns_rotate_when_not_all_fit() {
        let mut composer = Composer::default();
        let budget = Budget { batch_tokens: 2, prefill_tokens_beside: 2 };
        let mut served = [0; 5];
        for _ in 0..5 {
            for share in composer.compose(&[D; 5], budget) {
                served[share.sequence] += 1;
            }
        }
        assert_eq!(served, [2; 5]);
        let mut read = [0; 3];
        for _ in 0..6 {
            for share in composer.compose(&[p(50); 3], Budget { batch_tokens: 1, prefill_tokens_beside: 1 }) {
                read[share.sequence] += share.tokens;
            }
        }
        assert_eq!(read, [2; 3]);
    }

    fn work() -> impl Strategy<Value = Work> {
        prop_oneof![Just(I), Just(D), (1_u32..2000).prop_map(p)]
    }

    proptest! {
        #[test]
        fn a_batch_is_never_too_big_and_asks_for_no_more_than_there_is(
            work in prop::collection::vec(work(), 0..12),
            batch_tokens in 1_u32..600,
            beside in 0_u32..600,
            next in 0_usize..12,
        ) {
            let mut composer = Composer { next };
            let shares = composer.compose(&work, Budget { batch_tokens, prefill_tokens_beside: beside });
            let total: u32 = shares.iter().map(|s| s.tokens).sum();
            prop_assert!(total <= batch_tokens);
            let mut seen = std::collections::HashSet::new();
            for share in &shares {
                prop_assert!(share.tokens > 0 && seen.insert(share.sequence));
                match work[share.sequence] {
                    Work::Idle => prop_assert!(false, "a free sequence was served"),
                    Work::Decode => prop_assert_eq!(share.tokens, 1),
                    Work::Prefill { pending } => prop_assert!(share.tokens <= pending),
                }
            }
            // Something is done whenever something can be.
            prop_assert_eq!(shares.is_empty(), work.iter().all(|w| *w == Work::Idle));
            // With room for all, no running answer is left out.
            let running = work.iter().filter(|w| **w == Work::Decode).count();
            if running < batch_tokens as usize {
                prop_assert_eq!(shares.iter().filter(|s| work[s.sequence] == Work::Decode).count(), running);
                if running > 0 {
                    let read: u32 = total - u32::try_from(running).unwrap();
                    prop_assert!(read <= beside.max(1));
                }
            }
        }

        #[test]
        fn every_prompt_is_read_to_its_end(
            mut pending in prop::collection::vec(0_u32..300, 1..6),
            batch_tokens in 1_u32..64,
        ) {
            let mut composer = Composer::default();
            let total: u32 = pending.iter().sum();
            for _ in 0..=total {
                let work: Vec<Work> = pending.iter().map(|&n| if n == 0 { I } else { p(n) }).collect();
                let budget = Budget { batch_tokens, prefill_tokens_beside: batch_tokens };
                for share in composer.compose(&work, budget) {
                    pending[share.sequence] -= share.tokens;
                }
            }
            prop_assert!(pending.iter().all(|&n| n == 0), "{pending:?}");
        }
    }
}
