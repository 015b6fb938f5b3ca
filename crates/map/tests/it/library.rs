//! The sample library: each question finds its source, and what isn't there is refused.

use super::{Hashing, Place, index};
use freehold_map::evidence::{Verdict, judge};
use freehold_map::verify::cite;
use freehold_map::{Embed, Map, Query};
use std::path::{Path, PathBuf};

/// Questions with the file and the words that answer them, and questions that the library doesn't answer,
/// some of them near to what it holds.
#[derive(serde::Deserialize)]
struct Questions {
    answered: Vec<Answered>,
    refused: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Answered {
    question: String,
    file: String,
    /// Words of the answer as they stand there.
    words: String,
}

fn questions() -> Questions {
    serde_json::from_str(include_str!("../library.json")).expect("it is as described")
}

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
    map.search(&Query { text: question.into(), limit: 8, ..Default::default() }, embed).expect("it searches").hits
}

#[test]
fn questions_find_their_source_and_quote_the_answer() {
    let place = Place::new();
    let map = indexed(&place, None);
    let mut wrong = Vec::new();
    let answered = questions().answered;
    for Answered { question, file, words } in &answered {
        let hits = found(&map, question, None);
        let Verdict::Found { used } = judge(question, &hits) else {
            wrong.push(format!("{question}: {:?}", judge(question, &hits)));
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
    assert!(wrong.len() * 10 <= answered.len(), "{} of {}:\n{}", wrong.len(), answered.len(), wrong.join("\n"));
}

#[test]
fn what_the_library_does_not_hold_is_refused_with_a_reason() {
    let place = Place::new();
    let map = indexed(&place, None);
    let mut wrong = Vec::new();
    let refused = questions().refused;
    for question in &refused {
        let hits = found(&map, question, None);
        match judge(question, &hits) {
            Verdict::NotFound { reason } => assert!(reason.contains('"') || reason.contains('`'), "{reason}"),
            Verdict::Found { used } => {
                wrong.push(format!("{question}: {:?}", used.iter().map(|at| &hits[*at].text).collect::<Vec<_>>()));
            }
        }
    }
    assert!(wrong.len() * 10 <= refused.len(), "{} of {}:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
}

#[test]
fn the_first_question_is_confirmed_by_a_second_document() {
    let place = Place::new();
    let embed = Hashing::default();
    let map = indexed(&place, Some(&embed));
    let question = questions().answered.remove(0).question;
    let hits = found(&map, &question, Some(&embed));
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
