//! Filters hold in both arms, whatever is asked: nothing outside is found, and nothing inside is lost.

use super::{Hashing, Place, index, names, search};
use freehold_map::syntax::parse;
use freehold_map::{Day, Filter, Map, Query};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

const FOLDERS: [&str; 3] = ["house", "garden", "house/old"];
const ENDINGS: [&str; 3] = ["txt", "md", "html"];

/// Files in all folders, of all types, changed on the first ten days of 1970.
fn files(place: &Place) -> Vec<(String, i64)> {
    let mut files = Vec::new();
    for (at, folder) in FOLDERS.iter().enumerate() {
        for (kind, ending) in ENDINGS.iter().enumerate() {
            for copy in 0..2 {
                let name = format!("{folder}/{at}{kind}{copy}.{ending}");
                let day = ((at * 5 + kind * 3 + copy * 4) % 10) as i64;
                let path = place.write(&name, format!("medlars number {at}{kind}{copy} grow by the wall\n"));
                let file = std::fs::File::options().append(true).open(path).expect("opened");
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(day as u64 * 86_400 + 60);
                file.set_modified(time).expect("set");
                files.push((name, day));
            }
        }
    }
    files
}

fn found(map: &Map, query: &Query, embed: &Hashing) -> BTreeSet<String> {
    let found = map.search(query, Some(embed)).expect("it searches");
    assert!(found.hits.iter().all(|hit| hit.alike.is_empty()), "each file has its own number");
    names(&found).into_iter().collect()
}

