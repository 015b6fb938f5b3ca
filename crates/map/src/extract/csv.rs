//! CSV and TSV: each record is a row, each cell a spot with its address and its bytes.
//!
//! Hand-written because the crates that read CSV tell where a record begins, but not a cell.

use super::build::Builder;
use super::text;
use crate::document::{BlockKind, Document, Format};
use crate::source::Decoded;

/// LIMIT: cells of one file that get an address of their own; a larger table is read as lines.
const CELLS_MAX: usize = 2 << 20;

pub(crate) fn read(decoded: &Decoded, name: &str) -> Document {
    let mark = mark(&decoded.text, name);
    if decoded.text.matches([mark, '\n']).count() >= CELLS_MAX {
        return text::read(decoded, Format::Csv, name);
    }
    let mut reading = Reading { decoded, builder: Builder::new(decoded.encoding), row: 1, column: 1, headed: false };
    reading.table(mark);
    reading.builder.into_source(Format::Csv, None)
}

/// What stands between two cells: what the first record has most of.
fn mark(text: &str, name: &str) -> char {
    if name.to_ascii_lowercase().ends_with(".tsv") {
        return '\t';
    }
    let (mut counts, mut quoted) = ([(',', 0usize), (';', 0), ('\t', 0), ('|', 0)], false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '\n' if !quoted => break,
            c if !quoted => counts.iter_mut().filter(|(mark, _)| *mark == c).for_each(|(_, count)| *count += 1),
            _ => {}
        }
    }
    // Of equals the first.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(',', |(mark, _)| mark)
}

struct Reading<'a> {
    decoded: &'a Decoded,
    builder: Builder,
    row: u32,
    column: u32,
    headed: bool,
}

impl Reading<'_> {
    fn table(&mut self, mark: char) {
        let text = self.decoded.text.as_str();
        let mut at = 0;
        while at < text.len() {
            at = self.cell(at, mark);
            match text[at..].chars().next() {
                Some(c) if c == mark => {
                    self.column += 1;
                    at += c.len_utf8();
                }
                Some(_) => {
                    at += if text[at..].starts_with("\r\n") { 2 } else { 1 };
                    self.end_record();
                }
                None => {}
            }
        }
        self.end_record();
    }

    fn end_record(&mut self) {
        let kind = if self.headed { BlockKind::Row } else { BlockKind::Heading(1) };
        self.headed |= self.builder.close(kind, 0);
        self.row += 1;
        self.column = 1;
    }

    /// Reads one cell from `at` on and returns where it ends: at a mark, an end of line or the end.
    fn cell(&mut self, at: usize, mark: char) -> usize {
        let text = self.decoded.text.as_str();
        let bare_end = |from: usize| text[from..].find([mark, '\n', '\r']).map_or(text.len(), |end| from + end);
        let lead = text[at..].len() - text[at..].trim_start_matches(' ').len();
        self.builder.gap('\t');
        let start = self.builder.at();
        let end = if text[at + lead..].starts_with('"') {
            let close = self.quoted(at + lead + 1);
            let end = bare_end(close);
            // What follows a closing quotation mark should be nothing; if it is something, it isn't lost.
            self.push(close, end);
            end
        } else {
            let end = bare_end(at);
            self.push(at, end);
            end
        };
        self.builder.spot(start, 0, [self.column, self.row, self.column, self.row]);
        end
    }

    /// The inside of a quoted cell; returns where it goes on behind the closing mark.
    fn quoted(&mut self, mut at: usize) -> usize {
        let text = self.decoded.text.as_str();
        loop {
            let Some(found) = text[at..].find('"').map(|found| at + found) else {
                self.push(at, text.len());
                return text.len();
            };
            self.push(at, found);
            if !text[found + 1..].starts_with('"') {
                return found + 1;
            }
            self.builder.push_decoded("\"", self.decoded.source(found)..self.decoded.source(found + 2));
            at = found + 2;
        }
    }

    fn push(&mut self, start: usize, end: usize) {
        let piece = &self.decoded.text[start..end];
        let lead = piece.len() - piece.trim_start().len();
        // White space inside a cell stays, at its ends it is dropped by whoever closes the row.
        if lead > 0 {
            self.builder.space();
        }
        let (from, to) = (start + lead, start + piece.trim_end().len().max(lead));
        text::push(&mut self.builder, self.decoded, from..to);
        if to < end {
            self.builder.space();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Spots;
    use crate::source::decode;

    fn document(text: &str, name: &str) -> Document {
        let document = read(&decode(text.as_bytes()).expect("text"), name);
        assert_eq!(document.check(text.len()), Ok(()), "{document:#?}");
        document
    }

    fn shape(document: &Document) -> Vec<(BlockKind, &str)> {
        document.blocks.iter().map(|block| (block.kind, document.block_text(block))).collect()
    }

    #[test]
    fn cells_have_addresses_and_rows_may_have_many_lines() {
        let text = "name,price,\"what for\"\r\nsoap,2,\"hands, and\r\n\"\"feet\"\"\"\r\n,,\r\nrice , 3,food";
        let document = document(text, "x.csv");
        assert_eq!(
            shape(&document),
            [
                (BlockKind::Heading(1), "name\tprice\twhat for"),
                (BlockKind::Row, "soap\t2\thands, and \"feet\""),
                (BlockKind::Row, "rice\t3\tfood"),
            ]
        );
        let at = document.text.find("\"feet\"").expect("there");
        let spots = Spots { names: Vec::new(), spots: document.spots.clone() };
        assert_eq!(spots.cells(&(at..at + 6), None).expect("a cell").to_string(), "C2");
        let at = document.text.find("rice\t3").expect("there");
        assert_eq!(spots.cells(&(at..document.text.trim_end().len()), None).expect("cells").to_string(), "A4:C4");
    }

    #[test]
    fn the_mark_is_found_out() {
        assert_eq!(shape(&document("a;b\n1,5;2\n", "x.csv"))[1].1, "1,5\t2");
        assert_eq!(shape(&document("a\tb\n1\t2, or 3\n", "x.tsv"))[1].1, "1\t2, or 3");
        assert_eq!(shape(&document("one column\nwith, a comma\n", "x.csv"))[1].1, "with\ta comma");
    }

    #[test]
    fn broken_quotes_lose_nothing() {
        let document = document("a,b\n\"open,1\nand on\n\"x\"y,2", "x.csv");
        for word in ["open", "and on", "x", "y", "2"] {
            assert!(document.text.contains(word), "{word}: {}", document.text);
        }
    }
}
