//! A hub that speaks the real one's protocol, and misbehaves as a test likes.

use crate::server::{Seen, Server, reply};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// How a file is served.
pub(crate) enum Way {
    Well,
    /// Through a redirect to another path, as large files are.
    Moved,
    /// Hangs up after so many bytes of each of the first so many requests.
    Cut {
        after: usize,
        times: usize,
    },
    /// Sends so many bytes, then nothing, until the test lets go of `hold`.
    Stall {
        after: usize,
        hold: Mutex<mpsc::Receiver<()>>,
    },
    /// Answers with this status.
    Refuse(&'static str),
    /// Busy for the first so many requests.
    Busy {
        times: usize,
    },
    /// Ignores ranges.
    NoRanges {
        cut_after: usize,
    },
    /// Says it is longer than it is.
    Longer,
}

pub(crate) struct HubFile {
    pub path: &'static str,
    pub bytes: Vec<u8>,
    pub way: Way,
    /// What the listing promises, when it lies.
    pub promised: Option<(String, u64)>,
}

impl HubFile {
    pub(crate) fn new(path: &'static str, bytes: Vec<u8>, way: Way) -> Self {
        Self { path, bytes, way, promised: None }
    }

    fn listed(&self) -> serde_json::Value {
        let (oid, size) = self.promised.clone().unwrap_or_else(|| (sha256(&self.bytes), self.bytes.len() as u64));
        serde_json::json!({ "type": "file", "path": self.path, "oid": "0a".repeat(20), "size": size,
            "lfs": { "oid": oid, "size": size, "pointerSize": 134 } })
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves `owner/tiny-GGUF` with these files, listed over two pages.
pub(crate) fn start(files: Vec<HubFile>) -> Server {
    let about = serde_json::json!({ "id": "owner/tiny-GGUF", "sha": COMMIT, "tags": ["gguf"],
        "cardData": { "license": "apache-2.0" }, "siblings": [] });
    let mut listed: Vec<_> = files.iter().map(HubFile::listed).collect();
    let rest = listed.split_off(1);
    listed.push(serde_json::json!({ "type": "directory", "path": "images", "oid": "x", "size": 0 }));
    let counts: HashMap<_, _> = files.iter().map(|file| (file.path, AtomicUsize::new(0))).collect();
    let files = Arc::new(files);
    Server::start(move |seen, stream| {
        let api = "/api/models/owner/tiny-GGUF";
        let tree = format!("{api}/tree/{COMMIT}?recursive=true");
        let json = "Content-Type: application/json\r\n";
        if seen.path == api {
            return reply(stream, "200 OK", json, about.to_string().as_bytes());
        }
        if seen.path == tree {
            let host = seen.header("host").unwrap_or_default();
            let next = format!("{json}Link: <http://{host}{tree}&cursor=2>; rel=\"next\"\r\n");
            return reply(stream, "200 OK", &next, serde_json::json!(listed).to_string().as_bytes());
        }
        if seen.path == format!("{tree}&cursor=2") {
            return reply(stream, "200 OK", json, serde_json::json!(rest).to_string().as_bytes());
        }
        let resolve = format!("/owner/tiny-GGUF/resolve/{COMMIT}/");
        let name = seen.path.strip_prefix(&resolve).or_else(|| seen.path.strip_prefix("/cdn/"));
        match name.and_then(|name| files.iter().find(|file| file.path == name)) {
            Some(file) => serve(file, counts[file.path].fetch_add(1, Ordering::Relaxed), seen, stream),
            None => reply(stream, "404 Not Found", "", b"{\"error\":\"Repository not found\"}"),
        }
    })
}

fn serve(file: &HubFile, before: usize, seen: &Seen, stream: &mut TcpStream) {
    let whole = file.bytes.len();
    let from = seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.unwrap_or(0).min(whole);
    let head = |from: usize, length: usize| {
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{}\"\r\n\
             Content-Range: bytes {from}-{}/{whole}\r\n\r\n",
            sha256(&file.bytes),
            whole.saturating_sub(1)
        )
    };
    let mut send = |from: usize, to: usize, length: usize| {
        let _ = stream.write_all(head(from, length).as_bytes());
        let _ = stream.write_all(&file.bytes[from..to.clamp(from, whole)]);
        let _ = stream.flush();
    };
    match &file.way {
        Way::Moved if seen.path.starts_with("/owner") => {
            reply(stream, "302 Found", &format!("Location: /cdn/{}\r\n", file.path), b"");
        }
        Way::Cut { after, times } if before < *times => send(from, from + after, whole - from),
        Way::Stall { after, hold } if before == 0 => {
            send(from, from + after, whole - from);
            let _ = hold.lock().expect("one request at a time").recv();
        }
        Way::Refuse(status) => reply(stream, status, "", b"{\"error\":\"no\"}"),
        Way::Busy { times } if before < *times => reply(stream, "503 Service Unavailable", "Retry-After: 0\r\n", b""),
        Way::NoRanges { cut_after } if before == 0 => send(0, *cut_after, whole),
        Way::NoRanges { .. } => send(0, whole, whole),
        Way::Longer => send(from, whole, whole - from + 5),
        Way::Well | Way::Moved | Way::Cut { .. } | Way::Busy { .. } | Way::Stall { .. } => {
            send(from, whole, whole - from)
        }
    }
}
