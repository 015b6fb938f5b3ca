//! `bench map`: search over synthetic chunks beside other libraries, and how indexing grows.
//!
//! Our side is an example of `crates/map`, each peer a library behind `xtask/peers/map.py`. All of them take up the same
//! chunks and vectors, one after the other, at growing sizes. At the largest all are asked the same questions in turn
//! ([`side`]); every search is timed by the side itself. A peer is asked at the fastest of its settings that finds as many
//! of the true nearest as our goal asks for. Figures and goals are made in [`judge`].

mod judge;
mod side;

use super::install::{self, Known, Peer};
use super::report::{Report, figure};
use super::side::{Side, size};
use super::{Options, Watch, process};
use crate::place;
use anyhow::{Context, Result, bail};
use judge::{Built, Heard, Questions, RECALL_MIN};
use serde_json::json;
use side::Arm;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const SIZES_QUICK: [u32; 2] = [10_000, 20_000];
/// Questions whose answers are measured.
const QUESTIONS: usize = 100;
const QUESTIONS_QUICK: usize = 20;
/// Others by which a peer's setting is chosen.
const TRIALS: usize = 10;
/// Asked under each filter before anything is timed.
const WARM: usize = 2;
/// A peer that takes longer for a corpus is stopped and takes part no more.
const PEER_INDEX_LIMIT: Duration = Duration::from_secs(600);
/// A peer answers no more questions under a filter when this is used up, if it has answered some.
const PEER_ASK_LIMIT: Duration = Duration::from_secs(30);
const PEER_ANSWERS_MIN: usize = 5;
/// One search that takes longer ends its side.
const SEARCH_LIMIT: Duration = Duration::from_secs(60);
/// Ours is waited for; this only keeps a hung run from staying for ever.
const OWN_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// Room on the disk for the corpus and all that the sides make of it.
const ROOM_BYTES_PER_CHUNK: u64 = 20_000;
const OURS: &str = "freehold";
/// Where ours keeps its map, below the folder of the corpus.
const OWN_STORE: &str = "map";
/// Before the name by which `xtask/peers/map.py` knows a peer.
const LISTS: &str = "map-";

pub(super) const KNOWN: [Known; 3] = [
    Known {
        list: "map-lancedb",
        name: "LanceDB",
        packages: &["lancedb"],
        licences: "Apache-2.0, MIT, BSD, PSF",
        megabytes: 120,
    },
    Known {
        list: "map-sqlite",
        name: "SQLite",
        packages: &["apsw", "sqlite-vec"],
        licences: "zlib, MIT",
        megabytes: 8,
    },
    Known {
        list: "map-faiss",
        name: "faiss and tantivy",
        packages: &["faiss-cpu", "tantivy"],
        licences: "MIT, BSD",
        megabytes: 50,
    },
];

/// # Errors
/// When our side can't be built or fails; a peer that does is left out, and the report says so.
pub(super) fn run(options: Options) -> Result<ExitCode> {
    let (sizes, questions) = if options.quick { (&SIZES_QUICK[..], QUESTIONS_QUICK) } else { (&SIZES[..], QUESTIONS) };
    let mut report = Report::new("search at scale, beside other libraries");
    let mut peers = Vec::new();
    for known in KNOWN {
        match install::ensure(known) {
            Ok(peer) => peers.push(peer),
            Err(error) => report.notes.push(format!("{} was skipped: {error:#}", known.name)),
        }
    }
    let mut bench = Bench { program: program()?, watch: Watch::start(options.patience())?, peers, notes: Vec::new() };
    let (mut built, mut bytes) = (Vec::new(), Vec::new());
    for (at, chunks) in sizes.iter().enumerate() {
        let folder = Folder::make(*chunks)?;
        let mut stage = bench.index(*chunks, &folder.0)?;
        built.append(&mut stage.built);
        bytes.push((*chunks, stage.bytes));
        if at + 1 == sizes.len() {
            bench.search(&mut stage, *chunks, questions, &folder.0, &mut report)?;
        }
    }
    report.quiet = Some(bench.watch.seen());
    for peer in &bench.peers {
        report.setting(peer.known.name, peer.versions.clone());
    }
    let (index, ask) = (PEER_INDEX_LIMIT.as_secs(), PEER_ASK_LIMIT.as_secs());
    report.setting("a peer's time", format!("{index} s for a corpus, {ask} s for the searches under a filter"));
    report.tables.push(judge::built_table(&built, &bytes));
    report.notes.append(&mut bench.notes);
    report.notes.push(NOTE.into());
    Ok(report.finish(options.json))
}

