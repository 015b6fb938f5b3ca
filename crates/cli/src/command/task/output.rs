//! How results are written: as text, as a table, as JSON Lines.

use super::args::Each;
use super::input::{Carried, Head};
use base::{Code, Fault};
use serde_json::{Map, Value, json};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Jsonl,
    Csv,
}

impl Format {
    /// As it was asked for, by the output's name, or as the input came.
    pub(crate) fn of(asked: Option<Format>, output: Option<&Path>, each: Each) -> Self {
        let end = output.and_then(Path::extension).map(|end| end.to_string_lossy().to_lowercase());
        let by_name = match end.as_deref() {
            Some("csv" | "tsv") => Some(Format::Csv),
            Some("jsonl" | "ndjson") => Some(Format::Jsonl),
            _ => None,
        };
        asked.or(by_name).unwrap_or(match each {
            Each::Row => Format::Csv,
            Each::Object => Format::Jsonl,
            Each::File | Each::Line => Format::Text,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
        }
    }
}

/// What became of one text.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) source: &'a str,
    pub(crate) carried: &'a Carried,
    /// The reply's `result`, and its notices.
    pub(crate) done: Result<(&'a Value, &'a [Value]), &'a Fault>,
}

/// Writes the records of one run.
#[derive(Debug)]
pub(crate) struct Writer {
    format: Format,
    columns: Vec<String>,
    head: Option<Head>,
    /// Several files: each text has its name above it.
    titled: bool,
    /// Texts that came as lines stay lines.
    lines: bool,
}

impl Writer {
    pub(crate) fn new(
        format: Format,
        task: &str,
        options: &Map<String, Value>,
        head: Option<Head>,
        (each, count): (Each, usize),
    ) -> Result<Self, Fault> {
        if format == Format::Csv && each == Each::Object {
            return Err(Fault::new(Code::InvalidAsk, "objects of JSON Lines have no columns for a table")
                .hint("write JSON Lines: `--format jsonl`"));
        }
        let columns = columns(task, options, head.as_ref());
        Ok(Self { format, columns, head, titled: each == Each::File && count > 1, lines: each != Each::File })
    }

    /// What stands before the first record.
    pub(crate) fn opening(&self) -> Result<Vec<u8>, Fault> {
        if self.format != Format::Csv {
            return Ok(Vec::new());
        }
        let before: Vec<String> = match &self.head {
            Some(head) => head.names.clone(),
            None => vec!["source".to_owned()],
        };
        self.row(before.iter().chain(&self.columns).map(String::as_str))
    }

    /// One record, with its end.
    pub(crate) fn record(&self, task: &str, outcome: &Outcome<'_>) -> Result<Vec<u8>, Fault> {
        match self.format {
            Format::Csv => {
                let mut before: Vec<String> = match outcome.carried {
                    Carried::Row(cells) => cells.clone(),
                    Carried::Nothing | Carried::Object(_) => vec![outcome.source.to_owned()],
                };
                // A text that came from no table stands among rows.
                before.resize(self.head.as_ref().map_or(1, |head| head.names.len()), String::new());
                let cells = cells(task, &self.columns, outcome);
                self.row(before.iter().chain(&cells).map(String::as_str))
            }
            Format::Jsonl => {
                let mut line = serde_json::to_vec(&object(outcome))
                    .map_err(|error| Fault::new(Code::Internal, "a result can't be written as JSON").cause(error))?;
                line.push(b'\n');
                Ok(line)
            }
            Format::Text => Ok(self.text(task, outcome).into_bytes()),
        }
    }

    fn text(&self, task: &str, outcome: &Outcome<'_>) -> String {
        let mut text = match outcome.done {
            Ok((result, _)) => as_text(task, result),
            // The fault is told on stderr; its place stays empty, so that lines still match.
            Err(_) => String::new(),
        };
        if self.lines {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if self.titled { format!("==> {} <==\n{text}\n", outcome.source) } else { text }
    }

    fn row<'a>(&self, cells: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, Fault> {
        let mark = self.head.as_ref().map_or(b',', |head| head.mark);
        let mut writer = csv::WriterBuilder::new().delimiter(mark).flexible(true).from_writer(Vec::new());
        let written = writer.write_record(cells).map_err(|error| error.to_string());
        written
            .and_then(|()| writer.into_inner().map_err(|error| error.to_string()))
            .map_err(|error| Fault::new(Code::Internal, "a row can't be written").cause(error))
    }
}

