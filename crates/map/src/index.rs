//! From a folder to the record: scan, read what changed, commit, embed.
//!
//! The record is written first and in whole steps; derived indexes follow and can be caught up at any
//! later time. A run that is killed or cancelled leaves what it committed, and the next one goes on.

use crate::about::{About, Day, about, title};
use crate::chunk;
use crate::document::{Document, Format, Origin, Unit};
use crate::large::{self, Large};
use crate::map::{Embed, Map, locked};
use crate::place::Spots;
use crate::reader::{Session, Stops, Unread};
use crate::record::{self, Change, FileRow, Hash, Known, PassageRow, READING};
use crate::scope::Scope;
use crate::source::{Encoding, Lines, Run, locate, straight};
use crate::walk::{self, Found, Stamp};
use base::{Bytes, Code, Fault, Millis, Place};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::extract::{self, FILE_BYTES_MAX};

const READERS_MAX: usize = 4;
/// Files in one transaction; also bounded by the words in them.
const STEP_FILES_MAX: usize = 64;
const STEP_TEXT_BYTES_MAX: usize = 8 << 20;
/// A finished file waits at most this long for its transaction.
const STEP_AGE_MAX: Duration = Duration::from_secs(2);
/// Between two looks at whether the run was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(100);
/// A long run makes what it has read searchable this often.
const FOLLOW_EVERY: Duration = Duration::from_secs(15);
/// Reports name at most this many skipped files; the count is always whole.
const SKIPPED_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Scan,
    Read,
    Embed,
    Commit,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Scan => "scan",
            Stage::Read => "read",
            Stage::Embed => "embed",
            Stage::Commit => "commit",
        })
    }
}

/// What an indexing run says while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexStep {
    /// `total` is 0 while it isn't known. `read` counts files, `embed` passages, `commit` files that are safe.
    Progress {
        stage: Stage,
        done: u64,
        total: u64,
        path: Option<PathBuf>,
    },
    Skipped {
        path: PathBuf,
        fault: Fault,
    },
    Notice(String),
}

/// What an indexing run did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Of the whole map.
    pub documents: u64,
    pub passages: u64,
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    /// Same bytes under another path: neither read nor embedded again.
    pub moved: u64,
    pub unchanged: u64,
    /// Vectors made in this run.
    pub embedded: u64,
    /// Files that can't be indexed, with the reason: all of them, also those known from earlier runs.
    pub skipped: Vec<(PathBuf, Fault)>,
    pub skipped_count: u64,
    pub took_ms: Millis,
    /// What the document readers run under; empty when none was needed.
    pub protection: Vec<String>,
    /// Folders that were listed: what a watcher has to watch.
    pub folders: Vec<PathBuf>,
}

/// What [`Map::refresh`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Files that were taken up anew, moved or dropped.
    pub changes: u64,
    /// The record's generation before: what changed after it may lack vectors.
    pub since: u64,
    /// Folders that were listed: new ones have to be watched.
    pub folders: Vec<PathBuf>,
}

/// What became of one file.
pub(crate) enum Outcome {
    /// A step on the way through a large file; more follow.
    Part(Change),
    /// Same bytes at the same path; only the time differs.
    Unchanged(Change),
    Changes {
        change: Change,
        fresh: bool,
        /// What of the file can't be read.
        notes: Vec<String>,
    },
    Moved(Change),
    /// Read, but without text; kept in the record so that it isn't read again.
    Refused {
        change: Change,
        fault: Fault,
    },
    /// Not read: nothing is kept of it, and the next run tries again.
    Skipped(Fault),
    Stopped(Fault),
}

struct Task {
    found: Found,
    known: Option<Known>,
}

/// State of one run, owned by the thread that called `index`.
struct Indexing<'a> {
    map: &'a Map,
    on: &'a mut dyn FnMut(IndexStep),
    report: Report,
    step: Vec<Change>,
    step_bytes: usize,
    step_began: Instant,
    committed: u64,
    total: u64,
    /// When the word index last followed the record.
    followed: Instant,
}

impl Map {
    /// Brings the map in step with one folder: reads what is new or changed, drops what is gone.
    ///
    /// # Errors
    /// As [`Map::sync`], and [`Code::MapEmpty`] when the folder gives no text at all.
    pub fn index(
        &self,
        folder: &Path,
        embed: Option<&dyn Embed>,
        on: &mut dyn FnMut(IndexStep),
        cancel: &AtomicBool,
    ) -> Result<Report, Fault> {
        let root = std::fs::canonicalize(folder).map_err(|error| Fault::io("read", folder, &error))?;
        let scope = Scope::of(vec![root.clone()]).only([root]);
        let report = self.sync(&scope, embed, on, cancel)?;
        if locked(&self.record).holds_documents(&scope)? { Ok(report) } else { Err(nothing_read(&scope, &report)) }
    }

