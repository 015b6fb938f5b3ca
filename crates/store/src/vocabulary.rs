//! Whether two models have the same vocabulary: the same kind of tokenizer and the same texts under the same numbers.

use crate::entry::{Entry, Seen};
use crate::gguf::{self, GgufError, Header, ValueKind};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

/// A hash of all that makes a vocabulary.
pub(crate) type Print = [u8; 32];

/// What was found out of files, as they looked then. One that was changed is read again.
#[derive(Debug, Default)]
pub(crate) struct Prints(HashMap<PathBuf, (Seen, Option<Print>)>);

impl Prints {
    /// `None` for a file that has no vocabulary, or can't be read any more.
    pub(crate) fn of(&mut self, entry: &Entry) -> Option<Print> {
        let path = entry.parts.first()?;
        let seen = Seen::of(path).ok()?;
        match self.0.get(path) {
            Some((before, print)) if *before == seen => *print,
            _ => {
                let print = read(path);
                self.0.insert(path.clone(), (seen, print));
                print
            }
        }
    }
}

fn read(path: &Path) -> Option<Print> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let header = gguf::read(&file, size).ok()?;
    print(&file, size, &header).ok()?
}

fn print<R: Read + Seek>(source: R, size: u64, header: &Header) -> Result<Option<Print>, GgufError> {
    let (Some(kind), Some(tokens)) = (header.text("tokenizer.ggml.model"), header.array("tokenizer.ggml.tokens"))
    else {
        return Ok(None);
    };
    if tokens.kind != ValueKind::Text {
        return Ok(None);
    }
    let mut sum = Sha256::new();
    sum.update(kind);
    // What fills the end up to a round number differs between sizes of one family, and no text has it.
    let mut filling = Vec::new();
    gguf::each_text(source, size, tokens, |place, text| {
        let mut told = (text.len() as u64).to_le_bytes().to_vec();
        told.extend_from_slice(text);
        if text == format!("[PAD{place}]").as_bytes() {
            filling.extend(told);
        } else {
            sum.update(std::mem::take(&mut filling));
            sum.update(told);
        }
    })?;
    Ok(Some(sum.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use testkit::gguf::{Gguf, Value};

    fn of(kind: &str, tokens: &[&str]) -> Option<Print> {
        let tokens = tokens.iter().map(ToString::to_string).collect();
        let file = Gguf::default()
            .set("general.architecture", Value::text("llama"))
            .set("tokenizer.ggml.model", Value::text(kind))
            .set("tokenizer.ggml.tokens", Value::Texts(tokens));
        let bytes = file.to_bytes();
        let size = bytes.len() as u64;
        let header = gguf::read(Cursor::new(&bytes), size).expect("a header");
        print(Cursor::new(&bytes), size, &header).expect("it can be read")
    }

    #[test]
    fn vocabularies_are_the_same_when_kind_and_all_tokens_are() {
        let one = of("gpt2", &["a", "b", "c"]);
        assert!(one.is_some());
        assert_eq!(one, of("gpt2", &["a", "b", "c"]));
        assert_eq!(one, of("gpt2", &["a", "b", "c", "[PAD3]", "[PAD4]"]), "filled up");
        for other in [["a", "c", "b"], ["a", "b", "d"], ["ab", "", "c"], ["a", "bc", ""]] {
            assert_ne!(one, of("gpt2", &other), "{other:?}");
        }
        assert_ne!(one, of("llama", &["a", "b", "c"]));
        assert_ne!(one, of("gpt2", &["a", "b", "c", "[PAD3]", "d"]));
        assert_ne!(one, of("gpt2", &["a", "b"]));
    }

    #[test]
    fn a_file_without_a_vocabulary_has_none() {
        let bytes = Gguf::default().set("general.architecture", Value::text("llama")).to_bytes();
        let size = bytes.len() as u64;
        let header = gguf::read(Cursor::new(&bytes), size).expect("a header");
        assert_eq!(print(Cursor::new(&bytes), size, &header).expect("it can be read"), None);
    }
}
