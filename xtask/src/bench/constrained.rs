//! `bench constrained`: one core of quota, a memory limit, and a neighbour that never rests.
//!
//! Ours chooses its own threads; llama.cpp's bench program is tried with every number of them under
//! the same limits, and the best one is compared in pairs. A model that nearly fills the memory shows whether what was
//! predicted is what is taken.

use super::chat::{Call, Client, Side, text};
use super::daemon::{Daemon, Freehold, Loaded, Profile};
use super::group::{Grant, Group};
use super::peer::{self, Peer};
use super::raw::{fresh_tokens, ours};
use super::report::{Bound, Goal, Report, Table, figure};
use super::shape::{SHAPES, Shape};
use super::sizes::{GIB, made};
use super::stat::{self, estimate};
use super::{Options, Watch, process};
use crate::place;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

const CORES: f64 = 1.0;
const GRANT: Grant = Grant { cores: Some(CORES), memory_bytes: 6 << 30 };
const RATIO_MIN: f64 = 0.95;
const PREDICTION_OFF_MAX: f64 = 0.05;
const TRIALS: u32 = 2;
const PAIRS_MIN: u32 = 16;
const PAIRS_MAX: u32 = 40;
/// Prompts and answers of each side in a pair.
const REPETITIONS: u32 = 2;
const PROMPT_TOKENS: u32 = 128;
const GENERATED_TOKENS: u32 = 32;
/// The model whose speed is compared, and the one that nearly fills the memory.
const FAST: &str = "1B dense";
const LARGE: &str = "8B dense";
/// What a model is counted with in the budget, by `freehold status --json`, and what of it is only room for states, of which this
/// benchmark makes hardly any.
const PREDICTED: &str = "held_bytes";
const FOR_STATES: &str = "states_bytes_max";
/// Names of goals.
const SPEED: &str = "speed under one core of quota";
const MEMORY: &str = "predicted memory, off the worker's peak by";
const KILLS: &str = "processes killed for memory";

/// A process that takes a processor and gives nothing; dropping it ends it.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("can't start a neighbour")?))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tokens per second: the peer's by its number of threads, from one on, in a few trials; then ours and those of its best
/// number, in pairs.
#[derive(Debug, Default, Clone)]
struct Series {
    trials: Vec<Vec<f64>>,
    ours: Vec<f64>,
    peer: Vec<f64>,
}

impl Series {
    /// The number of threads that was best on average.
    fn best(&self) -> Option<u32> {
        let means = (1..).zip(self.trials.iter().map(|rates| estimate(rates).mean));
        means.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(threads, _)| threads)
    }

    fn ratio(&self) -> stat::Estimate {
        stat::ratio(&self.ours, &self.peer)
    }

    fn is_narrow(&self) -> bool {
        stat::is_narrow(&self.ratio())
    }
}

/// Speeds under one condition.
#[derive(Debug)]
struct Measured {
    condition: &'static str,
    prompt: Series,
    generate: Series,
}

fn shape(start: &str, quick: bool) -> Result<Shape> {
    let shape = SHAPES.iter().find(|shape| shape.name.starts_with(start)).context("a shape of that name")?;
    Ok(if quick { shape.shortened() } else { *shape })
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("one core of quota, 6 GiB and a noisy neighbour");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let folder = place::cache()?.join("shapes");
    std::fs::create_dir_all(&folder)?;
    let mut watch = Watch::start(options.patience())?;
    // Under the machine's lock: making one takes away empty ones.
    let group = match Group::make("constrained", GRANT) {
        Ok(group) => group,
        Err(why) => {
            report.goals.extend([SPEED, MEMORY, KILLS].map(|name| Goal::skipped(name, &format!("{why:#}"))));
            return Ok(report.finish(options.json));
        }
    };
    let fast = made(&shape(FAST, options.quick)?, &folder, &starter.chat)?;
    let speeds = speeds(&freehold, &fast, &group, options, &mut watch);
    remove(&fast, options)?;
    let (speeds, threads, peer) = speeds?;
    let large = made(&shape(LARGE, options.quick)?, &folder, &starter.chat)?;
    let memory = memory(&freehold, &large, &group);
    remove(&large, options)?;
    let memory = memory?;
    report.quiet = Some(watch.seen());

    report.setting("limits", format!("{CORES} core of quota, {:.0} GiB", GRANT.memory_bytes as f64 / GIB));
    report.setting("ours", format!("{}, {threads} threads by its own choice", ours(&freehold)?));
    report.setting("peer", peer.words());
    report.setting("models", format!("{FAST} for speed, {LARGE} for memory, random weights"));
    report.setting("work", format!("prompts of {PROMPT_TOKENS} tokens, answers of {GENERATED_TOKENS}"));
    report.tables.push(table(&speeds));
    report.tables.push(memory.table());
    report.goals.extend(speeds.iter().flat_map(goals));
    report.goals.push(memory.goal());
    let kills = group.kills()? as f64;
    report.goals.push(Goal::plain(KILLS, kills, "processes", Bound::Below(1.0)));
    Ok(report.finish(options.json))
}

