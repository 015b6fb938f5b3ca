//! OpenAI's dialect on 127.0.0.1, byte by byte.

use crate::home::{Home, until_line};
use crate::http::{self, events, get, post, read_chunk, read_head, request, tcp};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use testkit::{Gate, Script, Step, TestModel};

fn said(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Value, extra: Value) -> Value {
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    body
}

#[test]
fn a_stream_and_a_whole_reply_say_the_same() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let port = home.port();
    let whole = post(port, "/v1/chat/completions", &said("hello"));
    assert_eq!(whole.status, 200, "{}", whole.text());
    let reply = whole.json();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(
        reply["choices"][0]["message"],
        json!({"role": "assistant", "content": "one two three", "refusal": null})
    );
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert!(reply["model"].as_str().is_some_and(|model| model.starts_with("small")), "{reply}");
    assert!(reply["freehold"]["context_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{reply}");

    let body = with(said("hello"), json!({"stream": true, "stream_options": {"include_usage": true}}));
    let stream = post(port, "/v1/chat/completions", &body);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let events = events(&stream.text());
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "one two three");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let usage = &events[events.len() - 2];
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &reply["usage"]));
    assert_eq!(events.last(), Some(&json!("[DONE]")));
}

#[test]
fn models_are_listed_with_their_window() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let port = home.port();
    let list = get(port, "/v1/models").json();
    let model = &list["data"][0];
    assert_eq!(
        (&list["object"], &model["object"], &model["owned_by"]),
        (&json!("list"), &json!("model"), &json!("freehold"))
    );
    assert!(model["created"].as_u64().is_some_and(|created| created > 1_600_000_000), "{model}");
    assert!(model["context_length"].as_u64().is_some_and(|tokens| tokens > 0), "{model}");
    assert_eq!(model["freehold"]["loaded"], false);
    let id = model["id"].as_str().expect("id");
    assert_eq!(&get(port, &format!("/v1/models/{id}")).json(), model);
    post(port, "/v1/chat/completions", &said("hello"));
    assert_eq!(get(port, &format!("/v1/models/{id}")).json()["freehold"]["loaded"], true);
    let missing = get(port, "/v1/models/gpt-5");
    assert_eq!((missing.status, missing.code().as_str()), (404, "model_not_found"));
    assert!(missing.text().contains(id), "what there is, is said: {}", missing.text());
}

#[test]
fn what_cannot_be_done_has_its_own_status_before_any_stream() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("much", vec![Step::Overflow(9000, 4096)]));
    let port = home.port();
    for (body, status, code) in [
        (with(said("hello"), json!({"model": "gpt-5"})), 404, "model_not_found"),
        (with(said("too much"), json!({"stream": true})), 400, "context_length_exceeded"),
        (said("too much"), 400, "context_length_exceeded"),
        (with(said("hello"), json!({"n": 2})), 400, "invalid_ask"),
        (with(said("hello"), json!({"temperature": 9})), 400, "invalid_ask"),
        (with(said("hello"), json!({"response_format": {"type": "xml"}})), 400, "invalid_ask"),
    ] {
        let reply = post(port, "/v1/chat/completions", &body);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}: {}", reply.text());
        assert_eq!(
            reply.json()["error"]["type"],
            if status == 404 { "not_found_error" } else { "invalid_request_error" }
        );
    }
    let reply = post(port, "/v1/chat/completions", &said("too much"));
    let message = reply.json()["error"]["message"].as_str().expect("message").to_string();
    assert!(message.contains("9000") && message.contains("4096"), "{message}");
    assert_eq!(reply.json()["error"]["fault"]["code"], "context_overflow");
}

/// Eight turns and a question, of which a window of 40 words takes the last few.
fn long_conversation() -> Value {
    let turn = |n: usize| [("user", format!("question{n} a b")), ("assistant", format!("answer{n} a b"))];
    let messages = (0..8).flat_map(turn).chain([("user", "and now".to_owned())]);
    let messages: Vec<Value> = messages.map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"messages": messages})
}

