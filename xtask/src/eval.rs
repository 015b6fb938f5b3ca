//! Judgements of quality: `cargo xtask eval NAME [--dir DIR] [--reranker FILE] [--model FILE] [--answers FILE]
//! [--json] [--quick]`.
//!
//! `ir` judges ranking on any collection in BEIR's layout (or a folder of some), `spans` on the span set.
//! `templates` compares chat templates as we render them with a reference.
//! `families` writes what became of every model family into `docs/families.md`.
//! `map` runs the retrieval evaluation of `crates/map` (an example there, so that it needs no door
//! into the crate) on the collections that lie beside the repository. The example prints figures
//! and goals as one object; here they get the machine and the exit status that all measurements have.

mod families;
mod rank;
mod tasks;
mod templates;
mod vector;

use crate::bench::report::{Goal, Report, Table};
use crate::bench::{self, Options};
use crate::place;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Names that a guard may cite as `eval: NAME`.
pub(crate) const NAMES: [&str; 6] = ["map", "ir", "spans", "templates", "tasks", "families"];

/// What the example prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Judged {
    #[serde(default)]
    pub(crate) settings: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) tables: Vec<Table>,
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    pub(crate) goals: Vec<Goal>,
}

/// # Errors
/// When the call is wrong, the collections aren't there or the evaluation fails.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (dir, rest) = path_of("--dir", args)?;
    let (reranker, rest) = path_of("--reranker", &rest)?;
    let (model, rest) = path_of("--model", &rest)?;
    let (answers, rest) = path_of("--answers", &rest)?;
    let (name, options) = bench::read(&rest, &NAMES)?;
    if name == "families" {
        return families::run();
    }
    if name == "templates" {
        return templates::run(dir, options);
    }
    if name == "tasks" {
        if reranker.is_some() {
            bail!("tasks need no reranker; name a model with --model");
        }
        return tasks::run(tasks::Wanted { dir, model, answers }, options);
    }
    if model.is_some() || answers.is_some() {
        bail!("only `eval tasks` takes --model and --answers");
    }
    if name == "map" {
        if reranker.is_some() {
            bail!("a reranker is judged by `eval ir` and `eval spans`");
        }
        return judge(name, dir, None, options);
    }
    let kept = std::env::var_os("FREEHOLD_EVAL_RERANKER").map(PathBuf::from);
    judge(name, dir, reranker.or(kept), options)
}

/// The path that follows a flag, and the other arguments.
fn path_of(flag: &str, args: &[String]) -> Result<(Option<PathBuf>, Vec<String>)> {
    let Some(at) = args.iter().position(|arg| arg == flag) else { return Ok((None, args.to_vec())) };
    let path = args.get(at + 1).with_context(|| format!("`{flag}` needs a path"))?;
    let rest = args[..at].iter().chain(&args[at + 2..]).cloned().collect();
    Ok((Some(PathBuf::from(path)), rest))
}

fn judge(name: &str, dir: Option<PathBuf>, reranker: Option<PathBuf>, options: Options) -> Result<ExitCode> {
    let data = match dir {
        Some(dir) => dir,
        None => {
            let beside = match std::env::var_os("FREEHOLD_EVAL_DATA") {
                Some(folder) => PathBuf::from(folder),
                None => place::root().parent().context("the repository has a folder around it")?.join("shared/data/ir"),
            };
            if name == "spans" { beside.join("chroma-spans") } else { beside }
        }
    };
    if !data.is_dir() {
        bail!(
            "the collections aren't there: `{}`; name their folder with --dir or set FREEHOLD_EVAL_DATA to it",
            data.display()
        );
    }
    let folder = place::cache()?.join("eval");
    std::fs::create_dir_all(&folder)?;
    // The example knows no model: it names the texts that need a vector, the daemon makes them.
    let vectors = folder.join("vectors.jsonl");
    let embedder = if options.quick {
        None
    } else {
        let texts = folder.join("texts.jsonl");
        place::output(example(name, &data, options).arg("--texts").arg(&texts))?;
        Some(vector::make(&texts, &vectors)?)
    };
    let with_vectors = || {
        let mut command = example(name, &data, options);
        if embedder.is_some() {
            command.arg("--vectors").arg(&vectors);
        }
        command
    };
    let mut command = with_vectors();
    command.arg("--json");
    let judge = match &reranker {
        None => None,
        Some(reranker) => {
            let (pairs, ranks) = (folder.join("pairs.jsonl"), folder.join("ranks.jsonl"));
            place::output(with_vectors().arg("--pairs").arg(&pairs))?;
            let judge = rank::make(reranker, &pairs, &ranks)?;
            command.arg("--ranks").arg(&ranks);
            Some(judge)
        }
    };
    let judged = read(&place::output(&mut command)?)?;
    let mut report = Report::new("quality of search");
    report.settings = judged.settings;
    report.setting("collections", data.display().to_string());
    report.setting("reranked", judge.unwrap_or_else(|| "no reranker: name one with --reranker FILE".into()));
    report.setting("vectors", embedder.unwrap_or_else(|| "none: words alone are judged".into()));
    report.tables = judged.tables;
    report.notes = judged.notes;
    report.goals = judged.goals;
    Ok(report.finish(options.json))
}

fn example(name: &str, data: &Path, options: Options) -> Command {
    let mut cargo = place::cargo();
    cargo.args(["run", "--quiet", "--locked", "--release", "--package", "freehold-map", "--example", "eval", "--"]);
    if name != "map" {
        cargo.args(["--only", name]);
    }
    cargo.arg("--data").arg(data);
    if options.quick {
        cargo.arg("--quick");
    }
    cargo
}

/// The last line that is an object: cargo and libraries may have said something before.
pub(crate) fn read(said: &str) -> Result<Judged> {
    let line = said.lines().rev().find(|line| line.starts_with('{')).context("the evaluation printed no object")?;
    let judged: Judged = serde_json::from_str(line).context("the evaluation's object isn't as expected")?;
    if judged.goals.is_empty() {
        bail!("the evaluation named no goal");
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_goals_are_read() {
        let said = "talk\n{\"goals\": [{\"name\": \"nDCG@10\", \"measured\": 0.4, \"unit\": \"\", \"goal\": \">= 0.3\", \"met\": true}]}\n";
        let judged = read(said).expect("read");
        assert!(judged.goals[0].met && judged.goals[0].peer.is_none());
        for bad in ["", "{}", "{\"goals\": []}", "no object"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_may_be_named_anywhere() {
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let (dir, rest) = path_of("--dir", &words("ir --dir /x --json")).expect("good");
        assert_eq!((dir, rest), (Some(PathBuf::from("/x")), words("ir --json")));
        assert!(path_of("--dir", &words("ir --dir")).is_err());
        assert_eq!(path_of("--reranker", &words("map --dir /x")).expect("good").0, None);
    }
}
