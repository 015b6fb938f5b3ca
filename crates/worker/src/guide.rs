//! Keeps an answer to its shape: which tokens may come next, and what a chosen one leads to.
//!
//! A token can only be chosen from an [`Allowed`], and only [`Guide::choose`] makes one, which takes the choice
//! into account at once. There is no way to sample beside it. When the matcher is at a loss the answer ends with a
//! fault; it never goes on without. The one exception are calls in an answer that is free otherwise: see [`calls`].

use crate::ffi::{Model, Token};
use asked::{Alone, Asked};
use calls::Calls;
use forced::Run;
use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, TokenParser};
use std::collections::VecDeque;
use std::sync::Arc;
use wire::{WireFault, WireReasoning, WireShape};

mod asked;
mod calls;
mod compile;
mod cut;
mod forced;
mod lark;
mod vocabulary;

pub(crate) use calls::Loose;
pub(crate) use compile::Compiler;
pub(crate) use vocabulary::Vocabulary;

/// LIMIT: tokens of white space between reasoning and what has a shape.
const GAP_TOKENS_MAX: u32 = 4;

/// The tokens that may be chosen now.
#[derive(Debug)]
pub(crate) struct Allowed<'a>(Which<'a>);

#[derive(Debug)]
enum Which<'a> {
    All,
    But(&'a [Token]),
    Only(&'a SimpleVob),
    /// What a matcher allows.
    Asked(&'a Asked<'a>),
    /// The next one of a text that is certain.
    One(Token),
}

impl Allowed<'_> {
    /// Every token may come.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self.0, Which::All)
    }

    /// The token that is to come, where only the cut of a certain text is to be said. Who doesn't want it gets the choice
    /// among all that say the same.
    pub(crate) fn one(&self) -> Option<Token> {
        match self.0 {
            Which::One(token) => Some(token),
            Which::All | Which::But(_) | Which::Only(_) | Which::Asked(_) => None,
        }
    }

    /// Calls `f` for each token that may come, of a vocabulary of this size.
    pub(crate) fn each(&self, vocabulary: usize, mut f: impl FnMut(usize)) {
        match self.0 {
            Which::All => (0..vocabulary).for_each(f),
            Which::But(tokens) => (0..vocabulary).filter(|id| !holds(tokens, *id)).for_each(f),
            Which::Only(_) | Which::Asked(_) => {
                let Some(mask) = self.mask() else { return };
                mask.iter_set_entries(|id| {
                    if id < vocabulary {
                        f(id);
                    }
                });
            }
            Which::One(token) => usize::try_from(token).into_iter().filter(|id| *id < vocabulary).for_each(f),
        }
    }

    fn mask(&self) -> Option<&SimpleVob> {
        match self.0 {
            Which::Only(mask) => Some(mask),
            Which::Asked(asked) => asked.mask(),
            Which::All | Which::But(_) | Which::One(_) => None,
        }
    }

    /// Whether this token may come.
    pub(crate) fn has(&self, token: Token) -> bool {
        let Ok(id) = usize::try_from(token) else { return false };
        match self.0 {
            Which::All => true,
            Which::But(tokens) => !holds(tokens, id),
            Which::Only(mask) => id < mask.len() && mask.get(id),
            Which::Asked(asked) => asked.has(token),
            Which::One(one) => token == one,
        }
    }
}

fn holds(tokens: &[Token], id: usize) -> bool {
    tokens.iter().any(|token| usize::try_from(*token) == Ok(id))
}

/// What a choice came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// It goes on.
    Token(Token),
    /// The same, and nothing more can come.
    Last(Token),
    /// The model ended its turn, where it may.
    End,
}

/// One answer's guide.
#[derive(Debug)]
pub(crate) struct Guide(Kind);

#[derive(Debug)]
enum Kind {
    Free,
    Shaped(Box<Shaped>),
    Calls(Box<Calls>),
}

/// An answer that has a shape.
pub(crate) struct Shaped {
    matcher: Matcher,
    phase: Phase,
    vocabulary: Arc<Vocabulary>,
    reasoning: Option<Markers>,
    run: Run,
    alone: Alone,
}

impl std::fmt::Debug for Shaped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shaped").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// What encloses reasoning.
#[derive(Debug)]
struct Markers {
    /// Tokens of the text that opens it.
    open: Vec<Token>,
    close: Vec<u8>,
}

/// Where the answer stands.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// At its start: either reasoning is opened, of which so many tokens are there, or the shape begins.
    Opening(usize),
    /// In the reasoning, with the last bytes of it.
    Reasoning(Vec<u8>),
    /// Behind it, after so many tokens of white space.
    Gap(u32),
    Shape,
}

