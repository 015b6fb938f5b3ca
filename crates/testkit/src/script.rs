//! What a scripted worker does, as data: it stands as JSON in the model file that the worker is handed.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use wire::WireFinish;

/// A worker's whole life. The default one loads at once and answers every ask with three words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    pub load: Load,
    /// The first rule whose `when` stands in the prompt plays; without one, `one two three` is said.
    pub asks: Vec<Rule>,
    /// A file that gets one line per frame received, in order.
    pub log: Option<PathBuf>,
}

/// The first frame comes before the model, so its script lies beside the program, as `hello.json`:
/// see [`crate::worker_that_says`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Another protocol number than ours.
    pub version: Option<u32>,
    /// Bytes that are no frame, in place of the first one.
    pub garbage: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Steps played before `Ready`: gates, deaths, and so on; text makes no sense here.
    pub steps: Vec<Step>,
    /// 0: as the daemon asks.
    pub sequences_max: u32,
    /// 0: as the daemon asks.
    pub context_tokens: u32,
    /// A prompt of more words than the window holds is refused, as a real worker does.
    pub windowed: bool,
    /// Of every `Resize`, that there is not enough memory for it.
    pub resize_fails: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub when: String,
    pub steps: Vec<Step>,
}

/// One thing done, in order. After the last step of an ask, `Done` says that the turn ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// One `Text` frame.
    Text(String),
    /// That many `Text` frames of the given text.
    Repeat(u32, String),
    /// Prefill progress: done, total.
    Prefill(u32, u32),
    /// So many tokens of the prompt lay in the pool, and so many in memory; then it differs, from this to that.
    Reused(u32, u32, Option<(String, String)>),
    /// Load progress.
    Percent(u8),
    /// Waits for the gate of that path (see [`crate::Gate`]), or for a cancel.
    Wait(PathBuf),
    /// Ends the process by this signal.
    Die(i32),
    /// Ends the process with this exit status.
    Exit(u8),
    /// From now on nothing is answered, pings included.
    Hang,
    /// Bytes that are no frame.
    Garbage,
    /// The prompt doesn't fit: requested, available.
    Overflow(u32, u32),
    /// Asks for a larger pool: at least, and for a while. Goes on without waiting for the answer.
    Wants(u32, u32),
    /// The ask, or the load, fails with these words.
    Fail(String),
    /// Not enough memory, in these words.
    MemoryShort(String),
    /// Confinement failed, in these words.
    Unconfined(String),
    /// In a load only: this step, unless a backend of that name is to be loaded first.
    Unless(String, Box<Step>),
    /// In a load only: this step, unless that file is there; it is made then.
    Once(PathBuf, Box<Step>),
    /// The backend can't be used, in these words.
    BackendFailed(String),
    /// Half a frame of text, then the end by this signal.
    DieMidFrame(i32),
    /// The ask ends in this way, in place of the end of its turn.
    End(WireFinish),
    /// The shape can't be kept to: its path, and the reason.
    Unsupported(String, String),
    /// Arguments of this tool aren't kept to their schema, for that reason.
    Loose(String, String),
}

impl Script {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a script is plain data")
    }

    /// Adds a rule for prompts that contain `when`.
    #[must_use]
    pub fn on(mut self, when: &str, steps: Vec<Step>) -> Self {
        self.asks.push(Rule { when: when.to_owned(), steps });
        self
    }

    #[must_use]
    pub fn loading(mut self, steps: Vec<Step>) -> Self {
        self.load.steps = steps;
        self
    }

    #[must_use]
    pub fn slots(mut self, sequences_max: u32) -> Self {
        self.load.sequences_max = sequences_max;
        self
    }

    /// A window of so many tokens (words, here) that is kept to.
    #[must_use]
    pub fn windowed(mut self, context_tokens: u32) -> Self {
        self.load = Load { context_tokens, windowed: true, ..self.load };
        self
    }

    #[must_use]
    pub fn logged(mut self, path: &std::path::Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }
}

/// What the scripted `selftest` does; the JSON that a test writes in place of a backend file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestScript {
    /// Right products at these giga-operations per second.
    Right { device: String, features: Vec<String>, f32_gops: f64, int8_gops: f64 },
    /// The 8-bit product is wrong.
    Wrong,
    /// Ends by this signal.
    Die(i32),
    /// Never ends.
    Hang,
    /// Prints what isn't a reply.
    Garbage,
    /// Exits with this status and no words.
    Exit(u8),
}

impl SelfTestScript {
    /// A backend on the processor that is right and this fast.
    pub fn right(int8_gops: f64) -> Self {
        SelfTestScript::Right { device: "CPU".into(), features: vec!["AVX2".into()], f32_gops: 10.0, int8_gops }
    }

    /// Writes it as a backend file.
    ///
    /// # Panics
    /// When the file can't be written: the test can't go on.
    pub fn write(&self, path: &std::path::Path) {
        let json = serde_json::to_string(self).expect("a script is plain data");
        std::fs::write(path, json).expect("a test's backend file can be written");
    }
}
