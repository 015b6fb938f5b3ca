//! A second run does only what changed; derived indexes can be lost at any time.

use super::{Hashing, Place, index, names, search};
use base::Code;
use freehold_map::{IndexStep, Map, Query, Stage};
use std::sync::atomic::{AtomicBool, Ordering};

fn house(place: &Place) {
    place.write("heating.md", "# Heating\n\nThe boiler is serviced every year in March.\n");
    place.write("garden.txt", "The plums are ripe in the last week of August.\n");
    place.write("sub/rent.html", "<h1>Rent</h1><p>The rent is due on the third day of the month.</p>");
}

#[test]
fn a_second_run_reads_only_what_changed() {
    let place = Place::new();
    house(&place);
    let (map, embed) = (place.map(), Hashing::default());
    let first = index(&map, &place.files(), Some(&embed));
    assert_eq!((first.report().added, first.report().documents, first.report().embedded), (3, 3, 3));
    assert_eq!(embed.taken().len(), 3);

    let second = index(&map, &place.files(), Some(&embed));
    assert_eq!((second.report().unchanged, second.report().added, second.report().embedded), (3, 0, 0));
    assert!(embed.taken().is_empty());
    assert!(second.report().protection.is_empty(), "no reader was started");

    place.write("garden.txt", "The plums are ripe in the first week of September.\n");
    std::fs::remove_file(place.files().join("heating.md")).expect("removed");
    place.write("new.txt", "The attic is dry.\n");
    let third = index(&map, &place.files(), Some(&embed));
    let report = third.report();
    assert_eq!((report.added, report.changed, report.removed, report.unchanged), (1, 1, 1, 1));
    assert_eq!(embed.taken().len(), 2);
    assert!(search(&map, "boiler").hits.is_empty(), "what is gone isn't found");
    assert!(search(&map, "August").hits.is_empty(), "old words aren't found");
    assert_eq!(names(&search(&map, "plums September")), ["garden.txt"]);
    assert_eq!(map.summary().expect("read").embedded, 3);
}

#[test]
fn a_renamed_file_costs_nothing() {
    let place = Place::new();
    house(&place);
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    embed.taken();
    std::fs::create_dir(place.files().join("old")).expect("a folder");
    std::fs::rename(place.files().join("garden.txt"), place.files().join("old/orchard.txt")).expect("renamed");
    let ran = index(&map, &place.files(), Some(&embed));
    let report = ran.report();
    assert_eq!((report.moved, report.added, report.removed, report.embedded), (1, 0, 0, 0));
    assert!(embed.taken().is_empty());
    assert_eq!(names(&search(&map, "plums")), ["orchard.txt"]);
    assert_eq!(names(&search(&map, "orchard")), ["orchard.txt"], "the new name is a word to search by");
}

#[test]
fn a_touched_file_is_not_read_again() {
    let place = Place::new();
    house(&place);
    let map = place.map();
    index(&map, &place.files(), None).report();
    let file = std::fs::File::options().append(true).open(place.files().join("garden.txt")).expect("opened");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).expect("set");
    let ran = index(&map, &place.files(), None);
    assert_eq!((ran.report().unchanged, ran.report().changed), (3, 0));
    assert!(ran.report().protection.is_empty());
}

#[test]
fn ignore_rules_and_hidden_files_hold() {
    let place = Place::new();
    house(&place);
    place.write(".gitignore", "drafts/\n*.tmp.md\n");
    place.write("drafts/secret-plan.md", "zebra");
    place.write("x.tmp.md", "zebra");
    place.write(".hidden.md", "zebra");
    place.write("node_modules/a/readme.md", "zebra");
    place.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    place.write("cache/page.html", "<p>zebra");
    place.write(".freeholdignore", "private/\n");
    place.write("private/diary.txt", "zebra");
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!(ran.report().documents, 3, "{:#?}", ran.steps);
    assert!(search(&map, "zebra").hits.is_empty());
    let [notice] = ran.notices()[..] else { panic!("{:?}", ran.notices()) };
    assert!(notice.starts_with("1 folder was left out") && notice.contains("files/cache`"), "{notice}");
}

#[test]
fn only_maps_of_this_program_are_left_out_and_that_is_said() {
    let place = Place::new();
    house(&place);
    place.write("roads/map.db", "somebody's own");
    place.write("roads/ways.md", "The zebra crossing is painted white.");
    for name in ["a", "b", "c", "d"] {
        place.write(&format!("maps/{name}/map.db"), "the record");
        place.write(&format!("maps/{name}/map.json"), "{\"zebra\": 1}");
    }
    let map = place.map();
    let ran = index(&map, &place.files(), None);
    assert_eq!((ran.report().documents, names(&search(&map, "zebra"))), (4, vec!["ways.md".to_owned()]));
    let [notice] = ran.notices()[..] else { panic!("{:?}", ran.notices()) };
    assert!(notice.starts_with("4 folders were left out"), "{notice}");
    assert!(notice.contains("maps/c`") && notice.ends_with(" and 1 more"), "{notice}");
}

