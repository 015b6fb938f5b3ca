//! What files say of themselves: properties of office documents, books and PDFs, heads of web pages, front matter.
//!
//! The words are handed on as they stand. What of them counts is decided in `about`, outside of this process.

use super::xml::{attribute, each_text};
use crate::document::Said;

/// LIMIT: authors of one document that are named.
const AUTHORS_MAX: usize = 16;

/// A title and what else a document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) title: Option<String>,
    pub(super) said: Said,
    authors: usize,
}

impl Told {
    /// Several authors stand side by side, each once.
    pub(super) fn author(&mut self, name: &str) {
        let name = name.trim();
        let known = |said: &str| said.split(", ").any(|own| own == name);
        if name.is_empty() || self.authors >= AUTHORS_MAX || self.said.author.as_deref().is_some_and(known) {
            return;
        }
        match &mut self.said.author {
            Some(said) => {
                said.push_str(", ");
                said.push_str(name);
            }
            none => *none = Some(name.to_owned()),
        }
        self.authors += 1;
    }

    /// What is missing is taken from the other.
    pub(super) fn or(self, other: Told) -> Told {
        let said = Said {
            author: self.said.author.or(other.said.author),
            created: self.said.created.or(other.said.created),
            modified: self.said.modified.or(other.said.modified),
            language: self.said.language.or(other.said.language),
        };
        Told { title: self.title.or(other.title), said, authors: self.authors }
    }
}

/// Keeps the first value that isn't blank.
pub(super) fn first(slot: &mut Option<String>, value: &str) {
    let value = value.trim();
    if slot.is_none() && !value.is_empty() {
        *slot = Some(value.to_owned());
    }
}

/// `docProps/core.xml` of DOCX, XLSX and PPTX.
pub(super) fn core(xml: &str) -> Told {
    let mut told = Told::default();
    each_text(xml, &mut |element, words| match element.local_name().as_ref() {
        b"title" => first(&mut told.title, words),
        b"creator" => told.author(words),
        b"created" => first(&mut told.said.created, words),
        b"modified" => first(&mut told.said.modified, words),
        b"language" => first(&mut told.said.language, words),
        _ => {}
    });
    told
}

/// `meta.xml` of OpenDocument. Its `creator` is who saved it last; who began it is the author.
pub(super) fn open_document(xml: &str) -> Told {
    let (mut told, mut saved_by) = (Told::default(), None);
    each_text(xml, &mut |element, words| match element.local_name().as_ref() {
        b"title" => first(&mut told.title, words),
        b"initial-creator" => told.author(words),
        b"creator" => first(&mut saved_by, words),
        b"creation-date" => first(&mut told.said.created, words),
        b"date" => first(&mut told.said.modified, words),
        b"language" => first(&mut told.said.language, words),
        _ => {}
    });
    if told.said.author.is_none()
        && let Some(name) = saved_by
    {
        told.author(&name);
    }
    told
}

/// The package file of an EPUB. When the file was put together (`dcterms:modified`) isn't when the book was written.
pub(super) fn book(xml: &str) -> Told {
    let mut told = Told::default();
    each_text(xml, &mut |element, words| match element.local_name().as_ref() {
        b"title" => first(&mut told.title, words),
        // Translators and editors may be named in the same way, with their part.
        b"creator" if attribute(element, b"role").is_none_or(|role| role == "aut") => told.author(words),
        b"date" if attribute(element, b"event").is_none_or(|event| event != "modification") => {
            first(&mut told.said.created, words);
        }
        b"language" => first(&mut told.said.language, words),
        _ => {}
    });
    told
}

