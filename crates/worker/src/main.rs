//! The worker: one process per loaded model, the only program here that links C++.
//!
//! It is told what to load and do through one socket pair, takes the model as an open descriptor,
//! gives up every right that it doesn't need before it looks at the first byte of the model, and
//! decides by itself which tokens go into each step. Start reading at `serve`; unsafe code is in
//! `ffi` alone. `freehold-worker selftest FILE` multiplies a few matrices and says how it went.

mod aside;
mod draft_model;
mod embed;
#[cfg(test)]
mod exact;
mod ffi;
mod generate;
mod guide;
mod input;
mod job;
mod keep;
mod link;
mod load;
mod park;
mod reference;
mod room;
mod selftest;
mod serve;
mod states;
mod threads;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
freehold-worker is started by the Freehold daemon and does nothing by itself.
  freehold-worker serve            speak the wire protocol on descriptor 3
  freehold-worker selftest FILE    check one ggml backend, print one line of JSON
  freehold-worker selftest FILE large
                                   the same with large matrices, which shows how fast it can be
  freehold-worker devices FILE     the same without a check: its devices and their free memory";

#[expect(clippy::print_stderr, reason = "a wrong call is answered to the person who made it")]
fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        ["serve"] => serve::run(),
        ["devices", _] => selftest::list(Path::new(&args[1])),
        ["selftest", _] => selftest::run(Path::new(&args[1])),
        ["selftest", _, "large"] => selftest::run_large(Path::new(&args[1])),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
