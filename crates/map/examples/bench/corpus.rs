//! Synthetic files: each chunk's words and vector follow from its number.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

const FILE_CHUNKS: u32 = 10;
const CHUNK_WORDS: u32 = 170;
const VOCABULARY: f64 = 50_000.0;
const CLUSTERS: u64 = 1000;
pub(crate) const DIMENSIONS: usize = 384;
const QUESTION_WORDS: u64 = 6;
/// Folders lie in one another so deep, ten in each.
const DEPTH: u32 = 4;
/// Sums that run side by side, so that the compiler can use wide registers.
const LANES: usize = 8;

pub(crate) struct Corpus {
    pub(crate) chunks: u32,
}

/// Folders side by side: all of one depth, by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    depth: u32,
    folders: Range<u32>,
}

/// Share of the chunks that a filter leaves, in ten-thousandths, with the depth of its folders and their number.
pub(crate) const SELECTIVITIES: [(u32, u32, u32); 6] =
    [(1, 4, 1), (10, 3, 1), (100, 2, 1), (1_000, 1, 1), (5_000, 1, 5), (10_000, 0, 1)];

struct Random(u64);

impl Random {
    fn new(kind: u64, seed: u64) -> Self {
        let mixed = (seed.wrapping_add(kind.wrapping_mul(0xd134_2543_de82_ef95))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((mixed ^ (mixed >> 29)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| (self.share() + self.share() + self.share() - 1.5) as f32).collect()
    }
}

/// A word by Zipf's law: the frequency falls with the rank.
fn word(random: &mut Random, out: &mut String) {
    let mut rank = (random.share() * VOCABULARY.ln()).exp() as u64;
    loop {
        out.push(char::from(b'a' + (rank % 26) as u8));
        rank /= 26;
        if rank == 0 {
            break;
        }
    }
    out.push('o');
}

/// The number that a chunk's text begins with.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.split_whitespace().find_map(|word| word.strip_prefix("No")?.parse().ok())
}

impl Corpus {
    pub(crate) fn text(&self, chunk: u32) -> String {
        let (mut random, mut text) = (Random::new(1, chunk.into()), format!("No{chunk}"));
        for _ in 0..CHUNK_WORDS {
            text.push(' ');
            word(&mut random, &mut text);
        }
        text
    }

    /// Some words of a chunk.
    pub(crate) fn question(&self, chunk: u32) -> String {
        let text = self.text(chunk);
        let words: Vec<&str> = text.split(' ').skip(1).collect();
        let mut random = Random::new(2, chunk.into());
        let drawn: Vec<&str> = (0..QUESTION_WORDS).map(|_| words[random.next() as usize % words.len()]).collect();
        drawn.join(" ")
    }

    /// The number of the innermost folder that holds a chunk; it never falls from one chunk to the next.
    fn place(&self, chunk: u32) -> u32 {
        let first = u64::from(chunk / FILE_CHUNKS) * u64::from(FILE_CHUNKS);
        (first * 10u64.pow(DEPTH) / u64::from(self.chunks.max(1))) as u32
    }

    fn path(&self, chunk: u32) -> PathBuf {
        folder(self.place(chunk), DEPTH).join(format!("{}.txt", chunk / FILE_CHUNKS))
    }

    /// Writes what both sides read: `files/` as a person has them, `chunks.jsonl` with each chunk's place and text,
    /// `vectors.f32` in the same order. Returns the bytes of all files.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<u64> {
        let mut bytes = 0;
        let mut chunks = std::io::BufWriter::new(std::fs::File::create(dir.join("chunks.jsonl"))?);
        let mut vectors = std::io::BufWriter::new(std::fs::File::create(dir.join("vectors.f32"))?);
        for first in (0..self.chunks).step_by(FILE_CHUNKS as usize) {
            let mut all = String::new();
            for chunk in first..(first + FILE_CHUNKS).min(self.chunks) {
                let text = self.text(chunk);
                // The text is letters, digits and spaces: nothing of it needs an escape.
                writeln!(chunks, "{{\"place\":{},\"text\":\"{text}\"}}", self.place(chunk))?;
                for value in self.vector(chunk) {
                    vectors.write_all(&value.to_le_bytes())?;
                }
                let _ = write!(all, "{text}\n\n");
            }
            let path = dir.join("files").join(self.path(first));
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            bytes += all.len() as u64;
            std::fs::write(path, all)?;
        }
        chunks.flush()?;
        vectors.flush()?;
        Ok(bytes)
    }

