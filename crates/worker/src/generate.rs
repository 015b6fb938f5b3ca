//! The decode loop: takes directives, composes batches, computes, chooses tokens, sends text.
//!
//! Nothing here waits for the daemon. A cancelled job or a passed deadline ends within one step,
//! and stops a step that is reading a prompt between two operations of its graph.

use crate::draft_model::DraftModel;
use crate::ffi::{Adapter, Batch, Candidates, Context, Decoded, ROWS, Sampler, Token};
use crate::guide::{Chosen, Guide, Loose};
use crate::job::Job;
use crate::keep::Keep;
use crate::link::{Event, Inbox, Outbox, micros};
use crate::load::Loaded;
use crate::park::Lot;
use crate::room::Rooms;
use crate::serve::{self, Ending};
use crate::states::States;
use crate::threads::Threads;
use crate::tokens::{self, Errand, Read, Tokenizer};
use batch::blend::Blend;
use batch::compose::{self, Budget, Composer, Share, Work};
use batch::crew::Phase;
use batch::draft::Drafter;
use batch::likelihood::Options;
use batch::pace::Pace;
use batch::pool::{self, Fit, Pool};
use batch::turn::Turns;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{Begin, Directive, JobId, Report, Spent, WireFault, WireFinish, WireSampling};

mod draft;
mod grow;
mod hold;
mod reuse;
mod score;
mod stored;

/// LIMIT: jobs that wait for a free sequence. The daemon keeps its own queue; this one only bridges gaps.
const WAITING_MAX: usize = 256;
/// So long nothing must have come before kept states are copied, which holds up who comes then.
const QUIET: Duration = Duration::from_millis(100);
/// Prompt tokens in the first step of a model, before its pace is known.
const FIRST: u32 = 64;

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Generator<'a> {
    context: Context,
    rooms: Rooms,
    outbox: &'a Outbox,
    inbox: &'a Inbox,
    /// One place for each sequence.
    slots: Vec<Option<Running>>,
    waiting: VecDeque<Job>,
    /// Jobs whose prompt is being cut into tokens by another thread, and those in `seeking`.
    reading: Vec<JobId>,
    /// Jobs for which a state is looked for on disk.
    seeking: Vec<Job>,
    /// Jobs whose prompt was being cut when what is kept was forgotten: nothing is kept of them either.
    unkept: Vec<JobId>,
    /// The daemon was offered a state, and that isn't over: one at a time, as its bytes are held so long.
    offering: bool,
    /// Jobs that the daemon has told to step back, until it lets them go on.
    held: Vec<Job>,
    /// Those of them whose prompt is still being cut.
    holds: Vec<JobId>,
    lot: Lot,
    keep: Keep,
    states: States,
    tokenizer: Tokenizer,
    pool: Pool,
    composer: Composer,
    blend: Blend,
    /// By the places of the load.
    adapters: Vec<Result<Adapter, WireFault>>,
    turns: Turns<Vec<(u32, f32)>>,
    pace: Pace,
    /// How long the last step took.
    step: Duration,
    batch_tokens: u32,
    batch: Batch,
    candidates: Candidates,
    bytes: Vec<u8>,
    admitted: u64,
    threads: Threads,
    drafter: Drafter,
    /// Whether the cache can forget the last tokens of a sequence, and a few more find room in it for a moment.
    drafts: bool,
    /// Guesses where the text itself says nothing.
    draft_model: Option<DraftModel>,
    /// Rows of scores that a step has room for.
    rows: u32,
}

#[derive(Debug)]
struct Running {
    job: Job,
    sequence: i32,
    /// Rises with each admission: the highest is the youngest.
    order: u64,
}

/// What one sequence has in the batch.
#[derive(Debug, Clone, Copy)]
struct Part {
    slot: usize,
    tokens: u32,
    /// Index of the token whose scores choose the next one.
    output: Option<usize>,
    draft: Option<draft::Draft>,
}

/// The next batch.
#[derive(Debug)]
struct Next {
    shares: Vec<Share>,
    /// For each of them.
    drafts: Vec<Option<draft::Draft>>,
    /// Prompts and answers both wait.
    beside: bool,
}

impl Part {
    fn is_drafted(&self) -> bool {
        self.draft.is_some_and(|draft| draft.tokens > 0)
    }
}

