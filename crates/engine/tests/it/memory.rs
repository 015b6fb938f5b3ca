//! Memory among models: growth, turns, pins, rest, as callers and workers see them.

use crate::bench::{Bench, DEFAULT, Said, read_text};
use base::{Bytes, Code};
use testkit::{Gate, Script, Step, until};

/// Weights of a test model that counts for something.
const HEAVY: u64 = 400 << 20;

/// Two models of `HEAVY` bytes each, and room for one and a half.
fn crowded() -> (Bench, engine::ModelSource, engine::ModelSource) {
    let bench = Bench::with(|config, _| config.memory_max = Some(Bytes(HEAVY * 3 / 2)));
    let heavy = |name: &str| {
        let mut model = bench.chat(name, &Script::default().logged(&bench.home.join(name)));
        let facts = std::sync::Arc::make_mut(&mut model.facts);
        facts.weights_bytes = HEAVY;
        model
    };
    let (a, b) = (heavy("a"), heavy("b"));
    (bench, a, b)
}

fn loads(bench: &Bench, name: &str) -> usize {
    let frames = crate::bench::lines(&bench.home.join(name));
    frames.iter().filter(|line| line.starts_with("load")).count()
}

fn names(bench: &Bench) -> Vec<String> {
    bench.engine.loaded().into_iter().map(|loaded| loaded.name).collect()
}

#[test]
fn models_over_the_budget_take_turns_and_every_ask_is_answered() {
    let (bench, a, b) = crowded();
    let mut answers: Vec<_> = (0..4).flat_map(|_| [bench.submit(&a, "hello"), bench.submit(&b, "hello")]).collect();
    for answer in &mut answers {
        Said::all(answer).is_well(DEFAULT);
    }
    assert_eq!(names(&bench).len(), 1, "both are loaded");
    // Whoever has its turn serves what has come by then: there are fewer loads than asks.
    let (of_a, of_b) = (loads(&bench, "a"), loads(&bench, "b"));
    assert!(of_a + of_b < answers.len(), "{of_a} {of_b}");
    let share = bench.engine.memory_share();
    assert!(share.held.0 > HEAVY && share.held <= share.budget.expect("it was set"), "{share:?}");
}

#[test]
fn a_pinned_model_stays_and_who_needs_its_memory_is_told() {
    let (bench, a, b) = crowded();
    let pinned = engine::ModelSource { pinned: true, ..a };
    bench.say(&pinned, "hello").is_well(DEFAULT);
    let said = bench.say(&b, "hello");
    assert_eq!(said.fault().code, Code::MemoryShort);
    assert_eq!((names(&bench), bench.engine.loaded()[0].pinned), (vec!["a".to_owned()], true));
    bench.engine.pin("a", false);
    bench.say(&b, "hello").is_well(DEFAULT);
    assert_eq!(names(&bench), ["b"]);
}

#[test]
fn a_model_rests_when_idle_and_wakes_for_the_next_ask_without_a_load() {
    let bench = Bench::with(|config, _| config.idle_rest_ms = 40);
    let model = bench.chat("m", &Script::default().logged(&bench.log()));
    bench.say(&model, "hello").is_well(DEFAULT);
    bench.until_frame("rest");
    until("the rest to show", || bench.engine.loaded().iter().find(|loaded| loaded.room.resting).map(drop));
    let held = bench.engine.memory_share().held;
    bench.say(&model, "hello again").is_well(DEFAULT);
    let frames = bench.frames();
    let order: Vec<&str> = frames.iter().filter_map(|line| line.split(' ').next()).take(5).collect();
    assert_eq!(order, ["load", "begin", "rest", "resize", "begin"]);
    assert!(held.0 > 0);
}

#[test]
fn a_model_that_can_not_wake_fails_the_ask_and_lives_on() {
    let bench = Bench::with(|config, _| config.idle_rest_ms = 40);
    let mut script = Script::default().logged(&bench.log());
    script.load.resize_fails = true;
    let model = bench.chat("m", &script);
    bench.say(&model, "hello").is_well(DEFAULT);
    until("the rest to show", || bench.engine.loaded().iter().find(|loaded| loaded.room.resting).map(drop));
    let pid = bench.engine.loaded()[0].pid;
    assert_eq!(bench.say(&model, "hello again").fault().code, Code::MemoryShort);
    assert_eq!(bench.engine.loaded()[0].pid, pid);
}

