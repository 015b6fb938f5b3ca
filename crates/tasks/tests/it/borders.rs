//! Instructions inside the input are data: whatever the input says, it stands between borders that it can't close,
//! behind instructions that are the same for every input.
//!
//! Whether a model obeys all the same is its own doing; `cargo xtask eval tasks` reports how often.

use crate::played::Played;
use serde_json::{Value, json};

const ATTEMPTS: &str = include_str!("../../eval/injection.jsonl");

fn attempts() -> Vec<String> {
    let text = |line: &str| -> String {
        let value: Value = serde_json::from_str(line).expect("a line is an object");
        value["input"].as_str().expect("an input").to_owned()
    };
    ATTEMPTS.lines().filter(|line| !line.trim().is_empty()).map(text).collect()
}

fn tasks(text: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("summarize", json!({"text": text, "type": "tldr"})),
        ("title", json!({"text": text})),
        ("extract", json!({"text": text, "schema": {"type": "object"}})),
        ("rewrite", json!({"text": text, "tone": "more-formal"})),
        ("translate", json!({"text": text, "sourceLanguage": "en", "targetLanguage": "de"})),
        ("proofread", json!({"text": text})),
        ("ask", json!({"text": text, "question": "What is it about?"})),
        ("classify", json!({"text": text, "labels": ["mail", "news"]})),
        ("normalize", json!({"text": text.chars().take(900).collect::<String>(), "kind": "amount"})),
    ]
}

#[test]
fn no_attempt_leaves_its_borders() {
    let attempts = attempts();
    assert!(attempts.len() >= 30, "{} attempts", attempts.len());
    for parameters in [135_000_000, 8_000_000_000] {
        for attempt in &attempts {
            for (name, options) in tasks(attempt) {
                let model = Played { parameters, ..Played::of_text(|_| "{}".into()) };
                // What comes of the scripted answer doesn't matter here.
                let _ = model.run(name, options);
                let called = model.calls.borrow().iter().map(|call| call.messages.clone()).collect::<Vec<_>>();
                for messages in called.iter().chain(model.scored.borrow().iter()) {
                    let (last, before) = messages.split_last().expect("a turn");
                    let marker = attempt.lines().map(str::trim).max_by_key(|line| line.len()).unwrap_or_default();
                    let border = ["text-3", "text-2", "text"]
                        .into_iter()
                        .find(|border| last.content.contains(&format!("\n</{border}>")));
                    let Some(border) = border else {
                        // The text is what is judged behind these words, and not among them.
                        assert!(name == "classify" && !last.content.contains(marker), "{name}: {attempt}");
                        continue;
                    };
                    let (head, rest) = last.content.split_once(&format!("<{border}>\n")).expect("opens");
                    let (inside, tail) = rest.rsplit_once(&format!("\n</{border}>")).expect("closes");
                    assert!(!inside.contains(&format!("</{border}>")), "{name}: {attempt}");
                    for outside in before.iter().map(|turn| turn.content.as_str()).chain([head, tail]) {
                        assert!(marker.len() < 12 || !outside.contains(marker), "{name}: {attempt}");
                    }
                }
            }
        }
    }
}

#[test]
fn everything_before_the_text_is_the_same_for_every_text() {
    for parameters in [135_000_000, 8_000_000_000] {
        let prefixes = |text: &str| -> Vec<(&str, Vec<String>)> {
            tasks(text)
                .into_iter()
                .map(|(name, options)| {
                    let model = Played { parameters, ..Played::of_text(|_| "{}".into()) };
                    let _ = model.run(name, options);
                    let calls = model.calls.borrow();
                    let scored = model.scored.borrow();
                    let messages = calls.first().map(|call| &call.messages).or(scored.first()).expect("a call");
                    let mut texts: Vec<String> = messages.iter().map(|turn| turn.content.clone()).collect();
                    let last = texts.pop().expect("a turn");
                    texts.push(last.split_once("<text>\n").expect("opens").0.to_owned());
                    (name, texts)
                })
                .collect()
        };
        assert_eq!(prefixes("one thing is here"), prefixes("quite another thing is here\n\nand more of it"));
    }
}
