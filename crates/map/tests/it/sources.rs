//! Several sources, single files, sources that went or are away, and taking up one change at a time.

use super::{Hashing, Place, names, search};
use freehold_map::{Map, Refreshed, Report, Scope};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

fn sync(map: &Map, sources: Vec<PathBuf>) -> Report {
    map.sync(&Scope::of(sources), None, &mut |_| {}, &AtomicBool::new(false)).expect("the run succeeds")
}

fn refresh(map: &Map, place: &Place, names: &[&str]) -> Refreshed {
    let scope = Scope::of(vec![place.files()]).only(names.iter().map(|name| place.files().join(name)));
    map.refresh(&scope, &AtomicBool::new(false)).expect("the run succeeds")
}

#[test]
fn a_map_reads_folders_and_single_files_and_drops_a_source_that_is_taken_away() {
    let place = Place::new();
    let [one, two] = ["one", "two"].map(|name| place.files().join(name));
    place.write("one/boiler.md", "The boiler is serviced in March.");
    place.write("two/plums.md", "The plums are ripe in August.");
    place.write("two/attic.md", "The attic is dry.");
    let map = place.map();
    let report = sync(&map, vec![one.clone(), two.join("plums.md"), one.join("boiler.md")]);
    assert_eq!((report.documents, report.added), (2, 2), "what two sources share is read once");
    assert_eq!(names(&search(&map, "plums")), ["plums.md"]);
    assert!(search(&map, "attic").hits.is_empty());
    let report = sync(&map, vec![two.clone()]);
    assert_eq!((report.documents, report.added, report.removed, report.unchanged), (2, 1, 1, 1));
    assert!(search(&map, "boiler").hits.is_empty());
    // A deleted source is gone; one whose place has gone as well is only away.
    std::fs::remove_dir_all(&two).expect("removed");
    assert_eq!(sync(&map, vec![two]).documents, 0);
    let far = place.write("far/disk/notes.md", "The notes lie on a disk.");
    let far = far.parent().expect("a folder").to_path_buf();
    assert_eq!(sync(&map, vec![far.clone()]).documents, 1);
    std::fs::remove_dir_all(place.files().join("far")).expect("removed");
    assert_eq!(sync(&map, vec![far]).documents, 1);
}

#[test]
fn one_change_is_taken_up_alone_under_all_the_rules_of_a_full_run() {
    let (place, embed) = (Place::new(), Hashing::default());
    place.write(".gitignore", "drafts/\n");
    place.write("a/boiler.md", "The boiler is serviced in March.");
    place.write("b/plums.md", "The plums are ripe in August.");
    let map = place.map();
    super::index(&map, &place.files(), Some(&embed)).report();

    place.write("a/boiler.md", "The boiler is serviced in April.");
    place.write("b/plums.md", "Nobody says that this has changed.");
    place.write("drafts/x.md", "zebra");
    place.write("node_modules/x/y.md", "zebra");
    place.write("a/id_rsa", "zebra");
    let done = refresh(&map, &place, &["a/boiler.md", "drafts/x.md", "node_modules/x/y.md", "a/id_rsa"]);
    assert_eq!(done.changes, 1);
    assert_eq!(names(&search(&map, "April")), ["boiler.md"]);
    assert!(search(&map, "March").hits.is_empty() && search(&map, "zebra").hits.is_empty());
    assert_eq!(names(&search(&map, "August")), ["plums.md"], "it wasn't looked at");
    assert_eq!(refresh(&map, &place, &["a/boiler.md"]).changes, 0, "nothing has changed since");

    // Only the new words are embedded, and only those of this change are looked for.
    embed.taken();
    let made = map.embed(&embed, done.since, &mut |_| {}, &AtomicBool::new(false)).expect("embedded");
    assert_eq!((made, embed.taken().len()), (1, 1));

    // A folder that was moved: both of its places are among the changes, and nothing is embedded.
    std::fs::rename(place.files().join("a"), place.files().join("c")).expect("renamed");
    let done = refresh(&map, &place, &["a", "c"]);
    assert_eq!(done.changes, 1);
    assert!(done.folders.contains(&place.files().join("c")), "{:?}", done.folders);
    assert_eq!(map.embed(&embed, done.since, &mut |_| {}, &AtomicBool::new(false)).expect("embedded"), 0);
    assert_eq!(search(&map, "April").hits[0].path, place.files().join("c/boiler.md"));

    std::fs::remove_dir_all(place.files().join("c")).expect("removed");
    assert_eq!(refresh(&map, &place, &["c"]).changes, 1);
    assert!(search(&map, "April").hits.is_empty());
}

