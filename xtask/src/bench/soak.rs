//! `bench soak`: thousands of short requests, many of them left half-way, while the worker is killed
//! again and again.
//!
//! Every answer is compared with the one that llama.cpp's server gives, greedy as it is, to prompts
//! where no other word comes near. What a kill may cost is a typed fault to requests that were under
//! way; nothing may be stuck, wrong, or left in memory.

use super::chat::{Call, Client, Outcome, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::dice::Dice;
use super::peer::{self, Peer};
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::{Flags, Server};
use super::stat::median;
use super::{Options, Watch, process};
use crate::place;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const REQUESTS: u32 = 10_000;
const REQUESTS_QUICK: u32 = 300;
const KILLS: u32 = 40;
const KILLS_QUICK: u32 = 4;
const CLIENTS: usize = 4;
const ANSWER_TOKENS: u32 = 4;
/// One request in so many is left after a few pieces of text.
const LEAVE_EVERY: u64 = 4;
/// Last quarter's memory over the first's.
const GROWTH_MAX: f64 = 1.1;
const SAMPLES: u32 = 200;
/// How long the daemon may take to notice that the last clients have gone.
const SETTLE: Duration = Duration::from_secs(10);
/// Sums in another order, as in another batch, move a token's logarithm by tenths at most; where two
/// tokens are nearer than this, an answer that differs would prove nothing.
const MARGIN_MIN: f64 = 1.25;
const PROMPTS_MIN: usize = 6;

/// What even a small model is sure of: to take up the words of the question.
const PROMPTS: [&str; 12] = [
    "What is two plus two?",
    "What is two times two?",
    "What is three plus three?",
    "What is ten plus ten?",
    "What is three times five?",
    "What is five plus four?",
    "What is gravity?",
    "Define photosynthesis.",
    "What is the meaning of the word winter?",
    "Repeat exactly: she sells sea shells\nshe sells sea shells\nshe sells sea shells\n",
    "Repeat exactly: the quick brown fox jumps\nthe quick brown fox jumps\nthe quick brown fox jumps\n",
    "Repeat exactly: the sun rises in the east\nthe sun rises in the east\nthe sun rises in the east\n",
];

/// A prompt and its one right answer.
#[derive(Debug, Clone)]
struct Known {
    prompt: &'static str,
    answer: String,
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Right,
    /// The client went away; what it saw until then was right.
    Left,
    /// A worker was killed meanwhile, and that was said in a typed fault.
    Killed,
    Wrong(String),
    /// No end, or a failure that no kill explains.
    Stuck(String),
}

/// Pure: what was asked, what came, and whether a worker was killed meanwhile.
fn judge(known: &Known, left: bool, was_killed: bool, outcome: &Result<Outcome>) -> Verdict {
    match outcome {
        Ok(Outcome::Answered(answer)) if left && answer.finish.is_none() => {
            let text = &answer.text;
            if known.answer.starts_with(text.as_str()) { Verdict::Left } else { Verdict::Wrong(text.clone()) }
        }
        Ok(Outcome::Answered(answer)) if answer.text == known.answer => Verdict::Right,
        Ok(Outcome::Answered(answer)) => Verdict::Wrong(answer.text.clone()),
        Ok(Outcome::Refused(refused)) if was_killed && refused.code == "worker_died" => Verdict::Killed,
        Ok(Outcome::Refused(refused)) => Verdict::Stuck(format!("{} {}", refused.code, refused.message)),
        Err(error) => Verdict::Stuck(format!("{error:#}")),
    }
}

#[derive(Debug, Default)]
struct Tally {
    right: u32,
    left: u32,
    killed: u32,
    wrong: Vec<String>,
    stuck: Vec<String>,
    /// Bytes of the daemon's memory, in the order they were seen.
    resident: Vec<f64>,
}

impl Tally {
    fn take(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Right => self.right += 1,
            Verdict::Left => self.left += 1,
            Verdict::Killed => self.killed += 1,
            Verdict::Wrong(said) => self.wrong.push(said),
            Verdict::Stuck(why) => self.stuck.push(why),
        }
    }

    /// The last quarter's median over the first's.
    fn growth(&self) -> f64 {
        let quarter = self.resident.len() / 4;
        let (first, last) = (&self.resident[..quarter], &self.resident[self.resident.len() - quarter..]);
        median(last) / median(first)
    }
}

