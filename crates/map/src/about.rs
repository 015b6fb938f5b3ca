//! What a document says of itself beside its text: who wrote it, when, in which language. Pure.

use crate::document::{Document, Format};

/// Text that is looked at for its language.
const LANGUAGE_CHARS_MAX: usize = 4000;
/// Shorter texts are in no particular language.
const LANGUAGE_CHARS_MIN: usize = 40;
const AUTHOR_CHARS_MAX: usize = 200;
/// Headers and front matter stand within so many lines.
const HEAD_LINES_MAX: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) author: Option<String>,
    /// ISO 639-1: `en`, `de`; ISO 639-3 where there are no two letters.
    pub(crate) language: Option<String>,
    /// The day that the document gives as its own.
    pub(crate) written: Option<Day>,
}

/// Days since 1 January 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

const NS_PER_DAY: i64 = 86_400_000_000_000;

impl Day {
    pub fn of_ns(modified_ns: i64) -> Self {
        Self(modified_ns.div_euclid(NS_PER_DAY))
    }

    /// `None` when there is no such day.
    pub fn of_date(year: i64, month: i64, day: i64) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=length).contains(&day) || !(1..=9999).contains(&year) {
            return None;
        }
        // Years that begin in March end with the leap day.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * month + 2) / 5 + day - 1;
        Some(Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468))
    }

    /// `2026`, `2026-03` or `2026-03-09`: the first day of it.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.trim().split('-').collect();
        let number = |at: usize, digits: usize| {
            let part: &&str = parts.get(at)?;
            (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
        };
        match parts.len() {
            1 => Self::of_date(number(0, 4)?, 1, 1),
            2 => Self::of_date(number(0, 4)?, number(1, 2)?, 1),
            3 => Self::of_date(number(0, 4)?, number(1, 2)?, number(2, 2)?),
            _ => None,
        }
    }
}

/// Reads the headers of mail, the front matter of Markdown, and the text for its language.
pub(crate) fn about(document: &Document) -> About {
    let (author, written) = match document.format {
        Format::Mail => {
            let field = |name: &str| {
                let lines = document.text.lines().take(HEAD_LINES_MAX);
                lines
                    .map(|line| line.split_once(':'))
                    .find_map(|line| line.filter(|(own, _)| own.eq_ignore_ascii_case(name)))
            };
            (field("from").map(|(_, from)| from.trim().to_owned()), field("date").and_then(|(_, date)| mail_day(date)))
        }
        Format::Markdown => {
            let field = |name: &str| {
                let front = document.blocks.first().map_or("", |block| document.block_text(block));
                let lines = front.lines().take(HEAD_LINES_MAX);
                let value = lines
                    .map(|line| line.split_once(':'))
                    .find_map(|line| Some(line?).filter(|(own, _)| *own == name))?
                    .1;
                Some(value.trim().trim_matches(['"', '\'']).trim().to_owned())
            };
            (field("author"), field("date").and_then(|date| Day::parse(date.get(..10).unwrap_or(&date))))
        }
        _ => (None, None),
    };
    let author =
        author.filter(|author| !author.is_empty()).map(|author| author.chars().take(AUTHOR_CHARS_MAX).collect());
    About { author, language: language(document), written }
}

/// Only of prose: the words of a program or a table are in no language.
fn language(document: &Document) -> Option<String> {
    if matches!(document.format, Format::Code | Format::Data | Format::Csv | Format::Json) {
        return None;
    }
    let text: String = document.text.chars().take(LANGUAGE_CHARS_MAX).collect();
    if text.chars().filter(|c| c.is_alphabetic()).count() < LANGUAGE_CHARS_MIN {
        return None;
    }
    let found = whatlang::detect(&text).filter(whatlang::Info::is_reliable)?;
    Some(short(found.lang().code()).to_owned())
}

