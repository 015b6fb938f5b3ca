//! What a checked header says about the model: pure reading, no judgement about the machine.

mod cache;

use crate::gguf::{self, Array, GgufError, Header, TensorKind, Value, ValueKind};
use base::{LayerRun, Modality, ModelFacts, TokenText};
use cache::Kept;
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};
use thiserror::Error;

/// Control tokens of one model; the largest vocabularies reserve some thousands.
const SPECIAL_TOKENS_MAX: usize = 65_536;
const SPECIAL_BYTES_MAX: usize = 1 << 20;
const TOKEN_BYTES_MAX: u64 = 4_096;
/// Products of token count and template length above this aren't searched: all tokens count as special then.
const TEMPLATE_SEARCH_MAX: usize = 1 << 28;

/// `tokenizer.ggml.token_type`
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Tokens of these texts are control tokens to llama.cpp whatever the file says: ends of turns, marks for
/// filling in code, and a few marks of one family.
const CONTROL_BY_NAME: [&str; 61] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|eom_id|>",
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|constrain|>",
];

/// Architectures that only ever make vectors.
const ENCODERS: [&str; 11] = [
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "eurobert",
    "jina-bert-v2",
    "jina-bert-v3",
    "t5encoder",
    "gemma-embedding",
    "llama-embed",
];
/// Architectures that come as a companion of a model and aren't one.
const COMPANIONS: [(&str, &str); 2] =
    [("clip", "the picture part of a model"), ("imatrix", "a quantizer's statistics")];

/// A whole file that isn't a model which can be run.
#[derive(Debug, Error)]
pub enum FactsError {
    #[error("its header doesn't say `{0}`")]
    Missing(String),
    #[error("`{key}` says {value}, at most {max} is believed")]
    Absurd { key: String, value: u64, max: u64 },
    #[error("it is {0}")]
    NotAModel(&'static str),
    #[error("it is an adapter and holds the tensor `{0}`, which is none of an adapter's")]
    OddTensor(String),
    #[error("it holds a vocabulary but no weights")]
    NoWeights,
    #[error("it has {tokens} tokens but types for {kinds} of them")]
    TokenKinds { tokens: u64, kinds: u64 },
    #[error("it has more than {SPECIAL_TOKENS_MAX} control tokens, or more than {SPECIAL_BYTES_MAX} bytes of them")]
    TooManySpecial,
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

/// Tensor sizes, summed over all parts of a split model.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    pub parameters: u64,
    pub bytes: u64,
    bytes_by_kind: BTreeMap<TensorKind, u64>,
    /// All weights of a layer, and the experts among them.
    by_layer: BTreeMap<u32, (u64, u64)>,
    output: u64,
    vocabulary: u64,
}

impl Weights {
    pub fn add(&mut self, header: &Header) {
        for tensor in &header.tensors {
            self.parameters = self.parameters.saturating_add(tensor.elements());
            self.bytes = self.bytes.saturating_add(tensor.bytes);
            let of_kind = self.bytes_by_kind.entry(tensor.kind).or_default();
            *of_kind = of_kind.saturating_add(tensor.bytes);
            self.place(&tensor.name, tensor.bytes);
        }
    }

