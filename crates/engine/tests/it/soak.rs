//! Many asks, dropped and killed at random: every one ends, and what ends well says the right thing.

use crate::bench::{Bench, DEFAULT, Said, next};
use base::Code;
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
}

/// One caller: asks one after the other, leaves some in the middle, and now and then kills the worker.
fn call(bench: &Bench, models: &[engine::ModelSource], seed: u64) -> Tally {
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    for round in 0..60 {
        let model = &models[usize::try_from(dice.roll(models.len() as u64)).expect("small")];
        let prompt = match dice.roll(20) {
            0 => "crash",
            1..=4 => "long",
            _ => "plain",
        };
        let mut answer = bench.submit(model, prompt);
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
    let bench = Bench::new();
    let script = Script::default().on("crash", vec![Step::Die(9)]).on("long", vec![Step::Repeat(200, "abc".into())]);
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
    assert!(sum(|t| t.well) > 50 && sum(|t| t.died) > 0 && sum(|t| t.dropped) > 0, "{tallies:?}");
    until("all to be still", || {
        bench.engine.loaded().iter().all(|loaded| loaded.running == 0 && loaded.queued == 0).then_some(())
    });
    for model in &models {
        bench.say(model, "plain").is_well(DEFAULT);
    }
}
