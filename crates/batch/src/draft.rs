//! Drafts: some tokens that an answer is likely to say next are put beside the next one in the same step, and those that
//! the model chooses itself are kept. What they are guessed from is a [`Source`].
//!
//! A step of several tokens takes longer than one of a single token, so a draft has to be right often enough. Both are
//! measured: what steps of each size cost, and how often such a guess was right, in this answer and in all before,
//! whether it was drafted or only watched. Start with [`Drafter::length`].

use std::collections::HashMap;

/// LIMIT: tokens drafted for one answer in one step. More pay only where all are right.
pub const TOKENS_MAX: u32 = 7;
/// LIMIT: answers that may run beside each other while one is drafted for: with more the step is full without.
pub const ANSWERS_MAX: usize = 2;

/// Tokens that must have stood together before.
const ALIKE_MIN: usize = 3;
/// LIMIT: how far back two places are compared.
const ALIKE_MAX: usize = 24;
/// LIMIT: places that are compared.
const PLACES_MAX: usize = 8;

/// A draft must be expected to make answers faster by this much.
const WORTH: f64 = 1.06;
/// Steps' worth of time that drafts may have cost an answer more than they brought: so much at once, …
const LOSS_STEPS: f64 = 1.0;
/// … and so much for each of its tokens.
const LOSS_PER_TOKEN: f64 = 0.004;
/// … and so much of what drafts of one token would have brought while guesses were only watched: an unlucky beginning mustn't
/// keep an answer from drafting where it turns to what stands in the text.
const MISSED_STEPS: f64 = 1.2;
/// What is known of all answers counts as much as so many guesses in this one.
const BEFORE_WEIGHT: f64 = 4.0;
/// How much of what was learnt stays with each further guess: in one answer, and in all.
const OWN_STAYS: f64 = 0.94;
const ALL_STAYS: f64 = 0.995;
/// How much of a step's cost stays when one of its size is measured again.
const COST_STAYS: f64 = 0.8;
/// How much of what larger steps cost stays with each smaller one: a size that isn't tried isn't measured either, and one
/// busy moment must not count for ever.
const COST_FADES: f64 = 0.9998;
/// A prompt's tokens need no scores, an answer's do: so much more they cost at most, until it was measured.
const SCORES_PART: f64 = 1.25;

type Token = i32;

/// What a guess stands on. How often those that may be wrong are right is learnt for each alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The answer's shape leaves no other text, and its tokens are certain.
    Forced,
    /// What followed the same words before. So many tokens before it are the same as those at the end.
    Text { alike: u32 },
    /// What a smaller model of the same vocabulary says. To ask it takes time.
    Model,
}

/// The tokens that may come next; one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    source: Source,
    ahead: [Token; TOKENS_MAX as usize],
    tokens: u32,
}

impl Guess {
    /// Of `ahead` no more than [`TOKENS_MAX`]. `None`: there is none.
    pub fn new(source: Source, ahead: &[Token]) -> Option<Self> {
        let mut guess = Self { source, ahead: [0; TOKENS_MAX as usize], tokens: 0 };
        for (place, token) in guess.ahead.iter_mut().zip(ahead) {
            *place = *token;
            guess.tokens += 1;
        }
        (guess.tokens > 0).then_some(guess)
    }

    pub fn ahead(&self) -> &[Token] {
        &self.ahead[..self.tokens as usize]
    }
}

/// A guess that could be made, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    pub source: Source,
    /// At most so many.
    pub tokens: u32,
    /// Time that has to be spent before its first token, which later guesses have no more to.
    pub at_once_us: f64,
    /// Time for each of its tokens.
    pub token_us: f64,
}

impl From<Guess> for Offer {
    /// It is made already.
    fn from(guess: Guess) -> Self {
        Self { source: guess.source, tokens: guess.tokens, at_once_us: 0.0, token_us: 0.0 }
    }
}

/// A place in a text whose past is like the text's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Of what followed.
    from: usize,
    /// How many tokens before it are the same as those at the end.
    alike: u32,
}

/// Where every few tokens of a text stood.
#[derive(Debug, Default)]
struct Places {
    last: HashMap<[Token; ALIKE_MIN], u32>,
    /// By place: where the same tokens stood before.
    before: Vec<Option<u32>>,
}

impl Places {
    /// Takes note of what the text has become; it only ever grows.
    fn note(&mut self, text: &[Token]) {
        // The last ones have nothing after them that could be guessed.
        while let Some(key) = key(text, self.before.len()).filter(|_| self.before.len() + ALIKE_MIN < text.len()) {
            let Ok(place) = u32::try_from(self.before.len()) else { return };
            self.before.push(self.last.insert(key, place));
        }
    }

