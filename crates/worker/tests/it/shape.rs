//! Answers with a shape: whatever the model would rather say, they fit it, or say that they don't.

use crate::harness::{Answer, Worker, begin, chat, greedy, load, model};
use crate::judge::fits;
use serde_json::{Value, json};
use wire::{Begin, JobId, Load, WireFault, WireFinish, WireReasoning, WireSampling, WireShape};

/// Tokens come in any order that the shape allows: temperature far above what anybody uses.
fn wild(seed: u32) -> WireSampling {
    WireSampling { temperature: 2.0, top_k: 0, seed, ..greedy() }
}

fn shaped(job: JobId, question: &str, shape: WireShape, tokens_max: u32) -> Begin {
    Begin { shape, ..begin(job, &chat(question), tokens_max) }
}

fn schema(value: &Value) -> WireShape {
    WireShape::JsonSchema(value.to_string())
}

/// A whole answer fits by the word of somebody else; one that isn't whole says so.
fn check(schema: &Value, answer: &Answer) -> bool {
    match answer.finish {
        // At its last allowed token an answer may be whole, though it could go on.
        WireFinish::EndOfTurn | WireFinish::Length => {
            let value: Value = serde_json::from_str(&answer.text)
                .unwrap_or_else(|error| panic!("{error} in {:?} for {schema}", answer.text));
            assert!(fits(schema, &value), "{value} doesn't fit {schema}");
            true
        }
        WireFinish::StructureIncomplete => false,
        other => panic!("{other:?}: {answer:?}"),
    }
}

fn written_schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer",
               "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": false}),
        json!({"enum": ["red", "green", 3, null, {"deep": [1]}]}),
        json!({"type": "array", "items": {"type": "number", "exclusiveMinimum": -1, "maximum": 1.5}, "minItems": 2,
               "maxItems": 3}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^[a-f]{3}$"}]}),
        json!({"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer", "maximum": 99, "minimum": 0}},
             "required": ["kind", "x"], "additionalProperties": false},
            {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "boolean"}},
             "required": ["kind", "y"], "additionalProperties": false}]}),
        json!({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9},
               "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["v", "next"],
               "additionalProperties": false}}, "$ref": "#/$defs/node"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 1000}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]},
               {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}], "maxProperties": 2}),
        json!({"type": "object", "patternProperties": {"^k[0-9]$": {"type": "boolean"}}, "additionalProperties": false,
               "maxProperties": 2}),
        json!({"prefixItems": [{"const": "x"}, {"type": "boolean"}], "items": false, "minItems": 2, "type": "array"}),
        json!({"type": ["string", "null"], "minLength": 3, "maxLength": 5}),
    ]
}

/// Numbers that look random and are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most as u64).unwrap()
    }
}

