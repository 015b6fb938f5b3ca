//! What the facade shows: plain data that `api` sends, `cli` prints and `--json` emits.
//!
//! These shapes are Freehold's native protocol. A field may be added, never renamed.

use base::{Bytes, Citation, Fault, Label, Millis, Place, Usage};
pub use map::{Forgotten, Inspection, Problem, Trace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Answer to the first call of every command: who is running?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: String,
    /// Changes with every build of the sources, so that a rebuilt daemon is told from a stale one.
    pub build: String,
    pub pid: u32,
    pub home: String,
    /// What the daemon runs with, by the names of `config.toml`; no secrets are among it.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub hello: Hello,
    pub uptime_ms: Millis,
    /// `http://127.0.0.1:7777`, or `None` when only the Unix socket is served.
    pub address: Option<String>,
    pub socket: String,
    pub resident_bytes: Bytes,
    pub models: Vec<LoadedModel>,
    /// What models may take together, and what those that are loaded are counted with.
    #[serde(default)]
    pub memory: MemoryUse,
    pub maps: Vec<MapSummary>,
    pub asks_running: u32,
    pub asks_done: u64,
    /// Bytes that Freehold has sent off this machine, ever, by its ledger.
    pub bytes_sent_total: Bytes,
    pub bytes_received_total: Bytes,
    /// Crossings whose sent bytes are not among the total: another program's, and those that were cut short.
    #[serde(default)]
    pub crossings_uncounted: u64,
}

/// What a count of sent bytes leaves out, to stand after it; empty when that is nothing.
pub fn uncounted(crossings: u64) -> String {
    let which = "whose sent bytes were not counted here (another program's, or cut short)";
    match crossings {
        0 => String::new(),
        1 => format!(", plus 1 crossing {which}"),
        more => format!(", plus {more} crossings {which}"),
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// By what is free now, and by `memory` in `config.toml`; `None` where neither says.
    pub budget_bytes: Option<Bytes>,
    pub held_bytes: Bytes,
}

/// Buffers of a worker by llama.cpp's own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers {
    /// Weights in the file's own pages.
    pub mapped_bytes: Bytes,
    /// Weights that were copied: rearranged, or put on a device.
    pub copied_bytes: Bytes,
    pub cache_bytes: Bytes,
    pub compute_bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub name: String,
    pub pid: u32,
    pub devices: Vec<String>,
    /// What lies on which device, in words; empty when there is only the processor.
    pub placement: String,
    pub features: Vec<String>,
    pub threads: u32,
    /// `running`, `ready`, or `resting` (only the weights are in memory).
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub pinned: bool,
    /// The largest window that an ask could have now; the pool grows to it when one needs it.
    pub context_tokens: u32,
    /// What the model was trained for.
    #[serde(default)]
    pub context_trained: u32,
    /// What the pool holds now.
    #[serde(default)]
    pub pool_tokens: u32,
    #[serde(default)]
    pub buffers: Buffers,
    /// The smaller model that guesses for it, where one is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// What it counts for in the memory that models share.
    #[serde(default)]
    pub held_bytes: Bytes,
    /// Of these, room for states of prompts and of parked answers, taken as they come.
    #[serde(default)]
    pub states_bytes_max: Bytes,
    pub sequences_max: u32,
    /// How its context is kept: `f16`, `q8_0` …
    #[serde(default)]
    pub kv_cache: String,
    pub running: u32,
    pub queued: u32,
    /// Made to wait after they had begun.
    #[serde(default)]
    pub parked: u32,
    pub resident_bytes: Bytes,
    pub load_ms: Millis,
    pub idle_ms: Millis,
    pub protection: Vec<String>,
    pub protection_missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    pub name: String,
    /// `chat` or `embed`.
    pub kind: String,
    pub arch: String,
    pub quantization: String,
    pub parameters: u64,
    pub bytes: Bytes,
    /// What the model was trained for.
    pub context_max: u32,
    /// The largest window that an ask could have now.
    #[serde(default)]
    pub context_tokens: u32,
    /// Kept in memory once it is there.
    #[serde(default)]
    pub pinned: bool,
    pub license: String,
    /// `in place`, or the source that it was pulled from.
    pub source: String,
    pub path: String,
    pub sha256: Option<String>,
    /// The one taken when no model is named.
    pub default: bool,
    /// The smaller model that guesses for it, where it is loaded with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// Set when the file has gone or changed since it was added.
    pub problem: Option<String>,
    /// What is known to be wrong with its chat template, and what is done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub template_notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapSummary {
    pub name: String,
    pub folder: String,
    pub documents: u64,
    pub passages: u64,
    pub embedded: u64,
    pub bytes_on_disk: Bytes,
    /// RFC 3339, UTC.
    pub indexed_at: Option<String>,
    /// Folders and single files; `folder` is the first of them.
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub label: Label,
    #[serde(default)]
    pub freshness: Freshness,
}