    /// The place whose past is most like the text's end; of equal ones the latest.
    fn find(&self, text: &[Token]) -> Option<Place> {
        let end = text.len().checked_sub(ALIKE_MIN)?;
        let mut place = self.last.get(&key(text, end)?).copied();
        let mut best: Option<Place> = None;
        for _ in 0..PLACES_MAX {
            let Some(at) = place.map(|place| place as usize) else { break };
            let from = at + ALIKE_MIN;
            let pairs = text[..from].iter().rev().zip(text.iter().rev());
            let alike = pairs.take(ALIKE_MAX).take_while(|(one, other)| one == other).count();
            let alike = u32::try_from(alike).unwrap_or(u32::MAX);
            if best.is_none_or(|best| alike > best.alike) {
                best = Some(Place { from, alike });
            }
            place = self.before.get(at).copied().flatten();
        }
        best
    }
}

fn key(text: &[Token], at: usize) -> Option<[Token; ALIKE_MIN]> {
    text.get(at..at + ALIKE_MIN)?.try_into().ok()
}

/// How often guesses were right, each right token counting for one.
#[derive(Debug, Clone, Copy)]
struct Luck {
    right: f64,
    tried: f64,
}

impl Luck {
    fn learn(&mut self, stays: f64, tried: f64, right: f64) {
        self.right = self.right * stays + right;
        self.tried = self.tried * stays + tried;
    }

    fn share(self) -> f64 {
        self.right / self.tried.max(f64::MIN_POSITIVE)
    }
}

/// One answer's drafts.
#[derive(Debug)]
pub struct Drafts {
    places: Places,
    /// By kind of source.
    luck: [Luck; KINDS],
    /// Time that drafts have cost more than they brought; below 0 when they have saved some.
    lost_us: f64,
    /// Time that drafts of one token would have saved of late, where guesses were only watched; never below 0.
    missed_us: f64,
    /// It was offered guesses of a smaller model.
    asked_model: bool,
}

impl Default for Drafts {
    fn default() -> Self {
        Self {
            places: Places::default(),
            luck: [Luck { right: 0.0, tried: 0.0 }; KINDS],
            lost_us: 0.0,
            missed_us: 0.0,
            asked_model: false,
        }
    }
}

impl Drafts {
    /// What may come after `text`, which is the text of the last call and more, by the text itself.
    pub fn guess(&mut self, text: &[Token]) -> Option<Guess> {
        self.places.note(text);
        let Place { from, alike } = self.places.find(text)?;
        Guess::new(Source::Text { alike }, &text[from..])
    }

    /// A step is done that took `took_us` and brought `right` drafted tokens; without a draft it would have taken
    /// `plain_us`.
    pub fn settle(&mut self, took_us: f64, plain_us: f64, right: u32) {
        self.lost_us += took_us - plain_us * (1.0 + f64::from(right));
    }

    /// So much time went into a guess.
    pub fn pay(&mut self, us: f64) {
        self.lost_us += us;
    }

    /// Time that it may still lose.
    fn purse_us(&self, plain_us: f64, generated: u32) -> f64 {
        plain_us * (LOSS_STEPS + LOSS_PER_TOKEN * f64::from(generated)) + self.missed_us - self.lost_us
    }
}

/// The step that a draft would be added to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Tokens that it has anyway.
    pub tokens: u32,
    /// Tokens of an answer that it is expected to bring anyway.
    pub brings: f64,
    /// What a token of a prompt costs, as far as that is known.
    pub prompt_token_us: Option<f64>,
}

/// What all answers of a model have taught.
#[derive(Debug)]
pub struct Drafter {
    /// By class of guess.
    luck: [Luck; CLASSES],
    /// By tokens of a step.
    cost_us: [Option<f64>; SIZES],
    /// What a step without drafts takes longer than usual when it follows one with some: the engine's graph is made anew.
    back_us: f64,
    /// The last step had drafts.
    drafted: bool,
    /// It was the first of a row of such steps.
    began: bool,
}

