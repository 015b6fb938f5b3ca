//! Between a file's bytes and its text: encodings, runs of text with their bytes, line numbers.
//!
//! Pure. A run is straight when its text is just its bytes decoded; other runs (an HTML entity, an
//! escaped character) belong to their bytes as a whole.

use serde::{Deserialize, Serialize};
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    Utf8,
    Windows1252,
    Utf16Le,
    Utf16Be,
}

/// `text_len` bytes of text from `text` on came from `source_len` bytes of the file from `source` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub text: u32,
    pub text_len: u32,
    pub source: u32,
    pub source_len: u32,
}

/// Windows-1252 from 0x80 to 0x9F; bytes that it leaves undefined stay control characters, as in HTML.
const HIGH_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn from_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => HIGH_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

impl Encoding {
    /// Bytes that a character takes in a file of this encoding.
    pub fn width(self, c: char) -> usize {
        match self {
            Encoding::Utf8 => c.len_utf8(),
            Encoding::Windows1252 => 1,
            Encoding::Utf16Le | Encoding::Utf16Be => c.len_utf16() * 2,
        }
    }

    /// Bytes that a text takes in a file of this encoding.
    pub fn width_of(self, text: &str) -> usize {
        if self == Encoding::Utf8 { text.len() } else { text.chars().map(|c| self.width(c)).sum() }
    }

    /// Decodes a slice of a file that begins and ends between characters; `None` if it isn't valid.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Encoding::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Encoding::Windows1252 => Some(bytes.iter().map(|byte| from_1252(*byte)).collect()),
            Encoding::Utf16Le => String::from_utf16(&units(bytes, u16::from_le_bytes)?).ok(),
            Encoding::Utf16Be => String::from_utf16(&units(bytes, u16::from_be_bytes)?).ok(),
        }
    }

    /// Decodes any bytes; what isn't valid becomes U+FFFD.
    pub(crate) fn decode_broken(self, bytes: &[u8]) -> String {
        let utf16 = |unit: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        };
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Windows1252 => bytes.iter().map(|byte| from_1252(*byte)).collect(),
            Encoding::Utf16Le => utf16(u16::from_le_bytes),
            Encoding::Utf16Be => utf16(u16::from_be_bytes),
        }
    }

    /// Offsets of the first byte after each line feed.
    fn line_starts(self, bytes: &[u8]) -> Vec<u32> {
        let mut starts = vec![0];
        match self {
            Encoding::Utf8 | Encoding::Windows1252 => {
                starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i as u32 + 1));
            }
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let feed = if self == Encoding::Utf16Le { [b'\n', 0] } else { [0, b'\n'] };
                starts.extend(
                    bytes.chunks_exact(2).enumerate().filter(|(_, unit)| **unit == feed).map(|(i, _)| i as u32 * 2 + 2),
                );
            }
        }
        starts
    }
}

