//! A program for the tests of this crate: does what its arguments say, one after the other, and
//! writes one line for each. Harmless or hostile as the test likes; the test confines it, or has it
//! confine itself, and reads what came of it.

use freehold_jail as jail;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// The descriptor that tests pass under a fixed number.
const PASSED: i32 = 3;
static PARENT: OnceLock<i32> = OnceLock::new();

fn main() -> ExitCode {
    // Found out now: a filter may refuse to tell later.
    PARENT.get_or_init(|| rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()));
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|word| word == "__confine") {
        return jail::run_trampoline(&args[1..]);
    }
    let mut probe = Probe::default();
    for action in args {
        let action = action.to_string_lossy().into_owned();
        let (verb, rest) = action.split_once(' ').unwrap_or((&action, ""));
        let said = probe.act(verb, rest);
        if writeln!(io::stdout(), "{said}").is_err() {
            return ExitCode::from(9);
        }
    }
    ExitCode::SUCCESS
}

/// A thread that was there before confinement, and the calls that it is told to make.
type Early = (mpsc::Sender<String>, mpsc::Receiver<i64>);

#[derive(Default)]
struct Probe {
    early: Option<Early>,
}

impl Probe {
    fn act(&mut self, verb: &str, rest: &str) -> String {
        match verb {
            "apply" => apply(rest),
            "time" => time(rest),
            "confine" => confine(rest),
            "harden" => {
                jail::harden_daemon();
                "hardened".into()
            }
            "raw" => raw(rest).to_string(),
            "pid" => std::process::id().to_string(),
            "sid" => session(),
            "read" => said(std::fs::read(rest).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())),
            "field" => field(rest),
            "write" => said(std::fs::write(rest, "written").map(|()| "written".to_owned())),
            "remove" => said(std::fs::remove_file(rest).map(|()| "removed".to_owned())),
            "list" => said(std::fs::read_dir(rest).map(|entries| entries.count().to_string())),
            "env" => std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned() + ";").collect(),
            "dir" => said(std::env::current_dir().map(|dir| dir.display().to_string())),
            "fds" => said(descriptors()),
            "thread" => thread(),
            "early" => self.start_early(),
            "in-early" => self.in_early(rest),
            "run" => run(rest),
            "frame" => said(frame()),
            "mapped" => said(mapped(rest)),
            "hide" => hide(rest),
            "listen" => said(listen(rest)),
            "call" => said(std::os::unix::net::UnixStream::connect(rest).map(|_| "answered".into())),
            "pair" => said(std::os::unix::net::UnixStream::pair().map(|_| "paired".into())),
            "grow" => grow(rest),
            "open-many" => open_many(),
            "spin" => spin(),
            "fill" => fill(rest),
            "abort" => std::process::abort(),
            "int80" => other_architecture(),
            "block" => block(),
            "fork-block" => fork_block(),
            "lasting" => lasting(false),
            "lasting-confined" => lasting(true),
            "start-and-wait" => start_and_wait(),
            "group" => (rustix::process::getpgrp() == rustix::process::getpid()).to_string(),
            "spawn-missing" => spawn_missing(),
            "exit" => std::process::exit(rest.parse().unwrap_or(9)),
            _ => format!("unknown action {verb}"),
        }
    }

    fn start_early(&mut self) -> String {
        let (ask, asked) = mpsc::channel::<String>();
        let (reply, replies) = mpsc::channel();
        std::thread::spawn(move || asked.into_iter().try_for_each(|spec| reply.send(raw(&spec))));
        self.early = Some((ask, replies));
        "started".into()
    }

    fn in_early(&mut self, spec: &str) -> String {
        let Some((ask, replies)) = &self.early else { return "no thread".into() };
        ask.send(spec.into()).ok().and_then(|()| replies.recv().ok()).map_or("gone".into(), |errno| errno.to_string())
    }
}

fn said(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("errno {}", error.raw_os_error().unwrap_or(-1)))
}

fn apply(rules: &str) -> String {
    let rules = match serde_json::from_str(rules) {
        Ok(rules) => rules,
        Err(error) => return format!("bad rules: {error}"),
    };
    match jail::apply(&rules) {
        Ok(protection) => serde_json::to_string(&protection).unwrap_or_default(),
        Err(error) => format!("error: {error}"),
    }
}

/// Becomes another probe by way of the trampoline, which tells whether it gained no privileges.
fn confine(rules: &str) -> String {
    let Ok(program) = std::env::current_exe() else { return "who am I".into() };
    let then = "field /proc/self/status NoNewPrivs:";
    let code = jail::run_trampoline(&[rules.into(), "--".into(), program.into(), then.into()]);
    format!("{code:?}")
}

fn time(rules: &str) -> String {
    let started = Instant::now();
    let done = apply(rules);
    let spent = started.elapsed();
    if done.starts_with('{') { format!("{} us", spent.as_micros()) } else { done }
}

