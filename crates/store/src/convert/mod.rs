//! Writes a BERT encoder, which is published as safetensors and a word list, as the GGUF file that the engine loads.
//!
//! Streams tensor by tensor; two-dimensional weights take the wished type, everything else stays F32.

mod safetensors;

use crate::disk;
use crate::gguf::TensorKind;
use crate::gguf::write::{Layout, Value, encode};
use base::{Code, Fault};
use safetensors::{Safetensors, Tensor};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const VOCABULARY_BYTES_MAX: u64 = 8 << 20;
const LAYERS_MAX: usize = 256;
/// Numbers converted at a time: whole rows of every width in use, whole blocks of Q8_0.
const PIECE_NUMBERS: usize = 32 << 10;
const CONTROL: i32 = 3;
const NORMAL: i32 = 1;
/// The mark for the beginning of a word; pieces within a word carry none.
const WORD_START: char = '\u{2581}';
const MEAN_POOLING: u32 = 1;

/// What the weights themselves don't say.
#[derive(Debug)]
pub(crate) struct Bert {
    pub title: &'static str,
    pub license: &'static str,
    pub heads: u32,
    pub layer_norm_epsilon: f32,
    /// F32, F16 or Q8_0.
    pub weights: TensorKind,
}

/// Reads weights and vocabulary, writes `out`, and gives the SHA-256 of what was written. The same input
/// gives the same bytes. `check` is asked between pieces and may stop the work.
pub(crate) fn bert_to_gguf(
    bert: &Bert,
    weights: &Path,
    vocabulary: &Path,
    out: &Path,
    check: &mut dyn FnMut() -> Result<(), Fault>,
) -> Result<String, Fault> {
    let unusable = |why: String| {
        Fault::new(Code::ModelInvalid, format!("`{}` isn't a usable BERT encoder: {why}", weights.display()))
            .hint("fetch it again: `freehold pull starter`")
    };
    let mut source = Safetensors::open(weights)?;
    let words = words(vocabulary)?;
    let shape = Shape::of(&source, words.len()).map_err(unusable)?;
    let plan = plan(&source).map_err(unusable)?;
    let mut layout = values(bert, &shape, &words);
    for (name, tensor) in &plan {
        let reversed: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        layout = layout.tensor(name, kind_of(bert, name, tensor), &reversed);
    }
    let fault = |error: io::Error| Fault::io("write", out, &error);
    let file = disk::private_file(out, true).map_err(fault)?;
    let mut body = layout.begin(Hashing { file: BufWriter::new(file), hash: Sha256::new() }).map_err(fault)?;
    for (name, tensor) in &plan {
        let kind = kind_of(bert, name, tensor);
        let mut encoded = Vec::new();
        source.each_piece(tensor, PIECE_NUMBERS, &mut |numbers| {
            check()?;
            encoded.clear();
            encode(kind, numbers, &mut encoded).and_then(|()| body.data(&encoded)).map_err(fault)
        })?;
    }
    let mut written = body.finish().map_err(fault)?;
    written.file.flush().map_err(fault)?;
    Ok(crate::pull::hex(&written.hash.finalize()))
}

/// Sizes that follow from the tensors.
struct Shape {
    layers: u32,
    width: u32,
    feed_forward: u32,
    positions: u32,
    token_types: u32,
}

impl Shape {
    fn of(source: &Safetensors, words: usize) -> Result<Self, String> {
        let matrix = |name: &str| match source.get(name).map(|tensor| tensor.shape.as_slice()) {
            Some([rows, columns]) => Ok((*rows, *columns)),
            Some(other) => Err(format!("`{name}` has {} dimensions, not 2", other.len())),
            None => Err(format!("it has no `{name}`")),
        };
        let layers = (0..LAYERS_MAX)
            .take_while(|layer| source.get(&format!("encoder.layer.{layer}.output.dense.weight")).is_some())
            .count();
        let (rows, width) = matrix("embeddings.word_embeddings.weight")?;
        if rows != words as u64 {
            return Err(format!("it has vectors for {rows} words, the vocabulary has {words}"));
        }
        if width % 32 != 0 {
            return Err(format!("its vectors have {width} numbers, not a multiple of 32"));
        }
        let small = |number: u64| u32::try_from(number).map_err(|_| format!("{number} is an absurd size"));
        Ok(Self {
            layers: small(layers as u64)?,
            width: small(width)?,
            feed_forward: small(matrix("encoder.layer.0.intermediate.dense.weight")?.0)?,
            positions: small(matrix("embeddings.position_embeddings.weight")?.0)?,
            token_types: small(matrix("embeddings.token_type_embeddings.weight")?.0)?,
        })
    }
}

