//! Every invariant and every promise names what would fail if it were broken, and that exists.
//!
//! A guard is written `KIND: NAME`, several with `;` between them:
//! `test: engine::a_prompt_that_does_not_fit`, `tidy: pure`, `clippy: disallowed-methods`,
//! `ci: no-cxx`, `bench: raw`, `eval: map`. A promise may say `not yet tested` instead.

use super::files::File;
use super::{Finding, RULES, find_name};
use crate::{bench, ci, eval};
use std::path::Path;

const NOT_YET: &str = "not yet tested";
/// Pages with guards, the head of the column, and whether a row may say [`NOT_YET`].
const PAGES: [(&str, &str, bool); 2] = [("ARCHITECTURE.md", "guard", false), ("SPEC.md", "guard", true)];

pub(super) fn check(files: &[File], root: &Path, findings: &mut Vec<Finding>) {
    let lints: String = ["Cargo.toml", "clippy.toml"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(root.join(name)).ok())
        .collect::<String>()
        .replace('_', "-");
    for (page, head, may_wait) in PAGES {
        let Some(file) = files.iter().find(|file| file.path == page) else {
            findings.push(Finding::new("guards", page, "is missing"));
            continue;
        };
        let rows = rows(&file.text, head);
        if rows.is_empty() {
            findings.push(Finding::new("guards", page, format!("has no table with a column `{head}`")));
        }
        for (line, guards) in rows {
            let place = format!("{page}:{line}");
            if may_wait && guards.to_lowercase().starts_with(NOT_YET) {
                continue;
            }
            for guard in guards.split(';').map(str::trim) {
                if let Err(message) = stands(guard, files, &lints) {
                    findings.push(Finding::new("guards", place.clone(), message));
                }
            }
        }
    }
}

/// Whether what the guard names exists; if not, why.
fn stands(guard: &str, files: &[File], lints: &str) -> Result<(), String> {
    let guard = guard.replace('`', "");
    let Some((kind, name)) = guard.split_once(':').map(|(kind, name)| (kind.trim(), name.trim())) else {
        return Err(format!("`{guard}` isn't a guard: write `test: crate::name`, `tidy: rule`, `bench: name` …"));
    };
    let exists = match kind {
        "test" => return test_stands(name, files),
        "tidy" => RULES.contains(&name),
        "clippy" | "lint" => find_name(lints, &name.replace('_', "-")).is_some(),
        "ci" => ci::STEPS.contains(&name),
        "bench" => bench::NAMES.contains(&name.split('/').next().unwrap_or(name)),
        "eval" => eval::NAMES.contains(&name.split('/').next().unwrap_or(name)),
        _ => return Err(format!("`{kind}` is no kind of guard: test, tidy, clippy, ci, bench, eval")),
    };
    if exists { Ok(()) } else { Err(format!("there is no {kind} `{name}`")) }
}

/// `crate::test_function`; the crate is named by its folder.
fn test_stands(name: &str, files: &[File]) -> Result<(), String> {
    let Some((package, rest)) = name.split_once("::") else {
        return Err(format!("`test: {name}` names no test: write `test: {name}::the_function`"));
    };
    let function = rest.rsplit("::").next().unwrap_or(rest);
    let wanted = format!("fn {function}");
    let found = files
        .iter()
        .filter(|file| file.package() == package && file.path.ends_with(".rs"))
        .any(|file| is_test_function(&file.text, &wanted));
    if found { Ok(()) } else { Err(format!("`{package}` has no test `{function}`")) }
}

/// The function stands there with an attribute that makes it a test among the lines before it.
fn is_test_function(text: &str, wanted: &str) -> bool {
    let Some(at) = find_name(text, wanted) else { return false };
    let before: Vec<&str> = text[..at].lines().rev().take(8).collect();
    let in_property_block = text.contains("proptest!");
    in_property_block || before.iter().any(|line| line.contains("test]") || line.contains("test("))
}

/// Number and guards of each row of the tables whose head has a column named `head`.
fn rows(text: &str, head: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut column = None;
    for (at, line) in text.lines().enumerate() {
        let cells = cells(line);
        if cells.is_empty() {
            column = None;
        } else if let Some(place) = cells.iter().position(|cell| cell.eq_ignore_ascii_case(head)) {
            column = Some(place);
        } else if let Some(cell) = column.and_then(|column| cells.get(column)).filter(|cell| !is_rule(cell)) {
            found.push((at + 1, cell.clone()));
        }
    }
    found
}

/// The line under a table's head, or nothing at all.
fn is_rule(cell: &str) -> bool {
    cell.chars().all(|c| matches!(c, '-' | ':'))
}

/// The cells of a Markdown table's row; empty for any other line.
pub(super) fn cells(line: &str) -> Vec<String> {
    let Some(row) = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|')) else { return Vec::new() };
    row.split('|').map(|cell| cell.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "| # | must hold | Guard |\n|---|---|---|\n| I1 | x | test: map::cites |\n| I2 | y |  |\n\nend\n";

    fn files() -> Vec<File> {
        let test = "#[test]\nfn cites() {}\n\n\n\n\n\n\n\n\n\n\nfn not_a_test() {}\n";
        vec![File { path: "crates/map/tests/it/main.rs".into(), text: test.into() }]
    }

    #[test]
    fn rows_are_read_from_the_right_column() {
        assert_eq!(rows(PAGE, "guard"), vec![(3, "test: map::cites".to_string())]);
        assert!(rows("| a | b |\n|---|---|\n| c | d |\n", "guard").is_empty());
    }

    #[test]
    fn guards_must_exist() {
        let lints = "disallowed-methods = []";
        for (guard, good) in [
            ("test: map::cites", true),
            ("test: `map::it::cites`", true),
            ("test: map::not_a_test", false),
            ("test: map::gone", false),
            ("test: engine::cites", false),
            ("test: map", false),
            ("tidy: pure", true),
            ("tidy: purity", false),
            ("clippy: disallowed-methods", true),
            ("clippy: disallowed_methods", true),
            ("clippy: unknown-lint", false),
            ("ci: clippy", true),
            ("ci: nothing", false),
            ("bench: raw", true),
            ("bench: raw/prompt", true),
            ("bench: nothing", false),
            ("eval: map", true),
            ("trust me", false),
            ("hope: x", false),
        ] {
            assert_eq!(stands(guard, &files(), lints).is_ok(), good, "{guard}");
        }
    }

    #[test]
    fn a_promise_may_wait_but_an_invariant_may_not() {
        let waiting = "| what | guard |\n|---|---|\n| fast | not yet tested |\n";
        for (path, count) in [("SPEC.md", 1), ("ARCHITECTURE.md", 2)] {
            let files = [File { path: path.into(), text: waiting.into() }];
            let mut findings = Vec::new();
            check(&files, Path::new("/nowhere"), &mut findings);
            assert_eq!(findings.len(), count, "{findings:?}");
        }
    }
}
