//! Dates for templates that tell the model what day it is.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A point in time, given by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub unix_seconds: i64,
    /// Minutes to add for local time.
    pub offset_minutes: i32,
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The usual `%` codes; one that isn't known stays as it is, as C's `strftime` mostly does.
pub(super) fn format(now: Moment, format: &str) -> String {
    let seconds = now.unix_seconds.saturating_add(i64::from(now.offset_minutes) * 60);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let weekday = DAYS[usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0)];
    let month_name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let bare = code == Some('-');
        if bare {
            code = chars.next();
        }
        let width = if bare { 1 } else { 2 };
        // Writing to a `String` can't fail.
        let _ = match code {
            Some('d') => write!(out, "{day:0width$}"),
            Some('m') => write!(out, "{month:0width$}"),
            Some('y') => write!(out, "{:0width$}", year.rem_euclid(100)),
            Some('H') => write!(out, "{hour:0width$}"),
            Some('I') => write!(out, "{hour12:0width$}"),
            Some('M') => write!(out, "{minute:0width$}"),
            Some('S') => write!(out, "{second:0width$}"),
            Some('Y') => write!(out, "{year}"),
            Some('B') => write!(out, "{month_name}"),
            Some('b' | 'h') => write!(out, "{}", &month_name[..3]),
            Some('A') => write!(out, "{weekday}"),
            Some('a') => write!(out, "{}", &weekday[..3]),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('F') => write!(out, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('%') => write!(out, "%"),
            Some(other) => write!(out, "%{other}"),
            None => write!(out, "%"),
        };
    }
    out
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_dates_across_leap_years_and_offsets() {
        for (unix_seconds, offset_minutes, pattern, text) in [
            (0, 0, "%d %b %Y, %A", "01 Jan 1970, Thursday"),
            (951_782_400, 0, "%Y-%m-%d", "2000-02-29"),
            (1_709_164_800, 0, "%F", "2024-02-29"),
            (1_709_164_800, -1, "%F %T", "2024-02-28 23:59:00"),
            (-86_400, 0, "%a %-d %B %y", "Wed 31 December 69"),
            (1_000_000_000, 120, "%H:%M %I%p %q %%", "03:46 03AM %q %"),
            (0, 0, "ends in %", "ends in %"),
        ] {
            assert_eq!(format(Moment { unix_seconds, offset_minutes }, pattern), text, "{unix_seconds} {pattern}");
        }
    }
}
