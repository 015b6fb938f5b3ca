//! The same in other words, and the same in another language; piece by piece.

mod rules;

use crate::grounds::{found_in, numbers_stand, telling};
use crate::language::{code_of, likely, name_of, seems_english};
use crate::pieces::{How, of_length, rework};
use crate::prompt::Prompt;
use crate::task::invalid;
use crate::work::Work;
use base::Fault;
use serde::{Deserialize, Serialize};

/// Shorter texts are in no particular language.
const LANGUAGE_CHARS_MIN: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tone {
    #[default]
    AsIs,
    MoreFormal,
    MoreCasual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    #[default]
    AsIs,
    PlainText,
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Extent {
    #[default]
    AsIs,
    Shorter,
    Longer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewrite {
    pub text: String,
    #[serde(default)]
    tone: Tone,
    #[serde(default)]
    format: Form,
    #[serde(default)]
    length: Extent,
    /// What else to mind, in the caller's words.
    #[serde(default)]
    instruction: String,
    #[serde(default)]
    pub(crate) shared_context: String,
    #[serde(default)]
    pub(crate) context: String,
    #[serde(default)]
    output_language: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    pub text: String,
    /// Pieces that stay as they were because no answer could be used for them.
    pub left: u32,
}

impl Rewrite {
    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Rewritten, Fault> {
        if self.text.trim().is_empty() {
            return Ok(Rewritten { text: self.text.clone(), left: 0 });
        }
        let tier = work.tier("rewrite", "rewrite")?;
        let language = crate::summarize::in_language(self.output_language.as_deref())?;
        let prompt = Prompt::new(tier, vec![("how", self.how()), ("language", language)])
            .with_context([self.shared_context.as_str(), self.context.as_str()]);
        let length = self.length;
        let of_extent = move |piece: &str, made: &str| match length {
            Extent::AsIs => of_length(piece, made, 0.4, 2.0),
            Extent::Shorter if made.chars().count() > piece.chars().count() => {
                Err("the answer is not shorter".to_owned())
            }
            Extent::Shorter => of_length(piece, made, 0.1, 1.0),
            Extent::Longer => of_length(piece, made, 0.9, 4.0),
        };
        let grounded = tier.grounded && self.output_language.is_none();
        let check = move |piece: &str, made: &str| {
            of_extent(piece, made)?;
            if grounded { keeps_its_meaning(piece, made, length) } else { Ok(()) }
        };
        // Where a small model's words can't be used, rules know some others.
        let english = grounded && seems_english(&self.text);
        let instead = |piece: &str| if english { rules::reworded(piece, self.tone, length) } else { None };
        let how = How { instead: &instead, ..How::checked(&check) };
        let done = rework(work, &prompt, &self.text, &how)?;
        let text = if self.format == Form::PlainText { without_marks(&done.text) } else { done.text };
        Ok(Rewritten { text, left: done.left })
    }

    fn how(&self) -> String {
        let mut parts: Vec<&str> = Vec::new();
        match self.tone {
            Tone::AsIs => {}
            Tone::MoreFormal => parts.push("more formal and polite"),
            Tone::MoreCasual => parts.push("more casual and friendly"),
        }
        match self.length {
            Extent::AsIs => {}
            Extent::Shorter => parts.push("shorter"),
            Extent::Longer => parts.push("longer and more detailed"),
        }
        if self.format == Form::Markdown {
            parts.push("well set in Markdown");
        }
        let instruction = self.instruction.trim();
        if !instruction.is_empty() {
            parts.push(instruction);
        }
        if parts.is_empty() {
            // Nothing named means what a person means by rewriting.
            parts.push("clearer and easier to read");
        }
        parts.join(" and ")
    }
}

/// So many of a text's telling words stay when it is said otherwise, and when it is said shorter.
const KEPT_SHARE_MIN: f64 = 0.5;
const KEPT_SHORTER_MIN: f64 = 0.4;

/// Whether most of what was said is still said, with its numbers and no others.
fn keeps_its_meaning(piece: &str, made: &str, length: Extent) -> Result<(), String> {
    let (own, kept) = (telling(piece), telling(made));
    let least = if length == Extent::Shorter { KEPT_SHORTER_MIN } else { KEPT_SHARE_MIN };
    if (found_in(&own, &kept) as f64) < least * own.len() as f64 {
        return Err("the answer leaves out most of what was said".into());
    }
    if !numbers_stand(made, piece) || !numbers_stand(piece, made) {
        return Err("the answer has other numbers".into());
    }
    Ok(())
}

/// Without the marks of Markdown, for `plain-text`.
fn without_marks(text: &str) -> String {
    let line = |line: &str| {
        let bare = line.trim_start_matches('#');
        let bare = if bare.len() < line.len() { bare.trim_start() } else { line };
        bare.replace("**", "").replace("__", "").replace('`', "")
    };
    text.split_inclusive('\n').map(line).collect()
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Translate {
    pub text: String,
    /// As BCP 47 writes it; found out where it isn't given.
    #[serde(default)]
    source_language: Option<String>,
    target_language: String,
    #[serde(default)]
    pub(crate) context: String,
}

impl Translate {
    pub(crate) fn checked(self) -> Result<Self, Fault> {
        name_of("targetLanguage", &self.target_language)?;
        if let Some(source) = &self.source_language {
            name_of("sourceLanguage", source)?;
        }
        Ok(self)
    }

    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Rewritten, Fault> {
        let unchanged = || Rewritten { text: self.text.clone(), left: 0 };
        if self.text.trim().is_empty() {
            return Ok(unchanged());
        }
        let detected = || {
            likely(&self.text).ok_or_else(|| {
                invalid(
                    "sourceLanguage",
                    "is missing, and the text doesn't show its language",
                    "name it: `en`, `de`, `fr` …",
                )
            })
        };
        let source = self.source_language.clone().map_or_else(detected, Ok)?;
        let base = |code: &str| code.split(['-', '_']).next().unwrap_or(code).to_ascii_lowercase();
        if base(&source) == base(&self.target_language) {
            work.text(&self.text);
            return Ok(unchanged());
        }
        let tier = work.tier("translate", "translate")?;
        let (from, into) = (name_of("sourceLanguage", &source)?, name_of("targetLanguage", &self.target_language)?);
        let prompt = Prompt::new(tier, vec![("source", from.into_owned()), ("target", into.into_owned())])
            .with_context([self.context.as_str()]);
        let source = base(&source);
        let check = move |piece: &str, made: &str| {
            of_length(piece, made, 0.2, 4.0)?;
            let same =
                piece.chars().count() >= LANGUAGE_CHARS_MIN && (made == piece || code_of(made) == Some(source.clone()));
            if same { Err("the answer is still in the language that it came in".to_owned()) } else { Ok(()) }
        };
        let done = rework(work, &prompt, &self.text, &How::checked(&check))?;
        Ok(Rewritten { text: done.text, left: done.left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_put_into_words() {
        let how = |tone, length| Rewrite { tone, length, ..Rewrite::default() }.how();
        assert_eq!(how(Tone::MoreFormal, Extent::Shorter), "more formal and polite and shorter");
        assert_eq!(how(Tone::AsIs, Extent::AsIs), "clearer and easier to read");
    }

    #[test]
    fn plain_text_has_no_marks() {
        assert_eq!(without_marks("## A **b**\n  - `c`\n"), "A b\n  - c\n");
    }
}