#[test]
fn no_passage_outside_a_filter_is_found_and_none_inside_is_lost() {
    let place = Place::new();
    let files = files(&place);
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    let root = place.files().canonicalize().expect("there");
    let strategy = (
        prop::sample::subsequence(FOLDERS.to_vec(), 0..=2),
        prop::sample::subsequence(ENDINGS.to_vec(), 0..=2),
        prop::option::of(0i64..11),
        prop::option::of(0i64..11),
        prop::sample::select(vec!["medlars", "wall grow", "nothing of this"]),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    let checked = runner.run(&strategy, |(folders, types, after, before, text)| {
        let filter = Filter {
            folders: folders.iter().map(|folder| root.join(folder)).collect(),
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            after: after.map(Day),
            before: before.map(Day),
            ..Filter::default()
        };
        let wanted: BTreeSet<String> = files
            .iter()
            .filter(|(name, day)| {
                let within = |folder: &&str| name.starts_with(&format!("{folder}/"));
                (folders.is_empty() || folders.iter().any(within))
                    && (types.is_empty() || types.iter().any(|kind| name.ends_with(kind)))
                    && after.is_none_or(|after| *day >= after)
                    && before.is_none_or(|before| *day < before)
            })
            .map(|(name, _)| name.rsplit('/').next().expect("a name").to_owned())
            .collect();
        // The vector arm alone finds every passage that it may see, whatever the words.
        let query = Query { text: text.into(), limit: 100, filter, ..Query::default() };
        prop_assert_eq!(found(&map, &query, &embed), wanted);
        Ok(())
    });
    checked.expect("filters hold");
}

#[test]
fn a_file_that_moves_or_goes_leaves_its_filter_at_once() {
    let place = Place::new();
    files(&place);
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    let root = place.files().canonicalize().expect("there");
    let filter = Filter { folders: vec![root.join("garden")], ..Filter::default() };
    let query = Query { text: "medlars".into(), limit: 100, filter, ..Query::default() };
    assert_eq!(found(&map, &query, &embed).len(), 6);
    std::fs::rename(root.join("garden/100.txt"), root.join("house/100.txt")).expect("moved");
    std::fs::remove_file(root.join("garden/101.txt")).expect("removed");
    index(&map, &place.files(), Some(&embed)).report();
    let left = found(&map, &query, &embed);
    assert!(left.len() == 4 && !left.contains("100.txt") && !left.contains("101.txt"), "{left:?}");
}

#[test]
fn phrases_exclusions_and_fields_are_strict() {
    let place = Place::new();
    place.write("a.md", "---\ntitle: Heating\nauthor: Ada Lund\ndate: 2026-03-09\n---\n\nThe boiler is serviced once a year by Nordlicht.\n");
    place.write(
        "b.txt",
        "A year ago the boiler was once a different one, and the oil was cheap for all who heat by it.\n",
    );
    place.write(
        "c.txt",
        "Der Heizkessel, the boiler, wird einmal im Jahr gewartet, und zwar immer im Frühling vor der Gartenarbeit.\n",
    );
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    for (text, wanted) in [
        ("boiler", &["a.md", "b.txt", "c.txt"][..]),
        ("boiler \"once a year\"", &["a.md"]),
        ("\"serviced once\"", &["a.md"]),
        ("\"once serviced\"", &[]),
        ("boiler -oil", &["a.md", "c.txt"]),
        ("boiler -\"once a year\"", &["b.txt", "c.txt"]),
        ("boiler title:heating", &["a.md"]),
        ("boiler author:lund", &["a.md"]),
        ("boiler lang:de", &["c.txt"]),
        ("boiler type:txt", &["b.txt", "c.txt"]),
        ("boiler after:2026-03 before:2026-03-10", &["a.md"]),
        ("boiler path:c.tx", &["c.txt"]),
    ] {
        let query = Query::of(parse(text), 10);
        assert_eq!(found(&map, &query, &embed), wanted.iter().map(|name| (*name).to_owned()).collect(), "{text}");
    }
    assert_eq!(names(&search(&map, "\"once a year\"")).len(), 2, "a question's marks are no syntax");
}

#[test]
fn nearly_equal_passages_are_shown_once_with_the_others_named() {
    let place = Place::new();
    let text = "The boiler in the cellar is serviced once a year by Nordlicht, always in the first week of spring, and \
        the bill goes to the owner of the house, who pays it within thirty days of its date without fail.";
    place.write("one.txt", text);
    place.write("two.md", format!("# Copy\n\n{text} Yes.\n"));
    place.write("three.txt", "The boiler is blue.");
    let map = place.map();
    index(&map, &place.files(), None).report();
    let found = search(&map, "boiler serviced Nordlicht");
    assert_eq!(found.hits.len(), 2, "{:?}", names(&found));
    let first = &found.hits[0];
    assert!(first.alike.len() == 1 && first.alike[0].0.file_name() != first.path.file_name(), "{:?}", first.alike);
}

#[test]
fn a_hit_can_say_why_it_stands_where_it_does() {
    let place = Place::new();
    place.write("boiler.md", "# Boiler\n\nIt is serviced every March.\n");
    place.write("rent.txt", "The rent is due in March.\n");
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    let query = Query { text: "boiler March".into(), limit: 5, explain: true, ..Query::default() };
    let found = map.search(&query, Some(&embed)).expect("it searches");
    for hit in &found.hits {
        let why = hit.why.as_ref().expect("it was asked for");
        assert!((why.lexical_share + why.vector_share - hit.score).abs() < 1e-6);
        let parts: f32 = why.parts.iter().map(|part| part.score).sum();
        assert!((parts - hit.lexical.unwrap_or(0.0)).abs() < 1e-4, "{why:?} {:?}", hit.lexical);
        assert!(why.vector_rank.is_some());
    }
    let parts = &found.hits[0].why.as_ref().expect("why").parts;
    for field in ["heading", "path", "title"] {
        assert!(parts.iter().any(|part| part.word == "boiler" && part.field == field), "{field}: {parts:?}");
    }
    let plain = map.search(&Query { explain: false, ..query }, Some(&embed)).expect("it searches");
    assert!(plain.hits.iter().all(|hit| hit.why.is_none()));
}
