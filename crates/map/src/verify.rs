//! Whether a quotation stands in its file now. The one place outside indexing that reads a person's file.
//!
//! Text formats: each word of the quotation is compared with the file's bytes at its place; where markup
//! stands between (an entity, a quoted-printable character), the bytes are decoded first. If other parts of
//! the file have changed, the quotation still counts when its own bytes stand, and its lines are counted anew.
//! PDF, DOCX and encoded e-mail: the whole file must be the one that the passage was read from, byte for
//! byte (BLAKE3); the passage is a function of those bytes.

use crate::cite::{self, Quoted, Standing};
use crate::document::Format;
use crate::extract::{FILE_BYTES_MAX, spelled, unescape, unquote};
use crate::index::stem;
use crate::part::FilePart;
use crate::search::{Hit, Source};
use crate::source::{Lines, Run, locate, straight};
use base::{Citation, Place};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
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
/// Of its passage, only what stands there now is handed on.
pub fn cite(question: &str, hits: &[Hit], used: &[usize]) -> Cited {
    let mut cited = Cited::default();
    for (at, hit) in used.iter().filter_map(|at| Some((*at, hits.get(*at)?))) {
        let number = cited.quoted.len() as u32 + 1;
        match quote(question, hit, at, number) {
            Ok(quoted) => {
                if !quoted.whole {
                    cited.notices.push(format!(
                        "a part of `{}` has changed since it was indexed, so only the rest is used; `freehold index` its folder again",
                        hit.path.display()
                    ));
                }
                cited.quoted.push(quoted);
            }
            Err(why) => cited.notices.push(format!(
                "`{}` {why} since it was indexed, so it isn't cited; `freehold index` its folder again",
                hit.path.display()
            )),
        }
    }
    cited
}

fn quote(question: &str, hit: &Hit, at: usize, number: u32) -> Result<Quoted, &'static str> {
    let now = Now::of(hit)?;
    let best = cite::best(question, hit);
    let place = now.place(hit, best.clone()).ok_or("has changed")?;
    let quote = hit.text[best].to_owned();
    let sentences = cite::sentences(hit);
    let standing: Vec<Standing> = sentences
        .iter()
        .filter_map(|range| Some(Standing { range: range.clone(), place: now.place(hit, range.clone())? }))
        .collect();
    let whole = standing.len() == sentences.len() && now.place(hit, 0..hit.text.len()).is_some();
    let (passage, sentences) =
        if whole { (hit.text.clone(), standing) } else { rest(&hit.text, standing, &quote, &place) };
    let quote_hash = cite::quote_hash(&quote);
    let path = hit.path.display().to_string();
    let citation = Citation { number, path, place, title: hit.title.clone(), quote, quote_hash };
    // Title and headings stand elsewhere in the file: only one that is unchanged vouches for them.
    let (title, heading) =
        if now.unchanged { (hit.title.clone(), hit.heading.clone()) } else { (stem(&hit.path), String::new()) };
    Ok(Quoted { citation, hit: at, title, heading, passage, sentences, whole })
}

/// What is left of a passage in which something has changed: its sentences, each on a line of its own.
fn rest(text: &str, standing: Vec<Standing>, quote: &str, place: &Place) -> (String, Vec<Standing>) {
    let mut passage = String::new();
    let mut sentences = Vec::new();
    let mut add = |words: &str, place: Place| {
        let start = passage.len() + usize::from(!passage.is_empty());
        if start > 0 {
            passage.push('\n');
        }
        passage.push_str(words);
        sentences.push(Standing { range: start..passage.len(), place });
    };
    // The quotation may be a part of a sentence that doesn't stand as a whole.
    if !standing.iter().any(|one| text[one.range.clone()].contains(quote) || quote.contains(&text[one.range.clone()])) {
        add(quote, place.clone());
    }
    for one in standing {
        add(&text[one.range], one.place);
    }
    (passage, sentences)
}

/// The place where a range of a hit's text stands in its file now.
///
/// # Errors
/// What has happened to the file, as a part of a sentence (`has changed`).
pub fn verify(hit: &Hit, range: Range<usize>) -> Result<Place, &'static str> {
    Now::of(hit)?.place(hit, range).ok_or("has changed")
}

/// A hit's file as it is now, read once for all that is cited from it. Of a large file only the part that holds the hit: the line
/// feeds before it count as they did when it was indexed.
struct Now {
    before: FilePart,
    bytes: Vec<u8>,
    unchanged: bool,
    lines: Lines,
}

