//! Raw system calls: attempts that confinement must refuse, and the way out.

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use wire::Attempt;

/// Ends the process at once: no destructors, which could wait for threads that still compute.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Size of a page of memory; known without a file, so that it can be asked under confinement.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: takes a number and gives a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Memory of the machine; None when the system doesn't say.
pub(crate) fn memory_bytes() -> Option<u64> {
    // SAFETY: takes a number and gives a number.
    let pages = u64::try_from(unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) }).ok()?;
    (pages > 0).then(|| pages.saturating_mul(page_bytes()))
}

/// Processor time of all threads of this process; asked by a call that confinement leaves.
pub(crate) fn processor_time_us() -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock's number is a constant, and the time is ours to write.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    (answer == 0).then_some(seconds * 1_000_000 + nanoseconds / 1000)
}

/// Takes over a descriptor that the parent left under a number, if it is there and a socket. To be
/// asked once, at the very start.
pub(crate) fn inherited_socket(number: i32) -> Option<OwnedFd> {
    // SAFETY: the descriptor is only looked at; a number that isn't open is answered with an error.
    let there = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    if rustix::fs::FileType::from_raw_mode(there.st_mode) != rustix::fs::FileType::Socket {
        return None;
    }
    // SAFETY: it is open (see above), and nothing in this process has opened or owns it: it was there
    // before `main`.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Tries something and says how it went: 0 when it succeeded, else the error number. Each attempt is
/// undone or harmless when it succeeds.
pub(crate) fn attempt(what: &Attempt) -> i32 {
    match what {
        Attempt::OpenSocketInet => socket(libc::AF_INET),
        Attempt::OpenSocketUnix => socket(libc::AF_UNIX),
        Attempt::ReadFile(path) => open(path, libc::O_RDONLY),
        Attempt::WriteFile(path) => write(path),
        Attempt::SpawnProcess => spawn(),
        Attempt::Fork => fork(),
        Attempt::TraceParent => trace_parent(),
        Attempt::KillParent => kill_parent(),
    }
}

/// The error number of a call that answered `result`; 0 when it went well.
pub(crate) fn last_call_errno(result: c_long) -> i32 {
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 }
}

fn close(descriptor: c_long) {
    if let Ok(descriptor) = i32::try_from(descriptor)
        && descriptor >= 0
    {
        // SAFETY: the descriptor was made by the attempt just before and is known to nobody else.
        unsafe { libc::close(descriptor) };
    }
}

fn socket(family: i32) -> i32 {
    // SAFETY: passes three numbers.
    let made = unsafe { libc::socket(family, libc::SOCK_STREAM, 0) };
    let errno = last_call_errno(made.into());
    close(made.into());
    errno
}

fn open(path: &str, flags: i32) -> i32 {
    let Ok(path) = CString::new(path) else { return libc::EINVAL };
    // SAFETY: the path ends with a zero byte and outlives the call.
    let opened = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) };
    let errno = last_call_errno(opened.into());
    close(opened.into());
    errno
}

/// Only a new file, which is removed again: nothing that was there is touched.
fn write(path: &str) -> i32 {
    let errno = open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL);
    if errno == 0
        && let Ok(path) = CString::new(path)
    {
        // SAFETY: as in `open`.
        unsafe { libc::unlink(path.as_ptr()) };
    }
    errno
}

/// Running a program would replace this one, so the call is made without a path: a kernel that would
/// run programs for us gets as far as looking at the path and says that its address is bad.
fn spawn() -> i32 {
    // SAFETY: null pointers are answered with an error and never followed.
    let result = unsafe { libc::execve(std::ptr::null(), std::ptr::null(), std::ptr::null()) };
    match last_call_errno(result.into()) {
        libc::EFAULT => 0,
        errno => errno,
    }
}

fn fork() -> i32 {
    // SAFETY: the child does nothing but end, by a call that is safe after a fork of a process with threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        exit_now(0);
    }
    let errno = last_call_errno(child.into());
    if child > 0 {
        // SAFETY: waits for our own child; no status is stored.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
    errno
}

#[cfg(target_os = "linux")]
fn trace_parent() -> i32 {
    // SAFETY: passes numbers. Seizing doesn't stop the parent; to let go of it, it is stopped for a
    // moment and released.
    unsafe {
        let parent = libc::getppid();
        let none = std::ptr::null_mut::<libc::c_void>();
        let errno = last_call_errno(libc::ptrace(libc::PTRACE_SEIZE, parent, none, none));
        if errno == 0 {
            libc::ptrace(libc::PTRACE_INTERRUPT, parent, none, none);
            libc::waitpid(parent, std::ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, parent, none, none);
        }
        errno
    }
}

#[cfg(not(target_os = "linux"))]
fn trace_parent() -> i32 {
    libc::ENOSYS
}

/// Signal 0 asks only whether a signal would be let through.
fn kill_parent() -> i32 {
    // SAFETY: passes two numbers.
    last_call_errno(unsafe { libc::kill(libc::getppid(), 0) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without confinement the harmless ones succeed: a probe that always refuses would prove nothing.
    #[test]
    fn attempts_succeed_where_nothing_refuses_them() {
        let fresh = std::env::temp_dir().join(format!("freehold-attempt-{}", std::process::id()));
        let fresh = fresh.to_string_lossy().into_owned();
        for what in [
            Attempt::OpenSocketInet,
            Attempt::OpenSocketUnix,
            Attempt::ReadFile("/proc/self/status".into()),
            Attempt::WriteFile(fresh.clone()),
            Attempt::SpawnProcess,
            Attempt::Fork,
            Attempt::KillParent,
        ] {
            assert_eq!(attempt(&what), 0, "{what:?}");
        }
        assert!(!std::path::Path::new(&fresh).exists());
        assert_eq!(attempt(&Attempt::ReadFile("/nonexistent/file".into())), libc::ENOENT);
    }
}
