//! The model files of this machine: found in place or pulled, checked before anything else sees them.
//!
//! Owns `models/` under the home folder: `index.json` (what is known), `blobs/<sha256>` (what was
//! pulled) and `partial/` (what is still coming). A person's own files are used where they lie and are
//! never copied, changed or deleted. Headers are read by safe, bounds-checked code ([`gguf`]); the
//! network is reached only through `gateway`. Start with [`Store`], then [`read_header`].

mod convert;
mod disk;
mod entry;
pub mod facts;
pub mod gguf;
mod index;
mod model;
mod name;
mod pull;
mod scan;
mod vocabulary;

pub use entry::{Entry, Source};
pub use model::{Model, read_model};
pub use pull::PullStep;

use base::{Code, Fault, Modality, ModelFacts, ModelName};
use index::{Index, IndexFile};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reads and checks a model's header: facts for people and planners, the header for the curious.
/// For a split model `path` may be any part; the facts are the whole model's.
pub fn read_header(path: &Path) -> Result<(ModelFacts, gguf::Header), Fault> {
    let model = read_model(path)?;
    Ok((model.facts, model.header))
}

/// All models that this machine knows. One per daemon; every change is on disk before a call returns.
#[derive(Debug)]
pub struct Store {
    layout: disk::Layout,
    file: IndexFile,
    index: Mutex<Index>,
    /// Held while something is pulled: downloads share the partial files.
    pulling: Mutex<()>,
    vocabularies: Mutex<vocabulary::Prints>,
}

impl Store {
    /// Opens the store under `home`, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, Fault> {
        let layout = disk::Layout::make(&home.join("models"))?;
        let file = IndexFile::new(layout.index());
        let index = file.read()?;
        Ok(Self { layout, file, index: Mutex::new(index), pulling: Mutex::new(()), vocabularies: Mutex::default() })
    }

    /// Every model by name, those with a [`Entry::problem`] included.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// By name without regard to case: the whole name, the name without its tag, or a beginning that
    /// only one model has. Of several forms of one model the one that is taken when none is named.
    pub fn find(&self, name: &str) -> Result<Entry, Fault> {
        let index = self.lock();
        let found = index.matches(name);
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(index.missing(name)),
            several => {
                let base = |entry: &Entry| entry.name.0.split(':').next().map(str::to_lowercase);
                let taken = |entry: &&&Entry| {
                    index.default_for(entry.facts.modality).is_some_and(|default| default.name == entry.name)
                };
                let wanted = Some(name.trim().to_lowercase());
                if several.iter().all(|entry| base(entry) == wanted)
                    && let Some(entry) = several.iter().find(taken)
                {
                    return Ok((*entry).clone());
                }
                let names: Vec<_> = several.iter().map(|entry| format!("`{}`", entry.name.0)).collect();
                Err(Fault::new(Code::ModelMissing, format!("`{name}` could be {}", names.join(" or ")))
                    .hint("give the whole name"))
            }
        }
    }

    /// Whether a token means the same to two models. The header of each is read once for that, as long as its file stays as it is.
    pub fn same_vocabulary(&self, one: &Entry, other: &Entry) -> bool {
        let mut prints = self.vocabularies.lock().unwrap_or_else(PoisonError::into_inner);
        let one = prints.of(one);
        one.is_some() && one == prints.of(other)
    }

    /// The model taken when none is named: the chosen one, else the one pulled last, else the one added
    /// last; never one with a problem.
    pub fn default_for(&self, modality: Modality) -> Option<Entry> {
        self.lock().default_for(modality).cloned()
    }

    /// Makes a model the one taken for its kind when none is named.
    pub fn set_default(&self, name: &str) -> Result<Entry, Fault> {
        let entry = self.find(name)?;
        if entry.facts.modality == Modality::Adapter {
            let name = &entry.name.0;
            return Err(Fault::new(Code::ModelUnfit, format!("`{name}` is an adapter and runs only with a model"))
                .hint(format!("name both where it is to be used: `MODEL+{name}`")));
        }
        self.change(|index| {
            index.choose(&entry);
            Ok(entry.clone())
        })
    }

    /// Marks a model to be kept in memory once it is there, or takes the mark away.
    pub fn set_pinned(&self, name: &str, pinned: bool) -> Result<Entry, Fault> {
        let entry = self.find(name)?;
        self.change(|index| {
            index.pin(&entry.name, pinned);
            Ok(entry.clone())
        })
    }

    pub fn is_pinned(&self, name: &ModelName) -> bool {
        self.lock().is_pinned(name)
    }

    /// Adds a file, or every model in a folder, where it lies. Files that aren't models are left out
    /// with a warning in the log; [`Store::add_each`] tells them.
    pub fn add(&self, path: &Path) -> Result<Vec<Entry>, Fault> {
        self.add_each(path, &mut |path, fault| tracing::warn!(path = %path.display(), %fault, "not added"))
    }

    /// As [`Store::add`]; `refused` hears of each file in the folder that can't be used, and why.
    /// It is an error when nothing at all could be added.
    pub fn add_each(&self, path: &Path, refused: &mut dyn FnMut(&Path, &Fault)) -> Result<Vec<Entry>, Fault> {
        let models = scan::models_at(path, refused)?;
        self.change(|index| Ok(models.into_iter().map(|model| index.adopt(model, Source::InPlace, None)).collect()))
    }

    /// Forgets a model. A pulled file is deleted, a person's own file stays where it lies.
    pub fn remove(&self, name: &str) -> Result<Entry, Fault> {
        let removed = self.change(|index| index.remove(name))?;
        if removed.source != Source::InPlace {
            let index = self.lock();
            let unused = |part: &&PathBuf| !index.entries.iter().any(|entry| entry.parts.contains(part));
            for part in removed.parts.iter().filter(|part| self.layout.owns(part)).filter(unused) {
                match std::fs::remove_file(part) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Fault::io("delete", part, &error));
                    }
                    _ => {}
                }
            }
        }
        Ok(removed)
    }

    /// Changes the index in memory and on disk, or neither.
    fn change<T>(&self, edit: impl FnOnce(&mut Index) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut index = self.lock();
        let mut changed = index.clone();
        let result = edit(&mut changed)?;
        changed.sort();
        self.file.write(&changed)?;
        *index = changed;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // `change` replaces the whole value at its end: a panic leaves the old one, which is good.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For messages: `a`, `b` and 3 more.
fn listed(names: &[&ModelName]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<_> = names.iter().take(SHOWN_MAX).map(|name| format!("`{}`", name.0)).collect();
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
