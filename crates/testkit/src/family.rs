//! Small models of every family that people name, with random weights: the architecture, header keys, tensor names
//! and shapes of real files, in a few MB each, so that llama.cpp takes the same way through them.
//!
//! Weights are seeded and spread like those of trained models (results keep the size of what goes in, norms lie
//! around one), so no two scores tie and a wrong state shows in the next tokens. [`layers`](self) holds what
//! families have in common; each one's own mixture stands in [`mixture`].

mod layers;
mod mixture;

use crate::gguf::{Gguf, Value};

/// One family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// As people call it.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// What its cache holds, in words.
    pub keeps: &'static str,
    pub kind: Kind,
    build: fn(&mut Build),
}

/// What a family does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generates text; its cache can forget its last tokens.
    Attends,
    /// Generates text; a part of its state is one of the whole past, and can't go back.
    Remembers,
    /// Makes vectors.
    Embeds,
}

/// All of them.
pub const FAMILIES: [Family; 17] = [
    family("Llama", "llama", "every token", Kind::Attends, mixture::llama),
    family("Mistral 3", "mistral3", "every token", Kind::Attends, mixture::mistral3),
    family("Qwen3", "qwen3", "every token", Kind::Attends, mixture::qwen3),
    family("Qwen3 MoE", "qwen3moe", "every token", Kind::Attends, mixture::qwen3moe),
    family("Qwen3-Next", "qwen3next", "every token in one layer of four, a state", Kind::Remembers, mixture::qwen3next),
    family("Qwen3.5, Qwen3.6", "qwen35", "every token in one layer of four, a state", Kind::Remembers, mixture::qwen35),
    family(
        "Qwen3.5 MoE, Qwen3.6 MoE",
        "qwen35moe",
        "every token in one layer of four, a state",
        Kind::Remembers,
        mixture::qwen35moe,
    ),
    family("Gemma 3", "gemma3", "every token in one layer of six, a window", Kind::Attends, mixture::gemma3),
    family("Gemma 4", "gemma4", "every token in some layers, a window; some keep none", Kind::Attends, mixture::gemma4),
    family("DeepSeek V3, Kimi K2", "deepseek2", "every token, compressed", Kind::Attends, mixture::deepseek2),
    family("GLM 4.5 MoE", "glm4moe", "every token", Kind::Attends, mixture::glm4moe),
    family(
        "Kimi Linear",
        "kimi-linear",
        "every token in some layers, compressed, and a state",
        Kind::Remembers,
        mixture::kimi_linear,
    ),
    family("gpt-oss", "gpt-oss", "every token in every other layer, a window", Kind::Attends, mixture::gpt_oss),
    family("LFM2", "lfm2", "every token in some layers, the last two in the others", Kind::Remembers, mixture::lfm2),
    family("Mamba 2", "mamba2", "a state", Kind::Remembers, mixture::mamba2),
    family(
        "Granite 4 hybrid",
        "granitehybrid",
        "every token in some layers, a state",
        Kind::Remembers,
        mixture::granitehybrid,
    ),
    family("BERT", "bert", "nothing", Kind::Embeds, mixture::bert),
];

const fn family(
    name: &'static str,
    arch: &'static str,
    keeps: &'static str,
    kind: Kind,
    build: fn(&mut Build),
) -> Family {
    Family { name, arch, keeps, kind, build }
}

impl Family {
    /// The file, the same every time.
    pub fn gguf(&self) -> Gguf {
        let mut build = Build { arch: self.arch, layer: None, file: Gguf::default(), seed: 1 };
        build.file = std::mem::take(&mut build.file)
            .set("general.architecture", Value::text(self.arch))
            .set("general.type", Value::text("model"))
            .set("general.name", Value::Text(format!("random weights, {}", self.name)))
            .set("general.file_type", Value::U32(0));
        (self.build)(&mut build);
        build.file
    }
}

/// Tokens of the vocabulary of those that generate text.
const WORDS: u64 = 512;
/// The token that ends every text; a test that wants a long answer forbids it.
pub const END: u32 = 0;
/// Words that the one which makes vectors knows.
pub const EMBED_WORDS: [&str; 10] = ["red", "blue", "river", "boiler", "stone", "is", "how", "old", "light", "north"];

/// Characters of their own, then pairs of letters; of these only one is ever put together from a text.
fn words() -> Vec<String> {
    let single = (33_u8..=126).map(|byte| char::from(byte).to_string());
    let letters = || (b'a'..=b'z').map(char::from);
    let pairs = letters().flat_map(|first| letters().map(move |second| format!("{first}{second}")));
    // "Ġ" stands for a blank and "Ċ" for the end of a line.
    let first = ["<|endoftext|>", "Ġ", "Ċ"].map(str::to_owned);
    first.into_iter().chain(single).chain(pairs).take(WORDS as usize).collect()
}

