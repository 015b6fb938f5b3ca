//! Dates as people write them, in ISO 8601: `2026-03-09`, or as much of it as they say.

use super::{DateOrder, Found, Ruling};

/// LIMIT: days from today, either way; each month between is walked over.
const DAYS_MAX: u64 = 366 * 100;

/// A day that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let there = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=length(year, month)).contains(&day);
        there.then_some(Self { year, month, day })
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.trim().split('-').collect();
        let [year, month, day] = parts.as_slice() else { return None };
        let number = |part: &str, digits: usize| {
            (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok()).flatten()
        };
        Self::new(number(year, 4)?, number(month, 2)?, number(day, 2)?)
    }

    fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn plus(self, days: i64) -> Option<Self> {
        let Self { mut year, mut month, mut day } = self;
        if days.unsigned_abs() > DAYS_MAX {
            return None;
        }
        day += days;
        while day < 1 {
            (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
            day += length(year, month);
        }
        while day > length(year, month) {
            day -= length(year, month);
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        Self::new(year, month, day)
    }
}

fn length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// English, German, French, Spanish, Italian, Portuguese, Dutch.
const MONTHS: [&[&str]; 12] = [
    &["january", "januar", "jänner", "janvier", "enero", "gennaio", "janeiro", "januari"],
    &["february", "februar", "février", "fevrier", "febrero", "febbraio", "fevereiro", "februari"],
    &["march", "märz", "maerz", "mars", "marzo", "março", "maart"],
    &["april", "avril", "abril", "aprile"],
    &["may", "mai", "mayo", "maggio", "maio", "mei"],
    &["june", "juni", "juin", "junio", "giugno", "junho"],
    &["july", "juli", "juillet", "julio", "luglio", "julho"],
    &["august", "août", "aout", "agosto", "augustus"],
    &["september", "septembre", "septiembre", "settembre", "setembro"],
    &["october", "oktober", "octobre", "octubre", "ottobre", "outubro"],
    &["november", "novembre", "noviembre", "novembro"],
    &["december", "dezember", "décembre", "decembre", "diciembre", "dicembre", "dezembro"],
];

/// `mar`, `sept`, `Jan.`: the beginning of a month's name, where it can be only one.
fn month(word: &str) -> Option<i64> {
    let word = word.trim_end_matches('.').to_lowercase();
    if word.chars().count() < 3 {
        return None;
    }
    let begins =
        |names: &&[&str]| names.iter().any(|name| *name == word || (name.starts_with(&word) && word.len() <= 5));
    let mut found = MONTHS.iter().enumerate().filter(|(_, names)| begins(names));
    let (at, _) = found.next()?;
    found.next().is_none().then_some(at as i64 + 1)
}

pub(crate) fn read(text: &str, order: DateOrder, today: Option<Day>) -> Ruling {
    let lower = text.trim().trim_end_matches('.').to_lowercase();
    if let Some(day) = relative(&lower) {
        let Some(today) = today else {
            return Ruling::Undecided("this counts from today: say which day that is (`today`)".into());
        };
        return today.plus(day).map_or(Ruling::Unread, whole);
    }
    // A time behind a date, and the day of the week before it, are no part of it.
    let date = lower.split(['t', ' ']).next().and_then(Day::parse);
    if let Some(day) = date {
        return whole(day);
    }
    let words: Vec<&str> =
        lower.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !is_filler(word)).collect();
    match words.as_slice() {
        [one] => numeric(one, order),
        [_, _] | [_, _, _] => with_month(&words),
        _ => Ruling::Unread,
    }
}

/// Whether year, month and day of what a model said are those of a text, in digits or by the month's name.
pub(super) fn stands(text: &str, said: &str) -> bool {
    let Some(day) = Day::parse(said) else { return false };
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let numbers: Vec<i64> =
        words.iter().filter_map(|word| word.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()).collect();
    let months = words.iter().any(|word| month(word) == Some(day.month));
    (numbers.contains(&day.year) || numbers.contains(&(day.year % 100)))
        && numbers.contains(&day.day)
        && (months || numbers.contains(&day.month))
}

fn whole(day: Day) -> Ruling {
    let fields = vec![("year", day.year.to_string()), ("month", day.month.to_string()), ("day", day.day.to_string())];
    Ruling::Is(Found { value: day.iso(), fields, note: None })
}