const NOTE: &str = "vectors are made up, not embedded, and handed to all. Ours reads files, takes them apart in confined \
    processes, whose memory isn't in the peak, and keeps a record; the peers are handed ready chunks. Disk holds the text too, in all. \
    Pages of mapped files count as memory of whoever maps them.";

/// Builds our side; its path.
fn program() -> Result<PathBuf> {
    let example = ["--quiet", "--locked", "--release", "--package", "freehold-map", "--example", "bench"];
    place::output(place::cargo().arg("build").args(example))?;
    Ok(place::target()?.join("release/examples/bench"))
}

/// Up to some gigabytes; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(chunks: u32) -> Result<Self> {
        let folder = place::cache()?.join("bench-map");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("can't make `{}`", folder.display()))?;
        let (free, room) = (process::disk_free(&folder)?, u64::from(chunks) * ROOM_BYTES_PER_CHUNK);
        if free < room {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            let at = folder.display();
            bail!("{chunks} chunks take up to {:.1} GB below `{at}`; {:.1} GB are free", gb(room), gb(free));
        }
        // Our side tells its folder by the name that the system has for it.
        Ok(Self(std::fs::canonicalize(folder)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Bench {
    program: PathBuf,
    watch: Watch,
    peers: Vec<Peer>,
    notes: Vec<String>,
}

/// A corpus that all sides have taken up; ours is the first.
struct Stage {
    sides: Vec<Side>,
    built: Vec<Built>,
    settings: Vec<String>,
    bytes: u64,
}

impl Bench {
    /// Makes a corpus and has each side take it up, one after the other.
    fn index(&mut self, chunks: u32, folder: &Path) -> Result<Stage> {
        eprintln!("{chunks} chunks …");
        let mut command = Command::new(&self.program);
        command.args(["--chunks", &chunks.to_string(), "--dir"]).arg(folder);
        let mut ours = Side::start(OURS, &folder.join(OWN_STORE), command)?;
        let made = ours.request(&json!({ "do": "corpus" }), OWN_LIMIT)?;
        let bytes = made["bytes"].as_u64().context("the corpus has no size")?;
        self.rest()?;
        let (built, settings) = ours.index(chunks, OWN_LIMIT)?;
        let mut stage = Stage { sides: vec![ours], built: vec![built], settings: vec![settings], bytes };
        let mut peers = std::mem::take(&mut self.peers);
        let mut lost = Vec::new();
        for peer in &peers {
            self.rest()?;
            let kind = peer.known.list.trim_start_matches(LISTS);
            let store = folder.join(kind);
            let mut command = peer.command("map.py");
            command.arg(kind).arg(folder).arg(&store);
            let indexed = Side::start(peer.known.name, &store, command)
                .and_then(|mut side| side.index(chunks, PEER_INDEX_LIMIT).map(|done| (side, done)));
            match indexed {
                Ok((side, (built, settings))) => {
                    stage.sides.push(side);
                    stage.built.push(built);
                    stage.settings.push(settings);
                }
                Err(error) => {
                    // What it has written so far mustn't take the others' room.
                    let _ = std::fs::remove_dir_all(&store);
                    self.notes.push(format!("{} at {chunks} chunks: {error:#}", peer.known.name));
                    lost.push(peer.known);
                }
            }
        }
        peers.retain(|peer| !lost.contains(&peer.known));
        self.peers = peers;
        Ok(stage)
    }

    /// What one side has written mustn't still go to the disk while the next is measured.
    fn rest(&mut self) -> Result<()> {
        place::output(&mut Command::new("sync"))?;
        self.watch.gap();
        Ok(())
    }

    fn search(
        &mut self,
        stage: &mut Stage,
        chunks: u32,
        count: usize,
        folder: &Path,
        report: &mut Report,
    ) -> Result<()> {
        stage.sides[0].request(&json!({ "do": "questions", "count": TRIALS + count }), OWN_LIMIT)?;
        let questions: Questions = serde_json::from_slice(&std::fs::read(folder.join("questions.json"))?)?;
        self.rest()?;
        let mut heard = Vec::new();
        for filter in 0..questions.shares.len() {
            eprintln!("searching under a filter of {} % …", f64::from(questions.shares[filter]) / 100.0);
            heard.push(under(&mut stage.sides, &questions, filter)?);
            self.watch.gap();
        }
        let sides = &stage.sides;
        let names: Vec<(String, Vec<String>)> =
            sides.iter().map(|side| (side.name.clone(), side.knobs.clone())).collect();
        let mut table = judge::search_table();
        for (share, heard) in questions.shares.iter().zip(&heard) {
            table.rows.extend(judge::search_rows(*share, &names, heard));
        }
        report.tables.push(table);
        report.setting("chunks searched", chunks.to_string());
        for (side, settings) in sides.iter().zip(&stage.settings) {
            report.setting(&format!("{}: how", side.name), settings.clone());
            match &side.failed {
                Some(why) => self.notes.push(format!("{} ended while it was searched: {why}", side.name)),
                None => report.setting(
                    &format!("{}: memory after the searches", side.name),
                    format!("{} MB", figure(side.memory("VmRSS:")? as f64 / 1e6)),
                ),
            }
        }
        let own = folder.join(OWN_STORE);
        let parts = ["vectors", "lexical", "map.db"].map(|part| size(&own.join(part)));
        let [vectors, words, record] = parts.map(|size| figure(size as f64 / 1e6));
        report.setting("freehold: disk", format!("vectors {vectors} MB, words {words} MB, record {record} MB"));
        // Beside its pages, which are mapped, each vector has its passage's number in memory.
        let memory = sides[0].mapped(&own.join("vectors"))? + u64::from(chunks) * 4;
        let ours: Vec<&Heard> = heard.iter().map(|sides| &sides[0]).collect();
        report.goals = judge::own_goals(chunks, &ours, memory, parts[0] + parts[1]);
        report.goals.extend(judge::beside_goals(&names, &heard));
        Ok(())
    }
}

/// Asks all sides all questions under one filter, in turn and in changing order. Ours, the first, mustn't fail.
fn under(sides: &mut [Side], questions: &Questions, filter: usize) -> Result<Vec<Heard>> {
    let mut heard = vec![Heard::default(); sides.len()];
    let mut spent = vec![Duration::ZERO; sides.len()];
    for (at, side) in sides.iter_mut().enumerate().filter(|(_, side)| side.failed.is_none()) {
        let started = Instant::now();
        match tune(side, questions, filter) {
            Ok(knob) => heard[at].knob = knob,
            Err(error) if at == 0 => return Err(error),
            Err(error) => side.failed = Some(format!("{error:#}")),
        }
        spent[at] = started.elapsed();
    }
    for (round, question) in (TRIALS..questions.questions.len()).enumerate() {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            let is_over = spent[at] > PEER_ASK_LIMIT && heard[at].hybrid_ms.len() >= PEER_ANSWERS_MIN;
            if sides[at].failed.is_some() || (at > 0 && is_over) {
                continue;
            }
            let (started, knob) = (Instant::now(), heard[at].knob);
            let mut ask = |arm| sides[at].ask(question, filter, arm, knob, SEARCH_LIMIT);
            match ask(Arm::Hybrid).and_then(|hybrid| Ok((hybrid, ask(Arm::Vectors)?))) {
                Ok((hybrid, vectors)) => {
                    heard[at].add(&questions.questions[question].under[filter], &hybrid, &vectors);
                }
                Err(error) if at == 0 => return Err(error),
                Err(error) => sides[at].failed = Some(format!("{error:#}")),
            }
            spent[at] += started.elapsed();
        }
    }
    Ok(heard)
}

/// The fastest setting that finds enough of the nearest to the questions of the trial; it warms the side up too.
fn tune(side: &mut Side, questions: &Questions, filter: usize) -> Result<usize> {
    let started = Instant::now();
    let mut chosen = 0;
    for knob in 0..side.knobs.len() {
        chosen = knob;
        let (mut held, mut wanted) = (0, 0);
        for question in 0..TRIALS {
            let under = &questions.questions[question].under[filter];
            let answer = side.ask(question, filter, Arm::Vectors, knob, SEARCH_LIMIT)?;
            held += under.held(&answer);
            wanted += under.nearest.len();
        }
        if wanted == 0 {
            bail!("the filter leaves nothing");
        }
        if held as f64 / wanted as f64 >= RECALL_MIN || started.elapsed() > PEER_ASK_LIMIT / 2 {
            break;
        }
    }
    for question in 0..WARM {
        side.ask(question, filter, Arm::Hybrid, chosen, SEARCH_LIMIT)?;
    }
    Ok(chosen)
}
