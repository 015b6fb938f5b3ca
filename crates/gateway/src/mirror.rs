//! The one program that goes out in our stead: the person's own package client, as a mirror source.
//!
//! `python3 -m pip download` runs as a confined child: it reads the system, its own installation and
//! the registry settings named in [`crate::MirrorEnv`], and writes into one folder that it is given.
//! It runs nothing that it downloads (wheels only). Its socket isn't ours, so the bytes that it sends
//! can't be counted: the ledger says so with an empty `sent`.

mod python;

use crate::consent::{Destination, Pass};
use crate::policy::{MirrorEnv, PACKAGE_INDEX};
use crate::{Gateway, ledger::Ledger};
use base::{Code, Fault};
use jail::{Command, Io, KillOnDrop, Limits};
use python::Python;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the child is looked at: its progress is the size of the file that it writes.
const LOOK_MS: u64 = 100;
/// No new byte for this long and the child is stopped.
const STALL_MS_MAX: u64 = 180_000;
/// The whole download; a slow line still brings 100 MB in this time at 30 kB/s.
const WALL_MS_MAX: u64 = 3_600_000;
const LIMITS: Limits = Limits {
    memory_bytes: Some(8 << 30),
    cpu_seconds: Some(900),
    files_max: Some(512),
    file_bytes_max: Some(16 << 30),
};
/// What is read of the child's own words when it fails.
const LOG_BYTES_MAX: u64 = 64 << 10;

/// A package of the index, pinned.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub package: &'a str,
    pub version: &'a str,
    /// An empty or absent folder that is this download's own.
    pub into: &'a Path,
    pub cancel: &'a AtomicBool,
}

impl Gateway {
    /// Fetches one wheel through the package client; `on` hears the bytes that have come so far.
    /// The caller checks what came: nothing is known here about its content.
    pub fn mirror_download(&self, pass: &Pass, wanted: &Wanted<'_>, on: &mut dyn FnMut(u64)) -> Result<PathBuf, Fault> {
        if !pass.covers(&Destination::PackageIndex) {
            return Err(Fault::new(Code::ConsentNeeded, "nobody agreed to ask the package index"));
        }
        for text in [wanted.package, wanted.version] {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if text.is_empty() || text.len() > 100 || text.starts_with('-') || !text.chars().all(plain) {
                return Err(Fault::new(Code::InvalidAsk, format!("`{text}` isn't a package or version")));
            }
        }
        let folders = Folders::make(wanted.into)?;
        let env = &self.policy.mirror_env;
        let python = Python::find(env, &folders.work)?;
        let what = format!("{}=={}", wanted.package, wanted.version);
        let by = format!("pip {} ({})", python.pip_version, python.executable.display());
        // INVARIANT: as with a socket of our own, the entry is on disk before the child starts.
        let id = self.ledger.begin(pass, PACKAGE_INDEX, &what, &by)?;
        let result = run(&python, env, &folders, &what, wanted.cancel, on);
        close(&self.ledger, id, &folders, &result);
        result
    }
}

fn close(ledger: &Ledger, id: u64, folders: &Folders, result: &Result<PathBuf, Fault>) {
    let outcome = match result {
        Ok(_) => "done".to_owned(),
        Err(fault) => fault.to_string(),
    };
    ledger.end(id, None, largest_file(&folders.into), &outcome);
}

/// Where the child may write.
struct Folders {
    into: PathBuf,
    /// Home, temporary files and log of the child.
    work: PathBuf,
    wheels: PathBuf,
    log: PathBuf,
}

impl Folders {
    fn make(into: &Path) -> Result<Self, Fault> {
        let make = |dir: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| Fault::io("create", dir, &error))
        };
        make(into)?;
        // A path that the child sees must be free of links: rules are made for what it leads to.
        let into = into.canonicalize().map_err(|error| Fault::io("open", into, &error))?;
        let folders = Self { work: into.join("work"), wheels: into.join("wheels"), log: into.join("log"), into };
        make(&folders.work)?;
        make(&folders.wheels)?;
        Ok(folders)
    }
}

