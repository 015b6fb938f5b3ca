//! A schema whose strings are words of a text and whose numbers are its numbers: a model that keeps to it can leave out
//! and mix up, but make nothing up. Pure.

use crate::normalize::{number, quantities};
use crate::sentence::sentences;
use serde_json::{Map, Value, json};

/// LIMIT: words of a value.
const SPAN_WORDS_MAX: usize = 8;
/// LIMIT: words of a text whose runs are put into a schema; with more the schema stays as it is.
const TEXT_WORDS_MAX: usize = 600;
/// What says that a string isn't copied, or not all of it.
const OWN_FORM: [&str; 6] = ["enum", "const", "format", "pattern", "$ref", "contentEncoding"];

/// The schema for a model that copies; `None` where the text has too many words.
pub(super) fn copied(schema: &Value, text: &str) -> Option<Value> {
    let mut copy = Copy { sentences: words(text)?, numbers: Vec::new(), defs: Map::new() };
    for found in quantities(text).iter().filter_map(|found| as_json(found)) {
        if !copy.numbers.contains(&found) {
            copy.numbers.push(found);
        }
    }
    let mut changed = schema.clone();
    copy.walk(&mut changed);
    let defs = changed.as_object_mut()?.entry("$defs").or_insert_with(|| json!({})).as_object_mut()?;
    defs.extend(copy.defs);
    Some(changed)
}

fn as_json(text: &str) -> Option<Value> {
    let value = number(text)?;
    // Digits that are read exactly: `7`, not `7.0`.
    if value.fract() == 0.0 && value.abs() < 9e15 { Some(json!(value as i64)) } else { Some(json!(value)) }
}

/// What of a text can be copied, and what was made of it.
struct Copy<'a> {
    sentences: Vec<Vec<Word<'a>>>,
    numbers: Vec<Value>,
    /// Runs of words by the bounds that they keep to, each once in the schema.
    defs: Map<String, Value>,
}

impl Copy<'_> {
    fn walk(&mut self, schema: &mut Value) {
        let Value::Object(object) = schema else { return };
        if let Some(leaf) = self.leaf(object) {
            *schema = leaf;
            return;
        }
        for name in ["properties", "$defs", "definitions"] {
            if let Some(Value::Object(inner)) = object.get_mut(name) {
                inner.values_mut().for_each(|schema| self.walk(schema));
            }
        }
        if let Some(items) = object.get_mut("items") {
            self.walk(items);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(options)) = object.get_mut(name) {
                options.iter_mut().for_each(|schema| self.walk(schema));
            }
        }
    }

    /// What stands for a schema of plain strings or numbers.
    fn leaf(&mut self, object: &Map<String, Value>) -> Option<Value> {
        if OWN_FORM.iter().any(|keyword| object.contains_key(*keyword)) {
            return None;
        }
        let (kind, or_null) = match object.get("type")? {
            Value::String(kind) => (kind.as_str(), false),
            Value::Array(kinds) => {
                let mut named = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                let first = named.next()?;
                if named.next().is_some() {
                    return None;
                }
                (first, kinds.iter().any(|kind| kind == "null"))
            }
            _ => return None,
        };
        let made = match kind {
            "string" => self.string(object)?,
            "number" | "integer" => self.number(object, kind == "integer")?,
            _ => return None,
        };
        Some(if or_null { json!({ "anyOf": [made, { "type": "null" }] }) } else { made })
    }

    fn string(&mut self, object: &Map<String, Value>) -> Option<Value> {
        let bound = |name: &str| object.get(name).map(|bound| bound.as_u64().unwrap_or(u64::MAX));
        let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength"));
        if least > 1 {
            return None;
        }
        let name = format!("words-{least}-{}", most.map_or("any".to_owned(), |most| most.to_string()));
        if !self.defs.contains_key(&name) {
            let runs = self.runs(most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX))?;
            let or_none = if least == 0 { "?" } else { "" };
            self.defs.insert(name.clone(), json!({ "type": "string", "pattern": format!("^(?:{runs}){or_none}$") }));
        }
        Some(json!({ "$ref": format!("#/$defs/{name}") }))
    }

    fn number(&self, object: &Map<String, Value>, whole: bool) -> Option<Value> {
        let bound = |name: &str| object.get(name).and_then(Value::as_f64);
        let fits = |value: &&Value| {
            let value = value.as_f64().unwrap_or(f64::NAN);
            (!whole || value.fract() == 0.0)
                && bound("minimum").is_none_or(|least| value >= least)
                && bound("maximum").is_none_or(|most| value <= most)
                && bound("exclusiveMinimum").is_none_or(|least| value > least)
                && bound("exclusiveMaximum").is_none_or(|most| value < most)
                && !object.contains_key("multipleOf")
        };
        let fitting: Vec<&Value> = self.numbers.iter().filter(fits).collect();
        (!fitting.is_empty()).then(|| json!({ "enum": fitting }))
    }

    /// An expression for each run of up to some words within a sentence, without marks at its ends.
    fn runs(&self, letters_max: usize) -> Option<String> {
        let mut alternatives: Vec<String> = Vec::new();
        for words in &self.sentences {
            for at in 0..words.len() {
                alternatives.extend(run(&words[at..words.len().min(at + SPAN_WORDS_MAX)], letters_max));
            }
        }
        alternatives.sort_unstable();
        alternatives.dedup();
        (!alternatives.is_empty()).then(|| alternatives.join("|"))
    }
}

