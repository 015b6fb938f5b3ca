//! Which program asks, as far as it says so.
//!
//! Programs of one person share the models, and each of them gets its turn. For that they are told apart by
//! a name that they give themselves: nothing is kept by it or shown for it, so a false one wins no more than
//! another place in the line.

use axum::http::{HeaderMap, header};
use base::AppId;

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
