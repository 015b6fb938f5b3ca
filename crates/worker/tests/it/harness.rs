//! Starts workers as the daemon does and speaks with them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use wire::{
    Begin, Directive, EmbedHow, JobId, KvCache, Link, Load, Ready, Receiver, Report, Sender, Spent, WireFault,
    WireFinish, WireLikelihood, WireSampling, WireScore, WireShape,
};

/// The folder with the worker, its libraries and its backends, checked to hold this very build.
pub(crate) fn native() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_freehold-worker"));
    let target = built.parent().and_then(Path::parent).expect("cargo's target folder");
    let native = target.join("native");
    let laid = native.join("freehold-worker");
    let same = std::fs::read(&laid).is_ok_and(|laid| std::fs::read(built).is_ok_and(|built| built == laid));
    assert!(same, "{} is not the worker that was just built: run `cargo xtask native` first", laid.display());
    native
}

/// Names of the CPU backends in the folder, the baseline last.
pub(crate) fn cpu_backends() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(native())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("libggml-cpu-"))
        .collect();
    names.sort_by_key(|name| name.contains("baseline"));
    assert!(names.last().is_some_and(|name| name.contains("baseline")), "no baseline among {names:?}");
    names
}

#[expect(clippy::disallowed_methods, reason = "where the starter models lie is told to tests by the environment")]
fn model_at(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} must name a GGUF file; `cargo xtask ci` sets it"));
    assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
    path
}

pub(crate) fn model() -> PathBuf {
    model_at("FREEHOLD_TEST_MODEL")
}

pub(crate) fn embedder() -> PathBuf {
    model_at("FREEHOLD_TEST_EMBEDDER")
}

/// Whether this run writes what it found into the pages of `docs`, and doesn't compare: `cargo xtask eval families`.
#[expect(clippy::disallowed_methods, reason = "who runs the tests says it by the environment")]
pub(crate) fn writes_pages() -> bool {
    std::env::var_os("FREEHOLD_TEST_PAGES").is_some_and(|wanted| wanted == "write")
}

/// A worker and our end of its link. Killed when dropped.
pub(crate) struct Worker {
    pub(crate) child: jail::KillOnDrop,
    sender: Option<Sender>,
    receiver: Receiver,
    socket: UnixStream,
    /// Reports of other jobs than the one waited for.
    later: VecDeque<Report>,
}

/// What one generation brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) finish: WireFinish,
    pub(crate) spent: Spent,
    pub(crate) pieces: usize,
}

/// What one embedding brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vectors {
    pub(crate) dimensions: u32,
    pub(crate) rows: Vec<Vec<f32>>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) left_out: Vec<u32>,
}

pub(crate) fn load() -> Load {
    Load {
        backends: vec![cpu_backends().remove(0)],
        embed: false,
        context_tokens: 2048,
        context_max: 0,
        sequences_max: 4,
        batch_tokens: 512,
        // Tests run side by side, and threads that wait for each other suffer most from company.
        threads: 1,
        prompt_threads: 1,
        quota_milli: 0,
        offload: wire::Offload::default(),
        kv_cache: KvCache::F16,
        adapters: Vec::new(),
        park_bytes: 256 << 20,
        confine: true,
        shown: Vec::new(),
        drafts: true,
        draft_model: None,
    }
}

/// As the model says, of length 1, and nothing left out.
pub(crate) const AS_USUAL: EmbedHow = EmbedHow { pooling: None, normalize: true, truncate: false };

pub(crate) fn greedy() -> WireSampling {
    WireSampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        repeat_penalty: 1.0,
        penalty_last_n: 0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        seed: 0,
        logit_bias: Vec::new(),
    }
}

pub(crate) fn begin(job: JobId, prompt: &str, tokens_max: u32) -> Begin {
    Begin {
        job,
        prompt: vec![prompt.to_owned()],
        add_bos: false,
        sampling: greedy(),
        stop: Vec::new(),
        tokens_max,
        deadline_ms: 0,
        adapters: Vec::new(),
        shape: WireShape::Free,
        reasoning: None,
        stop_loops: false,
        drafts: true,
        score: None,
        scope: 0,
        stored: false,
    }
}

/// The same for a scope, whose sequences are kept.
pub(crate) fn begin_of(scope: u64, job: JobId, prompt: &str, tokens_max: u32) -> Begin {
    Begin { scope, ..begin(job, prompt, tokens_max) }
}

/// A question in the starter model's own chat format.
pub(crate) fn chat(question: &str) -> String {
    format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
}

