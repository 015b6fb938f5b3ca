//! Brings models to this machine: said before it starts, resumed where it broke, verified before use.
//!
//! `listing` decides what to take (pure), `fetch` brings one file, `hub` and `mirror` are the two ways,
//! `starter` knows the two models that a new machine begins with.

mod fetch;
mod hub;
mod listing;
mod mirror;
mod starter;

pub(crate) use fetch::hex;

use crate::entry::Entry;
use crate::{Store, disk};
use base::{Bytes, Code, Fault};
use gateway::{Gateway, GivenBy};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// What a pull tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullStep {
    /// Said before the first byte of a file is fetched.
    Plan {
        what: String,
        source: String,
        bytes: Option<Bytes>,
        /// Empty: the source states none.
        license: String,
        sha256: Option<String>,
    },
    Progress {
        what: String,
        done: Bytes,
        total: Option<Bytes>,
    },
    /// A sentence for the person: a source that couldn't be reached, a retry, a conversion.
    Notice(String),
}

/// How often a waiting pull looks whether the one before it has ended.
const TURN_CHECK_MS: u64 = 50;
const PROGRESS_MS: u64 = 100;

impl Store {
    /// Fetches `starter` or `hf:OWNER/REPO[:QUANT]`. What is already here isn't fetched again. Sources
    /// are tried in order; the fault names what each of them said.
    pub fn pull(
        &self,
        what: &str,
        gateway: &Gateway,
        given_by: GivenBy,
        on: &mut dyn FnMut(PullStep),
        cancel: &Arc<AtomicBool>,
    ) -> Result<Vec<Entry>, Fault> {
        let wish = Wish::parse(what)?;
        let _turn = self.turn(on, cancel)?;
        let mut job = Job { store: self, gateway, given_by, on, cancel, told: None };
        match wish {
            Wish::Starter => starter::pull(&mut job),
            Wish::Hub { repo, quant } => hub::pull(&mut job, &repo, quant.as_deref()),
        }
    }

    /// One pull at a time, as they share the partial files; the others wait and say so.
    fn turn(&self, on: &mut dyn FnMut(PullStep), cancel: &AtomicBool) -> Result<MutexGuard<'_, ()>, Fault> {
        let mut told = false;
        loop {
            match self.pulling.try_lock() {
                Ok(turn) => return Ok(turn),
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) if cancel.load(Ordering::Relaxed) => return Err(cancelled()),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        on(PullStep::Notice("another pull is running; this one waits for it".into()));
                    }
                    std::thread::sleep(Duration::from_millis(TURN_CHECK_MS));
                }
            }
        }
    }
}

/// What can be pulled.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Starter,
    Hub { repo: String, quant: Option<String> },
}

impl Wish {
    fn parse(what: &str) -> Result<Self, Fault> {
        let what = what.trim();
        if what.eq_ignore_ascii_case("starter") {
            return Ok(Self::Starter);
        }
        let unknown = || {
            Fault::new(Code::InvalidAsk, format!("`{what}` isn't something that can be pulled"))
                .hint("`freehold pull starter` fetches two small models to begin with")
                .hint("`freehold pull hf:OWNER/REPO` or `hf:OWNER/REPO:Q4_K_M` fetches a GGUF model from the hub")
        };
        let rest = what.strip_prefix("hf:").or_else(|| what.strip_prefix("https://huggingface.co/"));
        let (repo, quant) = match rest.ok_or_else(unknown)?.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant.trim())),
            None => (rest.ok_or_else(unknown)?, None),
        };
        let repo = repo.trim_matches('/');
        let (owner, name) = repo.split_once('/').ok_or_else(unknown)?;
        let plain = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            !text.is_empty() && text.len() <= 96 && !text.starts_with('.') && text.chars().all(fits)
        };
        if !plain(owner) || !plain(name) || quant == Some("") {
            return Err(unknown());
        }
        Ok(Self::Hub { repo: repo.to_owned(), quant: quant.map(str::to_owned) })
    }
}

