//! The map alone, without a daemon: what this crate's tests and evaluations start as a process of its own.
//!
//! `extract` is the confined reader; `index MAP FOLDER` indexes and prints a line for each step that is safe on disk;
//! `search MAP WORDS` prints what is found and how long that took.

use base::Fault;
use freehold_map::{self as map, IndexStep, Map, Query, Reader, Stage};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["extract"] => map::run_extractor(),
        ["index", dir, folder] => ended(index(Path::new(dir), Path::new(folder))),
        ["search", dir, query] => ended(search(Path::new(dir), query)),
        _ => {
            say("usage: freehold-map-probe extract | index MAP FOLDER | search MAP WORDS");
            ExitCode::FAILURE
        }
    }
}

fn ended(result: Result<(), Fault>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            say(&format!("fault {}: {fault}", fault.code.as_str()));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever started this may have stopped listening.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn open(dir: &Path) -> Result<Map, Fault> {
    let program = std::env::current_exe().map_err(|error| Fault::io("read", Path::new("/proc/self/exe"), &error))?;
    Map::open(dir, Reader::new(program))
}

fn search(dir: &Path, words: &str) -> Result<(), Fault> {
    let map = open(dir)?;
    let query = Query { text: words.into(), limit: 8, ..Query::default() };
    // The first search opens the index; the second is what a daemon pays.
    map.search(&query, None)?;
    let found = map.search(&query, None)?;
    for hit in &found.hits {
        say(&format!("{:.3} {}:{} {}", hit.score, hit.path.display(), hit.place, hit.heading));
    }
    say(&format!("{} us, {}", found.took_us, found.arms));
    for notice in &found.notices {
        say(notice);
    }
    Ok(())
}

fn index(dir: &Path, folder: &Path) -> Result<(), Fault> {
    let map = open(dir)?;
    let mut on = |step| {
        if let IndexStep::Progress { stage: Stage::Commit, done, .. } = step {
            say(&format!("committed {done}"));
        }
    };
    let report = map.index(folder, None, &mut on, &AtomicBool::new(false))?;
    say(&format!("documents {} passages {}", report.documents, report.passages));
    Ok(())
}
