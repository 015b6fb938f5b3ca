//! Choosing a backend by self-tests in child processes.

use crate::bench::{Bench, DEFAULT, config};
use base::Code;
use engine::{Engine, Verdict};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use testkit::{Script, SelfTestScript, Step, TempHome};

const SIGILL: i32 = 4;

fn verdicts(bench: &Bench) -> Vec<(String, Verdict)> {
    let choice = bench.engine.backends().expect("one passes");
    choice.tried.into_iter().map(|tried| (tried.file, tried.verdict)).collect()
}

#[track_caller]
fn check(extra: &[(&str, SelfTestScript)], expected: &[(&str, Verdict)]) {
    let bench = Bench::with(|config, tuning| {
        tuning.self_test_ms = 5_000;
        for (name, script) in extra {
            script.write(&config.backends_dir.join(name));
        }
    });
    let expected: Vec<(String, Verdict)> = expected.iter().map(|(name, verdict)| ((*name).into(), *verdict)).collect();
    assert_eq!(verdicts(&bench), expected);
}

const BASELINE: &str = "libggml-cpu-baseline.so";

#[test]
fn a_backend_that_dies_lies_or_is_slow_gives_way() {
    let gpu = SelfTestScript::Right { device: "CUDA0".into(), features: Vec::new(), f32_gops: 1.0, int8_gops: 5000.0 };
    check(
        &[
            ("libggml-cpu-a.so", SelfTestScript::Die(SIGILL)),
            ("libggml-cpu-b.so", SelfTestScript::Wrong),
            ("libggml-cpu-c.so", SelfTestScript::right(10.0)),
            ("libggml-cpu-d.so", SelfTestScript::right(700.0)),
            ("libggml-cpu-e.so", SelfTestScript::Garbage),
            ("libggml-cpu-f.so", SelfTestScript::Exit(7)),
        ],
        &[
            (BASELINE, Verdict::Right),
            ("libggml-cpu-a.so", Verdict::Died),
            ("libggml-cpu-b.so", Verdict::Wrong),
            ("libggml-cpu-c.so", Verdict::Slow),
            ("libggml-cpu-d.so", Verdict::Chosen),
            ("libggml-cpu-e.so", Verdict::Died),
            ("libggml-cpu-f.so", Verdict::Died),
        ],
    );
    check(
        &[("libggml-cuda.so", gpu), ("libggml-vulkan.so", SelfTestScript::Die(SIGILL))],
        &[(BASELINE, Verdict::Right), ("libggml-cuda.so", Verdict::Chosen), ("libggml-vulkan.so", Verdict::Died)],
    );
}

#[test]
fn a_self_test_that_hangs_is_ended() {
    let bench = Bench::with(|config, tuning| {
        tuning.self_test_ms = 700;
        SelfTestScript::Hang.write(&config.backends_dir.join("libggml-cpu-z.so"));
    });
    let choice = bench.engine.backends().expect("the baseline passes");
    let hung = choice.tried.iter().find(|tried| tried.verdict == Verdict::Hung).expect("one hangs");
    assert!(hung.detail.contains("700 ms"), "{hung:?}");
}

#[test]
fn the_signal_stands_in_the_detail_and_the_load_names_the_chosen_file() {
    let bench = Bench::with(|config, _| {
        SelfTestScript::Die(SIGILL).write(&config.backends_dir.join("libggml-cpu-a.so"));
    });
    let choice = bench.engine.backends().expect("the baseline passes");
    assert!(choice.tried[1].detail.contains("SIGILL"), "{choice:?}");
    assert!(choice.chosen.ends_with(BASELINE) && !choice.gpu);
    assert_eq!(choice.devices, ["CPU"]);
}

/// Another script in a backend's file, which looks the same from outside.
fn swap_in_secret(file: &Path, script: &SelfTestScript) {
    let facts = std::fs::metadata(file).expect("it is there");
    script.write(file);
    let written = std::fs::metadata(file).expect("it is there").len();
    let padding = usize::try_from(facts.len() - written).expect("it is shorter");
    let mut open = File::options().append(true).open(file).expect("it can be written to");
    open.write_all(&vec![b' '; padding]).expect("it can be written to");
    open.set_modified(facts.modified().expect("a time")).expect("a time can be set");
}

