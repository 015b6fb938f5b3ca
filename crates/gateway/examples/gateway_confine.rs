//! A program for the tests of this crate: confines itself and becomes the package client, as `freehold` does.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((word, rest)) if word == "__confine" => jail::run_trampoline(rest),
        _ => ExitCode::from(2),
    }
}
