//! Schemas that are drawn. Pure.

use super::super::dice::Dice;
use serde_json::{Map, Value, json};

/// A drawn schema.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    pub(super) schema: Value,
    /// It holds a keyword that no token-by-token mask keeps; its name.
    pub(super) unkept: Option<&'static str>,
}

/// One in so many has a keyword that can't be kept token by token.
const UNKEPT_EVERY: u64 = 8;
const DEPTH: u32 = 3;

pub(super) fn draw(seed: u64) -> Drawn {
    let mut dice = Dice(seed);
    let mut schema = object(&mut dice, DEPTH);
    let unkept = seed.is_multiple_of(UNKEPT_EVERY).then(|| spoil(&mut dice, &mut schema));
    Drawn { schema, unkept }
}

fn spoil(dice: &mut Dice, schema: &mut Value) -> &'static str {
    let list = json!({ "type": "array", "items": { "enum": ["a", "b"] }, "minItems": 2, "maxItems": 3 });
    let (name, spoiled) = match dice.below(4) {
        0 => ("uniqueItems", with(list, "uniqueItems", json!(true))),
        1 => ("contains", with(list, "contains", json!({ "const": "b" }))),
        2 => ("not", json!({ "type": "string", "maxLength": 3, "not": { "const": "abc" } })),
        _ => (
            "dependentRequired",
            json!({ "type": "object", "properties": { "a": { "type": "null" }, "b": { "type": "null" } },
                    "additionalProperties": false, "dependentRequired": { "a": ["b"] } }),
        ),
    };
    schema["properties"]["spoiled"] = spoiled;
    schema["required"].as_array_mut().expect("an object has a list of what it requires").push(json!("spoiled"));
    name
}

fn with(mut schema: Value, name: &str, value: Value) -> Value {
    schema[name] = value;
    schema
}

fn any(dice: &mut Dice, depth: u32) -> Value {
    match dice.below(if depth == 0 { 7 } else { 11 }) {
        0 => json!({ "type": "boolean" }),
        1 => json!({ "type": ["null", "integer"], "minimum": 0, "maximum": 1 + dice.below(1000) }),
        2 => {
            let least = dice.below(4);
            json!({ "type": "string", "minLength": least, "maxLength": least + 1 + dice.below(12) })
        }
        3 => {
            let words: Vec<Value> = (0..=dice.below(5)).map(|_| dice.word(5).into()).collect();
            json!({ "enum": words })
        }
        4 => {
            json!({ "type": "number", "minimum": -(dice.below(40) as f64) / 8.0, "maximum": dice.below(40) as f64 / 8.0 })
        }
        5 => json!({ "const": dice.word(6) }),
        6 => json!({ "type": "integer", "multipleOf": 1 + dice.below(9), "minimum": 10, "exclusiveMaximum": 500 }),
        7 => {
            let most = dice.below(4);
            json!({ "type": "array", "items": any(dice, depth - 1), "minItems": dice.below(most + 1), "maxItems": most })
        }
        8 => json!({ "anyOf": [any(dice, depth - 1), any(dice, depth - 1)] }),
        9 => json!({ "type": "array", "prefixItems": [any(dice, depth - 1), any(dice, depth - 1)], "items": false,
                     "minItems": 2 }),
        _ => object(dice, depth - 1),
    }
}

fn object(dice: &mut Dice, depth: u32) -> Value {
    let names: Vec<String> = (0..=dice.below(4)).map(|n| format!("{}_{n}", dice.word(4))).collect();
    let mut properties = Map::new();
    for name in &names {
        properties.insert(name.clone(), any(dice, depth.saturating_sub(1)));
    }
    let required: Vec<&String> = names.iter().filter(|_| dice.below(3) > 0).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::super::judge::fits;
    use super::*;

    #[test]
    fn drawn_schemas_are_the_same_in_every_run_and_some_are_spoiled() {
        let all: Vec<Drawn> = (0..200).map(draw).collect();
        assert_eq!(all[7].schema, draw(7).schema);
        assert_eq!(all.iter().filter(|drawn| drawn.unkept.is_some()).count(), 25);
        let spoiled = &all[8];
        assert!(spoiled.schema.to_string().contains(spoiled.unkept.expect("every eighth")));
        // All that is drawn can be judged.
        assert!(all.iter().all(|drawn| !fits(&drawn.schema, &json!([]))));
    }
}
