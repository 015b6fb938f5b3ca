//! Citations: the quotation stands in the file at that place now, or there is no citation.

use super::bad::{pdf, pdf_of};
use super::{Place, index, search};
use base::Place as Where;
use freehold_map::verify::{cite, verify};
use freehold_map::{Map, cite};

fn first(map: &Map, question: &str) -> freehold_map::Hit {
    search(map, question).hits.into_iter().next().expect("something is found")
}

/// The bytes that a citation points at.
fn pointed(citation: &base::Citation) -> String {
    let Where::Lines { byte_start, byte_end, .. } = citation.place else { panic!("lines: {citation:?}") };
    let bytes = std::fs::read(&citation.path).expect("read");
    String::from_utf8_lossy(&bytes[byte_start as usize..byte_end as usize]).into_owned()
}

#[test]
fn quotations_of_text_point_at_their_own_bytes_and_lines() {
    let place = Place::new();
    place.write("a.md", "# Cellar\n\nDry.\n\nThe **wine** rack holds `144` bottles &amp; six crates.\n");
    place.write(
        "b.html",
        "<html>\n<title>Attic</title>\n<p>The attic\n floor bears <b>200</b>&nbsp;kg\n per&nbsp;square metre.</p>",
    );
    place.write("c.txt", "Shed\n\nThe shed roof was tarred\nin the spring of 2019.\n");
    place.write(
        "d.py",
        "LIMIT = 3\n\ndef attempts():\n    \"\"\"Attempts at the door before the alarm.\"\"\"\n    return LIMIT\n",
    );
    place.write("latin.txt", b"Stube\n\nDie T\xfcr zur Stube ist 98 cm breit.\n");
    place.write(
        "m.eml",
        "From: a@example.org\r\nSubject: Fence\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
         The fence at the caf=C3=A9 is 1.80 m =\r\nhigh.\r\n",
    );
    let map = place.map();
    index(&map, &place.files(), None).report();
    for (question, quote, source, lines) in [
        (
            "how many bottles does the wine rack hold",
            "The wine rack holds 144 bottles & six crates.",
            "The **wine** rack holds `144` bottles &amp; six crates.",
            (5, 5),
        ),
        (
            "how much does the attic floor bear",
            "The attic floor bears 200\u{a0}kg per\u{a0}square metre.",
            "The attic\n floor bears <b>200</b>&nbsp;kg\n per&nbsp;square metre.",
            (3, 5),
        ),
        (
            "when was the shed roof tarred",
            "The shed roof was tarred\nin the spring of 2019.",
            "The shed roof was tarred\nin the spring of 2019.",
            (3, 4),
        ),
        ("Tür Stube breit", "Die Tür zur Stube ist 98 cm breit.", "Die T\u{fffd}r zur Stube ist 98 cm breit.", (3, 3)),
        (
            "how high is the fence at the café",
            "The fence at the café is 1.80 m high.",
            "The fence at the caf=C3=A9 is 1.80 m =\r\nhigh.",
            (6, 7),
        ),
    ] {
        let hits = [first(&map, question)];
        let cited = cite(question, &hits, &[0]);
        let [quoted] = cited.quoted.as_slice() else { panic!("{question}: {:?}", cited.notices) };
        let citation = &quoted.citation;
        assert_eq!(citation.quote, quote);
        assert_eq!(pointed(citation), source, "{question}");
        let Where::Lines { first, last, .. } = citation.place else { panic!("lines") };
        assert_eq!((first, last), lines, "{question}");
        assert_eq!(citation.quote_hash, blake3::hash(quote.as_bytes()).to_hex().to_string());
    }
}

