//! Where words stand that have no lines of their own: on a page, in a table. Pure.

use base::{Cell, PageBox, Place};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `text_len` bytes of text from `text` on stand in one rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub text: u32,
    pub text_len: u32,
    /// A page's number, or that of a sheet's name, from 1; 0 where a file is a single table.
    pub part: u32,
    /// Left, top, right, bottom. On a page in points from its upper left corner; in a table column and row from
    /// 1, both ends within.
    pub area: [u32; 4],
}

/// The spots of one passage, relative to its text, with the names of their sheets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spots {
    pub names: Vec<String>,
    pub spots: Vec<Spot>,
}

impl Spots {
    /// Those of a document that touch a span of its text.
    pub(crate) fn within(names: &[String], spots: &[Spot], span: &Range<usize>, in_table: bool) -> Spots {
        let mut found = Spots::default();
        let first = spots.partition_point(|spot| (spot.text + spot.text_len) as usize <= span.start);
        for spot in spots[first..].iter().take_while(|spot| (spot.text as usize) < span.end) {
            let (start, end) =
                ((spot.text as usize).max(span.start), ((spot.text + spot.text_len) as usize).min(span.end));
            let mut part = spot.part;
            if let Some(name) = in_table.then(|| names.get((part as usize).wrapping_sub(1))).flatten() {
                let known = found.names.iter().position(|known| known == name);
                part = known.unwrap_or_else(|| {
                    found.names.push(name.clone());
                    found.names.len() - 1
                }) as u32
                    + 1;
            }
            let (text, text_len) = ((start - span.start) as u32, (end - start) as u32);
            found.spots.push(Spot { text, text_len, part, ..*spot });
        }
        found
    }

    fn touched(&self, range: &Range<usize>) -> impl Iterator<Item = &Spot> {
        self.spots
            .iter()
            .filter(move |spot| (spot.text as usize) < range.end && (spot.text + spot.text_len) as usize > range.start)
    }

    /// The cells that a range of the passage's text stands in. `bytes`: where it stands in the file, if it is text.
    pub(crate) fn cells(&self, range: &Range<usize>, bytes: Option<(u64, u64)>) -> Option<Place> {
        let mut touched = self.touched(range);
        let head = touched.next()?;
        let mut area = head.area;
        for spot in touched {
            area = joined(area, spot.area);
        }
        let [left, top, right, bottom] = area;
        let sheet = self.names.get((head.part as usize).wrapping_sub(1)).cloned().unwrap_or_default();
        Some(Place::Cells {
            sheet,
            first: Cell { column: left, row: top },
            last: Cell { column: right, row: bottom },
            byte_start: bytes.map(|(start, _)| start),
            byte_end: bytes.map(|(_, end)| end),
        })
    }

    /// The pages and lines of print that a range of the passage's text stands on.
    pub(crate) fn pages(&self, range: &Range<usize>) -> Option<Place> {
        let mut boxes: Vec<PageBox> = Vec::new();
        for spot in self.touched(range) {
            let [left, top, right, bottom] = spot.area;
            match boxes.last_mut() {
                // Words beside each other are one line of print.
                Some(line) if line.page == spot.part && left >= line.left && overlaps(line, top, bottom) => {
                    (line.right, line.top) = (line.right.max(right), line.top.min(top));
                    line.bottom = line.bottom.max(bottom);
                }
                _ => boxes.push(PageBox { page: spot.part, left, top, right, bottom }),
            }
        }
        let (first, last) = (boxes.first()?.page, boxes.last()?.page);
        Some(Place::Page { first, last, boxes })
    }
}

fn joined(a: [u32; 4], b: [u32; 4]) -> [u32; 4] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// Whether two stretches of height share at least half of the smaller one.
fn overlaps(line: &PageBox, top: u32, bottom: u32) -> bool {
    let shared = line.bottom.min(bottom).saturating_sub(line.top.max(top));
    shared * 2 >= (line.bottom - line.top).min(bottom.saturating_sub(top)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(text: u32, part: u32, area: [u32; 4]) -> Spot {
        Spot { text, text_len: 4, part, area }
    }

    #[test]
    fn words_of_a_line_share_a_box() {
        let spots = Spots {
            names: Vec::new(),
            spots: vec![
                spot(0, 1, [10, 100, 30, 112]),
                spot(5, 1, [34, 101, 60, 113]),
                spot(10, 1, [10, 114, 40, 126]),
                spot(15, 2, [10, 20, 40, 32]),
            ],
        };
        let line = |page, left, top, right, bottom| PageBox { page, left, top, right, bottom };
        assert_eq!(
            spots.pages(&(0..19)),
            Some(Place::Page {
                first: 1,
                last: 2,
                boxes: vec![line(1, 10, 100, 60, 113), line(1, 10, 114, 40, 126), line(2, 10, 20, 40, 32)]
            })
        );
        assert_eq!(
            spots.pages(&(6..8)),
            Some(Place::Page { first: 1, last: 1, boxes: vec![line(1, 34, 101, 60, 113)] })
        );
        assert_eq!(spots.pages(&(4..5)), None, "white space stands nowhere");
    }

    #[test]
    fn a_passage_takes_its_own_spots_and_names_along() {
        let names = ["One".to_owned(), "Two".to_owned()];
        let all = [spot(0, 1, [1, 1, 1, 1]), spot(5, 2, [1, 4, 1, 4]), spot(10, 2, [3, 5, 3, 5])];
        let own = Spots::within(&names, &all, &(5..14), true);
        assert_eq!(own.names, ["Two"]);
        assert_eq!(own.spots, [spot(0, 1, [1, 4, 1, 4]), spot(5, 1, [3, 5, 3, 5])]);
        assert_eq!(own.cells(&(0..9), None).expect("cells").to_string(), "Two!A4:C5");
        assert_eq!(own.cells(&(6..7), None).expect("cells").to_string(), "Two!C5");
    }
}
