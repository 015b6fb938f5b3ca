//! `bench return`: what it costs to come back to a long conversation, beside llama.cpp's server.
//!
//! A prefix of 6,000 tokens is worked through once. Then another question about it is asked: at once, after an unrelated
//! request of another program, after `kill -9` of the daemon, after another model took the memory, and after the model was let
//! go of at rest. What counts is how many tokens are worked through again, and the first token's time beside what it
//! must cost: the load, the state's bytes at the speed at which this machine gives them, and the tokens that are left.

use super::chat::{Call, Client, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::http;
use super::peer::{self, Peer, Work};
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::Server;
use super::shape::{SHAPES, Shape};
use super::sizes::made;
use super::{Options, STARTER, Watch, limit, stat};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PREFIX_WORDS: usize = 6000;
const PREFIX_WORDS_QUICK: usize = 1200;
const CONTEXT_TOKENS: u32 = 8192;
const ANSWER_TOKENS: u32 = 8;
const AGAIN_TOKENS_MAX: f64 = 256.0;
const DUE_RATIO_MAX: f64 = 1.2;
/// For states to reach the disk, and for an idle model to be let go of.
const STORED: Duration = Duration::from_secs(120);
const IDLE: Duration = Duration::from_secs(150);
/// A folder of states that stays the same for so long holds all that will be stored.
const SETTLED: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);
/// Of the budget, what the model under test holds: too little for another one beside it.
const SWAP_SHARE: f64 = 1.02;
/// Of those in `sizes`: the experts' 30B would take an hour and has the same kind of cache.
const SHAPE_NAMES: [&str; 4] = ["1B", "8B", "4B", "1.2B"];
/// Runs of llama.cpp's bench program, which show what a question's token costs behind the prefix.
const PRICE_RUNS: u32 = 3;
/// Places that the peer has by itself.
const PEER_SLOTS: u32 = 4;

/// How one comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    First,
    Warm,
    Interleaved,
    Killed,
    /// As [`Case::Killed`]; the peer was told to write its state and to read it again.
    Restored,
    Swapped,
    Idle,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Case::First => "the first time",
            Case::Warm => "at once",
            Case::Interleaved => "after an unrelated request",
            Case::Killed => "after kill -9",
            Case::Restored => "after kill -9, state saved by hand",
            Case::Swapped => "after another model",
            Case::Idle => "after it was let go of",
        }
    }
}

/// What came of one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    case: Case,
    prompt_tokens: u32,
    /// Of these, from the pool, from memory and from disk.
    tiers: [u32; 3],
    /// From the request on, the load among it.
    first_s: f64,
    load_s: f64,
}

impl Seen {
    fn again(&self) -> u32 {
        self.prompt_tokens - self.tiers.iter().sum::<u32>()
    }

    fn tier(&self) -> &'static str {
        match self.tiers {
            [0, 0, 0] => "–",
            [live, memory, disk] if live >= memory.max(disk) => "pool",
            [_, memory, disk] if memory >= disk => "memory",
            _ => "disk",
        }
    }
}

/// What a state costs here, and each token of a question behind the prefix.
#[derive(Debug, Clone, Copy)]
struct Prices {
    state_bytes: u64,
    disk_s: f64,
    memory_s: f64,
    token_s: f64,
}

impl Prices {
    /// Load, state and tokens.
    fn due_s(&self, seen: &Seen) -> [f64; 3] {
        let state_s = match seen.tier() {
            "disk" => self.disk_s,
            "memory" => self.memory_s,
            _ => 0.0,
        };
        [seen.load_s, state_s, self.token_s * f64::from(seen.again())]
    }
}

struct Subject {
    name: &'static str,
    shape: Option<Shape>,
}

/// Rules and a document, about as many tokens as words; `number` stands first, so that no two are alike.
fn prefix(words: usize, number: u32) -> String {
    const WORDS: [&str; 12] =
        ["river", "stone", "green", "bridge", "people", "house", "old", "water", "light", "north", "road", "field"];
    let word = |at: usize| WORDS[(at * 7 + at / 12 + at / 90) % WORDS.len()];
    let list: Vec<&str> = (0..words).map(word).collect();
    format!("Document {number}. {}", list.join(" "))
}

