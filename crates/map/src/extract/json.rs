//! JSON and JSON lines: each value on a line with its key, under the pointer of what holds it.
//!
//! A scanner with a stack of its own: depth costs memory, not the program's stack, and each value keeps its
//! bytes, which no crate for JSON tells. What isn't JSON after all is read as lines.

use super::build::Builder;
use super::spell::json_escape;
use super::text;
use crate::document::{BlockKind, Document, Format};
use crate::source::Decoded;
use std::ops::Range;

/// LIMIT: values of one file that are told apart; a larger file is read as lines.
const VALUES_MAX: usize = 1 << 20;
/// LIMIT: objects and arrays within each other.
const DEPTH_MAX: usize = 512;
/// Deeper steps of a pointer aren't part of the heading.
const POINTER_STEPS_MAX: usize = 8;

pub(crate) fn read(decoded: &Decoded, name: &str) -> Document {
    let mut scan = Scan {
        decoded,
        at: 0,
        builder: Builder::new(decoded.encoding),
        stack: Vec::new(),
        labelled: None,
        values: 0,
        top: 0,
    };
    match scan.documents() {
        Some(()) if scan.values > 0 => scan.builder.into_source(Format::Json, None),
        _ => text::read(decoded, Format::Json, name),
    }
}

/// An object or array that is open.
struct Open {
    /// The key or the position under which the next value stands.
    step: String,
    key: Option<Range<usize>>,
    count: usize,
    array: bool,
}

