//! Daemon and worker speak in frames over a socket pair that carries descriptors.
//!
//! A frame is 8 bytes of header (payload length as u32 little-endian, number of
//! descriptors as u8, three zero bytes) and a postcard payload. Descriptors ride
//! on the header as SCM_RIGHTS. Nothing here depends on the rest of Freehold, so
//! that both sides can be tested against it alone. Start with [`Directive`] (to
//! the worker) and [`Report`] (from it); [`Link`] moves them.

mod link;
mod speech;

pub use link::{FDS_MAX, FRAME_BYTES_MAX, Link, Receiver, Sender, WireError, pair};
pub use speech::*;

/// Both sides must say the same number in `Hello`; raise it with every change of a frame.
pub const VERSION: u32 = 6;

/// Rows of scores that a generating worker's step has room for at least, however few sequences it has: what is drafted
/// for one answer needs them.
pub const SCORE_ROWS_MIN: u32 = 8;

/// The descriptor on which a worker finds its end of the socket pair.
pub const WORKER_FD: i32 = 3;
