//! Named maps, freshness and erasure, as a person meets them.

use crate::home::Home;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Script, Step, until};

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("written");
}

/// File names of the hits.
fn found(home: &Home, words: &str) -> Vec<String> {
    let reply = home.run(&["search", "--words", "--json", words]).json();
    let hits = reply["hits"].as_array().unwrap_or_else(|| panic!("no hits: {reply}"));
    let name = |hit: &Value| hit["path"].as_str().and_then(|path| path.rsplit('/').next()).expect("a path").to_owned();
    hits.iter().map(name).collect()
}

fn show(home: &Home, map: &str) -> Value {
    home.json(&["map", "show", map, "--json"])
}

#[test]
fn a_map_has_a_name_several_sources_and_a_label() {
    let home = Home::new();
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    write(&home.path("papers/lease.txt"), "The lease ends in June.");
    write(&home.path("papers/other.txt"), "This file of the folder isn't among the sources.");
    let report = home.json(&["map", "add", "home", "house", "papers/lease.txt", "--label", "shareable", "--json"]);
    assert_eq!((&report["map"], &report["documents"]), (&json!("home"), &json!(2)), "{report}");
    let shown = home.done(&["map", "show", "home"]);
    for words in ["shareable", "/papers/lease.txt", "never read", "node_modules", ".kdbx", "id_ed25519"] {
        assert!(shown.out.contains(words), "no `{words}` in {}", shown.out);
    }
    assert_eq!((found(&home, "lease"), found(&home, "sources")), (vec!["lease.txt".to_string()], vec![]));
    // Another source and another label, on the map that is there.
    write(&home.path("garden/plums.md"), "The plums are ripe in August.");
    home.done(&["map", "add", "home", "garden", "--label", "private"]);
    assert_eq!(show(&home, "home")["map"]["sources"].as_array().map(Vec::len), Some(3));
    home.run(&["search", "plums", "--label", "public"]).fails(10, "map_missing");
    // What the query asks for and what the flag asks for must both hold.
    home.run(&["search", "plums label:public", "--label", "private"]).fails(10, "map_missing");
    home.done(&["search", "plums label:private", "--label", "private"]);
    assert_eq!(home.json(&["search", "plums", "--json"])["hits"][0]["label"], "private");
    let list = home.done(&["map"]);
    assert!(list.out.contains("NAME") && list.out.contains("home"), "{list:?}");
    // The short way finds the map that reads the folder.
    assert_eq!(home.json(&["index", "garden", "--json"])["map"], "home");
    home.run(&["map", "add", "Not A Name", "garden"]).fails(2, "invalid_ask");
    home.run(&["map", "add", "new"]).fails(2, "invalid_ask");
    home.run(&["map", "show", "nowhere"]).fails(10, "map_missing");
    write(&home.path("keys/id_ed25519"), "secret");
    home.run(&["map", "add", "home", "keys/id_ed25519"]).fails(2, "invalid_ask");
}

#[test]
fn what_is_saved_renamed_and_deleted_is_found_so_without_being_asked_for() {
    let home = Home::new();
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    home.done(&["index", "house"]);
    let watched = || show(&home, "house")["map"]["freshness"]["following"] == "watched";
    until("the map is watched", || watched().then_some(()));

    write(&home.path("house/heating.md"), "The furnace is serviced in April.");
    until("the change is found", || (found(&home, "furnace") == ["heating.md"]).then_some(()));
    assert!(found(&home, "boiler").is_empty());

    write(&home.path("house/new/deep/plums.md"), "The plums are ripe in August.");
    until("a file in new folders is found", || (found(&home, "plums") == ["plums.md"]).then_some(()));
    write(&home.path("house/new/deep/pears.md"), "The pears are ripe in October.");
    until("and the next one there", || (found(&home, "pears") == ["pears.md"]).then_some(()));

    // As editors save: beside it, then over it.
    write(&home.path("house/.heating.md.tmp"), "The stove is serviced in May.");
    std::fs::rename(home.path("house/.heating.md.tmp"), home.path("house/heating.md")).expect("renamed");
    until("what was renamed over it is found", || (found(&home, "stove") == ["heating.md"]).then_some(()));

    std::fs::rename(home.path("house/new"), home.path("house/old")).expect("renamed");
    until("a moved folder is followed", || {
        let reply = home.json(&["search", "--words", "--json", "pears"]);
        reply["hits"][0]["path"].as_str().is_some_and(|path| path.contains("/old/deep/")).then_some(())
    });
    write(&home.path("house/old/deep/pears.md"), "The quinces are ripe in November.");
    until("changes in it too", || (found(&home, "quinces") == ["pears.md"]).then_some(()));

    std::fs::remove_dir_all(home.path("house/old")).expect("removed");
    until("what is gone isn't found", || found(&home, "quinces").is_empty().then_some(()));

    // An ignore file decides about what is there already.
    write(&home.path("house/drafts/walnut.md"), "The walnut falls.");
    until("a draft is found", || (found(&home, "walnut") == ["walnut.md"]).then_some(()));
    write(&home.path("house/.gitignore"), "drafts/\n");
    until("and isn't once it is ignored", || found(&home, "walnut").is_empty().then_some(()));
}

#[test]
fn what_changed_while_nobody_watched_is_found_after_the_start() {
    let home = Home::new();
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    home.done(&["index", "house"]);
    home.done(&["stop"]);
    write(&home.path("house/heating.md"), "The furnace is serviced in April.");
    until("the change is found", || (found(&home, "furnace") == ["heating.md"]).then_some(()));

    home.done(&["map", "pause", "house"]);
    let line = home.run(&["search", "--words", "furnace"]).err;
    assert!(line.contains("house: paused · compared with its files last on 20"), "{line}");
    home.done(&["stop"]);
    write(&home.path("house/heating.md"), "The stove is serviced in May.");
    assert_eq!(show(&home, "house")["map"]["freshness"]["following"], "paused");
    home.done(&["map", "resume", "house"]);
    until("the change is found", || (found(&home, "stove") == ["heating.md"]).then_some(()));
}

