//! Who is next for one model: interactive before batch, apps in turn, each app first come first served.

use super::{Entry, Need};
use base::{AppId, AskId, Priority};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Needs no slot, so it waits only for a worker to be there.
    ear: VecDeque<AskId>,
    interactive: Turns,
    batch: Turns,
}

/// INVARIANT: an app stands in `order` exactly once while `waiting` holds asks of it, and not else.
#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<AppId>,
    waiting: BTreeMap<AppId, VecDeque<AskId>>,
}

impl Queue {
    pub(super) fn push(&mut self, entry: &Entry) {
        match entry.need {
            Need::Ear => self.ear.push_back(entry.ask),
            Need::Slot => self.turns(entry.priority).push(&entry.app, entry.ask),
        }
    }

    /// The next ask; of those that need a slot only when `slot_free`.
    pub(super) fn pop(&mut self, slot_free: bool) -> Option<AskId> {
        let slotted = |queue: &mut Self| queue.interactive.pop().or_else(|| queue.batch.pop());
        self.ear.pop_front().or_else(|| slot_free.then(|| slotted(self)).flatten())
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        match entry.need {
            Need::Ear => self.ear.retain(|ask| *ask != entry.ask),
            Need::Slot => self.turns(entry.priority).remove(&entry.app, entry.ask),
        }
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
}

impl Turns {
    fn push(&mut self, app: &AppId, ask: AskId) {
        let line = self.waiting.entry(app.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(app.clone());
        }
        line.push_back(ask);
    }

    fn pop(&mut self) -> Option<AskId> {
        let app = self.order.pop_front()?;
        let line = self.waiting.get_mut(&app)?;
        let ask = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&app);
        } else {
            self.order.push_back(app);
        }
        ask
    }

    fn remove(&mut self, app: &AppId, ask: AskId) {
        let Some(line) = self.waiting.get_mut(app) else { return };
        line.retain(|waiting| *waiting != ask);
        if line.is_empty() {
            self.waiting.remove(app);
            self.order.retain(|waiting| waiting != app);
        }
    }
}
