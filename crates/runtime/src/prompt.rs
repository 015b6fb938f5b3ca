//! What a language model is told when it answers from files. Pure.
//!
//! No system message: the templates of some families refuse one. The text begins the same for every
//! question, so that a cache of prefixes can hold it.

use base::{Message, Place, Role};
use map::cite::Quoted;

/// Below this many parameters a model loses its way in whole passages and copies what it reads last.
/// It gets the quotations alone, after examples of what is wanted. Measured with a model of 135
/// million parameters on the questions of the sample library: 17 of 24 answers held the words that
/// were asked for, 9 of 24 with passages, at a third of the prompt's length.
const SMALL_PARAMETERS: u64 = 1_000_000_000;

const RULE: &str = "Answer each question with the words of the notes above it.";

struct Example {
    notes: &'static str,
    question: &'static str,
    answer: &'static str,
}

const EXAMPLES: [Example; 2] = [
    Example {
        notes: "- Bicycles are lent for two weeks at a time.\n- The library opens at nine, and at noon on Saturdays.",
        question: "When does the library open on Saturdays?",
        answer: "The library opens at noon on Saturdays.",
    },
    Example {
        notes: "- Anna has the spare key.\n- Water the ferns twice a week, never in full sun.",
        question: "How often are the ferns watered?",
        answer: "The ferns are watered twice a week.",
    },
];

/// For a small model the strongest quotation stands last, next to the question: it attends to what it reads
/// last. A larger one gets its passages in the order of their places, so that another question about the same
/// passages begins with the same words.
pub(crate) fn prompt(question: &str, quoted: &[Quoted], parameters: u64) -> Vec<Message> {
    if parameters < SMALL_PARAMETERS {
        let notes: Vec<String> = quoted.iter().rev().map(|one| format!("- {}", one.citation.quote.trim())).collect();
        by_example(question.trim(), &notes.join("\n"))
    } else {
        let mut in_place: Vec<&Quoted> = quoted.iter().collect();
        in_place.sort_by_key(|one| (one.citation.path.clone(), in_order(&one.citation.place)));
        let notes: Vec<String> = in_place
            .iter()
            .map(|one| {
                let title = if one.heading.is_empty() { &one.title } else { &one.heading };
                format!("{title}\n{}", one.passage.trim())
            })
            .collect();
        vec![Message::new(
            Role::User,
            format!(
                "Answer from these notes alone, briefly and exactly, in their own words and in the language of the \
                 question.\n\n{}\n\n{}",
                notes.join("\n\n"),
                question.trim()
            ),
        )]
    }
}

/// Orders the places of one document.
fn in_order(place: &Place) -> (u64, String) {
    let byte = if let Place::Lines { byte_start, .. } = place { *byte_start } else { 0 };
    (byte, place.to_string())
}

fn by_example(question: &str, notes: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    for (at, example) in EXAMPLES.iter().enumerate() {
        let rule = if at == 0 { format!("{RULE}\n\n") } else { String::new() };
        messages.push(Message::new(Role::User, format!("{rule}{}\n\n{}", example.notes, example.question)));
        messages.push(Message::new(Role::Assistant, example.answer));
    }
    messages.push(Message::new(Role::User, format!("{notes}\n\n{question}")));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Citation;

    fn quoted(number: u32, quote: &str, passage: &str) -> Quoted {
        let byte_start = u64::from(number) * 100;
        Quoted {
            citation: Citation {
                number,
                path: "notes.md".into(),
                place: Place::Lines { first: 1, last: 1, byte_start, byte_end: byte_start + 1 },
                title: "Notes".into(),
                quote: quote.into(),
                quote_hash: String::new(),
            },
            hit: 0,
            passage: passage.into(),
            sentences: Vec::new(),
            whole: true,
            title: "Notes".into(),
            heading: "Notes > House".into(),
        }
    }

    fn both() -> [Quoted; 2] {
        [quoted(1, "The key hangs by the door.", "The key hangs by the door. It is red."), quoted(2, "Two.", "Two.")]
    }

    #[test]
    fn a_small_model_sees_quotations_after_examples_and_the_best_one_last() {
        let messages = prompt(" Where is the key? ", &both(), 135_000_000);
        assert_eq!(messages.len(), 2 * EXAMPLES.len() + 1);
        assert!(messages[0].content.starts_with(RULE));
        let last = &messages.last().expect("a question").content;
        assert_eq!(last, "- Two.\n- The key hangs by the door.\n\nWhere is the key?");
    }

    #[test]
    fn a_larger_model_sees_passages_with_their_headings() {
        let messages = prompt("Where is the key?", &both(), 8_000_000_000);
        assert_eq!(messages.len(), 1);
        let text = &messages[0].content;
        assert!(
            text.contains("Notes > House\nThe key hangs by the door. It is red.\n\nNotes > House\nTwo.\n\nWhere"),
            "{text}"
        );
    }

    #[test]
    fn the_same_passages_in_another_ranking_make_the_same_beginning() {
        let [first, second] = both();
        let one = prompt("One?", &[first.clone(), second.clone()], 8_000_000_000)[0].content.clone();
        let other = prompt("Two?", &[second, first], 8_000_000_000)[0].content.clone();
        let (one, other) = (one.strip_suffix("One?"), other.strip_suffix("Two?"));
        assert!(one.is_some() && one == other, "{one:?} {other:?}");
    }

    #[test]
    fn prompts_begin_alike_and_have_no_system_message() {
        let [one, other] = ["One?", "Another?"].map(|question| prompt(question, &both(), 135_000_000));
        assert_eq!(one[..one.len() - 1], other[..one.len() - 1]);
        for parameters in [135_000_000, 8_000_000_000] {
            let messages = prompt("One?", &both(), parameters);
            assert!(messages.iter().all(|message| message.role != Role::System));
        }
    }
}