#[test]
fn vectors_follow_by_themselves() {
    let home = Home::new();
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    home.done(&["index", "house"]);
    let embedded = || show(&home, "house")["map"]["embedded"].as_u64().expect("a number");
    assert_eq!(embedded(), 0, "there is no model yet");
    home.embed_model("one");
    until("a model that came makes vectors", || (embedded() == 1).then_some(()));
    write(&home.path("house/plums.md"), "The plums are ripe in August.");
    until("a new file gets its vectors", || (embedded() == 2).then_some(()));
    assert_eq!(show(&home, "house")["embedder"], "one:f32");
    // Another model takes over by itself.
    home.embed_model("two");
    home.done(&["models", "default", "two"]);
    until("the other model serves", || (show(&home, "house")["embedder"] == "two:f32").then_some(()));
    until("nothing is pending", || (show(&home, "house")["map"]["freshness"]["vectors_pending"] == 0).then_some(()));
    let reply = home.json(&["search", "plums", "--json"]);
    assert_eq!((&reply["arms"], &reply["freshness"][0]["map"]), (&json!("lexical+vector"), &json!("house")), "{reply}");
}

/// Files of a home that hold the word, in any case.
fn traces(dir: &Path, word: &str) -> Vec<String> {
    let mut traces_found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            traces_found.extend(traces(&path, word));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            traces_found.extend(text.contains(word).then(|| path.display().to_string()));
        }
    }
    traces_found
}

#[test]
fn what_is_forgotten_is_in_no_file_of_the_home_and_stays_away() {
    let home = Home::new();
    home.embed_model("one");
    home.chat_model("small", &Script::default().on("inherits", vec![Step::Text("The garden.".into())]));
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    write(&home.path("house/private/will.md"), "The zephyrquokka inherits the garden.");
    home.done(&["index", "house"]);
    home.run(&["ask", "What does the zephyrquokka inherit?"]);
    assert!(!traces(&home.home, "zephyrquokka").is_empty(), "it is there before");
    let report = home.json(&["forget", "house/private", "--json"]);
    let forgotten = &report["maps"][0]["forgotten"];
    assert_eq!((&forgotten["files"], &forgotten["traces_count"]), (&json!(1), &json!(0)), "{report}");
    assert!(forgotten["bytes_searched"].as_u64().is_some_and(|bytes| bytes > 10_000), "{report}");
    assert_eq!(report["unloaded"], json!(["small:f32"]));
    assert_eq!(traces(&home.home, "zephyrquokka"), Vec::<String>::new());
    // It is still on the disk, and neither a run nor a change of it brings it back.
    home.done(&["index", "house"]);
    write(&home.path("house/private/will.md"), "The zephyrquokka inherits the house.");
    write(&home.path("house/plums.md"), "The plums are ripe in August.");
    until("a later change is found", || (found(&home, "plums") == ["plums.md"]).then_some(()));
    assert_eq!(traces(&home.home, "zephyrquokka"), Vec::<String>::new());
    // Asked for by name, it comes back.
    home.done(&["map", "add", "house", "house/private"]);
    assert_eq!(found(&home, "zephyrquokka"), ["will.md"]);
    let ran = home.done(&["forget", "--map", "house"]);
    assert!(ran.out.contains("and the map itself") && ran.out.contains("none found"), "{ran:?}");
    assert_eq!(traces(&home.home, "zephyrquokka"), Vec::<String>::new());
    assert!(home.path("house/private/will.md").exists(), "the person's own file stays");
    home.run(&["forget", "house"]).fails(10, "map_missing");
}

#[test]
fn a_map_is_checked_and_made_anew() {
    let home = Home::new();
    write(&home.path("house/heating.md"), "The boiler is serviced in March.");
    home.done(&["index", "house"]);
    let ran = home.done(&["map", "verify", "house"]);
    assert!(ran.out.contains("1 file, 1 passage in the record, 1 in the word index"), "{ran:?}");
    assert!(ran.out.contains("all of it fits together"), "{ran:?}");
    let report = home.json(&["map", "rebuild", "house", "--json"]);
    assert_eq!((&report["documents"], &report["changed"]), (&json!(1), &json!(1)), "{report}");
    // A record that is no database any more is made anew from the files.
    home.done(&["stop"]);
    std::fs::write(home.home.join("maps/house/map.db"), "no database at all, not even nearly one").expect("written");
    let _ = std::fs::remove_file(home.home.join("maps/house/map.db-wal"));
    home.run(&["map", "verify", "house"]).fails(10, "map_damaged");
    home.done(&["map", "rebuild", "house"]);
    assert_eq!(found(&home, "boiler"), ["heating.md"]);
}

#[test]
fn passages_behind_an_answer_are_shown_on_demand() {
    let home = Home::new();
    write(
        &home.path("house/heating.md"),
        "# Heating\n\nThe boiler is serviced in March. The pressure is checked in May.\n",
    );
    home.done(&["index", "house"]);
    let reply = home.json(&["ask", "--quotes", "--passages", "--json", "When is the boiler serviced?"]);
    let text = reply["passages"][0]["text"].as_str().expect("a passage");
    assert!(text.contains("The pressure is checked in May."), "{reply}");
    let plain = home.json(&["ask", "--quotes", "--json", "When is the boiler serviced?"]);
    assert!(plain["passages"].is_null(), "{plain}");
}