fn relative(words: &str) -> Option<i64> {
    match words {
        "today" | "heute" | "aujourd'hui" | "hoy" | "oggi" => return Some(0),
        "tomorrow" | "morgen" | "demain" | "mañana" | "domani" => return Some(1),
        "yesterday" | "gestern" | "hier" | "ayer" | "ieri" => return Some(-1),
        "the day after tomorrow" | "day after tomorrow" | "übermorgen" => return Some(2),
        "the day before yesterday" | "day before yesterday" | "vorgestern" => return Some(-2),
        _ => {}
    }
    let parts: Vec<&str> = words.split_whitespace().collect();
    let days = |count: &str, unit: &str| {
        let count: i64 = count.parse().ok()?;
        match unit {
            "day" | "days" | "tag" | "tage" | "tagen" => Some(count),
            "week" | "weeks" | "woche" | "wochen" => count.checked_mul(7),
            _ => None,
        }
    };
    match parts.as_slice() {
        ["in", count, unit] => days(count, unit),
        [count, unit, "ago"] | ["vor", count, unit] => days(count, unit).and_then(i64::checked_neg),
        _ => None,
    }
}

fn is_filler(word: &str) -> bool {
    const WEEKDAYS: [&str; 14] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "montag",
        "dienstag",
        "mittwoch",
        "donnerstag",
        "freitag",
        "samstag",
        "sonntag",
    ];
    const SHORT: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let bare = word.trim_end_matches('.');
    matches!(bare, "the" | "of" | "den" | "der" | "am" | "on" | "le" | "de" | "del" | "il" | "el")
        || WEEKDAYS.contains(&bare)
        || SHORT.contains(&bare)
}

/// `3 March 2026`, `March 3rd 2026`, `March 2026`.
fn with_month(words: &[&str]) -> Ruling {
    let Some(at) = words.iter().position(|word| month(word).is_some()) else { return Ruling::Unread };
    let Some(of_year) = month(words[at]) else { return Ruling::Unread };
    let numbers: Vec<&str> =
        words.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, word)| *word).collect();
    let ordinal = |word: &str| {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = &word[digits..];
        let ends = matches!(rest, "" | "." | "st" | "nd" | "rd" | "th" | "er" | "º" | "°");
        (ends && (1..=2).contains(&digits)).then(|| word[..digits].parse::<i64>().ok()).flatten()
    };
    match numbers.as_slice() {
        [year] => match full_year(year) {
            Some(year) => Ruling::Is(Found {
                value: format!("{year:04}-{of_year:02}"),
                fields: vec![("year", year.to_string()), ("month", of_year.to_string())],
                note: None,
            }),
            None if ordinal(year).is_some() => Ruling::Undecided("the year is missing".into()),
            None => Ruling::Unread,
        },
        [one, other] => {
            let (day, year) = match (ordinal(one), full_year(other)) {
                (Some(day), Some(year)) => (day, year),
                _ => match (full_year(one), ordinal(other)) {
                    (Some(year), Some(day)) => (day, year),
                    _ => return Ruling::Unread,
                },
            };
            Day::new(year, of_year, day).map_or_else(|| Ruling::Undecided("there is no such day".into()), whole)
        }
        _ => Ruling::Unread,
    }
}

fn full_year(word: &str) -> Option<i64> {
    (word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit())).then(|| word.parse().ok()).flatten()
}

/// `3.4.2026`, `03/04/26`, `2026/4/3`, `20260403`, `2026-04`, `2026`.
fn numeric(word: &str, order: DateOrder) -> Ruling {
    let Some(mark) = word.chars().find(|c| !c.is_ascii_digit()) else { return bare(word) };
    if !matches!(mark, '.' | '/' | '-') {
        return Ruling::Unread;
    }
    let parts: Vec<&str> = word.split(mark).collect();
    if parts.iter().any(|part| part.is_empty() || part.len() > 4 || !part.bytes().all(|b| b.is_ascii_digit())) {
        return Ruling::Unread;
    }
    let number = |part: &str| part.parse::<i64>().unwrap_or(0);
    let no_such = || Ruling::Undecided("there is no such day".into());
    match parts.as_slice() {
        [year, month] if year.len() == 4 && (1..=12).contains(&number(month)) => Ruling::Is(Found {
            value: format!("{year}-{:02}", number(month)),
            fields: vec![("year", (*year).to_owned()), ("month", number(month).to_string())],
            note: None,
        }),
        [year, month, day] if year.len() == 4 => {
            Day::new(number(year), number(month), number(day)).map_or_else(no_such, whole)
        }
        [one, other, year] if year.len() == 4 || year.len() == 2 => {
            let (year, note) = century(year);
            let (one, other) = (number(one), number(other));
            let day_first = Day::new(year, other, one);
            let month_first = Day::new(year, one, other);
            // Full stops are written where the day comes first.
            let order = if mark == '.' { DateOrder::DayFirst } else { order };
            let day = match (order, day_first, month_first) {
                (DateOrder::DayFirst, Some(day), _) | (DateOrder::MonthFirst, _, Some(day)) => day,
                (DateOrder::DayFirst | DateOrder::MonthFirst, _, _) => return no_such(),
                (DateOrder::Auto, Some(day), Some(same)) if day == same => day,
                (DateOrder::Auto, Some(one), Some(other)) => {
                    let note = format!("it is {} or {}: say which comes first (`dateOrder`)", one.iso(), other.iso());
                    return Ruling::Undecided(note);
                }
                (DateOrder::Auto, Some(day), None) | (DateOrder::Auto, None, Some(day)) => day,
                (DateOrder::Auto, None, None) => return no_such(),
            };
            match whole(day) {
                Ruling::Is(found) => Ruling::Is(Found { note, ..found }),
                other => other,
            }
        }
        _ => Ruling::Unread,
    }
}

