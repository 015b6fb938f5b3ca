//! Calls in answers that are free otherwise: free up to a call's mark, kept to the tools in it, and free again.

use crate::harness::{Answer, Worker, begin, chat, greedy, load, model};
use crate::judge::fits;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use wire::{
    Begin, JobId, Load, Report, WireCalls, WireFinish, WireOpening, WirePart, WireQuiet, WireReasoning, WireSampling,
    WireSchema, WireShape,
};

/// Two special tokens of the starter model, which it never says by itself: here they open and close a call.
const OPEN: &str = "<file_sep>";
const CLOSE: &str = "<filename>";
/// The number of the first in its vocabulary.
const OPEN_TOKEN: u32 = 5;

/// Whose answers show these tokens, as they do for a family whose marks they are.
fn worker() -> Worker {
    let load = Load { shown: [OPEN, CLOSE].map(str::to_owned).to_vec(), ..load() };
    Worker::with(&load, &model()).0
}

fn text(words: &str) -> WirePart {
    WirePart::Text(words.into())
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer",
           "minimum": 1, "maximum": 99}}, "required": ["city", "days"], "additionalProperties": false})
}

/// `{"name": …, "arguments": …}` and the closing token, of two tools.
fn calls(mark: &str) -> WireCalls {
    let one = |n: u32, name: &str| {
        let name = text(&format!("\"{name}\", \"arguments\":"));
        WirePart::All(vec![name, WirePart::Space, WirePart::Json(n)])
    };
    let names = WirePart::Any(vec![one(0, "weather"), one(1, "now")]);
    let parts = vec![WirePart::Space, text("{\"name\":"), WirePart::Space, names, WirePart::Space, text("}")];
    let close = vec![WirePart::Space, WirePart::Mark(CLOSE.into())];
    let schema = |tool: &str, schema: &Value| WireSchema {
        tool: tool.into(),
        place: "#".into(),
        schema: schema.to_string(),
        whole: true,
    };
    WireCalls {
        openings: vec![WireOpening { mark: mark.into(), then: WirePart::All([parts, close].concat()) }],
        begun: String::new(),
        quiet: None,
        passed: Vec::new(),
        rules: Vec::new(),
        schemas: vec![schema("weather", &weather()), schema("now", &json!({"type": "object", "maxProperties": 0}))],
        single: false,
    }
}

fn asked(job: JobId, calls: WireCalls, sampling: WireSampling, tokens_max: u32) -> Begin {
    let shape = WireShape::Calls(Box::new(calls));
    Begin { shape, sampling, ..begin(job, &chat("What is the weather like in Paris?"), tokens_max) }
}

/// Where the special token is the likeliest wherever it may come.
fn eager(seed: u32) -> WireSampling {
    WireSampling { temperature: 1.5, top_k: 0, seed, logit_bias: vec![(OPEN_TOKEN, 60.0)], ..greedy() }
}

/// Every call that stands there whole.
fn check(answer: &Answer) -> usize {
    let mut whole = 0;
    for (_, call) in
        answer.text.split(OPEN).map(|part| (part, part.split_once(CLOSE))).filter(|(part, _)| !part.is_empty())
    {
        let Some((call, _)) = call else {
            assert_eq!(answer.finish, WireFinish::StructureIncomplete, "{answer:?}");
            continue;
        };
        let call: Value = serde_json::from_str(call).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        match call["name"].as_str() {
            Some("weather") => assert!(fits(&weather(), &call["arguments"]), "{call}"),
            Some("now") => assert_eq!(call["arguments"], json!({})),
            other => panic!("{other:?} in {answer:?}"),
        }
        whole += 1;
    }
    whole
}

#[test]
fn what_stands_behind_a_mark_is_a_call_of_a_tool() {
    let mut worker = worker();
    let (mut whole, mut several) = (0, 0);
    for seed in 0..12 {
        let answer = worker.generate(asked(u64::from(seed) + 1, calls(OPEN), eager(seed), 120)).unwrap();
        assert!(answer.text.starts_with(OPEN), "{answer:?}");
        let found = check(&answer);
        whole += usize::from(found > 0);
        several += usize::from(found > 1);
    }
    assert!(whole >= 10 && several >= 6, "{whole} answers with a call, {several} with several");
    // One that ends with its first call.
    let single = WireCalls { single: true, ..calls(OPEN) };
    let answer = worker.generate(asked(90, single, eager(1), 200)).unwrap();
    assert_eq!((answer.finish, check(&answer)), (WireFinish::EndOfTurn, 1), "{answer:?}");
    assert!(answer.text.ends_with(CLOSE), "{answer:?}");
}

