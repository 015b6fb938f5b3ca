//! Picture data as it lies in a PDF, put into a file of its own. Pure; nothing is unpacked.
//!
//! A PDF keeps the packed rows of a picture and says in a dictionary how to read them. TIFF and PNG keep the very
//! same packed rows behind a header, so a header is all that has to be made: what is packed stays packed, and a
//! picture that unpacks without end does so only in the program that recognises it.

/// How the samples of a pixel are coloured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Colours {
    /// 0 is black.
    Grey,
    /// 0 is white.
    GreyInverted,
    Rgb,
    Cmyk,
    /// Each number stands for a colour: red, green and blue, one byte each.
    Palette(Vec<u8>),
}

impl Colours {
    pub(super) fn samples(&self) -> u16 {
        match self {
            Colours::Grey | Colours::GreyInverted | Colours::Palette(_) => 1,
            Colours::Rgb => 3,
            Colours::Cmyk => 4,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Of one sample.
    pub(super) bits: u16,
    pub(super) colours: Colours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Deflate,
    /// Deflate over the differences of neighbours along a row.
    DeflateOfDifferences,
    /// Fax, group 4.
    Fax4,
    /// Fax, group 3. Whether lines refer to those before them.
    Fax3 {
        two_dimensional: bool,
    },
}

/// A TIFF file of one picture in one strip.
pub(super) fn tiff(header: &Header, packing: Packing, data: &[u8]) -> Vec<u8> {
    let Header { width, height, bits, colours } = header;
    let samples = colours.samples();
    let (compression, difference, fax) = match packing {
        Packing::Plain => (1, 1, None),
        Packing::Deflate => (8, 1, None),
        Packing::DeflateOfDifferences => (8, 2, None),
        Packing::Fax4 => (4, 1, Some((293, 0))),
        Packing::Fax3 { two_dimensional } => (3, 1, Some((292, u32::from(two_dimensional)))),
    };
    let photometric = match colours {
        Colours::GreyInverted => 0,
        Colours::Grey => 1,
        Colours::Rgb => 2,
        Colours::Palette(_) => 3,
        Colours::Cmyk => 5,
    };
    const HEAD_BYTES: u32 = 8;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    // Behind the head come values that are too long for an entry, then the picture, then the directory.
    let mut extra = Vec::new();
    let mut long_shorts = |values: &[u16]| -> u32 {
        let place = HEAD_BYTES + extra.len() as u32;
        extra.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        place
    };
    let bits_value = if samples == 1 { u32::from(*bits) } else { long_shorts(&vec![*bits; usize::from(samples)]) };
    let palette = match colours {
        Colours::Palette(table) => {
            let count = 1usize << bits;
            // All reds, then all greens, then all blues, in 16 bits.
            let part =
                |part: usize| table.iter().skip(part).step_by(3).copied().chain(std::iter::repeat(0)).take(count);
            let values: Vec<u16> = (0..3).flat_map(part).map(|value| u16::from(value) * 257).collect();
            Some((values.len() as u32, long_shorts(&values)))
        }
        _ => None,
    };
    let data_at = HEAD_BYTES + extra.len() as u32;
    let directory_at = (data_at + data.len() as u32).next_multiple_of(2);
    // In rising order of their numbers.
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, LONG, 1, *width),
        (257, LONG, 1, *height),
        (258, SHORT, u32::from(samples), bits_value),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, photometric),
        (273, LONG, 1, data_at),
        (277, SHORT, 1, u32::from(samples)),
        (278, LONG, 1, *height),
        (279, LONG, 1, data.len() as u32),
        (284, SHORT, 1, 1),
    ];
    entries.extend(fax.map(|(tag, options)| (tag, LONG, 1, options)));
    if difference != 1 {
        entries.push((317, SHORT, 1, difference));
    }
    entries.extend(palette.map(|(count, place)| (320, SHORT, count, place)));
    let mut file = b"II\x2a\0".to_vec();
    file.extend(directory_at.to_le_bytes());
    file.extend(extra);
    file.extend(data);
    file.resize(directory_at as usize, 0);
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    file
}

/// A PNG file around rows that are filtered and packed as PNG wants them; `None` for colours that it doesn't know.
pub(super) fn png(header: &Header, data: &[u8]) -> Option<Vec<u8>> {
    let colour_type = match header.colours {
        Colours::Grey => 0,
        Colours::Rgb if header.bits == 8 => 2,
        Colours::Palette(_) => 3,
        Colours::Rgb | Colours::GreyInverted | Colours::Cmyk => return None,
    };
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = [header.width.to_be_bytes(), header.height.to_be_bytes()].concat();
    head.extend([header.bits as u8, colour_type, 0, 0, 0]);
    chunk(&mut file, *b"IHDR", &head);
    if let Colours::Palette(table) = &header.colours {
        let most = 3usize << header.bits;
        chunk(&mut file, *b"PLTE", &table[..table.len().min(most) / 3 * 3]);
    }
    chunk(&mut file, *b"IDAT", data);
    chunk(&mut file, *b"IEND", &[]);
    Some(file)
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(data);
    let sum = crc(&file[start..]);
    file.extend(sum.to_be_bytes());
}

/// The check sum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut number = 0;
        while number < 256 {
            let mut value = number as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[number] = value;
            number += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::picture::{Picture, picture, sizes};

    #[test]
    fn the_check_sum_is_that_of_png() {
        assert_eq!(crc(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn files_say_the_size_that_they_were_given() {
        for colours in [
            Colours::Grey,
            Colours::GreyInverted,
            Colours::Rgb,
            Colours::Cmyk,
            Colours::Palette(vec![0, 0, 0, 255, 255, 255]),
        ] {
            let header = Header { width: 1_700, height: 2_200, bits: 8, colours };
            let file = tiff(&header, Packing::Deflate, b"odd");
            assert_eq!(picture(&file), Some(Picture::Tiff));
            assert_eq!(sizes(Picture::Tiff, &file).expect("it has one"), [(1_700, 2_200)]);
            if let Some(file) = png(&header, b"data") {
                assert_eq!(picture(&file), Some(Picture::Png));
                assert_eq!(sizes(Picture::Png, &file).expect("it has one"), [(1_700, 2_200)]);
            }
        }
    }
}
