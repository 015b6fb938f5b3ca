//! One GET at a time, over https, with a ledger entry for every host that is asked.
//!
//! Redirects are followed here and not in the HTTP client, so that each hop is checked, recorded and
//! counted by itself, and so that a credential stays with the host that it was made for.

use crate::Gateway;
use crate::consent::{Destination, Pass};
use crate::ledger::Ledger;
use crate::policy::{Origin, shown};
use crate::transport::{Counter, Counts};
use base::{Code, Fault};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, Timeout};

const REDIRECTS_MAX: u32 = 5;
const URL_BYTES_MAX: usize = 8 << 10;
const NO_ADDRESS: &str = "its name leads to no address (is there a network?)";
const USER_AGENT: &str = concat!("freehold/", env!("CARGO_PKG_VERSION"));

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    pub url: &'a str,
    /// Bytes that are already here; 0 asks for the whole.
    pub range_from: u64,
    /// The mark of the version that those bytes are of: another version comes whole.
    pub if_range: Option<&'a str>,
    /// Noticed within a fraction of a second, also while the far side is silent.
    pub cancel: &'a Arc<AtomicBool>,
}

/// A reply whose body is still on its way. Dropping it hangs up and closes the ledger entry.
pub struct Download {
    status: u16,
    headers: HeaderMap,
    content_length: Option<u64>,
    body: Box<dyn Read + Send>,
    stall_ms: u64,
    crossing: Crossing,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Download {
    /// Any status but a redirect: the caller knows what a 404 means where it asked.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of this body, where the far side said so.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A strong mark of this version; a weak one can't vouch for bytes.
    pub fn etag(&self) -> Option<&str> {
        self.header("etag").filter(|mark| mark.starts_with('"') && mark.len() <= 256)
    }

    /// First byte and whole size of a partial reply: `Content-Range: bytes 5-9/10` is `(5, Some(10))`.
    pub fn content_range(&self) -> Option<(u64, Option<u64>)> {
        let (range, whole) = self.header("content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let first = range.split_once('-')?.0.trim().parse().ok()?;
        Some((first, whole.trim().parse().ok()))
    }

    /// The whole body as text, refused when it is longer than `bytes_max`.
    pub fn read_text(&mut self, bytes_max: u64) -> io::Result<String> {
        let mut text = Vec::new();
        self.by_ref().take(bytes_max + 1).read_to_end(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("the reply is longer than {bytes_max} bytes")));
        }
        String::from_utf8(text).map_err(|_| io::Error::other("the reply isn't UTF-8"))
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result =
            self.body.read(buffer).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(ureq::Error::Timeout(_)) => {
                    io::Error::new(io::ErrorKind::TimedOut, format!("silent for {} ms", self.stall_ms))
                }
                _ => error,
            });
        match &result {
            Ok(0) if !buffer.is_empty() => self.crossing.outcome = "done".to_owned(),
            Ok(_) => {}
            Err(error) => self.crossing.outcome = error.to_string(),
        }
        result
    }
}

/// An open ledger entry; it closes itself with the counts when it goes.
struct Crossing {
    ledger: Arc<Ledger>,
    id: u64,
    counts: Arc<Counts>,
    outcome: String,
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.ledger.end(self.id, Some(self.counts.sent()), self.counts.received(), &self.outcome);
    }
}

