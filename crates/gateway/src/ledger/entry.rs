//! Lines of the ledger and what they add up to; pure.

use crate::consent::Purpose;
use serde::{Deserialize, Serialize};

/// Written and synced before anything leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub id: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub purpose: Purpose,
    /// Where to: an origin, or `package index`.
    pub to: String,
    /// What is asked for there; queries are left out, for they may hold signatures.
    pub what: String,
    /// The command that the person gave.
    pub given_by: String,
    /// `https`, or the program that goes in our stead.
    pub by: String,
}

/// Written when the crossing is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    pub id: u64,
    pub at: String,
    /// Bytes written to the socket, encryption included; `None` where another program held it.
    pub sent: Option<u64>,
    /// Bytes read from the socket, or the size of what another program brought.
    pub received: u64,
    /// `done`, `cut` (stopped on this side), or what went wrong.
    pub outcome: String,
}

/// One crossing; `close` is missing while it runs, and for ever when the daemon was killed in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub open: Open,
    pub close: Option<Close>,
}

/// Sums over the whole ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub crossings: u64,
    /// Crossings whose sent bytes nobody counted: another program's, and those that a kill cut short.
    pub uncounted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
pub(super) enum Line {
    /// First line of a file that continues an older one.
    Carry {
        last_id: u64,
        totals: Totals,
    },
    Open(Open),
    Close(Close),
}

/// Folds lines into crossings; a line that can't be read is skipped and counted.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub last_id: u64,
    pub totals: Totals,
    pub entries: Vec<Entry>,
    pub damaged_lines: u64,
}

impl Reading {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut reading = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => reading.take(line),
                Err(_) => reading.damaged_lines += 1,
            }
        }
        // What was never closed was never counted either.
        let unclosed = reading.entries.iter().filter(|entry| entry.close.is_none()).count();
        reading.totals.uncounted += unclosed as u64;
        reading
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Carry { last_id, totals } => {
                self.last_id = self.last_id.max(last_id);
                self.totals = totals;
            }
            Line::Open(open) => {
                self.last_id = self.last_id.max(open.id);
                self.totals.crossings += 1;
                self.entries.push(Entry { open, close: None });
            }
            Line::Close(close) => {
                let entry = self.entries.iter_mut().rev().find(|entry| entry.open.id == close.id);
                let Some(entry) = entry.filter(|entry| entry.close.is_none()) else {
                    self.damaged_lines += 1;
                    return;
                };
                self.totals.add(&close);
                entry.close = Some(close);
            }
        }
    }
}

impl Totals {
    pub(super) fn add(&mut self, close: &Close) {
        match close.sent {
            Some(sent) => self.bytes_sent = self.bytes_sent.saturating_add(sent),
            None => self.uncounted += 1,
        }
        self.bytes_received = self.bytes_received.saturating_add(close.received);
    }
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(super) fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Civil date from a day count, in years that start in March: leap days fall on the year's end.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    fn open(id: u64) -> Line {
        Line::Open(Open {
            id,
            at: rfc3339(0),
            purpose: Purpose::ModelDownload,
            to: "https://a.example".into(),
            what: "GET /".into(),
            given_by: "freehold pull starter".into(),
            by: "https".into(),
        })
    }

    fn close(id: u64, sent: Option<u64>, received: u64) -> Line {
        Line::Close(Close { id, at: rfc3339(1), sent, received, outcome: "done".into() })
    }

    fn text(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(|line| [serde_json::to_vec(line).unwrap(), b"\n".to_vec()].concat()).collect()
    }

    #[test]
    fn lines_add_up_and_a_torn_line_costs_only_itself() {
        let mut bytes = text(&[open(1), close(1, Some(10), 100), open(2), close(2, None, 50), open(3)]);
        let reading = Reading::of(&bytes);
        assert_eq!(reading.last_id, 3);
        assert_eq!(reading.totals, Totals { bytes_sent: 10, bytes_received: 150, crossings: 3, uncounted: 2 });
        assert_eq!(reading.entries.len(), 3);
        assert!(reading.entries[2].close.is_none());

        let whole = bytes.len();
        bytes.extend_from_slice(&text(&[close(3, Some(1), 1)]));
        for cut in whole + 1..bytes.len() - 1 {
            let reading = Reading::of(&bytes[..cut]);
            assert_eq!((reading.damaged_lines, reading.entries.len(), reading.totals.bytes_sent), (1, 3, 10), "{cut}");
        }
    }

    #[test]
    fn a_carried_sum_goes_on() {
        let totals = Totals { bytes_sent: 7, bytes_received: 8, crossings: 9, uncounted: 1 };
        let reading = Reading::of(&text(&[Line::Carry { last_id: 9, totals }, open(10), close(10, Some(3), 2)]));
        assert_eq!(reading.last_id, 10);
        assert_eq!(reading.totals, Totals { bytes_sent: 10, bytes_received: 10, crossings: 10, uncounted: 1 });
    }

    #[test]
    fn a_second_close_adds_nothing() {
        let reading = Reading::of(&text(&[open(1), close(1, Some(5), 5), close(1, Some(5), 5), close(8, Some(5), 5)]));
        assert_eq!(reading.totals.bytes_sent, 5);
        assert_eq!(reading.damaged_lines, 2);
    }
}
