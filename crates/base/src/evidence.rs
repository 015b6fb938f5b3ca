//! A citation names a place in a person's file and the text that stands there.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where in a file a quotation stands. Lines, pages, paragraphs, slides and chapters count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Place {
    /// Text formats: lines of the source file itself, and its bytes.
    Lines {
        first: u32,
        last: u32,
        byte_start: u64,
        byte_end: u64,
    },
    /// PDF and what was recognised on a picture.
    Page {
        first: u32,
        last: u32,
        /// The lines of print, where the file says where its letters stand.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        boxes: Vec<PageBox>,
    },
    /// Word processors: paragraphs in reading order.
    Paragraph {
        first: u32,
        last: u32,
    },
    Slide {
        first: u32,
        last: u32,
    },
    /// E-books.
    Chapter {
        first: u32,
        last: u32,
    },
    /// Tables: the smallest rectangle that holds the cells.
    Cells {
        /// Empty where a file is a single table.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sheet: String,
        first: Cell,
        last: Cell,
        /// Only where the table is text (CSV).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        byte_start: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        byte_end: Option<u64>,
    },
}

/// A rectangle on a page, in points (1/72 inch; pixels on a picture) from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageBox {
    pub page: u32,
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

/// A cell of a table; column and row count from 1. Written as spreadsheets do: `B12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cell {
    pub column: u32,
    pub row: u32,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut letters, mut rest) = (Vec::new(), self.column.max(1));
        while rest > 0 {
            letters.push(char::from(b'A' + ((rest - 1) % 26) as u8));
            rest = (rest - 1) / 26;
        }
        letters.into_iter().rev().try_for_each(|letter| write!(f, "{letter}"))?;
        write!(f, "{}", self.row)
    }
}

impl From<Cell> for String {
    fn from(cell: Cell) -> Self {
        cell.to_string()
    }
}

impl TryFrom<String> for Cell {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Cell::parse(&text).ok_or_else(|| format!("`{text}` is no cell's address, such as `B12`"))
    }
}

impl Cell {
    /// Reads `B12`, and `$B$12` too.
    pub fn parse(text: &str) -> Option<Cell> {
        let bare: String = text.chars().filter(|c| *c != '$').collect();
        let digits = bare.find(|c: char| c.is_ascii_digit())?;
        let mut column: u32 = 0;
        for letter in bare[..digits].bytes() {
            let value = u32::from(letter.to_ascii_uppercase().checked_sub(b'A')?);
            column = column.checked_mul(26)?.checked_add(value + 1).filter(|_| value < 26)?;
        }
        let row: u32 = bare[digits..].parse().ok()?;
        (column > 0 && row > 0).then_some(Cell { column, row })
    }
}

impl Place {
    /// The stretch from this place to a later one of the same file.
    pub fn through(&self, later: &Place) -> Place {
        let mut place = self.clone();
        match (&mut place, later) {
            (Place::Lines { last, byte_end, .. }, Place::Lines { last: to, byte_end: end, .. }) => {
                (*last, *byte_end) = (*to, *end);
            }
            (Place::Page { last, boxes, .. }, Place::Page { last: to, boxes: more, .. }) => {
                *last = *to;
                boxes.extend(more.iter().filter(|one| !self.holds(one)));
            }
            (Place::Paragraph { last, .. }, Place::Paragraph { last: to, .. })
            | (Place::Slide { last, .. }, Place::Slide { last: to, .. })
            | (Place::Chapter { last, .. }, Place::Chapter { last: to, .. }) => *last = *to,
            (Place::Cells { first, last, byte_end, .. }, Place::Cells { first: from, last: to, byte_end: end, .. }) => {
                *first = Cell { column: first.column.min(from.column), row: first.row.min(from.row) };
                *last = Cell { column: last.column.max(to.column), row: last.row.max(to.row) };
                *byte_end = *end;
            }
            _ => {}
        }
        place
    }

    fn holds(&self, one: &PageBox) -> bool {
        matches!(self, Place::Page { boxes, .. } if boxes.contains(one))
    }
}

impl fmt::Display for Place {
    /// `12-15`, `p.3`, `¶4-6`, `slide 2`, `Rents!A2:C4`: what follows `path:` in a printed citation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, first, last) = match self {
            Place::Lines { first, last, .. } => ("", first, last),
            Place::Page { first, last, .. } => ("p.", first, last),
            Place::Paragraph { first, last } => ("¶", first, last),
            Place::Slide { first, last } => ("slide ", first, last),
            Place::Chapter { first, last } => ("chapter ", first, last),
            Place::Cells { sheet, first, last, .. } => {
                if sheet.chars().all(char::is_alphanumeric) {
                    f.write_str(sheet)?;
                } else {
                    write!(f, "'{}'", sheet.replace('\'', "''"))?;
                }
                f.write_str(if sheet.is_empty() { "" } else { "!" })?;
                return if first == last { write!(f, "{first}") } else { write!(f, "{first}:{last}") };
            }
        };
        if first == last { write!(f, "{mark}{first}") } else { write!(f, "{mark}{first}-{last}") }
    }
}

/// One verified quotation. It exists only when `quote` was found at `place` at the time of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// The `[n]` of the printed answer, from 1.
    pub number: u32,
    /// Absolute path of the file.
    pub path: String,
    pub place: Place,
    pub title: String,
    pub quote: String,
    /// BLAKE3 of `quote`'s UTF-8 bytes, in hex.
    pub quote_hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_written_as_spreadsheets_do() {
        for (column, row, address) in [(1, 1, "A1"), (26, 9, "Z9"), (27, 10, "AA10"), (16_384, 1_048_576, "XFD1048576")]
        {
            let cell = Cell { column, row };
            assert_eq!(cell.to_string(), address);
            assert_eq!(Cell::parse(address), Some(cell));
        }
        assert_eq!(Cell::parse("$b$3"), Some(Cell { column: 2, row: 3 }));
        for wrong in ["", "A", "7", "A0", "Ä1", "A-1", "AAAAAAAAAAAA1", "A99999999999"] {
            assert_eq!(Cell::parse(wrong), None, "{wrong}");
        }
    }

    fn cells(sheet: &str, first: &str, last: &str) -> Place {
        let cell = |text: &str| Cell::parse(text).expect("an address");
        Place::Cells { sheet: sheet.into(), first: cell(first), last: cell(last), byte_start: None, byte_end: None }
    }

    #[test]
    fn places_are_printed_short_and_joined_whole() {
        assert_eq!(cells("Rents", "A2", "C4").to_string(), "Rents!A2:C4");
        assert_eq!(cells("Ann's flat", "B2", "B2").to_string(), "'Ann''s flat'!B2");
        assert_eq!(cells("", "B2", "B3").to_string(), "B2:B3");
        assert_eq!(cells("x", "B2", "D2").through(&cells("x", "A3", "C3")), cells("x", "A2", "D3"));
        let line = |top| PageBox { page: 1, left: 1, top, right: 9, bottom: top + 8 };
        let page = |boxes: Vec<PageBox>| Place::Page { first: 1, last: 1, boxes };
        assert_eq!(page(vec![line(1)]).through(&page(vec![line(1), line(10)])), page(vec![line(1), line(10)]));
        let text = serde_json::to_string(&cells("Rents", "A2", "C4")).expect("it is JSON");
        assert_eq!(text, r#"{"kind":"cells","sheet":"Rents","first":"A2","last":"C4"}"#);
        assert_eq!(serde_json::from_str::<Place>(&text).expect("it reads"), cells("Rents", "A2", "C4"));
    }
}