/// About `words` tokens that make no sense and repeat only over a long distance.
pub(crate) fn long_prompt(words: usize) -> String {
    let list = ["river", " stone", " green", " bridge", " people", " house", " old", " water", " light", " north"];
    (0..words).map(|i| list[(i * 7 + i / 10 + i / 70) % list.len()]).collect()
}

impl Worker {
    /// A process that has said Hello and nothing more.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with variables that the daemon never sets.
    pub(crate) fn start_with(env: &[(&str, &str)]) -> Self {
        let (ours, theirs) = wire::pair().unwrap();
        let command = jail::Command::new(&native().join("freehold-worker"));
        let child = env
            .iter()
            .fold(command, |command, (name, value)| command.env(*name, *value))
            .arg("serve")
            .fd(theirs.into_fd(), wire::WORKER_FD)
            .spawn()
            .unwrap();
        let ours = ours.into_fd();
        let socket = UnixStream::from(ours.try_clone().unwrap());
        let (sender, receiver) = Link::new(ours).split().unwrap();
        let child = jail::KillOnDrop(child);
        let mut worker = Self { child, sender: Some(sender), receiver, socket, later: VecDeque::new() };
        let hello = worker.receive().expect("a Hello");
        assert!(matches!(hello, Report::Hello { version: wire::VERSION, .. }), "{hello:?}");
        worker
    }

    pub(crate) fn with(load: &Load, model: &Path) -> (Self, Ready) {
        let mut worker = Self::start();
        let ready = worker.load(load, &[File::open(model).unwrap().into()]).expect("a model that loads");
        (worker, ready)
    }

    /// The starter model, ready.
    pub(crate) fn ready() -> Self {
        Self::with(&load(), &model()).0
    }

    pub(crate) fn send_load(&mut self, load: &Load, model: &Path) {
        let file = File::open(model).unwrap();
        self.sender.as_mut().unwrap().send_with_fds(&Directive::Load(load.clone()), &[file.as_fd()]).unwrap();
    }

