//! Values of a schema's fields from a text: generated within the schema, checked against it, each found in the text
//! where it stands there.

mod copied;

use crate::prompt::Prompt;
use crate::schema;
use crate::span::{Span, find};
use crate::task::invalid;
use crate::work::{Work, failed, unfinished};
use base::{Code, Fault, Shape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;

/// LIMIT: tokens of one object, unless the caller says otherwise.
const ANSWER_TOKENS: u32 = 1024;
/// LIMIT: as much as a caller may say.
const ANSWER_TOKENS_MAX: u32 = 32_768;
/// LIMIT: what is told of an object that doesn't fit its schema.
const ERRORS_TOLD_MAX: usize = 3;

/// As it comes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Options {
    text: String,
    schema: Value,
    /// Say where each value stands in the text.
    #[serde(default)]
    spans: bool,
    /// What to look for, in the caller's words.
    #[serde(default)]
    instruction: String,
    #[serde(default)]
    context: String,
    #[serde(default)]
    tokens_max: Option<u32>,
}

/// A schema and what to fill it from.
#[derive(Debug, Clone)]
pub struct Extract {
    options: Options,
}

/// One value that fits the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    pub data: Value,
    /// By each value's JSON pointer, where it was asked for; `None`: the text doesn't hold these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<BTreeMap<String, Option<Span>>>,
}

impl Extract {
    pub(crate) fn checked(options: Options) -> Result<Self, Fault> {
        schema::check(&options.schema)?;
        if options.tokens_max.is_some_and(|most| most == 0 || most > ANSWER_TOKENS_MAX) {
            return Err(invalid("tokensMax", "is out of range", &format!("use from 1 to {ANSWER_TOKENS_MAX}")));
        }
        Ok(Self { options })
    }

    pub(crate) fn text(&self) -> &str {
        &self.options.text
    }

    pub(crate) fn context(&self) -> &str {
        &self.options.context
    }

    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Extracted, Fault> {
        let Options { text, schema, spans, .. } = &self.options;
        // Here and not when it is made: whoever makes a task may be the thread that all callers wait for.
        let validator = schema::compiled(schema)?;
        let tokens_max = self.options.tokens_max.unwrap_or(ANSWER_TOKENS);
        let prompt = self.prompt(work, schema)?;
        let (parts, tokens) = work.parts(&prompt, text, tokens_max)?;
        let data = if let [whole] = parts.as_slice() {
            work.declare(1, tokens);
            generate(work, &prompt, schema, &text[whole.clone()], tokens_max)?
        } else {
            self.in_parts(work, tokens_max, &validator)?
        };
        valid(&validator, &data)?;
        work.text(&data.to_string());
        let spans = spans.then(|| places(text, &data));
        Ok(Extracted { data, spans })
    }

    fn prompt<'a>(&'a self, work: &Work<'_>, schema: &Value) -> Result<Prompt<'a>, Fault> {
        let tier = work.tier("extract", "extract")?;
        let instruction = match self.options.instruction.trim() {
            "" => String::new(),
            words => format!("\n{words}"),
        };
        let values = vec![("schema", schema.to_string()), ("instruction", instruction), ("fields", fields(schema))];
        Ok(Prompt::new(tier, values).with_context([self.options.context.as_str()]))
    }

