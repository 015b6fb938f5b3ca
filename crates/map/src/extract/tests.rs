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
    assert_eq!((document.title.as_deref(), &document.origin), (Some("Rent & terms"), &Origin::Parts));
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

/// A ZIP file of these parts.
pub(crate) fn zipped(parts: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    docx(&parts)
}

fn checked(name: &str, bytes: &[u8]) -> Document {
    let document = read(name, bytes).unwrap_or_else(|refused| panic!("{name}: {}", refused.message));
    assert_eq!(document.check(bytes.len()), Ok(()), "{document:#?}");
    assert_eq!(kind(name, bytes).format(), Some(document.format));
    document
}

fn shape(document: &Document) -> Vec<(BlockKind, u32, &str)> {
    let words = |block: &crate::document::Block| {
        if block.kind.is_named() { document.name(block.part).expect("a name") } else { document.block_text(block) }
            .to_owned()
    };
    let leaked: Vec<String> = document.blocks.iter().map(words).collect();
    let words: &'static [String] = Box::leak(leaked.into_boxed_slice());
    document.blocks.iter().zip(words).map(|(block, words)| (block.kind, block.part, words.as_str())).collect()
}

/// The places of a document's passages, as they are printed.
fn places(document: &Document) -> Vec<(String, String)> {
    let (_, rows) = crate::index::passages(document, &[]);
    rows.into_iter().map(|row| (row.place.to_string(), row.text)).collect()
}

/// The place of some words of a document, as it is printed.
fn place_of(document: &Document, words: &str) -> String {
    let (_, rows) = crate::index::passages(document, &[]);
    let row = rows.iter().find(|row| row.text.contains(words)).expect("a passage holds them");
    let at = row.text.find(words).expect("there");
    row.spots.cells(&(at..at + words.len()), None).map_or_else(|| row.place.to_string(), |place| place.to_string())
}

pub(crate) fn xlsx() -> Vec<u8> {
    zipped(&[
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="r"><sheets><sheet name="Rents" sheetId="1" r:id="rId1"/><sheet name="Ann's" sheetId="2" r:id="rId2"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Target="/xl/worksheets/sheet2.xml"/></Relationships>"#,
        ),
        (
            "xl/sharedStrings.xml",
            "<sst><si><t>Flat</t></si><si><r><t>Mill </t></r><r><t>Street &amp; co</t></r><rPh><t>spoken</t></rPh></si></sst>",
        ),
        (
            "xl/styles.xml",
            r#"<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="9"/></cellXfs></styleSheet>"#,
        ),
        (
            "xl/worksheets/sheet1.xml",
            r#"<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>Since</t></is></c></row>
               <row r="7"><c r="A7" t="s"><v>1</v></c><c r="B7" s="1"><v>45658</v></c><c s="2"><v>0.075</v></c><c r="XFD7" t="str"><f>A1</f><v>far</v></c></row></sheetData></worksheet>"#,
        ),
        (
            "xl/worksheets/sheet2.xml",
            r#"<worksheet><sheetData><row><c><v>0.30000000000000004</v></c><c t="b"><v>1</v></c></row></sheetData></worksheet>"#,
        ),
        ("xl/vbaProject.bin", "Sub AutoOpen()"),
    ])
}

#[test]
fn spreadsheets_cite_their_cells() {
    let document = checked("a.xlsm", &xlsx());
    assert_eq!(
        shape(&document),
        [
            (BlockKind::Part, 1, "Rents"),
            (BlockKind::Row, 0, "Flat\tSince"),
            (BlockKind::Row, 0, "Mill Street & co\t2025-01-01\t7.5%\tfar"),
            (BlockKind::Part, 2, "Ann's"),
            (BlockKind::Row, 0, "0.3\tTRUE"),
        ]
    );
    assert_eq!(place_of(&document, "2025-01-01\t7.5%"), "Rents!B7:C7");
    assert_eq!(place_of(&document, "far"), "Rents!XFD7");
    assert_eq!(places(&document)[1].0, "'Ann''s'!A1:B1", "no passage goes over two sheets");
    assert!(!document.text.contains("AutoOpen") && !document.text.contains("spoken"));
}

