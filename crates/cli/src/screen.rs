//! The two outputs: whether each is a terminal, how wide, and whether it takes colour.

use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Lines longer than this are hard to read, however wide the window is.
const WIDTH_MAX: usize = 100;
const WIDTH_DEFAULT: usize = 80;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) out: Paint,
    pub(crate) err: Paint,
    pub(crate) out_terminal: bool,
    pub(crate) err_terminal: bool,
    pub(crate) in_terminal: bool,
    pub(crate) width: usize,
}

impl Screen {
    pub(crate) fn new(no_color: bool) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: Paint { on: out && !no_color },
            err: Paint { on: err && !no_color },
            out_terminal: out,
            err_terminal: err,
            in_terminal: io::stdin().is_terminal(),
            width: width(),
        }
    }

    /// No terminal anywhere, for tests of what is printed.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        let off = Paint { on: false };
        Self { out: off, err: off, out_terminal: false, err_terminal: false, in_terminal: false, width: WIDTH_DEFAULT }
    }

    /// A person can be asked, and will see the question.
    pub(crate) fn can_ask(&self) -> bool {
        self.in_terminal && self.err_terminal
    }

    /// Where lines of data end: nowhere, unless a person sees them.
    pub(crate) fn out_width(&self) -> usize {
        if self.out_terminal { self.width } else { usize::MAX }
    }

    /// Where lines of talk end.
    pub(crate) fn err_width(&self) -> usize {
        if self.err_terminal { self.width } else { usize::MAX }
    }

    /// Data, with a line break after it.
    pub(crate) fn data(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Data as it comes, piece by piece.
    pub(crate) fn piece(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Talk, with a line break after it.
    pub(crate) fn talk(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }

    /// One JSON object on a line of its own.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }

    /// Text that isn't ours, as this output may have it: a terminal gets no control characters,
    /// a program or file gets the text as it is.
    pub(crate) fn foreign<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.out_terminal { clean(text) } else { Cow::Borrowed(text) }
    }

    /// Text on stdout that opens `uri` when it is clicked, on terminals that can.
    pub(crate) fn linked(&self, text: &str, uri: &str) -> String {
        if self.out.on { format!("\u{1b}]8;;{uri}\u{1b}\\{text}\u{1b}]8;;\u{1b}\\") } else { text.to_string() }
    }
}

fn width() -> usize {
    let columns = |size: rustix::termios::Winsize| usize::from(size.ws_col);
    let found = rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()))
        .map_or(WIDTH_DEFAULT, columns);
    // A terminal that doesn't know its size says 0.
    if found == 0 { WIDTH_DEFAULT } else { found.clamp(20, WIDTH_MAX) }
}

/// Replaces what could steer a terminal (escape sequences, overwriting, text direction): text of
/// models, documents and file names is only ever shown.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(steers) {
        Cow::Owned(text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    /// What matches a search.
    pub(crate) fn mark(self, text: &str) -> String {
        self.with("1;33", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(
            clean("a\u{1b}]52;c;x\u{7}b\rc\u{9b}2J\u{202e}d"),
            "a\u{fffd}]52;c;x\u{fffd}b\u{fffd}c\u{fffd}2J\u{fffd}d"
        );
        assert!(matches!(clean("plain\n\ttext é 漢"), Cow::Borrowed(_)));
    }

    #[test]
    fn without_colour_text_is_as_it_was() {
        let screen = Screen::plain();
        assert_eq!(screen.out.red("x"), "x");
        assert_eq!(screen.linked("x", "file:///x"), "x");
        assert_eq!(Paint { on: true }.bold("x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
