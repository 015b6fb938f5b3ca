//! States of prompts on disk: what a model has worked through, so that it isn't read again after a restart, an idle
//! night, another model or a crash.
//!
//! The daemon owns the files and hands workers descriptors of them; a worker has no path. A state has a file that its
//! worker writes, and beside it a head that says whose it is, which no worker can reach. The head comes last, when the
//! state is on the disk: what is torn has none, and is deleted at the next start. What was damaged since is found by its
//! checksums when it is read, and deleted then. Looking up and opening happens on the thread that speaks to the worker,
//! bringing to disk on a thread of its own: the engine's thread waits for no disk.

mod files;
mod index;

pub(crate) use index::Owner;

use crate::admit::WorkerKey;
use crate::locked;
use base::{Bytes, Fault};
use files::Folder;
use index::{Index, Offer, Speed, Sums};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wire::{Chain, Verdict};

/// LIMIT: written states that wait to be brought to the disk.
const WAITING_MAX: usize = 64;
/// Left free on the disk, whatever may be taken.
const FREE_BYTES: u64 = 1 << 30;
/// For a state to be brought to the disk, before what is left is looked at; and how often that is asked.
const SYNC: Duration = Duration::from_secs(30);
/// The same before the daemon ends.
const LAST_SYNC: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);
/// How much a new measurement of the disk's speed counts.
const NEWS: f64 = 0.3;

/// What stands beside a state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Head {
    owner: Owner,
    sums: Sums,
    cost_us: u64,
    /// Of the state's file.
    bytes: u64,
}

/// What of it is to be erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Which {
    /// `None`: of every app.
    pub(crate) app: Option<String>,
    /// `None`: of every model.
    pub(crate) model: Option<String>,
}

impl Which {
    fn holds(&self, owner: &Owner) -> bool {
        let is = |wanted: &Option<String>, there: &String| wanted.as_ref().is_none_or(|wanted| wanted == there);
        is(&self.app, &owner.app) && is(&self.model, &owner.name)
    }
}

/// What was erased of it, and what is left all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) files: u64,
    pub(crate) bytes: Bytes,
    pub(crate) left: u64,
}

/// One job or state of one worker.
pub(crate) type Key = (WorkerKey, u64);

#[derive(Debug)]
pub(crate) struct Stored {
    /// `None`: nothing is stored and nothing found.
    folder: Option<Folder>,
    state: Mutex<State>,
    /// Apps that have something. Apart from the rest, so that the engine's thread can look while others are at the
    /// disk.
    apps: Mutex<BTreeSet<String>>,
    finished: SyncSender<u64>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    last: u64,
    /// Numbers of files that workers write.
    writing: HashMap<Key, u64>,
    /// What is being written or brought to the disk; `None`: it was erased meanwhile.
    coming: HashMap<u64, Option<Head>>,
    /// Files that workers were handed, by the ask.
    handed: HashMap<Key, u64>,
    speed: Speed,
}

