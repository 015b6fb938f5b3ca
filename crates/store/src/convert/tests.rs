//! A tiny BERT in, a GGUF out, read back by our own reader.

use super::*;
use crate::gguf;
use crate::model::read_parts;
use base::Modality;
use std::path::PathBuf;

/// Tensors' names and shapes, outermost side first.
type Named = Vec<(String, Vec<usize>)>;

const WIDTH: usize = 32;
const FEED: usize = 64;
const WORDS: [&str; 9] = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##lo", "wörld"];

/// Names and shapes as they are published; one layer.
fn tensors() -> Named {
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS.len(), WIDTH]),
        ("embeddings.position_embeddings.weight".into(), vec![16, WIDTH]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, WIDTH]),
        ("embeddings.LayerNorm.weight".into(), vec![WIDTH]),
        ("embeddings.LayerNorm.bias".into(), vec![WIDTH]),
        ("pooler.dense.weight".into(), vec![WIDTH, WIDTH]),
        ("pooler.dense.bias".into(), vec![WIDTH]),
    ];
    let layer = "encoder.layer.0.";
    for (part, rows, columns) in [
        ("attention.self.query", WIDTH, WIDTH),
        ("attention.self.key", WIDTH, WIDTH),
        ("attention.self.value", WIDTH, WIDTH),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", FEED, WIDTH),
        ("output.dense", WIDTH, FEED),
    ] {
        tensors.push((format!("{layer}{part}.weight"), vec![rows, columns]));
        tensors.push((format!("{layer}{part}.bias"), vec![rows]));
    }
    for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
        tensors.push((format!("{layer}{part}.weight"), vec![WIDTH]));
        tensors.push((format!("{layer}{part}.bias"), vec![WIDTH]));
    }
    tensors
}

/// Numbers that tell tensors and places apart.
fn number(tensor: usize, place: usize) -> f32 {
    (tensor as f32 + 1.0) * ((place % 61) as f32 - 30.0) / 64.0
}

fn write_safetensors(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let start = data.len();
        let count: usize = shape.iter().product();
        (0..count).for_each(|place| data.extend_from_slice(&number(index, place).to_le_bytes()));
        header.insert(
            name.clone(),
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }),
        );
    }
    header.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
    let header = serde_json::Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(path, bytes).unwrap();
}

