//! Chat templates beside the reference: every template that llama.cpp's sources carry, rendered for a table of
//! conversations by Freehold and by jinja2 in the manner of Hugging Face's transformers.
//!
//! The templates are other people's work: they are taken from the source distribution that the peer of the benchmarks
//! is built from (or from `--dir`), and only counts and differences are kept.

use crate::bench::Options;
use crate::bench::peer;
use crate::bench::report::{Bound, Goal, Report, Table};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const JINJA: &str = "jinja2==3.1.6";
/// Characters of a difference that are shown.
const SHOWN: usize = 70;

/// # Errors
/// When the templates, python or our own probe can't be had.
pub(super) fn run(dir: Option<PathBuf>, options: Options) -> Result<ExitCode> {
    let dir = match dir {
        Some(dir) => dir,
        None => peer::sources()?.join("models/templates"),
    };
    let templates = read(&dir)?;
    let conversations = conversations();
    let mut asked = Vec::new();
    for (name, source) in &templates {
        for (what, given) in &conversations {
            asked.push((name.as_str(), *what, json!({"source": source, "given": given}).to_string()));
        }
    }
    let lines: Vec<&str> = asked.iter().map(|(_, _, line)| line.as_str()).collect();
    let reference = answers(&mut python()?, &lines)?;
    let ours = answers(&mut probe(), &lines)?;
    let mut counts: BTreeMap<(&str, Outcome), u32> = BTreeMap::new();
    let mut differences = Table::new("where they differ", &["template", "conversation", "reference", "Freehold"]);
    for ((name, what, _), (theirs, mine)) in asked.iter().zip(reference.iter().zip(&ours)) {
        let outcome = Outcome::of(theirs, mine);
        *counts.entry((what, outcome)).or_default() += 1;
        if matches!(outcome, Outcome::Different | Outcome::RefusedHere) {
            let (theirs, mine) = apart(&words(theirs), &words(mine));
            differences.rows.push(vec![(*name).to_owned(), (*what).to_owned(), theirs, mine]);
        }
    }
    let mut report = Report::new("chat templates");
    report.setting("templates", format!("{} from {}", templates.len(), dir.display()));
    report.setting("reference", format!("{JINJA}, configured as transformers does"));
    let mut table = Table::new(
        "renderings",
        &["conversation", "equal", "refused by both", "refused there", "escaped there", "different", "refused here"],
    );
    for (what, _) in &conversations {
        let count = |outcome| counts.get(&(*what, outcome)).copied().unwrap_or(0).to_string();
        let cells = Outcome::ALL.map(count);
        table.rows.push([vec![(*what).to_owned()], cells.to_vec()].concat());
    }
    report.tables.push(table);
    let all = |outcome: Outcome| {
        counts.iter().filter(|((_, other), _)| *other == outcome).map(|(_, count)| *count).sum::<u32>()
    };
    if !differences.rows.is_empty() {
        report.tables.push(differences);
    }
    let none = Bound::AtMost(0.0);
    report.goals.push(Goal::plain("different renderings", f64::from(all(Outcome::Different)), "", none));
    report.goals.push(Goal::plain("refused here alone", f64::from(all(Outcome::RefusedHere)), "", none));
    report.goals.push(Goal::plain("equal renderings", f64::from(all(Outcome::Equal)), "", Bound::AtLeast(1.0)));
    Ok(report.finish(options.json))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Equal,
    RefusedByBoth,
    /// The reference alone refuses: a template that is patched, or a list that is changed in place.
    RefusedThere,
    /// The same, but that the reference writes `&lt;` for `<`: jinja2 does so where a template joins texts to one that it
    /// has marked as safe, and no model was trained on that.
    EscapedThere,
    Different,
    RefusedHere,
}

impl Outcome {
    const ALL: [Outcome; 6] =
        [Self::Equal, Self::RefusedByBoth, Self::RefusedThere, Self::EscapedThere, Self::Different, Self::RefusedHere];

