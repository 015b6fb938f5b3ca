//! Transcripts of whole streams.

use super::*;
use base::{Code, Finish, Usage};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

/// A channel in place of the engine.
struct Script(mpsc::Receiver<Result<Delta, Fault>>);

impl Deltas for Script {
    fn next(&mut self) -> impl Future<Output = Option<Result<Delta, Fault>>> + Send {
        self.0.recv()
    }
}

fn heading(include_usage: bool) -> Heading {
    Heading { id: "chatcmpl-1".into(), created: 7, model: "m".into(), include_usage }
}

fn script(deltas: Vec<Result<Delta, Fault>>) -> Script {
    let (tx, rx) = mpsc::channel(32);
    for delta in deltas {
        tx.try_send(delta).expect("room");
    }
    Script(rx)
}

async fn transcript(include_usage: bool, deltas: Vec<Result<Delta, Fault>>) -> Vec<String> {
    let stream = events(heading(include_usage), VecDeque::new(), script(deltas), Duration::from_secs(60));
    let bytes: Vec<u8> = stream.map(|item| item.expect("infallible").to_vec()).concat().await;
    let text = String::from_utf8(bytes).expect("utf-8");
    assert!(text.ends_with("\n\n"));
    text.split_terminator("\n\n").map(str::to_string).collect()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line.strip_prefix("data: ").expect("data")).expect("json")
}

fn answer() -> Vec<Result<Delta, Fault>> {
    let usage =
        Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 2, context_tokens: 2048, ..Usage::default() };
    vec![
        Ok(Delta::Progress(Progress::Queued)),
        Ok(Delta::Text("Hel\nlo".into())),
        Ok(Delta::Text("…".into())),
        Ok(Delta::Usage(usage)),
        Ok(Delta::Done(Finish::Length)),
    ]
}

#[tokio::test]
async fn role_first_then_text_then_finish_then_done() {
    let lines = transcript(false, answer()).await;
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let deltas: Vec<Value> = lines[..4].iter().map(|line| parsed(line)["choices"][0]["delta"].clone()).collect();
    assert_eq!(deltas[0], serde_json::json!({"role": "assistant", "content": ""}));
    assert_eq!(deltas[1], serde_json::json!({"content": "Hel\nlo"}));
    assert_eq!(deltas[2], serde_json::json!({"content": "…"}));
    assert_eq!(deltas[3], serde_json::json!({}));
    for (n, line) in lines[..4].iter().enumerate() {
        let chunk = parsed(line);
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((chunk["id"].as_str(), chunk["model"].as_str()), (Some("chatcmpl-1"), Some("m")));
        assert_eq!(chunk["choices"][0]["finish_reason"], if n == 3 { Value::from("length") } else { Value::Null });
        assert!(chunk.get("usage").is_none(), "nobody asked for usage");
    }
    assert_eq!(parsed(&lines[3])["freehold"]["context_tokens"], 2048);
    assert_eq!(lines[4], "data: [DONE]");
}

#[tokio::test]
async fn thoughts_and_calls_come_in_pieces_of_their_own() {
    let piece = |id: Option<&str>, name: Option<&str>, arguments: &str| {
        let (id, name) = (id.map(str::to_owned), name.map(str::to_owned));
        Ok(Delta::Call(base::CallPiece { index: 1, id, name, arguments: arguments.into() }))
    };
    let lines = transcript(
        false,
        vec![
            Ok(Delta::Thought("hm".into())),
            piece(Some("abc"), Some("f"), ""),
            piece(None, None, "{}"),
            Ok(Delta::Done(Finish::ToolCalls)),
        ],
    )
    .await;
    let deltas: Vec<Value> = lines[1..5].iter().map(|line| parsed(line)["choices"][0]["delta"].clone()).collect();
    assert_eq!(deltas[0], serde_json::json!({"reasoning_content": "hm", "reasoning": "hm"}));
    let first =
        serde_json::json!({"index": 1, "id": "abc", "type": "function", "function": {"name": "f", "arguments": ""}});
    assert_eq!(deltas[1], serde_json::json!({"tool_calls": [first]}));
    let more = serde_json::json!({"index": 1, "function": {"arguments": "{}"}});
    assert_eq!(deltas[2], serde_json::json!({"tool_calls": [more]}));
    assert_eq!(parsed(&lines[4])["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn usage_comes_in_a_chunk_of_its_own_when_asked_for() {
    let lines = transcript(true, answer()).await;
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for line in &lines[..4] {
        assert!(parsed(line).get("usage").is_some_and(Value::is_null), "{line}");
    }
    let last = parsed(&lines[4]);
    assert_eq!(last["choices"], serde_json::json!([]));
    assert_eq!(last["usage"]["prompt_tokens"], 9);
    assert_eq!(last["usage"]["total_tokens"], 11);
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(lines[5], "data: [DONE]");
}

#[tokio::test]
async fn a_failure_in_the_middle_is_the_last_event() {
    let fault = Fault::new(Code::WorkerDied, "the worker died").hint("send it again");
    let lines = transcript(true, vec![Ok(Delta::Text("Hel".into())), Err(fault)]).await;
    let last = parsed(lines.last().expect("events"));
    assert_eq!(last["error"]["code"], "worker_died");
    assert_eq!(last["error"]["fault"]["hints"][0], "send it again");
    assert!(!lines.iter().any(|line| line.contains("[DONE]")), "a failed answer mustn't look complete");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure() {
    let lines = transcript(false, vec![Ok(Delta::Text("Hel".into()))]).await;
    assert_eq!(parsed(lines.last().expect("events"))["error"]["code"], "internal");
}

#[tokio::test]
async fn silence_is_filled_with_comments_that_say_why() {
    let (tx, rx) = mpsc::channel(4);
    let first = VecDeque::from([Delta::Progress(Progress::Loading { model: "m\n\ndata: x".into(), percent: 40 })]);
    let stream = events(heading(false), first, Script(rx), Duration::from_millis(5));
    tokio::pin!(stream);
    let text = |item: Option<Result<Bytes, Infallible>>| {
        String::from_utf8(item.expect("event").expect("infallible").to_vec()).expect("utf-8")
    };
    assert!(text(stream.next().await).contains("assistant"));
    assert_eq!(text(stream.next().await), ": loading the model, 40 %\n\n");
    tx.try_send(Ok(Delta::Progress(Progress::Prefill { done: 3, total: 9 }))).expect("room");
    assert_eq!(text(stream.next().await), ": reading the prompt, 3 of 9 tokens\n\n");
    tx.try_send(Ok(Delta::Done(Finish::EndOfTurn))).expect("room");
    assert!(text(stream.next().await).contains("\"finish_reason\":\"stop\""));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_stream_drops_the_answer() {
    let (tx, rx) = mpsc::channel(4);
    let mut stream = Box::pin(events(heading(false), VecDeque::new(), Script(rx), Duration::from_secs(60)));
    assert!(stream.next().await.is_some());
    assert!(!tx.is_closed());
    drop(stream);
    assert!(tx.is_closed());
}
