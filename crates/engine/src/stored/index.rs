//! Which states lie on disk, which of them a prompt can go on from, and which go when there are too many. Pure.
//!
//! Tokens are known here by sums only; the worker compares the tokens themselves before it uses anything.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Tokens of one block.
const BLOCK_TOKENS: usize = 64;
/// What is read again at most rather than written again: a state that holds all but so many tokens stands for it.
const GROWTH_TOKENS: usize = 256;
/// A state that saves less isn't worth a file.
const WORTH_US: u64 = 200_000;
/// LIMIT: files. Each is looked at for every prompt of its app.
const FILES_MAX: usize = 512;

/// Whose a state is, and what it was computed with. Two that differ in anything share nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The model's files, the type of its cache, and the program that wrote it.
    pub(crate) model: String,
    /// For people, and to erase by.
    pub(crate) name: String,
    /// What each is, and the bits of how much of it.
    pub(crate) adapters: Vec<(String, u32)>,
    pub(crate) app: String,
}

/// Sums of a chain of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) tokens: usize,
    /// Of all tokens up to the end of each whole block.
    pub(crate) blocks: Vec<u64>,
    /// Of all tokens.
    pub(crate) end: u64,
    /// It can be gone on from after its last token only.
    pub(crate) exact: bool,
}

impl Sums {
    pub(crate) fn of(tokens: &[i32], exact: bool) -> Self {
        let all = sums(tokens);
        let blocks = all.iter().skip(BLOCK_TOKENS - 1).step_by(BLOCK_TOKENS).copied().collect();
        Self { tokens: tokens.len(), blocks, end: all.last().copied().unwrap_or(START), exact }
    }

    /// How many of these tokens a state of this chain holds, as far as sums tell; `all` are the sums after each.
    fn common(&self, all: &[u64]) -> usize {
        let whole = self.tokens > 0 && all.get(self.tokens - 1) == Some(&self.end);
        match (whole, self.exact) {
            (true, _) => self.tokens,
            (false, true) => 0,
            (false, false) => {
                let theirs = all.iter().skip(BLOCK_TOKENS - 1).step_by(BLOCK_TOKENS);
                BLOCK_TOKENS * self.blocks.iter().zip(theirs).take_while(|(a, b)| a == b).count()
            }
        }
    }

    /// Whether one of the other chain does as well but for a few tokens.
    fn is_covered_by(&self, other: &Self) -> bool {
        if self.exact || other.exact {
            return self == other;
        }
        let common = self.blocks.iter().zip(&other.blocks).take_while(|(a, b)| a == b).count() * BLOCK_TOKENS;
        common + GROWTH_TOKENS > self.tokens
    }
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

/// The sum of all tokens up to and with each (FNV-1a, 64 bits, which stays the same between builds).
fn sums(tokens: &[i32]) -> Vec<u64> {
    let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut sum = START;
    let mut after = |token: &i32| {
        sum = token.to_le_bytes().into_iter().fold(sum, add);
        sum
    };
    tokens.iter().map(&mut after).collect()
}

/// One file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) owner: Owner,
    pub(crate) sums: Sums,
    pub(crate) bytes: u64,
    /// What it saves for each KiB.
    worth: f64,
    /// The lowest goes first.
    rank: f64,
}

/// All files, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: BTreeMap<u64, Entry>,
    bytes_max: u64,
    floor: f64,
}

/// A state that a worker offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) bytes: u64,
    pub(crate) cost_us: u64,
}

/// How fast the disk was found to be, in bytes per second; `None`: not known yet.
pub(crate) type Speed = Option<f64>;

impl Index {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(crate) fn entries(&self) -> &BTreeMap<u64, Entry> {
        &self.entries
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }

    /// The file that holds most of a prompt, when it is more than `least` tokens; of several the smallest, which is read
    /// soonest. The last token of a prompt is always computed.
    pub(crate) fn find(&mut self, owner: &Owner, prompt: &[i32], least: u32) -> Option<u64> {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let all = sums(usable);
        let of_owner = self.entries.iter().filter(|(_, entry)| entry.owner == *owner);
        let common = of_owner.map(|(number, entry)| (entry.sums.common(&all), Reverse(entry.bytes), *number));
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let (_, _, number) = common.filter(|(common, ..)| *common > least).max()?;
        self.touch(number);
        Some(number)
    }

    fn touch(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.rank = self.floor + entry.worth;
        }
    }

    /// Whether a state is worth a file: it saves time that the disk wouldn't cost again, and nothing there does as
    /// well.
    pub(crate) fn wants(&self, owner: &Owner, sums: &Sums, offer: Offer, speed: Speed) -> bool {
        let read_us = speed.map_or(0.0, |speed| offer.bytes as f64 / speed.max(1.0) * 1e6);
        let fits = offer.bytes <= self.bytes_max;
        let pays = offer.cost_us >= WORTH_US && read_us < offer.cost_us as f64;
        let covered = || self.entries.values().any(|entry| entry.owner == *owner && sums.is_covered_by(&entry.sums));
        fits && pays && !covered()
    }

    /// Takes a file in. The answer: the files that must go, because they are superfluous now or there is no room.
    pub(crate) fn insert(&mut self, number: u64, owner: Owner, sums: Sums, bytes: u64, cost_us: u64) -> Vec<u64> {
        let superfluous = |entry: &Entry| entry.owner == owner && is_front(&entry.sums, &sums);
        let mut out: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| superfluous(entry)).map(|(number, _)| *number).collect();
        out.iter().for_each(|number| drop(self.entries.remove(number)));
        let worth = cost_us as f64 * 1024.0 / bytes.max(1) as f64;
        self.entries.insert(number, Entry { owner, sums, bytes, worth, rank: self.floor + worth });
        out.extend(self.make_room(0));
        out
    }

    /// The files that must go so that so many bytes more find room.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Vec<u64> {
        let mut out = Vec::new();
        while self.entries.len() > FILES_MAX || self.bytes().saturating_add(bytes) > self.bytes_max {
            let least =
                self.entries.iter().min_by(|(_, a), (_, b)| a.rank.total_cmp(&b.rank)).map(|(number, _)| *number);
            let Some((number, gone)) = least.and_then(|number| self.entries.remove_entry(&number)) else { break };
            self.floor = self.floor.max(gone.rank);
            out.push(number);
        }
        out
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Entry> {
        self.entries.remove(&number)
    }

    /// Takes off all that `which` says.
    pub(crate) fn take(&mut self, which: impl Fn(&Owner) -> bool) -> Vec<(u64, Entry)> {
        self.entries.extract_if(.., |_, entry| which(&entry.owner)).collect()
    }
}

