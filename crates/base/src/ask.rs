//! What a caller wants from a language model, valid by construction.

use crate::fault::{Code, Fault};
use crate::shape::{OnLoop, Onset, Shape};
use crate::tools::{self, Thinking, ToolCall, Toolbox};
use serde::{Deserialize, Serialize};

/// Identity of one ask within one daemon's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub u64);

/// The program that asks. State of one app is never readable through another's ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppId(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The word that chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
    /// What the model thought before it said this; empty: nothing, or nothing that was kept.
    #[serde(default)]
    pub reasoning: String,
    /// Tools that the assistant called here.
    #[serde(default)]
    pub calls: Vec<ToolCall>,
    /// Of a tool's result: the call that it answers.
    #[serde(default)]
    pub call_id: String,
    /// Of a tool's result: the tool.
    #[serde(default)]
    pub name: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let (reasoning, calls, call_id, name) = Default::default();
        Self { role, content: content.into(), reasoning, calls, call_id, name }
    }

    /// Every text in it, in bytes.
    pub fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        let own = [&self.content, &self.reasoning, &self.call_id, &self.name];
        own.into_iter().map(String::len).chain(calls).sum()
    }
}

/// Sampling parameters; the field's usual names and ranges. `None` of `seed` draws one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 means greedy.
    pub temperature: f32,
    /// 0 means off.
    pub top_k: u32,
    /// 1.0 means off.
    pub top_p: f32,
    /// 0.0 means off.
    pub min_p: f32,
    /// 1.0 means off.
    pub typical_p: f32,
    /// 1.0 means off.
    pub repeat_penalty: f32,
    /// Tokens looked back at by the penalties.
    pub penalty_last_n: u32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub seed: Option<u32>,
    /// Token id to added logit, in -100..=100.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            penalty_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most tokens to generate; `None`: what the context window leaves.
    pub tokens_max: Option<u32>,
    /// Wall time from submission to the last token.
    pub deadline_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    #[default]
    Interactive,
    Batch,
}

/// What to do with a prompt that doesn't fit the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Refuse it with both numbers.
    #[default]
    Error,
    /// Leave out the oldest turns, as few as will do, and say so. System text and the last turn of the user stay.
    Compact,
}

/// An adapter to answer with, and how much of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterChoice {
    /// As the person typed it.
    pub name: String,
    /// 1 is as it was trained; 0 is without it.
    pub scale: f32,
}

/// One request for generated text. Build it with [`Ask::new`], which checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub app: AppId,
    /// The model as the person typed it; empty means the default chat model.
    pub model: String,
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub limits: Limits,
    pub priority: Priority,
    pub overflow: Overflow,
    /// Beside those that the model's name holds (`base+adapter`).
    pub adapters: Vec<AdapterChoice>,
    /// What the model may call; set with [`Ask::with_tools`], which checks it.
    pub toolbox: Toolbox,
    pub thinking: Thinking,
    /// What form the answer must have, and where in it that begins.
    pub shape: Shape,
    pub onset: Onset,
    pub on_loop: OnLoop,
    /// Whether its tokens may be guessed ahead, where that measures faster. The text is the same.
    pub drafts: bool,
}

/// More stop strings than any client sends; each costs a scan per token.
pub const STOP_MAX: usize = 16;
/// LIMIT: beyond every window; what lies behind can't be looked back at anyway.
pub const LOOK_BACK_TOKENS_MAX: u32 = 1 << 20;

