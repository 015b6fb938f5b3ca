use super::*;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

const WORKER: WorkerKey = WorkerKey(1);
const DEAR: u64 = 60_000_000;

fn owner(app: &str) -> Owner {
    Owner { model: "m".into(), name: "small".into(), adapters: Vec::new(), app: app.into() }
}

fn chain(length: i32) -> Chain {
    Chain { scope: 1, adapters: Vec::new(), tokens: (0..length).collect(), exact: false }
}

/// As a worker does it: a file of the daemon's, written, and told.
fn put(stored: &Stored, state: u64, app: &str, length: i32, text: &[u8]) -> bool {
    let key = (WORKER, state);
    let Some(mut file) = stored.offer(key, owner(app), &chain(length), text.len() as u64, DEAR) else { return false };
    file.write_all(text).unwrap();
    stored.written(key, text.len() as u64);
    // Its thread does the rest; here nobody is to wait for another thread.
    true
}

fn put_in(stored: &Stored, state: u64, app: &str, length: i32, text: &[u8]) {
    assert!(put(stored, state, app, length, text));
    let start = std::time::Instant::now();
    while !locked(&stored.state).coming.is_empty() {
        assert!(start.elapsed().as_secs() < 30, "the thread doesn't take it in");
        std::thread::yield_now();
    }
}

fn text(stored: &Stored, job: u64, app: &str, length: i32) -> Option<String> {
    let mut text = String::new();
    stored.find((WORKER, job), &owner(app), &chain(length), 0)?.read_to_string(&mut text).unwrap();
    Some(text)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.collect()
}

