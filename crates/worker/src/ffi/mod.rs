//! The only module that calls llama.cpp and the system directly.
//!
//! Everything outside works with the owned types below and can't misuse a pointer. Start with
//! `model` and `context`; `backend` comes before both in a worker's life.

#![expect(unsafe_code, reason = "llama.cpp and raw system calls are reached here and nowhere else")]

mod account;
mod attention;
mod backend;
mod context;
mod log;
mod mapping;
mod model;
mod pages;
mod product;
mod sampler;
mod system;

pub(crate) use account::{Buffers, copies_weights};
pub(crate) use attention::{Attention, Inputs as AttentionInputs, halves};
use backend::ThreadPool;
pub(crate) use backend::{Backend, Device};
pub(crate) use context::{Batch, Context, ContextOptions, Decoded, Pooling, ROWS};
pub(crate) use log::{drain_log, install_log};
pub(crate) use mapping::{Mapping, Sheet};
pub(crate) use model::{Adapter, Model, ModelOptions, Token};
pub(crate) use pages::Pages;
pub(crate) use product::{MatrixType, ProductBench, Weights as ProductWeights};
pub(crate) use sampler::{Candidates, Sampler};
pub(crate) use system::{attempt, exit_now, inherited_socket, memory_bytes, page_bytes, processor_time_us};

use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_char};

/// Text of llama.cpp, which is ASCII or UTF-8 and lives as long as the process.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null; ggml and llama.cpp end their names with a zero byte and keep them in static
    // or registry memory, which is not freed while the process lives.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// Version of llama.cpp as it says it itself.
pub(crate) fn version() -> String {
    // SAFETY: takes nothing and returns a static string.
    text(unsafe { sys::llama_version() })
}
