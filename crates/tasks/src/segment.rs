//! What of a text is words to work on, and what lies between and stays byte for byte: blank lines, code, the marks of
//! Markdown, tags. Pure.

use crate::plan::is_fence;
use std::ops::Range;

/// Lines of prose that are wrapped are at least so long; shorter ones (poems, addresses) stay lines.
const WRAPPED_CHARS_MIN: usize = 50;
/// LIMIT: a tag, an address or a bit of code within a line.
const FIXED_BYTES_MAX: usize = 2048;
/// What these elements hold is no prose.
const RAW: [&str; 4] = ["script", "style", "pre", "textarea"];

/// Together, segments are the whole text in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Stays as it is.
    Keep(Range<usize>),
    /// Words.
    Work(Range<usize>),
}

/// Takes a text apart.
pub fn segments(text: &str) -> Vec<Segment> {
    let mut cut = Cut { text, found: Vec::new(), at: 0, joins: false };
    let (mut fenced, mut raw): (bool, Option<&str>) = (false, None);
    let (mut blank, mut code, mut listed) = (true, false, false);
    for line in text.split_inclusive('\n') {
        let start = cut.at;
        let is_blank = line.trim().is_empty();
        let deep = line.starts_with("    ") || line.starts_with('\t');
        let opened = raw.or_else(|| opens_raw(line));
        if let Some(name) = opened {
            raw = if closes_raw(line, name) { None } else { Some(name) };
            cut.keep(line.len());
        } else if fenced || is_fence(line) {
            fenced = fenced != is_fence(line);
            cut.keep(line.len());
        } else if is_blank || !line.contains(char::is_alphabetic) {
            cut.keep(line.len());
        } else if deep && !listed && (blank || code) {
            code = true;
            cut.keep(line.len());
        } else {
            code = false;
            cut.line(line);
        }
        let lead = marks(line);
        listed = if is_blank { listed } else { lead > 0 && line[..lead].contains(is_list_mark) || (listed && deep) };
        blank = is_blank;
        debug_assert_eq!(cut.at, start + line.len());
    }
    cut.found
}

fn is_list_mark(c: char) -> bool {
    matches!(c, '-' | '*' | '+' | '.' | ')')
}

struct Cut<'a> {
    text: &'a str,
    found: Vec<Segment>,
    at: usize,
    /// The last line was wrapped: the next one may go on with it.
    joins: bool,
}

impl Cut<'_> {
    fn keep(&mut self, length: usize) {
        let range = self.at..self.at + length;
        self.at = range.end;
        self.joins = false;
        self.put_keep(range);
    }

    fn put_keep(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.found.last_mut() {
            Some(Segment::Keep(last)) => last.end = range.end,
            _ => self.found.push(Segment::Keep(range)),
        }
    }

    /// A line with words in it.
    fn line(&mut self, line: &str) {
        let start = self.at;
        self.at += line.len();
        let body = line.trim_end();
        let lead = marks(body);
        if body.trim_start().starts_with('|') {
            self.joins = false;
            return self.row(start, line, body);
        }
        let words = start + lead..start + body.len();
        let goes_on = self.joins && body[..lead].trim().is_empty();
        match self.found.as_mut_slice() {
            // The line's end between them belongs to the prose.
            [.., Segment::Work(last), Segment::Keep(_)] if goes_on => {
                last.end = words.end;
                self.found.pop();
            }
            _ => {
                self.put_keep(start..words.start);
                self.found.push(Segment::Work(words.clone()));
            }
        }
        self.put_keep(words.end..self.at);
        let hard = line.trim_end_matches(['\n', '\r']).ends_with("  ") || body.ends_with('\\');
        let heading = body.trim_start().starts_with('#');
        let long = self.text[words].chars().count() >= WRAPPED_CHARS_MIN;
        self.joins = long && !hard && !heading;
    }

    /// The cells of a table's row, each by itself.
    fn row(&mut self, start: usize, line: &str, body: &str) {
        let mut at = 0;
        for cell in body.split_inclusive('|') {
            let inner = cell.trim_end_matches('|');
            let lead = inner.len() - inner.trim_start().len();
            let words = at + lead..at + inner.trim_end().len();
            if words.start < words.end && body[words.clone()].contains(char::is_alphabetic) {
                self.put_keep(start + at..start + words.start);
                self.found.push(Segment::Work(start + words.start..start + words.end));
                self.put_keep(start + words.end..start + at + cell.len());
            } else {
                self.put_keep(start + at..start + at + cell.len());
            }
            at += cell.len();
        }
        self.put_keep(start + body.len()..start + line.len());
    }
}

