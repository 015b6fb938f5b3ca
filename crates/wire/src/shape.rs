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
    /// Free, but for the calls of tools in it.
    Calls(Box<WireCalls>),
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

/// How the calls of one answer are kept to their tools. The answer is free until one of the marks stands in its text;
/// from there on it is a call to the call's end, and then free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCalls {
    pub openings: Vec<WireOpening>,
    /// What stands of the answer in the prompt already, as far as a mark may begin in it.
    pub begun: String,
    /// Where no mark is one.
    pub quiet: Option<WireQuiet>,
    /// Marks that may stand, with white space, before a thought or between calls.
    pub passed: Vec<String>,
    /// Named by their places.
    pub rules: Vec<WirePart>,
    /// Named by their places.
    pub schemas: Vec<WireSchema>,
    /// The answer ends with its first call.
    pub single: bool,
}

/// A mark and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireOpening {
    pub mark: String,
    pub then: WirePart,
}

/// Stretches of an answer that hold no calls: thoughts, or the bodies of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireQuiet {
    pub open: Vec<String>,
    pub close: Vec<String>,
    /// They may begin anywhere, and not only at the beginning of an answer, behind a call or another one of them.
    pub anywhere: bool,
}

/// A schema of a tool's arguments, or of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSchema {
    pub tool: String,
    /// Where it lies in the schema of all arguments: `#`, `#/properties/a`.
    pub place: String,
    pub schema: String,
    /// Of all arguments: where it can't be kept, any object stands in its place; else any value.
    pub whole: bool,
}

/// A part of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WirePart {
    /// These very characters.
    Text(String),
    /// The special token of this name, where the model has one; else its characters.
    Mark(String),
    /// White space, or none.
    Space,
    /// A number of up to four digits.
    Digits,
    /// Up to 64 letters, digits and `_`.
    Word,
    /// Text, and behind it `end`; the text doesn't hold `apart`. `least` and `most` count its characters.
    Until {
        end: String,
        apart: String,
        least: u32,
        most: Option<u32>,
    },
    /// JSON that fits the schema of this place.
    Json(u32),
    /// The rule of this place.
    Rule(u32),
    All(Vec<WirePart>),
    Any(Vec<WirePart>),
    Maybe(Box<WirePart>),
    /// Once or more.
    Again(Box<WirePart>),
}
