//! What documents say of themselves: filters go by it, and hits show it.

use super::bad::pdf_of;
use super::proof::zipped;
use super::{Place, index};
use freehold_map::syntax::parse;
use freehold_map::{Day, Found, Map, Query};

/// A page with these words, and what the document says of itself.
fn pdf(words: &str, info: &str, xmp: &str) -> Vec<u8> {
    let stream = |head: &str, body: &str| format!("<< {head} /Length {} >>\nstream\n{body}\nendstream", body.len());
    let bytes = pdf_of(&[
        "<< /Type /Catalog /Pages 2 0 R /Metadata 7 0 R >>".into(),
        "<< /Type /Pages /Count 1 /Kids [5 0 R] >>".into(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".into(),
        stream("", &format!("BT /F1 12 Tf 60 700 Td ({words}) Tj ET")),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
            .into(),
        format!("<< {info} >>"),
        stream("/Type /Metadata /Subtype /XML", xmp),
    ]);
    let text = String::from_utf8(bytes).expect("it is ASCII");
    text.replace("/Root 1 0 R", "/Root 1 0 R /Info 6 0 R").into_bytes()
}

fn core(author: &str, created: &str, modified: &str) -> String {
    format!(
        "<cp:coreProperties><dc:creator>{author}</dc:creator><dcterms:created>{created}</dcterms:created>\
         <dcterms:modified>{modified}</dcterms:modified></cp:coreProperties>"
    )
}

fn docx(words: &str, core: &str) -> Vec<u8> {
    let body = format!("<w:document xmlns:w='x'><w:p><w:r><w:t>{words}</w:t></w:r></w:p></w:document>");
    zipped(&[("word/document.xml", &body), ("docProps/core.xml", core)])
}

fn packages(place: &Place, words: &dyn Fn(&str) -> String) {
    place.write("c.docx", docx(&words("quince"), &core("Ada Lund", "2012-01-01", "2013-03-09T10:00:00Z")));
    let sheet = format!(
        "<worksheet><sheetData><row r='1'><c r='A1' t='inlineStr'><is><t>{}</t></is></c></row></sheetData></worksheet>",
        words("plum")
    );
    place.write(
        "d.xlsx",
        zipped(&[
            ("xl/workbook.xml", "<workbook xmlns:r='r'><sheets><sheet name='One' r:id='r1'/></sheets></workbook>"),
            ("xl/_rels/workbook.xml.rels", "<Relationships><Relationship Id='r1' Target='s.xml'/></Relationships>"),
            ("xl/s.xml", &sheet),
            ("docProps/core.xml", &core("Ada Lund", "2014-03-09T10:00:00Z", "")),
        ]),
    );
    let slide = format!("<p:sld xmlns:p='p' xmlns:a='a'><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sld>", words("sloe"));
    place.write(
        "e.pptx",
        zipped(&[
            ("ppt/presentation.xml", "<p:presentation xmlns:r='r'><p:sldId id='256' r:id='r1'/></p:presentation>"),
            (
                "ppt/_rels/presentation.xml.rels",
                "<Relationships><Relationship Id='r1' Target='s.xml'/></Relationships>",
            ),
            ("ppt/s.xml", &slide),
            ("docProps/core.xml", &core("Ada Lund", "", "2015-03-09")),
        ]),
    );
    let text = format!("<office:text xmlns:text='t'><text:p>{}</text:p></office:text>", words("pear"));
    let meta = "<office:meta><meta:initial-creator>Ada Lund</meta:initial-creator><dc:creator>Bob</dc:creator>\
                <dc:date>2016-03-09T10:00:00</dc:date></office:meta>";
    place.write("f.odt", zipped(&[("content.xml", &text), ("meta.xml", meta)]));
    let chapter = format!("<html><body><p>{}</p></body></html>", words("fig"));
    place.write(
        "g.epub",
        zipped(&[
            ("META-INF/container.xml", "<container><rootfile full-path='b.opf'/></container>"),
            (
                "b.opf",
                "<package><metadata><dc:creator>Ada Lund</dc:creator><dc:date>2017-03-09</dc:date></metadata>\
                 <manifest><item id='a' href='a.xhtml'/></manifest><spine><itemref idref='a'/></spine></package>",
            ),
            ("a.xhtml", &chapter),
        ]),
    );
}

fn found(map: &Map, text: &str) -> Found {
    map.search(&Query::of(parse(text), 50), None).expect("it searches")
}

fn names(found: &Found) -> Vec<String> {
    let mut names = super::names(found);
    names.sort();
    names
}

#[test]
fn documents_of_every_format_are_filtered_by_what_they_say_of_themselves() {
    let place = Place::new();
    let words = |fruit: &str| format!("Medlars {fruit} grow {fruit} by {fruit} walls");
    place.write("a.md", format!("---\nauthor: Ada Lund\ndate: 2011-03-09\n---\n\n{}\n", words("apple")));
    place.write(
        "b.html",
        format!(
            "<html><head><meta name=author content='Ada Lund'><meta name=date content=2012-03-09></head><p>{}</p></html>",
            words("cherry")
        ),
    );
    packages(&place, &words);
    place.write("h.pdf", pdf(&words("berry"), "/Author (Ada Lund) /ModDate (D:20180309120000Z)", "<x/>"));
    let xmp = "<x><dc:creator><rdf:Seq><rdf:li>Ada Lund</rdf:li></rdf:Seq></dc:creator>\
               <xmp:CreateDate>2019-03-09T10:00:00Z</xmp:CreateDate></x>";
    place.write("i.pdf", pdf(&words("grape"), "", xmp));
    place.write(
        "j.eml",
        format!(
            "From: Ada Lund <ada@example.org>\r\nDate: Mon, 9 Mar 2020 10:00:00 +0100\r\n\r\n{}\r\n",
            words("hazel")
        ),
    );
    // What can't be believed: the file's time stands for it.
    place.write("k.docx", docx(&words("date"), &core("Ada Lund", "1601-01-01T00:00:00Z", "9999-12-31T00:00:00Z")));
    place.write("l.docx", docx(&words("olive"), &core(&"Eve ".repeat(1 << 18), "whenever", "1970-01-01T00:00:00Z")));
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 12, "{:?}", ran.report().skipped);

    let dated = ["a.md", "b.html", "c.docx", "d.xlsx", "e.pptx", "f.odt", "g.epub", "h.pdf", "i.pdf", "j.eml"];
    let by_author = found(&map, "medlars author:lund before:2020-03-10");
    assert_eq!(names(&by_author), dated);
    for hit in &by_author.hits {
        let name = hit.path.file_name().expect("a name").to_string_lossy().into_owned();
        let year = 2011 + dated.iter().position(|own| *own == name).expect("one of them");
        assert_eq!(hit.about.written, Day::parse(&format!("{year}-03-09")), "{name}");
        assert!(hit.about.author.as_deref().is_some_and(|author| author.starts_with("Ada Lund")), "{name}");
    }
    assert_eq!(names(&found(&map, "medlars after:2013-03-09 before:2014-03-09")), ["c.docx"]);
    let rest = found(&map, "medlars after:2020-03-10");
    assert_eq!(names(&rest), ["k.docx", "l.docx"]);
    assert!(rest.hits.iter().all(|hit| hit.about.written.is_none()));
    assert_eq!(names(&found(&map, "medlars author:eve")), ["l.docx"]);
    let longest = rest.hits.iter().filter_map(|hit| hit.about.author.as_ref()).map(String::len).max();
    assert_eq!(longest, Some(199), "the author is bounded");
}
