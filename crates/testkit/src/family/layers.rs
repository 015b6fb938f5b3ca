//! Parts that families have in common.

use super::{Build, WORDS};

pub(super) const WIDTH: u64 = 128;
pub(super) const INNER: u64 = 256;
pub(super) const HEADS: u64 = 4;
pub(super) const KEPT: u64 = 2;
pub(super) const HEAD: u64 = 64;
/// Tokens that a sliding window shows.
pub(super) const WINDOW: u64 = 32;
/// Longest text that the files say they were made for.
pub(super) const TRAINED: u64 = 4096;
pub(super) const EXPERTS: u64 = 4;
const USED: u64 = 2;
pub(super) const EXPERT: u64 = 64;
/// Of one head of a latent attention: what turns with the place, and what is compressed.
pub(super) const TURNING: u64 = 32;
pub(super) const LATENT: u64 = 64;

/// Sizes of a state: heads of keys and of values, each as wide as [`STATE`].
pub(super) const STATE: u64 = 64;
pub(super) const STATE_KEYS: u64 = 2;
pub(super) const STATE_VALUES: u64 = 4;
pub(super) const STATE_INNER: u64 = STATE_VALUES * STATE;
const KERNEL: u64 = 4;
/// What goes through the short convolution before a state: two of keys' width, one of values'.
const MIXED: u64 = 2 * STATE_KEYS * STATE + STATE_INNER;

/// Scores this much larger than what comes out of the last norm: some tokens are then clearly likelier.
const SCORES: f32 = 3.0;
/// Questions to keys: larger than usual, so that attention picks some tokens out and doesn't just take the mean.
const ASKING: f32 = 2.0;
/// What attention adds to the rest: less than usual. llama.cpp adds it up in 16 bits, and with more of it the errors
/// alone would soon choose other tokens. A wrong past still changes one of three.
pub(super) const ATTENDING: f32 = 0.25;

/// How an attention's questions and keys are brought to size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Normed {
    No,
    Yes,
    /// Their product isn't divided by the root of their length.
    Undivided,
}

impl Build {
    /// Keys that every architecture reads.
    pub(super) fn sizes(&mut self, layers: u64) {
        self.number("block_count", layers);
        self.number("context_length", TRAINED);
        self.number("embedding_length", WIDTH);
        self.number("feed_forward_length", INNER);
        self.float("attention.layer_norm_rms_epsilon", 1e-6);
        self.number("vocab_size", WORDS);
        self.vocabulary();
    }

    pub(super) fn heads(&mut self, heads: u64, kept: u64) {
        self.number("attention.head_count", heads);
        self.number("attention.head_count_kv", kept);
        self.head(HEAD, HEAD);
    }

    pub(super) fn head(&mut self, key: u64, value: u64) {
        self.number("attention.key_length", key);
        self.number("attention.value_length", value);
        self.float("rope.freq_base", 10_000.0);
    }

    pub(super) fn expert_sizes(&mut self) {
        self.number("expert_count", EXPERTS);
        self.number("expert_used_count", USED);
        self.number("expert_feed_forward_length", EXPERT);
    }

    pub(super) fn state_sizes(&mut self, groups: u64) {
        self.number("ssm.conv_kernel", KERNEL);
        self.number("ssm.inner_size", STATE_INNER);
        self.number("ssm.state_size", STATE);
        self.number("ssm.time_step_rank", STATE_VALUES);
        self.number("ssm.group_count", groups);
    }

    /// The first and the last tensors. `spread`: of a token's vector, where the model makes it larger itself.
    pub(super) fn ends(&mut self, last_norm: &str, spread: f32) {
        self.around("token_embd.weight", &[WIDTH, WORDS], 0.0, spread);
        self.norm(last_norm, WIDTH);
        self.wide("output", &[WIDTH, WORDS], SCORES);
    }

    /// Goes through the layers. What `each` names belongs to the layer that it is given.
    pub(super) fn layers(&mut self, count: u64, mut each: impl FnMut(&mut Self, u64)) {
        for layer in 0..count {
            self.layer = Some(layer);
            each(self, layer);
        }
        self.layer = None;
    }

    /// Attention with `heads` heads of width `head`, of which keys and values have `kept`. `asked`: how many times
    /// as wide the questions are, where a gate is among them.
    pub(super) fn attention(&mut self, heads: u64, kept: u64, head: u64, asked: u64, normed: Normed) {
        self.wide("attn_q", &[WIDTH, heads * head * asked], ASKING);
        self.wide("attn_k", &[WIDTH, kept * head], ASKING);
        self.matrix("attn_v", &[WIDTH, kept * head]);
        self.wide("attn_output", &[heads * head, WIDTH], ATTENDING);
        let size = match normed {
            Normed::No => return,
            Normed::Yes => ASKING,
            Normed::Undivided => ASKING / (head as f32).sqrt().sqrt(),
        };
        self.around("attn_q_norm.weight", &[head], size, 0.1 * size);
        self.around("attn_k_norm.weight", &[head], size, 0.1 * size);
    }

