//! The embedding loop: many texts in one computation, one vector of unit length for each.

use crate::ffi::{Batch, Context, Decoded, Token};
use crate::link::{Event, Inbox, Outbox};
use crate::load::Loaded;
use crate::room::Rooms;
use crate::serve::{self, Ending};
use crate::threads::Threads;
use batch::crew::Phase;
use std::collections::VecDeque;
use std::sync::Arc;
use wire::{Directive, JobId, Report, Spent, WireFault, WireFinish};

/// LIMIT: jobs read ahead. The daemon keeps its own queue; this one only bridges gaps.
const WAITING_MAX: usize = 256;

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Embedder<'a> {
    context: Context,
    rooms: Rooms,
    outbox: &'a Outbox,
    inbox: &'a Inbox,
    /// Texts that arrived while others were worked on.
    waiting: VecDeque<(JobId, Vec<String>)>,
    /// Longest text in tokens.
    window: u32,
    /// Texts are put together up to here.
    batch_tokens: usize,
    sequences_max: usize,
    batch: Batch,
    threads: Threads,
    /// In the middle of a job.
    computing: bool,
}

/// Why a job ended early.
enum Stop {
    Cancelled,
    Failed(WireFault),
    Ending(Ending),
}

impl<'a> Embedder<'a> {
    pub(crate) fn new(loaded: Loaded, inbox: &'a Inbox, outbox: &'a Outbox) -> Self {
        let Loaded { mut context, rooms, ready, batch_tokens, threads, .. } = loaded;
        let interrupt = inbox.interrupt();
        context.set_abort(Arc::new(move || interrupt.is_due()));
        Self {
            context,
            rooms,
            outbox,
            inbox,
            waiting: VecDeque::new(),
            window: ready.context_tokens,
            batch_tokens: batch_tokens as usize,
            sequences_max: ready.sequences_max as usize,
            batch: Batch::default(),
            threads,
            computing: false,
        }
    }

    /// Works until told to end.
    pub(crate) fn run(&mut self) -> Ending {
        loop {
            while let Some(event) = self.inbox.take(self.waiting.is_empty()) {
                if let Some(ending) = self.hear(event) {
                    return ending;
                }
            }
            if let Some((job, texts)) = self.waiting.pop_front()
                && let Some(ending) = self.embed(job, &texts)
            {
                return ending;
            }
        }
    }

