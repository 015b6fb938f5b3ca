//! The record on its own: transactions, generations, and what becomes of errors.

use super::*;
use crate::scope::Scope;

fn under(path: &str) -> Scope {
    Scope::default().only([path.into()])
}

pub(crate) fn row(path: &str, words: &str) -> Change {
    let passage = Passage { span: 0..words.len(), heading: vec!["A".into(), "B".into()], parts: (0, 0) };
    let file = FileRow {
        path: path.into(),
        part: None,
        unfinished: false,
        stamp: Stamp { bytes: words.len() as u64, modified_ns: 7 },
        hash: *blake3::hash(words.as_bytes()).as_bytes(),
        format: Format::Text,
        title: None,
        encoding: Encoding::Utf8,
        fault: None,
        about: Box::default(),
    };
    let key = key(None, &passage, words);
    let place = Place::Lines { first: 1, last: 1, byte_start: 0, byte_end: words.len() as u64 };
    let run = Run { text: 0, text_len: words.len() as u32, source: 0, source_len: words.len() as u32 };
    Change::Put(
        file,
        vec![PassageRow {
            text: words.into(),
            heading: "A > B".into(),
            place,
            runs: vec![run],
            spots: Spots::default(),
            key,
        }],
    )
}

fn record() -> (tempfile::TempDir, Record) {
    let dir = tempfile::tempdir().expect("a folder");
    let record = Record::open(dir.path()).expect("it opens");
    (dir, record)
}

#[test]
fn what_goes_in_comes_out_and_generations_count() {
    let (dir, mut record) = record();
    record.apply(&[row("/a/x.txt", "one"), row("/a/y.txt", "two")]).expect("applied");
    record.apply(&[row("/a/x.txt", "three")]).expect("applied");
    assert_eq!(record.generation().expect("read"), 2);
    let changed = record.changed(1, 0, 10).expect("read");
    assert_eq!(changed.len(), 1);
    assert_eq!(record.gone(1).expect("read").len(), 1, "the old row of x.txt is gone");
    let mut passages = Vec::new();
    let mut take = |id, text: &str, heading: &str| {
        passages.push((id, text.to_owned(), heading.to_owned()));
        Ok(())
    };
    record.each_passage(changed[0].id, &mut take).expect("read");
    let [(id, text, heading)] = &passages[..] else { panic!("{passages:?}") };
    assert_eq!((text.as_str(), heading.as_str()), ("three", "A > B"));
    let id = *id;
    let stored = record.passages(&[id, 999]).expect("read");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[&id].passage.place, Place::Lines { first: 1, last: 1, byte_start: 0, byte_end: 5 });
    assert_eq!(stored[&id].passage.runs.len(), 1);
    assert_eq!(record.known_in(&under("/a")).expect("read").len(), 2);
    for (path, count) in [("/b", 0), ("/a/x.txt", 1), ("/a/x", 0), ("/", 2), ("/a/x.txt/y", 0)] {
        assert_eq!(record.known_in(&under(path)).expect("read").len(), count, "{path}");
    }
    drop(record);
    assert_eq!(Record::open(dir.path()).expect("again").generation().expect("read"), 2);
}

/// What waits for a vector of model `m`.
fn waiting(record: &Record, since: u64) -> Vec<Unembedded> {
    let ids = record.unembedded("m", since).expect("read");
    assert_eq!(ids.len() as u64, record.unembedded_count("m", since).expect("read"));
    record.to_embed(&ids).expect("read")
}

#[test]
fn a_look_beside_sees_the_record_and_makes_none() {
    let (dir, mut record) = record();
    record.apply(&[row("/a", "one")]).expect("applied");
    assert_eq!(Record::beside(dir.path()).and_then(|beside| beside.unembedded_count("m", 0)).expect("read"), 1);
    let empty = tempfile::tempdir().expect("a folder");
    assert!(Record::beside(empty.path()).is_err());
    assert_eq!(std::fs::read_dir(empty.path()).expect("read").count(), 0);
}

#[test]
fn only_what_changed_since_is_asked_for_and_what_went_is_left_out() {
    let (_dir, mut record) = record();
    record.apply(&[row("/a", "one"), row("/b", "two")]).expect("applied");
    let before = record.generation().expect("read");
    record.apply(&[row("/c", "three"), row("/d", "one")]).expect("applied");
    let texts = |since| waiting(&record, since).into_iter().map(|one| one.text).collect::<Vec<_>>();
    assert_eq!(texts(0), ["one", "two", "three"]);
    assert_eq!(texts(before), ["three", "one"]);
    let ids = record.unembedded("m", 0).expect("read");
    let known = record.known_in(&Scope::default()).expect("read");
    record.apply(&[Change::Remove { id: known[Path::new("/b")].id }]).expect("applied");
    let left: Vec<String> = record.to_embed(&ids).expect("read").into_iter().map(|one| one.text).collect();
    assert_eq!(left, ["one", "three"]);
}

