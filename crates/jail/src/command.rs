//! Starting a program that inherits nothing: no variable, no descriptor, no rights but those named.

use crate::child::Child;
use crate::{JailError, Rules, trampoline};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A program about to be started. Its environment is empty, its input and output go nowhere, and
/// every other descriptor is closed, unless said otherwise here.
///
/// The child leads a process group of its own, so that a Ctrl-C in the terminal reaches only us and
/// [`Child::kill`] reaches what the child has started in turn. The exception is a child that inherits
/// our input: it stays in our group, or the terminal would stop it.
#[derive(Debug)]
#[must_use = "a command does nothing before `spawn`"]
pub struct Command {
    pub(crate) program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    #[cfg(unix)]
    pub(crate) fds: Vec<(OwnedFd, i32)>,
    stdin: Io,
    stdout: Io,
    stderr: Io,
    pub(crate) limits: Limits,
    rules: Option<Rules>,
    pub(crate) detached: bool,
    pub(crate) die_with_parent: bool,
}

/// Where one of the three standard descriptors goes.
#[derive(Debug)]
pub enum Io {
    Null,
    Inherit,
    Pipe,
    File(File),
}

/// Bounds that the system enforces on the child from its first instruction. `None` leaves ours in
/// place. A bound above our own hard limit is lowered to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Address space, mapped files included. An allocation beyond it fails.
    pub memory_bytes: Option<u64>,
    /// Processor time of all threads together. The child is killed beyond it.
    pub cpu_seconds: Option<u64>,
    /// Highest number of open descriptors.
    pub files_max: Option<u64>,
    /// Size of any file that the child writes. The child is killed beyond it.
    pub file_bytes_max: Option<u64>,
}

impl Command {
    /// `program` is a path; a bare name is looked for by [`find_program`].
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            #[cfg(unix)]
            fds: Vec::new(),
            stdin: Io::Null,
            stdout: Io::Null,
            stderr: Io::Null,
            limits: Limits::default(),
            rules: None,
            detached: false,
            die_with_parent: false,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The child finds `fd` under the number `at`, which is 3 or more and named once.
    #[cfg(unix)]
    pub fn fd(mut self, fd: OwnedFd, at: i32) -> Self {
        self.fds.push((fd, at));
        self
    }

    pub fn stdin(mut self, io: Io) -> Self {
        self.stdin = io;
        self
    }

    pub fn stdout(mut self, io: Io) -> Self {
        self.stdout = io;
        self
    }

    pub fn stderr(mut self, io: Io) -> Self {
        self.stderr = io;
        self
    }

    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// For programs that aren't ours: confines the child before the program starts. Our own programs
    /// call [`crate::apply`] themselves, which can be much narrower.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// For the daemon: a session of its own, so that it outlives us and our terminal.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The system kills the child when this process ends, however it ends (Linux).
    ///
    /// Linux ties this to the thread that starts the child, not to the process. Such children are
    /// therefore started by one thread of ours that never ends.
    pub fn die_with_parent(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// When the program isn't there, can't be run, or the descriptors don't fit.
    pub fn spawn(mut self) -> Result<Child, JailError> {
        self.program = resolve(&self.program)?;
        if let Some(rules) = self.rules.take() {
            self.through_trampoline(&rules)?;
        }
        #[cfg(unix)]
        let started = if self.die_with_parent { unix::spawn_from_lasting_thread(self) } else { unix::spawn(self) };
        #[cfg(not(unix))]
        let started = {
            let program = self.program.clone();
            let mut command = self.into_std();
            command.spawn().map(Child::new).map_err(|source| JailError::Spawn { program, source })
        };
        started
    }

    fn through_trampoline(&mut self, rules: &Rules) -> Result<(), JailError> {
        let trampoline = trampoline::program().ok_or_else(|| JailError::NoTrampoline(self.program.clone()))?;
        let target = std::mem::replace(&mut self.program, trampoline);
        let mut args = trampoline::args(rules, &target)?;
        args.append(&mut self.args);
        self.args = args;
        Ok(())
    }

    fn into_std(self) -> std::process::Command {
        #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(self.stdin).stdout(self.stdout).stderr(self.stderr);
        command
    }
}

impl From<Io> for Stdio {
    fn from(io: Io) -> Self {
        match io {
            Io::Null => Self::null(),
            Io::Inherit => Self::inherit(),
            Io::Pipe => Self::piped(),
            Io::File(file) => file.into(),
        }
    }
}

/// Where a bare program name is looked for: the folders that only an administrator can write to.
/// `PATH` is not asked, as anyone may have put anything into it.
const PROGRAM_FOLDERS: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin", "/opt/homebrew/bin"];

/// The system's program of that name.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(OsStr::new(name))
}

