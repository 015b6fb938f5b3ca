//! What a benchmark or an evaluation says at its end: a table for people, one object for programs.

use super::machine::{Machine, Quiet};
use super::stat::Estimate;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::process::ExitCode;

/// One stated goal and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) measured: f64,
    /// The same of whom we compare with, where there is one.
    pub(crate) peer: Option<f64>,
    pub(crate) unit: String,
    /// In words: `ratio >= 0.95`.
    pub(crate) goal: String,
    /// What the goal is judged by, when that isn't `measured` itself.
    pub(crate) ratio: Option<f64>,
    /// 95 % confidence interval of what the goal is judged by.
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) met: bool,
}

/// A bound that a measured value is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    Above(f64),
    Below(f64),
    AtMost(f64),
}

/// "No worse" leaves this much open at most: an interval that is wider proves nothing.
const NO_WORSE_LOW_MIN: f64 = 0.95;

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::Above(bound) => value > bound,
            Bound::Below(bound) => value < bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }

    fn words(self) -> String {
        match self {
            Bound::AtLeast(bound) => format!(">= {bound}"),
            Bound::Above(bound) => format!("> {bound}"),
            Bound::Below(bound) => format!("< {bound}"),
            Bound::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

impl Goal {
    pub(crate) fn plain(name: &str, measured: f64, unit: &str, bound: Bound) -> Self {
        Self {
            name: name.into(),
            measured,
            peer: None,
            unit: unit.into(),
            goal: bound.words(),
            ratio: None,
            interval: None,
            met: bound.holds(measured),
        }
    }

    /// A value beside a peer's, judged by their ratio. The goal is met when the whole interval
    /// lies on the right side of the bound: a lucky mean doesn't do.
    pub(super) fn beside(name: &str, (measured, peer): (f64, f64), unit: &str, ratio: Estimate, bound: Bound) -> Self {
        let worst = match bound {
            Bound::AtLeast(_) | Bound::Above(_) => ratio.low,
            Bound::Below(_) | Bound::AtMost(_) => ratio.high,
        };
        Self {
            name: name.into(),
            measured,
            peer: Some(peer),
            unit: unit.into(),
            goal: format!("ratio {}", bound.words()),
            ratio: Some(ratio.mean),
            interval: Some((ratio.low, ratio.high)),
            met: bound.holds(worst),
        }
    }
}

impl Goal {
    /// A value that must be no worse than the peer's: the interval reaches 1, and is narrow enough to
    /// mean something.
    pub(super) fn no_worse(name: &str, (measured, peer): (f64, f64), unit: &str, ratio: Estimate) -> Self {
        Self {
            name: name.into(),
            measured,
            peer: Some(peer),
            unit: unit.into(),
            goal: format!("no worse: ratio reaches 1, whole interval >= {NO_WORSE_LOW_MIN}"),
            ratio: Some(ratio.mean),
            interval: Some((ratio.low, ratio.high)),
            met: ratio.high >= 1.0 && ratio.low >= NO_WORSE_LOW_MIN,
        }
    }

    /// A goal that couldn't be tried here; that is no success.
    pub(super) fn skipped(name: &str, why: &str) -> Self {
        Self {
            name: name.into(),
            measured: f64::NAN,
            peer: None,
            unit: "–".into(),
            goal: format!("skipped: {why}"),
            ratio: None,
            interval: None,
            met: false,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, head: &[&str]) -> Self {
        Self { title: title.into(), head: head.iter().map(|cell| (*cell).to_string()).collect(), rows: Vec::new() }
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let cells = std::iter::once(&self.head).chain(&self.rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut out = format!("{}\n", self.title);
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    let pad = " ".repeat(width(column) - cell.chars().count());
                    let is_figure = cell.starts_with(|c: char| c.is_ascii_digit() || c == '–' || c == '-');
                    if is_figure { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
                })
                .collect();
            let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
        }
        out
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet: Option<Quiet>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) tables: Vec<Table>,
    pub(crate) notes: Vec<String>,
    pub(crate) goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            machine: Machine::look(),
            quiet: None,
            settings: Vec::new(),
            tables: Vec::new(),
            notes: Vec::new(),
            goals: Vec::new(),
        }
    }

    pub(crate) fn setting(&mut self, name: &str, value: impl Into<String>) {
        self.settings.push((name.into(), value.into()));
    }

    /// Prints it and says whether all goals were met.
    pub(crate) fn finish(mut self, json: bool) -> ExitCode {
        // The native build may have come after the first look.
        self.machine = Machine::look();
        if json {
            println!("{}", serde_json::to_string(&self).expect("a report is plain data"));
        } else {
            print!("{}", self.text());
        }
        ExitCode::from(u8::from(self.goals.iter().any(|goal| !goal.met)))
    }

    fn text(&self) -> String {
        let mut out = format!("\n{}\n", self.name);
        let machine = &self.machine;
        let _ = writeln!(
            out,
            "  machine   {}, {} cores, {} GiB, kernel {}",
            machine.cpu, machine.cores, machine.memory_gib, machine.kernel
        );
        let _ = writeln!(out, "  features  {}", machine.features.join(" "));
        let _ = writeln!(out, "  compiler  {}", machine.compiler);
        if let Some(quiet) = &self.quiet {
            let _ = writeln!(
                out,
                "  machine was {}: {} % busy before, {} % between measurements (worst {} %), {} % stolen by the host",
                if quiet.quiet { "quiet" } else { "NOT QUIET" },
                quiet.busy_before_percent,
                quiet.busy_between_percent,
                quiet.busy_between_worst_percent,
                quiet.stolen_percent,
            );
        }
        for (name, value) in &self.settings {
            let _ = writeln!(out, "  {name}: {value}");
        }
        for table in &self.tables {
            let _ = write!(out, "\n{}", table.text());
        }
        for note in &self.notes {
            let _ = writeln!(out, "\nnote: {note}");
        }
        if !self.goals.is_empty() {
            let mut table = Table::new("goals", &["", "measured", "peer", "unit", "ratio (95 %)", "goal", "met"]);
            for goal in &self.goals {
                table.rows.push(vec![
                    goal.name.clone(),
                    figure(goal.measured),
                    goal.peer.map_or("–".into(), figure),
                    goal.unit.clone(),
                    match (goal.ratio, goal.interval) {
                        (Some(ratio), Some((low, high))) => format!("{ratio:.3} ({low:.3}–{high:.3})"),
                        (Some(ratio), None) => format!("{ratio:.3}"),
                        _ => "–".into(),
                    },
                    goal.goal.clone(),
                    if goal.met { "yes" } else { "NO" }.into(),
                ]);
            }
            let _ = write!(out, "\n{}", table.text());
        }
        out
    }
}

