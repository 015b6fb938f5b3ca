//! From letters on a page to lines and paragraphs in reading order. Pure.
//!
//! Lines follow the order in which the file draws them, which is nearly always the order of reading. Only where a
//! page has two columns of running text side by side they are read one after the other. A table also has
//! columns, but short ones: its rows stay together.

/// One word with its rectangle, in points from the upper left corner of the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// A letter as it is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) text: &'a str,
    /// Where it begins, on its baseline.
    pub(super) x: f64,
    pub(super) y: f64,
    /// The way that the text runs: one of these is 1 or -1.
    pub(super) dx: f64,
    pub(super) dy: f64,
    pub(super) width: f64,
    pub(super) size: f64,
    /// It is the first of a stretch that the file draws at once.
    pub(super) first: bool,
}

/// LIMIT: words of one page. A page that draws itself over and over ends here.
pub(super) const WORDS_MAX: usize = 1 << 19;

/// Words that stand side by side, in one piece of a line.
#[derive(Debug, Clone)]
struct Line {
    words: Vec<Word>,
    left: f64,
    right: f64,
    /// Of the first letter: where its baseline is, and how large it is.
    base: f64,
    size: f64,
    letters: usize,
    upright: bool,
}

/// Collects the letters of one page.
#[derive(Debug, Default)]
pub(super) struct Layout {
    lines: Vec<Line>,
    words: usize,
    /// Where the last letter ended, along its line, and its baseline.
    end: f64,
    base: f64,
    /// The next letter begins a word.
    apart: bool,
}

/// A gap of this many letter sizes ends a word, and one of that many a piece of a line.
const WORD_GAP: f64 = 0.1;
const PIECE_GAP: f64 = 1.5;
/// A step down by this many letter sizes begins a line, and one of that many a paragraph.
const LINE_STEP: f64 = 0.5;
const PARAGRAPH_STEP: f64 = 1.5;

impl Layout {
    /// Whether there was room for the letter.
    pub(super) fn push(&mut self, letter: &Letter<'_>) -> bool {
        let Letter { text, x, y, dx, dy, width, size, first } = *letter;
        if ![x, y, width, size].iter().all(|value| value.is_finite()) || text.is_empty() {
            return true;
        }
        let upright = dy == 0.0;
        let (along, base) = if upright { (x * dx, y) } else { (y * dy, x) };
        let same_line = self.lines.last().is_some_and(|line| line.upright == upright)
            && (base - self.base).abs() <= size * LINE_STEP
            && !(first && along < self.end - size * 0.3);
        let gap = along - self.end;
        let piece = !same_line || gap > size * PIECE_GAP;
        if text.trim().is_empty() {
            self.apart = true;
            if same_line {
                self.end = along + width;
            }
            return true;
        }
        if piece {
            self.lines.push(Line {
                words: Vec::new(),
                left: f64::MAX,
                right: f64::MIN,
                base,
                size,
                letters: 0,
                upright,
            });
        }
        let apart = piece || self.apart || (first && gap > size * WORD_GAP);
        let Some(line) = self.lines.last_mut() else { return true };
        let (from, to) = ((x, y), (x + dx * width, y + dy * width));
        let (above, below) = (size * 0.8, size * 0.2);
        let (left, right, top, bottom) = if upright {
            (from.0.min(to.0), from.0.max(to.0), y - above, y + below)
        } else {
            (x - above, x + below, from.1.min(to.1), from.1.max(to.1))
        };
        if apart || line.words.is_empty() {
            self.words += 1;
            line.words.push(Word { text: String::new(), left, top, right, bottom });
        }
        if let Some(word) = line.words.last_mut() {
            word.text.push_str(text);
            (word.left, word.right) = (word.left.min(left), word.right.max(right));
            (word.top, word.bottom) = (word.top.min(top), word.bottom.max(bottom));
        }
        line.letters += text.chars().count();
        (line.left, line.right) = (line.left.min(left), line.right.max(right));
        (self.end, self.base, self.apart) = (along + width, base, false);
        self.words <= WORDS_MAX
    }

