//! One run of vectors on disk: ids in order, their signs (`.bits`), their 8-bit copies (`.codes`). Never changed, only replaced.
//!
//! The signs are what every search scans, so they are mapped and stay in memory. Of the codes a search needs a few
//! hundred rows: those are read, neighbours together, so that the rest never counts as this program's memory.

use super::scan::{self, Best, Descending, SCALE_BYTES};
use crate::score::Score;
use blake3::Hasher;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tantivy::Directory;
use tantivy::directory::{MmapDirectory, OwnedBytes};

/// LIMIT: rows of one segment, so that replacing one never rewrites more than about 110 MB at 384 dimensions.
pub(crate) const ROWS_MAX: usize = 1 << 18;
/// Rows that are measured in one go; their distances stay in the processor's cache.
const BLOCK_ROWS: usize = 1024;
const ID_BYTES: usize = 4;
/// Rows that lie no further apart are read at once, with what lies between: another call costs as much.
const STRIDE_ROWS_MAX: u32 = 4;
/// Rows that are read at once, at most.
const READ_ROWS_MAX: u32 = 256;

/// What the manifest knows of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) number: u64,
    pub(crate) rows: u64,
    /// BLAKE3 of the ids and signs. The codes need none: what they choose is measured again with the record's vectors.
    hash: [u8; 32],
}

impl Card {
    pub(crate) fn files(&self, dir: &Path) -> [PathBuf; 2] {
        files(dir, self.number)
    }
}

fn files(dir: &Path, number: u64) -> [PathBuf; 2] {
    ["bits", "codes"].map(|ending| dir.join(format!("{number:08}.{ending}")))
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) card: Card,
    ids: Vec<u32>,
    bits: OwnedBytes,
    codes: OwnedBytes,
    file: File,
    dimensions: usize,
}

/// Rows of a segment that a search may see: a bit each; `None` for all.
pub(crate) type Mask = Option<Vec<u64>>;

impl Segment {
    /// `None` when the files aren't what the card says.
    pub(crate) fn open(dir: &Path, card: Card, dimensions: usize) -> Option<Self> {
        let rows = usize::try_from(card.rows).ok().filter(|rows| (1..=ROWS_MAX).contains(rows))?;
        let directory = MmapDirectory::open(dir).ok()?;
        let [bits, codes] = card.files(dir);
        let mapped = |path: &Path| directory.open_read(Path::new(path.file_name()?)).ok()?.read_bytes().ok();
        let (hot, cold) = (mapped(&bits)?, mapped(&codes)?);
        let row_bits = ID_BYTES + scan::words_of(dimensions) * 8;
        if hot.len() != rows * row_bits || cold.len() != rows * (SCALE_BYTES + dimensions) {
            return None;
        }
        if *blake3::hash(&hot).as_bytes() != card.hash {
            return None;
        }
        let (ids, bits) = hot.split(rows * ID_BYTES);
        let ids: Vec<u32> = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
        let sorted = ids.windows(2).all(|pair| pair[0] < pair[1]);
        let file = File::open(&codes).ok()?;
        sorted.then_some(Self { card, ids, bits, codes: cold, file, dimensions })
    }

    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn row_bytes(&self) -> usize {
        SCALE_BYTES + self.dimensions
    }

    /// Which rows may be seen; nothing when none may.
    pub(crate) fn mask(&self, allowed: Option<&RoaringBitmap>) -> Option<Mask> {
        let Some(allowed) = allowed else { return Some(None) };
        let (first, last) = (*self.ids.first()?, *self.ids.last()?);
        let within = allowed.range_cardinality(first..=last);
        if within == 0 {
            return None;
        }
        if within == u64::from(last - first) + 1 {
            return Some(None);
        }
        let mut mask = vec![0u64; self.rows().div_ceil(64)];
        let (mut ranges, mut at) = (allowed.range(first..=last), 0);
        // Ids ascend by one at least, which says how far the next can be: for ids one by one that is a look or two.
        let within = |from: usize, ids: u32, holds: &dyn Fn(u32) -> bool| {
            let end = self.rows().min(from.saturating_add(ids as usize).saturating_add(1));
            from + self.ids[from..end].partition_point(|own| holds(*own))
        };
        while let Some(range) = ranges.next_range() {
            let Some(own) = self.ids.get(at) else { break };
            let start = within(at, range.start().saturating_sub(*own), &|own| own < *range.start());
            at = within(start, range.end() - range.start(), &|own| own <= *range.end());
            set(&mut mask, start, at);
        }
        Some(Some(mask))
    }

