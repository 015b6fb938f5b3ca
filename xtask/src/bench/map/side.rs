//! One side of the comparison: a program that is asked by lines and answers by lines, with the time that it took itself.

use super::judge::{Answer, Built};
use crate::bench::process;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Replies that may wait to be read: one question at a time is asked.
const REPLIES: usize = 1;

/// What is searched with in both arms, or with vectors alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Hybrid,
    Vectors,
}

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: String,
    /// Where it keeps what it has indexed.
    pub(super) store: PathBuf,
    /// Its settings from fast to exact, in words.
    pub(super) knobs: Vec<String>,
    /// Why it takes part no more.
    pub(super) failed: Option<String>,
    log: PathBuf,
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
}

#[derive(Debug, Deserialize)]
struct Indexed {
    words_s: f64,
    all_s: f64,
    settings: String,
    knobs: Vec<String>,
}

impl Side {
    /// Starts the program; what it says on standard error goes into a file beside its store.
    ///
    /// # Errors
    /// When it can't be started.
    pub(super) fn start(name: &str, store: &Path, mut command: Command) -> Result<Self> {
        let log = store.with_extension("log");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("can't start {name}"))?;
        let requests = child.stdin.take();
        let out = child.stdout.take().context("its output is a pipe")?;
        let (sender, replies) = sync_channel(REPLIES);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (name, store) = (name.to_string(), store.to_path_buf());
        Ok(Self { name, store, knobs: Vec::new(), failed: None, log, child, requests, replies })
    }

    /// Has it answer one request within a time.
    ///
    /// # Errors
    /// When it says so, ends, or takes longer; then it is ended.
    pub(super) fn request(&mut self, request: &Value, limit: Duration) -> Result<Value> {
        let pipe = self.requests.as_mut().context("it has been ended")?;
        let sent = writeln!(pipe, "{request}").and_then(|()| pipe.flush());
        let line = match self.replies.recv_timeout(limit) {
            Ok(line) if sent.is_ok() => line,
            Err(RecvTimeoutError::Timeout) => {
                self.end();
                bail!("it took longer than its limit of {} s", limit.as_secs());
            }
            _ => {
                self.end();
                bail!("it ended: {}", last_line(&std::fs::read_to_string(&self.log).unwrap_or_default()));
            }
        };
        let reply: Value = serde_json::from_str(&line).context("its reply is no object")?;
        match reply["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => Ok(reply),
        }
    }

    /// Has it take up the corpus.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn index(&mut self, chunks: u32, limit: Duration) -> Result<(Built, String)> {
        let indexed: Indexed = serde_json::from_value(self.request(&json!({ "do": "index" }), limit)?)?;
        if indexed.knobs.is_empty() {
            bail!("it names no setting");
        }
        self.knobs = indexed.knobs;
        let built = Built {
            chunks,
            side: self.name.clone(),
            words_s: indexed.words_s,
            all_s: indexed.all_s,
            disk: size(&self.store),
            peak: self.memory("VmHWM:")?,
        };
        Ok((built, indexed.settings))
    }

    /// Searches.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn ask(
        &mut self,
        question: usize,
        filter: usize,
        arm: Arm,
        knob: usize,
        limit: Duration,
    ) -> Result<Answer> {
        let arm = match arm {
            Arm::Hybrid => "hybrid",
            Arm::Vectors => "vectors",
        };
        let request = json!({ "do": "ask", "question": question, "filter": filter, "arm": arm, "knob": knob });
        serde_json::from_value(self.request(&request, limit)?).context("its reply isn't as expected")
    }

    /// Bytes that it holds in memory now (`VmRSS:`), or held at most (`VmHWM:`).
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(super) fn memory(&self, name: &str) -> Result<u64> {
        process::memory(self.child.id(), name)
    }

    /// Bytes in its memory of files below a folder that it has mapped.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(super) fn mapped(&self, folder: &Path) -> Result<u64> {
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", self.child.id()))?;
        Ok(mapped(&smaps, &folder.display().to_string()))
    }

    fn end(&mut self) {
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.end();
    }
}

fn mapped(smaps: &str, folder: &str) -> u64 {
    let (mut is_below, mut kib) = (false, 0);
    for line in smaps.lines() {
        let head = line.split_whitespace().next().unwrap_or_default();
        if head.contains('-') {
            is_below = line.contains(folder);
        } else if is_below && head == "Rss:" {
            kib += line.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    kib * 1024
}

/// Bytes of a file, or of all files below a folder.
pub(super) fn size(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
    }
}

fn last_line(log: &str) -> &str {
    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn side(script: &str) -> (Side, PathBuf) {
        let unique = script.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let folder = std::env::temp_dir().join(format!("freehold-side-test-{}-{unique}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        (Side::start("test", &folder.join("store"), command).expect("started"), folder)
    }

    #[test]
    fn a_line_asks_and_a_line_answers() {
        let (mut side, folder) = side(r#"while read -r line; do echo '{"ms": 1.5, "chunks": [3, 1]}'; done"#);
        for question in 0..3 {
            let answer = side.ask(question, 0, Arm::Hybrid, 0, LIMIT).expect("answered");
            assert_eq!((answer.ms, answer.chunks), (1.5, vec![3, 1]));
        }
        assert!(side.memory("VmRSS:").expect("told") > 0);
        drop(side);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn errors_silence_and_ends_are_told_apart() {
        let (mut says, first) = side(r#"read -r line; echo '{"error": "no room"}'; read -r line"#);
        assert_eq!(says.request(&json!({}), LIMIT).expect_err("it says so").to_string(), "no room");
        let (mut silent, second) = side("read -r line; read -r line");
        let error = silent.request(&json!({}), Duration::from_millis(20)).expect_err("too long").to_string();
        assert!(error.contains("its limit"), "{error}");
        assert!(silent.request(&json!({}), LIMIT).is_err(), "it has been ended");
        let (mut ends, third) = side("read -r line; echo why >&2");
        let error = ends.request(&json!({}), LIMIT).expect_err("ended").to_string();
        assert_eq!(error, "it ended: why");
        drop((says, silent, ends));
        for folder in [first, second, third] {
            std::fs::remove_dir_all(folder).expect("removed");
        }
    }

    #[test]
    fn only_mapped_files_of_the_folder_count() {
        let smaps = "7f00-7f10 r--p 0 08:01 5 /x/map/vectors/a.bin\nSize: 64 kB\nRss: 12 kB\n\
                     7f20-7f30 r--p 0 08:01 5 /usr/lib/libc.so\nRss: 99 kB\n\
                     7f40-7f50 r--p 0 08:01 5 /x/map/vectors/b.bin\nRss: 4 kB\n";
        assert_eq!(mapped(smaps, "/x/map/vectors"), 16 * 1024);
        assert_eq!(last_line("a\nb\n\n"), "b");
    }
}
