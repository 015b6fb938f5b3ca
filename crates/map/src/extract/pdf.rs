//! PDF: the text of each page, each word with its rectangle. Pages whose fonts or streams can't be read are left
//! out one by one.

use super::Refused;
use super::build::Builder;
use super::layout::{Layout, Letter, Word};
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use pdf_extract::{Document as Pdf, MediaBox, Object, OutputDev, OutputError, Transform, output_doc_page};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    // The parser panics on some broken files; this process is the fence, and one page need not cost the rest.
    let mut pdf = catch_unwind(|| Pdf::load_mem(bytes))
        .map_err(|_| Refused::broken("it isn't a readable PDF"))?
        .map_err(|error| Refused::broken(format!("it isn't a readable PDF: {error}")))?;
    if pdf.is_encrypted() && !matches!(catch_unwind(AssertUnwindSafe(|| pdf.decrypt(""))), Ok(Ok(()))) {
        return Err(Refused::broken("it is protected by a password"));
    }
    let pages: Vec<u32> = pdf.get_pages().into_keys().collect();
    let mut builder = Builder::new(Encoding::Utf8);
    let mut unread = 0usize;
    for page in &pages {
        let mut drawn = Drawn::default();
        let read = catch_unwind(AssertUnwindSafe(|| output_doc_page(&pdf, &mut drawn, *page)));
        if drawn.full {
            return Err(Refused::broken(format!("page {page} draws words without end")));
        }
        let paragraphs = drawn.layout.paragraphs();
        if !matches!(read, Ok(Ok(()))) && paragraphs.is_empty() {
            unread += 1;
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
    let title = title(&pdf);
    let document = builder.into_parts(Format::Pdf, title);
    if document.blocks.is_empty() {
        return Err(match (pages.len(), unread) {
            (0, _) => Refused::broken("it has no pages"),
            (all, unread) if unread == all => Refused::broken(format!("none of its {all} pages can be read")),
            (all, _) => Refused::no_text(format!("it holds no text on {all} {}; it may be a scan", pages_word(all))),
        });
    }
    Ok(document)
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

fn pages_word(count: usize) -> &'static str {
    if count == 1 { "page" } else { "pages" }
}

fn title(pdf: &Pdf) -> Option<String> {
    let info = pdf.trailer.get(b"Info").ok()?;
    let info = match info {
        Object::Reference(id) => pdf.get_dictionary(*id).ok()?,
        Object::Dictionary(dictionary) => dictionary,
        _ => return None,
    };
    let Object::String(bytes, _) = info.get(b"Title").ok()? else { return None };
    let title = match bytes.as_slice() {
        [0xfe, 0xff, rest @ ..] => Encoding::Utf16Be.decode(rest)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => Encoding::Utf8.decode(rest)?,
        other => Encoding::Windows1252.decode(other)?,
    };
    let title = title.trim();
    (!title.is_empty()).then(|| title.to_owned())
}
