//! Systems on which nothing is enforced yet, and which say so.

use crate::{Filter, JailError, Protection, Rules};

pub(crate) fn apply(rules: &Rules) -> Result<Protection, JailError> {
    let system = if cfg!(target_os = "macos") { "macos" } else { std::env::consts::OS };
    let core_dumps_off = core_limit_off();
    let mut missing = vec![format!("{system}: files aren't confined")];
    if rules.filter != Filter::None {
        missing.push(format!("{system}: network, new processes and other system calls aren't confined"));
    }
    if !core_dumps_off {
        missing.push(format!("{system}: core dumps can't be turned off"));
    }
    Ok(Protection { filter: Filter::None.name().into(), core_dumps_off, missing, ..Protection::default() })
}

pub(crate) fn harden() {
    core_limit_off();
}

/// What is missing was said by [`apply`] already.
pub(crate) fn restrict_foreign() -> Result<Option<String>, JailError> {
    Ok(None)
}

#[cfg(unix)]
pub(crate) const CORE_BYTES_MAX: u64 = 0;

#[cfg(unix)]
fn core_limit_off() -> bool {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(CORE_BYTES_MAX), maximum: Some(CORE_BYTES_MAX) }).is_ok()
}

#[cfg(not(unix))]
fn core_limit_off() -> bool {
    false
}

/// Only Linux can do this; elsewhere the child notices that its pipes are closed.
#[cfg(unix)]
pub(crate) fn die_with(_parent: rustix::process::Pid) -> std::io::Result<()> {
    Ok(())
}

/// No other system has a call for all at once.
#[cfg(unix)]
pub(crate) fn close_on_exec_but(keep: &[i32]) -> std::io::Result<()> {
    crate::command::mark_each_but(keep);
    Ok(())
}
