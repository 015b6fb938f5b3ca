//! `bench speculate`: answers that repeat their own text, and answers that don't, with drafts, without them, and from
//! llama.cpp's server.
//!
//! All three have the same model and the same requests; with drafts and without them one process answers in turns, so that
//! where its memory happens to lie makes no difference between them. What counts is generation: from the first text to the
//! last, by tokens. An answer that goes around in a loop would flatter drafts, so one whose text repeats itself isn't counted.

use super::chat::{Answer, Call, Client, Side};
use super::daemon::{DRAFTS, Daemon, Freehold, Profile};
use super::peer;
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::{Flags, Server};
use super::stat::{self, estimate};
use super::{Options, Watch};
use anyhow::Result;
use std::collections::HashSet;
use std::process::ExitCode;

const TOKENS_MAX: u32 = 160;
/// An answer shorter than this has too little to time.
const TOKENS_MIN: u32 = 40;
const ROUNDS: u32 = 6;
/// What drafts must bring where an answer repeats its prompt, and may cost elsewhere.
const FASTER_MIN: f64 = 1.5;
const SLOWER_MIN: f64 = 0.98;
/// So many words in a row that stood in the same answer before are a loop.
const LOOP_WORDS: usize = 6;
/// The share of an answer's words that may begin such a repetition.
const LOOP_SHARE_MAX: f64 = 0.1;

/// A kind of request, and some of them.
struct Class {
    name: &'static str,
    /// Its answers stand in the prompt.
    repeats: bool,
    prompts: &'static [&'static str],
}

const CLASSES: [Class; 3] = [
    Class {
        name: "rewrite",
        repeats: true,
        prompts: &[
            "Repeat this text word for word:\n\nThe old harbour lies on the north side of the bay, behind a wall of grey \
             stone that was built two hundred years ago. In summer the fishing boats leave before sunrise and come back in \
             the afternoon with mackerel, sole and crab. The market opens at four. Most families here have lived from the \
             sea for generations, but the young people often move to the city, where there is more work and less wind.",
            "Write this letter again, exactly as it is:\n\nDear Mrs Keller, thank you for your visit last Thursday. We have \
             looked at the heating in the kitchen and found that the pump must be replaced. The part costs 240 euros and \
             can be delivered within ten days. Please tell us by Friday whether we should order it. Our technician, Mr \
             Brandt, would come on a Tuesday morning and needs about three hours. Kind regards, Anna Vogel",
            "Correct the spelling and grammar of this text. Change nothing else.\n\nThe library in Mill Street have opened again \
             after six months of work. The reading room on the ground floor is now twice as large, and there is new desks by \
             the windows with lamps and sockets. Childrens books have moved to the first floor, where a small stage was \
             builded for readings on Saturdays. The opening hours stays the same, but the library close at noon on Fridays.",
            "Put each sentence of this text on a line of its own:\n\nThe ferry to the island leaves every two hours from the \
             eastern pier. Tickets are sold on board, and bicycles travel free of charge. The crossing takes forty minutes when \
             the sea is calm. In winter the last boat comes back at six in the evening. Dogs must be kept on a lead. Coffee \
             and sandwiches can be bought in the saloon on the lower deck.",
            "Write this code again and rename the variable `result` to `amount`:\n\n```python\ndef total(items, rate):\n    \
             \"\"\"Price of all items with tax.\"\"\"\n    result = 0\n    for item in items:\n        price = item[\"price\"] * \
             item[\"count\"]\n        if item.get(\"reduced\"):\n            price = price * 0.9\n        result = result + \
             price\n    return round(result * (1 + rate), 2)\n```",
        ],
    },
    Class {
        name: "extract",
        repeats: true,
        prompts: &[
            "Copy the table of members from this note as it stands:\n\nMinutes of 4 March. Members:\n\
             1. Ruth Okafor, treasurer, Elm Road 14\n2. Daniel Weiss, secretary, Mill Lane 3\n\
             3. Priya Nair, chair, Station Street 88\n4. Tomas Novak, events, Church Square 2\n\
             5. Helen Price, library, Garden Way 41\n6. Omar Haddad, repairs, North Gate 7\nThe meeting ended at nine.",
            "Copy all entries of this log, line by line, without changes:\n\n\
             2024-03-01 07:12 pump 3 started, pressure 2.4 bar\n2024-03-01 07:40 valve B closed by operator Lind\n\
             2024-03-01 09:05 filter 2 changed, serial 88431\n2024-03-01 11:30 alarm: tank level above 90 percent\n\
             2024-03-01 11:42 valve B opened by operator Lind\n2024-03-01 12:10 alarm cleared, level 71 percent",
            "Copy the timetable from this message as it stands:\n\nDear all, the new timetable is:\n7:10 Harbour Square, platform 2\n\
             7:24 Mill Bridge, platform 1\n7:41 Old Town Hall, platform 4\n7:58 University Hospital, platform 3\n\
             8:15 Airport North, platform 6\nPlease tell your colleagues.",
            "Copy the price list from this mail without changes:\n\nGood morning, here are our prices for spring:\n\
             Garden chair, oak: 89.00 euros\nGarden table, oak: 240.00 euros\nBench with cushion: 175.50 euros\n\
             Parasol, green, 3 m: 64.90 euros\nWatering can, zinc: 32.00 euros\nWe deliver within a week.",
            "Write down all phone numbers from this text, one per line, with their names:\n\nReception: 0301 555 0100\n\
             Dr Amira Saleh: 0301 555 0142\nDr Jonas Petersen: 0301 555 0177\nLaboratory: 0301 555 0190\n\
             Pharmacy: 0301 555 0203\nNight service: 0301 555 0999",
            "List all the events in this text as they are written:\n\n12 May: Opening concert in the town hall, 8 pm\n\
             14 May: Guided tour of the old mill, 10 am\n19 May: Flea market in Station Street, all day\n\
             23 May: Reading with Clara Holm, 7 pm\n30 May: Summer run along the river, 9 am",
        ],
    },
    Class {
        name: "free text",
        repeats: false,
        prompts: &[
            "Tell me a short story about a lighthouse keeper who finds a letter.",
            "Explain how bread rises, for a child of ten.",
            "Give me advice for a first visit to the mountains in autumn.",
            "What are the main differences between a violin and a cello?",
            "Describe a busy market in the morning.",
        ],
    },
];

