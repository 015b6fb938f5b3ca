//! Ranks of a tiny cross encoder with random weights, beside the same computation in plain Rust.

use crate::harness::{Worker, embedder, load};
use std::collections::HashMap;
use std::path::PathBuf;
use tempfile::TempDir;
use testkit::gguf::{Gguf, Value};
use wire::{Load, WireFault};

const WIDTH: usize = 64;
const HEADS: usize = 4;
const WIDE: usize = 128;
const LAYERS: usize = 2;
const WINDOW: usize = 24;
const WORDS: [&str; 13] = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "▁red",
    "▁blue",
    "▁river",
    "▁boiler",
    "▁stone",
    "▁is",
    "▁how",
    "▁old",
];
const CLS: usize = 2;
const SEP: usize = 3;
const EPSILON: f32 = 1e-5;

/// Numbers between -1 and 1, the same every time.
fn noise(count: usize, seed: &mut u64) -> Vec<f32> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*seed >> 40) as f32 / (1_u64 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The weights by their names, and the file that holds them.
struct Model {
    weights: HashMap<String, Vec<f32>>,
    file: Gguf,
}

impl Model {
    fn new() -> Self {
        let text = Value::text;
        let file = Gguf::default()
            .set("general.architecture", text("bert"))
            .set("general.type", text("model"))
            .set("general.file_type", Value::U32(0))
            .set("bert.block_count", Value::U32(LAYERS as u32))
            .set("bert.context_length", Value::U32(WINDOW as u32))
            .set("bert.embedding_length", Value::U32(WIDTH as u32))
            .set("bert.feed_forward_length", Value::U32(WIDE as u32))
            .set("bert.attention.head_count", Value::U32(HEADS as u32))
            .set("bert.attention.layer_norm_epsilon", Value::F32(EPSILON))
            .set("bert.attention.causal", Value::Bool(false))
            .set("bert.pooling_type", Value::U32(4))
            .set("bert.classifier.output_labels", Value::Texts(vec!["relevance".into()]))
            .set("tokenizer.ggml.model", text("bert"))
            .set("tokenizer.ggml.pre", text("default"))
            .set("tokenizer.ggml.token_type_count", Value::U32(2))
            .set("tokenizer.ggml.tokens", Value::Texts(WORDS.map(str::to_owned).to_vec()))
            .set(
                "tokenizer.ggml.token_type",
                Value::I32s(WORDS.iter().map(|word| if word.starts_with('[') { 3 } else { 1 }).collect()),
            )
            .set("tokenizer.ggml.unknown_token_id", Value::U32(1))
            .set("tokenizer.ggml.cls_token_id", Value::U32(CLS as u32))
            .set("tokenizer.ggml.bos_token_id", Value::U32(CLS as u32))
            .set("tokenizer.ggml.seperator_token_id", Value::U32(SEP as u32))
            .set("tokenizer.ggml.eos_token_id", Value::U32(SEP as u32))
            .set("tokenizer.ggml.padding_token_id", Value::U32(0))
            .set("tokenizer.ggml.mask_token_id", Value::U32(4));
        let mut model = Self { weights: HashMap::new(), file };
        let mut seed = 7;
        model.add("token_embd.weight", &[WIDTH, WORDS.len()], 1.0, &mut seed);
        model.add("token_types.weight", &[WIDTH, 2], 0.3, &mut seed);
        model.add("position_embd.weight", &[WIDTH, WINDOW], 0.5, &mut seed);
        model.norm("token_embd_norm", &mut seed);
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                model.linear(&name(part), WIDTH, WIDTH, &mut seed);
            }
            model.norm(&name("attn_output_norm"), &mut seed);
            model.linear(&name("ffn_up"), WIDTH, WIDE, &mut seed);
            model.linear(&name("ffn_down"), WIDE, WIDTH, &mut seed);
            model.norm(&name("layer_output_norm"), &mut seed);
        }
        model.linear("cls", WIDTH, WIDTH, &mut seed);
        model.linear("cls.output", WIDTH, 1, &mut seed);
        model
    }

    fn add(&mut self, name: &str, shape: &[usize], scale: f32, seed: &mut u64) {
        let values: Vec<f32> = noise(shape.iter().product(), seed).into_iter().map(|value| value * scale).collect();
        self.put(name, shape, values);
    }

    fn put(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let shape: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
        self.weights.insert(name.to_owned(), values.clone());
        self.file = std::mem::take(&mut self.file).tensor(name, &shape, values);
    }

    fn linear(&mut self, name: &str, from: usize, to: usize, seed: &mut u64) {
        self.add(&format!("{name}.weight"), &[from, to], 2.0 / (from as f32).sqrt(), seed);
        self.add(&format!("{name}.bias"), &[to], 0.2, seed);
    }

    fn norm(&mut self, name: &str, seed: &mut u64) {
        let weight = noise(WIDTH, seed).into_iter().map(|value| 1.0 + value * 0.2).collect();
        self.put(&format!("{name}.weight"), &[WIDTH], weight);
        self.add(&format!("{name}.bias"), &[WIDTH], 0.2, seed);
    }

    fn write(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judge.gguf");
        std::fs::write(&path, self.file.to_bytes()).unwrap();
        (folder, path)
    }

    fn row(&self, name: &str, row: usize) -> &[f32] {
        &self.weights[name][row * WIDTH..(row + 1) * WIDTH]
    }

    fn apply(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let bias = &self.weights[&format!("{name}.bias")];
        let rows = self.weights[&format!("{name}.weight")].chunks_exact(input.len());
        let product = |row: &[f32]| row.iter().zip(input).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
        rows.zip(bias).map(|(row, bias)| product(row) + f64::from(*bias)).collect()
    }

    fn normed(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let mean = input.iter().sum::<f64>() / input.len() as f64;
        let variance = input.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / input.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        let (weight, bias) = (&self.weights[&format!("{name}.weight")], &self.weights[&format!("{name}.bias")]);
        let one =
            |((x, weight), bias): ((&f64, &f32), &f32)| (x - mean) * scale * f64::from(*weight) + f64::from(*bias);
        input.iter().zip(weight).zip(bias).map(one).collect()
    }

    /// The score of a sequence of tokens.
    fn score(&self, tokens: &[usize]) -> f64 {
        let input = |(place, token): (usize, &usize)| {
            let rows = [
                self.row("token_embd.weight", *token),
                self.row("token_types.weight", 0),
                self.row("position_embd.weight", place),
            ];
            let sum: Vec<f64> = (0..WIDTH).map(|i| rows.iter().map(|row| f64::from(row[i])).sum()).collect();
            self.normed("token_embd_norm", &sum)
        };
        let mut states: Vec<Vec<f64>> = tokens.iter().enumerate().map(input).collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let all = |part: &str| states.iter().map(|state| self.apply(&name(part), state)).collect::<Vec<_>>();
            let seen = attention(&all("attn_q"), &all("attn_k"), &all("attn_v"));
            let step = |(state, seen): (&Vec<f64>, &Vec<f64>)| {
                let middle =
                    self.normed(&name("attn_output_norm"), &sum(&self.apply(&name("attn_output"), seen), state));
                let wide: Vec<f64> = self.apply(&name("ffn_up"), &middle).into_iter().map(gelu).collect();
                self.normed(&name("layer_output_norm"), &sum(&self.apply(&name("ffn_down"), &wide), &middle))
            };
            states = states.iter().zip(&seen).map(step).collect();
        }
        let pooled: Vec<f64> = self.apply("cls", &states[0]).into_iter().map(f64::tanh).collect();
        self.apply("cls.output", &pooled)[0]
    }
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (0.797_884_560_802_865_4 * x * (1.0 + 0.044_715 * x * x)).tanh())
}

