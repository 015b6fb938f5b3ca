//! `bench batch`: many short documents classified and extracted with one long instruction, beside the same loop on
//! llama.cpp's server.
//!
//! The instruction has about a thousand tokens and is the same for all documents, so the thousandth should cost only its
//! own tokens. Ours are the task calls: classes by likelihood, fields within a schema. The peer gets the same words in its
//! chat endpoint, with its default flags and with the best that its documents offer (a cache of prompts, slots, a grammar
//! for the answer), for the first twentieth of the documents: it needs two hours for all of them. The bound is what a
//! document's own tokens cost at the speeds that llama.cpp's bench program reaches.

use super::daemon::{Daemon, Freehold, Profile};
use super::dice::Dice;
use super::http::{self, Next};
use super::peer::{self, Peer, Work};
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::Server;
use super::{Options, Watch, stat};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Lengths of the documents, in tokens, about.
const LENGTHS: [u32; 3] = [20, 100, 400];
const DOCUMENTS: usize = 1000;
const DOCUMENTS_QUICK: usize = 24;
/// Extracting generates, so it takes longer: so many of the documents.
const EXTRACTED_SHARE: usize = 5;
/// The peer works through one of so many.
const PEERS_SHARE: usize = 20;
const INSTRUCTION_TOKENS: u32 = 1000;
/// Calls under way at a time, on every side.
const JOBS: usize = 4;
const CONTEXT_TOKENS: u32 = 16_384;
/// A share of the bound that must be reached.
const SHARE_MIN: f64 = 0.8;
/// Where likelihoods replace generation.
const AHEAD_MIN: f64 = 1.5;

const TOPICS: [(&str, &str); 4] = [
    ("sport", "The home side won the match after the striker scored two late goals in the final."),
    ("politics", "Parliament passed the law on Tuesday after a long debate between the parties."),
    ("weather", "Heavy rain and strong winds are expected tonight, with snow in the mountains."),
    ("business", "Shares of the company fell after it reported lower profits for the quarter."),
];
/// Says nothing for any class.
const FILLER: [&str; 4] = [
    "More will be said about it tomorrow.",
    "People in the town talked about it all day.",
    "It was noted down at the time and kept.",
    "Nobody was surprised in the end.",
];

/// A document, its class and the number that is to be extracted.
#[derive(Debug, Clone)]
struct Document {
    text: String,
    class: &'static str,
    number: u64,
}

/// What one side did.
#[derive(Debug, Clone)]
struct Done {
    per_s: f64,
    /// Of each document, in their order.
    right: Vec<bool>,
}

