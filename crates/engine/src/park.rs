//! How much memory a worker may keep states of parked asks in. Pure.

use crate::machine::Memory;
use crate::plan::Plan;
use base::{Bytes, ModelFacts};

/// LIMIT: enough for the pool of a small model, and for some answers of a large one.
const PARK_BYTES_MAX: u64 = 1 << 30;
/// Of what the model leaves of the memory, states may take one part in so many.
const SPARE_PART: u64 = 4;

/// One pool's worth of states, a quarter of what is left beside the model, or [`PARK_BYTES_MAX`]: the least
/// of them. Whose state finds no room is read again, so too little costs time and nothing else.
pub(crate) fn budget(facts: &ModelFacts, plan: &Plan, memory: Option<Memory>) -> Bytes {
    let pool = facts.kv_bytes_per_token.saturating_mul(u64::from(plan.context_tokens));
    // Headers that say nothing of it: what a small model takes.
    let pool = if pool == 0 { PARK_BYTES_MAX / 4 } else { pool };
    let spare = memory.map_or(PARK_BYTES_MAX, |memory| memory.available.0.saturating_sub(plan.need.0) / SPARE_PART);
    Bytes(pool.min(spare).min(PARK_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Modality;

    #[test]
    fn it_is_what_pool_and_memory_allow() {
        let of = |kv_bytes_per_token, available: Option<u64>| {
            let facts = ModelFacts { kv_bytes_per_token, ..testkit::model::facts("m", Modality::Chat) };
            let plan = Plan { context_tokens: 8192, sequences_max: 4, batch_tokens: 512, need: Bytes(2 << 30) };
            let memory = available.map(|bytes| Memory {
                total: Bytes(64 << 30),
                available: Bytes(bytes),
                bound_by_group: false,
            });
            budget(&facts, &plan, memory).0
        };
        assert_eq!(of(23_040, Some(32 << 30)), 23_040 * 8192);
        assert_eq!(of(131_072, Some(32 << 30)), 1 << 30);
        assert_eq!(of(131_072, Some(3 << 30)), 256 << 20);
        assert_eq!(of(131_072, Some(1 << 30)), 0, "nothing is to spare");
        assert_eq!(of(0, None), 256 << 20);
    }
}
