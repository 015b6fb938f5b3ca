//! A program beside us in a comparison: asked by lines, it answers by lines, with the time that it took itself.

use super::process;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Replies that may wait to be read: one question at a time is asked.
const REPLIES: usize = 1;

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: String,
    /// Where it keeps what it writes.
    pub(super) store: PathBuf,
    /// The settings that it may be asked with, in words.
    pub(super) knobs: Vec<String>,
    /// Why it takes part no more.
    pub(super) failed: Option<String>,
    log: PathBuf,
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
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

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that it holds in memory now (`VmRSS:`), or held at most (`VmHWM:`).
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(super) fn memory(&self, name: &str) -> Result<u64> {
        process::memory(self.child.id(), name)
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
    use serde_json::json;

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
            let answer = side.request(&json!({ "do": "ask", "question": question }), LIMIT).expect("answered");
            assert_eq!(answer, json!({ "ms": 1.5, "chunks": [3, 1] }));
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
    fn the_last_words_are_told() {
        assert_eq!(last_line("a\nb\n\n"), "b");
        assert_eq!(last_line("\n"), "it said nothing");
    }
}