fn run(
    python: &Python,
    env: &MirrorEnv,
    folders: &Folders,
    what: &str,
    cancel: &AtomicBool,
    on: &mut dyn FnMut(u64),
) -> Result<PathBuf, Fault> {
    let log = |action: &str| {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.open(&folders.log).map_err(|error| Fault::io(action, &folders.log, &error))
    };
    let mut command = Command::new(&python.executable)
        .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--no-input"])
        .args(["--disable-pip-version-check", "--no-color", "--progress-bar=off", "--dest"])
        .arg(folders.wheels.clone())
        .arg(what)
        .current_dir(&folders.work)
        .stdout(Io::File(log("write")?))
        .stderr(Io::File(log("write")?))
        .limits(LIMITS)
        .die_with_parent()
        .rules(python.rules(env, &folders.into))
        .env("HOME", &folders.work)
        .env("TMPDIR", &folders.work)
        .env("PATH", python::PATH)
        .env("LANG", "C.UTF-8")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    for (name, value) in &env.vars {
        command = command.env(name, value);
    }
    if let Some(config) =
        env.config_file.as_ref().filter(|_| !env.vars.iter().any(|(name, _)| name == "PIP_CONFIG_FILE"))
    {
        command = command.env("PIP_CONFIG_FILE", config);
    }
    let mut child = KillOnDrop(command.spawn().map_err(|error| unstarted(&python.executable, &error))?);

    let started = Instant::now();
    let (mut seen, mut grew) = (0, started);
    let status = loop {
        let look = Duration::from_millis(LOOK_MS);
        if let Some(status) = child.wait_timeout(look).map_err(|error| broken(what, &error.to_string()))? {
            break status;
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(Fault::new(Code::Cancelled, format!("the download of {what} was cancelled")));
        }
        let size = largest_file(&folders.into);
        if size > seen {
            (seen, grew) = (size, Instant::now());
            on(seen);
        }
        let over = |since: Instant, limit_ms| since.elapsed() > Duration::from_millis(limit_ms);
        if over(grew, STALL_MS_MAX) || over(started, WALL_MS_MAX) {
            return Err(broken(
                what,
                &format!("no more came after {seen} bytes and {} s", started.elapsed().as_secs()),
            ));
        }
    };
    if !status.success() {
        return Err(refused(what, &tail(&folders.log)));
    }
    let wheel = only_wheel(&folders.wheels).ok_or_else(|| broken(what, "it ended well but left no wheel"))?;
    on(largest_file(&folders.wheels));
    Ok(wheel)
}

fn unstarted(program: &Path, error: &jail::JailError) -> Fault {
    Fault::new(Code::ConfinementFailed, format!("`{}` can't be started confined", program.display()))
        .cause(error)
        .hint("`freehold doctor` says which protection this machine has")
}

fn broken(what: &str, why: &str) -> Fault {
    Fault::new(Code::DownloadFailed, format!("the package index gave no {what}: {why}"))
        .hint("check the network, then run the same command again")
}

/// The client's own last complaint, or a full disk when that is what it says.
fn refused(what: &str, log: &str) -> Fault {
    if log.contains("No space left on device") {
        return Fault::new(Code::DiskFull, format!("the disk filled up while {what} came in"))
            .hint("free some space and try again; nothing was lost");
    }
    let complaint = log.lines().rev().find(|line| line.contains("ERROR")).or_else(|| log.lines().next_back());
    broken(what, complaint.unwrap_or("the package client ended without a word").trim())
        .hint("pip's own settings are used: `python3 -m pip config list` shows them")
}

fn tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
        let mut text = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn only_wheel(dir: &Path) -> Option<PathBuf> {
    let mut wheels = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).filter(|path| {
        path.extension().is_some_and(|end| end == "whl") && path.symlink_metadata().is_ok_and(|about| about.is_file())
    });
    let wheel = wheels.next()?;
    wheels.next().is_none().then_some(wheel)
}

/// Size of the largest file below `dir`: the one that is coming in. Links aren't followed.
fn largest_file(dir: &Path) -> u64 {
    const DEPTH_MAX: usize = 4;
    let mut largest = 0;
    let mut folders = vec![(dir.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && depth < DEPTH_MAX {
                folders.push((entry.path(), depth + 1));
            } else if about.is_file() {
                largest = largest.max(about.len());
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_complaint_reaches_the_person() {
        let log = "Collecting nothing==1\nERROR: No matching distribution found for nothing==1\nnote: bye\n";
        let fault = refused("nothing==1", log);
        assert_eq!(fault.code, Code::DownloadFailed);
        assert!(fault.message.contains("No matching distribution"), "{fault}");
        let full = refused("x==1", "OSError: [Errno 28] No space left on device");
        assert_eq!(full.code, Code::DiskFull);
    }

    #[test]
    fn two_wheels_or_a_link_are_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(only_wheel(dir.path()), None);
        std::fs::write(dir.path().join("readme"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("l.whl")).unwrap();
        assert_eq!(only_wheel(dir.path()), None);
        std::fs::write(dir.path().join("a.whl"), "a").unwrap();
        assert_eq!(only_wheel(dir.path()), Some(dir.path().join("a.whl")));
        std::fs::write(dir.path().join("b.whl"), "b").unwrap();
        assert_eq!(only_wheel(dir.path()), None);
    }
}
