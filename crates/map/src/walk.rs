//! Which files of a folder are looked at: ignore rules like git's, and what is never indexed.

use crate::extract;
use crate::map::locked;
use crate::scope::{self, Scope};
use base::{Code, Fault};
use ignore::{DirEntry, WalkBuilder};
use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

/// A file as the system describes it, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// Size and time of change: while both stay, the file isn't read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    pub modified_ns: i64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            bytes: metadata.len(),
            modified_ns: modified.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(0)),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) files: Vec<Found>,
    pub(crate) skipped: Vec<(PathBuf, Fault)>,
    /// Files left out because they hold keys or secrets, by their names.
    pub(crate) secrets: u64,
    /// Folders left out because they say that they are caches, or are maps of this program.
    pub(crate) left_out: Vec<PathBuf>,
    /// Folders that were listed: what a watcher has to watch.
    pub(crate) folders: Vec<PathBuf>,
    /// Sources that aren't there now but may come back, like a disk that isn't plugged in.
    pub(crate) away: Vec<PathBuf>,
    pub(crate) cancelled: bool,
}

/// A person's own ignore rules, beside those for git.
const IGNORE_FILE: &str = ".freeholdignore";

/// Files that decide what else in their folder is read: when one of them changes, the folder is looked at anew.
pub(crate) const DECIDING: [&str; 5] = [".gitignore", ".ignore", IGNORE_FILE, "CACHEDIR.TAG", "pyvenv.cfg"];

/// Folders that hold no one's documents, whatever their ignore rules say.
const NEVER_FOLDERS: [&str; 8] = [
    "node_modules",
    "__pycache__",
    ".git",
    ".ssh",
    ".gnupg",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];
const SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Whether a file's name says that it holds a key or a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
        || name.starts_with(".env.")
        || name == ".netrc"
}

const SECRET_NAMES: [&str; 12] = [
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "credentials",
    "credentials.json",
    "secrets.json",
    "secrets.yaml",
    "secrets.yml",
    "secrets.toml",
    "wallet.dat",
    "htpasswd",
];
const SECRET_ENDS: [&str; 13] =
    [".pem", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".kdb", ".gpg", ".pgp", ".ovpn", ".env", ".ppk", ".asc"];

/// What no map ever reads, as sentences for people; ignore files add to it.
pub fn never_read() -> Vec<String> {
    let list = |words: &[&str]| words.join(", ");
    vec![
        format!("folders: {}", list(&NEVER_FOLDERS)),
        format!("system folders: {}", list(&SYSTEM)),
        "virtual environments, build folders of Cargo, folders with a CACHEDIR.TAG, this program's own maps".into(),
        format!("keys and secrets by name: {}, .netrc, .env.*, *{}", list(&SECRET_NAMES), SECRET_ENDS.join(", *")),
        "private keys by their first line, whatever their name".into(),
        format!("hidden files, links, and what .gitignore, .ignore and {IGNORE_FILE} name"),
    ]
}

/// Whether a file's first bytes say that it is a private key, whatever its name.
pub(crate) fn is_private_key(bytes: &[u8]) -> bool {
    const HEAD_BYTES: usize = 4096;
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    head.trim_ascii_start().starts_with(b"-----BEGIN ")
        && head.windows(17).any(|window| window == b"PRIVATE KEY-----\n" || window == b"PRIVATE KEY-----\r")
}

/// Why a folder isn't looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Never {
    /// Everybody expects it.
    Silently,
    /// By what lies in it, which its owner may not know.
    Told,
}

fn never(entry: &DirEntry, own: &Path) -> Option<Never> {
    if !entry.file_type().is_some_and(|kind| kind.is_dir()) {
        return None;
    }
    let path = entry.path();
    let name = entry.file_name().to_string_lossy();
    let holds = |file: &str| path.join(file).exists();
    if NEVER_FOLDERS.contains(&&*name)
        || SYSTEM.iter().any(|system| path == Path::new(system))
        || path.starts_with(own)
        || holds("pyvenv.cfg")
        || (name == "target" && path.parent().is_some_and(|parent| parent.join("Cargo.toml").exists()))
    {
        return Some(Never::Silently);
    }
    // Somebody's own `map.db` alone makes no map of ours.
    (holds("CACHEDIR.TAG") || (holds(crate::record::FILE) && holds(CARD))).then_some(Never::Told)
}

/// Whether a name begins with a dot, as programs hide what is theirs. Folders of mail have such names too.
fn is_hidden(entry: &DirEntry) -> bool {
    let holds = |folder: &str| entry.path().join(folder).is_dir();
    entry.file_name().to_string_lossy().starts_with('.') && !(holds("cur") && holds("new") && holds("tmp"))
}

/// What stands beside the record of every map of this program.
const CARD: &str = "map.json";

