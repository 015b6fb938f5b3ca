//! The engine's embedding model, as the map wants it.

use base::Fault;
use engine::{Engine, ModelSource};

/// Embeds on the calling thread, which must not be one of the async runtime's.
#[derive(Debug, Clone)]
pub(crate) struct Embedder {
    pub(crate) engine: Engine,
    pub(crate) source: ModelSource,
}

impl map::Embed for Embedder {
    fn model(&self) -> String {
        self.source.name.0.clone()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        Ok(self.engine.embed_blocking(self.source.clone(), texts.to_vec())?.vectors)
    }
}