    fn of(theirs: &Value, mine: &Value) -> Self {
        match (theirs.get("text"), mine.get("text")) {
            (Some(theirs), Some(mine)) if theirs == mine => Self::Equal,
            (Some(theirs), Some(mine)) if unescaped(theirs) == unescaped(mine) => Self::EscapedThere,
            (Some(_), Some(_)) => Self::Different,
            (None, None) => Self::RefusedByBoth,
            (None, Some(_)) => Self::RefusedThere,
            (Some(_), None) => Self::RefusedHere,
        }
    }
}

/// Both sides, as a text may hold what looks like an escape.
fn unescaped(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default();
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

fn words(answer: &Value) -> String {
    let text = answer.get("text").or_else(|| answer.get("refused"));
    text.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The two texts from a little before where they part.
fn apart(a: &str, b: &str) -> (String, String) {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let cut = |text: &[char]| {
        let text: String = text.iter().skip(same.saturating_sub(20)).take(SHOWN).collect();
        format!("{text:?}")
    };
    (cut(&a), cut(&b))
}

fn read(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut templates = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("`{}` can't be read", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "jinja") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            templates.push((name, std::fs::read_to_string(&path)?));
        }
    }
    if templates.is_empty() {
        bail!("`{}` holds no file that ends in .jinja", dir.display());
    }
    templates.sort();
    Ok(templates)
}

/// Python with jinja2, which is put into the cache once.
fn python() -> Result<Command> {
    let program = place::on_path(&["python3", "python"]).context("python3 isn't here; the reference needs it")?;
    let packages = place::cache()?.join("jinja2");
    if !packages.join("jinja2").is_dir() {
        let mut pip = Command::new(&program);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        place::output(pip.arg(&packages).arg(JINJA))?;
    }
    let mut command = Command::new(program);
    command.env("PYTHONPATH", packages).arg(place::root().join("xtask/src/eval/reference.py"));
    Ok(command)
}

fn probe() -> Command {
    let mut cargo = place::cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "freehold-engine", "--bin", "freehold-engine-probe", "--"]);
    cargo.arg("templates");
    cargo
}

/// An answer for each line.
fn answers(command: &mut Command, lines: &[&str]) -> Result<Vec<Value>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a renderer doesn't start")?;
    let mut input = child.stdin.take().context("a renderer has no input")?;
    let text = lines.join("\n") + "\n";
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let out = child.wait_with_output()?;
    // A renderer that has ended early is told of by what it left out.
    let _ = writer.join();
    let said = String::from_utf8(out.stdout).context("a renderer said what is no text")?;
    let answers: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if answers.len() != lines.len() {
        bail!("a renderer gave {} answers to {} questions", answers.len(), lines.len());
    }
    Ok(answers)
}

