//! The words that every pillar shares: ids, units, asks, answers, faults.
//!
//! Plain data, no I/O, no async, no clock. A type enters this crate only when
//! three crates name it. Start with [`ask::Ask`] and [`answer::Delta`].

pub mod answer;
pub mod ask;
pub mod evidence;
pub mod fault;
pub mod gbnf;
pub mod label;
pub mod model;
pub mod score;
pub mod shape;
pub mod tools;
pub mod unit;

pub use answer::{Compaction, Delta, Finish, Usage};
pub use ask::{AdapterChoice, AppId, Ask, AskId, Limits, Message, Overflow, Priority, Role, Sampling};
pub use evidence::{Cell, Citation, PageBox, Place};
pub use fault::{Code, Fault, Hint, Shortage};
pub use label::Label;
pub use model::{CacheShape, LayerRun, Modality, ModelFacts, ModelName, TokenText};
pub use score::{Likelihood, Score, Scores};
pub use shape::{Form, OnLoop, Onset, Reasoning, Shape};
pub use tools::{CallPiece, Thinking, Tool, ToolCall, ToolChoice, Toolbox};
pub use unit::{Bytes, Millis, Tokens};
