//! What a document says of itself beside its text: who wrote it, when, in which language. Pure.
//!
//! Whoever wrote a file chose these words, and the child that read them isn't trusted: all are bounded here, and a
//! date counts only where a document can have been written then.

use crate::document::{Document, Format};
use std::fmt;

/// Text that is looked at for its language.
const LANGUAGE_CHARS_MAX: usize = 4000;
/// Shorter texts are in no particular language.
const LANGUAGE_CHARS_MIN: usize = 40;
const AUTHOR_CHARS_MAX: usize = 200;
const TITLE_CHARS_MAX: usize = 300;
/// Headers stand within so many lines.
const HEAD_LINES_MAX: usize = 64;

/// What is known of a document's origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Several have commas between them.
    pub author: Option<String>,
    /// ISO 639-1: `en`, `de`; ISO 639-3 where there are no two letters.
    pub language: Option<String>,
    /// The day that the document gives as its own.
    pub written: Option<Day>,
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

impl fmt::Display for Day {
    /// `2026-03-09`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in `of_date`, years begin in March. A day that nobody can mean is shown as the nearest that can be.
        let days = self.0.clamp(-719_162, 2_932_896) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", era * 400 + year + later)
    }
}

/// What is kept of what a document says. `today` is the day on which it is read.
pub(crate) fn about(document: &Document, today: Day) -> About {
    let said = &document.said;
    let (author, created) = match document.format {
        Format::Mail => (header(document, "from"), header(document, "date")),
        _ => (said.author.as_deref(), said.created.as_deref()),
    };
    About {
        author: author.and_then(|author| tame(author, AUTHOR_CHARS_MAX)),
        language: language(document),
        written: written(said.modified.as_deref(), created, today),
    }
}

/// A document's own title, bounded.
pub(crate) fn title(title: &str) -> Option<String> {
    tame(title, TITLE_CHARS_MAX)
}

/// The first header of a mail with this name.
fn header<'a>(document: &'a Document, name: &str) -> Option<&'a str> {
    let lines = document.text.lines().take(HEAD_LINES_MAX);
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// One line of words without what could steer a terminal, at most so long; `None` when nothing is left.
fn tame(text: &str, chars_max: usize) -> Option<String> {
    // Words may stand far apart, but not so far that a line without end has to be gone through.
    let head: String = text.trim_start().chars().take(chars_max * 4).collect();
    let words: Vec<&str> =
        head.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(chars_max).collect();
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A day as a document states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stated {
    day: Day,
    /// It names the day, not only a month or a year.
    exact: bool,
}

/// No document of today's formats is older; what says so means nothing.
const YEAR_MIN: i64 = 1000;
/// Days on which the clocks of programs begin: who names one of them doesn't know the date.
const CLOCKS_BEGIN: [(i64, i64, i64); 7] =
    [(1601, 1, 1), (1899, 12, 30), (1899, 12, 31), (1900, 1, 1), (1904, 1, 1), (1970, 1, 1), (1980, 1, 1)];

/// The day on which a document's words were last written, as it states it itself.
///
/// A day counts when it lies between the year 1000 and tomorrow (it is tomorrow somewhere already) and isn't one on
/// which clocks begin. What was modified counts before what was created; where neither counts, the document has
/// no day of its own, and its file's time stands for it.
fn written(modified: Option<&str>, created: Option<&str>, today: Day) -> Option<Day> {
    let mut stated = [modified, created].into_iter().flatten().filter_map(stated);
    stated.find(|stated| is_plausible(*stated, today)).map(|stated| stated.day)
}

fn is_plausible(stated: Stated, today: Day) -> bool {
    let begins = |(year, month, day): &(i64, i64, i64)| Day::of_date(*year, *month, *day) == Some(stated.day);
    let clock = stated.exact && CLOCKS_BEGIN.iter().any(begins);
    let first = Day::of_date(YEAR_MIN, 1, 1);
    !clock && first.is_some_and(|first| stated.day >= first) && stated.day.0 <= today.0.saturating_add(1)
}

/// `2026-03-09T14:05:00Z`, `2026/3/9`, `2026-03`, `2026`, `D:20260309140500+01'00'` (PDF), `Mon, 9 Mar 2026 14:05:00 +0100`:
/// the day that its writer saw. Where day and month could be told only by guessing, none.
fn stated(text: &str) -> Option<Stated> {
    let text = text.trim();
    let text = text.strip_prefix("D:").unwrap_or(text);
    let number = |digits: &str| digits.parse::<i64>().ok();
    let digits = leading_digits(text);
    match digits.len() {
        4 => {
            let (year, rest) = (number(digits)?, &text[4..]);
            let Some(mark) = rest.chars().next() else {
                return Some(Stated { day: Day::of_date(year, 1, 1)?, exact: false });
            };
            let rest = rest.strip_prefix(['-', '/', '.'])?;
            let month = leading_digits(rest);
            let after = &rest[month.len()..];
            if month.len() > 2 {
                return None;
            }
            if after.is_empty() {
                return Some(Stated { day: Day::of_date(year, number(month)?, 1)?, exact: false });
            }
            let day = leading_digits(after.strip_prefix(mark)?);
            if day.len() > 2 {
                return None;
            }
            Some(Stated { day: Day::of_date(year, number(month)?, number(day)?)?, exact: true })
        }
        6 => Some(Stated { day: Day::of_date(number(&digits[..4])?, number(&digits[4..])?, 1)?, exact: false }),
        8..=14 => {
            let day = Day::of_date(number(&digits[..4])?, number(&digits[4..6])?, number(&digits[6..8])?)?;
            Some(Stated { day, exact: true })
        }
        _ => mail_day(text).map(|day| Stated { day, exact: true }),
    }
}

fn leading_digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

/// `Tue, 3 Mar 2026 14:05:00 +0100`; years of two digits are of the last century from 50 on.
fn mail_day(date: &str) -> Option<Day> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let date = date.split_once(',').map_or(date, |(_, rest)| rest);
    let mut words = date.split_whitespace();
    let day = words.next()?.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|own| *own == month)? as i64 + 1;
    let year = words.next()?;
    let short = year.len() == 2;
    let year: i64 = year.parse().ok()?;
    let year = match (short, year) {
        (true, 0..=49) => year + 2000,
        (true, _) => year + 1900,
        (false, _) => year,
    };
    Day::of_date(year, month, day)
}

