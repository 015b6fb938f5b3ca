//! Random damage to every file of a map. What is derived is told as damaged or made anew, and never brings the program
//! down, hides a passage for good or shows one that the record doesn't hold; a damaged record is said.

use super::{Hashing, Place, index, names, reader};
use base::{Code, Fault};
use freehold_map::verify::cite;
use freehold_map::{Filter, Found, Map, Query, Scope};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Damages that are tried of each file. The seed is fixed, so that a failure comes again.
const TIMES: usize = 3;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// A small generator of numbers (xorshift*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(SEED) >> 33) as usize % end.max(1)
    }
}

/// Each with a word that no other has.
const TEXTS: [(&str, &str); 8] = [
    (
        "house/heating.md",
        "# Boiler\n\nThe boiler is serviced in March by Mr Zander.\n\nThe pump hums when air is in it.\n",
    ),
    ("house/roof.txt", "The slates of the roof were laid in 1987 by a quokka of a man.\n"),
    ("house/deep/attic.md", "# Attic\n\nThe attic floor bears 200 kg.\n\n## Boxes\n\nOrnaments and a xylophone.\n"),
    ("garden/hedge.txt", "The hornbeam hedge is cut in June, and again in late August.\n"),
    ("garden/pond.md", "# Pond\n\nNewts live in the pond. The pump of the pond is off in winter.\n"),
    ("garden/beds.txt", "Potatoes are planted 30 cm apart, vetch behind them.\n"),
    ("letters/notary.txt", "The notary wants the deed, the survey and a jocular mood.\n"),
    ("letters/choir.md", "# Choir\n\nRehearsals are on Wednesday; the tenor has a kazoo.\n"),
];
const WORDS: [(&str, &str); 8] = [
    ("zander", "heating.md"),
    ("quokka", "roof.txt"),
    ("xylophone", "attic.md"),
    ("hornbeam", "hedge.txt"),
    ("newts", "pond.md"),
    ("vetch", "beds.txt"),
    ("notary", "notary.txt"),
    ("kazoo", "choir.md"),
];

/// All files of a map by their paths below its folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(dir: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, into: &mut Files) {
        for entry in std::fs::read_dir(dir).expect("read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, into);
            } else {
                let bytes = std::fs::read(&path).expect("read");
                into.insert(path.strip_prefix(root).expect("below").to_path_buf(), bytes);
            }
        }
    }
    let mut into = Files::new();
    walk(dir, dir, &mut into);
    into
}

fn put(dir: &Path, files: &Files) {
    if dir.exists() {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    for (path, bytes) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("below")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }
}

/// A map of several segments, with words and vectors that went; and its files while it is closed and while it is open.
fn built(place: &Place) -> (Files, Files) {
    let embed = Hashing::default();
    for (name, text) in &TEXTS[..5] {
        place.write(name, text);
    }
    let gone = place.write("letters/gone.txt", "This letter goes again.\n");
    index(&place.map(), &place.files(), Some(&embed)).report();
    std::fs::remove_file(gone).expect("removed");
    for (name, text) in &TEXTS[5..] {
        place.write(name, text);
    }
    let map = place.map();
    index(&map, &place.files(), Some(&embed)).report();
    sound(&map).expect("it searches");
    let open = files(&place.map_dir());
    drop(map);
    (files(&place.map_dir()), open)
}

