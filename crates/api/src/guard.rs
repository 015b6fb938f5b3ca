//! The one check in front of every route, on both doors, before any work.
//!
//! A web page can make a browser call 127.0.0.1, and a name that a stranger controls can be
//! made to point there. Both give themselves away: the page by `Origin` or `Sec-Fetch-Site`, the
//! rebound name by `Host`. Pure, so that each refusal has its row in a test.

use crate::route::{Reach, reach_of};
use axum::http::{HeaderMap, Uri, header};
use base::{Code, Fault};
use std::path::PathBuf;

/// The door that a connection came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// 127.0.0.1; the socket's path is told to those who should use it instead.
    Tcp { port: u16, socket: PathBuf },
    /// The Unix socket; the peer's user was checked when it connected.
    Socket,
}

/// Lets a request in, or says why not.
///
/// # Errors
/// [`Code::Forbidden`] for a foreign Host, any Origin, and a path of the owner's over TCP;
/// [`Code::NotFound`] for a path that isn't in the table.
pub fn admit(door: &Door, uri: &Uri, headers: &HeaderMap) -> Result<(), Fault> {
    host(door, uri, headers)?;
    origin(headers)?;
    let path = uri.path();
    match (reach_of(path), door) {
        (Some(Reach::Machine), _) | (Some(Reach::Owner), Door::Socket) => Ok(()),
        // The whole folder, so that an address which is tried tells nothing about what there is.
        (_, Door::Tcp { socket, .. }) if path.starts_with("/freehold/") => Err(Fault::new(
            Code::Forbidden,
            "this address is served on the Unix socket alone, for programs of its owner",
        )
        .hint(format!("call it there: `curl --unix-socket {} http://localhost{path}`", socket.display()))),
        (_, _) => Err(Fault::new(Code::NotFound, format!("there is nothing at `{path}`"))
            .hint("OpenAI's dialect is served under `/v1`: `/v1/chat/completions`, `/v1/embeddings`, `/v1/models`")),
    }
}

fn host(door: &Door, uri: &Uri, headers: &HeaderMap) -> Result<(), Fault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let first = hosts.next();
    let foreign = |name: &str| {
        let fault = Fault::new(Code::Forbidden, format!("the Host `{name}` is not this machine's own name"));
        match door {
            Door::Tcp { port, .. } => fault.hint(format!("use http://127.0.0.1:{port} or http://localhost:{port}")),
            Door::Socket => fault.hint("use `localhost` as the Host on the Unix socket"),
        }
    };
    if hosts.next().is_some() {
        return Err(Fault::new(Code::Forbidden, "the request has more than one Host").hint("send one Host header"));
    }
    let name = match first.map(|value| value.to_str()) {
        None => "",
        Some(Ok(name)) => name,
        Some(Err(_)) => return Err(foreign("(not readable)")),
    };
    if !own_name(door, name) {
        return Err(foreign(name));
    }
    // A request line may name a host too (`GET http://name/ HTTP/1.1`), and it counts before the header.
    match uri.authority() {
        Some(authority) if !own_name(door, authority.as_str()) => Err(foreign(authority.as_str())),
        _ => Ok(()),
    }
}

fn own_name(door: &Door, name: &str) -> bool {
    match door {
        Door::Socket => name.is_empty() || name == "localhost",
        Door::Tcp { port, .. } => {
            let bare = match name.strip_suffix(&format!(":{port}")) {
                Some(bare) => bare,
                // A browser leaves the port out when it is HTTP's own.
                None if *port == 80 => name,
                None => return false,
            };
            bare.eq_ignore_ascii_case("localhost") || bare == "127.0.0.1" || bare == "[::1]"
        }
    }
}

