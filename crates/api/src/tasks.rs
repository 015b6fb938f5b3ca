//! `POST /v1/tasks/NAME`: the standard calls, one text at a time.
//!
//! The body holds the task's options beside `model`, `priority` and `stream`. The reply is one object; with
//! `"stream": true` it is NDJSON, one event per line and the outcome last, as in Freehold's own routes.

use crate::body;
use crate::caller;
use crate::native::lines;
use crate::reply::{Refusal, json};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use base::{Code, Fault, Priority};
use runtime::view::TaskEvent;
use runtime::{EventStream, Runtime, Task, TaskCall};
use serde_json::{Map, Value};

/// What stands before a task's name.
const PREFIX: &str = "/v1/tasks/";

pub(crate) async fn run(State(runtime): State<Runtime>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let app = caller::app(request.headers(), None);
    let mut options = body::object(request).await?;
    let model =
        taken(&mut options, "model", "a string", |value| value.as_str().map(str::to_owned))?.unwrap_or_default();
    let stream = taken(&mut options, "stream", "true or false", Value::as_bool)?.unwrap_or(false);
    let priority = taken(&mut options, "priority", "\"interactive\" or \"batch\"", |value| match value.as_str() {
        Some("interactive") => Some(Priority::Interactive),
        Some("batch") => Some(Priority::Batch),
        _ => None,
    })?;
    let task = Task::parse(&name, options)?;
    let events = runtime.run_task(TaskCall { task, app, model, priority: priority.unwrap_or_default() });
    if stream { Ok(lines(events)) } else { whole(events).await }
}

/// One of the options that all tasks have.
fn taken<T>(
    options: &mut Map<String, Value>,
    name: &str,
    kind: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    match options.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match read(&value) {
            Some(read) => Ok(Some(read)),
            None => {
                let fault = Fault::new(Code::InvalidAsk, format!("`{name}` is {value}"));
                Err(Refusal::from(fault.hint(format!("send {kind}"))))
            }
        },
    }
}

async fn whole(mut events: EventStream<TaskEvent>) -> Result<Response<Body>, Refusal> {
    while let Some(event) = events.next().await {
        match event {
            TaskEvent::Done(reply) => return Ok(json(&reply)),
            TaskEvent::Failed(fault) => return Err(fault.into()),
            TaskEvent::Progress(_) | TaskEvent::Plan(_) | TaskEvent::Parts { .. } | TaskEvent::Text(_) => {}
        }
    }
    Err(Refusal::from(Fault::new(Code::Internal, "the task ended without its last word")))
}