/// What is done to a file, in words.
fn damage(numbers: &mut Numbers, files: &mut Files, path: &Path) -> String {
    let others: Vec<PathBuf> = files.keys().cloned().collect();
    let other = files[&others[numbers.below(others.len())]].clone();
    let bytes = files.get_mut(path).expect("one of them");
    match numbers.below(9) {
        0..=2 => {
            let bits = 1 + numbers.below(8);
            for _ in 0..bits {
                let (at, bit) = (numbers.below(bytes.len()), numbers.below(8));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            format!("{bits} bits turned")
        }
        3 | 4 => {
            let (at, long, value) = (numbers.below(bytes.len()), numbers.below(64), numbers.below(4));
            let end = (at + long).min(bytes.len());
            for byte in &mut bytes[at..end] {
                *byte = match value {
                    0 => 0,
                    1 => 0xff,
                    _ => numbers.below(256) as u8,
                };
            }
            format!("{at} to {end} overwritten")
        }
        5 => {
            bytes.truncate(numbers.below(bytes.len()));
            format!("cut after {}", bytes.len())
        }
        6 => {
            let more = 1 + numbers.below(99);
            bytes.extend((0..more).map(|_| numbers.below(256) as u8));
            format!("{more} bytes more")
        }
        7 => {
            files.remove(path);
            "gone".into()
        }
        _ => {
            *bytes = other;
            "another file's bytes".into()
        }
    }
}

fn query(text: &str) -> Query {
    Query { text: text.into(), limit: 8, explain: true, ..Query::default() }
}

/// What is found is in its file, and not outside of what was asked for.
fn checked(found: Result<Found, Fault>, within: Option<&Path>) -> Result<Found, Fault> {
    let found = found?;
    for hit in &found.hits {
        let text = std::fs::read_to_string(&hit.path).expect("one of the files");
        let plain = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
        assert!(plain(&text).contains(&plain(&hit.text)), "{hit:#?}");
        assert!(within.is_none_or(|folder| hit.path.starts_with(folder)), "{hit:#?}");
    }
    Ok(found)
}

/// Asks in every way; finds are right, though some may be missing.
fn asked(map: &Map, root: &Path) -> Result<(), Fault> {
    let embed = Hashing::default();
    for text in ["when is the boiler serviced", "pump", "kazoo xylophone newts"] {
        let found = checked(map.search(&query(text), Some(&embed)), None)?;
        let _ = cite(text, &found.hits, &[0, 1]);
        checked(map.search(&query(text), None), None)?;
    }
    let garden = root.join("garden");
    let filter = Filter { folders: vec![garden.clone()], ..Filter::default() };
    checked(map.search(&Query { filter, ..query("pump and hedge") }, Some(&embed)), Some(&garden))?;
    let phrases = vec!["pump hums".to_owned()];
    checked(map.search(&Query { phrases, ..query("pump") }, Some(&embed)), Some(&root.join("house")))?;
    let without = vec!["boiler".to_owned()];
    checked(map.search(&Query { without, ..query("pump") }, None), None)?;
    map.summary().map(drop)
}

/// Finds everything, by words and by vectors.
fn sound(map: &Map) -> Result<(), Fault> {
    let embed = Hashing::default();
    for (word, name) in WORDS {
        for embed in [None, Some(&embed as &dyn freehold_map::Embed)] {
            let found = checked(map.search(&query(word), embed), None)?;
            assert_eq!(names(&found).first().map(String::as_str), Some(name), "{word}: {found:#?}");
            assert!(embed.is_none() || found.hits[0].dense.is_some_and(|cosine| cosine > 0.1), "{found:#?}");
        }
    }
    Ok(())
}

/// Each file of a map, damaged in several ways, and what is told of it.
fn each_damage(files: &Files, wanted: &dyn Fn(&Path) -> bool, on: &mut dyn FnMut(&Files, usize) -> Result<(), Fault>) {
    let mut numbers = Numbers(SEED);
    let mut tried = 0;
    for path in files.keys().filter(|path| wanted(path)) {
        for _ in 0..TIMES {
            let mut files = files.clone();
            let what = damage(&mut numbers, &mut files, path);
            match catch_unwind(AssertUnwindSafe(|| on(&files, tried))) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => panic!("{}, {what}: {fault}", path.display()),
                Err(_) => panic!("{}, {what}: see above", path.display()),
            }
            tried += 1;
        }
    }
    assert!(tried > 0);
}

fn is_derived(path: &Path) -> bool {
    path.starts_with("lexical") || path.starts_with("vectors")
}

