//! The GGUF container: a header that is checked before native code sees the file, and a writer.
//!
//! `read` turns bytes into a [`Header`] and trusts nothing: every count, length and offset is checked
//! against the file's size before it is used, and nothing is allocated by a number that the file names.
//! `write` makes files for models that come in another form. What the values mean is `facts`' business.

mod error;
mod kind;
mod read;
pub mod write;

pub use error::GgufError;
pub use kind::{TensorKind, ValueKind, file_type_name};
pub use read::{each_text, places, read, strings, token_kinds};

use std::collections::BTreeMap;

/// Entries of the key-value part.
pub const VALUES_MAX: u64 = 65_536;
pub const KEY_BYTES_MAX: u64 = 1_024;
/// A longer text is skipped and only its length kept.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// All kept texts together.
pub const TEXTS_BYTES_MAX: u64 = 4 << 20;
/// Elements of one array; the largest vocabularies hold a few hundred thousand.
pub const ARRAY_ITEMS_MAX: u64 = 1 << 24;
/// Integer arrays up to this length are kept whole (one number per layer).
pub const NUMBERS_KEPT_MAX: u64 = 4_096;
pub const TENSORS_MAX: u64 = 131_072;
/// The limit of ggml itself, which stores names in 64 bytes with an end mark.
pub const TENSOR_NAME_BYTES_MAX: u64 = 63;
pub const DIMENSIONS_MAX: u32 = 4;
pub const ALIGNMENT_MAX: u64 = 65_536;
pub const ALIGNMENT_DEFAULT: u64 = 32;
/// Everything before the tensors' data.
pub const HEADER_BYTES_MAX: u64 = 512 << 20;

/// A header that holds together: its tensors lie within the file, one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub version: u32,
    pub alignment: u64,
    /// Where the tensors' data begins, in bytes from the start of the file.
    pub data_start: u64,
    /// Where the last tensor ends: the file holds at least as many bytes.
    pub data_end: u64,
    pub values: BTreeMap<String, Value>,
    pub tensors: Vec<Tensor>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer type.
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    /// A text longer than [`TEXT_BYTES_MAX`]: its length in bytes.
    LongText(u64),
    /// A short array of integers or truth values.
    Numbers(Vec<i128>),
    /// Any other array: where it lies.
    Array(Array),
}

/// An array that was walked and checked, but not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    pub kind: ValueKind,
    pub count: u64,
    /// Position of the first element in the file.
    pub offset: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub kind: TensorKind,
    /// Innermost dimension first; the ones that the file doesn't name are 1.
    pub shape: [u64; DIMENSIONS_MAX as usize],
    /// From `data_start`.
    pub offset: u64,
    pub bytes: u64,
}

impl Tensor {
    /// Can't overflow: the reader has checked the product.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Header {
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of any stored type that fits.
    pub fn number<N: TryFrom<i128>>(&self, key: &str) -> Option<N> {
        match self.values.get(key)? {
            Value::Integer(number) => N::try_from(*number).ok(),
            _ => None,
        }
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.values.get(key)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// One number for each of `count` layers; a single number stands for all of them.
    pub fn per_layer(&self, key: &str, count: u32) -> Option<Vec<u64>> {
        match self.values.get(key)? {
            Value::Integer(number) => Some(vec![u64::try_from(*number).ok()?; count as usize]),
            Value::Numbers(numbers) if numbers.len() >= count as usize => {
                numbers[..count as usize].iter().map(|number| u64::try_from(*number).ok()).collect()
            }
            _ => None,
        }
    }

    pub fn array(&self, key: &str) -> Option<Array> {
        match self.values.get(key)? {
            Value::Array(array) => Some(*array),
            _ => None,
        }
    }
}

/// The next multiple of `alignment`, a power of two.
pub(crate) fn align(at: u64, alignment: u64) -> Option<u64> {
    Some(at.checked_add(alignment - 1)? & !(alignment - 1))
}

#[cfg(test)]
mod tests;
