//! `bench raw`: what a client gets through daemon and HTTP, beside llama.cpp's own bench program.
//!
//! Ours is timed at the client's socket: a prompt from the request's first byte to the first text
//! (template, tokenizing, hops and the first token included), generation from the first text to the
//! last. The peer times its decode calls alone. Both take turns in one run, in changing order.

use super::daemon::{Daemon, Freehold, Profile};
use super::http;
use super::peer::{self, Work};
use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::{self, estimate};
use super::{Options, Watch, limit};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

const PROMPT_TOKENS: u32 = 512;
const GENERATED_TOKENS: u32 = 128;
/// End of text, begin and end of turn of the starter model. They are barred, so that an answer is
/// text and has exactly the length that was asked for.
const END_TOKENS: [u32; 3] = [0, 1, 2];
/// A share of the peer's speed that everything around the arithmetic may cost: 5 %.
const RATIO_MIN: f64 = 0.95;

/// What one request showed.
#[derive(Debug, Clone, Copy)]
struct Shown {
    prompt_tokens: u32,
    completion_tokens: u32,
    cached_tokens: u32,
    /// Seconds from the request to the first text.
    first_s: f64,
    /// Seconds from the first text to the last.
    rest_s: f64,
    /// The worker's own figures, tokens per second.
    worker_prompt: f64,
    worker_generate: f64,
}

/// Tokens per second of one kind of work, ours and the peer's of the same rounds.
#[derive(Debug, Default)]
struct Series {
    ours: Vec<f64>,
    worker: Vec<f64>,
    peer: Vec<f64>,
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("raw speed through daemon and HTTP beside llama.cpp's bench program");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let daemon = Daemon::start(&freehold, &starter)?;
    let asker = Asker { address: daemon.address.clone() };
    let filler = asker.fit(PROMPT_TOKENS)?;
    let depth = asker.generate(0)?.prompt_tokens;
    let loaded = loaded(&daemon, &starter.chat)?;
    let threads = loaded["threads"]
        .as_u64()
        .and_then(|threads| u32::try_from(threads).ok())
        .context("status names no threads")?;
    let peer = peer::ensure(&words(&loaded["devices"]))?;
    let mut watch = Watch::start(options.patience())?;

