//! `freehold index`

use super::{absolute, note};
use crate::Context;
use crate::bar::{Bar, Unit};
use crate::ending::Outcome;
use crate::link::{Lines, Link};
use crate::screen::{Screen, clean};
use crate::words::{count, plural, short_path, span};
use api::native::IndexRequest;
use base::Fault;
use runtime::view::{IndexEvent, IndexReport};
use std::collections::HashSet;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Reads Markdown, HTML, text, source code, PDF, office documents (DOCX, XLSX,
PPTX, ODT, ODS, ODP), EPUB, CSV, JSON, calendars and e-mail with its
attachments in a confined process. Afterwards the folder is watched: what you
save is found a second later. Run it again to have it compared at once. Your
files stay as they are. `freehold map` makes maps of several folders and of
single files.

Examples:
  freehold index ~/Documents
  freehold index . --json | jq '.skipped[].path'";

/// Read a folder, so that `ask` and `search` know it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The folder; everything below it is read
    folder: PathBuf,
    /// Print one JSON object when it is done
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let folder = absolute(&args.folder)?;
    let link = Link::open(&context).await?;
    let lines = link.stream("index", &IndexRequest { folder }).await?;
    follow(lines, args.json, screen).await
}

/// Shows a run until its end: the same for `index` and for the commands that make a map.
pub(super) async fn follow(mut lines: Lines, json: bool, screen: &Screen) -> Outcome {
    let mut bar = Bar::new(screen);
    // What came while this command was suspended or slow is in the report alone.
    let mut shown = HashSet::new();
    loop {
        match lines.next().await?.ok_or_else(Lines::cut_short)? {
            IndexEvent::Progress { stage, done, total, path: _ } => {
                bar.set(stage_words(&stage), done, (total > 0).then_some(total), Unit::Things);
            }
            IndexEvent::Skipped { path, fault } => {
                bar.say(&skipped(&path, &fault, screen));
                shown.insert(path);
            }
            IndexEvent::Notice { text } => bar.say(&note(screen.err, &text)),
            IndexEvent::Done { report } => {
                for file in report.skipped.iter().filter(|file| !shown.contains(&file.path)) {
                    bar.say(&skipped(&file.path, &file.fault, screen));
                }
                bar.clear();
                if json {
                    screen.json(&report)?;
                } else {
                    screen.data(&text(&report, screen))?;
                    screen.talk(&screen.err.dim(&talk(&report)))?;
                }
                return Ok(());
            }
            IndexEvent::Failed { fault } => {
                bar.clear();
                return Err(fault.into());
            }
        }
    }
}

fn skipped(path: &str, fault: &Fault, screen: &Screen) -> String {
    let path = short_path(path, std::env::current_dir().ok().as_deref());
    format!("{} {}: {}", screen.err.yellow("skipped:"), clean(&path), clean(&fault.message))
}

fn stage_words(stage: &str) -> &str {
    match stage {
        "scan" => "looking for files",
        "read" => "reading files",
        "embed" => "making vectors of passages",
        "commit" => "writing the index",
        other => other,
    }
}

fn text(report: &IndexReport, screen: &Screen) -> String {
    let mut changes = Vec::new();
    for (number, word) in
        [(report.added, "new"), (report.changed, "changed"), (report.removed, "gone"), (report.unchanged, "as before")]
    {
        if number > 0 {
            changes.push(format!("{} {word}", count(number)));
        }
    }
    if !report.skipped.is_empty() {
        changes.push(format!("{} skipped", count(report.skipped.len() as u64)));
    }
    let changes = if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) };
    format!(
        "{}  {}{changes}, {}",
        screen.out.bold(&clean(&report.map)),
        plural(report.documents, "document"),
        plural(report.passages, "passage"),
    )
}

fn talk(report: &IndexReport) -> String {
    let mut text = format!("{} read in {}", clean(&report.folder), span(report.took_ms.0.saturating_mul(1_000)));
    if report.embedded < report.passages {
        let without = report.passages - report.embedded;
        text.push_str(&format!(" · {} without a vector, found by their words alone", plural(without, "passage")));
    }
    if !report.protection.is_empty() {
        text.push_str(&format!("\nreaders ran under: {}", report.protection.join("; ")));
    }
    text
}
