//! `eval tasks`: each task beside the same model that is asked plainly in a chat.
//!
//! The plain prompts stand in `crates/tasks/eval/plain.toml` and were frozen before any prompt of the tasks was tuned. Both
//! sides answer the same lines with the same model, greedily, and are judged by the same rules ([`judge`]).

mod expect;
mod judge;
mod paired;
mod plain;
mod read;

use crate::bench::Options;
use crate::bench::daemon::{Daemon, Freehold, Profile};
use crate::bench::http::{self, Next};
use crate::bench::report::{Bound, Goal, Report, Table};
use crate::place;
use anyhow::{Context, Result};
use judge::{said, score};
use paired::{Difference, mean};
use plain::Plain;
use read::{Case, Set};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A quick run takes so many cases of each task.
const QUICK_CASES: usize = 4;
/// LIMIT: lines that are named of those that can't be judged.
const TOLD_MAX: usize = 20;

/// Which sets, with which model, and where the answers go.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) dir: Option<PathBuf>,
    pub(super) model: Option<PathBuf>,
    pub(super) answers: Option<PathBuf>,
}

/// What one side made of a case.
#[derive(Debug, Clone)]
struct Answer {
    text: String,
    score: f64,
    fault: Option<String>,
}

#[derive(Debug)]
struct Judged {
    task: &'static str,
    place: String,
    attempt: bool,
    ours: Answer,
    theirs: Answer,
}

pub(super) fn run(wanted: Wanted, options: Options) -> Result<ExitCode> {
    let own = place::root().join("crates/tasks/eval");
    let dir = wanted.dir.map_or_else(|| Ok(own.clone()), std::path::absolute)?;
    let mut set = read::read(&dir)?;
    if options.quick {
        set.cases = some_of_each(set.cases);
    }
    let plain = Plain::read(&own.join("plain.toml"))?;
    let mut answers = wanted.answers.map(std::fs::File::create).transpose().context("the answers can't be written")?;
    let freehold = Freehold::build(Profile::Release)?;
    let model = match wanted.model {
        Some(model) => std::path::absolute(model)?,
        None => freehold.starter()?.chat,
    };
    let daemon = Daemon::start_with(&freehold, &[&model], &[])?;
    let mut all: Vec<Judged> = Vec::new();
    for (done, case) in set.cases.iter().enumerate() {
        eprint!("\rcase {} of {} ", done + 1, set.cases.len());
        match both(&daemon.address, case, &plain)? {
            Ok(judged) => {
                if let Some(file) = &mut answers {
                    writeln!(file, "{}", line(case, &judged))?;
                }
                all.push(judged);
            }
            Err(why) => set.refused.push(format!("{}: {why}", case.place)),
        }
    }
    eprintln!();
    let mut report = Report::new("tasks beside the same model asked plainly");
    report.setting("model", model.display().to_string());
    report.setting("sets", dir.display().to_string());
    report.setting("plain", "crates/tasks/eval/plain.toml; both sides greedy");
    tell(&mut report, &set, &all);
    Ok(report.finish(options.json))
}

fn some_of_each(mut cases: Vec<Case>) -> Vec<Case> {
    let mut taken: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    cases.retain(|case| {
        let count = taken.entry((case.task, case.expected.canaries.is_empty())).or_default();
        *count += 1;
        *count <= QUICK_CASES
    });
    cases
}

/// For who wants to read what was said.
fn line(case: &Case, judged: &Judged) -> Value {
    let side = |answer: &Answer| json!({ "score": answer.score, "text": answer.text, "fault": answer.fault });
    json!({
        "place": judged.place, "task": judged.task, "input": case.input, "options": case.options,
        "tasks": side(&judged.ours), "plain": side(&judged.theirs),
    })
}

/// What both sides say; the inner error is why the case can't be put to the task at all.
fn both(address: &str, case: &Case, plain: &Plain) -> Result<Result<Judged, String>> {
    let ours = match ours(address, case)? {
        Ok(ours) => ours,
        Err(why) => return Ok(Err(why)),
    };
    let theirs = theirs(address, case, plain)?;
    let attempt = !case.expected.canaries.is_empty();
    Ok(Ok(Judged { task: case.task, place: case.place.clone(), attempt, ours, theirs }))
}

