//! A started process: waiting for it without polling, and ending it.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
#[cfg(unix)]
use std::time::Duration;

/// A running or ended process that we started.
///
/// Dropping it lets the process run on; the system's record of its end is collected in the
/// background, so that nothing is left behind. Wrap it in [`KillOnDrop`] to end it with its owner.
#[derive(Debug)]
pub struct Child {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    /// `None` only while dropping.
    inner: Option<std::process::Child>,
    pid: u32,
    #[cfg(unix)]
    leads_group: bool,
    ended: Option<ExitStatus>,
    #[cfg(unix)]
    end_seen: Option<std::sync::mpsc::Receiver<()>>,
}

impl Child {
    pub(crate) fn new(mut inner: std::process::Child, #[cfg(unix)] leads_group: bool) -> Self {
        Self {
            stdin: inner.stdin.take(),
            stdout: inner.stdout.take(),
            stderr: inner.stderr.take(),
            pid: inner.id(),
            inner: Some(inner),
            #[cfg(unix)]
            leads_group,
            ended: None,
            #[cfg(unix)]
            end_seen: None,
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Blocks until the process has ended. Closes our end of its input first, as it may wait for that.
    ///
    /// # Errors
    /// When the system doesn't tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.collect(|inner| inner.wait().map(Some)).and_then(|status| status.ok_or_else(gone))
    }

    /// `None` while the process runs.
    ///
    /// # Errors
    /// When the system doesn't tell.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.collect(std::process::Child::try_wait)
    }

    /// Blocks until the process has ended or the time is over, whichever comes first; `None` when it
    /// still runs. Neither polls nor harms the process.
    ///
    /// # Errors
    /// When the system doesn't tell.
    #[cfg(unix)]
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.try_wait()? {
            return Ok(Some(status));
        }
        if self.end_within(timeout)? { self.wait().map(Some) } else { self.try_wait() }
    }

    /// Ends the process at once, and with it the whole group that it leads. No error when it has ended
    /// already. The end still has to be waited for.
    ///
    /// # Errors
    /// When the system refuses, which it does only for processes that took another user's rights.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        #[cfg(unix)]
        if self.leads_group && self.signal_group(rustix::process::Signal::KILL).is_ok() {
            return Ok(());
        }
        self.inner.as_mut().map_or(Ok(()), std::process::Child::kill)
    }

    /// Asks the process, and the group that it leads, to end. No error when it has ended already.
    ///
    /// # Errors
    /// As [`Child::kill`].
    #[cfg(unix)]
    pub fn terminate(&mut self) -> io::Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        if self.leads_group {
            return self.signal_group(rustix::process::Signal::TERM);
        }
        let Some(pid) = self.system_pid() else { return Ok(()) };
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Never after the end was collected: the number may be another process's by then.
    #[cfg(unix)]
    fn signal_group(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let Some(pid) = self.system_pid() else { return Ok(()) };
        Ok(rustix::process::kill_process_group(pid, signal)?)
    }

    #[cfg(unix)]
    fn system_pid(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
    }

    fn collect(
        &mut self,
        ask: impl FnOnce(&mut std::process::Child) -> io::Result<Option<ExitStatus>>,
    ) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = ask(self.inner.as_mut().ok_or_else(gone)?)?;
        }
        Ok(self.ended)
    }

    #[cfg(target_os = "linux")]
    fn end_within(&mut self, timeout: Duration) -> io::Result<bool> {
        use rustix::process::{PidfdFlags, pidfd_open};

        // The end isn't collected yet, so the number is still this process's.
        match pidfd_open(self.system_pid().ok_or_else(gone)?, PidfdFlags::empty()) {
            Ok(handle) => readable_within(&handle, timeout),
            // Kernels before 5.3, and old containers.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => self.end_seen_within(timeout),
            Err(errno) => Err(errno.into()),
        }
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    fn end_within(&mut self, timeout: Duration) -> io::Result<bool> {
        self.end_seen_within(timeout)
    }

    /// Without process descriptors, a thread waits for the end and leaves it to be collected. There is
    /// one for each child, however often it is asked.
    #[cfg(unix)]
    fn end_seen_within(&mut self, timeout: Duration) -> io::Result<bool> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        use std::sync::mpsc::{RecvTimeoutError, sync_channel};

        let pid = self.system_pid().ok_or_else(gone)?;
        if self.end_seen.is_none() {
            let (tell, end_seen) = sync_channel(1);
            let watch = move || {
                let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while matches!(waitid(WaitId::Pid(pid), only_look), Err(rustix::io::Errno::INTR)) {}
                // The child may have been dropped: then nobody asks.
                let _ = tell.send(());
            };
            std::thread::Builder::new().name("jail-wait".into()).stack_size(64 << 10).spawn(watch)?;
            self.end_seen = Some(end_seen);
        }
        let Some(end_seen) = &self.end_seen else { return Ok(false) };
        Ok(!matches!(end_seen.recv_timeout(timeout), Err(RecvTimeoutError::Timeout)))
    }
}

#[cfg(target_os = "linux")]
fn readable_within(handle: &std::os::fd::OwnedFd, timeout: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let started = std::time::Instant::now();
    loop {
        // A time too long for the system's type is as good as none.
        let left = Timespec::try_from(timeout.saturating_sub(started.elapsed())).ok();
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the process is no longer ours to wait for")
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.try_wait(), Ok(None)) {
            return;
        }
        let Some(mut inner) = self.inner.take() else { return };
        // Only a thread can wait without polling. When none is to be had, the record stays until we end.
        let collect = move || {
            let _ = inner.wait();
        };
        let _ = std::thread::Builder::new().name("jail-collect".into()).stack_size(64 << 10).spawn(collect);
    }
}

/// A child that ends with its owner: killed and collected on drop.
#[derive(Debug)]
pub struct KillOnDrop(pub Child);

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // A process that we may not kill is not waited for either: that could take for ever.
        if self.0.kill().is_ok() {
            let _ = self.0.wait();
        }
    }
}
