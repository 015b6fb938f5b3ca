//! The daemon's life: one per home, found by its socket, started by whoever needs it.
//!
//! Two locks in `home/run`: `daemon.lock` is held for as long as a daemon lives (the kernel
//! drops it when the process ends, however it ends), and `starting.lock` while one starts, so
//! that racing commands wait for the winner and start nothing themselves. Files that a killed
//! daemon leaves behind (socket, pid) mean nothing without the lock.

use crate::languages;
use crate::settings::Settings;
use base::{Code, Fault};
use map::Languages;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for a daemon's first word. It may itself have to wait while another one starts.
const START_TIMEOUT_MS: u64 = 30_000;
/// A log of this size is put aside when a daemon starts; the one before it is forgotten.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// The right to be the daemon of this home. Dropping it gives the right back.
#[derive(Debug)]
pub struct Claim {
    _daemon: File,
    starting: Option<File>,
    settings: Settings,
}

/// What a daemon in the background tells the command that started it, as one JSON line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Ready,
    Failed(Fault),
}

/// Makes the home and its folders, readable by their owner alone.
///
/// # Errors
/// When a folder can't be made, or belongs to somebody else.
pub fn prepare_home(settings: &Settings) -> Result<(), Fault> {
    private_dir(&settings.home)?;
    private_dir(&settings.run_dir())?;
    if let Some(dir) = settings.socket.parent() {
        private_dir(dir)?;
    }
    Ok(())
}

fn private_dir(dir: &Path) -> Result<(), Fault> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Fault::io("create", dir, &error))?;
    // Somebody else's link is theirs to turn elsewhere, whoever owns what it leads to now.
    let link = std::fs::symlink_metadata(dir).map_err(|error| Fault::io("read", dir, &error))?;
    let meta = std::fs::metadata(dir).map_err(|error| Fault::io("read", dir, &error))?;
    let me = rustix::process::geteuid().as_raw();
    if let Some(other) = [link.uid(), meta.uid()].into_iter().find(|uid| *uid != me) {
        return Err(Fault::new(
            Code::FileUnwritable,
            format!("`{}` belongs to user {other}, and you are user {me}", dir.display()),
        )
        .hint("set FREEHOLD_HOME to a folder of your own"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| Fault::io("protect", dir, &error))?;
    }
    Ok(())
}

fn lock_file(path: &Path) -> Result<File, Fault> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Fault::io("write", path, &error))
}

fn lock(file: &File, path: &Path, how: FlockOperation) -> Result<bool, Fault> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, how)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Fault::io("lock", path, &errno.into())),
    }
}

/// Becomes the daemon of this home.
///
/// # Errors
/// [`Code::DaemonRunning`] when another one is; the file errors of [`prepare_home`].
pub fn claim(settings: &Settings) -> Result<Claim, Fault> {
    prepare_home(settings)?;
    let run = settings.run_dir();
    let (starting_path, daemon_path) = (run.join("starting.lock"), run.join("daemon.lock"));
    let starting = lock_file(&starting_path)?;
    lock(&starting, &starting_path, FlockOperation::LockExclusive)?;
    let daemon = lock_file(&daemon_path)?;
    if !lock(&daemon, &daemon_path, FlockOperation::NonBlockingLockExclusive)? {
        let process = daemon_pid(settings).map(|pid| format!(" (process {pid})")).unwrap_or_default();
        return Err(Fault::new(
            Code::DaemonRunning,
            format!("a daemon{process} already runs for `{}`", settings.home.display()),
        )
        .hint("see it: `freehold status`; end it: `freehold stop`"));
    }
    // Whoever holds the lock is alone, so a socket that lies here is a dead daemon's.
    match std::fs::remove_file(&settings.socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Fault::io("remove", &settings.socket, &error));
        }
        Ok(()) | Err(_) => {}
    }
    Ok(Claim { _daemon: daemon, starting: Some(starting), settings: settings.clone() })
}

/// The process that the daemon of this home said it is; it may have gone since.
pub fn daemon_pid(settings: &Settings) -> Option<u32> {
    std::fs::read_to_string(settings.run_dir().join("daemon.pid")).ok()?.trim().parse().ok()
}

impl Claim {
    /// Both listeners are bound: commands that wait may connect now.
    ///
    /// # Errors
    /// When the pid file can't be written.
    pub fn ready(&mut self, background: bool) -> Result<(), Fault> {
        let pid_path = self.settings.run_dir().join("daemon.pid");
        let mut pid = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&pid_path)
            .map_err(|error| Fault::io("write", &pid_path, &error))?;
        writeln!(pid, "{}", std::process::id()).map_err(|error| Fault::io("write", &pid_path, &error))?;
        self.starting = None;
        if background {
            say(&Word::Ready);
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Best effort: what stays behind is known to be stale by the lock.
        let _ = std::fs::remove_file(&self.settings.socket);
        let _ = std::fs::remove_file(self.settings.run_dir().join("daemon.pid"));
    }
}

