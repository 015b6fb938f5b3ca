//! A call's parts as a grammar of llguidance. Pure.
//!
//! What is plain text side by side becomes one terminal, so that nothing hangs on where one of two terminals ends.

use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use wire::{WireCalls, WirePart};

/// LIMIT: characters of white space at one place of a call, outside of JSON: small models would go on with it.
const SPACE: &str = r"/[\x20\x0A\x0D\x09]{0,16}/";
const SOME_SPACE: &str = r"/[\x20\x0A\x0D\x09]{1,16}/";

/// The number of the special token of this name.
pub(super) type Special<'a> = dyn Fn(&str) -> Option<u32> + 'a;

/// The grammar of a call from its mark on. `schemas`: as they are to be compiled, one for each place.
pub(super) fn grammar(calls: &WireCalls, schemas: &[Value], special: &Special<'_>) -> String {
    let mut writer = Writer { special, terminals: HashMap::new(), lines: String::new() };
    let mut openings = Vec::new();
    for opening in &calls.openings {
        let parts = [WirePart::Mark(opening.mark.clone()), opening.then.clone()];
        openings.push(format!("( {} )", writer.sequence(&parts)));
    }
    let start = format!("start: {}\n", openings.join(" | "));
    for (n, rule) in calls.rules.iter().enumerate() {
        let rule = writer.sequence(std::slice::from_ref(rule));
        let _ = writeln!(writer.lines, "rule_{n}: {rule}");
    }
    for (n, schema) in schemas.iter().enumerate() {
        let _ = writeln!(writer.lines, "json_{n}: %json {schema}");
    }
    let mut terminals: Vec<(String, usize)> = writer.terminals.into_iter().collect();
    terminals.sort_by_key(|(_, number)| *number);
    for (text, number) in terminals {
        let _ = writeln!(writer.lines, "T{number}: {text}");
    }
    start + &writer.lines
}

/// The grammar of whatever fits one of these.
pub(super) fn any_of<'a>(schemas: impl Iterator<Item = &'a Value>) -> String {
    let (mut names, mut lines) = (Vec::new(), String::new());
    for (n, schema) in schemas.enumerate() {
        names.push(format!("json_{n}"));
        let _ = writeln!(lines, "json_{n}: %json {schema}");
    }
    format!("start: {}\n{lines}", names.join(" | "))
}

struct Writer<'a> {
    special: &'a Special<'a>,
    terminals: HashMap<String, usize>,
    lines: String,
}

impl Writer<'_> {
    /// Parts one after the other.
    fn sequence(&mut self, parts: &[WirePart]) -> String {
        let mut flat = Vec::new();
        flatten(parts, &mut flat);
        let mut done: Vec<String> = Vec::new();
        // Plain text that isn't written yet, and whether it may be nothing.
        let mut plain: Vec<String> = Vec::new();
        let mut empty = true;
        for part in flat {
            match self.plain(part) {
                Some((text, may_be_empty)) => {
                    plain.extend(text);
                    empty &= may_be_empty;
                }
                None => {
                    self.close(&mut plain, &mut empty, &mut done);
                    done.push(self.other(part));
                }
            }
        }
        self.close(&mut plain, &mut empty, &mut done);
        if done.is_empty() { "\"\"".into() } else { done.join(" ") }
    }

    /// Ends a stretch of plain text.
    fn close(&mut self, plain: &mut Vec<String>, empty: &mut bool, done: &mut Vec<String>) {
        if !plain.is_empty() {
            // A terminal is never empty: alone, white space is left out as a whole.
            if *empty {
                let space = self.terminal(SOME_SPACE.into());
                done.push(format!("{space}?"));
            } else {
                let terminal = self.terminal(plain.join(" "));
                done.push(terminal);
            }
        }
        plain.clear();
        *empty = true;
    }

    fn terminal(&mut self, text: String) -> String {
        let next = self.terminals.len();
        format!("T{}", self.terminals.entry(text).or_insert(next))
    }

    /// A part that text alone makes up, and whether it may be empty; `None` for all others.
    fn plain(&self, part: &WirePart) -> Option<(Option<String>, bool)> {
        match part {
            WirePart::Text(text) if text.is_empty() => Some((None, true)),
            WirePart::Text(text) => Some((Some(literal(text)), false)),
            WirePart::Mark(mark) if (self.special)(mark).is_none() => Some((Some(literal(mark)), false)),
            WirePart::Space => Some((Some(SPACE.into()), true)),
            WirePart::Digits => Some((Some("/[0-9]{1,4}/".into()), false)),
            WirePart::Word => Some((Some("/[A-Za-z0-9_]{1,64}/".into()), false)),
            WirePart::Until { end, apart, least, most } if (self.special)(end).is_none() => {
                let text = format!("/(?s:.{})/", count(*least, *most));
                let apart = literal(apart);
                let apart = format!("~( /(?s:.*)/ {apart} /(?s:.*)/ )");
                Some((Some(format!("( {text} & {apart} ) {}", literal(end))), false))
            }
            WirePart::Mark(_)
            | WirePart::Until { .. }
            | WirePart::Json(_)
            | WirePart::Rule(_)
            | WirePart::All(_)
            | WirePart::Any(_)
            | WirePart::Maybe(_)
            | WirePart::Again(_) => None,
        }
    }

    fn other(&mut self, part: &WirePart) -> String {
        match part {
            WirePart::Mark(mark) => self.token(mark),
            WirePart::Until { end, least, most, .. } => {
                let text = self.terminal(format!("/(?s:.{})/", count((*least).max(1), *most)));
                let maybe = if *least == 0 { "?" } else { "" };
                format!("{text}{maybe} {}", self.token(end))
            }
            WirePart::Json(n) => format!("json_{n}"),
            WirePart::Rule(n) => format!("rule_{n}"),
            WirePart::Any(parts) => {
                let options: Vec<String> = parts.iter().map(|part| self.sequence(std::slice::from_ref(part))).collect();
                format!("( {} )", options.join(" | "))
            }
            WirePart::Maybe(part) => format!("( {} )?", self.sequence(std::slice::from_ref(part))),
            WirePart::Again(part) => format!("( {} )+", self.sequence(std::slice::from_ref(part))),
            // Taken apart, or plain.
            WirePart::All(parts) => self.sequence(parts),
            WirePart::Text(_) | WirePart::Space | WirePart::Digits | WirePart::Word => {
                self.sequence(std::slice::from_ref(part))
            }
        }
    }

    fn token(&self, mark: &str) -> String {
        (self.special)(mark).map_or_else(|| literal(mark), |token| format!("<[{token}]>"))
    }
}

