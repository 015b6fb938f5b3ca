//! Playing steps: several asks at once, each in a thread that waits at gates and hears of its cancel.

use crate::script::Step;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use wire::{
    Begin, Differs, JobId, Link, Receiver, Report, Reuse, Sender, Spent, WireFault, WireFinish, WireLikelihood,
};

/// What all threads of a scripted worker hold.
#[derive(Clone)]
pub(super) struct Stage {
    sender: Arc<Mutex<Sender>>,
    /// For bytes that are no frame.
    raw: Arc<UnixStream>,
    /// Nothing at all is said any more.
    hung: Arc<AtomicBool>,
    /// Dropping a job's end tells its thread of the cancel.
    cancels: Arc<Mutex<HashMap<JobId, UnixStream>>>,
    turns: Arc<Mutex<HashMap<JobId, Arc<Turn>>>>,
}

/// Whether a job may go on.
#[derive(Default)]
struct Turn {
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Default)]
struct TurnState {
    held: bool,
    cancelled: bool,
}

impl Turn {
    /// Waits until the job may go on. While what is returned lives, it can't be held.
    fn wait(&self) -> MutexGuard<'_, TurnState> {
        let waits = |state: &mut TurnState| state.held && !state.cancelled;
        self.changed.wait_while(locked(&self.state), waits).unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(super) fn new(fd: OwnedFd) -> (Self, Receiver) {
        let raw = UnixStream::from(fd.try_clone().expect("a descriptor can be doubled"));
        let (sender, receiver) = Link::new(fd).split().expect("a link can be split");
        let stage = Self {
            sender: Arc::new(Mutex::new(sender)),
            raw: Arc::new(raw),
            hung: Arc::default(),
            cancels: Arc::default(),
            turns: Arc::default(),
        };
        (stage, receiver)
    }

    pub(super) fn report(&self, report: &Report) {
        if !self.hung.load(Ordering::SeqCst) {
            // The daemon may be gone; then the receiving side ends this process.
            let _ = locked(&self.sender).send(report);
        }
    }

    pub(super) fn garbage(&self) {
        let held = locked(&self.sender);
        let _ = (&*self.raw).write_all(&[0xff; 64]);
        drop(held);
    }

