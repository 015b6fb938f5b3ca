//! The engine's reranking model, as the map wants it: within a bounded time.

use crate::Inner;
use crate::stream::Reader;
use crate::view::Reranking;
use base::{Code, Fault, Modality};
use engine::{Engine, ModelSource};
use map::rerank::Judged;
use std::future::Future;
use std::time::Duration;

/// So many passages are sent at once: the engine takes them for somebody's question, not for an index in the making,
/// and others get between.
const PASSAGES_AT_ONCE: usize = 8;

/// Judges on the calling thread, which must not be one of the async runtime's.
#[derive(Debug, Clone)]
pub(crate) struct Reranker {
    engine: Engine,
    source: ModelSource,
    /// Whoever waits for the answer; when they go, the work ends. `None`: it is done in any case.
    reader: Option<Reader>,
    deadline_ms: u64,
}

/// The reranker that a request wants; `None` where it wants none, or takes what is installed and nothing is.
///
/// # Errors
/// When the request insists on one and none is installed.
pub(crate) fn reranker(inner: &Inner, wanted: Reranking, reader: Option<&Reader>) -> Result<Option<Reranker>, Fault> {
    let source = match wanted {
        Reranking::Off => None,
        Reranking::Auto => inner.model_for("", Modality::Rerank).ok(),
        Reranking::On => Some(inner.model_for("", Modality::Rerank)?),
    };
    Ok(source.map(|source| Reranker {
        engine: inner.engine.clone(),
        source,
        reader: reader.cloned(),
        deadline_ms: inner.settings.rerank_ms,
    }))
}

impl Reranker {
    /// Dropping the work, however that comes, cancels what the engine has of it.
    fn within<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let ms = self.deadline_ms;
        let limited = async {
            let in_time = tokio::time::timeout(Duration::from_millis(ms), work).await;
            in_time.unwrap_or_else(|_| {
                Err(Fault::new(Code::DeadlineExceeded, format!("it wasn't done after {ms} ms"))
                    .hint("allow it more: `rerank_ms` in config.toml; or search with `--rerank off`"))
            })
        };
        let gone = || Err(Fault::new(Code::Cancelled, "nobody waits for it any more"));
        match &self.reader {
            Some(reader) => reader.unless_gone(limited).unwrap_or_else(gone),
            None => tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .map_err(|error| Fault::new(Code::Internal, "no timer can be had").cause(error))?
                .block_on(limited),
        }
    }
}

impl map::Rerank for Reranker {
    fn model(&self) -> String {
        self.source.name.0.clone()
    }

    fn judge(&self, question: &str, passages: &[String]) -> Result<Judged, Fault> {
        self.within(async {
            let mut judged = Judged::default();
            for some in passages.chunks(PASSAGES_AT_ONCE) {
                let ranked = self.engine.rank(self.source.clone(), question.to_owned(), some.to_vec(), true).await?;
                judged.scores.extend(ranked.scores);
                judged.shortened += ranked.left_out.iter().filter(|tokens| **tokens > 0).count();
            }
            Ok(judged)
        })
    }
}