/// The words of each sentence; `None` where there are too many.
fn words(text: &str) -> Option<Vec<Vec<Word<'_>>>> {
    let mut found = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        for range in sentences(line) {
            let words: Vec<Word<'_>> = line[range].split_whitespace().filter_map(Word::of).collect();
            count += words.len();
            if count > TEXT_WORDS_MAX {
                return None;
            }
            found.push(words);
        }
    }
    Some(found)
}

/// A word with the marks around it; of marks alone the core is empty.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    before: &'a str,
    core: &'a str,
    after: &'a str,
}

impl<'a> Word<'a> {
    /// `None` for what can't stand in an expression for JSON as it is.
    fn of(word: &'a str) -> Option<Self> {
        if word.contains(['"', '\\']) || word.chars().any(char::is_control) {
            return None;
        }
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '+' | '#' | '€' | '$' | '£' | '%' | '°');
        let start = word.find(inner).unwrap_or(word.len());
        let end = word.rfind(inner).map_or(start, |at| at + word[at..].chars().next().map_or(0, char::len_utf8));
        Some(Self { before: &word[..start], core: &word[start..end], after: &word[end..] })
    }
}

/// The first word, and each further one with all before it: `a(?: b(?: c)?)?`. `None` where the first doesn't count, or
/// is too long.
fn run(words: &[Word<'_>], letters_max: usize) -> Option<String> {
    let first = words.first().filter(|first| !first.core.is_empty())?;
    let mut letters = first.core.chars().count();
    if letters > letters_max {
        return None;
    }
    let mut made = escaped(first.core);
    let mut closing = 0;
    let mut gap = first.after.to_owned();
    for word in &words[1..] {
        gap.push(' ');
        gap.push_str(word.before);
        if !word.core.is_empty() {
            letters += gap.chars().count() + word.core.chars().count();
            if letters > letters_max {
                break;
            }
            made.push_str("(?:");
            made.push_str(&escaped(&gap));
            made.push_str(&escaped(word.core));
            closing += 1;
            gap.clear();
        }
        gap.push_str(word.after);
    }
    made.push_str(&")?".repeat(closing));
    Some(made)
}

fn escaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$/-&~#".contains(c) {
            made.push('\\');
        }
        made.push(c);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(schema: &Value, value: &Value) -> bool {
        jsonschema::validator_for(schema).expect("a schema").is_valid(value)
    }

    const TEXT: &str = "Invoice A-118 of Weber & Sons (Dr. Anna Berg): 1,299.50 EUR, six chairs. Pay by 3 May.";

    #[test]
    fn strings_are_runs_of_words_and_numbers_those_of_the_text() {
        let schema = json!({"type": "object", "properties": {
            "who": {"type": "string"}, "sum": {"type": "number"}, "count": {"type": ["integer", "null"]},
            "kind": {"enum": ["bill", "letter"]}, "some": {"type": "string", "minLength": 1}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}}}});
        let found = copied(&schema, TEXT).expect("it is short");
        for (value, expected) in [
            (json!({"who": "Weber & Sons"}), true),
            (json!({"who": "Dr. Anna Berg"}), true),
            (json!({"who": "A-118"}), true),
            (json!({"who": ""}), true),
            (json!({"who": "Bert"}), false),
            (json!({"who": "chairs. Pay"}), false),
            (json!({"who": "Ann"}), false),
            (json!({"sum": 1299.5}), true),
            (json!({"sum": 96.5}), false),
            (json!({"count": 6}), true),
            (json!({"count": null}), true),
            (json!({"count": 7}), false),
            (json!({"kind": "bill"}), true),
            (json!({"tags": ["chairs", "May"]}), true),
            (json!({"tags": ["Invoice"]}), false),
            (json!({"some": "May"}), true),
            (json!({"some": ""}), false),
        ] {
            assert_eq!(fits(&found, &value), expected, "{value}");
            assert!(!expected || fits(&schema, &value), "what fits the copy fits the schema: {value}");
        }
    }

    #[test]
    fn what_is_not_copied_stays() {
        let schema = json!({"type": "object", "properties": {"day": {"type": "string", "format": "date"},
            "any": {"type": ["string", "number"]}, "ok": {"type": "boolean"}}});
        let found = copied(&schema, TEXT).expect("it is short");
        assert_eq!(found["properties"], schema["properties"]);
        assert!(copied(&schema, &"word ".repeat(700)).is_none());
        let none = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 2000}}});
        assert_eq!(copied(&none, TEXT).expect("short")["properties"], none["properties"]);
    }
}
