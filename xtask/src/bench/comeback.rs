//! `bench return`: what does it cost to come back to a long conversation?
//!
//! A prefix of 6,000 tokens is worked through once. Then another question about it is asked: at once, after an unrelated
//! request of another program, after another model had the memory, after an idle unload and after `kill -9` of the daemon.
//! Counted are the tokens that are worked through again, and the time to the first one beside what it must cost: the load, the
//! state's bytes at the speed at which this machine reads that file, and those tokens at the speed of the first time. The peer is
//! llama.cpp's server with its own defaults, which keep prompts too.

use super::chat::{self, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::http::{self, Next};
use super::peer::{self, Peer};
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::Server;
use super::shape::SHAPES;
use super::sizes::made;
use super::{Options, Watch, process};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PREFIX_WORDS: usize = 6000;
const PREFIX_WORDS_QUICK: usize = 1200;
const CONTEXT_TOKENS: u32 = 8192;
const AGAIN_TOKENS_MAX: f64 = 256.0;
const FIRST_RATIO_MAX: f64 = 1.2;
const ANSWER_TOKENS: u32 = 8;
/// For a state to reach the disk, and for an idle model to be let go.
const STORED: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(75);
/// Of those in `sizes`; the 30B would take an hour and shows nothing more.
const SHAPE_NAMES: [&str; 4] = ["1B", "8B", "4B", "1.2B"];

/// How one comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    First,
    Warm,
    Interleaved,
    Swapped,
    Idle,
    Killed,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Case::First => "the first time",
            Case::Warm => "at once",
            Case::Interleaved => "after an unrelated request",
            Case::Swapped => "after another model",
            Case::Idle => "after an idle unload",
            Case::Killed => "after kill -9",
        }
    }
}

/// What came of one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    case: Case,
    prompt_tokens: u32,
    cached_tokens: u32,
    first_s: f64,
    load_s: f64,
}

impl Seen {
    fn again(&self) -> u32 {
        self.prompt_tokens - self.cached_tokens
    }
}

/// A model's file, and another one to swap with.
struct Subject {
    name: String,
    file: PathBuf,
    other: PathBuf,
}

/// One question about the prefix.
fn ask(
    address: &str,
    side: Side,
    model: &str,
    (system, question, app): (&str, &str, &str),
    case: Case,
) -> Result<Seen> {
    let mut body = json!({
        "model": model, "max_tokens": ANSWER_TOKENS, "temperature": 0, "stream": true,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "system", "content": system }, { "role": "user", "content": question }],
    });
    if side == Side::Peer {
        body["top_k"] = json!(1);
    }
    let headers = [("user-agent", app), ("x-freehold-app", app)];
    let reply = http::call(address, "/v1/chat/completions", &headers, Some(&body), &mut |_| Next::Read)?;
    let answer = chat::outcome(&reply, false)?.answer()?;
    let events =
        reply.lines.iter().filter_map(|line| serde_json::from_str::<Value>(line.text.strip_prefix("data:")?).ok());
    let load_ms = events.filter_map(|event| event["freehold"]["load_ms"].as_f64()).next_back().unwrap_or(0.0);
    Ok(Seen {
        case,
        prompt_tokens: answer.prompt_tokens,
        cached_tokens: answer.cached_tokens,
        first_s: answer.first_s(),
        load_s: load_ms / 1e3,
    })
}

/// Tools, rules and a document, about as many tokens as words; `number` stands first, so that no two are alike.
fn prefix(words: usize, number: u32) -> String {
    const WORDS: [&str; 12] =
        ["river", "stone", "green", "bridge", "people", "house", "old", "water", "light", "north", "road", "field"];
    let word = |at: usize| WORDS[(at * 7 + at / 12 + at / 90) % WORDS.len()];
    let list: Vec<&str> = (0..words).map(word).collect();
    format!("Document {number}. {}", list.join(" "))
}

/// What must be paid: the load, the state's bytes as fast as this machine gives them, and the tokens that are left.
fn due_s(seen: &Seen, first: &Seen, state_s: f64) -> f64 {
    let token_s = (first.first_s - first.load_s) / f64::from(first.prompt_tokens.max(1));
    let from_pool = matches!(seen.case, Case::First | Case::Warm);
    seen.load_s + if from_pool { 0.0 } else { state_s } + token_s * f64::from(seen.again())
}

