//! Quotations and the marks that lead to them. Pure: `verify` looks at the files.
//!
//! A mark `[n]` is attached to a sentence of an answer only when passage n supports it: its words, its
//! numbers and its names must stand there. What the model itself puts in brackets is dropped.

use crate::document::Format;
use crate::search::Hit;
use crate::sentence;
use crate::words;
use base::Citation;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

/// Longer sentences are quoted in part.
const QUOTE_BYTES_MAX: usize = 400;
/// Share of a sentence's content words that a passage must hold to support it.
const SUPPORT_MIN: f32 = 0.6;
const MARKS_MAX: usize = 2;

/// A verified quotation with the passage that it was taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct Quoted {
    pub citation: Citation,
    /// Index of its hit.
    pub hit: usize,
    /// The whole passage, with its title and headings: what a sentence of the answer may rest on.
    pub title: String,
    pub heading: String,
    pub passage: String,
}

/// The sentence of a hit that says most about its question; bytes of the hit's text.
pub fn best(question: &str, hit: &Hit) -> Range<usize> {
    let text = hit.text.as_str();
    let sentences = match hit.source.format {
        Format::Text | Format::Mail => sentence::wrapped(text),
        Format::Markdown | Format::Html | Format::Pdf | Format::Docx | Format::Code | Format::Data => sentence::lines(text),
    };
    let all: f32 = hit.terms.iter().map(|term| term.idf).sum::<f32>().max(f32::MIN_POSITIVE);
    let wants_number = asks_for_number(question);
    let score = |range: &Range<usize>| {
        let stems: HashSet<String> = words::words(&text[range.clone()]).into_iter().map(|word| word.stem).collect();
        let held: f32 = hit.terms.iter().filter(|term| stems.contains(&term.stem)).map(|term| term.idf).sum();
        // A line that only repeats the question (a heading) answers nothing.
        let own = |stem: &&String| !words::is_empty_word(stem) && !hit.terms.iter().any(|term| term.stem == **stem);
        let news = stems.iter().filter(own).count();
        let number = wants_number && text[range.clone()].contains(|c: char| c.is_ascii_digit());
        held / all * if news == 0 { 0.3 } else { 1.0 } + if number && held > 0.0 { 0.2 } else { 0.0 }
    };
    let mut found: Option<(f32, Range<usize>)> = None;
    for (at, one) in sentences.iter().enumerate() {
        let mut candidates = vec![(score(one), one.clone())];
        if let Some(next) = sentences.get(at + 1)
            && text[one.end..next.start].chars().filter(|c| *c == '\n').count() < 2
        {
            // Two sentences only when together they say clearly more.
            let both = one.start..next.end;
            candidates.push((score(&both) - 0.2, both));
        }
        for (score, range) in candidates {
            if found.as_ref().is_none_or(|(best, _)| score > *best) {
                found = Some((score, range));
            }
        }
    }
    let range = found.map_or(0..text.len(), |(_, range)| range);
    shorten(hit, range)
}

/// Questions that a number answers, in English.
fn asks_for_number(question: &str) -> bool {
    let question = question.to_lowercase();
    ["how many", "how much", "how often", "how long", "how old", "how far", "when ", "what time", "which year", "what year"]
        .iter()
        .chain(&["what date", "price", "cost", "temperature", "number", "deadline", "interval", "size", "rate"])
        .any(|asks| question.contains(asks))
}

/// Cuts a long stretch to the part that holds most of the question's words.
fn shorten(hit: &Hit, range: Range<usize>) -> Range<usize> {
    if range.len() <= QUOTE_BYTES_MAX {
        return range;
    }
    let weight = |start: usize, end: usize| -> f32 {
        let inside: HashSet<String> =
            words::words(&hit.text[start..end]).into_iter().map(|word| word.stem).collect();
        hit.terms.iter().filter(|term| inside.contains(&term.stem)).map(|term| term.idf).sum()
    };
    let bounds: Vec<Range<usize>> = words::words(&hit.text[range.clone()])
        .into_iter()
        .map(|word| range.start + word.span.start..range.start + word.span.end)
        .collect();
    let mut best: Option<(f32, Range<usize>)> = None;
    for (at, word) in bounds.iter().enumerate().step_by(8) {
        let last = bounds[at..].iter().take_while(|other| other.end <= word.start + QUOTE_BYTES_MAX).last();
        let Some(last) = last else { continue };
        let weight = weight(word.start, last.end);
        if best.as_ref().is_none_or(|(most, _)| weight > *most) {
            best = Some((weight, word.start..last.end));
        }
    }
    best.map_or_else(
        || {
            let mut end = range.start + QUOTE_BYTES_MAX;
            while !hit.text.is_char_boundary(end) {
                end -= 1;
            }
            range.start..end
        },
        |(_, range)| range,
    )
}

