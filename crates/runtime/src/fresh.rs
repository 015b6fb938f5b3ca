//! Keeps maps up to date: hears of changes, takes them up at once by their words, makes vectors afterwards.
//!
//! Two threads, both asleep while nothing happens. `follow` owns the watcher and reads what changed; `vectors`
//! makes what is missing, with the engine's lowest priority for more than a handful. Every decision about time
//! is [`map::settle`]'s.

use crate::maps::Card;
use crate::view::{Following, Freshness};
use crate::{Inner, files};
use map::Scope;
use map::settle::{Batch, Note, Settle};
use map::watch::{Heard, Watch};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// LIMIT: messages that wait for a thread; when more come, it looks at everything.
const MESSAGES_MAX: usize = 4096;
/// After a look that took this long, the next one waits this many times as long.
const REST_FACTOR: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(30);
/// What can't be watched is walked through this often, and less often when a walk takes long.
const WALK_EVERY: Duration = Duration::from_secs(60);
const WALK_REST_FACTOR: u32 = 50;
/// A change that couldn't be taken up is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Told {
    Heard(Heard),
    /// Maps came, went, or have other sources.
    Maps,
}

/// Vectors to make: a map, and the generation after which they are missing.
type Missing = (String, u64);

/// The hearing and telling end, part of the runtime.
#[derive(Debug)]
pub(crate) struct Fresh {
    follow: SyncSender<Told>,
    vectors: SyncSender<Missing>,
    overflow: Arc<AtomicBool>,
    states: Mutex<HashMap<String, Freshness>>,
    cancel: AtomicBool,
}

/// Receiving ends, until the threads are started.
#[derive(Debug)]
pub(crate) struct Inboxes {
    follow: Receiver<Told>,
    vectors: Receiver<Missing>,
}

impl Fresh {
    pub(crate) fn new() -> (Self, Inboxes) {
        let ((follow, told), (vectors, missing)) = (sync_channel(MESSAGES_MAX), sync_channel(MESSAGES_MAX));
        let fresh = Self {
            follow,
            vectors,
            overflow: Arc::default(),
            states: Mutex::default(),
            cancel: AtomicBool::new(false),
        };
        (fresh, Inboxes { follow: told, vectors: missing })
    }

    /// How fresh a map is, by what is known without looking at its files.
    pub(crate) fn of(&self, card: &Card) -> Freshness {
        let mut known = self.states().get(&card.name).cloned().unwrap_or_default();
        known.map.clone_from(&card.name);
        if card.paused {
            known.following = Following::Paused;
        }
        known.checked_at = known.checked_at.or_else(|| card.indexed_at.clone());
        known
    }

    /// Maps came, went, or have other sources. Vectors may be missing as well.
    pub(crate) fn maps_changed(&self) {
        self.tell(Told::Maps);
    }

    /// A model came, went or was chosen: vectors that it can make may be missing anywhere.
    pub(crate) fn models_changed(&self, inner: &Inner) {
        for card in inner.maps.cards().into_iter().filter(|card| card.indexed_at.is_some()) {
            self.make_vectors(&card.name, 0);
        }
    }

