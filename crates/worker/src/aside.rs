//! What threads of ours do beside those that compute: their time isn't the step's.

use crate::link::micros;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Counts the time of tasks, those that aren't over too. A task takes a processor for about as long as it lasts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aside(Arc<Mutex<Tasks>>);

#[derive(Debug, Default)]
struct Tasks {
    done_us: u64,
    under_way: Vec<Instant>,
}

impl Aside {
    /// Does a task of this thread.
    pub(crate) fn count<T>(&self, task: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        self.tasks(|tasks| tasks.under_way.push(start));
        let done = task();
        self.tasks(|tasks| {
            tasks.done_us += micros(start.elapsed());
            if let Some(place) = tasks.under_way.iter().position(|begun| *begun == start) {
                tasks.under_way.swap_remove(place);
            }
        });
        done
    }

    /// Time of all tasks until now, together.
    pub(crate) fn total_us(&self) -> u64 {
        self.tasks(|tasks| tasks.done_us + tasks.under_way.iter().map(|start| micros(start.elapsed())).sum::<u64>())
    }

    fn tasks<T>(&self, look: impl FnOnce(&mut Tasks) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_task_counts_while_it_lasts_and_no_longer() {
        let aside = Aside::default();
        assert_eq!(aside.total_us(), 0);
        let (tell, told) = channel::<()>();
        let (begun, begins) = channel();
        let other = aside.clone();
        let thread = std::thread::spawn(move || {
            other.count(|| {
                begun.send(()).expect("somebody listens");
                told.recv().expect("a word");
            });
        });
        begins.recv().expect("it begins");
        // Time goes on by itself.
        while aside.total_us() < 1000 {
            std::thread::yield_now();
        }
        tell.send(()).expect("it listens");
        thread.join().expect("it ends");
        let total = aside.total_us();
        assert!(total >= 1000);
        let start = Instant::now();
        while micros(start.elapsed()) < 1000 {
            std::thread::yield_now();
        }
        assert_eq!(aside.total_us(), total, "who rests takes nothing");
    }
}