fn find_in(name: &OsStr) -> Option<PathBuf> {
    PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn resolve(program: &Path) -> Result<PathBuf, JailError> {
    let mut parts = program.components();
    let bare = matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
    if !bare {
        return Ok(program.into());
    }
    find_in(program.as_os_str()).ok_or_else(|| JailError::ProgramMissing(program.into()))
}

#[cfg(unix)]
pub(crate) use unix::mark_each_but;

#[cfg(unix)]
mod unix {
    //! The part of starting a process that happens between fork and exec.

    use super::{Command, Io, Limits};
    use crate::child::Child;
    use crate::{JailError, system};
    use command_fds::{CommandFdExt, FdMapping};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::process::CommandExt;
    use std::sync::{OnceLock, mpsc};

    /// Everything the child does to itself before it becomes the program. Plain numbers: nothing here
    /// may allocate, as another thread of ours may have held the allocator's lock at the fork.
    struct Prelude {
        limits: Limits,
        detached: bool,
        /// Our process, when the child is to die with it.
        parent: Option<rustix::process::Pid>,
        /// Descriptors that stay, in rising order; the three standard ones always do.
        keep: Vec<i32>,
    }

    pub(super) fn spawn(mut command: Command) -> Result<Child, JailError> {
        let program = command.program.clone();
        let mappings = mappings(&mut command)?;
        let mut keep: Vec<i32> = mappings.iter().map(|mapping| mapping.child_fd).collect();
        keep.sort_unstable();
        let reserved = reserve(&keep).map_err(|source| JailError::Spawn { program: program.clone(), source })?;
        let prelude = Prelude {
            limits: command.limits,
            detached: command.detached,
            parent: command.die_with_parent.then(rustix::process::getpid),
            keep,
        };
        let leads_group = command.detached || !matches!(command.stdin, Io::Inherit);
        let own_group = leads_group && !command.detached;
        let mut command = command.into_std();
        if own_group {
            command.process_group(0);
        }
        // The numbers were checked: no two are the same.
        let _ = command.fd_mappings(mappings);
        #[expect(unsafe_code, reason = "limits, session and descriptors can only be set between fork and exec")]
        // SAFETY: `Prelude::run` makes system calls only; it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || prelude.run());
        }
        let started = command.spawn();
        drop(reserved);
        started.map(|inner| Child::new(inner, leads_group)).map_err(|source| JailError::Spawn { program, source })
    }

    fn mappings(command: &mut Command) -> Result<Vec<FdMapping>, JailError> {
        let mut mappings: Vec<FdMapping> = Vec::new();
        for (parent_fd, child_fd) in command.fds.drain(..) {
            if child_fd < 3 {
                return Err(JailError::DescriptorNumber(child_fd));
            }
            if mappings.iter().any(|mapping| mapping.child_fd == child_fd) {
                return Err(JailError::DescriptorTwice(child_fd));
            }
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        Ok(mappings)
    }

    /// Occupies the numbers in `keep` that are free in this process until the child is started.
    ///
    /// The standard library tells us of a failed exec through a pipe that it opens just before the fork.
    /// Were its number one of `keep`, mapping would overwrite it: the failure would be written to the
    /// child's peer and look like success to us.
    fn reserve(keep: &[i32]) -> io::Result<Vec<OwnedFd>> {
        let mut reserved = Vec::new();
        if keep.is_empty() {
            return Ok(reserved);
        }
        let null = std::fs::File::open("/dev/null")?;
        for &number in keep {
            let taken = rustix::io::fcntl_dupfd_cloexec(&null, number)?;
            if taken.as_raw_fd() == number {
                reserved.push(taken);
            }
        }
        Ok(reserved)
    }

    impl Prelude {
        fn run(&self) -> io::Result<()> {
            if self.detached {
                setsid()?;
            }
            if let Some(parent) = self.parent {
                system::die_with(parent)?;
            }
            system::close_on_exec_but(&self.keep)?;
            let limits = &self.limits;
            bound(Resource::Core, Some(system::CORE_BYTES_MAX), 0)?;
            bound(Resource::Cpu, limits.cpu_seconds, 1)?;
            bound(Resource::Nofile, limits.files_max, 0)?;
            bound(Resource::Fsize, limits.file_bytes_max, 0)?;
            // Last, so that the steps before aren't hit by it.
            bound(Resource::As, limits.memory_bytes, 0)
        }
    }

    /// `grace` lies between the warning (a signal that kills unless it is caught) and the certain end.
    fn bound(resource: Resource, limit: Option<u64>, grace: u64) -> io::Result<()> {
        let Some(limit) = limit else { return Ok(()) };
        let ceiling = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let maximum = limit.saturating_add(grace).min(ceiling);
        setrlimit(resource, Rlimit { current: Some(limit.min(maximum)), maximum: Some(maximum) })?;
        Ok(())
    }

    /// Marks every descriptor but the first three and `keep` to be closed at the exec, one by one. Between
    /// fork and exec: no allocation.
    pub(crate) fn mark_each_but(keep: &[i32]) {
        // LIMIT: higher numbers than this are out of reach for those who open one file after the other.
        const HIGHEST: i32 = 4096;
        let end = getrlimit(Resource::Nofile).current.and_then(|count| i32::try_from(count).ok()).unwrap_or(HIGHEST);
        for number in (3..end.min(HIGHEST)).filter(|number| !keep.contains(number)) {
            #[expect(unsafe_code, reason = "descriptors that nobody here owns can only be named by number")]
            // SAFETY: sets a flag of a descriptor of the forked child, where no one else uses it; a number that
            // stands for none is an error and harmless.
            unsafe {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }

    type Job = Box<dyn FnOnce() + Send>;

    /// Runs `spawn` on a thread that lives as long as this process. It waits without waking up.
    pub(super) fn spawn_from_lasting_thread(command: Command) -> Result<Child, JailError> {
        static THREAD: OnceLock<Option<mpsc::SyncSender<Job>>> = OnceLock::new();
        let failed = |program, kind: io::ErrorKind| JailError::Spawn { program, source: kind.into() };
        let jobs = THREAD.get_or_init(|| {
            // Whoever finds it full waits, and waits for its own answer anyway.
            let (sender, jobs) = mpsc::sync_channel::<Job>(8);
            let run = move || jobs.into_iter().for_each(|job| job());
            std::thread::Builder::new().name("jail-spawn".into()).spawn(run).ok().map(|_| sender)
        });
        let program = command.program.clone();
        let Some(jobs) = jobs else { return Err(failed(program, io::ErrorKind::OutOfMemory)) };
        let (reply, answer) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // The one who waits can't be gone: it blocks below.
            let _ = reply.send(spawn(command));
        });
        if jobs.send(job).is_err() {
            return Err(failed(program, io::ErrorKind::BrokenPipe));
        }
        answer.recv().unwrap_or_else(|_| Err(failed(program, io::ErrorKind::BrokenPipe)))
    }
}
