//! Every family that people name, with random weights: each loads, answers, shares a batch, parks, and moves to a
//! larger pool. What came of it stands in `docs/families.md`, and this run says the same or fails.
//!
//! Products of several rows add up in another order than those of one, and attention is added up in 16 bits. So in
//! company, or in other cells, two tokens that are as good as equally likely may change places, and from there on
//! a text is another one: with random weights after some hundred tokens. A state that is wrong changes a third of
//! all tokens at once. So what is compared is how far four texts go on alike.

use crate::harness::{Worker, begin, writes_pages};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use testkit::family::{EMBED_WORDS, END, FAMILIES, Kind};
use wire::{Begin, Directive, JobId, Load, Report, WireFinish, WireSampling};

/// Bytes of a prompt: as many tokens, and more than a window shows.
const PROMPT: usize = 100;
const TOKENS: u32 = 96;
/// Each text is followed twice by the likeliest tokens, twice by chance.
const TEXTS: u64 = 4;
/// A pool that a text fits and a longer prompt doesn't.
const SMALL: u32 = 256;

/// Without drafts, which have their own check.
fn load() -> Load {
    Load { drafts: false, ..crate::harness::load() }
}

/// Letters and blanks, the same for the same number.
fn letters(number: u64, count: usize) -> String {
    let mut seed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((seed >> 33) % 27).unwrap()
    };
    (0..count).map(|_| next()).map(|letter| if letter == 26 { ' ' } else { char::from(b'a' + letter) }).collect()
}

/// What is asked for text `number`: it never ends by itself.
fn asked(job: JobId, number: u64) -> Begin {
    let base = begin(job, &letters(number, PROMPT), TOKENS);
    let chance = WireSampling { temperature: 0.8, seed: u32::try_from(number).unwrap(), ..base.sampling.clone() };
    let sampling = if number.is_multiple_of(2) { base.sampling.clone() } else { chance };
    Begin { sampling: WireSampling { logit_bias: vec![(END, f32::NEG_INFINITY)], ..sampling }, ..base }
}

/// The rest of a text that goes on from its state, and isn't read again.
fn gone_on(worker: &mut Worker, id: JobId) -> String {
    let (rest, read_again) = until(worker, id, |report| match report {
        Report::Prefill { job, done: 0, .. } if *job == id => Some(()),
        _ => None,
    });
    assert_eq!(read_again, None, "its state couldn't be put back");
    rest
}

fn whole(worker: &mut Worker, job: JobId) -> String {
    let answer = worker.finish(job).unwrap();
    assert_eq!((answer.finish, answer.spent.completion_tokens), (WireFinish::Length, TOKENS));
    answer.text
}

fn alone(worker: &mut Worker) -> Vec<String> {
    (0..TEXTS)
        .map(|number| {
            worker.begin(asked(number, number));
            whole(worker, number)
        })
        .collect()
}

/// Texts that go on as they should after `from` characters of theirs, where something was done to them. Together they
/// are the same for a third of the rest at least.
pub(crate) fn agree(expected: &[String], found: &[(String, usize)]) {
    let (mut same, mut all) = (0, 0);
    for (expected, (found, from)) in expected.iter().zip(found) {
        let common = expected.chars().zip(found.chars()).take_while(|(one, other)| one == other).count();
        assert!(common >= *from, "before anything was done: {expected} {found}");
        same += common - from;
        all += expected.chars().count() - from;
    }
    assert!(all > 0 && 3 * same >= all, "{same} of {all} characters: {expected:#?} {found:#?}");
}

fn generates(worker: &mut Worker, texts: &mut Vec<String>) {
    *texts = alone(worker);
    let again: Vec<_> = alone(worker).into_iter().map(|text| (text, 0)).collect();
    agree(texts, &again);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "{texts:?}");
    let variety = |text: &String| text.chars().collect::<BTreeSet<char>>().len();
    assert!(variety(&texts[1]) > 10 && variety(&texts[3]) > 10, "chance chooses many tokens: {texts:?}");
}

fn shares_a_batch(worker: &mut Worker, texts: &[String]) {
    (0..TEXTS).for_each(|number| worker.begin(asked(number, number)));
    let together: Vec<_> = (0..TEXTS).map(|number| (whole(worker, number), 0)).collect();
    agree(texts, &together);
}