    /// Paragraphs in reading order, each as its lines of words.
    pub(super) fn paragraphs(self) -> Vec<Vec<Vec<Word>>> {
        let lines = ordered(self.lines);
        let mut found: Vec<Vec<Vec<Word>>> = Vec::new();
        let mut last: Option<(f64, bool)> = None;
        for line in lines {
            let Line { words, base, size, upright, .. } = line;
            let near = last.is_some_and(|(above, way)| {
                way == upright && (base - above).abs() <= size * PARAGRAPH_STEP && (base >= above - size * LINE_STEP)
            });
            let beside = last.is_some_and(|(above, _)| (base - above).abs() <= size * LINE_STEP);
            // A column that ends in the middle of a sentence goes on at the top of the next one.
            let rises = last.is_some_and(|(above, way)| way == upright && base < above - size * LINE_STEP);
            let flows = rises && found.last().is_some_and(|before| goes_on(before, &words));
            last = Some((base, upright));
            match found.last_mut() {
                Some(paragraph) if near || flows => match paragraph.last_mut() {
                    Some(row) if beside => row.extend(words),
                    _ => paragraph.push(words),
                },
                _ => found.push(vec![words]),
            }
        }
        found
    }
}

/// Whether a sentence seems to go on from the end of a paragraph into these words.
fn goes_on(before: &[Vec<Word>], words: &[Word]) -> bool {
    let ended = before.last().and_then(|line| line.last()).is_none_or(|word| word.text.ends_with(['.', '!', '?', ':']));
    let begins = words.first().and_then(|word| word.text.chars().next());
    !ended && begins.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit())
}

/// Running text has at least so many letters in half of a column's lines, and so many lines.
const RUNNING_LETTERS: usize = 18;
const RUNNING_LINES: usize = 5;

/// The lines with two columns of running text read one after the other; otherwise as they are.
fn ordered(lines: Vec<Line>) -> Vec<Line> {
    let Some(gutter) = gutter(&lines) else { return lines };
    // What goes across both (a title, a picture's caption) parts them into sections.
    let (mut done, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.right <= gutter + 1.0 {
            left.push(line);
        } else if line.left >= gutter - 1.0 {
            right.push(line);
        } else {
            done.append(&mut left);
            done.append(&mut right);
            done.push(line);
        }
    }
    done.append(&mut left);
    done.append(&mut right);
    done
}

