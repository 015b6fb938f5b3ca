//! Writes GGUF files of random weights, block by block, so that no weight is ever held as a float; and reads files, so that
//! they can be written in another form.
//!
//! The vocabulary comes from another file as it stands; what the shape needs beyond it is filled
//! with words that no text is cut into, because the output's width costs time like any other.

use super::dice::Dice;
use super::shape::{Kind, Tensor};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;
/// LIMIT: one text or list of a header that is read.
const VALUE_BYTES_MAX: u64 = 64 << 20;
const DIMENSIONS_MAX: u32 = 8;
const CHUNK_BYTES: usize = 1 << 20;

const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// `tokenizer.ggml.token_type` of an ordinary token.
const NORMAL: i32 = 1;

/// A value as it stands in a header: its kind's number and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    kind: u32,
    bytes: Vec<u8>,
}

impl Value {
    pub(super) fn u32(value: u32) -> Self {
        Self { kind: U32, bytes: value.to_le_bytes().to_vec() }
    }

    pub(super) fn f32(value: f32) -> Self {
        Self { kind: F32, bytes: value.to_le_bytes().to_vec() }
    }

    pub(super) fn text(value: &str) -> Self {
        Self { kind: TEXT, bytes: text(value) }
    }

    pub(super) fn u32s(values: &[u32]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::list(I32, values.len() as u64, &items)
    }

    fn list(kind: u32, count: u64, items: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(items);
        Self { kind: LIST, bytes }
    }

    /// Kind, count and bytes of a list's items.
    fn items(&self) -> Option<(u32, u64, &[u8])> {
        let (head, items) = self.bytes.split_at_checked(12).filter(|_| self.kind == LIST)?;
        let kind = u32::from_le_bytes(head[..4].try_into().ok()?);
        Some((kind, u64::from_le_bytes(head[4..].try_into().ok()?), items))
    }
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend(value.as_bytes());
    bytes
}

/// Keys and values of a header, in their order.
pub(super) type Header = Vec<(String, Value)>;

/// What stands in a file before its numbers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) tensors: Vec<Lying>,
    /// Where the first tensor's numbers begin.
    pub(super) data_start: u64,
}

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct Lying {
    pub(super) name: String,
    /// Fastest-varying dimension first.
    pub(super) shape: Vec<u64>,
    /// ggml's number of its type.
    pub(super) kind: u32,
    /// From the first tensor's beginning on.
    pub(super) offset: u64,
}

/// Reads everything but the numbers.
///
/// # Errors
/// When the file isn't GGUF.
pub(super) fn head(model: &Path) -> Result<Head> {
    let file = File::open(model).with_context(|| format!("can't open `{}`", model.display()))?;
    let mut reader = Reader(BufReader::new(file));
    if &reader.bytes::<4>()? != MAGIC {
        bail!("`{}` isn't GGUF", model.display());
    }
    reader.bytes::<4>()?;
    let tensors = u64::from_le_bytes(reader.bytes()?);
    let count = u64::from_le_bytes(reader.bytes()?);
    let mut header = Header::new();
    for _ in 0..count {
        let key = reader.text()?;
        let kind = u32::from_le_bytes(reader.bytes()?);
        let mut bytes = Vec::new();
        reader.value(kind, &mut bytes)?;
        header.push((key, Value { kind, bytes }));
    }
    let tensors = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>>>()?;
    let data_start = reader.0.stream_position()?.next_multiple_of(ALIGNMENT);
    Ok(Head { header, tensors, data_start })
}

/// What a model's file says about its tokenizer, chat template included.
///
/// # Errors
/// When the file isn't GGUF.
pub(super) fn tokenizer(model: &Path) -> Result<Header> {
    let mut header = head(model)?.header;
    header.retain(|(key, _)| key.starts_with("tokenizer."));
    Ok(header)
}

struct Reader<R>(R);

