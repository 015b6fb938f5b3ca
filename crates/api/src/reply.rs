//! Replies: JSON, and the one shape of a refusal.
//!
//! Every refusal of every route is `{"error": {message, type, param, code, fault}}`: the first
//! four as OpenAI's clients read them, `fault` as Freehold's own commands do.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use base::{Code, Fault};
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};

/// A client that is told to come back waits this long.
const RETRY_AFTER_SECONDS: u32 = 2;

/// A request that isn't done, and the parameter that is to blame.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) param: Option<String>,
    /// When the code's own status isn't the one that HTTP has a word for.
    status: Option<StatusCode>,
}

impl Refusal {
    pub(crate) fn of(fault: Fault, param: &str) -> Self {
        Self { fault, param: Some(param.to_string()), status: None }
    }

    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let param = param_of(&fault);
        Self { fault, param, status: None }
    }
}

/// `base` starts the sentence of an invalid parameter with its name in backticks.
fn param_of(fault: &Fault) -> Option<String> {
    match fault.code {
        Code::InvalidAsk => {
            let rest = fault.message.strip_prefix('`')?;
            rest.split_once('`').map(|(name, _)| name.to_string())
        }
        Code::ContextOverflow => Some("messages".into()),
        Code::ModelMissing | Code::ModelUnfit => Some("model".into()),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorObject<'a> {
    message: String,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
    fault: &'a Fault,
}

/// The body of a refusal; also the last line of a stream that failed in the middle.
pub(crate) fn error_body<'a>(fault: &'a Fault, param: Option<&'a str>) -> ErrorBody<'a> {
    let mut message = fault.to_string();
    // Clients of this dialect show the message alone, so what to do must stand in it.
    for hint in &fault.hints {
        message.push_str("; ");
        message.push_str(hint);
    }
    ErrorBody {
        error: ErrorObject { message, r#type: openai_type(fault.code), param, code: openai_code(fault.code), fault },
    }
}

fn openai_type(code: Code) -> &'static str {
    match code.http_status() {
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Clients match on these two; all other codes are Freehold's own.
fn openai_code(code: Code) -> &'static str {
    match code {
        Code::ContextOverflow => "context_length_exceeded",
        Code::ModelMissing => "model_not_found",
        other => other.as_str(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let code = self.fault.code;
        let status =
            self.status.or(StatusCode::from_u16(code.http_status()).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(&error_body(&self.fault, self.param.as_deref()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // Client libraries repeat every 5xx unless told not to; a prompt that was refused for
        // good shouldn't be worked through three times.
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::CONFLICT {
            let word = if code.may_retry() { "true" } else { "false" };
            headers.insert("x-should-retry", HeaderValue::from_static(word));
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// A JSON reply.
pub(crate) fn json<T: Serialize>(value: &T) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_else(|error| {
        // Our own types always serialize; a map with keys that aren't strings would be a defect.
        tracing::error!(%error, "reply can't be written as JSON");
        b"{\"error\":{\"message\":\"reply can't be written as JSON\",\"code\":\"internal\"}}".to_vec()
    });
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An id nobody can guess, from the keys that the standard library draws for its hash maps.
pub(crate) fn fresh_id(prefix: &str) -> String {
    let draw = || RandomState::new().hash_one(prefix);
    format!("{prefix}{:016x}{:08x}", draw(), draw() as u32)
}

/// Seconds since 1970, as this dialect counts.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_becomes_a_reply_that_names_it() {
        for code in Code::ALL {
            let fault = Fault::new(*code, "it went wrong").hint("do this");
            let response = Refusal::from(fault.clone()).into_response();
            assert_eq!(response.status().as_u16(), code.http_status());
            let body = serde_json::to_value(error_body(&fault, None)).expect("json");
            assert_eq!(body["error"]["fault"]["code"], code.as_str());
            assert_eq!(body["error"]["message"], "it went wrong; do this");
        }
    }

    #[test]
    fn a_busy_daemon_says_when_to_come_back() {
        for code in [Code::Busy, Code::DaemonUnreachable] {
            let response = Refusal::from(Fault::new(code, "full")).into_response();
            assert!(response.headers().contains_key(header::RETRY_AFTER), "{code:?}");
            assert_eq!(response.headers()["x-should-retry"], "true");
        }
        let response = Refusal::from(Fault::new(Code::ModelLoadFailed, "no")).into_response();
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn the_parameter_to_blame_is_found() {
        let refusal = Refusal::from(Fault::new(Code::InvalidAsk, "`top_p` is 7"));
        assert_eq!(refusal.param.as_deref(), Some("top_p"));
        let body = Fault::new(Code::ContextOverflow, "9000 of 4096");
        let body = serde_json::to_value(error_body(&body, Some("messages"))).expect("json");
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}
