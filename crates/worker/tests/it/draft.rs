//! Drafts: an answer that copies its prompt is guessed ahead, and says what it says without that.

use crate::harness::{Answer, Worker, begin, chat, greedy, load, model};
use serde_json::{Value, json};
use wire::{Begin, JobId, Load, Spent, WireFinish, WireSampling, WireShape};

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
fn who_wants_no_drafts_gets_none_beside_one_who_does() {
    let mut worker = worker(true);
    let whole = worker.generate(copied(1, 80, 1)).unwrap();
    assert!(whole.spent.accepted_tokens > 0, "{whole:?}");
    worker.begin(Begin { drafts: false, ..copied(1, 80, 2) });
    worker.begin(copied(1, 80, 3));
    let (without, with) = (worker.finish(2).unwrap(), worker.finish(3).unwrap());
    assert_eq!((without.spent.drafted_tokens, without.text == whole.text), (0, true), "{without:?}");
    assert!(with.spent.drafted_tokens > 0 && with.text == whole.text, "{with:?}");
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

/// An object whose keys are most of it.
fn object(job: JobId, asked: &str) -> Begin {
    let number = json!({"type": "integer", "minimum": 0, "maximum": 999});
    let kind = |key: &str| if key.starts_with("is_") { json!({"type": "boolean"}) } else { number.clone() };
    let properties: serde_json::Map<String, Value> = KEYS.iter().map(|key| ((*key).to_owned(), kind(key))).collect();
    let schema = json!({"type": "object", "properties": properties, "required": KEYS, "additionalProperties": false});
    Begin { shape: WireShape::JsonSchema(schema.to_string()), ..begin(job, &chat(asked), 120) }
}

const KEYS: [&str; 4] = [
    "total_number_of_visitors",
    "average_distance_in_kilometres",
    "highest_temperature_measured",
    "is_open_on_sundays",
];

/// The model is told of the keys.
fn told(job: JobId) -> Begin {
    object(job, &format!("Write {job} as JSON with the keys {}.", KEYS.join(", ")))
}

/// It learns of them as it writes: left to itself it would cut them into tokens in odd ways, not knowing where they lead.
fn untold(job: JobId) -> Begin {
    object(job, &format!("Write {job} of your thoughts about museums as JSON."))
}

/// One sentence and no other, of which the prompt says nothing.
fn sentence(job: JobId) -> Begin {
    let schema = json!({"const": format!("Paris is the capital of France and its largest city, number {job}.")});
    Begin { shape: WireShape::JsonSchema(schema.to_string()), ..begin(job, &chat("Say something."), 60) }
}

/// Any token may come where it can.
fn wild(begin: Begin) -> Begin {
    Begin { sampling: WireSampling { temperature: 2.0, seed: seed(begin.job), ..greedy() }, ..begin }
}

#[test]
fn what_a_shape_forces_is_drafted_and_says_the_same() {
    let (mut with, mut without) = (worker(true), worker(false));
    let makes: [fn(JobId) -> Begin; 5] = [told, untold, sentence, |job| wild(told(job)), |job| wild(untold(job))];
    for make in makes {
        let (drafted, plain) = (texts(&mut with, make), texts(&mut without, make));
        for (drafted, plain) in drafted.iter().zip(&plain) {
            assert_eq!((&drafted.text, drafted.finish), (&plain.text, plain.finish));
            assert_eq!(drafted.spent.completion_tokens, plain.spent.completion_tokens);
            assert_eq!(plain.spent.drafted_tokens, 0);
        }
    }
}

#[test]
fn what_a_shape_forces_is_said_in_the_tokenizers_own_tokens_and_in_few_steps() {
    let mut worker = worker(true);
    for answer in texts(&mut worker, sentence) {
        assert_eq!(answer.finish, WireFinish::EndOfTurn);
        let Spent { completion_tokens, drafted_tokens, accepted_tokens, .. } = answer.spent;
        assert_eq!(completion_tokens, worker.count(&[&answer.text]), "{answer:?}");
        // Every guess is right, and one step takes as many tokens as a draft may have.
        let steps = completion_tokens.div_ceil(1 + batch::draft::TOKENS_MAX);
        assert_eq!((drafted_tokens, accepted_tokens), (completion_tokens - steps, completion_tokens - steps));
    }
    for make in [told as fn(JobId) -> Begin, untold] {
        for answer in texts(&mut worker, make) {
            assert_eq!(answer.finish, WireFinish::EndOfTurn, "{answer:?}");
            let object: Value = serde_json::from_str(&answer.text).unwrap();
            assert!(KEYS.iter().all(|key| object.get(*key).is_some()), "{answer:?}");
            let Spent { completion_tokens, drafted_tokens, accepted_tokens, .. } = answer.spent;
            assert_eq!(completion_tokens, worker.count(&[&answer.text]), "{answer:?}");
            // What is forced is right; between the keys the answer's own text may be guessed from a few times, and wrongly.
            assert!(drafted_tokens <= accepted_tokens + 2 * batch::draft::TOKENS_MAX, "{answer:?}");
            assert!(5 * accepted_tokens >= 2 * completion_tokens, "{answer:?}");
        }
    }
}

/// The bias of a token speaks of that token: where it is not to come, the text is said in others.
#[test]
fn a_token_that_is_not_wanted_is_not_forced() {
    let mut worker = worker(true);
    let plain = worker.generate(sentence(1)).unwrap();
    let longer: Vec<(u32, f32)> = (300..49_152).map(|token| (token, -100.0)).collect();
    for temperature in [0.0, 1.0] {
        let sampling = WireSampling { logit_bias: longer.clone(), temperature, ..greedy() };
        let answer = worker.generate(Begin { sampling, tokens_max: 100, ..sentence(1) }).unwrap();
        assert_eq!((&answer.text, answer.finish), (&plain.text, plain.finish));
        assert!(answer.spent.completion_tokens > 2 * plain.spent.completion_tokens, "{answer:?}");
        assert_eq!(answer.spent.accepted_tokens, answer.spent.drafted_tokens);
    }
}

/// Where nothing is drafted, as with three answers in a step, the tokens are the same.
#[test]
fn forced_text_beside_others_is_the_same() {
    let (mut with, mut without) = (worker(true), worker(false));
    let expected = texts(&mut without, untold);
    (1..=3).for_each(|job| with.begin(untold(job)));
    for (job, expected) in (1..=3).zip(&expected) {
        let found = with.finish(job).unwrap();
        assert_eq!((&found.text, found.spent.completion_tokens), (&expected.text, expected.spent.completion_tokens));
    }
}
