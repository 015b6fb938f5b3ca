use super::*;
use crate::{Directive, KvCache, Load, Report};
use proptest::prelude::*;
use std::io::{Read, Seek, Write};

fn load() -> Load {
    Load {
        backends: vec!["a".into()],
        embed: false,
        context_tokens: 2048,
        context_max: 8192,
        sequences_max: 4,
        batch_tokens: 512,
        threads: 2,
        prompt_threads: 4,
        quota_milli: 1500,
        offload: crate::Offload::default(),
        kv_cache: KvCache::F16,
        adapters: Vec::new(),
        park_bytes: 1 << 20,
        confine: true,
        shown: Vec::new(),
        drafts: true,
        draft_model: Some(crate::WireDraftModel { name: "b".into(), context_tokens: 4096, batch_tokens: 256 }),
    }
}

#[test]
fn a_large_frame_leaves_no_large_buffer() {
    let (a, b) = pair().expect("pair");
    let (mut tx, _keep) = a.split().expect("split");
    let (_keep2, mut rx) = b.split().expect("split");
    let large = Directive::Count { job: 1, prompt: vec!["x".repeat(8 << 20)], add_bos: false };
    let reader = std::thread::spawn(move || {
        let bytes = rx.recv::<Directive>().map(|(frame, _)| format!("{frame:?}").len());
        (bytes.expect("it comes"), rx.buffer.capacity())
    });
    tx.send(&large).expect("send");
    let (bytes, kept) = reader.join().expect("it ends");
    assert!(bytes > 8 << 20 && kept <= BUFFER_BYTES_KEPT && tx.buffer.capacity() <= BUFFER_BYTES_KEPT);
    tx.send(&Directive::Ping { nonce: 1 }).expect("a small one goes after it");
}

#[test]
fn descriptors_arrive_with_their_frame() {
    let (a, b) = pair().expect("pair");
    let (mut tx, _keep) = a.split().expect("split");
    let (_keep2, mut rx) = b.split().expect("split");
    let mut file = tempfile();
    file.write_all(b"weights").expect("write");
    tx.send(&Directive::Ping { nonce: 1 }).expect("send");
    tx.send_with_fds(&Directive::Load(load()), &[file.as_fd()]).expect("send");
    tx.send(&Directive::Shutdown).expect("send");
    assert!(rx.recv::<Directive>().expect("ping").1.is_empty());
    let (frame, fds) = rx.recv::<Directive>().expect("load");
    assert_eq!(frame, Directive::Load(load()));
    let [fd] = <[OwnedFd; 1]>::try_from(fds).expect("one descriptor");
    let mut received = std::fs::File::from(fd);
    received.rewind().expect("rewind");
    let mut text = String::new();
    received.read_to_string(&mut text).expect("read");
    assert_eq!(text, "weights");
    assert_eq!(rx.recv::<Directive>().expect("shutdown").0, Directive::Shutdown);
}

fn tempfile() -> std::fs::File {
    let fd = rustix::fs::memfd_create("wire-test", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    fd.into()
}

#[test]
fn a_closed_link_is_an_error_not_a_signal() {
    let (a, b) = pair().expect("pair");
    let (mut tx, mut rx) = a.split().expect("split");
    drop(b);
    assert!(matches!(rx.recv::<Report>(), Err(WireError::Closed)));
    assert!(matches!(tx.send(&Directive::Shutdown), Err(WireError::Closed)));
}

#[test]
fn a_hostile_length_is_refused_before_it_is_allocated() {
    let (a, b) = pair().expect("pair");
    let (_tx, mut rx) = b.split().expect("split");
    let mut raw = UnixStream::from(a.into_fd());
    raw.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).expect("write");
    assert!(matches!(rx.recv::<Report>(), Err(WireError::TooLarge(_))));
}

proptest! {
    #[test]
    fn reports_round_trip(text in ".{0,200}", job in any::<u64>(), values in prop::collection::vec(-1e3_f32..1e3, 0..100)) {
        let (a, b) = pair().expect("pair");
        let (mut tx, _a) = a.split().expect("split");
        let (_b, mut rx) = b.split().expect("split");
        for report in [
            Report::Text { job, text: text.clone() },
            Report::Vectors { job, dimensions: 1, values: values.clone(), tokens: vec![1], left_out: vec![0] },
        ] {
            tx.send(&report).expect("send");
            prop_assert_eq!(&rx.recv::<Report>().expect("recv").0, &report);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (a, b) = pair().expect("pair");
        let (_tx, mut rx) = b.split().expect("split");
        let mut raw = UnixStream::from(a.into_fd());
        raw.write_all(&bytes).expect("write");
        drop(raw);
        while rx.recv::<Report>().is_ok() {}
    }
}