#[test]
fn a_job_that_wants_a_larger_pool_is_granted_it_or_told_what_there_is() {
    // The pool of 8,192 tokens takes 800 MiB.
    for (budget, answer) in [(Bytes(8 << 30), "resize 40000"), (Bytes(1 << 30), "resize 8192")] {
        let bench = Bench::with(|config, _| config.memory_max = Some(budget));
        let gate = Gate::new(bench.home.path(), "g");
        let steps = vec![Step::Text("x".into()), Step::Wants(20_000, 40_000), Step::Wait(gate.path())];
        let mut model = bench.chat("m", &Script::default().logged(&bench.log()).on("grow", steps));
        let facts = std::sync::Arc::make_mut(&mut model.facts);
        (facts.context_max, facts.kv_bytes_per_token, facts.cache) = (1 << 20, 100 << 10, None);
        let mut running = bench.submit(&model, "grow");
        read_text(&mut running, "x");
        assert_eq!(bench.until_frame("resize"), answer);
        gate.release(1);
        Said::all(&mut running).is_well("");
        assert_eq!(bench.frames().iter().filter(|line| line.starts_with("load")).count(), 1);
    }
}

#[test]
fn the_window_is_told_before_a_load_and_with_every_answer() {
    let (bench, a, _) = crowded();
    let window = bench.engine.window(&a);
    assert_eq!((window.now, window.trained), (2048, 2048));
    let said = bench.say(&a, "hello");
    assert_eq!(said.usage.expect("the bill").context_tokens, window.now);
    let mut large = a.clone();
    large.name.0 = "large".into();
    std::sync::Arc::make_mut(&mut large.facts).context_max = 1 << 20;
    let facts = std::sync::Arc::make_mut(&mut large.facts);
    (facts.kv_bytes_per_token, facts.cache) = (100 << 10, None);
    let window = bench.engine.window(&large);
    // 200 MiB beside the weights, of which some is for computing: about 2000 tokens.
    assert!((1024..2048).contains(&window.now) && window.now.is_multiple_of(256), "{window:?}");
    assert_eq!(window.trained, 1 << 20);
}

/// A draft model of 100 MiB.
fn small(bench: &Bench) -> engine::DraftSource {
    let mut facts = (*bench.chat("small", &Script::default()).facts).clone();
    facts.weights_bytes = 100 << 20;
    engine::DraftSource {
        name: base::ModelName("small".into()),
        path: bench.home.join("models/small.gguf"),
        facts: std::sync::Arc::new(facts),
    }
}

#[test]
fn a_draft_model_goes_when_its_model_wants_all_that_is_there() {
    for (wanted, leaves) in [(10_000, false), (1 << 20, true)] {
        let bench = Bench::with(|config, _| config.memory_max = Some(Bytes(4 << 30)));
        let gate = Gate::new(bench.home.path(), "g");
        let steps = vec![Step::Text("x".into()), Step::Wants(10_000, wanted), Step::Wait(gate.path())];
        let mut model = bench.chat("m", &Script::default().logged(&bench.log()).on("grow", steps));
        model.draft = Some(small(&bench));
        let facts = std::sync::Arc::make_mut(&mut model.facts);
        (facts.context_max, facts.kv_bytes_per_token, facts.cache) = (1 << 20, 100 << 10, None);
        let mut running = bench.submit(&model, "grow");
        read_text(&mut running, "x");
        bench.until_frame("resize");
        let frames = bench.frames();
        let place = |start: &str| frames.iter().position(|line| line.starts_with(start));
        assert!(place("draft small").is_some(), "{frames:?}");
        assert_eq!(place("leave draft").is_some(), leaves, "{frames:?}");
        assert!(!leaves || place("leave draft") < place("resize"), "{frames:?}");
        until("the change to show", || {
            let loaded = bench.engine.loaded().remove(0);
            (loaded.draft_model.is_none() == leaves).then_some(())
        });
        gate.release(1);
        Said::all(&mut running).is_well("");
    }
}

#[test]
fn a_draft_model_is_handed_over_where_it_fits_beside_its_model_and_counted() {
    let mut held = Vec::new();
    for (memory_max, drafts) in [(None, false), (Some(Bytes(2 << 30)), true), (Some(Bytes(160 << 20)), true)] {
        let bench = Bench::with(|config, _| config.memory_max = memory_max.or(Some(Bytes(2 << 30))));
        let mut model = bench.chat("m", &Script::default().logged(&bench.log()));
        model.draft = drafts.then(|| small(&bench));
        bench.say(&model, "hello").is_well(DEFAULT);
        let loaded = bench.engine.loaded().remove(0);
        let told = bench.frames().iter().any(|line| line.starts_with("draft small"));
        assert_eq!((told, loaded.draft_model.is_some()), (loaded.draft_model.is_some(), told));
        held.push((told, loaded.held_bytes));
    }
    let (without, with, crowded) = (held[0], held[1], held[2]);
    assert!(!without.0 && with.0 && !crowded.0, "{held:?}");
    assert!(with.1 > without.1 + (100 << 20), "{held:?}");
    assert!(crowded.1 <= without.1, "{held:?}");
}
