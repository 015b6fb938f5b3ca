//! How a long text is taken apart: at headings, then paragraphs, lines, sentences, words; every byte in one part.

use crate::sentence::sentences;
use base::Fault;
use std::ops::Range;

/// LIMIT: times that a part which turned out too long is taken apart again; each halves it.
const AGAIN_MAX: u32 = 24;

/// Where a text may be cut, the best places first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Sections,
    Paragraphs,
    Lines,
    Sentences,
    Words,
    Letters,
}

impl Level {
    fn finer(self) -> Self {
        match self {
            Level::Sections => Level::Paragraphs,
            Level::Paragraphs => Level::Lines,
            Level::Lines => Level::Sentences,
            Level::Sentences => Level::Words,
            Level::Words | Level::Letters => Level::Letters,
        }
    }
}

/// Parts of at most `room` tokens, as `count` counts them: together they are the whole text, in its order.
///
/// # Errors
/// Those of `count`.
pub fn parts(
    text: &str,
    room: u32,
    count: &mut dyn FnMut(&str) -> Result<u32, Fault>,
) -> Result<Vec<Range<usize>>, Fault> {
    let tokens = count(text)?.max(1);
    // Counting each paragraph would cost more than the work: bytes stand for tokens, as many as in the whole text.
    let per_token = (text.len() as f64 / f64::from(tokens)).max(1.0);
    let bytes = (f64::from(room) * per_token * 0.9) as usize;
    let mut found = Vec::new();
    for range in pieces_of(text, bytes) {
        fit(text, range, room, count, AGAIN_MAX, &mut found)?;
    }
    Ok(found)
}

/// Takes a part apart again as long as it has too many tokens.
fn fit(
    text: &str,
    range: Range<usize>,
    room: u32,
    count: &mut dyn FnMut(&str) -> Result<u32, Fault>,
    again: u32,
    found: &mut Vec<Range<usize>>,
) -> Result<(), Fault> {
    let part = &text[range.clone()];
    // A token is never less than a byte.
    if again == 0 || part.len() <= room as usize || count(part)? <= room {
        found.push(range);
        return Ok(());
    }
    for piece in pieces_of(part, part.len().div_ceil(2)) {
        let piece = range.start + piece.start..range.start + piece.end;
        fit(text, piece, room, count, again - 1, found)?;
    }
    Ok(())
}

/// Pieces of at most `bytes` bytes, cut at the best places; a piece is longer only when a single character is.
pub fn pieces_of(text: &str, bytes: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    pack(text, 0..text.len(), Level::Sections, bytes.max(1), &mut found);
    found
}

fn pack(text: &str, range: Range<usize>, level: Level, most: usize, found: &mut Vec<Range<usize>>) {
    let mut open: Option<Range<usize>> = None;
    for unit in units(&text[range.clone()], level, most) {
        let unit = range.start + unit.start..range.start + unit.end;
        if let Some(begun) = &mut open {
            if unit.end - begun.start <= most {
                begun.end = unit.end;
                continue;
            }
            found.extend(open.take());
        }
        if unit.len() <= most || level == Level::Letters {
            open = Some(unit);
        } else {
            pack(text, unit, level.finer(), most, found);
        }
    }
    found.extend(open);
}

/// The units of a text at a level: together they are the whole text.
fn units(text: &str, level: Level, most: usize) -> Vec<Range<usize>> {
    match level {
        Level::Sections => before_lines(text, is_heading),
        Level::Paragraphs => paragraphs(text),
        Level::Lines => ranges(text.split_inclusive('\n').map(str::len)),
        Level::Sentences => sentences(text),
        Level::Words => ranges(text.split_inclusive(char::is_whitespace).map(str::len)),
        Level::Letters => letters(text, most),
    }
}

fn ranges(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut at = 0;
    lengths
        .map(|length| {
            at += length;
            at - length..at
        })
        .collect()
}

fn letters(text: &str, most: usize) -> Vec<Range<usize>> {
    let (mut found, mut start) = (Vec::new(), 0);
    for (at, c) in text.char_indices() {
        if at + c.len_utf8() - start > most && at > start {
            found.push(start..at);
            start = at;
        }
    }
    if start < text.len() {
        found.push(start..text.len());
    }
    found
}