/// A question about the prefix, never the same twice.
fn question(words: usize, number: u32) -> Call {
    let text = format!("Question {number}: which word stands at place {}?", number * 37);
    let call = Call::exact(text, ANSWER_TOKENS).of("bench-return");
    Call { system: Some(prefix(words, 1)), whole_length: false, may_be_kept: true, ..call }
}

/// A short request of another program.
fn unrelated() -> Call {
    let call = Call::exact("What is this?".into(), ANSWER_TOKENS).of("bench-stranger");
    Call { system: Some(prefix(30, 2)), whole_length: false, may_be_kept: true, ..call }
}

fn ask(client: &Client, call: &Call, case: Case) -> Result<Seen> {
    let answer = client.ask(call)?.answer()?;
    let tiers = match client.side {
        Side::Ours => answer.tiers,
        Side::Peer => [answer.cached_tokens, 0, 0],
    };
    let Some(first) = answer.prompt_tokens.checked_sub(tiers.iter().sum()).filter(|again| *again > 0) else {
        bail!("{} tokens of {} are said to be cached", tiers.iter().sum::<u32>(), answer.prompt_tokens)
    };
    eprint!("\r  {} {first} of {} tokens, {:.2} s   ", case.name(), answer.prompt_tokens, answer.first_s());
    let (first_s, load_s) = (answer.first_s(), answer.load_s);
    Ok(Seen { case, prompt_tokens: answer.prompt_tokens, tiers, first_s, load_s })
}

/// Ours in every case, with what bounds it.
#[derive(Debug)]
struct Ours {
    seen: Vec<Seen>,
    /// The largest state's bytes, and the seconds that reading them took.
    state_bytes: u64,
    disk_s: f64,
}

fn our_cases(freehold: &Freehold, file: &Path, other: &Path, words: usize) -> Result<Ours> {
    let settings =
        [("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string()), ("FREEHOLD_IDLE_UNLOAD_MINUTES", "1".to_string())];
    let mut daemon = Daemon::start_with(freehold, &[file, other], &settings)?;
    let [model, other_model] = [daemon.model_name(file)?, daemon.model_name(other)?];
    let mut number = 0;
    let mut put = |daemon: &Daemon<'_>, case| {
        number += 1;
        let call = Call { model: model.clone(), ..question(words, number) };
        ask(&Client { side: Side::Ours, address: daemon.address.clone() }, &call, case)
    };
    let stray = |daemon: &Daemon<'_>, model: &str, call: Call| {
        let call = Call { model: model.to_string(), ..call };
        Client { side: Side::Ours, address: daemon.address.clone() }.ask(&call)?.answer()
    };
    let mut seen = vec![put(&daemon, Case::First)?, put(&daemon, Case::Warm)?];
    stray(&daemon, &model, unrelated())?;
    seen.push(put(&daemon, Case::Interleaved)?);
    let state = stored(daemon.home())?;
    let held = daemon.loaded(file)?.facts["held_bytes"].as_f64().context("`status` tells no `held_bytes`")?;
    daemon.kill_and_start(&[("FREEHOLD_MEMORY", format!("{} B", (held * SWAP_SHARE) as u64))])?;
    seen.push(put(&daemon, Case::Killed)?);
    // A small one finds room beside the first, which rests meanwhile; a large one takes its place.
    stray(&daemon, &other_model, unrelated())?;
    seen.push(put(&daemon, Case::Swapped)?);
    let start = Instant::now();
    while daemon.loaded(file).is_ok() {
        if start.elapsed() > IDLE {
            bail!("the model wasn't let go of within {} s", IDLE.as_secs());
        }
        std::thread::sleep(LOOK * 10);
    }
    seen.push(put(&daemon, Case::Idle)?);
    let (state_bytes, disk_s) = read_through(&state)?;
    Ok(Ours { seen, state_bytes, disk_s })
}