/// Lists the files of a scope, in the order of their names. `own` is the map's own folder.
pub(crate) fn walk(scope: &Scope, own: &Path, cancel: &AtomicBool, seen: &mut dyn FnMut(u64)) -> Walked {
    let mut walked = Walked::default();
    for source in &scope.sources {
        if !scope.wants(source) || scope.has_forgotten(source) {
            continue;
        }
        if std::fs::symlink_metadata(source).is_err() {
            if scope::is_away(source, source.parent().is_some_and(Path::exists)) {
                walked.away.push(source.clone());
            }
            continue;
        }
        walk_source(source, scope, own, cancel, seen, &mut walked);
    }
    // One source may lie in another.
    if scope.sources.len() > 1 {
        let mut known = HashSet::new();
        walked.files.retain(|found| known.insert(found.path.clone()));
    }
    walked
}

fn walk_source(
    root: &Path,
    scope: &Scope,
    own: &Path,
    cancel: &AtomicBool,
    seen: &mut dyn FnMut(u64),
    walked: &mut Walked,
) {
    let secrets = Arc::new(AtomicU64::new(0));
    let left_out = Arc::new(Mutex::new(Vec::new()));
    let (counter, own, leaving) = (Arc::clone(&secrets), own.to_path_buf(), Arc::clone(&left_out));
    let scope = scope.clone();
    let walk = WalkBuilder::new(root)
        .follow_links(false)
        .hidden(false)
        .git_global(false)
        .require_git(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(move |entry| {
            if !scope.wants(entry.path()) || scope.has_forgotten(entry.path()) {
                return false;
            }
            if entry.depth() > 0 && is_hidden(entry) {
                return false;
            }
            let secret =
                entry.file_type().is_some_and(|kind| kind.is_file()) && is_secret(&entry.file_name().to_string_lossy());
            if secret {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if secret || entry.depth() == 0 {
                return !secret;
            }
            let never = never(entry, &own);
            if never == Some(Never::Told) {
                locked(&leaving).push(entry.path().to_path_buf());
            }
            never.is_none()
        })
        .build();
    for entry in walk {
        if cancel.load(Ordering::Relaxed) {
            walked.cancelled = true;
            break;
        }
        match entry {
            Ok(entry) => look(&entry, walked),
            Err(error) => {
                walked.skipped.push((path_of(&error).unwrap_or_else(|| root.to_path_buf()), unlisted(&error)))
            }
        }
        seen(walked.files.len() as u64);
    }
    walked.secrets += secrets.load(Ordering::Relaxed);
    walked.left_out.append(&mut locked(&left_out));
}

fn look(entry: &DirEntry, walked: &mut Walked) {
    let Some(kind) = entry.file_type() else { return };
    let path = entry.path().to_path_buf();
    if kind.is_dir() {
        walked.folders.push(path);
        return;
    }
    let skip = |message: String, hint: &str| Fault::new(Code::FileUnreadable, message).hint(hint);
    if kind.is_symlink() {
        let fault = match std::fs::metadata(&path) {
            Ok(_) => skip("it is a link, and links aren't followed".into(), "index the place that it points to"),
            Err(_) => {
                skip("it is a link to something that isn't there".into(), "remove the link or restore its target")
            }
        };
        walked.skipped.push((path, fault));
        return;
    }
    if !kind.is_file() {
        let fault = skip("it is no ordinary file".into(), "nothing needs to be done");
        walked.skipped.push((path, fault));
        return;
    }
    let name = entry.file_name().to_string_lossy();
    if let Some(what) = extract::unreadable(&name).filter(|_| !extract::is_picture(&name)) {
        let hint = if what == extract::PICTURE {
            "the words on PNG, JPEG, TIFF, WebP and BMP are recognised; to have them indexed, convert it to one of these"
        } else {
            "export it as text, Markdown, HTML, PDF, DOCX or XLSX to have it indexed"
        };
        let fault = Fault::new(Code::DocumentInvalid, format!("it is {what}")).hint(hint);
        walked.skipped.push((path, fault));
        return;
    }
    match entry.metadata() {
        Ok(metadata) => walked.files.push(Found { path, stamp: Stamp::of(&metadata) }),
        Err(error) => walked.skipped.push((path, unlisted(&error))),
    }
}

fn path_of(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path.clone()),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        ignore::Error::Loop { child, .. } => Some(child.clone()),
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        _ => None,
    }
}

fn unlisted(error: &ignore::Error) -> Fault {
    Fault::new(Code::FileUnreadable, "it can't be looked at").cause(error).hint("check who owns it, with `ls -l`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_secrets_are_told_by_name_or_first_line() {
        for name in ["id_ed25519", "server.pem", ".env", "prod.env", ".env.local", "Vault.KDBX", ".netrc"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["id_ed25519.pub", "environment.md", "keys.md", "credentials.md"] {
            assert!(!is_secret(name), "{name}");
        }
        assert!(is_private_key(b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc"));
        assert!(!is_private_key(b"How to make a -----BEGIN RSA PRIVATE KEY-----\n"));
        assert!(!is_private_key(b"-----BEGIN CERTIFICATE-----\nabc"));
    }
}