/// What a job says until another report comes, and what that is; `None`: the job was done before.
fn until<T>(worker: &mut Worker, id: JobId, wanted: impl Fn(&Report) -> Option<T>) -> (String, Option<T>) {
    let mut said = String::new();
    loop {
        let report = worker.find(|report| match report {
            Report::Text { job, .. } | Report::Done { job, .. } if *job == id => Some(Err(report.clone())),
            other => wanted(other).map(Ok),
        });
        match report {
            Ok(found) => return (said, Some(found)),
            Err(Report::Text { text, .. }) => said.push_str(&text),
            Err(_) => return (said, None),
        }
    }
}

/// A text that steps back after its first words and goes on, and how many characters it had before.
fn parked(worker: &mut Worker, number: u64) -> (String, usize) {
    /// On a machine that is busy elsewhere a text may be done before the word to step back comes.
    const TRIES: u64 = 20;
    for job in (0..TRIES).map(|attempt| 100 * (number + 1) + attempt) {
        worker.begin(asked(job, number));
        let first = worker.find(|report| match report {
            Report::Text { job: id, text } if *id == job => Some(text.clone()),
            _ => None,
        });
        worker.send(&Directive::Hold { job });
        let (more, held) = until(worker, job, |report| match report {
            Report::Parked { job: id, held: true, saved, .. } if *id == job => Some(*saved),
            _ => None,
        });
        let Some(saved) = held else { continue };
        assert!(saved, "its state isn't kept");
        // Somebody else's tokens lie where its own were.
        worker.begin(asked(1, TEXTS + number));
        whole(worker, 1);
        worker.send(&Directive::Resume { job });
        let before = first + &more;
        let from = before.chars().count();
        return (before + &gone_on(worker, job), from);
    }
    panic!("{TRIES} times the text was done before it stepped back");
}

fn parks(worker: &mut Worker, texts: &[String]) {
    let resumed: Vec<_> = (0..TEXTS).map(|number| parked(worker, number)).collect();
    agree(texts, &resumed);
}

/// A text whose pool becomes larger while it is said, and how many characters it had before.
fn grown(worker: &mut Worker, number: u64) -> (String, usize) {
    worker.begin(asked(number, number));
    worker.begin(begin(50 + number, &letters(90 + number, 2 * SMALL as usize), 2));
    let (mut before, wanted) = until(worker, number, |report| match report {
        Report::Wants { wanted, .. } => Some(*wanted),
        _ => None,
    });
    let goes_on = wanted.is_some();
    let wanted = wanted.unwrap_or(4 * SMALL);
    worker.send(&Directive::Resize { context_tokens: wanted });
    let resized = |report: &Report| match report {
        Report::Resized { room, fault } => Some((room.context_tokens, fault.clone())),
        _ => None,
    };
    let mut text = String::new();
    let mut from = before.chars().count();
    if goes_on {
        let (more, room) = until(worker, number, resized);
        assert_eq!(room, Some((wanted, None)), "the text was done before its pool had grown");
        before.push_str(&more);
        from = before.chars().count();
        text = gone_on(worker, number);
    } else {
        worker.find(resized);
    }
    worker.finish(50 + number).unwrap();
    // Back to where it began.
    worker.send(&Directive::Rest);
    assert_eq!(worker.find(resized), (SMALL, None));
    (before + &text, from)
}

fn grows(path: &Path, texts: &[String]) {
    let (mut worker, _) = Worker::with(&Load { context_tokens: SMALL, context_max: 4 * SMALL, ..load() }, path);
    let moved: Vec<_> = (0..TEXTS).map(|number| grown(&mut worker, number)).collect();
    agree(texts, &moved);
}

/// Only a few tokens are allowed, so the text soon repeats itself.
fn repeating(job: JobId, number: u64) -> Begin {
    /// Of the vocabulary's single characters.
    const ALLOWED: [u32; 3] = [70, 71, 72];
    const ABOVE_ALL: f32 = 50.0;
    let asked = asked(job, number);
    let logit_bias = ALLOWED.map(|token| (token, ABOVE_ALL)).to_vec();
    let temperature = asked.sampling.temperature / 4.0;
    Begin { sampling: WireSampling { logit_bias, temperature, ..asked.sampling.clone() }, ..asked }
}

/// Texts that repeat themselves, with drafts and without. How many tokens were drafted.
fn drafted(worker: &mut Worker, path: &Path) -> u32 {
    let mut tokens = 0;
    let mut texts = |worker: &mut Worker| -> Vec<String> {
        let mut each = |number| {
            let answer = worker.generate(repeating(number, number)).unwrap();
            assert!(answer.spent.accepted_tokens <= answer.spent.drafted_tokens);
            tokens += answer.spent.drafted_tokens;
            answer.text
        };
        (0..TEXTS).map(&mut each).collect()
    };
    let plain = texts(&mut Worker::with(&load(), path).0);
    let with_drafts: Vec<_> = texts(worker).into_iter().map(|text| (text, 0)).collect();
    agree(&plain, &with_drafts);
    tokens
}

