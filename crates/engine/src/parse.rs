//! What a model says, taken apart as it comes: thoughts, text and calls of tools. Pure.
//!
//! Nothing is lost: the raw text of all pieces, one after the other, is the text that came. What begins like a call
//! and is none stays text, with the reason beside it. The pieces may be cut elsewhere when the text comes in other
//! parts, but joined they are the same.

mod braces;
mod call;
mod channel;
mod grammar;
mod json;
mod python;
mod recipient;
mod style;

pub(crate) use grammar::{Grammar, Unkept};
pub(crate) use style::Style;

use base::Tool;
use call::{Call, Step};
use channel::Channel;
use recipient::Recipient;
use std::collections::HashMap;

/// A part of what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Thought(String),
    /// A call of this tool begins.
    Call(String),
    /// Of the last call's arguments, as the model wrote them.
    Arguments(String),
    /// The same, put together from what stands in the syntax beside it.
    Made(String),
    /// Marks, and what stands between them: no part of the answer.
    Syntax(String),
    /// Why a call could not be read. Says nothing of the text itself.
    Error(String),
}

/// What the arguments of the tools are by their schemas.
#[derive(Debug, Default)]
struct Tools {
    /// For each tool, the parameters that are texts and nothing else.
    texts: HashMap<String, Vec<String>>,
}

impl Tools {
    fn of(tools: &[&Tool]) -> Self {
        let texts = |tool: &&Tool| {
            let schema: serde_json::Value = serde_json::from_str(&tool.parameters).unwrap_or_default();
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            let is_text = |schema: &serde_json::Value| schema["type"] == "string";
            let texts = properties.into_iter().filter(|(_, schema)| is_text(schema)).map(|(name, _)| name);
            (tool.name.clone(), texts.collect())
        };
        Self { texts: tools.iter().map(texts).collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }

    fn is_text(&self, tool: &str, parameter: &str) -> bool {
        self.texts.get(tool).is_some_and(|texts| texts.iter().any(|text| text == parameter))
    }
}

#[derive(Debug)]
enum State {
    Text,
    /// `begun`: something of it was said already.
    Thought {
        begun: bool,
    },
    Call(Call),
    /// Behind a call.
    After,
    Channel(Channel),
    Recipient(Recipient),
}

/// Takes one answer apart.
#[derive(Debug)]
pub(crate) struct Parser {
    style: Style,
    tools: Tools,
    /// The answer is to be a call, whatever it begins with.
    forced: bool,
    /// Only the first call is one.
    single: bool,
    /// What was not taken apart yet.
    rest: String,
    state: State,
    /// Nothing was said since the beginning, a thought or a call, so that a thought or a bare call may begin.
    fresh: bool,
    /// White space at a fresh place belongs to the marks before it.
    strips: bool,
    calls: usize,
    pieces: Vec<Piece>,
}

impl Parser {
    /// `tools`: those that may be called; with none, what looks like a call is text.
    pub(crate) fn new(style: Style, tools: &[&Tool], in_thought: bool) -> Self {
        let state = match () {
            () if style.harmony => State::Channel(Channel::Header),
            () if style.recipients => State::Recipient(Recipient::Begin),
            () if in_thought && style.think.is_some() => State::Thought { begun: false },
            () => State::Text,
        };
        let tools = Tools::of(tools);
        let (rest, pieces) = Default::default();
        Self { style, tools, forced: false, single: false, rest, state, fresh: true, strips: false, calls: 0, pieces }
    }

    /// What looks like a further call is text.
    pub(crate) fn single(self) -> Self {
        Self { single: true, ..self }
    }

    /// Of an answer that is an envelope, or nothing but the arguments of the tool `named`.
    pub(crate) fn forced(style: Style, tools: &[&Tool], in_thought: bool, named: Option<&str>) -> Self {
        let style =
            Style { bare: true, harmony: false, recipients: false, body: style::Body::Envelope, openers: &[], ..style };
        let mut parser = Self { forced: true, ..Self::new(style, tools, in_thought) };
        if let Some(name) = named {
            parser.pieces.push(Piece::Call(name.to_owned()));
            parser.calls = 1;
            parser.state = State::Call(Call::arguments());
        }
        parser
    }

