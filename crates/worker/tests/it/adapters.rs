//! Adapters with random weights on the starter model: they change what it says, and nobody else's.

use crate::harness::{Worker, begin, load, model};
use std::fs::File;
use std::path::{Path, PathBuf};
use testkit::gguf::{Gguf, Value};
use wire::{Begin, Directive, Load, WireFault};

/// Of the starter model.
const WIDTH: usize = 576;
const LAYERS: usize = 30;
const RANK: usize = 4;

/// Writes an adapter of the outputs of all attention layers; `width` other than the model's doesn't suit it.
fn adapter(folder: &Path, name: &str, width: usize, strength: f32) -> PathBuf {
    let mut seed = u64::from(strength.to_bits());
    let mut noise = |count: usize| -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0) * strength
        };
        (0..count).map(|_| next()).collect()
    };
    let mut file = Gguf::default()
        .set("general.architecture", Value::text("llama"))
        .set("general.type", Value::text("adapter"))
        .set("adapter.type", Value::text("lora"))
        .set("adapter.lora.alpha", Value::F32(RANK as f32));
    for layer in 0..LAYERS {
        let name = |end: &str| format!("blk.{layer}.attn_output.weight.{end}");
        let (wide, rank) = (width as u64, RANK as u64);
        file = file.tensor(&name("lora_a"), &[wide, rank], noise(width * RANK));
        file = file.tensor(&name("lora_b"), &[rank, wide], noise(width * RANK));
    }
    let path = folder.join(name);
    std::fs::write(&path, file.to_bytes()).unwrap();
    path
}

/// A worker that knows two adapters that suit its model and one that doesn't.
fn ready(folder: &Path) -> Worker {
    let files = [
        model(),
        adapter(folder, "first", WIDTH, 0.2),
        adapter(folder, "second", WIDTH, 0.35),
        adapter(folder, "foreign", 64, 0.2),
    ];
    let mut worker = Worker::start();
    let adapters = ["first", "second", "foreign"].map(str::to_owned).to_vec();
    let files: Vec<_> = files.iter().map(|path| File::open(path).unwrap().into()).collect();
    worker.load(&Load { adapters, ..load() }, &files).unwrap();
    worker
}

fn asked(job: u64, adapters: &[(u32, f32)]) -> Begin {
    Begin { adapters: adapters.to_vec(), ..begin(job, "The three largest rivers of Europe are", 24) }
}

#[test]
fn an_adapter_changes_what_is_said_and_nothing_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Worker::ready().generate(asked(1, &[])).unwrap().text;
    let mut worker = ready(folder.path());
    let mut say = |job, adapters: &[(u32, f32)]| worker.generate(asked(job, adapters)).unwrap().text;
    assert_eq!(say(1, &[]), plain);
    let (first, second) = (say(2, &[(0, 1.0)]), say(3, &[(1, 1.0)]));
    let both = say(4, &[(0, 1.0), (1, 1.0)]);
    let said = [&plain, &first, &second, &both];
    for (place, one) in said.iter().enumerate() {
        assert!(said[..place].iter().all(|other| other != one), "two sets say the same: {said:?}");
    }
    assert_eq!(say(5, &[(0, 1.0)]), first);
    assert_eq!(say(6, &[]), plain, "what one asks for changes nothing for the next");
    assert_eq!(say(7, &[(0, 0.0)]), plain, "none of it is the model without it");
}

#[test]
fn jobs_with_different_adapters_run_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = ready(folder.path());
    let sets: [&[(u32, f32)]; 4] = [&[], &[(0, 1.0)], &[(1, 1.0)], &[(0, 1.0)]];
    // Few tokens: what others keep in the pool changes the order of some sums, and with it, much later, a word.
    let asked = |job, set| Begin { tokens_max: 8, ..asked(job, set) };
    let alone: Vec<String> = (1..).zip(sets).map(|(job, set)| worker.generate(asked(job, set)).unwrap().text).collect();
    assert_eq!(alone[1], alone[3]);
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
    for (job, set) in (11..).zip(sets) {
        worker.begin(asked(job, set));
    }
    for (job, alone) in (11..).zip(&alone) {
        assert_eq!(&worker.finish(job).unwrap().text, alone, "job {job}");
    }
}

#[test]
fn an_adapter_that_does_not_suit_the_model_costs_only_who_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = ready(folder.path());
    let fault = worker.generate(asked(1, &[(2, 1.0)]));
    let Err(WireFault::AdapterUnfit { adapter, reason }) = fault else { panic!("{fault:?}") };
    assert!(adapter == "foreign" && reason.contains("shape"), "{adapter}: {reason}");
    worker.generate(asked(2, &[(0, 1.0)])).unwrap();
    let fault = worker.generate(asked(3, &[(3, 1.0)]));
    assert!(matches!(fault, Err(WireFault::Protocol(_))), "{fault:?}");
    worker.send(&Directive::Ping { nonce: 1 });
}
