//! Daemon and worker speak in frames over a socket pair that carries descriptors.
//!
//! A frame is 8 bytes of header (payload length as u32 little-endian, number of
//! descriptors as u8, three zero bytes) and a postcard payload. Descriptors ride
//! on the header as SCM_RIGHTS. Nothing here depends on the rest of Freehold, so
//! that both sides can be tested against it alone. Start with [`Directive`] (to
//! the worker) and [`Report`] (from it); [`Link`] moves them.

mod link;
mod shape;
mod speech;

pub use link::{FDS_MAX, FRAME_BYTES_MAX, Link, Receiver, Sender, WireError, pair};
pub use shape::{
    WireCalls, WireLikelihood, WireOpening, WirePart, WireQuiet, WireReasoning, WireSchema, WireScore, WireShape,
};
pub use speech::*;

/// Both sides must say the same number in `Hello`; raise it with every change of a frame.
pub const VERSION: u32 = 11;

/// LIMIT: sequences that a worker keeps in its pool beside those that run, where that takes no memory of its own but
/// a row of scores for each.
pub const KEPT_SEQUENCES: u32 = 8;
/// Sequences that go on from another one for the time of a step, when options are judged.
pub const BRANCHES: u32 = 16;

/// The descriptor on which a worker finds its end of the socket pair.
pub const WORKER_FD: i32 = 3;
