//! An answer that is free but for the calls in it. While it is free it costs a look at each token's text and no mask;
//! from a call's mark to its end it is kept to the call's grammar.
//!
//! Nothing here ends an answer: where a call can't be kept to its grammar any more, it goes on free, and that is said.

use super::asked::{Alone, Asked};
use super::forced::{self, Run};
use super::{Allowed, Chosen, Vocabulary, Which, compile, lost};
use crate::ffi::{Model, Token};
use batch::lookout::{Lookout, Marks};
use llguidance::Matcher;
use std::collections::VecDeque;
use std::sync::Arc;
use wire::{WireCalls, WireFault};

/// That arguments aren't kept to a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loose {
    /// `None`: those of any tool.
    pub(crate) tool: Option<String>,
    pub(crate) reason: String,
}

/// One answer's calls.
pub(crate) struct Calls {
    lookout: Lookout,
    /// Before a call's mark; `None` where no grammar can be had.
    fresh: Option<Matcher>,
    /// In a call.
    running: Option<Matcher>,
    /// Of the running call.
    run: Run,
    alone: Alone,
    /// Whether text that a call leaves no choice about is said in the tokenizer's own tokens.
    forces: bool,
    /// The tokens of each mark.
    marks: Vec<Vec<u32>>,
    single: bool,
    /// The last token was part of a call.
    within: bool,
    /// To be told.
    loose: Vec<Loose>,
    vocabulary: Arc<Vocabulary>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("running", &self.running.is_some()).finish_non_exhaustive()
    }
}

impl Calls {
    /// `quiet`: the answer begins within a thought.
    pub(super) fn new(
        wanted: &WireCalls,
        fresh: Option<Matcher>,
        loose: Vec<Loose>,
        quiet: bool,
        vocabulary: Arc<Vocabulary>,
    ) -> Self {
        let (quiet_open, quiet_close, quiet_anywhere) = match &wanted.quiet {
            Some(quiet) => (quiet.open.clone(), quiet.close.clone(), quiet.anywhere),
            None => (Vec::new(), Vec::new(), false),
        };
        let openings: Vec<String> = wanted.openings.iter().map(|opening| opening.mark.clone()).collect();
        let marks = openings.iter().map(|mark| vocabulary.tokens_of_mark(mark)).collect();
        let passed = wanted.passed.clone();
        let quiet = quiet && !quiet_close.is_empty();
        let lookout = Lookout::new(Marks { openings, quiet_open, quiet_close, quiet_anywhere, passed }, quiet);
        let lookout = lookout.behind(&wanted.begun);
        let forces = wanted.schemas.iter().all(|schema| schema.schema.len() <= forced::BYTES_MAX);
        let (run, alone) = (Run::new(forces), Alone::default());
        let single = wanted.single;
        Self { lookout, fresh, running: None, run, alone, forces, marks, single, within: false, loose, vocabulary }
    }

    /// Tokens that come next because a call leaves no other text.
    pub(super) fn forced(&mut self) -> Option<&VecDeque<Token>> {
        let running = self.running.as_mut()?;
        Some(self.run.due(running))
    }

    pub(super) fn is_open(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn spoke(&self) -> bool {
        self.within
    }

    pub(super) fn take_loose(&mut self) -> Vec<Loose> {
        std::mem::take(&mut self.loose)
    }

    pub(super) fn choose(
        &mut self,
        model: &Model,
        mut pick: impl FnMut(&Allowed<'_>) -> Option<Token>,
    ) -> Result<Option<Chosen>, WireFault> {
        let Some(matcher) = &mut self.running else { return Ok(self.choose_freely(model, pick)) };
        if let Some(token) = forced::pick(&mut self.run, matcher, &mut pick) {
            return Ok(Some(self.go_on(model, token)));
        }
        let asked = Asked::new(matcher, model.end_tokens(), &self.alone);
        let token = pick(&Allowed(Which::Asked(&asked)));
        let failure = asked.failure().map(|failure| match failure {
            Ok(()) => "no token fits any more".to_owned(),
            Err(error) => compile::first_line(&error),
        });
        let Some(token) = token else {
            let Some(reason) = failure else { return Ok(None) };
            self.give_up(&reason);
            return Ok(self.choose_freely(model, pick));
        };
        if !asked.has(token) {
            return Err(lost("a token was chosen that doesn't fit the call"));
        }
        Ok(Some(self.go_on(model, token)))
    }

    /// A token of the call.
    fn go_on(&mut self, model: &Model, token: Token) -> Chosen {
        self.within = true;
        self.run.said(token);
        if model.ends(token) {
            self.running = None;
            return Chosen::End;
        }
        let consumed = match (&mut self.running, u32::try_from(token)) {
            (Some(matcher), Ok(id)) => matcher.consume_token(id).map_err(|error| compile::first_line(&error)),
            (_, Err(_)) | (None, _) => Err("a token has no number".into()),
        };
        if let Err(reason) = consumed {
            self.give_up(&reason);
        }
        if self.is_over() { Chosen::Last(token) } else { Chosen::Token(token) }
    }

    fn choose_freely(&mut self, model: &Model, mut pick: impl FnMut(&Allowed<'_>) -> Option<Token>) -> Option<Chosen> {
        let token = pick(&Allowed(Which::All))?;
        self.within = false;
        if model.ends(token) {
            return Some(Chosen::End);
        }
        let mut piece = Vec::new();
        model.piece(token, &mut piece);
        if let Some(found) = self.lookout.push(&piece) {
            self.begin(found.opening, &found.rest);
        }
        Some(if self.is_over() { Chosen::Last(token) } else { Chosen::Token(token) })
    }

    /// A mark is there, and the first bytes behind it.
    fn begin(&mut self, opening: usize, rest: &[u8]) {
        let (Some(fresh), Some(mark)) = (&self.fresh, self.marks.get(opening)) else {
            self.lookout.pass();
            return;
        };
        let mut matcher = fresh.deep_clone();
        self.run = Run::new(self.forces);
        self.alone.set(0);
        let rest = self.vocabulary.tokens_of(rest);
        let begun = matcher.consume_tokens(mark).and_then(|()| matcher.try_consume_tokens(&rest));
        match begun {
            Ok(taken) if taken == rest.len() => self.running = Some(matcher),
            // It goes on as no call does.
            Ok(_) => self.lookout.pass(),
            Err(error) => {
                let reason = compile::first_line(&error);
                self.running = Some(matcher);
                self.give_up(&reason);
            }
        }
    }

    /// Whether the answer is over with a call that has just ended. No call is the beginning of a longer one: where it
    /// may end it has ended.
    fn is_over(&mut self) -> bool {
        let Some(matcher) = &mut self.running else { return false };
        match matcher.is_accepting() {
            Ok(true) => {
                self.running = None;
                self.lookout.resume();
                self.single
            }
            Ok(false) if !matcher.is_stopped() => false,
            Ok(false) => {
                let reason = format!("the matcher stopped: {}", matcher.stop_reason());
                self.give_up(&reason);
                false
            }
            Err(error) => {
                self.give_up(&compile::first_line(&error));
                false
            }
        }
    }

    /// The call goes on without its grammar.
    fn give_up(&mut self, reason: &str) {
        self.running = None;
        self.lookout.pass();
        self.loose.push(Loose { tool: None, reason: reason.to_owned() });
    }
}
