//! Each family's own mixture of layers, by the names and shapes that llama.cpp asks for.

use super::layers::{
    ATTENDING, EXPERT, EXPERTS, HEAD, HEADS, INNER, KEPT, LATENT, Normed, STATE_KEYS, TURNING, WIDTH, WINDOW,
};
use super::{Build, Value};

/// What `expert_gating_func` calls a sigmoid.
const SIGMOID: u64 = 2;
/// Of a hybrid, every so many layers attend.
const EVERY: u64 = 4;

fn attends(layer: u64) -> bool {
    layer % EVERY == EVERY - 1
}

/// All layers alike.
fn dense(b: &mut Build, normed: Normed, forward: impl Fn(&mut Build)) {
    b.sizes(3);
    b.heads(HEADS, KEPT);
    b.number("rope.dimension_count", HEAD);
    b.ends("output_norm", 1.0);
    b.layers(3, |b, _| {
        b.norm("attn_norm", WIDTH);
        b.attention(HEADS, KEPT, HEAD, 1, normed);
        b.norm("ffn_norm", WIDTH);
        forward(b);
    });
}

pub(super) fn llama(b: &mut Build) {
    dense(b, Normed::No, Build::forward);
}

pub(super) fn mistral3(b: &mut Build) {
    dense(b, Normed::No, Build::forward);
}

pub(super) fn qwen3(b: &mut Build) {
    dense(b, Normed::Yes, Build::forward);
}

pub(super) fn qwen3moe(b: &mut Build) {
    b.expert_sizes();
    dense(b, Normed::Yes, Build::experts);
}

/// Three layers with a state, one that attends; `forward` names what follows.
fn qwen_hybrid(b: &mut Build, joint: bool, forward: impl Fn(&mut Build)) {
    b.sizes(EVERY);
    b.heads(HEADS, KEPT);
    b.number("rope.dimension_count", HEAD / 2);
    b.number("full_attention_interval", EVERY);
    b.state_sizes(STATE_KEYS);
    b.ends("output_norm", 1.0);
    b.layers(EVERY, |b, layer| {
        b.norm("attn_norm", WIDTH);
        if attends(layer) {
            // Half of what the questions hold is a gate.
            b.attention(HEADS, KEPT, HEAD, 2, Normed::Yes);
        } else {
            b.delta_net(joint);
        }
        b.norm("post_attention_norm", WIDTH);
        forward(b);
    });
}

fn experts_beside_a_shared_one(b: &mut Build) {
    b.experts();
    b.wide("ffn_gate_inp_shexp", &[WIDTH], 1.0);
    b.shared_expert();
}

pub(super) fn qwen3next(b: &mut Build) {
    b.expert_sizes();
    b.number("expert_shared_feed_forward_length", EXPERT);
    qwen_hybrid(b, true, experts_beside_a_shared_one);
}

pub(super) fn qwen35(b: &mut Build) {
    b.numbers("rope.dimension_sections", &[6, 5, 5, 0]);
    qwen_hybrid(b, false, Build::forward);
}

pub(super) fn qwen35moe(b: &mut Build) {
    b.numbers("rope.dimension_sections", &[6, 5, 5, 0]);
    b.expert_sizes();
    b.number("expert_shared_feed_forward_length", EXPERT);
    qwen_hybrid(b, false, experts_beside_a_shared_one);
}

/// The model itself multiplies a token's vector by the root of its length.
fn token_spread() -> f32 {
    1.0 / (WIDTH as f32).sqrt()
}

pub(super) fn gemma3(b: &mut Build) {
    b.sizes(6);
    b.heads(HEADS, KEPT);
    b.number("rope.dimension_count", HEAD);
    b.number("attention.sliding_window", WINDOW);
    b.ends("output_norm", token_spread());
    b.layers(6, |b, _| {
        b.norm("attn_norm", WIDTH);
        b.attention(HEADS, KEPT, HEAD, 1, Normed::Yes);
        b.around("post_attention_norm.weight", &[WIDTH], ATTENDING, 0.2 * ATTENDING);
        b.norm("ffn_norm", WIDTH);
        b.forward();
        b.norm("post_ffw_norm", WIDTH);
    });
}

