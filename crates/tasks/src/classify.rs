//! Which of some classes a text belongs to, by how likely the model finds each name as the answer.
//!
//! A model likes some names better than others, whatever the text. How likely it finds each behind a text without
//! content is taken away from how likely it finds it behind this one (contextual calibration). What is left is what the
//! text itself says for the class; nothing at all is what it would say for none of them, which is `unknown`.
//!
//! A small model is often as unsure as that leaves it. Then it is asked the other way round as well: how likely is this
//! text, where its class is known, and how likely where nothing is (a noisy channel). It judges every word of the text
//! then, and not one word behind it, and there is nothing that a text could tell it to say.

use crate::prompt::{Prompt, Reverse};
use crate::task::invalid;
use crate::work::Work;
use base::{Fault, Likelihood, Message, Role};
use serde::{Deserialize, Serialize};

/// The class of what fits none.
pub(crate) const UNKNOWN: &str = "unknown";
/// LIMIT: classes to choose from, and letters of a name.
const LABELS_MAX: usize = 200;
const LABEL_CHARS_MAX: usize = 100;
/// Texts that say nothing.
const EMPTY_TEXTS: [&str; 2] = ["N/A", "…"];
/// How much of a text's evidence counts: below 1 is less sure of itself.
const SHARPNESS: f64 = 1.0;
/// Shorter names are words like any others.
const NAME_CHARS_MIN: usize = 4;
/// Nats between the best two, `unknown` among them, below which the text is judged the other way round too: behind a long
/// text a small model is often sure of the wrong one, by two or three.
const OPEN_NATS: f64 = 4.0;
/// What both ways say together is more to be trusted; below this it is judged so in other words as well.
const OPEN_AGAIN_NATS: f64 = 2.0;
/// The classes that lie so close to the best are, at most so many, and so much of the text is. Most texts begin with what
/// they are about, and the rest costs as much again.
const CLOSE_NATS: f64 = 3.0;
const REVERSE_LABELS_MAX: usize = 5;
const REVERSE_CHARS_MAX: usize = 240;
/// So much of what comes of both is that.
const REVERSE_SHARE: f64 = 2.0 / 3.0;

/// A class: its name, and where that doesn't say it all, what belongs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct Label {
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    Name(String),
    Whole {
        id: String,
        #[serde(default)]
        description: String,
    },
}

impl From<Given> for Label {
    fn from(given: Given) -> Self {
        match given {
            Given::Name(id) => Self { id, description: String::new() },
            Given::Whole { id, description } => Self { id, description },
        }
    }
}

impl Label {
    fn in_words(&self) -> String {
        match self.description.trim() {
            "" => self.id.trim().to_owned(),
            description => format!("{} ({description})", self.id.trim()),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Classify {
    pub text: String,
    pub labels: Vec<Label>,
    /// Whether a text may belong to none of them.
    #[serde(default = "yes")]
    pub unknown: bool,
    /// What the classes are about, in the caller's words.
    #[serde(default)]
    pub instruction: String,
    #[serde(default)]
    pub context: String,
}

fn yes() -> bool {
    true
}

/// A class and how sure it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    pub id: String,
    pub confidence: f64,
}

/// The surest first; together 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    pub classes: Vec<Class>,
}

impl Classify {
    pub(crate) fn checked(self) -> Result<Self, Fault> {
        let count = self.labels.len();
        if !(1..=LABELS_MAX).contains(&count) || (count == 1 && !self.unknown) {
            let words = format!("holds {count} classes");
            return Err(invalid("labels", &words, &format!("name from 2 to {LABELS_MAX}, or 1 with `unknown`")));
        }
        let mut seen: Vec<String> = Vec::with_capacity(count);
        for label in &self.labels {
            let id = label.id.trim().to_lowercase();
            if id.is_empty() || label.id.chars().count() > LABEL_CHARS_MAX || label.id.contains('\n') {
                let hint = format!("a name has from 1 to {LABEL_CHARS_MAX} characters on one line");
                return Err(invalid("labels", "holds a name that can't be one", &hint));
            }
            if seen.contains(&id) {
                return Err(invalid("labels", &format!("holds `{}` twice", label.id), "name each class once"));
            }
            seen.push(id);
        }
        // With `unknown` among the labels it is the caller's own class, and one of that name is enough.
        let unknown = self.unknown && !seen.iter().any(|id| id == UNKNOWN);
        if count == 1 && !unknown {
            return Err(invalid("labels", "holds one class", "name at least 2"));
        }
        Ok(Self { unknown, ..self })
    }

