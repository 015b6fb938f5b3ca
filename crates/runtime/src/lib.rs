//! The facade: builds every pillar, owns configuration and shutdown.
//!
//! `api` and `cli` call this crate and nothing below it. Start with [`Runtime`];
//! [`Settings`] says what it is built from and [`view`] what it shows.

mod adapters;
mod baselines;
pub mod child;
mod daemon;
mod doctor;
mod draft_model;
mod embedder;
mod files;
mod filter;
mod fresh;
mod health;
mod languages;
pub mod life;
mod logs;
mod mapping;
mod maps;
pub mod permission;
mod prompt;
mod reranker;
pub mod settings;
mod stream;
mod task;
pub mod view;

pub use adapters::ADAPTERS_MAX;
pub use engine::{Answer, EmbedOptions, Embedded, Pooling, Ranked};
pub use life::{Claim, claim, daemon_pid, report_failure, start_daemon};
pub use logs::start_logs;
pub use permission::Sight;
pub use settings::Settings;
pub use stream::EventStream;
pub use task::TaskCall;
pub use tasks::{self, Task};

use base::{AppId, Ask, Bytes, Code, Fault, Label, Millis, Modality, Score, Scores};
use engine::{Engine, EngineConfig, ModelSource};
use fresh::Fresh;
use gateway::Gateway;
use maps::Maps;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use store::{Entry, Store};
use view::{
    Added, CheckEvent, Doctor, ForgetReport, Hello, IndexEvent, MapDetails, MapSummary, MapVerified, ModelRow,
    PromptsForgot, PullEvent, SearchReply, SearchRequest, SkippedFile, Status,
};

/// Version of the program, as printed.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Changes with the sources of the program, so that a stale daemon is told from a fresh one.
pub const BUILD: &str = env!("FREEHOLD_BUILD");

/// All of Freehold in one handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    store: Store,
    gateway: Gateway,
    engine: Engine,
    maps: Maps,
    fresh: Fresh,
    started: Instant,
    address: Mutex<Option<String>>,
    asks_done: AtomicU64,
    baselines: baselines::Baselines,
    /// Two index runs at once would only wait for each other's locks.
    indexing: Mutex<()>,
}

impl Runtime {
    /// Opens the home and starts the engine's thread; loads no model.
    ///
    /// # Errors
    /// A home that can't be used, in the words of the pillar that found it so.
    pub fn open(settings: Settings) -> Result<Self, Fault> {
        // The daemon holds everyone's prompts: none of them may end in a core dump.
        jail::harden_daemon();
        life::prepare_home(&settings)?;
        jail::set_trampoline(settings.program.clone());
        let home = settings.home.clone();
        let store = Store::open(&home)?;
        let gateway = Gateway::open(&home, daemon::policy(&settings))?;
        let engine = Engine::start(EngineConfig {
            program: settings.program.clone(),
            worker: settings.worker.clone(),
            backends_dir: settings.backends_dir.clone(),
            state_dir: settings.run_dir(),
            threads: settings.threads,
            context_tokens: settings.context_tokens,
            sequences_max: settings.sequences_max,
            kv_cache: settings.kv_cache,
            prefix_cache: settings.prefix_cache,
            cache_dir: home.join("cache"),
            cache_disk_max: settings.cache_disk,
            drafts: settings.drafts,
            memory_max: settings.memory_max,
            idle_rest_ms: settings.idle_rest_ms,
            idle_unload_ms: settings.idle_unload_ms,
            load_timeout_ms: settings.load_timeout_ms,
            confine_required: settings.confine_required,
        })?;
        let recogniser = map::Recogniser { languages: settings.ocr_languages.clone(), ..map::Recogniser::default() };
        let reader = map::Reader { recogniser, ..map::Reader::new(settings.program.clone()) };
        let maps = Maps::new(home.join("maps"), reader);
        let (fresh, inboxes) = Fresh::new();
        let inner = Arc::new(Inner {
            settings,
            store,
            gateway,
            engine,
            maps,
            fresh,
            started: Instant::now(),
            address: Mutex::new(None),
            asks_done: AtomicU64::new(0),
            baselines: baselines::Baselines::default(),
            indexing: Mutex::new(()),
        });
        fresh::start(&inner, inboxes);
        Ok(Self { inner })
    }

    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What a program may see of the maps, by the name that it gives itself.
    pub fn sight_of(&self, app: &AppId) -> Sight {
        self.inner.settings.apps.of(app)
    }

