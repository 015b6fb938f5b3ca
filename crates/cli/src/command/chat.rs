//! `freehold chat`

use super::{show_progress, speeds};
use crate::Context;
use crate::bar::{Bar, Unit};
use crate::ending::{Ending, Outcome, rendered};
use crate::flow::{Flow, joined};
use crate::link::{Lines, Link};
use crate::screen::Screen;
use api::native::{ChatEvent, ChatRequest};
use base::{
    Code, Compaction, Delta, Fault, Finish, Limits, Message, OnLoop, Onset, Overflow, Priority, Role, Sampling, Shape,
    Usage,
};
use serde::Serialize;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

/// A message read from a pipe; the daemon takes no larger one.
const PIPED_BYTES_MAX: u64 = 32 << 20;

const EXAMPLES: &str = "\
On a terminal this is a conversation: Ctrl-C stops an answer, Ctrl-D or /exit
ends, /clear forgets what was said. There is no transcript of it; the model
keeps what it has worked through for the next turn, until its room is needed
or `freehold forget --prompts --app freehold` erases it. When it outgrows the
model's window, the oldest turns are left out, and that is said.

Examples:
  freehold chat                                    talk to the default model
  freehold chat smollm2 -m \"Name three rivers.\"    one answer
  git diff | freehold chat                         the message from a pipe
  freehold chat -s \"Answer in French.\" --seed 7 --temperature 0.2
  freehold chat -m \"Is a whale a fish?\" --choice yes,no
  freehold chat -m \"Describe a river.\" --schema river.json";

/// Talk to a model
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A model's name, or the beginning of one [default: the default chat model]
    model: Option<String>,
    /// Ask this one thing and print the answer
    #[arg(long, short)]
    message: Option<String>,
    /// What the model is told before everything else
    #[arg(long, short)]
    system: Option<String>,
    /// 0 takes the likeliest word each time [default: 0.8]
    #[arg(long)]
    temperature: Option<f32>,
    /// Choose among the likeliest K tokens; 0: all [default: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Choose among the likeliest tokens that make up this share [default: 0.95]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Leave out tokens less likely than this share of the likeliest [default: 0.05]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Draw with this seed: the same seed gives the same words
    #[arg(long)]
    seed: Option<u32>,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Most tokens to generate
    #[arg(long)]
    tokens: Option<u32>,
    /// It can wait: questions of others go first
    #[arg(long)]
    batch: bool,
    /// The answer is JSON that fits the JSON Schema in this file
    #[arg(long, value_name = "FILE", group = "shape")]
    schema: Option<PathBuf>,
    /// The whole answer matches this regular expression
    #[arg(long, value_name = "R", group = "shape")]
    regex: Option<String>,
    /// The answer is one of these, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',', group = "shape")]
    choice: Vec<String>,
    /// Print one JSON object when the one answer is done
    #[arg(long)]
    pub(crate) json: bool,
}

/// One answer: what `--json` prints.
#[derive(Debug, Serialize)]
struct Whole {
    answer: String,
    /// What the model thought, apart from its answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    finish: Option<Finish>,
    notices: Vec<String>,
    /// What was left out of the conversation so that the rest fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    compacted: Option<Compaction>,
    usage: Usage,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = context.screen;
    let once = match &args.message {
        Some(message) => Some(message.clone()),
        None if screen.in_terminal && !args.json => None,
        None if screen.in_terminal => {
            return Err(Fault::new(Code::InvalidAsk, "`--json` is for one answer, and there is no message")
                .hint("give it: `freehold chat --json -m \"Name three rivers.\"`")
                .into());
        }
        None => Some(piped()?),
    };
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(Message::new(Role::System, system.clone()));
    }
    let shape = shape(&args)?;
    let plain = Sampling::default();
    let request = ChatRequest {
        model: args.model.clone().unwrap_or_default(),
        messages,
        sampling: Sampling {
            temperature: args.temperature.unwrap_or(plain.temperature),
            top_k: args.top_k.unwrap_or(plain.top_k),
            top_p: args.top_p.unwrap_or(plain.top_p),
            min_p: args.min_p.unwrap_or(plain.min_p),
            seed: args.seed,
            ..plain
        },
        stop: args.stop.clone(),
        limits: Limits { tokens_max: args.tokens, deadline_ms: None },
        overflow: Overflow::Compact,
        priority: if args.batch { Priority::Batch } else { Priority::Interactive },
        shape,
        onset: Onset::Start,
        on_loop: OnLoop::Stop,
    };
    let link = tokio::select! {
        link = Link::open(&context) => link?,
        () = interrupt() => return Err(Ending::Interrupted),
    };
    let chat = Chat { screen, json: args.json, link, request };
    match once {
        Some(message) => chat.once(message).await,
        None => chat.converse().await,
    }
}

