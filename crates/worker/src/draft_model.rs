//! A draft model: a smaller one of the same vocabulary, which guesses what the larger one will say.
//!
//! It has a context of its own with a seat for each answer that may be drafted for. What lies in a seat is compared with the
//! answer's text before each guess: what differs is taken out and what is missing is read, so wrong guesses, tokens that
//! came by other ways, and answers that had stepped back need no care of their own. How much of a text it reads, and
//! whether it is asked at all, `batch::draft` decides by what it costs.

use crate::ffi::{Backend, Batch, Context, ContextOptions, Decoded, Model, ModelOptions, Pages, Token};
use crate::job::Job;
use batch::draft::{self, Drafter, Guess, Offer, Source, Step, View};
use batch::prefix::Owner;
use std::cmp::Reverse;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;
use wire::{JobId, KvCache, WireDraftModel};

/// Answers that it guesses for at a time.
const SEATS: u32 = draft::ANSWERS_MAX as u32;
/// Tokens of the two steps that are measured before the first answer.
const FIRST_READ: u32 = 32;
/// A step of fewer tokens says little of what reading costs.
const READ_LEAST: usize = 16;
/// Nothing takes less time.
const LEAST_US: f64 = 0.001;
/// Steps that are measured at first: others may take the processor meanwhile, and what the shortest took is believed.
const FIRST_STEPS: [u32; 6] = [FIRST_READ, 1, 1, FIRST_READ, 1, 1];
/// How much of what a step cost stays when another one is measured …
const COST_STAYS: f64 = 0.7;
/// … and with each answer that it wasn't asked for, since what nobody does isn't measured: a busy moment must not count for
/// ever.
const COST_FADES: f64 = 0.9;

#[derive(Debug)]
pub(crate) struct DraftModel {
    name: String,
    model: Arc<Model>,
    options: ContextOptions,
    /// None while the worker rests.
    context: Option<Context>,
    seats: Vec<Seat>,
    batch: Batch,
    /// Tokens that both models know.
    common: usize,
    /// What one token takes, in microseconds: alone, and among many.
    token_us: f64,
    read_us: f64,
    guesses: u64,
    /// Of them, those before the last answer began.
    guesses_before: u64,
}

/// What it holds of one answer.
#[derive(Debug, Default)]
struct Seat {
    job: Option<JobId>,
    owner: Option<Owner>,
    /// Where in the answer's text `held` begins.
    from: usize,
    held: Vec<Token>,
    /// When it was last used.
    used: u64,
}

impl Seat {
    /// How many of its tokens are those of this text; at least one of the text's is left to be read.
    fn common(&self, text: &[Token]) -> usize {
        let rest = text.get(self.from..text.len().saturating_sub(1)).unwrap_or_default();
        self.held.iter().zip(rest).take_while(|(held, wanted)| held == wanted).count()
    }

    /// Whether what it holds may be gone on from: it is of the same answer, or of the same owner and from the beginning.
    fn serves(&self, job: &Job) -> bool {
        self.job == Some(job.id) || self.from == 0 && self.owner.is_some() && self.owner == job.owner
    }
}

/// A guess that was made, with what its step is expected to bring.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) guess: Guess,
    pub(crate) brings: f64,
}