    pub(crate) fn run(&self, work: &mut Work<'_>) -> Result<Classified, Fault> {
        if self.text.trim().is_empty() {
            return Ok(self.blank());
        }
        let tier = work.tier("classify", "classify")?;
        let options = self.options(tier.by_description);
        let prompt = Prompt::new(tier, self.values()).with_context([self.context.as_str()]);
        let text = if tier.reverse.is_empty() { self.text.clone() } else { self.without_names() };
        let longest = options.iter().map(String::len).max().unwrap_or(0);
        let (parts, tokens) = work.parts(&prompt, &text, u32::try_from(longest + 8).unwrap_or(u32::MAX))?;
        work.declare(parts.len(), tokens);
        let mut empties = Vec::with_capacity(EMPTY_TEXTS.len());
        for empty in EMPTY_TEXTS {
            empties.push(work.baseline(&prompt.messages(empty), &options)?);
        }
        let mut evidence = vec![0.0; options.len()];
        for (done, range) in parts.iter().enumerate() {
            work.progress(done, parts.len());
            let found = work.score(&prompt.messages(&text[range.clone()]), &options)?;
            let share = range.len() as f64 / text.len() as f64;
            for (sum, one) in evidence.iter_mut().zip(calibrated(&found, &empties)) {
                *sum += share * one;
            }
        }
        work.progress(parts.len(), parts.len());
        self.judge_reversed(work, &tier.reverse, &text, &mut evidence)?;
        Ok(self.classes(&evidence))
    }

    /// The text with `…` for the names of the classes: a small model says what it read last, whatever the rest is about.
    fn without_names(&self) -> String {
        let names: Vec<String> = self.labels.iter().map(|label| label.id.trim().to_lowercase()).collect();
        let masked = |word: &str| {
            let long = word.chars().count() >= NAME_CHARS_MIN;
            long && names.contains(&word.to_lowercase())
        };
        let mut made = String::with_capacity(self.text.len());
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            let start = rest.find(char::is_alphanumeric).unwrap_or(rest.len());
            let end = rest[start..].find(|c: char| !c.is_alphanumeric()).map_or(rest.len(), |at| start + at);
            made.push_str(&rest[..start]);
            made.push_str(if masked(&rest[start..end]) { "…" } else { &rest[start..end] });
            rest = &rest[end..];
        }
        made
    }

    /// How far the best lies before the second best, in nats; without end where there is no best.
    fn margin(&self, evidence: &[f64]) -> f64 {
        let mut sorted: Vec<f64> = evidence.iter().copied().chain(self.unknown.then_some(0.0)).collect();
        sorted.sort_by(|one, other| other.total_cmp(one));
        match sorted.as_slice() {
            [first, second, ..] if first.is_finite() => first - second,
            _ => f64::INFINITY,
        }
    }

    /// Adds what the text's own likelihood says, in one wording after the other as long as the best two lie close.
    fn judge_reversed(
        &self,
        work: &mut Work<'_>,
        wordings: &[Reverse],
        text: &str,
        evidence: &mut [f64],
    ) -> Result<(), Fault> {
        let text = text.trim();
        let end = text.char_indices().nth(REVERSE_CHARS_MAX).map_or(text.len(), |(at, _)| at);
        let begin = [text[..end].trim_end().to_owned()];
        let forward = evidence.to_vec();
        let mut sums = vec![0.0; evidence.len()];
        for (asked, wording) in (1..).map(f64::from).zip(wordings) {
            if self.margin(evidence) >= if asked == 1.0 { OPEN_NATS } else { OPEN_AGAIN_NATS } {
                break;
            }
            let found = self.likely_behind(work, wording, &begin, &self.close(evidence))?;
            for (at, found) in found.into_iter().enumerate() {
                sums[at] += found;
                evidence[at] = (1.0 - REVERSE_SHARE) * forward[at] + REVERSE_SHARE * SHARPNESS * sums[at] / asked;
            }
        }
        Ok(())
    }

