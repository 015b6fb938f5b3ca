//! What may leave, decided from facts alone: no clock, no disk, no socket.

use base::{Code, Fault};
use std::fmt;
use std::path::PathBuf;

/// The destination of mirror pulls: whatever index the person's own package client is set to.
pub const PACKAGE_INDEX: &str = "package index";

/// What the person allows; `runtime` fills it from configuration and environment.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Nothing leaves, whoever asks.
    pub offline: bool,
    /// The hub's origin, `https://…`; `http://` only for this machine itself.
    pub hub: String,
    /// Sent to the hub's own origin and nowhere else, not even where the hub redirects to.
    pub hub_token: Option<Secret>,
    /// Whether the package index may be used when the hub can't be reached.
    pub mirror: bool,
    pub mirror_env: MirrorEnv,
    pub timeouts: Timeouts,
}

/// How the package client is found and told of the person's own registry settings.
#[derive(Debug, Clone, Default)]
pub struct MirrorEnv {
    /// `PIP_*`, proxy and certificate variables as they stand in the daemon's environment.
    pub vars: Vec<(String, String)>,
    /// The person's own settings file (`pip.conf`), read as it stands.
    pub config_file: Option<PathBuf>,
    /// The interpreter to try first; `None`: the usual places.
    pub python: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name lookup and connection, handshake included.
    pub connect_ms: u64,
    /// From the request's last byte to the reply's headers.
    pub answer_ms: u64,
    /// The longest silence within a body.
    pub stall_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 10_000, answer_ms: 30_000, stall_ms: 30_000 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            offline: false,
            hub: "https://huggingface.co".to_owned(),
            hub_token: None,
            mirror: true,
            mirror_env: MirrorEnv::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Policy {
    /// Refuses settings that could only fail later.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        Origin::of(&self.hub).map(|_| ()).map_err(|fault| {
            Fault::new(Code::ConfigInvalid, format!("the hub's address `{}` can't be used", self.hub))
                .cause(fault)
                .hint("set `hub = \"https://huggingface.co\"` in config.toml, or leave it out")
        })
    }
}

/// A value that never prints itself.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Scheme, host and port of an address that may be used at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: &'static str,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses an address: `https` anywhere, `http` to this machine alone, never a user name in it.
    pub fn of(url: &str) -> Result<Self, Fault> {
        let refuse = |why: &str| {
            Fault::new(Code::InvalidAsk, format!("`{}` can't be fetched: {why}", shown(url)))
                .hint("only https addresses are used, or http on 127.0.0.1")
        };
        let uri: ureq::http::Uri = url.parse().map_err(|_| refuse("it isn't an address"))?;
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it holds a user name"));
        }
        let host = authority.host().to_ascii_lowercase();
        let (scheme, default_port) = match uri.scheme_str() {
            Some("https") => ("https", 443),
            Some("http") => ("http", 80),
            _ => return Err(refuse("its scheme isn't https")),
        };
        let origin = Self { scheme, host, port: authority.port_u16().unwrap_or(default_port) };
        if origin.host.is_empty() {
            return Err(refuse("it names no host"));
        }
        if scheme == "http" && !origin.is_loopback() {
            return Err(refuse("http sends everything in the clear"));
        }
        Ok(origin)
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether a reply from `self` may send the request on to `to`: never from the outside to this machine.
    pub(crate) fn may_redirect_to(&self, to: &Origin) -> bool {
        self.is_loopback() || !to.is_loopback()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme, self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// An address without its query, which may hold a signature, and no longer than a line.
pub(crate) fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_origins() {
        for (url, want) in [
            ("https://huggingface.co", Some("https://huggingface.co")),
            ("https://Hub.Example:8443/a?b", Some("https://hub.example:8443")),
            ("http://127.0.0.1:9000/x", Some("http://127.0.0.1:9000")),
            ("http://[::1]:9000/x", Some("http://[::1]:9000")),
            ("http://localhost", Some("http://localhost")),
            ("http://huggingface.co", None),
            ("http://127.0.0.1.evil.example/", None),
            ("https://user@huggingface.co", None),
            ("https://token:x@huggingface.co/", None),
            ("ftp://huggingface.co", None),
            ("file:///etc/passwd", None),
            ("huggingface.co", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(Origin::of(url).ok().map(|o| o.to_string()).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn the_outside_never_redirects_inward() {
        let origin = |url| Origin::of(url).unwrap();
        assert!(!origin("https://a.example").may_redirect_to(&origin("http://127.0.0.1:7777")));
        assert!(!origin("https://a.example").may_redirect_to(&origin("https://localhost")));
        assert!(origin("https://a.example").may_redirect_to(&origin("https://b.example")));
        assert!(origin("http://127.0.0.1:1").may_redirect_to(&origin("http://127.0.0.1:2")));
    }

    #[test]
    fn a_secret_and_a_signature_never_print() {
        let policy = Policy { hub_token: Some(Secret::new("hf_verysecret".into())), ..Policy::default() };
        assert!(!format!("{policy:?}").contains("verysecret"));
        assert_eq!(shown("https://a.example/b?X-Signature=s3cret"), "https://a.example/b");
    }
}
