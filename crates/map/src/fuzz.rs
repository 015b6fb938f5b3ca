//! Entry points for fuzzing: each takes any bytes and panics when a promise is broken.
//!
//! `fuzz/` runs them under libFuzzer; `cargo test` runs them over a corpus with seeded mutations.

use crate::document::{Document, Origin};
use crate::extract;
use crate::index::passages;
use crate::search::Source;
use crate::verify::stands;
use crate::walk::Stamp;
use base::Place;

/// Names that lead to each reader of text. The first byte chooses.
pub const NAMES: [&str; 19] = [
    "a.txt", "a.md", "a.html", "a.rs", "a.csv", "a.json", "a.ics", "a.eml", "a.mbox", "a.py", "a.toml", "a.tsv",
    "a.jsonl", "a.log", "a.ts", "a.go", "a.java", "a.cpp", "a.sh",
];

/// Names that lead to each reader of packages.
pub const PACKAGES: [&str; 7] = ["a.docx", "a.odt", "a.ods", "a.odp", "a.pptx", "a.xlsx", "a.epub"];

/// Reads a file: whatever comes of it keeps its offsets in order, and each passage of a text stands in its bytes.
///
/// # Panics
/// When it doesn't.
pub fn read(name: &str, bytes: &[u8]) {
    let Ok(document) = extract::read(name, bytes) else { return };
    assert_eq!(document.check(bytes.len()), Ok(()), "{name}");
    assert_eq!(extract::kind(name, bytes).format(), Some(document.format), "{name}");
    let (encoding, rows) = passages(&document, bytes);
    for row in rows {
        let start = match row.place {
            Place::Lines { byte_start, .. } => byte_start,
            Place::Cells { byte_start: Some(start), .. } => start,
            _ => continue,
        };
        let stamp = Stamp { bytes: 0, modified_ns: 0 };
        let source = Source {
            format: document.format,
            part: None,
            encoding,
            stamp,
            hash: [0; 32],
            runs: row.runs,
            spots: row.spots,
        };
        let range = 0..row.text.len();
        let found = stands(&row.text, &source, start as usize, bytes, range, true);
        assert!(found.is_some(), "{name}: {:?} doesn't stand in its file", row.text);
    }
}

/// What the first byte says that the rest is.
///
/// # Panics
/// As [`read`].
pub fn text(data: &[u8]) {
    if let [choice, rest @ ..] = data {
        read(NAMES[usize::from(*choice) % NAMES.len()], rest);
    }
}

/// As [`text`], for packages.
///
/// # Panics
/// As [`read`].
pub fn package(data: &[u8]) {
    if let [choice, rest @ ..] = data {
        read(PACKAGES[usize::from(*choice) % PACKAGES.len()], rest);
    }
}

/// What a reader child may answer: the parent makes a checked document of it or refuses it.
///
/// # Panics
/// When a document that was let through has no passages that can be made of it.
pub fn reply(mut data: &[u8]) {
    let Ok(extract::Reply::Document(document)) = extract::reply(&mut data) else { return };
    let lines = vec![b'\n'; 1 << 12];
    if document.check(lines.len()).is_ok() {
        let Document { origin, .. } = &*document;
        let (_, rows) = passages(&document, &lines);
        assert!(rows.is_empty() || matches!(origin, Origin::Source { .. } | Origin::Parts));
    }
}

#[cfg(test)]
mod tests;
