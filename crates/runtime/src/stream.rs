//! A bounded stream of events from a thread that works to a caller that reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// LIMIT: a slow reader makes the worker thread wait, never the queue grow.
const EVENTS_MAX: usize = 64;

/// Reads events; dropping it cancels the work behind.
#[derive(Debug)]
pub struct EventStream<T> {
    events: mpsc::Receiver<T>,
    cancel: Arc<AtomicBool>,
}

impl<T> EventStream<T> {
    pub async fn next(&mut self) -> Option<T> {
        self.events.recv().await
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// The writing end, for the thread that works.
#[derive(Debug, Clone)]
pub(crate) struct EventSender<T> {
    events: mpsc::Sender<T>,
    pub(crate) cancel: Arc<AtomicBool>,
}

impl<T> EventSender<T> {
    /// Sends from a blocking thread. A reader that has gone sets the cancel flag.
    pub(crate) fn send(&self, event: T) {
        if self.events.blocking_send(event).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Runs `work` on a thread of its own; its events come out of the stream.
pub(crate) fn spawn<T, F>(name: &str, work: F) -> EventStream<T>
where
    T: Send + 'static,
    F: FnOnce(EventSender<T>) + Send + 'static,
{
    let (tx, rx) = mpsc::channel(EVENTS_MAX);
    let cancel = Arc::new(AtomicBool::new(false));
    let sender = EventSender { events: tx, cancel: Arc::clone(&cancel) };
    // A thread that can't be started drops the sender: the stream then ends without its last
    // event, which every reader treats as an internal fault.
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(move || work(sender)) {
        tracing::error!(%error, "no thread for {name}");
    }
    EventStream { events: rx, cancel }
}
