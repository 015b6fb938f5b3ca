//! The engine against the scripted worker: real processes, real descriptors, no model and no sleep.

// The name that every other crate has for it.
extern crate freehold_engine as engine;

mod answers;
mod backends;
mod bench;
mod compaction;
mod deaths;
mod embeddings;
mod lives;
mod memory;
mod parking;
mod reuse;
mod soak;