#[test]
fn open_documents_are_read_by_their_kind() {
    let content = |body: &str| {
        zipped(&[(
            "content.xml",
            &format!(
                "<office:document-content xmlns:office='o' xmlns:text='t' xmlns:table='b' xmlns:draw='d' xmlns:presentation='p'><office:body>{body}</office:body></office:document-content>"
            ),
        )])
    };
    let text = content(
        "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>\
         <text:h text:outline-level='2'>Shed</text:h><text:p>The  roof<text:s text:c='3'/>was\n <text:span>tarred</text:span>.<office:annotation><text:p>margin</text:p></office:annotation></text:p>\
         <text:list><text:list-item><text:p>nails</text:p></text:list-item></text:list>\
         <table:table><table:table-row><table:table-cell><text:p>Keys</text:p></table:table-cell><table:table-cell><text:p>3</text:p></table:table-cell></table:table-row></table:table></office:text>",
    );
    let document = checked("a.odt", &text);
    assert_eq!(
        shape(&document),
        [
            (BlockKind::Heading(2), 1, "Shed"),
            (BlockKind::Text, 2, "The roof was tarred."),
            (BlockKind::Item, 3, "nails"),
            (BlockKind::Row, 4, "Keys\t3"),
        ]
    );
    let sheet = content(
        "<office:spreadsheet><table:table table:name='Rents'><table:table-row table:number-rows-repeated='4'><table:table-cell table:number-columns-repeated='1000'/></table:table-row>\
         <table:table-row><table:table-cell/><table:table-cell table:number-columns-repeated='2' office:value='5'><text:p>1,150 €</text:p></table:table-cell><table:table-cell><text:p>late</text:p></table:table-cell></table:table-row></table:table></office:spreadsheet>",
    );
    let document = checked("a.ods", &sheet);
    assert_eq!(shape(&document), [(BlockKind::Part, 1, "Rents"), (BlockKind::Row, 1, "1,150 €\tlate")]);
    assert_eq!(
        (place_of(&document, "1,150 €"), place_of(&document, "late")),
        ("Rents!B5:C5".into(), "Rents!D5".into())
    );
    let slides = content(
        "<office:presentation><draw:page><draw:frame presentation:class='title'><draw:text-box><text:p>Plan</text:p></draw:text-box></draw:frame>\
         <draw:frame><draw:text-box><text:p>Dig first.</text:p></draw:text-box></draw:frame></draw:page><draw:page><draw:frame><text:p>Then plant.</text:p></draw:frame></draw:page></office:presentation>",
    );
    let document = checked("a.odp", &slides);
    assert_eq!(
        shape(&document),
        [(BlockKind::Heading(1), 1, "Plan"), (BlockKind::Text, 1, "Dig first."), (BlockKind::Text, 2, "Then plant.")]
    );
    assert_eq!(places(&document)[0].0, "slide 1-2");
    let locked = zipped(&[("META-INF/manifest.xml", "<m:encryption-data/>"), ("content.xml", "<a/>")]);
    assert!(read("a.odt", &locked).expect_err("locked").message.contains("password"));
}

