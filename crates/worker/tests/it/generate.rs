//! Generation: the same alone and beside others, reproducible, ended where it should be.

use crate::harness::{Worker, begin, chat, greedy, load, long_prompt, model};
use std::time::Instant;
use wire::{Begin, Directive, Report, WireFault, WireFinish, WireSampling};

fn sampled(seed: u32) -> WireSampling {
    WireSampling { temperature: 1.0, top_k: 40, top_p: 0.95, min_p: 0.02, seed, ..greedy() }
}

/// A text that goes on in only one way. Products of several rows add up in another order than those of
/// one row, so that a choice between two tokens that are almost alike may differ in company; here there
/// is none.
fn counting(from: u32) -> String {
    (from..from + 12).map(|n| format!("{n}, ")).collect()
}

#[test]
fn a_greedy_answer_is_the_same_every_time_and_beside_others() {
    let (mut worker, ready) = Worker::with(&wire::Load { threads: 2, prompt_threads: 2, ..load() }, &model());
    assert_eq!(ready.threads, 2);
    let alone = worker.generate(begin(1, &counting(1), 30)).unwrap();
    assert!(alone.text.contains("13, 14, 15"), "{alone:?}");
    let again = worker.generate(begin(2, &counting(1), 30)).unwrap();
    assert_eq!((&again.text, again.finish), (&alone.text, alone.finish));
    let free = chat("Name three rivers in Europe.");
    let first = worker.generate(begin(3, &free, 40)).unwrap().text;
    assert_eq!(worker.generate(begin(4, &free, 40)).unwrap().text, first);

    worker.begin(begin(10, &counting(1), 30));
    worker.begin(begin(11, &counting(40), 30));
    worker.begin(begin(12, &chat("Why is the sky blue?"), 30));
    worker.begin(begin(13, &counting(20), 30));
    let texts: Vec<String> = (10..14).map(|job| worker.finish(job).unwrap().text).collect();
    assert_eq!(texts[0], alone.text);
    assert!(texts[1].contains("52, 53, 54") && texts[3].contains("32, 33, 34"), "{texts:?}");
}

#[test]
fn seeds_reproduce_and_differ() {
    let mut worker = Worker::ready();
    let mut run = |job, seed| {
        let sampling = sampled(seed);
        let asked = Begin { sampling, ..begin(job, &chat("Tell me a short story about a cat."), 30) };
        worker.generate(asked).unwrap().text
    };
    let first = run(1, 7);
    assert_eq!(first, run(2, 7));
    // llama.cpp would draw a seed for this one.
    assert_eq!(run(3, u32::MAX), run(4, u32::MAX));
    let others: Vec<String> = (0..4).map(|i| run(10 + u64::from(i), 100 + i)).collect();
    assert!(others.iter().any(|other| *other != first), "four other seeds gave the same text: {first}");
}

#[test]
fn text_comes_piece_by_piece_and_ends_at_its_length() {
    let mut worker = Worker::ready();
    let answer = worker.generate(begin(1, "Once upon a time", 12)).unwrap();
    assert_eq!((answer.finish, answer.spent.completion_tokens), (WireFinish::Length, 12));
    // The first token comes alone; quick ones that follow may share a frame.
    assert!(answer.pieces >= 2, "{answer:?}");
    assert_eq!(answer.spent.prompt_tokens, worker.count(&["Once upon a time"]));
    assert!(answer.spent.prefill_us > 0 && answer.spent.decode_us > 0, "{answer:?}");
}

#[test]
fn a_turn_ends_by_itself() {
    let mut worker = Worker::ready();
    let answer = worker.generate(begin(1, &chat("Say only the word yes."), 200)).unwrap();
    assert_eq!(answer.finish, WireFinish::EndOfTurn, "{answer:?}");
    assert!(!answer.text.contains("<|im_end|>"), "{answer:?}");
}