fn flatten<'p>(parts: &'p [WirePart], flat: &mut Vec<&'p WirePart>) {
    for part in parts {
        match part {
            WirePart::All(parts) => flatten(parts, flat),
            part => flat.push(part),
        }
    }
}

fn count(least: u32, most: Option<u32>) -> String {
    match most {
        None if least == 0 => "*".into(),
        None => format!("{{{least},}}"),
        Some(most) => format!("{{{least},{}}}", most.max(least)),
    }
}

/// As a text of the grammar, which is written as in JSON, and where one more character must be escaped.
fn literal(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::WireOpening;

    fn calls(then: Vec<WirePart>) -> WireCalls {
        let openings = vec![WireOpening { mark: "<call>".into(), then: WirePart::All(then) }];
        let (passed, rules, schemas) = Default::default();
        WireCalls { openings, begun: String::new(), quiet: None, passed, rules, schemas, single: false }
    }

    fn text(words: &str) -> WirePart {
        WirePart::Text(words.into())
    }

    #[test]
    fn plain_text_becomes_one_terminal() {
        let parts = vec![WirePart::Space, text("{\"a\": "), WirePart::Space, WirePart::Json(0), WirePart::Space];
        let made = grammar(&calls(parts), &[json!({"type": "object"})], &|_| None);
        let lines: Vec<&str> = made.lines().collect();
        assert_eq!(lines[0], "start: ( T0 json_0 T1? )");
        assert_eq!(lines[1], r#"json_0: %json {"type":"object"}"#);
        assert_eq!(lines[2], format!("T0: \"<call>\" {SPACE} \"{{\\\"a\\\": \" {SPACE}"));
        assert_eq!(lines[3], format!("T1: {SOME_SPACE}"));
    }

    #[test]
    fn special_tokens_are_named_by_their_numbers() {
        let until = WirePart::Until { end: "</v>".into(), apart: "</v>".into(), least: 0, most: Some(9) };
        let parts = vec![until.clone(), WirePart::Maybe(Box::new(text("x"))), WirePart::Mark("</call>".into())];
        let special = |name: &str| ["<call>", "</call>", "</v>"].iter().position(|known| *known == name);
        let made = grammar(&calls(parts), &[], &|name| special(name).and_then(|n| u32::try_from(n).ok()));
        assert_eq!(made, "start: ( <[0]> T0? <[2]> ( T1 )? <[1]> )\nT0: /(?s:.{1,9})/\nT1: \"x\"\n");
        let made = grammar(&calls(vec![until]), &[], &|_| None);
        let terminal = r#"T0: "<call>" ( /(?s:.{0,9})/ & ~( /(?s:.*)/ "</v>" /(?s:.*)/ ) ) "</v>""#;
        assert_eq!(made, format!("start: ( T0 )\n{terminal}\n"));
    }

    #[test]
    fn rules_and_alternatives_are_written_out() {
        let either = WirePart::Any(vec![text("a"), text(""), WirePart::Rule(0)]);
        let mut made = calls(vec![WirePart::Again(Box::new(either))]);
        made.rules.push(WirePart::Word);
        let made = grammar(&made, &[], &|_| None);
        assert!(made.starts_with("start: ( T0 ( ( T1 | \"\" | rule_0 ) )+ )\nrule_0: T2\n"), "{made}");
    }
}
