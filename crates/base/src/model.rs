//! Facts about a model, read from its file's header by safe code.

use serde::{Deserialize, Serialize};

/// A model's name as it stands in the store, for example `smollm2-135m-instruct:q4_1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelName(pub String);

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    Chat,
    Embed,
    /// Judges how well a document answers a query.
    Rerank,
    /// Changes what a model of its architecture says; runs only with one.
    Adapter,
}

/// A special token's id and text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText {
    pub id: u32,
    pub text: String,
}

/// Layers one after the other that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRun {
    pub layers: u32,
    /// Weights of one of them.
    pub bytes: u64,
    /// The part of these that are experts, of which a token needs only a few.
    pub expert_bytes: u64,
    /// Keys and values of one token in one of them, at 16 bits.
    pub kv_bytes_per_token: u64,
}

/// What a model's cache keeps: all tokens in some layers, the last ones in others, a state in place of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheShape {
    /// Bytes of one token in the layers that keep all of them, at 16 bits.
    pub per_token: u64,
    /// Bytes of one token in the layers that look back over a window only.
    pub windowed_per_token: u64,
    /// The window; 0: there is none.
    pub window_tokens: u32,
    /// Bytes of one sequence's state, in all layers that have one.
    pub state: u64,
}

/// The cache is laid out in blocks of so many cells.
const BLOCK_CELLS: u32 = 256;

impl CacheShape {
    /// Cells of the layers with a window in a pool of any size: enough for every sequence's window beside a step.
    /// 0: all layers keep all tokens.
    pub fn window_cells(&self, sequences: u32, step_tokens: u32) -> u32 {
        if self.windowed_per_token == 0 {
            return 0;
        }
        let cells = self.window_tokens.saturating_mul(sequences).saturating_add(step_tokens);
        cells.checked_next_multiple_of(BLOCK_CELLS).unwrap_or(u32::MAX)
    }

    /// Bytes of the whole cache at 16 bits, for a pool of so many tokens.
    pub fn bytes(&self, context_tokens: u32, sequences: u32, step_tokens: u32) -> u64 {
        let windowed = self.window_cells(sequences, step_tokens).min(context_tokens);
        let parts = [
            self.per_token.saturating_mul(context_tokens.into()),
            self.windowed_per_token.saturating_mul(windowed.into()),
            self.state.saturating_mul(sequences.into()),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// `general.architecture`: `llama`, `qwen3`, `bert` …
    pub arch: String,
    /// `general.name`, or empty.
    pub title: String,
    /// As stated in the file (`general.license`), or empty: then it is unknown, not free.
    pub license: String,
    /// The most common tensor type: `Q4_1`, `F16` …
    pub quantization: String,
    pub modality: Modality,
    pub parameters: u64,
    pub layers: u32,
    pub embedding_length: u32,
    /// The window that the model was trained with.
    pub context_max: u32,
    /// Bytes of 16-bit keys and values that one token takes, if every layer keeps it; 0 when the header doesn't say.
    pub kv_bytes_per_token: u64,
    /// What the cache really keeps; `None` when the header doesn't say, and for models without one.
    #[serde(default)]
    pub cache: Option<CacheShape>,
    pub weights_bytes: u64,
    /// Width of the feed-forward part, of all experts together that a token takes; 0 when the header doesn't say.
    #[serde(default)]
    pub forward_length: u32,
    /// Layers in their order, equal neighbours together; empty when the header's names aren't understood.
    #[serde(default)]
    pub layer_runs: Vec<LayerRun>,
    /// Weights that turn the last layer's result into scores; the vocabulary's own where they serve for both.
    #[serde(default)]
    pub output_bytes: u64,
    /// Vectors of the vocabulary that are only looked up, and never multiplied: little of them is ever in memory.
    #[serde(default)]
    pub lookup_bytes: u64,
    pub vocab_tokens: u32,
    /// The Jinja chat template, where there is one.
    pub chat_template: Option<String>,
    /// The one for conversations with tools, where the file has two.
    #[serde(default)]
    pub tool_template: Option<String>,
    pub bos: Option<TokenText>,
    pub eos: Option<TokenText>,
    /// Whether the tokenizer itself adds the first token.
    pub add_bos: bool,
    /// Texts of all control tokens: none of them may be formed by a user's text.
    pub special_tokens: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_room_for_every_sequence_and_a_step_and_no_more_than_the_pool() {
        let shape = CacheShape { per_token: 10, windowed_per_token: 100, window_tokens: 1000, state: 7 };
        assert_eq!(shape.window_cells(4, 512), 4608);
        assert_eq!(shape.bytes(8192, 4, 512), 81_920 + 460_800 + 28);
        assert_eq!(shape.bytes(2048, 4, 512), 20_480 + 204_800 + 28);
        let dense = CacheShape { per_token: 10, window_tokens: 1000, ..CacheShape::default() };
        assert_eq!((dense.window_cells(4, 512), dense.bytes(100, 4, 512)), (0, 1000));
        let absurd = CacheShape { windowed_per_token: u64::MAX, window_tokens: u32::MAX, ..shape };
        assert_eq!((absurd.window_cells(9, 9), absurd.bytes(9, 9, 9)), (u32::MAX, u64::MAX));
    }
}
