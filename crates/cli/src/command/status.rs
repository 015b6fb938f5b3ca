//! `freehold status`

use super::fresh;
use super::table::columns;
use crate::Context;
use crate::ending::Outcome;
use crate::flow::block;
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, plural, span};
use base::{Code, Fault};
use runtime::view::{LoadedModel, MapSummary, Status, uncounted};
use serde::Serialize;

const EXAMPLES: &str = "\
This command looks and starts nothing.

Examples:
  freehold status
  freehold status --json | jq .running       false when there is no daemon";

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
    let Some(status) = found(&context).await? else {
        if args.json {
            screen.json(&Shown { running: false, status: None })?;
        } else {
            screen.data(
                "Freehold isn't running. Any command that needs it starts it; `freehold serve` keeps it in view.",
            )?;
        }
        return Ok(());
    };
    if args.json {
        screen.json(&Shown { running: true, status: Some(&status) })?;
    } else {
        screen.data(&text(&status, screen))?;
    }
    Ok(())
}

async fn found(context: &Context) -> Result<Option<Status>, Fault> {
    let Some(link) = Link::find(&context.settings).await? else { return Ok(None) };
    match link.get("status").await {
        Ok(status) => Ok(Some(status)),
        // It ended between two calls.
        Err(fault) if fault.code == Code::DaemonUnreachable => Ok(None),
        Err(fault) => Err(fault),
    }
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
        format!(
            "{} sent, {} received, ever (by the ledger){}",
            status.bytes_sent_total,
            status.bytes_received_total,
            uncounted(status.crossings_uncounted)
        ),
    ]);
    lines.extend(columns(&rows, &[]));
    lines.push(String::new());
    lines.push(paint.bold("Loaded models"));
    if let Some(budget) = status.memory.budget_bytes {
        lines.push(format!("  {} of {budget} that models may take together", status.memory.held_bytes));
    }
    if status.models.is_empty() {
        lines.push("  none; one is loaded when it is first asked".into());
    }
    for model in &status.models {
        lines.extend(model_lines(model, screen.out_width()));
    }
    lines.push(String::new());
    lines.push(paint.bold("Maps"));
    if status.maps.is_empty() {
        lines.push("  none yet; `freehold index FOLDER` makes one".into());
    }
    for map in &status.maps {
        lines.extend(map_lines(map, screen.out_width()));
    }
    lines.join("\n")
}

fn model_lines(model: &LoadedModel, width: usize) -> Vec<String> {
    let features = if model.features.is_empty() { String::new() } else { format!(" ({})", model.features.join(", ")) };
    let ms = |ms: base::Millis| span(ms.0.saturating_mul(1_000));
    let state = match (model.running, model.queued, model.parked) {
        (0, 0, 0) if model.state == "resting" => format!("resting, idle for {}", ms(model.idle_ms)),
        (0, 0, 0) => format!("idle for {}", ms(model.idle_ms)),
        (running, queued, 0) => format!("{running} running, {queued} waiting"),
        (running, queued, parked) => format!("{running} running, {queued} waiting, {parked} parked"),
    };
    let facts = [
        format!("{}{features}", model.devices.join(", ")),
        model.placement.clone(),
        plural(u64::from(model.threads), "thread"),
        format!(
            "window of up to {} tokens ({} in memory{})",
            count(u64::from(model.context_tokens)),
            count(u64::from(if model.state == "resting" { 0 } else { model.pool_tokens })),
            kept_as(&model.kv_cache)
        ),
        format!("{} at a time", plural(u64::from(model.sequences_max), "answer")),
        model.draft_model.as_ref().map(|name| format!("drafts by {}", clean(name))).unwrap_or_default(),
        format!("{} ({} counted)", model.resident_bytes, model.held_bytes),
        format!("process {}", model.pid),
        format!("loaded in {}", ms(model.load_ms)),
        if model.pinned { format!("{state}, pinned") } else { state },
    ];
    let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let mut lines = vec![format!("  {}", clean(&model.name)), block(&facts, width, "    ")];
    let none = ["none".to_string()];
    let protection = if model.protection.is_empty() { &none[..] } else { &model.protection };
    lines.push(block(&headed("protection:", protection), width, "    "));
    if !model.protection_missing.is_empty() {
        lines.push(block(&headed("missing:", &model.protection_missing), width, "    "));
    }
    lines
}

/// What is worth a word: how a window is kept when it isn't as usual.
fn kept_as(kv_cache: &str) -> String {
    if matches!(kv_cache, "" | "f16") { String::new() } else { format!(" kept as {}", clean(kv_cache)) }
}

/// The items, the first with a word before it.
fn headed(head: &str, items: &[String]) -> Vec<String> {
    items.iter().enumerate().map(|(n, item)| if n == 0 { format!("{head} {item}") } else { item.clone() }).collect()
}

fn map_lines(map: &MapSummary, width: usize) -> Vec<String> {
    let mut facts = vec![
        plural(map.documents, "document"),
        plural(map.passages, "passage"),
        format!("{} with vectors", count(map.embedded)),
        format!("{} on disk", map.bytes_on_disk),
        map.indexed_at.as_deref().map_or_else(|| "not yet complete".to_string(), |at| format!("indexed {at}")),
    ];
    facts.push(map.label.to_string());
    facts.extend(fresh::parts(&map.freshness));
    let more = match map.sources.len() {
        0 | 1 => String::new(),
        sources => format!(" and {} more", sources - 1),
    };
    vec![format!("  {}  {}{more}", clean(&map.name), clean(&map.folder)), block(&facts, width, "    ")]
}
