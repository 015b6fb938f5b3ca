//! Many texts in one computation: which go together.

use std::ops::Range;

/// Groups of neighbours, in their order: as many texts as there are sequences, and no more tokens together than a
/// batch holds. A text that is longer than that goes alone.
pub fn groups(lengths: &[usize], batch_tokens: usize, sequences_max: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0_usize;
    for (place, length) in lengths.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if group.len() < sequences_max && tokens.saturating_add(*length) <= batch_tokens => {
                group.end = place + 1;
                tokens += length;
            }
            _ => {
                groups.push(place..place + 1);
                tokens = *length;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_go_together_as_long_as_they_fit() {
        assert_eq!(groups(&[], 10, 4), []);
        assert_eq!(groups(&[4, 6, 1, 1, 1, 1, 1], 10, 4), [0..2, 2..6, 6..7]);
        assert_eq!(groups(&[1, 99, 1], 10, 4), [0..1, 1..2, 2..3]);
        assert_eq!(groups(&[5, 5], 10, 1), [0..1, 1..2]);
    }

    proptest! {
        #[test]
        fn every_text_goes_once_and_none_that_would_fit_waits(
            lengths in prop::collection::vec(0_usize..700, 0..200),
            batch_tokens in 1_usize..600,
            sequences_max in 1_usize..70,
        ) {
            let groups = groups(&lengths, batch_tokens, sequences_max);
            let all: Vec<usize> = groups.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            for group in &groups {
                let tokens: usize = lengths[group.clone()].iter().sum();
                prop_assert!(group.len() <= sequences_max && (group.len() == 1 || tokens <= batch_tokens));
                if let Some(next) = lengths.get(group.end) {
                    prop_assert!(group.len() == sequences_max || tokens + next > batch_tokens);
                }
            }
        }
    }
}
