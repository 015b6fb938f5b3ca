//! `eval tasks`: each task beside the same model that is asked plainly in a chat.
//!
//! The plain prompts stand in `crates/tasks/eval/plain.toml` and were frozen before any prompt of the tasks was tuned. Both
//! sides answer the same lines and are judged by the same rules ([`super::judge`]).

use super::judge::{Came, Case, score};
use crate::bench::Options;
use crate::bench::daemon::{Daemon, Freehold, Profile};
use crate::bench::dice::Dice;
use crate::bench::http::{self, Next};
use crate::bench::report::{Goal, Report, Table};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The longest plain answer: more than any expected one.
const PLAIN_TOKENS_MAX: u32 = 400;
/// Times that cases are drawn anew for an interval.
const DRAWS: usize = 4000;
/// A quick run takes so many cases of each task.
const QUICK_CASES: usize = 4;

/// Scores of one task, in the order of its cases.
#[derive(Debug, Default)]
struct Scores {
    tasks: Vec<f64>,
    plain: Vec<f64>,
    failed: u32,
}

pub(super) fn run(dir: Option<PathBuf>, model: Option<PathBuf>, options: Options) -> Result<ExitCode> {
    let own = place::root().join("crates/tasks/eval");
    let dir = dir.unwrap_or_else(|| own.clone());
    let cases = cases(&dir, options.quick)?;
    let plain: BTreeMap<String, String> = toml::from_str(&std::fs::read_to_string(own.join("plain.toml"))?)?;
    let freehold = Freehold::build(Profile::Release)?;
    let model = match model {
        Some(model) => std::path::absolute(model)?,
        None => freehold.starter()?.chat,
    };
    let daemon = Daemon::start_with(&freehold, &[&model], &[])?;
    let (mut all, mut attempts): (BTreeMap<String, Scores>, Scores) = Default::default();
    for (done, case) in cases.iter().enumerate() {
        eprint!("\rcase {} of {} ", done + 1, cases.len());
        let attempt = !case.expected["canary"].is_null();
        let scores = if attempt { &mut attempts } else { all.entry(case.task.clone()).or_default() };
        let (task, failed) = ours(&daemon.address, case)?;
        scores.failed += u32::from(failed);
        scores.tasks.push(task);
        scores.plain.push(theirs(&daemon.address, case, &plain)?);
    }
    eprintln!();
    let mut report = Report::new("tasks beside the same model asked plainly");
    report.setting("model", model.display().to_string());
    report.setting("sets", dir.display().to_string());
    report.setting("plain", "crates/tasks/eval/plain.toml, temperature 0");
    report.tables.push(table(&all));
    if !attempts.tasks.is_empty() {
        let kept = |scores: &[f64]| scores.iter().filter(|score| **score > 0.5).count();
        report.notes.push(format!(
            "of {} attempts to give instructions in the input, {} had no effect on the tasks and {} none on the plain prompts",
            attempts.tasks.len(),
            kept(&attempts.tasks),
            kept(&attempts.plain)
        ));
    }
    report.goals = goals(&all);
    Ok(report.finish(options.json))
}

fn cases(dir: &Path, quick: bool) -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("can't read `{}`", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let mut cases = Vec::new();
    let mut taken: BTreeMap<(String, String), usize> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let case: Case = serde_json::from_str(line)
                .with_context(|| format!("line {} of `{}` is no case", at + 1, file.display()))?;
            let count = taken.entry((file.display().to_string(), case.task.clone())).or_default();
            *count += 1;
            if !quick || *count <= QUICK_CASES {
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        bail!(
            "`{}` holds no lines of {{\"task\", \"input\", \"options\", \"expected\"}} in files *.jsonl",
            dir.display()
        );
    }
    Ok(cases)
}

/// The task's score, and whether it failed altogether (which scores nothing).
fn ours(address: &str, case: &Case) -> Result<(f64, bool)> {
    let mut body = case.options.clone();
    if body.is_null() {
        body = json!({});
    }
    body["text"] = json!(case.input);
    let path = format!("/v1/tasks/{}", case.task);
    let reply = http::call(address, &path, &[], Some(&body), &mut |_| Next::Read)?;
    let value: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
    if reply.status != 200 {
        let code = value["error"]["fault"]["code"].as_str().unwrap_or_default();
        if code == "invalid_ask" {
            bail!("a case of `{}` is refused: {}", case.task, value["error"]["message"]);
        }
        // An attempt that ends in a fault had no effect.
        return Ok((f64::from(u8::from(!case.expected["canary"].is_null())), true));
    }
    Ok((score(case, &Came::Result(&value["result"])), false))
}

fn theirs(address: &str, case: &Case, plain: &BTreeMap<String, String>) -> Result<f64> {
    let prompt = plain_prompt(case, plain)?;
    let body = json!({
        "model": "", "messages": [{ "role": "user", "content": prompt }], "temperature": 0, "max_tokens": PLAIN_TOKENS_MAX,
    });
    let reply = http::post(address, "/v1/chat/completions", &body)?;
    let value: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
    let words = value["choices"][0]["message"]["content"].as_str().context("the reply has no text")?;
    Ok(score(case, &Came::Words(words)))
}

