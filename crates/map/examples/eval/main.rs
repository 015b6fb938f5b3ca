//! Quality of search and of evidence on the development collections, for `cargo xtask eval map`.
//!
//! `eval [--only ir|spans] [--json] [--quick] [--data DIR] [--vectors FILE] [--texts FILE] [--ranks FILE]
//! [--pairs FILE] [--features FILE] [--sweep]`.
//! With `--only ir`, DIR is a collection in BEIR's layout, or a folder of some; with `--only spans` it is the folder of the
//! span set. Otherwise all development collections are read from DIR (by default `../shared/data/ir` beside the repository) and indexed through the real
//! reader, record and indexes in a temporary folder. `--texts` writes every text that an embedding model
//! would be given, one JSON string a line; `--vectors` takes their vectors back (`{"text": …, "vector": […]}`
//! a line), and then the vector arm and the fusion are judged too. `--pairs` writes the pairs of question and passage
//! that a reranker would be given (with `--only`), `--ranks` takes their scores back, and then the reranked order is
//! judged too. `--features` writes what the judgement of
//! evidence sees, `--sweep` tries other weights: both are for tuning.

mod collection;
mod judge;
mod measure;
mod ranks;
mod resample;

use collection::{Collection, Library, Spans};
use freehold_map::fuse::Fusion;
use freehold_map::rerank::{self, Weighing};
use freehold_map::{Boosts, Embed, Map, Query, Reader, ReaderLimits, Tuning};
use measure::Goal;
use ranks::Ranks;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "__extract") {
        return freehold_map::run_extractor();
    }
    match Settings::read(&args).and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Settings {
    json: bool,
    quick: bool,
    sweep: bool,
    only: Option<Only>,
    data: PathBuf,
    vectors: Option<PathBuf>,
    texts: Option<PathBuf>,
    ranks: Option<PathBuf>,
    pairs: Option<PathBuf>,
    features: Option<PathBuf>,
}

/// The part of the judgement that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Only {
    Ir,
    Spans,
}

impl Settings {
    fn read(args: &[String]) -> Outcome<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ir");
        let mut settings = Settings { data: beside, ..Settings::default() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut path = || args.next().map(PathBuf::from).ok_or(format!("`{arg}` needs a path"));
            match arg.as_str() {
                "--json" => settings.json = true,
                "--quick" => settings.quick = true,
                "--sweep" => settings.sweep = true,
                "--only" => {
                    settings.only = Some(match path()?.to_str() {
                        Some("ir") => Only::Ir,
                        Some("spans") => Only::Spans,
                        _ => return Err("`--only` takes `ir` or `spans`".into()),
                    });
                }
                "--data" => settings.data = path()?,
                "--vectors" => settings.vectors = Some(path()?),
                "--texts" => settings.texts = Some(path()?),
                "--ranks" => settings.ranks = Some(path()?),
                "--pairs" => settings.pairs = Some(path()?),
                "--features" => settings.features = Some(path()?),
                other => return Err(format!("unknown argument `{other}`").into()),
            }
        }
        if settings.pairs.is_some() && settings.only.is_none() {
            return Err("`--pairs` needs `--only ir` or `--only spans`".into());
        }
        if !settings.data.is_dir() {
            return Err(format!(
                "the development collections aren't there: `{}`; name their folder with `--data DIR`",
                settings.data.display()
            )
            .into());
        }
        Ok(settings)
    }
}

/// Vectors made elsewhere, or a notebook of the texts that need some.
#[derive(Default)]
struct Vectors {
    known: HashMap<String, Vec<f32>>,
    /// Texts without a vector, while they are collected.
    wanted: Option<Mutex<BTreeSet<String>>>,
}

impl Embed for Vectors {
    fn model(&self) -> String {
        "from a file".into()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, base::Fault> {
        if let Some(wanted) = &self.wanted {
            wanted.lock().expect("no thread panicked").extend(texts.iter().cloned());
            return Ok(texts.iter().map(|_| vec![1.0]).collect());
        }
        texts
            .iter()
            .map(|text| {
                self.known.get(text).cloned().ok_or_else(|| {
                    base::Fault::new(base::Code::ModelUnfit, format!("no vector for a text that begins `{:.60}`", text))
                })
            })
            .collect()
    }
}

impl Vectors {
    fn open(settings: &Settings) -> Outcome<Option<Self>> {
        if settings.texts.is_some() {
            return Ok(Some(Self { wanted: Some(Mutex::default()), ..Self::default() }));
        }
        let Some(path) = &settings.vectors else { return Ok(None) };
        #[derive(serde::Deserialize)]
        struct Line {
            text: String,
            vector: Vec<f32>,
        }
        let mut known = HashMap::new();
        for line in std::fs::read_to_string(path)?.lines() {
            let Line { text, vector } = serde_json::from_str(line)?;
            known.insert(text, vector);
        }
        Ok(Some(Self { known, wanted: None }))
    }
}

#[derive(Debug, Serialize)]
struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    settings: Vec<(String, String)>,
    tables: Vec<Table>,
    notes: Vec<String>,
    goals: Vec<Goal>,
}