pub(super) fn gemma4(b: &mut Build) {
    /// Layers with a window, of five; the last two use keys and values of those before.
    const SLIDES: [bool; 5] = [true, true, false, true, false];
    const SHARED: u64 = 2;
    const PER_LAYER: u64 = 32;
    let count = SLIDES.len() as u64;
    b.sizes(count);
    b.heads(HEADS, 1);
    b.head(2 * HEAD, 2 * HEAD);
    b.number("attention.key_length_swa", HEAD);
    b.number("attention.value_length_swa", HEAD);
    b.number("rope.dimension_count", 2 * HEAD);
    b.number("rope.dimension_count_swa", HEAD);
    b.number("attention.sliding_window", WINDOW);
    b.numbers("attention.sliding_window_pattern", &SLIDES.map(i32::from));
    b.number("attention.shared_kv_layers", SHARED);
    b.number("embedding_length_per_layer_input", PER_LAYER);
    b.float("final_logit_softcapping", 30.0);
    b.ends("output_norm", token_spread());
    b.around("per_layer_token_embd.weight", &[PER_LAYER * count, super::WORDS], 0.0, 0.2);
    b.matrix("per_layer_model_proj", &[WIDTH, PER_LAYER * count]);
    b.norm("per_layer_proj_norm", PER_LAYER);
    b.around("rope_freqs.weight", &[HEAD], 1.0, 0.01);
    b.layers(count, |b, layer| {
        let slides = SLIDES[layer as usize];
        let head = if slides { HEAD } else { 2 * HEAD };
        b.norm("attn_norm", WIDTH);
        b.attention(HEADS, 1, head, 1, Normed::Undivided);
        b.around("post_attention_norm.weight", &[WIDTH], ATTENDING, 0.2 * ATTENDING);
        b.norm("ffn_norm", WIDTH);
        b.forward();
        b.norm("post_ffw_norm", WIDTH);
        b.matrix("inp_gate", &[WIDTH, PER_LAYER]);
        b.matrix("proj", &[PER_LAYER, WIDTH]);
        b.norm("post_norm", WIDTH);
    });
}

/// A dense layer first, then experts with a bias that balances them.
fn dense_then_experts(b: &mut Build, layer: u64) {
    b.norm("ffn_norm", WIDTH);
    if layer == 0 {
        b.forward();
    } else {
        b.experts();
        b.bias("exp_probs_b", &[EXPERTS]);
        b.shared_expert();
    }
}

fn balanced_expert_sizes(b: &mut Build) {
    b.expert_sizes();
    b.number("expert_shared_count", 1);
    b.number("expert_gating_func", SIGMOID);
    b.number("leading_dense_block_count", 1);
    b.float("expert_weights_scale", 1.0);
}

pub(super) fn deepseek2(b: &mut Build) {
    b.sizes(3);
    b.number("attention.head_count", HEADS);
    b.number("attention.head_count_kv", 1);
    b.latent_sizes();
    b.number("attention.q_lora_rank", LATENT);
    balanced_expert_sizes(b);
    b.ends("output_norm", 1.0);
    b.layers(3, |b, layer| {
        b.norm("attn_norm", WIDTH);
        b.matrix("attn_q_a", &[WIDTH, LATENT]);
        b.norm("attn_q_a_norm", LATENT);
        b.wide("attn_q_b", &[LATENT, HEADS * (HEAD + TURNING)], 2.0);
        b.latent();
        dense_then_experts(b, layer);
    });
}

