//! PDF: the text of each page, each word with its rectangle. Pages whose fonts or streams can't be read are left
//! out one by one; of pages without text, the pictures are handed on.

use super::build::Builder;
use super::layout::{Layout, Letter, Word};
use super::said::{self, Told, first};
use super::scan::{self, Scan, Scanned, Sheet};
use super::{FILE_BYTES_MAX, Refused, picture};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use pdf_extract::{Dictionary, Document as Pdf, MediaBox, Object, OutputDev, OutputError, Transform, output_doc_page};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The text alone.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let scanned = open(bytes)?;
    let (pages, scans) = (scanned.pages, scanned.scans.len());
    if scanned.document.blocks.is_empty() {
        return Err(Refused::no_text(match scans {
            0 => format!("it holds no text on {pages} {}; it may be a scan", pages_word(pages)),
            _ => format!("it is a scan: it holds no text on {pages} {}", pages_word(pages)),
        }));
    }
    Ok(scanned.document)
}

/// The text, and pictures of the pages that have none.
pub(crate) fn open(bytes: &[u8]) -> Result<Scanned, Refused> {
    // The parser panics on some broken files; this process is the fence, and one page need not cost the rest.
    let mut pdf = catch_unwind(|| Pdf::load_mem(bytes))
        .map_err(|_| Refused::broken("it isn't a readable PDF"))?
        .map_err(|error| Refused::broken(format!("it isn't a readable PDF: {error}")))?;
    if pdf.is_encrypted() && !matches!(catch_unwind(AssertUnwindSafe(|| pdf.decrypt(""))), Ok(Ok(()))) {
        return Err(Refused::broken("it is protected by a password"));
    }
    let pages = pdf.get_pages();
    let mut builder = Builder::new(Encoding::Utf8);
    let (mut unread, mut scans) = (0usize, Scans::default());
    for (page, id) in &pages {
        let mut drawn = Drawn::default();
        let read = catch_unwind(AssertUnwindSafe(|| output_doc_page(&pdf, &mut drawn, *page)));
        if drawn.full {
            return Err(Refused::broken(format!("page {page} draws words without end")));
        }
        let paragraphs = drawn.layout.paragraphs();
        if paragraphs.is_empty() {
            // The parser may panic on the orders of this page too.
            let found = catch_unwind(AssertUnwindSafe(|| scan::of_page(&pdf, *id, *page, drawn.sheet)));
            let found = found.unwrap_or_else(|_| Err("its drawing can't be read".into()));
            let pictures = found.as_ref().is_ok_and(|found| !found.is_empty());
            unread += usize::from(!matches!(read, Ok(Ok(()))) && !pictures);
            scans.take(*page, found);
            continue;
        }
        for lines in paragraphs {
            for word in lines.iter().flatten() {
                builder.space();
                let start = builder.at();
                builder.push_free(&word.text);
                builder.spot(start, *page, area(word));
            }
            builder.close(BlockKind::Text, *page);
        }
        if builder.is_full() {
            return Err(Refused::too_large());
        }
    }
    let Told { title, said, .. } = told(&pdf);
    let mut document = Document { said, ..builder.into_parts(Format::Pdf, title) };
    document.notes = scans.notes;
    if document.blocks.is_empty() && scans.found.is_empty() {
        return Err(match (pages.len(), unread, document.notes.first()) {
            (0, ..) => Refused::broken("it has no pages"),
            (_, _, Some(note)) => Refused::no_text(format!("it is a scan; {note}")),
            (all, unread, _) if unread == all => Refused::broken(format!("none of its {all} pages can be read")),
            (all, ..) => {
                Refused::no_text(format!("it holds no text on {all} {}; it may be a scan", pages_word(all as u32)))
            }
        });
    }
    Ok(Scanned { document, scans: scans.found, pages: pages.len() as u32 })
}

/// Pictures of pages, and what is to be said of those that can't be had.
#[derive(Default)]
struct Scans {
    found: Vec<Scan>,
    notes: Vec<String>,
    bytes: usize,
}

impl Scans {
    fn take(&mut self, page: u32, found: Result<Vec<Scan>, String>) {
        let found = found.and_then(|found| {
            let bytes: usize = found.iter().filter_map(|scan| scan.file.as_ref()).map(Vec::len).sum();
            // Pages may share one picture, so their sum is bounded by nothing else.
            if self.bytes + bytes > FILE_BYTES_MAX || self.found.len() + found.len() > picture::PAGES_MAX {
                return Err(format!(
                    "it comes after {} pictures, and no more are recognised of one file",
                    self.found.len()
                ));
            }
            self.bytes += bytes;
            Ok(found)
        });
        match found {
            Ok(found) => self.found.extend(found),
            Err(why) => self.notes.push(format!("page {page} isn't recognised: {why}")),
        }
    }
}

