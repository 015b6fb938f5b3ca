//! Large texts in parts: where they are cut, and what the record calls a part. Pure apart from the bytes that it is handed.
//!
//! A cut is chosen by what stands around it, not by counting from the beginning: an edit moves the cuts near it and no
//! others, so what lies further on is known again. Parts joined give the file.

use crate::document::Format;
use crate::extract::{Kind, is_mbox};
use std::io::{self, Read};

/// The largest text that is read in parts. Below 4 GiB, so that lines can be counted.
pub(crate) const LARGE_BYTES_MAX: u64 = (4 << 30) - 1;

/// How large parts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// A part has at least this, unless the file ends.
    pub(crate) part_bytes_min: usize,
    /// A cut is looked for in so many bytes behind that.
    pub(crate) search_bytes: usize,
    /// Where no cut suits, a part is cut anywhere at this size.
    pub(crate) part_bytes_max: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { part_bytes_min: 4 << 20, search_bytes: 1 << 20, part_bytes_max: 60 << 20 }
    }
}

/// Where a part stands in its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePart {
    pub start: u64,
    /// Line feeds before it.
    pub lines: u32,
}

/// What of a text is best kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seam {
    Lines,
    Paragraphs,
    Headings,
    /// Nothing but whole messages: half of one is none.
    Messages,
}

/// How files of a kind are cut; `None` when they are read whole or not at all. `head` is how the file begins.
pub(crate) fn seam(kind: Kind, head: &[u8]) -> Option<Seam> {
    // A mark of UTF-16 stands only at the beginning, so later parts couldn't be told.
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return None;
    }
    match kind {
        Kind::Lines(Format::Text) => Some(Seam::Paragraphs),
        Kind::Lines(Format::Markdown) => Some(Seam::Headings),
        Kind::Lines(Format::Data) => Some(Seam::Lines),
        Kind::Mail if is_mbox(head) => Some(Seam::Messages),
        _ => None,
    }
}

/// Bytes behind a cut that decide whether it is taken.
const WITNESS_BYTES: usize = 256;

/// The end of the part that `bytes` begin with: the best place behind `from`, if one suits. `suits` sees what would follow.
fn cut(seam: Seam, bytes: &[u8], from: usize, suits: &dyn Fn(&[u8]) -> bool) -> Option<usize> {
    let mut found: Vec<(u8, u64, usize)> = Vec::new();
    let mut at = from;
    while let Some(feed) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        at += feed + 1;
        if at >= bytes.len() {
            break;
        }
        let rest = &bytes[at..];
        // Of equal places the first: what repeats itself without end is cut by counting.
        found.extend(rank(seam, &bytes[..at], rest).map(|rank| (rank, hash(rest), at)));
    }
    found.sort_unstable();
    found.into_iter().map(|(_, _, at)| at).find(|at| suits(&bytes[*at..]))
}

/// How good it is to cut between these, at the beginning of a line; 0 is best.
fn rank(seam: Seam, before: &[u8], after: &[u8]) -> Option<u8> {
    let line = &before[..before.len() - 1];
    let line = line.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let blank = line.trim_ascii().is_empty();
    match seam {
        Seam::Lines => Some(0),
        Seam::Paragraphs => Some(u8::from(!blank)),
        Seam::Headings if blank && after.starts_with(b"#") => Some(0),
        Seam::Headings => Some(if blank { 1 } else { 2 }),
        Seam::Messages => (blank && is_mbox(after)).then_some(0),
    }
}

