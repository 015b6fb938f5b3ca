//! What comes back: a stream of deltas whose last two are `Usage` and `Done`.

use crate::evidence::Citation;
use crate::tools::CallPiece;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// Where the ask stands before its first token.
    Progress(Progress),
    /// Whole UTF-8 text; a code point is never split across deltas.
    Text(String),
    Citation(Citation),
    /// Said before the first text when the conversation didn't fit and the caller had asked for this.
    Compacted(Compaction),
    /// A sentence for the person, not part of the answer.
    Notice(String),
    Usage(Usage),
    Done(Finish),
    /// What the model thought, apart from its answer.
    Thought(String),
    /// A tool that the model calls, as it comes.
    Call(CallPiece),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Progress {
    Queued,
    /// The model's weights are being read; `percent` in 0..=100.
    Loading {
        model: String,
        percent: u8,
    },
    /// Prompt tokens worked through so far.
    Prefill {
        done: u32,
        total: u32,
    },
}

/// What was left out of a conversation so that the rest fits the window: its oldest turns, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// A turn is what the user said, with all that was answered to it.
    pub turns: u32,
    pub messages: u32,
    /// Of the prompt, as the model counts them.
    pub tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// One of the caller's stop strings came up.
    StopString,
    /// `tokens_max` or the end of the context window was reached.
    Length,
    Cancelled,
    /// The model ended its turn and called tools in it.
    ToolCalls,
    /// As `Length`, before the answer had the shape that was asked for: what came is only its beginning.
    StructureIncomplete,
    /// The answer repeated itself without end and was stopped.
    Loop,
}

impl Finish {
    /// The word that the OpenAI dialect uses.
    pub fn openai(self) -> &'static str {
        match self {
            Finish::EndOfTurn | Finish::StopString | Finish::Cancelled => "stop",
            Finish::ToolCalls => "tool_calls",
            Finish::Length | Finish::StructureIncomplete => "length",
            // Not one of OpenAI's words: an answer that went wrong must not look like one that ended well.
            Finish::Loop => "loop",
        }
    }
}

/// What an answer cost. Times are wall time in microseconds, as measured where the work was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Prompt tokens that were not worked through again.
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    pub queue_us: u64,
    pub load_us: u64,
    pub prefill_us: u64,
    pub decode_us: u64,
    /// The window that this ask could have used.
    pub context_tokens: u32,
    /// Name of the model that answered.
    pub model: String,
    /// Where the `cached_tokens` came from, and why there weren't more.
    #[serde(default)]
    pub reuse: Reuse,
    /// Tokens that were guessed from the text itself and computed ahead.
    #[serde(default)]
    pub drafted_tokens: u32,
    /// Those of them that were right: the answer has them without a step of their own.
    #[serde(default)]
    pub accepted_tokens: u32,
}

/// Where tokens of a prompt came from that were not worked through again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// From the model's pool, as they lay there.
    pub live_tokens: u32,
    /// From states in memory.
    pub memory_tokens: u32,
    /// From states on disk.
    pub disk_tokens: u32,
    /// Where the prompt first differs from what was kept of this app, when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<Differs>,
}

/// The first token in which a prompt is another one than what was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Tokens before it.
    pub at: u32,
    /// The token's text that was kept.
    pub kept: String,
    /// The one that stands in the prompt.
    pub asked: String,
}

impl Usage {
    /// Prompt tokens worked through per second; 0 when none was.
    pub fn prefill_tokens_per_sec(&self) -> f64 {
        rate(self.prompt_tokens.saturating_sub(self.cached_tokens), self.prefill_us)
    }

    /// Generated tokens per second, the first one (which the prefill made) left out.
    pub fn decode_tokens_per_sec(&self) -> f64 {
        rate(self.completion_tokens.saturating_sub(1), self.decode_us)
    }
}

fn rate(tokens: u32, micros: u64) -> f64 {
    if micros == 0 { 0.0 } else { f64::from(tokens) * 1e6 / micros as f64 }
}
