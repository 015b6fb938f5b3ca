//! From the body of a chat request to an [`Ask`]: validated once, into another type.
//!
//! What isn't read is ignored, except constraints: a request for a guarantee that Freehold
//! can't give (log probabilities) is refused, never dropped.
//! Parameters that a caller leaves out are `base::Sampling`'s defaults (temperature 0.8, top_k 40,
//! top_p 0.95, min_p 0.05), which are llama.cpp's own; OpenAI's service would take temperature 1.
//!
//! One field is an extension: `priority`. `"batch"` may wait and makes room for others, `"interactive"` (the
//! default) is somebody's question. A whole number, as vLLM has it, is read too: above 0 means batch. Without
//! it, OpenAI's `"service_tier": "flex"` means batch.

use super::{shape, tools};
use crate::caller;
use crate::field::{Fields, invalid, wrong};
use crate::reply::Refusal;
use axum::http::HeaderMap;
use base::{AdapterChoice, Ask, Code, Fault, Limits, Message, Overflow, Priority, Role, Sampling};
use serde_json::{Map, Value};

/// A chat request as it came.
#[derive(Debug)]
pub(crate) struct ChatBody {
    pub(crate) headers: HeaderMap,
    pub(crate) object: Map<String, Value>,
}

/// A chat request that can be answered.
#[derive(Debug)]
pub(crate) struct ChatCall {
    pub(crate) ask: Ask,
    pub(crate) stream: bool,
    /// One more chunk with the usage, at the end of a stream.
    pub(crate) include_usage: bool,
}

impl TryFrom<ChatBody> for ChatCall {
    type Error = Refusal;

    fn try_from(body: ChatBody) -> Result<Self, Refusal> {
        let fields = Fields::top(&body.object);
        refuse_constraints(&fields)?;
        let model = fields.text("model")?.unwrap_or("").to_string();
        let messages = messages(&fields)?;
        let limits = Limits { tokens_max: tokens_max(&fields)?, deadline_ms: None };
        // Some clients send a number; whatever it is, it names nobody here.
        let user = fields.get("user").and_then(Value::as_str);
        let app = caller::app(&body.headers, user);
        let ask = Ask::new(app, model, messages, sampling(&fields)?, stop(&fields)?, limits)?;
        let (priority, overflow, adapters) = (priority(&fields)?, overflow(&fields)?, adapters(&fields)?);
        let (shape, on_loop) = (shape::shape(&fields)?, shape::on_loop(&fields)?);
        let thinking = tools::thinking(&fields)?;
        let drafts = fields.flag("drafts")?.unwrap_or(true);
        let ask = Ask { priority, overflow, adapters, shape, on_loop, drafts, thinking, ..ask };
        let ask = ask.with_tools(tools::toolbox(&fields)?)?;
        tools::refuse_both(&ask)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = match fields.object("stream_options")? {
            Some(options) => options.flag("include_usage")?.unwrap_or(false),
            None => false,
        };
        Ok(Self { ask, stream, include_usage })
    }
}

/// Freehold's own: what to do with a prompt that doesn't fit.
fn overflow(fields: &Fields<'_>) -> Result<Overflow, Refusal> {
    match fields.text("overflow")? {
        None | Some("error") => Ok(Overflow::Error),
        Some("compact") => Ok(Overflow::Compact),
        Some(other) => Err(invalid("overflow", &format!("is `{other}`"), "use `error` or `compact`")),
    }
}

/// Freehold's own: `[{"name": "pirate", "scale": 0.5}]`.
fn adapters(fields: &Fields<'_>) -> Result<Vec<AdapterChoice>, Refusal> {
    let items = fields.list("adapters")?.unwrap_or_default();
    let choice = |(n, item): (usize, &Value)| {
        let fields = Fields::within(item, format!("adapters[{n}]"))?;
        let name = fields.text("name")?;
        let name = name.ok_or_else(|| invalid(&fields.place("name"), "is missing", "send an adapter's name"))?;
        Ok(AdapterChoice { name: name.to_string(), scale: fields.number("scale")?.unwrap_or(1.0) })
    };
    items.iter().enumerate().map(choice).collect()
}

fn priority(fields: &Fields<'_>) -> Result<Priority, Refusal> {
    let hint = "use \"interactive\" or \"batch\"";
    match fields.get("priority") {
        None if fields.get("service_tier").and_then(Value::as_str) == Some("flex") => Ok(Priority::Batch),
        None => Ok(Priority::Interactive),
        Some(Value::String(word)) => match word.as_str() {
            "interactive" => Ok(Priority::Interactive),
            "batch" => Ok(Priority::Batch),
            other => Err(invalid("priority", &format!("is `{other}`"), hint)),
        },
        Some(Value::Number(_)) => {
            let number = fields.whole("priority")?.unwrap_or(0);
            Ok(if number > 0 { Priority::Batch } else { Priority::Interactive })
        }
        Some(other) => Err(wrong("priority", "a string or a whole number", other)),
    }
}

fn sampling(fields: &Fields<'_>) -> Result<Sampling, Refusal> {
    let plain = Sampling::default();
    Ok(Sampling {
        temperature: fields.number("temperature")?.unwrap_or(plain.temperature),
        // Several clients write "off" as -1.
        top_k: if fields.whole("top_k")? == Some(-1) { 0 } else { fields.count("top_k")?.unwrap_or(plain.top_k) },
        top_p: fields.number("top_p")?.unwrap_or(plain.top_p),
        min_p: fields.number("min_p")?.unwrap_or(plain.min_p),
        typical_p: fields.number("typical_p")?.unwrap_or(plain.typical_p),
        repeat_penalty: match fields.number("repeat_penalty")? {
            Some(penalty) => penalty,
            None => fields.number("repetition_penalty")?.unwrap_or(plain.repeat_penalty),
        },
        penalty_last_n: fields.count("repeat_last_n")?.unwrap_or(plain.penalty_last_n),
        presence_penalty: fields.number("presence_penalty")?.unwrap_or(plain.presence_penalty),
        frequency_penalty: fields.number("frequency_penalty")?.unwrap_or(plain.frequency_penalty),
        seed: fields.whole("seed")?.and_then(fold_seed),
        logit_bias: logit_bias(fields)?,
    })
}

