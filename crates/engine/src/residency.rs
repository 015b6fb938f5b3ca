//! Which models share the memory: one budget of bytes, what each model takes of it, and who makes room. Pure.
//!
//! Weights that are used from their file count although they lie in the page cache: the system could drop them, and would
//! have to read them again for every token. What is granted is counted from that moment, so that two loads are never
//! granted the same bytes. Nothing is taken from anybody unless that is enough for who asks.

use crate::plan::Plan;
use base::Bytes;

/// What a model takes: so much at least, and so much more for each token of its pool, of which layers with a window
/// keep some only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Weights, the program and its tables.
    pub(crate) weights: u64,
    /// Room to compute that doesn't depend on the pool.
    pub(crate) compute: u64,
    pub(crate) per_token: u64,
    /// More for each token, but for no more than `window_cells`, whole blocks.
    pub(crate) windowed_per_token: u64,
    pub(crate) window_cells: u32,
    /// States of all sequences, whatever the pool.
    pub(crate) states: u64,
}

/// A worker that rests holds its weights and this.
pub(crate) const RESTING_BYTES: u64 = 16 << 20;

impl Cost {
    pub(crate) fn of(&self, context_tokens: u32) -> u64 {
        self.weights.saturating_add(self.compute).saturating_add(self.cache(context_tokens))
    }

    /// What a pool of so many tokens takes, masks included.
    pub(crate) fn cache(&self, context_tokens: u32) -> u64 {
        let windowed = self.windowed(context_tokens);
        self.per_token.saturating_mul(context_tokens.into()).saturating_add(windowed).saturating_add(self.states)
    }

    fn windowed(&self, context_tokens: u32) -> u64 {
        let cells = u64::from(context_tokens).next_multiple_of(BLOCK_TOKENS.into()).min(self.window_cells.into());
        self.windowed_per_token.saturating_mul(cells)
    }

    pub(crate) fn resting(&self) -> u64 {
        self.weights.saturating_add(RESTING_BYTES)
    }

    /// The most tokens that fit into `bytes`, in whole blocks; 0 when not even the fixed part does.
    pub(crate) fn tokens_in(&self, bytes: u64) -> u32 {
        let left = bytes.saturating_sub(self.of(0));
        let most = u64::from(u32::MAX);
        let within = left.checked_div(self.per_token.saturating_add(self.windowed_per_token)).unwrap_or(most);
        // Beyond the window a token takes less.
        let tokens = if within < u64::from(self.window_cells) {
            within
        } else {
            left.saturating_sub(self.windowed(u32::MAX)).checked_div(self.per_token).unwrap_or(most)
        };
        u32::try_from(tokens).unwrap_or(u32::MAX) / BLOCK_TOKENS * BLOCK_TOKENS
    }
}

/// The cache is laid out in blocks of so many cells.
pub(crate) const BLOCK_TOKENS: u32 = 256;

/// A model that holds memory, or has been promised it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Holding<K> {
    pub(crate) key: K,
    pub(crate) bytes: u64,
    /// What it would hold at rest; as much as now when it rests, or can't.
    pub(crate) resting_bytes: u64,
    /// It runs, loads, or leaves: its memory can't be had by asking.
    pub(crate) busy: bool,
    pub(crate) pinned: bool,
    /// Bytes that it has been told to give back, and will soon.
    pub(crate) coming: u64,
    /// What it costs to load it again.
    pub(crate) reload_ms: u64,
    /// How often it was used lately; see [`Use`].
    pub(crate) heat: f64,
}

/// How often a model is used: each use counts one and is forgotten by halves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Use {
    heat: f64,
    at_ms: u64,
}

/// A use of so long ago counts half.
const HEAT_HALF_MS: f64 = 600_000.0;