    /// Brings the map in step with a scope: reads what is new or changed, drops what is gone and what lies
    /// in no source any more. Words come first, then the vectors that are missing; without an embedder they
    /// are left to [`Map::embed`].
    ///
    /// # Errors
    /// [`Code::Cancelled`], [`Code::Busy`] when a run is under way, [`Code::ConfinementFailed`] when no
    /// reader can be started, and faults of the disk. What was committed before the error is kept.
    pub fn sync(
        &self,
        scope: &Scope,
        embed: Option<&dyn Embed>,
        on: &mut dyn FnMut(IndexStep),
        cancel: &AtomicBool,
    ) -> Result<Report, Fault> {
        let started = Instant::now();
        let _alone = self.begin()?;
        let (mut run, folders) = self.read_scope(scope, on, cancel)?;
        let seen = run.update_lexical()?;
        if let Some(embed) = embed {
            run.report.embedded = self.embed(embed, 0, run.on, cancel)?;
            self.update_vectors(&embed.model())?;
        }
        let mut record = locked(&self.record);
        record.sweep(seen)?;
        let summary = record.summary()?;
        drop(record);
        let mut report = run.report;
        report.documents = summary.documents;
        report.passages = summary.passages;
        report.folders = folders;
        report.took_ms = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        Ok(report)
    }

    /// Takes up what changed at some paths, words alone: what is saved can be found at once. Costs what
    /// changed, not what the map holds.
    ///
    /// # Errors
    /// As [`Map::sync`].
    pub fn refresh(&self, scope: &Scope, cancel: &AtomicBool) -> Result<Refreshed, Fault> {
        let _alone = self.begin()?;
        let since = locked(&self.record).generation()?;
        let mut ignore = |_| {};
        let (mut run, folders) = self.read_scope(scope, &mut ignore, cancel)?;
        let changes = run.committed;
        if changes > 0 {
            let seen = run.update_lexical()?;
            locked(&self.record).sweep_loose(seen)?;
        }
        Ok(Refreshed { changes, since, folders })
    }

    /// Walks a scope and brings the record in step with it.
    fn read_scope<'a>(
        &'a self,
        scope: &Scope,
        on: &'a mut dyn FnMut(IndexStep),
        cancel: &AtomicBool,
    ) -> Result<(Indexing<'a>, Vec<PathBuf>), Fault> {
        let walked = walk::walk(scope, &self.own_folder(), cancel, &mut |seen| {
            if seen.is_multiple_of(256) {
                on(IndexStep::Progress { stage: Stage::Scan, done: seen, total: 0, path: None });
            }
        });
        if walked.cancelled {
            return Err(cancelled(0, 0));
        }
        let total = walked.files.len() as u64;
        on(IndexStep::Progress { stage: Stage::Scan, done: total, total, path: None });
        notices(&walked).into_iter().for_each(|text| on(IndexStep::Notice(text)));
        let mut known = locked(&self.record).known_in(scope)?;
        // A source that is only away keeps its files.
        known.retain(|path, _| !walked.away.iter().any(|source| path.starts_with(source)));
        let unlisted: Vec<PathBuf> = walked.skipped.iter().map(|(path, _)| path.clone()).collect();
        let mut run = Indexing {
            map: self,
            on,
            report: Report::default(),
            step: Vec::new(),
            step_bytes: 0,
            step_began: Instant::now(),
            committed: 0,
            total,
            followed: Instant::now(),
        };
        for (path, fault) in walked.skipped {
            run.skipped(path, fault);
        }
        run.read(walked.files, known, &unlisted, cancel)?;
        Ok((run, walked.folders))
    }

    /// The folders that a scope's walk lists: what a watcher has to watch.
    pub fn folders(&self, scope: &Scope) -> Vec<PathBuf> {
        walk::walk(scope, &self.own_folder(), &AtomicBool::new(false), &mut |_| {}).folders
    }

    pub(crate) fn own_folder(&self) -> PathBuf {
        std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone())
    }
}