impl<'a> Generator<'a> {
    pub(crate) fn new(loaded: Loaded, inbox: &'a Inbox, outbox: &'a Outbox) -> Self {
        let Loaded { mut context, rooms, ready, batch_tokens, adapters, threads, park_bytes, drafts, .. } = loaded;
        let draft_model = loaded.draft_model;
        let interrupt = inbox.interrupt();
        context.set_abort(Arc::new(move || interrupt.is_due()));
        let pool = Pool { cells: context.cells() };
        let tokenizer = Tokenizer::new(context.shared_model(), inbox.sender(), threads.aside());
        let keep = Keep::new(&context, rooms.sequences());
        Self {
            context,
            rooms,
            outbox,
            inbox,
            slots: (0..ready.sequences_max).map(|_| None).collect(),
            waiting: VecDeque::new(),
            reading: Vec::new(),
            seeking: Vec::new(),
            unkept: Vec::new(),
            offering: false,
            held: Vec::new(),
            holds: Vec::new(),
            lot: Lot::new(park_bytes),
            keep,
            states: States::new(inbox.sender(), threads.aside()),
            tokenizer,
            pool,
            composer: Composer::default(),
            blend: Blend::default(),
            adapters,
            turns: Turns::default(),
            pace: Pace::default(),
            step: Duration::ZERO,
            batch_tokens,
            batch: Batch::default(),
            candidates: Candidates::default(),
            bytes: Vec::new(),
            admitted: 0,
            threads,
            drafter: Drafter::default(),
            drafts,
            draft_model,
            rows: ROWS,
        }
    }

    /// Works until told to end.
    pub(crate) fn run(&mut self) -> Ending {
        let mut computed = false;
        loop {
            while let Some(event) = self.next_event(computed) {
                computed = true;
                if let Some(ending) = self.handle(event) {
                    return self.last(ending);
                }
            }
            self.expire();
            self.admit();
            computed = self.step();
        }
    }

    /// The next event; sleeps until there is one when nothing is to be computed. What is kept is saved first, when it
    /// has been quiet for a moment.
    fn next_event(&mut self, computed: bool) -> Option<Event> {
        self.states.tell(!self.is_idle());
        if self.is_idle() && self.seeking.is_empty() && self.held.is_empty() {
            self.keep.let_files_go();
        }
        // Whose prompt is being cut, or looked for on disk, comes next.
        while self.is_idle() && self.reading.is_empty() && self.keep.has_chores() {
            if let Some(event) = self.inbox.take_within(QUIET) {
                return Some(event);
            }
            self.keep.save_one(&mut self.context, &self.lot);
            self.offer();
        }
        // Who waits for the daemon's word on a larger pool, and has nothing else to do, sleeps too.
        self.inbox.take(self.is_idle() || self.rooms.is_asking() && !computed)
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.iter().all(Option::is_none)
    }

    fn handle(&mut self, event: Event) -> Option<Ending> {
        let (received, directive, file) = match event {
            Event::Directive { received, directive, file } => (received, *directive, file),
            Event::State(outcome) => {
                self.hear_of_state(outcome);
                return None;
            }
            Event::Read { received, begin, read } => {
                self.receive(&begin, received, read);
                return None;
            }
            Event::Counted(report) => {
                self.outbox.send(report);
                return None;
            }
            Event::Broken(reason) => return Some(Ending::Broken(reason)),
        };
        match directive {
            Directive::Begin(begin) => {
                let id = begin.job;
                if let Err(fault) = self.begin(begin, received) {
                    self.outbox.send(Report::Failed { job: Some(id), fault });
                }
            }
            Directive::Cancel { job } => self.end_by_id(job, WireFinish::Cancelled),
            Directive::Count { job, prompt, add_bos } => self.count(job, prompt, add_bos),
            Directive::Resize { context_tokens } => self.resize(context_tokens),
            Directive::LeaveDraft => self.draft_model = None,
            Directive::Rest => self.rest(),
            Directive::Hold { job } => self.hold(job),
            Directive::Resume { job } => self.resume(job),
            Directive::Found { job } => self.found(job, file),
            Directive::Store { state } => self.store(state, file),
            Directive::Forget { scope } => self.forget_kept(scope),
            Directive::Embed { job, .. } | Directive::Rank { job, .. } => {
                let fault = WireFault::Unfit("this worker generates text; vectors come from an embedding model".into());
                self.outbox.send(Report::Failed { job: Some(job), fault });
            }
            other => return serve::answer(other, self.outbox),
        }
        None
    }

