//! Each thing that a worker must not be able to do, tried from inside one that has loaded a model.

use crate::harness::{Worker, begin, load, model};
use wire::{Attempt, Directive, Load, Report};

fn probe(worker: &mut Worker, attempt: Attempt) -> i32 {
    worker.send(&Directive::Probe { job: 5, attempt });
    worker.find(|report| match report {
        Report::Probed { job: 5, errno } => Some(*errno),
        _ => None,
    })
}

#[test]
fn a_ready_worker_reports_full_protection() {
    let (_worker, ready) = Worker::with(&load(), &model());
    let protection = ready.protection;
    assert!(protection.landlock_abi > 0, "{protection:?}");
    assert!(protection.seccomp && protection.no_new_privileges && protection.core_dumps_off, "{protection:?}");
    assert_eq!(protection.missing, Vec::<String>::new());
    assert!(!protection.filter.is_empty());
}

#[test]
fn every_attempt_to_get_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let new_file = folder.path().join("new").to_string_lossy().into_owned();
    let existing = model().to_string_lossy().into_owned();
    let mut worker = Worker::ready();
    let refused = [libc::EPERM, libc::EACCES];
    for attempt in [
        Attempt::OpenSocketInet,
        Attempt::OpenSocketUnix,
        Attempt::ReadFile("/etc/passwd".into()),
        Attempt::ReadFile("/proc/self/environ".into()),
        Attempt::ReadFile("/proc/self/fd/0".into()),
        Attempt::ReadFile(existing),
        Attempt::WriteFile(new_file.clone()),
        Attempt::WriteFile("/tmp/freehold-must-not-appear".into()),
        Attempt::WriteFile("/dev/shm/freehold-must-not-appear".into()),
        Attempt::SpawnProcess,
        Attempt::Fork,
        Attempt::TraceParent,
        Attempt::KillParent,
    ] {
        let errno = probe(&mut worker, attempt.clone());
        assert!(refused.contains(&errno), "{attempt:?} gave {errno}");
    }
    assert!(!std::path::Path::new(&new_file).exists());
    // The attempts harmed nothing.
    worker.generate(begin(1, "Hello", 3)).unwrap();
}

#[test]
fn the_same_attempts_are_seen_to_succeed_before_the_confinement() {
    // Else a probe that always says "refused" would pass the test above. The unit test of `ffi` holds
    // the rest; here it is enough that this process itself may do what the worker may not.
    assert!(std::fs::read("/etc/passwd").is_ok());
    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(a);
}

#[test]
fn a_worker_that_is_not_required_to_is_confined_all_the_same() {
    let (mut worker, ready) = Worker::with(&Load { confine: false, ..load() }, &model());
    assert!(ready.protection.seccomp, "{:?}", ready.protection);
    assert_ne!(probe(&mut worker, Attempt::ReadFile("/etc/passwd".into())), 0);
}

#[test]
fn nothing_of_the_daemons_environment_or_descriptors_reaches_it() {
    let (worker, _) = Worker::with(&load(), &model());
    let pid = worker.child.pid();
    // Not dumpable: its files in /proc belong to root, so that only root can look.
    let environ = std::fs::read(format!("/proc/{pid}/environ"));
    if let Ok(bytes) = environ {
        assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    }
    if let Ok(list) = std::fs::read_dir(format!("/proc/{pid}/fd")) {
        let targets: Vec<String> = list
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        let sockets = targets.iter().filter(|target| target.starts_with("socket:")).count();
        // The link's two halves and the two handles to wait at, all one socket.
        assert_eq!(sockets, 4, "{targets:?}");
        // The machine's idle time and the worker's own size, read again and again; they say nothing of another program.
        let own = format!("/proc/{pid}/statm");
        let known = ["/dev/null", "/proc/stat", &own];
        let others = targets.iter().filter(|t| !t.starts_with("socket:") && !known.contains(&t.as_str())).count();
        assert_eq!(others, 0, "{targets:?}");
    }
}
