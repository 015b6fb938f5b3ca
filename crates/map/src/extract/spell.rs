//! How text formats spell what can't stand in them as it is. Pure; readers and `verify` share it.

use crate::document::Format;

/// What a piece of a file of this format spells; `None` when the format has no spelling of its own for it.
pub(crate) fn spelled(format: Format, piece: &str) -> Option<String> {
    match format {
        Format::Csv => (piece == "\"\"").then(|| "\"".to_owned()),
        Format::Json => json_escape(piece).filter(|(_, len)| *len == piece.len()).map(|(c, _)| c.to_string()),
        Format::Calendar => calendar_escape(piece).map(str::to_owned).or_else(|| calendar_time(piece)),
        _ => None,
    }
}

/// The character that an escape at the start of `text` stands for, and the escape's length.
/// Halves of characters without their other half become U+FFFD.
pub(crate) fn json_escape(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| {
        let hex = text.strip_prefix("\\u")?.get(..4).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u16::from_str_radix(hex, 16).ok()
    };
    if let Some(first) = unit(text) {
        let second = text.get(6..).and_then(unit).filter(|_| (0xd800..0xdc00).contains(&first));
        let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
        return Some(match pair {
            Some(c) => (c, 12),
            None => (char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
        });
    }
    let c = match text.as_bytes().get(..2)? {
        b"\\\"" => '"',
        b"\\\\" => '\\',
        b"\\/" => '/',
        b"\\b" => '\u{8}',
        b"\\f" => '\u{c}',
        b"\\n" => '\n',
        b"\\r" => '\r',
        b"\\t" => '\t',
        _ => return None,
    };
    Some((c, 2))
}

/// What an escape of a calendar's text stands for.
pub(crate) fn calendar_escape(escape: &str) -> Option<&'static str> {
    Some(match escape {
        "\\n" | "\\N" => "\n",
        "\\," => ",",
        "\\;" => ";",
        "\\\\" => "\\",
        _ => return None,
    })
}

/// `20250310T093000Z` as `2025-03-10 09:30 UTC`; `None` when it is no time.
pub(crate) fn calendar_time(value: &str) -> Option<String> {
    let (date, time) = value.split_once('T').map_or((value, None), |(date, time)| (date, Some(time)));
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(date, 8) {
        return None;
    }
    let mut text = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
    if let Some(time) = time {
        let (clock, zone) = time.strip_suffix('Z').map_or((time, ""), |clock| (clock, " UTC"));
        if !digits(clock, 6) {
            return None;
        }
        text += &format!(" {}:{}", &clock[..2], &clock[2..4]);
        if &clock[4..] != "00" {
            text += &format!(":{}", &clock[4..]);
        }
        text += zone;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_as_their_format_means_them() {
        for (format, piece, text) in [
            (Format::Json, "\\u00e9", Some("é")),
            (Format::Json, "\\ud83d\\ude00", Some("😀")),
            (Format::Json, "\\ud83d", Some("\u{fffd}")),
            (Format::Json, "\\n", Some("\n")),
            (Format::Json, "\\x", None),
            (Format::Json, "\\u00", None),
            (Format::Json, "\\né", None),
            (Format::Csv, "\"\"", Some("\"")),
            (Format::Calendar, "\\,", Some(",")),
            (Format::Calendar, "20250310T093000Z", Some("2025-03-10 09:30 UTC")),
            (Format::Calendar, "20250310", Some("2025-03-10")),
            (Format::Calendar, "2025031é", None),
            (Format::Text, "\\n", None),
        ] {
            assert_eq!(spelled(format, piece).as_deref(), text, "{piece}");
        }
    }
}