/// One way of searching that is judged.
struct Arm {
    name: &'static str,
    vectors: bool,
    tuning: Tuning,
    /// Who has a second look.
    again: Option<Arc<Ranks>>,
}

/// What was tuned for the model that made the vectors of the development collections.
const TUNED: Fusion = Fusion::Scores { dense: 0.4 };

fn arms(vectors: bool, ranks: Option<Arc<Ranks>>) -> Vec<Arm> {
    let arm = |name, vectors, tuning| Arm { name, vectors, tuning, again: None };
    let usual = Tuning { fusion: Some(TUNED), ..Tuning::default() };
    let mut arms = vec![arm("lexical", false, usual)];
    if vectors {
        arms.push(arm("vector", true, Tuning { fusion: Some(Fusion::Scores { dense: 1.0 }), ..usual }));
        arms.push(arm("ranks", true, Tuning { fusion: Some(Fusion::Ranks { k: 60.0 }), ..usual }));
        arms.push(arm("hybrid", true, usual));
    }
    if ranks.is_some() {
        arms.push(Arm { again: ranks, ..arm("reranked", vectors, usual) });
    }
    arms
}

fn sweep(vectors: bool) -> Vec<Arm> {
    let mut arms = Vec::new();
    for (name, light) in [("light 1", 1.0), ("light .7", 0.7), ("light .5", 0.5), ("light .3", 0.3), ("light 0.1", 0.1)]
    {
        let boosts = Boosts { light, ..Boosts::default() };
        arms.push(Arm { name, vectors: false, tuning: Tuning { boosts, ..Tuning::default() }, again: None });
    }
    if vectors {
        for (name, dense) in [
            ("cc .2", 0.2),
            ("cc .3", 0.3),
            ("cc .4", 0.4),
            ("cc .5", 0.5),
            ("cc .6", 0.6),
            ("cc .7", 0.7),
            ("cc .8", 0.8),
        ] {
            arms.push(Arm {
                name,
                vectors: true,
                tuning: Tuning { fusion: Some(Fusion::Scores { dense }), ..Tuning::default() },
                again: None,
            });
        }
        for (name, k) in [("rrf 10", 10.0), ("rrf 20", 20.0), ("rrf 60", 60.0)] {
            arms.push(Arm {
                name,
                vectors: true,
                tuning: Tuning { fusion: Some(Fusion::Ranks { k }), ..Tuning::default() },
                again: None,
            });
        }
    }
    arms
}

fn run(settings: &Settings) -> Outcome<()> {
    let vectors = Vectors::open(settings)?;
    let embed = vectors.as_ref().map(|vectors| vectors as &dyn Embed);
    let mut report = Report::default();
    report.settings.push(("queries".into(), if settings.quick { "one in five" } else { "all" }.into()));
    let ranks = Ranks::open(settings)?;
    let mut arms = if settings.sweep { sweep(embed.is_some()) } else { arms(embed.is_some(), ranks) };
    if settings.pairs.is_some() {
        arms.retain(|arm| arm.again.is_some());
    }
    if let Some(only) = settings.only {
        return judge::run(settings, only, &arms, vectors.as_ref(), report);
    }
    let collecting = settings.texts.is_some();
    let cranfield = Collection::open(&settings.data.join("cranfield"), settings.quick)?;
    let spans = Spans::open(&settings.data.join("chroma-spans"), settings.quick)?;
    let work = tempfile::tempdir()?;
    let one = indexed(&work.path().join("cranfield"), &cranfield.documents, embed, &mut report)?;
    let maps: Vec<(String, Map)> = spans
        .corpora
        .iter()
        .map(|(name, text)| {
            let documents = [(format!("{name}.md"), text.clone())];
            Ok((name.clone(), indexed(&work.path().join(name), &documents, embed, &mut report)?))
        })
        .collect::<Outcome<_>>()?;
    let library = Library::open()?;
    let home = Map::open(&work.path().join("library"), Reader::new(std::env::current_exe()?))?;
    home.index(&library.folder, embed, &mut |_| {}, &AtomicBool::new(false))?;
    if collecting {
        let vectors = vectors.as_ref().ok_or("texts are collected by the embedder")?;
        let questions = cranfield
            .queries
            .iter()
            .map(|query| &query.text)
            .chain(spans.questions.iter().map(|question| &question.text))
            .chain(library.answered.iter().map(|answered| &answered.question))
            .chain(&library.refused);
        vectors.embed(&questions.cloned().collect::<Vec<_>>())?;
        return write_texts(settings, vectors);
    }
    measure::cranfield(&cranfield, &one, &arms, embed, &mut report)?;
    measure::spans(&spans, &maps, &arms, embed, &mut report)?;
    measure::evidence(&spans, &maps, embed, settings.features.as_deref(), &mut report)?;
    measure::library(&library, &home, embed, &mut report)?;
    if !settings.quick {
        readers(&work.path().join("cranfield"), &mut report)?;
    }
    print(settings, &report)
}