    /// The maps that a caller may see.
    pub fn maps(&self, sight: &Sight) -> Vec<MapSummary> {
        mapping::summaries(&self.inner, sight)
    }

    /// Where the TCP listener was bound, for `status`.
    pub fn set_address(&self, address: String) {
        *self.inner.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    pub fn hello(&self) -> Hello {
        Hello {
            version: VERSION.into(),
            build: BUILD.into(),
            pid: std::process::id(),
            home: self.inner.settings.home.display().to_string(),
            settings: self.inner.settings.effective(),
        }
    }

    /// Starts an answer; loading, queueing and prefill come as progress in the stream.
    pub fn chat(&self, ask: Ask) -> Result<Answer, Fault> {
        let source = self.inner.chat_source(&ask.model, &ask.adapters)?;
        self.inner.asks_done.fetch_add(1, Ordering::Relaxed);
        Ok(self.inner.engine.submit(source, ask))
    }

    /// Judges how likely each of some answers is.
    ///
    /// # Errors
    /// No such model, a prompt that doesn't fit its window, or a fault of the worker.
    pub async fn score(&self, score: Score) -> Result<Scores, Fault> {
        let source = self.inner.chat_source(&score.model, &score.adapters)?;
        self.inner.asks_done.fetch_add(1, Ordering::Relaxed);
        self.inner.engine.score(source, score).await
    }

    /// Embeds texts with the named model, or the default one when `model` is empty.
    ///
    /// # Errors
    /// No such model, a text that is longer than its window, or a fault of the worker.
    pub async fn embed(
        &self,
        model: &str,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<(String, Embedded), Fault> {
        let source = self.model_for(model, Modality::Embed)?;
        let name = source.name.0.clone();
        Ok((name, self.inner.engine.embed_as(source, texts, options).await?))
    }

    /// Ranks documents with the named model, or the default one when `model` is empty.
    ///
    /// # Errors
    /// As [`Runtime::embed`].
    pub async fn rank(
        &self,
        model: &str,
        query: String,
        documents: Vec<String>,
        truncate: bool,
    ) -> Result<(String, Ranked), Fault> {
        let source = self.model_for(model, Modality::Rerank)?;
        let name = source.name.0.clone();
        Ok((name, self.inner.engine.rank(source, query, documents, truncate).await?))
    }

    /// Whether a model is in memory now.
    pub fn is_loaded(&self, model: &str) -> bool {
        self.inner.engine.loaded().into_iter().any(|loaded| loaded.name == model)
    }

    pub fn models(&self) -> Vec<ModelRow> {
        daemon::model_rows(&self.inner, &self.inner.store.list())
    }

    /// Adds a model file, or all models of a folder, in place.
    ///
    /// # Errors
    /// What is wrong with the file, or that the folder holds no model.
    pub fn add_model(&self, path: &Path) -> Result<Added, Fault> {
        let mut refused = Vec::new();
        let added = self.inner.store.add_each(path, &mut |path, fault| {
            refused.push(SkippedFile { path: path.display().to_string(), fault: fault.clone() });
        })?;
        self.inner.fresh.models_changed(&self.inner);
        Ok(Added { models: daemon::model_rows(&self.inner, &added), refused })
    }

    /// Forgets a model; deletes its file only when Freehold pulled it.
    ///
    /// # Errors
    /// No such model.
    pub fn remove_model(&self, name: &str) -> Result<ModelRow, Fault> {
        let entry = self.inner.store.find(name)?;
        let forget = || {
            let forgot = mapping::forget_prompts(&self.inner, None, Some(&entry.name.0));
            if let Some(problem) = forgot.problem {
                tracing::warn!(model = entry.name.0, problem, "what it kept of prompts is still there");
            }
        };
        // What it has worked through is of no use any more, so its worker needn't write it before it ends.
        forget();
        self.inner.engine.unload(&entry.name.0);
        self.inner.store.remove(&entry.name.0)?;
        // Answers may have been under way.
        forget();
        Ok(daemon::model_row(&self.inner, &entry, false))
    }

    /// Keeps a model in memory once it is there, or no longer: it is not let go for being idle, nor to make
    /// room for another.
    ///
    /// # Errors
    /// No such model.
    pub fn pin_model(&self, name: &str, pinned: bool) -> Result<ModelRow, Fault> {
        let entry = self.inner.store.set_pinned(name, pinned)?;
        self.inner.engine.pin(&entry.name.0, pinned);
        let mut rows = daemon::model_rows(&self.inner, &[entry]);
        Ok(rows.remove(0))
    }

    /// Makes a model the one that is taken when none is named.
    ///
    /// # Errors
    /// No such model.
    pub fn set_default_model(&self, name: &str) -> Result<ModelRow, Fault> {
        let entry = self.inner.store.find(name)?;
        self.inner.store.set_default(&entry.name.0)?;
        self.inner.fresh.models_changed(&self.inner);
        Ok(daemon::model_row(&self.inner, &entry, true))
    }

    pub fn pull(&self, what: String) -> EventStream<PullEvent> {
        let inner = Arc::clone(&self.inner);
        stream::spawn("pull", move |events| {
            daemon::pull(&inner, &what, &events);
            inner.fresh.models_changed(&inner);
        })
    }

    /// Measures how well a model does: its template, loops, JSON, perplexity, speed and memory.
    pub fn check_model(&self, name: String) -> EventStream<CheckEvent> {
        let inner = Arc::clone(&self.inner);
        stream::spawn("check", move |events| health::check(&inner, &name, &events))
    }

    pub fn index(&self, folder: PathBuf) -> EventStream<IndexEvent> {
        let inner = Arc::clone(&self.inner);
        stream::spawn("index", move |events| files::index(&inner, &folder, &events))
    }

    /// Makes a map of folders and files, or adds them to one, and reads them.
    pub fn add_map(&self, name: String, sources: Vec<PathBuf>, label: Option<Label>) -> EventStream<IndexEvent> {
        let inner = Arc::clone(&self.inner);
        stream::spawn("index", move |events| mapping::add(&inner, &name, &sources, label, &events))
    }

    /// Makes all of a map anew from its files.
    pub fn rebuild_map(&self, name: String) -> EventStream<IndexEvent> {
        let inner = Arc::clone(&self.inner);
        stream::spawn("index", move |events| mapping::rebuild(&inner, &name, &events))
    }

    /// # Errors
    /// No such map.
    pub fn show_map(&self, name: &str) -> Result<MapDetails, Fault> {
        mapping::show(&self.inner, name)
    }

    /// Stops or goes on keeping a map up to date.
    ///
    /// # Errors
    /// No such map.
    pub fn pause_map(&self, name: &str, paused: bool) -> Result<MapSummary, Fault> {
        mapping::pause(&self.inner, name, paused)
    }

    /// Removes a map with all that was read for it; the files stay.
    ///
    /// # Errors
    /// No such map, or faults of the disk.
    pub fn remove_map(&self, name: &str) -> Result<ForgetReport, Fault> {
        mapping::remove(&self.inner, name)
    }

    /// Checks a map against itself and its files, and repairs what can be.
    ///
    /// # Errors
    /// No such map, or a record that can't be read.
    pub fn verify_map(&self, name: &str) -> Result<MapVerified, Fault> {
        mapping::verify(&self.inner, name)
    }

    /// Erases what was read of a file or folder from every map, and proves it.
    ///
    /// # Errors
    /// When no map reads it, and faults of the disk.
    pub fn forget(&self, path: &Path) -> Result<ForgetReport, Fault> {
        mapping::forget(&self.inner, path)
    }

    /// Lets go of all that is kept of prompts: of one app or all, of one model or all.
    ///
    /// # Errors
    /// No such model.
    pub fn forget_prompts(&self, app: Option<String>, model: Option<&str>) -> Result<PromptsForgot, Fault> {
        let model = model.map(|name| self.inner.model_for(name, Modality::Chat)).transpose()?;
        let name = model.as_ref().map(|model| model.name.0.as_str());
        Ok(mapping::forget_prompts(&self.inner, app.map(AppId).as_ref(), name))
    }

    /// Finds passages; no language model is used, and no other model either when `lexical_only` is set, unless a
    /// reranker is asked for by name.
    ///
    /// # Errors
    /// No such map, or an index that can't be read.
    pub async fn search(&self, request: SearchRequest, sight: Sight) -> Result<SearchReply, Fault> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || files::search(&inner, &request, &sight))
            .await
            .map_err(|error| Fault::new(Code::Internal, "the search ended badly").cause(error))?
    }

