//! The one file that says which segments make an index, and which state of the record they hold.

use super::segment::{Card, owned};
use super::{Gate, Version};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::Path;

pub(crate) const FILE: &str = "manifest";
const MAGIC: &[u8; 8] = b"FHVEC\0\0\x02";
const HASH_BYTES: usize = 32;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: Version,
    pub(crate) dimensions: u64,
    pub(crate) segments: Vec<Card>,
    pub(crate) dead: Vec<u8>,
    pub(crate) next: u64,
    pub(crate) gate: Option<Gate>,
}

impl Manifest {
    /// `None` when there is none, or it isn't whole.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(dir.join(FILE)).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (hash, body) = rest.split_at_checked(HASH_BYTES)?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    /// Takes the place of the old one in one step.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let fresh = dir.join("manifest.new");
        let mut file = owned(&fresh)?;
        file.write_all(MAGIC)?;
        file.write_all(blake3::hash(&body).as_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        std::fs::rename(&fresh, dir.join(FILE))?;
        #[cfg(unix)]
        std::fs::File::open(dir)?.sync_all()?;
        Ok(())
    }
}
