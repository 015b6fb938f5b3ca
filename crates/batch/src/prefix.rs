//! What is kept of finished sequences, so that a prompt which begins alike isn't read again: which of it a
//! prompt goes on from, what makes what superfluous, and what goes first when room is short.
//!
//! Tokens are compared one by one before anything is used, and only with what belongs to the same [`Owner`].

use std::cmp::Reverse;

/// A token's number in its vocabulary.
pub type Token = i32;

/// A front of fewer tokens isn't worth the bookkeeping: every chat begins with a few that are always the same.
pub const LEAST_TOKENS: u32 = 16;
/// A kept sequence whose rest, beyond what a prompt takes of it, is this short is taken whole and cut.
pub const REST_TOKENS: u32 = 64;
/// What is read again at most when only the end is another.
const AGAIN_TOKENS: u32 = 256;
/// LIMIT: entries of a shelf; each is compared with every new prompt of its owner.
pub const ENTRIES_MAX: usize = 64;

/// Whose text it is, and what it was computed with. Two that differ in anything share nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    scope: u64,
    /// Places and scales, the latter bit by bit.
    adapters: Vec<(u32, u32)>,
}

impl Owner {
    /// `None` for scope 0: of that nothing is kept.
    pub fn new(scope: u64, adapters: &[(u32, f32)]) -> Option<Self> {
        let adapters = adapters.iter().map(|(place, scale)| (*place, scale.to_bits())).collect();
        (scope != 0).then_some(Self { scope, adapters })
    }

    pub fn scope(&self) -> u64 {
        self.scope
    }

    pub fn adapters(&self) -> &[(u32, u32)] {
        &self.adapters
    }
}

/// Where a kept sequence may be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// After any of its tokens: the cache holds each by itself.
    Any,
    /// After its last token only: a recurrent state, or a window that has moved on, can't go back.
    ExactEnd,
}

/// Names an entry for as long as it is kept; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);

/// One kept sequence. `S` is where it lies.
#[derive(Debug)]
pub struct Entry<S> {
    pub key: Key,
    pub owner: Owner,
    pub tokens: Vec<Token>,
    pub state: S,
    bytes: u64,
    /// Tokens that it saves, for each KiB that it takes.
    worth: f64,
    /// How often it came to be: when it was kept, and whenever it was of use.
    uses: f64,
    /// The rank of what had gone last when it was of use last.
    from: f64,
    /// The lowest goes first.
    rank: f64,
}

impl<S> Entry<S> {
    /// Tokens that it holds.
    pub fn length(&self) -> u32 {
        count(self.tokens.len())
    }

    /// The lowest goes first.
    pub fn rank(&self) -> f64 {
        self.rank
    }
}

/// What a prompt can go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub key: Key,
    /// Of the prompt's tokens; always fewer than all, as the last one must be computed for its scores.
    pub tokens: u32,
}

/// Everything that is kept for one model.
#[derive(Debug)]
pub struct Shelf<S> {
    reach: Reach,
    entries: Vec<Entry<S>>,
    made: u64,
    /// The rank of what went last: what comes or is used now stands above it, so that what isn't used for long
    /// goes in the end, whatever it is worth.
    floor: f64,
}

impl<S> Shelf<S> {
    pub fn new(reach: Reach) -> Self {
        Self { reach, entries: Vec::new(), made: 0, floor: 0.0 }
    }

    pub fn reach(&self) -> Reach {
        self.reach
    }

    pub fn entries(&self) -> &[Entry<S>] {
        &self.entries
    }