    fn begin(&mut self, begin: Box<Begin>, received: Instant) -> Result<(), WireFault> {
        if self.is_known(begin.job) {
            return Err(WireFault::Protocol(format!("job {} is running already", begin.job)));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(WireFault::Protocol(format!("{WAITING_MAX} jobs are waiting already")));
        }
        self.check_adapters(&begin.adapters)?;
        check_sampling(&begin.sampling, self.context.model().vocabulary_size())?;
        let free = Guide::of_free(&begin.shape).filter(|_| !tokens::is_long(&begin.prompt));
        let Some(guide) = free else {
            let id = begin.job;
            self.tokenizer.take(Errand::Begin(begin, received))?;
            self.reading.push(id);
            return Ok(());
        };
        let read = tokens::read(self.context.model(), &begin, guide)?;
        let job = self.accept(&begin, received, read)?;
        self.seek_or_queue(job, begin.stored);
        Ok(())
    }

    fn count(&mut self, job: JobId, prompt: Vec<String>, add_bos: bool) {
        let report = if tokens::is_long(&prompt) {
            match self.tokenizer.take(Errand::Count { job, prompt, add_bos }) {
                Ok(()) => return,
                Err(fault) => Report::Failed { job: Some(job), fault },
            }
        } else {
            serve::counted(job, serve::prompt_tokens(self.context.model(), &prompt, add_bos))
        };
        self.outbox.send(report);
    }

    /// A long prompt comes back in tokens; its job may have been cancelled meanwhile.
    fn receive(&mut self, begin: &Begin, received: Instant, read: Result<Read, WireFault>) {
        let Some(place) = self.reading.iter().position(|id| *id == begin.job) else { return };
        self.reading.remove(place);
        let is_unkept = self.unkept.contains(&begin.job);
        match read.and_then(|read| self.accept(begin, received, read)) {
            Ok(mut job) => {
                job.owner = job.owner.filter(|_| !is_unkept);
                tell_loose(&mut job, self.outbox);
                self.seek_or_queue(job, begin.stored && !is_unkept);
            }
            Err(fault) => {
                self.holds.retain(|id| *id != begin.job);
                self.outbox.send(Report::Failed { job: Some(begin.job), fault });
            }
        }
    }

    fn accept(&self, begin: &Begin, received: Instant, read: Read) -> Result<Job, WireFault> {
        let model = self.context.model();
        let Read { tokens, guide, options } = read;
        if tokens.is_empty() {
            return Err(WireFault::Invalid("the prompt is empty".into()));
        }
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let options = begin.score.as_ref().map(|score| self.options(options, score.whole, count));
        let beside = options.as_ref().map_or(0, |options| u32::try_from(options.cells()).unwrap_or(u32::MAX));
        let limit = self.rooms.limit_tokens().saturating_sub(beside);
        let tokens_max = match pool::fit(count, begin.tokens_max, limit) {
            Fit::Fits { tokens_max } => tokens_max,
            Fit::Overflow { requested, available } => {
                let (requested, available) = (requested.saturating_add(beside), available.saturating_add(beside));
                return Err(WireFault::ContextOverflow { requested, available });
            }
        };
        // Nothing beyond the window can be looked back at, and llama.cpp sets memory aside for all of it.
        let penalty_last_n = begin.sampling.penalty_last_n.min(self.rooms.limit_tokens());
        let sampling = WireSampling { penalty_last_n, ..begin.sampling.clone() };
        let mut sampler =
            Sampler::new(&sampling, &model.suppressed(), model.vocabulary_size()).map_err(WireFault::Invalid)?;
        let tail = tokens.len().saturating_sub(usize::try_from(penalty_last_n).unwrap_or(usize::MAX));
        for &token in &tokens[tail..] {
            sampler.accept(token);
        }
        let mut job = Job::new(begin, tokens, tokens_max, sampler, guide, received);
        job.options = options;
        Ok(job)
    }

    /// Behind a prompt of `count` tokens.
    fn options(&self, options: Vec<Vec<i32>>, whole: bool, count: u32) -> Options {
        let model = self.context.model();
        let ends = if whole { model.end_tokens().to_vec() } else { Vec::new() };
        let branches = if model.branches() { wire::BRANCHES } else { 1 };
        // Groups are made smaller rather than that a prompt which nearly fills the window doesn't fit.
        let room = self.rooms.limit_tokens().saturating_sub(count.saturating_add(1)).max(ROWS);
        Options::new(options, ends, self.context.rows().min(room as usize), branches as usize)
    }

