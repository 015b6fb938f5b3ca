//! What the tests of several crates share; a dev-dependency only, it never reaches a person.
//!
//! - [`model`] writes tiny, valid GGUF files, one of them with a script inside.
//! - [`family`] writes small models of every family with random weights, which the real worker computes.
//! - [`script`] is what such a script can say; [`scripted`] is the worker that plays it
//!   (`freehold-testworker`, found by [`worker_path`]).
//! - [`Gate`] holds a scripted worker at a step until the test lets it go: no test sleeps.
//! - [`TempHome`] is a home folder that goes away with the test.

pub mod family;
pub mod gguf;
pub mod model;
pub mod script;
pub mod scripted;

mod gate;
mod home;
mod program;

pub use gate::Gate;
pub use home::{TempHome, until};
pub use model::TestModel;
pub use program::{worker_path, worker_that_says};
pub use script::{Hello, Script, SelfTestScript, Step};
pub use wire::WireFinish;
