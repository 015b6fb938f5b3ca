//! Bad input: each file that can't be indexed is a sentence with a hint, and the rest goes on.

use super::{HOSTILE, PROBE, Place, index, names, reader, search};
use base::{Code, Fault};
use freehold_map::{FILE_BYTES_MAX, Map, Reader, ReaderLimits};
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

fn says(fault: &Fault, code: Code, part: &str) {
    assert_eq!(fault.code, code, "{fault:?}");
    assert!(fault.to_string().contains(part), "`{fault}` doesn't say `{part}`");
    assert!(!fault.hints.is_empty(), "no hint: {fault:?}");
}

#[test]
fn an_empty_folder_is_a_fault_that_says_what_to_do() {
    let place = Place::new();
    let ran = index(&place.map(), &place.files(), None);
    says(ran.fault(), Code::MapEmpty, "holds no files");
    place.write("photo.jpg", [0xff, 0xd8, 0xff]);
    let ran = index(&place.map(), &place.files(), None);
    says(ran.fault(), Code::MapEmpty, "none of the 1 files");
    let ran = index(&place.map(), &place.files().join("nowhere"), None);
    says(ran.fault(), Code::FileMissing, "nowhere");
}

#[test]
fn each_bad_file_is_skipped_with_its_reason() {
    let place = Place::new();
    place.write("good.md", "# Good\n\nThe cellar key hangs behind the clock.\n");
    place.write("scan.pdf", pdf(&[""]));
    place.write("broken.pdf", b"%PDF-1.7\nnothing of it is true");
    place.write("not.docx", "just words");
    place.write("core", [0u8, 1, 2, 3, 4, 0, 0, 9]);
    place.write("empty.txt", "");
    place.write("song.mp3", [0x49, 0x44, 0x33]);
    place.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n");
    place.write("server.pem", "-----BEGIN CERTIFICATE-----\n");
    symlink(place.files().join("nowhere.md"), place.files().join("dangling.md")).expect("a link");
    symlink(place.files().join("good.md"), place.files().join("link.md")).expect("a link");
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 1);
    assert_eq!(ran.report().skipped_count, 9);
    for (name, code, part) in [
        ("scan.pdf", Code::DocumentInvalid, "no text on 1 page; it may be a scan"),
        ("broken.pdf", Code::DocumentInvalid, "PDF"),
        ("not.docx", Code::DocumentInvalid, "it is no ZIP file"),
        ("core", Code::DocumentInvalid, "isn't text"),
        ("empty.txt", Code::DocumentInvalid, "empty"),
        ("song.mp3", Code::DocumentInvalid, "sound"),
        ("key", Code::DocumentInvalid, "private key"),
        ("dangling.md", Code::FileUnreadable, "isn't there"),
        ("link.md", Code::FileUnreadable, "link"),
    ] {
        says(ran.skipped(name), code, part);
    }
    assert!(ran.notices().iter().any(|notice| notice.contains("1 file was left out")), "{:?}", ran.notices());
    assert_eq!(names(&search(&map, "cellar key")), ["good.md"]);
    // What was refused by its content isn't read again, but is said again.
    let again = index(&map, &place.files(), None);
    assert_eq!((again.report().skipped_count, again.report().unchanged), (9, 1));
    says(again.skipped("scan.pdf"), Code::DocumentInvalid, "scan");
}

#[test]
fn unreadable_files_are_skipped_where_the_system_refuses() {
    let place = Place::new();
    place.write("good.txt", "words that can be read");
    let shut = place.write("shut.txt", "words that can't be read");
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).expect("set");
    if File::open(&shut).is_ok() {
        // The superuser may read everything; then a file that ends while it is opened stands in for it.
        std::fs::remove_file(&shut).expect("removed");
        symlink("/proc/self/mem", &shut).expect("a link");
    }
    let ran = index(&place.map(), &place.files(), None);
    assert_eq!(ran.report().documents, 1);
    assert_eq!(ran.skipped("shut.txt").code, Code::FileUnreadable);
}

#[test]
fn a_file_above_the_limit_is_refused_with_both_numbers() {
    let place = Place::new();
    place.write("good.txt", "small");
    for (name, bytes) in [("large.csv", 200 << 20), ("huge.log", 5 << 30), ("zeros.log", 80 << 20)] {
        let large = File::create(place.files().join(name)).expect("created");
        large.set_len(bytes).expect("it has holes, not bytes");
    }
    let ran = index(&place.map(), &place.files(), None);
    for (name, number) in
        [("large.csv", "200 MiB"), ("large.csv", "64 MiB"), ("huge.log", "5.0 GiB"), ("huge.log", "4.0 GiB")]
    {
        says(ran.skipped(name), Code::DocumentInvalid, number);
    }
    says(ran.skipped("zeros.log"), Code::DocumentInvalid, "isn't text");
    assert!(ran.skipped("large.csv").hints[0].contains("split -C 60m"));
    assert_eq!(FILE_BYTES_MAX, 64 << 20);
}