    pub fn get(&self, key: Key) -> Option<&Entry<S>> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Where an entry lies may change, nothing else of it.
    pub fn state_mut(&mut self, key: Key) -> Option<&mut S> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.state)
    }

    /// The entry that saves most of this prompt; of several one that is `at_hand`, and the one with the least beyond it.
    pub fn find(&self, owner: &Owner, prompt: &[Token], at_hand: impl Fn(&Entry<S>) -> bool) -> Option<Found> {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let found = self.entries.iter().filter_map(|entry| {
            let tokens = self.usable(entry, owner, usable)?;
            (tokens >= LEAST_TOKENS).then_some((tokens, at_hand(entry), Reverse(entry.tokens.len()), entry.key))
        });
        found.max().map(|(tokens, _, _, key)| Found { key, tokens })
    }

    fn usable(&self, entry: &Entry<S>, owner: &Owner, usable: &[Token]) -> Option<u32> {
        if entry.owner != *owner {
            return None;
        }
        match self.reach {
            Reach::Any => Some(common(&entry.tokens, usable)),
            Reach::ExactEnd => usable.starts_with(&entry.tokens).then_some(entry.length()),
        }
    }

    /// The owner's entry that goes along with the prompt for longest and then differs from it, and where. What
    /// ends there, or the prompt's own end, is no difference.
    pub fn differs(&self, owner: &Owner, prompt: &[Token]) -> Option<Found> {
        let found = self.entries.iter().filter(|entry| entry.owner == *owner);
        let found = found.filter_map(|entry| {
            let tokens = common(&entry.tokens, prompt);
            (tokens < entry.length() && tokens < count(prompt.len())).then_some((tokens, entry.key))
        });
        found.max().map(|(tokens, key)| Found { key, tokens })
    }

    /// Whether keeping these tokens would add anything; what makes them superfluous counts as used.
    pub fn wants(&mut self, owner: &Owner, tokens: &[Token]) -> bool {
        if count(tokens.len()) < LEAST_TOKENS {
            return false;
        }
        let reach = self.reach;
        let covers = |entry: &Entry<S>| match reach {
            Reach::Any => entry.tokens.starts_with(tokens),
            Reach::ExactEnd => entry.tokens == tokens,
        };
        let found = self.entries.iter().find(|entry| entry.owner == *owner && covers(entry)).map(|entry| entry.key);
        if let Some(key) = found {
            self.touch(key);
        }
        found.is_none()
    }

    /// Keeps a sequence that takes `bytes`. The answer: what it makes superfluous, and what it is too much for.
    pub fn insert(&mut self, owner: Owner, tokens: Vec<Token>, bytes: u64, state: S) -> Vec<Entry<S>> {
        let mut out = Vec::new();
        if self.reach == Reach::Any {
            out.extend(self.take(|entry| entry.owner == owner && tokens.starts_with(&entry.tokens)));
        }
        while self.entries.len() >= ENTRIES_MAX {
            let Some(least) = self.least(|_| true) else { break };
            out.extend(self.evict(least));
        }
        self.made += 1;
        let (key, worth) = (Key(self.made), self.worth(&owner, &tokens, bytes));
        let from = self.floor;
        self.entries.push(Entry { key, owner, tokens, state, bytes, worth, uses: 1.0, from, rank: from + worth });
        self.reckon();
        out
    }

    /// It was of use. What has been so often stays longer than what nobody has asked for (GreedyDual-Size with frequency,
    /// Cherkasova 1998): the end of a document to which one question has come before those of the questions themselves.
    pub fn touch(&mut self, key: Key) {
        let floor = self.floor;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.uses += 1.0;
            entry.from = floor;
            entry.rank = floor + entry.worth * entry.uses;
        }
    }

    /// Of those that `may` go, the one to go first.
    pub fn least(&self, may: impl Fn(&Entry<S>) -> bool) -> Option<Key> {
        let able = self.entries.iter().filter(|entry| may(entry));
        able.min_by(|a, b| a.rank.total_cmp(&b.rank)).map(|entry| entry.key)
    }

    /// That of an entry which isn't there yet.
    pub fn rank_of_new(&self, owner: &Owner, tokens: &[Token], bytes: u64) -> f64 {
        self.floor + self.worth(owner, tokens, bytes)
    }

    /// What it saves beyond the entries that end on its way: the end of an answer next to nothing where the end of the
    /// document before it is kept, which further questions come to as well.
    fn worth(&self, owner: &Owner, tokens: &[Token], bytes: u64) -> f64 {
        f64::from(self.adds(owner, tokens)) * 1024.0 / bytes.max(1) as f64
    }

    /// Tokens beyond those of the longest entry that ends on the way.
    fn adds(&self, owner: &Owner, tokens: &[Token]) -> u32 {
        let on_the_way = |entry: &&Entry<S>| {
            entry.owner == *owner && entry.tokens.len() < tokens.len() && tokens.starts_with(&entry.tokens)
        };
        let before = match self.reach {
            Reach::Any => 0,
            Reach::ExactEnd => self.entries.iter().filter(on_the_way).map(Entry::length).max().unwrap_or(0),
        };
        count(tokens.len()) - before
    }

    /// Whether hardly anything has to be read again without these tokens, so that a copy of their state isn't worth
    /// anybody's waiting.
    pub fn adds_little(&self, owner: &Owner, tokens: &[Token]) -> bool {
        self.adds(owner, tokens) <= AGAIN_TOKENS
    }

    /// Takes an entry off because there is no room for it.
    pub fn evict(&mut self, key: Key) -> Option<Entry<S>> {
        let entry = self.entries.remove(self.entries.iter().position(|entry| entry.key == key)?);
        self.floor = self.floor.max(entry.rank);
        self.reckon();
        Some(entry)
    }

    /// Takes off all that `gone` says, for another reason than room.
    pub fn take(&mut self, gone: impl Fn(&Entry<S>) -> bool) -> Vec<Entry<S>> {
        let out = self.entries.extract_if(.., |entry| gone(entry)).collect();
        self.reckon();
        out
    }

    /// What an entry saves beyond others changes when one of those comes or goes.
    fn reckon(&mut self) {
        if self.reach == Reach::Any {
            return;
        }
        let worth = |entry: &Entry<S>| self.worth(&entry.owner, &entry.tokens, entry.bytes);
        let worths: Vec<f64> = self.entries.iter().map(worth).collect();
        for (entry, worth) in self.entries.iter_mut().zip(worths) {
            entry.worth = worth;
            entry.rank = entry.from + worth * entry.uses;
        }
    }
}

