//! The engine as its callers hold it: a handle that sends bounded messages to the thread that owns all.

use crate::admit::ModelKey;
use crate::answer::{Answer, Item, Promise, Reader, Sink, stopped, wait_for};
use crate::backend::{BackendChoice, Backends};
use crate::compacting::Compacting;
use crate::hear::{Hearing, Talk};
use crate::plan::{Plan, Wish};
use crate::residency::{self, Holding};
use crate::stored::{Stored, Which};
use crate::supervise::forget::Request;
use crate::supervise::{self, Job, Message, Submission};
use crate::{locked, machine, shape};
use base::{AppId, Ask, AskId, Bytes, Code, Fault, Modality, ModelFacts, ModelName, OnLoop, Overflow, Priority};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use wire::{Attempt, KvCache};

/// What the engine must be told; everything else it finds out.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// This very program; it answers to the hidden command `render` with [`crate::run_renderer`].
    pub program: PathBuf,
    pub worker: PathBuf,
    /// Folder of ggml's backend files.
    pub backends_dir: PathBuf,
    /// Where results of backend tests are kept.
    pub state_dir: PathBuf,
    /// `None`: what this machine, its quota and its affinity suggest.
    pub threads: Option<u32>,
    /// `None`: what model and memory allow.
    pub context_tokens: Option<u32>,
    /// Asks of one model that run at the same time.
    pub sequences_max: u32,
    /// How contexts are kept while text is generated.
    pub kv_cache: KvCache,
    /// Whether what was worked through is kept for prompts that begin alike.
    pub prefix_cache: bool,
    /// Where states of prompts are kept on disk.
    pub cache_dir: PathBuf,
    /// Bytes for them; 0: none are.
    pub cache_disk_max: Bytes,
    /// Guess what comes next, from an answer's own text and its shape, where that measures faster.
    pub drafts: bool,
    /// Bytes for all models together; `None`: what this machine can give.
    pub memory_max: Option<Bytes>,
    /// A model unused for so long gives back cache and room to compute; 0: never.
    pub idle_rest_ms: u64,
    /// A model unused for so long is let go; 0: never.
    pub idle_unload_ms: u64,
    pub load_timeout_ms: u64,
    /// Refuse to run a worker whose confinement isn't in force.
    pub confine_required: bool,
}

/// Bounds that nobody but tests and measurements changes.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    pub queue_max: usize,
    pub app_queue_max: usize,
    /// A worker with work that has said nothing for so long is asked whether it lives …
    pub ping_after_ms: u64,
    /// … and is ended when it stays silent for so long. One step of a large model on a slow processor
    /// can take many seconds, and the worker doesn't answer in between.
    pub hang_ms: u64,
    /// So long an ask runs before it makes room for one of an app that has less room and waits.
    pub quantum_ms: u64,
    /// After so long without a batch ask served, the next free room is a batch ask's.
    pub batch_patience_ms: u64,
    /// An answer of which nothing is read for so long is given up.
    pub unread_ms: u64,
    /// For a worker to end when asked.
    pub stop_ms: u64,
    /// For one backend's self-test.
    pub self_test_ms: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            queue_max: 256,
            app_queue_max: 64,
            ping_after_ms: 10_000,
            hang_ms: 120_000,
            quantum_ms: 2_000,
            batch_patience_ms: 10_000,
            unread_ms: 600_000,
            stop_ms: 6_000,
            self_test_ms: 60_000,
        }
    }
}

/// A model as the store knows it.
#[derive(Debug, Clone)]
pub struct ModelSource {
    pub name: ModelName,
    /// The files of a split model in order; one for most.
    pub parts: Vec<PathBuf>,
    pub facts: Arc<ModelFacts>,
    /// Kept in memory once it is there.
    pub pinned: bool,
    /// What an ask wants the model changed by.
    pub adapters: Vec<AdapterSource>,
    /// A smaller model of the same vocabulary that may guess what this one will say.
    pub draft: Option<DraftSource>,
}

