//! From bytes to a checked header. Reads forward once, in constant memory but for what it keeps.

use super::{
    ALIGNMENT_DEFAULT, ALIGNMENT_MAX, ARRAY_ITEMS_MAX, Array, DIMENSIONS_MAX, GgufError, HEADER_BYTES_MAX, Header,
    KEY_BYTES_MAX, NUMBERS_KEPT_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX, TEXT_BYTES_MAX, TEXTS_BYTES_MAX, Tensor,
    TensorKind, VALUES_MAX, Value, ValueKind, align,
};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Smallest entry of the key-value part: a length, one byte of key, a type, one byte of value.
const VALUE_BYTES_MIN: u64 = 14;
/// Smallest description of a tensor: an empty name's length, no dimension, type and offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 4 + 8;
const READ_BYTES: usize = 64 << 10;

/// Reads the header of a model of `size` bytes.
pub fn read<R: Read + Seek>(source: R, size: u64) -> Result<Header, GgufError> {
    let mut cursor = Cursor::new(source, size, 0)?;
    let version = prelude(&mut cursor)?;
    let tensor_count = cursor.count("tensors", TENSORS_MAX, None)?;
    let value_count = cursor.count("values", VALUES_MAX, None)?;
    cursor.must_hold("the list of values", value_count, VALUE_BYTES_MIN)?;
    let mut values = BTreeMap::new();
    let mut text_bytes = 0;
    for index in 0..value_count {
        let key = cursor.text(&format!("key {index}"), KEY_BYTES_MAX)?;
        if key.is_empty() {
            return Err(GgufError::Empty(format!("key {index}")));
        }
        if values.contains_key(&key) {
            return Err(GgufError::Twice(format!("the key `{key}`")));
        }
        let value = value(&mut cursor, &key, &mut text_bytes)?;
        values.insert(key, value);
    }
    let alignment = alignment(&values)?;
    cursor.must_hold("the list of tensors", tensor_count, TENSOR_BYTES_MIN)?;
    let tensors = tensors(&mut cursor, tensor_count, alignment)?;
    let data_start = align(cursor.at, alignment).ok_or(GgufError::Alignment(i128::from(alignment)))?;
    let end = tensors.last().map_or(0, |tensor| tensor.offset + tensor.bytes);
    let data_end = if end == 0 { cursor.at } else { data_start.saturating_add(end) };
    if data_end > size {
        return Err(GgufError::CutData { promised: data_end, holds: size });
    }
    Ok(Header { version, alignment, data_start, data_end, values, tensors })
}

fn prelude<R: Read + Seek>(cursor: &mut Cursor<R>) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cursor.array("the first word")?;
    match &magic {
        b"GGUF" => {}
        b"FUGG" => return Err(GgufError::BigEndian),
        other => return Err(GgufError::Magic(format!("`{}`", other.escape_ascii()))),
    }
    let version = u32::from_le_bytes(cursor.array("the version")?);
    match version {
        2 | 3 => Ok(version),
        // A small number with its bytes reversed.
        swapped if swapped & 0xffff == 0 && swapped != 0 => Err(GgufError::BigEndian),
        other => Err(GgufError::Version(other)),
    }
}

fn value<R: Read + Seek>(cursor: &mut Cursor<R>, key: &str, kept: &mut u64) -> Result<Value, GgufError> {
    let what = format!("the value of `{key}`");
    let kind = cursor.kind(&what)?;
    match kind {
        ValueKind::Text => {
            let bytes = cursor.length(&what, HEADER_BYTES_MAX)?;
            if bytes > TEXT_BYTES_MAX || *kept + bytes > TEXTS_BYTES_MAX {
                cursor.skip(&what, bytes)?;
                return Ok(Value::LongText(bytes));
            }
            *kept += bytes;
            // A template or a description with a stray byte is still of use.
            Ok(Value::Text(String::from_utf8_lossy(&cursor.bytes(&what, bytes)?).into_owned()))
        }
        ValueKind::Array => array(cursor, &what),
        scalar => self::scalar(cursor, &what, scalar),
    }
}

