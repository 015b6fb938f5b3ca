//! Vectors of texts and ranks of documents: lists of any length, in frames small enough that other asks get
//! between them.

use crate::answer::{Item, Reader, wait_for};
use crate::handle::{Engine, ModelSource, Order, own_app, result};
use crate::supervise::Job;
use base::{Code, Fault, Modality, Priority};
use std::collections::VecDeque;
use wire::{EmbedHow, WirePooling};

/// LIMIT: texts and bytes of one frame, so that others get between two frames.
const FRAME_TEXTS_MAX: usize = 32;
const FRAME_BYTES_SOME: usize = 128 << 10;
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Frames under way at once: the worker has the next when it ends one.
const FRAMES_UNDER_WAY: usize = 2;
/// So many texts are somebody's question; more are an index in the making.
const INTERACTIVE_TEXTS_MAX: usize = 8;

/// How texts become vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// `None`: as the model's file says.
    pub pooling: Option<WirePooling>,
    /// Bring every vector to length one, so that a dot product is the cosine.
    pub normalize: bool,
    /// Keep only so many of the first dimensions, of a model that was trained for it.
    pub dimensions: Option<u32>,
    /// Leave out the end of a text that is longer than the window, instead of refusing it.
    pub truncate: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalize: true, dimensions: None, truncate: false }
    }
}

/// One vector per text and in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// What each text took.
    pub tokens: Vec<u32>,
    /// What was left out of each; all 0 unless that was allowed.
    pub left_out: Vec<u32>,
}

/// How well each document answers the query, in their order; more is better.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranked {
    pub scores: Vec<f32>,
    /// What each pair took.
    pub tokens: Vec<u32>,
    /// What was left out of each document; all 0 unless that was allowed.
    pub left_out: Vec<u32>,
}

impl Engine {
    /// Embeds texts as the model's file says, to vectors of length one.
    ///
    /// # Errors
    /// As [`Engine::embed_as`].
    pub async fn embed(&self, model: ModelSource, texts: Vec<String>) -> Result<Embedded, Fault> {
        self.embed_as(model, texts, EmbedOptions::default()).await
    }

    /// Embeds texts.
    ///
    /// # Errors
    /// [`Code::ModelUnfit`] for a model that doesn't embed; more dimensions than it has; else what the worker says,
    /// or its end.
    pub async fn embed_as(
        &self,
        model: ModelSource,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<Embedded, Fault> {
        unless(&model, Modality::Embed, "makes no embeddings", "an embedding")?;
        let EmbedOptions { pooling, normalize, truncate, dimensions } = options;
        // Another length is made of fewer dimensions than of all.
        let how = EmbedHow { pooling, normalize: normalize && dimensions.is_none(), truncate };
        let job = |texts| Job::Embed { texts, how };
        let mut made = self.rows(&model, frames(texts)?, job).await?;
        for vector in &mut made.vectors {
            shape(vector, dimensions, normalize, &model.name.0)?;
        }
        Ok(made)
    }

    /// As [`Engine::embed`], on a thread that may block.
    ///
    /// # Errors
    /// As [`Engine::embed_as`].
    pub fn embed_blocking(&self, model: ModelSource, texts: Vec<String>) -> Result<Embedded, Fault> {
        wait_for(self.embed(model, texts))
    }

    /// Judges how well each document answers the query.
    ///
    /// # Errors
    /// [`Code::ModelUnfit`] for a model that doesn't rank; else what the worker says, or its end.
    pub async fn rank(
        &self,
        model: ModelSource,
        query: String,
        documents: Vec<String>,
        truncate: bool,
    ) -> Result<Ranked, Fault> {
        unless(&model, Modality::Rerank, "ranks no documents", "a reranking")?;
        frames(vec![query.clone()])?;
        let job = |documents| Job::Rank { query: query.clone(), documents, truncate };
        let Embedded { vectors, tokens, left_out } = self.rows(&model, frames(documents)?, job).await?;
        let score = |row: Vec<f32>| row.first().copied().unwrap_or_default();
        Ok(Ranked { scores: vectors.into_iter().map(score).collect(), tokens, left_out })
    }

    async fn rows(
        &self,
        model: &ModelSource,
        frames: Vec<Vec<String>>,
        job: impl Fn(Vec<String>) -> Job,
    ) -> Result<Embedded, Fault> {
        let texts: usize = frames.iter().map(Vec::len).sum();
        let priority = if texts <= INTERACTIVE_TEXTS_MAX { Priority::Interactive } else { Priority::Batch };
        let mut frames = frames.into_iter();
        let mut under_way: VecDeque<Reader> = VecDeque::new();
        let mut all = Embedded::default();
        loop {
            while under_way.len() < FRAMES_UNDER_WAY
                && let Some(texts) = frames.next()
            {
                let job = job(texts);
                let order = Order { model: model.clone(), app: own_app(), priority, deadline_ms: None, job };
                under_way.push_back(self.send(order, None));
            }
            let Some(mut reader) = under_way.pop_front() else { return Ok(all) };
            let made = result(&mut reader, |item| match item {
                Item::Vectors(made) => Some(made),
                Item::Delta(_)
                | Item::Scored(_)
                | Item::Counted(_)
                | Item::Probed(_)
                | Item::Opened { .. }
                | Item::Loose { .. } => None,
            })
            .await?;
            all.vectors.extend(made.vectors);
            all.tokens.extend(made.tokens);
            all.left_out.extend(made.left_out);
        }
    }
}

fn unless(model: &ModelSource, wanted: Modality, cannot: &str, kind: &str) -> Result<(), Fault> {
    let (name, found) = (&model.name.0, model.facts.modality);
    if found == wanted {
        return Ok(());
    }
    let is = match found {
        Modality::Chat => "a chat model",
        Modality::Embed => "an embedding model",
        Modality::Rerank => "a reranking model",
        Modality::Adapter => "an adapter",
    };
    Err(Fault::new(Code::ModelUnfit, format!("`{name}` is {is} and {cannot}"))
        .hint(format!("name {kind} model; `freehold models` shows what each is for")))
}

fn frames(texts: Vec<String>) -> Result<Vec<Vec<String>>, Fault> {
    let mut frames: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        if text.len() > TEXT_BYTES_MAX {
            let size = text.len();
            return Err(Fault::new(
                Code::InvalidAsk,
                format!("a text holds {size} bytes; {TEXT_BYTES_MAX} is the most for one vector or rank"),
            )
            .hint("cut it into passages: a vector of so much text finds nothing"));
        }
        match frames.last_mut() {
            Some(frame) if frame.len() < FRAME_TEXTS_MAX && bytes + text.len() <= FRAME_BYTES_SOME => {
                bytes += text.len();
                frame.push(text);
            }
            _ => {
                bytes = text.len();
                frames.push(vec![text]);
            }
        }
    }
    Ok(frames)
}

