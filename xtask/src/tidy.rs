//! What no compiler checks: the dependency table, the doors, pure modules, sizes, pages, guards.
//!
//! Each rule is a function from the project's files to [`Finding`]s, so that each is tested on a
//! small bad sample. `ARCHITECTURE.md` names the rules by [`RULES`].

mod code;
mod door;
mod files;
mod graph;
mod guard;
mod link;
mod page;
mod strip;

use crate::place;
use anyhow::{Context, Result};
use std::fmt;
use std::process::ExitCode;

/// Names that a guard may cite as `tidy: NAME`.
pub(crate) const RULES: [&str; 12] = [
    "dependency table",
    "fences",
    "no-cxx",
    "doors",
    "pure",
    "limits",
    "headers",
    "sizes",
    "words",
    "errors page",
    "guards",
    "links",
];

/// One thing that isn't as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    rule: &'static str,
    /// `path:line`, or a path.
    place: String,
    message: String,
}

impl Finding {
    fn new(rule: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        debug_assert!(RULES.contains(&rule), "{rule} is missing in the list of rules");
        Self { rule, place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.place, self.message, self.rule)
    }
}

/// Checks everything and prints each finding on a line of its own.
///
/// # Errors
/// As [`findings`].
pub(crate) fn run() -> Result<ExitCode> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} rules, nothing to say", RULES.len()),
        1 => println!("tidy: 1 finding"),
        count => println!("tidy: {count} findings"),
    }
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

/// Everything that isn't as it should be.
///
/// # Errors
/// When files or cargo's metadata can't be read at all.
pub(crate) fn findings() -> Result<Vec<Finding>> {
    let root = place::root();
    let files = files::collect(&root)?;
    let mut findings = Vec::new();
    code::check(&files, &mut findings);
    door::check(&files, &mut findings);
    page::check(&files, &mut findings);
    guard::check(&files, &root, &mut findings);
    link::check(&files, &root, &mut findings);
    let architecture =
        files.iter().find(|file| file.path == "ARCHITECTURE.md").context("ARCHITECTURE.md is missing")?;
    graph::check(&place::metadata(None)?, &architecture.text, &mut findings);
    Ok(findings)
}

/// Number of the line that the byte at `at` stands on, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Where `name` stands in `text` as a whole name: neither part of a longer one before nor behind.
fn find_name(text: &str, name: &str) -> Option<usize> {
    find_name_from(text, name, 0)
}

fn find_name_from(text: &str, name: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    text[from..].match_indices(name).map(|(at, _)| from + at).find(|at| {
        let before_is_free = *at == 0 || !strip::is_name(bytes, at - 1) || !strip::is_name(name.as_bytes(), 0);
        before_is_free && !strip::is_name(bytes, at + name.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whole() {
        assert_eq!(find_name("a tokio_x tokio::y", "tokio"), Some(10));
        assert_eq!(find_name("xtokio", "tokio"), None);
        assert_eq!(find_name("std::process::CommandExt", "process::Command"), None);
        assert_eq!(find_name("std::process::Command::new", "process::Command"), Some(5));
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
