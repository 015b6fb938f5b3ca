//! The engine's parts as programs of their own: `render`, as the daemon's program answers to it in this crate's own
//! tests, and `templates`, which the templates' proof compares with the reference.

use freehold_engine::template::{Moment, render_given};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::process::ExitCode;

/// 2026-01-02 03:04:05, when the reference's clock stands still.
const NOW: Moment = Moment { unix_seconds: 1_767_323_045, offset_minutes: 0 };

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("render") => freehold_engine::run_renderer(),
        Some("templates") => match templates() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => ExitCode::from(2),
    }
}

/// A rendering, or why there is none, for each `{"source": …, "given": …}`.
fn templates() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let source = asked["source"].as_str().unwrap_or_default();
        let answer = match render_given(source, &asked["given"].to_string(), "", "", NOW) {
            Ok(text) => json!({"text": text}),
            Err(fault) => json!({"refused": fault.to_string()}),
        };
        writeln!(std::io::stdout().lock(), "{answer}")?;
    }
    Ok(())
}
