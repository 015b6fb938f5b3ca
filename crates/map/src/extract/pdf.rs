//! PDF: the text of each page. Pages whose fonts or streams can't be read are left out one by one.

use super::Refused;
use super::build::Builder;
use super::text;
use crate::document::{BlockKind, Document, Format};
use crate::source::Encoding;
use pdf_extract::{Document as Pdf, Object, PlainTextOutput, output_doc_page};
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
        let mut words = String::new();
        let read =
            catch_unwind(AssertUnwindSafe(|| output_doc_page(&pdf, &mut PlainTextOutput::new(&mut words), *page)));
        if !matches!(read, Ok(Ok(()))) && words.trim().is_empty() {
            unread += 1;
            continue;
        }
        for range in text::paragraphs(&words) {
            for line in words[range].lines() {
                builder.space();
                builder.push_free(line.trim());
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
