//! Keeps the last complaints of llama.cpp, which are the only reasons that it gives for a failure.

use super::{account, sys};
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

/// LIMIT: enough for one failure and what led to it.
const LINES_MAX: usize = 8;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Sends llama.cpp's log here instead of standard error. What is neither a complaint nor says how large a
/// buffer is gets dropped.
pub(crate) fn install_log() {
    // SAFETY: `keep` is a function of the right type that lives for ever, and needs no data.
    unsafe {
        sys::llama_log_set(Some(keep), std::ptr::null_mut());
        sys::ggml_log_set(Some(keep), std::ptr::null_mut());
    }
}

/// The complaints since the last call, in one line; empty when there were none.
pub(crate) fn drain_log() -> String {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.drain(..).collect::<Vec<_>>().join("; ")
}

unsafe extern "C" fn keep(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    let complains = level == sys::GGML_LOG_LEVEL_ERROR || level == sys::GGML_LOG_LEVEL_WARN;
    if text.is_null() || !(complains || level == sys::GGML_LOG_LEVEL_INFO) {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends with a zero byte and is valid during this call.
    let line = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if !complains {
        account::note(&line);
        return;
    }
    let line = tidy(&line);
    if line.is_empty() {
        return;
    }
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Without the name of the C++ function in front, which helps nobody.
fn tidy(line: &str) -> String {
    let line = line.trim();
    let rest = match line.split_once(": ") {
        Some((function, rest)) if !function.contains(' ') => rest,
        _ => line,
    };
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn complaints_lose_the_name_of_the_function() {
        assert_eq!(super::tidy("llama_model_load: error loading model: bad\n"), "error loading model: bad");
        assert_eq!(super::tidy("tensor data is out of bounds"), "tensor data is out of bounds");
    }
}
