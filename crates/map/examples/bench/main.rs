//! Our side of `cargo xtask bench map`: the real reader, record and indexes over synthetic files.
//!
//! `bench --chunks N --dir DIR` reads requests from standard input, one object a line, and answers each with one:
//! `corpus` writes what every side reads, `index` takes it up, `questions` writes what will be asked with the true
//! answers, `ask` searches. Whoever asks stands in `xtask/src/bench/map`.

mod corpus;

use corpus::{Corpus, Part, SELECTIVITIES};
use freehold_map::fuse::Fusion;
use freehold_map::{Embed, Filter, IndexStep, Map, Query, Reader, Stage, Tuning};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const NEAREST: usize = 10;
/// Has no divisor in common with the numbers of questions that are asked for, so that they come in a mixed order.
const STRIDE: u64 = 37;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "__extract") {
        return freehold_map::run_extractor();
    }
    let call = match args.as_slice() {
        [first, chunks, second, dir] if first == "--chunks" && second == "--dir" => {
            chunks.parse().ok().map(|chunks| (chunks, PathBuf::from(dir)))
        }
        _ => None,
    };
    let Some((chunks, dir)) = call else {
        let _ = writeln!(std::io::stderr(), "usage: bench --chunks N --dir DIR");
        return ExitCode::from(2);
    };
    match serve(chunks, &dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(chunks: u32, dir: &Path) -> Outcome<()> {
    std::fs::create_dir_all(dir)?;
    let mut side = Side {
        dir: std::fs::canonicalize(dir)?,
        map: Map::open(&dir.join("map"), Reader::new(std::env::current_exe()?))?,
        model: Model { corpus: Corpus { chunks }, questions: HashMap::new() },
        asked: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let reply = side.answer(&request).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
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

/// A question with the filter of each selectivity.
struct Asked {
    text: String,
    parts: Vec<Part>,
}

struct Side {
    dir: PathBuf,
    map: Map,
    model: Model,
    asked: Vec<Asked>,
}

impl Side {
    fn answer(&mut self, request: &Value) -> Outcome<Value> {
        let number = |name: &str| request[name].as_u64().ok_or_else(|| format!("the request has no `{name}`"));
        match request["do"].as_str() {
            Some("corpus") => Ok(json!({ "bytes": self.model.corpus.write(&self.dir)? })),
            Some("index") => self.index(),
            Some("questions") => self.questions(number("count")?),
            Some("ask") => {
                let by_vectors = request["arm"] == "vectors";
                self.ask(number("question")? as usize, number("filter")? as usize, by_vectors)
            }
            _ => Err(format!("`{request}` isn't known here").into()),
        }
    }

    fn index(&self) -> Outcome<Value> {
        let started = Instant::now();
        let mut words_done = None;
        let done = self.map.index(
            &self.dir.join("files"),
            Some(&self.model),
            &mut |step| {
                if let IndexStep::Progress { stage: Stage::Embed, .. } = step {
                    words_done.get_or_insert_with(|| started.elapsed());
                }
            },
            &AtomicBool::new(false),
        )?;
        let all = started.elapsed();
        let chunks = self.model.corpus.chunks;
        if done.passages != u64::from(chunks) {
            return Err(format!("{chunks} chunks became {} passages", done.passages).into());
        }
        let words = words_done.unwrap_or(all);
        Ok(json!({
            "words_s": words.as_secs_f64(),
            "all_s": all.as_secs_f64(),
            "settings": "files through the confined reader; scores fused",
            "knobs": ["as it is"],
        }))
    }

    /// Draws questions from chunks of the whole corpus and writes them with what is truly nearest.
    fn questions(&mut self, count: u64) -> Outcome<Value> {
        let corpus = &self.model.corpus;
        let chunk = |at: u64| ((at * STRIDE % count) * u64::from(corpus.chunks) / count) as u32;
        let drawn: Vec<u32> = (0..count).map(chunk).collect();
        let parts: Vec<Vec<Part>> = (0..count as u32)
            .map(|question| SELECTIVITIES.iter().map(|each| corpus.part(question, *each)).collect())
            .collect();
        let looks: Vec<_> = drawn
            .iter()
            .zip(&parts)
            .map(|(chunk, parts)| (corpus.near(*chunk), parts.iter().map(|part| corpus.held(part)).collect::<Vec<_>>()))
            .collect();
        let nearest = corpus.nearest(&looks, NEAREST);
        let mut list = Vec::new();
        for (at, (vector, ranges)) in looks.iter().enumerate() {
            let under: Vec<Value> = (0..ranges.len())
                .map(|filter| {
                    let (places, held) = (parts[at][filter].places(), &ranges[filter]);
                    json!({ "low": places.start, "high": places.end, "first": held.start, "end": held.end,
                        "nearest": nearest[at][filter] })
                })
                .collect();
            list.push(json!({ "text": corpus.question(drawn[at]), "vector": vector, "under": under }));
        }
        let shares: Vec<u32> = SELECTIVITIES.iter().map(|(share, ..)| *share).collect();
        let all = json!({ "shares": shares, "dimensions": corpus::DIMENSIONS, "questions": list });
        std::fs::write(self.dir.join("questions.json"), serde_json::to_vec(&all)?)?;
        let texts: Vec<String> = drawn.iter().map(|chunk| corpus.question(*chunk)).collect();
        self.model.questions = texts.iter().cloned().zip(looks.into_iter().map(|(vector, _)| vector)).collect();
        self.asked = texts.into_iter().zip(parts).map(|(text, parts)| Asked { text, parts }).collect();
        Ok(json!({}))
    }

    fn ask(&self, question: usize, filter: usize, by_vectors: bool) -> Outcome<Value> {
        let asked = self.asked.get(question).ok_or("there is no such question")?;
        let part = asked.parts.get(filter).ok_or("there is no such filter")?;
        let files = self.dir.join("files");
        let filter =
            Filter { folders: part.paths().iter().map(|path| files.join(path)).collect(), ..Filter::default() };
        let query = Query { text: asked.text.clone(), limit: NEAREST, filter, ..Query::default() };
        let mut tuning = Tuning::default();
        if by_vectors {
            tuning.fusion = Some(Fusion::Scores { dense: 1.0 });
        }
        let started = Instant::now();
        let found = self.map.search_with(&query, Some(&self.model), &tuning)?;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let chunks: Option<Vec<u32>> = found.hits.iter().map(|hit| corpus::number(&hit.text)).collect();
        Ok(json!({ "ms": ms, "chunks": chunks.ok_or("a passage without its number")? }))
    }
}
