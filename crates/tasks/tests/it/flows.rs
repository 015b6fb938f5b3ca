//! Each task once through, and what becomes of answers that can't be used.

use crate::played::{Played, said};
use base::{Code, Finish, Form};
use freehold_tasks::{Completion, NAMES, Step};
use serde_json::{Value, json};

fn result(done: &freehold_tasks::Done) -> Value {
    serde_json::to_value(&done.result).expect("plain data")
}

#[test]
fn blank_input_is_answered_without_a_model() {
    let model = Played::new(|_| panic!("no model is needed"));
    for (name, more, expected) in [
        ("summarize", json!({}), json!({"summary": ""})),
        ("title", json!({}), json!({"title": ""})),
        ("rewrite", json!({}), json!({"text": " \n", "left": 0})),
        ("translate", json!({"targetLanguage": "de"}), json!({"text": " \n", "left": 0})),
        ("proofread", json!({}), json!({"correctedInput": "", "corrections": [], "left": 0})),
        ("ask", json!({"question": "what?"}), json!({"answer": null, "quote": null})),
        ("detect-language", json!({}), json!({"languages": [{"detectedLanguage": "und", "confidence": 1.0}]})),
        (
            "normalize",
            json!({"kind": "date"}),
            json!({"value": null, "by": "none", "note": "there is nothing to read"}),
        ),
    ] {
        let mut options = more.as_object().expect("an object").clone();
        options.insert("text".into(), json!(" \n"));
        let done = model.run(name, Value::Object(options)).expect(name);
        assert_eq!((result(&done), done.plan.calls), (expected, 0), "{name}");
    }
    let done = model.run("classify", json!({"text": " ", "labels": ["a", "b"]})).expect("classify");
    assert_eq!(result(&done)["classes"][0], json!({"id": "unknown", "confidence": 1.0}));
}

#[test]
fn the_same_language_needs_no_translation() {
    let model = Played::new(|_| panic!("no model is needed"));
    let text = "Der Kessel muss jedes Jahr vor Beginn der Heizperiode gewartet werden.";
    for options in [
        json!({"text": text, "sourceLanguage": "de", "targetLanguage": "de-AT"}),
        json!({"text": text, "targetLanguage": "de"}),
    ] {
        assert_eq!(result(&model.run("translate", options).expect("done"))["text"], text);
    }
    let fault = model.run("translate", json!({"text": "ok", "targetLanguage": "de"})).expect_err("no language");
    assert!(fault.message.contains("sourceLanguage"), "{fault}");
}

#[test]
fn summaries_keep_to_their_form() {
    let model = Played::of_text(|_| "- one\n- two\n- two\n- three\n- four".into());
    let done = model.run("summarize", json!({"text": "Some text."})).expect("done");
    assert_eq!(result(&done)["summary"], "- one\n- two\n- three");
    let done = model.run("summarize", json!({"text": "Some text.", "format": "plain-text"})).expect("done");
    assert_eq!(result(&done)["summary"], "one\ntwo\nthree");
    let calls = model.calls.borrow();
    assert!(matches!(calls[0].shape.form(), Form::Regex(regex) if regex.contains("{0,2}")), "{:?}", calls[0].shape);
    assert!(calls.iter().all(|call| call.tokens_max < 500));
}

#[test]
fn an_answer_that_goes_round_in_circles_is_tried_once_more_with_another_sampler() {
    let model = Played::new(|call| {
        let finish = if call.temperature > 0.0 { Finish::EndOfTurn } else { Finish::Loop };
        Ok(Completion { text: "A text about the sea.".into(), finish })
    });
    let done = model.run("title", json!({"text": "The sea is wide."})).expect("done");
    assert_eq!(result(&done)["title"], "A text about the sea");
    assert_eq!(done.plan.calls, 2);
}

#[test]
fn classes_come_from_likelihoods_and_nothing_is_generated() {
    let mut model = Played::new(|_| panic!("nothing is generated"));
    // It likes `sport` anyway, and more than that behind texts about games.
    model.likely = |text, option| match (text, option) {
        (text, "sport") if text.contains("goal") => -0.1,
        (_, "sport") => -0.9,
        (text, "politics") if text.contains("vote") => -2.0,
        (_, _) => -6.0,
    };
    for (text, expected) in [("A late goal.", "sport"), ("The vote is on Sunday.", "politics"), ("Hello.", "sport")] {
        let labels = json!(["sport", {"id": "politics", "description": "parties and votes"}]);
        let options = json!({"text": text, "labels": labels, "unknown": false});
        let classes = result(&model.run("classify", options).expect("done"))["classes"].clone();
        assert_eq!(classes[0]["id"], expected, "{classes}");
    }
    let scored = model.scored.borrow();
    assert!(scored.iter().all(|messages| messages[0].content.contains("- politics: parties and votes")));
}

