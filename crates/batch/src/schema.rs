//! Which JSON Schemas an answer can be kept to: each keyword is either kept, or known to forbid nothing, or the
//! schema is refused with the place of that keyword. What is refused is never left out instead.
//!
//! The dialect is 2020-12. What is handed on holds kept keywords alone, with every reference resolved and named
//! anew, so that what compiles it finds nothing that it could read in another way.

mod reach;

use reach::{Scope, Unit};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// LIMIT: schemas within a schema.
pub const SCHEMAS_MAX: usize = 20_000;
/// LIMIT: how deep schemas, and values of `enum` and `const`, may lie in each other.
pub const DEPTH_MAX: usize = 64;
/// LIMIT: the same along references, which what compiles them follows with up to 9 KiB of its stack for each schema.
pub const CHAIN_MAX: usize = 512;
/// LIMIT: patterns of one object's keys: each is compared with each, at a cost that grows with their fourth power.
pub const PATTERNS_MAX: usize = 32;
/// LIMIT: items, properties and characters that can be asked for at least; more than any answer has.
pub const COUNT_MIN_MAX: u64 = 100_000;
/// LIMIT: beyond this an upper bound on a count forbids nothing that could be said.
const COUNT_REACHED: u64 = 10_000_000;
/// Whole numbers beyond this can't be told from their neighbours by many readers of JSON.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Those that say nothing about what is valid.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    // OpenAPI's word on how to find the right one of several; `oneOf` beside it says what is valid.
    "discriminator",
    "$schema",
];
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// That can be kept to.
pub const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Why a schema can't be kept to, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A JSON pointer as a fragment: `#/properties/a/not`.
    pub path: String,
    pub reason: String,
}

/// A part of a schema that only a compiler can judge, put so that it can be judged alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    pub path: String,
    pub alone: Value,
}

/// A schema to compile, and where to look when that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub schema: Value,
    pub suspects: Vec<Suspect>,
}

/// Checks a schema and puts it into the form described above.
///
/// # Errors
/// The first keyword that can't be kept to, with its place.
pub fn prepare(schema: &Value) -> Result<Prepared, Refusal> {
    let mut work = Work::new(schema);
    let mut direct = BTreeMap::new();
    let (mut prepared, scope) = work.whole(schema, "#")?;
    direct.insert("#".to_owned(), scope);
    let mut defs = Map::new();
    while let Some((pointer, name)) = work.open.pop() {
        let target = work.resolve(&pointer)?;
        let (made, scope) = work.whole(target, &pointer)?;
        direct.insert(pointer, scope);
        defs.insert(name, made);
    }
    if let Some(pointer) = reach::itself(&direct) {
        return Err(refusal(pointer, "refers to itself with nothing in between"));
    }
    reach::check_depth(&work.units)?;
    reach::check_patterns(&direct, &work.scopes)?;
    if let (Some(object), false) = (prepared.as_object_mut(), defs.is_empty()) {
        object.insert("$defs".into(), Value::Object(defs));
    }
    Ok(Prepared { schema: prepared, suspects: work.suspects })
}

struct Work<'a> {
    root: &'a Value,
    /// References by their pointer, with the new name.
    names: BTreeMap<String, String>,
    /// Named, and not yet prepared.
    open: Vec<(String, String)>,
    schemas: usize,
    suspects: Vec<Suspect>,
    /// By their pointer.
    units: BTreeMap<String, Unit>,
    /// The unit that is being prepared.
    unit: Unit,
    /// Within units, with their places.
    scopes: Vec<(String, Scope)>,
}

impl<'a> Work<'a> {
    fn new(root: &'a Value) -> Self {
        let (names, units) = (BTreeMap::new(), BTreeMap::new());
        let (open, suspects, scopes) = (Vec::new(), Vec::new(), Vec::new());
        Self { root, names, open, schemas: 0, suspects, units, unit: Unit::default(), scopes }
    }

    fn whole(&mut self, schema: &'a Value, path: &str) -> Result<(Value, Scope), Refusal> {
        let mut scope = Scope::default();
        let made = self.schema(schema, path, 0, &mut scope)?;
        self.units.insert(path.to_owned(), std::mem::take(&mut self.unit));
        // What compiles it reads a truth value at the top in its own way.
        let made = match made {
            Value::Bool(true) => json!({}),
            Value::Bool(false) => return Err(refusal(path, "is `false`: nothing can be valid")),
            made => made,
        };
        Ok((made, scope))
    }