    /// Each part by itself, where anything may be missing; then together.
    fn in_parts(
        &self,
        work: &mut Work<'_>,
        tokens_max: u32,
        validator: &jsonschema::Validator,
    ) -> Result<Value, Fault> {
        let loose = optional(&self.options.schema);
        let prompt = self.prompt(work, &loose)?;
        // The looser schema is longer, and stands in each prompt.
        let (parts, tokens) = work.parts(&prompt, &self.options.text, tokens_max)?;
        work.declare(parts.len(), tokens);
        let mut merged = Value::Null;
        for (done, range) in parts.iter().enumerate() {
            work.progress(done, parts.len());
            let part = &self.options.text[range.clone()];
            if part.trim().is_empty() {
                continue;
            }
            let found = generate(work, &prompt, &loose, part, tokens_max)?;
            let mut kept = Vec::new();
            merge(&mut merged, found, "", &mut kept);
            for place in kept {
                work.say(format!("part {} says otherwise for `{place}`; the earlier value was kept", done + 1));
            }
        }
        work.progress(parts.len(), parts.len());
        work.plan.passes += 1;
        if !validator.is_valid(&merged) {
            drop_nulls(&mut merged, &self.options.schema);
        }
        Ok(merged)
    }
}

fn valid(validator: &jsonschema::Validator, data: &Value) -> Result<(), Fault> {
    let errors: Vec<String> =
        validator.iter_errors(data).take(ERRORS_TOLD_MAX).map(|error| error.to_string()).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(failed("what was found doesn't fit the schema").cause(errors.join("; ")))
}

fn generate(
    work: &mut Work<'_>,
    prompt: &Prompt<'_>,
    schema: &Value,
    text: &str,
    tokens_max: u32,
) -> Result<Value, Fault> {
    let plain = || Shape::json_schema(schema.to_string());
    let copied = if prompt.tier.grounded { copied::copied(schema, text) } else { None };
    let answer = match copied.and_then(|schema| Shape::json_schema(schema.to_string()).ok()) {
        None => work.complete(prompt.messages(text), plain()?, tokens_max)?,
        Some(shape) => match work.complete(prompt.messages(text), shape, tokens_max) {
            // With all the text's words in it a schema may be more than can be kept to.
            Err(fault) if fault.code == Code::ShapeUnsupported => {
                work.complete(prompt.messages(text), plain()?, tokens_max)?
            }
            answer => answer?,
        },
    };
    if unfinished(answer.finish) {
        return Err(failed(format!("the object wasn't whole within {tokens_max} tokens"))
            .hint("allow more: `tokensMax`; or bound strings and lists in the schema: `maxLength`, `maxItems`"));
    }
    serde_json::from_str(answer.text.trim()).map_err(|error| failed("the model's answer is not JSON").cause(error))
}

/// The names of the fields at the top, for models that read a schema badly.
fn fields(schema: &Value) -> String {
    let names = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    names.cloned().collect::<Vec<_>>().join(", ")
}

/// The same schema where every field is there and may be null, for a part that doesn't hold everything.
fn optional(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else { return schema.clone() };
    let mut loose = object.clone();
    loose.remove("minItems");
    loose.remove("minProperties");
    if let Some(Value::Object(properties)) = object.get("properties") {
        let names: Vec<Value> = properties.keys().map(|name| Value::from(name.as_str())).collect();
        let free = |(name, schema): (&String, &Value)| {
            let or_null = serde_json::json!({ "anyOf": [optional(schema), { "type": "null" }] });
            (name.clone(), or_null)
        };
        loose.insert("properties".into(), Value::Object(properties.iter().map(free).collect()));
        loose.insert("required".into(), Value::Array(names));
    }
    if let Some(items) = object.get("items") {
        loose.insert("items".into(), items.clone());
    }
    Value::Object(loose)
}

/// Puts what another part holds to what is there. The earlier of two values stays; `kept` names where that was.
fn merge(into: &mut Value, other: Value, place: &str, kept: &mut Vec<String>) {
    match (into, other) {
        (_, Value::Null) => {}
        (into @ Value::Null, other) => *into = other,
        (Value::Object(into), Value::Object(other)) => {
            for (name, value) in other {
                let below = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                merge(into.entry(name).or_insert(Value::Null), value, &below, kept);
            }
        }
        (Value::Array(into), Value::Array(other)) => {
            for value in other {
                if !into.contains(&value) {
                    into.push(value);
                }
            }
        }
        (into, other) => {
            if *into != other {
                kept.push(if place.is_empty() { "/".into() } else { place.to_owned() });
            }
        }
    }
}