pub(crate) fn pptx() -> Vec<u8> {
    zipped(&[
        (
            "ppt/presentation.xml",
            r#"<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst><p:sldId id="256" r:id="rId2"/><p:sldId id="257" r:id="rId1"/></p:sldIdLst></p:presentation>"#,
        ),
        (
            "ppt/_rels/presentation.xml.rels",
            r#"<Relationships><Relationship Id="rId1" Target="slides/slide1.xml"/><Relationship Id="rId2" Target="slides/slide2.xml"/></Relationships>"#,
        ),
        (
            "ppt/slides/slide1.xml",
            r#"<p:sld xmlns:p="p" xmlns:a="a"><a:tbl><a:tr><a:tc><a:p><a:r><a:t>Beans</a:t></a:r></a:p></a:tc><a:tc><a:p><a:r><a:t>May</a:t></a:r></a:p></a:tc></a:tr></a:tbl></p:sld>"#,
        ),
        (
            "ppt/slides/slide2.xml",
            r#"<p:sld xmlns:p="p" xmlns:a="a"><p:sp><p:ph type="ctrTitle"/><a:p><a:r><a:t>Garden</a:t></a:r></a:p></p:sp><p:sp><p:ph type="sldNum"/><a:p><a:fld><a:t>1</a:t></a:fld></a:p></p:sp><p:sp><a:p><a:r><a:t>Dig </a:t></a:r><a:r><a:t>first.</a:t></a:r></a:p></p:sp></p:sld>"#,
        ),
        (
            "ppt/slides/_rels/slide2.xml.rels",
            r#"<Relationships><Relationship Id="rId1" Target="../notesSlides/notesSlide1.xml"/></Relationships>"#,
        ),
        (
            "ppt/notesSlides/notesSlide1.xml",
            r#"<p:notes xmlns:p="p" xmlns:a="a"><p:sp><a:p><a:r><a:t>Mention the spade.</a:t></a:r></a:p></p:sp></p:notes>"#,
        ),
    ])
}

#[test]
fn slides_are_read_in_their_order_with_notes() {
    let document = checked("a.pptx", &pptx());
    assert_eq!(
        shape(&document),
        [
            (BlockKind::Heading(1), 1, "Garden"),
            (BlockKind::Text, 1, "Dig first."),
            (BlockKind::Text, 1, "Mention the spade."),
            (BlockKind::Row, 2, "Beans\tMay"),
        ]
    );
    assert_eq!(document.title.as_deref(), Some("Garden"));
}

pub(crate) fn epub() -> Vec<u8> {
    zipped(&[
        (
            "META-INF/container.xml",
            r#"<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>"#,
        ),
        (
            "OPS/book.opf",
            r#"<package><metadata><dc:title xmlns:dc="d">The Orchard</dc:title></metadata><manifest><item id="b" href="b%20two.xhtml"/><item id="a" href="a.xhtml"/><item id="c" href="../../../etc/passwd"/></manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>"#,
        ),
        ("OPS/a.xhtml", "<html><body><h1>Spring</h1><p>Prune the pears.</p></body></html>"),
        ("OPS/b two.xhtml", "<html><body><h1>Autumn</h1><p>Pick the quinces.</p></body></html>"),
    ])
}

#[test]
fn books_are_read_by_chapters() {
    let document = checked("a.epub", &epub());
    assert_eq!(document.title.as_deref(), Some("The Orchard"));
    assert_eq!(
        shape(&document),
        [
            (BlockKind::Heading(1), 1, "Spring"),
            (BlockKind::Text, 1, "Prune the pears."),
            (BlockKind::Heading(1), 2, "Autumn"),
            (BlockKind::Text, 2, "Pick the quinces."),
        ]
    );
    let locked =
        zipped(&[("META-INF/encryption.xml", r#"<EncryptedData><EncryptionMethod Algorithm="aes"/></EncryptedData>"#)]);
    assert!(read("a.epub", &locked).expect_err("locked").message.contains("copying"));
}

#[test]
fn entities_and_depth_cost_nothing_in_any_package() {
    let entities = "<!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>";
    let deep = format!("{}{}", "<text:span>".repeat(100_000), "</text:span>".repeat(100_000));
    let body = format!("{entities}<o:body xmlns:o='o' xmlns:text='t'><text:p>one &b; two{deep}</text:p></o:body>");
    let document = checked("a.odt", &zipped(&[("content.xml", &body)]));
    assert_eq!(document.text.split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn one_part_named_many_times_is_unpacked_within_the_budget() {
    let page = " ".repeat(60 << 20);
    let bytes = zipped(&[("a.xhtml", &page)]);
    let mut package = package::Package::open(&bytes, "EPUB").expect("it opens");
    for _ in 0..4 {
        assert_eq!(package.bytes("a.xhtml").expect("within the budget").map(|page| page.len()), Some(60 << 20));
    }
    assert_eq!(package.bytes("a.xhtml").expect_err("too much").why, Why::TooLarge);
}
