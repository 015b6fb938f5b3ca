//! The commands that do one task with many texts: `freehold summarize`, `classify`, `extract` and so on.
//!
//! Each file here owns one part of the way: [`args`] what was asked for, [`input`] which texts, [`run`] the calls and
//! their order, [`output`] how results are written, [`journal`] what survives a kill.

pub(crate) mod args;
mod input;
mod journal;
mod output;
mod run;

pub(crate) use run::run;
