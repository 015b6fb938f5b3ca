//! Which smaller model guesses what a model will say.

use crate::Inner;
use crate::settings::DraftChoice;
use base::{Bytes, Code, Fault, Modality, ModelFacts};
use engine::DraftSource;
use std::sync::Arc;
use store::Entry;

/// With more than one part in so many of the model's weights it takes too long to ask.
const PART_LEAST: u64 = 4;
/// One of so many guesses best for its time, as far as families of models go.
const PART_BEST: f64 = 10.0;

/// Among models whose weights take so many bytes, the places of those that may guess for one of `target` bytes, the likeliest to be
/// of use first: nearest to a tenth, by ratio.
fn order(target: u64, bytes: &[u64]) -> Vec<usize> {
    #[expect(clippy::cast_precision_loss, reason = "a rank, not an account")]
    let off = |place: &usize| (bytes[*place] as f64 * PART_BEST / target as f64).ln().abs();
    let small = |place: &usize| bytes[*place] > 0 && bytes[*place] <= target / PART_LEAST;
    let mut places: Vec<usize> = (0..bytes.len()).filter(small).collect();
    places.sort_by(|a, b| off(a).total_cmp(&off(b)));
    places
}

/// Why a named one of so many bytes is no help to a target of so many; in words. What takes as long as the target itself
/// can't be ahead of it.
fn too_large(draft: u64, target: u64) -> Option<String> {
    let (own, others) = (Bytes(draft), Bytes(target));
    (draft >= target).then(|| format!("its weights take {own} and aren't smaller than that model's own {others}"))
}

/// Whether the cache of such a model can forget its last tokens, by its header; the worker looks again.
fn can_go_back(facts: &ModelFacts) -> bool {
    facts.cache.is_none_or(|cache| cache.state == 0)
}

/// Why a model can't guess for others, whatever they are; in words.
fn unfit(entry: &Entry) -> Option<String> {
    let is = super::kind(entry.facts.modality);
    match entry {
        Entry { facts, .. } if facts.modality != Modality::Chat => Some(format!("it is {is}")),
        Entry { parts, .. } if parts.len() != 1 => Some(format!("it is split into {} files", parts.len())),
        Entry { facts, .. } if !can_go_back(facts) => Some("its state can't go back when a guess was wrong".into()),
        entry => entry.problem(),
    }
}

fn source(entry: Entry) -> Option<DraftSource> {
    let path = entry.parts.into_iter().next()?;
    Some(DraftSource { name: entry.name, path, facts: Arc::new(entry.facts) })
}

impl Inner {
    /// The draft model of a chat model, where there is one.
    ///
    /// # Errors
    /// When one is named in the settings and isn't there, or can't guess for this model.
    pub(crate) fn draft_for(&self, target: &Entry) -> Result<Option<DraftSource>, Fault> {
        if !self.settings.drafts || target.facts.modality != Modality::Chat || !can_go_back(&target.facts) {
            return Ok(None);
        }
        match &self.settings.draft_model {
            DraftChoice::Off => Ok(None),
            DraftChoice::Auto => {
                let all = self.store.list();
                let bytes: Vec<u64> = all.iter().map(|entry| entry.facts.weights_bytes).collect();
                let fits = |entry: &&Entry| unfit(entry).is_none() && self.store.same_vocabulary(entry, target);
                let found = order(target.facts.weights_bytes, &bytes).into_iter().map(|place| &all[place]).find(fits);
                Ok(found.cloned().and_then(source))
            }
            DraftChoice::Named(name) => {
                // Whoever asks has named another model: the settings' one must be told apart from it.
                let from_settings =
                    "`draft_model` in config.toml (or FREEHOLD_DRAFT_MODEL) names it: `auto` takes what is there";
                let entry = self.store.find(name).map_err(|fault| fault.hint(from_settings))?;
                if entry.name == target.name {
                    return Ok(None);
                }
                let own = &target.name.0;
                let reason = unfit(&entry).or_else(|| {
                    let differs = !self.store.same_vocabulary(&entry, target);
                    differs.then(|| format!("its vocabulary isn't that of `{own}`, token by token"))
                });
                let [draft, others] = [&entry, target].map(|entry| entry.facts.weights_bytes);
                let reason = reason.or_else(|| too_large(draft, others));
                match reason {
                    None => Ok(source(entry)),
                    Some(reason) => {
                        let name = &entry.name.0;
                        let words = format!("the draft model `{name}` can't guess for `{own}`: {reason}");
                        Err(Fault::new(Code::ModelUnfit, words).hint(
                            "set `draft_model` to `auto`, to `off`, or to a smaller model of the same family in config.toml",
                        ))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_nearest_to_a_tenth_is_asked_and_none_above_a_quarter() {
        let gib = |tenths: u64| tenths * (1 << 30) / 10;
        // 8 GiB: 0.3, 1, 2, 2.1 and 8 GiB beside it, and one that holds nothing.
        assert_eq!(order(gib(80), &[gib(3), gib(10), gib(20), gib(21), gib(80), 0]), [1, 2, 0]);
        // Twice as large is as far off as half as large: the first one stands first.
        assert_eq!(order(1000, &[200, 50]), [0, 1]);
        assert_eq!(order(1000, &[50, 200]), [0, 1]);
        assert_eq!(order(0, &[1, 0]), Vec::<usize>::new());
        assert_eq!(order(1000, &[]), Vec::<usize>::new());
        assert_eq!((order(1000, &[250]), order(1000, &[251])), (vec![0], vec![]));
    }

    #[test]
    fn a_named_one_must_be_smaller_and_both_sizes_are_said() {
        assert_eq!(too_large((1 << 30) - 1, 1 << 30), None);
        assert!(too_large(1 << 30, 1 << 30).is_some());
        let said = too_large(5 << 30, 512 << 20).expect("it is larger");
        assert!(said.contains("5.0 GiB") && said.contains("512 MiB"), "{said}");
    }

    #[test]
    fn what_remembers_in_a_state_neither_guesses_nor_is_guessed_for() {
        let facts = testkit::model::facts("m", Modality::Chat);
        assert!(can_go_back(&facts));
        let state = base::CacheShape { state: 1, ..base::CacheShape::default() };
        assert!(!can_go_back(&ModelFacts { cache: Some(state), ..facts }));
    }
}
