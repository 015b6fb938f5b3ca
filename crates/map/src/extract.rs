//! The reader child, `freehold __extract`: it gives up its rights, then parses documents that it is handed.
//!
//! It never opens a file: names and bytes come in over stdin, documents go out over stdout. It may
//! crash, hang or be taken over by a document; `reader` (the parent) expects that. Start at [`run`].

mod build;
mod calendar;
mod code;
mod container;
mod csv;
mod docx;
mod epub;
mod html;
mod json;
mod kind;
mod layout;
mod mail;
mod markdown;
mod odf;
mod package;
mod pdf;
pub(crate) mod picture;
mod pptx;
mod said;
mod scan;
mod spell;
mod text;
mod xlsx;
mod xml;

pub(crate) use build::Builder;
pub(crate) use html::unescape;
pub(crate) use kind::{Kind, PICTURE, is_picture, kind, unreadable};
pub(crate) use mail::{is_mbox, unquote};
pub(crate) use scan::{Scan, Scanned};
pub(crate) use spell::spelled;

use crate::document::{Document, Format};
use crate::source::{Encoding, decode};
use jail::{Filter, Protection, Rules};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The largest file that is handed over, in bytes.
pub const FILE_BYTES_MAX: usize = 64 << 20;
/// The largest frame that comes back: text, blocks and runs of the largest document.
pub(crate) const REPLY_BYTES_MAX: usize = 512 << 20;
const NAME_BYTES_MAX: usize = 4096;

/// What the child says: `Ready` once, then one reply for each document.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready(Protection),
    /// It could not be confined, so it reads nothing.
    Unconfined(String),
    Document(Box<Document>),
    Refused(Refused),
    /// Its words have to be recognised, at least in part; this process can't.
    Scanned(Box<Scanned>),
}

/// Why a document can't be indexed; a sentence part that follows the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    Broken,
    Empty,
    /// Pages without a word.
    NoText,
    NotText,
    TooLarge,
}

impl Refused {
    fn broken(message: impl Into<String>) -> Self {
        Self { why: Why::Broken, message: message.into() }
    }

    fn no_text(message: impl Into<String>) -> Self {
        Self { why: Why::NoText, message: message.into() }
    }

    pub(crate) fn too_large() -> Self {
        let limit = base::Bytes(build::TEXT_BYTES_MAX as u64);
        Self {
            why: Why::TooLarge,
            message: format!("it unpacks to more than {limit}, the most that is read of one document"),
        }
    }
}

/// Entry of the hidden command: confines this process before it reads a byte, then serves documents
/// until its input ends.
pub fn run() -> ExitCode {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    // Parsers may panic; the parent is told by a reply, not by text on a terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let rules = Rules { read: Vec::new(), write: Vec::new(), execute: Vec::new(), filter: Filter::Extract };
    let ready = match jail::apply(&rules) {
        Ok(protection) => Reply::Ready(protection),
        Err(error) => Reply::Unconfined(error.to_string()),
    };
    let confined = matches!(ready, Reply::Ready(_));
    if send(&mut output, &ready).is_err() || !confined {
        return ExitCode::FAILURE;
    }
    loop {
        match receive(&mut input) {
            Ok(Some((name, bytes))) => {
                let reply = std::panic::catch_unwind(|| open(&name, &bytes))
                    .unwrap_or_else(|_| Reply::Refused(Refused::broken("its parser gave up on it")));
                if send(&mut output, &reply).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Writes one request; the parent's side of [`receive`].
pub(crate) fn request(output: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut cut = name.len().saturating_sub(NAME_BYTES_MAX);
    while !name.is_char_boundary(cut) {
        cut += 1;
    }
    let name = &name[cut..];
    output.write_all(&(name.len() as u32).to_le_bytes())?;
    output.write_all(&(bytes.len() as u32).to_le_bytes())?;
    output.write_all(name.as_bytes())?;
    output.write_all(bytes)?;
    output.flush()
}

fn receive(input: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = [0; 8];
    if input.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut head[1..])?;
    let size = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    if size(0) > NAME_BYTES_MAX || size(4) > FILE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (mut name, mut bytes) = (vec![0; size(0)], vec![0; size(4)]);
    input.read_exact(&mut name)?;
    input.read_exact(&mut bytes)?;
    Ok(Some((String::from_utf8_lossy(&name).into_owned(), bytes)))
}

pub(crate) fn send(output: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let bytes = postcard::to_stdvec(reply).map_err(io::Error::other)?;
    output.write_all(&(bytes.len() as u32).to_le_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}

/// Reads one reply; the parent's side of [`send`].
pub(crate) fn reply(input: &mut impl Read) -> io::Result<Reply> {
    let mut head = [0; 4];
    input.read_exact(&mut head)?;
    let size = u32::from_le_bytes(head) as usize;
    if size > REPLY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    input.take(size as u64).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Parses one document, or says what of it has to be recognised.
fn open(name: &str, bytes: &[u8]) -> Reply {
    let scanned = match kind(name, bytes) {
        Kind::Pdf => pdf::open(bytes),
        Kind::Picture(kind) => scan::whole(kind, bytes, Builder::new(Encoding::Utf8).into_parts(Format::Picture, None)),
        _ => return read(name, bytes).map_or_else(Reply::Refused, |document| Reply::Document(Box::new(document))),
    };
    match scanned {
        Err(refused) => Reply::Refused(refused),
        Ok(scanned) if scanned.scans.is_empty() => Reply::Document(Box::new(scanned.document)),
        Ok(scanned) => Reply::Scanned(Box::new(scanned)),
    }
}

/// Parses the text of one document; none is recognised. The name decides where the bytes don't.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Document, Refused> {
    read_within(name, bytes, 0)
}

/// Parses a document that lies within `depth` others.
fn read_within(name: &str, bytes: &[u8], depth: usize) -> Result<Document, Refused> {
    let found = kind(name, bytes);
    let document = match found {
        Kind::Pdf => return pdf::read(bytes),
        Kind::Docx => docx::read(bytes)?,
        Kind::Open(format) => odf::read(bytes, format)?,
        Kind::Pptx => pptx::read(bytes)?,
        Kind::Xlsx => xlsx::read(bytes)?,
        Kind::Epub => epub::read(bytes)?,
        Kind::Mail => mail::read(bytes, depth)?,
        Kind::Picture(_) => return Err(Refused { why: Why::NotText, message: format!("it is {PICTURE}") }),
        Kind::Foreign(what) => return Err(Refused { why: Why::NotText, message: format!("it is {what}") }),
        Kind::Lines(format) => {
            let decoded =
                decode(bytes).ok_or_else(|| Refused { why: Why::NotText, message: "it isn't text".into() })?;
            match format {
                Format::Markdown => markdown::read(&decoded),
                Format::Html => html::read(&decoded),
                Format::Csv => csv::read(&decoded, name),
                Format::Json => json::read(&decoded, name),
                Format::Calendar => calendar::read(&decoded, name),
                format => text::read(&decoded, format, name),
            }
        }
    };
    if document.text.len() > build::TEXT_BYTES_MAX + (4 << 20) {
        return Err(Refused::too_large());
    }
    if document.blocks.iter().all(|block| block.kind.is_named()) {
        return Err(Refused {
            why: Why::Empty,
            message: if bytes.is_empty() { "it is empty" } else { "it holds no words" }.into(),
        });
    }
    Ok(document)
}

#[cfg(test)]
pub(crate) mod tests;