#[test]
fn a_changed_quotation_is_dropped_and_a_moved_one_is_not_trusted() {
    let place = Place::new();
    let path = place.write("a.txt", "The gate code is changed in May.\n\nThe bell works.\n");
    let map = place.map();
    index(&map, &place.files(), None).report();
    let question = "when is the gate code changed";
    let hits = [first(&map, question)];
    let cited = |hits: &[freehold_map::Hit]| cite(question, hits, &[0]);
    let before = cited(&hits);
    assert_eq!((before.quoted[0].passage.as_str(), before.quoted[0].whole), (hits[0].text.as_str(), true));
    assert!(before.quoted.len() == 1 && before.notices.is_empty());

    // Another sentence of the same passage changed: the quotation still stands where it stood, and nothing
    // but what stands is handed on.
    std::fs::write(&path, "The gate code is changed in May.\n\nThe bell is broken.\n").expect("written");
    let partly = cited(&hits);
    assert_eq!(partly.quoted[0].citation.quote, "The gate code is changed in May.");
    assert_eq!(
        (partly.quoted[0].passage.as_str(), partly.quoted[0].whole),
        ("The gate code is changed in May.", false)
    );
    assert!(partly.notices[0].contains("a part of") && partly.notices[0].contains("freehold index"), "{partly:?}");

    for (text, why) in [
        ("The gate code is changed in June.\n\nThe bell works.\n", "has changed"),
        ("A line above.\nThe gate code is changed in May.\n", "has changed"),
        ("", "has changed"),
    ] {
        std::fs::write(&path, text).expect("written");
        let cited = cited(&hits);
        assert!(cited.quoted.is_empty());
        assert!(cited.notices[0].contains(why) && cited.notices[0].contains("freehold index"), "{:?}", cited.notices);
    }
    std::fs::remove_file(&path).expect("removed");
    assert!(cited(&hits).notices[0].contains("has gone"));
}

#[test]
fn broken_bytes_are_cited_as_they_were_read() {
    let place = Place::new();
    place.write("a.txt", b"Gr\xc3\xb6\xc3\x9fe und H\xc3\xb6he.\n\nThe mill \xff wheel turns eastward.\n");
    let map = place.map();
    index(&map, &place.files(), None).report();
    let question = "which way does the mill wheel turn";
    let cited = cite(question, &[first(&map, question)], &[0]);
    assert_eq!(cited.quoted[0].citation.quote, "The mill \u{fffd} wheel turns eastward.", "{cited:?}");
    assert_eq!(pointed(&cited.quoted[0].citation), cited.quoted[0].citation.quote);
}

#[test]
fn an_unchanged_file_vouches_for_no_words_that_it_does_not_hold() {
    let place = Place::new();
    place.write("a.txt", "The gate code is changed in May.\n");
    let map = place.map();
    index(&map, &place.files(), None).report();
    let mut hit = first(&map, "when is the gate code changed");
    assert!(verify(&hit, 0..hit.text.len()).is_ok());
    // As a reader that lies would have it.
    hit.text = hit.text.replace("May", "Mai");
    assert!(verify(&hit, 0..hit.text.len()).is_err());
}

#[test]
fn headings_count_only_while_the_file_is_the_same() {
    let place = Place::new();
    let text = "# House\n\n## Cellar\n\nThe wine rack holds 144 bottles.\n";
    let path = place.write("a.md", text);
    let map = place.map();
    index(&map, &place.files(), None).report();
    let question = "how many bottles does the wine rack hold";
    let hits = [first(&map, question)];
    let above = |cited: &freehold_map::verify::Cited| (cited.quoted[0].title.clone(), cited.quoted[0].heading.clone());
    assert_eq!(above(&cite(question, &hits, &[0])), ("House".into(), "House > Cellar".into()));
    std::fs::write(&path, text.replace("House", "Barge")).expect("written");
    let cited = cite(question, &hits, &[0]);
    assert_eq!(above(&cited), ("a".into(), String::new()));
    assert!(!cited.quoted[0].passage.contains("House"), "{cited:?}");
}

#[test]
fn pages_are_cited_only_while_the_file_is_the_same() {
    let place = Place::new();
    let path = place.write("guide.pdf", pdf(&["The first page speaks of nothing.", "The pump is oiled twice a year."]));
    let map = place.map();
    index(&map, &place.files(), None).report();
    let question = "how often is the pump oiled";
    let hits = [first(&map, question)];
    let cited = cite(question, &hits, &[0]);
    assert!(cited.quoted[0].citation.quote.contains("oiled twice a year"), "{cited:?}");
    assert!(
        matches!(cited.quoted[0].citation.place, Where::Page { last: 2, .. }),
        "{:?}",
        cited.quoted[0].citation.place
    );
    // The line of print where the words stand: 12 points high, from 60 points right of the left edge on.
    let Where::Page { boxes, .. } = &cited.quoted[0].citation.place else { panic!("a page") };
    let [line] = boxes.as_slice() else { panic!("one line: {boxes:?}") };
    assert_eq!((line.page, line.left, line.top, line.bottom), (2, 60, 132, 145));
    assert!((200..280).contains(&line.right), "{line:?}");
    let at = hits[0].text.find("twice").expect("there");
    let Ok(Where::Page { boxes, .. }) = verify(&hits[0], at..at + 5) else { panic!("a page") };
    assert!(boxes.len() == 1 && boxes[0].left > line.left + 60 && boxes[0].right < line.right - 20, "{boxes:?}");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.push(b'\n');
    std::fs::write(&path, bytes).expect("written");
    assert!(cite(question, &hits, &[0]).quoted.is_empty());
}

