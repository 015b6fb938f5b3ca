//! How much of the machine a model gets: pool, window, sequences, and the memory that this takes. Pure.

use crate::draft::DraftCost;
use crate::machine::Memory;
use crate::residency::Cost;
use base::{Bytes, CacheShape, Code, Fault, Modality, ModelFacts};
use wire::{KvCache, Room};

/// What one load asks of a worker, and what it is expected to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The pool to begin with.
    pub(crate) first_tokens: u32,
    /// The least to begin with: with less a model is of little use.
    pub(crate) least_tokens: u32,
    /// What the pool may grow to, memory permitting: the window of one ask.
    pub(crate) limit_tokens: u32,
    pub(crate) sequences_max: u32,
    pub(crate) batch_tokens: u32,
    /// Adapters, which are read into memory whole.
    pub(crate) adapter_bytes: u64,
    /// What a draft model would take beside it, where there is one; not in `cost`, as it isn't needed.
    pub(crate) draft: DraftCost,
    pub(crate) cost: Cost,
}

/// What the person, or the configuration, wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The largest window; `None`: what the model was trained for.
    pub(crate) context_tokens: Option<u32>,
    pub(crate) sequences_max: u32,
    pub(crate) kv_cache: KvCache,
    pub(crate) adapter_bytes: u64,
    pub(crate) draft: DraftCost,
}

/// A pool begins with no more than this; most asks never need more, and all of a pool is resident.
const FIRST_TOKENS: u32 = 8192;
/// Below this a window is of little use: sooner say that memory is short.
const LEAST_TOKENS: u32 = 2048;
/// Tokens worked through in one step.
const BATCH_TOKENS: u32 = 512;
/// A worker without a model: program, libraries, thread stacks, and what a first long prompt leaves with the allocator.
const PROGRAM_BYTES: u64 = 16 << 20;
/// Tables of the vocabulary and its merges, for each token.
const VOCABULARY_BYTES: u64 = 272;
/// Each row of a step is masked against each cell of the pool.
pub(crate) const MASK_BYTES: u64 = 2;
/// What a header promises is believed when the whole is off by less than one part in so many.
const NEAR_PART: u64 = 20;
/// LIMIT: left to the rest of the system, and to what this account doesn't know of.
const MARGIN_BYTES: u64 = 192 << 20;

/// Sizes and cost of a model, as far as its header tells.
pub(crate) fn plan(facts: &ModelFacts, wish: Wish) -> Plan {
    let trained = known_max(facts);
    let limit_tokens = wish.context_tokens.unwrap_or(trained).min(trained).max(1);
    let first_tokens = FIRST_TOKENS.min(limit_tokens);
    let sequences_max = wish.sequences_max.max(1);
    let batch_tokens = batch_tokens(facts);
    Plan {
        first_tokens,
        least_tokens: LEAST_TOKENS.min(first_tokens),
        limit_tokens,
        sequences_max,
        batch_tokens,
        adapter_bytes: wish.adapter_bytes,
        draft: wish.draft,
        cost: Cost {
            weights: facts.weights_bytes.saturating_add(wish.adapter_bytes).saturating_add(overhead(facts)),
            compute: compute_bytes(facts, batch_tokens, sequences_max),
            ..cache(facts, batch_tokens, sequences_max, wish.kv_cache)
        },
    }
}

