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
        let Origin::Source { runs, .. } = &self.origin else { return Ok(()) };
        let (mut text_at, mut source_at) = (0, 0);
        for run in runs {
            let (text_end, source_end) = (run.text + run.text_len, run.source + run.source_len);
            if (run.text as usize) < text_at || text_end as usize > self.text.len() {
                return Err("its runs overlap or leave the text");
            }
            if (run.source as usize) < source_at || source_end as usize > source_bytes {
                return Err("its runs overlap or leave the file");
            }
            if !self.text.is_char_boundary(run.text as usize) || !self.text.is_char_boundary(text_end as usize) {
                return Err("a run cuts a character");
            }
            (text_at, source_at) = (text_end as usize, source_end as usize);
        }
        Ok(())
    }

    /// Text of one block.
    pub fn block_text(&self, block: &Block) -> &str {
        &self.text[block.start as usize..block.end as usize]
    }
}
