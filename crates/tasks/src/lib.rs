//! The standard calls that local models are used for: typed input, asks of a model, typed output. Pure.
//!
//! Start with [`Task`]: what can be asked for, checked when it is made. [`Task::run`] does it with whatever
//! implements [`Complete`], and says in its [`Plan`] into how many parts it took the text. The words that models are
//! told are data, in `prompts/`. Input is material: whatever it asks for, nothing here does it.

mod answer;
mod classify;
mod diff;
mod extract;
mod grounds;
mod language;
mod normalize;
mod pieces;
mod plan;
mod prompt;
mod proofread;
mod rewrite;
mod schema;
mod segment;
mod sentence;
mod span;
mod summarize;
mod task;
mod work;

pub use answer::{Answered, AskText};
pub use classify::{Classified, Classify, Label};
pub use extract::{Extract, Extracted};
pub use language::{DetectLanguage, Language, Languages};
pub use normalize::{DateOrder, Kind, Normalize, Normalized, Source};
pub use plan::{parts, pieces_of};
pub use prompt::tiers;
pub use proofread::{Correction, CorrectionType, Proofread, Proofreading};
pub use rewrite::{Rewrite, Rewritten, Translate};
pub use segment::{Segment, segments};
pub use span::Span;
pub use summarize::{Format, Length, Preference, Summarize, Summary, SummaryType, Title, Titled};
pub use task::{Done, NAMES, Outcome, Task};
pub use work::{Plan, Step};

use base::{Fault, Finish, Likelihood, Message, Shape};

/// What a task wants generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub messages: Vec<Message>,
    pub shape: Shape,
    /// LIMIT: tokens of the answer.
    pub tokens_max: u32,
    /// 0 at first; more when an answer went round in circles and is tried again.
    pub temperature: f32,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub text: String,
    pub finish: Finish,
}

/// What a task needs of a language model. Blocks.
pub trait Complete {
    /// Generates text. `each` sees it as it comes.
    ///
    /// # Errors
    /// Whatever stands in the way of an answer.
    fn complete(&self, call: &Call, each: &mut dyn FnMut(&str)) -> Result<Completion, Fault>;

    /// How likely each of these would be as the whole answer, in their order.
    ///
    /// # Errors
    /// As [`Complete::complete`].
    fn score(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault>;

    /// As [`Complete::score`], of messages that hold nothing of the input: what came before may be given again.
    ///
    /// # Errors
    /// As [`Complete::complete`].
    fn baseline(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        self.score(messages, options)
    }

    /// Tokens of the prompt that these messages make.
    ///
    /// # Errors
    /// As [`Complete::complete`].
    fn count(&self, messages: &[Message]) -> Result<u32, Fault>;

    /// Tokens that prompt and answer may have together.
    ///
    /// # Errors
    /// As [`Complete::complete`].
    fn window(&self) -> Result<u32, Fault>;

    /// Of the model, to choose its prompt by.
    ///
    /// # Errors
    /// When there is no model.
    fn parameters(&self) -> Result<u64, Fault>;
}
