//! Numbers, times and places as people read them. Pure.

use std::fmt::Write;
use std::path::Path;

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 document`, `3 documents`
pub(crate) fn plural(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", count(number)) }
}

/// A rate: whole from 10 on, one decimal below.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 10.0 { count(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// A span of microseconds: `0.3 ms`, `12 ms`, `1.4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`
pub(crate) fn span(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0 if micros < 10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        0 => format!("{} ms", micros / 1_000),
        1..60 => format!("{:.1} s", micros as f64 / 1e6),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `135M`, `7.2B`
pub(crate) fn parameters(number: u64) -> String {
    match number {
        0 => "–".into(),
        1..1_000_000 => count(number),
        1_000_000..1_000_000_000 => format!("{}M", (number + 500_000) / 1_000_000),
        _ => format!("{:.1}B", number as f64 / 1e9),
    }
}

/// A path as short as it stays true: from here when it lies below, from the root otherwise.
pub(crate) fn short_path(path: &str, here: Option<&Path>) -> String {
    match here.and_then(|here| Path::new(path).strip_prefix(here).ok()) {
        Some(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        Some(_) => ".".into(),
        None => path.to_string(),
    }
}

/// `file:///home/me/a%20b.md`
pub(crate) fn file_uri(path: &str) -> String {
    let mut uri = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// All white space of a quotation as single blanks, so that it stands on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cut to `most` characters, with a mark when something is missing.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (plural(1, "file"), plural(0, "file"), plural(1200, "file")),
            ("1 file".into(), "0 files".into(), "1,200 files".into())
        );
        assert_eq!((rate(9.96), rate(10.4), rate(2250.2)), ("10.0".into(), "10".into(), "2,250".into()));
        assert_eq!(
            (parameters(134_515_008), parameters(7_241_732_096), parameters(0)),
            ("135M".into(), "7.2B".into(), "–".into())
        );
    }

    #[test]
    fn spans_take_the_unit_that_fits() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (3_120, "3.1 ms"),
            (12_900, "12 ms"),
            (1_400_000, "1.4 s"),
            (200_000_000, "3 min 20 s"),
            (7_500_000_000, "2 h 5 min"),
            (273_600_000_000, "3 d 4 h"),
        ] {
            assert_eq!(span(micros), text);
        }
    }

    #[test]
    fn paths_are_short_where_that_is_true() {
        let here = Path::new("/home/me");
        for (path, text) in [("/home/me/a/b.md", "a/b.md"), ("/home/meow/b.md", "/home/meow/b.md"), ("/home/me", ".")] {
            assert_eq!(short_path(path, Some(here)), text);
        }
        assert_eq!(short_path("/x", None), "/x");
        assert_eq!(file_uri("/a b/ü.md"), "file:///a%20b/%C3%BC.md");
    }

    #[test]
    fn quotations_fit_a_line() {
        assert_eq!(one_line("a\n  b\tc "), "a b c");
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("ab cd", 4)), ("abc".into(), "ab…".into(), "ab…".into()));
    }
}
