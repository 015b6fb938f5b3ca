//! Arguments and help of the task commands, and the options that they make.

use super::output::Format;
use base::{Code, Fault};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// LIMIT: tasks under way at a time; the daemon takes no more of one program anyway.
const JOBS_MAX: u32 = 32;
const JOBS: u32 = 4;

/// What all task commands have.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// Files or patterns such as 'notes/*.md'; `-` or nothing: the standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// What one input is: a whole file, each line, each row of a table, each object of JSON Lines
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Many texts")]
    pub(crate) each: Option<Each>,
    /// The column (or the field, in JSON Lines) that holds the text: its name, or its number from 1
    #[arg(long, short, value_name = "NAME|N", help_heading = "Many texts")]
    pub(crate) column: Option<String>,
    /// Write here instead of to the standard output; goes on where an interrupted run stopped
    #[arg(long, short, value_name = "FILE", help_heading = "Many texts")]
    pub(crate) output: Option<PathBuf>,
    /// How results are written [default: by the output's or the input's name, else text]
    #[arg(long, value_enum, help_heading = "Many texts")]
    pub(crate) format: Option<Format>,
    /// Texts under way at a time
    #[arg(long, short, default_value_t = JOBS, value_parser = clap::value_parser!(u32).range(1..=i64::from(JOBS_MAX)), help_heading = "Many texts")]
    pub(crate) jobs: u32,
    /// Begin anew: discard what an interrupted run left, and replace the output
    #[arg(long, requires = "output", conflicts_with = "retry_failed", help_heading = "Many texts")]
    pub(crate) fresh: bool,
    /// Do again what failed in a finished run, and keep the rest
    #[arg(long, requires = "output", help_heading = "Many texts")]
    pub(crate) retry_failed: bool,
    /// A model's name, or the beginning of one [default: the default chat model]
    #[arg(long, short)]
    pub(crate) model: Option<String>,
    /// Print one JSON object with all there is to say about one text
    #[arg(long, conflicts_with_all = ["format", "output"])]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Each {
    File,
    Line,
    Row,
    Object,
}

/// A task command with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// As in the path of its route.
    pub(crate) task: &'static str,
    pub(crate) options: Map<String, Value>,
    pub(crate) common: Common,
}

impl Wanted {
    /// A question about texts, as `freehold ask --text` puts it.
    pub(crate) fn ask(question: &str, file: String, model: Option<String>, json: bool) -> Self {
        let common = Common {
            files: vec![file],
            each: Some(Each::File),
            column: None,
            output: None,
            format: None,
            jobs: JOBS,
            fresh: false,
            retry_failed: false,
            model,
            json,
        };
        Self { task: "ask", options: options(vec![("question", Some(json!(question)))]), common }
    }
}

/// Options that were given; what wasn't is left to the task.
fn options(given: Vec<(&str, Option<Value>)>) -> Map<String, Value> {
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn word(given: Option<&String>) -> Option<Value> {
    given.map(|word| json!(word))
}

const SUMMARIZE: &str = "\
A text that is longer than the model's window, or than a small model can keep
in mind, is taken in parts, and the parts' key points are summarized again.
How many parts that were is said at the end.

Examples:
  freehold summarize report.md
  freehold summarize --type tldr --length medium report.md
  git log -50 | freehold summarize --type headline
  freehold summarize --type tldr 'notes/*.md' -o notes.jsonl
  freehold summarize --each row --column body mails.csv -o short.csv";

/// Say in few words what a text says
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = SUMMARIZE)]
pub(crate) struct Summarize {
    /// tldr, teaser, key-points or headline [default: key-points]
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// short, medium or long [default: short]
    #[arg(long, short)]
    length: Option<String>,
    /// plain-text or markdown [default: markdown]
    #[arg(long, value_name = "FORMAT")]
    markup: Option<String>,
    /// speed or capability: long texts in few large parts, or in small ones [default: auto]
    #[arg(long)]
    preference: Option<String>,
    /// The language to write in, such as `de`
    #[arg(long, value_name = "LANG")]
    language: Option<String>,
    /// What helps to understand the texts
    #[arg(long, value_name = "TEXT")]
    context: Option<String>,
    #[command(flatten)]
    common: Common,
}

const CLASSIFY: &str = "\
The classes are judged by how likely the model finds each as the answer, less
what it finds likely anyway; nothing is generated. A text that nothing speaks
for is `unknown`.

Examples:
  freehold classify --labels invoice,letter,recipe scan.txt
  freehold classify --labels labels.json --column text in.csv -o out.csv
  echo 'Late again!' | freehold classify --labels praise,complaint

