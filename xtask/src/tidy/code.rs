//! Rules on each source file by itself: header, size, functions, left-over words, bounds.

use super::files::File;
use super::{Finding, find_name, line_of, strip};

/// Lines that a source file may have; tests are not counted among source files.
const FILE_LINES_MAX: usize = 800;
/// Lines that a function may have, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Files that are longer, with the lines that they may have. An entry may only shrink or go.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions that are longer: `path`, name, lines. An entry may only shrink or go.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Words that mean "not done". Split here so that this file doesn't hold them.
const LEFT_OVER_WORDS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const LEFT_OVER_MACROS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Queues without a bound.
const UNBOUNDED: [&str; 4] = ["unbounded_channel", "mpsc::channel", "flume::unbounded", "UnboundedSender"];
/// A constant of these names needs its unit at the end, unless its type carries it.
const NEEDS_UNIT: [&str; 5] = ["_TIMEOUT", "_DELAY", "_INTERVAL", "_WAIT", "_DEADLINE"];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        words(file, findings);
        if file.path.ends_with(".rs") {
            let code = strip::code_only(&file.text);
            header(file, findings);
            macros(file, &code, findings);
            if !file.is_test() {
                let code = strip::without_tests(&code);
                file_size(file, LONG_FILES, findings);
                functions(file, &code, LONG_FUNCTIONS, findings);
                if file.package() != "xtask" {
                    limits(file, &code, findings);
                }
            }
        }
    }
    for (path, _) in LONG_FILES {
        if !files.iter().any(|file| file.path == *path) {
            findings.push(Finding::new(
                "sizes",
                *path,
                "is on the list of long files, but isn't there: remove the entry",
            ));
        }
    }
}

fn header(file: &File, findings: &mut Vec<Finding>) {
    // `tests.rs` beside a module is that module's: its header stands there.
    if file.path.ends_with("/tests.rs") {
        return;
    }
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") {
        let message = "starts without a `//!` header: say what this file owns and where to start reading";
        findings.push(Finding::new("headers", format!("{}:1", file.path), message));
    }
}

fn file_size(file: &File, exceptions: &[(&str, usize)], findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    let allowed = exceptions.iter().find(|(path, _)| *path == file.path).map(|(_, lines)| *lines);
    let message = match allowed {
        None if lines > FILE_LINES_MAX => format!("has {lines} lines; the bound is {FILE_LINES_MAX}: split it"),
        Some(most) if lines > most => format!("has {lines} lines, grown past its exception of {most}"),
        Some(most) if lines < most => format!("has {lines} lines now: lower its exception from {most}, or remove it"),
        _ => return,
    };
    findings.push(Finding::new("sizes", file.path.clone(), message));
}

fn functions(file: &File, code: &str, exceptions: &[(&str, &str, usize)], findings: &mut Vec<Finding>) {
    let mut from = 0;
    while let Some(at) = super::find_name_from(code, "fn", from) {
        from = at + 2;
        let name: String = code[from..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue; // a function pointer's type
        }
        let Some(end) = strip::item_end(code, from) else { continue };
        let lines = line_of(code, end) - line_of(code, at) + 1;
        let allowed =
            exceptions.iter().find(|(path, fun, _)| *path == file.path && *fun == name).map(|(_, _, most)| *most);
        let place = format!("{}:{}", file.path, line_of(code, at));
        match allowed {
            None if lines > FUNCTION_LINES_MAX => {
                let message = format!("`{name}` has {lines} lines; the bound is {FUNCTION_LINES_MAX}: split it");
                findings.push(Finding::new("sizes", place, message));
            }
            Some(most) if lines != most => {
                let message = format!("`{name}` has {lines} lines; its exception says {most}, and may only shrink");
                findings.push(Finding::new("sizes", place, message));
            }
            _ => {}
        }
    }
}

fn words(file: &File, findings: &mut Vec<Finding>) {
    for word in LEFT_OVER_WORDS {
        if let Some(at) = find_name(&file.text, word) {
            let place = format!("{}:{}", file.path, line_of(&file.text, at));
            findings.push(Finding::new(
                "words",
                place,
                format!("`{word}`: do it now, or write down why it isn't needed"),
            ));
        }
    }
}

