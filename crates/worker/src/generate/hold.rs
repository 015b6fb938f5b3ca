//! Stepping back and going on: held by the daemon, or because the pool has run dry.

use super::{Generator, Running};
use crate::job::Job;
use std::time::Instant;
use wire::{JobId, Report};

impl Generator<'_> {
    /// Takes a job whose prompt fits.
    pub(super) fn queue(&mut self, mut job: Job) {
        self.outbox.send(Report::Accepted {
            job: job.id,
            prompt_tokens: job.prompt_tokens,
            tokens_max: job.tokens_max,
        });
        if let Some(place) = self.holds.iter().position(|id| *id == job.id) {
            self.holds.swap_remove(place);
            // It was told of when it was held.
            job.pause(Instant::now());
            self.held.push(job);
        } else {
            self.waiting.push_back(job);
        }
    }

    /// The daemon wants a job to step back. What has ended is no longer known, and its end is under way.
    pub(super) fn hold(&mut self, id: JobId) {
        if let Some(slot) = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|r| r.job.id == id)) {
            if let Some(job) = self.park(slot, true) {
                self.held.push(job);
            }
        } else if let Some(place) = self.waiting.iter().position(|job| job.id == id)
            && let Some(mut job) = self.waiting.remove(place)
        {
            self.tell_parked(&mut job, true);
            self.held.push(job);
        } else if self.reading.contains(&id) && !self.holds.contains(&id) {
            self.holds.push(id);
            self.outbox.send(Report::Parked { job: id, held: true, tokens: 0, saved: true });
        }
    }

    /// A held job goes on; its cells come when there is room.
    pub(super) fn resume(&mut self, id: JobId) {
        if let Some(place) = self.held.iter().position(|job| job.id == id) {
            let job = self.held.remove(place);
            self.waiting.push_back(job);
        } else if let Some(place) = self.holds.iter().position(|held| *held == id) {
            self.holds.swap_remove(place);
            self.outbox.send(Report::Resumed { job: id });
        }
    }

    /// Gives a job's cells back because others need them; its text goes on unbroken when there is room again.
    pub(super) fn step_back(&mut self, slot: usize) {
        if let Some(job) = self.park(slot, false) {
            self.waiting.push_front(job);
        }
    }

    /// Frees a sequence, and keeps its state where the budget allows it.
    fn park(&mut self, slot: usize, held: bool) -> Option<Job> {
        self.flush(slot);
        let Running { mut job, sequence, .. } = self.slots[slot].take()?;
        let bytes = u64::try_from(self.context.state_bytes(sequence)).unwrap_or(u64::MAX);
        self.keep.relieve(&self.lot, bytes);
        job.saved = self.lot.save(&mut self.context, sequence, job.past);
        self.keep.free_id(&mut self.context, sequence);
        job.past = 0;
        self.tell_parked(&mut job, held);
        Some(job)
    }

    fn tell_parked(&self, job: &mut Job, held: bool) {
        // Nothing is lost by a job that hasn't begun.
        let saved = job.saved.is_some() || !job.has_started();
        job.pause(Instant::now());
        self.outbox.send(Report::Parked { job: job.id, held, tokens: job.pending(), saved });
    }

    /// Gives a job a sequence. `false`: there is none.
    pub(super) fn place(&mut self, slot: usize, mut job: Job) -> bool {
        let Some(sequence) = self.begin_sequence(&mut job) else {
            self.waiting.push_front(job);
            return false;
        };
        if job.go_on(Instant::now()) {
            self.outbox.send(Report::Resumed { job: job.id });
        }
        self.admitted += 1;
        self.slots[slot] = Some(Running { job, sequence, order: self.admitted });
        self.make_kept_step_aside();
        true
    }
}
