//! Answers with a form: what is asked for reaches the worker, and what it says of it reaches the caller.

use crate::home::{Home, until_line};
use crate::http::{events, post};
use serde_json::{Value, json};
use testkit::{Script, Step, WireFinish};

const CHAT: &str = "/v1/chat/completions";

fn body(text: &str, extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": text}]});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    body
}

#[test]
fn a_shape_reaches_the_worker_and_its_refusal_the_caller() {
    let home = Home::new();
    let log = home.path("frames");
    let unsupported = Step::Unsupported("#/properties/a/not".into(), "isn't supported".into());
    let script = Script::default()
        .on("refused", vec![unsupported])
        .on("cut", vec![Step::Text("{\"b\":".into()), Step::End(WireFinish::StructureIncomplete)])
        .logged(&log);
    home.chat_model("small", &script);
    let port = home.port();
    let schema = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "null"}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    assert_eq!(post(port, CHAT, &body("hello", format.clone())).status, 200);
    // As it was sent, properties in their order.
    until_line(&log, r#"shape=JsonSchema("{\"type\":\"object\",\"properties\":{\"b\":"#);
    assert_eq!(post(port, CHAT, &body("hello", json!({"guided_choice": ["yes", "no"]}))).status, 200);
    until_line(&log, r#"shape=Choice(["yes", "no"])"#);

    for stream in [false, true] {
        let mut wanted = body("refused", format.clone());
        wanted["stream"] = stream.into();
        let reply = post(port, CHAT, &wanted);
        assert_eq!((reply.status, reply.code().as_str()), (400, "shape_unsupported"), "{}", reply.text());
        let message = reply.json()["error"]["message"].as_str().expect("message").to_owned();
        assert!(message.contains("#/properties/a/not"), "{message}");
    }
    let reply = post(port, CHAT, &body("cut", format.clone())).json();
    let finish = (&reply["choices"][0]["finish_reason"], &reply["freehold"]["finish"]);
    assert_eq!(finish, (&json!("length"), &json!("structure_incomplete")));
    let stream = post(port, CHAT, &body("cut", json!({"stream": true, "response_format": format["response_format"]})));
    let last =
        events(&stream.text()).into_iter().rev().find(|event| event["freehold"].is_object()).expect("a last chunk");
    assert_eq!(last["freehold"]["finish"], "structure_incomplete");
}

#[test]
fn the_command_asks_for_a_form_and_says_when_it_was_cut_off() {
    let home = Home::new();
    let log = home.path("frames");
    let cut = vec![Step::Text("[1,".into()), Step::End(WireFinish::StructureIncomplete)];
    let looped = vec![Step::Text("la la".into()), Step::End(WireFinish::Loop)];
    home.chat_model("small", &Script::default().on("cut", cut).on("loop", looped).logged(&log));
    let file = home.path("schema.json");
    std::fs::write(&file, r#"{"type": "array"}"#).expect("written");
    let file = file.to_str().expect("utf-8");
    let ran = home.done(&["chat", "-m", "cut", "--schema", file]);
    assert!(ran.err.contains("before its structure was complete"), "{ran:?}");
    until_line(&log, r#"shape=JsonSchema("{\"type\": \"array\"}")"#);
    let whole = home.json(&["chat", "-m", "cut", "--schema", file, "--json"]);
    assert_eq!(whole["finish"], "structure_incomplete");
    home.done(&["chat", "-m", "hello", "--regex", "[a-z]+"]);
    until_line(&log, r#"shape=Regex("[a-z]+")"#);
    home.done(&["chat", "-m", "hello", "--choice", "yes,no"]);
    until_line(&log, r#"shape=Choice(["yes", "no"])"#);
    assert!(home.done(&["chat", "-m", "loop"]).err.contains("repeated itself"));
    std::fs::write(file, "{").expect("written");
    home.run(&["chat", "-m", "hello", "--schema", file]).fails(2, "invalid_ask");
    home.run(&["chat", "-m", "hello", "--schema", "/nowhere/schema.json"]).fails(9, "file_missing");
}

#[test]
fn a_whole_reply_that_loops_is_made_again_where_that_is_wanted() {
    let home = Home::new();
    let log = home.path("frames");
    let looped = vec![Step::Text("la la".into()), Step::End(WireFinish::Loop)];
    home.chat_model("small", &Script::default().on("loop", looped).logged(&log));
    let port = home.port();
    let begun = || std::fs::read_to_string(&log).unwrap_or_default().matches("begin ").count();
    let reply = post(port, CHAT, &body("loop", json!({}))).json();
    assert_eq!((&reply["choices"][0]["finish_reason"], begun()), (&json!("loop"), 1));
    let reply = post(port, CHAT, &body("loop", json!({"on_loop": "retry"}))).json();
    assert_eq!((&reply["choices"][0]["finish_reason"], begun()), (&json!("loop"), 3));
    post(port, CHAT, &body("loop", json!({"on_loop": "retry", "stream": true})));
    assert_eq!(begun(), 4, "what was streamed can't be taken back");
}

#[test]
fn a_model_s_health_is_measured() {
    let home = Home::new();
    let looped = vec![Step::Repeat(9, "moon ".into()), Step::End(WireFinish::Loop)];
    let ann = vec![Step::Text(r#"{"name": "Ann", "age": 31}"#.into())];
    home.chat_model("small", &Script::default().on("verses about the moon", looped).on("Ann is 31", ann));
    let health = home.json(&["models", "check", "small", "--json"]);
    assert_eq!(health["loops"], json!({"count": 1, "of": 8}));
    assert_eq!((&health["json"], &health["shaped"]), (&json!({"count": 1, "of": 10}), &json!({"count": 1, "of": 10})));
    assert_eq!((&health["template"]["system"], &health["template"]["turns"]), (&json!(true), &json!(true)));
    // Each word of the scripted worker has the probability of one half.
    assert!((health["perplexity"].as_f64().expect("a number") - 2.0).abs() < 1e-6, "{health}");
    let ran = home.done(&["models", "check", "small"]);
    assert!(ran.out.contains("1 of 8 long answers") && ran.out.contains("2.00 over"), "{ran:?}");
    home.run(&["models", "check", "absent"]).fails(4, "model_missing");
}
