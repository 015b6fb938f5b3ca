//! A model on disk: one file, or a set of files that its maker split it into.

use crate::facts::{FactsError, Weights, facts};
use crate::gguf::{self, GgufError, Header};
use base::{Bytes, Code, Fault, ModelFacts};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Parts of one split model.
const PARTS_MAX: u32 = 1_000;

/// A whole model whose every header has been checked.
#[derive(Debug, Clone)]
pub struct Model {
    pub facts: ModelFacts,
    /// The first part's header, which holds all values.
    pub header: Header,
    pub parts: Vec<PathBuf>,
    pub bytes: Bytes,
}

/// Reads and checks the model that `path` is, or is a part of. Reads headers only: milliseconds.
pub fn read_model(path: &Path) -> Result<Model, Fault> {
    read_parts(split_parts(path)?)
}

/// As [`read_model`], for parts that are known by other means than their names.
pub(crate) fn read_parts(parts: Vec<PathBuf>) -> Result<Model, Fault> {
    let path = parts[0].as_path();
    let (mut file, size, header) = read_part(path)?;
    check_split(&parts, &header)?;
    let mut weights = Weights::default();
    weights.add(&header);
    let mut bytes = size;
    let mut tensors = header.tensors.len() as u64;
    for part in &parts[1..] {
        let (_, size, header) = read_part(part)?;
        weights.add(&header);
        tensors += header.tensors.len() as u64;
        bytes = bytes.saturating_add(size);
    }
    if let Some(expected) = header.number::<u64>("split.tensors.count").filter(|expected| *expected != tensors) {
        return Err(invalid(path, &format!("its parts hold {tensors} tensors, {expected} belong to it")));
    }
    let facts = facts(&header, &mut file, size, &weights).map_err(|error| refused(path, &error))?;
    Ok(Model { facts, header, bytes: Bytes(bytes), parts })
}

fn read_part(path: &Path) -> Result<(File, u64, Header), Fault> {
    let fault = |error: std::io::Error| Fault::io("read", path, &error);
    let mut file = File::open(path).map_err(fault)?;
    let about = file.metadata().map_err(fault)?;
    if !about.is_file() {
        return Err(Fault::new(Code::ModelInvalid, format!("`{}` isn't a file", path.display()))
            .hint("name a GGUF file, or a folder that holds some"));
    }
    let size = about.len();
    if size == 0 {
        return Err(invalid(path, "it is empty"));
    }
    let header = gguf::read(&mut file, size).map_err(|error| match error {
        GgufError::Io(error) => fault(error),
        other => invalid(path, &other.to_string()),
    })?;
    Ok((file, size, header))
}

fn refused(path: &Path, error: &FactsError) -> Fault {
    match error {
        FactsError::Gguf(GgufError::Io(error)) => Fault::io("read", path, error),
        FactsError::NotAModel(what) => {
            Fault::new(Code::ModelUnfit, format!("`{}` is no model by itself: it is {what}", path.display()))
                .hint("add the model's own GGUF file")
        }
        other => invalid(path, &other.to_string()),
    }
}

/// The hint depends on what the person can do: fetch again what was cut, convert what isn't GGUF.
fn invalid(path: &Path, why: &str) -> Fault {
    let fault = Fault::new(Code::ModelInvalid, format!("`{}` isn't a usable model: {why}", path.display()));
    if why.contains("cut off") || why.contains("empty") {
        fault.hint("the download or copy was probably interrupted: fetch the file again")
    } else if why.contains("begins with") {
        fault.hint("Freehold runs GGUF files; most open models are published as GGUF: `freehold pull hf:OWNER/REPO`")
    } else {
        fault.hint("fetch the file again from where it came; if that doesn't help it was made wrongly")
    }
}

/// Stem, number and count of `NAME-00002-of-00005.gguf`.
pub(crate) fn split_name(file_name: &str) -> Option<(&str, u32, u32)> {
    let stem = file_name.strip_suffix(".gguf").unwrap_or(file_name);
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(count) || !digits(number) {
        return None;
    }
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (1..=count).contains(&number).then_some((name, number, count))
}

/// All parts in order, found by name beside `path`.
fn split_parts(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some((stem, _, count)) = name.and_then(split_name) else {
        return Ok(vec![path.to_path_buf()]);
    };
    if count > PARTS_MAX {
        return Err(invalid(path, &format!("it claims {count} parts, at most {PARTS_MAX} are believed")));
    }
    let end = if name.is_some_and(|name| name.ends_with(".gguf")) { ".gguf" } else { "" };
    let parts: Vec<_> =
        (1..=count).map(|number| path.with_file_name(format!("{stem}-{number:05}-of-{count:05}{end}"))).collect();
    match parts.iter().find(|part| !part.exists()) {
        Some(missing) => Err(Fault::new(
            Code::ModelInvalid,
            format!("`{stem}` is split into {count} parts and `{}` is missing", missing.display()),
        )
        .hint("all parts must lie in one folder under the names that they were published with")),
        None => Ok(parts),
    }
}

/// Names and headers must agree on how many parts there are.
fn check_split(parts: &[PathBuf], first: &Header) -> Result<(), Fault> {
    let said = first.number::<u64>("split.count").unwrap_or(1).max(1);
    if said == parts.len() as u64 {
        return Ok(());
    }
    Err(invalid(&parts[0], &format!("its header speaks of {said} parts, its name of {}", parts.len())))
}
