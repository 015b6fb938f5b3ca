//! Tiny models whose headers are as whole as a real one's, with a script for the scripted worker.

use crate::gguf::{Gguf, Value};
use crate::script::Script;
use base::{Modality, ModelFacts, ModelName, TokenText};
use std::fs;
use std::path::{Path, PathBuf};

/// A chat template in the usual ChatML style, written for these tests.
pub const CHAT_TEMPLATE: &str = "{%- for message in messages %}\
{%- if loop.first and message.role != 'system' %}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{%- endif %}\
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
{%- endfor %}\
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}";

/// Key of the metadata text that holds the script.
pub const SCRIPT_KEY: &str = "testkit.script";

const TOKENS: [&str; 8] = ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "a", "b", "c", " "];
/// GGUF's token types of [`TOKENS`]: 2 unknown, 3 control, 1 normal.
const TOKEN_TYPES: [i32; 8] = [2, 3, 3, 3, 1, 1, 1, 1];
const CONTEXT: u32 = 2048;
const WIDTH: u32 = 32;

/// A model file on disk together with what its header says.
#[derive(Debug, Clone)]
pub struct TestModel {
    pub name: ModelName,
    pub path: PathBuf,
    pub facts: ModelFacts,
}

impl TestModel {
    /// Writes `folder/NAME.gguf`: a chat model of one layer that plays `script`.
    ///
    /// # Panics
    /// When the file can't be written: the test can't go on.
    pub fn chat(folder: &Path, name: &str, script: &Script) -> Self {
        Self::write(folder, name, Modality::Chat, &chat_gguf(name, script))
    }

    /// As [`TestModel::chat`], with a chat template of its own.
    ///
    /// # Panics
    /// When the file can't be written: the test can't go on.
    pub fn templated(folder: &Path, name: &str, script: &Script, template: &str) -> Self {
        let gguf = chat_gguf(name, script).set("tokenizer.chat_template", Value::text(template));
        let mut model = Self::write(folder, name, Modality::Chat, &gguf);
        model.facts.chat_template = Some(template.to_owned());
        model
    }

    /// As [`TestModel::chat`], but an embedder.
    ///
    /// # Panics
    /// When the file can't be written: the test can't go on.
    pub fn embed(folder: &Path, name: &str, script: &Script) -> Self {
        Self::write(folder, name, Modality::Embed, &embed_gguf(name, script))
    }

    /// As [`TestModel::chat`], but a reranker.
    ///
    /// # Panics
    /// When the file can't be written: the test can't go on.
    pub fn rerank(folder: &Path, name: &str, script: &Script) -> Self {
        let gguf = embed_gguf(name, script).set("bert.pooling_type", Value::U32(4));
        Self::write(folder, name, Modality::Rerank, &gguf)
    }

    fn write(folder: &Path, name: &str, modality: Modality, gguf: &Gguf) -> Self {
        let path = folder.join(format!("{name}.gguf"));
        fs::create_dir_all(folder).expect("a test's folder can be made");
        fs::write(&path, gguf.to_bytes()).expect("a test model can be written");
        Self { name: ModelName(name.to_owned()), path, facts: facts(name, modality) }
    }
}

/// Writes `folder/NAME.gguf`: an adapter for models of architecture `arch`.
///
/// # Panics
/// When the file can't be written: the test can't go on.
pub fn adapter(folder: &Path, name: &str, arch: &str) -> PathBuf {
    let gguf = Gguf::default()
        .set("general.architecture", Value::text(arch))
        .set("general.type", Value::text("adapter"))
        .set("general.name", Value::text(name))
        .set("adapter.type", Value::text("lora"))
        .set("adapter.lora.alpha", Value::F32(1.0))
        .tensor("blk.0.attn_q.weight.lora_a", &[u64::from(WIDTH), 1], vec![0.1; WIDTH as usize])
        .tensor("blk.0.attn_q.weight.lora_b", &[1, u64::from(WIDTH)], vec![0.1; WIDTH as usize]);
    let path = folder.join(format!("{name}.gguf"));
    fs::create_dir_all(folder).expect("a test's folder can be made");
    fs::write(&path, gguf.to_bytes()).expect("a test adapter can be written");
    path
}

