//! How likely some texts are as the answer, without generating one.

use crate::answer::Usage;
use crate::ask::{AdapterChoice, AppId, Limits, Message, Priority};
use crate::fault::{Code, Fault};
use crate::shape::check_choices;
use serde::{Deserialize, Serialize};

/// A request for the likelihood of each of some options. Build it with [`Score::new`], which checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub app: AppId,
    /// The model as the person typed it; empty means the default chat model.
    pub model: String,
    pub messages: Vec<Message>,
    /// Answers to judge, each as the model would have to write it.
    pub options: Vec<String>,
    /// Judge each option as the whole answer: that the model ends its turn behind it counts too. Then the
    /// likelihoods of all possible answers come to 1, and what the options leave of it is that of any other.
    pub whole: bool,
    /// Of these, the deadline counts.
    pub limits: Limits,
    pub priority: Priority,
    /// Beside those that the model's name holds (`base+adapter`).
    pub adapters: Vec<AdapterChoice>,
}

impl Score {
    /// Of whole answers, as batch work.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] without messages or options, with too many of them, an empty one or the same one twice.
    pub fn new(app: AppId, model: String, messages: Vec<Message>, options: Vec<String>) -> Result<Self, Fault> {
        if messages.is_empty() {
            return Err(Fault::new(Code::InvalidAsk, "`messages` is empty").hint("send at least one message"));
        }
        check_choices(&options)?;
        let (limits, adapters) = Default::default();
        Ok(Self { app, model, messages, options, whole: true, limits, priority: Priority::Batch, adapters })
    }
}

/// How likely one option is behind the messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Natural logarithm of its probability: the sum over its tokens.
    pub log: f64,
    /// Tokens that the sum is over, with the end of the turn where it counts.
    pub tokens: u32,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// In the order of the options.
    pub options: Vec<Likelihood>,
    /// `completion_tokens` are those of the options.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Role;

    #[test]
    fn a_score_without_something_to_judge_is_refused() {
        let score = |messages, options: &[&str]| {
            let options = options.iter().map(ToString::to_string).collect();
            Score::new(AppId("test".into()), String::new(), messages, options)
        };
        let message = || vec![Message::new(Role::User, "which?")];
        assert!(score(message(), &["a", "b"]).unwrap().whole);
        for refused in [score(vec![], &["a"]), score(message(), &[]), score(message(), &["a", "a"])] {
            assert_eq!(refused.unwrap_err().code, Code::InvalidAsk);
        }
    }
}
