//! Quotations and the marks that lead to them. Pure: `verify` looks at the files.
//!
//! A mark `[n]` is attached to a sentence of an answer only when passage n supports it: its words, its
//! numbers and its names must stand there. Marks that the model itself puts are dropped.

use crate::document::Format;
use crate::evidence;
use crate::search::Hit;
use crate::sentence;
use crate::words;
use base::{Citation, Place};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Longer sentences are quoted in part.
const QUOTE_BYTES_MAX: usize = 400;
/// Share of a sentence's content words that a passage must hold to support it.
const SUPPORT_MIN: f32 = 0.6;
const MARKS_MAX: usize = 2;

/// LIMIT: bytes of a quotation that was made to hold what the marks rest on.
const RESTED_ON_BYTES_MAX: usize = 600;

/// A verified quotation with the passage that it was taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct Quoted {
    /// Of the sentence that says most about the question.
    pub citation: Citation,
    /// Index of its hit.
    pub hit: usize,
    /// All of the passage that stands in the file now, with its title and headings: what a sentence of the
    /// answer may rest on.
    pub title: String,
    pub heading: String,
    pub passage: String,
    /// The sentences of `passage`, in order.
    pub sentences: Vec<Standing>,
    /// Nothing is missing between them, so that several can be quoted as one stretch.
    pub whole: bool,
}

/// A sentence with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Bytes of [`Quoted::passage`].
    pub range: Range<usize>,
    pub place: Place,
}

impl Quoted {
    /// The bytes of the passage that some of its sentences span.
    fn bytes(&self, sentences: &Range<usize>) -> Range<usize> {
        let all = &self.sentences[sentences.clone()];
        all.first().map_or(0, |first| first.range.start)..all.last().map_or(0, |last| last.range.end)
    }

    /// The citation with these sentences as its quotation.
    fn citing(&self, sentences: &Range<usize>) -> Citation {
        let quote = &self.passage[self.bytes(sentences)];
        let Some(first) = self.sentences.get(sentences.start) else { return self.citation.clone() };
        // The sentence before may say of what these speak.
        if self.citation.quote.contains(quote) {
            return self.citation.clone();
        }
        let all = &self.sentences[sentences.clone()];
        let place = all.iter().fold(first.place.clone(), |place, one| place.through(&one.place));
        Citation { place, quote: quote.to_owned(), quote_hash: quote_hash(quote), ..self.citation.clone() }
    }
}

pub(crate) fn quote_hash(quote: &str) -> String {
    blake3::hash(quote.as_bytes()).to_hex().to_string()
}

