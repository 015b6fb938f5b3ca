//! Hostile and broken headers, by table and by chance.

use super::write::{Layout, Value as W};
use super::*;
use proptest::prelude::*;
use std::io::Cursor;

/// A small file that uses every kind of value.
fn good() -> Vec<u8> {
    let layout = Layout::default()
        .value("general.architecture", W::Text("llama".into()))
        .value("general.alignment", W::U32(32))
        .value("llama.block_count", W::U32(2))
        .value("llama.attention.head_count_kv", W::I32s(vec![2, 0]))
        .value("a.float", W::F32(0.5))
        .value("a.flag", W::Bool(true))
        .value("split.count", W::U16(1))
        .value("tokenizer.ggml.tokens", W::Texts(vec!["<s>".into(), "a".into(), "</s>".into()]))
        .value("tokenizer.ggml.token_type", W::I32s(vec![3, 1, 3]))
        .tensor("token_embd.weight", TensorKind::F16, &[8, 3])
        .tensor("blk.0.attn_q.weight", TensorKind::Q8_0, &[32, 2])
        .tensor("output_norm.weight", TensorKind::F32, &[8]);
    let mut body = layout.begin(Vec::new()).unwrap();
    body.data(&[1; 48]).unwrap();
    body.data(&[2; 68]).unwrap();
    body.data(&[3; 32]).unwrap();
    body.finish().unwrap()
}

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = good();
    let header = parse(&bytes).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.data_end, bytes.len() as u64);
    assert_eq!(header.text("general.architecture"), Some("llama"));
    assert_eq!(header.number::<u32>("llama.block_count"), Some(2));
    assert_eq!(header.number::<u8>("split.count"), Some(1));
    assert_eq!(header.boolean("a.flag"), Some(true));
    assert_eq!(header.values["a.float"], Value::Float(0.5));
    assert_eq!(header.per_layer("llama.attention.head_count_kv", 2), Some(vec![2, 0]));
    assert_eq!(header.per_layer("llama.attention.head_count_kv", 3), None);
    assert_eq!(header.per_layer("llama.block_count", 3), Some(vec![2, 2, 2]));
    assert_eq!(header.number::<u32>("general.architecture"), None);
    let names: Vec<_> = header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.bytes)).collect();
    assert_eq!(names, [("token_embd.weight", 48), ("blk.0.attn_q.weight", 68), ("output_norm.weight", 32)]);
    let tokens = header.array("tokenizer.ggml.tokens").unwrap();
    let texts = strings(Cursor::new(&bytes), bytes.len() as u64, tokens, &[2, 0, 2, 9], 16).unwrap();
    assert_eq!(texts, [(0, "<s>".to_owned()), (2, "</s>".to_owned())]);
    assert!(matches!(
        strings(Cursor::new(&bytes), bytes.len() as u64, tokens, &[0], 2),
        Err(GgufError::TooLong { bytes: 3, max: 2, .. })
    ));
}

#[test]
fn cut_off_anywhere_it_is_refused_with_both_numbers() {
    let bytes = good();
    let header = parse(&bytes).unwrap();
    // The last tensor needs no padding behind it.
    for cut in 0..bytes.len() {
        let error = parse(&bytes[..cut]).unwrap_err();
        match &error {
            GgufError::CutData { promised, holds } => {
                assert!(cut as u64 >= header.data_start - 32, "{cut}: {error}");
                assert_eq!((*promised, *holds), (header.data_end, cut as u64));
            }
            GgufError::CutHeader { needs, holds, .. } => {
                assert_eq!(*holds, cut as u64);
                assert!(*needs > cut as u64 && *needs <= header.data_start, "{cut}: {error}");
            }
            other => panic!("{cut}: {other}"),
        }
    }
}

/// Starts like a version 3 file with these counts.
fn head(tensors: u64, values: u64) -> Vec<u8> {
    [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &values.to_le_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A value entry: key, type, raw bytes.
fn entry(key: &str, kind: u32, raw: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), raw].concat()
}

fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let sides: Vec<u8> = shape.iter().flat_map(|side| side.to_le_bytes()).collect();
    let count = (shape.len() as u32).to_le_bytes();
    [&text(name)[..], &count, &sides, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// Files that no parser may believe, each with a word of the sentence that it must get.
pub(super) fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let many = |count: u64| count.to_le_bytes().to_vec();
    let pad = vec![0u8; 4096];
    let with = |parts: &[&[u8]]| [parts.concat(), pad.clone()].concat();
    let one = |value: &[u8]| with(&[&head(0, 1), value]);
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    vec![
        ("nothing", vec![], "cut off"),
        ("a text file", b"Dear reader, this is no model at all.".to_vec(), "`Dear`"),
        ("a zip", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec(), "`PK\\x03\\x04`"),
        ("reversed word", b"FUGG\0\0\0\x03aaaaaaaaaaaaaaaaaaaa".to_vec(), "big-endian"),
        ("reversed numbers", [b"GGUF".as_slice(), &3u32.to_be_bytes(), &pad].concat(), "big-endian"),
        ("version 0", [b"GGUF".as_slice(), &0u32.to_le_bytes(), &pad].concat(), "version 0"),
        ("version 1", [b"GGUF".as_slice(), &1u32.to_le_bytes(), &pad].concat(), "version 1"),
        ("version 4", [b"GGUF".as_slice(), &4u32.to_le_bytes(), &pad].concat(), "version 4"),
        ("absurd tensors", with(&[&head(u64::MAX, 0)]), "18446744073709551615 tensors"),
        ("absurd values", with(&[&head(0, u64::MAX)]), "18446744073709551615 values"),
        ("negative values", with(&[&head(0, 1 << 63)]), "values"),
        ("more tensors than bytes", with(&[&head(TENSORS_MAX, 0)]), "cut off"),
        ("more values than bytes", with(&[&head(0, VALUES_MAX)]), "cut off"),
        ("endless key", with(&[&head(0, 1), &many(u64::MAX)]), "cut off"),
        ("long key", with(&[&head(0, 1), &many(2000)]), "2000 bytes long"),
        ("empty key", one(&entry("", 4, &[0; 4])), "is empty"),
        ("key that isn't text", one(&[&many(2)[..], b"\xff\xfe", &[4, 0, 0, 0]].concat()), "UTF-8"),
        ("the same key twice", with(&[&head(0, 2), &entry("k", 0, &[1]), &entry("k", 0, &[2])]), "twice"),
        ("unknown value type", one(&entry("k", 13, &[0; 8])), "type 13"),
        ("endless text", one(&entry("k", 8, &many(u64::MAX - 3))), "cut off"),
        ("endless array", one(&entry("k", 9, &array(0, u64::MAX))), "18446744073709551615"),
        ("array larger than the file", one(&entry("k", 9, &array(10, 1 << 23))), "cut off"),
        ("texts larger than the file", one(&entry("k", 9, &array(8, 1 << 23))), "cut off"),
        ("floats larger than the file", one(&entry("k", 9, &array(6, 1 << 23))), "cut off"),
        ("array of arrays", one(&entry("k", 9, &array(9, 1))), "type 9"),
        ("array of nothing known", one(&entry("k", 9, &array(99, 1))), "type 99"),
        ("alignment 0", one(&entry("general.alignment", 4, &0u32.to_le_bytes())), "alignment is 0"),
        ("alignment 24", one(&entry("general.alignment", 4, &24u32.to_le_bytes())), "alignment is 24"),
        ("alignment 2^31", one(&entry("general.alignment", 4, &(1u32 << 31).to_le_bytes())), "2147483648"),
        ("alignment of text", one(&entry("general.alignment", 8, &text("32"))), "alignment"),
        ("long tensor name", with(&[&head(1, 0), &tensor(&"n".repeat(64), &[1], 0, 0)]), "64 bytes long"),
        ("five dimensions", with(&[&head(1, 0), &tensor("t", &[1; 5], 0, 0)]), "5 dimensions"),
        ("no elements", with(&[&head(1, 0), &tensor("t", &[0, 4], 0, 0)]), "shape"),
        ("overflowing shape", with(&[&head(1, 0), &tensor("t", &[1 << 40, 1 << 40], 0, 0)]), "shape"),
        ("shape beyond signed", with(&[&head(1, 0), &tensor("t", &[1 << 62, 2], 24, 0)]), "shape"),
        ("negative side", with(&[&head(1, 0), &tensor("t", &[u64::MAX], 0, 0)]), "shape"),
        ("removed tensor type", with(&[&head(1, 0), &tensor("t", &[32], 4, 0)]), "tensor type 4"),
        ("unknown tensor type", with(&[&head(1, 0), &tensor("t", &[32], 4_000_000_000, 0)]), "4000000000"),
        ("broken rows", with(&[&head(1, 0), &tensor("t", &[33], 8, 0)]), "multiple of 32"),
        ("first tensor not at 0", with(&[&head(1, 0), &tensor("t", &[32], 0, 32)]), "starts at 32"),
        ("offset beyond all", with(&[&head(1, 0), &tensor("t", &[32], 0, u64::MAX - 31)]), "starts at"),
        (
            "overlapping tensors",
            with(&[&head(2, 0), &tensor("a", &[32], 0, 0), &tensor("b", &[32], 0, 64)]),
            "starts at 64",
        ),
        (
            "tensors with a gap",
            with(&[&head(2, 0), &tensor("a", &[32], 0, 0), &tensor("b", &[32], 0, 256)]),
            "starts at 256",
        ),
        (
            "two tensors of one name",
            with(&[&head(2, 0), &tensor("a", &[32], 0, 0), &tensor("a", &[32], 0, 128)]),
            "twice",
        ),
        ("data beyond the file", with(&[&head(1, 0), &tensor("t", &[1 << 40], 0, 0)]), "promises 4398046511"),
    ]
}