/// What form the answers must have.
fn shape(args: &Args) -> Result<Shape, Fault> {
    if let Some(path) = &args.schema {
        let text = std::fs::read_to_string(path).map_err(|error| Fault::io("read", path, &error))?;
        return Shape::json_schema(text);
    }
    match &args.regex {
        Some(expression) => Shape::regex(expression.as_str()),
        None if args.choice.is_empty() => Ok(Shape::free()),
        None => Shape::choice(args.choice.clone()),
    }
}

fn piped() -> Result<String, Ending> {
    let mut text = String::new();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => Fault::new(Code::InvalidAsk, "the piped message is not UTF-8 text")
            .hint("convert it first: `iconv -t utf-8`"),
        _ => Fault::io("read", Path::new("the standard input"), &error),
    };
    std::io::stdin().lock().take(PIPED_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > PIPED_BYTES_MAX {
        return Err(Fault::new(Code::BodyTooLarge, format!("the piped message has more than {PIPED_BYTES_MAX} bytes"))
            .hint("index it instead and ask: `freehold index FOLDER`")
            .into());
    }
    if text.trim().is_empty() {
        return Err(Fault::new(Code::InvalidAsk, "the message is empty")
            .hint("give one: `freehold chat -m \"Name three rivers.\"`, or pipe one in")
            .into());
    }
    Ok(text)
}

/// Returns at the next Ctrl-C. A system that can't tell never interrupts.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Chat {
    screen: Screen,
    json: bool,
    link: Link,
    request: ChatRequest,
}

impl Chat {
    async fn once(mut self, message: String) -> Outcome {
        self.request.messages.push(Message::new(Role::User, message));
        let mut answer = Answer::new(&self.screen, self.json);
        let outcome = tokio::select! {
            outcome = answer.follow(&self.link, &self.request) => outcome,
            () = interrupt() => Err(Ending::Interrupted),
        };
        answer.close()?;
        outcome?;
        if self.json {
            self.screen.json(&answer.whole)?;
        } else {
            self.screen.talk(&answer.closing())?;
        }
        Ok(())
    }

    async fn converse(mut self) -> Outcome {
        let kept = self.request.messages.len();
        self.screen.talk(&self.screen.err.dim("Ctrl-C stops an answer, Ctrl-D ends, /help lists more"))?;
        loop {
            let line = tokio::select! {
                line = read_line(&self.screen) => line?,
                () = interrupt() => return Err(Ending::Interrupted),
            };
            let Some(line) = line else {
                self.screen.talk("")?;
                return Ok(());
            };
            match line.trim() {
                "" => {}
                "/exit" | "/quit" | "/bye" => return Ok(()),
                "/clear" => {
                    self.request.messages.truncate(kept);
                    self.screen.talk(&self.screen.err.dim("forgotten"))?;
                }
                "/help" | "/?" => self.screen.talk(
                    "/clear  forget what was said\n/exit   end (Ctrl-D too)\nA line that ends in \\ goes on in the next.",
                )?,
                _ => self.turn(line).await?,
            }
        }
    }

    /// One message and its answer. A fault ends the turn and not the conversation.
    async fn turn(&mut self, message: String) -> Outcome {
        self.request.messages.push(Message::new(Role::User, message));
        let mut answer = Answer::new(&self.screen, false);
        let outcome = tokio::select! {
            outcome = answer.follow(&self.link, &self.request) => outcome,
            () = interrupt() => Err(Ending::Interrupted),
        };
        answer.close()?;
        match outcome {
            Ok(()) => self.screen.talk(&answer.closing())?,
            Err(Ending::Interrupted) => self.screen.talk(&self.screen.err.dim("stopped"))?,
            Err(Ending::Failed(mut fault)) => {
                if fault.code == Code::ContextOverflow {
                    fault = fault.hint("forget what was said: `/clear`");
                }
                self.screen.talk(&rendered(&fault, &self.screen))?;
            }
            Err(other) => return Err(other),
        }
        if answer.whole.answer.is_empty() {
            // Nothing was said, so the question is as if it hadn't been asked.
            self.request.messages.pop();
        } else {
            self.request.messages.push(Message::new(Role::Assistant, answer.whole.answer));
        }
        Ok(())
    }
}