/// The file of [`TestModel::chat`], for tests that want to damage or change it.
pub fn chat_gguf(name: &str, script: &Script) -> Gguf {
    let tokens =
        tokenizer(base_gguf("llama", name, script), "gpt2").set("tokenizer.chat_template", Value::text(CHAT_TEMPLATE));
    embedding_tensor(tokens)
}

/// The file of [`TestModel::embed`].
pub fn embed_gguf(name: &str, script: &Script) -> Gguf {
    let tokens = tokenizer(base_gguf("bert", name, script), "bert")
        .set("bert.pooling_type", Value::U32(1))
        .set("bert.attention.causal", Value::Bool(false));
    embedding_tensor(tokens)
}

fn base_gguf(arch: &str, name: &str, script: &Script) -> Gguf {
    let key = |rest: &str| format!("{arch}.{rest}");
    Gguf::default()
        .set("general.architecture", Value::text(arch))
        .set("general.name", Value::text(name))
        .set("general.license", Value::text("apache-2.0"))
        .set("general.file_type", Value::U32(0))
        .set(&key("block_count"), Value::U32(1))
        .set(&key("context_length"), Value::U32(CONTEXT))
        .set(&key("embedding_length"), Value::U32(WIDTH))
        .set(&key("feed_forward_length"), Value::U32(2 * WIDTH))
        .set(&key("attention.head_count"), Value::U32(4))
        .set(&key("attention.head_count_kv"), Value::U32(4))
        .set(SCRIPT_KEY, Value::Text(script.to_json()))
}

fn tokenizer(gguf: Gguf, kind: &str) -> Gguf {
    gguf.set("tokenizer.ggml.model", Value::text(kind))
        .set("tokenizer.ggml.tokens", Value::Texts(TOKENS.map(str::to_owned).to_vec()))
        .set("tokenizer.ggml.token_type", Value::I32s(TOKEN_TYPES.to_vec()))
        .set("tokenizer.ggml.merges", Value::Texts(Vec::new()))
        .set("tokenizer.ggml.bos_token_id", Value::U32(1))
        .set("tokenizer.ggml.eos_token_id", Value::U32(2))
        .set("tokenizer.ggml.add_bos_token", Value::Bool(false))
}

fn embedding_tensor(gguf: Gguf) -> Gguf {
    let rows = TOKENS.len() as u64;
    let values = (0..rows * u64::from(WIDTH)).map(|i| (i % 17) as f32 / 17.0).collect();
    gguf.tensor("token_embd.weight", &[u64::from(WIDTH), rows], values)
}

/// What a header parser should find in these files.
pub fn facts(name: &str, modality: Modality) -> ModelFacts {
    let token = |id: u32| TokenText { id, text: TOKENS[id as usize].to_owned() };
    let chat = modality == Modality::Chat;
    ModelFacts {
        arch: if chat { "llama" } else { "bert" }.to_owned(),
        title: name.to_owned(),
        license: "apache-2.0".to_owned(),
        quantization: "F32".to_owned(),
        modality,
        parameters: TOKENS.len() as u64 * u64::from(WIDTH),
        layers: 1,
        embedding_length: WIDTH,
        context_max: CONTEXT,
        kv_bytes_per_token: u64::from(WIDTH) * 2 * 2,
        cache: chat.then(|| base::CacheShape { per_token: u64::from(WIDTH) * 2 * 2, ..base::CacheShape::default() }),
        forward_length: 2 * WIDTH,
        weights_bytes: TOKENS.len() as u64 * u64::from(WIDTH) * 4,
        layer_runs: Vec::new(),
        output_bytes: TOKENS.len() as u64 * u64::from(WIDTH) * 4,
        lookup_bytes: 0,
        vocab_tokens: TOKENS.len() as u32,
        chat_template: chat.then(|| CHAT_TEMPLATE.to_owned()),
        tool_template: None,
        bos: Some(token(1)),
        eos: Some(token(2)),
        add_bos: false,
        special_tokens: TOKENS
            .iter()
            .zip(TOKEN_TYPES)
            .filter(|(_, kind)| [2, 3].contains(kind))
            .map(|(text, _)| (*text).to_owned())
            .collect(),
    }
}