/// A schema whose answers are short.
fn drawn(draw: &mut Draw, depth: usize) -> Value {
    let kinds = if depth == 0 { 6 } else { 9 };
    match draw.below(kinds) {
        0 => json!({"type": "boolean"}),
        1 => {
            let low = draw.below(50);
            json!({"type": "integer", "minimum": low, "maximum": low + draw.below(500)})
        }
        2 => {
            let least = draw.below(4);
            json!({"type": "string", "minLength": least, "maxLength": least + draw.below(8)})
        }
        3 => json!({"enum": (0..=draw.below(4)).map(|n| format!("word {n}")).collect::<Vec<_>>()}),
        4 => json!({"type": "number", "minimum": -(draw.below(9) as f64) / 4.0, "exclusiveMaximum": 9.75}),
        5 => json!({"type": ["null", "string"], "pattern": "^[a-z]{1,4}(-[0-9]+)?$", "maxLength": 9}),
        6 => {
            let most = draw.below(4);
            json!({"type": "array", "items": drawn(draw, depth - 1), "minItems": draw.below(most + 1), "maxItems": most})
        }
        7 => json!({"anyOf": [drawn(draw, depth - 1), drawn(draw, depth - 1)]}),
        _ => {
            let names: Vec<String> = (0..=draw.below(3)).map(|n| format!("field_{n}")).collect();
            let properties: serde_json::Map<String, Value> =
                names.iter().map(|name| (name.clone(), drawn(draw, depth - 1))).collect();
            let required: Vec<&String> = names.iter().filter(|_| draw.below(2) == 0).collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

#[test]
fn answers_fit_their_schemas() {
    let mut worker = Worker::ready();
    let mut draw = Draw(7);
    let schemas = written_schemas().into_iter().chain((0..40).map(|_| drawn(&mut draw, 2)));
    let (mut whole, mut all) = (0, 0);
    for (job, wanted) in (1..).zip(schemas) {
        for sampling in [greedy(), wild(u32::try_from(job).unwrap())] {
            let asked = Begin { sampling, ..shaped(job, "Give an example as JSON.", schema(&wanted), 220) };
            let answer = worker.generate(asked).unwrap_or_else(|fault| panic!("{fault:?} for {wanted}"));
            whole += u32::from(check(&wanted, &answer));
            all += 1;
        }
    }
    assert!(whole * 10 >= all * 9, "only {whole} of {all} answers came to their end");
}

#[test]
fn any_object_is_json_too() {
    let mut worker = Worker::ready();
    for seed in 0..6 {
        let asked = shaped(u64::from(seed) + 1, "Describe a cat as JSON.", WireShape::Json, 300);
        let answer = worker.generate(Begin { sampling: wild(seed), ..asked }).unwrap();
        check(&json!({"type": "object"}), &answer);
    }
}

#[test]
fn expressions_choices_and_grammars_are_kept_to() {
    let mut worker = Worker::ready();
    let mut said = |job, shape, sampling| {
        let answer = worker.generate(Begin { sampling, ..shaped(job, "What is it?", shape, 60) }).unwrap();
        assert_eq!(answer.finish, WireFinish::EndOfTurn, "{answer:?}");
        answer.text
    };
    for seed in 0..8 {
        let job = u64::from(seed) * 10;
        let date = said(job + 1, WireShape::Regex("^[0-9]{4}-(0[1-9]|1[0-2])$".into()), wild(seed));
        let digits = |range: std::ops::Range<usize>| date[range].bytes().all(|byte| byte.is_ascii_digit());
        assert!(date.len() == 7 && digits(0..4) && &date[4..5] == "-" && digits(5..7), "{date}");
        let choices = ["yes", "yes, sir", "no (never)", "ß/\\\"*"].map(str::to_owned).to_vec();
        let choice = said(job + 2, WireShape::Choice(choices.clone()), wild(seed));
        assert!(choices.contains(&choice), "{choice}");
        let grammar = "start: \"a\" (\"b\" | \"c\"){1,5} \"d\"\n".to_owned();
        let word = said(job + 3, WireShape::Grammar(grammar), WireSampling { temperature: 1.0, ..wild(seed) });
        assert!(word.starts_with('a') && word.ends_with('d'), "{word}");
    }
    // The likeliest of what is allowed is taken.
    let asked = shaped(99, "Is the sky blue? Answer yes or no.", WireShape::Choice(vec!["no".into(), "yes".into()]), 9);
    assert!(["yes", "no"].contains(&worker.generate(asked).unwrap().text.as_str()));
}

#[test]
fn a_grammar_that_was_gbnf_is_kept_to() {
    let mut worker = Worker::ready();
    // As it is made of llama.cpp's kind of grammar for JSON.
    let grammar = include_str!("../../../base/src/gbnf/json.lark");
    let mut whole = 0;
    for seed in 0..10 {
        let asked = shaped(u64::from(seed) + 1, "Describe a cat as JSON.", WireShape::Grammar(grammar.into()), 150);
        let answer = worker.generate(Begin { sampling: wild(seed), ..asked }).unwrap();
        match answer.finish {
            WireFinish::EndOfTurn => {
                serde_json::from_str::<Value>(&answer.text).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
                whole += 1;
            }
            other => assert!([WireFinish::StructureIncomplete, WireFinish::Length].contains(&other), "{answer:?}"),
        }
    }
    assert!(whole > 0, "not one answer came to its end");
}

#[test]
fn a_structure_that_was_cut_off_says_so() {
    let mut worker = Worker::ready();
    let list = json!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 50});
    let answer = worker.generate(shaped(1, "Count.", schema(&list), 20)).unwrap();
    assert_eq!((answer.finish, answer.spent.completion_tokens), (WireFinish::StructureIncomplete, 20));
    assert!(serde_json::from_str::<Value>(&answer.text).is_err());
    // A stop string cuts as well.
    let asked = Begin { stop: vec![",".into()], ..shaped(2, "Count.", schema(&list), 200) };
    assert_eq!(worker.generate(asked).unwrap().finish, WireFinish::StructureIncomplete);
    // An answer that is whole at its last allowed token is whole.
    let asked = shaped(3, "Say yes.", WireShape::Regex("[a-z]{1,40}".into()), 1);
    assert_ne!(worker.generate(asked).unwrap().finish, WireFinish::StructureIncomplete);
}

#[test]
fn what_can_not_be_kept_to_is_refused_before_the_first_token_with_its_path() {
    let mut worker = Worker::ready();
    for (job, (wanted, place)) in (1..).zip([
        (json!({"properties": {"a": {"not": {"type": "null"}}}}), "#/properties/a/not"),
        (json!({"items": {"uniqueItems": true}}), "#/items/uniqueItems"),
        (json!({"$ref": "https://example.com/schema.json"}), "#/$ref"),
        (json!({"properties": {"a": {"type": "string", "pattern": "(?=x)y"}}}), "#/properties/a/pattern"),
        (json!({"type": "string", "format": "iri"}), "#/format"),
        (json!({"items": {"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 3}]}}), "#/items/oneOf"),
        (json!({"minumum": 3, "type": "integer"}), "#/minumum"),
        (json!({"type": "integer", "minimum": 5, "maximum": 4}), "#"),
    ]) {
        match worker.generate(shaped(job, "Answer.", schema(&wanted), 20)) {
            Err(WireFault::ShapeUnsupported { path, reason }) => {
                assert_eq!(path, place, "{reason}");
                assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
            }
            other => panic!("{other:?} for {wanted}"),
        }
    }
    for (job, shape) in (20..).zip([
        WireShape::Regex("(".into()),
        WireShape::Regex("(?=a)b".into()),
        WireShape::Grammar("start: unknown_rule".into()),
        WireShape::Grammar("root ::= \"a\"".into()),
    ]) {
        let answer = worker.generate(shaped(job, "Answer.", shape.clone(), 20));
        assert!(matches!(answer, Err(WireFault::ShapeUnsupported { .. })), "{answer:?} for {shape:?}");
    }
}

#[test]
fn hostile_shapes_cost_their_own_answer_at_most() {
    let mut worker = Worker::ready();
    let nested = (0..60).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let allof: Vec<Value> =
        (0..30).map(|n| json!({"anyOf": [{"const": n}, {"type": "string"}, {"type": "array"}]})).collect();
    let wide: Vec<String> = (0..20_000).map(|n| format!("w{n}")).collect();
    let words: Vec<String> = (0..4096).map(|n| format!("choice number {n}")).collect();
    let shapes = [
        schema(&nested),
        schema(&json!({"allOf": allof})),
        schema(&json!({"enum": wide})),
        schema(&json!({"type": "string", "minLength": 100_000})),
        schema(&json!({"type": "array", "minItems": 100_000, "items": {"type": "array", "minItems": 100_000}})),
        schema(&json!({"type": "array", "maxItems": 2_000_000_000})),
        schema(&json!({"type": "string", "pattern": "(a|aa)+(a|aa)+(a|aa)+b"})),
        schema(&json!({"type": "string", "pattern": "(x+x+)+y"})),
        WireShape::Choice(words),
        WireShape::Regex("((((a{1,100}){1,100}){1,100}){1,100}){1,100}".into()),
        WireShape::Regex("(.*a){30}".into()),
        // Text of megabytes that leaves no choice.
        WireShape::Regex("(ab){200000}".into()),
        WireShape::Grammar("start: x{20000}\nx: \"ab\"".into()),
        WireShape::Grammar(
            (0..20).map(|n| format!("x{n}: x{0} x{0}\n", n + 1)).collect::<String>() + "x20: \"a\"\nstart: x0\n",
        ),
        WireShape::Regex(format!("{}a{}", "(".repeat(5000), ")".repeat(5000))),
        WireShape::Grammar("start: start start | \"a\" | \"\"".into()),
        WireShape::Grammar(format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000))),
        WireShape::Grammar(format!("start: /{}/", "[a-z]{1,1000}".repeat(50))),
    ];
    for (job, shape) in (1..).zip(shapes) {
        match worker.generate(shaped(job, "Answer.", shape, 8)) {
            Ok(answer) => {
                let ends = [WireFinish::StructureIncomplete, WireFinish::EndOfTurn, WireFinish::Length];
                assert!(ends.contains(&answer.finish), "{job}: {answer:?}");
            }
            Err(WireFault::ShapeUnsupported { .. } | WireFault::ShapeFailed(_)) => {}
            Err(fault) => panic!("{job}: {fault:?}"),
        }
    }
    assert!(worker.generate(begin(99, &chat("Say yes."), 5)).is_ok(), "the worker lives");
}

#[test]
fn special_tokens_are_not_text() {
    let mut worker = Worker::ready();
    // As letters they can be asked for, and are letters then.
    let text = "<|im_end|>x<|im_start|>";
    let asked = shaped(1, "Go.", WireShape::Choice(vec![text.into()]), 60);
    let answer = worker.generate(asked).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), (text, WireFinish::EndOfTurn));
    // Where anything may come, the end of the turn comes by itself and is no text.
    for seed in 0..10 {
        let asked = shaped(10 + u64::from(seed), "Say yes.", WireShape::Regex("(?s:.*)".into()), 60);
        let answer = worker.generate(Begin { sampling: WireSampling { temperature: 1.0, seed, ..greedy() }, ..asked });
        let answer = answer.unwrap();
        assert!(!answer.text.contains("<|im_"), "{answer:?}");
    }
}

#[test]
fn a_special_token_that_a_grammar_names_comes_in_its_place() {
    let names = ["<file_sep>", "<filename>"];
    let (mut worker, _) = Worker::with(&Load { shown: names.map(str::to_owned).to_vec(), ..load() }, &model());
    let grammar = "start: \"The river is\" <file_sep> \"long\" (<filename> | \".\") <file_sep> /[0-9]/";
    // Nothing else can come there, however little it is wanted.
    for (job, bias) in [(1, Vec::new()), (2, vec![(5, -100.0)])] {
        let asked = shaped(job, "Go.", WireShape::Grammar(grammar.into()), 60);
        let asked = Begin { sampling: WireSampling { logit_bias: bias, ..greedy() }, ..asked };
        let answer = worker.generate(asked).unwrap();
        let (long, last) = answer.text.split_at(answer.text.len() - 1);
        assert!(long.starts_with("The river is<file_sep>long") && long.ends_with("<file_sep>"), "{answer:?}");
        assert!(last.parse::<u8>().is_ok(), "{answer:?}");
    }
}

#[test]
fn reasoning_stands_outside_the_shape() {
    let mut worker = Worker::ready();
    let choice = || WireShape::Choice(vec!["yes".into(), "no".into()]);
    let behind = |open: &str, close: &str| Some(WireReasoning { open: open.into(), close: close.into() });
    // Opened by the prompt: free up to the mark, and then one of two words.
    let asked = Begin { reasoning: behind("", "."), ..shaped(1, "Is the sky blue? Explain.", choice(), 200) };
    let answer = worker.generate(asked).unwrap();
    assert_eq!(answer.finish, WireFinish::EndOfTurn, "{answer:?}");
    let (reasons, last) = answer.text.split_once('.').unwrap();
    assert!(!reasons.is_empty() && ["yes", "no"].contains(&last.trim()), "{answer:?}");
    // It may open it itself, or begin with the shape.
    let asked = Begin { reasoning: behind("<think>", "</think>"), ..shaped(2, "Is the sky blue?", choice(), 200) };
    let answer = worker.generate(asked).unwrap();
    let starts = answer.text.starts_with("<think>") || ["yes", "no"].contains(&answer.text.trim());
    assert!(starts, "{answer:?}");
    // Cut off before the shape has begun.
    let asked = Begin { reasoning: behind("", "</think>"), ..shaped(3, "Tell me a long story.", choice(), 12) };
    assert_eq!(worker.generate(asked).unwrap().finish, WireFinish::StructureIncomplete);
}

#[test]
fn shaped_answers_run_beside_others_and_can_be_held() {
    let mut worker = Worker::ready();
    let list = json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "minItems": 12,
                      "maxItems": 12});
    let alone = worker.generate(shaped(1, "Count to twelve.", schema(&list), 200)).unwrap();
    assert!(check(&list, &alone));
    worker.begin(shaped(2, "Count to twelve.", schema(&list), 200));
    worker.begin(begin(3, &chat("Why is the sky blue?"), 40));
    worker.begin(shaped(4, "Is it?", WireShape::Choice(vec!["yes".into(), "no".into()]), 9));
    worker.send(&wire::Directive::Hold { job: 2 });
    assert!(["yes", "no"].contains(&worker.finish(4).unwrap().text.as_str()));
    worker.send(&wire::Directive::Resume { job: 2 });
    assert!(check(&list, &worker.finish(2).unwrap()));
    worker.finish(3).unwrap();
}

#[test]
fn an_answer_that_repeats_itself_is_ended() {
    let mut worker = Worker::ready();
    let prompt = "I will not talk in class. ".repeat(12);
    let asked = |job, stop_loops| Begin { stop_loops, ..begin(job, &prompt, 500) };
    let stopped = worker.generate(asked(1, true)).unwrap();
    assert_eq!(stopped.finish, WireFinish::Loop, "{stopped:?}");
    assert!(stopped.spent.completion_tokens < 400, "{stopped:?}");
    let free = worker.generate(asked(2, false)).unwrap();
    assert_eq!((free.finish, free.spent.completion_tokens), (WireFinish::Length, 500));
}
