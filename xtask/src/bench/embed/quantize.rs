//! The starter embedder's file with its 16-bit matrices as Q8_0: blocks of 32 whole numbers with a scale each.

use crate::bench::gguf::{self, Lying, Value};
use crate::bench::shape::{Kind, Tensor};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// ggml's numbers of types.
const F32: u32 = 0;
const F16: u32 = 1;
/// `general.file_type` of a file whose matrices are Q8_0.
const MOSTLY_Q8_0: u32 = 7;
const BLOCK: usize = 32;
const Q8_MAX: f32 = 127.0;

/// Writes `out` from `model`, whose tensors are F32 and F16.
///
/// # Errors
/// When `model` holds something else, or the disk refuses.
pub(super) fn to_q8_0(model: &Path, out: &Path) -> Result<()> {
    let mut head = gguf::head(model)?;
    for (key, value) in &mut head.header {
        if key == "general.file_type" {
            *value = Value::u32(MOSTLY_Q8_0);
        }
    }
    let tensors = head.tensors.iter().map(planned).collect::<Result<Vec<_>>>()?;
    let mut file = File::open(model)?;
    let mut lying = head.tensors.iter();
    gguf::write_with(out, &head.header, &tensors, &mut |tensor, out| {
        let from = lying.next().context("as many as are planned")?;
        let width = if from.kind == F16 { 2 } else { 4 };
        let mut bytes = vec![0; usize::try_from(tensor.elements())? * width];
        file.seek(SeekFrom::Start(head.data_start + from.offset))?;
        file.read_exact(&mut bytes).context("the file is cut off")?;
        match from.kind {
            F16 => blocks(&bytes, out),
            _ => Ok(out.write_all(&bytes)?),
        }
    })
}

fn planned(from: &Lying) -> Result<Tensor> {
    let kind = match from.kind {
        F32 => Kind::F32,
        F16 if from.shape.first().is_some_and(|row| row % BLOCK as u64 == 0) => Kind::Q8_0,
        other => bail!("`{}` is of type {other} and {:?} numbers", from.name, from.shape),
    };
    Ok(Tensor::new(&from.name, kind, &from.shape))
}

/// Halves in, blocks out.
fn blocks(halves: &[u8], out: &mut dyn Write) -> Result<()> {
    for block in halves.chunks_exact(2 * BLOCK) {
        let mut values = [0.0; BLOCK];
        for (value, half) in values.iter_mut().zip(block.as_chunks::<2>().0) {
            *value = whole(u16::from_le_bytes(*half));
        }
        out.write_all(&q8_0(&values))?;
    }
    Ok(())
}

/// The scale as a half, then the numbers, the largest of which is 127.
fn q8_0(values: &[f32; BLOCK]) -> [u8; 2 + BLOCK] {
    let largest = values.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / Q8_MAX;
    let mut block = [0; 2 + BLOCK];
    block[..2].copy_from_slice(&half(scale).to_le_bytes());
    for (byte, value) in block[2..].iter_mut().zip(values) {
        let number = if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
        *byte = number.cast_unsigned();
    }
    block
}

/// An IEEE 754 half as a float.
fn whole(half: u16) -> f32 {
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f32.powi(-24),
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    };
    if half >> 15 == 1 { -size } else { size }
}

/// The half that is nearest to a number from 0 to 65,504.
fn half(value: f32) -> u16 {
    // Below the smallest normal half, halves are as far apart as there.
    let exponent = (value.to_bits() >> 23) as i32 - 127;
    let step = exponent.max(-14) - 10;
    let fraction = (value * 2_f32.powi(-step)).round_ties_even() as u16;
    // A fraction that was rounded up to 2,048 carries into the exponent.
    if exponent < -14 { fraction } else { (((exponent + 14) as u16) << 10) + fraction }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_nearest() {
        for (value, bits) in [
            (0.0, 0),
            (1.0, 0x3c00),
            (0.5, 0x3800),
            (65_504.0, 0x7bff),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 1),
            (1.999_9, 0x4000),
            (0.1, 0x2e66),
        ] {
            assert_eq!(half(value), bits, "{value}");
        }
        for bits in 0..0x7c00 {
            assert_eq!(half(whole(bits)), bits);
            assert_eq!(whole(bits | 0x8000), -whole(bits));
        }
    }

    #[test]
    fn a_block_is_off_by_half_a_step_at_most() {
        let mut values = [0.0; BLOCK];
        assert_eq!(q8_0(&values), [0; 2 + BLOCK]);
        for (at, value) in values.iter_mut().enumerate() {
            *value = (at as f32 - 20.0) * 0.013;
        }
        let block = q8_0(&values);
        let scale = whole(u16::from_le_bytes([block[0], block[1]]));
        assert!((scale - 0.26 / 127.0).abs() < 1e-6);
        for (value, byte) in values.iter().zip(&block[2..]) {
            let back = scale * f32::from(byte.cast_signed());
            assert!((value - back).abs() <= 0.51 * scale, "{value} {back}");
        }
        assert_eq!(block[2].cast_signed(), -127);
    }

    #[test]
    fn a_file_is_written_in_the_other_form() {
        let folder = std::env::temp_dir().join(format!("freehold-quantize-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (first, other) = (folder.join("a.gguf"), folder.join("b.gguf"));
        let header =
            vec![("general.file_type".to_string(), Value::u32(0)), ("general.name".to_string(), Value::text("x"))];
        // Two floats are as many bytes as four halves.
        let tensors = [Tensor::new("w", Kind::F32, &[32, 2]), Tensor::new("n", Kind::Norm, &[5])];
        gguf::write(&first, &header, &tensors, 1).expect("written");
        to_q8_0(&first, &other).expect("floats stay");
        let (before, after) = (gguf::head(&first).expect("read"), gguf::head(&other).expect("read"));
        assert_eq!(before.header[1], after.header[1]);
        assert_eq!(after.header[0].1, Value::u32(MOSTLY_Q8_0));
        let data = |path: &Path, head: &gguf::Head| {
            std::fs::read(path).expect("read")[usize::try_from(head.data_start).expect("small")..].to_vec()
        };
        assert_eq!(data(&first, &before), data(&other, &after));

        let lying = Lying { name: "w".into(), shape: vec![33], kind: F16, offset: 0 };
        assert!(planned(&lying).is_err(), "no whole blocks");
        assert_eq!(planned(&Lying { shape: vec![64, 2], ..lying }).expect("blocks").kind, Kind::Q8_0);
        let mut out = Vec::new();
        blocks(&[0x00, 0x3c].repeat(64), &mut out).expect("written");
        assert_eq!(out.len(), 2 * (2 + BLOCK));
        assert!(out[2..34].iter().all(|byte| *byte == 127));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
