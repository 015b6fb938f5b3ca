//! The pictures that a page of a PDF draws, taken out as files: what a scanner made of the page.
//!
//! Nothing is unpacked here. What can't be taken out is told with the reason.

use super::container::{Colours, Header, Packing, png, tiff};
use super::picture::{self, Size};
use super::{Refused, Why};
use crate::document::{Document, Unit};
use pdf_extract::content::{Content, Operation};
use pdf_extract::{Dictionary, Document as Pdf, Object, ObjectId, Stream};
use serde::{Deserialize, Serialize};

/// A document of which some pages have to be recognised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scanned {
    /// What has text already; it may be without any.
    pub(crate) document: Document,
    /// In the order of the pages.
    pub(crate) scans: Vec<Scan>,
    pub(crate) pages: u32,
}

/// One picture to recognise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scan {
    /// From 1.
    pub(crate) page: u32,
    /// The picture as a file of its own; `None`: the document is that file.
    pub(crate) file: Option<Vec<u8>>,
    /// Which picture of a file that holds several, from 0.
    pub(crate) frame: u32,
    pub(crate) size: Size,
    /// Where its upper left corner, its width and its height lie on the page: across right and down, then down right
    /// and down, then the corner.
    pub(crate) lies: [f64; 6],
    /// Pixels per inch, where the page says how large it is.
    pub(crate) dpi: Option<u32>,
}

impl Scanned {
    /// Whether it can be true. The child that said it isn't trusted.
    ///
    /// # Errors
    /// A sentence part that says what is wrong.
    pub(crate) fn check(&self, source_bytes: usize) -> Result<(), &'static str> {
        self.document.check(source_bytes)?;
        if self.document.format.unit() != Some(Unit::Page) {
            return Err("its format has no pages");
        }
        let whole = |scan: &Scan| {
            (1..=self.pages).contains(&scan.page)
                && scan.lies.iter().all(|number| number.is_finite())
                && picture::too_large(scan.size).is_none()
        };
        if self.scans.len() > picture::PAGES_MAX || !self.scans.iter().all(whole) {
            return Err("a picture lies on no page");
        }
        if !self.scans.is_sorted_by_key(|scan| scan.page) {
            return Err("its pages are out of order");
        }
        Ok(())
    }
}

impl Scan {
    /// Where a rectangle of its pixels lies on the page, in whole points (pixels, where the page is the picture),
    /// rounded outwards.
    pub(crate) fn area(&self, [left, top, right, bottom]: [u32; 4]) -> [u32; 4] {
        let [across_x, across_y, down_x, down_y, x, y] = self.lies;
        let (width, height) = (f64::from(self.size.0.max(1)), f64::from(self.size.1.max(1)));
        let corners = [(left, top), (right, top), (left, bottom), (right, bottom)].map(|(column, row)| {
            let (across, down) = (f64::from(column) / width, f64::from(row) / height);
            (across_x * across + down_x * down + x, across_y * across + down_y * down + y)
        });
        let least = |pick: fn(&(f64, f64)) -> f64| corners.iter().map(pick).fold(f64::INFINITY, f64::min);
        let most = |pick: fn(&(f64, f64)) -> f64| corners.iter().map(pick).fold(f64::NEG_INFINITY, f64::max);
        // A float beyond the range of integers becomes the nearest one; a hair's breadth of rounding is none.
        const HAIR: f64 = 1e-6;
        let outwards = |low: f64, high: f64| ((low + HAIR).floor() as u32, (high - HAIR).ceil() as u32);
        let (left, right) = outwards(least(|corner| corner.0), most(|corner| corner.0));
        let (top, bottom) = outwards(least(|corner| corner.1), most(|corner| corner.1));
        [left, top, right, bottom]
    }
}

