//! From what the sides answered to tables and goals. Pure.

use crate::bench::report::{Bound, Goal, Table, figure};
use crate::bench::stat;
use serde::Deserialize;
use std::collections::HashSet;

const MB: f64 = 1e6;
const P99_MS_MAX: f64 = 35.0;
pub(super) const RECALL_MIN: f64 = 0.99;
/// For a million chunks; more may take more.
const MEMORY_MB_MAX: f64 = 60.0;
const DISK_MB_MAX: f64 = 1200.0;
/// Ours is faster than a peer when the ratio of their times lies below this.
const BESIDE_MAX: f64 = 1.0;
const PEERS_MIN: f64 = 2.0;

/// What is asked, as `questions.json` has it.
#[derive(Debug, Deserialize)]
pub(super) struct Questions {
    /// Shares of the chunks that the filters leave, in ten-thousandths.
    pub(super) shares: Vec<u32>,
    pub(super) questions: Vec<Question>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    pub(super) under: Vec<Under>,
}

/// A question under one filter: the chunks that may be seen, and the nearest of them.
#[derive(Debug, Deserialize)]
pub(super) struct Under {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) nearest: Vec<u32>,
}

/// A side's reply.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) ms: f64,
    pub(super) chunks: Vec<u32>,
}

/// What one side's searches under one filter came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) hybrid_ms: Vec<f64>,
    pub(super) held: usize,
    pub(super) wanted: usize,
    /// Chunks that the filter leaves out.
    pub(super) outside: usize,
    pub(super) knob: usize,
}

impl Under {
    /// How many of the nearest stand in an answer.
    pub(super) fn held(&self, answer: &Answer) -> usize {
        let found: HashSet<u32> = answer.chunks.iter().copied().collect();
        self.nearest.iter().filter(|chunk| found.contains(chunk)).count()
    }

    fn outside(&self, answer: &Answer) -> usize {
        answer.chunks.iter().filter(|chunk| !(self.first..self.end).contains(chunk)).count()
    }
}

impl Heard {
    pub(super) fn add(&mut self, under: &Under, hybrid: &Answer, vectors: &Answer) {
        self.hybrid_ms.push(hybrid.ms);
        self.wanted += under.nearest.len();
        self.held += under.held(vectors);
        self.outside += under.outside(hybrid) + under.outside(vectors);
    }

    pub(super) fn recall(&self) -> f64 {
        if self.wanted == 0 { f64::NAN } else { self.held as f64 / self.wanted as f64 }
    }
}

/// What it took one side to index a corpus.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) chunks: u32,
    pub(super) side: String,
    /// Until words can be searched.
    pub(super) words_s: f64,
    /// Until everything can.
    pub(super) all_s: f64,
    pub(super) disk: u64,
    /// Memory that the process held at most.
    pub(super) peak: u64,
}

/// Rows for one filter: each side that answered.
pub(super) fn search_rows(share: u32, names: &[(String, Vec<String>)], heard: &[Heard]) -> Vec<Vec<String>> {
    let row = |((name, knobs), heard): (&(String, Vec<String>), &Heard)| {
        vec![
            format!("{} %", f64::from(share) / 100.0),
            name.clone(),
            figure(stat::quantile(&heard.hybrid_ms, 0.5)),
            figure(stat::quantile(&heard.hybrid_ms, 0.99)),
            format!("{:.4}", heard.recall()),
            heard.outside.to_string(),
            heard.hybrid_ms.len().to_string(),
            knobs.get(heard.knob).cloned().unwrap_or_default(),
        ]
    };
    names.iter().zip(heard).filter(|(_, heard)| !heard.hybrid_ms.is_empty()).map(row).collect()
}

pub(super) fn search_table() -> Table {
    let head =
        ["filter leaves", "side", "hybrid p50 ms", "p99 ms", "recall@10 of vectors", "outside", "questions", "setting"];
    Table::new("search under a filter, all sides in turn", &head)
}

pub(super) fn built_table(all: &[Built], bytes: &[(u32, u64)]) -> Table {
    let head = [
        "chunks",
        "side",
        "words: chunks/s",
        "MB/s",
        "with vectors: chunks/s",
        "MB/s",
        "seconds",
        "disk MB",
        "peak memory MB",
    ];
    let mut table = Table::new("indexing, and how it grows", &head);
    for built in all {
        let size = bytes.iter().find(|(chunks, _)| *chunks == built.chunks).map_or(f64::NAN, |(_, size)| *size as f64);
        let rates = |seconds: f64| [figure(f64::from(built.chunks) / seconds), figure(size / MB / seconds)];
        let mut row = vec![built.chunks.to_string(), built.side.clone()];
        row.extend(rates(built.words_s));
        row.extend(rates(built.all_s));
        row.extend([figure(built.all_s), figure(built.disk as f64 / MB), figure(built.peak as f64 / MB)]);
        table.rows.push(row);
    }
    table
}

/// Not a number as soon as one isn't: what wasn't measured is no success.
fn worst(values: impl Iterator<Item = f64>, worse: fn(f64, f64) -> f64) -> f64 {
    values.reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { worse(a, b) }).unwrap_or(f64::NAN)
}

