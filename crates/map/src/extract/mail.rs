//! E-mail: the headers that people search by, the body, and what is attached, read by its own format.
//!
//! A file may hold one message or many (mbox); each is a part of its own. Bodies in plain, 8-bit or
//! quoted-printable text cite their own bytes. What is encoded (base64, other character sets, encoded HTML,
//! attached files) belongs to its encoded bytes as a whole: its citations name the lines where those stand.

use super::build::Builder;
use super::{Refused, html, text};
use crate::document::{Block, BlockKind, Document, Format, Unit};
use crate::source::{Decoded, Encoding};
use crate::walk;
use mail_parser::{
    Encoding as Transfer, Header, HeaderName, Message, MessageParser, MessagePart, MimeHeaders, PartType,
};
use std::ops::Range;

/// LIMIT: messages within messages, and files within them, that are read. Deeper ones are named only.
pub(super) const DEPTH_MAX: usize = 4;

/// Headers that are kept, as they stand in the message.
fn kept(name: &HeaderName<'_>) -> bool {
    matches!(name, HeaderName::Subject | HeaderName::From | HeaderName::To | HeaderName::Cc | HeaderName::Date)
}

/// `depth`: in how many other documents these bytes lie.
pub(crate) fn read(bytes: &[u8], depth: usize) -> Result<Document, Refused> {
    let messages = messages(bytes);
    let mut reading =
        Reading { bytes, builder: Builder::new(Encoding::Utf8), encoding: Encoding::Utf8, mail: 0, depth };
    let mut title = None;
    if let [only] = messages.as_slice() {
        let message = parse(&bytes[only.clone()]).ok_or_else(|| Refused::broken("it isn't a readable e-mail"))?;
        title = subject(&message);
        reading.encoding = common(&bytes[only.clone()], &bodies(&message));
        reading.builder = Builder::new(reading.encoding);
        reading.mail = 1;
        reading.message(only.clone(), &message, "")?;
    } else {
        for range in messages {
            reading.mail += 1;
            let Some(message) = parse(&bytes[range.clone()]) else { continue };
            let name = subject(&message).unwrap_or_else(|| "no subject".into());
            reading.builder.part(&name);
            reading.message(range, &message, &name)?;
        }
    }
    Ok(reading.builder.into_source(Format::Mail, title))
}

fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    MessageParser::default().parse(bytes)
}

fn subject(message: &Message<'_>) -> Option<String> {
    message.subject().map(|subject| subject.trim().to_owned()).filter(|subject| !subject.is_empty())
}

/// Whether these bytes begin as a file of many messages does.
pub(crate) fn is_mbox(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"From ") else { return false };
    rest.iter().position(|byte| *byte == b'\n').is_some_and(|end| begins_with_header(&rest[end + 1..]))
}

/// Whether the first line is a header's.
pub(crate) fn begins_with_header(bytes: &[u8]) -> bool {
    let name = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    name > 0 && bytes.get(name) == Some(&b':')
}

/// Where the messages of a file stand. In an mbox each follows a line that begins with `From ` and stands at the
/// start or behind a blank line.
fn messages(bytes: &[u8]) -> Vec<Range<usize>> {
    if !is_mbox(bytes) {
        return std::iter::once(0..bytes.len()).collect();
    }
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut at, mut blank) = (0, true);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if blank && is_mbox(&bytes[at..]) {
            if let Some(last) = found.last_mut() {
                last.end = at;
            }
            found.push(at + line.len()..bytes.len());
        }
        at += line.len();
        blank = line.trim_ascii().is_empty();
    }
    found
}

/// A plain text of at most so many words beside an HTML of several times as many only says that there is HTML.
const STUB_WORDS_MAX: usize = 40;
const STUB_TIMES: usize = 4;

/// The parts that hold the message's words, in order: plain text before HTML, unless it is only a stub of it.
fn bodies<'a>(message: &'a Message<'_>) -> Vec<&'a MessagePart<'a>> {
    let parts = |ids: &[u32]| -> Vec<&'a MessagePart<'a>> {
        let parts = ids.iter().filter_map(|id| message.parts.get(*id as usize));
        parts.filter(|part| matches!(part.body, PartType::Text(_) | PartType::Html(_))).collect()
    };
    let (plain, html) = (parts(&message.text_body), parts(&message.html_body));
    let written = words(&plain);
    if written <= STUB_WORDS_MAX && words(&html) > written * STUB_TIMES { html } else { plain }
}