/// A file that is a picture: its pages are its pictures, and its points their pixels.
pub(super) fn whole(kind: picture::Picture, bytes: &[u8], document: Document) -> Result<Scanned, Refused> {
    let sizes = picture::sizes(kind, bytes)?;
    /// Words need more than this.
    const SIDE_PIXELS_MIN: u32 = 24;
    if let [(width, height)] = sizes[..]
        && width.min(height) < SIDE_PIXELS_MIN
    {
        let message = format!("its {width} x {height} pixels are too few for words");
        return Err(Refused { why: Why::Empty, message });
    }
    let scan = |(frame, size): (usize, &Size)| Scan {
        page: frame as u32 + 1,
        file: None,
        frame: frame as u32,
        size: *size,
        lies: [f64::from(size.0), 0.0, 0.0, f64::from(size.1), 0.0, 0.0],
        dpi: None,
    };
    let scans: Vec<Scan> = sizes.iter().enumerate().map(scan).collect();
    Ok(Scanned { document, pages: scans.len() as u32, scans })
}

/// The visible part of a page, in the PDF's own numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sheet {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// LIMIT: pictures that one page may draw, and forms that it draws them through.
const DRAWN_MAX: usize = 256;
const FORMS_MAX: usize = 64;
const FORM_DEPTH_MAX: usize = 4;
/// A picture that covers so much of a page is the page; smaller ones are read beside each other from here on.
const WHOLE_SHARE: f64 = 0.5;
const PART_SHARE: f64 = 0.02;
const PARTS_MAX: usize = 16;

/// The pictures of a page without text. None at all is a blank page.
///
/// # Errors
/// A sentence part that says why its picture can't be taken out.
pub(super) fn of_page(pdf: &Pdf, id: ObjectId, page: u32, sheet: Sheet) -> Result<Vec<Scan>, String> {
    let mut walk = Walk { pdf, drawn: Vec::new(), inline: false, forms: 0 };
    walk.page(id);
    let share = |drawn: &Drawn<'_>| drawn.area() / (sheet.width * sheet.height).abs().max(1.0);
    let pixels = |drawn: &Drawn<'_>| drawn.size.map_or(0, |(width, height)| u64::from(width) * u64::from(height));
    let (whole, mut parts): (Vec<_>, Vec<_>) = walk.drawn.into_iter().partition(|drawn| share(drawn) >= WHOLE_SHARE);
    if let Some(best) = whole.iter().max_by_key(|drawn| pixels(drawn)) {
        return best.taken(pdf, page, sheet).map(|scan| vec![scan]);
    }
    parts.retain(|drawn| share(drawn) >= PART_SHARE);
    if parts.len() > PARTS_MAX {
        return Err(format!("it is made of {} pictures; up to {PARTS_MAX} are read beside each other", parts.len()));
    }
    if parts.is_empty() && walk.inline {
        return Err("its picture stands within its drawing, and isn't taken out of that".into());
    }
    // From top to bottom.
    parts.sort_by(|a, b| b.matrix[5].total_cmp(&a.matrix[5]));
    parts.iter().map(|drawn| drawn.taken(pdf, page, sheet)).collect()
}

/// A picture with the place where it is drawn.
struct Drawn<'a> {
    stream: &'a Stream,
    size: Option<Size>,
    /// From the unit square to the page.
    matrix: Matrix,
}

type Matrix = [f64; 6];

/// First `a`, then `b`.
fn then(a: Matrix, b: Matrix) -> Matrix {
    [
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    ]
}

fn matrix(objects: &[Object]) -> Option<Matrix> {
    let numbers: Vec<f64> = objects.iter().filter_map(|object| object.as_float().ok().map(f64::from)).collect();
    numbers.try_into().ok()
}

struct Walk<'a> {
    pdf: &'a Pdf,
    drawn: Vec<Drawn<'a>>,
    /// A picture stands within the drawing orders.
    inline: bool,
    forms: usize,
}

impl<'a> Walk<'a> {
    fn page(&mut self, id: ObjectId) {
        let Ok(dictionary) = self.pdf.get_dictionary(id) else { return };
        let Some(resources) = inherited(self.pdf, dictionary, b"Resources").and_then(|found| found.as_dict().ok())
        else {
            return;
        };
        let Ok(content) = self.pdf.get_and_decode_page_content(id) else { return };
        self.orders(&content.operations, resources, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 0);
    }