    let (rounds, repetitions) = if options.quick { (3, 2) } else { (30, 2) };
    let mut prompt = Series::default();
    let mut generate = Series::default();
    for round in 0..rounds {
        eprint!("\rround {} of {rounds} ", round + 1);
        watch.gap();
        let order = if round % 2 == 0 { [Side::Peer, Side::Ours] } else { [Side::Ours, Side::Peer] };
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

    report.setting("limit", limit(&starter.chat, threads, estimate(&generate.ours).mean)?);
    report.setting("model", starter.chat.display().to_string());
    report.setting("peer", peer.words());
    report.setting("ours", ours(&freehold)?);
    report.setting("threads", threads.to_string());
    report.setting("devices and features", format!("{} {}", words(&loaded["devices"]), words(&loaded["features"])));
    report.setting("alternations", format!("{rounds}, each {repetitions} runs a side after a warm-up, order changing"));
    report.setting("prompt", format!("{PROMPT_TOKENS} tokens, never the same twice, nothing cached"));
    report.setting("generation", format!("{GENERATED_TOKENS} tokens behind {depth}, temperature 0, end tokens barred"));
    report.tables.push(table(&prompt, &generate));
    for (name, series) in [("prompt", &prompt), ("generation", &generate)] {
        let ratio = stat::ratio(&series.ours, &series.peer);
        let means = (estimate(&series.ours).mean, estimate(&series.peer).mean);
        report.goals.push(Goal::beside(name, means, "tokens/s", ratio, Bound::AtLeast(RATIO_MIN)));
    }
    Ok(report.finish(options.json))
}

/// Each token of an answer reads all weights once, so memory's speed bounds generation.
fn limit(model: &Path, threads: u32, tokens_per_s: f64) -> Result<String> {
    let memory = limit::read_gb_per_s(threads as usize);
    let read = std::fs::metadata(model)?.len() as f64 / 1e9 * tokens_per_s;
    Ok(format!(
        "{threads} threads read {} GB/s from memory here; generation reads {} GB/s of weights, {:.0} % of that",
        figure(memory),
        figure(read),
        100.0 * read / memory
    ))
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Peer,
    Ours,
}

/// The bindings' version and the ggml in them: the crate doesn't say which commit it carries.
fn ours(freehold: &Freehold) -> Result<String> {
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

fn loaded(daemon: &Daemon<'_>, model: &Path) -> Result<Value> {
    let status = daemon.status()?;
    let models = status["models"].as_array().context("status lists no models")?;
    models.first().cloned().with_context(|| format!("`{}` isn't loaded", model.display()))
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
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

/// Asks the daemon as any client of the OpenAI dialect would.
#[derive(Debug)]
struct Asker {
    address: String,
}

impl Asker {
    /// How many filler words make a prompt of exactly `tokens`.
    fn fit(&self, tokens: u32) -> Result<usize> {
        let mut words = tokens as usize - 40;
        for _ in 0..8 {
            let got = self.ask(&text(words, 0), 1)?.prompt_tokens;
            if got == tokens {
                return Ok(words);
            }
            words = (words + tokens as usize)
                .checked_sub(got as usize)
                .context("the template alone is longer than the prompt")?;
        }
        bail!("can't make a prompt of exactly {tokens} tokens")
    }

    fn prompts(&self, filler: usize, round: u32, repetitions: u32, series: &mut Series) -> Result<()> {
        let mut ours = Vec::new();
        let mut worker = Vec::new();
        // The first is a warm-up, as the peer has one.
        for repetition in 0..=repetitions {
            let shown = self.ask(&text(filler, 100 + round * 20 + repetition), 1)?;
            if shown.prompt_tokens != PROMPT_TOKENS {
                bail!("the prompt has {} tokens instead of {PROMPT_TOKENS}", shown.prompt_tokens);
            }
            // The template's own head is the same in all prompts and may be kept; little else may.
            if shown.cached_tokens > PROMPT_TOKENS / 10 {
                bail!("{} tokens of the prompt were cached", shown.cached_tokens);
            }
            if repetition > 0 {
                ours.push(f64::from(shown.prompt_tokens - shown.cached_tokens) / shown.first_s);
                worker.push(shown.worker_prompt);
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
            let shown = self.generate(round * 20 + repetition)?;
            if repetition > 0 {
                // The first token comes with the prompt.
                ours.push(f64::from(shown.completion_tokens - 1) / shown.rest_s);
                worker.push(shown.worker_generate);
            }
        }
        series.ours.push(estimate(&ours).mean);
        series.worker.push(estimate(&worker).mean);
        Ok(())
    }

    fn generate(&self, number: u32) -> Result<Shown> {
        let shown = self.ask(&format!("Tell story {:03}.", number % 1000), GENERATED_TOKENS + 1)?;
        if shown.completion_tokens != GENERATED_TOKENS + 1 {
            bail!("{} tokens came instead of {}", shown.completion_tokens, GENERATED_TOKENS + 1);
        }
        Ok(shown)
    }

    fn ask(&self, prompt: &str, tokens_max: u32) -> Result<Shown> {
        let bias: serde_json::Map<String, Value> =
            END_TOKENS.iter().map(|token| (token.to_string(), json!(-100))).collect();
        // No model named: the default one, which is the only chat model of this home.
        let body = json!({
            "model": "", "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": tokens_max, "temperature": 0, "logit_bias": bias,
            "stream": true, "stream_options": { "include_usage": true },
        });
        shown(&http::post(&self.address, "/v1/chat/completions", &body)?)
    }
}

/// A prompt that no other shares more than its template with: its number stands first.
fn text(words: usize, number: u32) -> String {
    let number: Vec<String> = format!("{number:04}").chars().map(String::from).collect();
    format!("{}{}", number.join(" "), " the".repeat(words))
}

/// Reads the stream's events: times of first and last text, and the usage that the last ones carry.
fn shown(reply: &http::Reply) -> Result<Shown> {
    let mut first = None;
    let mut last = reply.sent;
    let mut usage = Value::Null;
    let mut extra = Value::Null;
    for line in &reply.lines {
        let Some(data) = line.text.strip_prefix("data:").map(str::trim).filter(|data| *data != "[DONE]") else {
            continue;
        };
        let event: Value = serde_json::from_str(data).with_context(|| format!("an event isn't JSON: {data}"))?;
        if !event["error"].is_null() {
            bail!("the answer broke off: {}", event["error"]);
        }
        let choice = &event["choices"][0];
        // A lone token may be half of a letter and have no text; the end of the answer shows that it came.
        let came = choice["delta"]["content"].as_str().is_some_and(|text| !text.is_empty());
        if came || (first.is_none() && choice["finish_reason"].is_string()) {
            first.get_or_insert(line.at);
            last = line.at;
        }
        if event["usage"].is_object() {
            usage = event["usage"].clone();
        }
        if event["freehold"].is_object() {
            extra = event["freehold"].clone();
        }
    }
    let first = first.context("the answer has no end")?;
    let count = |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
    Ok(Shown {
        prompt_tokens: count(&usage["prompt_tokens"]).context("the reply tells no usage")?,
        completion_tokens: count(&usage["completion_tokens"]).context("the reply tells no usage")?,
        cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0),
        first_s: (first - reply.sent).as_secs_f64(),
        rest_s: (last - first).as_secs_f64(),
        worker_prompt: extra["prefill_tokens_per_sec"].as_f64().unwrap_or(f64::NAN),
        worker_generate: extra["decode_tokens_per_sec"].as_f64().unwrap_or(f64::NAN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_stream_shows_its_times_and_tokens() {
        let sent = Instant::now();
        let line = |ms, text: &str| http::Line { at: sent + Duration::from_millis(ms), text: text.into() };
        let reply = http::Reply {
            sent,
            lines: vec![
                line(1, r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}"#),
                line(100, r#"data: {"choices":[{"delta":{"content":"a"}}]}"#),
                line(300, r#"data: {"choices":[{"delta":{"content":"b"}}]}"#),
                line(301, r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#),
                line(302, "data: [DONE]"),
            ],
        };
        let shown = shown(&reply).expect("shown");
        assert!((shown.first_s - 0.1).abs() < 1e-9 && (shown.rest_s - 0.2).abs() < 1e-9);
        assert_eq!((shown.prompt_tokens, shown.completion_tokens, shown.cached_tokens), (9, 2, 0));
    }

    #[test]
    fn prompts_differ_from_their_first_word_on() {
        assert!(text(3, 7).starts_with("0 0 0 7 the"));
        assert_eq!(text(3, 7).split(' ').count(), text(3, 1234).split(' ').count());
    }
}
