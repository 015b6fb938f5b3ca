//! `freehold status`

use super::table::columns;
use crate::Context;
use crate::ending::Outcome;
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, plural, span};
use runtime::view::{LoadedModel, MapSummary, Status};
use serde::Serialize;

const EXAMPLES: &str = "\
This command looks and starts nothing.

Examples:
  freehold status
  freehold status --json | jq '.models[].name'     {\"running\": false} when there is no daemon";

/// Show what runs: the daemon, loaded models, maps of folders
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    running: bool,
    #[serde(flatten)]
    status: Option<&'a Status>,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let Some(link) = Link::find(&context.settings).await? else {
        if args.json {
            screen.json(&Shown { running: false, status: None })?;
        } else {
            screen.data(
                "Freehold isn't running. Any command that needs it starts it; `freehold serve` keeps it in view.",
            )?;
        }
        return Ok(());
    };
    let status: Status = link.get("status").await?;
    if args.json {
        screen.json(&Shown { running: true, status: Some(&status) })?;
    } else {
        screen.data(&text(&status, screen))?;
    }
    Ok(())
}

fn text(status: &Status, screen: &Screen) -> String {
    let paint = screen.out;
    let hello = &status.hello;
    let mut lines = vec![format!(
        "{}  up {} · process {} · {}",
        paint.bold(&format!("Freehold {}", hello.version)),
        span(status.uptime_ms.0.saturating_mul(1_000)),
        hello.pid,
        status.resident_bytes
    )];
    let mut rows = Vec::new();
    if let Some(address) = &status.address {
        rows.push(vec!["  API".to_string(), format!("{address}/v1")]);
    }
    rows.push(vec!["  socket".to_string(), status.socket.clone()]);
    rows.push(vec!["  home".to_string(), hello.home.clone()]);
    let asks = format!("{} running, {} begun so far", count(u64::from(status.asks_running)), count(status.asks_done));
    rows.push(vec!["  asks".to_string(), asks]);
    rows.push(vec![
        "  off this machine".to_string(),
        format!("{} sent, {} received, ever (by the ledger)", status.bytes_sent_total, status.bytes_received_total),
    ]);
    lines.extend(columns(&rows, &[]));
    lines.push(String::new());
    lines.push(paint.bold("Loaded models"));
    if status.models.is_empty() {
        lines.push("  none; one is loaded when it is first asked".into());
    }
    for model in &status.models {
        lines.extend(model_lines(model));
    }
    lines.push(String::new());
    lines.push(paint.bold("Maps"));
    if status.maps.is_empty() {
        lines.push("  none yet; `freehold index FOLDER` makes one".into());
    }
    for map in &status.maps {
        lines.extend(map_lines(map));
    }
    lines.join("\n")
}

fn model_lines(model: &LoadedModel) -> Vec<String> {
    let features = if model.features.is_empty() { String::new() } else { format!(" ({})", model.features.join(", ")) };
    let state = match (model.running, model.queued) {
        (0, 0) => format!("idle for {}", span(model.idle_ms.0.saturating_mul(1_000))),
        (running, queued) => format!("{running} running, {queued} waiting"),
    };
    let mut lines = vec![
        format!("  {}", clean(&model.name)),
        format!(
            "    on {}{features}, {}, {}, process {}",
            model.devices.join(", "),
            plural(u64::from(model.threads), "thread"),
            model.resident_bytes,
            model.pid
        ),
        format!(
            "    window of {} tokens, up to {} at a time; loaded in {}; {state}",
            count(u64::from(model.context_tokens)),
            plural(u64::from(model.sequences_max), "answer"),
            span(model.load_ms.0.saturating_mul(1_000)),
        ),
        format!("    protection: {}", join_or(&model.protection, "none")),
    ];
    if !model.protection_missing.is_empty() {
        lines.push(format!("    missing: {}", model.protection_missing.join("; ")));
    }
    lines
}

fn map_lines(map: &MapSummary) -> Vec<String> {
    let when = map.indexed_at.as_deref().map_or_else(|| "not yet complete".to_string(), |at| format!("indexed {at}"));
    vec![
        format!("  {}  {}", clean(&map.name), clean(&map.folder)),
        format!(
            "    {}, {} ({} with vectors), {} on disk, {when}",
            plural(map.documents, "document"),
            plural(map.passages, "passage"),
            count(map.embedded),
            map.bytes_on_disk,
        ),
    ]
}

fn join_or(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_string() } else { items.join("; ") }
}
