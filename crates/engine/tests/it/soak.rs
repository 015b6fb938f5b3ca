//! Many asks of several apps, interactive and batch, dropped, left unread and killed at random: every one ends,
//! and what ends well says the right thing.

use crate::bench::{Bench, DEFAULT, Said, ask_of, next};
use base::{Code, Priority};
use testkit::{Script, Step, until};

/// A small generator of our own: the same seed gives the same asks.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Default, Debug)]
struct Tally {
    well: u32,
    died: u32,
    dropped: u32,
    late: u32,
}

/// Enough to be parked when nobody reads it.
const FLOOD: u32 = 3_000;

/// One caller: asks one after the other, leaves some in the middle, and now and then kills the worker.
fn call(bench: &Bench, models: &[engine::ModelSource], seed: u64) -> Tally {
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    for round in 0..60 {
        let model = &models[usize::try_from(dice.roll(models.len() as u64)).expect("small")];
        let prompt = match dice.roll(20) {
            0 => "crash",
            1..=4 => "long",
            5 | 6 => "flood",
            _ => "plain",
        };
        let priority = if dice.roll(3) == 0 { Priority::Batch } else { Priority::Interactive };
        let app = ["a", "b", "c"][usize::try_from(dice.roll(3)).expect("small")];
        let mut answer = bench.engine.submit(model.clone(), ask_of(app, priority, prompt));
        if prompt == "flood" && dice.roll(2) == 0 {
            // Its reader does something else first.
            let said = Said::all(&mut bench.submit(model, "plain"));
            assert!(said.fault.is_some() || said.text == DEFAULT, "seed {seed}, round {round}: {said:?}");
            tally.late += 1;
        }
        if dice.roll(4) == 0 {
            for _ in 0..dice.roll(4) {
                let _ = next(&mut answer);
            }
            tally.dropped += 1;
            continue;
        }
        let said = Said::all(&mut answer);
        match (&said.fault, prompt) {
            (None, "long") => assert_eq!(said.text, "abc".repeat(200), "seed {seed}, round {round}"),
            (None, "flood") => assert_eq!(said.text, "abcdef".repeat(FLOOD as usize), "seed {seed}, round {round}"),
            (None, "plain") => assert_eq!(said.text, DEFAULT, "seed {seed}, round {round}"),
            (Some(fault), _) => {
                assert_eq!(fault.code, Code::WorkerDied, "seed {seed}, round {round}: {fault}");
                tally.died += 1;
                continue;
            }
            (None, _) => panic!("seed {seed}, round {round}: an answer from a worker that dies"),
        }
        tally.well += 1;
    }
    tally
}

#[test]
fn no_ask_is_stuck_and_no_answer_is_wrong() {
    let bench = Bench::with(|_, tuning| (tuning.quantum_ms, tuning.batch_patience_ms) = (5, 50));
    let says = |text: &str, times: u32| vec![Step::Repeat(times, text.into())];
    let script = Script::default().slots(2).on("crash", vec![Step::Die(9)]).on("long", says("abc", 200));
    let script = script.on("flood", says("abcdef", FLOOD)).logged(&bench.log());
    let models = [bench.chat("a", &script), bench.chat("b", &script)];
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|seed| {
                scope.spawn({
                    let (bench, models) = (&bench, &models);
                    move || call(bench, models, seed)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller's checks hold")).collect()
    });
    let sum = |of: fn(&Tally) -> u32| tallies.iter().map(of).sum::<u32>();
    assert!(
        sum(|t| t.well) > 50 && sum(|t| t.died) > 0 && sum(|t| t.dropped) > 0 && sum(|t| t.late) > 0,
        "{tallies:?}"
    );
    let held = bench.frames().iter().filter(|line| line.starts_with("hold")).count();
    assert!(held > 20, "{held} asks had to step back: the test shows little");
    until("all to be still", || {
        bench
            .engine
            .loaded()
            .iter()
            .all(|loaded| loaded.running == 0 && loaded.queued == 0 && loaded.parked == 0)
            .then_some(())
    });
    for model in &models {
        bench.say(model, "plain").is_well(DEFAULT);
    }
}
