//! Stamps the program with a number that changes whenever any of its sources does.
//!
//! A command compares it with the running daemon's, so that after a rebuild it is said that
//! the old daemon still runs. Modification times would change with every checkout; contents don't.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn main() {
    // Cargo runs this in the package's folder; the path at compile time may be another checkout's.
    let crates = Path::new("..");
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
            let full = path.to_string_lossy().replace('\\', "/");
            // Where the checkout lies must not change the stamp.
            let name = full.rsplit_once("crates/").map_or(full.as_str(), |(_, inside)| inside).to_owned();
            files.insert(name, bytes);
        }
    }
}
