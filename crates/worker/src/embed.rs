//! The embedding loop: many texts in one computation, one vector for each; or pairs of texts and their ranks.

use crate::ffi::{Batch, Context, ContextOptions, Decoded, Model, Pooling};
use crate::input::{self, Input, Pairs};
use crate::link::{Event, Inbox, Outbox};
use crate::load::Loaded;
use crate::room::Rooms;
use crate::serve::{self, Ending};
use crate::threads::Threads;
use batch::crew::Phase;
use batch::pack;
use std::collections::VecDeque;
use std::sync::Arc;
use wire::{Directive, EmbedHow, JobId, Report, Spent, WireFault, WireFinish, WirePooling};

/// LIMIT: jobs read ahead. The daemon keeps its own queue; this one only bridges gaps.
const WAITING_MAX: usize = 256;

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Embedder<'a> {
    model: Arc<Model>,
    /// Made anew when other vectors are asked for than the last time, and after a rest.
    context: Option<Context>,
    rooms: Rooms,
    options: ContextOptions,
    /// What the file says, or what is taken where it says nothing.
    own_pooling: Pooling,
    /// What comes out is the word of a classifier, for pairs of texts.
    ranks: bool,
    outbox: &'a Outbox,
    inbox: &'a Inbox,
    /// What arrived while other work was done.
    waiting: VecDeque<(JobId, Work)>,
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

#[derive(Debug)]
enum Work {
    Texts { texts: Vec<String>, how: EmbedHow },
    Pairs { query: String, documents: Vec<String>, truncate: bool },
}

/// Why a job ended early.
enum Stop {
    Cancelled,
    Failed(WireFault),
    Ending(Ending),
}

impl From<WireFault> for Stop {
    fn from(fault: WireFault) -> Self {
        Self::Failed(fault)
    }
}

impl<'a> Embedder<'a> {
    pub(crate) fn new(loaded: Loaded, options: ContextOptions, inbox: &'a Inbox, outbox: &'a Outbox) -> Self {
        let Loaded { context, rooms, ready, batch_tokens, threads, .. } = loaded;
        let own_pooling = context.pooling();
        let mut embedder = Self {
            model: context.shared_model(),
            context: None,
            rooms,
            options: ContextOptions { embed: Some(own_pooling), ..options },
            own_pooling,
            ranks: context.ranks(),
            outbox,
            inbox,
            waiting: VecDeque::new(),
            window: ready.context_tokens,
            batch_tokens: batch_tokens as usize,
            sequences_max: ready.sequences_max as usize,
            batch: Batch::default(),
            threads,
            computing: false,
        };
        embedder.take_context(context);
        embedder
    }

    fn take_context(&mut self, mut context: Context) {
        let interrupt = self.inbox.interrupt();
        context.set_abort(Arc::new(move || interrupt.is_due()));
        self.context = Some(context);
        self.rooms.note_context(true);
    }

    fn drop_context(&mut self) {
        self.context = None;
        self.rooms.note_context(false);
    }

    /// The context for vectors of this kind. The one before goes first: memory was counted for one.
    fn pool(&mut self, pooling: Pooling) -> Result<(), WireFault> {
        if self.options.embed == Some(pooling) && self.context.is_some() {
            return Ok(());
        }
        self.drop_context();
        self.options.embed = Some(pooling);
        let context = Context::new(Arc::clone(&self.model), self.options).map_err(WireFault::MemoryShort)?;
        self.take_context(context);
        Ok(())
    }

    /// Works until told to end.
    pub(crate) fn run(&mut self) -> Ending {
        loop {
            while let Some(event) = self.inbox.take(self.waiting.is_empty()) {
                if let Some(ending) = self.hear(event) {
                    return ending;
                }
            }
            if let Some((job, work)) = self.waiting.pop_front()
                && let Some(ending) = self.work(job, &work)
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
            Event::Read { .. } | Event::Counted(_) | Event::State(_) => return None,
            Event::Broken(reason) => return Some(Ending::Broken(reason)),
        };
        match directive {
            Directive::Embed { job, texts, how } => self.queue(job, Work::Texts { texts, how }),
            Directive::Rank { job, query, documents, truncate } => {
                self.queue(job, Work::Pairs { query, documents, truncate });
            }
            Directive::Count { job, prompt, .. } => {
                let tokens = self.model.tokens(&prompt.concat(), true, false).map_err(WireFault::Invalid);
                self.outbox.send(serve::counted(job, tokens));
            }
            Directive::Cancel { job } => self.drop_waiting(job),
            Directive::Resize { .. } => {
                let woken = self.wake();
                self.report_room(woken.err());
            }
            // In the middle of a job it goes on with what it has.
            Directive::Rest if self.computing || !self.waiting.is_empty() => self.report_room(None),
            Directive::Rest => {
                self.drop_context();
                self.report_room(None);
            }
            Directive::Begin(begin) => {
                let words = "this worker makes vectors; text comes from a generating model".to_owned();
                self.outbox.send(Report::Failed { job: Some(begin.job), fault: WireFault::Unfit(words) });
            }
            other => return serve::answer(other, self.outbox),
        }
        None
    }

