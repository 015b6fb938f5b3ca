//! What a reranker says, made elsewhere: pairs of question and passage go out by `--pairs`, their scores come back by
//! `--ranks`.

use super::{Outcome, Settings};
use freehold_map::Rerank;
use freehold_map::rerank::Judged;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Scores of pairs, or a notebook of the pairs that need some.
#[derive(Debug)]
pub(crate) enum Ranks {
    Known(HashMap<(String, String), f32>),
    Wanted(Mutex<BTreeSet<(String, String)>>),
}

#[derive(Serialize)]
struct Pair<'a> {
    query: &'a str,
    document: &'a str,
}

#[derive(Deserialize)]
struct Scored {
    query: String,
    document: String,
    score: f32,
}

impl Ranks {
    pub(crate) fn open(settings: &Settings) -> Outcome<Option<Arc<Self>>> {
        if settings.pairs.is_some() {
            return Ok(Some(Arc::new(Self::Wanted(Mutex::default()))));
        }
        let Some(path) = &settings.ranks else { return Ok(None) };
        let mut known = HashMap::new();
        for line in std::fs::read_to_string(path)?.lines() {
            let Scored { query, document, score } = serde_json::from_str(line)?;
            known.insert((query, document), score);
        }
        Ok(Some(Arc::new(Self::Known(known))))
    }

    /// Writes the pairs that were asked for, one a line.
    pub(crate) fn write(&self, path: &Path) -> Outcome<()> {
        let Self::Wanted(wanted) = self else { return Ok(()) };
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (query, document) in wanted.lock().expect("no thread panicked").iter() {
            writeln!(out, "{}", serde_json::to_string(&Pair { query, document })?)?;
        }
        Ok(out.flush()?)
    }
}

impl Rerank for Ranks {
    fn model(&self) -> String {
        "from a file".into()
    }

    fn judge(&self, question: &str, passages: &[String]) -> Result<Judged, base::Fault> {
        let pair = |passage: &String| (question.to_owned(), passage.clone());
        let known = match self {
            Self::Wanted(wanted) => {
                wanted.lock().expect("no thread panicked").extend(passages.iter().map(pair));
                return Ok(Judged { scores: vec![0.0; passages.len()], shortened: 0 });
            }
            Self::Known(known) => known,
        };
        let score = |passage: &String| {
            known.get(&pair(passage)).copied().ok_or_else(|| {
                base::Fault::new(base::Code::ModelUnfit, format!("no score for a passage that begins `{passage:.60}`"))
            })
        };
        Ok(Judged { scores: passages.iter().map(score).collect::<Result<_, _>>()?, shortened: 0 })
    }
}
