//! One worker process from start to end, in two threads: one starts it and then reads what it says,
//! the other writes. Text goes straight to the ask that waits for it; the owner thread hears of ends only.

use super::disk::Disk;
use super::sampling::to_wire;
use super::{Finished, Job, Message, News, fault, identity, share};
use crate::adapters::{self, Opened};
use crate::admit::{WorkerKey, late_answer};
use crate::answer::{Pace, Sink};
use crate::backend::{BackendChoice, Backends};
use crate::handle::{Door, EngineConfig, ModelSource};
use crate::parse::Style;
use crate::plan::Plan;
use crate::render::Renderer;
use crate::scope::SharedScopes;
use crate::stored::Stored;
use crate::template::{Moment, Prompt, Setting};
use crate::{backend, draft, locked, score, vectors};
use base::answer::Progress;
use base::{AskId, Code, Fault, Message as Turn, Modality, ModelName, Sampling};
use jail::{Command, Io, JailError};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver as Inbox, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, SystemTime};
use wire::{
    Begin, Chain, Directive, Load, Receiver, Report, Sender, Verdict, WireError, WireFault, WireReasoning, WireShape,
};

/// What the owner thread and a worker's threads share.
#[derive(Debug, Default)]
pub(super) struct Process {
    child: Mutex<Option<jail::Child>>,
    /// We ended it, or are about to.
    killed: AtomicBool,
    pub(super) pid: AtomicU32,
    /// Frames received: any is a sign of life.
    pub(super) frames: AtomicU32,
    /// What lies on which device, in words.
    pub(super) placement: Mutex<String>,
    sinks: Mutex<HashMap<AskId, Given>>,
}

/// An ask that the worker has.
#[derive(Debug)]
struct Given {
    sink: Arc<Sink>,
    /// The worker has said something about it.
    heard: bool,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    Begin(Box<Task>),
    Cancel(AskId),
    Hold(AskId),
    Resume(AskId),
    Ping,
    LeaveDraft,
    Resize(u32),
    Rest,
    Shutdown,
    /// A worker asks for a state of a prompt.
    Seek {
        job: u64,
        prompt: Box<Chain>,
        least: u32,
    },
    /// A worker offers one.
    Offer {
        state: u64,
        chain: Box<Chain>,
        bytes: u64,
        cost_us: u64,
    },
    /// What it made of one that it was handed.
    Tried {
        job: u64,
        verdict: Verdict,
        bytes: u64,
        took_us: u64,
    },
    /// Let go of what is kept of this scope; 0: of all.
    Forget(u64),
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) ask: AskId,
    pub(super) job: Arc<Job>,
    /// 0: none.
    pub(super) deadline_ms: u64,
    /// Where its answer goes.
    pub(super) sink: Arc<Sink>,
    /// Whose kept sequences it may go on from; 0: nobody's.
    pub(super) scope: u64,
    /// Something of that may be on disk.
    pub(super) stored: bool,
}

impl Process {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn learn(&self, ask: AskId, sink: Arc<Sink>) {
        locked(&self.sinks).insert(ask, Given { sink, heard: false });
    }

    pub(super) fn forget(&self, ask: AskId) {
        locked(&self.sinks).remove(&ask);
    }

    /// Asks that the worker has said nothing about.
    pub(super) fn unheard(&self) -> BTreeSet<AskId> {
        locked(&self.sinks).iter().filter(|(_, given)| !given.heard).map(|(ask, _)| *ask).collect()
    }

    /// Where the worker's word on an ask goes.
    fn sink(&self, ask: u64) -> Option<Arc<Sink>> {
        let mut sinks = locked(&self.sinks);
        let given = sinks.get_mut(&AskId(ask))?;
        given.heard = true;
        Some(Arc::clone(&given.sink))
    }

    /// Never waits: who holds the lock is storing the child, and looks at `killed` next, or is
    /// collecting its end already.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        match self.child.try_lock() {
            Ok(mut child) => kill(child.as_mut()),
            Err(TryLockError::Poisoned(poisoned)) => kill(poisoned.into_inner().as_mut()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn was_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }
}

fn kill(child: Option<&mut jail::Child>) {
    if let Some(child) = child {
        // It may have ended by itself; its reader finds out either way.
        let _ = child.kill();
    }
}