#[test]
fn equal_words_need_one_vector_and_unused_ones_go() {
    let (_dir, mut record) = record();
    record.apply(&[row("/a", "same"), row("/b", "same"), row("/c", "other")]).expect("applied");
    let missing = waiting(&record, 0);
    assert_eq!((missing.len(), record.unembedded_count("m", 0).expect("read")), (2, 2));
    let vectors: Vec<_> = missing.iter().map(|missing| (missing.key, Some(vec![0.6, 0.8]))).collect();
    record.put_vectors("m", &vectors).expect("stored");
    assert_eq!(record.unembedded_count("m", 0).expect("read"), 0);
    assert_eq!(record.unembedded_count("other model", 0).expect("read"), 2);
    let mut seen = Vec::new();
    let mut take = |id, vector: &dyn Fn() -> Vec<f32>| {
        seen.push((id, vector().len()));
        Ok(())
    };
    record.each_vector("m", &mut take).expect("read");
    assert_eq!(seen, [(1, 2), (2, 2), (3, 2)]);
    assert_eq!(record.summary().expect("read").embedded, 3);
    let known = record.known_in(&Scope::default()).expect("read");
    record.apply(&[Change::Remove { id: known[Path::new("/c")].id }]).expect("applied");
    record.sweep(record.generation().expect("read")).expect("swept");
    assert_eq!(record.get("SELECT COUNT(*) FROM vector").expect("read"), 1);
    assert!(record.gone(0).expect("read").is_empty());
}

#[test]
fn a_full_disk_keeps_what_was_there_and_says_so() {
    let (_dir, mut record) = record();
    record.apply(&[row("/a", "kept")]).expect("applied");
    record.bound_pages(20);
    let long = "word ".repeat(100_000);
    let fault = record.apply(&[row("/b", "small"), row("/c", &long)]).expect_err("it is full");
    assert_eq!(fault.code, Code::DiskFull, "{fault:?}");
    assert!(!fault.hints.is_empty());
    assert_eq!(record.summary().expect("read").documents, 1, "nothing of the failed step stays");
    assert_eq!(record.generation().expect("read"), 1);
}

#[test]
fn a_record_of_a_newer_release_is_refused() {
    let (dir, record) = record();
    record.db.pragma_update(None, "user_version", LAYOUT + 1).expect("set");
    drop(record);
    let fault = Record::open(dir.path()).expect_err("refused");
    assert_eq!(fault.code, Code::MapDamaged);
    assert!(fault.to_string().contains("newer"), "{fault}");
}

#[test]
fn a_file_in_parts_is_one_document_and_goes_as_one() {
    let (_dir, mut record) = record();
    let part = |start: u64, words: &str| {
        let Change::Put(file, passages) = row("/a/x.log", words) else { panic!("a file") };
        Change::Put(FileRow { part: Some(FilePart { start, lines: 7 }), ..file }, passages)
    };
    let Change::Put(whole, _) = row("/a/x.log", "") else { panic!("a file") };
    let whole = FileRow { unfinished: true, ..whole };
    record
        .apply(&[Change::Put(whole, Vec::new()), part(0, "one"), part(9, "two"), row("/a/x", "three")])
        .expect("applied");
    let summary = record.summary().expect("read");
    assert_eq!((summary.documents, summary.passages), (2, 3));
    for scope in [under("/a/x.log"), under("/a")] {
        let known = record.known_in(&scope).expect("read");
        let known = &known[Path::new("/a/x.log")];
        let parts: Vec<FilePart> = known.parts.iter().map(|known| known.part).collect();
        assert_eq!(parts, [FilePart { start: 0, lines: 7 }, FilePart { start: 9, lines: 7 }]);
        assert_ne!(known.reading, READING, "an unfinished file is read again");
    }
    assert_eq!(record.known_in(&under("/a/x")).expect("read").len(), 1, "no part of another file");
    assert!(
        record.entries().expect("read").iter().all(|entry| !entry
            .facts
            .path
            .as_os_str()
            .as_encoded_bytes()
            .contains(&0))
    );
    let gone: Vec<Change> = {
        let known = record.known_in(&Scope::default()).expect("read");
        known[Path::new("/a/x.log")].ids().map(|id| Change::Remove { id }).collect()
    };
    record.apply(&gone).expect("applied");
    assert_eq!(record.summary().expect("read").passages, 1);
}
