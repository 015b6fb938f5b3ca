//! `bench sizes`: models of real sizes beside llama.cpp's bench program, and beside what the machine
//! can do at most.
//!
//! The files are made here, with random weights: arithmetic costs the same whatever the numbers
//! are, and nobody has to fetch thirty gigabytes. One model is in memory at a time, and where control
//! groups can be written, both sides run in one that has no more memory than was promised.

use super::chat::{Call, Client, Side, text};
use super::daemon::{Daemon, Freehold, Profile};
use super::group::{Grant, Group};
use super::peer::{self, Peer};
use super::raw::{fresh_tokens, ours};
use super::report::{Bound, Goal, Report, Table, figure};
use super::shape::{SHAPES, Shape};
use super::stat::{self, estimate};
use super::{Options, Watch, cpu, gguf, limit, process};
use crate::place;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const RATIO_MIN: f64 = 0.95;
const MEMORY_BYTES_MAX: u64 = 20 << 30;
/// Name of a goal.
const KILLS: &str = "all within 20 GiB: processes killed for memory";
pub(super) const GIB: f64 = (1_u64 << 30) as f64;
const PROMPT_TOKENS: u32 = 256;
const GENERATED_TOKENS: u32 = 32;
/// Prompts and answers of each side in a round: what others on the same host do to its memory lasts longer than one.
const REPETITIONS: u32 = 2;
/// After so many rounds a ratio that is known well enough ends them.
const ROUNDS_MIN: u32 = 8;
const CONTEXT_TOKENS: u32 = 4096;
/// What must stay free on the disk beside the file.
const DISK_SPARE_BYTES: u64 = 2 << 30;
/// Weights and a little: a model that fits barely is read from the disk again and again.
const MEMORY_SPARE_BYTES: u64 = 2 << 30;
const SEED: u64 = 20_261_121;

/// Tokens per second of the same rounds, and the worker's peak.
#[derive(Debug, Default)]
struct Measured {
    prompt: [Vec<f64>; 2],
    generate: [Vec<f64>; 2],
    peak_bytes: u64,
    threads: u32,
    peer: String,
}

impl Measured {
    fn is_narrow(&self) -> bool {
        [&self.prompt, &self.generate].iter().all(|[ours, theirs]| stat::is_narrow(&stat::ratio(ours, theirs)))
    }

    /// What the last round gave, for who watches.
    fn last(&self) -> String {
        let pair =
            |pair: &[Vec<f64>; 2]| pair.each_ref().map(|side| side.last().map_or("–".into(), |rate| figure(*rate)));
        let ([prompt, theirs], [generation, theirs_too]) = (pair(&self.prompt), pair(&self.generate));
        format!("prompt {prompt} beside {theirs}, generation {generation} beside {theirs_too} tokens/s")
    }
}

/// Place in a pair: ours, the peer's.
const OURS: usize = 0;
const PEER: usize = 1;

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("models of real sizes beside llama.cpp's bench program");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let folder = place::cache()?.join("shapes");
    std::fs::create_dir_all(&folder)?;
    let mut watch = Watch::start(options.patience())?;
    let group = Group::make("sizes", Grant { cores: None, memory_bytes: MEMORY_BYTES_MAX });
    let (mut limits, mut peer) = (None, None);
    let mut table = Table::new("tokens per second (means)", &HEAD);
    for shape in SHAPES.into_iter().filter(|shape| options.takes(shape.name)) {
        let shape = if options.quick { shape.shortened() } else { shape };
        if let Some(why) = no_room(shape.bytes(), process::memory_available()) {
            report.goals.push(Goal::skipped(shape.name, &why));
            continue;
        }
        let file = made(&shape, &folder, &starter.chat)?;
        let rounds = if options.quick { 1 } else { rounds(&shape) };
        let measured = measure(&freehold, &file, group.as_ref().ok(), rounds, stays(&shape), &mut watch);
        if !options.keep {
            std::fs::remove_file(&file)?;
        }
        let measured = measured.with_context(|| shape.name.to_string())?;
        peer = Some(measured.peer.clone());
        let limits = match limits {
            Some(limits) => limits,
            None => *limits.insert(Limits {
                read_gb_per_s: limit::read_gb_per_s(measured.threads as usize),
                gops: cpu::best_gops(&freehold.native)?,
            }),
        };
        table.rows.push(row(&shape, &measured, limits));
        report.goals.extend(goals(&shape, &measured));
    }
    report.goals.push(match &group {
        Ok(group) => Goal::plain(KILLS, group.kills()? as f64, "processes", Bound::Below(1.0)),
        Err(why) => Goal::skipped(KILLS, &format!("{why:#}")),
    });
    report.quiet = Some(watch.seen());
    if let Some(limits) = limits {
        report.setting("limits", limits.words());
    }
    if let Some(peer) = peer {
        report.setting("peer", peer);
    }
    report.setting("ours", ours(&freehold)?);
    report
        .setting("files", "random weights, Q4_K, embedding and output Q8_0; vocabulary of the starter model, widened");
    report.setting("rounds", "8 to 32, until both ratios are known within 4 %, order changing; the peer loads the model anew, ours too where both don't fit; two prompts and answers in each");
    report.setting("work", format!("prompts of {PROMPT_TOKENS} tokens, answers of {GENERATED_TOKENS}"));
    if options.quick {
        report
            .notes
            .push("only the first layers of each shape: this shows that they load, not how fast they are".into());
    }
    report.tables.push(table);
    Ok(report.finish(options.json))
}

