//! The form that an answer is to have, in the fields of three dialects: OpenAI's `response_format`, vLLM's
//! `guided_…` and `structured_outputs`, llama.cpp's `json_schema` and `grammar`.
//!
//! An empty or neutral value asks for nothing. Two forms in one request are a slip, and refused.

use crate::field::{Fields, invalid, wrong};
use crate::reply::Refusal;
use base::{Fault, OnLoop, Shape};
use serde_json::Value;

/// The one form that a request asks for.
pub(super) fn shape(fields: &Fields<'_>) -> Result<Shape, Refusal> {
    let mut found: Option<(String, Shape)> = response_format(fields)?;
    let outer = ["json_schema", "grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar"];
    for name in outer {
        if let Some(shape) = one(fields, name, name.trim_start_matches("guided_"))? {
            put(&mut found, name.to_owned(), shape)?;
        }
    }
    if let Some(inner) = fields.object("structured_outputs")? {
        for name in ["json", "regex", "choice", "grammar"] {
            if let Some(shape) = one(&inner, name, name)? {
                put(&mut found, inner.place(name), shape)?;
            }
        }
        if inner.flag("json_object")? == Some(true) {
            put(&mut found, inner.place("json_object"), Shape::json())?;
        }
    }
    Ok(found.map(|(_, shape)| shape).unwrap_or_default())
}

/// Freehold's own: what becomes of an answer that repeats itself without end.
pub(super) fn on_loop(fields: &Fields<'_>) -> Result<OnLoop, Refusal> {
    match fields.text("on_loop")? {
        None | Some("stop") => Ok(OnLoop::Stop),
        Some("retry") => Ok(OnLoop::Retry),
        Some("ignore") => Ok(OnLoop::Ignore),
        Some(other) => Err(invalid("on_loop", &format!("is `{other}`"), "use `stop`, `retry` or `ignore`")),
    }
}

fn put(found: &mut Option<(String, Shape)>, place: String, shape: Shape) -> Result<(), Refusal> {
    if let Some((other, _)) = found {
        return Err(invalid(&place, &format!("stands beside `{other}`"), "ask for one form of the answer"));
    }
    *found = Some((place, shape));
    Ok(())
}

fn response_format(fields: &Fields<'_>) -> Result<Option<(String, Shape)>, Refusal> {
    const PLACE: &str = "response_format";
    let Some(format) = fields.object(PLACE)? else { return Ok(None) };
    let shape = match format.text("type")? {
        Some("text") => return Ok(None),
        // llama.cpp's server takes a schema here too.
        Some("json_object") => match format.get("schema") {
            Some(schema) => json_schema(schema, &format.place("schema"))?,
            None => Shape::json(),
        },
        Some("json_schema") => {
            let missing = |place: &str| invalid(place, "is missing", "send `{\"name\": \"…\", \"schema\": {…}}`");
            let inner = format.object("json_schema")?.ok_or_else(|| missing(&format.place("json_schema")))?;
            let schema = inner.get("schema").ok_or_else(|| missing(&inner.place("schema")))?;
            // Whether `strict` is asked for or not: what is kept to fits in either case.
            inner.flag("strict")?;
            json_schema(schema, &inner.place("schema"))?
        }
        Some(other) => {
            let hint = "use `text`, `json_object` or `json_schema`";
            return Err(invalid(&format.place("type"), &format!("is `{other}`"), hint));
        }
        None => return Err(invalid(PLACE, "has no type", "leave it out, or send `{\"type\": \"text\"}`")),
    };
    Ok(Some((PLACE.to_owned(), shape)))
}

/// A field that holds one form of that kind.
fn one(fields: &Fields<'_>, name: &str, kind: &str) -> Result<Option<Shape>, Refusal> {
    let place = fields.place(name);
    let Some(value) = fields.get(name).filter(|value| !is_empty(value)) else { return Ok(None) };
    let text = || value.as_str().ok_or_else(|| wrong(&place, "a string", value));
    let shape = match kind {
        "json" | "json_schema" => json_schema(value, &place)?,
        "regex" => made(Shape::regex(text()?), &place)?,
        "grammar" => grammar(text()?, &place)?,
        _ => {
            let items = value.as_array().ok_or_else(|| wrong(&place, "an array of strings", value))?;
            let choice = |(n, item): (usize, &Value)| {
                item.as_str().map(str::to_owned).ok_or_else(|| wrong(&format!("{place}[{n}]"), "a string", item))
            };
            made(Shape::choice(items.iter().enumerate().map(choice).collect::<Result<_, _>>()?), &place)?
        }
    };
    Ok(Some(shape))
}