/// Names of the columns that a task's result has, apart from those that are there.
fn columns(task: &str, options: &Map<String, Value>, head: Option<&Head>) -> Vec<String> {
    let own: Vec<String> = match task {
        "summarize" => vec!["summary".into()],
        "classify" => vec!["class".into(), "confidence".into()],
        "extract" => {
            let fields = options.get("schema").and_then(|schema| schema["properties"].as_object());
            fields.map_or_else(|| vec!["data".into()], |fields| fields.keys().cloned().collect())
        }
        "rewrite" => vec!["rewritten".into()],
        "translate" => vec!["translation".into()],
        "proofread" => vec!["corrected".into()],
        "title" => vec!["title".into()],
        "detect-language" => vec!["language".into(), "confidence".into()],
        "normalize" => vec!["value".into(), "by".into()],
        _ => vec!["result".into()],
    };
    let taken = |name: &str| head.is_some_and(|head| head.names.iter().any(|own| own == name));
    let free = |name: String| if taken(&name) { format!("result_{name}") } else { name };
    own.into_iter().chain(["error".to_owned()]).map(free).collect()
}

fn cells(task: &str, columns: &[String], outcome: &Outcome<'_>) -> Vec<String> {
    let width = columns.len() - 1;
    match outcome.done {
        Err(fault) => {
            let mut cells = vec![String::new(); width];
            cells.push(format!("{}: {fault}", fault.code.as_str()));
            cells
        }
        Ok((result, _)) => {
            let mut cells = match task {
                "classify" => vec![bare(&result["classes"][0]["id"]), confidence(&result["classes"][0]["confidence"])],
                "detect-language" => {
                    let first = &result["languages"][0];
                    vec![bare(&first["detectedLanguage"]), confidence(&first["confidence"])]
                }
                "normalize" => vec![bare(&result["value"]), bare(&result["by"])],
                "extract" => {
                    let data = &result["data"];
                    let names = columns[..width].iter();
                    let value = |name: &String| data.get(name).or_else(|| data.get(name.strip_prefix("result_")?));
                    if data.is_object() && !(width == 1 && columns[0].ends_with("data")) {
                        names.map(|name| value(name).map_or_else(String::new, bare)).collect()
                    } else {
                        vec![data.to_string()]
                    }
                }
                task => vec![as_text(task, result)],
            };
            cells.resize(width, String::new());
            cells.push(String::new());
            cells
        }
    }
}

/// Four digits tell enough, and the same on every machine.
fn confidence(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |number| format!("{number:.4}"))
}

/// A string as it is, nothing for null, anything else as JSON.
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The result as a person reads it.
pub(crate) fn as_text(task: &str, result: &Value) -> String {
    match task {
        "summarize" => bare(&result["summary"]),
        "title" => bare(&result["title"]),
        "rewrite" | "translate" => bare(&result["text"]),
        "proofread" => bare(&result["correctedInput"]),
        "normalize" => bare(&result["value"]),
        "classify" => bare(&result["classes"][0]["id"]),
        "detect-language" => bare(&result["languages"][0]["detectedLanguage"]),
        "ask" => bare(&result["answer"]),
        "extract" => serde_json::to_string_pretty(&result["data"]).unwrap_or_default(),
        _ => result.to_string(),
    }
}

/// A line of JSON Lines: the object that came in, or the source, and what became of it.
fn object(outcome: &Outcome<'_>) -> Value {
    let mut object = match outcome.carried {
        Carried::Object(object) => object.clone(),
        Carried::Nothing | Carried::Row(_) => Map::from_iter([("source".to_owned(), json!(outcome.source))]),
    };
    if let Carried::Row(cells) = outcome.carried {
        object.insert("row".into(), json!(cells));
    }
    match outcome.done {
        Ok((result, notices)) => {
            insert(&mut object, "result", result.clone());
            if !notices.is_empty() {
                insert(&mut object, "notices", json!(notices));
            }
        }
        Err(fault) => insert(&mut object, "error", json!({ "code": fault.code, "message": fault.to_string() })),
    }
    Value::Object(object)
}

