//! Chance that is the same in every run: SplitMix64.

#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn share(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1 << 24) as f32
    }

    /// From 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    /// So many small letters that nobody guesses.
    pub(super) fn word(&mut self, letters: usize) -> String {
        (0..letters).map(|_| char::from(b'a' + (self.below(26) as u8))).collect()
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let length = piece.len();
            piece.copy_from_slice(&self.roll().to_le_bytes()[..length]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_rolls_the_same_and_all_of_the_range() {
        assert_eq!(Dice(0).roll(), 0xe220_a839_7b1d_cdaf, "as published");
        let mut dice = Dice(3);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| dice.below(6)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert!((0..100).all(|_| (0.0..1.0).contains(&dice.share())));
        let mut bytes = [0; 13];
        dice.fill(&mut bytes);
        assert!(bytes.iter().any(|byte| *byte != 0));
        assert_ne!(dice.word(8), dice.word(8));
    }
}
