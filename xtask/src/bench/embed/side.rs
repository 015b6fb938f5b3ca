//! Who makes vectors: a model of ours behind its daemon, or a peer's program.

use crate::bench::daemon::Daemon;
use crate::bench::install::Peer;
use crate::bench::side::Side;
use crate::bench::{http, process};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One request to a peer that takes longer ends it.
const LIMIT: Duration = Duration::from_secs(600);

/// Below the folder of peers.
const PROGRAM: &str = "embed.py";

#[derive(Debug)]
enum Door {
    Ours { address: String, model: String },
    Peer { side: Box<Side>, python_bytes: u64, program: Program },
}

/// How a peer's program is started.
#[derive(Debug)]
struct Program {
    peer: Peer,
    kind: &'static str,
    store: PathBuf,
}

impl Program {
    fn start(&self, name: &str) -> Result<Side> {
        let mut serve = self.peer.command(PROGRAM);
        serve.arg(self.kind).arg(&self.store);
        Side::start(name, &self.store, serve)
    }
}

/// A side of the comparison.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) name: String,
    pub(super) settings: String,
    /// In which it can do the work, in words.
    pub(super) forms: Vec<String>,
    pub(super) is_8_bit: bool,
    /// Of the weights' file, or the largest of some.
    file_bytes: u64,
    door: Door,
}

/// What some texts took.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

/// Bytes of memory and on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// What of it a peer's interpreter held before the runtime was there.
    pub(super) python: u64,
    pub(super) file: u64,
}

impl Runner {
    /// # Errors
    /// When the daemon doesn't list the model.
    pub(super) fn ours(daemon: &Daemon<'_>, file: &Path, name: &str, is_8_bit: bool) -> Result<Self> {
        let model = daemon.model_name(file)?;
        let door = Door::Ours { address: daemon.address.clone(), model: model.clone() };
        let settings = format!("`{model}` through daemon and HTTP");
        let file_bytes = std::fs::metadata(file)?.len();
        Ok(Self { name: name.into(), settings, forms: vec![String::new()], is_8_bit, file_bytes, door })
    }