/// The sentence of a hit that says most about its question; bytes of the hit's text.
pub fn best(question: &str, hit: &Hit) -> Range<usize> {
    let text = hit.text.as_str();
    let sentences = sentences(hit);
    let wanted = Wanted::by(question);
    let weights: Vec<(&str, f32)> =
        hit.terms.iter().map(|term| (term.stem.as_str(), evidence::term_weight(term))).collect();
    let all: f32 = weights.iter().map(|(_, weight)| weight).sum::<f32>().max(f32::MIN_POSITIVE);
    let mut lead = HashSet::new();
    let mut found: Option<(f32, Range<usize>)> = None;
    for (at, one) in sentences.iter().enumerate() {
        let words = &text[one.clone()];
        let heads = leads(text, one);
        if heads {
            // A table's head goes on leading its rows; any other heading takes the place of the one before.
            if !words.contains('\t') {
                lead.clear();
            }
            lead.extend(stems(words));
        }
        // "It", "they": what the sentence before spoke of goes on.
        let speaks_on = at > 0 && PRONOUNS.iter().any(|word| words.starts_with(word));
        if speaks_on {
            lead.extend(stems(&text[sentences[at - 1].clone()]));
        }
        let mut candidates = vec![(score(words, &lead, &weights, all, wanted, heads), one.clone())];
        if let Some(next) = sentences.get(at + 1)
            && !heads
            && text[one.end..next.start].chars().filter(|c| *c == '\n').count() < 2
            && !words.contains('\t')
        {
            // Two sentences only when together they say clearly more.
            let both = one.start..next.end;
            candidates.push((score(&text[both.clone()], &lead, &weights, all, wanted, false) - 0.2, both));
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

/// How a sentence begins that says nothing without the one before.
const PRONOUNS: [&str; 9] = ["It ", "They ", "This ", "These ", "That ", "Those ", "He ", "She ", "Its "];

pub(crate) fn sentences(hit: &Hit) -> Vec<Range<usize>> {
    match hit.source.format {
        Format::Text | Format::Mail => sentence::wrapped(&hit.text),
        _ => sentence::lines(&hit.text),
    }
}

fn stems(text: &str) -> HashSet<String> {
    words::words(text).into_iter().map(|word| word.stem).collect()
}

/// Whether a line stands above others: short, without a full stop, first after a blank line, or a table's head.
fn leads(text: &str, line: &Range<usize>) -> bool {
    let words = &text[line.clone()];
    let before = &text[..line.start];
    let row = words.contains('\t');
    let first = before.trim().is_empty() || before.ends_with("\n\n") || before.ends_with("\n\r\n");
    let above = before.trim_end().rsplit('\n').next().unwrap_or_default();
    let field = words.split_once(": ").is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '-'));
    let followed = text[line.end..].trim().chars().next().is_some();
    let short = words.split_whitespace().count() <= 8 && !words.ends_with(['.', '!', '?', ';']);
    followed && !field && if row { !above.contains('\t') } else { first && short }
}

/// How much a stretch says about the question, from 0 to about 1.
fn score(words: &str, lead: &HashSet<String>, weights: &[(&str, f32)], all: f32, wanted: Wanted, heads: bool) -> f32 {
    const FROM_LEAD: f32 = 0.7;
    let held = stems(words);
    let weight = |(stem, weight): &(&str, f32)| {
        if held.contains(*stem) {
            *weight
        } else if lead.contains(*stem) {
            *weight * FROM_LEAD
        } else {
            0.0
        }
    };
    let share: f32 = weights.iter().map(weight).sum::<f32>() / all;
    // A line that only repeats the question (a heading) answers nothing.
    let own = |stem: &&String| !words::is_empty_word(stem) && !weights.iter().any(|(asked, _)| asked == stem);
    let news = held.iter().filter(own).count();
    let bare = !words.ends_with(['.', '!', '?', ')', ':', '"'])
        && !words.contains(['\t', ':', '='])
        && !words.contains(|c: char| c.is_ascii_digit())
        && words.split_whitespace().count() <= 8;
    let header = ["From: ", "To: ", "Cc: "].iter().any(|name| words.starts_with(name));
    let factor = match (news, heads || header || bare) {
        (0, _) => 0.3,
        (_, true) => 0.5,
        (_, false) => 1.0,
    };
    share * factor * if wanted.answered_by(words) { 1.0 } else { 0.65 }
}

/// What kind of words a question asks for, in English; a hint, never a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Frequency,
    Time,
    Number,
    Anything,
}

impl Wanted {
    fn by(question: &str) -> Self {
        let question = format!(" {} ", question.to_lowercase());
        let asks = |phrases: &[&str]| phrases.iter().any(|phrase| question.contains(phrase));
        if asks(&[" how often", " how frequently"]) {
            Wanted::Frequency
        } else if asks(&[
            " when ",
            " what time",
            " which day",
            " what day",
            " which year",
            " what year",
            " which month",
            " what date",
        ]) {
            Wanted::Time
        } else if asks(&[
            " how many",
            " how much",
            " how long",
            " how far",
            " how old",
            " how high",
            " how wide",
            " how large",
            " cost",
            " price",
        ]) {
            Wanted::Number
        } else {
            Wanted::Anything
        }
    }

