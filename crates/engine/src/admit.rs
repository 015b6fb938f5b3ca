//! Which ask runs when, which steps back, and which worker lives: a machine that takes events and time and
//! returns actions. Pure: it reads no clock, starts no process and holds no text of anybody's. Who gets room
//! on a worker is in `preempt`, who is next in `queue`.
//!
//! [`Admission::step`] is the whole of it. The rim (`supervise`) carries the actions out and sleeps
//! until [`Admission::next_wake`]; with nothing to do there is no such time, and nothing ticks.
//!
//! INVARIANT: every submitted ask gets exactly one [`Action::End`]; a worker that dies ends only asks
//! that ran on it or waited for its load, and of those that it never said a word about only the ones that
//! have killed or met a dead worker before; the end of an ask that runs, and its stepping back, frees its
//! slot only when the worker has said so, or is gone; an ask that has stepped back goes on or ends.

mod memory;
mod preempt;
mod queue;

pub(crate) use memory::Needs;

use base::{AppId, AskId, Code, Fault, Millis, Priority};
use memory::{Rest, Share};
pub(crate) use preempt::{Counts, Size};
use preempt::{Heard, Run};
use queue::Queue;
use std::collections::{BTreeMap, BTreeSet};

/// A model that the engine knows; the rim hands these out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ModelKey(pub(crate) u32);

/// One life of one worker process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerKey(pub(crate) u64);

/// What an ask needs of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A sequence of its own for as long as it runs.
    Slot,
    /// Only the worker's ear: a probe.
    Ear,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) ask: AskId,
    pub(crate) model: ModelKey,
    pub(crate) app: AppId,
    pub(crate) priority: Priority,
    pub(crate) need: Need,
    /// Of a generation, which alone takes cells of the pool and can be parked.
    pub(crate) size: Option<Size>,
    /// From now on.
    pub(crate) deadline_ms: Option<u64>,
}

