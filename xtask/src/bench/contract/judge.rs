//! What fits a schema: written from the standard's words and by nobody who generates, so that a fault there can't
//! hide here. The tests of the worker judge by it too. Pure.

use serde_json::{Map, Value};

/// Whether a value fits.
///
/// # Panics
/// On a keyword that it doesn't know: nothing is judged by half.
pub(crate) fn fits(schema: &Value, value: &Value) -> bool {
    fits_in(schema, schema, value)
}

fn fits_in(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(schema) = schema else { return schema.as_bool().unwrap_or(false) };
    schema.iter().all(|(keyword, wanted)| keeps(root, schema, keyword, wanted, value))
}

fn keeps(root: &Value, schema: &Map<String, Value>, keyword: &str, wanted: &Value, value: &Value) -> bool {
    let fits = |wanted: &Value, value: &Value| fits_in(root, wanted, value);
    let options = || wanted.as_array().into_iter().flatten();
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
        "$defs" => true,
        "$ref" => {
            let pointer = wanted.as_str().unwrap_or_default().trim_start_matches('#');
            root.pointer(pointer).is_some_and(|wanted| fits(wanted, value))
        }
        "allOf" => options().all(|option| fits(option, value)),
        "oneOf" => options().filter(|option| fits(option, value)).count() == 1,
        "minimum" => number.is_none_or(|number| number >= limit),
        "exclusiveMinimum" => number.is_none_or(|number| number > limit),
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
        "anyOf" => options().any(|option| fits(option, value)),
        "pattern" => value.as_str().is_none_or(|text| matches(wanted, text)),
        "format" => value.as_str().is_none_or(|text| is_formatted(wanted, text)),
        "maxProperties" => fields.is_none_or(|fields| fields.len() as u64 <= count),
        "patternProperties" => fields.is_none_or(|fields| {
            let patterns = wanted.as_object().into_iter().flatten();
            patterns
                .flat_map(|(pattern, wanted)| {
                    fields
                        .iter()
                        .filter(|(name, _)| matches(&pattern.as_str().into(), name))
                        .map(move |(_, field)| (wanted, field))
                })
                .all(|(wanted, field)| fits(wanted, field))
        }),
        "properties" => fields.is_none_or(|fields| {
            fields.iter().all(|(name, field)| wanted.get(name).is_none_or(|wanted| fits(wanted, field)))
        }),
        "additionalProperties" => fields.is_none_or(|fields| {
            let known = schema.get("properties").and_then(Value::as_object);
            let patterns = schema.get("patternProperties").and_then(Value::as_object);
            let is_known = |name: &String| {
                known.is_some_and(|known| known.contains_key(name))
                    || patterns.into_iter().flat_map(Map::keys).any(|pattern| matches(&pattern.as_str().into(), name))
            };
            fields.iter().all(|(name, field)| is_known(name) || fits(wanted, field))
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

/// The few expressions that are asked of it, written out.
fn matches(pattern: &Value, text: &str) -> bool {
    let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match pattern.as_str().unwrap_or_default() {
        "^[a-f]{3}$" => text.len() == 3 && text.bytes().all(|byte| (b'a'..=b'f').contains(&byte)),
        "^k[0-9]$" => text.len() == 2 && text.strip_prefix('k').is_some_and(digits),
        "^[a-z]{1,4}(-[0-9]+)?$" => {
            let (word, number) = text.split_once('-').map_or((text, None), |(word, number)| (word, Some(number)));
            (1..=4).contains(&word.len()) && lower(word) && number.is_none_or(digits)
        }
        other => panic!("the expression `{other}` isn't known here"),
    }
}

fn is_formatted(format: &Value, text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    match format.as_str().unwrap_or_default() {
        "date" => lengths == [4, 2, 2] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit())),
        "uuid" => {
            lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        }
        other => panic!("the format `{other}` isn't known here"),
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
    use super::*;
    use serde_json::json;

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
            (json!({"allOf": [{"minimum": 1}, {"exclusiveMinimum": 2}]}), json!(3), json!(2)),
            (json!({"oneOf": [{"minimum": 1}, {"minimum": 5}]}), json!(3), json!(6)),
            (json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"const": 1}}}), json!([1]), json!([2])),
            (json!({"pattern": "^[a-z]{1,4}(-[0-9]+)?$"}), json!("ab-12"), json!("ab-")),
            (json!({"format": "date"}), json!("2024-01-02"), json!("2024-1-2")),
            (
                json!({"patternProperties": {"^k[0-9]$": {"const": 1}}, "additionalProperties": false, "maxProperties": 1}),
                json!({"k1": 1}),
                json!({"k1": 2}),
            ),
            (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), json!(3)),
        ] {
            assert!(fits(&schema, &right) && !fits(&schema, &wrong), "{schema}");
        }
    }
}
