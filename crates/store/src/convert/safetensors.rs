//! Reads safetensors files: a length, a JSON header, then the numbers. Nothing in the header is believed
//! before it has been checked against the file's size.

use base::{Code, Fault};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const HEADER_BYTES_MAX: u64 = 8 << 20;
const TENSORS_MAX: usize = 65_536;
const DIMENSIONS_MAX: usize = 8;

/// Where a tensor lies; outermost dimension first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub shape: Vec<u64>,
    /// In the file.
    start: u64,
    elements: u64,
    is_f32: bool,
}

#[derive(Debug)]
pub(super) struct Safetensors {
    path: PathBuf,
    file: BufReader<File>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Safetensors {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let fault = |error: io::Error| Fault::io("read", path, &error);
        let mut file = BufReader::new(File::open(path).map_err(fault)?);
        let size = file.get_ref().metadata().map_err(fault)?.len();
        let tensors = header(&mut file, size).map_err(|why| match why {
            Why::Io(error) => fault(error),
            Why::Wrong(why) => {
                Fault::new(Code::ModelInvalid, format!("`{}` isn't a safetensors file: {why}", path.display()))
                    .hint("fetch the file again from where it came")
            }
        })?;
        Ok(Self { path: path.to_path_buf(), file, tensors })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// In order of name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Hands out a tensor's numbers, `piece` at a time. Only F32 is read.
    pub(super) fn each_piece(
        &mut self,
        tensor: &Tensor,
        piece: usize,
        each: &mut dyn FnMut(&[f32]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let fault = |error: io::Error| Fault::io("read", &self.path, &error);
        if !tensor.is_f32 {
            return Err(Fault::new(
                Code::ModelInvalid,
                format!("`{}` holds numbers that aren't F32", self.path.display()),
            ));
        }
        self.file.seek(SeekFrom::Start(tensor.start)).map_err(fault)?;
        let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
        let mut left = tensor.elements;
        while left > 0 {
            let now = left.min(piece as u64);
            bytes.resize(now as usize * 4, 0);
            self.file.read_exact(&mut bytes).map_err(fault)?;
            numbers.clear();
            numbers.extend(bytes.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)));
            each(&numbers)?;
            left -= now;
        }
        Ok(())
    }
}

enum Why {
    Io(io::Error),
    Wrong(String),
}

fn header<R: Read>(file: &mut R, size: u64) -> Result<BTreeMap<String, Tensor>, Why> {
    let wrong = |why: String| Err(Why::Wrong(why));
    let mut length = [0; 8];
    if size < 8 {
        return wrong(format!("it is only {size} bytes long"));
    }
    file.read_exact(&mut length).map_err(Why::Io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX || length > size - 8 {
        return wrong(format!("it claims a header of {length} bytes in a file of {size}"));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(Why::Io)?;
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| Why::Wrong(format!("its header can't be read: {error}")))?;
    if values.len() > TENSORS_MAX {
        return wrong(format!("it claims {} tensors", values.len()));
    }
    let data_bytes = size - 8 - length;
    let mut tensors = BTreeMap::new();
    for (name, value) in values.into_iter().filter(|(name, _)| name != "__metadata__") {
        let raw: Raw = serde_json::from_value(value).map_err(|error| Why::Wrong(format!("`{name}`: {error}")))?;
        let tensor = checked(&raw, 8 + length, data_bytes).map_err(|why| Why::Wrong(format!("`{name}` {why}")))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn checked(raw: &Raw, data_start: u64, data_bytes: u64) -> Result<Tensor, String> {
    let number_bytes = match raw.dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" => 1,
        other => return Err(format!("is of the unknown type {}", other.chars().take(20).collect::<String>())),
    };
    let (start, end) = raw.data_offsets;
    if start > end || end > data_bytes {
        return Err(format!("lies at {start} to {end} of {data_bytes} bytes of data"));
    }
    let elements = raw.shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side));
    match elements {
        Some(elements)
            if raw.shape.len() <= DIMENSIONS_MAX && elements.checked_mul(number_bytes) == Some(end - start) =>
        {
            let (shape, start, is_f32) = (raw.shape.clone(), data_start + start, raw.dtype == "F32");
            Ok(Tensor { shape, start, elements, is_f32 })
        }
        _ => Err(format!("has the shape {:?} but {} bytes", &raw.shape[..raw.shape.len().min(8)], end - start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
        header(&mut &bytes[..], bytes.len() as u64).map_err(|why| match why {
            Why::Io(error) => error.to_string(),
            Why::Wrong(why) => why,
        })
    }

    #[test]
    fn hostile_headers_are_refused() {
        let one = |body: &str| file(&format!("{{\"t\":{body}}}"), &[0; 16]);
        for (bytes, word) in [
            (vec![], "0 bytes"),
            (vec![0; 7], "7 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "18446744073709551615"),
            (file("{", &[]), "can't be read"),
            (one("{}"), "missing field"),
            (one("{\"dtype\":\"F99\",\"shape\":[4],\"data_offsets\":[0,16]}"), "F99"),
            (one("{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}"), "0 to 17"),
            (one("{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}"), "16 to 0"),
            (one("{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,16]}"), "shape"),
            (one("{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,16]}"), "invalid"),
            (one("{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}"), "shape"),
        ] {
            let why = parse(&bytes).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        let good = one("{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}");
        assert_eq!(parse(&good).unwrap()["t"].elements, 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), json in "[{}\\[\\]\":,a-z0-9]{0,80}") {
            let _ = parse(&bytes);
            let _ = parse(&file(&json, &bytes));
        }
    }
}