    fn queue(&mut self, job: JobId, work: Work) {
        let fault = match work {
            Work::Texts { .. } if self.ranks => {
                WireFault::Unfit("this worker ranks documents; vectors come from an embedding model".into())
            }
            Work::Pairs { .. } if !self.ranks => {
                WireFault::Unfit("this worker makes vectors; ranks come from a reranking model".into())
            }
            work if self.waiting.len() < WAITING_MAX => return self.waiting.push_back((job, work)),
            _ => WireFault::Protocol(format!("{WAITING_MAX} jobs are waiting already")),
        };
        self.outbox.send(Report::Failed { job: Some(job), fault });
    }

    fn work(&mut self, job: JobId, work: &Work) -> Option<Ending> {
        self.computing = true;
        let made = self.vectors(job, work);
        self.computing = false;
        match made {
            Ok(vectors) => self.outbox.send(vectors),
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
        self.pool(self.options.embed.unwrap_or(self.own_pooling))
    }

    fn report_room(&self, fault: Option<WireFault>) {
        self.outbox.send(Report::Resized { room: self.rooms.report(self.context.as_ref()), fault });
    }

    fn vectors(&mut self, job: JobId, work: &Work) -> Result<Report, Stop> {
        let inputs = self.read(work)?;
        let (pooling, normalize) = match work {
            Work::Texts { how, .. } => (how.pooling.map_or(self.own_pooling, pooling), how.normalize),
            Work::Pairs { .. } => (self.own_pooling, false),
        };
        self.pool(pooling)?;
        let lengths: Vec<usize> = inputs.iter().map(|input| input.tokens.len()).collect();
        let mut values = Vec::new();
        for group in pack::groups(&lengths, self.batch_tokens, self.sequences_max) {
            self.compute(job, &inputs[group], normalize, &mut values)?;
        }
        Ok(Report::Vectors {
            job,
            dimensions: self.context.as_ref().map_or(0, Context::dimensions),
            values,
            tokens: lengths.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect(),
            left_out: inputs.iter().map(|input| input.left_out).collect(),
        })
    }

    fn read(&self, work: &Work) -> Result<Vec<Input>, WireFault> {
        let model = &self.model;
        match work {
            Work::Texts { texts, how } => {
                texts.iter().map(|text| input::text(model, text, self.window, how.truncate)).collect()
            }
            Work::Pairs { query, documents, truncate } => {
                let pairs = Pairs::of(model)?;
                let tokens = |text: &String| model.tokens(text, false, false).map_err(WireFault::Invalid);
                let query = tokens(query)?;
                let join = |text| pairs.join(&query, &tokens(text)?, self.window, *truncate);
                documents.iter().map(join).collect()
            }
        }
    }

    fn compute(&mut self, job: JobId, inputs: &[Input], normalize: bool, values: &mut Vec<f32>) -> Result<(), Stop> {
        loop {
            self.look(job)?;
            self.inbox.interrupt().watch(Some(job), None);
            self.batch.clear();
            for (sequence, input) in (0..).zip(inputs) {
                for (position, &token) in (0..).zip(&input.tokens) {
                    self.batch.add(token, position, sequence, true);
                }
            }
            // When more threads can't be had, the ones before go on.
            let context = self.context.as_mut().ok_or_else(|| decode_failed("there is no context"))?;
            let begun = self.threads.begin(context, Phase::Prompt).ok();
            match context.encode(&mut self.batch) {
                Decoded::Done => {
                    begun.into_iter().for_each(|begun| self.threads.end(begun));
                    break;
                }
                // This job isn't wanted any more, or nothing is: the next look finds which.
                Decoded::Aborted => {}
                Decoded::Full => return Err(decode_failed("the cache has no room for the texts")),
                Decoded::Failed(reason) => return Err(decode_failed(&reason)),
            }
        }
        for sequence in (0..).take(inputs.len()) {
            let vector = self.context.as_mut().and_then(|context| context.vector(sequence));
            let vector = vector.ok_or_else(|| decode_failed("the model gave no vector"))?;
            if normalize {
                unit_length(vector, values).map_err(decode_failed)?;
            } else {
                values.extend_from_slice(vector);
            }
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

fn pooling(wanted: WirePooling) -> Pooling {
    match wanted {
        WirePooling::Mean => Pooling::Mean,
        WirePooling::Cls => Pooling::Cls,
        WirePooling::Last => Pooling::Last,
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