    /// How much likelier the text is behind the names of some classes than behind none; the other classes get the least of
    /// what was found.
    fn likely_behind(
        &self,
        work: &mut Work<'_>,
        wording: &Reverse,
        text: &[String],
        close: &[usize],
    ) -> Result<Vec<f64>, Fault> {
        let mut likely = |words: String| -> Result<f64, Fault> {
            let found = work.score(&[Message::new(Role::User, words)], text)?;
            Ok(found.first().map_or(f64::NEG_INFINITY, |one| one.log))
        };
        // Only `unknown` is measured by what nothing is known of; among classes it makes no difference.
        let of_none = if self.unknown { likely(wording.of_none.clone())? } else { 0.0 };
        let mut found = vec![f64::NAN; self.labels.len()];
        for at in close {
            found[*at] = likely(wording.of_label.replace("{label}", &self.labels[*at].in_words()))? - of_none;
        }
        let least = found.iter().copied().filter(|one| one.is_finite()).reduce(f64::min).unwrap_or(0.0);
        // What only `unknown` is close to falls behind it as well.
        let least = if self.unknown { least.min(0.0) } else { least };
        Ok(found.into_iter().map(|one| if one.is_finite() { one } else { least }).collect())
    }

    /// The classes that are close to the best one, `unknown` among them, the best first: the best two at least, since one
    /// alone is compared with nothing, unless `unknown` is one of these.
    fn close(&self, evidence: &[f64]) -> Vec<usize> {
        let best = evidence.iter().copied().fold(if self.unknown { 0.0 } else { f64::NEG_INFINITY }, f64::max);
        let mut order: Vec<usize> = (0..evidence.len()).collect();
        order.sort_by(|one, other| evidence[*other].total_cmp(&evidence[*one]));
        let close = order.iter().filter(|at| best - evidence[**at] < CLOSE_NATS).count();
        let beside_unknown = self.unknown && evidence.iter().filter(|one| **one > 0.0).count() < 2;
        order.truncate(close.max(if beside_unknown { 1 } else { 2 }).min(REVERSE_LABELS_MAX));
        order
    }

    /// What is judged for each class: words that are different from all others.
    fn options(&self, by_description: bool) -> Vec<String> {
        let names: Vec<String> = self.labels.iter().map(|label| label.id.trim().to_owned()).collect();
        if !by_description {
            return names;
        }
        let said = |label: &Label| match label.description.trim() {
            "" => label.id.trim().to_owned(),
            description => description.to_owned(),
        };
        let said: Vec<String> = self.labels.iter().map(said).collect();
        let differ = said.iter().enumerate().all(|(at, one)| !said[..at].contains(one));
        if differ { said } else { names }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let line = |label: &Label| match label.description.trim() {
            "" => format!("- {}", label.id.trim()),
            description => format!("- {}: {description}", label.id.trim()),
        };
        let list: Vec<String> = self.labels.iter().map(line).collect();
        let instruction = match self.instruction.trim() {
            "" => String::new(),
            words => format!("\n{words}"),
        };
        vec![("labels", list.join("\n")), ("instruction", instruction)]
    }

    /// Nothing is said for any class.
    fn blank(&self) -> Classified {
        self.classes(&vec![if self.unknown { f64::NEG_INFINITY } else { 0.0 }; self.labels.len()])
    }

    fn classes(&self, evidence: &[f64]) -> Classified {
        let mut ids: Vec<&str> = self.labels.iter().map(|label| label.id.trim()).collect();
        let mut evidence = evidence.to_vec();
        if self.unknown {
            ids.push(UNKNOWN);
            evidence.push(0.0);
        }
        let shares = shares(&evidence);
        let mut classes: Vec<Class> =
            ids.iter().zip(shares).map(|(id, confidence)| Class { id: (*id).to_owned(), confidence }).collect();
        // Of equals, the one that was named first.
        classes.sort_by(|one, other| other.confidence.total_cmp(&one.confidence));
        Classified { classes }
    }
}

/// What the text says for each option, over what texts without content do.
fn calibrated(found: &[Likelihood], empties: &[Vec<Likelihood>]) -> Vec<f64> {
    let usual = |at: usize| {
        let logs: Vec<f64> = empties.iter().filter_map(|empty| empty.get(at)).map(|one| one.log).collect();
        logs.iter().sum::<f64>() / logs.len().max(1) as f64
    };
    let raw: Vec<f64> = found.iter().enumerate().map(|(at, one)| one.log - usual(at)).collect();
    raw.into_iter().map(|one| if one.is_finite() { SHARPNESS * one } else { f64::NEG_INFINITY }).collect()
}