impl Done {
    /// The share of the first documents that is right.
    fn right(&self, documents: usize) -> f64 {
        let first = &self.right[..documents.min(self.right.len())];
        first.iter().filter(|right| **right).count() as f64 / first.len().max(1) as f64
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("many documents with one instruction, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let count = if options.quick { DOCUMENTS_QUICK } else { DOCUMENTS };
    let mut watch = Watch::start(options.patience())?;
    let settings = [("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string())];
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    let instruction = instruction();
    // Loads the model, and tells what it runs on.
    ours_classify(&daemon.address, &instruction, &documents(1, LENGTHS[0]))?;
    let loaded = daemon.loaded(&starter.chat)?;
    let threads = loaded.number("threads")?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    report.setting("model", starter.chat.display().to_string());
    report.setting("peer", peer.words());
    report.setting("instruction", format!("about {INSTRUCTION_TOKENS} tokens, the same for all documents"));
    report.setting(
        "documents",
        format!(
            "{count} classified and {} extracted at each length, {JOBS} at a time; by the peer the first {} and {}",
            count.div_ceil(EXTRACTED_SHARE),
            count.div_ceil(PEERS_SHARE),
            count.div_ceil(EXTRACTED_SHARE * PEERS_SHARE),
        ),
    );
    let mut table = Table::new(
        "documents per second, and the share that is right",
        &["", "tokens", "bound", "Freehold", "right", "peer, default flags", "right", "peer, best flags", "right"],
    );
    for length in LENGTHS {
        watch.gap();
        let documents = documents(count, length);
        let some = &documents[..count.div_ceil(EXTRACTED_SHARE)];
        let rates = Rates::measure(&peer, &starter.chat, threads, length)?;
        let classified = (
            ours_classify(&daemon.address, &instruction, &documents)?,
            theirs(&peer, &starter.chat, threads, &Flags::plain(), &instruction, peers(&documents), Kind::Classify)?,
            theirs(
                &peer,
                &starter.chat,
                threads,
                &Flags::best(threads),
                &instruction,
                peers(&documents),
                Kind::Classify,
            )?,
        );
        let extracted = (
            ours_extract(&daemon.address, &instruction, some)?,
            theirs(&peer, &starter.chat, threads, &Flags::plain(), &instruction, peers(some), Kind::Extract)?,
            theirs(&peer, &starter.chat, threads, &Flags::best(threads), &instruction, peers(some), Kind::Extract)?,
        );
        for (kind, (ours, default, best)) in [(Kind::Classify, classified), (Kind::Extract, extracted)] {
            let bound = rates.documents_per_s(kind, length);
            let shown = |done: &Done| [figure(done.per_s), format!("{:.2}", done.right(usize::MAX))];
            let mut row = vec![kind.as_str().to_owned(), length.to_string(), figure(bound)];
            row.extend([&ours, &default, &best].into_iter().flat_map(shown));
            table.rows.push(row);
            let name = format!("{}, {length} tokens", kind.as_str());
            report.goals.push(Goal::plain(
                &format!("{name}: share of the bound"),
                ours.per_s / bound,
                "",
                Bound::AtLeast(SHARE_MIN),
            ));
            if kind == Kind::Classify {
                let ahead = stat::ratio(&[ours.per_s], &[best.per_s.max(default.per_s)]);
                let mut goal = Goal::plain(
                    &format!("{name}: ahead of the peer's best"),
                    ahead.mean,
                    "x",
                    Bound::AtLeast(AHEAD_MIN),
                );
                goal.peer = Some(best.per_s.max(default.per_s));
                report.goals.push(goal);
                let same = best.right.len();
                let no_worse = ours.right(same) - best.right(same).max(default.right(same));
                report.goals.push(Goal::plain(
                    &format!("{name}: accuracy less the peer's"),
                    no_worse,
                    "",
                    Bound::AtLeast(0.0),
                ));
            }
        }
    }
    report.quiet = Some(watch.seen());
    drop(daemon);
    report.tables.push(table);
    report.notes.push(
        "the bound is the time of a document's own tokens: those of the document and of what stands behind it at the \
         speed of prompts, those that are generated at the speed of answers times the sequences that run together; an \
         instruction that has to be read again is not in it"
            .into(),
    );
    Ok(report.finish(options.json))
}

/// Those that the peer works through.
fn peers(documents: &[Document]) -> &[Document] {
    &documents[..documents.len().div_ceil(PEERS_SHARE)]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classify,
    Extract,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Classify => "classify",
            Kind::Extract => "extract",
        }
    }
}

/// Tokens that stand behind each document: its border, the tail, and the template's own.
const TAIL_TOKENS: f64 = 24.0;
/// Tokens of all four classes with the end of the turn behind each.
const OPTION_TOKENS: f64 = 8.0;
/// Tokens of an extracted object.
const OBJECT_TOKENS: f64 = 16.0;

/// Speeds of llama.cpp's bench program.
#[derive(Debug, Clone, Copy)]
struct Rates {
    prompt: f64,
    generate: f64,
}

impl Rates {
    fn measure(peer: &Peer, model: &Path, threads: u32, length: u32) -> Result<Self> {
        let mean = |speeds: Vec<f64>| stat::estimate(&speeds).mean;
        let tokens = (length + TAIL_TOKENS as u32) * u32::try_from(JOBS)?;
        let prompt = mean(peer.measure(model, threads, Work::Prompt(tokens), 3)?);
        let generate =
            mean(peer.measure(model, threads, Work::Generate { tokens: 32, depth: INSTRUCTION_TOKENS }, 2)?);
        Ok(Self { prompt, generate })
    }

    fn documents_per_s(self, kind: Kind, length: u32) -> f64 {
        let read = f64::from(length) + TAIL_TOKENS;
        match kind {
            Kind::Classify => self.prompt / (read + OPTION_TOKENS),
            // Sequences that run together share a step; at most all of them do so at no cost.
            Kind::Extract => 1.0 / (read / self.prompt + OBJECT_TOKENS / (self.generate * JOBS as f64)),
        }
    }
}

/// Rules that a person would give for such work, as long as they are wanted.
fn instruction() -> String {
    let rules = [
        "A text belongs to the class that most of it is about.",
        "Names of persons and places alone tell nothing about the class.",
        "A text about money in games belongs to the games and not to the money.",
        "A text about a law for companies belongs to those who made the law.",
        "What is said about the day or the hour tells nothing about the class.",
        "Headlines count as much as the text below them.",
        "Words in quotation marks count as much as all others.",
        "Where two classes fit, take the one that the first sentence speaks for.",
    ];
    // A word is a little more than a token here.
    let mut text = String::from("Rules:");
    let mut at = 0;
    while text.split_whitespace().count() < INSTRUCTION_TOKENS as usize * 4 / 5 {
        text.push_str(&format!(" {}. {}", at + 1, rules[at % rules.len()]));
        at += 1;
    }
    text
}

fn documents(count: usize, tokens: u32) -> Vec<Document> {
    let mut dice = Dice(u64::from(tokens));
    (0..count)
        .map(|_| {
            let (class, sentence) = TOPICS[usize::try_from(dice.below(4)).unwrap_or(0)];
            let number = 10_000 + dice.below(90_000);
            let mut text = format!("Note {number}. {sentence}");
            while text.split_whitespace().count() * 5 / 4 < tokens as usize {
                text.push(' ');
                text.push_str(FILLER[usize::try_from(dice.below(4)).unwrap_or(0)]);
            }
            Document { text, class, number }
        })
        .collect()
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "note": { "type": "integer" } }, "required": ["note"], "additionalProperties": false })
}

