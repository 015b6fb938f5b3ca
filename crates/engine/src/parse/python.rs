//! Calls as some models write them: `[weather(city="Paris", days=3), now()]`.

use super::json::quoted;

/// Reads a list of calls, or one alone: each name with its arguments as JSON text. `None` when it is something else.
pub(super) fn calls(text: &str) -> Option<Vec<(String, String)>> {
    let mut reader = Reader { text: text.trim() };
    let listed = reader.skip("[");
    let mut calls = Vec::new();
    loop {
        reader.blanks();
        if listed && reader.skip("]") {
            break;
        }
        calls.push(reader.call()?);
        reader.blanks();
        if reader.skip(",") || (!listed && reader.skip(";")) {
            continue;
        }
        if listed {
            if !reader.skip("]") {
                return None;
            }
            break;
        }
        if reader.text.is_empty() {
            break;
        }
    }
    reader.blanks();
    (reader.text.is_empty() && !calls.is_empty()).then_some(calls)
}

/// LIMIT: brackets within each other.
const DEPTH_MAX: usize = 64;

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.text = self.text.trim_start();
    }

    fn skip(&mut self, mark: &str) -> bool {
        match self.text.strip_prefix(mark) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self) -> Option<String> {
        let end =
            self.text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(self.text.len());
        let (name, rest) = self.text.split_at(end);
        self.text = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn call(&mut self) -> Option<(String, String)> {
        let name = self.name()?;
        if !self.skip("(") {
            return None;
        }
        let mut arguments = Vec::new();
        loop {
            self.blanks();
            if self.skip(")") {
                break;
            }
            let key = self.name()?;
            self.blanks();
            if !self.skip("=") {
                return None;
            }
            arguments.push(format!("{}: {}", quoted(&key), self.value(0)?));
            self.blanks();
            if !self.skip(",") && !self.text.starts_with(')') {
                return None;
            }
        }
        Some((name, format!("{{{}}}", arguments.join(", "))))
    }

    /// A literal, as JSON.
    fn value(&mut self, depth: usize) -> Option<String> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blanks();
        match self.text.chars().next()? {
            '"' | '\'' => self.string().map(|text| quoted(&text)),
            '[' | '(' => {
                let close = if self.skip("[") {
                    "]"
                } else {
                    self.skip("(");
                    ")"
                };
                let items = self.items(close, |reader| reader.value(depth + 1))?;
                Some(format!("[{items}]"))
            }
            '{' => {
                self.skip("{");
                let items = self.items("}", |reader| {
                    let key = reader.value(depth + 1)?;
                    let key = if key.starts_with('"') { key } else { quoted(&key) };
                    reader.blanks();
                    if !reader.skip(":") {
                        return None;
                    }
                    Some(format!("{key}: {}", reader.value(depth + 1)?))
                })?;
                Some(format!("{{{items}}}"))
            }
            _ => self.word(),
        }
    }

    fn items(&mut self, close: &str, item: impl Fn(&mut Self) -> Option<String>) -> Option<String> {
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.skip(close) {
                return Some(items.join(", "));
            }
            items.push(item(self)?);
            self.blanks();
            if !self.skip(",") && !self.text.starts_with(close) {
                return None;
            }
        }
    }

    fn word(&mut self) -> Option<String> {
        let end =
            self.text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '+' | '-'))).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        match word {
            "True" | "true" => Some("true".to_owned()),
            "False" | "false" => Some("false".to_owned()),
            "None" | "null" => Some("null".to_owned()),
            number => super::json::is_whole(number).then(|| number.to_owned()),
        }
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.text.chars().next()?;
        let long = [quote; 3].iter().collect::<String>();
        let end = if self.text.starts_with(&long) { long } else { quote.to_string() };
        self.skip(&end);
        let mut text = String::new();
        loop {
            if self.skip(&end) {
                return Some(text);
            }
            let c = self.next()?;
            if c != '\\' {
                text.push(c);
                continue;
            }
            match self.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                '0' => text.push('\0'),
                '\n' => {}
                'x' => text.push(self.code(2)?),
                'u' => text.push(self.code(4)?),
                c @ ('\\' | '\'' | '"') => text.push(c),
                // Python keeps a backslash that it knows nothing of.
                c => text.extend(['\\', c]),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.text.chars();
        let c = chars.next()?;
        self.text = chars.as_str();
        Some(c)
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let code = u32::from_str_radix(self.text.get(..digits)?, 16).ok()?;
        self.text = &self.text[digits..];
        char::from_u32(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_as_python_reads_them() {
        for (text, expected) in [
            (r#"[weather(city="Paris", days=3)]"#, vec![("weather", r#"{"city": "Paris", "days": 3}"#)]),
            ("now()", vec![("now", "{}")]),
            (
                "[a(x='it\\'s'), b(y=[1, 2.5, -3e2], z={'k': None, 'l': True})]",
                vec![("a", r#"{"x": "it's"}"#), ("b", r#"{"y": [1, 2.5, -3e2], "z": {"k": null, "l": true}}"#)],
            ),
            (
                r#"f(s="""two
lines""", t=())"#,
                vec![("f", r#"{"s": "two\nlines", "t": []}"#)],
            ),
            (r#"f(s="\u00e9\x41\d")"#, vec![("f", r#"{"s": "éA\\d"}"#)]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            assert_eq!(calls(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in ["", "[]", "hello", "f(", "f(1)", "f(a=)", "[f(a=1)", "f(a=1) and more", "f(a=b)", "f(a='x)"] {
            assert_eq!(calls(text), None, "{text}");
        }
        assert_eq!(calls(&format!("f(a={})", "[".repeat(1000))), None);
    }
}
