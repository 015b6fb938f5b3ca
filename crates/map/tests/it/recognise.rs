//! Words on pictures and scans: with a stand-in for tesseract for every way that it can go, and with the real one where
//! it is installed.

use super::bad::pdf_of;
use super::{PROBE, Place, Ran, index, names, reader, search};
use base::{Code, Place as Where};
use freehold_map::verify::{cite, verify};
use freehold_map::{Languages, Map, Reader, Recogniser, RecogniserLimits};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const FAKE: &str = env!("CARGO_BIN_EXE_freehold-map-tesseract");

/// A reader that recognises by this program.
fn with(program: impl Into<PathBuf>, languages: Languages, picture_ms: u64) -> Reader {
    jail::set_trampoline(PROBE.into());
    let limits = RecogniserLimits { picture_ms, ..RecogniserLimits::default() };
    Reader { recogniser: Recogniser { program: program.into(), languages, limits }, ..reader() }
}

fn eng() -> Languages {
    Languages::Needed(vec!["eng".into()])
}

fn fake(place: &Place) -> Map {
    place.map_with(with(FAKE, eng(), 60_000))
}

/// The head of a PNG, and what the stand-in is to do with it.
fn png(order: &str) -> Vec<u8> {
    let head = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 3, 32, 0, 0, 2, 88, 8, 0, 0, 0, 0]].concat();
    [head, format!("FAKE:{order}\n").into_bytes()].concat()
}

/// Pages of words in Helvetica and of pictures, each 400 x 200 pixels over the whole page of 600 x 300 points.
fn pages(pages: &[Result<&str, (&str, &[u8])>]) -> Vec<u8> {
    let stream = |head: &str, body: &[u8]| {
        [format!("<< {head} /Length {} >>\nstream\n", body.len()).as_bytes(), body, b"\nendstream"].concat()
    };
    let mut objects: Vec<Vec<u8>> = vec![b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(), Vec::new()];
    let mut kids = Vec::new();
    let font = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >> >>";
    for page in pages {
        let (draw, resources) = match page {
            Ok(words) => (format!("BT /F1 12 Tf 60 200 Td ({words}) Tj ET"), font.to_owned()),
            Err((head, data)) => {
                objects.push(stream(&format!("/Type /XObject /Subtype /Image /Width 400 /Height 200 {head}"), data));
                ("q 600 0 0 300 0 0 cm /Im0 Do Q".into(), format!("/XObject << /Im0 {} 0 R >>", objects.len()))
            }
        };
        objects.push(stream("", draw.as_bytes()));
        let contents = objects.len();
        objects.push(
            format!("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 300] /Contents {contents} 0 R /Resources << {resources} >> >>")
                .into_bytes(),
        );
        kids.push(format!("{} 0 R", objects.len()));
    }
    objects[1] = format!("<< /Type /Pages /Count {} /Kids [{}] >>", kids.len(), kids.join(" ")).into_bytes();
    pdf_of(&objects)
}

const GREY: &str = "/ColorSpace /DeviceGray /BitsPerComponent 8";

fn says(ran: &Ran, name: &str, code: Code, part: &str) {
    let fault = ran.skipped(name);
    assert_eq!(fault.code, code, "{name}: {fault:?}");
    assert!(fault.to_string().contains(part) && !fault.hints.is_empty(), "{name}: {fault:?}");
}

#[test]
fn words_on_pictures_are_found_and_cited_by_their_rectangles() {
    let place = Place::new();
    let path = place.write("sign.png", png("words The quince pump is oiled twice a year."));
    let ran = index(&fake(&place), &place.files(), None);
    assert_eq!(ran.report().documents, 1, "{:?}", ran.report().skipped);
    // Neither a search nor a citation asks the recogniser again: there is none any more.
    let map = place.map_with(with("/nonexistent/tesseract", eng(), 60_000));
    let question = "how often is the quince pump oiled";
    let hit = search(&map, question).hits.remove(0);
    let cited = cite(question, std::slice::from_ref(&hit), &[0]);
    assert_eq!(cited.quoted[0].citation.quote, "The quince pump is oiled twice a year.", "{cited:?}");
    let at = hit.text.find("pump").expect("it is there");
    let Ok(Where::Page { first: 1, last: 1, boxes }) = verify(&hit, at..at + 4) else { panic!("a page") };
    let [pump] = boxes.as_slice() else { panic!("one line: {boxes:?}") };
    assert_eq!((pump.left, pump.top, pump.right, pump.bottom), (130, 20, 180, 32));
    let again = index(&map, &place.files(), None);
    assert_eq!((again.report().unchanged, again.report().skipped_count), (1, 0));
    std::fs::write(&path, png("words Other words.")).expect("written");
    assert!(cite(question, &[hit], &[0]).quoted.is_empty(), "a picture that changed is not quoted");
}

