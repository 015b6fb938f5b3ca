//! Freehold's own routes, for its own commands: plain calls answer with one JSON object,
//! long ones with NDJSON, one event per line and the outcome last.

use crate::body;
use crate::caller;
use crate::reply::{Refusal, json};
use crate::router::App;
use crate::stop::Watcher;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response, header};
use base::{Ask, Code, Delta, Fault, Label, Limits, Message, Overflow, Priority, Sampling};
use futures_util::stream;
use runtime::view::{Added, AskFilesRequest, MapSummary, ModelRow, SearchRequest, SkippedFile};
use runtime::{Answer, EventStream, Runtime, Sight};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// Body of `chat`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Empty: the default chat model.
    #[serde(default)]
    pub model: String,
    pub messages: Vec<Message>,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
    /// What to do with a conversation that doesn't fit the window.
    #[serde(default)]
    pub overflow: Overflow,
    #[serde(default)]
    pub priority: Priority,
}

/// One line of the stream that `chat` answers with; the last is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ChatEvent {
    Failed { failed: Fault },
    Delta(Delta),
}

/// Body of `pull`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullRequest {
    pub what: String,
}

/// Body of `index`: an absolute path, for the daemon has a working directory of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexRequest {
    pub folder: PathBuf,
}

/// Body of `maps/add`: absolute paths.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddMapRequest {
    pub name: String,
    #[serde(default)]
    pub sources: Vec<PathBuf>,
    /// `None`: as it is, or private for a new map.
    #[serde(default)]
    pub label: Option<Label>,
}

/// Body of `maps/pause`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PauseRequest {
    pub name: String,
    /// False goes on.
    pub paused: bool,
}

/// Body of `forget`: an absolute path, which need not exist any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForgetRequest {
    pub path: PathBuf,
}

/// Body of `prompts/forget`: of one app or all, of one model or all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForgetPromptsRequest {
    pub app: Option<String>,
    pub model: Option<String>,
}

/// Body of `models/add`: an absolute path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddRequest {
    pub path: PathBuf,
}

/// Body of `models/remove`, `models/default` and of the calls about one map.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NameRequest {
    pub name: String,
}

/// Body of `models/pin`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PinRequest {
    pub name: String,
    pub pinned: bool,
}

/// Reply of `models`, `models/add`, `models/remove` and `models/default`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Models {
    pub models: Vec<ModelRow>,
    /// What `models/add` left out of a folder, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<SkippedFile>,
}

impl Models {
    pub fn of(models: Vec<ModelRow>) -> Self {
        Self { models, refused: Vec::new() }
    }
}

/// Reply of `maps` and `maps/pause`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MapList {
    pub maps: Vec<MapSummary>,
}

/// First line of the reply of `stop`. The reply ends when the process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stopping {
    pub pid: u32,
    pub asks_running: u32,
}

type Reply = Result<Response<Body>, Refusal>;

/// What the program that asks may see of the maps.
fn sight(runtime: &Runtime, headers: &HeaderMap) -> Sight {
    runtime.sight_of(&caller::app(headers, None))
}

pub(crate) async fn hello(State(runtime): State<Runtime>, headers: HeaderMap) -> Response<Body> {
    let mut hello = runtime.hello();
    if sight(&runtime, &headers).is_limited() {
        // They name what other programs may see.
        hello.settings.clear();
    }
    json(&hello)
}

pub(crate) async fn status(State(runtime): State<Runtime>) -> Reply {
    Ok(json(&blocking(move || Ok(runtime.status())).await?))
}

pub(crate) async fn maps(State(runtime): State<Runtime>, headers: HeaderMap) -> Reply {
    let sight = sight(&runtime, &headers);
    Ok(json(&MapList { maps: blocking(move || Ok(runtime.maps(&sight))).await? }))
}

pub(crate) async fn doctor(State(runtime): State<Runtime>) -> Response<Body> {
    json(&runtime.doctor().await)
}

pub(crate) async fn models(State(runtime): State<Runtime>) -> Response<Body> {
    json(&Models::of(runtime.models()))
}

pub(crate) async fn add_model(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let AddRequest { path } = body::shape(request).await?;
    absolute(&path)?;
    // The header of each file is read: that waits for the disk.
    let Added { models, refused } = blocking(move || runtime.add_model(&path)).await?;
    Ok(json(&Models { models, refused }))
}

pub(crate) async fn remove_model(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(json(&Models::of(vec![blocking(move || runtime.remove_model(&name)).await?])))
}

pub(crate) async fn default_model(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(json(&Models::of(vec![blocking(move || runtime.set_default_model(&name)).await?])))
}

pub(crate) async fn pin_model(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let PinRequest { name, pinned } = body::shape(request).await?;
    Ok(json(&Models::of(vec![blocking(move || runtime.pin_model(&name, pinned)).await?])))
}

pub(crate) async fn pull(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let PullRequest { what } = body::shape(request).await?;
    Ok(lines(runtime.pull(what)))
}

pub(crate) async fn index(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let IndexRequest { folder } = body::shape(request).await?;
    absolute(&folder)?;
    Ok(lines(runtime.index(folder)))
}

