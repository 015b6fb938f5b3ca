//! `bench start`: from the command to the first word, and what the daemon costs when nobody asks.
//!
//! Warm: daemon and model are there, the library is indexed. Each question is a new one, so no
//! prompt was seen before. The time runs from the start of the process `freehold ask` to the first
//! byte on its standard output, against the time that the worker itself needed for the prompt.

use super::daemon::{Daemon, Freehold, Profile};
use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::{self, median};
use super::{Options, Watch, process};
use crate::place;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

const FIRST_TOKEN_RATIO_MAX: f64 = 2.0;
const DAEMON_RSS_MB_MAX: f64 = 40.0;
/// "None" as a bound: below one.
const WAKE_UPS_PER_MINUTE_MAX: f64 = 1.0;
/// What settles after the last answer isn't rest yet: threads that were needed wait ten seconds for
/// more work and end.
const SETTLE: Duration = Duration::from_secs(15);

/// Questions that the sample library answers, each of other passages.
const QUESTIONS: [&str; 12] = [
    "How often must the boiler be serviced?",
    "When do tomatoes go out into the garden?",
    "How long must a burn be cooled?",
    "Where is the main stopcock?",
    "When is the hornbeam hedge cut?",
    "What does the new pump cost?",
    "When does the backup drive copy the study computer?",
    "How many hours of common work does everyone owe?",
    "When were the smoke alarm batteries fitted?",
    "Where does the nearest defibrillator hang?",
    "How far apart are potatoes planted?",
    "Which day is the brown bin collected?",
];
const WARM_UP: &str = "How hard is the water?";

struct Asked {
    question: &'static str,
    first_ms: f64,
    work: Work,
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("first word of `freehold ask`, and the daemon at rest");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let daemon = Daemon::start(&freehold, &starter)?;
    let library = place::root().join("library");
    let library = library.to_str().context("the repository's path isn't UTF-8")?;
    place::output(daemon.command().args(["index", library]))?;
    ask(&daemon, WARM_UP)?;

    let count = if options.quick { 4 } else { QUESTIONS.len() };
    let mut asked = Vec::new();
    for question in QUESTIONS.into_iter().take(count) {
        watch.gap();
        asked.push(ask(&daemon, question)?);
    }
    let worker = daemon.status()?["models"].as_array().cloned().unwrap_or_default();
    std::thread::sleep(SETTLE);
    let seconds = if options.quick { 10 } else { 60 };
    let rest = Rest::watch(daemon.pid(), seconds)?;
    report.quiet = Some(watch.seen());

    report.setting("library", format!("{library}, questions never asked before, {count} of them"));
    report.setting("rest", format!("{seconds} s, {} s after the last answer", SETTLE.as_secs()));
    report.tables.push(table(&asked));
    let mut table = Table::new("at rest", &["process", "resident MB"]);
    table.rows.push(vec!["daemon".into(), figure(rest.resident_mb)]);
    for model in &worker {
        let bytes = model["resident_bytes"].as_f64().unwrap_or(f64::NAN);
        table.rows.push(vec![format!("worker of {}", model["name"].as_str().unwrap_or("?")), figure(bytes / 1e6)]);
    }
    report.tables.push(table);

    let first: Vec<f64> = asked.iter().map(|one| one.first_ms).collect();
    let prefill: Vec<f64> = asked.iter().map(|one| one.work.prefill_ms()).collect();
    let ratio = stat::ratio(&first, &prefill);
    let bound = Bound::Below(FIRST_TOKEN_RATIO_MAX);
    report.goals.push(Goal::beside(
        "first token, beside the worker's prefill",
        (median(&first), median(&prefill)),
        "ms",
        ratio,
        bound,
    ));
    report.goals.push(Goal::plain("daemon's resident memory", rest.resident_mb, "MB", Bound::Below(DAEMON_RSS_MB_MAX)));
    let wake_ups = Bound::Below(WAKE_UPS_PER_MINUTE_MAX);
    report.goals.push(Goal::plain("daemon's wake-ups", rest.wake_ups_per_minute, "per minute", wake_ups));
    drop(daemon);
    Ok(report.finish(options.json))
}

fn table(asked: &[Asked]) -> Table {
    let mut table =
        Table::new("each question", &["", "first token ms", "worker's prefill ms", "prompt tokens", "cached"]);
    for one in asked {
        table.rows.push(vec![
            one.question.into(),
            figure(one.first_ms),
            figure(one.work.prefill_ms()),
            one.work.prompt_tokens.to_string(),
            one.work.cached_tokens.to_string(),
        ]);
    }
    table
}