/// What a walk has to say besides its files.
fn notices(walked: &walk::Walked) -> Vec<String> {
    let mut notices = Vec::new();
    if walked.secrets > 0 {
        let files = if walked.secrets == 1 { "file was" } else { "files were" };
        notices.push(format!("{} {files} left out because the name says keys or secrets", walked.secrets));
    }
    notices.extend(left_out(&walked.left_out));
    notices.extend(
        walked.away.iter().map(|source| {
            format!("`{}` isn't there now, so what was read from it is kept as it was", source.display())
        }),
    );
    notices
}

/// A sentence about folders that nobody may expect to be left out.
fn left_out(folders: &[PathBuf]) -> Option<String> {
    const NAMED_MAX: usize = 3;
    let named: Vec<String> = folders.iter().take(NAMED_MAX).map(|folder| format!("`{}`", folder.display())).collect();
    let more = match folders.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        let were = count(folders.len() as u64, "folder was", "folders were");
        let what = "because a file in it says that it is a cache (CACHEDIR.TAG) or one of this program's maps";
        format!("{were} left out, {what}: {}{more}", named.join(", "))
    })
}

/// The fault of a run that found no text at all.
pub fn nothing_read(scope: &Scope, report: &Report) -> Fault {
    let sources: Vec<String> = scope.sources.iter().map(|source| source.display().to_string()).collect();
    let root = sources.join("`, `");
    let fault = match report.skipped.first() {
        None => Fault::new(Code::MapEmpty, format!("`{root}` holds no files that can be indexed"))
            .hint("choose a folder with documents; hidden files and those named in .gitignore are left out"),
        Some((path, why)) => {
            Fault::new(Code::MapEmpty, format!("none of the {} files in `{root}` can be indexed", report.skipped_count))
                .cause(format!("`{}`: {}", path.display(), why.message))
        }
    };
    fault.hint(
        "text, Markdown, HTML, PDF, office documents (DOCX, PPTX, XLSX, ODT, ODP, ODS), EPUB, e-mail, calendars, source \
         code, CSV, JSON, YAML and TOML are read, and pictures (PNG, JPEG, TIFF, WebP, BMP) and scans where tesseract is installed",
    )
}

fn cancelled(done: u64, total: u64) -> Fault {
    Fault::new(Code::Cancelled, format!("indexing was stopped after {done} of {total} files"))
        .hint("what was read is kept; index again to go on")
}

