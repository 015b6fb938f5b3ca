//! Each way out, tried from inside.

use crate::{apply, filtered, lines, probe, probe_path};
use freehold_jail::{Filter, Io, JailError, Protection, Rules};
use libc::{EACCES, EPERM};
use std::os::unix::process::ExitStatusExt;

/// A system call that a hostile parser would like, and whether it is harmless enough to be tried by
/// an unconfined probe too, where it must not answer `EPERM`: else the test would prove nothing.
struct Attempt {
    name: &'static str,
    number: i64,
    args: &'static str,
    control: bool,
}

const fn harmless(name: &'static str, number: i64, args: &'static str) -> Attempt {
    Attempt { name, number, args, control: true }
}

const fn hostile(name: &'static str, number: i64, args: &'static str) -> Attempt {
    Attempt { name, number, args, control: false }
}

/// Written for every architecture; `-100` is the current folder.
const ATTEMPTS: &[Attempt] = &[
    harmless("internet socket", libc::SYS_socket, "2,1,0"),
    harmless("datagram socket", libc::SYS_socket, "2,2,0"),
    harmless("IPv6 socket", libc::SYS_socket, "10,1,0"),
    harmless("Unix socket", libc::SYS_socket, "1,1,0"),
    harmless("kernel socket", libc::SYS_socket, "16,3,0"),
    harmless("socket pair", libc::SYS_socketpair, "1,1,0,zeros"),
    harmless("connect", libc::SYS_connect, "0,zeros,16"),
    harmless("bind", libc::SYS_bind, "0,zeros,16"),
    harmless("listen", libc::SYS_listen, "0,1"),
    harmless("accept", libc::SYS_accept4, "0,0,0,0"),
    harmless("send to an address", libc::SYS_sendto, "0,zeros,1,0,zeros,16"),
    harmless("send many", libc::SYS_sendmmsg, "0,zeros,1,0"),
    harmless("write a file", libc::SYS_openat, "-100,@/dev/null,1"),
    harmless("read and write a file", libc::SYS_openat, "-100,@/dev/null,2"),
    harmless("create a file", libc::SYS_openat, "-100,@/nowhere/file,64"),
    harmless("cut a file", libc::SYS_openat, "-100,@/dev/null,512"),
    harmless("append to a file", libc::SYS_openat, "-100,@/dev/null,1025"),
    harmless("open by another call", libc::SYS_openat2, "-100,@/dev/null,zeros,24"),
    harmless("make a folder", libc::SYS_mkdirat, "-100,@/nowhere/folder,448"),
    harmless("remove a file", libc::SYS_unlinkat, "-100,@/nowhere/file,0"),
    harmless("rename a file", libc::SYS_renameat2, "-100,@/nowhere/a,-100,@/nowhere/b,0"),
    harmless("link a file", libc::SYS_linkat, "-100,@/nowhere/a,-100,@/nowhere/b,0"),
    harmless("make a link", libc::SYS_symlinkat, "@/nowhere/a,-100,@/nowhere/b"),
    harmless("cut by name", libc::SYS_truncate, "@/nowhere/file,0"),
    harmless("change a mode", libc::SYS_fchmodat, "-100,@/nowhere/file,511"),
    harmless("change an owner", libc::SYS_fchownat, "-100,@/nowhere/file,0,0,0"),
    harmless("change a time", libc::SYS_utimensat, "-100,@/nowhere/file,0,0"),
    harmless("change an attribute", libc::SYS_setxattr, "@/nowhere/file,@user.a,zeros,1,0"),
    harmless("memory file", libc::SYS_memfd_create, "@a,0"),
    harmless("change folder", libc::SYS_chdir, "@/"),
    harmless("run a program", libc::SYS_execve, "@/nowhere/program,0,0"),
    harmless("run a program by folder", libc::SYS_execveat, "-100,@/nowhere/program,0,0,0"),
    hostile("another process", libc::SYS_clone, "17,0,0,0,0"),
    hostile("another process in our memory", libc::SYS_clone, "16657,0,0,0,0"),
    hostile("a thread in a new user namespace", libc::SYS_clone, "268503296,0,0,0,0"),
    harmless("trace the parent", libc::SYS_ptrace, "16902,999999999,0,0"),
    hostile("attach to the parent", libc::SYS_ptrace, "16,ppid,0,0"),
    hostile("kill the parent", libc::SYS_kill, "ppid,9"),
    harmless("is the parent there", libc::SYS_kill, "ppid,0"),
    harmless("kill itself by the wrong call", libc::SYS_kill, "pid,0"),
    harmless("signal the parent's thread", libc::SYS_tgkill, "ppid,ppid,0"),
    harmless("signal any thread", libc::SYS_tkill, "ppid,0"),
    harmless("hold the parent", libc::SYS_pidfd_open, "ppid,0"),
    harmless("signal through a handle", libc::SYS_pidfd_send_signal, "0,0,0,0"),
    harmless("take a descriptor", libc::SYS_pidfd_getfd, "0,0,0"),
    harmless("read the parent's memory", libc::SYS_process_vm_readv, "ppid,zeros,0,zeros,0,0"),
    harmless("write the parent's memory", libc::SYS_process_vm_writev, "ppid,zeros,0,zeros,0,0"),
    hostile("limit the parent", libc::SYS_prlimit64, "ppid,4,zeros,0"),
    harmless("look at the parent's limits", libc::SYS_prlimit64, "ppid,4,0,zeros"),
    hostile("set an own limit", libc::SYS_prlimit64, "0,4,zeros,0"),
    harmless("slow the parent down", libc::SYS_setpriority, "0,0,0"),
    harmless("pin the parent", libc::SYS_sched_setaffinity, "ppid,8,0"),
    hostile("become root", libc::SYS_setuid, "0"),
    hostile("become someone", libc::SYS_setresuid, "65534,65534,65534"),
    hostile("join groups", libc::SYS_setgroups, "0,0"),
    harmless("take rights", libc::SYS_capset, "0,0"),
    harmless("new namespaces", libc::SYS_unshare, "0"),
    harmless("enter a namespace", libc::SYS_setns, "-1,0"),
    hostile("mount", libc::SYS_mount, "@none,@/nowhere,@tmpfs,0,0"),
    hostile("change root", libc::SYS_chroot, "@/nowhere"),
    harmless("kernel programs", libc::SYS_bpf, "999,0,0"),
    harmless("performance counters", libc::SYS_perf_event_open, "0,0,0,-1,0"),
    harmless("call ring", libc::SYS_io_uring_setup, "1,0"),
    hostile("fault handler", libc::SYS_userfaultfd, "2049"),
    harmless("key ring", libc::SYS_keyctl, "999,0,0"),
    harmless("add a key", libc::SYS_add_key, "0,0,0,0,0"),
    harmless("shared memory", libc::SYS_shmget, "0,0,0"),
    harmless("message queue", libc::SYS_mq_open, "@a,0,0,0"),
    harmless("watch files", libc::SYS_inotify_init1, "0"),
    hostile("dumpable again", libc::SYS_prctl, "4,1,0,0,0"),
    harmless("let others trace", libc::SYS_prctl, "1499557217,0,0,0,0"),
    harmless("writable code", libc::SYS_mmap, "0,4096,7,34,-1,0"),
    harmless("make code writable", libc::SYS_mprotect, "0,0,7"),
    harmless("terminal commands", libc::SYS_ioctl, "-1,21522,0"),
    harmless("device commands", libc::SYS_ioctl, "-1,0,0"),
    harmless("watch system calls", libc::SYS_seccomp, "1,8,0"),
    harmless("strict mode", libc::SYS_seccomp, "0,1,0"),
    harmless("another personality", libc::SYS_personality, "4294967295"),
    harmless("move data by splice", libc::SYS_splice, "-1,0,-1,0,0,0"),
    harmless("a call that doesn't exist", 9999, ""),
];

