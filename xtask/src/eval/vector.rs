//! Vectors of an evaluation's texts, made by the real embedder through daemon and HTTP, kept in the cache.

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

/// Texts in one request.
const BATCH: usize = 32;

/// Writes a line `{"text": …, "vector": […]}` for every text, and says which model made them. What an
/// earlier run has made with the same file of the same embedder is taken from it.
///
/// # Errors
/// When the programs can't be built, the model can't be had or a text is refused.
pub(super) fn make(texts: &Path, vectors: &Path) -> Result<String> {
    let wanted = texts_of(texts)?;
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let sum = place::output(Command::new("sha256sum").arg(&starter.embed))?;
    let model = sum.split_whitespace().next().context("sha256sum said nothing")?.to_string();
    let kept = vectors.with_extension(format!("{}.kept", model.get(..16).unwrap_or(&model)));
    let mut known = known(&kept)?;
    let missing: Vec<&String> = wanted.iter().filter(|text| !known.contains_key(*text)).collect();
    if !missing.is_empty() {
        let daemon = Daemon::start(&freehold, &starter)?;
        let name = embedder(&daemon)?;
        for (done, batch) in missing.chunks(BATCH).enumerate() {
            eprint!("\rembedding {} of {} texts ", done * BATCH, missing.len());
            let reply = http::post(&daemon.address, "/v1/embeddings", &json!({ "model": name, "input": batch }))?;
            let text: String = reply.lines.iter().map(|line| line.text.as_str()).collect();
            let value: Value = serde_json::from_str(&text).context("the reply isn't JSON")?;
            let rows = value["data"].as_array().context("the reply holds no data")?;
            if rows.len() != batch.len() {
                bail!("{} vectors came for {} texts", rows.len(), batch.len());
            }
            known.extend(batch.iter().zip(rows).map(|(text, row)| ((*text).clone(), row["embedding"].clone())));
        }
        eprintln!();
        write(&kept, known.iter())?;
    }
    write(vectors, known.iter().filter(|(text, _)| wanted.binary_search(text).is_ok()))?;
    Ok(format!("{} texts by the starter embedder, SHA-256 {model}", wanted.len()))
}

fn embedder(daemon: &Daemon<'_>) -> Result<String> {
    let models = daemon.json(&["models"])?;
    let rows = models["models"].as_array().context("`freehold models` lists nothing")?;
    let row = rows.iter().find(|row| row["kind"] == "embed").context("the embedder isn't listed")?;
    Ok(row["name"].as_str().context("a model without a name")?.to_string())
}

/// One JSON string a line.
fn texts_of(path: &Path) -> Result<Vec<String>> {
    let file = BufReader::new(File::open(path).with_context(|| format!("can't read `{}`", path.display()))?);
    let mut texts = Vec::new();
    for line in file.lines() {
        texts.push(serde_json::from_str(&line?).context("a text isn't a JSON string")?);
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}

fn known(path: &Path) -> Result<BTreeMap<String, Value>> {
    let Ok(file) = File::open(path) else { return Ok(BTreeMap::new()) };
    let mut known = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let mut value: Value =
            serde_json::from_str(&line?).with_context(|| format!("`{}` is damaged", path.display()))?;
        let text = value["text"].as_str().context("a vector without its text")?.to_string();
        known.insert(text, value["vector"].take());
    }
    Ok(known)
}

fn write<'a>(path: &Path, vectors: impl Iterator<Item = (&'a String, &'a Value)>) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut out = BufWriter::new(File::create(&fresh)?);
    for (text, vector) in vectors {
        writeln!(out, "{}", json!({ "text": text, "vector": vector }))?;
    }
    out.into_inner()?.sync_all()?;
    std::fs::rename(&fresh, path).with_context(|| format!("can't write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_kept_and_found_again() {
        let folder = std::env::temp_dir().join(format!("freehold-vectors-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("vectors.jsonl");
        assert!(known(&path).unwrap().is_empty());
        let map = BTreeMap::from([("a \"b\"".to_string(), json!([0.5, -1.0])), ("c".to_string(), json!([1.0]))]);
        write(&path, map.iter()).unwrap();
        assert_eq!(known(&path).unwrap(), map);
        std::fs::write(folder.join("texts.jsonl"), "\"c\"\n\"a\"\n\"c\"\n").unwrap();
        assert_eq!(texts_of(&folder.join("texts.jsonl")).unwrap(), ["a", "c"]);
        std::fs::write(&path, "not JSON\n").unwrap();
        assert!(known(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
