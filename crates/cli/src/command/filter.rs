//! The flags by which `search` and `ask` are kept to some documents.

use super::map::label;
use base::{Code, Fault, Label};
use runtime::view::{Filter, Reranking};
use std::path::Path;

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Only documents")]
pub(crate) struct Only {
    /// In this folder or this file; may be given several times, as the next ones
    #[arg(long = "in", value_name = "PATH")]
    folders: Vec<String>,
    /// Of this format (pdf, mail) or with this ending (md)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Of this day or later: 2026-03-09, 2026-03 or 2026
    #[arg(long, value_name = "DATE")]
    after: Option<String>,
    /// From before this day
    #[arg(long, value_name = "DATE")]
    before: Option<String>,
    /// By this author: a part of the name or address
    #[arg(long = "author", value_name = "NAME")]
    authors: Vec<String>,
    /// In this language: en, de
    #[arg(long = "lang", value_name = "CODE")]
    languages: Vec<String>,
    /// Of maps with this label: private, shareable, public
    #[arg(long = "label", value_name = "LABEL", value_parser = label)]
    labels: Vec<Label>,
}

impl Only {
    pub(crate) fn filter(self) -> Result<Filter, Fault> {
        let Only { folders, types, after, before, authors, languages, labels } = self;
        let folders = folders.iter().map(|folder| absolute(Path::new(folder))).collect::<Result<_, _>>()?;
        Ok(Filter { folders, types, after, before, authors, languages, labels })
    }
}

/// For `--rerank`.
pub(super) fn reranking(text: &str) -> Result<Reranking, String> {
    Reranking::parse(text).ok_or_else(|| "there are on, off and auto".to_string())
}

/// As the map knows it: from the root, without links.
fn absolute(path: &Path) -> Result<String, Fault> {
    let path = std::fs::canonicalize(path)
        .map_err(|error| Fault::new(Code::InvalidAsk, format!("cannot find `{}`", path.display())).cause(error))?;
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::new(Code::InvalidAsk, format!("`{}` is not valid Unicode", path.display()))
            .hint("name the folder above it")
    })
}
