//! What a side of this comparison is asked: to take up the corpus, to search.

use super::judge::{Answer, Built};
use crate::bench::side::{Side, size};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// What is searched with in both arms, or with vectors alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Hybrid,
    Vectors,
}

#[derive(Debug, Deserialize)]
struct Indexed {
    words_s: f64,
    all_s: f64,
    settings: String,
    knobs: Vec<String>,
}

impl Side {
    /// Has it take up the corpus.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn index(&mut self, chunks: u32, limit: Duration) -> Result<(Built, String)> {
        let indexed: Indexed = serde_json::from_value(self.request(&json!({ "do": "index" }), limit)?)?;
        if indexed.knobs.is_empty() {
            bail!("it names no setting");
        }
        self.knobs = indexed.knobs;
        let built = Built {
            chunks,
            side: self.name.clone(),
            words_s: indexed.words_s,
            all_s: indexed.all_s,
            disk: size(&self.store),
            peak: self.memory("VmHWM:")?,
        };
        Ok((built, indexed.settings))
    }

    /// Searches.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(super) fn ask(
        &mut self,
        question: usize,
        filter: usize,
        arm: Arm,
        knob: usize,
        limit: Duration,
    ) -> Result<Answer> {
        let arm = match arm {
            Arm::Hybrid => "hybrid",
            Arm::Vectors => "vectors",
        };
        let request = json!({ "do": "ask", "question": question, "filter": filter, "arm": arm, "knob": knob });
        serde_json::from_value(self.request(&request, limit)?).context("its reply isn't as expected")
    }

    /// Bytes in its memory of files below a folder that it has mapped.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(super) fn mapped(&self, folder: &Path) -> Result<u64> {
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", self.pid()))?;
        Ok(mapped(&smaps, &folder.display().to_string()))
    }
}

fn mapped(smaps: &str, folder: &str) -> u64 {
    let (mut is_below, mut kib) = (false, 0);
    for line in smaps.lines() {
        let head = line.split_whitespace().next().unwrap_or_default();
        if head.contains('-') {
            is_below = line.contains(folder);
        } else if is_below && head == "Rss:" {
            kib += line.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_files_of_the_folder_count() {
        let smaps = "7f00-7f10 r--p 0 08:01 5 /x/map/vectors/a.bin\nSize: 64 kB\nRss: 12 kB\n\
                     7f20-7f30 r--p 0 08:01 5 /usr/lib/libc.so\nRss: 99 kB\n\
                     7f40-7f50 r--p 0 08:01 5 /x/map/vectors/b.bin\nRss: 4 kB\n";
        assert_eq!(mapped(smaps, "/x/map/vectors"), 16 * 1024);
    }
}
