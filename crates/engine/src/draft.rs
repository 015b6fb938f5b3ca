//! The draft model of a worker: what it takes of the memory, and how it is handed over.

use crate::handle::DraftSource;
use crate::plan;
use base::{CacheShape, ModelFacts};
use std::fs::File;
use wire::WireDraftModel;

/// Tokens that it may hold, of the answers together that are drafted for beside each other.
const CONTEXT_TOKENS: u32 = 4096;
/// Tokens that it reads in one step.
const BATCH_TOKENS: u32 = 256;
/// Rows of scores: one for each of these answers.
const ROWS: u64 = 2;
/// Of the memory that a model leaves, its draft model takes no more than one part in so many: the rest is what its pool and
/// others may still need.
const SPARE_PART: u64 = 2;

/// Bytes that a draft model takes beside its model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DraftCost {
    /// Weights and tables, which stay while the worker rests.
    pub(crate) weights: u64,
    /// Cache and room to compute.
    pub(crate) room: u64,
}

impl DraftCost {
    pub(crate) fn all(self) -> u64 {
        self.weights.saturating_add(self.room)
    }

    /// Nothing when it doesn't fit into what its model leaves (`None`: not known).
    pub(crate) fn within(self, spare: Option<u64>) -> Self {
        if spare.is_none_or(|spare| self.all() <= spare / SPARE_PART) { self } else { Self::default() }
    }
}

/// As far as its header tells.
pub(crate) fn cost(facts: &ModelFacts) -> DraftCost {
    let unknown = CacheShape { per_token: plan::kv_bytes_per_token(facts), ..CacheShape::default() };
    let shape = facts.cache.unwrap_or(unknown);
    // Layers with a window keep all tokens here, and the masks of both kinds are there.
    let token = shape.per_token.saturating_add(shape.windowed_per_token);
    let token = token.saturating_add(2 * plan::MASK_BYTES * u64::from(BATCH_TOKENS));
    let scores = ROWS * 4 * u64::from(facts.vocab_tokens);
    DraftCost {
        weights: facts.weights_bytes.saturating_add(plan::vocabulary_bytes(facts)),
        room: token
            .saturating_mul(CONTEXT_TOKENS.into())
            .saturating_add(plan::activation_bytes(facts, BATCH_TOKENS))
            .saturating_add(scores),
    }
}

/// Ready to be handed over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) wire: WireDraftModel,
    pub(crate) file: File,
}

/// One that can't be opened is left out: the model does without. `others`: files that are handed over beside it.
pub(crate) fn open(source: Option<&DraftSource>, granted: DraftCost, others: usize) -> Option<Opened> {
    let source = source.filter(|_| granted.all() > 0 && others < wire::FDS_MAX)?;
    match File::open(&source.path) {
        Ok(file) => {
            let name = source.name.0.clone();
            let wire = WireDraftModel { name, context_tokens: CONTEXT_TOKENS, batch_tokens: BATCH_TOKENS };
            Some(Opened { wire, file })
        }
        Err(error) => {
            tracing::warn!(path = %source.path.display(), %error, "a draft model can't be opened");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Modality;

    #[test]
    fn a_draft_model_is_counted_with_its_weights_its_cache_and_its_room() {
        let facts = ModelFacts {
            weights_bytes: 400 << 20,
            vocab_tokens: 151_936,
            embedding_length: 896,
            forward_length: 4864,
            cache: Some(CacheShape { per_token: 12_288, windowed_per_token: 4096, ..CacheShape::default() }),
            ..testkit::model::facts("d", Modality::Chat)
        };
        let cost = cost(&facts);
        assert_eq!(cost.weights, (400 << 20) + 272 * 151_936);
        let cache = (12_288 + 4096) * 4096;
        assert!(cost.room > cache && cost.room < cache + (40 << 20), "{cost:?}");
        let absurd = ModelFacts { weights_bytes: u64::MAX, embedding_length: u32::MAX, ..facts };
        assert_eq!(super::cost(&absurd).all(), u64::MAX);
    }

    #[test]
    fn it_takes_no_more_than_half_of_what_its_model_leaves() {
        let cost = DraftCost { weights: 300, room: 100 };
        assert_eq!((cost.within(Some(800)), cost.within(None)), (cost, cost));
        assert_eq!(cost.within(Some(799)), DraftCost::default());
    }

    #[test]
    fn one_that_is_gone_or_was_not_granted_is_left_out() {
        let home = testkit::TempHome::new();
        let path = home.join("d.gguf");
        let facts = std::sync::Arc::new(testkit::model::facts("d", Modality::Chat));
        let source = DraftSource { name: base::ModelName("d".into()), path: path.clone(), facts };
        let granted = DraftCost { weights: 1, room: 1 };
        assert!(open(Some(&source), granted, 1).is_none(), "there is no such file");
        std::fs::write(&path, "x").expect("written");
        assert_eq!(open(Some(&source), granted, 1).map(|opened| opened.wire.name), Some("d".into()));
        assert!(open(Some(&source), DraftCost::default(), 1).is_none());
        assert!(open(Some(&source), granted, wire::FDS_MAX).is_none());
        assert!(open(None, granted, 1).is_none());
    }
}
