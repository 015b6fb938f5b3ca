//! What a reader child makes of one file: its text, its blocks, and where each of them came from.
//!
//! Pure. The child is not trusted, so [`Document::check`] runs in the parent before anything else does.

use crate::place::Spot;
use crate::source::{Encoding, Run};
use serde::{Deserialize, Serialize};

/// How a file was read. It decides what a citation can name: lines, pages, cells and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Text,
    Markdown,
    Html,
    Code,
    /// TOML, YAML, XML, logs: text that is made of lines.
    Data,
    Csv,
    Json,
    Calendar,
    Mail,
    Pdf,
    Docx,
    Odt,
    Pptx,
    Odp,
    Xlsx,
    Ods,
    Epub,
    /// What was recognised on it.
    Picture,
}

/// What a part of a document is that has no lines in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Page,
    Paragraph,
    Slide,
    Chapter,
    Cells,
}

impl Format {
    pub const ALL: [Format; 18] = [
        Format::Text,
        Format::Markdown,
        Format::Html,
        Format::Code,
        Format::Data,
        Format::Csv,
        Format::Json,
        Format::Calendar,
        Format::Mail,
        Format::Pdf,
        Format::Docx,
        Format::Odt,
        Format::Pptx,
        Format::Odp,
        Format::Xlsx,
        Format::Ods,
        Format::Epub,
        Format::Picture,
    ];

    /// The stable word that the record keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Markdown => "markdown",
            Format::Html => "html",
            Format::Code => "code",
            Format::Data => "data",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Calendar => "calendar",
            Format::Mail => "mail",
            Format::Pdf => "pdf",
            Format::Docx => "docx",
            Format::Odt => "odt",
            Format::Pptx => "pptx",
            Format::Odp => "odp",
            Format::Xlsx => "xlsx",
            Format::Ods => "ods",
            Format::Epub => "epub",
            Format::Picture => "picture",
        }
    }

    pub fn parse(text: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.as_str() == text)
    }

    /// What this format's parts are, when its text has no place in the file's own bytes.
    pub(crate) fn unit(self) -> Option<Unit> {
        match self {
            Format::Pdf | Format::Picture => Some(Unit::Page),
            Format::Docx | Format::Odt => Some(Unit::Paragraph),
            Format::Pptx | Format::Odp => Some(Unit::Slide),
            Format::Epub => Some(Unit::Chapter),
            Format::Xlsx | Format::Ods => Some(Unit::Cells),
            Format::Text
            | Format::Markdown
            | Format::Html
            | Format::Code
            | Format::Data
            | Format::Csv
            | Format::Json
            | Format::Calendar
            | Format::Mail => None,
        }
    }

    /// Whether its citations can name lines and bytes.
    pub(crate) fn has_lines(self) -> bool {
        self.unit().is_none()
    }

    /// Whether its citations can name cells.
    pub(crate) fn has_cells(self) -> bool {
        self == Format::Csv || self.unit() == Some(Unit::Cells)
    }
}

/// One piece of structure. Offsets are bytes of [`Document::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub start: u32,
    pub end: u32,
    pub kind: BlockKind,
    /// Number of its page, paragraph, slide or chapter from 1; 0 where the document has none of them.
    /// For a part and a label: the number of its name in [`Document::names`], from 1.
    pub part: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockKind {
    /// Level from 1. What follows stands under it.
    Heading(u8),
    Text,
    Item,
    /// Source code whose first line names what it defines; that line heads it and what follows.
    Definition,
    Code,
    /// A line of data or a row of a table.
    Row,
    /// Another part of the file begins here: a sheet, a mail, an attachment. It has a name and no text. No
    /// passage goes across it.
    Part,
    /// A heading that stands nowhere in the text, with its level from 1: it has a name and no text.
    Label(u8),
}

impl BlockKind {
    /// Whether it is only a name.
    pub(crate) fn is_named(self) -> bool {
        matches!(self, BlockKind::Part | BlockKind::Label(_))
    }
}