fn remove(file: &Path, options: Options) -> Result<()> {
    if options.keep { Ok(()) } else { std::fs::remove_file(file).context("a made file can be removed") }
}

/// Speeds without and with a neighbour, the threads that ours chose, and the peer.
fn speeds(
    freehold: &Freehold,
    file: &Path,
    group: &Group,
    options: Options,
    watch: &mut Watch,
) -> Result<(Vec<Measured>, u32, Peer)> {
    let settings = [("FREEHOLD_SEQUENCES", "1".to_string()), ("FREEHOLD_CONTEXT", "2048".to_string())];
    let daemon = Daemon::start_in(freehold, &[file], &settings, Some(group))?;
    let client = Client { side: Side::Ours, address: daemon.address.clone() };
    let filler = client.fit(PROMPT_TOKENS)?;
    let loaded = daemon.loaded(file)?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let (trials, pairs) = if options.quick { (1, 1) } else { (TRIALS, PAIRS_MAX) };
    let (mut all, mut number) = (Vec::new(), 0);
    for (condition, is_noisy) in [("alone", false), ("beside a neighbour", true)] {
        watch.gap();
        let _neighbour = if is_noisy { Some(Neighbour::start()?) } else { None };
        let mut measured = Measured { condition, prompt: Series::default(), generate: Series::default() };
        for _ in 0..trials {
            peers_trial(&peer, file, group, &mut measured)?;
        }
        for pair in 0..pairs {
            eprint!("\r{condition}: pair {} of at most {pairs} ", pair + 1);
            for side in Side::order(pair) {
                match side {
                    Side::Ours => ours_once(&client, filler, number, &mut measured)?,
                    Side::Peer => peers_once(&peer, file, group, &mut measured)?,
                }
            }
            // Never the same prompt twice: it would be kept.
            number += 1;
            if pair + 1 >= PAIRS_MIN && measured.prompt.is_narrow() && measured.generate.is_narrow() {
                break;
            }
        }
        eprintln!();
        all.push(measured);
    }
    Ok((all, loaded.number("threads")?, peer))
}

fn ours_once(client: &Client, filler: usize, number: u32, measured: &mut Measured) -> Result<()> {
    let number = number * (REPETITIONS + 1);
    // The peer begins with a prompt that doesn't count, too.
    client.exact(&Call::apart(filler, 1000 + number))?;
    let (mut prompt, mut generate) = (Vec::new(), Vec::new());
    for number in number + 1..=number + REPETITIONS {
        let answer = client.exact(&Call::apart(filler, 1000 + number))?;
        prompt.push(f64::from(fresh_tokens(&answer, PROMPT_TOKENS)?) / answer.first_s());
    }
    for number in number + 1..=number + REPETITIONS {
        let answer = client.exact(&Call::exact(text(0, 2000 + number), GENERATED_TOKENS + 1))?;
        generate.push(f64::from(GENERATED_TOKENS) / answer.rest_s());
    }
    measured.prompt.ours.push(estimate(&prompt).mean);
    measured.generate.ours.push(estimate(&generate).mean);
    Ok(())
}

/// Every number of threads that a person might try.
fn peers_trial(peer: &Peer, file: &Path, group: &Group, measured: &mut Measured) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for series in [&mut measured.prompt, &mut measured.generate] {
        series.trials.resize(cores, Vec::new());
    }
    for at in 0..cores {
        let threads = u32::try_from(at + 1)?;
        let (prompt, generate) =
            peer.measure_both(Some(group), file, threads, [PROMPT_TOKENS, GENERATED_TOKENS, REPETITIONS])?;
        measured.prompt.trials[at].push(prompt);
        measured.generate.trials[at].push(generate);
    }
    Ok(())
}

/// With the best number for each.
fn peers_once(peer: &Peer, file: &Path, group: &Group, measured: &mut Measured) -> Result<()> {
    let best = [&measured.prompt, &measured.generate].map(Series::best);
    let [Some(prompts), Some(answers)] = best else { bail!("no number of threads was tried") };
    let measure =
        |threads| peer.measure_both(Some(group), file, threads, [PROMPT_TOKENS, GENERATED_TOKENS, REPETITIONS]);
    let (prompt, generate) = measure(prompts)?;
    measured.prompt.peer.push(prompt);
    measured.generate.peer.push(if answers == prompts { generate } else { measure(answers)?.1 });
    Ok(())
}