impl<R: Read> Reader<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).context("the header is cut off")?;
        Ok(bytes)
    }

    fn many(&mut self, count: u64, into: &mut Vec<u8>) -> Result<()> {
        if count > VALUE_BYTES_MAX {
            bail!("a value of {count} bytes in the header; at most {VALUE_BYTES_MAX} are read");
        }
        let start = into.len();
        into.resize(start + usize::try_from(count)?, 0);
        self.0.read_exact(&mut into[start..]).context("the header is cut off")
    }

    fn text(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let length = u64::from_le_bytes(self.bytes()?);
        self.many(length, &mut bytes)?;
        String::from_utf8(bytes).context("a key isn't UTF-8")
    }

    fn tensor(&mut self) -> Result<Lying> {
        let name = self.text()?;
        let dimensions = u32::from_le_bytes(self.bytes()?);
        if dimensions > DIMENSIONS_MAX {
            bail!("`{name}` has {dimensions} dimensions");
        }
        let side = |_| -> Result<u64> { Ok(u64::from_le_bytes(self.bytes()?)) };
        let shape = (0..dimensions).map(side).collect::<Result<_>>()?;
        let kind = u32::from_le_bytes(self.bytes()?);
        Ok(Lying { name, shape, kind, offset: u64::from_le_bytes(self.bytes()?) })
    }

    fn value(&mut self, kind: u32, into: &mut Vec<u8>) -> Result<()> {
        match kind {
            0 | 1 | 7 => self.many(1, into),
            2 | 3 => self.many(2, into),
            4..=6 => self.many(4, into),
            10..=12 => self.many(8, into),
            TEXT => {
                let length: [u8; 8] = self.bytes()?;
                into.extend(length);
                self.many(u64::from_le_bytes(length), into)
            }
            LIST => {
                let (kind, count): ([u8; 4], [u8; 8]) = (self.bytes()?, self.bytes()?);
                into.extend(kind);
                into.extend(count);
                let kind = u32::from_le_bytes(kind);
                if kind == LIST {
                    bail!("a list of lists in the header");
                }
                (0..u64::from_le_bytes(count)).try_for_each(|_| self.value(kind, into))
            }
            other => bail!("a value of the unknown kind {other} in the header"),
        }
    }
}

/// How many tokens a vocabulary has.
///
/// # Errors
/// When there is none.
pub(super) fn tokens(tokenizer: &Header) -> Result<u32> {
    let list =
        tokenizer.iter().find(|(name, _)| name == "tokenizer.ggml.tokens").context("the file has no vocabulary")?;
    let count = list.1.items().context("the vocabulary is no list")?.1;
    u32::try_from(count).context("the vocabulary is too large")
}

/// Fills the vocabulary up to `tokens` with words that no text is cut into: no merge makes them.
///
/// # Errors
/// When it has more tokens already, or none.
pub(super) fn widen(tokenizer: &mut Header, tokens: u32) -> Result<()> {
    let find = |header: &Header, key: &str| header.iter().position(|(name, _)| name == key);
    let list = find(tokenizer, "tokenizer.ggml.tokens").context("the file has no vocabulary")?;
    let have = tokenizer[list].1.items().context("the vocabulary is no list")?.1;
    let more = u64::from(tokens).checked_sub(have).context("the vocabulary is larger than the shape's")?;
    let mut extend = |key: &str, items: Vec<u8>| {
        if let Some(at) = find(tokenizer, key)
            && let Some((kind, count, old)) = tokenizer[at].1.items()
        {
            tokenizer[at].1 = Value::list(kind, count + more, &[old, &items].concat());
        }
    };
    // "Ġ" stands for the blank before a word.
    extend("tokenizer.ggml.tokens", (0..more).flat_map(|number| text(&format!("Ġzq{number}"))).collect());
    extend("tokenizer.ggml.token_type", (0..more).flat_map(|_| NORMAL.to_le_bytes()).collect());
    extend("tokenizer.ggml.scores", (0..more).flat_map(|_| 0_f32.to_le_bytes()).collect());
    Ok(())
}

/// Writes the file; the same seed gives the same bytes.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write(path: &Path, header: &Header, tensors: &[Tensor], seed: u64) -> Result<()> {
    let mut dice = Dice(seed);
    write_with(path, header, tensors, &mut |tensor, out| weights(tensor, &mut dice, out))
}

