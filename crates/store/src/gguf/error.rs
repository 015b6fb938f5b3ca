//! Why a header is refused. Each sentence names the number that is wrong.

use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum GgufError {
    #[error("it begins with {0}, a GGUF model begins with `GGUF`")]
    Magic(String),
    #[error("its numbers are big-endian; only little-endian models run here")]
    BigEndian,
    #[error("it is GGUF version {0}; versions 2 and 3 can be read")]
    Version(u32),
    #[error("it is cut off: {what} needs {needs} bytes from the start, the file holds {holds}")]
    CutHeader { what: String, needs: u64, holds: u64 },
    #[error("it is cut off: its header promises {promised} bytes, the file holds {holds}")]
    CutData { promised: u64, holds: u64 },
    #[error("it claims {count} {what}, at most {max} are believed")]
    TooMany { what: &'static str, count: u64, max: u64 },
    #[error("{what} claims to be {bytes} bytes long, at most {max} are believed")]
    TooLong { what: String, bytes: u64, max: u64 },
    #[error("{0} isn't UTF-8")]
    NotText(String),
    #[error("{0} is empty")]
    Empty(String),
    #[error("{0} stands there twice")]
    Twice(String),
    #[error("{what} is of type {number}, which doesn't exist")]
    ValueKind { what: String, number: u32 },
    #[error("{what} is of the unknown tensor type {number}")]
    TensorKind { what: String, number: u32 },
    #[error("{what} has {count} dimensions, at most {max} are possible")]
    Dimensions { what: String, count: u32, max: u32 },
    #[error("{what} has the impossible shape {shape:?}")]
    Shape { what: String, shape: Vec<u64> },
    #[error("{what} has rows of {row} elements, its type {kind} needs a multiple of {block}")]
    Row { what: String, row: u64, kind: &'static str, block: u64 },
    #[error("{what} starts at {found} in the data, the one before it ends at {expected}")]
    Offset { what: String, found: u64, expected: u64 },
    #[error("its alignment is {0}; a power of two up to 65536 is needed")]
    Alignment(i128),
    #[error(transparent)]
    Io(#[from] io::Error),
}
