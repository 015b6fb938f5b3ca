//! Runs models: admission, chat templates, the machine's means, and the workers' lives.
//!
//! Start with [`Engine`]. What is decided without touching anything lies in `admit` (which ask runs
//! when, which worker lives), [`template`] (messages to prompt), `parse` (what the model says to thoughts, text and calls), `forced` (what a call
//! that must be made looks like), [`compact`] (what a conversation that is
//! too long goes without), `plan` and `residency` (windows and memory), [`offload`] (what goes to a GPU) and
//! [`backend`] (which backend to trust); `supervise` carries it out, one thread owning all state and
//! two per worker moving frames. A token's way is: worker, its reader thread, the ask's [`Answer`].

mod admit;
pub mod backend;
pub mod compact;
pub mod machine;
pub mod offload;
mod park;
mod plan;
pub mod template;

mod adapters;
mod answer;
mod compacting;
mod count;
mod draft;
mod forced;
mod handle;
mod hear;
mod parse;
mod render;
mod residency;
mod scope;
mod score;
mod shape;
mod stored;
mod supervise;
mod vectors;
mod window;

pub use answer::Answer;
pub use backend::{BackendChoice, Tried, Verdict};
pub use handle::{AdapterSource, DraftSource, Engine, EngineConfig, Loaded, ModelSource, PromptsForgotten, Tuning};
pub use render::run_renderer;
pub use vectors::{EmbedOptions, Embedded, Ranked};
pub use window::{MemoryShare, Window};
pub use wire::WirePooling as Pooling;
pub use wire::{Attempt, KvCache, Room};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A poisoned lock means that a thread panicked between two complete states of ours: what it guards
/// is always whole, so it is used further.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