impl Guide {
    /// Lets everything pass, where no shape is asked for.
    pub(crate) fn of_free(shape: &WireShape) -> Option<Self> {
        (*shape == WireShape::Free).then_some(Self(Kind::Free))
    }

    /// Keeps to what `parser` was compiled from, behind the reasoning where there may be some. `forces`: where that leaves
    /// only one text, the model's tokenizer says its tokens.
    ///
    /// # Errors
    /// When the text that opens the reasoning has no tokens.
    pub(crate) fn new(
        parser: TokenParser,
        reasoning: Option<&WireReasoning>,
        model: &Model,
        vocabulary: Arc<Vocabulary>,
        forces: bool,
    ) -> Result<Self, WireFault> {
        let mut markers = None;
        let phase = match reasoning {
            None => Phase::Shape,
            Some(WireReasoning { open, close }) => {
                let open = model.tokens(open, false, true).map_err(WireFault::Invalid)?;
                let phase = if open.is_empty() { Phase::Reasoning(Vec::new()) } else { Phase::Opening(0) };
                markers = Some(Markers { open, close: close.clone().into_bytes() });
                phase
            }
        };
        let matcher = Matcher::new(Ok(parser));
        let run = Run::new(forces);
        let alone = Alone::default();
        Ok(Self(Kind::Shaped(Box::new(Shaped { matcher, phase, vocabulary, reasoning: markers, run, alone }))))
    }

    /// Of an answer that is free but for its calls.
    fn of_calls(calls: Calls) -> Self {
        Self(Kind::Calls(Box::new(calls)))
    }

    /// Whether the answer has a shape and doesn't have all of it yet, or a call in it isn't whole.
    pub(crate) fn is_incomplete(&mut self) -> bool {
        match &mut self.0 {
            Kind::Free => false,
            Kind::Calls(calls) => calls.is_open(),
            Kind::Shaped(shaped) => {
                let matcher = &mut shaped.matcher;
                shaped.phase != Phase::Shape || !matcher.is_stopped() && !matcher.is_accepting().unwrap_or(false)
            }
        }
    }

    /// Tokens that come next because the shape leaves no other text. [`Guide::choose`] offers them alone, one after the
    /// other.
    pub(crate) fn forced(&mut self) -> Option<&VecDeque<Token>> {
        match &mut self.0 {
            Kind::Free => None,
            Kind::Calls(calls) => calls.forced(),
            Kind::Shaped(shaped) if shaped.phase == Phase::Shape => Some(shaped.run.due(&mut shaped.matcher)),
            Kind::Shaped(_) => None,
        }
    }

    /// Whether the answer as a whole has a shape.
    pub(crate) fn has_shape(&self) -> bool {
        matches!(self.0, Kind::Shaped(_))
    }

    /// Whether the token that was chosen last is part of a call that is kept to its schema.
    pub(crate) fn spoke_call(&self) -> bool {
        matches!(&self.0, Kind::Calls(calls) if calls.spoke())
    }

    /// What calls aren't kept to, and wasn't told yet.
    pub(crate) fn take_loose(&mut self) -> Vec<Loose> {
        match &mut self.0 {
            Kind::Calls(calls) => calls.take_loose(),
            Kind::Free | Kind::Shaped(_) => Vec::new(),
        }
    }

