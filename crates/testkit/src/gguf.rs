//! A writer for small GGUF files (version 3), enough for header parsers and for scripted models.

/// A metadata value; only the kinds that model headers use.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

impl Value {
    pub fn text(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

/// A tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    /// Fastest-varying dimension first, as GGUF has it.
    pub shape: Vec<u64>,
    pub values: Vec<f32>,
}

/// A file in the making: keys stand in the order they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gguf {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

const ALIGNMENT: usize = 32;

impl Gguf {
    /// Adds a key, or replaces its value.
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Self {
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        self
    }

    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.metadata.retain(|(name, _)| name != key);
        self
    }

    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[u64], values: Vec<f32>) -> Self {
        self.tensors.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), values });
        self
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(b"GGUF");
        out.extend_from_slice(&3_u32.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for dimension in &tensor.shape {
                out.extend_from_slice(&dimension.to_le_bytes());
            }
            out.extend_from_slice(&0_u32.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
            offset += (tensor.values.len() * 4).next_multiple_of(ALIGNMENT) as u64;
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            for value in &tensor.values {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let kind = |out: &mut Vec<u8>, kind: u32| out.extend_from_slice(&kind.to_le_bytes());
    let array = |out: &mut Vec<u8>, item: u32, count: usize| {
        kind(out, 9);
        kind(out, item);
        out.extend_from_slice(&(count as u64).to_le_bytes());
    };
    match value {
        Value::U32(v) => {
            kind(out, 4);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::I32(v) => {
            kind(out, 5);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::F32(v) => {
            kind(out, 6);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::Bool(v) => {
            kind(out, 7);
            out.push(u8::from(*v));
        }
        Value::Text(v) => {
            kind(out, 8);
            put_text(out, v);
        }
        Value::U64(v) => {
            kind(out, 10);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::Texts(items) => {
            array(out, 8, items.len());
            items.iter().for_each(|item| put_text(out, item));
        }
        Value::I32s(items) => {
            array(out, 5, items.len());
            items.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
        }
        Value::F32s(items) => {
            array(out, 6, items.len());
            items.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
        }
    }
}

/// The text value of `key` in a file that [`Gguf`] wrote. It looks for the key's bytes and is no
/// parser: a hostile file is not its business.
pub fn find_text(bytes: &[u8], key: &str) -> Option<String> {
    let mut needle = Vec::new();
    put_text(&mut needle, key);
    needle.extend_from_slice(&8_u32.to_le_bytes());
    let at = bytes.windows(needle.len()).position(|window| window == needle)? + needle.len();
    let length = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    let end = (at + 8).checked_add(usize::try_from(length).ok()?)?;
    String::from_utf8(bytes.get(at + 8..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_header_and_data_as_the_format_says() {
        let file = Gguf::default()
            .set("a", Value::U32(1))
            .set("a", Value::U32(7))
            .set("t", Value::text("hello"))
            .tensor("w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let bytes = file.to_bytes();
        assert_eq!(&bytes[..4], b"GGUF");
        assert_eq!(bytes[4..8], 3_u32.to_le_bytes());
        assert_eq!(bytes[8..16], 1_u64.to_le_bytes());
        assert_eq!(bytes[16..24], 2_u64.to_le_bytes());
        // Key "a": length 1, the letter, kind 4, value 7.
        assert_eq!(bytes[24..41], [1, 0, 0, 0, 0, 0, 0, 0, b'a', 4, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(bytes.len() % 32, 0);
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(bytes.windows(16).any(|window| window == data));
        assert_eq!(find_text(&bytes, "t").as_deref(), Some("hello"));
        assert_eq!(find_text(&bytes, "a"), None);
    }
}
