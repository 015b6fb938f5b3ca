//! Erasing what was read of a path, and the proof: a look through the map's files for what was erased.
//!
//! What is looked for are words and beginnings of passages that stand in nothing else the map holds, and the
//! names of the erased files. Finding none of them is the proof; finding one is said with its file.

use crate::map::{Map, locked, sound};
use crate::record::{Change, Known};
use crate::scope::Scope;
use crate::words;
use aho_corasick::AhoCorasick;
use base::{Bytes, Code, Fault};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// LIMIT: words, beginnings and names that are looked for. They are taken evenly from all that was erased.
const WITNESSES_MAX: usize = 2048;
/// Shorter words come up by chance in a gigabyte of vectors.
const WORD_BYTES_MIN: usize = 9;
const BEGINNING_BYTES: usize = 40;
const BEGINNING_BYTES_MIN: usize = 20;
const PIECE_BYTES: usize = 1 << 20;
/// Reports name at most this many places where something was found; the count is whole.
const TRACES_NAMED_MAX: usize = 20;

/// What was erased, and what the look through the files found of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forgotten {
    pub files: u64,
    pub passages: u64,
    /// Words, beginnings of passages and file names that were looked for.
    pub witnesses: u64,
    pub files_searched: u64,
    pub bytes_searched: Bytes,
    /// Files in which something was found, with what; none is the proof.
    pub traces: Vec<Trace>,
    pub traces_count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub file: PathBuf,
    pub what: String,
}

/// What was found only in what is erased: the bytes, and the stem for words.
#[derive(Debug, Default)]
struct Witnesses(BTreeMap<String, Option<String>>);

impl Map {
    /// Erases everything that was read of a file or of what lies below a folder: text, words, vectors, names.
    /// The files themselves stay. Returns what was erased and whether any of it is still in the map's files.
    ///
    /// # Errors
    /// [`base::Code::Busy`] when a run is under way, and faults of the disk: then the erasure isn't complete.
    pub fn forget(&self, paths: &[PathBuf]) -> Result<Forgotten, Fault> {
        let _alone = self.begin()?;
        let scope = Scope::default().only(paths.iter().cloned());
        let rows = locked(&self.record).known_in(&scope)?;
        let mut forgotten = Forgotten { files: rows.len() as u64, ..Forgotten::default() };
        let mut witnesses = Witnesses::default();
        {
            let mut record = locked(&self.record);
            for (path, known) in &rows {
                witnesses.name(path);
                for id in known.ids() {
                    record.each_passage(id, &mut |_, text, _| {
                        forgotten.passages += 1;
                        witnesses.text(text);
                        Ok(())
                    })?;
                }
            }
            let changes: Vec<Change> = rows.values().flat_map(Known::ids).map(|id| Change::Remove { id }).collect();
            if !changes.is_empty() {
                record.apply(&changes)?;
            }
        }
        let mut notices = Vec::new();
        let seen = self.update_lexical(&mut notices)?;
        let lexical = self.lexical_now(&mut notices)?;
        let purged = sound(|| lexical.purge());
        drop(lexical);
        match purged {
            // What is made anew from the record holds nothing of what went.
            Err(fault) if fault.code == Code::MapDamaged => {
                drop(self.rebuild_lexical(&fault.to_string(), &mut notices)?);
            }
            purged => purged?,
        }
        locked(&self.record).sweep(seen)?;
        self.drop_vectors()?;
        if let Some(model) = self.serving()? {
            self.update_vectors(&model)?;
        }
        witnesses.thin();
        self.empty_log(&mut witnesses)?;
        self.prove(&witnesses, &mut forgotten)?;
        Ok(forgotten)
    }

