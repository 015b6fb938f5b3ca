//! What form an answer must have, and where in the answer that form begins.

use crate::fault::{Code, Fault};
use crate::gbnf;
use serde::{Deserialize, Serialize};

/// LIMIT: bytes of a schema, an expression or a grammar, and of all choices together.
pub const SHAPE_BYTES_MAX: usize = 256 << 10;
/// LIMIT: answers to choose from.
pub const CHOICES_MAX: usize = 4096;
/// LIMIT: bytes of the text that opens or closes reasoning.
pub const MARKER_BYTES_MAX: usize = 64;

/// The form that an answer keeps to, token by token. Made by one of the constructors, which check what can be
/// checked without the model; what only the model's vocabulary shows is refused before the first token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Shape(Form);

/// What a [`Shape`] asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Whatever the model says.
    #[default]
    Free,
    /// One JSON object.
    Json,
    /// One JSON value that fits a schema (JSON Schema 2020-12), given as its text.
    JsonSchema(String),
    /// The whole answer matches this expression.
    Regex(String),
    /// The whole answer is one of these.
    Choice(Vec<String>),
    /// The whole answer fits this grammar, in llguidance's kind of Lark.
    Grammar(String),
}

impl Shape {
    pub fn free() -> Self {
        Self(Form::Free)
    }

    pub fn json() -> Self {
        Self(Form::Json)
    }

    /// # Errors
    /// [`Code::InvalidAsk`] when the text isn't JSON, is neither an object nor a truth value, or is too long.
    pub fn json_schema(schema: impl Into<String>) -> Result<Self, Fault> {
        Self::try_from(Form::JsonSchema(schema.into()))
    }

    /// # Errors
    /// [`Code::InvalidAsk`] when the expression is empty or too long.
    pub fn regex(expression: impl Into<String>) -> Result<Self, Fault> {
        Self::try_from(Form::Regex(expression.into()))
    }

    /// # Errors
    /// [`Code::InvalidAsk`] when there is nothing to choose from, too much, an empty choice or the same one twice.
    pub fn choice(choices: Vec<String>) -> Result<Self, Fault> {
        Self::try_from(Form::Choice(choices))
    }

    /// # Errors
    /// [`Code::InvalidAsk`] when the grammar is empty or too long.
    pub fn grammar(lark: impl Into<String>) -> Result<Self, Fault> {
        Self::try_from(Form::Grammar(lark.into()))
    }

    /// A grammar in llama.cpp's GBNF.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] with the place of what isn't read, and as [`Shape::grammar`].
    pub fn gbnf(grammar: &str) -> Result<Self, Fault> {
        check_text("the grammar", grammar)?;
        Self::grammar(gbnf::to_lark(grammar)?)
    }

    pub fn form(&self) -> &Form {
        &self.0
    }

    pub fn is_free(&self) -> bool {
        self.0 == Form::Free
    }
}

impl From<Shape> for Form {
    fn from(shape: Shape) -> Self {
        shape.0
    }
}

impl TryFrom<Form> for Shape {
    type Error = Fault;

    fn try_from(form: Form) -> Result<Self, Fault> {
        match &form {
            Form::Free | Form::Json => {}
            Form::JsonSchema(text) => {
                check_bytes("the schema", text.len())?;
                let hint = "send one JSON object that is a JSON Schema";
                match serde_json::from_str(text) {
                    Ok(serde_json::Value::Object(_) | serde_json::Value::Bool(_)) => {}
                    Ok(_) => return Err(invalid("the schema is neither an object nor `true` or `false`").hint(hint)),
                    Err(error) => return Err(invalid("the schema is not JSON").cause(error).hint(hint)),
                }
            }
            Form::Regex(text) => check_text("the regular expression", text)?,
            Form::Grammar(text) => check_text("the grammar", text)?,
            Form::Choice(choices) => check_choices(choices)?,
        }
        Ok(Self(form))
    }
}

fn check_text(what: &str, text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(invalid(format!("{what} is empty")).hint("leave it out for a free answer"));
    }
    check_bytes(what, text.len())
}

fn check_bytes(what: &str, bytes: usize) -> Result<(), Fault> {
    if bytes > SHAPE_BYTES_MAX {
        return Err(
            invalid(format!("{what} has {bytes} bytes")).hint(format!("at most {SHAPE_BYTES_MAX} are possible"))
        );
    }
    Ok(())
}