/// Everything that one worker's threads need.
pub(super) struct Life {
    pub(super) key: WorkerKey,
    pub(super) source: ModelSource,
    pub(super) plan: Plan,
    /// For states of parked asks.
    pub(super) park_bytes: u64,
    pub(super) config: Arc<EngineConfig>,
    pub(super) backends: Arc<Backends>,
    pub(super) process: Arc<Process>,
    pub(super) door: Arc<Door>,
    /// To its own writer, for what the worker asks of the disk.
    pub(super) orders: SyncSender<Order>,
    pub(super) stored: Arc<Stored>,
    pub(super) scopes: SharedScopes,
}

/// For a worker that has closed its link to end by itself, before it is made to.
const END_GRACE: Duration = Duration::from_secs(2);
/// Room for the words that a worker leaves when it dies.
const TAIL_BYTES: usize = 4 << 10;
/// Weights and contexts lie in pages of 2 MiB where the system lends those to who asks: all weights are read for each token,
/// and pages of 4 KiB cost a search for each (`docs/decisions/0003-worker.md`). Other C libraries than GNU's don't look.
const LARGE_PAGES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

impl Life {
    pub(super) fn start(self, orders: Inbox<Order>) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(format!("worker-{}", self.key.0));
        thread.spawn(move || self.live(orders)).map(drop)
    }

    fn live(self, orders: Inbox<Order>) {
        /// Tells of the end even when this thread panics.
        struct Last<'a>(&'a Life, Option<Fault>);
        impl Drop for Last<'_> {
            fn drop(&mut self) {
                let fault = self.1.take();
                let fault = fault.unwrap_or_else(|| Fault::new(Code::Internal, "the worker's thread has failed"));
                self.0.process.kill();
                self.0.stored.gone(self.0.key);
                self.0.tell(News::Gone(fault));
            }
        }
        let mut last = Last(&self, None);
        let mut orders = Some(orders);
        let mut end = self.run(&mut orders);
        // A backend that fails here was tested when this machine was another one: without the device, say.
        // It is tested again, and the model gets what is chosen then.
        if let End::Backend { choice, .. } = &end
            && !self.process.was_killed()
        {
            tracing::warn!(backend = %choice.chosen.display(), "a backend that passed its test fails: testing again");
            self.backends.doubt(choice);
            end = self.run(&mut orders);
        }
        let (End::Backend { fault, .. } | End::Refused(fault) | End::Other(fault)) = &end;
        if !matches!(end, End::Other(_)) {
            self.tell(News::LoadFailed(fault.clone()));
        }
        last.1 = Some(fault.clone());
    }

    /// One process from its start to its end. The orders stay when it never came to be ready.
    fn run(&self, orders: &mut Option<Inbox<Order>>) -> End {
        let found = self.open_parts().and_then(|files| Ok((files, self.backends.choice()?)));
        let opened = adapters::open(&self.source.adapters);
        let (files, choice) = match found {
            Ok(found) => found,
            Err(fault) => return End::Refused(fault),
        };
        let mut tail = None;
        let why = match self.start_process(&files, &opened, &choice, &mut tail) {
            Ok((sender, receiver)) => self.converse(sender, receiver, orders, &opened),
            Err(why) => why,
        };
        self.collect(why, tail, orders.is_some(), choice)
    }

    fn tell(&self, news: News) {
        // Without an owner there is nobody left to be told.
        let _ = self.door.tell(Message::News(self.key, news));
    }

    /// Starts the process and hands it the model.
    fn start_process(
        &self,
        files: &[File],
        opened: &[Opened],
        choice: &BackendChoice,
        tail: &mut Option<Inbox<Vec<u8>>>,
    ) -> Result<(Sender, Receiver), Ended> {
        let draft = draft::open(self.source.draft.as_ref(), self.plan.draft, files.len() + opened.len());
        let load = self.load(choice, opened, draft.as_ref())?;
        if self.process.was_killed() {
            return Err(Ended::Closed);
        }
        let (ours, theirs) = wire::pair().map_err(no_link)?;
        let spawned = Command::new(&self.config.worker)
            .arg("serve")
            .env(LARGE_PAGES.0, LARGE_PAGES.1)
            .fd(theirs.into_fd(), wire::WORKER_FD)
            .stderr(Io::Pipe)
            .die_with_parent()
            .spawn();
        let mut child = spawned.map_err(|error| match error {
            JailError::ProgramMissing(_) => backend::worker_missing(&self.config.worker),
            other => Fault::new(Code::WorkerMissing, "the worker can't be started").cause(other),
        })?;
        self.process.pid.store(child.pid(), Ordering::Relaxed);
        *tail = child.stderr.take().map(keep_tail);
        *locked(&self.process.child) = Some(child);
        if self.process.was_killed() {
            self.process.kill();
        }
        let (mut sender, mut receiver) = ours.split().map_err(no_link)?;
        greet(&mut receiver)?;
        let draft = draft.iter().filter(|_| load.draft_model.is_some()).map(|draft| &draft.file);
        let adapters = opened.iter().map(|adapter| &adapter.file);
        let fds: Vec<_> = files.iter().chain(draft).chain(adapters).map(AsFd::as_fd).collect();
        sender.send_with_fds(&Directive::Load(load), &fds)?;
        Ok((sender, receiver))
    }

    fn open_parts(&self) -> Result<Vec<File>, Fault> {
        let (parts, name) = (&self.source.parts, &self.source.name.0);
        if parts.is_empty() || parts.len() > wire::FDS_MAX {
            let (count, most) = (parts.len(), wire::FDS_MAX);
            return Err(Fault::new(
                Code::ModelInvalid,
                format!("`{name}` has {count} files; 1 to {most} are possible"),
            )
            .hint("add the model again: `freehold models add FILE`"));
        }
        let open = |path: &std::path::PathBuf| File::open(path).map_err(|error| Fault::io("open", path, &error));
        parts.iter().map(open).collect()
    }

    fn load(&self, choice: &BackendChoice, opened: &[Opened], draft: Option<&draft::Opened>) -> Result<Load, Fault> {
        let facts = &self.source.facts;
        let plan = self.plan;
        let share = share::decide(self.config.threads, &self.backends, choice, facts, &plan)?;
        *locked(&self.process.placement) = share.placement;
        // Names only: the worker looks beside itself, and knows that place by another path when it was
        // started through a link.
        let mut backends = vec![&choice.chosen, &choice.cpu];
        backends.dedup();
        let names = backends.into_iter().filter_map(|file| file.file_name());
        // It computes with the processor, which is no help to a graphics device.
        let draft = draft.filter(|_| share.offload.gpu_layers == 0);
        Ok(Load {
            backends: names.map(|name| name.to_string_lossy().into_owned()).collect(),
            embed: facts.modality != Modality::Chat,
            context_tokens: plan.first_tokens,
            context_max: plan.limit_tokens,
            sequences_max: plan.sequences_max,
            batch_tokens: plan.batch_tokens,
            threads: share.threads,
            prompt_threads: share.prompt_threads,
            quota_milli: share.quota_milli,
            offload: share.offload,
            kv_cache: self.config.kv_cache,
            adapters: opened.iter().map(|adapter| adapter.name.0.clone()).collect(),
            park_bytes: self.park_bytes,
            confine: self.config.confine_required,
            shown: Style::of(facts).shown(facts),
            drafts: self.config.drafts,
            draft_model: draft.map(|draft| draft.wire.clone()),
        })
    }

    fn converse(
        &self,
        sender: Sender,
        mut receiver: Receiver,
        orders: &mut Option<Inbox<Order>>,
        opened: &[Opened],
    ) -> Ended {
        let mut sender = Some(sender);
        let mut loaded = 0;
        loop {
            let report = match receiver.recv::<Report>() {
                Ok((report, _)) => report,
                Err(error) => return error.into(),
            };
            self.process.frames.fetch_add(1, Ordering::Relaxed);
            match report {
                Report::Loading { percent } => {
                    if std::mem::replace(&mut loaded, percent) != percent {
                        self.tell(News::Loading(percent));
                    }
                }
                Report::Ready(ready) => {
                    let (Some(sender), Some(orders)) = (sender.take(), orders.take()) else {
                        return Ended::Garbled("it said twice that it is ready".into());
                    };
                    self.start_writer(sender, orders, opened);
                    self.tell(News::Ready(ready));
                }
                Report::Failed { job: None, fault } => {
                    let by_backend = matches!(fault, WireFault::BackendFailed(_));
                    let fault = fault::from_wire(&self.source.name.0, fault);
                    return if by_backend { Ended::Backend(fault) } else { Ended::Refused(fault) };
                }
                Report::Hello { .. } => return Ended::Garbled("it greeted twice".into()),
                Report::Wants { least, wanted } => self.tell(News::Wants { least, wanted }),
                Report::Resized { room, fault } => {
                    let fault = fault.map(|fault| fault::from_wire(&self.source.name.0, fault));
                    self.tell(News::Resized { room, fault });
                }
                other => self.pass_on(other),
            }
        }
    }

    /// Frames that belong to an ask. One that nobody waits for any more is let go.
    fn pass_on(&self, report: Report) {
        let ended = |job: u64, result| self.tell(News::Ended { ask: AskId(job), result });
        match report {
            Report::Started { job, prompt_tokens, cached_tokens, .. } => {
                if let Some(sink) = self.process.sink(job) {
                    sink.progress(Progress::Prefill { done: cached_tokens, total: prompt_tokens });
                }
            }
            Report::Prefill { job, done, total } => {
                if let Some(sink) = self.process.sink(job) {
                    sink.progress(Progress::Prefill { done, total });
                }
            }
            Report::Text { job, text } => {
                let Some(sink) = self.process.sink(job) else { return };
                match sink.text(text) {
                    Pace::Well => {}
                    Pace::Slow => self.door.note_pace(AskId(job)),
                    Pace::Lost => {
                        self.process.forget(AskId(job));
                        self.door.drop_ask(AskId(job));
                    }
                }
            }
            // These are no words on the answer: an ask that its worker has not begun goes to the next one
            // when it dies.
            Report::Accepted { job, prompt_tokens, tokens_max } => {
                self.tell(News::Accepted { ask: AskId(job), prompt_tokens, tokens_max });
            }
            Report::Parked { job, held, tokens, saved } => {
                self.tell(News::Parked { ask: AskId(job), held, tokens, saved });
            }
            Report::Resumed { job } => self.tell(News::Resumed { ask: AskId(job) }),
            Report::Reused { job, reuse } => self.tell(News::Reused { ask: AskId(job), reuse }),
            Report::Loose { job, tool, reason } => {
                if let Some(sink) = self.process.sink(job) {
                    sink.loose(tool, reason);
                }
            }
            Report::Seek { job, prompt, least } => self.pass_to_writer(Order::Seek { job, prompt, least }),
            Report::Offer { state, chain, bytes, cost_us } => {
                self.pass_to_writer(Order::Offer { state, chain, bytes, cost_us });
            }
            // Here, so that it is known before the worker is found gone: what it hadn't told by then counts as torn.
            Report::Stored { state, bytes, .. } => self.stored.written((self.key, state), bytes),
            Report::Tried { job, verdict, bytes, took_us } => {
                self.pass_to_writer(Order::Tried { job, verdict, bytes, took_us });
            }
            Report::Forgotten { states, bytes } => self.tell(News::Forgotten { states, bytes }),
            Report::Done { job, finish, spent } => ended(
                job,
                fault::finish(finish)
                    .map(|finish| Finished::Generated { finish, spent })
                    .ok_or_else(|| late_answer(None, "the answer was under way")),
            ),
            Report::Vectors { job, dimensions, values, tokens, left_out } => {
                ended(job, vectors::check(dimensions, &values, tokens, left_out).map(Finished::Vectors));
            }
            Report::Scored { job, likelihoods, spent } => {
                ended(job, Ok(Finished::Scored { options: score::from_wire(likelihoods), spent }));
            }
            Report::Counted { job, tokens } => ended(job, Ok(Finished::Counted(tokens))),
            Report::Probed { job, errno } => ended(job, Ok(Finished::Probed(errno))),
            Report::Failed { job: Some(job), fault } => {
                ended(job, Err(fault::from_wire(&self.source.name.0, fault)));
            }
            Report::Pong { .. }
            | Report::Hello { .. }
            | Report::Loading { .. }
            | Report::Ready(_)
            | Report::Wants { .. }
            | Report::Resized { .. }
            | Report::Failed { job: None, .. } => {}
        }
    }

    /// This thread waits for no disk. A line that is full means that the worker reads nothing any more.
    fn pass_to_writer(&self, order: Order) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(order) {
            self.process.kill();
        }
    }

    fn start_writer(&self, sender: Sender, orders: Inbox<Order>, opened: &[Opened]) {
        let adapters = opened.iter().map(|adapter| adapter.name.clone()).collect();
        let disk = Disk {
            key: self.key,
            stored: Arc::clone(&self.stored),
            scopes: Arc::clone(&self.scopes),
            model: identity::of_model(&self.source.parts, self.config.kv_cache),
            name: self.source.name.0.clone(),
            adapters: opened.iter().map(|adapter| identity::of_file(&adapter.file)).collect(),
        };
        let ModelSource { name, facts, .. } = &self.source;
        let EngineConfig { program, confine_required, .. } = &*self.config;
        let renderer = Renderer::new(program.clone(), *confine_required, name.0.clone(), Arc::clone(facts));
        let add_bos = facts.add_bos;
        let (at_once, door) = (Setting::at_once(facts), Arc::clone(&self.door));
        let writer = Writer { key: self.key, add_bos, renderer, adapters, at_once, door, sender, disk };
        let thread = std::thread::Builder::new().name(format!("orders-{}", self.key.0));
        if thread.spawn(move || writer.write(&orders)).is_err() {
            // Without a writer the worker is of no use: its end brings a new one.
            self.process.kill();
        }
    }

    /// Waits for the process to end, and says how and why it did.
    fn collect(&self, why: Ended, tail: Option<Inbox<Vec<u8>>>, loading: bool, choice: BackendChoice) -> End {
        let status = self.await_end(if matches!(why, Ended::Closed) { END_GRACE } else { Duration::ZERO });
        let said = tail.and_then(|tail| tail.recv_timeout(END_GRACE).ok()).unwrap_or_default();
        let name = &self.source.name.0;
        let fault = match (why, status) {
            (Ended::Refused(fault), _) => return End::Refused(fault),
            (Ended::Backend(fault), _) => return End::Backend { fault, choice },
            (Ended::Garbled(words), _) => {
                let what = format!("the worker of `{name}` sent what can't be read, and was ended");
                Fault::new(Code::WorkerDied, what).cause(words)
            }
            (Ended::Closed, Some(status)) if !self.process.was_killed() => {
                let how = backend::describe(status, &String::from_utf8_lossy(&said));
                let fault = Fault::new(Code::WorkerDied, format!("the worker of `{name}` {how}"));
                if loading && status.signal() == Some(rustix::process::Signal::ILL.as_raw()) {
                    return End::Backend { fault, choice };
                }
                if status.signal() == Some(rustix::process::Signal::KILL.as_raw()) {
                    fault.hint("the system does that when memory runs out: a smaller model or window may help")
                } else {
                    fault
                }
            }
            (Ended::Closed, _) => Fault::new(Code::WorkerDied, format!("the worker of `{name}` was ended")),
        };
        End::Other(fault.hint("send the ask again: a new worker is started"))
    }

    /// `None` when there is no process, or the system doesn't tell.
    fn await_end(&self, patience: Duration) -> Option<ExitStatus> {
        let mut held = locked(&self.process.child);
        let child = held.as_mut()?;
        if let Ok(Some(status)) = child.wait_timeout(patience) {
            return Some(status);
        }
        // It has closed its link and lives on, or it talks nonsense.
        kill(Some(child));
        child.wait().ok()
    }
}

