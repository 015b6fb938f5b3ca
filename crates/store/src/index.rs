//! The list of known models, and the one file that holds it.

use crate::disk;
use crate::entry::{Entry, Source};
use crate::model::Model;
use crate::name::{name_of, unique};
use base::{Code, Fault, Modality, ModelName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
/// A list of a thousand models with long templates stays far below.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Plain data; everything but [`Index::adopt`]'s look at a file is pure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    /// Chosen by the person.
    default_chat: Option<ModelName>,
    default_embed: Option<ModelName>,
    #[serde(default)]
    default_rerank: Option<ModelName>,
    last_serial: u64,
    /// Kept in memory once they are there.
    #[serde(default)]
    pinned: BTreeSet<ModelName>,
    pub(crate) entries: Vec<Entry>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            version: VERSION,
            default_chat: None,
            default_embed: None,
            default_rerank: None,
            last_serial: 0,
            pinned: BTreeSet::new(),
            entries: Vec::new(),
        }
    }
}

impl Index {
    /// Adds a model, or refreshes the entry that already stands for the same file.
    pub(crate) fn adopt(&mut self, model: Model, source: Source, name: Option<&str>) -> Entry {
        self.last_serial += 1;
        let known = self.entries.iter_mut().find(|entry| same_files(&entry.parts, &model.parts));
        if let Some(known) = known {
            let mut entry = Entry::new(known.name.0.clone(), model, source, self.last_serial);
            // A person's own file that lies in the store's folder is still what was pulled.
            if known.pulled() && !entry.pulled() {
                entry.source = known.source.clone();
                entry.sha256 = known.sha256.clone();
            }
            *known = entry.clone();
            return entry;
        }
        let wished = name.map_or_else(|| name_of(&model.parts[0], &model.header, &model.facts), str::to_owned);
        let taken = |name: &str| self.entries.iter().any(|entry| entry.name.0.eq_ignore_ascii_case(name));
        let entry = Entry::new(unique(&wished, taken), model, source, self.last_serial);
        self.entries.push(entry.clone());
        entry
    }

    /// Replaces the entry of the same name.
    pub(crate) fn put(&mut self, entry: Entry) {
        self.entries.retain(|other| other.name != entry.name);
        self.entries.push(entry);
    }

    pub(crate) fn sort(&mut self) {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
    }

    pub(crate) fn matches(&self, name: &str) -> Vec<&Entry> {
        let wanted = name.trim().to_lowercase();
        let by = |test: &dyn Fn(&str) -> bool| -> Vec<&Entry> {
            self.entries.iter().filter(|entry| test(&entry.name.0.to_lowercase())).collect()
        };
        if wanted.is_empty() {
            return Vec::new();
        }
        let whole = by(&|name| name == wanted);
        if !whole.is_empty() {
            return whole;
        }
        let untagged = by(&|name| name.split(':').next() == Some(&wanted));
        if !untagged.is_empty() {
            return untagged;
        }
        by(&|name| name.starts_with(&wanted))
    }

    pub(crate) fn missing(&self, name: &str) -> Fault {
        if self.entries.is_empty() {
            return Fault::new(Code::ModelMissing, format!("there is no model `{name}`, nor any other yet"))
                .hint("`freehold pull starter` fetches two small ones (190 MB)")
                .hint("`freehold models add FILE` uses a GGUF file that you have");
        }
        let names: Vec<_> = self.entries.iter().map(|entry| &entry.name).collect();
        Fault::new(Code::ModelMissing, format!("there is no model `{name}`; there is {}", crate::listed(&names)))
            .hint("`freehold models` lists what is there, `freehold pull` fetches more")
    }

    pub(crate) fn default_for(&self, modality: Modality) -> Option<&Entry> {
        let chosen = match modality {
            Modality::Chat => &self.default_chat,
            Modality::Embed => &self.default_embed,
            Modality::Rerank => &self.default_rerank,
            // It is always named.
            Modality::Adapter => return None,
        };
        let usable = |entry: &&Entry| entry.facts.modality == modality && entry.problem().is_none();
        let chosen = self.entries.iter().filter(|entry| Some(&entry.name) == chosen.as_ref()).find(usable);
        chosen.or_else(|| self.entries.iter().filter(usable).max_by_key(|entry| (entry.pulled(), entry.serial)))
    }

    pub(crate) fn choose(&mut self, entry: &Entry) {
        let name = Some(entry.name.clone());
        match entry.facts.modality {
            Modality::Chat => self.default_chat = name,
            Modality::Embed => self.default_embed = name,
            Modality::Rerank => self.default_rerank = name,
            Modality::Adapter => {}
        }
    }

    pub(crate) fn pin(&mut self, name: &ModelName, pinned: bool) {
        if pinned {
            self.pinned.insert(name.clone());
        } else {
            self.pinned.remove(name);
        }
    }

    pub(crate) fn is_pinned(&self, name: &ModelName) -> bool {
        self.pinned.contains(name)
    }

    /// By whole name only: nothing is forgotten by a beginning.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Entry, Fault> {
        let place = self.entries.iter().position(|entry| entry.name.0.eq_ignore_ascii_case(name.trim()));
        let Some(place) = place else { return Err(self.missing(name)) };
        let entry = self.entries.remove(place);
        self.pinned.remove(&entry.name);
        for chosen in [&mut self.default_chat, &mut self.default_embed, &mut self.default_rerank] {
            chosen.take_if(|chosen| *chosen == entry.name);
        }
        Ok(entry)
    }
}

/// The same first file, also under another path: links lead to one entry.
fn same_files(known: &[PathBuf], new: &[PathBuf]) -> bool {
    let real = |parts: &[PathBuf]| parts.first().and_then(|part| part.canonicalize().ok());
    known == new || real(known).is_some_and(|known| Some(known) == real(new))
}

#[derive(Debug)]
pub(crate) struct IndexFile {
    path: PathBuf,
}

impl IndexFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn read(&self) -> Result<Index, Fault> {
        let path = &self.path;
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(Fault::io("read", path, &error)),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| Fault::io("read", path, &error))?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| damaged(path).cause(error))?;
        if index.version > VERSION {
            return Err(Fault::new(
                Code::ConfigInvalid,
                format!("`{}` is of version {}; this Freehold reads up to {VERSION}", path.display(), index.version),
            )
            .hint("a newer Freehold wrote it: start that one"));
        }
        Ok(index)
    }

    pub(crate) fn write(&self, index: &Index) -> Result<(), Fault> {
        let text = serde_json::to_vec_pretty(index).map_err(|error| damaged(&self.path).cause(error))?;
        disk::replace(&self.path, &text).map_err(|error| Fault::io("write", &self.path, &error))
    }
}

fn damaged(path: &Path) -> Fault {
    let path = path.display();
    Fault::new(Code::ConfigInvalid, format!("the list of models `{path}` can't be understood"))
        .hint(format!("`mv {path} {path}.old` starts a new list; the model files stay, add or pull them again"))
}

#[cfg(test)]
mod tests;
