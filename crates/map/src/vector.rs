//! The vector index: an exact scan over 8-bit copies, then the best again with the record's own vectors.
//!
//! One memory-mapped file for each map and model. Derived from the record; it can be deleted at any time.

use crate::record::Record;
use base::{Code, Fault};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tantivy::Directory;
use tantivy::directory::{MmapDirectory, OwnedBytes};

const FOLDER: &str = "vectors";
const MAGIC: &[u8; 8] = b"FHVEC\0\0\x01";
const HEAD_BYTES: usize = 40;
/// Candidates of the 8-bit scan that are measured again, for each wanted hit.
const RESCORE: usize = 4;
const DIMENSIONS_MAX: u64 = 8192;

/// What a file of vectors was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) generation: u64,
    pub(crate) changes: u64,
}

/// Layout: head (magic, generation, changes, dimensions, count), ids, scales, codes.
pub(crate) struct Vectors {
    bytes: OwnedBytes,
    pub(crate) version: Version,
    dimensions: usize,
    count: usize,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("version", &self.version).field("count", &self.count).finish_non_exhaustive()
    }
}

fn file_name(model: &str) -> PathBuf {
    PathBuf::from(format!("{}.i8", &blake3::hash(model.as_bytes()).to_hex()[..16]))
}

/// An 8-bit copy: each value is `code * scale`.
fn quantize(vector: &[f32], codes: &mut Vec<u8>) -> f32 {
    let top = vector.iter().fold(0f32, |top, value| top.max(value.abs()));
    let scale = if top > 0.0 && top.is_finite() { top / 127.0 } else { 1.0 };
    codes.extend(vector.iter().map(|value| ((value / scale).round() as i8).cast_unsigned()));
    scale
}

/// Written so that the compiler turns it into vector instructions.
fn dot(a: &[u8], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(a.cast_signed()) * i32::from(*b)).sum()
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    let (mut product, mut left, mut right) = (0f32, 0f32, 0f32);
    for (a, b) in a.iter().zip(b) {
        product += a * b;
        left += a * a;
        right += b * b;
    }
    if left > 0.0 && right > 0.0 { product / (left.sqrt() * right.sqrt()) } else { 0.0 }
}

impl Vectors {
    /// Opens the file of `model`; `None` when there is none or it can't be used.
    pub(crate) fn open(map: &Path, model: &str) -> Option<Self> {
        let directory = MmapDirectory::open(map.join(FOLDER)).ok()?;
        let bytes = directory.open_read(&file_name(model)).ok()?.read_bytes().ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let version = Version { generation: number(8)?, changes: number(16)? };
        let (dimensions, count) = (number(24)?, number(32)?);
        let body = count.checked_mul(dimensions.checked_add(12)?)?.checked_add(HEAD_BYTES as u64)?;
        if dimensions == 0 || dimensions > DIMENSIONS_MAX || body != bytes.len() as u64 {
            return None;
        }
        Some(Self { bytes, version, dimensions: dimensions as usize, count: count as usize })
    }

    /// Removes the files of all models.
    pub(crate) fn remove_all(map: &Path) -> Result<(), Fault> {
        let dir = map.join(FOLDER);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::io("remove", &dir, &error)),
            _ => Ok(()),
        }
    }

    /// Writes the file of `model` anew from the record, so that a kill at any instant leaves the old one or the new one.
    pub(crate) fn build(map: &Path, model: &str, record: &Record) -> Result<Option<Self>, Fault> {
        let version = Version { generation: record.generation()?, changes: record.vector_changes()? };
        let (mut ids, mut scales, mut codes, mut dimensions) = (Vec::new(), Vec::new(), Vec::new(), 0);
        record.each_vector(model, &mut |id, vector| {
            if dimensions == 0 {
                dimensions = vector.len();
            }
            if vector.len() == dimensions {
                ids.push(id);
                scales.push(quantize(&vector, &mut codes));
            }
        })?;
        if ids.is_empty() {
            return Ok(None);
        }
        let dir = map.join(FOLDER);
        let path = dir.join(file_name(model));
        let temporary = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&dir)?;
            let mut options = File::options();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = BufWriter::new(options.open(&temporary)?);
            file.write_all(MAGIC)?;
            for number in [version.generation, version.changes, dimensions as u64, ids.len() as u64] {
                file.write_all(&number.to_le_bytes())?;
            }
            for id in &ids {
                file.write_all(&id.to_le_bytes())?;
            }
            for scale in &scales {
                file.write_all(&f32::to_le_bytes(*scale))?;
            }
            file.write_all(&codes)?;
            file.into_inner()?.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|error| Fault::io("write", &path, &error))?;
        Self::open(map, model)
            .map(Some)
            .ok_or_else(|| Fault::new(Code::FileUnreadable, format!("cannot read back `{}`", path.display())))
    }

    /// Passage ids with their cosine to the query, best first.
    pub(crate) fn search(
        &self,
        model: &str,
        query: &[f32],
        record: &Record,
        limit: usize,
    ) -> Result<Vec<(i64, f32)>, Fault> {
        if query.len() != self.dimensions || limit == 0 {
            return Ok(Vec::new());
        }
        let candidates = self.scan(query, limit * RESCORE);
        let exact = record.vectors(model, &candidates)?;
        let mut found: Vec<(i64, f32)> =
            candidates.iter().filter_map(|id| Some((*id, cosine(query, exact.get(id)?)))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(limit);
        Ok(found)
    }

    fn scan(&self, query: &[f32], limit: usize) -> Vec<i64> {
        let mut coded = Vec::with_capacity(self.dimensions);
        quantize(query, &mut coded);
        let coded: Vec<i16> = coded.into_iter().map(|code| i16::from(code.cast_signed())).collect();
        let scales_at = HEAD_BYTES + self.count * 8;
        let codes_at = scales_at + self.count * 4;
        let scales = self.bytes[scales_at..codes_at].chunks_exact(4);
        let codes = self.bytes[codes_at..].chunks_exact(self.dimensions);
        let mut best: BinaryHeap<Reverse<(Score, usize)>> = BinaryHeap::with_capacity(limit + 1);
        for (at, (scale, codes)) in scales.zip(codes).enumerate() {
            let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
            let score = Score(dot(codes, &coded) as f32 * scale);
            if best.len() < limit {
                best.push(Reverse((score, at)));
            } else if best.peek().is_some_and(|Reverse((least, _))| score > *least) {
                best.pop();
                best.push(Reverse((score, at)));
            }
        }
        best.into_iter().filter_map(|Reverse((_, at))| self.id(at)).collect()
    }

    fn id(&self, at: usize) -> Option<i64> {
        let start = HEAD_BYTES + at * 8;
        Some(i64::from_le_bytes(self.bytes.get(start..start + 8)?.try_into().ok()?))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn eight_bits_keep_the_product(a in prop::collection::vec(-1f32..1.0, 384), b in prop::collection::vec(-1f32..1.0, 384)) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            let scale = quantize(&a, &mut left) * quantize(&b, &mut right);
            let right: Vec<i16> = right.into_iter().map(|code| i16::from(code.cast_signed())).collect();
            let product: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            prop_assert!((dot(&left, &right) as f32 * scale - product).abs() < 1.0, "{product}");
        }
    }

    #[test]
    fn a_cosine_needs_no_unit_length() {
        assert!((cosine(&[3.0, 4.0], &[6.0, 8.0]) - 1.0).abs() < 1e-6);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), 0.0);
    }
}
