//! Drafts: an answer that copies its prompt is guessed ahead, and says what it says without that.

use crate::harness::{Answer, Worker, begin, chat, greedy, load, model};
use serde_json::json;
use wire::{Begin, JobId, Load, WireFinish, WireSampling, WireShape};

/// Counting, twice: the second time a model can only go on in one way, and the first time says how.
fn copied(from: u32, tokens_max: u32, job: JobId) -> Begin {
    let count = |to: u32| (from..to).map(|n| format!("{n}, ")).collect::<String>();
    begin(job, &format!("{}\n{}", count(from + 50), count(from + 12)), tokens_max)
}

fn worker(drafts: bool) -> Worker {
    Worker::with(&Load { drafts, ..load() }, &model()).0
}

fn texts(worker: &mut Worker, asked: impl Fn(JobId) -> Begin) -> Vec<Answer> {
    (1..=3).map(|job| worker.generate(asked(job)).unwrap()).collect()
}

fn seed(job: JobId) -> u32 {
    u32::try_from(job).unwrap()
}

#[test]
fn what_copies_its_prompt_is_drafted_and_says_the_same() {
    let (mut with, mut without) = (worker(true), worker(false));
    let asked = |job| copied(seed(job), 80, job);
    let (drafted, plain) = (texts(&mut with, asked), texts(&mut without, asked));
    for (drafted, plain) in drafted.iter().zip(&plain) {
        assert_eq!((&drafted.text, drafted.finish), (&plain.text, plain.finish));
        assert_eq!((plain.spent.drafted_tokens, plain.spent.accepted_tokens), (0, 0));
        assert!(drafted.spent.accepted_tokens <= drafted.spent.drafted_tokens, "{drafted:?}");
        assert_eq!(drafted.spent.completion_tokens, plain.spent.completion_tokens);
    }
    let accepted: u32 = drafted.iter().map(|answer| answer.spent.accepted_tokens).sum();
    assert!(accepted > 0, "{drafted:?}");
    // By chance too: each token is drawn as it would have been.
    let drawn = |job| Begin {
        sampling: WireSampling { temperature: 0.5, seed: seed(job), ..greedy() },
        ..copied(3 + seed(job), 80, job)
    };
    let (drafted, plain) = (texts(&mut with, drawn), texts(&mut without, drawn));
    for (drafted, plain) in drafted.iter().zip(&plain) {
        assert_eq!(drafted.text, plain.text);
    }
}

#[test]
fn two_answers_beside_each_other_are_drafted_for_and_many_are_not() {
    let (mut with, mut without) = (worker(true), worker(false));
    let expected = texts(&mut without, |job| copied(seed(job), 80, job));
    let mut together = |jobs: std::ops::RangeInclusive<JobId>| {
        jobs.clone().for_each(|job| with.begin(copied(seed(job), 80, job)));
        jobs.map(|job| with.finish(job).unwrap()).collect::<Vec<Answer>>()
    };
    for (found, expected) in together(1..=2).iter().zip(&expected) {
        assert_eq!(found.text, expected.text);
    }
    for (found, expected) in together(1..=3).iter().zip(&expected) {
        assert_eq!(found.text, expected.text);
    }
}

#[test]
fn an_answer_ends_in_the_middle_of_a_draft_as_it_would_without() {
    let mut worker = worker(true);
    let whole = worker.generate(copied(1, 80, 1)).unwrap();
    for tokens_max in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let answer = worker.generate(copied(1, tokens_max, 2)).unwrap();
        assert_eq!((answer.spent.completion_tokens, answer.finish), (tokens_max, WireFinish::Length));
        assert!(whole.text.starts_with(answer.text.trim_end_matches('\u{fffd}')), "{answer:?}");
    }
    let middle = whole.text.char_indices().nth(whole.text.chars().count() / 2).unwrap().0;
    let stop: String = whole.text[middle..].chars().take(7).collect();
    let expected = &whole.text[..whole.text.find(&stop).unwrap()];
    let answer = worker.generate(Begin { stop: vec![stop], ..copied(1, 80, 3) }).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), (expected, WireFinish::StopString));
    // Nothing of a draft is left in the cache: the next answer is as it was.
    assert_eq!(worker.generate(copied(1, 80, 4)).unwrap().text, whole.text);
}

