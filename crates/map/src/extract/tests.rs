//! Formats through the one door that the child uses.

use super::*;
use crate::document::{BlockKind, Origin};
use std::io::Cursor;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn docx(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).expect("a part");
        writer.write_all(bytes).expect("it fits");
    }
    writer.finish().expect("a zip").into_inner()
}

#[test]
fn docx_gives_headings_paragraphs_and_rows() {
    let document = br#"<w:document xmlns:w="x"><w:body>
        <w:p><w:pPr><w:pStyle w:val="Kop1"/></w:pPr><w:r><w:t>Rent &amp; terms</w:t></w:r></w:p>
        <w:p><w:r><w:t xml:space="preserve">The rent is </w:t></w:r><w:r><w:t>1,150 a month.</w:t></w:r></w:p>
        <w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>No pets&#33;</w:t></w:r></w:p>
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Keys</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>3</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
        </w:body></w:document>"#;
    let styles = br#"<w:styles xmlns:w="x"><w:style w:styleId="Kop1"><w:name w:val="heading 1"/></w:style></w:styles>"#;
    let bytes = docx(&[("word/document.xml", document), ("word/styles.xml", styles)]);
    let document = read("lease.docx", &bytes).expect("it reads");
    assert_eq!(document.check(bytes.len()), Ok(()));
    assert_eq!((document.title.as_deref(), &document.origin), (Some("Rent & terms"), &Origin::Paragraphs));
    let shape: Vec<_> =
        document.blocks.iter().map(|block| (block.kind, block.part, document.block_text(block))).collect();
    assert_eq!(
        shape,
        [
            (BlockKind::Heading(1), 1, "Rent & terms"),
            (BlockKind::Text, 2, "The rent is 1,150 a month."),
            (BlockKind::Item, 3, "No pets!"),
            (BlockKind::Row, 4, "Keys\t3"),
        ]
    );
}

#[test]
fn a_zip_bomb_is_refused_with_the_limit() {
    let bomb = vec![b' '; build::TEXT_BYTES_MAX + 1];
    let bytes = docx(&[("word/document.xml", &bomb)]);
    assert!(bytes.len() < 1 << 20, "it is small");
    let refused = read("bomb.docx", &bytes).expect_err("it is refused");
    assert_eq!(refused.why, Why::TooLarge);
    assert!(refused.message.contains("64 MiB"), "{}", refused.message);
}

#[test]
fn xml_entities_are_never_expanded() {
    let document = br#"<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
        <w:document xmlns:w="x"><w:p><w:t>one &b; two</w:t></w:p></w:document>"#;
    let document = read("x.docx", &docx(&[("word/document.xml", document)])).expect("it reads");
    assert_eq!(document.text.split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn what_cannot_be_read_says_why() {
    for (name, bytes, why) in [
        ("empty.txt", &b""[..], Why::Empty),
        ("blank.md", b" \n\n\t\n", Why::Empty),
        ("core", b"\x00\x01\x02\x03words", Why::NotText),
        ("cut.docx", b"PK\x03\x04rest", Why::Broken),
        ("cut.pdf", b"%PDF-1.4\nnothing", Why::Broken),
    ] {
        let refused = read(name, bytes).expect_err(name);
        assert_eq!(refused.why, why, "{name}: {}", refused.message);
    }
}

#[test]
fn requests_and_replies_cross_whole() {
    let mut wire = Vec::new();
    request(&mut wire, "a.txt", b"hello").expect("it writes");
    request(&mut wire, &"ü".repeat(4000), b"").expect("it writes");
    let mut input = wire.as_slice();
    assert_eq!(receive(&mut input).expect("whole"), Some(("a.txt".into(), b"hello".to_vec())));
    let (name, _) = receive(&mut input).expect("whole").expect("a second one");
    assert!(name.len() <= NAME_BYTES_MAX && name.ends_with('ü'));
    assert_eq!(receive(&mut input).expect("end"), None);
    assert!(receive(&mut &[9, 0, 0][..]).is_err());

    let document = read("a.txt", b"hello there").expect("it reads");
    let mut wire = Vec::new();
    send(&mut wire, &Reply::Document(Box::new(document.clone()))).expect("it writes");
    let Reply::Document(back) = reply(&mut wire.as_slice()).expect("whole") else { panic!("a document") };
    assert_eq!(*back, document);
}