    fn is_known(&self, id: JobId) -> bool {
        self.slots.iter().flatten().any(|running| running.job.id == id)
            || self.waiting.iter().chain(&self.held).any(|job| job.id == id)
            || self.reading.contains(&id)
    }

    /// Ends jobs whose time is over, waiting ones too.
    fn expire(&mut self) {
        let now = Instant::now();
        let over = |job: &Job| job.deadline.is_some_and(|deadline| deadline <= now);
        let running = self.slots.iter().flatten().map(|running| &running.job);
        let late: Vec<JobId> =
            running.chain(&self.waiting).chain(&self.held).filter(|job| over(job)).map(|job| job.id).collect();
        for id in late {
            self.end_by_id(id, WireFinish::Deadline);
        }
    }

    /// Starts waiting jobs in their order, as long as there is a sequence and room.
    fn admit(&mut self) {
        while let (Some(slot), Some(next)) = (self.slots.iter().position(Option::is_none), self.waiting.front()) {
            if !self.has_cells(next.needed()) {
                return;
            }
            let Some(next) = self.waiting.front() else { return };
            let cells = |job: &Job| job.past.saturating_add(job.pending()).saturating_add(job.option_cells());
            let used = self.slots.iter().flatten().fold(0, |sum: u32, one| sum.saturating_add(cells(&one.job)));
            let wanted = next.pending().saturating_add(next.option_cells());
            if !self.pool.admits(used, wanted, next.tokens_max.saturating_sub(next.generated())) {
                return;
            }
            let Some(job) = self.waiting.pop_front() else { return };
            if !self.place(slot, job) {
                return;
            }
        }
    }

    /// Computes what is next; `false` when there is nothing.
    fn step(&mut self) -> bool {
        let judged = self.judge();
        let Some(Next { shares, drafts, beside }) = self.compose() else { return judged };
        let parts = self.fill(&shares, &drafts);
        if shares.iter().any(|share| share.tokens > 1) {
            // A step that reads a prompt takes longer than text may wait.
            (0..self.slots.len()).for_each(|slot| self.flush(slot));
        }
        // A step that several share goes on to its end, whoever of them is cancelled or late: it is short,
        // and a recurrent state can't be taken back by some tokens.
        let only = if let [part] = parts.as_slice() { self.slots[part.slot].as_ref() } else { None };
        self.inbox.interrupt().watch(only.map(|running| running.job.id), only.and_then(|running| running.job.deadline));
        // When more threads can't be had, the ones before go on.
        let phase = self.phase();
        let begun = self.threads.begin(&mut self.context, phase).ok();
        let start = Instant::now();
        let outcome = match self.use_adapters(&parts) {
            Ok(()) => self.context.decode(&mut self.batch),
            Err(reason) => Decoded::Failed(reason),
        };
        match outcome {
            Decoded::Done => {
                let tokens = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
                self.step = start.elapsed();
                let took_us = micros(self.step);
                if !parts.iter().any(Part::is_drafted) {
                    self.pace.observe(tokens, took_us);
                }
                self.observe_step(&parts, took_us);
                let answers = self.answer_tokens(&parts);
                self.blend.observe(beside, tokens.saturating_sub(answers), answers, took_us);
                begun.into_iter().for_each(|begun| self.threads.end(begun));
                self.outbox.gather();
                let answers = u32::try_from(parts.len()).unwrap_or(u32::MAX);
                for part in parts {
                    self.advance(part, answers);
                }
                self.outbox.release();
            }
            Decoded::Aborted => {
                for part in parts {
                    self.undo(part.slot);
                }
            }
            // Nothing is kept that could go: this cache has rules of its own, and the answers go on without drafts.
            Decoded::Full if parts.iter().any(Part::is_drafted) => {
                self.drafts = self.keep.shed_one(&mut self.context, &self.lot);
            }
            Decoded::Full => self.make_room(),
            Decoded::Failed(reason) => {
                for part in parts {
                    self.fail(part.slot, &reason);
                }
            }
        }
        true
    }

    /// How many of the step's tokens are of running answers.
    fn answer_tokens(&self, parts: &[Part]) -> u32 {
        let runs = |part: &&Part| self.slots[part.slot].as_ref().is_some_and(|running| running.job.is_running());
        parts.iter().filter(runs).map(|part| part.tokens).sum()
    }

