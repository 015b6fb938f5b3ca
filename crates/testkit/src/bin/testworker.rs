//! `freehold-testworker`: takes the worker's place in tests and plays the script in the model file.

use std::process::ExitCode;

fn main() -> ExitCode {
    freehold_testkit::scripted::main()
}
