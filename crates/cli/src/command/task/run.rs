//! The calls of a run: several under way, results in the order of the inputs, faults told and counted.

use super::args::Wanted;
use super::input::{Bad, Carried, Inputs, Item, read};
use super::journal::{Begun, Entry, Journal, MAGIC, Record, Sum, copy};
use super::output::{Format, Outcome as Written, Writer, as_text};
use crate::Context;
use crate::bar::{Bar, Unit};
use crate::ending::{Ending, Outcome};
use crate::flow::{Flow, joined};
use crate::link::{Lines, Link};
use crate::screen::{Screen, clean};
use crate::words::{count, one_line, plural};
use base::{Code, Fault};
use runtime::view::{TaskEvent, TaskReply};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// LIMIT: times that one text is tried when what went wrong may pass.
const TRIES_MAX: u32 = 3;
/// LIMIT: milliseconds before a text is tried again, times how often it was.
const AGAIN_AFTER_MS: u64 = 300;
/// Results that wait for an earlier one, for each that is under way.
const AHEAD_PER_JOB: usize = 8;
/// LIMIT: faults that are told one by one; the output has them all.
const FAULTS_TOLD_MAX: usize = 20;

pub(crate) async fn run(wanted: Wanted, context: Context) -> Outcome {
    let inputs = read(&wanted.common)?;
    let to_screen = wanted.common.output.is_none();
    if wanted.common.json && inputs.len() > 1 {
        let words = format!("`--json` is for one text, and there are {}", inputs.len());
        return Err(Fault::new(Code::InvalidAsk, words).hint("write a line for each: `--format jsonl`").into());
    }
    let plain = wanted.common.format.is_none_or(|format| format == Format::Text);
    if inputs.is_single() && to_screen && (plain || wanted.common.json) {
        return one(&wanted, &inputs, &context).await;
    }
    many(wanted, inputs, context).await
}

/// One text to the screen, as it comes.
async fn one(wanted: &Wanted, inputs: &Inputs, context: &Context) -> Outcome {
    let item = inputs.get(0).map_err(|bad| bad.fault)?;
    let link = Link::open(context).await?;
    let mut body = body(wanted, &item, false);
    body.insert("stream".into(), json!(true));
    let mut lines = link.stream(&route(wanted.task), &body).await?;
    let screen = &context.screen;
    let mut shown = Shown {
        screen,
        bar: Bar::new(screen),
        flow: Flow::new(screen.out_terminal.then_some(screen.width)),
        any: false,
    };
    // Words that come before the rest is known are shown only where they are the result.
    let live =
        !wanted.common.json && matches!(wanted.task, "summarize" | "rewrite" | "translate" | "proofread" | "title");
    let reply = loop {
        match lines.next().await?.ok_or_else(Lines::cut_short)? {
            TaskEvent::Progress(progress) if !shown.any => {
                super::super::show_progress(&mut shown.bar, &progress, "reading")
            }
            TaskEvent::Parts { done, total } if !shown.any && total > 1 => {
                shown.bar.set("parts", u64::from(done), Some(u64::from(total)), Unit::Things);
            }
            TaskEvent::Text(text) if live => shown.text(&text)?,
            TaskEvent::Done(reply) => break reply,
            TaskEvent::Failed(fault) => {
                shown.close("")?;
                return Err(fault.into());
            }
            TaskEvent::Progress(_) | TaskEvent::Parts { .. } | TaskEvent::Plan(_) | TaskEvent::Text(_) => {}
        }
    };
    let value = value_of(&reply.done.result)?;
    let text = as_text(wanted.task, &value);
    shown.close(&text)?;
    // As of a question about files: an answer that isn't there is told by the status, too.
    let nothing = wanted.task == "ask" && value["answer"].is_null();
    let outcome = if nothing { Err(Ending::Nothing) } else { Ok(()) };
    if wanted.common.json {
        screen.json(&reply)?;
        return outcome;
    }
    if nothing {
        screen.talk(&screen.err.bold("The text holds no answer to this."))?;
    } else if !shown.any {
        screen.data(&screen.foreign(&text))?;
    }
    if let Some(quoted) = quoted(&item, &value["quote"]) {
        screen.data(&format!("\n{}", screen.foreign(&quoted)))?;
    }
    for notice in &reply.done.notices {
        screen.talk(&super::super::note(screen.err, notice))?;
    }
    screen.talk(&screen.err.dim(&joined(&closing(&reply), screen.err_width())))?;
    outcome
}

