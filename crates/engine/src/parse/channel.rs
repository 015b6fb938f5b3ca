//! Messages in channels, as gpt-oss writes them: thoughts in `analysis`, calls to a recipient, the rest is text.

use super::call::Call;
use super::{Parser, Piece, State, first_of, held};

/// Where in a message it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Header,
    Body {
        thought: bool,
    },
    /// Behind the arguments of a call.
    Behind,
}

const MESSAGE: &str = "<|message|>";
/// What ends a message, and what begins the next one without an end.
const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];
const STARTS: [&str; 2] = ["<|start|>", "<|channel|>"];
/// What a header may begin with.
const HEADS: [&str; 4] = ["<|start|>", "<|channel|>", "to=", "<|message|>"];
/// LIMIT: roles, recipients and channels are short words.
const HEADER_BYTES_MAX: usize = 512;

impl Parser {
    pub(super) fn channel(&mut self, last: bool) -> bool {
        let State::Channel(channel) = self.state else { return false };
        match channel {
            Channel::Header => self.header(last),
            Channel::Body { thought } => self.body(thought, last),
            Channel::Behind => {
                let start = self.rest.trim_start();
                let blank = self.rest.len() - start.len();
                if start.is_empty() {
                    if last {
                        self.take_syntax(blank);
                    }
                    return false;
                }
                if let Some(end) = ENDS.iter().find(|end| start.starts_with(**end)) {
                    self.take_syntax(blank + end.len());
                } else if !last && ENDS.iter().any(|end| end.starts_with(start)) {
                    return false;
                }
                self.state = State::Channel(Channel::Header);
                true
            }
        }
    }

    fn header(&mut self, last: bool) -> bool {
        let start = self.rest.trim_start();
        if start.is_empty() {
            if last {
                self.take_syntax(self.rest.len());
            }
            return false;
        }
        let found = self.rest.find(MESSAGE);
        let begins = HEADS.iter().any(|head| start.starts_with(head) || (!last && head.starts_with(start)));
        let is_long = found.unwrap_or(self.rest.len()) > HEADER_BYTES_MAX;
        let end = match found {
            Some(end) if begins && !is_long => end,
            None if begins && !is_long && !last => return false,
            Some(_) | None => {
                // It only looked like one: its mark is text, and so is what follows.
                let blank = self.rest.len() - start.len();
                let mark = STARTS.iter().find(|mark| start.starts_with(**mark)).map_or(0, |mark| blank + mark.len());
                self.take_text(mark);
                self.state = State::Channel(Channel::Body { thought: false });
                return true;
            }
        };
        let header = &self.rest[..end];
        let word = |mark: &str| {
            let behind = header.split_once(mark)?.1.trim_start();
            behind.split(|c: char| c.is_whitespace() || c == '<').next().map(str::to_owned)
        };
        let called = word("to=").map(|name| name.strip_prefix("functions.").unwrap_or(&name).to_owned());
        let thought = word("<|channel|>").as_deref() == Some("analysis");
        self.take_syntax(end + MESSAGE.len());
        self.state = match called {
            Some(name) if self.tools.has(&name) => {
                self.pieces.push(Piece::Call(name));
                self.calls += 1;
                State::Call(Call::arguments())
            }
            Some(name) if self.has_tools() => {
                let why = format!("the model called `{name}`, which isn't one of the tools");
                self.pieces.push(Piece::Error(why));
                State::Channel(Channel::Body { thought: false })
            }
            Some(_) | None => State::Channel(Channel::Body { thought }),
        };
        true
    }

    fn body(&mut self, thought: bool, last: bool) -> bool {
        let piece = if thought { Piece::Thought } else { Piece::Text };
        let marks = [&ENDS[..], &STARTS[..]].concat();
        match first_of(&self.rest, &marks) {
            Some((at, mark)) => {
                self.take(at, piece);
                if ENDS.contains(&mark) {
                    self.take_syntax(mark.len());
                }
                // A mark that begins a message without one is a header's beginning, and is never only text again.
                self.state = State::Channel(Channel::Header);
                true
            }
            None => {
                let told = if last { self.rest.len() } else { held(&self.rest, &marks) };
                self.take(told, piece);
                false
            }
        }
    }
}
