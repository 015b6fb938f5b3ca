//! The closed lists of what is said over the wire.

use crate::shape::{WireLikelihood, WireReasoning, WireScore, WireShape};
use serde::{Deserialize, Serialize};

/// Identity of one job in one worker's life; the daemon chooses it and never uses it twice.
pub type JobId = u64;

/// Daemon to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Directive {
    /// First frame of all. Carries descriptors that are open for reading: the model's files in order, the draft model's
    /// where there is one, and the adapters'.
    Load(Load),
    /// Start one generation.
    Begin(Box<Begin>),
    /// Embed some texts; answered by `Vectors` or `Failed`.
    Embed { job: JobId, texts: Vec<String>, how: EmbedHow },
    /// Judge how well each document answers the query; answered by `Vectors`, whose rows are what the model's
    /// classifier says, or by `Failed`.
    Rank { job: JobId, query: String, documents: Vec<String>, truncate: bool },
    /// Count the tokens of a prompt, which is given as in `Begin`; answered by `Counted`.
    Count { job: JobId, prompt: Vec<String>, add_bos: bool },
    /// Stop a job as soon as possible, in the middle of a prefill too. Answered by `Done` with
    /// `WireFinish::Cancelled`, or by nothing when the job had already ended.
    Cancel { job: JobId },
    /// Step back: from now on this job takes neither a sequence nor cells of the pool, and makes no text.
    /// Answered by `Parked`, or by nothing when the job had already ended.
    Hold { job: JobId },
    /// Go on with a held job as soon as there is room. Answered by `Resumed` when it has its cells again.
    Resume { job: JobId },
    /// Are you alive? Answered by `Pong` from the thread that owns the model.
    Ping { nonce: u64 },
    /// Attempt something that confinement must refuse, and say how it went. For `doctor` and tests.
    Probe { job: JobId, attempt: Attempt },
    /// Work with a pool of so many tokens from now on; running answers go on. Answered by `Resized`. Comes
    /// as the answer to `Wants` (then it may be smaller than what was wanted) or to wake a worker that rests.
    Resize { context_tokens: u32 },
    /// Let go of the draft model, for as long as this model is loaded. Not answered; comes before the `Resize` that takes
    /// its memory.
    LeaveDraft,
    /// Give back cache and room to compute; the weights stay. Answered by `Resized`, with nothing given back
    /// when something runs.
    Rest,
    /// End cleanly.
    Shutdown,
    /// The answer to `Seek`: the descriptor of a state, open for reading at its first byte, or none.
    Found { job: JobId },
    /// The answer to `Offer`: a descriptor to write the state to, or none when it isn't wanted.
    Store { state: u64 },
    /// Let go of all that is kept of this scope (0: of all), and keep nothing of what is under way. Answered by
    /// `Forgotten`.
    Forget { scope: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Name of the ggml backend file to load, then the CPU backend's when they differ; both lie beside the
    /// worker.
    pub backends: Vec<String>,
    pub embed: bool,
    /// Tokens of the pool to begin with; 0: the model's own window, bounded by the daemon's plan.
    pub context_tokens: u32,
    /// The largest window that the worker may want later, for one job that needs it; not above
    /// `context_tokens`: the pool stays as it is.
    pub context_max: u32,
    /// Sequences that may run at the same time. Up to [`KEPT_SEQUENCES`] more are kept beside them.
    pub sequences_max: u32,
    /// Most tokens decoded in one step.
    pub batch_tokens: u32,
    /// Most threads that compute an answer.
    pub threads: u32,
    /// Most threads that read a prompt: more, where a quota pays for a part of one.
    pub prompt_threads: u32,
    /// What a control group pays for, in thousandths of a processor; 0: no limit.
    pub quota_milli: u32,
    pub offload: Offload,
    /// How keys and values are kept while text is generated.
    pub kv_cache: KvCache,
    /// Names of adapters, whose descriptors come last, one for each.
    pub adapters: Vec<String>,
    /// Bytes for saved states: of jobs that step back, and, as long as these don't need them, of sequences that
    /// are kept for what may come. What doesn't fit is read again.
    pub park_bytes: u64,
    /// Refuse to say `Ready` unless the system-call filter and file rules are in force.
    pub confine: bool,
    /// Special tokens whose names an answer's text shows; all others are left out of it.
    pub shown: Vec<String>,
    /// Guess what comes next, where that measures faster.
    pub drafts: bool,
    /// A smaller model that guesses too, whose descriptor comes before those of adapters.
    pub draft_model: Option<WireDraftModel>,
}