/// A draft model as the store knows it; one file.
#[derive(Debug, Clone)]
pub struct DraftSource {
    pub name: ModelName,
    pub path: PathBuf,
    pub facts: Arc<ModelFacts>,
}

/// An adapter as the store knows it, and how much of it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSource {
    pub name: ModelName,
    pub path: PathBuf,
    pub bytes: u64,
    /// 1 is as it was trained.
    pub scale: f32,
}

/// A model that is in memory, as its worker described itself.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub name: String,
    pub pid: u32,
    /// ggml's names: `CPU`, `CUDA0` …
    pub devices: Vec<String>,
    /// What lies on which device, in words; empty when there is only the processor.
    pub placement: String,
    pub features: Vec<String>,
    pub threads: u32,
    /// The largest window that an ask could have now.
    pub context_tokens: u32,
    pub context_trained: u32,
    pub sequences_max: u32,
    /// How its context is kept.
    pub kv_cache: KvCache,
    /// The smaller model that guesses for it, where one is in use.
    pub draft_model: Option<String>,
    pub pinned: bool,
    /// What the worker has, and the bytes of it by its own account.
    pub room: wire::Room,
    /// What it is counted with in the budget.
    pub held_bytes: u64,
    /// Of these, room for states of prompts and of parked answers, taken as they come.
    pub states_bytes_max: u64,
    pub running: u32,
    pub queued: u32,
    /// Made to wait after they had begun, for others or for their readers.
    pub parked: u32,
    pub resident_bytes: u64,
    pub load_us: u64,
    /// Since its last ask ended; 0 while one runs.
    pub idle_ms: u64,
    /// What is really in force, as the worker found out itself.
    pub protection: jail::Protection,
}

/// Runs models. Cheap to clone; when the last clone goes, the workers end.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) door: Arc<Door>,
    backends: Arc<Backends>,
    program: PathBuf,
    pub(crate) wish: Wish,
    pub(crate) memory_max: Option<Bytes>,
    stored: Arc<Stored>,
    stop_ms: u64,
}

/// What was let go of that was kept of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptsForgotten {
    /// In workers.
    pub states: u64,
    pub states_bytes: Bytes,
    /// On disk.
    pub files: u64,
    pub files_bytes: Bytes,
    /// Files that are still there; 0 is the proof.
    pub left: u64,
}

/// For workers to say that they have let go of kept prompts: a step of a large model on a slow processor takes a while.
const FORGET: Duration = Duration::from_secs(60);

/// How everybody but the owner thread reaches it.
#[derive(Debug)]
pub(crate) struct Door {
    inbox: SyncSender<Message>,
    /// Drops must not be lost when the inbox is full; at most one entry per live ask.
    dropped: Mutex<Vec<AskId>>,
    /// Asks whose readers have fallen behind or caught up.
    paces: Mutex<Vec<AskId>>,
    closing: AtomicBool,
    next_id: AtomicU64,
    pub(crate) loaded: Mutex<Vec<Row>>,
    ended: Mutex<bool>,
    ended_now: Condvar,
}

/// A loaded model's row, with what must be worked out when it is read.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) loaded: Loaded,
    pub(crate) idle_since: Option<Instant>,
    pub(crate) plan: Plan,
    pub(crate) holding: Holding<ModelKey>,
}

/// LIMIT: news and asks that the owner thread has not looked at yet. Senders but readers never block.
const INBOX_MAX: usize = 1024;

impl Door {
    pub(crate) fn new() -> (Arc<Self>, Receiver<Message>) {
        let (inbox, messages) = sync_channel(INBOX_MAX);
        let door = Self {
            inbox,
            dropped: Mutex::default(),
            paces: Mutex::default(),
            closing: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            loaded: Mutex::default(),
            ended: Mutex::new(false),
            ended_now: Condvar::new(),
        };
        (Arc::new(door), messages)
    }

