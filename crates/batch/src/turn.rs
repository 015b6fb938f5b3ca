//! Whose step it is when jobs can't all share one.
//!
//! A step computes with one set of adapters. Jobs of other sets wait for their turn, which comes around: a set that
//! has work is served after at most [`STEPS_MAX`] steps of each set before it.

use std::collections::VecDeque;

/// LIMIT: steps of one set while others wait. To change sets costs about as much as a step of a small model.
pub const STEPS_MAX: u32 = 8;

/// Sets that have work, in the order of their turns; the first one has it.
#[derive(Debug)]
pub struct Turns<S> {
    line: VecDeque<S>,
    steps: u32,
}

impl<S> Default for Turns<S> {
    fn default() -> Self {
        Self { line: VecDeque::new(), steps: 0 }
    }
}

impl<S: Clone + PartialEq> Turns<S> {
    /// The set that the next step is for; `wanted` holds that of every job that has work.
    pub fn next<'a>(&mut self, wanted: impl IntoIterator<Item = &'a S>) -> Option<S>
    where
        S: 'a,
    {
        let mut present: Vec<&S> = Vec::new();
        for set in wanted {
            if !present.contains(&set) {
                present.push(set);
            }
        }
        let had = self.line.front().cloned();
        self.line.retain(|set| present.contains(&set));
        for set in present {
            if !self.line.contains(set) {
                self.line.push_back(set.clone());
            }
        }
        if self.line.front() != had.as_ref() {
            self.steps = 0;
        } else if self.steps >= STEPS_MAX {
            if let Some(first) = self.line.pop_front() {
                self.line.push_back(first);
            }
            self.steps = 0;
        }
        self.steps += 1;
        self.line.front().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(turns: &mut Turns<u32>, wanted: &[u32], steps: u32) -> Vec<Option<u32>> {
        (0..steps).map(|_| turns.next(wanted)).collect()
    }

    #[test]
    fn nobody_has_the_turn_when_nobody_has_work() {
        let mut turns = Turns::default();
        assert_eq!(run(&mut turns, &[], 3 * STEPS_MAX), vec![None; 3 * STEPS_MAX as usize]);
        assert_eq!(turns.next(&[7]), Some(7));
    }

    #[test]
    fn one_set_alone_never_waits_and_two_take_turns() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(&[]), None);
        assert_eq!(run(&mut turns, &[7, 7], 3 * STEPS_MAX), vec![Some(7); 3 * STEPS_MAX as usize]);
        let mut turns = Turns::default();
        let served = run(&mut turns, &[1, 2, 1], 4 * STEPS_MAX);
        let expected: Vec<_> = [1, 2, 1, 2].iter().flat_map(|set| vec![Some(*set); STEPS_MAX as usize]).collect();
        assert_eq!(served, expected);
        // Who has nothing left to do gives the turn away at once.
        assert_eq!(turns.next(&[2]), Some(2));
        assert_eq!(turns.next(&[]), None);
    }

    proptest! {
        #[test]
        fn whoever_has_work_is_served_in_time(
            // Sets come and go around one that stays.
            steps in prop::collection::vec(prop::collection::vec(0_u32..6, 0..4), 1..200),
        ) {
            let mut turns = Turns::default();
            let mut waited = 0;
            for others in steps {
                let wanted: Vec<u32> = others.iter().copied().chain([99]).collect();
                let served = turns.next(&wanted).unwrap();
                prop_assert!(wanted.contains(&served));
                waited = if served == 99 { 0 } else { waited + 1 };
                prop_assert!(waited <= 6 * STEPS_MAX, "waited {} steps", waited);
            }
        }
    }
}
