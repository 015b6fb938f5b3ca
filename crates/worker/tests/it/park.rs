//! Jobs that step back and go on: what they say is what they would have said.

use crate::harness::{Worker, begin, load, long_prompt, model};
use std::collections::{BTreeMap, BTreeSet};
use wire::{Begin, Directive, JobId, Report, WireFinish};

/// A text that goes on in only one way, in company too.
fn counting(from: u32) -> String {
    (from..from + 12).map(|n| format!("{n}, ")).collect()
}

/// Waits for a job's first text, which stays to be read.
fn until_text(worker: &mut Worker, id: JobId) -> String {
    worker.find(|report| match report {
        Report::Text { job, text } if *job == id => Some(text.clone()),
        _ => None,
    })
}

/// Has a job step back. The answer: whether its state was kept, and the tokens that it holds.
fn hold(worker: &mut Worker, id: JobId) -> (bool, u32) {
    worker.send(&Directive::Hold { job: id });
    worker.find(|report| match report {
        Report::Parked { job, held: true, saved, tokens } if *job == id => Some((*saved, *tokens)),
        _ => None,
    })
}

fn until_resumed(worker: &mut Worker, id: JobId) {
    worker.find(|report| matches!(report, Report::Resumed { job } if *job == id).then_some(()));
}

#[test]
fn an_accepted_job_says_what_it_will_take() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 12));
    let accepted = worker.find(|report| match report {
        Report::Accepted { job: 1, prompt_tokens, tokens_max } => Some((*prompt_tokens, *tokens_max)),
        _ => None,
    });
    let counted = worker.count(&["Once upon a time"]);
    assert_eq!(accepted, (counted, 12));
    worker.finish(1).unwrap();
}

/// With `park_bytes`, parks an answer in the middle, lets others use every cell, and lets it go on.
fn parked_in_the_middle(park_bytes: u64, kept: bool) {
    let (mut worker, _) = Worker::with(&wire::Load { park_bytes, ..load() }, &model());
    let whole = worker.generate(begin(1, &counting(1), 120)).unwrap();
    worker.begin(begin(2, &counting(1), 120));
    let first = until_text(&mut worker, 2);
    let (saved, tokens) = hold(&mut worker, 2);
    assert_eq!(saved, kept);
    assert!(tokens > whole.spent.prompt_tokens, "{tokens} tokens");
    // Somebody else's cells lie where its own were.
    let prompt = long_prompt(1500);
    for job in 10..12 {
        worker.generate(begin(job, &prompt, 3)).unwrap();
    }
    worker.send(&Directive::Resume { job: 2 });
    until_resumed(&mut worker, 2);
    let rest = worker.finish(2).unwrap();
    assert_eq!((first + &rest.text, rest.finish), (whole.text, whole.finish));
    assert_eq!(rest.spent.completion_tokens, whole.spent.completion_tokens);
}

#[test]
fn a_parked_answer_goes_on_where_it_stopped() {
    parked_in_the_middle(64 << 20, true);
}

#[test]
fn without_room_for_its_state_it_is_read_again() {
    parked_in_the_middle(1 << 10, false);
}

#[test]
fn what_is_restored_is_not_computed_again() {
    let mut worker = Worker::ready();
    let prompt = long_prompt(1650);
    let reading_us = worker.generate(begin(1, &prompt, 1)).unwrap().spent.prefill_us;
    worker.begin(begin(2, &prompt, 200));
    until_text(&mut worker, 2);
    hold(&mut worker, 2);
    worker.send(&Directive::Resume { job: 2 });
    let start = std::time::Instant::now();
    until_resumed(&mut worker, 2);
    until_text(&mut worker, 2);
    let took_us = u64::try_from(start.elapsed().as_micros()).unwrap();
    assert!(took_us < reading_us / 2, "{took_us} us to go on, {reading_us} us to read the prompt");
    worker.send(&Directive::Cancel { job: 2 });
    assert_eq!(worker.finish(2).unwrap().finish, WireFinish::Cancelled);
}

#[test]
fn a_job_is_parked_wherever_it_stands() {
    let mut worker = Worker::ready();
    let far: String = (1..300).map(|n| format!("{n}, ")).collect();
    let whole = worker.generate(begin(1, &far, 8)).unwrap();
    // While its prompt is read …
    worker.begin(begin(2, &far, 8));
    worker.find(|report| matches!(report, Report::Started { job: 2, .. }).then_some(()));
    let (saved, _) = hold(&mut worker, 2);
    assert!(saved);
    // … while it waits …
    for job in 10..14 {
        worker.begin(begin(job, &counting(1), 40));
    }
    worker.begin(begin(3, &counting(1), 40));
    let (saved, _) = hold(&mut worker, 3);
    assert!(saved, "nothing is lost by a job that hasn't begun");
    let texts: BTreeSet<String> = (10..14).map(|job| worker.finish(job).unwrap().text).collect();
    // … and while its prompt is cut into tokens.
    worker.begin(begin(4, &"international ".repeat(1200), 5));
    hold(&mut worker, 4);
    for job in [4, 3, 2] {
        worker.send(&Directive::Resume { job });
        until_resumed(&mut worker, job);
    }
    assert_eq!(worker.finish(2).unwrap().text, whole.text);
    assert_eq!(texts, BTreeSet::from([worker.finish(3).unwrap().text]));
    // What follows on such a text is anybody's guess, but not how much.
    assert_eq!(worker.finish(4).unwrap().spent.completion_tokens, 5);
    // What isn't there can't be parked, and nobody minds.
    worker.send(&Directive::Hold { job: 77 });
    worker.send(&Directive::Resume { job: 77 });
    worker.generate(begin(20, "Hello", 2)).unwrap();
}

