//! States of jobs that have stepped back, and of sequences that are kept, in this process's memory within a budget, or
//! in files: what is restored isn't computed again.
//!
//! A state is always that of a whole sequence at its exact end, which every kind of cache can give,
//! recurrent ones too.

use crate::ffi::{Context, Mapping};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// LIMIT: bytes of states, whatever the daemon allows: a larger number is a defect of its.
const BYTES_MAX: u64 = 64 << 30;

/// Room for states.
#[derive(Debug)]
pub(crate) struct Lot {
    bytes_max: u64,
    taken: Arc<AtomicU64>,
}

/// The bytes of a state.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Memory(Arc<Held>),
    /// They stand in this part of a file, and take no memory of this process.
    File(Arc<Mapping>, Range<usize>),
}

impl Deref for State {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(held) => &held.bytes,
            Self::File(file, part) => file.get(part.clone()).unwrap_or_default(),
        }
    }
}

impl State {
    /// Puts it into an empty sequence. `false`: the cache has no place for it, and the sequence must be forgotten.
    pub(crate) fn restore(&self, context: &mut Context, sequence: i32) -> bool {
        let Self::File(file, part) = self else { return context.restore_state(sequence, self) };
        // It may have waited since it was looked at, and its pages may have gone.
        let restored = file.load(part.clone()).is_ok() && context.restore_state(sequence, self);
        file.let_go();
        restored
    }
}

/// Bytes with their room, which they have as long as anybody holds them: who writes them to disk may do so longer than they
/// are kept.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    _room: Room,
}

/// One sequence's state. Its room is given back when it is dropped, however its job ends.
#[derive(Debug)]
pub(crate) struct Saved {
    state: State,
    /// Tokens that it holds.
    past: u32,
}

/// A part of the budget.
#[derive(Debug)]
struct Room {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Relaxed);
    }
}

impl Lot {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max: bytes_max.min(BYTES_MAX), taken: Arc::default() }
    }

    fn reserve(&self, bytes: u64) -> Option<Room> {
        // Room is only ever taken by one thread; others may give some back meanwhile.
        self.taken.load(Relaxed).checked_add(bytes).filter(|taken| *taken <= self.bytes_max)?;
        self.taken.fetch_add(bytes, Relaxed);
        Some(Room { bytes, taken: Arc::clone(&self.taken) })
    }

    /// The whole budget.
    pub(crate) fn most(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that nobody has.
    pub(crate) fn left(&self) -> u64 {
        self.bytes_max.saturating_sub(self.taken.load(Relaxed))
    }

    /// Copies a sequence that holds `past` tokens. `None` when there is nothing to keep, no room for it, or
    /// the cache doesn't give it.
    pub(crate) fn save(&self, context: &mut Context, sequence: i32, past: u32) -> Option<Saved> {
        if past == 0 {
            return None;
        }
        let bytes = context.state_bytes(sequence);
        let room = self.reserve(u64::try_from(bytes).ok()?)?;
        Some(Saved::held(context.save_state(sequence, bytes)?, room, past))
    }
}

impl Saved {
    fn held(bytes: Vec<u8>, room: Room, past: u32) -> Self {
        Self { state: State::Memory(Arc::new(Held { bytes, _room: room })), past }
    }

    /// Takes a state that stands in a file, and no room.
    pub(crate) fn adopted(state: State, past: u32) -> Option<Self> {
        matches!(state, State::File(..)).then_some(Self { state, past })
    }

    /// Tokens that it holds.
    pub(crate) fn past(&self) -> u32 {
        self.past
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state.len() as u64
    }

    /// Whether there is more room without it: not where it stands in a file, nor while it is being written to one.
    pub(crate) fn takes_room(&self) -> bool {
        matches!(&self.state, State::Memory(held) if Arc::strong_count(held) == 1)
    }

    pub(crate) fn is_in_file(&self) -> bool {
        matches!(self.state, State::File(..))
    }

    /// The bytes again, without a copy.
    pub(crate) fn shared(&self) -> State {
        self.state.clone()
    }

    /// Puts the state into an empty sequence. `false`: the cache has no place for it, and the sequence is empty.
    pub(crate) fn restore(&self, context: &mut Context, sequence: i32) -> bool {
        let restored = self.state.restore(context, sequence);
        if !restored {
            context.forget(sequence, 0);
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let lot = Lot::new(100);
        let first = lot.reserve(60).expect("there is room");
        assert!(lot.reserve(41).is_none());
        let second = lot.reserve(40).expect("what is left");
        assert!(lot.reserve(1).is_none() && lot.reserve(u64::MAX).is_none());
        drop(first);
        assert!(lot.reserve(61).is_none());
        drop(lot.reserve(60).expect("it came back"));
        drop(second);
        assert_eq!(lot.left(), 100);
        assert!(Lot::new(0).reserve(1).is_none());
    }

    #[test]
    fn who_writes_a_state_to_disk_keeps_its_room() {
        let lot = Lot::new(100);
        let saved = Saved::held(vec![7; 60], lot.reserve(60).expect("there is room"), 3);
        assert!(saved.takes_room() && !saved.is_in_file());
        let written = saved.shared();
        assert!(!saved.takes_room() && !saved.is_in_file(), "to give it up brings nothing now");
        drop(saved);
        assert_eq!((lot.left(), written.len()), (40, 60));
        std::thread::spawn(move || drop(written)).join().expect("it was written");
        assert_eq!(lot.left(), 100);
    }
}