#[test]
fn pages_of_a_scan_are_recognised_among_pages_of_text() {
    let place = Place::new();
    let scan = b"FAKE:words The quince seal was broken.\n";
    place.write("lease.pdf", pages(&[Ok("The lease begins in May."), Err((GREY, scan)), Ok("It ends in June.")]));
    place
        .write("packed.pdf", pages(&[Err(("/Filter /JBIG2Decode /BitsPerComponent 1 /ColorSpace /DeviceGray", b"x"))]));
    place.write("half.pdf", pages(&[Ok("Half of it is words."), Err((GREY, b"FAKE:hang\n"))]));
    let map = place.map_with(with(FAKE, eng(), 2_000));
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 2, "{:?}", ran.report().skipped);
    says(&ran, "packed.pdf", Code::DocumentInvalid, "page 1 isn't recognised: its picture is packed as JBIG2Decode");
    assert!(
        ran.notices().iter().any(|note| note.contains("half.pdf") && note.contains("page 2")),
        "{:?}",
        ran.notices()
    );
    let hit = search(&map, "was the quince seal broken").hits.remove(0);
    let at = hit.text.find("seal").expect("it is there");
    let Ok(Where::Page { first: 2, last: 2, boxes }) = verify(&hit, at..at + 4) else { panic!("a page") };
    // Pixels 130 to 180 of 400 across 600 points, and 20 to 32 of 200 down 300.
    assert_eq!((boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom), (195, 30, 270, 48));
    assert_eq!(names(&search(&map, "when does the lease begin"))[0], "lease.pdf");
}

#[test]
fn every_picture_of_a_tiff_is_a_page() {
    let place = Place::new();
    let directory = |next: u32| {
        let entry = |tag: u16, value: u32| {
            [&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat()
        };
        [&2u16.to_le_bytes()[..], &entry(256, 800), &entry(257, 600), &next.to_le_bytes()].concat()
    };
    let tiff = [b"II\x2a\0\x08\0\0\0".to_vec(), directory(38), directory(0), b"FAKE:page\n".to_vec()].concat();
    place.write("fax.tiff", tiff);
    let map = fake(&place);
    assert_eq!(index(&map, &place.files(), None).report().documents, 1);
    let hit = search(&map, "this is page 1").hits.remove(0);
    assert!(hit.text.contains("page 0 in eng") && hit.text.contains("page 1 in eng"), "{}", hit.text);
    let at = hit.text.find("page 1").expect("it is there");
    assert!(matches!(verify(&hit, at..at + 6), Ok(Where::Page { first: 2, last: 2, .. })));
}

#[test]
fn what_cannot_be_recognised_is_listed_with_its_reason() {
    let place = Place::new();
    for order in ["none", "unclear ~. |, _-", "garbage", "die", "hang", "flood"] {
        let name = order.split(' ').next().expect("a word");
        place.write(&format!("{name}.png"), png(order));
    }
    place.write("notes.md", "Words that are read whatever becomes of the pictures.");
    place.write("wrong.png", "no picture");
    place.write("cut.jpg", b"\xff\xd8\xff\xe0");
    let huge = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0x7f, 0, 0, 0, 0x7f, 0]].concat();
    place.write("huge.png", huge);
    let tiny = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0, 16, 0, 0, 0, 16]].concat();
    place.write("icon.png", tiny);
    let map = place.map_with(with(FAKE, eng(), 2_000));
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 1);
    let listed = [
        ("none.png", "no words are recognised"),
        ("unclear.png", "unreadable picture: its letters are recognised with a certainty of 21 of 100"),
        ("garbage.png", "isn't a table of words"),
        ("die.png", "tesseract ended with"),
        ("hang.png", "took longer than 2"),
        ("flood.png", "took longer than 2"),
        ("wrong.png", "not a picture"),
        ("cut.jpg", "doesn't say how large"),
        ("huge.png", "32512 x 32512 pixels; up to 100 million"),
        ("icon.png", "too few for words"),
    ];
    for (name, part) in listed {
        says(&ran, name, Code::DocumentInvalid, part);
    }
    // None of it is tried again while the files stay as they are: nothing hangs now.
    let ran = index(&place.map_with(with(FAKE, eng(), 600_000)), &place.files(), None);
    assert_eq!((ran.report().unchanged, ran.report().skipped_count), (1, listed.len() as u64));
}