/// Tells the command that started this daemon why it can't serve.
pub fn report_failure(fault: &Fault) {
    say(&Word::Failed(fault.clone()));
}

fn say(word: &Word) {
    let line = serde_json::to_string(word).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // The command may have been interrupted meanwhile; the daemon doesn't depend on it.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Starts a daemon in the background and returns when it serves, or with its own fault.
/// Racing calls start one daemon; all of them return when it serves.
///
/// # Errors
/// What the daemon itself said, or [`Code::DaemonUnreachable`] with the path of its log.
pub fn start_daemon(settings: &Settings) -> Result<(), Fault> {
    prepare_home(settings)?;
    let log_path = settings.log_file();
    let log = open_log(&log_path)?;
    let mut command = jail::Command::new(&settings.program)
        .args(["serve", "--background"])
        .stdout(jail::Io::Pipe)
        .stderr(jail::Io::File(log))
        .current_dir(Path::new("/"))
        .detached();
    for (name, value) in daemon_env(settings) {
        command = command.env(name, value);
    }
    let unreachable = |why: String| {
        Fault::new(Code::DaemonUnreachable, format!("the daemon didn't start: {why}"))
            .hint(format!("read its log: `tail {}`", log_path.display()))
            .hint("run it in the foreground: `freehold serve`")
    };
    let mut child = command.spawn().map_err(|error| unreachable(error.to_string()))?;
    let line = match child.stdout.take() {
        None => Vec::new(),
        Some(out) => first_line(out, Duration::from_millis(START_TIMEOUT_MS))
            .map_err(|error| unreachable(error.to_string()))?
            .ok_or_else(|| {
                let pid = child.pid();
                unreachable(format!("process {pid} doesn't say a word within {START_TIMEOUT_MS} ms"))
                    .hint(format!("end it by force: `kill -9 {pid}`; nothing on disk is lost"))
            })?,
    };
    match serde_json::from_slice(line.trim_ascii()) {
        Ok(Word::Ready) => Ok(()),
        Ok(Word::Failed(fault)) if fault.code == Code::DaemonRunning => Ok(()),
        Ok(Word::Failed(fault)) => Err(fault),
        Err(_) => Err(unreachable("it ended without a word".into())),
    }
}

/// Opens the log for appending. One that has grown large is put aside first.
fn open_log(path: &Path) -> Result<File, Fault> {
    let fault = |error: std::io::Error| Fault::io("write", path, &error);
    let large = |about: std::fs::Metadata| about.len() > LOG_BYTES_MAX;
    if std::fs::metadata(path).is_ok_and(large) {
        match std::fs::rename(path, path.with_extension("log.old")) {
            // Another command that starts a daemon did it just now.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            put_aside => put_aside.map_err(fault)?,
        }
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(fault)
}

/// What comes until the first line's end or the end of all; `None` when neither comes in time.
fn first_line(mut out: impl Read + AsFd, timeout: Duration) -> std::io::Result<Option<Vec<u8>>> {
    let started = Instant::now();
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    while !bytes.contains(&b'\n') {
        let left = Timespec::try_from(timeout.saturating_sub(started.elapsed())).ok();
        match poll(&mut [PollFd::new(&out, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match out.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

/// The daemon gets no environment but this: settings that the command has already read.
fn daemon_env(settings: &Settings) -> Vec<(String, String)> {
    let mut env = settings.mirror_env.clone();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    env.push(("FREEHOLD_HOME".into(), path(&settings.home)));
    env.push(("FREEHOLD_WORKER".into(), path(&settings.worker)));
    env.push(("FREEHOLD_PORT".into(), settings.port.to_string()));
    env.push(("FREEHOLD_HUB".into(), settings.hub.clone()));
    env.push(("FREEHOLD_OFFLINE".into(), if settings.offline { "1" } else { "0" }.into()));
    env.push(("FREEHOLD_MIRROR".into(), if settings.mirror { "1" } else { "0" }.into()));
    env.push(("FREEHOLD_SEQUENCES".into(), settings.sequences_max.to_string()));
    env.push(("FREEHOLD_KV_CACHE".into(), settings.kv_cache.as_str().into()));
    env.push(("FREEHOLD_PREFIX_CACHE".into(), if settings.prefix_cache { "1" } else { "0" }.into()));
    env.push(("FREEHOLD_CACHE_DISK".into(), format!("{} B", settings.cache_disk.0)));
    env.push(("FREEHOLD_DRAFTS".into(), if settings.drafts { "1" } else { "0" }.into()));
    env.push(("FREEHOLD_DRAFT_MODEL".into(), settings.draft_model.as_str().into()));
    env.push(("FREEHOLD_IDLE_REST_SECONDS".into(), (settings.idle_rest_ms / 1_000).to_string()));
    env.push(("FREEHOLD_IDLE_UNLOAD_MINUTES".into(), (settings.idle_unload_ms / 60_000).to_string()));
    env.push(("FREEHOLD_RERANK_MS".into(), settings.rerank_ms.to_string()));
    env.push(("FREEHOLD_LOG".into(), settings.log.clone()));
    match &settings.ocr_languages {
        // It looks for them by itself.
        Languages::Wished(_) => env.push(("LANGUAGE".into(), settings.locale.clone())),
        set => env.push(("FREEHOLD_OCR_LANGUAGES".into(), languages::named(set))),
    }
    if let Some(token) = &settings.hub_token {
        env.push(("HF_TOKEN".into(), token.clone()));
    }
    if let Some(config) = &settings.mirror_config {
        env.push(("PIP_CONFIG_FILE".into(), path(config)));
    }
    if let Some(python) = &settings.python {
        env.push(("FREEHOLD_PYTHON".into(), path(python)));
    }
    if let Some(threads) = settings.threads {
        env.push(("FREEHOLD_THREADS".into(), threads.to_string()));
    }
    if let Some(memory) = settings.memory_max {
        env.push(("FREEHOLD_MEMORY".into(), memory.0.to_string()));
    }
    if let Some(context) = settings.context_tokens {
        env.push(("FREEHOLD_CONTEXT".into(), context.to_string()));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_recognises_the_languages_of_the_command() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        for (name, value) in [
            ("FREEHOLD_OCR_LANGUAGES", "eng+fra"),
            ("FREEHOLD_OCR_LANGUAGES", "none"),
            ("LANG", "de_DE.UTF-8"),
            ("FREEHOLD_PREFIX_CACHE", "0"),
            ("FREEHOLD_CACHE_DISK", "3 GiB"),
            ("X", ""),
        ] {
            let command = Settings::of(&[("FREEHOLD_HOME", at), (name, value)]);
            let env = daemon_env(&command);
            let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let daemon = Settings::of(&env);
            assert_eq!(daemon.ocr_languages, command.ocr_languages, "{name}={value}");
            assert_eq!(daemon.effective(), command.effective(), "{name}={value}");
        }
    }

    #[test]
    fn a_daemon_that_says_nothing_is_waited_for_within_bounds() {
        let short = Duration::from_millis(20);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let other = || reader.try_clone().expect("another handle");
        assert_eq!(first_line(other(), short).expect("readable"), None);
        writer.write_all(b"half a wo").expect("written");
        assert_eq!(first_line(other(), short).expect("readable"), None, "half a line is no word");
        writer.write_all(b"\"ready\"\n").expect("written");
        assert_eq!(first_line(other(), Duration::MAX).expect("readable"), Some(b"\"ready\"\n".to_vec()));
        drop(writer);
        assert_eq!(first_line(other(), Duration::MAX).expect("readable"), Some(Vec::new()), "it ended");
    }

    #[test]
    fn a_large_log_is_put_aside_and_one_old_one_is_kept() {
        let home = tempfile::tempdir().expect("tempdir");
        let path = home.path().join("daemon.log");
        let names = || {
            let mut names: Vec<_> =
                std::fs::read_dir(home.path()).expect("folder").flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        open_log(&path).expect("opened").write_all(b"first").expect("written");
        open_log(&path).expect("opened");
        assert_eq!(names(), ["daemon.log"], "a small one stays");
        for _ in 0..3 {
            File::options().write(true).open(&path).expect("there").set_len(LOG_BYTES_MAX + 1).expect("grown");
            assert_eq!(open_log(&path).expect("opened").metadata().expect("known").len(), 0);
            assert_eq!(names(), ["daemon.log", "daemon.log.old"]);
        }
    }

    #[test]
    fn a_folder_is_ones_own_or_refused() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| home.path().join(name);
        private_dir(&at("own")).expect("made");
        std::os::unix::fs::symlink(at("own"), at("link")).expect("linked");
        private_dir(&at("link")).expect("one's own link to one's own folder");
        assert!(private_dir(Path::new("/dev/null")).is_err(), "not a folder");
        if !rustix::process::geteuid().is_root() {
            assert_eq!(private_dir(Path::new("/")).expect_err("root's").code, Code::FileUnwritable);
            return;
        }
        for theirs in ["link", "own"] {
            std::os::unix::fs::lchown(at(theirs), Some(65534), None).expect("given away");
            let fault = private_dir(&at(theirs)).expect_err("somebody else's");
            assert!(fault.message.contains("belongs to user 65534"), "{theirs}: {fault}");
            std::os::unix::fs::lchown(at(theirs), Some(0), None).expect("taken back");
        }
    }
}
