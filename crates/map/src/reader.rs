//! The parent's side of the reader child: starts it, hands it documents, bounds it, survives it.
//!
//! One child reads many documents, because starting a process costs more than reading most of them.
//! A child that ends badly costs only the document that it was reading: one that had read others
//! before is replaced and the document tried once more, so that no document pays for another.

use crate::document::Document;
use crate::extract::{self, Reply, Scanned, Why};
use crate::recognise::{self, Ready, Recogniser};
use base::{Bytes, Code, Fault, Millis};
use jail::{Child, Command, Io, KillOnDrop, Limits, Protection};
use std::cell::OnceCell;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How to start a reader child: `PROGRAM __extract`, with these bounds.
#[derive(Debug, Clone)]
pub struct Reader {
    pub program: PathBuf,
    pub limits: ReaderLimits,
    /// What recognises the words on pictures and scans.
    pub recogniser: Recogniser,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderLimits {
    /// Address space of the child.
    pub memory_bytes: u64,
    /// Processor time of one child over all its documents.
    pub cpu_seconds: u64,
    /// Wall time for one document.
    pub document_ms: u64,
    /// Documents after which a child is replaced by a fresh one.
    pub documents_max: u32,
}

impl Default for ReaderLimits {
    fn default() -> Self {
        Self { memory_bytes: 1 << 30, cpu_seconds: 300, document_ms: 60_000, documents_max: 256 }
    }
}

impl Reader {
    /// `program` is this very program; it answers to the hidden command `__extract`.
    pub fn new(program: PathBuf) -> Self {
        Self { program, limits: ReaderLimits::default(), recogniser: Recogniser::default() }
    }

    /// Starts a reader, and says what it runs under.
    ///
    /// # Errors
    /// [`Code::ConfinementFailed`] when it doesn't start or can't be confined.
    pub fn protection(&self) -> Result<Protection, Fault> {
        Running::start(self, &Stops::default()).map(|(_, protection)| protection)
    }

    /// `stops` reaches its children, whatever they are doing.
    pub(crate) fn session<'a>(&'a self, stops: &'a Stops) -> Session<'a> {
        Session { reader: self, stops, running: None, ready: OnceCell::new(), protection: Vec::new() }
    }
}

/// Why a document wasn't read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// This document can't be read; others can.
    Skipped(Fault),
    /// Its reader died, hung or lied. That needn't be the document's fault, so it is worth another try later.
    Lost(Fault),
    /// No document can be read: the child doesn't start or can't be confined.
    Stopped(Fault),
}

/// One child at a time, replaced as needed.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    reader: &'a Reader,
    stops: &'a Stops,
    running: Option<Running>,
    /// Found out when the first picture comes.
    ready: OnceCell<Result<Ready, Fault>>,
    /// What the last child said that it runs under.
    pub(crate) protection: Vec<String>,
}

impl Session<'_> {
    /// Has the child parse one document, and checks what it says.
    pub(crate) fn read(&mut self, name: &str, bytes: &[u8]) -> Result<Document, Unread> {
        loop {
            let running = match &mut self.running {
                Some(running) => running,
                none => {
                    let (running, protection) = Running::start(self.reader, self.stops).map_err(Unread::Stopped)?;
                    self.protection = protection.lines();
                    none.insert(running)
                }
            };
            let served_before = running.served;
            let reply = running.exchange(name, bytes, self.reader.limits.document_ms);
            if running.served >= self.reader.limits.documents_max {
                self.running = None;
            }
            let impossible = |wrong: &str| format!("its reader gave an impossible answer: {wrong}");
            let lost = match reply {
                Ok(Reply::Document(document)) => match checked(&document, name, bytes) {
                    Ok(()) => return Ok(*document),
                    Err(wrong) => impossible(wrong),
                },
                Ok(Reply::Refused(refused)) => return Err(Unread::Skipped(fault(refused))),
                Ok(Reply::Scanned(scanned)) => {
                    match checked(&scanned.document, name, bytes).and_then(|()| scanned.check(bytes.len())) {
                        Ok(()) => return self.recognised(*scanned, bytes),
                        Err(wrong) => impossible(wrong),
                    }
                }
                Ok(Reply::Ready(_) | Reply::Unconfined(_)) => impossible("it speaks of itself"),
                Err(_) => {
                    let end = self.running.take().map(|running| running.end(&self.reader.limits));
                    end.unwrap_or_else(|| "its reader ended without a word".into())
                }
            };
            // A child that says impossible things isn't asked again.
            self.running = None;
            // Another document that it read before may have made it so.
            if served_before == 0 || self.stops.stopped() {
                return Err(Unread::Lost(Fault::new(Code::DocumentInvalid, lost).hint(
                    "the rest of the folder is indexed; this file is tried again when the folder is indexed again",
                )));
            }
        }
    }
}