#[test]
fn a_stop_string_ends_the_answer_before_itself() {
    let mut worker = Worker::ready();
    let free = worker.generate(begin(1, "Once upon a time", 40)).unwrap().text;
    // Something from the middle, across a word's border so that it spans tokens.
    let from = free.char_indices().nth(free.chars().count() / 2).unwrap().0;
    let stop: String = free[from..].chars().take(9).collect();
    let expected = &free[..free.find(&stop).unwrap()];
    let asked = Begin { stop: vec!["never this".into(), stop.clone()], ..begin(2, "Once upon a time", 40) };
    let answer = worker.generate(asked).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), (expected, WireFinish::StopString), "stop {stop:?} in {free:?}");
}

#[test]
fn characters_of_several_bytes_come_whole() {
    let mut worker = Worker::ready();
    // Bias makes the model repeat pieces of multi-byte characters: any sequence of tokens must give text.
    let prompt = "日本語の文章です。🏡🏡🏡🏡 Größe naïve 🏡🏡🏡🏡";
    for job in 1..6 {
        let sampling =
            WireSampling { temperature: 1.5, top_k: 0, top_p: 1.0, seed: u32::try_from(job).unwrap(), ..greedy() };
        let answer = worker.generate(Begin { sampling, ..begin(job, prompt, 40) }).unwrap();
        // `Text` carries a Rust string, so broken UTF-8 can't arrive; what must not happen is that whole
        // characters are torn into replacement characters.
        let torn = answer.text.matches('\u{fffd}').count();
        let whole = answer.text.chars().filter(|c| c.len_utf8() > 1 && *c != '\u{fffd}').count();
        assert!(whole + 40 > torn, "{answer:?}");
    }
    let echo = worker.generate(begin(9, "🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡🏡", 12)).unwrap();
    assert!(echo.text.contains('🏡') && !echo.text.trim_end_matches('\u{fffd}').contains('\u{fffd}'), "{echo:?}");
}

#[test]
fn the_prompt_goes_in_by_pieces_and_special_tokens_only_inside_one() {
    let mut worker = Worker::ready();
    let whole = worker.count(&["<|im_start|>user"]);
    let split = worker.count(&["<|im_st", "art|>user"]);
    assert!(whole < split, "{whole} tokens whole, {split} in pieces");
    let asked = Begin { prompt: vec![chat("Say yes."), String::new()], ..begin(1, "", 5) };
    worker.generate(asked).unwrap();
    let empty = worker.generate(begin(2, "", 5));
    assert!(matches!(empty, Err(WireFault::Invalid(_))), "{empty:?}");
}

#[test]
fn a_prompt_that_does_not_fit_names_both_numbers() {
    let mut worker = Worker::ready();
    let prompt = long_prompt(3000);
    let tokens = worker.count(&[&prompt]);
    let Err(WireFault::ContextOverflow { requested, available }) = worker.generate(begin(1, &prompt, 10)) else {
        panic!("a prompt of {tokens} tokens was taken");
    };
    assert_eq!((requested, available), (tokens + 1, 2048));
    // More to generate than is left is cut to what is left, which the end says.
    let fits = long_prompt(1650);
    let count = worker.count(&[&fits]);
    let answer = worker.generate(begin(2, &fits, 5000)).unwrap();
    assert_eq!((answer.finish, answer.spent.completion_tokens), (WireFinish::Length, 2048 - count));
}

#[test]
fn parameters_are_checked() {
    let mut worker = Worker::ready();
    let wrong = [
        WireSampling { temperature: f32::NAN, ..greedy() },
        WireSampling { repeat_penalty: 0.0, ..greedy() },
        WireSampling { logit_bias: vec![(4_000_000_000, 1.0)], ..greedy() },
        WireSampling { logit_bias: vec![(3, f32::NAN)], ..greedy() },
    ];
    for (job, sampling) in (1..).zip(wrong) {
        let fault = worker.generate(Begin { sampling: sampling.clone(), ..begin(job, "Hello", 5) });
        assert!(matches!(fault, Err(WireFault::Invalid(_))), "{sampling:?}: {fault:?}");
    }
    worker.generate(begin(50, "Hello", 2)).unwrap();
}

