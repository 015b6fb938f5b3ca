//! What jail promises, seen from inside a child: `examples/jail_probe.rs` does what it is told there
//! and says what came of it.

#[cfg(target_os = "linux")]
mod allowed;
mod child;
mod command;
#[cfg(target_os = "linux")]
mod refused;
#[cfg(target_os = "linux")]
mod trampoline;

use freehold_jail::{Child, Command, Io};
#[cfg(target_os = "linux")]
use freehold_jail::{Filter, Rules};
use std::io::Read;
use std::path::PathBuf;

/// The probe is an example, so `cargo test` builds it beside this program.
fn probe_path() -> PathBuf {
    let tests = std::env::current_exe().expect("a test program knows its place");
    let target = tests.parent().and_then(std::path::Path::parent).expect("it lies in target/PROFILE/deps");
    let path = target.join("examples").join("jail_probe");
    assert!(path.is_file(), "{} isn't there: build it with `cargo test -p freehold-jail`", path.display());
    path
}

fn probe() -> Command {
    Command::new(&probe_path()).stdout(Io::Pipe).stderr(Io::Inherit)
}

/// Runs the probe to its end; one line for each action.
fn lines(command: Command) -> Vec<String> {
    let mut child = command.spawn().expect("the probe starts");
    let lines = read_lines(&mut child);
    assert!(child.wait().expect("its end is told").success(), "the probe failed after {lines:?}");
    lines
}

fn read_lines(child: &mut Child) -> Vec<String> {
    let mut text = String::new();
    let mut out = child.stdout.take().expect("the probe's output is piped");
    out.read_to_string(&mut text).expect("the probe writes text");
    text.lines().map(str::to_owned).collect()
}

/// The action by which the probe confines itself.
#[cfg(target_os = "linux")]
fn apply(rules: &Rules) -> String {
    format!("apply {}", serde_json::to_string(rules).expect("rules are plain data"))
}

/// Nothing but the filter, and enough to read for the filter not to seal.
#[cfg(target_os = "linux")]
fn filtered(filter: Filter) -> Rules {
    Rules::default().and_read(&PathBuf::from("/proc/self")).with_filter(filter)
}
