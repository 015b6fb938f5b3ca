//! The routes of [`crate::route::TABLE`] and what answers them.

use crate::caller;
use crate::native;
use crate::openai::{chat, embed, models, rerank};
use crate::reply::{Refusal, json};
use crate::stop::Stop;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::http::{Method, Response, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Router, middleware};
use base::{Code, Fault};
use runtime::Runtime;
use serde::Serialize;

/// What handlers may use.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) runtime: Runtime,
    pub(crate) stop: Stop,
}

impl FromRef<App> for Runtime {
    fn from_ref(app: &App) -> Self {
        app.runtime.clone()
    }
}

pub(crate) fn router(runtime: Runtime, stop: Stop) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/embeddings", post(embed::embed))
        .route("/v1/rerank", post(rerank::rank))
        .route("/freehold/v1/hello", get(native::hello))
        .route("/freehold/v1/status", get(native::status))
        .route("/freehold/v1/models", get(native::models))
        .route("/freehold/v1/maps", get(native::maps))
        .route("/freehold/v1/doctor", get(native::doctor))
        .route("/freehold/v1/stop", post(native::stop))
        .route("/freehold/v1/models/add", post(native::add_model))
        .route("/freehold/v1/models/remove", post(native::remove_model))
        .route("/freehold/v1/models/default", post(native::default_model))
        .route("/freehold/v1/models/pin", post(native::pin_model))
        .route("/freehold/v1/pull", post(native::pull))
        .route("/freehold/v1/index", post(native::index))
        .route("/freehold/v1/maps/add", post(native::add_map))
        .route("/freehold/v1/maps/show", post(native::show_map))
        .route("/freehold/v1/maps/pause", post(native::pause_map))
        .route("/freehold/v1/maps/remove", post(native::remove_map))
        .route("/freehold/v1/maps/rebuild", post(native::rebuild_map))
        .route("/freehold/v1/maps/verify", post(native::verify_map))
        .route("/freehold/v1/forget", post(native::forget))
        .route("/freehold/v1/prompts/forget", post(native::forget_prompts))
        .route("/freehold/v1/search", post(native::search))
        .route("/freehold/v1/ask", post(native::ask))
        .route("/freehold/v1/chat", post(native::chat))
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(runtime.clone(), caller::keep))
        .with_state(App { runtime, stop })
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// Says that the daemon serves; loads and touches nothing.
async fn health(State(_): State<App>) -> Response<Body> {
    json(&Health { status: "ok", version: runtime::VERSION })
}

async fn other_method(method: Method, uri: Uri) -> Refusal {
    let fault = Fault::new(Code::NotFound, format!("`{}` can't be asked with {method}", uri.path()));
    let hint = if method == Method::POST { "ask with GET" } else { "ask with POST and a JSON body" };
    Refusal::from(fault.hint(hint)).status(StatusCode::METHOD_NOT_ALLOWED)
}
