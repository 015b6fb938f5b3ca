//! Running self-tests in children, and remembering what they said while nothing has changed.

use super::{BackendChoice, Candidate, Kind, Outcome, Verdict, candidates, choose, merge};
use crate::locked;
use crate::machine;
use base::{Code, Fault};
use jail::{Command, Io, JailError, KillOnDrop, Limits};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use wire::{SelfTest, WireDevice};

/// A reply of a few hundred bytes per product; more is nobody's reply.
const REPLY_BYTES_MAX: u64 = 1 << 20;
const WORDS_BYTES_MAX: u64 = 4 << 10;
/// Tests of a file that looks slow, after the first.
const MORE_CHANCES: u32 = 2;
/// While a test runs, how often it is asked whether it still matters.
const STOP_LOOK: Duration = Duration::from_millis(200);
const MEMORY_FILE: &str = "backends.json";

/// The tests of one folder's backends.
#[derive(Debug)]
pub(crate) struct Backends {
    worker: PathBuf,
    folder: PathBuf,
    state_dir: PathBuf,
    limit: Duration,
    /// Held while testing, so that nobody tests twice at once.
    chosen: Mutex<Option<BackendChoice>>,
    /// The engine ends: no test is worth waiting for any more.
    stopped: AtomicBool,
}

/// What a result depends on: when any of it differs, the test is run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Circumstances {
    wire_version: u32,
    processor: String,
    /// A machine that moves to another host keeps its name and may lose instructions.
    features: String,
    kernel: String,
    worker: FileMark,
    backend: FileMark,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileMark {
    name: String,
    bytes: u64,
    modified_ns: i128,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Remembered {
    results: Vec<(Circumstances, Outcome)>,
}

/// One file's results so far.
struct Test {
    circumstances: Circumstances,
    candidate: Candidate,
    outcome: Outcome,
}

impl Test {
    fn lasts(&self) -> bool {
        let tried = matches!(&self.outcome, Outcome::Reply(reply) if !reply.products.is_empty());
        tried && self.candidate.kind != Kind::Gpu
    }
}

impl Backends {
    pub(crate) fn new(worker: PathBuf, folder: PathBuf, state_dir: PathBuf, limit: Duration) -> Self {
        Self { worker, folder, state_dir, limit, chosen: Mutex::new(None), stopped: AtomicBool::new(false) }
    }

    /// The choice; the first call tests what isn't remembered, which can take seconds.
    ///
    /// # Errors
    /// [`Code::WorkerMissing`], or [`Code::BackendFailed`] when no backend passes. A failure isn't
    /// kept: the next call tries again.
    pub(crate) fn choice(&self) -> Result<BackendChoice, Fault> {
        let mut chosen = locked(&self.chosen);
        if let Some(choice) = &*chosen {
            return Ok(choice.clone());
        }
        let choice = self.test_all()?;
        *chosen = Some(choice.clone());
        Ok(choice)
    }

    fn test_all(&self) -> Result<BackendChoice, Fault> {
        let worker = mark(&self.worker).ok_or_else(|| worker_missing(&self.worker))?;
        let listed = fs::read_dir(&self.folder).map_err(|error| Fault::io("read", &self.folder, &error));
        let names: Vec<String> = match listed {
            Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
            Err(fault) => {
                return Err(Fault::new(Code::BackendFailed, "the folder of ggml's backends can't be read")
                    .cause(fault)
                    .hint("`./try` builds worker and backends"));
            }
        };
        let processors = machine::processors();
        let before = self.recall();
        let mut tests: Vec<Test> = Vec::new();
        for candidate in candidates(&names) {
            let path = self.folder.join(&candidate.file);
            let Some(backend) = mark(&path) else { continue };
            let circumstances = Circumstances {
                wire_version: wire::VERSION,
                processor: processors.name.clone(),
                features: processors.features.clone(),
                kernel: processors.kernel.clone(),
                worker: worker.clone(),
                backend,
            };
            let known = before.results.iter().find(|(then, _)| *then == circumstances);
            let outcome = match known {
                Some((_, outcome)) => outcome.clone(),
                None => self.test(&path)?,
            };
            tests.push(Test { circumstances, candidate, outcome });
        }
        let choice = self.settle(&mut tests)?;
        self.remember(&before, &tests, &choice);
        Ok(choice)
    }

    /// Chooses, and gives what looks slow more chances: a busy machine makes anything look slow.
    fn settle(&self, tests: &mut [Test]) -> Result<BackendChoice, Fault> {
        let decide = |tests: &[Test]| {
            let outcomes: Vec<_> = tests.iter().map(|test| (test.candidate.clone(), test.outcome.clone())).collect();
            choose(&self.folder, &outcomes)
        };
        let mut choice = decide(tests)?;
        for _ in 0..MORE_CHANCES {
            let slow: Vec<&str> = names_of(&choice, &[Verdict::Slow]);
            if slow.is_empty() {
                break;
            }
            for test in tests.iter_mut().filter(|test| slow.contains(&test.candidate.file.as_str())) {
                let again = self.test(&self.folder.join(&test.candidate.file))?;
                test.outcome = merge(test.outcome.clone(), again);
            }
            choice = decide(tests)?;
        }
        Ok(choice)
    }

    fn test(&self, backend: &Path) -> Result<Outcome, Fault> {
        self.ask("selftest", backend)
    }

    /// The devices of a backend, with what is free on them at this moment.
    pub(crate) fn devices(&self, backend: &Path) -> Result<Vec<WireDevice>, Fault> {
        let said = match self.ask("devices", backend)? {
            Outcome::Reply(reply) => return Ok(reply.devices),
            Outcome::Died(how) => how,
            Outcome::Hung { limit_ms } => format!("no answer within {limit_ms} ms"),
        };
        let file = backend.display();
        Err(Fault::new(Code::BackendFailed, format!("the devices of `{file}` can't be listed")).cause(said))
    }

    fn ask(&self, verb: &str, backend: &Path) -> Result<Outcome, Fault> {
        let cpu_seconds = Some(self.limit.as_secs().saturating_mul(64).max(60));
        let child = Command::new(&self.worker)
            .arg(verb)
            .arg(backend)
            .stdout(Io::Pipe)
            .stderr(Io::Pipe)
            .limits(Limits { cpu_seconds, ..Limits::default() })
            .die_with_parent()
            .spawn();
        let mut child = match child {
            Ok(child) => KillOnDrop(child),
            Err(JailError::ProgramMissing(_)) => return Err(worker_missing(&self.worker)),
            Err(error) => {
                return Err(Fault::new(Code::BackendFailed, "the worker's self-test can't be started").cause(error));
            }
        };
        let reply = child.stdout.take().map(|out| collect(out, REPLY_BYTES_MAX));
        let words = child.stderr.take().map(|out| collect(out, WORDS_BYTES_MAX));
        let Some(status) = self.await_end(&mut child)? else {
            return Ok(Outcome::Hung { limit_ms: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX) });
        };
        let text = |collected: Option<Receiver<Vec<u8>>>| {
            let bytes = collected.and_then(|receiver| receiver.recv_timeout(self.limit).ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (reply, words) = (text(reply), text(words));
        // Its exit status says whether the products were right; the reply says it in full.
        Ok(match serde_json::from_str::<SelfTest>(reply.trim()) {
            Ok(reply) if status.signal().is_none() => Outcome::Reply(reply),
            Ok(_) | Err(_) => Outcome::Died(describe(status, &words)),
        })
    }

    /// `None` when the time was over first. The child is ended by its owner's drop in any case.
    fn await_end(&self, child: &mut KillOnDrop) -> Result<Option<ExitStatus>, Fault> {
        let end = Instant::now() + self.limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Ok(Some(status)) = child.wait_timeout(left.min(STOP_LOOK)) {
                return Ok(Some(status));
            }
            if self.stopped.load(Ordering::SeqCst) {
                return Err(Fault::new(Code::Cancelled, "the backend's self-test was ended with the engine"));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Ends the tests that run, and lets no other begin.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn recall(&self) -> Remembered {
        let text = fs::read(self.state_dir.join(MEMORY_FILE));
        text.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Lets go of a choice that failed while a model was loaded, with all that is remembered of its files:
    /// the next choice tests them anew.
    pub(crate) fn doubt(&self, failed: &BackendChoice) {
        let mut chosen = locked(&self.chosen);
        if chosen.as_ref() != Some(failed) {
            // Somebody else has doubted it, and it was chosen again or given up.
            return;
        }
        *chosen = None;
        let of_failed = |mark: &FileMark| {
            [&failed.chosen, &failed.cpu].iter().any(|file| file.file_name().is_some_and(|name| *name == *mark.name))
        };
        let mut known = self.recall();
        known.results.retain(|(then, _)| !of_failed(&then.backend));
        self.keep(&known);
    }

    /// Keeps what a product said. What hung, died or was slow may have been the machine's doing (memory
    /// that ran out, other programs): it is tried again next time. So is a GPU's backend, as devices and
    /// drivers come and go, and what found nothing to multiply with.
    fn remember(&self, before: &Remembered, tests: &[Test], choice: &BackendChoice) {
        let lasting = names_of(choice, &[Verdict::Chosen, Verdict::Right, Verdict::Wrong]);
        let lasting = tests.iter().filter(|test| lasting.contains(&test.candidate.file.as_str()) && test.lasts());
        let now =
            Remembered { results: lasting.map(|test| (test.circumstances.clone(), test.outcome.clone())).collect() };
        if now == *before {
            return;
        }
        self.keep(&now);
    }

    fn keep(&self, results: &Remembered) {
        // Without it the tests are run again next time: slower, not wrong.
        if let Err(error) = self.write(results) {
            tracing::warn!(%error, "results of backend tests can't be kept");
        }
    }

    /// Whole or not at all: a crash in the middle leaves the old file.
    fn write(&self, results: &Remembered) -> std::io::Result<()> {
        fs::create_dir_all(&self.state_dir)?;
        let path = self.state_dir.join(MEMORY_FILE);
        let fresh = self.state_dir.join(format!("{MEMORY_FILE}.{}", std::process::id()));
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(results)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    }
}

fn names_of<'a>(choice: &'a BackendChoice, verdicts: &[Verdict]) -> Vec<&'a str> {
    let fit = choice.tried.iter().filter(|tried| verdicts.contains(&tried.verdict));
    fit.map(|tried| tried.file.as_str()).collect()
}

pub(crate) fn worker_missing(worker: &Path) -> Fault {
    Fault::new(Code::WorkerMissing, format!("the worker isn't there: `{}`", worker.display()))
        .hint("`./try` builds it; or name its place with FREEHOLD_WORKER")
}

/// How a process ended, in words that name the signal.
pub(crate) fn describe(status: ExitStatus, words: &str) -> String {
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended by {}", signal_name(signal)),
        (None, Some(code)) => format!("ended with exit status {code}"),
        (None, None) => "ended in an unknown way".to_owned(),
    };
    // Words count when the process chose its end; before a foreign signal they are only chatter.
    let chosen = status.signal().is_none_or(|signal| signal == rustix::process::Signal::ABORT.as_raw());
    match words.trim().lines().next_back() {
        Some(last) if chosen => format!("{how}: {last}"),
        Some(_) | None => how,
    }
}

fn signal_name(number: i32) -> String {
    use rustix::process::Signal;
    let known = [
        (Signal::ILL, "SIGILL, an instruction that this processor doesn't have"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
        (Signal::SYS, "SIGSYS, a system call that its confinement refuses"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TRAP, "SIGTRAP"),
    ];
    let name = known.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| *name);
    name.map_or_else(|| format!("signal {number}"), str::to_owned)
}

fn mark(path: &Path) -> Option<FileMark> {
    let facts = fs::metadata(path).ok()?;
    let modified_ns = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
    let name = path.file_name()?.to_string_lossy().into_owned();
    facts.is_file().then_some(FileMark { name, bytes: facts.len(), modified_ns })
}

/// Reads in a thread of its own, so that a child that fills both pipes can't block.
fn collect(out: impl Read + Send + 'static, bytes_max: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut out = out;
        let mut bytes = Vec::new();
        let _ = (&mut out).take(bytes_max).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
        // The rest is let through: a child must not hang on a full pipe.
        let _ = std::io::copy(&mut out, &mut std::io::sink());
    });
    receiver
}
