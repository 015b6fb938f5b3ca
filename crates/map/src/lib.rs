//! map
pub mod chunk;
pub mod document;
mod extract;
pub mod sentence;
pub mod source;
pub mod words;
pub use extract::run as run_extractor;
