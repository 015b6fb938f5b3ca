//! One run of a task: what it asked of the model, and what it has to say about that.

use crate::plan;
use crate::prompt::{self, Prompt};
use crate::{Call, Complete, Completion};
use base::{Code, Fault, Finish, Likelihood, Message, Role, Shape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The sampler of a second try, when greedy words went round in circles.
const SECOND_TEMPERATURE: f32 = 0.5;

/// Into what a text was taken to be worked through. Every byte of it is in one part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Parts of the text itself.
    pub parts: u32,
    /// Times that the text, or what was made of it, was gone through: 1, and one more for each joining of parts.
    pub passes: u32,
    /// Tokens of the text; `None` where it surely fits without counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// Calls of the model, with those that were tried again.
    pub calls: u32,
}

/// How a task goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// How the text will be worked through; said before the first call.
    Plan(Plan),
    /// Parts that are done.
    Progress { done: u32, total: u32 },
    /// Text of the result, in its order.
    Text(String),
}

pub(crate) struct Work<'a> {
    model: &'a dyn Complete,
    each: &'a mut dyn FnMut(Step),
    pub(crate) plan: Plan,
    pub(crate) notices: Vec<String>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(model: &'a dyn Complete, each: &'a mut dyn FnMut(Step)) -> Self {
        Self { model, each, plan: Plan::default(), notices: Vec::new() }
    }

    pub(crate) fn tier(&self, task: &str, variant: &str) -> Result<&'static prompt::Tier, Fault> {
        prompt::tier(task, variant, self.model.parameters()?)
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.notices.push(text.into());
    }

    /// Hands out text of the result.
    pub(crate) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            (self.each)(Step::Text(text.to_owned()));
        }
    }

    pub(crate) fn progress(&mut self, done: usize, total: usize) {
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (self.each)(Step::Progress { done: number(done), total: number(total) });
    }

    /// Says how the text will be worked through.
    pub(crate) fn declare(&mut self, parts: usize, tokens: Option<u32>) {
        self.plan.parts = u32::try_from(parts).unwrap_or(u32::MAX);
        self.plan.tokens = tokens;
        self.plan.passes = 1;
        (self.each)(Step::Plan(self.plan));
    }

    /// Generates; an answer that went round in circles or found no end is tried once more with another sampler.
    pub(crate) fn complete(
        &mut self,
        messages: Vec<Message>,
        shape: Shape,
        tokens_max: u32,
    ) -> Result<Completion, Fault> {
        let mut call = Call { messages, shape, tokens_max, temperature: 0.0 };
        let first = self.call(&call)?;
        if !unfinished(first.finish) {
            return Ok(first);
        }
        call.temperature = SECOND_TEMPERATURE;
        self.call(&call)
    }

    fn call(&mut self, call: &Call) -> Result<Completion, Fault> {
        self.plan.calls += 1;
        let done = self.model.complete(call, &mut |_| {})?;
        if done.finish == Finish::Cancelled {
            return Err(Fault::new(Code::Cancelled, "the task was cancelled"));
        }
        Ok(done)
    }

    pub(crate) fn score(&mut self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        self.plan.calls += 1;
        self.model.score(messages, options)
    }

    pub(crate) fn baseline(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        self.model.baseline(messages, options)
    }

    /// Parts of `text` that each fit the window together with the prompt and an answer of `answer_tokens`. Counts
    /// only where it isn't plain that all fits: a token is never less than a byte.
    pub(crate) fn parts(
        &mut self,
        prompt: &Prompt<'_>,
        text: &str,
        answer_tokens: u32,
    ) -> Result<(Vec<Range<usize>>, Option<u32>), Fault> {
        let window = self.model.window()?;
        let empty = prompt.messages("");
        let bytes: usize = empty.iter().map(|message| message.content.len() + TURN_TOKENS_SOME).sum();
        let own = prompt.part_tokens_max.unwrap_or(u32::MAX);
        let sure = |room: u32| text.len() <= room as usize;
        let plain = u64::from(window).saturating_sub(u64::from(answer_tokens) + bytes as u64);
        if sure(own.min(u32::try_from(plain).unwrap_or(u32::MAX))) {
            return Ok((whole(text), None));
        }
        let around = self.model.count(&empty)?;
        let room = window.saturating_sub(around.saturating_add(answer_tokens));
        if room < ROOM_TOKENS_MIN {
            let needed = around.saturating_add(answer_tokens).saturating_add(ROOM_TOKENS_MIN);
            let words = format!("the task's own words and its answer take {needed} tokens of a window of {window}");
            return Err(Fault::new(Code::ContextOverflow, words)
                .shortage(needed, window)
                .hint("use fewer or shorter options, or a model with a larger window"));
        }
        let room = room.min(own);
        let model = self.model;
        let one = |text: &str| vec![Message::new(Role::User, text)];
        // What a template puts around a message is in both counts; that is on the safe side.
        let mut count = |text: &str| model.count(&one(text));
        let tokens = count(text)?;
        if tokens <= room {
            return Ok((whole(text), Some(tokens)));
        }
        Ok((plan::parts(text, room, &mut count)?, Some(tokens)))
    }
}

/// LIMIT: with less room than this a part is no more than a few words.
const ROOM_TOKENS_MIN: u32 = 64;
/// What a template puts around one turn, on the safe side.
const TURN_TOKENS_SOME: usize = 64;

fn whole(text: &str) -> Vec<Range<usize>> {
    std::iter::once(0..text.len()).collect()
}

/// Whether an answer stopped before the model meant to.
pub(crate) fn unfinished(finish: Finish) -> bool {
    matches!(finish, Finish::Length | Finish::StructureIncomplete | Finish::Loop)
}

/// Tokens that a text of so many bytes surely doesn't exceed much, for bounds on answers of about its length.
pub(crate) fn tokens_about(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// A task that the model failed at.
pub(crate) fn failed(words: impl Into<String>) -> Fault {
    Fault::new(Code::TaskFailed, words).hint("try it again, or with a larger model: `--model NAME`")
}
