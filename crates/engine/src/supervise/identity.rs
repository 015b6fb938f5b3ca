//! What a file of weights is, without reading all of it: a state that one model made is nonsense to another.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use wire::KvCache;

/// Read at the front, which holds a model's header, and at the end.
const LOOK_BYTES: usize = 256 << 10;

/// A model with the type of its cache, and with this build, whose worker wrote the state.
pub(super) fn of_model(parts: &[PathBuf], kv_cache: KvCache) -> String {
    let parts = parts.iter().map(|path| File::open(path).map_or_else(|_| "gone".into(), |file| of_file(&file)));
    let parts: Vec<String> = parts.collect();
    format!("{} {} protocol {} {}", parts.join(" "), kv_cache.as_str(), wire::VERSION, env!("CARGO_PKG_VERSION"))
}

/// Length, time of the last change, and sums of both ends. A file that was copied is another one, which costs its
/// states and nothing else.
pub(super) fn of_file(file: &File) -> String {
    let Ok(about) = file.metadata() else { return "gone".into() };
    let ends = [0, about.len().saturating_sub(LOOK_BYTES as u64)].map(|at| {
        let mut bytes = vec![0; LOOK_BYTES];
        let read = file.read_at(&mut bytes, at).unwrap_or(0);
        bytes[..read]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    });
    format!("{}:{}.{}:{:016x}{:016x}", about.len(), about.mtime(), about.mtime_nsec(), ends[0], ends[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_another_time_or_another_cache_is_another_model() {
        let home = testkit::TempHome::new();
        let path = home.join("m.gguf");
        std::fs::write(&path, vec![7; LOOK_BYTES * 3]).expect("written");
        let of = || of_model(std::slice::from_ref(&path), KvCache::F16);
        let first = of();
        assert_eq!(first, of());
        assert_ne!(first, of_model(std::slice::from_ref(&path), KvCache::Q8_0));
        let time = std::fs::metadata(&path).and_then(|about| about.modified()).expect("a time");
        let mut changed = vec![7; LOOK_BYTES * 3];
        *changed.last_mut().expect("not empty") = 8;
        std::fs::write(&path, changed).expect("written");
        let file = File::options().write(true).open(&path).expect("there");
        file.set_modified(time).expect("set");
        assert_ne!(first, of(), "the same length and time");
        assert_ne!(of_model(&[home.join("no")], KvCache::F16), first);
    }
}
