//! A second look at what was found: when there is one, what it changes, and what happens when it fails.

use crate::home::Home;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Gate, Script, Step, TestModel};

const QUESTION: &str = "boiler serviced March";

/// Two files: by words the first is the better one. The scripted reranker knows no punctuation and no stems, and
/// prefers the second.
fn read(home: &Home) {
    let folder = home.folder("shelf");
    std::fs::write(folder.join("one.txt"), "Boiler, serviced: March!\n").expect("written");
    std::fs::write(folder.join("two.txt"), "All that is said of the boiler here is that it stands in the cellar.\n")
        .expect("written");
    home.done(&["index", "shelf"]);
}

fn judge(home: &Home, script: &Script) {
    home.model(&TestModel::rerank(&home.folder("models"), "judge", script));
}

fn found(home: &Home, args: &[&str]) -> (Vec<String>, Value) {
    let args: Vec<&str> = ["search", "--json", QUESTION].iter().chain(args).copied().collect();
    let reply = home.json(&args);
    let hits = reply["hits"].as_array().expect("hits");
    let name = |hit: &Value| hit["path"].as_str().and_then(|path| path.rsplit('/').next()).expect("a path").to_owned();
    (hits.iter().map(name).collect(), reply)
}

fn rank_calls(log: &Path) -> usize {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.starts_with("rank ")).count()
}

#[test]
fn an_installed_reranker_orders_what_was_found_and_says_so() {
    let home = Home::new();
    read(&home);
    let (fused, again) = (vec!["one.txt".to_string(), "two.txt".into()], vec!["two.txt".to_string(), "one.txt".into()]);
    let (names, reply) = found(&home, &[]);
    assert_eq!((&names, &reply["reranked"]), (&fused, &Value::Null), "search works without any model");
    home.run(&["search", QUESTION, "--rerank", "on"]).fails(4, "model_missing");
    home.run(&["ask", QUESTION, "--quotes", "--rerank", "on"]).fails(4, "model_missing");
    let log = home.path("judge.log");
    judge(&home, &Script::default().logged(&log));
    for (args, wanted, by) in [
        (&[][..], &again, json!("judge:f32")),
        (&["--rerank", "on"], &again, json!("judge:f32")),
        (&["--rerank", "off"], &fused, Value::Null),
        (&["--words"], &fused, Value::Null),
        (&["--words", "--rerank", "on"], &again, json!("judge:f32")),
        (&["--limit", "1"], &vec!["two.txt".to_string()], json!("judge:f32")),
    ] {
        let (names, reply) = found(&home, args);
        assert_eq!((&names, &reply["reranked"]), (wanted, &by), "{args:?}: {reply}");
        assert_eq!(reply["notices"], json!([]), "{args:?}");
    }
    let (_, reply) = found(&home, &["--explain"]);
    let why = &reply["hits"][0]["why"]["reranked"];
    assert_eq!((&why["score"], &why["rank_before"]), (&json!(1.0), &json!(2)), "{reply}");
    let shown = home.done(&["search", QUESTION, "--explain"]);
    assert!(shown.out.contains("reranked: 1.000, was rank 2"), "{shown:?}");
    assert!(shown.err.contains("reranked by judge:f32"), "{shown:?}");
    let before = rank_calls(&log);
    home.done(&["ask", "--quotes", QUESTION, "--rerank", "off"]);
    assert_eq!(rank_calls(&log), before, "nobody asked for a second look");
    home.done(&["ask", "--quotes", QUESTION]);
    assert_eq!(rank_calls(&log), before + 1);
}

#[test]
fn a_reranker_that_fails_leaves_the_order_and_a_notice() {
    let home = Home::new();
    read(&home);
    judge(&home, &Script::default().on("cellar", vec![Step::Fail("no wish to judge".into())]));
    let (names, reply) = found(&home, &[]);
    assert_eq!((names, &reply["reranked"]), (vec!["one.txt".to_string(), "two.txt".into()], &Value::Null));
    let notice = reply["notices"][0].as_str().expect("a notice");
    assert!(notice.starts_with("not reranked, because `judge:f32` failed:"), "{notice}");
    assert!(notice.contains("no wish to judge"), "{notice}");
}

#[test]
fn a_reranker_that_is_too_slow_is_not_waited_for() {
    let home = Home::new();
    std::fs::write(home.home.join("config.toml"), "confine = \"best-effort\"\nrerank_ms = 300\n").expect("config");
    read(&home);
    let gate = Gate::new(&home.folder("gates"), "never");
    judge(&home, &Script::default().on("cellar", vec![Step::Wait(gate.path())]));
    let (names, reply) = found(&home, &[]);
    assert_eq!((names, &reply["reranked"]), (vec!["one.txt".to_string(), "two.txt".into()], &Value::Null));
    let notice = reply["notices"][0].as_str().expect("a notice");
    assert!(notice.contains("it wasn't done after 300 ms"), "{notice}");
}
