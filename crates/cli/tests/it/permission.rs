//! What a program sees that is kept to some maps: exactly what it would see if there were no others.

use crate::home::Home;
use crate::http::{self, Reply};
use api::route::{Reach, TABLE};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const APP: &str = "mail-helper";
const CONFIG: &str = "confine = \"best-effort\"\n\
[apps.\"mail-helper\"]\nmaps = [\"letters\"]\nlabels = [\"public\"]\n\
[apps.\"blind\"]\n";

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("written");
}

/// A home with maps that the program may see, and, where `others` is set, with some that it may not. The files are
/// the same in either case.
struct Shelf {
    home: Home,
    socket: PathBuf,
}

impl Shelf {
    fn new(others: bool) -> Self {
        let home = Home::new();
        std::fs::write(home.home.join("config.toml"), CONFIG).expect("config");
        home.embed_model("one");
        let boiler = "The boiler in the cellar is serviced once a year by Nordlicht, always in March, and the bill goes \
            to the owner of the house, who pays it within thirty days of its date without fail.";
        write(&home.path("letters/nordlicht.md"), &format!("# Letter\n\n{boiler}\n"));
        write(
            &home.path("letters/lease.txt"),
            "The lease of the garden ends in June, and the plums belong to the tenant.",
        );
        write(
            &home.path("open/plums.md"),
            "---\nauthor: Ada Lund\n---\n\nThe plums are ripe in March, says the oil man.",
        );
        // Nearly the same words, the same words in other numbers, and words that stand nowhere else.
        write(&home.path("house/copy.md"), &format!("# Copy\n\n{boiler} Yes.\n"));
        write(
            &home.path("house/zephyrquokka.md"),
            "---\nauthor: Eve Quill\n---\n\nThe zephyrquokka pays for the boiler.",
        );
        for number in 0..6 {
            write(
                &home.path(&format!("house/{number}.txt")),
                &format!("Plums number {number} and the lease of March {number}."),
            );
        }
        write(&home.path("shared/boiler.txt"), "The boiler of the neighbours is serviced in March, too.");
        let mut maps = vec![("letters", "private"), ("open", "public")];
        if others {
            maps.extend([("house", "private"), ("shared", "shareable")]);
        }
        for (map, label) in maps {
            home.done(&["map", "add", map, map, "--label", label]);
        }
        let socket = home.socket();
        Self { home, socket }
    }

    fn call(&self, app: &str, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [
            ("host", "localhost"),
            ("content-type", "application/json"),
            ("x-freehold-app", app),
            ("connection", "close"),
        ];
        let body = if method == "GET" { String::new() } else { body.to_string() };
        http::exchange(http::unix(&self.socket), &http::request(method, path, &headers, &body))
    }

    /// A reply without what differs from run to run and from home to home: times, and where the home lies.
    fn seen(&self, app: &str, method: &str, path: &str, body: &Value) -> (u16, Vec<Value>) {
        let reply = self.call(app, method, path, body);
        let root = self.home.path("letters").parent().expect("a folder").display().to_string();
        let text = reply.text().replace(&root, "/shelf");
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        (reply.status, lines.map(|line| bare(serde_json::from_str(line).expect("JSON"))).collect())
    }
}

