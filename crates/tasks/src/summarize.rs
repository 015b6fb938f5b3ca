//! Summaries and titles: one call where the text fits, else parts, and what was made of them joined and taken again.

mod held;

use crate::language::is_little;
use crate::prompt::Prompt;
use crate::sentence;
use crate::work::{Work, failed, unfinished};
use base::{Fault, Shape};
use serde::{Deserialize, Serialize};

/// LIMIT: passes over what was made of the parts before. Each makes it several times shorter.
const PASSES_MAX: u32 = 6;
/// LIMIT: tokens that a summary of one part may have.
const PART_TOKENS_MAX: u32 = 200;
/// LIMIT: tokens of a part that is read with care.
const CAREFUL_TOKENS: u32 = 2000;
/// LIMIT: words beyond the limit that are waited for, to cut where there is a pause.
const WORDS_SPARE: usize = 8;
/// Fewer words are no sentence of their own.
const FIRST_WORDS_MIN: usize = 3;
/// LIMIT: words of a title.
const TITLE_WORDS_MAX: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SummaryType {
    /// What it is about. The drafts wrote it the other way once.
    #[serde(alias = "tl;dr")]
    Tldr,
    /// What makes one want to read it.
    Teaser,
    #[default]
    KeyPoints,
    Headline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    PlainText,
    #[default]
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    #[default]
    Short,
    Medium,
    Long,
}

