//! Rust source with its comments and literals blanked out, so that a scan sees code alone.
//!
//! Not a parser: it knows comments, strings, raw strings, characters and lifetimes, and keeps
//! every line where it was. That is enough for rules that look for names and braces.

/// What stands between the quotes and in the comments becomes spaces; line breaks stay.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !is_name(bytes, at.wrapping_sub(1)) => match literal_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole spans were replaced, each by ASCII, so what remains is valid UTF-8.
    String::from_utf8_lossy(&out).into_owned()
}

/// The code without its `#[cfg(test)]` items (modules, functions, imports), line breaks kept.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    let mark = "#[cfg(test)]";
    let mut from = 0;
    while let Some(found) = out[from..].find(mark) {
        let start = from + found;
        let after = start + mark.len();
        let end = match item_end(&out, after) {
            Some(end) => end,
            None => out.len(),
        };
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
        from = start;
    }
    out
}

/// End of the item that starts at `from`: behind its closing brace or its semicolon.
pub(super) fn item_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b';' if depth == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Whether the byte at `at` can be part of a name. Out of range is not.
pub(super) fn is_name(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80)
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`; `None` for a plain name.
fn literal_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at < bytes.len() && at - start < 2 && matches!(bytes[at], b'r' | b'b' | b'c') {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    match bytes.get(at + hashes)? {
        b'"' if raw => {
            let closing = [b"\"".as_slice(), "#".repeat(hashes).as_bytes()].concat();
            let from = at + hashes + 1;
            let length = bytes[from..].windows(closing.len()).position(|window| window == closing)?;
            Some(from + length + closing.len())
        }
        b'"' if hashes == 0 => Some(string_end(bytes, at)),
        b'\'' if hashes == 0 && !raw => char_end(bytes, at),
        _ => None,
    }
}

/// End of a character literal; `None` when it is a lifetime.
fn char_end(bytes: &[u8], quote: usize) -> Option<usize> {
    if bytes.get(quote + 1) == Some(&b'\\') {
        let from = quote + 3;
        let length = bytes.get(from..)?.iter().take(12).position(|byte| *byte == b'\'')?;
        return Some(from + length + 1);
    }
    // One code point is one to four bytes; a lifetime has no quote behind its first character.
    let text = std::str::from_utf8(bytes.get(quote + 1..)?.get(..4).unwrap_or(&bytes[quote + 1..]));
    let width = match text {
        Ok(text) => text.chars().next()?.len_utf8(),
        Err(error) if error.valid_up_to() > 0 => {
            std::str::from_utf8(&bytes[quote + 1..quote + 1 + error.valid_up_to()]).ok()?.chars().next()?.len_utf8()
        }
        Err(_) => return None,
    };
    (bytes.get(quote + 1 + width) == Some(&b'\'')).then_some(quote + 2 + width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_vanish_and_lines_stay() {
        let rows = [
            ("a // tokio\nb", "a b"),
            ("a /* x /* y */ z */ b", "a b"),
            (r#"f("std::fs \" x") + g"#, "f( ) + g"),
            ("f(r#\"a \" b\"#, 'x')", "f( , )"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            (r"let q = '\''; let b = b'\n';", "let q = ; let b = ;"),
            ("let r = rust; let b = bar;", "let r = rust; let b = bar;"),
            ("let e = 'é'; x", "let e = ; x"),
            ("let u = '\\u{1F600}'; x", "let u = ; x"),
        ];
        for (source, expected) in rows {
            let got = code_only(source);
            assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
            assert_eq!((got.len(), got.lines().count()), (source.len(), source.lines().count()), "{source}");
        }
    }

    #[test]
    fn test_items_vanish() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\n#[cfg(test)]\nuse x::{y, z};\nfn d() {}";
        let left = without_tests(code);
        assert!(left.contains("fn a") && left.contains("fn d"));
        assert!(!left.contains("fn b") && !left.contains("use x"));
        assert_eq!(left.lines().count(), code.lines().count());
    }

    #[test]
    fn a_file_that_ends_in_the_middle_is_no_trouble() {
        for source in ["\"abc", "/* abc", "'", "r#\"abc", "b'", "'\\", "#[cfg(test)] mod x {"] {
            let code = code_only(source);
            let _ = without_tests(&code);
            assert_eq!(code.len(), source.len());
        }
    }
}
