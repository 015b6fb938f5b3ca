//! What survives a kill: the records that are written so far, and a journal of where each ends.
//!
//! Records go into `OUT.partial`. When they are on the disk, a line for each goes into `OUT.journal`: its number, where
//! it ends, whether it was done, and a sum over all inputs up to it. After a kill, what the partial file holds beyond the
//! last line of the journal is cut off, and the run goes on behind it: no record is lost, doubled or out of order. At the
//! end the partial file takes the output's name. Where something failed the journal stays, so that it can be tried again.

use base::{Code, Fault};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// LIMIT: milliseconds in which results that come one soon after the other are put on the disk together. What a kill
/// finds not there yet is done again.
const COMMIT_EVERY_MS: u64 = 500;

/// One record, as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it ends in the output.
    pub(crate) end: u64,
    pub(crate) done: bool,
    /// Of all inputs up to this one.
    pub(crate) sum: u64,
}

/// A running sum over inputs, to know them again (FNV-1a: the same on every machine and in every release).
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
    pub(crate) record: Record,
    /// Written and not yet in the journal.
    waiting: Vec<Entry>,
    committed: Instant,
    length: u64,
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

fn faulty(path: &Path) -> impl Fn(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |error| Fault::io("write", &path, &error)
}

impl Journal {
    /// Begins a run, or goes on with one. `head` says which run it is: one line, the same for the same command.
    ///
    /// # Errors
    /// An output that is there already, a journal of another run, one that another process writes, and the disk's own.
    pub(crate) fn begin(out: &Path, head: &str, fresh: bool, again: bool) -> Result<Begun, Fault> {
        let (partial, journal) = (beside(out, ".partial"), beside(out, ".journal"));
        if fresh {
            for old in [&partial, &journal] {
                remove(old)?;
            }
        }
        let known = read(&journal)?;
        match known {
            None if out.exists() && !fresh => {
                Err(Fault::new(Code::InvalidAsk, format!("`{}` is there already", out.display()))
                    .hint("replace it: add `--fresh`; or write to another file"))
            }
            None => Ok(Begun::Write(Self::open(out, head, None)?)),
            Some(text) => {
                // What an unfinished run has beyond its partial file isn't there, and is done again.
                let ended = text.ends_with("\nended\n");
                let there = std::fs::metadata(&partial).map_or(0, |found| found.len());
                let Some(record) = parse(&text, head, if ended { u64::MAX } else { there }) else {
                    let words = format!("`{}` belongs to another run", journal.display());
                    return Err(Fault::new(Code::InvalidAsk, words)
                        .hint("give the command that it was begun with; or begin anew: add `--fresh`"));
                };
                Self::go_on(out, head, record, again)
            }
        }
    }

    fn go_on(out: &Path, head: &str, record: Record, again: bool) -> Result<Begun, Fault> {
        let partial = beside(out, ".partial");
        let failed = record.entries.iter().filter(|entry| !entry.done).count();
        let end = record.entries.last().map_or(0, |entry| entry.end);
        if !record.ended {
            return Ok(Begun::Write(Self::open(out, head, Some(record))?));
        }
        if partial.exists() {
            // It was killed between its last word and the new name.
            std::fs::rename(&partial, out).map_err(faulty(out))?;
        }
        let length = std::fs::metadata(out).map_err(|error| Fault::io("read", out, &error))?.len();
        if failed == 0 {
            remove(&beside(out, ".journal"))?;
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
        remove(&beside(out, ".journal.new"))?;
        let journal = Self::open_as(out, head, None, ".journal.new")?;
        Ok(Begun::Again { journal, before: record, output })
    }

    fn open(out: &Path, head: &str, record: Option<Record>) -> Result<Self, Fault> {
        Self::open_as(out, head, record, ".journal")
    }

    fn open_as(out: &Path, head: &str, record: Option<Record>, end: &str) -> Result<Self, Fault> {
        let (partial_at, journal_at) = (beside(out, ".partial"), beside(out, end));
        let open = |path: &Path| {
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path).map_err(faulty(path))
        };
        let (mut partial, mut journal) = (open(&partial_at)?, open(&journal_at)?);
        match journal.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let words = format!("another run writes `{}` now", out.display());
                return Err(Fault::new(Code::InvalidAsk, words).hint("wait for it, or write to another file"));
            }
            Err(TryLockError::Error(error)) => return Err(faulty(&journal_at)(error)),
        }
        let record = record.unwrap_or_default();
        let length = record.entries.last().map_or(0, |entry| entry.end);
        // Cut off what the journal doesn't know of.
        partial.set_len(length).map_err(faulty(&partial_at))?;
        partial.seek(SeekFrom::Start(length)).map_err(faulty(&partial_at))?;
        journal.set_len(record.length).map_err(faulty(&journal_at))?;
        journal.seek(SeekFrom::Start(record.length)).map_err(faulty(&journal_at))?;
        if record.length == 0 {
            journal.write_all(format!("{head}\n").as_bytes()).map_err(faulty(&journal_at))?;
        }
        let waiting = Vec::new();
        Ok(Self { out: out.to_owned(), partial, journal, record, waiting, committed: Instant::now(), length })
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
        let (journal, fresh) = (beside(&self.out, ".journal"), beside(&self.out, ".journal.new"));
        // Of a retry, the new journal fits the new output: they change their names together, as near as can be.
        if fresh.exists() {
            std::fs::rename(&fresh, &journal).map_err(faulty(&journal))?;
        }
        std::fs::rename(beside(&self.out, ".partial"), &self.out).map_err(faulty(&self.out))?;
        if failed == 0 {
            remove(&journal)?;
        }
        Ok(failed)
    }
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
