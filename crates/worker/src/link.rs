//! The two threads that know the socket: one reads directives, one writes reports.
//!
//! The thread that computes never waits for the daemon: it takes what has arrived and leaves what
//! it has to say. When the daemon goes, the process ends at once.

use crate::ffi::{self, Token};
use crate::states;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use wire::{Begin, Directive, JobId, Receiver, Report, Sender, WireError, WireFault};

/// LIMIT: directives read ahead of the thread that computes.
const DIRECTIVES_MAX: usize = 1024;
/// LIMIT: reports that the daemon hasn't taken. A daemon that is so far behind stops the worker, which
/// then waits for it.
const REPORTS_MAX: usize = 4096;

const THREAD_BYTES: usize = 256 << 10;

/// What came over the link.
#[derive(Debug)]
pub(crate) enum Event {
    Directive {
        received: Instant,
        directive: Box<Directive>,
        /// What came with it.
        file: Option<OwnedFd>,
    },
    /// A long prompt, in tokens.
    Tokens { received: Instant, begin: Box<Begin>, tokens: Result<Vec<Token>, WireFault> },
    /// How many tokens a long prompt has, as it goes to the daemon.
    Counted(Report),
    /// A state was written to a descriptor, or read from one.
    State(states::Outcome),
    /// The link can't be used any more; in words.
    Broken(String),
}

/// Where directives arrive.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Queue<Event>,
    own: SyncSender<Event>,
    interrupt: Arc<Interrupt>,
}

/// Asks the running computation to stop early, when nothing of it is wanted any more.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    /// Whether `urgent` holds anything: cheap to ask.
    any: AtomicBool,
    /// Urgent events that have arrived and weren't taken yet.
    urgent: Mutex<Vec<Urgent>>,
    /// The only job of the running computation; [`SHARED`] when there are several.
    only: AtomicU64,
    /// Microseconds after [`epoch`]; 0: none.
    deadline_us: AtomicU64,
}

/// No job: the daemon counts them from 1.
const SHARED: JobId = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgent {
    Cancel(JobId),
    End,
}

impl Urgent {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Broken(_) => Some(Self::End),
            Event::Tokens { .. } | Event::Counted(_) | Event::State(_) => None,
            Event::Directive { directive, .. } => match **directive {
                Directive::Cancel { job } => Some(Self::Cancel(job)),
                Directive::Shutdown => Some(Self::End),
                _ => None,
            },
        }
    }
}

impl Interrupt {
    /// Whether to stop now; cheap, because it is asked between all operations of a graph.
    pub(crate) fn is_due(&self) -> bool {
        if self.any.load(Ordering::Relaxed) && self.is_unwanted() {
            return true;
        }
        let deadline_us = self.deadline_us.load(Ordering::Relaxed);
        deadline_us != 0 && micros(epoch().elapsed()) >= deadline_us
    }

    /// Says whose computation comes next; `None`: that of several jobs, which no one of them may stop.
    pub(crate) fn watch(&self, only: Option<JobId>, deadline: Option<Instant>) {
        let deadline_us = deadline.map_or(0, |at| micros(at.saturating_duration_since(epoch())).max(1));
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
        self.only.store(only.unwrap_or(SHARED), Ordering::Relaxed);
    }

    fn is_unwanted(&self) -> bool {
        let only = self.only.load(Ordering::Relaxed);
        self.urgent().iter().any(|urgent| match urgent {
            Urgent::End => true,
            Urgent::Cancel(job) => only != SHARED && *job == only,
        })
    }

    fn note(&self, urgent: Urgent) {
        self.urgent().push(urgent);
        self.any.store(true, Ordering::Relaxed);
    }

    fn strike(&self, taken: Urgent) {
        let mut urgent = self.urgent();
        if let Some(place) = urgent.iter().position(|one| *one == taken) {
            urgent.swap_remove(place);
        }
        self.any.store(!urgent.is_empty(), Ordering::Relaxed);
    }

