//! A document reader that was taken over, for this crate's tests. It speaks the reader's protocol by itself, unconfined.
//!
//! What it does depends on a file's name: `hang` (after it has called the socket beside the file, if there is one),
//! `die`, `lie-…`, and for all others it answers honestly that they are plain text.

use freehold_map::document::{Block, BlockKind, Document, Format, Origin, Said};
use freehold_map::source::{Encoding, Run};
use jail::Protection;
use serde::Serialize;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// Places of `Ready` and `Document` among the replies.
const READY: u8 = 0;
const DOCUMENT: u8 = 2;

fn main() -> ExitCode {
    // It ends when its parent closes the pipe or kills it.
    let _ = serve();
    ExitCode::SUCCESS
}

fn serve() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    send(&mut output, READY, &Protection::default())?;
    loop {
        let (name_bytes, file_bytes) = (size(&mut input)?, size(&mut input)?);
        let (mut name, mut file) = (vec![0; name_bytes], vec![0; file_bytes]);
        input.read_exact(&mut name)?;
        input.read_exact(&mut file)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let path = Path::new(&name);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut document = honest(&file);
        match &*stem {
            "hang" => {
                let _call = UnixStream::connect(path.with_extension("sock"));
                loop {
                    std::thread::park();
                }
            }
            "die" => std::process::abort(),
            "lie-wrap" => {
                let run = Run { text: 4, text_len: u32::MAX - 1, source: 0, source_len: 1 };
                document.origin = Origin::Source { encoding: Encoding::Utf8, runs: vec![run] };
            }
            "lie-pages" => (document.format, document.origin) = (Format::Pdf, Origin::Parts),
            "lie-places" => document.origin = Origin::Parts,
            _ => {}
        }
        send(&mut output, DOCUMENT, &document)?;
    }
}

fn honest(file: &[u8]) -> Document {
    let text = String::from_utf8_lossy(file).into_owned();
    let len = text.len() as u32;
    let run = Run { text: 0, text_len: len, source: 0, source_len: len };
    Document {
        title: None,
        format: Format::Text,
        text,
        blocks: vec![Block { start: 0, end: len, kind: BlockKind::Text, part: 0 }],
        origin: Origin::Source { encoding: Encoding::Utf8, runs: vec![run] },
        names: Vec::new(),
        spots: Vec::new(),
        notes: Vec::new(),
        said: Said::default(),
    }
}

fn size(input: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

fn send(output: &mut impl Write, kind: u8, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = vec![kind];
    bytes.extend(postcard::to_stdvec(value).map_err(io::Error::other)?);
    output.write_all(&(bytes.len() as u32).to_le_bytes())?;
    output.write_all(&bytes)?;
    output.flush()
}