/// What came of a process.
enum End {
    /// The backend can't be used here, though its test said so.
    Backend {
        fault: Fault,
        choice: BackendChoice,
    },
    /// It couldn't serve, and would most likely say so again.
    Refused(Fault),
    Other(Fault),
}

/// Why a conversation is over.
enum Ended {
    /// The other side is gone.
    Closed,
    /// It speaks, but not our language.
    Garbled(String),
    /// It can't serve: said by itself, or found before it was started.
    Refused(Fault),
    /// Its backend fails, as it says itself.
    Backend(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended::Refused(fault)
    }
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Closed => Ended::Closed,
            // Killed in the middle of a frame: how it ended says more than what is missing.
            WireError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => Ended::Closed,
            other => Ended::Garbled(other.to_string()),
        }
    }
}

fn no_link(error: WireError) -> Fault {
    Fault::new(Code::Internal, "the system gives no link to a worker").cause(error)
}

/// The first frame: nothing is said to a worker that speaks another protocol.
fn greet(receiver: &mut Receiver) -> Result<(), Ended> {
    match receiver.recv::<Report>()? {
        (Report::Hello { version, .. }, _) if version == wire::VERSION => Ok(()),
        (Report::Hello { version, build, .. }, _) => {
            let words = format!("the worker ({build}) speaks protocol {version}, this daemon {}", wire::VERSION);
            let fault = Fault::new(Code::VersionMismatch, words).hint("build both from the same sources: `./try`");
            Err(Ended::Refused(fault))
        }
        (other, _) => Err(Ended::Garbled(format!("its first frame was no greeting but {}", name_of(&other)))),
    }
}

