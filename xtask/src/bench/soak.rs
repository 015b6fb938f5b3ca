//! `bench soak`: thousands of short requests, many of them left half-way, while the worker is killed
//! again and again.
//!
//! Every answer is compared with the one that llama.cpp's server gives, greedy as it is, to prompts
//! where no other word comes near. What a kill may cost is a typed fault to requests that were under
//! way; nothing may be stuck, wrong, or left in memory.

use super::chat::{Call, Client, Outcome, Side};
use super::daemon::{DRAFTS, Daemon, Freehold, Profile, Starter};
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

/// What even the starter model is sure of: to take up the words of the question. The answers are those
/// of llama.cpp's server.
const KNOWN: [Known; 10] = [
    Known { prompt: "What is two plus two?", answer: "Two plus two is" },
    Known { prompt: "What is two times two?", answer: "Two times two is" },
    Known { prompt: "What is three plus three?", answer: "Three plus three is" },
    Known { prompt: "What is ten plus ten?", answer: "Ten plus ten is" },
    Known { prompt: "What is three times five?", answer: "Three times five is" },
    Known { prompt: "What is gravity?", answer: "Gravity is a" },
    Known { prompt: "Define photosynthesis.", answer: "Photosynthesis is a" },
    Known { prompt: "What is the meaning of the word winter?", answer: "The word \"winter" },
    Known {
        prompt: "Repeat exactly: she sells sea shells\nshe sells sea shells\nshe sells sea shells\n",
        answer: "She sells sea shells",
    },
    Known {
        prompt: "Repeat exactly: the quick brown fox jumps\nthe quick brown fox jumps\nthe quick brown fox jumps\n",
        answer: "The quick brown fox",
    },
];