impl Stored {
    /// Reads what is there and starts the thread. With 0 bytes, or a folder that can't be used, nothing is stored.
    pub(crate) fn open(folder: &Path, bytes_max: u64) -> Arc<Self> {
        let (finished, inbox) = sync_channel(WAITING_MAX);
        let mut state = State { index: Index::new(bytes_max), ..State::default() };
        let folder = Folder::open(folder).and_then(|folder| {
            state.read(&folder)?;
            Ok(folder)
        });
        let folder = match folder {
            Ok(folder) => (bytes_max > 0).then_some(folder),
            Err(error) => {
                tracing::warn!(%error, "states of prompts can't be kept on disk");
                None
            }
        };
        let apps = Mutex::new(state.apps());
        let stored = Arc::new(Self { folder, state: Mutex::new(state), apps, finished });
        let ours = Arc::downgrade(&stored);
        let thread = std::thread::Builder::new().name("stored".into());
        let started = thread.spawn(move || {
            while let Ok(number) = inbox.recv() {
                let Some(stored) = ours.upgrade() else { return };
                stored.take_in(number);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "states of prompts can't be kept on disk");
        }
        stored
    }

    /// Whether something of this app is there at all.
    pub(crate) fn may_have(&self, app: &str) -> bool {
        locked(&self.apps).contains(app)
    }

    /// A state that holds more of a prompt than `least` tokens.
    pub(crate) fn find(&self, key: Key, owner: &Owner, prompt: &Chain, least: u32) -> Option<File> {
        let folder = self.folder.as_ref()?;
        let number = locked(&self.state).index.find(owner, &prompt.tokens, least)?;
        match folder.read(number) {
            Ok(file) => {
                locked(&self.state).handed.insert(key, number);
                Some(file)
            }
            Err(error) => {
                tracing::warn!(number, %error, "a state of a prompt can't be opened");
                self.discard(number);
                None
            }
        }
    }

    /// What a worker found in a file that it was handed.
    pub(crate) fn tried(&self, key: Key, verdict: Verdict, bytes: u64, took_us: u64) {
        let mut state = locked(&self.state);
        let Some(number) = state.handed.remove(&key) else { return };
        match verdict {
            Verdict::Sound => return state.learn_speed(bytes, took_us),
            // Another prompt may find more of itself in it.
            Verdict::Unfit => return,
            Verdict::Damaged => drop(state),
        }
        tracing::warn!(number, "a state of a prompt was damaged");
        self.discard(number);
    }

    /// A file to write a state to, when it is wanted.
    pub(crate) fn offer(&self, key: Key, owner: Owner, chain: &Chain, bytes: u64, cost_us: u64) -> Option<File> {
        let folder = self.folder.as_ref()?;
        let sums = Sums::of(&chain.tokens, chain.exact);
        let state = locked(&self.state);
        if !state.index.wants(&owner, &sums, Offer { bytes, cost_us }, state.speed) {
            return None;
        }
        drop(state);
        if folder.free_bytes()? < bytes.saturating_add(FREE_BYTES) {
            return None;
        }
        let bytes = bytes.saturating_add(beside(chain.tokens.len(), bytes));
        let mut state = locked(&self.state);
        state.last += 1;
        let number = state.last;
        // What is on its way counts before it is there, so that there is never more than may be.
        let coming = state.coming.values().flatten().fold(bytes, |sum, head| sum.saturating_add(head.bytes));
        let out = state.index.make_room(coming);
        state.writing.insert(key, number);
        state.coming.insert(number, Some(Head { owner, sums, cost_us, bytes }));
        drop(state);
        out.into_iter().for_each(|number| folder.remove(number));
        let file = folder.write(number, bytes);
        if file.is_err() {
            self.written(key, 0);
        }
        file.ok()
    }

    /// A worker has written so many bytes; 0: it couldn't.
    pub(crate) fn written(&self, key: Key, bytes: u64) {
        let mut state = locked(&self.state);
        let Some(number) = state.writing.remove(&key) else { return };
        match state.coming.get_mut(&number) {
            Some(coming) if bytes == 0 => *coming = None,
            Some(Some(head)) => head.bytes = bytes,
            Some(None) | None => {}
        }
        drop(state);
        // Deleting takes its time, too.
        if self.finished.try_send(number).is_err() {
            self.drop_coming(number);
        }
    }

    /// A worker is gone: what it was writing is torn.
    pub(crate) fn gone(&self, worker: WorkerKey) {
        let mut state = locked(&self.state);
        state.handed.retain(|(key, _), _| *key != worker);
        let torn: Vec<u64> = state.writing.extract_if(|(key, _), _| *key == worker).map(|(_, number)| number).collect();
        drop(state);
        torn.into_iter().for_each(|number| self.drop_coming(number));
    }

    fn drop_coming(&self, number: u64) {
        locked(&self.state).coming.remove(&number);
        self.folder.iter().for_each(|folder| folder.remove(number));
    }

    /// Brings a written state to the disk, and gives it its head.
    fn take_in(&self, number: u64) {
        let Some(folder) = &self.folder else { return };
        let head = locked(&self.state).coming.get(&number).cloned().flatten();
        let whole = |head: &Head| folder.sync(number).ok() == Some(head.bytes);
        let put = head.filter(whole).is_some_and(|head| folder.put_head(number, &head).is_ok());
        let mut state = locked(&self.state);
        // It may have been erased meanwhile.
        let Some(head) = state.coming.remove(&number).flatten().filter(|_| put) else {
            drop(state);
            return folder.remove(number);
        };
        let app = head.owner.app.clone();
        let out = state.index.insert(number, head.owner, head.sums, head.bytes, head.cost_us);
        drop(state);
        locked(&self.apps).insert(app);
        out.into_iter().for_each(|number| folder.remove(number));
    }

    /// Erases states, and looks whether any is left.
    ///
    /// # Errors
    /// When the folder can't be read: then nothing is proven.
    pub(crate) fn erase(&self, which: &Which) -> Result<Erased, Fault> {
        let Some(folder) = &self.folder else { return Ok(Erased::default()) };
        let mut erased = Erased::default();
        let mut state = locked(&self.state);
        let meant = |coming: &mut Option<Head>| coming.take_if(|head| which.holds(&head.owner)).is_some();
        let torn: Vec<u64> =
            state.coming.iter_mut().filter_map(|(number, coming)| meant(coming).then_some(*number)).collect();
        let ending = state.ending();
        let gone = state.index.take(|owner| which.holds(owner));
        let apps = state.apps();
        drop(state);
        *locked(&self.apps) = apps;
        // What is still being written has no name from now on, and its end is nobody's.
        torn.into_iter().for_each(|number| folder.remove(number));
        for (number, entry) in gone {
            erased.files += 1;
            erased.bytes.0 += entry.bytes;
            folder.remove(number);
        }
        self.await_end_of(&ending, SYNC);
        if *which == Which::default() {
            folder.empty().map_err(|error| Fault::io("read", folder.path(), &error))?;
        }
        // The folder itself is looked at, not the list of what should be there.
        let heads = folder.heads().map_err(|error| Fault::io("read", folder.path(), &error))?;
        erased.left = heads.iter().filter(|(_, head)| which.holds(&head.owner)).count() as u64;
        Ok(erased)
    }

    /// What workers have written before they ended comes to the disk, before the daemon ends.
    pub(crate) fn settle(&self) {
        let ending = locked(&self.state).ending();
        self.await_end_of(&ending, LAST_SYNC);
    }

    /// Waits, for a bounded time, until what was being brought to the disk is there, or is not.
    fn await_end_of(&self, ending: &[u64], most: Duration) {
        let start = Instant::now();
        while ending.iter().any(|number| locked(&self.state).coming.contains_key(number)) && start.elapsed() < most {
            std::thread::sleep(LOOK);
        }
    }

    fn discard(&self, number: u64) {
        locked(&self.state).index.remove(number);
        self.folder.iter().for_each(|folder| folder.remove(number));
    }
}

/// What a state's file holds beside the state: its tokens, and sums.
fn beside(tokens: usize, bytes: u64) -> u64 {
    4 * tokens as u64 + (bytes >> 16) + (4 << 10)
}

impl State {
    /// Takes in what is there, the oldest first, and deletes what is torn or too much.
    fn read(&mut self, folder: &Folder) -> std::io::Result<()> {
        let heads = folder.sweep()?;
        for (number, head) in heads {
            self.last = self.last.max(number);
            let out = self.index.insert(number, head.owner, head.sums, head.bytes, head.cost_us);
            out.into_iter().for_each(|number| folder.remove(number));
        }
        Ok(())
    }

    /// Files that are written, and not yet brought to the disk.
    fn ending(&self) -> Vec<u64> {
        let written = |number: &&u64| self.writing.values().all(|writing| writing != *number);
        self.coming.keys().filter(written).copied().collect()
    }

    fn apps(&self) -> BTreeSet<String> {
        self.index.entries().values().map(|entry| entry.owner.app.clone()).collect()
    }

    fn learn_speed(&mut self, bytes: u64, took_us: u64) {
        let now = bytes as f64 * 1e6 / took_us.max(1) as f64;
        self.speed = Some(self.speed.map_or(now, |before| before * (1.0 - NEWS) + now * NEWS));
    }
}

#[cfg(test)]
mod tests;
