//! `bench crash`: a thousand kills at random instants while indexing, and what each of them left behind.
//!
//! The test itself lies beside the map; `./check` runs it with thirty kills. Here it runs with a thousand, and
//! the longest time that opening a map took after one of them is held against its goal.

use super::report::{Bound, Goal, Report};
use super::{Options, Watch};
use crate::place;
use anyhow::{Context, Result};
use std::process::ExitCode;

const OPEN_MS_MAX: f64 = 2000.0;

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("kills at random instants while indexing");
    let test = if options.quick { "crash::thirty_kills" } else { "crash::a_thousand_kills" };
    let mut cargo = place::cargo();
    cargo.args(["test", "--quiet", "--package", "freehold-map", "--test", "it", "--"]);
    cargo.args([test, "--include-ignored", "--nocapture"]);
    let watch = Watch::start(options.patience())?;
    let said = place::output(&mut cargo)?;
    report.quiet = Some(watch.seen());
    let told = |before: &str| -> Option<f64> {
        let rest = said.split_once(before)?.1;
        rest.split_whitespace().next()?.parse().ok()
    };
    let (kills, longest) = (
        told("kills ").context("the test tells no number of kills")?,
        told("longest opening ms ").context("the test tells no time")?,
    );
    report.setting("kills", format!("{kills}, none of which lost a file, left a ghost or a problem"));
    report.goals.push(Goal::plain("longest opening after a kill", longest, "ms", Bound::Below(OPEN_MS_MAX)));
    Ok(report.finish(options.json))
}
