//! Judging options: by the chain rule, in company, and within the window.

use crate::harness::{Worker, begin, chat, long_prompt};
use wire::{Directive, Report, WireFault, WireFinish, WireLikelihood};

/// Steps of other sizes add up in another order.
const NEAR: f64 = 0.03;

fn logs(made: &[WireLikelihood]) -> Vec<f64> {
    made.iter().map(|likelihood| likelihood.log).collect()
}

#[test]
fn what_is_likely_is_said_to_be() {
    let mut worker = Worker::ready();
    let prompt = chat("What is the capital of France? Answer with one word.");
    let options = ["Paris", "Berlin", "banana", "The capital of France is Paris."];
    let made = worker.score(begin(1, &prompt, 1), &options, true).unwrap();
    let logs = logs(&made);
    assert!(logs[0] > logs[1] && logs[1] > logs[2], "{made:?}");
    let sum: f64 = logs.iter().map(|log| log.exp()).sum();
    assert!(sum > 0.0 && sum <= 1.001, "{made:?}");
    // What the model would say is at least as likely as anything else.
    let said = worker.generate(begin(2, &prompt, 20)).unwrap();
    assert_eq!(said.finish, WireFinish::EndOfTurn);
    let likeliest = worker.score(begin(3, &prompt, 1), &[&said.text, "banana"], true).unwrap();
    assert!(likeliest[0].log > likeliest[1].log && likeliest[0].log > -20.0, "{likeliest:?} of {said:?}");
}

#[test]
fn likelihoods_follow_the_chain_rule_in_any_company() {
    let mut worker = Worker::ready();
    let prompt = chat("Name a colour.");
    let mut score =
        |job, prompt: &str, options: &[&str]| logs(&worker.score(begin(job, prompt, 1), options, false).unwrap());
    let first = score(1, &prompt, &[" blue"])[0];
    let second = score(2, &format!("{prompt} blue"), &[" sky"])[0];
    let both = score(3, &prompt, &[" blue sky"])[0];
    assert!((first + second - both).abs() < NEAR, "{first} + {second} is not {both}");
    // More options than one step takes.
    let words = ["red", "a deep and quiet blue, as of the sea at night", "green", "dark green", "none of these"];
    let many: Vec<String> = (0..40).map(|n| format!("{} {n}", words[n % words.len()])).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let together = score(4, &prompt, &many);
    for (job, (option, log)) in (10..).zip(many.iter().zip(together)).step_by(7) {
        let alone = score(job, &prompt, &[option])[0];
        assert!((alone - log).abs() < NEAR, "{option}: {alone} alone, {log} in company");
    }
}

#[test]
fn options_are_judged_beside_answers_that_go_on() {
    let mut worker = Worker::ready();
    let prompt = chat("Is water wet? Answer yes or no.");
    let alone = logs(&worker.score(begin(1, &prompt, 1), &["yes", "no"], true).unwrap());
    let free = worker.generate(begin(2, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ", 40)).unwrap();
    worker.begin(begin(3, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ", 40));
    let beside = logs(&worker.score(begin(4, &prompt, 1), &["yes", "no"], true).unwrap());
    assert_eq!(worker.finish(3).unwrap().text, free.text);
    for (alone, beside) in alone.iter().zip(&beside) {
        assert!((alone - beside).abs() < NEAR, "{alone} alone, {beside} beside another");
    }
}

#[test]
fn a_score_needs_room_for_its_longest_option_and_can_be_cancelled() {
    let mut worker = Worker::ready();
    let long = long_prompt(400);
    let prompt = long_prompt(1500);
    let fault = worker.score(begin(1, &prompt, 1), &["short", &long], true).unwrap_err();
    assert!(matches!(fault, WireFault::ContextOverflow { .. }), "{fault:?}");
    let made = worker.score(begin(2, &long_prompt(900), 1), &["short", &long], true).unwrap();
    assert!(made[1].tokens > 300 && made[1].log < made[0].log, "{made:?}");
    let fault = worker.score(begin(3, "Hello", 1), &[""], true).unwrap_err();
    assert!(matches!(fault, WireFault::Invalid(_)), "{fault:?}");

    worker.begin(wire::Begin {
        score: Some(wire::WireScore { options: vec!["a".into(), long], whole: true }),
        ..begin(4, &prompt[..prompt.len() / 2], 1)
    });
    worker.send(&Directive::Cancel { job: 4 });
    let finish = worker.find(|report| match report {
        Report::Done { job: 4, finish, .. } => Some(*finish),
        Report::Scored { job: 4, .. } => panic!("it was judged all the same"),
        _ => None,
    });
    assert_eq!(finish, WireFinish::Cancelled);
}