/// One run of [`Store::pull`].
struct Job<'a> {
    store: &'a Store,
    gateway: &'a Gateway,
    given_by: GivenBy,
    on: &'a mut dyn FnMut(PullStep),
    cancel: &'a Arc<AtomicBool>,
    told: Option<Instant>,
}

impl Job<'_> {
    fn tell(&mut self, step: PullStep) {
        (self.on)(step);
    }

    fn notice(&mut self, text: impl Into<String>) {
        self.tell(PullStep::Notice(text.into()));
    }

    /// At most ten times a second, but always the last.
    fn progress(&mut self, what: &str, done: u64, total: Option<u64>) {
        let soon = self.told.is_some_and(|told| told.elapsed() < Duration::from_millis(PROGRESS_MS));
        if soon && total != Some(done) {
            return;
        }
        self.told = Some(Instant::now());
        self.tell(PullStep::Progress { what: what.to_owned(), done: Bytes(done), total: total.map(Bytes) });
    }

    fn check_cancel(&self) -> Result<(), Fault> {
        if self.cancel.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits, but not through a cancel.
    fn wait(&self, time: Duration) -> Result<(), Fault> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check_cancel()?;
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        self.check_cancel()
    }

    /// The pulled file of this hash, when it is here and whole. Unless a good entry vouches for it, it is
    /// read and hashed; a damaged one is deleted, so that it can be fetched again.
    fn blob(&mut self, what: &str, sha256: &str) -> Result<Option<std::path::PathBuf>, Fault> {
        let path = self.store.layout.blob(sha256)?;
        let Ok(about) = std::fs::metadata(&path) else { return Ok(None) };
        let vouches = |entry: &Entry| entry.parts.contains(&path) && entry.problem().is_none();
        if self.store.list().iter().any(vouches) || self.hash_of(what, &path, about.len())? == sha256 {
            return Ok(Some(path));
        }
        self.notice(format!("{what} is here but damaged; fetching it again"));
        std::fs::remove_file(&path).map_err(|error| Fault::io("delete", &path, &error))?;
        Ok(None)
    }

    /// Moves a verified file to its place among the blobs.
    fn settle(&self, path: &Path, sha256: &str) -> Result<std::path::PathBuf, Fault> {
        let blob = self.store.layout.blob(sha256)?;
        disk::settle(path, &blob)?;
        Ok(blob)
    }
}

fn cancelled() -> Fault {
    Fault::new(Code::Cancelled, "the pull was cancelled").hint("run it again to go on: what has come stays")
}

/// Whether another source might do better: not when the person stopped it or the disk is full.
fn another_source_may_help(fault: &Fault) -> bool {
    !matches!(
        fault.code,
        Code::Cancelled | Code::DiskFull | Code::FileUnwritable | Code::FileUnreadable | Code::ConfinementFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_strictly() {
        let hub = |repo: &str, quant: Option<&str>| {
            Some(Wish::Hub { repo: repo.to_owned(), quant: quant.map(str::to_owned) })
        };
        for (what, want) in [
            ("starter", Some(Wish::Starter)),
            (" Starter ", Some(Wish::Starter)),
            ("hf:Qwen/Qwen3-0.6B-GGUF", hub("Qwen/Qwen3-0.6B-GGUF", None)),
            ("hf:Qwen/Qwen3-0.6B-GGUF:Q8_0", hub("Qwen/Qwen3-0.6B-GGUF", Some("Q8_0"))),
            ("hf:a/b:dir/file.gguf", hub("a/b", Some("dir/file.gguf"))),
            ("https://huggingface.co/a/b", hub("a/b", None)),
            ("hf:a", None),
            ("hf:a/b/c", None),
            ("hf:a/b:", None),
            ("hf:../b", None),
            ("hf:a/..", None),
            ("hf:a/b?c", None),
            ("hf:a b/c", None),
            ("smollm2", None),
            ("", None),
        ] {
            assert_eq!(Wish::parse(what).ok(), want, "{what}");
        }
        assert_eq!(Wish::parse("smollm2").unwrap_err().hints.len(), 2);
    }
}