A file of labels is JSON: [\"a\", {\"id\": \"b\", \"description\": \"what is b\"}].
A run that was interrupted goes on where it stopped: give the same command.";

/// Sort texts into classes of your own
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = CLASSIFY)]
pub(crate) struct Classify {
    /// The classes with commas between them, or a JSON file of them
    #[arg(long, short, value_name = "A,B,C|FILE")]
    labels: String,
    /// Choose one of the classes in any case
    #[arg(long)]
    no_unknown: bool,
    /// What the classes are about
    #[arg(long, short, value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    common: Common,
}

const EXTRACT: &str = "\
What comes out fits the schema, or the text is told as failed. With --spans
each value is looked up in the text: null means that it doesn't stand there.

Examples:
  freehold extract --schema invoice.schema.json invoice.txt
  freehold extract --fields name,date,total --spans invoice.txt
  freehold extract --fields sender,subject --column mail in.csv -o out.csv";

/// Get the values of a schema's fields out of texts
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXTRACT)]
pub(crate) struct Extract {
    /// A file with a JSON Schema
    #[arg(long, short, value_name = "FILE", required_unless_present = "fields")]
    schema: Option<PathBuf>,
    /// Names of fields with commas between them: each a string, or null
    #[arg(long, value_name = "A,B,C", conflicts_with = "schema")]
    fields: Option<String>,
    /// Say where in the text each value stands
    #[arg(long)]
    spans: bool,
    /// What to look for
    #[arg(long, short, value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    common: Common,
}

const REWRITE: &str = "\
The text is worked on piece by piece. Code, tags, links, blank lines and the
marks of Markdown stay byte for byte; a piece whose answer can't be used stays
as it was, and that is said.

Examples:
  freehold rewrite --tone more-formal letter.txt
  freehold rewrite --length shorter README.md -o README.short.md
  pbpaste | freehold rewrite --tone more-casual -i 'use short sentences'";

/// Say the same in other words
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = REWRITE)]
pub(crate) struct Rewrite {
    /// as-is, more-formal or more-casual
    #[arg(long, short)]
    tone: Option<String>,
    /// as-is, shorter or longer
    #[arg(long, short)]
    length: Option<String>,
    /// as-is, plain-text or markdown
    #[arg(long, value_name = "FORMAT")]
    markup: Option<String>,
    /// What else to mind
    #[arg(long, short, value_name = "TEXT")]
    instruction: Option<String>,
    #[command(flatten)]
    common: Common,
}

const NORMALIZE: &str = "\
Rules decide what they can, without any model; a model is asked for the rest,
and never for the digits of a telephone number. What can't be told is told so.

Examples:
  echo '3. März 2026' | freehold normalize --kind date
  freehold normalize --kind phone --region DE --column tel in.csv -o out.csv
  freehold normalize --kind amount --each line amounts.txt
  freehold normalize --kind date --date-order month-first --each line d.txt";

/// Bring dates, numbers, amounts, names and addresses into one form
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = NORMALIZE)]
pub(crate) struct Normalize {
    /// date, phone, amount, unit, name or address
    #[arg(long, short)]
    kind: String,
    /// The country of telephone numbers without one, such as `DE`
    #[arg(long)]
    region: Option<String>,
    /// day-first or month-first, where a date can be read in two ways
    #[arg(long, value_name = "ORDER")]
    date_order: Option<String>,
    /// The day that `tomorrow` is counted from, such as 2026-03-09
    #[arg(long, value_name = "DAY")]
    today: Option<String>,
    #[command(flatten)]
    common: Common,
}

const TRANSLATE: &str = "\
The text is worked on piece by piece; code, tags, links and the marks of
Markdown stay byte for byte. The language that it comes in is found out where
it isn't named. How good a translation is depends on the model: the small
starter model hardly translates at all.

Examples:
  freehold translate --to de letter.txt
  freehold translate --from fr --to en '*.md' -o all.jsonl
  freehold translate --to es --each line strings.txt -o strings.es.txt";

/// Put texts into another language
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = TRANSLATE)]
pub(crate) struct Translate {
    /// The language to translate into, such as `de` or `pt-BR`
    #[arg(long, value_name = "LANG")]
    to: String,
    /// The language that the texts are in
    #[arg(long, value_name = "LANG")]
    from: Option<String>,
    #[command(flatten)]
    common: Common,
}

const PROOFREAD: &str = "\
An answer that changes more than half of a sentence's words is no correction;
the sentence stays as it was then, and that is said.

Examples:
  freehold proofread letter.txt
  freehold proofread letter.txt --json | jq '.result.corrections'
  freehold proofread README.md -o README.fixed.md";

/// Correct spelling, grammar, punctuation and capitals
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = PROOFREAD)]
pub(crate) struct Proofread {
    #[command(flatten)]
    common: Common,
}

