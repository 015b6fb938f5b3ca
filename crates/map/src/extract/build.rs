//! Collects text, the runs that it came from, and blocks.
//!
//! Pure. White space between runs is made here and has no bytes of its own in the file.

use crate::document::{Block, BlockKind, Document, Format, Origin, Said};
use crate::place::Spot;
use crate::source::{Encoding, Run};
use std::ops::Range;

/// Most text that one document may hold. A small file can unpack to any size; this is where that ends.
pub(crate) const TEXT_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Builder {
    text: String,
    runs: Vec<Run>,
    blocks: Vec<Block>,
    /// Where the block that is being written starts.
    open: usize,
    /// A white-space run is owed before the next text of this block.
    space: bool,
    /// The last run may be joined by one that goes on.
    joins: bool,
    encoding: Encoding,
    names: Vec<String>,
    spots: Vec<Spot>,
    notes: Vec<String>,
}

impl Builder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            text: String::new(),
            runs: Vec::new(),
            blocks: Vec::new(),
            open: 0,
            space: false,
            joins: true,
            encoding,
            names: Vec::new(),
            spots: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > TEXT_BYTES_MAX
    }

    /// Whether the block that is being written holds nothing yet.
    pub(crate) fn is_blank(&self) -> bool {
        self.text[self.open..].trim().is_empty()
    }

    /// Text of the block that is being written.
    pub(crate) fn current(&self) -> &str {
        self.text[self.open..].trim()
    }

    /// Appends text that these bytes of the file spell in another way, such as an entity.
    pub(crate) fn push_decoded(&mut self, text: &str, source: Range<usize>) {
        self.joins = false;
        self.push(text, source);
        self.joins = false;
    }

    /// Appends text that came from these bytes of the file.
    pub(crate) fn push(&mut self, text: &str, source: Range<usize>) {
        if text.is_empty() || self.is_full() {
            return;
        }
        self.settle();
        let run = Run {
            text: self.text.len() as u32,
            text_len: text.len() as u32,
            source: source.start as u32,
            source_len: source.len() as u32,
        };
        self.text.push_str(text);
        let straight = |text: &str, run: &Run| self.encoding.width_of(text) == run.source_len as usize;
        if let Some(last) = self.runs.last_mut()
            && self.joins
            && last.text + last.text_len == run.text
            && last.source + last.source_len == run.source
            && straight(text, &run)
            && straight(&self.text[last.text as usize..run.text as usize], last)
        {
            last.text_len += run.text_len;
            last.source_len += run.source_len;
        } else {
            self.runs.push(run);
        }
        self.joins = true;
    }

    /// Appends text that has no place of its own in the file's bytes (PDF pages, word processors).
    pub(crate) fn push_free(&mut self, text: &str) {
        if !self.is_full() {
            self.settle();
            self.text.push_str(text);
        }
    }

    /// Keeps a name and returns its number, from 1.
    pub(crate) fn name(&mut self, name: &str) -> u32 {
        self.names.push(name.to_owned());
        self.names.len() as u32
    }

    /// Says of a part of the file that it can't be read.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Begins another part of the file, with its name. Returns the name's number.
    pub(crate) fn part(&mut self, name: &str) -> u32 {
        self.named(name, BlockKind::Part)
    }

    /// A heading that stands nowhere in the text.
    pub(crate) fn label(&mut self, name: &str, level: u8) {
        self.named(name, BlockKind::Label(level));
    }

    fn named(&mut self, name: &str, kind: BlockKind) -> u32 {
        let (part, at) = (self.name(name), self.open as u32);
        self.blocks.push(Block { start: at, end: at, kind, part });
        part
    }

    /// How long the text is so far, with the white space that is owed to what comes next.
    pub(crate) fn at(&mut self) -> usize {
        self.settle();
        self.text.len()
    }

    /// What was written since `start` stands at this place of a page or table.
    pub(crate) fn spot(&mut self, start: usize, part: u32, area: [u32; 4]) {
        let end = self.text.len();
        if end > start {
            self.spots.push(Spot { text: start as u32, text_len: (end - start) as u32, part, area });
        }
    }

    /// Owes one space; several in a row are one, and none stands at a block's ends.
    pub(crate) fn space(&mut self) {
        self.space = self.text.len() > self.open;
    }

    /// What the current block is if it is marked as a heading: one that goes on and on is text.
    pub(crate) fn heading(&self, level: u8) -> BlockKind {
        const HEADING_CHARS_MAX: usize = 200;
        let long = self.current().chars().nth(HEADING_CHARS_MAX).is_some();
        if long { BlockKind::Text } else { BlockKind::Heading(level) }
    }

    /// Takes an owed space back.
    pub(crate) fn unspace(&mut self) {
        self.space = false;
    }

    /// Appends white space that the document's structure stands for: a line break, a tab between cells.
    pub(crate) fn gap(&mut self, white: char) {
        self.space = false;
        if self.text.len() > self.open && !self.text.ends_with(white) {
            self.text.push(white);
        }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.space) && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
        }
    }

    /// Ends the block; one that is blank leaves no trace. Returns whether there was one.
    pub(crate) fn close(&mut self, kind: BlockKind, part: u32) -> bool {
        self.space = false;
        let raw = &self.text[self.open..];
        let (start, end) = (self.open + raw.len() - raw.trim_start().len(), self.open + raw.trim_end().len());
        let closed = end > start;
        if closed {
            self.blocks.push(Block { start: start as u32, end: end as u32, kind, part });
            let tight = matches!(kind, BlockKind::Row | BlockKind::Item);
            self.cut(end);
            self.text.push_str(if tight { "\n" } else { "\n\n" });
        } else {
            self.cut(self.open);
        }
        self.open = self.text.len();
        closed
    }

    /// Cuts the text's end off, and the runs with it.
    fn cut(&mut self, end: usize) {
        while let Some(last) = self.runs.last_mut() {
            let (start, last_end) = (last.text as usize, (last.text + last.text_len) as usize);
            if start >= end {
                self.runs.pop();
                continue;
            }
            if last_end > end {
                // A run that isn't straight belongs to its bytes as a whole, so it keeps them.
                if self.encoding.width_of(&self.text[start..last_end]) == last.source_len as usize {
                    last.source_len = self.encoding.width_of(&self.text[start..end]) as u32;
                }
                last.text_len = (end - start) as u32;
            }
            break;
        }
        self.text.truncate(end);
        while let Some(last) = self.spots.last_mut().filter(|last| (last.text + last.text_len) as usize > end) {
            if (last.text as usize) < end {
                last.text_len = end as u32 - last.text;
                break;
            }
            self.spots.pop();
        }
    }

    /// Closes what a broken file left open, so that none of its words is lost.
    fn finish(&mut self) {
        let part = self.blocks.iter().rev().find(|block| !block.kind.is_named()).map_or(1, |block| block.part);
        self.close(BlockKind::Text, part);
    }

    /// A document whose citations name source lines.
    pub(crate) fn into_source(mut self, format: Format, title: Option<String>) -> Document {
        self.finish();
        let Self { text, runs, blocks, encoding, names, spots, notes, .. } = self;
        let (origin, said) = (Origin::Source { encoding, runs }, Said::default());
        Document { title, format, text, blocks, origin, names, spots, notes, said }
    }

    /// A document whose citations name parts: pages, paragraphs, cells and so on.
    pub(crate) fn into_parts(mut self, format: Format, title: Option<String>) -> Document {
        self.finish();
        let Self { text, blocks, names, spots, notes, .. } = self;
        Document { title, format, text, blocks, origin: Origin::Parts, names, spots, notes, said: Said::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_where_text_and_bytes_go_on() {
        let mut builder = Builder::new(Encoding::Utf8);
        builder.push("The ", 0..4);
        builder.push("boiler", 4..10);
        builder.push("&", 10..15);
        builder.push(" hums  ", 15..22);
        assert!(builder.close(BlockKind::Text, 0));
        builder.push("   ", 30..33);
        assert!(!builder.close(BlockKind::Text, 0));
        let document = builder.into_source(Format::Text, None);
        assert_eq!(document.text.trim_end(), "The boiler& hums");
        let Origin::Source { runs, .. } = &document.origin else { panic!("it has runs") };
        let shape: Vec<_> = runs.iter().map(|run| (run.text, run.text_len, run.source, run.source_len)).collect();
        assert_eq!(shape, [(0, 10, 0, 10), (10, 1, 10, 5), (11, 5, 15, 5)]);
        assert_eq!(document.check(40), Ok(()));
    }
}
