//! Writes a GGUF file front to back: header first, then each tensor's data in the order it was named.
//!
//! Owns the number formats that Freehold itself makes: F32, F16 and Q8_0.

use super::{ALIGNMENT_DEFAULT, TensorKind, align};
use std::io::{self, Write};

/// Values that Freehold writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// Everything that stands before the data. Built once, written once.
#[derive(Debug, Default)]
pub struct Layout {
    values: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    name: String,
    kind: TensorKind,
    shape: Vec<u64>,
    bytes: u64,
}

impl Layout {
    #[must_use]
    pub fn value(mut self, key: &str, value: Value) -> Self {
        self.values.push((key.to_owned(), value));
        self
    }

    /// Names the next tensor; innermost dimension first, its length a multiple of the type's block.
    #[must_use]
    pub fn tensor(mut self, name: &str, kind: TensorKind, shape: &[u64]) -> Self {
        let bytes = shape.iter().product::<u64>() / kind.block_elements() * kind.block_bytes();
        self.tensors.push(Planned { name: name.to_owned(), kind, shape: shape.to_vec(), bytes });
        self
    }

    /// Writes the header; what is returned takes the data.
    pub fn begin<W: Write>(self, mut out: W) -> io::Result<Body<W>> {
        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            put_text(&mut head, key);
            put_value(&mut head, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_text(&mut head, &tensor.name);
            head.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|side| head.extend_from_slice(&side.to_le_bytes()));
            head.extend_from_slice(&tensor.kind.number().to_le_bytes());
            head.extend_from_slice(&offset.to_le_bytes());
            offset = padded(offset + tensor.bytes);
        }
        head.resize(padded(head.len() as u64) as usize, 0);
        out.write_all(&head)?;
        let left = self.tensors.into_iter().map(|tensor| tensor.bytes).collect::<Vec<_>>();
        Ok(Body { out, left: left.into_iter(), current: None })
    }
}

/// Takes the tensors' data in order, in pieces of any size that don't cross from one to the next.
#[derive(Debug)]
pub struct Body<W> {
    out: W,
    left: std::vec::IntoIter<u64>,
    /// Bytes still due of the current tensor, and its whole size.
    current: Option<(u64, u64)>,
}

impl<W: Write> Body<W> {
    pub fn data(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.current.is_none() {
            self.current = self.left.next().map(|bytes| (bytes, bytes));
        }
        let Some((due, whole)) = self.current else {
            return Err(io::Error::other("more data than tensors were named for"));
        };
        let Some(due) = due.checked_sub(piece.len() as u64) else {
            return Err(io::Error::other("more data than this tensor holds"));
        };
        self.out.write_all(piece)?;
        if due > 0 {
            self.current = Some((due, whole));
            return Ok(());
        }
        self.current = None;
        let padding = padded(whole) - whole;
        self.out.write_all(&[0; ALIGNMENT_DEFAULT as usize][..padding as usize])
    }

    /// Gives the file back once every tensor is whole.
    pub fn finish(self) -> io::Result<W> {
        if self.current.is_some() || self.left.len() > 0 {
            return Err(io::Error::other("less data than tensors were named for"));
        }
        Ok(self.out)
    }
}