impl Session<'_> {
    /// Has what has no text recognised. A document with pages of text is read without it too.
    fn recognised(&self, scanned: Scanned, bytes: &[u8]) -> Result<Document, Unread> {
        let recogniser = &self.reader.recogniser;
        match self.ready.get_or_init(|| recogniser.ready(self.stops)) {
            Ok(ready) => recognise::read(recogniser, ready, scanned, bytes, self.stops),
            Err(missing) if scanned.document.blocks.is_empty() => Err(match missing.code {
                Code::RecogniserMissing => Unread::Skipped(missing.clone()),
                _ => Unread::Lost(missing.clone()),
            }),
            Err(missing) => Ok(recognise::unrecognised(scanned, missing)),
        }
    }
}

/// Ends the children of all sessions of a run at once.
#[derive(Debug, Default)]
pub(crate) struct Stops(Mutex<(bool, Vec<Weak<Watch>>)>);

impl Stops {
    fn state(&self) -> MutexGuard<'_, (bool, Vec<Weak<Watch>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, watch: &Arc<Watch>) {
        let mut state = self.state();
        state.1.retain(|watch| watch.strong_count() > 0);
        state.1.push(Arc::downgrade(watch));
        if state.0 {
            watch.end();
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.state().0
    }

    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.0 = true;
        state.1.iter().filter_map(Weak::upgrade).for_each(|watch| watch.end());
    }
}

/// Whether an answer is possible at all. What a file is, is found out here too: the format decides how its
/// citations are checked.
fn checked(document: &Document, name: &str, bytes: &[u8]) -> Result<(), &'static str> {
    if extract::kind(name, bytes).format() != Some(document.format) {
        return Err("the file has another format");
    }
    document.check(bytes.len())
}

fn fault(refused: extract::Refused) -> Fault {
    let hint = match refused.why {
        Why::Broken => "open it in the program that made it and save it again",
        Why::Empty => "nothing needs to be done",
        Why::NoText => "if it is a scan, run text recognition over it first (`ocrmypdf IN.pdf OUT.pdf`)",
        Why::NotText => "export it as text, Markdown, HTML, PDF, DOCX or XLSX",
        Why::TooLarge => "split it into smaller files",
    };
    Fault::new(Code::DocumentInvalid, refused.message).hint(hint)
}

#[derive(Debug)]
struct Running {
    watch: Arc<Watch>,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    served: u32,
}