    fn urgent(&self) -> MutexGuard<'_, Vec<Urgent>> {
        self.urgent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Saturates after half a million years.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The reader's hold on the queue, which says that no more comes, even when the reader panics.
struct Last(SyncSender<Event>);

impl Drop for Last {
    fn drop(&mut self) {
        // A full queue is read first, and then the daemon finds nobody to answer it.
        let _ = self.0.try_send(Event::Broken("the reading thread has ended".into()));
    }
}

impl Inbox {
    /// Starts the reading thread. `socket` is the link's own, to wait at.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut receiver: Receiver, socket: OwnedFd) -> std::io::Result<Self> {
        // The clock starts here and not in the first question of a computation.
        epoch();
        let (send, queue) = sync_channel(DIRECTIVES_MAX);
        let own = send.clone();
        let interrupt = Arc::new(Interrupt::default());
        let flag = Arc::clone(&interrupt);
        std::thread::Builder::new().name("reader".into()).stack_size(THREAD_BYTES).spawn(move || {
            let Last(send) = &Last(send);
            loop {
                wait_readable(&socket);
                let event = match receiver.recv::<Directive>() {
                    Ok((directive, files)) => Event::Directive {
                        received: Instant::now(),
                        directive: Box::new(directive),
                        file: files.into_iter().next(),
                    },
                    // Nobody is left to work for, and nothing here outlives the process.
                    Err(WireError::Closed) => ffi::exit_now(0),
                    Err(error) => Event::Broken(error.to_string()),
                };
                // Before the sending: it is struck out when the event is taken, never after.
                if let Some(urgent) = Urgent::of(&event) {
                    flag.note(urgent);
                }
                let last = matches!(event, Event::Broken(_));
                if send.send(event).is_err() {
                    return;
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { queue, own, interrupt })
    }

    pub(crate) fn interrupt(&self) -> Arc<Interrupt> {
        Arc::clone(&self.interrupt)
    }

    /// For events that are made in this process.
    pub(crate) fn sender(&self) -> SyncSender<Event> {
        self.own.clone()
    }

    /// The next event. With `wait` the thread sleeps until there is one, else None says that there is none.
    pub(crate) fn take(&self, wait: bool) -> Option<Event> {
        // It holds a sender itself, so it is never told that there is none.
        let event = if wait { self.queue.recv().ok()? } else { self.queue.try_recv().ok()? };
        Some(self.taken(event))
    }

    /// The next event, or `None` when there was none for so long.
    pub(crate) fn take_within(&self, most: Duration) -> Option<Event> {
        self.queue.recv_timeout(most).ok().map(|event| self.taken(event))
    }

    fn taken(&self, event: Event) -> Event {
        if let Some(urgent) = Urgent::of(&event) {
            self.interrupt.strike(urgent);
        }
        event
    }
}

/// Sleeps until something can be read. Reading would wait too, but a thread that waits in a read is
/// woken whenever the daemon takes a report from the other direction: once for every token.
fn wait_readable(socket: &OwnedFd) {
    let mut question = [PollFd::new(socket, PollFlags::IN)];
    // An error here is met again by the read that follows.
    let _ = poll(&mut question, None);
}

/// Where reports are left.
///
/// A short report is written at once by the thread that computes, when the socket has room for it: to
/// wake another thread for every token would take a processor from those that compute. All else, and
/// all after it until it is gone, goes through the writing thread, so that nothing blocks.
#[derive(Debug)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    queue: SyncSender<Report>,
    writer: std::thread::JoinHandle<()>,
    socket: OwnedFd,
    /// Short reports of one step, on their way together.
    gathered: RefCell<Option<Vec<Report>>>,
}

#[derive(Debug)]
struct Shared {
    sender: Mutex<Sender>,
    /// Reports in the queue or being written by the thread.
    backlog: AtomicU64,
}

impl Outbox {
    /// Starts the writing thread. `socket` is the link's own, to ask whether it has room.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(sender: Sender, socket: OwnedFd) -> std::io::Result<Self> {
        let (queue, reports) = sync_channel::<Report>(REPORTS_MAX);
        let shared = Arc::new(Shared { sender: Mutex::new(sender), backlog: AtomicU64::new(0) });
        let ours = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("writer".into()).stack_size(THREAD_BYTES).spawn(move || {
            for report in reports {
                write(&mut ours.sender.lock().unwrap_or_else(PoisonError::into_inner), &report);
                ours.backlog.fetch_sub(1, Ordering::Release);
            }
        })?;
        Ok(Self { shared, queue, writer, socket, gathered: RefCell::new(None) })
    }

    pub(crate) fn send(&self, report: Report) {
        let long = matches!(
            report,
            Report::Vectors { .. } | Report::Failed { .. } | Report::Seek { .. } | Report::Offer { .. }
        );
        let short = !long;
        if short && let Some(gathered) = self.gathered.borrow_mut().as_mut() {
            gathered.push(report);
            return;
        }
        self.release();
        if short && self.shared.backlog.load(Ordering::Acquire) == 0 && self.has_room() {
            write(&mut self.shared.sender.lock().unwrap_or_else(PoisonError::into_inner), &report);
            return;
        }
        self.shared.backlog.fetch_add(1, Ordering::AcqRel);
        // The writer ends only with the process.
        if self.queue.send(report).is_err() {
            ffi::exit_now(0);
        }
    }

    /// From now on short reports wait for [`Outbox::release`]: those of all answers of a step wake the daemon
    /// once, and the thread that computes is put aside for it once.
    pub(crate) fn gather(&self) {
        self.gathered.borrow_mut().get_or_insert_default();
    }

    /// Sends what was gathered.
    pub(crate) fn release(&self) {
        let Some(reports) = self.gathered.take().filter(|reports| !reports.is_empty()) else { return };
        if self.shared.backlog.load(Ordering::Acquire) == 0 && self.has_room() {
            let mut sender = self.shared.sender.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.send_together(&reports).is_err() {
                ffi::exit_now(0);
            }
            return;
        }
        reports.into_iter().for_each(|report| self.send(report));
    }

