//! What survives a kill: the records that are written so far, and a journal of where each ends.
//!
//! Records go into `OUT.partial`. When they are on the disk, a line for each goes into `OUT.journal`: its number, where
//! it ends, whether it was done, and a sum over its input. After a kill, what the partial file holds beyond the
//! last line of the journal is cut off, and the run goes on behind it: no record is lost, doubled or out of order. At the
//! end the partial file takes the output's name. Where something failed the journal stays, so that it can be tried again.
//! A retry writes into `OUT.partial` and `OUT.journal.new`; the output stays as it is until the retry is whole. Whoever
//! touches any of these files holds `OUT.lock`.

use base::{Code, Fault};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// LIMIT: milliseconds in which results that come one soon after the other are put on the disk together. What a kill
/// finds not there yet is done again.
const COMMIT_EVERY_MS: u64 = 500;
/// How each journal begins.
pub(crate) const MAGIC: &str = "freehold-journal";

const PARTIAL: &str = ".partial";
const JOURNAL: &str = ".journal";
const JOURNAL_NEW: &str = ".journal.new";
const LOCK: &str = ".lock";

/// One record, as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it ends in the output.
    pub(crate) end: u64,
    pub(crate) done: bool,
    /// Of its input.
    pub(crate) sum: u64,
}

/// A sum over an input, to know it again (FNV-1a: the same on every machine and in every release).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub(crate) entries: Vec<Entry>,
    /// The run came to its end.
    pub(crate) ended: bool,
    /// Bytes of the journal that are whole lines.
    length: u64,
}

/// Reads a journal. A last line that isn't whole was being written when the run was killed.
fn parse(text: &str, head: &str, length_max: u64) -> Option<Record> {
    let rest = text.strip_prefix(head)?.strip_prefix('\n')?;
    let mut record = Record { length: (head.len() + 1) as u64, ..Record::default() };
    for line in rest.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ended"] => record.ended = true,
            [number, end, word, sum] => {
                let entry =
                    Entry { end: end.parse().ok()?, done: *word == "done", sum: u64::from_str_radix(sum, 16).ok()? };
                let before = record.entries.last().map_or(0, |entry| entry.end);
                if number.parse() != Ok(record.entries.len()) || entry.end < before || entry.end > length_max {
                    break;
                }
                record.entries.push(entry);
            }
            _ => break,
        }
        record.length += line.len() as u64;
    }
    Some(record)
}

/// An output that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    out: PathBuf,
    partial: File,
    journal: File,
    /// It writes a new journal beside that of a finished run.
    again: bool,
    pub(crate) record: Record,
    /// Written and not yet in the journal.
    waiting: Vec<Entry>,
    committed: Instant,
    length: u64,
    _lock: Lock,
}

/// How a run begins.
#[derive(Debug)]
pub(crate) enum Begun {
    /// From this record on; 0 is the first.
    Write(Journal),
    /// What is done stands in the output; it is taken from there.
    Again { journal: Journal, before: Record, output: File },
    /// There is nothing to do.
    Complete { failed: usize },
}

