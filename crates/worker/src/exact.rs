//! What a restored state is worth, for every family: its bytes are those that were saved, and the scores after it those of
//! a run that was never interrupted.

use crate::ffi::{Backend, Batch, Context, ContextOptions, Decoded, Model, ModelOptions, Token, install_log};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use testkit::family::{FAMILIES, Family, Kind};
use wire::KvCache;

/// A prompt, read in steps of these sizes; more than a window shows.
const STEPS: [usize; 3] = [128, 128, 45];
/// Tokens after it, whatever the scores say: some in one step, the others one by one.
const FORCED_TOGETHER: usize = 24;
const FORCED_ALONE: usize = 24;
/// Of the largest score. In the same cells nothing may differ.
const OFF_MAX: f32 = 0.0;
/// In other cells, beside another sequence: ggml's own attention adds up in 16 bits, by blocks of cells. Ours, for 512-bit
/// vectors, adds up the same wherever the cells lie.
const OFF_MOVED_MAX: f32 = 0.002;
/// A state of another text is further off than this.
const OFF_WRONG_MIN: f32 = 0.02;

/// A backend for this processor of those beside the worker; the baseline only where there is no other.
fn backend() -> Backend {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().find(|folder| folder.join("native").is_dir()).expect("`cargo xtask native` first");
    let files = std::fs::read_dir(target.join("native")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<PathBuf> = files.filter(|path| name(path).starts_with("libggml-cpu-")).collect();
    files.sort_by_key(|path| (name(path).contains("baseline"), name(path)));
    files.iter().find_map(|file| Backend::load(file).ok()).expect("a backend that this machine can run")
}

fn model(family: &Family, cpu: Backend, folder: &Path) -> Arc<Model> {
    let path = folder.join("family.gguf");
    std::fs::write(&path, family.gguf().to_bytes()).unwrap();
    let cpu = cpu.devices()[0];
    let options = ModelOptions { split: &[], cpu_experts: &[], cpu, bytes: 0, progress: &mut |_| true };
    Arc::new(Model::load(vec![File::open(path).unwrap().into()], options).unwrap())
}

fn context(model: &Arc<Model>, cpu: Backend) -> Context {
    let options = ContextOptions {
        context_tokens: 1024,
        sequences_max: 3,
        sequences_kept: 0,
        batch_tokens: 256,
        threads: 2,
        kv_on_gpu: false,
        kv_cache: KvCache::F16,
        embed: None,
        judges: false,
        whole_windows: false,
    };
    let mut context = Context::new(Arc::clone(model), options).unwrap();
    context.use_threads(cpu, 2, 1).unwrap();
    context
}

/// Numbers of tokens that stand for text, the same every time.
fn tokens(count: usize, mut seed: u64) -> Vec<Token> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        64 + i32::try_from((seed >> 33) % 60).unwrap()
    };
    (0..count).map(|_| next()).collect()
}

fn read(context: &mut Context, sequence: i32, from: usize, tokens: &[Token]) {
    let mut batch = Batch::default();
    for (at, token) in (from..).zip(tokens) {
        batch.add(*token, u32::try_from(at).unwrap(), sequence, at + 1 == from + tokens.len());
    }
    assert_eq!(context.decode(&mut batch), Decoded::Done);
}

/// Reads the prompt, and gives what it has read.
fn read_prompt(context: &mut Context, sequence: i32, seed: u64) -> usize {
    let prompt = tokens(STEPS.iter().sum(), seed);
    STEPS.iter().fold(0, |from, step| {
        read(context, sequence, from, &prompt[from..from + step]);
        from + step
    })
}

/// The scores after each step of a text that is given.
fn forced(context: &mut Context, sequence: i32, from: usize) -> Vec<f32> {
    let text = tokens(FORCED_TOGETHER + FORCED_ALONE, 99);
    let (together, alone) = text.split_at(FORCED_TOGETHER);
    let mut scores = Vec::new();
    read(context, sequence, from, together);
    scores.extend_from_slice(context.logits(FORCED_TOGETHER - 1).unwrap());
    for (at, token) in (from + FORCED_TOGETHER..).zip(alone) {
        read(context, sequence, at, &[*token]);
        scores.extend_from_slice(context.logits(0).unwrap());
    }
    scores
}

/// The largest difference, of the largest score.
fn off(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0_f32, |max, score| max.max(score.abs()));
    expected.iter().zip(found).fold(0_f32, |max, (one, other)| max.max((one - other).abs())) / largest
}

fn state(context: &mut Context, sequence: i32) -> Vec<u8> {
    let bytes = context.state_bytes(sequence);
    context.save_state(sequence, bytes).unwrap()
}

#[test]
fn every_family_goes_on_from_a_restored_state_as_if_nothing_had_been() {
    install_log();
    let (cpu, folder) = (backend(), tempfile::tempdir().unwrap());
    let ours = ["AVX512", "F16C"].iter().all(|needed| cpu.features().iter().any(|feature| feature == needed));
    let off_moved_max = if ours { OFF_MAX } else { OFF_MOVED_MAX };
    for family in FAMILIES.iter().filter(|family| family.kind != Kind::Embeds) {
        let name = family.name;
        let model = model(family, cpu, folder.path());
        let mut first = context(&model, cpu);
        let read = read_prompt(&mut first, 0, 1);
        let saved = state(&mut first, 0);
        let expected = forced(&mut first, 0, read);
        assert!(expected.iter().any(|score| *score != 0.0), "{name}");

        let mut again = context(&model, cpu);
        assert!(again.restore_state(0, &saved), "{name}");
        assert!(state(&mut again, 0) == saved, "{name}: other bytes come back");
        let same = off(&expected, &forced(&mut again, 0, read));
        assert!(same <= OFF_MAX, "{name}: {same}");

        // Beside somebody else's, in other cells, under another number.
        let mut busy = context(&model, cpu);
        read_prompt(&mut busy, 0, 2);
        assert!(busy.restore_state(1, &saved), "{name}");
        let moved = off(&expected, &forced(&mut busy, 1, read));
        assert!(moved <= off_moved_max, "{name}: {moved}");

        // Another state is another text: what is compared here would show it.
        let mut other = context(&model, cpu);
        read_prompt(&mut other, 0, 3);
        let wrong = off(&expected, &forced(&mut other, 0, read));
        assert!(wrong > OFF_WRONG_MIN, "{name}: {wrong}");
    }
}