/// Cells that `kept` sequences take beyond those of `running` ones, and of each other: a front that two of one
/// owner have in common is there once. Where it is there twice all the same, the cache will say that it is full.
pub fn cells(running: &[(&Owner, &[Token])], kept: &[(&Owner, &[Token])]) -> u32 {
    let own = |place: usize| {
        let (owner, tokens) = kept[place];
        let others = running.iter().chain(&kept[..place]).filter(|(other, _)| *other == owner);
        let shared = others.map(|(_, other)| common(tokens, other)).max().unwrap_or(0);
        count(tokens.len()) - shared
    };
    (0..kept.len()).map(own).fold(0, u32::saturating_add)
}

/// Of the sequences that run, the one that goes along with the prompt for longest, and for how many tokens.
pub fn shared(running: &[(&Owner, &[Token])], owner: &Owner, prompt: &[Token]) -> Option<(usize, u32)> {
    let usable = &prompt[..prompt.len().saturating_sub(1)];
    let own = running.iter().enumerate().filter(|(_, (other, _))| *other == owner);
    let shared = own.map(|(place, (_, tokens))| (place, common(tokens, usable)));
    shared.filter(|(_, tokens)| *tokens >= LEAST_TOKENS).max_by_key(|(_, tokens)| *tokens)
}

/// How many kept cells may lie beside sequences that don't use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bystanders {
    /// While there is memory to save them in.
    pub saved_max: u32,
    /// When they would be lost.
    pub unsaved_max: u32,
}

