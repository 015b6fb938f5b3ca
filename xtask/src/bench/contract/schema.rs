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

/// Whether a value fits. Knows the keywords that are drawn above, and no others.
pub(super) fn fits(schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return schema.as_bool().unwrap_or(false) };
    schema.iter().all(|(keyword, wanted)| keeps(schema, keyword, wanted, value))
}

fn keeps(schema: &Map<String, Value>, keyword: &str, wanted: &Value, value: &Value) -> bool {
    let number = value.as_f64();
    let length = value.as_str().map(|text| text.chars().count() as u64);
    let items = value.as_array();
    let fields = value.as_object();
    let limit = wanted.as_f64().unwrap_or(f64::NAN);
    let count = wanted.as_u64().unwrap_or(0);
    match keyword {
        "type" => match wanted {
            Value::Array(names) => names.iter().any(|name| is_a(name, value)),
            name => is_a(name, value),
        },
        "enum" => wanted.as_array().is_some_and(|values| values.iter().any(|one| same(one, value))),
        "const" => same(wanted, value),
        "minimum" => number.is_none_or(|number| number >= limit),
        "maximum" => number.is_none_or(|number| number <= limit),
        "exclusiveMaximum" => number.is_none_or(|number| number < limit),
        "multipleOf" => number.is_none_or(|number| (number / limit).fract() == 0.0),
        "minLength" => length.is_none_or(|length| length >= count),
        "maxLength" => length.is_none_or(|length| length <= count),
        "minItems" => items.is_none_or(|items| items.len() as u64 >= count),
        "maxItems" => items.is_none_or(|items| items.len() as u64 <= count),
        "items" => {
            let before = schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            items.is_none_or(|items| items.iter().skip(before).all(|item| fits(wanted, item)))
        }
        "prefixItems" => {
            let wanted = wanted.as_array().into_iter().flatten();
            items.is_none_or(|items| wanted.zip(items).all(|(wanted, item)| fits(wanted, item)))
        }
        "anyOf" => wanted.as_array().is_some_and(|options| options.iter().any(|option| fits(option, value))),
        "properties" => fields.is_none_or(|fields| {
            fields.iter().all(|(name, field)| wanted.get(name).is_none_or(|wanted| fits(wanted, field)))
        }),
        "additionalProperties" => fields.is_none_or(|fields| {
            let known = schema.get("properties").and_then(Value::as_object);
            fields
                .iter()
                .all(|(name, field)| known.is_some_and(|known| known.contains_key(name)) || fits(wanted, field))
        }),
        "required" => fields.is_none_or(|fields| {
            wanted
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| name.as_str().is_some_and(|name| fields.contains_key(name)))
        }),
        "uniqueItems" => items.is_none_or(|items| {
            items.iter().enumerate().all(|(n, item)| items[n + 1..].iter().all(|other| !same(item, other)))
        }),
        "contains" => items.is_none_or(|items| items.iter().any(|item| fits(wanted, item))),
        "not" => !fits(wanted, value),
        "dependentRequired" => fields.is_none_or(|fields| {
            wanted.as_object().into_iter().flatten().all(|(name, needs)| {
                !fields.contains_key(name)
                    || needs
                        .as_array()
                        .into_iter()
                        .flatten()
                        .all(|need| fields.contains_key(need.as_str().unwrap_or("")))
            })
        }),
        other => panic!("`{other}` is drawn and not judged"),
    }
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Numbers are the same by their value.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::fits;
    use super::*;

    #[test]
    fn the_judge_knows_right_from_wrong() {
        for (schema, right, wrong) in [
            (json!({"type": "integer", "minimum": 1, "maximum": 3}), json!(3), json!(3.5)),
            (json!({"type": ["null", "string"], "maxLength": 2}), json!("ßß"), json!("abc")),
            (json!({"enum": [1, "a"]}), json!(1.0), json!("b")),
            (json!({"multipleOf": 3, "exclusiveMaximum": 9}), json!(6), json!(9)),
            (
                json!({"prefixItems": [{"type": "null"}], "items": false, "minItems": 1}),
                json!([null]),
                json!([null, 1]),
            ),
            (
                json!({"properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": false}),
                json!({"a": null}),
                json!({"a": null, "b": 1}),
            ),
            (json!({"uniqueItems": true}), json!([1, 2]), json!([1, 1.0])),
            (json!({"contains": {"const": 2}}), json!([1, 2]), json!([1])),
            (json!({"not": {"type": "string"}}), json!(1), json!("a")),
            (json!({"dependentRequired": {"a": ["b"]}}), json!({"a": 1, "b": 2}), json!({"a": 1})),
            (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), json!(3)),
        ] {
            assert!(fits(&schema, &right) && !fits(&schema, &wrong), "{schema}");
        }
    }

    #[test]
    fn drawn_schemas_are_the_same_in_every_run_and_some_are_spoiled() {
        let all: Vec<Drawn> = (0..200).map(draw).collect();
        assert_eq!(all[7].schema, draw(7).schema);
        assert_eq!(all.iter().filter(|drawn| drawn.unkept.is_some()).count(), 25);
        let spoiled = &all[8];
        assert!(spoiled.schema.to_string().contains(spoiled.unkept.expect("every eighth")));
        // All that is drawn can be judged.
        all.iter().for_each(|drawn| drop(fits(&drawn.schema, &json!({"spoiled": []}))));
    }
}
