//! A draft model guesses what a larger one will say: right or wrong, the answer stays what it is.
//!
//! The larger model is a small one made slow: behind its own layers stand many more that add nothing. So the small one
//! says what it says, for a part of the time.

use crate::families::agree;
use crate::harness::{Answer, Worker, begin, load, model};
use std::fs::File;
use std::path::{Path, PathBuf};
use testkit::family::{END, FAMILIES, Kind};
use testkit::gguf::{Gguf, Value};
use wire::{Begin, Directive, JobId, Load, Ready, Report, WireDraftModel, WireFinish, WireSampling};

const TOKENS: u32 = 64;
/// While others take the processors nothing measures faster, so it is asked again.
const TRIES: u32 = 20;
/// Layers that add nothing.
const IDLE_LAYERS: usize = 45;

fn family(arch: &str) -> Gguf {
    FAMILIES.iter().find(|family| family.arch == arch).unwrap().gguf()
}

/// Says what the small one says, and takes many times as long.
fn slow(small: &Gguf) -> Gguf {
    let layers = (0..).take_while(|n| small.tensors.iter().any(|t| t.name.starts_with(&format!("blk.{n}.")))).count();
    let all = u32::try_from(layers + IDLE_LAYERS).unwrap();
    let mut slow = small.clone().set("llama.block_count", Value::U32(all));
    let first: Vec<_> = small.tensors.iter().filter(|tensor| tensor.name.starts_with("blk.0.")).cloned().collect();
    for layer in layers..layers + IDLE_LAYERS {
        for tensor in &first {
            let name = tensor.name.replacen("blk.0.", &format!("blk.{layer}."), 1);
            let adds = name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight");
            let values = if adds { vec![0.0; tensor.values.len()] } else { tensor.values.clone() };
            slow = slow.tensor(&name, &tensor.shape, values);
        }
    }
    slow
}

fn written(folder: &Path, name: &str, file: &Gguf) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, file.to_bytes()).unwrap();
    path
}

fn draft_load() -> Load {
    let draft = WireDraftModel { name: "small".into(), context_tokens: 2048, batch_tokens: 64 };
    Load { draft_model: Some(draft), ..load() }
}

fn loaded(load: &Load, target: &Path, draft: &Path) -> (Worker, Ready) {
    let mut worker = Worker::start();
    let files = [target, draft].map(|path| File::open(path).unwrap().into());
    let ready = worker.load(load, &files).unwrap();
    (worker, ready)
}

/// Letters of no sense: the same for the same number.
fn asked(job: JobId, number: u64, temperature: f32) -> Begin {
    let letters: String = (1..=40).map(|place| char::from(b'a' + ((number + 3) * place * place % 26) as u8)).collect();
    let base = begin(job, &letters, TOKENS);
    let seed = u32::try_from(number).unwrap();
    let logit_bias = vec![(END, f32::NEG_INFINITY)];
    Begin { sampling: WireSampling { temperature, seed, logit_bias, ..base.sampling.clone() }, ..base }
}

fn answers(worker: &mut Worker, temperature: f32) -> Vec<Answer> {
    (0..4).map(|number| worker.generate(asked(number, number, temperature)).unwrap()).collect()
}

fn texts(answers: &[Answer]) -> Vec<String> {
    answers.iter().map(|answer| answer.text.clone()).collect()
}

fn from_start(answers: &[Answer]) -> Vec<(String, usize)> {
    texts(answers).into_iter().map(|text| (text, 0)).collect()
}

fn sums(answers: &[Answer]) -> (u32, u32) {
    let spent = || answers.iter().map(|answer| &answer.spent);
    (spent().map(|spent| spent.drafted_tokens).sum(), spent().map(|spent| spent.accepted_tokens).sum())
}

struct Models {
    folder: tempfile::TempDir,
    small: PathBuf,
    slow: PathBuf,
}

fn models() -> Models {
    let folder = tempfile::tempdir().unwrap();
    let llama = family("llama");
    let (small, slow) = (written(folder.path(), "small", &llama), written(folder.path(), "slow", &slow(&llama)));
    Models { folder, small, slow }
}

