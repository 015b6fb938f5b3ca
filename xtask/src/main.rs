//! Chores of the project: `cargo xtask NAME`.
//!
//! `ci` is what `./check` and the build server run. Nothing here is part of the product, and
//! nothing here depends on a product crate: chores read sources, `cargo metadata` and the built
//! programs, as an outsider would.

#![expect(
    clippy::disallowed_methods,
    reason = "chores run cargo and read the environment; the product's doors aren't theirs"
)]

mod place;

mod bench;
mod ci;
mod eval;
mod licence;
mod native;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
Chores of the project.

usage: cargo xtask CHORE

  tidy                          what no compiler checks: dependency table, doors, pure modules, sizes, pages
  ci                            everything: format, lints, tidy, licences, native build, all tests
  licences                      licences of all dependencies, and known advisories where the database can be reached
  native [--clean]              build the worker and ggml's backends into <target>/native
  bench NAME [--json] [--quick] measure: raw, streams, mixed, context, contract, sizes, constrained, soak, start, cpu, map, fresh, crash,
                                batch, speculate, return, first, isolation
                                (--keep leaves the large files that were made; --only MODEL measures one of several)
  eval NAME [--json] [--quick]  judge quality: map, ir, spans (--dir DIR, --reranker FILE.gguf), tasks (--dir DIR, --model FILE.gguf)
  eval families                 run every model family with random weights and write docs/families.md

Exit status: 0 when all is well, 1 when something failed or a goal was missed, 2 for a wrong call.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("tidy") => tidy::run(),
        Some("ci") => ci::run(rest),
        Some("licences") => licence::run(),
        Some("native") => native::run(rest).map(|()| ExitCode::SUCCESS),
        Some("bench") => bench::run(rest),
        Some("eval") => eval::run(rest),
        Some("help" | "--help" | "-h") | None => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("`{other}` is no chore; `cargo xtask help` lists them"),
    }
}
