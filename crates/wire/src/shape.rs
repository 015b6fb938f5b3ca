//! What an answer must look like, and what is to be scored, as it travels.

use serde::{Deserialize, Serialize};

/// See `base::Form`. Checked by the daemon as far as that goes without the model's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WireShape {
    #[default]
    Free,
    Json,
    JsonSchema(String),
    Regex(String),
    Choice(Vec<String>),
    Grammar(String),
}

/// See `base::Reasoning`: what encloses the free text that may stand before a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireReasoning {
    /// Empty: the prompt has opened it.
    pub open: String,
    pub close: String,
}

/// With this, nothing is generated: the options are judged behind the prompt. Answered by `Scored`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireScore {
    pub options: Vec<String>,
    /// The end of the turn behind each option counts too.
    pub whole: bool,
}

/// How likely one option is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WireLikelihood {
    /// Natural logarithm of its probability.
    pub log: f64,
    /// Tokens that it is the sum over.
    pub tokens: u32,
}