#[test]
fn a_long_conversation_is_compacted_where_that_is_asked_for_and_declared() {
    let home = Home::new();
    home.chat_model("small", &Script::default().windowed(40));
    let port = home.port();
    let plain = post(port, "/v1/chat/completions", &long_conversation());
    assert_eq!((plain.status, plain.code().as_str()), (400, "context_length_exceeded"));
    assert_eq!(plain.json()["error"]["fault"]["shortage"]["available"], 40);
    let body = with(long_conversation(), json!({"overflow": "compact"}));
    let whole = post(port, "/v1/chat/completions", &body);
    assert_eq!(whole.status, 200, "{}", whole.text());
    let compacted = whole.json()["freehold"]["compacted"].clone();
    let number = |name: &str| compacted[name].as_u64().unwrap_or_else(|| panic!("no {name} in {compacted}"));
    assert!(number("turns") > 0 && number("tokens") > 0, "{compacted}");
    assert_eq!(number("messages"), 2 * number("turns"));
    let stream = post(port, "/v1/chat/completions", &with(body, json!({"stream": true})));
    let events = events(&stream.text());
    let first = |what: &dyn Fn(&Value) -> bool| events.iter().position(what).expect("such an event");
    let declared = first(&|event| event["freehold"]["compacted"] == compacted);
    let text = |event: &Value| event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty());
    assert!(declared < first(&text), "said before the answer");
    assert_eq!(events[events.len() - 2]["freehold"]["compacted"], compacted, "and at its end");
    let reply = post(port, "/v1/chat/completions", &with(said("hello"), json!({"overflow": "compact"})));
    assert!(reply.json()["freehold"].get("compacted").is_none(), "{}", reply.text());
    let wrong = post(port, "/v1/chat/completions", &with(said("hello"), json!({"overflow": "truncate"})));
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("overflow")));
}

#[test]
fn a_client_that_goes_away_cancels_its_answer() {
    for stream in [true, false] {
        let home = Home::new();
        let (gate, log) = (Gate::new(&home.folder("gates"), "half"), home.path("frames"));
        let steps = vec![Step::Text("half".into()), Step::Wait(gate.path())];
        home.chat_model("small", &Script::default().on("slow", steps).logged(&log));
        let port = home.port();
        let own = format!("127.0.0.1:{port}");
        let body = with(said("slow"), json!({"stream": stream})).to_string();
        let mut client = tcp(port);
        let headers = [("host", own.as_str()), ("content-type", "application/json")];
        client.write_all(&request("POST", "/v1/chat/completions", &headers, &body)).expect("send");
        if stream {
            let mut reader = BufReader::new(&client);
            assert_eq!(read_head(&mut reader).status, 200);
            read_chunk(&mut reader);
        } else {
            until_line(&log, "begin");
        }
        drop(client);
        until_line(&log, "cancel");
    }
}

#[test]
fn a_worker_that_dies_in_the_middle_is_the_last_event() {
    let home = Home::new();
    home.chat_model("small", &Script::default().on("crash", vec![Step::Text("half".into()), Step::Die(11)]));
    let port = home.port();
    let stream = post(port, "/v1/chat/completions", &with(said("crash"), json!({"stream": true})));
    assert_eq!(stream.status, 200);
    let last = events(&stream.text()).pop().expect("events");
    assert_eq!(last["error"]["code"], "worker_died", "{last}");
    let whole = post(port, "/v1/chat/completions", &said("crash"));
    assert_eq!((whole.status, whole.header("x-should-retry")), (502, Some("true")), "{}", whole.text());
    assert_eq!(post(port, "/v1/chat/completions", &said("hello")).status, 200);
}

#[test]
fn several_answers_at_once_stay_apart() {
    let home = Home::new();
    let mut script = Script::default().slots(4);
    for n in 0..4 {
        script = script.on(&format!("ask{n}"), vec![Step::Repeat(50, format!("{n}"))]);
    }
    home.chat_model("small", &script);
    let port = home.port();
    let asking: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || (n % 4, post(port, "/v1/chat/completions", &said(&format!("ask{}", n % 4)))))
        })
        .collect();
    for thread in asking {
        let (n, reply) = thread.join().expect("client");
        assert_eq!(reply.json()["choices"][0]["message"]["content"], n.to_string().repeat(50), "{}", reply.text());
    }
}

