//! The embedder's vectors are those of the published weights: a plain F32 computation of them, over texts
//! of many kinds, is kept beside `store`, which wrote the model's file.

use crate::harness::{Worker, embedder, load};
use wire::Load;

/// Weights of 8 bits are to be within 0.99; these are within 0.9988 on the shortest text, and 0.9995 on average.
const COSINE_MIN: f64 = 0.998;

#[test]
fn vectors_are_those_of_the_published_weights() {
    let text = include_str!("../../../store/tests/fixtures/minilm-reference.json");
    let references: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let texts: Vec<&str> = references.iter().map(|reference| reference["text"].as_str().unwrap()).collect();
    let (mut worker, _) = Worker::with(&Load { embed: true, context_tokens: 0, ..load() }, &embedder());
    let vectors = worker.vectors(1, &texts).unwrap();
    assert!(references.len() >= 12);
    for ((reference, vector), tokens) in references.iter().zip(&vectors.rows).zip(vectors.tokens) {
        let want: Vec<f64> = reference["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert_eq!((want.len(), Some(u64::from(tokens))), (vector.len(), reference["tokens"].as_u64()), "{reference}");
        let cosine: f64 = want.iter().zip(vector).map(|(a, b)| a * f64::from(*b)).sum();
        assert!(cosine >= COSINE_MIN, "{cosine} for {}", reference["text"]);
    }
}
