//! A map on disk: the record and the indexes derived from it, opened as they are needed.

use crate::lexical::Lexical;
use crate::reader::Reader;
use crate::record::{Record, Summary};
use crate::vector::{Vectors, Version};
use base::{Code, Fault};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Makes vectors from texts. `runtime` implements it over the engine.
pub trait Embed: Send + Sync {
    /// Name of the model; vectors of different models are never compared.
    fn model(&self) -> String;

    /// One unit-length vector for each text, in order.
    ///
    /// # Errors
    /// When the model can't be run; the map goes on with words alone.
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault>;
}

/// Passages of a person's files, kept in one folder.
#[derive(Debug)]
pub struct Map {
    pub(crate) dir: PathBuf,
    pub(crate) reader: Reader,
    /// Written by `index` alone.
    pub(crate) record: Mutex<Record>,
    /// A second connection, so that searching goes on while indexing writes.
    pub(crate) reading: Mutex<Record>,
    lexical: Mutex<Option<Arc<Lexical>>>,
    vectors: Mutex<Option<(String, Arc<Vectors>)>>,
    indexing: Mutex<()>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Map {
    /// Opens the map in `dir`, or makes an empty one. Only the record is opened; indexes follow on first use.
    ///
    /// # Errors
    /// [`Code::MapDamaged`] when the record can't be used; the hint makes it anew from the files.
    pub fn open(dir: &Path, reader: Reader) -> Result<Self, Fault> {
        own_folder(dir).map_err(|error| Fault::io("create", dir, &error))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            reader,
            record: Mutex::new(Record::open(dir)?),
            reading: Mutex::new(Record::open(dir)?),
            lexical: Mutex::new(None),
            vectors: Mutex::new(None),
            indexing: Mutex::new(()),
        })
    }

    /// Counts of what the map holds.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn summary(&self) -> Result<Summary, Fault> {
        locked(&self.reading).summary()
    }

    /// Whoever holds the guard is the only one that changes the map.
    pub(crate) fn begin(&self) -> Result<MutexGuard<'_, ()>, Fault> {
        match self.indexing.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Fault::new(Code::Busy, "this map is being indexed already")
                .hint("wait for that run to end; `freehold status` shows the maps")),
        }
    }

    /// The word index, in step with the record unless an indexing run is just writing to both.
    /// A damaged one is rebuilt from the record, and `notices` says so.
    pub(crate) fn lexical(&self, notices: &mut Vec<String>) -> Result<Arc<Lexical>, Fault> {
        let mut slot = locked(&self.lexical);
        let lexical = match &*slot {
            Some(lexical) => Arc::clone(lexical),
            None => {
                let lexical = Lexical::open(&self.dir)?;
                note_replaced(&lexical, notices);
                Arc::clone(slot.insert(Arc::new(lexical)))
            }
        };
        match self.begin() {
            Ok(_alone) => {
                if let Err(fault) = lexical.catch_up(&locked(&self.reading)) {
                    let renewed = self.renew(&mut slot, lexical, &fault.to_string(), notices)?;
                    renewed.catch_up(&locked(&self.reading))?;
                    return Ok(renewed);
                }
            }
            Err(_) => lexical.refresh()?,
        }
        Ok(lexical)
    }

    /// Brings the word index up to date during an indexing run, whose guard the caller holds.
    pub(crate) fn update_lexical(&self, notices: &mut Vec<String>) -> Result<u64, Fault> {
        let mut slot = locked(&self.lexical);
        let lexical = match &*slot {
            Some(lexical) => Arc::clone(lexical),
            None => {
                let lexical = Lexical::open(&self.dir)?;
                note_replaced(&lexical, notices);
                Arc::clone(slot.insert(Arc::new(lexical)))
            }
        };
        match lexical.catch_up(&locked(&self.reading)) {
            Err(fault) if fault.code == Code::MapDamaged => {
                let renewed = self.renew(&mut slot, lexical, &fault.to_string(), notices)?;
                renewed.catch_up(&locked(&self.reading))
            }
            other => other,
        }
    }

    /// Replaces a word index that failed while it was searched.
    pub(crate) fn rebuild_lexical(&self, why: &str, notices: &mut Vec<String>) -> Result<Arc<Lexical>, Fault> {
        let _alone = self.begin()?;
        let mut slot = locked(&self.lexical);
        let old = slot.take();
        drop(old);
        let renewed = Lexical::renew(&self.dir, why)?;
        note_replaced(&renewed, notices);
        renewed.catch_up(&locked(&self.reading))?;
        Ok(Arc::clone(slot.insert(Arc::new(renewed))))
    }

    fn renew(
        &self,
        slot: &mut Option<Arc<Lexical>>,
        old: Arc<Lexical>,
        why: &str,
        notices: &mut Vec<String>,
    ) -> Result<Arc<Lexical>, Fault> {
        *slot = None;
        drop(old);
        let renewed = Lexical::renew(&self.dir, why)?;
        note_replaced(&renewed, notices);
        Ok(Arc::clone(slot.insert(Arc::new(renewed))))
    }

    /// The vectors of `model`, in step with the record; `None` while no passage has one.
    pub(crate) fn vectors(&self, model: &str) -> Result<Option<Arc<Vectors>>, Fault> {
        let mut slot = locked(&self.vectors);
        let reading = locked(&self.reading);
        let wanted = Version { generation: reading.generation()?, changes: reading.vector_changes()? };
        if let Some((of, vectors)) = &*slot
            && of == model
            && vectors.version == wanted
        {
            return Ok(Some(Arc::clone(vectors)));
        }
        let current = Vectors::open(&self.dir, model).filter(|vectors| vectors.version == wanted);
        let vectors = match current {
            Some(vectors) => Some(vectors),
            None => Vectors::build(&self.dir, model, &reading)?,
        };
        *slot = vectors.map(|vectors| (model.to_owned(), Arc::new(vectors)));
        Ok(slot.as_ref().map(|(_, vectors)| Arc::clone(vectors)))
    }
}

fn note_replaced(lexical: &Lexical, notices: &mut Vec<String>) {
    if let Some(why) = &lexical.replaced {
        notices.push(format!("the word index was damaged and has been rebuilt from the record ({why})"));
    }
}

fn own_folder(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
