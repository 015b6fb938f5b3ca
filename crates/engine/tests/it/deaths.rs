//! Workers that die, hang or talk nonsense cost their own asks a typed fault and nothing else.

use crate::bench::{Bench, DEFAULT, Said, lines, read_text, read_until};
use base::answer::Progress;
use base::{Code, Delta};
use std::path::Path;
use testkit::{Gate, Hello, Script, Step, until, worker_that_says};

const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

fn text(words: &str) -> Step {
    Step::Text(words.into())
}

#[test]
fn a_worker_killed_in_mid_answer_fails_that_ask_and_the_next_one_works() {
    let bench = Bench::new();
    let script = Script::default().on("crash", vec![text("half an"), Step::Die(SIGKILL)]);
    let model = bench.chat("m", &script);
    let said = bench.say(&model, "crash");
    assert_eq!((said.text.as_str(), said.fault().code), ("half an", Code::WorkerDied));
    assert!(said.fault().message.contains("SIGKILL") && said.fault().message.contains("`m`"), "{said:?}");
    assert!(!said.fault().hints.is_empty());
    bench.say(&model, "again").is_well(DEFAULT);
}

#[test]
fn a_kill_from_outside_is_the_same() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let model = bench.chat("m", &Script::default().on("wait", vec![text("x"), Step::Wait(gate.path())]));
    let mut answer = bench.submit(&model, "wait");
    read_text(&mut answer, "x");
    let pid = i32::try_from(bench.engine.loaded()[0].pid).expect("a small number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    let said = Said::all(&mut answer);
    assert_eq!(said.fault().code, Code::WorkerDied);
    bench.say(&model, "again").is_well(DEFAULT);
}

#[test]
fn an_ask_that_meets_a_dying_worker_is_answered_by_the_next() {
    let bench = Bench::new();
    let model = bench.chat("m", &Script::default());
    bench.say(&model, "first").is_well(DEFAULT);
    let pid = i32::try_from(bench.engine.loaded()[0].pid).expect("a small number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    // A stopped process takes frames and reads none, as one does whose memory is being torn down.
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it lives");
    let mut answer = bench.submit(&model, "second");
    until("the worker has it", || (bench.engine.loaded()[0].running == 1).then_some(()));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    Said::all(&mut answer).is_well(DEFAULT);
}

#[test]
fn a_worker_killed_in_the_middle_of_a_frame_is_named_with_its_signal() {
    let bench = Bench::new();
    let model = bench.chat("m", &Script::default().on("crash", vec![text("x"), Step::DieMidFrame(SIGSEGV)]));
    let said = bench.say(&model, "crash");
    assert_eq!(said.fault().code, Code::WorkerDied);
    assert!(said.fault().message.contains("SIGSEGV"), "{said:?}");
}

#[test]
fn another_models_asks_live_on() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let steady =
        bench.chat("steady", &Script::default().on("wait", vec![text("x"), Step::Wait(gate.path()), text("y")]));
    let weak = bench.chat("weak", &Script::default().on("crash", vec![Step::Die(SIGSEGV)]));
    let mut answer = bench.submit(&steady, "wait");
    read_text(&mut answer, "x");
    let said = bench.say(&weak, "crash");
    assert!(said.fault().message.contains("SIGSEGV"), "{said:?}");
    gate.release(1);
    Said::all(&mut answer).is_well("y");
}

#[test]
fn an_ask_that_only_waited_gets_the_next_worker() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let crash = vec![text("x"), Step::Wait(gate.path()), Step::Die(SIGKILL)];
    let model = bench.chat("single", &Script::default().slots(1).on("crash", crash));
    let mut first = bench.submit(&model, "crash");
    read_text(&mut first, "x");
    let mut second = bench.submit(&model, "waits");
    read_until(&mut second, |delta| *delta == Delta::Progress(Progress::Queued));
    gate.release(1);
    assert_eq!(Said::all(&mut first).fault().code, Code::WorkerDied);
    Said::all(&mut second).is_well(DEFAULT);
}

#[test]
fn a_worker_that_hangs_is_found_and_replaced() {
    let bench = Bench::with(|_, tuning| {
        tuning.ping_after_ms = 50;
        tuning.hang_ms = 300;
    });
    let model = bench.chat("m", &Script::default().on("hang", vec![text("x"), Step::Hang]).logged(&bench.log()));
    let said = bench.say(&model, "hang");
    assert_eq!(said.fault().code, Code::WorkerDied);
    assert!(said.fault().message.contains("said nothing for 350 ms"), "{said:?}");
    bench.until_frame("ping");
    bench.say(&model, "again").is_well(DEFAULT);
}

/// A ping is sent again only when the one before was answered in time.
fn three_pings(log: &Path) {
    until("three pings", || (lines(log).iter().filter(|line| *line == "ping").count() >= 3).then_some(()));
}