fn cases(freehold: &Freehold, subject: &Subject, quick: bool) -> Result<(Vec<Seen>, f64, f64)> {
    let words = if quick { PREFIX_WORDS_QUICK } else { PREFIX_WORDS };
    let settings = [
        ("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string()),
        ("FREEHOLD_IDLE_UNLOAD_MINUTES", "1".to_string()),
        ("FREEHOLD_IDLE_REST_SECONDS", "0".to_string()),
    ];
    let mut daemon = Daemon::start_with(freehold, &[&subject.file, &subject.other], &settings)?;
    let [model, other] = [model_name(&daemon, &subject.file)?, model_name(&daemon, &subject.other)?];
    let system = prefix(words, 1);
    let mut number = 0;
    let mut put = |daemon: &Daemon<'_>, case| {
        number += 1;
        let question = format!("Question {number}: which word stands at place {}?", number * 37);
        ask(&daemon.address, Side::Ours, &model, (&system, &question, "return"), case)
    };
    let mut seen = vec![put(&daemon, Case::First)?, put(&daemon, Case::Warm)?];
    let unrelated = |daemon: &Daemon<'_>, model: &str, words| {
        let system = prefix(words, 2);
        ask(&daemon.address, Side::Ours, model, (&system, "What is this?", "stranger"), Case::First)
    };
    let stranger = unrelated(&daemon, &model, 30)?;
    if stranger.cached_tokens > stranger.prompt_tokens / 2 {
        bail!("another program found {} tokens", stranger.cached_tokens);
    }
    seen.push(put(&daemon, Case::Interleaved)?);
    let state = stored(daemon.home())?;
    let held = daemon.loaded(&subject.file)?.facts["held_bytes"].as_f64().context("`status` tells no `held_bytes`")?;
    daemon.kill_and_start(&[("FREEHOLD_MEMORY", format!("{} B", (held * 1.2) as u64))])?;
    seen.push(put(&daemon, Case::Killed)?);
    unrelated(&daemon, &other, 30)?;
    seen.push(put(&daemon, Case::Swapped)?);
    if !quick {
        std::thread::sleep(IDLE);
        if daemon.loaded(&subject.file).is_ok() {
            bail!("the model wasn't let go within {} s", IDLE.as_secs());
        }
        seen.push(put(&daemon, Case::Idle)?);
    }
    let start = Instant::now();
    let bytes = std::fs::read(&state)?.len() as f64;
    Ok((seen, bytes, start.elapsed().as_secs_f64()))
}

fn model_name(daemon: &Daemon<'_>, file: &Path) -> Result<String> {
    let models = daemon.json(&["models"])?;
    let rows = models["models"].as_array().or(models.as_array()).context("`freehold models` lists nothing")?;
    let row = rows.iter().find(|row| row["path"].as_str().is_some_and(|path| Path::new(path) == file));
    Ok(row.and_then(|row| row["name"].as_str()).context("the model isn't listed")?.to_string())
}

