//! Several programs and one place: who waits for whom, over HTTP and with the real program.

use crate::home::Home;
use crate::http::{events, post, read_chunk, read_head, request, tcp};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::net::TcpStream;
use testkit::{Gate, Script, Step, until};

const PATH: &str = "/v1/chat/completions";

fn stream(port: u16, text: &str, extra: Value) -> TcpStream {
    let mut body = json!({"messages": [{"role": "user", "content": text}], "stream": true});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    let host = format!("127.0.0.1:{port}");
    let headers = [("host", host.as_str()), ("content-type", "application/json")];
    let mut client = tcp(port);
    client.write_all(&request("POST", PATH, &headers, &body.to_string())).expect("send");
    client
}

/// The text of a stream, read to its end.
fn text(client: &TcpStream) -> String {
    let mut reader = BufReader::new(client);
    assert_eq!(read_head(&mut reader).status, 200);
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(&mut reader);
        if chunk.is_empty() {
            break;
        }
        body.extend(chunk);
    }
    let events = events(&String::from_utf8(body).expect("utf-8"));
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

fn until_parked(home: &Home) {
    until("the answer to be parked", || {
        let model = &home.status()["models"][0];
        (model["parked"] == 1 && model["running"] == 0).then_some(())
    });
}

fn says_hello(port: u16) {
    let reply = post(port, PATH, &json!({"messages": [{"role": "user", "content": "hello"}]}));
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "one two three", "{}", reply.text());
}

#[test]
fn a_batch_request_makes_room_for_an_interactive_one() {
    let home = Home::new();
    let gate = Gate::new(&home.folder("gates"), "g");
    let steps = vec![Step::Text("first".into()), Step::Wait(gate.path()), Step::Text(" then".into())];
    let log = home.path("frames.log");
    home.chat_model("small", &Script::default().slots(1).on("night", steps).logged(&log));
    let port = home.port();
    let night = stream(port, "night", json!({"priority": "batch"}));
    crate::home::until_line(&log, "begin");
    says_hello(port);
    gate.release(1);
    assert_eq!(text(&night), "first then");
}

#[test]
fn a_client_that_does_not_read_gives_its_place_to_others() {
    let home = Home::new();
    // Far more than the sockets between the two hold.
    let times = 400_000;
    let script = Script::default().slots(1).on("flood", vec![Step::Repeat(times, "0123456789".into())]);
    home.chat_model("small", &script);
    let port = home.port();
    let slow = stream(port, "flood", json!({}));
    until_parked(&home);
    says_hello(port);
    // It goes on when the place is free again, and gives it up again.
    until("the status to tell of it", || home.done(&["status"]).out.contains("1 parked").then_some(()));
    assert!(text(&slow) == "0123456789".repeat(times as usize), "its text is whole");
}