    /// A header that promises more than comes.
    fn half_a_frame(&self) {
        let held = locked(&self.sender);
        let _ = (&*self.raw).write_all(&[200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        drop(held);
    }

    /// Makes a job known; what is returned ends when the job is cancelled.
    pub(super) fn admit(&self, job: JobId) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("the system gives a socket pair");
        locked(&self.cancels).insert(job, ours);
        locked(&self.turns).insert(job, Arc::default());
        theirs
    }

    pub(super) fn cancel(&self, job: JobId) {
        locked(&self.cancels).remove(&job);
        if let Some(turn) = self.turn(job) {
            locked(&turn.state).cancelled = true;
            turn.changed.notify_all();
        }
    }

    fn turn(&self, job: JobId) -> Option<Arc<Turn>> {
        locked(&self.turns).get(&job).map(Arc::clone)
    }

    /// From here on the job says nothing, until it is told to go on.
    pub(super) fn hold(&self, job: JobId) {
        if let Some(turn) = self.turn(job) {
            let mut state = locked(&turn.state);
            state.held = true;
            self.report(&Report::Parked { job, held: true, tokens: 1, saved: true });
        }
    }

    pub(super) fn resume(&self, job: JobId) {
        if let Some(turn) = self.turn(job) {
            let mut state = locked(&turn.state);
            state.held = false;
            self.report(&Report::Resumed { job });
            turn.changed.notify_all();
        }
    }

    /// Says a job's last word, as soon as it may speak.
    fn end(&self, job: JobId, last: &Report) {
        let turn = self.turn(job);
        let may = turn.as_ref().map(|turn| turn.wait());
        locked(&self.cancels).remove(&job);
        locked(&self.turns).remove(&job);
        self.report(last);
        drop(may);
    }

    /// Plays what comes before the vectors; `None` when the job has ended over it.
    pub(super) fn prepare(&self, job: JobId, steps: &[Step], cancelled: &UnixStream) -> Option<()> {
        for step in steps {
            let end = if is_over(cancelled) || self.play_cancellable(step, cancelled).is_break() {
                Report::Done { job, finish: WireFinish::Cancelled, spent: Spent::default() }
            } else if let Err(fault) = self.play(Some(job), step) {
                Report::Failed { job: Some(job), fault }
            } else {
                continue;
            };
            self.end(job, &end);
            return None;
        }
        self.cancel(job);
        locked(&self.turns).remove(&job);
        Some(())
    }

    /// Plays an ask to its end and reports that end.
    pub(super) fn perform(&self, begin: &Begin, prompt_tokens: u32, steps: &[Step], cancelled: &UnixStream) {
        let job = begin.job;
        let (mut completion_tokens, mut cached_tokens) = (0, 0);
        let mut finish = WireFinish::EndOfTurn;
        for step in steps {
            if let Step::End(how) = step {
                finish = *how;
            }
            let refused = matches!(step, Step::Overflow(..) | Step::Fail(_) | Step::Unsupported(..));
            if completion_tokens == 0 && !refused && matches!(step, Step::Text(_) | Step::Repeat(..)) {
                self.report(&Report::Started { job, prompt_tokens, cached_tokens, queue_us: 0 });
            }
            if let Step::Reused(live, ram, _) = step {
                cached_tokens = live + ram;
            }
            completion_tokens += match step {
                Step::Text(_) => 1,
                Step::Repeat(count, _) => *count,
                _ => 0,
            };
            if is_over(cancelled) || self.play_cancellable(step, cancelled).is_break() {
                finish = WireFinish::Cancelled;
                break;
            }
            if let Err(fault) = self.play(Some(job), step) {
                self.end(job, &Report::Failed { job: Some(job), fault });
                return;
            }
        }
        // It may have been cancelled while it was held.
        if self.turn(job).is_some_and(|turn| turn.wait().cancelled) {
            finish = WireFinish::Cancelled;
        }
        let spent =
            Spent { prompt_tokens, cached_tokens, completion_tokens, prefill_us: 1, decode_us: 1, ..Spent::default() };
        if let (Some(score), false) = (&begin.score, finish == WireFinish::Cancelled) {
            let likelihoods = score.options.iter().map(|option| likelihood(option, score.whole)).collect();
            return self.end(job, &Report::Scored { job, likelihoods, spent });
        }
        self.end(job, &Report::Done { job, finish, spent });
    }

    /// Waits that a cancel ends early.
    fn play_cancellable(&self, step: &Step, cancelled: &UnixStream) -> ControlFlow<()> {
        let Step::Wait(path) = step else { return ControlFlow::Continue(()) };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(gate) = rustix::fs::open(path, flags, Mode::empty()).map(File::from) else {
            return ControlFlow::Continue(());
        };
        loop {
            let mut both = [PollFd::new(&gate, PollFlags::IN), PollFd::new(cancelled, PollFlags::IN)];
            if poll(&mut both, None).is_err() {
                continue;
            }
            if !both[1].revents().is_empty() {
                return ControlFlow::Break(());
            }
            if take_one(&gate) {
                return ControlFlow::Continue(());
            }
        }
    }

    /// One step of an ask, or of the load when `job` is `None`.
    pub(super) fn play(&self, job: Option<JobId>, step: &Step) -> Result<(), WireFault> {
        match step {
            Step::Text(text) => {
                if let Some(job) = job {
                    let turn = self.turn(job);
                    let may = turn.as_ref().map(|turn| turn.wait());
                    if !may.as_ref().is_some_and(|state| state.cancelled) {
                        self.report(&Report::Text { job, text: text.clone() });
                    }
                }
            }
            Step::Repeat(count, text) => {
                for _ in 0..*count {
                    self.play(job, &Step::Text(text.clone()))?;
                }
            }
            Step::Prefill(done, total) => {
                if let Some(job) = job {
                    self.report(&Report::Prefill { job, done: *done, total: *total });
                }
            }
            Step::Reused(live, ram, differs) => {
                if let Some(job) = job {
                    let differs = differs.clone().map(|(kept, asked)| Differs { at: live + ram, kept, asked });
                    let reuse = Box::new(Reuse { live: *live, ram: *ram, disk: 0, differs });
                    self.report(&Report::Reused { job, reuse });
                }
            }
            Step::Loose(tool, reason) => {
                if let Some(job) = job {
                    self.report(&Report::Loose { job, tool: Some(tool.clone()), reason: reason.clone() });
                }
            }
            Step::Percent(percent) => self.report(&Report::Loading { percent: *percent }),
            // An ask's wait was played where a cancel can end it; the load's is played here.
            Step::Wait(path) => {
                if job.is_none() {
                    wait_at(path);
                }
            }
            Step::Unless(..) | Step::Once(..) | Step::End(_) => {}
            Step::Unsupported(path, reason) => {
                return Err(WireFault::ShapeUnsupported { path: path.clone(), reason: reason.clone() });
            }
            Step::BackendFailed(words) => return Err(WireFault::BackendFailed(words.clone())),
            Step::DieMidFrame(signal) => {
                self.half_a_frame();
                die(*signal)
            }
            Step::Die(signal) => die(*signal),
            Step::Exit(status) => leave(*status),
            Step::Hang => self.hung.store(true, Ordering::SeqCst),
            Step::Garbage => self.garbage(),
            Step::Overflow(requested, available) => {
                return Err(WireFault::ContextOverflow { requested: *requested, available: *available });
            }
            Step::Wants(least, wanted) => self.report(&Report::Wants { least: *least, wanted: *wanted }),
            Step::Fail(words) => {
                return Err(match job {
                    Some(_) => WireFault::DecodeFailed(words.clone()),
                    None => WireFault::LoadFailed(words.clone()),
                });
            }
            Step::MemoryShort(words) => return Err(WireFault::MemoryShort(words.clone())),
            Step::Unconfined(words) => return Err(WireFault::ConfinementFailed(words.clone())),
        }
        Ok(())
    }
}

/// Each word has the probability of one half, and so has the end.
fn likelihood(option: &str, whole: bool) -> WireLikelihood {
    let words = option.split_whitespace().count() + usize::from(whole);
    let tokens = u32::try_from(words).unwrap_or(u32::MAX);
    WireLikelihood { log: f64::from(tokens) * 0.5_f64.ln(), tokens }
}

fn is_over(cancelled: &UnixStream) -> bool {
    let mut one = [PollFd::new(cancelled, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut one, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Another thread may have taken the byte that woke this one: then this one waits again.
fn take_one(gate: &File) -> bool {
    let again = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
    !matches!((&*gate).read(&mut [0_u8]), Err(error) if again.contains(&error.kind()))
}

fn wait_at(path: &Path) {
    if let Ok(gate) = File::open(path) {
        while !take_one(&gate) {}
    }
}

/// Ends this process by a signal, as a crash would.
pub(super) fn die(signal: i32) -> ! {
    let Some(signal) = Signal::from_named_raw(signal) else { hang() };
    // Rust's own handler takes the first SIGSEGV, as it may be a stack overflow, and steps aside; a
    // second one counts only when the first was taken. So: until it works.
    loop {
        let _ = kill_process(getpid(), signal);
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
}

#[expect(clippy::exit, reason = "a script may end the process at any step")]
fn leave(status: u8) -> ! {
    std::process::exit(i32::from(status))
}

pub(super) fn hang() -> ! {
    loop {
        std::thread::park();
    }
}
