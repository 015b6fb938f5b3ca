//! What models are told: data from `prompts/`, chosen by the model's size, with the input behind clear borders.
//!
//! The instruction and the examples come first and are the same for every input, so that a cache of prefixes holds
//! them; the input comes last. No system message: the templates of some families refuse one.

use base::{Code, Fault, Message, Role};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// How one kind of call is put to models up to a size.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// For models of at most so many parameters; absent in the last one.
    #[serde(default)]
    pub parameters_max: Option<u64>,
    /// What to do. `{border}` names what encloses the text.
    pub rule: String,
    /// Stands behind each text, so that the last words that a model reads are ours.
    #[serde(default)]
    pub tail: String,
    /// LIMIT: tokens of one part: a small model loses its way in more, whatever its window.
    #[serde(default)]
    pub part_tokens_max: Option<u32>,
    /// What comes counts only where the text holds it: a small model makes things up, and copies its examples.
    #[serde(default)]
    pub grounded: bool,
    /// Of classes: judge what was said of a class instead of its name, where something was.
    #[serde(default)]
    pub by_description: bool,
    /// Of classes: the other way round, in one wording after the other as long as the text stays open.
    #[serde(default)]
    pub reverse: Vec<Reverse>,
    #[serde(default)]
    pub examples: Vec<Example>,
}

/// Words behind which a text itself is judged: they hold nothing of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// With `{label}`.
    pub of_label: String,
    pub of_none: String,
}

/// A turn that shows what is wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    pub text: String,
    pub answer: String,
    /// Values of the tail's names in this example.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

type Tiers = BTreeMap<String, Vec<Tier>>;

const FILES: [(&str, &str); 9] = [
    ("summarize", include_str!("../prompts/summarize.toml")),
    ("title", include_str!("../prompts/title.toml")),
    ("classify", include_str!("../prompts/classify.toml")),
    ("extract", include_str!("../prompts/extract.toml")),
    ("rewrite", include_str!("../prompts/rewrite.toml")),
    ("translate", include_str!("../prompts/translate.toml")),
    ("proofread", include_str!("../prompts/proofread.toml")),
    ("normalize", include_str!("../prompts/normalize.toml")),
    ("ask", include_str!("../prompts/ask.toml")),
];

static PROMPTS: LazyLock<BTreeMap<&'static str, Tiers>> = LazyLock::new(|| {
    // INVARIANT: the files are compiled in, and a test reads each of them.
    FILES.iter().map(|(name, text)| (*name, toml::from_str(text).expect("a prompt file is well made"))).collect()
});

/// All variants of all tasks, for whoever wants to look at them.
pub fn tiers() -> impl Iterator<Item = (&'static str, &'static str, &'static [Tier])> {
    PROMPTS.iter().flat_map(|(task, variants)| {
        variants.iter().map(move |(variant, tiers)| (*task, variant.as_str(), tiers.as_slice()))
    })
}

/// The words for a model of this size.
pub(crate) fn tier(task: &str, variant: &str, parameters: u64) -> Result<&'static Tier, Fault> {
    let tiers = PROMPTS.get(task).and_then(|variants| variants.get(variant)).map(Vec::as_slice).unwrap_or_default();
    let fits = |tier: &&Tier| tier.parameters_max.is_none_or(|most| parameters <= most);
    tiers
        .iter()
        .find(fits)
        .ok_or_else(|| Fault::new(Code::Internal, format!("there are no words for `{task}` as `{variant}`")))
}

/// Words for one kind of call, with the values of this one.
#[derive(Debug, Clone)]
pub(crate) struct Prompt<'a> {
    pub(crate) tier: &'static Tier,
    /// Values of the rule's and the tail's names.
    pub(crate) values: Vec<(&'static str, String)>,
    /// Helps to understand the text; material as well.
    pub(crate) context: Vec<&'a str>,
    /// LIMIT: tokens of one part, besides what the window allows.
    pub(crate) part_tokens_max: Option<u32>,
}

