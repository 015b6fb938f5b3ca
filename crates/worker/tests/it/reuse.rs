//! What is kept of finished sequences: it is used where the same scope asks the same again, it never changes what is
//! said, and it never stands in anybody's way.

use crate::harness::{Worker, begin, begin_of, load, long_prompt, model};
use std::collections::{BTreeMap, BTreeSet};
use wire::{Begin, Directive, JobId, Load, Report, Reuse, WireFinish};

/// A text that goes on in only one way, however the sums are added up.
fn counting(from: u32) -> String {
    (from..from + 40).map(|n| format!("{n}, ")).collect()
}

/// A document that no other is like from its first word on.
fn document(name: &str, words: usize) -> String {
    format!("{name} {name} {}", long_prompt(words))
}

fn roomy() -> Worker {
    Worker::with(&Load { context_tokens: 1536, ..load() }, &model()).0
}

/// What is said without anything kept.
fn cold(prompts: &[(String, u32)]) -> Vec<String> {
    let mut worker = roomy();
    let say = |(job, (prompt, most)): (u64, &(String, u32))| worker.generate(begin(job, prompt, *most)).unwrap().text;
    (1..).zip(prompts).map(say).collect()
}

#[test]
fn a_conversation_that_goes_on_is_not_read_again() {
    let mut worker = roomy();
    let first = worker.generate(begin_of(1, 1, &counting(1), 60)).unwrap();
    assert_eq!((first.spent.cached_tokens, worker.reused(1)), (0, Reuse::default()));
    let longer = counting(1) + &first.text;
    let second = worker.generate(begin_of(1, 2, &longer, 60)).unwrap();
    // The last token that was said isn't in the cache yet, and the last of the prompt is computed.
    let (before, most) = (first.spent.prompt_tokens, second.spent.prompt_tokens - 1);
    let cached = second.spent.cached_tokens;
    assert!(cached > before && cached <= most, "{cached} of {most}, {before} before");
    assert_eq!(worker.reused(2).live, cached);
    let expected = cold(&[(counting(1), 60), (longer, 60)]);
    assert_eq!([first.text, second.text], expected[..]);
}

#[test]
fn the_same_question_again_costs_one_token() {
    let mut worker = roomy();
    let first = worker.generate(begin_of(1, 1, &counting(1), 20)).unwrap();
    for job in 2..6 {
        let again = worker.generate(begin_of(1, job, &counting(1), 20)).unwrap();
        assert_eq!(again.text, first.text);
        assert_eq!(again.spent.cached_tokens, first.spent.prompt_tokens - 1);
    }
}

#[test]
fn another_scope_finds_nothing_and_neither_does_none() {
    let mut worker = roomy();
    let prompt = document("Rome", 300);
    worker.generate(begin_of(1, 1, &prompt, 4)).unwrap();
    for (job, scope) in [(2, 2), (3, 0), (4, 3), (5, 0)] {
        let answer = worker.generate(begin_of(scope, job, &prompt, 4)).unwrap();
        assert_eq!((answer.spent.cached_tokens, worker.reused(job)), (0, Reuse::default()), "scope {scope}");
    }
    let own = worker.generate(begin_of(1, 6, &prompt, 4)).unwrap();
    assert_eq!(own.spent.cached_tokens, own.spent.prompt_tokens - 1);
}

#[test]
fn many_questions_share_one_document_even_at_the_same_time() {
    let mut worker = roomy();
    let asked = |n: u32| document("Oslo", 200) + &counting(n);
    let prompts: Vec<(String, u32)> = (1..6).map(|n| (asked(n * 50), 20)).collect();
    let expected = cold(&prompts);
    let front = worker.generate(begin_of(1, 1, &prompts[0].0, 20)).unwrap();
    assert_eq!(front.text, expected[0]);
    for job in 2..6 {
        worker.begin(begin_of(1, job, &prompts[job as usize - 1].0, 20));
    }
    for job in 2..6 {
        let answer = worker.finish(job).unwrap();
        assert!(answer.spent.cached_tokens >= 200, "{}", answer.spent.cached_tokens);
        // Products of several rows add up in another order, so only the sure beginning is compared.
        assert_eq!(answer.text[..12], expected[job as usize - 1][..12], "job {job}");
    }
}

#[test]
fn a_prompt_shares_what_a_running_job_of_its_owner_has_read() {
    let mut worker = roomy();
    let prompt = |n: u32| document("Lima", 200) + &counting(n);
    let expected = cold(&[(prompt(1), 20)]).remove(0);
    worker.begin(begin_of(1, 1, &prompt(50), 400));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    worker.begin(begin_of(2, 3, &prompt(1), 20));
    worker.begin(begin_of(1, 2, &prompt(1), 20));
    let answers = [2, 3].map(|job| worker.finish(job).unwrap());
    let cached = answers[0].spent.cached_tokens;
    assert!(cached >= 200 && worker.reused(2).live == cached, "{cached}");
    // Products of several rows add up in another order, so only the sure beginning is compared.
    assert_eq!(answers[0].text[..12], expected[..12]);
    assert_eq!((answers[1].spent.cached_tokens, worker.reused(3)), (0, Reuse::default()), "another's");
    worker.send(&Directive::Cancel { job: 1 });
    assert!(worker.finish(1).unwrap().spent.completion_tokens > 0, "it ran all the while");
}