/// Three to four digits that count.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".into(),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_beside_a_peer_needs_the_whole_interval() {
        let ratio = |low| Estimate { mean: 0.97, low, high: 1.0, count: 9 };
        let goal = |low| Goal::beside("x", (97.0, 100.0), "tokens/s", ratio(low), Bound::AtLeast(0.95));
        assert!(goal(0.951).met && !goal(0.949).met);
        assert!(Goal::plain("x", 39.0, "MB", Bound::Below(40.0)).met);
        assert!(!Goal::plain("x", 40.0, "MB", Bound::Below(40.0)).met);
        assert!(!Goal::plain("x", f64::NAN, "MB", Bound::Below(40.0)).met, "no figure is no success");
    }

    #[test]
    fn no_worse_reaches_one_and_is_no_guess() {
        let goal = |low, high| {
            let ratio = Estimate { mean: f64::midpoint(low, high), low, high, count: 9 };
            Goal::no_worse("x", (1.0, 1.0), "tokens/s", ratio).met
        };
        assert!(goal(0.96, 1.01) && goal(1.1, 1.2));
        assert!(!goal(0.96, 0.99), "it is slower");
        assert!(!goal(0.5, 2.0), "nobody knows");
        assert!(!goal(f64::NEG_INFINITY, f64::INFINITY));
    }

    #[test]
    fn what_was_skipped_is_not_met_and_says_why() {
        let goal = Goal::skipped("speed", "control groups can't be written here");
        assert!(!goal.met && goal.goal.starts_with("skipped: control groups"));
        assert_eq!(figure(goal.measured), "–");
    }

    #[test]
    fn the_object_for_programs_has_its_goals() {
        let mut report = Report::new("sample");
        report.goals.push(Goal::plain("idle", 1.0, "MB", Bound::Below(2.0)));
        let value = serde_json::to_value(&report).expect("plain data");
        let goal = &value["goals"][0];
        assert_eq!(goal["name"], "idle");
        assert_eq!((goal["met"].as_bool(), goal["goal"].as_str()), (Some(true), Some("< 2")));
        assert!(goal["peer"].is_null());
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new("t", &["a", "b"]);
        table.rows.push(vec!["longer".into(), "1".into()]);
        table.rows.push(vec!["x".into(), "100".into()]);
        assert_eq!(table.text(), "t\n  a       b\n  longer    1\n  x       100\n");
    }
}