fn raw(attempt: &Attempt) -> String {
    format!("raw {}:{}", attempt.number, attempt.args)
}

/// What a worker on a graphics processor may and the others may not.
const GPU_MAY: &[&str] = &["read and write a file", "memory file", "device commands", "terminal commands"];

#[test]
fn the_filters_refuse_every_way_out() {
    for filter in [Filter::WorkerCpu, Filter::WorkerGpu, Filter::Extract] {
        let answers = lines(probe().arg(apply(&filtered(filter))).args(ATTEMPTS.iter().map(raw)));
        let protection: Protection = serde_json::from_str(&answers[0]).expect(&answers[0]);
        assert!(protection.seccomp, "{protection:?}");
        for (attempt, answer) in ATTEMPTS.iter().zip(&answers[1..]) {
            let may = filter == Filter::WorkerGpu && GPU_MAY.contains(&attempt.name);
            assert_eq!(*answer == EPERM.to_string(), !may, "{}: {} gave {answer}", filter.name(), attempt.name);
        }
        assert_eq!(answers.len(), ATTEMPTS.len() + 1);
    }
}

/// Without confinement none of these answers `EPERM`: it was the filter that refused.
#[test]
fn the_attempts_mean_something() {
    let tried: Vec<_> = ATTEMPTS.iter().filter(|attempt| attempt.control).collect();
    let answers = lines(probe().args(tried.iter().map(|attempt| raw(attempt))));
    assert_eq!(answers.len(), tried.len());
    for (attempt, answer) in tried.iter().zip(&answers) {
        assert_ne!(*answer, EPERM.to_string(), "{} proves nothing", attempt.name);
    }
}

