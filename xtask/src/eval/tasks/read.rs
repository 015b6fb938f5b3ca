//! The sets: JSON Lines of `{task, input, options, expected}`, read as people write them.
//!
//! Tasks and options may be spelled in several ways, and what is expected may have several forms ([`super::expect`]).
//! What can't be read is named with its line, and what no task knows is named too: nothing is dropped in silence.

use super::expect::{self, Expected};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// LIMIT: folders within folders.
const DEPTH_MAX: usize = 4;
/// LIMIT: letters of a value that no schema was given for; the command's `--fields` has the same.
const FIELD_CHARS_MAX: u32 = 200;

/// One line of a set.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// `extract.jsonl:3`
    pub(super) place: String,
    pub(super) task: &'static str,
    pub(super) input: String,
    /// As the daemon spells them.
    pub(super) options: Map<String, Value>,
    pub(super) expected: Expected,
}

/// All that was found in a folder.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) cases: Vec<Case>,
    /// Lines that can't be judged, each with the reason.
    pub(super) refused: Vec<String>,
    /// What was passed over, with the places where it stands.
    pub(super) unknown: BTreeMap<String, Vec<String>>,
}

/// The tasks with their options, and the other names that people have for a task.
const TASKS: [(&str, &[&str], &[&str]); 10] = [
    (
        "summarize",
        &["type", "format", "length", "preference", "sharedContext", "outputLanguage"],
        &["summarise", "summarizer", "summary", "summarization", "summarisation"],
    ),
    ("classify", &["labels", "unknown", "instruction"], &["classifier", "classification"]),
    ("extract", &["schema", "spans", "instruction", "tokensMax"], &["extractor", "extraction"]),
    (
        "rewrite",
        &["tone", "format", "length", "instruction", "sharedContext", "outputLanguage"],
        &["rewriter", "rewriting"],
    ),
    (
        "normalize",
        &["kind", "region", "dateOrder", "today"],
        &["normalise", "normalizer", "normalization", "normalisation"],
    ),
    ("translate", &["sourceLanguage", "targetLanguage"], &["translator", "translation"]),
    ("proofread", &["includeCorrectionTypes"], &["proofreader", "proofreading"]),
    ("title", &["outputLanguage"], &["titles"]),
    ("detect-language", &["expectedInputLanguages"], &["languagedetector", "languagedetection", "detect"]),
    ("ask", &["question"], &["qa", "question", "questionanswering", "answer"]),
];

/// Other names of options, in small letters: they count where a task has the option.
const ALSO: [(&str, &str); 25] = [
    ("summarytype", "type"),
    ("language", "outputLanguage"),
    ("lang", "outputLanguage"),
    ("classes", "labels"),
    ("categories", "labels"),
    ("choices", "labels"),
    ("candidatelabels", "labels"),
    ("allowunknown", "unknown"),
    ("instructions", "instruction"),
    ("jsonschema", "schema"),
    ("maxtokens", "tokensMax"),
    ("style", "tone"),
    ("type", "kind"),
    ("country", "region"),
    ("defaultregion", "region"),
    ("now", "today"),
    ("referencedate", "today"),
    ("to", "targetLanguage"),
    ("target", "targetLanguage"),
    ("targetlang", "targetLanguage"),
    ("from", "sourceLanguage"),
    ("source", "sourceLanguage"),
    ("sourcelang", "sourceLanguage"),
    ("query", "question"),
    ("expectedlanguages", "expectedInputLanguages"),
];

