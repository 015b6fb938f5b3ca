//! `cargo xtask eval families`: the worker's test over all families, which writes what it finds into the page that it
//! is compared with otherwise.

use crate::{native, place};
use anyhow::Result;
use std::process::ExitCode;

const PAGE: &str = "docs/families.md";

/// # Errors
/// When the worker can't be built, or its test doesn't come to an end.
pub(super) fn run() -> Result<ExitCode> {
    native::ensure()?;
    let page = place::root().join(PAGE);
    let before = std::fs::read_to_string(&page)?;
    let mut cargo = place::cargo();
    cargo.envs(native::environment()?).env("FREEHOLD_TEST_PAGES", "write");
    cargo.args(["test", "--locked", "--release", "--package", "freehold-worker", "--test", "it", "families::"]);
    place::output(&mut cargo)?;
    let after = std::fs::read_to_string(&page)?;
    print!("{after}");
    println!("\n`{PAGE}` {}", if before == after { "says the same as before" } else { "was written anew" });
    Ok(ExitCode::SUCCESS)
}
