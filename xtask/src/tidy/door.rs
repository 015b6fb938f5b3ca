//! Doors and pure modules: which source may name what.
//!
//! The compiler's lints (`clippy.toml`) forbid single methods; these rules forbid whole modules,
//! and hold for code that a lint doesn't see on this machine (other systems' branches).

use super::files::File;
use super::{Finding, find_name, line_of, strip};

/// Dangerous names and who may use them: a crate, or one file of a crate by its path.
struct Door {
    names: &'static [&'static str],
    open_to: &'static [&'static str],
    why: &'static str,
}

const DOORS: &[Door] = &[
    Door {
        names: &["process::Command", "process::CommandExt", "tokio::process"],
        open_to: &["jail", "xtask"],
        why: "only `jail` starts a process",
    },
    Door {
        names: &["libc::fork", "libc::vfork", "libc::execve", "libc::execvp", "libc::posix_spawn"],
        // The worker tries what it must not be able to do, and reports the refusal.
        open_to: &["jail", "crates/worker/src/ffi/system.rs"],
        why: "only `jail` starts a process",
    },
    Door {
        names: &["env::var", "env::var_os", "env::vars", "env::vars_os", "env::set_var", "libc::getenv"],
        open_to: &["runtime", "xtask"],
        why: "only `runtime` reads the environment",
    },
    Door {
        names: &["TcpListener::bind", "UnixListener::bind", "UnixDatagram::bind", "net::bind", "net::listen"],
        open_to: &["api", "xtask"],
        why: "only `api` binds a listener",
    },
    Door {
        names: &[
            "TcpStream::connect",
            "TcpStream::connect_timeout",
            "UdpSocket",
            "TcpSocket",
            "ToSocketAddrs",
            "lookup_host",
        ],
        open_to: &["gateway", "xtask"],
        why: "only `gateway` opens outward sockets",
    },
];

/// Sources that decide and never act: a path, or a folder with `/` at its end.
const PURE: &[&str] = &[
    "crates/base/src/",
    "crates/batch/src/",
    "crates/wire/src/speech.rs",
    "crates/gateway/src/policy.rs",
    "crates/gateway/src/consent.rs",
    "crates/store/src/name.rs",
    "crates/store/src/facts.rs",
    "crates/store/src/facts/",
    "crates/store/src/gguf/",
    "crates/map/src/about.rs",
    "crates/map/src/alike.rs",
    "crates/map/src/chunk.rs",
    "crates/map/src/chunk/",
    "crates/map/src/cite.rs",
    "crates/map/src/cite/",
    "crates/map/src/document.rs",
    "crates/map/src/evidence.rs",
    "crates/map/src/extract/container.rs",
    "crates/map/src/extract/picture.rs",
    "crates/map/src/filter.rs",
    "crates/map/src/fuse.rs",
    "crates/map/src/half.rs",
    "crates/map/src/recognise/",
    "crates/map/src/rerank.rs",
    "crates/map/src/rerank/",
    "crates/map/src/score.rs",
    "crates/map/src/sentence.rs",
    "crates/map/src/syntax.rs",
    "crates/map/src/vector/scan.rs",
    "crates/map/src/words.rs",
    "crates/engine/src/admit.rs",
    "crates/engine/src/admit/",
    "crates/engine/src/offload.rs",
    "crates/engine/src/offload/",
    "crates/engine/src/compact.rs",
    "crates/engine/src/compact/",
    "crates/engine/src/forced.rs",
    "crates/engine/src/park.rs",
    "crates/engine/src/parse.rs",
    "crates/engine/src/parse/",
    "crates/engine/src/plan.rs",
    "crates/engine/src/residency.rs",
    "crates/engine/src/residency/",
    "crates/engine/src/scope.rs",
    "crates/engine/src/stored/index.rs",
    "crates/engine/src/template.rs",
    "crates/engine/src/template/",
    "crates/tasks/src/",
    "crates/runtime/src/filter.rs",
    "crates/runtime/src/languages.rs",
    "crates/runtime/src/permission.rs",
    "crates/api/src/field.rs",
    "crates/api/src/openai/tally.rs",
    "crates/cli/src/flow.rs",
    "crates/cli/src/words.rs",
];

/// What a pure module may not name: disk, network, processes, environment, clock, chance.
const IMPURE: &[&str] = &[
    "std::fs",
    // Addresses are plain data; sockets aren't.
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "tokio",
    "rand",
    "getrandom",
    "fastrand",
    "rustix",
    "libc",
    "RandomState",
];

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| file.path.ends_with(".rs") && !file.is_test()) {
        let code = strip::without_tests(&strip::code_only(&file.text));
        doors(file, &code, findings);
        if PURE.iter().any(|pure| file.path == *pure || (pure.ends_with('/') && file.path.starts_with(pure))) {
            pure(file, &code, findings);
        }
    }
    for path in PURE {
        if !files.iter().any(|file| file.path.starts_with(path)) {
            findings.push(Finding::new(
                "pure",
                *path,
                "is on the list of pure modules, but isn't there: correct the list",
            ));
        }
    }
}

