//! Hostile headers under a meter: what a parser asks the system for shows in the process's address space.

use freehold_store::gguf;
use std::io::Cursor;
use testkit::model::chat_gguf;
use testkit::script::Script;

/// The most that reading any hostile header may take beyond what was there before.
const GROWTH_KIB_MAX: u64 = 2 * 1024;

fn parse(bytes: &[u8]) {
    let _ = gguf::read(Cursor::new(bytes), bytes.len() as u64);
}

/// Puts absurd numbers over every place of a good header, one at a time.
fn parse_absurdities() {
    let good = chat_gguf("tiny", &Script::default()).to_bytes();
    let header = &good[..good.len().min(4096)];
    for number in [u64::MAX, u64::MAX / 2, 1 << 62, 1 << 40, 1 << 32, 1 << 24, 0xffff_ffff] {
        for place in 4..header.len() - 8 {
            let mut bytes = good.clone();
            bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
            parse(&bytes);
            // The parser believes a large file more: let it think that this is one.
            let _ = gguf::read(Cursor::new(&bytes), 1 << 40);
        }
    }
}

#[cfg(target_os = "linux")]
fn status_kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says it");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("it is among it");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// The measured half, alone in its process: `hostile_numbers_allocate_next_to_nothing` starts it.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by hostile_numbers_allocate_next_to_nothing"]
fn child_that_parses() {
    parse(&chat_gguf("tiny", &Script::default()).to_bytes());
    // Address space counts what was asked for, touched or not.
    let before = status_kib("VmSize:");
    parse_absurdities();
    let grew = status_kib("VmPeak:") - before;
    std::io::Write::write_all(&mut std::io::stdout(), format!("grew by {grew} KiB\n").as_bytes())
        .expect("the parent listens");
}

#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::disallowed_methods, reason = "starts this test program again, to measure it alone")]
fn hostile_numbers_allocate_next_to_nothing() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "headers::child_that_parses", "--ignored", "--nocapture", "--test-threads=1"])
        // One arena: none is reserved ahead, so each request shows.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let grew = text.split("grew by ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    let grew = grew.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    assert!(grew <= GROWTH_KIB_MAX, "reading hostile headers took {grew} KiB");
}
