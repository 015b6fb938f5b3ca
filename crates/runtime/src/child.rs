//! The other processes that are this same program: they start here, before anything else.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a hidden child mode when the arguments name one: `__extract` reads documents and `render` runs
/// chat templates, both in confinement; `__confine` confines itself and becomes a program that isn't ours.
/// Call it first in `main`; `None` means that this process is an ordinary command.
pub fn child_main(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        "__extract" => Some(map::run_extractor()),
        "render" => Some(engine::run_renderer()),
        "__confine" => Some(jail::run_trampoline(&args[2..])),
        _ => None,
    }
}