fn doors(file: &File, code: &str, findings: &mut Vec<Finding>) {
    // A build script runs under cargo, which speaks to it through the environment.
    if file.path.ends_with("/build.rs") {
        return;
    }
    for door in
        DOORS.iter().filter(|door| !door.open_to.iter().any(|open| *open == file.package() || *open == file.path))
    {
        for name in door.names {
            if let Some(line) = names(code, name) {
                findings.push(Finding::new(
                    "doors",
                    format!("{}:{line}", file.path),
                    format!("`{name}`: {}", door.why),
                ));
            }
        }
    }
}

fn pure(file: &File, code: &str, findings: &mut Vec<Finding>) {
    for name in IMPURE {
        if let Some(line) = names(code, name) {
            let message = format!("`{name}` in a pure module: take it as an argument, or move it to the rim");
            findings.push(Finding::new("pure", format!("{}:{line}", file.path), message));
        }
    }
}

/// The line on which the code names `path`, written out or within a grouped import.
fn names(code: &str, path: &str) -> Option<usize> {
    if let Some(at) = find_name(code, path) {
        return Some(line_of(code, at));
    }
    imports(code).into_iter().find(|(_, import)| find_name(import, path).is_some()).map(|(line, _)| line)
}

/// Every path that a `use` brings in, groups written out.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = super::find_name_from(code, "use", from) {
        from = at + 3;
        let Some(length) = code[from..].find(';') else { break };
        let mut paths = Vec::new();
        let body: String = code[from..from + length].split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &body, &mut paths);
        found.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
        from += length;
    }
    found
}

fn expand(before: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        if !tree.is_empty() {
            paths.push(format!("{before}{tree}"));
        }
        return;
    };
    let before = format!("{before}{}", &tree[..open]);
    let inner = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let mut depth = 0usize;
    let mut start = 0;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                expand(&before, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&before, &inner[start..], paths);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, code: &str) -> Vec<(&'static str, String)> {
        let mut findings = Vec::new();
        doors(&File { path: path.into(), text: String::new() }, code, &mut findings);
        if path.starts_with("crates/base/") {
            pure(&File { path: path.into(), text: String::new() }, code, &mut findings);
        }
        findings.into_iter().map(|finding| (finding.rule, finding.place)).collect()
    }

    #[test]
    fn doors_are_shut_for_all_but_one() {
        for (name, owner) in [
            ("let c = std::process::Command::new(x);", "jail"),
            ("use std::process::{Child, Command};", "jail"),
            ("use std::{fs, process::{Command, Stdio}};", "jail"),
            ("let v = env::var(x);", "runtime"),
            ("use std::net::TcpListener; fn f() { TcpListener::bind(x); }", "api"),
            ("let s = TcpStream::connect(x);", "gateway"),
        ] {
            assert_eq!(found(&format!("crates/{owner}/src/a.rs"), name), vec![], "{name}");
            assert_eq!(found("crates/map/src/a.rs", name), vec![("doors", "crates/map/src/a.rs:1".into())], "{name}");
        }
        assert_eq!(found("crates/map/src/a.rs", "use jail::Command; fn f() { Command::new(x); env::args(); }"), vec![]);
        assert_eq!(found("crates/runtime/build.rs", "std::process::Command::new(x)"), vec![]);
    }

    #[test]
    fn pure_modules_touch_nothing() {
        for code in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "fn f() {\n std::env::args(); }",
            "let t = Instant::now();",
            "async fn f() { tokio::task::yield_now().await }",
            "let x = rand::random();",
            "let d = t.elapsed();",
        ] {
            let got: Vec<_> =
                found("crates/base/src/a.rs", code).into_iter().filter(|(rule, _)| *rule == "pure").collect();
            assert_eq!(got.len(), 1, "{code}");
        }
        assert_eq!(found("crates/base/src/a.rs", "use std::{fmt, io}; struct Operand; fn strand() {}"), vec![]);
    }

    #[test]
    fn groups_are_written_out() {
        let paths: Vec<String> =
            imports("use a::{b, c::{d, e as f}, self};\nuse g;").into_iter().map(|(_, p)| p).collect();
        assert_eq!(paths, ["a::b", "a::c::d", "a::c::e as f", "a::self", "g"]);
    }
}