#[test]
fn what_had_to_leave_the_pool_comes_back_from_memory() {
    let mut worker = roomy();
    let own = document("Paris", 500) + &counting(1);
    let first = worker.generate(begin_of(1, 1, &own, 40)).unwrap();
    // Another's prompt is begun: what doesn't serve it makes way.
    worker.generate(begin_of(2, 2, &document("Bern", 700), 4)).unwrap();
    let again = worker.generate(begin_of(1, 3, &own, 40)).unwrap();
    let reuse = worker.reused(3);
    assert_eq!((reuse.live, reuse.ram), (0, first.spent.prompt_tokens - 1));
    assert_eq!(again.spent.cached_tokens, reuse.ram);
    assert_eq!(again.text, first.text);
    let third = worker.generate(begin_of(1, 4, &(own + &first.text), 40)).unwrap();
    assert!(third.spent.cached_tokens > first.spent.prompt_tokens, "{:?}", third.spent);
}

#[test]
fn what_is_kept_refuses_and_delays_nobody() {
    let (mut worker, _) = Worker::with(&Load { context_tokens: 768, park_bytes: 0, ..load() }, &model());
    // Nothing can be saved, and every prompt takes most of the pool.
    for job in 1..4 {
        let prompt = document(&format!("City{job}"), 600);
        let answer = worker.generate(begin_of(1, job, &prompt, 5)).unwrap();
        assert_eq!(answer.spent.completion_tokens, 5);
    }
    for job in 11..15 {
        worker.begin(begin_of(job, job, &document(&format!("Town{job}"), 80), 40));
    }
    let mut ended = BTreeSet::new();
    while ended.len() < 4 {
        match worker.receive().unwrap() {
            Report::Parked { .. } => panic!("somebody had to wait for what is only kept"),
            Report::Done { job, .. } => assert!(ended.insert(job)),
            Report::Failed { fault, .. } => panic!("{fault:?}"),
            _ => {}
        }
    }
}

#[test]
fn the_first_difference_is_named() {
    let mut worker = roomy();
    let prompt = |day: &str| document("Kyiv", 40) + &format!(" Today is {day}.") + &counting(1);
    let first = worker.generate(begin_of(1, 1, &prompt("Monday"), 4)).unwrap();
    let second = worker.generate(begin_of(1, 2, &prompt("Friday"), 4)).unwrap();
    let reuse = worker.reused(2);
    let differs = reuse.differs.expect("it differs");
    assert_eq!((differs.kept.trim(), differs.asked.trim()), ("Monday", "Friday"));
    assert_eq!((reuse.live, differs.at), (second.spent.cached_tokens, second.spent.cached_tokens));
    assert!(reuse.live > 40 && reuse.live < first.spent.prompt_tokens, "{} tokens", reuse.live);
    // Another scope is told nothing of it.
    worker.generate(begin_of(2, 3, &prompt("Sunday"), 4)).unwrap();
    assert_eq!(worker.reused(3), Reuse::default());
}

#[test]
fn a_pool_that_grows_brings_along_what_is_kept() {
    let (mut worker, _) = Worker::with(&Load { context_tokens: 512, context_max: 4096, ..load() }, &model());
    let first = worker.generate(begin_of(1, 1, &counting(1), 20)).unwrap();
    worker.begin(begin_of(2, 2, &document("Lima", 600), 4));
    let wanted = worker.find(|report| match report {
        Report::Wants { wanted, .. } => Some(*wanted),
        _ => None,
    });
    worker.send(&Directive::Resize { context_tokens: wanted });
    worker.finish(2).unwrap();
    let again = worker.generate(begin_of(1, 3, &counting(1), 20)).unwrap();
    assert_eq!(again.text, first.text);
    let found = first.spent.prompt_tokens - 1;
    assert_eq!((worker.reused(3).ram, again.spent.cached_tokens), (found, found));
}

#[test]
fn a_rest_gives_back_all_that_is_kept() {
    let mut worker = roomy();
    let first = worker.generate(begin_of(1, 1, &counting(1), 20)).unwrap();
    worker.send(&Directive::Rest);
    let resting = worker.find(|report| match report {
        Report::Resized { room, .. } => Some(room.resting),
        _ => None,
    });
    assert!(resting);
    let again = worker.generate(begin_of(1, 2, &counting(1), 20)).unwrap();
    assert_eq!((again.spent.cached_tokens, again.text), (0, first.text));
}

#[test]
fn what_was_stopped_is_gone_on_from_where_it_stood() {
    let mut worker = roomy();
    let prompt = document("Quito", 700);
    worker.begin(begin_of(1, 1, &prompt, 500));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    worker.send(&Directive::Cancel { job: 1 });
    assert_eq!(worker.finish(1).unwrap().finish, WireFinish::Cancelled);
    let again = worker.generate(begin_of(1, 2, &prompt, 10)).unwrap();
    assert_eq!(again.spent.cached_tokens, again.spent.prompt_tokens - 1);
    let mut fresh = roomy();
    assert_eq!(fresh.generate(begin(1, &prompt, 10)).unwrap().text, again.text);
}