#[test]
fn what_was_stored_is_found_after_a_restart_by_the_same_app_alone() {
    let home = testkit::TempHome::new();
    let folder = home.path().join("cache");
    {
        let stored = Stored::open(&folder, 1 << 20);
        assert!(!stored.may_have("notes"));
        put_in(&stored, 1, "notes", 1000, b"of notes");
        assert!(stored.may_have("notes") && !stored.may_have("mail"));
    }
    let stored = Stored::open(&folder, 1 << 20);
    assert!(stored.may_have("notes") && !stored.may_have("mail"));
    assert_eq!(text(&stored, 1, "notes", 2000).as_deref(), Some("of notes"));
    assert_eq!(text(&stored, 2, "mail", 2000), None);
    for name in names(&folder) {
        let mode = std::fs::metadata(folder.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_a_worker_has_written_before_it_went_outlives_the_daemon() {
    let home = testkit::TempHome::new();
    let folder = home.path().join("cache");
    {
        let stored = Stored::open(&folder, 1 << 20);
        assert!(put(&stored, 1, "notes", 1000, b"in time"));
        // One that it has not, and one that it couldn't write.
        let _torn = stored.offer((WORKER, 2), owner("mail"), &chain(1000), 9, DEAR).unwrap();
        let _short = stored.offer((WORKER, 3), owner("chat"), &chain(1000), 9, DEAR).unwrap();
        stored.written((WORKER, 3), 0);
        stored.gone(WORKER);
        stored.settle();
        assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
    }
    let stored = Stored::open(&folder, 1 << 20);
    assert_eq!(text(&stored, 1, "notes", 2000).as_deref(), Some("in time"));
    assert!(!stored.may_have("mail") && !stored.may_have("chat"));
}

#[test]
fn what_is_torn_or_damaged_is_deleted_and_never_found() {
    let home = testkit::TempHome::new();
    let folder = home.path().join("cache");
    {
        let stored = Stored::open(&folder, 1 << 20);
        put_in(&stored, 1, "a", 1000, b"whole");
        put_in(&stored, 2, "b", 1000, b"its state is cut");
        put_in(&stored, 3, "c", 1000, b"its head is damaged");
        put_in(&stored, 4, "d", 1000, b"its head is gone");
        // And one that is being written when everything ends.
        let mut file = stored.offer((WORKER, 5), owner("e"), &chain(1000), 9, DEAR).unwrap();
        file.write_all(b"half").unwrap();
    }
    let file = |number: u64, kind: &str| folder.join(format!("{number:016x}.{kind}"));
    std::fs::write(file(2, "state"), b"its st").unwrap();
    let mut head = std::fs::read(file(3, "head")).unwrap();
    head[40] ^= 1;
    std::fs::write(file(3, "head"), head).unwrap();
    std::fs::remove_file(file(4, "head")).unwrap();
    let stored = Stored::open(&folder, 1 << 20);
    assert_eq!(text(&stored, 1, "a", 2000).as_deref(), Some("whole"));
    for app in ["b", "c", "d", "e"] {
        assert_eq!(text(&stored, 2, app, 2000), None, "{app}");
    }
    assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
}

#[test]
fn what_a_worker_finds_damaged_is_not_handed_out_again() {
    let home = testkit::TempHome::new();
    let stored = Stored::open(&home.path().join("cache"), 1 << 20);
    put_in(&stored, 1, "a", 1000, b"damaged inside");
    assert!(text(&stored, 7, "a", 2000).is_some());
    stored.tried((WORKER, 7), Verdict::Damaged, 0, 1);
    assert_eq!(text(&stored, 8, "a", 2000), None);
    assert!(names(&home.path().join("cache")).is_empty());
}

#[test]
fn what_is_of_no_use_for_one_prompt_is_there_for_another() {
    let home = testkit::TempHome::new();
    let stored = Stored::open(&home.path().join("cache"), 1 << 20);
    put_in(&stored, 1, "a", 1000, b"whole");
    assert!(text(&stored, 7, "a", 2000).is_some());
    stored.tried((WORKER, 7), Verdict::Unfit, 0, 1);
    assert_eq!(text(&stored, 8, "a", 2000).as_deref(), Some("whole"));
}

#[test]
fn a_worker_that_dies_while_it_writes_leaves_nothing() {
    let home = testkit::TempHome::new();
    let stored = Stored::open(&home.path().join("cache"), 1 << 20);
    let _file = stored.offer((WORKER, 1), owner("a"), &chain(1000), 9, DEAR).unwrap();
    let other = WorkerKey(2);
    let _other = stored.offer((other, 1), owner("b"), &chain(1000), 9, DEAR).unwrap();
    stored.gone(WORKER);
    assert_eq!(names(&home.path().join("cache")).len(), 1, "the other one's is still being written");
    stored.gone(other);
    assert!(names(&home.path().join("cache")).is_empty());
    stored.written((WORKER, 1), 9);
    assert_eq!(text(&stored, 1, "a", 2000), None);
}

#[test]
fn bytes_on_disk_are_bounded() {
    let home = testkit::TempHome::new();
    let folder = home.path().join("cache");
    let most = 400_000;
    let stored = Stored::open(&folder, most);
    for state in 0..30 {
        put_in(&stored, state, &format!("app {state}"), 1000, &[7; 60_000]);
        let bytes = |name: String| std::fs::metadata(folder.join(name)).map_or(0, |about| about.len());
        let states = names(&folder).into_iter().filter(|name| name.ends_with(".state"));
        let sum = states.map(bytes).sum::<u64>();
        assert!(sum <= most, "{sum} bytes");
        assert!(state < 5 || sum > most / 2, "{sum} bytes: the room is used");
    }
    assert!(!put(&stored, 99, "large", 1000, &[7; 400_001]));
    drop(stored);
    assert!(Stored::open(&folder, 0).offer((WORKER, 1), owner("a"), &chain(1000), 1, DEAR).is_none(), "switched off");
}

#[test]
fn erasing_takes_what_is_meant_and_proves_it_from_the_folder() {
    let home = testkit::TempHome::new();
    let folder = home.path().join("cache");
    let stored = Stored::open(&folder, 1 << 20);
    for (state, app) in (1..).zip(["notes", "mail", "chat"]) {
        put_in(&stored, state, app, 1000, app.as_bytes());
    }
    let of_app = |app: &str| Which { app: Some(app.into()), model: None };
    let erased = stored.erase(&of_app("mail")).unwrap();
    assert_eq!(erased, Erased { files: 1, bytes: Bytes(4), left: 0 });
    assert_eq!(text(&stored, 1, "mail", 2000), None);
    assert!(text(&stored, 2, "notes", 2000).is_some() && !stored.may_have("mail"));
    assert_eq!(stored.erase(&Which { app: None, model: Some("other".into()) }).unwrap(), Erased::default());
    // One that is under way when it is erased never appears.
    let mut late = stored.offer((WORKER, 9), owner("late"), &chain(1000), 4, DEAR).unwrap();
    late.write_all(b"late").unwrap();
    assert_eq!(stored.erase(&Which::default()).unwrap().files, 2);
    stored.written((WORKER, 9), 4);
    let start = std::time::Instant::now();
    while !names(&folder).is_empty() {
        assert!(start.elapsed().as_secs() < 30, "{:?}", names(&folder));
        std::thread::yield_now();
    }
    // What lies there and isn't known of is found, and goes with everything.
    put_in(&stored, 10, "notes", 1000, b"x");
    let head = std::fs::read(folder.join(names(&folder).iter().find(|name| name.ends_with("head")).unwrap())).unwrap();
    std::fs::write(folder.join("00000000000000ff.head"), head).unwrap();
    assert_eq!(stored.erase(&of_app("notes")).unwrap().left, 1);
    assert_eq!(stored.erase(&Which::default()).unwrap().left, 0);
    assert!(names(&folder).is_empty());
}