impl Now {
    fn of(hit: &Hit) -> Result<Self, &'static str> {
        let (before, bytes) = match hit.source.part {
            Some(part) => (part, read(&hit.path, part.start, hit.source.stamp.bytes)?),
            None => (FilePart::default(), read(&hit.path, 0, FILE_BYTES_MAX as u64 + 1)?),
        };
        let unchanged = *blake3::hash(&bytes).as_bytes() == hit.source.hash;
        let lines =
            Lines::new(if matches!(hit.place, Place::Lines { .. }) { &bytes } else { &[] }, hit.source.encoding);
        Ok(Self { before, bytes, unchanged, lines })
    }

    fn place(&self, hit: &Hit, range: Range<usize>) -> Option<Place> {
        match &hit.place {
            Place::Lines { byte_start, .. } => {
                let start = usize::try_from(byte_start.checked_sub(self.before.start)?).ok()?;
                let place = stands(&hit.text, &hit.source, start, &self.bytes, range, self.unchanged)?;
                let (first, last) = self.lines.of(&place);
                let FilePart { start, lines } = self.before;
                Some(Place::Lines {
                    first: first.saturating_add(lines),
                    last: last.saturating_add(lines),
                    byte_start: start + u64::from(place.start),
                    byte_end: start + u64::from(place.end),
                })
            }
            Place::Cells { byte_start: Some(start), .. } => {
                let start = usize::try_from(*start).ok()?;
                let place = stands(&hit.text, &hit.source, start, &self.bytes, range.clone(), self.unchanged)?;
                hit.source.spots.cells(&range, Some((place.start.into(), place.end.into())))
            }
            _ if !self.unchanged => None,
            Place::Cells { byte_start: None, .. } => hit.source.spots.cells(&range, None),
            page @ Place::Page { .. } => Some(hit.source.spots.pages(&range).unwrap_or_else(|| page.clone())),
            place @ (Place::Paragraph { .. } | Place::Slide { .. } | Place::Chapter { .. }) => Some(place.clone()),
        }
    }
}

/// At most so many bytes from there on.
fn read(path: &Path, start: u64, bytes_max: u64) -> Result<Vec<u8>, &'static str> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "has gone",
        _ => "has become unreadable",
    };
    let mut file = File::open(path).map_err(gone)?;
    if !file.metadata().map_err(gone)?.is_file() {
        return Err("has become something else than a file");
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(gone)?;
    file.take(bytes_max).read_to_end(&mut bytes).map_err(gone)?;
    Ok(bytes)
}

/// Compares a range of text with the file's bytes, run by run. `start` is the passage's first byte.
pub(crate) fn stands(
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
        if bytes.get(place).and_then(|slice| encoding.decode(slice)).is_some_and(|decoded| decoded == piece) {
            return true;
        }
        // An entity may by chance be as long as what it stands for.
    }
    let words = &text[run.text as usize..(run.text + run.text_len) as usize];
    let Some(slice) = bytes.get(whole) else { return false };
    let entity = slice.len() <= ENTITY_BYTES_MAX
        && encoding.decode(slice).is_some_and(|decoded| decoded == words || unescape(&decoded) == words);
    let quoted = || String::from_utf8(unquote(slice).0).is_ok_and(|decoded| decoded == words);
    // Broken bytes are read as U+FFFD; a passage may hold only a part of the run that they lie in.
    let broken = || words.contains(char::REPLACEMENT_CHARACTER) && encoding.decode_broken(slice).contains(words);
    let escape = || {
        let piece = encoding.decode(slice).filter(|_| slice.len() <= ENTITY_BYTES_MAX);
        piece.is_some_and(|piece| spelled(source.format, &piece).is_some_and(|decoded| decoded == words))
    };
    // A header's encoded words belong to the header as a whole: for them the unchanged file vouches.
    entity || escape() || quoted() || broken() || (unchanged && source.format == Format::Mail)
}

