//! OpenDocument: texts (paragraphs), sheets (cells, with the words that their program shows) and slides.
//!
//! What was deleted under change tracking and what is commented in the margin is left out.

use super::Refused;
use super::build::Builder;
use super::package::Package;
use super::said::{self, Told};
use super::xml::{attribute, number, reference};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

pub(crate) fn read(bytes: &[u8], format: Format) -> Result<Document, Refused> {
    let mut package = Package::open(bytes, "OpenDocument file")?;
    let encrypted = package.text("META-INF/manifest.xml")?.is_some_and(|xml| xml.contains("encryption-data"));
    if encrypted {
        return Err(Refused::broken("it is protected by a password"));
    }
    let body = package.needed("content.xml")?;
    let Told { title, said, .. } = package.text("meta.xml")?.map(|xml| said::open_document(&xml)).unwrap_or_default();
    let builder = Builder::new(Encoding::Utf8);
    let mut reading = Reading {
        format,
        builder,
        title,
        part: u32::from(format != Format::Odp),
        left_out: 0,
        paragraphs: 0,
        listed: 0,
        level: None,
        heads: false,
        tables: Vec::new(),
    };
    reading.body(&body)?;
    Ok(Document { said, ..reading.builder.into_parts(format, reading.title) })
}

/// LIMIT: how often one cell that stands for several is written out.
const REPEATED_MAX: u32 = 64;

struct Reading {
    format: Format,
    builder: Builder,
    title: Option<String>,
    /// Number of the paragraph or slide.
    part: u32,
    /// Depth within elements that are left out.
    left_out: u32,
    /// Depth of paragraphs.
    paragraphs: u32,
    listed: u32,
    level: Option<u8>,
    /// Within the frame that holds a slide's title.
    heads: bool,
    tables: Vec<Table>,
}

/// A table that is being read. Rows and columns count from 1.
#[derive(Default)]
struct Table {
    sheet: u32,
    row: u32,
    row_repeated: u32,
    column: u32,
    column_repeated: u32,
    /// Where the cell's words begin.
    start: usize,
}

fn is_left_out(name: &[u8]) -> bool {
    matches!(name, b"tracked-changes" | b"annotation" | b"forms" | b"shapes" | b"object" | b"named-expressions")
}

impl Reading {
    fn body(&mut self, xml: &str) -> Result<(), Refused> {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event().map_err(|error| Refused::broken(format!("its text is broken XML: {error}")))? {
                Event::Start(element) if self.left_out > 0 || is_left_out(element.local_name().as_ref()) => {
                    self.left_out += 1;
                }
                Event::End(_) if self.left_out > 0 => self.left_out -= 1,
                _ if self.left_out > 0 => {}
                Event::Start(element) => self.open(&element),
                Event::Empty(element) => {
                    self.open(&element);
                    self.close(element.local_name().as_ref());
                }
                Event::Text(piece) if self.paragraphs > 0 => self.words(&piece.decode().unwrap_or_default()),
                Event::GeneralRef(entity) if self.paragraphs > 0 => self.builder.push_free(&reference(&entity)),
                Event::End(element) => self.close(element.local_name().as_ref()),
                Event::Eof => return Ok(()),
                _ => {}
            }
            if self.builder.is_full() {
                return Err(Refused::too_large());
            }
        }
    }

    /// White space in a paragraph is one space, however long.
    fn words(&mut self, piece: &str) {
        for (i, word) in piece.split([' ', '\t', '\r', '\n']).enumerate() {
            if i > 0 {
                self.builder.space();
            }
            self.builder.push_free(word);
        }
    }

    fn open(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            b"p" => self.paragraphs += 1,
            b"h" => {
                self.paragraphs += 1;
                self.level = Some(number(element, b"outline-level").unwrap_or(1).clamp(1, 6) as u8);
            }
            b"s" | b"tab" => self.builder.space(),
            b"line-break" => self.builder.gap('\n'),
            b"list-item" => self.listed += 1,
            b"page" if self.format == Format::Odp => self.part += 1,
            b"frame" => self.heads = attribute(element, b"class").is_some_and(|class| class == "title"),
            b"table" => {
                let named = self.format == Format::Ods && self.tables.is_empty();
                let name = attribute(element, b"name").unwrap_or_else(|| "table".into());
                let sheet = if named { self.builder.part(&name) } else { 0 };
                self.tables.push(Table { sheet, ..Table::default() });
            }
            b"table-row" => {
                if let Some(table) = self.tables.last_mut() {
                    table.row = table.row.saturating_add(table.row_repeated.max(1));
                    table.row_repeated = number(element, b"number-rows-repeated").unwrap_or(1);
                    (table.column, table.column_repeated) = (0, 1);
                }
            }
            b"table-cell" | b"covered-table-cell" => self.open_cell(element),
            _ => {}
        }
    }

    fn open_cell(&mut self, element: &BytesStart<'_>) {
        if self.tables.len() == 1 {
            self.builder.gap('\t');
        }
        let start = self.builder.at();
        if let Some(table) = self.tables.last_mut() {
            table.column = table.column.saturating_add(table.column_repeated.max(1));
            table.column_repeated = number(element, b"number-columns-repeated").unwrap_or(1);
            table.start = start;
        }
    }

    fn close(&mut self, name: &[u8]) {
        match name {
            b"p" | b"h" => {
                self.paragraphs = self.paragraphs.saturating_sub(1);
                let level = self.level.take();
                if self.paragraphs == 0 {
                    self.end_paragraph(level);
                }
            }
            b"list-item" => self.listed = self.listed.saturating_sub(1),
            b"frame" => self.heads = false,
            b"table-cell" | b"covered-table-cell" => self.close_cell(),
            b"table-row" if self.tables.len() == 1 => self.end(BlockKind::Row),
            b"table" => drop(self.tables.pop()),
            _ => {}
        }
    }

    fn close_cell(&mut self) {
        let ([table], Format::Ods) = (self.tables.as_slice(), self.format) else { return };
        let (sheet, start) = (table.sheet, table.start);
        // One cell may stand for several beside and below it: they are one place.
        let right = table.column.saturating_add(table.column_repeated.clamp(1, REPEATED_MAX) - 1);
        let bottom = table.row.saturating_add(table.row_repeated.clamp(1, REPEATED_MAX) - 1);
        self.builder.unspace();
        self.builder.spot(start, sheet, [table.column, table.row, right, bottom]);
    }

    fn end_paragraph(&mut self, level: Option<u8>) {
        if !self.tables.is_empty() {
            self.builder.space();
            return;
        }
        let kind = match level {
            Some(level) => self.builder.heading(level),
            None if self.heads => self.builder.heading(1),
            None if self.listed > 0 => BlockKind::Item,
            None => BlockKind::Text,
        };
        if kind == BlockKind::Heading(1) && self.title.is_none() && !self.builder.is_blank() {
            self.title = Some(self.builder.current().to_owned());
        }
        self.end(kind);
    }

    fn end(&mut self, kind: BlockKind) {
        if self.builder.close(kind, self.part) && self.format == Format::Odt {
            self.part += 1;
        }
    }
}