/// The same with what the worker has said of itself, which is exact.
pub(crate) fn measured(plan: &Plan, facts: &ModelFacts, room: &Room) -> Plan {
    if room.buffers_bytes() == 0 || room.resting {
        return *plan;
    }
    let tokens = u64::from(room.context_tokens.max(1));
    let mask = if facts.modality == Modality::Chat { MASK_BYTES * u64::from(plan.batch_tokens) } else { 0 };
    let cache = measured_cache(plan, room, mask);
    let windowed_mask =
        if cache.windowed_per_token > 0 { mask * cells_with_window(&cache, room.context_tokens) } else { 0 };
    // From the header again, not from `plan`, which may hold an earlier measurement.
    let adapters = plan.adapter_bytes;
    // Where weights were copied the file's pages were given back, and what is only looked up hardly comes again.
    let looked_up = if room.copied_bytes > 0 { facts.lookup_bytes } else { 0 };
    let mapped = room.mapped_bytes.saturating_sub(looked_up);
    let weights = overhead(facts).saturating_add(adapters).saturating_add(mapped).saturating_add(room.copied_bytes);
    let least = compute_bytes(facts, plan.batch_tokens, plan.sequences_max) / 2;
    let cost = Cost {
        weights,
        compute: room.compute_bytes.saturating_sub(mask * tokens).saturating_sub(windowed_mask).max(least),
        ..cache
    };
    // An embedder computes in more than llama.cpp's account holds: what was planned stands.
    let cost = if facts.modality == Modality::Chat { cost } else { Cost { weights, ..plan.cost } };
    Plan { cost, ..*plan }
}

/// What the worker's cache tells about its parts: windows and states are as the header says, when that comes near
/// enough to the whole; then the rest is what each token takes, exactly. Else all of it is taken to grow with the pool.
fn measured_cache(plan: &Plan, room: &Room, mask: u64) -> Cost {
    let tokens = u64::from(room.context_tokens.max(1));
    let planned = plan.cost;
    let windowed = planned.windowed_per_token.saturating_sub(mask);
    let windowed = windowed.saturating_mul(cells_with_window(&planned, room.context_tokens));
    let fixed = windowed.saturating_add(planned.states);
    let expected = planned.per_token.saturating_sub(mask).saturating_mul(tokens).saturating_add(fixed);
    let near = expected.abs_diff(room.cache_bytes).saturating_mul(NEAR_PART) <= room.cache_bytes;
    if near && fixed <= room.cache_bytes {
        let per_token = (room.cache_bytes - fixed).div_ceil(tokens).saturating_add(mask);
        return Cost { per_token, ..planned };
    }
    Cost { per_token: room.cache_bytes.div_ceil(tokens).saturating_add(mask), ..Cost::default() }
}

/// Bytes for all models together: what is free, and what they hold of it now, up to a bound of the person's.
/// The page cache counts as free, so `held` is only what a worker has beside its mapped file.
pub(crate) fn budget(memory: Option<Memory>, held: u64, bound: Option<Bytes>) -> Option<u64> {
    let there = memory.map(|memory| memory.available.0.saturating_add(held).saturating_sub(MARGIN_BYTES));
    match (there, bound) {
        (Some(there), Some(bound)) => Some(there.min(bound.0)),
        (there, bound) => there.or(bound.map(|bound| bound.0)),
    }
}

/// The fault of a model that finds no room. `pool`: the least that it could do with.
pub(crate) fn short(name: &str, cost: Cost, pool: u32, available: Bytes) -> Fault {
    let (need, weights) = (Bytes(cost.of(pool)), Bytes(cost.weights));
    let rest = Bytes(need.0.saturating_sub(weights.0));
    Fault::new(
        Code::MemoryShort,
        format!(
            "`{name}` needs {need} (weights {weights}, window of {pool} tokens and room to compute {rest}); \
             {available} can be had for it"
        ),
    )
    .hint("take a smaller quantization of it, a smaller model, or a smaller window with FREEHOLD_CONTEXT")
    .hint("close programs that hold much memory, then ask again; `freehold status` shows what models hold")
}

/// Beside the weights: the worker itself, and its vocabulary.
fn overhead(facts: &ModelFacts) -> u64 {
    PROGRAM_BYTES.saturating_add(vocabulary_bytes(facts))
}

pub(crate) fn vocabulary_bytes(facts: &ModelFacts) -> u64 {
    VOCABULARY_BYTES.saturating_mul(u64::from(facts.vocab_tokens))
}

