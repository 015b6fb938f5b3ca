//! `index`, `search`, `ask`: a person's own files, as the terminal and `--json` show them.

use crate::home::Home;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Script, Step, TestModel, until};

/// A home that has read a small folder.
fn read(home: &Home) -> std::path::PathBuf {
    let folder = home.folder("house");
    std::fs::write(
        folder.join("heating.md"),
        "# Heating\n\n## Service\n\nThe boiler was serviced on 3 March by Anna Weber.\nThe pressure was 1.4 bar.\n",
    )
    .expect("write");
    std::fs::write(folder.join("garden.txt"), "The apple trees are pruned in February.\n").expect("write");
    home.done(&["index", "house"]);
    folder
}

#[test]
fn indexing_again_reads_only_what_has_changed() {
    let home = Home::new();
    let folder = read(&home);
    // Or the change would be taken up before it is asked for.
    home.done(&["map", "pause", "house"]);
    let report = home.json(&["index", "house", "--json"]);
    assert_eq!(
        (&report["documents"], &report["unchanged"], &report["added"]),
        (&json!(2), &json!(2), &json!(0)),
        "{report}"
    );
    std::fs::write(folder.join("garden.txt"), "The apple trees are pruned in late February.\n").expect("write");
    let ran = home.done(&["index", "house"]);
    assert!(ran.out.contains("2 documents (1 changed, 1 as before)"), "{ran:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_skipped() {
    let home = Home::new();
    let folder = home.folder("house");
    std::fs::write(folder.join("good.md"), "# Good\n\nA sentence.\n").expect("write");
    std::fs::write(folder.join("bad.pdf"), "no PDF at all").expect("write");
    let ran = home.done(&["index", "house"]);
    assert!(ran.err.contains("skipped: house/bad.pdf: "), "{ran:?}");
    let report = home.json(&["index", "house", "--json"]);
    assert!(report["skipped"].as_array().is_some_and(|skipped| skipped.len() == 1), "{report}");
}

#[test]
fn folders_that_hold_nothing_are_said() {
    let home = Home::new();
    home.folder("empty");
    home.run(&["index", "empty"]).fails(10, "map_empty");
    let missing = home.run(&["index", "nowhere"]);
    missing.fails(9, "file_missing");
    home.run(&["search", "--folder", "nowhere", "boiler"]).fails(10, "map_missing");
}

/// What a first run read before it was killed is that folder's, whichever folder is indexed next.
#[test]
fn an_interrupted_first_run_stays_its_folders_own() {
    let home = Home::new();
    let (first, second) = (home.folder("first/house"), home.folder("second/house"));
    for number in 0..4_000 {
        std::fs::write(first.join(format!("{number}.txt")), "The cellar is full of quinces.\n").expect("write");
    }
    std::fs::write(second.join("a.txt"), "The attic is full of walnuts.\n").expect("write");
    home.done(&["status"]);
    let mut run = home.spawn(&["index", "first/house"]);
    let map = |name: &str| {
        let status = home.status();
        status["maps"].as_array().and_then(|maps| maps.iter().find(|map| map["name"] == name)).cloned()
    };
    until("something of the first run is safe", || {
        map("house").filter(|map| map["documents"].as_u64().is_some_and(|documents| documents > 0)).map(drop)
    });
    home.kill(Signal::KILL);
    assert!(!run.wait().expect("it ends").success());
    let hits = |folder: &str, word: &str| {
        let ran = home.run(&["search", "--folder", folder, "--json", word]);
        ran.json()["hits"].as_array().expect("hits").len()
    };
    assert!(hits("first/house", "quinces") > 0);
    let left = map("house").expect("the map is there");
    assert_eq!((&left["folder"], &left["indexed_at"]), (&json!(first), &Value::Null), "it was interrupted: {left}");
    let report = home.json(&["index", "second/house", "--json"]);
    assert_eq!((&report["map"], &report["documents"]), (&json!("house-2"), &json!(1)), "{report}");
    assert_eq!((hits("second/house", "quinces"), hits("second/house", "walnuts")), (0, 1));
    // And the first goes on where it was.
    let report = home.json(&["index", "first/house", "--json"]);
    assert_eq!((&report["map"], &report["documents"]), (&json!("house"), &json!(4_000)), "{report}");
    assert!(report["unchanged"].as_u64().is_some_and(|unchanged| unchanged > 0), "{report}");
}

/// Each map's best hit has the best score within its own search; the answer comes from whichever holds it.
#[test]
fn an_answer_is_found_in_whichever_map_holds_it() {
    let home = Home::new();
    let (noise, answer) = (home.folder("noise"), home.folder("zz"));
    for number in 0..20 {
        std::fs::write(noise.join(format!("{number}.txt")), format!("Boiler {number} is painted blue.\n"))
            .expect("write");
    }
    std::fs::write(answer.join("a.txt"), "The old boiler was serviced by Anna Weber on 3 March.\n").expect("write");
    std::fs::write(answer.join("b.txt"), "Serviced, serviced, and serviced again.\n").expect("write");
    home.done(&["index", "noise"]);
    home.done(&["index", "zz"]);
    let reply = home.json(&["ask", "--quotes", "--json", "Who serviced the boiler in March?"]);
    assert_eq!(reply["found"], true, "{reply}");
    assert!(reply["citations"][0]["quote"].as_str().is_some_and(|quote| quote.contains("Anna Weber")), "{reply}");
    // A word is missing only when no map holds it.
    let ran = home.run(&["ask", "--quotes", "--json", "Which blue xylophone did Napoleon tune in March?"]);
    let reason = ran.json()["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("nothing in the files speaks of \"xylophone\", \"Napoleon\", \"tune\";"), "{reason}");
}