    fn orders(&mut self, orders: &[Operation], resources: &'a Dictionary, start: Matrix, depth: usize) {
        /// LIMIT: states that may be put aside.
        const STATES_MAX: usize = 256;
        let (mut now, mut aside) = (start, Vec::new());
        for order in orders {
            match order.operator.as_str() {
                "q" if aside.len() < STATES_MAX => aside.push(now),
                "Q" => now = aside.pop().unwrap_or(start),
                "cm" => now = matrix(&order.operands).map_or(now, |matrix| then(matrix, now)),
                "BI" => self.inline = true,
                "Do" if self.drawn.len() < DRAWN_MAX => {
                    let name = order.operands.first().and_then(|name| name.as_name().ok());
                    if let Some(stream) = name.and_then(|name| drawable(self.pdf, resources, name)) {
                        self.one(stream, resources, now, depth);
                    }
                }
                _ => {}
            }
        }
    }

    fn one(&mut self, stream: &'a Stream, resources: &'a Dictionary, now: Matrix, depth: usize) {
        match name_of(self.pdf, &stream.dict, b"Subtype") {
            Some(b"Image") => {
                self.drawn.push(Drawn { stream, size: size(self.pdf, &stream.dict), matrix: now });
            }
            Some(b"Form") if depth < FORM_DEPTH_MAX && self.forms < FORMS_MAX => {
                self.forms += 1;
                let own = object(self.pdf, &stream.dict, b"Matrix").and_then(|found| matrix(found.as_array().ok()?));
                let now = own.map_or(now, |own| then(own, now));
                let resources = object(self.pdf, &stream.dict, b"Resources")
                    .and_then(|found| found.as_dict().ok())
                    .unwrap_or(resources);
                if let Ok(content) = stream.get_plain_content().and_then(|plain| Content::decode(&plain)) {
                    self.orders(&content.operations, resources, now, depth + 1);
                }
            }
            _ => {}
        }
    }
}

fn object<'a>(pdf: &'a Pdf, dictionary: &'a Dictionary, key: &[u8]) -> Option<&'a Object> {
    dictionary.get_deref(key, pdf).ok()
}

fn name_of<'a>(pdf: &'a Pdf, dictionary: &'a Dictionary, key: &[u8]) -> Option<&'a [u8]> {
    object(pdf, dictionary, key)?.as_name().ok()
}

fn number(pdf: &Pdf, dictionary: &Dictionary, key: &[u8]) -> Option<i64> {
    object(pdf, dictionary, key)?.as_i64().ok()
}

fn flag(pdf: &Pdf, dictionary: &Dictionary, key: &[u8]) -> bool {
    object(pdf, dictionary, key).and_then(|found| found.as_bool().ok()).unwrap_or(false)
}

/// What a page says itself, or else the nodes above it.
fn inherited<'a>(pdf: &'a Pdf, page: &'a Dictionary, key: &[u8]) -> Option<&'a Object> {
    /// LIMIT: nodes above a page.
    const NODES_MAX: usize = 64;
    let mut node = page;
    for _ in 0..NODES_MAX {
        if let Some(found) = object(pdf, node, key) {
            return Some(found);
        }
        node = object(pdf, node, b"Parent")?.as_dict().ok()?;
    }
    None
}

fn drawable<'a>(pdf: &'a Pdf, resources: &'a Dictionary, name: &[u8]) -> Option<&'a Stream> {
    object(pdf, object(pdf, resources, b"XObject")?.as_dict().ok()?, name)?.as_stream().ok()
}

fn size(pdf: &Pdf, dictionary: &Dictionary) -> Option<Size> {
    let side = |key: &[u8]| number(pdf, dictionary, key).and_then(|side| u32::try_from(side).ok());
    Some((side(b"Width")?, side(b"Height")?))
}

