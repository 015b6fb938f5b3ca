//! JSON, character by character: where a value ends and where it stops being one.

/// What one character brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    None,
    /// A value begins with this character.
    Begins,
    /// A key has ended with this character; [`Scan::text`] holds it.
    Key,
    /// A value has ended with this character.
    Ends,
    /// A number or word has ended before this character, which was taken too.
    EndedBefore,
    /// As `EndedBefore`, and what holds it ends with this character.
    BothEnd,
    /// A character that must be escaped within a text, and wasn't.
    Bare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Object,
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// As `Value`, and the array may end here.
    First,
    Key,
    /// As `Key`, and the object may end here.
    FirstKey,
    Colon,
    After,
    /// Within a text. `left`: characters of an escape that are still to come.
    Text {
        key: bool,
        left: u8,
    },
    Number,
    Word {
        word: &'static str,
        done: usize,
    },
    End,
}

/// Follows one value. Strict but for raw control characters in texts, which it reports.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    holders: Vec<Holder>,
    state: State,
    /// The text that was read last, as it stands between its quotes.
    pub(super) text: String,
}

/// LIMIT: brackets within each other; no tool takes so many, and other readers give up at about as many.
const DEPTH_MAX: usize = 128;

/// It can't be JSON any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson;

impl Scan {
    pub(super) fn new() -> Self {
        Self { holders: Vec::new(), state: State::Value, text: String::new() }
    }

    /// Within an object, behind one of its values.
    pub(super) fn in_object() -> Self {
        Self { holders: vec![Holder::Object], state: State::After, text: String::new() }
    }

    /// How many brackets are open.
    pub(super) fn depth(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn take(&mut self, c: char) -> Result<Event, NotJson> {
        match self.state {
            State::Text { key, left } => return self.in_text(c, key, left),
            State::Word { word, done } => return self.in_word(c, word, done),
            State::Number if matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E') => return Ok(Event::None),
            State::Number => {
                self.ended();
                return match self.take(c)? {
                    Event::Ends => Ok(Event::BothEnd),
                    _ => Ok(Event::EndedBefore),
                };
            }
            _ => {}
        }
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            return Ok(Event::None);
        }
        match (self.state, c) {
            (State::First, ']') => self.close(Holder::Array),
            (State::FirstKey, '}') => self.close(Holder::Object),
            (State::After, ']') => self.close(Holder::Array),
            (State::After, '}') => self.close(Holder::Object),
            (State::After, ',') => {
                self.state = match self.holders.last() {
                    Some(Holder::Object) => State::Key,
                    Some(Holder::Array) => State::Value,
                    None => return Err(NotJson),
                };
                Ok(Event::None)
            }
            (State::Key | State::FirstKey, '"') => {
                self.text.clear();
                self.state = State::Text { key: true, left: 0 };
                Ok(Event::None)
            }
            (State::Colon, ':') => {
                self.state = State::Value;
                Ok(Event::None)
            }
            (State::Value | State::First, c) => self.begin(c),
            _ => Err(NotJson),
        }
    }

    fn begin(&mut self, c: char) -> Result<Event, NotJson> {
        self.state = match c {
            '{' | '[' => {
                if self.holders.len() >= DEPTH_MAX {
                    return Err(NotJson);
                }
                let (holder, state) =
                    if c == '{' { (Holder::Object, State::FirstKey) } else { (Holder::Array, State::First) };
                self.holders.push(holder);
                state
            }
            '"' => {
                self.text.clear();
                State::Text { key: false, left: 0 }
            }
            '-' | '0'..='9' => State::Number,
            't' => State::Word { word: "true", done: 1 },
            'f' => State::Word { word: "false", done: 1 },
            'n' => State::Word { word: "null", done: 1 },
            _ => return Err(NotJson),
        };
        Ok(Event::Begins)
    }

    fn in_text(&mut self, c: char, key: bool, left: u8) -> Result<Event, NotJson> {
        if left == 0 && c == '"' {
            if key {
                self.state = State::Colon;
                return Ok(Event::Key);
            }
            self.ended();
            return Ok(Event::Ends);
        }
        self.text.push(c);
        let left = match (left, c) {
            // What follows a backslash; `u` has four digits more. 5 stands for the character itself.
            (0, '\\') => 5,
            (0, _) => 0,
            (5, 'u') => 4,
            (5, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => 0,
            (1..=4, c) if c.is_ascii_hexdigit() => left - 1,
            _ => return Err(NotJson),
        };
        self.state = State::Text { key, left };
        Ok(if u32::from(c) < 0x20 { Event::Bare } else { Event::None })
    }

    fn in_word(&mut self, c: char, word: &'static str, done: usize) -> Result<Event, NotJson> {
        if !word[done..].starts_with(c) {
            return Err(NotJson);
        }
        if done + 1 < word.len() {
            self.state = State::Word { word, done: done + 1 };
            return Ok(Event::None);
        }
        self.ended();
        Ok(Event::Ends)
    }

    fn close(&mut self, holder: Holder) -> Result<Event, NotJson> {
        if self.holders.pop() != Some(holder) {
            return Err(NotJson);
        }
        self.ended();
        Ok(Event::Ends)
    }

    fn ended(&mut self) {
        self.state = if self.holders.is_empty() { State::End } else { State::After };
    }
}

/// The text that stands for `text` within JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a text within JSON stands for; `None` when it has a wrong escape.
pub(super) fn unquoted(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

/// Whether the text is one whole JSON value.
pub(super) fn is_whole(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of the value at the beginning, as the scan finds its end.
    fn length(text: &str) -> Result<Option<usize>, NotJson> {
        let mut scan = Scan::new();
        for (at, c) in text.char_indices() {
            match scan.take(c)? {
                Event::Ends | Event::BothEnd if scan.depth() == 0 => return Ok(Some(at + c.len_utf8())),
                _ => {}
            }
        }
        Ok(None)
    }

    #[test]
    fn finds_where_a_value_ends() {
        for (text, end) in [
            (r#"{"a": [1, {"b": "}"}], "c": null} tail"#, Ok(Some(33))),
            (r#"{"a": -1.5e3}"#, Ok(Some(13))),
            (r#"[]x"#, Ok(Some(2))),
            (r#"{"\u00e9\"": true}"#, Ok(Some(18))),
            (r#"{"a": "un"#, Ok(None)),
            (r#"{"a" 1}"#, Err(NotJson)),
            (r#"{a: 1}"#, Err(NotJson)),
            (r#"{"a": tru}"#, Err(NotJson)),
            (r#"[1}"#, Err(NotJson)),
            (r#"{"a": "\x"}"#, Err(NotJson)),
            (r#"{,}"#, Err(NotJson)),
        ] {
            assert_eq!(length(text), end, "{text}");
        }
        assert_eq!(length(&"[".repeat(DEPTH_MAX + 1)), Err(NotJson));
    }

    proptest! {
        #[test]
        fn what_is_json_is_followed_to_its_end(value in any::<Vec<(String, i64, bool, Option<f32>)>>()) {
            let text = serde_json::to_string(&value).expect("plain data");
            prop_assert_eq!(length(&text), Ok(Some(text.len())));
            let pretty = serde_json::to_string_pretty(&value).expect("plain data");
            prop_assert_eq!(length(&pretty), Ok(Some(pretty.len())));
        }
    }
}