#[test]
fn what_a_call_forces_is_drafted_and_says_the_same() {
    let mut with = worker();
    let load = Load { shown: [OPEN, CLOSE].map(str::to_owned).to_vec(), drafts: false, ..load() };
    let mut without = Worker::with(&load, &model()).0;
    let mut accepted = 0;
    for seed in 0..4 {
        let asked = || asked(u64::from(seed) + 1, calls(OPEN), eager(seed), 120);
        let (drafted, plain) = (with.generate(asked()).unwrap(), without.generate(asked()).unwrap());
        assert_eq!((&drafted.text, drafted.finish), (&plain.text, plain.finish));
        accepted += drafted.spent.accepted_tokens;
    }
    assert!(accepted > 0, "no step brought more than one token");
}

#[test]
fn without_a_call_the_answer_is_what_it_would_be() {
    let mut worker = worker();
    for (job, sampling) in [(1, greedy()), (3, WireSampling { temperature: 1.0, seed: 7, ..greedy() })] {
        let free = begin(job, &chat("Why is the sky blue?"), 80);
        let free = worker.generate(Begin { sampling: sampling.clone(), ..free }).unwrap();
        let shape = WireShape::Calls(Box::new(calls(OPEN)));
        let kept = begin(job + 1, &chat("Why is the sky blue?"), 80);
        let kept = worker.generate(Begin { sampling, shape, ..kept }).unwrap();
        assert_eq!((&kept.text, kept.finish), (&free.text, free.finish));
    }
}

#[test]
fn a_mark_may_be_plain_text_and_what_is_no_call_goes_on() {
    let mut worker = worker();
    // Behind the first `.` that ends its token stands a call.
    let answer = worker.generate(asked(1, calls("."), greedy(), 200)).unwrap();
    let (said, rest) = answer.text.split_once('.').expect("a sentence");
    assert!(!said.is_empty(), "{answer:?}");
    let (call, _) = rest.split_once(CLOSE).unwrap_or_else(|| panic!("{answer:?}"));
    let call: Value = serde_json::from_str(call).unwrap();
    assert!(["weather", "now"].contains(&call["name"].as_str().unwrap()), "{call}");
    // Blanks begin words here, which no call does.
    let free = worker.generate(begin(2, &chat("What is the weather like in Paris?"), 40)).unwrap();
    let strict = WireCalls { openings: vec![WireOpening { mark: " ".into(), then: text("{}") }], ..calls("") };
    let answer = worker.generate(asked(3, strict, greedy(), 40)).unwrap();
    assert_eq!(answer.text, free.text);
}

#[test]
fn thoughts_hold_no_calls() {
    let mut worker = worker();
    let quiet =
        |open: &str| Some(WireQuiet { open: vec![open.into()], close: vec!["</think>".into()], anywhere: false });
    let thinking = WireCalls { quiet: quiet("<think>"), ..calls(OPEN) };
    let reasoning = Some(WireReasoning { open: String::new(), close: "</think>".into() });
    let answer = worker.generate(Begin { reasoning, ..asked(1, thinking, eager(3), 20) }).unwrap();
    assert_eq!(answer.text, OPEN.repeat(20), "it says nothing else, and all of that is a thought");
    assert_eq!(answer.finish, WireFinish::Length);
}

#[test]
fn stop_strings_end_words_and_no_calls() {
    let mut worker = worker();
    let stop = ["\"", "}", "Paris"].map(str::to_owned).to_vec();
    let single = WireCalls { single: true, ..calls(OPEN) };
    let answer = worker.generate(Begin { stop, ..asked(1, single, eager(2), 200) }).unwrap();
    assert_eq!((answer.finish, check(&answer)), (WireFinish::EndOfTurn, 1), "{answer:?}");
    let stop = vec!["e".to_owned()];
    let answer = worker.generate(Begin { stop, ..asked(2, calls(OPEN), greedy(), 100) }).unwrap();
    assert_eq!(answer.finish, WireFinish::StopString, "{answer:?}");
    // A call that was cut says so.
    let answer = worker.generate(asked(3, calls(OPEN), eager(1), 6)).unwrap();
    assert_eq!(answer.finish, WireFinish::StructureIncomplete, "{answer:?}");
}

#[test]
fn a_schema_that_can_not_be_kept_is_told_and_the_others_are_kept() {
    let mut worker = worker();
    for (job, schema) in (1..).zip([
        json!({"type": "object", "not": {}}),
        json!({"properties": {"a": {"type": "string", "pattern": "(?=x)y"}}}),
    ]) {
        let mut loose = calls(OPEN);
        loose.schemas[1].schema = schema.to_string();
        loose.single = true;
        let answer = worker.generate(asked(job, loose, eager(4), 300)).unwrap();
        let told = worker.find(|report| match report {
            Report::Loose { job: told, tool, reason } if *told == job => Some((tool.clone(), reason.clone())),
            _ => None,
        });
        assert_eq!(told.0.as_deref(), Some("now"));
        assert!(told.1.contains("of its schema") && !told.1.contains('\n'), "{told:?}");
        if answer.finish == WireFinish::EndOfTurn {
            let call = answer.text.strip_prefix(OPEN).and_then(|text| text.strip_suffix(CLOSE)).expect("a call");
            let call: Value = serde_json::from_str(call).unwrap();
            let fits = call["name"] == "now" && call["arguments"].is_object();
            assert!(fits || crate::judge::fits(&weather(), &call["arguments"]), "{call}");
        }
    }
}