/// A large model takes a minute for each, and one that is loaded anew two.
fn rounds(shape: &Shape) -> u32 {
    const LARGE_BYTES: u64 = 4 << 30;
    match shape.bytes() {
        _ if !stays(shape) => 8,
        LARGE_BYTES.. => 16,
        _ => 32,
    }
}

/// Whether both sides may have it in memory at a time: weights of each, and the file's pages.
fn stays(shape: &Shape) -> bool {
    shape.bytes() * 3 <= MEMORY_BYTES_MAX
}

/// Both numbers, when the machine can't hold the model.
fn no_room(bytes: u64, available: Option<u64>) -> Option<String> {
    let need = bytes + MEMORY_SPARE_BYTES;
    let have = available.filter(|have| *have < need)?;
    Some(format!("it needs {:.1} GiB of memory, {:.1} GiB are available", need as f64 / GIB, have as f64 / GIB))
}

/// The shape's file, written when it isn't there.
pub(super) fn made(shape: &Shape, folder: &Path, starter: &Path) -> Result<PathBuf> {
    let file = folder.join(shape.file_name());
    if file.is_file() {
        return Ok(file);
    }
    let (need, have) = (shape.bytes() + DISK_SPARE_BYTES, process::disk_free(folder)?);
    if have < need {
        bail!(
            "`{}` takes {:.1} GiB of disk with some to spare; {:.1} GiB are free in `{}`",
            shape.name,
            need as f64 / GIB,
            have as f64 / GIB,
            folder.display()
        );
    }
    eprintln!("writing {} ({:.1} GiB) …", shape.name, shape.bytes() as f64 / GIB);
    let mut header = shape.header();
    let mut tokenizer = gguf::tokenizer(starter)?;
    gguf::widen(&mut tokenizer, shape.vocabulary)?;
    header.extend(tokenizer);
    // A file that is cut short never has the name of a whole one.
    let part = file.with_extension("part");
    let written = gguf::write(&part, &header, &shape.tensors(), SEED);
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written?;
    std::fs::rename(&part, &file)?;
    Ok(file)
}

fn measure(
    freehold: &Freehold,
    file: &Path,
    group: Option<&Group>,
    rounds: u32,
    stays: bool,
    watch: &mut Watch,
) -> Result<Measured> {
    let mut measured = Measured::default();
    // What the peer has to know comes from ours, so that both use as many threads on the same device.
    let (mut kept, mut peer, mut known) = (None::<Loaded<'_>>, None::<Peer>, 0);
    for round in 0..rounds {
        eprint!("\r{}: round {} of at most {rounds} ", file.display(), round + 1);
        watch.gap();
        for side in Side::order(round + 1) {
            match (side, &peer) {
                (Side::Ours, _) => {
                    let ours = match kept.take() {
                        Some(ours) => ours,
                        None => Loaded::start(freehold, file, group)?,
                    };
                    let same = peer::ensure(&ours.measure(file, round, &mut measured)?)?;
                    measured.peer = same.words();
                    peer = Some(same);
                    known = measured.threads;
                    kept = Some(ours).filter(|_| stays);
                }
                (Side::Peer, Some(peer)) => {
                    let (prompt, generate) =
                        peer.measure_both(group, file, known, [PROMPT_TOKENS, GENERATED_TOKENS, REPETITIONS])?;
                    measured.prompt[PEER].push(prompt);
                    measured.generate[PEER].push(generate);
                }
                (Side::Peer, None) => bail!("the first round begins with ours"),
            }
        }
        eprintln!("{}", measured.last());
        if round + 1 >= ROUNDS_MIN && measured.is_narrow() {
            break;
        }
    }
    Ok(measured)
}

/// The model in a daemon of its own.
struct Loaded<'a> {
    daemon: Daemon<'a>,
    client: Client,
    /// Words that make a prompt of the right length.
    filler: usize,
}