/// How a map is kept up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Following {
    /// Only when it is indexed by hand: its first run hasn't ended, or this daemon doesn't follow it yet.
    #[default]
    ByHand,
    /// The system tells of each change.
    Watched,
    /// The sources are walked through from time to time.
    Walked,
    Paused,
}

/// How fresh a map is, and what is still pending.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    pub map: String,
    pub following: Following,
    /// RFC 3339, UTC: when all of it was last compared with its sources.
    pub checked_at: Option<String>,
    /// Changed files that aren't read yet.
    pub files_pending: u64,
    /// Passages that are found by their words alone until their vectors are made.
    pub vectors_pending: u64,
    /// Why it is walked instead of watched, or what went wrong.
    pub trouble: Option<String>,
}

impl Freshness {
    /// Whether everything that is known to have changed can be found in every way.
    pub fn is_complete(&self) -> bool {
        self.files_pending == 0 && self.vectors_pending == 0 && self.trouble.is_none()
    }
}

/// Reply of `maps/show`: all that is known of one map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapDetails {
    pub map: MapSummary,
    /// Files that were looked at and gave no text.
    pub skipped: u64,
    /// Places that were forgotten and aren't read again.
    pub forgotten: u64,
    /// The model whose vectors answer.
    pub embedder: Option<String>,
    /// What no map reads, in sentences.
    pub never_read: Vec<String>,
}

/// Reply of `maps/verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapVerified {
    pub map: String,
    pub inspection: Inspection,
}

/// Reply of `forget` and `maps/remove`, one for each map that held something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ForgetReport {
    pub maps: Vec<MapForgot>,
    /// Models that were let go of, since they may keep prompts.
    pub unloaded: Vec<String>,
    /// What was kept of prompts, any of which may have held what was erased.
    pub prompts: PromptsForgot,
}

/// Reply of `prompts/forget`: what was kept of prompts and is let go of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptsForgot {
    /// In memory.
    pub states: u64,
    pub states_bytes: Bytes,
    /// On disk.
    pub files: u64,
    pub files_bytes: Bytes,
    /// Files that are still there, counted in the folder itself; 0 is the proof.
    pub left: u64,
    /// Why it isn't complete, when it isn't.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapForgot {
    pub map: String,
    /// The map itself is gone, too.
    pub removed: bool,
    pub forgotten: Forgotten,
}

/// What came of adding a file or a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Added {
    pub models: Vec<ModelRow>,
    /// Files that look like models and can't be used, each with its reason.
    pub refused: Vec<SkippedFile>,
}