/// Each tensor that the engine wants, by the engine's name. A tensor that nobody knows is an error, as
/// leaving it out would make another model.
fn plan(source: &Safetensors) -> Result<Vec<(String, Tensor)>, String> {
    let mut plan = Vec::new();
    for (name, tensor) in source.tensors() {
        // The pooler belongs to another use of the same weights; the positions are counted anyway.
        if name == "embeddings.position_ids" || name.starts_with("pooler.") {
            continue;
        }
        let new = engine_name(name).ok_or_else(|| format!("the tensor `{name}` is unknown"))?;
        plan.push((new, tensor.clone()));
    }
    Ok(plan)
}

fn engine_name(name: &str) -> Option<String> {
    let (stem, end) = name.rsplit_once('.').filter(|(_, end)| matches!(*end, "weight" | "bias"))?;
    let stem = match stem {
        "embeddings.word_embeddings" => "token_embd".to_owned(),
        "embeddings.position_embeddings" => "position_embd".to_owned(),
        "embeddings.token_type_embeddings" => "token_types".to_owned(),
        "embeddings.LayerNorm" => "token_embd_norm".to_owned(),
        layered => {
            let (layer, part) = layered.strip_prefix("encoder.layer.")?.split_once('.')?;
            let layer: u32 = layer.parse().ok()?;
            let part = match part {
                "attention.self.query" => "attn_q",
                "attention.self.key" => "attn_k",
                "attention.self.value" => "attn_v",
                "attention.output.dense" => "attn_output",
                "attention.output.LayerNorm" => "attn_output_norm",
                "intermediate.dense" => "ffn_up",
                "output.dense" => "ffn_down",
                "output.LayerNorm" => "layer_output_norm",
                _ => return None,
            };
            format!("blk.{layer}.{part}")
        }
    };
    Some(format!("{stem}.{end}"))
}

/// Positions and token types are added to the input as they are: the engine wants them in F32.
fn kind_of(bert: &Bert, name: &str, tensor: &Tensor) -> TensorKind {
    let matrix = tensor.shape.len() == 2 && !name.starts_with("position_embd") && !name.starts_with("token_types");
    if matrix { bert.weights } else { TensorKind::F32 }
}

fn values(bert: &Bert, shape: &Shape, words: &[String]) -> Layout {
    let file_type = match bert.weights {
        TensorKind::F16 => 1,
        TensorKind::Q8_0 => 7,
        _ => 0,
    };
    let special = |word: &str| matches!(word, "[PAD]" | "[UNK]" | "[CLS]" | "[SEP]" | "[MASK]");
    let token = |word: &String| match word.strip_prefix("##") {
        _ if special(word) => word.clone(),
        Some(rest) => rest.to_owned(),
        None => format!("{WORD_START}{word}"),
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut layout = Layout::default()
        .value("general.architecture", text("bert"))
        .value("general.type", text("model"))
        .value("general.name", text(bert.title))
        .value("general.license", text(bert.license))
        .value("general.file_type", Value::U32(file_type))
        .value("general.quantization_version", Value::U32(2))
        .value("bert.block_count", Value::U32(shape.layers))
        .value("bert.context_length", Value::U32(shape.positions))
        .value("bert.embedding_length", Value::U32(shape.width))
        .value("bert.feed_forward_length", Value::U32(shape.feed_forward))
        .value("bert.attention.head_count", Value::U32(bert.heads))
        .value("bert.attention.layer_norm_epsilon", Value::F32(bert.layer_norm_epsilon))
        .value("bert.attention.causal", Value::Bool(false))
        .value("bert.pooling_type", Value::U32(MEAN_POOLING))
        .value("tokenizer.ggml.model", text("bert"))
        .value("tokenizer.ggml.pre", text("default"))
        .value("tokenizer.ggml.token_type_count", Value::U32(shape.token_types))
        .value("tokenizer.ggml.tokens", Value::Texts(words.iter().map(token).collect()))
        .value(
            "tokenizer.ggml.token_type",
            Value::I32s(words.iter().map(|word| if special(word) { CONTROL } else { NORMAL }).collect()),
        );
    // The misspelling of the separator's key is part of the format.
    for (word, keys) in [
        ("[UNK]", &["unknown_token_id"][..]),
        ("[SEP]", &["seperator_token_id", "eos_token_id"]),
        ("[PAD]", &["padding_token_id"]),
        ("[CLS]", &["cls_token_id", "bos_token_id"]),
        ("[MASK]", &["mask_token_id"]),
    ] {
        let Some(place) = words.iter().position(|other| other == word) else { continue };
        for key in keys {
            // A vocabulary of 8 MiB holds far fewer words than a u32 counts.
            layout = layout.value(&format!("tokenizer.ggml.{key}"), Value::U32(place as u32));
        }
    }
    layout
}

/// One word per line; its place is its token.
fn words(path: &Path) -> Result<Vec<String>, Fault> {
    let fault = |error: io::Error| Fault::io("read", path, &error);
    let mut text = String::new();
    File::open(path).map_err(fault)?.take(VOCABULARY_BYTES_MAX).read_to_string(&mut text).map_err(fault)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Hashes what goes to the file.
struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