/// One system call from text: `NUMBER:ARG,ARG…`. An argument is a number, `pid`, `ppid`, `@TEXT` for a
/// pointer to text, or `zeros` for a pointer to empty memory. Says the error number, 0 for success.
fn raw(spec: &str) -> i64 {
    let (number, list) = spec.split_once(':').unwrap_or((spec, ""));
    let mut texts = Vec::new();
    let mut zeros = vec![0_u64; 512];
    let mut args = [0_i64; 6];
    for (slot, word) in args.iter_mut().zip(list.split(',').filter(|word| !word.is_empty())) {
        *slot = match word {
            "pid" => i64::from(std::process::id()),
            "ppid" => PARENT.get().copied().unwrap_or(0).into(),
            "zeros" => zeros.as_mut_ptr().expose_provenance() as i64,
            word => match word.strip_prefix('@') {
                Some(text) => {
                    texts.push(CString::new(text).unwrap_or_default());
                    texts.last().map_or(0, |text| text.as_ptr().expose_provenance() as i64)
                }
                None => word.parse().unwrap_or(-1),
            },
        };
    }
    let [a, b, c, d, e, f] = args;
    let Ok(number) = number.parse() else { return -1 };
    #[expect(unsafe_code, reason = "tests what the kernel answers to exactly this call")]
    // SAFETY: tests name calls whose pointers are null, or lead to the memory above, which outlives the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(-1).into() } else { 0 }
}

fn field(rest: &str) -> String {
    let (path, name) = rest.split_once(' ').unwrap_or((rest, ""));
    said(std::fs::read_to_string(path).map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("absent".into(), |value| value.split_whitespace().collect::<Vec<_>>().join(" "))
    }))
}

/// From the table of processes: rustix's `getsid` panics in a container whose session began outside (0).
#[cfg(target_os = "linux")]
fn session() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    after_name.split_whitespace().nth(3).expect("the session").to_owned()
}

#[cfg(not(target_os = "linux"))]
fn session() -> String {
    rustix::process::getsid(None).map_or(0, |sid| sid.as_raw_nonzero().get()).to_string()
}

fn descriptors() -> io::Result<String> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path())?;
        // The folder that is being listed is one of them.
        if !target.starts_with("/proc") {
            numbers.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    numbers.sort();
    Ok(numbers.join(" "))
}

fn thread() -> String {
    match std::thread::Builder::new().spawn(|| 6 * 7) {
        Ok(thread) => thread.join().map_or("panicked".into(), |answer| answer.to_string()),
        Err(error) => said(Err(error)),
    }
}

fn run(program: &str) -> String {
    match jail::Command::new(Path::new(program)).spawn().map(|mut child| child.wait()) {
        Ok(Ok(status)) => format!("ran: {status}"),
        Ok(Err(error)) => said(Err(error)),
        Err(jail::JailError::Spawn { source, .. }) => said(Err(source)),
        Err(error) => error.to_string(),
    }
}

fn passed() -> OwnedFd {
    #[expect(unsafe_code, reason = "a number is all that a child knows of what it inherits")]
    // SAFETY: the test passes this descriptor and nothing else in this program owns it.
    unsafe {
        OwnedFd::from_raw_fd(PASSED)
    }
}

/// Receives a descriptor over the passed socket, reads the file behind it and sends that and the
/// descriptor back.
fn frame() -> io::Result<String> {
    let socket = passed();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0_u8; 16];
    let message = recvmsg(&socket, &mut [IoSliceMut::new(&mut word)], &mut ancillary, RecvFlags::empty())?;
    let received = ancillary.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut file = File::from(received.ok_or(io::ErrorKind::UnexpectedEof)?);
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // The same file again by its place in /proc, as some libraries want a path.
    let again = std::fs::read_to_string(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::empty())?;
    let by_path = said(again.map(|text| text.len().to_string()));
    Ok(format!("{} bytes in, {} of text, by path {by_path}", message.bytes, text.len()))
}

/// Maps a file to read, the way that models are.
fn mapped(path: &str) -> io::Result<String> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    #[expect(unsafe_code, reason = "mapping a file is what is tested")]
    // SAFETY: the mapping is private, read only within `length`, and the test leaves the file alone.
    unsafe {
        let place = mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)?;
        let sum =
            std::slice::from_raw_parts(place.cast::<u8>(), length).iter().map(|byte| u64::from(*byte)).sum::<u64>();
        munmap(place, length)?;
        Ok(sum.to_string())
    }
}

/// Plays an older kernel: the call of that number doesn't exist from now on.
fn hide(number: &str) -> String {
    #[cfg(target_os = "linux")]
    {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
        let rules = [(number.parse().unwrap_or(-1), Vec::new())].into();
        let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let arch = std::env::consts::ARCH.try_into();
        let filter = arch.and_then(|arch| SeccompFilter::new(rules, SeccompAction::Allow, absent, arch));
        let program = filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string());
        match program.and_then(|program| seccompiler::apply_filter(&program).map_err(|error| error.to_string())) {
            Ok(()) => "hidden".into(),
            Err(error) => error,
        }
    }
    #[cfg(not(target_os = "linux"))]
    format!("{number} stays")
}