impl Drawn<'_> {
    fn area(&self) -> f64 {
        let [a, b, c, d, ..] = self.matrix;
        let area = (a * d - b * c).abs();
        if area.is_finite() { area } else { 0.0 }
    }

    fn taken(&self, pdf: &Pdf, page: u32, sheet: Sheet) -> Result<Scan, String> {
        let (file, size) = self.file(pdf)?;
        if let Some(message) = picture::too_large(size) {
            return Err(message);
        }
        // A picture's first row is its upper one, and a page's numbers rise upwards.
        let [a, b, c, d, e, f] = self.matrix;
        let lies = [a, -b, -c, d, c + e - sheet.left, sheet.top - d - f];
        const POINTS_PER_INCH: f64 = 72.0;
        let dpi = f64::from(size.0) * POINTS_PER_INCH / a.hypot(b);
        // Those that a program believes.
        let dpi = (70.0..=2_400.0).contains(&dpi).then_some(dpi as u32);
        Ok(Scan { page, file: Some(file), frame: 0, size, lies, dpi })
    }

    fn file(&self, pdf: &Pdf) -> Result<(Vec<u8>, Size), String> {
        let Stream { dict, content, .. } = self.stream;
        let size = self.size.ok_or("its picture has no size")?;
        let filters = self.filters(pdf);
        let parameters = self.parameters(pdf);
        let parameter = |key: &[u8]| parameters.and_then(|parameters| number(pdf, parameters, key));
        let header = || -> Result<Header, String> {
            let bits =
                if flag(pdf, dict, b"ImageMask") { 1 } else { number(pdf, dict, b"BitsPerComponent").unwrap_or(8) };
            if ![1, 2, 4, 8].contains(&bits) {
                return Err(format!("its picture has {bits} bits for a colour, and up to 8 are taken out"));
            }
            Ok(Header { width: size.0, height: size.1, bits: bits as u16, colours: colours(pdf, dict, bits as u16)? })
        };
        let file = match filters.as_slice() {
            [] => tiff(&header()?, Packing::Plain, content),
            [b"DCTDecode" | b"DCT"] => {
                let size = picture::jpeg(content).ok_or("its picture is no whole JPEG")?;
                return Ok((content.clone(), size));
            }
            [b"FlateDecode" | b"Fl"] => {
                let header = header()?;
                let rows = Rows {
                    predictor: parameter(b"Predictor").unwrap_or(1),
                    as_the_picture: parameter(b"Columns").unwrap_or(1) == i64::from(size.0)
                        && parameter(b"Colors").unwrap_or(1) == i64::from(header.colours.samples())
                        && parameter(b"BitsPerComponent").unwrap_or(8) == i64::from(header.bits),
                };
                deflated(header, rows, content)?
            }
            [b"CCITTFaxDecode" | b"CCF"] => {
                let fax = Fax {
                    k: parameter(b"K").unwrap_or(0),
                    columns: parameter(b"Columns").unwrap_or(1_728),
                    black_is_1: parameters.is_some_and(|parameters| flag(pdf, parameters, b"BlackIs1")),
                    aligned: parameters.is_some_and(|parameters| flag(pdf, parameters, b"EncodedByteAlign")),
                };
                faxed(header()?, &fax, content)?
            }
            others => {
                let names: Vec<_> = others.iter().map(|name| String::from_utf8_lossy(name)).collect();
                return Err(format!("its picture is packed as {}, which isn't taken out", names.join(" in ")));
            }
        };
        Ok((file, size))
    }

    fn filters<'s>(&'s self, pdf: &'s Pdf) -> Vec<&'s [u8]> {
        match object(pdf, &self.stream.dict, b"Filter") {
            Some(Object::Name(name)) => vec![name.as_slice()],
            Some(Object::Array(names)) => {
                names.iter().filter_map(|name| pdf.dereference(name).ok()?.1.as_name().ok()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Of its only filter.
    fn parameters<'s>(&'s self, pdf: &'s Pdf) -> Option<&'s Dictionary> {
        match object(pdf, &self.stream.dict, b"DecodeParms")? {
            Object::Dictionary(dictionary) => Some(dictionary),
            Object::Array(all) => pdf.dereference(all.first()?).ok()?.1.as_dict().ok(),
            _ => None,
        }
    }
}

/// How the rows of a picture were made ready to be packed.
struct Rows {
    predictor: i64,
    /// They are as long as the picture's rows; a predictor without that makes no sense.
    as_the_picture: bool,
}

fn deflated(mut header: Header, rows: Rows, content: &[u8]) -> Result<Vec<u8>, String> {
    const NONE: i64 = 1;
    const DIFFERENCES: i64 = 2;
    const PNG_FIRST: i64 = 10;
    if rows.predictor != NONE && !rows.as_the_picture {
        return Err("its picture's rows aren't as long as it says".into());
    }
    match rows.predictor {
        NONE => Ok(tiff(&header, Packing::Deflate, content)),
        DIFFERENCES if header.bits == 8 => Ok(tiff(&header, Packing::DeflateOfDifferences, content)),
        PNG_FIRST.. => {
            if header.colours == Colours::GreyInverted {
                // PNG knows no such grey, but any list of colours.
                let most = (1u32 << header.bits) - 1;
                let shade = |number: u32| (255 - number * 255 / most) as u8;
                header.colours = Colours::Palette((0..=most).flat_map(|number| [shade(number); 3]).collect());
            }
            png(&header, content).ok_or_else(|| "its picture has colours for print, which PNG doesn't know".into())
        }
        other => Err(format!("its picture's rows are predicted by way {other}, which isn't taken out")),
    }
}

struct Fax {
    k: i64,
    columns: i64,
    black_is_1: bool,
    aligned: bool,
}

fn faxed(mut header: Header, fax: &Fax, content: &[u8]) -> Result<Vec<u8>, String> {
    if fax.columns != i64::from(header.width) || header.bits != 1 || fax.aligned {
        return Err("its picture is a fax of a kind that isn't taken out".into());
    }
    // A fax packs black and white; a PDF calls black 0 unless told otherwise, a TIFF calls it 1.
    header.colours = match (&header.colours, fax.black_is_1) {
        (Colours::Grey, false) | (Colours::GreyInverted, true) => Colours::GreyInverted,
        (Colours::Grey, true) | (Colours::GreyInverted, false) => Colours::Grey,
        _ => return Err("its picture is a fax with colours, which isn't taken out".into()),
    };
    let packing = match fax.k {
        ..0 => Packing::Fax4,
        k => Packing::Fax3 { two_dimensional: k > 0 },
    };
    Ok(tiff(&header, packing, content))
}

fn colours(pdf: &Pdf, dict: &Dictionary, bits: u16) -> Result<Colours, String> {
    let decode = object(pdf, dict, b"Decode").and_then(|found| found.as_array().ok());
    let inverted = decode.and_then(|range| range.first()?.as_float().ok()).is_some_and(|first| first > 0.5);
    let grey = if inverted { Colours::GreyInverted } else { Colours::Grey };
    if flag(pdf, dict, b"ImageMask") {
        return Ok(grey);
    }
    let space = object(pdf, dict, b"ColorSpace").ok_or("its picture doesn't say what its colours are")?;
    match base(pdf, space) {
        Some(Colours::Grey) => return Ok(grey),
        Some(colours) => return Ok(colours),
        None => {}
    }
    indexed(pdf, space, bits).ok_or_else(|| "its picture has colours that aren't taken out".into())
}

/// Colours that are made of samples.
fn base(pdf: &Pdf, space: &Object) -> Option<Colours> {
    let (name, rest) = match space {
        Object::Name(name) => (name.as_slice(), None),
        Object::Array(parts) => (parts.first()?.as_name().ok()?, parts.get(1)),
        _ => return None,
    };
    match name {
        b"DeviceGray" | b"CalGray" | b"G" => Some(Colours::Grey),
        b"DeviceRGB" | b"CalRGB" | b"RGB" => Some(Colours::Rgb),
        b"DeviceCMYK" | b"CMYK" => Some(Colours::Cmyk),
        b"ICCBased" => match number(pdf, &pdf.dereference(rest?).ok()?.1.as_stream().ok()?.dict, b"N")? {
            1 => Some(Colours::Grey),
            3 => Some(Colours::Rgb),
            4 => Some(Colours::Cmyk),
            _ => None,
        },
        _ => None,
    }
}

/// Numbers that stand for colours.
fn indexed(pdf: &Pdf, space: &Object, bits: u16) -> Option<Colours> {
    let [name, of, _highest, table] = space.as_array().ok()?.as_slice() else { return None };
    if !matches!(name.as_name(), Ok(b"Indexed" | b"I")) {
        return None;
    }
    let table = match pdf.dereference(table).ok()?.1 {
        Object::String(bytes, _) => bytes.clone(),
        Object::Stream(stream) => stream.get_plain_content().ok()?,
        _ => return None,
    };
    let most = 1usize << bits;
    let colours = match base(pdf, pdf.dereference(of).ok()?.1)? {
        Colours::Grey => table.iter().take(most).flat_map(|shade| [*shade; 3]).collect(),
        Colours::Rgb => table.into_iter().take(most * 3).collect(),
        _ => return None,
    };
    Some(Colours::Palette(colours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_lie_where_the_picture_is_drawn() {
        let scan = |lies, size| Scan { page: 1, file: None, frame: 0, size, lies, dpi: None };
        // A page of 600 x 800 points, scanned with 1200 x 1600 pixels.
        let plain = scan([600.0, 0.0, 0.0, 800.0, 0.0, 0.0], (1_200, 1_600));
        assert_eq!(plain.area([100, 200, 301, 260]), [50, 100, 151, 130]);
        // The same turned a quarter to the right: its left edge is the page's upper one.
        let turned = scan([0.0, 800.0, -600.0, 0.0, 600.0, 0.0], (1_600, 1_200));
        assert_eq!(turned.area([0, 0, 160, 120]), [540, 0, 600, 80]);
    }

    #[test]
    fn faxes_keep_black_black() {
        let header = |colours| Header { width: 8, height: 1, bits: 1, colours };
        let fax = |black_is_1| Fax { k: -1, columns: 8, black_is_1, aligned: false };
        let black_is_one = |colours, black_is_1| {
            let file = faxed(header(colours), &fax(black_is_1), &[0]).expect("it is taken out");
            file == tiff(&header(Colours::GreyInverted), Packing::Fax4, &[0])
        };
        assert!(black_is_one(Colours::Grey, false));
        assert!(black_is_one(Colours::GreyInverted, true));
        assert!(!black_is_one(Colours::Grey, true));
        assert!(faxed(header(Colours::Rgb), &fax(false), &[0]).is_err());
        assert!(faxed(header(Colours::Grey), &Fax { columns: 9, ..fax(false) }, &[0]).is_err());
    }

    #[test]
    fn what_a_child_says_of_pictures_is_checked() {
        let document = crate::extract::build::Builder::new(crate::source::Encoding::Utf8)
            .into_parts(crate::document::Format::Picture, None);
        let scan = |page| Scan { page, file: None, frame: 0, size: (9, 9), lies: [0.0; 6], dpi: None };
        let good = Scanned { document, scans: vec![scan(1), scan(2)], pages: 2 };
        assert_eq!(good.check(9), Ok(()));
        let far = Scan { lies: [f64::NAN; 6], ..scan(1) };
        let huge = Scan { size: (u32::MAX, 9), ..scan(1) };
        for scans in [vec![scan(2), scan(1)], vec![scan(0)], vec![scan(3)], vec![far], vec![huge]] {
            assert!(Scanned { scans, ..good.clone() }.check(9).is_err());
        }
    }
}