/// Shares that come to 1, as the numbers' exponentials do.
fn shares(numbers: &[f64]) -> Vec<f64> {
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return vec![1.0 / numbers.len().max(1) as f64; numbers.len()];
    }
    let raised: Vec<f64> = numbers.iter().map(|number| (number - most).exp()).collect();
    let sum: f64 = raised.iter().sum();
    raised.into_iter().map(|one| one / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn likely(logs: &[f64]) -> Vec<Likelihood> {
        logs.iter().map(|log| Likelihood { log: *log, tokens: 1 }).collect()
    }

    fn of(labels: &[&str], unknown: bool) -> Classify {
        let labels = labels.iter().map(|id| Label { id: (*id).into(), description: String::new() }).collect();
        let (text, instruction, context) = Default::default();
        Classify { text, labels, unknown, instruction, context }.checked().expect("good")
    }

    #[test]
    fn what_a_model_likes_anyway_is_taken_away() {
        // It finds `a` likelier whatever the text; this text speaks for `b`.
        let evidence = calibrated(&likely(&[-1.0, -2.0]), &[likely(&[-0.5, -4.0]), likely(&[-0.5, -4.0])]);
        assert_eq!(evidence, [-0.5, 2.0]);
        let found = of(&["a", "b"], false).classes(&evidence);
        assert_eq!(found.classes[0].id, "b");
    }

    #[test]
    fn what_nothing_speaks_for_is_unknown() {
        let task = of(&["a", "b"], true);
        assert_eq!(task.classes(&[-1.0, -0.2]).classes[0].id, UNKNOWN);
        assert_eq!(task.classes(&[-1.0, 0.2]).classes[0].id, "b");
        assert_eq!(task.blank().classes[0], Class { id: UNKNOWN.into(), confidence: 1.0 });
        let halves = of(&["a", "b"], false).blank();
        assert!(halves.classes.iter().all(|class| (class.confidence - 0.5).abs() < 1e-12));
    }

    #[test]
    fn a_small_model_judges_what_is_said_of_a_class() {
        let mut task = of(&["a", "b"], true);
        task.labels[1].description = "the other one".into();
        assert_eq!(task.options(false), ["a", "b"]);
        assert_eq!(task.options(true), ["a", "the other one"]);
        task.labels[0].description = "the other one".into();
        assert_eq!(task.options(true), ["a", "b"], "what can't be told apart isn't judged");
    }

    #[test]
    fn names_of_classes_in_the_text_do_not_count() {
        let mut task = of(&["sport", "politics", "us"], true);
        task.text = "Politics, politics! Sporting life of us: \"sport\".".into();
        assert_eq!(task.without_names(), "…, …! Sporting life of us: \"…\".");
    }

    #[test]
    fn a_margin_is_how_far_the_best_two_lie_apart() {
        assert_eq!(of(&["a", "b", "c"], false).margin(&[1.0, 5.0, 3.5]), 1.5);
        assert_eq!(of(&["a", "b"], true).margin(&[1.0, -5.0]), 1.0, "`unknown` is close");
        assert_eq!(of(&["a", "b"], true).margin(&[f64::NEG_INFINITY, -0.5]), 0.5);
        assert_eq!(of(&["a", "b"], false).margin(&[f64::NEG_INFINITY; 2]), f64::INFINITY);
    }

    #[test]
    fn only_classes_close_to_the_best_are_judged_again() {
        assert_eq!(of(&["a", "b", "c"], false).close(&[1.0, -2.5, 3.5]), [2, 0]);
        assert_eq!(of(&["a", "b"], true).close(&[-3.5, -1.0]), [1], "`unknown` is the best");
        assert_eq!(of(&["a", "b", "c"], false).close(&[1.0, -2.5, 9.5]), [2, 0], "one alone is compared with nothing");
        assert_eq!(of(&["a", "b"], true).close(&[3.5, -1.0]), [0], "`unknown` is the other one");
        assert_eq!(of(&["a", "b"], true).close(&[6.5, 3.0]), [0, 1], "`unknown` is the third");
        assert_eq!(of(&["a", "b", "c", "d", "e", "f", "g"], false).close(&[0.0; 7]).len(), REVERSE_LABELS_MAX);
    }

    #[test]
    fn a_class_of_the_callers_own_that_is_called_unknown_is_one() {
        assert!(!of(&["a", "Unknown"], true).unknown);
    }

    proptest! {
        #[test]
        fn confidences_fall_and_come_to_one(evidence in prop::collection::vec(-40.0_f64..40.0, 2..9), unknown: bool) {
            let names: Vec<String> = (0..evidence.len()).map(|number| format!("c{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let found = of(&names, unknown).classes(&evidence);
            let confidences: Vec<f64> = found.classes.iter().map(|class| class.confidence).collect();
            prop_assert!((confidences.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(confidences.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert_eq!(found.classes.len(), evidence.len() + usize::from(unknown));
        }
    }
}
