//! Synthetic files: each chunk's words and vector follow from its number.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FILE_CHUNKS: u32 = 10;
const CHUNK_WORDS: u32 = 170;
const VOCABULARY: f64 = 50_000.0;
const CLUSTERS: u64 = 1000;
pub(crate) const DIMENSIONS: usize = 384;
const QUESTION_WORDS: u64 = 6;

pub(crate) struct Corpus {
    pub(crate) chunks: u32,
}

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

    /// Which of the folders at a depth holds a chunk: there are ten in each, down to four levels.
    pub(crate) fn part(&self, chunk: u32, depth: u32) -> u64 {
        let first = u64::from(chunk / FILE_CHUNKS) * u64::from(FILE_CHUNKS);
        first * 10_000 / u64::from(self.chunks.max(1)) / 10u64.pow(4 - depth)
    }

    pub(crate) fn folder(&self, chunk: u32, depth: u32) -> PathBuf {
        (1..=depth).map(|level| format!("f{}", self.part(chunk, level) % 10)).collect()
    }

    pub(crate) fn path(&self, chunk: u32) -> PathBuf {
        self.folder(chunk, 4).join(format!("{}.txt", chunk / FILE_CHUNKS))
    }

    /// Writes all files; returns their bytes.
    pub(crate) fn write(&self, files: &Path) -> std::io::Result<u64> {
        let mut bytes = 0;
        for first in (0..self.chunks).step_by(FILE_CHUNKS as usize) {
            let mut text = String::new();
            for chunk in first..(first + FILE_CHUNKS).min(self.chunks) {
                let _ = write!(text, "{}\n\n", self.text(chunk));
            }
            let path = files.join(self.path(first));
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            bytes += text.len() as u64;
            std::fs::write(path, text)?;
        }
        Ok(bytes)
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

    /// For each question the chunks that are nearest of those that it may see, by one look at every chunk.
    pub(crate) fn nearest(
        &self,
        questions: &[Vec<f32>],
        may: &dyn Fn(usize, u32) -> bool,
        limit: usize,
    ) -> Vec<Vec<u32>> {
        let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::new(); questions.len()];
        for chunk in 0..self.chunks {
            let vector = self.vector(chunk);
            for (at, question) in questions.iter().enumerate().filter(|(at, _)| may(*at, chunk)) {
                let score: f32 = vector.iter().zip(question).map(|(a, b)| a * b).sum();
                let own = &mut best[at];
                if own.len() < limit || own.last().is_some_and(|(least, _)| score > *least) {
                    own.insert(own.partition_point(|(other, _)| *other >= score), (score, chunk));
                    own.truncate(limit);
                }
            }
        }
        best.into_iter().map(|own| own.into_iter().map(|(_, chunk)| chunk).collect()).collect()
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