impl Indexing<'_> {
    fn skipped(&mut self, path: PathBuf, fault: Fault) {
        (self.on)(IndexStep::Skipped { path: path.clone(), fault: fault.clone() });
        self.report.skipped_count += 1;
        if self.report.skipped.len() < SKIPPED_MAX {
            self.report.skipped.push((path, fault));
        }
    }

    /// Reads what changed on several threads; commits in this one.
    fn read(
        &mut self,
        files: Vec<Found>,
        mut known: HashMap<PathBuf, Known>,
        unlisted: &[PathBuf],
        cancel: &AtomicBool,
    ) -> Result<(), Fault> {
        let mut tasks = Vec::new();
        let mut done = 0;
        let recogniser = &self.map.reader.recogniser;
        let ready = OnceCell::new();
        for found in files {
            let mut was = known.remove(&found.path);
            // What waited for tesseract is read as soon as that is there.
            if let Some(known) = was.as_mut().filter(|known| known.waits_for_recognition())
                && *ready.get_or_init(|| recogniser.examine().is_ok())
            {
                known.reading = record::UNREAD;
            }
            match was {
                Some(known) if known.stamp == found.stamp && known.reading == READING => {
                    done += 1;
                    match known.fault {
                        Some(fault) => self.skipped(found.path, fault),
                        None => self.report.unchanged += 1,
                    }
                }
                known => tasks.push(Task { found, known }),
            }
        }
        // Words on pictures take seconds each: everything else comes before them.
        tasks.sort_by_key(|task| extract::is_picture(&task.found.path.to_string_lossy()));
        (self.on)(IndexStep::Progress { stage: Stage::Read, done, total: self.total, path: None });
        // What is left under this root wasn't found again. A folder that couldn't be listed keeps its files.
        known.retain(|path, _| !unlisted.iter().any(|folder| path.starts_with(folder) && path != folder));
        let mut orphans: HashMap<Hash, Vec<(PathBuf, Known)>> = HashMap::new();
        for (path, known) in known {
            orphans.entry(known.hash).or_default().push((path, known));
        }
        let orphans = Mutex::new(orphans);
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).clamp(1, READERS_MAX).min(tasks.len());
        let (next, tasks) = (AtomicUsize::new(0), tasks);
        let (stop, stops, today) = (AtomicBool::new(false), Stops::default(), today());
        let protection = Mutex::new(Vec::new());
        std::thread::scope(|scope| -> Result<(), Fault> {
            let (sender, receiver) = sync_channel(threads * 2);
            for _ in 0..threads {
                let (sender, work) = (sender.clone(), Work { tasks: &tasks, next: &next, orphans: &orphans, today });
                let (stop, stops, protection, reader) = (&stop, &stops, &protection, &self.map.reader);
                scope.spawn(move || {
                    let mut session = reader.session(stops);
                    let mut send = |at, outcome| !cancel.load(Ordering::Relaxed) && sender.send((at, outcome)).is_ok();
                    while !stop.load(Ordering::Relaxed) && !cancel.load(Ordering::Relaxed) {
                        let Some((at, outcome)) = work.next(&mut session, &mut send) else { break };
                        // When the run is cancelled, its reader may have been ended in the middle of it.
                        if !send(at, outcome) {
                            break;
                        }
                    }
                    if !session.protection.is_empty() {
                        *locked(protection) = session.protection;
                    }
                });
            }
            drop(sender);
            let result = self.collect(&receiver, &tasks, done, cancel, &stops);
            stop.store(true, Ordering::Relaxed);
            stops.stop();
            // A thread that waits to send is let go.
            drop(receiver);
            result
        })?;
        self.report.protection = protection.into_inner().unwrap_or_default();
        for (_, known) in locked(&orphans).drain().flat_map(|(_, rows)| rows) {
            self.report.removed += 1;
            self.step.extend(known.ids().map(|id| Change::Remove { id }));
        }
        self.commit()
    }

    fn collect(
        &mut self,
        receiver: &Receiver<(usize, Outcome)>,
        tasks: &[Task],
        mut done: u64,
        cancel: &AtomicBool,
        stops: &Stops,
    ) -> Result<(), Fault> {
        loop {
            let (at, outcome) = match receiver.recv_timeout(CANCEL_CHECK) {
                Ok(next) => next,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if cancel.load(Ordering::Relaxed) {
                        stops.stop();
                    }
                    // A picture may take long; what was read before it doesn't wait.
                    if !self.step.is_empty() && self.step_began.elapsed() >= STEP_AGE_MAX {
                        self.commit()?;
                    }
                    continue;
                }
            };
            let task = &tasks[at];
            let path = &task.found.path;
            done += u64::from(!matches!(outcome, Outcome::Part(_)));
            match outcome {
                Outcome::Part(change) => self.push(change),
                Outcome::Unchanged(change) => {
                    self.report.unchanged += 1;
                    self.push(change);
                }
                Outcome::Changes { change, fresh, notes } => {
                    for note in notes {
                        (self.on)(IndexStep::Notice(format!("`{}`: {note}", path.display())));
                    }
                    if fresh {
                        self.report.added += 1
                    } else {
                        self.report.changed += 1
                    }
                    self.push(change);
                }
                Outcome::Moved(change) => {
                    self.report.moved += 1;
                    self.push(change);
                }
                Outcome::Refused { change, fault } => {
                    self.skipped(path.clone(), fault);
                    self.push(change);
                }
                Outcome::Skipped(fault) => {
                    if let Some(known) = &task.known {
                        self.report.removed += u64::from(known.fault.is_none());
                        self.push(Change::Remove { id: known.id });
                    }
                    self.skipped(path.clone(), fault);
                }
                Outcome::Stopped(fault) => {
                    self.commit()?;
                    return Err(fault);
                }
            }
            (self.on)(IndexStep::Progress { stage: Stage::Read, done, total: self.total, path: Some(path.clone()) });
            let full = self.step.len() >= STEP_FILES_MAX || self.step_bytes >= STEP_TEXT_BYTES_MAX;
            if full || (!self.step.is_empty() && self.step_began.elapsed() >= STEP_AGE_MAX) {
                self.commit()?;
            }
        }
        self.commit()?;
        if cancel.load(Ordering::Relaxed) {
            // What was committed can be found at once, although the run wasn't finished.
            self.update_lexical()?;
            return Err(cancelled(done, self.total));
        }
        Ok(())
    }

    fn push(&mut self, change: Change) {
        if self.step.is_empty() {
            self.step_began = Instant::now();
        }
        if let Change::Put(_, passages) = &change {
            self.step_bytes += passages.iter().map(|passage| passage.text.len()).sum::<usize>();
        }
        self.step.push(change);
    }

    fn commit(&mut self) -> Result<(), Fault> {
        if self.step.is_empty() {
            return Ok(());
        }
        locked(&self.map.record).apply(&self.step)?;
        self.committed += self.step.len() as u64;
        self.step.clear();
        self.step_bytes = 0;
        (self.on)(IndexStep::Progress { stage: Stage::Commit, done: self.committed, total: 0, path: None });
        if self.followed.elapsed() >= FOLLOW_EVERY {
            self.update_lexical()?;
        }
        Ok(())
    }

    fn update_lexical(&mut self) -> Result<u64, Fault> {
        let mut notices = Vec::new();
        let seen = self.map.update_lexical(&mut notices);
        for notice in notices {
            (self.on)(IndexStep::Notice(notice));
        }
        self.followed = Instant::now();
        seen
    }
}

pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A title for a document that has none: its file's name without the ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

#[derive(Clone, Copy)]
struct Work<'a> {
    tasks: &'a [Task],
    next: &'a AtomicUsize,
    orphans: &'a Mutex<HashMap<Hash, Vec<(PathBuf, Known)>>>,
    /// No document can have been written later.
    today: Day,
}

impl Work<'_> {
    /// Reads the next file. Of a large one `send` hands over the steps before the last.
    fn next(
        &self,
        session: &mut Session<'_>,
        send: &mut dyn FnMut(usize, Outcome) -> bool,
    ) -> Option<(usize, Outcome)> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let task = self.tasks.get(at)?;
        let mut send = |outcome| send(at, outcome);
        let outcome = match Large::open(&task.found) {
            Ok(Some(large)) => {
                let outcome = large::read(large, &task.found, task.known.as_ref(), self.today, session, &mut send);
                if matches!(outcome, Outcome::Changes { .. } | Outcome::Stopped(_)) {
                    return Some((at, outcome));
                }
                outcome
            }
            Ok(None) => self.read(task, session),
            Err(fault) => Outcome::Skipped(fault),
        };
        // What was read in parts before isn't any more.
        for part in task.known.iter().flat_map(|known| &known.parts) {
            send(Outcome::Part(Change::Remove { id: part.id }));
        }
        Some((at, outcome))
    }

    fn read(&self, task: &Task, session: &mut Session<'_>) -> Outcome {
        let Found { path, stamp } = &task.found;
        let bytes = match read_file(path, *stamp) {
            Ok(bytes) => bytes,
            Err(fault) => return Outcome::Skipped(fault),
        };
        let hash = *blake3::hash(&bytes).as_bytes();
        if let Some(known) = &task.known
            && known.hash == hash
            && known.reading == READING
        {
            let change = Change::Touch { id: known.id, stamp: *stamp };
            return match &known.fault {
                Some(fault) => Outcome::Refused { change, fault: fault.clone() },
                None => Outcome::Unchanged(change),
            };
        }
        if let (None, Some(id)) = (&task.known, self.moved_from(&hash, path)) {
            return Outcome::Moved(Change::Move { id, path: path.clone(), stamp: *stamp });
        }
        if walk::is_private_key(&bytes) {
            return Outcome::Skipped(
                Fault::new(Code::DocumentInvalid, "it is a private key").hint("keys and secrets are never indexed"),
            );
        }
        let row = |format, title, encoding, fault, about| FileRow {
            path: path.clone(),
            part: None,
            unfinished: false,
            stamp: *stamp,
            hash,
            format,
            title,
            encoding,
            fault,
            about: Box::new(about),
        };
        match session.read(&path.to_string_lossy(), &bytes) {
            Ok(mut document) => {
                document.title = document.title.as_deref().and_then(title);
                let (encoding, passages) = passages(&document, &bytes);
                let about = about(&document, self.today);
                let notes = document.told();
                let file = row(document.format, document.title, encoding, None, about);
                Outcome::Changes { change: Change::Put(file, passages), fresh: task.known.is_none(), notes }
            }
            Err(Unread::Skipped(fault)) => {
                let file = row(Format::Text, None, Encoding::Utf8, Some(fault.clone()), About::default());
                Outcome::Refused { change: Change::Put(file, Vec::new()), fault }
            }
            Err(Unread::Lost(fault)) => Outcome::Skipped(fault),
            Err(Unread::Stopped(fault)) => Outcome::Stopped(fault),
        }
    }

    /// A file of the same bytes and the same kind of name that isn't at its old path any more.
    fn moved_from(&self, hash: &Hash, path: &Path) -> Option<i64> {
        let mut orphans = locked(self.orphans);
        let rows = orphans.get_mut(hash)?;
        let at = rows.iter().position(|(old, known)| {
            old.extension() == path.extension() && known.reading == READING && known.fault.is_none()
        })?;
        Some(rows.swap_remove(at).1.id)
    }
}

