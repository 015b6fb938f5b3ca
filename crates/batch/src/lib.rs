//! The decode step, pure: which tokens go into the next batch, how much of the cache a job may
//! take, where text ends, and how bytes become text.
//!
//! Nothing here knows llama.cpp, a clock or a socket; the worker asks and obeys. Start with
//! [`compose`]: it is what keeps running answers running while new prompts are read.

pub mod blend;
pub mod compose;
pub mod crew;
pub mod draft;
pub mod likelihood;
pub mod lookout;
pub mod pace;
pub mod pack;
pub mod pool;
pub mod prefix;
pub mod repeat;
pub mod schema;
pub mod sift;
pub mod stop;
pub mod turn;
pub mod utf8;