/// Where text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Each run of text came from a run of the file's own bytes. Text between runs is white space.
    Source { encoding: Encoding, runs: Vec<Run> },
    /// A block's `part` is its page, paragraph and so on, as the format says.
    Parts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The document's own title; never made from the file's name.
    pub title: Option<String>,
    pub format: Format,
    pub text: String,
    /// In reading order, without overlap. All text that isn't blank lies in a block.
    pub blocks: Vec<Block>,
    pub origin: Origin,
    /// Of parts and labels, and of the sheets that spots are on.
    pub names: Vec<String>,
    /// Where text stands on a page or in a table; in the order of the text. Empty for other formats.
    pub spots: Vec<Spot>,
    /// What of it can't be read, in sentences: attached files, unclear pages.
    pub notes: Vec<String>,
    pub said: Said,
}

/// What a document says of itself, as it stands there. Anybody may have written it: `about` decides what of it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub author: Option<String>,
    pub created: Option<String>,
    pub modified: Option<String>,
    pub language: Option<String>,
}

/// LIMIT: notes of one document that are told, and letters of one. The child that wrote them isn't trusted.
pub(crate) const NOTES_MAX: usize = 20;
pub(crate) const NOTE_CHARS_MAX: usize = 300;

impl Document {
    /// Whether all offsets are in range, in order and on character boundaries.
    ///
    /// # Errors
    /// A sentence part that says what is wrong.
    pub fn check(&self, source_bytes: usize) -> Result<(), &'static str> {
        let mut at = 0;
        for block in &self.blocks {
            let (start, end) = (block.start as usize, block.end as usize);
            if start < at || end < start || end > self.text.len() {
                return Err("its blocks overlap or leave the text");
            }
            if !self.text.is_char_boundary(start) || !self.text.is_char_boundary(end) {
                return Err("a block cuts a character");
            }
            if !self.text[at..start].trim().is_empty() {
                return Err("text lies outside all blocks");
            }
            if block.kind.is_named() && (end > start || self.name(block.part).is_none()) {
                return Err("a part has no name");
            }
            at = end;
        }
        if !self.text[at..].trim().is_empty() {
            return Err("text lies outside all blocks");
        }
        self.check_spots()?;
        // What is cited by page, paragraph and so on is vouched for by the unchanged file alone, so only some formats may.
        let runs = match &self.origin {
            Origin::Source { runs, .. } if self.format.has_lines() => runs,
            Origin::Parts if self.format.unit().is_some() => return Ok(()),
            _ => return Err("its format has no such places"),
        };
        let (mut text_at, mut source_at, mut last) = (0, 0, None);
        let mut parts = self.blocks.iter().filter(|block| block.kind == BlockKind::Part).peekable();
        for run in runs {
            // No passage goes across the beginning of a part, so what stands there may come from further up in the file.
            while parts.next_if(|part| part.start <= run.text).is_some() {
                source_at = 0;
            }
            let (text, source) = (u64::from(run.text), u64::from(run.source));
            let (text_end, source_end) = (text + u64::from(run.text_len), source + u64::from(run.source_len));
            if text < text_at || text_end > self.text.len() as u64 {
                return Err("its runs overlap or leave the text");
            }
            // Several stretches of text may belong to the same bytes as a whole: those of an encoded part of a mail.
            let again = last == Some((run.source, run.source_len));
            if (source < source_at && !again) || source_end > source_bytes as u64 {
                return Err("its runs overlap or leave the file");
            }
            if !self.text.is_char_boundary(text as usize) || !self.text.is_char_boundary(text_end as usize) {
                return Err("a run cuts a character");
            }
            (text_at, source_at, last) = (text_end, source_end, Some((run.source, run.source_len)));
        }
        Ok(())
    }

    fn check_spots(&self) -> Result<(), &'static str> {
        if !self.spots.is_empty() && self.format.unit() != Some(Unit::Page) && !self.format.has_cells() {
            return Err("its format has no such places");
        }
        let mut at = 0;
        for spot in &self.spots {
            let (start, end) = (u64::from(spot.text), u64::from(spot.text) + u64::from(spot.text_len));
            if start < at || end > self.text.len() as u64 {
                return Err("its spots overlap or leave the text");
            }
            if !self.text.is_char_boundary(start as usize) || !self.text.is_char_boundary(end as usize) {
                return Err("a spot cuts a character");
            }
            if self.format.unit() == Some(Unit::Cells) && self.name(spot.part).is_none() {
                return Err("a cell has no sheet");
            }
            at = end;
        }
        Ok(())
    }

    /// The notes as a person may see them: bounded, without what could steer a terminal.
    pub(crate) fn told(&self) -> Vec<String> {
        let tame = |note: &String| note.chars().filter(|c| !c.is_control()).take(NOTE_CHARS_MAX).collect();
        self.notes.iter().take(NOTES_MAX).map(tame).collect()
    }

    /// The name with this number, from 1.
    pub(crate) fn name(&self, number: u32) -> Option<&str> {
        self.names.get((number as usize).checked_sub(1)?).map(String::as_str)
    }

    /// Text of one block.
    pub fn block_text(&self, block: &Block) -> &str {
        &self.text[block.start as usize..block.end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "words of a lying child";

    fn lying(format: Format, origin: Origin) -> Document {
        let block = Block { start: 0, end: WORDS.len() as u32, kind: BlockKind::Text, part: 1 };
        Document {
            title: None,
            format,
            text: WORDS.into(),
            blocks: vec![block],
            origin,
            names: Vec::new(),
            spots: Vec::new(),
            notes: Vec::new(),
            said: Said::default(),
        }
    }

    fn source(run: Run) -> Origin {
        Origin::Source { encoding: Encoding::Utf8, runs: vec![run] }
    }

    #[test]
    fn ends_that_wrap_around_are_seen() {
        let honest = Run { text: 0, text_len: 5, source: 0, source_len: 5 };
        assert_eq!(lying(Format::Text, source(honest)).check(100), Ok(()));
        for run in [
            Run { text_len: u32::MAX - 1, text: 4, ..honest },
            Run { source_len: u32::MAX - 1, source: 4, ..honest },
            Run { text_len: WORDS.len() as u32 + 1, ..honest },
            Run { source_len: 101, ..honest },
        ] {
            assert!(lying(Format::Text, source(run)).check(100).is_err(), "{run:?}");
        }
    }

    #[test]
    fn each_format_has_its_own_kind_of_places() {
        let run = Run { text: 0, text_len: 5, source: 0, source_len: 5 };
        for format in Format::ALL {
            let may = |origin| lying(format, origin).check(100).is_ok();
            let binary = matches!(
                format,
                Format::Pdf
                    | Format::Docx
                    | Format::Odt
                    | Format::Pptx
                    | Format::Odp
                    | Format::Xlsx
                    | Format::Ods
                    | Format::Epub
                    | Format::Picture
            );
            assert_eq!([may(Origin::Parts), may(source(run))], [binary, !binary], "{format:?}");
        }
    }

    #[test]
    fn names_and_spots_are_checked() {
        let spot = Spot { text: 0, text_len: 5, part: 1, area: [1; 4] };
        let mut document = Document { spots: vec![spot], ..lying(Format::Xlsx, Origin::Parts) };
        assert_eq!(document.check(100), Err("a cell has no sheet"));
        document.names.push("Rents".into());
        assert_eq!(document.check(100), Ok(()));
        document.spots[0].text_len = u32::MAX;
        assert!(document.check(100).is_err());
        document = Document { spots: vec![spot], ..lying(Format::Docx, Origin::Parts) };
        assert!(document.check(100).is_err(), "no word processor says where its letters stand");
        document = lying(Format::Docx, Origin::Parts);
        document.blocks[0].kind = BlockKind::Part;
        assert_eq!(document.check(100), Err("a part has no name"));
    }
}