fn bare(word: &str) -> Ruling {
    match word.len() {
        4 => Ruling::Is(Found { value: word.to_owned(), fields: vec![("year", word.to_owned())], note: None }),
        8 => Day::parse(&format!("{}-{}-{}", &word[..4], &word[4..6], &word[6..]))
            .map_or_else(|| Ruling::Undecided("there is no such day".into()), whole),
        _ => Ruling::Unread,
    }
}

/// Years of two digits are of this century up to 49.
fn century(year: &str) -> (i64, Option<String>) {
    let number: i64 = year.parse().unwrap_or(0);
    if year.len() == 4 {
        return (number, None);
    }
    let full = if number < 50 { 2000 + number } else { 1900 + number };
    (full, Some(format!("`{year}` was read as {full}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, order: DateOrder) -> Option<String> {
        match read(text, order, Day::parse("2026-03-09")) {
            Ruling::Is(found) => Some(found.value),
            Ruling::Undecided(_) | Ruling::Unread => None,
        }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2026-03-09", "2026-03-09"),
            ("2026-03-09T14:05:00Z", "2026-03-09"),
            ("3 March 2026", "2026-03-03"),
            ("March 3rd, 2026", "2026-03-03"),
            ("Tue, 3 Mar 2026", "2026-03-03"),
            ("the 3rd of March 2026", "2026-03-03"),
            ("3. März 2026", "2026-03-03"),
            ("1er août 2025", "2025-08-01"),
            ("3 de marzo de 2026", "2026-03-03"),
            ("3.4.2026", "2026-04-03"),
            ("03.04.26", "2026-04-03"),
            ("13/4/2026", "2026-04-13"),
            ("4/13/2026", "2026-04-13"),
            ("4/4/26", "2026-04-04"),
            ("2026/4/3", "2026-04-03"),
            ("20260403", "2026-04-03"),
            ("March 2026", "2026-03"),
            ("2026-03", "2026-03"),
            ("2026", "2026"),
            ("tomorrow", "2026-03-10"),
            ("vorgestern", "2026-03-07"),
            ("10 days ago", "2026-02-27"),
            ("in 3 weeks", "2026-03-30"),
            ("29 February 2028", "2028-02-29"),
        ] {
            assert_eq!(value(text, DateOrder::Auto).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_can_be_two_days_is_neither() {
        assert_eq!(value("3/4/2026", DateOrder::Auto), None);
        assert_eq!(value("3/4/2026", DateOrder::DayFirst).as_deref(), Some("2026-04-03"));
        assert_eq!(value("3/4/2026", DateOrder::MonthFirst).as_deref(), Some("2026-03-04"));
        for none in ["29 February 2026", "31.4.2026", "13/13/2026", "3 March", "soon"] {
            assert_eq!(value(none, DateOrder::Auto), None, "{none}");
        }
        assert!(matches!(read("tomorrow", DateOrder::Auto, None), Ruling::Undecided(_)));
        for far in ["in -9223372036854775808 days", "-9223372036854775808 days ago", "in 5270498306774157604 weeks"] {
            assert_eq!(read(far, DateOrder::Auto, Day::parse("2026-03-09")), Ruling::Unread, "{far}");
        }
        assert_eq!(read("half past nine on some day", DateOrder::Auto, None), Ruling::Unread);
    }
}
