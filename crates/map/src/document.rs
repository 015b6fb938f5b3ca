//! What a reader child makes of one file: its text, its blocks, and where each of them came from.
//!
//! Pure. The child is not trusted, so [`Document::check`] runs in the parent before anything else does.

use crate::source::{Encoding, Run};
use serde::{Deserialize, Serialize};

/// How a file was read. It decides what a citation can name: lines, pages or paragraphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Text,
    Markdown,
    Html,
    Code,
    /// CSV, JSON, TOML, YAML, logs: text that is made of lines.
    Data,
    Mail,
    Pdf,
    Docx,
}

impl Format {
    pub const ALL: [Format; 8] = [
        Format::Text,
        Format::Markdown,
        Format::Html,
        Format::Code,
        Format::Data,
        Format::Mail,
        Format::Pdf,
        Format::Docx,
    ];

    /// The stable word that the record keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Markdown => "markdown",
            Format::Html => "html",
            Format::Code => "code",
            Format::Data => "data",
            Format::Mail => "mail",
            Format::Pdf => "pdf",
            Format::Docx => "docx",
        }
    }

    pub fn parse(text: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// One piece of structure. Offsets are bytes of [`Document::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub start: u32,
    pub end: u32,
    pub kind: BlockKind,
    /// Page or paragraph number from 1; 0 where the document has neither.
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
}

/// Where text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Each run of text came from a run of the file's own bytes. Text between runs is white space.
    Source { encoding: Encoding, runs: Vec<Run> },
    /// A block's `part` is its page.
    Pages,
    /// A block's `part` is its paragraph.
    Paragraphs,
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
}

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
            at = end;
        }
        if !self.text[at..].trim().is_empty() {
            return Err("text lies outside all blocks");
        }
        // What is cited by page or paragraph is vouched for by the unchanged file alone, so no other format may.
        let runs = match (&self.origin, self.format) {
            (Origin::Source { runs, .. }, format) if !matches!(format, Format::Pdf | Format::Docx) => runs,
            (Origin::Pages, Format::Pdf) | (Origin::Paragraphs, Format::Docx | Format::Mail) => return Ok(()),
            _ => return Err("its format has no such places"),
        };
        let (mut text_at, mut source_at) = (0, 0);
        for run in runs {
            let (text, source) = (u64::from(run.text), u64::from(run.source));
            let (text_end, source_end) = (text + u64::from(run.text_len), source + u64::from(run.source_len));
            if text < text_at || text_end > self.text.len() as u64 {
                return Err("its runs overlap or leave the text");
            }
            if source < source_at || source_end > source_bytes as u64 {
                return Err("its runs overlap or leave the file");
            }
            if !self.text.is_char_boundary(text as usize) || !self.text.is_char_boundary(text_end as usize) {
                return Err("a run cuts a character");
            }
            (text_at, source_at) = (text_end, source_end);
        }
        Ok(())
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
        Document { title: None, format, text: WORDS.into(), blocks: vec![block], origin }
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
            let (pages, paragraphs) = (format == Format::Pdf, matches!(format, Format::Docx | Format::Mail));
            let runs = !matches!(format, Format::Pdf | Format::Docx);
            assert_eq!(
                [may(Origin::Pages), may(Origin::Paragraphs), may(source(run))],
                [pages, paragraphs, runs],
                "{format:?}"
            );
        }
    }
}