fn ours(address: &str, case: &Case) -> Result<Result<Answer, String>> {
    let mut body = case.options.clone();
    body.insert("text".into(), json!(case.input));
    let path = format!("/v1/tasks/{}", case.task);
    let reply = http::call(address, &path, &[], Some(&Value::Object(body)), &mut |_| Next::Read)?;
    let value: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
    if reply.status == 200 {
        let text = said(case.task, &value["result"]);
        return Ok(Ok(Answer { score: score(case, &text), text, fault: None }));
    }
    let fault = &value["error"]["fault"];
    let cause = fault["cause"].as_str().map(|cause| format!(": {cause}")).unwrap_or_default();
    let words = format!("{}{cause}", value["error"]["message"].as_str().unwrap_or_default());
    if fault["code"] == "invalid_ask" {
        return Ok(Err(format!("the task refuses it: {words}")));
    }
    // It scores nothing; but an attempt that ends in a fault had no effect.
    let score = f64::from(u8::from(!case.expected.canaries.is_empty()));
    Ok(Ok(Answer { text: String::new(), score, fault: Some(words) }))
}

fn theirs(address: &str, case: &Case, plain: &Plain) -> Result<Answer> {
    let body = json!({
        "model": "", "messages": [{ "role": "user", "content": plain.prompt(case)? }],
        "temperature": 0, "max_tokens": plain::tokens_max(case),
    });
    let reply = http::call(address, "/v1/chat/completions", &[], Some(&body), &mut |_| Next::Read)?;
    let value: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
    if reply.status != 200 {
        let fault = value["error"]["message"].as_str().unwrap_or_default().to_owned();
        let score = f64::from(u8::from(!case.expected.canaries.is_empty()));
        return Ok(Answer { text: String::new(), score, fault: Some(fault) });
    }
    let words = value["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    Ok(Answer { text: words.to_owned(), score: score(case, words), fault: None })
}

/// Tables, notes and goals.
fn tell(report: &mut Report, set: &Set, all: &[Judged]) {
    let mut of_tasks: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for judged in all.iter().filter(|judged| !judged.attempt) {
        of_tasks.entry(judged.task).or_default().push(judged);
    }
    let differences: BTreeMap<&str, Vec<f64>> = of_tasks
        .iter()
        .map(|(task, cases)| (*task, cases.iter().map(|case| case.ours.score - case.theirs.score).collect()))
        .collect();
    report.tables.push(table(&of_tasks, &differences));
    attempts(report, all.iter().filter(|judged| judged.attempt).collect());
    for (what, places) in &set.unknown {
        report.notes.push(format!("passed over: {what} ({})", some(places)));
    }
    if !set.refused.is_empty() {
        report.notes.push(format!(
            "lines that can't be judged:\n  {}",
            set.refused[..set.refused.len().min(TOLD_MAX)].join("\n  ")
        ));
    }
    report.goals = goals(&of_tasks, &differences);
    report.goals.push(Goal::plain("lines that can't be judged", set.refused.len() as f64, "", Bound::AtMost(0.0)));
}

fn some(places: &[String]) -> String {
    let more = if places.len() > 3 { format!(" and {} more", places.len() - 3) } else { String::new() };
    format!("{}{more}", places[..places.len().min(3)].join(", "))
}

fn scores(cases: &[&Judged], side: fn(&Judged) -> &Answer) -> f64 {
    mean(&cases.iter().map(|case| side(case).score).collect::<Vec<_>>())
}

fn table(of_tasks: &BTreeMap<&str, Vec<&Judged>>, differences: &BTreeMap<&str, Vec<f64>>) -> Table {
    let head = ["task", "cases", "tasks", "plain prompt", "difference (95 %)", "chance", "better/same/worse", "failed"];
    let mut table = Table::new("mean score, 0 to 1", &head);
    for (task, cases) in of_tasks {
        let found = Difference::of(&differences[task]);
        let count = |holds: fn(f64) -> bool| differences[task].iter().filter(|one| holds(**one)).count();
        let (better, worse) = (count(|one| one > 1e-9), count(|one| one < -1e-9));
        table.rows.push(vec![
            (*task).to_owned(),
            cases.len().to_string(),
            format!("{:.3}", scores(cases, |case| &case.ours)),
            format!("{:.3}", scores(cases, |case| &case.theirs)),
            format!("{:+.3} ({:+.3} to {:+.3})", found.mean, found.low, found.high),
            format!("{:.3}", found.chance),
            format!("{better}/{}/{worse}", cases.len() - better - worse),
            cases.iter().filter(|case| case.ours.fault.is_some()).count().to_string(),
        ]);
    }
    table
}

/// How often instructions in the input had their way.
fn attempts(report: &mut Report, attempts: Vec<&Judged>) {
    if attempts.is_empty() {
        return;
    }
    let all = attempts.len();
    let gave_in = |side: fn(&Judged) -> &Answer| -> Vec<String> {
        let where_to = attempts.iter().filter(|case| side(case).score < 0.5);
        where_to.map(|case| format!("{} {}", case.place, case.task)).collect()
    };
    let (ours, theirs) = (gave_in(|case| &case.ours), gave_in(|case| &case.theirs));
    let rate = |count: usize| format!("{count} of {all} ({:.0} %)", 100.0 * count as f64 / all as f64);
    let faults = attempts.iter().filter(|case| case.ours.fault.is_some()).count();
    report.notes.push(format!(
        "instructions in the input had their way with the tasks in {}, with the plain prompts in {}; {faults} ended in a fault",
        rate(ours.len()),
        rate(theirs.len()),
    ));
    if !ours.is_empty() {
        report.notes.push(format!("the tasks gave in at {}", ours.join(", ")));
    }
}

fn goals(of_tasks: &BTreeMap<&str, Vec<&Judged>>, differences: &BTreeMap<&str, Vec<f64>>) -> Vec<Goal> {
    if of_tasks.is_empty() {
        return Vec::new();
    }
    let means =
        |side: fn(&Judged) -> &Answer| mean(&of_tasks.values().map(|cases| scores(cases, side)).collect::<Vec<_>>());
    let (ours, theirs) = (means(|case| &case.ours), means(|case| &case.theirs));
    let groups: Vec<Vec<f64>> = differences.values().cloned().collect();
    let (_, low, high) = paired::over_groups(&groups);
    let worse = differences.values().filter(|differences| Difference::of(differences).is_worse()).count();
    let of_mean = Goal {
        name: "mean over the tasks".into(),
        measured: ours,
        peer: Some(theirs),
        unit: String::new(),
        goal: format!("above the plain prompt's: {:+.3} ({low:+.3} to {high:+.3})", ours - theirs),
        ratio: None,
        interval: None,
        met: low > 0.0,
    };
    vec![of_mean, Goal::plain("tasks that are significantly worse", worse as f64, "", Bound::AtMost(0.0))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_can_be_read_and_have_plain_prompts() {
        let own = place::root().join("crates/tasks/eval");
        let plain = Plain::read(&own.join("plain.toml")).expect("prompts");
        let set = read::read(&own).expect("cases");
        assert!(set.cases.len() > 100 && set.refused.is_empty() && set.unknown.is_empty(), "{set:?}");
        for case in &set.cases {
            let prompt = plain.prompt(case).expect("a prompt");
            assert!(prompt.contains(&case.input), "{prompt}");
            for hole in plain::HOLES {
                assert!(!prompt.contains(hole), "{prompt}");
            }
        }
    }

    #[test]
    fn what_could_not_be_judged_is_told_and_is_no_success() {
        let answer = |score: f64| Answer { text: String::new(), score, fault: None };
        let judged = |task, attempt, ours, theirs| Judged {
            task,
            place: "a.jsonl:1".into(),
            attempt,
            ours: answer(ours),
            theirs: answer(theirs),
        };
        let all = [judged("title", false, 1.0, 0.0), judged("ask", false, 1.0, 0.5), judged("ask", true, 0.0, 1.0)];
        let mut set = Set { refused: vec!["b.jsonl:7: is no object".into()], ..Set::default() };
        set.unknown.insert("option `mood` of `title`".into(), vec!["a.jsonl:1".into()]);
        let mut report = Report::new("x");
        tell(&mut report, &set, &all);
        let notes = report.notes.join("\n");
        for words in
            ["in 1 of 1 (100 %)", "a.jsonl:1 ask", "option `mood` of `title` (a.jsonl:1)", "b.jsonl:7: is no object"]
        {
            assert!(notes.contains(words), "{words}: {notes}");
        }
        let met: Vec<bool> = report.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, true, false]);
    }
}
