//! What headers say, and what they are refused for.

use super::*;
use crate::gguf::read;
use crate::gguf::write::{Layout, Value as W};
use proptest::prelude::*;
use std::io::Cursor;

fn text(text: &str) -> W {
    W::Text(text.to_owned())
}

fn texts(texts: &[&str]) -> W {
    W::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// The least that a chat model's header holds.
fn llama() -> Vec<(&'static str, W)> {
    vec![
        ("general.architecture", text("llama")),
        ("llama.block_count", W::U32(4)),
        ("llama.context_length", W::U32(2048)),
        ("llama.embedding_length", W::U32(64)),
        ("llama.attention.head_count", W::U32(8)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.tokens", texts(&["<|end|>", "a", "<|user|>", "<b>", "</s>", "\t\t"])),
        ("tokenizer.ggml.token_type", W::I32s(vec![3, 1, 4, 4, 1, 4])),
    ]
}

fn with(mut values: Vec<(&'static str, W)>, more: &[(&'static str, W)]) -> Vec<(&'static str, W)> {
    for (key, value) in more {
        values.retain(|(other, _)| other != key);
        values.push((key, value.clone()));
    }
    values
}

fn without(mut values: Vec<(&'static str, W)>, key: &str) -> Vec<(&'static str, W)> {
    values.retain(|(other, _)| *other != key);
    values
}

fn facts_of(values: &[(&'static str, W)]) -> Result<ModelFacts, FactsError> {
    facts_in(&file_of(values))
}

fn file_of(values: &[(&'static str, W)]) -> Vec<u8> {
    let layout = values.iter().fold(Layout::default(), |layout, (key, value)| layout.value(key, value.clone()));
    let layout = layout.tensor("a", TensorKind::F32, &[8]).tensor("b", TensorKind::Q8_0, &[64, 4]);
    let mut body = layout.begin(Vec::new()).unwrap();
    body.data(&[0; 32]).unwrap();
    body.data(&[0; 272]).unwrap();
    body.finish().unwrap()
}

fn facts_in(bytes: &[u8]) -> Result<ModelFacts, FactsError> {
    let size = bytes.len() as u64;
    let header = read(Cursor::new(bytes), size)?;
    let mut weights = Weights::default();
    weights.add(&header);
    facts(&header, Cursor::new(bytes), size, &weights)
}

#[test]
fn a_plain_header_becomes_facts() {
    let values = with(
        llama(),
        &[
            ("general.name", text("Tiny")),
            ("general.license", text("mit")),
            ("tokenizer.ggml.bos_token_id", W::U32(0)),
            ("tokenizer.ggml.eos_token_id", W::U32(4)),
            ("tokenizer.chat_template", text("<|user|>{{ messages[0].content }}<|end|>")),
            ("tokenizer.chat_template.tool_use", text("{{ tools }}")),
        ],
    );
    let facts = facts_of(&values).unwrap();
    assert_eq!((facts.arch.as_str(), facts.title.as_str(), facts.license.as_str()), ("llama", "Tiny", "mit"));
    assert_eq!((facts.modality, facts.quantization.as_str()), (Modality::Chat, "Q8_0"));
    assert_eq!((facts.parameters, facts.weights_bytes), (8 + 256, 32 + 272));
    assert_eq!((facts.layers, facts.context_max, facts.vocab_tokens), (4, 2048, 6));
    // Eight heads of 8 numbers, keys and values, 2 bytes each, 4 layers.
    assert_eq!(facts.kv_bytes_per_token, 8 * (8 + 8) * 2 * 4);
    assert_eq!(facts.tool_template.as_deref(), Some("{{ tools }}"));
    assert_eq!(facts.bos.unwrap().text, "<|end|>");
    assert_eq!(facts.eos.unwrap(), TokenText { id: 4, text: "</s>".into() });
    // Control, the template's own mark, and the end; not `<b>` and not the tabs.
    assert_eq!(facts.special_tokens, ["<|end|>", "<|user|>", "</s>"]);
    assert!(!facts.add_bos);
}

#[test]
fn what_llama_cpp_takes_for_a_control_token_is_one_whatever_the_file_says() {
    let values = with(
        llama(),
        &[
            ("tokenizer.ggml.tokens", texts(&["<unk>", "a", "<|im_end|>", "<b>", "<｜end▁of▁sentence｜>", "im_end"])),
            ("tokenizer.ggml.token_type", W::I32s(vec![2, 1, 1, 1, 4, 1])),
        ],
    );
    assert_eq!(facts_of(&values).unwrap().special_tokens, ["<unk>", "<|im_end|>", "<｜end▁of▁sentence｜>"]);
}

#[test]
fn keys_and_values_per_token_follow_the_attention_s_shape() {
    let heads = |kind: W| ("llama.attention.head_count_kv", kind);
    let length = |name: &'static str, length| (name, W::U32(length));
    for (name, more, want) in [
        ("grouped", vec![heads(W::U32(2))], 2 * 16 * 2 * 4),
        ("per layer, some recurrent", vec![heads(W::I32s(vec![2, 0, 2, 0]))], 2 * 16 * 2 * 2),
        (
            "own lengths",
            vec![
                heads(W::U32(2)),
                length("llama.attention.key_length", 20),
                length("llama.attention.value_length", 12),
            ],
            2 * 32 * 2 * 4,
        ),
        ("one layer in four", vec![heads(W::U32(2)), length("llama.full_attention_interval", 4)], 2 * 16 * 2),
        (
            "named recurrent layers",
            vec![heads(W::U32(2)), ("llama.attention.recurrent_layers", W::I32s(vec![1, 1, 1, 0]))],
            2 * 16 * 2,
        ),
        (
            "latent: keys alone",
            vec![
                heads(W::U32(1)),
                length("llama.attention.key_length", 576),
                length("llama.attention.value_length", 512),
                length("llama.attention.key_length_mla", 192),
                length("llama.attention.value_length_mla", 128),
            ],
            576 * 2 * 4,
        ),
        ("too few layers named", vec![heads(W::I32s(vec![2, 2]))], 8 * 16 * 2 * 4),
        ("no heads at all", vec![length("llama.attention.head_count", 0)], 0),
        ("absurd lengths", vec![length("llama.attention.key_length", u32::MAX)], 8 * (u64::from(u32::MAX) + 8) * 8),
    ] {
        assert_eq!(facts_of(&with(llama(), &more)).unwrap().kv_bytes_per_token, want, "{name}");
    }
    let silent = without(llama(), "llama.attention.head_count");
    assert_eq!(facts_of(&silent).unwrap().kv_bytes_per_token, 0);
}

#[test]
fn what_makes_vectors_is_told_from_what_chats() {
    let pooling = |kind| with(llama(), &[("llama.pooling_type", W::U32(kind))]);
    assert_eq!(facts_of(&pooling(0)).unwrap().modality, Modality::Chat);
    for kind in 1..=3 {
        assert_eq!(facts_of(&pooling(kind)).unwrap().modality, Modality::Embed);
    }
    assert_eq!(facts_of(&pooling(4)).unwrap().modality, Modality::Rerank);
    let bert = with(
        llama(),
        &[
            ("general.architecture", text("bert")),
            ("bert.block_count", W::U32(4)),
            ("bert.context_length", W::U32(512)),
            ("bert.embedding_length", W::U32(64)),
            ("bert.attention.head_count", W::U32(8)),
            ("tokenizer.ggml.model", text("bert")),
        ],
    );
    let facts = facts_of(&bert).unwrap();
    assert_eq!((facts.modality, facts.kv_bytes_per_token, facts.add_bos), (Modality::Embed, 0, true));
}

#[test]
fn the_first_token_is_added_as_the_engine_would() {
    let tokenizer = |model: &str, pre: &str| {
        with(llama(), &[("tokenizer.ggml.model", text(model)), ("tokenizer.ggml.pre", text(pre))])
    };
    for (model, pre, want) in
        [("llama", "default", true), ("gpt2", "llama-bpe", true), ("gpt2", "qwen2", false), ("t5", "default", false)]
    {
        assert_eq!(facts_of(&tokenizer(model, pre)).unwrap().add_bos, want, "{model} {pre}");
    }
    let said = with(tokenizer("llama", "default"), &[("tokenizer.ggml.add_bos_token", W::Bool(false))]);
    assert!(!facts_of(&said).unwrap().add_bos);
}

#[test]
fn files_that_are_no_models_are_named_for_what_they_are() {
    let typed = |kind: &str| with(llama(), &[("general.type", text(kind))]);
    for (values, word) in [
        (without(llama(), "general.architecture"), "`general.architecture`"),
        (without(llama(), "llama.block_count"), "`llama.block_count`"),
        (without(llama(), "llama.context_length"), "`llama.context_length`"),
        (without(llama(), "tokenizer.ggml.tokens"), "`tokenizer.ggml.tokens`"),
        (with(llama(), &[("llama.block_count", text("four"))]), "`llama.block_count`"),
        (with(llama(), &[("llama.block_count", W::U32(u32::MAX))]), "4294967295"),
        (with(llama(), &[("llama.context_length", W::I32(-1))]), "`llama.context_length`"),
        (with(llama(), &[("tokenizer.ggml.token_type", W::I32s(vec![3]))]), "6 tokens but types for 1"),
        (with(llama(), &[("tokenizer.ggml.token_type", texts(&["x"]))]), "`tokenizer.ggml.token_type`"),
        (with(llama(), &[("general.architecture", text("clip"))]), "picture part"),
        (typed("adapter"), "adapter"),
        (typed("mmproj"), "picture part"),
        (typed("imatrix"), "statistics"),
    ] {
        let sentence = facts_of(&values).unwrap_err().to_string();
        assert!(sentence.contains(word), "{sentence}");
    }
}

/// An adapter's header with one tensor of this name.
fn adapter(kind: &str, tensor: &str) -> Result<ModelFacts, FactsError> {
    let values =
        [("general.architecture", text("llama")), ("general.type", text("adapter")), ("adapter.type", text(kind))];
    let layout = values.iter().fold(Layout::default(), |layout, (key, value)| layout.value(key, value.clone()));
    let mut body = layout.tensor(tensor, TensorKind::F32, &[8]).begin(Vec::new()).unwrap();
    body.data(&[0; 32]).unwrap();
    facts_in(&body.finish().unwrap())
}

#[test]
fn an_adapter_is_known_by_what_it_changes() {
    let facts = adapter("lora", "blk.0.attn_q.weight.lora_a").unwrap();
    assert_eq!((facts.arch.as_str(), facts.modality, facts.layers), ("llama", Modality::Adapter, 0));
    assert_eq!((facts.parameters, facts.weights_bytes), (8, 32));
    let odd = adapter("lora", "blk.0.attn_q.weight").unwrap_err().to_string();
    assert!(odd.contains("`blk.0.attn_q.weight`"), "{odd}");
    assert!(adapter("control_vector", "direction.1").unwrap_err().to_string().contains("LoRA"));
}

#[test]
fn token_numbers_outside_the_vocabulary_are_no_tokens() {
    let values = with(llama(), &[("tokenizer.ggml.bos_token_id", W::U32(u32::MAX))]);
    assert_eq!(facts_of(&values).unwrap().bos, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let template = text("<|user|>{{ messages[0].content }}<|end|>");
        let mut bytes = file_of(&with(llama(), &[("tokenizer.chat_template", template)]));
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = facts_in(&bytes);
    }
}

#[test]
fn weights_are_known_by_their_layers_and_experts() {
    let mut weights = Weights::default();
    for (name, bytes) in [
        ("token_embd.weight", 1000),
        ("output_norm.weight", 8),
        ("output.weight", 900),
        ("blk.0.attn_q.weight", 50),
        ("blk.0.ffn_up.weight", 70),
        ("blk.1.attn_q.weight", 50),
        ("blk.1.ffn_up_exps.weight", 400),
        ("blk.1.ffn_up_shexp.weight", 20),
        ("blk.2.attn_q.weight", 50),
        ("blk.2.ffn_up_exps.weight", 400),
        ("blk.2.ffn_up_shexp.weight", 20),
        ("blk.99.attn_q.weight", 5),
        ("rope_freqs.weight", 3),
    ] {
        weights.place(name, bytes);
    }
    let run = |layers, bytes, expert_bytes| LayerRun { layers, bytes, expert_bytes, kv_bytes_per_token: 16 };
    assert_eq!(weights.layer_runs(&[16; 3]), [run(1, 120, 0), run(2, 470, 400)]);
    assert_eq!(weights.output_bytes(), 908);
    assert_eq!(weights.lookup_bytes(), 1000);
    // One tensor for both ends.
    let mut tied = Weights::default();
    tied.place("token_embd.weight", 1000);
    tied.place("output_norm.weight", 8);
    assert_eq!((tied.output_bytes(), tied.layer_runs(&[16; 3])), (1008, vec![]));
}
