//! Tools that a model may call, the calls it made, and how it may think. Plain data; [`crate::Ask`] checks it.

mod forced;

use crate::ask::{Message, Role};
use crate::fault::{Code, Fault};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A function that the caller runs when the model asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// JSON text of the schema of the object that it takes; empty: it takes nothing.
    #[serde(default)]
    pub parameters: String,
}

/// Whether the model may, must or must not call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// It answers in words, and is told of the tools all the same.
    None,
    /// At least one, of its choice.
    Required,
    /// This one, once.
    Named(String),
}

/// The tools of one ask and what may be done with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Toolbox {
    pub tools: Vec<Tool>,
    pub choice: ToolChoice,
    /// Of the tools, those that may be called now; empty: all. The model is told of all of them, so that the
    /// prompt stays the same from turn to turn.
    pub allowed: Vec<String>,
    /// Several calls in one answer.
    pub parallel: bool,
}

impl Default for Toolbox {
    fn default() -> Self {
        Self { tools: Vec::new(), choice: ToolChoice::Auto, allowed: Vec::new(), parallel: true }
    }
}

impl Toolbox {
    /// Tools that may be called now.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        let choice = &self.choice;
        self.tools.iter().filter(move |tool| match choice {
            ToolChoice::None => false,
            ToolChoice::Named(name) => *name == tool.name,
            ToolChoice::Auto | ToolChoice::Required => self.allowed.is_empty() || self.allowed.contains(&tool.name),
        })
    }

    /// Whether the answer must be a call.
    pub fn is_forced(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.tools.len() > TOOLS_MAX {
            let words = format!("`tools` holds {} tools", self.tools.len());
            return Err(Fault::new(Code::InvalidAsk, words).hint(format!("send at most {TOOLS_MAX}")));
        }
        let mut names = BTreeSet::new();
        for (n, tool) in self.tools.iter().enumerate() {
            if !is_name(&tool.name) {
                let words = format!("`tools[{n}].function.name` is `{}`", tool.name);
                let hint = format!("use 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-`, `.`, `:` and `/`");
                return Err(Fault::new(Code::InvalidAsk, words).hint(hint));
            }
            if !names.insert(tool.name.as_str()) {
                let words = format!("`tools[{n}].function.name` is `{}` a second time", tool.name);
                return Err(Fault::new(Code::InvalidAsk, words).hint("give each tool a name of its own"));
            }
        }
        let wanted = match &self.choice {
            ToolChoice::Named(name) => std::slice::from_ref(name),
            ToolChoice::Required if self.tools.is_empty() => {
                let fault = Fault::new(Code::InvalidAsk, "`tool_choice` wants a call, and there are no `tools`");
                return Err(fault.hint("send `tools`, or leave `tool_choice` out"));
            }
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => &[],
        };
        match wanted.iter().chain(&self.allowed).find(|name| !names.contains(name.as_str())) {
            None => self.check_call_schema(),
            Some(name) => {
                Err(Fault::new(Code::InvalidAsk, format!("`tool_choice` names `{name}`, which isn't in `tools`"))
                    .hint("name one of the tools that are sent along"))
            }
        }
    }

    /// A call that must be made is bounded as every other shape of an answer is.
    fn check_call_schema(&self) -> Result<(), Fault> {
        let Some(schema) = self.call_schema(forced::LONGEST_KEY) else { return Ok(()) };
        Shape::json_schema(schema).map(drop).map_err(|fault| Fault {
            message: format!("`tool_choice` wants a call of `tools`: {}", fault.message),
            ..fault
        })
    }
}

/// LIMIT: tools of one ask; the largest agents send some hundred.
pub const TOOLS_MAX: usize = 512;
/// LIMIT: of a tool's name.
pub const NAME_BYTES_MAX: usize = 128;

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(known)
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// As the model wrote them: JSON text of an object, where it did well.
    pub arguments: String,
}

/// A piece of a call as it comes. The first piece of each call has its id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPiece {
    /// Which call of this answer, from 0.
    pub index: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    pub arguments: String,
}

/// How a model that can think apart from its answer should do that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thinking {
    /// `None`: as the model's template does by itself.
    pub enabled: Option<bool>,
    /// Tokens after which a thought is ended and the answer begins; `None`: no bound but the ask's own.
    pub budget_tokens: Option<u32>,
    /// JSON text of an object: further variables for the model's template; empty: none.
    pub template_kwargs: String,
}