    /// A schema about another value than the one that it lies in.
    fn inner(&mut self, schema: &'a Value, path: &str, depth: usize) -> Result<Value, Refusal> {
        let mut scope = Scope::default();
        let made = self.schema(schema, path, depth, &mut scope)?;
        if !scope.refs.is_empty() || !scope.patterns.is_empty() {
            self.scopes.push((path.to_owned(), scope));
        }
        Ok(made)
    }

    fn schema(&mut self, schema: &'a Value, path: &str, depth: usize, scope: &mut Scope) -> Result<Value, Refusal> {
        self.schemas += 1;
        if self.schemas > SCHEMAS_MAX {
            return Err(refusal(path, &format!("is one of more than {SCHEMAS_MAX} schemas")));
        }
        if depth > DEPTH_MAX {
            return Err(refusal(path, &format!("lies more than {DEPTH_MAX} schemas deep")));
        }
        self.unit.depth = self.unit.depth.max(depth);
        let object = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(object) => object,
            _ => return Err(refusal(path, "is neither an object nor `true` or `false`")),
        };
        let mut made = Map::new();
        for (keyword, value) in object {
            let at = join(path, keyword);
            self.keyword(object, keyword, value, &at, depth, scope, &mut made)?;
        }
        check_property_count(object, path)?;
        Ok(Value::Object(made))
    }

    #[expect(clippy::too_many_arguments, reason = "one keyword in its surroundings")]
    fn keyword(
        &mut self,
        object: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
        at: &str,
        depth: usize,
        scope: &mut Scope,
        made: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        let (keyword, value) = match keyword {
            "$ref" => (keyword, Value::String(self.reference(value, at, depth, scope)?)),
            "type" => (keyword, types(value, at)?),
            "enum" => {
                let items = list(value, at)?;
                for (n, item) in items.iter().enumerate() {
                    constant(item, &join(at, &n.to_string()), 0)?;
                }
                (keyword, value.clone())
            }
            "const" => {
                constant(value, at, 0)?;
                (keyword, value.clone())
            }
            "anyOf" | "oneOf" | "allOf" => {
                let items = list(value, at)?;
                let item =
                    |(n, item): (usize, &'a Value)| self.schema(item, &join(at, &n.to_string()), depth + 1, scope);
                let made = Value::Array(items.iter().enumerate().map(item).collect::<Result<_, _>>()?);
                if keyword == "oneOf" {
                    // Alone it has no types from beside it, which only make it easier.
                    self.suspects.push(Suspect { path: at.to_owned(), alone: json!({ "oneOf": made }) });
                }
                (keyword, made)
            }
            "properties" | "patternProperties" => {
                let made = self.schemas_by_name(value, at, depth)?;
                if keyword == "patternProperties" {
                    check_patterns(value, at)?;
                    scope.patterns.extend(made.as_object().into_iter().flat_map(Map::keys).cloned());
                    let names = made.as_object().into_iter().flat_map(Map::keys);
                    let any: Map<String, Value> = names.map(|name| (name.clone(), Value::Bool(true))).collect();
                    let alone = json!({ "type": "object", "patternProperties": any });
                    self.suspects.push(Suspect { path: at.to_owned(), alone });
                }
                (keyword, made)
            }
            "prefixItems" => (keyword, self.schemas_in_order(value, at, depth)?),
            "items" if value.is_array() && object.contains_key("prefixItems") => {
                return Err(refusal(at, "is a list beside `prefixItems`: what follows those is one schema"));
            }
            // How 2019-09 and before wrote `prefixItems` and, beside it, `items`.
            "items" if value.is_array() => ("prefixItems", self.schemas_in_order(value, at, depth)?),
            "additionalItems" if object.get("items").is_some_and(Value::is_array) => {
                ("items", self.inner(value, at, depth + 1)?)
            }
            "items" | "additionalProperties" => (keyword, self.inner(value, at, depth + 1)?),
            "required" => {
                let names = value.as_array().is_some_and(|names| names.iter().all(Value::is_string));
                if !names {
                    return Err(refusal(at, "isn't a list of names"));
                }
                (keyword, value.clone())
            }
            "minItems" | "minLength" | "minProperties" => (keyword, least(value, at)?),
            "maxItems" | "maxLength" | "maxProperties" => match most(value, at)? {
                Some(most) => (keyword, most),
                None => return Ok(()),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => (keyword, bound(value, at)?),
            "multipleOf" => {
                if value.as_f64().is_none_or(|number| number <= 0.0) {
                    return Err(refusal(at, "isn't a number above 0"));
                }
                (keyword, value.clone())
            }
            "pattern" => {
                if !value.is_string() {
                    return Err(refusal(at, "isn't a string"));
                }
                self.suspects
                    .push(Suspect { path: at.to_owned(), alone: json!({ "type": "string", "pattern": value }) });
                (keyword, value.clone())
            }
            "format" => (keyword, format(value, at)?),
            _ => return passes(keyword, value, at),
        };
        made.insert(keyword.to_owned(), value);
        Ok(())
    }

    fn schemas_by_name(&mut self, value: &'a Value, at: &str, depth: usize) -> Result<Value, Refusal> {
        let object = value.as_object().ok_or_else(|| refusal(at, "isn't an object of schemas"))?;
        let mut made = Map::new();
        for (name, schema) in object {
            let schema = self.inner(schema, &join(at, name), depth + 1)?;
            made.insert(name.clone(), schema);
        }
        Ok(Value::Object(made))
    }

    fn schemas_in_order(&mut self, value: &'a Value, at: &str, depth: usize) -> Result<Value, Refusal> {
        let items = list(value, at)?;
        let item = |(n, item): (usize, &'a Value)| self.inner(item, &join(at, &n.to_string()), depth + 1);
        Ok(Value::Array(items.iter().enumerate().map(item).collect::<Result<_, _>>()?))
    }

    fn reference(&mut self, value: &Value, at: &str, depth: usize, scope: &mut Scope) -> Result<String, Refusal> {
        let text = value.as_str().ok_or_else(|| refusal(at, "isn't a string"))?;
        let pointer = if matches!(text, "#" | "#/") { "#" } else { text };
        if pointer != "#" && !pointer.starts_with("#/") {
            let what = format!("is `{text}`: only places in this very schema can be referred to, as `#/…`");
            return Err(refusal(at, &what));
        }
        scope.refs.insert(pointer.to_owned());
        let deepest = self.unit.refs.entry(pointer.to_owned()).or_default();
        *deepest = depth.max(*deepest);
        if pointer == "#" {
            return Ok(pointer.to_owned());
        }
        if let Some(name) = self.names.get(pointer) {
            return Ok(format!("#/$defs/{name}"));
        }
        self.resolve(pointer).map_err(|missing| refusal(at, &format!("is `{text}`, and {}", missing.reason)))?;
        let name = self.names.len().to_string();
        self.names.insert(pointer.to_owned(), name.clone());
        self.open.push((pointer.to_owned(), name.clone()));
        Ok(format!("#/$defs/{name}"))
    }

    fn resolve(&self, pointer: &str) -> Result<&'a Value, Refusal> {
        let text = percent_decoded(pointer.trim_start_matches('#'));
        let found = text.and_then(|text| self.root.pointer(&text));
        found.ok_or_else(|| refusal(pointer, "there is nothing at that place"))
    }
}

/// What isn't kept: passes when it forbids nothing.
fn passes(keyword: &str, value: &Value, at: &str) -> Result<(), Refusal> {
    if ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-") || matches!(keyword, "$defs" | "definitions") {
        // What is defined is looked at where it is referred to.
        return Ok(());
    }
    let at_top = at.matches('/').count() == 1;
    match (keyword, value) {
        ("$id" | "id", Value::String(_)) if at_top => Ok(()),
        ("uniqueItems" | "nullable", Value::Bool(false)) => Ok(()),
        ("nullable", _) => Err(refusal(at, "isn't JSON Schema: add `\"null\"` to `type` instead")),
        ("additionalItems", _) => {
            Err(refusal(at, "counts only where `items` is a list: use `items` beside `prefixItems` instead"))
        }
        ("uniqueItems", _) => Err(refusal(at, "isn't supported: that items differ can't be kept to token by token")),
        ("dependencies" | "dependentRequired" | "dependentSchemas" | "if" | "then" | "else" | "not", _) => {
            Err(refusal(at, "isn't supported: write the cases out as `anyOf`"))
        }
        ("unevaluatedProperties", _) => Err(refusal(at, "isn't supported: use `additionalProperties`")),
        ("unevaluatedItems", _) => Err(refusal(at, "isn't supported: use `items` beside `prefixItems`")),
        ("contains" | "minContains" | "maxContains" | "propertyNames", _) => Err(refusal(at, "isn't supported")),
        ("$id" | "id" | "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef" | "$recursiveAnchor", _) => {
            Err(refusal(at, "isn't supported: refer to places as `#/…`"))
        }
        _ => Err(refusal(at, "isn't a keyword of JSON Schema 2020-12, and a word that nobody knows may be a slip")),
    }
}