/// `lease.txt:12  "The lease ends on …"`: the sentence that an answer rests on.
fn quoted(item: &Item, quote: &Value) -> Option<String> {
    let (text, start) = (quote["text"].as_str()?, usize::try_from(quote["startByte"].as_u64()?).ok()?);
    let line = item.text.as_bytes().iter().take(start).filter(|byte| **byte == b'\n').count() + 1;
    Some(format!("{}:{line}  \"{}\"", item.source, one_line(text)))
}

fn value_of(result: &runtime::tasks::Outcome) -> Result<Value, Fault> {
    serde_json::to_value(result).map_err(|error| Fault::new(Code::Internal, "a result can't be shown").cause(error))
}

/// Text of the result as it comes.
struct Shown<'a> {
    screen: &'a Screen,
    bar: Bar,
    flow: Flow,
    any: bool,
}

impl Shown<'_> {
    fn text(&mut self, text: &str) -> Result<(), Ending> {
        self.bar.clear();
        self.any = true;
        let out = self.flow.push(&self.screen.foreign(text));
        Ok(self.screen.piece(&out)?)
    }

    fn close(&mut self, whole: &str) -> Result<(), Ending> {
        self.bar.clear();
        if self.any {
            let mut rest = self.flow.end();
            if !whole.ends_with('\n') {
                rest.push('\n');
            }
            self.screen.piece(&rest)?;
        }
        Ok(())
    }
}

/// What was done with what, for the last line.
fn closing(reply: &TaskReply) -> Vec<String> {
    let plan = &reply.done.plan;
    let mut parts = Vec::new();
    match reply.usage.model.as_str() {
        "" => parts.push("no language model".to_owned()),
        model => parts.push(clean(model).into_owned()),
    }
    if plan.parts > 1 {
        let passes = if plan.passes > 1 { format!(" in {} passes", plan.passes) } else { String::new() };
        parts.push(format!("{}{passes}", plural(u64::from(plan.parts), "part")));
    }
    if plan.calls > 0 {
        parts.push(plural(u64::from(plan.calls), "call"));
        parts.extend(super::super::speeds(&reply.usage));
    }
    parts
}

fn route(task: &str) -> String {
    format!("/v1/tasks/{task}")
}

fn body(wanted: &Wanted, item: &Item, batch: bool) -> Map<String, Value> {
    let mut body = wanted.options.clone();
    body.insert("text".into(), json!(item.text));
    if let Some(model) = &wanted.common.model {
        body.insert("model".into(), json!(model));
    }
    if batch {
        body.insert("priority".into(), json!("batch"));
    }
    body
}

/// Where records go.
enum Target {
    Screen,
    File(Box<Journal>),
    /// Done records are taken from the output that is there.
    Again {
        journal: Box<Journal>,
        before: Record,
        output: File,
    },
}

/// A text that is asked about, or whose record is there already.
enum Turn {
    Asked(JoinHandle<Result<Value, Fault>>),
    Told(Fault),
    Copied(Vec<u8>),
}

struct Waiting {
    source: String,
    carried: Carried,
    sum: Sum,
    turn: Turn,
}

async fn many(wanted: Wanted, inputs: Inputs, context: Context) -> Outcome {
    let common = wanted.common.clone();
    let format = Format::of(common.format, common.output.as_deref(), inputs.each);
    let writer = Writer::new(format, wanted.task, &wanted.options, inputs.head.clone(), (inputs.each, inputs.len()))?;
    let target = match &common.output {
        None => Target::Screen,
        Some(out) => match Journal::begin(out, &head(&wanted, format)?, common.fresh, common.retry_failed)? {
            Begun::Write(journal) => Target::File(Box::new(journal)),
            Begun::Again { journal, before, output } => Target::Again { journal: Box::new(journal), before, output },
            Begun::Complete { failed: 0 } => {
                context.screen.talk(&format!("`{}` is complete: there is nothing left to do", out.display()))?;
                return Ok(());
            }
            Begun::Complete { failed } => {
                let words = format!("{} of an earlier run failed", plural(failed as u64, "input"));
                return Err(Fault::new(Code::InputsFailed, words)
                    .hint("do those again: the same command with `--retry-failed`")
                    .hint("or begin anew: add `--fresh`")
                    .into());
            }
        },
    };
    Run::new(wanted, context, writer, target).await?.go(&inputs).await
}