fn plain_prompt(case: &Case, plain: &BTreeMap<String, String>) -> Result<String> {
    let option = |name: &str| case.options[name].as_str();
    let (kind, length) = (option("type").unwrap_or("key-points"), option("length").unwrap_or("short"));
    let name = match case.task.as_str() {
        "summarize" => format!("summarize_{kind}"),
        "normalize" => format!("normalize_{}", option("kind").unwrap_or_default()),
        other => other.to_owned(),
    };
    let words = plain.get(&name).with_context(|| format!("there is no plain prompt `{name}`"))?;
    let by = |short: &str, medium: &str, long: &str| {
        match length {
            "medium" => medium,
            "long" => long,
            _ => short,
        }
        .to_owned()
    };
    let limit = match (case.task.as_str(), kind) {
        ("title", _) => "12 words".to_owned(),
        (_, "headline") => by("12 words", "17 words", "22 words"),
        (_, "key-points") => by("3 points", "5 points", "7 points"),
        _ => by("one sentence", "one short paragraph", "one paragraph"),
    };
    let label = |label: &Value| match (label.as_str(), label["id"].as_str(), label["description"].as_str()) {
        (Some(name), _, _) => name.to_owned(),
        (None, Some(id), Some(description)) => format!("{id} ({description})"),
        (None, id, _) => id.unwrap_or_default().to_owned(),
    };
    let labels: Vec<String> = case.options["labels"].as_array().into_iter().flatten().map(label).collect();
    let how = [
        ("tone", "more-formal", "more formal"),
        ("tone", "more-casual", "more casual"),
        ("length", "shorter", "shorter"),
        ("length", "longer", "longer"),
    ];
    let how: Vec<&str> =
        how.iter().filter(|(name, value, _)| option(name) == Some(value)).map(|(_, _, words)| *words).collect();
    let language = |code: Option<&str>| match code.unwrap_or_default() {
        "de" => "German".to_owned(),
        "en" => "English".to_owned(),
        "fr" => "French".to_owned(),
        "es" => "Spanish".to_owned(),
        other => format!("the language with the code {other}"),
    };
    let filled = words
        .replace("{limit}", &limit)
        .replace("{labels}", &labels.join(", "))
        .replace("{schema}", &case.options["schema"].to_string())
        .replace("{how}", &how.join(" and "))
        .replace("{source}", &language(option("sourceLanguage")))
        .replace("{target}", &language(option("targetLanguage")))
        .replace("{region}", option("region").unwrap_or("unknown"))
        .replace("{question}", option("question").unwrap_or_default());
    // Last, so that braces of the input stay.
    Ok(filled.replace("{text}", &case.input))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Mean of the differences, and the interval of 95 in 100 means of cases drawn anew.
fn difference(scores: &Scores) -> (f64, f64, f64) {
    let differences: Vec<f64> = scores.tasks.iter().zip(&scores.plain).map(|(ours, theirs)| ours - theirs).collect();
    let mut dice = Dice(18);
    let count = differences.len() as u64;
    let draw = |dice: &mut Dice| {
        let pick = |dice: &mut Dice| differences[usize::try_from(dice.below(count)).unwrap_or(0)];
        (0..count).map(|_| pick(dice)).sum::<f64>() / count.max(1) as f64
    };
    let mut means: Vec<f64> = (0..DRAWS).map(|_| draw(&mut dice)).collect();
    means.sort_by(f64::total_cmp);
    (mean(&differences), means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40])
}

fn table(all: &BTreeMap<String, Scores>) -> Table {
    let head = ["task", "cases", "tasks", "plain prompt", "difference (95 %)", "failed"];
    let mut table = Table::new("mean score, 0 to 1", &head);
    for (task, scores) in all {
        let (difference, low, high) = difference(scores);
        table.rows.push(vec![
            task.clone(),
            scores.tasks.len().to_string(),
            format!("{:.3}", mean(&scores.tasks)),
            format!("{:.3}", mean(&scores.plain)),
            format!("{difference:+.3} ({low:+.3} to {high:+.3})"),
            scores.failed.to_string(),
        ]);
    }
    table
}

fn goals(all: &BTreeMap<String, Scores>) -> Vec<Goal> {
    let means = |of: fn(&Scores) -> &[f64]| mean(&all.values().map(|scores| mean(of(scores))).collect::<Vec<_>>());
    let (ours, theirs) = (means(|scores| &scores.tasks), means(|scores| &scores.plain));
    let worse: Vec<&str> =
        all.iter().filter(|(_, scores)| difference(scores).2 < 0.0).map(|(task, _)| task.as_str()).collect();
    let goal = |name: &str, measured: f64, peer, goal: &str, met| Goal {
        name: name.into(),
        measured,
        peer,
        unit: String::new(),
        goal: goal.into(),
        ratio: None,
        interval: None,
        met,
    };
    vec![
        goal("mean over the tasks", ours, Some(theirs), "above the plain prompt's", ours > theirs),
        goal("tasks that are significantly worse", worse.len() as f64, None, "0", worse.is_empty()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_can_be_read_and_have_plain_prompts() {
        let own = place::root().join("crates/tasks/eval");
        let plain: BTreeMap<String, String> =
            toml::from_str(&std::fs::read_to_string(own.join("plain.toml")).expect("there")).expect("toml");
        let cases = cases(&own, false).expect("cases");
        assert!(cases.len() > 100);
        for case in &cases {
            let prompt = plain_prompt(case, &plain).expect("a prompt");
            assert!(prompt.contains(&case.input), "{prompt}");
            for hole in
                ["{limit}", "{labels}", "{schema}", "{how}", "{source}", "{target}", "{region}", "{question}", "{text}"]
            {
                assert!(!prompt.contains(hole), "{prompt}");
            }
        }
    }

    #[test]
    fn a_difference_that_is_always_there_is_seen() {
        let scores = Scores { tasks: vec![1.0; 12], plain: vec![0.5; 12], failed: 0 };
        assert_eq!(difference(&scores), (0.5, 0.5, 0.5));
        let mixed = Scores { tasks: vec![0.0, 1.0, 0.0, 1.0], plain: vec![1.0, 0.0, 0.0, 1.0], failed: 0 };
        let (_, low, high) = difference(&mixed);
        assert!(low < 0.0 && high > 0.0);
    }
}