/// What a sentence claims: its content words, and those that must not be wrong.
struct Claim {
    words: Vec<String>,
    /// Numbers, and names inside the sentence.
    firm: Vec<String>,
}

fn claim(sentence: &str) -> Claim {
    let mut claim = Claim { words: Vec::new(), firm: Vec::new() };
    let mut seen = HashSet::new();
    for (at, word) in words::words(sentence).into_iter().enumerate() {
        let raw = &sentence[word.span.clone()];
        let number = raw.contains(|c: char| c.is_ascii_digit());
        let name = at > 0 && raw.starts_with(char::is_uppercase) && raw.chars().count() > 1;
        if words::is_empty_word(&word.stem) || !seen.insert(word.stem.clone()) {
            continue;
        }
        if number || name {
            claim.firm.push(word.stem.clone());
        }
        claim.words.push(word.stem);
    }
    claim
}

/// The numbers of the passages that support a sentence, the strongest first; empty when none does.
pub fn attach(sentence: &str, quoted: &[Quoted]) -> Vec<u32> {
    let claim = claim(sentence);
    if claim.words.is_empty() || (claim.words.len() < 2 && claim.firm.is_empty()) {
        return Vec::new();
    }
    let mut found: Vec<(f32, u32)> = Vec::new();
    for quoted in quoted {
        let held: HashSet<String> = [&quoted.passage, &quoted.title, &quoted.heading]
            .into_iter()
            .flat_map(|text| words::words(text))
            .map(|word| word.stem)
            .collect();
        if !claim.firm.iter().all(|stem| held.contains(stem)) {
            continue;
        }
        let support = claim.words.iter().filter(|stem| held.contains(*stem)).count() as f32 / claim.words.len() as f32;
        if support >= SUPPORT_MIN {
            found.push((support, quoted.citation.number));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let best = found.first().map_or(0.0, |(support, _)| *support);
    found.into_iter().filter(|(support, _)| *support >= best * 0.95).take(MARKS_MAX).map(|(_, number)| number).collect()
}

/// Puts `[n]` behind the sentences of an answer while it streams. Text is passed on at once; only white
/// space and open brackets wait for what follows them.
#[derive(Debug)]
pub struct Marker<'a> {
    quoted: &'a [Quoted],
    /// The sentence that is being written, as it was passed on.
    sentence: String,
    white: String,
    /// `[` and digits that may turn out to be the model's own mark.
    bracket: String,
    cited: BTreeSet<u32>,
}

impl<'a> Marker<'a> {
    pub fn new(quoted: &'a [Quoted]) -> Self {
        Self { quoted, sentence: String::new(), white: String::new(), bracket: String::new(), cited: BTreeSet::new() }
    }

    /// Takes a piece of the answer and returns what can be shown now.
    pub fn push(&mut self, delta: &str) -> String {
        let mut out = String::new();
        for c in delta.chars() {
            if self.bracket.is_empty() {
                if c == '[' { self.bracket.push(c) } else { self.take(c, &mut out) }
                continue;
            }
            let digits = self.bracket.len() - 1;
            match c {
                '0'..='9' | ',' | ' ' if digits < 12 => self.bracket.push(c),
                ']' if digits > 0 => self.bracket.clear(),
                _ => {
                    self.release(&mut out);
                    if c == '[' { self.bracket.push(c) } else { self.take(c, &mut out) }
                }
            }
        }
        out
    }

    /// The end of the answer: what was held back, and the last sentence's mark.
    pub fn finish(mut self) -> (String, BTreeSet<u32>) {
        let mut out = String::new();
        self.release(&mut out);
        self.mark(&mut out);
        (out, self.cited)
    }

    /// Numbers that were put so far.
    pub fn cited(&self) -> &BTreeSet<u32> {
        &self.cited
    }

    fn release(&mut self, out: &mut String) {
        for c in std::mem::take(&mut self.bracket).chars() {
            self.take(c, out);
        }
    }

    fn take(&mut self, c: char, out: &mut String) {
        if c.is_whitespace() {
            self.white.push(c);
            return;
        }
        if !self.white.is_empty() {
            if self.ended(c) {
                self.mark(out);
            } else if !self.sentence.is_empty() {
                self.sentence.push_str(&self.white);
            }
            out.push_str(&std::mem::take(&mut self.white));
        }
        out.push(c);
        self.sentence.push(c);
    }

    /// Whether the sentence ended before the white space that is held, now that `next` follows.
    fn ended(&self, next: char) -> bool {
        if self.white.contains('\n') {
            return true;
        }
        let text = format!("{} {next}", self.sentence);
        sentence::next_end(&text, 0) == Some(self.sentence.len())
    }

    fn mark(&mut self, out: &mut String) {
        let sentence = std::mem::take(&mut self.sentence);
        for number in attach(&sentence, self.quoted) {
            out.push_str(&format!(" [{number}]"));
            self.cited.insert(number);
        }
    }
}

#[cfg(test)]
mod tests;
