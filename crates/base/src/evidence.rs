//! A citation names a place in a person's file and the text that stands there.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where in a file a quotation stands. Lines, pages and paragraphs count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Place {
    /// Text formats: lines of the source file itself, and its bytes.
    Lines { first: u32, last: u32, byte_start: u64, byte_end: u64 },
    /// PDF.
    Page { first: u32, last: u32 },
    /// Word processors: paragraphs in reading order.
    Paragraph { first: u32, last: u32 },
}

impl fmt::Display for Place {
    /// `12-15`, `p.3`, `¶4-6`: what follows `path:` in a printed citation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, first, last) = match self {
            Place::Lines { first, last, .. } => ("", first, last),
            Place::Page { first, last } => ("p.", first, last),
            Place::Paragraph { first, last } => ("¶", first, last),
        };
        if first == last { write!(f, "{mark}{first}") } else { write!(f, "{mark}{first}-{last}") }
    }
}

/// One verified quotation. It exists only when `quote` was found at `place` at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// The `[n]` of the printed answer, from 1.
    pub number: u32,
    /// Absolute path of the file.
    pub path: String,
    pub place: Place,
    pub title: String,
    pub quote: String,
    /// BLAKE3 of `quote`'s UTF-8 bytes, in hex.
    pub quote_hash: String,
}
