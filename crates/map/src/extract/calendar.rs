//! Calendars (ICS): each event, task and journal entry with its summary, times, place, people and description.
//!
//! Lines are unfolded by hand, because the crates for calendars don't tell where a value stands.

use super::build::Builder;
use super::spell::{calendar_escape, calendar_time};
use super::text;
use crate::document::{BlockKind, Document, Format};
use crate::source::Decoded;
use std::ops::Range;

/// Properties that people search by; the rest is for programs.
const KEPT: [&str; 16] = [
    "SUMMARY",
    "DTSTART",
    "DTEND",
    "DUE",
    "DURATION",
    "LOCATION",
    "DESCRIPTION",
    "ORGANIZER",
    "ATTENDEE",
    "STATUS",
    "CATEGORIES",
    "RRULE",
    "COMMENT",
    "CONTACT",
    "URL",
    "COMPLETED",
];

pub(crate) fn read(decoded: &Decoded, name: &str) -> Document {
    let mut reading = Reading { decoded, builder: Builder::new(decoded.encoding), title: None };
    let lines = unfolded(&decoded.text);
    let mut entry: Option<usize> = None;
    for (at, line) in lines.iter().enumerate() {
        let (property, value) = reading.split(line);
        let component = || reading.decoded.text[value.start..line.end].trim();
        match (property.as_str(), entry) {
            ("BEGIN", _) if matches!(component(), "VEVENT" | "VTODO" | "VJOURNAL") => entry = Some(at),
            ("END", Some(start)) if matches!(component(), "VEVENT" | "VTODO" | "VJOURNAL") => {
                reading.entry(&lines[start..at]);
                entry = None;
            }
            ("X-WR-CALNAME", None) => reading.title = Some(component().to_owned()).filter(|name| !name.is_empty()),
            _ => {}
        }
    }
    // One that is cut off is read as far as it goes.
    if let Some(start) = entry {
        reading.entry(&lines[start..]);
    }
    let Reading { builder, title, .. } = reading;
    let document = builder.into_source(Format::Calendar, title);
    if document.blocks.is_empty() { text::read(decoded, Format::Calendar, name) } else { document }
}

/// Lines with those that are folded into them, as ranges of the text.
fn unfolded(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.trim_end_matches(['\r', '\n']).len();
        match found.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.end = end,
            _ => found.push(at..end),
        }
        at += line.len();
    }
    found
}

struct Reading<'a> {
    decoded: &'a Decoded,
    builder: Builder,
    title: Option<String>,
}

impl Reading<'_> {
    /// The name in capitals, without parameters, and where the value stands.
    fn split(&self, line: &Range<usize>) -> (String, Range<usize>) {
        let text = &self.decoded.text[line.clone()];
        let mut quoted = false;
        let colon = text.find(|c: char| {
            quoted ^= c == '"';
            c == ':' && !quoted
        });
        let Some(colon) = colon else { return (String::new(), line.end..line.end) };
        let name = text[..colon].split(';').next().unwrap_or_default().to_ascii_uppercase();
        (name, line.start + colon + 1..line.end)
    }

    fn entry(&mut self, lines: &[Range<usize>]) {
        let mut inner = 0usize;
        let mut kept = Vec::new();
        for line in lines.iter().skip(1) {
            let (property, value) = self.split(line);
            match property.as_str() {
                // Alarms have descriptions of their own.
                "BEGIN" => inner += 1,
                "END" => inner = inner.saturating_sub(1),
                name if inner == 0 && KEPT.contains(&name) => kept.push((property, line.clone(), value)),
                _ => {}
            }
        }
        if let Some((_, _, value)) = kept.iter().find(|(name, _, _)| name == "SUMMARY") {
            let summary = value.clone();
            let words = plain(&self.decoded.text[summary]);
            self.builder.label(&words, 1);
        }
        for (name, line, value) in kept {
            let start = line.start..line.start + name.len();
            self.builder.push(&self.decoded.text[start.clone()], self.source(start));
            self.builder.push(":", self.source(value.start - 1..value.start));
            self.builder.space();
            self.value(value);
            self.builder.gap('\n');
        }
        self.builder.close(BlockKind::Text, 0);
    }

    fn source(&self, range: Range<usize>) -> Range<usize> {
        self.decoded.source(range.start)..self.decoded.source(range.end)
    }

    fn value(&mut self, range: Range<usize>) {
        let text = &self.decoded.text;
        if let Some(time) = calendar_time(&text[range.clone()]) {
            return self.builder.push_decoded(&time, self.source(range));
        }
        let mut at = range.start;
        while at < range.end {
            let plain = text[at..range.end].find(['\\', '\r', '\n']).map_or(range.end, |found| at + found);
            text::push(&mut self.builder, self.decoded, at..plain);
            at = plain;
            let rest = &text[at..range.end];
            if let Some(escape) = rest.get(..2).and_then(calendar_escape) {
                self.builder.push_decoded(escape, self.source(at..at + 2));
                at += 2;
            } else if rest.starts_with('\\') {
                text::push(&mut self.builder, self.decoded, at..at + 1);
                at += 1;
            } else {
                // A fold: an end of line and one white space.
                let fold = rest.find('\n').map_or(rest.len(), |feed| (feed + 2).min(rest.len()));
                at += fold;
            }
        }
    }
}

/// A value without escapes and folds, on one line.
fn plain(value: &str) -> String {
    let unfolded = value.replace("\r\n ", "").replace("\r\n\t", "").replace("\n ", "").replace("\n\t", "");
    unfolded.replace("\\n", " ").replace("\\N", " ").replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Origin;
    use crate::source::{decode, locate};

    const CALENDAR: &str = "BEGIN:VCALENDAR\r\nX-WR-CALNAME:Home\r\nBEGIN:VTIMEZONE\r\nDTSTART:19700101T000000\r\nEND:VTIMEZONE\r\n\
        BEGIN:VEVENT\r\nUID:1@example.org\r\nDTSTART;TZID=Europe/Berlin:20250310T093000\r\nSUMMARY:Dentist\\, Dr. B\r\n olt\r\n\
        LOCATION:Mill Street 4\r\nDESCRIPTION:Bring the card.\\nAsk about the\r\n  crown.\r\nBEGIN:VALARM\r\nDESCRIPTION:beep\r\n\
        END:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    #[test]
    fn events_are_read_with_their_times_and_places() {
        let document = read(&decode(CALENDAR.as_bytes()).expect("text"), "x.ics");
        assert_eq!(document.check(CALENDAR.len()), Ok(()), "{document:#?}");
        assert_eq!(document.title.as_deref(), Some("Home"));
        assert_eq!(document.names, ["Dentist, Dr. Bolt"]);
        assert_eq!(
            document.text.trim_end(),
            "DTSTART: 2025-03-10 09:30\nSUMMARY: Dentist, Dr. Bolt\nLOCATION: Mill Street 4\n\
             DESCRIPTION: Bring the card.\nAsk about the crown."
        );
        let Origin::Source { runs, encoding } = &document.origin else { panic!("it has runs") };
        let at = document.text.find("Dr. Bolt").expect("there");
        let place = locate(&document.text, runs, *encoding, at..at + 8).expect("it has bytes");
        assert_eq!(&CALENDAR[place.start as usize..place.end as usize], "Dr. B\r\n olt");
    }

    #[test]
    fn a_calendar_without_entries_is_read_as_lines() {
        let text = "BEGIN:VCALENDAR\r\nPRODID:x\r\nEND:VCALENDAR\r\n";
        assert_eq!(read(&decode(text.as_bytes()).expect("text"), "x.ics").text, text);
    }
}