fn array<R: Read + Seek>(cursor: &mut Cursor<R>, what: &str) -> Result<Value, GgufError> {
    let kind = cursor.kind(what)?;
    let count = cursor.count("elements of an array", ARRAY_ITEMS_MAX, Some(what))?;
    let array = Array { kind, count, offset: cursor.at };
    match kind {
        // ggml knows no arrays of arrays either.
        ValueKind::Array => return Err(GgufError::ValueKind { what: what.to_owned(), number: 9 }),
        ValueKind::Text => {
            cursor.must_hold(what, count, kind.bytes_min())?;
            for _ in 0..count {
                let bytes = cursor.length(what, HEADER_BYTES_MAX)?;
                cursor.skip(what, bytes)?;
            }
        }
        ValueKind::F32 | ValueKind::F64 => cursor.skip(what, count * kind.bytes_min())?,
        integer if count <= NUMBERS_KEPT_MAX => {
            cursor.must_hold(what, count, integer.bytes_min())?;
            let mut numbers = Vec::new();
            for _ in 0..count {
                match scalar(cursor, what, integer)? {
                    Value::Integer(number) => numbers.push(number),
                    Value::Bool(value) => numbers.push(i128::from(value)),
                    _ => unreachable!("texts, floats and arrays are dealt with above"),
                }
            }
            return Ok(Value::Numbers(numbers));
        }
        integer => cursor.skip(what, count * integer.bytes_min())?,
    }
    Ok(Value::Array(array))
}