/// LIMIT: bytes of one entity or escape in a file. The reader child chose the length, and decoding it is
/// the one piece of parsing that is done here.
const ENTITY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cite::sentences;
    use crate::cite::tests::hit;
    use crate::extract;
    use crate::index::passages;
    use crate::walk::Stamp;
    use proptest::prelude::*;

    /// Every sentence of every passage stands in the bytes that it came from, and its place decodes to it.
    fn all_stand(name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(document) = extract::read(name, bytes) else { return Ok(()) };
        prop_assert_eq!(document.check(bytes.len()), Ok(()));
        let (encoding, rows) = passages(&document, bytes);
        for row in rows {
            let (byte_start, byte_end) = match row.place {
                Place::Lines { first, last, byte_start, byte_end } if first <= last => (byte_start, byte_end),
                Place::Cells { byte_start: Some(start), byte_end: Some(end), .. } => (start, end),
                place => return Err(TestCaseError::fail(format!("{place:?}"))),
            };
            prop_assert!(byte_start < byte_end && byte_end as usize <= bytes.len());
            let mut hit = hit("", &row.text, document.format);
            let stamp = Stamp { bytes: 0, modified_ns: 0 };
            hit.source = Source {
                format: document.format,
                part: None,
                encoding,
                stamp,
                hash: [0; 32],
                runs: row.runs,
                spots: row.spots,
            };
            for range in sentences(&hit) {
                let quote = &row.text[range.clone()];
                let place = stands(&row.text, &hit.source, byte_start as usize, bytes, range, false);
                prop_assert!(
                    place.is_some(),
                    "{:?} of {:?} doesn't stand in {:?}",
                    quote,
                    row.text,
                    String::from_utf8_lossy(bytes)
                );
                let place = place.expect("it stands");
                prop_assert!(u64::from(place.start) >= byte_start && u64::from(place.end) <= byte_end);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_is_read_can_be_verified(
            text in "([a-zA-Zäß日😀0-9 .,!?#*_<>&;|`=\\[\\]()-]{0,30}(&amp;|&nbsp;|&eacute;|<b>|</p>|<br>|\\*\\*|\r\n|\n\n|\n|\t|- |> )){0,40}",
            name in 0..8usize,
            wide in prop::bool::ANY,
        ) {
            let name = ["a.txt", "a.md", "a.html", "a.rs", "a.csv", "a.toml", "a.json", "a.ics"][name];
            if wide {
                let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
                all_stand(name, &bytes)?;
            } else {
                all_stand(name, text.as_bytes())?;
            }
        }

        #[test]
        fn old_encodings_can_be_verified(bytes in prop::collection::vec(prop::sample::select(b"abc \n.\xe4\xf6\x80\x92<>&;*#".to_vec()), 0..400), name in 0..3usize) {
            all_stand(["a.txt", "a.md", "a.html"][name], &bytes)?;
        }

        #[test]
        fn tables_can_be_verified(text in "(\"([a-zß ,;\n]|\"\"){0,9}\"|[a-z0-9ß ]{0,8}|\")([,;\t\n]|\r\n|\"){0,2}(x|\"\"|[,;]){0,3}") {
            all_stand("a.csv", text.repeat(3).as_bytes())?;
        }

        #[test]
        fn json_can_be_verified(keys in prop::collection::vec(("[a-zé\"\\\\/~\n😀 ]{0,9}", ".{0,30}", 0..4u8), 0..12), ascii in prop::bool::ANY) {
            let mut values = Vec::new();
            for (key, value, kind) in keys {
                values.push(match kind {
                    0 => serde_json::json!({ key: value }),
                    1 => serde_json::json!([value, { "n": [1.5, true, null] }]),
                    2 => serde_json::json!({ "deep": { key: [value] } }),
                    _ => serde_json::json!(value),
                });
            }
            let mut text = serde_json::to_string_pretty(&values).expect("it is JSON");
            if ascii {
                text = text.chars().map(|c| if c.is_ascii() {
                    c.to_string()
                } else {
                    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }).collect();
            }
            all_stand("a.json", text.as_bytes())?;
        }

        #[test]
        fn calendars_can_be_verified(lines in prop::collection::vec(("(SUMMARY|DTSTART|DESCRIPTION|LOCATION;X=\"a:b\"|X)", "([a-zé ,:]|\\\\n|\\\\,|\\\\|
 |
	|20250310T093000Z?){0,20}"), 0..12)) {
            let body: String = lines.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
            all_stand("a.ics", format!("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{body}END:VEVENT\r\n").as_bytes())?;
        }

        #[test]
        fn mail_can_be_verified(body in "([a-zA-Z .,!?]{0,30}(=C3=A9|=3D|=\r\n|\r\n|\r\n\r\n|> )){0,30}") {
            let message = format!(
                "From: a@example.org\r\nSubject: =?utf-8?Q?K=C3=BCche?=\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\n{body}"
            );
            // Encoded headers are vouched for by the unchanged file alone; here the body is what counts.
            let plain = message.replace("=?utf-8?Q?K=C3=BCche?=", "Kitchen");
            all_stand("a.eml", plain.as_bytes())?;
        }
    }
}