fn labels() -> Value {
    json!(TOPICS.map(|(class, _)| class))
}

/// Works through the documents, some at a time, and asks of each whether it is right.
fn through(documents: &[Document], right: impl Fn(&Document) -> Result<bool> + Sync) -> Result<Done> {
    let next = AtomicUsize::new(0);
    let marks: Vec<AtomicBool> = documents.iter().map(|_| AtomicBool::new(false)).collect();
    let begun = Instant::now();
    let work = || -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(document), Some(mark)) = (documents.get(at), marks.get(at)) else { return Ok(()) };
            mark.store(right(document)?, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("an asking thread doesn't panic"))
    })?;
    let per_s = documents.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Done { per_s, right: marks.into_iter().map(AtomicBool::into_inner).collect() })
}

/// The first document reads the instruction, as a warm-up that neither side is charged for.
fn warm_through(documents: &[Document], right: impl Fn(&Document) -> Result<bool> + Sync) -> Result<Done> {
    through(&documents[..1], &right)?;
    through(documents, right)
}

fn task(address: &str, name: &str, body: &Value) -> Result<Value> {
    let text = http::post(address, &format!("/v1/tasks/{name}"), body)?.text();
    serde_json::from_str(&text).context("the reply isn't JSON")
}

fn ours_classify(address: &str, instruction: &str, documents: &[Document]) -> Result<Done> {
    warm_through(documents, |document| {
        let body = json!({
            "text": document.text, "labels": labels(), "unknown": false, "instruction": instruction, "priority": "batch",
        });
        Ok(task(address, "classify", &body)?["result"]["classes"][0]["id"] == document.class)
    })
}

fn ours_extract(address: &str, instruction: &str, documents: &[Document]) -> Result<Done> {
    warm_through(documents, |document| {
        let body = json!({
            "text": document.text, "schema": schema(), "instruction": instruction, "tokensMax": 48, "priority": "batch",
        });
        Ok(task(address, "extract", &body)?["result"]["data"]["note"] == document.number)
    })
}

/// What the peer's answers are held to, in its own form of grammars.
const NOTE_GRAMMAR: &str = r#"root ::= "{\"note\": " [0-9]+ "}""#;

fn grammar_of_labels() -> String {
    let labels: Vec<String> = TOPICS.iter().map(|(class, _)| format!("\"{class}\"")).collect();
    format!("root ::= {}", labels.join(" | "))
}

