//! The generator's part in keeping: what a job goes on from, and what becomes of its sequence when it ends.

use super::{Generator, Running};
use crate::job::Job;
use crate::keep::{Live, Tier};
use batch::prefix;
use wire::{Differs, Report, Reuse};

impl Generator<'_> {
    /// A sequence for a job: with its own state from before, with what is kept of its prompt, or an empty one.
    pub(super) fn begin_sequence(&mut self, job: &mut Job) -> Option<i32> {
        let taken = self.slots.iter().flatten().fold(0, |sum: u32, running| sum.saturating_add(running.job.past));
        let room = self.pool.cells.saturating_sub(taken);
        if let Some(saved) = job.saved.take() {
            let running = live(&self.slots);
            let spare = room.saturating_sub(saved.past());
            self.keep.step_aside(&mut self.context, &self.lot, &running);
            self.keep.shrink(&mut self.context, &self.lot, &running, spare);
            let sequence = self.keep.take_id(&mut self.context, &self.lot)?;
            job.past = if saved.restore(&mut self.context, sequence) { saved.past() } else { 0 };
            if job.past == 0 {
                // What is read again is said, as the first reading was.
                self.outbox.send(Report::Prefill { job: job.id, done: 0, total: job.prompt_tokens });
            }
            return Some(sequence);
        }
        let differs = self.differs(job);
        let start = job.owner.as_ref().and_then(|owner| {
            let (running, sequences) = (live(&self.slots), sequences(&self.slots));
            let (context, lot, prompt) = (&mut self.context, &self.lot, (owner, job.tokens.as_slice()));
            let beside = self.keep.start_beside(context, lot, prompt, (&running, &sequences));
            beside.or_else(|| self.keep.start(context, lot, prompt, (room, &running)))
        });
        job.past = start.map_or(0, |start| start.tokens);
        if !job.has_started() {
            let from = |tier| start.filter(|start| start.tier == tier).map_or(0, |start| start.tokens);
            job.reuse = Reuse { live: from(Tier::Live), ram: from(Tier::Ram), disk: from(Tier::Disk), differs };
            if job.reuse != Reuse::default() {
                self.outbox.send(Report::Reused { job: job.id, reuse: Box::new(job.reuse.clone()) });
            }
        }
        self.plan_checkpoints(job);
        start.map(|start| start.sequence).or_else(|| self.keep.take_id(&mut self.context, &self.lot))
    }

    /// Where the prompt is another one than what is kept, with both texts.
    fn differs(&self, job: &Job) -> Option<Differs> {
        let (at, kept) = self.keep.differs(job.owner.as_ref()?, &job.tokens)?;
        let asked = *job.tokens.get(usize::try_from(at).ok()?)?;
        let model = self.context.model();
        Some(Differs { at, kept: model.shown(kept), asked: model.shown(asked) })
    }

    fn plan_checkpoints(&self, job: &mut Job) {
        job.checkpoints.clear();
        if job.owner.is_none() || !self.keep.needs_checkpoints() {
            return;
        }
        let model = self.context.model();
        let prompt = job.tokens.iter().take(usize::try_from(job.prompt_tokens).unwrap_or(usize::MAX));
        let turns: Vec<u32> = (1..).zip(prompt).filter(|(_, token)| model.ends(**token)).map(|(at, _)| at).collect();
        job.checkpoints = prefix::checkpoints(job.prompt_tokens, &turns, job.past).into();
    }

    /// Keeps the state of a job that is reading its prompt.
    pub(super) fn checkpoint(&mut self, slot: usize) {
        let Some(Running { job, sequence, .. }) = &self.slots[slot] else { return };
        let tokens = &job.tokens[..job.past as usize];
        if let Some(owner) = &job.owner {
            self.keep.checkpoint(&mut self.context, &self.lot, owner, tokens, *sequence);
        }
        self.make_kept_step_aside();
    }

    /// A finished job's sequence is kept for what may come.
    pub(super) fn keep_sequence(&mut self, running: Running) {
        let Running { job, sequence, .. } = running;
        let Job { owner, mut tokens, past, drafted: job_drafted, .. } = job;
        tokens.truncate(past as usize);
        // An answer that ended within a draft has left what came after its end in the cache.
        if past > 0 && job_drafted > 0 && !self.context.forget(sequence, past) {
            self.keep.free_id(&mut self.context, sequence);
            return self.recount();
        }
        self.keep.keep(&mut self.context, owner, tokens, sequence);
        self.recount();
    }

    pub(super) fn recount(&mut self) {
        self.keep.recount(&live(&self.slots));
    }

    /// Those who run are to have so many cells, whatever is kept.
    pub(super) fn let_kept_go(&mut self, cells: u32) {
        let spare = self.pool.cells.saturating_sub(cells);
        if self.keep.cells() > spare {
            self.keep.shrink(&mut self.context, &self.lot, &live(&self.slots), spare);
        }
    }

    /// What is kept beside those who run must not slow them down.
    pub(super) fn make_kept_step_aside(&mut self) {
        self.keep.step_aside(&mut self.context, &self.lot, &live(&self.slots));
    }
}

fn live(slots: &[Option<Running>]) -> Vec<Live<'_>> {
    of_owners(slots).map(|(live, _)| live).collect()
}

/// For each of those that are `live`.
fn sequences(slots: &[Option<Running>]) -> Vec<i32> {
    of_owners(slots).map(|(_, sequence)| sequence).collect()
}

fn of_owners(slots: &[Option<Running>]) -> impl Iterator<Item = (Live<'_>, i32)> {
    slots.iter().flatten().filter_map(|Running { job, sequence, .. }| {
        let tokens = job.tokens.get(..job.past as usize)?;
        Some(((job.owner.as_ref()?, tokens), *sequence))
    })
}
