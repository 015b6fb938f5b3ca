//! One model as the store knows it.

use crate::model::Model;
use base::{Bytes, ModelFacts, ModelName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// A person's own file, used where it lies.
    InPlace,
    /// A hub's repository, and the file or files there.
    Hub { hub: String, repo: String, files: Vec<String> },
    /// A package of the package index.
    Mirror { package: String, version: String },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace => f.write_str("in place"),
            Self::Hub { hub, repo, .. } => write!(f, "{hub}/{repo}"),
            Self::Mirror { package, version } => write!(f, "package index: {package} {version}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub name: ModelName,
    /// One file, or the parts of a split model in order. Absolute.
    pub parts: Vec<PathBuf>,
    pub facts: ModelFacts,
    pub source: Source,
    /// As the file or its source states it; empty when neither does: then it is unknown, not free.
    pub license: String,
    /// Of the file as it lies there; known of pulled models of one part.
    pub sha256: Option<String>,
    /// All parts together.
    pub bytes: Bytes,
    /// How each part looked when it was read.
    pub(crate) seen: Vec<Seen>,
    /// Rises with every addition: the order of arrival.
    pub(crate) serial: u64,
}

/// Size and time of change: enough to notice that a file isn't the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    bytes: u64,
    modified_ns: u64,
}

impl Seen {
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let about = std::fs::metadata(path)?;
        let since = about.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { bytes: about.len(), modified_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) })
    }
}

impl Entry {
    pub(crate) fn new(name: String, model: Model, source: Source, serial: u64) -> Self {
        let Model { facts, header: _, parts, bytes } = model;
        let license = facts.license.clone();
        let mut entry = Self {
            name: ModelName(name),
            parts,
            facts,
            source,
            license,
            sha256: None,
            bytes,
            seen: Vec::new(),
            serial,
        };
        entry.look();
        entry
    }

    /// Notes how the parts look now. A part that vanished this instant shows as a problem later.
    pub(crate) fn look(&mut self) {
        let gone = Seen { bytes: 0, modified_ns: 0 };
        self.seen = self.parts.iter().map(|part| Seen::of(part).unwrap_or(gone)).collect();
    }

    /// Set when a file has gone or changed since it was read; looks at the disk.
    pub fn problem(&self) -> Option<String> {
        self.parts.iter().zip(&self.seen).find_map(|(part, seen)| {
            let path = part.display();
            match Seen::of(part) {
                Ok(now) if now == *seen => None,
                Ok(now) if now.bytes != seen.bytes => {
                    Some(format!("`{path}` had {} bytes when it was added, now {}", seen.bytes, now.bytes))
                }
                Ok(_) => Some(format!("`{path}` was changed since it was added: add it again")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!("`{path}` is gone")),
                Err(error) => Some(format!("`{path}` can't be read: {error}")),
            }
        })
    }

    pub(crate) fn pulled(&self) -> bool {
        self.source != Source::InPlace
    }
}
