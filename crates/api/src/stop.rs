//! How a daemon ends: once asked, it lets running answers finish for a while; asked again, it cuts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new connection; what runs may finish.
    Draining,
    /// What still runs is cut.
    Cutting,
}

/// A handle to end the daemon with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    phase: Arc<watch::Sender<Phase>>,
    /// Callers of `stop` whose connection stays open until the process is gone.
    watchers: Arc<AtomicUsize>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), watchers: Arc::default() }
    }
}

impl Stop {
    /// Asks for the end; a second call cuts what still runs.
    pub fn ask(&self) {
        self.phase.send_modify(|phase| {
            *phase = match phase {
                Phase::Serving => Phase::Draining,
                Phase::Draining | Phase::Cutting => Phase::Cutting,
            };
        });
    }

    /// Asks for the end without hurrying one that has begun.
    pub(crate) fn ask_once(&self) {
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            if first {
                *phase = Phase::Draining;
            }
            first
        });
    }

    /// Returns when the end has come at least this far.
    pub(crate) async fn reached(&self, wanted: Phase) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so waiting can't fail.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }

    /// Returns once somebody has asked for the end.
    pub async fn asked(&self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Acquire)
    }

    /// Counts one connection as watching for the end until the value is dropped.
    pub(crate) fn watch(&self) -> Watcher {
        self.watchers.fetch_add(1, Ordering::AcqRel);
        Watcher { watchers: Arc::clone(&self.watchers) }
    }
}

#[derive(Debug)]
pub(crate) struct Watcher {
    watchers: Arc<AtomicUsize>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_ask_cuts() {
        let stop = Stop::default();
        stop.ask_once();
        stop.ask_once();
        stop.asked().await;
        assert_eq!(*stop.phase.borrow(), Phase::Draining);
        stop.ask();
        stop.reached(Phase::Cutting).await;
    }

    #[test]
    fn watchers_are_counted_while_they_live() {
        let stop = Stop::default();
        let watcher = stop.watch();
        assert_eq!(stop.watchers(), 1);
        drop(watcher);
        assert_eq!(stop.watchers(), 0);
    }
}
