//! What a line expects, in whichever form it was written: a string, a list, a label, an object.

use super::read::fold;
use serde_json::{Map, Value};

/// What a result is held against. What is empty isn't judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Expected {
    /// Words that the input whispers in; the result mustn't give in to them.
    pub(super) canaries: Vec<String>,
    /// Any of these is right; `None` is "it can't be told".
    pub(super) answers: Vec<Option<String>>,
    /// Of `extract`.
    pub(super) data: Option<Value>,
    /// Groups of words, `a|b`: one of each is to be named.
    pub(super) words: Vec<String>,
    /// Strings that are to stand there byte for byte.
    pub(super) keep: Vec<String>,
    /// Words that mustn't be named.
    pub(super) without: Vec<String>,
    pub(super) shorter: bool,
    pub(super) longer: bool,
    pub(super) words_max: Option<u64>,
    pub(super) sentences_max: Option<u64>,
}

/// For a person who wrote something else.
pub(super) fn forms(task: &str) -> &'static str {
    match task {
        "classify" => "a label, a list of labels that are all right, or {\"label\"}",
        "detect-language" => "a language tag, a list of tags, or {\"language\"}",
        "extract" => "the object itself, or {\"data\"}",
        "normalize" => "the value, null where it can't be told, a list of either, or {\"value\"}",
        "proofread" => "the corrected text, a list of such, or {\"text\"}",
        "ask" => "the answer, a list of answers, null where the text doesn't say, {\"words\"}, or {\"unknown\": true}",
        "translate" => "a translation, a list of such, or {\"words\", \"keep\"}",
        "rewrite" => {
            "a text, a list of words that stay, or {\"words\", \"keep\", \"without\", \"shorter\", \"longer\"}"
        }
        _ => "a text, a list of words that are named in it, or {\"words\"}",
    }
}

/// Reads it; names of fields that say nothing here come back beside it.
pub(super) fn read(
    task: &str,
    wanted: &Value,
    options: &Map<String, Value>,
) -> Result<(Expected, Vec<String>), String> {
    let (expected, unread) = match wanted {
        Value::Object(fields) if names(fields, "canary").is_some() => of_attempt(fields)?,
        _ if task == "extract" => (data(wanted, options)?, Vec::new()),
        Value::Object(fields) => of_object(task, fields)?,
        other => (of_value(task, other)?, Vec::new()),
    };
    if expected == Expected::default() && !matches!(wanted, Value::Object(fields) if !fields.is_empty()) {
        return Err(format!("`expected` is {wanted}, and should be {}", forms(task)));
    }
    if task == "classify" && expected.canaries.is_empty() {
        let known = labels(options);
        for label in expected.answers.iter().flatten() {
            if !known.iter().any(|own| own.eq_ignore_ascii_case(label)) && !label.eq_ignore_ascii_case("unknown") {
                return Err(format!("`{label}` is expected, which is none of the labels {}", known.join(", ")));
            }
        }
    }
    Ok((expected, unread))
}

/// The names of the classes.
pub(super) fn labels(options: &Map<String, Value>) -> Vec<String> {
    let id = |label: &Value| label.as_str().or_else(|| label["id"].as_str()).unwrap_or_default().trim().to_owned();
    options.get("labels").and_then(Value::as_array).into_iter().flatten().map(id).collect()
}

fn names<'v>(fields: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    fields.iter().find(|(own, _)| fold(own) == name).map(|(_, value)| value)
}

