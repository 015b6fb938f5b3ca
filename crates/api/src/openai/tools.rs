//! Tools, calls, results and thoughts in a chat request's body.

use crate::field::{Fields, invalid, kind, wrong};
use crate::reply::Refusal;
use base::{Ask, Code, Fault, Thinking, Tool, ToolCall, ToolChoice, Toolbox};
use serde_json::{Map, Value};

/// Variables that a template gets from the conversation alone.
const OWN_VARIABLES: [&str; 5] = ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"];

pub(super) fn toolbox(fields: &Fields<'_>) -> Result<Toolbox, Refusal> {
    refuse_functions(fields)?;
    let items = fields.list("tools")?.unwrap_or_default();
    let tools =
        items.iter().enumerate().map(|(n, item)| tool(item, format!("tools[{n}]"))).collect::<Result<_, _>>()?;
    let (choice, allowed) = choice(fields)?;
    let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Ok(Toolbox { tools, choice, allowed, parallel })
}

/// A free answer may be a call, and one that is kept to a shape can't.
pub(super) fn refuse_both(ask: &Ask) -> Result<(), Refusal> {
    if ask.shape.is_free() || ask.toolbox.is_forced() || ask.toolbox.callable().next().is_none() {
        return Ok(());
    }
    let hint = "send `tool_choice` with `none` or `required`, or leave the format out";
    let what = "stands beside `tools`; an answer can be kept to one of them";
    Err(invalid("response_format", what, hint))
}

/// The form before tools: its replies look different, so it isn't silently turned into the other.
fn refuse_functions(fields: &Fields<'_>) -> Result<(), Refusal> {
    let refused = |name: &str, what: &str| {
        let fault = Fault::new(Code::InvalidAsk, format!("`{name}` {what}"));
        Refusal::of(fault.hint("send `tools` and `tool_choice`, which took the place of `functions`"), name)
    };
    if fields.list("functions")?.is_some_and(|items| !items.is_empty()) {
        return Err(refused("functions", "is no longer in use"));
    }
    match fields.get("function_call") {
        None => Ok(()),
        Some(Value::String(word)) if matches!(word.as_str(), "none" | "auto") => Ok(()),
        Some(_) => Err(refused("function_call", "is no longer in use")),
    }
}

fn tool(item: &Value, at: String) -> Result<Tool, Refusal> {
    let fields = Fields::within(item, at)?;
    match fields.text("type")? {
        Some("function") => {}
        Some(other) => {
            let hint = "send tools of the type `function`: others are run by a service, and there is none";
            return Err(invalid(&fields.place("type"), &format!("is `{other}`"), hint));
        }
        None => return Err(invalid(&fields.place("type"), "is missing", "send `\"type\": \"function\"`")),
    }
    let Some(function) = fields.object("function")? else {
        return Err(invalid(&fields.place("function"), "is missing", "send an object with `name` and `parameters`"));
    };
    let Some(name) = function.text("name")? else {
        return Err(invalid(&function.place("name"), "is missing", "send the tool's name"));
    };
    let parameters = match function.get("parameters") {
        None => String::new(),
        Some(schema @ Value::Object(_)) => schema.to_string(),
        Some(other) => return Err(wrong(&function.place("parameters"), "a JSON schema, which is an object", other)),
    };
    let description = function.text("description")?.unwrap_or_default().to_owned();
    Ok(Tool { name: name.to_owned(), description, parameters })
}

fn choice(fields: &Fields<'_>) -> Result<(ToolChoice, Vec<String>), Refusal> {
    let hint = "use `auto`, `none`, `required`, `{\"type\": \"function\", \"function\": {\"name\": …}}` or `{\"type\": \
                \"allowed_tools\", …}`";
    let plain = |choice: ToolChoice| Ok((choice, Vec::new()));
    match fields.get("tool_choice") {
        None => plain(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => plain(ToolChoice::Auto),
            "none" => plain(ToolChoice::None),
            // Mistral's word for it.
            "required" | "any" => plain(ToolChoice::Required),
            other => Err(invalid("tool_choice", &format!("is `{other}`"), hint)),
        },
        Some(value @ Value::Object(_)) => {
            let choice = Fields::within(value, "tool_choice".to_owned())?;
            match choice.text("type")? {
                Some("function") => plain(ToolChoice::Named(name_of(value, "tool_choice".to_owned())?)),
                Some("allowed_tools") => allowed(&choice),
                Some(other) => Err(invalid("tool_choice.type", &format!("is `{other}`"), hint)),
                None => Err(invalid("tool_choice.type", "is missing", hint)),
            }
        }
        Some(other) => Err(invalid("tool_choice", &format!("is {}", kind(other)), hint)),
    }
}