/// Writes the file, whose numbers come from whoever calls: of each tensor in turn, as many bytes as it has.
///
/// # Errors
/// When the disk refuses, or the caller.
pub(super) fn write_with(
    path: &Path,
    header: &Header,
    tensors: &[Tensor],
    numbers: &mut dyn FnMut(&Tensor, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("can't write `{}`", path.display()))?;
    let mut out = Counted { out: BufWriter::with_capacity(CHUNK_BYTES, file), written: 0 };
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(tensors.len() as u64).to_le_bytes())?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    for (key, value) in header {
        out.write_all(&text(key))?;
        out.write_all(&value.kind.to_le_bytes())?;
        out.write_all(&value.bytes)?;
    }
    let mut offset = 0;
    for tensor in tensors {
        out.write_all(&text(&tensor.name))?;
        out.write_all(&u32::try_from(tensor.shape.len())?.to_le_bytes())?;
        for length in &tensor.shape {
            out.write_all(&length.to_le_bytes())?;
        }
        out.write_all(&tensor.kind.number().to_le_bytes())?;
        out.write_all(&u64::to_le_bytes(offset))?;
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.pad()?;
    for tensor in tensors {
        numbers(tensor, &mut out)?;
        out.pad()?;
    }
    out.flush().context("the disk is full?")
}

struct Counted<W> {
    out: W,
    written: u64,
}

