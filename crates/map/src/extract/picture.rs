//! How large pictures are, by their headers alone. Pure: bounds-checked reading, no pixel is looked at.
//!
//! A small file can claim any size, and whoever unpacks it pays for that. So the claim is read first.

use super::{Refused, Why};

/// LIMIT: pixels of one picture that is recognised, and pixels along one side.
pub(crate) const PIXELS_MAX: u64 = 100_000_000;
pub(crate) const SIDE_PIXELS_MAX: u32 = 32_767;
/// LIMIT: pictures of one file: pages of a TIFF or of a scanned PDF.
pub(crate) const PAGES_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picture {
    Png,
    Jpeg,
    Tiff,
    Webp,
    Bmp,
}

/// Width and height in pixels.
pub(crate) type Size = (u32, u32);

/// What a file's first bytes say that it is.
pub(crate) fn picture(bytes: &[u8]) -> Option<Picture> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Picture::Png),
        [0xff, 0xd8, 0xff, ..] => Some(Picture::Jpeg),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(Picture::Tiff),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Picture::Webp),
        // Two letters are no proof; the reserved field and a known header length make one.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, _, _, _, _, 12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..] => {
            Some(Picture::Bmp)
        }
        _ => None,
    }
}

/// The size of each picture in a file, in order: one, but for a TIFF.
pub(crate) fn sizes(picture: Picture, bytes: &[u8]) -> Result<Vec<Size>, Refused> {
    let sizes = match picture {
        Picture::Png => png(bytes).map(|size| vec![size]),
        Picture::Jpeg => jpeg(bytes).map(|size| vec![size]),
        Picture::Webp => webp(bytes).map(|size| vec![size]),
        Picture::Bmp => bmp(bytes).map(|size| vec![size]),
        Picture::Tiff => tiff(bytes),
    };
    let sizes = sizes.filter(|sizes| !sizes.is_empty());
    let sizes = sizes.ok_or_else(|| Refused::broken("its header doesn't say how large the picture is"))?;
    if sizes.len() > PAGES_MAX {
        return Err(Refused {
            why: Why::TooLarge,
            message: format!("it holds more than {PAGES_MAX} pictures, the most that are recognised of one file"),
        });
    }
    match sizes.iter().find_map(|size| too_large(*size)) {
        Some(message) => Err(Refused { why: Why::TooLarge, message }),
        None => Ok(sizes),
    }
}

