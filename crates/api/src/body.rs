//! Reading a request's body whole, within bounds of bytes and time.

use crate::reply::Refusal;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use base::{Bytes, Code, Fault};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// No context window holds more text than this.
pub(crate) const BODY_BYTES_MAX: u64 = 32 << 20;
/// What is read and thrown away of a body that is too large, so that its sender hears the reply.
const DRAIN_BYTES_MAX: u64 = 512 << 20;
/// From the first to the last byte.
const BODY_TIMEOUT_MS: u64 = 60_000;

/// The body as a JSON object.
///
/// # Errors
/// [`Code::BodyTooLarge`] with both numbers; [`Code::InvalidAsk`] for another content type or no JSON.
pub(crate) async fn object(request: Request<Body>) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(&read(request).await?) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(bad(format!("the body is {}, not a JSON object", crate::field::kind(&other)))),
        Err(error) => Err(not_json(&error)),
    }
}

/// The body as one of Freehold's own shapes.
///
/// # Errors
/// As [`object`].
pub(crate) async fn shape<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Refusal> {
    serde_json::from_slice(&read(request).await?).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> Refusal {
    let what = if error.is_data() { "the body has another shape" } else { "the body is not JSON" };
    Refusal::from(Fault::new(Code::InvalidAsk, what).cause(error).hint("send one JSON object"))
}

fn bad(message: String) -> Refusal {
    Refusal::from(Fault::new(Code::InvalidAsk, message).hint("send one JSON object"))
}

async fn read(request: Request<Body>) -> Result<Vec<u8>, Refusal> {
    is_json(request.headers())?;
    let announced = length(request.headers());
    let may_wait = request.headers().contains_key(header::EXPECT);
    if may_wait && announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        // The sender asked before sending, so nothing needs to be read.
        return Err(too_large(announced));
    }
    let reading = collect(request.into_body(), announced);
    tokio::time::timeout(Duration::from_millis(BODY_TIMEOUT_MS), reading).await.unwrap_or_else(|_| {
        let fault = Fault::new(Code::DeadlineExceeded, format!("the body didn't arrive within {BODY_TIMEOUT_MS} ms"))
            .hint("send it again");
        Err(Refusal::from(fault).status(StatusCode::REQUEST_TIMEOUT))
    })
}

async fn collect(mut body: Body, announced: Option<u64>) -> Result<Vec<u8>, Refusal> {
    let capacity = announced.unwrap_or(0).min(1 << 20);
    let mut bytes = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
    let mut seen: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::from(Fault::new(Code::InvalidAsk, "the body broke off").cause(error).hint("send it again"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        if seen > BODY_BYTES_MAX {
            bytes = Vec::new();
            if seen > DRAIN_BYTES_MAX {
                break;
            }
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > BODY_BYTES_MAX { Err(too_large(announced.or(Some(seen)))) } else { Ok(bytes) }
}

fn too_large(found: Option<u64>) -> Refusal {
    let found = found.map_or_else(String::new, |bytes| format!("{bytes} bytes ({})", Bytes(bytes)));
    let most = format!("{BODY_BYTES_MAX} bytes ({})", Bytes(BODY_BYTES_MAX));
    Refusal::from(
        Fault::new(Code::BodyTooLarge, format!("the body has {found}; at most {most} are read"))
            .hint("send less text, or put it into a file and index it: `freehold index FOLDER`"),
    )
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A form on a web page can send anything but this type without being asked first.
fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let found = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not readable"));
    let essence = found.unwrap_or("").split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = match found {
        None => "the request has no Content-Type".to_string(),
        Some(other) => format!("the Content-Type is `{other}`"),
    };
    let fault =
        Fault::new(Code::InvalidAsk, message).hint("send JSON and say so: `-H 'Content-Type: application/json'`");
    Err(Refusal::from(fault).status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn request(content_type: Option<&str>, body: Body) -> Request<Body> {
        let mut builder = Request::builder().method("POST").uri("/v1/embeddings");
        if let Some(content_type) = content_type {
            builder = builder.header("content-type", content_type);
        }
        builder.body(body).expect("request")
    }

    #[tokio::test]
    async fn json_is_asked_for_by_name() {
        let json = || Body::from("{\"a\":1}");
        for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            let object = object(request(Some(content_type), json())).await.expect(content_type);
            assert_eq!(object["a"], 1);
        }
        for content_type in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("text/plain;application/json")]
        {
            let refusal = object(request(content_type, json())).await.expect_err("refused");
            assert_eq!(refusal.fault.code, Code::InvalidAsk);
            assert!(refusal.fault.hints[0].contains("application/json"));
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_with_both_numbers() {
        let piece = axum::body::Bytes::from(vec![b' '; 1 << 20]);
        let pieces = stream::iter((0..33).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        let refusal = object(request(Some("application/json"), Body::from_stream(pieces))).await.expect_err("refused");
        assert_eq!(refusal.fault.code, Code::BodyTooLarge);
        for number in [(33_u64 << 20).to_string(), BODY_BYTES_MAX.to_string()] {
            assert!(refusal.fault.message.contains(&number), "{}", refusal.fault.message);
        }
    }

    #[tokio::test]
    async fn what_is_no_object_is_named() {
        for (body, word) in [("[1]", "an array"), ("", "not JSON"), ("{\"a\":", "not JSON"), ("nul", "not JSON")] {
            let refusal = object(request(Some("application/json"), Body::from(body))).await.expect_err("refused");
            assert!(refusal.fault.message.contains(word), "{body}: {}", refusal.fault.message);
        }
    }
}