#[test]
fn another_model_takes_over_when_it_is_through_and_not_before() {
    struct Named<'a>(&'a Hashing, &'static str, Option<usize>);
    impl freehold_map::Embed for Named<'_> {
        fn model(&self) -> String {
            self.1.into()
        }

        fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, base::Fault> {
            let done = self.0.texts.lock().expect("no thread panicked").len();
            if self.2.is_some_and(|most| done >= most) {
                return Err(base::Fault::new(base::Code::WorkerDied, "the worker died"));
            }
            self.0.embed(texts)
        }
    }
    let (place, hashing) = (Place::new(), Hashing::default());
    for number in 0..80 {
        place.write(&format!("{number}.md"), format!("The boiler number {number} is serviced in March."));
    }
    let map = place.map();
    super::index(&map, &place.files(), Some(&Named(&hashing, "old", None))).report();
    assert_eq!(map.serving().expect("read").as_deref(), Some("old"));
    let never = AtomicBool::new(false);
    hashing.taken();
    let broken = Named(&hashing, "new", Some(32));
    assert_eq!(map.embed(&broken, 0, &mut |_| {}, &never).expect("it goes on"), 32);
    assert_eq!(map.serving().expect("read").as_deref(), Some("old"), "the new one isn't through");
    let query = freehold_map::Query { text: "boiler".into(), limit: 3, ..freehold_map::Query::default() };
    let found = map.search(&query, Some(&Named(&hashing, "old", None))).expect("found");
    assert_eq!(found.arms, "lexical+vector");
    assert_eq!(map.without_vector("new").expect("read"), 48);
    assert_eq!(map.embed(&Named(&hashing, "new", None), 0, &mut |_| {}, &never).expect("embedded"), 48);
    assert_eq!(map.serving().expect("read").as_deref(), Some("new"));
    assert_eq!(map.without_vector("old").expect("read"), 80, "vectors of the old one take no room any more");
    let found = map.search(&query, Some(&Named(&hashing, "new", None))).expect("found");
    assert_eq!(found.arms, "lexical+vector");
}

#[test]
fn a_check_finds_what_is_wrong_and_makes_it_anew() {
    let (place, embed) = (Place::new(), Hashing::default());
    for number in 0..40 {
        place.write(&format!("{number}.md"), format!("The boiler number {number} is serviced in March."));
    }
    super::index(&place.map(), &place.files(), Some(&embed)).report();
    let scope = Scope::of(vec![place.files()]);
    let clean = place.map().inspect(&scope).expect("inspected");
    assert_eq!((clean.files, clean.passages, clean.found_by_words, clean.vectors), (40, 40, 40, 40));
    assert_eq!((clean.problems.as_slice(), clean.files_behind), (&[][..], 0));

    place.write("1.md", "Another text.");
    place.write("new.md", "A new text.");
    std::fs::remove_file(place.files().join("2.md")).expect("removed");
    assert_eq!(place.map().inspect(&scope).expect("inspected").files_behind, 3);

    let models = std::fs::read_dir(place.map_dir().join("vectors")).expect("listed").flatten();
    let files = models.flat_map(|model| std::fs::read_dir(model.path()).expect("listed").flatten());
    // Damaged signs are noticed when they are opened; nobody but a check sees what became of the codes.
    let codes: Vec<_> =
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ext| ext == "codes")).collect();
    assert!(!codes.is_empty());
    for path in codes {
        let mut bytes = std::fs::read(&path).expect("read");
        let half = bytes.len() / 2;
        bytes[half..].fill(0x11);
        std::fs::write(&path, bytes).expect("written");
    }
    let store = std::fs::read_dir(place.map_dir().join("lexical")).expect("listed").flatten();
    let store =
        store.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ext| ext == "pos" || ext == "idx"));
    let store = store.expect("an index file");
    let mut bytes = std::fs::read(&store).expect("read");
    bytes[0] ^= 0xff;
    std::fs::write(&store, bytes).expect("written");
    let found = place.map().inspect(&scope).expect("inspected");
    assert_eq!(found.problems.len(), 2, "{found:#?}");
    assert!(found.problems.iter().all(|problem| problem.repaired), "{found:#?}");
    let again = place.map().inspect(&scope).expect("inspected");
    assert_eq!((again.problems.as_slice(), again.found_by_words), (&[][..], 40));
    let map = place.map();
    map.start_over().expect("thrown away");
    embed.taken();
    let ran = super::index(&map, &place.files(), Some(&embed));
    assert_eq!((ran.report().unchanged, embed.taken().len()), (0, 2), "all is read again, only new words are embedded");
}
