//! The folder of states: names, modes, heads, and what becomes of torn files.

use super::Head;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The first bytes of a head; the digit is the layout's version, of head and state together.
const MAGIC: [u8; 8] = *b"FHPROMP1";
/// LIMIT: a head holds 8 bytes for each 64 tokens, in decimal.
const HEAD_BYTES_MAX: u64 = 8 << 20;
const STATE: &str = "state";
const HEAD: &str = "head";
/// A head on its way.
const PART: &str = "part";
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, number: u64, kind: &str) -> PathBuf {
        self.0.join(format!("{number:016x}.{kind}"))
    }

    pub(super) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.0).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// For a worker to write a state of so many bytes to. Their room on the disk is taken at once, as far as the file system
    /// can: a worker that fills in the file where it lies in memory would be ended when there is none.
    pub(super) fn write(&self, number: u64, bytes: u64) -> io::Result<File> {
        let path = self.file(number, STATE);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        match take_room(&file, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(file),
            Err(error) => Err(error.into()),
        }
    }

    /// For a worker to read a state from.
    pub(super) fn read(&self, number: u64) -> io::Result<File> {
        let file = File::open(self.file(number, STATE))?;
        // The next start takes the newest for the most used. Without it the order is another one, and no more.
        let _ = File::open(self.file(number, HEAD)).and_then(|head| head.set_modified(SystemTime::now()));
        Ok(file)
    }

    /// Brings a state to the disk; its length.
    pub(super) fn sync(&self, number: u64) -> io::Result<u64> {
        let file = File::open(self.file(number, STATE))?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    pub(super) fn put_head(&self, number: u64, head: &Head) -> io::Result<()> {
        let text = serde_json::to_vec(head)?;
        let part = self.file(number, PART);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&part)?;
        file.write_all(&MAGIC)?;
        file.write_all(&sum(&text).to_le_bytes())?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(part, self.file(number, HEAD))?;
        File::open(&self.0)?.sync_all()
    }

    /// Deletes a state. Its head goes first: what is left without one is torn.
    pub(super) fn remove(&self, number: u64) {
        for kind in [HEAD, PART, STATE] {
            let path = self.file(number, kind);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %path.display(), %error, "a state of a prompt can't be deleted");
            }
        }
    }

    /// Deletes everything of ours, readable or not.
    pub(super) fn empty(&self) -> io::Result<()> {
        self.numbers()?.into_keys().for_each(|number| self.remove(number));
        Ok(())
    }

    /// All heads that can be read, by their numbers.
    pub(super) fn heads(&self) -> io::Result<BTreeMap<u64, Head>> {
        let numbers = self.numbers()?.into_iter();
        Ok(numbers.filter_map(|(number, _)| Some((number, self.head(number).ok()?))).collect())
    }

    /// The heads of whole states, the one that was not used for longest first. Everything else of ours is deleted.
    pub(super) fn sweep(&self) -> io::Result<Vec<(u64, Head)>> {
        let mut whole = Vec::new();
        for (number, used) in self.numbers()? {
            let length = std::fs::metadata(self.file(number, STATE)).map(|state| state.len());
            match self.head(number) {
                Ok(head) if length.is_ok_and(|length| length == head.bytes) => whole.push((used, number, head)),
                _ => self.remove(number),
            }
        }
        whole.sort_by_key(|(used, number, _)| (*used, *number));
        Ok(whole.into_iter().map(|(_, number, head)| (number, head)).collect())
    }

    /// The numbers of all files of ours, each with the time of its head.
    fn numbers(&self) -> io::Result<BTreeMap<u64, SystemTime>> {
        let mut numbers = BTreeMap::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            let Some(number) = name.and_then(|name| u64::from_str_radix(name, 16).ok()) else { continue };
            if [HEAD, PART, STATE].contains(&kind) {
                let used = numbers.entry(number).or_insert(SystemTime::UNIX_EPOCH);
                if kind == HEAD {
                    *used = entry.metadata()?.modified()?;
                }
            }
        }
        Ok(numbers)
    }

    fn head(&self, number: u64) -> io::Result<Head> {
        let bad = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_owned());
        let mut bytes = Vec::new();
        File::open(self.file(number, HEAD))?.take(HEAD_BYTES_MAX).read_to_end(&mut bytes)?;
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| bad("another layout"))?;
        let (expected, text) = rest.split_first_chunk::<8>().ok_or_else(|| bad("too short"))?;
        if sum(text) != u64::from_le_bytes(*expected) {
            return Err(bad("damaged"));
        }
        serde_json::from_slice(text).map_err(io::Error::from)
    }
}

/// The file is as short as before.
#[cfg(target_os = "linux")]
fn take_room(file: &File, bytes: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes)
}

#[cfg(not(target_os = "linux"))]
fn take_room(_: &File, _: u64) -> Result<(), Errno> {
    Ok(())
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