/// One line that says which run this is.
fn head(wanted: &Wanted, format: Format) -> Result<String, Fault> {
    let options = serde_json::to_vec(&wanted.options)
        .map_err(|error| Fault::new(Code::Internal, "options can't be written").cause(error))?;
    let mut sum = Sum::default();
    for part in [&options[..], wanted.common.column.as_deref().unwrap_or_default().as_bytes()] {
        sum.add(part);
    }
    Ok(format!("{MAGIC} 2 {} {} {:016x}", wanted.task, format.as_str(), sum.0))
}

struct Run {
    wanted: Wanted,
    screen: Screen,
    writer: Writer,
    target: Target,
    asker: Arc<Asker>,
    bar: Bar,
    done: usize,
    /// Of these, by an earlier run.
    before: usize,
    failed: Vec<(String, Fault)>,
}

impl Run {
    async fn new(wanted: Wanted, context: Context, writer: Writer, target: Target) -> Result<Self, Ending> {
        let link = Link::open(&context).await?;
        let jobs = Semaphore::new(wanted.common.jobs as usize);
        let screen = context.screen;
        let (all, route) = (wanted.common.jobs, route(wanted.task));
        let asker = Arc::new(Asker { link: tokio::sync::Mutex::new(Arc::new(link)), context, jobs, all, route });
        let (bar, failed) = (Bar::new(&screen), Vec::new());
        Ok(Self { wanted, screen, writer, target, asker, bar, done: 0, before: 0, failed })
    }

    async fn go(mut self, inputs: &Inputs) -> Outcome {
        let (total, first) = (inputs.len(), self.begin(inputs)?);
        let ahead = self.wanted.common.jobs as usize * AHEAD_PER_JOB;
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        for at in first..total {
            let one = self.start(inputs, at)?;
            waiting.push_back(one);
            while waiting.len() > ahead || waiting.front().is_some_and(is_ready) {
                let Some(one) = waiting.pop_front() else { break };
                self.take(one, total).await?;
            }
        }
        while let Some(one) = waiting.pop_front() {
            self.take(one, total).await?;
        }
        self.bar.clear();
        self.end(total)
    }

    /// The first text to be done, behind those that an earlier run has done.
    fn begin(&mut self, inputs: &Inputs) -> Result<usize, Ending> {
        let journal = match &mut self.target {
            Target::File(journal) => journal,
            Target::Screen => {
                self.put(&self.writer.opening()?)?;
                return Ok(0);
            }
            Target::Again { before, .. } => {
                // Before any of them is asked about.
                return changed(before, inputs).map_or(Ok(0), |at| Err(is_another(at).into()));
            }
        };
        let next = journal.next();
        let shorter = (next > inputs.len()).then_some(inputs.len());
        if let Some(at) = changed(&journal.record, inputs).or(shorter) {
            let words = format!("input {} is another than the interrupted run's", count(at as u64 + 1));
            return Err(Fault::new(Code::InvalidAsk, words).hint("begin anew: add `--fresh`").into());
        }
        (self.done, self.before) = (next, next);
        self.failed.extend(journal.record.entries.iter().enumerate().filter(|(_, entry)| !entry.done).map(
            |(at, _)| {
                let source = inputs.get(at).map_or_else(|bad| bad.source, |item| item.source);
                (source, Fault::new(Code::TaskFailed, "it failed before the run was interrupted"))
            },
        ));
        if next > 0 {
            let text = format!("going on behind {} that an interrupted run has done", plural(next as u64, "input"));
            self.screen.talk(&super::super::note(self.screen.err, &text))?;
        }
        Ok(next)
    }

    fn start(&mut self, inputs: &Inputs, at: usize) -> Result<Waiting, Ending> {
        let found = inputs.get(at);
        let sum = sum(&found);
        let copied = self.copied(at, sum)?;
        let (source, carried, turn) = match found {
            Err(bad) => (bad.source, bad.carried, Turn::Told(bad.fault)),
            Ok(item) => {
                let turn = match copied {
                    Some(bytes) => Turn::Copied(bytes),
                    None => {
                        let body = body(&self.wanted, &item, true);
                        Turn::Asked(tokio::spawn(Asker::ask(Arc::clone(&self.asker), body)))
                    }
                };
                (item.source, item.carried, turn)
            }
        };
        Ok(Waiting { source, carried, sum, turn })
    }

