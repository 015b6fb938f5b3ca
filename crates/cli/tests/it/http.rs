//! HTTP by hand: tests say exactly which bytes go out and see exactly which come back.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Nothing here takes this long; a test that hangs should say where.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("utf-8")
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_string()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test is a client on the same machine")]
pub(crate) fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

pub(crate) fn unix(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

/// A request with its head in full: `headers` are all there are, but for the length of the body.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A well-meant POST of JSON over TCP.
pub(crate) fn post(port: u16, path: &str, body: &Value) -> Reply {
    let host = format!("127.0.0.1:{port}");
    let headers = [("host", host.as_str()), ("content-type", "application/json"), ("connection", "close")];
    exchange(tcp(port), &request("POST", path, &headers, &body.to_string()))
}

pub(crate) fn get(port: u16, path: &str) -> Reply {
    let host = format!("127.0.0.1:{port}");
    exchange(tcp(port), &request("GET", path, &[("host", &host), ("connection", "close")], ""))
}

/// Sends bytes and reads one whole reply.
pub(crate) fn exchange<S: Read + Write>(mut stream: S, bytes: &[u8]) -> Reply {
    stream.write_all(bytes).expect("send");
    read_reply(&mut BufReader::new(stream))
}

/// One connection that carries many requests.
pub(crate) struct Line<S>(BufReader<S>);

impl<S: Read + Write> Line<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Reply {
        self.0.get_mut().write_all(bytes).expect("send");
        read_reply(&mut self.0)
    }
}

/// Reads the head of a reply, so that its body can be read as it comes.
pub(crate) fn read_head<R: BufRead>(reader: &mut R) -> Reply {
    let mut line = String::new();
    reader.read_line(&mut line).expect("status line");
    let status =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_string()));
    }
    Reply { status, headers, body: Vec::new() }
}

/// One piece of a chunked body; empty at its end.
pub(crate) fn read_chunk<R: BufRead>(reader: &mut R) -> Vec<u8> {
    let mut line = String::new();
    reader.read_line(&mut line).expect("chunk size");
    let size = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).expect("chunk");
    bytes.truncate(size);
    bytes
}

fn read_reply<R: BufRead>(reader: &mut R) -> Reply {
    let mut reply = read_head(reader);
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let chunk = read_chunk(reader);
            if chunk.is_empty() {
                return reply;
            }
            reply.body.extend(chunk);
        }
    }
    let length = reply.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reply.body = vec![0; length];
    reader.read_exact(&mut reply.body).expect("body");
    reply
}

/// The events of an SSE body: the JSON of each `data:` line, `[DONE]` as a string.
pub(crate) fn events(body: &str) -> Vec<Value> {
    body.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
        .collect()
}
