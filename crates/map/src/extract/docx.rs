//! DOCX: headings, paragraphs and table rows in reading order. A row of a table counts as one paragraph.

use super::build::{Builder, TEXT_BYTES_MAX};
use super::{Refused, Why};
use crate::document::{BlockKind, Document, Format, Origin};
use crate::source::Encoding;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::ZipArchive;

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| Refused::broken(format!("it isn't a readable DOCX: {error}")))?;
    let body = part(&mut archive, "word/document.xml")?
        .ok_or_else(|| Refused::broken("it is a ZIP file without `word/document.xml`"))?;
    let styles = part(&mut archive, "word/styles.xml")?.map(|xml| style_levels(&xml)).unwrap_or_default();
    let title = part(&mut archive, "docProps/core.xml")?.and_then(|xml| core_title(&xml));
    let mut reading =
        Reading { builder: Builder::new(Encoding::Utf8), styles, part: 1, level: None, listed: false, rows: 0, title };
    reading.body(&body)?;
    let Reading { builder, title, .. } = reading;
    let document = builder.into_parts(Format::Docx, title, Origin::Paragraphs);
    if document.blocks.is_empty() {
        return Err(Refused { why: Why::Empty, message: "it holds no text".into() });
    }
    Ok(document)
}

/// Unpacks one part. A part that unpacks to more than the limit is refused before memory is.
fn part(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Option<String>, Refused> {
    let Ok(file) = archive.by_name(name) else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Refused::broken(format!("its part `{name}` can't be unpacked: {error}")))?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Refused::too_large());
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Refused::broken(format!("its part `{name}` isn't UTF-8")))
}

fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let attribute = element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    Some(String::from_utf8_lossy(&attribute.value).into_owned())
}

/// Heading level by style id: 1 to 6, and 1 for the title style.
fn style_levels(xml: &str) -> HashMap<String, u8> {
    let (mut levels, mut style, mut reader) = (HashMap::new(), None, Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) if element.local_name().as_ref() == b"style" => {
                style = attribute(&element, b"styleId")
            }
            Event::Empty(element) | Event::Start(element) if element.local_name().as_ref() == b"name" => {
                if let (Some(style), Some(name)) = (&style, attribute(&element, b"val"))
                    && let Some(level) = level_of(&name)
                {
                    levels.insert(style.clone(), level);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    levels
}

fn level_of(style: &str) -> Option<u8> {
    let style = style.to_ascii_lowercase().replace(' ', "");
    if style == "title" {
        return Some(1);
    }
    style.strip_prefix("heading")?.parse().ok().filter(|level| (1..=6).contains(level))
}

fn core_title(xml: &str) -> Option<String> {
    let (mut inside, mut title, mut reader) = (false, String::new(), Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) => inside = element.local_name().as_ref() == b"title",
            Event::End(_) => inside = false,
            Event::Text(text) if inside => title.push_str(&text.decode().unwrap_or_default()),
            Event::GeneralRef(entity) if inside => title.push_str(&reference(&entity)),
            Event::Eof => break,
            _ => {}
        }
    }
    let title = title.trim();
    (!title.is_empty()).then(|| title.to_owned())
}

/// The five entities of XML and numbers. Entities that a document defines itself are not expanded.
fn reference(entity: &quick_xml::events::BytesRef<'_>) -> String {
    if let Ok(Some(c)) = entity.resolve_char_ref() {
        return c.to_string();
    }
    match &**entity {
        b"amp" => "&",
        b"lt" => "<",
        b"gt" => ">",
        b"quot" => "\"",
        b"apos" => "'",
        _ => "",
    }
    .to_owned()
}

struct Reading {
    builder: Builder,
    styles: HashMap<String, u8>,
    /// Number of the paragraph that is being written, from 1.
    part: u32,
    /// Heading level of this paragraph.
    level: Option<u8>,
    listed: bool,
    /// Depth of table rows around this place.
    rows: u32,
    title: Option<String>,
}

impl Reading {
    fn body(&mut self, xml: &str) -> Result<(), Refused> {
        let mut reader = Reader::from_str(xml);
        let mut text = false;
        loop {
            match reader.read_event().map_err(|error| Refused::broken(format!("its text is broken XML: {error}")))? {
                Event::Start(element) => match element.local_name().as_ref() {
                    b"t" => text = true,
                    b"tr" => self.rows += 1,
                    _ => self.mark(&element),
                },
                Event::Empty(element) => self.mark(&element),
                Event::Text(words) if text => self.builder.push_free(&words.decode().unwrap_or_default()),
                Event::GeneralRef(entity) if text => self.builder.push_free(&reference(&entity)),
                Event::End(element) => match element.local_name().as_ref() {
                    b"t" => text = false,
                    b"p" => self.end_paragraph(),
                    b"tc" => self.builder.gap('\t'),
                    b"tr" => {
                        self.rows = self.rows.saturating_sub(1);
                        if self.rows == 0 {
                            self.close(BlockKind::Row);
                        }
                    }
                    _ => {}
                },
                Event::Eof => return Ok(()),
                _ => {}
            }
            if self.builder.is_full() {
                return Err(Refused::too_large());
            }
        }
    }

    fn mark(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            b"pStyle" => {
                let style = attribute(element, b"val").unwrap_or_default();
                self.level = self.styles.get(&style).copied().or_else(|| level_of(&style));
            }
            b"numPr" => self.listed = true,
            b"tab" => self.builder.space(),
            b"br" | b"cr" => self.builder.gap('\n'),
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let (level, listed) = (self.level.take(), std::mem::take(&mut self.listed));
        if self.rows > 0 {
            self.builder.space();
            return;
        }
        let kind = match level {
            Some(level) => self.builder.heading(level),
            None if listed => BlockKind::Item,
            None => BlockKind::Text,
        };
        if kind == BlockKind::Heading(1) && self.title.is_none() && !self.builder.is_blank() {
            self.title = Some(self.builder.current().to_owned());
        }
        self.close(kind);
    }

    fn close(&mut self, kind: BlockKind) {
        if self.builder.close(kind, self.part) {
            self.part += 1;
        }
    }
}
