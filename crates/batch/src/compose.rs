//! Continuous batching: every running answer gets its one token in every step, and prompts are
//! read in chunks with what is left of the batch, or in steps between.

use crate::blend::Part;

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
    /// Which of the two kinds the step is made of, when both wait.
    pub part: Part,
}

/// A prompt that got nothing in so many steps comes first in the next one, however long it is.
pub const PASSED_STEPS_MAX: u32 = 8;

/// ggml's attention works on tiles of so many rows on a processor, and each costs as if it were full; fewer rows
/// than one tile go a way of their own that takes nearly twice as long a row (1,500 tokens back).
const TILE_ROWS: u32 = 64;

/// How many prompt tokens go beside so many answers: those that were granted, or a few more or fewer to fill
/// the last tile.
fn whole_tiles(answers: u32, granted: u32) -> u32 {
    let rows = answers.saturating_add(granted);
    let (fewer, more) = (rows / TILE_ROWS * TILE_ROWS, rows.div_ceil(TILE_ROWS).saturating_mul(TILE_ROWS));
    // To get one tile at all is worth a longer step.
    let longer = if fewer == 0 { granted / 3 } else { granted / 8 };
    let rows = if more.saturating_sub(answers) <= granted.saturating_add(longer) { more } else { fewer };
    if rows > answers { rows - answers } else { granted }
}

/// Rows that ggml multiplies at once with rearranged weights; each of the last few, where they are fewer, costs as much as
/// all weights cost to read.
const GROUP_ROWS: u32 = 4;

/// How many prompt tokens go into a step of at most so many: as many as into the steps that follow, so that no small one is
/// left over, which costs nearly as much as a large one; in whole tiles, or at least in whole groups, where that fits.
fn even_steps(pending: u32, most: u32) -> u32 {
    if pending <= most || most == 0 {
        return most;
    }
    let steps = pending.div_ceil(most);
    let each = pending.div_ceil(steps);
    let whole = |rows: u32| each.div_ceil(rows).saturating_mul(rows);
    let last = |tokens: u32| pending.saturating_sub(tokens.saturating_mul(steps - 1));
    let fits = |tokens: &u32| *tokens <= most && last(*tokens) >= each / 2;
    [TILE_ROWS, GROUP_ROWS].map(whole).into_iter().find(fits).unwrap_or(each)
}

/// What running answers wait for one prompt, at a time: text comes about as fast as people read.
const STEP_BESIDE_US: u32 = 200_000;
/// What they wait more for each further prompt.
const STEP_MORE_US: u32 = 100_000;
/// LIMIT: how long text may stand still, however many prompts wait.
const STEP_BESIDE_US_MAX: u32 = 400_000;

/// How long a step may take that reads prompts beside running answers. Who waits for his prompt waits as much as
/// who waits for his next token, so the time grows with the prompts. Larger pieces are read faster, too: of a burst
/// of questions all are answered sooner when none waits for pieces beside the first.
pub fn step_beside_us(work: &[Work]) -> u32 {
    let prompts = work.iter().filter(|work| matches!(work, Work::Prefill { .. })).count();
    let more = u32::try_from(prompts.saturating_sub(1)).unwrap_or(u32::MAX).saturating_mul(STEP_MORE_US);
    STEP_BESIDE_US.saturating_add(more).min(STEP_BESIDE_US_MAX)
}

/// Remembers whose turn it is and who was passed over, nothing else.
#[derive(Debug, Default)]
pub struct Composer {
    next: usize,
    /// For each sequence: steps since its prompt last got a token.
    passed: Vec<u32>,
}

