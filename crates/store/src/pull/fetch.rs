//! One file over https, however often the line breaks.
//!
//! Bytes go into `partial/`, where they survive this process. They are hashed as they come and again
//! when a later run goes on from them; nothing leaves `partial/` before its hash and size are right.

use super::{Job, cancelled};
use crate::disk;
use base::{Code, Fault};
use gateway::{Download, Pass, Request};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries in a row that bring nothing new; any byte starts the count again.
const TRIES_WITHOUT_PROGRESS_MAX: u32 = 4;
const TRIES_MAX: u32 = 1_000;
/// The wait before the second, third … try.
const WAIT_MS: [u64; 3] = [500, 1_000, 2_000];
const RETRY_AFTER_S_MAX: u64 = 30;
const READ_BYTES: usize = 256 << 10;
/// No single model file is larger.
const FILE_BYTES_MAX: u64 = 4 << 40;

/// A file somewhere else.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the person is told.
    pub what: String,
    pub url: String,
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
}

/// A whole, verified file that still lies in `partial/`.
#[derive(Debug)]
pub(super) struct Came {
    pub path: PathBuf,
    pub sha256: String,
}

/// What has come so far.
struct Part {
    path: PathBuf,
    mark_path: PathBuf,
    file: File,
    bytes: u64,
    hash: Sha256,
    /// Bytes of an earlier run are among it.
    inherited: bool,
    /// Something came in this run.
    grown: bool,
}

/// How one request ended.
enum Turn {
    Whole,
    /// The line broke or the server was busy; wait at least so long.
    Again {
        why: String,
        wait: Duration,
    },
}

