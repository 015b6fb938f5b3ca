//! The task commands and routes, through the scripted worker: forms of input and output, order, faults, kills.

use crate::home::{Home, ended, kill};
use crate::http::post;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use testkit::{Gate, Script, Step};

/// Rows of the table that is killed over.
const ROWS: usize = 10_000;

fn text(words: &str) -> Vec<Step> {
    vec![Step::Text(words.to_owned())]
}

fn piped(home: &Home, args: &[&str], input: &str) -> crate::home::Ran {
    let mut child = home.command(args).stdin(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("send");
    ended(child.wait_with_output().expect("ends"))
}

#[test]
fn one_text_comes_through_a_pipe_and_its_result_is_data() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("boiler", text("Boiler Makes Noise")));
    let ran = piped(&home, &["title"], "the boiler makes a noise");
    assert_eq!((ran.code, ran.out.as_str()), (0, "Boiler Makes Noise\n"), "{ran:?}");
    assert!(ran.err.contains("small") && ran.err.contains("· 1 call"), "{ran:?}");
    let ran = piped(&home, &["title", "--json"], "the boiler makes a noise");
    let reply = ran.json();
    assert_eq!((&reply["result"]["title"], &reply["plan"]["parts"]), (&json!("Boiler Makes Noise"), &json!(1)));
    assert!(reply["usage"]["model"].as_str().is_some_and(|model| model.starts_with("small")), "{reply}");
}

#[test]
fn a_question_is_answered_from_one_text() {
    let home = Home::new();
    let script = Script::default().on("lease", text("The lease ends in May.")).on("else", text("unknown"));
    home.chat_model("small", &script);
    let file = home.path("lease.txt");
    std::fs::write(&file, "Rent is 900 euros.\n\nThe lease ends in May.\n").expect("write");
    let file = file.to_str().expect("utf-8");
    let ran = home.done(&["ask", "--text", file, "When does the lease end?"]);
    assert_eq!(ran.out, format!("The lease ends in May.\n\n{file}:3  \"The lease ends in May.\"\n"), "{ran:?}");
    let ran = piped(&home, &["ask", "--text", "-", "--json", "When does the lease end?"], "The lease ends in May.");
    assert_eq!((ran.code, &ran.json()["result"]["answer"]), (0, &json!("The lease ends in May.")));
    let ran = piped(&home, &["ask", "-t", "-", "Is there anything else?"], "The cat sleeps.");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.contains("holds no answer"), "{ran:?}");
    let ran = home.run(&["ask", "--text", file, "--quotes", "rent"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn no_model_is_needed_where_rules_decide() {
    let home = Home::new();
    let ran = piped(&home, &["normalize", "--kind", "date"], "3 March 2026");
    assert_eq!((ran.code, ran.out.as_str()), (0, "2026-03-03\n"), "{ran:?}");
    let ran = piped(&home, &["detect-language"], "Der Kessel muss jedes Jahr vor der Heizperiode gewartet werden.");
    assert_eq!((ran.code, ran.out.as_str()), (0, "de\n"), "{ran:?}");
    let ran = piped(&home, &["title"], "a text");
    ran.fails(4, "model_missing");
}

#[test]
fn many_files_come_in_order_with_their_names() {
    let home = Home::new();
    let script =
        (0..9).fold(Script::default(), |script, at| script.on(&format!("number {at}"), text(&format!("File {at}"))));
    home.chat_model("small", &script);
    let folder = home.folder("texts");
    for at in 0..9 {
        std::fs::write(folder.join(format!("{at}.txt")), format!("This is file number {at}.")).expect("write");
    }
    let pattern = folder.join("*.txt").display().to_string();
    let ran = home.done(&["title", "--jobs", "3", "--format", "jsonl", &pattern]);
    let titles: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("json")).collect();
    for (at, line) in titles.iter().enumerate() {
        assert_eq!(line["result"]["title"], format!("File {at}"));
        assert!(line["source"].as_str().is_some_and(|source| source.ends_with(&format!("{at}.txt"))));
    }
    assert_eq!(titles.len(), 9);
    let ran = home.done(&["title", &pattern]);
    assert!(ran.out.starts_with("==> ") && ran.out.contains("0.txt <==\nFile 0\n\n==> "), "{}", ran.out);
    home.run(&["title", "nothing/*.txt"]).fails(9, "file_missing");
}

#[test]
fn a_table_keeps_its_columns_and_gets_others() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let table = home.path("in.csv");
    std::fs::write(&table, "id;body\n1;\"late; again\"\n2;good\n").expect("write");
    let table = table.to_str().expect("utf-8");
    let ran = home.done(&["classify", "--labels", "praise,complaint", "--no-unknown", "--column", "body", table]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "id;body;class;confidence;error");
    assert!(lines[1].starts_with("1;\"late; again\";") && lines[2].starts_with("2;good;"), "{lines:?}");
    assert!(lines[1].ends_with(";0.5000;"), "{lines:?}");
    let ran = home.run(&["classify", "--labels", "a,b", "--column", "nothing", table]);
    assert!(ran.fails(2, "invalid_ask").err.contains("id, body"), "{ran:?}");
}

