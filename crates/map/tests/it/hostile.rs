//! Files that were made to harm: each costs itself at most, and the report has a line for it.

use super::bad::pdf_of;
use super::{Place, index, names, search};
use std::io::{Cursor, Write};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).expect("a part");
        writer.write_all(bytes).expect("it fits");
    }
    writer.finish().expect("a zip").into_inner()
}

fn content(body: &str) -> Vec<u8> {
    zipped(&[("content.xml", format!("<o:body xmlns:o='o' xmlns:t='t' xmlns:b='b'>{body}</o:body>").as_bytes())])
}

/// Files of which nothing can be read, with a part of the sentence that says so.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let bomb = vec![b' '; 80 << 20];
    let inner = zipped(&[("bomb.bin", &bomb)]);
    let page = |contents: &str, resources: &str| {
        format!("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {contents} /Resources {resources} >>")
    };
    let stream = |head: &str, body: &str| format!("<< {head} /Length {} >>\nstream\n{body}\nendstream", body.len());
    let pages = "<< /Type /Pages /Count 1 /Kids [3 0 R] >>".to_owned();
    let catalog = "<< /Type /Catalog /Pages 2 0 R >>".to_owned();
    vec![
        ("bomb.ods", zipped(&[("content.xml", &bomb)]), "64 MiB"),
        ("nested.zip", zipped(&[("inner.zip", &inner)]), "an archive"),
        // The name says document, the inside is another archive.
        ("nested.xlsx", zipped(&[("xl/workbook.xml", &inner)]), "UTF-8"),
        (
            "empty.pptx",
            zipped(&[("../../etc/passwd", b"root"), ("/ppt/presentation.xml", b"<x/>")]),
            "presentation.xml",
        ),
        // A form that draws itself.
        (
            "itself.pdf",
            pdf_of(&[
                catalog.clone(),
                pages.clone(),
                page("4 0 R", "<< /XObject << /X 5 0 R >> >>"),
                stream("", "/X Do"),
                stream(
                    "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>",
                    "/X Do /X Do",
                ),
            ]),
            "",
        ),
        // Pages that are their own parents.
        ("loop.pdf", pdf_of(&[catalog, "<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R] >>".into()]), ""),
    ]
}

/// Files that look as bad and are read all the same.
fn read() -> Vec<(&'static str, Vec<u8>)> {
    let depth = 100_000;
    let mut mail = "Subject: innermost\r\n\r\nNo one gets here.\r\n".to_owned();
    for level in 0..60 {
        mail = format!(
            "Subject: level {level}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n\r\n\
             pears\r\n--b{level}\r\nContent-Type: message/rfc822\r\n\r\n{mail}\r\n--b{level}--\r\n"
        );
    }
    let cells = "<worksheet><sheetData><row r=\"1\"><c r=\"A1\"><v>1</v></c></row><row r=\"1048576\"><c r=\"XFD1048576\" t=\"str\"><v>pears</v></c></row></sheetData></worksheet>";
    vec![
        ("deep.odt", content(&format!("{}<t:p>pears</t:p>{}", "<x>".repeat(depth), "</x>".repeat(depth)))),
        ("deep.json", format!("{}\"pears\"{}", "[".repeat(depth), "]".repeat(depth)).into_bytes()),
        ("deep.html", format!("<p>pears{}", "<div>".repeat(depth)).into_bytes()),
        ("deep.md", format!("{} pears", ">".repeat(depth)).into_bytes()),
        ("deep.eml", mail.into_bytes()),
        ("repeated.ods", content("<b:table b:name='S'><b:table-row b:number-rows-repeated='4294967295'><b:table-cell b:number-columns-repeated='4294967295'><t:p>pears</t:p></b:table-cell></b:table-row></b:table>")),
        (
            "far.xlsx",
            zipped(&[
                ("xl/workbook.xml", b"<workbook xmlns:r='r'><sheets><sheet name='S' r:id='a'/></sheets></workbook>"),
                ("xl/_rels/workbook.xml.rels", b"<a><Relationship Id='a' Target='s.xml'/></a>"),
                ("xl/s.xml", cells.as_bytes()),
            ]),
        ),
        ("entities.odt", zipped(&[("content.xml", b"<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'><!ENTITY c SYSTEM 'file:///etc/passwd'>]><o:b xmlns:o='o' xmlns:t='t'><t:p>pears &b; &c;</t:p></o:b>")])),
    ]
}

#[test]
fn what_was_made_to_harm_costs_itself_and_is_told() {
    let place = Place::new();
    place.write("good.txt", "words about pears");
    for (name, bytes, _) in refused() {
        place.write(name, bytes);
    }
    for (name, bytes) in read() {
        place.write(name, bytes);
    }
    // A link to the folder itself, and two that lead to each other.
    symlink(place.files(), place.files().join("round")).expect("a link");
    symlink(place.files().join("b"), place.files().join("a")).expect("a link");
    symlink(place.files().join("a"), place.files().join("b")).expect("a link");
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    for (name, _, part) in refused() {
        assert!(ran.skipped(name).to_string().contains(part), "{name}: {}", ran.skipped(name));
    }
    for name in ["round", "a", "b"] {
        assert!(ran.skipped(name).to_string().contains("link"), "{name}");
    }
    let found = names(&search(&map, "pears"));
    for name in read().into_iter().map(|(name, _)| name).chain(["good.txt"]) {
        let skipped = ran.report().skipped.iter().find(|(path, _)| path.ends_with(name));
        assert!(skipped.is_none(), "{name}: {skipped:?}");
    }
    assert_eq!(ran.report().documents, read().len() as u64 + 1, "{found:?}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_right_in_the_end() {
    let place = Place::new();
    let path = place.write("diary.txt", "Day 0: the well is full.\n");
    let (map, stop) = (place.map(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut day = 0;
            while !stop.load(Ordering::Relaxed) {
                day += 1;
                let lines: String = (0..day % 500).map(|line| format!("Day {day}, line {line}.\n")).collect();
                std::fs::write(&path, lines + "end of it\n").expect("written");
            }
        });
        for _ in 0..8 {
            // Whatever was caught is one state of the file: what is quoted stands there, or isn't quoted.
            index(&map, &place.files(), None);
            let hits = search(&map, "end of it").hits;
            let cited = freehold_map::verify::cite("end of it", &hits, &[0]);
            for quoted in &cited.quoted {
                assert!(quoted.citation.quote.contains("end of it"), "{quoted:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    std::fs::write(&path, "At last the well is dry.\n").expect("written");
    index(&map, &place.files(), None).report();
    let hits = search(&map, "well dry").hits;
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].text, "At last the well is dry.");
}