impl Gateway {
    /// Asks for `request.url`, which must lie at the destination of `pass`. Returns at the first byte of the body.
    pub fn get(&self, pass: &Pass, request: &Request<'_>) -> Result<Download, Fault> {
        let first = Origin::of(request.url)?;
        if !pass.covers(&Destination::Origin(first.clone())) {
            return Err(Fault::new(Code::ConsentNeeded, format!("nobody agreed to ask `{first}`")));
        }
        let hub = Origin::of(&self.policy.hub)?;
        let mut url = request.url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let origin = Origin::of(&url)?;
            if !first.may_redirect_to(&origin) {
                return Err(failed(&origin, "it sent the request on to this machine itself"));
            }
            // A credential goes to the host that it was made for, never along a redirect.
            let token = self.policy.hub_token.as_ref().filter(|_| origin == hub && origin == first);
            let download = self.hop(pass, &origin, &url, request, token.map(|token| token.reveal()))?;
            if !matches!(download.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(download);
            }
            let Some(location) = download.header(LOCATION.as_str()) else {
                return Err(failed(&origin, "it sent the request on without saying where"));
            };
            url = join(&origin, &url, location);
        }
        Err(failed(&first, &format!("it sent the request on more than {REDIRECTS_MAX} times")))
    }

    fn hop(
        &self,
        pass: &Pass,
        origin: &Origin,
        url: &str,
        request: &Request<'_>,
        token: Option<&str>,
    ) -> Result<Download, Fault> {
        if url.len() > URL_BYTES_MAX {
            return Err(failed(origin, &format!("an address is longer than {URL_BYTES_MAX} bytes")));
        }
        let uri: Uri = url.parse().map_err(|_| failed(origin, "an address can't be read"))?;
        let counts = Arc::new(Counts::default());
        let agent = self.agent(&counts, request.cancel);
        let mut call = agent.get(uri).header(ACCEPT_ENCODING, "identity");
        if request.range_from > 0 {
            call = call.header(RANGE, format!("bytes={}-", request.range_from));
            if let Some(mark) = request.if_range {
                call = call.header(IF_RANGE, mark);
            }
        }
        if let Some(token) = token {
            call = call.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        // INVARIANT: the entry is on disk before the first byte; without it nothing is sent.
        let what = format!("GET {}", shown(url).strip_prefix(&origin.to_string()).unwrap_or("/"));
        let id = self.ledger.begin(pass, &origin.to_string(), &what, "https")?;
        let mut crossing = Crossing { ledger: Arc::clone(&self.ledger), id, counts, outcome: "cut".to_owned() };
        match call.call() {
            Ok(response) => Ok(download(response, self.policy.timeouts.stall_ms, crossing)),
            Err(error) => {
                let fault = self.fault(origin, &error, request.cancel.load(Ordering::Relaxed));
                crossing.outcome = fault.to_string();
                Err(fault)
            }
        }
    }

    /// One client per hop: its counts are this crossing's alone, and no connection outlives it.
    fn agent(&self, counts: &Arc<Counts>, cancel: &Arc<AtomicBool>) -> Agent {
        let timeouts = self.policy.timeouts;
        let limit = |ms| Some(Duration::from_millis(ms));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(USER_AGENT)
            .timeout_resolve(limit(timeouts.connect_ms))
            .timeout_connect(limit(timeouts.connect_ms))
            .timeout_recv_response(limit(timeouts.answer_ms))
            .timeout_per_read(limit(timeouts.stall_ms))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let connector =
            ().chain(TcpConnector::default())
                .chain(Counter { counts: Arc::clone(counts), cancel: Arc::clone(cancel) })
                .chain(RustlsConnector::default());
        Agent::with_parts(config, connector, DefaultResolver::default())
    }

    fn fault(&self, origin: &Origin, error: &ureq::Error, cancelled: bool) -> Fault {
        if cancelled {
            return Fault::new(Code::Cancelled, format!("the request to `{origin}` was cancelled"));
        }
        let timeouts = self.policy.timeouts;
        let why = match error {
            ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Resolve) => NO_ADDRESS.to_owned(),
            // The system's own words for the same thing, which carry no kind.
            ureq::Error::Io(error) if error.to_string().contains("lookup address") => NO_ADDRESS.to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(Timeout::Connect) => format!("no connection within {} ms", timeouts.connect_ms),
            ureq::Error::Timeout(Timeout::RecvResponse) => format!("no answer within {} ms", timeouts.answer_ms),
            ureq::Error::Timeout(_) => format!("silent for {} ms", timeouts.stall_ms),
            other => other.to_string(),
        };
        failed(origin, &why).hint("check the network, then run the same command again: what has come stays")
    }
}

fn download(response: Response<Body>, stall_ms: u64, crossing: Crossing) -> Download {
    let (parts, body) = response.into_parts();
    let content_length = body.content_length();
    Download {
        status: parts.status.as_u16(),
        headers: parts.headers,
        content_length,
        body: Box::new(body.into_reader()),
        stall_ms,
        crossing,
    }
}

fn failed(origin: &Origin, why: &str) -> Fault {
    Fault::new(Code::DownloadFailed, format!("`{origin}` can't be used: {why}"))
}

/// An absolute address for a redirect's target, which may be a path alone.
fn join(origin: &Origin, from: &str, location: &str) -> String {
    if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("https://{rest}")
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let folder = shown(from).rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned());
        format!("{folder}/{location}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_to_where_they_came_from() {
        let from = "https://a.example/b/c?x=1";
        let origin = Origin::of(from).unwrap();
        for (location, want) in [
            ("https://b.example/d?sig=1", "https://b.example/d?sig=1"),
            ("/d/e?sig=1", "https://a.example/d/e?sig=1"),
            ("//c.example/f", "https://c.example/f"),
            ("d", "https://a.example/b/d"),
        ] {
            assert_eq!(join(&origin, from, location), want);
        }
    }
}
