//! The store's folders, and the few ways in which it touches them.

use base::{Bytes, Code, Fault};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Left free beside what a download needs, so that the machine goes on working.
const SPACE_RESERVE_BYTES: u64 = 32 << 20;
/// An unfinished download is kept for a month.
const PARTIAL_AGE_S_MAX: u64 = 30 * 86_400;

/// `models/` and what lies in it; readable by its owner alone.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn make(root: &Path) -> Result<Self, Fault> {
        let layout = Self { root: root.to_path_buf() };
        for dir in [root.to_path_buf(), layout.blobs(), layout.partial()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.and_then(|()| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)))
                .map_err(|error| Fault::io("create", &dir, &error))?;
        }
        layout.sweep(SystemTime::now());
        Ok(layout)
    }

    /// Deletes what unfinished pulls left long ago: nobody will go on from there.
    fn sweep(&self, now: SystemTime) {
        for entry in std::fs::read_dir(self.partial()).into_iter().flatten().flatten() {
            let age =
                entry.metadata().and_then(|about| about.modified()).ok().and_then(|at| now.duration_since(at).ok());
            if age.is_none_or(|age| age.as_secs() < PARTIAL_AGE_S_MAX) {
                continue;
            }
            let path = entry.path();
            let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            tracing::info!(path = %path.display(), ok = gone.is_ok(), "an old unfinished download");
        }
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Where a file of this hash lies. The hash is checked to be one: it becomes a file's name.
    pub(crate) fn blob(&self, sha256: &str) -> Result<PathBuf, Fault> {
        Ok(self.blobs().join(checked_hash(sha256)?))
    }

    /// Whether `path` is a pulled file of ours, which alone may be deleted.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        path.parent() == Some(&self.blobs())
    }

    /// Refuses when less than `needed` bytes are free, with both numbers.
    pub(crate) fn check_space(&self, what: &str, needed: u64) -> Result<(), Fault> {
        // Where the system doesn't tell, the write itself will.
        let Ok(free) = free_bytes(&self.root) else { return Ok(()) };
        if needed.saturating_add(SPACE_RESERVE_BYTES) <= free {
            return Ok(());
        }
        Err(disk_full(what, needed, free, &self.root))
    }

    /// The fault of a write that failed for want of space, or for any other reason.
    pub(crate) fn write_fault(&self, what: &str, path: &Path, needed: u64, error: &io::Error) -> Fault {
        match (error.kind(), free_bytes(&self.root)) {
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Ok(free)) => {
                disk_full(what, needed, free, &self.root)
            }
            _ => Fault::io("write", path, error),
        }
    }
}

fn disk_full(what: &str, needed: u64, free: u64, root: &Path) -> Fault {
    Fault::new(
        Code::DiskFull,
        format!("{what} needs {} more, {} is free in `{}`", Bytes(needed), Bytes(free), root.display()),
    )
    .hint("free some space and run the same command again: what has come stays")
    .hint("set FREEHOLD_HOME to a folder on a larger disk")
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(path)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// 64 hexadecimal digits in lower case and nothing else.
pub(crate) fn checked_hash(sha256: &str) -> Result<&str, Fault> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() == 64 && sha256.bytes().all(digit) {
        return Ok(sha256);
    }
    let shown: String = sha256.chars().take(80).collect();
    Err(Fault::new(Code::DownloadFailed, format!("`{}` isn't a SHA-256", shown.escape_default())))
}

/// Puts `bytes` in place of the file at `path`, whole or not at all; for its owner alone.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private_file(&beside, true)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder_of(path)
}

/// Gives a finished file its name. Both paths lie on one disk.
pub(crate) fn settle(from: &Path, to: &Path) -> Result<(), Fault> {
    File::open(from)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(from, to))
        .and_then(|()| sync_folder_of(to))
        .map_err(|error| Fault::io("write", to, &error))
}

/// Opens for writing; `fresh` empties what is there, otherwise writing goes on at its end.
pub(crate) fn private_file(path: &Path, fresh: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if fresh {
        options.write(true).truncate(true)
    } else {
        options.append(true).read(true)
    };
    options.open(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_can_t_name_another_place() {
        let good = "0123456789abcdef".repeat(4);
        assert!(checked_hash(&good).is_ok());
        for bad in ["", "../../../etc/passwd", &good[1..], &good.to_uppercase(), &format!("{}g", &good[1..])] {
            assert!(checked_hash(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_disk_is_told_with_both_numbers() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::make(home.path()).unwrap();
        layout.check_space("a model", 1).unwrap();
        let fault = layout.check_space("a model", 1 << 60).unwrap_err();
        assert_eq!(fault.code, Code::DiskFull);
        assert!(fault.message.contains("1048576 TiB more") && fault.message.contains("is free"), "{fault}");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let fault = layout.write_fault("a model", Path::new("/x"), 5, &full);
        assert!(fault.message.contains("5 B more"), "{fault}");
    }

    #[test]
    fn unfinished_downloads_are_kept_for_a_month() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::make(home.path()).unwrap();
        std::fs::write(layout.partial().join("a.part"), "a").unwrap();
        std::fs::create_dir(layout.partial().join("mirror-b-1")).unwrap();
        let left = || std::fs::read_dir(layout.partial()).unwrap().count();
        let now = SystemTime::now();
        layout.sweep(now + std::time::Duration::from_secs(PARTIAL_AGE_S_MAX - 60));
        assert_eq!(left(), 2);
        layout.sweep(now + std::time::Duration::from_secs(PARTIAL_AGE_S_MAX + 60));
        assert_eq!(left(), 0);
    }

    #[test]
    fn replacing_is_private_and_leaves_nothing_beside() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("index.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
