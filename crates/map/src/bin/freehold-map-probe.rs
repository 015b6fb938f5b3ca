//! The map alone, without a daemon: what this crate's tests and evaluations start as a process of its own.
//!
//! `extract` is the confined reader; `index MAP FOLDER` indexes and prints a line for each step that is safe on disk.

use base::Fault;
use freehold_map::{self as map, IndexStep, Map, Reader, Stage};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["extract"] => map::run_extractor(),
        ["index", dir, folder] => match index(Path::new(dir), Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                say(&format!("fault {}: {fault}", fault.code.as_str()));
                ExitCode::FAILURE
            }
        },
        _ => {
            say("usage: freehold-map-probe extract | index MAP FOLDER");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever started this may have stopped listening.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn index(dir: &Path, folder: &Path) -> Result<(), Fault> {
    let program = std::env::current_exe().map_err(|error| Fault::io("read", Path::new("/proc/self/exe"), &error))?;
    let map = Map::open(dir, Reader::new(program))?;
    let mut on = |step| {
        if let IndexStep::Progress { stage: Stage::Commit, done, .. } = step {
            say(&format!("committed {done}"));
        }
    };
    let report = map.index(folder, None, &mut on, &AtomicBool::new(false))?;
    say(&format!("documents {} passages {}", report.documents, report.passages));
    Ok(())
}