pub(crate) fn zipped(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in parts {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a part");
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("it fits");
    }
    writer.finish().expect("a zip").into_inner()
}

#[test]
fn tables_slides_books_and_data_are_cited_at_their_places() {
    let place = Place::new();
    place.write("rents.csv", "flat,rent,note\nmill,1150,\"due on \"\"the third\"\"\"\nshed,90,none\n");
    place.write(
        "stock.json",
        r#"{"shelves": [{"thing": "quince jam", "jars": 14}, {"thing": "caf\u00e9 beans", "sacks": 3}]}"#,
    );
    place.write(
        "home.ics",
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:20250310T093000\r\nSUMMARY:Chimney swe\r\n ep comes\r\nLOCATION:Attic\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    );
    let sheet = "<worksheet><sheetData><row r=\"4\"><c r=\"B4\" t=\"inlineStr\"><is><t>Boiler pressure</t></is></c><c r=\"C4\"><v>1.6</v></c></row></sheetData></worksheet>";
    place.write(
        "meters.xlsx",
        zipped(&[
            (
                "xl/workbook.xml",
                "<workbook xmlns:r=\"r\"><sheets><sheet name=\"Cellar\" r:id=\"r1\"/></sheets></workbook>",
            ),
            ("xl/_rels/workbook.xml.rels", "<a><Relationship Id=\"r1\" Target=\"s.xml\"/></a>"),
            ("xl/s.xml", sheet),
        ]),
    );
    let slides = "<o:body xmlns:o=\"o\" xmlns:d=\"d\" xmlns:t=\"t\"><d:page><t:p>Nothing here.</t:p></d:page><d:page><t:p>The greenhouse door faces south.</t:p></d:page></o:body>";
    place.write("plan.odp", zipped(&[("content.xml", slides)]));
    let map = place.map();
    index(&map, &place.files(), None).report();
    for (question, quote, printed, bytes) in [
        (
            "when is the rent of the mill flat due",
            "mill\t1150\tdue on \"the third\"",
            "A2:C2",
            Some("mill,1150,\"due on \"\"the third\"\""),
        ),
        ("café beans", "thing: café beans", "1", Some("thing\": \"caf\\u00e9 beans")),
        ("chimney sweep", "SUMMARY: Chimney sweep comes", "4-5", Some("SUMMARY:Chimney swe\r\n ep comes")),
        ("boiler pressure", "Boiler pressure\t1.6", "Cellar!B4:C4", None),
        ("which way does the greenhouse door face", "The greenhouse door faces south.", "slide 1-2", None),
    ] {
        let hits = [first(&map, question)];
        let cited = cite(question, &hits, &[0]);
        let [quoted] = cited.quoted.as_slice() else { panic!("{question}: {:?}", cited.notices) };
        let citation = &quoted.citation;
        assert_eq!((citation.quote.as_str(), citation.place.to_string().as_str()), (quote, printed), "{question}");
        let range = match citation.place {
            Where::Lines { byte_start, byte_end, .. } => Some((byte_start, byte_end)),
            Where::Cells { byte_start, byte_end, .. } => byte_start.zip(byte_end),
            _ => None,
        };
        let file = std::fs::read(&citation.path).expect("read");
        let stands =
            range.map(|(start, end)| String::from_utf8_lossy(&file[start as usize..end as usize]).into_owned());
        assert_eq!(stands.as_deref(), bytes, "{question}");
        // Any change of the file drops what only the whole file vouches for, and nothing else.
        std::fs::write(&citation.path, [&file[..], b" "].concat()).expect("written");
        assert_eq!(cite(question, &hits, &[0]).quoted.len(), usize::from(bytes.is_some()), "{question}");
    }
}