fn words(parts: &[&MessagePart<'_>]) -> usize {
    let count = |part: &&MessagePart<'_>| match &part.body {
        PartType::Text(text) => text.split_whitespace().count(),
        PartType::Html(markup) => html::rendered(markup).text.split_whitespace().count(),
        _ => 0,
    };
    parts.iter().map(count).sum()
}

fn raw<'a>(bytes: &'a [u8], part: &MessagePart<'_>) -> &'a [u8] {
    bytes.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default()
}

/// The encoding in which the most of a message can be led back to the file's own bytes.
fn common(bytes: &[u8], parts: &[&MessagePart<'_>]) -> Encoding {
    let fits = |part: &&MessagePart<'_>| is_direct(raw(bytes, part), part, Encoding::Windows1252);
    if parts.iter().all(fits) && parts.iter().any(|part| !raw(bytes, part).is_ascii()) {
        Encoding::Windows1252
    } else {
        Encoding::Utf8
    }
}

/// Whether a part's words are its own bytes in the file, read in this encoding.
fn is_direct(raw: &[u8], part: &MessagePart<'_>, encoding: Encoding) -> bool {
    let own = encoding_of(raw, part);
    own == Some(encoding) || (own.is_some() && part.encoding == Transfer::None && raw.is_ascii())
}

fn encoding_of(raw: &[u8], part: &MessagePart<'_>) -> Option<Encoding> {
    let charset = part.content_type().and_then(|kind| kind.attribute("charset")).unwrap_or("us-ascii");
    let is = |names: &[&str]| names.iter().any(|name| charset.eq_ignore_ascii_case(name));
    let (unicode, ascii) = (is(&["utf-8", "utf8"]), is(&["us-ascii", "ascii"]));
    let old = is(&["iso-8859-1", "iso-8859-15", "windows-1252"]);
    match (part.encoding, &part.body) {
        (Transfer::Base64, _) => None,
        (Transfer::QuotedPrintable, PartType::Text(_)) => {
            ((unicode || ascii) && std::str::from_utf8(&unquote(raw).0).is_ok()).then_some(Encoding::Utf8)
        }
        (Transfer::QuotedPrintable, _) => None,
        (Transfer::None, _) if (unicode || ascii || old) && std::str::from_utf8(raw).is_ok() => Some(Encoding::Utf8),
        (Transfer::None, _) => (ascii || old).then_some(Encoding::Windows1252),
    }
}

struct Reading<'a> {
    bytes: &'a [u8],
    builder: Builder,
    encoding: Encoding,
    /// Number of the message in its file, from 1.
    mail: u32,
    depth: usize,
}