    /// Empties the record's log of earlier pages while nobody reads, and keeps of the witnesses those that
    /// stand in nothing that is left.
    fn empty_log(&self, witnesses: &mut Witnesses) -> Result<(), Fault> {
        let reading = locked(&self.reading);
        let record = locked(&self.record);
        reading.let_go();
        record.empty_log()?;
        let matcher = matcher(witnesses.0.keys())?;
        let found = record.found_among_texts(&|text, found| {
            found.extend(matcher.find_overlapping_iter(text).map(|found| found.pattern().as_usize()));
        })?;
        let mut at = 0;
        witnesses.0.retain(|_, _| {
            at += 1;
            !found.contains(&(at - 1))
        });
        Ok(())
    }

    fn prove(&self, witnesses: &Witnesses, forgotten: &mut Forgotten) -> Result<(), Fault> {
        forgotten.witnesses = witnesses.0.len() as u64;
        let names: Vec<&String> = witnesses.0.keys().collect();
        let matcher = matcher(names.iter())?;
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut found = BTreeSet::new();
        for path in files_under(&self.dir).map_err(|error| Fault::io("read", &self.dir, &error))? {
            let bytes = look_through(&path, &matcher, longest, &mut |witness| {
                found.insert((path.clone(), names[witness].clone()));
            })
            .map_err(|error| Fault::io("read", &path, &error))?;
            forgotten.files_searched += 1;
            forgotten.bytes_searched = Bytes(forgotten.bytes_searched.0 + bytes);
        }
        // A dictionary shares beginnings between words, so its bytes alone prove nothing: it is asked as well.
        let mut lexical = self.lexical_now(&mut Vec::new())?;
        for stem in witnesses.0.values().flatten() {
            let keeps = match sound(|| lexical.keeps_stem(stem)) {
                Err(fault) if fault.code == Code::MapDamaged => {
                    lexical = self.rebuild_lexical(&fault.to_string(), &mut Vec::new())?;
                    lexical.keeps_stem(stem)
                }
                keeps => keeps,
            };
            if keeps? {
                found.insert((self.dir.join("lexical"), stem.clone()));
            }
        }
        forgotten.traces_count = found.len() as u64;
        let named = found.into_iter().take(TRACES_NAMED_MAX);
        forgotten.traces = named.map(|(file, what)| Trace { file, what }).collect();
        Ok(())
    }
}

impl Witnesses {
    fn name(&mut self, path: &Path) {
        self.0.insert(path.to_string_lossy().into_owned(), None);
    }

    fn text(&mut self, text: &str) {
        for word in words::words(text) {
            let bytes = &text[word.span.clone()];
            if bytes.len() >= WORD_BYTES_MIN && bytes.is_ascii() {
                self.0.insert(bytes.to_ascii_lowercase(), Some(word.stem));
            }
        }
        let mut end = text.len().min(BEGINNING_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end >= BEGINNING_BYTES_MIN {
            self.0.insert(text[..end].to_owned(), None);
        }
        if self.0.len() > WITNESSES_MAX * 8 {
            self.thin();
        }
    }

    /// Keeps an even share.
    fn thin(&mut self) {
        let step = self.0.len().div_ceil(WITNESSES_MAX).max(1);
        let mut at = 0;
        self.0.retain(|_, _| {
            at += 1;
            (at - 1) % step == 0
        });
    }
}

fn matcher<T: AsRef<[u8]>>(patterns: impl Iterator<Item = T>) -> Result<AhoCorasick, Fault> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(patterns)
        .map_err(|error| Fault::new(base::Code::Internal, "what was erased can't be looked for").cause(error))
}

fn files_under(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_under(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// Reads a file in pieces that overlap by what is looked for, and tells which patterns it holds.
fn look_through(
    path: &Path,
    matcher: &AhoCorasick,
    longest: usize,
    found: &mut dyn FnMut(usize),
) -> std::io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // An index may just have tidied it away.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut piece, mut total) = (Vec::new(), 0);
    loop {
        let kept = piece.len().min(longest);
        piece.drain(..piece.len() - kept);
        let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        if read == 0 {
            return Ok(total);
        }
        total += read as u64;
        matcher.find_overlapping_iter(&piece).for_each(|hit| found(hit.pattern().as_usize()));
    }
}
