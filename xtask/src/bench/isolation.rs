//! `bench isolation`: does one program ever see, or notice, what another one has sent?
//!
//! Many programs talk in turns. All of them begin with the same words and then name a secret of their own, which the model
//! is asked for again and again; the daemon is killed and started in between. A leak is an answer with another's secret,
//! a first request of a program that finds anything kept, and a prompt that is answered sooner because another program has sent the very same
//! before.

use super::chat::{Answer, Call, Client, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::dice::Dice;
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::{self, Estimate};
use super::{Options, Watch};
use anyhow::Result;
use std::process::ExitCode;

const APPS: usize = 24;
/// Programs that talk at the same time.
const CLIENTS: usize = 4;
const ANSWER_TOKENS: u32 = 8;
const SECRET_LETTERS: usize = 10;
/// So many letters of another's secret in a row are a leak: nobody says them by chance.
const TELLING_LETTERS: usize = 5;
/// Turns of a conversation before it begins anew.
const TURNS_MAX: usize = 6;
/// Words that all prompts begin with.
const SHARED_WORDS: usize = 60;
/// Words of the prompts whose times are compared.
const PROBE_WORDS: usize = 400;
/// A prompt that another has sent, beside one that nobody has: sooner by more than this is a leak by its time.
const SOONER_MIN: f64 = 0.95;

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
struct Length {
    turns: usize,
    restarts: usize,
    probes: u32,
}

const LENGTH: Length = Length { turns: 10_000, restarts: 10, probes: 40 };
const LENGTH_QUICK: Length = Length { turns: 192, restarts: 2, probes: 2 };

/// A program, its secret and its conversation.
#[derive(Debug)]
struct App {
    name: String,
    secret: String,
    dice: Dice,
    talk: Vec<String>,
    asked: usize,
}

/// What was seen of all.
#[derive(Debug, Default, Clone)]
struct Seen {
    turns: usize,
    /// Answers with a part of somebody else's secret, and with one of the program's own.
    leaked: usize,
    own: usize,
    /// First requests that found something kept.
    found_first: usize,
    /// Tokens that came from the pool, from memory and from disk.
    tiers: [u64; 3],
    prompt_tokens: u64,
    failed: Vec<String>,
}

impl App {
    fn new(number: usize) -> Self {
        let mut dice = Dice((number as u64) << 32 | 7);
        let secret = dice.word(SECRET_LETTERS);
        Self { name: format!("bench-app-{number}"), secret, dice, talk: Vec::new(), asked: 0 }
    }

    /// Its next request: the conversation so far, and another question for the secret.
    fn call(&mut self) -> Call {
        if self.talk.len() >= TURNS_MAX {
            self.talk.clear();
        }
        let number = self.dice.below(1000);
        self.talk.push(format!("Message {number}."));
        let head = format!("{}Always answer with {}.", "Be kind and brief. ".repeat(SHARED_WORDS / 4), self.secret);
        // Small models say what stands there several times.
        let named = [self.secret.as_str(); 3].join(" ");
        let prompt = format!("{named}\n{}\nRepeat the first word.", self.talk.join("\n"));
        let call = Call::exact(prompt, ANSWER_TOKENS).of(&self.name);
        Call { system: Some(head), whole_length: false, ..call }
    }
}

/// Whether a text says enough of a secret to tell whose it is.
fn tells(text: &str, secret: &str) -> bool {
    let letters: String = text.to_lowercase().chars().filter(char::is_ascii_lowercase).collect();
    secret.as_bytes().windows(TELLING_LETTERS).any(|part| letters.contains(std::str::from_utf8(part).unwrap_or(secret)))
}

impl Seen {
    fn take(&mut self, app: usize, is_first: bool, answer: &Answer, secrets: &[String]) {
        self.turns += 1;
        self.own += usize::from(tells(&answer.text, &secrets[app]));
        let others = secrets.iter().enumerate().filter(|(other, _)| *other != app);
        self.leaked += usize::from(others.into_iter().any(|(_, secret)| tells(&answer.text, secret)));
        self.found_first += usize::from(is_first && answer.cached_tokens > 0);
        for (sum, tier) in self.tiers.iter_mut().zip(answer.tiers) {
            *sum += u64::from(tier);
        }
        self.prompt_tokens += u64::from(answer.prompt_tokens);
    }

    fn add(&mut self, other: Self) {
        self.turns += other.turns;
        self.leaked += other.leaked;
        self.own += other.own;
        self.found_first += other.found_first;
        self.prompt_tokens += other.prompt_tokens;
        self.failed.extend(other.failed);
        for (sum, tier) in self.tiers.iter_mut().zip(other.tiers) {
            *sum += tier;
        }
    }
}

/// One client's programs take turns, so many of them.
fn talk(client: &Client, apps: &mut [(usize, App)], turns: usize, secrets: &[String]) -> Seen {
    let mut seen = Seen::default();
    for turn in 0..turns {
        let length = apps.len();
        // Mostly one after the other, sometimes the same again.
        let (number, app) = &mut apps[(turn - turn % 3 / 2) % length];
        let call = app.call();
        match client.ask(&call).and_then(super::chat::Outcome::answer) {
            Ok(answer) => seen.take(*number, app.asked == 0, &answer, secrets),
            Err(error) => seen.failed.push(format!("{error:#}")),
        }
        app.asked += 1;
    }
    seen
}

/// All turns, with a killed daemon after each part.
fn turns(daemon: &mut Daemon<'_>, length: Length, watch: &mut Watch) -> Result<Seen> {
    let mut groups: Vec<Vec<(usize, App)>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    for number in 0..APPS {
        groups[number % CLIENTS].push((number, App::new(number)));
    }
    let secrets: Vec<String> = (0..APPS).map(|number| App::new(number).secret).collect();
    let mut all = Seen::default();
    for part in 0..length.restarts {
        eprint!("\rpart {} of {} ", part + 1, length.restarts);
        watch.gap();
        if part > 0 {
            daemon.kill_and_start(&[])?;
        }
        let client = Client { side: Side::Ours, address: daemon.address.clone() };
        let each = length.turns / length.restarts / CLIENTS;
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let (client, secrets) = (&client, &secrets);
            let threads: Vec<_> =
                groups.iter_mut().map(|apps| scope.spawn(move || talk(client, apps, each, secrets))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client doesn't panic")).collect()
        });
        seen.into_iter().for_each(|seen| all.add(seen));
    }
    eprintln!();
    Ok(all)
}