/// One whole call of the command, as a person gives it; its closing line tells the worker's work.
fn ask(daemon: &Daemon<'_>, question: &'static str) -> Result<Asked> {
    let mut command = daemon.command();
    command.args(["ask", question]).env("NO_COLOR", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut out = child.stdout.take().context("a pipe")?;
    let read = out.read(&mut [0; 1])?;
    let first = start.elapsed();
    std::io::copy(&mut out, &mut std::io::sink())?;
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if !ended.status.success() || read == 0 {
        bail!("`freehold ask \"{question}\"` gave no answer: {said}");
    }
    let work = Work::read(&said).with_context(|| format!("the closing line tells no speed of the prompt: {said}"))?;
    Ok(Asked { question, first_ms: first.as_secs_f64() * 1e3, work })
}

/// What the worker did with the prompt, by the command's closing line.
#[derive(Debug, PartialEq)]
struct Work {
    prompt_tokens: f64,
    cached_tokens: f64,
    tokens_per_s: f64,
}

impl Work {
    /// `… prompt 1,012 tokens (96 kept from before) at 1,340/s …`, over whatever lines.
    fn read(said: &str) -> Option<Self> {
        let words: Vec<&str> =
            said.split(|c: char| c.is_whitespace() || c == '(').filter(|word| !word.is_empty()).collect();
        let number = |word: &str| word.trim_end_matches("/s").replace(',', "").parse::<f64>().ok();
        let at = words.iter().position(|word| *word == "prompt")?;
        let rest: Vec<&str> = words[at + 1..].iter().take_while(|word| **word != "answer").copied().collect();
        let kept =
            rest.iter().position(|word| *word == "kept").and_then(|kept| number(rest.get(kept.checked_sub(1)?)?));
        let speed =
            rest.iter().find_map(|word| word.trim_end_matches([',', ';', '·']).strip_suffix("/s").and_then(number))?;
        Some(Self { prompt_tokens: number(rest.first()?)?, cached_tokens: kept.unwrap_or(0.0), tokens_per_s: speed })
    }

    fn prefill_ms(&self) -> f64 {
        (self.prompt_tokens - self.cached_tokens) / self.tokens_per_s * 1e3
    }
}

/// A process that should do nothing.
#[derive(Debug)]
struct Rest {
    resident_mb: f64,
    wake_ups_per_minute: f64,
}

impl Rest {
    fn watch(pid: u32, seconds: u64) -> Result<Self> {
        let tasks = format!("/proc/{pid}/task");
        let before = switches(Path::new(&tasks))?;
        std::thread::sleep(Duration::from_secs(seconds));
        let wake_ups = woken(&before, &switches(Path::new(&tasks))?);
        let bytes = process::memory(pid, "VmRSS:")?;
        Ok(Self { resident_mb: bytes as f64 / 1e6, wake_ups_per_minute: wake_ups as f64 * 60.0 / seconds as f64 })
    }
}

/// How often each thread of a process has left the processor: each time it had been woken.
fn switches(tasks: &Path) -> Result<BTreeMap<OsString, u64>> {
    let mut counts = BTreeMap::new();
    for task in std::fs::read_dir(tasks).context("wake-ups can be counted on Linux only")? {
        let task = task?;
        // A thread may end while we look.
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let count = |name| process::field(&status, name).unwrap_or(0);
        let both = count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:");
        counts.insert(task.file_name(), both);
    }
    Ok(counts)
}

/// Wake-ups between two looks. A thread that is new has woken as often as it has slept; one that is
/// gone has woken at least once, to end.
fn woken(before: &BTreeMap<OsString, u64>, after: &BTreeMap<OsString, u64>) -> u64 {
    let there = after.iter().map(|(thread, count)| count - before.get(thread).unwrap_or(&0).min(count));
    let gone = before.keys().filter(|thread| !after.contains_key(*thread)).count();
    there.sum::<u64>() + gone as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_tells_the_workers_work() {
        let line = "SmolLM2 on CPU, prompt 1,012 tokens\n(12 kept from before) at 2,000/s, answer 9 tokens at 99/s";
        let work = Work::read(line).expect("a speed");
        assert_eq!((work.prompt_tokens, work.cached_tokens, work.tokens_per_s), (1012.0, 12.0, 2000.0));
        assert_eq!(work.prefill_ms(), 500.0);
        let plain = Work::read("x · prompt 300 tokens at 1,500/s · answer 1 token").expect("a speed");
        assert_eq!(plain.prefill_ms(), 200.0);
        assert_eq!(Work::read("no language model, answer 9 tokens at 99/s"), None);
        assert_eq!(Work::read("prompt 9 tokens, answer 9 tokens at 99/s"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_runs_is_seen_to_wake() {
        let tasks = format!("/proc/{}/task", std::process::id());
        let before = switches(Path::new(&tasks)).expect("switches");
        for _ in 0..50 {
            std::thread::sleep(Duration::from_micros(50));
        }
        let after = switches(Path::new(&tasks)).expect("switches");
        assert!(woken(&before, &after) >= 50, "{before:?} {after:?}");
    }

    #[test]
    fn threads_that_come_and_go_are_counted() {
        let counts = |list: &[(&str, u64)]| list.iter().map(|(name, count)| (OsString::from(name), *count)).collect();
        let before = counts(&[("1", 10), ("2", 70), ("3", 5)]);
        assert_eq!(woken(&before, &counts(&[("1", 12), ("3", 5), ("4", 3)])), 2 + 3 + 1);
        assert_eq!(woken(&before, &before), 0);
    }
}
