//! Whether two passages say nearly the same words. Pure.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Words that are compared as one.
const RUN_WORDS: usize = 3;
/// Share of equal runs from which two passages count as one.
const SHARE: f64 = 0.9;

/// A passage's runs of words, in order of their hashes.
#[derive(Debug)]
pub(crate) struct Sketch(Vec<u64>);

impl Sketch {
    pub(crate) fn of(text: &str) -> Self {
        let words: Vec<String> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        let hash = |run: &[String]| {
            let mut hasher = DefaultHasher::new();
            run.hash(&mut hasher);
            hasher.finish()
        };
        let mut runs: Vec<u64> = words.windows(RUN_WORDS.min(words.len()).max(1)).map(hash).collect();
        runs.sort_unstable();
        runs.dedup();
        Self(runs)
    }

    pub(crate) fn is_alike(&self, other: &Sketch) -> bool {
        let (short, long) = (self.0.len().min(other.0.len()), self.0.len().max(other.0.len()));
        if (short as f64) < long as f64 * SHARE || short == 0 {
            return false;
        }
        let (mut a, mut b, mut equal) = (0, 0, 0usize);
        while let (Some(left), Some(right)) = (self.0.get(a), other.0.get(b)) {
            match left.cmp(right) {
                std::cmp::Ordering::Less => a += 1,
                std::cmp::Ordering::Greater => b += 1,
                std::cmp::Ordering::Equal => {
                    (a, b, equal) = (a + 1, b + 1, equal + 1);
                }
            }
        }
        equal as f64 >= SHARE * (self.0.len() + other.0.len() - equal) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_alike_and_neighbours_are_not() {
        let long = "The boiler in the cellar is serviced once a year by Nordlicht, always in the first week of spring, \
            and the bill goes to the owner of the house, who pays it within thirty days of its date without fail.";
        let alike = |a: &str, b: &str| Sketch::of(a).is_alike(&Sketch::of(b));
        assert!(alike(long, &long.to_uppercase().replace(' ', "\n")));
        assert!(alike(long, &format!("{long} Yes.")));
        assert!(!alike(long, &long.replace("owner", "tenant").replace("spring", "autumn")));
        assert!(!alike("The boiler is blue.", "The boiler is red."));
        assert!(alike("Yes", "yes!"));
        assert!(!alike("", ""));
    }
}