/// The largest state on disk, once all are there.
fn stored(home: &Path) -> Result<PathBuf> {
    let folder = home.join("cache");
    let start = Instant::now();
    let (mut before, mut since) = (Vec::new(), Instant::now());
    while start.elapsed() < STORED {
        std::thread::sleep(LOOK);
        let mut now: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            now.push((entry.metadata().map_or(0, |about| about.len()), entry.path()));
        }
        now.sort();
        if now != before {
            (before, since) = (now, Instant::now());
            continue;
        }
        let is_whole = |path: &Path| path.extension().is_some_and(|kind| kind == "state");
        let largest = before.iter().rev().find(|(_, path)| is_whole(path) && path.with_extension("head").is_file());
        if let Some((_, path)) = largest.filter(|_| since.elapsed() > SETTLED) {
            return Ok(path.clone());
        }
    }
    bail!("no state was on disk within {} s", STORED.as_secs())
}

/// Bytes of a file, and the seconds that reading them through one buffer took, as a worker does it.
fn read_through(path: &Path) -> Result<(u64, f64)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, start.elapsed().as_secs_f64())),
            read => bytes += read as u64,
        }
    }
}

/// The peer as it is by itself; and then told to write its state and to read it again, which is the best that it offers.
fn peer_cases(peer: &Peer, file: &Path, words: usize) -> Result<Vec<Seen>> {
    let folder = place::cache()?.join("bench-home").join(format!("slots-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let flags: Vec<String> =
        ["-c", &CONTEXT_TOKENS.to_string(), "--offline", "--no-ui", "--slot-save-path", &folder.to_string_lossy()]
            .map(str::to_string)
            .to_vec();
    let seen = peer_cases_in(peer, file, words, &flags);
    std::fs::remove_dir_all(&folder)?;
    seen
}

fn peer_cases_in(peer: &Peer, file: &Path, words: usize, flags: &[String]) -> Result<Vec<Seen>> {
    let start = || -> Result<(Server, Client, f64)> {
        let begin = Instant::now();
        let server = Server::start_as(peer, file, flags)?;
        let client = Client { side: Side::Peer, address: server.address.clone() };
        Ok((server, client, begin.elapsed().as_secs_f64()))
    };
    let loaded = |seen: Seen, load_s: f64| Seen { load_s, first_s: seen.first_s + load_s, ..seen };
    let (server, client, _) = start()?;
    let mut seen = Vec::new();
    for (number, case) in [(1, Case::First), (2, Case::Warm)] {
        seen.push(ask(&client, &question(words, number), case)?);
    }
    client.ask(&unrelated())?.answer()?;
    seen.push(ask(&client, &question(words, 3), Case::Interleaved)?);
    let mut saved = (0, 0);
    for slot in 0..PEER_SLOTS {
        let reply = slot_action(&client, slot, "save", &format!("{slot}.bin"));
        saved = saved.max((reply.ok().and_then(|reply| reply["n_saved"].as_u64()).unwrap_or(0), slot));
    }
    drop(server);
    let (server, client, load_s) = start()?;
    seen.push(loaded(ask(&client, &question(words, 4), Case::Killed)?, load_s));
    drop(server);
    let (_server, client, load_s) = start()?;
    let begin = Instant::now();
    if saved.0 > 0 && slot_action(&client, 0, "restore", &format!("{}.bin", saved.1)).is_ok() {
        let load_s = load_s + begin.elapsed().as_secs_f64();
        seen.push(loaded(ask(&client, &question(words, 4), Case::Restored)?, load_s));
    }
    Ok(seen)
}

fn slot_action(client: &Client, slot: u32, action: &str, name: &str) -> Result<serde_json::Value> {
    let reply = http::post(&client.address, &format!("/slots/{slot}?action={action}"), &json!({ "filename": name }))?;
    serde_json::from_str(&reply.text()).context("a slot's reply is JSON")
}

fn subjects(options: Options) -> Vec<Subject> {
    let named = |shape: &Shape| SHAPE_NAMES.iter().any(|name| shape.name.starts_with(name));
    let wanted = |shape: &Shape| options.only.is_some() || named(shape);
    let short = |shape: Shape| if options.quick { shape.shortened() } else { shape };
    let made = |shape: Shape| Subject { name: shape.name, shape: Some(short(shape)) };
    let all = [Subject { name: STARTER, shape: None }].into_iter().chain(SHAPES.into_iter().filter(wanted).map(made));
    all.filter(|subject| options.takes(subject.name)).collect()
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("coming back to a long conversation, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let folder = place::cache()?.join("shapes");
    std::fs::create_dir_all(&folder)?;
    let peer = peer::ensure("CPU")?;
    let mut watch = Watch::start(options.patience())?;
    let words = if options.quick { PREFIX_WORDS_QUICK } else { PREFIX_WORDS };
    let memory_gb_per_s = limit::read_gb_per_s(1);
    let mut table = Table::new("each way back", &HEAD);
    for subject in subjects(options) {
        eprintln!("\n{}", subject.name);
        watch.gap();
        let file = match &subject.shape {
            Some(shape) => made(shape, &folder, &starter.chat)?,
            None => starter.chat.clone(),
        };
        // The same weights under another name are another model.
        let other = folder.join("other.gguf");
        let _ = std::fs::remove_file(&other);
        std::fs::hard_link(&file, &other).or_else(|_| std::fs::copy(&file, &other).map(drop))?;
        let measured = our_cases(&freehold, &file, &other, words)
            .and_then(|ours| {
                let theirs = peer_cases(&peer, &file, words)?;
                let token_s = token_s(&peer, &file, &ours.seen)?;
                Ok((ours, theirs, token_s))
            })
            .with_context(|| subject.name);
        std::fs::remove_file(&other)?;
        if subject.shape.is_some() && !options.keep {
            std::fs::remove_file(&file)?;
        }
        let (Ours { seen, state_bytes, disk_s }, theirs, token_s) = measured?;
        let memory_s = state_bytes as f64 / 1e9 / memory_gb_per_s;
        let prices = Prices { state_bytes, disk_s, memory_s, token_s };
        rows(&mut table, &subject, &seen, &theirs, &prices);
        report.goals.extend(seen.iter().skip(1).flat_map(|one| goals(subject.name, one, &prices)));
        report.setting(&format!("state of {}", subject.name), prices.words());
    }
    eprintln!();
    report.quiet = Some(watch.seen());
    report.tables.push(table);
    report.setting("ours", ours(&freehold)?);
    report.setting(
        "peer",
        format!("{}, llama-server with its defaults; by hand: its slots' save and restore", peer.words()),
    );
    if options.quick {
        report.notes.push("only the first layers of each shape, and a short prefix".into());
    }
    Ok(report.finish(options.json))
}

impl Prices {
    fn words(&self) -> String {
        let Self { state_bytes, disk_s, memory_s, token_s } = self;
        format!(
            "{:.0} MB; read from disk (as the system has it) in {disk_s:.3} s, from memory in {memory_s:.3} s; a token behind it takes llama.cpp's bench program {:.2} ms",
            *state_bytes as f64 / 1e6,
            token_s * 1e3
        )
    }
}

/// What a question's token costs behind the prefix, as llama.cpp's bench program takes as many there: no server, no text, no
/// sampling.
fn token_s(peer: &Peer, file: &Path, seen: &[Seen]) -> Result<f64> {
    let warm = seen.iter().find(|one| one.case == Case::Warm).context("one came back at once")?;
    let tokens = warm.again().min(AGAIN_TOKENS_MAX as u32);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32);
    let work = Work::PromptBehind { tokens, depth: warm.prompt_tokens - warm.again() };
    Ok(1.0 / stat::median(&peer.measure(file, threads, work, PRICE_RUNS)?))
}

const HEAD: [&str; 10] = [
    "",
    "",
    "prompt",
    "again",
    "from",
    "first token, s",
    "due, s: load + state + tokens",
    "first / due",
    "llama-server again",
    "its first token, s",
];

fn rows(table: &mut Table, subject: &Subject, seen: &[Seen], theirs: &[Seen], prices: &Prices) {
    let their = |case: Case| theirs.iter().find(|their| their.case == case);
    let cell = |value: Option<f64>| value.map_or("–".into(), figure);
    for one in seen {
        // What is worked through the first time was never there.
        let due = (one.case != Case::First).then(|| prices.due_s(one));
        let sum = due.map(|due| due.iter().sum::<f64>());
        table.rows.push(vec![
            subject.name.into(),
            one.case.name().into(),
            one.prompt_tokens.to_string(),
            one.again().to_string(),
            one.tier().into(),
            figure(one.first_s),
            due.map_or("–".into(), |due| due.map(figure).join(" + ")),
            sum.map_or("–".into(), |sum| format!("{:.2}", one.first_s / sum)),
            cell(their(one.case).map(|their| f64::from(their.again()))),
            cell(their(one.case).map(|their| their.first_s)),
        ]);
    }
    if let Some(by_hand) = their(Case::Restored) {
        let mut row = vec![String::new(); HEAD.len()];
        (row[0], row[1]) = (subject.name.into(), by_hand.case.name().into());
        (row[8], row[9]) = (by_hand.again().to_string(), figure(by_hand.first_s));
        table.rows.push(row);
    }
}

fn goals(name: &str, seen: &Seen, prices: &Prices) -> [Goal; 2] {
    let name = format!("{name}, {}", seen.case.name());
    let ratio = seen.first_s / prices.due_s(seen).iter().sum::<f64>();
    let again = f64::from(seen.again());
    [
        Goal::plain(&format!("{name}: worked through again"), again, "tokens", Bound::AtMost(AGAIN_TOKENS_MAX)),
        Goal::plain(&format!("{name}: first token, of what is due"), ratio, "x", Bound::AtMost(DUE_RATIO_MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(case: Case, tiers: [u32; 3], first_s: f64, load_s: f64) -> Seen {
        Seen { case, prompt_tokens: 1000, tiers, first_s, load_s }
    }

    #[test]
    fn what_is_due_is_load_state_and_the_tokens_that_are_left() {
        let prices = Prices { state_bytes: 1, disk_s: 0.5, memory_s: 0.25, token_s: 0.01 };
        let close = |seen: Seen, due: f64| (prices.due_s(&seen).iter().sum::<f64>() - due).abs() < 1e-9;
        assert!(close(seen(Case::First, [0; 3], 12.0, 2.0), 12.0), "all of it");
        assert!(close(seen(Case::Warm, [900, 0, 0], 9.0, 0.0), 1.0), "a hundred tokens; nothing is read");
        assert!(close(seen(Case::Interleaved, [0, 900, 0], 9.0, 0.0), 1.25));
        assert!(close(seen(Case::Killed, [0, 0, 950], 9.0, 2.0), 3.0));
    }

    #[test]
    fn too_many_tokens_and_too_long_a_wait_are_missed() {
        let prices = Prices { state_bytes: 1, disk_s: 0.5, memory_s: 0.25, token_s: 0.01 };
        let met = |seen: Seen| goals("x", &seen, &prices).map(|goal| goal.met);
        assert_eq!(met(seen(Case::Killed, [0, 0, 744], 6.0, 2.0)), [true, true]);
        assert_eq!(met(seen(Case::Killed, [0, 0, 743], 6.2, 2.0)), [false, false]);
    }

    #[test]
    fn documents_have_as_many_words_as_asked_for_and_differ_at_once() {
        assert_eq!(prefix(100, 1).split_whitespace().count(), 102);
        assert_ne!(prefix(5, 1)[..12], prefix(5, 2)[..12]);
        assert_ne!(question(5, 1).prompt, question(5, 2).prompt);
    }
}