/// Goals for our side alone: `heard` by filter, then memory and disk of what is derived from the files.
pub(super) fn own_goals(chunks: u32, heard: &[&Heard], memory: u64, disk: u64) -> Vec<Goal> {
    let millions = f64::from(chunks) / 1e6;
    let p99 = worst(heard.iter().map(|one| stat::quantile(&one.hybrid_ms, 0.99)), f64::max);
    let recall = worst(heard.iter().map(|one| one.recall()), f64::min);
    let outside: usize = heard.iter().map(|one| one.outside).sum();
    // A small index is scanned by its 8-bit copies, so less than a million chunks may take what a million may.
    let memory_max = MEMORY_MB_MAX * millions.max(1.0);
    vec![
        Goal::plain("slowest p99 of hybrid search", p99, "ms", Bound::AtMost(P99_MS_MAX)),
        Goal::plain("least recall@10 against a look at each vector", recall, "", Bound::AtLeast(RECALL_MIN)),
        Goal::plain("passages outside their filter", outside as f64, "", Bound::AtMost(0.0)),
        Goal::plain("vectors in memory, mapped pages counted", memory as f64 / MB, "MB", Bound::AtMost(memory_max)),
        Goal::plain("vectors and words on disk", disk as f64 / MB, "MB", Bound::AtMost(DISK_MB_MAX * millions)),
    ]
}

/// Goals beside the peers: `heard` by filter, then by side, ours first. A peer that answered under every filter counts.
pub(super) fn beside_goals(names: &[(String, Vec<String>)], heard: &[Vec<Heard>]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (at, (name, _)) in names.iter().enumerate().skip(1) {
        if heard.iter().any(|sides| sides[at].hybrid_ms.is_empty()) {
            continue;
        }
        // A peer may have stopped early under a filter: only what both answered makes a pair.
        let pairs: Vec<(f64, f64)> = heard
            .iter()
            .flat_map(|sides| sides[0].hybrid_ms.iter().copied().zip(sides[at].hybrid_ms.iter().copied()))
            .collect();
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let ratio = stat::ratio(&ours, &theirs);
        let medians = (stat::median(&ours), stat::median(&theirs));
        goals.push(Goal::beside(
            &format!("hybrid search beside {name}"),
            medians,
            "ms",
            ratio,
            Bound::Below(BESIDE_MAX),
        ));
    }
    goals.push(Goal::plain("peers measured in the same run", goals.len() as f64, "", Bound::AtLeast(PEERS_MIN)));
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under() -> Under {
        Under { first: 10, end: 20, nearest: vec![11, 12, 13, 14] }
    }

    fn answer(ms: f64, chunks: &[u32]) -> Answer {
        Answer { ms, chunks: chunks.to_vec() }
    }

    fn heard(times: &[f64]) -> Heard {
        let mut heard = Heard::default();
        for ms in times {
            heard.add(&under(), &answer(*ms, &[10]), &answer(1.0, &[11, 12, 13, 14]));
        }
        heard
    }

    fn names() -> Vec<(String, Vec<String>)> {
        ["ours", "a", "b"].iter().map(|name| ((*name).to_string(), vec!["as it is".to_string()])).collect()
    }

    #[test]
    fn recall_is_of_vectors_and_strictness_of_both() {
        let mut heard = Heard::default();
        heard.add(&under(), &answer(3.0, &[19, 20, 9]), &answer(1.0, &[14, 13, 30]));
        assert_eq!((heard.held, heard.wanted, heard.outside), (2, 4, 3));
        assert_eq!(heard.hybrid_ms, [3.0]);
        assert!(Heard::default().recall().is_nan(), "no question is no recall");
    }

    #[test]
    fn a_slow_or_lax_search_misses_its_goals() {
        let met = |heard: &Heard, memory, disk| {
            own_goals(1_000_000, &[heard], memory, disk).iter().map(|goal| goal.met).collect::<Vec<_>>()
        };
        let good = heard(&[5.0; 12]);
        assert_eq!(met(&good, 59_000_000, 1_100_000_000), [true; 5]);
        assert_eq!(met(&good, 61_000_000, 1_300_000_000), [true, true, true, false, false]);
        let mut lax = heard(&[5.0, 50.0]);
        lax.held -= 1;
        lax.outside = 1;
        assert_eq!(met(&lax, 0, 0), [false, false, false, true, true]);
        assert_eq!(met(&Heard::default(), 0, 0)[..2], [false, false], "nothing heard is no success");
    }

    #[test]
    fn peers_are_judged_by_what_both_answered() {
        let ours: Vec<f64> = (0..20).map(|at| 5.0 + 0.1 * f64::from(at)).collect();
        let sides = vec![heard(&ours), heard(&[50.0; 12]), Heard::default()];
        let goals = beside_goals(&names(), &[sides.clone(), sides]);
        assert_eq!(goals.len(), 2, "a peer that never answered has no goal");
        assert!(goals[0].met && goals[0].name == "hybrid search beside a");
        assert!(!goals[1].met, "one peer is too few");
        let equal = vec![heard(&ours), heard(&ours), heard(&ours)];
        let goals = beside_goals(&names(), &[equal]);
        assert_eq!(goals.iter().map(|goal| goal.met).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn tables_name_what_was_measured() {
        let sides = vec![heard(&[5.0, 6.0]), Heard::default(), heard(&[7.0])];
        let rows = search_rows(100, &names(), &sides);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1][..4], ["1 %", "b", "7.00", "7.00"]);
        let built =
            Built { chunks: 1000, side: "a".into(), words_s: 2.0, all_s: 4.0, disk: 3_000_000, peak: 9_000_000 };
        let table = built_table(&[built], &[(1000, 8_000_000)]);
        assert_eq!(table.rows[0], ["1000", "a", "500", "4.00", "250", "2.00", "4.00", "3.00", "9.00"]);
    }
}
