//! All tasks under their names: read from an object, run, and given back as one.

use crate::Complete;
use crate::answer::{Answered, AskText};
use crate::classify::{Classified, Classify};
use crate::extract::{Extract, Extracted};
use crate::language::{DetectLanguage, Languages, name_of};
use crate::normalize::{Normalize, Normalized};
use crate::proofread::{Proofread, Proofreading};
use crate::rewrite::{Rewrite, Rewritten, Translate};
use crate::summarize::{Summarize, Summary, Title, Titled};
use crate::work::{Plan, Step, Work};
use base::{Code, Fault};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The names that tasks have in paths and commands.
pub const NAMES: [&str; 10] = [
    "summarize",
    "classify",
    "extract",
    "rewrite",
    "normalize",
    "translate",
    "proofread",
    "title",
    "detect-language",
    "ask",
];

/// LIMIT: bytes of one input, with its context.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

/// One thing to do with one text. Each was checked when it was made.
#[derive(Debug, Clone)]
pub enum Task {
    Summarize(Summarize),
    Classify(Classify),
    Extract(Extract),
    Rewrite(Rewrite),
    Normalize(Normalize),
    Translate(Translate),
    Proofread(Proofread),
    Title(Title),
    DetectLanguage(DetectLanguage),
    Ask(AskText),
}

/// What comes out of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Summary(Summary),
    Classified(Classified),
    Extracted(Extracted),
    Proofreading(Proofreading),
    Normalized(Normalized),
    Titled(Titled),
    Languages(Languages),
    Answered(Answered),
    Rewritten(Rewritten),
}

/// A task that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub result: Outcome,
    pub plan: Plan,
    /// Sentences for the person: what was left as it was, and why.
    #[serde(default)]
    pub notices: Vec<String>,
}

