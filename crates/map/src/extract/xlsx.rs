//! XLSX: each row with words is a block, each cell a spot with its address. Formulas count by the value that
//! was saved with them; macros and pictures aren't looked at.
//!
//! Sheets are read as a stream of cells, so that a sheet with one cell in its last corner costs one cell.

use super::Refused;
use super::build::Builder;
use super::package::Package;
use super::said::Told;
use super::xml::{attribute, number, reference};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use base::Cell;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use time::Date;

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let mut package = Package::open(bytes, "XLSX")?;
    let book = package.needed("xl/workbook.xml")?;
    let relations = package.relations("xl/workbook.xml")?;
    let Told { title, said, .. } = package.core()?;
    let strings = package.text("xl/sharedStrings.xml")?.map(|xml| shared(&xml)).transpose()?.unwrap_or_default();
    let dated = package.text("xl/styles.xml")?.map(|xml| dated_styles(&xml)).unwrap_or_default();
    let (sheets, since_1904) = sheets(&book);
    let mut builder = Builder::new(Encoding::Utf8);
    for (name, id) in sheets {
        let Some(part) = relations.get(&id) else { continue };
        // A sheet that isn't a table, such as a chart, has no cells.
        let Some(xml) = package.text(part)? else { continue };
        let sheet = builder.part(&name);
        let reading = Sheet { strings: &strings, dated: &dated, since_1904, sheet, builder: &mut builder };
        reading.read(&xml)?;
    }
    Ok(Document { said, ..builder.into_parts(Format::Xlsx, title) })
}