    /// The record that stands in the output already. What failed may have been corrected since.
    fn copied(&mut self, at: usize, sum: Sum) -> Result<Option<Vec<u8>>, Ending> {
        let Target::Again { before, output, .. } = &mut self.target else { return Ok(None) };
        match before.entries.get(at) {
            Some(entry) if entry.done && entry.sum != sum.0 => Err(is_another(at).into()),
            Some(entry) if entry.done => Ok(Some(copy(output, before, at)?)),
            Some(_) | None => Ok(None),
        }
    }

    async fn take(&mut self, one: Waiting, total: usize) -> Result<(), Ending> {
        let Waiting { source, carried, sum, turn } = one;
        // An input that is bad by itself says nothing of the others.
        let was_asked = matches!(turn, Turn::Asked(_));
        let asked = match turn {
            Turn::Copied(bytes) => {
                self.done += 1;
                return self.write(&bytes, true, sum);
            }
            Turn::Told(fault) => Err(fault),
            Turn::Asked(handle) => {
                handle.await.unwrap_or_else(|error| Err(Fault::new(Code::Internal, "a call ended badly").cause(error)))
            }
        };
        if let Err(fault) = &asked
            && was_asked
            && self.is_fatal(fault)
        {
            self.bar.clear();
            self.commit()?;
            return Err(fault.clone().into());
        }
        let (null, none) = (Value::Null, Vec::new());
        let done = match &asked {
            Ok(reply) => {
                Ok((reply.get("result").unwrap_or(&null), reply["notices"].as_array().unwrap_or(&none).as_slice()))
            }
            Err(fault) => Err(fault),
        };
        let outcome = Written { source: &source, carried: &carried, done };
        let record = self.writer.record(self.wanted.task, &outcome)?;
        let is_done = asked.is_ok();
        if let Err(fault) = asked {
            if self.failed.len() < FAULTS_TOLD_MAX {
                self.bar.say(&format!("{} {}: {fault}", self.screen.err.red("failed:"), clean(&source)));
            }
            self.failed.push((source, fault));
        }
        self.done += 1;
        // Without what an earlier run did, which tells nothing of the pace.
        let (now, all) = (self.done - self.before, total - self.before);
        self.bar.set(self.wanted.task, now as u64, Some(all as u64), Unit::Things);
        self.write(&record, is_done, sum)
    }

    /// Whether every other text would end the same way.
    fn is_fatal(&self, fault: &Fault) -> bool {
        let of_all = [
            Code::ModelMissing,
            Code::ModelUnfit,
            Code::ModelInvalid,
            Code::ModelLoadFailed,
            Code::TemplateFailed,
            Code::ShapeUnsupported,
            Code::WorkerMissing,
            Code::BackendFailed,
            Code::ConfinementFailed,
            Code::MemoryShort,
            Code::DaemonUnreachable,
            Code::VersionMismatch,
            Code::Forbidden,
            Code::DiskFull,
        ];
        // Options that are wrong are wrong for the first text already.
        of_all.contains(&fault.code) || (fault.code == Code::InvalidAsk && self.done == self.failed.len())
    }

