//! The package client as a confined child, against an index of our own.

use crate::server::{Server, reply};
use crate::{pass, policy};
use base::Code;
use freehold_gateway::{Gateway, MirrorEnv, PACKAGE_INDEX, Policy, Wanted};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The program that confines; an example, so `cargo test` builds it beside this one.
fn set_trampoline() {
    let tests = std::env::current_exe().expect("a test program knows its place");
    let target = tests.parent().and_then(std::path::Path::parent).expect("it lies in target/PROFILE/deps");
    let path = target.join("examples").join("gateway_confine");
    assert!(path.is_file(), "{} isn't there: build it with `cargo test -p freehold-gateway`", path.display());
    jail::set_trampoline(path);
}

/// A wheel with nothing in it but its own description, which pip reads.
fn wheel() -> Vec<u8> {
    let about = "tiny_thing-1.0.dist-info";
    let files = [
        (format!("{about}/METADATA"), "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"),
        (format!("{about}/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        (format!("{about}/RECORD"), ""),
    ];
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in &files {
        let offset = zip.len() as u32;
        // Version, flags, method (stored), time, date; checksum, two sizes; name and extra lengths.
        let mut about = [20u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        about.extend([crc32(text.as_bytes()), text.len() as u32, text.len() as u32].map(u32::to_le_bytes).concat());
        about.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        zip.extend([b"PK\x03\x04", &about[..], name.as_bytes(), text.as_bytes()].concat());
        directory.extend([b"PK\x01\x02\x14\0", &about[..], &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, start) = (files.len() as u16, zip.len() as u32);
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend([count, count].map(u16::to_le_bytes).concat());
    zip.extend([directory.len() as u32, start].map(u32::to_le_bytes).concat());
    zip.extend([0, 0]);
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Serves a package index with one package.
fn index() -> Server {
    Server::start(|seen, stream| match seen.path.as_str() {
        "/simple/tiny-thing/" => {
            let page =
                "<!DOCTYPE html><a href=\"/files/tiny_thing-1.0-py3-none-any.whl\">tiny_thing-1.0-py3-none-any.whl</a>";
            reply(stream, "200 OK", "Content-Type: text/html\r\n", page.as_bytes());
        }
        "/files/tiny_thing-1.0-py3-none-any.whl" => {
            reply(stream, "200 OK", "Content-Type: application/zip\r\n", &wheel())
        }
        _ => reply(stream, "404 Not Found", "", b""),
    })
}

fn gateway(home: &std::path::Path, index: &str) -> Gateway {
    set_trampoline();
    // Nothing of this machine's own registry settings: this index and no other.
    let vars = [("PIP_INDEX_URL", format!("{index}/simple")), ("PIP_CONFIG_FILE", "/dev/null".into())];
    let mirror_env =
        MirrorEnv { vars: vars.map(|(name, value)| (name.to_owned(), value)).into(), config_file: None, python: None };
    Gateway::open(home, Policy { mirror_env, ..policy("https://hub.invalid") }).expect("the ledger opens")
}

#[test]
fn a_pinned_wheel_comes_through_the_confined_client_with_a_ledger_entry() {
    let home = tempfile::tempdir().unwrap();
    let index = index();
    let gateway = gateway(home.path(), &index.origin);
    let pass = pass(&gateway, PACKAGE_INDEX);
    let into = home.path().join("in");
    let cancel = AtomicBool::new(false);
    let wanted = Wanted { package: "tiny-thing", version: "1.0", into: &into, cancel: &cancel };
    let mut heard = 0;
    let path = gateway.mirror_download(&pass, &wanted, &mut |bytes| heard = bytes).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), wheel());
    assert!(path.starts_with(into.canonicalize().unwrap()));
    assert_eq!(heard, wheel().len() as u64);
    let entries = gateway.entries_since(0).unwrap();
    assert_eq!((entries[0].open.to.as_str(), entries[0].open.what.as_str()), (PACKAGE_INDEX, "tiny-thing==1.0"));
    assert!(entries[0].open.by.starts_with("pip "), "{}", entries[0].open.by);
    assert_eq!(entries[0].close.as_ref().unwrap().sent, None, "another program's bytes can't be counted");
    assert_eq!(gateway.totals().uncounted, 1);
}

#[test]
fn what_the_index_doesn_t_have_is_said_in_the_client_s_words() {
    let home = tempfile::tempdir().unwrap();
    let index = index();
    let gateway = gateway(home.path(), &index.origin);
    let pass = pass(&gateway, PACKAGE_INDEX);
    let cancel = AtomicBool::new(false);
    let into = home.path().join("in");
    let wanted = Wanted { package: "tiny-thing", version: "2.0", into: &into, cancel: &cancel };
    let fault = gateway.mirror_download(&pass, &wanted, &mut |_| {}).unwrap_err();
    assert_eq!(fault.code, Code::DownloadFailed);
    assert!(fault.message.contains("tiny-thing==2.0") && fault.message.contains("No matching"), "{fault}");
}

#[test]
fn a_cancelled_client_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let cancel = std::sync::Arc::new(AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&cancel);
    let (_release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let index = Server::start(move |_, _| {
        flag.store(true, Ordering::Relaxed);
        let _ = held.lock().unwrap().recv();
    });
    let gateway = gateway(home.path(), &index.origin);
    let pass = pass(&gateway, PACKAGE_INDEX);
    let into = home.path().join("in");
    let wanted = Wanted { package: "tiny-thing", version: "1.0", into: &into, cancel: &cancel };
    let fault = gateway.mirror_download(&pass, &wanted, &mut |_| {}).unwrap_err();
    assert_eq!(fault.code, Code::Cancelled, "{fault}");
    assert!(gateway.entries_since(0).unwrap()[0].close.as_ref().unwrap().outcome.contains("cancelled"));
}

#[test]
fn a_program_without_pip_is_passed_over_and_the_child_can_t_write_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    set_trampoline();
    // A stand-in for an interpreter: it tries to write outside its folder, then says what it is not.
    let outside = home.path().join("outside");
    let script = home.path().join("python3");
    std::fs::write(&script, format!("#!/bin/sh\necho hello > {}\nexit 1\n", outside.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let index = index();
    let vars = vec![("PIP_INDEX_URL".to_owned(), format!("{}/simple", index.origin))];
    let mirror_env = MirrorEnv { vars, config_file: Some(PathBuf::from("/dev/null")), python: Some(script) };
    let gateway = Gateway::open(home.path(), Policy { mirror_env, ..policy("https://hub.invalid") }).unwrap();
    let pass = pass(&gateway, PACKAGE_INDEX);
    let into = home.path().join("in");
    let cancel = AtomicBool::new(false);
    let wanted = Wanted { package: "tiny-thing", version: "1.0", into: &into, cancel: &cancel };
    let wheel = gateway.mirror_download(&pass, &wanted, &mut |_| {});
    assert!(wheel.is_ok(), "the system's own Python steps in: {wheel:?}");
    assert!(!outside.exists(), "confinement let a write through");
}

#[test]
fn names_that_could_be_options_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let gateway = gateway(home.path(), "http://127.0.0.1:1");
    let pass = pass(&gateway, PACKAGE_INDEX);
    let cancel = AtomicBool::new(false);
    let into = home.path().join("in");
    for (package, version) in [("--index-url=x", "1"), ("a b", "1"), ("a", "1;x"), ("", "1"), ("../a", "1")] {
        let wanted = Wanted { package, version, into: &into, cancel: &cancel };
        let fault = gateway.mirror_download(&pass, &wanted, &mut |_| {}).unwrap_err();
        assert_eq!(fault.code, Code::InvalidAsk, "{package}=={version}");
    }
    assert_eq!(gateway.totals().crossings, 0);
}
