//! Asks that step back for others or for their readers, and go on: nothing of their text is lost or said twice.

use crate::bench::{Bench, DEFAULT, Said, ask_of, read_text};
use base::{Code, Priority};
use engine::{Answer, ModelSource};
use testkit::{Gate, Script, Step, until};

const PIECE: &str = "0123456789";

fn flood(pieces: u32) -> Vec<Step> {
    vec![Step::Repeat(pieces, PIECE.into())]
}

fn text(words: &str) -> Step {
    Step::Text(words.into())
}

fn submit(bench: &Bench, model: &ModelSource, app: &str, priority: Priority, prompt: &str) -> Answer {
    bench.engine.submit(model.clone(), ask_of(app, priority, prompt))
}

fn until_parked(bench: &Bench, count: u32) {
    until("the ask to be parked", || {
        bench.engine.loaded().first().filter(|loaded| loaded.parked == count && loaded.running == 0).map(drop)
    });
}

#[test]
fn a_reader_that_does_not_read_gives_its_place_to_others() {
    let bench = Bench::new();
    let script = Script::default().slots(1).on("floods", flood(20_000)).logged(&bench.log());
    let model = bench.chat("river", &script);
    let mut unread = bench.submit(&model, "floods");
    until_parked(&bench, 1);
    // There is one place for all of them.
    for _ in 0..3 {
        bench.say(&model, "another").is_well(DEFAULT);
    }
    let said = Said::all(&mut unread);
    said.is_well(&PIECE.repeat(20_000));
    // What waited was joined: the queue never held thousands of pieces.
    assert!(said.deltas < 2_000, "{} deltas", said.deltas);
    bench.until_frame("resume");
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let bench = Bench::with(|_, tuning| tuning.unread_ms = 300);
    let model = bench.chat("river", &Script::default().slots(1).on("floods", flood(300_000)).logged(&bench.log()));
    let mut unread = bench.submit(&model, "floods");
    bench.until_frame(&format!("cancel {}", unread.id().0));
    bench.say(&model, "another").is_well(DEFAULT);
    let said = Said::all(&mut unread);
    assert_eq!(said.fault().code, Code::Busy);
    assert!(said.fault().message.contains("300 ms") && !said.fault().hints.is_empty(), "{said:?}");
    assert!(said.text.len() <= 1 << 20);
}

#[test]
fn a_batch_answer_makes_room_for_an_interactive_one_and_goes_on() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let batch = vec![text("first"), Step::Wait(gate.path()), text(" then")];
    let model = bench.chat("m", &Script::default().slots(1).on("night", batch).logged(&bench.log()));
    let mut night = submit(&bench, &model, "backup", Priority::Batch, "night");
    read_text(&mut night, "first");
    bench.say(&model, "now").is_well(DEFAULT);
    bench.until_frame("resume");
    gate.release(1);
    Said::all(&mut night).is_well(" then");
}

#[test]
fn an_app_that_has_all_places_gives_one_up() {
    let bench = Bench::with(|_, tuning| tuning.quantum_ms = 20);
    let gate = Gate::new(bench.home.path(), "g");
    let long = vec![text("first"), Step::Wait(gate.path()), text(" then")];
    let model = bench.chat("m", &Script::default().slots(2).on("long", long));
    let mut greedy: Vec<Answer> =
        (0..4).map(|_| submit(&bench, &model, "greedy", Priority::Interactive, "long")).collect();
    for answer in &mut greedy[..2] {
        read_text(answer, "first");
    }
    let mut modest = submit(&bench, &model, "modest", Priority::Interactive, "short");
    Said::all(&mut modest).is_well(DEFAULT);
    gate.release(4);
    for (place, answer) in greedy.iter_mut().enumerate() {
        Said::all(answer).is_well(if place < 2 { " then" } else { "first then" });
    }
}

#[test]
fn a_parked_ask_is_cancelled_and_ends_at_its_deadline() {
    let bench = Bench::new();
    let model = bench.chat("river", &Script::default().slots(1).on("floods", flood(20_000)).logged(&bench.log()));
    let dropped = bench.submit(&model, "floods");
    until_parked(&bench, 1);
    let id = dropped.id().0;
    drop(dropped);
    bench.until_frame(&format!("cancel {id}"));
    let mut late = ask_of("test", Priority::Interactive, "floods");
    late.limits.deadline_ms = Some(1_500);
    let mut late = bench.engine.submit(model.clone(), late);
    bench.until_frame(&format!("cancel {}", late.id().0));
    assert_eq!(Said::all(&mut late).fault().code, Code::DeadlineExceeded);
    bench.say(&model, "another").is_well(DEFAULT);
}

#[test]
fn a_parked_ask_ends_with_its_worker() {
    let bench = Bench::new();
    let script = Script::default().slots(1).on("floods", flood(20_000)).on("crash", vec![Step::Die(9)]);
    let model = bench.chat("river", &script);
    let mut unread = bench.submit(&model, "floods");
    until_parked(&bench, 1);
    assert_eq!(bench.say(&model, "crash").fault().code, Code::WorkerDied);
    let said = Said::all(&mut unread);
    assert_eq!(said.fault().code, Code::WorkerDied);
    assert!(PIECE.repeat(20_000).starts_with(&said.text), "what had come stays as it was");
    bench.say(&model, "another").is_well(DEFAULT);
}