    /// Tells that nobody waits for the ask. Never blocks and never gets lost: when the inbox is full,
    /// the owner is awake and looks at the list after each message.
    pub(crate) fn drop_ask(&self, ask: AskId) {
        locked(&self.dropped).push(ask);
        let _ = self.inbox.try_send(Message::Nudge);
    }

    pub(crate) fn take_dropped(&self) -> Vec<AskId> {
        std::mem::take(&mut *locked(&self.dropped))
    }

    /// Tells that an ask's reader has fallen behind or caught up; which of them, its queue knows. As
    /// [`Door::drop_ask`], this never blocks and never gets lost.
    pub(crate) fn note_pace(&self, ask: AskId) {
        let mut paces = locked(&self.paces);
        if !paces.contains(&ask) {
            paces.push(ask);
        }
        drop(paces);
        let _ = self.inbox.try_send(Message::Nudge);
    }

    pub(crate) fn take_paces(&self) -> Vec<AskId> {
        std::mem::take(&mut *locked(&self.paces))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Hands an order to the owner thread, or answers it at once with a fault that is there already.
    pub(crate) fn submit(self: &Arc<Self>, order: Order, refused: Option<Fault>) -> Reader {
        let ask = AskId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let sink = Arc::new(Sink::default());
        let reader = Reader::new(ask, Arc::clone(&sink), Arc::clone(self));
        if let Some(fault) = refused {
            sink.fail(fault);
            return reader;
        }
        let Order { model, app, priority, deadline_ms, job } = order;
        let submitted = Instant::now();
        let submission =
            Submission { ask, model, app, priority, deadline_ms, job, promise: Promise(Arc::clone(&sink)), submitted };
        match self.inbox.try_send(Message::Submit(Box::new(submission))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let words = format!("more than {INBOX_MAX} messages wait for the engine");
                sink.fail(Fault::new(Code::Busy, words).hint("try again in a moment"));
            }
            // The promise went with the message.
            Err(TrySendError::Disconnected(_)) => {}
        }
        reader
    }

    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let _ = self.inbox.try_send(Message::Nudge);
    }

    /// For worker threads: waits while the inbox is full. `false` when the owner is gone.
    pub(crate) fn tell(&self, message: Message) -> bool {
        self.inbox.send(message).is_ok()
    }

    pub(crate) fn show_loaded(&self, rows: Vec<Row>) {
        *locked(&self.loaded) = rows;
    }

    pub(crate) fn set_ended(&self) {
        *locked(&self.ended) = true;
        self.ended_now.notify_all();
    }

    fn wait_ended(&self, most: Duration) {
        let ended = locked(&self.ended);
        drop(self.ended_now.wait_timeout_while(ended, most, |ended| !*ended));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.door.close();
    }
}

impl Engine {
    /// Starts the owner thread. Loads nothing and tests nothing yet.
    ///
    /// # Errors
    /// [`Code::Internal`] when the system gives no thread.
    pub fn start(config: EngineConfig) -> Result<Self, Fault> {
        Self::start_tuned(config, Tuning::default())
    }

