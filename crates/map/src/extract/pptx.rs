//! PPTX: slides in their order, their titles as headings, tables by rows, speaker's notes behind each slide.

use super::Refused;
use super::build::Builder;
use super::package::Package;
use super::said::Told;
use super::xml::{attribute, reference};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let mut package = Package::open(bytes, "PPTX")?;
    let show = package.needed("ppt/presentation.xml")?;
    let relations = package.relations("ppt/presentation.xml")?;
    let Told { title, said, .. } = package.core()?;
    let mut reading = Reading { builder: Builder::new(Encoding::Utf8), slide: 0, title, rows: 0, holder: Holder::Text };
    for id in slide_ids(&show) {
        reading.slide += 1;
        let Some(part) = relations.get(&id) else { continue };
        let Some(xml) = package.text(part)? else { continue };
        reading.slide(&xml)?;
        let mut notes: Vec<String> = package.relations(part)?.into_values().collect();
        notes.retain(|target| target.contains("notesSlide"));
        for part in notes {
            if let Some(xml) = package.text(&part)? {
                reading.slide(&xml)?;
            }
        }
    }
    Ok(Document { said, ..reading.builder.into_parts(Format::Pptx, reading.title) })
}

fn slide_ids(xml: &str) -> Vec<String> {
    let (mut found, mut reader) = (Vec::new(), Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element) if element.local_name().as_ref() == b"sldId" => {
                // `id` stands there twice: the slide's own number, and the relation under a prefix.
                let relation = element
                    .attributes()
                    .flatten()
                    .find(|attribute| attribute.key.local_name().as_ref() == b"id" && attribute.key.prefix().is_some());
                found.extend(relation.map(|one| String::from_utf8_lossy(&one.value).into_owned()));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

/// What a shape is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Title,
    Text,
    /// Numbers and dates that stand on every slide.
    Furniture,
}

struct Reading {
    builder: Builder,
    slide: u32,
    title: Option<String>,
    /// Depth of table rows.
    rows: u32,
    holder: Holder,
}

impl Reading {
    fn slide(&mut self, xml: &str) -> Result<(), Refused> {
        let mut reader = Reader::from_str(xml);
        let mut text = false;
        loop {
            match reader.read_event().map_err(|error| Refused::broken(format!("a slide is broken XML: {error}")))? {
                Event::Start(element) => match element.local_name().as_ref() {
                    b"t" => text = true,
                    b"tr" => self.rows += 1,
                    _ => self.mark(&element),
                },
                Event::Empty(element) => self.mark(&element),
                Event::Text(piece) if text => self.words(&piece.decode().unwrap_or_default()),
                Event::GeneralRef(entity) if text => self.words(&reference(&entity)),
                Event::End(element) => match element.local_name().as_ref() {
                    b"t" => text = false,
                    b"p" => self.end_paragraph(),
                    b"tc" => self.builder.gap('\t'),
                    b"tr" => {
                        self.rows = self.rows.saturating_sub(1);
                        if self.rows == 0 {
                            self.builder.close(BlockKind::Row, self.slide);
                        }
                    }
                    b"sp" => self.holder = Holder::Text,
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

    fn words(&mut self, words: &str) {
        if self.holder != Holder::Furniture {
            self.builder.push_free(words);
        }
    }

    fn mark(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            b"ph" => {
                self.holder = match attribute(element, b"type").as_deref() {
                    Some("title" | "ctrTitle") => Holder::Title,
                    Some("sldNum" | "dt" | "ftr" | "hdr") => Holder::Furniture,
                    _ => Holder::Text,
                };
            }
            b"tab" => self.builder.space(),
            b"br" => self.builder.gap('\n'),
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        if self.rows > 0 {
            self.builder.space();
            return;
        }
        let kind = if self.holder == Holder::Title { self.builder.heading(1) } else { BlockKind::Text };
        if kind == BlockKind::Heading(1) && self.title.is_none() && !self.builder.is_blank() {
            self.title = Some(self.builder.current().to_owned());
        }
        self.builder.close(kind, self.slide);
    }
}
