//! The sample library: each question finds its source, and what isn't there is refused.

use super::{Hashing, Place, index};
use freehold_map::evidence::{Verdict, judge};
use freehold_map::verify::cite;
use freehold_map::{Embed, Map, Query};
use std::path::{Path, PathBuf};

/// Question, the file that answers it, and words of the answer.
const ANSWERED: &[(&str, &str, &str)] = &[
    ("How often must the boiler be serviced?", "house-manual.md", "once a year"),
    ("What replaced part did the boiler engineer put in?", "house-manual.md", "ignition electrode"),
    ("Where is the main stopcock?", "house-manual.md", "under the kitchen sink"),
    ("When is the blue bin collected?", "house-manual.md", "first Thursday"),
    ("When do tomatoes go out into the garden?", "garden-notes.txt", "15 May"),
    ("When is the hornbeam hedge cut?", "garden-notes.txt", "end of June"),
    ("How far apart are potatoes planted?", "garden-notes.txt", "70 cm"),
    ("What does the new pump cost?", "allotment-minutes.md", "1,840"),
    ("How many hours of common work does everyone owe?", "allotment-minutes.md", "six hours"),
    ("How long must a burn be cooled?", "first-aid.md", "ten minutes"),
    ("Where does the nearest defibrillator hang?", "first-aid.md", "fire station"),
    ("When does the backup drive copy the study computer?", "router.md", "02:30"),
    ("How many characters must a passphrase have?", "router.md", "20 characters"),
    ("What is the price per kilowatt-hour from January 2026?", "energy-tariff.eml", "31.8"),
    ("What does fitting the radiator for the café corner cost?", "boiler-service.eml", "210 euros"),
    ("On which day do the chimney sweeps come?", "chimney-sweep.eml", "9 October"),
    ("How long does an opened jar of plum jam keep?", "plum-jam.txt", "four weeks"),
    ("How long does two-part epoxy stay in clamps?", "glue.md", "8 hours"),
];

/// Questions about things that the library doesn't hold, some of them near to what it does.
const REFUSED: &[&str] = &[
    "What is the name of the cat?",
    "How much did the wedding cost?",
    "Who won the football championship in 1998?",
    "What is the capital of Mongolia?",
    "How do I renew my passport?",
    "When is the dentist's appointment?",
    "Which vaccination does the dog need?",
    "What is the password of the bank account?",
];

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../library")
}

fn indexed(place: &Place, embed: Option<&dyn Embed>) -> Map {
    let map = place.map();
    let ran = index(&map, &library(), embed);
    assert!(ran.report().skipped.is_empty(), "{:?}", ran.report().skipped);
    map
}

fn found(map: &Map, question: &str, embed: Option<&dyn Embed>) -> Vec<freehold_map::Hit> {
    map.search(&Query { text: question.into(), limit: 8 }, embed).expect("it searches").hits
}

#[test]
fn questions_find_their_source_and_quote_the_answer() {
    let place = Place::new();
    let map = indexed(&place, None);
    let mut wrong = Vec::new();
    for (question, file, words) in ANSWERED {
        let hits = found(&map, question, None);
        let Verdict::Found { used } = judge(question, &hits) else {
            wrong.push(format!("{question}: refused; {:?}", judge(question, &hits)));
            continue;
        };
        let cited = cite(question, &hits, &used);
        assert!(cited.notices.is_empty(), "{:?}", cited.notices);
        let quotes: Vec<String> =
            cited.quoted.iter().map(|quoted| format!("{}: {}", quoted.citation.path, quoted.citation.quote)).collect();
        if !quotes.iter().any(|quote| quote.contains(file) && quote.contains(words)) {
            wrong.push(format!("{question}: {quotes:#?}"));
        }
    }
    assert!(wrong.len() <= 2, "{} of {} went wrong:\n{}", wrong.len(), ANSWERED.len(), wrong.join("\n"));
}

#[test]
fn what_the_library_does_not_hold_is_refused_with_a_reason() {
    let place = Place::new();
    let map = indexed(&place, None);
    for question in REFUSED {
        let hits = found(&map, question, None);
        match judge(question, &hits) {
            Verdict::NotFound { reason } => assert!(reason.contains('"') || reason.contains('`'), "{reason}"),
            Verdict::Found { used } => {
                panic!("{question}: {:?}", used.iter().map(|at| &hits[*at].text).collect::<Vec<_>>())
            }
        }
    }
}

#[test]
fn the_first_question_is_confirmed_by_a_second_document() {
    let place = Place::new();
    let embed = Hashing::default();
    let map = indexed(&place, Some(&embed));
    let question = ANSWERED[0].0;
    let hits = found(&map, question, Some(&embed));
    let names: Vec<String> =
        hits.iter().map(|hit| hit.path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    for name in ["house-manual.md", "boiler-service.eml"] {
        assert!(names[..3].contains(&name.to_owned()), "{names:?}");
    }
}

#[test]
fn the_library_is_small_and_every_format_is_in_it() {
    let mut extensions = std::collections::BTreeSet::new();
    let mut bytes = 0;
    let mut folders = vec![library()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("read").flatten() {
            let meta = entry.metadata().expect("read");
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += meta.len();
                extensions.insert(entry.path().extension().expect("an ending").to_string_lossy().into_owned());
            }
        }
    }
    assert!(bytes < 300 << 10, "{bytes}");
    for extension in ["md", "txt", "html", "pdf", "docx", "eml", "py", "csv"] {
        assert!(extensions.contains(extension), "{extension}");
    }
}
