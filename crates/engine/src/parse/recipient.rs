//! Parts of an answer for one recipient each, as Functionary writes them: a line `>>>name` or, where the prompt has the
//! mark already, `name`; `all` is the reader, everybody else is a tool.

use super::call::Call;
use super::{Parser, Piece, State};

/// Where in the answer it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipient {
    /// Where the first line may do without its mark.
    Begin,
    Body,
    /// Behind the arguments of a call.
    Behind,
}

const MARK: &str = ">>>";
const READER: &str = "all";

/// What a line says.
enum Line {
    /// It names a recipient, in so many bytes with its end.
    For(String, usize),
    /// It may yet.
    Short,
    Other,
}

impl Parser {
    pub(super) fn recipient(&mut self, last: bool) -> bool {
        let State::Recipient(place) = self.state else { return false };
        match place {
            Recipient::Begin => match self.line(self.rest.strip_prefix(MARK).unwrap_or(&self.rest), last) {
                // Half a mark is none yet.
                _ if !last && self.rest.len() < MARK.len() && MARK.starts_with(&self.rest) => false,
                Line::Short => false,
                Line::For(name, length) => {
                    let mark = if self.rest.starts_with(MARK) { MARK.len() } else { 0 };
                    self.address(&name, mark + length);
                    true
                }
                Line::Other => {
                    self.state = State::Recipient(Recipient::Body);
                    true
                }
            },
            Recipient::Behind => {
                let start = self.rest.trim_start();
                let blank = self.rest.len() - start.len();
                if start.is_empty() || (!last && start.len() < MARK.len() && MARK.starts_with(start)) {
                    if last {
                        self.take_syntax(blank);
                    }
                    return false;
                }
                let behind = start.strip_prefix(MARK);
                match behind.map_or(Line::Other, |line| self.line(line, last)) {
                    Line::Short => false,
                    Line::For(name, length) => {
                        self.address(&name, blank + MARK.len() + length);
                        true
                    }
                    Line::Other => {
                        self.take_syntax(blank);
                        self.state = State::Recipient(Recipient::Body);
                        true
                    }
                }
            }
            Recipient::Body => self.for_reader(last),
        }
    }

    /// Text, up to a mark before the name of somebody who is known.
    fn for_reader(&mut self, last: bool) -> bool {
        let mut from = 0;
        while let Some(at) = self.rest[from..].find(MARK).map(|at| from + at) {
            match self.line(&self.rest[at + MARK.len()..], last) {
                Line::Short => {
                    let said = self.rest[..at].trim_end().len();
                    self.take_text(said);
                    return false;
                }
                Line::For(name, length) => {
                    self.take_said(at, Piece::Text);
                    self.address(&name, MARK.len() + length);
                    return true;
                }
                Line::Other => from = at + 1,
            }
        }
        let kept = if last { self.rest.len() } else { super::held(&self.rest, &[MARK]) };
        self.take_text(kept);
        false
    }

    /// Whom a line is for, if its text is that of a recipient and nothing else.
    fn line(&self, text: &str, last: bool) -> Line {
        let known = |name: &str| name == READER || (self.has_tools() && self.tools.has(name));
        match text.split_once('\n') {
            Some((name, _)) if known(name.trim_end()) => Line::For(name.trim_end().to_owned(), name.len() + 1),
            Some(_) => Line::Other,
            None if last => {
                if text.trim_end() == READER {
                    Line::For(READER.to_owned(), text.len())
                } else {
                    Line::Other
                }
            }
            None => {
                let names = self.tools.texts.keys().map(String::as_str).filter(|_| self.has_tools());
                let begun = text.trim_end();
                let is_blank_behind = |name: &str| name == begun;
                let mut names = names.chain([READER]);
                if names.any(|name| name.starts_with(text) || is_blank_behind(name)) {
                    Line::Short
                } else {
                    Line::Other
                }
            }
        }
    }

    /// A part for somebody begins, behind so many bytes.
    fn address(&mut self, name: &str, length: usize) {
        self.take_syntax(length);
        self.state = if name == READER {
            State::Recipient(Recipient::Body)
        } else {
            self.pieces.push(Piece::Call(name.to_owned()));
            self.calls += 1;
            State::Call(Call::arguments())
        };
    }
}
