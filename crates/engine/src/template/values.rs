//! What a template sees of a conversation: the values that Hugging Face's renderer would give it.

use base::{Message, Role, Tool, ToolCall};
use minijinja::Value;
use minijinja::value::ValueKind;

/// Where templates differ in what they can read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Arguments of calls as the text that the model wrote, not as the object that it stands for.
    pub(super) text_arguments: bool,
    /// A message without text has `none` for it where it has calls.
    pub(super) null_content: bool,
    /// Thoughts stand in `thinking` too, and a message with calls says in words nothing beside them.
    pub(super) thinking: bool,
    /// One call in each message, its result behind it.
    pub(super) single_calls: bool,
    /// The system's text stands at the head of the first message that follows.
    pub(super) no_system: bool,
}

impl Form {
    /// What a template's own words say.
    pub(super) fn of(source: &str) -> Self {
        let has = |words: &str| source.contains(words);
        Self {
            text_arguments: false,
            null_content: has("message['content'] is none") && has("'tool_calls'"),
            thinking: has("message.thinking"),
            // It takes the first call of a message for the only one, and would drop the others.
            single_calls: has("message.tool_calls[0]") && !has("for tool_call in message.tool_calls"),
            no_system: false,
        }
    }
}

/// The messages in the order in which the template may have them.
pub(super) fn arranged(messages: &[Message], form: Form) -> Vec<Message> {
    let mut arranged = if form.single_calls { one_call_each(messages) } else { messages.to_vec() };
    if form.no_system && arranged.len() > 1 && arranged[0].role == Role::System {
        let system = arranged.remove(0);
        arranged[0].content = format!("{}\n\n{}", system.content, arranged[0].content);
    }
    if form.thinking {
        for message in arranged.iter_mut().filter(|message| !message.calls.is_empty()) {
            let said = std::mem::take(&mut message.content);
            message.reasoning = [message.reasoning.as_str(), said.as_str()].join("\n").trim_matches('\n').to_owned();
        }
    }
    arranged
}

fn one_call_each(messages: &[Message]) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut moved = vec![false; messages.len()];
    for (n, message) in messages.iter().enumerate() {
        if moved[n] {
            continue;
        }
        if message.calls.len() < 2 {
            out.push(message.clone());
            continue;
        }
        for (k, call) in message.calls.iter().enumerate() {
            let calls = vec![call.clone()];
            out.push(if k == 0 {
                Message { calls, ..message.clone() }
            } else {
                Message { calls, ..Message::new(Role::Assistant, "") }
            });
            let result = messages.iter().enumerate().skip(n + 1).find(|(_, later)| later.call_id == call.id);
            if let Some((place, result)) = result {
                moved[place] = true;
                out.push(result.clone());
            }
        }
    }
    out
}

pub(super) fn messages(messages: &[Message], form: Form) -> Value {
    messages.iter().map(|message| self::message(message, form)).collect()
}

fn message(message: &Message, form: Form) -> Value {
    let Message { role, content, reasoning, calls, call_id, name } = message;
    let content = match content.as_str() {
        "" if form.null_content && !calls.is_empty() => Value::from(()),
        text => Value::from(text),
    };
    let mut pairs = vec![("role", Value::from(role.as_str())), ("content", content)];
    if !reasoning.is_empty() {
        pairs.push(("reasoning_content", Value::from(reasoning.as_str())));
        if form.thinking {
            pairs.push(("thinking", Value::from(reasoning.as_str())));
        }
    }
    if !calls.is_empty() {
        pairs.push(("tool_calls", calls.iter().map(|call| self::call(call, form)).collect()));
    }
    for (key, text) in [("tool_call_id", call_id), ("name", name)] {
        if !text.is_empty() {
            pairs.push((key, Value::from(text.as_str())));
        }
    }
    pairs.into_iter().collect()
}

fn call(call: &ToolCall, form: Form) -> Value {
    let arguments = match json(&call.arguments) {
        Some(object) if object.kind() == ValueKind::Map && !form.text_arguments => object,
        // What a model wrote badly stays as it wrote it.
        Some(_) | None => Value::from(call.arguments.as_str()),
    };
    let function: Value = [("name", Value::from(call.name.as_str())), ("arguments", arguments)].into_iter().collect();
    let id = Value::from(call.id.as_str());
    [("id", id), ("type", Value::from("function")), ("function", function)].into_iter().collect()
}

/// `none` when there are no tools.
pub(super) fn tools(tools: &[Tool]) -> Value {
    if tools.is_empty() { Value::from(()) } else { tools.iter().map(tool).collect() }
}

/// A tool as templates and small models know it.
pub(super) fn tool(tool: &Tool) -> Value {
    let nothing = || -> Value {
        let properties = Value::from_iter(std::iter::empty::<(&str, Value)>());
        [("type", Value::from("object")), ("properties", properties)].into_iter().collect()
    };
    let parameters = json(&tool.parameters).filter(|schema| schema.kind() == ValueKind::Map).unwrap_or_else(nothing);
    let pairs = [
        ("name", Value::from(tool.name.as_str())),
        ("description", Value::from(tool.description.as_str())),
        ("parameters", parameters),
    ];
    let function: Value = pairs.into_iter().collect();
    [("type", Value::from("function")), ("function", function)].into_iter().collect()
}

/// A JSON text with its keys in their order.
pub(super) fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Words that templates compare with their own: what `role` can be.
const ROLES: [&str; 6] = ["system", "user", "assistant", "tool", "developer", "function"];
/// What `type` can be, of a tool and of a JSON Schema.
const TYPES: [&str; 8] = ["function", "string", "number", "integer", "boolean", "array", "object", "null"];

/// The same value with `change` made to every text in it but the words that name roles and types, which templates
/// compare with their own. Only these very words are left alone: anybody can write anything under such a key.
pub(super) fn with_texts(value: &Value, change: &mut dyn FnMut(&str) -> String) -> Value {
    with_texts_but(&[], value, change)
}

/// `known`: words that are left alone where they are this value, or an item of it.
fn with_texts_but(known: &[&str], value: &Value, change: &mut dyn FnMut(&str) -> String) -> Value {
    match value.kind() {
        ValueKind::String => match value.as_str().unwrap_or_default() {
            word if known.contains(&word) => value.clone(),
            text => Value::from(change(text)),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            items.iter().map(|item| with_texts_but(known, item, change)).collect()
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            let pair = |key: &Value| {
                let item = value.get_item(key).unwrap_or_default();
                let known: &[&str] = match key.as_str() {
                    Some("role") => &ROLES,
                    Some("type") => &TYPES,
                    _ => &[],
                };
                let item = with_texts_but(known, &item, change);
                let key = key.as_str().map_or_else(|| key.clone(), |text| Value::from(change(text)));
                (key, item)
            };
            keys.iter().map(pair).collect()
        }
        _ => value.clone(),
    }
}
