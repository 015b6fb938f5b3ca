//! The rim around `admit`: the thread that owns all state, carries out actions and keeps the timers.
//!
//! It never waits for anybody: what may block (reading files, testing backends, a worker's full
//! socket, a template) happens in the two threads of each worker, see [`life`].

mod disk;
mod fault;
pub(crate) mod forget;
mod identity;
mod life;
mod sampling;
mod share;

use crate::admit::{Action, Admission, Bounds, Counts, Ending, Entry, Event, ModelKey, Need, Needs, Size, WorkerKey};
use crate::answer::{Item, Promise};
use crate::backend::Backends;
use crate::handle::{Door, EngineConfig, Loaded, ModelSource, Row, Tuning};
use crate::plan::{self, Plan, Wish};
use crate::scope::{self, SharedScopes};
use crate::stored::Stored;
use crate::template::Setting;
use crate::vectors::Embedded;
use crate::{adapters, draft, locked, machine, residency};
use base::answer::Progress;
use base::{
    AppId, AskId, Code, Delta, Fault, Finish, Likelihood, Message as Turn, Modality, ModelName, Priority, Sampling,
    Scores, Usage,
};
use life::{Life, Order, Process, Task};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use wire::{Attempt, EmbedHow, KvCache, Ready, Room, Spent, WireReasoning, WireScore, WireShape};

/// What reaches the owner thread.
#[derive(Debug)]
pub(crate) enum Message {
    Submit(Box<Submission>),
    /// Look at the lists that can't get lost.
    Nudge,
    Unload(String),
    Pin(String, bool),
    /// Have workers let go of kept prompts.
    Forget(forget::Request),
    News(WorkerKey, News),
}

/// What a worker's thread has to tell.
#[derive(Debug)]
pub(crate) enum News {
    Loading(u8),
    Ready(Box<Ready>),
    LoadFailed(Fault),
    /// A job needs a larger pool.
    Wants {
        least: u32,
        wanted: u32,
    },
    Resized {
        room: Room,
        fault: Option<Fault>,
    },
    Accepted {
        ask: AskId,
        prompt_tokens: u32,
        tokens_max: u32,
    },
    Parked {
        ask: AskId,
        held: bool,
        tokens: u32,
        saved: bool,
    },
    Resumed {
        ask: AskId,
    },
    /// What of its prompt was there already.
    Reused {
        ask: AskId,
        reuse: Box<wire::Reuse>,
    },
    Ended {
        ask: AskId,
        result: Result<Finished, Fault>,
    },
    Gone(Fault),
    /// What a worker has let go of.
    Forgotten {
        states: u32,
        bytes: u64,
    },
}

/// One ask on its way in.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) ask: AskId,
    pub(crate) model: ModelSource,
    pub(crate) app: AppId,
    pub(crate) priority: Priority,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) job: Job,
    pub(crate) promise: Promise,
    pub(crate) submitted: Instant,
}

#[derive(Debug, Clone)]
pub(crate) enum Job {
    Generate {
        messages: Vec<Turn>,
        sampling: Sampling,
        stop: Vec<String>,
        tokens_max: u32,
        /// How much of which.
        adapters: Vec<(ModelName, f32)>,
        shape: WireShape,
        /// What may stand before the shape.
        reasoning: Option<WireReasoning>,
        stop_loops: bool,
        drafts: bool,
        /// What the template is told beside the messages.
        setting: Box<Setting>,
    },
    /// Nothing is generated: how likely some answers are.
    Score {
        messages: Vec<Turn>,
        wanted: WireScore,
        adapters: Vec<(ModelName, f32)>,
    },
    Embed {
        texts: Vec<String>,
        how: EmbedHow,
    },
    Rank {
        query: String,
        documents: Vec<String>,
        truncate: bool,
    },
    /// The prompt's tokens, of which nothing is computed.
    Count {
        messages: Vec<Turn>,
        setting: Box<Setting>,
    },
    Probe {
        attempt: Attempt,
    },
}