    /// Offers every row that may be seen with its distance. `row + base` stands for it.
    pub(crate) fn scan_bits(&self, question: &[u64], mask: &Mask, base: u32, best: &mut Best<u16>) {
        let width = question.len() * 8;
        let mut distances = [0u16; BLOCK_ROWS];
        for start in (0..self.rows()).step_by(BLOCK_ROWS) {
            let end = (start + BLOCK_ROWS).min(self.rows());
            let seen = seen(mask, start, end);
            if seen == Seen::None {
                continue;
            }
            scan::distances(&self.bits[start * width..end * width], question, &mut distances);
            for (row, distance) in (start..end).zip(&distances) {
                if seen == Seen::All || may(mask, row) {
                    best.offer(*distance, base + row as u32);
                }
            }
        }
    }

    /// Offers every row that may be seen with its 8-bit product.
    pub(crate) fn scan_codes(&self, question: &[i16], mask: &Mask, best: &mut Best<Descending>) {
        let width = self.row_bytes();
        for start in (0..self.rows()).step_by(BLOCK_ROWS) {
            let end = (start + BLOCK_ROWS).min(self.rows());
            let seen = seen(mask, start, end);
            if seen != Seen::None {
                let mask = if seen == Seen::All { &None } else { mask };
                self.offer(question, &self.codes[start * width..end * width], start, mask, best);
            }
        }
    }

    /// Offers every row to several questions. The codes are read and not looked at where they are mapped: a test now and then
    /// mustn't leave them all in memory.
    pub(crate) fn read_codes(&self, questions: &[Vec<i16>], best: &mut [Best<Descending>]) -> io::Result<()> {
        let mut codes = vec![0; BLOCK_ROWS * self.row_bytes()];
        for start in (0..self.rows()).step_by(BLOCK_ROWS) {
            let end = (start + BLOCK_ROWS).min(self.rows());
            let block = &mut codes[..(end - start) * self.row_bytes()];
            self.read_row(start, block)?;
            for (question, best) in questions.iter().zip(best.iter_mut()) {
                self.offer(question, block, start, &None, best);
            }
        }
        Ok(())
    }

    /// Offers the rows of a block of codes, the first of which is row `start`.
    fn offer(&self, question: &[i16], codes: &[u8], start: usize, mask: &Mask, best: &mut Best<Descending>) {
        let mut products = [0i32; BLOCK_ROWS];
        scan::products(codes, question, &mut products);
        for ((row, codes), product) in (start..).zip(codes.chunks_exact(self.row_bytes())).zip(&products) {
            if may(mask, row) {
                best.offer(Reverse(Score(*product as f32 * scan::scale(codes))), self.ids[row]);
            }
        }
    }

    /// The 8-bit product of some rows, which ascend, read from the file rather than through the map.
    pub(crate) fn rescore(&self, question: &[i16], rows: &[u32], best: &mut Best<Descending>) -> io::Result<()> {
        let width = self.row_bytes();
        let (mut codes, mut product) = (Vec::new(), [0]);
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let together = |pair: &&[u32]| pair[1] - pair[0] <= STRIDE_ROWS_MAX && pair[1] - first < READ_ROWS_MAX;
            let count = 1 + rest.windows(2).take_while(together).count();
            let (now, later) = rest.split_at(count);
            codes.resize((now[count - 1] - first + 1) as usize * width, 0);
            self.read_row(*first as usize, &mut codes)?;
            for row in now {
                let own = &codes[(row - first) as usize * width..][..width];
                scan::products(own, question, &mut product);
                best.offer(Reverse(Score(product[0] as f32 * scan::scale(own))), self.ids[*row as usize]);
            }
            rest = later;
        }
        Ok(())
    }

    /// Rows that a mask lets through, ascending.
    pub(crate) fn seen_rows(&self, mask: &Mask) -> Vec<u32> {
        let Some(mask) = mask else { return (0..self.rows() as u32).collect() };
        let mut rows = Vec::new();
        for (start, word) in (0..).step_by(64).zip(mask) {
            let mut left = *word;
            while left != 0 {
                rows.push(start + left.trailing_zeros());
                left &= left - 1;
            }
        }
        rows
    }

    /// A row as a vector, as near as eight bits keep it.
    pub(crate) fn vector(&self, row: usize) -> io::Result<Vec<f32>> {
        let mut codes = vec![0; self.row_bytes()];
        self.read_row(row, &mut codes)?;
        let scale = scan::scale(&codes);
        Ok(codes[SCALE_BYTES..].iter().map(|code| f32::from(code.cast_signed()) * scale).collect())
    }

    /// Reads as many rows as there is room for.
    fn read_row(&self, row: usize, codes: &mut [u8]) -> io::Result<()> {
        self.read_at(codes, row * self.row_bytes())
    }

    #[cfg(unix)]
    fn read_at(&self, into: &mut [u8], at: usize) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, at as u64)
    }

    #[cfg(not(unix))]
    fn read_at(&self, into: &mut [u8], at: usize) -> io::Result<()> {
        into.copy_from_slice(&self.codes[at..at + into.len()]);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    All,
    Some,
    None,
}