fn attention(queries: &[Vec<f64>], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let head = WIDTH / HEADS;
    let of_one = |query: &Vec<f64>| {
        let mut out = vec![0.0; WIDTH];
        for start in (0..WIDTH).step_by(head) {
            let range = start..start + head;
            let score = |key: &Vec<f64>| {
                let product: f64 = query[range.clone()].iter().zip(&key[range.clone()]).map(|(q, k)| q * k).sum();
                (product / (head as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let total: f64 = scores.iter().sum();
            for (value, score) in values.iter().zip(&scores) {
                for i in range.clone() {
                    out[i] += value[i] * score / total;
                }
            }
        }
        out
    };
    queries.iter().map(of_one).collect()
}

fn tokens(text: &str) -> Vec<usize> {
    let token = |word: &str| WORDS.iter().position(|known| known.trim_start_matches('▁') == word).unwrap_or(1);
    text.split_whitespace().map(token).collect()
}

fn pair(query: &str, document: &str) -> Vec<usize> {
    [vec![CLS], tokens(query), vec![SEP], tokens(document), vec![SEP]].concat()
}

fn judge() -> (TempDir, Worker, Model) {
    let model = Model::new();
    let (folder, path) = model.write();
    let (worker, _) = Worker::with(&Load { embed: true, context_tokens: 0, ..load() }, &path);
    (folder, worker, model)
}

#[test]
fn ranks_are_what_plain_rust_computes() {
    let (_folder, mut worker, model) = judge();
    let query = "how old is the boiler";
    let documents = ["the boiler is old", "red river", "stone", "blue stone is blue blue stone red river"];
    let ranked = worker.rank(1, query, &documents, false).unwrap();
    assert_eq!((ranked.dimensions, ranked.left_out), (1, vec![0; 4]));
    let expected: Vec<f64> = documents.iter().map(|document| model.score(&pair(query, document))).collect();
    for ((row, expected), document) in ranked.rows.iter().zip(&expected).zip(documents) {
        assert!((f64::from(row[0]) - expected).abs() < TOLERANCE, "{document}: {} and not {expected}", row[0]);
        // Without the last separator, or in the other order, it is another number.
        for other in [pair(query, document).split_last().unwrap().1.to_vec(), pair(document, query)] {
            let other = model.score(&other);
            assert!((other - expected).abs() > 3.0 * TOLERANCE, "{document}: {other} is as good as {expected}");
        }
    }
    assert_eq!(ranked.tokens, documents.map(|document| pair(query, document).len() as u32));
    // In any company the same.
    let alone = worker.rank(2, query, &documents[2..3], false).unwrap();
    assert!((alone.rows[0][0] - ranked.rows[2][0]).abs() < TOLERANCE as f32);
}

/// What 16-bit keys, values and tables of the activation make of it.
const TOLERANCE: f64 = 0.01;

#[test]
fn a_pair_that_is_too_long_is_refused_or_its_document_cut() {
    let (_folder, mut worker, model) = judge();
    let (query, long) = ("how old is it", "red stone ".repeat(30));
    let whole = pair(query, &long).len() as u32;
    let refused = worker.rank(1, query, &["stone", &long], false);
    assert_eq!(refused, Err(WireFault::ContextOverflow { requested: whole, available: WINDOW as u32 }));
    let cut = worker.rank(2, query, &["stone", &long], true).unwrap();
    assert_eq!(cut.left_out, [0, whole - WINDOW as u32]);
    assert_eq!(cut.tokens[1], WINDOW as u32);
    let room = WINDOW - pair(query, "").len();
    let kept: Vec<&str> = long.split_whitespace().take(room).collect();
    let expected = model.score(&pair(query, &kept.join(" ")));
    assert!((f64::from(cut.rows[1][0]) - expected).abs() < TOLERANCE, "{} and not {expected}", cut.rows[1][0]);
    // A query that fills the window leaves no document to judge.
    let refused = worker.rank(3, &long, &["stone"], true);
    assert!(matches!(refused, Err(WireFault::ContextOverflow { .. })), "{refused:?}");
}

#[test]
fn judges_rank_and_embedders_embed() {
    let (_folder, mut worker, _) = judge();
    assert!(matches!(worker.vectors(1, &["red"]), Err(WireFault::Unfit(_))));
    let (mut embedder, _) = Worker::with(&Load { embed: true, context_tokens: 0, ..load() }, &embedder());
    assert!(matches!(embedder.rank(1, "red", &["blue"], false), Err(WireFault::Unfit(_))));
}
