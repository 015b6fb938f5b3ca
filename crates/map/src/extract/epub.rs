//! EPUB: the chapters of the spine in their order, each read as HTML.

use super::Refused;
use super::build::Builder;
use super::html::rendered;
use super::package::Package;
use super::said::{self, Told};
use super::xml::{attribute, resolve};
use crate::document::{Document, Format};
use crate::source::Encoding;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::collections::HashMap;

pub(crate) fn read(bytes: &[u8]) -> Result<Document, Refused> {
    let mut package = Package::open(bytes, "EPUB")?;
    let locked = package.text("META-INF/encryption.xml")?.is_some_and(|xml| is_locked(&xml));
    if locked {
        return Err(Refused::broken("it is protected against copying"));
    }
    let container = package.needed("META-INF/container.xml")?;
    let book = root(&container).ok_or_else(|| Refused::broken("it doesn't say where its book is"))?;
    let xml = package.needed(&book)?;
    let folder = book.rsplit_once('/').map_or("", |(folder, _)| folder);
    let Told { title, said, .. } = said::book(&xml);
    let mut builder = Builder::new(Encoding::Utf8);
    for (number, chapter) in (1..).zip(chapters(&xml)) {
        let Some(markup) = package.text(&resolve(folder, &unescaped(&chapter)))? else { continue };
        let page = rendered(&markup);
        for block in &page.blocks {
            builder.push_free(page.block_text(block));
            builder.close(block.kind, number);
        }
        if builder.is_full() {
            return Err(Refused::too_large());
        }
    }
    Ok(Document { said, ..builder.into_parts(Format::Epub, title) })
}

/// Whether more than fonts is encrypted.
fn is_locked(xml: &str) -> bool {
    const FONTS: [&str; 2] = ["http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"];
    let mut reader = Reader::from_str(xml);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element)
                if element.local_name().as_ref() == b"EncryptionMethod"
                    && !attribute(&element, b"Algorithm").is_some_and(|name| FONTS.contains(&name.as_str())) =>
            {
                return true;
            }
            Event::Eof => break,
            _ => {}
        }
    }
    false
}

fn root(container: &str) -> Option<String> {
    let mut reader = Reader::from_str(container);
    loop {
        match reader.read_event().ok()? {
            Event::Empty(element) | Event::Start(element) if element.local_name().as_ref() == b"rootfile" => {
                return attribute(&element, b"full-path");
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Paths of the chapters in reading order, relative to the book's own folder.
fn chapters(xml: &str) -> Vec<String> {
    let (mut items, mut spine, mut reader) = (HashMap::new(), Vec::new(), Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element) => match element.local_name().as_ref() {
                b"item" => {
                    if let (Some(id), Some(path)) = (attribute(&element, b"id"), attribute(&element, b"href")) {
                        items.insert(id, path);
                    }
                }
                b"itemref" => spine.extend(attribute(&element, b"idref")),
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    spine.into_iter().filter_map(|id| items.get(&id).cloned()).collect()
}

/// `%20` and its like, as they stand in links; what follows `#` isn't part of the path.
fn unescaped(link: &str) -> String {
    let link = link.split('#').next().unwrap_or_default();
    let (mut bytes, mut rest) = (Vec::new(), link.as_bytes());
    while let [byte, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
