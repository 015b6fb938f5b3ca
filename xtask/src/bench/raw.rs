//! `bench raw`: what a client gets through daemon and HTTP, beside llama.cpp's own bench program.
//!
//! Ours is timed at the client's socket: a prompt from the request's first byte to the first text
//! (template, tokenizing, hops and the first token included), generation from the first text to the
//! last. The peer times its decode calls alone. Both take turns in one run, in changing order.

use super::chat::{Answer, Call, Client, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::peer::{self, Work};
use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::{self, estimate};
use super::{Options, Watch, limit};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::ExitCode;

const PROMPT_TOKENS: u32 = 512;
const GENERATED_TOKENS: u32 = 128;
/// A share of the peer's speed that everything around the arithmetic may cost: 5 %.
const RATIO_MIN: f64 = 0.95;

/// Alternations: at least the first, then until both intervals are narrow, at most the second.
const ROUNDS: (u32, u32) = (30, 90);

/// Tokens per second of one kind of work, ours and the peer's of the same rounds.
#[derive(Debug, Default)]
struct Series {
    ours: Vec<f64>,
    worker: Vec<f64>,
    peer: Vec<f64>,
}

impl Series {
    fn ratio(&self) -> stat::Estimate {
        stat::ratio(&self.ours, &self.peer)
    }

    fn is_narrow(&self) -> bool {
        stat::is_narrow(&self.ratio())
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("raw speed through daemon and HTTP beside llama.cpp's bench program");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let daemon = Daemon::start(&freehold, &starter)?;
    let asker = Asker { client: Client { side: Side::Ours, address: daemon.address.clone() } };
    let filler = asker.client.fit(PROMPT_TOKENS)?;
    let depth = asker.generate(0)?.prompt_tokens;
    let loaded = daemon.loaded(&starter.chat)?;
    let threads = loaded.number("threads")?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let mut watch = Watch::start(options.patience())?;

    let ((least, most), repetitions) = if options.quick { ((3, 3), 2) } else { (ROUNDS, 2) };
    let mut rounds = 0;
    let mut prompt = Series::default();
    let mut generate = Series::default();
    while rounds < least || rounds < most && !(prompt.is_narrow() && generate.is_narrow()) {
        let round = rounds;
        rounds += 1;
        eprint!("\rround {rounds} of {least} to {most} ");
        watch.gap();
        let order = Side::order(round);
        // Both sides of a pair come right after each other: such a machine drifts within seconds.
        for side in order {
            match side {
                Side::Peer => {
                    let speeds = peer.measure(&starter.chat, threads, Work::Prompt(PROMPT_TOKENS), repetitions)?;
                    prompt.peer.push(estimate(&speeds).mean);
                }
                Side::Ours => asker.prompts(filler, round, repetitions, &mut prompt)?,
            }
        }
        for side in order {
            match side {
                Side::Peer => {
                    let work = Work::Generate { tokens: GENERATED_TOKENS, depth };
                    let speeds = peer.measure(&starter.chat, threads, work, repetitions)?;
                    generate.peer.push(estimate(&speeds).mean);
                }
                Side::Ours => asker.generations(round, repetitions, &mut generate)?,
            }
        }
    }
    eprintln!();
    report.quiet = Some(watch.seen());
    drop(daemon);

    report.setting("limit", memory_limit(&starter.chat, threads, estimate(&generate.ours).mean)?);
    report.setting("model", starter.chat.display().to_string());
    report.setting("peer", peer.words());
    report.setting("ours", ours(&freehold)?);
    report.setting("threads", threads.to_string());
    report.setting("devices and features", format!("{} {}", loaded.words("devices"), loaded.words("features")));
    report.setting("alternations", format!("{rounds}, each {repetitions} runs a side after a warm-up, order changing"));
    report.setting("prompt", format!("{PROMPT_TOKENS} tokens, never the same twice, nothing cached"));
    report.setting("generation", format!("{GENERATED_TOKENS} tokens behind {depth}, temperature 0, end tokens barred"));
    report.tables.push(table(&prompt, &generate));
    for (name, series) in [("prompt", &prompt), ("generation", &generate)] {
        let ratio = series.ratio();
        let means = (estimate(&series.ours).mean, estimate(&series.peer).mean);
        report.goals.push(Goal::beside(name, means, "tokens/s", ratio, Bound::AtLeast(RATIO_MIN)));
    }
    Ok(report.finish(options.json))
}

/// Each token of an answer reads all weights once, so memory's speed bounds generation.
fn memory_limit(model: &Path, threads: u32, tokens_per_s: f64) -> Result<String> {
    let memory = limit::read_gb_per_s(threads as usize);
    let read = std::fs::metadata(model)?.len() as f64 / 1e9 * tokens_per_s;
    Ok(format!(
        "{threads} threads read {} GB/s from memory here; generation reads {} GB/s of weights, {:.0} % of that",
        figure(memory),
        figure(read),
        100.0 * read / memory
    ))
}

/// Tokens of a prompt that were really worked through; the template's own head is the same in all
/// prompts and may be kept, little else may.
pub(super) fn fresh_tokens(answer: &Answer, expected: u32) -> Result<u32> {
    let Answer { prompt_tokens, cached_tokens, .. } = *answer;
    if prompt_tokens != expected {
        bail!("the prompt has {prompt_tokens} tokens instead of {expected}");
    }
    if cached_tokens > expected / 4 {
        bail!("{cached_tokens} tokens of the prompt were cached");
    }
    Ok(prompt_tokens - cached_tokens)
}

/// The bindings' version and the ggml in them: the crate doesn't say which commit it carries.
pub(super) fn ours(freehold: &Freehold) -> Result<String> {
    let metadata = crate::place::metadata(None)?;
    let sys =
        metadata["packages"].as_array().into_iter().flatten().find(|package| package["name"] == "llama-cpp-sys-2");
    let manifest = sys.and_then(|sys| sys["manifest_path"].as_str()).context("the bindings aren't in the lock file")?;
    let llama = Path::new(manifest).parent().context("a manifest lies in a folder")?.join("llama.cpp");
    Ok(format!(
        "llama-cpp-sys-2 {} (ggml {}), built by {}",
        freehold.native.llama_cpp_sys,
        peer::ggml_version(&llama)?,
        freehold.native.compiler.version
    ))
}

fn table(prompt: &Series, generate: &Series) -> Table {
    let mut table =
        Table::new("tokens per second (95 % interval)", &["", "at the client", "inside the worker", "llama.cpp"]);
    for (name, series) in [("prompt", prompt), ("generation", generate)] {
        let cell = |values: &[f64]| {
            let value = estimate(values);
            format!("{} ({}–{})", figure(value.mean), figure(value.low), figure(value.high))
        };
        table.rows.push(vec![name.into(), cell(&series.ours), cell(&series.worker), cell(&series.peer)]);
    }
    table
}

/// What the daemon is asked, and how that is counted.
#[derive(Debug)]
struct Asker {
    client: Client,
}

impl Asker {
    fn prompts(&self, filler: usize, round: u32, repetitions: u32, series: &mut Series) -> Result<()> {
        let mut ours = Vec::new();
        let mut worker = Vec::new();
        // The first is a warm-up, as the peer has one.
        for repetition in 0..=repetitions {
            let answer = self.client.exact(&Call::apart(filler, 100 + round * 20 + repetition))?;
            let fresh = fresh_tokens(&answer, PROMPT_TOKENS)?;
            if fresh != PROMPT_TOKENS {
                bail!("{} tokens of the prompt were cached", answer.cached_tokens);
            }
            if repetition > 0 {
                ours.push(f64::from(fresh) / answer.first_s());
                worker.push(answer.worker_prompt);
            }
        }
        series.ours.push(estimate(&ours).mean);
        series.worker.push(estimate(&worker).mean);
        Ok(())
    }

    fn generations(&self, round: u32, repetitions: u32, series: &mut Series) -> Result<()> {
        let mut ours = Vec::new();
        let mut worker = Vec::new();
        for repetition in 0..=repetitions {
            let answer = self.generate(round * 20 + repetition)?;
            if repetition > 0 {
                // The first token comes with the prompt.
                ours.push(f64::from(answer.completion_tokens - 1) / answer.rest_s());
                worker.push(answer.worker_generate);
            }
        }
        series.ours.push(estimate(&ours).mean);
        series.worker.push(estimate(&worker).mean);
        Ok(())
    }

    fn generate(&self, number: u32) -> Result<Answer> {
        self.client.exact(&Call::exact(format!("Tell story {:03}.", number % 1000), GENERATED_TOKENS + 1))
    }
}