/// With drafts or without them: each comes behind the other as often.
const TURNS: [[bool; 4]; 2] = [[true, false, false, true], [false, true, true, false]];

/// Tokens per second of one class, of the same requests.
#[derive(Debug, Default)]
struct Series {
    drafting: Vec<f64>,
    plain: Vec<f64>,
    peer: Vec<f64>,
    right: u32,
    wrong: u32,
    tokens: u32,
    answers: u32,
    same: u32,
    loops: u32,
}

impl Series {
    /// One request's answers. Those that go around in circles are counted and not measured.
    fn take(&mut self, drafting: &[Answer], plain: &[Answer], peer: &Answer) {
        let mut ours = drafting.iter().chain(plain);
        if ours.any(|answer| is_loop(&answer.text) || answer.completion_tokens < TOKENS_MIN) {
            self.loops += 1;
            return;
        }
        self.drafting.push(rate(drafting));
        self.plain.push(rate(plain));
        self.peer.push(rate(std::slice::from_ref(peer)));
        for (with, without) in drafting.iter().zip(plain) {
            self.right += with.drafted.0;
            self.wrong += with.drafted.1;
            self.tokens += with.completion_tokens;
            self.answers += 1;
            self.same += u32::from(with.text == without.text);
        }
    }

    fn acceptance(&self) -> f64 {
        f64::from(self.right) / f64::from((self.right + self.wrong).max(1))
    }
}

/// Tokens per second behind the first text, of all of them.
fn rate(answers: &[Answer]) -> f64 {
    let tokens: u32 = answers.iter().map(|answer| answer.completion_tokens - 1).sum();
    f64::from(tokens) / answers.iter().map(Answer::rest_s).sum::<f64>()
}

