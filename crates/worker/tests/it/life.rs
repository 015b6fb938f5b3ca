//! Loading, ending, and everything that a broken daemon or file can do to a worker.

use crate::harness::{Worker, begin, chat, load, long_prompt, model, raw_worker};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use wire::{Directive, Load, Report, WireFault};

#[test]
fn ready_says_what_is_loaded() {
    let (worker, ready) = Worker::with(&load(), &model());
    assert_eq!((ready.context_tokens, ready.sequences_max, ready.threads), (2048, 4, 1));
    assert!(ready.embedding_dimensions > 0 && ready.load_us > 0, "{ready:?}");
    assert!(ready.room.resident_bytes > 10 << 20, "{ready:?}");
    assert!(ready.devices.contains(&"CPU".to_owned()), "{ready:?}");
    assert!(!ready.features.is_empty(), "{ready:?}");
    drop(worker);
}

#[test]
fn a_context_of_zero_is_the_models_own() {
    let (_, ready) = Worker::with(&Load { context_tokens: 0, ..load() }, &model());
    assert!(ready.context_tokens >= 2048, "{ready:?}");
}

#[test]
fn a_context_beyond_all_memory_is_said_to_be() {
    let mut worker = Worker::start();
    let file = File::open(model()).unwrap().into();
    let fault = worker.load(&Load { context_tokens: 200_000_000, ..load() }, &[file]);
    assert!(matches!(fault, Err(WireFault::MemoryShort(_))), "{fault:?}");
}

#[test]
fn ping_is_answered_by_the_thread_that_computes() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 50));
    worker.send(&Directive::Ping { nonce: 42 });
    worker.find(|report| matches!(report, Report::Pong { nonce: 42 }).then_some(()));
    worker.finish(1).unwrap();
}

#[test]
fn shutdown_ends_cleanly_in_the_middle_of_work() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, &long_prompt(1650), 100));
    worker.send(&Directive::Shutdown);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_worker_dies_with_its_daemon() {
    assert_eq!(Worker::start().hang_up(), Some(0));
    assert_eq!(Worker::ready().hang_up(), Some(0));
    let mut busy = Worker::ready();
    busy.begin(begin(1, "Once upon a time", 2000));
    busy.find(|report| matches!(report, Report::Text { .. }).then_some(()));
    assert_eq!(busy.hang_up(), Some(0));
}

#[test]
fn a_killed_worker_closes_its_link() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, "Once upon a time", 2000));
    worker.find(|report| matches!(report, Report::Text { .. }).then_some(()));
    worker.child.kill().unwrap();
    assert_eq!(worker.end(), None);
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let file = || File::open(model()).unwrap().into();
    let cases: [(&str, Load, usize); 7] = [
        ("no descriptor", load(), 0),
        ("no backend", Load { backends: Vec::new(), ..load() }, 1),
        ("no thread", Load { threads: 0, ..load() }, 1),
        ("far too many threads", Load { threads: 100_000, ..load() }, 1),
        ("far too large batches", Load { batch_tokens: u32::MAX, ..load() }, 1),
        ("no sequence", Load { sequences_max: 0, ..load() }, 1),
        ("a batch smaller than its sequences", Load { batch_tokens: 2, ..load() }, 1),
    ];
    for (name, load, count) in cases {
        let mut worker = Worker::start();
        let parts: Vec<_> = (0..count).map(|_| file()).collect();
        let fault = worker.load(&load, &parts);
        assert!(matches!(fault, Err(WireFault::Protocol(_))), "{name}: {fault:?}");
        assert_eq!(worker.end(), Some(1), "{name}");
    }
    let mut early = Worker::start();
    early.send(&Directive::Ping { nonce: 1 });
    assert!(matches!(early.receive(), Some(Report::Failed { job: None, fault: WireFault::Protocol(_) })));
    let mut twice = Worker::ready();
    twice.send(&Directive::Load(load()));
    assert!(matches!(twice.receive(), Some(Report::Failed { job: None, fault: WireFault::Protocol(_) })));
    assert_eq!(twice.end(), Some(1));
}

#[test]
fn only_backends_beside_the_worker_are_loaded() {
    for backend in ["/usr/lib/libc.so", "../libggml-cpu.so", "libggml-cpu-nonexistent.so"] {
        let mut worker = Worker::start();
        let file = File::open(model()).unwrap().into();
        let fault = worker.load(&Load { backends: vec![backend.into()], ..load() }, &[file]);
        assert!(matches!(fault, Err(WireFault::BackendFailed(_))), "{backend}: {fault:?}");
    }
}