/// The day by the clock of this machine, in UTC.
fn today() -> Day {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Day::of_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn read_file(path: &Path, stamp: Stamp) -> Result<Vec<u8>, Fault> {
    let too_large = |bytes: u64| {
        Fault::new(
            Code::DocumentInvalid,
            format!("it is {}; files up to {} are indexed", Bytes(bytes), Bytes(FILE_BYTES_MAX as u64)),
        )
        .hint("split it, for example with `split -C 60m FILE PART-`, and index the parts")
    };
    if stamp.bytes > FILE_BYTES_MAX as u64 {
        return Err(too_large(stamp.bytes));
    }
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::new(Code::FileMissing, "it vanished while the folder was being indexed")
            .hint("index again if it is back"),
        _ => Fault::new(Code::FileUnreadable, "it can't be read").cause(error).hint("check who owns it, with `ls -l`"),
    };
    let file = File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(Fault::new(Code::FileUnreadable, "it is no ordinary file").hint("nothing needs to be done"));
    }
    let mut bytes = Vec::with_capacity(stamp.bytes as usize);
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Cuts a document into rows of the record, each with its place in the file.
pub(crate) fn passages(document: &Document, bytes: &[u8]) -> (Encoding, Vec<PassageRow>) {
    let encoding = match &document.origin {
        Origin::Source { encoding, .. } => *encoding,
        Origin::Parts => Encoding::Utf8,
    };
    let lines = Lines::new(bytes, encoding);
    let rows = chunk::chunk(document).into_iter().filter_map(|passage| {
        let text = &document.text[passage.span.clone()];
        let (first, last) = passage.parts;
        let spots = Spots::within(&document.names, &document.spots, &passage.span, document.format.has_cells());
        let whole = 0..text.len();
        let (place, runs) = match &document.origin {
            Origin::Source { runs, .. } => {
                let place = locate(&document.text, runs, encoding, passage.span.clone())?;
                let runs = runs_within(&document.text, runs, encoding, &passage.span, place.start);
                let (first, last) = lines.of(&place);
                let (byte_start, byte_end) = (place.start.into(), place.end.into());
                let lines = Place::Lines { first, last, byte_start, byte_end };
                (spots.cells(&whole, Some((byte_start, byte_end))).unwrap_or(lines), runs)
            }
            Origin::Parts => {
                let place = match document.format.unit()? {
                    Unit::Page => spots.pages(&whole).unwrap_or(Place::Page { first, last, boxes: Vec::new() }),
                    Unit::Paragraph => Place::Paragraph { first, last },
                    Unit::Slide => Place::Slide { first, last },
                    Unit::Chapter => Place::Chapter { first, last },
                    Unit::Cells => spots.cells(&whole, None)?,
                };
                (place, Vec::new())
            }
        };
        let key = record::key(document.title.as_deref(), &passage, text);
        Some(PassageRow { text: text.to_owned(), heading: passage.heading.join(" > "), place, runs, spots, key })
    });
    (encoding, rows.collect())
}

/// The runs that a span touches, cut to it, relative to its start and to the byte `source_start`.
fn runs_within(text: &str, runs: &[Run], encoding: Encoding, span: &Range<usize>, source_start: u32) -> Vec<Run> {
    let first = runs.partition_point(|run| (run.text + run.text_len) as usize <= span.start);
    let touched = runs[first..].iter().take_while(|run| (run.text as usize) < span.end);
    touched
        .map(|run| {
            let (start, end) =
                ((run.text as usize).max(span.start), ((run.text + run.text_len) as usize).min(span.end));
            let (mut source, mut source_len) = (run.source, run.source_len);
            if straight(text, run, encoding) {
                source += encoding.width_of(&text[run.text as usize..start]) as u32;
                source_len = encoding.width_of(&text[start..end]) as u32;
            }
            Run {
                text: (start - span.start) as u32,
                text_len: (end - start) as u32,
                source: source.saturating_sub(source_start),
                source_len,
            }
        })
        .collect()
}
