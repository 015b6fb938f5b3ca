//! `freehold chat`, one answer at a time, through the scripted worker.

use crate::home::{Home, ended, kill, until_line};
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::process::Stdio;
use testkit::{Gate, Script, Step};

#[test]
fn an_answer_is_data_and_its_cost_is_talk() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let ran = home.done(&["chat", "-m", "hello"]);
    assert_eq!(ran.out, "one two three\n");
    assert!(ran.err.contains("small") && ran.err.contains("· answer 3 tokens"), "{ran:?}");
    assert!(!ran.err.contains('\u{1b}'), "no colour without a terminal: {ran:?}");
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let reply = home.json(&["chat", "--json", "-m", "hello"]);
    assert_eq!((&reply["answer"], &reply["finish"]), (&json!("one two three"), &json!("end_of_turn")));
    assert_eq!(reply["usage"]["completion_tokens"], 3);
}

#[test]
fn a_message_may_come_through_a_pipe() {
    let home = Home::new();
    let log = home.path("frames");
    home.chat_model("small", &Script::default().logged(&log));
    let mut child = home.command(&["chat", "-s", "be brief"]).stdin(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("stdin").write_all("from a pïpe\n".as_bytes()).expect("send");
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!((ran.code, ran.out.as_str()), (0, "one two three\n"), "{ran:?}");
    let frames = std::fs::read_to_string(&log).expect("frames");
    assert!(frames.contains("from a pïpe") && frames.contains("be brief"), "{frames}");
}

#[test]
fn an_empty_message_is_refused_before_anything_starts() {
    let home = Home::new();
    let ran = home.run(&["chat"]);
    assert!(ran.fails(2, "invalid_ask").err.contains("empty"), "{ran:?}");
    assert!(!home.was_touched());
}

#[test]
fn without_a_model_the_way_to_one_is_told() {
    let home = Home::new();
    let ran = home.run(&["chat", "-m", "hello"]);
    assert!(ran.fails(4, "model_missing").err.contains("freehold pull starter"), "{ran:?}");
    let ran = home.run(&["chat", "--json", "-m", "hello"]);
    assert_eq!((ran.code, &ran.json()["fault"]["code"]), (4, &json!("model_missing")));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("much", vec![Step::Overflow(9000, 4096)]));
    let ran = home.run(&["chat", "-m", "too much"]);
    let text = &ran.fails(3, "context_overflow").err;
    assert!(text.contains("9000") && text.contains("4096"), "{text}");
    assert_eq!(ran.out, "");
}

#[test]
fn a_dead_worker_costs_its_own_answer_alone() {
    let home = Home::new();
    let script = Script::default().on("crash", vec![Step::Text("half an".into()), Step::Die(9)]);
    home.chat_model("small", &script);
    let ran = home.run(&["chat", "-m", "crash"]);
    ran.fails(6, "worker_died");
    assert_eq!(ran.out, "half an\n", "what was said is kept, on a line of its own");
    assert_eq!(home.done(&["chat", "-m", "hello"]).out, "one two three\n");
}

#[test]
fn ctrl_c_ends_the_command_and_the_work_behind_it() {
    let home = Home::new();
    let (gate, log) = (Gate::new(&home.folder("gates"), "half"), home.path("frames"));
    let steps = vec![Step::Text("half".into()), Step::Wait(gate.path()), Step::Text(" way".into())];
    home.chat_model("small", &Script::default().on("slow", steps).logged(&log));
    let mut child = home.spawn(&["chat", "-m", "slow"]);
    let mut half = [0; 4];
    child.stdout.as_mut().expect("stdout").read_exact(&mut half).expect("the first word");
    assert_eq!(&half, b"half");
    kill(i32::try_from(child.id()).expect("pid"), Signal::INT);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!((ran.code, ran.out.as_str()), (130, "\n"), "{ran:?}");
    until_line(&log, "cancel");
}

#[test]
fn a_reader_that_has_seen_enough_is_a_success() {
    let home = Home::new();
    let (gate, log) = (Gate::new(&home.folder("gates"), "half"), home.path("frames"));
    let steps = vec![Step::Text("half".into()), Step::Wait(gate.path()), Step::Repeat(64, " more".into())];
    home.chat_model("small", &Script::default().on("long", steps).logged(&log));
    let mut child = home.spawn(&["chat", "-m", "long"]);
    let mut half = [0; 4];
    let mut out = child.stdout.take().expect("stdout");
    out.read_exact(&mut half).expect("the first word");
    drop(out);
    gate.release(1);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn a_full_disk_behind_stdout_is_said() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let ran = ended(home.command(&["chat", "-m", "hello"]).stdout(full).output().expect("starts"));
    ran.fails(8, "disk_full");
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_is_said() {
    let home = Home::new();
    let gate = Gate::new(&home.folder("gates"), "half");
    let steps = vec![Step::Text("half".into()), Step::Wait(gate.path())];
    home.chat_model("small", &Script::default().on("slow", steps));
    let mut child = home.spawn(&["chat", "-m", "slow"]);
    let mut half = [0; 4];
    child.stdout.as_mut().expect("stdout").read_exact(&mut half).expect("the first word");
    home.kill(Signal::KILL);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert!(ran.fails(13, "daemon_unreachable").err.contains("in the middle"), "{ran:?}");
    assert_eq!(home.done(&["chat", "-m", "hello"]).out, "one two three\n");
}

#[test]
fn a_graceful_end_lets_a_running_answer_finish() {
    let home = Home::new();
    let gate = Gate::new(&home.folder("gates"), "half");
    let steps = vec![Step::Text("half".into()), Step::Wait(gate.path()), Step::Text(" and whole".into())];
    home.chat_model("small", &Script::default().on("slow", steps));
    let mut child = home.spawn(&["chat", "-m", "slow"]);
    let mut half = [0; 4];
    child.stdout.as_mut().expect("stdout").read_exact(&mut half).expect("the first word");
    let stop = home.spawn(&["stop"]);
    // New connections are refused from the moment that the end has begun.
    testkit::until("the end to begin", || (home.status() == json!({"running": false})).then_some(()));
    gate.release(1);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!((ran.code, ran.out.as_str()), (0, " and whole\n"), "{ran:?}");
    assert_eq!(ended(stop.wait_with_output().expect("ends")).code, 0);
}
