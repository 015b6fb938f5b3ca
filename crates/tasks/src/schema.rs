//! Whether a schema can be compiled at all: a look at its size when a task is made, before anything is built from it.
//!
//! What compiles schemas goes down into each of them and follows each reference anew, with no bound of its own.
//! So this goes the same ways and counts: what passes is compiled in bounded time, memory and stack.

use crate::task::invalid;
use base::{Fault, Shape};
use serde_json::Value;

/// LIMIT: schemas within a schema, where one that is referred to counts each time.
const SCHEMAS_MAX: usize = 20_000;
/// LIMIT: how deep schemas lie in each other, over references too.
const DEPTH_MAX: usize = 64;
/// LIMIT: schemas that one value is put to by way of each other. Along a value that a recursive schema lets be deep,
/// as many are checked within each other at each step.
const STEPS_MAX: usize = 12;
/// LIMIT: regular expressions; each is compiled.
const PATTERNS_MAX: usize = 256;
/// LIMIT: bytes of one compiled expression.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// LIMIT: bytes of a reference, which is read anew wherever it is followed.
const REFERENCE_BYTES_MAX: usize = 1024;

/// What the schemas below a keyword are put to.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// The very value that the schema around them is put to.
    Same,
    /// Something inside it.
    Inner,
    /// The one or the other, and they lie there under names.
    SameByName,
    InnerByName,
}

/// Of every draft: what isn't here holds no schema.
fn below(keyword: &str) -> Option<Of> {
    match keyword {
        "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => Some(Of::Same),
        "dependentSchemas" | "dependencies" => Some(Of::SameByName),
        "items" | "prefixItems" | "additionalItems" | "unevaluatedItems" | "contains" => Some(Of::Inner),
        "additionalProperties" | "unevaluatedProperties" | "propertyNames" | "contentSchema" => Some(Of::Inner),
        "properties" | "patternProperties" | "$defs" | "definitions" => Some(Of::InnerByName),
        _ => None,
    }
}

/// Checks what can be checked without compiling.
///
/// # Errors
/// [`base::Code::InvalidAsk`] that says which bound was passed, or which reference goes round.
pub(crate) fn check(schema: &Value) -> Result<(), Fault> {
    if !schema.is_object() {
        return Err(invalid("schema", "is no object", "send a JSON Schema: `{\"type\": \"object\", …}`"));
    }
    // First of all: the rest takes as long as the schema is.
    Shape::json_schema(schema.to_string())?;
    Walk { root: schema, open: Vec::new(), schemas: 0, patterns: 0 }.visit(schema, 0)
}

/// Takes as long as [`check`] lets it: not for a thread that others wait for.
///
/// # Errors
/// [`base::Code::InvalidAsk`] with what is wrong.
pub(crate) fn compiled(schema: &Value) -> Result<jsonschema::Validator, Fault> {
    // Answers are kept to expressions that never step back; so are these.
    let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| {
        invalid("schema", "is no JSON Schema", "draft 2020-12 is read where `$schema` doesn't say otherwise")
            .cause(error)
    })
}

struct Walk<'a> {
    root: &'a Value,
    /// The schemas around the one that is looked at, each with how deep inside the whole value it is put to one.
    open: Vec<(&'a Value, usize)>,
    schemas: usize,
    patterns: usize,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Value, level: usize) -> Result<(), Fault> {
        let Value::Object(object) = schema else { return Ok(()) };
        if let Some((_, own)) = self.open.iter().find(|(open, _)| std::ptr::eq(*open, schema)) {
            return if *own == level { Err(refused("refers to itself with nothing in between")) } else { Ok(()) };
        }
        self.schemas += 1;
        bounded("schemas, each counted where it is referred to", self.schemas, SCHEMAS_MAX)?;
        bounded("schemas inside each other, over references too", self.open.len() + 1, DEPTH_MAX)?;
        let steps = self.open.iter().rev().take_while(|(_, own)| *own == level).count() + 1;
        bounded("schemas for one value that refer to or hold each other", steps, STEPS_MAX)?;
        self.open.push((schema, level));
        for (keyword, value) in object {
            self.keyword(keyword, value, level)?;
        }
        self.open.pop();
        Ok(())
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value, level: usize) -> Result<(), Fault> {
        match (keyword, value) {
            ("$ref", Value::String(reference)) => return self.visit(self.resolve(reference)?, level),
            ("pattern", Value::String(_)) => self.patterns += 1,
            ("patternProperties", Value::Object(names)) => self.patterns += names.len(),
            // They would send references elsewhere than `resolve` looks.
            ("$id" | "id", Value::String(_)) if self.open.len() == 1 => {}
            ("$id" | "id" | "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef" | "$recursiveAnchor", _) => {
                return Err(refused(&format!("holds `{keyword}`, which isn't supported")));
            }
            _ => {}
        }
        bounded("regular expressions", self.patterns, PATTERNS_MAX)?;
        let Some(of) = below(keyword) else { return Ok(()) };
        let level = if matches!(of, Of::Same | Of::SameByName) { level } else { level + 1 };
        match value {
            Value::Object(named) if matches!(of, Of::SameByName | Of::InnerByName) => {
                named.values().try_for_each(|schema| self.visit(schema, level))
            }
            Value::Array(list) => list.iter().try_for_each(|schema| self.visit(schema, level)),
            one => self.visit(one, level),
        }
    }

    fn resolve(&self, reference: &str) -> Result<&'a Value, Fault> {
        bounded("bytes in one reference", reference.len(), REFERENCE_BYTES_MAX)?;
        let pointer = reference.strip_prefix('#').and_then(decoded);
        let found = pointer.and_then(|pointer| self.root.pointer(&pointer));
        found.ok_or_else(|| refused(&format!("refers to `{reference}`, and there is no such place in it")))
    }
}

