//! The smallest client that can measure an HTTP reply: one request, lines with the time they came.
//!
//! Nothing stands between the socket and the clock, so what is measured is what a client would see.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A large model works for minutes on a long prompt before its first word.
const READ_SECONDS_MAX: u64 = 1200;

/// One line of a streamed reply.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// A streamed reply: when its request was sent, its status and its lines.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) sent: Instant,
    pub(crate) status: u16,
    pub(crate) lines: Vec<Line>,
}

impl Reply {
    /// The body as it came, but for the times.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
        lines.join("\n")
    }
}

/// What a client wants after a line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Read,
    /// Close the connection, as a person does who has seen enough.
    Leave,
}

/// Posts JSON to `http://127.0.0.1:PORT` and reads the reply to its end.
///
/// # Errors
/// When the daemon can't be reached or answers with another status than 200.
pub(crate) fn post(address: &str, path: &str, body: &Value) -> Result<Reply> {
    let reply = call(address, path, &[], Some(body), &mut |_| Next::Read)?;
    if reply.status != 200 {
        bail!("{path} answered {}: {}", reply.status, reply.text());
    }
    Ok(reply)
}

/// One request, a POST where there is a body; `each` sees every line of the reply when it comes.
///
/// # Errors
/// When the other side can't be reached or doesn't speak HTTP to the end.
pub(crate) fn call(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
    each: &mut dyn FnMut(&Line) -> Next,
) -> Result<Reply> {
    let authority = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).with_context(|| format!("can't reach {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(READ_SECONDS_MAX)))?;
    let body = body.map(Value::to_string);
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = &body {
        request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(&body.unwrap_or_default());
    let sent = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (status, chunked) = head(&mut reader)?;
    let lines = if chunked { lines(BufReader::new(Chunked::new(reader)), each)? } else { lines(reader, each)? };
    Ok(Reply { sent, status, lines })
}

fn head(reader: &mut impl BufRead) -> Result<(u16, bool)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("that isn't HTTP")?;
    let mut chunked = false;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok((status, chunked));
        }
        let lower = line.to_lowercase();
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
    }
}

fn lines(mut reader: impl BufRead, each: &mut dyn FnMut(&Line) -> Next) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    loop {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Ok(lines);
        }
        let at = Instant::now();
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            continue;
        }
        let line = Line { at, text };
        let next = each(&line);
        lines.push(line);
        if next == Next::Leave {
            return Ok(lines);
        }
    }
}

/// The body of a chunked reply.
struct Chunked<R> {
    inner: R,
    left: usize,
    done: bool,
}

impl<R: BufRead> Chunked<R> {
    fn new(inner: R) -> Self {
        Self { inner, left: 0, done: false }
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !self.done {
            let mut line = String::new();
            self.inner.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
            self.done = self.left == 0;
        }
        if self.done {
            return Ok(0);
        }
        let most = buffer.len().min(self.left);
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        if self.left == 0 {
            let mut end = [0; 2];
            self.inner.read_exact(&mut end)?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_lines_cut() {
        let raw = "5\r\ndata:\r\n8;x=y\r\n one\n\ntw\r\n2\r\no\n\r\n0\r\n\r\n";
        let read = |raw: &str, next| lines(BufReader::new(Chunked::new(raw.as_bytes())), &mut |_| next);
        let got = read(raw, Next::Read).expect("lines");
        let texts: Vec<&str> = got.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["data: one", "two"]);
        assert!(read("5\r\nab", Next::Read).is_err(), "a cut reply is an error");
        assert_eq!(read(raw, Next::Leave).expect("lines").len(), 1, "who leaves reads no more");
    }

    #[test]
    fn heads_are_read() {
        let mut raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbody".as_bytes();
        assert_eq!(head(&mut raw).expect("head"), (200, true));
        assert_eq!(raw, b"body");
        assert!(head(&mut "nonsense\r\n".as_bytes()).is_err());
    }
}
