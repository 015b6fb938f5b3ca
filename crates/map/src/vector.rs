//! The vector index: segments of signs and 8-bit copies beside the record. Derived; it can be deleted at any time.
//!
//! A search scans the signs of all passages that it may see, exactly and without a graph, measures the best of them
//! again by their 8-bit copies, and the best of those with the record's own vectors. What a model's signs can't tell
//! apart is found by a scan over the 8-bit copies instead: each model is tested on the vectors that there are.
//!
//! INVARIANT: segments are never changed. New rows make a new segment, rows that went are tombstones until their
//! segment is replaced, and one file, the manifest, says what belongs to the index and which state of the record that is.

mod gate;
mod manifest;
mod scan;
mod segment;

use crate::map::locked;
use crate::record::Record;
use crate::score::Score;
use base::{Code, Fault};
use manifest::Manifest;
use roaring::RoaringBitmap;
use scan::Best;
use segment::{Mask, ROWS_MAX, Segment, Writer, seen_count};
use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(crate) use gate::Gate;
pub(crate) use scan::cosine;

const FOLDER: &str = "vectors";
/// Rows that are measured again by their 8-bit copies, at least, and for each wanted hit.
const RESCORED_MIN: usize = 1000;
const RESCORED_EACH: usize = 10;
/// A filter may leave only passages that are far from the question, and those the signs rank less well: the fewer it leaves, the
/// more of them are measured again, up to so many times as many.
const FILTERED_FACTOR: f64 = 4.0;
/// So few passages are measured by their 8-bit copies alone: about 10 ms at most.
const WITHOUT_SIGNS_MAX: u64 = 1 << 14;
/// Rows beyond the wanted that are measured again with the record's own vectors, each of which is looked up: eight bits
/// rank nearly as those do.
const EXACT_MORE: usize = 20;
const DIMENSIONS_MAX: usize = 8192;
/// A lookup costs about this many rows of a walk through all vectors of the record.
const LOOKUP_ROWS: u64 = 4;

/// Which state of the record an index was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Version {
    pub(crate) generation: u64,
    pub(crate) changes: u64,
}

/// Finds passages by the nearness of their vectors. The one thing that search asks of a vector index, so that an
/// engine for many millions of passages can take the place of [`Segments`].
pub(crate) trait Nearest: Send + Sync {
    /// Ids with their cosine to the question, about the best first, none outside `allowed`. A few more than `limit`,
    /// since the caller measures them again.
    fn nearest(
        &self,
        question: &[f32],
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<Vec<(u32, f32)>, Fault>;
}

/// What becomes of rows whose passages went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Hidden now, overwritten when their segment is replaced.
    Hide,
    /// Their segments are replaced at once, so that nothing of them is left on disk.
    Erase,
}

/// One model's vectors as a search sees them.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    dir: PathBuf,
    pub(crate) version: Version,
    dimensions: usize,
    segments: Vec<Arc<Segment>>,
    /// Ids that stand in a segment although their passages went.
    dead: RoaringBitmap,
    next: u64,
    pub(crate) gate: Option<Gate>,
}

fn folder(map: &Path, model: &str) -> PathBuf {
    map.join(FOLDER).join(&blake3::hash(model.as_bytes()).to_hex()[..16])
}

impl Segments {
    /// Opens the index of `model`; `None` when there is none or it can't be used.
    pub(crate) fn open(map: &Path, model: &str) -> Option<Self> {
        let dir = folder(map, model);
        let Manifest { version, dimensions, segments, dead, next, gate } = Manifest::read(&dir)?;
        let dimensions = usize::try_from(dimensions).ok().filter(|width| (1..=DIMENSIONS_MAX).contains(width))?;
        let dead = RoaringBitmap::deserialize_from(&dead[..]).ok()?;
        let open = |card| Segment::open(&dir, card, dimensions).map(Arc::new);
        let segments = segments.into_iter().map(open).collect::<Option<Vec<_>>>()?;
        Some(Self { dir, version, dimensions, segments, dead, next, gate })
    }

    /// Removes the files of all models.
    pub(crate) fn remove_all(map: &Path) -> Result<(), Fault> {
        let dir = map.join(FOLDER);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io("remove", &dir, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn empty(map: &Path, model: &str) -> Self {
        Self {
            dir: folder(map, model),
            version: Version::default(),
            dimensions: 0,
            segments: Vec::new(),
            dead: RoaringBitmap::new(),
            next: 0,
            gate: None,
        }
    }

    /// Passages that can be found.
    pub(crate) fn count(&self) -> u64 {
        self.rows() as u64 - self.dead.len()
    }

    /// Whether rows of passages that went are still on disk.
    pub(crate) fn hides(&self) -> bool {
        !self.dead.is_empty()
    }

    fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.rows()).sum()
    }