/// A smaller model of the same vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireDraftModel {
    pub name: String,
    /// Tokens that it may hold, of two answers together.
    pub context_tokens: u32,
    /// Most tokens that it reads in one step.
    pub batch_tokens: u32,
}

/// What of a model goes to GPUs. Ignored by a CPU backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Offload {
    /// How many of the last layers; the output counts as one more. 0: all stays with the processor.
    pub gpu_layers: u32,
    /// How many of these each device gets, in the order in which the backend names its devices. Devices that
    /// get none aren't used.
    pub split: Vec<u32>,
    /// Layers whose experts stay with the processor though the rest of them is on a GPU, ascending.
    pub cpu_experts: Vec<u32>,
    /// Whether keys and values lie beside their layers; else all stay with the processor.
    pub kv_on_gpu: bool,
}

/// How the keys and values of a context are kept, by ggml's names for its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCache {
    #[default]
    F16,
    Q8_0,
    Q5_1,
    Q4_0,
}

impl KvCache {
    pub const ALL: [KvCache; 4] = [KvCache::F16, KvCache::Q8_0, KvCache::Q5_1, KvCache::Q4_0];

    pub fn as_str(self) -> &'static str {
        match self {
            KvCache::F16 => "f16",
            KvCache::Q8_0 => "q8_0",
            KvCache::Q5_1 => "q5_1",
            KvCache::Q4_0 => "q4_0",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Bytes of 32 numbers, which the packed types keep together with their scale.
    pub fn block_bytes(self) -> u64 {
        match self {
            KvCache::F16 => 64,
            KvCache::Q8_0 => 34,
            KvCache::Q5_1 => 24,
            KvCache::Q4_0 => 18,
        }
    }
}

/// How texts become vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedHow {
    /// `None`: as the model's file says.
    pub pooling: Option<WirePooling>,
    /// Scale each vector to length 1.
    pub normalize: bool,
    /// Leave out the end of a text that is longer than the window, and say so; else it is a fault.
    pub truncate: bool,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WirePooling {
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    pub job: JobId,
    /// Prompt in pieces. Special tokens are recognised inside a piece, never across the border of
    /// two, which is how a user's text is kept from forming one.
    pub prompt: Vec<String>,
    /// Whether the tokenizer may add its first token (BOS) when the text doesn't start with it.
    pub add_bos: bool,
    pub sampling: WireSampling,
    pub stop: Vec<String>,
    /// Most tokens to generate; 0: what the window leaves.
    pub tokens_max: u32,
    /// Milliseconds from receipt of this frame; 0: none.
    pub deadline_ms: u64,
    /// Places in the load's adapters, and how much of each.
    pub adapters: Vec<(u32, f32)>,
    /// The form that the answer must have …
    pub shape: WireShape,
    /// … behind this, where it is given.
    pub reasoning: Option<WireReasoning>,
    /// End an answer that repeats itself without end.
    pub stop_loops: bool,
    /// Whether tokens may be guessed ahead, where the load allows it.
    pub drafts: bool,
    pub score: Option<WireScore>,
    /// Whose text it is: what is kept of one scope's jobs is used for no other's. 0: nothing is kept or used.
    pub scope: u64,
    /// Something of this scope may be on disk: worth a `Seek`.
    pub stored: bool,
}

/// See `base::Sampling`; the daemon has drawn the seed already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireSampling {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub repeat_penalty: f32,
    pub penalty_last_n: u32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub seed: u32,
    pub logit_bias: Vec<(u32, f32)>,
}

/// Something that a confined worker must not be able to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    OpenSocketInet,
    OpenSocketUnix,
    ReadFile(String),
    WriteFile(String),
    SpawnProcess,
    Fork,
    TraceParent,
    KillParent,
}

