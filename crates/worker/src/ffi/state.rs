//! What the cache holds of one sequence, as bytes that outlive their context.

use super::{Context, sys};

impl Context {
    /// Everything that the cache holds of a sequence. `None`: it can't be had, or the memory for it can't.
    pub(crate) fn save(&mut self, sequence: i32) -> Option<Vec<u8>> {
        // SAFETY: the context is alive as long as `self`; an id that doesn't exist gives an empty state.
        let size = unsafe { sys::llama_state_seq_get_size_ext(self.raw(), sequence, 0) };
        let mut state = Vec::new();
        state.try_reserve_exact(size).ok()?;
        state.resize(size, 0);
        // SAFETY: the buffer is valid for the size given, and llama.cpp writes no more than that.
        let written = unsafe { sys::llama_state_seq_get_data_ext(self.raw(), state.as_mut_ptr(), size, sequence, 0) };
        (written > 0 && written == size).then_some(state)
    }

    /// Puts a saved state back, also into another context of the same model. `false`: there is no room for
    /// it, and the sequence is empty.
    pub(crate) fn restore(&mut self, sequence: i32, state: &[u8]) -> bool {
        // SAFETY: the state is valid for its length; it was made by `save` of a context of the same model.
        let read = unsafe { sys::llama_state_seq_set_data_ext(self.raw(), state.as_ptr(), state.len(), sequence, 0) };
        let whole = read == state.len() && read > 0;
        if !whole {
            self.forget(sequence, 0);
        }
        whole
    }
}
