//! Whether prompts are read in the same steps as running answers, or in steps of their own between them.
//!
//! Together is cheaper where a step's time is the reading of weights, which both then share. Apart is cheaper
//! where computing takes the time: attention works on tiles of many rows, and a tile with rows of several
//! sequences looks at the tokens of all of them for each of its rows. Which it is depends on model, processor,
//! and how far the answers have come; so both are tried now and then, one right after the other, and the faster is kept.

use crate::compose::Work;

/// What the next step is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that waits.
    Both,
    Answers,
    Prompts,
}

/// So many steps that read, then the other way is tried once.
const TRY_EVERY_STEPS: u32 = 16;
/// The other way is taken when it saves more than one part in so many: less is noise.
const SAVES_ONE_IN: u64 = 32;

/// LIMIT: a step that read fewer prompt tokens says nothing of longer ones.
const READ_TOKENS_MIN: u32 = 32;

/// A step that read so many prompt tokens.
#[derive(Debug, Clone, Copy)]
struct Read {
    tokens: u32,
    us: u64,
}

/// Remembers the last steps of each kind.
#[derive(Debug)]
pub struct Blend {
    apart: bool,
    /// The other way has its turn.
    tries: bool,
    steps: u32,
    /// The last step read a prompt without the answers.
    answers_next: bool,
    together: Option<Read>,
    prompts: Option<Read>,
    answers_us: Option<u64>,
}

impl Default for Blend {
    /// Begins apart, and soon tries together.
    fn default() -> Self {
        Self {
            apart: true,
            tries: false,
            steps: TRY_EVERY_STEPS - 2,
            answers_next: false,
            together: None,
            prompts: None,
            answers_us: None,
        }
    }
}

impl Blend {
    /// Says what the next step is made of. Answers are never left out twice in a row.
    pub fn next(&self, work: &[Work]) -> Part {
        let reads = work.iter().any(|work| matches!(work, Work::Prefill { .. }));
        let answers = work.contains(&Work::Decode);
        match (reads && answers, self.apart != self.tries, self.answers_next) {
            (false, ..) | (true, false, _) => Part::Both,
            (true, true, true) => Part::Answers,
            (true, true, false) => Part::Prompts,
        }
    }

    /// Tells what a step held and took. `beside`: prompts and answers both waited for it.
    pub fn observe(&mut self, beside: bool, prompt_tokens: u32, answer_tokens: u32, took_us: u64) {
        self.answers_next = answer_tokens == 0;
        if !beside {
            return;
        }
        if (1..READ_TOKENS_MIN).contains(&prompt_tokens) {
            self.tries = false;
            return;
        }
        let read = Read { tokens: prompt_tokens, us: took_us };
        match (prompt_tokens, answer_tokens) {
            (0, _) => self.answers_us = Some(took_us),
            (_, 0) => self.prompts = Some(read),
            _ => self.together = Some(read),
        }
        if prompt_tokens > 0 {
            self.steps += 1;
        }
        if self.tries {
            self.judge();
        } else if self.steps >= TRY_EVERY_STEPS && !self.answers_next {
            self.steps = 0;
            self.tries = true;
            if self.apart {
                self.together = None;
            } else {
                (self.prompts, self.answers_us) = (None, None);
            }
        }
    }