/// Sees that each tool's result answers a call that was made before it, and gives it that call's name.
///
/// # Errors
/// [`Code::InvalidAsk`] with the message's place.
pub(crate) fn match_results(messages: &mut [Message]) -> Result<(), Fault> {
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (n, message) in messages.iter_mut().enumerate() {
        if message.role != Role::Tool {
            if !message.calls.is_empty() && message.role != Role::Assistant {
                let words = format!("`messages[{n}].tool_calls` stands in a message of the {}", message.role.as_str());
                return Err(Fault::new(Code::InvalidAsk, words).hint("only the assistant calls tools"));
            }
            for (k, call) in message.calls.iter().enumerate() {
                let place = format!("messages[{n}].tool_calls[{k}]");
                if call.id.is_empty() || call.name.is_empty() {
                    let field = if call.id.is_empty() { "id" } else { "function.name" };
                    let fault = Fault::new(Code::InvalidAsk, format!("`{place}.{field}` is empty"));
                    return Err(fault.hint("send the call as it came in the answer"));
                }
                if open.insert(call.id.clone(), call.name.clone()).is_some() {
                    let fault = Fault::new(Code::InvalidAsk, format!("`{place}.id` is `{}` a second time", call.id));
                    return Err(fault.hint("give each call an id of its own"));
                }
                all.insert(call.id.clone());
            }
            continue;
        }
        let place = format!("`messages[{n}].tool_call_id`");
        if message.call_id.is_empty() {
            // Some clients leave it out where there is only one call that it can belong to.
            let mut named = open.iter().filter(|(_, name)| message.name.is_empty() || message.name == **name);
            match (named.next(), named.next()) {
                (Some((id, _)), None) => message.call_id = id.clone(),
                (Some(_), Some(_)) | (None, _) => {
                    let words = format!("{place} is missing, and {} calls wait for a result", open.len());
                    let hint = "send the id of the call that this is the result of";
                    return Err(Fault::new(Code::InvalidAsk, words).hint(hint));
                }
            }
        }
        match open.remove(&message.call_id) {
            Some(name) => message.name = name,
            None => {
                let id = &message.call_id;
                let what = if all.contains(id) { "was answered already" } else { "was never called" };
                let hint = "send the assistant's message with this call in `tool_calls` before its result";
                return Err(Fault::new(Code::InvalidAsk, format!("{place} is `{id}`, which {what}")).hint(hint));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::SHAPE_BYTES_MAX;

    fn tool(name: &str) -> Tool {
        Tool { name: name.into(), description: String::new(), parameters: String::new() }
    }

    fn call(id: &str, name: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: "{}".into() }
    }

    fn said(calls: Vec<ToolCall>) -> Message {
        Message { calls, ..Message::new(Role::Assistant, "") }
    }

    fn result(id: &str) -> Message {
        Message { call_id: id.into(), ..Message::new(Role::Tool, "42") }
    }

    #[test]
    fn a_toolbox_is_refused_with_what_is_wrong() {
        let two = || vec![tool("a"), tool("b")];
        for (toolbox, words) in [
            (Toolbox { tools: vec![tool("a b")], ..Toolbox::default() }, "tools[0].function.name"),
            (Toolbox { tools: vec![tool("")], ..Toolbox::default() }, "tools[0].function.name"),
            (Toolbox { tools: vec![tool("a"), tool("a")], ..Toolbox::default() }, "second time"),
            (Toolbox { tools: two(), choice: ToolChoice::Named("c".into()), ..Toolbox::default() }, "`c`"),
            (Toolbox { tools: two(), allowed: vec!["d".into()], ..Toolbox::default() }, "`d`"),
            (Toolbox { choice: ToolChoice::Required, ..Toolbox::default() }, "no `tools`"),
            (Toolbox { tools: vec![tool("a"); TOOLS_MAX + 1], ..Toolbox::default() }, "holds 513"),
        ] {
            let fault = toolbox.check().expect_err(words);
            assert!(fault.message.contains(words) && !fault.hints.is_empty(), "{fault:?}");
        }
        let fine = Toolbox { tools: two(), allowed: vec!["b".into()], ..Toolbox::default() };
        assert_eq!(fine.check(), Ok(()));
    }

    #[test]
    fn the_schema_of_a_call_that_must_be_made_is_bounded() {
        let big = |name: &str, bytes: usize| {
            let parameters = format!(r#"{{"description": "{}"}}"#, "x".repeat(bytes));
            Tool { parameters, ..tool(name) }
        };
        let halves = || vec![big("a", SHAPE_BYTES_MAX / 2), big("b", SHAPE_BYTES_MAX / 2)];
        let named = |name: &str| ToolChoice::Named(name.into());
        for (tools, choice) in [
            (vec![big("a", SHAPE_BYTES_MAX)], ToolChoice::Required),
            (vec![big("a", SHAPE_BYTES_MAX), tool("b")], named("a")),
            (halves(), ToolChoice::Required),
        ] {
            let fault = Toolbox { tools, choice, ..Toolbox::default() }.check().expect_err("too large");
            assert_eq!(fault.code, Code::InvalidAsk);
            assert!(fault.message.contains("bytes") && !fault.hints.is_empty(), "{fault:?}");
        }
        // What the answer isn't held to is only text in the prompt.
        for (tools, choice) in [(vec![big("a", SHAPE_BYTES_MAX)], ToolChoice::Auto), (halves(), named("b"))] {
            assert_eq!(Toolbox { tools, choice, ..Toolbox::default() }.check(), Ok(()));
        }
        let more = Toolbox { tools: vec![tool("a"), tool("b")], choice: ToolChoice::Required, ..Toolbox::default() };
        let schemas = ["arguments", forced::LONGEST_KEY].map(|key| more.call_schema(key).map_or(0, |text| text.len()));
        assert!(schemas[0] <= schemas[1]);
    }

    #[test]
    fn what_may_be_called_follows_from_choice_and_list() {
        let names = |choice: ToolChoice, allowed: &[&str]| -> Vec<String> {
            let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
            let toolbox = Toolbox { tools: vec![tool("a"), tool("b")], choice, allowed, parallel: true };
            toolbox.callable().map(|tool| tool.name.clone()).collect()
        };
        assert_eq!(names(ToolChoice::Auto, &[]), ["a", "b"]);
        assert_eq!(names(ToolChoice::Required, &["b"]), ["b"]);
        assert_eq!(names(ToolChoice::Named("a".into()), &[]), ["a"]);
        assert!(names(ToolChoice::None, &[]).is_empty());
    }

    #[test]
    fn results_are_matched_to_their_calls() {
        let user = || Message::new(Role::User, "?");
        let mut messages =
            vec![user(), said(vec![call("1", "add"), call("2", "sub")]), result("2"), result("1"), user()];
        assert_eq!(match_results(&mut messages), Ok(()));
        assert_eq!((messages[2].name.as_str(), messages[3].name.as_str()), ("sub", "add"));
        // The only call that waits.
        let mut messages = vec![user(), said(vec![call("7", "add")]), result("")];
        assert_eq!(match_results(&mut messages), Ok(()));
        assert_eq!((messages[2].call_id.as_str(), messages[2].name.as_str()), ("7", "add"));
    }

    #[test]
    fn what_matches_nothing_is_refused_with_its_place() {
        let user = || Message::new(Role::User, "?");
        let wrong = Message { calls: vec![call("1", "add")], ..user() };
        for (mut messages, words) in [
            (vec![user(), result("9")], "messages[1].tool_call_id"),
            (vec![user(), said(vec![call("1", "a")]), result("9")], "never called"),
            (vec![said(vec![call("1", "a")]), result("1"), result("1")], "answered already"),
            (vec![said(vec![call("1", "a"), call("2", "b")]), result("")], "2 calls wait"),
            (vec![user(), result("")], "0 calls wait"),
            (vec![said(vec![call("1", "a"), call("1", "b")])], "messages[0].tool_calls[1].id"),
            (vec![said(vec![call("", "a")])], "tool_calls[0].id"),
            (vec![said(vec![call("1", "")])], "tool_calls[0].function.name"),
            (vec![wrong], "of the user"),
        ] {
            let fault = match_results(&mut messages).expect_err(words);
            assert_eq!(fault.code, Code::InvalidAsk);
            assert!(fault.message.contains(words) && !fault.hints.is_empty(), "{fault:?}");
        }
    }
}