/// How much of a block may be seen. Blocks begin at whole words.
fn seen(mask: &Mask, start: usize, end: usize) -> Seen {
    let Some(mask) = mask else { return Seen::All };
    let words = &mask[start / 64..end.div_ceil(64)];
    if words.iter().all(|word| *word == 0) {
        Seen::None
    } else if words.iter().all(|word| *word == u64::MAX) {
        Seen::All
    } else {
        Seen::Some
    }
}

/// Sets the bits from `start` to before `end`.
fn set(mask: &mut [u64], start: usize, end: usize) {
    let mut at = start;
    while at < end {
        let count = (64 - at % 64).min(end - at);
        mask[at / 64] |= (u64::MAX >> (64 - count)) << (at % 64);
        at += count;
    }
}

/// Rows that may be seen.
pub(crate) fn seen_count(mask: &Mask, rows: usize) -> usize {
    mask.as_ref().map_or(rows, |mask| mask.iter().map(|word| word.count_ones() as usize).sum())
}

fn may(mask: &Mask, row: usize) -> bool {
    mask.as_ref().is_none_or(|mask| mask[row / 64] >> (row % 64) & 1 == 1)
}

/// Writes a segment. Rows come in the order of their ids.
pub(crate) struct Writer {
    dir: PathBuf,
    number: u64,
    dimensions: usize,
    ids: Vec<u8>,
    bits: Vec<u8>,
    codes: BufWriter<File>,
}

impl Writer {
    pub(crate) fn new(dir: &Path, number: u64, dimensions: usize) -> io::Result<Self> {
        let [_, codes] = files(dir, number);
        let codes = BufWriter::new(owned(&codes)?);
        Ok(Self { dir: dir.to_path_buf(), number, dimensions, ids: Vec::new(), bits: Vec::new(), codes })
    }

    pub(crate) fn rows(&self) -> usize {
        self.ids.len() / ID_BYTES
    }

    pub(crate) fn push(&mut self, id: u32, vector: &[f32]) -> io::Result<()> {
        let mut codes = vec![0; SCALE_BYTES];
        let scale = scan::quantize(vector, &mut codes);
        // With the length in the scale, the product with a question orders like the cosine.
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if length > 0.0 && length.is_finite() { scale / length } else { 0.0 };
        codes[..SCALE_BYTES].copy_from_slice(&scale.to_le_bytes());
        self.ids.extend(id.to_le_bytes());
        self.bits.extend(scan::signs(vector).iter().flat_map(|word| word.to_le_bytes()));
        self.codes.write_all(&codes)
    }

    /// Takes a row over from another segment as it is.
    pub(crate) fn copy(&mut self, from: &Segment, row: usize) -> io::Result<()> {
        let width = scan::words_of(from.dimensions) * 8;
        let mut codes = vec![0; from.row_bytes()];
        from.read_row(row, &mut codes)?;
        self.ids.extend(from.ids[row].to_le_bytes());
        self.bits.extend(&from.bits[row * width..(row + 1) * width]);
        self.codes.write_all(&codes)
    }

    /// Both files are on disk when this returns.
    pub(crate) fn finish(self) -> io::Result<Segment> {
        let rows = self.rows() as u64;
        let hash = *Hasher::new().update(&self.ids).update(&self.bits).finalize().as_bytes();
        let card = Card { number: self.number, rows, hash };
        let [bits, _] = card.files(&self.dir);
        let mut hot = owned(&bits)?;
        hot.write_all(&self.ids)?;
        hot.write_all(&self.bits)?;
        hot.sync_all()?;
        self.codes.into_inner()?.sync_all()?;
        Segment::open(&self.dir, card, self.dimensions)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what was written can't be read back"))
    }
}

/// An empty file that only its owner can read.
pub(super) fn owned(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
