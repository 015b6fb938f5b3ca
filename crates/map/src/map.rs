//! A map on disk: the record and the indexes derived from it, opened as they are needed.

use crate::catalogue::{Allowed, Catalogue};
use crate::filter::Filter;
use crate::lexical::Lexical;
use crate::reader::Reader;
use crate::record::{Record, Summary};
use crate::vector::{Gone, Segments, Version};
use base::{Code, Fault};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
    vectors: Mutex<Option<(String, Arc<Segments>)>>,
    catalogue: Mutex<Option<Arc<Catalogue>>>,
    /// An indexing run is under way.
    indexing: AtomicBool,
    /// Held while vectors are made, so that none is made twice.
    pub(crate) embedding: Mutex<()>,
    /// Held while a derived index is written. Taken after the index's own lock and before the record's.
    deriving: Mutex<()>,
}

/// The right to change the map; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Alone<'a>(&'a AtomicBool);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
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
            catalogue: Mutex::new(None),
            indexing: AtomicBool::new(false),
            embedding: Mutex::new(()),
            deriving: Mutex::new(()),
        })
    }

    /// Counts of what the map holds.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn summary(&self) -> Result<Summary, Fault> {
        locked(&self.reading).summary()
    }

    /// How many passages can be found; cheaper than [`Map::summary`].
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn passages(&self) -> Result<u64, Fault> {
        locked(&self.reading).passage_count()
    }

    /// The passages that a filter leaves, and the record's generation of which that is true.
    pub(crate) fn allowed(&self, filter: &Filter, reading: &Record) -> Result<(Allowed, u64), Fault> {
        let mut slot = locked(&self.catalogue);
        let generation = reading.generation()?;
        let catalogue = match slot.take() {
            Some(catalogue) if catalogue.generation == generation => catalogue,
            _ => Arc::new(Catalogue::read(reading)?),
        };
        *slot = Some(Arc::clone(&catalogue));
        drop(slot);
        Ok((catalogue.allowed(filter), catalogue.generation))
    }

    /// Whoever holds the guard is the only one that changes the record.
    pub(crate) fn begin(&self) -> Result<Alone<'_>, Fault> {
        if self.indexing.swap(true, Ordering::Acquire) {
            return Err(Fault::new(Code::Busy, "this map is being indexed already")
                .hint("wait for that run to end; `freehold status` shows the maps"));
        }
        Ok(Alone(&self.indexing))
    }

    fn is_indexing(&self) -> bool {
        self.indexing.load(Ordering::Acquire)
    }

    /// The word index, in step with the record unless an indexing run is just writing to both.
    /// A damaged one is rebuilt from the record, and `notices` says so.
    pub(crate) fn lexical(&self, notices: &mut Vec<String>) -> Result<Arc<Lexical>, Fault> {
        if self.is_indexing()
            && let Some(lexical) = &*locked(&self.lexical)
        {
            lexical.refresh()?;
            return Ok(Arc::clone(lexical));
        }
        self.follow(notices).map(|(lexical, _)| lexical)
    }

    /// The word index, surely in step with the record: for the one that holds the right to change it.
    pub(crate) fn lexical_now(&self, notices: &mut Vec<String>) -> Result<Arc<Lexical>, Fault> {
        self.follow(notices).map(|(lexical, _)| lexical)
    }

    /// As [`Map::lexical_now`], for vectors.
    pub(crate) fn vectors_now(&self, model: &str) -> Result<Option<Arc<Segments>>, Fault> {
        self.vectors_of(model, false, Gone::Hide)
    }

    /// Removes the vector index from memory and disk, of whatever model.
    pub(crate) fn drop_vectors(&self) -> Result<(), Fault> {
        let mut slot = locked(&self.vectors);
        let _writing = locked(&self.deriving);
        *slot = None;
        Segments::remove_all(&self.dir)
    }

    /// Brings the word index up to date; returns the generation that it is at.
    pub(crate) fn update_lexical(&self, notices: &mut Vec<String>) -> Result<u64, Fault> {
        self.follow(notices).map(|(_, generation)| generation)
    }

    fn follow(&self, notices: &mut Vec<String>) -> Result<(Arc<Lexical>, u64), Fault> {
        let mut slot = locked(&self.lexical);
        let _writing = locked(&self.deriving);
        let lexical = match &*slot {
            Some(lexical) => Arc::clone(lexical),
            None => {
                let lexical = Lexical::open(&self.dir)?;
                note_replaced(&lexical, notices);
                Arc::clone(slot.insert(Arc::new(lexical)))
            }
        };
        // Not within the match: its guard would be held through it, and the rebuilding needs the record too.
        let caught_up = sound(|| lexical.catch_up(&locked(&self.reading)));
        match caught_up {
            Ok(generation) => Ok((lexical, generation)),
            // A disk that is full stays full; only damage is helped by starting anew.
            Err(fault) if fault.code != Code::MapDamaged => Err(fault),
            Err(fault) => {
                drop(lexical);
                let renewed = self.renew(&mut slot, &fault.to_string(), notices)?;
                let generation = renewed.catch_up(&locked(&self.reading))?;
                Ok((renewed, generation))
            }
        }
    }

    /// Replaces a word index that failed while it was searched.
    pub(crate) fn rebuild_lexical(&self, why: &str, notices: &mut Vec<String>) -> Result<Arc<Lexical>, Fault> {
        let mut slot = locked(&self.lexical);
        let _writing = locked(&self.deriving);
        let renewed = self.renew(&mut slot, why, notices)?;
        renewed.catch_up(&locked(&self.reading))?;
        Ok(renewed)
    }

    fn renew(
        &self,
        slot: &mut Option<Arc<Lexical>>,
        why: &str,
        notices: &mut Vec<String>,
    ) -> Result<Arc<Lexical>, Fault> {
        *slot = None;
        let renewed = Lexical::renew(&self.dir, why)?;
        note_replaced(&renewed, notices);
        Ok(Arc::clone(slot.insert(Arc::new(renewed))))
    }

    /// The vectors of `model`; `None` while no passage has one. In step with the record, except during an
    /// indexing run: then those that there are serve, as each batch would outdate them again.
    pub(crate) fn vectors(&self, model: &str) -> Result<Option<Arc<Segments>>, Fault> {
        let being_made = matches!(self.embedding.try_lock(), Err(TryLockError::WouldBlock));
        self.vectors_of(model, self.is_indexing() || being_made, Gone::Hide)
    }

    /// Brings the vectors up to date at the end of an indexing run, whose guard the caller holds. Nothing is left of
    /// passages that went.
    pub fn update_vectors(&self, model: &str) -> Result<(), Fault> {
        self.vectors_of(model, false, Gone::Erase).map(drop)
    }

    /// Brings the vectors in step after a few changes: rows of passages that went are hidden, and overwritten when they
    /// are many, as to erase a single one is to write its whole segment anew.
    ///
    /// # Errors
    /// As [`Map::update_vectors`].
    pub fn follow_vectors(&self, model: &str) -> Result<(), Fault> {
        self.vectors_of(model, false, Gone::Hide).map(drop)
    }

    fn vectors_of(&self, model: &str, old_will_do: bool, gone: Gone) -> Result<Option<Arc<Segments>>, Fault> {
        let mut slot = locked(&self.vectors);
        let _writing = locked(&self.deriving);
        let reading = locked(&self.reading);
        let wanted = Version { generation: reading.generation()?, changes: reading.vector_changes()? };
        let fits = |segments: &Segments| old_will_do || segments.version == wanted;
        let opened = match slot.take() {
            Some((of, segments)) if of == model => Some(segments),
            _ => Segments::open(&self.dir, model).map(Arc::new),
        };
        let segments = match opened {
            Some(segments) if fits(&segments) && (gone == Gone::Hide || !segments.hides()) => segments,
            opened => {
                let old = opened.map_or_else(|| Segments::empty(&self.dir, model), Arc::unwrap_or_clone);
                Arc::new(old.follow(model, &reading, gone)?)
            }
        };
        *slot = Some((model.to_owned(), Arc::clone(&segments)));
        Ok((segments.count() > 0).then_some(segments))
    }
}

/// Reads the word index. Damaged files can make the library panic; the index is derived, so nothing is lost by starting
/// anew.
pub(crate) fn sound<T>(read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Fault::new(Code::MapDamaged, "the word index can't be read")))
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
