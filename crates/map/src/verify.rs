//! Whether a quotation stands in its file now. The one place outside indexing that reads a person's file.
//!
//! Text formats: each word of the quotation is compared with the file's bytes at its place; where markup
//! stands between (an entity, a quoted-printable character), the bytes are decoded first. If other parts of
//! the file have changed, the quotation still counts when its own bytes stand, and its lines are counted anew.
//! PDF, DOCX and encoded e-mail: the whole file must be the one that the passage was read from, byte for
//! byte (BLAKE3); the passage is a function of those bytes.

use crate::cite::{self, Quoted};
use crate::extract::{FILE_BYTES_MAX, unescape, unquote};
use crate::search::{Hit, Source};
use crate::source::{Lines, Run, locate, straight};
use base::{Citation, Place};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

/// Quotations that stand, and sentences about those that don't.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cited {
    /// Numbered from 1 in the order of `used`.
    pub quoted: Vec<Quoted>,
    pub notices: Vec<String>,
}

/// Quotes each used hit by the sentence that says most about the question, if it stands in its file now.
pub fn cite(question: &str, hits: &[Hit], used: &[usize]) -> Cited {
    let mut cited = Cited::default();
    for (at, hit) in used.iter().filter_map(|at| Some((*at, hits.get(*at)?))) {
        let range = cite::best(question, hit);
        let quote = hit.text[range.clone()].to_owned();
        match verify(hit, range) {
            Ok(place) => {
                let number = cited.quoted.len() as u32 + 1;
                let quote_hash = blake3::hash(quote.as_bytes()).to_hex().to_string();
                let path = hit.path.display().to_string();
                let citation = Citation { number, path, place, title: hit.title.clone(), quote, quote_hash };
                let (title, heading, passage) = (hit.title.clone(), hit.heading.clone(), hit.text.clone());
                cited.quoted.push(Quoted { citation, hit: at, title, heading, passage });
            }
            Err(why) => cited.notices.push(format!(
                "`{}` {why} since it was indexed, so it isn't cited; `freehold index` its folder again",
                hit.path.display()
            )),
        }
    }
    cited
}

/// The place where a range of a hit's text stands in its file now.
///
/// # Errors
/// What has happened to the file, as a part of a sentence (`has changed`).
pub fn verify(hit: &Hit, range: Range<usize>) -> Result<Place, &'static str> {
    let bytes = read(&hit.path)?;
    let unchanged = *blake3::hash(&bytes).as_bytes() == hit.source.hash;
    match &hit.place {
        Place::Lines { byte_start, .. } => {
            let start = usize::try_from(*byte_start).map_err(|_| "has changed")?;
            let place = stands(&hit.text, &hit.source, start, &bytes, range, unchanged).ok_or("has changed")?;
            let (first, last) = Lines::new(&bytes, hit.source.encoding).of(&place);
            Ok(Place::Lines { first, last, byte_start: place.start.into(), byte_end: place.end.into() })
        }
        place @ (Place::Page { .. } | Place::Paragraph { .. }) if unchanged => Ok(place.clone()),
        Place::Page { .. } | Place::Paragraph { .. } => Err("has changed"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, &'static str> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "has gone",
        _ => "has become unreadable",
    };
    let file = File::open(path).map_err(gone)?;
    if !file.metadata().map_err(gone)?.is_file() {
        return Err("has become something else than a file");
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(gone)?;
    Ok(bytes)
}

/// Compares a range of text with the file's bytes, run by run. `start` is the passage's first byte.
fn stands(
    text: &str,
    source: &Source,
    start: usize,
    bytes: &[u8],
    range: Range<usize>,
    unchanged: bool,
) -> Option<Range<u32>> {
    let mut at = range.start;
    for run in &source.runs {
        let (run_start, run_end) = (run.text as usize, (run.text + run.text_len) as usize);
        if run_end <= range.start || run_start >= range.end {
            continue;
        }
        let (from, to) = (run_start.max(range.start), run_end.min(range.end));
        // Between runs there is only white space that stands for markup.
        if from < at
            || !text.get(at..from)?.trim().is_empty()
            || !run_stands(text, source, run, start, bytes, from..to, unchanged)
        {
            return None;
        }
        at = to;
    }
    if !text.get(at..range.end)?.trim().is_empty() {
        return None;
    }
    let place = locate(text, &source.runs, source.encoding, range)?;
    let shift = u32::try_from(start).ok()?;
    Some(place.start + shift..place.end + shift)
}

fn run_stands(
    text: &str,
    source: &Source,
    run: &Run,
    start: usize,
    bytes: &[u8],
    range: Range<usize>,
    unchanged: bool,
) -> bool {
    let encoding = source.encoding;
    let whole = start + run.source as usize..start + (run.source + run.source_len) as usize;
    if straight(text, run, encoding) {
        let skip = encoding.width_of(&text[run.text as usize..range.start]);
        let piece = &text[range];
        let place = whole.start + skip..whole.start + skip + encoding.width_of(piece);
        return bytes.get(place).and_then(|slice| encoding.decode(slice)).is_some_and(|decoded| decoded == piece);
    }
    let words = &text[run.text as usize..(run.text + run.text_len) as usize];
    let Some(slice) = bytes.get(whole) else { return false };
    let entity = encoding.decode(slice).is_some_and(|decoded| unescape(&decoded) == words);
    let quoted = || String::from_utf8(unquote(slice).0).is_ok_and(|decoded| decoded == words);
    // A header's encoded words belong to the header as a whole: for them the unchanged file vouches.
    entity || quoted() || unchanged
}