#[test]
fn a_draft_model_that_knows_what_comes_saves_steps_and_changes_nothing() {
    let Models { small, slow, folder: _folder } = models();
    let (mut with, ready) = loaded(&draft_load(), &slow, &small);
    assert_eq!((ready.draft_model.as_deref(), ready.draft_refused), (Some("small"), None));
    let mut without = Worker::with(&load(), &slow).0;
    // By the likeliest token, and by chance; of these models no token is likely by chance.
    for temperature in [0.0, 0.1, 0.8] {
        let (drafted, plain) = (answers(&mut with, temperature), answers(&mut without, temperature));
        agree(&texts(&plain), &from_start(&drafted));
        assert!(drafted.iter().all(|answer| answer.spent.completion_tokens == TOKENS));
        let ((tokens, right), (_, by_text)) = (sums(&drafted), sums(&plain));
        assert!(right <= tokens, "{right} of {tokens}");
        if temperature == 0.0 {
            let again = (1..TRIES).map(|_| sums(&answers(&mut with, 0.0)));
            let most = [(tokens, right)].into_iter().chain(again).find(|(_, right)| *right > TOKENS + by_text);
            let (tokens, right) = most.expect("a quarter of all tokens comes with another one's step");
            assert!(10 * right > 9 * tokens, "{right} of {tokens}");
        }
    }
    // The text's own guesses, and what two answers say beside each other, stay as they are too.
    let expected = texts(&answers(&mut without, 0.0));
    (0..2).for_each(|number| with.begin(asked(10 + number, number, 0.0)));
    let together: Vec<_> = (0..2).map(|number| with.finish(10 + number).unwrap()).collect();
    agree(&expected[..2], &from_start(&together));
    assert!(sums(&together).1 > TOKENS / 4, "{together:?}");
}

#[test]
fn a_draft_model_that_knows_nothing_is_soon_asked_no_more() {
    let Models { slow, folder, .. } = models();
    let other = written(folder.path(), "other", &family("qwen3"));
    let (mut with, ready) = loaded(&draft_load(), &slow, &other);
    assert_eq!(ready.draft_model.as_deref(), Some("small"));
    let mut without = Worker::with(&load(), &slow).0;
    let plain = answers(&mut without, 0.8);
    let by_text = sums(&plain).0;
    let few = (0..TRIES).map(|_| {
        let drafted = answers(&mut with, 0.8);
        agree(&texts(&plain), &from_start(&drafted));
        let (tokens, right) = sums(&drafted);
        assert!(right < TOKENS / 2 + by_text, "{right} right");
        tokens
    });
    let found: Vec<u32> =
        few.scan(true, |more, tokens| std::mem::replace(more, tokens >= TOKENS + by_text).then_some(tokens)).collect();
    assert!(found.last().is_some_and(|tokens| *tokens < TOKENS + by_text), "of {} were drafted {found:?}", 4 * TOKENS);
}

