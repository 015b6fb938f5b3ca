//! A bounded stream of events from a thread that works to a caller that reads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

/// LIMIT: a slow reader makes the worker thread wait, never the queue grow.
const EVENTS_MAX: usize = 64;
/// Places that [`EventSender::offer`] leaves free, for what must come through.
const EVENTS_SPARE: usize = 32;

/// Reads events; dropping it cancels the work behind.
#[derive(Debug)]
pub struct EventStream<T> {
    events: mpsc::Receiver<T>,
    cancel: Arc<AtomicBool>,
    /// Dropped with the stream, which wakes whoever waits by [`Reader`].
    _here: watch::Sender<()>,
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
    pub(crate) reader: Reader,
}

/// Whether somebody still reads. Lets a thread wait for its work and for their going away at once.
#[derive(Debug, Clone)]
pub(crate) struct Reader(watch::Receiver<()>);

impl Reader {
    /// Runs `work` on this thread, which must not be one of the async runtime's. `None` as soon as the
    /// reader has gone: `work` is dropped then, and what drops with it is cancelled.
    pub(crate) fn unless_gone<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut here = self.0.clone();
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
        waiting.block_on(async {
            tokio::select! {
                biased;
                _ = here.changed() => None,
                output = work => Some(output),
            }
        })
    }
}

impl<T> EventSender<T> {
    /// Sends from a blocking thread. A reader that has gone sets the cancel flag.
    pub(crate) fn send(&self, event: T) {
        if self.events.blocking_send(event).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Sends what may be left out while the reader is slow or suspended, and never waits.
    pub(crate) fn offer(&self, event: T) {
        if self.events.capacity() > EVENTS_SPARE && self.events.try_send(event).is_err() && self.events.is_closed() {
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
    let (here, reader) = watch::channel(());
    let sender = EventSender { events: tx, cancel: Arc::clone(&cancel), reader: Reader(reader) };
    // A thread that can't be started drops the sender: the stream then ends without its last
    // event, which every reader treats as an internal fault.
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(move || work(sender)) {
        tracing::error!(%error, "no thread for {name}");
    }
    EventStream { events: rx, cancel, _here: here }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_ends_the_wait_and_drops_the_work() {
        struct Told(std::sync::mpsc::SyncSender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).expect("the test waits");
            }
        }
        let (begun, begins) = std::sync::mpsc::sync_channel(1);
        let (dropped, drops) = std::sync::mpsc::sync_channel(1);
        let stream: EventStream<()> = spawn("test", move |events| {
            let told = Told(dropped);
            let waited = events.reader.unless_gone(async move {
                let _told = told;
                begun.send(()).expect("the test waits");
                std::future::pending::<()>().await;
            });
            assert_eq!(waited, None);
        });
        begins.recv().expect("the work begins");
        drop(stream);
        drops.recv().expect("the work is dropped");
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_no_offer() {
        let (finished, finishes) = std::sync::mpsc::sync_channel(1);
        let mut stream = spawn("test", move |events| {
            (0..1_000).for_each(|number| events.offer(number));
            finished.send(()).expect("the test waits");
            events.send(1_000);
        });
        finishes.recv().expect("nothing blocks");
        let waiting = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let came = waiting.block_on(async {
            let mut came = Vec::new();
            while let Some(number) = stream.next().await {
                came.push(number);
            }
            came
        });
        assert_eq!((came.len(), came.last()), (EVENTS_MAX - EVENTS_SPARE + 1, Some(&1_000)));
    }
}