fn bert(weights: TensorKind) -> Bert {
    Bert { title: "Tiny", license: "mit", heads: 4, layer_norm_epsilon: 1e-12, weights }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(tensors: &[(String, Vec<usize>)], words: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        write_safetensors(&folder.path("model.safetensors"), tensors);
        std::fs::write(folder.path("vocab.txt"), words.join("\n") + "\n").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn convert(&self, weights: TensorKind) -> Result<String, Fault> {
        let (model, vocab) = (self.path("model.safetensors"), self.path("vocab.txt"));
        bert_to_gguf(&bert(weights), &model, &vocab, &self.path("out.gguf"), &mut || Ok(()))
    }
}

#[test]
fn a_bert_becomes_what_the_engine_wants() {
    let tensors = tensors();
    let folder = Folder::new(&tensors, &WORDS);
    let sha256 = folder.convert(TensorKind::F16).unwrap();
    let out = folder.path("out.gguf");
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(sha256, crate::pull::hex(&Sha256::digest(&bytes)));
    assert_eq!(folder.convert(TensorKind::F16).unwrap(), sha256, "the same input gives the same bytes");

    let model = read_parts(vec![out]).unwrap();
    let facts = &model.facts;
    assert_eq!((facts.arch.as_str(), facts.modality, facts.layers), ("bert", Modality::Embed, 1));
    assert_eq!((facts.embedding_length, facts.context_max, facts.quantization.as_str()), (32, 16, "F16"));
    assert_eq!(facts.special_tokens, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
    assert_eq!((facts.bos.as_ref().unwrap().id, facts.eos.as_ref().unwrap().id), (3, 4));
    let header = &model.header;
    for (key, want) in [("unknown", 2), ("seperator", 4), ("padding", 0), ("cls", 3), ("mask", 5)] {
        assert_eq!(header.number::<u32>(&format!("tokenizer.ggml.{key}_token_id")), Some(want), "{key}");
    }
    assert_eq!(header.boolean("bert.attention.causal"), Some(false));
    assert_eq!(header.number::<u32>("bert.pooling_type"), Some(MEAN_POOLING));
    assert_eq!(header.number::<u32>("bert.feed_forward_length"), Some(FEED as u32));
    let tokens = header.array("tokenizer.ggml.tokens").unwrap();
    let read = gguf::strings(io::Cursor::new(&bytes), bytes.len() as u64, tokens, &[1, 5, 6, 7, 8], 64).unwrap();
    let read: Vec<_> = read.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(read, ["\u{2581}[unused0]", "[MASK]", "\u{2581}hello", "lo", "\u{2581}wörld"]);

    // Every tensor, at its new name, with its own numbers.
    assert_eq!(header.tensors.len(), tensors.len() - 2, "the pooler stays behind");
    for (index, (name, shape)) in tensors.iter().enumerate().filter(|(_, (name, _))| !name.starts_with("pooler")) {
        let new = engine_name(name).unwrap();
        let tensor = header.tensors.iter().find(|tensor| tensor.name == new).unwrap();
        let matrix = shape.len() == 2 && new != "position_embd.weight" && new != "token_types.weight";
        assert_eq!(tensor.kind, if matrix { TensorKind::F16 } else { TensorKind::F32 }, "{new}");
        let reversed: Vec<u64> = shape.iter().rev().map(|side| *side as u64).collect();
        assert_eq!(&tensor.shape[..shape.len()], reversed, "{new}");
        let numbers: Vec<f32> = (0..shape.iter().product()).map(|place| number(index, place)).collect();
        let mut want = Vec::new();
        encode(tensor.kind, &numbers, &mut want).unwrap();
        let start = (header.data_start + tensor.offset) as usize;
        assert_eq!(&bytes[start..start + tensor.bytes as usize], want, "{new}");
    }
}

#[test]
fn every_wished_type_is_written() {
    let folder = Folder::new(&tensors(), &WORDS);
    for kind in [TensorKind::F32, TensorKind::F16, TensorKind::Q8_0] {
        folder.convert(kind).unwrap();
        let model = read_parts(vec![folder.path("out.gguf")]).unwrap();
        assert_eq!(model.facts.quantization, kind.name());
    }
}

#[test]
fn what_is_no_bert_is_refused_with_the_reason() {
    let change = |edit: &dyn Fn(&mut Named)| {
        let mut tensors = tensors();
        edit(&mut tensors);
        Folder::new(&tensors, &WORDS).convert(TensorKind::F16).unwrap_err()
    };
    let extra = change(&|tensors| tensors.push(("lm_head.weight".into(), vec![2, 32])));
    assert!(extra.message.contains("`lm_head.weight` is unknown"), "{extra}");
    let narrow = change(&|tensors| tensors[0].1 = vec![WORDS.len(), 33]);
    assert!(narrow.message.contains("33 numbers"), "{narrow}");
    let headless = change(&|tensors| drop(tensors.remove(0)));
    assert!(headless.message.contains("embeddings.word_embeddings.weight"), "{headless}");
    let words = Folder::new(&tensors(), &WORDS[1..]).convert(TensorKind::F16).unwrap_err();
    assert!(words.message.contains("9 words, the vocabulary has 8"), "{words}");
    assert_eq!(words.code, Code::ModelInvalid);
}

#[test]
fn the_work_can_be_stopped() {
    let folder = Folder::new(&tensors(), &WORDS);
    let (model, vocab) = (folder.path("model.safetensors"), folder.path("vocab.txt"));
    let mut asked = 0;
    let stopped = bert_to_gguf(&bert(TensorKind::F16), &model, &vocab, &folder.path("out.gguf"), &mut || {
        asked += 1;
        if asked > 3 { Err(Fault::new(Code::Cancelled, "stop")) } else { Ok(()) }
    });
    assert_eq!(stopped.unwrap_err().code, Code::Cancelled);
}
