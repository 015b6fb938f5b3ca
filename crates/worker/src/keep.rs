//! What is kept of finished sequences: in the pool as long as nobody needs its cells, and in this process's
//! memory. What is worth keeping, and what goes first, is decided in `batch::prefix`.
//!
//! INVARIANT: a kept sequence has an id of its own or a saved state, or both, and no running job has that id.
//! What is kept refuses and delays no job: it goes before anybody steps back.

use crate::ffi::{Context, Token};
use crate::park::{Lot, Saved, State};
use batch::prefix::{self, Bystanders, Entry, Found, Key, Owner, Reach, Shelf, Stay};
use wire::Chain;

/// Where a kept sequence lies.
#[derive(Debug, Default)]
struct Kept {
    /// In the pool.
    sequence: Option<i32>,
    saved: Option<Saved>,
    /// Its state found no room; it isn't tried again in a quiet moment.
    refused: bool,
    /// The daemon was asked whether it should be on disk, or it came from there.
    offered: bool,
    /// It came from disk, and nobody has used it since.
    read: bool,
    /// A prompt went on from it.
    used: bool,
}

/// Where what a job goes on from was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// In the pool.
    Live,
    /// A state in memory.
    Ram,
    Disk,
}

/// A running sequence as it is compared with what is kept: its owner, and what it has in the cache.
pub(crate) type Live<'a> = (&'a Owner, &'a [Token]);

/// What a job goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) sequence: i32,
    /// Of its prompt.
    pub(crate) tokens: u32,
    pub(crate) tier: Tier,
}

#[derive(Debug)]
pub(crate) struct Keep {
    shelf: Shelf<Kept>,
    /// Ids that nobody has.
    free: Vec<i32>,
    ids: i32,
    bystanders: Bystanders,
    /// Cells of kept sequences beyond those of running ones, as last counted.
    cells: u32,
    /// Since a sequence was kept that nobody has made step aside.
    stay: Stay,
}

impl Keep {
    /// With so many ids for running and kept sequences together.
    pub(crate) fn new(context: &Context, ids: u32) -> Self {
        let reach = if context.cut().is_some() { Reach::Any } else { Reach::ExactEnd };
        let model = context.model();
        let ids = i32::try_from(ids).unwrap_or(i32::MAX);
        Self {
            shelf: Shelf::new(reach),
            free: (0..ids).rev().collect(),
            ids,
            bystanders: Bystanders::of(model.weights_bytes(), model.layers(), model.heads()),
            cells: 0,
            stay: Stay::default(),
        }
    }

    /// Only exact ends can be gone on from, so they must be kept where that will be wanted.
    pub(crate) fn needs_checkpoints(&self) -> bool {
        self.shelf.reach() == Reach::ExactEnd
    }

    /// The context is another one, or nothing runs any more: all is gone, and all ids are free.
    pub(crate) fn clear(&mut self) {
        self.shelf.take(|_| true);
        self.free = (0..self.ids).rev().collect();
        self.cells = 0;
    }

    /// Forgets a sequence; its id is free again.
    pub(crate) fn free_id(&mut self, context: &mut Context, sequence: i32) {
        context.forget(sequence, 0);
        self.free.push(sequence);
    }

    /// An id for a running job. There is always one: what is kept gives it up.
    pub(crate) fn take_id(&mut self, context: &mut Context, lot: &Lot) -> Option<i32> {
        while self.free.is_empty() && self.shed_one(context, lot) {}
        self.free.pop()
    }

    /// Cells that kept sequences take beyond those of running ones.
    pub(crate) fn cells(&self) -> u32 {
        self.cells
    }