    fn write(&mut self, bytes: &[u8], done: bool, sum: Sum) -> Result<(), Ending> {
        let mut record = Vec::new();
        let first = match &self.target {
            Target::Screen => false,
            Target::File(journal) => journal.next() == 0,
            // The first record was copied with what stands before it, unless it is done anew.
            Target::Again { journal, before, .. } => {
                journal.next() == 0 && !before.entries.first().is_some_and(|entry| entry.done)
            }
        };
        if first {
            record = self.writer.opening()?;
        }
        record.extend_from_slice(bytes);
        match &mut self.target {
            Target::Screen => self.put(&record),
            Target::File(journal) | Target::Again { journal, .. } => Ok(journal.write(&record, done, sum)?),
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Ending> {
        let text = String::from_utf8_lossy(bytes);
        Ok(self.screen.piece(&self.screen.foreign(&text))?)
    }

    fn commit(&mut self) -> Result<(), Ending> {
        match &mut self.target {
            Target::Screen => Ok(()),
            Target::File(journal) | Target::Again { journal, .. } => Ok(journal.commit()?),
        }
    }

    fn end(self, total: usize) -> Outcome {
        let failed = self.failed.len();
        match self.target {
            Target::Screen => {}
            Target::File(journal) | Target::Again { journal, .. } => {
                journal.finish()?;
            }
        }
        if failed == 0 {
            self.screen.talk(&self.screen.err.dim(&format!("{} done", plural(total as u64, "input"))))?;
            return Ok(());
        }
        let mut fault = Fault::new(
            Code::InputsFailed,
            format!("{} of {} failed", count(failed as u64), plural(total as u64, "input")),
        );
        let told: Vec<String> = self.failed.iter().take(FAULTS_TOLD_MAX).map(|(source, _)| source.clone()).collect();
        let more = if failed > told.len() {
            format!(" and {} more", count((failed - told.len()) as u64))
        } else {
            String::new()
        };
        fault = fault.cause(format!("{}{more}", told.join(", ")));
        if self.wanted.common.output.is_some() {
            fault = fault.hint("do those again: the same command with `--retry-failed`");
        } else {
            fault = fault.hint("write to a file with `--output`, and `--retry-failed` does only those again");
        }
        Err(fault.into())
    }
}

fn is_ready(one: &Waiting) -> bool {
    match &one.turn {
        Turn::Asked(handle) => handle.is_finished(),
        Turn::Told(_) | Turn::Copied(_) => true,
    }
}

/// The first input that was done and is another now, or isn't there any more. What failed may have been corrected since.
fn changed(before: &Record, inputs: &Inputs) -> Option<usize> {
    let is_other =
        |(at, entry): (usize, &Entry)| entry.done && (at >= inputs.len() || sum(&inputs.get(at)).0 != entry.sum);
    before.entries.iter().enumerate().position(is_other)
}

fn is_another(at: usize) -> Fault {
    let words = format!("input {} was done, and is another now", count(at as u64 + 1));
    Fault::new(Code::InvalidAsk, words).hint("correct only what failed, or begin anew: add `--fresh`")
}

/// By which an input is known again.
fn sum(found: &Result<Item, Box<Bad>>) -> Sum {
    let mut sum = Sum::default();
    match found {
        Ok(item) => {
            sum.add(item.text.as_bytes());
            if let Carried::Row(cells) = &item.carried {
                cells.iter().for_each(|cell| sum.add(cell.as_bytes()));
            }
            if let Carried::Object(object) = &item.carried {
                sum.add(Value::Object(object.clone()).to_string().as_bytes());
            }
        }
        Err(bad) => sum.add(bad.source.as_bytes()),
    }
    sum
}

/// Asks the daemon; one for all calls of a run.
struct Asker {
    link: tokio::sync::Mutex<Arc<Link>>,
    context: Context,
    jobs: Semaphore,
    /// All permits of `jobs`.
    all: u32,
    route: String,
}

impl Asker {
    /// Asks about one text, again where what went wrong may pass. A second time it is asked alone: a text that costs the
    /// worker its life costs others theirs only once.
    async fn ask(self: Arc<Self>, body: Map<String, Value>) -> Result<Value, Fault> {
        let closed = |_| Fault::new(Code::Internal, "the run has ended");
        let mut turn = self.jobs.acquire_many(1).await.map_err(closed)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let link = Arc::clone(&*self.link.lock().await);
            let fault = match link.post::<_, Value>(&self.route, &body).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            drop(turn);
            if tries >= TRIES_MAX || !fault.code.may_retry() {
                return Err(fault);
            }
            tokio::time::sleep(Duration::from_millis(AGAIN_AFTER_MS * u64::from(tries))).await;
            if fault.code == Code::DaemonUnreachable {
                self.reopen(&link).await?;
            }
            turn = self.jobs.acquire_many(self.all).await.map_err(closed)?;
        }
    }

    /// Starts the daemon again, once for all that miss it.
    async fn reopen(&self, gone: &Arc<Link>) -> Result<(), Fault> {
        let mut link = self.link.lock().await;
        if Arc::ptr_eq(&link, gone) {
            *link = Arc::new(Link::open(&self.context).await.map_err(|ending| match ending {
                Ending::Failed(fault) => fault,
                Ending::Nothing | Ending::Interrupted | Ending::PipeClosed => {
                    Fault::new(Code::DaemonUnreachable, "the daemon can't be started again")
                }
            })?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Usage;
    use runtime::tasks::{Done, Outcome as Result_, Plan, Titled};

    #[test]
    fn the_last_line_tells_parts_and_calls() {
        let plan = Plan { parts: 4, passes: 2, tokens: Some(900), calls: 5 };
        let done = Done { result: Result_::Titled(Titled { title: "x".into() }), plan, notices: Vec::new() };
        let usage = Usage { model: "small".into(), ..Usage::default() };
        let reply = TaskReply { task: "title".into(), done, usage };
        let said = closing(&reply).join(" · ");
        assert!(said.starts_with("small · 4 parts in 2 passes · 5 calls"), "{said}");
    }
}
