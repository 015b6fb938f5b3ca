//! Scores of an evaluation's pairs of question and passage, made by a reranker through daemon and HTTP, kept in the
//! cache.

use crate::bench::daemon::{Daemon, Freehold, Profile};
use crate::bench::http;
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::Command;

/// Passages in one request.
const BATCH: usize = 32;

type Scores = BTreeMap<(String, String), f64>;

/// Writes a line `{"query": …, "document": …, "score": …}` for every pair, and says which model gave them. What an
/// earlier run has got from the same file is taken from it.
///
/// # Errors
/// When the programs can't be built, the file is no reranker or a pair is refused.
pub(super) fn make(reranker: &Path, pairs: &Path, ranks: &Path) -> Result<String> {
    let wanted = pairs_of(pairs)?;
    let sum = place::output(Command::new("sha256sum").arg(reranker))?;
    let model = sum.split_whitespace().next().context("sha256sum said nothing")?.to_string();
    let kept = ranks.with_extension(format!("{}.kept", model.get(..16).unwrap_or(&model)));
    let mut known = known(&kept)?;
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in wanted.iter().filter(|pair| !known.contains_key(*pair)) {
        missing.entry(&pair.0).or_default().push(&pair.1);
    }
    if !missing.is_empty() {
        let freehold = Freehold::build(Profile::Release)?;
        let daemon = Daemon::start_with(&freehold, &[reranker], &[])?;
        for (done, (query, documents)) in missing.iter().enumerate() {
            eprint!("\rreranking for {done} of {} questions ", missing.len());
            for batch in documents.chunks(BATCH) {
                let scores = scores(&daemon.address, query, batch)?;
                let pair = |document: &&str| ((*query).to_string(), (*document).to_string());
                known.extend(batch.iter().map(pair).zip(scores));
            }
        }
        eprintln!();
        write(&kept, known.iter())?;
    }
    write(ranks, known.iter().filter(|(pair, _)| wanted.binary_search(pair).is_ok()))?;
    Ok(format!("{} pairs by {}, SHA-256 {model}; times are without it", wanted.len(), reranker.display()))
}

/// In the order of the documents.
fn scores(address: &str, query: &str, documents: &[&str]) -> Result<Vec<f64>> {
    let body = json!({ "query": query, "documents": documents, "truncate": true });
    let text = http::post(address, "/v1/rerank", &body)?.text();
    let value: Value = serde_json::from_str(&text).context("the reply isn't JSON")?;
    let rows = value["results"].as_array().with_context(|| format!("the reply holds no results: {text}"))?;
    let mut scores = vec![None; documents.len()];
    for row in rows {
        let at = row["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        if let Some(place) = at.and_then(|at| scores.get_mut(at)) {
            *place = row["relevance_score"].as_f64();
        }
    }
    let all: Option<Vec<f64>> = scores.into_iter().collect();
    let Some(all) = all else { bail!("{} scores came for {} passages", rows.len(), documents.len()) };
    Ok(all)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let file = File::open(path).with_context(|| format!("can't read `{}`", path.display()))?;
    BufReader::new(file)
        .lines()
        .map(|line| serde_json::from_str(&line?).with_context(|| format!("`{}` is damaged", path.display())))
        .collect()
}

fn pair_of(value: &Value) -> Result<(String, String)> {
    let text = |key: &str| value[key].as_str().map(str::to_string).with_context(|| format!("a pair without `{key}`"));
    Ok((text("query")?, text("document")?))
}

/// In order, each once.
fn pairs_of(path: &Path) -> Result<Vec<(String, String)>> {
    let mut pairs = lines(path)?.iter().map(pair_of).collect::<Result<Vec<_>>>()?;
    pairs.sort();
    pairs.dedup();
    Ok(pairs)
}

fn known(path: &Path) -> Result<Scores> {
    if !path.exists() {
        return Ok(Scores::new());
    }
    let score = |line: &Value| Ok((pair_of(line)?, line["score"].as_f64().context("a pair without its score")?));
    lines(path)?.iter().map(score).collect()
}

fn write<'a>(path: &Path, scores: impl Iterator<Item = (&'a (String, String), &'a f64)>) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut out = BufWriter::new(File::create(&fresh)?);
    for ((query, document), score) in scores {
        writeln!(out, "{}", json!({ "query": query, "document": document, "score": score }))?;
    }
    out.into_inner()?.sync_all()?;
    std::fs::rename(&fresh, path).with_context(|| format!("can't write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_kept_and_found_again() {
        let folder = std::env::temp_dir().join(format!("freehold-ranks-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ranks.jsonl");
        assert!(known(&path).unwrap().is_empty());
        let pair = |query: &str, document: &str| (query.to_string(), document.to_string());
        let scores = Scores::from([(pair("q", "a \"b\""), -1.5), (pair("q", "c"), 2.0)]);
        write(&path, scores.iter()).unwrap();
        assert_eq!(known(&path).unwrap(), scores);
        assert_eq!(pairs_of(&path).unwrap(), [pair("q", "a \"b\""), pair("q", "c")]);
        std::fs::write(&path, "{\"query\": \"q\"}\n").unwrap();
        assert!(known(&path).is_err() && pairs_of(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