    fn phase(&self) -> Phase {
        let answers = self.slots.iter().flatten().any(|running| running.job.is_running());
        if answers { Phase::Answer } else { Phase::Prompt }
    }

    /// The next batch, after making room for it. None: nothing to do.
    fn compose(&mut self) -> Option<Next> {
        self.want_for_running();
        loop {
            let cells = self.pool.cells;
            // Who waits for a larger pool takes no turn, or others would wait with it; nor who has steps of its own.
            let waits = |job: &Job| job.cells() > cells || job.is_judging();
            let able = self.slots.iter().flatten().filter(|running| !waits(&running.job));
            let set = self.turns.next(able.map(|running| &running.job.adapters));
            let work: Vec<Work> = self
                .slots
                .iter()
                .map(|slot| match slot {
                    None => Work::Idle,
                    Some(running) if waits(&running.job) => Work::Idle,
                    // Another set of adapters has its turn.
                    Some(running) if Some(&running.job.adapters) != set.as_ref() => Work::Idle,
                    Some(running) if running.job.is_running() => Work::Decode,
                    Some(running) => Work::Prefill { pending: running.job.pending_in_one() },
                })
                .collect();
            // Every running answer has its place, however slow the model is.
            let alone = self.pace.tokens_within(self.threads.step_alone_us(), FIRST).max(self.sequences());
            let budget = Budget {
                batch_tokens: self.batch_tokens.min(alone),
                prefill_tokens_beside: self.pace.tokens_within(compose::step_beside_us(&work), FIRST),
                part: self.blend.next(&work),
            };
            let shares = self.composer.compose(&work, budget);
            if shares.is_empty() {
                return None;
            }
            let reads = work.iter().any(|work| matches!(work, Work::Prefill { .. }));
            if self.keep.is_in_the_way(reads) {
                self.make_kept_step_aside();
            }
            let wanted = shares.iter().map(|share| share.tokens).sum();
            let oldest_first = self.oldest_first();
            let used: Vec<u32> = oldest_first
                .iter()
                .map(|&slot| self.slots[slot].as_ref().map_or(0, |running| running.job.past))
                .collect();
            self.let_kept_go(used.iter().sum::<u32>().saturating_add(wanted));
            let victims = self.pool.evict(&used, wanted);
            if victims.is_empty() {
                let taken = used.iter().sum::<u32>().saturating_add(wanted).saturating_add(self.keep.cells());
                let free = cells.saturating_sub(taken);
                let drafts = self.draft(&shares, &work, free);
                return Some(Next { shares, drafts, beside: reads && work.contains(&Work::Decode) });
            }
            for victim in victims {
                self.step_back(oldest_first[victim]);
            }
        }
    }

    fn check_adapters(&self, wanted: &[(u32, f32)]) -> Result<(), WireFault> {
        for (place, scale) in wanted {
            let adapter = usize::try_from(*place).ok().and_then(|place| self.adapters.get(place));
            match adapter {
                None => return Err(WireFault::Protocol(format!("there is no adapter {place}"))),
                Some(Err(fault)) => return Err(fault.clone()),
                Some(Ok(_)) if !scale.is_finite() => {
                    return Err(WireFault::Invalid(format!("the scale of an adapter is {scale}")));
                }
                Some(Ok(_)) => {}
            }
        }
        Ok(())
    }

    /// All parts of a step have the same set. Told before every step: a context that was made anew has none.
    fn use_adapters(&mut self, parts: &[Part]) -> Result<(), String> {
        let running = parts.first().and_then(|part| self.slots[part.slot].as_ref());
        let wanted = running.map_or(&[][..], |running| &running.job.adapters);
        let adapter = |(place, scale): &(u32, f32)| {
            let adapter = self.adapters.get(usize::try_from(*place).ok()?)?.as_ref().ok()?;
            Some((adapter, *scale))
        };
        let set: Vec<(&Adapter, f32)> = wanted.iter().filter_map(adapter).collect();
        self.context.use_adapters(&set)
    }

