//! The ledger's bytes on disk: appended, synced, readable by their owner alone.

use super::entry::{Close, Entry, Line, Open, Reading, Totals, rfc3339};
use crate::consent::Pass;
use base::Fault;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A ledger of this size is put aside at the next start, so that opening stays quick.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What is said about one crossing stays a line.
const TEXT_CHARS_MAX: usize = 300;

#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    last_id: u64,
    totals: Totals,
    /// Half a line may stand at the file's end: the next one begins on a line of its own.
    torn: bool,
}

/// A file that only grows, and whose last line can be taken back.
trait Tail {
    fn length(&self) -> io::Result<u64>;
    /// Returns once `text` is on disk.
    fn put(&mut self, text: &[u8]) -> io::Result<()>;
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
}

impl Tail for File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|about| about.len())
    }

    fn put(&mut self, text: &[u8]) -> io::Result<()> {
        self.write_all(text)?;
        self.sync_data()
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.sync_data()
    }
}

impl Ledger {
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
            .map_err(|error| Fault::io("create", dir, &error))?;
        let path = dir.join("ledger.jsonl");
        let mut file = open_file(&path)?;
        let mut reading = read(&mut file, &path)?;
        if reading.damaged_lines > 0 {
            tracing::warn!(lines = reading.damaged_lines, path = %path.display(), "ledger lines can't be read");
        }
        if file.metadata().map_err(|error| Fault::io("read", &path, &error))?.len() > FILE_BYTES_MAX {
            file = put_aside(dir, &path, &reading)?;
            reading.entries.clear();
        }
        let Reading { last_id, totals, .. } = reading;
        Ok(Self { path, state: Mutex::new(State { file, last_id, totals, torn: false }) })
    }

    /// INVARIANT: returns only once the line is on disk. Nothing may leave before.
    pub(crate) fn begin(&self, pass: &Pass, to: &str, what: &str, by: &str) -> Result<u64, Fault> {
        let mut state = self.lock();
        let id = state.last_id + 1;
        let open = Open {
            id,
            at: now(),
            purpose: pass.purpose(),
            to: line_of(to),
            what: line_of(what),
            given_by: line_of(&pass.given_by().to_string()),
            by: line_of(by),
        };
        self.append(&mut state, &Line::Open(open))?;
        state.last_id = id;
        state.totals.crossings += 1;
        Ok(id)
    }

    /// Ends a crossing. When the line can't be written the crossing stays open on disk, which is true enough.
    pub(crate) fn end(&self, id: u64, sent: Option<u64>, received: u64, outcome: &str) {
        let mut state = self.lock();
        let close = Close { id, at: now(), sent, received, outcome: line_of(outcome) };
        state.totals.add(&close);
        if let Err(fault) = self.append(&mut state, &Line::Close(close)) {
            tracing::warn!(%fault, id, "a ledger entry couldn't be closed");
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    pub(crate) fn entries_since(&self, after: u64) -> Result<Vec<Entry>, Fault> {
        let _state = self.lock();
        let mut file = open_file(&self.path)?;
        let mut entries = read(&mut file, &self.path)?.entries;
        entries.retain(|entry| entry.open.id > after);
        Ok(entries)
    }

    fn append(&self, state: &mut State, line: &Line) -> Result<(), Fault> {
        append(&mut state.file, line, &mut state.torn).map_err(|error| Fault::io("write", &self.path, &error))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole lines behind: the state stays good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_file(path: &Path) -> Result<File, Fault> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Fault::io("write", path, &error))
}

/// Reads the whole file and ends a torn last line, so that the next one stands alone.
fn read(file: &mut File, path: &Path) -> Result<Reading, Fault> {
    let fault = |error: std::io::Error| Fault::io("read", path, &error);
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(fault)?;
    if text.last().is_some_and(|byte| *byte != b'\n') {
        file.write_all(b"\n").and_then(|()| file.sync_data()).map_err(fault)?;
    }
    Ok(Reading::of(&text))
}

/// Renames the full file to the next free number and starts a new one that carries the sums.
fn put_aside(dir: &Path, path: &Path, reading: &Reading) -> Result<File, Fault> {
    let aside = (1u32..)
        .map(|n| dir.join(format!("ledger-{n:04}.jsonl")))
        .find(|aside| !aside.exists())
        .expect("fewer than four thousand million old ledgers");
    let fault = |error: std::io::Error| Fault::io("write", path, &error);
    // The new file is whole before it takes the name: a kill between leaves one good ledger.
    let fresh = dir.join("ledger.new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = open_file(&fresh)?;
    append(&mut file, &Line::Carry { last_id: reading.last_id, totals: reading.totals }, &mut false).map_err(fault)?;
    std::fs::hard_link(path, &aside).map_err(fault)?;
    std::fs::rename(&fresh, path).map_err(fault)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault)?;
    Ok(file)
}

/// Appends a line, whole or not at all. Where even taking half of it back fails, `torn` says so to the
/// next one.
fn append(file: &mut impl Tail, line: &Line, torn: &mut bool) -> io::Result<()> {
    let mut text = if *torn { vec![b'\n'] } else { Vec::new() };
    serde_json::to_writer(&mut text, line).map_err(io::Error::other)?;
    text.push(b'\n');
    let before = file.length()?;
    match file.put(&text) {
        Ok(()) => {
            *torn = false;
            Ok(())
        }
        Err(error) => {
            // What was torn before stays so: the cut goes back to where this line began.
            *torn |= file.cut(before).is_err();
            Err(error)
        }
    }
}

fn line_of(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

fn now() -> String {
    rfc3339(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{GivenBy, Purpose, judge};
    use crate::policy::Policy;

    fn pass() -> Pass {
        let given_by = GivenBy::Command("freehold pull\nstarter".into());
        judge(&Policy::default(), Purpose::ModelDownload, "https://a.example", given_by).unwrap()
    }

    #[test]
    fn an_entry_is_on_disk_before_begin_returns_and_private() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("ledger");
        let ledger = Ledger::open(&dir).unwrap();
        let id = ledger.begin(&pass(), "https://a.example", "GET /x", "https").unwrap();
        let text = std::fs::read_to_string(dir.join("ledger.jsonl")).unwrap();
        assert!(text.contains("\"entry\":\"open\"") && text.contains("GET /x") && text.ends_with('\n'), "{text}");
        assert!(text.contains("freehold pullstarter"), "a control character would break the line: {text}");
        ledger.end(id, Some(3), 4, "done");
        assert_eq!(ledger.totals().bytes_sent, 3);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("ledger.jsonl")), 0o600);
    }

    #[test]
    fn a_torn_last_line_is_left_alone_and_the_next_one_stands() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let id = ledger.begin(&pass(), "https://a.example", "GET /x", "https").unwrap();
        ledger.end(id, Some(3), 4, "done");
        drop(ledger);
        let path = home.path().join("ledger.jsonl");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"entry\":\"op").unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let id = ledger.begin(&pass(), "https://b.example", "GET /y", "https").unwrap();
        assert_eq!(id, 2);
        drop(ledger);
        let ledger = Ledger::open(home.path()).unwrap();
        assert_eq!(ledger.totals(), Totals { bytes_sent: 3, bytes_received: 4, crossings: 2, uncounted: 1 });
        assert_eq!(ledger.entries_since(1).unwrap()[0].open.to, "https://b.example");
    }

    #[test]
    fn a_full_file_is_put_aside_with_its_sums() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        let id = ledger.begin(&pass(), "https://a.example", "GET /x", "https").unwrap();
        ledger.end(id, Some(3), 4, "done");
        let before = ledger.totals();
        drop(ledger);
        let path = home.path().join("ledger.jsonl");
        let filler = vec![b'\n'; FILE_BYTES_MAX as usize];
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&filler).unwrap();
        let ledger = Ledger::open(home.path()).unwrap();
        assert!(home.path().join("ledger-0001.jsonl").exists());
        assert_eq!(ledger.totals(), before);
        assert_eq!(ledger.begin(&pass(), "https://a.example", "GET /x", "https").unwrap(), 2);
        drop(ledger);
        assert_eq!(Ledger::open(home.path()).unwrap().totals().bytes_received, 4);
    }

    /// A disk with so much room left.
    struct Narrow {
        file: File,
        room: usize,
        cuts: bool,
    }

    impl Tail for Narrow {
        fn length(&self) -> io::Result<u64> {
            self.file.length()
        }

        fn put(&mut self, text: &[u8]) -> io::Result<()> {
            let fits = text.len().min(self.room);
            self.room -= fits;
            self.file.write_all(&text[..fits])?;
            if fits == text.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn cut(&mut self, bytes: u64) -> io::Result<()> {
            if self.cuts { self.file.cut(bytes) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }

    #[test]
    fn half_a_line_on_a_full_disk_never_spoils_the_next_one() {
        let line = |last_id| Line::Carry { last_id, totals: Totals { crossings: last_id, ..Totals::default() } };
        for cuts in [true, false] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("ledger.jsonl");
            let mut disk = Narrow { file: open_file(&path).unwrap(), room: 10_000, cuts };
            let mut torn = false;
            append(&mut disk, &line(1), &mut torn).unwrap();
            for room in [20, 0, 1] {
                disk.room = room;
                append(&mut disk, &line(2), &mut torn).unwrap_err();
                assert_eq!(torn, !cuts);
            }
            disk.room = 10_000;
            append(&mut disk, &line(3), &mut torn).unwrap();
            assert!(!torn);
            let reading = Reading::of(&std::fs::read(&path).unwrap());
            assert_eq!((reading.last_id, reading.totals.crossings), (3, 3), "{cuts}");
            assert_eq!(reading.damaged_lines > 0, !cuts);
        }
    }

    #[test]
    fn nothing_begins_when_the_ledger_cant_be_written() {
        // A device that is always full stands in for a full disk.
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let state = Mutex::new(State { file, last_id: 0, totals: Totals::default(), torn: false });
        let ledger = Ledger { path: PathBuf::from("/dev/full"), state };
        let fault = ledger.begin(&pass(), "https://a.example", "GET /x", "https").unwrap_err();
        assert_eq!(fault.code, base::Code::DiskFull);
        assert_eq!(ledger.totals().crossings, 0);
    }
}