fn scalar<R: Read + Seek>(cursor: &mut Cursor<R>, what: &str, kind: ValueKind) -> Result<Value, GgufError> {
    Ok(match kind {
        ValueKind::U8 => Value::Integer(u8::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I8 => Value::Integer(i8::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::U16 => Value::Integer(u16::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I16 => Value::Integer(i16::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::U32 => Value::Integer(u32::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I32 => Value::Integer(i32::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::U64 => Value::Integer(u64::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::I64 => Value::Integer(i64::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::F32 => Value::Float(f32::from_le_bytes(cursor.array(what)?).into()),
        ValueKind::F64 => Value::Float(f64::from_le_bytes(cursor.array(what)?)),
        ValueKind::Bool => Value::Bool(cursor.array::<1>(what)?[0] != 0),
        ValueKind::Text | ValueKind::Array => unreachable!("the callers deal with texts and arrays"),
    })
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    match values.get("general.alignment") {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(Value::Integer(number)) => match u64::try_from(*number) {
            Ok(alignment) if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX => Ok(alignment),
            _ => Err(GgufError::Alignment(*number)),
        },
        Some(_) => Err(GgufError::Alignment(-1)),
    }
}

fn tensors<R: Read + Seek>(cursor: &mut Cursor<R>, count: u64, alignment: u64) -> Result<Vec<Tensor>, GgufError> {
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    // Native code expects each tensor where the one before it ends, rounded up; so nothing can overlap.
    let mut expected = 0;
    for index in 0..count {
        let tensor = tensor(cursor, index)?;
        let what = || format!("tensor `{}`", tensor.name);
        if tensor.offset != expected {
            return Err(GgufError::Offset { what: what(), found: tensor.offset, expected });
        }
        if !names.insert(tensor.name.clone()) {
            return Err(GgufError::Twice(what()));
        }
        let end = tensor.offset.checked_add(tensor.bytes).and_then(|end| align(end, alignment));
        expected = end.ok_or_else(|| GgufError::Shape { what: what(), shape: tensor.shape.to_vec() })?;
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn tensor<R: Read + Seek>(cursor: &mut Cursor<R>, index: u64) -> Result<Tensor, GgufError> {
    let name = cursor.text(&format!("the name of tensor {index}"), TENSOR_NAME_BYTES_MAX)?;
    let what = format!("tensor `{name}`");
    let dimensions = u32::from_le_bytes(cursor.array(&what)?);
    if dimensions > DIMENSIONS_MAX {
        return Err(GgufError::Dimensions { what, count: dimensions, max: DIMENSIONS_MAX });
    }
    let mut shape = [1; DIMENSIONS_MAX as usize];
    for side in shape.iter_mut().take(dimensions as usize) {
        *side = u64::from_le_bytes(cursor.array(&what)?);
    }
    let number = u32::from_le_bytes(cursor.array(&what)?);
    let kind = TensorKind::of(number).ok_or_else(|| GgufError::TensorKind { what: what.clone(), number })?;
    let offset = u64::from_le_bytes(cursor.array(&what)?);
    if shape[0] % kind.block_elements() != 0 {
        return Err(GgufError::Row { what, row: shape[0], kind: kind.name(), block: kind.block_elements() });
    }
    // ggml counts elements and bytes in signed 64-bit numbers.
    let elements = shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side));
    let bytes = elements
        .filter(|elements| *elements > 0 && i64::try_from(*elements).is_ok())
        .and_then(|elements| (elements / kind.block_elements()).checked_mul(kind.block_bytes()))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| GgufError::Shape { what, shape: shape.to_vec() })?;
    Ok(Tensor { name, kind, shape, offset, bytes })
}

/// The texts at the `wanted` places of an array of texts, in rising order of place; bytes that aren't
/// UTF-8 are replaced. A text longer than `bytes_max` is an error.
pub fn strings<R: Read + Seek>(
    source: R,
    size: u64,
    array: Array,
    wanted: &[u32],
    bytes_max: u64,
) -> Result<Vec<(u32, String)>, GgufError> {
    let mut wanted: Vec<u32> = wanted.iter().copied().filter(|place| u64::from(*place) < array.count).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut cursor = Cursor::new(source, size, array.offset)?;
    let mut found = Vec::new();
    let mut place = 0;
    for want in wanted {
        while place < want {
            let bytes = cursor.length("a token", HEADER_BYTES_MAX)?;
            cursor.skip("a token", bytes)?;
            place += 1;
        }
        let bytes = cursor.length("a token", bytes_max)?;
        found.push((want, String::from_utf8_lossy(&cursor.bytes("a token", bytes)?).into_owned()));
        place += 1;
    }
    Ok(found)
}

/// Calls `each` with place and bytes of every text of an array. A text longer than [`TEXT_BYTES_MAX`] is an error.
pub fn each_text<R: Read + Seek>(
    source: R,
    size: u64,
    array: Array,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<(), GgufError> {
    let mut cursor = Cursor::new(source, size, array.offset)?;
    for place in 0..array.count {
        let bytes = cursor.length("a token", TEXT_BYTES_MAX)?;
        each(place, &cursor.bytes("a token", bytes)?);
    }
    Ok(())
}

/// The places of an array of texts where one of `names` stands, in rising order.
pub fn places<R: Read + Seek>(
    source: R,
    size: u64,
    array: Array,
    names: &HashSet<&str>,
) -> Result<Vec<u32>, GgufError> {
    let longest = names.iter().map(|name| name.len() as u64).max().unwrap_or(0);
    let mut cursor = Cursor::new(source, size, array.offset)?;
    let mut found = Vec::new();
    for place in 0..u32::try_from(array.count).unwrap_or(u32::MAX) {
        let bytes = cursor.length("a token", HEADER_BYTES_MAX)?;
        if bytes > longest {
            cursor.skip("a token", bytes)?;
        } else if std::str::from_utf8(&cursor.bytes("a token", bytes)?).is_ok_and(|text| names.contains(text)) {
            found.push(place);
        }
    }
    Ok(found)
}

/// Calls `each` with place and kind of every element of an array of 32-bit integers.
pub fn token_kinds<R: Read + Seek>(
    source: R,
    size: u64,
    array: Array,
    mut each: impl FnMut(u32, i32) -> Result<(), GgufError>,
) -> Result<(), GgufError> {
    let mut cursor = Cursor::new(source, size, array.offset)?;
    // The count is at most ARRAY_ITEMS_MAX, so it fits.
    for place in 0..u32::try_from(array.count).unwrap_or(u32::MAX) {
        each(place, i32::from_le_bytes(cursor.array("a token's type")?))?;
    }
    Ok(())
}

/// A position in the file that never passes its end.
struct Cursor<R> {
    source: BufReader<R>,
    at: u64,
    size: u64,
}

impl<R: Read + Seek> Cursor<R> {
    fn new(source: R, size: u64, at: u64) -> Result<Self, GgufError> {
        let mut source = BufReader::with_capacity(READ_BYTES, source);
        source.seek(SeekFrom::Start(at))?;
        Ok(Self { source, at, size })
    }

    /// The position after `bytes` more, if the file and the header's bound hold them.
    fn after(&self, what: &str, bytes: u64) -> Result<u64, GgufError> {
        let needs = self.at.saturating_add(bytes);
        if needs > self.size {
            return Err(GgufError::CutHeader { what: what.to_owned(), needs, holds: self.size });
        }
        if needs > HEADER_BYTES_MAX {
            return Err(GgufError::TooLong { what: "the header".to_owned(), bytes: needs, max: HEADER_BYTES_MAX });
        }
        Ok(needs)
    }

    /// Refuses a count that the rest of the file can't hold, before anything is done with it.
    fn must_hold(&self, what: &str, count: u64, each: u64) -> Result<(), GgufError> {
        self.after(what, count.saturating_mul(each)).map(|_| ())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let after = self.after(what, N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.at = after;
        Ok(bytes)
    }

    /// `bytes` is within the file and within the caller's own bound.
    fn bytes(&mut self, what: &str, bytes: u64) -> Result<Vec<u8>, GgufError> {
        let after = self.after(what, bytes)?;
        let mut text = Vec::new();
        self.source.by_ref().take(bytes).read_to_end(&mut text)?;
        if text.len() as u64 != bytes {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        self.at = after;
        Ok(text)
    }

    fn skip(&mut self, what: &str, bytes: u64) -> Result<(), GgufError> {
        let after = self.after(what, bytes)?;
        // Within HEADER_BYTES_MAX, so it fits; relative, so that the buffer is kept.
        self.source.seek_relative(i64::try_from(bytes).unwrap_or(i64::MAX))?;
        self.at = after;
        Ok(())
    }

    fn length(&mut self, what: &str, max: u64) -> Result<u64, GgufError> {
        let bytes = u64::from_le_bytes(self.array(what)?);
        self.after(what, bytes)?;
        if bytes > max {
            return Err(GgufError::TooLong { what: what.to_owned(), bytes, max });
        }
        Ok(bytes)
    }

    fn text(&mut self, what: &str, max: u64) -> Result<String, GgufError> {
        let bytes = self.length(what, max)?;
        String::from_utf8(self.bytes(what, bytes)?).map_err(|_| GgufError::NotText(what.to_owned()))
    }

    fn count(&mut self, what: &'static str, max: u64, of: Option<&str>) -> Result<u64, GgufError> {
        let count = u64::from_le_bytes(self.array(of.unwrap_or(what))?);
        if count > max {
            return Err(GgufError::TooMany { what, count, max });
        }
        Ok(count)
    }

    fn kind(&mut self, what: &str) -> Result<ValueKind, GgufError> {
        let number = u32::from_le_bytes(self.array(what)?);
        ValueKind::of(number).ok_or_else(|| GgufError::ValueKind { what: what.to_owned(), number })
    }
}