/// A small generator of our own: the same seed gives the same jobs.
fn roll(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

/// Hundred and fifty jobs of three scopes in a small pool, with prompts that share fronts, some parked, some cancelled:
/// each says what it says alone.
#[test]
fn hundreds_of_jobs_with_shared_fronts_end_with_the_right_words() {
    const JOBS: JobId = 150;
    // All of these go on in only one way, in company too.
    let texts: Vec<String> = (0..6).map(|n| counting(1 + 20 * n)).collect();
    let known: Vec<String> = {
        let mut worker = roomy();
        (1..).zip(&texts).map(|(job, text)| worker.generate(begin(job, text, 8)).unwrap().text).collect()
    };
    let small = Load { context_tokens: 1024, park_bytes: 6 << 20, ..load() };
    let (mut worker, _) = Worker::with(&small, &model());
    let which = |job: JobId| usize::try_from(job * 7 % 6).unwrap();
    let scope = |job: JobId| job % 3 + 1;
    let mut dice = 11;
    let (mut next, mut ended, mut found) = (1, BTreeSet::new(), 0);
    let mut said: BTreeMap<JobId, String> = BTreeMap::new();
    while ended.len() as u64 != JOBS {
        while next <= JOBS && next - (ended.len() as u64) <= 6 {
            worker.begin(begin_of(scope(next), next, &texts[which(next)], 8));
            next += 1;
        }
        match worker.receive().expect("the worker lives") {
            Report::Reused { reuse, .. } if reuse.tokens() > 0 => found += 1,
            Report::Text { job, text } => {
                said.entry(job).or_default().push_str(&text);
                match roll(&mut dice, 60) {
                    0 => worker.send(&Directive::Cancel { job }),
                    1..=4 => worker.send(&Directive::Hold { job }),
                    _ => {}
                }
            }
            Report::Parked { job, held: true, .. } => worker.send(&Directive::Resume { job }),
            Report::Done { job, finish, spent } => {
                assert!(ended.insert(job), "job {job} ended twice");
                assert!(spent.cached_tokens < spent.prompt_tokens.max(1));
                let (text, whole) = (said.remove(&job).unwrap_or_default(), &known[which(job)]);
                if finish == WireFinish::Cancelled {
                    assert!(whole.starts_with(&text), "job {job}: {text:?} of {whole:?}");
                } else {
                    assert_eq!(&text, whole, "job {job}");
                }
            }
            Report::Failed { fault, .. } => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert!(found > 50, "{found} of {JOBS} found something");
}

/// Eight apps ask for the same secret-bearing front, again and again: whoever asks for the first time finds nothing.
#[test]
fn no_scope_ever_finds_another_s_front() {
    let mut worker = roomy();
    let mut job = 0;
    for round in 0..2 {
        for scope in 1..=8_u64 {
            job += 1;
            // The same for all in each round, new in each.
            let prompt = document(&format!("Canary{round}"), 60);
            let first = worker.generate(Begin { tokens_max: 3, ..begin_of(scope, job, &prompt, 3) }).unwrap();
            assert_eq!(first.spent.cached_tokens, 0, "scope {scope} in round {round}");
            assert_eq!(worker.reused(job).tokens(), 0);
        }
    }
}

/// A hybrid goes on from exact ends only, and has few places for them. Another question about the same document comes to its
/// end again and again, whatever else was asked.
#[test]
fn a_hybrid_finds_the_end_of_a_document_again_after_other_questions() {
    let family = testkit::family::FAMILIES.iter().find(|family| family.arch == "lfm2").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hybrid.gguf");
    std::fs::write(&path, family.gguf().to_bytes()).unwrap();
    let document = "abcdefghij klmnopqrst uvw".repeat(40);
    let ask = |worker: &mut Worker, id, question| {
        let spent = worker.generate(begin_of(7, id, &format!("{document} {question}"), 8)).unwrap().spent;
        spent.prompt_tokens - spent.cached_tokens
    };
    let (mut worker, _) = Worker::with(&load(), &path);
    ask(&mut worker, 1, "first one");
    let one_state = worker.find(|report| match report {
        Report::Offer { bytes, .. } => Some(*bytes),
        _ => None,
    });
    for park_bytes in [256 << 20, one_state + one_state / 4] {
        let (mut worker, _) = Worker::with(&Load { park_bytes, ..load() }, &path);
        for (id, question) in (1..).zip(["first one", "another", "third", "and the last"]) {
            let again = ask(&mut worker, id, question);
            assert!(id == 1 || again <= 256, "question {id} with {park_bytes}: {again} tokens again");
            worker.generate(begin_of(8, 100 + id, &"of somebody else ".repeat(3), 8)).unwrap();
        }
    }
}