/// How large the parts of a long text are: for `speed` as large as the window allows, for `capability` so small that
/// little of each is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preference {
    #[default]
    Auto,
    Speed,
    Capability,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Summarize {
    pub text: String,
    #[serde(default)]
    pub r#type: SummaryType,
    #[serde(default)]
    pub format: Format,
    #[serde(default)]
    pub length: Length,
    #[serde(default)]
    pub preference: Preference,
    /// Helps to understand the texts of one run; it is material, too.
    #[serde(default)]
    pub shared_context: String,
    #[serde(default)]
    pub context: String,
    /// As BCP 47 writes it; the text's own when there is none.
    #[serde(default)]
    pub output_language: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub summary: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Title {
    pub text: String,
    #[serde(default)]
    pub context: String,
    #[serde(default)]
    pub output_language: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Titled {
    pub title: String,
}

/// What the result must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Sentences(usize),
    /// One paragraph of at most so many sentences.
    Paragraph(usize),
    Bullets(usize),
    Words(usize),
}

impl Limit {
    fn of(kind: SummaryType, length: Length) -> Self {
        fn by<T>(length: Length, [short, medium, long]: [T; 3]) -> T {
            match length {
                Length::Short => short,
                Length::Medium => medium,
                Length::Long => long,
            }
        }
        match kind {
            SummaryType::Tldr | SummaryType::Teaser => {
                by(length, [Limit::Sentences(1), Limit::Paragraph(3), Limit::Paragraph(6)])
            }
            SummaryType::KeyPoints => Limit::Bullets(by(length, [3, 5, 7])),
            SummaryType::Headline => Limit::Words(by(length, [12, 17, 22])),
        }
    }

    /// For the prompt.
    fn words(self) -> String {
        match self {
            Limit::Sentences(1) => "one sentence".into(),
            Limit::Sentences(count) => format!("{count} sentences"),
            Limit::Paragraph(3) => "one short paragraph".into(),
            Limit::Paragraph(_) => "one paragraph".into(),
            Limit::Bullets(count) => format!("{count} bullet points"),
            Limit::Words(count) => format!("{count} words"),
        }
    }

    /// LIMIT: tokens of the answer.
    fn tokens_max(self) -> u32 {
        match self {
            Limit::Sentences(_) => 96,
            Limit::Paragraph(sentences) => 64 * u32::try_from(sentences).unwrap_or(1),
            Limit::Bullets(count) => 64 * u32::try_from(count).unwrap_or(1),
            Limit::Words(count) => 4 * u32::try_from(count + WORDS_SPARE).unwrap_or(1),
        }
    }

    fn shape(self) -> Result<Shape, Fault> {
        match self {
            Limit::Sentences(_) | Limit::Paragraph(_) => Shape::regex(r"[^\s#*<][^\n]{0,1200}"),
            Limit::Bullets(count) => {
                let more = count.saturating_sub(1);
                Shape::regex(format!(r"- [^\s*-][^\n]{{2,240}}(\n- [^\s*-][^\n]{{2,240}}){{0,{more}}}"))
            }
            Limit::Words(count) => {
                // Some words more may come, and go again: a model that must end here glues the rest together.
                let more = count + WORDS_SPARE;
                Shape::regex(format!(r##"[^\s"#*<]\S{{0,24}}( \S{{1,24}}){{0,{more}}}"##))
            }
        }
    }

    /// The answer without what is more than was asked for, or wasn't.
    fn keep_to(self, answer: &str, cut: bool) -> String {
        let answer = answer.trim();
        match self {
            Limit::Sentences(count) => tidy(sentence::first(one_paragraph(answer), count)),
            Limit::Paragraph(count) => {
                let kept = sentence::first(one_paragraph(answer), count);
                tidy(if cut { without_begun_sentence(kept) } else { kept })
            }
            Limit::Bullets(count) => bullets(answer, count, cut),
            Limit::Words(count) => {
                let line = tidy(answer.lines().next().unwrap_or_default());
                // A second sentence is one too many, but `No. 7` ends none.
                let one = sentence::first(&line, 1);
                let line = if one.split_whitespace().count() >= FIRST_WORDS_MIN { one } else { &line };
                let words: Vec<&str> = line.split_whitespace().collect();
                let kept = if words.len() > count { within(&words[..count]) } else { &words[..] };
                kept.join(" ").trim_end_matches(['.', ',', ';', ':']).to_owned()
            }
        }
    }
}

/// Of words that were cut off: up to the last pause among them, or without little words at the end.
fn within<'w>(words: &'w [&'w str]) -> &'w [&'w str] {
    let pauses = |word: &&str| word.ends_with(['.', ',', ';', ':', '!', '?']);
    if let Some(at) = words.iter().rposition(pauses).filter(|at| *at >= 2) {
        return &words[..=at];
    }
    let end = words.iter().rposition(|word| !is_little(&word.to_lowercase()));
    &words[..end.map_or(words.len(), |at| at + 1)]
}

fn one_paragraph(text: &str) -> &str {
    text.split("\n\n").next().unwrap_or(text)
}

/// A last sentence that doesn't end goes, where there is another.
fn without_begun_sentence(text: &str) -> &str {
    let ends = |text: &str| text.trim_end().ends_with(['.', '!', '?', '…', '"', '”', '。', '！', '？']);
    if ends(text) {
        return text;
    }
    let found = sentence::sentences(text);
    match found.len().checked_sub(2).and_then(|before| found.get(before)) {
        Some(range) if ends(&text[..range.end]) => text[..range.end].trim_end(),
        Some(_) | None => text,
    }
}

/// Lines that are different bullets, as Markdown writes them. Small models repeat themselves.
fn bullets(answer: &str, most: usize, cut: bool) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut found: Vec<&str> = answer.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if cut && found.len() > 1 {
        found.pop();
    }
    for line in found {
        let bare = line.trim_start_matches(['-', '*', '•', '–']).trim_start();
        let bare = bare.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(['.', ')']).trim();
        let bare = if bare.is_empty() { line } else { bare };
        let same = |other: &String| other.eq_ignore_ascii_case(bare);
        if !bare.is_empty() && !lines.iter().any(same) && lines.len() < most {
            lines.push(bare.to_owned());
        }
    }
    lines.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}

/// Without quotation marks or emphasis around all of it, and without a label in front.
fn tidy(text: &str) -> String {
    let mut text = text.trim();
    for label in ["Summary:", "Headline:", "Title:", "Teaser:"] {
        text = text.strip_prefix(label).map_or(text, str::trim_start);
    }
    for mark in ["**", "\"", "'", "“"] {
        let close = if mark == "“" { "”" } else { mark };
        let inner = text.strip_prefix(mark).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains(mark)) {
            text = inner.trim();
        }
    }
    text.to_owned()
}

/// Markdown's marks taken away.
fn plain(text: &str) -> String {
    let line = |line: &str| {
        let bare = line.trim_start_matches('#').trim_start();
        let bare = bare.strip_prefix("- ").unwrap_or(bare);
        bare.replace("**", "").replace("__", "").replace('`', "")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn in_language(code: Option<&str>) -> Result<String, Fault> {
    code.map_or(Ok(String::new()), |code| {
        let name = crate::language::name_of("outputLanguage", code)?;
        Ok(format!(" Write in {name}."))
    })
}

impl Summarize {
    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Summary, Fault> {
        if self.text.trim().is_empty() {
            return Ok(Summary { summary: String::new() });
        }
        let limit = Limit::of(self.r#type, self.length);
        let variant = match self.r#type {
            SummaryType::Tldr => "tldr",
            SummaryType::Teaser => "teaser",
            SummaryType::KeyPoints => "key-points",
            SummaryType::Headline => "headline",
        };
        let tier = work.tier("summarize", variant)?;
        let language = in_language(self.output_language.as_deref())?;
        let prompt = Prompt::new(tier, vec![("limit", limit.words()), ("language", language)])
            .with_context([self.shared_context.as_str(), self.context.as_str()]);
        let part_tokens_max = match self.preference {
            Preference::Auto => tier.part_tokens_max,
            Preference::Speed => None,
            Preference::Capability => Some(tier.part_tokens_max.unwrap_or(CAREFUL_TOKENS).min(CAREFUL_TOKENS)),
        };
        let prompt = Prompt { part_tokens_max, ..prompt };
        let text = shortened(work, &prompt, &self.text, limit.tokens_max())?;
        let made = last(work, &prompt, &text, limit)?;
        let summary = match self.format {
            Format::Markdown => made,
            Format::PlainText => plain(&made),
        };
        work.text(&summary);
        Ok(Summary { summary })
    }
}

impl Title {
    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Titled, Fault> {
        if self.text.trim().is_empty() {
            return Ok(Titled { title: String::new() });
        }
        let limit = Limit::Words(TITLE_WORDS_MAX);
        let tier = work.tier("title", "title")?;
        let language = in_language(self.output_language.as_deref())?;
        let prompt = Prompt::new(tier, vec![("limit", limit.words()), ("language", language)])
            .with_context([self.context.as_str()]);
        let text = shortened(work, &prompt, &self.text, limit.tokens_max())?;
        let title = last(work, &prompt, &text, limit)?;
        work.text(&title);
        Ok(Titled { title })
    }
}

fn last(work: &mut Work<'_>, prompt: &Prompt<'_>, text: &str, limit: Limit) -> Result<String, Fault> {
    let answer = work.complete(prompt.messages(text), limit.shape()?, limit.tokens_max())?;
    let made = limit.keep_to(&answer.text, unfinished(answer.finish));
    let made = if checks(prompt) { limit.held(&made, text) } else { made };
    if made.is_empty() {
        return Err(failed("the model said nothing about the text"));
    }
    Ok(made)
}

/// Whether what a model says is held against the text: in another language its words can't be the text's.
fn checks(prompt: &Prompt<'_>) -> bool {
    prompt.tier.grounded && prompt.values.iter().all(|(name, value)| *name != "language" || value.is_empty())
}

/// The text, or where it is longer than the prompt's parts what stands in them, as often as it takes.
fn shortened(work: &mut Work<'_>, prompt: &Prompt<'_>, text: &str, answer_tokens: u32) -> Result<String, Fault> {
    let mut text = text.to_owned();
    let mut first = true;
    loop {
        let (parts, tokens) = work.parts(prompt, &text, answer_tokens)?;
        if first {
            work.declare(parts.len(), tokens);
        }
        first = false;
        if parts.len() == 1 {
            return Ok(text);
        }
        if work.plan.passes >= PASSES_MAX {
            let words = format!("the model's summaries of the parts didn't get shorter in {PASSES_MAX} passes");
            return Err(failed(words));
        }
        work.plan.passes += 1;
        let tier = work.tier("summarize", "part")?;
        let of_part = Prompt { tier, ..prompt.clone() };
        let limit = Limit::Bullets(5);
        let mut joined = String::new();
        for (done, range) in parts.iter().enumerate() {
            work.progress(done, parts.len());
            let part = &text[range.clone()];
            if part.trim().is_empty() {
                continue;
            }
            let answer = work.complete(of_part.messages(part), limit.shape()?, PART_TOKENS_MAX)?;
            let made = limit.keep_to(&answer.text, unfinished(answer.finish));
            let made = if checks(&of_part) { limit.held(&made, part) } else { made };
            if made.is_empty() {
                let words = format!("the model said nothing about part {} of {}", done + 1, parts.len());
                return Err(failed(words));
            }
            joined.push_str(&made);
            joined.push_str("\n\n");
        }
        work.progress(parts.len(), parts.len());
        text = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_was_asked_for_goes() {
        let one = Limit::Sentences(1);
        assert_eq!(one.keep_to("Summary: It rains. It pours.\n\nMore.", false), "It rains.");
        assert_eq!(one.keep_to("\"It rains.\"", false), "It rains.");
        let two = Limit::Bullets(2);
        assert_eq!(two.keep_to("* a\n1. b\n- A\n- c", false), "- a\n- b");
        assert_eq!(two.keep_to("- a\n- beg", true), "- a");
        assert_eq!(Limit::Words(3).keep_to("**One two three four.**", false), "One two three");
        let five = Limit::Words(5);
        assert_eq!(five.keep_to("Old bridge closed, and the cars go by the mill", false), "Old bridge closed");
        assert_eq!(five.keep_to("Old bridge closed by the town and its council", false), "Old bridge closed");
        assert_eq!(five.keep_to("Old, grey bridge closed", false), "Old, grey bridge closed");
        assert_eq!(Limit::Paragraph(3).keep_to("One. Two. Thr", true), "One. Two.");
        assert_eq!(Limit::Paragraph(3).keep_to("Only begun", true), "Only begun");
    }

    #[test]
    fn the_drafts_lengths_are_kept_to() {
        let of = |kind, lengths: [Length; 3]| lengths.map(|length| Limit::of(kind, length));
        let all = [Length::Short, Length::Medium, Length::Long];
        assert_eq!(of(SummaryType::KeyPoints, all), [3, 5, 7].map(Limit::Bullets));
        assert_eq!(of(SummaryType::Headline, all), [12, 17, 22].map(Limit::Words));
        assert_eq!(of(SummaryType::Tldr, all), [Limit::Sentences(1), Limit::Paragraph(3), Limit::Paragraph(6)]);
        let plain = Summarize::default();
        assert_eq!(
            (plain.r#type, plain.format, plain.length),
            (SummaryType::KeyPoints, Format::Markdown, Length::Short)
        );
    }

    #[test]
    fn plain_text_has_no_marks() {
        assert_eq!(plain("# Head\n- **one** `x`\n- two"), "Head\none x\ntwo");
    }
}
