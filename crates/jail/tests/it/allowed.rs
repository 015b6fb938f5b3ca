//! What a confined process must still be able to do.

use crate::{apply, filtered, lines, probe};
use freehold_jail::{Filter, Io, Protection, Rules};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

const WORKERS: [Filter; 2] = [Filter::WorkerCpu, Filter::WorkerGpu];

#[test]
fn a_worker_reads_maps_and_runs_threads() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("model");
    std::fs::write(&file, [1_u8; 9000]).unwrap();
    for filter in WORKERS {
        let rules = Rules::default().and_read(place.path()).with_filter(filter);
        let answers = lines(probe().args([
            apply(&rules),
            format!("mapped {}", file.display()),
            format!("list {}", place.path().display()),
            "thread".into(),
            apply(&Rules::default().with_filter(filter)),
            "thread".into(),
            "grow 100000000".into(),
        ]));
        assert_eq!(answers[1..4], ["9000", "1", "42"], "{}", filter.name());
        assert_eq!(answers[5..], ["42", "grown"], "{}", filter.name());
    }
}

/// The link between daemon and worker: frames with descriptors, both ways, also once sealed.
#[test]
fn descriptors_travel_over_an_inherited_socket() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model");
    std::fs::write(&path, "the model").unwrap();
    for filter in WORKERS {
        let sealed = Rules::default().with_filter(filter);
        // The rules name the file for the first layer: by its path it can be opened again then.
        for (rules, by_path) in [(filtered(filter).and_read(&path), "9"), (sealed, "errno 1")] {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            let command = probe().args([apply(&rules), "frame".into()]).fd(theirs, 3);
            let mut child = command.spawn().unwrap();
            send(&ours, &File::open(&path).unwrap());
            let mut back = receive(&ours);
            let mut text = String::new();
            back.rewind().unwrap();
            back.read_to_string(&mut text).unwrap();
            assert_eq!(text, "the model");
            let answers = crate::read_lines(&mut child);
            assert_eq!(answers[1], format!("5 bytes in, 9 of text, by path {by_path}"));
            assert!(child.wait().unwrap().success());
        }
    }
}

/// A file without a name, as states of sequences are handed over.
#[test]
fn memory_files_are_read() {
    let memory = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(memory);
    file.write_all(b"a state").unwrap();
    file.rewind().unwrap();
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let rules = Rules::default().with_filter(Filter::WorkerCpu);
    let mut child = probe().args([apply(&rules), "frame".into()]).fd(theirs, 3).spawn().unwrap();
    send(&ours, &file);
    receive(&ours);
    assert_eq!(crate::read_lines(&mut child)[1], "5 bytes in, 7 of text, by path errno 1");
    assert!(child.wait().unwrap().success());
}

/// Rules may name a file by a descriptor, and one that lies in no folder is no error.
#[test]
fn rules_take_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model");
    std::fs::write(&path, "text").unwrap();
    let memory = rustix::fs::memfd_create("state", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let rules = Rules::default().and_read("/proc/self/fd/5".as_ref()).and_read("/proc/self/fd/6".as_ref());
    let command = probe().fd(File::open(&path).unwrap().into(), 5).fd(memory, 6);
    let answers =
        lines(command.args([apply(&rules.with_filter(Filter::WorkerCpu)), format!("read {}", path.display())]));
    assert_eq!(answers[1], "text");
}

#[test]
fn paths_that_do_not_exist_are_skipped() {
    let rules = filtered(Filter::WorkerCpu).and_read("/nowhere/at/all".as_ref()).and_write("/nowhere/else".as_ref());
    let answers = lines(probe().args([apply(&rules), "read /nowhere/at/all".into()]));
    assert!(serde_json::from_str::<Protection>(&answers[0]).unwrap().is_complete(), "{}", answers[0]);
    assert_eq!(answers[1], format!("errno {}", libc::ENOENT));
}

#[test]
fn a_document_reader_reads_its_input() {
    let mut child = probe()
        .stdin(Io::Pipe)
        .args([apply(&Rules::default().with_filter(Filter::Extract)), "block".into(), "grow 50000000".into()])
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[7; 100_000]).unwrap();
    assert_eq!(crate::read_lines(&mut child)[1..], ["100000 bytes", "grown"]);
    assert!(child.wait().unwrap().success());
}

/// What `apply` reports is what the kernel reports.
#[test]
fn protection_tells_the_truth() {
    let answers = lines(probe().args([
        apply(&filtered(Filter::WorkerCpu)),
        "field /proc/self/status Seccomp:".into(),
        "field /proc/self/status Seccomp_filters:".into(),
        "field /proc/self/status NoNewPrivs:".into(),
        "field /proc/self/status CapEff:".into(),
    ]));
    let protection: Protection = serde_json::from_str(&answers[0]).unwrap();
    assert_eq!(answers[1..], ["2", "1", "1", "0000000000000000"]);
    assert!(protection.is_complete(), "{:?}", protection.missing);
    assert!(
        protection.filter.starts_with("worker-cpu, ") && protection.filter.ends_with(" calls"),
        "{}",
        protection.filter
    );
    let expected = [
        format!("Landlock ABI {}: opens only the files of its rules", protection.landlock_abi),
        format!("seccomp: allow-list {}", protection.filter),
        "no new privileges, no capabilities".into(),
        "core dumps off".into(),
    ];
    assert_eq!(protection.lines(), expected);
}

fn send(socket: &OwnedFd, file: &File) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(b"hello")], &mut ancillary, SendFlags::NOSIGNAL).expect("the probe listens");
}

fn receive(socket: &OwnedFd) -> File {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0_u8; 64];
    recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .expect("the probe answers");
    let fd = ancillary.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    File::from(fd.expect("a descriptor came back"))
}