/// Whether all of one chain's whole blocks stand at the front of the other, which is longer.
fn is_front(front: &Sums, whole: &Sums) -> bool {
    !front.exact && !whole.exact && front.tokens <= whole.tokens && whole.blocks.starts_with(&front.blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(app: &str) -> Owner {
        Owner { model: "m".into(), name: "m".into(), adapters: Vec::new(), app: app.into() }
    }

    fn run(from: i32, length: i32) -> Vec<i32> {
        (from..from + length).collect()
    }

    const DEAR: u64 = 10_000_000;

    fn index(files: &[(&str, Vec<i32>, bool)]) -> Index {
        let mut index = Index::new(1 << 30);
        for (number, (app, tokens, exact)) in (1..).zip(files) {
            index.insert(number, owner(app), Sums::of(tokens, *exact), 1 << 20, DEAR);
        }
        index
    }

    #[test]
    fn the_longest_front_of_the_same_owner_is_found() {
        let mut index = index(&[("a", run(0, 1000), false), ("b", run(0, 3000), false), ("a", run(9, 500), false)]);
        assert_eq!(index.find(&owner("a"), &run(0, 2000), 0), Some(1));
        assert_eq!(index.find(&owner("a"), &run(0, 2000), 999), Some(1), "all of it");
        assert_eq!(index.find(&owner("a"), &run(0, 2000), 1000), None, "no more than is known already");
        let changed = [run(0, 700), run(5000, 500)].concat();
        assert_eq!(index.find(&owner("a"), &changed, 600), Some(1), "whole blocks of it");
        assert_eq!(index.find(&owner("a"), &changed, 640), None);
        assert_eq!(index.find(&owner("c"), &run(0, 2000), 0), None, "another app");
        let other = Owner { model: "other".into(), ..owner("a") };
        let adapted = Owner { adapters: vec![("x".into(), 1)], ..owner("a") };
        assert_eq!((index.find(&other, &run(0, 2000), 0), index.find(&adapted, &run(0, 2000), 0)), (None, None));
        assert_eq!(index.find(&owner("a"), &[], 0), None);
    }

    #[test]
    fn an_exact_end_is_found_whole_or_not_at_all() {
        let mut index = index(&[("a", run(0, 1000), true), ("a", run(0, 500), true)]);
        assert_eq!(index.find(&owner("a"), &run(0, 2000), 0), Some(1));
        assert_eq!(index.find(&owner("a"), &run(0, 1000), 0), Some(2), "the last token of a prompt is computed");
        assert_eq!(index.find(&owner("a"), &[run(0, 400), run(9000, 600)].concat(), 0), None);
    }

    #[test]
    fn what_does_not_pay_is_not_written() {
        let index = index(&[("a", run(0, 1000), false)]);
        let wants = |tokens: Vec<i32>, bytes, cost_us, speed| {
            index.wants(&owner("a"), &Sums::of(&tokens, false), Offer { bytes, cost_us }, speed)
        };
        assert!(wants(run(0, 1400), 1 << 20, DEAR, None));
        assert!(!wants(run(0, 1200), 1 << 20, DEAR, None), "there but for 200 tokens");
        assert!(!wants(run(0, 900), 1 << 20, DEAR, None), "there");
        assert!(!wants(run(0, 1400), 1 << 20, 1000, None), "read in a moment");
        assert!(!wants(run(0, 1400), 2 << 30, DEAR, None), "more than all may take");
        assert!(wants(run(0, 1400), 100 << 20, DEAR, Some(20e6)), "5 s from the disk, 10 s to compute");
        assert!(!wants(run(0, 1400), 100 << 20, DEAR, Some(5e6)), "20 s from the disk");
        assert!(index.wants(&owner("b"), &Sums::of(&run(0, 900), false), Offer { bytes: 1, cost_us: DEAR }, None));
    }

    #[test]
    fn files_make_room_by_what_they_save_and_a_longer_one_replaces_its_front() {
        let mut index = Index::new(10 << 20);
        let mut put = |number, from, length, mib: u64, cost_us| {
            index.insert(number, owner("a"), Sums::of(&run(from, length), false), mib << 20, cost_us)
        };
        assert_eq!(put(1, 0, 600, 3, DEAR), [0; 0]);
        assert_eq!(put(2, 0, 900, 4, DEAR), [1], "superfluous");
        assert_eq!(put(3, 5000, 900, 4, DEAR / 10), [0; 0]);
        assert_eq!(put(4, 7000, 900, 4, DEAR), [3], "it saves least");
        assert_eq!(put(5, 9000, 900, 4, DEAR).len(), 1);
        assert!(index.bytes() <= 10 << 20);
        let gone = index.take(|owner| owner.app == "a");
        assert_eq!((gone.len(), index.bytes()), (2, 0));
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let mut index = Index::new(u64::MAX);
        for number in 0..2 * FILES_MAX as u64 {
            let from = i32::try_from(number).expect("few") * 1000;
            index.insert(number, owner("a"), Sums::of(&run(from, 100), false), 1, DEAR);
        }
        assert_eq!(index.entries().len(), FILES_MAX);
    }
}