fn call(prompt: &str) -> Call {
    Call::exact(prompt.into(), ANSWER_TOKENS)
}

/// Answers by another's word: those of the peer that it was sure of.
fn ask_the_peer(peer: &Peer, model: &Path, threads: u32) -> Result<Vec<Known>> {
    let server = Server::start(peer, model, Flags { threads, slots: 1, context_tokens: 2048 })?;
    let client = Client { side: Side::Peer, address: server.address.clone() };
    let mut known = Vec::new();
    for prompt in PROMPTS {
        let (answer, margin) = client.margin(&call(prompt))?;
        if margin >= MARGIN_MIN {
            known.push(Known { prompt, answer });
        }
    }
    if known.len() < PROMPTS_MIN {
        bail!("only {} prompts have an answer that llama.cpp's server is sure of", known.len());
    }
    Ok(known)
}

/// Everything that the clients share.
struct Soak<'a> {
    daemon: &'a Daemon<'a>,
    model: &'a Path,
    client: Client,
    known: Vec<Known>,
    requests: u32,
    kill_every: u32,
    next: AtomicU32,
    kills: AtomicU32,
    tally: Mutex<Tally>,
}

impl Soak<'_> {
    /// One client: request after request until all are given out.
    fn run(&self) -> Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return Ok(());
            }
            if number % self.kill_every == self.kill_every - 1 {
                self.kill()?;
            }
            let mut dice = Dice(u64::from(number) << 20);
            let known = &self.known[dice.below(self.known.len() as u64) as usize];
            let mut call = call(known.prompt);
            if dice.below(LEAVE_EVERY) == 0 {
                call.leave_after = u32::try_from(dice.below(u64::from(ANSWER_TOKENS) / 2)).ok();
            }
            let before = self.kills.load(Ordering::SeqCst);
            let outcome = self.client.ask(&call);
            let was_killed = self.kills.load(Ordering::SeqCst) != before;
            let verdict = judge(known, call.leave_after.is_some(), was_killed, &outcome);
            let mut tally = self.tally.lock().expect("no client panics with it");
            tally.take(verdict);
            if number.is_multiple_of((self.requests / SAMPLES).max(1)) {
                tally.resident.push(process::memory(self.daemon.pid(), "VmRSS:")? as f64);
                eprint!("\r{number} of {} ", self.requests);
            }
        }
    }

    /// Kills the worker as the system would; none is there while the next one starts.
    fn kill(&self) -> Result<()> {
        let Ok(loaded) = self.daemon.loaded(self.model) else { return Ok(()) };
        // Counted before it happens: who fails from now on may have been hit.
        self.kills.fetch_add(1, Ordering::SeqCst);
        let pid = loaded.number("pid")?.to_string();
        // It may just have ended by itself.
        let _ = place::output(Command::new("kill").args(["-9", &pid]));
        Ok(())
    }
}

/// Asks that still run after all clients have gone.
fn left_over(daemon: &Daemon<'_>) -> Result<u64> {
    let start = Instant::now();
    loop {
        let running = daemon.status()?["asks_running"].as_u64().context("status names no running asks")?;
        if running == 0 || start.elapsed() > SETTLE {
            return Ok(running);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("many short requests with cancels and killed workers");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let settings = [("FREEHOLD_SEQUENCES", CLIENTS.to_string())];
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    let client = Client { side: Side::Ours, address: daemon.address.clone() };
    client.exact(&call(PROMPTS[0]))?;
    let loaded = daemon.loaded(&starter.chat)?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let known = ask_the_peer(&peer, &starter.chat, loaded.number("threads")?)?;
    let (requests, kills) = if options.quick { (REQUESTS_QUICK, KILLS_QUICK) } else { (REQUESTS, KILLS) };
    let soak = Soak {
        daemon: &daemon,
        model: &starter.chat,
        client,
        known,
        requests,
        kill_every: requests / kills,
        next: AtomicU32::new(0),
        kills: AtomicU32::new(0),
        tally: Mutex::default(),
    };
    watch.gap();
    let start = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| soak.run())).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client doesn't panic"))
    })?;
    eprintln!();
    let seconds = start.elapsed().as_secs_f64();
    let running = left_over(&daemon)?;
    watch.gap();
    report.quiet = Some(watch.seen());
    let Soak { known, kills, tally, .. } = soak;
    let tally = tally.into_inner().expect("no client panicked");
    drop(daemon);

    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("clients", format!("{CLIENTS} at a time, one request in {LEAVE_EVERY} left half-way"));
    report.setting("answers known from", format!("{}, llama-server", peer.words()));
    report.setting("prompts", format!("{}, each token likelier than the next by {MARGIN_MIN} nats", known.len()));
    let kills = kills.into_inner();
    report.tables.push(table(&tally, kills, seconds));
    for (name, list) in [("wrong", &tally.wrong), ("stuck", &tally.stuck)] {
        report.notes.extend(list.first().map(|first| format!("first {name} one: {first}")));
    }
    report.goals.extend(goals(&tally, running));
    Ok(report.finish(options.json))
}