/// Other words for values, by the option.
const VALUES: [(&str, &str, &str); 23] = [
    ("type", "tl;dr", "tldr"),
    ("type", "tl-dr", "tldr"),
    ("type", "bullets", "key-points"),
    ("type", "keypoints", "key-points"),
    ("format", "plain", "plain-text"),
    ("format", "plaintext", "plain-text"),
    ("format", "text", "plain-text"),
    ("format", "md", "markdown"),
    ("tone", "formal", "more-formal"),
    ("tone", "casual", "more-casual"),
    ("tone", "informal", "more-casual"),
    ("tone", "more-informal", "more-casual"),
    ("tone", "neutral", "as-is"),
    ("kind", "currency", "amount"),
    ("kind", "money", "amount"),
    ("kind", "price", "amount"),
    ("kind", "telephone", "phone"),
    ("kind", "phone-number", "phone"),
    ("kind", "quantity", "unit"),
    ("kind", "measurement", "unit"),
    ("kind", "person", "name"),
    ("kind", "person-name", "name"),
    ("kind", "postal-address", "address"),
];

/// Options whose values are words of a list.
const WORDS: [&str; 7] = ["type", "format", "length", "preference", "tone", "kind", "dateOrder"];

/// Small letters and digits alone: `key_points` and `keyPoints` are one word.
pub(super) fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// `keyPoints`, `key_points` and `Key Points` as `key-points`.
fn kebab(word: &str) -> String {
    let mut out = String::new();
    let mut small = false;
    for c in word.trim().chars() {
        if c.is_uppercase() && small {
            out.push('-');
        }
        small = c.is_lowercase();
        match c {
            '_' | ' ' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

fn task_of(name: &str) -> Option<&'static str> {
    let name = fold(name);
    TASKS.iter().find(|(task, _, also)| fold(task) == name || also.contains(&name.as_str())).map(|(task, ..)| *task)
}

fn options_of(task: &str) -> &'static [&'static str] {
    TASKS.iter().find(|(name, ..)| *name == task).map(|(_, options, _)| *options).unwrap_or_default()
}

/// Reads a folder of sets, or one file.
///
/// # Errors
/// When there is no such place, or no line in it can be judged.
pub(super) fn read(place: &Path) -> Result<Set> {
    let mut files = Vec::new();
    gather(place, 0, &mut files)?;
    files.sort();
    let mut set = Set::default();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read `{}`", file.display()))?;
        let name = file.strip_prefix(place).ok().filter(|name| name.file_name().is_some());
        let name = name.map_or_else(|| file.file_name().map(PathBuf::from).unwrap_or_default(), Path::to_path_buf);
        let of_file = name.file_stem().and_then(|stem| task_of(&stem.to_string_lossy()));
        for (at, value) in lines(text.trim_start_matches('\u{feff}')) {
            let place = format!("{}:{at}", name.display());
            match value.and_then(|value| case(value, of_file, &place, &mut set.unknown)) {
                Ok(case) => set.cases.push(case),
                Err(why) => set.refused.push(format!("{place}: {why}")),
            }
        }
    }
    if set.cases.is_empty() {
        let why = set.refused.first().map(|first| format!("; {first}")).unwrap_or_default();
        bail!(
            "`{}` holds no lines of {{\"task\", \"input\", \"options\", \"expected\"}} in files *.jsonl that can be \
             judged{why}",
            place.display()
        );
    }
    Ok(set)
}

fn gather(place: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if place.is_file() {
        files.push(place.to_path_buf());
        return Ok(());
    }
    let entries = std::fs::read_dir(place).with_context(|| format!("can't read `{}`", place.display()))?;
    for entry in entries {
        let path = entry?.path();
        let end = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
        if path.is_dir() {
            if depth < DEPTH_MAX {
                gather(&path, depth + 1, files)?;
            }
        } else if ["jsonl", "ndjson", "json"].contains(&end.as_str()) {
            files.push(path);
        }
    }
    Ok(())
}

/// The objects of a file with their lines' numbers; a file may hold one list of them, too.
fn lines(text: &str) -> Vec<(usize, Result<Value, String>)> {
    if let Ok(Value::Array(all)) = serde_json::from_str(text) {
        return all.into_iter().enumerate().map(|(at, value)| (at + 1, Ok(value))).collect();
    }
    let filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |line: &str| serde_json::from_str(line).map_err(|error| format!("is not JSON: {error}"));
    filled.map(|(at, line)| (at + 1, read(line))).collect()
}

