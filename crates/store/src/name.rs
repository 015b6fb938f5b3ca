//! Names that a person can type: `smollm2-135m-instruct:q4_1`.

use crate::gguf::{Header, file_type_name};
use base::ModelFacts;
use std::path::Path;

const NAME_CHARS_MAX: usize = 80;

/// A name from the file's own name, which is what the person sees; from the header when the file's
/// name says nothing (`model.gguf`, a hash). What a model was fine-tuned from is often all that its
/// header names, so the header comes second.
pub(crate) fn name_of(path: &Path, header: &Header, facts: &ModelFacts) -> String {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = crate::model::split_name(&file).map_or(file.strip_suffix(".gguf").unwrap_or(&file), |(stem, ..)| stem);
    let (base, tag) = match split_tag(stem) {
        Some((base, tag)) => (base, tag.to_owned()),
        None => (stem, tag_of(header, facts)),
    };
    let base = plain(&if says_nothing(base) { titled(header, facts) } else { base.to_owned() });
    format!("{}:{}", if base.is_empty() { &facts.arch } else { &base }, plain(&tag))
}

/// Appends `-2`, `-3` … until `taken` no longer knows the name.
pub(crate) fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let (base, tag) = name.split_once(':').unwrap_or((name, ""));
    let numbered =
        |number: u64| if tag.is_empty() { format!("{base}-{number}") } else { format!("{base}-{number}:{tag}") };
    (2..).map(numbered).find(|name| !taken(name)).expect("not every number is taken")
}

/// The maker's name for the mix of types where the file says it, else the commonest type.
fn tag_of(header: &Header, facts: &ModelFacts) -> String {
    let mix = header.number::<u32>("general.file_type").and_then(file_type_name);
    mix.unwrap_or(&facts.quantization).to_owned()
}

fn titled(header: &Header, facts: &ModelFacts) -> String {
    if !facts.title.is_empty() {
        return facts.title.clone();
    }
    let parts = ["general.basename", "general.size_label", "general.finetune"].map(|key| header.text(key));
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

/// Base and quantization of a file's stem.
pub(crate) fn split_tag(stem: &str) -> Option<(&str, &str)> {
    let (at, _) = stem.char_indices().rev().find(|(_, c)| matches!(c, '.' | '-'))?;
    let (base, tag) = (&stem[..at], &stem[at + 1..]);
    if !is_tag(tag) || base.is_empty() {
        return None;
    }
    // `UD-Q4_K_XL`: one maker's mixes carry a mark of their own.
    match base.strip_suffix("-UD").filter(|base| !base.is_empty()) {
        Some(short) => Some((short, &stem[short.len() + 1..])),
        None => Some((base, tag)),
    }
}

fn is_tag(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    if matches!(upper.as_str(), "F16" | "F32" | "BF16" | "FP16" | "FP32" | "MXFP4" | "NVFP4" | "MXFP4_MOE") {
        return true;
    }
    let digits = upper.strip_prefix("IQ").or_else(|| upper.strip_prefix("TQ")).or_else(|| upper.strip_prefix('Q'));
    digits.is_some_and(|rest| {
        let mut chars = rest.chars();
        chars.next().is_some_and(|c| c.is_ascii_digit()) && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn says_nothing(base: &str) -> bool {
    let lower = base.to_ascii_lowercase();
    let hash = lower.strip_prefix("sha256-").unwrap_or(&lower);
    matches!(lower.as_str(), "model" | "ggml-model" | "ggml" | "weights" | "gguf" | "")
        || hash.len() >= 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Lower case; letters, digits, dots, dashes and underscores; everything else becomes a single dash.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.to_lowercase().chars().take(NAME_CHARS_MAX) {
        if c.is_alphanumeric() || matches!(c, '.' | '_') {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_fall_apart_into_model_and_mix() {
        for (stem, want) in [
            ("SmolLM2-135M-Instruct.Q4_1", Some(("SmolLM2-135M-Instruct", "Q4_1"))),
            ("Qwen2.5-0.5B-Instruct-Q4_K_M", Some(("Qwen2.5-0.5B-Instruct", "Q4_K_M"))),
            ("gemma-3-4b-it-UD-IQ2_XXS", Some(("gemma-3-4b-it", "UD-IQ2_XXS"))),
            ("gpt-oss-20b-mxfp4", Some(("gpt-oss-20b", "mxfp4"))),
            ("all-MiniLM-L6-v2-f16", Some(("all-MiniLM-L6-v2", "f16"))),
            ("Qwen3-8B", None),
            ("qwen-Quick", None),
            ("Q8_0", None),
            ("-Q8_0", None),
            ("", None),
        ] {
            assert_eq!(split_tag(stem), want, "{stem}");
        }
    }

    #[test]
    fn names_are_plain_and_unique() {
        assert_eq!(plain("Smollm2 135M 8k  Lc100K!"), "smollm2-135m-8k-lc100k");
        assert_eq!(plain("../../etc/passwd"), "etc-passwd");
        assert!(says_nothing("ggml-model") && says_nothing(&"a1".repeat(32)) && !says_nothing("phi-4"));
        let taken = ["a:q8_0", "a-2:q8_0", "b"];
        assert_eq!(unique("a:q8_0", |name| taken.contains(&name)), "a-3:q8_0");
        assert_eq!(unique("b", |name| taken.contains(&name)), "b-2");
        assert_eq!(unique("c:f16", |name| taken.contains(&name)), "c:f16");
    }
}
