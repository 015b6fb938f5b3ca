//! Keeping a message's text from forming a special token, whatever the template does with it.
//!
//! Every character of a message that could begin or end a special token is *tinted*: replaced by a
//! private-use character that occurs nowhere else. What the template makes of it can be followed
//! through stripping, slicing and joining, and no tinted character can be part of a special token.
//! After rendering the tint is undone and the text is cut inside every special token that would now
//! stand there with a message's help. (A template that writes both the first and the last character of
//! a token around a text means that token; none is known to.)

use base::{Code, Fault};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

/// The special tokens of one vocabulary, ready to be looked for.
pub(super) struct Guard<'a> {
    texts: HashSet<&'a str>,
    /// Byte lengths that occur in `texts`, longest first.
    lengths: Vec<usize>,
    firsts: BTreeSet<char>,
    lasts: BTreeSet<char>,
}

/// The private-use characters that tint and marks are taken from.
const PRIVATE: RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

impl<'a> Guard<'a> {
    pub(super) fn new(special_tokens: &'a [String]) -> Self {
        // A token of one character can't be cut. No family has one as a control token; should one
        // come, it is ordinary text that a person may type.
        let texts: HashSet<&str> =
            special_tokens.iter().map(String::as_str).filter(|text| text.chars().nth(1).is_some()).collect();
        let lengths: BTreeSet<usize> = texts.iter().map(|text| text.len()).collect();
        let firsts = texts.iter().filter_map(|text| text.chars().next()).collect();
        let lasts = texts.iter().filter_map(|text| text.chars().next_back()).collect();
        Self { texts, lengths: lengths.into_iter().rev().collect(), firsts, lasts }
    }

    /// How to tint these texts; `None` when no character of theirs could matter.
    ///
    /// # Errors
    /// [`Code::InvalidAsk`] as of [`free_private`].
    pub(super) fn tint_for(&self, texts: &str, source: &str) -> Result<Option<Tint>, Fault> {
        let used: BTreeSet<char> =
            texts.chars().filter(|c| self.firsts.contains(c) || self.lasts.contains(c)).collect();
        if used.is_empty() {
            return Ok(None);
        }
        let free = free_private(texts, source, used.len())?;
        let to: BTreeMap<char, char> = used.into_iter().zip(free).collect();
        let from = to.iter().map(|(plain, tinted)| (*tinted, *plain)).collect();
        Ok(Some(Tint { to, from }))
    }

    /// Breaks up every special token that stands whole in a text.
    pub(super) fn mark(&self, text: &str, mark: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            marked.push(c);
            if self.firsts.contains(&c) && self.ends_at(text, at).next().is_some() {
                marked.push_str(mark);
            }
        }
        marked
    }

    /// The text in pieces, cut behind the first character of each special token that stands whole in it.
    pub(super) fn broken_up(&self, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (at, c) in text.char_indices() {
            if self.firsts.contains(&c) && self.ends_at(text, at).next().is_some() {
                pieces.push(text[start..at + c.len_utf8()].to_owned());
                start = at + c.len_utf8();
            }
        }
        pieces.push(text[start..].to_owned());
        pieces
    }

    /// Cuts inside each special token that a tinted character helps to form.
    pub(super) fn cut(&self, tinted: &Tinted) -> Vec<String> {
        let text = tinted.text.as_str();
        let mut cuts = BTreeSet::new();
        for (at, c) in text.char_indices().filter(|(_, c)| self.firsts.contains(c)) {
            for end in self.ends_at(text, at) {
                let last = end - text[..end].chars().next_back().map_or(0, char::len_utf8);
                if tinted.places.contains(&at) {
                    cuts.insert(at + c.len_utf8());
                } else if tinted.places.contains(&last) {
                    cuts.insert(last);
                }
            }
        }
        let mut pieces = Vec::with_capacity(cuts.len() + 1);
        let mut start = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            if cut > start {
                pieces.push(text[start..cut].to_owned());
            }
            start = cut;
        }
        pieces
    }

    /// The special tokens in `text`, leftmost and longest first.
    pub(super) fn specials_in<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut found = Vec::new();
        let mut free = 0;
        for (at, c) in text.char_indices() {
            if at < free || !self.firsts.contains(&c) {
                continue;
            }
            if let Some(end) = self.ends_at(text, at).next() {
                found.push(&text[at..end]);
                free = end;
            }
        }
        found
    }

    /// Where the special tokens that begin at `at` end, longest first.
    fn ends_at<'t>(&'t self, text: &'t str, at: usize) -> impl Iterator<Item = usize> + 't {
        let ends = self.lengths.iter().map(move |length| at + length);
        ends.filter(move |end| text.get(at..*end).is_some_and(|found| self.texts.contains(found)))
    }
}

/// A two-way table between characters and their private stand-ins.
pub(super) struct Tint {
    to: BTreeMap<char, char>,
    from: BTreeMap<char, char>,
}

/// A text with the byte places of the characters that came from messages.
pub(super) struct Tinted {
    pub(super) text: String,
    places: HashSet<usize>,
}

impl Tint {
    pub(super) fn apply(&self, text: &str) -> String {
        text.chars().map(|c| *self.to.get(&c).unwrap_or(&c)).collect()
    }

    pub(super) fn undo(&self, rendered: &str) -> Tinted {
        let mut text = String::with_capacity(rendered.len());
        let mut places = HashSet::new();
        for c in rendered.chars() {
            match self.from.get(&c) {
                Some(plain) => {
                    places.insert(text.len());
                    text.push(*plain);
                }
                None => text.push(c),
            }
        }
        Tinted { text, places }
    }
}

/// A text that neither the caller's texts nor the template contain.
///
/// # Errors
/// [`Code::InvalidAsk`] as of [`free_private`].
pub(super) fn mark_for(texts: &str, source: &str) -> Result<String, Fault> {
    Ok(free_private(texts, source, 1)?.into_iter().collect())
}

/// That many private-use characters that neither the caller's texts nor the template contain.
///
/// # Errors
/// [`Code::InvalidAsk`] when there aren't so many: somebody has written them all down, and a guess
/// would let them form special tokens.
fn free_private(texts: &str, source: &str, count: usize) -> Result<Vec<char>, Fault> {
    let taken: HashSet<char> = texts.chars().chain(source.chars()).filter(|c| PRIVATE.contains(c)).collect();
    let free: Vec<char> = PRIVATE.filter(|c| !taken.contains(c)).take(count).collect();
    if free.len() < count {
        let used = taken.len();
        return Err(Fault::new(Code::InvalidAsk, format!("the messages hold {used} different private-use characters"))
            .hint("leave characters from U+F0000 to U+FFFFD out of the text"));
    }
    Ok(free)
}