    /// Answers from the files that the caller may see.
    pub fn ask_files(&self, request: view::AskFilesRequest, sight: Sight) -> EventStream<view::AskEvent> {
        let inner = Arc::clone(&self.inner);
        inner.asks_done.fetch_add(1, Ordering::Relaxed);
        stream::spawn("ask", move |events| files::ask(&inner, &request, &sight, &events))
    }

    /// Does a task with a text.
    pub fn run_task(&self, call: TaskCall) -> EventStream<view::TaskEvent> {
        let inner = Arc::clone(&self.inner);
        inner.asks_done.fetch_add(1, Ordering::Relaxed);
        stream::spawn("task", move |events| task::run(&inner, &call, &events))
    }

    /// Looks at everything that can be wrong; loads the default models to see them work.
    pub async fn doctor(&self) -> Doctor {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || doctor::examine(&inner)).await.unwrap_or_else(|error| Doctor {
            checks: vec![view::Check {
                name: "doctor".into(),
                verdict: view::Verdict::Bad,
                detail: format!("the examination itself failed: {error}"),
                hint: None,
            }],
        })
    }

    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let totals = inner.gateway.totals();
        let models: Vec<view::LoadedModel> = inner.engine.loaded().into_iter().map(daemon::loaded_row).collect();
        Status {
            hello: self.hello(),
            uptime_ms: Millis(u64::try_from(inner.started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            address: inner.address.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            socket: inner.settings.socket.display().to_string(),
            resident_bytes: daemon::resident_bytes(),
            asks_running: models.iter().map(|model| model.running + model.queued + model.parked).sum(),
            models,
            memory: daemon::memory_use(inner),
            maps: mapping::summaries(inner, &Sight::default()),
            asks_done: inner.asks_done.load(Ordering::Relaxed),
            bytes_sent_total: Bytes(totals.bytes_sent),
            bytes_received_total: Bytes(totals.bytes_received),
            crossings_uncounted: totals.uncounted,
        }
    }

    /// Ends every worker; running asks get a typed fault. Bounded in time.
    pub async fn shutdown(&self) {
        self.inner.fresh.stop();
        let engine = self.inner.engine.clone();
        // A failure here means that the engine's thread is gone, and its workers with it.
        let _ = tokio::task::spawn_blocking(move || engine.shutdown()).await;
    }

    fn model_for(&self, name: &str, modality: Modality) -> Result<ModelSource, Fault> {
        self.inner.model_for(name, modality)
    }
}

