//! Text that arrives piece by piece, broken at words where the terminal ends.

use unicode_width::UnicodeWidthStr;

/// Breaks a stream of pieces into lines. Pure: takes a piece, returns what to print now.
#[derive(Debug)]
pub(crate) struct Flow {
    /// `None`: not a terminal, so nothing is changed.
    width: Option<usize>,
    column: usize,
    /// A word that may go on in the next piece.
    word: String,
    /// Blanks before it, printed only when it stays on this line.
    blanks: String,
}

impl Flow {
    pub(crate) fn new(width: Option<usize>) -> Self {
        Self { width, column: 0, word: String::new(), blanks: String::new() }
    }

    pub(crate) fn push(&mut self, piece: &str) -> String {
        let Some(width) = self.width else { return piece.to_string() };
        let mut out = String::with_capacity(piece.len() + 8);
        for c in piece.chars() {
            match c {
                '\n' => {
                    self.set(&mut out, width);
                    self.blanks.clear();
                    self.column = 0;
                    out.push('\n');
                }
                ' ' | '\t' => {
                    self.set(&mut out, width);
                    self.blanks.push(c);
                }
                c => self.word.push(c),
            }
        }
        // A word is shown as it grows while it surely fits: waiting for its end would stutter.
        if self.column + self.blanks.width() + self.word.width() <= width.saturating_sub(12) {
            self.set(&mut out, width);
        }
        out
    }

    /// What is still held back.
    pub(crate) fn end(&mut self) -> String {
        let mut out = String::new();
        if let Some(width) = self.width {
            self.set(&mut out, width);
        }
        out
    }

    /// Whether a line has been begun.
    pub(crate) fn in_line(&self) -> bool {
        self.width.is_none() || self.column > 0
    }

    fn set(&mut self, out: &mut String, width: usize) {
        if self.word.is_empty() {
            return;
        }
        let wide = self.blanks.width() + self.word.width();
        if self.column > 0 && !self.blanks.is_empty() && self.column + wide > width {
            out.push('\n');
            self.column = 0;
        } else {
            out.push_str(&self.blanks);
            self.column += self.blanks.width();
        }
        self.blanks.clear();
        out.push_str(&self.word);
        self.column += self.word.width();
        self.word.clear();
    }
}

/// Whole text in lines of at most `width`, each after the first set in by `indent`.
pub(crate) fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut flow = Flow::new(Some(width.saturating_sub(indent.width()).max(20)));
    let mut lines = flow.push(text);
    lines.push_str(&flow.end());
    lines.replace('\n', &format!("\n{indent}"))
}

/// Parts joined by ` · `, with line breaks between parts only.
pub(crate) fn joined(parts: &[String], width: usize) -> String {
    let mut text = String::new();
    let mut column = 0;
    for part in parts {
        if column > 0 && column + 3 + part.width() > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push_str(" · ");
            column += 3;
        }
        text.push_str(part);
        column += part.width();
    }
    text
}

/// [`joined`], every line set in by `indent`.
pub(crate) fn block(parts: &[String], width: usize, indent: &str) -> String {
    format!("{indent}{}", joined(parts, width.saturating_sub(indent.width())).replace('\n', &format!("\n{indent}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flowed(width: usize, pieces: &[&str]) -> String {
        let mut flow = Flow::new(Some(width));
        let mut out: String = pieces.iter().map(|piece| flow.push(piece)).collect();
        out.push_str(&flow.end());
        out
    }

    #[test]
    fn lines_end_between_words() {
        let text = "one two three four five six seven";
        assert_eq!(flowed(14, &[text]), "one two three\nfour five six\nseven");
        // Where the pieces end makes no difference.
        for cut in 1..text.len() {
            assert_eq!(flowed(14, &[&text[..cut], &text[cut..]]), flowed(14, &[text]), "cut at {cut}");
        }
        assert_eq!(flowed(20, &["a\n\n  b"]), "a\n\n  b");
        assert_eq!(flowed(8, &["漢字漢字 漢字"]), "漢字漢字\n漢字");
    }

    #[test]
    fn a_word_that_is_too_long_is_left_whole() {
        assert_eq!(flowed(5, &["a verylongword b"]), "a\nverylongword\nb");
    }

    #[test]
    fn no_terminal_means_no_change() {
        let mut flow = Flow::new(None);
        assert_eq!(flow.push("a  b\n"), "a  b\n");
        assert_eq!(flow.end(), "");
    }

    #[test]
    fn parts_stay_whole() {
        let parts = ["one two".to_string(), "three".to_string(), "four five".to_string()];
        assert_eq!(joined(&parts, usize::MAX), "one two · three · four five");
        assert_eq!(joined(&parts, 15), "one two · three\nfour five");
        assert_eq!(joined(&parts, 3), "one two\nthree\nfour five");
        assert_eq!(block(&parts, 17, "  "), "  one two · three\n  four five");
    }

    #[test]
    fn a_block_is_set_in() {
        assert_eq!(wrapped("one two three four five six seven", 24, "    "), "one two three four\n    five six seven");
    }
}