    /// A stream socket says that it is writable while less than a quarter of its buffer is in use, and
    /// that leaves room for many short reports.
    fn has_room(&self) -> bool {
        let mut question = [PollFd::new(&self.socket, PollFlags::OUT)];
        poll(&mut question, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
            && question[0].revents() == PollFlags::OUT
    }

    /// Waits until all is written.
    pub(crate) fn finish(self) {
        self.release();
        drop(self.queue);
        // A writer that died has nothing more to write.
        let _ = self.writer.join();
    }
}

fn write(sender: &mut Sender, report: &Report) {
    match sender.send(report) {
        Ok(()) => {}
        Err(WireError::TooLarge(bytes)) => send_too_large(sender, report, bytes),
        Err(_) => ffi::exit_now(0),
    }
}

/// Only vectors of very many texts can be too large for a frame.
fn send_too_large(sender: &mut Sender, report: &Report, bytes: usize) {
    if let Report::Vectors { job, .. } = report {
        let words = format!("{bytes} bytes of vectors are more than one reply can hold; ask for fewer texts at a time");
        let failed = Report::Failed { job: Some(*job), fault: wire::WireFault::Invalid(words) };
        if sender.send(&failed).is_err() {
            ffi::exit_now(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_when_it_has_passed() {
        let interrupt = Interrupt::default();
        epoch();
        assert!(!interrupt.is_due());
        interrupt.watch(Some(1), Some(Instant::now() + Duration::from_secs(3600)));
        assert!(!interrupt.is_due());
        interrupt.watch(Some(1), Some(Instant::now()));
        let start = Instant::now();
        while !interrupt.is_due() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        interrupt.watch(None, None);
        assert!(!interrupt.is_due());
    }

    #[test]
    fn only_who_has_the_computation_to_itself_can_stop_it() {
        let interrupt = Interrupt::default();
        interrupt.watch(Some(1), None);
        interrupt.note(Urgent::Cancel(2));
        assert!(!interrupt.is_due(), "another job's cancel");
        interrupt.note(Urgent::Cancel(1));
        assert!(interrupt.is_due());
        interrupt.watch(None, None);
        assert!(!interrupt.is_due(), "others take part");
        interrupt.note(Urgent::End);
        assert!(interrupt.is_due(), "the end is for all");
        for taken in [Urgent::End, Urgent::Cancel(1), Urgent::Cancel(2)] {
            interrupt.strike(taken);
        }
        interrupt.watch(Some(1), None);
        assert!(!interrupt.is_due());
    }

    fn twice(link: wire::Link) -> (OwnedFd, wire::Link) {
        let descriptor = link.into_fd();
        (descriptor.try_clone().unwrap(), wire::Link::new(descriptor))
    }

    #[test]
    fn reports_keep_their_order_when_the_daemon_is_slow() {
        let (daemon, worker) = wire::pair().unwrap();
        let (_to_worker, mut from_worker) = daemon.split().unwrap();
        let (socket, link) = twice(worker);
        let (sender, _receiver) = link.split().unwrap();
        let outbox = Outbox::start(sender, socket).unwrap();
        // Far more than the socket holds, read only after all were left.
        let count = 3000;
        for nonce in 0..count {
            outbox.send(Report::Text { job: nonce, text: "x".repeat(200) });
        }
        assert!(outbox.shared.backlog.load(Ordering::Acquire) > 0, "the socket took all: the test shows nothing");
        for nonce in 0..count {
            let (report, _) = from_worker.recv::<Report>().unwrap();
            assert!(matches!(report, Report::Text { job, .. } if job == nonce), "{nonce}: {report:?}");
        }
        outbox.finish();
    }

    #[test]
    fn directives_arrive_in_order_and_a_cancel_interrupts() {
        let (daemon, worker) = wire::pair().unwrap();
        let (mut to_worker, from_worker) = daemon.split().unwrap();
        let (socket, link) = twice(worker);
        let (_, receiver) = link.split().unwrap();
        let inbox = Inbox::start(receiver, socket).unwrap();
        to_worker.send(&Directive::Ping { nonce: 7 }).unwrap();
        to_worker.send(&Directive::Cancel { job: 1 }).unwrap();
        let take = || match inbox.take(true) {
            Some(Event::Directive { directive, .. }) => *directive,
            other => panic!("{other:?}"),
        };
        assert_eq!(take(), Directive::Ping { nonce: 7 });
        inbox.interrupt().watch(Some(1), None);
        let start = Instant::now();
        while !inbox.interrupt().is_due() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(take(), Directive::Cancel { job: 1 });
        assert!(!inbox.interrupt().is_due(), "what was taken interrupts nothing more");
        assert!(inbox.take(false).is_none());
        // The end of the link would end this process, as it should a worker.
        std::mem::forget((to_worker, from_worker));
    }
}