impl Reading<'_> {
    fn close(&mut self, kind: BlockKind) {
        self.builder.close(kind, self.mail);
    }

    /// Reads the message that stands at `range` of the file. `path` names it where the file holds others.
    fn message(&mut self, range: Range<usize>, message: &Message<'_>, path: &str) -> Result<(), Refused> {
        let base = range.start;
        self.headers(message, base);
        let bodies = bodies(message);
        // What is attached may stand between two parts of the body, and runs go through a file in its order.
        let done = |part: &MessagePart<'_>| bodies.iter().any(|told| told.offset_header == part.offset_header);
        let mut parts: Vec<_> = message.attachments().filter(|part| !done(part)).map(|part| (part, true)).collect();
        parts.extend(bodies.iter().map(|part| (*part, false)));
        parts.sort_by_key(|(part, _)| part.offset_header);
        for (part, attached) in parts {
            if attached {
                self.attachment(part, base, path, part.offset_header == message.root_part().offset_header)?;
            } else {
                self.body(part, base);
            }
            if self.builder.is_full() {
                return Err(Refused::too_large());
            }
        }
        Ok(())
    }

    fn headers(&mut self, message: &Message<'_>, base: usize) {
        // A message may be nothing but what is attached.
        let attached = |header: &Header<'_>| {
            header.name == HeaderName::ContentDisposition
                && header.value.as_content_type().is_some_and(|kind| kind.is_attachment())
        };
        for header in message.root_part().headers.iter().filter(|header| kept(&header.name) || attached(header)) {
            let range = base + header.offset_field as usize..base + header.offset_end as usize;
            let Some(line) = self.bytes.get(range.clone()) else { continue };
            let value = base + header.offset_start as usize..range.end;
            let decoded = header.value.as_text().map(str::trim).filter(|_| contains(line, b"=?"));
            match (decoded, std::str::from_utf8(line)) {
                // An encoded word belongs to the header's bytes as a whole.
                (Some(text), _) => {
                    self.builder.push(header.name.as_str(), range.start..range.start + header.name.as_str().len());
                    self.builder.push(":", value.start.saturating_sub(1)..value.start);
                    self.builder.space();
                    self.builder.push_decoded(text, value);
                }
                (None, Ok(line)) => {
                    self.builder.push(line.trim_end(), range.start..range.start + line.trim_end().len())
                }
                (None, Err(_)) => {}
            }
            self.builder.gap('\n');
        }
        self.close(BlockKind::Text);
    }

    fn body(&mut self, part: &MessagePart<'_>, base: usize) {
        let range = place(part, base, self.bytes.len());
        let slice = &self.bytes[range.clone()];
        let direct = is_direct(slice, part, self.encoding);
        let quoted = part.encoding == Transfer::QuotedPrintable;
        let decoded = (direct && !quoted).then(|| Decoded::with(slice, self.encoding)).flatten();
        match (&part.body, decoded) {
            (PartType::Text(_), Some(decoded)) => {
                for paragraph in text::paragraphs(&decoded.text) {
                    let (start, end) = (decoded.source(paragraph.start), decoded.source(paragraph.end));
                    self.builder.push(&decoded.text[paragraph], range.start + start..range.start + end);
                    self.close(BlockKind::Text);
                }
            }
            (PartType::Html(_), Some(decoded)) => {
                html::read_into(&mut self.builder, &decoded.text, &|at| range.start + decoded.source(at));
            }
            (PartType::Text(_), None) if direct => self.quoted_printable(slice, range.start),
            (PartType::Text(words), None) => {
                for paragraph in text::paragraphs(words) {
                    self.builder.push_decoded(&words[paragraph], range.clone());
                    self.close(BlockKind::Text);
                }
            }
            (PartType::Html(markup), None) => self.copy(&html::rendered(markup), &range, ""),
            _ => {}
        }
    }

    /// Writes out a document that was read from the decoded bytes of a part: all of it belongs to them as a whole.
    fn copy(&mut self, document: &Document, source: &Range<usize>, path: &str) {
        let paged = match document.format.unit() {
            Some(Unit::Page) => Some("page"),
            Some(Unit::Slide) => Some("slide"),
            _ => None,
        };
        let mut page = 0;
        for block in &document.blocks {
            let name = document.name(block.part).unwrap_or_default();
            match (block.kind, paged) {
                (BlockKind::Part, _) => drop(self.builder.part(&format!("{path} > {name}"))),
                (BlockKind::Label(level), _) => self.builder.label(name, level),
                (_, Some(unit)) if block.part != page => {
                    page = block.part;
                    self.builder.label(&format!("{unit} {page}"), 1);
                }
                _ => {}
            }
            self.copy_block(document, block, source);
        }
    }

    fn copy_block(&mut self, document: &Document, block: &Block, source: &Range<usize>) {
        if !block.kind.is_named() {
            self.builder.push_decoded(document.block_text(block), source.clone());
            self.close(block.kind);
        }
    }

    /// Decodes `=XX` while keeping each character's bytes.
    fn quoted_printable(&mut self, slice: &[u8], start: usize) {
        let (decoded, places) = unquote(slice);
        let Ok(words) = std::str::from_utf8(&decoded) else { return };
        for range in text::paragraphs(words) {
            let mut at = range.start;
            while at < range.end {
                // The longest stretch whose bytes stand in the file as they are and side by side.
                let mut end = at;
                while end < range.end && places[end] == (places[at].start + end - at..places[at].start + end - at + 1) {
                    end += 1;
                }
                while !words.is_char_boundary(end) {
                    end -= 1;
                }
                if end == at {
                    end = at + words[at..].chars().next().map_or(1, char::len_utf8);
                }
                self.builder.push(&words[at..end], start + places[at].start..start + places[end - 1].end);
                at = end;
            }
            self.close(BlockKind::Text);
        }
    }

    /// The header line that names an attachment, as it stands in the file, and what is attached, if it can be read.
    /// `named`: its headers are those of the message and have been read.
    fn attachment(&mut self, part: &MessagePart<'_>, base: usize, path: &str, named: bool) -> Result<(), Refused> {
        let disposition = part.headers.iter().find(|header| header.name == HeaderName::ContentDisposition);
        if let Some(header) = disposition.filter(|_| !named) {
            let range = base + header.offset_field as usize..base + header.offset_end as usize;
            if let Some(Ok(line)) = self.bytes.get(range.clone()).map(std::str::from_utf8) {
                self.builder.push(line.trim_end(), range.start..range.start + line.trim_end().len());
                self.close(BlockKind::Item);
            }
        }
        if self.depth >= DEPTH_MAX {
            self.builder
                .note(format!("what is attached to `{path}` isn't read: it lies more than {DEPTH_MAX} messages deep"));
            return Ok(());
        }
        let (range, before) = (place(part, base, self.bytes.len()), if path.is_empty() { "" } else { " > " });
        if let (PartType::Message(_), Transfer::None) = (&part.body, part.encoding) {
            let Some(message) = parse(&self.bytes[range.clone()]) else { return Ok(()) };
            let path = format!("{path}{before}{}", subject(&message).unwrap_or_else(|| "forwarded message".into()));
            self.builder.part(&path);
            self.depth += 1;
            let read = self.message(range, &message, &path);
            self.depth -= 1;
            return read;
        }
        let Some(name) = part.attachment_name() else { return Ok(()) };
        let path = format!("{path}{before}{name}");
        let contents = part.contents();
        // What can't be read by itself is named by its header all the same.
        let read = if walk::is_secret(name) || walk::is_private_key(contents) {
            Err("it holds keys or secrets, which are never indexed".to_owned())
        } else if let Some(what) = super::unreadable(name) {
            Err(format!("it is {what}"))
        } else {
            super::read_within(name, contents, self.depth + 1).map_err(|refused| refused.message)
        };
        let document = match read {
            Ok(document) => document,
            Err(why) => {
                self.builder.note(format!("the attached `{path}` isn't read: {why}"));
                return Ok(());
            }
        };
        self.builder.part(&path);
        self.copy(&document, &range, &path);
        Ok(())
    }
}

