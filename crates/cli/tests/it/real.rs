//! The tasks with the real worker and the starter model: what is promised of any model, however little it understands.

use crate::home::{Home, ended};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

const TEXT: &str = "The town council closes the old bridge over the Wern from 1 April, because engineers found cracks in two \
    of its pillars. Cars must take the road by the mill, which is six kilometres longer. The repair costs 2.3 million \
    euros. Mrs. Lind of Brunner Bridges leads the work. People on foot can use a pontoon that the fire brigade builds.";

/// The reply to one text through a pipe, as `--json` prints it.
fn reply(home: &Home, args: &[&str], text: &str) -> Value {
    let args = [args, &["--json"]].concat();
    let mut child = home.command(&args).stdin(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("send");
    let ran = ended(child.wait_with_output().expect("ends"));
    assert!(ran.code == 0 || ran.code == 1, "{args:?}: {ran:?}\n{}", home.log());
    ran.json()
}

fn spans_stand_in_the_text(data: &Value, spans: &Value) {
    for (name, value) in data.as_object().expect("an object") {
        let span = &spans[format!("/{name}")];
        // A number may stand there in words.
        if value.is_null() || value == "" || value.is_boolean() || (value.is_number() && span.is_null()) {
            continue;
        }
        let place = |end: &str| span[end].as_u64().and_then(|at| usize::try_from(at).ok());
        let (start, end) = place("startByte").zip(place("endByte")).unwrap_or_else(|| panic!("{name}: {data} {spans}"));
        let there = &TEXT[start..end];
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        assert!(value.is_number() || plain(there) == plain(&said), "{name}: {there} {said}");
    }
}

#[test]
fn the_starter_model_keeps_what_the_tasks_promise() {
    let home = Home::real();

    for labels in ["sport,politics,traffic", "a text that is about bridges,another one"] {
        let found = reply(&home, &["classify", "--labels", labels], TEXT);
        let classes = found["result"]["classes"].as_array().expect("classes");
        let known: Vec<&str> = labels.split(',').chain(["unknown"]).collect();
        let sure: Vec<f64> = classes.iter().map(|class| class["confidence"].as_f64().expect("a number")).collect();
        assert!(classes.iter().all(|class| known.contains(&class["id"].as_str().expect("a name"))), "{found}");
        assert_eq!(classes.len(), known.len());
        assert!(
            sure.windows(2).all(|pair| pair[0] >= pair[1]) && (sure.iter().sum::<f64>() - 1.0).abs() < 1e-6,
            "{found}"
        );
    }

    let schema = json!({"type": "object", "additionalProperties": false,
        "required": ["town", "leader", "company", "month", "cost", "pillars", "closed", "phone"],
        "properties": {"town": {"type": "string", "maxLength": 40}, "leader": {"type": "string"},
            "company": {"type": "string", "minLength": 1}, "month": {"type": "string"}, "cost": {"type": "number"},
            "pillars": {"type": "integer"}, "closed": {"type": "boolean"}, "phone": {"type": ["string", "null"]}}});
    let file = home.path("schema.json");
    std::fs::write(&file, schema.to_string()).expect("written");
    let found = reply(&home, &["extract", "--schema", file.to_str().expect("utf-8"), "--spans"], TEXT);
    let data = &found["result"]["data"];
    for (name, schema) in schema["properties"].as_object().expect("an object") {
        let fits = match &schema["type"] {
            Value::String(kind) if kind == "string" => data[name].is_string(),
            Value::String(kind) if kind == "number" => data[name].is_number(),
            Value::String(kind) if kind == "integer" => data[name].is_i64(),
            Value::String(_) => data[name].is_boolean(),
            _ => data[name].is_string() || data[name].is_null(),
        };
        assert!(fits, "{name}: {data}");
    }
    spans_stand_in_the_text(data, &found["result"]["spans"]);

    let summary = |args: &[&str], text: &str| {
        let found = reply(&home, &[&["summarize"], args].concat(), text);
        (found["result"]["summary"].as_str().expect("a text").to_owned(), found["plan"]["parts"].clone())
    };
    let (one, _) = summary(&["--type", "tldr"], TEXT);
    assert!(!one.is_empty() && !one.contains('\n'), "{one}");
    let (headline, _) = summary(&["--type", "headline"], TEXT);
    assert!((1..=12).contains(&headline.split_whitespace().count()), "{headline}");
    let long = format!("{TEXT}\n\n").repeat(24);
    let (points, parts) = summary(&[], &long);
    let lines: Vec<&str> = points.lines().collect();
    assert!((1..=3).contains(&lines.len()) && lines.iter().all(|line| line.starts_with("- ")), "{points}");
    assert!(parts.as_u64().is_some_and(|parts| parts > 1), "{parts}");

    let found = reply(&home, &["detect-language"], "Die alte Brücke über die Wern wird ab dem 1. April gesperrt.");
    assert_eq!(found["result"]["languages"][0]["detectedLanguage"], "de", "{found}");

    for (question, expected) in [("Who leads the work?", true), ("What is the capital of Peru?", false)] {
        let found = reply(&home, &["ask", "--text", "-", question], TEXT);
        let answer = found["result"]["answer"].as_str();
        assert_eq!(answer.is_some(), expected, "{found}");
        let quote = found["result"]["quote"]["text"].as_str();
        assert!(quote.is_none_or(|quote| TEXT.contains(quote)) && quote.is_some() == expected, "{found}");
    }
}