impl Job {
    fn size(&self) -> Option<Size> {
        let (messages, tokens_max, more) = match self {
            Job::Generate { messages, tokens_max, setting, .. } => (messages, *tokens_max, setting.bytes()),
            Job::Score { messages, .. } => (messages, 1, 0),
            Job::Embed { .. } | Job::Rank { .. } | Job::Count { .. } | Job::Probe { .. } => return None,
        };
        let bytes = messages.iter().map(|turn| turn.bytes() + TURN_BYTES).sum::<usize>() + more;
        Some(Size { prompt_bytes: u64::try_from(bytes).unwrap_or(u64::MAX), tokens_max })
    }
}

/// What a template puts around a message, about.
const TURN_BYTES: usize = 32;

/// A job's good end, as its worker told it.
#[derive(Debug, PartialEq)]
pub(crate) enum Finished {
    Generated { finish: Finish, spent: Spent },
    Scored { options: Vec<Likelihood>, spent: Spent },
    Vectors(Embedded),
    Counted(u32),
    Probed(i32),
}

/// Orders that a worker's writer has not sent yet: more than slots and probes together.
const ORDERS_MAX: usize = 512;
/// Lists of texts that an embedder has at a time: it works on one after the other, and finds the next
/// when it ends one. All others wait here, where the interactive ones come first and apps take turns.
const EMBED_SLOTS: u32 = 2;

/// A window that is told to a caller may be worked out with memory as it was so long ago.
const MEASURED_FOR: Duration = Duration::from_secs(1);

pub(crate) fn start(
    config: EngineConfig,
    tuning: Tuning,
    door: Arc<Door>,
    backends: Arc<Backends>,
    stored: Arc<Stored>,
    messages: Receiver<Message>,
) -> Result<(), Fault> {
    let bounds = Bounds {
        queue_max: tuning.queue_max,
        app_queue_max: tuning.app_queue_max,
        load_timeout_ms: config.load_timeout_ms,
        idle_rest_ms: config.idle_rest_ms,
        idle_unload_ms: config.idle_unload_ms,
        ping_after_ms: tuning.ping_after_ms,
        hang_ms: tuning.hang_ms,
        quantum_ms: tuning.quantum_ms,
        batch_patience_ms: tuning.batch_patience_ms,
        unread_ms: tuning.unread_ms,
        stop_ms: tuning.stop_ms,
    };
    let owner = Owner {
        config: Arc::new(config),
        door,
        backends,
        clock: Instant::now(),
        admission: Admission::new(bounds),
        models: Vec::new(),
        plans: Vec::new(),
        measured: Cell::new(None),
        asks: HashMap::new(),
        workers: HashMap::new(),
        scopes: SharedScopes::default(),
        stored,
        forgetting: Vec::new(),
        events: VecDeque::new(),
        closing: false,
    };
    let spawned = std::thread::Builder::new().name("engine".into()).spawn(move || owner.run(&messages));
    spawned.map(drop).map_err(|error| Fault::new(Code::Internal, "the engine's thread can't be started").cause(error))
}

struct Owner {
    config: Arc<EngineConfig>,
    door: Arc<Door>,
    backends: Arc<Backends>,
    clock: Instant,
    admission: Admission<Finished>,
    /// Every model that was ever asked for; the place is its key.
    models: Vec<ModelSource>,
    /// What each is expected to take of the memory, or was found to take.
    plans: Vec<Plan>,
    /// The last measurement of the budget.
    measured: Cell<Option<(Instant, Option<u64>)>>,
    asks: HashMap<AskId, Pending>,
    workers: HashMap<WorkerKey, Worker>,
    scopes: SharedScopes,
    stored: Arc<Stored>,
    /// Who waits for workers to let go of kept prompts.
    forgetting: Vec<forget::Forgetting>,
    /// What actions bring about, for the next step.
    events: VecDeque<Event<Finished>>,
    closing: bool,
}