/// Binds a TCP socket to a port of this machine.
fn listen(port: &str) -> io::Result<String> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port.parse().unwrap_or(0));
    bind(&socket, &address)?;
    Ok("listens".into())
}

fn grow(bytes: &str) -> String {
    let mut block: Vec<u8> = Vec::new();
    match block.try_reserve_exact(bytes.parse().unwrap_or(0)) {
        Ok(()) => "grown".into(),
        Err(_) => "refused".into(),
    }
}

fn open_many() -> String {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
        if files.len() > 4096 {
            return "no bound".into();
        }
    }
    (files.len() + 3).to_string()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Appends to a file for ever.
fn fill(path: &str) -> String {
    let Ok(mut file) = File::create(path) else { return "can't create".into() };
    let block = vec![7_u8; 4096];
    for _ in 0..1 << 14 {
        if file.write_all(&block).is_err() {
            return "refused".into();
        }
    }
    "no bound".into()
}

/// A call by the door that is kept for 32-bit programs.
fn other_architecture() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let answer: u64;
        #[expect(unsafe_code, reason = "no library offers this door")]
        // SAFETY: asks for the process number (20 there), which touches no memory.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("rax") 20_u64 => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        format!("answered {answer}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    "no such door".into()
}

/// Waits until its input is closed.
fn block() -> String {
    said(io::copy(&mut io::stdin(), &mut io::sink()).map(|bytes| format!("{bytes} bytes")))
}

/// Leaves a process behind that holds the passed descriptor and waits for ever, in the same group.
fn fork_block() -> String {
    #[expect(unsafe_code, reason = "a helper process that no builder made")]
    // SAFETY: this process has one thread, and the child does nothing but wait.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            std::thread::park();
        }
    }
    drop(passed());
    child.to_string()
}

/// Starts a child that dies with us, from a thread that ends at once, and hands it the passed descriptor.
fn lasting(confined: bool) -> String {
    let Ok(program) = std::env::current_exe() else { return "who am I".into() };
    let mut command =
        jail::Command::new(&program).arg("block").stdin(jail::Io::Pipe).fd(passed(), PASSED).die_with_parent();
    if confined {
        jail::set_trampoline(program.clone());
        command = command.rules(jail::Rules::system().and_execute(&program));
    }
    let Ok(Ok(mut child)) = std::thread::spawn(move || command.spawn()).join() else { return "not started".into() };
    let lives = matches!(child.wait_timeout(Duration::from_millis(150)), Ok(None));
    // The child waits for its input to close, which must not happen before we are killed.
    std::mem::forget(child.stdin.take());
    std::mem::forget(child);
    if lives { "lives".into() } else { "died with the thread".into() }
}

/// Starts a child that says what it inherited; looks at it too early, and when it has ended.
fn start_and_wait() -> String {
    let (Ok(program), Ok(stray)) = (std::env::current_exe(), File::open("/dev/null")) else { return "no".into() };
    if rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).is_err() {
        return "no stray descriptor".into();
    }
    let command = jail::Command::new(&program).args(["block", "fds"]).stdin(jail::Io::Pipe).stdout(jail::Io::Pipe);
    let Ok(mut child) = command.spawn() else { return "not started".into() };
    let early = child.wait_timeout(Duration::from_millis(20)).map(|status| status.is_none());
    drop(child.stdin.take());
    let ended = child.wait_timeout(Duration::from_secs(20)).map(|status| status.is_some_and(|status| status.success()));
    let mut text = String::new();
    let read = child.stdout.take().map(|mut out| out.read_to_string(&mut text));
    let lines = text.lines().collect::<Vec<_>>().join("; ");
    format!("{early:?} {ended:?} {} {lines}", matches!(read, Some(Ok(_))))
}

/// Asks for a descriptor under the very number that the next pipe would get, and for a program that
/// isn't there. Says what the caller hears and what the descriptor's other end hears.
fn spawn_missing() -> String {
    let Ok((ours, theirs)) = std::os::unix::net::UnixStream::pair() else { return "no socket".into() };
    let Ok(next) = File::open("/dev/null") else { return "no /dev/null".into() };
    let number = next.as_raw_fd();
    drop(next);
    let missing = PathBuf::from("/nowhere/to/be/found");
    let heard = match jail::Command::new(&missing).fd(theirs.into(), number).spawn() {
        Ok(_) => "started",
        Err(_) => "an error",
    };
    let mut bytes = Vec::new();
    let mut ours = ours;
    let count = ours.read_to_end(&mut bytes).unwrap_or(99);
    format!("{heard}, {count} bytes")
}
