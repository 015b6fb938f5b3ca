//! Loading, unloading, what `loaded` shows, and that nothing is left behind.

use crate::bench::{Bench, DEFAULT, Said, ask, lines, read_text};
use base::Code;
use engine::{Attempt, Engine};
use std::path::Path;
use testkit::{Gate, Script, SelfTestScript, Step, until};

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn what_is_loaded_is_described() {
    let bench = Bench::new();
    assert!(bench.engine.loaded().is_empty());
    let gate = Gate::new(bench.home.path(), "g");
    let model =
        bench.chat("m", &Script::default().slots(1).on("wait", vec![Step::Text("x".into()), Step::Wait(gate.path())]));
    let mut running = bench.submit(&model, "wait");
    read_text(&mut running, "x");
    let mut queued = bench.submit(&model, "later");
    let loaded = until("both asks", || bench.engine.loaded().into_iter().find(|loaded| loaded.queued == 1));
    assert_eq!((loaded.name.as_str(), loaded.running, loaded.threads, loaded.idle_ms), ("m", 1, 1, 0));
    assert_eq!((loaded.context_tokens, loaded.sequences_max), (2048, 1));
    assert_eq!(loaded.devices, ["SCRIPT"]);
    assert!(loaded.resident_bytes > 0 && loaded.load_us > 0 && lives(loaded.pid), "{loaded:?}");
    assert_eq!(loaded.protection.missing.len(), 1);
    gate.release(1);
    Said::all(&mut running).is_well("");
    Said::all(&mut queued).is_well(DEFAULT);
    until("idle time", || bench.engine.loaded().into_iter().find(|loaded| loaded.running == 0 && loaded.idle_ms > 0));
}

#[test]
fn what_lies_on_a_graphics_device_is_told() {
    let gpu = SelfTestScript::Right { device: "CUDA0".into(), features: vec![], f32_gops: 900.0, int8_gops: 9000.0 };
    let bench = Bench::with(|config, _| gpu.write(&config.backends_dir.join("libggml-cuda.so")));
    let model = bench.chat("m", &Script::default());
    bench.say(&model, "hello").is_well(DEFAULT);
    let placement = bench.engine.loaded().remove(0).placement;
    // One layer and the output.
    assert!(placement.starts_with("2 of 2 layers on CUDA0"), "{placement}");
    let on_processor = Bench::new();
    let model = on_processor.chat("m", &Script::default());
    on_processor.say(&model, "hello").is_well(DEFAULT);
    assert_eq!(on_processor.engine.loaded().remove(0).placement, "");
}

#[test]
fn an_idle_model_is_let_go_and_comes_back() {
    let bench = Bench::with(|config, _| config.idle_unload_ms = 60);
    let model = bench.chat("m", &Script::default().logged(&bench.log()));
    bench.say(&model, "hello").is_well(DEFAULT);
    bench.until_frame("shutdown");
    until("the model to go", || bench.engine.loaded().is_empty().then_some(()));
    bench.say(&model, "hello again").is_well(DEFAULT);
    assert_eq!(bench.frames().iter().filter(|line| line.starts_with("load")).count(), 2);
}

#[test]
fn idle_models_make_room_for_one_that_is_asked() {
    let bench = Bench::new();
    let short = Step::MemoryShort("2 GiB wanted, 1 there".into());
    let idle = bench.chat("idle", &Script::default());
    bench.say(&idle, "hello").is_well(DEFAULT);
    let once = Step::Once(bench.home.join("tried"), Box::new(short.clone()));
    let wanted = bench.chat("wanted", &Script::default().loading(vec![once]));
    bench.say(&wanted, "hello").is_well(DEFAULT);
    let names = || bench.engine.loaded().into_iter().map(|loaded| loaded.name).collect::<Vec<_>>();
    assert_eq!(names(), ["wanted"]);

    let gate = Gate::new(bench.home.path(), "g");
    let busy = bench.chat("busy", &Script::default().on("wait", vec![Step::Text("x".into()), Step::Wait(gate.path())]));
    let mut answer = bench.submit(&busy, "wait");
    read_text(&mut answer, "x");
    let said = bench.say(&bench.chat("greedy", &Script::default().loading(vec![short])), "hello");
    assert_eq!(said.fault().code, Code::MemoryShort);
    assert!(said.fault().hints.iter().any(|hint| hint.contains("`busy`")), "{said:?}");
    assert_eq!(names(), ["busy"]);
    gate.release(1);
    Said::all(&mut answer).is_well("");
}