    pub(super) fn forward(&mut self) {
        self.matrix("ffn_gate", &[WIDTH, INNER]);
        self.matrix("ffn_up", &[WIDTH, INNER]);
        self.matrix("ffn_down", &[INNER, WIDTH]);
    }

    pub(super) fn experts(&mut self) {
        self.wide("ffn_gate_inp", &[WIDTH, EXPERTS], 2.0);
        self.matrix("ffn_gate_exps", &[WIDTH, EXPERT, EXPERTS]);
        self.matrix("ffn_up_exps", &[WIDTH, EXPERT, EXPERTS]);
        self.matrix("ffn_down_exps", &[EXPERT, WIDTH, EXPERTS]);
    }

    /// The expert that sees every token.
    pub(super) fn shared_expert(&mut self) {
        self.matrix("ffn_gate_shexp", &[WIDTH, EXPERT]);
        self.matrix("ffn_up_shexp", &[WIDTH, EXPERT]);
        self.matrix("ffn_down_shexp", &[EXPERT, WIDTH]);
    }

    /// Latent attention: keys and values are made from one compressed vector, which is what the cache keeps.
    pub(super) fn latent_sizes(&mut self) {
        self.number("attention.kv_lora_rank", LATENT);
        self.number("attention.key_length_mla", HEAD + TURNING);
        self.number("attention.value_length_mla", HEAD);
        self.number("rope.dimension_count", TURNING);
        self.head(LATENT + TURNING, LATENT);
    }

    pub(super) fn latent(&mut self) {
        self.matrix("attn_kv_a_mqa", &[WIDTH, LATENT + TURNING]);
        self.norm("attn_kv_a_norm", LATENT);
        self.matrix("attn_k_b", &[HEAD, LATENT, HEADS]);
        self.matrix("attn_v_b", &[LATENT, HEAD, HEADS]);
        self.wide("attn_output", &[HEADS * HEAD, WIDTH], ATTENDING);
    }

    /// A gated delta net, as Qwen's hybrids have it. `joint`: its two gates are one tensor.
    pub(super) fn delta_net(&mut self, joint: bool) {
        self.matrix("attn_qkv", &[WIDTH, MIXED]);
        self.matrix("attn_gate", &[WIDTH, STATE_INNER]);
        self.matrix("ssm_conv1d", &[KERNEL, MIXED]);
        self.bias("ssm_dt", &[STATE_VALUES]);
        self.around("ssm_a", &[STATE_VALUES], -0.3, 0.05);
        if joint {
            self.matrix("ssm_ba", &[WIDTH, 2 * STATE_VALUES]);
        } else {
            self.matrix("ssm_beta", &[WIDTH, STATE_VALUES]);
            self.matrix("ssm_alpha", &[WIDTH, STATE_VALUES]);
        }
        self.norm("ssm_norm", STATE);
        self.matrix("ssm_out", &[STATE_INNER, WIDTH]);
    }

    /// Kimi's delta attention.
    pub(super) fn delta_attention(&mut self) {
        let all = HEADS * HEAD;
        for name in ["attn_q", "attn_k", "attn_v"] {
            self.matrix(name, &[WIDTH, all]);
        }
        for name in ["ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"] {
            self.matrix(name, &[KERNEL, 1, all]);
        }
        self.matrix("ssm_f_a", &[WIDTH, HEAD]);
        self.matrix("ssm_f_b", &[HEAD, all]);
        self.matrix("ssm_beta", &[WIDTH, HEADS]);
        self.around("ssm_a", &[1, HEADS], -0.3, 0.05);
        self.bias("ssm_dt", &[all]);
        self.matrix("ssm_g_a", &[WIDTH, HEAD]);
        self.matrix("ssm_g_b", &[HEAD, all]);
        self.norm("ssm_norm", HEAD);
        self.matrix("attn_output", &[all, WIDTH]);
    }

    /// A selective state, as Mamba 2 has it.
    pub(super) fn selective(&mut self, groups: u64) {
        let mixed = STATE_INNER + 2 * groups * STATE;
        self.matrix("ssm_in", &[WIDTH, STATE_INNER + mixed + STATE_VALUES]);
        self.matrix("ssm_conv1d", &[KERNEL, mixed]);
        self.bias("ssm_conv1d", &[mixed]);
        self.bias("ssm_dt", &[STATE_VALUES]);
        self.around("ssm_a", &[1, STATE_VALUES], -0.3, 0.05);
        self.around("ssm_d", &[1, STATE_VALUES], 1.0, 0.2);
        self.around("ssm_norm.weight", &[STATE_INNER / groups, groups], 1.0, 0.2);
        self.matrix("ssm_out", &[STATE_INNER, WIDTH]);
    }
}