    /// What the filter of a selectivity leaves to the question of that number: folders that needn't hold what is asked for.
    pub(crate) fn part(&self, question: u32, selectivity: (u32, u32, u32)) -> Part {
        let (_, depth, folders) = selectivity;
        let near = (u64::from(question) * 6_979 + 2_991) % u64::from(self.chunks.max(1));
        let holding = self.place(near as u32) / 10u32.pow(DEPTH - depth);
        let first = if folders == 1 { holding } else { holding % (10u32.pow(depth) - folders + 1) };
        Part { depth, folders: first..first + folders }
    }

    /// The chunks in a part, by their numbers.
    pub(crate) fn held(&self, part: &Part) -> Range<u32> {
        let places = part.places();
        let from = |place: u32| {
            (0..self.chunks)
                .step_by(FILE_CHUNKS as usize)
                .find(|chunk| self.place(*chunk) >= place)
                .unwrap_or(self.chunks)
        };
        from(places.start)..from(places.end)
    }

    /// Around one of some centres, of length 1.
    pub(crate) fn vector(&self, chunk: u32) -> Vec<f32> {
        let centre = Random::new(3, Random::new(4, chunk.into()).next() % CLUSTERS).vector();
        let own = Random::new(5, chunk.into()).vector();
        unit(centre.iter().zip(&own).map(|(centre, own)| centre + 0.6 * own).collect())
    }

    /// Near a chunk's vector.
    pub(crate) fn near(&self, chunk: u32) -> Vec<f32> {
        let own = Random::new(6, chunk.into()).vector();
        let length = own.iter().map(|value| value * value).sum::<f32>().sqrt();
        unit(self.vector(chunk).iter().zip(&own).map(|(vector, own)| vector + 0.4 * own / length).collect())
    }

    /// For each question and each range of chunks that it may see, the nearest: by one look at every chunk.
    pub(crate) fn nearest(&self, questions: &[(Vec<f32>, Vec<Range<u32>>)], limit: usize) -> Vec<Vec<Vec<u32>>> {
        let mut best: Vec<Vec<Vec<(f32, u32)>>> =
            questions.iter().map(|(_, ranges)| vec![Vec::new(); ranges.len()]).collect();
        for chunk in 0..self.chunks {
            let vector = self.vector(chunk);
            for ((question, ranges), best) in questions.iter().zip(&mut best) {
                let score = dot(question, &vector);
                for (_, own) in ranges.iter().zip(best).filter(|(range, _)| range.contains(&chunk)) {
                    if own.len() < limit || own.last().is_some_and(|(least, _)| score > *least) {
                        own.insert(own.partition_point(|(other, _)| *other >= score), (score, chunk));
                        own.truncate(limit);
                    }
                }
            }
        }
        let numbers = |own: Vec<(f32, u32)>| own.into_iter().map(|(_, chunk)| chunk).collect();
        best.into_iter().map(|each| each.into_iter().map(numbers).collect()).collect()
    }
}

impl Part {
    /// The innermost folders in it, by their numbers.
    pub(crate) fn places(&self) -> Range<u32> {
        let inner = 10u32.pow(DEPTH - self.depth);
        self.folders.start * inner..self.folders.end * inner
    }

    /// The folders as paths; none where everything may be seen.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        if self.depth == 0 {
            Vec::new()
        } else {
            self.folders.clone().map(|number| folder(number, self.depth)).collect()
        }
    }
}

/// The path of a folder by its number among those of its depth.
fn folder(number: u32, depth: u32) -> PathBuf {
    (1..=depth).map(|level| format!("f{}", number / 10u32.pow(depth - level) % 10)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