#[test]
fn unload_waits_for_what_runs() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let model = bench.chat(
        "m",
        &Script::default().on("wait", vec![Step::Text("x".into()), Step::Wait(gate.path()), Step::Text("y".into())]),
    );
    let mut answer = bench.submit(&model, "wait");
    read_text(&mut answer, "x");
    bench.engine.unload("another");
    bench.engine.unload("m");
    gate.release(1);
    Said::all(&mut answer).is_well("y");
    until("the model to go", || bench.engine.loaded().is_empty().then_some(()));
}

#[test]
fn shutdown_ends_asks_and_leaves_no_process() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let wait = Script::default().on("wait", vec![Step::Text("x".into()), Step::Wait(gate.path())]);
    let models = [bench.chat("a", &wait), bench.chat("b", &wait)];
    let mut answers = models.each_ref().map(|model| bench.submit(model, "wait"));
    for answer in &mut answers {
        read_text(answer, "x");
    }
    let pids: Vec<u32> = bench.engine.loaded().iter().map(|loaded| loaded.pid).collect();
    assert_eq!(pids.len(), 2);
    bench.engine.shutdown();
    assert!(pids.iter().all(|pid| !lives(*pid)), "{pids:?}");
    for answer in &mut answers {
        assert_eq!(Said::all(answer).fault().code, Code::Cancelled);
    }
    assert_eq!(bench.say(&models[0], "too late").fault().code, Code::Cancelled);
    bench.engine.shutdown();
}

#[test]
fn a_worker_that_does_not_listen_is_ended_at_shutdown() {
    let bench = Bench::with(|_, tuning| tuning.stop_ms = 200);
    let model = bench.chat("m", &Script::default().on("hang", vec![Step::Text("x".into()), Step::Hang]));
    let mut answer = bench.submit(&model, "hang");
    read_text(&mut answer, "x");
    let pid = bench.engine.loaded()[0].pid;
    // It still reads, so it would end when asked: stopped, it can't.
    let stopped = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("a process");
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).expect("it lives");
    bench.engine.shutdown();
    assert!(!lives(pid));
}

/// The first load may be testing backends: that is ended too.
#[test]
fn shutdown_ends_a_self_test_that_runs() {
    let bench = Bench::with(|config, _| SelfTestScript::Hang.write(&config.backends_dir.join("libggml-cpu-z.so")));
    let mut answer = bench.submit(&bench.chat("m", &Script::default()), "hello");
    let file = bench.home.join("backends/libggml-cpu-z.so");
    let file = file.to_str().expect("a plain path");
    let self_test = until("the self-test to run", || children_with(file).pop());
    bench.engine.shutdown();
    assert_eq!(Said::all(&mut answer).fault().code, Code::Cancelled);
    until("the self-test to end", || (!lives(self_test)).then_some(()));
}

/// Processes whose command line names a file in this test's own folder.
fn children_with(file: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux shows its processes").flatten();
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(file)
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(named).collect()
}

#[test]
fn an_engine_that_is_dropped_leaves_no_process() {
    let home = testkit::TempHome::new();
    let engine = Engine::start(crate::bench::config(&home)).expect("a thread is to be had");
    let model = testkit::TestModel::chat(&home.folder("models"), "m", &Script::default());
    let source = engine::ModelSource {
        name: model.name,
        parts: vec![model.path],
        facts: std::sync::Arc::new(model.facts),
        adapters: Vec::new(),
        draft: None,
        pinned: false,
    };
    Said::all(&mut engine.submit(source, ask("hello"))).is_well(DEFAULT);
    let pid = engine.loaded()[0].pid;
    drop(engine.clone());
    assert!(lives(pid));
    drop(engine);
    until("the worker to end", || (!lives(pid)).then_some(()));
}

#[test]
fn a_probe_reaches_the_worker_and_brings_back_its_answer() {
    let bench = Bench::new();
    let model = bench.chat("m", &Script::default().logged(&bench.log()));
    // The scripted worker is under no confinement, and says so.
    assert_eq!(bench.engine.probe(model, Attempt::OpenSocketInet).expect("an answer"), 0);
    assert!(lines(&bench.log()).iter().any(|line| line.starts_with("probe")));
}

#[test]
fn the_load_says_what_the_configuration_wants() {
    let bench = Bench::with(|config, _| {
        config.threads = Some(3);
        config.context_tokens = Some(1024);
    });
    let model = bench.chat("m", &Script::default().logged(&bench.log()));
    bench.say(&model, "hello").is_well(DEFAULT);
    assert!(bench.frames()[0].contains("embed=false context=1024 threads=3"), "{:?}", bench.frames());
}