pub(super) fn glm4moe(b: &mut Build) {
    /// Files name one layer more, which predicts a token further; here its tensors are left out, as some files do.
    const AHEAD: u64 = 1;
    b.sizes(3 + AHEAD);
    b.number("nextn_predict_layers", AHEAD);
    b.heads(HEADS, KEPT);
    b.number("rope.dimension_count", HEAD / 2);
    balanced_expert_sizes(b);
    b.ends("output_norm", 1.0);
    b.layers(3, |b, layer| {
        b.norm("attn_norm", WIDTH);
        b.attention(HEADS, KEPT, HEAD, 1, Normed::No);
        for (name, heads) in [("attn_q", HEADS), ("attn_k", KEPT), ("attn_v", KEPT)] {
            b.bias(name, &[heads * HEAD]);
        }
        b.norm("post_attention_norm", WIDTH);
        if layer == 0 {
            b.forward();
        } else {
            b.experts();
            b.bias("exp_probs_b", &[EXPERTS]);
            b.shared_expert();
        }
    });
}

pub(super) fn kimi_linear(b: &mut Build) {
    b.sizes(EVERY);
    b.number("attention.head_count", HEADS);
    let kept: Vec<i32> = (0..EVERY).map(|layer| i32::from(attends(layer))).collect();
    b.numbers("attention.head_count_kv", &kept);
    b.latent_sizes();
    b.number("ssm.conv_kernel", 4);
    b.number("kda.head_dim", HEAD);
    balanced_expert_sizes(b);
    b.ends("output_norm", 1.0);
    b.layers(EVERY, |b, layer| {
        b.norm("attn_norm", WIDTH);
        if attends(layer) {
            b.wide("attn_q", &[WIDTH, HEADS * (HEAD + TURNING)], 2.0);
            b.latent();
        } else {
            b.delta_attention();
        }
        dense_then_experts(b, layer);
    });
}

pub(super) fn gpt_oss(b: &mut Build) {
    b.sizes(4);
    b.heads(HEADS, KEPT);
    b.number("rope.dimension_count", HEAD);
    b.number("attention.sliding_window", WINDOW);
    b.expert_sizes();
    b.ends("output_norm", 1.0);
    b.layers(4, |b, _| {
        b.norm("attn_norm", WIDTH);
        b.attention(HEADS, KEPT, HEAD, 1, Normed::No);
        for (name, length) in
            [("attn_q", HEADS * HEAD), ("attn_k", KEPT * HEAD), ("attn_v", KEPT * HEAD), ("attn_output", WIDTH)]
        {
            b.bias(name, &[length]);
        }
        b.around("attn_sinks.weight", &[HEADS], 0.0, 0.5);
        b.norm("post_attention_norm", WIDTH);
        b.experts();
        b.bias("ffn_gate_inp", &[EXPERTS]);
        b.bias("ffn_gate_exps", &[EXPERT, EXPERTS]);
        b.bias("ffn_up_exps", &[EXPERT, EXPERTS]);
        b.bias("ffn_down_exps", &[WIDTH, EXPERTS]);
    });
}

pub(super) fn lfm2(b: &mut Build) {
    /// Heads that keys and values have in each layer; 0: a short convolution.
    const KEPT_BY_LAYER: [i32; 4] = [0, 0, 1, 0];
    const KERNEL: u64 = 3;
    b.sizes(4);
    b.number("attention.head_count", WIDTH / HEAD);
    b.numbers("attention.head_count_kv", &KEPT_BY_LAYER);
    b.head(HEAD, HEAD);
    b.number("shortconv.l_cache", KERNEL);
    b.ends("token_embd_norm", 1.0);
    b.layers(4, |b, layer| {
        b.norm("attn_norm", WIDTH);
        if KEPT_BY_LAYER[layer as usize] > 0 {
            b.attention(WIDTH / HEAD, 1, HEAD, 1, Normed::Yes);
        } else {
            b.matrix("shortconv.conv", &[KERNEL, WIDTH]);
            b.matrix("shortconv.in_proj", &[WIDTH, 3 * WIDTH]);
            b.matrix("shortconv.out_proj", &[WIDTH, WIDTH]);
        }
        b.norm("ffn_norm", WIDTH);
        b.forward();
    });
}

