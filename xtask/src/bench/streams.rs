//! `bench streams`: one, four and eight clients at a time, beside llama.cpp's own server.
//!
//! Both serve the same file over HTTP in the same dialect, with as many threads and places, and are
//! timed at the clients' sockets. Three kinds of work: prompts alone, answers behind short prompts,
//! and, with eight clients, prompts with answers as programs send them.

use super::chat::{Answer, Call, Client, Side, text};
use super::daemon::{Daemon, Freehold, Profile};
use super::peer;
use super::raw::{fresh_tokens, ours};
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::{Flags, Server};
use super::stat::{self, estimate};
use super::{Options, Watch};
use anyhow::Result;
use std::collections::BTreeMap;
use std::process::ExitCode;

const STREAMS: [u32; 3] = [1, 4, 8];
const STREAMS_MAX: u32 = 8;
/// Where several clients must get more in total than from the peer.
const TOTAL_RATIO_MIN: f64 = 1.0;
/// Tokens of one prompt and one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lengths {
    prompt: u32,
    answer: u32,
}

const LENGTHS: Lengths = Lengths { prompt: 256, answer: 128 };
const LENGTHS_QUICK: Lengths = Lengths { prompt: 64, answer: 16 };
/// Eight prompts and answers with room to spare.
const CONTEXT_TOKENS: u32 = 8192;

/// What the clients of one measurement do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Prompt,
    Generate,
    Both,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Prompt => "prompt",
            Kind::Generate => "generation",
            Kind::Both => "total",
        }
    }

    fn calls(self, streams: u32, filler: usize, number: u32, answer: u32) -> Vec<Call> {
        let numbers = (0..streams).map(|stream| number + stream);
        numbers
            .map(|number| match self {
                Kind::Prompt => Call::apart(filler, number),
                Kind::Generate => Call::exact(text(0, number), answer),
                Kind::Both => Call { tokens_max: answer, ..Call::apart(filler, number) },
            })
            .collect()
    }

    /// Tokens per second of all clients together.
    fn rate(self, answers: &[Answer], prompt_tokens: u32) -> Result<f64> {
        let sent = answers.iter().map(|answer| answer.sent).min();
        let all_begun = answers.iter().map(|answer| answer.first).max();
        let last = answers.iter().map(|answer| answer.last).max();
        let mut prompts = 0;
        for answer in answers {
            prompts += match self {
                Kind::Generate => 0,
                Kind::Prompt | Kind::Both => fresh_tokens(answer, prompt_tokens)?,
            };
        }
        let completions: u32 = answers.iter().map(|answer| answer.completion_tokens).sum();
        let (tokens, from, to) = match self {
            Kind::Prompt => (prompts, sent, all_begun),
            // From the sending on, short prompts among it: from the first token on, who answers one client
            // early would be charged with the others' prompts, and who answers all late wouldn't.
            Kind::Generate => (completions, sent, last),
            Kind::Both => (prompts + completions, sent, last),
        };
        let seconds = from.zip(to).map_or(0.0, |(from, to)| (to - from).as_secs_f64());
        Ok(f64::from(tokens) / seconds)
    }
}

/// Rounds: at least the first, then until all intervals are narrow, at most the second.
const ROUNDS: (u32, u32) = (12, 16);

/// What is measured: which work, by how many clients.
type Load = (Kind, u32);

/// Rates of the same rounds, ours and the peer's.
type Rates = BTreeMap<Load, BTreeMap<Side, Vec<f64>>>;

fn loads() -> Vec<Load> {
    let plain = STREAMS.iter().flat_map(|streams| [(Kind::Prompt, *streams), (Kind::Generate, *streams)]);
    plain.chain([(Kind::Both, STREAMS_MAX)]).collect()
}

fn is_narrow(rates: &Rates) -> bool {
    rates.values().all(|sides| stat::is_narrow(&stat::ratio(&sides[&Side::Ours], &sides[&Side::Peer])))
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("several clients at once, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let settings = [("FREEHOLD_SEQUENCES", STREAMS_MAX.to_string()), ("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string())];
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    let us = Client { side: Side::Ours, address: daemon.address.clone() };
    let lengths = if options.quick { LENGTHS_QUICK } else { LENGTHS };
    let filler = us.fit(lengths.prompt)?;
    let loaded = daemon.loaded(&starter.chat)?;
    let threads = loaded.number("threads")?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let mut watch = Watch::start(options.patience())?;
    let flags = Flags { threads, slots: STREAMS_MAX, context_tokens: loaded.number("context_tokens")? };
    let server = Server::start(&peer, &starter.chat, flags)?;
    let them = Client { side: Side::Peer, address: server.address.clone() };

    let (least, most) = if options.quick { (1, 1) } else { ROUNDS };
    let mut rounds = 0;
    let mut rates = Rates::new();
    let mut number = 1000;
    while rounds < least || rounds < most && !is_narrow(&rates) {
        let round = rounds;
        rounds += 1;
        eprint!("\rround {rounds} of {least} to {most} ");
        for load @ (kind, streams) in loads() {
            let calls = kind.calls(streams, filler, number, lengths.answer);
            number += streams;
            for side in Side::order(round) {
                watch.gap();
                let client = if side == Side::Ours { &us } else { &them };
                let rate = kind.rate(&client.together(&calls)?, lengths.prompt)?;
                rates.entry(load).or_default().entry(side).or_default().push(rate);
            }
        }
    }
    eprintln!();
    report.quiet = Some(watch.seen());
    drop(server);
    drop(daemon);

    report.setting("model", starter.chat.display().to_string());
    report.setting("peer", format!("{}, llama-server {}", peer.words(), flags.words().join(" ")));
    report.setting("ours", format!("{}, {STREAMS_MAX} sequences, window {}", ours(&freehold)?, flags.context_tokens));
    report.setting("threads", threads.to_string());
    report.setting("rounds", format!("{rounds}, both sides of a pair one after the other, order changing"));
    report.setting("prompt", format!("{} tokens, no two with the same front, nothing cached", lengths.prompt));
    report.setting("generation", format!("{} tokens, temperature 0, end tokens barred", lengths.answer));
    report.tables.push(table(&rates));
    report.goals.extend(goals(&rates));
    Ok(report.finish(options.json))
}

