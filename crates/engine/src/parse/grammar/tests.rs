use super::super::tests::{CODER, FAMILIES, GPT, HERMES, LFM, style};
use super::super::{Parser, Piece};
use super::*;
use base::ToolChoice;
use proptest::prelude::*;
use serde_json::json;

fn tool(name: &str, parameters: &Value) -> Tool {
    Tool { name: name.into(), description: String::new(), parameters: parameters.to_string() }
}

fn toolbox(parallel: bool) -> Toolbox {
    let weather = json!({"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "maxLength": 20}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["C", "F"]},
        "near": {"type": "boolean"}}});
    let empty = Tool { name: "now".into(), description: String::new(), parameters: String::new() };
    Toolbox { tools: vec![tool("weather", &weather), empty], parallel, ..Toolbox::default() }
}

fn made(words: &str, toolbox: &Toolbox) -> WireCalls {
    Grammar::of(&style(words), toolbox).calls.expect("this family's calls have marks")
}

/// Draws what a part allows, by numbers that are used up.
struct Draw<'a> {
    calls: &'a WireCalls,
    numbers: std::slice::Iter<'a, u8>,
    text: String,
}

impl Draw<'_> {
    fn below(&mut self, most: usize) -> usize {
        self.numbers.next().map_or(0, |number| usize::from(*number) % most)
    }

    fn one_of(&mut self, words: &[&str]) {
        let word = words[self.below(words.len())];
        self.text.push_str(word);
    }

    fn part(&mut self, part: &WirePart) {
        match part {
            WirePart::Text(text) | WirePart::Mark(text) => self.text.push_str(text),
            WirePart::Space => self.one_of(&["", " ", "\n", "\n  "]),
            WirePart::Digits => self.one_of(&["0", "12"]),
            WirePart::Word => self.one_of(&["a", "b_2"]),
            WirePart::Until { end, apart, .. } => {
                let words = ["Paris", "", "a\n{\"b\": <c>}", "7", " x "][self.below(5)];
                assert!(!words.contains(apart));
                self.text.push_str(words);
                self.text.push_str(end);
            }
            WirePart::Json(n) => self.json(&self.calls.schemas[*n as usize]),
            WirePart::Rule(n) => self.part(&self.calls.rules[*n as usize]),
            WirePart::All(parts) => parts.iter().for_each(|part| self.part(part)),
            WirePart::Any(parts) => {
                let n = self.below(parts.len());
                self.part(&parts[n]);
            }
            WirePart::Maybe(part) => {
                if self.below(2) == 1 {
                    self.part(part);
                }
            }
            WirePart::Again(part) => (0..=self.below(3)).for_each(|_| self.part(part)),
        }
    }

    fn json(&mut self, schema: &WireSchema) {
        let wanted: Value = serde_json::from_str(&schema.schema).expect("a schema");
        let text = match (schema.whole, schema.tool.as_str(), wanted["type"].as_str()) {
            (true, "weather", _) => [r#"{"city": "Par\"is", "near": true}"#, r#"{"city":"]"}"#][self.below(2)],
            (true, ..) => "{}",
            (false, _, Some("integer")) => "3",
            (false, _, Some("number")) => ["48213", "-4.25e-7"][self.below(2)],
            (false, _, Some("boolean")) => "true",
            (false, _, Some("string")) => [r#""C""#, r#""F""#][self.below(2)],
            (false, ..) => "null",
        };
        self.text.push_str(text);
    }
}

/// What is read of one call or several: names, arguments, and what stands beside them.
fn read(words: &str, toolbox: &Toolbox, said: &str) -> (Vec<(String, Value)>, String, Vec<String>) {
    let tools: Vec<&Tool> = toolbox.callable().collect();
    let mut parser = Parser::new(style(words), &tools, false);
    let mut pieces = parser.push(said);
    pieces.extend(parser.finish());
    let (mut calls, mut text, mut errors): (Vec<(String, String)>, String, Vec<String>) = Default::default();
    for piece in pieces {
        match piece {
            Piece::Call(name) => calls.push((name, String::new())),
            Piece::Arguments(more) | Piece::Made(more) => calls.last_mut().expect("a call").1.push_str(&more),
            Piece::Text(more) => text += &more,
            Piece::Error(why) => errors.push(why),
            Piece::Thought(_) | Piece::Syntax(_) => {}
        }
    }
    let whole = |(name, text): (String, String)| {
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?} in {said:?}"));
        (name, value)
    };
    (calls.into_iter().map(whole).collect(), text, errors)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn whatever_the_grammar_allows_is_read_as_calls(
        words in prop::sample::select(FAMILIES.to_vec()),
        opening in any::<prop::sample::Index>(),
        parallel in any::<bool>(),
        numbers in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let toolbox = toolbox(parallel);
        let calls = made(words, &toolbox);
        let opening = &calls.openings[opening.index(calls.openings.len())];
        let mut draw = Draw { calls: &calls, numbers: numbers.iter(), text: opening.mark.clone() };
        draw.part(&opening.then);
        let said = draw.text;
        let (read, text, errors) = read(words, &toolbox, &said);
        prop_assert_eq!((text.as_str(), errors), ("", Vec::new()), "{}", said);
        prop_assert!(!read.is_empty() && (parallel || read.len() == 1), "{}", said);
        for (name, arguments) in read {
            if name == "now" {
                prop_assert_eq!(arguments, json!({}), "{}", said);
                continue;
            }
            prop_assert_eq!(name, "weather");
            prop_assert!(arguments["city"].is_string(), "{} in {}", arguments, said);
            let fits = |key: &str, fits: fn(&Value) -> bool| arguments.get(key).is_none_or(fits);
            prop_assert!(fits("days", Value::is_i64) && fits("near", Value::is_boolean), "{} in {}", arguments, said);
            prop_assert!(fits("unit", |unit| unit == "C" || unit == "F"), "{} in {}", arguments, said);
        }
    }
}

