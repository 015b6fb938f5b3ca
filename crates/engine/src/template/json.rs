//! `tojson` as templates expect it: Python's spacing, no HTML escapes.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// The filter: `value | tojson`, with the options that Hugging Face's has.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value is no JSON"));
    }
    let sorted = if sorted == Some(true) { Some(with_sorted_keys(value)) } else { None };
    let value = sorted.as_ref().unwrap_or(value);
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(spaces.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, OneLine::of(separators.as_ref()))),
    };
    let bad = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    written.map_err(|error| bad(&error))?;
    let text = String::from_utf8(out).map_err(|error| bad(&error))?;
    Ok(if ascii == Some(true) { in_ascii(&text) } else { text })
}

/// A value that came out of JSON, in one line.
pub(super) fn one_line(value: &Value) -> String {
    let mut out = Vec::new();
    // Such a value goes back into it.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, OneLine::of(None)));
    String::from_utf8(out).unwrap_or_default()
}

fn with_sorted_keys(value: &Value) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = items().collect();
            keys.sort();
            keys.iter().map(|key| (key.clone(), with_sorted_keys(&value.get_item(key).unwrap_or_default()))).collect()
        }
        ValueKind::Seq | ValueKind::Iterable => items().map(|item| with_sorted_keys(&item)).collect(),
        _ => value.clone(),
    }
}

fn in_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// `{"a": 1, "b": [1, 2]}`: a space after each colon and comma, unless a template wants other separators.
struct OneLine {
    item: String,
    key: String,
}

impl OneLine {
    fn of(separators: Option<&Value>) -> Self {
        let part = |n: usize| {
            separators.and_then(|pair| pair.get_item_by_index(n).ok()).filter(|part| part.kind() == ValueKind::String)
        };
        let text = |n: usize, plain: &str| part(n).map_or_else(|| plain.to_owned(), |part| part.to_string());
        Self { item: text(0, ", "), key: text(1, ": ") }
    }
}

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(self.item.as_bytes()) }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(self.item.as_bytes()) }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }
}
