//! What caches keep, by architecture.

use super::*;
use crate::gguf::read;
use crate::gguf::write::{Layout, Value as W};
use std::io::Cursor;

/// A header of `arch` with four layers of width 64, eight heads.
fn shape(arch: &str, layers: u32, more: &[(&str, W)]) -> CacheShape {
    let key = |name: &str| format!("{arch}.{name}");
    let layout = Layout::default().value(&key("attention.head_count"), W::U32(8));
    let layout = more.iter().fold(layout, |layout, (name, value)| layout.value(&key(name), value.clone()));
    let bytes = layout.begin(Vec::new()).unwrap().finish().unwrap();
    let header = read(Cursor::new(&bytes), bytes.len() as u64).unwrap();
    Kept::read(&header, arch, layers, 64).unwrap().shape()
}

fn window(tokens: u32) -> (&'static str, W) {
    ("attention.sliding_window", W::U32(tokens))
}

/// Bytes of one token in one layer.
const ONE: u64 = 8 * 16 * 2;

#[test]
fn a_window_holds_for_the_layers_that_each_architecture_gives_one() {
    let whole_and_windowed = |arch: &str, layers: u32, more: &[(&str, W)]| {
        let shape = shape(arch, layers, more);
        (shape.per_token / ONE, shape.windowed_per_token / ONE, shape.window_tokens)
    };
    assert_eq!(whole_and_windowed("llama", 6, &[window(512)]), (6, 0, 0), "it doesn't look at windows");
    assert_eq!(whole_and_windowed("gemma3", 13, &[window(512)]), (2, 11, 512));
    assert_eq!(whole_and_windowed("gemma3", 6, &[]), (6, 0, 0));
    assert_eq!(whole_and_windowed("gemma3", 6, &[window(0)]), (6, 0, 0));
    assert_eq!(whole_and_windowed("gemma2", 5, &[]), (2, 3, 4096));
    assert_eq!(whole_and_windowed("gpt-oss", 4, &[window(128)]), (2, 2, 128));
    assert_eq!(whole_and_windowed("cohere2moe", 8, &[window(128)]), (2, 6, 128));
    assert_eq!(whole_and_windowed("smallthinker", 8, &[window(128)]), (2, 6, 4096));
    let every = ("attention.sliding_window_pattern", W::U32(3));
    assert_eq!(whole_and_windowed("gemma3", 6, &[window(9), every]), (2, 4, 9));
    let listed = ("attention.sliding_window_pattern", W::I32s(vec![1, 0, 0, 1]));
    assert_eq!(whole_and_windowed("mimo2", 4, &[window(9), listed.clone()]), (2, 2, 9));
    assert_eq!(whole_and_windowed("gemma3", 4, &[window(9), listed]), (2, 2, 9));
}

#[test]
fn layers_with_a_window_have_heads_of_their_own_and_shared_ones_keep_nothing() {
    let shape = shape(
        "gemma4",
        5,
        &[
            window(32),
            ("attention.sliding_window_pattern", W::I32s(vec![1, 1, 0, 1, 0])),
            ("attention.head_count_kv", W::U32(1)),
            ("attention.key_length", W::U32(128)),
            ("attention.value_length", W::U32(128)),
            ("attention.key_length_swa", W::U32(64)),
            ("attention.value_length_swa", W::U32(64)),
            ("attention.shared_kv_layers", W::U32(2)),
        ],
    );
    assert_eq!((shape.per_token, shape.windowed_per_token), (256 * 2, 2 * 128 * 2));
}

#[test]
fn a_state_is_as_large_as_the_architecture_makes_it() {
    let ssm = |groups: u32| {
        vec![
            ("ssm.conv_kernel", W::U32(4)),
            ("ssm.inner_size", W::U32(256)),
            ("ssm.state_size", W::U32(64)),
            ("ssm.group_count", W::U32(groups)),
        ]
    };
    let one = |groups: u64| 4 * (3 * (256 + 2 * groups * 64) + 64 * 256);
    let mamba = shape("mamba2", 4, &ssm(1));
    assert_eq!((mamba.per_token, mamba.state), (0, 4 * one(1)));
    // One layer of four attends, whether the file says so or not.
    let with = |more: &[(&'static str, W)]| [ssm(2), more.to_vec()].concat();
    for header in [with(&[]), with(&[("full_attention_interval", W::U32(4))])] {
        let hybrid = shape("qwen35", 8, &header);
        assert_eq!((hybrid.per_token, hybrid.state), (2 * ONE, 6 * one(2)));
    }
    // The layer that predicts further tokens keeps nothing.
    let ahead = shape("qwen35", 9, &with(&[("nextn_predict_layers", W::U32(1))]));
    assert_eq!((ahead.per_token, ahead.state), (2 * ONE, 6 * one(2)));
    let granite =
        shape("granitehybrid", 3, &[ssm(1), vec![("attention.head_count_kv", W::I32s(vec![0, 8, 0]))]].concat());
    assert_eq!((granite.per_token, granite.state), (ONE, 2 * one(1)));
    let conv = ("shortconv.l_cache", W::U32(3));
    let lfm = shape("lfm2", 3, &[("attention.head_count_kv", W::I32s(vec![0, 8, 0])), conv]);
    assert_eq!((lfm.per_token, lfm.state), (ONE, 2 * 64 * 2 * 4));
    let kimi = shape(
        "kimi-linear",
        2,
        &[
            ("attention.head_count_kv", W::I32s(vec![0, 1])),
            ("attention.key_length", W::U32(96)),
            ("attention.key_length_mla", W::U32(96)),
            ("ssm.conv_kernel", W::U32(4)),
            ("kda.head_dim", W::U32(64)),
        ],
    );
    assert_eq!((kimi.per_token, kimi.state), (96 * 2, 4 * (9 * 8 * 64 + 64 * 64 * 8)));
    let rwkv = shape("rwkv7", 2, &[("wkv.head_size", W::U32(16))]);
    assert_eq!((rwkv.per_token, rwkv.state), (0, 2 * 4 * (2 * 64 + 16 * 64)));
}