    fn sequences(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    fn oldest_first(&self) -> Vec<usize> {
        let mut slots: Vec<(u64, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, running)| running.as_ref().map(|running| (running.order, slot)))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// The cache has no room though the count says so (caches of some models have other rules).
    fn make_room(&mut self) {
        if self.keep.shed_one(&mut self.context, &self.lot) {
            return;
        }
        let order = self.oldest_first();
        match order.as_slice() {
            [only] => self.fail(*only, "the cache has no room for the next tokens"),
            [.., youngest] => self.step_back(*youngest),
            [] => {}
        }
    }

    fn fill(&mut self, shares: &[Share], drafts: &[Option<draft::Draft>]) -> Vec<Part> {
        self.batch.clear();
        let now = Instant::now();
        let mut parts = Vec::with_capacity(shares.len());
        for (share, draft) in shares.iter().zip(drafts) {
            let slot = share.sequence;
            let Some(running) = self.slots[slot].as_mut() else { continue };
            let job = &mut running.job;
            if let Some(queue_us) = job.start(now) {
                let (id, prompt_tokens, cached_tokens) = (job.id, job.prompt_tokens, job.reuse.tokens());
                self.outbox.send(Report::Started { job: id, prompt_tokens, cached_tokens, queue_us });
            }
            let from = job.past as usize;
            let chunk = &job.tokens[from..from + share.tokens as usize];
            let complete = from + chunk.len() == job.tokens.len();
            let mut output = None;
            for (position, (i, &token)) in (job.past..).zip(chunk.iter().enumerate()) {
                let last = complete && i + 1 == chunk.len();
                let index = self.batch.add(token, position, running.sequence, last);
                output = last.then_some(index);
            }
            if let Some(draft) = draft {
                self.fill_draft(slot, *draft);
            }
            parts.push(Part { slot, tokens: share.tokens, output, draft: *draft });
        }
        parts
    }

    /// After a computed step that `answers` share: notes what is in the cache, and chooses the next tokens where it
    /// is time.
    fn advance(&mut self, part: Part, answers: u32) {
        let Some(running) = self.slots[part.slot].as_mut() else { return };
        let job = &mut running.job;
        job.past += part.tokens;
        let Some(index) = part.output else {
            if job.takes_checkpoint() {
                self.checkpoint(part.slot);
                return;
            }
            if job.is_report_due(Instant::now()) {
                let (id, total) = (job.id, job.prompt_tokens);
                self.outbox.send(Report::Prefill { job: id, done: job.past.min(total), total });
            }
            return;
        };
        if job.options.is_some() {
            self.judge_first(part.slot, index);
        } else {
            self.verify(part.slot, index, part.draft, answers);
        }
    }

    /// Chooses a token from a row of scores. `drafted`: what the cache holds in its place already. The answer is the
    /// token; `None` when it was the last one.
    fn advance_token(&mut self, slot: usize, row: usize, drafted: Option<Token>) -> Option<Token> {
        let job = &mut self.slots[slot].as_mut()?.job;
        let model = self.context.shared_model();
        let (sampler, candidates) = (&mut job.sampler, &mut self.candidates);
        let chosen = match self.context.logits(row) {
            Some(logits) => job.guide.choose(&model, |allowed| sampler.choose(allowed, logits, candidates)),
            None => Ok(None),
        };
        tell_loose(job, self.outbox);
        let now = Instant::now();
        let (token, last) = match chosen {
            Ok(Some(Chosen::Token(token))) => (token, false),
            Ok(Some(Chosen::Last(token))) => (token, true),
            Ok(Some(Chosen::End)) => {
                job.note_token(now);
                self.end(slot, WireFinish::EndOfTurn);
                return None;
            }
            Ok(None) => {
                self.fail(slot, "the model's scores are not numbers");
                return None;
            }
            Err(fault) => {
                self.fail_with(slot, fault);
                return None;
            }
        };
        if drafted == Some(token) {
            job.past += 1;
            job.accepted += 1;
        }
        self.bytes.clear();
        model.piece(token, &mut self.bytes);
        let progress = job.take(token, &self.bytes, now);
        if let Some(text) = job.write(&progress.text, now, self.step) {
            self.outbox.send(Report::Text { job: job.id, text });
        }
        let ended = match progress.finish {
            // Whole, however many tokens were allowed.
            Some(WireFinish::Length) if last => Some(WireFinish::EndOfTurn),
            Some(finish) => Some(finish),
            None => {
                let over = if last { Some(WireFinish::EndOfTurn) } else { None };
                if let Some(finish) = over.or_else(|| job.is_loop(token, &self.bytes).then_some(WireFinish::Loop)) {
                    self.end(slot, finish);
                    return None;
                }
                None
            }
        };
        if let Some(finish) = ended {
            self.close(slot, finish);
            return None;
        }
        Some(token)
    }

    /// After a stopped step: part of it may be in the cache.
    fn undo(&mut self, slot: usize) {
        let Some(running) = self.slots[slot].as_mut() else { return };
        let cut =
            self.context.cut().is_some_and(|leave| self.context.forget_rest(leave, running.sequence, running.job.past));
        if !cut {
            // A recurrent state can't go back by some tokens, only to the start; nor can a window that has moved on.
            self.context.forget(running.sequence, 0);
            running.job.past = 0;
        }
    }

    fn end_by_id(&mut self, id: JobId, finish: WireFinish) {
        if let Some(slot) = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|r| r.job.id == id)) {
            self.end(slot, finish);
        } else if let Some(place) = self.waiting.iter().position(|job| job.id == id)
            && let Some(job) = self.waiting.remove(place)
        {
            self.outbox.send(Report::Done { job: id, finish, spent: job.spent(Instant::now()) });
        } else if let Some(place) = self.held.iter().position(|job| job.id == id) {
            let job = self.held.remove(place);
            self.outbox.send(Report::Done { job: id, finish, spent: job.spent(Instant::now()) });
        } else if let Some(place) = self.reading.iter().position(|reading| *reading == id) {
            self.reading.remove(place);
            self.seeking.retain(|job| job.id != id);
            self.holds.retain(|held| *held != id);
            self.outbox.send(Report::Done { job: id, finish, spent: Spent::default() });
        }
    }

    /// Ends a job with what was held back of its text.
    fn end(&mut self, slot: usize, finish: WireFinish) {
        let Some(running) = self.slots[slot].as_mut() else { return };
        let rest = running.job.rest();
        if let Some(text) = running.job.write(&rest.text, Instant::now(), Duration::ZERO) {
            self.outbox.send(Report::Text { job: running.job.id, text });
        }
        self.close(slot, rest.finish.unwrap_or(finish));
    }

    /// Text that waits for more goes out.
    fn flush(&mut self, slot: usize) {
        let Some(running) = self.slots[slot].as_mut() else { return };
        if let Some(text) = running.job.flush(Instant::now()) {
            self.outbox.send(Report::Text { job: running.job.id, text });
        }
    }

    fn close(&mut self, slot: usize, finish: WireFinish) {
        self.flush(slot);
        if let Some(mut running) = self.slots[slot].take() {
            let finish = running.job.settle(finish);
            let spent = running.job.spent(Instant::now());
            self.outbox.send(Report::Done { job: running.job.id, finish, spent });
            self.keep_sequence(running);
        }
    }

    fn fail(&mut self, slot: usize, reason: &str) {
        self.fail_with(slot, WireFault::DecodeFailed(reason.to_owned()));
    }

    fn fail_with(&mut self, slot: usize, fault: WireFault) {
        self.flush(slot);
        if let Some(running) = self.slots[slot].take() {
            self.keep.free_id(&mut self.context, running.sequence);
            self.outbox.send(Report::Failed { job: Some(running.job.id), fault });
        }
    }
}

