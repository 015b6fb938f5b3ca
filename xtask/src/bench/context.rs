//! `bench context`: is text ever lost in silence, and does one load serve every size of prompt?
//!
//! Prompts from half the window to ten times it, each with a rule in the system message and a fact at
//! its head: what a runtime that cuts from the front loses first. A reply must either stand on the
//! whole prompt, by its own count of tokens, or be a typed refusal with both numbers.

use super::chat::{Call, Client, Outcome, Refused, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::peer;
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table};
use super::server::{Flags, Server};
use super::{Options, Watch};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// Of the default window.
const SIZES: [f64; 5] = [0.5, 1.0, 1.5, 3.0, 10.0];
/// To see quickly that it works, the window is this small.
const CONTEXT_TOKENS_QUICK: u32 = 1024;
const ANSWER_TOKENS: u32 = 16;
const RULE: &str = "Always end your answers with the word Amen.";
const FACT: &str = "The name of the ship is Seagull.";
const QUESTION: &str = "What is the name of the ship?";
/// The dialect's own word, which clients know; ours; and llama.cpp's.
const TYPED: [&str; 3] = ["context_length_exceeded", "context_overflow", "exceed_context_size_error"];
/// Turns of the two clients that alternate, and the shares of the window that their prompts take.
const TURNS: u32 = 20;
const TURNS_QUICK: u32 = 4;
const SHARES: [f64; 2] = [0.05, 0.4];

/// What came of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// A typed refusal with both numbers.
    Refused,
    /// Answered from less than was sent, or refused in a way that a program can't act on.
    Lost(String),
}

/// Pure: a prompt of so many tokens, a window, and what came back.
fn judge(sent: u32, window: u32, outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Answered(answer) if answer.prompt_tokens == sent => Verdict::Whole,
        Outcome::Answered(answer) => Verdict::Lost(format!("answered from {} of {sent} tokens", answer.prompt_tokens)),
        Outcome::Refused(Refused { code, message, .. }) => {
            let is_typed = TYPED.contains(&code.as_str());
            let numbers: Vec<u32> = numbers(message);
            let has_both = numbers.contains(&window) && numbers.iter().any(|number| *number >= sent);
            match (is_typed, has_both) {
                (true, true) => Verdict::Refused,
                (true, false) => Verdict::Lost(format!("refused without both numbers: {message}")),
                (false, _) => Verdict::Lost(format!("refused as `{code}`: {message}")),
            }
        }
    }
}

