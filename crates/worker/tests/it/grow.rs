//! The pool grows when a job needs more, with running answers unbroken, and is given back at rest.

use crate::harness::{Worker, begin, chat, embedder, load, long_prompt, model};
use wire::{Begin, Directive, Load, Report, Room, WireFault, WireFinish, WireScore};

fn growing() -> Worker {
    let (worker, ready) = Worker::with(&Load { context_tokens: 512, context_max: 4096, ..load() }, &model());
    assert_eq!((ready.room.context_tokens, ready.context_trained, ready.room.resting), (512, 8192, false));
    worker
}

/// A text that goes on in only one way, however the sums are added up.
fn counting() -> String {
    (1..40).map(|n| format!("{n}, ")).collect()
}

fn wants(worker: &mut Worker) -> (u32, u32) {
    worker.find(|report| match report {
        Report::Wants { least, wanted } => Some((*least, *wanted)),
        _ => None,
    })
}

fn resized(worker: &mut Worker) -> (Room, Option<WireFault>) {
    worker.find(|report| match report {
        Report::Resized { room, fault } => Some((*room, fault.clone())),
        _ => None,
    })
}

/// What the answer to `counting` is when nothing happens on the way.
fn undisturbed(tokens_max: u32) -> String {
    let (mut worker, _) = Worker::with(&Load { context_tokens: 4096, ..load() }, &model());
    worker.generate(begin(1, &counting(), tokens_max)).unwrap().text
}

fn first_words(worker: &mut Worker, id: u64) -> String {
    worker.find(|report| match report {
        Report::Text { job, text } if *job == id => Some(text.clone()),
        _ => None,
    })
}

#[test]
fn the_pool_grows_under_running_answers_and_nothing_of_them_changes() {
    let expected = undisturbed(160);
    let mut worker = growing();
    worker.begin(begin(1, &counting(), 160));
    let first = first_words(&mut worker, 1);
    let prompt = long_prompt(900);
    let tokens = worker.count(&[&prompt]);
    worker.begin(begin(2, &prompt, 4));
    let (least, wanted) = wants(&mut worker);
    assert!(least > tokens && wanted >= least && wanted <= 4096, "{tokens}: {least} {wanted}");
    worker.send(&Directive::Resize { context_tokens: wanted });
    let (room, fault) = resized(&mut worker);
    assert_eq!((room.context_tokens, fault), (wanted, None));
    let second = worker.finish(2).unwrap();
    assert_eq!((second.spent.prompt_tokens, second.finish), (tokens, WireFinish::Length));
    assert_eq!(first + &worker.finish(1).unwrap().text, expected);
    // The next one of that size needs no word.
    worker.generate(begin(3, &prompt, 4)).unwrap();
}

#[test]
fn an_answer_that_fills_the_pool_goes_on_in_a_larger_one() {
    let expected = undisturbed(450);
    let mut worker = growing();
    worker.begin(begin(1, &counting(), 450));
    let (least, _) = wants(&mut worker);
    worker.send(&Directive::Resize { context_tokens: least });
    assert_eq!(resized(&mut worker).0.context_tokens, least);
    let answer = worker.finish(1).unwrap();
    assert_eq!((answer.text, answer.spent.completion_tokens), (expected, 450));
}

#[test]
fn without_more_memory_a_prompt_is_refused_with_both_numbers_and_an_answer_ends_at_its_length() {
    let mut worker = growing();
    let prompt = long_prompt(900);
    let tokens = worker.count(&[&prompt]);
    worker.begin(begin(1, &counting(), 0));
    let first = first_words(&mut worker, 1);
    worker.begin(begin(2, &prompt, 4));
    wants(&mut worker);
    worker.send(&Directive::Resize { context_tokens: 512 });
    assert_eq!(resized(&mut worker).1, None);
    assert_eq!(worker.finish(2), Err(WireFault::ContextOverflow { requested: tokens + 1, available: 512 }));
    wants(&mut worker);
    worker.send(&Directive::Resize { context_tokens: 512 });
    let answer = worker.finish(1).unwrap();
    assert_eq!(answer.finish, WireFinish::Length);
    let count = worker.count(&[&counting()]);
    assert_eq!(answer.spent.completion_tokens + count, 513, "the last token needs no cell");
    assert!(!first.is_empty());
    // Options count too, and nobody behind waits for what can't be had.
    let (prompt, option) = (long_prompt(400), long_prompt(150));
    let options = vec![option.clone(), "short".into()];
    worker.begin(Begin { score: Some(WireScore { options, whole: false }), ..begin(4, &prompt, 1) });
    worker.begin(begin(5, &counting(), 4));
    wants(&mut worker);
    worker.send(&Directive::Resize { context_tokens: 512 });
    let refused = worker.finish(4);
    assert!(matches!(refused, Err(WireFault::ContextOverflow { requested: 513.., available: 512 })), "{refused:?}");
    assert_eq!(worker.finish(5).unwrap().spent.completion_tokens, 4);
    // Beyond what was trained or allowed nobody is asked.
    let far = long_prompt(4500);
    let fault = worker.generate(begin(3, &far, 4));
    assert!(matches!(fault, Err(WireFault::ContextOverflow { available: 4096, .. })), "{fault:?}");
}