fn units(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Vec<u16>> {
    bytes.len().is_multiple_of(2).then(|| bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect())
}

/// Line numbers of byte offsets.
#[derive(Debug)]
pub struct Lines {
    starts: Vec<u32>,
}

impl Lines {
    pub fn new(bytes: &[u8], encoding: Encoding) -> Self {
        Self { starts: encoding.line_starts(bytes) }
    }

    /// First and last line, from 1, of a byte range.
    pub fn of(&self, range: &Range<u32>) -> (u32, u32) {
        let line = |offset: u32| self.starts.partition_point(|start| *start <= offset) as u32;
        (line(range.start), line(range.end.saturating_sub(1).max(range.start)))
    }
}

/// A file's text with the way back to its bytes.
#[derive(Debug)]
pub struct Decoded {
    pub encoding: Encoding,
    pub text: String,
    /// Pairs of text offset and byte offset, at most [`MARK_EVERY`] bytes of text apart.
    marks: Vec<(u32, u32)>,
}

const MARK_EVERY: usize = 1024;

impl Decoded {
    /// Decodes bytes whose encoding is known; `None` if they aren't valid in it.
    pub fn with(bytes: &[u8], encoding: Encoding) -> Option<Self> {
        match encoding {
            Encoding::Windows1252 => Some(decode_1252(bytes)),
            Encoding::Utf16Le | Encoding::Utf16Be => decode_utf16(bytes, encoding),
            Encoding::Utf8 => {
                let text = encoding.decode(bytes)?;
                Some(Decoded { encoding, text, marks: vec![(0, 0)] })
            }
        }
    }

    /// Byte offset in the file of a character boundary of the text.
    pub fn source(&self, offset: usize) -> usize {
        let mark = self.marks.partition_point(|(text, _)| *text as usize <= offset).saturating_sub(1);
        let (text, source) = self.marks[mark];
        source as usize + self.encoding.width_of(&self.text[text as usize..offset])
    }
}

/// Decodes a text file; `None` when it isn't text.
///
/// UTF-8 and UTF-16 are told by their marks or validity. What isn't valid UTF-8 is read as Windows-1252,
/// unless it is UTF-8 with a few broken bytes: those become U+FFFD.
pub fn decode(bytes: &[u8]) -> Option<Decoded> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => return decode_utf16(rest, Encoding::Utf16Le),
        [0xfe, 0xff, rest @ ..] => return decode_utf16(rest, Encoding::Utf16Be),
        _ => {}
    }
    let skip = if bytes.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
    let body = &bytes[skip..];
    if body.contains(&0) || !looks_like_text(body) {
        return None;
    }
    if let Ok(text) = std::str::from_utf8(body) {
        return Some(Decoded { encoding: Encoding::Utf8, text: text.to_owned(), marks: vec![(0, skip as u32)] });
    }
    let (mut whole, mut broken) = (0usize, 0usize);
    for chunk in body.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    if skip > 0 || whole > broken { Some(decode_broken_utf8(body, skip)) } else { Some(decode_1252(body)) }
}

/// Control characters other than white space are rare in text.
fn looks_like_text(bytes: &[u8]) -> bool {
    let odd = bytes.iter().filter(|b| matches!(b, 0x01..=0x08 | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)).count();
    odd * 100 <= bytes.len()
}

fn decode_broken_utf8(body: &[u8], skip: usize) -> Decoded {
    let (mut text, mut marks, mut source) = (String::new(), vec![(0, skip as u32)], skip);
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        source += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            source += chunk.invalid().len();
            marks.push((text.len() as u32, source as u32));
        }
    }
    Decoded { encoding: Encoding::Utf8, text, marks }
}

fn decode_1252(body: &[u8]) -> Decoded {
    let (mut text, mut marks) = (String::with_capacity(body.len() + body.len() / 8), Vec::new());
    for (i, piece) in body.chunks(MARK_EVERY / 3).enumerate() {
        marks.push((text.len() as u32, (i * (MARK_EVERY / 3)) as u32));
        text.extend(piece.iter().map(|byte| from_1252(*byte)));
    }
    Decoded { encoding: Encoding::Windows1252, text, marks }
}

fn decode_utf16(body: &[u8], encoding: Encoding) -> Option<Decoded> {
    let unit = if encoding == Encoding::Utf16Le { u16::from_le_bytes } else { u16::from_be_bytes };
    let units = body.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let (mut text, mut marks, mut source) = (String::new(), vec![(0u32, 2u32)], 2usize);
    let mut broken = 0usize;
    for c in char::decode_utf16(units) {
        if text.len() >= marks[marks.len() - 1].0 as usize + MARK_EVERY {
            marks.push((text.len() as u32, source as u32));
        }
        let c = c.unwrap_or_else(|_| {
            broken += 1;
            char::REPLACEMENT_CHARACTER
        });
        text.push(c);
        source += c.len_utf16() * 2;
    }
    (broken * 100 <= text.len() && !text.contains('\0')).then_some(Decoded { encoding, text, marks })
}