impl Job<'_> {
    /// Brings `wanted` into `partial/`. The plan has been told by the caller.
    pub(super) fn fetch(&mut self, pass: &Pass, wanted: &Wanted) -> Result<Came, Fault> {
        let mut part = self.open_part(wanted)?;
        if let Some(bytes) = wanted.bytes {
            self.store.layout.check_space(&wanted.what, bytes.saturating_sub(part.bytes))?;
        }
        if part.bytes > 0 {
            self.notice(format!("going on after {} of {}", base::Bytes(part.bytes), wanted.what));
        }
        let mut idle = 0;
        for _ in 0..TRIES_MAX {
            self.check_cancel()?;
            let before = part.bytes;
            match self.request(pass, wanted, &mut part)? {
                Turn::Whole => match self.finish(wanted, part)? {
                    Ok(came) => return Ok(came),
                    // Bytes of an earlier run may be of another version: once more, from the start.
                    Err(fresh) => part = fresh,
                },
                Turn::Again { why, wait } => {
                    idle = if part.bytes > before { 0 } else { idle + 1 };
                    if idle >= TRIES_WITHOUT_PROGRESS_MAX {
                        return Err(Fault::new(
                            Code::DownloadFailed,
                            format!("{} stopped after {} bytes: {why}", wanted.what, part.bytes),
                        )
                        .hint("run the same command again to go on: what has come stays"));
                    }
                    self.notice(format!("{why}; trying again"));
                    let pause = WAIT_MS[(idle as usize).min(WAIT_MS.len() - 1)];
                    self.wait(wait.max(Duration::from_millis(pause)))?;
                }
            }
        }
        Err(Fault::new(Code::DownloadFailed, format!("{} broke off {TRIES_MAX} times", wanted.what)))
    }

    /// What an earlier run left, hashed; a file that is too long is no beginning of this one.
    fn open_part(&mut self, wanted: &Wanted) -> Result<Part, Fault> {
        let key = match &wanted.sha256 {
            Some(sha256) => disk::checked_hash(sha256)?.to_owned(),
            None => format!("url-{}", hex(&Sha256::digest(wanted.url.as_bytes()))),
        };
        let folder = self.store.layout.partial();
        let (path, mark_path) = (folder.join(format!("{key}.part")), folder.join(format!("{key}.mark")));
        let fault = |error: std::io::Error| Fault::io("open", &path, &error);
        let mut file = disk::private_file(&path, false).map_err(fault)?;
        let mut bytes = file.metadata().map_err(fault)?.len();
        // Without a hash only the server's own mark can vouch for a beginning.
        let unvouched = wanted.sha256.is_none() && !mark_path.exists();
        if unvouched || wanted.bytes.is_some_and(|whole| bytes > whole) {
            file = disk::private_file(&path, true).map_err(fault)?;
            bytes = 0;
        }
        let mut part = Part { path, mark_path, file, bytes, hash: Sha256::new(), inherited: bytes > 0, grown: false };
        if bytes > 0 {
            part.hash = self.hash_first(&part.path, bytes, &mut |_, _| {})?;
        }
        Ok(part)
    }

    /// The hash of a file that lies here, with its progress told: a large one takes minutes.
    pub(super) fn hash_of(&mut self, what: &str, path: &Path, bytes: u64) -> Result<String, Fault> {
        let what = format!("checking {what}");
        let hash = self.hash_first(path, bytes, &mut |job, done| job.progress(&what, done, Some(bytes)))?;
        Ok(hex(&hash.finalize()))
    }

    fn hash_first(&mut self, path: &Path, bytes: u64, on: &mut dyn FnMut(&mut Self, u64)) -> Result<Sha256, Fault> {
        let fault = |error: std::io::Error| Fault::io("read", path, &error);
        let mut source = File::open(path).map_err(fault)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut done = 0;
        while done < bytes {
            self.check_cancel()?;
            let limit = buffer.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
            let read = source.read(&mut buffer[..limit]).map_err(fault)?;
            if read == 0 {
                return Err(Fault::new(Code::FileUnreadable, format!("`{}` shrank", path.display())));
            }
            hash.update(&buffer[..read]);
            done += read as u64;
            on(self, done);
        }
        Ok(hash)
    }

    fn request(&mut self, pass: &Pass, wanted: &Wanted, part: &mut Part) -> Result<Turn, Fault> {
        if wanted.bytes == Some(part.bytes) {
            return Ok(Turn::Whole);
        }
        // With a hash the content itself is checked at the end, and a mark could only force a new start.
        let mark = wanted.sha256.is_none().then(|| std::fs::read_to_string(&part.mark_path).ok()).flatten();
        let request =
            Request { url: &wanted.url, range_from: part.bytes, if_range: mark.as_deref(), cancel: self.cancel };
        let mut download = match self.gateway.get(pass, &request) {
            Ok(download) => download,
            Err(fault) if fault.code == Code::DownloadFailed => {
                // A source that was never reached is given up at once: there may be another.
                if !part.grown {
                    return Err(fault);
                }
                return Ok(Turn::Again { why: fault.to_string(), wait: Duration::ZERO });
            }
            Err(fault) => return Err(fault),
        };
        match download.status() {
            200 => part.restart()?,
            206 if download.content_range().is_some_and(|(first, _)| first == part.bytes) => {}
            // Not the range that was asked for, or none that the server has: begin again.
            206 | 416 if part.bytes > 0 => {
                part.restart()?;
                return Ok(Turn::Again { why: "the server answered with another range".into(), wait: Duration::ZERO });
            }
            408 | 429 | 500..=599 => {
                let wait = download.header("retry-after").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                let why = format!("the server answered {}", download.status());
                return Ok(Turn::Again { why, wait: Duration::from_secs(wait.min(RETRY_AFTER_S_MAX)) });
            }
            status => return Err(refused(status, wanted)),
        }
        self.expect_size(wanted, part, &download)?;
        if wanted.sha256.is_none() {
            note_mark(part, &download);
        }
        self.receive(wanted, part, &mut download)
    }

    /// A file of another size isn't the one that was promised: said before it is fetched.
    fn expect_size(&self, wanted: &Wanted, part: &Part, download: &Download) -> Result<(), Fault> {
        let Some(coming) = download.content_length() else { return Ok(()) };
        let whole = part.bytes.saturating_add(coming);
        match wanted.bytes {
            Some(promised) if promised != whole => Err(Fault::new(
                Code::ChecksumMismatch,
                format!("{} should be {promised} bytes, the server has {whole}", wanted.what),
            )),
            None if whole > FILE_BYTES_MAX => {
                Err(Fault::new(Code::DownloadFailed, format!("{} would be {whole} bytes", wanted.what)))
            }
            None => self.store.layout.check_space(&wanted.what, coming),
            Some(_) => Ok(()),
        }
    }

    fn receive(&mut self, wanted: &Wanted, part: &mut Part, download: &mut Download) -> Result<Turn, Fault> {
        let total = wanted.bytes.or_else(|| download.content_length().map(|coming| part.bytes + coming));
        let limit = total.unwrap_or(FILE_BYTES_MAX);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.progress(&wanted.what, part.bytes, total);
            let read = match download.read(&mut buffer) {
                Ok(0) if total.is_none_or(|total| total == part.bytes) => return Ok(Turn::Whole),
                Ok(0) => {
                    let why = format!("the line broke after {} bytes", part.bytes);
                    return Ok(Turn::Again { why, wait: Duration::ZERO });
                }
                Ok(read) => read,
                Err(_) if self.check_cancel().is_err() => return Err(cancelled()),
                Err(error) => {
                    let why = format!("the line broke after {} bytes ({error})", part.bytes);
                    return Ok(Turn::Again { why, wait: Duration::ZERO });
                }
            };
            self.check_cancel()?;
            if part.bytes + read as u64 > limit {
                return Err(Fault::new(
                    Code::ChecksumMismatch,
                    format!("{} should be {limit} bytes, the server sent more", wanted.what),
                ));
            }
            part.file.write_all(&buffer[..read]).map_err(|error| {
                let needed = total.map_or(read as u64, |total| total.saturating_sub(part.bytes));
                self.store.layout.write_fault(&wanted.what, &part.path, needed, &error)
            })?;
            part.hash.update(&buffer[..read]);
            part.bytes += read as u64;
            part.grown = true;
        }
    }

    /// Checks the whole. The inner error is an emptied part: the next try begins from the start.
    fn finish(&mut self, wanted: &Wanted, mut part: Part) -> Result<Result<Came, Part>, Fault> {
        let sha256 = hex(&part.hash.clone().finalize());
        let _ = std::fs::remove_file(&part.mark_path);
        match &wanted.sha256 {
            Some(promised) if *promised != sha256 => {
                if part.inherited {
                    self.notice(format!(
                        "the earlier beginning of {} was of another file; fetching it whole",
                        wanted.what
                    ));
                    part.restart()?;
                    return Ok(Err(part));
                }
                let _ = std::fs::remove_file(&part.path);
                Err(Fault::new(
                    Code::ChecksumMismatch,
                    format!("{} isn't what was promised: its SHA-256 is {sha256}, not {promised}", wanted.what),
                )
                .hint("nothing of it was kept; try again, or another source"))
            }
            _ => Ok(Ok(Came { path: part.path, sha256 })),
        }
    }
}

