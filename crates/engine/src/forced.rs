//! What shape an answer takes that must be a call, and what it begins with. Pure.

use crate::parse::Style;
use crate::template::Lead;
use base::{Tool, ToolChoice, Toolbox};
use serde_json::{Map, Value, json};

/// A call that must be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forced {
    /// The only tool that it can be: then the answer is nothing but its arguments.
    pub(crate) named: Option<String>,
    /// JSON schema of the answer.
    pub(crate) schema: String,
    /// What of the call stands there already.
    pub(crate) lead: Vec<Lead>,
}

/// `None` when no call must be made.
pub(crate) fn forced(style: &Style, toolbox: &Toolbox) -> Option<Forced> {
    match toolbox.choice {
        ToolChoice::Auto | ToolChoice::None => return None,
        ToolChoice::Required | ToolChoice::Named(_) => {}
    }
    let callable: Vec<&Tool> = toolbox.callable().collect();
    let mut lead = Vec::new();
    if let Some((_, close)) = style.think {
        lead.push(Lead::EndThought(format!("{close}\n\n")));
    }
    lead.push(Lead::Marks(style.lead.to_owned()));
    let named = match callable.as_slice() {
        [tool] => {
            let name = Value::from(tool.name.as_str());
            lead.push(Lead::Said(format!("{{\"name\": {name}, \"{}\": ", style.arguments_key())));
            Some(tool.name.clone())
        }
        _ => None,
    };
    let schema = match callable.as_slice() {
        [tool] => parameters(tool),
        tools => one_of(tools, style.arguments_key()),
    };
    Some(Forced { named, schema: schema.to_string(), lead })
}

/// The schema of a tool's arguments: an object in any case.
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

/// References within a schema begin at its root, which lies deeper now.
fn move_references(schema: &mut Value, root: &str) {
    match schema {
        Value::Object(object) => {
            let within = |object: &Map<String, Value>| match object.get("$ref") {
                Some(Value::String(place)) => place.strip_prefix('#').map(|place| format!("{root}{place}")),
                _ => None,
            };
            if let Some(place) = within(object) {
                object.insert("$ref".to_owned(), Value::from(place));
            }
            for (key, value) in object.iter_mut() {
                // Values that are no schemas hold no references.
                if !matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
                    move_references(value, root);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, root)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: &str) -> Tool {
        Tool { name: name.into(), description: String::new(), parameters: parameters.into() }
    }

    fn toolbox(choice: ToolChoice) -> Toolbox {
        let tree = r##"{"properties": {"root": {"$ref": "#/$defs/node"}}, "$defs": {"node": {"type": "string"}}}"##;
        Toolbox { tools: vec![tool("now", ""), tool("tree", tree)], choice, ..Toolbox::default() }
    }

    #[test]
    fn only_a_forced_choice_has_a_shape() {
        for choice in [ToolChoice::Auto, ToolChoice::None] {
            assert_eq!(forced(&Style::PLAIN, &toolbox(choice)), None);
        }
    }

    #[test]
    fn a_named_tool_has_its_own_schema() {
        let forced = forced(&Style::PLAIN, &toolbox(ToolChoice::Named("now".into()))).expect("it is forced");
        assert_eq!(forced.named.as_deref(), Some("now"));
        let schema: Value = serde_json::from_str(&forced.schema).expect("json");
        assert_eq!(schema["additionalProperties"], false);
        let lead = [Lead::Marks("<tool_call>\n".into()), Lead::Said("{\"name\": \"now\", \"arguments\": ".into())];
        assert_eq!(forced.lead, lead);
    }

    #[test]
    fn several_tools_stand_side_by_side_and_their_references_hold() {
        let forced = forced(&Style::PLAIN, &toolbox(ToolChoice::Required)).expect("it is forced");
        assert_eq!(forced.named, None);
        let schema: Value = serde_json::from_str(&forced.schema).expect("json");
        let place = schema["anyOf"][1]["properties"]["arguments"]["properties"]["root"]["$ref"].as_str();
        let place = place.and_then(|place| place.strip_prefix('#')).expect("a reference");
        assert_eq!(schema.pointer(place), Some(&json!({"type": "string"})));
        assert_eq!(schema["anyOf"][0]["properties"]["name"], json!({"const": "now"}));
    }
}