fn write_texts(settings: &Settings, vectors: &Vectors) -> Outcome<()> {
    let (Some(path), Some(wanted)) = (&settings.texts, &vectors.wanted) else { return Ok(()) };
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for text in wanted.lock().expect("no thread panicked").iter() {
        writeln!(out, "{}", serde_json::to_string(text)?)?;
    }
    Ok(out.flush()?)
}

/// Documents in one folder.
const FOLDER_FILES: usize = 1000;

/// Indexes documents as files, as a person's would be.
fn indexed(dir: &Path, documents: &[(String, String)], embed: Option<&dyn Embed>, report: &mut Report) -> Outcome<Map> {
    let files = dir.join("files");
    for (at, (name, text)) in documents.iter().enumerate() {
        // A name may be anything, and a folder of a million files is slow.
        let (folder, name) = match name.strip_suffix(".md") {
            Some(_) => (files.clone(), name.clone()),
            None => (files.join((at / FOLDER_FILES).to_string()), format!("{at}.txt")),
        };
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), text)?;
    }
    let map = Map::open(&dir.join("map"), Reader::new(std::env::current_exe()?))?;
    let started = Instant::now();
    let mut notices = Vec::new();
    let done = map.index(
        &files,
        embed,
        &mut |step| {
            if let freehold_map::IndexStep::Notice(notice) = step {
                notices.push(notice);
            }
        },
        &AtomicBool::new(false),
    )?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    report.settings.push((
        format!("indexed {name}"),
        format!("{} documents, {} passages, {:.1} s", done.documents, done.passages, started.elapsed().as_secs_f64()),
    ));
    report.notes.extend(notices);
    Ok(map)
}

/// What it costs to start a reader for each document, against one that reads many.
fn readers(dir: &Path, report: &mut Report) -> Outcome<()> {
    let mut rows = Vec::new();
    for documents_max in [1, 16, 256] {
        let limits = ReaderLimits { documents_max, ..ReaderLimits::default() };
        let reader = Reader { limits, ..Reader::new(std::env::current_exe()?) };
        let place = tempfile::tempdir()?;
        let map = Map::open(place.path(), reader)?;
        let started = Instant::now();
        let done = map.index(&dir.join("files"), None, &mut |_| {}, &AtomicBool::new(false))?;
        let each = started.elapsed().as_secs_f64() * 1e3 / done.documents as f64;
        rows.push(vec![documents_max.to_string(), format!("{each:.2}")]);
    }
    let head = ["documents for each reader", "ms for each document"].map(str::to_owned).to_vec();
    report.tables.push(Table { title: "starting confined readers, Cranfield".into(), head, rows });
    Ok(())
}

fn ask(map: &Map, text: &str, limit: usize, arm: &Arm, embed: Option<&dyn Embed>) -> Outcome<freehold_map::Found> {
    let how = Weighing::default();
    let deep = arm.again.as_ref().map_or(limit, |_| limit.max(how.candidates));
    let query = Query { text: text.to_owned(), limit: deep, ..Default::default() };
    let mut found = map.search_with(&query, embed.filter(|_| arm.vectors), &arm.tuning)?;
    if let Some(ranks) = &arm.again {
        let outcome = rerank::rerank(text, &mut found.hits, &**ranks, how);
        if let Some(wrong) = outcome.notices.into_iter().next() {
            return Err(wrong.into());
        }
    }
    found.hits.truncate(limit);
    Ok(found)
}

fn print(settings: &Settings, report: &Report) -> Outcome<()> {
    let mut out = std::io::stdout();
    if settings.json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    for (name, value) in &report.settings {
        writeln!(out, "{name}: {value}")?;
    }
    for table in &report.tables {
        writeln!(out, "\n{}\n{}", table.title, table.head.join("\t"))?;
        for row in &table.rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
    }
    for goal in &report.goals {
        writeln!(
            out,
            "goal {} {:.4} {}: {}",
            goal.name,
            goal.measured,
            goal.goal,
            if goal.met { "met" } else { "MISSED" }
        )?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}