/// Turns orders into frames. Rendering a template may take its time: it holds up this model alone.
struct Writer {
    key: WorkerKey,
    add_bos: bool,
    renderer: Renderer,
    /// Those that the worker has, by their places.
    adapters: Vec<ModelName>,
    /// For what is scored: it stands where an answer begins.
    at_once: Setting,
    door: Arc<Door>,
    sender: Sender,
    disk: Disk,
}

impl Writer {
    fn write(mut self, orders: &Inbox<Order>) {
        let mut nonce = 0;
        // Ends when the owner lets go of the worker, or the link is gone: then the reader tells.
        while let Ok(order) = orders.recv() {
            let (ask, directive) = match order {
                Order::Begin(task) => (Some(task.ask), self.directive(*task)),
                Order::Cancel(ask) => (None, Ok(Directive::Cancel { job: ask.0 })),
                Order::Hold(ask) => (None, Ok(Directive::Hold { job: ask.0 })),
                Order::Resume(ask) => (None, Ok(Directive::Resume { job: ask.0 })),
                Order::Ping => {
                    nonce += 1;
                    (None, Ok(Directive::Ping { nonce }))
                }
                Order::Resize(context_tokens) => (None, Ok(Directive::Resize { context_tokens })),
                Order::LeaveDraft => (None, Ok(Directive::LeaveDraft)),
                Order::Rest => (None, Ok(Directive::Rest)),
                Order::Shutdown => (None, Ok(Directive::Shutdown)),
                Order::Forget(scope) => (None, Ok(Directive::Forget { scope })),
                other => {
                    if !self.at_disk(other) {
                        return;
                    }
                    continue;
                }
            };
            let sent = directive.and_then(|directive| match self.sender.send(&directive) {
                Ok(()) => Ok(true),
                Err(WireError::TooLarge(bytes)) => {
                    let most = wire::FRAME_BYTES_MAX;
                    Err(Fault::new(Code::InvalidAsk, format!("the ask takes {bytes} bytes; {most} is the most")))
                }
                Err(_) => Ok(false),
            });
            let goes_on = match (sent, ask) {
                (Ok(goes_on), _) => goes_on,
                (Err(fault), Some(ask)) => {
                    self.door.tell(Message::News(self.key, News::Ended { ask, result: Err(fault) }))
                }
                (Err(_), None) => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// What has to do with files of states. `false`: the link is gone.
    fn at_disk(&mut self, order: Order) -> bool {
        let Some((answer, file)) = self.disk.take(order) else { return true };
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        let sent = self.sender.send_with_fds(&answer, &fds).is_ok();
        if let (false, Directive::Store { state }) = (sent, &answer) {
            // It may have been found gone before it was answered, and then nobody else gives up what it was to write.
            self.disk.stored.written((self.key, *state), 0);
        }
        sent
    }

    fn directive(&mut self, task: Task) -> Result<Directive, Fault> {
        let job = task.ask.0;
        Ok(match &*task.job {
            Job::Generate {
                messages,
                sampling,
                stop,
                tokens_max,
                adapters,
                shape,
                reasoning,
                stop_loops,
                drafts,
                setting,
            } => {
                let Prompt { pieces, in_thought } = self.prompt(messages, setting)?;
                task.sink.opened(in_thought);
                Directive::Begin(Box::new(Begin {
                    job,
                    prompt: pieces,
                    add_bos: self.add_bos,
                    sampling: to_wire(sampling.clone()),
                    stop: stop.clone(),
                    tokens_max: *tokens_max,
                    deadline_ms: task.deadline_ms,
                    adapters: adapters::places(&self.adapters, adapters)?,
                    shape: shape.clone(),
                    reasoning: behind(reasoning.clone(), in_thought),
                    stop_loops: *stop_loops,
                    drafts: *drafts,
                    score: None,
                    scope: task.scope,
                    stored: task.stored,
                }))
            }
            Job::Score { messages, wanted, adapters } => Directive::Begin(Box::new(Begin {
                job,
                prompt: self.prompt(messages, &self.at_once.clone())?.pieces,
                add_bos: self.add_bos,
                // Nothing is chosen.
                sampling: to_wire(Sampling { temperature: 0.0, seed: Some(0), ..Sampling::default() }),
                stop: Vec::new(),
                tokens_max: 1,
                deadline_ms: task.deadline_ms,
                adapters: adapters::places(&self.adapters, adapters)?,
                shape: WireShape::Free,
                reasoning: None,
                stop_loops: false,
                drafts: false,
                score: Some(wanted.clone()),
                scope: task.scope,
                stored: task.stored,
            })),
            Job::Embed { texts, how } => Directive::Embed { job, texts: texts.clone(), how: *how },
            Job::Rank { query, documents, truncate } => {
                Directive::Rank { job, query: query.clone(), documents: documents.clone(), truncate: *truncate }
            }
            Job::Count { messages, setting } => {
                Directive::Count { job, prompt: self.prompt(messages, setting)?.pieces, add_bos: self.add_bos }
            }
            Job::Probe { attempt } => Directive::Probe { job, attempt: attempt.clone() },
        })
    }

    fn prompt(&mut self, messages: &[Turn], setting: &Setting) -> Result<Prompt, Fault> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.renderer.render(messages, setting, Moment { unix_seconds, offset_minutes: 0 })
    }
}

/// Reasoning that the prompt has opened isn't opened by the answer.
fn behind(reasoning: Option<WireReasoning>, in_thought: bool) -> Option<WireReasoning> {
    reasoning.map(|reasoning| if in_thought { WireReasoning { open: String::new(), ..reasoning } } else { reasoning })
}

/// Keeps the last words of a process: what it says when it dies. They come when it has said all.
fn keep_tail(mut out: impl Read + Send + 'static) -> Inbox<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0_u8; 1024];
        while let Ok(count @ 1..) = out.read(&mut chunk) {
            kept.extend_from_slice(&chunk[..count]);
            let excess = kept.len().saturating_sub(TAIL_BYTES);
            kept.drain(..excess);
        }
        let _ = sender.send(kept);
    });
    receiver
}