impl Task {
    /// Reads the options of the task of this name.
    ///
    /// # Errors
    /// [`Code::NotFound`] for another name; [`Code::InvalidAsk`] that says which option is wrong and what there is.
    pub fn parse(name: &str, mut options: Map<String, Value>) -> Result<Self, Fault> {
        for option in EXPECTED {
            // Where a language is to be found out it says which can be.
            if name != "detect-language" || option == "expectedContextLanguages" {
                options.remove(option).map_or(Ok(()), |given| are_languages(option, &given))?;
            }
        }
        let task = match name {
            "summarize" => Task::Summarize(read(name, options)?),
            "classify" => Task::Classify(read::<Classify>(name, options)?.checked()?),
            "extract" => Task::Extract(Extract::checked(read(name, options)?)?),
            "rewrite" => Task::Rewrite(read(name, options)?),
            "normalize" => Task::Normalize(read::<Normalize>(name, options)?.checked()?),
            "translate" => Task::Translate(read::<Translate>(name, options)?.checked()?),
            "proofread" => Task::Proofread(read::<Proofread>(name, options)?.checked()?),
            "title" => Task::Title(read(name, options)?),
            "detect-language" => Task::DetectLanguage(read(name, options)?),
            "ask" => Task::Ask(read::<AskText>(name, options)?.checked()?),
            other => {
                return Err(Fault::new(Code::NotFound, format!("there is no task `{other}`"))
                    .hint(format!("there are: {}", NAMES.join(", "))));
            }
        };
        let (own, around) = (task.text().len(), task.contexts().map(str::len).iter().sum::<usize>());
        if own + around > TEXT_BYTES_MAX {
            let what = if around == 0 { "the text has" } else { "the text and its context have" };
            return Err(Fault::new(Code::BodyTooLarge, format!("{what} {} bytes", own + around))
                .hint(format!("at most {TEXT_BYTES_MAX} are taken at once: cut it into several")));
        }
        Ok(task)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Task::Summarize(_) => "summarize",
            Task::Classify(_) => "classify",
            Task::Extract(_) => "extract",
            Task::Rewrite(_) => "rewrite",
            Task::Normalize(_) => "normalize",
            Task::Translate(_) => "translate",
            Task::Proofread(_) => "proofread",
            Task::Title(_) => "title",
            Task::DetectLanguage(_) => "detect-language",
            Task::Ask(_) => "ask",
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Task::Summarize(task) => &task.text,
            Task::Classify(task) => &task.text,
            Task::Extract(task) => task.text(),
            Task::Rewrite(task) => &task.text,
            Task::Normalize(task) => &task.text,
            Task::Translate(task) => &task.text,
            Task::Proofread(task) => &task.text,
            Task::Title(task) => &task.text,
            Task::DetectLanguage(task) => &task.text,
            Task::Ask(task) => &task.text,
        }
    }

    /// What is given to understand the text by.
    fn contexts(&self) -> [&str; 2] {
        match self {
            Task::Summarize(task) => [&task.shared_context, &task.context],
            Task::Classify(task) => [&task.context, ""],
            Task::Extract(task) => [task.context(), ""],
            Task::Rewrite(task) => [&task.shared_context, &task.context],
            Task::Translate(task) => [&task.context, ""],
            Task::Proofread(task) => [&task.context, ""],
            Task::Title(task) => [&task.context, ""],
            Task::Ask(task) => [&task.context, ""],
            Task::Normalize(_) | Task::DetectLanguage(_) => ["", ""],
        }
    }

    /// Does it. `each` hears of the plan first, then how it goes on and what text is there.
    ///
    /// # Errors
    /// Those of the model, and [`Code::TaskFailed`] where nothing usable came of it.
    pub fn run(&self, model: &dyn Complete, each: &mut dyn FnMut(Step)) -> Result<Done, Fault> {
        let mut work = Work::new(model, each);
        let result = match self {
            Task::Summarize(task) => Outcome::Summary(task.run(&mut work)?),
            Task::Classify(task) => Outcome::Classified(task.run(&mut work)?),
            Task::Extract(task) => Outcome::Extracted(task.run(&mut work)?),
            Task::Rewrite(task) => Outcome::Rewritten(task.run(&mut work)?),
            Task::Normalize(task) => Outcome::Normalized(task.run(&mut work)?),
            Task::Translate(task) => Outcome::Rewritten(task.run(&mut work)?),
            Task::Proofread(task) => Outcome::Proofreading(task.run(&mut work)?),
            Task::Title(task) => Outcome::Titled(task.run(&mut work)?),
            Task::DetectLanguage(task) => Outcome::Languages(task.run()),
            Task::Ask(task) => Outcome::Answered(task.run(&mut work)?),
        };
        Ok(Done { result, plan: work.plan, notices: work.notices })
    }
}

/// Options of the drafts that a browser chooses a model by. Any model is asked in any language here: they are checked.
const EXPECTED: [&str; 2] = ["expectedInputLanguages", "expectedContextLanguages"];

fn are_languages(option: &str, given: &Value) -> Result<(), Fault> {
    let hint = "use a list of BCP 47 tags: `[\"en\", \"de-CH\"]`";
    let tags = given.as_array().ok_or_else(|| invalid(option, "is no list", hint))?;
    tags.iter().try_for_each(|tag| {
        let tag = tag.as_str().ok_or_else(|| invalid(option, "holds something else than a tag", hint))?;
        name_of(option, tag).map(|_| ())
    })
}

fn read<T: DeserializeOwned>(name: &str, options: Map<String, Value>) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(options)).map_err(|error| {
        Fault::new(Code::InvalidAsk, format!("the options of `{name}` aren't right"))
            .cause(error)
            .hint("docs/api.md lists the options of each task, and the command's `--help` too")
    })
}