/// A message: one line, or several of which all but the last end in a backslash. `None` at the
/// end of the input.
async fn read_line(screen: &Screen) -> Result<Option<String>, Ending> {
    let prompt = screen.err.cyan("> ");
    let more = screen.err.cyan("· ");
    let read = tokio::task::spawn_blocking(move || {
        let mut message = String::new();
        loop {
            let mut err = std::io::stderr().lock();
            err.write_all(if message.is_empty() { prompt.as_bytes() } else { more.as_bytes() })?;
            err.flush()?;
            drop(err);
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok((!message.is_empty()).then_some(message));
            }
            let line = line.trim_end_matches(['\n', '\r']);
            match line.strip_suffix('\\') {
                Some(begun) => {
                    message.push_str(begun);
                    message.push('\n');
                }
                None => {
                    message.push_str(line);
                    return Ok(Some(message));
                }
            }
        }
    });
    let read: std::io::Result<Option<String>> =
        read.await.map_err(|error| Fault::new(Code::Internal, "reading a line ended badly").cause(error))?;
    Ok(read?)
}

/// Said before the answer that it concerns. The conversation itself keeps everything.
fn left_out(compaction: &Compaction) -> String {
    let Compaction { turns, messages, tokens } = compaction;
    let which = if *turns == 1 { "the oldest turn".to_owned() } else { format!("the {turns} oldest turns") };
    format!("this no longer fits the window: the model isn't shown {which} ({messages} messages, {tokens} tokens)")
}

/// Prints one answer as it comes.
struct Answer<'a> {
    screen: &'a Screen,
    json: bool,
    bar: Bar,
    flow: Flow,
    whole: Whole,
}

impl<'a> Answer<'a> {
    fn new(screen: &'a Screen, json: bool) -> Self {
        let flow = Flow::new(screen.out_terminal.then_some(screen.width));
        let whole = Whole {
            answer: String::new(),
            reasoning: String::new(),
            finish: None,
            notices: Vec::new(),
            compacted: None,
            usage: Usage::default(),
        };
        Self { screen, json, bar: Bar::new(screen), flow, whole }
    }

    async fn follow(&mut self, link: &Link, request: &ChatRequest) -> Outcome {
        let mut lines = link.stream("chat", request).await?;
        loop {
            match lines.next().await?.ok_or_else(Lines::cut_short)? {
                ChatEvent::Failed { failed } => return Err(failed.into()),
                ChatEvent::Delta(delta) => {
                    if self.take(delta)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether this was the last word.
    fn take(&mut self, delta: Delta) -> Result<bool, Ending> {
        match delta {
            Delta::Progress(progress) => show_progress(&mut self.bar, &progress, "reading the prompt"),
            Delta::Text(text) => {
                self.bar.clear();
                self.whole.answer.push_str(&text);
                if !self.json {
                    let out = self.flow.push(&self.screen.foreign(&text));
                    self.screen.piece(&out)?;
                }
            }
            Delta::Notice(text) => {
                self.bar.say(&super::note(self.screen.err, &text));
                self.whole.notices.push(text);
            }
            Delta::Compacted(compaction) => {
                let text = left_out(&compaction);
                self.bar.say(&super::note(self.screen.err, &text));
                self.whole.notices.push(text);
                self.whole.compacted = Some(compaction);
            }
            Delta::Thought(text) => {
                self.whole.reasoning.push_str(&text);
                let words = self.whole.reasoning.split_whitespace().count() as u64;
                self.bar.set("thinking, words so far", words, None, Unit::Things);
            }
            // A chat has no citations: they are made from files, by `ask`. It sends no tools either.
            Delta::Citation(_) | Delta::Call(_) => {}
            Delta::Usage(usage) => self.whole.usage = usage,
            Delta::Done(finish) => {
                self.whole.finish = Some(finish);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn close(&mut self) -> Result<(), Ending> {
        self.bar.clear();
        if !self.json && !self.whole.answer.is_empty() {
            let mut rest = self.flow.end();
            if self.flow.in_line() && !self.whole.answer.ends_with('\n') {
                rest.push('\n');
            }
            self.screen.piece(&rest)?;
        }
        Ok(())
    }

    fn closing(&self) -> String {
        let usage = &self.whole.usage;
        let mut parts = vec![crate::screen::clean(&usage.model).into_owned()];
        parts.extend(speeds(usage));
        match self.whole.finish {
            Some(Finish::Length) => parts.push("cut at the longest length".into()),
            Some(Finish::StructureIncomplete) => {
                parts.push("cut at the longest length, before its structure was complete".into());
            }
            Some(Finish::Loop) => parts.push("stopped: it repeated itself".into()),
            Some(Finish::Cancelled) => parts.push("cancelled".into()),
            Some(Finish::EndOfTurn | Finish::StopString | Finish::ToolCalls) | None => {}
        }
        self.screen.err.dim(&joined(&parts, self.screen.err_width()))
    }
}
