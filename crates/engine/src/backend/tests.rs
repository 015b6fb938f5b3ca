use super::*;
use wire::Product;

fn reply(device: &str, products: &[(&str, &str, bool, f64)]) -> Outcome {
    let products = products.iter().map(|(weights, path, correct, gops)| Product {
        weights: (*weights).into(),
        path: (*path).into(),
        error_relative: if *correct { 0.001 } else { 0.5 },
        correct: *correct,
        gops: *gops,
    });
    Outcome::Reply(SelfTest {
        backend: String::new(),
        devices: vec![wire::WireDevice {
            name: device.into(),
            description: device.into(),
            kind: wire::WireDeviceKind::Discrete,
            free_bytes: 1,
            total_bytes: 1,
        }],
        features: vec!["AVX2".into()],
        products: products.collect(),
    })
}

fn right(gops: f64) -> Outcome {
    reply("CPU", &[("F32", "CPU", true, 20.0), ("Q4_0", "CPU_REPACK", true, gops), ("Q8_0", "CPU", true, gops / 2.0)])
}

fn wrong() -> Outcome {
    reply("CPU", &[("F32", "CPU", true, 20.0), ("Q8_0", "AMX", false, 9000.0)])
}

/// Expected: the chosen file and each file's verdict, in order.
#[track_caller]
fn check(outcomes: &[(&str, Outcome)], chosen: Option<&str>, verdicts: &[Verdict]) -> Result<BackendChoice, Fault> {
    let names: Vec<String> = outcomes.iter().map(|(name, _)| (*name).to_owned()).collect();
    let of = |file: &str| outcomes.iter().find(|(name, _)| *name == file).expect("listed").1.clone();
    let given: Vec<_> =
        candidates(&names).into_iter().map(|candidate| (candidate.clone(), of(&candidate.file))).collect();
    let choice = choose(Path::new("/b"), &given);
    match (&choice, chosen) {
        (Ok(choice), Some(chosen)) => {
            assert_eq!(choice.chosen, Path::new("/b").join(chosen));
            assert_eq!(choice.tried.iter().map(|tried| tried.verdict).collect::<Vec<_>>(), verdicts);
        }
        (Err(fault), None) => assert_eq!(fault.code, Code::BackendFailed),
        (other, _) => panic!("{other:?}"),
    }
    choice
}

use Verdict::{Chosen, Died, Hung, Right, Slow, Wrong};

const BASELINE: &str = "libggml-cpu-baseline.so";
const SKYLAKE: &str = "libggml-cpu-skylakex.so";
const SAPPHIRE: &str = "libggml-cpu-sapphirerapids.so";

#[test]
fn only_backend_files_count() {
    let names = [
        "libggml.so",
        "libggml-base.so",
        "libllama.so",
        "libggml-cuda.so",
        "libggml-cpu-zen4.so",
        BASELINE,
        "libggml-cpu.so",
        "libggml-metal.dylib",
        "ggml-vulkan.dll",
        "libggml-cpu-zen4.so.0",
        "native.json",
        "libggml-rpc.so",
    ];
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let found: Vec<String> = candidates(&names).into_iter().map(|candidate| candidate.file).collect();
    assert_eq!(
        found,
        [
            BASELINE,
            "libggml-cpu-zen4.so",
            "libggml-cpu.so",
            "ggml-vulkan.dll",
            "libggml-cuda.so",
            "libggml-metal.dylib"
        ]
    );
}

#[test]
fn the_fastest_right_one_is_taken() {
    let choice = check(
        &[(BASELINE, right(30.0)), (SKYLAKE, right(400.0)), (SAPPHIRE, right(900.0))],
        Some(SAPPHIRE),
        &[Right, Chosen, Right],
    );
    let choice = choice.expect("checked");
    let best = choice.tried.iter().find(|tried| tried.verdict == Chosen).expect("one is chosen");
    assert!((best.over_baseline.expect("there is a baseline") - 30.0).abs() < 1e-9);
    let timed = best.products.iter().find(|timed| timed.weights == "Q4_0").expect("it was multiplied");
    assert_eq!((timed.path.as_str(), timed.gops, timed.over_baseline), ("CPU_REPACK", 900.0, Some(30.0)));
    assert!(best.detail.contains("Q4_0 900 (CPU_REPACK)"), "{}", best.detail);
}