/// Flips, cuts and lies, each in a copy of the model's beginning.
#[test]
fn a_broken_model_is_a_fault_or_a_dead_worker_and_never_more() {
    let whole = std::fs::metadata(model()).unwrap().len();
    let head = 1 << 20;
    let mut start = Vec::new();
    File::open(model()).unwrap().take(head).read_to_end(&mut start).unwrap();
    let flipped = |at: usize, to: u8| {
        let mut bytes = start.clone();
        bytes[at] = to;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, u64)> = vec![
        ("empty", Vec::new(), 0),
        ("text", b"This is a letter to my aunt.".to_vec(), 28),
        ("only the magic", start[..4].to_vec(), 4),
        ("cut in the header", start[..3000].to_vec(), 3000),
        ("cut in the weights", start.clone(), head),
        ("wrong magic", flipped(0, b'X'), whole),
        ("wrong version", flipped(4, 0xEE), whole),
        ("absurd count of tensors", flipped(15, 0x7F), whole),
        ("absurd count of keys", flipped(23, 0x7F), whole),
        ("absurd length of a key", flipped(31, 0x7F), whole),
        ("zeros after the header", start[..200_000].to_vec(), whole),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, length) in cases {
        let path = folder.path().join("model.gguf");
        write_file(&path, &bytes, length);
        let mut worker = Worker::start();
        worker.send_load(&load(), &path);
        let ended = loop {
            match worker.receive() {
                Some(Report::Loading { .. }) => {}
                other => break other,
            }
        };
        match ended {
            Some(Report::Failed { job: None, fault: WireFault::LoadFailed(reason) }) => {
                assert!(!reason.is_empty(), "{name}");
                assert_eq!(worker.end(), Some(1), "{name}");
            }
            // An assertion in llama.cpp ended it: the daemon sees a closed link.
            None => assert_eq!(worker.end(), None, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn write_file(path: &Path, bytes: &[u8], length: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn random_damage_to_the_header_never_hangs_a_worker() {
    let whole = std::fs::metadata(model()).unwrap().len();
    let mut start = vec![0; 64 << 10];
    File::open(model()).unwrap().read_exact(&mut start).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut state = 1_u32;
    for round in 0..12 {
        let mut bytes = start.clone();
        for _ in 0..8 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % bytes.len();
            bytes[at] = u8::try_from(state >> 24).unwrap();
        }
        std::fs::copy(model(), &path).unwrap();
        let mut file = File::options().write(true).open(&path).unwrap();
        file.write_all(&bytes).unwrap();
        assert_eq!(file.metadata().unwrap().len(), whole);
        let mut worker = Worker::start();
        worker.send_load(&load(), &path);
        // Ready, a fault or a closed link: all end the waiting.
        loop {
            match worker.receive() {
                Some(Report::Loading { .. }) => {}
                Some(Report::Ready(_) | Report::Failed { job: None, .. }) | None => break,
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
}

#[test]
fn garbage_on_the_link_ends_the_worker_with_a_word() {
    let good_header = |length: u32| [&length.to_le_bytes()[..], &[0; 4]].concat();
    let cases: [(&str, Vec<u8>); 5] = [
        ("noise", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a header that isn't ours", vec![1, 0, 0, 0, 0, 9, 9, 9, 0]),
        ("a length beyond all bounds", good_header(u32::MAX)),
        ("a frame that isn't a directive", [good_header(3), vec![0xFF, 0xFF, 0xFF]].concat()),
        ("more descriptors than came", [vec![1, 0, 0, 0, 5, 0, 0, 0], vec![6]].concat()),
    ];
    for (name, bytes) in cases {
        let (mut child, link) = raw_worker();
        let mut stream = UnixStream::from(link);
        stream.write_all(&bytes).unwrap();
        let mut said = Vec::new();
        // The Hello, then the fault; the end of the stream shows that the worker has gone.
        let _ = stream.read_to_end(&mut said);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{name}");
        assert!(said.len() > 30, "{name}: only {} bytes came back", said.len());
    }
}

#[test]
fn half_a_frame_and_then_nothing_ends_the_worker() {
    let (mut child, link) = raw_worker();
    let mut stream = UnixStream::from(link);
    stream.write_all(&[200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn garbage_after_a_good_start_is_reported_too() {
    let mut worker = Worker::ready();
    worker.begin(begin(1, &chat("Tell me a story."), 2000));
    worker.find(|report| matches!(report, Report::Text { .. }).then_some(()));
    worker.send_raw(b"\xff\xff\xff\xff\xff\xff\xff\xff");
    worker.find(|report| matches!(report, Report::Failed { job: None, fault: WireFault::Protocol(_) }).then_some(()));
    assert_eq!(worker.end(), Some(1));
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let worker = crate::harness::native().join("freehold-worker");
    for args in [&[][..], &["serve"][..], &["--help"][..], &["selftest"][..], &["serve", "x"][..]] {
        let mut child = jail::Command::new(&worker).args(args.iter().copied()).stderr(jail::Io::Pipe).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{args:?}");
        assert!(said.contains("daemon"), "{args:?}: {said}");
    }
}