fn beside(out: &Path, end: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The files that a run keeps beside its output.
pub(crate) fn companions(out: &Path) -> Vec<PathBuf> {
    [PARTIAL, JOURNAL, JOURNAL_NEW, LOCK].map(|end| beside(out, end)).into()
}

fn faulty(path: &Path) -> impl Fn(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |error| Fault::io("write", &path, &error)
}

/// Opens a file of a run, or makes it: for its owner alone, as the texts and results in it may be.
fn open(path: &Path) -> Result<File, Fault> {
    OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(path).map_err(faulty(path))
}

/// Held by the one run that may touch the files of an output.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(out: &Path) -> Result<Self, Fault> {
        let path = beside(out, LOCK);
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let words = format!("another run writes `{}` now", out.display());
                    return Err(Fault::new(Code::InvalidAsk, words).hint("wait for it, or write to another file"));
                }
                Err(TryLockError::Error(error)) => return Err(faulty(&path)(error)),
            }
            // The run that held it before may have removed it after it was opened here.
            let held = file.metadata().map_err(faulty(&path))?;
            if std::fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Ok(Self { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One with something in it belongs to another program. One that can't be removed does no harm.
        if self.file.metadata().is_ok_and(|found| found.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Journal {
    /// Begins a run, or goes on with one. `head` says which run it is: one line, the same for the same command.
    ///
    /// # Errors
    /// An output that is there already, a journal of another run, one that another process writes, and the disk's own.
    pub(crate) fn begin(out: &Path, head: &str, fresh: bool, again: bool) -> Result<Begun, Fault> {
        let lock = Lock::take(out)?;
        let journal = beside(out, JOURNAL);
        let known = read(&journal)?;
        refuse_foreign(out, known.as_deref())?;
        // One that was killed in its first line has nothing yet.
        let known = known.filter(|text| !head.starts_with(text.as_str()));
        if fresh {
            discard(out)?;
            return Ok(Begun::Write(Self::open(out, head, None, lock)?));
        }
        let Some(text) = known else {
            if out.exists() {
                return Err(Fault::new(Code::InvalidAsk, format!("`{}` is there already", out.display()))
                    .hint("replace it: add `--fresh`; or write to another file"));
            }
            return Ok(Begun::Write(Self::open(out, head, None, lock)?));
        };
        // What an unfinished run has beyond its partial file isn't there, and is done again.
        let ended = text.ends_with("\nended\n");
        let there = std::fs::metadata(beside(out, PARTIAL)).map_or(0, |found| found.len());
        let Some(record) = parse(&text, head, if ended { u64::MAX } else { there }) else {
            let words = format!("`{}` belongs to another run", journal.display());
            return Err(Fault::new(Code::InvalidAsk, words)
                .hint("give the command that it was begun with; or begin anew: add `--fresh`"));
        };
        if record.ended {
            Self::after_end(out, head, record, again, lock)
        } else {
            Ok(Begun::Write(Self::open(out, head, Some(record), lock)?))
        }
    }

    /// What is left to do where a run came to its end.
    fn after_end(out: &Path, head: &str, record: Record, again: bool, lock: Lock) -> Result<Begun, Fault> {
        let failed = record.entries.iter().filter(|entry| !entry.done).count();
        let end = record.entries.last().map_or(0, |entry| entry.end);
        settle(out, end)?;
        let length = std::fs::metadata(out).map_err(|error| Fault::io("read", out, &error))?.len();
        if failed == 0 {
            remove(&beside(out, JOURNAL))?;
            return Ok(Begun::Complete { failed });
        }
        if !again {
            return Ok(Begun::Complete { failed });
        }
        if length != end {
            let words = format!("`{}` was changed since it was written", out.display());
            return Err(Fault::new(Code::InvalidAsk, words).hint("begin anew: add `--fresh`"));
        }
        let output = File::open(out).map_err(|error| Fault::io("read", out, &error))?;
        // A retry that is killed begins again with what the output holds; only what failed is done twice.
        let journal = Self::open_as(out, head, Record::default(), true, lock)?;
        Ok(Begun::Again { journal, before: record, output })
    }

    fn open(out: &Path, head: &str, record: Option<Record>, lock: Lock) -> Result<Self, Fault> {
        // It would make the partial file look like a retry's.
        remove(&beside(out, JOURNAL_NEW))?;
        Self::open_as(out, head, record.unwrap_or_default(), false, lock)
    }

    fn open_as(out: &Path, head: &str, record: Record, again: bool, lock: Lock) -> Result<Self, Fault> {
        let (partial_at, journal_at) = (beside(out, PARTIAL), beside(out, if again { JOURNAL_NEW } else { JOURNAL }));
        // The journal first: a partial file that stands alone isn't of a run.
        let mut journal = open(&journal_at)?;
        journal.set_len(record.length).map_err(faulty(&journal_at))?;
        journal.seek(SeekFrom::Start(record.length)).map_err(faulty(&journal_at))?;
        if record.length == 0 {
            journal.write_all(format!("{head}\n").as_bytes()).map_err(faulty(&journal_at))?;
        }
        let mut partial = open(&partial_at)?;
        let length = record.entries.last().map_or(0, |entry| entry.end);
        // Cut off what the journal doesn't know of.
        partial.set_len(length).map_err(faulty(&partial_at))?;
        partial.seek(SeekFrom::Start(length)).map_err(faulty(&partial_at))?;
        let (out, waiting, committed) = (out.to_owned(), Vec::new(), Instant::now());
        Ok(Self { out, partial, journal, again, record, waiting, committed, length, _lock: lock })
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> usize {
        self.record.entries.len() + self.waiting.len()
    }

    /// Writes the next record.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write(&mut self, bytes: &[u8], done: bool, sum: Sum) -> Result<(), Fault> {
        self.partial.write_all(bytes).map_err(faulty(&self.out))?;
        self.length += bytes.len() as u64;
        self.waiting.push(Entry { end: self.length, done, sum: sum.0 });
        if self.committed.elapsed() >= Duration::from_millis(COMMIT_EVERY_MS) { self.commit() } else { Ok(()) }
    }

    /// What is written counts from now on, whatever happens.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn commit(&mut self) -> Result<(), Fault> {
        self.committed = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        // The records first: a journal that knows more than the disk holds would be worse than none.
        self.partial.sync_data().map_err(faulty(&self.out))?;
        let mut lines = String::new();
        for (at, entry) in self.waiting.iter().enumerate() {
            let word = if entry.done { "done" } else { "failed" };
            lines.push_str(&format!("{} {} {word} {:016x}\n", self.record.entries.len() + at, entry.end, entry.sum));
        }
        self.journal.write_all(lines.as_bytes()).map_err(faulty(&self.out))?;
        self.record.entries.append(&mut self.waiting);
        Ok(())
    }

    /// Ends the run: the output gets its name. How many records failed.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn finish(mut self) -> Result<usize, Fault> {
        self.commit()?;
        self.journal.write_all(b"ended\n").map_err(faulty(&self.out))?;
        self.journal.sync_data().map_err(faulty(&self.out))?;
        let failed = self.record.entries.iter().filter(|entry| !entry.done).count();
        let journal = beside(&self.out, JOURNAL);
        // Of a retry, the new journal fits the new output: they change their names together, as near as can be.
        if self.again {
            std::fs::rename(beside(&self.out, JOURNAL_NEW), &journal).map_err(faulty(&journal))?;
        }
        publish(&self.out)?;
        if failed == 0 {
            remove(&journal)?;
        }
        Ok(failed)
    }
}

/// Refuses files that have a run's names, and that no run wrote.
fn refuse_foreign(out: &Path, known: Option<&str>) -> Result<(), Fault> {
    let (partial, journal) = (beside(out, PARTIAL), beside(out, JOURNAL));
    let foreign = match known {
        Some(text) if !text.starts_with(MAGIC) && !MAGIC.starts_with(text) => journal,
        None if partial.exists() => partial,
        Some(_) | None => return Ok(()),
    };
    let words = format!("`{}` is there already, and is not of an interrupted run", foreign.display());
    Err(Fault::new(Code::InvalidAsk, words).hint("move it away, or write to another file"))
}

/// Removes what an earlier run left. The journal goes last: the partial file is known by it.
fn discard(out: &Path) -> Result<(), Fault> {
    [PARTIAL, JOURNAL_NEW, JOURNAL].iter().try_for_each(|end| remove(&beside(out, end)))
}

/// Clears up what was killed after the end of a run that wrote so many bytes.
fn settle(out: &Path, end: u64) -> Result<(), Fault> {
    let (partial, new) = (beside(out, PARTIAL), beside(out, JOURNAL_NEW));
    let whole = std::fs::metadata(&partial).is_ok_and(|found| found.len() == end);
    if whole && !new.exists() {
        // The run itself, between its last word and the new name.
        return publish(out);
    }
    // A retry, which was not whole: the output is. The new journal goes last, as it tells that.
    remove(&partial)?;
    remove(&new)
}

/// Gives a whole partial file the output's name, and the permissions of the output that it replaces.
fn publish(out: &Path) -> Result<(), Fault> {
    let partial = beside(out, PARTIAL);
    if let Ok(replaced) = std::fs::metadata(out) {
        std::fs::set_permissions(&partial, replaced.permissions()).map_err(faulty(&partial))?;
    }
    std::fs::rename(&partial, out).map_err(faulty(out))
}

/// Takes one record of an output as it is.
///
/// # Errors
/// The disk's.
pub(crate) fn copy(output: &mut File, before: &Record, at: usize) -> Result<Vec<u8>, Fault> {
    let start = at.checked_sub(1).map_or(0, |before_it| before.entries[before_it].end);
    let length = before.entries[at].end - start;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let path = Path::new("the output");
    output.seek(SeekFrom::Start(start)).map_err(|error| Fault::io("read", path, &error))?;
    output.read_exact(&mut bytes).map_err(|error| Fault::io("read", path, &error))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Option<String>, Fault> {
    match std::fs::read(path) {
        // What isn't text was cut in the middle.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io("read", path, &error)),
    }
}

fn remove(path: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(faulty(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;
    use testkit::TempHome;

    const HEAD: &str = "freehold-journal 1 test";

    fn begin(out: &Path) -> Journal {
        match Journal::begin(out, HEAD, false, false).expect("begins") {
            Begun::Write(journal) => journal,
            other => panic!("{other:?}"),
        }
    }

    fn sum(at: usize) -> Sum {
        let mut sum = Sum::default();
        sum.add(at.to_string().as_bytes());
        sum
    }

    #[test]
    fn an_output_appears_whole_or_not_at_all() {
        let home = TempHome::new();
        let out = home.join("out.csv");
        let mut journal = begin(&out);
        journal.write(b"one\n", true, sum(0)).expect("writes");
        assert!(!out.exists());
        assert_eq!(journal.finish().expect("ends"), 0);
        assert_eq!(std::fs::read(&out).expect("there"), b"one\n");
        assert!(!beside(&out, ".journal").exists() && !beside(&out, ".partial").exists());
        let refused = Journal::begin(&out, HEAD, false, false).expect_err("there already");
        assert!(refused.hints[0].contains("--fresh"));
        assert!(matches!(Journal::begin(&out, HEAD, true, false), Ok(Begun::Write(_))));
    }

    #[test]
    fn what_failed_is_done_again_and_the_rest_is_kept() {
        let home = TempHome::new();
        let out = home.join("out");
        let mut journal = begin(&out);
        for (at, (text, done)) in [("a\n", true), ("", false), ("c\n", true)].into_iter().enumerate() {
            journal.write(text.as_bytes(), done, sum(at)).expect("writes");
        }
        assert_eq!(journal.finish().expect("ends"), 1);
        assert!(matches!(Journal::begin(&out, HEAD, false, false), Ok(Begun::Complete { failed: 1 })));
        let Begun::Again { mut journal, before, mut output } = Journal::begin(&out, HEAD, false, true).expect("again")
        else {
            panic!("not again")
        };
        for (at, entry) in before.entries.iter().enumerate() {
            let bytes = if entry.done { copy(&mut output, &before, at).expect("reads") } else { b"b\n".to_vec() };
            journal.write(&bytes, true, sum(at)).expect("writes");
        }
        assert_eq!(journal.finish().expect("ends"), 0);
        assert_eq!(std::fs::read(&out).expect("there"), b"a\nb\nc\n");
        assert!(!beside(&out, ".journal").exists());
    }

    #[test]
    fn another_run_and_another_process_are_refused() {
        let home = TempHome::new();
        let out = home.join("out");
        let journal = begin(&out);
        let busy = Journal::begin(&out, HEAD, false, false).expect_err("busy");
        assert!(busy.message.contains("another run writes"), "{busy}");
        drop(journal);
        let other = Journal::begin(&out, "freehold-journal 1 other", false, false).expect_err("other");
        assert!(other.message.contains("belongs to another run"), "{other}");
    }

    /// A finished run of two records, of which the second failed; its output is `a`, and an empty line.
    fn with_a_failure(out: &Path) {
        let mut journal = begin(out);
        journal.write(b"a\n", true, sum(0)).expect("writes");
        journal.write(b"\n", false, sum(1)).expect("writes");
        assert_eq!(journal.finish().expect("ends"), 1);
    }

    fn retry(out: &Path) -> (Journal, Record) {
        match Journal::begin(out, HEAD, false, true).expect("begins") {
            Begun::Again { journal, before, .. } => (journal, before),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_retry_that_is_stopped_leaves_the_output_as_it_is() {
        let home = TempHome::new();
        let out = home.join("out");
        with_a_failure(&out);
        // Before its first record, in the middle, and with as many bytes as the output has.
        for records in [&[][..], &[&b"a\n"[..]], &[b"a", b"??"]] {
            let (mut journal, before) = retry(&out);
            assert_eq!(before.entries.len(), 2);
            for (at, record) in records.iter().enumerate() {
                journal.write(record, true, sum(at)).expect("writes");
            }
            journal.commit().expect("commits");
            drop(journal);
            assert_eq!(std::fs::read(&out).expect("there"), b"a\n\n");
        }
        assert!(matches!(Journal::begin(&out, HEAD, false, false), Ok(Begun::Complete { failed: 1 })));
        assert_eq!(std::fs::read(&out).expect("there"), b"a\n\n");
        assert!(!beside(&out, PARTIAL).exists() && !beside(&out, JOURNAL_NEW).exists());
        let (mut journal, _) = retry(&out);
        journal.write(b"a\n", true, sum(0)).expect("writes");
        journal.write(b"b\n", true, sum(1)).expect("writes");
        assert_eq!(journal.finish().expect("ends"), 0);
        assert_eq!(std::fs::read(&out).expect("there"), b"a\nb\n");
    }

    #[test]
    fn a_whole_output_gets_its_name_after_a_kill() {
        let home = TempHome::new();
        let out = home.join("out");
        with_a_failure(&out);
        std::fs::rename(&out, beside(&out, PARTIAL)).expect("as before its new name");
        assert!(matches!(Journal::begin(&out, HEAD, false, false), Ok(Begun::Complete { failed: 1 })));
        assert_eq!(std::fs::read(&out).expect("there"), b"a\n\n");
    }

    #[test]
    fn a_run_is_not_disturbed_by_one_that_begins_anew() {
        let home = TempHome::new();
        let out = home.join("out");
        let mut journal = begin(&out);
        journal.write(b"a\n", true, sum(0)).expect("writes");
        let busy = Journal::begin(&out, HEAD, true, false).expect_err("busy");
        assert!(busy.message.contains("another run writes"), "{busy}");
        journal.finish().expect("ends");
        assert_eq!(std::fs::read(&out).expect("there"), b"a\n");
        assert!(!beside(&out, LOCK).exists());
    }

    #[test]
    fn to_begin_anew_discards_a_stopped_retry() {
        let home = TempHome::new();
        let out = home.join("out");
        with_a_failure(&out);
        drop(retry(&out));
        assert!(beside(&out, JOURNAL_NEW).exists());
        let Begun::Write(mut journal) = Journal::begin(&out, HEAD, true, false).expect("begins") else {
            panic!("not anew")
        };
        assert!(!beside(&out, JOURNAL_NEW).exists());
        journal.write(b"b\n", true, sum(0)).expect("writes");
        assert_eq!(journal.finish().expect("ends"), 0);
        assert_eq!(std::fs::read(&out).expect("there"), b"b\n");
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let home = TempHome::new();
        for end in [PARTIAL, JOURNAL] {
            let out = home.join(&format!("out{end}"));
            let other = beside(&out, end);
            std::fs::write(&other, "precious").expect("writes");
            for fresh in [false, true] {
                let refused = Journal::begin(&out, HEAD, fresh, false).expect_err("not ours");
                assert!(refused.message.contains(end) && refused.hints[0].contains("move it away"), "{refused:?}");
            }
            assert_eq!(std::fs::read(&other).expect("there"), b"precious");
        }
        let out = home.join("Cargo");
        std::fs::write(beside(&out, LOCK), "precious").expect("writes");
        begin(&out).finish().expect("ends");
        assert_eq!(std::fs::read(beside(&out, LOCK)).expect("there"), b"precious");
    }

    #[test]
    fn a_run_that_was_killed_in_its_first_line_begins_again() {
        let home = TempHome::new();
        let out = home.join("out");
        std::fs::write(beside(&out, JOURNAL), &HEAD[..9]).expect("writes");
        assert_eq!(begin(&out).next(), 0);
    }

    #[test]
    fn what_is_written_is_for_its_owner_unless_the_output_was_for_others() {
        let home = TempHome::new();
        let out = home.join("out");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        let journal = begin(&out);
        for end in [PARTIAL, JOURNAL, LOCK] {
            assert_eq!(mode(&beside(&out, end)), 0o600, "{end}");
        }
        journal.finish().expect("ends");
        assert_eq!(mode(&out), 0o600);
        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o640)).expect("changes");
        let Begun::Write(journal) = Journal::begin(&out, HEAD, true, false).expect("begins") else {
            panic!("not anew")
        };
        assert_eq!(mode(&beside(&out, PARTIAL)), 0o600);
        journal.finish().expect("ends");
        assert_eq!(mode(&out), 0o640);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A kill leaves any beginning of what was written, and of the journal any that it had when that was on the disk.
        /// Going on from there makes the same output, record for record.
        #[test]
        fn a_kill_at_any_byte_loses_and_doubles_nothing(
            lengths in prop::collection::vec(0_usize..20, 1..20), stop in 0_usize..20, torn in 0_usize..40, more in 0_usize..30,
        ) {
            let home = TempHome::new();
            let out = home.join("out");
            let record = |at: usize| format!("{at}:{}\n", "x".repeat(lengths[at])).into_bytes();
            let stop = stop.min(lengths.len());
            let mut journal = begin(&out);
            for at in 0..stop {
                journal.write(&record(at), true, sum(at)).expect("writes");
            }
            journal.commit().expect("commits");
            drop(journal);
            // The journal's end is torn, and the partial file holds bytes that it doesn't know of.
            let path = beside(&out, ".journal");
            let text = std::fs::read(&path).expect("there");
            let keep = text.len().saturating_sub(torn).max(HEAD.len() + 1);
            std::fs::write(&path, &text[..keep]).expect("tears");
            let mut partial = OpenOptions::new().append(true).open(beside(&out, ".partial")).expect("there");
            partial.write_all(&vec![b'?'; more]).expect("adds");
            drop(partial);
            let mut journal = begin(&out);
            prop_assert!(journal.next() <= stop);
            for at in journal.next()..lengths.len() {
                journal.write(&record(at), true, sum(at)).expect("writes");
            }
            journal.finish().expect("ends");
            let expected: Vec<u8> = (0..lengths.len()).flat_map(record).collect();
            prop_assert_eq!(std::fs::read(&out).expect("there"), expected);
        }
    }
}
