//! A layer above TCP that counts what really crosses and stops when it is told to.
//!
//! It lies below encryption, so the counts are bytes on the socket: requests, headers, bodies and
//! TLS records, both ways. Name lookups and the system's own TCP/IP headers are not in them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How soon a waiting read notices that it was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(200);

/// Bytes on the socket of one request.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counts {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Wraps whatever connection the link before it made.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) counts: Arc<Counts>,
    pub(crate) cancel: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for Counter {
    type Out = Counting<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Counting<In>>, Error> {
        let counting = |inner| Counting { inner, counts: Arc::clone(&self.counts), cancel: Arc::clone(&self.cancel) };
        Ok(chained.map(counting))
    }
}

#[derive(Debug)]
pub(crate) struct Counting<In> {
    inner: In,
    counts: Arc<Counts>,
    cancel: Arc<AtomicBool>,
}

impl<In: Transport> Transport for Counting<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.check_cancel()?;
        // Counted before it is written: a write that fails half way may have sent all of it.
        self.counts.sent.fetch_add(amount as u64, Ordering::Relaxed);
        self.inner.transmit_output(amount, timeout)
    }

    /// Waits in short slices, so that a cancel is noticed while the far side is silent.
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let whole = timeout.for_read();
        let deadline = (!whole.after.is_not_happening()).then(|| Instant::now() + *whole.after);
        let before = self.inner.buffers().input().len();
        loop {
            self.check_cancel()?;
            let left = deadline.map_or(CANCEL_CHECK, |at| at.saturating_duration_since(Instant::now()));
            let slice = NextTimeout { after: left.min(CANCEL_CHECK).into(), per_read: None, ..whole };
            match self.inner.await_input(slice) {
                Err(Error::Timeout(_)) if left > CANCEL_CHECK || deadline.is_none() => {}
                result => {
                    let gained = self.inner.buffers().input().len().saturating_sub(before);
                    self.counts.received.fetch_add(gained as u64, Ordering::Relaxed);
                    return result;
                }
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<In> Counting<In> {
    fn check_cancel(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, CANCELLED)));
        }
        Ok(())
    }
}

/// The text by which a cancelled wait is told from a broken connection.
pub(crate) const CANCELLED: &str = "cancelled on this side";
