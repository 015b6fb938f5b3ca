//! What a hub's repository holds and which of it to take; pure.

use crate::model::split_name;
use crate::name::split_tag;
use base::{Code, Fault};
use serde::Deserialize;
use std::collections::BTreeMap;

/// From small and good to large, then what is left; the first that is there is taken.
const PREFERRED: [&str; 27] = [
    "Q4_K_M",
    "Q4_K_XL",
    "Q4_K_S",
    "Q4_K_L",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_1",
    "Q4_0",
    "MXFP4",
    "MXFP4_MOE",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q6_K",
    "Q8_0",
    "Q3_K_L",
    "Q3_K_M",
    "IQ3_M",
    "Q3_K_S",
    "IQ3_XS",
    "Q2_K",
    "IQ2_M",
    "F16",
    "FP16",
    "BF16",
    "F32",
];

/// Answer of `/api/models/OWNER/REPO`; fields that aren't named here are left unread.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    /// The commit that `main` stands for now.
    pub sha: Option<String>,
    #[serde(rename = "cardData")]
    card: Option<Card>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Card {
    license: Option<serde_json::Value>,
    license_name: Option<String>,
}

impl About {
    /// As the repository states it; empty when it doesn't.
    pub(super) fn license(&self) -> String {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Array(several) => {
                Some(several.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(", "))
            }
            _ => None,
        };
        let card = self.card.as_ref();
        let stated = card.and_then(|card| card.license.as_ref()).and_then(text);
        let tagged = || self.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned);
        match stated.or_else(tagged) {
            // `other` names the licence elsewhere.
            Some(license) if license == "other" => card.and_then(|card| card.license_name.clone()).unwrap_or(license),
            license => license.unwrap_or_default(),
        }
    }

    /// A commit when the hub named one, so that listing and files are of one version.
    pub(super) fn revision(&self) -> &str {
        let commit = |sha: &&str| sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.sha.as_deref().filter(commit).unwrap_or("main")
    }
}

/// One element of `/api/models/OWNER/REPO/tree/REVISION`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    kind: String,
    pub path: String,
    size: u64,
    lfs: Option<Large>,
}

#[derive(Debug, Clone, Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

impl Item {
    pub(super) fn bytes(&self) -> u64 {
        self.lfs.as_ref().map_or(self.size, |large| large.size)
    }

    /// Large files are named by their SHA-256; small ones only by git's own hash, which is of no use here.
    pub(super) fn sha256(&self) -> Option<String> {
        let oid = &self.lfs.as_ref()?.oid;
        Some(oid.strip_prefix("sha256:").unwrap_or(oid).to_ascii_lowercase())
    }

    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// One model of a repository: a file, or all parts of a split one.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// `Q4_K_M`; empty when the file's name says none.
    pub tag: String,
    pub files: Vec<Item>,
    /// Parts that the names speak of.
    parts: u32,
}

impl Choice {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(Item::bytes).fold(0, u64::saturating_add)
    }

    fn bare_tag(&self) -> String {
        let upper = self.tag.to_ascii_uppercase();
        upper.strip_prefix("UD-").map_or(upper.clone(), str::to_owned)
    }
}

/// The models among a repository's files; companions (pictures, statistics) are left out.
pub(super) fn choices(items: &[Item]) -> Vec<Choice> {
    let mut groups: BTreeMap<String, Choice> = BTreeMap::new();
    for item in items.iter().filter(|item| item.kind == "file") {
        let name = item.file_name();
        let lower = name.to_ascii_lowercase();
        if !lower.ends_with(".gguf") || lower.contains("mmproj") || lower.contains("imatrix") {
            continue;
        }
        let (stem, parts) = match split_name(name) {
            Some((stem, _, count)) => (stem, count),
            None => (&name[..name.len() - ".gguf".len()], 1),
        };
        // Some makers name the folder after the mix, others the file.
        let folder = item.path.strip_suffix(name).unwrap_or_default().trim_end_matches('/');
        let tag = split_tag(stem).map_or_else(|| folder_tag(folder).to_owned(), |(_, tag)| tag.to_owned());
        let group = groups.entry(format!("{folder}/{stem}"));
        group.or_insert(Choice { tag, files: Vec::new(), parts }).files.push(item.clone());
    }
    let mut choices: Vec<_> = groups.into_values().collect();
    choices.iter_mut().for_each(|choice| choice.files.sort_by(|a, b| a.path.cmp(&b.path)));
    choices
}

fn folder_tag(folder: &str) -> &str {
    let last = folder.rsplit('/').next().unwrap_or(folder);
    // Any stem will do: only the tag is asked for.
    if split_tag(&format!("m-{last}")).is_some() { last } else { "" }
}

/// Takes the wished mix or file, else the first of the preferred order.
pub(super) fn choose(repo: &str, choices: &[Choice], wish: Option<&str>) -> Result<Choice, Fault> {
    if choices.is_empty() {
        return Err(Fault::new(Code::ModelMissing, format!("`{repo}` holds no GGUF model"))
            .hint("most models have a second repository with GGUF files: look for the name with `GGUF` on the hub"));
    }
    let found: Vec<_> = match wish {
        Some(wish) => wished(choices, wish),
        None => preferred(choices),
    };
    match found.as_slice() {
        [one] if one.files.len() as u32 != one.parts => Err(Fault::new(
            Code::ModelMissing,
            format!("`{repo}` has {} of the {} parts of `{}`", one.files.len(), one.parts, one.tag),
        )
        .hint("choose another one, or ask the repository's owner")),
        [one] => Ok((*one).clone()),
        [] => Err(Fault::new(
            Code::ModelMissing,
            format!("`{repo}` has no `{}`; it has {}", wish.unwrap_or_default(), offered(choices)),
        )
        .hint(format!("`freehold pull hf:{repo}` takes the usual one"))),
        several => {
            let files: Vec<_> = several.iter().map(|choice| format!("`{}`", choice.files[0].path)).collect();
            Err(Fault::new(Code::InvalidAsk, format!("`{repo}` has several such models: {}", shortened(&files)))
                .hint(format!("name the file: `freehold pull hf:{repo}:{}`", several[0].files[0].path)))
        }
    }
}

fn wished<'a>(choices: &'a [Choice], wish: &str) -> Vec<&'a Choice> {
    let by = |test: &dyn Fn(&Choice) -> bool| choices.iter().filter(|choice| test(choice)).collect::<Vec<_>>();
    let file = by(&|choice| choice.files.iter().any(|item| item.path == wish || item.file_name() == wish));
    if !file.is_empty() {
        return file;
    }
    let exact = by(&|choice| choice.tag.eq_ignore_ascii_case(wish));
    if exact.is_empty() { by(&|choice| choice.bare_tag().eq_ignore_ascii_case(wish)) } else { exact }
}

fn preferred(choices: &[Choice]) -> Vec<&Choice> {
    for tag in PREFERRED {
        let found = wished(choices, tag);
        if !found.is_empty() {
            return found;
        }
    }
    // Names that say nothing: one model is clear, several aren't.
    choices.iter().collect()
}

fn offered(choices: &[Choice]) -> String {
    let name = |choice: &Choice| match choice.tag.as_str() {
        "" => choice.files[0].file_name().to_owned(),
        tag => tag.to_owned(),
    };
    let mut names: Vec<_> =
        choices.iter().map(|choice| format!("{} ({})", name(choice), base::Bytes(choice.bytes()))).collect();
    names.dedup();
    shortened(&names)
}

fn shortened(names: &[String]) -> String {
    const SHOWN_MAX: usize = 12;
    let shown = names[..names.len().min(SHOWN_MAX)].join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
