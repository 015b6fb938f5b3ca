//! `POST /v1/chat/completions`.

use super::ask::{ChatBody, ChatCall};
use super::sse::{Deltas, Heading, KEEP_ALIVE_MS, events};
use super::tally::{CallObject, Extra, Step, Tally, UsageObject, Whole, broken_off};
use crate::body;
use crate::reply::{Refusal, fresh_id, json, unix_now};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, header};
use base::answer::Progress;
use base::{Ask, Delta, Fault, Finish, OnLoop, Sampling};
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
    /// Null where there are only calls.
    content: Option<&'a str>,
    refusal: Option<()>,
    /// What the model thought, by both names that clients look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [CallObject],
}

impl<'a> Message<'a> {
    fn of(whole: &'a Whole) -> Self {
        let thought = (!whole.thought.is_empty()).then_some(whole.thought.as_str());
        let content = (!whole.text.is_empty() || whole.calls.is_empty()).then_some(whole.text.as_str());
        let (reasoning_content, reasoning) = (thought, thought);
        Self { role: "assistant", content, refusal: None, reasoning_content, reasoning, tool_calls: &whole.calls }
    }
}

pub(crate) async fn complete(
    State(runtime): State<Runtime>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let headers = request.headers().clone();
    let call = ChatCall::try_from(ChatBody { headers, object: body::object(request).await? })?;
    let model = model_name(&runtime, &call.ask.model);
    // Of a stream, what has been sent can't be taken back.
    let again = (call.ask.on_loop == OnLoop::Retry && !call.stream).then(|| varied(call.ask.clone()));
    let answer = runtime.chat(call.ask)?;
    let heading = Heading { id: fresh_id("chatcmpl-"), created: unix_now(), model, include_usage: call.include_usage };
    if call.stream {
        return stream(heading, answer).await;
    }
    whole(heading, answer, || again.map(|ask| runtime.chat(ask))).await
}

/// The same ask, drawn otherwise: what has repeated itself once would do so again.
fn varied(ask: Ask) -> Ask {
    /// Enough that the likeliest token isn't the only one that is ever chosen.
    const TEMPERATURE_LEAST: f32 = 0.7;
    const PENALTY_LEAST: f32 = 1.1;
    let sampling = Sampling {
        temperature: ask.sampling.temperature.max(TEMPERATURE_LEAST),
        repeat_penalty: ask.sampling.repeat_penalty.max(PENALTY_LEAST),
        penalty_last_n: ask.sampling.penalty_last_n.max(Sampling::default().penalty_last_n),
        seed: ask.sampling.seed.map(|seed| seed.wrapping_add(1)),
        ..ask.sampling
    };
    Ask { sampling, ..ask }
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
        let waits = matches!(
            delta,
            Delta::Progress(Progress::Queued | Progress::Loading { .. }) | Delta::Notice(_) | Delta::Compacted(_)
        );
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

/// The whole reply is a fold of the same deltas. `again` is asked once, when the answer was a loop; its answer
/// counts in place of the first.
async fn whole<D: Deltas>(
    heading: Heading,
    deltas: D,
    again: impl FnOnce() -> Option<Result<D, Fault>>,
) -> Result<Response<Body>, Refusal> {
    let (mut tally, mut whole, mut finish) = fold(deltas, Tally::default()).await?;
    if finish == Finish::Loop
        && let Some(deltas) = again()
    {
        (tally, whole, finish) = fold(deltas?, Tally::noted("the answer repeated itself and was made again")).await?;
    }
    let model = if tally.usage.model.is_empty() { &heading.model } else { &tally.usage.model };
    Ok(json(&Completion {
        id: heading.id,
        object: "chat.completion",
        created: heading.created,
        model,
        choices: [Choice { index: 0, message: Message::of(&whole), logprobs: None, finish_reason: finish.openai() }],
        usage: tally.usage(),
        freehold: tally.extra(),
    }))
}

async fn fold<D: Deltas>(mut deltas: D, mut tally: Tally) -> Result<(Tally, Whole, Finish), Fault> {
    let mut whole = Whole::default();
    loop {
        match tally.take(deltas.next().await.ok_or_else(broken_off)?.map_err(|fault| after(fault, &whole))?) {
            Step::Nothing | Step::Compacted => {}
            Step::Text(piece) => whole.text.push_str(&piece),
            Step::Thought(piece) => whole.thought.push_str(&piece),
            Step::Call(piece) => whole.call(piece),
            Step::End(finish) => return Ok((tally, whole, finish)),
        }
    }
}

/// A whole reply that fails late says how much is lost with it.
fn after(fault: Fault, whole: &Whole) -> Fault {
    match whole.characters() {
        0 => fault,
        made => {
            fault.hint(format!("{made} characters were made and are lost; ask with `\"stream\": true` to keep them"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Code, Usage};
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
        let response = whole(heading(), script(deltas), || None).await.expect("reply");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        let reply: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(reply["choices"][0]["message"]["content"], "ab");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert_eq!((&reply["model"], &reply["object"]), (&Value::from("real:q4"), &Value::from("chat.completion")));
        assert_eq!(reply["usage"]["total_tokens"], 5);
        assert_eq!(reply["freehold"]["notices"][0], "note");
    }

    #[tokio::test]
    async fn a_loop_is_tried_once_more_where_that_is_wanted() {
        let said = |text: &str, finish| script(vec![Ok(Delta::Text(text.into())), Ok(Delta::Done(finish))]);
        for (second, content, reason) in [(Finish::EndOfTurn, "good", "stop"), (Finish::Loop, "good", "loop")] {
            let response = whole(heading(), said("la la", Finish::Loop), || Some(Ok(said("good", second)))).await;
            let bytes = axum::body::to_bytes(response.expect("reply").into_body(), 1 << 20).await.expect("body");
            let reply: Value = serde_json::from_slice(&bytes).expect("json");
            assert_eq!(reply["choices"][0]["message"]["content"], content);
            assert_eq!(reply["choices"][0]["finish_reason"], reason);
            assert!(reply["freehold"]["notices"][0].as_str().expect("a notice").contains("repeated"));
        }
        let response = whole(heading(), said("la la", Finish::Loop), || None).await.expect("reply");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        let reply: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(reply["choices"][0]["message"]["content"], "la la");
        assert_eq!(
            (&reply["choices"][0]["finish_reason"], &reply["freehold"]["finish"]),
            (&"loop".into(), &"loop".into())
        );
    }

    #[test]
    fn a_second_try_is_drawn_otherwise() {
        let ask = Ask::new(
            base::AppId("test".into()),
            String::new(),
            vec![base::Message::new(base::Role::User, "go")],
            Sampling { temperature: 0.0, seed: Some(7), penalty_last_n: 0, ..Sampling::default() },
            vec![],
            base::Limits::default(),
        );
        let sampling = varied(ask.expect("valid")).sampling;
        assert!(sampling.temperature > 0.5 && sampling.repeat_penalty > 1.0 && sampling.penalty_last_n > 0);
        assert_eq!(sampling.seed, Some(8));
    }

    #[tokio::test]
    async fn a_whole_reply_that_fails_late_says_what_is_lost() {
        let deltas = vec![Ok(Delta::Text("abc".into())), Err(Fault::new(Code::WorkerDied, "it died"))];
        let refusal = whole(heading(), script(deltas), || None).await.expect_err("failed");
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