/// Checks what a worker sent: as many numbers as texts and dimensions make, and all of them numbers.
pub(crate) fn check(dimensions: u32, values: &[f32], tokens: Vec<u32>, left_out: Vec<u32>) -> Result<Embedded, Fault> {
    let width = usize::try_from(dimensions).unwrap_or(0);
    if width == 0 || values.len() != width.saturating_mul(tokens.len()) || tokens.len() != left_out.len() {
        let (count, texts) = (values.len(), tokens.len());
        let words = format!("the worker sent {count} numbers for {texts} vectors of {dimensions}");
        return Err(Fault::new(Code::Internal, words));
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Fault::new(Code::Internal, format!("the model made a vector that holds {value}")));
    }
    let vectors = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
    Ok(Embedded { vectors, tokens, left_out })
}

/// Cuts a vector to its first dimensions and brings it to length one, as far as that is wanted.
fn shape(vector: &mut Vec<f32>, dimensions: Option<u32>, normalize: bool, name: &str) -> Result<(), Fault> {
    if let Some(wanted) = dimensions {
        let (keep, found) = (usize::try_from(wanted).unwrap_or(usize::MAX), vector.len());
        if keep == 0 || keep > found {
            let hint = format!("`{name}` makes vectors of {found}: ask for 1 to {found}, or leave it out");
            return Err(Fault::new(Code::InvalidAsk, format!("`dimensions` is {wanted}")).hint(hint));
        }
        vector.truncate(keep);
    }
    if !normalize {
        return Ok(());
    }
    let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(Fault::new(Code::Internal, format!("the model made a vector of length {length}")));
    }
    for value in vector.iter_mut() {
        *value = (f64::from(*value) / length) as f32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_all_texts_in_order_and_are_bounded() {
        let texts: Vec<String> = (0..100).map(|i| format!("{i}").repeat(1 + i * 100)).collect();
        let framed = frames(texts.clone()).expect("none is too long");
        assert!(framed.iter().all(|frame| frame.len() <= FRAME_TEXTS_MAX));
        let bytes = |frame: &Vec<String>| frame.iter().map(String::len).sum::<usize>();
        assert!(framed.iter().all(|frame| frame.len() == 1 || bytes(frame) <= FRAME_BYTES_SOME));
        assert_eq!(framed.concat(), texts);
        assert_eq!(frames(Vec::new()).expect("nothing").len(), 0);
        let fault = frames(vec!["x".repeat(TEXT_BYTES_MAX + 1)]).expect_err("too long");
        assert_eq!(fault.code, Code::InvalidAsk);
    }

    #[test]
    fn a_vector_is_cut_first_and_scaled_then() {
        let shaped = |dimensions, normalize| {
            let mut vector = vec![3.0, 4.0, 12.0];
            shape(&mut vector, dimensions, normalize, "m").map(|()| vector)
        };
        assert_eq!(shaped(None, false), Ok(vec![3.0, 4.0, 12.0]));
        assert_eq!(shaped(Some(2), false), Ok(vec![3.0, 4.0]));
        assert_eq!(shaped(Some(2), true), Ok(vec![0.6, 0.8]));
        assert_eq!(shaped(Some(3), true), shaped(None, true));
        for wanted in [0, 4, u32::MAX] {
            let fault = shaped(Some(wanted), true).expect_err("not to be had");
            assert!(fault.code == Code::InvalidAsk && fault.message.contains(&wanted.to_string()), "{fault:?}");
            assert!(fault.hints[0].contains("1 to 3"), "{fault:?}");
        }
        assert!(shape(&mut vec![0.0, 0.0, 1.0], Some(2), true, "m").is_err(), "nothing is left to scale");
    }

    #[test]
    fn what_a_worker_sends_is_checked() {
        assert!(check(2, &[1.0, 2.0], vec![1], vec![0]).is_ok());
        for (dimensions, values, texts) in
            [(2, vec![1.0], 1), (0, vec![], 0), (2, vec![1.0, f32::NAN], 1), (1, vec![1.0, 2.0], 1)]
        {
            let fault = check(dimensions, &values, vec![1; texts], vec![0; texts]).expect_err("refused");
            assert_eq!(fault.code, Code::Internal);
        }
        assert!(check(1, &[1.0], vec![1], vec![]).is_err());
    }
}
