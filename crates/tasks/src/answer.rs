//! A question about one text. For one about the person's files there is `freehold ask`.

use crate::grounds::{found_in, numbers_stand, telling};
use crate::prompt::Prompt;
use crate::sentence::sentences;
use crate::span::Span;
use crate::task::invalid;
use crate::work::Work;
use base::{Fault, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;

/// LIMIT: an answer is short; a small model that goes on only wanders off.
const ANSWER_TOKENS_MAX: u32 = 160;
/// The word for "the text doesn't say".
const UNKNOWN: &str = "unknown";
/// So much of an answer's words must stand in a sentence for it to be what the answer rests on.
const SUPPORT_SHARE_MIN: f64 = 0.5;
/// So much of a question's words must stand in one sentence for that to be the answer where the model's can't be.
const ASKED_SHARE_MIN: f64 = 0.75;
/// A text that holds less of them doesn't speak of it.
const SPOKEN_SHARE_MIN: f64 = 0.5;
/// So much of what a small model adds to the words of the question must stand in the sentence that it rests on.
const ADDED_SHARE_MIN: f64 = 0.8;
/// Shorter words say little.
const WORD_CHARS_MIN: usize = 3;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskText {
    pub text: String,
    pub question: String,
    #[serde(default)]
    pub(crate) context: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// `None`: the text doesn't say, as the model found.
    pub answer: Option<String>,
    /// The sentence of the text that holds most of the answer's words; `None`: none holds half of them, so the
    /// answer may not be the text's.
    pub quote: Option<Quote>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    pub text: String,
    #[serde(flatten)]
    pub span: Span,
}

impl AskText {
    pub(crate) fn checked(self) -> Result<Self, Fault> {
        if self.question.trim().is_empty() {
            return Err(invalid("question", "is empty", "ask something about the text"));
        }
        Ok(self)
    }

    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Answered, Fault> {
        if self.text.trim().is_empty() {
            return Ok(Answered { answer: None, quote: None });
        }
        let tier = work.tier("ask", "ask")?;
        let prompt = Prompt::new(tier, vec![("question", self.question.trim().to_owned())])
            .with_context([self.context.as_str()]);
        let (parts, tokens) = work.parts(&prompt, &self.text, ANSWER_TOKENS_MAX)?;
        work.declare(parts.len(), tokens);
        let mut answers = Vec::new();
        for (done, range) in parts.iter().enumerate() {
            work.progress(done, parts.len());
            let part = &self.text[range.clone()];
            if tier.grounded {
                answers.extend(self.grounded(work, &prompt, part)?);
            } else {
                answers.extend(say(work, &prompt, part)?);
            }
        }
        work.progress(parts.len(), parts.len());
        let answer = match answers.len() {
            0 => None,
            1 => answers.pop(),
            // Of several sentences that could be it, the one that holds most of the question.
            _ if tier.grounded => self.closest(answers),
            _ => {
                // What the parts said is the text of one more call.
                work.plan.passes += 1;
                let first = answers[0].clone();
                Some(say(work, &prompt, &answers.join("\n"))?.unwrap_or(first))
            }
        };
        let quote = answer.as_deref().and_then(|answer| self.quote(answer));
        if answer.is_some() && quote.is_none() {
            work.say("no sentence of the text holds the words of this answer; check it");
        }
        work.text(answer.as_deref().unwrap_or_default());
        Ok(Answered { answer, quote })
    }

    /// A small model's answer where the text holds it, else the sentence that was asked for; `None` where the text
    /// doesn't speak of it.
    fn grounded(&self, work: &mut Work<'_>, prompt: &Prompt<'_>, part: &str) -> Result<Option<String>, Fault> {
        let asked = self.asked();
        let share = |text: &str| found_in(&asked, &telling(text)) as f64 / asked.len() as f64;
        if asked.is_empty() {
            let said = say(work, prompt, part)?;
            return Ok(said.filter(|said| numbers_stand(said, part)));
        }
        if share(part) < SPOKEN_SHARE_MIN {
            return Ok(None);
        }
        let best = self.closest(all_sentences(part).into_iter().map(|range| part[range].trim().to_owned()).collect());
        let best = best.unwrap_or_default();
        let said = say(work, prompt, part)?.filter(|said| {
            let mut added = telling(said);
            added.retain(|word| found_in(std::slice::from_ref(word), &asked) == 0);
            let held = found_in(&added, &telling(&best)) as f64;
            // What only repeats the question is no answer, but for `yes` and `no`.
            !added.is_empty() && held >= ADDED_SHARE_MIN * added.len() as f64 && numbers_stand(said, &best)
        });
        Ok(said.or_else(|| (share(&best) >= ASKED_SHARE_MIN).then_some(best)))
    }

    /// The telling words of the question, but for `long` in `how long` and the like.
    fn asked(&self) -> Vec<String> {
        let mut before = "";
        let words = self.question.split_whitespace().filter(|word| {
            let of_how = before.eq_ignore_ascii_case("how");
            before = word;
            !of_how
        });
        telling(&words.collect::<Vec<_>>().join(" "))
    }

    /// Of some sentences the one that holds most of the question's words; where it asks for a number, one that has one.
    fn closest(&self, sentences: Vec<String>) -> Option<String> {
        let asked = self.asked();
        let lower = self.question.to_lowercase();
        let of_number = COUNTING.iter().any(|words| lower.contains(words));
        let mut best: Option<(usize, String)> = None;
        for sentence in sentences {
            let own = telling(&sentence);
            let number = of_number && sentence.contains(|c: char| c.is_ascii_digit());
            let held = 2 * found_in(&asked, &own) + usize::from(number);
            if best.as_ref().is_none_or(|(most, _)| held > *most) {
                best = Some((held, sentence));
            }
        }
        best.map(|(_, sentence)| sentence)
    }

    /// The sentence that holds most of the answer's words, and of those the one that holds most of the question's.
    fn quote(&self, answer: &str) -> Option<Quote> {
        let (wanted, asked) = (words(answer), words(&self.question));
        let mut best: Option<((usize, usize), Range<usize>)> = None;
        for range in all_sentences(&self.text) {
            let found = words(&self.text[range.clone()]);
            let held = (wanted.intersection(&found).count(), asked.intersection(&found).count());
            if best.as_ref().is_none_or(|(most, _)| held > *most) {
                best = Some((held, range));
            }
        }
        let ((held, _), range) = best?;
        let needed = (wanted.len() as f64 * SUPPORT_SHARE_MIN).ceil().max(1.0);
        let sentence = &self.text[range.clone()];
        let start = range.start + sentence.len() - sentence.trim_start().len();
        let range = start..range.start + sentence.trim_end().len();
        (held as f64 >= needed)
            .then(|| Quote { text: self.text[range.clone()].to_owned(), span: Span::of(&self.text, range) })
    }
}

/// What asks for a number, in some languages.
const COUNTING: [&str; 12] = [
    "how much",
    "how many",
    "how old",
    "how far",
    "how long",
    "wie viel",
    "wie hoch",
    "wie lange",
    "wieviel",
    "combien",
    "cuánt",
    "quant",
];

/// The sentences of all paragraphs, in their order.
fn all_sentences(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    for block in text.split_inclusive("\n\n") {
        found.extend(sentences(block).into_iter().map(|range| at + range.start..at + range.end));
        at += block.len();
    }
    found
}

/// One answer; `None` where the model says that the text doesn't.
fn say(work: &mut Work<'_>, prompt: &Prompt<'_>, text: &str) -> Result<Option<String>, Fault> {
    let answer = work.complete(prompt.messages(text), Shape::regex(r"[^\s<][^\n]*")?, ANSWER_TOKENS_MAX)?;
    let said = crate::pieces::cleaned(&answer.text, text);
    let bare = said.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let unknown = bare.is_empty() || bare == UNKNOWN || bare.starts_with("unknown.") || bare.starts_with("unknown,");
    Ok((!unknown).then_some(said))
}

/// Words that say something, in small letters.
fn words(text: &str) -> BTreeSet<String> {
    let split = text.split(|c: char| !c.is_alphanumeric());
    let telling = |word: &&str| word.chars().count() >= WORD_CHARS_MIN || word.chars().any(|c| c.is_ascii_digit());
    split.filter(telling).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_the_sentence_that_holds_most_of_the_question() {
        let of = |question: &str| AskText { question: question.into(), ..AskText::default() };
        assert_eq!(of("How long must the kettle stand?").asked(), ["kettle", "stand"]);
        let sentences = ["The kettle is new.", "Let the kettle stand.", "The kettle must stand for 20 minutes."];
        let sentences = || sentences.iter().map(ToString::to_string).collect();
        assert_eq!(
            of("How long must the kettle stand?").closest(sentences()),
            Some("The kettle must stand for 20 minutes.".into())
        );
        assert_eq!(of("Must the kettle stand?").closest(sentences()), Some("Let the kettle stand.".into()));
    }

    #[test]
    fn an_answer_rests_on_a_sentence_or_on_none() {
        let text = "The lease began in May.\n\nThe lease ends on 31 March 2027. Rent is 900 EUR.";
        let task = AskText { text: text.into(), question: "When does the lease end?".into(), context: String::new() };
        let quote = task.quote("It ends on 31 March 2027.").expect("there");
        assert_eq!(quote.text, "The lease ends on 31 March 2027.");
        assert_eq!(&text[quote.span.start_byte..quote.span.end_byte], quote.text);
        assert_eq!(task.quote("Napoleon was born on Corsica"), None);
    }
}