/// What one family comes to: a cell of the table for each thing that it should do.
#[derive(Default)]
struct Row {
    cells: Vec<String>,
    worker: Option<Worker>,
}

impl Row {
    /// `check` fails by a panic. A worker that went through that is not asked again.
    fn check(&mut self, load: &Load, path: &Path, check: impl FnOnce(&mut Worker)) {
        let (worker, load) = (self.worker.take(), load.clone());
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            let mut worker = worker.unwrap_or_else(|| Worker::with(&load, path).0);
            check(&mut worker);
            worker
        }));
        self.cells.push(if outcome.is_ok() { "yes" } else { "no" }.to_owned());
        self.worker = outcome.ok();
    }

    fn replace_last(&mut self, from: &str, to: &str) {
        if let Some(last) = self.cells.last_mut().filter(|last| *last == from) {
            to.clone_into(last);
        }
    }

    fn says_nothing_of(&mut self, things: usize) {
        self.cells.extend(std::iter::repeat_n("–".to_owned(), things));
    }
}

fn text_row(path: &Path) -> Vec<String> {
    let (mut row, mut texts, mut cache) = (Row::default(), Vec::new(), 0);
    let outcome = catch_unwind(|| Worker::with(&load(), path));
    row.cells.push(if outcome.is_ok() { "yes" } else { "no" }.to_owned());
    if let Ok((worker, ready)) = outcome {
        cache = ready.room.cache_bytes;
        row.worker = Some(worker);
    }
    row.check(&load(), path, |worker| generates(worker, &mut texts));
    row.check(&load(), path, |worker| shares_a_batch(worker, &texts));
    row.check(&load(), path, |worker| parks(worker, &texts));
    row.check(&load(), path, |_| grows(path, &texts));
    let mut tokens = 0;
    row.worker = None;
    row.check(&Load { drafts: true, ..load() }, path, |worker| tokens = drafted(worker, path));
    if tokens == 0 {
        row.replace_last("yes", "none");
    }
    row.cells.push(cache.to_string());
    row.cells
}

fn vector_row(path: &Path) -> Vec<String> {
    let texts: Vec<String> = (0..TEXTS as usize).map(|from| EMBED_WORDS[from..from + 3 + from].join(" ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (load, mut row, mut vectors) = (Load { embed: true, ..load() }, Row::default(), Vec::new());
    row.check(&load, path, |_| {});
    row.check(&load, path, |worker| {
        let mut each = |job| texts.iter().map(|text| worker.vectors(job, &[text]).unwrap().rows.remove(0)).collect();
        vectors = each(1);
        assert_eq!(each(2), vectors, "the same texts twice");
    });
    row.check(&load, path, |worker| {
        let together = worker.vectors(3, &texts).unwrap().rows;
        let largest = vectors.iter().zip(&together).flat_map(|(one, other)| one.iter().zip(other));
        let largest = largest.map(|(one, other)| (one - other).abs()).fold(0_f32, f32::max);
        assert!(largest < 1e-4 && vectors[0] != vectors[1], "{largest}");
    });
    row.says_nothing_of(4);
    row.cells
}

/// The page's table as this run has it.
fn table() -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = vec![
        "| family | `general.architecture` | its cache holds | loads | generates | in a batch | parks, resumes | \
         pool grows | drafts | cache, bytes |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for family in FAMILIES {
        let path = folder.path().join("family.gguf");
        std::fs::write(&path, family.gguf().to_bytes()).unwrap();
        let cells = if family.kind == Kind::Embeds { vector_row(&path) } else { text_row(&path) };
        // What can't go back gets no drafts, and all else may.
        let drafts = &cells[cells.len() - 2];
        assert_eq!(drafts == "yes", family.kind == Kind::Attends, "{}: drafts {drafts}", family.name);
        lines.push(format!("| {} | `{}` | {} | {} |", family.name, family.arch, family.keeps, cells.join(" | ")));
    }
    lines.join("\n") + "\n"
}

#[test]
fn what_the_page_says_of_every_family_is_so() {
    let found = table();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/families.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- table -->\n").expect("the page marks its table's beginning");
    let (written, after) = rest.split_once("<!-- end -->").expect("the page marks its table's end");
    if writes_pages() {
        std::fs::write(&page, format!("{before}<!-- table -->\n{found}<!-- end -->{after}")).unwrap();
        return;
    }
    assert!(written == found, "docs/families.md doesn't say what this run found:\n{found}");
}