/// FNV-1a over what stands behind a cut.
fn hash(rest: &[u8]) -> u64 {
    let witness = &rest[..rest.len().min(WITNESS_BYTES)];
    witness.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A cut where there is no good one: behind the last white space, or else between two characters.
fn anywhere(bytes: &[u8], from: usize) -> usize {
    if let Some(white) = bytes[from..].iter().rposition(|byte| byte.is_ascii_whitespace()) {
        return from + white + 1;
    }
    // The bytes that go on with a character of UTF-8, at most three.
    let goes_on = bytes.iter().rev().take(4).take_while(|byte| matches!(byte, 0x80..=0xbf)).count();
    match bytes.len() - goes_on {
        // The character's first byte goes with the rest of it, whole or not.
        end if goes_on < 4 && end > 1 && bytes[end - 1] >= 0xc0 => end - 1,
        _ => bytes.len(),
    }
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) part: FilePart,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a file part by part; never more of it is in memory than the largest part and what is looked at behind it.
#[derive(Debug)]
pub(crate) struct Pieces<R> {
    source: R,
    sizes: Sizes,
    seam: Seam,
    next: FilePart,
    /// Read and not yet handed out.
    ahead: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    pub(crate) fn new(source: R, seam: Seam, sizes: Sizes) -> Self {
        Self { source, sizes, seam, next: FilePart::default(), ahead: Vec::new() }
    }

    /// The next part; `None` at the end. No part begins with what `suits` refuses, unless nothing else can be found.
    pub(crate) fn next(&mut self, suits: &dyn Fn(&[u8]) -> bool) -> io::Result<Option<Piece>> {
        let Sizes { part_bytes_min, search_bytes, part_bytes_max } = self.sizes;
        let mut wanted = part_bytes_min + search_bytes;
        let end = loop {
            let ended = self.fill(wanted)?;
            if ended && self.ahead.len() <= part_bytes_min {
                break self.ahead.len();
            }
            if let Some(end) = cut(self.seam, &self.ahead, part_bytes_min, suits) {
                break end;
            }
            if ended && self.ahead.len() <= part_bytes_max {
                break self.ahead.len();
            }
            if wanted >= part_bytes_max {
                break anywhere(&self.ahead[..part_bytes_max.min(self.ahead.len())], part_bytes_min);
            }
            wanted = (wanted * 2).min(part_bytes_max);
        };
        if end == 0 {
            return Ok(None);
        }
        let rest = self.ahead.split_off(end);
        let bytes = std::mem::replace(&mut self.ahead, rest);
        let part = self.next;
        let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.next = FilePart {
            start: part.start + bytes.len() as u64,
            lines: part.lines.saturating_add(u32::try_from(feeds).unwrap_or(u32::MAX)),
        };
        Ok(Some(Piece { part, bytes }))
    }

    /// Reads until so many bytes are there; whether the file has ended.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let missing = wanted.saturating_sub(self.ahead.len());
        let read = (&mut self.source).take(missing as u64).read_to_end(&mut self.ahead)?;
        Ok(read < missing)
    }
}

/// A zero byte stands in no path; behind it stands where the part begins.
const KEY_BYTES: usize = 1 + 8 + 4;

/// What the record calls a part of the file with this path.
pub(crate) fn key(mut path: Vec<u8>, part: FilePart) -> Vec<u8> {
    path.push(0);
    path.extend(part.start.to_be_bytes());
    path.extend(part.lines.to_be_bytes());
    path
}

