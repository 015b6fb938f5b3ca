//! What came of the comparison: quality, speed, and who is chosen. Pure, but for the references' file.

use super::side::Memory;
use crate::bench::report::{Bound, Goal, Table, figure};
use crate::bench::stat;
use crate::place;
use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Vectors of the published weights, computed plainly in F32, with their texts.
const REFERENCES: &str = "crates/store/tests/fixtures/minilm-reference.json";
/// Below this, vectors of whole weights (16 bits or more) are other vectors.
const COSINE_MIN: f64 = 0.999;
/// The same for weights of 8 bits.
const COSINE_8_BIT_MIN: f64 = 0.99;

/// A text and its vector.
#[derive(Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) text: String,
    vector: Vec<f64>,
}

impl Reference {
    /// # Errors
    /// When the file isn't there.
    pub(super) fn all() -> Result<Vec<Self>> {
        let path = place::root().join(REFERENCES);
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read `{}`", path.display()))?;
        serde_json::from_str(&text).context("the references aren't as expected")
    }

    /// Of each reference's vector and what a side made of its text.
    ///
    /// # Errors
    /// When there aren't as many, or of other lengths.
    pub(super) fn cosines(references: &[Self], vectors: &[Vec<f64>]) -> Result<Vec<f64>> {
        if references.len() != vectors.len() {
            bail!("{} vectors came for {} texts", vectors.len(), references.len());
        }
        references.iter().zip(vectors).map(|(reference, vector)| cosine(&reference.vector, vector)).collect()
    }
}