#[test]
fn what_failed_is_told_listed_and_done_again() {
    let home = Home::new();
    let steps = vec![Step::Fail("out of luck".into())];
    home.chat_model(
        "small",
        &Script::default().on("second", steps).on("first", text("One")).on("third", text("Three")),
    );
    let input = home.path("in.txt");
    std::fs::write(&input, "the first one\nthe second two\nthe third three\n").expect("write");
    let (input, out) = (input.to_str().expect("utf-8").to_owned(), home.path("out.txt"));
    let base = ["title", "--each", "line", "--jobs", "1", "-o", out.to_str().expect("utf-8"), &input];
    let ran = home.run(&base);
    assert!(ran.fails(15, "inputs_failed").err.contains("in.txt:2"), "{ran:?}");
    assert!(ran.err.contains("1 of 3 inputs failed") && ran.err.contains("--retry-failed"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&out).expect("written"), "One\n\nThree\n");
    home.run(&base).fails(15, "inputs_failed");
    home.done(&["models", "remove", "small"]);
    home.chat_model("other", &Script::default().on("second", text("Two")).on("the", text("Wrong")));
    let again = [&base[..], &["--retry-failed"]].concat();
    home.done(&again);
    assert_eq!(std::fs::read_to_string(&out).expect("written"), "One\nTwo\nThree\n", "only what failed is done again");
    let ran = home.run(&base);
    assert!(ran.fails(2, "invalid_ask").err.contains("--fresh"), "it is there: {ran:?}");
}

#[test]
fn a_retry_that_can_not_go_on_keeps_what_was_done() {
    let home = Home::new();
    let script = Script::default().on("second", vec![Step::Fail("out of luck".into())]).on("first", text("One"));
    home.chat_model("small", &script);
    let (input, out) = (home.path("in.txt"), home.path("out.txt"));
    std::fs::write(&input, "the first one\nthe second two\n").expect("write");
    let (input, out_name) = (input.to_str().expect("utf-8"), out.to_str().expect("utf-8"));
    let base = ["title", "--each", "line", "--jobs", "1", "-o", out_name, input];
    home.run(&base).fails(15, "inputs_failed");
    home.done(&["models", "remove", "small"]);
    let again = [&base[..], &["--retry-failed"]].concat();
    for _ in 0..2 {
        home.run(&again).fails(4, "model_missing");
        assert_eq!(std::fs::read_to_string(&out).expect("written"), "One\n\n");
    }
    home.chat_model("other", &Script::default().on("second", text("Two")));
    home.done(&again);
    assert_eq!(std::fs::read_to_string(&out).expect("written"), "One\nTwo\n");
}

#[test]
fn a_row_longer_than_the_head_is_not_sent_and_the_others_are() {
    let home = Home::new();
    // A part of the long row, sent by itself, would get a title.
    home.chat_model("small", &Script::default().on("hello", text("Hello")).on("good", text("Good")));
    let ran = piped(&home, &["title", "--each", "row"], "id,text\n1,hello, world\n2,good\n");
    assert!(ran.fails(15, "inputs_failed").err.contains("stdin:2: "), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("id,text,title,error", "2,good,Good,"));
    assert!(lines[1].starts_with("1,hello,,") && lines[1].contains("3 cells"), "{lines:?}");
}

#[test]
fn an_input_that_failed_can_be_corrected_and_one_that_was_done_cannot() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("hello", text("Hello")).on("good", text("Good")));
    let (table, out) = (home.path("in.csv"), home.path("out.csv"));
    let write = |rows: &str| std::fs::write(&table, format!("id,text\n{rows}")).expect("write");
    let read = || std::fs::read_to_string(&out).expect("written");
    write("1,hello, world\n2,good\n");
    let base = ["title", "--each", "row", "-o", out.to_str().expect("utf-8"), table.to_str().expect("utf-8")];
    let ran = home.run(&base);
    assert!(ran.fails(15, "inputs_failed").err.contains("3 cells"), "{ran:?}");
    let (again, before) = ([&base[..], &["--retry-failed"]].concat(), read());
    // Other words, no row at all, and one that can't be read.
    for rows in ["1,hello\n2,\"good, or not\"\n", "1,hello\n", "1,hello\n2,good, or not\n"] {
        write(rows);
        let ran = home.run(&again);
        assert!(ran.fails(2, "invalid_ask").err.contains("input 2 was done"), "{ran:?}");
        assert_eq!(read(), before);
    }
    write("1,\"hello, world\"\n2,good\n");
    home.done(&again);
    assert_eq!(read(), "id,text,title,error\n1,\"hello, world\",Hello,\n2,good,Good,\n");
}

