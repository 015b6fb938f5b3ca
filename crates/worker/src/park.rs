//! States of jobs that have stepped back, and of sequences that are kept, in this process's memory within a budget:
//! what is restored isn't computed again.
//!
//! A state is always that of a whole sequence at its exact end, which every kind of cache can give,
//! recurrent ones too.

use crate::ffi::Context;
use std::cell::Cell;
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

/// One sequence's state. Its room is given back when it is dropped, however its job ends.
#[derive(Debug)]
pub(crate) struct Saved {
    state: Arc<Vec<u8>>,
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
        let state = Arc::new(context.save_state(sequence, bytes)?);
        Some(Saved { state, past, room })
    }

    /// Takes a state that was read. `None`: there is no room for it.
    pub(crate) fn adopt(&self, state: Vec<u8>, past: u32) -> Option<Saved> {
        let room = self.reserve(u64::try_from(state.len()).ok()?)?;
        Some(Saved { state: Arc::new(state), past, room })
    }
}

impl Saved {
    /// Tokens that it holds.
    pub(crate) fn past(&self) -> u32 {
        self.past
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.room.bytes
    }

    /// For another thread, to be written.
    pub(crate) fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.state)
    }

    /// Puts the state into an empty sequence. `false`: the cache has no place for it, and the sequence is empty.
    pub(crate) fn restore(&self, context: &mut Context, sequence: i32) -> bool {
        let restored = context.restore_state(sequence, &self.state);
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
