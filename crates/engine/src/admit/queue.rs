//! Who is next for one model: interactive before batch, apps in turn, each app first come first served.
//!
//! Asks that were parked wait here too, before those of their app that have not begun.

use super::{Entry, Need};
use base::{AppId, AskId, Priority};
use std::collections::{BTreeMap, VecDeque};

/// One that needs more room than there is lets so many others pass, then they wait with it. Short ones take a second or
/// two together, so that it costs a long one little; with 8, the ninth and tenth of ten short questions waited ten seconds.
pub(super) const PASSES_MAX: u32 = 32;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Needs no slot, so it waits only for a worker to be there.
    ear: VecDeque<AskId>,
    interactive: Turns,
    batch: Turns,
    /// Since when batch asks wait and none of them had a turn that nobody could take from it.
    batch_since: Option<u64>,
}

/// INVARIANT: an app stands in `order` exactly once while `waiting` holds asks of it, and not else.
#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<AppId>,
    waiting: BTreeMap<AppId, VecDeque<AskId>>,
    /// First asks of their apps that found no room: how many others went on instead.
    passes: BTreeMap<AskId, u32>,
}

/// The next one to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) ask: AskId,
    /// A batch ask that goes before interactive ones, because it has waited long enough.
    pub(super) aged: bool,
}

impl Queue {
    pub(super) fn push(&mut self, now: u64, entry: &Entry) {
        match entry.need {
            Need::Ear => self.ear.push_back(entry.ask),
            Need::Slot => self.turns(entry.priority).push(&entry.app, entry.ask, false),
        }
        self.note_batch(now);
    }

    /// For one that was parked: before those of its app that have not begun.
    pub(super) fn push_parked(&mut self, now: u64, entry: &Entry) {
        self.turns(entry.priority).push(&entry.app, entry.ask, true);
        self.note_batch(now);
    }

    /// The next ask; of those that need a slot only one that `fits`. Interactive ones come first, but after
    /// `patience_ms` in which batch asks wait, one of them has its turn.
    pub(super) fn pop(&mut self, now: u64, patience_ms: u64, fits: impl Fn(AskId) -> bool) -> Option<Next> {
        if let Some(ask) = self.ear.pop_front() {
            return Some(Next { ask, aged: false });
        }
        let due = self.batch_since.is_some_and(|since| now >= since.saturating_add(patience_ms));
        if due {
            if self.batch.is_blocked(&fits) {
                return None;
            }
            if let Some(ask) = self.batch.pop(&fits) {
                self.batch_since = None;
                self.note_batch(now);
                return Some(Next { ask, aged: true });
            }
        }
        if !self.interactive.is_empty() {
            let ask = self.interactive.pop(&fits)?;
            if due {
                self.batch.note_passes(&fits);
            }
            return Some(Next { ask, aged: false });
        }
        self.batch.pop(&fits).map(|ask| Next { ask, aged: false })
    }

    /// Takes this one, for whom room was made.
    pub(super) fn take(&mut self, now: u64, entry: &Entry) {
        let turns = self.turns(entry.priority);
        turns.remove(&entry.app, entry.ask);
        turns.rotate(&entry.app);
        self.note_batch(now);
    }

    /// The first of each app, in their turn: of the interactive ones, or of the batch ones when there is no
    /// other.
    pub(super) fn heads(&self) -> Vec<AskId> {
        let turns = if self.interactive.is_empty() { &self.batch } else { &self.interactive };
        turns.heads().collect()
    }

    pub(super) fn remove(&mut self, now: u64, entry: &Entry) {
        match entry.need {
            Need::Ear => self.ear.retain(|ask| *ask != entry.ask),
            Need::Slot => self.turns(entry.priority).remove(&entry.app, entry.ask),
        }
        self.note_batch(now);
    }

    pub(super) fn drain(&mut self) -> Vec<AskId> {
        let all = self.asks();
        *self = Self::default();
        all
    }

    pub(super) fn asks(&self) -> Vec<AskId> {
        let turns = [&self.interactive, &self.batch].into_iter().flat_map(|turns| turns.waiting.values().flatten());
        self.ear.iter().chain(turns).copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        let of = |turns: &Turns| turns.waiting.values().map(VecDeque::len).sum::<usize>();
        self.ear.len() + of(&self.interactive) + of(&self.batch)
    }

    /// Waiting asks of one app; probes, which are Freehold's own, aside.
    pub(super) fn len_of(&self, app: &AppId) -> usize {
        [&self.interactive, &self.batch].iter().filter_map(|turns| turns.waiting.get(app)).map(VecDeque::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody waits for a slot.
    pub(super) fn has_slotted(&self) -> bool {
        self.len() > self.ear.len()
    }

    fn turns(&mut self, priority: Priority) -> &mut Turns {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }

    fn note_batch(&mut self, now: u64) {
        self.batch_since = if self.batch.is_empty() { None } else { self.batch_since.or(Some(now)) };
    }
}

impl Turns {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn push(&mut self, app: &AppId, ask: AskId, first: bool) {
        let line = self.waiting.entry(app.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(app.clone());
        }
        if first { line.push_front(ask) } else { line.push_back(ask) }
    }

    fn heads(&self) -> impl Iterator<Item = AskId> {
        self.order.iter().filter_map(|app| self.waiting.get(app)?.front().copied())
    }

    /// Whether somebody has let enough others pass: then nobody else goes on before there is room for it.
    fn is_blocked(&self, fits: impl Fn(AskId) -> bool) -> bool {
        self.heads().any(|ask| self.passes.get(&ask).is_some_and(|passes| *passes >= PASSES_MAX) && !fits(ask))
    }

    fn pop(&mut self, fits: impl Fn(AskId) -> bool) -> Option<AskId> {
        if self.is_blocked(&fits) {
            return None;
        }
        let (app, ask) = self.order.iter().find_map(|app| {
            let ask = self.waiting.get(app)?.front().copied()?;
            fits(ask).then(|| (app.clone(), ask))
        })?;
        self.note_passes(&fits);
        self.remove(&app, ask);
        self.rotate(&app);
        Some(ask)
    }

    fn note_passes(&mut self, fits: impl Fn(AskId) -> bool) {
        let passed: Vec<AskId> = self.heads().filter(|ask| !fits(*ask)).collect();
        for ask in passed {
            *self.passes.entry(ask).or_default() += 1;
        }
    }

    fn remove(&mut self, app: &AppId, ask: AskId) {
        let Some(line) = self.waiting.get_mut(app) else { return };
        line.retain(|waiting| *waiting != ask);
        self.passes.remove(&ask);
        if line.is_empty() {
            self.waiting.remove(app);
            self.order.retain(|waiting| waiting != app);
        }
    }

    /// Its turn has been.
    fn rotate(&mut self, app: &AppId) {
        if let Some(place) = self.order.iter().position(|waiting| waiting == app)
            && let Some(app) = self.order.remove(place)
        {
            self.order.push_back(app);
        }
    }
}
