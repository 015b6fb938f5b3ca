//! An engine with scripted models, and reading answers with a bound.

use base::answer::Progress;
use base::{AppId, Ask, Bytes, Compaction, Delta, Fault, Finish, Limits, Message, Priority, Role, Sampling, Usage};
use engine::{Answer, Engine, EngineConfig, ModelSource, Tuning};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use testkit::{Script, SelfTestScript, TempHome, TestModel, until};

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) home: TempHome,
}

/// A whole configuration; tests change what they are about.
pub(crate) fn config(home: &TempHome) -> EngineConfig {
    let backends_dir = home.folder("backends");
    SelfTestScript::right(50.0).write(&backends_dir.join("libggml-cpu-baseline.so"));
    EngineConfig {
        program: env!("CARGO_BIN_EXE_freehold-engine-probe").into(),
        worker: testkit::worker_path(),
        backends_dir,
        state_dir: home.folder("state"),
        threads: Some(1),
        context_tokens: None,
        sequences_max: 4,
        kv_cache: engine::KvCache::F16,
        prefix_cache: true,
        cache_dir: home.join("cache"),
        cache_disk_max: Bytes(1 << 30),
        drafts: true,
        memory_max: None,
        idle_rest_ms: 0,
        idle_unload_ms: 0,
        load_timeout_ms: 60_000,
        confine_required: false,
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut EngineConfig, &mut Tuning)) -> Self {
        let home = TempHome::new();
        let (mut config, mut tuning) = (config(&home), Tuning::default());
        change(&mut config, &mut tuning);
        let engine = Engine::start_tuned(config, tuning).expect("a thread is to be had");
        Self { engine, home }
    }

    pub(crate) fn chat(&self, name: &str, script: &Script) -> ModelSource {
        source(TestModel::chat(&self.home.folder("models"), name, script))
    }

    pub(crate) fn embedder(&self, name: &str, script: &Script) -> ModelSource {
        source(TestModel::embed(&self.home.folder("models"), name, script))
    }

    pub(crate) fn submit(&self, model: &ModelSource, prompt: &str) -> Answer {
        self.engine.submit(model.clone(), ask(prompt))
    }

    /// Asks and reads to the end.
    pub(crate) fn say(&self, model: &ModelSource, prompt: &str) -> Said {
        Said::all(&mut self.submit(model, prompt))
    }

    pub(crate) fn log(&self) -> std::path::PathBuf {
        self.home.join("frames.log")
    }

    /// Lines that the scripted worker wrote for the frames that it got.
    pub(crate) fn frames(&self) -> Vec<String> {
        lines(&self.log())
    }

    pub(crate) fn until_frame(&self, what: &str) -> String {
        until(what, || self.frames().into_iter().find(|line| line.starts_with(what)))
    }
}

pub(crate) fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn source(model: TestModel) -> ModelSource {
    ModelSource {
        name: model.name,
        parts: vec![model.path],
        facts: Arc::new(model.facts),
        pinned: false,
        adapters: Vec::new(),
        draft: None,
    }
}

pub(crate) fn ask(prompt: &str) -> Ask {
    ask_of("test", Priority::Interactive, prompt)
}

pub(crate) fn ask_of(app: &str, priority: Priority, prompt: &str) -> Ask {
    let messages = vec![Message::new(Role::User, prompt)];
    let limits = Limits::default();
    let ask = Ask::new(AppId(app.into()), String::new(), messages, Sampling::default(), Vec::new(), limits);
    Ask { priority, ..ask.expect("a valid ask") }
}

/// The next delta within the bound of `until`.
pub(crate) fn next(answer: &mut Answer) -> Option<Result<Delta, Fault>> {
    until("the next delta", || {
        let future = pin!(answer.next());
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    })
}

/// Reads until a delta is as wanted; it must come before the end.
pub(crate) fn read_until(answer: &mut Answer, wanted: impl Fn(&Delta) -> bool) -> Delta {
    loop {
        match next(answer) {
            Some(Ok(delta)) if wanted(&delta) => return delta,
            Some(Ok(_)) => {}
            other => panic!("the wanted delta didn't come, but {other:?}"),
        }
    }
}

pub(crate) fn read_text(answer: &mut Answer, text: &str) {
    let found = read_until(answer, |delta| matches!(delta, Delta::Text(_)));
    assert_eq!(found, Delta::Text(text.into()));
}

/// A whole answer, folded.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) progress: Vec<Progress>,
    pub(crate) compacted: Option<Compaction>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<Finish>,
    pub(crate) fault: Option<Fault>,
    pub(crate) deltas: usize,
}

impl Said {
    /// Checks on the way that nothing follows the end and that `Usage` stands right before `Done`.
    pub(crate) fn all(answer: &mut Answer) -> Self {
        let mut said = Self::default();
        while let Some(item) = next(answer) {
            assert!(said.finish.is_none() && said.fault.is_none(), "something follows the end: {item:?}");
            said.deltas += 1;
            match item {
                Ok(Delta::Text(text)) => {
                    assert!(said.usage.is_none(), "text after usage");
                    said.text.push_str(&text);
                }
                Ok(Delta::Progress(progress)) => said.progress.push(progress),
                Ok(Delta::Usage(usage)) => said.usage = Some(usage),
                Ok(Delta::Done(finish)) => {
                    assert!(said.usage.is_some(), "no usage before the end");
                    said.finish = Some(finish);
                }
                Ok(Delta::Compacted(compaction)) => {
                    assert!(said.text.is_empty() && said.compacted.is_none(), "said once, before the text");
                    said.compacted = Some(compaction);
                }
                Ok(Delta::Citation(_) | Delta::Notice(_)) => panic!("the engine says no such thing: {item:?}"),
                Ok(Delta::Thought(_) | Delta::Call(_)) => panic!("these models neither think nor call: {item:?}"),
                Err(fault) => said.fault = Some(fault),
            }
        }
        said
    }

    #[track_caller]
    pub(crate) fn fault(&self) -> &Fault {
        self.fault.as_ref().unwrap_or_else(|| panic!("a fault was due: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is_well(&self, text: &str) {
        assert_eq!((self.text.as_str(), &self.fault), (text, &None));
        assert!(self.finish.is_some(), "{self:?}");
    }
}

/// What the scripted worker says to a prompt that no rule is for.
pub(crate) const DEFAULT: &str = "one two three";