    /// Bytes that are no frame.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        (&self.socket).write_all(bytes).unwrap();
    }

    pub(crate) fn load(&mut self, load: &Load, parts: &[OwnedFd]) -> Result<Ready, WireFault> {
        let fds: Vec<_> = parts.iter().map(AsFd::as_fd).collect();
        let sender = self.sender.as_mut().unwrap();
        sender.send_with_fds(&Directive::Load(load.clone()), &fds).unwrap();
        let mut percent_before = 0;
        loop {
            match self.receive().expect("a reply to Load") {
                Report::Loading { percent } => {
                    assert!(percent > percent_before && percent <= 100, "{percent} after {percent_before}");
                    percent_before = percent;
                }
                Report::Ready(ready) => return Ok(*ready),
                Report::Failed { job: None, fault } => return Err(fault),
                other => panic!("{other:?} instead of Ready"),
            }
        }
    }

    pub(crate) fn send(&mut self, directive: &Directive) {
        self.sender.as_mut().unwrap().send(directive).unwrap();
    }

    pub(crate) fn send_file(&mut self, directive: &Directive, file: &File) {
        self.sender.as_mut().unwrap().send_with_fds(directive, &[file.as_fd()]).unwrap();
    }

    pub(crate) fn begin(&mut self, begin: Begin) {
        self.send(&Directive::Begin(Box::new(begin)));
    }

    /// The next report, or None when the worker has closed the link.
    pub(crate) fn receive(&mut self) -> Option<Report> {
        match self.receiver.recv::<Report>() {
            Ok((report, _)) => Some(report),
            Err(wire::WireError::Closed) => None,
            Err(wire::WireError::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The first report that `wanted` takes; others stay for later.
    pub(crate) fn find<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> T {
        if let Some(place) = self.later.iter().position(|report| wanted(report).is_some()) {
            let report = self.later.remove(place).unwrap();
            return wanted(&report).unwrap();
        }
        loop {
            let report = self.receive().expect("the worker to live");
            if let Some(found) = wanted(&report) {
                return found;
            }
            self.later.push_back(report);
        }
    }

    /// Whether such a report came and nobody asked for it yet.
    pub(crate) fn seen(&self, wanted: impl FnMut(&Report) -> bool) -> bool {
        self.later.iter().any(wanted)
    }

    /// Follows a job to its end.
    pub(crate) fn finish(&mut self, id: JobId) -> Result<Answer, WireFault> {
        let (mut text, mut pieces) = (String::new(), 0);
        loop {
            let report = self.find(|report| match report {
                Report::Text { job, .. } | Report::Done { job, .. } | Report::Failed { job: Some(job), .. } => {
                    (*job == id).then(|| report.clone())
                }
                Report::Failed { job: None, fault } => panic!("the worker gave up: {fault:?}"),
                _ => None,
            });
            match report {
                Report::Text { text: piece, .. } => {
                    assert!(!piece.is_empty());
                    text.push_str(&piece);
                    pieces += 1;
                }
                Report::Done { finish, spent, .. } => return Ok(Answer { text, finish, spent, pieces }),
                Report::Failed { fault, .. } => return Err(fault),
                _ => unreachable!(),
            }
        }
    }

    pub(crate) fn generate(&mut self, begin: Begin) -> Result<Answer, WireFault> {
        let id = begin.job;
        self.begin(begin);
        self.finish(id)
    }

    /// Judges options behind a prompt.
    pub(crate) fn score(
        &mut self,
        begin: Begin,
        options: &[&str],
        whole: bool,
    ) -> Result<Vec<WireLikelihood>, WireFault> {
        let id = begin.job;
        let options = options.iter().map(ToString::to_string).collect();
        self.begin(Begin { score: Some(WireScore { options, whole }), ..begin });
        self.find(|report| match report {
            Report::Scored { job, likelihoods, .. } if *job == id => Some(Ok(likelihoods.clone())),
            Report::Failed { job: Some(job), fault } if *job == id => Some(Err(fault.clone())),
            _ => None,
        })
    }

    /// What a job's prompt found already there; to be asked after its end.
    pub(crate) fn reused(&mut self, id: JobId) -> wire::Reuse {
        let place = self.later.iter().position(|report| matches!(report, Report::Reused { job, .. } if *job == id));
        match place.and_then(|place| self.later.remove(place)) {
            Some(Report::Reused { reuse, .. }) => *reuse,
            _ => wire::Reuse::default(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.pid()
    }

    pub(crate) fn count(&mut self, prompt: &[&str]) -> u32 {
        let job = 900_000;
        let prompt = prompt.iter().map(ToString::to_string).collect();
        self.send(&Directive::Count { job, prompt, add_bos: true });
        self.find(|report| match report {
            Report::Counted { tokens, .. } => Some(*tokens),
            _ => None,
        })
    }

    pub(crate) fn vectors(&mut self, job: JobId, texts: &[&str]) -> Result<Vectors, WireFault> {
        self.vectors_as(job, texts, AS_USUAL)
    }

    pub(crate) fn vectors_as(&mut self, job: JobId, texts: &[&str], how: EmbedHow) -> Result<Vectors, WireFault> {
        self.send(&Directive::Embed { job, texts: texts.iter().map(ToString::to_string).collect(), how });
        self.rows(job)
    }

    pub(crate) fn rank(
        &mut self,
        job: JobId,
        query: &str,
        documents: &[&str],
        truncate: bool,
    ) -> Result<Vectors, WireFault> {
        let documents = documents.iter().map(ToString::to_string).collect();
        self.send(&Directive::Rank { job, query: query.to_owned(), documents, truncate });
        self.rows(job)
    }

    fn rows(&mut self, job: JobId) -> Result<Vectors, WireFault> {
        self.find(|report| match report {
            Report::Vectors { job: id, dimensions, values, tokens, left_out } if *id == job => {
                let rows = values.chunks(*dimensions as usize).map(<[f32]>::to_vec).collect();
                let (tokens, left_out) = (tokens.clone(), left_out.clone());
                Some(Ok(Vectors { dimensions: *dimensions, rows, tokens, left_out }))
            }
            Report::Failed { job: Some(id), fault } if *id == job => Some(Err(fault.clone())),
            _ => None,
        })
    }

    /// Waits for the worker to have ended and gives its exit code; None when a signal ended it.
    pub(crate) fn end(mut self) -> Option<i32> {
        while self.receive().is_some() {}
        self.child.wait().unwrap().code()
    }

    /// As a daemon that dies: the link is gone.
    pub(crate) fn hang_up(mut self) -> Option<i32> {
        self.sender.take().unwrap().close();
        self.child.wait().unwrap().code()
    }
}

/// The link and child of a worker for tests that write raw bytes.
pub(crate) fn raw_worker() -> (jail::KillOnDrop, OwnedFd) {
    let (ours, theirs) = wire::pair().unwrap();
    let child = jail::Command::new(&native().join("freehold-worker"))
        .arg("serve")
        .fd(theirs.into_fd(), wire::WORKER_FD)
        .spawn()
        .unwrap();
    (jail::KillOnDrop(child), Link::into_fd(ours))
}