impl<'a> Loaded<'a> {
    fn start(freehold: &'a Freehold, file: &Path, group: Option<&Group>) -> Result<Self> {
        let settings = [("FREEHOLD_SEQUENCES", "1".to_string()), ("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string())];
        let daemon = Daemon::start_in(freehold, &[file], &settings, group)?;
        let client = Client { side: Side::Ours, address: daemon.address.clone() };
        let filler = client.fit(PROMPT_TOKENS)?;
        Ok(Self { daemon, client, filler })
    }

    /// Measures, and says which devices it ran on.
    fn measure(&self, file: &Path, round: u32, measured: &mut Measured) -> Result<String> {
        let Self { daemon, client, filler } = self;
        // Never the same prompt twice: it would be kept.
        let number = round * (REPETITIONS + 1);
        // The peer begins with a prompt that doesn't count, too.
        client.exact(&Call::apart(*filler, 1000 + number))?;
        let (mut prompt, mut generate) = (Vec::new(), Vec::new());
        for number in number + 1..=number + REPETITIONS {
            let answer = client.exact(&Call::apart(*filler, 1000 + number))?;
            prompt.push(f64::from(fresh_tokens(&answer, PROMPT_TOKENS)?) / answer.first_s());
        }
        for number in number + 1..=number + REPETITIONS {
            let answer = client.exact(&Call::exact(text(0, 2000 + number), GENERATED_TOKENS + 1))?;
            generate.push(f64::from(GENERATED_TOKENS) / answer.rest_s());
        }
        measured.prompt[OURS].push(estimate(&prompt).mean);
        measured.generate[OURS].push(estimate(&generate).mean);
        let loaded = daemon.loaded(file)?;
        measured.threads = loaded.number("threads")?;
        measured.peak_bytes = measured.peak_bytes.max(process::memory(loaded.number("pid")?, "VmHWM:")?);
        Ok(loaded.words("devices"))
    }
}

/// What the machine does at most.
#[derive(Debug, Clone, Copy)]
struct Limits {
    read_gb_per_s: f64,
    gops: f64,
}

impl Limits {
    fn words(self) -> String {
        let Self { read_gb_per_s, gops } = self;
        format!("{} GB/s read from memory, {} GOP/s in large products of Q4_K", figure(read_gb_per_s), figure(gops))
    }
}

const HEAD: [&str; 10] = [
    "",
    "prompt",
    "llama-bench",
    "GOP/s",
    "of the limit",
    "generation",
    "llama-bench",
    "GB/s of weights",
    "of the limit",
    "worker at most, GiB",
];

fn row(shape: &Shape, measured: &Measured, limits: Limits) -> Vec<String> {
    let mean = |values: &[f64]| estimate(values).mean;
    let gops = mean(&measured.prompt[OURS]) * shape.operations_per_prompt_token() as f64 / 1e9;
    let read = mean(&measured.generate[OURS]) * shape.bytes_per_token() as f64 / 1e9;
    let share = |value: f64, limit: f64| format!("{:.0} %", 100.0 * value / limit);
    vec![
        format!("{}: {:.2}·10⁹, {:.1} GiB", shape.name, shape.parameters() as f64 / 1e9, shape.bytes() as f64 / GIB),
        figure(mean(&measured.prompt[OURS])),
        figure(mean(&measured.prompt[PEER])),
        figure(gops),
        share(gops, limits.gops),
        figure(mean(&measured.generate[OURS])),
        figure(mean(&measured.generate[PEER])),
        figure(read),
        share(read, limits.read_gb_per_s),
        figure(measured.peak_bytes as f64 / GIB),
    ]
}

fn goals(shape: &Shape, measured: &Measured) -> Vec<Goal> {
    let beside = |name: &str, [ours, theirs]: &[Vec<f64>; 2]| {
        let means = (estimate(ours).mean, estimate(theirs).mean);
        let ratio = stat::ratio(ours, theirs);
        Goal::beside(&format!("{}: {name}", shape.name), means, "tokens/s", ratio, Bound::AtLeast(RATIO_MIN))
    };
    vec![beside("prompt", &measured.prompt), beside("generation", &measured.generate)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        assert_eq!(no_room(4 << 30, Some(7 << 30)), None);
        assert_eq!(no_room(4 << 30, None), None, "a system that doesn't tell is tried");
        let why = no_room(17 << 30, Some(8 << 30)).expect("no room");
        assert!(why.contains("19.0 GiB") && why.contains("8.0 GiB"), "{why}");
    }

    #[test]
    fn a_row_says_how_near_the_limits_are() {
        let shape = SHAPES[0];
        let measured =
            Measured { prompt: [vec![10.0], vec![20.0]], generate: [vec![2.0], vec![4.0]], ..<_>::default() };
        let gops = 10.0 * shape.operations_per_prompt_token() as f64 / 1e9;
        let read = 2.0 * shape.bytes_per_token() as f64 / 1e9;
        let cells = row(&shape, &measured, Limits { read_gb_per_s: read * 4.0, gops: gops * 2.0 });
        assert_eq!((cells[4].as_str(), cells[8].as_str()), ("50 %", "25 %"));
        assert_eq!(cells.len(), HEAD.len());
    }
}