/// As many tools as one ask may have.
const TOOLS: u32 = 512;

/// What is told of tools with these schemas.
fn told(worker: &mut Worker, job: JobId, schema: impl Fn(u32) -> Value) -> BTreeMap<Option<String>, String> {
    let call = |n: u32| WirePart::All(vec![text(&format!("t{n}: ")), WirePart::Json(n)]);
    let then = WirePart::All(vec![WirePart::Any((0..TOOLS).map(call).collect()), WirePart::Mark(CLOSE.into())]);
    let openings = vec![WireOpening { mark: OPEN.into(), then }];
    let one =
        |n: u32| WireSchema { tool: format!("t{n}"), place: "#".into(), schema: schema(n).to_string(), whole: true };
    let wanted = WireCalls { openings, schemas: (0..TOOLS).map(one).collect(), ..calls(OPEN) };
    worker.generate(asked(job, wanted, eager(1), 1)).unwrap();
    let mut told = BTreeMap::new();
    worker.seen(|report| {
        if let Report::Loose { job: of, tool, reason } = report
            && *of == job
        {
            told.insert(tool.clone(), reason.clone());
        }
        false
    });
    told
}

#[test]
fn schemas_at_fault_are_found_among_many_and_searching_them_is_bounded() {
    let mut worker = worker();
    let good = json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer"},
                      "street": {"type": "string", "maxLength": 40}}, "required": ["city"]});
    let bad = json!({"properties": {"a": {"type": "string", "pattern": "(?=x)y"}}});
    let few = told(&mut worker, 1, |n| if [77, 300].contains(&n) { bad.clone() } else { good.clone() });
    let names: Vec<&str> = few.keys().flatten().map(String::as_str).collect();
    assert_eq!(names, ["t300", "t77"], "{few:?}");
    let all = told(&mut worker, 2, |_| bad.clone());
    assert_eq!(all.len(), TOOLS as usize, "{all:?}");
    assert!(all.values().any(|reason| reason.contains("wasn't tried")), "{all:?}");
    assert!(worker.generate(begin(99, &chat("Say yes."), 5)).is_ok(), "the worker lives");
}

#[test]
fn every_part_of_a_grammar_is_kept_to() {
    let mut worker = worker();
    let until = |least, most| WirePart::Until { end: "</v>".into(), apart: "</v>".into(), least, most };
    let special = WirePart::Until { end: CLOSE.into(), apart: CLOSE.into(), least: 0, most: Some(12) };
    let items = WirePart::Any(vec![
        WirePart::All(vec![text("a="), WirePart::Digits, text(";")]),
        WirePart::All(vec![text("b="), WirePart::Word, text(";")]),
        WirePart::All(vec![text("<v>"), until(2, Some(8)), text(";")]),
        WirePart::All(vec![text("n="), WirePart::Space, WirePart::Json(0), WirePart::Space, text(";")]),
    ]);
    let rules = vec![items, special];
    let number = json!({"type": "integer", "minimum": 0, "maximum": 50});
    let schema =
        WireSchema { tool: "f".into(), place: "#/properties/n".into(), schema: number.to_string(), whole: false };
    let then =
        WirePart::All(vec![text("f("), WirePart::Again(Box::new(WirePart::Rule(0))), text(")"), WirePart::Rule(1)]);
    let openings = vec![WireOpening { mark: OPEN.into(), then }];
    let wanted = WireCalls { openings, rules, schemas: vec![schema], single: true, ..calls(OPEN) };
    let mut whole = 0;
    for seed in 0..10 {
        let answer = worker.generate(asked(u64::from(seed) + 1, wanted.clone(), eager(seed), 200)).unwrap();
        if answer.finish != WireFinish::EndOfTurn {
            assert_eq!(answer.finish, WireFinish::StructureIncomplete, "{answer:?}");
            continue;
        }
        whole += 1;
        let call = answer.text.strip_prefix(&format!("{OPEN}f(")).unwrap_or_else(|| panic!("{answer:?}"));
        let mut items = call;
        while !items.starts_with(')') {
            let rest = match items.split_at(2) {
                ("a=" | "b=" | "n=", rest) => rest.split_once(';'),
                ("<v", rest) => rest.split_once("</v>;"),
                other => panic!("{other:?} in {answer:?}"),
            };
            items = rest.unwrap_or_else(|| panic!("{answer:?}")).1;
        }
        let last =
            items.strip_prefix(')').and_then(|text| text.strip_suffix(CLOSE)).unwrap_or_else(|| panic!("{answer:?}"));
        assert!(last.chars().count() <= 12, "{answer:?}");
    }
    assert!(whole >= 2, "only {whole} answers came to their end");
}