/// Whole points, rounded outwards.
fn area(word: &Word) -> [u32; 4] {
    // A float beyond the range of integers becomes the nearest one.
    [word.left.floor() as u32, word.top.floor() as u32, word.right.ceil() as u32, word.bottom.ceil() as u32]
}

/// What a page draws.
#[derive(Default)]
struct Drawn {
    layout: Layout,
    /// The upper left corner of the page.
    left: f64,
    top: f64,
    sheet: Sheet,
    first: bool,
    full: bool,
}

impl OutputDev for Drawn {
    fn begin_page(
        &mut self,
        _page: u32,
        media: &MediaBox,
        _art: Option<(f64, f64, f64, f64)>,
    ) -> Result<(), OutputError> {
        (self.left, self.top) = (media.llx.min(media.urx), media.lly.max(media.ury));
        let (width, height) = ((media.urx - media.llx).abs(), (media.ury - media.lly).abs());
        self.sheet = Sheet { left: self.left, top: self.top, width, height };
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn output_character(
        &mut self,
        place: &Transform,
        width: f64,
        _spacing: f64,
        font_size: f64,
        text: &str,
    ) -> Result<(), OutputError> {
        let upright = place.m11.abs() >= place.m12.abs();
        let letter = Letter {
            text,
            x: place.m31 - self.left,
            y: self.top - place.m32,
            dx: if upright { place.m11.signum() } else { 0.0 },
            // Up on the page is down in its numbers.
            dy: if upright { 0.0 } else { -place.m12.signum() },
            width: width * font_size.abs() * place.m11.hypot(place.m12),
            size: font_size.abs() * place.m21.hypot(place.m22),
            first: std::mem::take(&mut self.first),
        };
        self.full = !self.layout.push(&letter);
        if self.full { Err(std::io::Error::other("a page without end").into()) } else { Ok(()) }
    }

    fn begin_word(&mut self) -> Result<(), OutputError> {
        self.first = true;
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

fn pages_word(count: u32) -> &'static str {
    if count == 1 { "page" } else { "pages" }
}

/// LIMIT: bytes of properties in XML that are looked at.
const XMP_BYTES_MAX: usize = 1 << 20;

/// What the information dictionary says, and where it says nothing, the properties in XML.
fn told(pdf: &Pdf) -> Told {
    let (mut told, xmp) = (Told::default(), xmp(pdf).unwrap_or_default());
    let info = pdf.trailer.get(b"Info").ok().and_then(|info| dictionary(pdf, info));
    let value = |key: &[u8]| info.and_then(|info| text(pdf, info.get(key).ok()?)).unwrap_or_default();
    first(&mut told.title, &value(b"Title"));
    told.author(&value(b"Author"));
    first(&mut told.said.created, &value(b"CreationDate"));
    first(&mut told.said.modified, &value(b"ModDate"));
    let language = pdf.catalog().ok().and_then(|catalog| text(pdf, catalog.get(b"Lang").ok()?));
    first(&mut told.said.language, &language.unwrap_or_default());
    told.or(xmp)
}

/// Only properties that stand there unpacked, as nearly all do: so that searching files can find them.
fn xmp(pdf: &Pdf) -> Option<Told> {
    let metadata = pdf.catalog().ok()?.get(b"Metadata").ok()?.as_reference().ok()?;
    let stream = pdf.get_object(metadata).ok()?.as_stream().ok()?;
    if stream.dict.has(b"Filter") || stream.content.len() > XMP_BYTES_MAX {
        return None;
    }
    Some(said::xmp(std::str::from_utf8(&stream.content).ok()?.trim_start_matches('\u{feff}')))
}

fn dictionary<'a>(pdf: &'a Pdf, object: &'a Object) -> Option<&'a Dictionary> {
    match object {
        Object::Reference(id) => pdf.get_dictionary(*id).ok(),
        Object::Dictionary(dictionary) => Some(dictionary),
        _ => None,
    }
}

/// A text that stands there itself or is referred to.
fn text(pdf: &Pdf, object: &Object) -> Option<String> {
    let object = match object {
        Object::Reference(id) => pdf.get_object(*id).ok()?,
        object => object,
    };
    let Object::String(bytes, _) = object else { return None };
    match bytes.as_slice() {
        [0xfe, 0xff, rest @ ..] => Encoding::Utf16Be.decode(rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => Encoding::Utf8.decode(rest),
        other => Encoding::Windows1252.decode(other),
    }
}