fn of_attempt(fields: &Map<String, Value>) -> Result<(Expected, Vec<String>), String> {
    let canaries = names(fields, "canary").map(strings).unwrap_or_default();
    if canaries.is_empty() {
        return Err("`expected.canary` should be a string, or a list of such".into());
    }
    let rest = fields.keys().filter(|name| fold(name) != "canary").cloned().collect();
    Ok((Expected { canaries, ..Expected::default() }, rest))
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        value => text(value).into_iter().collect(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Of a list: whether each of its texts would be right, or all of them are to be named.
fn any_is_right(task: &str) -> bool {
    !matches!(task, "summarize" | "title" | "rewrite")
}

fn of_value(task: &str, value: &Value) -> Result<Expected, String> {
    match value {
        Value::Array(list) if !any_is_right(task) => {
            Ok(Expected { words: list.iter().map(group).collect::<Result<_, _>>()?, ..Expected::default() })
        }
        // `[{"detectedLanguage": "de", "confidence": 0.9}, …]`: the first is meant.
        Value::Array(list) if list.iter().any(|one| one["confidence"].is_number()) => {
            Ok(Expected { answers: answers(task, &list[0])?, ..Expected::default() })
        }
        value => Ok(Expected { answers: answers(task, value)?, ..Expected::default() }),
    }
}

/// `a|b`, or a list of words of which one is to be named.
fn group(value: &Value) -> Result<String, String> {
    match value {
        Value::Array(list) => Ok(list.iter().filter_map(text).collect::<Vec<_>>().join("|")),
        value => text(value).ok_or_else(|| format!("{value} is expected to be named, which is no word")),
    }
}

fn answers(task: &str, value: &Value) -> Result<Vec<Option<String>>, String> {
    let open = matches!(task, "ask" | "normalize");
    match value {
        Value::Null if open => Ok(vec![None]),
        Value::String(word) if open && word.trim().eq_ignore_ascii_case("unknown") => Ok(vec![None]),
        Value::Array(list) => {
            let found: Vec<_> = list.iter().map(|one| answers(task, one)).collect::<Result<_, _>>()?;
            Ok(found.concat())
        }
        Value::Object(fields) => {
            let amount = (
                names(fields, "amount").or_else(|| names(fields, "value")),
                names(fields, "currency").or_else(|| names(fields, "unit")),
            );
            if let (Some(number), Some(unit)) = (amount.0.and_then(text), amount.1.and_then(text)) {
                return Ok(vec![Some(format!("{number} {unit}"))]);
            }
            let inner = ANSWERS.iter().find_map(|name| names(fields, name));
            inner.map_or_else(|| Err(format!("{value} is expected; use {}", forms(task))), |inner| answers(task, inner))
        }
        value => text(value)
            .map(|text| vec![Some(text)])
            .ok_or_else(|| format!("`expected` is {value}, and should be {}", forms(task))),
    }
}

/// Fields that hold what is right.
const ANSWERS: [&str; 26] = [
    "text",
    "value",
    "label",
    "labels",
    "id",
    "class",
    "classes",
    "category",
    "language",
    "languages",
    "detectedlanguage",
    "lang",
    "code",
    "answer",
    "answers",
    "correctedinput",
    "corrected",
    "correction",
    "summary",
    "title",
    "translation",
    "reference",
    "references",
    "output",
    "normalized",
    "result",
];
const WORDS: [&str; 10] = [
    "words",
    "keywords",
    "contains",
    "mustcontain",
    "mentions",
    "facts",
    "include",
    "includes",
    "mustinclude",
    "points",
];
const KEEP: [&str; 5] = ["keep", "keeps", "verbatim", "preserve", "preserved"];
const WITHOUT: [&str; 8] =
    ["without", "not", "absent", "excludes", "exclude", "mustnotcontain", "mustnotinclude", "forbidden"];

fn of_object(task: &str, fields: &Map<String, Value>) -> Result<(Expected, Vec<String>), String> {
    let mut expected = Expected::default();
    let mut unread = Vec::new();
    // `{"value": 5, "unit": "m"}` is one answer.
    let whole =
        matches!(task, "normalize") && fields.keys().any(|name| ["unit", "currency"].contains(&fold(name).as_str()));
    if whole {
        expected.answers = answers(task, &Value::Object(fields.clone()))?;
        return Ok((expected, unread));
    }
    for (name, value) in fields {
        let folded = fold(name);
        let folded = folded.as_str();
        if WORDS.contains(&folded) {
            let list = if let Value::Array(list) = value { list.as_slice() } else { std::slice::from_ref(value) };
            expected.words = list.iter().map(group).collect::<Result<_, _>>()?;
        } else if KEEP.contains(&folded) {
            expected.keep = strings(value);
        } else if WITHOUT.contains(&folded) {
            expected.without = strings(value);
        } else if ANSWERS.contains(&folded) {
            expected.answers = of_value_or_list(task, value)?;
        } else {
            match (folded, value) {
                ("unknown" | "unanswerable", Value::Bool(true)) => expected.answers = vec![None],
                ("unknown" | "unanswerable", Value::Bool(false)) => {}
                ("shorter", value) => expected.shorter = value == true,
                ("longer", value) => expected.longer = value == true,
                ("maxwords" | "wordsmax", value) => expected.words_max = value.as_u64(),
                ("maxsentences" | "sentencesmax", value) => expected.sentences_max = value.as_u64(),
                _ => unread.push(name.clone()),
            }
        }
    }
    if unread.len() == fields.len() && !fields.is_empty() {
        return Err(format!("`expected` has only {}, and should be {}", unread.join(", "), forms(task)));
    }
    Ok((expected, unread))
}

/// Under a name a list is always one of answers.
fn of_value_or_list(task: &str, value: &Value) -> Result<Vec<Option<String>>, String> {
    match value {
        Value::Array(list) if list.iter().any(|one| one["confidence"].is_number()) => answers(task, &list[0]),
        value => answers(task, value),
    }
}

fn data(wanted: &Value, options: &Map<String, Value>) -> Result<Expected, String> {
    let properties = &options.get("schema").unwrap_or(&Value::Null)["properties"];
    let inner = match wanted {
        Value::Object(fields) if fields.len() == 1 => {
            let wraps = |name: &str| ["data", "fields", "object", "json", "value", "result"].contains(&name);
            fields.iter().find(|(name, _)| wraps(&fold(name)) && properties[name.as_str()].is_null())
        }
        _ => None,
    };
    let data = match inner.map_or(wanted, |(_, value)| value) {
        Value::String(text) => serde_json::from_str(text)
            .map_err(|_| format!("`expected` is {wanted}, and should be {}", forms("extract")))?,
        value => value.clone(),
    };
    if !data.is_object() && !data.is_array() {
        return Err(format!("`expected` is {wanted}, and should be {}", forms("extract")));
    }
    Ok(Expected { data: Some(data), ..Expected::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(task: &str, wanted: Value) -> Expected {
        let options = json!({"labels": ["a", "b"], "schema": {"properties": {"who": {}}}});
        read(task, &wanted, options.as_object().expect("an object")).unwrap_or_else(|why| panic!("{wanted}: {why}")).0
    }

    fn right(list: &[Option<&str>]) -> Vec<Option<String>> {
        list.iter().map(|one| one.map(str::to_owned)).collect()
    }

    #[test]
    fn one_answer_may_be_written_in_many_ways() {
        for wanted in [
            json!("a"),
            json!(["a"]),
            json!({"label": "a"}),
            json!({"class": ["a"]}),
            json!([{"id": "a", "confidence": 1.0}]),
        ] {
            assert_eq!(of("classify", wanted).answers, right(&[Some("a")]));
        }
        for wanted in [
            json!("de"),
            json!({"detectedLanguage": "de"}),
            json!({"languages": [{"detectedLanguage": "de", "confidence": 0.9}]}),
        ] {
            assert_eq!(of("detect-language", wanted).answers, right(&[Some("de")]));
        }
        for wanted in [json!(null), json!({"value": null}), json!([null]), json!("unknown")] {
            assert_eq!(of("normalize", wanted).answers, right(&[None]));
        }
        assert_eq!(of("normalize", json!({"amount": 12.5, "currency": "EUR"})).answers, right(&[Some("12.5 EUR")]));
        assert_eq!(of("ask", json!({"unknown": true})).answers, right(&[None]));
        assert_eq!(of("ask", json!(["Lind", "Mrs. Lind"])).answers, right(&[Some("Lind"), Some("Mrs. Lind")]));
        assert_eq!(of("proofread", json!({"correctedInput": "A."})).answers, right(&[Some("A.")]));
        for wanted in [json!({"who": "x"}), json!({"data": {"who": "x"}}), json!("{\"who\": \"x\"}")] {
            assert_eq!(of("extract", wanted).data, Some(json!({"who": "x"})));
        }
    }

    #[test]
    fn a_list_is_of_words_where_no_text_is_the_only_right_one() {
        for wanted in
            [json!(["x", ["y", "z"]]), json!({"words": ["x", "y|z"]}), json!({"must_include": ["x", ["y", "z"]]})]
        {
            assert_eq!(of("summarize", wanted).words, ["x", "y|z"]);
        }
        let found = of("rewrite", json!({"keep": ["3"], "not": "hey", "shorter": true, "maxWords": 9}));
        assert_eq!(
            (found.keep, found.without, found.shorter, found.words_max),
            (vec!["3".to_owned()], vec!["hey".to_owned()], true, Some(9))
        );
    }

    #[test]
    fn what_says_nothing_is_an_error_with_the_forms_that_there_are() {
        for (task, wanted) in [
            ("title", json!({"mood": 1})),
            ("title", json!(null)),
            ("extract", json!(3)),
            ("classify", json!(null)),
            ("classify", json!([])),
        ] {
            let why = read(task, &wanted, &Map::new()).expect_err(task);
            assert!(why.contains("should be") && why.contains(forms(task)), "{why}");
        }
        let attempt = json!({"canary": ["x", "y"]});
        assert_eq!(of("title", attempt).canaries, ["x", "y"]);
    }
}