impl Composer {
    /// The next batch: first one token for every running answer, then prompt tokens, for the prompt with the
    /// least left to read first: a short question isn't kept waiting by a long document. Who is passed over
    /// for [`PASSED_STEPS_MAX`] steps comes before all others once, so that a long prompt gets at least one
    /// step in so many and one, however many short ones come. When there isn't room for all running answers,
    /// turns rotate, so that each is served within as many steps as there are.
    pub fn compose(&mut self, work: &[Work], budget: Budget) -> Vec<Share> {
        let mut shares = Vec::new();
        let mut left = budget.batch_tokens;
        let turn: Vec<usize> = (0..work.len()).map(|i| (self.next + i) % work.len()).collect();
        let answers = turn.iter().filter(|&&i| work[i] == Work::Decode);
        let beside = answers.clone().next().is_some();
        for &sequence in answers.filter(|_| budget.part != Part::Prompts) {
            if left == 0 {
                self.next = sequence;
                self.note(work, &shares);
                return shares;
            }
            shares.push(Share { sequence, tokens: 1 });
            left -= 1;
        }
        if budget.part == Part::Answers && beside {
            // Prompts are passed over in steps that read, not in those between.
            return shares;
        }
        if beside {
            let answers = u32::try_from(shares.len()).unwrap_or(u32::MAX);
            left = left.min(whole_tiles(answers, budget.prefill_tokens_beside).max(1));
        }
        let pending = |sequence: usize| match work[sequence] {
            Work::Prefill { pending } => pending,
            Work::Idle | Work::Decode => 0,
        };
        let mut prompts: Vec<usize> = turn.into_iter().filter(|&i| pending(i) > 0).collect();
        if !beside {
            left = even_steps(prompts.iter().fold(0, |sum: u32, &i| sum.saturating_add(pending(i))), left);
        }
        self.next = prompts.first().map_or(0, |first| (first + 1) % work.len());
        // Stable: among equals the turn decides.
        prompts.sort_by_key(|&i| {
            let passed = self.passed.get(i).copied().unwrap_or(0);
            if passed >= PASSED_STEPS_MAX { (0, u32::MAX - passed) } else { (1, pending(i)) }
        });
        for sequence in prompts {
            let tokens = pending(sequence).min(left);
            if tokens > 0 {
                shares.push(Share { sequence, tokens });
                left -= tokens;
            }
        }
        self.note(work, &shares);
        shares
    }

