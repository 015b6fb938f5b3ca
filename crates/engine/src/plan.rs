//! How much of the machine a model gets: window, sequences, and the memory that this takes. Pure.

use crate::machine::Memory;
use base::{Bytes, Code, Fault, Modality, ModelFacts};
use wire::KvCache;

/// What one load asks of a worker, and what it is expected to cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The whole pool: one ask may use all of it.
    pub context_tokens: u32,
    pub sequences_max: u32,
    pub batch_tokens: u32,
    /// Weights, keys and values, and room to compute.
    pub need: Bytes,
}

/// What the person, or the configuration, wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// `None`: what the model and the memory allow, up to [`CONTEXT_DEFAULT_MAX`].
    pub context_tokens: Option<u32>,
    pub sequences_max: u32,
    pub kv_cache: KvCache,
}

/// The window that is taken when nobody asks for one; a larger one costs memory that most asks never use.
pub const CONTEXT_DEFAULT_MAX: u32 = 8192;
/// Below this a window is of little use: sooner say that memory is short.
const CONTEXT_MIN: u32 = 2048;
/// Tokens worked through in one step.
const BATCH_TOKENS: u32 = 512;
/// A worker that has loaded nothing: program, libraries, thread stacks.
const WORKER_BYTES: u64 = 64 << 20;

/// Chooses the window and checks that the model fits what is available (`None`: not known).
///
/// # Errors
/// [`Code::MemoryShort`] with what is needed and what there is.
pub fn fit(name: &str, facts: &ModelFacts, wish: Wish, memory: Option<Memory>) -> Result<Plan, Fault> {
    let of = |context_tokens: u32| Plan {
        context_tokens,
        sequences_max: wish.sequences_max.max(1),
        batch_tokens: batch_tokens(facts),
        need: need(facts, context_tokens, wish.sequences_max.max(1), wish.kv_cache),
    };
    let largest = match wish.context_tokens {
        Some(wanted) => wanted.min(known_max(facts)).max(1),
        None => CONTEXT_DEFAULT_MAX.min(known_max(facts)),
    };
    let Some(memory) = memory else { return Ok(of(largest)) };
    let available = memory.available;
    let full = of(largest);
    if full.need <= available {
        return Ok(full);
    }
    // A window that was asked for is given whole or not at all.
    let least = if wish.context_tokens.is_some() { largest } else { CONTEXT_MIN.min(largest) };
    let smallest = of(least);
    if smallest.need > available {
        return Err(short(name, facts, smallest, memory));
    }
    let per_token = kv_bytes_per_token(facts).max(1);
    let spare = (available.0 - smallest.need.0) / per_token;
    let context_tokens = least.saturating_add(u32::try_from(spare).unwrap_or(u32::MAX)).min(largest);
    // Whole blocks of 256 tokens, as the cache is laid out; never below what was found to fit.
    Ok(of((context_tokens / 256 * 256).max(least)))
}

fn short(name: &str, facts: &ModelFacts, plan: Plan, memory: Memory) -> Fault {
    let whose = if memory.bound_by_group { "its control group" } else { "this machine" };
    let Plan { context_tokens, need, .. } = plan;
    let weights = Bytes(facts.weights_bytes);
    let rest = Bytes(need.0.saturating_sub(facts.weights_bytes));
    Fault::new(
        Code::MemoryShort,
        format!(
            "`{name}` needs {need} (weights {weights}, window of {context_tokens} tokens and room to compute {rest}); \
             {whose} can give {}",
            memory.available
        ),
    )
    .hint("take a smaller quantization of it, a smaller model, or a smaller window with FREEHOLD_CONTEXT")
    .hint("close programs that hold much memory, then ask again")
}

fn known_max(facts: &ModelFacts) -> u32 {
    // A header may say nothing; then the least useful window is the honest guess.
    if facts.context_max == 0 { CONTEXT_MIN } else { facts.context_max }
}

fn batch_tokens(facts: &ModelFacts) -> u32 {
    match facts.modality {
        Modality::Chat => BATCH_TOKENS,
        // An encoder sees a text in one step or not at all.
        Modality::Embed | Modality::Rerank | Modality::Adapter => {
            BATCH_TOKENS.max(known_max(facts).min(CONTEXT_DEFAULT_MAX))
        }
    }
}

fn kv_bytes_per_token(facts: &ModelFacts) -> u64 {
    if facts.kv_bytes_per_token > 0 {
        return facts.kv_bytes_per_token;
    }
    match facts.modality {
        // Without head counts in the header: as if no head were shared, which is the most it can be.
        Modality::Chat => u64::from(facts.layers).saturating_mul(u64::from(facts.embedding_length)).saturating_mul(4),
        Modality::Embed | Modality::Rerank | Modality::Adapter => 0,
    }
}