/// `clone3` hides its flags; libraries must be led to `clone`.
#[test]
fn clone3_is_unknown() {
    for filter in [Filter::WorkerCpu, Filter::Extract] {
        let answers = lines(probe().args([apply(&filtered(filter)), format!("raw {}:zeros,88", libc::SYS_clone3)]));
        assert_eq!(answers[1], libc::ENOSYS.to_string());
    }
}

#[test]
fn the_standard_library_starts_nothing() {
    let answers = lines(probe().args([apply(&filtered(Filter::WorkerCpu)), "run /bin/true".into()]));
    assert!(answers[1].starts_with("errno 1"), "{answers:?}");
}

#[test]
fn documents_are_read_without_threads() {
    let answers = lines(probe().args([apply(&filtered(Filter::Extract)), "thread".into()]));
    assert_eq!(answers[1], "errno 1");
}

/// The other door into the kernel, for 32-bit programs, ends the process.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_door_for_32_bit_programs_is_deadly() {
    let mut child = probe().args([apply(&filtered(Filter::WorkerCpu)), "int80".into()]).spawn().unwrap();
    let signal = child.wait().unwrap().signal();
    // A kernel without that door answers with a fault of its own.
    assert!(matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)), "{signal:?}");
}

/// As the third one, whose numbers carry a mark.
#[test]
#[cfg(target_arch = "x86_64")]
fn marked_call_numbers_are_refused() {
    let marked = 0x4000_0000 | libc::SYS_getpid;
    let answers = lines(probe().args([apply(&filtered(Filter::WorkerCpu)), format!("raw {marked}:")]));
    assert_eq!(answers[1], EPERM.to_string());
}

#[test]
fn files_outside_the_rules_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
    std::fs::write(&inside, "in").unwrap();
    std::fs::write(&outside, "out").unwrap();
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    for filter in [Filter::None, Filter::WorkerCpu, Filter::WorkerGpu, Filter::Extract] {
        let rules = Rules::default().and_read(&inside).with_filter(filter);
        let answers = lines(probe().args([
            apply(&rules),
            format!("read {}", inside.display()),
            format!("read {}", outside.display()),
            format!("read {}", link.display()),
            "read /etc/passwd".into(),
            "read /proc/self/environ".into(),
            "list /".into(),
        ]));
        assert_eq!(answers[1], "in");
        for answer in &answers[2..] {
            assert_eq!(*answer, format!("errno {EACCES}"), "{answers:?}");
        }
    }
}

