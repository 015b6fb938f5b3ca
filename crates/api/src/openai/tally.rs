//! The fold over an answer's deltas that the streaming and the whole reply share. Pure.

use base::{Code, Compaction, Delta, Fault, Finish, Usage};
use serde::Serialize;

/// What one delta means to a reply.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing for the client yet.
    Nothing,
    Text(String),
    /// Oldest turns were left out; worth a word before the answer.
    Compacted,
    End(Finish),
}

/// What has been heard so far, text left out.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) usage: Usage,
    pub(crate) notices: Vec<String>,
    compacted: Option<Compaction>,
}

impl Tally {
    pub(crate) fn take(&mut self, delta: Delta) -> Step {
        match delta {
            Delta::Text(text) => Step::Text(text),
            Delta::Usage(usage) => {
                self.usage = usage;
                Step::Nothing
            }
            Delta::Notice(text) => {
                self.notices.push(text);
                Step::Nothing
            }
            Delta::Compacted(compaction) => {
                self.compacted = Some(compaction);
                Step::Compacted
            }
            Delta::Done(finish) => Step::End(finish),
            // A chat has no citations: they are made from files, by `ask`.
            Delta::Progress(_) | Delta::Citation(_) => Step::Nothing,
        }
    }

    pub(crate) fn usage(&self) -> UsageObject {
        let usage = &self.usage;
        UsageObject {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionDetails {
                accepted_prediction_tokens: usage.accepted_tokens,
                rejected_prediction_tokens: usage.drafted_tokens.saturating_sub(usage.accepted_tokens),
            },
        }
    }

    /// Freehold's own addition to a reply: the window that was really there, and where time went.
    pub(crate) fn extra(&self) -> Extra {
        let usage = &self.usage;
        let ms = |micros: u64| micros as f64 / 1_000.0;
        Extra {
            context_tokens: usage.context_tokens,
            queue_ms: ms(usage.queue_us),
            load_ms: ms(usage.load_us),
            prefill_ms: ms(usage.prefill_us),
            decode_ms: ms(usage.decode_us),
            prefill_tokens_per_sec: usage.prefill_tokens_per_sec(),
            decode_tokens_per_sec: usage.decode_tokens_per_sec(),
            notices: self.notices.clone(),
            compacted: self.compacted,
        }
    }
}

/// A stream that ends without `Done` is a defect, and a reply mustn't look complete then.
pub(crate) fn broken_off() -> Fault {
    Fault::new(Code::Internal, "the answer ended without its last word").hint("send the request again")
}

#[derive(Debug, Serialize)]
pub(crate) struct UsageObject {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

/// What was guessed from the text itself and computed ahead.
#[derive(Debug, Serialize)]
struct CompletionDetails {
    accepted_prediction_tokens: u32,
    rejected_prediction_tokens: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Extra {
    context_tokens: u32,
    queue_ms: f64,
    load_ms: f64,
    prefill_ms: f64,
    decode_ms: f64,
    prefill_tokens_per_sec: f64,
    decode_tokens_per_sec: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
    /// What was left out of the prompt, where the request allowed that and it was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    compacted: Option<Compaction>,
}