impl<W: Write> Counted<W> {
    fn pad(&mut self) -> std::io::Result<()> {
        let gap = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write_all(&[0; ALIGNMENT as usize][..gap as usize])
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Values around zero whose spread keeps activations the size they have in trained models: one over
/// the root of a row's length. Every block's scale is another, so that no two results tie.
fn weights(tensor: &Tensor, dice: &mut Dice, out: &mut dyn Write) -> Result<()> {
    let spread = 1.0 / (tensor.shape[0] as f32).sqrt();
    let blocks = tensor.elements() / tensor.kind.block_elements();
    let mut block = vec![0; usize::try_from(tensor.kind.block_bytes())?];
    for _ in 0..blocks {
        let scale = spread * (0.8 + 0.4 * dice.share());
        match tensor.kind {
            Kind::Q4K => q4_k(&mut block, scale, dice),
            Kind::Q8_0 => q8_0(&mut block, scale, dice),
            Kind::Norm => block.copy_from_slice(&(0.9 + 0.2 * dice.share()).to_le_bytes()),
            Kind::F32 => block.copy_from_slice(&even(scale, dice).to_le_bytes()),
            Kind::F16 => block.copy_from_slice(&half(even(scale, dice)).to_le_bytes()),
        }
        out.write_all(&block)?;
    }
    Ok(())
}

/// Even between plus and minus the root of three has a spread of one.
fn even(spread: f32, dice: &mut Dice) -> f32 {
    spread * 3_f32.sqrt() * (2.0 * dice.share() - 1.0)
}

/// The spread of even whole numbers from 0 to 15, and their mean.
const Q4_SPREAD: f32 = 4.609_772;
const Q4_MEAN: f32 = 7.5;
/// All eight parts of a block have this scale and this minimum, of 63.
const Q4_K_PART: f32 = 32.0;

/// 256 weights: a scale and a minimum in 16 bits, eight 6-bit scales and minima, 4-bit values.
fn q4_k(block: &mut [u8], spread: f32, dice: &mut Dice) {
    let scale = spread / (Q4_SPREAD * Q4_K_PART);
    block[..2].copy_from_slice(&half(scale).to_le_bytes());
    block[2..4].copy_from_slice(&half(scale * Q4_MEAN).to_le_bytes());
    // 32 eight times as scale and as minimum: six bits in the first bytes, with the upper two bits of
    // the last four parts above them; their lower four bits (none) in the last bytes.
    block[4..12].fill(0b1010_0000);
    block[12..16].fill(0);
    dice.fill(&mut block[16..]);
}

/// The spread of even whole numbers from -128 to 127.
const Q8_SPREAD: f32 = 73.9;

/// 32 weights: a scale in 16 bits and 8-bit values.
fn q8_0(block: &mut [u8], spread: f32, dice: &mut Dice) {
    block[..2].copy_from_slice(&half(spread / Q8_SPREAD).to_le_bytes());
    dice.fill(&mut block[2..]);
}

/// The IEEE 754 half that is nearest to a number of at most 65,504, whatever its sign.
pub(super) fn half(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let size = value.abs();
    // Below the smallest normal half, halves are as far apart as there.
    let exponent = (size.to_bits() >> 23) as i32 - 127;
    let step = exponent.max(-14) - 10;
    let fraction = (size * 2_f32.powi(-step)).round_ties_even() as u16;
    // A fraction that was rounded up to 2,048 carries into the exponent.
    sign | if exponent < -14 { fraction } else { (((exponent + 14) as u16) << 10) + fraction }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(half: u16) -> f32 {
        f32::from(1024 + (half & 0x3ff)) * 2_f32.powi(i32::from(half >> 10) - 25)
    }

    /// The layout as llama.cpp reads it.
    fn read_q4_k(block: &[u8]) -> Vec<f32> {
        let at = |from: usize| whole(u16::from_le_bytes([block[from], block[from + 1]]));
        let (scale, least, parts) = (at(0), at(2), &block[4..16]);
        let part = |j: usize| match j {
            0..4 => (parts[j] & 63, parts[j + 4] & 63),
            _ => ((parts[j + 4] & 15) | ((parts[j - 4] >> 6) << 4), (parts[j + 4] >> 4) | ((parts[j] >> 6) << 4)),
        };
        let mut values = Vec::new();
        for (pair, bytes) in block[16..].chunks(32).enumerate() {
            for (shift, j) in [(0, 2 * pair), (4, 2 * pair + 1)] {
                let (s, m) = part(j);
                values.extend(
                    bytes.iter().map(|b| scale * f32::from(s) * f32::from((b >> shift) & 15) - least * f32::from(m)),
                );
            }
        }
        values
    }

    fn spread(values: &[f32]) -> (f32, f32) {
        let n = values.len() as f32;
        let mean = values.iter().sum::<f32>() / n;
        (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / n).sqrt())
    }

    #[test]
    fn blocks_hold_values_around_zero_of_the_wanted_spread() {
        let mut dice = Dice(7);
        let (mut fours, mut eights) = (Vec::new(), Vec::new());
        for _ in 0..64 {
            let mut block = vec![0; Kind::Q4K.block_bytes() as usize];
            q4_k(&mut block, 0.02, &mut dice);
            fours.extend(read_q4_k(&block));
            let mut block = vec![0; Kind::Q8_0.block_bytes() as usize];
            q8_0(&mut block, 0.02, &mut dice);
            let scale = whole(u16::from_le_bytes([block[0], block[1]]));
            eights.extend(block[2..].iter().map(|byte| scale * f32::from(byte.cast_signed())));
        }
        assert_eq!((fours.len(), eights.len()), (64 * 256, 64 * 32));
        for values in [fours, eights] {
            let (mean, spread) = spread(&values);
            assert!(mean.abs() < 0.002 && (spread - 0.02).abs() < 0.001, "{mean} {spread}");
        }
    }

    #[test]
    fn halves_are_near_their_numbers() {
        for value in [0.5_f32, 0.001, 1.0, 3.75, 0.0001] {
            assert!((whole(half(value)) / value - 1.0).abs() < 0.001, "{value}");
        }
        assert!(whole(half(1e-9)) > 0.0);
    }

    #[test]
    fn a_vocabulary_is_read_widened_and_written() {
        let folder = std::env::temp_dir().join(format!("freehold-gguf-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("a.gguf");
        let words = [text("a"), text("b")].concat();
        let header = vec![
            ("general.name".to_string(), Value::text("x")),
            ("tokenizer.ggml.tokens".to_string(), Value::list(TEXT, 2, &words)),
            ("tokenizer.ggml.token_type".to_string(), Value::u32s(&[1, 3])),
            ("tokenizer.ggml.bos_token_id".to_string(), Value::u32(1)),
        ];
        let tensors = [Tensor::new("w", Kind::Q8_0, &[32, 3]), Tensor::new("n", Kind::Norm, &[5])];
        write(&file, &header, &tensors, 1).expect("written");
        let mut read = tokenizer(&file).expect("read");
        assert_eq!(read[..], header[1..]);
        widen(&mut read, 5).expect("wider");
        let (kind, count, items) = read[0].1.items().expect("a list");
        assert_eq!((kind, count), (TEXT, 5));
        assert!(String::from_utf8_lossy(items).contains("Ġzq2"));
        assert_eq!(read[1].1.items().map(|(_, count, items)| (count, items.len())), Some((5, 20)));
        assert!(widen(&mut read, 4).is_err(), "it can't shrink");
        let length = std::fs::metadata(&file).expect("there").len();
        assert_eq!(length % ALIGNMENT, 0);
        std::fs::write(&file, b"GGUF\x03\0\0\0").expect("cut");
        assert!(tokenizer(&file).is_err(), "a cut header is an error");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