#[test]
fn what_a_small_model_leaves_open_is_judged_the_other_way_round() {
    let mut model = Played::new(|_| panic!("nothing is generated"));
    model.parameters = 135_000_000;
    // It can't tell the words behind the text apart, but finds the text likelier behind the one than the other.
    model.likely = |behind, option| match behind {
        "Write a short text. Its label is: negative" if option.contains("cold") => -20.0,
        "Write a short text. Its label is: positive" if option.contains("cold") => -25.0,
        "Write a short text." => -24.0,
        _ => -1.0,
    };
    let options = json!({"text": "The soup was cold.", "labels": ["positive", "negative"]});
    let done = model.run("classify", options).expect("done");
    assert_eq!(result(&done)["classes"][0]["id"], "negative");
    assert_eq!(result(&done)["classes"][1]["id"], "unknown");
    assert_eq!(done.plan.calls, 4, "the text, and behind each label and none");
}

#[test]
fn what_stays_open_is_judged_in_other_words_too() {
    let mut model = Played::new(|_| panic!("nothing is generated"));
    model.parameters = 135_000_000;
    // The first wording hardly tells the two apart, and wrongly; the second does.
    model.likely = |behind, option| match behind {
        "Write a short text. Its label is: negative" if option.contains("cold") => -20.5,
        "Write a short text. Its label is: positive" if option.contains("cold") => -20.0,
        "Write one sentence about this: negative" if option.contains("cold") => -18.0,
        "Write one sentence about this: positive" if option.contains("cold") => -24.0,
        _ => -1.0,
    };
    let options = json!({"text": "The soup was cold.", "labels": ["positive", "negative"], "unknown": false});
    let done = model.run("classify", options).expect("done");
    assert_eq!(result(&done)["classes"][0]["id"], "negative");
    assert_eq!(done.plan.calls, 5, "the text, and behind each label in both wordings");
}