/// What templates are given, by name.
fn conversations() -> Vec<(&'static str, Value)> {
    let user = |text: &str| json!({"role": "user", "content": text});
    let said = |text: &str| json!({"role": "assistant", "content": text});
    let system = json!({"role": "system", "content": "Be brief.\nAnd <kind>, \"please\"."});
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = |calls: Value| json!({"role": "assistant", "content": "", "tool_calls": calls});
    let result =
        |id: &str, name: &str, text: &str| json!({"role": "tool", "content": text, "tool_call_id": id, "name": name});
    let paris = json!({"city": "Paris", "days": 3, "metric": true, "note": null, "tags": ["a", "é"], "at": {"x": 1.5}});
    let one = calls(json!([call("abcdefghi", "weather", paris.clone())]));
    let two = calls(json!([call("abcdefghi", "weather", paris.clone()), call("123456789", "now", json!({}))]));
    let sunny = result("abcdefghi", "weather", "{\"sky\": \"clear\", \"wind\": [1, 2]}");
    let noon = result("123456789", "now", "12:00");
    let text_call = calls(json!([call("abcdefghi", "weather", json!(paris.to_string()))]));
    let thought = json!({"role": "assistant", "content": "17.", "reasoning_content": "Let me see.\n\nIt is 17."});
    let inline = said("<think>\nLet me see.\n</think>\n\n17.");
    let picture = json!({"role": "user", "content": [
        {"type": "image"}, {"type": "text", "text": "What is this?"},
    ]});
    let picture_url = json!({"role": "user", "content": [
        {"type": "text", "text": "And this?"}, {"type": "image_url", "image_url": {"url": "data:,"}},
    ]});
    let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    let given = |messages: Value, tools: bool, more: Value| {
        let mut given: Map<String, Value> = Map::new();
        given.insert("messages".into(), messages);
        given.insert("tools".into(), if tools { self::tools() } else { Value::Null });
        for (name, value) in [
            ("documents", Value::Null),
            ("add_generation_prompt", json!(true)),
            ("bos_token", json!("<s>")),
            ("eos_token", json!("</s>")),
        ] {
            given.insert(name.into(), value);
        }
        given.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(given)
    };
    let none = || json!({});
    vec![
        ("one message", given(json!([user("Hi <b> & 'you'")]), false, none())),
        ("system", given(json!([system, user(" Hi ")]), false, none())),
        ("turns", given(json!([system, user("Hi"), said("Hello!\n"), user("So?")]), false, none())),
        (
            "without a prompt",
            given(json!([user("Hi"), said("Hello!")]), false, json!({"add_generation_prompt": false})),
        ),
        ("tools", given(json!([user("Weather?")]), true, none())),
        ("tools, system", given(json!([system, user("Weather?")]), true, none())),
        ("a call", given(json!([user("Weather?"), one]), true, none())),
        ("a result", given(json!([system, user("Weather?"), one, sunny]), true, none())),
        ("two calls", given(json!([user("Weather?"), two, sunny, noon]), true, none())),
        ("call as text", given(json!([user("Weather?"), text_call, sunny]), true, none())),
        ("after a call", given(json!([user("Weather?"), one, sunny, said("Clear."), user("Thanks")]), true, none())),
        ("a thought", given(json!([user("How warm?"), thought, user("Sure?")]), false, none())),
        ("a thought in text", given(json!([user("How warm?"), inline, user("Sure?")]), false, none())),
        ("thinking", given(json!([user("How warm?")]), false, json!({"enable_thinking": true, "thinking": true}))),
        ("no thinking", given(json!([user("How warm?")]), true, json!({"enable_thinking": false, "thinking": false}))),
        ("effort", given(json!([user("How warm?")]), true, json!({"reasoning_effort": "high"}))),
        ("parts of text", given(json!([parts]), false, none())),
        ("a picture", given(json!([picture, said("A cat."), picture_url]), false, none())),
    ]
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}});
    json!([
        tool(
            "weather",
            "The weather <there>, \"as it is\".",
            json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Which city"},
                    "days": {"type": "integer", "minimum": 1, "default": 3},
                    "unit": {"type": "string", "enum": ["metric", "imperial"]},
                    "places": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}},
                    "maybe": {"type": ["string", "null"]},
                    "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
                },
                "required": ["city"],
                "additionalProperties": false,
            })
        ),
        tool("now", "The time", json!({"type": "object", "properties": {}})),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart() {
        let (text, other, refused) = (json!({"text": "a"}), json!({"text": "b"}), json!({"refused": "no"}));
        for (theirs, mine, outcome) in [
            (&text, &text, Outcome::Equal),
            (&text, &other, Outcome::Different),
            (&json!({"text": "&lt;b&#34;"}), &json!({"text": "<b\""}), Outcome::EscapedThere),
            (&refused, &refused, Outcome::RefusedByBoth),
            (&refused, &text, Outcome::RefusedThere),
            (&text, &refused, Outcome::RefusedHere),
        ] {
            assert_eq!(Outcome::of(theirs, mine), outcome);
        }
        assert_eq!(apart("same then a", "same then b"), ("\"same then a\"".into(), "\"same then b\"".into()));
    }

    #[test]
    fn every_conversation_has_what_templates_look_for() {
        for (name, given) in conversations() {
            assert!(given["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{name}");
            assert!(given.get("tools").is_some() && given["bos_token"] == "<s>", "{name}");
        }
    }
}
