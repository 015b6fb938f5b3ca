//! Whether a model's vectors can be told apart by their signs: a test on the vectors that there are.
//!
//! Signs keep almost all of some models' ranking and a quarter less of others'. So each index asks some of its own
//! vectors as questions and compares what the signs let through with what the 8-bit copies find.

use super::RESCORED_MIN;
use super::scan::{self, Best, Descending};
use super::segment::Segment;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// Below this a scan over the 8-bit copies takes a few milliseconds anyway.
const ROWS_MIN: usize = 1 << 15;
/// The test is made again when the index has grown by this factor.
const GROWTH: u64 = 4;
const QUESTIONS: usize = 24;
const NEAREST: usize = 10;
/// Share of the nearest that the signs must let through.
const RECALL_MIN: f32 = 0.97;

/// What the test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gate {
    /// Rows of the index at the time.
    rows: u64,
    pub(crate) recall: f32,
}

impl Gate {
    pub(crate) fn passed(&self) -> bool {
        self.recall >= RECALL_MIN
    }
}

pub(crate) fn is_due(last: Option<&Gate>, rows: usize) -> bool {
    rows >= ROWS_MIN && last.is_none_or(|last| rows as u64 >= last.rows.saturating_mul(GROWTH))
}

/// Tests the longest segment, letting through the same share of its rows as a search would of all.
pub(crate) fn test(segments: &[Arc<Segment>], rows: usize) -> io::Result<Option<Gate>> {
    let Some(segment) = segments.iter().max_by_key(|segment| segment.rows()) else { return Ok(None) };
    let through = (RESCORED_MIN * segment.rows() / rows.max(1)).max(NEAREST * 2);
    let own = |question: usize| question * segment.rows() / QUESTIONS;
    let vectors = (0..QUESTIONS).map(|question| segment.vector(own(question))).collect::<io::Result<Vec<_>>>()?;
    let asked: Vec<Vec<i16>> = vectors.iter().map(|vector| scan::widened(vector)).collect();
    let mut near: Vec<Best<Descending>> = asked.iter().map(|_| Best::new(NEAREST + 1)).collect();
    segment.read_codes(&asked, &mut near)?;
    let (mut wanted, mut held) = (0usize, 0usize);
    for (question, (vector, near)) in vectors.iter().zip(near).enumerate() {
        let mut passed = Best::new(through);
        segment.scan_bits(&scan::signs(vector), &None, 0, &mut passed);
        let passed: Vec<u32> = passed.finish().into_iter().map(|(_, row)| segment.ids()[row as usize]).collect();
        // The vector itself is its own nearest, which proves nothing.
        for (_, id) in near.finish().into_iter().filter(|(_, id)| *id != segment.ids()[own(question)]) {
            wanted += 1;
            held += usize::from(passed.contains(&id));
        }
    }
    Ok((wanted > 0).then(|| Gate { rows: rows as u64, recall: held as f32 / wanted as f32 }))
}