    pub(crate) fn recount(&mut self, running: &[Live<'_>]) {
        let live = self.shelf.entries().iter().filter(|entry| is_live(entry));
        let kept: Vec<Live<'_>> = live.map(|entry| (&entry.owner, entry.tokens.as_slice())).collect();
        self.cells = prefix::cells(running, &kept);
    }

    /// Where this prompt first differs from what is kept of its owner, and the token that was kept.
    pub(crate) fn differs(&self, owner: &Owner, prompt: &[Token]) -> Option<(u32, Token)> {
        let Found { key, tokens } = self.shelf.differs(owner, prompt)?;
        let kept = *self.shelf.get(key)?.tokens.get(usize::try_from(tokens).ok()?)?;
        Some((tokens, kept))
    }

    /// A sequence that shares the cells of a running one as far as the prompt goes along with it. `None`: more is kept,
    /// or no running one has anything of it.
    pub(crate) fn start_beside(
        &mut self,
        context: &mut Context,
        lot: &Lot,
        (owner, prompt): Live<'_>,
        (running, sequences): (&[Live<'_>], &[i32]),
    ) -> Option<Start> {
        let leave = context.cut()?;
        let (place, tokens) = prefix::shared(running, owner, prompt)?;
        if self.known(owner, prompt) > tokens {
            return None;
        }
        let from = *sequences.get(place)?;
        let sequence = self.take_id(context, lot)?;
        context.copy_front(leave, from, sequence, tokens);
        Some(Start { sequence, tokens, tier: Tier::Live })
    }

    /// A sequence that holds as much of the prompt as is kept. `room`: cells that no running job has. `None`:
    /// nothing of it is kept, or there is no place for it.
    pub(crate) fn start(
        &mut self,
        context: &mut Context,
        lot: &Lot,
        (owner, prompt): Live<'_>,
        (room, running): (u32, &[Live<'_>]),
    ) -> Option<Start> {
        let Found { key, tokens } = self.shelf.find(owner, prompt, is_live)?;
        self.shelf.touch(key);
        if let Some(state) = self.shelf.state_mut(key) {
            state.used = true;
        }
        let Entry { state, tokens: kept, .. } = self.shelf.get(key)?;
        let whole = u32::try_from(kept.len()).ok()?;
        if let Some(kept) = state.sequence {
            return self.start_live(context, lot, key, kept, tokens);
        }
        if !prefix::pays(tokens, whole) {
            return None;
        }
        let spare = room.checked_sub(whole)?;
        // Held here: what is saved on the way may take its place.
        let state = state.saved.as_ref()?.shared();
        // First, so that what is restored doesn't lie behind them: whatever runs looks at all cells before the last one.
        self.step_aside(context, lot, running);
        self.start_saved(context, key, &state, (tokens, whole), spare)
    }

    fn start_live(&mut self, context: &mut Context, lot: &Lot, key: Key, kept: i32, tokens: u32) -> Option<Start> {
        let rest = self.shelf.get(key)?.length().saturating_sub(tokens);
        let moves = match self.shelf.reach() {
            // Hardly anything of it would be left for others.
            Reach::Any => rest <= prefix::REST_TOKENS,
            // Other questions may come to this point, as long as anything else can give an id.
            Reach::ExactEnd => {
                let others = |entry: &Entry<Kept>| is_live(entry) && entry.key != key;
                self.free.is_empty() && self.shelf.least(others).is_none()
            }
        };
        if moves {
            if self.shelf.reach() == Reach::ExactEnd {
                self.save_entry(context, lot, key);
            }
            if let Some(state) = self.shelf.state_mut(key) {
                state.sequence = None;
            }
            self.shelf.take(|entry| entry.key == key && entry.state.saved.is_none());
            if !ends_at(context, kept, tokens, rest == 0) {
                self.free_id(context, kept);
                return None;
            }
            return Some(Start { sequence: kept, tokens, tier: Tier::Live });
        }
        while self.free.is_empty() {
            // Not the very one that is wanted.
            let least = self.shelf.least(|entry| is_live(entry) && entry.key != key)?;
            if self.shelf.get(least).is_some_and(|entry| self.shelf.adds_little(&entry.owner, &entry.tokens)) {
                self.drop_live(context, least);
            } else {
                self.shed(context, lot, least);
            }
        }
        let sequence = self.free.pop()?;
        match context.cut() {
            Some(leave) => context.copy_front(leave, kept, sequence, tokens),
            None => context.copy_whole(kept, sequence),
        }
        Some(Start { sequence, tokens, tier: Tier::Live })
    }

    fn start_saved(
        &mut self,
        context: &mut Context,
        key: Key,
        state: &State,
        (tokens, whole): (u32, u32),
        spare: u32,
    ) -> Option<Start> {
        while self.free.is_empty() || self.live_cells() > spare {
            let least = self.shelf.least(is_live)?;
            self.drop_live(context, least);
        }
        let sequence = self.free.pop()?;
        if state.restore(context, sequence) && ends_at(context, sequence, tokens, whole == tokens) {
            let read = self.shelf.state_mut(key).is_some_and(|state| std::mem::take(&mut state.read));
            // What goes on from it is kept in its place, and can be cut back to it.
            if self.shelf.reach() == Reach::Any {
                self.shelf.take(|entry| entry.key == key && is_in_file(entry));
            }
            return Some(Start { sequence, tokens, tier: if read { Tier::Disk } else { Tier::Ram } });
        }
        self.free_id(context, sequence);
        None
    }

    /// The most that kept sequences can take.
    fn live_cells(&self) -> u32 {
        self.shelf
            .entries()
            .iter()
            .filter(|entry| is_live(entry))
            .fold(0, |sum, entry| sum.saturating_add(entry.length()))
    }

    /// A finished job's sequence is kept, or forgotten. `tokens`: what it has in the cache.
    pub(crate) fn keep(&mut self, context: &mut Context, owner: Option<Owner>, tokens: Vec<Token>, sequence: i32) {
        if let Some(owner) = &owner {
            // What was read from a file for others goes with them.
            self.shelf.take(|entry| is_in_file(entry) && entry.owner == *owner && entry.tokens.starts_with(&tokens));
        }
        match owner.filter(|owner| self.shelf.wants(owner, &tokens)) {
            Some(owner) => {
                self.stay.begin();
                self.insert(context, owner, tokens, Kept { sequence: Some(sequence), ..Kept::default() });
            }
            None => self.free_id(context, sequence),
        }
    }

    /// Keeps the state of a running sequence as it is now.
    pub(crate) fn checkpoint(
        &mut self,
        context: &mut Context,
        lot: &Lot,
        owner: &Owner,
        tokens: &[Token],
        sequence: i32,
    ) {
        if !self.shelf.wants(owner, tokens) {
            return;
        }
        let mut kept = Kept::default();
        if let Some(id) = self.free.pop() {
            context.copy_whole(sequence, id);
            kept.sequence = Some(id);
        } else if !self.shelf.adds_little(owner, tokens) {
            let rank = |shelf: &Shelf<Kept>, bytes| shelf.rank_of_new(owner, tokens, bytes);
            kept.saved = self.save(context, lot, rank, (sequence, tokens.len()));
        }
        if kept.sequence.is_some() || kept.saved.is_some() {
            self.insert(context, owner.clone(), tokens.to_vec(), kept);
        }
    }

    fn insert(&mut self, context: &mut Context, owner: Owner, tokens: Vec<Token>, kept: Kept) {
        let bytes = match (&kept.saved, kept.sequence) {
            (Some(saved), _) => saved.bytes(),
            (None, Some(sequence)) => u64::try_from(context.state_bytes(sequence)).unwrap_or(u64::MAX),
            (None, None) => 0,
        };
        for gone in self.shelf.insert(owner, tokens, bytes, kept) {
            if let Some(sequence) = gone.state.sequence {
                self.free_id(context, sequence);
            }
        }
    }

    /// Lets kept sequences go from the pool until they take no more than so many cells, saved where there is room.
    pub(crate) fn shrink(&mut self, context: &mut Context, lot: &Lot, running: &[Live<'_>], cells_max: u32) {
        self.recount(running);
        while self.cells > cells_max && self.shed_one(context, lot) {
            self.recount(running);
        }
    }

    /// Asked before each step: whether something has lain beside those who run for long enough.
    pub(crate) fn is_in_the_way(&mut self, reads: bool) -> bool {
        self.stay.is_over(reads)
    }

    /// So that those who run aren't held up by looking at what is kept beside them. What finds no room in memory stays
    /// for longer.
    pub(crate) fn step_aside(&mut self, context: &mut Context, lot: &Lot, running: &[Live<'_>]) {
        self.stay.end();
        self.recount(running);
        while self.cells > self.bystanders.saved_max {
            let Some(key) = self.shelf.least(|entry| is_live(entry) && !entry.state.refused) else { break };
            self.save_entry(context, lot, key);
            if self.shelf.get(key).is_some_and(|entry| entry.state.saved.is_some()) {
                self.drop_live(context, key);
                self.recount(running);
            }
        }
        self.shrink(context, lot, running, self.bystanders.unsaved_max);
    }

    /// Lets the one go that is least worth it. `false`: nothing is kept in the pool.
    pub(crate) fn shed_one(&mut self, context: &mut Context, lot: &Lot) -> bool {
        let least = self.shelf.least(is_live);
        if let Some(key) = least {
            self.shed(context, lot, key);
        }
        least.is_some()
    }

    fn shed(&mut self, context: &mut Context, lot: &Lot, key: Key) {
        self.save_entry(context, lot, key);
        self.drop_live(context, key);
    }

    fn drop_live(&mut self, context: &mut Context, key: Key) {
        let Some(state) = self.shelf.state_mut(key) else { return };
        let sequence = state.sequence.take();
        if state.saved.is_none() {
            self.shelf.evict(key);
        }
        if let Some(sequence) = sequence {
            self.free_id(context, sequence);
        }
    }

    /// Whether there is something to do in a quiet moment: to save what is in the pool, so that it can go at once when
    /// it must, or to offer what is saved.
    pub(crate) fn has_chores(&self) -> bool {
        self.shelf.entries().iter().any(|entry| is_unsaved(entry) || is_new(entry))
    }

    /// Saves one of those.
    pub(crate) fn save_one(&mut self, context: &mut Context, lot: &Lot) {
        if let Some(entry) = self.shelf.entries().iter().rev().find(|entry| is_unsaved(entry)) {
            let key = entry.key;
            self.save_entry(context, lot, key);
        }
    }

    /// Before the context becomes another one: everything that can be saved is, and nothing is in the pool.
    pub(crate) fn save_all(&mut self, context: &mut Context, lot: &Lot) {
        while self.shed_one(context, lot) {}
        self.cells = 0;
    }

    fn save_entry(&mut self, context: &mut Context, lot: &Lot, key: Key) {
        let Some(entry) = self.shelf.get(key) else { return };
        let (Some(sequence), None) = (entry.state.sequence, &entry.state.saved) else { return };
        let (length, rank) = (entry.tokens.len(), entry.rank());
        let saved = self.save(context, lot, |_, _| rank, (sequence, length));
        if let Some(state) = self.shelf.state_mut(key) {
            state.refused = saved.is_none();
            state.saved = saved;
        }
    }

    /// Takes the place only of what would go before it.
    fn save(
        &mut self,
        context: &mut Context,
        lot: &Lot,
        rank: impl Fn(&Shelf<Kept>, u64) -> f64,
        (sequence, length): (i32, usize),
    ) -> Option<Saved> {
        let bytes = u64::try_from(context.state_bytes(sequence)).ok()?;
        let length = u32::try_from(length).ok()?;
        if bytes > lot.most() {
            return None;
        }
        let rank = rank(&self.shelf, bytes);
        let goes = |entry: &Entry<Kept>| takes_room(entry) && entry.rank() < rank;
        let room = |entry: &Entry<Kept>| entry.state.saved.as_ref().map_or(0, Saved::bytes);
        let gained: u64 = self.shelf.entries().iter().filter(|entry| goes(entry)).map(room).sum();
        if lot.left().saturating_add(gained) < bytes {
            return None;
        }
        while lot.left() < bytes {
            let least = self.shelf.least(goes)?;
            self.drop_saved(least);
        }
        lot.save(context, sequence, length)
    }

    /// Gives saved states up until there are so many bytes for a job that steps back.
    pub(crate) fn relieve(&mut self, lot: &Lot, bytes: u64) {
        while lot.left() < bytes && bytes <= lot.most() {
            let Some(least) = self.shelf.least(takes_room) else { return };
            self.drop_saved(least);
        }
    }

    /// How much of a prompt is kept.
    pub(crate) fn known(&self, owner: &Owner, prompt: &[Token]) -> u32 {
        self.shelf.find(owner, prompt, is_live).map_or(0, |found| found.tokens)
    }

    /// A state that the daemon hasn't been asked about: first what was of use already, then the newest.
    pub(crate) fn next_offer(&mut self, context: &mut Context) -> Option<(Key, Chain, u64)> {
        let exact = self.needs_checkpoints();
        let new = self.shelf.entries().iter().filter(|entry| is_new(entry));
        let key = new.max_by_key(|entry| (entry.state.used, entry.key))?.key;
        self.shelf.state_mut(key)?.offered = true;
        let entry = self.shelf.get(key)?;
        let in_pool = |sequence| u64::try_from(context.state_bytes(sequence)).unwrap_or(u64::MAX);
        let bytes = entry.state.saved.as_ref().map(Saved::bytes).or_else(|| entry.state.sequence.map(in_pool))?;
        let (adapters, tokens) = (entry.owner.adapters().to_vec(), entry.tokens.clone());
        Some((key, Chain { scope: entry.owner.scope(), adapters, tokens, exact }, bytes))
    }

    /// It couldn't be written yet.
    pub(crate) fn offer_again(&mut self, key: Key) {
        self.shelf.state_mut(key).into_iter().for_each(|state| state.offered = false);
    }

    /// The tokens and the state of an entry, to be written.
    pub(crate) fn saved(&self, key: Key) -> Option<(Vec<Token>, State)> {
        let entry = self.shelf.get(key)?;
        Some((entry.tokens.clone(), entry.state.saved.as_ref()?.shared()))
    }

    /// The tokens of an entry and where in the pool they are, for its state to be written from there.
    pub(crate) fn live(&self, key: Key) -> Option<(Vec<Token>, i32)> {
        let entry = self.shelf.get(key)?;
        Some((entry.tokens.clone(), entry.state.sequence?))
    }

    /// Nobody needs what was found in files any more: they may have been deleted meanwhile, and take their room on the disk for as
    /// long as they are looked at.
    pub(crate) fn let_files_go(&mut self) {
        self.shelf.take(is_in_file);
    }

    /// Takes what stands in a file, for those who wait.
    pub(crate) fn adopt(&mut self, context: &mut Context, owner: Owner, tokens: Vec<Token>, state: State) {
        let Some(saved) = u32::try_from(tokens.len()).ok().and_then(|past| Saved::adopted(state, past)) else { return };
        if self.shelf.wants(&owner, &tokens) {
            let kept = Kept { saved: Some(saved), offered: true, read: true, ..Kept::default() };
            self.insert(context, owner, tokens, kept);
        }
    }

    /// Lets go of all that is kept of a scope, or of all scopes: how many states, and their bytes.
    pub(crate) fn forget(&mut self, context: &mut Context, scope: Option<u64>) -> (u32, u64) {
        let gone = self.shelf.take(|entry| scope.is_none_or(|scope| entry.owner.scope() == scope));
        let (mut states, mut bytes) = (0, 0_u64);
        for entry in gone {
            states += 1;
            let in_pool = entry.state.sequence.map(|sequence| context.state_bytes(sequence));
            let of_pool = in_pool.map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
            bytes = bytes.saturating_add(entry.state.saved.as_ref().map_or(of_pool, Saved::bytes));
            if let Some(sequence) = entry.state.sequence {
                self.free_id(context, sequence);
            }
        }
        (states, bytes)
    }

    fn drop_saved(&mut self, key: Key) {
        let Some(state) = self.shelf.state_mut(key) else { return };
        state.saved = None;
        state.refused = true;
        if state.sequence.is_none() {
            self.shelf.evict(key);
        }
    }
}

/// Makes a sequence end after its first `tokens`. `false`: it can't, and the sequence must be forgotten. What cuts does so
/// even where nothing should come after them.
fn ends_at(context: &mut Context, sequence: i32, tokens: u32, is_whole: bool) -> bool {
    context.cut().map_or(is_whole, |leave| context.forget_rest(leave, sequence, tokens))
}

fn is_live(entry: &Entry<Kept>) -> bool {
    entry.state.sequence.is_some()
}

/// What finds no room in memory is written from the pool.
fn is_new(entry: &Entry<Kept>) -> bool {
    !entry.state.offered && (entry.state.saved.is_some() || is_live(entry) && entry.state.refused)
}

/// It was read from a file and is nowhere else.
fn is_in_file(entry: &Entry<Kept>) -> bool {
    entry.state.saved.as_ref().is_some_and(Saved::is_in_file) && !is_live(entry)
}

/// Saved in this process's memory, and in nobody else's hands.
fn takes_room(entry: &Entry<Kept>) -> bool {
    entry.state.saved.as_ref().is_some_and(Saved::takes_room)
}

fn is_unsaved(entry: &Entry<Kept>) -> bool {
    is_live(entry) && entry.state.saved.is_none() && !entry.state.refused
}