#[test]
fn the_largest_text_is_read_whole() {
    let place = Place::new();
    let line = "line after line of an endless protocol, with nothing in it that matters much\n";
    let mut text = line.repeat((6 << 20) / line.len());
    text.push_str("the very last words speak of quinces\n");
    place.write("protocol.log", &text);
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 1);
    let found = search(&map, "quinces");
    let base::Place::Lines { byte_end, .. } = found.hits[0].place else { panic!("lines") };
    assert_eq!(byte_end as usize, text.trim_end().len());
}

#[test]
fn invalid_utf8_is_read_as_what_it_most_likely_is() {
    let place = Place::new();
    place.write("old.txt", b"Die K\xfcche ist gro\xdf.\n\nDer Ofen zieht schlecht.\n");
    place.write("mixed.txt", [&"Größe und Höhe, Länge auch: ".repeat(3).into_bytes()[..], b"\xff\xfe kaputt"].concat());
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain("Rechnung über Äpfel\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    place.write("windows.txt", utf16);
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 3, "{:?}", ran.report().skipped);
    for (query, name) in [("Küche groß", "old.txt"), ("Länge kaputt", "mixed.txt"), ("Rechnung Äpfel", "windows.txt")]
    {
        assert_eq!(names(&search(&map, query))[0], name);
    }
}

#[test]
fn a_document_that_needs_too_much_costs_itself() {
    let place = Place::new();
    for name in ["a.txt", "b.txt", "c.txt"] {
        place.write(name, format!("the words of {name} are about pears"));
    }
    let deep = format!("<p>pears {}", "<div>".repeat(200_000));
    place.write("deep.html", deep);
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 4, "depth alone harms nobody: {:?}", ran.report().skipped);

    // Too little memory for the large one: it dies, the others are read.
    place.write("huge.txt", format!("<p>plums {}", "<b>x</b> &amp; ".repeat(1 << 19)));
    let limits = ReaderLimits { memory_bytes: 64 << 20, ..ReaderLimits::default() };
    let map = Map::open(&place.files().with_file_name("small"), Reader { limits, ..reader() }).expect("it opens");
    let ran = index(&map, &place.files(), None);
    says(ran.skipped("huge.txt"), Code::DocumentInvalid, "64 MiB");
    assert!(ran.skipped("huge.txt").hints[0].contains("tried again"));
    assert!(ran.report().documents >= 3, "{:?}", ran.report().skipped);
    assert!(names(&search(&map, "pears")).contains(&"a.txt".to_owned()));
}

#[test]
fn a_child_that_dies_hangs_or_lies_costs_one_file() {
    let place = Place::new();
    for name in ["a", "die", "e", "hang", "i", "lie-wrap", "lie-pages", "lie-places", "m"] {
        place.write(&format!("{name}.txt"), format!("the words of {name} are about pears"));
    }
    let limits = ReaderLimits { document_ms: 2_000, ..ReaderLimits::default() };
    let hostile = Reader { limits, ..Reader::new(HOSTILE.into()) };
    let ran = index(&place.map_with(hostile), &place.files(), None);
    assert_eq!((ran.report().documents, ran.report().skipped_count), (4, 5), "{:?}", ran.report().skipped);
    for (name, part) in [
        ("die.txt", "its reader died"),
        ("hang.txt", "took longer than 2"),
        ("lie-wrap.txt", "runs overlap or leave the text"),
        ("lie-pages.txt", "another format"),
        ("lie-places.txt", "no such places"),
    ] {
        says(ran.skipped(name), Code::DocumentInvalid, part);
    }
    // None of it was the files' fault, and the next run reads them.
    let ran = index(&place.map(), &place.files(), None);
    assert_eq!((ran.report().added, ran.report().unchanged, ran.report().skipped_count), (5, 4, 0));
}

#[test]
fn a_cancelled_run_does_not_wait_for_the_document_that_is_being_read() {
    let place = Place::new();
    let socket = place.write("hang.txt", "words").with_extension("sock");
    let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    let (map, cancel) = (place.map_with(Reader::new(HOSTILE.into())), AtomicBool::new(false));
    let fault = std::thread::scope(|scope| {
        scope.spawn(|| {
            listener.accept().expect("the reader hangs now");
            cancel.store(true, Ordering::Relaxed);
        });
        map.index(&place.files(), None, &mut |_| {}, &cancel).expect_err("it was cancelled")
    });
    // Long before the minute that a document may take.
    assert_eq!(fault.code, Code::Cancelled);
}

#[test]
fn a_reader_that_is_not_ours_stops_the_run() {
    let place = Place::new();
    place.write("a.txt", "words");
    for program in ["/bin/true", "/nonexistent/freehold"] {
        let ran = index(&place.map_with(Reader::new(program.into())), &place.files(), None);
        says(ran.fault(), Code::ConfinementFailed, program);
    }
    let ran = index(&place.map(), &place.files(), None);
    assert_eq!(ran.report().documents, 1, "with the right program it goes on");
    assert!(!ran.report().protection.is_empty(), "the readers say what they run under");
}

