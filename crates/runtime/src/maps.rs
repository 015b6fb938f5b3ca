//! Which maps there are: one folder under `home/maps` each, with the sources that it reads.

use crate::permission::Sight;
use base::{Bytes, Code, Fault, Label};
use map::{Map, Reader, Scope};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) name: String,
    /// The first source. Cards of earlier releases have no other.
    pub(crate) folder: PathBuf,
    /// Folders and single files, as absolute paths without links.
    #[serde(default)]
    pub(crate) sources: Vec<PathBuf>,
    /// What was forgotten and mustn't come back, by fingerprint.
    #[serde(default)]
    pub(crate) forgotten: BTreeSet<String>,
    #[serde(default)]
    pub(crate) label: Label,
    /// Not kept up to date by itself.
    #[serde(default)]
    pub(crate) paused: bool,
    /// RFC 3339, UTC; `None` until the first run has ended.
    pub(crate) indexed_at: Option<String>,
}

impl Card {
    fn new(name: String, source: PathBuf) -> Self {
        Self {
            name,
            folder: source.clone(),
            sources: vec![source],
            forgotten: BTreeSet::new(),
            label: Label::default(),
            paused: false,
            indexed_at: None,
        }
    }

    /// What a whole run over this map reads.
    pub(crate) fn scope(&self) -> Scope {
        Scope { forgotten: self.forgotten.iter().cloned().collect(), ..Scope::of(self.sources.clone()) }
    }
}

/// LIMIT: characters of a map's name.
const NAME_CHARS_MAX: usize = 40;

impl Maps {
    pub(crate) fn new(dir: PathBuf, reader: Reader) -> Self {
        Self { dir, reader, open: Mutex::new(HashMap::new()) }
    }

    /// What a document reader runs under; found out by starting one.
    pub(crate) fn reader_protection(&self) -> Result<jail::Protection, Fault> {
        self.reader.protection()
    }

    /// Whether words on pictures can be recognised, and in which languages.
    pub(crate) fn recogniser(&self) -> Result<map::Ready, Fault> {
        self.reader.recogniser.examine()
    }

    /// All cards, by name. A folder without a readable card isn't a map.
    pub(crate) fn cards(&self) -> Vec<Card> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let mut cards: Vec<Card> = entries
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("map.json")).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        for card in cards.iter_mut().filter(|card| card.sources.is_empty()) {
            card.sources.push(card.folder.clone());
        }
        cards.sort_by(|a, b| a.name.cmp(&b.name));
        cards
    }

    /// The map of a folder; a new card when there is none yet. Names come from the folder's own name.
    pub(crate) fn for_folder(&self, folder: &Path) -> Card {
        let cards = self.cards();
        if let Some(card) = cards.iter().find(|card| card.sources.iter().any(|source| source == folder)) {
            return card.clone();
        }
        let stem = slug(folder.file_name().map(|name| name.to_string_lossy()).as_deref().unwrap_or("root"));
        let mut name = stem.clone();
        let mut number = 2;
        while self.is_taken(&name) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        Card::new(name, folder.to_path_buf())
    }

    /// A folder without a readable card may hold another folder's passages.
    fn is_taken(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    /// The map of that name, extended by these sources, or a new one. Nothing is saved yet.
    pub(crate) fn extended(&self, name: &str, sources: Vec<PathBuf>) -> Result<Card, Fault> {
        if slug(name) != name {
            return Err(Fault::new(Code::InvalidAsk, format!("`{name}` can't be a map's name"))
                .hint(format!("letters and digits with `-` between, at most {NAME_CHARS_MAX}: `{}`", slug(name))));
        }
        let mut card = match self.cards().into_iter().find(|card| card.name == name) {
            Some(card) => card,
            None => {
                let first = sources.first().cloned().ok_or_else(|| {
                    Fault::new(Code::InvalidAsk, format!("there is no map `{name}`, and no source for a new one"))
                        .hint(format!("name a folder or files: `freehold map add {name} FOLDER`"))
                })?;
                if self.is_taken(name) {
                    let dir = self.dir.join(name);
                    return Err(Fault::new(Code::MapDamaged, format!("`{}` is no whole map", dir.display()))
                        .hint(format!("choose another name, or look into it and remove it: `ls {}`", dir.display())));
                }
                Card::new(name.to_owned(), first)
            }
        };
        for source in sources {
            // Asked for by name: what was forgotten there may come back.
            card.forgotten.remove(&map::scope::fingerprint(&source));
            if !card.sources.contains(&source) {
                card.sources.push(source);
            }
        }
        Ok(card)
    }

    /// The map of exactly this name.
    pub(crate) fn named(&self, name: &str) -> Result<Card, Fault> {
        let cards = self.cards();
        if let Some(card) = cards.iter().find(|card| card.name == name) {
            return Ok(card.clone());
        }
        Err(missing(&cards, name).hint("`freehold map list` shows all; `freehold map add NAME FOLDER` makes one"))
    }

    /// The cards that a caller may see.
    pub(crate) fn seen(&self, sight: &Sight) -> Vec<Card> {
        let mut cards = self.cards();
        cards.retain(|card| sight.sees(&card.name, card.label));
        cards
    }

    /// The maps that a request means: all, or the one of that name or source. What the caller may not see isn't
    /// there, in what it is told of it neither.
    pub(crate) fn select(&self, wanted: Option<&str>, sight: &Sight) -> Result<Vec<Card>, Fault> {
        let cards = self.seen(sight);
        let Some(wanted) = wanted else {
            if cards.is_empty() {
                return Err(Fault::new(Code::MapMissing, "no folder has been indexed yet")
                    .hint("index one first: `freehold index FOLDER`"));
            }
            return Ok(cards);
        };
        let folder = std::fs::canonicalize(wanted).ok();
        let is_source = |card: &Card| folder.as_ref().is_some_and(|folder| card.sources.contains(folder));
        let found: Vec<Card> = cards.iter().filter(|card| card.name == wanted || is_source(card)).cloned().collect();
        if found.is_empty() {
            return Err(missing(&cards, wanted).hint(format!("index that folder first: `freehold index {wanted}`")));
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

    /// Removes a map with all its files. The files that it was made from stay.
    pub(crate) fn discard(&self, name: &str) -> Result<(), Fault> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let dir = self.dir.join(name);
        // The card goes first: without it the rest is no map, however this ends.
        let card = dir.join("map.json");
        std::fs::remove_file(&card).map_err(|error| Fault::io("remove", &card, &error))?;
        std::fs::remove_dir_all(&dir).map_err(|error| Fault::io("remove", &dir, &error))
    }

    pub(crate) fn bytes_on_disk(&self, name: &str) -> Bytes {
        Bytes(bytes_under(&self.dir.join(name)))
    }
}

fn missing(cards: &[Card], wanted: &str) -> Fault {
    let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
    let there = if names.is_empty() { "there is none yet".into() } else { format!("there are: {}", names.join(", ")) };
    Fault::new(Code::MapMissing, format!("no map is called `{wanted}`; {there}"))
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
    if slug.is_empty() { "map".into() } else { slug.chars().take(NAME_CHARS_MAX).collect() }
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