/// No web page has been granted anything, so each that calls is refused: `null`, our own
/// address and browser extensions included.
fn origin(headers: &HeaderMap) -> Result<(), Fault> {
    let refused = |who: &str| {
        Fault::new(Code::Forbidden, format!("a web page ({who}) may not call Freehold"))
            .hint("call it from a program on this machine, which sends no Origin header")
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        return Err(refused(&format!("Origin {}", origin.to_str().unwrap_or("not readable"))));
    }
    for site in headers.get_all("sec-fetch-site") {
        match site.to_str() {
            // `none`: a person typed the address.
            Ok("none" | "same-origin") => {}
            Ok(other) => return Err(refused(&format!("Sec-Fetch-Site {other}"))),
            Err(_) => return Err(refused("Sec-Fetch-Site not readable")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn check(door: &Door, uri: &str, pairs: &[(&'static str, &'static str)]) -> Result<(), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let uri: Uri = uri.parse().expect("uri");
        admit(door, &uri, &headers).map_err(|fault| {
            assert!(!fault.hints.is_empty(), "{fault:?} leaves the person alone");
            fault.code
        })
    }

    fn tcp(port: u16) -> Door {
        Door::Tcp { port, socket: "/run/freehold.sock".into() }
    }

    #[test]
    fn only_the_machines_own_names_are_let_in() {
        for host in ["localhost:7777", "LocalHost:7777", "127.0.0.1:7777", "[::1]:7777"] {
            assert_eq!(check(&tcp(7777), "/health", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "",
            "localhost",
            "127.0.0.1",
            "localhost:7778",
            "evil.example:7777",
            "0.0.0.0:7777",
            "127.0.0.1.evil:7777",
            "localhost.:7777",
            "a.localhost:7777",
            "127.0.0.2:7777",
            "127.1:7777",
            "2130706433:7777",
            "user@localhost:7777",
            "::1:7777",
            "localhost:07777",
            " localhost:7777",
            "[::ffff:127.0.0.1]:7777",
            "machine.local:7777",
        ] {
            assert_eq!(check(&tcp(7777), "/health", &[("host", host)]), Err(Code::Forbidden), "{host}");
        }
        assert_eq!(check(&tcp(7777), "/health", &[]), Err(Code::Forbidden));
        assert_eq!(check(&tcp(80), "/health", &[("host", "localhost")]), Ok(()));
    }

    #[test]
    fn two_hosts_or_a_foreign_request_line_are_refused() {
        let own = ("host", "localhost:7777");
        assert_eq!(check(&tcp(7777), "/health", &[own, own]), Err(Code::Forbidden));
        assert_eq!(check(&tcp(7777), "http://evil.example:7777/health", &[own]), Err(Code::Forbidden));
        assert_eq!(check(&tcp(7777), "http://localhost:7777/health", &[own]), Ok(()));
    }

    #[test]
    fn the_socket_takes_localhost_or_nothing() {
        assert_eq!(check(&Door::Socket, "/freehold/v1/hello", &[]), Ok(()));
        assert_eq!(check(&Door::Socket, "/freehold/v1/hello", &[("host", "localhost")]), Ok(()));
        assert_eq!(check(&Door::Socket, "/freehold/v1/hello", &[("host", "localhost:7777")]), Err(Code::Forbidden));
        assert_eq!(check(&Door::Socket, "/freehold/v1/hello", &[("host", "evil")]), Err(Code::Forbidden));
    }

    #[test]
    fn web_pages_are_refused_wherever_they_come_from() {
        let own = ("host", "127.0.0.1:7777");
        for page in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:7777"),
            ("origin", ""),
            ("origin", "chrome-extension://x"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "anything"),
        ] {
            for path in ["/health", "/v1/models", "/nothing"] {
                assert_eq!(check(&tcp(7777), path, &[own, page]), Err(Code::Forbidden), "{page:?} {path}");
            }
        }
        assert_eq!(check(&tcp(7777), "/health", &[own, ("sec-fetch-site", "none")]), Ok(()));
        // Node's fetch sends this one; it isn't a browser.
        assert_eq!(check(&tcp(7777), "/health", &[own, ("sec-fetch-mode", "cors")]), Ok(()));
    }

    #[test]
    fn what_is_the_owners_is_not_served_over_tcp() {
        let own = ("host", "127.0.0.1:7777");
        for path in ["/freehold/v1/ask", "/freehold/v1/stop", "/freehold/v1/hello", "/freehold/v9/unknown"] {
            assert_eq!(check(&tcp(7777), path, &[own]), Err(Code::Forbidden), "{path}");
        }
        assert_eq!(check(&tcp(7777), "/api/tags", &[own]), Err(Code::NotFound));
        assert_eq!(check(&Door::Socket, "/freehold/v9/unknown", &[]), Err(Code::NotFound));
    }
}
