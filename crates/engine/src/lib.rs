//! Runs models: admission, chat templates, the machine's means, and the workers' lives.
//!
//! Start with [`Engine`]. What is decided without touching anything lies in `admit` (which ask runs
//! when, which worker lives), [`template`] (messages to prompt), `plan` and `residency` (windows and memory),
//! [`offload`] (what goes to a GPU) and
//! [`backend`] (which backend to trust); `supervise` carries it out, one thread owning all state and
//! two per worker moving frames. A token's way is: worker, its reader thread, the ask's [`Answer`].

mod admit;
pub mod backend;
pub mod machine;
pub mod offload;
mod park;
mod plan;
pub mod template;

mod answer;
mod handle;
mod render;
mod residency;
mod supervise;
mod window;

pub use answer::{Answer, Embedded};
pub use backend::{BackendChoice, Tried, Verdict};
pub use handle::{Engine, EngineConfig, Loaded, ModelSource, Tuning};
pub use render::run_renderer;
pub use window::{MemoryShare, Window};
pub use wire::{Attempt, Room};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A poisoned lock means that a thread panicked between two complete states of ours: what it guards
/// is always whole, so it is used further.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