/// Where a part's body stands in the file.
fn place(part: &MessagePart<'_>, base: usize, len: usize) -> Range<usize> {
    let end = (base + part.offset_end as usize).min(len);
    (base + part.offset_body as usize).min(end)..end
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

/// Quoted-printable bytes decoded, each with its place in `slice`. Soft line breaks leave nothing.
pub(crate) fn unquote(slice: &[u8]) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut decoded, mut places) = (Vec::with_capacity(slice.len()), Vec::with_capacity(slice.len()));
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut at = 0;
    while at < slice.len() {
        let (byte, len) = match slice[at..] {
            [b'=', b'\r', b'\n', ..] => (None, 3),
            [b'=', b'\n', ..] => (None, 2),
            [b'=', high, low, ..] if hex(high).is_some() && hex(low).is_some() => {
                (hex(high).zip(hex(low)).map(|(high, low)| (high * 16 + low) as u8), 3)
            }
            [byte, ..] => (Some(byte), 1),
            [] => break,
        };
        if let Some(byte) = byte {
            decoded.push(byte);
            places.push(at..at + len);
        }
        at += len;
    }
    (decoded, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{NOTE_CHARS_MAX, NOTES_MAX, Origin};

    fn document(message: &str) -> Document {
        let document = read(message.as_bytes(), 0).expect("a message");
        assert_eq!(document.check(message.len()), Ok(()), "{document:#?}");
        document
    }

    const HEAD: &str = "From: Ann Example <ann@example.org>\r\nTo: bob@example.org\r\nX-Other: no\r\n\
                        Subject: =?utf-8?Q?K=C3=BCche?= plan\r\nDate: Mon, 6 Jan 2025 10:00:00 +0100\r\nMIME-Version: 1.0\r\n";

    #[test]
    fn plain_bodies_cite_their_lines() {
        let message =
            format!("{HEAD}Content-Type: text/plain; charset=utf-8\r\n\r\nHello Bob,\r\n\r\nthe tap is fixed.\r\n");
        let document = document(&message);
        assert_eq!(document.title.as_deref(), Some("Küche plan"));
        assert!(document.text.contains("Subject: Küche plan"), "{}", document.text);
        assert!(!document.text.contains("X-Other"));
        let Origin::Source { runs, encoding } = &document.origin else { panic!("it has runs") };
        let at = document.text.find("the tap").expect("there");
        let place = crate::source::locate(&document.text, runs, *encoding, at..at + 17).expect("it has bytes");
        assert_eq!(&message[place.start as usize..place.end as usize], "the tap is fixed.");
    }

    #[test]
    fn quoted_printable_keeps_its_places() {
        let message = format!(
            "{HEAD}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
             caf=C3=A9 is=\r\n open\r\n"
        );
        let document = document(&message);
        assert!(document.text.contains("café is open"), "{}", document.text);
        let Origin::Source { runs, encoding } = &document.origin else { panic!("it has runs") };
        let at = document.text.find("café").expect("there");
        let place = crate::source::locate(&document.text, runs, *encoding, at..at + 5).expect("it has bytes");
        assert_eq!(&message[place.start as usize..place.end as usize], "caf=C3=A9");
    }

    /// The bytes of the file that some words are led back to.
    fn source(document: &Document, message: &str, words: &str) -> String {
        let Origin::Source { runs, encoding } = &document.origin else { panic!("it has runs") };
        let at = document.text.find(words).unwrap_or_else(|| panic!("{words}: {}", document.text));
        let place = crate::source::locate(&document.text, runs, *encoding, at..at + words.len()).expect("it has bytes");
        message[place.start as usize..place.end as usize].trim().to_owned()
    }

    fn names(document: &Document) -> Vec<&str> {
        document.names.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_is_encoded_belongs_to_its_bytes_and_attachments_are_read_by_their_format() {
        let message = format!(
            "{HEAD}Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nVGhlIHRhcCBpcyBmaXhlZC4=\r\n--zz\r\nContent-Type: application/pdf\r\n\
             Content-Disposition: attachment; filename=\"bill.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n\
             --zz\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"taps.csv\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\ndGFwLHByaWNlCmJyYXNzLDM1Cg==\r\n--zz--\r\n"
        );
        let document = document(&message);
        assert_eq!(source(&document, &message, "The tap is fixed."), "VGhlIHRhcCBpcyBmaXhlZC4=");
        assert!(document.text.contains("filename=\"bill.pdf\""), "what can't be read is named");
        assert_eq!(source(&document, &message, "brass\t35"), "dGFwLHByaWNlCmJyYXNzLDM1Cg==");
        assert_eq!(names(&document), ["taps.csv"]);
        assert_eq!(document.told().len(), 1);
        assert!(
            document.told()[0].starts_with("the attached `bill.pdf` isn't read: it is not a PDF"),
            "{:?}",
            document.notes
        );
    }

    #[test]
    fn keys_are_never_read_from_a_mail_and_notes_steer_no_terminal() {
        let attach = |name: &str, words: &str| {
            format!(
                "--zz\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\n{words}\r\n"
            )
        };
        let message = format!(
            "{HEAD}Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\n\r\nHere they are.\r\n{}{}{}--zz--\r\n",
            attach("id_ed25519", "the key itself"),
            attach("notes.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3Blbn"),
            attach("a\u{1b}[2J.gif", "GIF89a"),
        );
        let document = document(&message);
        assert!(!document.text.contains("the key itself") && !document.text.contains("b3Blbn"), "{}", document.text);
        assert_eq!(document.notes.len(), 3, "{:?}", document.notes);
        assert!(document.told().iter().all(|note| !note.contains('\u{1b}')));
        let many = Document { notes: vec!["x".repeat(9999); 999], ..document };
        assert_eq!((many.told().len(), many.told()[0].len()), (NOTES_MAX, NOTE_CHARS_MAX));
    }

    #[test]
    fn every_message_of_an_mbox_is_a_part_of_its_own() {
        let message = "From ann@example.org Mon Jan  6 10:00:00 2025\nSubject: Tap\nMessage-ID: <1@example.org>\n\n\
             The tap drips.\n>From here on it is wet.\n\nFrom there it isn't a new one.\n\n\
             From bob@example.org Mon Jan  6 11:00:00 2025\nSubject: =?utf-8?Q?K=C3=BCche?=\n\
             Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nIt is gr=FCn.\n";
        let document = document(message);
        assert_eq!((document.title.as_deref(), names(&document)), (None, vec!["Tap", "Küche"]));
        assert_eq!(source(&document, message, "The tap drips."), "The tap drips.");
        assert_eq!(source(&document, message, "It is grün."), "It is gr=FCn.");
        assert!(document.text.contains("From there it isn't a new one."));
        let parts: Vec<u32> =
            document.blocks.iter().filter(|block| !block.kind.is_named()).map(|block| block.part).collect();
        assert_eq!(parts, [1, 1, 1, 2, 2]);
        let (_, rows) = crate::index::passages(&document, message.as_bytes());
        let headings: Vec<&str> = rows.iter().map(|row| row.heading.as_str()).collect();
        assert_eq!(headings, ["Tap", "Küche"], "no passage goes over two messages");
    }

    #[test]
    fn forwarded_messages_keep_their_own_bytes_down_to_the_limit() {
        let mut message = "Subject: level 9\r\n\r\nThe innermost words.\r\n".to_owned();
        for level in (0..9).rev() {
            message = format!(
                "Subject: level {level}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n\r\n\
                 Words of level {level}.\r\n--b{level}\r\nContent-Type: message/rfc822\r\n\r\n{message}\r\n--b{level}--\r\n"
            );
        }
        let document = document(&message);
        assert_eq!(source(&document, &message, "Words of level 3."), "Words of level 3.");
        assert!(document.text.contains("Words of level 4.") && !document.text.contains("Words of level 5."));
        assert!(document.told()[0].contains("more than 4 messages deep"), "{:?}", document.notes);
        assert_eq!(document.names.last().map(String::as_str), Some("level 1 > level 2 > level 3 > level 4"));
    }

    #[test]
    fn one_broken_byte_costs_no_words() {
        for encoded in ["7bit", "8bit", "quoted-printable"] {
            let mut message = format!(
                "{HEAD}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoded}\r\n\r\nThe t"
            )
            .into_bytes();
            if encoded == "quoted-printable" {
                message.extend(b"=FF");
            } else {
                message.push(0xff);
            }
            message.extend("p is fixed, Küche also.\r\n".as_bytes());
            let document = read(&message, 0).expect("a message");
            assert_eq!(document.check(message.len()), Ok(()), "{document:#?}");
            assert!(document.text.contains("p is fixed, Küche also."), "{encoded}: {}", document.text);
        }
    }

    #[test]
    fn every_part_of_the_body_is_read() {
        let message = format!(
            "{HEAD}Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain\r\n\r\n\
             The first part.\r\n--zz\r\nContent-Type: image/png\r\nContent-Disposition: inline; filename=\"a.png\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--zz\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\nThe caf=C3=A9 part.\r\n--zz--\r\n"
        );
        let document = document(&message);
        assert!(document.text.contains("The first part.") && document.text.contains("The café part."));
        assert!(matches!(document.origin, Origin::Source { .. }), "all of it has lines");
    }

    #[test]
    fn a_message_that_is_only_an_attachment_names_it() {
        let message = format!(
            "Content-Disposition: attachment; filename=\"bill.pdf\"\r\nContent-Type: application/pdf\r\n\
             Content-Transfer-Encoding: base64\r\n{HEAD}\r\nAAAA\r\n"
        );
        let document = document(&message);
        assert_eq!(document.text.matches("bill.pdf").count(), 1, "{}", document.text);
        assert!(document.text.contains("Subject: Küche plan"));
    }

    #[test]
    fn a_stub_beside_real_html_is_passed_over() {
        let message = |plain: &str, html: &str| {
            format!(
                "{HEAD}Content-Type: multipart/alternative; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain\r\n\r\n\
                 {plain}\r\n--zz\r\nContent-Type: text/html\r\n\r\n{html}\r\n--zz--\r\n"
            )
        };
        let html = format!("<p>The invoice of June is due. {}</p>", "It can be paid by transfer. ".repeat(8));
        for stub in ["", " \r\n\r\n ", "Your program can't show this message."] {
            let document = document(&message(stub, &html));
            assert!(document.text.contains("The invoice of June is due."), "{}", document.text);
        }
        let document = document(&message("The invoice of June is due.", "<p>The invoice of <b>June</b> is due.</p>"));
        assert!(document.text.contains("The invoice of June is due.") && document.blocks.len() == 2, "{document:?}");
    }
}