#[test]
fn mailboxes_are_read_message_by_message_with_what_is_attached() {
    let place = Place::new();
    let sheet = "<worksheet><sheetData><row r=\"2\"><c r=\"B2\" t=\"inlineStr\"><is><t>Lightning rod: 740 euros</t></is></c></row></sheetData></worksheet>";
    let xlsx = zipped(&[
        ("xl/workbook.xml", "<workbook xmlns:r=\"r\"><sheets><sheet name=\"Offer\" r:id=\"r1\"/></sheets></workbook>"),
        ("xl/_rels/workbook.xml.rels", "<a><Relationship Id=\"r1\" Target=\"s.xml\"/></a>"),
        ("xl/s.xml", sheet),
    ]);
    let encoded = base64(&xlsx);
    let mbox = format!(
        "From ann@example.org Mon Jan  6 10:00:00 2025\nFrom: ann@example.org\nSubject: Chimney\n\nThe sweep comes on the ninth.\n\n\
         From bob@example.org Mon Jan  6 11:00:00 2025\nFrom: bob@example.org\nSubject: Offer\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=zz\n\n--zz\n\nSee the table.\n--zz\nContent-Type: application/octet-stream\n\
         Content-Disposition: attachment; filename=\"offer.xlsx\"\nContent-Transfer-Encoding: base64\n\n{encoded}\n--zz\nContent-Type: image/png\n\
         Content-Disposition: attachment; filename=\"roof.png\"\n\nAAAA\n--zz--\n"
    );
    place.write("Mail/Inbox", &mbox);
    for folder in [".Sent/cur", ".Sent/new", ".Sent/tmp", ".cache"] {
        std::fs::create_dir_all(place.files().join(folder)).expect("made");
    }
    place.write(".Sent/cur/1736.M1.host:2,S", "Subject: Well\n\nThe well is eleven metres deep.\n");
    place.write(".cache/a.txt", "The well is nine metres deep.\n");
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 2, "{:?}", ran.report().skipped);
    let told = ran.notices().iter().any(|notice| notice.contains("Inbox") && notice.contains("roof.png` isn't read"));
    assert!(told, "{:?}", ran.notices());
    for (question, quote, heading, bytes) in [
        ("when does the sweep come", "The sweep comes on the ninth.", "Chimney", "The sweep comes on the ninth."),
        ("how much is the lightning rod", "Lightning rod: 740 euros", "Offer > offer.xlsx > Offer", encoded.trim()),
        ("how deep is the well", "The well is eleven metres deep.", "", "The well is eleven metres deep."),
    ] {
        let hits = [first(&map, question)];
        let cited = cite(question, &hits, &[0]);
        let [quoted] = cited.quoted.as_slice() else { panic!("{question}: {:?}", cited.notices) };
        assert!(quoted.citation.quote.contains(quote), "{quoted:?}");
        assert_eq!((quoted.heading.as_str(), pointed(&quoted.citation).trim()), (heading, bytes));
    }
}

/// Standard Base64, in lines as mail has it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in bytes.chunks(3).enumerate() {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..4 {
            let value = (bits >> (18 - 6 * letter)) as usize & 63;
            text.push(if letter > three.len() { '=' } else { char::from(LETTERS[value]) });
        }
        if at % 19 == 18 {
            text.push('\n');
        }
    }
    text
}

/// One page in Courier, 12 points: each letter is 7.2 points wide. `draw` writes the page's contents.
fn courier(draw: &str, form: &str) -> Vec<u8> {
    let stream = |head: &str, body: &str| format!("<< {head} /Length {} >>\nstream\n{body}\nendstream", body.len());
    let fonts = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >> >>";
    pdf_of(&[
        "<< /Type /Catalog /Pages 2 0 R >>".into(),
        "<< /Type /Pages /Count 1 /Kids [3 0 R] >>".into(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << {fonts} /XObject << /X 5 0 R >> >> >>"
        ),
        stream("", draw),
        stream(&format!("/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << {fonts} >>"), form),
    ])
}

/// Words in lines of at most so many letters.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if lines[last].len() + word.len() + 1 > letters {
            lines.push(word.to_owned());
        } else {
            lines[last] = format!("{} {word}", lines[last]).trim().to_owned();
        }
    }
    lines
}

fn line(x: f64, row: usize, words: &str) -> String {
    format!("BT /F1 12 Tf {x} {} Td ({words}) Tj ET\n", 780 - row * 14)
}