#[test]
fn embeddings_are_the_same_numbers_in_both_encodings() {
    let home = Home::new();
    home.embed_model("finder");
    let port = home.port();
    let floats = post(port, "/v1/embeddings", &json!({"input": ["a boiler", "a river"]}));
    assert_eq!(floats.status, 200, "{}", floats.text());
    let floats = floats.json();
    assert_eq!((&floats["object"], &floats["data"][1]["index"]), (&json!("list"), &json!(1)));
    assert_eq!(floats["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    let coded =
        post(port, "/v1/embeddings", &json!({"input": ["a boiler", "a river"], "encoding_format": "base64"})).json();
    for n in 0..2 {
        let numbers: Vec<f32> = serde_json::from_value(floats["data"][n]["embedding"].clone()).expect("numbers");
        assert_eq!(unbase64(coded["data"][n]["embedding"].as_str().expect("text")), numbers);
    }
    assert_eq!(floats["freehold"]["truncated"], json!([]));
}

fn floats(reply: &Value) -> Vec<f32> {
    serde_json::from_value(reply["data"][0]["embedding"].clone()).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

#[test]
fn a_vector_has_as_many_dimensions_as_are_asked_for_and_length_one_again() {
    let home = Home::new();
    home.embed_model("finder");
    let port = home.port();
    let ask = |extra: Value| post(port, "/v1/embeddings", &with(json!({"input": "the boiler in the hall"}), extra));
    let whole = floats(&ask(json!({})).json());
    let short = floats(&ask(json!({"dimensions": 8})).json());
    let length = |vector: &[f32]| vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    assert_eq!(short.len(), 8);
    assert!((length(&short) - 1.0).abs() < 1e-5);
    let scale = length(&whole[..8]);
    assert!(short.iter().zip(&whole).all(|(short, whole)| (short * scale - whole).abs() < 1e-5), "its beginning");
    let raw = floats(&ask(json!({"dimensions": 8, "normalize": false})).json());
    assert!((length(&raw) - scale).abs() < 1e-5);
    for wrong in [0, whole.len() + 1] {
        let refused = ask(json!({"dimensions": wrong}));
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("dimensions")));
        assert!(refused.text().contains(&whole.len().to_string()), "{}", refused.text());
    }
}

#[test]
fn a_text_that_is_too_long_is_refused_or_cut_with_a_word() {
    let home = Home::new();
    home.model(&TestModel::embed(&home.folder("models"), "finder", &Script::default().windowed(4)));
    let port = home.port();
    let body = json!({"input": ["short", "one two three four five six"]});
    let refused = post(port, "/v1/embeddings", &body);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("input")));
    assert_eq!(refused.json()["error"]["fault"]["shortage"], json!({"requested": 6, "available": 4}));
    assert!(refused.text().contains("truncate"), "{}", refused.text());
    let cut = post(port, "/v1/embeddings", &with(body, json!({"truncate": true})));
    assert_eq!(cut.json()["freehold"]["truncated"], json!([{"index": 1, "tokens": 4, "left_out": 2}]));
}

#[test]
fn documents_are_ranked_the_best_first() {
    let home = Home::new();
    home.model(&TestModel::rerank(&home.folder("models"), "judge", &Script::default().windowed(6)));
    let port = home.port();
    let documents =
        json!(["a river", "the red boiler", {"text": "the boiler"}, "the red boiler in the old hall below"]);
    let body = json!({"query": "the red boiler in winter", "documents": documents, "top_n": 3});
    let refused = post(port, "/v1/rerank", &body);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("documents")));
    let reply = post(port, "/v1/rerank", &with(body, json!({"truncate": true, "return_documents": true})));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    let indexes: Vec<u64> =
        reply["results"].as_array().expect("results").iter().filter_map(|row| row["index"].as_u64()).collect();
    assert_eq!(indexes, [3, 1, 2]);
    assert_eq!(reply["results"][0]["relevance_score"], 4.0);
    assert_eq!(reply["results"][2]["document"]["text"], "the boiler");
    assert_eq!(reply["freehold"]["truncated"], json!([{"index": 3, "tokens": 6, "left_out": 2}]));
    let kinds = home.done(&["models"]).out;
    assert!(kinds.contains("rerank"), "{kinds}");
    let unfit = post(port, "/v1/embeddings", &json!({"input": "x", "model": "judge"}));
    assert_eq!((unfit.status, unfit.code().as_str()), (400, "model_unfit"));
    let unfit = post(port, "/v1/chat/completions", &with(said("hello"), json!({"model": "judge"})));
    assert_eq!((unfit.status, unfit.code().as_str()), (400, "model_unfit"));
}

fn unbase64(text: &str) -> Vec<f32> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.trim_end_matches('=').chars() {
        bits = bits << 6 | LETTERS.find(letter).expect("base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

#[test]
fn health_answers_without_touching_anything() {
    let home = Home::new();
    home.done(&["models"]);
    let reply = http::get(home.port(), "/health");
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("ok")));
    let again = http::get(home.port(), "/health");
    assert_ne!(reply.header("x-request-id"), again.header("x-request-id"));
}
