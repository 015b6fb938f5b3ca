//! What differs between a text and its correction, word by word. Pure.

use std::ops::Range;

/// LIMIT: words of a piece that are compared; beyond that it counts as changed whole.
const WORDS_MAX: usize = 2000;

/// One place that was changed: bytes of the old text, and what stands there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) old: Range<usize>,
    pub(crate) new: String,
}

/// Words, single marks and gaps: together they are the whole text.
fn tokens(text: &str) -> Vec<&str> {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Word,
        Gap,
        Mark,
    }
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || matches!(c, '\'' | '’') => Kind::Word,
        c if c.is_whitespace() => Kind::Gap,
        _ => Kind::Mark,
    };
    let (mut found, mut start, mut last) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        let now = kind(c);
        if let Some(before) = last
            && (before != now || now == Kind::Mark)
        {
            found.push(&text[start..at]);
            start = at;
        }
        last = Some(now);
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

/// The changes that make `new` of `old`, in their order.
pub(crate) fn changes(old: &str, new: &str) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    let (ours, theirs) = (tokens(old), tokens(new));
    if ours.len() > WORDS_MAX || theirs.len() > WORDS_MAX {
        return vec![Change { old: 0..old.len(), new: new.to_owned() }];
    }
    let common = common(&ours, &theirs);
    let mut found: Vec<Change> = Vec::new();
    let (mut i, mut j, mut byte) = (0, 0, 0);
    for (next_i, next_j) in common.into_iter().chain([(ours.len(), theirs.len())]) {
        let taken: usize = ours[i..next_i].iter().map(|token| token.len()).sum();
        if next_i > i || next_j > j {
            found.push(Change { old: byte..byte + taken, new: theirs[j..next_j].concat() });
        }
        byte += taken + ours.get(next_i).map_or(0, |token| token.len());
        (i, j) = (next_i + 1, next_j + 1);
    }
    found
}

/// Pairs of equal tokens: a longest common subsequence.
fn common(ours: &[&str], theirs: &[&str]) -> Vec<(usize, usize)> {
    let width = theirs.len() + 1;
    let mut lengths = vec![0_u16; (ours.len() + 1) * width];
    for i in (0..ours.len()).rev() {
        for j in (0..theirs.len()).rev() {
            lengths[i * width + j] = if ours[i] == theirs[j] {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < ours.len() && j < theirs.len() {
        if ours[i] == theirs[j] {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// How much of a text's words a correction changes, from 0 to 1.
pub(crate) fn changed_share(old: &str, new: &str) -> f64 {
    let words = |text: &str| text.split_whitespace().count();
    let touched: usize = changes(old, new)
        .iter()
        // A capital or a mark more is no other word.
        .filter(|change| folded(&old[change.old.clone()]) != folded(&change.new))
        .map(|change| words(&old[change.old.clone()]).max(words(&change.new)))
        .sum();
    touched as f64 / words(old).max(1) as f64
}

pub(crate) fn folded(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Letters to put in, take out or replace to make one of the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, d) in other.iter().enumerate() {
            let cost = before + usize::from(c != *d);
            before = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(before + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(old: &str, new: &str) -> Vec<(String, String)> {
        changes(old, new).into_iter().map(|change| (old[change.old].to_owned(), change.new)).collect()
    }

    fn pair(old: &str, new: &str) -> (String, String) {
        (old.into(), new.into())
    }

    #[test]
    fn changes_are_found_word_by_word() {
        assert_eq!(shown("I seen him there", "I saw him there."), [pair("seen", "saw"), pair("", ".")]);
        assert_eq!(shown("their is , one", "There is, one"), [pair("their", "There"), pair(" ", "")]);
        assert_eq!(shown("same", "same"), []);
    }

    #[test]
    fn shares_count_words() {
        assert!(changed_share("teh cat sat", "The cat sat.") > 0.3);
        assert!(changed_share("the cat sat", "The cat sat.").abs() < 1e-9);
        assert!(changed_share("what is two and two", "The answer is four.") > 0.6);
        assert_eq!((distance("teh", "the"), distance("", "abc"), distance("receive", "recieve")), (2, 3, 2));
    }

    proptest! {
        #[test]
        fn changes_make_the_one_of_the_other(old in "[ab .,'ü\n]{0,30}", new in "[ab .,'ü\n]{0,30}") {
            let mut made = String::new();
            let mut at = 0;
            for change in changes(&old, &new) {
                prop_assert!(change.old.start >= at);
                made.push_str(&old[at..change.old.start]);
                made.push_str(&change.new);
                at = change.old.end;
            }
            made.push_str(&old[at..]);
            prop_assert_eq!(made, new);
        }
    }
}
