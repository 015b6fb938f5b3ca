//! Where in a text some words stand, as it counts bytes and as the web platform counts: in UTF-16 code units.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A stretch of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// In UTF-16 code units, as strings of web pages are counted.
    pub start_index: usize,
    pub end_index: usize,
    /// In bytes of UTF-8.
    pub start_byte: usize,
    pub end_byte: usize,
}

impl Span {
    pub(crate) fn of(text: &str, bytes: Range<usize>) -> Self {
        let units = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
        let start_index = units(&text[..bytes.start]);
        let end_index = start_index + units(&text[bytes.clone()]);
        Self { start_index, end_index, start_byte: bytes.start, end_byte: bytes.end }
    }
}

/// Where the words stand in the text, as whole words: letter by letter, else without regard to capitals and to how
/// wide the gaps are.
pub(crate) fn find(text: &str, words: &str) -> Option<Range<usize>> {
    let words = words.trim();
    if words.is_empty() {
        return None;
    }
    let exact = text.match_indices(words).map(|(at, found)| at..at + found.len());
    exact.into_iter().find(|range| stands_alone(text, range)).or_else(|| find_loosely(text, words))
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let joins = |one: Option<char>, other: Option<char>| matches!((one, other), (Some(one), Some(other)) if one.is_alphanumeric() && other.is_alphanumeric());
    let inside = &text[range.clone()];
    !joins(text[..range.start].chars().next_back(), inside.chars().next())
        && !joins(inside.chars().next_back(), text[range.end..].chars().next())
}

fn find_loosely(text: &str, words: &str) -> Option<Range<usize>> {
    let wanted: Vec<char> = folded(words).map(|(_, c)| c).collect();
    let found: Vec<(usize, char)> = folded(text).collect();
    let ends = |at: usize| found.get(at).map_or(text.len(), |(byte, _)| *byte);
    found.windows(wanted.len()).enumerate().find_map(|(at, window)| {
        let same = window.iter().map(|(_, c)| *c).eq(wanted.iter().copied());
        let end = text[..ends(at + wanted.len())].trim_end().len();
        let range = found[at].0..end;
        (same && range.start < range.end && stands_alone(text, &range)).then_some(range)
    })
}

/// Small letters, and one blank for any gap, each with where it stood.
fn folded(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut gap = false;
    text.char_indices().flat_map(move |(at, c)| {
        let blank = c.is_whitespace();
        let skipped = blank && std::mem::replace(&mut gap, blank);
        gap = blank;
        let one = if blank { ' ' } else { c };
        // Letters that become several when they are small (`İ`) stay as they are.
        let mut small = one.to_lowercase();
        let one = if small.len() == 1 { small.next().unwrap_or(one) } else { one };
        (!skipped).then_some((at, one))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_found_whole() {
        let text = "Pay 120 EUR to Anna\n  Berg, not to Annabel.";
        for (words, expected) in [
            ("120", Some("120")),
            ("12", None),
            ("anna berg", Some("Anna\n  Berg")),
            ("Anna", Some("Anna")),
            ("Bergen", None),
            ("", None),
            ("annabel", Some("Annabel")),
        ] {
            assert_eq!(find(text, words).map(|range| &text[range]), expected, "{words}");
        }
    }

    #[test]
    fn places_are_counted_as_the_web_does_too() {
        let text = "a😀ü Berg";
        let range = find(text, "Berg").expect("there");
        let span = Span::of(text, range);
        assert_eq!((span.start_index, span.end_index, span.start_byte), (5, 9, 8));
    }

    proptest! {
        #[test]
        fn what_is_found_stands_there(text in "[aA bB\n1İß]{0,40}", words in "[aA bB1]{1,4}") {
            if let Some(range) = find(&text, &words) {
                let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
                prop_assert_eq!(squeeze(&text[range]), squeeze(&words));
            }
        }
    }
}
