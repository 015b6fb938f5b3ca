//! One file per command: its arguments, its help, what it does.

pub(crate) mod ask;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod forget;
pub(crate) mod index;
pub(crate) mod map;
pub(crate) mod models;
pub(crate) mod pull;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod task;

mod check;
mod filter;
mod fresh;
mod table;

use crate::args::Command;
use crate::bar::{Bar, Unit};
use crate::ending::{Ending, Outcome};
use crate::screen::Paint;
use crate::words::{plural, rate};
use crate::{Context, words};
use base::answer::Progress;
use base::{Code, Fault, Usage};
use std::path::{Path, PathBuf};

/// Runs the command; Ctrl-C ends it, and with it what the daemon does for it.
pub(crate) fn run(command: Command, context: Context) -> Outcome {
    match command {
        // These two decide themselves what Ctrl-C means.
        Command::Serve(args) => serve::run(args, context),
        Command::Chat(args) => on_runtime(chat::run(args, context)),
        Command::Completions(args) => completions::run(&args, &context.screen),
        Command::Ask(args) => interruptible(ask::run(args, context)),
        Command::Search(args) => interruptible(search::run(args, context)),
        Command::Index(args) => interruptible(index::run(args, context)),
        Command::Map(args) => interruptible(map::run(args, context)),
        Command::Forget(args) => interruptible(forget::run(args, context)),
        Command::Summarize(args) => interruptible(task::run(args.wanted(), context)),
        Command::Classify(args) => wanted(args.wanted(), context),
        Command::Extract(args) => wanted(args.wanted(), context),
        Command::Rewrite(args) => interruptible(task::run(args.wanted(), context)),
        Command::Normalize(args) => interruptible(task::run(args.wanted(), context)),
        Command::Translate(args) => interruptible(task::run(args.wanted(), context)),
        Command::Proofread(args) => interruptible(task::run(args.wanted(), context)),
        Command::Title(args) => interruptible(task::run(args.wanted(), context)),
        Command::DetectLanguage(args) => interruptible(task::run(args.wanted(), context)),
        Command::Pull(args) => interruptible(pull::run(args, context)),
        Command::Models(args) => interruptible(models::run(args, context)),
        Command::Doctor(args) => interruptible(doctor::run(args, context)),
        Command::Status(args) => interruptible(status::run(args, context)),
        Command::Stop(args) => interruptible(stop::run(args, context)),
    }
}

fn wanted(wanted: Result<task::args::Wanted, Fault>, context: Context) -> Outcome {
    interruptible(task::run(wanted?, context))
}

fn interruptible(work: impl Future<Output = Outcome>) -> Outcome {
    on_runtime(async {
        tokio::select! {
            outcome = work => outcome,
            signal = tokio::signal::ctrl_c() => match signal {
                Ok(()) => Err(Ending::Interrupted),
                Err(error) => Err(Fault::new(Code::Internal, "signals can't be received").cause(error).into()),
            },
        }
    })
}

fn on_runtime(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal, "the program can't set itself up").cause(error))?;
    let outcome = runtime.block_on(work);
    // A thread may wait for a line of input for ever; the process ends without it.
    runtime.shutdown_background();
    outcome
}

/// The path from the root: the daemon has a working directory of its own.
fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path).map_err(|error| Fault::io("find", path, &error))
}

/// A map's name, or the folder that it was made from when such a folder is here.
fn map_or_folder(given: &str) -> Result<String, Fault> {
    let path = Path::new(given);
    if path.is_dir() { Ok(absolute(path)?.display().to_string()) } else { Ok(given.to_string()) }
}

/// `reading` says what the prompt is made of.
fn show_progress(bar: &mut Bar, progress: &Progress, reading: &str) {
    match progress {
        Progress::Queued => {}
        Progress::Loading { model, percent } => {
            bar.set(&format!("loading {model}"), u64::from(*percent), Some(100), Unit::Percent);
        }
        Progress::Prefill { done, total } => {
            bar.set(reading, u64::from(*done), Some(u64::from(*total)), Unit::Things);
        }
    }
}

/// `prompt 812 tokens at 1,240/s`, `answer 64 tokens at 95/s`
fn speeds(usage: &Usage) -> [String; 2] {
    let mut prompt = format!("prompt {}", plural(u64::from(usage.prompt_tokens), "token"));
    if usage.cached_tokens > 0 {
        prompt.push_str(&format!(" ({} kept from before)", words::count(u64::from(usage.cached_tokens))));
    }
    if usage.prefill_tokens_per_sec() > 0.0 {
        prompt.push_str(&format!(" at {}/s", rate(usage.prefill_tokens_per_sec())));
    }
    let mut answer = format!("answer {}", plural(u64::from(usage.completion_tokens), "token"));
    if usage.decode_tokens_per_sec() > 0.0 {
        answer.push_str(&format!(" at {}/s", rate(usage.decode_tokens_per_sec())));
    }
    [prompt, answer]
}

/// A notice that isn't part of the data.
fn note(paint: Paint, text: &str) -> String {
    format!("{} {}", paint.yellow("note:"), crate::screen::clean(text))
}