/// All whole numbers in a sentence, `8,192` among them.
fn numbers(text: &str) -> Vec<u32> {
    let text: String = text.chars().filter(|c| *c != ',').collect();
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A rule, a fact, filler and a question.
fn call(words: usize, tokens_max: u32) -> Call {
    let mut call = Call::exact(format!("{FACT}{} {QUESTION}", " the".repeat(words)), tokens_max);
    call.system = Some(RULE.into());
    call.whole_length = false;
    call
}

/// Tokens of such a prompt without any filler. Each filler word is one more, which is checked.
fn plain_tokens(client: &Client) -> Result<u32> {
    let count = |words| -> Result<u32> { Ok(client.ask(&call(words, 1))?.answer()?.prompt_tokens) };
    let (none, many) = (count(0)?, count(100)?);
    if many != none + 100 {
        bail!("a hundred filler words are {} tokens in this vocabulary", many - none);
    }
    Ok(none)
}

struct Tried {
    tokens: u32,
    verdict: Verdict,
    says_fact: bool,
    keeps_rule: bool,
}

fn try_sizes(client: &Client, window: u32, plain: u32) -> Result<Vec<Tried>> {
    let one = |share: &f64| {
        let tokens = (f64::from(window) * share) as u32;
        let outcome = client.ask(&call((tokens - plain) as usize, ANSWER_TOKENS))?;
        let said = if let Outcome::Answered(answer) = &outcome { answer.text.as_str() } else { "" };
        Ok(Tried {
            tokens,
            verdict: judge(tokens, window, &outcome),
            says_fact: said.contains("Seagull"),
            keeps_rule: said.contains("Amen"),
        })
    };
    SIZES.iter().map(one).collect()
}

/// Two clients take turns, one with short prompts, one with long ones: how often is the model loaded anew?
fn reloads(daemon: &Daemon<'_>, model: &Path, client: &Client, turns: u32, plain: u32) -> Result<u32> {
    let first = daemon.loaded(model)?;
    let window = first.number("context_tokens")?;
    let (mut pid, mut reloads) = (first.number("pid")?, 0);
    for turn in 0..turns {
        let share = SHARES[turn as usize % SHARES.len()];
        let words = ((f64::from(window) * share) as u32).saturating_sub(plain) + turn;
        let mut call = call(words as usize, ANSWER_TOKENS);
        call.app = Some(format!("client {}", turn % 2));
        client.ask(&call)?.answer()?;
        let now = daemon.loaded(model)?.number("pid")?;
        reloads += u32::from(now != pid);
        pid = now;
    }
    Ok(reloads)
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("prompts around and beyond the window, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let small = [("FREEHOLD_CONTEXT", CONTEXT_TOKENS_QUICK.to_string())];
    let settings: &[(&str, String)] = if options.quick { &small } else { &[] };
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], settings)?;
    let us = Client { side: Side::Ours, address: daemon.address.clone() };
    let plain = plain_tokens(&us)?;
    let loaded = daemon.loaded(&starter.chat)?;
    let window = loaded.number("context_tokens")?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let flags = Flags { threads: loaded.number("threads")?, slots: 2, context_tokens: window };
    let turns = if options.quick { TURNS_QUICK } else { TURNS };

    let mut tried = BTreeMap::new();
    watch.gap();
    tried.insert(Side::Ours, try_sizes(&us, window, plain)?);
    let reloads = reloads(&daemon, &starter.chat, &us, turns, plain)?;
    drop(daemon);
    let server = Server::start(&peer, &starter.chat, flags)?;
    let them = Client { side: Side::Peer, address: server.address.clone() };
    tried.insert(Side::Peer, try_sizes(&them, window, plain)?);
    drop(server);
    report.quiet = Some(watch.seen());

    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("peer", format!("{}, llama-server {}", peer.words(), flags.words().join(" ")));
    report.setting("window", format!("{window} tokens on both sides, the default unless --quick"));
    report.setting("turns", format!("{turns}, two clients, prompts of {SHARES:?} of the window"));
    report.tables.push(table(&tried, window));
    let lost = |side| tried[&side].iter().filter(|one| matches!(one.verdict, Verdict::Lost(_))).count() as f64;
    let mut goal = Goal::plain("silent losses", lost(Side::Ours), "prompts", Bound::Below(1.0));
    goal.peer = Some(lost(Side::Peer));
    report.goals.push(goal);
    report.goals.push(Goal::plain("reloads", f64::from(reloads), "loads", Bound::Below(1.0)));
    report
        .notes
        .push("whether a model this small obeys the rule or says the fact is no goal; the count of tokens is".into());
    Ok(report.finish(options.json))
}

fn table(tried: &BTreeMap<Side, Vec<Tried>>, window: u32) -> Table {
    let head = ["", "of the window", "tokens", "what came", "fact said", "rule kept"];
    let mut table = Table::new("each prompt", &head);
    for (side, all) in tried {
        for one in all {
            let came = match &one.verdict {
                Verdict::Whole => "answer from the whole prompt".to_string(),
                Verdict::Refused => "refusal with both numbers".to_string(),
                Verdict::Lost(why) => format!("LOST: {why}"),
            };
            let yes = |is: bool| if one.verdict == Verdict::Whole && is { "yes" } else { "–" };
            table.rows.push(vec![
                if *side == Side::Ours { "ours" } else { "llama-server" }.into(),
                format!("{:.1}", f64::from(one.tokens) / f64::from(window)),
                one.tokens.to_string(),
                came,
                yes(one.says_fact).into(),
                yes(one.keeps_rule).into(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::chat::Answer;
    use std::time::Instant;

    fn answered(prompt_tokens: u32) -> Outcome {
        let now = Instant::now();
        Outcome::Answered(Answer { prompt_tokens, ..Answer::empty(now) })
    }

    fn refused(code: &str, message: &str) -> Outcome {
        Outcome::Refused(Refused { status: 400, code: code.into(), message: message.into() })
    }

    #[test]
    fn only_the_whole_prompt_or_a_refusal_with_both_numbers_is_no_loss() {
        assert_eq!(judge(900, 1024, &answered(900)), Verdict::Whole);
        assert!(matches!(judge(900, 1024, &answered(512)), Verdict::Lost(_)));
        let both = "the prompt needs 1,537 tokens, the window has 1,024";
        assert_eq!(judge(1536, 1024, &refused("context_overflow", both)), Verdict::Refused);
        let one = "the prompt is too long for 1024 tokens";
        assert!(matches!(judge(1536, 1024, &refused("context_overflow", one)), Verdict::Lost(_)));
        assert!(matches!(judge(1536, 1024, &refused("internal", both)), Verdict::Lost(_)));
    }

    #[test]
    fn numbers_are_found_in_sentences() {
        assert_eq!(numbers("needs 12,345 tokens (of 8192)."), [12_345, 8192]);
        assert_eq!(numbers("none"), Vec::<u32>::new());
    }
}