fn macros(file: &File, code: &str, findings: &mut Vec<Finding>) {
    for name in LEFT_OVER_MACROS {
        if let Some(at) = find_name(code, name) {
            findings.push(Finding::new("words", format!("{}:{}", file.path, line_of(code, at)), format!("`{name}`")));
        }
    }
    if let Some(at) = code.find("#[ignore]") {
        let place = format!("{}:{}", file.path, line_of(code, at));
        findings.push(Finding::new(
            "words",
            place,
            "an ignored test without a reason: `#[ignore = \"why\"]`, or mend it",
        ));
    }
}

fn limits(file: &File, code: &str, findings: &mut Vec<Finding>) {
    for name in UNBOUNDED {
        if let Some(at) = find_name(code, name).filter(|at| !takes_a_bound(code, *at, name)) {
            let place = format!("{}:{}", file.path, line_of(code, at));
            findings.push(Finding::new("limits", place, format!("`{name}` has no bound: use a bounded queue")));
        }
    }
    for line in code.lines().enumerate().filter(|(_, line)| line.contains("const ") && !line.contains("Duration")) {
        let (number, text) = line;
        let name: String = text
            .split("const ")
            .nth(1)
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
            .collect();
        if NEEDS_UNIT.iter().any(|end| name.ends_with(end)) {
            let message = format!("`{name}` doesn't name its unit: end it with _MS or _SECONDS, or make it a Duration");
            findings.push(Finding::new("limits", format!("{}:{}", file.path, number + 1), message));
        }
    }
}

/// `tokio::sync::mpsc::channel` takes a capacity; the standard library's takes nothing.
fn takes_a_bound(code: &str, at: usize, name: &str) -> bool {
    let mut after = &code[at + name.len()..];
    if after.starts_with("::<") {
        after = after.find(">(").map_or(after, |end| &after[end + 1..]);
    }
    name == "mpsc::channel" && !after.starts_with("()")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(&'static str, String)> {
        let mut findings = Vec::new();
        check(&[File { path: path.into(), text: text.into() }], &mut findings);
        findings.into_iter().map(|finding| (finding.rule, finding.place)).collect()
    }

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        found(path, text).into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn a_good_file_has_no_finding() {
        let text = "//! Owns nothing.\n\nfn a(f: fn(u8) -> u8) -> u8 { f(1) }\nconst WAIT_MS: u64 = 1;\n";
        assert!(found("crates/map/src/a.rs", text).is_empty());
    }

    #[test]
    fn bad_samples_are_found() {
        let path = "crates/map/src/a.rs";
        let long_fn = format!("//! x\nfn long() {{\n{}}}\n", "    f();\n".repeat(FUNCTION_LINES_MAX));
        let long_file = format!("//! x\n{}", "// y\n".repeat(FILE_LINES_MAX));
        for (text, rule) in [
            ("fn a() {}\n".to_string(), "headers"),
            (format!("//! x\n// {} later\n", LEFT_OVER_WORDS[0]), "words"),
            ("//! x\nfn a() { todo!() }\n".to_string(), "words"),
            ("//! x\nfn a() { dbg!(1); }\n".to_string(), "words"),
            ("//! x\n#[test]\n#[ignore]\nfn a() {}\n".to_string(), "words"),
            (long_fn, "sizes"),
            (long_file, "sizes"),
            ("//! x\nfn a() { let (a, b) = std::sync::mpsc::channel(); }\n".to_string(), "limits"),
            ("//! x\nfn a() { let (a, b) = mpsc::channel::<u8>(); }\n".to_string(), "limits"),
            ("//! x\nuse tokio::sync::mpsc::unbounded_channel;\n".to_string(), "limits"),
            ("//! x\nconst READ_TIMEOUT: u64 = 5;\n".to_string(), "limits"),
        ] {
            assert_eq!(rules(path, &text), vec![rule], "{text}");
        }
        let bounded = "//! x\nfn a() { let (a, b) = mpsc::channel::<Vec<u8>>(8); let c = mpsc::channel(4); }\n";
        assert!(rules(path, bounded).is_empty());
    }

    #[test]
    fn tests_may_be_long_but_keep_their_header() {
        let long = "fn a() {}\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(rules("crates/map/tests/it/main.rs", &long), vec!["headers"]);
    }

    #[test]
    fn an_exception_may_only_shrink() {
        let file = File { path: "a.rs".into(), text: "x\n".repeat(900) };
        for (most, count) in [(899, 1), (900, 0), (901, 1)] {
            let mut findings = Vec::new();
            file_size(&file, &[("a.rs", most)], &mut findings);
            assert_eq!(findings.len(), count, "{most}");
        }
    }
}
