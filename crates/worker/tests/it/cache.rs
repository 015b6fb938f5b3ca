//! Keys and values in packed types: what they hold, what they cost, and who can't have them.

use crate::harness::{Worker, begin, chat, load, model};
use testkit::gguf::{Gguf, Value};
use wire::{Begin, KvCache, Load, WireFault};

fn packed(kv_cache: KvCache) -> Load {
    Load { kv_cache, ..load() }
}

#[test]
fn a_packed_cache_answers_sensibly_and_the_same_way_beside_others() {
    let answer = |kv_cache| {
        let (mut worker, _) = Worker::with(&packed(kv_cache), &model());
        let asked = |job| Begin {
            prompt: vec![chat("What is the capital of France? Answer with one word.")],
            ..begin(job, "", 8)
        };
        let first = worker.generate(asked(1)).unwrap().text;
        assert_eq!(worker.generate(asked(2)).unwrap().text, first);
        first
    };
    let whole = answer(KvCache::F16);
    assert!(whole.contains("Paris"), "{whole}");
    let half = answer(KvCache::Q8_0);
    assert!(half.contains("Paris"), "{half}");
}

/// The whole cache is written when it is made, so a larger window is larger in memory at once.
#[test]
fn a_packed_cache_takes_as_many_bytes_as_are_counted_for_it() {
    let growth = |kv_cache| {
        let resident = |context_tokens| {
            let (_worker, ready) = Worker::with(&Load { context_tokens, ..packed(kv_cache) }, &model());
            ready.room.resident_bytes
        };
        resident(8192).saturating_sub(resident(2048)) as f64
    };
    let whole = growth(KvCache::F16);
    // 30 layers, 3 shared heads of 64, keys and values of two bytes.
    let expected = 6144.0 * 30.0 * 3.0 * 64.0 * 2.0 * 2.0;
    assert!((whole / expected - 1.0).abs() < 0.1, "{whole} bytes and not {expected}");
    for kv_cache in [KvCache::Q8_0, KvCache::Q4_0] {
        let share = kv_cache.block_bytes() as f64 / KvCache::F16.block_bytes() as f64;
        let found = growth(kv_cache) / whole;
        assert!((found - share).abs() < 0.06, "{kv_cache:?} takes {found} of the whole, counted is {share}");
    }
}

/// A model of one layer whose heads are 16 numbers wide: no packed type fits them.
fn narrow() -> Gguf {
    let text = Value::text;
    let (width, wide, words) = (64_u64, 128_u64, 32_u64);
    let values = |count: u64| (0..count).map(|i| (i % 13) as f32 / 100.0).collect();
    let mut file = Gguf::default()
        .set("general.architecture", text("llama"))
        .set("general.file_type", Value::U32(0))
        .set("llama.block_count", Value::U32(1))
        .set("llama.context_length", Value::U32(256))
        .set("llama.embedding_length", Value::U32(64))
        .set("llama.feed_forward_length", Value::U32(128))
        .set("llama.attention.head_count", Value::U32(4))
        .set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
        .set("llama.rope.dimension_count", Value::U32(16))
        .set("llama.vocab_size", Value::U32(32))
        .set("tokenizer.ggml.model", text("no_vocab"));
    for (name, shape) in [
        ("token_embd", vec![width, words]),
        ("output_norm", vec![width]),
        ("blk.0.attn_norm", vec![width]),
        ("blk.0.attn_q", vec![width, width]),
        ("blk.0.attn_k", vec![width, width]),
        ("blk.0.attn_v", vec![width, width]),
        ("blk.0.attn_output", vec![width, width]),
        ("blk.0.ffn_norm", vec![width]),
        ("blk.0.ffn_gate", vec![width, wide]),
        ("blk.0.ffn_up", vec![width, wide]),
        ("blk.0.ffn_down", vec![wide, width]),
    ] {
        file = file.tensor(&format!("{name}.weight"), &shape, values(shape.iter().product()));
    }
    file
}

#[test]
fn a_model_that_can_t_have_a_packed_cache_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("narrow.gguf");
    std::fs::write(&path, narrow().to_bytes()).unwrap();
    let mut worker = Worker::start();
    let fault = worker.load(&packed(KvCache::Q8_0), &[std::fs::File::open(&path).unwrap().into()]);
    let Err(WireFault::KvCacheUnfit { kv_cache: KvCache::Q8_0, reason }) = fault else {
        panic!("{fault:?}");
    };
    assert!(reason.contains("16"), "the reason names the width of a head: {reason}");
    let mut worker = Worker::start();
    let fits = worker.load(&packed(KvCache::F16), &[std::fs::File::open(&path).unwrap().into()]);
    assert!(fits.is_ok(), "{fits:?}");
}