#[test]
fn a_job_whose_prompt_was_cut_while_it_was_held_says_that_it_goes_on() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, &"international ".repeat(1200), 2));
    hold(&mut worker, 1);
    worker.find(|report| matches!(report, Report::Accepted { job: 1, .. }).then_some(()));
    worker.send(&Directive::Resume { job: 1 });
    until_resumed(&mut worker, 1);
    assert_eq!(worker.finish(1).unwrap().spent.completion_tokens, 2);
}

#[test]
fn a_parked_job_ends_by_its_cancel_and_its_deadline() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 2000));
    until_text(&mut worker, 1);
    hold(&mut worker, 1);
    worker.send(&Directive::Cancel { job: 1 });
    assert_eq!(worker.finish(1).unwrap().finish, WireFinish::Cancelled);
    // Its deadline passes while it is parked; the next one to work finds out.
    worker.begin(Begin { deadline_ms: 100, ..begin(2, "Once upon a time", 2000) });
    until_text(&mut worker, 2);
    hold(&mut worker, 2);
    worker.generate(begin(3, &counting(1), 200)).unwrap();
    assert_eq!(worker.finish(2).unwrap().finish, WireFinish::Deadline);
    // Nothing of either is left behind: all cells are free.
    let most = long_prompt(1650);
    worker.generate(begin(4, &most, 5)).unwrap();
}

#[test]
fn a_pool_that_runs_dry_parks_the_youngest_and_says_so() {
    let small = wire::Load { context_tokens: 512, ..load() };
    let (mut worker, _) = Worker::with(&small, &model());
    let alone = worker.generate(begin(1, &counting(1), 250)).unwrap();
    for job in 11..15 {
        worker.begin(begin(job, &counting(1), 250));
    }
    let mut texts: BTreeMap<JobId, String> = BTreeMap::new();
    let (mut parked, mut resumed, mut ended) = (0, 0, 0);
    while ended < 4 {
        match worker.receive().unwrap() {
            Report::Parked { held, saved, .. } => {
                assert!(!held && saved);
                parked += 1;
            }
            Report::Resumed { .. } => resumed += 1,
            Report::Text { job, text } => texts.entry(job).or_default().push_str(&text),
            Report::Done { finish, .. } => {
                assert_eq!(finish, alone.finish);
                ended += 1;
            }
            Report::Failed { fault, .. } => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert!(parked > 0 && parked == resumed, "{parked} parked, {resumed} resumed");
    for text in texts.values() {
        // Products of several rows add up in another order, so only what can't waver is compared.
        let sure: String = (13..40).map(|n| format!("{n}, ")).collect();
        assert!(text.trim_start().starts_with(&sure), "{text}");
    }
}

/// A small generator of our own: the same seed gives the same jobs.
fn roll(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

/// Two hundred short jobs, many of them cancelled or parked on the way: none is stuck, and each says what it
/// says alone, or the beginning of it.
#[test]
fn hundreds_of_short_jobs_end_with_the_right_words() {
    const JOBS: JobId = 200;
    // All of these go on in only one way, in company too.
    const FROM: [u32; 4] = [1, 20, 40, 60];
    let small = wire::Load { context_tokens: 512, park_bytes: 2 << 20, ..load() };
    let (mut worker, _) = Worker::with(&small, &model());
    let known = FROM.map(|from| worker.generate(begin(1000 + JobId::from(from), &counting(from), 8)).unwrap().text);
    let which = |job: JobId| usize::try_from(job % 4).unwrap();
    let mut dice = 7;
    let (mut next, mut ended) = (1, BTreeSet::new());
    let mut texts: BTreeMap<JobId, String> = BTreeMap::new();
    let (mut cancelled, mut well, mut parked) = (0, 0, 0);
    while ended.len() as u64 != JOBS {
        while next <= JOBS && next - (ended.len() as u64) <= 8 {
            worker.begin(begin(next, &counting(FROM[which(next)]), 8));
            next += 1;
        }
        match worker.receive().expect("the worker lives") {
            Report::Text { job, text } => {
                texts.entry(job).or_default().push_str(&text);
                match roll(&mut dice, 60) {
                    0 => worker.send(&Directive::Cancel { job }),
                    1..=4 => worker.send(&Directive::Hold { job }),
                    _ => {}
                }
            }
            Report::Parked { job, held: true, .. } => {
                parked += 1;
                worker.send(&Directive::Resume { job });
            }
            Report::Done { job, finish, .. } => {
                assert!(ended.insert(job), "job {job} ended twice");
                let (text, whole) = (texts.remove(&job).unwrap_or_default(), &known[which(job)]);
                if finish == WireFinish::Cancelled {
                    cancelled += 1;
                    assert!(whole.starts_with(&text), "job {job}: {text:?} of {whole:?}");
                } else {
                    well += 1;
                    assert_eq!(&text, whole, "job {job}");
                }
            }
            Report::Failed { fault, .. } => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert!(cancelled > 5 && well > 50 && parked > 20, "{cancelled} cancelled, {well} whole, {parked} parked");
}
