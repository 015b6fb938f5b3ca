//! The map alone, without a daemon: what this crate's tests and evaluations start as a process of its own.
//!
//! `__extract` is the confined reader; `index MAP FOLDER` indexes and prints a line for each step that is safe on disk;
//! `vectors MAP FOLDER` makes vectors as well, by a stand-in for a model;
//! `__confine` confines itself and becomes the program that recognises pictures;
//! `search MAP WORDS` prints what is found and how long that took.

use base::Fault;
use freehold_map::{self as map, Embed, IndexStep, Map, Query, Reader, Stage};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["__extract"] => map::run_extractor(),
        ["__confine", rest @ ..] => jail::run_trampoline(&rest.iter().map(Into::into).collect::<Vec<_>>()),
        ["index", dir, folder] => ended(index(Path::new(dir), Path::new(folder), None)),
        ["vectors", dir, folder] => ended(index(Path::new(dir), Path::new(folder), Some(&Letters))),
        ["search", dir, query] => ended(search(Path::new(dir), query)),
        _ => {
            say("usage: freehold-map-probe extract | index MAP FOLDER | vectors MAP FOLDER | search MAP WORDS");
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

/// A stand-in for a model: how often each letter stands in a text. Equal texts have equal vectors.
struct Letters;

impl Embed for Letters {
    fn model(&self) -> String {
        "letters".into()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        let vector = |text: &String| {
            let mut vector = vec![0.01f32; 32];
            text.bytes().for_each(|byte| vector[usize::from(byte % 32)] += 1.0);
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|value| *value /= length);
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }
}

fn index(dir: &Path, folder: &Path, embed: Option<&dyn Embed>) -> Result<(), Fault> {
    let map = open(dir)?;
    let mut on = |step| {
        if let IndexStep::Progress { stage: Stage::Commit, done, .. } = step {
            say(&format!("committed {done}"));
        }
    };
    let report = map.index(folder, embed, &mut on, &AtomicBool::new(false))?;
    say(&format!("documents {} passages {}", report.documents, report.passages));
    Ok(())
}