/// Where the white stripe between two columns of running text is.
fn gutter(lines: &[Line]) -> Option<f64> {
    const LINES_MAX: usize = 4096;
    if lines.len() < RUNNING_LINES * 2 || lines.len() > LINES_MAX || lines.iter().any(|line| !line.upright) {
        return None;
    }
    let (left, right) =
        lines.iter().fold((f64::MAX, f64::MIN), |(left, right), line| (left.min(line.left), right.max(line.right)));
    let (from, to) = (left + (right - left) * 0.3, left + (right - left) * 0.7);
    // The stripe begins where a line of the left column ends.
    let mut best: Option<(usize, f64)> = None;
    for at in lines.iter().map(|line| line.right).filter(|at| (from..to).contains(at)) {
        let stripe = at + 1.0;
        let crossing = lines.iter().filter(|line| line.left < stripe && line.right > stripe).count();
        if best.is_none_or(|(least, place)| crossing < least || (crossing == least && stripe > place)) {
            best = Some((crossing, stripe));
        }
    }
    let (crossing, stripe) = best?;
    let (one, other): (Vec<&Line>, Vec<&Line>) =
        lines.iter().filter(|line| line.right <= stripe || line.left >= stripe).partition(|line| line.right <= stripe);
    let running = |column: &[&Line]| {
        let long = column.iter().filter(|line| line.letters >= RUNNING_LETTERS).count();
        column.len() >= RUNNING_LINES && long * 2 >= column.len()
    };
    // Columns stand beside each other, not one below the other.
    let span = |column: &[&Line]| {
        column.iter().fold((f64::MAX, f64::MIN), |(top, bottom), line| (top.min(line.base), bottom.max(line.base)))
    };
    let ((top, bottom), (upper, lower)) = (span(&one), span(&other));
    let beside = bottom.min(lower) - top.max(upper) > (bottom - top).min(lower - upper) * 0.5;
    (running(&one) && running(&other) && beside && crossing * 3 <= lines.len()).then_some(stripe)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: f64 = 10.0;

    /// Draws words with letters of half the size.
    fn draw(layout: &mut Layout, x: f64, y: f64, text: &str) {
        for (i, c) in text.chars().enumerate() {
            let mut buffer = [0; 4];
            let letter = Letter {
                text: c.encode_utf8(&mut buffer),
                x: x + i as f64 * SIZE / 2.0,
                y,
                dx: 1.0,
                dy: 0.0,
                width: SIZE / 2.0,
                size: SIZE,
                first: i == 0,
            };
            assert!(layout.push(&letter));
        }
    }

    fn read(layout: Layout) -> Vec<Vec<String>> {
        let line = |words: &Vec<Word>| words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        layout.paragraphs().iter().map(|lines| lines.iter().map(line).collect()).collect()
    }

    #[test]
    fn words_lines_and_paragraphs_have_their_places() {
        let mut layout = Layout::default();
        draw(&mut layout, 50.0, 100.0, "The boiler");
        draw(&mut layout, 103.0, 100.0, "hums.");
        draw(&mut layout, 50.0, 112.0, "At night.");
        draw(&mut layout, 50.0, 140.0, "Another.");
        let paragraphs = layout.paragraphs();
        let boiler = &paragraphs[0][0][1];
        assert_eq!((boiler.text.as_str(), boiler.left, boiler.right), ("boiler", 70.0, 100.0));
        assert_eq!((boiler.top, boiler.bottom), (92.0, 102.0));
        let texts: Vec<usize> = paragraphs.iter().map(Vec::len).collect();
        assert_eq!(texts, [2, 1]);
    }

    #[test]
    fn columns_of_text_are_read_one_after_the_other_and_rows_of_tables_are_not() {
        let mut layout = Layout::default();
        draw(&mut layout, 50.0, 80.0, "A title that goes across the whole of the page, from end to end");
        for row in 0..6 {
            let y = 100.0 + f64::from(row) * 12.0;
            draw(&mut layout, 50.0, y, &format!("left {row} is a line of prose"));
            draw(&mut layout, 250.0, y, &format!("right {row} is a line of prose"));
        }
        let read_text = read(layout).concat().join("\n");
        let at = |words: &str| read_text.find(words).unwrap_or_else(|| panic!("{words} in {read_text}"));
        assert!(at("A title") < at("left 0") && at("left 5") < at("right 0") && at("right 0") < at("right 5"));

        let mut layout = Layout::default();
        for row in 0..12 {
            let y = 100.0 + f64::from(row) * 12.0;
            draw(&mut layout, 50.0, y, &format!("flat {row}"));
            draw(&mut layout, 250.0, y, "1150");
        }
        assert_eq!(read(layout)[0][3], "flat 3 1150");
    }

    #[test]
    fn upright_text_and_odd_numbers_do_no_harm() {
        let mut layout = Layout::default();
        for (i, text) in ["u", "p"].into_iter().enumerate() {
            let letter = Letter {
                text,
                x: 20.0,
                y: 100.0 - i as f64 * 5.0,
                dx: 0.0,
                dy: -1.0,
                width: 5.0,
                size: 10.0,
                first: i == 0,
            };
            assert!(layout.push(&letter));
            assert!(
                layout.push(&Letter { x: f64::NAN, ..letter })
                    && layout.push(&Letter { size: f64::INFINITY, ..letter })
            );
        }
        assert_eq!(read(layout), [["up"]]);
    }

    #[test]
    fn a_page_without_end_is_stopped() {
        let mut layout = Layout::default();
        let letter = Letter { text: "x", x: 0.0, y: 0.0, dx: 1.0, dy: 0.0, width: 1.0, size: 1.0, first: true };
        let room = (0..WORDS_MAX + 2).take_while(|i| layout.push(&Letter { y: *i as f64 * 9.0, ..letter })).count();
        assert_eq!(room, WORDS_MAX);
    }
}