/// What has happened. `T` is what the rim needs to finish an ask; the machine only passes it on.
#[derive(Debug)]
pub(crate) enum Event<T> {
    Submit(Entry),
    /// Nobody reads the answer any more.
    Dropped(AskId),
    Loading {
        worker: WorkerKey,
        percent: u8,
    },
    Ready {
        worker: WorkerKey,
        slots: u32,
        /// Of the pool that all its asks share, one for each token.
        cells: u32,
    },
    /// The prompt in tokens, and what it may generate.
    Accepted {
        worker: WorkerKey,
        ask: AskId,
        prompt_tokens: u32,
        tokens_max: u32,
    },
    /// The ask takes no room any more: it was told so, or (not `held`) the pool has run dry.
    Parked {
        worker: WorkerKey,
        ask: AskId,
        held: bool,
        tokens: u32,
        saved: bool,
    },
    /// It has its room again.
    Resumed {
        worker: WorkerKey,
        ask: AskId,
    },
    /// Its reader leaves much lying.
    Slow(AskId),
    /// Its reader has read all.
    Drained(AskId),
    /// The worker can't serve; it is ended if it hasn't ended itself. When memory was short and an idle
    /// model can make room, another is started for those who wait.
    LoadFailed {
        worker: WorkerKey,
        fault: Fault,
    },
    /// The worker's last word on an ask.
    Ended {
        worker: WorkerKey,
        ask: AskId,
        result: Result<T, Fault>,
    },
    /// These workers have said something since they were last named here.
    Seen(Vec<WorkerKey>),
    /// The process has ended, and had said nothing about the asks in `unheard`.
    Gone {
        worker: WorkerKey,
        fault: Fault,
        unheard: BTreeSet<AskId>,
    },
    /// What the model needs of the memory; said before its first ask, and again when it is known better.
    Know(ModelKey, Needs),
    /// Whether it is kept in memory.
    Pin(ModelKey, bool),
    /// A job needs a larger pool: at least, and for a while.
    Wants {
        worker: WorkerKey,
        least: u32,
        wanted: u32,
    },
    /// The answer to `Resize` and `Rest`: the pool as it is now, or will be after the rest.
    Resized {
        worker: WorkerKey,
        tokens: u32,
        resting: bool,
        fault: Option<Fault>,
    },
    /// Let the model go as soon as nothing runs on it.
    Unload(ModelKey),
    Shutdown,
    /// Only time has passed.
    Tick,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Action<T> {
    Start {
        model: ModelKey,
        worker: WorkerKey,
    },
    Begin {
        worker: WorkerKey,
        ask: AskId,
        deadline_left_ms: Option<u64>,
    },
    Cancel {
        worker: WorkerKey,
        ask: AskId,
    },
    /// It is to step back, and says when it has.
    Hold {
        worker: WorkerKey,
        ask: AskId,
    },
    /// It is to go on.
    Resume {
        worker: WorkerKey,
        ask: AskId,
    },
    Ping(WorkerKey),
    /// Do without the draft model from now on.
    LeaveDraft(WorkerKey),
    /// Have a pool of so many tokens; what it has already: there is no more.
    Resize {
        worker: WorkerKey,
        context_tokens: u32,
    },
    /// Give back everything but the weights.
    Rest(WorkerKey),
    /// Ask it to end.
    Stop(WorkerKey),
    /// End it.
    Kill(WorkerKey),
    /// The ask waits; `percent` while its model loads.
    Waiting {
        ask: AskId,
        percent: Option<u8>,
    },
    End {
        ask: AskId,
        ending: Ending<T>,
    },
}

#[derive(Debug, PartialEq)]
pub(crate) enum Ending<T> {
    Done(T),
    Fault(Fault),
    /// Nobody is there to be told.
    Dropped,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Asks that wait, all apps and models together.
    pub(crate) queue_max: usize,
    /// Asks of one app that wait.
    pub(crate) app_queue_max: usize,
    pub(crate) load_timeout_ms: u64,
    /// Idle for so long, a model gives back cache and room to compute; 0: never.
    pub(crate) idle_rest_ms: u64,
    /// Idle for so long, it is let go; 0: never.
    pub(crate) idle_unload_ms: u64,
    /// Silence with work outstanding before the worker is asked whether it lives.
    pub(crate) ping_after_ms: u64,
    /// Silence after that question before the worker counts as hung.
    pub(crate) hang_ms: u64,
    /// For a worker to end when asked, and then when killed.
    pub(crate) stop_ms: u64,
    /// So long an ask runs before it makes room for one of an app that has less, and so long that one waits.
    pub(crate) quantum_ms: u64,
    /// After so long without a batch ask served, the next free room is a batch ask's.
    pub(crate) batch_patience_ms: u64,
    /// An answer of which nothing is read for so long is given up.
    pub(crate) unread_ms: u64,
}

impl Bounds {
    /// When a model that is idle since then rests.
    fn rest_at(&self, idle_since: Option<u64>) -> Option<u64> {
        idle_since.filter(|_| self.idle_rest_ms > 0).map(|since| since + self.idle_rest_ms)
    }

