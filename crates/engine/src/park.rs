//! How much memory a worker may keep states of parked asks in. Pure.

use crate::residency::Cost;

/// LIMIT: enough for the pool of a small model, and for some answers of a large one.
const PARK_BYTES_MAX: u64 = 1 << 30;
/// Of what the model leaves of the memory, states may take one part in so many.
const SPARE_PART: u64 = 4;

/// One pool's worth of states, a quarter of what is left beside all models (`None`: not known), or
/// [`PARK_BYTES_MAX`]: the least of them. Whose state finds no room is read again, so too little costs time
/// and nothing else.
pub(crate) fn budget(cost: Cost, pool_tokens: u32, spare: Option<u64>) -> u64 {
    let pool = cost.cache(pool_tokens);
    let part = spare.map_or(PARK_BYTES_MAX, |spare| spare / SPARE_PART);
    pool.min(part).min(PARK_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_pool_and_memory_allow() {
        let of = |per_token, spare| budget(Cost { per_token, ..Cost::default() }, 8192, spare);
        assert_eq!(of(23_040, Some(30 << 30)), 23_040 * 8192);
        assert_eq!(of(262_144, Some(30 << 30)), 1 << 30);
        assert_eq!(of(131_072, Some(1 << 30)), 256 << 20);
        assert_eq!(of(131_072, Some(0)), 0, "nothing is to spare");
        assert_eq!(of(0, None), 0, "nothing can be parked");
        // A state takes no cells, and can be parked for all that.
        assert_eq!(budget(Cost { states: 4096, ..Cost::default() }, 8192, Some(30 << 30)), 4096);
    }
}
