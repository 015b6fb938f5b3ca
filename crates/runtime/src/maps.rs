//! Which maps there are: one folder under `home/maps` each, with the folder that it indexes.

use crate::view::MapSummary;
use base::{Bytes, Code, Fault};
use map::{Map, Reader};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The maps of one home. An open map stays open, because opening reads its index.
#[derive(Debug)]
pub(crate) struct Maps {
    dir: PathBuf,
    reader: Reader,
    open: Mutex<HashMap<String, Arc<Map>>>,
}

/// `map.json` of one map.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// RFC 3339, UTC; `None` until the first run has ended.
    pub(crate) indexed_at: Option<String>,
}

impl Maps {
    pub(crate) fn new(dir: PathBuf, reader: Reader) -> Self {
        Self { dir, reader, open: Mutex::new(HashMap::new()) }
    }

    /// What a document reader runs under; found out by starting one.
    pub(crate) fn reader_protection(&self) -> Result<jail::Protection, Fault> {
        self.reader.protection()
    }

    /// All cards, by name. A folder without a readable card isn't a map.
    pub(crate) fn cards(&self) -> Vec<Card> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut cards: Vec<Card> = entries
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("map.json")).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        cards.sort_by(|a, b| a.name.cmp(&b.name));
        cards
    }

    /// The map of a folder; made when there is none yet. Names come from the folder's own name.
    pub(crate) fn for_folder(&self, folder: &Path) -> Result<Card, Fault> {
        let cards = self.cards();
        if let Some(card) = cards.iter().find(|card| card.folder == folder) {
            return Ok(card.clone());
        }
        let stem = slug(folder.file_name().map(|name| name.to_string_lossy()).as_deref().unwrap_or("root"));
        // A folder without a readable card may hold another folder's passages.
        let taken = |name: &str| cards.iter().any(|card| card.name == name) || self.dir.join(name).exists();
        let mut name = stem.clone();
        let mut number = 2;
        while taken(&name) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        Ok(Card { name, folder: folder.to_path_buf(), indexed_at: None })
    }

    /// The maps that a request means: all, or the one of that name or folder.
    pub(crate) fn select(&self, wanted: Option<&str>) -> Result<Vec<Card>, Fault> {
        let cards = self.cards();
        let Some(wanted) = wanted else {
            if cards.is_empty() {
                return Err(Fault::new(Code::MapMissing, "no folder has been indexed yet")
                    .hint("index one first: `freehold index FOLDER`"));
            }
            return Ok(cards);
        };
        let folder = std::fs::canonicalize(wanted).ok();
        let found: Vec<Card> = cards
            .iter()
            .filter(|card| card.name == wanted || folder.as_ref().is_some_and(|folder| *folder == card.folder))
            .cloned()
            .collect();
        if found.is_empty() {
            let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
            let there =
                if names.is_empty() { "there is none yet".into() } else { format!("there are: {}", names.join(", ")) };
            return Err(Fault::new(Code::MapMissing, format!("no map is called `{wanted}`; {there}"))
                .hint(format!("index that folder first: `freehold index {wanted}`")));
        }
        Ok(found)
    }

    pub(crate) fn open(&self, name: &str) -> Result<Arc<Map>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = open.get(name) {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(Map::open(&self.dir.join(name), self.reader.clone())?);
        open.insert(name.to_string(), Arc::clone(&map));
        Ok(map)
    }

    /// Writes a card so that a kill at any instant leaves the old one or the new one.
    pub(crate) fn save(&self, card: &Card) -> Result<(), Fault> {
        let dir = self.dir.join(&card.name);
        std::fs::create_dir_all(&dir).map_err(|error| Fault::io("create", &dir, &error))?;
        let (temporary, path) = (dir.join("map.json.new"), dir.join("map.json"));
        let bytes = serde_json::to_vec_pretty(card)
            .map_err(|error| Fault::new(Code::Internal, "a map's card can't be written").cause(error))?;
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|error| Fault::io("write", &path, &error))
    }

    /// Takes a map that holds nothing away again.
    pub(crate) fn discard(&self, card: &Card) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&card.name);
        let dir = self.dir.join(&card.name);
        if let Err(error) = std::fs::remove_dir_all(&dir) {
            tracing::warn!(%error, "can't remove {}", dir.display());
        }
    }

    pub(crate) fn summaries(&self) -> Vec<MapSummary> {
        self.cards()
            .into_iter()
            .map(|card| {
                let summary = self.open(&card.name).ok().and_then(|map| map.summary().ok());
                let counts = summary.unwrap_or_default();
                MapSummary {
                    folder: card.folder.display().to_string(),
                    documents: counts.documents,
                    passages: counts.passages,
                    embedded: counts.embedded,
                    bytes_on_disk: Bytes(bytes_under(&self.dir.join(&card.name))),
                    indexed_at: card.indexed_at,
                    name: card.name,
                }
            })
            .collect()
    }
}

fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_under(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "map".into() } else { slug.chars().take(40).collect() }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn names_come_from_folders() {
        for (folder, name) in
            [("Letters 2025", "letters-2025"), ("library", "library"), ("...", "map"), ("Ärzte & Co", "ärzte-co")]
        {
            assert_eq!(slug(folder), name);
        }
    }
}