/// As an object, or as its text.
fn json_schema(value: &Value, place: &str) -> Result<Shape, Refusal> {
    match value {
        Value::String(text) => made(Shape::json_schema(text.as_str()), place),
        Value::Object(_) | Value::Bool(_) => made(Shape::json_schema(value.to_string()), place),
        other => Err(wrong(place, "a JSON Schema", other)),
    }
}

fn grammar(text: &str, place: &str) -> Result<Shape, Refusal> {
    if base::gbnf::is_gbnf(text) {
        return made(Shape::gbnf(text), place);
    }
    made(Shape::grammar(text), place)
}

fn made(shape: Result<Shape, Fault>, place: &str) -> Result<Shape, Refusal> {
    shape.map_err(|fault| Refusal::of(fault, place))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Code, Form};
    use serde_json::json;

    fn read(body: Value) -> Result<Form, Refusal> {
        shape(&Fields::top(body.as_object().expect("object"))).map(|shape| shape.form().clone())
    }

    #[test]
    fn three_dialects_ask_for_the_same_forms() {
        let schema = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "null"}}});
        // In the order in which it was sent: properties are answered in that order.
        let text = r#"{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"null"}}}"#;
        let gbnf = || Form::Grammar("start: ALL\nALL: ( \"a\" ) & /(?s:.+)/\n".into());
        let choice = || Form::Choice(vec!["a".into(), "b".into()]);
        for (body, form) in [
            (json!({}), Form::Free),
            (json!({"response_format": {"type": "text"}}), Form::Free),
            (json!({"guided_json": {}, "grammar": "", "guided_choice": [], "structured_outputs": {}}), Form::Free),
            (json!({"response_format": {"type": "json_object"}}), Form::Json),
            (json!({"structured_outputs": {"json_object": true}}), Form::Json),
            (
                json!({"response_format": {"type": "json_schema",
                       "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
                Form::JsonSchema(text.into()),
            ),
            (json!({"response_format": {"type": "json_object", "schema": schema}}), Form::JsonSchema(text.into())),
            (json!({"json_schema": schema}), Form::JsonSchema(text.into())),
            (json!({"guided_json": text}), Form::JsonSchema(text.into())),
            (json!({"structured_outputs": {"json": schema}}), Form::JsonSchema(text.into())),
            (json!({"guided_regex": "a+"}), Form::Regex("a+".into())),
            (json!({"structured_outputs": {"regex": "a+"}}), Form::Regex("a+".into())),
            (json!({"guided_choice": ["a", "b"]}), choice()),
            (json!({"structured_outputs": {"choice": ["a", "b"]}}), choice()),
            (json!({"grammar": "start: \"a\""}), Form::Grammar("start: \"a\"".into())),
            (json!({"guided_grammar": "start: \"a\""}), Form::Grammar("start: \"a\"".into())),
            (json!({"grammar": "root ::= \"a\""}), gbnf()),
            (json!({"structured_outputs": {"grammar": "root ::= \"a\""}}), gbnf()),
        ] {
            assert_eq!(read(body.clone()).expect("accepted"), form, "{body}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_with_its_place() {
        for (body, param) in [
            (json!({"response_format": {}}), "response_format"),
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_json": [1]}), "guided_json"),
            (json!({"guided_regex": 3}), "guided_regex"),
            (json!({"guided_choice": "a"}), "guided_choice"),
            (json!({"guided_choice": ["a", 3]}), "guided_choice[1]"),
            (json!({"guided_choice": ["a", "a"]}), "guided_choice"),
            (json!({"grammar": "root ::= <think>"}), "grammar"),
            (json!({"structured_outputs": {"regex": "a", "choice": ["a"]}}), "structured_outputs.choice"),
            (json!({"guided_regex": "a", "response_format": {"type": "json_object"}}), "guided_regex"),
        ] {
            let refusal = read(body.clone()).expect_err(param);
            assert_eq!(refusal.fault.code, Code::InvalidAsk, "{body}");
            assert_eq!(refusal.param.as_deref(), Some(param), "{body}");
            assert!(!refusal.fault.hints.is_empty(), "{body}");
        }
    }

    #[test]
    fn what_becomes_of_a_loop_can_be_said() {
        let read = |body: Value| on_loop(&Fields::top(body.as_object().expect("object")));
        for (word, expected) in [("stop", OnLoop::Stop), ("retry", OnLoop::Retry), ("ignore", OnLoop::Ignore)] {
            assert_eq!(read(json!({"on_loop": word})).expect("a word"), expected);
        }
        assert_eq!(read(json!({})).expect("nothing"), OnLoop::Stop);
        assert!(read(json!({"on_loop": "go"})).is_err());
    }
}
