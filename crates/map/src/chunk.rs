//! Documents to passages of about 200 tokens, along the document's own structure. Pure.
//!
//! A passage is one stretch of the document's text. Passages never overlap and leave out nothing but
//! white space. Boundaries depend on blocks, never on running offsets, so an edit moves few of them.

use crate::document::{Block, BlockKind, Document, Unit};
use crate::sentence;
use std::ops::Range;

/// What a passage is filled up to. About the size at which retrieval is best over kinds of questions.
pub const TARGET_TOKENS: usize = 200;
/// Below this a passage goes on across a heading or a page: tiny passages answer nothing.
const SMALL_TOKENS: usize = 50;
/// A block above this is split at its sentences.
const BLOCK_TOKENS_MAX: usize = 260;
const LABEL_CHARS_MAX: usize = 120;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Bytes of the document's text.
    pub span: Range<usize>,
    /// Headings above it, outermost first.
    pub heading: Vec<String>,
    /// First and last page or paragraph; 0 where there is none.
    pub parts: (u32, u32),
}

/// A rough count of what a word-piece tokenizer makes of a text: no model is needed to cut it.
///
/// Latin words and numbers have pieces of several letters. Of other scripts, and of words that mix letters
/// and digits (hashes, serial numbers), a model's vocabulary often knows nothing but the single letters.
pub fn tokens(text: &str) -> usize {
    const PIECE_LETTERS: usize = 6;
    let mut count = 0;
    let (mut letters, mut digits) = (0usize, 0usize);
    let mut flush = |letters: &mut usize, digits: &mut usize| {
        let run = *letters + *digits;
        count += if *letters > 0 && *digits > 0 { run } else { run.div_ceil(PIECE_LETTERS) };
        (*letters, *digits) = (0, 0);
    };
    let mut single = 0;
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits += 1;
        } else if c.is_alphabetic() && c <= LATIN_LAST {
            letters += 1;
        } else {
            flush(&mut letters, &mut digits);
            single += usize::from(!c.is_whitespace());
        }
    }
    flush(&mut letters, &mut digits);
    count + single
}

/// The last letter of Latin Extended-B.
const LATIN_LAST: char = '\u{24f}';

pub fn chunk(document: &Document) -> Vec<Passage> {
    let mut cutting = Cutting { done: Vec::new(), path: Vec::new(), open: None };
    for block in &document.blocks {
        let text = document.block_text(block);
        match block.kind {
            BlockKind::Part => {
                cutting.flush_from(0);
                cutting.enter(0, &label(document.name(block.part).unwrap_or_default()));
                continue;
            }
            BlockKind::Label(level) => {
                cutting.flush_from(SMALL_TOKENS);
                cutting.enter(level, &label(document.name(block.part).unwrap_or_default()));
                continue;
            }
            BlockKind::Heading(level) => {
                cutting.flush_from(SMALL_TOKENS);
                cutting.enter(level, &label(text));
            }
            BlockKind::Definition => {
                cutting.flush_from(SMALL_TOKENS);
                cutting.enter(1, &definition(text));
            }
            BlockKind::Text | BlockKind::Item | BlockKind::Code | BlockKind::Row => {}
        }
        if cutting.open.as_ref().is_some_and(|open| open.parts.1 != block.part && open.words_stand()) {
            cutting.flush_from(if is_paged(document) { SMALL_TOKENS } else { usize::MAX });
        }
        for (range, count) in pieces(text, block) {
            let start = block.start as usize;
            cutting.add(start + range.start..start + range.end, count, block);
        }
    }
    cutting.flush_from(0);
    cutting.done
}

fn is_paged(document: &Document) -> bool {
    matches!(document.format.unit(), Some(Unit::Page | Unit::Slide))
}

/// One line, without markup at its end, short enough to stand above a passage.
fn label(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LABEL_CHARS_MAX) {
        Some((end, _)) => words[..end].to_owned(),
        None => words,
    }
}

/// The line that names what is defined: the first that is no comment and no attribute.
fn definition(text: &str) -> String {
    let line = text.lines().find(|line| {
        let line = line.trim_start();
        !line.is_empty() && !["//", "/*", "*", "#", "@", "--", "\"\"\""].iter().any(|mark| line.starts_with(mark))
    });
    label(line.unwrap_or_default().trim_end_matches(['{', ':', ' ']))
}