fn table(rates: &Rates) -> Table {
    let head = ["", "clients", "ours", "llama-server", "ours for each", "ratio (95 %)"];
    let mut table = Table::new("tokens per second of all clients together (95 % interval)", &head);
    for ((kind, streams), sides) in rates {
        let cell = |side| {
            let value = estimate(&sides[&side]);
            format!("{} ({}–{})", figure(value.mean), figure(value.low), figure(value.high))
        };
        let ratio = stat::ratio(&sides[&Side::Ours], &sides[&Side::Peer]);
        table.rows.push(vec![
            kind.name().into(),
            streams.to_string(),
            cell(Side::Ours),
            cell(Side::Peer),
            figure(estimate(&sides[&Side::Ours]).mean / f64::from(*streams)),
            format!("{:.3} ({:.3}–{:.3})", ratio.mean, ratio.low, ratio.high),
        ]);
    }
    table
}

/// Each kind of work alone must be no worse; all of it together with eight clients must be better.
fn goals(rates: &Rates) -> Vec<Goal> {
    let goal = |((kind, streams), sides): (&Load, &BTreeMap<Side, Vec<f64>>)| {
        let (ours, theirs) = (&sides[&Side::Ours], &sides[&Side::Peer]);
        let name = format!("{}, {streams} at a time", kind.name());
        let means = (estimate(ours).mean, estimate(theirs).mean);
        let ratio = stat::ratio(ours, theirs);
        match kind {
            Kind::Both => Goal::beside(&name, means, "tokens/s", ratio, Bound::Above(TOTAL_RATIO_MIN)),
            Kind::Prompt | Kind::Generate => Goal::no_worse(&name, means, "tokens/s", ratio),
        }
    };
    rates.iter().map(goal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn answer(start: Instant, (sent, first, last): (u64, u64, u64), completion_tokens: u32) -> Answer {
        let at = |ms| start + Duration::from_millis(ms);
        Answer {
            sent: at(sent),
            first: at(first),
            last: at(last),
            prompt_tokens: LENGTHS.prompt,
            completion_tokens,
            cached_tokens: 6,
            ..Answer::empty(start)
        }
    }

    #[test]
    fn rates_are_of_all_clients_from_the_first_to_the_last() {
        let start = Instant::now();
        let answers = [answer(start, (0, 500, 2500), 101), answer(start, (0, 1000, 3000), 151)];
        let rate = |kind: Kind| kind.rate(&answers, LENGTHS.prompt).expect("a rate");
        assert!((rate(Kind::Prompt) - 500.0).abs() < 1e-6, "2 x 250 tokens until both had begun, after 1 s");
        assert!((rate(Kind::Generate) - 84.0).abs() < 1e-6, "252 tokens in 3 s");
        assert!((rate(Kind::Both) - 752.0 / 3.0).abs() < 1e-6);
        let mut cached = answers.to_vec();
        cached[0].cached_tokens = LENGTHS.prompt / 2;
        assert!(Kind::Prompt.rate(&cached, LENGTHS.prompt).is_err(), "what was cached isn't worked through");
        assert!(Kind::Generate.rate(&cached, LENGTHS.prompt).is_ok());
    }

    #[test]
    fn no_two_clients_ask_the_same() {
        let calls = Kind::Both.calls(8, 3, 40, LENGTHS.answer);
        let prompts: std::collections::BTreeSet<&str> =
            calls.iter().filter_map(|call| call.system.as_deref()).collect();
        assert_eq!(prompts.len(), 8);
        assert!(calls.iter().all(|call| call.tokens_max == LENGTHS.answer && call.whole_length));
    }

    #[test]
    fn the_total_of_eight_must_be_better_and_the_rest_no_worse() {
        let sides = |ours: f64| BTreeMap::from([(Side::Ours, vec![ours; 4]), (Side::Peer, vec![100.0; 4])]);
        let met = |load, ours| goals(&Rates::from([(load, sides(ours))]))[0].met;
        assert!(met((Kind::Prompt, 4), 100.0) && !met((Kind::Prompt, 4), 99.0));
        assert!(met((Kind::Both, 8), 101.0) && !met((Kind::Both, 8), 100.0));
    }
}
