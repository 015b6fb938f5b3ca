//! The engine's child process, for this crate's own tests: `render`, as the daemon's program answers to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("render") => freehold_engine::run_renderer(),
        _ => ExitCode::from(2),
    }
}