    /// Ends what runs in the background.
    pub(crate) fn stop(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    fn tell(&self, told: Told) {
        // A full inbox is as good as a message: the thread looks at everything when it gets there.
        if let Err(TrySendError::Full(_)) = self.follow.try_send(told) {
            self.overflow.store(true, Ordering::Relaxed);
        }
    }

    fn make_vectors(&self, map: &str, since: u64) {
        // A full inbox holds rounds for this map already.
        let _ = self.vectors.try_send((map.to_owned(), since));
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, Freshness>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, map: &str, change: impl FnOnce(&mut Freshness)) {
        change(self.states().entry(map.to_owned()).or_default());
    }
}

/// Starts both threads. They end with the runtime.
pub(crate) fn start(inner: &Arc<Inner>, inboxes: Inboxes) {
    let (follower, maker) = (Arc::downgrade(inner), Arc::downgrade(inner));
    let Inboxes { follow, vectors } = inboxes;
    let started = [
        std::thread::Builder::new().name("follow".into()).spawn(move || Follower::new(follower).run(&follow)),
        std::thread::Builder::new().name("vectors".into()).spawn(move || make_vectors(&maker, &vectors)),
    ];
    for error in started.into_iter().filter_map(Result::err) {
        tracing::error!(%error, "maps aren't kept up to date: no thread");
    }
    inner.fresh.maps_changed();
}

/// A map that is followed.
#[derive(Debug)]
struct Followed {
    scope: Scope,
    /// When its sources are walked through next, if they can't be watched.
    walk: Option<Duration>,
}

struct Follower {
    inner: Weak<Inner>,
    watch: Option<Watch>,
    settle: Settle,
    maps: BTreeMap<String, Followed>,
    started: Instant,
}

impl Follower {
    fn new(inner: Weak<Inner>) -> Self {
        Self { inner, watch: None, settle: Settle::default(), maps: BTreeMap::new(), started: Instant::now() }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn run(mut self, inbox: &Receiver<Told>) {
        loop {
            let walks = self.maps.values().filter_map(|followed| followed.walk);
            let due = walks.chain(self.settle.due()).min();
            let told = match due {
                // Nothing is pending: nothing wakes this thread.
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => inbox.recv_timeout(due.saturating_sub(self.now())),
            };
            let Some(inner) = self.inner.upgrade() else { return };
            match told {
                Ok(told) => self.take(&inner, told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(told) = inbox.try_recv() {
                self.take(&inner, told);
            }
            if inner.fresh.overflow.swap(false, Ordering::Relaxed) {
                self.settle.note(self.now(), Note::Everything);
                self.meet_maps(&inner);
            }
            self.count_pending(&inner);
            if let Some(batch) = self.settle.take(self.now()) {
                self.look(&inner, &batch);
                self.count_pending(&inner);
            }
            self.walk_due(&inner);
        }
    }

    fn take(&mut self, inner: &Inner, told: Told) {
        match told {
            Told::Maps => self.meet_maps(inner),
            Told::Heard(heard) => {
                if let Some(watch) = &mut self.watch {
                    heard.left.iter().for_each(|path| watch.leave(path));
                }
                let now = self.now();
                for note in heard.notes {
                    let matters = match &note {
                        Note::Everything => true,
                        Note::Path(path) => self.matters(inner, path),
                    };
                    if matters {
                        self.settle.note(now, note);
                    }
                }
            }
        }
    }

    /// Whether a path can be a document of a map, and isn't this program's own.
    fn matters(&self, inner: &Inner, path: &Path) -> bool {
        !path.starts_with(&inner.settings.home) && self.maps.values().any(|followed| followed.scope.covers(path))
    }

    fn count_pending(&self, inner: &Inner) {
        for (name, followed) in &self.maps {
            let waiting = self.settle.waiting(|path| followed.scope.covers(path));
            inner.fresh.set(name, |state| state.files_pending = waiting);
        }
    }

    /// Begins to follow maps that are new or changed, and lets go of others.
    fn meet_maps(&mut self, inner: &Inner) {
        let cards: Vec<Card> =
            inner.maps.cards().into_iter().filter(|card| !card.paused && card.indexed_at.is_some()).collect();
        let gone: Vec<String> =
            self.maps.keys().filter(|name| !cards.iter().any(|card| card.name == **name)).cloned().collect();
        for name in gone {
            self.let_go(inner, &name);
        }
        for card in cards {
            let scope = card.scope();
            if self.maps.get(&card.name).is_some_and(|followed| followed.scope == scope) {
                continue;
            }
            self.let_go(inner, &card.name);
            self.begin(inner, card, scope);
        }
    }

    fn let_go(&mut self, inner: &Inner, name: &str) {
        let Some(followed) = self.maps.remove(name) else { return };
        inner.fresh.states().remove(name);
        let Some(watch) = &mut self.watch else { return };
        followed.scope.sources.iter().for_each(|source| watch.leave(source));
        // Another map may read the same folders: they are watched anew.
        for (name, other) in &self.maps {
            if let Ok(map) = inner.maps.open(name) {
                watch.follow(map.folders(&other.scope));
            }
        }
    }

    /// Watches first and compares then, so that nothing falls between.
    fn begin(&mut self, inner: &Inner, card: Card, scope: Scope) {
        let name = card.name.clone();
        let map = match inner.maps.open(&name) {
            Ok(map) => map,
            Err(fault) => {
                inner.fresh.set(&name, |state| state.trouble = Some(fault.to_string()));
                return;
            }
        };
        let mut trouble = scope.sources.iter().find_map(|source| {
            let kind = map::watch::is_deaf(source)?;
            Some(format!("`{}` lies on {kind}, which tells of no changes", source.display()))
        });
        let mut folders = map.folders(&scope);
        folders.extend(
            scope
                .sources
                .iter()
                .filter(|source| source.is_file())
                .filter_map(|file| file.parent())
                .map(Path::to_path_buf),
        );
        if trouble.is_none() {
            trouble = self.watch_folders(inner, folders).1;
        }
        let walked = trouble.is_some();
        let following = if walked { Following::Walked } else { Following::Watched };
        inner.fresh.set(&name, |state| *state = Freshness { following, trouble, ..Freshness::default() });
        let followed = Followed { scope, walk: walked.then(|| self.now()) };
        let scope = followed.scope.clone();
        self.maps.insert(name.clone(), followed);
        if !walked {
            self.refresh(inner, &name, &scope);
        }
        inner.fresh.make_vectors(&name, 0);
    }

    /// The folders that weren't watched before, and why some can't be.
    fn watch_folders(&mut self, inner: &Inner, folders: Vec<PathBuf>) -> (Vec<PathBuf>, Option<String>) {
        if self.watch.is_none() {
            let (follow, overflow) = (inner.fresh.follow.clone(), Arc::clone(&inner.fresh.overflow));
            let on = move |heard| {
                if follow.try_send(Told::Heard(heard)).is_err() {
                    overflow.store(true, Ordering::Relaxed);
                }
            };
            match Watch::start(on) {
                Ok(watch) => self.watch = Some(watch),
                Err(fault) => return (Vec::new(), Some(fault.to_string())),
            }
        }
        self.watch.as_mut().map_or_else(|| (Vec::new(), None), |watch| watch.follow(folders))
    }

    fn look(&mut self, inner: &Inner, batch: &Batch) {
        let work: Vec<(String, Scope)> = self
            .maps
            .iter()
            .filter_map(|(name, followed)| {
                let scope = match batch {
                    Batch::Everything => followed.scope.clone(),
                    Batch::Paths(paths) => {
                        let own: Vec<PathBuf> =
                            paths.iter().filter(|path| followed.scope.covers(path)).cloned().collect();
                        if own.is_empty() {
                            return None;
                        }
                        followed.scope.clone().only(own)
                    }
                };
                Some((name.clone(), scope))
            })
            .collect();
        for (name, scope) in work {
            self.refresh(inner, &name, &scope);
        }
    }

    fn walk_due(&mut self, inner: &Inner) {
        let now = self.now();
        let due: Vec<(String, Scope)> = self
            .maps
            .iter()
            .filter(|(_, followed)| followed.walk.is_some_and(|walk| walk <= now))
            .map(|(name, followed)| (name.clone(), followed.scope.clone()))
            .collect();
        for (name, scope) in due {
            let began = Instant::now();
            self.refresh(inner, &name, &scope);
            let next = self.now() + WALK_EVERY.max(began.elapsed() * WALK_REST_FACTOR);
            if let Some(followed) = self.maps.get_mut(&name) {
                followed.walk = Some(next);
            }
        }
    }

    /// Takes up what changed in a part of a map. Its new folders are watched, and looked at once more, since
    /// something may have come into them before.
    fn refresh(&mut self, inner: &Inner, name: &str, scope: &Scope) {
        let began = Instant::now();
        let refreshed = {
            let _turn = inner.indexing.lock().unwrap_or_else(PoisonError::into_inner);
            // It may just have been removed, and opening would make it again.
            if inner.maps.named(name).is_err() {
                return;
            }
            inner.maps.open(name).and_then(|map| map.refresh(scope, &inner.fresh.cancel))
        };
        let refreshed = match refreshed {
            Ok(refreshed) => refreshed,
            Err(fault) => {
                tracing::warn!(%fault, "map `{name}` can't take up what changed");
                inner.fresh.set(name, |state| state.trouble = Some(fault.to_string()));
                self.settle.hold(self.now() + RETRY_AFTER);
                self.again(scope);
                return;
            }
        };
        let walked = self.maps.get(name).is_some_and(|followed| followed.walk.is_some());
        let mut trouble = None;
        if !walked {
            let (added, refused) = self.watch_folders(inner, refreshed.folders);
            let now = self.now();
            added.into_iter().for_each(|folder| self.settle.note(now, Note::Path(folder)));
            if let (Some(_), Some(followed)) = (&refused, self.maps.get_mut(name)) {
                followed.walk = Some(now + WALK_EVERY);
            }
            trouble = refused;
        }
        inner.fresh.set(name, |state| {
            if scope.only.is_none() {
                state.checked_at = Some(files::now_rfc3339());
            }
            if !walked {
                state.following = if trouble.is_some() { Following::Walked } else { Following::Watched };
                state.trouble = trouble;
            }
        });
        if refreshed.changes > 0 {
            inner.fresh.make_vectors(name, refreshed.since);
        }
        self.settle.hold(self.now() + (began.elapsed() * REST_FACTOR).min(REST_MAX));
    }

    fn again(&mut self, scope: &Scope) {
        let now = self.now();
        match &scope.only {
            None => self.settle.note(now, Note::Everything),
            Some(paths) => paths.iter().for_each(|path| self.settle.note(now, Note::Path(path.clone()))),
        }
    }
}

/// Makes vectors that are missing, map by map, as long as the runtime lives.
fn make_vectors(inner: &Weak<Inner>, inbox: &Receiver<Missing>) {
    while let Ok((name, mut since)) = inbox.recv() {
        let mut rounds = BTreeMap::from([(name, since)]);
        // Several changes of one map are one round.
        while let Ok((name, more)) = inbox.try_recv() {
            since = rounds.get(&name).map_or(more, |known| more.min(*known));
            rounds.insert(name, since);
        }
        let Some(inner) = inner.upgrade() else { return };
        for (name, since) in rounds {
            if let Err(fault) = round(&inner, &name, since) {
                tracing::warn!(%fault, "vectors of map `{name}`");
            }
        }
    }
}

/// First what changed after `since`, then what an earlier round couldn't make: one passage that fails the model every time
/// holds up no other that is saved.
fn round(inner: &Inner, name: &str, since: u64) -> Result<(), base::Fault> {
    let Some(embedder) = files::embedder(inner, None) else { return Ok(()) };
    // The map may have been removed meanwhile, and opening would make it again.
    if inner.maps.named(name).is_err() {
        return Ok(());
    }
    let map = inner.maps.open(name)?;
    let model = map::Embed::model(&embedder);
    let mut on = |step| {
        if let map::IndexStep::Progress { done, total, .. } = step {
            inner.fresh.set(name, |state| state.vectors_pending = total.saturating_sub(done));
        }
    };
    let mut embed = |since| {
        let made = map.embed(&embedder, since, &mut on, &inner.fresh.cancel);
        if made.as_ref().is_ok_and(|made| *made > 0) {
            map.follow_vectors(&model)?;
        }
        made
    };
    let mut made = embed(since);
    let mut left = map.without_vector(&model)?;
    if left > 0 && since > 0 && made.is_ok() {
        made = embed(0);
        left = map.without_vector(&model)?;
    }
    if inner.maps.named(name).is_ok() {
        inner.fresh.set(name, |state| state.vectors_pending = left);
    }
    made.map(drop)
}