    /// Writes a peer's graphs below a folder and starts it.
    ///
    /// # Errors
    /// When that can't be done.
    pub(super) fn peer(peer: Peer, kind: &'static str, name: &str, is_8_bit: bool, folder: &Path) -> Result<Self> {
        let store = folder.join(kind);
        place::output(peer.command(PROGRAM).args(["write", kind]).arg(&store))?;
        let program = Program { peer, kind, store };
        let mut side = program.start(name)?;
        let loaded = side.request(&json!({ "do": "load" }), LIMIT)?;
        let forms = loaded["knobs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let forms: Vec<String> = forms.map(str::to_string).collect();
        if forms.is_empty() {
            bail!("it names no form");
        }
        let settings = format!("{}, {}", program.peer.versions, loaded["settings"].as_str().unwrap_or_default());
        let python_bytes = loaded["python_bytes"].as_u64().unwrap_or(0);
        let files = std::fs::read_dir(&program.store)?.map(|entry| Ok(entry?.metadata()?.len()));
        let file_bytes = files.collect::<Result<Vec<u64>>>()?.into_iter().max().unwrap_or(0);
        let door = Door::Peer { side: Box::new(side), python_bytes, program };
        Ok(Self { name: name.into(), settings, forms, is_8_bit, file_bytes, door })
    }

    /// Starts a peer's program anew, so that it holds nothing of forms that it was only tried with.
    ///
    /// # Errors
    /// When it doesn't start.
    pub(super) fn restart(&mut self) -> Result<()> {
        if let Door::Peer { side, program, .. } = &mut self.door {
            **side = program.start(&self.name)?;
        }
        Ok(())
    }

    /// The program behind it, if it can cut texts.
    pub(super) fn cutter(&mut self) -> Option<&mut Side> {
        match &mut self.door {
            Door::Ours { .. } => None,
            Door::Peer { side, .. } => Some(side),
        }
    }

    /// Embeds all texts, `batch` at a time.
    ///
    /// # Errors
    /// When it can't.
    pub(super) fn embed(&mut self, texts: &[String], batch: usize, form: usize) -> Result<Timed> {
        match &mut self.door {
            Door::Ours { address, model } => {
                let mut timed = Timed { tokens: 0, seconds: 0.0 };
                for texts in texts.chunks(batch) {
                    // As OpenAI's own clients ask.
                    let body = json!({ "model": model, "input": texts, "encoding_format": "base64" });
                    let started = Instant::now();
                    let reply = http::post(address, "/v1/embeddings", &body)?;
                    timed.seconds += started.elapsed().as_secs_f64();
                    let reply: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
                    timed.tokens += reply["usage"]["prompt_tokens"].as_u64().context("the reply counts no tokens")?;
                }
                Ok(timed)
            }
            Door::Peer { side, .. } => {
                let request = json!({ "do": "embed", "texts": texts, "batch": batch, "knob": form });
                let reply = side.request(&request, LIMIT)?;
                let tokens = reply["tokens"].as_u64().context("the reply counts no tokens")?;
                let ms = reply["ms"].as_f64().context("the reply has no time")?;
                Ok(Timed { tokens, seconds: ms / 1e3 })
            }
        }
    }

    /// The vectors of texts, one at a time.
    ///
    /// # Errors
    /// When it can't make them.
    pub(super) fn vectors(&mut self, texts: &[&str], form: usize) -> Result<Vec<Vec<f64>>> {
        let rows = match &mut self.door {
            Door::Ours { address, model } => {
                let reply = http::post(address, "/v1/embeddings", &json!({ "model": model, "input": texts }))?;
                let reply: Value = serde_json::from_str(&reply.text()).context("the reply isn't JSON")?;
                reply["data"].as_array().map(|rows| rows.iter().map(|row| row["embedding"].clone()).collect())
            }
            Door::Peer { side, .. } => {
                let request = json!({ "do": "embed", "texts": texts, "batch": 1, "knob": form, "vectors": true });
                side.request(&request, LIMIT)?["vectors"].as_array().cloned()
            }
        };
        let rows: Vec<Value> = rows.context("the reply holds no vectors")?;
        rows.into_iter().map(|row| serde_json::from_value(row).context("a vector isn't numbers")).collect()
    }

    /// # Errors
    /// When the system doesn't say.
    pub(super) fn memory(&self, daemon: &Daemon<'_>) -> Result<Memory> {
        let (resident, python) = match &self.door {
            Door::Ours { model, .. } => (process::memory(worker(daemon, model)?, "VmRSS:")?, 0),
            Door::Peer { side, python_bytes, .. } => (side.memory("VmRSS:")?, *python_bytes),
        };
        Ok(Memory { resident, python, file: self.file_bytes })
    }
}

/// The process that has a model.
fn worker(daemon: &Daemon<'_>, model: &str) -> Result<u32> {
    let status = daemon.status()?;
    let mut loaded = status["models"].as_array().into_iter().flatten();
    let facts = loaded.find(|one| one["name"] == model).with_context(|| format!("`{model}` isn't loaded"))?;
    let pid = facts["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    pid.with_context(|| format!("`freehold status` names no process of `{model}`"))
}

/// Passages of exactly so many tokens.
///
/// # Errors
/// When the text doesn't give as many.
pub(super) fn cut(side: &mut Side, text: &str, tokens: usize, count: usize) -> Result<Vec<String>> {
    let reply = side.request(&json!({ "do": "cut", "text": text, "tokens": tokens, "count": count }), LIMIT)?;
    let texts: Vec<String> = serde_json::from_value(reply["texts"].clone()).context("the reply holds no texts")?;
    if texts.len() != count {
        bail!("the text gives {} passages of {tokens} tokens, not {count}", texts.len());
    }
    Ok(texts)
}