/// A block whole, or its sentences packed up to the target.
fn pieces(text: &str, block: &Block) -> Vec<(Range<usize>, usize)> {
    let count = tokens(text);
    if count <= BLOCK_TOKENS_MAX {
        return vec![(0..text.len(), count)];
    }
    let by_line = matches!(block.kind, BlockKind::Code | BlockKind::Definition | BlockKind::Row);
    let mut found: Vec<(Range<usize>, usize)> = Vec::new();
    for range in if by_line { line_ranges(text) } else { sentence::ranges(text) } {
        for range in split_long(text, range) {
            let count = tokens(&text[range.clone()]);
            match found.last_mut() {
                Some((last, sum)) if *sum + count <= TARGET_TOKENS => {
                    last.end = range.end;
                    *sum += count;
                }
                _ => found.push((range, count)),
            }
        }
    }
    found
}

fn line_ranges(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if !bare.is_empty() {
            found.push(at..at + bare.len());
        }
        at += line.len();
    }
    found
}

/// A stretch without any end in sight is cut between words, and a word without end between characters.
fn split_long(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let count = tokens(&text[range.clone()]);
    if count <= BLOCK_TOKENS_MAX {
        return vec![range];
    }
    let piece_bytes = (range.len() / count.div_ceil(TARGET_TOKENS)).max(64);
    let (mut found, mut at) = (Vec::new(), range.start);
    while at < range.end {
        let mut end = (at + piece_bytes).min(range.end);
        if end < range.end {
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            if let Some(space) = text[at..end].rfind(char::is_whitespace).filter(|space| *space > 0) {
                end = at + space;
            }
        }
        let piece = &text[at..end];
        let start = at + piece.len() - piece.trim_start().len();
        if start < end {
            found.push(start..at + piece.trim_end().len().max(start - at));
        }
        at = end;
    }
    found
}

struct Open {
    span: Range<usize>,
    tokens: usize,
    heading: Vec<String>,
    parts: (u32, u32),
    /// Nothing but headings so far.
    bare: bool,
}

impl Open {
    fn words_stand(&self) -> bool {
        !self.bare
    }
}

struct Cutting {
    done: Vec<Passage>,
    /// Headings above this place with their levels.
    path: Vec<(u8, String)>,
    open: Option<Open>,
}

impl Cutting {
    fn enter(&mut self, level: u8, label: &str) {
        self.path.retain(|(above, _)| *above < level);
        if !label.is_empty() {
            self.path.push((level, label.to_owned()));
        }
        let path = self.labels();
        if let Some(open) = &mut self.open {
            if open.bare {
                open.heading = path;
            } else {
                // A small passage goes on under another heading: only what they share heads both.
                let shared = open.heading.iter().zip(&path).take_while(|(a, b)| a == b).count();
                open.heading.truncate(shared);
            }
        }
    }

    fn labels(&self) -> Vec<String> {
        self.path.iter().map(|(_, label)| label.clone()).collect()
    }

    fn add(&mut self, span: Range<usize>, count: usize, block: &Block) {
        let heads = matches!(block.kind, BlockKind::Heading(_));
        if self.open.as_ref().is_some_and(|open| !open.bare && open.tokens + count > TARGET_TOKENS) {
            self.flush_from(0);
        }
        match &mut self.open {
            Some(open) => {
                open.span.end = span.end;
                open.tokens += count;
                open.parts.1 = block.part;
                open.bare &= heads;
            }
            None => {
                let heading = self.labels();
                self.open = Some(Open { span, tokens: count, heading, parts: (block.part, block.part), bare: heads });
            }
        }
    }

    /// Ends the open passage when it holds words and at least this many tokens.
    fn flush_from(&mut self, least: usize) {
        let ready = self.open.as_ref().is_some_and(|open| least == 0 || (open.words_stand() && open.tokens >= least));
        if ready && let Some(open) = self.open.take() {
            self.done.push(Passage { span: open.span, heading: open.heading, parts: open.parts });
        }
    }
}

#[cfg(test)]
mod tests;