impl Inner {
    fn model_for(&self, name: &str, modality: Modality) -> Result<ModelSource, Fault> {
        let entry = if name.is_empty() { self.default_model(modality)? } else { self.store.find(name)? };
        if entry.facts.modality != modality {
            let (is, want) = (kind(entry.facts.modality), kind(modality));
            return Err(Fault::new(Code::ModelUnfit, format!("`{}` is {is}, not {want}", entry.name.0))
                .hint(format!("choose {want}: `freehold models`")));
        }
        Ok(self.source_of(entry))
    }

    /// A chat model with what guesses for it.
    fn chat_model(&self, name: &str) -> Result<ModelSource, Fault> {
        let source = self.model_for(name, Modality::Chat)?;
        let draft = self.draft_for(&self.store.find(&source.name.0)?)?;
        Ok(ModelSource { draft, ..source })
    }

    fn source_of(&self, entry: Entry) -> ModelSource {
        let pinned = self.store.is_pinned(&entry.name);
        let (adapters, draft) = (Vec::new(), None);
        ModelSource { name: entry.name, parts: entry.parts, facts: Arc::new(entry.facts), pinned, adapters, draft }
    }

    fn default_model(&self, modality: Modality) -> Result<Entry, Fault> {
        let kind = kind(modality);
        self.store.default_for(modality).ok_or_else(|| {
            let missing =
                Fault::new(Code::ModelMissing, format!("what is asked for needs {kind}, and there is none yet"));
            if modality == Modality::Rerank {
                return missing.hint("add one: `freehold models add FILE.gguf`; none is among the starter models");
            }
            missing
                .hint("get the starter models (about 190 MB): `freehold pull starter`")
                .hint("or use a file that you have: `freehold models add FILE.gguf`")
        })
    }
}

/// What a file of the store is, in words.
fn kind(modality: Modality) -> &'static str {
    match modality {
        Modality::Chat => "a chat model",
        Modality::Embed => "an embedding model",
        Modality::Rerank => "a reranking model",
        Modality::Adapter => "an adapter",
    }
}

/// The app that an ask belongs to when it comes from the person's own command line.
pub fn own_app() -> AppId {
    AppId("freehold".into())
}
