//! Calls whose arguments stand in braces, with texts between marks: `call:weather{city:<escape>Paris<escape>,days:3}`.

use super::call::{HEADER_BYTES_MAX, Step, Then, bad, syntax, wait};
use super::json::{is_whole, quoted};
use super::{Piece, Tools};

/// LIMIT: brackets within each other.
const DEPTH_MAX: usize = 64;

/// What can't be read yet, or ever.
enum No {
    /// More text is needed.
    Short,
    Bad,
}

/// The tool's name before its arguments, and the bytes of both with the brace; `None`: more text is needed.
///
/// # Errors
/// Why it is no call.
pub(super) fn head(start: &str, last: bool) -> Result<Option<(String, usize)>, String> {
    const CALL: &str = "call:";
    let Some(name) = start.strip_prefix(CALL) else {
        return if CALL.starts_with(start) && !last {
            Ok(None)
        } else {
            Err(format!("a call doesn't begin with `{CALL}`"))
        };
    };
    match name.find('{') {
        Some(end) if end <= HEADER_BYTES_MAX => Ok(Some((name[..end].trim().to_owned(), CALL.len() + end + 1))),
        Some(_) => Err(format!("a call has no arguments within {HEADER_BYTES_MAX} bytes")),
        None if name.len() > HEADER_BYTES_MAX => {
            Err(format!("a call has no arguments within {HEADER_BYTES_MAX} bytes"))
        }
        None if last => Err("the answer ended before the arguments of a call".into()),
        None => Ok(None),
    }
}

/// The next argument, or the end of them.
pub(super) fn argument(rest: &str, quote: &str, tool: &str, any: &mut bool, tools: &Tools) -> Step {
    let mut reader = Reader { text: rest, quote };
    let found = reader.argument(*any, |key| tools.is_text(tool, key));
    let taken = rest.len() - reader.text.len();
    match found {
        Ok(None) => {
            let mut pieces = syntax(&rest[..taken]);
            pieces.push(Piece::Made(if *any { "}" } else { "{}" }.to_owned()));
            Step { taken, pieces, then: Then::Done }
        }
        Ok(Some((key, value))) => {
            let mut pieces = syntax(&rest[..taken]);
            let before = if std::mem::replace(any, true) { ", " } else { "{" };
            pieces.push(Piece::Made(format!("{before}{}: {value}", quoted(&key))));
            Step { taken, pieces, then: Then::GoOn }
        }
        Err(No::Short) => wait(),
        Err(No::Bad) => bad(0, Vec::new(), "the arguments of a call don't stand in braces as they should"),
    }
}

struct Reader<'a> {
    text: &'a str,
    quote: &'a str,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.text = self.text.trim_start();
    }

    fn next(&self) -> Result<char, No> {
        self.text.chars().next().ok_or(No::Short)
    }

    fn skip(&mut self, sign: char) -> Result<bool, No> {
        self.blanks();
        let is_there = self.next()? == sign;
        if is_there {
            self.text = &self.text[sign.len_utf8()..];
        }
        Ok(is_there)
    }

    /// `None`: the brace that closes them all.
    fn argument(&mut self, any: bool, is_text: impl Fn(&str) -> bool) -> Result<Option<(String, String)>, No> {
        if self.skip('}')? {
            return Ok(None);
        }
        if any && !self.skip(',')? {
            return Err(No::Bad);
        }
        let (key, value) = self.pair(0, is_text)?;
        // What follows tells that a number or a word is whole.
        self.blanks();
        if matches!(self.next()?, ',' | '}') { Ok(Some((key, value))) } else { Err(No::Bad) }
    }

    fn pair(&mut self, depth: usize, is_text: impl Fn(&str) -> bool) -> Result<(String, String), No> {
        self.blanks();
        let key = match self.text_between()? {
            Some(key) => key.to_owned(),
            None => {
                let end = self.text.find([':', ',', '{', '}', '[', ']']).ok_or(No::Short)?;
                let key = self.text[..end].trim().trim_matches('"');
                self.text = &self.text[end..];
                key.to_owned()
            }
        };
        if key.is_empty() || !self.skip(':')? {
            return Err(No::Bad);
        }
        let value = self.value(depth, is_text(&key))?;
        Ok((key, value))
    }

    /// A text between two marks; `None`: none begins here.
    fn text_between(&mut self) -> Result<Option<&'a str>, No> {
        let Some(inside) = self.text.strip_prefix(self.quote) else {
            return if self.quote.starts_with(self.text) { Err(No::Short) } else { Ok(None) };
        };
        let end = inside.find(self.quote).ok_or(No::Short)?;
        self.text = &inside[end + self.quote.len()..];
        Ok(Some(&inside[..end]))
    }

    /// A value as JSON.
    fn value(&mut self, depth: usize, is_text: bool) -> Result<String, No> {
        if depth > DEPTH_MAX {
            return Err(No::Bad);
        }
        self.blanks();
        if let Some(text) = self.text_between()? {
            return Ok(quoted(text));
        }
        match self.next()? {
            '{' => self.items('{', '}', |reader| {
                let (key, value) = reader.pair(depth + 1, |_| false)?;
                Ok(format!("{}: {value}", quoted(&key)))
            }),
            '[' => self.items('[', ']', |reader| reader.value(depth + 1, false)),
            '"' => self.json_text(),
            _ => {
                let end = self.text.find([',', '}', ']', '{', '[']).ok_or(No::Short)?;
                let word = self.text[..end].trim();
                self.text = &self.text[end..];
                match word {
                    "" => Err(No::Bad),
                    word if !is_text && is_whole(word) => Ok(word.to_owned()),
                    "True" if !is_text => Ok("true".to_owned()),
                    "False" if !is_text => Ok("false".to_owned()),
                    "None" if !is_text => Ok("null".to_owned()),
                    word => Ok(quoted(word)),
                }
            }
        }
    }

    /// Some models fall back into JSON.
    fn json_text(&mut self) -> Result<String, No> {
        let mut values = serde_json::Deserializer::from_str(self.text).into_iter::<String>();
        match values.next() {
            Some(Ok(text)) => {
                self.text = &self.text[values.byte_offset()..];
                Ok(quoted(&text))
            }
            Some(Err(error)) if !error.is_eof() => Err(No::Bad),
            Some(Err(_)) | None => Err(No::Short),
        }
    }

    fn items(&mut self, open: char, close: char, item: impl Fn(&mut Self) -> Result<String, No>) -> Result<String, No> {
        self.skip(open)?;
        let mut items: Vec<String> = Vec::new();
        loop {
            if self.skip(close)? {
                return Ok(format!("{open}{}{close}", items.join(", ")));
            }
            if !items.is_empty() && !self.skip(',')? {
                return Err(No::Bad);
            }
            items.push(item(self)?);
        }
    }
}