#[test]
fn damage_to_what_is_derived_costs_nothing_for_good() {
    let place = Place::new();
    let (closed, _) = built(&place);
    assert!(closed.keys().filter(|path| is_derived(path)).count() > 10, "{:?}", closed.keys());
    let root = place.files().canonicalize().expect("there");
    each_damage(&closed, &is_derived, &mut |files, number| {
        put(&place.map_dir(), files);
        let map = place.map();
        asked(&map, &root)?;
        let seen = map.inspect(&Scope::default())?;
        assert!(seen.problems.iter().all(|problem| problem.repaired), "{:#?}", seen.problems);
        sound(&map)?;
        assert_eq!(map.inspect(&Scope::default())?.problems, []);
        // The first to meet the damage is the check, the erasure or the next run.
        put(&place.map_dir(), files);
        let map = place.map();
        match number % 4 {
            0 => drop(map.inspect(&Scope::default())?),
            1 => {
                place.write("letters/new.txt", format!("Something new, for the {number}th time.\n"));
                index(&map, &place.files(), Some(&Hashing::default())).result?;
                map.inspect(&Scope::default())?;
            }
            2 => {
                let forgotten = map.forget(&[root.join("letters/choir.md")])?;
                assert_eq!((forgotten.files, forgotten.traces.len()), (1, 0), "{forgotten:#?}");
                index(&map, &place.files(), Some(&Hashing::default())).result?;
                map.inspect(&Scope::default())?;
            }
            _ => {
                map.start_over()?;
                index(&map, &place.files(), Some(&Hashing::default())).result?;
            }
        }
        sound(&map)
    });
}

#[test]
fn a_damaged_record_is_told_or_does_no_harm() {
    let place = Place::new();
    let (closed, open) = built(&place);
    let root = place.files().canonicalize().expect("there");
    let mut told = 0;
    let mut tried = |files: &Files, _: usize| {
        put(&place.map_dir(), files);
        let outcome = Map::open(&place.map_dir(), reader()).and_then(|map| {
            // Its words themselves may be damaged: what is shown then is what the record holds.
            let embed = Hashing::default();
            for text in ["when is the boiler serviced", "kazoo"] {
                let found = map.search(&query(text), Some(&embed))?;
                let _ = cite(text, &found.hits, &[0, 1]);
            }
            let seen = map.inspect(&Scope::default())?;
            index(&map, &place.files(), Some(&embed)).result?;
            if seen.problems.iter().all(|problem| problem.repaired) {
                map.start_over()?;
                index(&map, &place.files(), Some(&embed)).result?;
            }
            Ok(())
        });
        if let Err(fault) = outcome {
            let codes = [Code::MapDamaged, Code::FileUnwritable, Code::FileUnreadable];
            assert!(codes.contains(&fault.code), "{:?}: {fault}", fault.code);
            told += 1;
        }
        Ok(())
    };
    for _ in 0..4 {
        each_damage(&closed, &|path| path == Path::new("map.db"), &mut tried);
    }
    assert!(told > 0);
    // A log that is cut or damaged is that of an earlier moment: what came later is read again.
    let is_log = |path: &Path| path == Path::new("map.db-wal");
    assert!(open.keys().any(|path| is_log(path)), "{:?}", open.keys());
    each_damage(&open, &is_log, &mut |files, _| {
        put(&place.map_dir(), files);
        let map = place.map();
        asked(&map, &root)?;
        index(&map, &place.files(), Some(&Hashing::default())).result?;
        map.inspect(&Scope::default())?;
        sound(&map)
    });
}

/// A panic in the library's committing thread would end this very program.
#[test]
fn a_list_of_segments_that_counts_wrongly_is_seen_before_anything_is_written() {
    let place = Place::new();
    for number in 0..200 {
        place.write(&format!("{number}.txt"), format!("The number of this file is {number}.\n"));
    }
    index(&place.map(), &place.files(), None).report();
    let list = place.map_dir().join("lexical/meta.json");
    let text = std::fs::read_to_string(&list).expect("read");
    let damaged = text.replace("\"max_doc\": 200", "\"max_doc\": 2");
    assert_ne!(text, damaged);
    std::fs::write(&list, damaged).expect("written");
    for number in 0..200 {
        place.write(&format!("{number}.txt"), format!("The new number of this file is {}.\n", number + 1000));
    }
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert!(ran.notices().iter().any(|notice| notice.contains("rebuilt")), "{:?}", ran.notices());
    let found = map.search(&query("1150"), None).expect("it searches");
    assert_eq!(names(&found)[0], "150.txt");
}