    /// When a model that is idle since then is let go.
    fn unload_at(&self, idle_since: Option<u64>) -> Option<u64> {
        idle_since.filter(|_| self.idle_unload_ms > 0).map(|since| since + self.idle_unload_ms)
    }
}

#[derive(Debug)]
pub(crate) struct Admission<T> {
    bounds: Bounds,
    models: BTreeMap<ModelKey, Model>,
    /// Those that haven't ended.
    asks: BTreeMap<AskId, Live>,
    workers_made: u64,
    closing: bool,
    /// Bytes for all models together, by the last measurement; `None`: not known.
    budget: Option<u64>,
    /// Handed out to models that need memory, so that the first is served first.
    tickets: u64,
    /// When it was last asked.
    now: u64,
    actions: Vec<Action<T>>,
}

#[derive(Debug)]
struct Live {
    entry: Entry,
    deadline: Option<u64>,
    /// Since when it waits for its turn, or for its next one.
    since: u64,
    /// When it is given up, unless its reader reads.
    slow_until: Option<u64>,
    /// Given to a second worker, because the first one ended without a word on it. Never to a third: it
    /// may be what kills them.
    again: bool,
}

#[derive(Debug, Default)]
struct Model {
    phase: Phase,
    queue: Queue,
    /// Asks that the worker was given and has not ended. The ones that nobody waits for any more are
    /// no longer in `asks`, and still take their slot.
    running: BTreeMap<AskId, Run>,
    /// Others step back for this one: what becomes free is for it.
    claim: Option<AskId>,
    /// Unload at the first idle moment.
    leave: bool,
    /// Start only when this worker, which was let go to make room, is gone.
    after: Option<WorkerKey>,
    share: Share,
    heard: Heard,
}

impl Model {
    /// When it rests or is let go, if nothing happens before.
    fn idle_end(&self, bounds: &Bounds, idle_since: Option<u64>) -> Option<u64> {
        let rest_at = bounds.rest_at(idle_since).filter(|_| self.share.rest == Rest::Awake);
        let unload_at = bounds.unload_at(idle_since).filter(|_| !self.share.is_pinned());
        rest_at.into_iter().chain(unload_at).min()
    }
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Absent,
    Starting {
        worker: WorkerKey,
        until: u64,
        percent: u8,
    },
    Ready {
        worker: WorkerKey,
        slots: usize,
        cells: u32,
        watch: Option<Watch>,
        /// Since when nothing runs on it.
        idle_since: Option<u64>,
    },
    Ending {
        worker: WorkerKey,
        until: u64,
        killed: bool,
    },
}

/// Kept while work is outstanding.
#[derive(Debug, Clone, Copy)]
enum Watch {
    Quiet { ping_at: u64 },
    Asked { dead_at: u64 },
}

impl Phase {
    fn worker(&self) -> Option<WorkerKey> {
        match self {
            Phase::Absent => None,
            Phase::Starting { worker, .. } | Phase::Ready { worker, .. } | Phase::Ending { worker, .. } => {
                Some(*worker)
            }
        }
    }
}

impl<T> Admission<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            models: BTreeMap::new(),
            asks: BTreeMap::new(),
            workers_made: 0,
            closing: false,
            budget: None,
            tickets: 0,
            now: 0,
            actions: Vec::new(),
        }
    }

    /// Takes one event at `now` (milliseconds on a clock that never goes back) and says what to do.
    pub(crate) fn step(&mut self, now: u64, event: Event<T>) -> Vec<Action<T>> {
        let newcomer = if let Event::Submit(entry) = &event { Some(entry.ask) } else { None };
        match event {
            Event::Submit(entry) => self.submit(now, entry),
            Event::Dropped(ask) => self.abandon(now, ask, Ending::Dropped),
            Event::Loading { worker, percent } => self.loading(worker, percent),
            Event::Ready { worker, slots, cells } => self.ready(now, worker, slots, cells),
            Event::Accepted { .. }
            | Event::Parked { .. }
            | Event::Resumed { .. }
            | Event::Slow(_)
            | Event::Drained(_) => self.hear_of_room(now, event),
            Event::LoadFailed { worker, fault } => self.load_failed(now, worker, &fault),
            Event::Ended { worker, ask, result } => self.ended(now, worker, ask, result),
            Event::Seen(workers) => workers.into_iter().for_each(|worker| self.seen(now, worker)),
            Event::Gone { worker, fault, unheard } => self.gone(now, worker, &fault, &unheard),
            Event::Know(model, needs) => self.know(model, needs),
            Event::Pin(model, pinned) => self.pin(model, pinned),
            Event::Wants { worker, least, wanted } => {
                self.seen(now, worker);
                self.wants(worker, least, wanted);
            }
            Event::Resized { worker, tokens, resting, fault } => {
                self.seen(now, worker);
                self.resized(now, worker, tokens, resting, fault.as_ref());
            }
            Event::Unload(model) => {
                if let Some(model) = self.models.get_mut(&model) {
                    model.leave = true;
                }
            }
            Event::Shutdown => self.shutdown(now),
            Event::Tick => {}
        }
        self.expire(now);
        self.settle(now);
        if let Some(ask) = newcomer {
            self.say_if_waiting(ask);
        }
        std::mem::take(&mut self.actions)
    }

    /// When `step` must be called again although nothing has happened.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let now = self.now;
        let phases = self.models.values().filter_map(|model| match model.phase {
            Phase::Absent => None,
            Phase::Starting { until, .. } | Phase::Ending { until, .. } => Some(until),
            Phase::Ready { watch: Some(Watch::Quiet { ping_at: at } | Watch::Asked { dead_at: at }), .. } => Some(at),
            Phase::Ready { watch: None, idle_since, .. } => model.idle_end(&self.bounds, idle_since),
        });
        let asks = self.asks.values().flat_map(|live| [live.deadline, live.slow_until]).flatten();
        phases.chain(asks).chain(self.next_turns(now)).min()
    }

    /// Whether no worker is left.
    pub(crate) fn is_still(&self) -> bool {
        self.models.values().all(|model| matches!(model.phase, Phase::Absent))
    }

    /// Where the asks of a model are.
    pub(crate) fn load_of(&self, model: ModelKey) -> Counts {
        self.models.get(&model).map(Model::counts).unwrap_or_default()
    }

    fn submit(&mut self, now: u64, entry: Entry) {
        let (ask, model) = (entry.ask, entry.model);
        if let Some(fault) = self.refusal(&entry) {
            self.actions.push(Action::End { ask, ending: Ending::Fault(fault) });
            return;
        }
        let deadline = entry.deadline_ms.map(|left| now.saturating_add(left));
        let place = self.models.entry(model).or_default();
        place.leave = false;
        place.share.note_use(now);
        place.queue.push(now, &entry);
        self.asks.insert(ask, Live { entry, deadline, since: now, slow_until: None, again: false });
    }

    /// What a newcomer is told that neither began nor ended at once.
    fn say_if_waiting(&mut self, ask: AskId) {
        let Some(model) = self.asks.get(&ask).and_then(|live| self.models.get(&live.entry.model)) else { return };
        if model.running.contains_key(&ask) {
            return;
        }
        let percent = match model.phase {
            Phase::Starting { percent, .. } => Some(percent),
            Phase::Absent | Phase::Ready { .. } | Phase::Ending { .. } => None,
        };
        self.actions.push(Action::Waiting { ask, percent });
    }

    fn refusal(&self, entry: &Entry) -> Option<Fault> {
        if self.closing {
            return Some(stopping());
        }
        let waiting: usize = self.models.values().map(|model| model.queue.len()).sum();
        let of_app: usize = self.models.values().map(|model| model.queue.len_of(&entry.app)).sum();
        let full = |count: usize, whose: &str| {
            Fault::new(Code::Busy, format!("{count} asks are waiting{whose} already, which is the most"))
                .hint("try again when some of them are done")
        };
        if waiting >= self.bounds.queue_max {
            return Some(full(waiting, ""));
        }
        (of_app >= self.bounds.app_queue_max).then(|| full(of_app, " for this app"))
    }

    /// Ends an ask now; if it runs, the worker is told in the same step.
    fn abandon(&mut self, now: u64, ask: AskId, ending: Ending<T>) {
        let Some(live) = self.asks.remove(&ask) else { return };
        if let Some(model) = self.models.get_mut(&live.entry.model) {
            model.queue.remove(now, &live.entry);
            if let (Some(run), Phase::Ready { worker, .. }) = (model.running.get_mut(&ask), &model.phase) {
                run.cancel();
                self.actions.push(Action::Cancel { worker: *worker, ask });
            }
        }
        self.actions.push(Action::End { ask, ending });
    }

    fn loading(&mut self, worker: WorkerKey, now_percent: u8) {
        let Some(model) = self.model_of(worker) else { return };
        let Phase::Starting { percent, .. } = &mut model.phase else { return };
        *percent = now_percent;
        let waiting = model.queue.asks();
        let tell = |ask| Action::Waiting { ask, percent: Some(now_percent) };
        self.actions.extend(waiting.into_iter().map(tell));
    }

    fn ready(&mut self, now: u64, worker: WorkerKey, slots: u32, cells: u32) {
        let Some(model) = self.model_of(worker) else { return };
        if matches!(model.phase, Phase::Starting { .. }) {
            let slots = usize::try_from(slots).unwrap_or(usize::MAX).max(1);
            model.phase = Phase::Ready { worker, slots, cells, watch: None, idle_since: None };
            model.share.note_ready(now);
        }
    }

    fn load_failed(&mut self, now: u64, worker: WorkerKey, fault: &Fault) {
        let until = now + self.bounds.stop_ms;
        let Some(model) = self.model_of(worker) else { return };
        if !matches!(model.phase, Phase::Starting { .. }) {
            return;
        }
        model.phase = Phase::Ending { worker, until, killed: true };
        self.actions.push(Action::Kill(worker));
        let is_wanted = self.model_of(worker).is_some_and(|model| !model.queue.is_empty());
        let after = if is_wanted && fault.code == Code::MemoryShort { self.make_room(until) } else { None };
        let Some(model) = self.model_of(worker) else { return };
        model.after = after;
        if after.is_none() {
            let waiting = model.queue.drain();
            self.fail(now, waiting, fault);
        }
    }

    /// Lets the model go that has been idle for longest; whoever needs its memory starts after it.
    fn make_room(&mut self, until: u64) -> Option<WorkerKey> {
        let idle = self
            .models
            .values_mut()
            .filter(|model| model.running.is_empty() && model.queue.is_empty() && !model.share.is_pinned());
        let by_age = idle.filter_map(|model| match model.phase {
            Phase::Ready { worker, idle_since: Some(since), .. } => Some((since, worker, model)),
            _ => None,
        });
        let (_, worker, model) = by_age.min_by_key(|(since, worker, _)| (*since, *worker))?;
        model.phase = Phase::Ending { worker, until, killed: false };
        self.actions.push(Action::Stop(worker));
        Some(worker)
    }

    fn ended(&mut self, now: u64, worker: WorkerKey, ask: AskId, result: Result<T, Fault>) {
        self.seen(now, worker);
        let Some(model) = self.model_of(worker) else { return };
        if model.running.remove(&ask).is_none() {
            return;
        }
        let Some(live) = self.asks.remove(&ask) else { return };
        if let Some(model) = self.models.get_mut(&live.entry.model) {
            model.queue.remove(now, &live.entry);
        }
        let ending = result.map_or_else(Ending::Fault, Ending::Done);
        self.actions.push(Action::End { ask, ending });
    }

    fn seen(&mut self, now: u64, worker: WorkerKey) {
        let ping_at = now + self.bounds.ping_after_ms;
        let Some(model) = self.model_of(worker) else { return };
        if let Phase::Ready { watch: Some(watch), .. } = &mut model.phase {
            *watch = Watch::Quiet { ping_at };
        }
    }

    fn gone(&mut self, now: u64, worker: WorkerKey, fault: &Fault, unheard: &BTreeSet<AskId>) {
        let Some(key) = self.models.iter().find(|(_, model)| model.phase.worker() == Some(worker)).map(|(key, _)| *key)
        else {
            return;
        };
        let Some(model) = self.models.get_mut(&key) else { return };
        let before = std::mem::take(&mut model.phase);
        model.share.clear();
        model.claim = None;
        let mut lost: Vec<AskId> = std::mem::take(&mut model.running).into_keys().collect();
        if matches!(before, Phase::Ready { .. }) {
            // It was dead already, or died while it read them.
            lost.retain(|ask| match self.asks.get_mut(ask) {
                Some(live) if unheard.contains(ask) && live.entry.need == Need::Slot && !live.again => {
                    live.again = true;
                    // It may have waited for its next turn there.
                    model.queue.remove(now, &live.entry);
                    model.queue.push(now, &live.entry);
                    live.slow_until = None;
                    false
                }
                _ => true,
            });
        }
        // A worker that dies while it loads would most likely do so again.
        if matches!(before, Phase::Starting { .. }) {
            lost.extend(model.queue.drain());
        }
        self.fail(now, lost, fault);
    }

    fn shutdown(&mut self, now: u64) {
        self.closing = true;
        let until = now + self.bounds.stop_ms;
        for model in self.models.values_mut() {
            model.queue.drain();
            model.running.clear();
            match model.phase {
                Phase::Absent | Phase::Ending { .. } => {}
                Phase::Starting { worker, .. } => {
                    model.phase = Phase::Ending { worker, until, killed: true };
                    self.actions.push(Action::Kill(worker));
                }
                Phase::Ready { worker, .. } => {
                    model.phase = Phase::Ending { worker, until, killed: false };
                    self.actions.push(Action::Stop(worker));
                }
            }
        }
        let all = std::mem::take(&mut self.asks).into_keys();
        self.actions.extend(all.map(|ask| Action::End { ask, ending: Ending::Fault(stopping()) }));
    }

    fn fail(&mut self, now: u64, asks: Vec<AskId>, fault: &Fault) {
        for ask in asks {
            if let Some(live) = self.asks.remove(&ask) {
                if let Some(model) = self.models.get_mut(&live.entry.model) {
                    model.queue.remove(now, &live.entry);
                }
                self.actions.push(Action::End { ask, ending: Ending::Fault(fault.clone()) });
            }
        }
    }

    fn model_of(&mut self, worker: WorkerKey) -> Option<&mut Model> {
        self.models.values_mut().find(|model| model.phase.worker() == Some(worker))
    }

    /// What time alone brings about.
    fn expire(&mut self, now: u64) {
        let late = self.asks.iter().filter(|(_, live)| live.deadline.is_some_and(|at| at <= now));
        for ask in late.map(|(ask, _)| *ask).collect::<Vec<_>>() {
            let fault = self.deadline_fault(ask);
            self.abandon(now, ask, Ending::Fault(fault));
        }
        self.expire_unread(now);
        let keys: Vec<ModelKey> = self.models.keys().copied().collect();
        for key in keys {
            self.expire_model(now, key);
        }
    }

    fn deadline_fault(&self, ask: AskId) -> Fault {
        let Some(live) = self.asks.get(&ask) else { return late_answer(None, "it waited") };
        let stage = match self.models.get(&live.entry.model) {
            Some(model) if model.running.get(&ask).is_some_and(|run| !run.is_busy()) => {
                "the answer had to wait for others"
            }
            Some(model) if model.running.contains_key(&ask) => "the answer was under way",
            Some(Model { phase: Phase::Starting { .. }, .. }) => "the model was loading",
            Some(_) | None => "it waited for its turn",
        };
        late_answer(live.entry.deadline_ms, stage)
    }

    fn expire_model(&mut self, now: u64, key: ModelKey) {
        let bounds = self.bounds;
        let Bounds { load_timeout_ms, hang_ms, stop_ms, ping_after_ms, .. } = bounds;
        let Some(model) = self.models.get_mut(&key) else { return };
        match &mut model.phase {
            Phase::Starting { worker, until, .. } if *until <= now => {
                let worker = *worker;
                let took = Millis(load_timeout_ms);
                let fault = Fault::new(Code::ModelLoadFailed, format!("the model was not loaded within {took}"))
                    .hint("a slow disk needs a longer load time-out; `freehold doctor` shows what this machine has");
                self.load_failed(now, worker, &fault);
            }
            Phase::Ending { worker, until, killed } if *until <= now => {
                if *killed {
                    // The system keeps what it can't end; the model must not wait for it for ever.
                    model.phase = Phase::Absent;
                    model.share.clear();
                } else {
                    (*killed, *until) = (true, now + stop_ms);
                    let worker = *worker;
                    self.actions.push(Action::Kill(worker));
                }
            }
            Phase::Ready { worker, watch: Some(watch), .. } => match *watch {
                Watch::Quiet { ping_at } if ping_at <= now => {
                    *watch = Watch::Asked { dead_at: now + hang_ms };
                    let worker = *worker;
                    self.actions.push(Action::Ping(worker));
                }
                Watch::Asked { dead_at } if dead_at <= now => {
                    let worker = *worker;
                    model.phase = Phase::Ending { worker, until: now + stop_ms, killed: true };
                    model.claim = None;
                    let lost = std::mem::take(&mut model.running).into_keys().collect();
                    self.actions.push(Action::Kill(worker));
                    let silent = Millis(hang_ms + ping_after_ms);
                    let words = format!("the worker said nothing for {silent} and was ended");
                    self.fail(
                        now,
                        lost,
                        &Fault::new(Code::WorkerDied, words).hint("send the ask again: a new one is started"),
                    );
                }
                Watch::Quiet { .. } | Watch::Asked { .. } => {}
            },
            Phase::Ready { worker, watch: None, idle_since, .. }
                if !model.share.is_pinned() && bounds.unload_at(*idle_since).is_some_and(|at| at <= now) =>
            {
                let worker = *worker;
                model.phase = Phase::Ending { worker, until: now + stop_ms, killed: false };
                model.leave = false;
                self.actions.push(Action::Stop(worker));
            }
            Phase::Ready { watch: None, idle_since, .. }
                if model.share.rest == Rest::Awake && bounds.rest_at(*idle_since).is_some_and(|at| at <= now) =>
            {
                self.lie_down(key);
            }
            Phase::Absent | Phase::Starting { .. } | Phase::Ready { .. } | Phase::Ending { .. } => {}
        }
    }

    /// Starts what is wanted, fills free slots, and sets the timers that follow from it.
    fn settle(&mut self, now: u64) {
        self.now = now;
        let bounds = self.bounds;
        self.share_memory(now);
        let alive: BTreeSet<WorkerKey> = self.models.values().filter_map(|model| model.phase.worker()).collect();
        for (key, model) in &mut self.models {
            let waits = model.after.is_some_and(|worker| alive.contains(&worker));
            if matches!(model.phase, Phase::Absent)
                && !model.queue.is_empty()
                && !self.closing
                && !waits
                && model.share.go
            {
                model.after = None;
                model.share.note_start(now);
                self.workers_made += 1;
                let worker = WorkerKey(self.workers_made);
                model.phase = Phase::Starting { worker, until: now + bounds.load_timeout_ms, percent: 0 };
                self.actions.push(Action::Start { model: *key, worker });
            }
        }
        for key in self.models.keys().copied().collect::<Vec<_>>() {
            self.assign(now, key);
        }
        for model in self.models.values_mut() {
            let Phase::Ready { worker, .. } = model.phase else { continue };
            let busy = model.running.values().any(Run::is_busy);
            let idle = model.running.is_empty() && model.queue.is_empty();
            model.share.served |= busy;
            let Phase::Ready { watch, idle_since, .. } = &mut model.phase else { continue };
            if busy {
                *idle_since = None;
                watch.get_or_insert(Watch::Quiet { ping_at: now + bounds.ping_after_ms });
                continue;
            }
            // One that was told to rest or to wake has something to do, too.
            if model.share.is_moving() {
                idle_since.get_or_insert(now);
                watch.get_or_insert(Watch::Quiet { ping_at: now + bounds.ping_after_ms });
                continue;
            }
            // Nothing is expected of a worker whose asks are all parked.
            *watch = None;
            if !idle {
                *idle_since = None;
            } else if model.leave {
                model.phase = Phase::Ending { worker, until: now + bounds.stop_ms, killed: false };
                model.leave = false;
                self.actions.push(Action::Stop(worker));
            } else {
                idle_since.get_or_insert(now);
            }
        }
    }
}

/// The fault of an ask whose time ran out, wherever that was found.
pub(crate) fn late_answer(deadline_ms: Option<u64>, stage: &str) -> Fault {
    let which = deadline_ms.map(|ms| format!(" of {}", Millis(ms))).unwrap_or_default();
    Fault::new(Code::DeadlineExceeded, format!("the deadline{which} passed while {stage}"))
        .hint("allow more time, or ask for fewer tokens")
}

fn stopping() -> Fault {
    Fault::new(Code::Cancelled, "Freehold is stopping").hint("ask again when it runs: any command starts it")
}

#[cfg(test)]
mod tests;
