//! Reading a large text part by part: each part is read by the confined child, bounded and recorded by itself.
//!
//! The row of the file goes first, marked as unfinished, then those of its parts as they come, then the file's own again.
//! What a killed run has committed is known by its place and its bytes, and isn't read again.

use crate::about::{About, Day, about, title};
use crate::document::Format;
use crate::extract::{self, FILE_BYTES_MAX};
use crate::index::{Outcome, passages};
use crate::part::{FilePart, LARGE_BYTES_MAX, Piece, Pieces, Seam, Sizes, seam};
use crate::reader::{Session, Unread};
use crate::record::{Change, FileRow, Hash, Known, KnownPart, PassageRow, READING};
use crate::source::Encoding;
use crate::walk::{self, Found};
use base::{Bytes, Code, Fault, Place};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};

/// LIMIT: parts that can't be read, of one file, that are told one by one.
const NOTES_MAX: usize = 20;
const HEAD_BYTES: usize = 1024;

/// A large file, opened, and how it is cut.
#[derive(Debug)]
pub(crate) struct Large {
    file: File,
    seam: Seam,
    format: Format,
}

impl Large {
    /// `None` for a file that is small enough to be read whole.
    ///
    /// # Errors
    /// Why a large file can't be read in parts.
    pub(crate) fn open(found: &Found) -> Result<Option<Self>, Fault> {
        let Found { path, stamp } = found;
        if stamp.bytes <= FILE_BYTES_MAX as u64 {
            return Ok(None);
        }
        let unreadable = |error: std::io::Error| Fault::io("read", path, &error);
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let kind = extract::kind(&path.to_string_lossy(), &head);
        let (bytes, whole, parts) = (Bytes(stamp.bytes), Bytes(FILE_BYTES_MAX as u64), Bytes(LARGE_BYTES_MAX));
        let too_large = |limit: &str| {
            Fault::new(Code::DocumentInvalid, format!("it is {bytes}; {limit}"))
                .hint("split it, for example with `split -C 60m FILE PART-`, and index the parts")
        };
        if stamp.bytes > LARGE_BYTES_MAX {
            return Err(too_large(&format!("files up to {parts} are indexed")));
        }
        let (Some(seam), Some(format)) = (seam(kind, &head), kind.format()) else {
            return Err(too_large(&format!(
                "files of its kind are indexed up to {whole}, text and logs up to {parts}"
            )));
        };
        Ok(Some(Self { file, seam, format }))
    }
}

/// Reads a large file. `send` hands over what is to be committed, and says whether to go on.
pub(crate) fn read(
    large: Large,
    found: &Found,
    known: Option<&Known>,
    today: Day,
    session: &mut Session<'_>,
    send: &mut dyn FnMut(Outcome) -> bool,
) -> Outcome {
    let Large { file, seam, format } = large;
    let name = found.path.to_string_lossy().into_owned();
    // What is written to the file while it is read is left to the next run.
    let mut pieces = Pieces::new(file.take(found.stamp.bytes), seam, Sizes::default());
    let mut reading = Reading {
        found,
        format,
        today,
        old: known.into_iter().flat_map(|known| &known.parts).map(|part| (part.part, part)).collect(),
        title: None,
        about: About::default(),
        whole: blake3::Hasher::new(),
        notes: Vec::new(),
        untold: 0,
        unfinished: false,
    };
    let stopped =
        || Outcome::Stopped(Fault::new(Code::Cancelled, "indexing was stopped in the middle of a large file"));
    let mut first = true;
    loop {
        let suits = |rest: &[u8]| extract::kind(&name, rest).format() == Some(format);
        let piece = match pieces.next(&suits) {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                reading.unfinished = true;
                reading.note(format!("it can't be read to its end: {error}"));
                break;
            }
        };
        let change = match reading.piece(&name, &piece, first, session) {
            Ok(change) => change,
            Err(end) => return *end,
        };
        let began = std::mem::take(&mut first).then(|| reading.row(None, true));
        for change in began.into_iter().chain(change) {
            if !send(Outcome::Part(change)) {
                return stopped();
            }
        }
    }
    for gone in std::mem::take(&mut reading.old).into_values() {
        if !reading.unfinished && !send(Outcome::Part(Change::Remove { id: gone.id })) {
            return stopped();
        }
    }
    let change = reading.row(None, reading.unfinished);
    if reading.untold > 0 {
        reading.notes.push(format!("{} more parts of it can't be read", reading.untold));
    }
    Outcome::Changes { change, fresh: known.is_none(), notes: reading.notes }
}

