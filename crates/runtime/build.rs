//! Stamps the program with a number that changes whenever any of its sources does.
//!
//! A command compares it with the running daemon's, so that after a rebuild it is said that
//! the old daemon still runs. Modification times would change with every checkout; contents don't.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn main() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = BTreeMap::new();
    for name in ["api", "base", "cli", "engine", "gateway", "jail", "map", "runtime", "store", "wire"] {
        let dir = crates.join(name).join("src");
        println!("cargo:rerun-if-changed={}", dir.display());
        collect(&dir, &mut files);
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (path, bytes) in &files {
        for byte in path.bytes().chain(bytes.iter().copied()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    println!("cargo:rustc-env=FREEHOLD_BUILD={hash:016x}");
}

fn collect(dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(bytes) = fs::read(&path) {
            files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned() + &path.to_string_lossy().replace('\\', "/").rsplit("crates/").next().unwrap_or_default().to_string(), bytes);
        }
    }
}
