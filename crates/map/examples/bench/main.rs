//! Speed, memory and strictness of search over synthetic files, for `cargo xtask bench map`.
//!
//! `bench --chunks N`. Text by Zipf's law, clustered vectors, questions drawn from the chunks; all of it through the
//! real reader, record and indexes in a temporary folder. Prints figures and goals as one object.

mod corpus;
mod figures;

use corpus::Corpus;
use freehold_map::fuse::Fusion;
use freehold_map::{Embed, Filter, Map, Query, Reader, Tuning};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const QUESTIONS: usize = 60;
const NEAREST: usize = 10;
/// Share of the chunks that a filter leaves, in ten-thousandths, and the folder depth that holds a part of that size.
const SELECTIVITIES: [(u32, u32, u32); 6] =
    [(1, 4, 1), (10, 3, 1), (100, 2, 1), (1_000, 1, 1), (5_000, 1, 5), (10_000, 0, 1)];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "extract") {
        return freehold_map::run_extractor();
    }
    let chunks = match args.as_slice() {
        [flag, chunks] if flag == "--chunks" => chunks.parse().ok(),
        _ => None,
    };
    let Some(chunks) = chunks else {
        let _ = writeln!(std::io::stderr(), "usage: bench --chunks N");
        return ExitCode::from(2);
    };
    match run(chunks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Questions by their text, and vectors of chunks by the number that each begins with.
struct Model {
    corpus: Corpus,
    questions: HashMap<String, Vec<f32>>,
}

impl Embed for Model {
    fn model(&self) -> String {
        "synthetic".into()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, base::Fault> {
        let vector = |text: &String| {
            let known = self.questions.get(text).cloned();
            known.or_else(|| Some(self.corpus.vector(corpus::number(text)?)))
        };
        let missing = || base::Fault::new(base::Code::ModelUnfit, "a text without its number");
        texts.iter().map(|text| vector(text).ok_or_else(missing)).collect()
    }
}

/// One filter with what searches under it came to.
struct Under {
    share: u32,
    hybrid_ms: Vec<f64>,
    held: usize,
    wanted: usize,
    violations: usize,
}

fn run(chunks: u32) -> Outcome<()> {
    let work = tempfile::tempdir()?;
    let corpus = Corpus { chunks };
    let files = work.path().join("files");
    let bytes = corpus.write(&files)?;
    let root = std::fs::canonicalize(&files)?;
    let asked: Vec<u32> =
        (0..QUESTIONS as u32).map(|at| (u64::from(at) * u64::from(chunks) / QUESTIONS as u64) as u32).collect();
    let questions: HashMap<String, Vec<f32>> =
        asked.iter().map(|at| (corpus.question(*at), corpus.near(*at))).collect();
    let model = Model { corpus, questions };
    let map = Map::open(&work.path().join("map"), Reader::new(std::env::current_exe()?))?;
    let started = Instant::now();
    let mut words_done = None;
    let done = map.index(
        &files,
        Some(&model),
        &mut |step| {
            if let freehold_map::IndexStep::Progress { stage: freehold_map::Stage::Embed, .. } = step {
                words_done.get_or_insert_with(|| started.elapsed());
            }
        },
        &AtomicBool::new(false),
    )?;
    let all_done = started.elapsed().as_secs_f64();
    let words_done = words_done.map_or(all_done, |took| took.as_secs_f64());
    if done.passages != u64::from(chunks) {
        return Err(format!("{chunks} chunks became {} passages", done.passages).into());
    }
    let mut unders = Vec::new();
    for (share, depth, parts) in SELECTIVITIES {
        unders.push(under(&map, &model, &asked, &root, (share, depth, parts))?);
    }
    let memory = figures::mapped(&work.path().join("map/vectors"))? + u64::from(chunks) * 4;
    let report = figures::report(&figures::Measured {
        chunks,
        bytes,
        words_seconds: words_done,
        seconds: all_done,
        memory,
        disk: ["vectors", "lexical", "map.db"].map(|part| figures::size(&work.path().join("map").join(part))),
        unders: &unders,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn under(map: &Map, model: &Model, asked: &[u32], root: &Path, of: (u32, u32, u32)) -> Outcome<Under> {
    let (share, depth, parts) = of;
    let corpus = &model.corpus;
    let mut under = Under { share, hybrid_ms: Vec::new(), held: 0, wanted: 0, violations: 0 };
    let vectors = Tuning { fusion: Some(Fusion::Scores { dense: 1.0 }), ..Tuning::default() };
    // Folders that needn't hold what is asked for: a chunk of each, by question.
    let chosen = |at: usize| {
        let first = (at as u64 * 6_979 + 2_991) % u64::from(corpus.chunks);
        let step = u64::from(corpus.chunks / 10);
        (0..u64::from(parts)).map(move |part| ((first + part * step) % u64::from(corpus.chunks)) as u32)
    };
    let kept: Vec<HashSet<u64>> =
        (0..asked.len()).map(|at| chosen(at).map(|chunk| corpus.part(chunk, depth)).collect()).collect();
    let questions: Vec<Vec<f32>> = asked.iter().map(|chunk| corpus.near(*chunk)).collect();
    let may = |at: usize, chunk: u32| kept[at].contains(&corpus.part(chunk, depth));
    let exact = corpus.nearest(&questions, &may, NEAREST);
    for (at, chunk) in asked.iter().enumerate() {
        let folders: Vec<PathBuf> = chosen(at).map(|chunk| root.join(corpus.folder(chunk, depth))).collect();
        let filter =
            if depth == 0 { Filter::default() } else { Filter { folders: folders.clone(), ..Filter::default() } };
        let query = Query { text: corpus.question(*chunk), limit: NEAREST, filter, ..Query::default() };
        let started = Instant::now();
        let hybrid = map.search(&query, Some(model))?;
        under.hybrid_ms.push(started.elapsed().as_secs_f64() * 1e3);
        let found = map.search_with(&query, Some(model), &vectors)?;
        let outside = |path: &Path| !folders.iter().any(|folder| path.starts_with(folder));
        under.violations += hybrid.hits.iter().chain(&found.hits).filter(|hit| outside(&hit.path)).count();
        let found: HashSet<u32> = found.hits.iter().filter_map(|hit| corpus::number(&hit.text)).collect();
        under.wanted += exact[at].len();
        under.held += exact[at].iter().filter(|chunk| found.contains(chunk)).count();
    }
    Ok(under)
}