/// A prompt and its one right answer.
#[derive(Debug, Clone, Copy)]
struct Known {
    prompt: &'static str,
    answer: &'static str,
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
fn judge(known: Known, left: bool, was_killed: bool, outcome: &Result<Outcome>) -> Verdict {
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

/// Another's word for the answers, and that it is sure of them.
fn ask_the_peer(peer: &Peer, model: &Path, threads: u32) -> Result<()> {
    let server = Server::start(peer, model, Flags { threads, slots: 1, context_tokens: 2048 })?;
    let client = Client { side: Side::Peer, address: server.address.clone() };
    for Known { prompt, answer } in KNOWN {
        let (said, margin) = client.margin(&call(prompt))?;
        if said != answer || margin < MARGIN_MIN {
            bail!("llama.cpp's server answers {said:?} to {prompt:?}, sure by {margin:.2}; {answer:?} is written here");
        }
    }
    Ok(())
}

/// Everything that the clients share.
struct Soak<'a> {
    daemon: &'a Daemon<'a>,
    model: &'a Path,
    client: Client,
    length: Length,
    next: AtomicU32,
    kills: AtomicU32,
    tally: Mutex<Tally>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
struct Length {
    requests: u32,
    kills: u32,
}

const LENGTH: Length = Length { requests: 10_000, kills: 40 };
const LENGTH_SHORT: Length = Length { requests: 300, kills: 4 };

/// What came of all requests.
#[derive(Debug)]
struct Soaked {
    tally: Tally,
    kills: u32,
    /// Asks that still ran when all clients had gone.
    running: u64,
    seconds: f64,
}

impl Soak<'_> {
    fn of(daemon: &Daemon<'_>, model: &Path, length: Length) -> Result<Soaked> {
        let soak = Soak {
            daemon,
            model,
            client: Client { side: Side::Ours, address: daemon.address.clone() },
            length,
            next: AtomicU32::new(0),
            kills: AtomicU32::new(0),
            tally: Mutex::default(),
        };
        let start = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| soak.run())).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a client doesn't panic"))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let running = left_over(daemon)?;
        let tally = soak.tally.into_inner().expect("no client panicked");
        Ok(Soaked { tally, kills: soak.kills.into_inner(), running, seconds })
    }

    /// One client: request after request until all are given out.
    fn run(&self) -> Result<()> {
        let Length { requests, kills } = self.length;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(());
            }
            if (number + 1).is_multiple_of(requests / kills) {
                self.kill()?;
            }
            let mut dice = Dice(u64::from(number) << 20);
            let known = KNOWN[dice.below(KNOWN.len() as u64) as usize];
            let mut call = call(known.prompt);
            if dice.below(LEAVE_EVERY) == 0 {
                call.leave_after = u32::try_from(dice.below(u64::from(ANSWER_TOKENS))).ok();
            }
            let before = self.kills.load(Ordering::SeqCst);
            let outcome = self.client.ask(&call);
            let was_killed = self.kills.load(Ordering::SeqCst) != before;
            let verdict = judge(known, call.leave_after.is_some(), was_killed, &outcome);
            let mut tally = self.tally.lock().expect("no client panics with it");
            tally.take(verdict);
            if number.is_multiple_of((requests / SAMPLES).max(1)) {
                // Not every system tells it; then there is no figure.
                tally
                    .resident
                    .push(process::memory(self.daemon.pid(), "VmRSS:").map_or(f64::NAN, |bytes| bytes as f64));
            }
        }
    }

    /// Kills the worker as the system would; none is there while the next one starts.
    fn kill(&self) -> Result<()> {
        let Ok(loaded) = self.daemon.loaded(self.model) else { return Ok(()) };
        let pid = loaded.number("pid")?.to_string();
        // Counted before it happens: who fails from now on may have been hit.
        self.kills.fetch_add(1, Ordering::SeqCst);
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

/// The short form for `cargo xtask ci`: no peer, no lock, and one thread, so that a busy machine doesn't
/// make it long. Says what came of it.
///
/// # Errors
/// When an answer was wrong or a request stuck.
pub(crate) fn short(freehold: &Freehold, starter: &Starter) -> Result<String> {
    let settings =
        [("FREEHOLD_SEQUENCES", CLIENTS.to_string()), ("FREEHOLD_THREADS", "1".to_string()), (DRAFTS, "1".to_string())];
    let daemon = Daemon::start_with(freehold, &[&starter.chat], &settings)?;
    let Soaked { tally, kills, running, .. } = Soak::of(&daemon, &starter.chat, LENGTH_SHORT)?;
    if let Some(first) = tally.wrong.first() {
        bail!("{} wrong answers, the first: {first}", tally.wrong.len());
    }
    if let Some(first) = tally.stuck.first() {
        bail!("{} requests stuck or failed without a kill, the first: {first}", tally.stuck.len());
    }
    if running > 0 {
        bail!("{running} asks still ran {} s after the last client had gone", SETTLE.as_secs());
    }
    let Tally { right, left, killed, .. } = tally;
    Ok(format!("{right} right, {left} left half-way, {killed} told of {kills} killed workers"))
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("many short requests with cancels and killed workers");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let mut settings = vec![("FREEHOLD_SEQUENCES", CLIENTS.to_string()), (DRAFTS, "1".to_string())];
    // As in the short form: quick on a busy machine too.
    settings.extend(options.quick.then(|| ("FREEHOLD_THREADS", "1".to_string())));
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    Client { side: Side::Ours, address: daemon.address.clone() }.exact(&call(KNOWN[0].prompt))?;
    let loaded = daemon.loaded(&starter.chat)?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    ask_the_peer(&peer, &starter.chat, loaded.number("threads")?)?;
    watch.gap();
    let soaked = Soak::of(&daemon, &starter.chat, if options.quick { LENGTH_SHORT } else { LENGTH })?;
    watch.gap();
    report.quiet = Some(watch.seen());
    drop(daemon);

    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("answers known from", format!("{}, llama-server", peer.words()));
    report.setting("clients", format!("{CLIENTS} at a time, one request in {LEAVE_EVERY} left half-way"));
    report.setting("prompts", format!("{}, each token likelier than the next by {MARGIN_MIN} nats", KNOWN.len()));
    report.tables.push(table(&soaked));
    for (name, list) in [("wrong", &soaked.tally.wrong), ("stuck", &soaked.tally.stuck)] {
        report.notes.extend(list.first().map(|first| format!("first {name} one: {first}")));
    }
    report.goals.extend(goals(&soaked.tally, soaked.running));
    Ok(report.finish(options.json))
}

fn table(soaked: &Soaked) -> Table {
    let Soaked { tally, kills, seconds, .. } = soaked;
    let mut table = Table::new("what came of the requests", &["", "count"]);
    let rows = [
        ("answered rightly", f64::from(tally.right)),
        ("left half-way, right until then", f64::from(tally.left)),
        ("told that their worker was killed", f64::from(tally.killed)),
        ("workers killed", f64::from(*kills)),
        ("seconds", *seconds),
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
        Known { prompt: "x", answer: "one two three" }
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
        let judge = |left, outcome| judge(known(), left, false, &outcome);
        assert_eq!(judge(false, answered("one two three", Some("length"))), Verdict::Right);
        assert_eq!(judge(true, answered("one two three", Some("length"))), Verdict::Right);
        assert_eq!(judge(true, answered("one t", None)), Verdict::Left);
        assert!(matches!(judge(true, answered("two", None)), Verdict::Wrong(_)));
        assert!(matches!(judge(false, answered("one", Some("length"))), Verdict::Wrong(_)));
    }

    #[test]
    fn only_a_kill_meanwhile_explains_a_dead_worker() {
        let judge = |was_killed, outcome| judge(known(), false, was_killed, &outcome);
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