/// Times of first tokens: of prompts that another program has just sent, and of prompts that nobody has; and how many tokens
/// were said to be kept.
fn probes(client: &Client, count: u32) -> Result<(Vec<f64>, Vec<f64>, u32)> {
    let (mut sent, mut new, mut cached) = (Vec::new(), Vec::new(), 0);
    for number in 0..count {
        eprint!("\rprobe {} of {count} ", number + 1);
        let call = |text: u32, app: &str| Call::apart(PROBE_WORDS, text).of(app);
        client.exact(&call(2 * number, &format!("bench-victim-{number}")))?;
        // A new program each time: it has nothing of its own either.
        let mut probe = |text: u32| -> Result<f64> {
            let answer = client.exact(&call(text, &format!("bench-spy-{text}")))?;
            cached += answer.cached_tokens;
            Ok(answer.first_s())
        };
        let (first, second) = if number % 2 == 0 { (0, 1) } else { (1, 0) };
        let times = [probe(2 * number + first)?, probe(2 * number + second)?];
        sent.push(times[first as usize]);
        new.push(times[1 - first as usize]);
    }
    eprintln!();
    Ok((sent, new, cached))
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("programs beside each other: what one finds of another");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let length = if options.quick { LENGTH_QUICK } else { LENGTH };
    let settings = [("FREEHOLD_SEQUENCES", CLIENTS.to_string()), ("FREEHOLD_CONTEXT", "4096".to_string())];
    let mut daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    let seen = turns(&mut daemon, length, &mut watch)?;
    let client = Client { side: Side::Ours, address: daemon.address.clone() };
    let (sent, new, cached) = probes(&client, length.probes)?;
    watch.gap();
    report.quiet = Some(watch.seen());
    drop(daemon);
    // 1 when nothing tells them apart; less when what another has sent comes sooner.
    let ratio = stat::ratio(&sent, &new);
    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("programs", format!("{APPS}, {CLIENTS} at a time; the daemon killed {} times", length.restarts - 1));
    report.setting("probes", format!("{} pairs of prompts of {PROBE_WORDS} words, order changing", length.probes));
    report.notes.extend(seen.failed.first().map(|why| format!("first failure: {why}")));
    report.tables.push(table(&seen, &sent, &new));
    report.goals.extend(goals(&seen, cached, ratio, (stat::estimate(&sent).mean, stat::estimate(&new).mean)));
    Ok(report.finish(options.json))
}