/// The largest state on disk, once there is one.
fn stored(home: &Path) -> Result<PathBuf> {
    let start = Instant::now();
    while start.elapsed() < STORED {
        let entries: Vec<_> = std::fs::read_dir(home.join("cache"))?.flatten().map(|entry| entry.path()).collect();
        let is_whole = |path: &&PathBuf| {
            path.extension().is_some_and(|kind| kind == "state") && path.with_extension("head").is_file()
        };
        let size = |path: &&PathBuf| std::fs::metadata(path).map_or(0, |about| about.len());
        if let Some(path) = entries.iter().filter(is_whole).max_by_key(size) {
            return Ok(path.clone());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("no state was on disk within {} s", STORED.as_secs())
}

/// The peer with its defaults: at once, after an unrelated request, and started anew.
fn peer_cases(peer: &Peer, subject: &Subject, quick: bool) -> Result<Vec<Seen>> {
    let words = if quick { PREFIX_WORDS_QUICK } else { PREFIX_WORDS };
    let flags = ["-c".to_string(), CONTEXT_TOKENS.to_string(), "--offline".into()];
    let system = prefix(words, 1);
    let put = |server: &Server, number: u32, case| {
        let question = format!("Question {number}: which word stands at place {}?", number * 37);
        ask(&server.address, Side::Peer, "", (&system, &question, "return"), case)
    };
    let server = Server::start_as(peer, &subject.file, &flags)?;
    let mut seen = vec![put(&server, 1, Case::First)?, put(&server, 2, Case::Warm)?];
    ask(&server.address, Side::Peer, "", (&prefix(30, 2), "What is this?", "stranger"), Case::First)?;
    seen.push(put(&server, 3, Case::Interleaved)?);
    drop(server);
    let start = Instant::now();
    let server = Server::start_as(peer, &subject.file, &flags)?;
    let load_s = start.elapsed().as_secs_f64();
    let killed = put(&server, 4, Case::Killed)?;
    seen.push(Seen { load_s, first_s: killed.first_s + load_s, ..killed });
    Ok(seen)
}

fn subjects(options: Options, starter: &Path, folder: &Path) -> Result<Vec<Subject>> {
    // Another name for the same weights is another model.
    let other = folder.join("other.gguf");
    std::fs::copy(starter, &other)?;
    let mut all = vec![Subject { name: "starter".into(), file: starter.to_owned(), other: other.clone() }];
    for shape in SHAPES.into_iter().filter(|shape| SHAPE_NAMES.iter().any(|name| shape.name.starts_with(name))) {
        let shape = if options.quick { shape.shortened() } else { shape };
        if process::memory_available().is_some_and(|have| have < shape.bytes() * 2 + (4 << 30)) {
            eprintln!("{} doesn't fit this machine's memory", shape.name);
            continue;
        }
        let file = made(&shape, folder, starter)?;
        all.push(Subject { name: shape.name.into(), file, other: other.clone() });
    }
    Ok(all)
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("coming back to a long conversation, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let folder = place::cache()?.join("shapes");
    std::fs::create_dir_all(&folder)?;
    let subjects = subjects(options, &starter.chat, &folder)?;
    let peer = peer::ensure("CPU")?;
    let mut watch = Watch::start(options.patience())?;
    let head = ["", "", "prompt", "again", "first token s", "due s", "llama-server again", "its first token s"];
    let mut table = Table::new("each way back", &head);
    for subject in &subjects {
        watch.gap();
        let (seen, bytes, state_s) = cases(&freehold, subject, options.quick).with_context(|| subject.name.clone())?;
        let theirs = peer_cases(&peer, subject, options.quick).with_context(|| subject.name.clone())?;
        if !options.keep && subject.file != starter.chat {
            std::fs::remove_file(&subject.file)?;
        }
        let first = seen[0];
        for one in &seen {
            let due = due_s(one, &first, state_s);
            let their = theirs.iter().find(|their| their.case == one.case);
            let cell = |value: Option<f64>| value.map_or("–".into(), figure);
            table.rows.push(vec![
                subject.name.clone(),
                one.case.name().into(),
                one.prompt_tokens.to_string(),
                one.again().to_string(),
                figure(one.first_s),
                figure(due),
                cell(their.map(|their| f64::from(their.again()))),
                cell(their.map(|their| their.first_s)),
            ]);
            if one.case != Case::First {
                let name = format!("{}, {}", subject.name, one.case.name());
                let again = Goal::plain(
                    &format!("{name}: tokens again"),
                    f64::from(one.again()),
                    "tokens",
                    Bound::AtMost(AGAIN_TOKENS_MAX),
                );
                report.goals.push(again);
                let ratio = one.first_s / due;
                report.goals.push(Goal::plain(
                    &format!("{name}: first token beside what is due"),
                    ratio,
                    "x",
                    Bound::AtMost(FIRST_RATIO_MAX),
                ));
            }
        }
        report.setting(
            &format!("state of {}", subject.name),
            format!("{:.0} MB, read in {:.3} s here", bytes / 1e6, state_s),
        );
    }
    report.quiet = Some(watch.seen());
    report.tables.push(table);
    report.setting("ours", ours(&freehold)?);
    report.setting("peer", format!("{}, llama-server with its defaults", peer.words()));
    if options.quick {
        report.notes.push("only the first layers of each shape, a short prefix, and no idle unload".into());
    }
    Ok(report.finish(options.json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(case: Case, cached_tokens: u32, first_s: f64, load_s: f64) -> Seen {
        Seen { case, prompt_tokens: 1000, cached_tokens, first_s, load_s }
    }

    #[test]
    fn what_is_due_is_load_state_and_the_tokens_that_are_left() {
        let first = seen(Case::First, 0, 12.0, 2.0);
        assert!((due_s(&first, &first, 0.5) - 12.0).abs() < 1e-9, "all of it");
        let warm = seen(Case::Warm, 900, 9.0, 0.0);
        assert!((due_s(&warm, &first, 0.5) - 1.0).abs() < 1e-9, "a hundred tokens; nothing is read");
        let killed = seen(Case::Killed, 950, 9.0, 2.0);
        assert!((due_s(&killed, &first, 0.5) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn documents_have_as_many_words_as_asked_for_and_differ_at_once() {
        assert_eq!(prefix(100, 1).split_whitespace().count(), 102);
        assert_ne!(prefix(5, 1)[..12], prefix(5, 2)[..12]);
    }
}