fn cosine(a: &[f64], b: &[f64]) -> Result<f64> {
    if a.len() != b.len() {
        bail!("a vector has {} numbers, not {}", b.len(), a.len());
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Ok(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
}

/// What is known of a side.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    name: String,
    is_8_bit: bool,
    /// Of every reference, in every form.
    pub(super) cosines: Vec<f64>,
    /// Batch size and form by length, and the same in words.
    pub(super) settings: Vec<(usize, usize)>,
    pub(super) setting_words: Vec<String>,
    /// By length, then by round.
    pub(super) tokens_s: Vec<Vec<f64>>,
    pub(super) query_ms: Vec<f64>,
    pub(super) memory: Memory,
}

impl Judged {
    pub(super) fn new(name: &str, is_8_bit: bool, lengths: usize) -> Self {
        Self {
            name: name.into(),
            is_8_bit,
            settings: vec![(1, 0); lengths],
            setting_words: vec![String::new(); lengths],
            tokens_s: vec![Vec::new(); lengths],
            ..Self::default()
        }
    }

    /// Not a number if nothing is known.
    fn cosine_min(&self) -> f64 {
        self.cosines.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
    }

    fn bar(&self) -> f64 {
        if self.is_8_bit { COSINE_8_BIT_MIN } else { COSINE_MIN }
    }

    fn is_good(&self) -> bool {
        self.cosine_min() >= self.bar()
    }

    /// Geometric mean over the lengths, so that none counts more for being faster.
    fn speed(&self) -> f64 {
        let logs: f64 = self.tokens_s.iter().map(|values| stat::median(values).ln()).sum();
        (logs / self.tokens_s.len() as f64).exp()
    }
}

/// Whether more rounds are of little use for any of our first side's ratios.
pub(super) fn are_narrow(judged: &[Judged]) -> bool {
    let ours = &judged[0];
    let narrow = |a: &[f64], b: &[f64]| stat::is_narrow(&stat::ratio(a, b));
    judged[1..].iter().all(|other| ours.tokens_s.iter().zip(&other.tokens_s).all(|(a, b)| narrow(a, b)))
}

/// The fastest of those that are good enough, with whole weights and with 8 bits, beside the next of its kind.
pub(super) fn chosen(judged: &[Judged]) -> String {
    let kind = |is_8_bit: bool, words: &str| {
        let mut good: Vec<&Judged> = judged.iter().filter(|one| one.is_8_bit == is_8_bit && one.is_good()).collect();
        good.sort_by(|a, b| b.speed().total_cmp(&a.speed()));
        match good.as_slice() {
            [] => format!("{words}: none is good enough"),
            [only] => format!("{words}: {}, as the only one", only.name),
            [first, next, ..] => {
                let ratio = figure(first.speed() / next.speed());
                format!("{words}: {}, {ratio} of {}", first.name, next.name)
            }
        }
    };
    format!("{}; {}", kind(false, "16 bits or more"), kind(true, "8 bits"))
}

/// Our first side's speed by length beside each, and quality and cost of all.
pub(super) fn tables(judged: &[Judged], lengths: &[usize]) -> Vec<Table> {
    let ours = &judged[0];
    let head = format!("{} over it (95 %)", ours.name);
    let mut speed = Table::new("throughput", &["tokens", "side", "batch", "tokens/s", &head]);
    for (at, tokens) in lengths.iter().enumerate() {
        for one in judged {
            let mut row = vec![tokens.to_string(), one.name.clone(), one.setting_words[at].clone()];
            row.push(figure(stat::median(&one.tokens_s[at])));
            row.push(beside(&ours.tokens_s[at], &one.tokens_s[at]));
            speed.rows.push(row);
        }
    }
    let head =
        ["", "lowest cosine", "mean", "bar", "good", "query ms", "ours over it (95 %)", "MB", "Python's", "file MB"];
    let mut rest = Table::new("quality, one query of 12 words, memory", &head);
    for one in judged {
        let mean = one.cosines.iter().sum::<f64>() / one.cosines.len() as f64;
        rest.rows.push(vec![
            one.name.clone(),
            format!("{:.6}", one.cosine_min()),
            format!("{mean:.6}"),
            one.bar().to_string(),
            if one.is_good() { "yes" } else { "NO" }.into(),
            figure(stat::median(&one.query_ms)),
            beside(&ours.query_ms, &one.query_ms),
            figure(one.memory.resident as f64 / 1e6),
            figure(one.memory.python as f64 / 1e6),
            figure(one.memory.file as f64 / 1e6),
        ]);
    }
    vec![speed, rest]
}

fn beside(ours: &[f64], theirs: &[f64]) -> String {
    if ours == theirs {
        return "–".into();
    }
    let ratio = stat::ratio(ours, theirs);
    format!("{:.3} ({:.3}–{:.3})", ratio.mean, ratio.low, ratio.high)
}

/// Quality of both of ours; speed decides a choice and has no bound.
pub(super) fn goals(judged: &[Judged]) -> Vec<Goal> {
    let ours = judged.iter().filter(|one| one.name.starts_with("Freehold"));
    ours.map(|one| {
        Goal::plain(&format!("{}: lowest cosine", one.name), one.cosine_min(), "", Bound::AtLeast(one.bar()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, is_8_bit: bool, cosine: f64, speeds: &[f64]) -> Judged {
        let mut judged = Judged::new(name, is_8_bit, 2);
        judged.cosines = vec![1.0, cosine];
        judged.tokens_s = vec![speeds.to_vec(), speeds.iter().map(|speed| speed * 2.0).collect()];
        judged.query_ms = vec![1.0; speeds.len()];
        judged
    }

    #[test]
    fn cosines_are_of_directions() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]).expect("alike") - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 3.0]).expect("apart").abs() < 1e-12);
        assert!(cosine(&[1.0], &[1.0, 2.0]).is_err());
        assert!(Reference::cosines(&Reference::all().expect("the fixture"), &[]).is_err());
    }

    #[test]
    fn the_fastest_good_one_of_its_kind_is_chosen() {
        let all = [
            judged("a", false, 0.9999, &[100.0, 110.0, 90.0]),
            judged("b", false, 0.9995, &[200.0; 3]),
            judged("c", false, 0.99, &[900.0; 3]),
            judged("d", true, 0.992, &[300.0; 3]),
            judged("e", true, 0.98, &[400.0; 3]),
        ];
        assert_eq!(chosen(&all), "16 bits or more: b, 2.00 of a; 8 bits: d, as the only one");
        assert_eq!(chosen(&all[2..3]), "16 bits or more: none is good enough; 8 bits: none is good enough");
        assert!((all[1].speed() - 200.0 * 2_f64.sqrt()).abs() < 1e-9);
        assert!(!Judged::new("f", true, 2).is_good(), "nothing measured is not good");
    }

    #[test]
    fn goals_are_of_our_quality_alone() {
        let all = [
            judged("Freehold F16", false, 0.9989, &[100.0; 3]),
            judged("Freehold Q8_0", true, 0.991, &[100.0; 3]),
            judged("other", false, 0.5, &[900.0; 3]),
        ];
        assert_eq!(goals(&all).iter().map(|goal| goal.met).collect::<Vec<_>>(), [false, true]);
        let tables = tables(&all, &[20, 100]);
        assert_eq!((tables[0].rows.len(), tables[1].rows.len()), (6, 3));
        assert_eq!(tables[0].rows[2][3..], ["900", "0.111 (0.111–0.111)"]);
        assert_eq!(tables[1].rows[2][4], "NO");
        assert!(are_narrow(&all));
    }
}
