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
    /// Bytes of 16-bit keys and values that one token takes; 0 when the header doesn't say.
    pub kv_bytes_per_token: u64,
    pub weights_bytes: u64,
    /// Width of the feed-forward part, of all experts together that a token takes; 0 when the header doesn't say.
    #[serde(default)]
    pub forward_length: u32,
    /// Of the weights, what a processor's backend may copy to rearrange it.
    #[serde(default)]
    pub copied_bytes: u64,
    /// Layers in their order, equal neighbours together; empty when the header's names aren't understood.
    #[serde(default)]
    pub layer_runs: Vec<LayerRun>,
    /// Weights that turn the last layer's result into scores; the vocabulary's own where they serve for both.
    #[serde(default)]
    pub output_bytes: u64,
    pub vocab_tokens: u32,
    /// The Jinja chat template, where there is one.
    pub chat_template: Option<String>,
    pub bos: Option<TokenText>,
    pub eos: Option<TokenText>,
    /// Whether the tokenizer itself adds the first token.
    pub add_bos: bool,
    /// Texts of all control tokens: none of them may be formed by a user's text.
    pub special_tokens: Vec<String>,
}
