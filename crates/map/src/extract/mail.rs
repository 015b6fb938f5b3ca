//! E-mail: the headers that people search by, the body, and the names of what is attached.
//!
//! Bodies in plain, 8-bit or quoted-printable text cite their source lines. Base64 bodies, other
//! character sets and encoded HTML have no such lines: those messages cite paragraphs.

use super::build::Builder;
use super::{html, text};
use crate::document::{BlockKind, Document, Format};
use crate::source::{Decoded, Encoding};
use mail_parser::{
    Encoding as Transfer, Header, HeaderName, Message, MessageParser, MessagePart, MimeHeaders, PartType,
};
use std::ops::Range;

/// Headers that are kept, as they stand in the message.
fn kept(name: &HeaderName<'_>) -> bool {
    matches!(name, HeaderName::Subject | HeaderName::From | HeaderName::To | HeaderName::Cc | HeaderName::Date)
}

pub(crate) fn read(bytes: &[u8]) -> Option<Document> {
    let message = MessageParser::default().parse(bytes)?;
    let title = message.subject().map(|subject| subject.trim().to_owned()).filter(|subject| !subject.is_empty());
    let bodies = bodies(&message);
    let encoding = encoding(bytes, &bodies);
    let mut reading = Reading { bytes, builder: Builder::new(encoding.unwrap_or(Encoding::Utf8)), part: 1 };
    reading.headers(&message);
    // What is attached may stand between two parts of the body, and runs go through a file in its order.
    let done = |part: &MessagePart<'_>| {
        let mut told = bodies.iter().copied().chain([message.root_part()]);
        told.any(|told| told.offset_header == part.offset_header)
    };
    let mut parts: Vec<_> = message.attachments().filter(|part| !done(part)).map(|part| (part, true)).collect();
    parts.extend(bodies.iter().map(|part| (*part, false)));
    parts.sort_by_key(|(part, _)| part.offset_header);
    for (part, attached) in parts {
        if attached {
            reading.attachment(part);
        } else {
            reading.body(part, encoding);
        }
    }
    Some(if encoding.is_some() {
        reading.builder.into_source(Format::Mail, title)
    } else {
        reading.builder.into_parts(Format::Mail, title)
    })
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

/// The encoding by which the words of all these parts can be led back to the file's own bytes, if there is one.
fn encoding(bytes: &[u8], parts: &[&MessagePart<'_>]) -> Option<Encoding> {
    let encodings = parts.iter().map(|part| encoding_of(raw(bytes, part), part)).collect::<Option<Vec<_>>>()?;
    if !encodings.contains(&Encoding::Windows1252) {
        return Some(Encoding::Utf8);
    }
    let fits = |(part, encoding): (&&MessagePart<'_>, &Encoding)| {
        *encoding == Encoding::Windows1252 || (part.encoding == Transfer::None && raw(bytes, part).is_ascii())
    };
    parts.iter().zip(&encodings).all(fits).then_some(Encoding::Windows1252)
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
    /// Number of the paragraph that is being written, from 1.
    part: u32,
}

impl Reading<'_> {
    fn close(&mut self, kind: BlockKind) {
        if self.builder.close(kind, self.part) {
            self.part += 1;
        }
    }

    fn headers(&mut self, message: &Message<'_>) {
        // A message may be nothing but what is attached.
        let attached = |header: &Header<'_>| {
            header.name == HeaderName::ContentDisposition
                && header.value.as_content_type().is_some_and(|kind| kind.is_attachment())
        };
        for header in message.root_part().headers.iter().filter(|header| kept(&header.name) || attached(header)) {
            let range = header.offset_field as usize..header.offset_end as usize;
            let Some(line) = self.bytes.get(range.clone()) else { continue };
            let value = header.offset_start as usize..header.offset_end as usize;
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

    /// `None`: the words can't be led back to the file's bytes.
    fn body(&mut self, part: &MessagePart<'_>, encoding: Option<Encoding>) {
        let start = part.offset_body as usize;
        let slice = raw(self.bytes, part);
        let quoted = part.encoding == Transfer::QuotedPrintable;
        let decoded = encoding.filter(|_| !quoted).and_then(|encoding| Decoded::with(slice, encoding));
        match (&part.body, decoded) {
            (PartType::Text(_), Some(decoded)) => {
                for range in text::paragraphs(&decoded.text) {
                    let source = start + decoded.source(range.start)..start + decoded.source(range.end);
                    self.builder.push(&decoded.text[range], source);
                    self.close(BlockKind::Text);
                }
            }
            (PartType::Html(_), Some(decoded)) => {
                html::read_into(&mut self.builder, &decoded.text, &|at| start + decoded.source(at));
            }
            (PartType::Text(_), None) if encoding.is_some() => self.quoted_printable(slice, start),
            (PartType::Text(words), None) => {
                for range in text::paragraphs(words) {
                    self.builder.push_free(&words[range]);
                    self.close(BlockKind::Text);
                }
            }
            // The builder of a document without runs drops those of the page.
            (PartType::Html(markup), None) => {
                let page = html::rendered(markup);
                for block in &page.blocks {
                    self.builder.push_free(page.block_text(block));
                    self.close(block.kind);
                }
            }
            _ => {}
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

    /// The header line that names an attachment, as it stands in the file.
    fn attachment(&mut self, part: &MessagePart<'_>) {
        let disposition = part.headers.iter().find(|header| header.name == HeaderName::ContentDisposition);
        let Some(header) = disposition else { return };
        let range = header.offset_field as usize..header.offset_end as usize;
        let Some(Ok(line)) = self.bytes.get(range.clone()).map(std::str::from_utf8) else { return };
        self.builder.push(line.trim_end(), range.start..range.start + line.trim_end().len());
        self.close(BlockKind::Item);
    }
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
    use crate::document::Origin;

    fn document(message: &str) -> Document {
        let document = read(message.as_bytes()).expect("a message");
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

    #[test]
    fn encoded_bodies_cite_paragraphs_and_attachments_are_named() {
        let message = format!(
            "{HEAD}Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nVGhlIHRhcCBpcyBmaXhlZC4=\r\n--zz\r\nContent-Type: application/pdf\r\n\
             Content-Disposition: attachment; filename=\"bill.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--zz--\r\n"
        );
        let document = document(&message);
        assert_eq!(document.origin, Origin::Parts);
        assert!(document.text.contains("The tap is fixed."));
        assert!(document.text.contains("filename=\"bill.pdf\""));
        let parts: Vec<u32> = document.blocks.iter().map(|block| block.part).collect();
        assert_eq!(parts, [1, 2, 3]);
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
            let document = read(&message).expect("a message");
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
