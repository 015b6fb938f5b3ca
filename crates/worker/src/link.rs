//! The two threads that know the socket: one reads directives, one writes reports.
//!
//! The thread that computes never waits for the daemon: it takes what has arrived and leaves what
//! it has to say. When the daemon goes, the process ends at once.

use crate::ffi;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wire::{Directive, Receiver, Report, Sender, WireError};

/// LIMIT: directives read ahead of the thread that computes.
const DIRECTIVES_MAX: usize = 1024;
/// LIMIT: reports that the daemon hasn't taken. A daemon that is so far behind stops the worker, which
/// then waits for it.
const REPORTS_MAX: usize = 4096;

/// What came over the link.
#[derive(Debug)]
pub(crate) enum Event {
    Directive {
        received: Instant,
        directive: Box<Directive>,
    },
    /// The link can't be used any more; in words.
    Broken(String),
}

/// Where directives arrive.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Queue<Event>,
    interrupt: Arc<Interrupt>,
}

/// Asks the running computation to stop early: a cancelled job or a deadline may be part of it.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    wanted: AtomicBool,
    /// Microseconds after [`epoch`]; 0: none.
    deadline_us: AtomicU64,
}

impl Interrupt {
    /// Whether to stop now; cheap, because it is asked between all operations of a graph.
    pub(crate) fn is_due(&self) -> bool {
        if self.wanted.load(Ordering::Relaxed) {
            return true;
        }
        let deadline_us = self.deadline_us.load(Ordering::Relaxed);
        deadline_us != 0 && micros(epoch().elapsed()) >= deadline_us
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        let deadline_us = deadline.map_or(0, |at| micros(at.saturating_duration_since(epoch())).max(1));
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
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

impl Inbox {
    /// Starts the reading thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut receiver: Receiver) -> std::io::Result<Self> {
        // The clock starts here and not in the first question of a computation.
        epoch();
        let (send, queue) = sync_channel(DIRECTIVES_MAX);
        let interrupt = Arc::new(Interrupt::default());
        let flag = Arc::clone(&interrupt);
        std::thread::Builder::new().name("reader".into()).stack_size(256 << 10).spawn(move || {
            loop {
                let event = match receiver.recv::<Directive>() {
                    Ok((directive, _)) => Event::Directive { received: Instant::now(), directive: Box::new(directive) },
                    // Nobody is left to work for, and nothing here outlives the process.
                    Err(WireError::Closed) => ffi::exit_now(0),
                    Err(error) => Event::Broken(error.to_string()),
                };
                let urgent = match &event {
                    Event::Broken(_) => true,
                    Event::Directive { directive, .. } => {
                        matches!(**directive, Directive::Cancel { .. } | Directive::Shutdown)
                    }
                };
                let last = matches!(event, Event::Broken(_));
                if send.send(event).is_err() {
                    return;
                }
                // After the sending: whoever clears the flag and then looks finds the event.
                if urgent {
                    flag.wanted.store(true, Ordering::Relaxed);
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { queue, interrupt })
    }

    pub(crate) fn interrupt(&self) -> Arc<Interrupt> {
        Arc::clone(&self.interrupt)
    }

    /// Forgets earlier wishes to stop; what they were about is found by [`Inbox::take`] from now on.
    pub(crate) fn rearm(&self) {
        self.interrupt.wanted.store(false, Ordering::Relaxed);
    }

    /// The next event. With `wait` the thread sleeps until there is one, else None says that there is none.
    pub(crate) fn take(&self, wait: bool) -> Option<Event> {
        let gone = || Event::Broken("the reading thread has ended".into());
        if wait {
            return Some(self.queue.recv().unwrap_or_else(|_| gone()));
        }
        match self.queue.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(gone()),
        }
    }
}

/// Where reports are left.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: SyncSender<Report>,
    writer: std::thread::JoinHandle<()>,
}

impl Outbox {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut sender: Sender) -> std::io::Result<Self> {
        let (queue, reports) = sync_channel::<Report>(REPORTS_MAX);
        let writer = std::thread::Builder::new().name("writer".into()).stack_size(256 << 10).spawn(move || {
            for report in reports {
                match sender.send(&report) {
                    Ok(()) => {}
                    Err(WireError::TooLarge(bytes)) => send_too_large(&mut sender, &report, bytes),
                    Err(_) => ffi::exit_now(0),
                }
            }
        })?;
        Ok(Self { queue, writer })
    }

    pub(crate) fn send(&self, report: Report) {
        // The writer ends only with the process.
        if self.queue.send(report).is_err() {
            ffi::exit_now(0);
        }
    }

    /// Waits until all is written.
    pub(crate) fn finish(self) {
        drop(self.queue);
        // A writer that died has nothing more to write.
        let _ = self.writer.join();
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
        interrupt.set_deadline(Some(Instant::now() + Duration::from_secs(3600)));
        assert!(!interrupt.is_due());
        interrupt.set_deadline(Some(Instant::now()));
        let start = Instant::now();
        while !interrupt.is_due() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        interrupt.set_deadline(None);
        assert!(!interrupt.is_due());
        interrupt.wanted.store(true, Ordering::Relaxed);
        assert!(interrupt.is_due());
    }

    #[test]
    fn directives_arrive_in_order_and_a_cancel_interrupts() {
        let (daemon, worker) = wire::pair().unwrap();
        let (mut to_worker, _from_worker) = daemon.split().unwrap();
        let (_, receiver) = worker.split().unwrap();
        let inbox = Inbox::start(receiver).unwrap();
        to_worker.send(&Directive::Ping { nonce: 7 }).unwrap();
        to_worker.send(&Directive::Cancel { job: 1 }).unwrap();
        let take = || match inbox.take(true) {
            Some(Event::Directive { directive, .. }) => *directive,
            other => panic!("{other:?}"),
        };
        assert_eq!(take(), Directive::Ping { nonce: 7 });
        assert_eq!(take(), Directive::Cancel { job: 1 });
        let start = Instant::now();
        while !inbox.interrupt().is_due() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        inbox.rearm();
        assert!(!inbox.interrupt().is_due());
        assert!(inbox.take(false).is_none());
    }
}