fn table(tally: &Tally, kills: u32, seconds: f64) -> Table {
    let mut table = Table::new("what came of the requests", &["", "count"]);
    let rows = [
        ("answered rightly", f64::from(tally.right)),
        ("left half-way, right until then", f64::from(tally.left)),
        ("told that their worker was killed", f64::from(tally.killed)),
        ("workers killed", f64::from(kills)),
        ("seconds", seconds),
        ("daemon's memory at the end, MB", tally.resident.last().copied().unwrap_or(f64::NAN) / 1e6),
    ];
    table.rows.extend(rows.map(|(name, value)| vec![name.into(), figure(value)]));
    table
}

fn goals(tally: &Tally, running: u64) -> Vec<Goal> {
    let none = Bound::Below(1.0);
    let stuck = tally.stuck.len() as f64 + running as f64;
    vec![
        Goal::plain("wrong answers", tally.wrong.len() as f64, "answers", none),
        Goal::plain("stuck or failed without a kill", stuck, "requests", none),
        Goal::plain("daemon's memory, last quarter over first", tally.growth(), "times", Bound::AtMost(GROWTH_MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::chat::{Answer, Refused};
    use anyhow::anyhow;

    fn known() -> Known {
        Known { prompt: "x", answer: "one two three".into() }
    }

    fn answered(text: &str, finish: Option<&str>) -> Result<Outcome> {
        let finish = finish.map(str::to_string);
        Ok(Outcome::Answered(Answer { text: text.into(), finish, ..Answer::empty(Instant::now()) }))
    }

    fn refused(code: &str) -> Result<Outcome> {
        Ok(Outcome::Refused(Refused { status: 502, code: code.into(), message: String::new() }))
    }

    #[test]
    fn an_answer_is_right_whole_or_a_beginning_for_who_left() {
        let judge = |left, outcome| judge(&known(), left, false, &outcome);
        assert_eq!(judge(false, answered("one two three", Some("length"))), Verdict::Right);
        assert_eq!(judge(true, answered("one two three", Some("length"))), Verdict::Right);
        assert_eq!(judge(true, answered("one t", None)), Verdict::Left);
        assert!(matches!(judge(true, answered("two", None)), Verdict::Wrong(_)));
        assert!(matches!(judge(false, answered("one", Some("length"))), Verdict::Wrong(_)));
    }

    #[test]
    fn only_a_kill_meanwhile_explains_a_dead_worker() {
        let judge = |was_killed, outcome| judge(&known(), false, was_killed, &outcome);
        assert_eq!(judge(true, refused("worker_died")), Verdict::Killed);
        assert!(matches!(judge(false, refused("worker_died")), Verdict::Stuck(_)));
        assert!(matches!(judge(true, refused("internal")), Verdict::Stuck(_)));
        assert!(matches!(judge(true, Err(anyhow!("timed out"))), Verdict::Stuck(_)));
    }

    #[test]
    fn growth_is_the_last_quarter_over_the_first() {
        let tally = Tally { resident: vec![10.0, 10.0, 30.0, 1.0, 1.0, 1.0, 11.0, 11.0], ..Tally::default() };
        assert!((tally.growth() - 1.1).abs() < 1e-9);
        assert!(goals(&tally, 0).iter().all(|goal| goal.met));
        assert!(!goals(&tally, 1)[1].met, "an ask that still runs is stuck");
        assert!(!goals(&Tally::default(), 0)[2].met, "no figure is no success");
    }
}
