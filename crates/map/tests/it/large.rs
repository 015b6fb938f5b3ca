//! Texts that are too large to be read at once: read in parts, cited to the byte, in bounded memory.

use super::{Hashing, Place, index, names, reader, search};
use freehold_map::verify::verify;
use freehold_map::{FILE_BYTES_MAX, Hit, Map, Reader, ReaderLimits};
use std::io::Write;

const ENTRIES: usize = 2_000;

/// A protocol of some 70 MB, most of it blank, so that it is quick to read.
fn protocol() -> String {
    let blank = format!("{}\n", " ".repeat(199)).repeat(175);
    // Each entry is a passage of its own.
    let mut text = String::new();
    for number in 0..ENTRIES {
        let what = match number {
            0 => "medlars",
            1_900 => "quinces",
            _ => "cellar",
        };
        text.push_str(&format!(
            "entry {number}: the {what} was looked at{}\n",
            " and the pump was found in good order".repeat(18)
        ));
        text.push_str(&blank);
    }
    assert!(text.len() > FILE_BYTES_MAX);
    text
}

fn first(map: &Map, words: &str) -> Hit {
    search(map, words).hits.into_iter().next().expect("something is found")
}

/// The hit's words stand where it says, on the lines that it says, and can be verified there.
fn stands(hit: &Hit, text: &str) {
    let base::Place::Lines { first, last, byte_start, byte_end } = hit.place else { panic!("lines: {:?}", hit.place) };
    let (start, end) = (byte_start as usize, byte_end as usize);
    assert_eq!(&text[start..end], hit.text);
    let line = |at: usize| text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    assert_eq!((first, last), (line(start), line(end - 1)));
    assert_eq!(verify(hit, 0..hit.text.len()).as_ref(), Ok(&hit.place));
}

#[test]
fn a_large_log_is_read_in_parts_and_cited_to_the_byte() {
    let place = Place::new();
    let mut text = protocol();
    let path = place.write("protocol.log", &text);
    // Read whole, it alone would take more than this.
    let limits = ReaderLimits { memory_bytes: 160 << 20, ..ReaderLimits::default() };
    let map = place.map_with(Reader { limits, ..reader() });
    let embed = Hashing::default();
    let ran = index(&map, &place.files(), Some(&embed));
    let report = ran.report();
    assert_eq!((report.documents, report.skipped_count, report.added), (1, 0, 1), "{:?}", report.skipped);
    let made = embed.taken().len();
    assert!(made > 100, "{made}");
    for words in ["medlars", "quinces"] {
        let hit = first(&map, words);
        assert!(hit.text.contains(words));
        stands(&hit, &text);
    }
    assert_eq!(index(&map, &place.files(), Some(&embed)).report().unchanged, 1);

    // What is added costs what is added.
    let last = "the very last words speak of plums\n";
    text.push_str(last);
    std::fs::File::options().append(true).open(&path).expect("opened").write_all(last.as_bytes()).expect("written");
    let ran = index(&map, &place.files(), Some(&embed));
    assert_eq!((ran.report().changed, ran.report().documents), (1, 1));
    assert!(embed.taken().len() <= 3, "only the end is embedded anew");
    stands(&first(&map, "plums"), &text);
    stands(&first(&map, "medlars"), &text);

    // What is changed above the quotation is seen, not cited from the old text.
    let hit = first(&map, "quinces");
    std::fs::write(&path, text.replacen("entry 0: the", "entry 0: the new", 1)).expect("written");
    assert_eq!(verify(&hit, 0..hit.text.len()), Err("has changed"));
    std::fs::write(&path, "only the figs are left\n").expect("written");
    let ran = index(&map, &place.files(), Some(&embed));
    assert_eq!((ran.report().documents, ran.report().passages), (1, 1), "no part is left of what it was");
    std::fs::remove_file(&path).expect("removed");
    place.write("other.txt", "other words");
    index(&map, &place.files(), Some(&embed)).report();
    assert_eq!(names(&search(&map, "figs words")), ["other.txt"]);
}

#[test]
fn a_large_log_that_goes_takes_all_its_parts_with_it() {
    let place = Place::new();
    let path = place.write("protocol.log", protocol());
    place.write("other.txt", "other words");
    let map = place.map();
    assert_eq!(index(&map, &place.files(), None).report().documents, 2);
    let forgotten = map.forget(&[path.canonicalize().expect("there")]).expect("forgotten");
    assert!(forgotten.files == 1 && forgotten.passages > 100 && forgotten.traces_count == 0, "{forgotten:?}");
    std::fs::remove_file(&path).expect("removed");
    let ran = index(&map, &place.files(), None);
    assert_eq!((ran.report().documents, ran.report().passages), (1, 1));
}
