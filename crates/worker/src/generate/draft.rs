//! Drafting in the generator: which answers get some tokens more into their step, and which of these are kept.
//!
//! A row of scores is asked for after each drafted token, and from each row in turn the job's own sampler chooses, as
//! it would have done in a step of its own. The first token that it chooses otherwise ends the draft; what the cache
//! holds beyond it is taken out again. So the answer is what it would have been, up to what products of several rows
//! differ from those of one. Models whose state can't go back get no drafts.

use super::{Generator, Part};
use crate::ffi::Token;
use batch::compose::{Share, Work};
use batch::draft::{self, Guess, Source, Step};
use std::time::Duration;
use wire::JobId;

/// What is guessed of one answer in a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    guess: Guess,
    /// So much of it is in the batch; 0: it is only watched.
    pub(super) tokens: u32,
    /// Another guess that is only watched.
    beside: Option<Guess>,
}

impl Generator<'_> {
    /// Guesses for the sequences in `shares`, in their order. `cells`: how many of the pool are free beside them.
    pub(super) fn draft(&mut self, shares: &[Share], work: &[Work], cells: u32) -> Vec<Option<Draft>> {
        let none = vec![None; shares.len()];
        let reads = |work: &Work| matches!(work, Work::Prefill { .. });
        // Who reads a prompt has the step for itself and answers of one token each.
        if !self.drafts || shares.len() > draft::ANSWERS_MAX || work.iter().any(reads) || !self.reading.is_empty() {
            return none;
        }
        let own = u32::try_from(shares.len()).unwrap_or(u32::MAX);
        let mut left = cells.min(self.batch_tokens.saturating_sub(own)).min(self.rows.saturating_sub(own));
        let mut step = Step { tokens: own, brings: f64::from(own), prompt_token_us: self.pace.token_us() };
        let mut drafts = none;
        let running = shares.iter().filter_map(|share| self.slots[share.sequence].as_ref());
        let company: Vec<JobId> = running.map(|running| running.job.id).collect();
        for (share, found) in shares.iter().zip(&mut drafts) {
            let Some(running) = self.slots[share.sequence].as_mut() else { continue };
            let job = &mut running.job;
            if !job.may_draft {
                continue;
            }
            // The last token of an answer is chosen and never computed.
            let most = left.min(job.tokens_max.saturating_sub(job.generated() + 1));
            // Where the shape says what comes there is nothing to be learnt of what stood in the text.
            let due = job.guide.forced().into_iter().flatten().copied();
            let due: Vec<Token> =
                due.take(draft::TOKENS_MAX as usize).take_while(|token| !job.sampler.shuns(*token)).collect();
            let forced = Guess::new(Source::Forced, &due);
            let own = forced.or_else(|| job.drafts.guess(&job.tokens));
            let weighed = own.map(|guess| self.drafter.length(&job.drafts, guess, step, most, job.generated()));
            let (mut tokens, mut brings) = weighed.unwrap_or((0, step.brings));
            let mut draft = own.map(|guess| Draft { guess, tokens, beside: None });
            if let (0, None, Some(smaller)) = (tokens, forced, &mut self.draft_model)
                && let Some(made) = smaller.guess((job, &company), &mut self.drafter, (step, most), &self.context)
            {
                tokens = u32::try_from(made.guess.ahead().len()).unwrap_or(0);
                brings = made.brings;
                draft = Some(Draft { guess: made.guess, tokens, beside: own });
            }
            step = Step { tokens: step.tokens + tokens, brings, ..step };
            left -= tokens;
            *found = draft;
        }
        drafts
    }

    /// Puts a draft behind the token that comes before it.
    pub(super) fn fill_draft(&mut self, slot: usize, draft: Draft) {
        let Some(running) = self.slots[slot].as_ref() else { return };
        let job = &running.job;
        let tokens = &draft.guess.ahead()[..draft.tokens as usize];
        for (position, &token) in (job.past + 1..).zip(tokens) {
            self.batch.add(token, position, running.sequence, true);
        }
    }

    /// Takes note of what a step of answers cost.
    pub(super) fn observe_step(&mut self, parts: &[Part], took_us: u64) {
        if parts.iter().all(|part| part.output.is_some() && part.tokens == 1) {
            let drafted = parts.iter().any(Part::is_drafted);
            self.drafter.observe(u32::try_from(self.batch.len()).unwrap_or(u32::MAX), drafted, took_us);
        }
    }

    /// Chooses the tokens that a computed step brings for one answer. `answers`: as many have a token in it.
    pub(super) fn verify(&mut self, slot: usize, row: usize, draft: Option<Draft>, answers: u32) {
        let Some(draft) = draft else {
            self.advance_token(slot, row, None);
            return;
        };
        let Some(running) = self.slots[slot].as_mut() else { return };
        let job = &mut running.job;
        job.drafted += draft.tokens;
        let expected = draft.guess.ahead();
        let (mut right, mut first) = (0, None);
        for (row, &token) in (row..).zip(&expected[..draft.tokens as usize]) {
            let Some(chosen) = self.advance_token(slot, row, Some(token)) else { return };
            first = first.or(Some(chosen));
            if chosen != token {
                self.close_draft(slot, draft, (right, first), answers);
                return;
            }
            right += 1;
        }
        let Some(chosen) = self.advance_token(slot, row + right as usize, None) else { return };
        if draft.tokens == 0 && chosen == expected[0] {
            right = 1;
        }
        self.close_draft(slot, draft, (right, first.or(Some(chosen))), answers);
    }

    /// Takes the rest out of the cache, and learns from how it went: so many were right, and this token came first.
    fn close_draft(&mut self, slot: usize, draft: Draft, (right, first): (u32, Option<Token>), answers: u32) {
        let Some(running) = self.slots[slot].as_mut() else { return };
        let job = &mut running.job;
        if let Some(watched) = draft.beside {
            let right = u32::from(first == watched.ahead().first().copied());
            self.drafter.learn(&mut job.drafts, watched, 1, right);
        }
        if draft.tokens == 0 {
            self.drafter.watch(&mut job.drafts, draft.guess, right > 0, answers, self.pace.token_us());
            return;
        }
        self.drafter.learn(&mut job.drafts, draft.guess, draft.tokens, right);
        if let Some(plain) = self.drafter.cost_us(answers, self.pace.token_us()) {
            // Of a step for two, each bears its own tokens.
            let drafted = u32::try_from(self.batch.len()).unwrap_or(u32::MAX).saturating_sub(answers).max(1);
            let share = f64::from(draft.tokens) / f64::from(drafted);
            let took = plain + (micros(self.step) + self.drafter.owed_us() - plain) * share;
            job.drafts.settle(took, plain, right);
        }
        if right < draft.tokens {
            let (past, sequence) = (job.past, running.sequence);
            if !self.context.forget(sequence, past) {
                // It said at the load that it can; whatever happened, nothing wrong may stay in the cache.
                self.drafts = false;
                self.undo(slot);
            }
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