#[test]
fn hostile_headers_get_their_sentence() {
    for (name, bytes, word) in hostile() {
        let sentence = parse(&bytes).expect_err(name).to_string();
        assert!(sentence.contains(word), "{name}: {sentence}");
    }
}

#[test]
fn odd_but_honest_headers_are_read() {
    let odd = [
        head(1, 3),
        entry("long", 8, &text(&"x".repeat(TEXT_BYTES_MAX as usize + 1))),
        entry("stray", 8, &[&2u64.to_le_bytes()[..], b"\xffa"].concat()),
        entry("general.alignment", 10, &64u64.to_le_bytes()),
        tensor("scalar", &[], 0, 0),
    ];
    let mut bytes = odd.concat();
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend_from_slice(&[0; 4]);
    let header = parse(&bytes).unwrap();
    assert_eq!(header.values["long"], Value::LongText(TEXT_BYTES_MAX + 1));
    assert_eq!(header.text("stray"), Some("\u{fffd}a"));
    assert_eq!((header.alignment, header.tensors[0].elements()), (64, 1));
}

#[test]
fn block_sizes_are_those_of_the_formats() {
    // Bits per weight, known from each format's description.
    for (kind, bits) in [
        (TensorKind::F32, 32.0),
        (TensorKind::BF16, 16.0),
        (TensorKind::Q8_0, 8.5),
        (TensorKind::Q4_0, 4.5),
        (TensorKind::Q4_1, 5.0),
        (TensorKind::Q5_0, 5.5),
        (TensorKind::Q2_K, 2.625),
        (TensorKind::Q3_K, 3.4375),
        (TensorKind::Q4_K, 4.5),
        (TensorKind::Q5_K, 5.5),
        (TensorKind::Q6_K, 6.5625),
        (TensorKind::IQ2_XXS, 2.0625),
        (TensorKind::IQ2_XS, 2.3125),
        (TensorKind::IQ3_XXS, 3.0625),
        (TensorKind::IQ3_S, 3.4375),
        (TensorKind::IQ4_XS, 4.25),
        (TensorKind::IQ1_S, 1.5625),
        (TensorKind::IQ1_M, 1.75),
        (TensorKind::MXFP4, 4.25),
    ] {
        assert_eq!(kind.block_bytes() as f64 * 8.0 / kind.block_elements() as f64, bits, "{}", kind.name());
    }
    for kind in TensorKind::ALL {
        assert_eq!(TensorKind::of(kind.number()), Some(*kind));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        let _ = parse(&[&head(1, 1)[..], &bytes].concat());
        let _ = parse(&[&head(0, 1)[..], &text("k"), &bytes].concat());
        let _ = parse(&[&head(1, 0)[..], &text("t"), &bytes].concat());
    }

    #[test]
    fn changed_bytes_never_panic_nor_reach_beyond_the_file(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = good();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let whole = parse(&bytes);
        if let Ok(header) = whole {
            prop_assert!(header.data_end <= bytes.len() as u64);
            for tensor in &header.tensors {
                prop_assert!(header.data_start + tensor.offset + tensor.bytes <= bytes.len() as u64);
            }
            if let Some(tokens) = header.array("tokenizer.ggml.tokens") {
                let _ = strings(Cursor::new(&bytes), bytes.len() as u64, tokens, &[0, 1, 2, 1000], 16);
            }
        }
        let _ = parse(&bytes[..cut.index(bytes.len())]);
    }
}
