//! `map verify`: the record against itself, against both indexes that are derived from it, and against the files.
//!
//! A derived index that differs is made anew from the record. A record that is damaged can't be made anew
//! from anything but the files, and that is said.

use crate::map::{Map, locked, sound};
use crate::scope::Scope;
use crate::vector::cosine;
use crate::walk;
use base::{Code, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

/// LIMIT: passages whose vectors are looked up in the vector index; all of them would be the square of the map.
const VECTORS_TRIED_MAX: usize = 32;
/// A vector that was found by itself is at least this near; 8 bits and 16 bits round differently.
const SAME_COSINE_MIN: f32 = 0.99;

/// What was looked at, what was wrong, and what was done about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    pub files: u64,
    pub passages: u64,
    /// Passages that the word index finds.
    pub found_by_words: u64,
    /// Passages with a vector of the model that serves.
    pub vectors: u64,
    pub generation: u64,
    /// Sentences; empty when all is well.
    pub problems: Vec<Problem>,
    /// Files that aren't as they were read: they are read again by the next run, and are no problem.
    pub files_behind: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub what: String,
    /// What was done, or what to do.
    pub remedy: String,
    pub repaired: bool,
}

impl Map {
    /// Checks everything, and makes anew what is derived and wrong.
    ///
    /// # Errors
    /// When the record can't be read at all.
    pub fn inspect(&self, scope: &Scope) -> Result<Inspection, Fault> {
        let _alone = self.begin()?;
        let mut seen = Inspection::default();
        let (faults, rows) = {
            let record = locked(&self.record);
            seen.generation = record.generation()?;
            (record.faults()?, record.passage_ids()?.iter().map(i64::from).collect::<BTreeSet<_>>())
        };
        for fault in faults {
            seen.problems.push(Problem {
                what: format!("the record says: {fault}"),
                remedy: "the record itself is damaged; `freehold map rebuild` this map makes it anew from your files"
                    .into(),
                repaired: false,
            });
        }
        seen.passages = rows.len() as u64;
        self.inspect_words(&rows, &mut seen)?;
        self.inspect_vectors(&mut seen)?;
        self.inspect_files(scope, &mut seen)?;
        Ok(seen)
    }

    fn inspect_words(&self, rows: &BTreeSet<i64>, seen: &mut Inspection) -> Result<(), Fault> {
        let mut notices = Vec::new();
        let generation = self.update_lexical(&mut notices)?;
        let lexical = self.lexical_now(&mut notices)?;
        let read = sound(|| Ok((lexical.damaged_files()?, lexical.ids()?)));
        drop(lexical);
        let mut wrong: Vec<String> = notices.clone();
        let found = match read {
            Ok((damaged, found)) => {
                if damaged > 0 {
                    wrong.push(format!("{damaged} files of the word index aren't what was written"));
                }
                found
            }
            Err(fault) if fault.code == Code::MapDamaged => {
                wrong.push(fault.to_string());
                BTreeSet::new()
            }
            Err(fault) => return Err(fault),
        };
        if generation != seen.generation {
            wrong.push(format!("the word index is of generation {generation}, the record of {}", seen.generation));
        }
        let (lost, ghosts) = (rows.difference(&found).count(), found.difference(rows).count());
        if lost + ghosts > 0 {
            wrong.push(format!("the word index lacks {lost} passages and holds {ghosts} that aren't in the record"));
        }
        seen.found_by_words = found.len() as u64;
        if wrong.len() > notices.len() {
            let rebuilt = self.rebuild_lexical(&wrong.join("; "), &mut Vec::new())?;
            seen.found_by_words = rebuilt.ids()?.len() as u64;
        }
        seen.problems.extend(wrong.into_iter().map(|what| Problem {
            what,
            remedy: "the word index was made anew from the record".into(),
            repaired: true,
        }));
        Ok(())
    }

    fn inspect_vectors(&self, seen: &mut Inspection) -> Result<(), Fault> {
        let Some(model) = self.serving()? else { return Ok(()) };
        let mut all = Vec::new();
        locked(&self.reading).each_vector(&model, &mut |id, vector| {
            if all.len() < VECTORS_TRIED_MAX {
                all.push((id, vector()));
            }
            seen.vectors += 1;
            Ok(())
        })?;
        let Some(vectors) = self.vectors_now(&model)? else { return Ok(()) };
        let mut lost = 0;
        for (_, vector) in &all {
            let best = vectors.search(&model, vector, &self.reading, None, 1)?;
            let near = |id: i64| -> Result<bool, Fault> {
                let found = locked(&self.reading).vectors(&model, &[id])?;
                Ok(found.get(&id).is_some_and(|found| cosine(found, vector) >= SAME_COSINE_MIN))
            };
            // Equal words have equal vectors, so another passage may stand first.
            lost += u64::from(!best.first().map_or(Ok(false), |(id, _)| near(*id))?);
        }
        drop(vectors);
        if lost > 0 {
            self.drop_vectors()?;
            self.update_vectors(&model)?;
            seen.problems.push(Problem {
                what: format!("{lost} of {} passages weren't found by their own vectors", all.len()),
                remedy: "the vector index was made anew from the record".into(),
                repaired: true,
            });
        }
        Ok(())
    }

    fn inspect_files(&self, scope: &Scope, seen: &mut Inspection) -> Result<(), Fault> {
        let mut known = locked(&self.record).known_in(&Scope { only: None, ..scope.clone() })?;
        seen.files = known.len() as u64;
        let walked = walk::walk(scope, &self.own_folder(), &AtomicBool::new(false), &mut |_| {});
        known.retain(|path, _| !walked.away.iter().any(|source| path.starts_with(source)));
        for found in walked.files {
            let same = known.remove(&found.path).is_some_and(|known| known.stamp == found.stamp);
            seen.files_behind += u64::from(!same);
        }
        seen.files_behind += known.len() as u64;
        Ok(())
    }

    /// Throws both derived indexes away and has every file read again by the next run. Vectors in the record
    /// stay, so that equal words cost no model.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn start_over(&self) -> Result<(), Fault> {
        let _alone = self.begin()?;
        locked(&self.record).forget_readings()?;
        self.rebuild_lexical("it is to be made anew", &mut Vec::new())?;
        self.drop_vectors()
    }
}