/// The language of the text itself, or what the document says where that can't be told. Only of prose: the words of a
/// program or a table are in no language.
///
/// What a document says comes second, since it is often what its program was set to.
fn language(document: &Document) -> Option<String> {
    if matches!(document.format, Format::Code | Format::Data | Format::Csv | Format::Json) {
        return None;
    }
    let said = || document.said.language.as_deref().and_then(language_code);
    let text: String = document.text.chars().take(LANGUAGE_CHARS_MAX).collect();
    if text.chars().filter(|c| c.is_alphabetic()).count() < LANGUAGE_CHARS_MIN {
        return said();
    }
    match whatlang::detect(&text).filter(whatlang::Info::is_reliable) {
        Some(found) => Some(short(found.lang().code()).to_owned()),
        None => said(),
    }
}

/// `en-US`, `de_DE`, `deu`: the language without its country.
fn language_code(said: &str) -> Option<String> {
    let code = said.trim().split(['-', '_', '.']).next()?;
    if !(2..=3).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let code = code.to_ascii_lowercase();
    // Undetermined, several, none.
    (!matches!(code.as_str(), "und" | "mul" | "zxx")).then(|| short(&code).to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Block, BlockKind, Origin, Said};
    use proptest::prelude::*;

    const TODAY: &str = "2026-11-21";

    fn today() -> Day {
        Day::parse(TODAY).expect("a day")
    }

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
            said: Said::default(),
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

    proptest! {
        #[test]
        fn a_day_is_shown_as_it_is_read(days in -719_162i64..=2_932_896) {
            prop_assert_eq!(Day::parse(&Day(days).to_string()), Some(Day(days)));
        }

        #[test]
        fn whatever_a_document_says_is_bounded(author in ".{0,900}", date in ".{0,40}", language in ".{0,20}", title in ".{0,1300}") {
            let said = Said { author: Some(author), created: Some(date.clone()), modified: Some(date), language: Some(language) };
            let found = about(&Document { said, ..document(Format::Docx, &["42"]) }, today());
            let author = found.author.unwrap_or_default();
            prop_assert!(author.chars().count() <= AUTHOR_CHARS_MAX && !author.chars().any(char::is_control));
            prop_assert!(found.language.is_none_or(|code| (2..=3).contains(&code.len())));
            prop_assert!(found.written.is_none_or(|day| day.0 <= today().0 + 1));
            prop_assert!(super::title(&title).is_none_or(|title| title.chars().count() <= TITLE_CHARS_MAX));
        }
    }

    #[test]
    fn dates_are_read_in_the_ways_that_programs_write_them() {
        for (text, day) in [
            ("2026-03-09", Some("2026-03-09")),
            (" 2026-03-09T23:30:00Z", Some("2026-03-09")),
            ("2026-03-09 10:00", Some("2026-03-09")),
            ("2026/3/9", Some("2026-03-09")),
            ("2026.03.09", Some("2026-03-09")),
            ("2026-03", Some("2026-03-01")),
            ("2026", Some("2026-01-01")),
            ("D:20260309140500+01'00'", Some("2026-03-09")),
            ("D:202603", Some("2026-03-01")),
            ("D:2026", Some("2026-01-01")),
            ("20260309", Some("2026-03-09")),
            ("Mon, 9 Mar 2026 14:05:00 +0100", Some("2026-03-09")),
            ("9 March 2026", Some("2026-03-09")),
            ("9 Mar 98", Some("1998-03-09")),
            ("9 Mar 03", Some("2003-03-09")),
            ("03/09/2026", None),
            ("09.03.2026", None),
            ("2026-03/09", None),
            ("2026-02-30", None),
            ("2026-03-091", None),
            ("2026 was a good year", None),
            ("20261", None),
            ("next week", None),
            ("", None),
        ] {
            assert_eq!(stated(text).map(|stated| stated.day), day.and_then(Day::parse), "{text}");
        }
    }

    #[test]
    fn a_day_counts_only_where_a_document_can_have_been_written_then() {
        for (modified, created, day) in [
            (Some("2026-03-09"), Some("2025-01-02"), Some("2026-03-09")),
            (None, Some("2025-01-02"), Some("2025-01-02")),
            (Some("soon"), Some("2025-01-02"), Some("2025-01-02")),
            // Clocks that begin.
            (Some("1601-01-01T00:00:00Z"), Some("2025-01-02"), Some("2025-01-02")),
            (Some("1899-12-30"), None, None),
            (Some("1970-01-01T00:00:00Z"), None, None),
            (Some("D:19800101000000Z"), None, None),
            // A book of 1970 and one of 1865 are old, not wrong.
            (None, Some("1970"), Some("1970-01-01")),
            (None, Some("1865-11-26"), Some("1865-11-26")),
            (None, Some("0999-01-02"), None),
            (None, Some("0001-01-01"), None),
            // It is tomorrow somewhere already, and the day after tomorrow nowhere.
            (Some("2026-11-22"), None, Some("2026-11-22")),
            (Some("2026-11-23"), None, None),
            (Some("9999-12-31"), Some("2025-01-02"), Some("2025-01-02")),
            (None, None, None),
        ] {
            assert_eq!(written(modified, created, today()), day.and_then(Day::parse), "{modified:?} {created:?}");
        }
    }

    #[test]
    fn mail_and_other_documents_say_who_and_when() {
        let mail = document(
            Format::Mail,
            &["From: Ada Lund <ada@example.org>", "Date: Tue, 3 Mar 2026 14:05:00 +0100", "Hello"],
        );
        let found = about(&mail, today());
        assert_eq!(
            (found.author.as_deref(), found.written),
            (Some("Ada Lund <ada@example.org>"), Day::parse("2026-03-03"))
        );
        let said = Said {
            author: Some(" B.\n\u{1b}[2J Moss ".into()),
            created: Some("2025-01-02T10:00".into()),
            ..Said::default()
        };
        let found = about(&Document { said, ..document(Format::Docx, &["Words"]) }, today());
        assert_eq!((found.author.as_deref(), found.written), (Some("B. [2J Moss"), Day::parse("2025-01-02")));
        assert_eq!(about(&document(Format::Text, &["From: a paragraph"]), today()), About::default());
        let said = Said { author: Some("x".repeat(1 << 20)), ..Said::default() };
        let found = about(&Document { said, ..document(Format::Pdf, &["Words"]) }, today());
        assert_eq!(found.author.map(|author| author.len()), Some(AUTHOR_CHARS_MAX));
    }

    #[test]
    fn prose_is_in_a_language_and_programs_are_not() {
        let german =
            "Der Heizkessel wird einmal im Jahr gewartet, und zwar immer im Frühling, bevor die Gartenarbeit beginnt.";
        let english =
            "The boiler is serviced once a year, always in spring, before the work in the garden begins again.";
        // What the program was set to gives way to the words themselves.
        for (text, says, language) in [
            (german, None, Some("de")),
            (german, Some("en-US"), Some("de")),
            (english, None, Some("en")),
            ("42", None, None),
            ("42", Some("de_AT"), Some("de")),
            ("42", Some("FRA"), Some("fr")),
            ("42", Some("und"), None),
            ("42", Some("English"), None),
        ] {
            let said = Said { language: says.map(str::to_owned), ..Said::default() };
            let document = Document { said, ..document(Format::Text, &[text]) };
            assert_eq!(about(&document, today()).language.as_deref(), language, "{text} {says:?}");
        }
        let said = Said { language: Some("en".into()), ..Said::default() };
        let code = Document { said, ..document(Format::Code, &[english]) };
        assert_eq!(about(&code, today()).language, None);
    }
}