/// A file in the making.
struct Build {
    arch: &'static str,
    /// Whose tensors are being named.
    layer: Option<u64>,
    file: Gguf,
    seed: u64,
}

impl Build {
    fn set(&mut self, key: &str, value: Value) {
        self.file = std::mem::take(&mut self.file).set(key, value);
    }

    /// A key of this architecture.
    fn own(&mut self, key: &str, value: Value) {
        self.set(&format!("{}.{key}", self.arch), value);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.own(key, Value::U32(u32::try_from(value).expect("sizes here are small")));
    }

    fn numbers(&mut self, key: &str, values: &[i32]) {
        self.own(key, Value::I32s(values.to_vec()));
    }

    fn float(&mut self, key: &str, value: f32) {
        self.own(key, Value::F32(value));
    }

    /// Near enough to the normal distribution: the sum of three even numbers has a spread of one.
    fn chance(&mut self) -> f32 {
        let mut even = || {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        even() + even() + even()
    }

    /// Values around `middle`, under exactly this name in the layer.
    fn around(&mut self, name: &str, shape: &[u64], middle: f32, spread: f32) {
        let count = shape.iter().product::<u64>();
        let values = (0..count).map(|_| middle + spread * self.chance()).collect();
        let name = self.layer.map_or_else(|| name.to_owned(), |layer| format!("blk.{layer}.{name}"));
        self.file = std::mem::take(&mut self.file).tensor(&name, shape, values);
    }

    /// A matrix whose results are as large as what goes in.
    fn matrix(&mut self, name: &str, shape: &[u64]) {
        self.wide(name, shape, 1.0);
    }

    /// One whose results are so many times as large.
    fn wide(&mut self, name: &str, shape: &[u64], times: f32) {
        self.around(&format!("{name}.weight"), shape, 0.0, times / (shape[0] as f32).sqrt());
    }

    fn norm(&mut self, name: &str, length: u64) {
        self.around(&format!("{name}.weight"), &[length], 1.0, 0.2);
    }

    fn bias(&mut self, name: &str, shape: &[u64]) {
        self.around(&format!("{name}.bias"), shape, 0.0, 0.1);
    }

    fn vocabulary(&mut self) {
        let words = words();
        let kinds = (0..words.len()).map(|place| if place == END as usize { 3 } else { 1 }).collect();
        self.set("tokenizer.ggml.model", Value::text("gpt2"));
        self.set("tokenizer.ggml.pre", Value::text("gpt-2"));
        self.set("tokenizer.ggml.tokens", Value::Texts(words));
        self.set("tokenizer.ggml.token_type", Value::I32s(kinds));
        self.set("tokenizer.ggml.merges", Value::Texts(vec!["e r".into()]));
        self.set("tokenizer.ggml.bos_token_id", Value::U32(END));
        self.set("tokenizer.ggml.eos_token_id", Value::U32(END));
        self.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn files_are_small_and_the_same_every_time() {
        for family in FAMILIES {
            let file = family.gguf();
            let names: BTreeSet<&str> = file.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            assert_eq!(names.len(), file.tensors.len(), "{}: a tensor twice", family.name);
            let values: usize = file.tensors.iter().map(|tensor| tensor.values.len()).sum();
            assert!((50_000..2_000_000).contains(&values), "{}: {values} weights", family.name);
            for tensor in &file.tensors {
                let count = tensor.shape.iter().product::<u64>();
                assert_eq!(tensor.values.len() as u64, count, "{}", tensor.name);
            }
        }
        assert_eq!(FAMILIES[0].gguf(), FAMILIES[0].gguf());
        assert_eq!(FAMILIES.map(|family| family.arch).into_iter().collect::<BTreeSet<_>>().len(), FAMILIES.len());
    }

    #[test]
    fn weights_are_spread_as_they_should_be() {
        let file = FAMILIES[0].gguf();
        let of = |name: &str| &file.tensors.iter().find(|tensor| tensor.name == name).expect(name).values;
        let measure = |values: &[f32]| {
            let count = values.len() as f32;
            let mean = values.iter().sum::<f32>() / count;
            (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count).sqrt())
        };
        let (mean, spread) = measure(of("blk.0.ffn_up.weight"));
        assert!(mean.abs() < 0.002 && (spread * 128_f32.sqrt() - 1.0).abs() < 0.02, "{mean} {spread}");
        let (mean, spread) = measure(of("output_norm.weight"));
        assert!((mean - 1.0).abs() < 0.1 && (spread - 0.2).abs() < 0.06, "{mean} {spread}");
    }

    #[test]
    fn words_are_all_different() {
        let words = words();
        assert_eq!(words.len() as u64, WORDS);
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        assert!(words.contains(&"er".to_owned()), "the one merge makes a word that exists");
    }
}
