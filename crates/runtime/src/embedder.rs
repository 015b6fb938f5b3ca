//! The engine's embedding model, as the map wants it.

use crate::stream::Reader;
use base::{Code, Fault};
use engine::{Engine, ModelSource};

/// Embeds on the calling thread, which must not be one of the async runtime's.
#[derive(Debug, Clone)]
pub(crate) struct Embedder {
    pub(crate) engine: Engine,
    pub(crate) source: ModelSource,
    /// Whoever waits for the vectors; when they go, the work ends. `None`: it is done in any case.
    pub(crate) reader: Option<Reader>,
}

impl map::Embed for Embedder {
    fn model(&self) -> String {
        self.source.name.0.clone()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        let Some(reader) = &self.reader else {
            return Ok(self.engine.embed_blocking(self.source.clone(), texts.to_vec())?.vectors);
        };
        match reader.unless_gone(self.engine.embed(self.source.clone(), texts.to_vec())) {
            Some(embedded) => Ok(embedded?.vectors),
            None => Err(Fault::new(Code::Cancelled, "nobody waits for these vectors any more")),
        }
    }
}
