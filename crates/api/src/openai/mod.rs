//! The dialect that most clients speak: chat completions, embeddings and the list of models.

pub(crate) mod ask;
pub(crate) mod chat;
pub(crate) mod embed;
pub(crate) mod models;
pub(crate) mod rerank;
mod shape;
mod sse;
mod tally;
mod tools;