/// Worker to daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// First frame of all, before anything is loaded.
    Hello {
        version: u32,
        build: String,
        pid: u32,
    },
    /// 0..=100.
    Loading {
        percent: u8,
    },
    Ready(Box<Ready>),
    /// A job needs a pool of `least` tokens, and one of `wanted` would serve it for a while. Answered by `Resize`.
    Wants {
        least: u32,
        wanted: u32,
    },
    /// What came of `Resize` or `Rest`. With a fault the pool is what `room` says, and what ran goes on.
    Resized {
        room: Room,
        fault: Option<WireFault>,
    },
    /// The prompt fits and waits for its turn. `tokens_max` is what the job may generate at most.
    Accepted {
        job: JobId,
        prompt_tokens: u32,
        tokens_max: u32,
    },
    /// The first step of the prompt is being computed.
    Started {
        job: JobId,
        prompt_tokens: u32,
        cached_tokens: u32,
        queue_us: u64,
    },
    /// Sent at most a few times per second while a prompt is worked through; and, with nothing done, when a job's state
    /// couldn't be kept and all of it is read again.
    Prefill {
        job: JobId,
        done: u32,
        total: u32,
    },
    /// Whole UTF-8, stop strings already withheld.
    Text {
        job: JobId,
        text: String,
    },
    /// The job has given up its sequence and its cells: because it is held, or (`held` is false) because the
    /// pool has run dry; then it goes on by itself.
    Parked {
        job: JobId,
        held: bool,
        /// Tokens that it needs cells for when it goes on.
        tokens: u32,
        /// Its state is kept, so that it goes on where it stopped. Else all its tokens are read again.
        saved: bool,
    },
    /// A parked job has its cells again.
    Resumed {
        job: JobId,
    },
    Done {
        job: JobId,
        finish: WireFinish,
        spent: Spent,
    },
    /// The end of a job that scores: one likelihood for each option, in their order.
    Scored {
        job: JobId,
        likelihoods: Vec<WireLikelihood>,
        spent: Spent,
    },
    Vectors {
        job: JobId,
        dimensions: u32,
        values: Vec<f32>,
        /// What each text took.
        tokens: Vec<u32>,
        /// What was left out of each text.
        left_out: Vec<u32>,
    },
    Counted {
        job: JobId,
        tokens: u32,
    },
    Pong {
        nonce: u64,
    },
    /// `errno` 0 means that the attempt succeeded, which is a failure of confinement.
    Probed {
        job: JobId,
        errno: i32,
    },
    /// A job ended without success, or (without a job) the load failed and the worker ends.
    Failed {
        job: Option<JobId>,
        fault: WireFault,
    },
    /// What of a job's prompt was there already. Said before `Started`, when there is anything to say.
    Reused {
        job: JobId,
        reuse: Box<Reuse>,
    },
    /// Arguments of this tool (of any, where none is named) aren't kept to their schema from here on, and why.
    Loose {
        job: JobId,
        tool: Option<String>,
        reason: String,
    },
    /// Is there a state on disk that holds more of this prompt than `least` tokens? Answered by `Found`, for which the
    /// job waits.
    Seek {
        job: JobId,
        prompt: Box<Chain>,
        least: u32,
    },
    /// What came of the descriptor in `Found`.
    Tried {
        job: JobId,
        verdict: Verdict,
        bytes: u64,
        took_us: u64,
    },
    /// A state that is worth keeping when this process ends. Answered by `Store`.
    Offer {
        state: u64,
        chain: Box<Chain>,
        /// Of the state alone.
        bytes: u64,
        /// What working through these tokens took, about.
        cost_us: u64,
    },
    /// The descriptor in `Store` was written, so many bytes; 0: it couldn't be.
    Stored {
        state: u64,
        bytes: u64,
        took_us: u64,
    },
    /// What `Forget` let go of.
    Forgotten {
        states: u32,
        bytes: u64,
    },
}

/// What a worker made of a state that it was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was read to its end and is what it says.
    Sound,
    /// Whole as far as it was read, and of no use for this prompt.
    Unfit,
    /// It isn't what it says.
    Damaged,
}

/// Tokens of one owner, and how a state of them may be gone on from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub scope: u64,
    /// Places in the load's adapters, and the bits of how much of each.
    pub adapters: Vec<(u32, u32)>,
    pub tokens: Vec<i32>,
    /// Only after its last token; else after any.
    pub exact: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Context window in tokens that one job can use.
    pub context_tokens: u32,
    pub sequences_max: u32,
    pub embedding_dimensions: u32,
    /// ggml's own names: `CPU`, `CUDA0` …
    pub devices: Vec<String>,
    /// What lies on GPUs, as it was asked for and done; none when everything is with the processor.
    pub offload: Offload,
    /// `AVX512_VNNI`, `AMX_INT8` … that the loaded CPU backend really uses.
    pub features: Vec<String>,
    pub threads: u32,
    pub load_us: u64,
    /// The longest window that the model was trained for.
    pub context_trained: u32,
    pub room: Room,
    pub protection: WireProtection,
    /// The draft model that is in use.
    pub draft_model: Option<String>,
    /// Why the one that was named isn't.
    pub draft_refused: Option<String>,
}

