//! The map as its users meet it: real files, the real confined reader, the real indexes.

mod about;
mod bad;
mod crash;
mod damage;
mod edit;
mod embedding;
mod erase;
mod filter;
mod fresh;
mod hostile;
mod large;
mod library;
mod proof;
mod recognise;
mod rerank;
mod sources;

use base::Fault;
use freehold_map::{Embed, Found, IndexStep, Map, Query, Reader, Report, words};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// The program that holds the hidden `extract` command for these tests.
pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_freehold-map-probe");

/// A reader that was taken over; see there for what it does with which file.
pub(crate) const HOSTILE: &str = env!("CARGO_BIN_EXE_freehold-map-hostile");

/// A folder to index and a place for its map.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("files")).expect("a folder");
        Self { dir }
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    pub(crate) fn map_dir(&self) -> PathBuf {
        self.dir.path().join("map")
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.files().join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        std::fs::write(&path, bytes).expect("it is written");
        path
    }

    pub(crate) fn map(&self) -> Map {
        self.map_with(reader())
    }

    pub(crate) fn map_with(&self, reader: Reader) -> Map {
        Map::open(&self.map_dir(), reader).expect("it opens")
    }
}

pub(crate) fn reader() -> Reader {
    Reader::new(PROBE.into())
}

/// A run and everything that it said.
pub(crate) struct Ran {
    pub(crate) result: Result<Report, Fault>,
    pub(crate) steps: Vec<IndexStep>,
}

impl Ran {
    pub(crate) fn report(&self) -> &Report {
        self.result.as_ref().expect("the run succeeds")
    }

    pub(crate) fn fault(&self) -> &Fault {
        self.result.as_ref().expect_err("the run fails")
    }

    /// Why a file was skipped.
    pub(crate) fn skipped(&self, name: &str) -> &Fault {
        let found = self.steps.iter().find_map(|step| match step {
            IndexStep::Skipped { path, fault } if path.ends_with(name) => Some(fault),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("`{name}` isn't skipped: {:#?}", self.steps))
    }

    pub(crate) fn notices(&self) -> Vec<&str> {
        fn notice(step: &IndexStep) -> Option<&str> {
            match step {
                IndexStep::Notice(text) => Some(text.as_str()),
                _ => None,
            }
        }
        self.steps.iter().filter_map(notice).collect()
    }
}

pub(crate) fn index(map: &Map, folder: &Path, embed: Option<&dyn Embed>) -> Ran {
    let mut steps = Vec::new();
    let result = map.index(folder, embed, &mut |step| steps.push(step), &AtomicBool::new(false));
    Ran { result, steps }
}

pub(crate) fn search(map: &Map, text: &str) -> Found {
    map.search(&Query { text: text.into(), limit: 8, ..Default::default() }, None).expect("it searches")
}

/// File names of the hits.
pub(crate) fn names(found: &Found) -> Vec<String> {
    found.hits.iter().map(|hit| hit.path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

/// A stand-in for a model: words of one stem point the same way. Counts what it was given.
#[derive(Default)]
pub(crate) struct Hashing {
    pub(crate) texts: Mutex<Vec<String>>,
}

impl Embed for Hashing {
    fn model(&self) -> String {
        "hashing".into()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        self.texts.lock().expect("no thread panicked").extend(texts.iter().cloned());
        Ok(texts.iter().map(|text| hashed(text)).collect())
    }
}

impl Hashing {
    /// Texts that were embedded since the last call.
    pub(crate) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.texts.lock().expect("no thread panicked"))
    }
}

fn hashed(text: &str) -> Vec<f32> {
    let mut vector = vec![0f32; 64];
    for word in words::words(text).into_iter().filter(|word| !words::is_empty_word(&word.stem)) {
        let place = word.stem.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        vector[place % 64] += 1.0;
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
