//! Files as they lie in the system's cache, without a copy in this process's memory.
//!
//! The system takes such pages back when it needs them and reads them again when they are looked at, so they count for
//! nobody's budget.

#[cfg(target_os = "linux")]
use rustix::mm::Advice;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The bytes of a file, to be read. Whoever has the file must not shorten it meanwhile.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value alone, and no thread is bound to it.
unsafe impl Send for Mapping {}
// SAFETY: it is only read through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `bytes` of a file, which must have so many.
    pub(crate) fn of(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::with(file, bytes, ProtFlags::READ)
    }

    fn with(file: impl AsFd, bytes: usize, rights: ProtFlags) -> io::Result<Self> {
        // SAFETY: the system chooses the place, where nothing else lies.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, rights, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { start, bytes })
    }

    /// Reads a part from the disk where it isn't in memory. What can't be read is an error here, where the system knows such a
    /// call (Linux from 5.14 on); to look at it would end the process.
    #[cfg(target_os = "linux")]
    pub(crate) fn load(&self, part: Range<usize>) -> io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        self.advise(part, Advice::LinuxPopulateRead).or_else(|error| match error {
            rustix::io::Errno::INVAL => Ok(()),
            error => Err(error.into()),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn load(&self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    /// What was looked at need not stay with this process; it is still in the system's cache.
    pub(crate) fn let_go(&self) {
        // Otherwise the system takes it when it needs it.
        #[cfg(target_os = "linux")]
        let _ = self.advise(0..self.bytes, Advice::LinuxDontNeed);
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, part: Range<usize>, advice: Advice) -> rustix::io::Result<()> {
        let from = part.start.min(self.bytes);
        // The system wants whole pages.
        let from = from - from % usize::try_from(super::page_bytes()).unwrap_or(usize::MAX).max(1);
        let bytes = part.end.min(self.bytes).saturating_sub(from);
        // SAFETY: within the mapping, which is shared with its file: whatever pages go come again from there.
        unsafe { rustix::mm::madvise(self.start.as_ptr().add(from).cast::<std::ffi::c_void>(), bytes, advice) }
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for as long as this value lives, and readable.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The bytes of a file, to be written.
#[derive(Debug)]
pub(crate) struct Sheet(Mapping);

impl Sheet {
    /// The first `bytes` of a file, which must have so many, with room for them on the disk.
    pub(crate) fn of(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        Mapping::with(file, bytes, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }
}

impl Deref for Sheet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Sheet {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped to be written for as long as this value lives, and only this value can reach it.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_file_is_read_and_written_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let mut sheet = Sheet::of(&file, 10_000).unwrap();
        sheet[9000] = 1;
        drop(sheet);
        let mapping = Mapping::of(&file, 10_000).unwrap();
        mapping.load(8999..20_000).unwrap();
        mapping.let_go();
        assert_eq!((mapping[8999], mapping[9000], mapping.len()), (7, 1, 10_000));
        let other = Mapping::of(&file, 10_000).unwrap();
        drop(mapping);
        assert_eq!(other[9000], 1);
        let mut bytes = Vec::new();
        std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len(), bytes[9000]), (10_000, 1));
    }

    #[test]
    fn what_can_not_be_had_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [1; 100]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert!(Sheet::of(&file, 100).is_err(), "it may only be read");
        assert!(Mapping::of(&file, 0).is_err());
    }
}