/// What a worker has to work with, and the bytes that this takes by llama.cpp's own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Tokens of the pool; while it rests, of the one that it had.
    pub context_tokens: u32,
    pub resting: bool,
    /// Weights that are used in the file's own pages.
    pub mapped_bytes: u64,
    /// Weights that were copied: rearranged for this processor, or put on a device. Of these nobody needs the file's pages.
    pub copied_bytes: u64,
    pub cache_bytes: u64,
    /// Intermediate results of the largest step, and its scores.
    pub compute_bytes: u64,
    /// Of the whole process, measured.
    pub resident_bytes: u64,
}

impl Room {
    /// What all buffers come to when they are all in use.
    pub fn buffers_bytes(&self) -> u64 {
        let Self { mapped_bytes, copied_bytes, cache_bytes, compute_bytes, .. } = *self;
        [copied_bytes, cache_bytes, compute_bytes].iter().fold(mapped_bytes, |sum, part| sum.saturating_add(*part))
    }
}

/// What is really in force in the worker, as it found out itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireProtection {
    /// 0: none.
    pub landlock_abi: u32,
    pub no_new_privileges: bool,
    pub seccomp: bool,
    /// Name of the filter: `cpu`, `gpu`.
    pub filter: String,
    pub core_dumps_off: bool,
    /// What is missing, in words; empty when all is in force.
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireFinish {
    EndOfTurn,
    StopString,
    Length,
    Cancelled,
    Deadline,
    /// As `Length` or `StopString`, before the answer had its shape.
    StructureIncomplete,
    Loop,
}

/// What one job cost, measured in the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    /// From receipt to the first prefill step, and all time in which the job was parked.
    pub queue_us: u64,
    /// From there to the first token.
    pub prefill_us: u64,
    /// From the first token to the last.
    pub decode_us: u64,
    /// Tokens that were guessed and computed beside the next one.
    pub drafted_tokens: u32,
    /// Those of them that turned out to be the right ones.
    pub accepted_tokens: u32,
}

/// What of a prompt was there already, in tokens, and why no more of it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// In the pool.
    pub live: u32,
    /// In the worker's memory.
    pub ram: u32,
    pub disk: u32,
    /// Where the prompt first differs from what was kept, when it does.
    pub differs: Option<Differs>,
}

impl Reuse {
    pub fn tokens(&self) -> u32 {
        self.live.saturating_add(self.ram).saturating_add(self.disk)
    }
}

/// The first token in which a prompt is another one than what was kept, with the text of both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Tokens before it.
    pub at: u32,
    pub kept: String,
    pub asked: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireFault {
    /// The prompt needs more than the window has.
    ContextOverflow {
        requested: u32,
        available: u32,
    },
    /// Frames out of order, an unknown job, a wrong number of descriptors.
    Protocol(String),
    LoadFailed(String),
    BackendFailed(String),
    DecodeFailed(String),
    ConfinementFailed(String),
    /// A generation asked of an embedder, or the other way round.
    Unfit(String),
    MemoryShort(String),
    /// The model can't keep its context that way; with llama.cpp's reason.
    KvCacheUnfit {
        kv_cache: KvCache,
        reason: String,
    },
    /// The adapter doesn't suit this model; with llama.cpp's reason.
    AdapterUnfit {
        adapter: String,
        reason: String,
    },
    /// A parameter that only the worker can check (a token id in `logit_bias`).
    Invalid(String),
    /// A shape that can't be kept to: where in it, and why.
    ShapeUnsupported {
        path: String,
        reason: String,
    },
    /// A shape that could no longer be kept to in the middle of an answer.
    ShapeFailed(String),
}

/// Reply of `freehold-worker selftest BACKEND`, one JSON line on stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    pub backend: String,
    pub devices: Vec<WireDevice>,
    pub features: Vec<String>,
    /// One per weight type and path that was tried, and one per number of tokens that attention was tried with; none when only the devices were asked for.
    pub products: Vec<Product>,
}

/// A device as its backend describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireDevice {
    /// ggml's own name: `CPU`, `Vulkan0` …
    pub name: String,
    /// The maker's: `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub description: String,
    pub kind: WireDeviceKind,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireDeviceKind {
    Cpu,
    /// With memory of its own.
    Discrete,
    /// Shares the machine's memory.
    Integrated,
    /// A processor that plays a graphics device.
    Software,
    /// Helps the processor with some products.
    Accelerator,
}

/// One checked matrix product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// `F32`, `Q4_1`, `Q8_0` …
    pub weights: String,
    /// `CPU`, `AMX`, `CPU_REPACK` …: the buffer type, which names the code path.
    pub path: String,
    /// Largest difference from a reference product in plain Rust, relative to the largest result.
    pub error_relative: f32,
    pub correct: bool,
    /// Giga-operations per second (one multiply-add is two).
    pub gops: f64,
}