/// Of sources that may be wrong, without a difference between long and short common pasts.
const KINDS: usize = 2;
/// Five of the text's own, and a smaller model's.
const CLASSES: usize = 6;
/// The last of them.
const MODEL: usize = CLASSES - 1;
/// Of steps whose cost is kept.
const SIZES: usize = ANSWERS_MAX * (1 + TOKENS_MAX as usize) + 1;
/// Before anything was seen: the longer the common past, the likelier the same future.
const AT_FIRST: [f64; CLASSES] = [0.3, 0.4, 0.5, 0.65, 0.8, 0.6];
/// Of what a smaller model's luck was in all answers so much stays with each further one; the rest becomes again what was
/// thought at first, as after so many tokens: nothing is learnt of guesses that nobody makes.
const MODEL_STAYS: f64 = 0.9;
const MODEL_TOKENS: f64 = 8.0;

impl Default for Drafter {
    fn default() -> Self {
        let luck = AT_FIRST.map(|share| Luck { right: share * BEFORE_WEIGHT, tried: BEFORE_WEIGHT });
        Self { luck, cost_us: [None; SIZES], back_us: 0.0, drafted: false, began: false }
    }
}

/// Where the luck of all answers with such guesses is kept, and where that of one answer. `None`: they are certain.
fn places(source: Source) -> Option<(usize, usize)> {
    match source {
        Source::Forced => None,
        Source::Text { alike: ..4 } => Some((0, 0)),
        Source::Text { alike: 4 } => Some((1, 0)),
        Source::Text { alike: 5..8 } => Some((2, 0)),
        Source::Text { alike: 8..16 } => Some((3, 0)),
        Source::Text { alike: 16.. } => Some((4, 0)),
        Source::Model => Some((MODEL, 1)),
    }
}

impl Drafter {
    /// Takes note of a step that held nothing but tokens of answers, `drafted` ones among them or none.
    pub fn observe(&mut self, tokens: u32, drafted: bool, took_us: u64) {
        let Some(cost) = self.cost_us.get_mut(tokens as usize) else { return };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one step are far below 2^53")]
        let now = took_us as f64;
        let was_drafted = std::mem::replace(&mut self.drafted, drafted);
        self.began = drafted && !was_drafted;
        if let (false, true, Some(usual)) = (drafted, was_drafted, *cost) {
            let more = (now - usual).clamp(0.0, usual);
            self.back_us = COST_STAYS * self.back_us + (1.0 - COST_STAYS) * more;
            return;
        }
        let known = cost.map_or(now, |before| COST_STAYS * before + (1.0 - COST_STAYS) * now);
        *cost = Some(known);
        // Never below what a smaller step costs.
        for larger in self.cost_us.iter_mut().skip(tokens as usize + 1).flatten() {
            *larger = (*larger * COST_FADES).max(known.min(*larger));
        }
    }

    /// What the last step will cost beyond its own time, when it was the first with a draft.
    pub fn owed_us(&self) -> f64 {
        if self.began { self.back_us } else { 0.0 }
    }

    /// What a step of so many tokens costs: as measured, else by its neighbours, else by what prompts cost.
    pub fn cost_us(&self, tokens: u32, prompt_token_us: Option<f64>) -> Option<f64> {
        let at = tokens as usize;
        if let Some(cost) = *self.cost_us.get(at)? {
            return Some(cost);
        }
        let known = |place: usize| Some((place, self.cost_us[place]?));
        let below = (0..at).rev().find_map(known)?;
        let steps = |from: usize, to: usize| f64::from(u32::try_from(to - from).unwrap_or(u32::MAX));
        if let Some((above, cost)) = (at + 1..SIZES).find_map(known) {
            let share = steps(below.0, at) / steps(below.0, above);
            return Some(below.1 + share * (cost - below.1));
        }
        Some(below.1 + prompt_token_us? * SCORES_PART * steps(below.0, at))
    }

    /// How likely each further token of a guess is the right one.
    fn likely(&self, drafts: &Drafts, source: Source) -> f64 {
        let Some((class, kind)) = places(source) else { return 1.0 };
        let (all, own) = (self.luck[class].share(), drafts.luck[kind]);
        let share = (own.right + BEFORE_WEIGHT * all) / (own.tried + BEFORE_WEIGHT);
        share.clamp(0.0, 0.99)
    }