#[track_caller]
fn check_retest(fails: Step) {
    let fast = "libggml-cpu-a.so";
    let bench = Bench::with(|config, _| SelfTestScript::right(90.0).write(&config.backends_dir.join(fast)));
    assert!(bench.engine.backends().expect("both pass").chosen.ends_with(fast));
    let script = Script::default().loading(vec![Step::Unless(BASELINE.into(), Box::new(fails))]).logged(&bench.log());
    let model = bench.chat("m", &script);
    swap_in_secret(&bench.home.join("backends").join(fast), &SelfTestScript::Die(SIGILL));
    // The ask that meets it is answered all the same.
    bench.say(&model, "hello").is_well(DEFAULT);
    assert!(bench.engine.backends().expect("one passes").chosen.ends_with(BASELINE));
    let loads: Vec<String> = bench.frames().into_iter().filter(|line| line.starts_with("load")).collect();
    // Names, and no paths: what lies beside the worker is known there by another path at times.
    assert_eq!(loads.len(), 2);
    assert!(loads[0].ends_with("backends=[\"libggml-cpu-a.so\"]"), "{loads:?}");
    assert!(loads[1].ends_with("backends=[\"libggml-cpu-baseline.so\"]"), "{loads:?}");
}

#[test]
fn a_backend_that_fails_at_a_load_is_tested_again() {
    check_retest(Step::BackendFailed("no CUDA device".into()));
    check_retest(Step::Die(SIGILL));
}

#[test]
fn a_backend_that_keeps_failing_is_a_fault() {
    let bench = Bench::new();
    let script = Script::default().loading(vec![Step::BackendFailed("no such thing".into())]).logged(&bench.log());
    let said = bench.say(&bench.chat("m", &script), "hello");
    assert_eq!(said.fault().code, Code::BackendFailed);
    assert_eq!(bench.frames().len(), 2, "{:?}", bench.frames());
}

/// Devices come and go: what a GPU's test said counts for this daemon's life only.
#[test]
fn a_gpu_is_tested_anew_in_every_life() {
    let home = TempHome::new();
    let config = config(&home);
    let gpu = SelfTestScript::Right { device: "CUDA0".into(), features: Vec::new(), f32_gops: 1.0, int8_gops: 5000.0 };
    let file = config.backends_dir.join("libggml-cuda.so");
    gpu.write(&file);
    let uses_gpu = || Engine::start(config.clone()).expect("a thread is to be had").backends().expect("one passes").gpu;
    assert!(uses_gpu());
    swap_in_secret(&file, &SelfTestScript::Exit(1));
    assert!(!uses_gpu());
}

#[test]
fn without_a_backend_that_passes_nothing_is_loaded() {
    let bench = Bench::with(|config, _| SelfTestScript::Wrong.write(&config.backends_dir.join(BASELINE)));
    let said = bench.say(&bench.chat("m", &Script::default()), "hello");
    assert_eq!(said.fault().code, Code::BackendFailed);
    assert!(said.fault().to_string().contains("Q8_0") && !said.fault().hints.is_empty(), "{said:?}");
}

#[test]
fn a_missing_worker_is_named_with_what_to_do() {
    let bench = Bench::with(|config, _| config.worker = config.state_dir.join("not-there"));
    let said = bench.say(&bench.chat("m", &Script::default()), "hello");
    assert_eq!(said.fault().code, Code::WorkerMissing);
    assert!(said.fault().message.contains("not-there") && said.fault().hints[0].contains("./try"), "{said:?}");
}

/// A result is kept until something that it depends on changes.
#[test]
fn results_are_remembered_by_size_and_time_of_the_file() {
    let home = TempHome::new();
    let config = config(&home);
    let file = config.backends_dir.join(BASELINE);
    let gops = || {
        let engine = Engine::start(config.clone()).expect("a thread is to be had");
        engine.backends().expect("it passes").tried[0].products[1].gops
    };
    assert!((gops() - 50.0).abs() < f64::EPSILON);
    let kept = config.state_dir.join("backends.json");
    let mode = std::fs::metadata(&kept).expect("it was kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::metadata(&file).and_then(|facts| facts.modified()).expect("a time");
    SelfTestScript::right(70.0).write(&file);
    File::options().append(true).open(&file).and_then(|open| open.set_modified(before)).expect("a time can be set");
    assert!((gops() - 50.0).abs() < f64::EPSILON, "the same size and time: remembered");
    SelfTestScript::right(80.0).write(&file);
    assert!((gops() - 80.0).abs() < f64::EPSILON, "another time: tested again");
    std::fs::write(&kept, b"{ half a fi").expect("it can be damaged");
    assert!((gops() - 80.0).abs() < f64::EPSILON, "what can't be read is tested anew");
}
