//! The schema of a call that must be made.

use super::{Tool, Toolbox};
use serde_json::{Map, Value, json};

/// The longest name that a model's language has for the arguments of a call: the one to check sizes with.
pub(super) const LONGEST_KEY: &str = "parameters";

impl Toolbox {
    /// JSON schema of a call that must be made: of the arguments where only one tool can be called, and otherwise of
    /// an envelope with `name` and, under `key`, the arguments. `None` when no call must be made.
    pub fn call_schema(&self, key: &str) -> Option<String> {
        let callable: Vec<&Tool> = self.is_forced().then(|| self.callable().collect())?;
        let schema = match callable.as_slice() {
            [tool] => parameters(tool),
            tools => one_of(tools, key),
        };
        Some(schema.to_string())
    }
}

impl Tool {
    /// The schema of its arguments: an object in any case.
    pub fn schema(&self) -> Value {
        parameters(self)
    }

    /// The schema of one of its arguments by itself; `None` when its own schema doesn't name it.
    pub fn argument_schema(&self, name: &str) -> Option<Value> {
        const WHOLE: &str = "arguments";
        let whole = parameters(self);
        let mut part = whole.get("properties")?.get(name)?.clone();
        let has_references = move_references(&mut part, &format!("#/$defs/{WHOLE}"));
        if let (true, Some(object)) = (has_references, part.as_object_mut()) {
            let mut whole = whole;
            move_references(&mut whole, &format!("#/$defs/{WHOLE}"));
            let defs = object.entry("$defs").or_insert_with(|| json!({}));
            if let Some(defs) = defs.as_object_mut() {
                defs.insert(WHOLE.to_owned(), whole);
            }
        }
        Some(part)
    }
}

fn parameters(tool: &Tool) -> Value {
    let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
    match serde_json::from_str(&tool.parameters) {
        Ok(Value::Object(schema)) if !schema.is_empty() => {
            let mut schema = schema;
            schema.entry("type").or_insert_with(|| Value::from("object"));
            Value::Object(schema)
        }
        Ok(_) | Err(_) => nothing(),
    }
}

/// An envelope around the arguments of one of several tools.
fn one_of(tools: &[&Tool], key: &str) -> Value {
    let branch = |(n, tool): (usize, &&Tool)| {
        let mut arguments = parameters(tool);
        move_references(&mut arguments, &format!("#/anyOf/{n}/properties/{key}"));
        let properties = json!({"name": {"const": tool.name}, key: arguments});
        json!({"type": "object", "properties": properties, "required": ["name", key], "additionalProperties": false})
    };
    json!({"anyOf": tools.iter().enumerate().map(branch).collect::<Vec<_>>()})
}

/// References within a schema begin at its root, which lies deeper now. Whether there are any.
fn move_references(schema: &mut Value, root: &str) -> bool {
    match schema {
        Value::Object(object) => {
            let within = |object: &Map<String, Value>| match object.get("$ref") {
                Some(Value::String(place)) => place.strip_prefix('#').map(|place| format!("{root}{place}")),
                _ => None,
            };
            let mut moved = false;
            if let Some(place) = within(object) {
                object.insert("$ref".to_owned(), Value::from(place));
                moved = true;
            }
            for (key, value) in object.iter_mut() {
                // Values that are no schemas hold no references.
                if !matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
                    moved |= move_references(value, root);
                }
            }
            moved
        }
        Value::Array(items) => items.iter_mut().fold(false, |moved, item| move_references(item, root) | moved),
        _ => false,
    }
}
