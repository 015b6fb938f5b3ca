//! A model in several parts: cut here from the starter model, loaded by the worker from descriptors.

use crate::harness::{Worker, begin, load, model};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wire::{Attempt, Directive, Report};

const ALIGNMENT: usize = 32;

#[test]
fn a_model_in_two_parts_answers_like_the_whole_and_is_as_confined() {
    let folder = tempfile::tempdir().unwrap();
    let parts = cut_in_two(&model(), folder.path());
    let mut split = Worker::start();
    let open = |path: &PathBuf| -> OwnedFd { File::open(path).unwrap().into() };
    let ready = split.load(&load(), &parts.iter().map(open).collect::<Vec<_>>()).unwrap();
    assert!(ready.protection.seccomp && ready.protection.missing.is_empty(), "{:?}", ready.protection);
    let expected = Worker::ready().generate(begin(1, "Once upon a time", 12)).unwrap().text;
    assert_eq!(split.generate(begin(1, "Once upon a time", 12)).unwrap().text, expected);
    // The parts were within reach while the model was loaded, and no longer.
    for path in [parts[0].to_string_lossy().into_owned(), "/etc/passwd".into()] {
        split.send(&Directive::Probe { job: 5, attempt: Attempt::ReadFile(path.clone()) });
        let errno = split.find(|report| match report {
            Report::Probed { errno, .. } => Some(*errno),
            _ => None,
        });
        assert!([libc::EPERM, libc::EACCES].contains(&errno), "{path}: {errno}");
    }
}

#[test]
fn a_missing_part_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let parts = cut_in_two(&model(), folder.path());
    let mut worker = Worker::start();
    let fault = worker.load(&load(), &[File::open(&parts[0]).unwrap().into()]);
    assert!(matches!(fault, Err(wire::WireFault::LoadFailed(_))), "{fault:?}");
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.take(8).try_into().unwrap())).unwrap()
    }

    fn skip_string(&mut self) {
        let length = self.u64();
        self.take(length);
    }

    fn skip_value(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            4..=6 => drop(self.take(4)),
            10..=12 => drop(self.take(8)),
            8 => self.skip_string(),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip_value(kind));
            }
            other => panic!("value of kind {other}"),
        }
    }
}

struct Tensor {
    /// Name, shape and type, without the offset.
    head: Vec<u8>,
    offset: usize,
    bytes: usize,
}

/// Writes two files that together are the model, in the form that llama.cpp's own splitter makes.
fn cut_in_two(model: &Path, folder: &Path) -> [PathBuf; 2] {
    let bytes = std::fs::read(model).unwrap();
    let mut reader = Reader { bytes: &bytes, at: 8 };
    let (tensor_count, key_count) = (reader.u64(), reader.u64());
    let keys_from = reader.at;
    for _ in 0..key_count {
        reader.skip_string();
        let kind = reader.u32();
        reader.skip_value(kind);
    }
    let keys = &bytes[keys_from..reader.at];
    let mut tensors: Vec<Tensor> = Vec::new();
    for _ in 0..tensor_count {
        let from = reader.at;
        reader.skip_string();
        let dimensions = reader.u32() as usize;
        reader.take(dimensions * 8 + 4);
        let head = bytes[from..reader.at].to_vec();
        tensors.push(Tensor { head, offset: reader.u64(), bytes: 0 });
    }
    let data = &bytes[reader.at.next_multiple_of(ALIGNMENT)..];
    let mut ends: Vec<usize> = tensors.iter().map(|tensor| tensor.offset).chain([data.len()]).collect();
    ends.sort_unstable();
    for tensor in &mut tensors {
        let next = ends.iter().find(|&&end| end > tensor.offset).unwrap();
        tensor.bytes = next - tensor.offset;
    }
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let paths = [folder.join("a.gguf"), folder.join("b.gguf")];
    for (number, (part, path)) in (0_u16..).zip([first, second].into_iter().zip(&paths)) {
        // Only the first part repeats what the model says of itself.
        let (own_keys, own_count) = if number == 0 { (keys, key_count) } else { (&keys[..0], 0) };
        std::fs::write(path, part_file(number, tensor_count, own_keys, own_count, part, data)).unwrap();
    }
    paths
}

fn part_file(number: u16, all: usize, keys: &[u8], key_count: usize, tensors: &[Tensor], data: &[u8]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((key_count as u64 + 3).to_le_bytes());
    out.extend(keys);
    let mut key = |name: &str, kind: u32, value: &[u8]| {
        out.extend((name.len() as u64).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(value);
    };
    key("split.no", 2, &number.to_le_bytes());
    key("split.count", 2, &2_u16.to_le_bytes());
    key("split.tensors.count", 5, &i32::try_from(all).unwrap().to_le_bytes());
    let mut offset = 0_usize;
    for tensor in tensors {
        out.extend(&tensor.head);
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    for tensor in tensors {
        out.extend(&data[tensor.offset..tensor.offset + tensor.bytes]);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
    out
}
