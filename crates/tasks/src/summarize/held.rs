//! What of a small model's summary the text itself says; where too little is left, sentences of the text stand in. Pure.

use super::{Limit, within};
use crate::grounds::{best_sentences, repeats, says};
use crate::sentence::sentences;

/// So much of a sentence's telling words must stand in the text.
const SAID_SHARE_MIN: f64 = 0.7;
/// A headline says things shorter.
const HEADLINE_SHARE_MIN: f64 = 0.6;
/// LIMIT: words of a sentence that is taken from the text; a longer one is cut at a pause.
const TAKEN_WORDS_MAX: usize = 45;

impl Limit {
    /// The same without what the text doesn't say, filled up from the text where the model said too little.
    pub(super) fn held(self, made: &str, text: &str) -> String {
        match self {
            Limit::Words(count) => {
                if says(text, made, HEADLINE_SHARE_MIN) {
                    return made.to_owned();
                }
                best_sentences(text).first().map_or_else(String::new, |range| headline(&text[range.clone()], count))
            }
            Limit::Bullets(most) => {
                let own = made.lines().map(|line| held_sentences(line.trim_start_matches("- "), text));
                let kept = filled(own.collect(), text, |all| all.div_ceil(2).clamp(1, most));
                kept.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
            }
            Limit::Sentences(most) | Limit::Paragraph(most) => {
                let own = sentences(made).into_iter().map(|range| held_sentences(&made[range], text));
                filled(own.collect(), text, |all| all.div_ceil(2).clamp(1, most.div_ceil(2))).join(" ")
            }
        }
    }
}

/// The sentences of some words that the text says.
fn held_sentences(words: &str, text: &str) -> String {
    let said = sentences(words).into_iter().map(|range| words[range].trim());
    said.filter(|one| says(text, one, SAID_SHARE_MIN)).collect::<Vec<_>>().join(" ")
}

/// Different things that are said, at least as many as `least` wants of a text with so many sentences.
fn filled(own: Vec<String>, text: &str, least: impl Fn(usize) -> usize) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for one in own.into_iter().filter(|one| !one.is_empty()) {
        if !kept.iter().any(|before| repeats(&one, before)) {
            kept.push(one);
        }
    }
    let best = best_sentences(text);
    let wanted = least(best.len());
    let mut taken: Vec<(usize, String)> = Vec::new();
    for range in best {
        if kept.len() + taken.len() >= wanted {
            break;
        }
        let sentence = shortened(&text[range.clone()]);
        let said = |before: &String| repeats(&sentence, before) || repeats(before, &sentence);
        if !kept.iter().chain(taken.iter().map(|(_, one)| one)).any(said) {
            taken.push((range.start, sentence));
        }
    }
    // In the order of the text.
    taken.sort_unstable();
    kept.extend(taken.into_iter().map(|(_, sentence)| sentence));
    kept
}

fn shortened(sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    if words.len() <= TAKEN_WORDS_MAX {
        return words.join(" ");
    }
    let kept = within(&words[..TAKEN_WORDS_MAX]).join(" ");
    format!("{}.", kept.trim_end_matches(['.', ',', ';', ':', '—', '–', '-']))
}

fn headline(sentence: &str, count: usize) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let kept = if words.len() > count { within(&words[..count]) } else { &words[..] };
    kept.join(" ").trim_end_matches(['.', ',', ';', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "The ferry to the island is cancelled this weekend. Its engine failed on Thursday with 43 people on \
        board. A part has to come from Norway. The company hopes that the ferry runs again on Monday.";

    #[test]
    fn what_the_text_does_not_say_goes_and_its_own_sentences_stand_in() {
        let leaked = "The town library is closed from Monday to Friday.";
        let ferry = "The ferry to the island is cancelled this weekend.";
        assert_eq!(Limit::Sentences(1).held(leaked, TEXT), ferry);
        assert_eq!(
            Limit::Sentences(1).held("The engine of the ferry failed.", TEXT),
            "The engine of the ferry failed."
        );
        assert_eq!(Limit::Sentences(1).held("The engine failed with 44 people.", TEXT), ferry);
        let bullets = Limit::Bullets(3).held(&format!("- {leaked}\n- The ferry's engine failed on Thursday."), TEXT);
        assert_eq!(bullets.lines().count(), 2, "{bullets}");
        assert!(
            bullets.starts_with("- The ferry's engine failed on Thursday.\n- The ferry to the island"),
            "{bullets}"
        );
        assert_eq!(Limit::Words(5).held("Library closed", TEXT), "The ferry to the island");
        assert_eq!(Limit::Words(5).held("Ferry to island cancelled", TEXT), "Ferry to island cancelled");
    }

    #[test]
    fn the_same_is_not_said_twice() {
        let twice = "- The ferry is cancelled this weekend.\n- The ferry to the island is cancelled.\n- A part comes from Norway.";
        let bullets = Limit::Bullets(3).held(twice, TEXT);
        assert_eq!(bullets.lines().count(), 2, "{bullets}");
    }

    proptest! {
        #[test]
        fn bounds_are_kept(made in "[a-d .\n-]{0,60}", text in "[a-d A-D.!\n]{0,120}", count in 1_usize..6) {
            prop_assert!(Limit::Words(count).held(&made, &text).split_whitespace().count() <= count.max(made.split_whitespace().count()));
            let own = made.lines().count();
            prop_assert!(Limit::Bullets(count).held(&made, &text).lines().count() <= count.max(own));
        }
    }
}
