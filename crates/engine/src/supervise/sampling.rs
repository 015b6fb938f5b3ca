//! How tokens are chosen, in the worker's words.

use base::Sampling;
use std::hash::{BuildHasher, RandomState};
use wire::WireSampling;

/// For the worker: with a seed, whoever chose it.
pub(super) fn to_wire(sampling: Sampling) -> WireSampling {
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        typical_p,
        repeat_penalty,
        penalty_last_n,
        presence_penalty,
        frequency_penalty,
        seed,
        logit_bias,
    } = sampling;
    WireSampling {
        temperature,
        top_k,
        top_p,
        min_p,
        typical_p,
        repeat_penalty,
        penalty_last_n,
        presence_penalty,
        frequency_penalty,
        seed: seed.unwrap_or_else(draw),
        logit_bias,
    }
}

/// A number that nobody has chosen: the standard library seeds each of these from the system.
fn draw() -> u32 {
    let bits = RandomState::new().hash_one(0_u8);
    u32::try_from(bits >> 32).unwrap_or(0)
}
