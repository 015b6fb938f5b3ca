//! `bench mixed`: ten programs with short questions while a long prompt is read and two long answers
//! are written, beside llama.cpp's server.
//!
//! Each program's prompt holds a secret word of its own. It must never appear in another's answer, no
//! request may be aborted, and the short ones mustn't wait for the long ones.

use super::chat::{Answer, Call, Client, Outcome, Side, text};
use super::daemon::{Daemon, Freehold, Profile};
use super::dice::Dice;
use super::peer;
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::{Flags, Server};
use super::stat::{self, estimate, quantile};
use super::{Options, Watch};
use anyhow::Result;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const APPS: usize = 10;
const WAIT_RATIO_MAX: f64 = 3.0;
const SECRET_LETTERS: usize = 10;
const SHORT_ANSWER_TOKENS: u32 = 8;
/// One place for each: ten short ones, the prompt and the two long answers.
const PLACES: u32 = APPS as u32 + 3;
/// The long prompt is already being read when the short ones come.
const HEAD_START: Duration = Duration::from_millis(200);

/// How long the long ones are, and the window that holds all at once.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    prompt_words: usize,
    answer_tokens: u32,
    context_tokens: u32,
    rounds: u32,
}

const LENGTHS: Lengths = Lengths { prompt_words: 6000, answer_tokens: 400, context_tokens: 8192, rounds: 10 };
const LENGTHS_QUICK: Lengths = Lengths { prompt_words: 600, answer_tokens: 64, context_tokens: 2048, rounds: 1 };

/// A request with its secret, and what came of it; `None` when it was aborted.
#[derive(Debug)]
struct Told {
    secret: String,
    answer: Option<Answer>,
}

/// What one side showed over all rounds.
#[derive(Debug, Default)]
struct Shown {
    /// Seconds of the short requests, without and with the load.
    alone_s: Vec<f64>,
    loaded_s: Vec<f64>,
    /// Tokens per second of all thirteen together.
    total: Vec<f64>,
    aborted: usize,
    leaked: usize,
    why: Vec<String>,
}

/// Ten short requests of ten programs.
fn short_calls(dice: &mut Dice) -> Vec<(String, Call)> {
    let reviews = ["It broke on the first day.", "I would buy it again.", "The box was empty.", "My mother loves it."];
    let call = |app: usize| {
        let secret = dice.word(SECRET_LETTERS);
        let review = reviews[app % reviews.len()];
        let prompt = format!("{secret} is the secret word of this program.\nReview: {review}\nIs it praise or blame?");
        (secret, Call::exact(prompt, SHORT_ANSWER_TOKENS).of(&format!("app-{app}")))
    };
    (0..APPS).map(call).collect()
}

/// The two long answers, and the long prompt as the last.
fn long_calls(dice: &mut Dice, lengths: Lengths, number: u32) -> Vec<(String, Call)> {
    let mut calls = Vec::new();
    for (name, words, tokens) in [
        ("writer-1", 0, lengths.answer_tokens),
        ("writer-2", 0, lengths.answer_tokens),
        ("reader", lengths.prompt_words, SHORT_ANSWER_TOKENS),
    ] {
        let secret = dice.word(SECRET_LETTERS);
        let prompt = format!("{secret} is the secret word of this program. {}", text(words, number));
        calls.push((secret, Call::exact(prompt, tokens).of(name)));
    }
    calls
}

fn tell(client: &Client, (secret, call): &(String, Call), begun: &mut dyn FnMut(), why: &mut Vec<String>) -> Told {
    let answer = match client.watch(call, begun) {
        Ok(Outcome::Answered(answer)) if answer.completion_tokens == call.tokens_max => Some(answer),
        Ok(Outcome::Answered(answer)) => {
            why.push(format!("{} tokens came instead of {}", answer.completion_tokens, call.tokens_max));
            None
        }
        Ok(Outcome::Refused(refused)) => {
            why.push(format!("{} {}: {}", refused.status, refused.code, refused.message));
            None
        }
        Err(error) => {
            why.push(format!("{error:#}"));
            None
        }
    };
    Told { secret: secret.clone(), answer }
}

/// All short ones at once.
fn ask_short(client: &Client, calls: &[(String, Call)]) -> Vec<(Told, Vec<String>)> {
    let start = Barrier::new(calls.len());
    let ask = |call| {
        start.wait();
        let mut why = Vec::new();
        (tell(client, call, &mut || {}, &mut why), why)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = calls.iter().map(|call| scope.spawn(|| ask(call))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an asking thread doesn't panic")).collect()
    })
}