/// Any whole number is a seed in this dialect, and -1 means "draw one". The fold keeps small
/// numbers as they are, so that a seed given here and on the command line is the same.
fn fold_seed(seed: i64) -> Option<u32> {
    let bits = seed as u64;
    (seed != -1).then_some((bits ^ (bits >> 32)) as u32)
}

fn logit_bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(entries) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let entry = |(key, value): (&String, &Value)| {
        let token = key.trim().parse::<u32>().map_err(|_| {
            invalid(
                "logit_bias",
                &format!("has the key `{key}`"),
                "use token ids of the model as keys: `{\"128\": -5}`",
            )
        })?;
        let bias = value.as_f64().ok_or_else(|| wrong(&format!("logit_bias.{key}"), "a number", value))?;
        Ok((token, bias as f32))
    };
    entries.entries().map(entry).collect()
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, Refusal> {
    match fields.get("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(n, item)| {
                item.as_str().map(str::to_string).ok_or_else(|| wrong(&format!("stop[{n}]"), "a string", item))
            })
            .collect(),
        Some(other) => Err(wrong("stop", "a string or an array of strings", other)),
    }
}

/// The newer name counts when both are there; -1 means "no limit" to several clients.
fn tokens_max(fields: &Fields<'_>) -> Result<Option<u32>, Refusal> {
    for name in ["max_completion_tokens", "max_tokens"] {
        match fields.whole(name)? {
            None => {}
            Some(-1) => return Ok(None),
            Some(_) => return fields.count(name),
        }
    }
    Ok(None)
}

fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, Refusal> {
    let items = fields.list("messages")?.ok_or_else(|| {
        invalid("messages", "is missing", "send `\"messages\": [{\"role\": \"user\", \"content\": \"…\"}]`")
    })?;
    items.iter().enumerate().map(|(n, item)| message(item, n)).collect()
}

fn message(item: &Value, n: usize) -> Result<Message, Refusal> {
    let fields = Fields::within(item, format!("messages[{n}]"))?;
    let role = match fields.text("role")? {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        Some(other) => {
            let hint = "use one of system, developer, user, assistant, tool";
            return Err(invalid(&fields.place("role"), &format!("is `{other}`"), hint));
        }
        None => return Err(invalid(&fields.place("role"), "is missing", "send `\"role\": \"user\"`")),
    };
    let content = match (fields.get("content"), role) {
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Array(parts)), _) => text_of_parts(parts, &fields.place("content"))?,
        // An assistant's turn may have been empty.
        (None, Role::Assistant) => String::new(),
        (None, _) => return Err(invalid(&fields.place("content"), "is missing", "send a string")),
        (Some(other), _) => return Err(wrong(&fields.place("content"), "a string or an array of text parts", other)),
    };
    let calls = tools::calls(&fields, n)?;
    let reasoning = if role == Role::Assistant { tools::reasoning(&fields)? } else { String::new() };
    // A name is read where it says whose result this is; other roles' names are ignored.
    let (call_id, name) = match role {
        Role::Tool => (fields.text("tool_call_id")?.unwrap_or_default(), fields.text("name")?.unwrap_or_default()),
        Role::System | Role::User | Role::Assistant => ("", ""),
    };
    Ok(Message { role, content, reasoning, calls, call_id: call_id.to_owned(), name: name.to_owned() })
}

fn text_of_parts(parts: &[Value], at: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    for (n, part) in parts.iter().enumerate() {
        let fields = Fields::within(part, format!("{at}[{n}]"))?;
        match fields.text("type")? {
            Some("text") => {}
            Some(other) => {
                return Err(unsupported(
                    &fields.place("type"),
                    &format!("is `{other}`; models are shown `text` alone"),
                ));
            }
            None => return Err(invalid(&fields.place("type"), "is missing", "send `\"type\": \"text\"`")),
        }
        let piece =
            fields.text("text")?.ok_or_else(|| invalid(&fields.place("text"), "is missing", "send a string"))?;
        text.push_str(piece);
    }
    Ok(text)
}

/// Guarantees that can't be given. An empty or neutral value asks for nothing and passes.
fn refuse_constraints(fields: &Fields<'_>) -> Result<(), Refusal> {
    if let Some(n) = fields.whole("n")?.filter(|n| *n != 1) {
        return Err(invalid(
            "n",
            &format!("is {n}"),
            "one answer is made per request: leave `n` out and send the request again",
        ));
    }
    for name in ["logprobs", "top_logprobs"] {
        if fields.get(name).is_some_and(|value| value != &Value::Bool(false) && value.as_i64() != Some(0)) {
            return Err(unsupported(name, "is asked for; log probabilities aren't returned"));
        }
    }
    let modalities = fields.list("modalities")?.unwrap_or_default();
    if let Some(other) = modalities.iter().find(|item| item.as_str() != Some("text")) {
        return Err(unsupported("modalities", &format!("holds {other}; only \"text\" can be made")));
    }
    Ok(())
}

fn unsupported(place: &str, what: &str) -> Refusal {
    let fault = Fault::new(Code::InvalidAsk, format!("`{place}` {what}"));
    Refusal::of(fault.hint(format!("send the request without `{place}`")), place)
}

#[cfg(test)]
mod tests;