#[test]
fn a_lost_or_damaged_word_index_is_rebuilt_from_the_record() {
    let place = Place::new();
    house(&place);
    index(&place.map(), &place.files(), None).report();
    let folder = place.map_dir().join("lexical");
    let each_file = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        for entry in std::fs::read_dir(&folder).expect("read").flatten() {
            if entry.path().extension().is_some_and(|extension| extension != "json") {
                std::fs::write(entry.path(), change(std::fs::read(entry.path()).expect("read"))).expect("written");
            }
        }
    };
    for name in ["lost", "no meta", "cut", "scrambled"] {
        match name {
            "lost" => std::fs::remove_dir_all(&folder).expect("removed"),
            "no meta" => std::fs::write(folder.join("meta.json"), "{ not json").expect("written"),
            "cut" => each_file(&|_| Vec::new()),
            _ => each_file(&|mut bytes| {
                let half = bytes.len() / 2;
                bytes[..half].fill(0xee);
                bytes
            }),
        }
        let map = place.map();
        let found = search(&map, "when is the boiler serviced");
        assert_eq!(names(&found)[0], "heating.md", "{name}");
        if name != "lost" {
            assert!(found.notices.iter().any(|notice| notice.contains("rebuilt")), "{name}: {:?}", found.notices);
        }
    }
}

#[test]
fn vectors_that_are_lost_damaged_or_stale_are_built_again() {
    let place = Place::new();
    house(&place);
    let embed = Hashing::default();
    index(&place.map(), &place.files(), Some(&embed)).report();
    let vectors = std::fs::read_dir(place.map_dir().join("vectors")).expect("read").flatten().next();
    let folder = vectors.expect("of the one model").path();
    let query = Query { text: "boiler serviced in March".into(), limit: 3, ..Default::default() };
    for damage in ["", "short"] {
        for entry in std::fs::read_dir(&folder).expect("read").flatten() {
            std::fs::write(entry.path(), damage).expect("written");
        }
        let found = place.map().search(&query, Some(&embed)).expect("found");
        assert_eq!(found.arms, "lexical+vector");
        assert_eq!(names(&found)[0], "heating.md");
        assert!(found.hits[0].dense.expect("a cosine") > 0.5);
    }
}

#[test]
fn without_vectors_the_reply_says_so() {
    let place = Place::new();
    house(&place);
    let map = place.map();
    index(&map, &place.files(), None).report();
    assert_eq!(search(&map, "boiler").arms, "lexical (no embedding model)");
    let found = map
        .search(&Query { text: "boiler".into(), limit: 3, ..Default::default() }, Some(&Hashing::default()))
        .expect("found");
    assert!(found.arms.starts_with("lexical (no passage has a vector"), "{}", found.arms);
    assert_eq!(names(&found), ["heating.md"]);
}

#[test]
fn a_failing_embedder_costs_the_vectors_only() {
    struct Failing;
    impl freehold_map::Embed for Failing {
        fn model(&self) -> String {
            "failing".into()
        }

        fn embed(&self, _: &[String]) -> Result<Vec<Vec<f32>>, base::Fault> {
            Err(base::Fault::new(Code::WorkerDied, "the worker died"))
        }
    }
    let place = Place::new();
    house(&place);
    let map = place.map();
    let ran = index(&map, &place.files(), Some(&Failing));
    assert_eq!(ran.report().documents, 3);
    assert!(ran.notices().iter().any(|notice| notice.contains("the worker died")), "{:?}", ran.notices());
    assert_eq!(names(&search(&map, "boiler")), ["heating.md"]);
    // And one that fails only at the question: words answer.
    index(&map, &place.files(), Some(&Hashing::default())).report();
    struct Late;
    impl freehold_map::Embed for Late {
        fn model(&self) -> String {
            "hashing".into()
        }

        fn embed(&self, _: &[String]) -> Result<Vec<Vec<f32>>, base::Fault> {
            Err(base::Fault::new(Code::WorkerDied, "the worker died"))
        }
    }
    let found =
        map.search(&Query { text: "boiler".into(), limit: 3, ..Default::default() }, Some(&Late)).expect("found");
    assert_eq!(names(&found), ["heating.md"]);
    assert!(found.notices[0].contains("the worker died"));
}

#[test]
fn any_words_are_a_query() {
    let place = Place::new();
    house(&place);
    let map = place.map();
    index(&map, &place.files(), None).report();
    for query in [
        "",
        "   ",
        "\"unclosed",
        "boiler AND (",
        "title:[x TO *]",
        "+-!&&||{}^~*?:\\/",
        "💧 boiler",
        "a\0b",
        &"boiler ".repeat(5000),
    ] {
        let found = search(&map, query);
        assert!(query.contains("boiler") != found.hits.is_empty(), "{query:.40}");
    }
}