fn case(
    value: Value,
    of_file: Option<&'static str>,
    place: &str,
    unknown: &mut BTreeMap<String, Vec<String>>,
) -> Result<Case, String> {
    let Value::Object(mut fields) = value else { return Err("is no object".into()) };
    let names = || TASKS.map(|(task, ..)| task).join(", ");
    let task = match fields.remove("task") {
        Some(Value::String(name)) => {
            task_of(&name).ok_or_else(|| format!("there is no task `{name}`; there are {}", names()))?
        }
        Some(other) => return Err(format!("`task` is {other}, and should be one of {}", names())),
        None => of_file.ok_or_else(|| format!("has no `task`; there are {}", names()))?,
    };
    let mut pass = |what: String| unknown.entry(what).or_default().push(place.to_owned());
    let given = match fields.remove("options") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(given)) => given,
        Some(other) => return Err(format!("`options` is {other}, and should be an object")),
    };
    let (input, beside) = input(fields.remove("input").or_else(|| fields.remove("text")))?;
    let mut options = Map::new();
    for (name, value) in given.into_iter().chain(beside) {
        match named(task, &name) {
            Some(own) => {
                options.insert(own.to_owned(), valued(own, value).map_err(|why| format!("`options.{name}` {why}"))?);
            }
            None if task == "extract" && fold(&name) == "fields" => {
                options.insert("schema".into(), of_fields(&value)?);
            }
            None => pass(format!("option `{name}` of `{task}`, which the task doesn't have")),
        }
    }
    for needed in needs(task) {
        if !options.contains_key(*needed) {
            return Err(format!("`{task}` needs `options.{needed}`"));
        }
    }
    let wanted = fields.remove("expected").ok_or_else(|| format!("has no `expected`: {}", expect::forms(task)))?;
    let (expected, rest) = expect::read(task, &wanted, &options)?;
    for name in rest {
        pass(format!("field `{name}` of what is expected of `{task}`, which no rule judges"));
    }
    for name in
        fields.keys().filter(|name| !["origin", "id", "name", "note", "comment", "source"].contains(&name.as_str()))
    {
        pass(format!("field `{name}` of a line"));
    }
    Ok(Case { place: place.to_owned(), task, input, options, expected })
}

/// The text, and options that stand beside it.
fn input(value: Option<Value>) -> Result<(String, Map<String, Value>), String> {
    match value {
        Some(Value::String(text)) => Ok((text, Map::new())),
        Some(Value::Number(number)) => Ok((number.to_string(), Map::new())),
        Some(Value::Object(mut fields)) => {
            let text = ["text", "input", "content", "document", "passage"].iter().find_map(|name| fields.remove(*name));
            match text {
                Some(Value::String(text)) => Ok((text, fields)),
                _ => Err("`input` is an object without a string `text`".into()),
            }
        }
        Some(other) => Err(format!("`input` is {other}, and should be a string")),
        None => Err("has no `input`".into()),
    }
}

fn needs(task: &str) -> &'static [&'static str] {
    match task {
        "classify" => &["labels"],
        "extract" => &["schema"],
        "normalize" => &["kind"],
        "translate" => &["targetLanguage"],
        "ask" => &["question"],
        _ => &[],
    }
}

/// The option as the task calls it.
fn named(task: &str, name: &str) -> Option<&'static str> {
    let own = options_of(task);
    let context = if matches!(task, "normalize" | "detect-language") { None } else { Some("context") };
    let all = || own.iter().copied().chain(context).chain(["expectedInputLanguages", "expectedContextLanguages"]);
    let folded = fold(name);
    all().find(|option| fold(option) == folded).or_else(|| {
        let also = ALSO.iter().filter(|(other, _)| *other == folded);
        also.map(|(_, option)| *option).find(|option| all().any(|own| own == *option))
    })
}