/// Twice refused: by Landlock where there is no filter, by the filter where the rules would permit.
#[test]
fn writing_is_refused_twice() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "old").unwrap();
    let read_only = Rules::default().and_read(place.path());
    let writable = Rules::default().and_write(place.path()).with_filter(Filter::WorkerCpu);
    for (rules, errno) in [(read_only, EACCES), (writable, EPERM)] {
        let answers = lines(probe().args([
            apply(&rules),
            format!("write {}", file.display()),
            format!("write {}", place.path().join("new").display()),
            format!("remove {}", file.display()),
            format!("raw {}:-100,@{},-100,@{},0", libc::SYS_linkat, file.display(), place.path().join("b").display()),
            format!("raw {}:@{},0", libc::SYS_truncate, file.display()),
        ]));
        for answer in &answers[1..] {
            assert_eq!(answer.trim_start_matches("errno "), errno.to_string(), "{answers:?}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    }
}

/// Without a filter, so that nothing but Landlock and the dropped rights stand in the way.
#[test]
fn the_parent_is_out_of_reach_even_without_a_filter() {
    let parent = std::process::id();
    let everything = Rules::default().and_read(std::path::Path::new("/")).and_execute(&probe_path());
    let answers = lines(probe().args([
        apply(&everything),
        format!("read /proc/{parent}/environ"),
        format!("read /proc/{parent}/maps"),
        format!("raw {}:-100,@/proc/{parent}/mem,0", libc::SYS_openat),
        format!("raw {}:-100,@/proc/{parent}/fd/0,zeros,100", libc::SYS_readlinkat),
        format!("raw {}:16,ppid,0,0", libc::SYS_ptrace),
        format!("raw {}:ppid,0", libc::SYS_kill),
    ]));
    let protection: Protection = serde_json::from_str(&answers[0]).unwrap();
    for (answer, what) in answers[1..].iter().zip(["environment", "map", "memory", "descriptors", "tracing"]) {
        let errno: i32 = answer.trim_start_matches("errno ").parse().expect(answer);
        assert!(errno == EPERM || errno == EACCES, "{what}: {answer}");
    }
    let signal_refused = answers[6] == EPERM.to_string();
    assert_eq!(signal_refused, protection.landlock_abi >= 6, "{answers:?}");
}

#[test]
fn rights_are_gone_for_good() {
    let rules = Rules::default().and_read(std::path::Path::new("/proc/self"));
    let answers = lines(probe().args([
        apply(&rules),
        "field /proc/self/status CapEff:".into(),
        "field /proc/self/status CapPrm:".into(),
        "field /proc/self/status NoNewPrivs:".into(),
        // Neither the user that tests run as nor root.
        format!("raw {}:54321", libc::SYS_setuid),
        "field /proc/self/limits Max core file size".into(),
    ]));
    let protection: Protection = serde_json::from_str(&answers[0]).unwrap();
    assert!(protection.no_new_privileges && protection.core_dumps_off);
    assert_eq!(answers[1], "0000000000000000");
    assert_eq!(answers[2], "0000000000000000");
    assert_eq!(answers[3], "1");
    assert_eq!(answers[4], EPERM.to_string());
    assert_eq!(answers[5], "1 1 bytes");
}

#[test]
fn a_crash_leaves_no_dump() {
    for how in [apply(&filtered(Filter::WorkerCpu)), "harden".into()] {
        let place = tempfile::tempdir().unwrap();
        let mut child = probe().current_dir(place.path()).args([how, "abort".into()]).spawn().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT));
        assert!(!status.core_dumped());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

/// The memory of a hardened daemon is closed to programs of the same user. Root is asked nothing, so
/// what can be seen in every case is the owner of its entries, which is root then.
#[test]
fn a_hardened_process_is_not_dumpable() {
    let answers = lines(probe().args(["harden".to_owned(), format!("raw {}:3,0,0,0,0", libc::SYS_prctl)]));
    // `PR_GET_DUMPABLE` gives the state as its result: 0 when off, as the probe says of success too, so
    // the limit is looked at besides.
    assert_eq!(answers[1], "0");
    let mut child = probe().stdin(Io::Pipe).args(["harden", "block"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut word = [0_u8; 9];
    std::io::Read::read_exact(&mut out, &mut word).unwrap();
    assert_eq!(&word, b"hardened\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{}/mem", child.pid())).unwrap());
    assert_eq!(owner, 0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"]);
    child.wait().unwrap();
}

/// Threads that ran before are bound by the filter; that Landlock doesn't bind them is said.
#[test]
fn earlier_threads_are_bound_or_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let open = format!("in-early {}:-100,@{},0", libc::SYS_openat, file.display());
    let answers = lines(probe().args([
        "early".into(),
        apply(&filtered(Filter::WorkerCpu)),
        format!("in-early {}:2,1,0", libc::SYS_socket),
        open,
    ]));
    let protection: Protection = serde_json::from_str(&answers[1]).unwrap();
    assert_eq!(answers[2], EPERM.to_string());
    let refused = answers[3] == EACCES.to_string();
    let named = protection.missing.iter().any(|what| what.contains("the 1 that ran before"));
    assert!(refused != named, "{answers:?}");
    assert_eq!(refused, protection.landlock_abi >= 8);
}

#[test]
fn the_second_layer_only_narrows() {
    let place = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| {
        let path = place.path().join(name);
        std::fs::write(&path, name).unwrap();
        path
    });
    let first = Rules::default().and_read(&one).and_read(&two).with_filter(Filter::WorkerCpu);
    let second = Rules::default().and_read(&two).and_read(&three).with_filter(Filter::WorkerGpu);
    let read = |path: &std::path::Path| format!("read {}", path.display());
    let answers = lines(probe().args([
        apply(&first),
        read(&one),
        read(&two),
        read(&three),
        apply(&second),
        read(&one),
        read(&two),
        read(&three),
        format!("raw {}:@a,0", libc::SYS_memfd_create),
        format!("raw {}:2,1,0", libc::SYS_socket),
    ]));
    let no = format!("errno {EACCES}");
    assert_eq!(answers[1..4], ["one".to_owned(), "two".to_owned(), no.clone()]);
    assert_eq!(answers[5..8], [no.clone(), "two".to_owned(), no]);
    assert_eq!(answers[8..], [EPERM.to_string(), EPERM.to_string()]);
}

#[test]
fn a_sealed_process_opens_nothing_and_runs_no_new_code() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for filter in [Filter::WorkerCpu, Filter::WorkerGpu, Filter::Extract] {
        let open = Rules::default().and_read(place.path()).with_filter(filter);
        let sealed = Rules::default().with_filter(filter);
        let code = format!("raw {}:0,4096,5,34,-1,0", libc::SYS_mmap);
        let change = format!("raw {}:0,0,5", libc::SYS_mprotect);
        let read = format!("read {}", file.display());
        let answers = lines(probe().args([
            apply(&open),
            read.clone(),
            code.clone(),
            change.clone(),
            apply(&sealed),
            read,
            code,
            change,
            apply(&open),
        ]));
        // Only drivers bring code along after the first layer.
        let before = if filter == Filter::WorkerGpu { "0".to_owned() } else { EPERM.to_string() };
        assert_eq!(answers[1..4], ["text".to_owned(), before.clone(), before], "{}", filter.name());
        let protection: Protection = serde_json::from_str(&answers[4]).unwrap();
        assert!(protection.is_sealed() && protection.is_complete(), "{protection:?}");
        assert_eq!(answers[5..8], [format!("errno {EPERM}"), EPERM.to_string(), EPERM.to_string()]);
        assert!(answers[8].starts_with("error: confinement failed"), "{}", answers[8]);
    }
}