/// The two letters of a language, where it has some, by its three.
fn short(code: &str) -> &str {
    const SHORT: [(&str, &str); 34] = [
        ("eng", "en"),
        ("deu", "de"),
        ("fra", "fr"),
        ("spa", "es"),
        ("ita", "it"),
        ("por", "pt"),
        ("nld", "nl"),
        ("swe", "sv"),
        ("dan", "da"),
        ("nob", "nb"),
        ("fin", "fi"),
        ("pol", "pl"),
        ("ces", "cs"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("hrv", "hr"),
        ("srp", "sr"),
        ("hun", "hu"),
        ("ron", "ro"),
        ("bul", "bg"),
        ("ell", "el"),
        ("rus", "ru"),
        ("ukr", "uk"),
        ("bel", "be"),
        ("tur", "tr"),
        ("ara", "ar"),
        ("heb", "he"),
        ("hin", "hi"),
        ("cmn", "zh"),
        ("jpn", "ja"),
        ("kor", "ko"),
        ("vie", "vi"),
        ("tha", "th"),
        ("cat", "ca"),
    ];
    SHORT.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short)
}

/// `Tue, 3 Mar 2026 14:05:00 +0100`: the day that its writer saw.
fn mail_day(date: &str) -> Option<Day> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let date = date.split_once(',').map_or(date, |(_, rest)| rest);
    let mut words = date.split_whitespace();
    let day = words.next()?.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|own| *own == month)? as i64 + 1;
    Day::of_date(words.next()?.parse().ok()?, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Block, BlockKind, Origin};

    fn document(format: Format, blocks: &[&str]) -> Document {
        let mut text = String::new();
        let blocks = blocks.iter().map(|block| {
            let start = text.len() as u32;
            text.push_str(block);
            let end = text.len() as u32;
            text.push_str("\n\n");
            Block { start, end, kind: BlockKind::Text, part: 1 }
        });
        let blocks = blocks.collect();
        Document {
            title: None,
            format,
            text,
            blocks,
            origin: Origin::Parts,
            names: Vec::new(),
            spots: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn days_are_counted_from_1970() {
        for (text, day) in [
            ("1970-01-01", Some(0)),
            ("1970", Some(0)),
            ("2000-02-29", Some(11_016)),
            ("2026-03", Some(20_513)),
            ("1969-12-31", Some(-1)),
            ("2026-02-29", None),
            ("2026-13", None),
            ("26-01-01", None),
            ("yesterday", None),
            ("2026-1-1", None),
        ] {
            assert_eq!(Day::parse(text), day.map(Day), "{text}");
        }
        assert_eq!((Day::of_ns(-1), Day::of_ns(86_400_000_000_000)), (Day(-1), Day(1)));
    }

    #[test]
    fn mail_and_front_matter_say_who_and_when() {
        let mail = document(
            Format::Mail,
            &["From: Ada Lund <ada@example.org>", "Date: Tue, 3 Mar 2026 14:05:00 +0100", "Hello"],
        );
        let found = about(&mail);
        assert_eq!(
            (found.author.as_deref(), found.written),
            (Some("Ada Lund <ada@example.org>"), Day::parse("2026-03-03"))
        );
        let note = document(Format::Markdown, &["title: Notes\nauthor: \"B. Moss\"\ndate: 2025-01-02T10:00", "Words"]);
        let found = about(&note);
        assert_eq!((found.author.as_deref(), found.written), (Some("B. Moss"), Day::parse("2025-01-02")));
        assert_eq!(about(&document(Format::Markdown, &["Plain words", "author: nobody"])), About::default());
        assert_eq!(about(&document(Format::Text, &["From: a paragraph"])), About::default());
    }

    #[test]
    fn prose_is_in_a_language_and_programs_are_not() {
        let german =
            "Der Heizkessel wird einmal im Jahr gewartet, und zwar immer im Frühling, bevor die Gartenarbeit beginnt.";
        let english =
            "The boiler is serviced once a year, always in spring, before the work in the garden begins again.";
        for (text, language) in [(german, Some("de")), (english, Some("en")), ("42", None)] {
            assert_eq!(about(&document(Format::Text, &[text])).language.as_deref(), language, "{text}");
        }
        assert_eq!(about(&document(Format::Code, &[english])).language, None);
    }
}
