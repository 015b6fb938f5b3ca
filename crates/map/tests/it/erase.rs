//! What is forgotten is gone from every file of the map, and the map's own look for it finds nothing.

use super::{Hashing, Place, index, names, search};
use freehold_map::{Map, Scope};
use std::path::Path;
use std::sync::atomic::AtomicBool;

const CANARY: &str = "zephyrquokka";

fn words(place: &Place) {
    place.write("keep.md", "# Heating\n\nThe boiler is serviced every year in March.\n");
    place.write("secret.md", format!("# Will\n\nThe {CANARY} inherits the garden and the boiler. ").repeat(3));
    place.write("sub/other.txt", format!("A second file that tells of the {CANARY} under the plum tree.\n"));
}

/// Files under a folder that hold the canary, in any case.
fn traces(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(traces(&path));
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("read")).to_lowercase();
            found.extend(text.contains(CANARY).then(|| path.display().to_string()));
        }
    }
    found
}

fn read(place: &Place, embed: &Hashing) -> Map {
    words(place);
    let map = place.map();
    index(&map, &place.files(), Some(embed)).report();
    assert!(!search(&map, CANARY).hits.is_empty());
    assert!(!traces(&place.map_dir()).is_empty(), "it is there before, or finding nothing would prove nothing");
    map
}

#[test]
fn a_forgotten_folder_is_in_no_file_any_more() {
    let (place, embed) = (Place::new(), Hashing::default());
    let map = read(&place, &embed);
    let paths = ["secret.md", "sub"].map(|name| place.files().join(name));
    let forgotten = map.forget(&paths).expect("forgotten");
    assert_eq!((forgotten.files, forgotten.traces_count), (2, 0), "{forgotten:#?}");
    assert!(forgotten.witnesses > 2 && forgotten.bytes_searched.0 > 10_000, "{forgotten:?}");
    assert_eq!(traces(&place.map_dir()), Vec::<String>::new());
    assert!(search(&map, CANARY).hits.is_empty());
    assert_eq!(names(&search(&map, "boiler")), ["keep.md"]);
    let kept = map.summary().expect("read");
    assert_eq!((kept.documents, kept.embedded), (1, 1));
    // The file is still there: only a scope that knows of the forgetting keeps it out.
    let mut scope = Scope::of(vec![place.files()]);
    scope.forgotten = paths.iter().map(|path| freehold_map::scope::fingerprint(path)).collect();
    map.sync(&scope, None, &mut |_| {}, &AtomicBool::new(false)).expect("read");
    assert!(search(&map, CANARY).hits.is_empty());
    assert_eq!(traces(&place.map_dir()), Vec::<String>::new());
}

#[test]
fn a_deleted_file_can_be_forgotten_and_a_text_that_another_file_shares_stays() {
    let (place, embed) = (Place::new(), Hashing::default());
    let shared = "The same words stand in two files, word for word, and so they have one vector.";
    place.write("one.txt", shared);
    place.write("two.txt", shared);
    let map = read(&place, &embed);
    std::fs::remove_file(place.files().join("one.txt")).expect("removed");
    let forgotten = map.forget(&[place.files().join("one.txt")]).expect("forgotten");
    assert_eq!((forgotten.files, forgotten.passages, forgotten.traces_count), (1, 1, 0), "{forgotten:#?}");
    embed.taken();
    let ran = index(&map, &place.files(), Some(&embed));
    assert_eq!((ran.report().unchanged, ran.report().embedded), (4, 0), "{:?}", ran.report());
    assert_eq!(names(&search(&map, "word for word, one vector"))[0], "two.txt");
}

/// The look must be able to find something, or it proves nothing.
#[test]
fn what_was_left_behind_is_found_and_named() {
    let (place, embed) = (Place::new(), Hashing::default());
    let map = read(&place, &embed);
    std::fs::write(place.map_dir().join("left.behind"), format!("xx{}yy", CANARY.to_uppercase())).expect("written");
    let forgotten = map.forget(&[place.files()]).expect("forgotten");
    assert_eq!(forgotten.traces_count, 1, "{forgotten:#?}");
    assert!(forgotten.traces[0].file.ends_with("left.behind") && forgotten.traces[0].what == CANARY);
}