#[test]
fn a_draft_model_catches_up_after_cancels_pauses_and_rests() {
    let Models { small, slow, folder: _folder } = models();
    let grows = Load { context_max: 4096, ..draft_load() };
    let mut with = loaded(&grows, &slow, &small).0;
    let plain = answers(&mut Worker::with(&load(), &slow).0, 0.0);
    let (expected, by_text) = (texts(&plain), sums(&plain).1);
    let check = |with: &mut Worker, what: &str| {
        let (mut drafted, mut right) = (0, 0);
        for _ in 0..TRIES {
            let found = answers(with, 0.0);
            agree(&expected, &from_start(&found));
            let sums = sums(&found);
            (drafted, right) = (drafted + sums.0, right + sums.1);
            if right > TOKENS {
                break;
            }
        }
        assert!(10 * right > 9 * drafted && right > TOKENS, "{what}: {right} of {drafted}");
    };
    check(&mut with, "at first");
    // Cancelled somewhere on its way.
    let first_text = |worker: &mut Worker, id: JobId| {
        worker.find(|report| match report {
            Report::Text { job, text } if *job == id => Some(text.clone()),
            _ => None,
        })
    };
    with.begin(Begin { tokens_max: 1000, ..asked(20, 1, 0.0) });
    first_text(&mut with, 20);
    with.send(&Directive::Cancel { job: 20 });
    let finish = with.finish(20).unwrap().finish;
    assert!([WireFinish::Cancelled, WireFinish::Length].contains(&finish), "{finish:?}");
    check(&mut with, "after a cancel");
    // Held while others speak, and resumed.
    with.begin(Begin { tokens_max: 400, ..asked(30, 2, 0.0) });
    let begun = first_text(&mut with, 30);
    with.send(&Directive::Hold { job: 30 });
    let held = with.find(|report| match report {
        Report::Parked { job: 30, held, .. } => Some(*held),
        // On a machine that is busy elsewhere it may be done before.
        Report::Done { job: 30, .. } => Some(false),
        _ => None,
    });
    check(&mut with, "while one is held");
    if held {
        with.send(&Directive::Resume { job: 30 });
        let resumed = with.finish(30).unwrap();
        let whole = begun + &resumed.text;
        assert!(whole.chars().zip(expected[2].chars()).take_while(|(a, b)| a == b).count() > 20, "{whole}");
        assert!(resumed.spent.accepted_tokens > 100, "{resumed:?}");
    }
    // Its cache is given back, and made again for the next answer.
    let resized = |report: &Report| match report {
        Report::Resized { room, .. } => Some(room.resting),
        _ => None,
    };
    with.send(&Directive::Rest);
    assert!(with.find(resized));
    with.send(&Directive::Resize { context_tokens: 2048 });
    assert!(!with.find(resized));
    check(&mut with, "after a rest");
    with.send(&Directive::Forget { scope: 0 });
    check(&mut with, "after all was forgotten");
    // It is let go of: answers are what they were, and a larger pool is made.
    with.send(&Directive::LeaveDraft);
    with.send(&Directive::Resize { context_tokens: 4096 });
    assert!(!with.find(resized));
    let found = answers(&mut with, 0.0);
    agree(&expected, &from_start(&found));
    assert!(sums(&found).1 < TOKENS / 2 + by_text, "{found:?}");
}

#[test]
fn a_draft_model_that_is_of_no_use_is_refused_with_the_reason_and_the_worker_goes_on() {
    let Models { small, slow, folder } = models();
    let windowed = written(folder.path(), "windowed", &family("gemma3"));
    let state = FAMILIES.iter().find(|family| family.kind == Kind::Remembers).unwrap();
    let state = written(folder.path(), "state", &state.gguf());
    let odd = family("llama").set("general.name", Value::text("odd"));
    let mut words = odd.metadata.iter().find_map(|(key, value)| match value {
        Value::Texts(words) if key == "tokenizer.ggml.tokens" => Some(words.clone()),
        _ => None,
    });
    words.as_mut().unwrap()[100] = "another".into();
    let odd = written(folder.path(), "odd", &odd.set("tokenizer.ggml.tokens", Value::Texts(words.unwrap())));
    let broken = folder.path().join("broken");
    std::fs::write(&broken, b"no model").unwrap();
    for (target, draft, reason) in [
        (&slow, &windowed, None),
        (&slow, &odd, Some("its token 100 is another one")),
        (&slow, &state, Some("its state can't go back")),
        (&state, &small, Some("the model's state can't go back")),
        (&slow, &broken, Some("")),
        (&model(), &small, Some("")),
    ] {
        let (mut worker, ready) = loaded(&draft_load(), target, draft);
        assert_eq!(ready.draft_model.is_some(), reason.is_none(), "{draft:?}: {ready:?}");
        let said = ready.draft_refused.unwrap_or_default();
        assert!(said.contains(reason.unwrap_or_default()) && said.is_empty() == reason.is_none(), "{said}");
        let answer = worker.generate(begin(1, "one two three one two", 8)).unwrap();
        assert!(answer.spent.completion_tokens > 0);
        if *target == state {
            assert_eq!(answer.spent.drafted_tokens, 0);
        }
    }
    // Where drafts are switched off there is none.
    let (_, ready) = loaded(&Load { drafts: false, ..draft_load() }, &slow, &small);
    assert_eq!(ready.draft_model, None);
}