fn padded(at: u64) -> u64 {
    align(at, ALIGNMENT_DEFAULT).expect("what we write is far below 2^64 bytes")
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let put = |out: &mut Vec<u8>, kind: u32, bytes: &[u8]| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::U16(number) => put(out, 2, &number.to_le_bytes()),
        Value::U32(number) => put(out, 4, &number.to_le_bytes()),
        Value::I32(number) => put(out, 5, &number.to_le_bytes()),
        Value::F32(number) => put(out, 6, &number.to_le_bytes()),
        Value::Bool(value) => put(out, 7, &[u8::from(*value)]),
        Value::Text(text) => {
            put(out, 8, &[]);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            put(out, 9, &8u32.to_le_bytes());
            out.extend_from_slice(&(texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::I32s(numbers) => {
            put(out, 9, &5u32.to_le_bytes());
            out.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
    }
}

/// Appends `numbers` in the form of `kind`, which is F32, F16 or Q8_0; for Q8_0 in whole blocks of 32.
pub fn encode(kind: TensorKind, numbers: &[f32], out: &mut Vec<u8>) -> io::Result<()> {
    match kind {
        TensorKind::F32 => numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes())),
        TensorKind::F16 => numbers.iter().for_each(|number| out.extend_from_slice(&half(*number).to_le_bytes())),
        TensorKind::Q8_0 => {
            let (blocks, rest) = numbers.as_chunks::<32>();
            if !rest.is_empty() {
                return Err(io::Error::other("Q8_0 needs whole blocks of 32"));
            }
            blocks.iter().for_each(|block| put_q8_0(block, out));
        }
        other => return Err(io::Error::other(format!("{} isn't written here", other.name()))),
    }
    Ok(())
}

/// 32 numbers as one scale and 32 signed bytes: the largest in size becomes ±127.
fn put_q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0f32, |largest, number| largest.max(number.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    out.extend_from_slice(&half(scale).to_le_bytes());
    // The cast saturates, and the product is at most 127 in size by construction.
    out.extend(block.iter().map(|number| (number * inverse).round() as i8 as u8));
}

/// The nearest 16-bit float, ties to even, as its bits.
pub fn half(number: f32) -> u16 {
    let bits = number.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x7f80_0000 {
        // Infinity stays; every not-a-number becomes a quiet one.
        return sign | 0x7c00 | if magnitude > 0x7f80_0000 { 0x0200 } else { 0 };
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude >= 0x3880_0000 {
        // A normal half: move the exponent, round the 13 bits that fall off. A carry into the
        // exponent is right, up to infinity.
        let rebased = magnitude - 0x3800_0000;
        return sign | ((rebased + 0x0fff + (rebased >> 13 & 1)) >> 13) as u16;
    }
    if magnitude < 0x3300_0000 {
        return sign;
    }
    // A subnormal half: the mantissa with its hidden bit, shifted to units of 2^-24.
    let shift = 126 - (magnitude >> 23);
    let mantissa = magnitude & 0x007f_ffff | 0x0080_0000;
    let kept = mantissa >> shift;
    let rest = mantissa & ((1 << shift) - 1);
    let tie = 1 << (shift - 1);
    let up = rest > tie || rest == tie && kept & 1 == 1;
    sign | (kept + u32::from(up)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of the format, for comparison.
    fn from_half(bits: u16) -> f64 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from(bits >> 10 & 0x1f);
        let mantissa = f64::from(bits & 0x3ff);
        match exponent {
            0 => sign * mantissa * 2f64.powi(-24),
            31 if mantissa == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            _ => sign * (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
        }
    }

    #[test]
    fn every_half_comes_back_from_its_own_value() {
        for bits in 0..=u16::MAX {
            let value = from_half(bits);
            if !value.is_nan() {
                assert_eq!(half(value as f32), bits, "{value}");
            }
        }
        assert_eq!(half(f32::NAN) & 0x7fff, 0x7e00);
    }

    #[test]
    fn between_two_halves_the_nearer_is_taken_and_the_even_one_at_a_tie() {
        // The distance between neighbours is exact in f32, and so is the middle.
        for bits in 0..0x7bffu16 {
            let (low, high) = (from_half(bits), from_half(bits + 1));
            let middle = ((low + high) / 2.0) as f32;
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(half(middle), even, "{middle}");
            assert_eq!(half(middle.next_down()), bits);
            assert_eq!(half(middle.next_up()), bits + 1);
        }
        assert_eq!(half(65519.9), 0x7bff);
        assert_eq!(half(65520.0), 0x7c00);
        assert_eq!(half(f32::MAX), 0x7c00);
    }

    #[test]
    fn q8_0_is_off_by_half_a_step_at_most() {
        let mut block = [0f32; 32];
        for (place, number) in block.iter_mut().enumerate() {
            *number = (place as f32 - 11.0) * 0.37;
        }
        let mut out = Vec::new();
        encode(TensorKind::Q8_0, &block, &mut out).unwrap();
        assert_eq!(out.len(), 34);
        let scale = from_half(u16::from_le_bytes([out[0], out[1]]));
        for (number, byte) in block.iter().zip(&out[2..]) {
            let back = scale * f64::from(*byte as i8);
            assert!((back - f64::from(*number)).abs() <= scale * 0.56, "{number} became {back}");
        }
        out.clear();
        encode(TensorKind::Q8_0, &[0.0; 32], &mut out).unwrap();
        assert_eq!(out, [0; 34]);
        assert!(encode(TensorKind::Q8_0, &[0.0; 31], &mut out).is_err());
        assert!(encode(TensorKind::Q4_K, &[0.0; 256], &mut out).is_err());
    }

    #[test]
    fn data_must_fit_the_tensors_that_were_named() {
        let layout = || Layout::default().tensor("a", TensorKind::F32, &[3]).tensor("b", TensorKind::F16, &[4, 2]);
        let mut body = layout().begin(Vec::new()).unwrap();
        assert!(body.data(&[0; 13]).is_err());
        body.data(&[1; 5]).unwrap();
        body.data(&[1; 7]).unwrap();
        body.data(&[2; 16]).unwrap();
        assert!(body.data(&[0; 1]).is_err());
        let file = body.finish().unwrap();
        assert_eq!(file.len() % 32, 0);
        let mut body = layout().begin(Vec::new()).unwrap();
        body.data(&[1; 12]).unwrap();
        assert!(body.finish().is_err());
    }
}
