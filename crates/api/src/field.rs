//! Reading a JSON object field by field, so that a wrong one is named with what it holds.
//!
//! `null` means absent, and a field that nobody reads is ignored: clients of every age send
//! more than they need.

use crate::reply::Refusal;
use base::{Code, Fault};
use serde_json::{Map, Value};

/// An object of the request's body, with its own place in it (`messages[2]`, or empty at the top).
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn top(object: &'a Map<String, Value>) -> Self {
        Self { object, at: String::new() }
    }

    /// # Errors
    /// When `value` is no object.
    pub(crate) fn within(value: &'a Value, at: String) -> Result<Self, Refusal> {
        match value {
            Value::Object(object) => Ok(Self { object, at }),
            other => Err(wrong(&at, "an object", other)),
        }
    }

    pub(crate) fn place(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_string() } else { format!("{}.{name}", self.at) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.place(name), "a string", other)),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(&self.place(name), "true or false", other)),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64().map(|number| number as f32)),
            Some(other) => Err(wrong(&self.place(name), "a number", other)),
        }
    }

    pub(crate) fn whole(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64().or_else(|| whole_float(value)) {
                Some(whole) => Ok(Some(whole)),
                None => Err(wrong(&self.place(name), "a whole number", value)),
            },
        }
    }

    /// A count: not negative, and small enough for its unit.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u32>, Refusal> {
        match self.whole(name)? {
            None => Ok(None),
            Some(whole) => u32::try_from(whole).map(Some).map_err(|_| {
                invalid(
                    &self.place(name),
                    &format!("is {whole}"),
                    &format!("use a whole number from 0 to {}", u32::MAX),
                )
            }),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong(&self.place(name), "an array", other)),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => Fields::within(value, self.place(name)).map(Some),
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.object.iter()
    }
}

/// Some clients write whole numbers as `40.0`.
fn whole_float(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64)
}

/// What kind of JSON stands there, in a word.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(crate) fn wrong(place: &str, wanted: &str, found: &Value) -> Refusal {
    invalid(place, &format!("is {}", kind(found)), &format!("send {wanted}"))
}

pub(crate) fn invalid(place: &str, what: &str, hint: &str) -> Refusal {
    Refusal::of(Fault::new(Code::InvalidAsk, format!("`{place}` {what}")).hint(hint), place)
}