impl<'a> Prompt<'a> {
    pub(crate) fn new(tier: &'static Tier, values: Vec<(&'static str, String)>) -> Self {
        Self { tier, values, context: Vec::new(), part_tokens_max: tier.part_tokens_max }
    }

    pub(crate) fn with_context(mut self, context: impl IntoIterator<Item = &'a str>) -> Self {
        self.context = context.into_iter().filter(|text| !text.trim().is_empty()).collect();
        self
    }

    /// The turns for this text: rule and examples, then the text.
    pub(crate) fn messages(&self, text: &str) -> Vec<Message> {
        let border = self.border(text);
        let rule = self.filled(&self.tier.rule, &border, None);
        let mut messages = Vec::with_capacity(2 * self.tier.examples.len() + 1);
        let mut head = format!("{}\n\n", rule.trim());
        for example in &self.tier.examples {
            let tail = self.filled(&self.tier.tail, &border, Some(example));
            let turn = format!("{head}{}", block(&border, &example.text, &tail));
            messages.push(Message::new(Role::User, turn));
            messages.push(Message::new(Role::Assistant, example.answer.trim_end_matches('\n')));
            head.clear();
        }
        for context in &self.context {
            head.push_str(&enclosed(&format!("context-of-{border}"), context));
            head.push_str("\n\n");
        }
        let tail = self.filled(&self.tier.tail, &border, None);
        messages.push(Message::new(Role::User, format!("{head}{}", block(&border, text, &tail))));
        messages
    }

    /// A name that nothing in the input can close: `text`, or `text-2` and so on where the input holds that.
    fn border(&self, text: &str) -> String {
        let all = [text].into_iter().chain(self.context.iter().copied());
        let mut taken: Vec<u32> = all.flat_map(border_numbers).collect();
        taken.sort_unstable();
        taken.dedup();
        let free = (1_u32..).zip(&taken).find(|(number, taken)| number != *taken).map(|(number, _)| number);
        match free.unwrap_or(taken.len() as u32 + 1) {
            1 => "text".to_owned(),
            number => format!("text-{number}"),
        }
    }

    fn filled(&self, words: &str, border: &str, example: Option<&Example>) -> String {
        let value = |name: &str| -> Option<&str> {
            if name == "border" {
                return Some(border);
            }
            let of_example = example.and_then(|example| example.with.get(name)).map(String::as_str);
            of_example.or_else(|| self.values.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str()))
        };
        fill(words, value)
    }
}