    /// As [`Engine::start`], with other bounds.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_tuned(config: EngineConfig, tuning: Tuning) -> Result<Self, Fault> {
        let (door, messages) = Door::new();
        let backends = Arc::new(Backends::new(
            config.worker.clone(),
            config.backends_dir.clone(),
            config.state_dir.clone(),
            Duration::from_millis(tuning.self_test_ms),
        ));
        let program = config.program.clone();
        let memory_max = config.memory_max;
        let EngineConfig { context_tokens, sequences_max, kv_cache, .. } = config;
        let wish = Wish { context_tokens, sequences_max, kv_cache, ..Wish::default() };
        let cache_disk_max = if config.prefix_cache { config.cache_disk_max.0 } else { 0 };
        let stored = Stored::open(&config.cache_dir, cache_disk_max);
        supervise::start(config, tuning, Arc::clone(&door), Arc::clone(&backends), Arc::clone(&stored), messages)?;
        let stop_ms = tuning.stop_ms;
        Ok(Self { shared: Arc::new(Shared { door, backends, program, wish, memory_max, stored, stop_ms }) })
    }

    /// Asks a chat model. Returns at once: waiting and loading come as progress, faults in the stream.
    pub fn submit(&self, model: ModelSource, ask: Ask) -> Answer {
        let talk = Talk::of(&model.facts, &ask);
        let Ask { app, messages, sampling, stop, limits, priority, overflow, shape, onset, on_loop, drafts, .. } = ask;
        let unfit = chats(&model).err();
        let adapters = model.adapters.iter().map(|adapter| (adapter.name.clone(), adapter.scale)).collect();
        let job = Job::Generate {
            messages,
            sampling,
            stop,
            tokens_max: limits.tokens_max.unwrap_or(0),
            adapters,
            shape: shape::to_wire(&shape),
            reasoning: shape::reasoning(&onset),
            stop_loops: on_loop != OnLoop::Ignore,
            drafts,
            setting: Box::default(),
        };
        let order = Order { model, app, priority, deadline_ms: limits.deadline_ms, job };
        let hearing = Hearing::new(Arc::clone(&self.shared.door), talk, order);
        let order = hearing.first_order();
        let compacting = (overflow == Overflow::Compact && unfit.is_none())
            .then(|| Compacting::new(Arc::clone(&self.shared.door), order.clone()));
        Answer::new(self.send(order, unfit), compacting).heard_by(hearing)
    }

    /// Has the model's worker attempt what its confinement must refuse. Answers the system's error
    /// number; 0 means that it succeeded. Blocks, and loads the model when it isn't loaded.
    ///
    /// # Errors
    /// When the worker can't be asked, or ended over it.
    pub fn probe(&self, model: ModelSource, attempt: Attempt) -> Result<i32, Fault> {
        let job = Job::Probe { attempt };
        let order = Order { model, app: own_app(), priority: Priority::Interactive, deadline_ms: None, job };
        let mut reader = self.send(order, None);
        wait_for(result(&mut reader, |item| match item {
            Item::Probed(errno) => Some(errno),
            Item::Delta(_)
            | Item::Scored(_)
            | Item::Counted(_)
            | Item::Vectors(_)
            | Item::Opened { .. }
            | Item::Loose { .. } => None,
        }))
    }

    /// Models in memory now.
    pub fn loaded(&self) -> Vec<Loaded> {
        let rows = locked(&self.shared.door.loaded).clone();
        let budget = self.budget(&rows);
        let holdings: Vec<Holding<ModelKey>> = rows.iter().map(|row| row.holding).collect();
        let fresh = |row: Row| {
            let idle = row.idle_since.map_or(0, |since| since.elapsed().as_millis());
            let mut loaded = row.loaded;
            loaded.context_tokens = residency::largest(budget, &holdings, row.holding.key, &row.plan);
            loaded.idle_ms = u64::try_from(idle).unwrap_or(u64::MAX);
            loaded.resident_bytes = machine::resident(loaded.pid).unwrap_or(loaded.resident_bytes);
            loaded
        };
        rows.into_iter().map(fresh).collect()
    }

    /// The backend that workers load and how each file's self-test went. Blocks for seconds when the
    /// tests have not been run on this machine yet.
    ///
    /// # Errors
    /// [`Code::WorkerMissing`]; [`Code::BackendFailed`] when no backend passes.
    pub fn backends(&self) -> Result<BackendChoice, Fault> {
        self.shared.backends.choice()
    }

    /// What the children that run chat templates are under; found out by starting one.
    ///
    /// # Errors
    /// [`Code::ConfinementFailed`] when it doesn't start.
    pub fn template_protection(&self) -> Result<jail::Protection, Fault> {
        crate::render::protection(&self.shared.program)
    }

    /// Keeps a model in memory once it is there, or no longer.
    pub fn pin(&self, name: &str, pinned: bool) {
        // A full inbox means asks without end, and each brings the mark along.
        let _ = self.shared.door.inbox.try_send(Message::Pin(name.to_owned(), pinned));
    }

    /// Lets go of all that is kept of prompts, in workers and on disk: of one app or all, of one model or all. Nothing
    /// of what is under way is kept either. Blocks until it is done.
    ///
    /// # Errors
    /// [`Code::Busy`] when a worker doesn't say that it has; faults of the disk.
    pub fn forget_prompts(&self, app: Option<&AppId>, model: Option<&str>) -> Result<PromptsForgotten, Fault> {
        let (done, heard) = sync_channel(1);
        let request = Request { app: app.cloned(), model: model.map(str::to_owned), done };
        // On disk first, so that no worker that has let go reads it from there, and again afterwards, for what one
        // wrote until it was told.
        let which = Which { app: app.map(|app| app.0.clone()), model: model.map(str::to_owned) };
        let first = self.shared.stored.erase(&which)?;
        if !self.shared.door.tell(Message::Forget(request)) {
            return Err(stopped());
        }
        let let_go = heard.recv_timeout(FORGET).map_err(|_| {
            let words = format!("a worker hasn't said within {} s that it let go of kept prompts", FORGET.as_secs());
            Fault::new(Code::Busy, words).hint("try again; `freehold stop` ends all workers, and what they keep")
        })?;
        let erased = self.shared.stored.erase(&which)?;
        Ok(PromptsForgotten {
            states: let_go.states,
            states_bytes: Bytes(let_go.bytes),
            files: first.files + erased.files,
            files_bytes: Bytes(first.bytes.0.saturating_add(erased.bytes.0)),
            left: erased.left,
        })
    }

    /// Lets a model go as soon as nothing runs on it.
    pub fn unload(&self, name: &str) {
        // A full inbox means asks without end: then nothing is idle either.
        let _ = self.shared.door.inbox.try_send(Message::Unload(name.to_owned()));
    }

    /// Ends every ask with a fault and every worker; waits until they are gone, for a bounded time.
    pub fn shutdown(&self) {
        self.shared.door.close();
        let most = self.shared.stop_ms.saturating_mul(2).saturating_add(1_000);
        self.shared.door.wait_ended(Duration::from_millis(most));
    }

    pub(crate) fn send(&self, order: Order, refused: Option<Fault>) -> Reader {
        self.shared.door.submit(order, refused)
    }
}

/// An ask on its way to the owner thread.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) model: ModelSource,
    pub(crate) app: AppId,
    pub(crate) priority: Priority,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) job: Job,
}

/// # Errors
/// [`Code::ModelUnfit`] for a model of another kind.
pub(crate) fn chats(model: &ModelSource) -> Result<(), Fault> {
    let makes = match model.facts.modality {
        Modality::Chat => return Ok(()),
        Modality::Rerank => "ranks documents",
        Modality::Adapter => "is an adapter",
        Modality::Embed => "makes embeddings",
    };
    Err(Fault::new(Code::ModelUnfit, format!("`{}` {makes} and can't hold a conversation", model.name.0))
        .hint("name a chat model; `freehold models` shows what each is for"))
}

pub(crate) fn own_app() -> AppId {
    AppId("freehold".into())
}

/// The one item that an ask which is no generation gets.
pub(crate) async fn result<T>(reader: &mut Reader, wanted: impl Fn(Item) -> Option<T>) -> Result<T, Fault> {
    while let Some(item) = reader.next().await {
        if let Some(found) = wanted(item?) {
            return Ok(found);
        }
    }
    Err(Fault::new(Code::Internal, "the engine ended an ask without a result"))
}