/// One round: the short ones alone, then beside the load.
fn round(client: &Client, lengths: Lengths, dice: &mut Dice, number: u32, shown: &mut Shown) {
    let mut take = |told: Vec<(Told, Vec<String>)>| -> Vec<Told> {
        shown.why.extend(told.iter().flat_map(|(_, why)| why.iter().cloned()));
        told.into_iter().map(|(told, _)| told).collect()
    };
    let alone = take(ask_short(client, &short_calls(dice)));
    let (short, long) = (short_calls(dice), long_calls(dice, lengths, number));
    let (began, begins) = std::sync::mpsc::channel();
    let (short, long) = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, call) in long.iter().enumerate() {
            let began = began.clone();
            if index + 1 == long.len() {
                // Both writers are at it, or have failed: each says so once.
                begins.iter().take(index).for_each(|()| {});
            }
            threads.push(scope.spawn(move || {
                let (mut first, mut why) = (Some(began), Vec::new());
                let mut begin = || {
                    if let Some(began) = first.take() {
                        // Nobody hears the reader, who begins last.
                        let _ = began.send(());
                    }
                };
                let told = tell(client, call, &mut begin, &mut why);
                begin();
                (told, why)
            }));
        }
        std::thread::sleep(HEAD_START);
        let short = ask_short(client, &short);
        let long: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("an asking thread doesn't panic")).collect();
        (short, long)
    });
    let (short, long) = (take(short), take(long));
    let seconds =
        |told: &[Told]| -> Vec<f64> { told.iter().filter_map(|one| Some(one.answer.as_ref()?.whole_s())).collect() };
    shown.alone_s.extend(seconds(&alone));
    shown.loaded_s.extend(seconds(&short));
    let loaded: Vec<Told> = short.into_iter().chain(long).collect();
    shown.total.push(throughput(&loaded));
    shown.aborted += alone.iter().chain(&loaded).filter(|one| one.answer.is_none()).count();
    shown.leaked += leaks(&alone) + leaks(&loaded);
}

/// Tokens that were really worked through, over the time from the first request to the last text.
fn throughput(told: &[Told]) -> f64 {
    let answers: Vec<&Answer> = told.iter().filter_map(|one| one.answer.as_ref()).collect();
    let tokens: u32 = answers.iter().map(|one| one.prompt_tokens - one.cached_tokens + one.completion_tokens).sum();
    let sent: Option<Instant> = answers.iter().map(|one| one.sent).min();
    let last = answers.iter().map(|one| one.last).max();
    sent.zip(last).map_or(f64::NAN, |(sent, last)| f64::from(tokens) / (last - sent).as_secs_f64())
}

/// How many answers hold another's secret.
fn leaks(told: &[Told]) -> usize {
    let holds = |index: usize, answer: &Answer| {
        told.iter().enumerate().any(|(other, one)| other != index && answer.text.contains(&one.secret))
    };
    told.iter()
        .enumerate()
        .filter(|(index, one)| one.answer.as_ref().is_some_and(|answer| holds(*index, answer)))
        .count()
}