/// A document reader needs one call of `apply` only.
#[test]
fn rules_without_a_path_seal_at_once() {
    let answers =
        lines(probe().args([apply(&Rules::default().with_filter(Filter::Extract)), "read /proc/self/stat".into()]));
    let protection: Protection = serde_json::from_str(&answers[0]).unwrap();
    assert!(protection.is_sealed());
    assert_eq!(answers[1], format!("errno {EPERM}"));
    assert_eq!(protection.lines()[0], format!("Landlock ABI {}: opens no file", protection.landlock_abi));
}

/// What an older kernel can't do is said, and the rest is done all the same.
#[test]
fn what_the_kernel_lacks_is_named() {
    let sealing = apply(&Rules::default().with_filter(Filter::Extract));
    let hide = |number: i64| format!("hide {number}");
    let socket = format!("raw {}:2,1,0", libc::SYS_socket);
    let answers = lines(probe().args([
        hide(libc::SYS_landlock_create_ruleset),
        sealing.clone(),
        socket.clone(),
        "read /etc/passwd".into(),
    ]));
    let protection: Protection = serde_json::from_str(&answers[1]).expect(&answers[1]);
    assert_eq!(protection.landlock_abi, 0);
    assert_eq!(protection.missing, ["Landlock: this kernel has none; Linux 5.13 or newer is needed"]);
    assert!(protection.seccomp && protection.is_sealed() && !protection.is_complete());
    assert_eq!(answers[2..], [EPERM.to_string(), format!("errno {EPERM}")]);

    let answers = lines(probe().args([hide(libc::SYS_seccomp), sealing, socket, "read /etc/passwd".into()]));
    let protection: Protection = serde_json::from_str(&answers[1]).expect(&answers[1]);
    assert!(!protection.seccomp && !protection.is_sealed() && protection.landlock_abi > 0);
    assert_eq!(protection.filter, "none");
    assert_eq!(protection.missing, ["seccomp: this kernel has no system call filters"]);
    assert_eq!(protection.lines().last().unwrap(), "missing: seccomp: this kernel has no system call filters");
    assert_eq!(answers[2..], ["0".to_owned(), format!("errno {EACCES}")]);
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let missing = std::path::Path::new("/nowhere/to/be/found");
    assert!(matches!(freehold_jail::Command::new(missing).spawn(), Err(JailError::Spawn { .. })));
    let bare = std::path::Path::new("no-such-program-anywhere");
    assert!(matches!(freehold_jail::Command::new(bare).spawn(), Err(JailError::ProgramMissing(_))));
}