/// One line of the stream that `pull` answers with.
/// How well a model does on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub model: String,
    pub quantization: String,
    pub template: TemplateHealth,
    /// Long answers that repeated themselves without end.
    pub loops: Share,
    /// Objects that came when they were asked for in words.
    pub json: Share,
    /// The same with a schema, which every answer keeps to: what is missing was cut off.
    pub shaped: Share,
    /// Of a fixed text: how many words the model wavers between, so to say. Comparable only between files that cut
    /// text into the same tokens, as quantizations of one model do.
    pub perplexity: f64,
    pub perplexity_tokens: u32,
    pub prefill_tokens_per_sec: f64,
    pub decode_tokens_per_sec: f64,
    /// What it counts for in the memory that models share.
    pub held_bytes: Bytes,
    pub resident_bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateHealth {
    /// The file brings one.
    pub present: bool,
    /// A system text reaches the model.
    pub system: bool,
    /// So do earlier turns.
    pub turns: bool,
    /// What the template itself said against one of these.
    pub problem: Option<String>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub count: u32,
    pub of: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum CheckEvent {
    /// Answers that are there, of all.
    Progress {
        done: u32,
        total: u32,
    },
    Done {
        health: Health,
    },
    Failed {
        fault: Fault,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum PullEvent {
    /// Said before the first byte is fetched.
    Plan {
        what: String,
        source: String,
        bytes: Option<Bytes>,
        license: String,
        sha256: Option<String>,
    },
    Progress {
        what: String,
        done: Bytes,
        total: Option<Bytes>,
    },
    /// A sentence for the person: a source that couldn't be reached, a retry, a conversion.
    Notice {
        text: String,
    },
    Done {
        models: Vec<ModelRow>,
    },
    Failed {
        fault: Fault,
    },
}

/// One line of the stream that `index` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum IndexEvent {
    /// `stage`: `scan`, `read`, `embed`, `commit`.
    Progress {
        stage: String,
        done: u64,
        total: u64,
        path: Option<String>,
    },
    Skipped {
        path: String,
        fault: Fault,
    },
    Notice {
        text: String,
    },
    Done {
        report: IndexReport,
    },
    Failed {
        fault: Fault,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexReport {
    pub map: String,
    pub folder: String,
    pub documents: u64,
    pub passages: u64,
    /// Since the last run.
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub unchanged: u64,
    /// Of `passages`, those that have a vector, from this run or an earlier one.
    pub embedded: u64,
    pub skipped: Vec<SkippedFile>,
    pub took_ms: Millis,
    /// What the document readers run under, as they said themselves; empty when none was started.
    pub protection: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkippedFile {
    pub path: String,
    pub fault: Fault,
}

/// LIMIT: hits of one search.
pub const SEARCH_LIMIT_MAX: u32 = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    pub query: String,
    /// A map's name or the folder that it was made from; `None`: all maps.
    #[serde(default)]
    pub map: Option<String>,
    #[serde(default = "default_limit")]
    pub limit: u32,
    /// Leave the vector arm out: no model is loaded.
    #[serde(default)]
    pub lexical_only: bool,
    /// Only maps that are at least this open.
    #[serde(default)]
    pub label: Label,
    #[serde(default)]
    pub filter: Filter,
    /// Let each hit say why it stands where it does.
    #[serde(default)]
    pub explain: bool,
    #[serde(default)]
    pub rerank: Reranking,
}

/// Whether the best passages get a second look by a reranking model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reranking {
    /// Where such a model is installed, and other models may be used.
    #[default]
    Auto,
    /// In any case; without such a model it is a fault.
    On,
    Off,
}

impl Reranking {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Reranking::Auto),
            "on" => Some(Reranking::On),
            "off" => Some(Reranking::Off),
            _ => None,
        }
    }
}

/// Documents that a search or an answer may see: all that is named must hold; of several values of one kind, one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Absolute paths: documents at or below one of them.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Formats (`pdf`, `mail`) or file endings (`md`).
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// `2026`, `2026-03` or `2026-03-09`: from its first day on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Likewise: before its first day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// A part of the author's name or address.
    #[serde(rename = "author", skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// `en`, `de`.
    #[serde(rename = "lang", skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Of maps with one of these labels.
    #[serde(rename = "label", skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