/// What 16-bit keys and values take when they are kept in a packed type; vectors are always made with 16 bits.
fn packed(bytes: u64, facts: &ModelFacts, kv_cache: KvCache) -> u64 {
    let kv_cache = if facts.modality == Modality::Chat { kv_cache } else { KvCache::F16 };
    bytes.div_ceil(KvCache::F16.block_bytes()).saturating_mul(kv_cache.block_bytes())
}

fn need(facts: &ModelFacts, context_tokens: u32, sequences_max: u32, kv_cache: KvCache) -> Bytes {
    let (batch, sequences) = (u64::from(batch_tokens(facts)), u64::from(sequences_max));
    // A step's activations, a few of them at a time and the feed-forward ones the widest; and one row of
    // logits for each sequence.
    let activations = batch * 4 * 16 * u64::from(facts.embedding_length);
    let logits = match facts.modality {
        Modality::Chat => sequences * 4 * u64::from(facts.vocab_tokens),
        Modality::Embed | Modality::Rerank | Modality::Adapter => 0,
    };
    let kv = packed(kv_bytes_per_token(facts), facts, kv_cache).saturating_mul(u64::from(context_tokens));
    let compute = activations.saturating_add(logits).saturating_add(WORKER_BYTES);
    Bytes(facts.weights_bytes.saturating_add(kv).saturating_add(compute))
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
            context_max: 131_072,
            kv_bytes_per_token: 32 * 8 * 128 * 2 * 2,
            weights_bytes: 5 * GIB,
            vocab_tokens: 128_256,
            ..chat
        }
    }

    fn memory(available: u64) -> Option<Memory> {
        Some(Memory { total: Bytes(64 * GIB), available: Bytes(available), bound_by_group: false })
    }

    fn window(wanted: Option<u32>, available: Option<Memory>) -> Result<u32, Fault> {
        let wish = Wish { context_tokens: wanted, sequences_max: 4, ..Wish::default() };
        fit("m", &facts(), wish, available).map(|plan| plan.context_tokens)
    }

    #[test]
    fn the_window_is_what_model_memory_and_wish_allow() {
        assert_eq!(window(None, None), Ok(8192));
        assert_eq!(window(None, memory(32 * GIB)), Ok(8192));
        assert_eq!(window(Some(32_768), memory(32 * GIB)), Ok(32_768));
        assert_eq!(window(Some(1_000_000), memory(64 * GIB)), Ok(131_072));
        let tight = window(None, memory(6 * GIB)).expect("a smaller window fits");
        assert!((2048..8192).contains(&tight) && tight.is_multiple_of(256), "{tight}");
        let plan = fit("m", &facts(), Wish::default(), memory(6 * GIB)).expect("fits");
        assert!(plan.need <= Bytes(6 * GIB), "{plan:?}");
        assert_eq!(plan.sequences_max, 1);
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_both_numbers() {
        let fault = window(None, memory(3 * GIB)).expect_err("5 GiB of weights in 3");
        assert_eq!(fault.code, Code::MemoryShort);
        assert!(fault.message.contains("5.4 GiB") && fault.message.contains("can give 3.0 GiB"), "{fault}");
        assert!(!fault.hints.is_empty());
        // A window that was asked for isn't cut down in silence.
        let fault = window(Some(100_000), memory(8 * GIB)).expect_err("12 GiB of cache");
        assert!(fault.message.contains("100000 tokens"), "{fault}");
    }

    #[test]
    fn a_packed_cache_is_counted_with_its_own_bytes() {
        let need = |kv_cache, facts: &ModelFacts| {
            let wish = Wish { context_tokens: Some(65_536), sequences_max: 4, kv_cache };
            fit("m", facts, wish, None).expect("memory isn't known").need.0
        };
        let cache = facts().kv_bytes_per_token * 65_536;
        let whole = need(KvCache::F16, &facts());
        assert_eq!(whole - need(KvCache::Q8_0, &facts()), cache - cache / 64 * 34);
        assert_eq!(whole - need(KvCache::Q4_0, &facts()), cache - cache / 64 * 18);
        // What doesn't fit with 16 bits may fit with fewer.
        let tight = Wish { context_tokens: Some(65_536), sequences_max: 4, kv_cache: KvCache::F16 };
        assert!(fit("m", &facts(), tight, memory(11 * GIB)).is_err());
        assert!(fit("m", &facts(), Wish { kv_cache: KvCache::Q8_0, ..tight }, memory(11 * GIB)).is_ok());
        let embedder = ModelFacts { modality: Modality::Embed, ..facts() };
        assert_eq!(need(KvCache::Q4_0, &embedder), need(KvCache::F16, &embedder));
    }

    #[test]
    fn absurd_headers_neither_overflow_nor_pass() {
        let absurd = ModelFacts {
            layers: u32::MAX,
            embedding_length: u32::MAX,
            kv_bytes_per_token: 0,
            weights_bytes: u64::MAX,
            ..facts()
        };
        let fault = fit("m", &absurd, Wish::default(), memory(64 * GIB)).expect_err("nothing holds that");
        assert_eq!(fault.code, Code::MemoryShort);
    }
}