/// Whether a text says again what it has said itself.
fn is_loop(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut seen = HashSet::new();
    let again = words.windows(LOOP_WORDS).filter(|window| !seen.insert(*window)).count();
    again as f64 > LOOP_SHARE_MAX * words.len() as f64
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("drafts from the answer's own text, beside none and beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let start = || Daemon::start_with(&freehold, &[&starter.chat], &[(DRAFTS, "1".to_string())]);
    let client = |side, address: &String| Client { side, address: address.clone() };
    let warm = Call::exact("Hello".into(), 4);
    let loaded = {
        let daemon = start()?;
        client(Side::Ours, &daemon.address).exact(&warm)?;
        daemon.loaded(&starter.chat)?
    };
    let threads = loaded.number("threads")?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let server = Server::start(&peer, &starter.chat, Flags { threads, slots: 1, context_tokens: 2048 })?;
    let theirs = client(Side::Peer, &server.address);
    theirs.exact(&warm)?;
    let mut watch = Watch::start(options.patience())?;
    let rounds = if options.quick { 1 } else { ROUNDS };
    let mut all: Vec<Series> = CLASSES.iter().map(|_| Series::default()).collect();
    for round in 0..rounds {
        eprint!("\rround {} of {rounds} ", round + 1);
        // Anew each time: where a process's memory happens to lie makes it faster or slower by some per cent for as long as it
        // lives.
        let daemon = start()?;
        let ours = client(Side::Ours, &daemon.address);
        for prompt in CLASSES.iter().flat_map(|class| class.prompts.first()) {
            // What steps cost, and how often guesses are right, is learnt by answering.
            for drafts in [true, false] {
                ours.ask(&called(prompt, drafts))?.answer()?;
            }
        }
        for (class, series) in CLASSES.iter().zip(&mut all) {
            watch.gap();
            for (number, prompt) in class.prompts.iter().enumerate() {
                // What another program leaves in the processor's caches is paid for by an answer that isn't counted.
                theirs.ask(&called(prompt, true))?.answer()?;
                let peer = theirs.ask(&called(prompt, true))?.answer()?;
                ours.ask(&called(prompt, false))?.answer()?;
                let (mut drafting, mut plain) = (Vec::new(), Vec::new());
                for drafts in TURNS[(round as usize + number) % TURNS.len()] {
                    let answer = ours.ask(&called(prompt, drafts))?.answer()?;
                    if drafts { drafting.push(answer) } else { plain.push(answer) }
                }
                series.take(&drafting, &plain, &peer);
            }
        }
    }
    eprintln!();
    report.quiet = Some(watch.seen());
    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("peer", format!("{}, server with its defaults for speed and no drafts", peer.words()));
    report.setting("threads", threads.to_string());
    report.setting(
        "answers",
        format!("temperature 0, at most {TOKENS_MAX} tokens, {rounds} rounds with daemons of their own, two answers each way a round"),
    );
    report.tables.push(table(&all));
    for (class, series) in CLASSES.iter().zip(&all) {
        report.goals.extend(goals(class, series));
    }
    Ok(report.finish(options.json))
}

fn called(prompt: &str, drafts: bool) -> Call {
    Call { whole_length: false, drafts, ..Call::exact(prompt.to_string(), TOKENS_MAX) }
}

fn goals(class: &Class, series: &Series) -> Vec<Goal> {
    let bound = Bound::AtLeast(if class.repeats { FASTER_MIN } else { SLOWER_MIN });
    let against = |other: &str, rates: &[f64]| {
        let name = format!("{} beside {other}", class.name);
        if rates.is_empty() {
            return Goal::skipped(&name, "no answer of it could be counted");
        }
        let means = (estimate(&series.drafting).mean, estimate(rates).mean);
        Goal::beside(&name, means, "tokens/s", stat::ratio(&series.drafting, rates), bound)
    };
    vec![against("no drafts", &series.plain), against("llama.cpp's server", &series.peer)]
}

fn table(all: &[Series]) -> Table {
    let head = [
        "",
        "with drafts",
        "without",
        "llama.cpp",
        "accepted",
        "of the answer",
        "same text",
        "counted",
        "loops left out",
    ];
    let mut table = Table::new("tokens per second, generation only", &head);
    for (class, series) in CLASSES.iter().zip(all) {
        let counted = series.drafting.len();
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        table.rows.push(vec![
            class.name.into(),
            figure(estimate(&series.drafting).mean),
            figure(estimate(&series.plain).mean),
            figure(estimate(&series.peer).mean),
            percent(series.acceptance()),
            percent(f64::from(series.right) / f64::from(series.tokens.max(1))),
            format!("{} of {}", series.same, series.answers),
            counted.to_string(),
            series.loops.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_goes_around_in_circles_is_known() {
        assert!(!is_loop("one two three four five six seven eight nine ten"));
        assert!(!is_loop(""));
        assert!(is_loop(&"and then he went to the sea again ".repeat(4)));
        let once = "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9 0 a b c d e f";
        assert!(!is_loop(once), "one repeated phrase in a long text is no loop");
    }

    #[test]
    fn both_turns_come_as_often() {
        for turns in TURNS {
            assert_eq!(turns.iter().filter(|drafts| **drafts).count(), turns.len() / 2);
        }
        assert!(CLASSES.iter().any(|class| class.repeats) && CLASSES.iter().any(|class| !class.repeats));
    }
}