struct Scan<'a> {
    decoded: &'a Decoded,
    at: usize,
    builder: Builder,
    stack: Vec<Open>,
    /// The pointer above the last value.
    labelled: Option<String>,
    values: usize,
    /// Values at the top so far: more than one in JSON lines.
    top: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        &self.decoded.text[self.at..]
    }

    fn white(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn take(&mut self, c: char) -> Option<()> {
        self.white();
        self.rest().starts_with(c).then(|| self.at += c.len_utf8())
    }

    /// All values up to the end; `None` when it isn't JSON or has too many of them.
    fn documents(&mut self) -> Option<()> {
        loop {
            self.white();
            if self.at == self.decoded.text.len() {
                return Some(());
            }
            self.top += 1;
            self.labelled = None;
            self.value()?;
            while !self.stack.is_empty() {
                self.step()?;
            }
        }
    }

    /// Begins the next value: a container is opened, anything else written.
    fn value(&mut self) -> Option<()> {
        self.white();
        let array = match self.rest().chars().next()? {
            '{' => false,
            '[' => true,
            _ => return self.leaf(),
        };
        self.at += 1;
        self.stack.push(Open { step: String::new(), key: None, count: 0, array });
        (self.stack.len() <= DEPTH_MAX).then_some(())
    }

    /// Goes on in the innermost container: its next value or its end.
    fn step(&mut self) -> Option<()> {
        self.white();
        let open = self.stack.last()?;
        let (array, first) = (open.array, open.count == 0);
        if self.rest().starts_with(if array { ']' } else { '}' }) {
            self.at += 1;
            self.stack.pop();
            return Some(());
        }
        if !first {
            self.take(',')?;
        }
        let key = if array {
            None
        } else {
            self.white();
            let key = self.string()?;
            self.take(':')?;
            Some(key)
        };
        let name = key.clone().map(|key| self.decoded.text[key].to_owned());
        let open = self.stack.last_mut()?;
        open.step = name.unwrap_or_else(|| open.count.to_string());
        open.key = key;
        open.count += 1;
        self.value()
    }

    /// The inside of a string; `at` is behind its end afterwards.
    fn string(&mut self) -> Option<Range<usize>> {
        let text = &self.decoded.text;
        text[self.at..].starts_with('"').then_some(())?;
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += text[at..].find(['"', '\\'])?;
            if text[at..].starts_with('"') {
                self.at = at + 1;
                return Some(start..at);
            }
            at += 1 + text[at + 1..].chars().next()?.len_utf8();
        }
    }

    fn leaf(&mut self) -> Option<()> {
        self.values += 1;
        let value = if self.rest().starts_with('"') {
            self.string()?
        } else {
            let rest = self.rest();
            let len = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
            let word = &rest[..len];
            (matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok()).then_some(())?;
            let start = self.at;
            self.at += len;
            start..start + len
        };
        let text = &self.decoded.text;
        let empty = text[value.clone()].trim().is_empty() || &text[value.clone()] == "null";
        if self.values <= VALUES_MAX && !self.builder.is_full() {
            if !empty {
                self.label();
                self.write(value);
            }
            return Some(());
        }
        None
    }

    /// Names what holds the next value, if that is something else than what held the last one.
    fn label(&mut self) {
        let mut pointer = if self.top > 1 { format!("{} ", self.top) } else { String::new() };
        let above = self.stack.len().saturating_sub(1).min(POINTER_STEPS_MAX);
        for open in &self.stack[..above] {
            pointer.push('/');
            pointer.push_str(&open.step.replace('~', "~0").replace('/', "~1"));
        }
        if self.labelled.as_ref() != Some(&pointer) {
            self.builder.label(&pointer, 1);
            self.labelled = Some(pointer);
        }
    }

    fn write(&mut self, value: Range<usize>) {
        if let Some(key) = self.stack.last().and_then(|open| open.key.clone()) {
            let end = key.end;
            self.push(key);
            if let Some(colon) = self.decoded.text[end..value.start].find(':').map(|at| end + at) {
                self.builder.push(":", self.decoded.source(colon)..self.decoded.source(colon + 1));
            }
            self.builder.space();
        }
        self.push(value);
        self.builder.close(BlockKind::Row, 0);
    }

    /// Pushes the inside of a string with its escapes decoded.
    fn push(&mut self, range: Range<usize>) {
        let text = &self.decoded.text;
        let mut at = range.start;
        while at < range.end {
            let plain = text[at..range.end].find('\\').map_or(range.end, |found| at + found);
            text::push(&mut self.builder, self.decoded, at..plain);
            at = plain;
            if let Some((c, len)) = json_escape(&text[at..range.end]) {
                self.builder.push_decoded(&c.to_string(), self.decoded.source(at)..self.decoded.source(at + len));
                at += len;
            } else if at < range.end {
                text::push(&mut self.builder, self.decoded, at..at + 1);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode;

    fn document(text: &str) -> Document {
        let document = read(&decode(text.as_bytes()).expect("text"), "x.json");
        assert_eq!(document.check(text.len()), Ok(()), "{document:#?}");
        document
    }

    fn shape(document: &Document) -> Vec<String> {
        let words = |block: &crate::document::Block| match block.kind {
            BlockKind::Label(_) => format!("# {}", document.name(block.part).expect("a name")),
            _ => document.block_text(block).to_owned(),
        };
        document.blocks.iter().map(words).collect()
    }

    #[test]
    fn values_stand_with_their_keys_under_their_pointers() {
        let text = r#"{"title": "Caf\u00e9 \"R&D\"", "items": [{"name": "soap", "a/b": 2.5, "no": null}, "rice", []],
                       "ok" : true}"#;
        assert_eq!(
            shape(&document(text)),
            ["# ", "title: Café \"R&D\"", "# /items/0", "name: soap", "a/b: 2.5", "# /items", "rice", "# ", "ok: true"]
        );
        let lines = "{\"a\": 1}\n{\"a\": {\"b\": 2}}\n";
        assert_eq!(shape(&document(lines)), ["# ", "a: 1", "# 2 /a", "b: 2"]);
    }

    #[test]
    fn what_is_not_json_is_read_as_lines() {
        for text in ["{\"a\": nothing}\nmore\n", "{\"a\": \"open", "[1, 2", "{'a': 1}"] {
            let document = document(text);
            assert_eq!(document.text, text);
            assert!(document.blocks.iter().all(|block| block.kind == BlockKind::Row), "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let text = format!("{}\"deep\"{}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(document(&text).text.contains("deep"));
        let text = format!("{}\"deep\"{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(document(&text).text.trim(), "deep");
    }
}