/// A sentence part about a picture that is too large to be recognised.
pub(crate) fn too_large((width, height): Size) -> Option<String> {
    let fits = width > 0
        && height > 0
        && width.max(height) <= SIDE_PIXELS_MAX
        && u64::from(width) * u64::from(height) <= PIXELS_MAX;
    (!fits).then(|| {
        let most = PIXELS_MAX / 1_000_000;
        format!("it has {width} x {height} pixels; up to {most} million and {SIDE_PIXELS_MAX} on a side are recognised")
    })
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

fn png(bytes: &[u8]) -> Option<Size> {
    if at(bytes, 12)? != *b"IHDR" {
        return None;
    }
    Some((u32::from_be_bytes(at(bytes, 16)?), u32::from_be_bytes(at(bytes, 20)?)))
}

/// The first frame header says it; segments before it are skipped by their lengths.
pub(crate) fn jpeg(bytes: &[u8]) -> Option<Size> {
    let mut from = 2;
    loop {
        let [mark, kind] = at(bytes, from)?;
        match (mark, kind) {
            (0xff, 0xff) => from += 1,
            // Frame headers, but for the three among them that are something else.
            (0xff, 0xc0..=0xcf) if ![0xc4, 0xc8, 0xcc].contains(&kind) => {
                let [a, b, c, d] = at(bytes, from + 5)?;
                return Some((u16::from_be_bytes([c, d]).into(), u16::from_be_bytes([a, b]).into()));
            }
            // Marks without a length.
            (0xff, 0x01 | 0xd0..=0xd8) => from += 2,
            // Pixels or the end, before any frame.
            (0xff, 0xd9 | 0xda) => return None,
            (0xff, _) => from += 2 + usize::from(u16::from_be_bytes(at(bytes, from + 2)?)).max(2),
            _ => return None,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<Size> {
    match &at(bytes, 12)? {
        b"VP8 " => {
            let [a, b, c, d] = at(bytes, 26)?;
            Some(((u16::from_le_bytes([a, b]) & 0x3fff).into(), (u16::from_le_bytes([c, d]) & 0x3fff).into()))
        }
        b"VP8L" => {
            let packed = u32::from_le_bytes(at(bytes, 21)?);
            Some(((packed & 0x3fff) + 1, ((packed >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [a, b, c, d, e, f] = at(bytes, 24)?;
            Some((u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1))
        }
        _ => None,
    }
}

fn bmp(bytes: &[u8]) -> Option<Size> {
    if at(bytes, 14)? == 12u32.to_le_bytes() {
        return Some((u16::from_le_bytes(at(bytes, 18)?).into(), u16::from_le_bytes(at(bytes, 20)?).into()));
    }
    // A height below zero means that the upper row comes first.
    let (width, height) = (i32::from_le_bytes(at(bytes, 18)?), i32::from_le_bytes(at(bytes, 22)?));
    Some((width.unsigned_abs(), height.unsigned_abs()))
}

/// One size for each directory, in the order of their chain. A chain that leads back or out of the file ends there.
fn tiff(bytes: &[u8]) -> Option<Vec<Size>> {
    let little = bytes.first() == Some(&b'I');
    let short =
        |from| at(bytes, from).map(|raw| if little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) });
    let long = |from| at(bytes, from).map(|raw| if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) });
    const WIDTH: u16 = 256;
    const HEIGHT: u16 = 257;
    const ENTRY_BYTES: usize = 12;
    let (mut sizes, mut directory, mut seen) = (Vec::new(), long(4)? as usize, Vec::new());
    while directory != 0 && sizes.len() <= PAGES_MAX && !seen.contains(&directory) {
        seen.push(directory);
        let Some(entries) = short(directory) else { break };
        let (mut width, mut height) = (0, 0);
        for entry in (0..usize::from(entries)).map(|number| directory + 2 + number * ENTRY_BYTES) {
            let (Some(tag), Some(kind)) = (short(entry), short(entry + 2)) else { break };
            // Type 3 is a short number, 4 a long one.
            let value = if kind == 3 { short(entry + 8).map(u32::from) } else { long(entry + 8) };
            match tag {
                WIDTH => width = value.unwrap_or(0),
                HEIGHT => height = value.unwrap_or(0),
                _ => {}
            }
        }
        sizes.push((width, height));
        directory = long(directory + 2 + usize::from(entries) * ENTRY_BYTES).unwrap_or(0) as usize;
    }
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(bytes: &[u8]) -> Vec<Size> {
        sizes(picture(bytes).expect("it is a picture"), bytes).expect("it has a size")
    }

    #[test]
    fn each_header_says_its_size() {
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 2, 0, 0, 0, 1, 0, 8, 0]].concat();
        assert_eq!(size(&png), [(512, 256)]);
        let jpeg = [
            b"\xff\xd8\xff\xe0\x00\x04ab".as_slice(),
            b"\xff\xff\xc4\x00\x03x\xff\xc2\x00\x0b\x08\x01\x00\x02\x00\x01",
        ]
        .concat();
        assert_eq!(size(&jpeg), [(512, 256)]);
        let webp = |kind: &[u8], rest: &[u8]| [b"RIFF\x30\0\0\0WEBP".as_slice(), kind, b"\x20\0\0\0", rest].concat();
        assert_eq!(size(&webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\x00\x02\x00\x01")), [(512, 256)]);
        assert_eq!(size(&webp(b"VP8L", &[0x2f, 0xff, 0xc1, 0x3f, 0])), [(512, 256)]);
        assert_eq!(size(&webp(b"VP8X", &[0, 0, 0, 0, 0xff, 1, 0, 0xff, 0, 0])), [(512, 256)]);
        let bmp =
            [b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".as_slice(), &512i32.to_le_bytes(), &(-256i32).to_le_bytes()]
                .concat();
        assert_eq!(size(&bmp), [(512, 256)]);
        let page = |next: u32| {
            let mut directory = vec![2, 0];
            directory.extend([0, 1, 3, 0, 1, 0, 0, 0, 0, 2, 0, 0]);
            directory.extend([1, 1, 4, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
            directory.extend(next.to_le_bytes());
            directory
        };
        // The second page leads back to the first.
        let tiff = [b"II\x2a\0\x08\0\0\0".to_vec(), page(38), page(8)].concat();
        assert_eq!(size(&tiff), [(512, 256), (512, 256)]);
    }

    #[test]
    fn what_is_too_large_is_refused_with_its_numbers() {
        let png = |width: u32, height: u32| {
            [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes()].concat()
        };
        assert!(sizes(Picture::Png, &png(10_000, 10_000)).is_ok());
        for (width, height) in [(10_000, 10_001), (32_768, 1), (u32::MAX, u32::MAX), (0, 5)] {
            let refused = sizes(Picture::Png, &png(width, height)).expect_err("it is too large");
            assert_eq!(refused.why, Why::TooLarge);
            assert!(refused.message.contains(&format!("{width} x {height}")), "{refused:?}");
        }
        assert!(sizes(Picture::Jpeg, b"\xff\xd8\xff\xda").is_err());
        assert_eq!(picture(b"BMW is a make of cars"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(start in 0..6usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let starts = [
                b"II\x2a\0\x08\0\0\0".as_slice(),
                b"MM\0\x2a\0\0\0\x08",
                b"\xff\xd8\xff",
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
                b"RIFF\0\0\0\0WEBPVP8X",
                b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
            ];
            let bytes = [starts[start], &bytes].concat();
            if let Some(picture) = picture(&bytes)
                && let Ok(sizes) = sizes(picture, &bytes)
            {
                prop_assert!(sizes.iter().all(|size| too_large(*size).is_none()));
            }
        }
    }
}