/// A kept answer holds what was said and no more: the conversation goes on from there.
#[test]
fn an_answer_that_ended_at_a_stop_string_is_gone_on_from() {
    let mut worker = worker(true);
    let kept = |begin: Begin| Begin { scope: 1, ..begin };
    let whole = worker.generate(copied(1, 100, 1)).unwrap().text;
    let end = whole.len() * 7 / 8;
    let mut cached = 0;
    // How much is drafted goes by what was measured: whether one of these ends within a draft isn't sure.
    for (job, at) in (2..).step_by(2).zip((whole.len() / 3..end - 5).step_by(11)) {
        let stop = whole[at..at + 5].to_owned();
        let first = worker.generate(kept(Begin { stop: vec![stop], ..copied(1, 100, job) })).unwrap();
        assert_eq!(first.finish, WireFinish::StopString);
        let mut on = copied(1, 8, job + 1);
        on.prompt.push(whole[..end].to_owned());
        let second = worker.generate(kept(on)).unwrap();
        assert!(whole[end..].starts_with(second.text.trim_end()), "{second:?}");
        cached = cached.max(second.spent.cached_tokens.saturating_sub(first.spent.prompt_tokens));
        worker.send(&wire::Directive::Forget { scope: 0 });
    }
    assert!(cached > 0, "something of an answer was gone on from");
}

/// An object whose keys are most of it. The model is told of them: the text is forced anyway, but one that doesn't know
/// where it leads cuts it into tokens as it comes.
fn shaped(job: JobId) -> Begin {
    let keys = [
        "total_number_of_visitors",
        "average_distance_in_kilometres",
        "highest_temperature_measured",
        "is_open_on_sundays",
    ];
    let number = json!({"type": "integer", "minimum": 0, "maximum": 999});
    let properties: serde_json::Map<String, serde_json::Value> = keys
        .iter()
        .map(|key| {
            ((*key).to_owned(), if key.starts_with("is_") { json!({"type": "boolean"}) } else { number.clone() })
        })
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": keys, "additionalProperties": false});
    let asked = format!("Write {job} as JSON with the keys {}.", keys.join(", "));
    Begin { shape: WireShape::JsonSchema(schema.to_string()), ..begin(job, &chat(&asked), 120) }
}

/// One sentence and no other, of which the prompt says nothing: a model that doesn't know where it leads cuts it into
/// tokens in odd ways, so hardly any guess is right.
fn sentence(job: JobId) -> Begin {
    let schema = json!({"const": format!("Paris is the capital of France and its largest city, number {job}.")});
    Begin { shape: WireShape::JsonSchema(schema.to_string()), ..begin(job, &chat("Say something."), 60) }
}

#[test]
fn what_a_shape_forces_is_drafted_and_says_the_same() {
    /// How much is drafted goes by what was measured: while others take the processors it may be little.
    const TRIES: usize = 10;
    let mut without = worker(false);
    let plain = texts(&mut without, shaped);
    // By chance too, and under shapes that force little.
    let wild = |job| Begin { sampling: WireSampling { temperature: 2.0, seed: seed(job), ..greedy() }, ..shaped(job) };
    let plain_by_chance = texts(&mut without, wild);
    let plain_sentences = texts(&mut without, sentence);
    let expected: Vec<&Answer> = plain.iter().chain(&plain_by_chance).chain(&plain_sentences).collect();
    let accepted = |answers: &[Answer]| answers.iter().map(|answer| answer.spent.accepted_tokens).sum::<u32>();
    assert!(expected.iter().all(|answer| answer.spent.drafted_tokens == 0));
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let mut with = worker(true);
        let drafted = texts(&mut with, shaped);
        let by_chance = texts(&mut with, wild);
        let sentences = texts(&mut with, sentence);
        for (drafted, plain) in drafted.iter().chain(&by_chance).chain(&sentences).zip(&expected) {
            assert_eq!((&drafted.text, drafted.finish), (&plain.text, plain.finish));
            assert_eq!(drafted.spent.completion_tokens, plain.spent.completion_tokens);
        }
        // Each accepted token is a step less.
        seen.push(accepted(&drafted));
        if seen.last() > Some(&0) {
            return;
        }
    }
    panic!("accepted: {seen:?}");
}