    fn answered_by(self, text: &str) -> bool {
        const NUMBERS: [&str; 16] = [
            "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelv", "twice",
            "onc", "half", "hundr",
        ];
        const OFTEN: [&str; 14] = [
            "everi", "each", "onc", "twice", "per", "daili", "weekli", "monthli", "yearli", "annual", "quarter",
            "hour", "never", "alway",
        ];
        const TIMES: [&str; 38] = [
            "januari",
            "februari",
            "march",
            "april",
            "may",
            "june",
            "juli",
            "august",
            "septemb",
            "octob",
            "novemb",
            "decemb",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
            "spring",
            "summer",
            "autumn",
            "winter",
            "morn",
            "even",
            "noon",
            "night",
            "midnight",
            "year",
            "month",
            "week",
            "day",
            "hour",
            "daili",
            "weekli",
            "monthli",
            "yearli",
            "annual",
        ];
        let digit = text.contains(|c: char| c.is_ascii_digit());
        let any = |list: &[&str]| words::words(text).iter().any(|word| list.contains(&word.stem.as_str()));
        match self {
            Wanted::Anything => true,
            Wanted::Frequency => any(&OFTEN),
            Wanted::Number => digit || any(&NUMBERS),
            Wanted::Time => digit || any(&TIMES),
        }
    }
}

