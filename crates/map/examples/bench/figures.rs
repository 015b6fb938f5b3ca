//! From what was measured to the object that `cargo xtask` prints.

use super::Under;
use serde_json::{Value, json};
use std::path::Path;

const MB: f64 = 1e6;
const P99_MS_MAX: f64 = 35.0;
const RECALL_MIN: f64 = 0.99;
/// For a million chunks; more may take more.
const MEMORY_MB_MAX: f64 = 60.0;
const DISK_MB_MAX: f64 = 1200.0;

pub(crate) struct Measured<'a> {
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
    pub(crate) words_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) memory: u64,
    /// Vectors, words, record.
    pub(crate) disk: [u64; 3],
    pub(crate) unders: &'a [Under],
}

/// Bytes in memory of files below a folder that are mapped into this process.
pub(crate) fn mapped(folder: &Path) -> std::io::Result<u64> {
    let (folder, mut ours, mut kib) = (folder.display().to_string(), false, 0);
    for line in std::fs::read_to_string("/proc/self/smaps")?.lines() {
        let head = line.split_whitespace().next().unwrap_or_default();
        if head.contains('-') {
            ours = line.contains(&folder);
        } else if ours && head == "Rss:" {
            kib += line.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(kib * 1024)
}

/// Bytes of a file, or of all files below a folder.
pub(crate) fn size(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
    }
}

fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

fn goal(name: &str, measured: f64, unit: &str, goal: String, met: bool) -> Value {
    let nothing = Value::Null;
    json!({ "name": name, "measured": measured, "peer": nothing, "unit": unit, "goal": goal, "ratio": nothing,
        "interval": nothing, "met": met })
}

pub(crate) fn report(measured: &Measured<'_>) -> Value {
    let Measured { chunks, bytes, words_seconds, seconds, memory, disk, unders } = measured;
    let millions = f64::from(*chunks) / 1e6;
    let rows: Vec<[String; 5]> = unders
        .iter()
        .map(|under| {
            [
                format!("{} %", f64::from(under.share) / 100.0),
                format!("{:.1}", percentile(&under.hybrid_ms, 0.5)),
                format!("{:.1}", percentile(&under.hybrid_ms, 0.99)),
                format!("{:.4}", under.held as f64 / under.wanted.max(1) as f64),
                under.violations.to_string(),
            ]
        })
        .collect();
    let p99 = unders.iter().map(|under| percentile(&under.hybrid_ms, 0.99)).fold(0.0, f64::max);
    let recall = unders.iter().map(|under| under.held as f64 / under.wanted.max(1) as f64).fold(1.0, f64::min);
    let violations: usize = unders.iter().map(|under| under.violations).sum();
    let (memory, derived) = (*memory as f64 / MB, (disk[0] + disk[1]) as f64 / MB);
    // A small index is scanned by its 8-bit copies, so less than a million chunks may take what a million may.
    let (memory_max, disk_max) = (MEMORY_MB_MAX * millions.max(1.0), DISK_MB_MAX * millions);
    let [vectors, words, record] = disk.map(|size| format!("{:.1} MB", size as f64 / MB));
    json!({
        "settings": [
            ["chunks", chunks.to_string()],
            ["text", format!("{:.1} MB by Zipf's law, vectors of {} dimensions in clusters", *bytes as f64 / MB, super::corpus::DIMENSIONS)],
            ["indexed, words", format!("{:.0} chunks/s, {:.2} MB/s", f64::from(*chunks) / words_seconds, *bytes as f64 / MB / words_seconds)],
            ["indexed, with vectors (made up, not embedded)", format!("{:.0} chunks/s, {:.2} MB/s", f64::from(*chunks) / seconds, *bytes as f64 / MB / seconds)],
            ["disk", format!("vectors {vectors}, words {words}, record {record}")],
        ],
        "tables": [{ "title": "hybrid search under a filter", "head": ["filter leaves", "p50 ms", "p99 ms", "recall@10 of vectors", "violations"], "rows": rows }],
        "notes": [],
        "goals": [
            goal("slowest p99 of hybrid search", p99, "ms", format!("<= {P99_MS_MAX}"), p99 <= P99_MS_MAX),
            goal("least recall@10 against a look at each vector", recall, "", format!(">= {RECALL_MIN}"), recall >= RECALL_MIN),
            goal("passages outside their filter", violations as f64, "", "= 0".into(), violations == 0),
            goal("vectors in memory, mapped pages counted", memory, "MB", format!("<= {memory_max:.2}"), memory <= memory_max),
            goal("vectors and words on disk", derived, "MB", format!("<= {disk_max:.1}"), derived <= disk_max),
        ],
    })
}