/// The properties that a PDF holds as XML (XMP).
pub(super) fn xmp(xml: &str) -> Told {
    let mut told = Told::default();
    each_text(xml, &mut |element, words| match element.local_name().as_ref() {
        // Simple properties may be attributes of what describes the document.
        b"Description" => {
            first(&mut told.said.created, &attribute(element, b"CreateDate").unwrap_or_default());
            first(&mut told.said.modified, &attribute(element, b"ModifyDate").unwrap_or_default());
        }
        b"title" => first(&mut told.title, words),
        b"creator" => told.author(words),
        b"CreateDate" => first(&mut told.said.created, words),
        b"ModifyDate" => first(&mut told.said.modified, words),
        b"language" => first(&mut told.said.language, words),
        _ => {}
    });
    told
}

/// Takes up one element of a web page. `name` is in small letters.
pub(super) fn tag(told: &mut Told, name: &[u8], attribute: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
    let value = |key: &[u8]| attribute(key).map(|value| String::from_utf8_lossy(&value).into_owned());
    if name == b"html" {
        let language = value(b"lang").or_else(|| value(b"xml:lang"));
        first(&mut told.said.language, &language.unwrap_or_default());
    }
    if name != b"meta" {
        return;
    }
    let Some(content) = value(b"content") else { return };
    let keys: [&[u8]; 4] = [b"name", b"property", b"itemprop", b"http-equiv"];
    let Some(key) = keys.into_iter().find_map(value) else { return };
    match key.to_ascii_lowercase().as_str() {
        // Some name their page instead.
        "author" | "article:author" | "dc.creator" | "dcterms.creator" | "citation_author"
            if !content.trim_start().starts_with("http") =>
        {
            told.author(&content);
        }
        "date"
        | "dc.date"
        | "dcterms.date"
        | "dcterms.created"
        | "article:published_time"
        | "datepublished"
        | "citation_publication_date" => first(&mut told.said.created, &content),
        "last-modified" | "dcterms.modified" | "article:modified_time" | "datemodified" | "og:updated_time" => {
            first(&mut told.said.modified, &content);
        }
        "dc.language" | "dcterms.language" | "content-language" | "og:locale" => {
            first(&mut told.said.language, &content);
        }
        _ => {}
    }
}