impl Bystanders {
    /// Each is looked at and passed over by every head of every layer, for every row of every step, in about a
    /// nanosecond on a processor. That may take a 330th of the time in which the weights are read, at 20 bytes in a
    /// nanosecond; the rows of a prompt share that reading, so it is more of theirs. None where it would be less than the
    /// block by which a cache is looked at: one cell costs as much as a block. Measured with the starter model, 40 cells in
    /// a block of their own cost 3 % of a prompt's time. What would be lost may take a fiftieth.
    pub fn of(weights_bytes: u64, layers: u32, heads: u32) -> Self {
        const SAVED_PART: u64 = 330;
        const UNSAVED_PART: u64 = 50;
        const BYTES_PER_NS: u64 = 20;
        const BLOCK: u32 = 256;
        let looks = u64::from(layers).saturating_mul(u64::from(heads)).max(1);
        let cells = |part: u64| u32::try_from(weights_bytes / BYTES_PER_NS / part / looks).unwrap_or(u32::MAX);
        let saved = cells(SAVED_PART);
        Self { saved_max: if saved < BLOCK { 0 } else { saved }, unsaved_max: cells(UNSAVED_PART) }
    }
}

/// How long a finished sequence has lain beside running ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stay(Option<u32>);

impl Stay {
    /// A sequence has ended, and is kept where it was.
    pub fn begin(&mut self) {
        self.0.get_or_insert(0);
    }

    /// It has been looked after.
    pub fn end(&mut self) {
        self.0 = None;
    }

    /// Asked before each step: whether it is time to look after it. A copy takes about as long as a step of answers, and who ended
    /// has often ended not much before the others; so those that write bear it for some steps. Who reads a prompt pays with
    /// each of its rows.
    pub fn is_over(&mut self, reads: bool) -> bool {
        const STEPS: u32 = 32;
        let Some(steps) = &mut self.0 else { return false };
        *steps += 1;
        reads || *steps > STEPS
    }
}

/// Whether copying a state of `whole` tokens back is worth it for `tokens` of them. A copy moves what a token takes in
/// the cache, at tens of bytes in a nanosecond; computing it reads all weights, or multiplies by them.
pub fn pays(tokens: u32, whole: u32) -> bool {
    const COPIES_FOR_ONE: u32 = 64;
    tokens >= whole / COPIES_FOR_ONE
}

/// Where a prompt's state is worth keeping when only exact ends can be gone on from: after its last whole turns (`turns`
/// holds the places after which one ends; the last is the question itself, the one before what it is about), and, when much
/// comes after those, some way before its end, so that another question about the same document finds it. Ascending, none
/// before `past`.
pub fn checkpoints(prompt: u32, turns: &[u32], past: u32) -> Vec<u32> {
    const BEFORE_END: u32 = 192;
    const TURNS: usize = 2;
    let mut turns: Vec<u32> = turns.iter().copied().filter(|at| *at < prompt).collect();
    turns.sort_unstable();
    let mut places = turns.split_off(turns.len().saturating_sub(TURNS));
    if prompt.saturating_sub(places.first().copied().unwrap_or(0)) > AGAIN_TOKENS {
        places.push(prompt.saturating_sub(BEFORE_END));
        places.sort_unstable();
    }
    // A step must read something, and a state that holds hardly more than the one before isn't worth its id. Nor is it
    // worth a step of its own for the template's last words, when hardly more is read than would be read again.
    let is_short = prompt.saturating_sub(past) <= AGAIN_TOKENS;
    let mut before = past;
    places.retain(|at| {
        let left = prompt.saturating_sub(*at);
        let pays = left > 0 && !(is_short && left < LEAST_TOKENS);
        let worth_it = pays && *at >= before.saturating_add(LEAST_TOKENS);
        if worth_it {
            before = *at;
        }
        worth_it
    });
    places
}

fn common(a: &[Token], b: &[Token]) -> u32 {
    count(a.iter().zip(b).take_while(|(a, b)| a == b).count())
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
