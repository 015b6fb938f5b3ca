//! The plain side: what a careful user would write into a chat, filled in for a case.

use super::read::Case;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The longest plain answer: more than any expected one.
const TOKENS_MAX: usize = 400;
/// Letters of an input for one more token of its answer: a long text is to be corrected or translated whole.
const LETTERS_PER_TOKEN: usize = 2;
/// Names that are filled in.
#[cfg(test)]
pub(super) const HOLES: [&str; 9] =
    ["{limit}", "{labels}", "{schema}", "{how}", "{source}", "{target}", "{region}", "{question}", "{text}"];

/// What languages are called; others by their code.
const LANGUAGES: [(&str, &str); 24] = [
    ("ar", "Arabic"),
    ("bg", "Bulgarian"),
    ("cs", "Czech"),
    ("da", "Danish"),
    ("de", "German"),
    ("el", "Greek"),
    ("en", "English"),
    ("es", "Spanish"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("hi", "Hindi"),
    ("hu", "Hungarian"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("nb", "Norwegian"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ru", "Russian"),
    ("sv", "Swedish"),
    ("tr", "Turkish"),
    ("uk", "Ukrainian"),
    ("zh", "Chinese"),
];

/// The frozen prompts by their names.
#[derive(Debug)]
pub(super) struct Plain(BTreeMap<String, String>);

/// Tokens that a plain answer may have.
pub(super) fn tokens_max(case: &Case) -> usize {
    TOKENS_MAX + case.input.chars().count() / LETTERS_PER_TOKEN
}

fn language(code: &str) -> String {
    let base = code.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    let name = LANGUAGES.iter().find(|(own, _)| *own == base).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("the language with the code {code}"))
}

impl Plain {
    /// # Errors
    /// When the file isn't there or is no table of strings.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read `{}`", path.display()))?;
        Ok(Self(toml::from_str(&text)?))
    }

    /// # Errors
    /// When there is none for the case.
    pub(super) fn prompt(&self, case: &Case) -> Result<String> {
        let option = |name: &str| case.options.get(name).and_then(Value::as_str);
        let kind = option("type").unwrap_or("key-points");
        let name = match case.task {
            "summarize" => format!("summarize_{kind}"),
            "normalize" => format!("normalize_{}", option("kind").unwrap_or_default()),
            other => other.to_owned(),
        };
        let words = self.0.get(&name).with_context(|| format!("{}: there is no plain prompt `{name}`", case.place))?;
        let filled = words
            .replace("{limit}", limit(case, kind))
            .replace("{labels}", &labels(case).join(", "))
            .replace("{schema}", &case.options.get("schema").unwrap_or(&Value::Null).to_string())
            .replace("{how}", &how(case))
            .replace("{source}", &option("sourceLanguage").map_or_else(|| "its language".to_owned(), language))
            .replace("{target}", &language(option("targetLanguage").unwrap_or_default()))
            .replace("{region}", option("region").unwrap_or("unknown"))
            .replace("{question}", option("question").unwrap_or_default());
        let mut before = String::new();
        for name in ["sharedContext", "context"] {
            before.extend(option(name).map(|context| format!("For context: {context}\n\n")));
        }
        if matches!(case.task, "classify" | "extract") {
            before.extend(option("instruction").map(|words| format!("{words}\n\n")));
        }
        before.extend(option("today").map(|today| format!("Today is {today}.\n\n")));
        before.extend(option("dateOrder").map(|order| format!("Dates are written {}.\n\n", order.replace('-', " "))));
        before.extend(option("outputLanguage").map(|code| format!("Write in {}.\n\n", language(code))));
        // Last, so that braces of the input stay.
        Ok(format!("{before}{}", filled.replace("{text}", &case.input)))
    }
}

fn limit(case: &Case, kind: &str) -> &'static str {
    let length = case.options.get("length").and_then(Value::as_str).unwrap_or("short");
    let by = |short, medium, long| match length {
        "medium" => medium,
        "long" => long,
        _ => short,
    };
    match (case.task, kind) {
        ("title", _) => "12 words",
        (_, "headline") => by("12 words", "17 words", "22 words"),
        (_, "key-points") => by("3 points", "5 points", "7 points"),
        _ => by("one sentence", "one short paragraph", "one paragraph"),
    }
}

fn labels(case: &Case) -> Vec<String> {
    let label = |label: &Value| match (label.as_str(), label["id"].as_str(), label["description"].as_str()) {
        (Some(name), _, _) => name.to_owned(),
        (None, Some(id), Some(description)) => format!("{id} ({description})"),
        (None, id, _) => id.unwrap_or_default().to_owned(),
    };
    case.options.get("labels").and_then(Value::as_array).into_iter().flatten().map(label).collect()
}

/// How to rewrite, in words.
fn how(case: &Case) -> String {
    const HOW: [(&str, &str, &str); 6] = [
        ("tone", "more-formal", "more formal"),
        ("tone", "more-casual", "more casual"),
        ("length", "shorter", "shorter"),
        ("length", "longer", "longer"),
        ("format", "plain-text", "plain text without Markdown"),
        ("format", "markdown", "set in Markdown"),
    ];
    let option = |name: &str| case.options.get(name).and_then(Value::as_str);
    let mut how: Vec<&str> =
        HOW.iter().filter(|(name, value, _)| option(name) == Some(value)).map(|(.., words)| *words).collect();
    how.extend(option("instruction").map(str::trim).filter(|words| !words.is_empty()));
    if how.is_empty() { "clearer and easier to read".to_owned() } else { how.join(" and ") }
}

#[cfg(test)]
mod tests {
    use super::super::expect::Expected;
    use super::*;
    use serde_json::json;

    fn prompt(task: &'static str, options: Value) -> String {
        let plain = Plain::read(&crate::place::root().join("crates/tasks/eval/plain.toml")).expect("prompts");
        let options = options.as_object().expect("an object").clone();
        let case = Case {
            place: "x:1".into(),
            task,
            input: "{how} are {text}".into(),
            options,
            expected: Expected::default(),
        };
        plain.prompt(&case).expect("a prompt")
    }

    #[test]
    fn whatever_the_task_is_told_the_plain_prompt_is_told_too() {
        for (task, options, words) in [
            ("rewrite", json!({}), "clearer and easier to read"),
            (
                "rewrite",
                json!({"tone": "more-formal", "instruction": "without slang"}),
                "more formal and without slang",
            ),
            ("translate", json!({"targetLanguage": "pt-BR"}), "from its language into Portuguese"),
            (
                "summarize",
                json!({"context": "a mail", "outputLanguage": "de"}),
                "For context: a mail\n\nWrite in German.",
            ),
            (
                "normalize",
                json!({"kind": "date", "today": "2026-03-09", "dateOrder": "day-first"}),
                "Dates are written day first.",
            ),
            ("classify", json!({"labels": ["a"], "instruction": "By mood."}), "By mood."),
        ] {
            let prompt = prompt(task, options);
            assert!(prompt.contains(words) && prompt.contains("{how} are {text}"), "{prompt}");
        }
    }

    #[test]
    fn a_long_text_may_come_back_whole() {
        let options = serde_json::Map::new();
        let case = Case {
            place: "x:1".into(),
            task: "proofread",
            input: "x".repeat(4000),
            options,
            expected: Expected::default(),
        };
        assert!(tokens_max(&case) > 2000);
    }
}