/// Options of a choice, and of a score: some, not too many, none empty, none twice.
pub(crate) fn check_choices(choices: &[String]) -> Result<(), Fault> {
    if choices.is_empty() || choices.len() > CHOICES_MAX {
        let count = choices.len();
        return Err(invalid(format!("there are {count} choices")).hint(format!("give from 1 to {CHOICES_MAX}")));
    }
    check_bytes("the list of choices", choices.iter().map(String::len).sum())?;
    let mut sorted: Vec<&str> = choices.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if sorted[0].is_empty() {
        return Err(invalid("one of the choices is empty").hint("leave empty choices out"));
    }
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(invalid(format!("the choice `{}` stands there twice", twice[0])).hint("give each choice once"));
    }
    Ok(())
}

/// Where in an answer its shape begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Onset {
    /// At its first character.
    #[default]
    Start,
    /// Behind the model's reasoning, which is free.
    Reasoned(Reasoning),
}

/// What encloses a model's reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// Text that opens it (`<think>`): an answer that doesn't begin with it begins with its shape. Empty: the
    /// prompt has opened it, and the answer begins inside.
    pub open: String,
    /// Text that ends it (`</think>`). The shape begins behind it, and behind white space that follows.
    pub close: String,
}

impl Onset {
    /// Behind reasoning between these texts.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] when nothing closes it, or one of them is too long.
    pub fn reasoned(open: impl Into<String>, close: impl Into<String>) -> Result<Self, Fault> {
        let (open, close) = (open.into(), close.into());
        if close.is_empty() {
            return Err(invalid("no text closes the reasoning").hint("name the text that ends it, such as `</think>`"));
        }
        let bytes = open.len().max(close.len());
        if bytes > MARKER_BYTES_MAX {
            let hint = format!("at most {MARKER_BYTES_MAX} are possible");
            return Err(invalid(format!("a marker of reasoning has {bytes} bytes")).hint(hint));
        }
        Ok(Self::Reasoned(Reasoning { open, close }))
    }
}

/// What to do when an answer repeats itself without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLoop {
    /// End it with [`crate::Finish::Loop`].
    #[default]
    Stop,
    /// Try once more with other sampling, where nothing of the answer has been handed out; else as `Stop`.
    Retry,
    /// Let it go on to its longest length.
    Ignore,
}

fn invalid(words: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidAsk, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_t_be_a_shape_is_refused_with_the_reason() {
        let many = (0..=CHOICES_MAX).map(|i| i.to_string()).collect();
        for (made, word) in [
            (Shape::json_schema("{"), "not JSON"),
            (Shape::json_schema("3"), "neither"),
            (Shape::json_schema("[".repeat(10_000)), "not JSON"),
            (Shape::json_schema(format!("{{\"title\":\"{}\"}}", "x".repeat(SHAPE_BYTES_MAX))), "bytes"),
            (Shape::regex(""), "empty"),
            (Shape::grammar(""), "empty"),
            (Shape::choice(vec![]), "0 choices"),
            (Shape::choice(many), "4097 choices"),
            (Shape::choice(vec!["a".into(), String::new()]), "empty"),
            (Shape::choice(vec!["a".into(), "b".into(), "a".into()]), "`a` stands there twice"),
        ] {
            let fault = made.expect_err(word);
            assert_eq!(fault.code, Code::InvalidAsk);
            assert!(fault.message.contains(word), "{fault:?}");
            assert!(!fault.hints.is_empty());
        }
        assert!(Shape::default().is_free() && Shape::json_schema("true").is_ok());
        assert!(Onset::reasoned("<think>", "").is_err());
        assert!(Onset::reasoned("", "</think>").is_ok());
    }

    #[test]
    fn nothing_gets_round_the_checks_by_being_read() {
        let shape = Shape::choice(vec!["yes".into(), "no".into()]).unwrap();
        let text = serde_json::to_string(&shape).unwrap();
        assert_eq!(text, r#"{"choice":["yes","no"]}"#);
        assert_eq!(serde_json::from_str::<Shape>(&text).unwrap(), shape);
        assert!(serde_json::from_str::<Shape>(r#"{"choice":[]}"#).is_err());
    }
}
