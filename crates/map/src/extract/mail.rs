//! E-mail: the headers that people search by, the body, and the names of what is attached.
//!
//! Bodies in plain, 8-bit or quoted-printable text cite their source lines. Base64 bodies, other
//! character sets and encoded HTML have no such lines: those messages cite paragraphs.

use super::build::Builder;
use super::{html, text};
use crate::document::{BlockKind, Document, Format, Origin};
use crate::source::{Decoded, Encoding};
use mail_parser::{Encoding as Transfer, HeaderName, Message, MessageParser, MessagePart, MimeHeaders, PartType};
use std::ops::Range;

/// Headers that are kept, as they stand in the message.
fn kept(name: &HeaderName<'_>) -> bool {
    matches!(name, HeaderName::Subject | HeaderName::From | HeaderName::To | HeaderName::Cc | HeaderName::Date)
}

pub(crate) fn read(bytes: &[u8]) -> Option<Document> {
    let message = MessageParser::default().parse(bytes)?;
    let title = message.subject().map(|subject| subject.trim().to_owned()).filter(|subject| !subject.is_empty());
    let body = body(&message);
    let mapped = body.is_none_or(|part| maps(part));
    let encoding = match body {
        Some(part) if std::str::from_utf8(raw(bytes, part)).is_err() => Encoding::Windows1252,
        _ => Encoding::Utf8,
    };
    let mut reading = Reading { bytes, builder: Builder::new(encoding), encoding, part: 1 };
    reading.headers(&message);
    if let Some(part) = body {
        reading.body(part, mapped);
    }
    for part in message.attachments() {
        reading.attachment(part);
    }
    Some(if mapped {
        reading.builder.into_source(Format::Mail, title)
    } else {
        reading.builder.into_parts(Format::Mail, title, Origin::Paragraphs)
    })
}

/// The part that holds the message's words: plain text before HTML.
fn body<'a>(message: &'a Message<'_>) -> Option<&'a MessagePart<'a>> {
    let parts = || message.text_body.iter().chain(&message.html_body).filter_map(|id| message.parts.get(*id as usize));
    let plain = parts().find(|part| matches!(part.body, PartType::Text(_)));
    plain.or_else(|| parts().find(|part| matches!(part.body, PartType::Html(_))))
}

fn raw<'a>(bytes: &'a [u8], part: &MessagePart<'_>) -> &'a [u8] {
    bytes.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default()
}

/// Whether the body's words can be led back to the file's own bytes.
fn maps(part: &MessagePart<'_>) -> bool {
    let charset = part.content_type().and_then(|kind| kind.attribute("charset")).unwrap_or("us-ascii");
    let known = ["us-ascii", "utf-8", "iso-8859-1", "iso-8859-15", "windows-1252"];
    let known = known.iter().any(|name| charset.eq_ignore_ascii_case(name));
    match (part.encoding, &part.body) {
        (Transfer::Base64, _) => false,
        (Transfer::QuotedPrintable, PartType::Text(_)) => {
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
        }
        (Transfer::QuotedPrintable, _) => false,
        (Transfer::None, _) => known,
    }
}

struct Reading<'a> {
    bytes: &'a [u8],
    builder: Builder,
    encoding: Encoding,
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
        for header in message.root_part().headers.iter().filter(|header| kept(&header.name)) {
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

    fn body(&mut self, part: &MessagePart<'_>, mapped: bool) {
        let start = part.offset_body as usize;
        let slice = raw(self.bytes, part);
        match (&part.body, mapped) {
            (PartType::Text(_), true) if part.encoding == Transfer::QuotedPrintable => {
                self.quoted_printable(slice, start)
            }
            (PartType::Text(_), true) => {
                let Some(decoded) = self.decoded(slice) else { return };
                for range in text::paragraphs(&decoded.text) {
                    let source = start + decoded.source(range.start)..start + decoded.source(range.end);
                    self.builder.push(&decoded.text[range], source);
                    self.close(BlockKind::Text);
                }
            }
            (PartType::Html(_), true) => {
                let Some(decoded) = self.decoded(slice) else { return };
                html::read_into(&mut self.builder, &decoded.text, &|at| start + decoded.source(at));
            }
            (PartType::Text(words), false) => {
                for range in text::paragraphs(words) {
                    self.builder.push_free(&words[range]);
                    self.close(BlockKind::Text);
                }
            }
            (PartType::Html(markup), false) => {
                // Its runs would name bytes of the decoded HTML, not of the file: the builder of a
                // document without runs drops them.
                let mut builder = Builder::new(Encoding::Utf8);
                html::read_into(&mut builder, markup, &|at| at);
                let page = builder.into_source(Format::Html, None);
                for block in &page.blocks {
                    self.builder.push_free(page.block_text(block));
                    self.close(block.kind);
                }
            }
            _ => {}
        }
    }

    fn decoded(&self, slice: &[u8]) -> Option<Decoded> {
        Decoded::with(slice, self.encoding)
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
        assert_eq!(document.origin, Origin::Paragraphs);
        assert!(document.text.contains("The tap is fixed."));
        assert!(document.text.contains("filename=\"bill.pdf\""));
        let parts: Vec<u32> = document.blocks.iter().map(|block| block.part).collect();
        assert_eq!(parts, [1, 2, 3]);
    }
}
