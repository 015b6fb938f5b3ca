//! What the formats made of XML share.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// An attribute by its name without prefix, with the five entities of XML decoded.
pub(super) fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let attribute = element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let raw = String::from_utf8_lossy(&attribute.value);
    Some(quick_xml::escape::unescape(&raw).map_or_else(|_| raw.to_string(), Into::into))
}

/// An attribute as a number.
pub(super) fn number(element: &BytesStart<'_>, name: &[u8]) -> Option<u32> {
    attribute(element, name)?.trim().parse().ok()
}

/// The five entities of XML and numbers. Entities that a document defines itself are not expanded.
pub(super) fn reference(entity: &BytesRef<'_>) -> String {
    if let Ok(Some(c)) = entity.resolve_char_ref() {
        return c.to_string();
    }
    match &**entity {
        b"amp" => "&",
        b"lt" => "<",
        b"gt" => ">",
        b"quot" => "\"",
        b"apos" => "'",
        _ => "",
    }
    .to_owned()
}

/// Hands over each element as it begins, and again with each stretch of words that it holds. The items of a list are
/// words of what holds the list.
pub(super) fn each_text(xml: &str, on: &mut dyn FnMut(&BytesStart<'_>, &str)) {
    const LISTS: [&[u8]; 4] = [b"Seq", b"Bag", b"Alt", b"li"];
    let (mut open, mut words, mut reader) = (None, String::new(), Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) => on(&element, ""),
            Event::Start(element) => {
                words.clear();
                if !LISTS.contains(&element.local_name().as_ref()) {
                    on(&element, "");
                    open = Some(element);
                }
            }
            Event::Text(text) if open.is_some() => words.push_str(&text.decode().unwrap_or_default()),
            Event::GeneralRef(entity) if open.is_some() => words.push_str(&reference(&entity)),
            Event::End(element) => {
                if let Some(open) = open.as_ref().filter(|_| !words.trim().is_empty()) {
                    on(open, &words);
                }
                words.clear();
                if !LISTS.contains(&element.local_name().as_ref()) {
                    open = None;
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
}

/// Targets of a part's relations by their ids, as paths within the package. `base` is the part's own folder.
/// Targets outside of the package are left out.
pub(super) fn relations(xml: &str, base: &str) -> std::collections::HashMap<String, String> {
    let (mut found, mut reader) = (std::collections::HashMap::new(), Reader::from_str(xml));
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Empty(element) | Event::Start(element) if element.local_name().as_ref() == b"Relationship" => {
                let outside = attribute(&element, b"TargetMode").is_some_and(|mode| mode == "External");
                if let (Some(id), Some(target), false) =
                    (attribute(&element, b"Id"), attribute(&element, b"Target"), outside)
                {
                    found.insert(id, resolve(base, &target));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

/// A path within a package, relative to a folder of it. It never leaves the package: it only names one of its parts.
pub(super) fn resolve(base: &str, target: &str) -> String {
    let mut path: Vec<&str> = if target.starts_with('/') { Vec::new() } else { base.split('/').collect() };
    for piece in target.split('/') {
        match piece {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            piece => path.push(piece),
        }
    }
    path.retain(|piece| !piece.is_empty());
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_package() {
        for (base, target, path) in [
            ("ppt/slides", "../notes/a.xml", "ppt/notes/a.xml"),
            ("xl", "/xl/sheet.xml", "xl/sheet.xml"),
            ("OPS", "../../../../etc/passwd", "etc/passwd"),
            ("", "./a//b.xml", "a/b.xml"),
        ] {
            assert_eq!(resolve(base, target), path);
        }
        let xml = r#"<Relationships><Relationship Id="r1" Target="s.xml"/>
                     <Relationship Id="r2" TargetMode="External" Target="file:///etc/passwd"/></Relationships>"#;
        assert_eq!(relations(xml, "xl"), [("r1".to_owned(), "xl/s.xml".to_owned())].into());
    }

    #[test]
    fn attributes_are_unescaped() {
        let mut reader = Reader::from_str(r#"<a n="R&amp;D &unknown;" m="5"/>"#);
        let Ok(Event::Empty(element)) = reader.read_event() else { panic!("an element") };
        assert_eq!(attribute(&element, b"n").as_deref(), Some("R&amp;D &unknown;"), "broken ones stay as they are");
        assert_eq!(number(&element, b"m"), Some(5));
    }
}