    /// Has `pick` choose from what is allowed, and goes on by the choice. `None`: it chose nothing. Where only
    /// [`Allowed::one`] was allowed it is asked again.
    ///
    /// # Errors
    /// When nothing is allowed, or what was chosen isn't: the answer can't go on.
    pub(crate) fn choose(
        &mut self,
        model: &Model,
        mut pick: impl FnMut(&Allowed<'_>) -> Option<Token>,
    ) -> Result<Option<Chosen>, WireFault> {
        match &mut self.0 {
            Kind::Free => {
                let token = pick(&Allowed(Which::All));
                Ok(token.map(|token| if model.ends(token) { Chosen::End } else { Chosen::Token(token) }))
            }
            Kind::Shaped(shaped) => shaped.choose(model, pick),
            Kind::Calls(calls) => calls.choose(model, pick),
        }
    }
}

impl Shaped {
    fn choose(
        &mut self,
        model: &Model,
        mut pick: impl FnMut(&Allowed<'_>) -> Option<Token>,
    ) -> Result<Option<Chosen>, WireFault> {
        if self.phase == Phase::Shape
            && let Some(token) = forced::pick(&mut self.run, &mut self.matcher, &mut pick)
        {
            return self.go_on(model, token).map(Some);
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        if self.phase == Phase::Shape {
            let asked = Asked::new(&mut self.matcher, vocabulary.ends(), &self.alone);
            let token = pick(&Allowed(Which::Asked(&asked)));
            if let Some(Err(error)) = asked.failure() {
                return Err(lost(error));
            }
            return match token {
                Some(token) if asked.has(token) => self.go_on(model, token).map(Some),
                Some(_) => Err(misfit()),
                None => Ok(None),
            };
        }
        // What the shape itself allows, in the phases in which it may come now.
        let own = match self.phase {
            Phase::Reasoning(_) | Phase::Opening(1..) => None,
            Phase::Opening(0) | Phase::Gap(_) | Phase::Shape => Some(self.matcher.compute_mask().map_err(lost)?),
        };
        let wider = self.beside_shape().map(|more| {
            let mut mask = own.clone().unwrap_or_else(|| vocabulary.none());
            more.iter().filter_map(|token| u32::try_from(*token).ok()).for_each(|token| mask.allow_token(token));
            mask
        });
        let allowed = Allowed(match wider.as_ref().or(own.as_ref()) {
            Some(mask) => Which::Only(mask),
            None => Which::But(vocabulary.ends()),
        });
        let Some(token) = pick(&allowed) else { return Ok(None) };
        if !allowed.has(token) {
            return Err(misfit());
        }
        if own.is_some_and(|own| Allowed(Which::Only(&own)).has(token)) {
            return self.go_on(model, token).map(Some);
        }
        self.go_beside(model, token)?;
        Ok(Some(Chosen::Token(token)))
    }

    /// Tokens that may come though the shape doesn't have them.
    fn beside_shape(&self) -> Option<&[Token]> {
        match &self.phase {
            Phase::Opening(place) => {
                let open = self.reasoning.as_ref().map_or(&[][..], |markers| markers.open.as_slice());
                Some(open.get(*place..=*place).unwrap_or(&[]))
            }
            Phase::Gap(count) => Some(if *count < GAP_TOKENS_MAX { self.vocabulary.blanks() } else { &[] }),
            Phase::Reasoning(_) | Phase::Shape => None,
        }
    }

    /// A token of the shape.
    fn go_on(&mut self, model: &Model, token: Token) -> Result<Chosen, WireFault> {
        self.phase = Phase::Shape;
        self.run.said(token);
        if model.ends(token) {
            return Ok(Chosen::End);
        }
        let id = u32::try_from(token).map_err(|_| WireFault::ShapeFailed("a token has no number".into()))?;
        self.matcher.consume_token(id).map_err(lost)?;
        if !self.matcher.is_stopped() {
            return Ok(Chosen::Token(token));
        }
        if self.matcher.stop_reason().is_ok() { Ok(Chosen::Last(token)) } else { Err(self.stopped()) }
    }

    fn stopped(&self) -> WireFault {
        WireFault::ShapeFailed(format!("the matcher stopped: {}", self.matcher.stop_reason()))
    }

    /// A token of what stands before the shape.
    fn go_beside(&mut self, model: &Model, token: Token) -> Result<(), WireFault> {
        match &mut self.phase {
            Phase::Opening(place) => {
                *place += 1;
                if self.reasoning.as_ref().is_none_or(|markers| *place >= markers.open.len()) {
                    self.phase = Phase::Reasoning(Vec::new());
                }
                Ok(())
            }
            Phase::Gap(count) => {
                *count += 1;
                Ok(())
            }
            Phase::Reasoning(tail) => {
                let close = self.reasoning.as_ref().map_or(&[][..], |markers| markers.close.as_slice());
                model.whole_piece(token, tail);
                let Some(at) = tail.windows(close.len().max(1)).position(|window| window == close) else {
                    let kept = tail.len().min(close.len().saturating_sub(1));
                    tail.drain(..tail.len() - kept);
                    return Ok(());
                };
                let rest = tail.split_off(at + close.len());
                self.phase = Phase::Gap(0);
                let blank = rest.iter().position(|byte| !byte.is_ascii_whitespace());
                blank.map_or(Ok(()), |from| self.take_rest(&rest[from..]))
            }
            Phase::Shape => Err(WireFault::ShapeFailed("a token came beside the shape".into())),
        }
    }

    /// The token that closed the reasoning held the first bytes of the shape too.
    fn take_rest(&mut self, rest: &[u8]) -> Result<(), WireFault> {
        self.phase = Phase::Shape;
        let tokens = self.vocabulary.tokens_of(rest);
        self.matcher.consume_tokens(&tokens).map_err(lost)
    }
}

fn misfit() -> WireFault {
    WireFault::ShapeFailed("a token was chosen that doesn't fit the shape".into())
}

fn lost(error: impl std::fmt::Display) -> WireFault {
    WireFault::ShapeFailed(compile::first_line(&error))
}
