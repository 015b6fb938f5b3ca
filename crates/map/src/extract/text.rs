//! Plain text, data and source code: the text is the file, verbatim; only its blocks are found.

use super::build::Builder;
use super::code;
use crate::document::{Block, BlockKind, Document, Format, Origin, Said};
use crate::source::{Decoded, Encoding, Run};
use std::ops::Range;

pub(crate) fn read(decoded: &Decoded, format: Format, name: &str) -> Document {
    let text = &decoded.text;
    let mut names = Vec::new();
    let blocks = match format {
        Format::Code => {
            let (blocks, found) = code::blocks(text, name);
            names = found;
            blocks
        }
        Format::Data | Format::Csv | Format::Json | Format::Calendar => data_blocks(text, name),
        _ => paragraphs(text).into_iter().map(|range| block(range, BlockKind::Text)).collect(),
    };
    Document {
        title: None,
        format,
        text: text.clone(),
        blocks,
        origin: origin(decoded),
        names,
        spots: Vec::new(),
        notes: Vec::new(),
        said: Said::default(),
    }
}

/// Appends a stretch of the file's text.
pub(super) fn push(builder: &mut Builder, decoded: &Decoded, range: Range<usize>) {
    let source = decoded.source(range.start)..decoded.source(range.end);
    builder.push(&decoded.text[range], source);
}

fn block(range: Range<usize>, kind: BlockKind) -> Block {
    Block { start: range.start as u32, end: range.end as u32, kind, part: 0 }
}

/// The whole file as runs: one, unless broken bytes stand between.
fn origin(decoded: &Decoded) -> Origin {
    let (text, encoding) = (&decoded.text, decoded.encoding);
    let mut runs = Vec::new();
    let mut at = 0;
    let broken = |i: usize| {
        let end = i + char::REPLACEMENT_CHARACTER.len_utf8();
        encoding == Encoding::Utf8 && decoded.source(end) - decoded.source(i) != end - i
    };
    let mut add = |range: Range<usize>| {
        if !range.is_empty() {
            let (start, end) = (decoded.source(range.start), decoded.source(range.end));
            runs.push(Run {
                text: range.start as u32,
                text_len: range.len() as u32,
                source: start as u32,
                source_len: (end - start) as u32,
            });
        }
    };
    for (i, c) in text.match_indices(char::REPLACEMENT_CHARACTER).filter(|(i, _)| broken(*i)) {
        add(at..i);
        add(i..i + c.len());
        at = i + c.len();
    }
    add(at..text.len());
    Origin::Source { encoding, runs }
}

/// Lines with their offsets, ends of line left out.
fn lines(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        let bare = line.trim_end_matches(['\n', '\r']);
        (start..start + bare.len(), bare)
    })
}

/// Stretches between blank lines.
pub(crate) fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<Range<usize>> = None;
    for (range, line) in lines(text) {
        if line.trim().is_empty() {
            found.extend(open.take());
        } else {
            let start = open.map_or(range.start, |open| open.start);
            open = Some(start..range.end);
        }
    }
    found.extend(open);
    found
}

/// Words that begin a definition at the left margin, in the languages that people keep.
const DEFINES: [&str; 29] = [
    "fn",
    "struct",
    "enum",
    "trait",
    "impl",
    "mod",
    "macro_rules!",
    "type",
    "const",
    "static",
    "union",
    "class",
    "def",
    "async",
    "function",
    "interface",
    "func",
    "package",
    "namespace",
    "module",
    "sub",
    "procedure",
    "create",
    "CREATE",
    "object",
    "data",
    "newtype",
    "instance",
    "local",
];
/// Words that may stand before one of those.
const LEADS: [&str; 12] = [
    "pub",
    "pub(crate)",
    "pub(super)",
    "export",
    "default",
    "public",
    "private",
    "protected",
    "abstract",
    "final",
    "unsafe",
    "extern",
];

fn defines(line: &str) -> bool {
    if line.starts_with(char::is_whitespace) {
        return false;
    }
    line.split_whitespace()
        .find(|word| !LEADS.contains(word))
        .is_some_and(|word| DEFINES.contains(&word.split(['<', '(']).next().unwrap_or(word)))
}

/// Comments and attributes at the left margin belong to the definition that follows.
fn introduces(line: &str) -> bool {
    ["//", "/*", " *", "#[", "#", "@", "--", "\"\"\""].iter().any(|mark| line.starts_with(mark))
}

pub(super) fn code_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for range in paragraphs(text) {
        let (mut start, mut kind, mut intro) = (range.start, BlockKind::Code, None);
        for (line_range, line) in lines(&text[range.clone()]) {
            let at = range.start + line_range.start;
            if defines(line) {
                let head = intro.take().unwrap_or(at);
                if text[start..head].trim().is_empty() {
                    kind = BlockKind::Definition;
                } else {
                    blocks.push(block(start..head, kind));
                    (start, kind) = (head, BlockKind::Definition);
                }
            } else if introduces(line) {
                intro.get_or_insert(at);
            } else {
                intro = None;
            }
        }
        blocks.push(block(start..range.end, kind));
    }
    for block in &mut blocks {
        let (start, end) = (block.start as usize, block.end as usize);
        block.end = (start + text[start..end].trim_end().len()) as u32;
    }
    blocks
}

fn data_blocks(text: &str, name: &str) -> Vec<Block> {
    let extension = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let table = matches!(extension.as_str(), "csv" | "tsv");
    let sections = matches!(extension.as_str(), "toml" | "ini" | "cfg" | "conf" | "properties");
    let mut blocks = Vec::new();
    for (range, line) in lines(text).filter(|(_, line)| !line.trim().is_empty()) {
        let section = sections && line.starts_with('[') && line.trim_end().ends_with(']');
        let kind = if section || (table && blocks.is_empty()) { BlockKind::Heading(1) } else { BlockKind::Row };
        blocks.push(block(range, kind));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode;

    fn document(text: &str, format: Format, name: &str) -> Document {
        let decoded = decode(text.as_bytes()).expect("text");
        let document = read(&decoded, format, name);
        assert_eq!(document.check(text.len()), Ok(()));
        document
    }

    fn shape(document: &Document) -> Vec<(BlockKind, &str)> {
        document.blocks.iter().map(|block| (block.kind, document.block_text(block))).collect()
    }

    #[test]
    fn paragraphs_end_at_blank_lines() {
        let document = document("one\ntwo\r\n\r\n  \nthree\n", Format::Text, "a.txt");
        assert_eq!(shape(&document), [(BlockKind::Text, "one\ntwo"), (BlockKind::Text, "three")]);
    }

    #[test]
    fn code_splits_where_something_is_defined() {
        let text = "use std::fs;\n/// Adds.\n#[must_use]\npub fn add() {\n    1\n\n    + 2\n}\nimpl<T> Thing<T> {\n}\n";
        let document = document(text, Format::Code, "a.zig");
        assert_eq!(
            shape(&document),
            [
                (BlockKind::Code, "use std::fs;"),
                (BlockKind::Definition, "/// Adds.\n#[must_use]\npub fn add() {\n    1"),
                (BlockKind::Code, "    + 2\n}"),
                (BlockKind::Definition, "impl<T> Thing<T> {\n}"),
            ]
        );
    }

    #[test]
    fn a_table_is_headed_by_its_first_line() {
        let document = document("name,price\nsoap,2\nrice,3\n", Format::Data, "x.csv");
        let kinds: Vec<_> = document.blocks.iter().map(|block| block.kind).collect();
        assert_eq!(kinds, [BlockKind::Heading(1), BlockKind::Row, BlockKind::Row]);
    }
}