fn name_of(report: &Report) -> &'static str {
    match report {
        Report::Hello { .. } => "`Hello`",
        Report::Loading { .. } => "`Loading`",
        Report::Ready(_) => "`Ready`",
        Report::Accepted { .. } => "`Accepted`",
        Report::Parked { .. } => "`Parked`",
        Report::Resumed { .. } => "`Resumed`",
        Report::Started { .. } => "`Started`",
        Report::Prefill { .. } => "`Prefill`",
        Report::Text { .. } => "`Text`",
        Report::Done { .. } => "`Done`",
        Report::Scored { .. } => "`Scored`",
        Report::Vectors { .. } => "`Vectors`",
        Report::Counted { .. } => "`Counted`",
        Report::Pong { .. } => "`Pong`",
        Report::Probed { .. } => "`Probed`",
        Report::Failed { .. } => "`Failed`",
        Report::Wants { .. } => "`Wants`",
        Report::Resized { .. } => "`Resized`",
        Report::Reused { .. } => "`Reused`",
        Report::Loose { .. } => "`Loose`",
        Report::Seek { .. } => "`Seek`",
        Report::Tried { .. } => "`Tried`",
        Report::Offer { .. } => "`Offer`",
        Report::Stored { .. } => "`Stored`",
        Report::Forgotten { .. } => "`Forgotten`",
    }
}