    /// Whether a thought is open.
    pub(crate) fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thought { .. })
    }

    /// Takes what was said next.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.rest.push_str(text);
        self.advance(false)
    }

    /// Nothing more is said.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let pieces = self.advance(true);
        debug_assert!(self.rest.is_empty(), "all of the text is taken at the end");
        pieces
    }

    fn advance(&mut self, last: bool) -> Vec<Piece> {
        while self.step(last) {}
        std::mem::take(&mut self.pieces)
    }

    /// Whether there may be more to do.
    fn step(&mut self, last: bool) -> bool {
        match &mut self.state {
            State::Text => self.text(last),
            State::Thought { begun } => {
                let begun = *begun;
                self.thought(begun, last)
            }
            State::After => self.after(last),
            State::Channel(_) => self.channel(last),
            State::Recipient(_) => self.recipient(last),
            State::Call(call) => {
                let Step { taken, pieces, then } = call.step(&self.rest, last, &self.tools);
                self.rest.drain(..taken);
                self.calls += pieces.iter().filter(|piece| matches!(piece, Piece::Call(_))).count();
                self.pieces.extend(pieces);
                match then {
                    call::Then::Wait => false,
                    call::Then::GoOn => true,
                    call::Then::Done => {
                        let behind = match () {
                            () if self.style.harmony => State::Channel(Channel::Behind),
                            () if self.style.recipients => State::Recipient(Recipient::Behind),
                            () => State::After,
                        };
                        (self.state, self.fresh, self.strips) = (behind, true, true);
                        true
                    }
                    call::Then::Bad { why, mark } => {
                        self.give_up(&why, mark);
                        true
                    }
                }
            }
        }
    }

    /// What was taken for a call is text. Its mark, if it still stands there, is passed over.
    fn give_up(&mut self, why: &str, mark: usize) {
        if mark > 0 || self.forced || self.calls > 0 {
            self.pieces.push(Piece::Error(why.to_owned()));
        }
        self.take_text(mark);
        self.fresh = false;
        self.state = match () {
            () if self.style.harmony => State::Channel(Channel::Body { thought: false }),
            () if self.style.recipients => State::Recipient(Recipient::Body),
            () => State::Text,
        };
    }

    fn has_tools(&self) -> bool {
        let spent = self.single && self.calls > 0;
        !spent && !self.tools.texts.is_empty()
    }

    /// Whether all that may come is text.
    fn is_plain(&self) -> bool {
        self.style.think.is_none() && self.style.frames.is_empty() && !self.has_tools() && !self.forced
    }

    fn text(&mut self, last: bool) -> bool {
        if self.is_plain() {
            self.take_text(self.rest.len());
            return false;
        }
        if self.fresh {
            match self.at_fresh(last) {
                Some(goes_on) => return goes_on,
                None => self.strips = false,
            }
        }
        let openers = if self.has_tools() { self.style.openers } else { &[] };
        let marks: Vec<&str> = openers.iter().chain(self.style.frames).copied().collect();
        match first_of(&self.rest, &marks) {
            Some((at, mark)) => {
                if openers.contains(&mark) {
                    // The white space before it is the mark's if it is a call, and text if it is none.
                    let said = self.rest[..at].trim_end().len();
                    self.take_text(said);
                    self.state = State::Call(Call::new(self.style.body, at - said + mark.len()));
                } else {
                    self.take_said(at, Piece::Text);
                    self.take_syntax(mark.len());
                }
                true
            }
            None if last => {
                let said = if self.calls > 0 { self.rest.trim_end().len() } else { self.rest.len() };
                self.take_text(said);
                self.take_syntax(self.rest.len());
                false
            }
            None => {
                let kept = held(&self.rest, &marks);
                self.take_text(kept);
                false
            }
        }
    }

    /// At a place where a thought or a bare call may begin. `None`: what follows is neither.
    fn at_fresh(&mut self, last: bool) -> Option<bool> {
        let body = self.rest.trim_start();
        let blank = self.rest.len() - body.len();
        let waits = |mark: &str| !last && mark.starts_with(body);
        if let Some((open, _)) = self.style.think {
            if body.starts_with(open) {
                self.take_syntax(blank + open.len());
                self.state = State::Thought { begun: false };
                return Some(true);
            }
            if waits(open) {
                return Some(false);
            }
        }
        if body.is_empty() && !last {
            return Some(false);
        }
        if (self.style.bare && self.has_tools() && body.starts_with(['{', '['])) || (self.forced && self.calls == 0) {
            self.take_syntax(blank);
            self.state = State::Call(Call::new(style::Body::Envelope, 0));
            self.fresh = false;
            return Some(true);
        }
        if self.strips || self.style.frames.iter().any(|frame| body.starts_with(frame)) {
            self.take_syntax(blank);
        }
        // A frame may follow a frame, and a thought a frame.
        if let Some(frame) = self.style.frames.iter().find(|frame| self.rest.starts_with(**frame)) {
            self.take_syntax(frame.len());
            self.strips = true;
            return Some(true);
        }
        if !last && self.style.frames.iter().any(|frame| frame.starts_with(self.rest.as_str())) {
            return Some(false);
        }
        self.fresh = false;
        None
    }

    fn thought(&mut self, begun: bool, last: bool) -> bool {
        // A style without marks has no thoughts.
        let (open, close) = self.style.think.unwrap_or_default();
        if !begun {
            let body = self.rest.trim_start();
            if body.is_empty() && !last {
                return false;
            }
            // Some models repeat the mark that the prompt has opened.
            if !last && !open.is_empty() && open.starts_with(body) && body != open {
                return false;
            }
            let blank = self.rest.len() - body.len();
            let again = if body.starts_with(open) { open.len() } else { 0 };
            self.take_syntax(blank + again);
            if again > 0 {
                return true;
            }
            self.state = State::Thought { begun: true };
        }
        match first_of(&self.rest, &[close]) {
            Some((at, mark)) => {
                self.take_said(at, Piece::Thought);
                self.take_syntax(mark.len());
                (self.state, self.fresh, self.strips) = (State::Text, true, true);
                true
            }
            None => {
                let kept = if last { self.rest.len() } else { held(&self.rest, &[close]) };
                self.take(kept, Piece::Thought);
                false
            }
        }
    }

    /// Closing marks and white space, until another call begins or something else is said.
    fn after(&mut self, last: bool) -> bool {
        let body = self.rest.trim_start();
        let blank = self.rest.len() - body.len();
        if body.is_empty() {
            if last {
                self.take_syntax(blank);
            }
            return false;
        }
        if let Some(closer) = self.style.closers.iter().find(|closer| body.starts_with(**closer)) {
            self.take_syntax(blank + closer.len());
            return true;
        }
        let mut marks = self.style.closers.iter().chain(self.style.openers);
        if !last && marks.any(|mark| mark.starts_with(body)) {
            return false;
        }
        self.state = State::Text;
        true
    }

    fn take_text(&mut self, length: usize) {
        self.take(length, Piece::Text);
    }

    fn take_syntax(&mut self, length: usize) {
        self.take(length, Piece::Syntax);
    }

    /// What stands before a mark: white space at its end belongs to the mark.
    fn take_said(&mut self, length: usize, piece: fn(String) -> Piece) {
        let said = self.rest[..length].trim_end().len();
        self.take(said, piece);
        self.take_syntax(length - said);
    }

    fn take(&mut self, length: usize, piece: fn(String) -> Piece) {
        if length > 0 {
            let text = self.rest.drain(..length).collect();
            self.pieces.push(piece(text));
        }
    }
}

/// The first of these marks in a text; at one place the longest.
fn first_of<'m>(text: &str, marks: &[&'m str]) -> Option<(usize, &'m str)> {
    let found = marks.iter().filter_map(|mark| text.find(mark).map(|at| (at, *mark)));
    found.min_by_key(|(at, mark)| (*at, std::cmp::Reverse(mark.len())))
}

/// How much of a text can be told already: not what one of the marks may begin with, nor the white space before it.
fn held(text: &str, marks: &[&str]) -> usize {
    let begins = |at: usize| marks.iter().any(|mark| mark.len() > text.len() - at && mark.starts_with(&text[at..]));
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let from = text.len().saturating_sub(longest);
    let places = text.char_indices().map(|(at, _)| at).filter(|at| *at >= from);
    let end = places.filter(|at| begins(*at)).min().unwrap_or(text.len());
    text[..end].trim_end().len()
}

#[cfg(test)]
mod tests;
