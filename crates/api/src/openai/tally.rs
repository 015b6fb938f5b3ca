//! The fold over an answer's deltas that the streaming and the whole reply share. Pure.

use base::answer::Reuse;
use base::{CallPiece, Code, Compaction, Delta, Fault, Finish, Usage};
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
    Thought(String),
    Call(CallPiece),
}

/// What has been heard so far, text left out.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) usage: Usage,
    pub(crate) notices: Vec<String>,
    compacted: Option<Compaction>,
    finish: Option<Finish>,
}

impl Tally {
    /// With a word for the person that is known before the first delta.
    pub(crate) fn noted(notice: &str) -> Self {
        Self { notices: vec![notice.to_owned()], ..Self::default() }
    }

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
            Delta::Done(finish) => {
                self.finish = Some(finish);
                Step::End(finish)
            }
            Delta::Thought(text) => Step::Thought(text),
            Delta::Call(piece) => Step::Call(piece),
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
            finish: self.finish,
            cache: (usage.reuse != Reuse::default()).then(|| usage.reuse.clone()),
        }
    }
}

/// A stream that ends without `Done` is a defect, and a reply mustn't look complete then.
pub(crate) fn broken_off() -> Fault {
    Fault::new(Code::Internal, "the answer ended without its last word").hint("send the request again")
}

/// A call, or a piece of one: the first piece of each has its id, type and name, the others arguments alone.
#[derive(Debug, Serialize)]
pub(crate) struct CallObject {
    /// In streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionObject,
}

#[derive(Debug, Serialize)]
struct FunctionObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl From<CallPiece> for CallObject {
    fn from(CallPiece { index, id, name, arguments }: CallPiece) -> Self {
        let r#type = id.is_some().then_some("function");
        Self { index: Some(index), id, r#type, function: FunctionObject { name, arguments } }
    }
}

/// The answer itself, put together.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) thought: String,
    pub(crate) calls: Vec<CallObject>,
}

impl Whole {
    pub(crate) fn call(&mut self, piece: CallPiece) {
        let arguments = piece.arguments.clone();
        match self.calls.last_mut().filter(|_| piece.id.is_none()) {
            Some(call) => call.function.arguments.push_str(&arguments),
            None => self.calls.push(CallObject { index: None, ..CallObject::from(piece) }),
        }
    }

    /// Characters that would be lost with it.
    pub(crate) fn characters(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.function.arguments.chars().count());
        self.text.chars().count() + self.thought.chars().count() + calls.sum::<usize>()
    }
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
    /// How it ended, in more words than the dialect has: `structure_incomplete` is no whole structure.
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<Finish>,
    /// Where the tokens came from that weren't worked through again, and where the prompt differs from what was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Reuse>,
}