    /// How many tokens of an offer are worth drafting beside what `step` holds, at most `most`; 0: none. The answer
    /// has `generated` so many. With it, what the step is expected to bring then.
    pub fn length(
        &self,
        drafts: &Drafts,
        offer: impl Into<Offer>,
        step: Step,
        most: u32,
        generated: u32,
    ) -> (u32, f64) {
        let (none, offer) = ((0, step.brings), offer.into());
        if offer.source == Source::Forced {
            // As many passes take no less than one of them all.
            let tokens = offer.tokens.min(most);
            return (tokens, step.brings + f64::from(tokens));
        }
        let Some(plain) = self.cost_us(step.tokens, step.prompt_token_us) else { return none };
        if plain <= 0.0 || drafts.purse_us(plain, generated) <= offer.at_once_us {
            return none;
        }
        let likely = self.likely(drafts, offer.source);
        // The way back has to be paid for once: now, or by a draft that begins.
        let (back, ahead) = if self.drafted { (self.back_us, 0.0) } else { (0.0, self.back_us) };
        let (mut best, mut best_rate) = (none, step.brings / (plain + back) * WORTH);
        let (mut chance, mut brings) = (1.0, step.brings);
        for tokens in 1..=offer.tokens.min(most) {
            chance *= likely;
            brings += chance;
            let Some(cost) = self.cost_us(step.tokens + tokens, step.prompt_token_us) else { break };
            let rate = brings / (cost + ahead + offer.token_us * f64::from(tokens));
            if rate > best_rate {
                (best, best_rate) = ((tokens, brings), rate);
            }
        }
        best
    }

    /// Time that an answer may spend on what may turn out to be in vain; 0 as long as no step was measured.
    pub fn purse_us(&self, drafts: &Drafts, step: Step, generated: u32) -> f64 {
        let plain = self.cost_us(step.tokens, step.prompt_token_us);
        plain.map_or(0.0, |plain| drafts.purse_us(plain, generated).max(0.0))
    }

    /// To be told before a smaller model is asked for an answer. Whether it is the first time.
    pub fn ask_model(&mut self, drafts: &mut Drafts) -> bool {
        let first = !std::mem::replace(&mut drafts.asked_model, true);
        if first {
            let fresh = (1.0 - MODEL_STAYS) * MODEL_TOKENS;
            self.luck[MODEL].learn(MODEL_STAYS, fresh, fresh * AT_FIRST[MODEL]);
        }
        first
    }

    /// Takes note of a guess that was only watched: its first token was `right`. So many `answers` had a token in the step.
    pub fn watch(
        &mut self,
        drafts: &mut Drafts,
        guess: Guess,
        right: bool,
        answers: u32,
        prompt_token_us: Option<f64>,
    ) {
        self.learn(drafts, guess, 1, right.into());
        let cost = |tokens| self.cost_us(tokens, prompt_token_us);
        if let (Some(plain), Some(drafted)) = (cost(answers), cost(answers + 1)) {
            let saved = if right { 2.0 * plain - drafted } else { plain - drafted };
            drafts.missed_us = (drafts.missed_us + saved).clamp(0.0, MISSED_STEPS * plain);
        }
    }

    /// Takes note of how a guess did: of `tried` tokens the first `right` ones were right.
    pub fn learn(&mut self, drafts: &mut Drafts, guess: Guess, tried: u32, right: u32) {
        let Some((class, kind)) = places(guess.source) else { return };
        // After the first wrong one nothing was tried any more.
        let tried = f64::from(tried.min(right + 1));
        drafts.luck[kind].learn(OWN_STAYS, tried, right.into());
        self.luck[class].learn(ALL_STAYS, tried, right.into());
    }
}

/// What a smaller model is to do about what it has read of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Go on from there.
    On,
    /// Forget it, and read so many of the last tokens.
    Anew(u32),
    /// It isn't to be asked.
    Not,
}

/// With fewer tokens than that before its eyes a model guesses badly.
const VIEW_MIN: u32 = 16;
/// Who has seen the end of a text only sees more of it when that is so many times as much.
const VIEW_GROWS: u32 = 4;

/// Of a `text` it has read `held` tokens up to `lag` before the end, and there is room for `limit`; it may read `can_read`
/// for this guess. It costs time to read a prompt which the answer may not be worth, so it begins with as much of the
/// end as the answer can bear, and sees more when its guesses have paid for it.
pub fn view(text: u32, held: u32, lag: u32, limit: u32, can_read: u32) -> View {
    // With room to go on.
    let whole = text.min(limit / 2);
    let anew = |tokens: u32| if tokens >= VIEW_MIN.min(whole) && tokens > 0 { View::Anew(tokens) } else { View::Not };
    let full = held.saturating_add(lag).saturating_add(TOKENS_MAX) > limit;
    if held == 0 || full || lag > can_read {
        return anew(whole.min(can_read));
    }
    // Only half of what it may lose: the rest is for wrong guesses.
    let wider = whole.min(can_read / 2);
    if held.saturating_add(lag) < whole && wider >= whole.min(held.saturating_mul(VIEW_GROWS)) {
        anew(wider)
    } else {
        View::On
    }
}

#[cfg(test)]
mod tests;
