//! Passages cover the text, in order and without overlap, whatever the document.

use super::*;
use crate::extract;
use proptest::prelude::*;

fn passages(name: &str, text: &str) -> (Document, Vec<Passage>) {
    let document = extract::read(name, text.as_bytes()).expect("it reads");
    let passages = chunk(&document);
    (document, passages)
}

fn covers(document: &Document, passages: &[Passage]) {
    let mut at = 0;
    for passage in passages {
        assert!(passage.span.start >= at && passage.span.end > passage.span.start, "{passage:?} after {at}");
        assert!(document.text[at..passage.span.start].trim().is_empty(), "text is left out before {passage:?}");
        assert!(!document.text[passage.span.clone()].trim().is_empty());
        at = passage.span.end;
    }
    assert!(document.text[at..].trim().is_empty(), "text is left out at the end");
}

#[test]
fn sections_become_passages_with_their_headings() {
    let body = "The boiler is serviced every year by the same firm, and the book lies beside it. ".repeat(5);
    let text = format!("# House\n\n## Heating\n\n{body}\n\n### Pump\n\n{body}\n\n## Water\n\n{body}\n");
    let (document, passages) = passages("house.md", &text);
    covers(&document, &passages);
    let headings: Vec<String> = passages.iter().map(|passage| passage.heading.join(" > ")).collect();
    assert_eq!(headings, ["House > Heating", "House > Heating > Pump", "House > Water"]);
}

#[test]
fn small_sections_stay_together_under_what_they_share() {
    let (document, passages) = passages("a.md", "# A\n\n## B\n\none\n\n## C\n\ntwo\n");
    covers(&document, &passages);
    assert_eq!(passages.len(), 1);
    assert_eq!(passages[0].heading, ["A"]);
}

#[test]
fn an_edited_paragraph_changes_few_passages() {
    let paragraph =
        |i: usize| format!("Paragraph {i} speaks about thing {i} and {}.\n\n", "some more of it ".repeat(8 + i % 7));
    let before: String = (0..60)
        .map(|i| format!("{}{}", if i % 6 == 0 { format!("## Part {i}\n\n") } else { String::new() }, paragraph(i)))
        .collect();
    let after = before.replace("thing 31 and", "another thing altogether, and also");
    let texts = |text: &str| -> Vec<String> {
        let (document, passages) = passages("a.md", text);
        passages.iter().map(|passage| document.text[passage.span.clone()].to_owned()).collect()
    };
    let (old, new) = (texts(&before), texts(&after));
    assert_ne!(before, after);
    let fresh = new.iter().filter(|text| !old.contains(text)).count();
    assert!((1..=3).contains(&fresh), "{fresh} of {} changed", new.len());
}

#[test]
fn a_function_is_headed_by_its_name() {
    let body = "    let total = price * count + shipping;\n".repeat(30);
    let text = format!("use std::fs;\n\n/// Adds up.\npub fn total() {{\n{body}}}\n\nfn other() {{\n{body}}}\n");
    let (document, passages) = passages("a.rs", &text);
    covers(&document, &passages);
    assert!(passages.iter().any(|passage| passage.heading == ["pub fn total()"]), "{passages:#?}");
    assert!(passages.iter().any(|passage| passage.heading == ["fn other()"]));
}

/// Right values are what the usual English word-piece vocabulary makes of these.
#[test]
fn no_script_is_counted_far_too_low() {
    for (text, right) in [
        ("The boiler is serviced every year by the same firm, and the book lies beside it.", 18),
        ("Договор аренды заканчивается в июне следующего года.", 44),
        ("Η σύμβαση μίσθωσης λήγει τον Ιούνιο.", 29),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  freehold.tar", 54),
    ] {
        let counted = tokens(text);
        assert!(counted * 10 >= right * 9 && counted <= right * 2, "{counted} for {right}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_is_covered(text in "([a-zA-Zäß日0-9 .,!?#*<>&;|`=-]{0,40}[\n \t]{0,3}){0,60}", name in 0..5usize) {
        let name = ["a.txt", "a.md", "a.html", "a.rs", "a.csv"][name];
        if let Ok(document) = extract::read(name, text.as_bytes()) {
            prop_assert_eq!(document.check(text.len()), Ok(()));
            covers(&document, &chunk(&document));
        }
    }

    #[test]
    fn endless_text_is_cut_to_size(word in "[a-zA-Z0-9äß日]{1,30}", space in prop::bool::ANY, count in 1..3000usize) {
        let text = if space { format!("{word} ").repeat(count) } else { word.repeat(count) };
        let (document, passages) = passages("a.txt", &text);
        covers(&document, &passages);
        for passage in &passages {
            prop_assert!(tokens(&document.text[passage.span.clone()]) <= 900);
        }
    }
}