#[test]
fn a_cancelled_run_keeps_what_it_read_and_the_next_goes_on() {
    let place = Place::new();
    for number in 0..300 {
        place.write(&format!("{number:03}.txt"), format!("file {number} speaks of mulberries"));
    }
    let (map, cancel) = (place.map(), AtomicBool::new(false));
    let fault = map
        .index(
            &place.files(),
            None,
            &mut |step| {
                if matches!(step, IndexStep::Progress { stage: Stage::Commit, .. }) {
                    cancel.store(true, Ordering::Relaxed);
                }
            },
            &cancel,
        )
        .expect_err("it was cancelled");
    assert_eq!(fault.code, Code::Cancelled);
    let kept = map.summary().expect("read").documents;
    assert!((1..300).contains(&kept), "{kept}");
    assert!(!search(&map, "mulberries").hits.is_empty(), "what was read can be found");
    let ran = index(&map, &place.files(), None);
    assert_eq!((ran.report().added + kept, ran.report().documents), (300, 300));
}

#[test]
fn progress_counts_to_its_total() {
    let place = Place::new();
    house(&place);
    let ran = index(&place.map(), &place.files(), Some(&Hashing::default()));
    for stage in [Stage::Scan, Stage::Read, Stage::Embed] {
        let last = ran.steps.iter().rev().find_map(|step| match step {
            IndexStep::Progress { stage: of, done, total, .. } if *of == stage => Some((*done, *total)),
            _ => None,
        });
        assert_eq!(last, Some((3, 3)), "{stage}");
    }
}

#[test]
fn two_runs_at_once_are_refused() {
    let place = Place::new();
    house(&place);
    let map = place.map();
    let mut inner = None;
    let result = map.index(
        &place.files(),
        None,
        &mut |_| {
            inner.get_or_insert_with(|| index(&map, &place.files(), None).result);
        },
        &AtomicBool::new(false),
    );
    assert!(result.is_ok());
    assert_eq!(inner.expect("it ran").expect_err("refused").code, Code::Busy);
}

#[test]
fn a_file_that_vanishes_on_the_way_is_no_error() {
    let place = Place::new();
    house(&place);
    let gone = place.write("zz.txt", "soon gone");
    let map = place.map();
    let mut steps = Vec::new();
    let report = map
        .index(
            &place.files(),
            None,
            &mut |step| {
                // The walk is over, the files aren't read yet.
                if matches!(step, IndexStep::Progress { stage: Stage::Scan, total: 4, .. }) {
                    std::fs::remove_file(&gone).expect("removed");
                }
                steps.push(step);
            },
            &AtomicBool::new(false),
        )
        .expect("it goes on");
    assert_eq!(report.documents, 3);
    let skipped = report.skipped.iter().find(|(path, _)| path.ends_with("zz.txt")).expect("named");
    assert!(skipped.1.message.contains("vanished"), "{:?}", skipped.1);
}

#[test]
fn scores_do_not_hang_on_how_often_was_indexed() {
    let words = ["boiler", "March", "plums", "lease", "garden", "serviced", "rent", "attic", "key"];
    let document = |at: usize| {
        let chosen = (0..60).map(|word| words[(at * 7 + word * word * (at + 1)) % (words.len() - at % 3)]);
        format!("# {} and {}\n\n{}.\n", words[at % 9], words[at * 5 % 7], chosen.collect::<Vec<_>>().join(" "))
    };
    let (once, often) = (Place::new(), Place::new());
    let (of_once, of_often) = (once.map(), often.map());
    for at in 0..40 {
        // Deep enough that no word of the path is the test's own folder.
        let name = format!("rent/of/attic/paper-{at}.md");
        once.write(&name, document(at));
        often.write(&name, document(at));
        if at % 6 == 5 {
            index(&of_often, &often.files(), None).report();
        }
    }
    index(&of_once, &once.files(), None).report();
    index(&of_often, &often.files(), None).report();
    let scored = |map: &Map, text: &str| -> Vec<(String, u32)> {
        let query = Query { text: text.into(), limit: 40, explain: true, ..Query::default() };
        let found = map.search(&query, None).expect("it searches");
        for hit in &found.hits {
            let parts = &hit.why.as_ref().expect("it was asked for").parts;
            let sum = parts.iter().fold(0f32, |sum, part| sum + part.score);
            assert_eq!(hit.lexical, Some(sum), "a score is the sum of what is told of it: {parts:?}");
        }
        let mut scored: Vec<(String, u32)> =
            names(&found).into_iter().zip(found.hits.iter().map(|hit| hit.lexical.unwrap_or(0.0).to_bits())).collect();
        scored.sort();
        scored
    };
    for text in ["boiler plums attic", "March lease rent key", "serviced garden boiler March plums"] {
        let (a, b) = (scored(&of_once, text), scored(&of_often, text));
        assert!(a.len() > 15, "{text}: {}", a.len());
        assert_eq!(a, b, "{text}");
    }
}