fn valued(option: &str, value: Value) -> Result<Value, String> {
    match (option, value) {
        (_, Value::String(word)) if WORDS.contains(&option) => {
            let word = kebab(&word);
            let also = VALUES.iter().find(|(of, other, _)| *of == option && *other == word);
            Ok(json!(also.map_or(word.as_str(), |(_, _, own)| *own)))
        }
        ("labels", value) => labels(value),
        ("schema", Value::String(text)) => {
            serde_json::from_str(&text).map_err(|error| format!("is a string that holds no JSON: {error}"))
        }
        ("schema", value) if is_short(&value) => of_fields(&value),
        ("expectedInputLanguages" | "expectedContextLanguages", Value::String(one)) => Ok(json!([one])),
        (_, value) => Ok(value),
    }
}

/// Names with commas between them, a list, or an object of names and what is said of them.
fn labels(value: Value) -> Result<Value, String> {
    let one = |value: Value| -> Result<Value, String> {
        match value {
            Value::String(id) => Ok(json!(id)),
            Value::Number(number) => Ok(json!(number.to_string())),
            Value::Object(fields) => {
                let find = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)?.as_str());
                let id = find(&["id", "name", "label", "class"]).ok_or("holds an object without an `id`")?;
                Ok(match find(&["description", "desc", "definition"]) {
                    Some(description) => json!({ "id": id, "description": description }),
                    None => json!(id),
                })
            }
            other => Err(format!("holds {other}, which is no label")),
        }
    };
    match value {
        Value::String(list) => Ok(json!(list.split(',').map(str::trim).collect::<Vec<_>>())),
        Value::Array(list) => Ok(Value::Array(list.into_iter().map(one).collect::<Result<_, _>>()?)),
        Value::Object(said) => {
            Ok(said.iter().map(|(id, description)| json!({ "id": id, "description": description })).collect())
        }
        other => Err(format!("is {other}, and should be a list of names or of {{\"id\", \"description\"}}")),
    }
}

/// `{"name": "string", "age": "number"}` is no schema, but it is plain what it means.
fn is_short(value: &Value) -> bool {
    const TYPES: [&str; 5] = ["string", "number", "integer", "boolean", "array"];
    let kind = |value: &Value| value.as_str().is_some_and(|kind| TYPES.contains(&kind));
    value.as_object().is_some_and(|fields| {
        !fields.is_empty() && fields.values().all(kind) && !(fields.len() == 1 && fields.contains_key("type"))
    })
}

