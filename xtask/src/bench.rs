//! Benchmarks: `cargo xtask bench NAME [--json] [--quick] [--keep] [--only MODEL]`.
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
mod embed;
mod first;
mod fresh;
mod gguf;
mod group;
mod install;
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
mod side;
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
pub(crate) const NAMES: [&str; 19] = [
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
    "embed",
];

/// Those that make large files.
const KEEP: [&str; 3] = ["sizes", "constrained", "return"];
/// Those that go through several models.
const ONLY: [&str; 2] = ["sizes", "return"];

/// How a benchmark or an evaluation was called.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// One object on stdout instead of tables.
    pub(crate) json: bool,
    /// Fewer repetitions: to see that it works, not to quote.
    pub(crate) quick: bool,
    /// Leave the large files that were made for it.
    pub(crate) keep: bool,
    /// Of several models this one, by its whole name.
    pub(crate) only: Option<&'static str>,
}

impl Options {
    /// Whether this model is asked for.
    fn takes(self, model: &str) -> bool {
        self.only.is_none_or(|only| only == model)
    }

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
        "embed" => embed::run(options),
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
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => options.only = Some(model(args.next().map_or("", String::as_str))?),
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--keep" => options.keep = true,
            word => match names.iter().find(|known| **known == word) {
                Some(known) if name.is_none() => name = Some(*known),
                _ => bail!(
                    "`{word}` isn't known here; there are {} and the flags --json, --quick, --keep, --only MODEL",
                    names.join(", ")
                ),
            },
        }
    }
    match name {
        Some(name) if options.keep && !KEEP.contains(&name) => bail!("`{name}` makes no files that --keep could leave"),
        Some(name) if options.only.is_some() && !ONLY.contains(&name) => bail!("`{name}` has no models to choose from"),
        Some("sizes") if options.only == Some(STARTER) => {
            bail!("`sizes` doesn't measure the starter model: `raw` does")
        }
        Some(name) => Ok((name, options)),
        None => bail!("name one of: {}", names.join(", ")),
    }
}

/// Name of a model that isn't made.
const STARTER: &str = "starter (135M)";

/// The one model whose name begins so.
fn model(word: &str) -> Result<&'static str> {
    let names = || [STARTER].into_iter().chain(shape::SHAPES.into_iter().map(|shape| shape.name));
    let mut found = names().filter(|name| !word.is_empty() && name.to_lowercase().starts_with(&word.to_lowercase()));
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name),
        _ => bail!("--only takes the beginning of one of: {}", names().collect::<Vec<_>>().join(", ")),
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
        let only = |words: &str| read(words).expect("good").1.only.expect("a model");
        assert!(only("sizes --only 8b").starts_with("8B") && only("return --only 1B").starts_with("1B"));
        assert_eq!(only("return --only starter"), STARTER);
        for bad in [
            "",
            "fast",
            "raw cpu",
            "raw --loud",
            "raw --keep",
            "raw --only 1B",
            "sizes --only",
            "sizes --only starter",
            "sizes --only 1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
