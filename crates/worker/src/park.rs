//! States of jobs that have stepped back, and of sequences that are kept, in this process's memory within a budget, or
//! in files: what is restored isn't computed again.
//!
//! A state is always that of a whole sequence at its exact end, which every kind of cache can give,
//! recurrent ones too.

use crate::ffi::{Context, Mapping};
use std::cell::Cell;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;

/// LIMIT: bytes of states, whatever the daemon allows: a larger number is a defect of its.
const BYTES_MAX: u64 = 64 << 30;

/// Room for states.
#[derive(Debug)]
pub(crate) struct Lot {
    bytes_max: u64,
    taken: Rc<Cell<u64>>,
}

/// The bytes of a state.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Memory(Arc<Vec<u8>>),
    /// They stand in this part of a file, and take no memory of this process.
    File(Arc<Mapping>, Range<usize>),
}

impl Deref for State {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
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

/// One sequence's state. Its room is given back when it is dropped, however its job ends.
#[derive(Debug)]
pub(crate) struct Saved {
    state: State,
    /// Tokens that it holds.
    past: u32,
    room: Room,
}

/// A part of the budget.
#[derive(Debug)]
struct Room {
    bytes: u64,
    taken: Rc<Cell<u64>>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.set(self.taken.get().saturating_sub(self.bytes));
    }
}

impl Lot {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max: bytes_max.min(BYTES_MAX), taken: Rc::default() }
    }

    fn reserve(&self, bytes: u64) -> Option<Room> {
        let taken = self.taken.get().checked_add(bytes).filter(|taken| *taken <= self.bytes_max)?;
        self.taken.set(taken);
        Some(Room { bytes, taken: Rc::clone(&self.taken) })
    }

    /// The whole budget.
    pub(crate) fn most(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that nobody has.
    pub(crate) fn left(&self) -> u64 {
        self.bytes_max.saturating_sub(self.taken.get())
    }

    /// Copies a sequence that holds `past` tokens. `None` when there is nothing to keep, no room for it, or
    /// the cache doesn't give it.
    pub(crate) fn save(&self, context: &mut Context, sequence: i32, past: u32) -> Option<Saved> {
        if past == 0 {
            return None;
        }
        let bytes = context.state_bytes(sequence);
        let room = self.reserve(u64::try_from(bytes).ok()?)?;
        let state = State::Memory(Arc::new(context.save_state(sequence, bytes)?));
        Some(Saved { state, past, room })
    }

    /// Takes a state that stands in a file, and no room.
    pub(crate) fn adopt(&self, state: State, past: u32) -> Option<Saved> {
        let room = self.reserve(0).filter(|_| matches!(state, State::File(..)))?;
        Some(Saved { state, past, room })
    }
}

impl Saved {
    /// Tokens that it holds.
    pub(crate) fn past(&self) -> u32 {
        self.past
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state.len() as u64
    }

    /// Whether there is more room without it.
    pub(crate) fn takes_room(&self) -> bool {
        self.room.bytes > 0
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
        assert_eq!(lot.taken.get(), 0);
        assert!(Lot::new(0).reserve(1).is_none());
    }
}