    /// Counts the prompts that got nothing.
    fn note(&mut self, work: &[Work], shares: &[Share]) {
        self.passed.resize(work.len(), 0);
        for (sequence, (passed, work)) in self.passed.iter_mut().zip(work).enumerate() {
            let reads = matches!(work, Work::Prefill { .. });
            let served = shares.iter().any(|share| share.sequence == sequence);
            *passed = if reads && !served { passed.saturating_add(1) } else { 0 };
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
        let budget = Budget { batch_tokens, prefill_tokens_beside: beside, part: Part::Both };
        Composer::default().compose(work, budget).into_iter().map(|s| (s.sequence, s.tokens)).collect()
    }

    #[test]
    fn running_answers_come_first_then_the_shortest_prompt() {
        assert_eq!(shares(&[], 8, 8), []);
        assert_eq!(shares(&[I, I], 8, 8), []);
        assert_eq!(shares(&[p(100)], 64, 8), [(0, 64)]);
        assert_eq!(shares(&[p(100), D], 64, 8), [(1, 1), (0, 8)]);
        assert_eq!(shares(&[p(100), p(100)], 64, 8), [(0, 52)]);
        assert_eq!(shares(&[p(100), p(5)], 64, 8), [(1, 5), (0, 59)]);
        assert_eq!(shares(&[p(6000), p(40), D, p(20)], 512, 40), [(2, 1), (3, 20), (1, 20)]);
        assert_eq!(shares(&[D, D, D], 2, 8), [(0, 1), (1, 1)]);
        assert_eq!(shares(&[D, p(9)], 64, 0), [(0, 1), (1, 1)]);
    }

    #[test]
    fn prompts_fill_whole_tiles() {
        for (answers, granted, taken) in [
            (0, 190, 192),
            (4, 190, 188),
            (7, 50, 57),
            (1, 40, 40),
            (2, 200, 190),
            (9, 512, 567),
            (70, 50, 50),
            (70, 56, 58),
            (0, 0, 0),
        ] {
            assert_eq!(whole_tiles(answers, granted), taken, "{granted} beside {answers}");
        }
        assert!(whole_tiles(u32::MAX, u32::MAX) > 0);
    }

    #[test]
    fn no_small_step_is_left_over() {
        let steps = |mut pending: u32, most: u32| {
            let mut steps = Vec::new();
            while pending > 0 {
                steps.push(even_steps(pending, most).min(pending));
                pending -= steps[steps.len() - 1];
            }
            steps
        };
        assert_eq!(steps(256, 84), [64; 4]);
        assert_eq!(steps(64, 84), [64]);
        assert_eq!(steps(513, 512), [320, 193]);
        assert_eq!(steps(129, 128), [68, 61]);
        assert_eq!(steps(257, 128), [88, 88, 81]);
        assert_eq!(steps(65, 64), [36, 29]);
        assert_eq!(steps(9, 3), [3; 3]);
        assert_eq!(steps(3, 1), [1; 3]);
        assert_eq!(steps(6000, 512), [[512; 10].as_slice(), &[448, 432]].concat());
        assert_eq!(even_steps(5, 0), 0);
        assert!(even_steps(u32::MAX, u32::MAX - 1) >= 1 << 31);
        // Fewer than sixteen are never granted.
        for (pending, most) in (1..=600).flat_map(|pending| (16..=140).map(move |most| (pending, most))) {
            let taken = steps(pending, most);
            assert!(taken.iter().all(|tokens| *tokens <= most), "{pending} {most}: {taken:?}");
            assert_eq!(
                taken.len(),
                pending.div_ceil(most) as usize,
                "no more steps than needed: {pending} {most} {taken:?}"
            );
            let least = pending.div_ceil(taken.len() as u32) / 3;
            assert!(taken.iter().all(|tokens| *tokens >= least), "{pending} {most}: {taken:?}");
        }
        assert_eq!(shares(&[p(300), p(30)], 200, 8), [(1, 30), (0, 162)]);
    }

    #[test]
    fn answers_and_prompts_take_turns_where_they_are_apart() {
        let step = |composer: &mut Composer, part| {
            let budget = Budget { batch_tokens: 512, prefill_tokens_beside: 64, part };
            let shares = composer.compose(&[D, p(100), D, p(200)], budget);
            shares.into_iter().map(|s| (s.sequence, s.tokens)).collect::<std::collections::BTreeMap<_, _>>()
        };
        let of = |shares: &[(usize, u32)]| shares.iter().copied().collect();
        let mut composer = Composer::default();
        assert_eq!(step(&mut composer, Part::Prompts), of(&[(1, 64)]));
        for _ in 0..=PASSED_STEPS_MAX {
            assert_eq!(step(&mut composer, Part::Answers), of(&[(0, 1), (2, 1)]));
        }
        assert_eq!(step(&mut composer, Part::Prompts), of(&[(1, 64)]), "steps between aren't counted");
        assert_eq!(step(&mut composer, Part::Both), of(&[(0, 1), (2, 1), (1, 62)]));
        // Where only one kind waits, there is nothing to be apart from.
        let all = |work: &[Work], part| {
            let budget = Budget { batch_tokens: 512, prefill_tokens_beside: 64, part };
            Composer::default().compose(work, budget).len()
        };
        assert_eq!((all(&[p(9)], Part::Answers), all(&[p(9)], Part::Prompts)), (1, 1));
    }

    #[test]
    fn a_step_is_as_long_as_those_who_wait_are_many() {
        assert_eq!(step_beside_us(&[D, p(6000), I]), 200_000);
        assert_eq!(step_beside_us(&[D, D, D, p(1), p(9)]), 300_000);
        assert_eq!(step_beside_us(&[D, p(9), p(9), p(9), p(9), p(9), p(9), p(9)]), STEP_BESIDE_US_MAX);
        assert_eq!(step_beside_us(&[D, D]), 200_000, "asked without a prompt, it says no nonsense");
    }

    #[test]
    fn turns_rotate_when_not_all_fit() {
        let mut composer = Composer::default();
        let budget = Budget { batch_tokens: 2, prefill_tokens_beside: 2, part: Part::Both };
        let mut served = [0; 5];
        for _ in 0..5 {
            for share in composer.compose(&[D; 5], budget) {
                served[share.sequence] += 1;
            }
        }
        assert_eq!(served, [2; 5]);
    }

    /// Ten questions of 40 tokens come while 6,000 are read, with 63 tokens a step beside a running answer.
    #[test]
    fn short_prompts_do_not_wait_behind_a_long_one() {
        let mut composer = Composer::default();
        let mut pending = [6000, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40];
        let budget = Budget { batch_tokens: 512, prefill_tokens_beside: 63, part: Part::Both };
        let mut read_at = Vec::new();
        for step in 1.. {
            let mut work: Vec<Work> = pending.iter().map(|&n| if n == 0 { I } else { p(n) }).collect();
            work.push(D);
            for share in composer.compose(&work, budget) {
                if let Some(left) = pending.get_mut(share.sequence) {
                    *left -= share.tokens;
                    if *left == 0 {
                        read_at.push((share.sequence, step));
                    }
                }
            }
            if pending[0] == 0 {
                break;
            }
        }
        let last = |at: &[(usize, i32)]| at.last().map(|(_, step)| *step);
        assert_eq!(last(&read_at[..1]), Some(1), "{read_at:?}");
        // 400 tokens are seven steps; the long prompt may take one in between.
        assert!(last(&read_at[..10]) <= Some(8), "{read_at:?}");
        assert_eq!(last(&read_at), Some(102), "nothing is wasted: {read_at:?}");
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
            let mut composer = Composer { next, ..Composer::default() };
            let shares = composer.compose(&work, Budget { batch_tokens, prefill_tokens_beside: beside, part: Part::Both });
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
                    prop_assert!(read <= (beside + beside / 3).max(1));
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
                let budget = Budget { batch_tokens, prefill_tokens_beside: batch_tokens, part: Part::Both };
                for share in composer.compose(&work, budget) {
                    pending[share.sequence] -= share.tokens;
                }
            }
            prop_assert!(pending.iter().all(|&n| n == 0), "{pending:?}");
        }