/// Cuts a long stretch to the part that holds most of the question's words.
fn shorten(hit: &Hit, range: Range<usize>) -> Range<usize> {
    if range.len() <= QUOTE_BYTES_MAX {
        return range;
    }
    let weight = |start: usize, end: usize| -> f32 {
        let inside: HashSet<String> = words::words(&hit.text[start..end]).into_iter().map(|word| word.stem).collect();
        hit.terms.iter().filter(|term| inside.contains(&term.stem)).map(evidence::term_weight).sum()
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
        // "May" inside a sentence is a month.
        if (words::is_empty_word(&word.stem) && !name) || !seen.insert(word.stem.clone()) {
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
    let said: Vec<String> = words::words(sentence).into_iter().map(|word| word.stem).collect();
    let mut found: Vec<(f32, u32)> = Vec::new();
    for quoted in quoted {
        let passage: Vec<String> = words::words(&quoted.passage).into_iter().map(|word| word.stem).collect();
        // A short answer (`Once a year.`) has too few words to count, but they may stand there as they are.
        let verbatim =
            said.len() >= 2 && !claim.words.is_empty() && passage.windows(said.len()).any(|words| words == said);
        let mut held: HashSet<&String> = passage.iter().collect();
        let above: Vec<String> = [&quoted.title, &quoted.heading].into_iter().flat_map(|text| stems(text)).collect();
        held.extend(&above);
        let support = support(&claim, &held);
        if verbatim || support >= SUPPORT_MIN {
            found.push((if verbatim { 1.0 } else { support }, quoted.citation.number));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let best = found.first().map_or(0.0, |(support, _)| *support);
    found.into_iter().filter(|(support, _)| *support >= best * 0.95).take(MARKS_MAX).map(|(_, number)| number).collect()
}

/// The sentences of a passage, side by side, that a sentence of the answer rests on: the fewest that support it,
/// or those within the limit that hold most of its words. `None` when that would be too long a quotation.
fn rests_on(sentence: &str, quoted: &Quoted) -> Option<Range<usize>> {
    let claim = claim(sentence);
    let said: Vec<String> = words::words(sentence).into_iter().map(|word| word.stem).collect();
    let above: HashSet<String> = [&quoted.title, &quoted.heading].into_iter().flat_map(|text| stems(text)).collect();
    let mut best: Option<((bool, usize), Range<usize>)> = None;
    let most = if quoted.whole { quoted.sentences.len() } else { 1 };
    for count in 1..=most {
        let mut fits = false;
        for start in 0..=quoted.sentences.len().saturating_sub(count) {
            let sentences = start..(start + count).min(quoted.sentences.len());
            let bytes = quoted.bytes(&sentences);
            if bytes.is_empty() || bytes.len() > RESTED_ON_BYTES_MAX {
                continue;
            }
            fits = true;
            let own: Vec<String> = words::words(&quoted.passage[bytes]).into_iter().map(|word| word.stem).collect();
            let verbatim = said.len() >= 2 && own.windows(said.len()).any(|words| words == said);
            let words: HashSet<&String> = own.iter().collect();
            let holds = claim.words.iter().filter(|stem| words.contains(stem)).count();
            let held = words.into_iter().chain(&above).collect();
            let supports = verbatim || support(&claim, &held) >= SUPPORT_MIN;
            if holds > 0 && best.as_ref().is_none_or(|(most, _)| (supports, holds) > *most) {
                best = Some(((supports, holds), sentences));
            }
        }
        if !fits || best.as_ref().is_some_and(|((supports, _), _)| *supports) {
            break;
        }
    }
    best.map(|(_, sentences)| sentences)
}

/// Share of a claim's words that are held; 0 when there are too few, or a number or name isn't.
fn support(claim: &Claim, held: &HashSet<&String>) -> f32 {
    let few = claim.words.is_empty() || (claim.words.len() < 2 && claim.firm.is_empty());
    if few || !claim.firm.iter().all(|stem| held.contains(stem)) {
        return 0.0;
    }
    claim.words.iter().filter(|stem| held.contains(stem)).count() as f32 / claim.words.len() as f32
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
    supported: Supported,
}

/// The marks that an answer earned, with the sentences of the passages that they rest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supported(BTreeMap<u32, Option<Range<usize>>>);

impl Supported {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Numbers of the marks.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// The citation to show: its quotation holds what the marks rest on. Without a mark, or when that would be
    /// too long, it is the sentence that says most about the question.
    pub fn citation(&self, quoted: &Quoted) -> Citation {
        match self.0.get(&quoted.citation.number) {
            Some(Some(sentences)) => quoted.citing(sentences),
            Some(None) | None => quoted.citation.clone(),
        }
    }

    /// Takes in what another sentence of the answer rests on, while one quotation can hold all of it.
    fn add(&mut self, quoted: &Quoted, sentences: Option<Range<usize>>) {
        let before = self.0.entry(quoted.citation.number).or_default();
        *before = match (before.take(), sentences) {
            (Some(before), Some(more)) => {
                let both = before.start.min(more.start)..before.end.max(more.end);
                let fits = quoted.whole && quoted.bytes(&both).len() <= RESTED_ON_BYTES_MAX;
                Some(if fits { both } else { before })
            }
            (before, more) => before.or(more),
        };
    }
}

impl<'a> Marker<'a> {
    pub fn new(quoted: &'a [Quoted]) -> Self {
        Self {
            quoted,
            sentence: String::new(),
            white: String::new(),
            bracket: String::new(),
            supported: Supported::default(),
        }
    }

    /// Takes a piece of the answer and returns what can be shown now.
    pub fn push(&mut self, delta: &str) -> String {
        let mut out = String::new();
        for c in delta.chars() {
            if self.bracket.is_empty() {
                if c == '[' {
                    self.bracket.push(c)
                } else {
                    self.take(c, &mut out)
                }
                continue;
            }
            let digits = self.bracket.len() - 1;
            match c {
                '0'..='9' | ',' | ' ' if digits < 12 => self.bracket.push(c),
                ']' if self.is_own_mark() => self.bracket.clear(),
                _ => {
                    self.release(&mut out);
                    if c == '[' { self.bracket.push(c) } else { self.take(c, &mut out) }
                }
            }
        }
        out
    }

    /// The end of the answer: what was held back, and the last sentence's mark.
    pub fn finish(mut self) -> (String, Supported) {
        let mut out = String::new();
        self.release(&mut out);
        self.mark(&mut out);
        (out, self.supported)
    }

    /// Whether the model put a mark of its own: numbers of sources where a mark can stand. Anything else in
    /// brackets (`argv[1]`, `- [ ] task`) is what the answer says.
    fn is_own_mark(&self) -> bool {
        let before = self.sentence.chars().next_back().filter(|_| self.white.is_empty());
        let free = before.is_none_or(|c| matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '"' | '”' | '’' | '…'));
        let mut numbers = self.bracket[1..].split([',', ' ']).filter(|number| !number.is_empty()).peekable();
        let sources = 1..=self.quoted.len();
        free && numbers.peek().is_some()
            && numbers.all(|number| number.parse().is_ok_and(|number: usize| sources.contains(&number)))
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
            if let Some(quoted) = self.quoted.iter().find(|quoted| quoted.citation.number == number) {
                self.supported.add(quoted, rests_on(&sentence, quoted));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