struct Reading<'a> {
    found: &'a Found,
    format: Format,
    today: Day,
    /// Parts of an earlier reading that haven't been met again.
    old: HashMap<FilePart, &'a KnownPart>,
    /// Of the first part, for all.
    title: Option<String>,
    about: About,
    whole: blake3::Hasher,
    notes: Vec<String>,
    untold: usize,
    unfinished: bool,
}

impl Reading<'_> {
    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.untold += 1;
        }
    }

    /// Who wrote a text and when stands at its beginning; a mailbox says it in every message.
    fn about(&mut self, own: About, first: bool) -> About {
        if first {
            self.about = own.clone();
        }
        match self.format {
            Format::Mail => own,
            _ => About { language: own.language, ..self.about.clone() },
        }
    }

    /// The file's own row, without passages.
    fn row(&self, fault: Option<Fault>, unfinished: bool) -> Change {
        let file = FileRow {
            path: self.found.path.clone(),
            part: None,
            unfinished,
            stamp: self.found.stamp,
            hash: *self.whole.finalize().as_bytes(),
            format: self.format,
            title: self.title.clone(),
            encoding: Encoding::Utf8,
            fault,
            about: Box::default(),
        };
        Change::Put(file, Vec::new())
    }

    /// What a part changes in the record; an error ends the reading.
    fn piece(
        &mut self,
        name: &str,
        piece: &Piece,
        first: bool,
        session: &mut Session<'_>,
    ) -> Result<Option<Change>, Box<Outcome>> {
        let Piece { part, bytes } = piece;
        let hash: Hash = *blake3::hash(bytes).as_bytes();
        self.whole.update(&hash);
        let stamp = walk::Stamp { bytes: bytes.len() as u64, modified_ns: self.found.stamp.modified_ns };
        // The first part is always read: the title of all is in it.
        if let Some(known) = self.old.remove(part)
            && known.hash == hash
            && known.reading == READING
            && !first
        {
            return Ok(Some(Change::Touch { id: known.id, stamp }));
        }
        if first && walk::is_private_key(bytes) {
            let fault =
                Fault::new(Code::DocumentInvalid, "it is a private key").hint("keys and secrets are never indexed");
            return Err(Box::new(Outcome::Skipped(fault)));
        }
        let mut row = FileRow {
            path: self.found.path.clone(),
            part: Some(*part),
            unfinished: false,
            stamp,
            hash,
            format: self.format,
            title: self.title.clone(),
            encoding: Encoding::Utf8,
            fault: None,
            about: Box::default(),
        };
        match session.read(name, bytes) {
            Ok(mut document) => {
                if first {
                    self.title = document.title.as_deref().and_then(title);
                }
                document.title.clone_from(&self.title);
                let (encoding, mut rows) = passages(&document, bytes);
                rows.iter_mut().for_each(|row| shift(row, *part));
                let notes = document.told();
                notes.into_iter().for_each(|note| self.note(note));
                *row.about = self.about(about(&document, self.today), first);
                (row.encoding, row.title) = (encoding, document.title);
                Ok(Some(Change::Put(row, rows)))
            }
            Err(Unread::Skipped(fault)) if first => {
                Err(Box::new(Outcome::Refused { change: self.row(Some(fault.clone()), false), fault }))
            }
            Err(Unread::Skipped(fault)) => {
                let end = part.start + bytes.len() as u64;
                self.note(format!("its bytes {} to {end} can't be read: {}", part.start, fault.message));
                row.fault = Some(fault);
                Ok(Some(Change::Put(row, Vec::new())))
            }
            Err(Unread::Lost(fault)) if first => Err(Box::new(Outcome::Skipped(fault))),
            Err(Unread::Lost(fault)) => {
                self.unfinished = true;
                self.note(format!("its part from byte {} on wasn't read: {}", part.start, fault.message));
                Ok(None)
            }
            Err(Unread::Stopped(fault)) => Err(Box::new(Outcome::Stopped(fault))),
        }
    }
}

/// From places within a part to places within its file.
fn shift(row: &mut PassageRow, part: FilePart) {
    if let Place::Lines { first, last, byte_start, byte_end } = &mut row.place {
        (*first, *last) = (first.saturating_add(part.lines), last.saturating_add(part.lines));
        (*byte_start, *byte_end) = (*byte_start + part.start, *byte_end + part.start);
    }
}