#[test]
fn biases_and_penalties_change_the_choice() {
    let mut worker = Worker::ready();
    let plain = worker.generate(begin(1, "The capital of France is", 6)).unwrap().text;
    let banned: Vec<(u32, f32)> = (0..49_000).step_by(2).map(|token| (token, f32::NEG_INFINITY)).collect();
    let sampling = WireSampling { logit_bias: banned, ..greedy() };
    let biased = worker.generate(Begin { sampling, ..begin(2, "The capital of France is", 6) }).unwrap().text;
    assert_ne!(plain, biased);
    let prompt = long_prompt(80);
    let distinct = |text: &str| text.split(' ').collect::<std::collections::HashSet<_>>().len();
    let looped = worker.generate(begin(3, &prompt, 60)).unwrap().text;
    let sampling = WireSampling { repeat_penalty: 1.5, penalty_last_n: 256, ..greedy() };
    let penalised = worker.generate(Begin { sampling, ..begin(4, &prompt, 60) }).unwrap().text;
    assert!(distinct(&penalised) > distinct(&looped), "{looped:?} {penalised:?}");
}

/// Bytes that the process has ever had in memory.
fn peak_bytes(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.child.0.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    line.trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn penalties_look_back_over_the_window_and_take_no_memory_for_more() {
    let mut worker = Worker::ready();
    worker.generate(begin(1, "Once upon a time", 5)).unwrap();
    let before = peak_bytes(&worker);
    let penalised = |penalty_last_n| WireSampling { repeat_penalty: 1.1, penalty_last_n, ..greedy() };
    let mut run = |job, last| {
        worker.generate(Begin { sampling: penalised(last), ..begin(job, "Once upon a time", 20) }).unwrap().text
    };
    assert_eq!(run(2, 100_000_000), run(3, 2048));
    let grown = peak_bytes(&worker).saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes more for a look at 100 million tokens");
}

#[test]
fn a_cancel_in_the_middle_of_a_long_prompt_stops_it() {
    let (mut worker, _) = Worker::with(&wire::Load { batch_tokens: 2048, ..load() }, &model());
    let prompt = long_prompt(1650);
    let whole = worker.generate(begin(1, &prompt, 1)).unwrap().spent.prefill_us;
    worker.begin(begin(2, &prompt, 1));
    worker.find(|report| matches!(report, Report::Started { job: 2, .. }).then_some(()));
    let start = Instant::now();
    worker.send(&Directive::Cancel { job: 2 });
    let cancelled = worker.finish(2).unwrap();
    let took = u64::try_from(start.elapsed().as_micros()).unwrap();
    assert_eq!((cancelled.finish, cancelled.text.as_str()), (WireFinish::Cancelled, ""));
    assert!(took < whole / 2, "the cancel took {took} us, the whole prompt {whole} us");
    // The sequence is free and clean.
    let after = worker.generate(begin(3, &chat("Say only the word yes."), 20)).unwrap();
    let fresh = Worker::ready().generate(begin(1, &chat("Say only the word yes."), 20)).unwrap();
    assert_eq!(after.text, fresh.text);
}

#[test]
fn a_cancelled_answer_ends_with_what_it_had() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 2000));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    worker.send(&Directive::Cancel { job: 1 });
    let answer = worker.finish(1).unwrap();
    assert_eq!(answer.finish, WireFinish::Cancelled);
    assert!(answer.spent.completion_tokens < 2000);
    // What isn't there can't be cancelled, and nobody minds.
    worker.send(&Directive::Cancel { job: 1 });
    worker.send(&Directive::Cancel { job: 77 });
    worker.generate(begin(2, "Hello", 2)).unwrap();
}

#[test]
fn a_deadline_ends_a_job_wherever_it_is() {
    let mut worker = Worker::ready();
    let prompt = long_prompt(1650);
    let reading = worker.generate(Begin { deadline_ms: 30, ..begin(1, &prompt, 100) }).unwrap();
    assert_eq!((reading.finish, reading.text.as_str()), (WireFinish::Deadline, ""));
    let writing = worker.generate(Begin { deadline_ms: 400, ..begin(2, "Once upon a time", 2000) }).unwrap();
    assert_eq!(writing.finish, WireFinish::Deadline);
    assert!(writing.spent.completion_tokens > 0, "{writing:?}");
    // One that waits for a sequence ends too.
    for job in 10..14 {
        worker.begin(begin(job, "Once upon a time", 300));
    }
    let waiting = worker.generate(Begin { deadline_ms: 50, ..begin(20, "Hello", 5) }).unwrap();
    assert_eq!((waiting.finish, waiting.spent.completion_tokens), (WireFinish::Deadline, 0));
}

