//! Which of many things spoil the whole: by halves, within a bound of work.
//!
//! To try things one by one would take as many tries as there are things, whatever each may take. Parts are tried
//! together and halved where they fail, so few that are at fault are found in few tries; what is left when the work is
//! spent counts as at fault too.

use std::collections::VecDeque;
use std::ops::Range;

/// What a search may take, in units of the one who tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// All tries together.
    pub all: u64,
    /// One try at most; one that fails counts as all of it.
    pub one: u64,
}

/// One that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault<E> {
    pub place: usize,
    /// Why; `None`: nobody knows, as the work was spent.
    pub reason: Option<E>,
}

/// Those of the things of these sizes that are at fault, in their order, where all together are known to fail. `try_part`
/// tries some of them, with so much work, and says what it took. The size of what is tried counts as work too.
pub fn sift<E>(
    sizes: &[u64],
    mut work: Work,
    mut try_part: impl FnMut(Range<usize>, u64) -> Result<u64, E>,
) -> Vec<Fault<E>> {
    let mut parts: VecDeque<Range<usize>> = VecDeque::new();
    halve(0..sizes.len(), &mut parts);
    let mut found = Vec::new();
    while let Some(part) = parts.pop_front() {
        let size = sizes[part.clone()].iter().fold(0, |sum: u64, size| sum.saturating_add(*size));
        let most = size.saturating_add(work.one);
        if most > work.all {
            found.extend(part.map(|place| Fault { place, reason: None }));
            continue;
        }
        match try_part(part.clone(), work.one) {
            Ok(took) => work.all -= size + took.min(work.one),
            Err(reason) => {
                work.all -= most;
                if part.len() == 1 {
                    found.push(Fault { place: part.start, reason: Some(reason) });
                } else {
                    halve(part, &mut parts);
                }
            }
        }
    }
    found.sort_by_key(|fault| fault.place);
    found
}

/// One alone is tried as it is.
fn halve(part: Range<usize>, parts: &mut VecDeque<Range<usize>>) {
    let middle = part.start + part.len() / 2;
    parts.extend([part.start..middle, middle..part.end].into_iter().filter(|half| !half.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENOUGH: Work = Work { all: 1_000_000, one: 10 };

    /// Those at fault, and how often something was tried.
    fn sifted(count: usize, bad: &[usize], work: Work) -> (Vec<Fault<usize>>, usize) {
        let mut tries = 0;
        let found = sift(&vec![1; count], work, |part, _| {
            tries += 1;
            bad.iter().copied().find(|place| part.contains(place)).map_or(Ok(1), Err)
        });
        (found, tries)
    }

    #[test]
    fn one_among_many_is_found_in_few_tries() {
        let (found, tries) = sifted(512, &[77], ENOUGH);
        assert_eq!((found, tries), (vec![Fault { place: 77, reason: Some(77) }], 18));
        assert_eq!(sifted(0, &[], ENOUGH).0, []);
        assert_eq!(sifted(1, &[0], ENOUGH), (vec![Fault { place: 0, reason: Some(0) }], 1));
        assert_eq!(sifted(9, &[], ENOUGH), (vec![], 2), "each half does, only both together don't");
    }

    #[test]
    fn what_is_left_when_the_work_is_spent_is_at_fault_without_a_reason() {
        let all: Vec<usize> = (0..512).collect();
        let (found, tries) = sifted(512, &all, Work { all: 5_000, one: 100 });
        assert_eq!(found.len(), 512);
        assert!(tries < 50 && found.iter().any(|fault| fault.reason.is_none()), "{tries} tries");
        let places: Vec<usize> = found.iter().map(|fault| fault.place).collect();
        assert_eq!(places, all);
    }

    proptest! {
        #[test]
        fn all_at_fault_are_found_and_the_work_is_bounded(
            sizes in prop::collection::vec(0_u64..50, 0..80),
            bad in prop::collection::btree_set(0_usize..80, 0..8),
            took in 0_u64..30,
            all in 0_u64..20_000,
        ) {
            let work = Work { all, one: 20 };
            let mut spent = 0;
            let found = sift(&sizes, work, |part, most| {
                let fails = part.clone().any(|place| bad.contains(&place));
                spent += sizes[part].iter().sum::<u64>() + if fails { most } else { took.min(most) };
                if fails { Err(()) } else { Ok(took) }
            });
            prop_assert!(spent <= all, "{spent} of {all}");
            let places: Vec<usize> = found.iter().map(|fault| fault.place).collect();
            prop_assert!(places.is_sorted());
            let wanted: Vec<usize> = bad.iter().copied().filter(|place| *place < sizes.len()).collect();
            prop_assert!(wanted.iter().all(|place| places.contains(place)), "{wanted:?} among {places:?}");
            let sure: Vec<usize> = found.iter().filter(|fault| fault.reason.is_some()).map(|fault| fault.place).collect();
            prop_assert!(sure.iter().all(|place| wanted.contains(place)), "{sure:?} among {wanted:?}");
            if all >= 19_999 && sizes.len() < 20 {
                prop_assert_eq!(places, wanted);
            }
        }
    }
}
