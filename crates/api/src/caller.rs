//! Which program asks, as far as it says so.
//!
//! Programs of one person share the models, and each of them gets its turn. For that they are told apart by
//! a name that they give themselves. A program that has an entry in `config.toml` sees only the maps that the entry
//! names, and does only what needs no more. A name is no proof: with a false one, or none, a program gets another
//! place in the line, or sees what any program of this user may.

use crate::reply::Refusal;
use crate::route;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, header};
use axum::middleware::Next;
use base::{AppId, Code, Fault};
use runtime::Runtime;

/// The header for a program's own name.
const HEADER: &str = "x-freehold-app";
/// So much of a name counts.
const NAME_CHARS_MAX: usize = 128;
/// Who says nothing at all.
const UNNAMED: &str = "openai-api";

/// The header `x-freehold-app`, else the body's `user`, else the `User-Agent`; the first that isn't empty.
pub(crate) fn app(headers: &HeaderMap, user: Option<&str>) -> AppId {
    let header = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let own = header(HEADER);
    let agent = header(header::USER_AGENT.as_str());
    let names = [own.as_deref(), user, agent.as_deref()].into_iter().flatten().map(str::trim);
    let name = names.filter(|name| !name.is_empty()).chain([UNNAMED]).next().unwrap_or(UNNAMED);
    AppId(name.chars().take(NAME_CHARS_MAX).collect())
}

/// Keeps programs that have an entry in `config.toml` to what is theirs: decided by the path alone, so that a refusal
/// says nothing of what there is.
pub(crate) async fn keep(
    State(runtime): State<Runtime>,
    request: Request<Body>,
    next: Next,
) -> Result<Response<Body>, Refusal> {
    let app = app(request.headers(), None);
    if runtime.sight_of(&app).is_limited() && !route::is_for_limited(request.uri().path()) {
        let fault = Fault::new(Code::Forbidden, format!("`{}` may search, ask and use models, and no more", app.0));
        return Err(Refusal::from(
            fault.hint("its entry under `[apps]` in config.toml says so; use `freehold` itself"),
        ));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_what_they_say() {
        let of = |own: Option<&str>, user: Option<&str>, agent: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(HEADER, own), ("user-agent", agent)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().expect("a header's value"));
                }
            }
            app(&headers, user).0
        };
        assert_eq!(of(Some("notes"), Some("u-1"), Some("curl/8")), "notes");
        assert_eq!(of(Some(" "), Some("u-1"), Some("curl/8")), "u-1");
        assert_eq!(of(None, None, Some("OpenAI/Python 2.1")), "OpenAI/Python 2.1");
        assert_eq!(of(None, Some(""), None), UNNAMED);
        assert_eq!(of(None, Some(&"ß".repeat(500)), None).chars().count(), NAME_CHARS_MAX);
    }
}
