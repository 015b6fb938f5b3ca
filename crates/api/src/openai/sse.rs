//! An answer as server-sent events: role first, text, finish, usage when asked for, `[DONE]`.
//!
//! While nothing is said (a model loads, a long prompt is worked through) a comment line goes
//! out every few seconds, so that no client thinks the connection dead. A failure in the middle
//! is one last `data: {"error": …}`. Dropping the stream drops the answer, which cancels it.

use super::tally::{CallObject, Extra, Step, Tally, UsageObject, broken_off};
use crate::reply::error_body;
use axum::body::Bytes;
use base::answer::Progress;
use base::{Delta, Fault};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// Clients and proxies give up after 15 s of silence at the earliest.
pub(crate) const KEEP_ALIVE_MS: u64 = 10_000;

/// Where deltas come from. `next` may be dropped and called again without losing one.
pub(crate) trait Deltas: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Option<Result<Delta, Fault>>> + Send;
}

impl Deltas for runtime::Answer {
    fn next(&mut self) -> impl Future<Output = Option<Result<Delta, Fault>>> + Send {
        runtime::Answer::next(self)
    }
}

/// What all chunks of one reply say alike.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) include_usage: bool,
}

#[derive(Debug, Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    /// With `include_usage`: null on all chunks but the last. Without: not there at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freehold: Option<Extra>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    delta: Spoken<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Spoken<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    /// What the model thought, by both names that clients look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallObject; 1]>,
}

/// Turns `deltas` (after those in `first`) into the bytes of an event stream.
pub(crate) fn events<D: Deltas>(
    heading: Heading,
    first: VecDeque<Delta>,
    deltas: D,
    keep_alive: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let writer = Writer {
        heading,
        tally: Tally::default(),
        first,
        deltas,
        progress: None,
        keep_alive,
        silent_since: Instant::now(),
        stage: Stage::Role,
    };
    stream::unfold(writer, |mut writer| async move { writer.next().await.map(|bytes| (Ok(bytes), writer)) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Role,
    Text,
    Ended,
}

struct Writer<D> {
    heading: Heading,
    tally: Tally,
    first: VecDeque<Delta>,
    deltas: D,
    progress: Option<Progress>,
    keep_alive: Duration,
    silent_since: Instant,
    stage: Stage,
}

impl<D: Deltas> Writer<D> {
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Ended => return None,
            Stage::Role => {
                self.stage = Stage::Text;
                return Some(self.said(
                    self.chunk(Spoken { role: Some("assistant"), content: Some(""), ..Spoken::default() }, None),
                ));
            }
            Stage::Text => {}
        }
        loop {
            let delta = match self.first.pop_front() {
                Some(delta) => Some(Ok(delta)),
                None => match tokio::time::timeout_at(self.silent_since + self.keep_alive, self.deltas.next()).await {
                    Ok(delta) => delta,
                    Err(_) => return Some(self.said(comment(self.progress.as_ref()))),
                },
            };
            match delta {
                Some(Ok(delta)) => {
                    if let Some(bytes) = self.take(delta) {
                        return Some(self.said(bytes));
                    }
                }
                Some(Err(fault)) => return Some(self.fail(&fault)),
                None => return Some(self.fail(&broken_off())),
            }
        }
    }

    fn take(&mut self, delta: Delta) -> Option<Vec<u8>> {
        if let Delta::Progress(progress) = &delta {
            self.progress = Some(progress.clone());
        }
        match self.tally.take(delta) {
            Step::Nothing => None,
            Step::Compacted => Some(self.aside()),
            Step::Text(text) => Some(self.chunk(Spoken { content: Some(&text), ..Spoken::default() }, None)),
            Step::Thought(text) => {
                let (reasoning_content, reasoning) = (Some(text.as_str()), Some(text.as_str()));
                Some(self.chunk(Spoken { reasoning_content, reasoning, ..Spoken::default() }, None))
            }
            Step::Call(piece) => {
                let tool_calls = Some([CallObject::from(piece)]);
                Some(self.chunk(Spoken { tool_calls, ..Spoken::default() }, None))
            }
            Step::End(finish) => {
                self.stage = Stage::Ended;
                let mut bytes = self.chunk(Spoken::default(), Some(finish.openai()));
                if self.heading.include_usage {
                    bytes.extend(self.usage_chunk());
                }
                bytes.extend_from_slice(b"data: [DONE]\n\n");
                Some(bytes)
            }
        }
    }

    fn fail(&mut self, fault: &Fault) -> Bytes {
        self.stage = Stage::Ended;
        Bytes::from(data(&error_body(fault, None)))
    }

    fn chunk(&self, delta: Spoken<'_>, finish_reason: Option<&'static str>) -> Vec<u8> {
        let extra = finish_reason.map(|_| self.tally.extra());
        self.written(&[Choice { index: 0, delta, logprobs: None, finish_reason }], None, extra)
    }

    /// Freehold's own part before the end: whoever reads along knows what the answer is made from.
    fn aside(&self) -> Vec<u8> {
        let choice = Choice { index: 0, delta: Spoken::default(), logprobs: None, finish_reason: None };
        self.written(&[choice], None, Some(self.tally.extra()))
    }

    fn usage_chunk(&self) -> Vec<u8> {
        self.written(&[], Some(self.tally.usage()), None)
    }

    fn written(&self, choices: &[Choice<'_>], usage: Option<UsageObject>, freehold: Option<Extra>) -> Vec<u8> {
        data(&Chunk {
            id: &self.heading.id,
            object: "chat.completion.chunk",
            created: self.heading.created,
            model: &self.heading.model,
            choices,
            usage: self.heading.include_usage.then_some(usage),
            freehold,
        })
    }

    fn said(&mut self, bytes: Vec<u8>) -> Bytes {
        self.silent_since = Instant::now();
        Bytes::from(bytes)
    }
}

fn data<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = b"data: ".to_vec();
    // Our own structs with string keys always serialize; JSON text holds no raw line break.
    if let Err(error) = serde_json::to_writer(&mut bytes, value) {
        tracing::error!(%error, "an event can't be written as JSON");
    }
    bytes.extend_from_slice(b"\n\n");
    bytes
}

fn comment(progress: Option<&Progress>) -> Vec<u8> {
    match progress {
        None => ": working\n\n".into(),
        Some(Progress::Queued) => ": queued\n\n".into(),
        // The model's name came from a file, and a line break in it would end the comment.
        Some(Progress::Loading { percent, .. }) => format!(": loading the model, {percent} %\n\n").into_bytes(),
        Some(Progress::Prefill { done, total }) => {
            format!(": reading the prompt, {done} of {total} tokens\n\n").into_bytes()
        }
    }
}

#[cfg(test)]
mod tests;