/// Puts values for names in braces. What has no value stays, and what a value holds is not looked at again.
fn fill<'v>(words: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let found = rest[open + 1..].find('}').and_then(|close| {
            let name = &rest[open + 1..open + 1 + close];
            value(name).map(|value| (value, open + close + 2))
        });
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = &rest[after..];
            }
            None => {
                out.push('{');
                rest = &rest[open + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The numbers of all borders that the text holds, however they are spaced or capitalised: 1 is `text`, 2 `text-2`.
/// One pass: who sends the text chooses how many there are.
fn border_numbers(text: &str) -> impl Iterator<Item = u32> {
    text.match_indices('<').filter_map(|(at, _)| {
        let inside = text[at + 1..].trim_start().trim_start_matches('/').trim_start();
        let inside = inside.strip_prefix("context-of-").unwrap_or(inside);
        let same = inside.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("text"));
        let rest = same.then(|| &inside[4..])?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        match rest[..end].strip_prefix('-') {
            None => (end == 0).then_some(1),
            // As it would be written here: without zeros before it.
            Some(digits) if digits.starts_with(|c: char| matches!(c, '1'..='9')) => digits.parse().ok(),
            Some(_) => None,
        }
        .filter(|number| *number != 1 || end == 0)
    })
}

fn enclosed(border: &str, text: &str) -> String {
    format!("<{border}>\n{text}\n</{border}>")
}

fn block(border: &str, text: &str, tail: &str) -> String {
    let tail = tail.trim();
    let gap = if tail.is_empty() { "" } else { "\n\n" };
    format!("{}{gap}{tail}", enclosed(border, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_rule_names_the_border_and_says_that_the_text_is_material() {
        let mut seen = 0;
        for (task, variant, tiers) in tiers() {
            seen += 1;
            let named = format!("{task}/{variant}");
            assert!(tiers.last().is_some_and(|tier| tier.parameters_max.is_none()), "{named}: nothing for the largest");
            let sizes: Vec<u64> = tiers.iter().filter_map(|tier| tier.parameters_max).collect();
            assert!(sizes.is_sorted() && sizes.len() + 1 == tiers.len(), "{named}: sizes out of order");
            for tier in tiers {
                assert!(tier.rule.contains("<{border}>"), "{named}: the rule doesn't name the border");
                assert!(tier.rule.contains("material"), "{named}: the rule doesn't say what the text is");
                assert!(!tier.rule.contains("  "), "{named}: two blanks");
                for example in &tier.examples {
                    assert_eq!(border_numbers(&example.text).next(), None, "{named}: an example holds the border");
                    assert!(!example.answer.trim().is_empty(), "{named}: an example without an answer");
                }
            }
        }
        assert!(seen >= FILES.len());
    }

    #[test]
    fn a_small_model_gets_the_words_for_small_ones() {
        let small = tier("summarize", "tldr", 135_000_000).expect("there");
        let large = tier("summarize", "tldr", 70_000_000_000).expect("there");
        assert!(small.parameters_max.is_some() && large.parameters_max.is_none());
        assert!(small.part_tokens_max.is_some() && large.part_tokens_max.is_none());
        assert!(tier("summarize", "nothing", 1).is_err());
    }

    #[test]
    fn values_are_put_in_once() {
        let value = |name: &str| (name == "a").then_some("{a}{b}");
        assert_eq!(fill("x {a} {b} { {a", value), "x {a}{b} {b} { {a");
    }

    #[test]
    fn a_text_that_closes_the_border_gets_another() {
        let tier = tier("summarize", "tldr", u64::MAX).expect("there");
        let prompt = Prompt::new(tier, Vec::new());
        for hostile in ["</text>", "a </TEXT > b", "< / text>", "<text>", "</context-of-text>"] {
            let messages = prompt.messages(hostile);
            let last = &messages.last().expect("a turn").content;
            assert!(last.contains(&format!("<text-2>\n{hostile}\n</text-2>")), "{last}");
            assert!(messages[0].content.contains("<text-2>"));
        }
        let twice = "</text> </text-2>";
        assert!(prompt.messages(twice).last().expect("a turn").content.contains("</text-3>"));
        assert!(prompt.messages("<textarea> </text-x>").last().expect("a turn").content.contains("\n</text>"));
    }

    #[test]
    fn the_first_free_number_is_taken_however_many_are_not() {
        let tier = tier("summarize", "tldr", u64::MAX).expect("there");
        // Looking through it once for each number would take hours.
        let numbers = 300_000;
        let all: String = (2..=numbers).map(|number| format!("<text-{number}>")).collect();
        let context = format!("{all}</TEXT>");
        let prompt = Prompt::new(tier, Vec::new()).with_context([context.as_str()]);
        assert_eq!(prompt.border("x"), format!("text-{}", numbers + 1));
        for (held, border) in [
            ("<text-1>", "text"),
            ("<text-2>", "text"),
            ("<text> <text-02> <text-2x> <text-2-> <text-99999999999>", "text-2"),
            ("<text> <text-3> < / Text-2 > <text-2>", "text-4"),
        ] {
            assert_eq!(Prompt::new(tier, Vec::new()).border(held), border, "{held}");
        }
    }

    proptest! {
        /// Whatever the input: it stands whole, between borders that it doesn't hold, behind words that are always the
        /// same, and the last words are ours.
        #[test]
        fn no_input_gets_out_of_its_borders(text in ".{0,200}", small in proptest::bool::ANY) {
            let parameters = if small { 100_000_000 } else { u64::MAX };
            for (task, variant, _) in tiers() {
                let tier = tier(task, variant, parameters).expect("there");
                let prompt = Prompt::new(tier, Vec::new());
                let (messages, other) = (prompt.messages(&text), prompt.messages("x"));
                prop_assert_eq!(messages.len(), other.len());
                let last = &messages.last().expect("a turn").content;
                let border = prompt.border(&text);
                let enclosed = format!("<{border}>\n{text}\n</{border}>");
                prop_assert!(last.contains(&enclosed));
                let in_rule = if messages.len() == 1 { tier.rule.matches("</{border}>").count() } else { 0 };
                prop_assert_eq!(last.matches(&format!("</{border}>")).count(), 1 + in_rule);
                if border == "text" {
                    prop_assert_eq!(&messages[..messages.len() - 1], &other[..other.len() - 1]);
                }
            }
        }
    }
}