fn bounded(what: &str, count: usize, most: usize) -> Result<(), Fault> {
    let words = || invalid("schema", &format!("has {count} {what}, or more"), &format!("at most {most} are possible"));
    if count > most { Err(words()) } else { Ok(()) }
}

fn refused(what: &str) -> Fault {
    invalid("schema", what, "refer to places in the schema as `#/…`, and to what lies inside a value")
}

/// With `%41` read as `A`.
fn decoded(text: &str) -> Option<String> {
    let mut made = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        made.push(if byte == b'%' {
            u8::try_from(16 * digit(rest.next()?)? + digit(rest.next()?)?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(made).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Code;
    use serde_json::{Map, json};

    /// Definitions that each refer to the next one by `link`; the last one is a string.
    fn chained(count: usize, link: impl Fn(Value) -> Value) -> Value {
        let next = |at: usize| link(json!({ "$ref": format!("#/$defs/{}", at + 1) }));
        let mut defs: Map<String, Value> = (0..count).map(|at| (at.to_string(), next(at))).collect();
        defs.insert(count.to_string(), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/0", "$defs": defs })
    }

    #[test]
    fn what_would_take_for_ever_is_refused_with_the_reason() {
        let patterns: Vec<Value> = (0..=PATTERNS_MAX).map(|at| json!({ "pattern": format!("a{at}") })).collect();
        for (schema, word) in [
            (json!(["type"]), "no object"),
            (chained(100_000, |next| next), "bytes"),
            (chained(5_000, |next| next), "for one value"),
            (chained(5_000, |next| json!({ "items": next })), "inside each other"),
            (chained(20, |next| json!({ "properties": { "a": next.clone(), "b": next } })), "counted where"),
            (json!({ "anyOf": patterns }), "257 regular expressions"),
            (json!({ "allOf": [{ "$ref": "#" }] }), "refers to itself"),
            (
                json!({ "$ref": "#/$defs/a", "$defs": { "a": { "not": { "$ref": "#/%24defs/a" } } } }),
                "refers to itself",
            ),
            (json!({ "properties": { "a": { "$ref": "https://example.org/a" } } }), "example.org"),
            (json!({ "properties": { "a": { "$ref": "#/$defs/a" } } }), "no such place"),
            (json!({ "items": { "$id": "json-schema:///" } }), "`$id`"),
            (json!({ "$ref": format!("#/{}", "a".repeat(2000)) }), "one reference"),
        ] {
            let fault = check(&schema).expect_err(word);
            assert_eq!(fault.code, Code::InvalidAsk);
            assert!(fault.message.contains(word), "{word}: {fault:?}");
            assert!(!fault.hints.is_empty());
        }
    }

    #[test]
    fn what_people_write_passes() {
        for schema in [
            json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.org/it",
                "type": "object", "properties": { "$ref": { "const": { "$ref": "#" } }, "id": { "type": "integer" } } }),
            json!({ "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#" } } } }),
            json!({ "$ref": "#/$defs/a%20b", "$defs": { "a b": { "anyOf": [{ "type": "null" }, { "type": "object",
                "additionalProperties": { "$ref": "#/$defs/a%20b" } }] } } }),
        ] {
            check(&schema).expect("it is small");
            compiled(&schema).expect("it is a schema");
        }
    }

    /// The most that is let through, put to values as deep as they are read: it must fit a common thread's stack.
    #[test]
    fn what_passes_fits_the_stack() {
        let mut schema = json!({ "properties": { "a": { "$ref": "#" } } });
        for _ in 0..STEPS_MAX - 1 {
            schema = json!({ "allOf": [schema] });
        }
        // Its root is one of them, and `a` refers to that.
        check(&schema).expect("all bounds are kept");
        let mut deep = json!(1);
        for _ in 0..126 {
            deep = json!({ "a": deep });
        }
        let validator = compiled(&schema).expect("a schema");
        assert!(validator.is_valid(&deep) && validator.iter_errors(&deep).next().is_none());
        let nested = (1..DEPTH_MAX).fold(json!({}), |inner, _| json!({ "properties": { "a": inner } }));
        check(&nested).expect("all bounds are kept");
        assert!(compiled(&nested).expect("a schema").is_valid(&deep));
    }
}
