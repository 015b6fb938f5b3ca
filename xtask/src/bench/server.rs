//! llama.cpp's own server on a free port, with the flags that a benchmark chooses.

use super::http::{self, Next};
use super::peer::Peer;
use crate::place;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A model of twenty gigabytes is read from a slow disk, and rearranged.
const START_SECONDS_MAX: u64 = 600;

/// How it is to serve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) threads: u32,
    pub(super) slots: u32,
    pub(super) context_tokens: u32,
}

impl Flags {
    /// What its documents offer for speed: one pool for all slots, continuous batching (its default),
    /// no page, no second look at the text; and nothing kept between requests.
    pub(super) fn words(self) -> Vec<String> {
        let plain = "--kv-unified --cache-ram 0 --no-cache-prompt --no-ui --no-slots --skip-chat-parsing --offline";
        let numbers = format!("-t {} -np {} -c {}", self.threads, self.slots, self.context_tokens);
        numbers.split(' ').chain(plain.split(' ')).map(str::to_string).collect()
    }
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(super) address: String,
}

impl Server {
    /// Starts the server and waits until the model is loaded.
    ///
    /// # Errors
    /// When it doesn't serve within its time; its log is named.
    pub(super) fn start(peer: &Peer, model: &Path, flags: Flags) -> Result<Self> {
        Self::start_with(peer, model, &flags.words())
    }

    /// The same with flags in their own words.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn start_with(peer: &Peer, model: &Path, flags: &[String]) -> Result<Self> {
        let logs = place::cache()?.join("logs");
        std::fs::create_dir_all(&logs)?;
        let log = logs.join("bench-llama-server.log");
        let out = File::create(&log)?;
        let port = free_port()?;
        let mut command = peer.command(&peer.server);
        command.arg("-m").arg(model).args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(flags);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut server = Self { child: spawn(&mut command)?, address: format!("http://127.0.0.1:{port}") };
        let start = Instant::now();
        while !server.is_ready() {
            if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) || server.child.try_wait()?.is_some() {
                bail!("llama.cpp's server doesn't serve; its log: {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        http::call(&self.address, "/health", &[], None, &mut |_| Next::Read).is_ok_and(|reply| reply.status == 200)
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("can't run `{name}`"))
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("no free port")?.local_addr()?.port())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_words_of_their_own() {
        let words = Flags { threads: 2, slots: 8, context_tokens: 8192 }.words();
        assert_eq!(words[..6], ["-t", "2", "-np", "8", "-c", "8192"]);
        assert!(words.iter().all(|word| !word.contains(' ')));
    }

    #[test]
    fn a_free_port_can_be_taken() {
        let port = free_port().expect("a port");
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}