/// Where a part that begins at `from` may end, by the letter of what it says.
fn ends(part: &WirePart, calls: &WireCalls, text: &str, from: usize) -> BTreeSet<usize> {
    let rest = &text[from..];
    let literal = |words: &str| rest.starts_with(words).then_some(from + words.len()).into_iter().collect();
    let run = |least: usize, most: usize, fits: fn(&char) -> bool| {
        let count = rest.chars().take_while(fits).take(most).count();
        (least..=count).map(|length| from + length).collect()
    };
    match part {
        WirePart::Text(words) | WirePart::Mark(words) => literal(words),
        WirePart::Space => run(0, 16, char::is_ascii_whitespace),
        WirePart::Digits => run(1, 4, char::is_ascii_digit),
        WirePart::Word => run(1, 64, |c| c.is_ascii_alphanumeric() || *c == '_'),
        WirePart::Until { end, apart, least, most } => {
            let found = rest.match_indices(end.as_str()).filter(|(at, _)| {
                let (before, count) = (&rest[..*at], rest[..*at].chars().count());
                !before.contains(apart) && count >= *least as usize && most.is_none_or(|most| count <= most as usize)
            });
            found.map(|(at, _)| from + at + end.len()).collect()
        }
        WirePart::Json(n) => {
            let schema: Value = serde_json::from_str(&calls.schemas[*n as usize].schema).unwrap();
            // The reader of streams wants a blank or a bracket behind a number, and a call may go on with a mark.
            let number = rest.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(rest.len());
            let one = if number > 0 { &rest[..number] } else { rest };
            let mut values = serde_json::Deserializer::from_str(one).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) if fits(&schema, &value) => BTreeSet::from([from + values.byte_offset()]),
                _ => BTreeSet::new(),
            }
        }
        WirePart::Rule(n) => ends(&calls.rules[*n as usize], calls, text, from),
        WirePart::All(parts) => parts.iter().fold(BTreeSet::from([from]), |places, part| {
            places.into_iter().flat_map(|from| ends(part, calls, text, from)).collect()
        }),
        WirePart::Any(parts) => parts.iter().flat_map(|part| ends(part, calls, text, from)).collect(),
        WirePart::Maybe(part) => ends(part, calls, text, from).into_iter().chain([from]).collect(),
        WirePart::Again(part) => {
            let mut all = ends(part, calls, text, from);
            let mut next: Vec<usize> = all.iter().copied().collect();
            while let Some(from) = next.pop() {
                next.extend(ends(part, calls, text, from).into_iter().filter(|end| all.insert(*end)));
            }
            all
        }
    }
}

#[test]
fn every_family_s_calls_are_kept_to() {
    let families: BTreeMap<String, WireCalls> =
        serde_json::from_str(include_str!("../../../engine/src/parse/grammar/families.json")).unwrap();
    assert!(families.len() >= 18);
    let mut worker = worker();
    let mut job = 0;
    for (family, calls) in families {
        let (mut whole, mut said) = (0, Vec::new());
        for opening in &calls.openings {
            // The family's marks are text to this model; a token that can be had at once opens the call in their place.
            let opening = WireOpening { mark: OPEN.into(), then: opening.then.clone() };
            let (openings, begun) = (vec![opening.clone()], String::new());
            let wanted = WireCalls { openings, begun, quiet: None, ..calls.clone() };
            for seed in 0..5 {
                job += 1;
                let sampling = WireSampling { temperature: 2.0, ..eager(seed) };
                let answer = worker.generate(asked(job, wanted.clone(), sampling, 160)).unwrap();
                let parts: Vec<&str> = answer.text.split(OPEN).skip(1).collect();
                let (last, before) = parts.split_last().unwrap();
                for call in before {
                    let ends = ends(&opening.then, &wanted, call, 0);
                    assert!(ends.contains(&call.len()), "{family}: {call:?} in {answer:?}");
                }
                assert!(!last.is_empty() || !before.is_empty(), "{family}: {answer:?}");
                whole += before.len();
                let is_enough = !before.is_empty();
                said.push(answer.text);
                if is_enough {
                    break;
                }
            }
        }
        assert!(whole > 0, "{family}: no call came to its end in {said:?}");
    }
    let loose = worker.seen(|report| matches!(report, Report::Loose { .. }));
    assert!(!loose, "all of it is kept");
}