impl Ask {
    /// Checks every parameter's range.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] that names the field, the value and the legal range.
    pub fn new(
        app: AppId,
        model: String,
        mut messages: Vec<Message>,
        sampling: Sampling,
        stop: Vec<String>,
        limits: Limits,
    ) -> Result<Self, Fault> {
        if messages.is_empty() {
            return Err(invalid("messages", "is empty", "send at least one message"));
        }
        let ranges: [(&str, f32, f32, f32); 8] = [
            ("temperature", sampling.temperature, 0.0, 5.0),
            ("top_p", sampling.top_p, 0.0, 1.0),
            ("min_p", sampling.min_p, 0.0, 1.0),
            ("typical_p", sampling.typical_p, 0.0, 1.0),
            ("repeat_penalty", sampling.repeat_penalty, 0.01, 10.0),
            ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
            ("logit_bias", sampling.logit_bias.iter().map(|(_, bias)| bias.abs()).fold(0.0, f32::max), 0.0, 100.0),
        ];
        for (field, value, low, high) in ranges {
            if !value.is_finite() || value < low || value > high {
                return Err(invalid(field, &format!("is {value}"), &format!("use a value from {low} to {high}")));
            }
        }
        if sampling.penalty_last_n > LOOK_BACK_TOKENS_MAX {
            let hint = format!("use a value from 0 to {LOOK_BACK_TOKENS_MAX}");
            return Err(invalid("repeat_last_n", &format!("is {}", sampling.penalty_last_n), &hint));
        }
        if stop.len() > STOP_MAX {
            return Err(invalid("stop", &format!("holds {} strings", stop.len()), &format!("send at most {STOP_MAX}")));
        }
        if stop.iter().any(String::is_empty) {
            return Err(invalid("stop", "holds an empty string", "leave empty strings out"));
        }
        if limits.tokens_max == Some(0) {
            return Err(invalid("max_tokens", "is 0", "ask for at least one token"));
        }
        tools::match_results(&mut messages)?;
        let (priority, overflow, adapters) = Default::default();
        let (shape, onset, on_loop, toolbox, thinking) = Default::default();
        Ok(Self {
            app,
            model,
            messages,
            sampling,
            stop,
            limits,
            priority,
            overflow,
            adapters,
            shape,
            onset,
            on_loop,
            drafts: true,
            toolbox,
            thinking,
        })
    }

    /// The same with tools.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] that names the tool or the choice.
    pub fn with_tools(self, toolbox: Toolbox) -> Result<Self, Fault> {
        toolbox.check()?;
        Ok(Self { toolbox, ..self })
    }
}

fn invalid(field: &str, what: &str, hint: &str) -> Fault {
    Fault::new(Code::InvalidAsk, format!("`{field}` {what}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(sampling: Sampling, stop: Vec<String>, limits: Limits) -> Result<Ask, Fault> {
        let messages = vec![Message::new(Role::User, "hello")];
        Ask::new(AppId("test".into()), String::new(), messages, sampling, stop, limits)
    }

    #[test]
    fn refuses_what_is_out_of_range_and_names_it() {
        let hot = Sampling { temperature: 9.0, ..Sampling::default() };
        let nan = Sampling { top_p: f32::NAN, ..Sampling::default() };
        let bias = Sampling { logit_bias: vec![(1, -101.0)], ..Sampling::default() };
        let far = Sampling { penalty_last_n: LOOK_BACK_TOKENS_MAX + 1, ..Sampling::default() };
        for (sampling, stop, limits, names) in [
            (far, vec![], Limits::default(), "repeat_last_n"),
            (hot, vec![], Limits::default(), "temperature"),
            (nan, vec![], Limits::default(), "top_p"),
            (bias, vec![], Limits::default(), "logit_bias"),
            (Sampling::default(), vec![String::new()], Limits::default(), "stop"),
            (Sampling::default(), vec!["x".into(); 17], Limits::default(), "stop"),
            (Sampling::default(), vec![], Limits { tokens_max: Some(0), deadline_ms: None }, "max_tokens"),
        ] {
            let fault = ask(sampling, stop, limits).expect_err(names);
            assert_eq!(fault.code, Code::InvalidAsk);
            assert!(fault.message.contains(names), "{fault:?}");
            assert!(!fault.hints.is_empty());
        }
        let whole = Sampling { penalty_last_n: LOOK_BACK_TOKENS_MAX, ..Sampling::default() };
        assert!(ask(whole, vec!["\n".into()], Limits::default()).is_ok());
    }
}