const TITLE: &str = "\
Examples:
  freehold title notes.md
  freehold title 'inbox/*.txt' -o titles.csv
  freehold title --each object --column body mails.jsonl -o titled.jsonl";

/// Name a text
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = TITLE)]
pub(crate) struct Title {
    /// The language to write in, such as `de`
    #[arg(long, value_name = "LANG")]
    language: Option<String>,
    #[command(flatten)]
    common: Common,
}

const DETECT: &str = "\
No language model is needed. `und` means that the text doesn't show it.

Examples:
  echo 'Guten Morgen allerseits' | freehold detect-language
  freehold detect-language --column text in.csv -o out.csv
  freehold detect-language --expect de,fr,it letter.txt --json";

/// Find out which language texts are in
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = DETECT)]
pub(crate) struct DetectLanguage {
    /// Only these can be meant, with commas between them
    #[arg(long, value_name = "A,B")]
    expect: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A JSON file that was named on the command line.
fn read_json(path: &Path) -> Result<Value, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| Fault::io("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Fault::new(Code::InvalidAsk, format!("`{}` is not JSON", path.display()))
            .cause(error)
            .hint("look at the place that the cause names")
    })
}

impl Summarize {
    pub(crate) fn wanted(self) -> Wanted {
        let options = options(vec![
            ("type", word(self.kind.as_ref())),
            ("length", word(self.length.as_ref())),
            ("format", word(self.markup.as_ref())),
            ("preference", word(self.preference.as_ref())),
            ("outputLanguage", word(self.language.as_ref())),
            ("sharedContext", word(self.context.as_ref())),
        ]);
        Wanted { task: "summarize", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Classify {
    pub(crate) fn wanted(self) -> Result<Wanted, Fault> {
        let is_file = !self.labels.contains(',') && Path::new(&self.labels).is_file();
        let labels = if is_file { read_json(Path::new(&self.labels))? } else { json!(list(&self.labels)) };
        let options = options(vec![
            ("labels", Some(labels)),
            ("unknown", self.no_unknown.then_some(json!(false))),
            ("instruction", word(self.instruction.as_ref())),
        ]);
        Ok(Wanted { task: "classify", options, common: self.common })
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Extract {
    pub(crate) fn wanted(self) -> Result<Wanted, Fault> {
        let schema = match (&self.schema, &self.fields) {
            (Some(path), _) => read_json(path)?,
            (None, fields) => of_fields(&list(fields.as_deref().unwrap_or_default())),
        };
        let options = options(vec![
            ("schema", Some(schema)),
            ("spans", self.spans.then_some(json!(true))),
            ("instruction", word(self.instruction.as_ref())),
        ]);
        Ok(Wanted { task: "extract", options, common: self.common })
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

/// LIMIT: letters of one value, where only names were given.
const FIELD_CHARS_MAX: u32 = 200;

fn of_fields(names: &[String]) -> Value {
    let field = |name: &String| (name.clone(), json!({ "type": ["string", "null"], "maxLength": FIELD_CHARS_MAX }));
    let properties: Map<String, Value> = names.iter().map(field).collect();
    json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false })
}

impl Rewrite {
    pub(crate) fn wanted(self) -> Wanted {
        let options = options(vec![
            ("tone", word(self.tone.as_ref())),
            ("length", word(self.length.as_ref())),
            ("format", word(self.markup.as_ref())),
            ("instruction", word(self.instruction.as_ref())),
        ]);
        Wanted { task: "rewrite", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Normalize {
    pub(crate) fn wanted(self) -> Wanted {
        let options = options(vec![
            ("kind", Some(json!(self.kind))),
            ("region", word(self.region.as_ref())),
            ("dateOrder", word(self.date_order.as_ref())),
            ("today", word(self.today.as_ref())),
        ]);
        Wanted { task: "normalize", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Translate {
    pub(crate) fn wanted(self) -> Wanted {
        let options =
            options(vec![("targetLanguage", Some(json!(self.to))), ("sourceLanguage", word(self.from.as_ref()))]);
        Wanted { task: "translate", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Proofread {
    pub(crate) fn wanted(self) -> Wanted {
        let options = options(vec![("includeCorrectionTypes", Some(json!(true)))]);
        Wanted { task: "proofread", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl Title {
    pub(crate) fn wanted(self) -> Wanted {
        let options = options(vec![("outputLanguage", word(self.language.as_ref()))]);
        Wanted { task: "title", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}

impl DetectLanguage {
    pub(crate) fn wanted(self) -> Wanted {
        let expected = self.expect.as_deref().map(|expect| json!(list(expect)));
        let options = options(vec![("expectedInputLanguages", expected)]);
        Wanted { task: "detect-language", options, common: self.common }
    }

    pub(crate) fn json(&self) -> bool {
        self.common.json
    }
}
