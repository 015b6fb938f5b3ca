//! Memory among models: who may load, wake or grow, who rests, goes, or stops taking asks for another's sake.
//!
//! A model that needs memory which busy ones hold waits for them, and they take no new asks meanwhile; each
//! has its turn first, so that two that don't fit together both get on.

use super::{Action, Admission, Event, Model, ModelKey, Phase, WorkerKey};
use crate::draft::DraftCost;
use crate::park;
use crate::plan::{self, Plan};
use crate::residency::{self, Cost, Holding, Request, Use, Verdict};
use base::{Bytes, Fault};

/// What the rim knows of a model's memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Needs {
    /// For faults.
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// Never let go, and never made to make room but by resting.
    pub(crate) pinned: bool,
}

/// A model's part in the sharing.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) needs: Option<Needs>,
    /// Tokens of the pool that was granted; 0 without a worker.
    pub(super) granted: u32,
    /// Bytes that it may keep states of parked asks in.
    park_bytes: u64,
    /// What its draft model takes; nothing when it has none.
    draft: DraftCost,
    /// The larger pool that the worker has been granted and not yet made.
    growing: Option<u32>,
    /// Told that there is no more, and not yet heard of.
    refused: bool,
    /// What a job there needs: at least, and for a while.
    claim: Option<(u32, u32)>,
    pub(super) rest: Rest,
    /// May start in this step.
    pub(super) go: bool,
    /// Takes no new asks, because another model waits for its memory.
    yielding: bool,
    /// Has begun an ask since it was loaded.
    pub(super) served: bool,
    /// Its place among those that need memory which they haven't got.
    ticket: Option<u64>,
    used: Use,
    started: u64,
    ready_at: u64,
    reload_ms: u64,
}

/// A model that others wait for keeps its turn for so many times what its load took: no more than a third of
/// the time goes into loads.
const TURN_LOADS: u64 = 2;

/// Whether a ready worker has its cache and its room to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rest {
    #[default]
    Awake,
    /// Told to rest, and not yet heard of.
    Lying,
    Resting,
    /// Told to wake, and not yet heard of.
    Waking,
}

impl Share {
    /// Without a worker.
    pub(super) fn clear(&mut self) {
        let Self { needs, used, reload_ms, .. } = std::mem::take(self);
        *self = Self { needs, used, reload_ms, ..Self::default() };
    }

    pub(super) fn note_use(&mut self, now: u64) {
        self.used.note(now);
    }

    pub(super) fn note_start(&mut self, now: u64) {
        (self.go, self.started) = (false, now);
    }

    pub(super) fn note_ready(&mut self, now: u64) {
        self.reload_ms = now.saturating_sub(self.started);
        self.ready_at = now;
    }

    /// Whether it has been told something that it has to answer.
    pub(super) fn is_told(&self) -> bool {
        matches!(self.rest, Rest::Lying | Rest::Waking) || self.growing.is_some() || self.refused
    }

    /// Whether that, or its own question, is still open.
    pub(super) fn is_moving(&self) -> bool {
        self.is_told() || self.claim.is_some()
    }

    pub(super) fn takes_asks(&self, now: u64) -> bool {
        self.rest == Rest::Awake && !self.gives_way(now)
    }

    pub(super) fn is_awake(&self) -> bool {
        self.rest == Rest::Awake
    }

    /// Its turn is over, and another waits.
    fn gives_way(&self, now: u64) -> bool {
        let turn_ends = self.ready_at.saturating_add(TURN_LOADS.saturating_mul(self.reload_ms));
        self.yielding && self.served && now >= turn_ends
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.needs.as_ref().is_some_and(|needs| needs.pinned)
    }
}

impl Model {
    /// What it holds, or has been promised.
    fn holding(&self, key: ModelKey, now: u64) -> Option<Holding<ModelKey>> {
        let share = &self.share;
        let needs = share.needs.as_ref()?;
        let cost = needs.plan.cost;
        let awake = match share.growing {
            // What the old pool holds is kept beside the new one for a moment.
            Some(tokens) => {
                let parked = cost.cache(share.granted);
                cost.of(tokens).saturating_add(parked)
            }
            None => cost.of(share.granted),
        };
        let awake = awake.saturating_add(share.park_bytes).saturating_add(share.draft.all());
        let resting = cost.resting().saturating_add(share.draft.weights);
        let bytes = if share.rest == Rest::Resting { resting } else { awake };
        let ready = matches!(self.phase, Phase::Ready { .. });
        let wanted = !(self.queue.is_empty() || share.gives_way(now));
        let busy = !ready || !self.running.is_empty() || wanted || share.is_moving();
        let coming = match (&self.phase, share.rest) {
            (Phase::Ending { .. }, _) => bytes,
            (Phase::Ready { .. }, Rest::Lying) => bytes.saturating_sub(resting),
            _ => 0,
        };
        let is_there = self.phase.worker().is_some() || share.go;
        is_there.then(|| Holding {
            key,
            bytes,
            resting_bytes: if busy { bytes } else { resting.min(bytes) },
            busy,
            pinned: needs.pinned,
            coming,
            reload_ms: share.reload_ms,
            heat: share.used.heat(now),
        })
    }