#[test]
fn more_jobs_than_sequences_wait_their_turn() {
    let mut worker = Worker::ready();
    for job in 1..=10 {
        worker.begin(begin(job, &counting(1), 20));
    }
    let mut texts: Vec<String> = (1..=10).map(|job| worker.finish(job).unwrap().text).collect();
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    worker.begin(begin(20, "Once upon a time", 500));
    let twice = worker.generate(begin(20, "Hello", 5));
    assert!(matches!(twice, Err(WireFault::Protocol(_))), "{twice:?}");
}

#[test]
fn a_running_answer_goes_on_while_a_prompt_is_read() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 400));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    worker.begin(begin(2, &long_prompt(1500), 1));
    let mut between = 0;
    worker.find(|report| matches!(report, Report::Started { job: 2, .. }).then_some(()));
    loop {
        match worker.receive().unwrap() {
            Report::Text { job: 1, .. } => between += 1,
            Report::Done { job: 2, .. } => break,
            _ => {}
        }
    }
    assert!(between >= 5, "only {between} pieces of the running answer came while the prompt was read");
}

#[test]
fn short_prompts_do_not_wait_behind_a_long_one() {
    let (mut worker, _) = Worker::with(&wire::Load { context_tokens: 3072, sequences_max: 12, ..load() }, &model());
    worker.begin(begin(1, "Once upon a time", 1000));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    worker.begin(begin(2, &long_prompt(1500), 1));
    worker.find(|report| matches!(report, Report::Started { job: 2, .. }).then_some(()));
    for job in 10..20 {
        worker.begin(begin(job, &chat("Say only the word yes."), 1));
    }
    let mut ended = Vec::new();
    while ended.len() < 11 {
        match worker.receive().unwrap() {
            Report::Done { job, .. } if job != 1 => ended.push(job),
            Report::Failed { fault, .. } => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert_eq!(ended.last(), Some(&2), "{ended:?}");
}

#[test]
fn a_running_answer_goes_on_while_a_very_long_prompt_is_cut_into_tokens() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 1000));
    worker.find(|report| matches!(report, Report::Text { job: 1, .. }).then_some(()));
    // Blanks are what takes longest for this vocabulary.
    worker.begin(begin(2, &" ".repeat(1 << 20), 1));
    worker.begin(begin(3, &" ".repeat(1 << 20), 1));
    worker.send(&Directive::Cancel { job: 3 });
    let (mut between, mut cancelled) = (0, false);
    loop {
        match worker.receive().unwrap() {
            Report::Text { job: 1, .. } => between += 1,
            Report::Done { job: 3, finish: WireFinish::Cancelled, .. } => cancelled = true,
            Report::Failed { job: Some(2), fault: WireFault::ContextOverflow { requested, .. } } => {
                assert!(requested > 2048);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(between >= 5 && cancelled, "{between} pieces of the running answer came meanwhile");
}

#[test]
fn a_pool_that_runs_dry_costs_time_and_no_text() {
    // Four answers that together want far more than the pool holds.
    let small = wire::Load { context_tokens: 512, ..load() };
    let (mut worker, ready) = Worker::with(&small, &model());
    assert_eq!(ready.context_tokens, 512);
    for (job, from) in (11..).zip([1, 20, 40, 60]) {
        worker.begin(begin(job, &counting(from), 250));
    }
    for (job, from) in (11..).zip([1, 20, 40, 60]) {
        let answer = worker.finish(job).unwrap();
        assert!(matches!(answer.finish, WireFinish::Length | WireFinish::EndOfTurn), "{answer:?}");
        // Read again from its beginning, it goes on where it stopped: no number is lost or said twice.
        let expected: String = (from + 12..from + 32).map(|n| format!("{n}, ")).collect();
        assert!(answer.text.trim_start().starts_with(&expected), "{answer:?}");
    }
}
