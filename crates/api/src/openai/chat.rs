//! `POST /v1/chat/completions`.

use super::ask::{ChatBody, ChatCall};
use super::sse::{Deltas, Heading, KEEP_ALIVE_MS, events};
use super::tally::{Extra, Step, Tally, UsageObject, broken_off};
use crate::body;
use crate::reply::{Refusal, fresh_id, json, unix_now};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, header};
use base::answer::Progress;
use base::{Delta, Fault};
use runtime::Runtime;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// The status line waits this long for the prompt to be accepted, so that a prompt that doesn't
/// fit is a 400 and not a broken stream. A model that loads longer is waited for in the stream.
const STATUS_PATIENCE_MS: u64 = 5_000;

#[derive(Debug, Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: UsageObject,
    freehold: Extra,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

pub(crate) async fn complete(
    State(runtime): State<Runtime>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let headers = request.headers().clone();
    let call = ChatCall::try_from(ChatBody { headers, object: body::object(request).await? })?;
    let model = model_name(&runtime, &call.ask.model);
    let answer = runtime.chat(call.ask)?;
    let heading = Heading { id: fresh_id("chatcmpl-"), created: unix_now(), model, include_usage: call.include_usage };
    if call.stream { stream(heading, answer).await } else { whole(heading, answer).await }
}

/// A stream names its model before the engine has said which one answers.
fn model_name(runtime: &Runtime, asked: &str) -> String {
    if !asked.is_empty() {
        return asked.to_string();
    }
    let models = runtime.models();
    models.into_iter().find(|row| row.default && row.kind == "chat").map(|row| row.name).unwrap_or_default()
}

async fn stream<D: Deltas>(heading: Heading, mut deltas: D) -> Result<Response<Body>, Refusal> {
    let first = accepted(&mut deltas, Duration::from_millis(STATUS_PATIENCE_MS)).await?;
    let events = events(heading, first, deltas, Duration::from_millis(KEEP_ALIVE_MS));
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A proxy in between would otherwise collect tokens before it passes them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Waits until the prompt is accepted, and returns the deltas that were heard on the way.
async fn accepted<D: Deltas>(deltas: &mut D, patience: Duration) -> Result<VecDeque<Delta>, Refusal> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut heard = VecDeque::new();
    loop {
        let Ok(next) = tokio::time::timeout_at(deadline, deltas.next()).await else { return Ok(heard) };
        let delta = next.ok_or_else(broken_off)??;
        let waits = matches!(delta, Delta::Progress(Progress::Queued | Progress::Loading { .. }) | Delta::Notice(_));
        if matches!(delta, Delta::Progress(_)) {
            // Only the last word on where it stands is of use later.
            heard.retain(|earlier| !matches!(earlier, Delta::Progress(_)));
        }
        heard.push_back(delta);
        if !waits {
            return Ok(heard);
        }
    }
}

/// The whole reply is a fold of the same deltas.
async fn whole<D: Deltas>(heading: Heading, mut deltas: D) -> Result<Response<Body>, Refusal> {
    let mut tally = Tally::default();
    let mut text = String::new();
    let finish = loop {
        match tally.take(deltas.next().await.ok_or_else(broken_off)?.map_err(|fault| after(fault, &text))?) {
            Step::Nothing => {}
            Step::Text(piece) => text.push_str(&piece),
            Step::End(finish) => break finish,
        }
    };
    let model = if tally.usage.model.is_empty() { &heading.model } else { &tally.usage.model };
    Ok(json(&Completion {
        id: heading.id,
        object: "chat.completion",
        created: heading.created,
        model,
        choices: [Choice {
            index: 0,
            message: Message { role: "assistant", content: &text, refusal: None },
            logprobs: None,
            finish_reason: finish.openai(),
        }],
        usage: tally.usage(),
        freehold: tally.extra(),
    }))
}

/// A whole reply that fails late says how much is lost with it.
fn after(fault: Fault, text: &str) -> Fault {
    if text.is_empty() {
        return fault;
    }
    fault.hint(format!(
        "{} characters were made and are lost; ask with `\"stream\": true` to keep them",
        text.chars().count()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Code, Finish, Usage};
    use serde_json::Value;
    use std::future::Future;
    use tokio::sync::mpsc;

    struct Script(mpsc::Receiver<Result<Delta, Fault>>);

    impl Deltas for Script {
        fn next(&mut self) -> impl Future<Output = Option<Result<Delta, Fault>>> + Send {
            self.0.recv()
        }
    }

    fn script(deltas: Vec<Result<Delta, Fault>>) -> Script {
        let (tx, rx) = mpsc::channel(32);
        for delta in deltas {
            tx.try_send(delta).expect("room");
        }
        Script(rx)
    }

    fn heading() -> Heading {
        Heading { id: "chatcmpl-1".into(), created: 7, model: "asked".into(), include_usage: false }
    }

    #[tokio::test]
    async fn the_whole_reply_is_a_fold_of_the_stream() {
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, model: "real:q4".into(), ..Usage::default() };
        let deltas = vec![
            Ok(Delta::Text("a".into())),
            Ok(Delta::Notice("note".into())),
            Ok(Delta::Text("b".into())),
            Ok(Delta::Usage(usage)),
            Ok(Delta::Done(Finish::EndOfTurn)),
        ];
        let response = whole(heading(), script(deltas)).await.expect("reply");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        let reply: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(reply["choices"][0]["message"]["content"], "ab");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert_eq!((&reply["model"], &reply["object"]), (&Value::from("real:q4"), &Value::from("chat.completion")));
        assert_eq!(reply["usage"]["total_tokens"], 5);
        assert_eq!(reply["freehold"]["notices"][0], "note");
    }

    #[tokio::test]
    async fn a_whole_reply_that_fails_late_says_what_is_lost() {
        let deltas = vec![Ok(Delta::Text("abc".into())), Err(Fault::new(Code::WorkerDied, "it died"))];
        let refusal = whole(heading(), script(deltas)).await.expect_err("failed");
        assert_eq!(refusal.fault.code, Code::WorkerDied);
        assert!(refusal.fault.hints[0].contains("3 characters"), "{:?}", refusal.fault);
    }

    #[tokio::test]
    async fn a_prompt_that_does_not_fit_has_its_own_status() {
        let deltas =
            vec![Ok(Delta::Progress(Progress::Queued)), Err(Fault::new(Code::ContextOverflow, "9000 of 4096"))];
        let refusal = stream(heading(), script(deltas)).await.expect_err("refused before the stream");
        assert_eq!(refusal.fault.code, Code::ContextOverflow);
    }

    #[tokio::test]
    async fn a_slow_load_is_waited_for_in_the_stream() {
        let (tx, rx) = mpsc::channel(4);
        let loading = |percent| Delta::Progress(Progress::Loading { model: "m".into(), percent });
        for percent in [10, 20] {
            tx.try_send(Ok(loading(percent))).expect("room");
        }
        let heard = accepted(&mut Script(rx), Duration::from_millis(5)).await.expect("patience ends");
        assert_eq!(heard, [loading(20)]);
    }
}
