//! The only crate that starts processes, and the only one that takes rights away from them.
//!
//! Two sides meet here. A parent builds a [`Command`]: empty environment, no descriptor but those
//! that it names, limits set before the program runs. A child calls [`apply`] on itself and is
//! from then on unable to reach more than its [`Rules`] say; it gets a [`Protection`] back that
//! tells what is really in force, for `doctor` to print. Programs that aren't ours can't call
//! `apply`: they are started through [`run_trampoline`], which does it for them and becomes them.
//!
//! Nothing here ever loosens: a second `apply` only narrows. Start reading at `command`, then `rules`.

mod child;
mod command;
mod error;
mod protection;
mod rules;
mod trampoline;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as system;
#[cfg(target_os = "linux")]
use linux as system;

pub use child::{Child, KillOnDrop};
pub use command::{Command, Io, Limits, find_program};
pub use error::JailError;
pub use protection::Protection;
pub use rules::{Filter, Rules};
pub use trampoline::{run_trampoline, set_trampoline};

/// Confines this process: no new privileges, not readable by others of the same user, no core
/// dumps, no capabilities, files as `rules` say (Landlock), system calls as the filter says (seccomp).
///
/// Call it before the first thread is started: Landlock of kernels before 7.0 binds only the calling
/// thread and those that it starts later; threads that were there already are named in
/// [`Protection::missing`]. The system call filter always binds all threads.
///
/// May be called twice. The second call only narrows, and what it returns describes both layers.
/// Rules with a filter but without a single path seal the process: it opens no file any more, makes
/// no memory executable and can't be confined further. (The driver of a graphics processor may still
/// need both: then the second call names its devices and libraries.)
///
/// # Errors
/// When a step that this kernel has was refused; the process may then be confined in part and should
/// end. A step that this kernel doesn't have is no error: it is listed in [`Protection::missing`].
pub fn apply(rules: &Rules) -> Result<Protection, JailError> {
    system::apply(rules)
}

/// For the daemon, which holds everyone's prompts: no core dumps, and memory that other programs of
/// the same user can't read or trace. Best effort, as a program that goes without is no danger to others.
pub fn harden_daemon() {
    system::harden();
}