    /// Decides as soon as the trial has shown what it takes.
    fn judge(&mut self) {
        let (Some(together), Some(prompts), Some(answers_us)) = (self.together, self.prompts, self.answers_us) else {
            return;
        };
        self.tries = false;
        // For as many prompt tokens as the other step has read.
        let same = prompts.us.saturating_mul(u64::from(together.tokens)) / u64::from(prompts.tokens);
        let apart_us = same.saturating_add(answers_us);
        let (now, other) = if self.apart { (apart_us, together.us) } else { (together.us, apart_us) };
        if other.saturating_add(now / SAVES_ONE_IN) < now {
            self.apart = !self.apart;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Budget, Composer};
    use proptest::prelude::*;

    /// Works through so many prompts beside running answers. The answer: how many steps were of each kind.
    fn run(blend: &mut Blend, steps: u32, cost: impl Fn(u32, u32) -> u64) -> (u32, u32, u32) {
        let mut kinds = (0, 0, 0);
        for _ in 0..steps {
            let work = [Work::Decode, Work::Decode, Work::Prefill { pending: 500 }];
            let (prompt, answers) = match blend.next(&work) {
                Part::Both => (100, 2),
                Part::Answers => (0, 2),
                Part::Prompts => (100, 0),
            };
            match (prompt, answers) {
                (0, _) => kinds.1 += 1,
                (_, 0) => kinds.0 += 1,
                _ => kinds.2 += 1,
            }
            blend.observe(true, prompt, answers, cost(prompt, answers));
        }
        kinds
    }

    #[test]
    fn the_faster_way_is_found_and_kept() {
        // Each step reads all weights once.
        let weights = |prompt: u32, answers: u32| 50_000 + 500 * u64::from(prompt + answers);
        // A tile with rows of several costs more than the rows apart.
        let tiles = |prompt: u32, answers: u32| {
            let mixed = if prompt > 0 && answers > 0 { 30_000 } else { 0 };
            3_000 + mixed + 2_000 * u64::from(prompt + answers)
        };
        let mut blend = Blend::default();
        let (prompts, answers, both) = run(&mut blend, 200, weights);
        assert!(both > 170 && prompts < 20 && answers < 20, "{prompts} {answers} {both}");
        let (prompts, answers, both) = run(&mut blend, 400, tiles);
        assert!(prompts > 180 && answers > 180 && both < 32, "{prompts} {answers} {both}");
        let (_, _, both) = run(&mut blend, 200, weights);
        assert!(both > 150, "{both}");
    }

    #[test]
    fn the_end_of_a_prompt_decides_nothing() {
        let mut blend = Blend::default();
        run(&mut blend, 200, |prompt, answers| if prompt > 0 && answers > 0 { 900 } else { 300 });
        assert!(blend.apart);
        for _ in 0..100 {
            blend.observe(true, 2, 0, 1_000_000);
            blend.observe(true, 0, 2, 300);
        }
        run(&mut blend, 3, |prompt, answers| if prompt > 0 && answers > 0 { 900 } else { 300 });
        assert!(blend.apart, "two tokens that took a second aren't a measure of a hundred");
    }

    #[test]
    fn who_is_alone_is_served_at_once() {
        let mut blend = Blend::default();
        for work in [vec![Work::Decode], vec![Work::Prefill { pending: 9 }, Work::Idle], vec![]] {
            assert_eq!(blend.next(&work), Part::Both);
            blend.observe(false, 64, 0, 1);
            blend.observe(false, 0, 1, 1);
        }
        let both = [Work::Decode, Work::Prefill { pending: 9 }];
        assert_eq!(blend.next(&both), Part::Prompts);
        blend.observe(true, 9, 0, 100);
        assert_eq!(blend.next(&both), Part::Answers);
        blend.observe(true, 0, 1, 100);
        assert_eq!(blend.next(&both), Part::Prompts);
    }

    proptest! {
        #[test]
        fn answers_are_never_left_out_twice_in_a_row(
            costs in prop::collection::vec((1_u64..1_000_000, any::<bool>(), any::<bool>()), 1..300),
        ) {
            let (mut blend, mut composer) = (Blend::default(), Composer::default());
            let mut left_out = 0;
            for (cost, reads, answers) in costs {
                let work = [
                    if answers { Work::Decode } else { Work::Idle },
                    if reads { Work::Prefill { pending: 50 } } else { Work::Idle },
                ];
                let part = blend.next(&work);
                let budget = Budget { batch_tokens: 64, prefill_tokens_beside: 20, part };
                let shares = composer.compose(&work, budget);
                prop_assert_eq!(shares.is_empty(), !reads && !answers);
                let tokens = |sequence| shares.iter().filter(|share| share.sequence == sequence).map(|share| share.tokens).sum::<u32>();
                if answers && tokens(0) == 0 { left_out += 1 } else { left_out = 0 }
                prop_assert!(left_out < 2);
                if !shares.is_empty() {
                    blend.observe(reads && answers, tokens(1), tokens(0), cost);
                }
            }
        }
    }
}
