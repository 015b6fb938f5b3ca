//! When changed paths have settled, so that a file is read once for each time it is saved. Pure: time is an argument.
//!
//! Editors save by renaming, by cutting and writing, or touch a file twice; a copy writes for seconds. A path is
//! ready when nothing was heard of it for a while, and at the latest some time after it was first heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// LIMIT: paths that are remembered one by one; with more, everything is looked at.
pub const PATHS_MAX: usize = 8192;
/// Nothing is heard of a path for this long: it has been saved.
pub const QUIET: Duration = Duration::from_millis(120);
/// A path that is written without end is read this long after its first change.
pub const LONGEST: Duration = Duration::from_millis(500);

/// What a watcher heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Path(PathBuf),
    /// Something was missed, or it isn't known what: only looking at everything helps.
    Everything,
}

/// What is to be looked at now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    Paths(BTreeSet<PathBuf>),
    Everything,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    first: Duration,
    last: Duration,
}

impl Heard {
    fn at(now: Duration) -> Self {
        Self { first: now, last: now }
    }

    fn ready(self) -> Duration {
        (self.last + QUIET).min(self.first + LONGEST)
    }
}

/// Paths that were heard of and aren't ready yet.
#[derive(Debug, Default)]
pub struct Settle {
    paths: BTreeMap<PathBuf, Heard>,
    everything: Option<Heard>,
    /// Nothing is handed out before this.
    held_until: Duration,
}

impl Settle {
    pub fn note(&mut self, now: Duration, note: Note) {
        match note {
            Note::Path(_) if self.everything.is_some() => {}
            Note::Path(path) => {
                self.paths.entry(path).or_insert(Heard::at(now)).last = now;
                if self.paths.len() > PATHS_MAX {
                    self.note(now, Note::Everything);
                }
            }
            Note::Everything => {
                let first = self.paths.values().map(|heard| heard.first).min().unwrap_or(now);
                self.paths.clear();
                self.everything.get_or_insert(Heard { first, last: now }).last = now;
            }
        }
    }

    /// Lets a costly look rest before the next one: a file that grows all the time mustn't take a whole core.
    pub fn hold(&mut self, until: Duration) {
        self.held_until = self.held_until.max(until);
    }

    /// When to ask again; `None` while nothing was heard.
    pub fn due(&self) -> Option<Duration> {
        let ready = self.paths.values().chain(&self.everything).map(|heard| heard.ready()).min()?;
        Some(ready.max(self.held_until))
    }

    /// What is ready. Paths that were heard of together come together, as both ends of a renaming must.
    pub fn take(&mut self, now: Duration) -> Option<Batch> {
        if now < self.held_until {
            return None;
        }
        if self.everything.is_some_and(|heard| heard.ready() <= now) {
            self.everything = None;
            return Some(Batch::Everything);
        }
        let ready: BTreeSet<PathBuf> =
            self.paths.iter().filter(|(_, heard)| heard.ready() <= now).map(|(path, _)| path.clone()).collect();
        self.paths.retain(|path, _| !ready.contains(path));
        (!ready.is_empty()).then_some(Batch::Paths(ready))
    }

    /// Paths that wait, of those that `of` is true for.
    pub fn waiting(&self, of: impl Fn(&PathBuf) -> bool) -> u64 {
        self.paths.keys().filter(|path| of(path)).count() as u64 + u64::from(self.everything.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn path(name: &str) -> Note {
        Note::Path(PathBuf::from(name))
    }

    fn paths(names: &[&str]) -> Option<Batch> {
        Some(Batch::Paths(names.iter().map(PathBuf::from).collect()))
    }

    #[test]
    fn a_file_that_is_saved_in_three_steps_is_read_once() {
        let mut settle = Settle::default();
        for at in [0, 30, 60] {
            settle.note(ms(at), path("a"));
        }
        assert_eq!(settle.due(), Some(ms(60) + QUIET));
        assert_eq!(settle.take(ms(59) + QUIET), None);
        assert_eq!(settle.take(ms(60) + QUIET), paths(&["a"]));
        assert_eq!((settle.take(ms(1000)), settle.due()), (None, None));
    }

    #[test]
    fn both_ends_of_a_renaming_come_together() {
        let mut settle = Settle::default();
        settle.note(ms(10), path("old"));
        settle.note(ms(10), path("new"));
        assert_eq!(settle.take(settle.due().expect("something")), paths(&["new", "old"]));
    }

    #[test]
    fn a_costly_look_rests_and_loses_nothing() {
        let mut settle = Settle::default();
        settle.note(ms(0), path("a"));
        settle.hold(ms(5_000));
        assert_eq!((settle.due(), settle.take(ms(4_999))), (Some(ms(5_000)), None));
        assert_eq!(settle.take(ms(5_000)), paths(&["a"]));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Note(u8),
        Everything,
        Wait(u64),
    }

    proptest! {
        /// Whatever is heard is handed out, no later than promised and never while it is still being written.
        #[test]
        fn nothing_is_lost_and_nothing_comes_late(steps in prop::collection::vec(
            prop_oneof![
                8 => (0..6u8).prop_map(Step::Note),
                1 => Just(Step::Everything),
                8 => (1..400u64).prop_map(Step::Wait),
            ],
            0..80,
        )) {
            let mut settle = Settle::default();
            let mut now = Duration::ZERO;
            // First and last time that each path was heard of since it was handed out.
            let mut open: BTreeMap<PathBuf, Heard> = BTreeMap::new();
            for step in steps.into_iter().chain([Step::Wait(2_000)]) {
                match step {
                    Step::Note(name) => {
                        let name = PathBuf::from(name.to_string());
                        settle.note(now, Note::Path(name.clone()));
                        open.entry(name).or_insert(Heard::at(now)).last = now;
                    }
                    Step::Everything => settle.note(now, Note::Everything),
                    Step::Wait(wait) => {
                        let end = now + ms(wait);
                        while let Some(due) = settle.due().filter(|due| *due <= end) {
                            now = now.max(due);
                            match settle.take(now) {
                                Some(Batch::Everything) => open.clear(),
                                Some(Batch::Paths(ready)) => {
                                    for path in ready {
                                        let heard = open.remove(&path).expect("it was heard of");
                                        let settled = now >= heard.last + QUIET || now >= heard.first + LONGEST;
                                        prop_assert!(settled, "{path:?} is still being written");
                                    }
                                }
                                None => prop_assert!(false, "due, and nothing came"),
                            }
                        }
                        now = end;
                        for (path, heard) in &open {
                            prop_assert!(now < heard.first + LONGEST + LONGEST, "{path:?} comes late");
                        }
                    }
                }
            }
            prop_assert!(open.is_empty() && settle.due().is_none());
        }

        #[test]
        fn no_crowd_outgrows_the_memory(count in PATHS_MAX - 2..PATHS_MAX + 50) {
            let mut settle = Settle::default();
            (0..count).for_each(|number| settle.note(ms(number as u64 / 1000), path(&number.to_string())));
            prop_assert!(settle.waiting(|_| true) <= PATHS_MAX as u64);
            let all = settle.take(ms(10_000));
            prop_assert_eq!(all == Some(Batch::Everything), count > PATHS_MAX);
        }
    }
}