#[test]
fn search_shows_places_and_matches() {
    let home = Home::new();
    read(&home);
    let ran = home.done(&["search", "boiler", "serviced"]);
    assert!(ran.out.starts_with("house/heating.md:"), "the path is relative to here: {ran:?}");
    assert!(ran.out.contains("The boiler was serviced on 3 March by Anna Weber."), "{ran:?}");
    let reply = home.json(&["search", "--folder", "house", "boiler", "--json"]);
    let hit = &reply["hits"][0];
    let text = hit["text"].as_str().expect("text");
    let range: (usize, usize) = serde_json::from_value(hit["highlights"][0].clone()).expect("range");
    assert_eq!(text[range.0..range.1].to_lowercase(), "boiler");
    let ran = home.run(&["search", "xylophone"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
}

#[test]
fn search_shows_who_wrote_a_document_and_when() {
    let home = Home::new();
    let folder = read(&home);
    let lease = "---\ntitle: Lease\nauthor: Ada Lund\ndate: 2024-03-09\n---\n\nThe notice period of the flat is three months, and the owner has to be told of it in writing before the month ends.\n";
    std::fs::write(folder.join("lease.md"), lease).expect("write");
    home.done(&["index", "house"]);
    let args = ["search", "notice period", "--author", "lund", "--after", "2024-03", "--before", "2024-04"];
    let reply = home.json(&[&args[..], &["--json"]].concat());
    let hit = &reply["hits"][0];
    let known = (&hit["author"], &hit["date"], &hit["language"]);
    assert_eq!(known, (&json!("Ada Lund"), &json!("2024-03-09"), &json!("en")), "{reply}");
    let ran = home.done(&args);
    assert!(ran.out.contains("Lease · Ada Lund · 2024-03-09 · en"), "{ran:?}");
    let reply = home.json(&["search", "apple trees", "--json"]);
    assert!(reply["hits"][0].get("author").is_none() && reply["hits"][0].get("date").is_none(), "{reply}");
}

#[test]
fn filters_keep_search_and_answers_to_some_documents() {
    let home = Home::new();
    let folder = read(&home);
    std::fs::create_dir(folder.join("old")).expect("a folder");
    std::fs::write(folder.join("old/boiler.txt"), "The boiler was serviced in 1999 by someone else.\n").expect("write");
    home.done(&["index", "house"]);
    let paths = |args: &[&str]| -> Vec<String> {
        let ran = home.run(&[&["search", "--json"], args].concat());
        let hits = ran.json()["hits"].as_array().expect("hits").clone();
        hits.iter().map(|hit| hit["path"].as_str().expect("a path").to_owned()).collect()
    };
    for (args, old, new) in [
        (&["boiler"][..], true, true),
        (&["boiler", "--in", "house/old"], true, false),
        (&["boiler", "--type", "md"], false, true),
        (&["boiler", "--before", "1990"], false, false),
        (&["boiler -1999"], false, true),
        (&["\"boiler was serviced in\""], true, false),
    ] {
        let found = paths(args);
        let has = |name: &str| found.iter().any(|path| path.ends_with(name));
        assert_eq!((has("old/boiler.txt"), has("house/heating.md")), (old, new), "{args:?}: {found:?}");
    }
    home.run(&["search", "boiler", "--after", "soon"]).fails(2, "invalid_ask");
    let ran = home.run(&["ask", "--quotes", "--json", "--type", "md", "Who serviced the boiler in 1999?"]);
    assert!(!ran.out.contains("someone else"), "{ran:?}");
    let reply = home.json(&["search", "boiler", "--explain", "--json"]);
    assert!(reply["hits"][0]["why"]["parts"][0]["score"].as_f64().is_some_and(|score| score > 0.0), "{reply}");
    let ran = home.done(&["search", "boiler", "--explain"]);
    assert!(ran.out.contains("words:   BM25") && ran.out.contains("boiler in body"), "{ran:?}");
    let reply = home.json(&["search", "boiler \"never closed", "--json"]);
    assert!(reply["notices"][0].as_str().is_some_and(|note| note.contains("quotation mark")), "{reply}");
}

#[test]
fn quotations_need_no_language_model() {
    let home = Home::new();
    let folder = read(&home);
    let ran = home.done(&["ask", "--quotes", "When was the boiler serviced?"]);
    assert!(ran.out.starts_with("[1] house/heating.md:"), "{ran:?}");
    assert!(ran.out.contains("\"The boiler was serviced on 3 March by Anna Weber."), "{ran:?}");
    assert!(ran.err.contains("no language model") && ran.err.contains("0 bytes left this machine"), "{ran:?}");
    let reply = home.json(&["ask", "--quotes", "--json", "When was the boiler serviced?"]);
    assert_eq!(reply["found"], true);
    verified(&reply, &folder);
}

/// Every quotation stands where it is said to stand.
fn verified(reply: &Value, folder: &std::path::Path) {
    let citations = reply["citations"].as_array().expect("citations");
    assert!(!citations.is_empty(), "{reply}");
    for citation in citations {
        let path = std::path::Path::new(citation["path"].as_str().expect("path"));
        assert!(path.starts_with(folder), "{citation}");
        let text = std::fs::read_to_string(path).expect("file");
        let end = |name: &str| citation["place"][name].as_u64().expect("byte") as usize;
        assert_eq!(&text[end("byte_start")..end("byte_end")], citation["quote"].as_str().expect("quote"));
    }
}

#[test]
fn an_answer_comes_with_its_sources_and_receipt() {
    let home = Home::new();
    let folder = read(&home);
    let words = ["The boiler was serviced", " on 3 March", " by Anna Weber."].map(|word| Step::Text(word.into()));
    home.chat_model("small", &Script::default().on("boiler", words.to_vec()));
    let ran = home.done(&["ask", "When was the boiler serviced?"]);
    assert!(ran.out.contains("on 3 March by Anna Weber") && ran.out.contains("\n[1] house/heating.md:"), "{ran:?}");
    assert!(ran.err.contains("small") && ran.err.contains("0 bytes left this machine"), "{ran:?}");
    let reply = home.json(&["ask", "--json", "When was the boiler serviced?"]);
    assert!(reply["answer"].as_str().is_some_and(|answer| answer.contains("[1]")), "{reply}");
    assert_eq!(reply["receipt"]["bytes_sent"], 0);
    verified(&reply, &folder);
}

#[test]
fn when_the_files_hold_no_answer_it_is_said() {
    let home = Home::new();
    read(&home);
    home.chat_model("small", &Script::default());
    let ran = home.run(&["ask", "Which xylophone did Napoleon tune in Osaka?"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.contains("Your files hold no answer to this."), "{ran:?}");
    let ran = home.run(&["ask", "--json", "Which xylophone did Napoleon tune in Osaka?"]);
    assert_eq!((ran.code, &ran.json()["found"]), (1, &json!(false)));
    assert!(ran.json()["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
}

#[test]
fn doctor_tells_what_is_known_of_a_template() {
    let home = Home::new();
    let template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}";
    home.model(&TestModel::templated(&home.folder("models"), "odd", &Script::default(), template));
    let said = home.run(&["doctor"]).out;
    assert!(said.contains("that of odd:f32 has no place for system text"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_shows_the_protection_that_is_in_force() {
    let home = Home::new();
    read(&home);
    home.chat_model("plain", &Script::default());
    let ran = home.run(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_str(&ran.out).expect("one object");
    let found = |name: &str| {
        let all = doctor["checks"].as_array().expect("checks");
        all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {doctor}")).clone()
    };
    // These children are the real ones, whatever stands in for the worker.
    let seccomp = std::fs::read_to_string("/proc/self/status").expect("status").contains("\nSeccomp:");
    for (name, filter) in [("confinement: reader", "extract"), ("confinement: templates", "worker-cpu")] {
        let child = found(name);
        let detail = child["detail"].as_str().expect("words");
        assert!(!seccomp || detail.contains(&format!("seccomp: allow-list {filter}")), "{detail}");
        assert_eq!(child["verdict"] == "good", !detail.contains("missing:"), "{child}");
    }
    // Whether or not tesseract is there, nothing is broken, and what is missing comes with its remedy.
    let pictures = found("words on pictures");
    assert_ne!(pictures["verdict"], "bad", "{pictures}");
    assert_eq!(pictures["verdict"] == "good", pictures["hint"].is_null(), "{pictures}");
    assert!(!doctor.to_string().contains("chat template"), "nothing is wrong with it: {doctor}");
    // This one is not confined, and says so when it is tried.
    let worker = found("confinement: worker");
    assert_eq!(worker["verdict"], "bad");
    assert!(worker["detail"].as_str().is_some_and(|words| words.contains("open an Internet socket")), "{worker}");
    assert_eq!(ran.code, 1);
}
