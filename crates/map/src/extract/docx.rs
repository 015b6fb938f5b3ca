//! DOCX: headings, paragraphs and table rows in reading order. A row of a table counts as one paragraph.

use super::Refused;
use super::build::Builder;
use super::package::Package;
use super::said::Told;
use super::xml::{attribute, reference};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let mut package = Package::open(bytes, "DOCX")?;
    let body = package.needed("word/document.xml")?;
    let styles = package.text("word/styles.xml")?.map(|xml| style_levels(&xml)).unwrap_or_default();
    let Told { title, said, .. } = package.core()?;
    let mut reading =
        Reading { builder: Builder::new(Encoding::Utf8), styles, part: 1, level: None, listed: false, rows: 0, title };
    reading.body(&body)?;
    let Reading { builder, title, .. } = reading;
    Ok(Document { said, ..builder.into_parts(Format::Docx, title) })
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