#[test]
fn without_tesseract_pictures_wait_for_it() {
    let place = Place::new();
    place.write("sign.png", png("words The quince pump is oiled."));
    place.write("scan.pdf", pages(&[Err((GREY, b"FAKE:words The quince seal.\n"))]));
    place.write("half.pdf", pages(&[Ok("Half of it is words."), Err((GREY, b"FAKE:none\n"))]));
    let absent = place.map_with(with("/nonexistent/tesseract", eng(), 60_000));
    for _ in 0..2 {
        let ran = index(&absent, &place.files(), None);
        assert_eq!((ran.report().documents, ran.report().skipped_count), (1, 2));
        for name in ["sign.png", "scan.pdf"] {
            says(&ran, name, Code::RecogniserMissing, "tesseract, which isn't installed");
        }
    }
    drop(absent);
    // It is there now: what waited is read, and what was read isn't read again.
    let map = fake(&place);
    let ran = index(&map, &place.files(), None);
    assert_eq!((ran.report().unchanged, ran.report().documents, ran.report().skipped_count), (1, 3, 0));
    assert_eq!(names(&search(&map, "quince pump"))[0], "sign.png");
}

#[test]
fn languages_that_are_not_there_are_named_and_off_means_off() {
    let place = Place::new();
    place.write("sign.png", png("words The quince pump is oiled."));
    let french = Languages::Needed(vec!["eng".into(), "fra".into()]);
    for (name, languages, part) in
        [("fra", french, "no data for the language fra; it has deu, eng, osd"), ("off", Languages::Off, "switched off")]
    {
        let reader = with(FAKE, languages, 60_000);
        let map = Map::open(&place.files().with_file_name(name), reader).expect("it opens");
        says(&index(&map, &place.files(), None), "sign.png", Code::RecogniserMissing, part);
    }
    let wished = with(FAKE, Languages::Wished(vec!["eng".into(), "fra".into()]), 60_000);
    let map = Map::open(&place.files().with_file_name("wished"), wished).expect("it opens");
    assert_eq!(index(&map, &place.files(), None).report().documents, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_recogniser_that_was_taken_over_gets_nowhere() {
    let place = Place::new();
    place.write("trap.png", png("escape"));
    let map = fake(&place);
    index(&map, &place.files(), None).report();
    let hit = search(&map, "reading writing calling starting").hits.remove(0);
    for way in ["reading", "writing", "calling", "starting"] {
        assert!(hit.text.contains(&format!("{way} was refused")), "{}", hit.text);
    }
}

#[test]
fn a_cancelled_run_ends_the_picture_that_is_being_recognised() {
    let place = Place::new();
    place.write("a.md", "Words.");
    for number in 0..6 {
        place.write(&format!("{number}.png"), png("hang"));
    }
    let map = place.map_with(with(FAKE, eng(), 600_000));
    let cancel = AtomicBool::new(false);
    let mut on = |step| {
        // Everything else is read before the pictures, and is safe while they take their time.
        if matches!(step, freehold_map::IndexStep::Progress { stage: freehold_map::Stage::Commit, .. }) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let fault = map.index(&place.files(), None, &mut on, &cancel).expect_err("it was cancelled");
    assert_eq!(fault.code, Code::Cancelled);
    assert_eq!(names(&search(&map, "words")), ["a.md"]);
}

/// Capital letters, five dots wide and seven high.
const LETTERS: [(char, [&str; 7]); 15] = [
    ('A', [" ### ", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"]),
    ('B', ["#### ", "#   #", "#   #", "#### ", "#   #", "#   #", "#### "]),
    ('C', [" ####", "#    ", "#    ", "#    ", "#    ", "#    ", " ####"]),
    ('D', ["#### ", "#   #", "#   #", "#   #", "#   #", "#   #", "#### "]),
    ('E', ["#####", "#    ", "#    ", "#### ", "#    ", "#    ", "#####"]),
    ('H', ["#   #", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"]),
    ('I', [" ### ", "  #  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "]),
    ('L', ["#    ", "#    ", "#    ", "#    ", "#    ", "#    ", "#####"]),
    ('M', ["#   #", "## ##", "# # #", "#   #", "#   #", "#   #", "#   #"]),
    ('N', ["#   #", "##  #", "# # #", "#  ##", "#   #", "#   #", "#   #"]),
    ('O', [" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "]),
    ('R', ["#### ", "#   #", "#   #", "#### ", "# #  ", "#  # ", "#   #"]),
    ('S', [" ####", "#    ", "#    ", " ### ", "    #", "    #", "#### "]),
    ('T', ["#####", "  #  ", "  #  ", "  #  ", "  #  ", "  #  ", "  #  "]),
    ('U', ["#   #", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "]),
];

/// Grey pixels, 0 is black: lines of letters, each dot this many pixels wide.
fn drawn(lines: &[&str], dot: usize) -> (usize, usize, Vec<u8>) {
    let longest = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    let (width, height) = ((longest * 6 + 8) * dot, (lines.len() * 12 + 8) * dot);
    let mut pixels = vec![255u8; width * height];
    for (row, line) in lines.iter().enumerate() {
        for (column, letter) in line.chars().enumerate() {
            let Some((_, dots)) = LETTERS.iter().find(|(name, _)| *name == letter) else { continue };
            for (y, x) in (0..7 * dot).flat_map(|y| (0..5 * dot).map(move |x| (y, x))) {
                if dots[y / dot].as_bytes()[x / dot] == b'#' {
                    pixels[((row * 12 + 4) * dot + y) * width + (column * 6 + 4) * dot + x] = 0;
                }
            }
        }
    }
    (width, height, pixels)
}

fn bmp((width, height, pixels): &(usize, usize, Vec<u8>)) -> Vec<u8> {
    let pad = vec![0; width.next_multiple_of(4) - width];
    let mut file = b"BM".to_vec();
    let data_at = 14 + 40 + 1024u32;
    for number in [data_at + ((width + pad.len()) * height) as u32, 0, data_at, 40, *width as u32, *height as u32] {
        file.extend(number.to_le_bytes());
    }
    file.extend([1, 0, 8, 0]);
    for number in [0u32, 0, 11_811, 11_811, 256, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend((0..=255u8).flat_map(|shade| [shade, shade, shade, 0]));
    for row in pixels.chunks(*width).rev() {
        file.extend(row);
        file.extend(&pad);
    }
    file
}

/// The form that both PDF and PNG pack pixels in, without packing them.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(60_000).peekable();
    while let Some(block) = blocks.next() {
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend((block.len() as u16).to_le_bytes());
        stream.extend((!(block.len() as u16)).to_le_bytes());
        stream.extend(block);
    }
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// A page that holds one picture of this size and nothing else.
fn scan(picture: &(usize, usize, Vec<u8>), predicted: bool) -> Vec<u8> {
    let (width, height, pixels) = picture;
    let (rows, way) = if predicted {
        let rows: Vec<u8> = pixels.chunks(*width).flat_map(|row| [&[0u8][..], row].concat()).collect();
        (rows, format!("/DecodeParms << /Predictor 15 /Colors 1 /Columns {width} >>"))
    } else {
        (pixels.clone(), String::new())
    };
    let data = stored(&rows);
    let head = format!(
        "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} {GREY} /Filter /FlateDecode {way} /Length {} >>",
        data.len()
    );
    let draw = format!("q {} 0 0 {} 0 0 cm /Im0 Do Q", width / 4, height / 4);
    pdf_of(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>".to_vec(),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {} {}] /Contents 4 0 R /Resources << /XObject << /Im0 5 0 R >> >> >>",
            width / 4,
            height / 4
        )
        .into_bytes(),
        format!("<< /Length {} >>\nstream\n{draw}\nendstream", draw.len()).into_bytes(),
        [head.as_bytes(), b"\nstream\n", &data, b"\nendstream"].concat(),
    ])
}

/// Needs tesseract with its English data, which `./try` and `./check` install.
#[test]
#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
fn real_words_on_real_pictures_are_recognised() {
    // The one program that `cargo test` can do without: it is no part of the build.
    if jail::find_program("tesseract").is_none() {
        eprintln!("tesseract isn't installed: nothing was tested with the real one");
        return;
    }
    let place = Place::new();
    let lines = ["THE BOILER IS LOUD", "AT NIGHT IT HUMS A TUNE", "CALL MISTER TURNER"];
    let picture = drawn(&lines, 5);
    place.write("note.bmp", bmp(&picture));
    place.write("plain.pdf", scan(&picture, false));
    place.write("predicted.pdf", scan(&picture, true));
    let map = place.map_with(with("tesseract", eng(), 180_000));
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 3, "{:?}", ran.report().skipped);
    let found = search(&map, "boiler loud");
    assert_eq!(found.hits.iter().map(|hit| 1 + hit.alike.len()).sum::<usize>(), 3, "{found:?}");
    let hit = &found.hits[0];
    let at = hit.text.find("BOILER").expect("it was read");
    let Ok(Where::Page { first: 1, last: 1, boxes }) = verify(hit, at..at + 6) else { panic!("a page") };
    // The word begins after four letters, six dots each, and a margin of four; four pixels are a point of a page.
    let scale = if hit.path.extension().is_some_and(|end| end == "bmp") { 1 } else { 4 };
    let wanted = (28 * 5 / scale, 4 * 5 / scale);
    assert!(boxes[0].left.abs_diff(wanted.0) <= 12 && boxes[0].top.abs_diff(wanted.1) <= 12, "{boxes:?}, {wanted:?}");
}
