//! The generator's part in what is kept on disk: it asks the daemon for states and offers it some. All reading and
//! writing is done by another thread, and who waits for a state takes no room meanwhile.

use super::Generator;
use crate::draft_model::DraftModel;
use crate::job::Job;
use crate::link::Event;
use crate::serve::Ending;
use crate::states::{Draft, Errand, Found, Outcome};
use batch::prefix::Key;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use wire::{Chain, Directive, JobId, Report};

/// With fewer tokens left to read, nobody waits for a disk.
const WORTH_TOKENS: u32 = 128;
/// For states that aren't on disk yet when this process is to end: whoever takes its memory waits for so long at most.
const LAST_WRITE: Duration = Duration::from_secs(4);

impl Generator<'_> {
    /// Takes a job whose prompt fits. Where much of it isn't kept here, and may be on disk, it waits for that first.
    pub(super) fn seek_or_queue(&mut self, job: Job, stored: bool) {
        let least = job.owner.as_ref().map(|owner| self.keep.known(owner, &job.tokens));
        match (least, &job.owner) {
            (Some(least), Some(owner)) if stored && job.prompt_tokens.saturating_sub(least) > WORTH_TOKENS => {
                let adapters = owner.adapters().to_vec();
                let exact = self.keep.needs_checkpoints();
                let prompt = Chain { scope: owner.scope(), adapters, tokens: job.tokens.clone(), exact };
                self.outbox.send(Report::Seek { job: job.id, prompt: Box::new(prompt), least });
                self.reading.push(job.id);
                self.seeking.push(job);
            }
            _ => self.queue(job),
        }
    }

    /// The daemon's answer.
    pub(super) fn found(&mut self, id: JobId, file: Option<OwnedFd>) {
        let Some(job) = self.seeking.iter().find(|job| job.id == id) else { return };
        let Some((file, owner)) = file.zip(job.owner.as_ref()) else { return self.stop_seeking(id) };
        let mut usable = job.tokens.clone();
        usable.pop();
        let least = self.keep.known(owner, &job.tokens);
        let exact = self.keep.needs_checkpoints();
        if !self.states.take(Errand::Read { job: id, file, usable, least, exact }) {
            self.stop_seeking(id);
        }
    }

    fn stop_seeking(&mut self, id: JobId) {
        self.reading.retain(|reading| *reading != id);
        if let Some(place) = self.seeking.iter().position(|job| job.id == id) {
            let job = self.seeking.remove(place);
            self.queue(job);
        }
    }

    pub(super) fn hear_of_state(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written { state, bytes, took_us } => {
                self.offering = false;
                self.outbox.send(Report::Stored { state, bytes, took_us });
            }
            Outcome::Read { job, found, bytes, took_us } => {
                self.outbox.send(Report::Tried { job, verdict: found.verdict(), bytes, took_us });
                let owner = self.seeking.iter().find(|seeking| seeking.id == job).and_then(|job| job.owner.clone());
                if let (Found::Sound { tokens, state }, Some(owner)) = (found, owner) {
                    self.keep.adopt(&mut self.context, owner, tokens, state);
                }
                self.stop_seeking(job);
            }
        }
    }

    /// Offers what is saved to the daemon, one state at a time.
    pub(super) fn offer(&mut self) {
        if self.offering {
            return;
        }
        let Some((key, chain, bytes)) = self.keep.next_offer(&mut self.context) else { return };
        self.offering = true;
        let tokens = u32::try_from(chain.tokens.len()).unwrap_or(u32::MAX);
        let cost_us = self.pace.cost_us(tokens);
        self.outbox.send(Report::Offer { state: key.0, chain: Box::new(chain), bytes, cost_us });
    }

    /// The daemon's answer: a descriptor where the state is wanted.
    pub(super) fn store(&mut self, state: u64, file: Option<OwnedFd>) {
        self.offering = false;
        let Some(file) = file else { return };
        let quiet = self.is_idle();
        self.write(state, file, quiet);
    }

    fn write(&mut self, state: u64, file: OwnedFd, quiet: bool) {
        let errand = self.errand(state, file, quiet);
        self.offering = errand.is_some_and(|errand| self.states.take(errand));
        if !self.offering {
            self.outbox.send(Report::Stored { state, bytes: 0, took_us: 0 });
        }
    }

    /// What was saved is written by another thread. What found no room in memory is copied from the pool to its place in the
    /// file, and the other thread does the rest. That takes as long as the disk may, so it is done only while it is `quiet`, and
    /// offered again else.
    fn errand(&mut self, state: u64, file: OwnedFd, quiet: bool) -> Option<Errand> {
        if let Some((tokens, bytes)) = self.keep.saved(Key(state)) {
            return Some(Errand::Write { state, file, tokens, bytes });
        }
        if !quiet {
            self.keep.offer_again(Key(state));
            return None;
        }
        let (tokens, sequence) = self.keep.live(Key(state))?;
        let mut draft = Draft::begin(file, &tokens, self.context.state_bytes(sequence)).ok()?;
        let written = self.context.save_state_to(sequence, draft.state());
        written.then_some(Errand::Finish { state, draft })
    }

    /// Lets go of what is kept of a scope, and keeps nothing of what is under way.
    pub(super) fn forget_kept(&mut self, scope: u64) {
        let only = (scope != 0).then_some(scope);
        let running = self.slots.iter_mut().flatten().map(|running| &mut running.job);
        let others = self.waiting.iter_mut().chain(&mut self.held).chain(&mut self.seeking);
        for job in running.chain(others) {
            if only.is_none_or(|only| job.owner.as_ref().is_some_and(|owner| owner.scope() == only)) {
                job.owner = None;
                job.checkpoints.clear();
            }
        }
        // Whose they are isn't known before they are cut: none of them.
        self.unkept = self.reading.iter().filter(|id| self.seeking.iter().all(|job| job.id != **id)).copied().collect();
        // What is being written may be of it.
        self.states.stop_writing();
        self.draft_model.iter_mut().for_each(DraftModel::clear);
        let (states, bytes) = self.keep.forget(&mut self.context, only);
        self.recount();
        self.outbox.send(Report::Forgotten { states, bytes });
    }

    /// What is worth the disk comes to it before the process ends, as far as there is time.
    pub(super) fn last(&mut self, ending: Ending) -> Ending {
        // Otherwise nobody would hear that it is written.
        if matches!(ending, Ending::Asked) {
            self.bring_to_disk(Instant::now() + LAST_WRITE);
        }
        ending
    }

    fn bring_to_disk(&mut self, until: Instant) {
        self.states.tell(false);
        while (self.offering || self.keep.has_chores()) && Instant::now() < until {
            self.keep.save_one(&mut self.context, &self.lot);
            self.offer();
            if !self.offering {
                continue;
            }
            match self.inbox.take_within(until.saturating_duration_since(Instant::now())) {
                Some(Event::Directive { directive, file, .. }) => match *directive {
                    Directive::Store { state } => {
                        self.offering = false;
                        // Nothing is computed any more, whoever still had an answer.
                        file.into_iter().for_each(|file| self.write(state, file, true));
                    }
                    Directive::Forget { scope } => self.forget_kept(scope),
                    _ => {}
                },
                Some(Event::State(written @ Outcome::Written { .. })) => self.hear_of_state(written),
                Some(Event::State(Outcome::Read { .. }) | Event::Read { .. } | Event::Counted(_)) => {}
                Some(Event::Broken(_)) | None => return,
            }
        }
    }
}
