//! What an edit costs: one paragraph re-embeds at most three passages, a move or a new name none.

use super::{Hashing, Place, index};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::{Path, PathBuf};

const EMBEDDED_MAX: usize = 3;

/// Markdown and text of the sample library, where paragraphs can be told apart by empty lines.
fn documents() -> Vec<(PathBuf, String)> {
    fn collect(dir: &Path, all: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = std::fs::read_dir(dir).expect("the library").flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, all);
            } else if path.extension().is_some_and(|ext| ext == "md" || ext == "txt") {
                all.extend(std::fs::read_to_string(&path).ok().map(|text| (path, text)));
            }
        }
    }
    let mut all = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../library"), &mut all);
    assert!(all.len() > 5, "the sample library has documents");
    all
}

/// What is done to one paragraph.
#[derive(Debug, Clone)]
enum Edit {
    Replace(String),
    Append(String),
    Delete,
    Insert(String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let words = "[a-z]{2,9}( [a-z]{2,9}){1,60}\\.";
    prop_oneof![
        words.prop_map(Edit::Replace),
        words.prop_map(Edit::Append),
        Just(Edit::Delete),
        words.prop_map(Edit::Insert)
    ]
}

/// The text with one paragraph edited; headings are left as they are, for they stand above many passages.
fn edited(text: &str, which: usize, edit: &Edit) -> Option<String> {
    let mut paragraphs: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
    let plain: Vec<usize> = (1..paragraphs.len())
        .filter(|at| {
            let first = paragraphs[*at].trim_start().chars().next().unwrap_or('#');
            first.is_alphabetic() && !paragraphs[*at].contains("\n#")
        })
        .collect();
    let at = *plain.get(which % plain.len().max(1))?;
    match edit {
        Edit::Replace(words) => paragraphs[at] = words.clone(),
        Edit::Append(words) => paragraphs[at] = format!("{} {words}", paragraphs[at].trim_end()),
        Edit::Delete => drop(paragraphs.remove(at)),
        Edit::Insert(words) => paragraphs.insert(at, words.clone()),
    }
    Some(paragraphs.join("\n\n"))
}

#[test]
fn editing_a_paragraph_embeds_at_most_three_passages_anew() {
    let documents = documents();
    let (place, embed) = (Place::new(), Hashing::default());
    let map = place.map();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let all = (0..documents.len(), any::<prop::sample::Index>(), edit());
    runner
        .run(&all, |(document, which, edit)| {
            let (path, text) = &documents[document];
            let name = format!("{document}.{}", path.extension().expect("one").to_string_lossy());
            place.write(&name, text);
            index(&map, &place.files(), Some(&embed)).report();
            embed.taken();
            let Some(changed) = edited(text, which.index(1000), &edit) else { return Ok(()) };
            place.write(&name, changed);
            index(&map, &place.files(), Some(&embed)).report();
            let taken = embed.taken();
            prop_assert!(taken.len() <= EMBEDDED_MAX, "{} passages of {}: {taken:#?}", taken.len(), path.display());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn moving_and_renaming_the_whole_library_embeds_nothing() {
    let (place, embed) = (Place::new(), Hashing::default());
    for (at, (path, text)) in documents().iter().enumerate() {
        place.write(&format!("old/{at}.{}", path.extension().expect("one").to_string_lossy()), text);
    }
    let map = place.map();
    index(&map, &place.files(), Some(&embed)).report();
    embed.taken();
    std::fs::rename(place.files().join("old"), place.files().join("new")).expect("moved");
    for entry in std::fs::read_dir(place.files().join("new")).expect("listed").flatten() {
        let name = format!("renamed-{}", entry.file_name().to_string_lossy());
        std::fs::rename(entry.path(), place.files().join("new").join(name)).expect("renamed");
    }
    let ran = index(&map, &place.files(), Some(&embed));
    assert_eq!(embed.taken(), Vec::<String>::new());
    assert_eq!((ran.report().added, ran.report().removed), (0, 0), "{:?}", ran.report());
}
