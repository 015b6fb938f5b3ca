//! Waiting for children and ending them.

use crate::probe;
use freehold_jail::{Io, KillOnDrop};
use rustix::process::{Pid, test_kill_process};
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// LIMIT: nothing here takes longer unless it is broken.
const SOON: Duration = Duration::from_secs(20);

fn system_pid(pid: u32) -> Pid {
    pid.try_into().ok().and_then(Pid::from_raw).expect("children have numbers")
}

/// Blocks until every holder of the other end is gone.
fn wait_for_end(mut reader: PipeReader) {
    assert_eq!(reader.read_to_end(&mut Vec::new()).expect("a pipe ends"), 0);
}

#[test]
fn waiting_with_a_bound_harms_nobody() {
    let mut child = probe().stdin(Io::Pipe).arg("block").spawn().unwrap();
    let started = Instant::now();
    assert_eq!(child.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    let status = child.wait_timeout(SOON).unwrap().expect("it ends when its input does");
    assert!(status.success());
    // The answer stays the same, however often it is asked for.
    assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), Some(status));
    assert_eq!(child.wait().unwrap(), status);
    assert!(started.elapsed() < SOON);
}

#[test]
fn exit_codes_arrive() {
    let mut child = probe().arg("exit 37").spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(37));
    // Too late, and no error.
    child.kill().unwrap();
    child.terminate().unwrap();
}

#[test]
fn children_can_be_ended() {
    let mut child = probe().stdin(Io::Pipe).arg("block").spawn().unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    let mut child = probe().stdin(Io::Pipe).arg("block").spawn().unwrap();
    child.terminate().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

/// What the child started ends with it.
#[test]
fn the_whole_group_is_killed() {
    let (reader, writer) = pipe().unwrap();
    let mut child = probe().stdin(Io::Pipe).fd(writer.into(), 3).args(["fork-block", "block"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let grandchild: u32 = line.trim().parse().unwrap();
    test_kill_process(system_pid(grandchild)).expect("it lives");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_end(reader);
}

#[test]
fn an_owner_takes_its_child_along() {
    let (reader, writer) = pipe().unwrap();
    let child = KillOnDrop(probe().stdin(Io::Pipe).fd(writer.into(), 3).arg("block").spawn().unwrap());
    let pid = child.pid();
    drop(child);
    wait_for_end(reader);
    assert_eq!(test_kill_process(system_pid(pid)), Err(rustix::io::Errno::SRCH));
}

/// A child that nobody waits for runs on, and leaves no record behind when it ends.
#[test]
fn a_forgotten_child_leaves_nothing_behind() {
    let mut child = probe().stdin(Io::Pipe).arg("block").spawn().unwrap();
    let (pid, input) = (child.pid(), child.stdin.take());
    drop(child);
    test_kill_process(system_pid(pid)).expect("it runs on");
    drop(input);
    let started = Instant::now();
    while test_kill_process(system_pid(pid)).is_ok() {
        assert!(started.elapsed() < SOON, "its record is still there");
        std::thread::yield_now();
    }
}

/// Tied to this process, not to the thread that happened to start it; confined or not.
#[test]
#[cfg(target_os = "linux")]
fn a_child_dies_with_its_parent_and_not_with_a_thread() {
    for how in ["lasting", "lasting-confined"] {
        let (reader, writer) = pipe().unwrap();
        let mut parent = probe().stdin(Io::Pipe).fd(writer.into(), 3).args([how, "block"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "lives\n", "{how}");
        rustix::process::kill_process(system_pid(parent.pid()), rustix::process::Signal::KILL).unwrap();
        parent.wait().unwrap();
        wait_for_end(reader);
    }
}

/// Programs that are started this way are as free of inherited things as the others.
#[test]
#[cfg(target_os = "linux")]
fn children_that_die_with_us_inherit_nothing_either() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(crate::lines(probe().die_with_parent().fd(file.into(), 9).args(["env", "fds"])), ["", "0 1 2 9"]);
}