impl DraftModel {
    /// Loads it for the processor. It isn't measured yet: see [`DraftModel::begin_beside`].
    ///
    /// # Errors
    /// In words; the worker goes on without.
    pub(crate) fn load(
        wanted: &WireDraftModel,
        (file, pages): (OwnedFd, &Pages),
        cpu: Backend,
        threads: u32,
    ) -> Result<Self, String> {
        let cpu = cpu.devices().first().copied().ok_or("the CPU backend has no device")?;
        let progress = &mut |_: f32| true;
        let model = ModelOptions { split: &[], cpu_experts: &[], cpu, bytes: pages.bytes(), progress };
        let model = Model::load(vec![file], model);
        if crate::ffi::copies_weights() {
            pages.let_go();
        }
        let model = Arc::new(model?);
        if !model.can_go_back() {
            return Err("its state can't go back".into());
        }
        let options = ContextOptions {
            context_tokens: wanted.context_tokens,
            sequences_max: SEATS,
            sequences_kept: 0,
            batch_tokens: wanted.batch_tokens.max(FIRST_READ),
            threads,
            kv_on_gpu: false,
            kv_cache: KvCache::F16,
            embed: None,
            judges: false,
            // A guess is taken back token by token, however far the window has moved.
            whole_windows: true,
        };
        let context = Context::new(Arc::clone(&model), options)?;
        if !context.has_cache() {
            return Err("it makes vectors".into());
        }
        Ok(Self {
            name: wanted.name.clone(),
            common: model.vocabulary_size(),
            model,
            options,
            context: Some(context),
            seats: (0..SEATS).map(|_| Seat::default()).collect(),
            batch: Batch::default(),
            token_us: f64::INFINITY,
            read_us: f64::INFINITY,
            guesses: 0,
            guesses_before: 0,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Looks whether it suits `target`, which computes with its threads already, and measures it. `drafts`: the target
    /// can make use of it.
    ///
    /// # Errors
    /// In words, when it is of no use.
    pub(crate) fn begin_beside(mut self, target: &Context, drafts: bool) -> Result<Self, String> {
        if !drafts {
            return Err("the model's state can't go back".into());
        }
        self.model.speaks_as(target.model())?;
        self.common = self.model.vocabulary_size().min(target.model().vocabulary_size());
        let any = self.model.any_token();
        for tokens in FIRST_STEPS {
            let took_us = self.compute(0, 0, &vec![any; tokens as usize], target).ok_or("it can't be computed with")?;
            let of_kind = if tokens == 1 { &mut self.token_us } else { &mut self.read_us };
            *of_kind = of_kind.min(took_us / f64::from(tokens));
            self.forget(0, 0);
        }
        Ok(self)
    }

    /// Gives its cache and its room to compute back.
    pub(crate) fn rest(&mut self) {
        self.clear();
        self.context = None;
    }

    /// Takes them again. Without them it says nothing.
    pub(crate) fn wake(&mut self) {
        if self.context.is_none() {
            self.context = Context::new(Arc::clone(&self.model), self.options).ok();
        }
    }

    /// Forgets all that it has read.
    pub(crate) fn clear(&mut self) {
        for place in 0..self.seats.len() {
            self.forget(place, 0);
        }
    }

    /// What it guesses for an answer whose next step would be `step`, at most `most` tokens, if that is worth its time,
    /// which the answer pays. `company`: the answers of this step.
    pub(crate) fn guess(
        &mut self,
        (job, company): (&mut Job, &[JobId]),
        drafter: &mut Drafter,
        (step, most): (Step, u32),
        target: &Context,
    ) -> Option<Made> {
        self.context.as_ref()?;
        if drafter.ask_model(&mut job.drafts)
            && self.guesses == std::mem::replace(&mut self.guesses_before, self.guesses)
        {
            self.token_us *= COST_FADES;
            self.read_us *= COST_FADES;
        }
        let can_read = drafter.purse_us(&job.drafts, step, job.generated()) / self.read_us.max(LEAST_US);
        let (seat, from, known) = self.prepare(job, company, can_read)?;
        let text = &job.tokens[from..];
        let missing = tokens_f64(text.len() - known);
        let offer = Offer {
            source: Source::Model,
            tokens: draft::TOKENS_MAX,
            at_once_us: (missing - 1.0) * self.read_us,
            token_us: self.token_us,
        };
        let (tokens, brings) = drafter.length(&job.drafts, offer, step, most, job.generated());
        if tokens == 0 {
            return None;
        }
        let start = Instant::now();
        let ahead = self.ask(seat, job, (from, known), tokens, target);
        job.drafts.pay(micros(start));
        let guess = Guess::new(Source::Model, &ahead)?;
        Some(Made { guess, brings })
    }

    /// The seat for an answer, where in its text the seat begins, and how many tokens from there it needn't read.
    fn prepare(&self, job: &Job, company: &[JobId], can_read: f64) -> Option<(usize, usize, usize)> {
        let text = &job.tokens;
        let place = self.place(job, company)?;
        let seat = &self.seats[place];
        let known = if seat.serves(job) { seat.common(text) } else { 0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
        let can_read = can_read as u32;
        let lag = text.len() - if known > 0 { seat.from + known } else { 0 };
        let limit = self.options.context_tokens / SEATS;
        match draft::view(count(text.len()), count(known), count(lag), limit, can_read) {
            View::On => Some((place, seat.from, known)),
            View::Anew(tokens) => Some((place, text.len().saturating_sub(tokens as usize), 0)),
            View::Not => None,
        }
    }

    /// Its own seat, else the one of nobody here that holds most of its text, else the one that was used least lately.
    fn place(&self, job: &Job, company: &[JobId]) -> Option<usize> {
        if let Some(own) = self.seats.iter().position(|seat| seat.job == Some(job.id)) {
            return Some(own);
        }
        let is_free = |seat: &Seat| seat.job.is_none_or(|id| !company.contains(&id));
        let free = self.seats.iter().enumerate().filter(|(_, seat)| is_free(seat));
        let rank = |seat: &Seat| (if seat.serves(job) { seat.common(&job.tokens) } else { 0 }, Reverse(seat.used));
        free.max_by_key(|(_, seat)| rank(seat)).map(|(place, _)| place)
    }

    /// Reads what is missing of the text from `from` on, of which `known` tokens are there, and says what comes next.
    fn ask(
        &mut self,
        place: usize,
        job: &Job,
        (from, known): (usize, usize),
        tokens: u32,
        target: &Context,
    ) -> Vec<Token> {
        self.guesses += 1;
        self.forget(place, known);
        let seat = &mut self.seats[place];
        (seat.job, seat.owner, seat.from, seat.used) = (Some(job.id), job.owner.clone(), from, self.guesses);
        let mut next = job.tokens[from + known..].to_vec();
        let mut ahead = Vec::with_capacity(tokens as usize);
        while ahead.len() < tokens as usize {
            let Some(took_us) = self.compute(place, self.seats[place].held.len(), &next, target) else {
                self.forget(place, 0);
                return ahead;
            };
            self.note(next.len(), took_us);
            self.seats[place].held.append(&mut next);
            let Some(token) = self.likeliest().filter(|token| !self.model.ends(*token)) else { break };
            ahead.push(token);
            next.push(token);
        }
        ahead
    }

    /// Computes tokens behind the first `past` of a seat. What it took in microseconds; `None`: it couldn't.
    fn compute(&mut self, place: usize, past: usize, tokens: &[Token], target: &Context) -> Option<f64> {
        let context = self.context.as_mut()?;
        let known = |token: &Token| usize::try_from(*token).is_ok_and(|id| id < self.common);
        if !tokens.iter().all(known) || !context.share_threads(target) {
            return None;
        }
        let start = Instant::now();
        let chunks = tokens.chunks(self.options.batch_tokens as usize);
        let mut at = count(past);
        for chunk in chunks {
            self.batch.clear();
            for token in chunk {
                // Only the scores after the last one are looked at; a chunk before it has them too, and nobody looks.
                let last = self.batch.len() + 1 == chunk.len();
                self.batch.add(*token, at, i32::try_from(place).ok()?, last);
                at += 1;
            }
            if context.decode(&mut self.batch) != Decoded::Done {
                return None;
            }
        }
        Some(micros(start))
    }

    fn note(&mut self, tokens: usize, took_us: f64) {
        let learn = |known: &mut f64, now: f64| *known = COST_STAYS * *known + (1.0 - COST_STAYS) * now;
        if tokens == 1 {
            learn(&mut self.token_us, took_us);
        } else if tokens >= READ_LEAST {
            learn(&mut self.read_us, took_us / tokens_f64(tokens));
        }
    }

    /// Of the last step.
    fn likeliest(&mut self) -> Option<Token> {
        let row = self.batch.len().checked_sub(1)?;
        let scores = self.context.as_mut()?.logits(row)?;
        let of_both = scores.iter().take(self.common).enumerate().filter(|(_, score)| score.is_finite());
        let (best, _) = of_both.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Token::try_from(best).ok()
    }

    /// Leaves the first `tokens` of a seat.
    fn forget(&mut self, place: usize, tokens: usize) {
        let seat = &mut self.seats[place];
        seat.held.truncate(tokens);
        if tokens == 0 {
            (seat.job, seat.owner, seat.from) = (None, None, 0);
        }
        let Some(context) = self.context.as_mut() else { return };
        let forgot = i32::try_from(place).is_ok_and(|sequence| context.forget(sequence, count(tokens)));
        if !forgot {
            // It said at the load that it can. Nothing wrong may stay, and without a context it says nothing any more.
            self.context = None;
        }
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn tokens_f64(tokens: usize) -> f64 {
    f64::from(count(tokens))
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_knows_what_of_a_text_it_has_read() {
        let seat = |from, held: &[Token]| Seat { from, held: held.to_vec(), ..Seat::default() };
        assert_eq!(seat(0, &[1, 2, 3]).common(&[1, 2, 3, 4]), 3);
        assert_eq!(seat(0, &[1, 2, 3, 9, 9]).common(&[1, 2, 3, 4]), 3, "a wrong guess");
        assert_eq!(seat(0, &[1, 2, 3]).common(&[1, 2, 3]), 2, "one is always left to be read");
        assert_eq!(seat(2, &[3, 4]).common(&[1, 2, 3, 4, 5]), 2);
        assert_eq!((seat(9, &[3, 4]).common(&[1, 2]), seat(0, &[1]).common(&[])), (0, 0));
    }
}
