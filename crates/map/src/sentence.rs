//! Where sentences end. Pure, and good enough to quote by: it errs on the side of longer sentences.

use std::ops::Range;

/// Words that a full stop follows without ending a sentence.
const SHORT: [&str; 30] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "no", "nr", "vs", "etc", "eg", "ie", "e.g", "i.e", "fig", "vol", "pp", "p",
    "al", "inc", "ltd", "co", "jr", "sr", "approx", "dept", "tel", "ca", "u.s", "cf",
];

/// Byte ranges of the sentences of a text, white space at their ends left out. A blank line always ends one.
pub fn ranges(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    // Where nothing is capitalised, a small letter tells nothing.
    let small = !text.contains(char::is_uppercase);
    while let Some(end) = find_end(text, start, small) {
        push(text, start..end, &mut found);
        start = end;
    }
    push(text, start..text.len(), &mut found);
    found
}

/// Like [`ranges`], and each line is on its own: rows, list items, code.
pub fn lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        found.extend(ranges(line).into_iter().map(|range| at + range.start..at + range.end));
        at += line.len();
    }
    found
}

/// Like [`ranges`], for text that may be wrapped at a column: a line's end ends a sentence where a reader
/// sees that it does, after a short line or before a list item.
pub fn wrapped(text: &str) -> Vec<Range<usize>> {
    const COLUMN_MIN: usize = 50;
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        let next = text[at..].lines().next().unwrap_or_default();
        let short = longest < COLUMN_MIN || line.trim().chars().count() * 10 < longest * 6;
        let goes_on = next.trim_start().starts_with(char::is_lowercase);
        if (short && !goes_on) || begins(next) {
            found.extend(ranges(&text[start..at]).into_iter().map(|range| start + range.start..start + range.end));
            start = at;
        }
    }
    found.extend(ranges(&text[start..]).into_iter().map(|range| start + range.start..start + range.end));
    found
}

/// Whether a line begins something of its own: a list item, a quotation, a field (`Subject: …`).
fn begins(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let field = line.split_once(": ").is_some_and(|(name, _)| {
        name.len() <= 20 && name.starts_with(char::is_uppercase) && !name.contains(char::is_whitespace)
    });
    field
        || line.starts_with(['-', '*', '•', '>', '|'])
        || (number.len() < line.len() && number.starts_with([')', '.']) && number[1..].starts_with(' '))
}

fn push(text: &str, range: Range<usize>, found: &mut Vec<Range<usize>>) {
    let piece = &text[range.clone()];
    let start = range.start + piece.len() - piece.trim_start().len();
    let end = range.start + piece.trim_end().len();
    if end > start {
        found.push(start..end);
    }
}

/// Where the sentence that begins at `start` surely ends, if it does before the text does.
/// Text that may still grow has no end at its very end.
pub(crate) fn next_end(text: &str, start: usize) -> Option<usize> {
    find_end(text, start, false)
}

fn find_end(text: &str, start: usize, small: bool) -> Option<usize> {
    let mut chars = text[start..].char_indices().map(|(i, c)| (start + i, c)).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => {
                let rest = &text[at + 1..];
                let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
                if rest[blank..].starts_with('\n') {
                    return Some(at + 1 + blank + 1);
                }
            }
            '.' | '!' | '?' | '…' | '。' | '！' | '？' => {
                while chars
                    .peek()
                    .is_some_and(|(_, c)| matches!(c, '.' | '!' | '?' | '"' | '\'' | '”' | '’' | ')' | ']' | '»' | '*'))
                {
                    chars.next();
                }
                let (end, next) = chars.peek().copied()?;
                if matches!(c, '。' | '！' | '？') || (next.is_whitespace() && ends(text, start..at, c, end, small))
                {
                    return Some(end);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether the mark after `sentence` ends it, given that white space follows from `end` on.
fn ends(text: &str, sentence: Range<usize>, mark: char, end: usize, small: bool) -> bool {
    let Range { start, end: at } = sentence;
    let next = text[end..].trim_start().chars().next();
    if !small && next.is_some_and(char::is_lowercase) {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let word = text[start..at].rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let lower = word.to_lowercase();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    // `3. Add the flour`: a number at the start of its line counts, it doesn't end.
    let listed = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit()) && {
        let before = &text[start..at - word.len()];
        before.trim().is_empty() || before.ends_with('\n')
    };
    !(initial || listed || SHORT.contains(&lower.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_a_reader_says_so() {
        for (text, expected) in [
            ("One. Two! Three?", &["One.", "Two!", "Three?"][..]),
            ("Call Dr. Miller at 3.30 p.m. today. Then go.", &["Call Dr. Miller at 3.30 p.m. today.", "Then go."]),
            ("It costs 1.150,00 a month. J. Doe pays.", &["It costs 1.150,00 a month.", "J. Doe pays."]),
            ("He said \"stop.\" She did.", &["He said \"stop.\"", "She did."]),
            ("wrapped\nline. Next\n\nlast", &["wrapped\nline.", "Next", "last"]),
            ("3. Add flour. 4. Stir.", &["3. Add flour.", "4. Stir."]),
            ("See example.org for more.", &["See example.org for more."]),
            ("nothing is capital here. not even this.", &["nothing is capital here.", "not even this."]),
            ("  \n ", &[]),
        ] {
            let found: Vec<&str> = ranges(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        }
        let text = "- milk\n- eggs. Six.\n";
        let found: Vec<&str> = lines(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["- milk", "- eggs.", "Six."]);
        let text = "Subject: Boiler\nDate: today\n\nThe man who came to look at the boiler yesterday afternoon\n\
                    found nothing wrong with it.\nCheers\n1) pay him\n2) file the bill\n";
        let found: Vec<&str> = wrapped(text).into_iter().map(|range| &text[range]).collect();
        let long = "The man who came to look at the boiler yesterday afternoon\nfound nothing wrong with it.";
        assert_eq!(found, ["Subject: Boiler", "Date: today", long, "Cheers", "1) pay him", "2) file the bill"]);
    }
}