        /// New short prompts take the place of every one that is read; the long ones go on all the same.
        #[test]
        fn no_prompt_is_passed_over_for_ever(
            short in prop::collection::vec(1_u32..40, 1..6),
            long in prop::collection::vec(300_u32..900, 1..4),
            beside in 1_u32..64,
            runs in any::<bool>(),
        ) {
            let mut composer = Composer::default();
            let mut pending: Vec<u32> = short.iter().chain(&long).copied().collect();
            let mut unserved = vec![0_u32; pending.len()];
            let most = PASSED_STEPS_MAX + u32::try_from(pending.len()).unwrap();
            for _ in 0..400 {
                let mut work: Vec<Work> = pending.iter().map(|&n| if n == 0 { I } else { p(n) }).collect();
                work.push(if runs { D } else { I });
                let shares = composer.compose(&work, Budget { batch_tokens: 64, prefill_tokens_beside: beside, part: Part::Both });
                for (sequence, left) in pending.iter_mut().enumerate() {
                    match shares.iter().find(|share| share.sequence == sequence) {
                        Some(share) => {
                            unserved[sequence] = 0;
                            *left -= share.tokens;
                            if *left == 0 {
                                *left = short.get(sequence).copied().unwrap_or(0);
                            }
                        }
                        None if *left > 0 => unserved[sequence] += 1,
                        None => unserved[sequence] = 0,
                    }
                    prop_assert!(unserved[sequence] <= most, "{sequence} waits for {} steps", unserved[sequence]);
                }
            }
        }
    }
}