pub(crate) fn invalid(option: &str, what: &str, hint: &str) -> Fault {
    Fault::new(Code::InvalidAsk, format!("`{option}` {what}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(name: &str, options: Value) -> Result<Task, Fault> {
        let Value::Object(options) = options else { panic!("options are an object") };
        Task::parse(name, options)
    }

    #[test]
    fn every_name_is_a_task() {
        for (name, options) in [
            ("summarize", json!({"text": "x", "type": "tldr", "format": "plain-text", "length": "long"})),
            ("classify", json!({"text": "x", "labels": ["a", {"id": "b", "description": "the other"}]})),
            ("extract", json!({"text": "x", "schema": {"type": "object"}, "spans": true})),
            ("rewrite", json!({"text": "x", "tone": "more-formal", "length": "shorter"})),
            ("normalize", json!({"text": "x", "kind": "date", "today": "2026-03-09"})),
            ("translate", json!({"text": "x", "sourceLanguage": "en", "targetLanguage": "de-CH"})),
            ("proofread", json!({"text": "x", "includeCorrectionTypes": true})),
            ("title", json!({"text": "x"})),
            ("detect-language", json!({"text": "x"})),
            ("ask", json!({"text": "x", "question": "y?"})),
            ("summarize", json!({"text": "x", "type": "tl;dr", "expectedInputLanguages": ["en"]})),
            ("proofread", json!({"text": "x", "expectedInputLanguages": ["en"], "expectedContextLanguages": []})),
            ("detect-language", json!({"text": "x", "expectedInputLanguages": ["en", "de"]})),
        ] {
            assert_eq!(parse(name, options).expect(name).name(), name);
            assert!(NAMES.contains(&name));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, options, word) in [
            ("summarise", json!({}), "summarise"),
            ("summarize", json!({"text": "x", "type": "poem"}), "key-points"),
            ("summarize", json!({"text": "x", "lenght": "long"}), "lenght"),
            ("summarize", json!({}), "text"),
            ("classify", json!({"text": "x", "labels": ["a"], "unknown": false}), "labels"),
            ("classify", json!({"text": "x", "labels": ["a", "a"]}), "`a`"),
            ("classify", json!({"text": "x", "labels": ["a", " "]}), "labels"),
            ("extract", json!({"text": "x", "schema": [{"type": "object"}]}), "schema"),
            ("title", json!({"text": "x", "expectedInputLanguages": "en"}), "expectedInputLanguages"),
            ("title", json!({"text": "x", "expectedContextLanguages": ["?"]}), "expectedContextLanguages"),
            ("translate", json!({"text": "x", "targetLanguage": "not a language"}), "targetLanguage"),
            ("proofread", json!({"text": "x", "includeCorrectionExplanations": true}), "unknown field"),
            ("normalize", json!({"text": "x", "kind": "date", "today": "9.3.26"}), "today"),
            ("normalize", json!({"text": "x", "kind": "phone", "region": "Germany"}), "region"),
            ("ask", json!({"text": "x", "question": " "}), "question"),
        ] {
            let fault = parse(name, options).expect_err(name);
            assert!(fault.to_string().contains(word), "{name}: {fault}");
            assert!(!fault.hints.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_text_counts_with_its_context() {
        let (half, more) = ("x".repeat(TEXT_BYTES_MAX / 2), "x".repeat(TEXT_BYTES_MAX / 2 + 1));
        for (name, mut options) in [
            ("summarize", json!({})),
            ("classify", json!({"labels": ["a", "b"]})),
            ("extract", json!({"schema": {}})),
            ("rewrite", json!({})),
            ("translate", json!({"targetLanguage": "de"})),
            ("proofread", json!({})),
            ("title", json!({})),
            ("ask", json!({"question": "y?"})),
        ] {
            options["text"] = half.as_str().into();
            options["context"] = half.as_str().into();
            parse(name, options.clone()).expect(name);
            options["context"] = more.as_str().into();
            let fault = parse(name, options).expect_err(name);
            assert_eq!(fault.code, Code::BodyTooLarge);
            assert!(fault.message.contains("context") && fault.message.contains("16777217"), "{name}: {fault:?}");
            assert!(fault.hints.iter().any(|hint| hint.contains("16777216")), "{name}: {fault:?}");
        }
        let shared = json!({"text": half, "sharedContext": more});
        assert!(["summarize", "rewrite"].iter().all(|name| parse(name, shared.clone()).is_err()));
    }
}