/// How the peer's server is started, and whether answers are held to a form.
#[derive(Debug, Clone)]
struct Flags {
    words: Vec<String>,
    formed: bool,
}

impl Flags {
    /// What it does when nothing is said, but for the threads, which would make another race.
    fn plain() -> Self {
        Self { words: Vec::new(), formed: false }
    }

    /// Slots for all calls in one pool, prompts kept in memory beside them, nothing done that isn't needed.
    fn best(threads: u32) -> Self {
        let words = format!(
            "-t {threads} -np {JOBS} -c {CONTEXT_TOKENS} --kv-unified --cache-ram 2048 --cache-reuse 64 --no-ui --no-slots \
             --skip-chat-parsing --offline"
        );
        Self { words: words.split_whitespace().map(str::to_string).collect(), formed: true }
    }
}

fn theirs(
    peer: &Peer,
    model: &Path,
    threads: u32,
    flags: &Flags,
    instruction: &str,
    documents: &[Document],
    kind: Kind,
) -> Result<Done> {
    let mut words = flags.words.clone();
    if words.is_empty() {
        words = ["-t", &threads.to_string(), "--offline"].map(str::to_string).to_vec();
    }
    let server = Server::start_as(peer, model, &words)?;
    let ask = |document: &Document| -> Result<bool> {
        let (prompt, grammar) = match kind {
            Kind::Classify => {
                let names: Vec<String> = TOPICS.iter().map(|(class, _)| format!("- {class}")).collect();
                let prompt = format!(
                    "Classify the text into one of these classes:\n{}\n{instruction}\nReply with the name of the class only.\n\nText:\n{}",
                    names.join("\n"),
                    document.text
                );
                (prompt, grammar_of_labels())
            }
            Kind::Extract => {
                let prompt = format!(
                    "Extract the number of the note from the text as a JSON object that fits {}.\n{instruction}\n\nText:\n{}",
                    schema(),
                    document.text
                );
                (prompt, NOTE_GRAMMAR.to_string())
            }
        };
        let mut body = json!({
            "messages": [{ "role": "user", "content": prompt }], "temperature": 0, "cache_prompt": true,
            "max_tokens": if kind == Kind::Classify { 8 } else { 48 },
        });
        if flags.formed {
            // Within a schema it fills its answer up with white space.
            body["grammar"] = json!(grammar);
        }
        let reply = http::call(&server.address, "/v1/chat/completions", &[], Some(&body), &mut |_| Next::Read)?;
        if reply.status != 200 {
            bail!("llama.cpp's server answered {}: {}", reply.status, reply.text());
        }
        let reply: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
        let said = reply["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        Ok(match kind {
            Kind::Classify => named(said) == Some(document.class),
            Kind::Extract => {
                serde_json::from_str::<Value>(said.trim()).is_ok_and(|value| value["note"] == document.number)
            }
        })
    };
    warm_through(documents, ask)
}

/// The one class that an answer names.
fn named(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    let mut found = TOPICS.iter().map(|(class, _)| *class).filter(|class| said.contains(class));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_the_same_in_every_run_and_as_long_as_wanted() {
        let (one, other) = (documents(20, 100), documents(20, 100));
        assert!(one.iter().zip(&other).all(|(one, other)| one.text == other.text && one.class == other.class));
        assert!(one.iter().all(|document| (75..110).contains(&document.text.split_whitespace().count())));
        assert!(TOPICS.iter().all(|(class, _)| one.iter().any(|document| document.class == *class)));
        assert!((700..1000).contains(&instruction().split_whitespace().count()));
    }

    #[test]
    fn an_answer_names_one_class() {
        assert_eq!(named("\"Sport\""), Some("sport"));
        assert_eq!(named("sport or politics"), None);
        assert_eq!(named("neither"), None);
    }

    #[test]
    fn the_bound_falls_with_the_length() {
        let rates = Rates { prompt: 1000.0, generate: 50.0 };
        let of = |kind, length| rates.documents_per_s(kind, length);
        assert!(of(Kind::Classify, 20) > of(Kind::Classify, 400) && of(Kind::Extract, 20) < of(Kind::Classify, 20));
    }
}