/// Measured on a machine with four compilers at work: the same kernels, some of them robbed of their time.
#[test]
fn noise_in_one_product_does_not_turn_the_choice() {
    let base = [
        ("F32", "CPU", true, 8.0),
        ("Q4_1", "CPU", true, 10.7),
        ("Q8_0", "CPU", true, 57.0),
        ("Q4_K", "CPU", true, 8.4),
    ];
    let robbed = [
        ("F32", "CPU", true, 25.0),
        ("Q4_1", "CPU", true, 20.6),
        ("Q8_0", "CPU", true, 16.8),
        ("Q4_K", "CPU", true, 54.0),
    ];
    let _ =
        check(&[(BASELINE, reply("CPU", &base)), (SKYLAKE, reply("CPU", &robbed))], Some(SKYLAKE), &[Right, Chosen]);
    // Within the noise, the variant that was built for the processor is believed.
    let _ = check(&[(BASELINE, right(30.0)), (SKYLAKE, right(28.0))], Some(SKYLAKE), &[Right, Chosen]);
}

#[test]
fn of_two_tests_the_faster_counts_and_the_failed() {
    let (slow, fast) = (right(10.0), right(90.0));
    assert_eq!(merge(slow.clone(), fast.clone()), fast);
    assert_eq!(merge(fast.clone(), slow), fast);
    let died = Outcome::Died("ended by SIGILL".into());
    assert_eq!(merge(fast.clone(), died.clone()), died);
    assert_eq!(judge("x", &merge(fast.clone(), wrong())).verdict, Wrong);
    assert_eq!(judge("x", &merge(wrong(), fast)).verdict, Wrong);
}

#[test]
fn one_that_dies_lies_or_hangs_gives_way_to_the_next() {
    let died = Outcome::Died("ended by SIGILL".into());
    let choice = check(
        &[(BASELINE, right(30.0)), (SKYLAKE, right(400.0)), (SAPPHIRE, died)],
        Some(SKYLAKE),
        &[Right, Died, Chosen],
    );
    assert!(choice.expect("checked").tried[1].detail.contains("SIGILL"));
    let choice = check(&[(BASELINE, right(30.0)), (SKYLAKE, wrong())], Some(BASELINE), &[Chosen, Wrong]);
    let detail = choice.expect("checked").tried[1].detail.clone();
    assert!(detail.contains("Q8_0") && detail.contains("AMX") && detail.contains("50.0 %"), "{detail}");
    let _ =
        check(&[(BASELINE, right(30.0)), (SKYLAKE, Outcome::Hung { limit_ms: 100 })], Some(BASELINE), &[Chosen, Hung]);
    let _ = check(&[(BASELINE, right(30.0)), (SKYLAKE, reply("CPU", &[]))], Some(BASELINE), &[Chosen, Wrong]);
}

#[test]
fn a_variant_slower_than_the_baseline_and_a_gpu_slower_than_the_processor_are_left() {
    let _ = check(&[(BASELINE, right(30.0)), (SKYLAKE, right(20.0))], Some(BASELINE), &[Chosen, Slow]);
    let gpu = |gops| reply("CUDA0", &[("Q8_0", "CUDA0", true, gops)]);
    let choice = check(
        &[(BASELINE, right(30.0)), (SKYLAKE, right(400.0)), ("libggml-cuda.so", gpu(90.0))],
        Some(SKYLAKE),
        &[Right, Chosen, Slow],
    );
    assert!(choice.expect("checked").tried[2].detail.contains("no faster than the processor"));
    let choice = check(
        &[(BASELINE, right(30.0)), (SKYLAKE, right(400.0)), ("libggml-cuda.so", gpu(9000.0))],
        Some("libggml-cuda.so"),
        &[Right, Right, Chosen],
    );
    let choice = choice.expect("checked");
    assert!(choice.gpu);
    assert_eq!(choice.cpu, Path::new("/b").join(SKYLAKE));
}

#[test]
fn when_none_passes_the_fault_says_how_each_failed() {
    let died = Outcome::Died("ended by SIGSEGV".into());
    let fault = check(&[(BASELINE, died), (SKYLAKE, wrong())], None, &[]).expect_err("checked");
    assert!(fault.to_string().contains("none of 2") && fault.to_string().contains("SIGSEGV"), "{fault}");
    let gpu = reply("CUDA0", &[("Q8_0", "CUDA0", true, 900.0)]);
    let _ = check(&[("libggml-cuda.so", gpu)], None, &[]);
    let empty = check(&[], None, &[]).expect_err("checked");
    assert!(empty.message.contains("/b") && !empty.hints.is_empty());
}

#[test]
fn a_backend_without_a_device_is_no_failure() {
    let nothing = SelfTest { backend: String::new(), devices: vec![], features: vec![], products: vec![] };
    let tried = judge("libggml-vulkan.so", &Outcome::Reply(nothing));
    assert_eq!(tried.verdict, Verdict::NoDevice);
    assert!(tried.detail.contains("no device"), "{tried:?}");
}
