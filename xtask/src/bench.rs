//! Benchmarks: `cargo xtask bench NAME [--json] [--quick] [--keep]`.
//!
//! Each sets up what it needs outside the repository, holds the machine's lock, waits for quiet and
//! says when it wasn't, and ends with its stated goals: what was measured, what the peer reached,
//! and whether the goal was met. Start reading at [`raw`].

pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod report;
pub(crate) mod soak;

mod batch;
mod chat;
mod comeback;
mod constrained;
mod context;
mod contract;
mod cpu;
mod crash;
pub(crate) mod dice;
mod first;
mod fresh;
mod gguf;
mod group;
mod isolation;
mod limit;
mod machine;
mod map;
mod mixed;
pub(crate) mod peer;
mod process;
mod raw;
mod server;
mod shape;
mod sizes;
mod speculate;
mod start;
mod stat;
mod streams;

pub(crate) use machine::Watch;

use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Duration;

/// Names that a guard may cite as `bench: NAME`.
pub(crate) const NAMES: [&str; 18] = [
    "raw",
    "streams",
    "mixed",
    "context",
    "contract",
    "sizes",
    "constrained",
    "soak",
    "start",
    "cpu",
    "map",
    "fresh",
    "crash",
    "batch",
    "speculate",
    "return",
    "first",
    "isolation",
];

/// Those that make large files.
const KEEP: [&str; 3] = ["sizes", "constrained", "return"];

/// How a benchmark or an evaluation was called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// One object on stdout instead of tables.
    pub(crate) json: bool,
    /// Fewer repetitions: to see that it works, not to quote.
    pub(crate) quick: bool,
    /// Leave the large files that were made for it.
    pub(crate) keep: bool,
}

impl Options {
    /// How long a busy machine is waited for.
    pub(crate) fn patience(self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { 120 })
    }
}

/// # Errors
/// When the call is wrong or a measurement can't be made.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (name, options) = read(args, &NAMES)?;
    match name {
        "raw" => raw::run(options),
        "streams" => streams::run(options),
        "sizes" => sizes::run(options),
        "context" => context::run(options),
        "contract" => contract::run(options),
        "mixed" => mixed::run(options),
        "soak" => soak::run(options),
        "constrained" => constrained::run(options),
        "fresh" => fresh::run(options),
        "crash" => crash::run(options),
        "start" => start::run(options),
        "batch" => batch::run(options),
        "speculate" => speculate::run(options),
        "map" => map::run(options),
        "return" => comeback::run(options),
        "first" => first::run(options),
        "isolation" => isolation::run(options),
        _ => cpu::run(options),
    }
}

/// One of the names, and the flags.
///
/// # Errors
/// When the name is missing or unknown, or a flag is.
pub(crate) fn read<'a>(args: &[String], names: &[&'a str]) -> Result<(&'a str, Options)> {
    let mut options = Options::default();
    let mut name = None;
    for arg in args {
        match arg.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--keep" => options.keep = true,
            word => match names.iter().find(|known| **known == word) {
                Some(known) if name.is_none() => name = Some(*known),
                _ => bail!(
                    "`{word}` isn't known here; there are {} and the flags --json, --quick, --keep",
                    names.join(", ")
                ),
            },
        }
    }
    match name {
        Some(name) if options.keep && !KEEP.contains(&name) => bail!("`{name}` makes no files that --keep could leave"),
        Some(name) => Ok((name, options)),
        None => bail!("name one of: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let read = |words: &str| read(&words.split_whitespace().map(str::to_string).collect::<Vec<_>>(), &NAMES);
        let (name, options) = read("raw --json").expect("good");
        assert!(name == "raw" && options.json && !options.quick);
        assert!(read("sizes --keep").expect("good").1.keep);
        for bad in ["", "fast", "raw cpu", "raw --loud", "raw --keep"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
