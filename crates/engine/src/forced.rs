//! What shape an answer takes that must be a call, and what it begins with. Pure.

use crate::parse::Style;
use crate::template::Lead;
use base::{Tool, Toolbox};
use serde_json::Value;

/// A call that must be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forced {
    /// The only tool that it can be: then the answer is nothing but its arguments.
    pub(crate) named: Option<String>,
    /// JSON schema of the answer, bounded in size where the ask was checked.
    pub(crate) schema: String,
    /// What of the call stands there already.
    pub(crate) lead: Vec<Lead>,
}

/// `None` when no call must be made.
pub(crate) fn forced(style: &Style, toolbox: &Toolbox) -> Option<Forced> {
    let schema = toolbox.call_schema(style.arguments_key())?;
    let callable: Vec<&Tool> = toolbox.callable().collect();
    let mut lead = Vec::new();
    if let Some((_, close)) = style.think {
        lead.push(Lead::EndThought(format!("{close}\n\n")));
    }
    lead.push(Lead::Marks(style.lead.to_owned()));
    let named = match callable.as_slice() {
        [tool] => {
            let name = Value::from(tool.name.as_str());
            lead.push(Lead::Said(if style.recipients {
                format!("{}\n", tool.name)
            } else {
                format!("{{\"name\": {name}, \"{}\": ", style.arguments_key())
            }));
            Some(tool.name.clone())
        }
        _ => None,
    };
    Some(Forced { named, schema, lead })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::ToolChoice;
    use serde_json::json;

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