/// A field that came in keeps its name, and the new one gets another, as columns of a table do.
fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    let mut name = name.to_owned();
    while object.contains_key(&name) {
        name.insert_str(0, "result_");
    }
    object.insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("utf-8")
    }

    #[test]
    fn a_table_gets_columns_that_it_does_not_have() {
        let head = Head { names: vec!["id".into(), "class".into(), "text".into()], mark: b';' };
        let writer = Writer::new(Format::Csv, "classify", &Map::new(), Some(head), (Each::Row, 2)).expect("a writer");
        assert_eq!(text(writer.opening().expect("a row")), "id;class;text;result_class;confidence;error\n");
        let result = json!({"classes": [{"id": "a", "confidence": 0.75}]});
        let carried = Carried::Row(vec!["1".into(), "x".into(), "two\nlines".into()]);
        let outcome = Outcome { source: "in:2", carried: &carried, done: Ok((&result, &[])) };
        assert_eq!(text(writer.record("classify", &outcome).expect("a row")), "1;x;\"two\nlines\";a;0.7500;\n");
        let fault = Fault::new(Code::TaskFailed, "no");
        let outcome = Outcome { done: Err(&fault), ..outcome };
        assert_eq!(text(writer.record("classify", &outcome).expect("a row")), "1;x;\"two\nlines\";;;task_failed: no\n");
    }

    #[test]
    fn fields_are_columns() {
        let schema = json!({"schema": {"properties": {"b": {}, "a": {}}}});
        let options = schema.as_object().expect("an object").clone();
        let writer = Writer::new(Format::Csv, "extract", &options, None, (Each::File, 2)).expect("a writer");
        let opening = text(writer.opening().expect("a row"));
        let result = json!({"data": {"a": 1, "b": null}});
        let outcome = Outcome { source: "x", carried: &Carried::Nothing, done: Ok((&result, &[])) };
        let record = text(writer.record("extract", &outcome).expect("a row"));
        let pairs: Vec<(&str, &str)> =
            opening.trim().split(',').zip(record.trim_end_matches('\n').split(',')).collect();
        assert!(
            pairs.contains(&("a", "1")) && pairs.contains(&("b", "")) && pairs.contains(&("source", "x")),
            "{pairs:?}"
        );
    }

    #[test]
    fn a_text_from_no_table_does_not_shift_the_columns() {
        let head = Head { names: vec!["id".into(), "text".into()], mark: b',' };
        let writer = Writer::new(Format::Csv, "title", &Map::new(), Some(head), (Each::Row, 2)).expect("a writer");
        let result = json!({"title": "T"});
        let outcome = Outcome { source: "a.md", carried: &Carried::Nothing, done: Ok((&result, &[])) };
        assert_eq!(text(writer.record("title", &outcome).expect("a row")), "a.md,,T,\n");
    }

    #[test]
    fn an_object_keeps_its_fields() {
        let writer = Writer::new(Format::Jsonl, "title", &Map::new(), None, (Each::Object, 1)).expect("a writer");
        let fields = json!({"result": 1, "result_result": 2, "notices": 3, "error": 4});
        let carried = Carried::Object(fields.as_object().expect("an object").clone());
        let object = |done| -> Value {
            let line = writer.record("title", &Outcome { source: "in:1", carried: &carried, done }).expect("a line");
            serde_json::from_slice(&line).expect("json")
        };
        let (result, notices) = (json!({"title": "T"}), [json!("n")]);
        let mut expected = fields.clone();
        expected["result_result_result"] = result.clone();
        expected["result_notices"] = json!(["n"]);
        assert_eq!(object(Ok((&result, &notices))), expected);
        let failed = object(Err(&Fault::new(Code::TaskFailed, "no")));
        assert_eq!((&failed["error"], &failed["result_error"]["code"]), (&json!(4), &json!("task_failed")));
    }

    #[test]
    fn formats_follow_names() {
        let of = |asked, output: &str, each| Format::of(asked, Some(Path::new(output)), each);
        assert_eq!(of(None, "x.CSV", Each::File), Format::Csv);
        assert_eq!(of(None, "x.md", Each::Row), Format::Csv);
        assert_eq!(of(Some(Format::Text), "x.csv", Each::Row), Format::Text);
        assert_eq!(Format::of(None, None, Each::File), Format::Text);
        assert_eq!(Format::of(None, None, Each::Object), Format::Jsonl);
    }
}