#[test]
fn nothing_is_kept_where_nothing_may_be_called() {
    let none = Toolbox { choice: ToolChoice::None, ..toolbox(true) };
    for toolbox in [Toolbox::default(), none] {
        assert_eq!(Grammar::of(&style(HERMES), &toolbox), Grammar { calls: None, unkept: Vec::new() });
    }
    let large = json!({"type": "object", "title": "x".repeat(SHAPE_BYTES_MAX)});
    let large = Toolbox { tools: vec![tool("large", &large)], ..Toolbox::default() };
    let grammar = Grammar::of(&style(HERMES), &large);
    assert!(grammar.calls.is_none() && grammar.unkept[0].reason.contains("bytes"), "{:?}", grammar.unkept);
}

#[test]
fn what_tags_can_not_keep_is_noted_once_for_each_tool() {
    let schema = json!({"anyOf": [{"required": ["a"]}], "properties": {
        "a": {"type": "string", "pattern": "x"}, "b": {"type": "string", "minLength": 1, "maxLength": 9}}});
    let toolbox = Toolbox { tools: vec![tool("f", &schema)], ..Toolbox::default() };
    let grammar = Grammar::of(&style(CODER), &toolbox);
    assert_eq!(grammar.unkept.len(), 1);
    assert!(grammar.unkept[0].reason.contains("`#/anyOf`"), "{:?}", grammar.unkept);
    let text = format!("{:?}", grammar.calls);
    assert!(text.contains("least: 1, most: Some(9)"), "{text}");
    // All of it stands in one object elsewhere.
    assert!(Grammar::of(&style(HERMES), &toolbox).unkept.is_empty());
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}});
    let toolbox = Toolbox { tools: vec![tool("f", &schema)], ..Toolbox::default() };
    assert!(Grammar::of(&style(CODER), &toolbox).unkept[0].reason.contains("`#/properties/a/pattern`"));
    assert!(Grammar::of(&style(LFM), &toolbox).unkept.is_empty());
}

#[test]
fn arguments_by_themselves_keep_their_references() {
    let schema = json!({"type": "object", "properties": {"root": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}},
                        "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}});
    let toolbox = Toolbox { tools: vec![tool("tree", &schema)], ..Toolbox::default() };
    let calls = made(LFM, &toolbox);
    let schema = |place: &str| {
        let found = calls.schemas.iter().find(|schema| schema.place == place).expect("an argument");
        serde_json::from_str::<Value>(&found.schema).expect("json")
    };
    let root = schema("#/properties/root");
    let place = root["$ref"].as_str().and_then(|place| place.strip_prefix('#')).expect("a reference");
    let node = root.pointer(place).expect("it leads somewhere");
    let inner = node["items"]["$ref"].as_str().and_then(|place| place.strip_prefix('#')).expect("a reference");
    assert_eq!(root.pointer(inner), Some(node));
    assert_eq!(schema("#/properties/n"), json!({"type": "integer"}));
}

#[test]
fn thoughts_and_bodies_hold_no_calls() {
    let quiet = |words| made(words, &toolbox(true)).quiet.expect("thoughts");
    assert_eq!(quiet(HERMES).close, ["</think>"]);
    assert!(!quiet(HERMES).anywhere && quiet(GPT).anywhere);
}

#[test]
fn the_worker_s_tests_know_what_every_family_s_calls_are() {
    let all: serde_json::Map<String, Value> = FAMILIES
        .iter()
        .map(|words| ((*words).to_owned(), serde_json::to_value(made(words, &toolbox(true))).expect("plain data")))
        .collect();
    let known: Value = serde_json::from_str(include_str!("families.json")).expect("json");
    assert_eq!(known, Value::Object(all.clone()), "{}", Value::Object(all));
}