impl Running {
    fn start(reader: &Reader, stops: &Stops) -> Result<(Self, Protection), Fault> {
        let failed = |cause: String| {
            Fault::new(
                Code::ConfinementFailed,
                format!("the document reader `{} __extract` doesn't start", reader.program.display()),
            )
            .cause(cause)
            .hint("run `freehold doctor`: it says what confinement this system allows")
        };
        let limits = Limits {
            memory_bytes: Some(reader.limits.memory_bytes),
            cpu_seconds: Some(reader.limits.cpu_seconds),
            files_max: Some(16),
            file_bytes_max: Some(0),
        };
        let mut child = Command::new(&reader.program)
            .arg("__extract")
            .stdin(Io::Pipe)
            .stdout(Io::Pipe)
            .limits(limits)
            .die_with_parent()
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".into()));
        };
        let watch = Watch::over(child).map_err(|error| failed(error.to_string()))?;
        stops.add(&watch);
        let mut running = Self { watch, input: BufWriter::new(input), output: BufReader::new(output), served: 0 };
        running.watch.set(Some(Duration::from_millis(reader.limits.document_ms)));
        let ready = extract::reply(&mut running.output);
        running.watch.set(None);
        match ready {
            Ok(Reply::Ready(protection)) => Ok((running, protection)),
            Ok(Reply::Unconfined(reason)) => Err(failed(reason)),
            Ok(_) => Err(failed("it isn't Freehold's document reader".into())),
            Err(_) => Err(failed(running.end(&reader.limits))),
        }
    }

    fn exchange(&mut self, name: &str, bytes: &[u8], document_ms: u64) -> io::Result<Reply> {
        self.watch.set(Some(Duration::from_millis(document_ms)));
        let reply = extract::request(&mut self.input, name, bytes).and_then(|()| extract::reply(&mut self.output));
        self.watch.set(None);
        self.served += 1;
        reply
    }

    /// Ends a child that failed and says how it ended.
    fn end(self, limits: &ReaderLimits) -> String {
        let over = self.watch.state().over;
        let status = {
            let mut child = self.watch.child();
            // It has closed its output or broken the protocol: either way it is of no more use.
            if child.wait_timeout(Duration::from_millis(200)).ok().flatten().is_none() && child.kill().is_err() {
                return "its reader can't be ended".into();
            }
            child.wait()
        };
        if over {
            return format!("reading it took longer than {} and was stopped", Millis(limits.document_ms));
        }
        match status {
            Ok(status) if signal(status) == Some(libc_signal::CPU) => {
                format!("reading it took more than {} s of processor time and was stopped", limits.cpu_seconds)
            }
            Ok(status) => {
                format!("its reader died ({status}); it may be broken or need more than {}", Bytes(limits.memory_bytes))
            }
            Err(error) => format!("its reader was lost: {error}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.close();
    }
}

#[cfg(unix)]
pub(crate) fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
pub(crate) fn signal(_: ExitStatus) -> Option<i32> {
    None
}

pub(crate) mod libc_signal {
    /// SIGXCPU on Linux and macOS.
    pub(crate) const CPU: i32 = 24;
}

/// Kills a child that overstays. One sleeping thread for each child; it wakes only at a deadline.
#[derive(Debug)]
pub(crate) struct Watch {
    child: Mutex<KillOnDrop>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    deadline: Option<Instant>,
    over: bool,
    closed: bool,
}

impl Watch {
    /// Watches over a child from now on, until it is closed.
    pub(crate) fn over(child: Child) -> io::Result<Arc<Self>> {
        let watch = Arc::new(Watch {
            child: Mutex::new(KillOnDrop(child)),
            state: Mutex::new(State { deadline: None, over: false, closed: false }),
            changed: Condvar::new(),
        });
        let watcher = Arc::clone(&watch);
        std::thread::Builder::new().name("reader-watch".into()).spawn(move || watcher.run())?;
        Ok(watch)
    }

    /// Lets its thread end.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Whether it took longer than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Waits for the end of a child that has closed its output. The deadline still holds meanwhile.
    pub(crate) fn ended(&self) -> io::Result<ExitStatus> {
        loop {
            // Not for long at a time: whoever ends the child needs it.
            if let Some(status) = self.child().wait_timeout(Duration::from_millis(50))? {
                return Ok(status);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self) -> impl std::ops::DerefMut<Target = KillOnDrop> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, within: Option<Duration>) {
        self.state().deadline = within.map(|within| Instant::now() + within);
        self.changed.notify_all();
    }

    /// Whoever waits for the child sees its pipe close.
    fn end(&self) {
        let _ = self.child().kill();
    }

    fn run(&self) {
        let mut state = self.state();
        while !state.closed {
            let left = state.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    (state.over, state.deadline) = (true, None);
                    // What the reading thread then says comes from `over`.
                    self.end();
                    state
                }
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
