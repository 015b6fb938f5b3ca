//! Confining programs that aren't ours: this program confines itself, then becomes the other one.

use crate::{Filter, JailError, Protection, Rules, apply, system};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The hidden first argument that leads to [`run_trampoline`].
const WORD: &str = "__confine";
const SEPARATOR: &str = "--";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says which program to start for `__confine`: this one, as found at start-up. The first call counts,
/// so that nothing later can put another program in its place.
pub fn set_trampoline(path: PathBuf) {
    let _ = PROGRAM.set(path);
}

pub(crate) fn program() -> Option<PathBuf> {
    PROGRAM.get().cloned()
}

pub(crate) fn args(rules: &Rules, target: &Path) -> Result<Vec<OsString>, JailError> {
    let rules = serde_json::to_string(rules)?;
    Ok(vec![WORD.into(), rules.into(), SEPARATOR.into(), target.into()])
}

/// `PROGRAM __confine RULES -- TARGET ARGS…`: confines this process by the rules and becomes TARGET.
/// `args` is what follows `__confine`. Returns only when that failed, with 125 for bad arguments or
/// failed confinement and 126 when TARGET can't be run; a sentence then stands on standard error.
///
/// What this system has no means to enforce is left out, as for [`apply`], and named on standard error;
/// what it refuses ends here. With [`Filter::None`], calls that no such program needs are refused besides
/// (`filters/foreign.json`).
pub fn run_trampoline(args: &[OsString]) -> ExitCode {
    let (reason, code) = match confine_and_become(args) {
        Failed::Before(reason) => (reason, 125),
        Failed::Running(reason) => (reason, 126),
    };
    // Without standard error there is only the exit code to say it.
    let _ = writeln!(std::io::stderr(), "{reason}");
    ExitCode::from(code)
}

enum Failed {
    Before(String),
    Running(String),
}

fn confine_and_become(args: &[OsString]) -> Failed {
    let [rules, separator, target, rest @ ..] = args else {
        return Failed::Before(format!("{WORD} needs RULES {SEPARATOR} PROGRAM"));
    };
    if separator != SEPARATOR {
        return Failed::Before(format!("{WORD} needs `{SEPARATOR}` before the program"));
    }
    let rules = match parse(rules) {
        Ok(rules) => rules,
        Err(reason) => return Failed::Before(reason),
    };
    let protection = match confine(&rules) {
        Ok(protection) => protection,
        Err(error) => return Failed::Before(error.to_string()),
    };
    for what in &protection.missing {
        // It stands in the program's own output, the only place that its caller reads.
        let _ = writeln!(std::io::stderr(), "less protection than asked for: {what}");
    }
    become_program(Path::new(target), rest)
}

fn confine(rules: &Rules) -> Result<Protection, JailError> {
    let mut protection = apply(rules)?;
    if rules.filter == Filter::None {
        protection.missing.extend(system::restrict_foreign()?);
    }
    Ok(protection)
}

fn parse(rules: &OsString) -> Result<Rules, String> {
    let text = rules.to_str().ok_or("the rules aren't text")?;
    serde_json::from_str(text).map_err(|error| format!("the rules can't be read: {error}"))
}

#[cfg(unix)]
fn become_program(target: &Path, args: &[OsString]) -> Failed {
    use std::os::unix::process::CommandExt;
    #[expect(clippy::disallowed_methods, reason = "becomes the program, starts none")]
    let error = std::process::Command::new(target).args(args).exec();
    Failed::Running(format!("`{}` can't be run: {error}", target.display()))
}

#[cfg(not(unix))]
fn become_program(target: &Path, _args: &[OsString]) -> Failed {
    Failed::Running(format!("`{}` can't be run: this system can't replace a process", target.display()))
}

#[cfg(test)]
mod tests;