pub(super) fn mamba2(b: &mut Build) {
    b.sizes(4);
    b.number("feed_forward_length", 0);
    b.number("attention.head_count", 0);
    b.state_sizes(1);
    b.ends("output_norm", 1.0);
    b.layers(4, |b, _| {
        b.norm("attn_norm", WIDTH);
        b.selective(1);
    });
}

pub(super) fn granitehybrid(b: &mut Build) {
    const KEPT_BY_LAYER: [i32; 4] = [0, 0, 2, 0];
    b.sizes(4);
    b.number("attention.head_count", HEADS);
    b.numbers("attention.head_count_kv", &KEPT_BY_LAYER);
    b.head(HEAD, HEAD);
    b.number("rope.dimension_count", HEAD);
    b.state_sizes(1);
    for key in ["logit_scale", "residual_scale", "embedding_scale"] {
        b.float(key, 1.0);
    }
    b.float("attention.scale", 1.0 / (HEAD as f32).sqrt());
    b.ends("output_norm", 1.0);
    b.layers(4, |b, layer| {
        b.norm("attn_norm", WIDTH);
        match KEPT_BY_LAYER[layer as usize] {
            0 => b.selective(1),
            _ => b.attention(HEADS, KEPT, HEAD, 1, Normed::No),
        }
        b.norm("ffn_norm", WIDTH);
        b.forward();
    });
}

pub(super) fn bert(b: &mut Build) {
    const LONGEST: u64 = 64;
    const MARKS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words: Vec<String> =
        MARKS.map(str::to_owned).into_iter().chain(super::EMBED_WORDS.map(|word| format!("▁{word}"))).collect();
    let count = words.len() as u64;
    for (key, value) in [
        ("block_count", 2),
        ("context_length", LONGEST),
        ("embedding_length", WIDTH),
        ("feed_forward_length", INNER),
        ("attention.head_count", HEADS),
        // Their mean.
        ("pooling_type", 1),
    ] {
        b.number(key, value);
    }
    b.float("attention.layer_norm_epsilon", 1e-5);
    b.own("attention.causal", Value::Bool(false));
    b.set("tokenizer.ggml.model", Value::text("bert"));
    b.set("tokenizer.ggml.pre", Value::text("default"));
    b.set("tokenizer.ggml.token_type_count", Value::U32(2));
    let kinds = words.iter().map(|word| if word.starts_with('[') { 3 } else { 1 }).collect();
    b.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    b.set("tokenizer.ggml.tokens", Value::Texts(words));
    for (key, place) in
        [("padding", 0), ("unknown", 1), ("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("mask", 4)]
    {
        b.set(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(place));
    }
    let normed = |b: &mut Build, name: &str| {
        b.norm(name, WIDTH);
        b.bias(name, &[WIDTH]);
    };
    b.around("token_embd.weight", &[WIDTH, count], 0.0, 1.0);
    b.around("token_types.weight", &[WIDTH, 2], 0.0, 0.3);
    b.around("position_embd.weight", &[WIDTH, LONGEST], 0.0, 0.5);
    normed(b, "token_embd_norm");
    b.layers(2, |b, _| {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            b.wide(name, &[WIDTH, WIDTH], 1.5);
            b.bias(name, &[WIDTH]);
        }
        normed(b, "attn_output_norm");
        b.matrix("ffn_up", &[WIDTH, INNER]);
        b.bias("ffn_up", &[INNER]);
        b.matrix("ffn_down", &[INNER, WIDTH]);
        b.bias("ffn_down", &[WIDTH]);
        normed(b, "layer_output_norm");
    });
}