/// Cuts before each line that is one of these, outside of code fences.
fn before_lines(text: &str, cuts: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let (mut found, mut start, mut at, mut fenced) = (Vec::new(), 0, 0, false);
    for line in text.split_inclusive('\n') {
        if is_fence(line) {
            fenced = !fenced;
        } else if !fenced && at > start && cuts(line) {
            found.push(start..at);
            start = at;
        }
        at += line.len();
    }
    if start < text.len() {
        found.push(start..text.len());
    }
    found
}

/// Paragraphs with the blank lines behind them; a code fence is one.
fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    let (mut fenced, mut blank) = (false, false);
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if !fenced && blank && !is_blank && at > start {
            found.push(start..at);
            start = at;
        }
        if is_fence(line) {
            fenced = !fenced;
        }
        blank = is_blank;
        at += line.len();
    }
    if start < text.len() {
        found.push(start..text.len());
    }
    found
}

/// `# Markdown`, `<h2>`, `Chapter 4`, `4.2 Results`.
fn is_heading(line: &str) -> bool {
    let line = line.trim();
    let hashes = line.len() - line.trim_start_matches('#').len();
    let lower = line.get(..4).unwrap_or(line).to_ascii_lowercase();
    let chapter = line.len() < 60 && (lower.starts_with("chap") || lower.starts_with("kapi"));
    (1..=6).contains(&hashes) && line[hashes..].starts_with(' ')
        || lower.starts_with("<h") && lower.as_bytes().get(2).is_some_and(u8::is_ascii_digit)
        || chapter
}

pub(crate) fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, bytes: usize) -> Vec<&str> {
        pieces_of(text, bytes).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn cuts_are_made_at_the_best_places() {
        let text = "# One\n\nSome words.\n\n# Two\n\nOther words.\n";
        assert_eq!(cut(text, 100), [text]);
        assert_eq!(cut(text, 25), ["# One\n\nSome words.\n\n", "# Two\n\nOther words.\n"]);
        assert_eq!(cut("a b. C d. E f.", 10), ["a b. C d. ", "E f."]);
        assert_eq!(cut("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(cut("漢字", 1), ["漢", "字"]);
        assert_eq!(cut("```\n# no heading\n```\n", 100).len(), 1);
        assert!(cut("", 5).is_empty());
    }

    #[test]
    fn a_part_has_no_more_tokens_than_there_is_room() {
        // A counter that the bytes tell little about: digits are a token each, letters a tenth.
        let tokens = |text: &str| {
            text.chars().filter(char::is_ascii_digit).count() + text.chars().filter(|c| c.is_alphabetic()).count() / 10
        };
        let text = format!("{}\n\n{}", "word ".repeat(400), "7 ".repeat(400));
        let mut counted = 0;
        let mut count = |text: &str| {
            counted += 1;
            Ok(u32::try_from(tokens(text)).unwrap_or(u32::MAX))
        };
        let found = parts(&text, 50, &mut count).expect("parts");
        assert!(found.len() > 8 && counted < 200, "{} parts, {counted} counts", found.len());
        assert!(found.iter().all(|range| tokens(&text[range.clone()]) <= 50));
    }

    proptest! {
        /// Every byte is in exactly one part, in its order, and no part is empty or too long.
        #[test]
        fn every_byte_is_in_one_part(text in "[a-c#\n` .!漢ü<h1>-]{0,300}", bytes in 1_usize..60, room in 1_u32..40) {
            let pieces = pieces_of(&text, bytes);
            let mut count = |text: &str| Ok(u32::try_from(text.len()).unwrap_or(u32::MAX));
            let parts = parts(&text, room, &mut count).expect("parts");
            for found in [&pieces, &parts] {
                let mut at = 0;
                for range in found {
                    prop_assert_eq!(range.start, at);
                    prop_assert!(range.end > at);
                    at = range.end;
                }
                prop_assert_eq!(at, text.len());
            }
            prop_assert!(pieces.iter().all(|range| range.len() <= bytes.max(4)));
            prop_assert!(parts.iter().all(|range| range.len() <= (room as usize).max(4)));
        }
    }
}