#[test]
fn a_pool_that_can_not_be_made_leaves_the_old_one_and_its_answers() {
    let expected = undisturbed(160);
    let mut worker = growing();
    worker.begin(begin(1, &counting(), 160));
    let first = first_words(&mut worker, 1);
    worker.begin(begin(2, &long_prompt(900), 4));
    wants(&mut worker);
    // More than any memory: llama.cpp fails to get it. Far more: it isn't even asked for.
    worker.send(&Directive::Resize { context_tokens: 12_000_000 });
    let (room, fault) = resized(&mut worker);
    assert!(matches!(fault, Some(WireFault::MemoryShort(_))), "{fault:?}");
    assert_eq!((room.context_tokens, room.resting), (512, false));
    let refused = worker.finish(2);
    assert!(matches!(refused, Err(WireFault::MemoryShort(_))), "{refused:?}");
    worker.send(&Directive::Resize { context_tokens: u32::MAX });
    assert!(matches!(resized(&mut worker).1, Some(WireFault::MemoryShort(_))));
    assert_eq!(first + &worker.finish(1).unwrap().text, expected);
}

#[test]
fn a_worker_at_rest_holds_little_more_than_weights_and_answers_as_before() {
    let (mut worker, ready) = Worker::with(&Load { context_tokens: 4096, context_max: 8192, ..load() }, &model());
    let before = worker.generate(begin(1, &chat("Name three rivers."), 20)).unwrap();
    worker.send(&Directive::Rest);
    let (room, fault) = resized(&mut worker);
    assert_eq!((room.resting, room.context_tokens, fault), (true, 4096, None));
    assert_eq!((room.mapped_bytes, room.copied_bytes), (ready.room.mapped_bytes, ready.room.copied_bytes));
    assert!(room.cache_bytes * 10 < ready.room.cache_bytes, "{room:?}");
    assert!(room.compute_bytes * 4 < ready.room.compute_bytes, "{room:?}");
    let given_back = ready.room.cache_bytes * 9 / 10;
    assert!(room.resident_bytes + given_back < ready.room.resident_bytes, "{:?} {room:?}", ready.room);
    // It wakes by itself for a job, or when it is told to.
    let after = worker.generate(begin(2, &chat("Name three rivers."), 20)).unwrap();
    assert_eq!(after.text, before.text);
    worker.send(&Directive::Rest);
    assert!(resized(&mut worker).0.resting);
    worker.send(&Directive::Resize { context_tokens: 2048 });
    let (room, fault) = resized(&mut worker);
    assert_eq!((room.resting, room.context_tokens, fault), (false, 2048, None));
    // Nobody rests who has something to do.
    worker.begin(begin(3, &counting(), 100));
    worker.send(&Directive::Rest);
    assert!(!resized(&mut worker).0.resting);
    assert_eq!(worker.finish(3).unwrap().spent.completion_tokens, 100);
    // What can't be had leaves it at rest, and alive.
    worker.send(&Directive::Rest);
    assert!(resized(&mut worker).0.resting);
    worker.send(&Directive::Resize { context_tokens: 12_000_000 });
    let (room, fault) = resized(&mut worker);
    assert!(room.resting && matches!(fault, Some(WireFault::MemoryShort(_))), "{room:?} {fault:?}");
    assert_eq!(worker.generate(begin(4, &chat("Name three rivers."), 20)).unwrap().text, before.text);
}

#[test]
fn an_embedder_rests_and_wakes_too() {
    let (mut worker, ready) = Worker::with(&Load { embed: true, ..load() }, &embedder());
    let before = worker.vectors(1, &["a river"]).unwrap();
    worker.send(&Directive::Rest);
    let (room, _) = resized(&mut worker);
    assert!(room.resting && room.compute_bytes < ready.room.compute_bytes, "{room:?} {:?}", ready.room);
    assert_eq!(worker.vectors(2, &["a river"]).unwrap(), before);
}

#[test]
fn the_account_of_memory_is_what_the_system_measures() {
    let mut worker = Worker::start();
    let file = std::fs::File::open(model()).unwrap().into();
    let ready = worker.load(&Load { context_tokens: 8192, ..load() }, &[file]).unwrap();
    worker.generate(begin(1, &long_prompt(700), 4)).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10;
    let said = ready.room.buffers_bytes();
    // Beside the buffers there are the program, its vocabulary and its graphs.
    assert!(said < peak && peak - said < 96 << 20, "said {said}, peak {peak}, {:?}", ready.room);
}