/// `{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": […]}}`, or the same without the inner object.
fn allowed(choice: &Fields<'_>) -> Result<(ToolChoice, Vec<String>), Refusal> {
    let inner = choice.object("allowed_tools")?;
    let fields = inner.as_ref().unwrap_or(choice);
    let mode = match fields.text("mode")? {
        None | Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        Some(other) => {
            return Err(invalid(&fields.place("mode"), &format!("is `{other}`"), "use `auto` or `required`"));
        }
    };
    let Some(items) = fields.list("tools")?.filter(|items| !items.is_empty()) else {
        return Err(invalid(&fields.place("tools"), "names no tool", "name those that may be called"));
    };
    let names = items.iter().enumerate().map(|(n, item)| name_of(item, fields.place(&format!("tools[{n}]"))));
    Ok((mode, names.collect::<Result<_, _>>()?))
}

/// The name in `{"type": "function", "function": {"name": …}}`, or in the same without the inner object.
fn name_of(value: &Value, at: String) -> Result<String, Refusal> {
    let fields = Fields::within(value, at)?;
    let inner = fields.object("function")?;
    let fields = inner.as_ref().unwrap_or(&fields);
    match fields.text("name")? {
        Some(name) => Ok(name.to_owned()),
        None => Err(invalid(&fields.place("name"), "is missing", "send the tool's name")),
    }
}

/// The calls in a message of the assistant's. `n`: the message's place.
pub(super) fn calls(fields: &Fields<'_>, n: usize) -> Result<Vec<ToolCall>, Refusal> {
    let mut calls = Vec::new();
    for (k, item) in fields.list("tool_calls")?.unwrap_or_default().iter().enumerate() {
        let call = Fields::within(item, fields.place(&format!("tool_calls[{k}]")))?;
        let id = call.text("id")?.unwrap_or_default().to_owned();
        let Some(function) = call.object("function")? else {
            let hint = "send the call as it came in the answer";
            return Err(invalid(&call.place("function"), "is missing", hint));
        };
        calls.push(called(&function, id)?);
    }
    if let Some(function) = fields.object("function_call")? {
        calls.push(called(&function, format!("function_call_{n}"))?);
    }
    Ok(calls)
}

fn called(function: &Fields<'_>, id: String) -> Result<ToolCall, Refusal> {
    let name = function.text("name")?.unwrap_or_default().to_owned();
    let arguments = match function.get("arguments") {
        None => "{}".to_owned(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(other) => return Err(wrong(&function.place("arguments"), "the text of a JSON object", other)),
    };
    Ok(ToolCall { id, name, arguments })
}

/// What the model thought, by the names that servers give it.
pub(super) fn reasoning(fields: &Fields<'_>) -> Result<String, Refusal> {
    for name in ["reasoning_content", "reasoning", "thinking"] {
        if let Some(Value::String(text)) = fields.get(name) {
            return Ok(text.clone());
        }
    }
    Ok(String::new())
}

pub(super) fn thinking(fields: &Fields<'_>) -> Result<Thinking, Refusal> {
    let mut kwargs: Map<String, Value> = match fields.object("chat_template_kwargs")? {
        None => Map::new(),
        Some(kwargs) => kwargs.entries().map(|(name, value)| (name.clone(), value.clone())).collect(),
    };
    if let Some(name) = OWN_VARIABLES.iter().find(|name| kwargs.contains_key(**name)) {
        let place = format!("chat_template_kwargs.{name}");
        return Err(invalid(&place, "is made from the conversation", "leave it out"));
    }
    let mut enabled = fields.flag("enable_thinking")?;
    for name in ["enable_thinking", "thinking"] {
        if let Some(Value::Bool(flag)) = kwargs.get(name) {
            enabled = Some(*flag);
        }
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        let (thinks, word) = match effort {
            "none" => (false, None),
            "minimal" => (false, Some("low")),
            "low" | "medium" | "high" => (true, Some(effort)),
            "xhigh" | "max" => (true, Some("high")),
            other => {
                let hint = "use none, minimal, low, medium, high, xhigh or max";
                return Err(invalid("reasoning_effort", &format!("is `{other}`"), hint));
            }
        };
        enabled = enabled.or(Some(thinks));
        if let Some(word) = word {
            kwargs.entry("reasoning_effort").or_insert_with(|| Value::from(word));
        }
    }
    let budget_tokens = fields.count("thinking_budget_tokens")?;
    let template_kwargs = if kwargs.is_empty() { String::new() } else { Value::Object(kwargs).to_string() };
    Ok(Thinking { enabled, budget_tokens, template_kwargs })
}