/// Names and relations of the sheets in their order, and whether days are counted from 1904.
fn sheets(xml: &str) -> (Vec<(String, String)>, bool) {
    let (mut found, mut since_1904, mut reader) = (Vec::new(), false, Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element) => match element.local_name().as_ref() {
                b"sheet" => {
                    if let (Some(name), Some(id)) = (attribute(&element, b"name"), attribute(&element, b"id")) {
                        found.push((name, id));
                    }
                }
                b"workbookPr" => {
                    since_1904 = attribute(&element, b"date1904").is_some_and(|value| value == "1" || value == "true");
                }
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    (found, since_1904)
}

/// The table of words that cells refer to. What is spoken (`rPh`) is left out.
fn shared(xml: &str) -> Result<Vec<String>, Refused> {
    let (mut found, mut words) = (Vec::new(), String::new());
    let (mut text, mut spoken) = (false, false);
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(|error| Refused::broken(format!("its words are broken XML: {error}")))? {
            Event::Start(element) => match element.local_name().as_ref() {
                b"si" => words.clear(),
                b"t" => text = !spoken,
                b"rPh" => spoken = true,
                _ => {}
            },
            Event::Empty(element) if element.local_name().as_ref() == b"si" => found.push(String::new()),
            Event::Text(piece) if text => words.push_str(&piece.decode().unwrap_or_default()),
            Event::GeneralRef(entity) if text => words.push_str(&reference(&entity)),
            Event::End(element) => match element.local_name().as_ref() {
                b"si" => found.push(std::mem::take(&mut words)),
                b"t" => text = false,
                b"rPh" => spoken = false,
                _ => {}
            },
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

/// What a number means by its cell's style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Number,
    Date,
    Time,
    Percent,
}

/// By the number of a cell's style.
fn dated_styles(xml: &str) -> Vec<Shown> {
    let (mut own, mut found) = (std::collections::HashMap::new(), Vec::new());
    let (mut cells, mut reader) = (false, Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element) => match element.local_name().as_ref() {
                b"numFmt" => {
                    if let (Some(id), Some(code)) = (number(&element, b"numFmtId"), attribute(&element, b"formatCode"))
                    {
                        own.insert(id, shown_by(&code));
                    }
                }
                b"cellXfs" => cells = true,
                b"xf" if cells => {
                    let id = number(&element, b"numFmtId").unwrap_or(0);
                    found.push(own.get(&id).copied().unwrap_or(match id {
                        9 | 10 => Shown::Percent,
                        14..=17 | 22 => Shown::Date,
                        18..=21 | 45..=47 => Shown::Time,
                        _ => Shown::Number,
                    }));
                }
                _ => {}
            },
            Event::End(element) if element.local_name().as_ref() == b"cellXfs" => cells = false,
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

/// What a number format makes of a number: days and years make dates, hours make times.
fn shown_by(code: &str) -> Shown {
    let (mut bare, mut quoted, mut bracket) = (String::new(), false, false);
    let mut letters = code.split(';').next().unwrap_or_default().chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' | '_' | '*' => drop(letters.next()),
            '[' => bracket = true,
            ']' => bracket = false,
            c if !quoted && !bracket => bare.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    if bare.contains("general") {
        Shown::Number
    } else if bare.contains(['d', 'y']) {
        Shown::Date
    } else if bare.contains(['h', 's']) {
        Shown::Time
    } else if bare.contains('%') {
        Shown::Percent
    } else {
        Shown::Number
    }
}

struct Sheet<'a> {
    strings: &'a [String],
    dated: &'a [Shown],
    since_1904: bool,
    sheet: u32,
    builder: &'a mut Builder,
}

/// The cell that is being read.
#[derive(Default)]
struct Open {
    at: Option<Cell>,
    kind: String,
    style: usize,
    value: String,
}

impl Sheet<'_> {
    fn read(mut self, xml: &str) -> Result<(), Refused> {
        let mut reader = Reader::from_str(xml);
        let (mut next, mut open, mut text) = (Cell { column: 1, row: 0 }, Open::default(), false);
        loop {
            match reader.read_event().map_err(|error| Refused::broken(format!("a sheet is broken XML: {error}")))? {
                Event::Start(element) => match element.local_name().as_ref() {
                    b"row" => {
                        next = Cell { column: 1, row: number(&element, b"r").unwrap_or(next.row.saturating_add(1)) }
                    }
                    b"c" => open = self.cell(&element, &mut next),
                    b"v" | b"t" => text = true,
                    // What is spoken, and the formula itself.
                    _ => {}
                },
                Event::Empty(element) if element.local_name().as_ref() == b"c" => drop(self.cell(&element, &mut next)),
                Event::Text(piece) if text => open.value.push_str(&piece.decode().unwrap_or_default()),
                Event::GeneralRef(entity) if text => open.value.push_str(&reference(&entity)),
                Event::End(element) => match element.local_name().as_ref() {
                    b"v" | b"t" => text = false,
                    b"c" => self.write(std::mem::take(&mut open)),
                    b"row" => drop(self.builder.close(BlockKind::Row, 0)),
                    b"sheetData" => return Ok(()),
                    _ => {}
                },
                Event::Eof => return Ok(()),
                _ => {}
            }
            if self.builder.is_full() {
                return Err(Refused::too_large());
            }
        }
    }

    /// A cell may say where it is; otherwise it follows the one before.
    fn cell(&self, element: &BytesStart<'_>, next: &mut Cell) -> Open {
        let at = attribute(element, b"r").and_then(|text| Cell::parse(&text)).unwrap_or(*next);
        *next = Cell { column: at.column.saturating_add(1), row: at.row };
        let kind = attribute(element, b"t").unwrap_or_default();
        let style = number(element, b"s").unwrap_or(0) as usize;
        Open { at: Some(at), kind, style, value: String::new() }
    }

    fn write(&mut self, open: Open) {
        let Some(at) = open.at else { return };
        let words = match open.kind.as_str() {
            "s" => {
                open.value.trim().parse::<usize>().ok().and_then(|i| self.strings.get(i)).cloned().unwrap_or_default()
            }
            "b" => if open.value.trim() == "1" { "TRUE" } else { "FALSE" }.to_owned(),
            "" | "n" => self.number(&open),
            _ => open.value,
        };
        if words.trim().is_empty() {
            return;
        }
        self.builder.gap('\t');
        let start = self.builder.at();
        self.builder.push_free(words.trim());
        self.builder.spot(start, self.sheet, [at.column, at.row, at.column, at.row]);
    }

    /// A number as a person sees it, as far as its style tells: dates, times and shares.
    fn number(&self, open: &Open) -> String {
        let shown = self.dated.get(open.style).copied().unwrap_or(Shown::Number);
        let Ok(value) = open.value.trim().parse::<f64>() else { return open.value.clone() };
        match shown {
            Shown::Number => plain(value, &open.value),
            Shown::Percent => format!("{}%", plain((value * 1e8).round() / 1e6, "")),
            Shown::Date | Shown::Time => {
                day_and_time(value, self.since_1904, shown == Shown::Time).unwrap_or_else(|| open.value.clone())
            }
        }
    }
}

/// Without the noise of binary fractions: `0.30000000000000004` was typed as `0.3`.
fn plain(value: f64, written: &str) -> String {
    const EXACT_DIGITS: usize = 15;
    if written.len() > 1 && written.bytes().all(|byte| byte.is_ascii_digit()) {
        return written.to_owned();
    }
    let rounded: f64 = format!("{value:.*e}", EXACT_DIGITS - 1).parse().unwrap_or(value);
    rounded.to_string()
}

const UNIX_EPOCH_JULIAN_DAY: i32 = 2_440_588;

/// Days since the turn of 1900 (or 1904) as a date; `None` when it is none.
fn day_and_time(value: f64, since_1904: bool, time_only: bool) -> Option<String> {
    const DAYS_MAX: f64 = 2_958_466.0;
    if !(0.0..DAYS_MAX).contains(&value) {
        return None;
    }
    let seconds = (value.fract() * 86_400.0).round() as u64;
    let (days, seconds) = (value.trunc() as i64 + (seconds / 86_400) as i64, seconds % 86_400);
    let clock = if seconds % 60 == 0 {
        format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60)
    } else {
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    if time_only && days == 0 {
        return Some(clock);
    }
    // Day 60 is a 29 February 1900 that never was.
    let shift = if since_1904 { 24_107 } else { 25_569 - i64::from(days < 60) };
    let julian = i32::try_from(days - shift).ok()?.checked_add(UNIX_EPOCH_JULIAN_DAY)?;
    let date = Date::from_julian_day(julian).ok()?;
    let date = format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day());
    Some(if seconds == 0 { date } else { format!("{date} {clock}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_their_style_says() {
        for (code, shown) in [
            ("yyyy\\-mm\\-dd", Shown::Date),
            ("[$-407]d. mmmm yyyy", Shown::Date),
            ("hh:mm", Shown::Time),
            ("0.00%", Shown::Percent),
            ("#,##0.00 \"days\"", Shown::Number),
            ("[Red]0.00;d", Shown::Number),
            ("General", Shown::Number),
        ] {
            assert_eq!(shown_by(code), shown, "{code}");
        }
        for (value, since_1904, text) in [
            (1.0, false, "1900-01-01"),
            (59.0, false, "1900-02-28"),
            (61.0, false, "1900-03-01"),
            (45_658.0, false, "2025-01-01"),
            (45_658.5, false, "2025-01-01 12:00"),
            (44_196.0, true, "2025-01-01"),
        ] {
            assert_eq!(day_and_time(value, since_1904, false).as_deref(), Some(text), "{value}");
        }
        assert_eq!(day_and_time(0.75, false, true).as_deref(), Some("18:00"));
        assert_eq!(day_and_time(1e12, false, false), None);
        assert_eq!(plain(0.1 + 0.2, "0.30000000000000004"), "0.3");
        assert_eq!(plain(1150.0, "1150"), "1150");
        assert_eq!(plain(1.0, "00012345678901234567"), "00012345678901234567");
    }
}