#[test]
fn what_is_extracted_fits_the_schema_and_has_its_places() {
    let schema = json!({"type": "object", "properties": {"who": {"type": "string"}, "sum": {"type": "number"}},
        "required": ["who", "sum"], "additionalProperties": false});
    let model = Played::of_text(|_| r#"{"who": "Anna Berg", "sum": 1250}"#.into());
    let text = "Anna Berg owes 1,250.00 EUR.";
    let done = model.run("extract", json!({"text": text, "schema": schema, "spans": true})).expect("done");
    let found = result(&done);
    assert_eq!(found["data"], json!({"who": "Anna Berg", "sum": 1250}));
    assert_eq!(found["spans"]["/who"]["startIndex"], 0);
    assert_eq!(found["spans"]["/sum"]["startByte"], 15);
    assert!(matches!(model.calls.borrow()[0].shape.form(), Form::JsonSchema(_)));

    let wrong = Played::of_text(|_| r#"{"who": 3, "sum": 1}"#.into());
    let fault = wrong.run("extract", json!({"text": text, "schema": schema})).expect_err("it doesn't fit");
    assert_eq!(fault.code, Code::TaskFailed);
    let cut = Played::new(|_| Ok(Completion { text: r#"{"who": "An"#.into(), finish: Finish::StructureIncomplete }));
    let fault = cut.run("extract", json!({"text": text, "schema": schema})).expect_err("it isn't whole");
    assert!(fault.message.contains("whole") && fault.hints.iter().any(|hint| hint.contains("tokensMax")), "{fault:?}");
}

#[test]
fn a_schema_is_compiled_when_the_task_runs_and_not_when_it_is_made() {
    let options = json!({"text": "x", "schema": {"type": "nothing"}});
    let task = freehold_tasks::Task::parse("extract", options.as_object().expect("an object").clone()).expect("small");
    let model = Played::new(|_| panic!("no model is asked"));
    let fault = task.run(&model, &mut |_| {}).expect_err("no such type");
    assert_eq!(fault.code, Code::InvalidAsk);
    assert!(fault.message.contains("schema"), "{fault}");
}

#[test]
fn a_schema_that_goes_round_is_refused_before_a_blank_text_is_put_to_it() {
    let model = Played { window: 600, ..Played::of_text(|_| "{}".into()) };
    let options = json!({"text": " \n".repeat(4000), "schema": {"allOf": [{"$ref": "#"}]}, "tokensMax": 100});
    let fault = model.run("extract", options).expect_err("it goes round");
    assert_eq!(fault.code, Code::InvalidAsk);
}

#[test]
fn corrections_have_places_and_kinds() {
    let model = Played::of_text(|text| text.replace("recieve", "receive").replace("berlin", "Berlin"));
    let text = "😀 We recieve it.\n\nIn berlin.";
    let done = model.run("proofread", json!({"text": text, "includeCorrectionTypes": true})).expect("done");
    let found = result(&done);
    assert_eq!(found["correctedInput"], "😀 We receive it.\n\nIn Berlin.");
    let first = &found["corrections"][0];
    assert_eq!((first["startIndex"].as_u64(), first["endIndex"].as_u64()), (Some(6), Some(13)));
    assert_eq!((&first["correction"], &first["types"]), (&json!("receive"), &json!(["spelling"])));
    assert_eq!(found["corrections"][1]["types"], json!(["capitalization"]));
}

#[test]
fn a_piece_that_came_out_wrong_stays_and_is_told_of() {
    let model = Played::of_text(|text| if text.starts_with("Second") { "Paris.".into() } else { text.to_uppercase() });
    let text = "First paragraph.\n\nSecond paragraph asks: what is the capital of France, by the way?\n\nThird one.\n";
    let done = model.run("rewrite", json!({"text": text, "tone": "more-formal"})).expect("done");
    let found = result(&done);
    assert_eq!(found["left"], 1);
    assert_eq!(
        found["text"],
        "FIRST PARAGRAPH.\n\nSecond paragraph asks: what is the capital of France, by the way?\n\nTHIRD ONE.\n"
    );
    assert!(done.notices[0].starts_with("1 of 3 pieces"), "{:?}", done.notices);
}

#[test]
fn an_answer_is_not_taken_for_a_correction() {
    let model = Played::of_text(|_| "The capital of France is Paris, which lies on the river Seine.".into());
    let text = "what is the capitol of france and on which river does it lie";
    let done = model.run("proofread", json!({"text": text})).expect("done");
    assert_eq!((result(&done)["correctedInput"].as_str(), &result(&done)["left"]), (Some(text), &json!(1)));
}

#[test]
fn what_rules_can_read_costs_no_call_and_the_rest_is_checked() {
    let model = Played::of_text(|text| match text {
        "Christmas Eve 2026" => "2026-12-24".into(),
        "the last of February 2026" => "2026-02-30".into(),
        _ => "unknown".into(),
    });
    for (kind, text, value, by, calls) in [
        ("date", "3 March 2026", json!("2026-03-03"), "rule", 0),
        ("date", "3/4/2026", Value::Null, "none", 0),
        ("date", "the third of March, twenty twenty-six", json!("2026-03-03"), "rule", 0),
        ("date", "Christmas Eve 2026", json!("2026-12-24"), "model", 1),
        ("date", "the last of February 2026", Value::Null, "none", 1),
        ("amount", "fifty euros and twenty cents", json!("50.20 EUR"), "rule", 0),
        ("unit", "six feet", json!("1.8288 m"), "rule", 0),
        ("amount", "1.234,50 €", json!("1234.50 EUR"), "rule", 0),
        ("amount", "a lot", Value::Null, "none", 1),
        ("phone", "call me maybe", Value::Null, "none", 0),
    ] {
        let done = model.run("normalize", json!({"text": text, "kind": kind})).expect(text);
        let found = result(&done);
        assert_eq!((&found["value"], &found["by"], done.plan.calls), (&value, &json!(by), calls), "{text}: {found}");
    }
}

#[test]
fn a_small_model_is_not_believed_what_the_text_does_not_say() {
    let small = |answer: &'static str| Played { parameters: 135_000_000, ..Played::of_text(move |_| answer.into()) };
    let text = "The rent is 900 euros a month. The lease ends on 31 March 2027, and Anna Berg has the key.";
    let ask = |answer, question: &str| {
        let done = small(answer).run("ask", json!({"text": text, "question": question})).expect("done");
        result(&done)["answer"].clone()
    };
    assert_eq!(ask("It ends on 31 March 2027.", "When does the lease end?"), "It ends on 31 March 2027.");
    let lease = "The lease ends on 31 March 2027, and Anna Berg has the key.";
    assert_eq!(ask("It ends at noon on Saturdays.", "When does the lease end?"), lease);
    assert_eq!(ask("unknown", "When does the lease end?"), lease);
    assert_eq!(ask("By Bert.", "Who painted the kitchen?"), Value::Null);
    let leaked = small("The town library is closed from Monday to Thursday.");
    for (name, field) in [("summarize", "summary"), ("title", "title")] {
        let found = result(&leaked.run(name, json!({"text": text})).expect("done"));
        let said = found[field].as_str().expect("a text");
        assert!(
            !said.contains("library") && text.contains(said.trim_start_matches("- ").trim_end_matches('…')),
            "{said}"
        );
    }
    let date = json!({"text": "the last of February 2026", "kind": "date"});
    assert_eq!(result(&small("2026-01-01").run("normalize", date).expect("done"))["value"], Value::Null);
    let proofread = json!({"text": "My brother recieved 9 letters."});
    let found = result(&small("Your brother received 10 letters.").run("proofread", proofread).expect("done"));
    assert_eq!((&found["correctedInput"], &found["left"]), (&json!("My brother received 9 letters."), &json!(1)));
    let rewrite = json!({"text": "hey, the kids can't come at 3", "tone": "more-formal"});
    let found = result(&small("I am glad to be here.").run("rewrite", rewrite).expect("done"));
    assert_eq!((&found["text"], &found["left"]), (&json!("Hello, the children cannot come at 3"), &json!(0)));
}

#[test]
fn a_small_model_copies_values_from_the_text() {
    let model = Played { parameters: 135_000_000, ..Played::of_text(|_| r#"{"who": "Anna Berg", "sum": 900}"#.into()) };
    let schema = json!({"type": "object", "properties": {"who": {"type": "string"}, "sum": {"type": "number"}}});
    let options = json!({"text": "Anna Berg pays 900 euros.", "schema": schema, "spans": true});
    let found = result(&model.run("extract", options).expect("done"));
    assert_eq!(found["spans"]["/who"]["startByte"], 0);
    let calls = model.calls.borrow();
    let Form::JsonSchema(schema) = calls[0].shape.form() else { panic!("{:?}", calls[0].shape) };
    assert!(schema.contains("Anna") && schema.contains(r#""enum":[900]"#), "{schema}");
}

#[test]
fn answers_rest_on_a_sentence_of_the_text() {
    let model =
        Played::of_text(|text| if text.contains("lease") { "It ends in May 2027.".into() } else { "Unknown.".into() });
    let options = json!({"text": "Rent is 900 EUR. The lease ends in May 2027.", "question": "When does it end?"});
    let found = result(&model.run("ask", options).expect("done"));
    assert_eq!(
        (&found["answer"], &found["quote"]["text"]),
        (&json!("It ends in May 2027."), &json!("The lease ends in May 2027."))
    );
    let found = result(&model.run("ask", json!({"text": "Nothing here.", "question": "When?"})).expect("done"));
    assert_eq!(found["answer"], Value::Null);
}

#[test]
fn the_plan_comes_first_and_the_text_comes_whole() {
    let model = Played::of_text(str::to_uppercase);
    let text = "One is here.\n\n```\ncode\n```\n\nTwo is there.\n";
    let mut steps = Vec::new();
    let done = model.run_with("rewrite", json!({"text": text}), &mut |step| steps.push(step)).expect("done");
    assert!(matches!(steps[0], Step::Plan(plan) if plan.parts == 2 && plan.calls == 0), "{steps:?}");
    let streamed: String = steps
        .iter()
        .filter_map(|step| match step {
            Step::Text(text) => Some(text.as_str()),
            Step::Plan(_) | Step::Progress { .. } => None,
        })
        .collect();
    assert_eq!(json!(streamed), result(&done)["text"]);
}

#[test]
fn a_fault_of_the_model_is_the_tasks() {
    let model = Played::new(|_| Err(base::Fault::new(Code::WorkerDied, "it died")));
    let fault = model.run("title", json!({"text": "x"})).expect_err("a fault");
    assert_eq!(fault.code, Code::WorkerDied);
    let cancelled = Played::new(|_| Ok(Completion { finish: Finish::Cancelled, ..said("x") }));
    assert_eq!(cancelled.run("title", json!({"text": "x"})).expect_err("a fault").code, Code::Cancelled);
    assert_eq!(NAMES.len(), 10);
}
