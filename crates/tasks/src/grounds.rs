//! Whether words stand in a text, and which of its sentences say most of it: by counting words, without a model. Pure.
//!
//! A small model copies from its examples and makes things up. What it says of a text counts only where the text holds
//! it; where it doesn't, a sentence of the text stands in.

use crate::language::is_little;
use crate::sentence::sentences;
use std::collections::BTreeMap;
use std::ops::Range;

/// Forms of one word have so many first letters in common …
const STEM_CHARS_MIN: usize = 3;
/// … and so many others at most.
const ENDING_CHARS_MAX: usize = 3;
/// A sentence of fewer words tells too little to stand for a text.
const SENTENCE_WORDS_MIN: usize = 4;
/// How much more the first sentence of a text counts.
const FIRST_COUNTS: f64 = 1.35;

/// Words in small letters, as they stand there; of scripts without gaps each letter is one.
fn words(text: &str) -> Vec<String> {
    let alone = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{e00}'..='\u{e7f}');
    let mut found = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if alone(c) || !c.is_alphanumeric() {
            found.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            found.extend(alone(c).then(|| c.to_string()));
        } else {
            word.extend(c.to_lowercase());
        }
    }
    found.extend((!word.is_empty()).then_some(word));
    found
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The words of a text that say something.
pub(crate) fn telling(text: &str) -> Vec<String> {
    let tells = |word: &String| {
        !is_little(word) && (word.chars().count() > 1 || is_number(word) || word.chars().all(|c| c as u32 > 0xe00))
    };
    words(text).into_iter().filter(tells).collect()
}

/// Whether two words are forms of one: `close` and `closed`, not `close` and `clover`.
pub(crate) fn alike(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let (long, short) =
        (one.chars().count().max(other.chars().count()), one.chars().count().min(other.chars().count()));
    if short < STEM_CHARS_MIN || one.contains(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    // `y` becomes `ies`, `e` goes: the last letter of a stem may differ.
    same >= STEM_CHARS_MIN && same + 1 >= short && long - same <= ENDING_CHARS_MAX
}

/// How many of these words have a form in the others.
pub(crate) fn found_in(wanted: &[String], others: &[String]) -> usize {
    wanted.iter().filter(|word| others.iter().any(|other| alike(word, other))).count()
}

/// Whether every number in `said` stands in the text.
pub(crate) fn numbers_stand(said: &str, text: &str) -> bool {
    let own = words(text);
    words(said).iter().filter(|word| word.contains(|c: char| c.is_ascii_digit())).all(|word| own.contains(word))
}

/// Whether the text says it: all of its numbers, and at least this share of its telling words.
pub(crate) fn says(text: &str, said: &str, share_min: f64) -> bool {
    let (own, mut wanted) = (telling(text), telling(said));
    if wanted.is_empty() {
        // Little words alone: all of them must stand there.
        let (own, said) = (words(text), words(said));
        return !said.is_empty() && said.iter().all(|word| own.contains(word));
    }
    // They all stand there, and say nothing of the words around them.
    wanted.retain(|word| !is_number(word));
    let held = found_in(&wanted, &own) as f64;
    !wanted.is_empty() && held >= share_min * wanted.len() as f64 && numbers_stand(said, text)
}

/// Whether one text says little that the other doesn't.
pub(crate) fn repeats(said: &str, before: &str) -> bool {
    let (new, old) = (telling(said), telling(before));
    !new.is_empty() && found_in(&new, &old) as f64 >= 0.7 * new.len() as f64
}

/// The sentences that say most of a text, the best first: those whose words come often in it.
pub(crate) fn best_sentences(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        found.extend(sentences(line).into_iter().map(|range| at + range.start..at + range.end));
        at += line.len();
    }
    let mut often: BTreeMap<String, f64> = BTreeMap::new();
    for word in telling(text) {
        *often.entry(stem(&word)).or_insert(0.0) += 1.0;
    }
    let weigh = |(at, range): (usize, Range<usize>)| {
        let own = telling(&text[range.clone()]);
        let sum: f64 = own.iter().map(|word| often.get(&stem(word)).copied().unwrap_or(0.0)).sum();
        let first = if at == 0 { FIRST_COUNTS } else { 1.0 };
        let enough = own.len() >= SENTENCE_WORDS_MIN;
        // The mean alone would like short ones best.
        let weight = first * sum / (own.len() as f64 + 6.0);
        (if enough { weight } else { weight / 4.0 }, range)
    };
    let mut weighed: Vec<(f64, Range<usize>)> = found.into_iter().enumerate().map(weigh).collect();
    weighed.retain(|(_, range)| text[range.clone()].contains(char::is_alphanumeric));
    weighed.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    weighed.into_iter().map(|(_, range)| trimmed(text, range)).collect()
}

fn stem(word: &str) -> String {
    word.chars().take(5).collect()
}

/// Without the marks of a list before it and the blanks behind it.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let piece = &text[range.clone()];
    let bare = piece.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '*' | '•' | '#' | '>'));
    let start = range.start + piece.len() - bare.len();
    start..start + bare.trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_a_word_are_alike() {
        for (one, other, expected) in [
            ("close", "closed", true),
            ("close", "closing", true),
            ("end", "ends", true),
            ("city", "cities", true),
            ("close", "clover", false),
            ("rent", "repair", false),
            ("at", "ate", false),
            ("1920", "1921", false),
        ] {
            assert_eq!(alike(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn what_a_text_does_not_hold_it_does_not_say() {
        let text = "The shop opens at nine, on Saturdays until one. It sells 12 kinds of bread.";
        assert!(says(text, "The shop sells 12 kinds of bread.", 0.7));
        assert!(!says(text, "The shop sells 13 kinds of bread.", 0.7));
        assert!(!says(text, "The town library is closed while its heating is replaced.", 0.7));
        assert!(!says(text, "", 0.7) && !says(text, "It is that.", 0.7) && says(text, "It sells of", 0.7));
    }

    #[test]
    fn the_best_sentence_speaks_of_what_the_text_speaks_of() {
        let text = "Hello. The ferry to the island is cancelled. The engine of the ferry failed. We ate cake.";
        let best = best_sentences(text);
        assert_eq!(&text[best[0].clone()], "The ferry to the island is cancelled.");
        let list = "- one thing about the boiler\n- two";
        assert_eq!(&list[best_sentences(list)[0].clone()], "one thing about the boiler");
    }

    proptest! {
        #[test]
        fn sentences_stand_where_they_are_said_to(text in "[a-c A-B.!\n\\-*ü漢]{0,80}") {
            for range in best_sentences(&text) {
                prop_assert!(!text[range.clone()].is_empty());
                prop_assert_eq!(text[range.clone()].trim(), &text[range]);
            }
        }
    }
}