    /// What it asks for now, if anything. A draft model isn't part of it.
    fn request(&self, key: ModelKey) -> Option<(Request<ModelKey>, Errand)> {
        let share = &self.share;
        let plan = share.needs.as_ref()?.plan;
        let compute = plan.cost.compute.saturating_add(share.park_bytes);
        let cost = Cost { compute, ..plan.cost };
        let request = |least, wanted| Request { key, cost, least, wanted };
        let first = request(plan.least_tokens, plan.first_tokens);
        match self.phase {
            Phase::Absent if !self.queue.is_empty() => Some((first, Errand::Start)),
            Phase::Ready { .. } if share.rest == Rest::Resting && self.queue.has_slotted() => {
                Some((first, Errand::Wake))
            }
            Phase::Ready { .. } if share.rest == Rest::Awake && !share.is_told() => {
                let (least, wanted) = share.claim?;
                let mut grown = request(least, wanted.clamp(least, plan.limit_tokens.max(least)));
                // The answers that run are kept beside the new pool while it is made.
                let parked = plan.cost.cache(share.granted);
                grown.cost.compute = grown.cost.compute.saturating_add(parked);
                Some((grown, Errand::Grow))
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Start,
    Wake,
    Grow,
}

impl<T> Admission<T> {
    /// Whether the step with this event will want to know the budget: somebody needs memory, or is about to.
    pub(crate) fn minds_memory(&self, event: &Event<T>) -> bool {
        let awake = |key: &ModelKey| {
            let model = self.models.get(key);
            model.is_some_and(|model| matches!(model.phase, Phase::Ready { .. }) && model.share.rest == Rest::Awake)
        };
        let brings_need = match event {
            Event::Submit(entry) => !awake(&entry.model),
            Event::Wants { .. } | Event::Resized { .. } | Event::Gone { .. } | Event::LoadFailed { .. } => true,
            _ => false,
        };
        brings_need || self.models.iter().any(|(key, model)| model.request(*key).is_some())
    }

    /// Bytes for all models together, as they are now; `None`: not known, and then all is granted.
    pub(crate) fn set_budget(&mut self, budget: Option<u64>) {
        self.budget = budget;
    }

    pub(super) fn know(&mut self, key: ModelKey, needs: Needs) {
        self.models.entry(key).or_default().share.needs = Some(needs);
    }

    pub(super) fn pin(&mut self, key: ModelKey, pinned: bool) {
        if let Some(needs) = self.models.get_mut(&key).and_then(|model| model.share.needs.as_mut()) {
            needs.pinned = pinned;
        }
    }

    pub(super) fn wants(&mut self, worker: WorkerKey, least: u32, wanted: u32) {
        if let Some(model) = self.model_of(worker) {
            model.share.claim = Some((least, wanted));
        }
    }

    /// The worker has another pool now, or the one that it had.
    pub(super) fn resized(&mut self, now: u64, worker: WorkerKey, tokens: u32, resting: bool, fault: Option<&Fault>) {
        let Some(model) = self.model_of(worker) else { return };
        if let Phase::Ready { idle_since, watch, .. } = &mut model.phase
            && model.running.is_empty()
        {
            *watch = None;
            if !resting {
                // It has done something, or couldn't rest: its time counts from now on.
                *idle_since = None;
            }
        }
        if let Phase::Ready { cells, .. } = &mut model.phase {
            *cells = tokens;
        }
        let share = &mut model.share;
        let was_waking = share.rest == Rest::Waking;
        share.granted = tokens;
        (share.growing, share.refused) = (None, false);
        share.rest = if resting { Rest::Resting } else { Rest::Awake };
        if was_waking && !resting {
            // It woke for somebody, whom it is to serve before it gives way.
            share.served = false;
        }
        if resting {
            // It rests because nobody there needs anything any more.
            share.claim = None;
        }
        if let (Some(fault), true, true) = (fault, was_waking, resting) {
            // It would most likely fail again.
            let waiting = model.queue.drain();
            self.fail(now, waiting, fault);
        }
    }

    /// Gives a worker that has been idle for long enough its rest.
    pub(super) fn lie_down(&mut self, key: ModelKey) {
        let Some(model) = self.models.get_mut(&key) else { return };
        if let Phase::Ready { worker, .. } = model.phase {
            model.share.rest = Rest::Lying;
            self.actions.push(Action::Rest(worker));
        }
    }

    /// Decides for everybody who needs memory, the longest waiting first.
    pub(super) fn share_memory(&mut self, now: u64) {
        for model in self.models.values_mut() {
            model.share.yielding = false;
            model.share.go = model.share.needs.is_none();
        }
        let mut errands = Vec::new();
        for (key, model) in &mut self.models {
            match model.request(*key) {
                Some((request, errand)) => {
                    let ticket = *model.share.ticket.get_or_insert_with(|| {
                        self.tickets += 1;
                        self.tickets
                    });
                    errands.push((ticket, request, errand));
                }
                None => model.share.ticket = None,
            }
        }
        if self.closing {
            return;
        }
        // A job that runs and needs more has to be answered: others may be waiting for its end.
        errands.sort_by_key(|(ticket, _, errand)| (*errand != Errand::Grow, *ticket));
        let mut promised = Vec::new();
        for (_, request, errand) in errands {
            // It may have been told to make way for one before it.
            let still = self.models.get(&request.key).and_then(|model| model.request(request.key));
            if still != Some((request, errand)) {
                continue;
            }
            self.decide(now, &request, errand, &promised);
            if self.models.get(&request.key).is_some_and(|model| model.share.ticket.is_some()) {
                promised.push(self.promise(now, &request, &promised));
            }
        }
    }

    /// Who waits has a claim on what is being given back for it: it stands before those that come later,
    /// who may have only what is left.
    fn promise(&self, now: u64, request: &Request<ModelKey>, before: &[Holding<ModelKey>]) -> Holding<ModelKey> {
        let yielding =
            |holding: &Holding<ModelKey>| self.models.get(&holding.key).is_some_and(|model| model.share.yielding);
        let held = |holding: &Holding<ModelKey>| if yielding(holding) { holding.bytes } else { holding.coming };
        let others = self.holdings(now);
        let released: u64 = others.iter().filter(|holding| holding.key != request.key).map(held).sum();
        let taken: u64 = before.iter().map(|holding| holding.bytes).sum();
        let bytes = request.cost.of(request.least).saturating_sub(released.saturating_sub(taken));
        let key = request.key;
        Holding { key, bytes, resting_bytes: bytes, busy: true, pinned: true, coming: 0, reload_ms: 0, heat: 0.0 }
    }

    fn decide(&mut self, now: u64, request: &Request<ModelKey>, errand: Errand, promised: &[Holding<ModelKey>]) {
        let mut holdings = self.holdings(now);
        holdings.extend_from_slice(promised);
        match residency::decide(self.budget, &holdings, request) {
            Verdict::Grant { tokens } => {
                if !self.has_room_for_draft(&holdings, request) {
                    self.leave_draft(request.key);
                }
                self.grant(now, request.key, tokens, errand);
            }
            Verdict::Room { rest, end } => self.let_go(now, &rest, &end),
            Verdict::Wait => {}
            Verdict::Short { .. } if errand == Errand::Grow => self.refuse_growth(request.key),
            // Those before it come first; what is there for it shows then.
            Verdict::Short { .. } if !promised.is_empty() => {}
            Verdict::Short { available, .. } => {
                if !self.ask_for_turn(now, request) {
                    self.refuse(now, request, available);
                }
            }
        }
    }

    /// Whether what a model wants leaves enough for the draft model that it has: nobody makes room for one.
    fn has_room_for_draft(&self, holdings: &[Holding<ModelKey>], request: &Request<ModelKey>) -> bool {
        let draft = self.draft(request.key).all();
        let compute = request.cost.compute.saturating_add(draft);
        let beside = Request { cost: Cost { compute, ..request.cost }, ..*request };
        let all = Verdict::Grant { tokens: request.wanted.max(request.least) };
        draft == 0 || residency::decide(self.budget, holdings, &beside) == all
    }

    /// Its worker lets go of it before it does anything else.
    fn leave_draft(&mut self, key: ModelKey) {
        self.give_up_draft(key);
        if let Some(worker) = self.models.get(&key).and_then(|model| model.phase.worker()) {
            self.actions.push(Action::LeaveDraft(worker));
        }
    }

    /// What every model holds.
    pub(crate) fn holdings(&self, now: u64) -> Vec<Holding<ModelKey>> {
        self.models.iter().filter_map(|(key, model)| model.holding(*key, now)).collect()
    }

    fn grant(&mut self, now: u64, key: ModelKey, tokens: u32, errand: Errand) {
        let spare = self.budget.map(|budget| {
            let others = self.holdings(now).iter().map(|holding| holding.bytes).fold(0, u64::saturating_add);
            let own = self.models.get(&key).and_then(|model| model.share.needs.as_ref());
            budget.saturating_sub(others).saturating_sub(own.map_or(0, |needs| needs.plan.cost.of(tokens)))
        });
        let Some(model) = self.models.get_mut(&key) else { return };
        let share = &mut model.share;
        share.ticket = None;
        match (errand, model.phase.worker()) {
            (Errand::Start, _) => {
                share.granted = tokens;
                if let Some(Plan { cost, draft, .. }) = share.needs.as_ref().map(|needs| needs.plan) {
                    share.draft = draft.within(spare);
                    let spare = spare.map(|spare| spare.saturating_sub(share.draft.all()));
                    share.park_bytes = park::budget(cost, tokens, spare);
                }
                share.go = true;
            }
            (Errand::Wake, Some(worker)) => {
                share.granted = tokens;
                share.rest = Rest::Waking;
                self.actions.push(Action::Resize { worker, context_tokens: tokens });
            }
            (Errand::Grow, Some(worker)) => {
                share.claim = None;
                share.growing = Some(tokens);
                self.actions.push(Action::Resize { worker, context_tokens: tokens });
            }
            (Errand::Wake | Errand::Grow, None) => {}
        }
    }

    fn let_go(&mut self, now: u64, rest: &[ModelKey], end: &[ModelKey]) {
        for key in rest {
            self.lie_down(*key);
        }
        let until = now + self.bounds.stop_ms;
        for key in end {
            let Some(model) = self.models.get_mut(key) else { continue };
            if let Phase::Ready { worker, .. } = model.phase {
                model.phase = Phase::Ending { worker, until, killed: false };
                self.actions.push(Action::Stop(worker));
            }
        }
    }

    /// Whether there would be room if those who are busy now were not. They are to take no new asks then,
    /// and go when they have none left.
    fn ask_for_turn(&mut self, now: u64, request: &Request<ModelKey>) -> bool {
        let mut holdings = self.holdings(now);
        for holding in holdings.iter_mut().filter(|holding| holding.coming == 0 && !holding.pinned) {
            holding.busy = false;
        }
        match residency::decide(self.budget, &holdings, request) {
            Verdict::Room { rest, end } => {
                for key in rest.iter().chain(&end) {
                    if let Some(model) = self.models.get_mut(key) {
                        model.share.yielding = true;
                    }
                }
            }
            Verdict::Grant { .. } | Verdict::Wait => {}
            Verdict::Short { .. } => return false,
        }
        // One that only had asks waiting is idle now.
        if let Verdict::Room { rest, end } = residency::decide(self.budget, &self.holdings(now), request) {
            self.let_go(now, &rest, &end);
        }
        true
    }

    fn refuse(&mut self, now: u64, request: &Request<ModelKey>, available: Bytes) {
        let Some(model) = self.models.get_mut(&request.key) else { return };
        model.share.ticket = None;
        let Some(needs) = &model.share.needs else { return };
        let fault = plan::short(&needs.name, request.cost, request.least, available);
        let waiting = model.queue.drain();
        self.fail(now, waiting, &fault);
    }

    /// The worker learns that what it has is all; it ends with both numbers who needs more.
    fn refuse_growth(&mut self, key: ModelKey) {
        let Some(model) = self.models.get_mut(&key) else { return };
        model.share.claim = None;
        model.share.ticket = None;
        model.share.refused = true;
        let context_tokens = model.share.granted;
        if let Some(worker) = model.phase.worker() {
            self.actions.push(Action::Resize { worker, context_tokens });
        }
    }

    /// Tokens of the pool that a model that starts was granted; 0 when nothing is known of its memory.
    pub(crate) fn granted(&self, key: ModelKey) -> u32 {
        self.models.get(&key).map_or(0, |model| model.share.granted)
    }

    /// What was granted for its draft model.
    pub(crate) fn draft(&self, key: ModelKey) -> DraftCost {
        self.models.get(&key).map(|model| model.share.draft).unwrap_or_default()
    }

    /// Its worker does without.
    pub(crate) fn give_up_draft(&mut self, key: ModelKey) {
        if let Some(model) = self.models.get_mut(&key) {
            model.share.draft = DraftCost::default();
        }
    }

    /// Bytes that its worker may keep states of parked asks in.
    pub(crate) fn park_bytes(&self, key: ModelKey) -> u64 {
        self.models.get(&key).map_or(0, |model| model.share.park_bytes)
    }
}

#[cfg(test)]
mod tests;