/// Takes away fields that no part held and that the schema can do without.
fn drop_nulls(value: &mut Value, schema: &Value) {
    let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) else { return };
    let needed: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    fields.retain(|name, value| !value.is_null() || needed.contains(&name.as_str()));
    for (name, value) in fields {
        if let Some(schema) = properties.get(name) {
            drop_nulls(value, schema);
        }
    }
}

/// Where each string and number of the value stands in the text, by its JSON pointer.
fn places(text: &str, data: &Value) -> BTreeMap<String, Option<Span>> {
    let mut found = BTreeMap::new();
    walk(data, String::new(), &mut |pointer, leaf| {
        let range = match leaf {
            Value::String(words) if !words.trim().is_empty() => find(text, words),
            Value::Number(number) => find(text, &number.to_string()).or_else(|| find_number(text, number.as_f64()?)),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => return,
        };
        found.insert(pointer, range.map(|range| Span::of(text, range)));
    });
    found
}

fn walk(value: &Value, pointer: String, each: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(value, format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), each);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                walk(value, format!("{pointer}/{at}"), each);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => each(pointer, value),
    }
}

/// A number that is written with marks between its digits: `1,250.00`.
fn find_number(text: &str, wanted: f64) -> Option<Range<usize>> {
    let digit = |c: char| c.is_ascii_digit();
    let mut at = 0;
    while let Some(start) = text[at..].find(digit).map(|found| at + found) {
        let length =
            text[start..].find(|c: char| !digit(c) && !matches!(c, ',' | '.' | '\'')).unwrap_or(text.len() - start);
        let piece = text[start..start + length].trim_end_matches([',', '.', '\'']);
        if crate::normalize::number(piece).is_some_and(|number| (number - wanted).abs() < 1e-9) {
            return Some(start..start + piece.len());
        }
        at = start + length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_put_together_and_nothing_is_overwritten() {
        let mut merged = Value::Null;
        let mut kept = Vec::new();
        for part in [
            json!({"who": "Anna", "when": null, "items": ["a"]}),
            json!({"who": "Bert", "when": "May", "items": ["b", "a"], "in": {"x": 1}}),
            json!({"who": null, "when": "May", "items": [], "in": {"y": 2}}),
        ] {
            merge(&mut merged, part, "", &mut kept);
        }
        assert_eq!(merged, json!({"who": "Anna", "when": "May", "items": ["a", "b"], "in": {"x": 1, "y": 2}}));
        assert_eq!(kept, ["/who"]);
    }

    #[test]
    fn a_part_may_lack_everything_and_the_whole_may_not() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string"}, "b": {"type": "object", "properties": {"c": {"type": "integer"}}, "required": ["c"]}}});
        let loose = optional(&schema);
        assert!(jsonschema::validator_for(&loose).expect("a schema").is_valid(&json!({"a": null, "b": null})));
        assert!(!jsonschema::validator_for(&loose).expect("a schema").is_valid(&json!({"a": 3, "b": null})));
        let mut value = json!({"a": "x", "b": null});
        drop_nulls(&mut value, &schema);
        assert_eq!(value, json!({"a": "x"}));
    }

    #[test]
    fn values_have_their_places() {
        let text = "Invoice 7: Anna Berg pays 1,250.00 EUR by 3 May.";
        let found = places(text, &json!({"who": "anna berg", "sum": 1250.0, "no": 7, "city": "Bonn", "ok": true}));
        let words = |pointer: &str| found[pointer].map(|span| &text[span.start_byte..span.end_byte]);
        assert_eq!(words("/who"), Some("Anna Berg"));
        assert_eq!(words("/sum"), Some("1,250.00"));
        assert_eq!(words("/no"), Some("7"));
        assert_eq!(words("/city"), None);
        assert!(!found.contains_key("/ok"));
    }
}