/// An ask that has not ended.
struct Pending {
    model: ModelKey,
    promise: Promise,
    submitted: Instant,
    /// Kept while it runs: a worker that dies before its first word on it leaves it to the next.
    job: Arc<Job>,
    waited: Waited,
    /// Whose kept sequences it may go on from.
    scope: u64,
    /// Some of them may be on disk.
    stored: bool,
    /// What its worker said of them.
    reuse: Box<wire::Reuse>,
}

#[derive(Clone, Copy, Default)]
struct Waited {
    queue: Duration,
    load: Duration,
}

struct Worker {
    model: ModelKey,
    process: Arc<Process>,
    orders: SyncSender<Order>,
    started: Instant,
    ready: Option<(Ready, Instant)>,
    idle_since: Option<Instant>,
    /// The last sign of life that `admission` knows of.
    seen: u32,
}

impl Owner {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match self.admission.next_wake() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => messages.recv_timeout(Duration::from_millis(at.saturating_sub(self.now()))),
            };
            // Before any step at a time when a silent worker would be given up.
            if self.admission.next_wake().is_some_and(|at| at <= self.now()) {
                self.note_signs_of_life();
            }
            match message {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.step(Event::Tick),
                // The door holds a sender, and `self` holds the door.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for ask in self.door.take_paces() {
                // As it stands now: its reader and its worker may have changed it one after the other.
                let slow = self.asks.get(&ask).is_some_and(|pending| pending.promise.0.is_slow());
                self.step(if slow { Event::Slow(ask) } else { Event::Drained(ask) });
            }
            for ask in self.door.take_dropped() {
                self.step(Event::Dropped(ask));
            }
            if self.door.is_closing() && !self.closing {
                self.closing = true;
                self.backends.stop();
                self.step(Event::Shutdown);
            }
            self.show();
            if self.closing && self.admission.is_still() {
                break;
            }
        }
        self.stored.settle();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.submit(*submission),
            Message::Nudge => {}
            Message::Unload(name) => {
                for key in self.keys_of(&name) {
                    self.step(Event::Unload(key));
                }
            }
            Message::Pin(name, pinned) => {
                for key in self.keys_of(&name) {
                    self.models[key.0 as usize].pinned = pinned;
                    self.step(Event::Pin(key, pinned));
                }
            }
            Message::Forget(request) => self.forget(request),
            Message::News(worker, news) => self.hear(worker, news),
        }
    }

    fn keys_of(&self, name: &str) -> Vec<ModelKey> {
        let named = (0_u32..).zip(&self.models).filter(|(_, model)| model.name.0 == name);
        named.map(|(key, _)| ModelKey(key)).collect()
    }

    fn submit(&mut self, submission: Submission) {
        let Submission { ask, model, app, priority, deadline_ms, job, promise, submitted } = submission;
        let need = match job {
            Job::Generate { .. } | Job::Score { .. } | Job::Embed { .. } | Job::Rank { .. } => Need::Slot,
            Job::Count { .. } | Job::Probe { .. } => Need::Ear,
        };
        let size = job.size();
        let model = self.key_of(model);
        let scope = if self.config.prefix_cache { locked(&self.scopes).of(&app) } else { 0 };
        let stored = scope != 0 && self.stored.may_have(&app.0);
        let (waited, reuse) = Default::default();
        let pending = Pending { model, promise, submitted, job: Arc::new(job), waited, scope, stored, reuse };
        self.asks.insert(ask, pending);
        self.step(Event::Submit(Entry { ask, model, app, priority, need, size, deadline_ms }));
    }

    /// The same name with other files is another model, and so is one that knows more adapters: a worker takes them
    /// only while it loads.
    fn key_of(&mut self, model: ModelSource) -> ModelKey {
        let same = |known: &ModelSource| known.name == model.name && known.parts == model.parts;
        let key = |place: usize| ModelKey(u32::try_from(place).unwrap_or(u32::MAX));
        let latest = self.models.iter().rposition(same);
        let known = latest.map_or(&[][..], |place| &self.models[place].adapters);
        match (latest, adapters::known_after(known, &model.adapters, model.parts.len())) {
            (Some(place), None) => {
                let adapters = std::mem::take(&mut self.models[place].adapters);
                let pinned = model.pinned;
                let draft = draft_cost(&model);
                let before = std::mem::replace(&mut self.models[place], ModelSource { adapters, ..model });
                if self.plans[place].draft != draft {
                    // For its next load: a worker keeps what it has.
                    self.plans[place].draft = draft;
                    self.tell_needs(key(place));
                }
                if before.pinned != pinned {
                    self.step(Event::Pin(key(place), pinned));
                }
                key(place)
            }
            (latest, known) => {
                let EngineConfig { context_tokens, sequences_max, kv_cache, .. } = *self.config;
                let adapters = known.unwrap_or_default();
                let adapter_bytes = adapters.iter().fold(0, |sum: u64, adapter| sum.saturating_add(adapter.bytes));
                let draft = draft_cost(&model);
                let wish = Wish { context_tokens, sequences_max, kv_cache, adapter_bytes, draft };
                self.plans.push(plan::plan(&model.facts, wish));
                self.models.push(ModelSource { adapters, ..model });
                let new = key(self.models.len() - 1);
                self.tell_needs(new);
                // Its asks are ended by the worker that has them; all others go to the next one.
                if let Some(outgrown) = latest {
                    self.step(Event::Unload(key(outgrown)));
                }
                new
            }
        }
    }

    fn tell_needs(&mut self, key: ModelKey) {
        let place = key.0 as usize;
        let (Some(model), Some(plan)) = (self.models.get(place), self.plans.get(place)) else { return };
        let needs = Needs { name: model.name.0.clone(), plan: *plan, pinned: model.pinned };
        self.step(Event::Know(key, needs));
    }

    /// Takes what the worker says of itself in place of what was thought of it.
    fn learn_room(&mut self, worker: WorkerKey, room: Room) {
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        let key = worker.model;
        if let Some((ready, _)) = &mut worker.ready {
            ready.room = room;
        }
        let place = key.0 as usize;
        let (Some(model), Some(plan)) = (self.models.get(place), self.plans.get_mut(place)) else { return };
        *plan = plan::measured(plan, &model.facts, &room);
        self.tell_needs(key);
    }

    /// Bytes for all models together.
    fn measure(&self) -> Option<u64> {
        let pids = self.workers.values().map(|worker| worker.process.pid.load(Ordering::Relaxed));
        let held = pids.filter(|pid| *pid != 0).filter_map(machine::anonymous).sum();
        let budget = plan::budget(machine::memory(), held, self.config.memory_max);
        self.measured.set(Some((Instant::now(), budget)));
        budget
    }

    /// The same, of a moment ago where that will do.
    fn recent_budget(&self) -> Option<u64> {
        match self.measured.get() {
            Some((at, budget)) if at.elapsed() < MEASURED_FOR => budget,
            _ => self.measure(),
        }
    }

    /// The largest window that an ask could have now.
    fn window(&self, key: ModelKey) -> u32 {
        let Some(plan) = self.plans.get(key.0 as usize) else { return 0 };
        residency::largest(self.recent_budget(), &self.admission.holdings(self.now()), key, plan)
    }

    fn hear(&mut self, key: WorkerKey, news: News) {
        let event = match news {
            News::Loading(percent) => Event::Loading { worker: key, percent },
            News::Ready(ready) => {
                let (mut slots, cells) = (ready.sequences_max, ready.context_tokens);
                if let Some(worker) = self.workers.get_mut(&key) {
                    let model = self.models.get(worker.model.0 as usize);
                    if model.is_some_and(|model| model.facts.modality != Modality::Chat) {
                        slots = EMBED_SLOTS;
                    }
                    if let Some(reason) = &ready.draft_refused {
                        tracing::warn!(reason, "a draft model is of no use");
                    }
                    if ready.draft_model.is_none() {
                        self.admission.give_up_draft(worker.model);
                    }
                    worker.ready = Some(((*ready).clone(), Instant::now()));
                    worker.idle_since = Some(Instant::now());
                }
                self.learn_room(key, ready.room);
                Event::Ready { worker: key, slots, cells }
            }
            News::LoadFailed(fault) => Event::LoadFailed { worker: key, fault: self.with_busy(key, fault) },
            News::Wants { least, wanted } => Event::Wants { worker: key, least, wanted },
            News::Resized { room, fault } => {
                self.learn_room(key, room);
                let Room { context_tokens: tokens, resting, .. } = room;
                Event::Resized { worker: key, tokens, resting, fault }
            }
            News::Accepted { ask, prompt_tokens, tokens_max } => {
                Event::Accepted { worker: key, ask, prompt_tokens, tokens_max }
            }
            News::Parked { ask, held, tokens, saved } => Event::Parked { worker: key, ask, held, tokens, saved },
            News::Resumed { ask } => Event::Resumed { worker: key, ask },
            News::Reused { ask, reuse } => {
                if let Some(pending) = self.asks.get_mut(&ask) {
                    pending.reuse = reuse;
                }
                return;
            }
            News::Ended { ask, result } => {
                if let Some(worker) = self.workers.get(&key) {
                    worker.process.forget(ask);
                }
                Event::Ended { worker: key, ask, result }
            }
            News::Forgotten { states, bytes } => {
                self.heard_forgotten(key, states, bytes);
                return;
            }
            News::Gone(fault) => {
                // Its memory is gone, and with it what it kept.
                self.forget_gone(key);
                let worker = self.workers.remove(&key);
                let unheard = worker.map(|worker| worker.process.unheard()).unwrap_or_default();
                Event::Gone { worker: key, fault, unheard }
            }
        };
        self.step(event);
    }

    /// When memory is short, who has it: models that are idle have been let go before this is told.
    fn with_busy(&self, key: WorkerKey, fault: Fault) -> Fault {
        if fault.code != Code::MemoryShort {
            return fault;
        }
        let others = self.workers.iter().filter(|(other, worker)| **other != key && worker.ready.is_some());
        let busy = others.filter(|(_, worker)| self.admission.load_of(worker.model).running > 0);
        let names = busy.filter_map(|(_, worker)| self.models.get(worker.model.0 as usize));
        let mut names: Vec<String> = names.map(|model| format!("`{}`", model.name.0)).collect();
        names.sort();
        if names.is_empty() {
            return fault;
        }
        fault.hint(format!("memory is held by {}, busy now: ask again when that is done", names.join(", ")))
    }

    /// Frames that came since the last time count as answers to a ping.
    fn note_signs_of_life(&mut self) {
        let mut seen = Vec::new();
        for (key, worker) in &mut self.workers {
            let now = worker.process.frames.load(Ordering::Relaxed);
            if std::mem::replace(&mut worker.seen, now) != now {
                seen.push(*key);
            }
        }
        self.step(Event::Seen(seen));
    }

    fn step(&mut self, event: Event<Finished>) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            if self.admission.minds_memory(&event) {
                let budget = self.measure();
                self.admission.set_budget(budget);
            }
            for action in self.admission.step(self.now(), event) {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action<Finished>) {
        match action {
            Action::Start { model, worker } => self.start_worker(model, worker),
            Action::Begin { worker, ask, deadline_left_ms } => self.begin(worker, ask, deadline_left_ms),
            Action::Cancel { worker, ask } => {
                if let Some(worker) = self.workers.get(&worker) {
                    worker.process.forget(ask);
                }
                self.order(worker, Order::Cancel(ask));
            }
            Action::Hold { worker, ask } => self.order(worker, Order::Hold(ask)),
            Action::Resume { worker, ask } => self.order(worker, Order::Resume(ask)),
            Action::Ping(worker) => self.order(worker, Order::Ping),
            Action::Resize { worker, context_tokens } => self.order(worker, Order::Resize(context_tokens)),
            Action::LeaveDraft(worker) => {
                if let Some((ready, _)) = self.workers.get_mut(&worker).and_then(|worker| worker.ready.as_mut()) {
                    ready.draft_model = None;
                }
                self.order(worker, Order::LeaveDraft);
            }
            Action::Rest(worker) => self.order(worker, Order::Rest),
            Action::Stop(worker) => self.order(worker, Order::Shutdown),
            Action::Kill(worker) => {
                if let Some(worker) = self.workers.get(&worker) {
                    worker.process.kill();
                }
            }
            Action::Waiting { ask, percent } => self.tell_waiting(ask, percent),
            Action::End { ask, ending } => self.end(ask, ending),
        }
    }

    /// A full line of orders means that the worker reads nothing any more.
    fn order(&self, key: WorkerKey, order: Order) {
        let Some(worker) = self.workers.get(&key) else { return };
        match worker.orders.try_send(order) {
            // Without a writer the worker is on its way out, and its end is told by its reader.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => worker.process.kill(),
        }
    }

    fn start_worker(&mut self, model: ModelKey, key: WorkerKey) {
        let place = model.0 as usize;
        let (Some(source), Some(plan)) = (self.models.get(place).cloned(), self.plans.get(place)) else { return };
        let (first_tokens, draft) = (self.admission.granted(model), self.admission.draft(model));
        let plan = Plan { first_tokens, draft, ..*plan };
        let park_bytes = self.admission.park_bytes(model);
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let process = Arc::new(Process::new());
        let life = Life {
            key,
            source,
            plan,
            park_bytes,
            config: Arc::clone(&self.config),
            backends: Arc::clone(&self.backends),
            process: Arc::clone(&process),
            door: Arc::clone(&self.door),
            orders: orders.clone(),
            stored: Arc::clone(&self.stored),
            scopes: Arc::clone(&self.scopes),
        };
        let worker = Worker { model, process, orders, started: Instant::now(), ready: None, idle_since: None, seen: 0 };
        self.workers.insert(key, worker);
        if let Err(error) = life.start(inbox) {
            self.workers.remove(&key);
            let fault = Fault::new(Code::Internal, "a worker's thread can't be started").cause(error);
            self.events.push_back(Event::LoadFailed { worker: key, fault: fault.clone() });
            self.events.push_back(Event::Gone { worker: key, fault, unheard: BTreeSet::new() });
        }
    }

    fn begin(&mut self, key: WorkerKey, ask: AskId, deadline_left_ms: Option<u64>) {
        let (Some(worker), Some(pending)) = (self.workers.get_mut(&key), self.asks.get_mut(&ask)) else { return };
        let job = Arc::clone(&pending.job);
        worker.idle_since = None;
        let total = pending.submitted.elapsed();
        let load = match &worker.ready {
            Some((_, ready)) => ready.saturating_duration_since(worker.started.max(pending.submitted)),
            None => Duration::ZERO,
        };
        pending.waited = Waited { queue: total.saturating_sub(load), load };
        worker.process.learn(ask, Arc::clone(&pending.promise.0));
        let sink = Arc::clone(&pending.promise.0);
        let (deadline_ms, scope, stored) = (deadline_left_ms.unwrap_or(0), pending.scope, pending.stored);
        let task = Task { ask, job, deadline_ms, sink, scope, stored };
        self.order(key, Order::Begin(Box::new(task)));
    }

    fn tell_waiting(&self, ask: AskId, percent: Option<u8>) {
        let Some(pending) = self.asks.get(&ask) else { return };
        let Some(model) = self.models.get(pending.model.0 as usize) else { return };
        pending.promise.0.progress(match percent {
            Some(percent) => Progress::Loading { model: model.name.0.clone(), percent: percent.min(100) },
            None => Progress::Queued,
        });
    }

    fn end(&mut self, ask: AskId, ending: Ending<Finished>) {
        let Some(pending) = self.asks.remove(&ask) else { return };
        match ending {
            Ending::Dropped => {}
            Ending::Fault(fault) => pending.promise.0.fail(fault),
            Ending::Done(Finished::Generated { finish, spent }) => {
                let usage = self.usage(&pending, spent);
                pending.promise.0.finish(vec![Item::Delta(Delta::Usage(usage)), Item::Delta(Delta::Done(finish))]);
            }
            Ending::Done(Finished::Scored { options, spent }) => {
                let usage = self.usage(&pending, spent);
                pending.promise.0.finish(vec![Item::Scored(Scores { options, usage })]);
            }
            Ending::Done(Finished::Vectors(made)) => pending.promise.0.finish(vec![Item::Vectors(made)]),
            Ending::Done(Finished::Counted(tokens)) => pending.promise.0.finish(vec![Item::Counted(tokens)]),
            Ending::Done(Finished::Probed(errno)) => pending.promise.0.finish(vec![Item::Probed(errno)]),
        }
    }

    fn usage(&self, pending: &Pending, spent: Spent) -> Usage {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Usage {
            prompt_tokens: spent.prompt_tokens,
            cached_tokens: spent.cached_tokens,
            completion_tokens: spent.completion_tokens,
            queue_us: micros(pending.waited.queue).saturating_add(spent.queue_us),
            load_us: micros(pending.waited.load),
            prefill_us: spent.prefill_us,
            decode_us: spent.decode_us,
            context_tokens: self.window(pending.model),
            reuse: scope::reuse(&pending.reuse),
            model: self
                .models
                .get(pending.model.0 as usize)
                .map_or(String::new(), |model| adapters::full_name(&model.name.0, &pending.job)),
            drafted_tokens: spent.drafted_tokens,
            accepted_tokens: spent.accepted_tokens,
        }
    }

    /// Puts up what `Engine::loaded` reads.
    fn show(&mut self) {
        let mut rows = Vec::new();
        let holdings = self.admission.holdings(self.now());
        for worker in self.workers.values_mut() {
            let Some((ready, since)) = &worker.ready else { continue };
            let place = worker.model.0 as usize;
            let (Some(source), Some(plan)) = (self.models.get(place), self.plans.get(place)) else { continue };
            let Some(holding) = holdings.iter().find(|holding| holding.key == worker.model) else { continue };
            let Counts { running, waiting, parked } = self.admission.load_of(worker.model);
            if running + parked > 0 {
                worker.idle_since = None;
            } else if worker.idle_since.is_none() {
                worker.idle_since = Some(Instant::now());
            }
            let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
            let loaded = Loaded {
                name: source.name.0.clone(),
                pid: worker.process.pid.load(Ordering::Relaxed),
                devices: ready.devices.clone(),
                placement: locked(&worker.process.placement).clone(),
                features: ready.features.clone(),
                threads: ready.threads,
                // Worked out when it is read.
                context_tokens: 0,
                context_trained: ready.context_trained,
                sequences_max: ready.sequences_max,
                kv_cache: match source.facts.modality {
                    Modality::Chat => self.config.kv_cache,
                    Modality::Embed | Modality::Rerank | Modality::Adapter => KvCache::F16,
                },
                draft_model: ready.draft_model.clone(),
                pinned: source.pinned,
                room: ready.room,
                held_bytes: holding.bytes,
                states_bytes_max: if ready.room.resting { 0 } else { self.admission.park_bytes(worker.model) },
                running: count(running),
                queued: count(waiting),
                parked: count(parked),
                resident_bytes: ready.room.resident_bytes,
                load_us: u64::try_from(since.saturating_duration_since(worker.started).as_micros()).unwrap_or(u64::MAX),
                idle_ms: 0,
                protection: fault::protection(&ready.protection),
            };
            rows.push(Row { loaded, idle_since: worker.idle_since, plan: *plan, holding: *holding });
        }
        rows.sort_by(|a, b| a.loaded.name.cmp(&b.loaded.name));
        self.door.show_loaded(rows);
    }
}

fn draft_cost(model: &ModelSource) -> draft::DraftCost {
    model.draft.as_ref().map(|draft| draft::cost(&draft.facts)).unwrap_or_default()
}

impl Drop for Owner {
    /// Whatever ended this thread, no worker is left running; the promises see to those who wait.
    fn drop(&mut self) {
        for worker in self.workers.values() {
            worker.process.kill();
        }
        self.backends.stop();
        self.door.set_ended();
    }
}