impl Use {
    pub(crate) fn note(&mut self, now_ms: u64) {
        *self = Self { heat: self.heat(now_ms) + 1.0, at_ms: now_ms };
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds since a daemon's start are far below 2^53")]
    pub(crate) fn heat(&self, now_ms: u64) -> f64 {
        self.heat * (-(now_ms.saturating_sub(self.at_ms) as f64) / HEAT_HALF_MS).exp2()
    }
}

/// What a model asks for: a pool of `wanted` tokens, or, sooner than that anybody goes, of fewer; never of fewer than `least`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request<K> {
    pub(crate) key: K,
    pub(crate) cost: Cost,
    pub(crate) least: u32,
    pub(crate) wanted: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict<K> {
    /// A pool of so many tokens, now.
    Grant { tokens: u32 },
    /// These are to give back cache and room to compute, and these to go; then ask again.
    Room { rest: Vec<K>, end: Vec<K> },
    /// What others have been told to give back is on its way.
    Wait,
    /// It can't be had, whoever went. So much would be needed, and so much is there for it at most.
    Short { needed: Bytes, available: Bytes, tokens: u32 },
}

/// Decides what becomes of a request. `budget`: bytes for all models together; `None`: not known, and then
/// everything is granted.
pub(crate) fn decide<K: Copy + Eq>(budget: Option<u64>, holdings: &[Holding<K>], request: &Request<K>) -> Verdict<K> {
    let Some(budget) = budget else { return Verdict::Grant { tokens: request.wanted } };
    let needed = request.cost.of(request.least);
    let others: Vec<&Holding<K>> = holdings.iter().filter(|holding| holding.key != request.key).collect();
    let held = others.iter().fold(0_u64, |sum, row| sum.saturating_add(row.bytes));
    // More may be held than the budget is now: memory that another program has taken since.
    let short = held.saturating_add(needed).saturating_sub(budget);
    if short == 0 {
        let tokens = request.cost.tokens_in(budget - held).clamp(request.least, request.wanted.max(request.least));
        return Verdict::Grant { tokens };
    }
    let coming: u64 = others.iter().map(|row| row.coming).sum();
    if short <= coming {
        return Verdict::Wait;
    }
    let mut short = short - coming;
    let givers: Vec<&Holding<K>> = others.into_iter().filter(|row| !row.busy && row.coming == 0).collect();
    // The cheapest first: to give up cache and room to compute costs a moment when it is wanted again.
    let resting = |row: &&Holding<K>| row.bytes.saturating_sub(row.resting_bytes);
    let by_rest: u64 = givers.iter().map(resting).sum();
    if by_rest >= short {
        let mut rows: Vec<&&Holding<K>> = givers.iter().filter(|row| resting(row) > 0).collect();
        rows.sort_by(|a, b| a.heat.total_cmp(&b.heat));
        let mut rest = Vec::new();
        for row in rows {
            if short == 0 {
                break;
            }
            short = short.saturating_sub(resting(row));
            rest.push(row.key);
        }
        return Verdict::Room { rest, end: Vec::new() };
    }
    let end = victims(&givers, short);
    if !end.is_empty() {
        return Verdict::Room { rest: Vec::new(), end };
    }
    // The ends alone don't do: with what pinned models give up beside them it may.
    let pinned: Vec<&&Holding<K>> = givers.iter().filter(|row| row.pinned && resting(row) > 0).collect();
    let by_pinned: u64 = pinned.iter().map(|row| resting(row)).sum();
    let end = victims(&givers, short.saturating_sub(by_pinned));
    if end.is_empty() {
        let most: u64 = givers.iter().map(|row| if row.pinned { resting(row) } else { row.bytes }).sum();
        let available = budget.saturating_sub(held.saturating_sub(coming.saturating_add(most)));
        let tokens = request.cost.tokens_in(available);
        return Verdict::Short { needed: Bytes(needed), available: Bytes(available), tokens };
    }
    Verdict::Room { rest: pinned.into_iter().map(|row| row.key).collect(), end }
}

/// The models whose end frees `short` bytes at the least loss: what it costs to load each again, times how
/// likely that is soon, for each byte. Empty when all of them together don't suffice.
fn victims<K: Copy + Eq>(givers: &[&Holding<K>], short: u64) -> Vec<K> {
    #[expect(clippy::cast_precision_loss, reason = "a rank, not an account")]
    let loss = |row: &Holding<K>| (row.reload_ms as f64 + 1.0) * (row.heat + 1e-6) / (row.bytes.max(1) as f64);
    let mut rows: Vec<&&Holding<K>> = givers.iter().filter(|row| !row.pinned && row.bytes > 0).collect();
    rows.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    let mut chosen: Vec<&Holding<K>> = Vec::new();
    let mut freed = 0_u64;
    for row in rows {
        if freed >= short {
            break;
        }
        freed = freed.saturating_add(row.bytes);
        chosen.push(row);
    }
    if freed < short {
        return Vec::new();
    }
    // A large one that came last may make the small ones before it needless; the dearest are spared first.
    for place in (0..chosen.len()).rev() {
        let bytes = chosen[place].bytes;
        if freed - bytes >= short {
            freed -= bytes;
            chosen.remove(place);
        }
    }
    chosen.into_iter().map(|row| row.key).collect()
}

/// The largest window of a model that is planned so; see [`window`].
pub(crate) fn largest<K: Copy + Eq>(budget: Option<u64>, holdings: &[Holding<K>], key: K, plan: &Plan) -> u32 {
    let request = Request { key, cost: plan.cost, least: plan.least_tokens, wanted: plan.limit_tokens };
    window(budget, holdings, &request)
}

/// The largest window that a model could have now, if everybody made room who can.
pub(crate) fn window<K: Copy + Eq>(budget: Option<u64>, holdings: &[Holding<K>], request: &Request<K>) -> u32 {
    let Some(budget) = budget else { return request.wanted };
    let keeps = |row: &Holding<K>| match row {
        row if row.busy => row.bytes.saturating_sub(row.coming),
        row if row.pinned => row.resting_bytes,
        _ => 0,
    };
    let others = holdings.iter().filter(|row| row.key != request.key);
    let taken = others.map(keeps).fold(0_u64, u64::saturating_add);
    request.cost.tokens_in(budget.saturating_sub(taken)).min(request.wanted)
}

#[cfg(test)]
mod tests;
