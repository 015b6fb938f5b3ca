//! Pages of a model's files that were read once and aren't needed any more.
//!
//! llama.cpp maps a model's files and copies most weights out of them: rearranged for this processor, or onto a device. The
//! pages that it has copied from stay with this process until memory is short. So they are given back while the model is
//! loaded and once it is there; those that are used from the file itself come again when they are, out of the system's cache.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// LIMIT: bytes of the list of mappings; a worker has about a hundred, of a hundred bytes each.
const LIST_BYTES_MAX: usize = 1 << 20;

/// The files of a model.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Read again through its descriptor, as it can't be opened under the confinement.
    mappings: Option<File>,
    /// The numbers of the files in their file systems.
    files: Vec<u64>,
    bytes: u64,
}

impl Pages {
    /// To be called before the confinement.
    pub(crate) fn of(parts: &[OwnedFd]) -> Self {
        let about: Vec<_> = parts.iter().filter_map(|part| rustix::fs::fstat(part).ok()).collect();
        let bytes = about.iter().map(|about| u64::try_from(about.st_size).unwrap_or(0)).sum();
        let files = about.iter().map(|about| about.st_ino).collect();
        Self { mappings: File::open("/proc/self/maps").ok(), files, bytes }
    }

    /// Of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what is in memory of them. Where the system doesn't list mappings nothing happens: it takes the pages back
    /// by itself when it needs them.
    pub(crate) fn let_go(&self) {
        let text = self.mappings.as_ref().map(list).unwrap_or_default();
        for (start, length) in text.lines().filter_map(|line| mapping(line, &self.files)) {
            // SAFETY: a shared mapping that is only read, as the system has just said of it, and llama.cpp unmaps only in
            // the thread that is here. Every page of it is the file's: nothing is lost, and nothing depends on its being there.
            unsafe { let_go_of(start, length) }
        }
    }
}

/// # Safety
/// What lies there must be a shared mapping of a file: of another kind of memory the contents would be lost.
#[cfg(target_os = "linux")]
unsafe fn let_go_of(start: usize, length: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED);
    }
}

/// # Safety
/// None is needed: without a list of mappings it is never called.
#[cfg(not(target_os = "linux"))]
unsafe fn let_go_of(_: usize, _: usize) {}

fn list(file: &File) -> String {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    while let Ok(count @ 1..) = file.read_at(&mut chunk, bytes.len() as u64) {
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() >= LIST_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where a shared mapping of one of these files lies, and its length (proc_pid_maps(5)). It is one that is only read, as llama.cpp
/// makes it: what may be written may hold what the file doesn't, or not yet. A line that is cut off is none.
fn mapping(line: &str, files: &[u64]) -> Option<(usize, usize)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [range, rights, _, _, file, _, ..] = words[..] else { return None };
    let is_ours = file.parse().is_ok_and(|number| files.contains(&number));
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (is_ours && rights == "r--s" && start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// A file as llama.cpp maps it.
    struct Map(*mut libc::c_void, usize);

    impl Map {
        fn of(file: &OwnedFd, length: usize) -> Self {
            let (place, how) = (std::ptr::null_mut(), libc::MAP_SHARED);
            // SAFETY: a mapping at a place of the system's choice, for reading.
            let start = unsafe { libc::mmap(place, length, libc::PROT_READ, how, file.as_raw_fd(), 0) };
            assert_ne!(start, libc::MAP_FAILED);
            Self(start, length)
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: so many bytes are mapped as long as `self` is, and the file isn't changed meanwhile.
            unsafe { std::slice::from_raw_parts(self.0.cast(), self.1) }
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: it was mapped so, and nobody refers to it any more.
            unsafe {
                libc::munmap(self.0, self.1);
            }
        }
    }

    #[test]
    fn only_shared_mappings_of_the_files_are_meant() {
        let files = [14_155_777, 9];
        let line =
            |rights, file| format!("7f2543344000-7f2543346000 {rights} 00344000 fe:00 {file}    /models/a b.gguf");
        assert_eq!(mapping(&line("r--s", "14155777"), &files), Some((0x7f25_4334_4000, 0x2000)));
        for other in
            [line("r--p", "14155777"), line("rw-s", "14155777"), line("r--s", "7"), line("r--s", "0"), String::new()]
        {
            assert_eq!(mapping(&other, &files), None, "{other}");
        }
        assert_eq!(
            mapping("7f2543344000-7f25433 r--s 00344000 fe:00 9 /x", &files),
            None,
            "nothing ends before it begins"
        );
        assert_eq!(mapping("7f2543344000-7f2543346000 r--s 00344000 fe:00 9", &files), None, "no name");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_read_is_given_back_and_comes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::write(&path, vec![7; 4 << 20]).unwrap();
        let file: OwnedFd = File::open(&path).unwrap().into();
        let map = Map::of(&file, 4 << 20);
        assert!(map.bytes().iter().all(|byte| *byte == 7));
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let of_ours = text.split_once(path.to_str().unwrap()).expect("it is mapped").1;
            let line = of_ours.lines().find_map(|line| line.strip_prefix("Rss:")).expect("its size");
            line.trim().split_once(' ').unwrap().0.parse::<u64>().unwrap()
        };
        assert_eq!(resident(), 4 << 10);
        let pages = Pages::of(&[file]);
        pages.let_go();
        assert_eq!((resident(), pages.bytes()), (0, 4 << 20));
        assert!(map.bytes().iter().all(|byte| *byte == 7));
    }
}
