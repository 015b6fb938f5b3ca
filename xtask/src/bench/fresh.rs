//! `bench fresh`: from saving a file to finding it, in a tree that is watched.
//!
//! The real program and the real embedding model over a tree of small text files. Times run from the end of
//! the writing to the end of the first command that finds it, so each contains the start of a process.

use super::daemon::{Daemon, Freehold, Profile};
use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::{median, quantile};
use super::{Options, Watch};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const FILES_QUICK: usize = 300;
const SAVES: usize = 20;
const SAVES_QUICK: usize = 5;
const WORDS_PER_FILE: usize = 60;
const WORDS_FOUND_S_MAX: f64 = 1.0;
const VECTORS_FOUND_S_MAX: f64 = 3.0;
const SHARE_FOUND_S_MAX: f64 = 5.0;
/// Nothing that is still awaited after this comes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Indexing the whole tree with vectors may take this long.
const INDEX_PATIENCE: Duration = Duration::from_secs(1800);
/// Between two looks, beside the start of the process that looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

const VOCABULARY: [&str; 24] = [
    "garden", "boiler", "window", "letter", "river", "copper", "winter", "bridge", "orchard", "ledger", "harbour",
    "signal", "meadow", "lantern", "timber", "village", "pressure", "harvest", "station", "pattern", "railway",
    "cellar", "market", "journey",
];

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("from saving a file to finding it");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let daemon = Daemon::start(&freehold, &starter)?;
    let tree = Tree::make(if options.quick { FILES_QUICK } else { FILES })?;
    let started = Instant::now();
    place::output(daemon.command().arg("index").arg(&tree.dir))?;
    let indexed = started.elapsed();
    until(INDEX_PATIENCE, "the tree is watched", || Ok(show(&daemon)?["freshness"]["following"] == "watched"))?;
    complete(&daemon, INDEX_PATIENCE)?;

    let (mut words, mut vectors) = (Vec::new(), Vec::new());
    for save in 0..if options.quick { SAVES_QUICK } else { SAVES } {
        watch.gap();
        let name = format!("saved{save}");
        let saved = tree.write(save * 37 % tree.files, &name)?;
        words.push(found(&daemon, &name, saved)?);
        complete(&daemon, PATIENCE)?;
        vectors.push(saved.elapsed().as_secs_f64());
    }

    watch.gap();
    let changed = tree.files / 100;
    let mut saved = Instant::now();
    for file in 0..changed {
        saved = tree.write(file * 100 + 1, &format!("share{file}"))?;
    }
    let mut share: f64 = 0.0;
    for file in (0..changed).rev() {
        share = share.max(found(&daemon, &format!("share{file}"), saved)?);
    }
    complete(&daemon, PATIENCE)?;
    let share_vectors = saved.elapsed().as_secs_f64();
    report.quiet = Some(watch.seen());

    report.setting("tree", format!("{} files of {WORDS_PER_FILE} words", tree.files));
    report.setting("first indexing", format!("{} s with vectors", figure(indexed.as_secs_f64())));
    let mut table = Table::new("seconds after the save", &["", "median", "95th percentile", "longest"]);
    for (name, values) in [("found by its words", &words), ("with its vector", &vectors)] {
        let longest = values.iter().copied().fold(0.0, f64::max);
        table.rows.push(vec![name.into(), figure(median(values)), figure(quantile(values, 0.95)), figure(longest)]);
    }
    table.rows.push(vec![
        format!("{changed} files, vectors of all"),
        figure(share_vectors),
        String::new(),
        String::new(),
    ]);
    report.tables.push(table);
    report.goals.push(Goal::plain(
        "save to found by words, 95th percentile",
        quantile(&words, 0.95),
        "s",
        Bound::Below(WORDS_FOUND_S_MAX),
    ));
    report.goals.push(Goal::plain(
        "save to vector, 95th percentile",
        quantile(&vectors, 0.95),
        "s",
        Bound::Below(VECTORS_FOUND_S_MAX),
    ));
    report.goals.push(Goal::plain("1 % of the tree changed, all found", share, "s", Bound::Below(SHARE_FOUND_S_MAX)));
    drop(daemon);
    Ok(report.finish(options.json))
}

/// Small text files, a hundred in a folder; removed when dropped.
struct Tree {
    dir: PathBuf,
    files: usize,
}

impl Tree {
    fn make(files: usize) -> Result<Self> {
        let dir = place::cache()?.join("bench-tree");
        let _ = std::fs::remove_dir_all(&dir);
        let tree = Self { dir, files };
        for file in 0..files {
            tree.write(file, "first")?;
        }
        Ok(tree)
    }

    /// Writes a file anew with a word of its own; the instant when it is saved.
    fn write(&self, file: usize, word: &str) -> Result<Instant> {
        let path = self.dir.join(format!("{}", file / 100)).join(format!("{file}.txt"));
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let mut text = format!("Note {file} about {word}.");
        for at in 0..WORDS_PER_FILE {
            let word = VOCABULARY[(file * 31 + at * at * 7 + at) % VOCABULARY.len()];
            text.push_str(if at % 12 == 0 { "\nThe " } else { " " });
            text.push_str(word);
        }
        std::fs::write(&path, text)?;
        Ok(Instant::now())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn show(daemon: &Daemon<'_>) -> Result<Value> {
    let text = place::output(daemon.command().args(["map", "list", "--json"]))?;
    let list: Value = serde_json::from_str(&text)?;
    list["maps"].get(0).cloned().context("there is no map")
}

/// Waits until every passage has its vector and nothing is pending.
fn complete(daemon: &Daemon<'_>, patience: Duration) -> Result<()> {
    until(patience, "every passage has its vector", || {
        let map = show(daemon)?;
        let fresh = &map["freshness"];
        Ok(map["embedded"] == map["passages"] && fresh["files_pending"] == 0 && fresh["vectors_pending"] == 0)
    })
    .map(drop)
}

/// Seconds from the save until a search by words finds the word.
fn found(daemon: &Daemon<'_>, word: &str, saved: Instant) -> Result<f64> {
    until(PATIENCE, word, || {
        // Exit status 1 says that nothing is found.
        let said = daemon.command().args(["search", "--words", "--json", word]).output()?;
        let reply: Value = serde_json::from_slice(&said.stdout)?;
        Ok(reply["hits"].as_array().is_some_and(|hits| !hits.is_empty()))
    })?;
    Ok(saved.elapsed().as_secs_f64())
}

fn until(patience: Duration, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > patience {
            bail!("waited {} s in vain: {what}", patience.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