/// Front matter: `key: value` in YAML, `key = value` in TOML. Only what stands at the left margin belongs to the document
/// itself; authors may stand in a list.
pub(super) fn front_matter(text: &str) -> Told {
    let (mut told, mut listing) = (Told::default(), false);
    for line in text.lines() {
        if let Some(item) = line.trim_start().strip_prefix("- ").filter(|_| listing) {
            let item = item.trim();
            told.author(unquoted(item.strip_prefix("name:").unwrap_or(item)));
            continue;
        }
        listing = false;
        let Some((key, value)) = line.split_once([':', '=']) else { continue };
        let value = value.trim();
        match key.trim_end().to_ascii_lowercase().as_str() {
            "title" => first(&mut told.title, unquoted(value)),
            "author" | "authors" => {
                listing = value.is_empty();
                match value.strip_prefix('[').map(|list| list.trim_end_matches(']')) {
                    Some(list) => list.split(',').for_each(|name| told.author(unquoted(name))),
                    None => told.author(unquoted(value)),
                }
            }
            "date" | "created" | "published" => first(&mut told.said.created, unquoted(value)),
            "modified" | "updated" | "lastmod" | "last_modified" => first(&mut told.said.modified, unquoted(value)),
            "lang" | "language" => first(&mut told.said.language, unquoted(value)),
            _ => {}
        }
    }
    told
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches(['"', '\'']).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(told: &Told) -> [Option<&str>; 5] {
        let Said { author, created, modified, language } = &told.said;
        [&told.title, author, created, modified, language].map(Option::as_deref)
    }

    #[test]
    fn office_documents_name_who_began_them() {
        let told = core(
            "<cp:coreProperties xmlns:dc='d'><dc:title>Lease &amp; terms</dc:title><dc:creator>Ada Lund</dc:creator>\
             <cp:lastModifiedBy>Bob</cp:lastModifiedBy><dcterms:created xsi:type='x'>2026-03-09T10:00:00Z</dcterms:created>\
             <dcterms:modified> </dcterms:modified><dc:language>en-GB</dc:language></cp:coreProperties>",
        );
        let expected = [Some("Lease & terms"), Some("Ada Lund"), Some("2026-03-09T10:00:00Z"), None, Some("en-GB")];
        assert_eq!(words(&told), expected);
        let told = open_document(
            "<office:meta><dc:creator>Bob</dc:creator><meta:initial-creator>Ada</meta:initial-creator>\
             <meta:creation-date>2025-01-02</meta:creation-date><dc:date>2026-03-09T10:00:00</dc:date></office:meta>",
        );
        assert_eq!(words(&told), [None, Some("Ada"), Some("2025-01-02"), Some("2026-03-09T10:00:00"), None]);
        let told = open_document("<office:meta><dc:creator>Bob</dc:creator></office:meta>");
        assert_eq!(words(&told)[1], Some("Bob"));
    }

    #[test]
    fn books_name_their_authors_and_not_their_translators() {
        let told = book(
            "<package><metadata><dc:title>The Orchard</dc:title><dc:creator opf:role='aut'>A. Tree</dc:creator>\
             <dc:creator>B. Leaf</dc:creator><dc:creator opf:role='trl'>C. Word</dc:creator>\
             <dc:date opf:event='modification'>2026-01-01</dc:date><dc:date>1893</dc:date>\
             <meta property='dcterms:modified'>2026-02-02T00:00:00Z</meta><dc:language>en</dc:language></metadata></package>",
        );
        assert_eq!(words(&told), [Some("The Orchard"), Some("A. Tree, B. Leaf"), Some("1893"), None, Some("en")]);
    }

    #[test]
    fn properties_of_a_pdf_may_be_elements_lists_or_attributes() {
        let told =
            xmp("<x:xmpmeta><rdf:RDF><rdf:Description xmp:CreateDate='2025-01-02T10:00:00Z'><dc:title><rdf:Alt>\
             <rdf:li xml:lang='x-default'>Boiler</rdf:li><rdf:li xml:lang='de'>Kessel</rdf:li></rdf:Alt></dc:title>\
             <dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bob</rdf:li></rdf:Seq></dc:creator>\
             <xmp:ModifyDate>2026-03-09</xmp:ModifyDate></rdf:Description></rdf:RDF></x:xmpmeta>");
        let expected = [Some("Boiler"), Some("Ada, Bob"), Some("2025-01-02T10:00:00Z"), Some("2026-03-09"), None];
        assert_eq!(words(&told), expected);
    }

    #[test]
    fn front_matter_is_read_at_its_left_margin() {
        let told = front_matter(
            "title: \"House: notes\"\nauthors:\n  - Ada\n  - 'Bob'\nother:\n  author: Eve\ndate: 2025-01-02T10:00:00\nlang: en\n- Dan",
        );
        assert_eq!(
            words(&told),
            [Some("House: notes"), Some("Ada, Bob"), Some("2025-01-02T10:00:00"), None, Some("en")]
        );
        let told = front_matter("author = [\"Ada\", \"Bob\"]\nlastmod = 2026-03-09\n");
        assert_eq!(words(&told), [None, Some("Ada, Bob"), None, Some("2026-03-09"), None]);
        assert_eq!(words(&front_matter("author: Ada, Bob")), [None, Some("Ada, Bob"), None, None, None]);
    }

    #[test]
    fn authors_are_named_once_and_not_without_end() {
        let mut told = Told::default();
        for name in ["Ada", " Ada ", "", "Bob"] {
            told.author(name);
        }
        assert_eq!(told.said.author.as_deref(), Some("Ada, Bob"));
        (0..999).for_each(|number| told.author(&format!("a{number}")));
        assert_eq!(told.said.author.map(|all| all.split(", ").count()), Some(AUTHORS_MAX));
    }
}