impl Part {
    fn restart(&mut self) -> Result<(), Fault> {
        if self.bytes > 0 {
            self.file = disk::private_file(&self.path, true).map_err(|error| Fault::io("write", &self.path, &error))?;
        }
        (self.bytes, self.hash, self.inherited) = (0, Sha256::new(), false);
        Ok(())
    }
}

/// Keeps the server's mark beside the part, so that a later run can ask for the same version.
fn note_mark(part: &Part, download: &Download) {
    let kept = match download.etag() {
        Some(mark) => disk::replace(&part.mark_path, mark.as_bytes()),
        None => std::fs::remove_file(&part.mark_path),
    };
    if let Err(error) = kept {
        tracing::debug!(%error, "no mark for this part");
    }
}

fn refused(status: u16, wanted: &Wanted) -> Fault {
    let what = &wanted.what;
    match status {
        401 | 403 => Fault::new(
            Code::DownloadFailed,
            format!("the server keeps {what} for people who agreed to its terms there ({status})"),
        )
        .hint(format!(
            "agree to them in a browser, download it there, then `freehold models add FILE`: {}",
            page(wanted)
        ))
        .hint("or agree there, set HF_TOKEN to a token of your account, and run `freehold stop`, then this again"),
        404 | 410 => Fault::new(Code::ModelMissing, format!("the server has no {what} ({status})"))
            .hint("check the spelling on the hub's page"),
        _ => Fault::new(Code::DownloadFailed, format!("the server answered {status} for {what}")),
    }
}

/// The address without the part that leads to one file.
fn page(wanted: &Wanted) -> &str {
    wanted.url.split("/resolve/").next().unwrap_or(&wanted.url)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
