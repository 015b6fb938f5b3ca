//! `GET /v1/models` and `GET /v1/models/{id}`.

use crate::reply::{Refusal, json};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Response;
use base::{Code, Fault};
use runtime::Runtime;
use runtime::view::ModelRow;
use serde::Serialize;
use std::time::UNIX_EPOCH;

#[derive(Debug, Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// When the file was last changed, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// Tokens that one request could use now, whether the model is loaded or not.
    context_length: u32,
    freehold: Extra,
}

#[derive(Debug, Serialize)]
struct Extra {
    kind: String,
    arch: String,
    quantization: String,
    parameters: u64,
    license: String,
    /// What the model was trained for.
    context_max: u32,
    pinned: bool,
    loaded: bool,
    default: bool,
}

pub(crate) async fn list(State(runtime): State<Runtime>) -> Response<Body> {
    let data = runtime.models().into_iter().map(|row| model(&runtime, row)).collect();
    json(&List { object: "list", data })
}

pub(crate) async fn one(State(runtime): State<Runtime>, Path(id): Path<String>) -> Result<Response<Body>, Refusal> {
    let mut rows = runtime.models();
    match rows.iter().position(|row| row.name.eq_ignore_ascii_case(&id)) {
        Some(n) => Ok(json(&model(&runtime, rows.swap_remove(n)))),
        None => {
            let names: Vec<String> = rows.iter().map(|row| format!("`{}`", row.name)).collect();
            let there = if names.is_empty() {
                "there is none yet".to_string()
            } else {
                format!("there is {}", names.join(", "))
            };
            let fault = Fault::new(Code::ModelMissing, format!("there is no model `{id}`")).hint(there);
            Err(Refusal::from(fault.hint("get the starter models: `freehold pull starter`")))
        }
    }
}

fn model(runtime: &Runtime, row: ModelRow) -> Model {
    let loaded = runtime.is_loaded(&row.name);
    let changed = std::fs::metadata(&row.path).and_then(|meta| meta.modified()).ok();
    Model {
        created: changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs()),
        id: row.name,
        object: "model",
        owned_by: "freehold",
        context_length: row.context_tokens,
        freehold: Extra {
            kind: row.kind,
            arch: row.arch,
            quantization: row.quantization,
            parameters: row.parameters,
            license: row.license,
            context_max: row.context_max,
            pinned: row.pinned,
            loaded,
            default: row.default,
        },
    }
}