#[test]
fn a_zip_bomb_is_stopped_at_the_limit() {
    let place = Place::new();
    place.write("good.txt", "words about cherries");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("word/document.xml", zip::write::SimpleFileOptions::default()).expect("a part");
    for _ in 0..80 {
        std::io::Write::write_all(&mut writer, &vec![b' '; 1 << 20]).expect("it fits");
    }
    place.write("bomb.docx", writer.finish().expect("a zip").into_inner());
    let ran = index(&place.map(), &place.files(), None);
    says(ran.skipped("bomb.docx"), Code::DocumentInvalid, "64 MiB");
    assert_eq!(ran.report().documents, 1);
}

#[test]
fn a_damaged_record_says_how_to_make_it_anew_and_that_works() {
    let place = Place::new();
    place.write("a.txt", "words about apricots");
    index(&place.map(), &place.files(), None).report();
    let file = place.map_dir().join("map.db");
    for damage in [b"this is no database at all, whatever it was".to_vec(), vec![0u8; 4096]] {
        for rest in ["map.db-wal", "map.db-shm"] {
            let _ = std::fs::remove_file(place.map_dir().join(rest));
        }
        std::fs::write(&file, damage).expect("written");
        let fault = Map::open(&place.map_dir(), reader()).expect_err("it is damaged");
        says(&fault, Code::MapDamaged, &place.map_dir().display().to_string());
        // The hint, followed.
        let aside = place.map_dir().with_extension("damaged");
        assert!(fault.hints[0].contains(&format!("mv '{}' '{}'", place.map_dir().display(), aside.display())));
        let _ = std::fs::remove_dir_all(&aside);
        std::fs::rename(place.map_dir(), aside).expect("moved");
        let map = place.map();
        assert_eq!(index(&map, &place.files(), None).report().documents, 1);
        assert_eq!(names(&search(&map, "apricots")), ["a.txt"]);
    }
}

#[test]
fn a_record_damaged_in_the_middle_is_told_when_it_is_met() {
    let place = Place::new();
    for number in 0..200 {
        place.write(&format!("{number}.txt"), format!("file {number} says {}", "something long ".repeat(40)));
    }
    index(&place.map(), &place.files(), None).report();
    let file = place.map_dir().join("map.db");
    let mut bytes = std::fs::read(&file).expect("read");
    let pages = bytes.len() / 4096;
    for page in 2..pages {
        bytes[page * 4096..page * 4096 + 64].fill(0xa5);
    }
    std::fs::write(&file, bytes).expect("written");
    let outcome = Map::open(&place.map_dir(), reader()).and_then(|map| {
        map.index(&place.files(), None, &mut |_| {}, &std::sync::atomic::AtomicBool::new(false)).map(drop)
    });
    let fault = outcome.expect_err("it is damaged");
    says(&fault, Code::MapDamaged, "can't be used");
}

#[test]
fn what_is_on_disk_is_the_owners_alone() {
    let place = Place::new();
    place.write("a.txt", "private words");
    let map = place.map();
    index(&map, &place.files(), Some(&super::Hashing::default())).report();
    map.search(
        &freehold_map::Query { text: "words".into(), limit: 1, ..Default::default() },
        Some(&super::Hashing::default()),
    )
    .expect("found");
    fn check(path: &Path) {
        for entry in std::fs::read_dir(path).expect("read").map(|entry| entry.expect("read")) {
            let meta = entry.metadata().expect("read");
            let mode = meta.permissions().mode() & 0o077;
            assert!(mode == 0 || meta.is_dir(), "{} is open to others: {mode:o}", entry.path().display());
            if meta.is_dir() {
                check(&entry.path());
            }
        }
    }
    assert_eq!(std::fs::metadata(place.map_dir()).expect("read").permissions().mode() & 0o777, 0o700);
    check(&place.map_dir());
}

/// A file of the given pages' words, in the simplest form that readers accept.
pub(crate) fn pdf(pages: &[&str]) -> Vec<u8> {
    let mut objects: Vec<String> = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".into(),
        String::new(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".into(),
    ];
    let mut kids = Vec::new();
    for words in pages {
        let stream = if words.is_empty() { String::new() } else { format!("BT /F1 12 Tf 60 700 Td ({words}) Tj ET") };
        objects.push(format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()));
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {} 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
            objects.len()
        ));
        kids.push(format!("{} 0 R", objects.len()));
    }
    objects[1] = format!("<< /Type /Pages /Count {} /Kids [{}] >>", kids.len(), kids.join(" "));
    pdf_of(&objects)
}

/// A PDF of these objects, the first of which is its catalog.
pub(crate) fn pdf_of(objects: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        offsets.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        bytes.extend(object.as_ref());
        bytes.extend(b"\nendobj\n");
    }
    let table = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        bytes.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    bytes.extend(
        format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", objects.len() + 1).into_bytes(),
    );
    bytes
}

#[test]
fn the_probe_is_there() {
    assert!(Path::new(PROBE).is_file());
}