#[test]
fn a_table_of_ten_thousand_rows_survives_two_kills() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let (table, out) = (home.path("in.csv"), home.path("out.csv"));
    let row = |at: usize| format!("{at},\"row {at}, of many\"\n");
    std::fs::write(&table, format!("id,text\n{}", (0..ROWS).map(row).collect::<String>())).expect("write");
    let args = [
        "classify",
        "--labels",
        "a,b",
        "--no-unknown",
        "-o",
        out.to_str().expect("utf-8"),
        table.to_str().expect("utf-8"),
    ];
    let journal = format!("{}.journal", out.display());
    for least in [300, 2_500] {
        let mut child = home.spawn(&args);
        testkit::until(&format!("{least} rows"), || {
            let lines = std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
            (lines > least).then_some(())
        });
        kill(i32::try_from(child.id()).expect("pid"), Signal::KILL);
        child.wait().expect("ends");
        assert!(!out.exists(), "an output appears when it is whole");
    }
    let ran = home.done(&args);
    assert!(ran.err.contains("going on behind"), "{ran:?}");
    let made = std::fs::read_to_string(&out).expect("written");
    let mut lines = made.lines();
    assert_eq!(lines.next(), Some("id,text,class,confidence,error"));
    let mut rows = 0;
    for (at, line) in lines.enumerate() {
        assert_eq!(line, format!("{at},\"row {at}, of many\",a,0.5000,"), "row {at}");
        rows += 1;
    }
    assert_eq!(rows, ROWS);
    assert!(!Path::new(&journal).exists());
}

#[test]
fn a_run_goes_on_only_with_the_inputs_that_it_began_with() {
    let home = Home::new();
    let gate = Gate::new(&home.folder("gates"), "slow");
    let script = Script::default()
        .on("slow", vec![Step::Wait(gate.path()), Step::Text("Slow".into())])
        .on("quick", text("Quick"));
    home.chat_model("small", &script);
    let (input, out) = (home.path("in.txt"), home.path("out.txt"));
    std::fs::write(&input, "quick one\nquick two\nslow one\nquick three\n").expect("write");
    let args =
        ["title", "--each", "line", "--jobs", "1", "-o", out.to_str().expect("utf-8"), input.to_str().expect("utf-8")];
    let mut child = home.spawn(&args);
    let partial = format!("{}.partial", out.display());
    testkit::until("two results", || {
        (std::fs::read_to_string(&partial).unwrap_or_default() == "Quick\nQuick\n").then_some(())
    });
    kill(i32::try_from(child.id()).expect("pid"), Signal::KILL);
    child.wait().expect("ends");
    gate.release(4);
    // With other options it is another run.
    let other = [&args[..], &["--language", "de"]].concat();
    assert!(home.run(&other).fails(2, "invalid_ask").err.contains("belongs to another run"));
    home.done(&args);
    assert_eq!(std::fs::read_to_string(&out).expect("written"), "Quick\nQuick\nSlow\nQuick\n");
}

#[test]
fn a_text_that_kills_the_worker_costs_no_other_its_result() {
    let home = Home::new();
    let script = Script::default().on("text 3", vec![Step::Die(9)]).on("text", text("Any"));
    home.chat_model("small", &script);
    let lines: String = (0..6).map(|at| format!("any text {at}\n")).collect();
    let ran = piped(&home, &["title", "--each", "line", "--jobs", "3"], &lines);
    assert_eq!(ran.out, "Any\nAny\nAny\n\nAny\nAny\n", "{ran:?}\n{}", home.log());
    assert!(ran.fails(15, "inputs_failed").err.contains("stdin:4: "), "{ran:?}");
}

#[test]
fn tasks_answer_over_http_whole_and_as_a_stream() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("boiler", text("Boiler Makes Noise")));
    let port = home.port();
    let post = |path: &str, body: &Value| post(port, path, body);
    let reply = post("/v1/tasks/title", &json!({"text": "the boiler makes a noise"}));
    assert_eq!((reply.status, &reply.json()["result"]["title"]), (200, &json!("Boiler Makes Noise")));
    assert_eq!(reply.json()["task"], "title");
    let reply = post("/v1/tasks/title", &json!({"text": "the boiler makes a noise", "stream": true}));
    let lines: Vec<Value> = reply
        .text()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("json"))
        .collect();
    assert!(
        lines[0]["plan"]["parts"] == 1 && lines.iter().any(|line| line["text"] == "Boiler Makes Noise"),
        "{lines:?}"
    );
    assert_eq!(lines.last().expect("a last line")["done"]["result"]["title"], "Boiler Makes Noise");
    for (path, body, status, word) in [
        ("/v1/tasks/sing", json!({"text": "x"}), 404, "not_found"),
        ("/v1/tasks/title", json!({}), 400, "invalid_ask"),
        ("/v1/tasks/title", json!({"text": "x", "stream": 3}), 400, "invalid_ask"),
        ("/v1/tasks/summarize", json!({"text": "x", "type": "poem"}), 400, "invalid_ask"),
        ("/v1/tasks/title", json!({"text": "x", "model": "nothing"}), 404, "model_missing"),
    ] {
        let reply = post(path, &body);
        assert_eq!((reply.status, &reply.json()["error"]["fault"]["code"]), (status, &json!(word)), "{path} {body}");
    }
}
