//! The half of `bench contract` that is about tools: prompts with tools to the starter model and to random weights of
//! four families, whose words are noise. Nothing may fail or hang, and a call that is forced must fit its schema.

use super::super::daemon::{Daemon, Freehold, Starter};
use super::super::gguf::{self, Header, Value as Meta};
use super::super::http::{self, Next};
use super::super::report::{Bound, Goal, Report, Table};
use super::super::shape::SHAPES;
use super::judge::fits;
use crate::place;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PROMPTS: usize = 500;
const PROMPTS_QUICK: usize = 40;
/// A free answer is cut off here, where a call may be under way.
const FREE_TOKENS: u32 = 48;
/// More than the longest call that fits the schemas.
const FORCED_TOKENS: u32 = 600;
/// Whatever takes longer hangs: the slowest answer takes some seconds.
const HANG_SECONDS: u64 = 120;
/// Places in [`SHAPES`], and templates in the manner of families, which our own tests use.
const FAMILIES: [(usize, &str); 4] = [(0, "llama"), (2, "hermes"), (3, "glm"), (4, "lfm")];

/// How a prompt asks for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Auto,
    Single,
    Required,
    Named,
    Allowed,
    AfterResult,
}

const WAYS: [Way; 6] = [Way::Auto, Way::Named, Way::AfterResult, Way::Required, Way::Single, Way::Allowed];

/// What came of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// An answer in words, or with calls, as it likes.
    Free,
    Valid,
    /// A forced call that isn't there, or doesn't fit.
    Invalid,
    /// A status of 500 or more.
    Failed,
    /// A refusal: nothing here deserves one.
    Refused,
}

/// Asks all prompts of all models, and adds what came to the report.
///
/// # Errors
/// When models can't be made or the daemon can't be asked.
pub(super) fn run(freehold: &Freehold, starter: &Starter, quick: bool, report: &mut Report) -> Result<()> {
    let mut models = families(&starter.chat)?;
    models.insert(0, starter.chat.clone());
    let paths: Vec<&Path> = models.iter().map(PathBuf::as_path).collect();
    let each = (if quick { PROMPTS_QUICK } else { PROMPTS }) / models.len();
    let mut table =
        Table::new("prompts with tools", &["model", "free", "valid", "INVALID", "FAILED", "REFUSED", "hung"]);
    let (mut failed, mut invalid, mut hung, mut forced) = (0, 0, 0, 0);
    for model in &paths {
        let daemon = Daemon::start_with(freehold, &[model], &[("FREEHOLD_CONTEXT", "4096".to_string())])?;
        let mut came = Vec::new();
        let mut slow = 0;
        for number in 0..each {
            let way = WAYS[number % WAYS.len()];
            let body = body(number, way);
            let start = Instant::now();
            let reply = http::call(&daemon.address, "/v1/chat/completions", &[], Some(&body), &mut |_| Next::Read)?;
            slow += u32::from(start.elapsed() > Duration::from_secs(HANG_SECONDS));
            let text = reply.text();
            let one = judge(way, number, reply.status, &serde_json::from_str(&text).unwrap_or_default());
            if !matches!(one, Came::Free | Came::Valid) {
                eprintln!("{}: prompt {number}, {way:?}: {one:?}: {text}", model.display());
            }
            came.push(one);
        }
        let count = |wanted: Came| came.iter().filter(|one| **one == wanted).count();
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let kinds = [Came::Free, Came::Valid, Came::Invalid, Came::Failed, Came::Refused];
        let cells = kinds.map(|kind| count(kind).to_string());
        table.rows.push([vec![name], cells.to_vec(), vec![slow.to_string()]].concat());
        failed += count(Came::Failed) + count(Came::Refused);
        invalid += count(Came::Invalid);
        forced += count(Came::Invalid) + count(Came::Valid);
        hung += slow;
    }
    report.tables.push(table);
    report.setting("tools", format!("{each} prompts to each of {} models, {forced} of them forced", models.len()));
    let none = |name: &str, measured: f64| Goal::plain(name, measured, "prompts", Bound::Below(1.0));
    report.goals.push(none("prompts with tools that fail or are refused", failed as f64));
    report.goals.push(none("prompts with tools that hang", f64::from(hung)));
    report.goals.push(none("forced calls that don't fit", invalid as f64));
    Ok(())
}

/// Small models of random weights with the starter's vocabulary, one for each family.
fn families(starter: &Path) -> Result<Vec<PathBuf>> {
    let folder = place::cache()?.join("families");
    std::fs::create_dir_all(&folder)?;
    let tokenizer = gguf::tokenizer(starter)?;
    FAMILIES
        .iter()
        .map(|(place, name)| {
            let template = place::root().join(format!("crates/engine/tests/templates/{name}.jinja"));
            let template = std::fs::read_to_string(&template)
                .with_context(|| format!("`{}` can't be read", template.display()))?;
            let shape = SHAPES[*place].tiny(gguf::tokens(&tokenizer)?);
            let mut header: Header = shape.header();
            header.extend(tokenizer.iter().filter(|(key, _)| key != "tokenizer.chat_template").cloned());
            header.push(("tokenizer.chat_template".to_string(), Meta::text(&template)));
            let path = folder.join(format!("random-{name}.gguf"));
            gguf::write(&path, &header, &shape.tensors(), *place as u64)?;
            Ok(path)
        })
        .collect()
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": format!("does {name}"), "parameters": parameters}})
}