/// A schema for fields by their names: each what is said of it, or null.
fn of_fields(value: &Value) -> Result<Value, String> {
    let field = |kind: &str| match kind {
        "string" => json!({ "type": ["string", "null"], "maxLength": FIELD_CHARS_MAX }),
        kind => json!({ "type": [kind, "null"] }),
    };
    let named: Vec<(String, Value)> = match value {
        Value::String(list) => list.split(',').map(|name| (name.trim().to_owned(), field("string"))).collect(),
        Value::Array(list) => {
            list.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), field("string"))).collect()
        }
        Value::Object(kinds) => {
            kinds.iter().map(|(name, kind)| (name.clone(), field(kind.as_str().unwrap_or("string")))).collect()
        }
        other => return Err(format!("`fields` is {other}, and should be a list of names")),
    };
    let required: Vec<&String> = named.iter().map(|(name, _)| name).collect();
    let required = json!(required);
    let properties: Map<String, Value> = named.into_iter().collect();
    Ok(json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: Value) -> (Result<Case, String>, BTreeMap<String, Vec<String>>) {
        let mut unknown = BTreeMap::new();
        let case = case(line, None, "x.jsonl:1", &mut unknown);
        (case, unknown)
    }

    #[test]
    fn tasks_and_options_may_be_spelled_in_several_ways() {
        for (line, task, option, value) in [
            (json!({"task": "Summarizer", "options": {"type": "tl;dr"}}), "summarize", "type", json!("tldr")),
            (json!({"task": "summarise", "options": {"type": "key_points"}}), "summarize", "type", json!("key-points")),
            (json!({"task": "rewrite", "options": {"tone": "moreFormal"}}), "rewrite", "tone", json!("more-formal")),
            (json!({"task": "Translator", "options": {"to": "de"}}), "translate", "targetLanguage", json!("de")),
            (
                json!({"task": "classifier", "options": {"classes": "a, b"}, "expected": "a"}),
                "classify",
                "labels",
                json!(["a", "b"]),
            ),
            (
                json!({"task": "classify", "options": {"labels": [{"name": "a", "description": "first"}, "b"]}, "expected": "a"}),
                "classify",
                "labels",
                json!([{"id": "a", "description": "first"}, "b"]),
            ),
            (json!({"task": "normalize", "options": {"type": "currency"}}), "normalize", "kind", json!("amount")),
            (json!({"task": "qa", "options": {"Question": "who?"}}), "ask", "question", json!("who?")),
            (json!({"task": "qa", "input": {"text": "x", "question": "who?"}}), "ask", "question", json!("who?")),
        ] {
            let mut line = line;
            for (name, value) in [("input", json!("x")), ("expected", json!("y"))] {
                line.as_object_mut().expect("an object").entry(name).or_insert(value);
            }
            let (case, unknown) = of(line);
            let case = case.expect(task);
            assert_eq!((case.task, &case.options[option], unknown.len()), (task, &value, 0));
        }
    }

    #[test]
    fn fields_by_their_names_are_a_schema() {
        for short in [json!({"fields": ["a"]}), json!({"fields": "a"}), json!({"schema": {"a": "string"}})] {
            let (case, _) = of(json!({"task": "extract", "input": "x", "options": short, "expected": {"a": "x"}}));
            let schema = case.expect("a case").options["schema"].clone();
            assert_eq!((&schema["required"], &schema["properties"]["a"]["type"][0]), (&json!(["a"]), &json!("string")));
        }
    }

    #[test]
    fn what_can_not_be_read_is_named_and_what_is_unknown_too() {
        for (line, words) in [
            (json!([1]), "no object"),
            (json!({"input": "x", "expected": "y"}), "no `task`"),
            (json!({"task": "paint", "input": "x", "expected": "y"}), "`paint`; there are summarize"),
            (json!({"task": "title", "expected": "y"}), "no `input`"),
            (json!({"task": "title", "input": ["x"], "expected": "y"}), "should be a string"),
            (json!({"task": "title", "input": "x"}), "no `expected`"),
            (json!({"task": "ask", "input": "x", "expected": "y"}), "needs `options.question`"),
            (json!({"task": "title", "input": "x", "options": [], "expected": "y"}), "should be an object"),
            (json!({"task": "classify", "input": "x", "options": {"labels": 3}, "expected": "y"}), "options.labels"),
            (json!({"task": "classify", "input": "x", "options": {"labels": ["a", "b"]}, "expected": "c"}), "`c`"),
        ] {
            let why = of(line.clone()).0.expect_err(words);
            assert!(why.contains(words), "{line}: {why}");
        }
        let line = json!({"task": "title", "input": "x", "lang": "en", "options": {"colour": 1}, "expected": {"words": [], "mood": 2}});
        let (case, unknown) = of(line);
        assert!(case.is_ok());
        let named: Vec<&String> = unknown.keys().collect();
        assert_eq!(named.len(), 3, "{named:?}");
        assert!(unknown.values().all(|places| places == &["x.jsonl:1"]));
        for word in ["`colour`", "`mood`", "`lang`"] {
            assert!(named.iter().any(|name| name.contains(word)), "{word}: {named:?}");
        }
    }

    #[test]
    fn lines_keep_their_numbers_and_a_list_is_read_too() {
        let found = lines("\n{\"a\": 1}\n\nno\n");
        assert_eq!(found.iter().map(|(at, value)| (*at, value.is_ok())).collect::<Vec<_>>(), [(2, true), (4, false)]);
        assert_eq!(lines("[{\"a\": 1}, {}]").len(), 2);
    }
}