    /// Brings the index in step with the record: what is new is appended, what went is hidden. A kill at any instant
    /// leaves the old index or the new one.
    pub(crate) fn follow(mut self, model: &str, record: &Record, gone: Gone) -> Result<Self, Fault> {
        let version = Version { generation: record.generation()?, changes: record.vector_changes()? };
        let live = record.passage_ids()?;
        let have: RoaringBitmap = self.segments.iter().flat_map(|segment| segment.ids().iter().copied()).collect();
        self.dead = &have - &live;
        let missing = live - have;
        let dir = self.dir.clone();
        let wrong = |error: io::Error| Fault::io("write", &dir, &error);
        std::fs::create_dir_all(&dir).map_err(wrong)?;
        self.append(model, record, &missing).and_then(|()| self.tidy(gone).map_err(wrong))?;
        self.version = version;
        if gate::is_due(self.gate.as_ref(), self.rows()) {
            self.gate = gate::test(&self.segments, self.rows()).map_err(wrong)?;
        }
        self.manifest().and_then(|manifest| manifest.write(&dir)).map_err(wrong)?;
        self.sweep();
        Ok(self)
    }

    fn append(&mut self, model: &str, record: &Record, missing: &RoaringBitmap) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let wrong = |error: io::Error| Fault::io("write", &dir, &error);
        let mut writer: Option<Writer> = None;
        let mut take = |own: &mut Self, id: u32, vector: &[f32]| -> Result<(), Fault> {
            if own.segments.is_empty() && writer.is_none() {
                own.dimensions = vector.len();
            }
            if vector.len() != own.dimensions || own.dimensions > DIMENSIONS_MAX {
                return Ok(());
            }
            if writer.as_ref().is_some_and(|writer| writer.rows() == ROWS_MAX) {
                let full = writer.take().map(Writer::finish).transpose().map_err(wrong)?;
                own.segments.extend(full.map(Arc::new));
            }
            if writer.is_none() {
                writer = Some(own.writer().map_err(wrong)?);
            }
            writer.as_mut().map_or(Ok(()), |writer| writer.push(id, vector)).map_err(wrong)
        };
        if missing.len() * LOOKUP_ROWS < record.passage_count()? {
            let ids: Vec<i64> = missing.iter().map(i64::from).collect();
            let found = record.vectors(model, &ids)?;
            for id in missing {
                if let Some(vector) = found.get(&i64::from(id)) {
                    take(self, id, vector)?;
                }
            }
        } else {
            record.each_vector(model, &mut |id, vector| match u32::try_from(id) {
                Ok(id) if missing.contains(id) => take(self, id, &vector()),
                _ => Ok(()),
            })?;
        }
        let last = writer.map(Writer::finish).transpose().map_err(wrong)?;
        self.segments.extend(last.map(Arc::new));
        Ok(())
    }

    fn writer(&mut self) -> io::Result<Writer> {
        self.next += 1;
        Writer::new(&self.dir, self.next, self.dimensions)
    }

    /// Keeps segments few and tombstones fewer: each is at least twice as long as the next, or full; none is dead by
    /// more than a quarter. So each row is written again about log2(rows) times in all.
    fn tidy(&mut self, gone: Gone) -> io::Result<()> {
        let stale = |segment: &Segment, dead: &RoaringBitmap| {
            let dead = segment.ids().iter().filter(|id| dead.contains(**id)).count();
            dead > 0 && (gone == Gone::Erase || dead * 4 > segment.rows())
        };
        if !self.dead.is_empty() {
            for at in (0..self.segments.len()).rev() {
                if stale(&self.segments[at], &self.dead) {
                    self.replace(at..at + 1)?;
                }
            }
        }
        let short = |segments: &[Arc<Segment>]| {
            let rows: Vec<usize> = segments.iter().map(|segment| segment.rows()).collect();
            rows.windows(2).rposition(|pair| pair[1] * 2 > pair[0] && pair[0] + pair[1] <= ROWS_MAX)
        };
        while let Some(at) = short(&self.segments) {
            self.replace(at..at + 2)?;
        }
        let have: RoaringBitmap = self.segments.iter().flat_map(|segment| segment.ids().iter().copied()).collect();
        self.dead &= have;
        Ok(())
    }

    /// Puts one segment in the place of some, without their dead rows.
    fn replace(&mut self, range: std::ops::Range<usize>) -> io::Result<()> {
        let old: Vec<Arc<Segment>> = self.segments[range.clone()].to_vec();
        let mut rows: Vec<(u32, usize, usize)> = Vec::new();
        for (of, segment) in old.iter().enumerate() {
            let live = segment.ids().iter().enumerate().filter(|(_, id)| !self.dead.contains(**id));
            rows.extend(live.map(|(row, id)| (*id, of, row)));
        }
        rows.sort_unstable();
        let mut fresh = None;
        if !rows.is_empty() {
            let mut writer = self.writer()?;
            for (_, of, row) in rows {
                writer.copy(&old[of], row)?;
            }
            fresh = Some(Arc::new(writer.finish()?));
        }
        self.segments.splice(range, fresh);
        Ok(())
    }

    fn manifest(&self) -> io::Result<Manifest> {
        let mut dead = Vec::new();
        self.dead.serialize_into(&mut dead)?;
        Ok(Manifest {
            version: self.version,
            dimensions: self.dimensions.max(1) as u64,
            segments: self.segments.iter().map(|segment| segment.card.clone()).collect(),
            dead,
            next: self.next,
            gate: self.gate,
        })
    }

    /// Removes what no manifest names: leftovers of a kill, and what was replaced. A search that still reads it goes on.
    fn sweep(&self) {
        let named: Vec<PathBuf> = self.segments.iter().flat_map(|segment| segment.card.files(&self.dir)).collect();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !named.contains(&path) && path.file_name().is_some_and(|name| name != manifest::FILE) {
                // What stays now goes next time.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Passage ids with their cosine to the question, best first, measured with the record's own vectors.
    pub(crate) fn search(
        &self,
        model: &str,
        question: &[f32],
        record: &Mutex<Record>,
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<Vec<(i64, f32)>, Fault> {
        let ids: Vec<i64> = self.nearest(question, allowed, limit)?.into_iter().map(|(id, _)| id.into()).collect();
        let exact = locked(record).vectors(model, &ids)?;
        let mut found: Vec<(i64, f32)> =
            ids.iter().filter_map(|id| Some((*id, cosine(question, exact.get(id)?)))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(limit);
        Ok(found)
    }
}

impl Nearest for Segments {
    fn nearest(
        &self,
        question: &[f32],
        allowed: Option<&RoaringBitmap>,
        limit: usize,
    ) -> Result<Vec<(u32, f32)>, Fault> {
        if question.len() != self.dimensions || limit == 0 {
            return Ok(Vec::new());
        }
        let alive = (!self.dead.is_empty()).then(|| match allowed {
            Some(allowed) => allowed - &self.dead,
            None => {
                let mut all = RoaringBitmap::new();
                all.insert_range(..);
                all - &self.dead
            }
        });
        let allowed = alive.as_ref().or(allowed);
        let wrong = |error: io::Error| {
            Fault::new(Code::FileUnreadable, format!("the vectors in `{}` can't be read", self.dir.display()))
                .cause(error)
                .hint("index again: they are made anew from the record")
        };
        let asked = scan::widened(question);
        let mut best = Best::new(limit + EXACT_MORE);
        let by_signs = self.gate.as_ref().is_some_and(Gate::passed);
        let few = allowed.is_some_and(|allowed| allowed.len() <= WITHOUT_SIGNS_MAX);
        let masked: Vec<(&Arc<Segment>, Mask)> =
            self.segments.iter().filter_map(|segment| Some((segment, segment.mask(allowed)?))).collect();
        if few {
            for (segment, mask) in masked {
                segment.rescore(&asked, &segment.seen_rows(&mask), &mut best).map_err(wrong)?;
            }
        } else if by_signs {
            let left: usize = masked.iter().map(|(segment, mask)| seen_count(mask, segment.rows())).sum();
            let factor = (self.rows() as f64 / left.max(1) as f64).sqrt().clamp(1.0, FILTERED_FACTOR);
            let rescored = (RESCORED_MIN.max(limit * RESCORED_EACH) as f64 * factor) as usize;
            let signs = scan::signs(question);
            let (mut near, mut base, mut bases) = (Best::new(rescored), 0, Vec::new());
            for (segment, mask) in masked {
                segment.scan_bits(&signs, &mask, base, &mut near);
                bases.push((base, segment));
                base += segment.rows() as u32;
            }
            let mut rows: Vec<u32> = near.finish().into_iter().map(|(_, row)| row).collect();
            rows.sort_unstable();
            for (base, segment) in bases {
                let own: Vec<u32> = rows
                    .iter()
                    .filter(|row| (base..base + segment.rows() as u32).contains(row))
                    .map(|row| row - base)
                    .collect();
                segment.rescore(&asked, &own, &mut best).map_err(wrong)?;
            }
        } else {
            masked.iter().for_each(|(segment, mask)| segment.scan_codes(&asked, mask, &mut best));
        }
        Ok(best.finish().into_iter().map(|(Reverse(Score(score)), id)| (id, score)).collect())
    }
}

#[cfg(test)]
mod tests;