impl Shown {
    /// How much longer the slow ones of the short requests take under load.
    fn wait_ratio(&self) -> f64 {
        quantile(&self.loaded_s, 0.95) / quantile(&self.alone_s, 0.95)
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("ten programs beside long work, beside llama.cpp's server");
    let lengths = if options.quick { LENGTHS_QUICK } else { LENGTHS };
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let settings =
        [("FREEHOLD_SEQUENCES", PLACES.to_string()), ("FREEHOLD_CONTEXT", lengths.context_tokens.to_string())];
    let mut watch = Watch::start(options.patience())?;
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    let us = Client { side: Side::Ours, address: daemon.address.clone() };
    us.exact(&Call::exact(text(0, 0), 1))?;
    let loaded = daemon.loaded(&starter.chat)?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let flags = Flags { threads: loaded.number("threads")?, slots: PLACES, context_tokens: lengths.context_tokens };
    let server = Server::start(&peer, &starter.chat, flags)?;
    let them = Client { side: Side::Peer, address: server.address.clone() };

    let mut all: BTreeMap<Side, Shown> = BTreeMap::new();
    let mut dice = Dice(4);
    for number in 0..lengths.rounds {
        eprint!("\rround {} of {} ", number + 1, lengths.rounds);
        watch.gap();
        for side in Side::order(number) {
            let client = if side == Side::Ours { &us } else { &them };
            round(client, lengths, &mut dice, number, all.entry(side).or_default());
        }
    }
    eprintln!();
    report.quiet = Some(watch.seen());
    drop(server);
    drop(daemon);
    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", format!("{}, {PLACES} sequences, window {}", ours(&freehold)?, lengths.context_tokens));
    report.setting("peer", format!("{}, llama-server {}", peer.words(), flags.words().join(" ")));
    report.setting("rounds", format!("{}, order changing", lengths.rounds));
    let Lengths { prompt_words, answer_tokens, .. } = lengths;
    report.setting("load", format!("a prompt of {prompt_words} words, two answers of {answer_tokens} tokens"));
    report.tables.push(table(&all));
    for (side, shown) in &all {
        let whose = if *side == Side::Ours { "ours" } else { "llama-server" };
        report.notes.extend(shown.why.first().map(|why| format!("{whose}, first aborted request: {why}")));
    }
    report.goals.extend(goals(&all[&Side::Ours], &all[&Side::Peer]));
    Ok(report.finish(options.json))
}

fn table(all: &BTreeMap<Side, Shown>) -> Table {
    let head =
        ["", "alone: median s", "95 %", "beside the load: median s", "95 %", "tokens/s of all", "aborted", "leaked"];
    let mut table = Table::new("the ten short requests", &head);
    for (side, shown) in all {
        table.rows.push(vec![
            if *side == Side::Ours { "ours" } else { "llama-server" }.into(),
            figure(quantile(&shown.alone_s, 0.5)),
            figure(quantile(&shown.alone_s, 0.95)),
            figure(quantile(&shown.loaded_s, 0.5)),
            figure(quantile(&shown.loaded_s, 0.95)),
            figure(estimate(&shown.total).mean),
            shown.aborted.to_string(),
            shown.leaked.to_string(),
        ]);
    }
    table
}

fn goals(ours: &Shown, theirs: &Shown) -> Vec<Goal> {
    let plain = |name, ours: f64, theirs: f64, unit, bound| {
        let mut goal = Goal::plain(name, ours, unit, bound);
        goal.peer = Some(theirs);
        goal
    };
    let ratio = stat::ratio(&ours.total, &theirs.total);
    let means = (estimate(&ours.total).mean, estimate(&theirs.total).mean);
    vec![
        plain(
            "short requests, 95 % of them: beside the load over alone",
            ours.wait_ratio(),
            theirs.wait_ratio(),
            "times",
            Bound::AtMost(WAIT_RATIO_MAX),
        ),
        plain("aborted requests", ours.aborted as f64, theirs.aborted as f64, "requests", Bound::Below(1.0)),
        plain("secrets in others' answers", ours.leaked as f64, theirs.leaked as f64, "answers", Bound::Below(1.0)),
        Goal::no_worse("total throughput", means, "tokens/s", ratio),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(secret: &str, said: &str) -> Told {
        let answer = Answer { text: said.into(), ..Answer::empty(Instant::now()) };
        Told { secret: secret.into(), answer: Some(answer) }
    }

    #[test]
    fn a_secret_counts_only_in_anothers_answer() {
        assert_eq!(leaks(&[told("aaa", "my word is aaa"), told("bbb", "no")]), 0);
        assert_eq!(leaks(&[told("aaa", "praise"), told("bbb", "it is aaa, or aaa")]), 1);
        assert_eq!(leaks(&[told("aaa", "bbb"), told("bbb", "aaa")]), 2);
        assert_eq!(leaks(&[Told { secret: "aaa".into(), answer: None }, told("bbb", "aaa")]), 1);
    }

    #[test]
    fn every_program_has_a_secret_and_a_name_of_its_own() {
        let mut dice = Dice(1);
        let mut calls = short_calls(&mut dice);
        calls.extend(long_calls(&mut dice, LENGTHS, 1));
        let secrets: std::collections::BTreeSet<_> = calls.iter().map(|(secret, _)| secret.clone()).collect();
        let apps: std::collections::BTreeSet<_> = calls.iter().map(|(_, call)| call.app.clone()).collect();
        assert_eq!((secrets.len(), apps.len()), (PLACES as usize, PLACES as usize));
        assert!(calls.iter().all(|(secret, call)| call.prompt.starts_with(secret)));
    }

    #[test]
    fn nothing_answered_meets_no_goal() {
        let none = Shown { total: vec![f64::NAN], aborted: 13, ..Shown::default() };
        let good = Shown { alone_s: vec![1.0], loaded_s: vec![3.0], total: vec![9.0], ..Shown::default() };
        assert!(goals(&none, &good).iter().filter(|goal| goal.met).all(|goal| goal.name.starts_with("secrets")));
        assert!(goals(&good, &good)[0].met, "three times as long is still allowed");
    }
}