fn default_limit() -> u32 {
    8
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReply {
    pub hits: Vec<SearchHit>,
    pub took_us: u64,
    /// `lexical+vector` or `lexical`, and why when the vector arm was left out.
    pub arms: String,
    /// The model that had a second look; `None` when the order is that of the arms.
    #[serde(default)]
    pub reranked: Option<String>,
    pub notices: Vec<String>,
    /// Of the maps that were searched.
    #[serde(default)]
    pub freshness: Vec<Freshness>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchHit {
    /// Its map, and how private that is.
    #[serde(default)]
    pub map: String,
    #[serde(default)]
    pub label: Label,
    pub path: String,
    pub place: Place,
    pub title: String,
    pub heading: String,
    /// Who wrote the document, as it says itself or its mail does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The day that the document gives as its own: `2026-03-09`. Without one, `after` and `before` go by its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// `en`, `de`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The passage as it stands in the document.
    pub text: String,
    pub score: f32,
    /// Byte ranges within `text` that match the query's words.
    pub highlights: Vec<(u32, u32)>,
    /// Where nearly the same words stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alike: Vec<Alike>,
    /// Only when the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alike {
    pub path: String,
    pub place: Place,
}

/// Why a hit stands where it does, within its own map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// BM25, the sum of `parts`; `None` when the word arm didn't find it.
    pub bm25: Option<f32>,
    /// What each of the query's words gave, by field.
    pub parts: Vec<WhyPart>,
    pub cosine: Option<f32>,
    /// Ranks within each arm, from 1.
    pub lexical_rank: Option<usize>,
    pub vector_rank: Option<usize>,
    /// `scores` or `ranks`: how the arms were joined.
    pub fusion: String,
    /// What each arm gave the score within its map.
    pub lexical_share: f32,
    pub vector_share: f32,
    /// Only where it was looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranked: Option<Reranked>,
}

/// What a reranking model said of a hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reranked {
    /// As the model gave it: scores of one reply compare with each other alone.
    pub score: f32,
    /// From 1: where the hit stood before, among those of all maps.
    pub rank_before: usize,
    /// What its score and the earlier one give together, 0 to 1.
    pub joined: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyPart {
    pub word: String,
    /// `body`, `title`, `heading` or `path`.
    pub field: String,
    pub score: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskFilesRequest {
    pub question: String,
    #[serde(default)]
    pub map: Option<String>,
    #[serde(default)]
    pub model: String,
    /// Only quotations: no language model is used.
    #[serde(default)]
    pub quotes: bool,
    #[serde(default)]
    pub tokens_max: Option<u32>,
    /// Send the passages that the answer was made from as well.
    #[serde(default)]
    pub passages: bool,
    #[serde(default)]
    pub filter: Filter,
    #[serde(default)]
    pub rerank: Reranking,
}

/// One line of the stream that `ask` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum AskEvent {
    Progress {
        progress: base::answer::Progress,
    },
    /// Answer text, `[n]` marks included.
    Text {
        text: String,
    },
    Notice {
        text: String,
    },
    Citation {
        citation: Citation,
    },
    /// A passage that the answer was made from, when that was asked for; `number` is the citation's.
    Passage {
        number: u32,
        path: String,
        heading: String,
        text: String,
    },
    /// The files hold no answer; `reason` says what was looked for and how near the nearest came.
    NoAnswer {
        reason: String,
    },
    Done {
        receipt: Receipt,
    },
    Failed {
        fault: Fault,
    },
}

/// The closing line: what ran where, how fast, and what left the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// `None` when no language model was used.
    pub usage: Option<Usage>,
    pub devices: Vec<String>,
    pub search_us: u64,
    pub total_us: u64,
    pub passages_searched: u64,
    /// By the ledger, during this ask.
    pub bytes_sent: Bytes,
    /// Crossings during this ask whose sent bytes are not among those.
    #[serde(default)]
    pub crossings_uncounted: u64,
    /// Of the maps that were searched.
    #[serde(default)]
    pub freshness: Vec<Freshness>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doctor {
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `processor`, `memory`, `backend`, `confinement: worker` …
    pub name: String,
    pub verdict: Verdict,
    pub detail: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    Weak,
    Bad,
}

/// One line of a task's stream; the last is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEvent {
    /// Where a call of the model stands before its first token.
    Progress(base::answer::Progress),
    /// How the text is worked through; before the first call.
    Plan(tasks::Plan),
    /// Parts that are done.
    Parts {
        done: u32,
        total: u32,
    },
    /// Text of the result, in its order.
    Text(String),
    Done(Box<TaskReply>),
    Failed(Fault),
}

/// What comes out of a task, and what it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReply {
    pub task: String,
    #[serde(flatten)]
    pub done: tasks::Done,
    /// Of all calls together; `model` is empty where none was needed.
    pub usage: Usage,
}
