//! What a child inherits, and its bounds.

use crate::{lines, probe, probe_path};
use freehold_jail::{Command, Io, JailError, Limits, find_program};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_inherited() {
    // A descriptor of ours that any other way of starting would hand on.
    let stray = File::open("/dev/null").unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&stray, 200).unwrap();
    for fd in [std::os::fd::AsFd::as_fd(&stray), std::os::fd::AsFd::as_fd(&high)] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let answers = lines(probe().args(["env", "fds"]));
    assert_eq!(answers, ["", "0 1 2"]);
    let (a, b) = (File::open("/dev/null").unwrap(), File::open("/dev/null").unwrap());
    let answers = lines(probe().env("ONE", "1").fd(a.into(), 3).fd(b.into(), 70).args(["env", "fds"]));
    assert_eq!(answers, ["ONE;", "0 1 2 3 70"]);
}

/// Numbers may cross: each descriptor arrives where it was meant to.
#[test]
#[cfg(target_os = "linux")]
fn descriptors_arrive_under_their_numbers() {
    let place = tempfile::tempdir().unwrap();
    let open = |text: &str| {
        let path = place.path().join(text);
        std::fs::write(&path, text).unwrap();
        File::open(path).unwrap()
    };
    let (one, two) = (open("one"), open("two"));
    let (at_one, at_two) = (std::os::fd::AsRawFd::as_raw_fd(&two), std::os::fd::AsRawFd::as_raw_fd(&one));
    let command = probe().fd(one.into(), at_one).fd(two.into(), at_two);
    let answers = lines(command.args([format!("read /proc/self/fd/{at_one}"), format!("read /proc/self/fd/{at_two}")]));
    assert_eq!(answers, ["one", "two"]);
}

#[test]
fn impossible_numbers_are_refused() {
    let null = || File::open("/dev/null").unwrap().into();
    assert!(matches!(probe().fd(null(), 2).spawn(), Err(JailError::DescriptorNumber(2))));
    assert!(matches!(probe().fd(null(), -1).spawn(), Err(JailError::DescriptorNumber(-1))));
    assert!(matches!(probe().fd(null(), 7).fd(null(), 7).spawn(), Err(JailError::DescriptorTwice(7))));
}

/// The failure of an exec is told through a pipe, whose number may be one that was asked for.
#[test]
fn a_failed_start_is_heard_whatever_the_numbers() {
    assert_eq!(lines(probe().arg("spawn-missing")), ["an error, 0 bytes"]);
}

#[test]
fn input_and_output_go_where_they_should() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("out");
    let status = Command::new(&probe_path())
        .args(["dir", "block"])
        .current_dir(place.path())
        .stdout(Io::File(File::create(&path).unwrap()))
        .spawn()
        .map(|mut child| child.wait().unwrap())
        .unwrap();
    assert!(status.success());
    let dir = std::fs::canonicalize(place.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n0 bytes\n", dir.display()));
    let mut child = probe().stdin(Io::Pipe).arg("block").spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"12345").unwrap();
    // `wait` closes the input, which the probe waits for.
    let mut out = child.stdout.take().unwrap();
    assert!(child.wait().unwrap().success());
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "5 bytes\n");
}

#[test]
fn programs_are_found_in_the_system_only() {
    assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
    assert_eq!(find_program("no-such-program-anywhere"), None);
    // A name with a folder isn't looked for, and the current folder is none of them.
    assert!(Command::new(Path::new("./sh")).spawn().is_err());
    let mut child = Command::new(Path::new("sh")).args(["-c", "exit 7"]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_bounded() {
    let limits = Limits { memory_bytes: Some(256 << 20), ..Limits::default() };
    assert_eq!(lines(probe().arg("grow 1073741824")), ["grown"]);
    assert_eq!(lines(probe().limits(limits).args(["grow 1073741824", "grow 10000000"])), ["refused", "grown"]);
}

#[test]
fn processor_time_is_bounded() {
    let limits = Limits { cpu_seconds: Some(1), ..Limits::default() };
    let mut child = probe().limits(limits).arg("spin").spawn().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGXCPU));
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    let limits = Limits { file_bytes_max: Some(64 << 10), files_max: Some(20), ..Limits::default() };
    let mut child = probe().limits(limits).arg(format!("fill {}", path.display())).spawn().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGXFSZ));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 64 << 10);
    assert_eq!(lines(probe().limits(limits).arg("open-many")), ["20"]);
}

/// A bound above our own is lowered to it; only root could raise it.
#[test]
#[cfg(target_os = "linux")]
fn bounds_never_rise() {
    let limits = Limits { files_max: Some(u64::MAX), ..Limits::default() };
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let answers = lines(probe().limits(limits).arg("field /proc/self/limits Max open files"));
    let ours = ours.map_or("unlimited".into(), |limit| limit.to_string());
    assert_eq!(answers, [format!("{ours} {ours} files")]);
}

#[test]
#[cfg(target_os = "linux")]
fn no_child_dumps_core() {
    assert_eq!(lines(probe().arg("field /proc/self/limits Max core file size")), ["1 1 bytes"]);
}

#[test]
fn a_detached_child_has_its_own_session() {
    let answers = lines(probe().detached().args(["pid", "sid"]));
    assert_eq!(answers[0], answers[1]);
    let answers = lines(probe().args(["pid", "sid"]));
    assert_ne!(answers[0], answers[1]);
}

/// Kernels that can't mark descriptors all at once, or wait for a process by a descriptor.
#[test]
#[cfg(target_os = "linux")]
fn older_kernels_do_as_well() {
    let new = lines(probe().arg("start-and-wait"));
    assert_eq!(new, ["Ok(true) Ok(true) true 0 bytes; 0 1 2"]);
    let hide = [libc::SYS_close_range, libc::SYS_pidfd_open].map(|number| format!("hide {number}"));
    let old = lines(probe().args(hide).arg("start-and-wait"));
    assert_eq!(old[2..], new);
}

/// A child that reads from our terminal must stay in the group that the terminal serves.
#[test]
fn children_lead_a_group_unless_they_share_our_input() {
    assert_eq!(lines(probe().arg("group")), ["true"]);
    assert_eq!(lines(probe().stdin(Io::Inherit).arg("group")), ["false"]);
}