/// Keys of maps may come twice, and then count once: only one that may be any key can be asked for.
fn check_property_count(object: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let least = object.get("minProperties").and_then(Value::as_f64).unwrap_or(0.0);
    let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let required = u32::try_from(required).unwrap_or(u32::MAX);
    if least > f64::from(required) + 1.0 {
        let what = "can be at most one more than `required` has names: name the others";
        return Err(refusal(&join(path, "minProperties"), what));
    }
    Ok(())
}

fn check_patterns(value: &Value, at: &str) -> Result<(), Refusal> {
    let patterns = value.as_object().map_or(0, Map::len);
    if patterns > PATTERNS_MAX {
        return Err(refusal(at, &format!("has {patterns} patterns; at most {PATTERNS_MAX} can be told apart")));
    }
    Ok(())
}

fn types(value: &Value, at: &str) -> Result<Value, Refusal> {
    let names: Vec<&Value> = match value {
        Value::Array(names) if !names.is_empty() => names.iter().collect(),
        name => vec![name],
    };
    for name in &names {
        if !name.as_str().is_some_and(|name| TYPES.contains(&name)) {
            return Err(refusal(at, &format!("holds {name}; types are {}", TYPES.join(", "))));
        }
    }
    Ok(value.clone())
}

fn format(value: &Value, at: &str) -> Result<Value, Refusal> {
    match value.as_str() {
        Some(name) if FORMATS.contains(&name) => Ok(value.clone()),
        _ => Err(refusal(at, &format!("is {value}; supported are {}", FORMATS.join(", ")))),
    }
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a [Value], Refusal> {
    match value.as_array() {
        Some(items) if !items.is_empty() => Ok(items),
        _ => Err(refusal(at, "isn't a list with something in it")),
    }
}

/// A value that an answer may have to be.
fn constant(value: &Value, at: &str, depth: usize) -> Result<(), Refusal> {
    if depth > DEPTH_MAX {
        return Err(refusal(at, &format!("lies more than {DEPTH_MAX} values deep")));
    }
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(_) => bound(value, at).map(drop),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(n, item)| constant(item, &join(at, &n.to_string()), depth + 1))
        }
        Value::Object(object) => object.iter().try_for_each(|(name, item)| constant(item, &join(at, name), depth + 1)),
    }
}

fn bound(value: &Value, at: &str) -> Result<Value, Refusal> {
    match value.as_f64() {
        Some(number) if number.is_finite() && number.abs() < WHOLE_MAX => Ok(value.clone()),
        Some(_) => Err(refusal(at, &format!("is {value}; numbers can be kept to up to 2^53"))),
        None => Err(refusal(at, "isn't a number")),
    }
}

fn count(value: &Value, at: &str) -> Result<u64, Refusal> {
    let number = value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
    number.map(|number| number as u64).ok_or_else(|| refusal(at, "isn't a whole number from 0 up"))
}

fn least(value: &Value, at: &str) -> Result<Value, Refusal> {
    let least = count(value, at)?;
    if least > COUNT_MIN_MAX {
        return Err(refusal(at, &format!("is {least}; at least {COUNT_MIN_MAX} is the most that can be asked for")));
    }
    Ok(least.into())
}

/// `None`: no answer comes so far.
fn most(value: &Value, at: &str) -> Result<Option<Value>, Refusal> {
    let most = count(value, at)?;
    Ok((most <= COUNT_REACHED).then(|| most.into()))
}

fn join(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn refusal(path: &str, reason: &str) -> Refusal {
    Refusal { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
