//! The real worker with a real model, over the real protocol.
//!
//! Needs `cargo xtask native` before, and the starter models, named by the variables
//! `FREEHOLD_TEST_MODEL` (a generating model) and `FREEHOLD_TEST_EMBEDDER` (an embedding one).
//! A test that lacks what it needs fails and says so: a skipped proof is none.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should say where it stopped")]

mod adapters;
mod cache;
mod calls;
mod confinement;
mod draft;
mod draft_model;
mod embed;
mod families;
mod generate;
mod gpu;
mod grow;
mod harness;
#[path = "../../../../xtask/src/bench/contract/judge.rs"]
mod judge;
mod life;
mod marks;
mod park;
mod rank;
mod reference;
mod reuse;
mod score;
mod selftest;
mod shape;
mod split;
mod stored;
