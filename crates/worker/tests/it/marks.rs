//! Special tokens within an answer: those that are marks of the model's language are shown where that is asked for.

use crate::harness::{Worker, begin, chat, greedy, load, model};
use wire::{Begin, Load, WireSampling};

/// `<|im_start|>` of the starter model, which ends nothing.
const MARK: u32 = 1;

#[test]
fn marks_stand_in_the_text_only_where_they_are_to_be_shown() {
    let said = |shown: &[&str]| {
        let load = Load { shown: shown.iter().map(|name| (*name).to_owned()).collect(), ..load() };
        let (mut worker, _) = Worker::with(&load, &model());
        let sampling = WireSampling { logit_bias: vec![(MARK, 100.0)], ..greedy() };
        worker.generate(Begin { sampling, ..begin(1, &chat("Hello"), 2) }).unwrap().text
    };
    assert_eq!(said(&[]), "");
    assert_eq!(said(&["<|im_end|>", "no such token"]), "");
    assert_eq!(said(&["<|im_start|>"]), "<|im_start|><|im_start|>");
}