fn known_max(facts: &ModelFacts) -> u32 {
    // A header may say nothing; then the least useful window is the honest guess.
    if facts.context_max == 0 { LEAST_TOKENS } else { facts.context_max }
}

fn batch_tokens(facts: &ModelFacts) -> u32 {
    match facts.modality {
        Modality::Chat => BATCH_TOKENS,
        // An encoder sees a text in one step or not at all.
        Modality::Embed | Modality::Rerank | Modality::Adapter => BATCH_TOKENS.max(known_max(facts).min(FIRST_TOKENS)),
    }
}

/// The part of a cost that is the cache's, with its masks. Vectors are made without one.
fn cache(facts: &ModelFacts, batch_tokens: u32, sequences_max: u32, kv_cache: KvCache) -> Cost {
    if facts.modality != Modality::Chat {
        return Cost::default();
    }
    let unknown = CacheShape { per_token: kv_bytes_per_token(facts), ..CacheShape::default() };
    let shape = facts.cache.unwrap_or(unknown);
    let mask = MASK_BYTES * u64::from(batch_tokens);
    let window_cells = shape.window_cells(sequences_max, batch_tokens);
    let windowed = packed(shape.windowed_per_token, kv_cache).saturating_add(mask);
    Cost {
        per_token: packed(shape.per_token, kv_cache).saturating_add(mask),
        windowed_per_token: if window_cells > 0 { windowed } else { 0 },
        window_cells,
        states: shape.state.saturating_mul(sequences_max.into()),
        ..Cost::default()
    }
}

fn cells_with_window(cost: &Cost, context_tokens: u32) -> u64 {
    context_tokens.min(cost.window_cells).into()
}

/// What 16-bit keys and values take when they are kept in a packed type.
fn packed(bytes: u64, kv_cache: KvCache) -> u64 {
    bytes.div_ceil(KvCache::F16.block_bytes()).saturating_mul(kv_cache.block_bytes())
}

pub(crate) fn kv_bytes_per_token(facts: &ModelFacts) -> u64 {
    if facts.kv_bytes_per_token > 0 {
        return facts.kv_bytes_per_token;
    }
    // Without head counts in the header: as if no head were shared, which is the most it can be.
    u64::from(facts.layers).saturating_mul(u64::from(facts.embedding_length)).saturating_mul(4)
}

/// Rows of scores that a step has room for: one for each sequence, running, kept or judged; they are enough for drafts.
pub(crate) fn score_rows(sequences_max: u32) -> u64 {
    u64::from(sequences_max) + u64::from(wire::KEPT_SEQUENCES) + u64::from(wire::BRANCHES)
}

/// A step's widest moments: five rows as wide as the model and three as wide as its feed-forward part, of 32
/// bits, for each token.
pub(crate) fn activation_bytes(facts: &ModelFacts, batch_tokens: u32) -> u64 {
    let width = u64::from(facts.embedding_length);
    // Where the header doesn't say: wider than most.
    let forward = if facts.forward_length == 0 { width.saturating_mul(4) } else { u64::from(facts.forward_length) };
    let row = width.saturating_mul(5).saturating_add(forward.saturating_mul(3)).saturating_mul(4);
    row.saturating_mul(u64::from(batch_tokens))
}