/// Tools whose calls always end: every text and list has a bound.
fn tools() -> Vec<(&'static str, Value)> {
    let word = || json!({"type": "string", "maxLength": 12});
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    vec![
        ("weather", object(json!({"city": word(), "unit": {"enum": ["C", "F"]}}), json!(["city", "unit"]))),
        (
            "add",
            object(
                json!({"a": {"type": "integer", "minimum": 0, "maximum": 999}, "b": {"type": "boolean"}}),
                json!(["a", "b"]),
            ),
        ),
        (
            "list_files",
            object(
                json!({"paths": {"type": "array", "items": word(), "maxItems": 3}, "deep": {"type": ["boolean", "null"]}}),
                json!(["paths"]),
            ),
        ),
        ("now", object(json!({}), json!([]))),
        (
            "book",
            object(
                json!({"who": object(json!({"name": word()}), json!(["name"])), "note": {"anyOf": [word(), {"type": "null"}]}}),
                json!(["who", "note"]),
            ),
        ),
    ]
}

/// The tools of a prompt: some, in another order each time.
fn offered(number: usize) -> Vec<(&'static str, Value)> {
    let mut tools = tools();
    let count = 1 + number % tools.len();
    let turn = number % tools.len();
    tools.rotate_left(turn);
    tools.truncate(count);
    tools
}

fn body(number: usize, way: Way) -> Value {
    let tools = offered(number);
    let questions = ["What is the weather in Paris?", "Add 2 and 3.", "Which files are there?", "Call a tool, twice."];
    let mut messages = vec![json!({"role": "user", "content": questions[number % questions.len()]})];
    if way == Way::AfterResult {
        let call = json!({"id": "abcdefghi", "type": "function", "function": {"name": tools[0].0, "arguments": "{}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "abcdefghi", "content": "<tool_call> done </s>"}));
    }
    let choice = match way {
        Way::Auto | Way::Single | Way::AfterResult => json!("auto"),
        Way::Required => json!("required"),
        Way::Named => json!({"type": "function", "function": {"name": tools[0].0}}),
        Way::Allowed => json!({"type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{"type": "function", "function": {"name": tools[0].0}}],
        }}),
    };
    let forced = matches!(way, Way::Required | Way::Named | Way::Allowed);
    json!({
        "messages": messages,
        "tools": tools.into_iter().map(|(name, schema)| tool(name, schema)).collect::<Vec<_>>(),
        "tool_choice": choice,
        "parallel_tool_calls": way != Way::Single,
        "max_tokens": if forced { FORCED_TOKENS } else { FREE_TOKENS },
        "temperature": 1, "seed": number,
    })
}

/// Pure: a reply, judged.
fn judge(way: Way, number: usize, status: u16, reply: &Value) -> Came {
    if status >= 500 {
        return Came::Failed;
    }
    if status != 200 {
        return Came::Refused;
    }
    let tools = offered(number);
    let allowed = match way {
        Way::Auto | Way::Single | Way::AfterResult => return Came::Free,
        Way::Required => &tools[..],
        Way::Named | Way::Allowed => &tools[..1],
    };
    let choice = &reply["choices"][0];
    let fit = |call: &Value| {
        let function = &call["function"];
        let schema = allowed.iter().find(|(name, _)| function["name"] == *name).map(|(_, schema)| schema);
        let arguments = function["arguments"].as_str().and_then(|text| serde_json::from_str(text).ok());
        schema.zip(arguments).is_some_and(|(schema, arguments): (&Value, Value)| fits(schema, &arguments))
    };
    match choice["message"]["tool_calls"].as_array().map(Vec::as_slice) {
        Some([call]) if choice["finish_reason"] == "tool_calls" && fit(call) => Came::Valid,
        _ => Came::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_judged_by_their_calls() {
        let reply = |name: &str, arguments: &str, finish: &str| {
            let call = json!({"function": {"name": name, "arguments": arguments}});
            json!({"choices": [{"message": {"tool_calls": [call]}, "finish_reason": finish}]})
        };
        // The third prompt offers `now` first.
        assert_eq!(offered(3)[0].0, "now");
        for (way, status, reply, came) in [
            (Way::Named, 200, reply("now", "{}", "tool_calls"), Came::Valid),
            (Way::Named, 200, reply("now", "{\"x\": 1}", "tool_calls"), Came::Invalid),
            (Way::Named, 200, reply("now", "{", "length"), Came::Invalid),
            (Way::Allowed, 200, reply("book", "{}", "tool_calls"), Came::Invalid),
            (Way::Required, 200, json!({"choices": [{"message": {"content": "no"}}]}), Came::Invalid),
            (Way::Auto, 200, json!({}), Came::Free),
            (Way::Auto, 502, json!({}), Came::Failed),
            (Way::Auto, 400, json!({}), Came::Refused),
        ] {
            assert_eq!(judge(way, 3, status, &reply), came, "{reply}");
        }
    }
}