    /// Everything but texts is answered at once, in the middle of a long job too: a worker that is asked
    /// whether it lives must not be busy to answer.
    fn hear(&mut self, event: Event) -> Option<Ending> {
        let directive = match event {
            Event::Directive { directive, .. } => *directive,
            // Only a generating worker has long prompts.
            Event::Tokens { .. } => return None,
            Event::Broken(reason) => return Some(Ending::Broken(reason)),
        };
        match directive {
            Directive::Embed { job, texts } => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.push_back((job, texts));
                } else {
                    let fault = WireFault::Protocol(format!("{WAITING_MAX} jobs are waiting already"));
                    self.outbox.send(Report::Failed { job: Some(job), fault });
                }
            }
            Directive::Count { job, prompt } => {
                let report = match self.context.model().tokens(&prompt.concat(), true, false) {
                    Ok(tokens) => Report::Counted { job, tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX) },
                    Err(words) => Report::Failed { job: Some(job), fault: WireFault::Invalid(words) },
                };
                self.outbox.send(report);
            }
            Directive::Cancel { job } => self.drop_waiting(job),
            Directive::Resize { .. } => {
                let woken = self.wake();
                self.report_room(woken.err());
            }
            // In the middle of a job it goes on with what it has.
            Directive::Rest if self.computing || !self.waiting.is_empty() => self.report_room(None),
            Directive::Rest => {
                let rested = self.rooms.rest(&mut self.context);
                self.report_room(rested.err());
            }
            Directive::Begin(begin) => {
                let words = "this worker makes vectors; text comes from a generating model".to_owned();
                self.outbox.send(Report::Failed { job: Some(begin.job), fault: WireFault::Unfit(words) });
            }
            other => return serve::answer(other, self.context.model(), self.outbox),
        }
        None
    }

    fn embed(&mut self, job: JobId, texts: &[String]) -> Option<Ending> {
        self.computing = true;
        let made = self.vectors(job, texts);
        self.computing = false;
        match made {
            Ok((values, tokens)) => {
                let dimensions = self.context.model().embedding_dimensions();
                self.outbox.send(Report::Vectors { job, dimensions, values, tokens });
            }
            Err(Stop::Failed(fault)) => self.outbox.send(Report::Failed { job: Some(job), fault }),
            Err(Stop::Cancelled) => {
                let done = Report::Done { job, finish: WireFinish::Cancelled, spent: Spent::default() };
                self.outbox.send(done);
            }
            Err(Stop::Ending(ending)) => return Some(ending),
        }
        None
    }

    /// Makes the context anew that a rest has given back.
    fn wake(&mut self) -> Result<(), WireFault> {
        if !self.rooms.is_resting() {
            return Ok(());
        }
        let first = self.rooms.first_tokens();
        self.rooms.resize(&mut self.context, first, &[]).1
    }

    fn report_room(&self, fault: Option<WireFault>) {
        self.outbox.send(Report::Resized { room: self.rooms.report(&self.context), fault });
    }

    fn vectors(&mut self, job: JobId, texts: &[String]) -> Result<(Vec<f32>, Vec<u32>), Stop> {
        self.wake().map_err(Stop::Failed)?;
        let mut lists: Vec<Vec<Token>> = Vec::with_capacity(texts.len());
        for text in texts {
            // A text is data: names of special tokens in it are only letters.
            let tokens = self.context.model().tokens(text, true, false);
            let tokens = tokens.map_err(|words| Stop::Failed(WireFault::Invalid(words)))?;
            let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            if count > self.window {
                return Err(Stop::Failed(WireFault::ContextOverflow { requested: count, available: self.window }));
            }
            if tokens.is_empty() {
                return Err(Stop::Failed(WireFault::Invalid("one of the texts is empty".into())));
            }
            lists.push(tokens);
        }
        let dimensions = self.context.model().embedding_dimensions() as usize;
        let mut values = Vec::with_capacity(lists.len() * dimensions);
        let mut next = 0;
        while next < lists.len() {
            let count = self.group(&lists[next..]);
            self.compute(job, &lists[next..next + count], &mut values)?;
            next += count;
        }
        Ok((values, lists.iter().map(|tokens| u32::try_from(tokens.len()).unwrap_or(u32::MAX)).collect()))
    }

    /// How many of the texts fit into one batch; at least one.
    fn group(&self, lists: &[Vec<Token>]) -> usize {
        let mut tokens = 0;
        let fitting = lists.iter().take(self.sequences_max).take_while(|list| {
            tokens += list.len();
            tokens <= self.batch_tokens
        });
        fitting.count().max(1)
    }

    fn compute(&mut self, job: JobId, lists: &[Vec<Token>], values: &mut Vec<f32>) -> Result<(), Stop> {
        loop {
            self.look(job)?;
            self.inbox.interrupt().watch(Some(job), None);
            self.batch.clear();
            for (sequence, list) in (0..).zip(lists) {
                for (position, &token) in (0..).zip(list) {
                    self.batch.add(token, position, sequence, true);
                }
            }
            // When more threads can't be had, the ones before go on.
            let begun = self.threads.begin(&mut self.context, Phase::Prompt).ok();
            match self.context.encode(&mut self.batch) {
                Decoded::Done => {
                    begun.into_iter().for_each(|begun| self.threads.end(begun, 0));
                    break;
                }
                // This job isn't wanted any more, or nothing is: the next look finds which.
                Decoded::Aborted => {}
                Decoded::Full => return Err(decode_failed("the cache has no room for the texts")),
                Decoded::Failed(reason) => return Err(decode_failed(&reason)),
            }
        }
        for sequence in (0..).take(lists.len()) {
            let vector = self.context.vector(sequence).ok_or_else(|| decode_failed("the model gave no vector"))?;
            unit_length(vector, values).map_err(decode_failed)?;
        }
        Ok(())
    }

    /// Takes what arrived meanwhile: a cancel of this job ends it.
    fn look(&mut self, job: JobId) -> Result<(), Stop> {
        while let Some(event) = self.inbox.take(false) {
            if let Event::Directive { directive, .. } = &event
                && **directive == (Directive::Cancel { job })
            {
                return Err(Stop::Cancelled);
            }
            if let Some(ending) = self.hear(event) {
                return Err(Stop::Ending(ending));
            }
        }
        Ok(())
    }

    fn drop_waiting(&mut self, id: JobId) {
        let before = self.waiting.len();
        self.waiting.retain(|(job, _)| *job != id);
        if self.waiting.len() < before {
            let done = Report::Done { job: id, finish: WireFinish::Cancelled, spent: Spent::default() };
            self.outbox.send(done);
        }
    }
}

fn decode_failed(reason: &str) -> Stop {
    Stop::Failed(WireFault::DecodeFailed(reason.to_owned()))
}

/// Appends the vector scaled to length 1, so that a dot product is the cosine.
fn unit_length(vector: &[f32], out: &mut Vec<f32>) -> Result<(), &'static str> {
    let length = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err("the model's vector has no direction");
    }
    #[expect(clippy::cast_possible_truncation, reason = "vectors are sent in single precision")]
    out.extend(vector.iter().map(|v| (f64::from(*v) / length) as f32));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_get_unit_length() {
        let mut out = Vec::new();
        unit_length(&[3.0, 4.0], &mut out).unwrap();
        assert_eq!(out, [0.6, 0.8]);
        assert!(unit_length(&[0.0, 0.0], &mut out).is_err());
        assert!(unit_length(&[f32::NAN, 1.0], &mut out).is_err());
    }
}