pub(crate) async fn add_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let AddMapRequest { name, sources, label } = body::shape(request).await?;
    sources.iter().try_for_each(|source| absolute(source))?;
    Ok(lines(runtime.add_map(name, sources, label)))
}

pub(crate) async fn rebuild_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(lines(runtime.rebuild_map(name)))
}

pub(crate) async fn show_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(json(&blocking(move || runtime.show_map(&name)).await?))
}

pub(crate) async fn pause_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let PauseRequest { name, paused } = body::shape(request).await?;
    Ok(json(&MapList { maps: vec![blocking(move || runtime.pause_map(&name, paused)).await?] }))
}

pub(crate) async fn remove_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(json(&blocking(move || runtime.remove_map(&name)).await?))
}

pub(crate) async fn verify_map(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let NameRequest { name } = body::shape(request).await?;
    Ok(json(&blocking(move || runtime.verify_map(&name)).await?))
}

pub(crate) async fn forget(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let ForgetRequest { path } = body::shape(request).await?;
    absolute(&path)?;
    Ok(json(&blocking(move || runtime.forget(&path)).await?))
}

pub(crate) async fn forget_prompts(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let ForgetPromptsRequest { app, model } = body::shape(request).await?;
    Ok(json(&blocking(move || runtime.forget_prompts(app, model.as_deref())).await?))
}

pub(crate) async fn search(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let sight = sight(&runtime, request.headers());
    let search: SearchRequest = body::shape(request).await?;
    Ok(json(&runtime.search(search, sight).await?))
}

pub(crate) async fn ask(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let sight = sight(&runtime, request.headers());
    let ask: AskFilesRequest = body::shape(request).await?;
    Ok(lines(runtime.ask_files(ask, sight)))
}

pub(crate) async fn chat(State(runtime): State<Runtime>, request: Request<Body>) -> Reply {
    let ChatRequest { model, messages, sampling, stop, limits, overflow, priority } = body::shape(request).await?;
    let ask = Ask::new(runtime::own_app(), model, messages, sampling, stop, limits)?;
    Ok(chat_lines(runtime.chat(Ask { overflow, priority, ..ask })?))
}

/// Ends the daemon. The reply stays open until the process has gone, so that whoever asked can
/// wait for that without looking again and again.
pub(crate) async fn stop(State(app): State<App>) -> Response<Body> {
    let stopping = Stopping { pid: std::process::id(), asks_running: app.runtime.status().asks_running };
    let watcher = app.stop.watch();
    app.stop.ask_once();
    let first = line(&stopping);
    let events = stream::unfold((Some(first), watcher), |(first, watcher): (Option<Bytes>, Watcher)| async move {
        match first {
            Some(first) => Some((Ok::<_, Infallible>(first), (None, watcher))),
            None => std::future::pending().await,
        }
    });
    ndjson(Body::from_stream(events))
}

fn absolute(path: &Path) -> Result<(), Refusal> {
    if path.is_absolute() {
        return Ok(());
    }
    let fault = Fault::new(Code::InvalidAsk, format!("`{}` is not an absolute path", path.display()));
    Err(Refusal::from(fault.hint("send the path from the root: the daemon has a working directory of its own")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Fault::new(Code::Internal, "the work ended badly").cause(error))?
}

fn lines<T: Serialize + Send + 'static>(events: EventStream<T>) -> Response<Body> {
    let stream = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(line(&event)), events))
    });
    ndjson(Body::from_stream(stream))
}

fn chat_lines(answer: Answer) -> Response<Body> {
    let stream = stream::unfold(Some(answer), |answer| async move {
        let mut answer = answer?;
        let (event, rest) = match answer.next().await? {
            Ok(delta) => (ChatEvent::Delta(delta), Some(answer)),
            Err(failed) => (ChatEvent::Failed { failed }, None),
        };
        Some((Ok::<_, Infallible>(line(&event)), rest))
    });
    ndjson(Body::from_stream(stream))
}

fn line<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_else(|error| {
        // Our own types always serialize; an empty line is skipped by readers.
        tracing::error!(%error, "an event can't be written as JSON");
        Vec::new()
    });
    bytes.push(b'\n');
    Bytes::from(bytes)
}

fn ndjson(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Finish;

    #[test]
    fn chat_lines_are_told_apart_by_their_key() {
        for event in [
            ChatEvent::Delta(Delta::Text("x".into())),
            ChatEvent::Delta(Delta::Done(Finish::Length)),
            ChatEvent::Failed { failed: Fault::new(Code::WorkerDied, "it died") },
        ] {
            let text = line(&event);
            assert_eq!(serde_json::from_slice::<ChatEvent>(&text).expect("json"), event);
        }
        assert_eq!(line(&ChatEvent::Delta(Delta::Text("x".into()))), "{\"text\":\"x\"}\n");
    }

    #[test]
    fn the_least_chat_request_is_a_message() {
        let request: ChatRequest =
            serde_json::from_str(r#"{"messages":[{"role":"user","content":"hi"}]}"#).expect("json");
        assert_eq!((request.model.as_str(), request.sampling), ("", Sampling::default()));
    }
}
