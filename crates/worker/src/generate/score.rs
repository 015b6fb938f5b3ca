//! The generator's part in judging options: behind a prompt that is in the cache, several options at once are
//! fed as branches of it, and their rows of scores are added up.
//!
//! A recurrent state has no branches. There each option is fed to the sequence itself, whose state is put back
//! afterwards, or whose prompt is read again where that can't be had.

use super::{Generator, Part};
use crate::ffi::Decoded;
use batch::crew::Phase;
use std::ops::Range;
use std::time::Instant;
use wire::{Report, WireLikelihood};

/// What a fed token's row of scores says something about.
#[derive(Debug, Clone, Copy)]
struct Row {
    option: usize,
    place: usize,
    index: usize,
}

/// What became of a group of options.
enum Fed {
    Done,
    /// Something came in between: it is done again.
    Again,
    Full,
    Failed(String),
}

impl Generator<'_> {
    /// The prompt of a job that scores has been read.
    pub(super) fn judge_first(&mut self, slot: usize, index: usize) {
        let Some(running) = self.slots[slot].as_mut() else { return };
        let (Some(options), Some(scores)) = (running.job.options.as_mut(), self.context.logits(index)) else {
            return self.fail(slot, "the model gave no scores");
        };
        options.first(scores);
        running.job.note_token(Instant::now());
        self.judged(slot);
    }

    /// One step for the options of one job; `false` when no job has any to judge.
    pub(super) fn judge(&mut self) -> bool {
        let waits = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|running| running.job.is_judging());
        let oldest = self.oldest_first().into_iter().find(waits);
        let Some(slot) = oldest else { return false };
        let group = self.slots[slot].as_ref().and_then(|running| running.job.options.as_ref()?.group());
        let Some(group) = group else {
            self.judged(slot);
            return true;
        };
        match self.feed(slot, group) {
            Fed::Done => {
                if let Some(options) = self.slots[slot].as_mut().and_then(|running| running.job.options.as_mut()) {
                    options.end_group();
                }
                self.judged(slot);
            }
            Fed::Again => {}
            Fed::Full => self.make_room(),
            Fed::Failed(reason) => self.fail(slot, &reason),
        }
        true
    }

    /// Says what came out, when all options are judged.
    fn judged(&mut self, slot: usize) {
        let done = |options: &batch::likelihood::Options| options.is_done().then(|| options.likelihoods());
        let made = self.slots[slot].as_ref().and_then(|running| running.job.options.as_ref().and_then(done));
        let Some(made) = made else { return };
        if made.iter().any(|(log, _)| log.is_nan() || *log == f64::INFINITY) {
            return self.fail(slot, "the model's scores are not numbers");
        }
        let Some(mut running) = self.slots[slot].take() else { return };
        let now = Instant::now();
        running.job.note_token(now);
        let likelihoods = made.into_iter().map(|(log, tokens)| WireLikelihood { log, tokens }).collect();
        self.outbox.send(Report::Scored { job: running.job.id, likelihoods, spent: running.job.spent(now) });
        self.keep_sequence(running);
    }

    /// Feeds a group of options and takes their scores. What they took of the cache is free again afterwards.
    fn feed(&mut self, slot: usize, group: Range<usize>) -> Fed {
        let Some(own) = self.slots[slot].as_ref().map(|running| running.sequence) else { return Fed::Again };
        if self.context.model().branches() {
            let branches: Vec<i32> = (0..).take(group.len()).map(|place| self.context.branch(place)).collect();
            branches.iter().for_each(|branch| self.context.copy_whole(own, *branch));
            let fed = self.feed_to(slot, group, &branches);
            branches.iter().for_each(|branch| {
                self.context.forget(*branch, 0);
            });
            return fed;
        }
        let bytes = self.context.state_bytes(own);
        let state = self.context.save_state(own, bytes);
        let fed = self.feed_to(slot, group, &[own]);
        self.context.forget(own, 0);
        let back = state.is_some_and(|state| self.context.restore_state(own, &state));
        if !back {
            self.context.forget(own, 0);
            if let Some(running) = self.slots[slot].as_mut() {
                running.job.past = 0;
            }
        }
        fed
    }

    /// Feeds each option of the group to its sequence, as many tokens in one step as rows of scores can be had.
    fn feed_to(&mut self, slot: usize, group: Range<usize>, sequences: &[i32]) -> Fed {
        let Some(running) = self.slots[slot].as_ref() else { return Fed::Again };
        let (past, id, deadline) = (running.job.past, running.job.id, running.job.deadline);
        let Some(options) = running.job.options.as_ref() else { return Fed::Again };
        let all: Vec<(usize, usize, i32, i32)> = group
            .zip(sequences)
            .flat_map(|(option, sequence)| {
                let fed = options.fed(option).iter().enumerate();
                fed.map(move |(place, token)| (option, place, *token, *sequence))
            })
            .collect();
        let mut rows = Vec::with_capacity(all.len());
        let mut judged: Vec<(usize, f64)> = Vec::with_capacity(all.len());
        for part in all.chunks(self.context.rows()) {
            self.batch.clear();
            rows.clear();
            for &(option, place, token, sequence) in part {
                let position = past.saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
                let index = self.batch.add(token, position, sequence, true);
                rows.push(Row { option, place, index });
            }
            self.inbox.interrupt().watch(Some(id), deadline);
            let begun = self.threads.begin(&mut self.context, Phase::Prompt).ok();
            let outcome = match self.use_adapters(&[Part { slot, tokens: 0, output: None, draft: None }]) {
                Ok(()) => self.context.decode(&mut self.batch),
                Err(reason) => Decoded::Failed(reason),
            };
            match outcome {
                Decoded::Done => {}
                Decoded::Aborted => return Fed::Again,
                Decoded::Full => return Fed::Full,
                Decoded::Failed(reason) => return Fed::Failed(reason),
            }
            begun.into_iter().for_each(|begun| self.threads.end(begun));
            for row in &rows {
                let options = self.slots[slot].as_ref().and_then(|running| running.job.options.as_ref());
                let (Some(options), Some(scores)) = (options, self.context.logits(row.index)) else {
                    return Fed::Failed("the model gave no scores".into());
                };
                judged.push((row.option, options.judge(row.option, row.place, scores)));
            }
        }
        // Only now is it known that nothing came in between, and each row counts once.
        if let Some(options) = self.slots[slot].as_mut().and_then(|running| running.job.options.as_mut()) {
            judged.into_iter().for_each(|(option, log)| options.add(option, log));
        }
        Fed::Done
    }
}
