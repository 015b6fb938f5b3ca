//! What crossed the gate: one line when it opens, on disk before the first byte, one when it closes.
//!
//! `entry` is the pure half (lines to crossings and back), `file` owns the bytes on disk.

mod entry;
mod file;

pub use entry::{Close, Entry, Open, Totals};
pub(crate) use file::Ledger;