/// What a load was said to need, and what the worker held.
#[derive(Debug, Default)]
struct Memory {
    predicted_bytes: Option<u64>,
    /// At most, pages of the model's file among it, which the system may take back.
    peak_bytes: u64,
    /// In the end, and nobody may take it back.
    own_bytes: u64,
}

/// Loads a model that nearly fills the memory and has it answer.
fn memory(freehold: &Freehold, file: &Path, group: &Group) -> Result<Memory> {
    let daemon = Daemon::start_in(freehold, &[file], &[], Some(group))?;
    let client = Client { side: Side::Ours, address: daemon.address.clone() };
    client.exact(&Call::exact(text(PROMPT_TOKENS as usize, 1), GENERATED_TOKENS))?;
    let loaded: Loaded = daemon.loaded(file)?;
    let pid = loaded.number("pid")?;
    Ok(Memory {
        predicted_bytes: loaded.facts[PREDICTED]
            .as_u64()
            .zip(loaded.facts[FOR_STATES].as_u64())
            .map(|(all, states)| all.saturating_sub(states)),
        peak_bytes: process::memory(pid, "VmHWM:")?,
        own_bytes: process::memory(pid, "RssAnon:")?,
    })
}

impl Memory {
    fn table(&self) -> Table {
        let mut table = Table::new("memory of the large model's worker", &["", "GiB"]);
        let gib = |bytes: u64| figure(bytes as f64 / GIB);
        table.rows.push(vec!["predicted".into(), self.predicted_bytes.map_or("–".into(), gib)]);
        table.rows.push(vec!["at most, pages of the file among it".into(), gib(self.peak_bytes)]);
        table.rows.push(vec!["in the end, its own alone".into(), gib(self.own_bytes)]);
        table
    }

    fn goal(&self) -> Goal {
        let Some(predicted) = self.predicted_bytes else {
            return Goal::skipped(MEMORY, &format!("`freehold status` names no `{PREDICTED}`"));
        };
        let off = (predicted as f64 - self.peak_bytes as f64).abs() / self.peak_bytes as f64;
        Goal::plain(MEMORY, off, "of the peak", Bound::AtMost(PREDICTION_OFF_MAX))
    }
}

fn table(all: &[Measured]) -> Table {
    let head = ["", "work", "tried: threads of llama-bench", "best", "ours", "its", "pairs"];
    let mut table = Table::new("tokens per second (means)", &head);
    for measured in all {
        for (work, series) in [("prompt", &measured.prompt), ("generation", &measured.generate)] {
            let each =
                series.trials.iter().enumerate().map(|(at, r)| format!("{}: {}", at + 1, figure(estimate(r).mean)));
            table.rows.push(vec![
                measured.condition.into(),
                work.into(),
                each.collect::<Vec<_>>().join(", "),
                series.best().map_or("–".into(), |threads| threads.to_string()),
                figure(estimate(&series.ours).mean),
                figure(estimate(&series.peer).mean),
                series.ours.len().to_string(),
            ]);
        }
    }
    table
}

fn goals(measured: &Measured) -> Vec<Goal> {
    let goal = |(work, series): (&str, &Series)| {
        let name = format!("{SPEED}, {}: {work}", measured.condition);
        let means = (estimate(&series.ours).mean, estimate(&series.peer).mean);
        Goal::beside(&name, means, "tokens/s", series.ratio(), Bound::AtLeast(RATIO_MIN))
    };
    [("prompt", &measured.prompt), ("generation", &measured.generate)].map(goal).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_number_of_threads_counts() {
        let trials = vec![vec![20.0; 3], vec![4.0, 5.0, 4.0]];
        let series = Series { trials, ours: vec![19.0; 3], peer: vec![20.0; 3] };
        assert_eq!(series.best(), Some(1));
        let measured = |ours: f64| Measured {
            condition: "alone",
            prompt: Series { ours: vec![ours; 3], ..series.clone() },
            generate: series.clone(),
        };
        assert!(goals(&measured(19.1))[0].met && !goals(&measured(18.9))[0].met);
        assert!(Series::default().best().is_none());
    }

    #[test]
    fn a_prediction_may_be_off_a_little_either_way() {
        let met = |predicted| Memory { predicted_bytes: Some(predicted), peak_bytes: 1000, own_bytes: 900 }.goal().met;
        assert!(met(950) && met(1050) && !met(949) && !met(1051));
        assert!(!Memory { peak_bytes: 1000, ..Memory::default() }.goal().met, "no prediction is no success");
    }

    #[test]
    fn both_models_are_among_the_shapes() {
        for name in [FAST, LARGE] {
            assert!(shape(name, false).expect("a shape").bytes() < GRANT.memory_bytes);
        }
    }
}