fn bare(value: Value) -> Value {
    const PASSING: [&str; 5] = ["took_us", "search_us", "total_us", "indexed_at", "bytes_on_disk"];
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(key, _)| !PASSING.contains(&key.as_str()))
            .map(|(key, value)| {
                // How far a map has come depends on the moment; of which maps is told doesn't.
                let value = if key == "freshness" { names(&value) } else { bare(value) };
                (key, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}

fn names(freshness: &Value) -> Value {
    match freshness {
        Value::Array(maps) => maps.iter().map(|map| map["map"].clone()).collect(),
        one => one["map"].clone(),
    }
}

/// A request whose paths are those of the home that it goes to.
#[derive(Debug, Clone)]
struct Wish {
    words: Vec<&'static str>,
    map: Option<&'static str>,
    folder: Option<&'static str>,
    label: Option<&'static str>,
    limit: u32,
    lexical_only: bool,
}

impl Wish {
    fn body(&self, shelf: &Shelf, text: &str) -> Value {
        let at = |name: &str| shelf.home.path(name).display().to_string();
        let map = self.map.map(|map| map.strip_prefix("at:").map_or_else(|| map.to_string(), at));
        let filter = json!({"in": self.folder.map(at).into_iter().collect::<Vec<_>>(),
            "label": self.label.into_iter().collect::<Vec<_>>()});
        let mut body = json!({"map": map, "filter": filter, "limit": self.limit, "explain": true,
            "lexical_only": self.lexical_only, "quotes": true, "passages": true});
        body[text] = json!(self.words.join(" "));
        body
    }
}

fn wishes() -> impl Strategy<Value = Wish> {
    let words = vec![
        "boiler",
        "March",
        "plums",
        "lease",
        "zephyrquokka",
        "serviced",
        "label:private",
        "label:public",
        "label:shareable",
        "path:house",
        "author:Quill",
        "title:zephyrquokka",
        "-oil",
        "\"the boiler\"",
        "type:md",
        "-zephyrquokka",
    ];
    let map = prop::option::weighted(
        0.4,
        prop::sample::select(vec!["letters", "open", "house", "shared", "nowhere", "at:house", "at:open"]),
    );
    let folder = prop::option::weighted(0.2, prop::sample::select(vec!["letters", "house"]));
    let label = prop::option::weighted(0.3, prop::sample::select(vec!["private", "shareable", "public"]));
    (prop::sample::subsequence(words, 1..=5), map, folder, label, 1u32..9, any::<bool>()).prop_map(
        |(words, map, folder, label, limit, lexical_only)| Wish { words, map, folder, label, limit, lexical_only },
    )
}

#[test]
fn for_a_program_kept_to_some_maps_the_others_are_not_there() {
    let (all, less) = (Shelf::new(true), Shelf::new(false));
    let everything = json!({"query": "boiler zephyrquokka", "limit": 20});
    let found = all.call("someone", "POST", "/freehold/v1/search", &everything).text();
    assert!(found.contains("house/zephyrquokka.md"), "others see everything: {found}");
    let path = "/freehold/v1/maps";
    assert_eq!(all.seen(APP, "GET", path, &Value::Null), less.seen("someone", "GET", path, &Value::Null));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(48));
    let checked = runner.run(&wishes(), |wish| {
        for (path, text) in [("/freehold/v1/search", "query"), ("/freehold/v1/ask", "question")] {
            let of_all = all.seen(APP, "POST", path, &wish.body(&all, text));
            let of_less = less.seen("someone", "POST", path, &wish.body(&less, text));
            prop_assert_eq!(of_all, of_less, "{}", path);
        }
        Ok(())
    });
    checked.expect("nothing of the other maps shows");
}

#[test]
fn a_program_kept_to_some_maps_manages_nothing_and_learns_nothing_from_the_refusal() {
    let shelf = Shelf::new(true);
    for route in TABLE.iter().filter(|route| route.reach == Reach::Owner) {
        let short = route.path.trim_start_matches("/freehold/v1/");
        if ["hello", "models", "maps", "search", "ask", "chat"].contains(&short) {
            continue;
        }
        for name in ["house", "nowhere"] {
            let body = json!({"name": name, "path": shelf.home.path(name), "folder": shelf.home.path(name)});
            let reply = shelf.call(APP, route.method.as_str(), route.path, &body);
            assert_eq!((reply.status, reply.code().as_str()), (403, "forbidden"), "{}", route.path);
            assert!(!reply.text().contains(name), "{}", reply.text());
        }
    }
    let hello = shelf.call(APP, "GET", "/freehold/v1/hello", &Value::Null).json();
    assert_eq!(hello["settings"], json!({}), "they name what others may see");
    let blind = shelf.call("blind/2.0", "POST", "/freehold/v1/search", &json!({"query": "boiler"}));
    assert_eq!((blind.status, blind.code().as_str()), (404, "map_missing"), "{}", blind.text());
    assert!(blind.text().contains("no folder has been indexed yet"), "{}", blind.text());
    assert_eq!(
        shelf.home.json(&["map", "list", "--json"])["maps"].as_array().map(Vec::len),
        Some(4),
        "a person sees all"
    );
}

#[test]
fn searches_and_answers_are_kept_to_labels() {
    let shelf = Shelf::new(true);
    let maps = |args: &[&str]| -> Vec<String> {
        let reply = shelf.home.json(&[&["search", "--json", "--limit", "50"][..], args].concat());
        let mut maps: Vec<String> = reply["hits"]
            .as_array()
            .expect("hits")
            .iter()
            .map(|hit| hit["map"].as_str().expect("a map").into())
            .collect();
        maps.sort();
        maps.dedup();
        maps
    };
    for (args, wanted) in [
        (&["March"][..], &["house", "letters", "open", "shared"][..]),
        (&["March", "--label", "public"], &["open"]),
        (&["March", "--label", "public", "--label", "shareable"], &["open", "shared"]),
        (&["March label:shareable"], &["shared"]),
        (&["March", "--label", "private"], &["house", "letters"]),
    ] {
        assert_eq!(maps(args), wanted, "{args:?}");
    }
    shelf.home.run(&["search", "March", "--map", "open", "--label", "private"]).fails(10, "map_missing");
    let reply = shelf.home.json(&["ask", "--quotes", "--json", "--label", "shareable", "When is the boiler serviced?"]);
    let citations = reply["citations"].as_array().expect("citations");
    assert!(
        !citations.is_empty()
            && citations.iter().all(|one| one["path"].as_str().is_some_and(|path| path.contains("/shared/")))
    );
}