/// The path and the part that the record means; no part for a file that was read whole.
pub(crate) fn parse(mut key: Vec<u8>) -> (Vec<u8>, Option<FilePart>) {
    let Some(at) = key.len().checked_sub(KEY_BYTES).filter(|at| key[*at] == 0) else { return (key, None) };
    let (mut start, mut lines) = ([0; 8], [0; 4]);
    start.copy_from_slice(&key[at + 1..at + 9]);
    lines.copy_from_slice(&key[at + 9..]);
    key.truncate(at);
    (key, Some(FilePart { start: u64::from_be_bytes(start), lines: u32::from_be_bytes(lines) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Sizes = Sizes { part_bytes_min: 64, search_bytes: 48, part_bytes_max: 160 };

    fn pieces(bytes: &[u8], seam: Seam) -> Vec<Piece> {
        let mut pieces = Pieces::new(bytes, seam, SMALL);
        std::iter::from_fn(|| pieces.next(&|_| true).expect("bytes can be read")).collect()
    }

    proptest! {
        /// Parts joined are the file, each where it says it is, on the line that it says, and none is too large.
        #[test]
        fn parts_joined_give_the_file(text in "([a-zé😀# ]{0,40}(\n|\n\n|\r\n|)){0,40}", seam in 0..4usize) {
            let seam = [Seam::Lines, Seam::Paragraphs, Seam::Headings, Seam::Messages][seam];
            let found = pieces(text.as_bytes(), seam);
            let joined: Vec<u8> = found.iter().flat_map(|piece| piece.bytes.clone()).collect();
            prop_assert_eq!(&joined, text.as_bytes());
            for piece in &found {
                let start = piece.part.start as usize;
                prop_assert_eq!(&text.as_bytes()[start..start + piece.bytes.len()], &piece.bytes[..]);
                prop_assert_eq!(text[..start].matches('\n').count(), piece.part.lines as usize);
                prop_assert!(!piece.bytes.is_empty() && piece.bytes.len() <= SMALL.part_bytes_max);
                prop_assert!(std::str::from_utf8(&piece.bytes).is_ok(), "no character is cut");
            }
        }

        /// Once a cut behind an edit stands where it stood before, so do all that follow.
        #[test]
        fn what_lies_beyond_an_edit_is_cut_as_before(
            lines in prop::collection::vec("[a-z]{1,20}", 60..200),
            at in 0..10usize,
        ) {
            let edit = lines[..at].iter().map(|line| line.len() + 1).sum::<usize>();
            let before = lines.join("\n");
            let after = format!("{}new\n{}", &before[..edit], &before[edit..]);
            let cuts = |text: &str, moved: usize| -> Vec<usize> {
                let starts = pieces(text.as_bytes(), Seam::Lines).into_iter().map(|piece| piece.part.start as usize);
                starts.filter(|start| *start > edit + moved).map(|start| start - moved).collect()
            };
            let (old, new) = (cuts(&before, 0), cuts(&after, 4));
            if let Some(again) = old.iter().find(|cut| new.contains(cut)) {
                let from = |cuts: &[usize]| cuts.iter().copied().filter(|cut| cut >= again).collect::<Vec<_>>();
                prop_assert_eq!(from(&old), from(&new));
            }
        }

        #[test]
        fn keys_are_read_back(path in "/[a-z/.é]{0,30}", start in any::<u64>(), lines in any::<u32>()) {
            let (path, part) = (path.into_bytes(), FilePart { start, lines });
            prop_assert_eq!(parse(key(path.clone(), part)), (path.clone(), Some(part)));
            prop_assert_eq!(parse(path.clone()), (path, None));
        }
    }

    #[test]
    fn an_insertion_at_the_top_leaves_most_parts_as_they_were() {
        let text: String = (0..400).map(|number| format!("entry {} of the protocol\n", number * 7919 % 1000)).collect();
        let old = pieces(text.as_bytes(), Seam::Lines);
        let new = pieces(format!("one more\n{text}").as_bytes(), Seam::Lines);
        let fresh = new.iter().filter(|piece| old.iter().all(|old| old.bytes != piece.bytes)).count();
        assert!(fresh * 4 < new.len(), "{fresh} of {}", new.len());
    }

    #[test]
    fn what_belongs_together_stays_together() {
        let line = "a line of words that goes on for a while\n";
        let text = format!("{line}{line}\n# Heading\n\n{line}{line}{line}");
        let found = pieces(text.as_bytes(), Seam::Headings);
        assert!(found[1].bytes.starts_with(b"# Heading"), "{found:?}");
        let message = "From a@b Mon\nSubject: x\n\nwords of it\nand more\n\n";
        let found = pieces(message.repeat(9).as_bytes(), Seam::Messages);
        assert!(found.len() > 2 && found.iter().all(|piece| is_mbox(&piece.bytes)), "{found:?}");
    }

    #[test]
    fn a_part_begins_with_nothing_that_would_make_it_another_kind_of_file() {
        let text = "<html\n%PDF-\nwords\n".repeat(30);
        let mut pieces = Pieces::new(text.as_bytes(), Seam::Lines, SMALL);
        let suits = |rest: &[u8]| rest.starts_with(b"words");
        let mut first = true;
        while let Some(piece) = pieces.next(&suits).expect("read") {
            assert!(std::mem::take(&mut first) || piece.bytes.starts_with(b"words"));
        }
    }

    #[test]
    fn a_line_without_end_is_cut_all_the_same() {
        let found = pieces("é".repeat(500).as_bytes(), Seam::Lines);
        assert!(found.len() > 5 && found.iter().all(|piece| std::str::from_utf8(&piece.bytes).is_ok()));
        assert!(pieces(b"", Seam::Lines).is_empty());
        let latin = pieces(&[0xe9; 500], Seam::Lines);
        assert_eq!(latin.iter().map(|piece| piece.bytes.len()).sum::<usize>(), 500);
    }
}
