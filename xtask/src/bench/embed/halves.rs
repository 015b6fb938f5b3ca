//! The starter embedder's file with its matrices as they were published, rounded to 16 bits, instead of in blocks of 8.

use crate::bench::gguf::{self, Lying, Value};
use crate::bench::shape::{Kind, Tensor};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// `general.file_type` of a file whose matrices are F16.
const MOSTLY_F16: u32 = 1;
const FLOAT_BYTES: u64 = 4;
/// Names of the engine and those of the published tensors.
const PARTS: [(&str, &str); 8] = [
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

/// Where a tensor's floats begin in the published file, and how many bytes they are.
type Places = BTreeMap<String, (u64, u64)>;

/// Writes `out` with the header and the floats of `model` and the matrices of the safetensors file `published`.
///
/// # Errors
/// When either holds something else, or the disk refuses.
pub(super) fn to_f16(model: &Path, published: &Path, out: &Path) -> Result<()> {
    let mut head = gguf::head(model)?;
    for (key, value) in &mut head.header {
        if key == "general.file_type" {
            *value = Value::u32(MOSTLY_F16);
        }
    }
    let tensors = head.tensors.iter().map(planned).collect::<Result<Vec<_>>>()?;
    let (mut file, mut source) = (File::open(model)?, File::open(published)?);
    let places = places(&mut source)?;
    let mut lying = head.tensors.iter();
    gguf::write_with(out, &head.header, &tensors, &mut |tensor, out| {
        let from = lying.next().context("as many as are planned")?;
        let bytes = tensor.elements() * FLOAT_BYTES;
        if tensor.kind == Kind::F16 {
            let (start, length) = *places.get(&published_name(&tensor.name)?).context("a matrix isn't published")?;
            if length != bytes {
                bail!("`{}` is published with {length} bytes and not {bytes}", tensor.name);
            }
            return narrowed(&read(&mut source, start, length)?, out);
        }
        Ok(out.write_all(&read(&mut file, head.data_start + from.offset, bytes)?)?)
    })
}

fn read(file: &mut File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length)?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes).context("the file is cut off")?;
    Ok(bytes)
}

fn planned(from: &Lying) -> Result<Tensor> {
    let kind = match from.kind {
        kind if kind == Kind::F32.number() => Kind::F32,
        kind if kind == Kind::Q8_0.number() => Kind::F16,
        other => bail!("`{}` is of type {other}", from.name),
    };
    Ok(Tensor::new(&from.name, kind, &from.shape))
}

/// The header of a safetensors file: its length, then JSON.
fn places(file: &mut File) -> Result<Places> {
    let length = u64::from_le_bytes(read(file, 0, 8)?.try_into().unwrap_or_default());
    let header: serde_json::Value = serde_json::from_slice(&read(file, 8, length)?)?;
    let tensors = header.as_object().context("safetensors begin with an object")?;
    let place = |about: &serde_json::Value| {
        let [start, end] = [0, 1].map(|at| about["data_offsets"][at].as_u64());
        (about["dtype"] == "F32").then_some((8 + length + start?, end?.checked_sub(start?)?))
    };
    Ok(tensors.iter().filter_map(|(name, about)| Some((name.clone(), place(about)?))).collect())
}

fn published_name(name: &str) -> Result<String> {
    if name == "token_embd.weight" {
        return Ok("embeddings.word_embeddings.weight".into());
    }
    let of_layer = || {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (part, end) = rest.split_once('.')?;
        let (_, published) = PARTS.iter().find(|(own, _)| *own == part)?;
        Some(format!("encoder.layer.{layer}.{published}.{end}"))
    };
    of_layer().with_context(|| format!("the matrix `{name}` is unknown"))
}

/// Floats in, halves out.
fn narrowed(floats: &[u8], out: &mut dyn Write) -> Result<()> {
    for bytes in floats.as_chunks::<4>().0 {
        out.write_all(&gguf::half(f32::from_le_bytes(*bytes)).to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_nearest() {
        for (value, bits) in [
            (0.0, 0),
            (1.0, 0x3c00),
            (-0.5, 0xb800),
            (65_504.0, 0x7bff),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 1),
            (-1.999_9, 0xc000),
            (0.1, 0x2e66),
        ] {
            assert_eq!(gguf::half(value), bits, "{value}");
        }
    }

    #[test]
    fn matrices_come_from_the_published_file_and_all_else_stays() {
        let folder = std::env::temp_dir().join(format!("freehold-halves-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (model, published, out) = (folder.join("a.gguf"), folder.join("a.safetensors"), folder.join("b.gguf"));
        let header =
            vec![("general.file_type".to_string(), Value::u32(7)), ("general.name".to_string(), Value::text("x"))];
        let tensors = [Tensor::new("blk.0.ffn_up.weight", Kind::Q8_0, &[32, 2]), Tensor::new("n", Kind::Norm, &[5])];
        gguf::write(&model, &header, &tensors, 1).expect("written");
        let about =
            r#"{"encoder.layer.0.intermediate.dense.weight":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]}}"#;
        let mut bytes = (about.len() as u64).to_le_bytes().to_vec();
        bytes.extend(about.as_bytes());
        bytes.extend(1.5_f32.to_le_bytes().repeat(64));
        std::fs::write(&published, bytes).expect("written");
        to_f16(&model, &published, &out).expect("both fit");
        let (before, after) = (gguf::head(&model).expect("read"), gguf::head(&out).expect("read"));
        assert_eq!((after.header[0].1.clone(), &after.header[1]), (Value::u32(MOSTLY_F16), &before.header[1]));
        let data = |path: &Path, head: &gguf::Head, at: usize, bytes: usize| {
            let start = usize::try_from(head.data_start + head.tensors[at].offset).expect("small");
            std::fs::read(path).expect("read")[start..start + bytes].to_vec()
        };
        assert_eq!(data(&out, &after, 0, 128), 0x3e00_u16.to_le_bytes().repeat(64));
        assert_eq!(data(&out, &after, 1, 20), data(&model, &before, 1, 20));
        assert!(published_name("blk.0.other.weight").is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