/// That, and rows of scores.
fn compute_bytes(facts: &ModelFacts, batch_tokens: u32, sequences_max: u32) -> u64 {
    let activations = activation_bytes(facts, batch_tokens);
    match facts.modality {
        Modality::Chat => activations.saturating_add(score_rows(sequences_max) * 4 * u64::from(facts.vocab_tokens)),
        // Rows of several layers live side by side where every token looks at every other.
        Modality::Embed | Modality::Rerank | Modality::Adapter => activations.saturating_mul(4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// An 8B in four bits: 32 layers of 4096, eight shared heads of 128.
    fn facts() -> ModelFacts {
        let chat = testkit::model::facts("m", Modality::Chat);
        ModelFacts {
            layers: 32,
            embedding_length: 4096,
            forward_length: 14_336,
            context_max: 131_072,
            kv_bytes_per_token: 32 * 8 * 128 * 2 * 2,
            cache: None,
            weights_bytes: 5 * GIB,
            vocab_tokens: 128_256,
            ..chat
        }
    }

    fn sizes(wanted: Option<u32>, trained: u32) -> (u32, u32, u32) {
        let facts = ModelFacts { context_max: trained, ..facts() };
        let plan = plan(&facts, Wish { context_tokens: wanted, sequences_max: 4, ..Wish::default() });
        (plan.least_tokens, plan.first_tokens, plan.limit_tokens)
    }

    #[test]
    fn a_pool_begins_small_and_may_grow_to_what_was_trained_or_wished() {
        assert_eq!(sizes(None, 131_072), (2048, 8192, 131_072));
        assert_eq!(sizes(Some(32_768), 131_072), (2048, 8192, 32_768));
        assert_eq!(sizes(Some(1_000_000), 131_072), (2048, 8192, 131_072));
        assert_eq!(sizes(Some(1024), 131_072), (1024, 1024, 1024));
        assert_eq!(sizes(None, 4096), (2048, 4096, 4096));
        assert_eq!(sizes(None, 0), (2048, 2048, 2048));
    }

    /// Peaks of the starter model's worker (`VmHWM` after reading a prompt that fills the step).
    #[test]
    fn the_prediction_is_near_the_measured_peak() {
        let facts = ModelFacts {
            layers: 30,
            embedding_length: 576,
            forward_length: 1536,
            context_max: 8192,
            kv_bytes_per_token: 23_040,
            weights_bytes: 96_573_849,
            vocab_tokens: 49_152,
            ..facts()
        };
        let cost = plan(&facts, Wish { sequences_max: 4, ..Wish::default() }).cost;
        for (tokens, peak_kib) in [(1024, 172_460), (2048, 196_864), (8192, 336_492), (32_768, 871_496)] {
            let peak = peak_kib * 1024;
            let off = cost.of(tokens).abs_diff(peak) * 100 / peak;
            assert!(off < 5, "{tokens}: {} for {peak}, {off} %", cost.of(tokens));
        }
    }

    #[test]
    fn what_the_worker_says_takes_the_place_of_what_was_thought() {
        let facts = facts();
        let before = plan(&facts, Wish { sequences_max: 4, ..Wish::default() });
        let room = Room {
            context_tokens: 8192,
            mapped_bytes: 4 * GIB,
            copied_bytes: 2 * GIB,
            // A quarter of what a header without windows promises.
            cache_bytes: 8192 * 32_768,
            compute_bytes: before.cost.compute + 8192 * 1024,
            ..Room::default()
        };
        let after = measured(&before, &facts, &room);
        assert_eq!(after.cost.weights, before.cost.weights + GIB);
        assert_eq!((after.cost.compute, after.cost.per_token), (before.cost.compute, 32_768 + 1024));
        assert_eq!(measured(&after, &facts, &room), after, "a second word changes nothing");
        assert_eq!(measured(&after, &facts, &Room { resting: true, ..room }), after);
    }

    #[test]
    fn windows_and_states_are_counted_as_the_worker_makes_them() {
        // Ten layers with a window, two without, four with a state.
        let shape = CacheShape { per_token: 2048, windowed_per_token: 10_240, window_tokens: 1024, state: 1 << 20 };
        let facts = ModelFacts { kv_bytes_per_token: 12_288, cache: Some(shape), ..facts() };
        let plan = plan(&facts, Wish { sequences_max: 4, ..Wish::default() });
        let masks = |tokens: u64| 1024 * (tokens + tokens.min(4608));
        for tokens in [2048_u64, 8192, 65_536] {
            let expected = 2048 * tokens + 10_240 * tokens.min(4608) + (4 << 20) + masks(tokens);
            assert_eq!(plan.cost.cache(u32::try_from(tokens).unwrap()), expected, "{tokens}");
        }
        // The worker's word, a little off, moves what each token takes and leaves the rest as it is.
        let cache_bytes = 2048 * 8192 + 10_240 * 4608 + (4 << 20) + 8192 * 10;
        let room = Room { context_tokens: 8192, mapped_bytes: GIB, cache_bytes, ..Room::default() };
        let after = measured(&plan, &facts, &room).cost;
        assert_eq!((after.per_token, after.states), (2058 + 1024, 4 << 20));
        assert_eq!((after.windowed_per_token, after.window_cells), (10_240 + 1024, 4608));
        // A cache that has nothing to do with it.
        let other = Room { cache_bytes: cache_bytes * 2, ..room };
        let flat = measured(&plan, &facts, &other).cost;
        assert_eq!((flat.windowed_per_token, flat.window_cells, flat.states), (0, 0, 0));
        assert_eq!(flat.per_token, (cache_bytes * 2).div_ceil(8192) + 1024);
    }

    #[test]
    fn a_budget_is_what_is_free_and_what_models_hold_up_to_a_bound() {
        let memory =
            |available| Some(Memory { total: Bytes(64 * GIB), available: Bytes(available), bound_by_group: false });
        assert_eq!(budget(memory(10 * GIB), GIB, None), Some(11 * GIB - MARGIN_BYTES));
        assert_eq!(budget(memory(10 * GIB), 0, Some(Bytes(GIB))), Some(GIB));
        assert_eq!(budget(memory(1), 0, Some(Bytes(GIB))), Some(0));
        assert_eq!((budget(None, 0, None), budget(None, 0, Some(Bytes(7)))), (None, Some(7)));
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_both_numbers() {
        let cost = plan(&facts(), Wish::default()).cost;
        let fault = short("m", cost, 2048, Bytes(3 * GIB));
        assert_eq!(fault.code, Code::MemoryShort);
        assert!(fault.message.contains("5.4 GiB") && fault.message.contains("3.0 GiB can be had"), "{fault}");
        assert!(!fault.hints.is_empty());
    }

    #[test]
    fn packed_caches_and_adapters_are_counted_with_their_own_bytes() {
        let cost = |kv_cache, adapter_bytes, facts: &ModelFacts| {
            plan(facts, Wish { context_tokens: None, sequences_max: 4, kv_cache, adapter_bytes, ..Wish::default() })
                .cost
        };
        let (tokens, chat) = (65_536, facts());
        let cache = chat.kv_bytes_per_token * u64::from(tokens);
        let whole = cost(KvCache::F16, 0, &chat).of(tokens);
        assert_eq!(whole - cost(KvCache::Q8_0, 0, &chat).of(tokens), cache - cache / 64 * 34);
        assert_eq!(whole - cost(KvCache::Q4_0, 0, &chat).of(tokens), cache - cache / 64 * 18);
        assert_eq!(cost(KvCache::F16, 77, &chat).of(tokens), whole + 77);
        let embedder = ModelFacts { modality: Modality::Embed, ..facts() };
        assert_eq!(cost(KvCache::Q4_0, 0, &embedder), cost(KvCache::F16, 0, &embedder));
        let plan = plan(&chat, Wish { sequences_max: 4, adapter_bytes: 77, ..Wish::default() });
        let room = Room { context_tokens: 8192, mapped_bytes: 5 * GIB, cache_bytes: 1, ..Room::default() };
        assert_eq!(measured(&plan, &chat, &room).cost.weights, plan.cost.weights, "adapters stay counted");
    }

    #[test]
    fn absurd_headers_do_not_overflow() {
        let absurd = ModelFacts {
            layers: u32::MAX,
            embedding_length: u32::MAX,
            forward_length: u32::MAX,
            kv_bytes_per_token: 0,
            cache: None,
            weights_bytes: u64::MAX,
            ..facts()
        };
        assert_eq!(plan(&absurd, Wish::default()).cost.of(8192), u64::MAX);
    }
}
