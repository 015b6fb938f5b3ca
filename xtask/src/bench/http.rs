//! The smallest client that can measure an HTTP reply: one request, lines with the time they came.
//!
//! Nothing stands between the socket and the clock, so what is measured is what a client would see.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const READ_SECONDS_MAX: u64 = 300;

/// One line of a streamed reply.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// A streamed reply: when its request was sent, and its lines.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) sent: Instant,
    pub(crate) lines: Vec<Line>,
}

/// Posts JSON to `http://127.0.0.1:PORT` and reads the reply to its end.
///
/// # Errors
/// When the daemon can't be reached or answers with another status than 200.
pub(crate) fn post(address: &str, path: &str, body: &Value) -> Result<Reply> {
    let authority = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).with_context(|| format!("can't reach the daemon at {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(READ_SECONDS_MAX)))?;
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let sent = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (status, chunked) = head(&mut reader)?;
    let lines = if chunked { lines(BufReader::new(Chunked::new(reader)))? } else { lines(reader)? };
    if status != 200 {
        let said: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        bail!("{path} answered {status}: {}", said.join("\n"));
    }
    Ok(Reply { sent, lines })
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

fn lines(mut reader: impl BufRead) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    loop {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Ok(lines);
        }
        let at = Instant::now();
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            lines.push(Line { at, text });
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
        let got = lines(BufReader::new(Chunked::new(raw.as_bytes()))).expect("lines");
        let texts: Vec<&str> = got.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["data: one", "two"]);
        assert!(lines(BufReader::new(Chunked::new("5\r\nab".as_bytes()))).is_err(), "a cut reply is an error");
    }

    #[test]
    fn heads_are_read() {
        let mut raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbody".as_bytes();
        assert_eq!(head(&mut raw).expect("head"), (200, true));
        assert_eq!(raw, b"body");
        assert!(head(&mut "nonsense\r\n".as_bytes()).is_err());
    }
}