#[test]
fn sentences_of_a_pdf_stand_in_it_however_it_was_drawn() {
    const NOUNS: [&str; 8] = ["orchard", "boiler", "harbour", "attic", "engine", "meadow", "ladder", "chimney"];
    let sentence = |file: usize, i: usize| {
        let noun = |k: usize| NOUNS[k % NOUNS.len()];
        format!(
            "The {} numbered {} stands behind the {} since {}.",
            noun(i),
            file * 100 + i,
            noun(i * 3 + file),
            1900 + i
        )
    };
    const SENTENCES: usize = 12;
    let text = |file| (0..SENTENCES).map(|i| sentence(file, i)).collect::<Vec<_>>().join(" ");
    let place = Place::new();
    // As lines; in kerned pieces; word by word; in two columns, row by row; within a form.
    let lines: String = wrapped(&text(0), 60).iter().enumerate().map(|(row, words)| line(50.0, row, words)).collect();
    place.write("0.pdf", courier(&lines, ""));
    let kerned = |words: &str| {
        let pieces: Vec<String> =
            words.as_bytes().chunks(4).map(|four| format!("({}) 15", String::from_utf8_lossy(four))).collect();
        format!("[{}] TJ T*", pieces.join(" "))
    };
    let pieces: Vec<String> = wrapped(&text(1), 60).iter().map(|words| kerned(words)).collect();
    place.write("1.pdf", courier(&format!("BT /F1 12 Tf 14 TL 50 780 Td {} ET", pieces.join("\n")), ""));
    let mut words = String::new();
    for (row, one) in wrapped(&text(2), 60).iter().enumerate() {
        let mut x = 50.0;
        for word in one.split(' ') {
            words += &line(x, row, word);
            x += (word.len() + 1) as f64 * 7.2;
        }
    }
    place.write("2.pdf", courier(&words, ""));
    let column = wrapped(&text(3), 30);
    let (left, right) = column.split_at(column.len().div_ceil(2));
    let rows: String = (0..left.len())
        .map(|row| {
            line(50.0, row, &left[row]) + &right.get(row).map(|words| line(320.0, row, words)).unwrap_or_default()
        })
        .collect();
    place.write("3.pdf", courier(&rows, ""));
    let lines: String = wrapped(&text(4), 60).iter().enumerate().map(|(row, words)| line(50.0, row, words)).collect();
    place.write("4.pdf", courier("/X Do", &lines));
    let map = place.map();
    assert_eq!(index(&map, &place.files(), None).report().documents, 5);
    let mut missing = Vec::new();
    for (file, i) in (0..5).flat_map(|file| (0..SENTENCES).map(move |i| (file, i))) {
        let wanted = sentence(file, i);
        let hits = search(&map, &wanted).hits;
        let hit = hits.iter().find(|hit| hit.path.ends_with(format!("{file}.pdf")) && hit.text.contains(&wanted));
        let Some(hit) = hit else {
            missing.push(wanted);
            continue;
        };
        let at = hit.text.find(&wanted).expect("there");
        let Ok(Where::Page { boxes, .. }) = verify(hit, at..at + wanted.len()) else { panic!("{wanted}: a page") };
        // The rectangles are as long as the letters in them, within the rounding and the spaces at the ends of lines.
        let long: u32 = boxes.iter().map(|line| line.right - line.left).sum();
        let least = (wanted.len() - boxes.len()) as f64 * 7.2;
        assert!((least - 12.0..least + 24.0).contains(&f64::from(long)), "{wanted}: {long} for {least}: {boxes:?}");
        assert!(boxes.iter().all(|line| (12..=15).contains(&(line.bottom - line.top))), "{boxes:?}");
    }
    assert!(missing.is_empty(), "{} of {}: {missing:#?}", missing.len(), 5 * SENTENCES);
}

#[test]
fn every_stretch_of_every_passage_stands_in_its_file() {
    let place = Place::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../library");
    let map = place.map();
    let ran = index(&map, &folder, None);
    assert!(ran.report().skipped.is_empty(), "{:?}", ran.report().skipped);
    let mut checked = 0;
    for word in [
        "boiler",
        "water",
        "year",
        "euros",
        "month",
        "day",
        "the of and",
        "flour",
        "garden",
        "bicycle",
        "meter",
        "glue",
    ] {
        for hit in search(&map, word).hits {
            for sentence in freehold_map::sentence::ranges(&hit.text) {
                let place = verify(&hit, sentence.clone());
                assert!(place.is_ok(), "`{}` in {}", &hit.text[sentence], hit.path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
    let marker = cite::Marker::new(&[]);
    assert_eq!(marker.finish().0, "");
}
