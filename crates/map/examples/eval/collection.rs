//! The development collections as they lie on disk.

use super::Outcome;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Every fifth query, for a quick look.
const QUICK_STEP: usize = 5;

pub(crate) struct Ranked {
    pub(crate) text: String,
    /// Names of relevant documents with their grades.
    pub(crate) relevant: HashMap<String, u32>,
}

/// A collection in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`.
pub(crate) struct Collection {
    pub(crate) name: String,
    /// Names as the judgements know them, with their texts.
    pub(crate) documents: Vec<(String, String)>,
    pub(crate) queries: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Line {
    _id: String,
    #[serde(default)]
    title: String,
    text: String,
}

fn lines(path: &Path) -> Outcome<Vec<Line>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

impl Collection {
    pub(crate) fn open(dir: &Path, quick: bool) -> Outcome<Self> {
        let documents = lines(&dir.join("corpus.jsonl"))?.into_iter().map(|line| {
            // Some collections repeat the title at the head of the text.
            let text =
                if line.text.starts_with(&line.title) { line.text } else { format!("{}\n\n{}", line.title, line.text) };
            (line._id, text.replace('\r', ""))
        });
        let documents = documents.filter(|(_, text)| !text.trim().is_empty()).collect();
        let mut relevant: HashMap<String, HashMap<String, u32>> = HashMap::new();
        let qrels = std::fs::read_to_string(dir.join("qrels/test.tsv"))?;
        for line in qrels.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            // The first line may name the columns. A grade below zero is no relevance.
            if let [query, document, grade] = cells.as_slice()
                && let Ok(grade) = grade.trim().parse::<i64>()
            {
                let grade = u32::try_from(grade).unwrap_or(0);
                relevant.entry((*query).to_owned()).or_default().insert((*document).to_owned(), grade);
            }
        }
        let queries = lines(&dir.join("queries.jsonl"))?
            .into_iter()
            .filter_map(|line| {
                Some(Ranked { relevant: relevant.remove(&line._id)?, text: line.text.replace('\r', "") })
            })
            .step_by(if quick { QUICK_STEP } else { 1 })
            .collect();
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, documents, queries })
    }

    /// The collection in a folder, or those in the folders below it.
    pub(crate) fn all(dir: &Path, quick: bool) -> Outcome<Vec<Self>> {
        let is_one = |dir: &Path| dir.join("corpus.jsonl").is_file();
        if is_one(dir) {
            return Ok(vec![Self::open(dir, quick)?]);
        }
        let mut below: Vec<PathBuf> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
        below.retain(|dir| is_one(dir));
        below.sort();
        if below.is_empty() {
            return Err(format!(
                "`{}` holds no collection: no `corpus.jsonl` in it or one folder below",
                dir.display()
            )
            .into());
        }
        below.iter().map(|dir| Self::open(dir, quick)).collect()
    }
}

pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) corpus: String,
    /// Bytes of the corpus that answer it.
    pub(crate) spans: Vec<Range<usize>>,
}

/// Questions with the exact stretches of text that answer them.
pub(crate) struct Spans {
    pub(crate) corpora: Vec<(String, String)>,
    pub(crate) questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Reference {
    start_index: usize,
    end_index: usize,
}

impl Spans {
    pub(crate) fn open(dir: &Path, quick: bool) -> Outcome<Self> {
        let rows = csv(&std::fs::read_to_string(dir.join("questions_df.csv"))?);
        let names: HashSet<&str> = rows.iter().skip(1).filter_map(|row| row.get(2)).map(String::as_str).collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        let mut corpora = Vec::new();
        let mut offsets = HashMap::new();
        for name in names {
            let text = std::fs::read_to_string(dir.join(format!("{name}.md")))?;
            // References count characters.
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            offsets.insert(name.to_owned(), starts);
            corpora.push((name.to_owned(), text));
        }
        let mut questions = Vec::new();
        for row in rows.iter().skip(1).step_by(if quick { QUICK_STEP } else { 1 }) {
            let [text, references, corpus] = row.as_slice() else { continue };
            let starts = &offsets[corpus];
            let references: Vec<Reference> = serde_json::from_str(references)?;
            let at = |index: usize| starts[index.min(starts.len() - 1)];
            let spans = references.iter().map(|reference| at(reference.start_index)..at(reference.end_index)).collect();
            questions.push(Question { text: text.clone(), corpus: corpus.clone(), spans });
        }
        Ok(Self { corpora, questions })
    }
}

/// The sample library with questions that it answers and others that it doesn't.
#[derive(Deserialize)]
pub(crate) struct Library {
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    pub(crate) answered: Vec<Answered>,
    pub(crate) refused: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Answered {
    pub(crate) question: String,
    pub(crate) file: String,
    /// Words of the answer as they stand there.
    pub(crate) words: String,
}

impl Library {
    pub(crate) fn open() -> Outcome<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let questions = std::fs::read_to_string(here.join("tests/library.json"))?;
        Ok(Self { folder: here.join("../../library"), ..serde_json::from_str(&questions)? })
    }
}

/// Rows of a comma-separated file with quoted cells.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            _ => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}