/// Byte range in the file of a range of text, by its runs; `None` when no run touches it.
///
/// Ends inside a run that isn't straight take the whole run.
pub fn locate(text: &str, runs: &[Run], encoding: Encoding, range: Range<usize>) -> Option<Range<u32>> {
    let first = runs.partition_point(|run| (run.text + run.text_len) as usize <= range.start);
    let after = runs.partition_point(|run| (run.text as usize) < range.end);
    let touched = runs.get(first..after)?;
    let (head, tail) = (touched.first()?, touched.last()?);
    let start = if straight(text, head, encoding) && range.start > head.text as usize {
        head.source + encoding.width_of(&text[head.text as usize..range.start]) as u32
    } else {
        head.source
    };
    let tail_end = (tail.text + tail.text_len) as usize;
    let end = if straight(text, tail, encoding) && range.end < tail_end {
        tail.source + encoding.width_of(&text[tail.text as usize..range.end]) as u32
    } else {
        tail.source + tail.source_len
    };
    Some(start..end)
}

/// Whether a run's text can be its bytes just decoded.
pub fn straight(text: &str, run: &Run, encoding: Encoding) -> bool {
    let piece = &text[run.text as usize..(run.text + run.text_len) as usize];
    encoding.width_of(piece) == run.source_len as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, le: bool) -> Vec<u8> {
        let mut bytes = if le { vec![0xff, 0xfe] } else { vec![0xfe, 0xff] };
        for unit in text.encode_utf16() {
            bytes.extend(if le { unit.to_le_bytes() } else { unit.to_be_bytes() });
        }
        bytes
    }

    /// Every character's bytes, found through `source`, decode to that character.
    fn check(bytes: &[u8], encoding: Encoding, expected: &str) {
        let decoded = decode(bytes).expect("it is text");
        assert_eq!((decoded.encoding, decoded.text.as_str()), (encoding, expected));
        for (i, c) in decoded.text.char_indices().filter(|(_, c)| *c != char::REPLACEMENT_CHARACTER) {
            let (start, end) = (decoded.source(i), decoded.source(i + c.len_utf8()));
            assert_eq!(encoding.decode(&bytes[start..end]).as_deref(), Some(c.to_string().as_str()), "at {i}");
        }
    }

    #[test]
    fn every_encoding_keeps_the_way_back_to_its_bytes() {
        let long = "Küche – größer 😀 als\nder Flur. ".repeat(200);
        check(long.as_bytes(), Encoding::Utf8, &long);
        check(&[&[0xef, 0xbb, 0xbf], "mit Marke".as_bytes()].concat(), Encoding::Utf8, "mit Marke");
        check(&utf16(&long, true), Encoding::Utf16Le, &long);
        check(&utf16(&long, false), Encoding::Utf16Be, &long);
        let latin = b"Caf\xe9 \x80 20, gro\xdf\n".repeat(300);
        check(&latin, Encoding::Windows1252, &"Café € 20, groß\n".repeat(300));
        let broken = [&"größe ".repeat(5).into_bytes()[..], &[0xff, b'x', 0xc3], " ende äö".as_bytes()].concat();
        check(&broken, Encoding::Utf8, &format!("{}\u{fffd}x\u{fffd} ende äö", "größe ".repeat(5)));
    }

    #[test]
    fn what_is_not_text_is_refused() {
        for bytes in [&b"PK\x03\x04\x00\x00"[..], &[0x7f, b'E', b'L', b'F', 1, 1, 1], &[1, 2, 3, 4, 5, 6, 7, 8, b'a']] {
            assert!(decode(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn lines_count_from_one_in_every_encoding() {
        let text = "one\ntwo\n\nfour";
        for (bytes, encoding) in [
            (text.as_bytes().to_vec(), Encoding::Utf8),
            (utf16(text, true), Encoding::Utf16Le),
            (utf16(text, false), Encoding::Utf16Be),
        ] {
            let decoded = decode(&bytes).expect("text");
            let lines = Lines::new(&bytes, encoding);
            let at = |word: &str| {
                let start = text.find(word).expect("there");
                decoded.source(start) as u32..decoded.source(start + word.len()) as u32
            };
            assert_eq!(lines.of(&at("one")), (1, 1));
            assert_eq!(lines.of(&at("two")), (2, 2));
            assert_eq!(lines.of(&at("two\n\nfour")), (2, 4));
            assert_eq!(lines.of(&at("four")), (4, 4));
        }
    }
}
