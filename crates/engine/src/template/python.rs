//! Where templates rely on Python: how values print, what counts as a sequence, lists that change.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt::Write;

/// Gives an environment Python's manners.
pub(super) fn teach(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    environment.add_filter("string", text_of);
    environment.add_filter("trim", trim);
    environment.add_filter("upper", |value: Value| text_of(&value).to_uppercase());
    environment.add_filter("lower", |value: Value| text_of(&value).to_lowercase());
    environment.add_filter("from_json", from_json);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("number", is_number);
}

/// `str(value).strip(characters)`
fn trim(value: &Value, characters: Option<String>) -> String {
    let text = text_of(value);
    match characters {
        None => text.trim().to_owned(),
        Some(characters) => text.trim_matches(|c| characters.contains(c)).to_owned(),
    }
}

fn from_json(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Number | ValueKind::Bool)
}

/// A text and a mapping have a length and can be asked for an item.
fn is_sequence(value: &Value) -> bool {
    let kinds = [ValueKind::Seq, ValueKind::String, ValueKind::Map, ValueKind::Iterable, ValueKind::Undefined];
    kinds.contains(&value.kind())
}

/// A truth value is one.
fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn print(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let written = match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Number => out.write_str(&text_of(value)),
        _ => write!(out, "{value}"),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the prompt can't be written"))
}

/// `str(value)`
fn text_of(value: &Value) -> String {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Number => {
            let mut out = String::new();
            repr(value, &mut out);
            out
        }
        _ => value.to_string(),
    }
}

/// `repr(value)`
fn repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (n, item) in value.try_iter().into_iter().flatten().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                repr(&item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (n, key) in value.try_iter().into_iter().flatten().enumerate() {
                if n > 0 {
                    out.push_str(", ");
                }
                repr(&key, out);
                out.push_str(": ");
                repr(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        ValueKind::Number if !value.is_integer() => {
            let text = value.to_string();
            match text.parse::<f64>() {
                // Python changes to powers of ten there.
                Ok(number) if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) => {
                    let text = format!("{number:e}");
                    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
                    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
                    let _ = write!(out, "{digits}e{sign}{power:0>2}");
                }
                _ => out.push_str(&text),
            }
        }
        _ => {
            // Writing to a `String` can't fail.
            let _ = write!(out, "{value}");
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Methods that minijinja's own list lacks.
fn method(state: &State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name, arguments) {
        (Some(text), "split", [separator, most]) if separator.as_str().is_some() => {
            // minijinja counts parts, Python counts cuts.
            let most = usize::try_from(most.clone()).unwrap_or(usize::MAX - 1);
            let separator = separator.as_str().unwrap_or_default();
            Ok(text.splitn(most.saturating_add(1), separator).map(Value::from).collect())
        }
        (Some(text), "rsplit", [separator, rest @ ..]) if separator.as_str().is_some() => {
            let most = rest.first().and_then(|most| usize::try_from(most.clone()).ok()).unwrap_or(usize::MAX - 1);
            let parts = text.rsplitn(most.saturating_add(1), separator.as_str().unwrap_or_default());
            let mut parts: Vec<&str> = parts.collect();
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        (Some(text), "removeprefix", [prefix]) => {
            let prefix = prefix.as_str().unwrap_or_default();
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        (Some(text), "removesuffix", [suffix]) => {
            let suffix = suffix.as_str().unwrap_or_default();
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        _ => unknown_method_callback(state, value, name, arguments),
    }
}

/// Rewrites what changes a list in place, as lists never change here: `{% set _ = a.b.append(x) %}` and
/// `{% set x = a.b.pop(0) %}`, where `a` is a namespace, so that all see the change.
pub(super) fn without_mutation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let end = start + length + 2;
        out.push_str(&rest[..start]);
        match rewritten(&rest[start + 2..end - 2]) {
            Some(blocks) => out.push_str(&blocks),
            None => out.push_str(&rest[start..end]),
        }
        rest = &rest[end..];
    }
    out + rest
}

fn rewritten(block: &str) -> Option<String> {
    let (before, inside) = match block.strip_prefix('-') {
        Some(inside) => ("-", inside),
        None => ("", block),
    };
    let (inside, behind) = match inside.strip_suffix('-') {
        Some(inside) => (inside, "-"),
        None => (inside, ""),
    };
    let (target, value) = inside.trim().strip_prefix("set ")?.split_once('=')?;
    let (target, value) = (target.trim(), value.trim());
    let is_attribute =
        |list: &str| list.contains('.') && list.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    if let Some((list, item)) = value.split_once(".append(") {
        let item = item.strip_suffix(')')?;
        return is_attribute(list).then(|| format!("{{%{before} set {list} = ({list} + [{item}]) | list {behind}%}}"));
    }
    let list = value.strip_suffix(".pop(0)")?;
    let take = format!("{{%{before} set {target} = {list}[0] -%}}");
    is_attribute(list).then(|| format!("{take}{{%- set {list} = {list}[1:] | list {behind}%}}"))
}