    /// By the names that llama.cpp gives to tensors of every architecture.
    fn place(&mut self, name: &str, bytes: u64) {
        if let Some((number, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            let Ok(number) = number.parse::<u32>() else { return };
            let expert = rest.starts_with("ffn_") && rest.contains("_exps");
            let (all, experts) = self.by_layer.entry(number).or_default();
            *all = all.saturating_add(bytes);
            *experts = experts.saturating_add(if expert { bytes } else { 0 });
        } else if name.starts_with("output") {
            self.output = self.output.saturating_add(bytes);
        } else if name == "token_embd.weight" {
            self.vocabulary = bytes;
        }
    }

    /// Where no scores of its own are in the file, the vocabulary's vectors serve for both.
    fn output_bytes(&self) -> u64 {
        self.output.saturating_add(self.vocabulary - self.lookup_bytes())
    }

    fn lookup_bytes(&self) -> u64 {
        if self.output > self.vocabulary / 4 { self.vocabulary } else { 0 }
    }

    /// Empty when no tensor is named after a layer.
    fn layer_runs(&self, kv_bytes: &[u64]) -> Vec<LayerRun> {
        let mut runs: Vec<LayerRun> = Vec::new();
        if self.by_layer.is_empty() {
            return runs;
        }
        for (number, kv_bytes_per_token) in (0..).zip(kv_bytes.iter().copied()) {
            let (bytes, expert_bytes) = self.by_layer.get(&number).copied().unwrap_or_default();
            let layer = LayerRun { layers: 1, bytes, expert_bytes, kv_bytes_per_token };
            match runs.last_mut().filter(|last| LayerRun { layers: 1, ..**last } == layer) {
                Some(last) => last.layers += 1,
                None => runs.push(layer),
            }
        }
        runs
    }

    /// The type that most bytes are of.
    fn quantization(&self) -> String {
        let most = self.bytes_by_kind.iter().max_by_key(|(_, bytes)| **bytes);
        most.map(|(kind, _)| kind.name().to_owned()).unwrap_or_default()
    }
}

/// Width of the feed-forward part that one token takes: of all its experts, where there are some.
fn forward_length(header: &Header, arch: &str, layers: u32) -> u32 {
    let number = |name: &str| header.number::<u32>(&format!("{arch}.{name}")).unwrap_or(0);
    let dense = header.per_layer(&format!("{arch}.feed_forward_length"), layers);
    let dense = dense.and_then(|widths| widths.into_iter().max()).unwrap_or(0);
    let experts = number("expert_feed_forward_length").saturating_mul(number("expert_used_count"));
    let experts = experts.saturating_add(number("expert_shared_feed_forward_length"));
    u32::try_from(dense).unwrap_or(u32::MAX).max(experts)
}

/// Fills the facts from the first part's `header`; `source` is read again for token texts.
pub fn facts<R: Read + Seek>(
    header: &Header,
    mut source: R,
    size: u64,
    weights: &Weights,
) -> Result<ModelFacts, FactsError> {
    let arch = header.text("general.architecture").ok_or_else(|| missing("general.architecture"))?.to_owned();
    if let Some((_, what)) = COMPANIONS.iter().find(|(name, _)| *name == arch) {
        return Err(FactsError::NotAModel(what));
    }
    match header.text("general.type") {
        Some("adapter") => return adapter(header, arch, weights),
        Some("mmproj") => return Err(FactsError::NotAModel("the picture part of a model")),
        Some("imatrix") => return Err(FactsError::NotAModel("a quantizer's statistics")),
        _ => {}
    }
    if weights.bytes == 0 {
        return Err(FactsError::NoWeights);
    }
    let layers = bounded(header, &format!("{arch}.block_count"), 16_384)?;
    let embedding_length = bounded(header, &format!("{arch}.embedding_length"), 1 << 20)?;
    let context_max = bounded(header, &format!("{arch}.context_length"), 1 << 30)?;
    let modality = modality(header, &arch)?;
    let chat_template = header.text("tokenizer.chat_template").map(str::to_owned);
    let tool_template = header.text("tokenizer.chat_template.tool_use").map(str::to_owned);
    let tokens = header.array("tokenizer.ggml.tokens").filter(|tokens| tokens.kind == ValueKind::Text);
    let tokens = tokens.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    let templates: String = chat_template.iter().chain(&tool_template).map(String::as_str).collect();
    let special = Special::read(header, &mut source, size, tokens, &templates)?;
    let kept = Kept::read(header, &arch, layers, embedding_length);
    let kv_bytes = kept.as_ref().map(Kept::kv_bytes);
    Ok(ModelFacts {
        title: header.text("general.name").unwrap_or_default().to_owned(),
        license: header.text("general.license").unwrap_or_default().to_owned(),
        quantization: weights.quantization(),
        modality,
        parameters: weights.parameters,
        layers,
        embedding_length,
        context_max,
        kv_bytes_per_token: kv_bytes
            .as_ref()
            .map_or(0, |each| each.iter().fold(0, |sum: u64, one| sum.saturating_add(*one))),
        cache: kept.as_ref().map(Kept::shape),
        weights_bytes: weights.bytes,
        forward_length: forward_length(header, &arch, layers),
        layer_runs: weights.layer_runs(&kv_bytes.unwrap_or_else(|| vec![0; layers as usize])),
        output_bytes: weights.output_bytes(),
        lookup_bytes: weights.lookup_bytes(),
        vocab_tokens: u32::try_from(tokens.count).unwrap_or(u32::MAX),
        chat_template,
        tool_template,
        bos: special.bos,
        eos: special.eos,
        add_bos: add_bos(header),
        special_tokens: special.texts,
        arch,
    })
}

/// An adapter has no words, no layers and no window of its own: those are its model's.
fn adapter(header: &Header, arch: String, weights: &Weights) -> Result<ModelFacts, FactsError> {
    let kind = header.text("adapter.type").ok_or_else(|| missing("adapter.type"))?;
    if kind != "lora" {
        return Err(FactsError::NotAModel("an adapter of another kind than LoRA"));
    }
    if weights.bytes == 0 {
        return Err(FactsError::NoWeights);
    }
    let odd = |name: &str| ![".lora_a", ".lora_b", "_norm.weight"].iter().any(|end| name.ends_with(end));
    if let Some(tensor) = header.tensors.iter().find(|tensor| odd(&tensor.name)) {
        return Err(FactsError::OddTensor(tensor.name.clone()));
    }
    Ok(ModelFacts {
        title: header.text("general.name").unwrap_or_default().to_owned(),
        license: header.text("general.license").unwrap_or_default().to_owned(),
        quantization: weights.quantization(),
        modality: Modality::Adapter,
        parameters: weights.parameters,
        layers: 0,
        embedding_length: 0,
        context_max: 0,
        kv_bytes_per_token: 0,
        cache: None,
        weights_bytes: weights.bytes,
        layer_runs: Vec::new(),
        output_bytes: 0,
        lookup_bytes: 0,
        forward_length: 0,
        vocab_tokens: 0,
        chat_template: None,
        tool_template: None,
        bos: None,
        eos: None,
        add_bos: false,
        special_tokens: Vec::new(),
        arch,
    })
}

fn missing(key: &str) -> FactsError {
    FactsError::Missing(key.to_owned())
}

fn bounded(header: &Header, key: &str, max: u32) -> Result<u32, FactsError> {
    let value: u64 = header.number(key).ok_or_else(|| missing(key))?;
    u32::try_from(value).ok().filter(|value| *value <= max).ok_or(FactsError::Absurd {
        key: key.to_owned(),
        value,
        max: max.into(),
    })
}

/// An encoder, or a decoder whose file says how its outputs become one vector, makes vectors.
fn modality(header: &Header, arch: &str) -> Result<Modality, FactsError> {
    match header.number::<u32>(&format!("{arch}.pooling_type")) {
        Some(4) => Ok(Modality::Rerank),
        Some(1..=3) => Ok(Modality::Embed),
        _ if ENCODERS.contains(&arch) => Ok(Modality::Embed),
        _ => Ok(Modality::Chat),
    }
}

/// As the file says, else as the engine decides by kind of tokenizer.
fn add_bos(header: &Header) -> bool {
    header.boolean("tokenizer.ggml.add_bos_token").unwrap_or_else(|| match header.text("tokenizer.ggml.model") {
        Some("llama" | "bert" | "gemma4") => true,
        Some("gpt2") => matches!(
            header.text("tokenizer.ggml.pre"),
            Some(
                "llama3"
                    | "llama-v3"
                    | "llama-bpe"
                    | "falcon3"
                    | "falcon-h1"
                    | "pixtral"
                    | "midm-2.0"
                    | "lfm2"
                    | "jina-v5-nano"
                    | "tekken"
                    | "chameleon"
            )
        ),
        _ => false,
    })
}

/// Tokens that structure a prompt and must never be formed by a user's text.
struct Special {
    texts: Vec<String>,
    bos: Option<TokenText>,
    eos: Option<TokenText>,
}

impl Special {
    /// All control tokens, by their type or by their name; the one for what is unknown; the ends of
    /// sentence, turn and message; and of the tokens that the model's
    /// maker defined beside the vocabulary those that the chat template uses as marks. The others
    /// (tabs, HTML tags) are ordinary text to a model.
    fn read<R: Read + Seek>(
        header: &Header,
        source: &mut R,
        size: u64,
        tokens: Array,
        template: &str,
    ) -> Result<Self, FactsError> {
        let id = |name: &str| header.number::<u32>(&format!("tokenizer.ggml.{name}_token_id"));
        let bert = header.text("tokenizer.ggml.model") == Some("bert");
        let (bos, eos) = (id("bos").or(bert.then_some(101)), id("eos"));
        let (mut control, mut defined) = (Vec::new(), Vec::new());
        each_kind(header, source, size, tokens, |place, kind| {
            match kind {
                CONTROL | UNKNOWN => control.push(place),
                USER_DEFINED => defined.push(place),
                _ => {}
            }
            if control.len() + defined.len() > SPECIAL_TOKENS_MAX { Err(FactsError::TooManySpecial) } else { Ok(()) }
        })?;
        control.extend([bos, eos, id("eot"), id("eom")].into_iter().flatten());
        control.extend(gguf::places(&mut *source, size, tokens, &HashSet::from(CONTROL_BY_NAME))?);
        control.sort_unstable();
        let mut wanted = control.clone();
        wanted.extend(&defined);
        let texts = gguf::strings(&mut *source, size, tokens, &wanted, TOKEN_BYTES_MAX)?;
        let named = |id: Option<u32>| {
            let (id, text) = texts.iter().find(|(place, _)| Some(*place) == id)?;
            Some(TokenText { id: *id, text: text.clone() })
        };
        let (bos, eos) = (named(bos), named(eos));
        let searchable = defined.len().saturating_mul(template.len()) <= TEMPLATE_SEARCH_MAX;
        let marks = |text: &str| !searchable || text.trim().len() > 2 && template.contains(text);
        let texts: Vec<String> = texts
            .into_iter()
            .filter(|(place, text)| !text.is_empty() && (control.binary_search(place).is_ok() || marks(text)))
            .map(|(_, text)| text)
            .collect();
        if texts.iter().map(String::len).sum::<usize>() > SPECIAL_BYTES_MAX {
            return Err(FactsError::TooManySpecial);
        }
        Ok(Self { texts, bos, eos })
    }
}

/// Calls `each` for every token's type, wherever the reader left the array.
fn each_kind<R: Read + Seek>(
    header: &Header,
    source: &mut R,
    size: u64,
    tokens: Array,
    mut each: impl FnMut(u32, i32) -> Result<(), FactsError>,
) -> Result<(), FactsError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let kinds = match header.values.get(KEY) {
        None => return Ok(()),
        Some(Value::Numbers(numbers)) => {
            for (place, kind) in (0..).zip(numbers) {
                each(place, i32::try_from(*kind).unwrap_or_default())?;
            }
            numbers.len() as u64
        }
        Some(Value::Array(array)) if matches!(array.kind, ValueKind::I32 | ValueKind::U32) => {
            let mut stopped = None;
            let walked = gguf::token_kinds(source, size, *array, |place, kind| {
                each(place, kind).map_err(|error| {
                    stopped = Some(error);
                    GgufError::Io(std::io::ErrorKind::Other.into())
                })
            });
            if let Some(error) = stopped {
                return Err(error);
            }
            walked?;
            array.count
        }
        Some(_) => return Err(missing(KEY)),
    };
    if kinds < tokens.count {
        return Err(FactsError::TokenKinds { tokens: tokens.count, kinds });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
