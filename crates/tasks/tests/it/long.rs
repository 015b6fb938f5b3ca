//! Texts that are longer than the window: every part is read, in order, and what was planned is told.

use crate::played::{Played, said, text_of};
use base::Code;
use freehold_tasks::{Segment, segments};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

fn book(paragraphs: usize) -> String {
    let paragraph =
        |number: usize| format!("Paragraph {number} tells of thing{number} and of nothing else at all.\n\n");
    (0..paragraphs).map(paragraph).collect()
}

#[test]
fn a_long_text_is_summarized_part_by_part_and_no_part_is_left_out() {
    let model = Played::new(|call| {
        let text = text_of(call);
        let things: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with("thing")).take(3).collect();
        Ok(said(&format!("- The {} matters.", things.join(" and "))))
    });
    let model = Played { window: 600, ..model };
    let text = book(200);
    let done = model.run("summarize", json!({"text": text})).expect("done");
    assert!(done.plan.parts > 3 && done.plan.passes >= 2, "{:?}", done.plan);
    assert_eq!(done.plan.tokens, Some(2200));
    let calls = model.calls.borrow();
    assert_eq!(done.plan.calls as usize, calls.len());
    let read: String = calls.iter().take(done.plan.parts as usize).map(text_of).collect();
    assert_eq!(read, text, "the parts are the text, in its order");
}

#[test]
fn a_text_that_surely_fits_is_not_counted() {
    let model = Played::of_text(|_| "- It matters.".into());
    let model = Played { window: 100_000, ..model };
    let done = model.run("summarize", json!({"text": book(20)})).expect("done");
    assert_eq!((done.plan.parts, done.plan.tokens, *model.counts.borrow()), (1, None, 0));
}

#[test]
fn a_small_model_gets_small_parts_whatever_its_window() {
    let model = Played::of_text(|_| "- It matters.".into());
    let model = Played { window: 100_000, parameters: 135_000_000, ..model };
    let done = model.run("summarize", json!({"text": book(200)})).expect("done");
    assert!(done.plan.parts > 2, "{:?}", done.plan);
}

#[test]
fn a_preference_makes_parts_larger_or_smaller() {
    let parts = |preference: &str| {
        let model = Played { window: 100_000, ..Played::of_text(|_| "- It matters.".into()) };
        let options = json!({"text": book(600), "preference": preference});
        model.run("summarize", options).expect("done").plan.parts
    };
    assert_eq!((parts("auto"), parts("speed")), (1, 1));
    assert!(parts("capability") >= 3);
    let small = |preference: &str| {
        let model = Played { window: 100_000, parameters: 135_000_000, ..Played::of_text(|_| "- It matters.".into()) };
        model.run("summarize", json!({"text": book(600), "preference": preference})).expect("done").plan.parts
    };
    assert!(small("auto") > small("speed"));
}

#[test]
fn a_window_that_the_task_itself_fills_is_a_fault_with_both_numbers() {
    let model = Played::of_text(|_| "x".into());
    let model = Played { window: 60, ..model };
    let fault = model.run("summarize", json!({"text": book(200)})).expect_err("no room");
    assert_eq!(fault.code, Code::ContextOverflow);
    assert_eq!(fault.shortage.expect("numbers").available, 60);
}

#[test]
fn summaries_that_never_get_shorter_end() {
    let model = Played::of_text(|text| format!("- {}", text.replace('\n', " ").chars().take(200).collect::<String>()));
    let model = Played { window: 420, ..model };
    let outcome = model.run("summarize", json!({"text": book(400)}));
    // It may get there or fail; it does not go on for ever.
    assert!(outcome.is_ok() || outcome.is_err_and(|fault| fault.code == Code::TaskFailed));
}

#[test]
fn fields_of_a_long_text_are_put_together() {
    let schema = json!({"type": "object", "required": ["start"], "additionalProperties": false, "properties": {
        "start": {"type": "string"}, "end": {"type": "string"}, "things": {"type": "array", "items": {"type": "string"}}}});
    let model = Played::new(|call| {
        let text = text_of(call);
        let start = if text.contains("Paragraph 0 ") { json!("Paragraph 0") } else { json!(null) };
        let thing = text.split_whitespace().find(|word| word.starts_with("thing")).unwrap_or("none").to_owned();
        Ok(said(&json!({"start": start, "end": null, "things": [thing]}).to_string()))
    });
    let model = Played { window: 1600, ..model };
    let done = model.run("extract", json!({"text": book(200), "schema": schema, "tokensMax": 200})).expect("done");
    let data = &serde_json::to_value(&done.result).expect("plain data")["data"];
    assert_eq!(data["start"], "Paragraph 0");
    assert!(data.get("end").is_none(), "what no part holds is left out, not null: {data}");
    assert_eq!(data["things"].as_array().map(Vec::len), Some(done.plan.parts as usize));
}

#[test]
fn a_question_is_put_to_every_part() {
    let model =
        Played::of_text(|text| if text.contains("thing150 ") { "It is thing150.".into() } else { "unknown".into() });
    let model = Played { window: 600, ..model };
    let done = model.run("ask", json!({"text": book(200), "question": "Which thing?"})).expect("done");
    let found = serde_json::to_value(&done.result).expect("plain data");
    assert_eq!(found["answer"], "It is thing150.");
    assert!(found["quote"]["text"].as_str().is_some_and(|quote| quote.contains("thing150")), "{found}");
    assert!(done.plan.parts > 3 && done.plan.calls == done.plan.parts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A model that repeats its piece changes nothing, and one that answers anything changes no byte of what lies
    /// between the pieces.
    #[test]
    fn what_lies_between_stays(text in "[a-d<b>/`#>|*\n \\-0-3.)x漢]{0,200}", answer in "[a-z<b> ]{0,30}") {
        let same = Played::of_text(str::to_owned);
        let done = same.run("rewrite", json!({"text": text})).expect("done");
        let made = serde_json::to_value(&done.result).expect("plain data");
        prop_assert_eq!(made["text"].as_str(), Some(text.as_str()));

        let other = Played::of_text(move |_| answer.clone());
        let done = other.run("rewrite", json!({"text": text, "length": "longer"})).expect("done");
        let made = serde_json::to_value(&done.result).expect("plain data");
        let made = made["text"].as_str().expect("text");
        let mut at = 0;
        for segment in segments(&text) {
            if let Segment::Keep(range) = segment {
                let kept = &text[range];
                let found = made[at..].find(kept);
                prop_assert!(found.is_some(), "{:?} is gone from {:?}", kept, made);
                at += found.unwrap_or(0) + kept.len();
            }
        }
    }

    /// Each byte of a text is shown to the model, whatever is asked for.
    #[test]
    fn every_word_of_a_text_is_read(words in prop::collection::vec("[a-z]{1,9}", 1..400), window in 330_u32..2000) {
        let text = words.join(" ");
        let model = Played::of_text(|_| "unknown".into());
        let model = Played { window, ..model };
        model.run("ask", json!({"text": text, "question": "what?"})).expect("done");
        let read: String = model.calls.borrow().iter().map(text_of).collect();
        let (read, all): (BTreeSet<&str>, BTreeSet<&str>) = (read.split(' ').collect(), words.iter().map(String::as_str).collect());
        prop_assert_eq!(read, all);
    }
}
