//! Confinement by the Linux kernel, in the order of the steps.

mod calls;
mod files;

use self::calls::Outcome;
use crate::protection::SEALED;
use crate::{Filter, JailError, Protection, Rules};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::sync::{Mutex, PoisonError};

/// What the layers so far achieved, for the next one to build on.
static IN_FORCE: Mutex<Option<Layers>> = Mutex::new(None);

#[derive(Clone)]
struct Layers {
    protection: Protection,
    /// The list that binds.
    list: Filter,
}

pub(crate) fn apply(rules: &Rules) -> Result<Protection, JailError> {
    let mut in_force = IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut layers = match in_force.clone() {
        Some(layers) => {
            next_files(rules, &layers.protection)?;
            layers
        }
        None => Layers { protection: first_layer(rules)?, list: Filter::None },
    };
    if rules.filter != Filter::None {
        restrict_calls(rules, &mut layers)?;
    }
    *in_force = Some(layers.clone());
    Ok(layers.protection)
}

/// What is done once and can't be undone; later layers aren't even allowed to ask for it.
fn first_layer(rules: &Rules) -> Result<Protection, JailError> {
    harden();
    let core_dumps_off = getrlimit(Resource::Core).maximum.is_some_and(|maximum| maximum <= CORE_BYTES_MAX)
        && matches!(rustix::process::dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    rustix::thread::set_no_new_privs(true).map_err(|errno| JailError::confine("no new privileges", errno))?;
    // Read before Landlock closes the view.
    let other_threads = thread_count().map(|count| count.saturating_sub(1));
    let files = files::restrict(rules)?;
    let capabilities_dropped = drop_capabilities();
    let mut missing = files.missing;
    if let (true, false, Some(others @ 1..)) = (files.abi > 0, files.all_threads, other_threads) {
        missing.push(format!("Landlock: binds only this thread and later ones, not the {others} that ran before"));
    }
    if !core_dumps_off {
        missing.push("core dumps: could not be turned off".into());
    }
    if !capabilities_dropped {
        missing.push("capabilities: the superuser's special rights could not be dropped".into());
    }
    let no_new_privileges = capabilities_dropped && rustix::thread::no_new_privs().unwrap_or(false);
    let filter = Filter::None.name().into();
    Ok(Protection { landlock_abi: files.abi, no_new_privileges, seccomp: false, filter, core_dumps_off, missing })
}

fn next_files(rules: &Rules, so_far: &Protection) -> Result<(), JailError> {
    let files = files::restrict(rules)?;
    if files.abi < so_far.landlock_abi {
        return Err(JailError::confine("Landlock", "a second layer is refused; a sealed process takes none"));
    }
    Ok(())
}

fn restrict_calls(rules: &Rules, layers: &mut Layers) -> Result<(), JailError> {
    let Layers { protection, list } = layers;
    // A list that is in force already would only be looked up twice at every call.
    if *list != rules.filter {
        match calls::restrict(rules.filter)? {
            Outcome::InForce(calls) => {
                *list = rules.filter;
                protection.seccomp = true;
                protection.filter = format!("{}, {calls} calls", rules.filter.name());
            }
            Outcome::Unavailable(why) => {
                protection.missing.push(why);
                return Ok(());
            }
        }
    }
    if rules.seals() {
        match calls::seal()? {
            Outcome::InForce(_) => protection.filter = format!("{}, {SEALED}", protection.filter),
            Outcome::Unavailable(why) => protection.missing.push(why),
        }
    }
    Ok(())
}

/// More for programs that aren't ours, to whom `apply` without a filter leaves too much. Says what
/// this system couldn't do.
pub(crate) fn restrict_foreign() -> Result<Option<String>, JailError> {
    match calls::restrict_foreign()? {
        Outcome::InForce(_) => Ok(None),
        Outcome::Unavailable(why) => Ok(Some(why)),
    }
}

/// A limit of 0 is passed over where the system hands dumps to a program instead of writing them to a
/// file; 1 is the kernel's own mark for no dump at all, and too small for any file.
pub(crate) const CORE_BYTES_MAX: u64 = 1;

pub(crate) fn harden() {
    let maximum = getrlimit(Resource::Core).maximum.map_or(CORE_BYTES_MAX, |maximum| maximum.min(CORE_BYTES_MAX));
    // Both are looked at afterwards where someone relies on them.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Root without capabilities is a user like any other that happens to own the system's files. Of
/// threads that ran before, each keeps its own.
fn drop_capabilities() -> bool {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).is_ok()
}

fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Asks the kernel to kill us when the thread of `parent` that started us ends. Between fork and exec.
pub(crate) fn die_with(parent: rustix::process::Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // It may have ended before we asked.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Marks every descriptor but the first three and `keep` (in rising order) to be closed at the exec.
/// Between fork and exec: no allocation.
pub(crate) fn close_on_exec_but(keep: &[i32]) -> io::Result<()> {
    match mark_ranges_but(keep) {
        // The two answers of kernels before 5.11.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            crate::command::mark_each_but(keep);
            Ok(())
        }
        marked => marked,
    }
}

fn mark_ranges_but(keep: &[i32]) -> io::Result<()> {
    let mut from = 3;
    for &number in keep {
        let number = number.cast_unsigned();
        if from < number {
            mark(from, number - 1)?;
        }
        from = number + 1;
    }
    mark(from, u32::MAX)
}

#[expect(unsafe_code, reason = "neither rustix nor the standard library offers close_range")]
fn mark(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes three numbers and touches only flags of this process's descriptors. It runs in the
    // forked child, where no one else uses them.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
