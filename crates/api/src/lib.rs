//! HTTP on 127.0.0.1 and on a Unix socket: OpenAI's shapes and Freehold's own routes.
//!
//! The only crate that binds a listener. Every request of both doors passes one guard before
//! anything is done for it ([`guard`]), which reads one table of routes ([`route`]). Nothing
//! here knows models or files: it turns requests into calls of `runtime` and answers into
//! bytes. Start with [`Doors`].

mod body;
mod caller;
mod door;
mod field;
pub mod guard;
pub mod native;
mod openai;
mod peer;
mod reply;
pub mod route;
mod router;
mod stop;
mod tasks;

pub use door::{Doors, Watchers};
pub use stop::Stop;