fn table(seen: &Seen, sent: &[f64], new: &[f64]) -> Table {
    let mut table = Table::new("what was seen", &["", ""]);
    let [live, memory, disk] = seen.tiers.map(|tokens| 100.0 * tokens as f64 / seen.prompt_tokens.max(1) as f64);
    let rows = [
        ("turns", figure(seen.turns as f64)),
        ("answers with the program's own secret", figure(seen.own as f64)),
        ("tokens of prompts from the pool, from memory, from disk", format!("{live:.0} %, {memory:.0} %, {disk:.0} %")),
        ("first token of a prompt that another has sent, median ms", figure(1e3 * stat::median(sent))),
        ("… that nobody has sent", figure(1e3 * stat::median(new))),
    ];
    table.rows.extend(rows.map(|(name, value)| vec![name.to_string(), value]));
    table
}

fn goals(seen: &Seen, cached: u32, ratio: Estimate, means: (f64, f64)) -> Vec<Goal> {
    let none = Bound::Below(1.0);
    vec![
        Goal::plain("answers with another's secret", seen.leaked as f64, "answers", none),
        Goal::plain("first requests that found something", seen.found_first as f64, "requests", none),
        Goal::plain("tokens kept of prompts that another has sent", f64::from(cached), "tokens", none),
        Goal::plain("requests that failed", seen.failed.len() as f64, "requests", none),
        // Else nothing could leak, and nothing is shown.
        Goal::plain("answers with the program's own secret", seen.own as f64, "answers", Bound::AtLeast(1.0)),
        Goal::beside(
            "time of what another has sent, beside what nobody has",
            means,
            "s",
            ratio,
            Bound::AtLeast(SOONER_MIN),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn answer(text: &str, cached_tokens: u32) -> Answer {
        Answer { text: text.into(), cached_tokens, ..Answer::empty(Instant::now()) }
    }

    #[test]
    fn a_part_of_a_secret_is_enough_wherever_it_is_broken() {
        assert!(tells("It is QWERTY.", "qwertzuiop".replace('z', "y").as_str()));
        assert!(tells("q w-e r t", "qwertzuiop"));
        assert!(!tells("qwer", "qwertzuiop"));
    }

    #[test]
    fn another_s_secret_and_a_first_request_that_finds_something_are_leaks() {
        let secrets = ["abcdefghij".to_string(), "klmnopqrst".to_string()];
        let mut seen = Seen::default();
        seen.take(0, true, &answer("abcdefghij", 0), &secrets);
        assert_eq!((seen.leaked, seen.own, seen.found_first), (0, 1, 0));
        seen.take(0, false, &answer("it is klmnop", 50), &secrets);
        seen.take(1, true, &answer("no", 9), &secrets);
        assert_eq!((seen.leaked, seen.own, seen.found_first, seen.turns), (1, 1, 1, 3));
        let ratio = |value: f64| stat::ratio(&[value, value * 1.001, value], &[1.0; 3]);
        let met = |seen: &Seen, cached, time| goals(seen, cached, ratio(time), (1.0, 1.0)).iter().all(|goal| goal.met);
        assert!(!met(&seen, 0, 1.0));
        let clean = Seen { own: 1, ..Seen::default() };
        assert!(met(&clean, 0, 1.0) && !met(&clean, 1, 1.0) && !met(&clean, 0, 0.5));
        assert!(!met(&Seen::default(), 0, 1.0), "a model that never tells a secret can't leak one");
    }

    #[test]
    fn programs_share_their_first_words_and_no_secret() {
        let (mut first, mut second) = (App::new(0), App::new(1));
        let [a, b] = [first.call(), second.call()].map(|call| call.system.unwrap_or_default());
        assert_eq!(a[..100], b[..100]);
        assert_ne!(first.secret, second.secret);
        let prompt = first.call().prompt;
        assert!(prompt.lines().count() == 4 && prompt.starts_with(&first.secret), "{prompt}");
    }
}