/// Bytes at the beginning of a line that are marks: indents, `#`, `-`, `3.`, `>`, `[x]`.
fn marks(line: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &line[at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let rest = &rest[blank..];
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mark = match rest.as_bytes() {
            [b'#', ..] if hashes <= 6 => hashes,
            [b'>' | b'-' | b'*' | b'+', ..] => 1,
            [b'[', b' ' | b'x' | b'X', b']', ..] => 3,
            _ if (1..=4).contains(&digits) && rest[digits..].starts_with(['.', ')']) => digits + 1,
            _ => return at + blank,
        };
        // A mark is one only before a blank, but for quotations.
        if !rest[mark..].starts_with([' ', '\t']) && !rest.starts_with('>') {
            return at + blank;
        }
        at += blank + mark;
    }
}

fn opens_raw(line: &str) -> Option<&'static str> {
    let lower = line.to_ascii_lowercase();
    RAW.into_iter().find(|name| {
        lower
            .match_indices(&format!("<{name}"))
            .any(|(at, open)| lower[at + open.len()..].starts_with(|c: char| c == '>' || c.is_whitespace() || c == '/'))
    })
}

fn closes_raw(line: &str, name: &str) -> bool {
    line.to_ascii_lowercase().contains(&format!("</{name}"))
}

/// What within words stays as it is: tags, code, addresses, targets of links, places to fill.
pub(crate) fn fixed(words: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = words[at..].chars().next() {
        let rest = &words[at..rest_end(words, at)];
        match fixed_length(rest) {
            Some(length) => {
                found.push(at..at + length);
                at += length;
            }
            None => at += c.len_utf8(),
        }
    }
    found
}

fn rest_end(words: &str, at: usize) -> usize {
    let mut end = words.len().min(at + FIXED_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    end
}

fn fixed_length(rest: &str) -> Option<usize> {
    let closed = |from: usize, close: &str| rest[from..].find(close).map(|end| from + end + close.len());
    if let Some(inside) = rest.strip_prefix('<') {
        let tag = inside.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        return if tag { closed(1, ">") } else { None };
    }
    if rest.starts_with('`') {
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        return closed(ticks, &rest[..ticks]);
    }
    if rest.starts_with("](") {
        return closed(2, ")");
    }
    if rest.starts_with("{{") {
        return closed(2, "}}");
    }
    if rest.starts_with("http://") || rest.starts_with("https://") {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ')' | '>' | '"' | '\'' | '<' | ']'));
        return Some(rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ',', ';', ':', '!', '?']).len());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<&str> {
        let work = |segment| match segment {
            Segment::Work(range) => Some(&text[range]),
            Segment::Keep(_) => None,
        };
        segments(text).into_iter().filter_map(work).collect()
    }

    #[test]
    fn marks_stay_and_words_are_found() {
        for (text, expected) in [
            ("# A head\n\n- one\n  - [x] two\n3. three\n> quoted\n", &["A head", "one", "two", "three", "quoted"][..]),
            ("```rust\nfn a() {}\n```\nafter\n", &["after"]),
            ("    let x = 1;\n\nprose\n", &["prose"]),
            ("| a b | c |\n|---|---|\n| 1 | d |\n", &["a b", "c", "d"]),
            ("<style>\np { color: red }\n</style>\nyes\n<pre>no</pre>\n", &["yes"]),
            ("-dash\n*emphasis* here\n", &["-dash", "*emphasis* here"]),
            ("12 345\n---\n", &[]),
            ("one  \ntwo\r\n", &["one", "two"]),
            ("- item\n\n    more of it\n", &["item", "more of it"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn wrapped_lines_are_one_and_short_ones_are_not() {
        let long = "This line is long enough to have been wrapped by a program,\nand this goes on with it.\n";
        assert_eq!(words(long), [long.trim_end()]);
        assert_eq!(words("Roses are red,\nviolets are blue.\n").len(), 2);
    }

    #[test]
    fn what_is_fixed_is_found() {
        let text = "See <b>this</b> `a < b` [here](http://x.y/z) or https://a.b/c. If 3 < 4, {{name}}.";
        let found: Vec<&str> = fixed(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["<b>", "</b>", "`a < b`", "](http://x.y/z)", "https://a.b/c", "{{name}}"]);
    }

    proptest! {
        #[test]
        fn segments_are_the_whole_text(text in "[a-b#>|`~ \n\t<pre/>*0-1.)\\[\\]xü-]{0,160}") {
            let mut at = 0;
            for segment in segments(&text) {
                let (Segment::Keep(range) | Segment::Work(range)) = segment;
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                at = range.end;
            }
            prop_assert_eq!(at, text.len());
            let mut last = 0;
            for range in fixed(&text) {
                prop_assert!(range.start >= last && range.end > range.start);
                last = range.end;
            }
        }
    }
}
