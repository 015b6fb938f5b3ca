//! The generator's part in growing and resting: who needs more than the pool holds, and what becomes of
//! them when it can't be had.

use super::Generator;
use crate::draft_model::DraftModel;
use crate::job::Job;
use crate::room::blocks;
use batch::pool::Pool;
use wire::{JobId, Report, WireFault, WireFinish};

impl Generator<'_> {
    /// Whether a job that takes so many cells can start. If not, more are on their way, or it has failed.
    pub(super) fn has_cells(&mut self, needed: u32) -> bool {
        if self.rooms.is_resting() {
            let first = self.rooms.first_tokens();
            if let Err(fault) = self.remake(first) {
                self.fail_all(&fault);
                return false;
            }
        }
        if needed <= self.pool.cells {
            return true;
        }
        self.want(needed);
        false
    }

    /// Asks for a larger pool when a running answer fills it alone.
    pub(super) fn want_for_running(&mut self) {
        let most = self.slots.iter().flatten().map(|running| running.job.cells()).max().unwrap_or(0);
        if most > self.pool.cells {
            self.want(most.saturating_add(1));
        }
    }

    fn want(&mut self, needed: u32) {
        if let Some((least, wanted)) = self.rooms.want(needed) {
            self.outbox.send(Report::Wants { least, wanted });
        }
    }

    /// The daemon's word: grows to what it grants, wakes, or learns that there is no more.
    pub(super) fn resize(&mut self, context_tokens: u32) {
        let asked = self.rooms.answered();
        let grows = context_tokens > self.pool.cells || self.rooms.is_resting();
        let result = if grows { self.remake(context_tokens) } else { Ok(()) };
        let fault = result.err();
        match &fault {
            Some(fault) if self.rooms.is_resting() => self.fail_all(fault),
            _ => self.give_up(asked, fault.as_ref()),
        }
        self.report_room(fault);
    }

    /// Gives everything back but the weights, when nothing runs.
    pub(super) fn rest(&mut self) {
        let mut fault = None;
        if self.is_idle() && self.reading.is_empty() && self.held.is_empty() {
            fault = self.rooms.rest(&mut self.context).err();
            if self.rooms.is_resting() {
                self.keep.clear();
                self.pool = Pool { cells: self.rooms.first_tokens() };
                self.draft_model.iter_mut().for_each(DraftModel::rest);
            }
        }
        self.report_room(fault);
    }

    fn report_room(&self, fault: Option<WireFault>) {
        self.outbox.send(Report::Resized { room: self.rooms.report(Some(&self.context)), fault });
    }

    fn remake(&mut self, context_tokens: u32) -> Result<(), WireFault> {
        let in_cache = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|running| running.job.past > 0);
        let live: Vec<usize> = (0..self.slots.len()).filter(in_cache).collect();
        let sequences: Vec<i32> = self
            .slots
            .iter()
            .flatten()
            .filter(|running| running.job.past > 0)
            .map(|running| running.sequence)
            .collect();
        self.keep.save_all(&mut self.context, &self.lot);
        let (lost, result) = self.rooms.resize(&mut self.context, context_tokens, &sequences);
        for place in lost {
            if let Some(running) = self.slots[live[place]].as_mut() {
                running.job.past = 0;
                let (job, total) = (running.job.id, running.job.prompt_tokens);
                self.outbox.send(Report::Prefill { job, done: 0, total });
            }
        }
        if !self.rooms.is_resting() {
            self.pool = Pool { cells: self.context.cells() };
            self.draft_model.iter_mut().for_each(DraftModel::wake);
        }
        result
    }

    /// Ends those who need as much as was asked for and refused: a prompt with both numbers, or with the
    /// reason why the pool couldn't be made; an answer at its length.
    fn give_up(&mut self, asked: Option<u32>, fault: Option<&WireFault>) {
        let cells = self.pool.cells;
        let Some(least) = asked.filter(|least| *least > cells) else { return };
        let is_refused = |needed: u32| needed > cells && blocks(needed) >= least;
        let waiting = self.waiting.iter().filter(|job| is_refused(job.needed()));
        for id in waiting.map(|job| job.id).collect::<Vec<JobId>>() {
            let Some(place) = self.waiting.iter().position(|job| job.id == id) else { continue };
            let Some(job) = self.waiting.remove(place) else { continue };
            if job.generated() > 0 {
                // It had stepped back; what it has said stands.
                self.end_waiting(job, WireFinish::Length);
            } else {
                let requested = job.needed();
                let overflow = WireFault::ContextOverflow { requested, available: cells };
                let fault = fault.cloned().unwrap_or(overflow);
                self.outbox.send(Report::Failed { job: Some(id), fault });
            }
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|running| running.job.cells() > cells) {
                self.end(slot, WireFinish::Length);
            }
        }
    }

    fn end_waiting(&mut self, mut job: Job, finish: WireFinish) {
        let now = std::time::Instant::now();
        let rest = job.rest();
        let written = job.write(&rest.text, now, std::time::Duration::ZERO);
        for text in [written, job.flush(now)].into_iter().flatten() {
            self.outbox.send(Report::Text { job: job.id, text });
        }
        let finish = job.settle(rest.finish.unwrap_or(finish));
        self.outbox.send(Report::Done { job: job.id, finish, spent: job.spent(now) });
    }

    /// There is no pool at all any more: everything that is here ends with the reason.
    fn fail_all(&mut self, fault: &WireFault) {
        self.keep.clear();
        for slot in 0..self.slots.len() {
            self.flush(slot);
            if let Some(running) = self.slots[slot].take() {
                self.outbox.send(Report::Failed { job: Some(running.job.id), fault: fault.clone() });
            }
        }
        for job in std::mem::take(&mut self.waiting) {
            self.outbox.send(Report::Failed { job: Some(job.id), fault: fault.clone() });
        }
    }
}