/// Says which calls aren't kept to their schemas, where there is news of that.
fn tell_loose(job: &mut Job, outbox: &Outbox) {
    for Loose { tool, reason } in job.guide.take_loose() {
        outbox.send(Report::Loose { job: job.id, tool, reason });
    }
}

/// What llama.cpp would take badly or silently.
fn check_sampling(sampling: &WireSampling, vocabulary: usize) -> Result<(), WireFault> {
    let numbers = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("min_p", sampling.min_p),
        ("typical_p", sampling.typical_p),
        ("repeat_penalty", sampling.repeat_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
    ];
    if let Some((name, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite()) {
        return Err(WireFault::Invalid(format!("{name} is {value}; it must be a finite number")));
    }
    if sampling.repeat_penalty <= 0.0 {
        return Err(WireFault::Invalid(format!(
            "repeat_penalty is {}; it must be above 0 (1 changes nothing)",
            sampling.repeat_penalty
        )));
    }
    for &(token, bias) in &sampling.logit_bias {
        if usize::try_from(token).is_ok_and(|token| token >= vocabulary) {
            let words = format!("logit_bias names token {token}; the model's tokens end at {}", vocabulary - 1);
            return Err(WireFault::Invalid(words));
        }
        if bias.is_nan() {
            return Err(WireFault::Invalid(format!("logit_bias of token {token} is not a number")));
        }
    }
    Ok(())
}