/// Pings find it well although its ask takes longer than the limit.
#[test]
fn a_worker_that_answers_is_left_alone_however_long_it_takes() {
    let bench = Bench::with(|_, tuning| {
        tuning.ping_after_ms = 10;
        tuning.hang_ms = 700;
    });
    let gate = Gate::new(bench.home.path(), "g");
    let model =
        bench.chat("m", &Script::default().on("slow", vec![text("x"), Step::Wait(gate.path())]).logged(&bench.log()));
    let mut answer = bench.submit(&model, "slow");
    read_text(&mut answer, "x");
    three_pings(&bench.log());
    gate.release(1);
    Said::all(&mut answer).is_well("");

    let log = bench.home.join("of-embedder.log");
    let script = Script::default().on("slow", vec![Step::Wait(gate.path())]).logged(&log);
    let (model, engine) = (bench.embedder("e", &script), bench.engine.clone());
    let vectors = std::thread::spawn(move || engine.embed_blocking(model, vec!["slow".into()]));
    three_pings(&log);
    gate.release(1);
    assert_eq!(vectors.join().expect("it ends").expect("vectors").vectors.len(), 1);
}

#[test]
fn nonsense_in_place_of_a_frame_ends_the_worker() {
    let bench = Bench::new();
    let model = bench.chat("m", &Script::default().on("babble", vec![text("x"), Step::Garbage, Step::Hang]));
    let said = bench.say(&model, "babble");
    assert_eq!((said.text.as_str(), said.fault().code), ("x", Code::WorkerDied));
    assert!(said.fault().message.contains("can't be read"), "{said:?}");
    bench.say(&model, "again").is_well(DEFAULT);
}

#[test]
fn a_worker_of_another_version_is_refused_with_both_versions() {
    let hello = Hello { version: Some(99), ..Hello::default() };
    let bench = Bench::with(|config, _| config.worker = worker_that_says(&config.state_dir, &hello));
    let said = bench.say(&bench.chat("m", &Script::default()), "hello");
    assert_eq!(said.fault().code, Code::VersionMismatch);
    let ours = format!("this daemon {}", wire::VERSION);
    assert!(said.fault().message.contains("protocol 99") && said.fault().message.contains(&ours), "{said:?}");
    assert!(!said.fault().hints.is_empty());
}

#[test]
fn a_worker_that_babbles_from_the_start_is_refused() {
    let hello = Hello { garbage: true, ..Hello::default() };
    let bench = Bench::with(|config, _| config.worker = worker_that_says(&config.state_dir, &hello));
    let said = bench.say(&bench.chat("m", &Script::default()), "hello");
    assert_eq!(said.fault().code, Code::WorkerDied);
}

#[track_caller]
fn check_load(step: Step, code: Code, words: &str) {
    let bench = Bench::new();
    let said = bench.say(&bench.chat("broken", &Script::default().loading(vec![Step::Percent(50), step])), "hello");
    assert_eq!(said.fault().code, code, "{said:?}");
    let whole = said.fault().to_string();
    assert!(whole.contains(words), "{whole}");
    until("the worker to be gone", || bench.engine.loaded().is_empty().then_some(()));
}

#[test]
fn a_load_that_fails_says_why() {
    check_load(Step::Fail("tensor 7 is cut off".into()), Code::ModelLoadFailed, "tensor 7 is cut off");
    check_load(Step::MemoryShort("3 GiB wanted, 1 there".into()), Code::MemoryShort, "3 GiB wanted, 1 there");
    check_load(Step::Unconfined("no Landlock".into()), Code::ConfinementFailed, "no Landlock");
    check_load(Step::Die(SIGSEGV), Code::WorkerDied, "SIGSEGV");
    check_load(Step::Exit(3), Code::WorkerDied, "exit status 3");
}

#[test]
fn a_model_file_that_is_gone_is_named() {
    let bench = Bench::new();
    let model = bench.chat("gone", &Script::default());
    std::fs::remove_file(&model.parts[0]).expect("it was there");
    let said = bench.say(&model, "hello");
    assert_eq!(said.fault().code, Code::FileMissing);
    assert!(said.fault().message.contains("gone.gguf"), "{said:?}");
}

#[test]
fn a_model_too_large_for_the_machine_is_refused_before_it_is_loaded() {
    let bench = Bench::new();
    let mut model = bench.chat("huge", &Script::default());
    let mut facts = (*model.facts).clone();
    facts.weights_bytes = 1 << 50;
    model.facts = facts.into();
    let said = bench.say(&model, "hello");
    assert_eq!(said.fault().code, Code::MemoryShort);
    assert!(said.fault().message.contains("1024 TiB"), "{said:?}");
}

#[test]
fn a_load_that_takes_too_long_is_ended() {
    let bench = Bench::with(|config, _| config.load_timeout_ms = 400);
    let gate = Gate::new(bench.home.path(), "g");
    let model = bench.chat("slow", &Script::default().loading(vec![Step::Wait(gate.path())]));
    let said = bench.say(&model, "hello");
    assert_eq!(said.fault().code, Code::ModelLoadFailed);
    assert!(said.fault().message.contains("400 ms"), "{said:?}");
}
