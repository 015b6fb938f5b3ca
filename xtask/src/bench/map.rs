//! Speed, memory and strictness of search over synthetic chunks, measured by an example of `crates/map`.

use super::report::Report;
use super::{Options, Watch};
use crate::{eval, place};
use anyhow::Result;
use std::process::ExitCode;

const CHUNKS: u32 = 1_000_000;
const QUICK_CHUNKS: u32 = 20_000;

/// # Errors
/// When the example can't be built or run.
pub(super) fn run(options: Options) -> Result<ExitCode> {
    let chunks = if options.quick { QUICK_CHUNKS } else { CHUNKS };
    let example = ["--quiet", "--locked", "--release", "--package", "freehold-map", "--example", "bench"];
    place::output(place::cargo().arg("build").args(example))?;
    let mut watch = Watch::start(options.patience())?;
    watch.gap();
    let mut cargo = place::cargo();
    cargo.arg("run").args(example).args(["--", "--chunks", &chunks.to_string()]);
    let measured = eval::read(&place::output(&mut cargo)?)?;
    let mut report = Report::new("search at scale");
    report.quiet = Some(watch.seen());
    report.settings = measured.settings;
    report.tables = measured.tables;
    report.notes = measured.notes;
    report.goals = measured.goals;
    Ok(report.finish(options.json))
}
