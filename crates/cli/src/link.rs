//! The way to the daemon: HTTP over its Unix socket, one connection per call.
//!
//! [`Link::open`] starts the daemon when it isn't running, and says so when it is of another
//! build or has other settings. Dropping a call closes its connection, which cancels the work at the other end.

use crate::Context;
use crate::ending::Ending;
use api::native::Stopping;
use base::{Code, Fault};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use runtime::Settings;
use runtime::view::{Hello, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{BufRead, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// A reply that isn't a stream, and one line of a stream.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// A daemon that is just ending still holds its lock; how often the start of the next is tried.
const START_TRIES_MAX: u32 = 100;
const START_AGAIN_MS: u64 = 100;
/// A daemon tells who it is without waiting for anything; one that doesn't within this time is stuck.
const HELLO_TIMEOUT_MS: u64 = 5_000;
/// Longest wait for the end of a daemon that was asked to stop.
const STOP_TIMEOUT_MS: u64 = 30_000;

/// A running daemon, found.
#[derive(Debug)]
pub(crate) struct Link {
    socket: PathBuf,
    log: PathBuf,
    pub(crate) hello: Hello,
}

impl Link {
    /// Finds the daemon, or starts it, and makes sure that it is of this command's build and settings.
    pub(crate) async fn open(context: &Context) -> Result<Self, Ending> {
        let link = match Self::find(&context.settings).await? {
            Some(link) => link,
            None => return Ok(Self::start(context).await?),
        };
        let Some(difference) = difference(&link.hello, &context.settings.effective()) else { return Ok(link) };
        if context.restart || wants_restart(context, &link, &difference).await? {
            link.stop().await?;
            return Ok(Self::start(context).await?);
        }
        Ok(link)
    }

    /// The daemon that runs, whatever its build; `None` when there is none.
    ///
    /// # Errors
    /// A socket that is there and can't be used, or that somebody else answers.
    pub(crate) async fn find(settings: &Settings) -> Result<Option<Self>, Fault> {
        let hello = Hello {
            version: String::new(),
            build: String::new(),
            pid: 0,
            home: String::new(),
            settings: BTreeMap::new(),
        };
        let mut link = Self { socket: settings.socket.clone(), log: settings.log_file(), hello };
        let asked = tokio::time::timeout(Duration::from_millis(HELLO_TIMEOUT_MS), link.hello()).await;
        let Some(hello) = asked.unwrap_or_else(|_| Err(silent(settings)))? else { return Ok(None) };
        link.hello = hello;
        Ok(Some(link))
    }

    async fn hello(&self) -> Result<Option<Hello>, Fault> {
        let stream = match self.connect().await? {
            Ok(stream) => stream,
            Err(error) if nobody_listens(error.kind()) => return Ok(None),
            Err(error) => return Err(self.unreachable(&error)),
        };
        let call = self.send(stream, Method::GET, "hello", Bytes::new()).await;
        // One that was ending when we connected is as good as none.
        let Ok(call) = call else { return Ok(None) };
        call.whole().await.map(Some)
    }

    /// INVARIANT: nothing is said to a listener that isn't this user's. The socket of a long home lies
    /// in a folder that all users share, where another may have been first.
    async fn connect(&self) -> Result<std::io::Result<UnixStream>, Fault> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        let (me, listener) = match stream.peer_cred() {
            Ok(peer) => (rustix::process::geteuid().as_raw(), peer.uid()),
            Err(error) => return Ok(Err(error)),
        };
        if me == listener {
            return Ok(Ok(stream));
        }
        Err(Fault::new(
            Code::DaemonUnreachable,
            format!("`{}` is answered by user {listener}, and you are user {me}", self.socket.display()),
        )
        .hint("don't trust it; set FREEHOLD_HOME to a folder of your own, with a path of fewer than 80 letters"))
    }

    async fn start(context: &Context) -> Result<Self, Fault> {
        for _ in 0..START_TRIES_MAX {
            let settings = context.settings.clone();
            tokio::task::spawn_blocking(move || runtime::start_daemon(&settings))
                .await
                .map_err(|error| Fault::new(Code::Internal, "the daemon's start ended badly").cause(error))??;
            if let Some(link) = Self::find(&context.settings).await? {
                return Ok(link);
            }
            tokio::time::sleep(Duration::from_millis(START_AGAIN_MS)).await;
        }
        Err(Fault::new(Code::DaemonUnreachable, "another daemon holds the lock and doesn't answer")
            .hint("look for it: `pgrep -af 'freehold serve'`, and end it")
            .hint(format!("read its log: `tail {}`", context.settings.log_file().display())))
    }

    /// `what` is one of Freehold's own routes by its last words, or another with its whole path.
    ///
    /// # Errors
    /// The daemon's fault, or that it can't be reached.
    pub(crate) async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, Fault> {
        self.call(Method::GET, what, Bytes::new()).await?.whole().await
    }

    /// # Errors
    /// As [`Link::get`].
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, what: &str, body: &B) -> Result<T, Fault> {
        self.call(Method::POST, what, json(body)?).await?.whole().await
    }

    /// # Errors
    /// As [`Link::get`]; faults later come out of [`Lines`].
    pub(crate) async fn stream<B: Serialize>(&self, what: &str, body: &B) -> Result<Lines, Fault> {
        Ok(Lines { call: self.call(Method::POST, what, json(body)?).await?, buffer: Vec::new(), searched: 0 })
    }

    /// Ends the daemon and waits until it has gone.
    ///
    /// # Errors
    /// When it is still there after its time.
    pub(crate) async fn stop(&self) -> Result<(), Fault> {
        let gone = async {
            let mut lines = self.stream("stop", &serde_json::Map::new()).await?;
            lines.next::<Stopping>().await?;
            // The reply ends with the process; how it ends doesn't matter.
            while matches!(lines.next::<serde_json::Value>().await, Ok(Some(_))) {}
            Ok::<(), Fault>(())
        };
        tokio::time::timeout(Duration::from_millis(STOP_TIMEOUT_MS), gone).await.unwrap_or_else(|_| {
            let pid = self.hello.pid;
            Err(Fault::new(
                Code::DaemonUnreachable,
                format!("the daemon (process {pid}) doesn't end within {STOP_TIMEOUT_MS} ms"),
            )
            .hint(by_force(pid)))
        })
    }

    async fn call(&self, method: Method, what: &str, body: Bytes) -> Result<Call, Fault> {
        let stream = self.connect().await?.map_err(|error| self.unreachable(&error))?;
        let call = self.send(stream, method, what, body).await.map_err(|error| self.unreachable(&error))?;
        if call.response.status().is_success() { Ok(call) } else { Err(call.refusal().await) }
    }

    async fn send(&self, stream: UnixStream, method: Method, what: &str, body: Bytes) -> Result<Call, hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = Driver(tokio::spawn(async move {
            // A connection that breaks shows in the reply that it carries.
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(if what.starts_with('/') { what.to_owned() } else { format!("/freehold/v1/{what}") })
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-freehold-app", runtime::own_app().0)
            .body(Full::new(body))
            .expect("the parts of the request are valid");
        let response = sender.send_request(request).await?;
        Ok(Call { response, log: self.log.clone(), _driver: driver })
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Fault {
        Fault::new(Code::DaemonUnreachable, format!("the daemon can't be reached at `{}`", self.socket.display()))
            .cause(chain(error))
            .hint("start it again: `freehold stop`, then the same command")
            .hint(format!("read its log: `tail {}`", self.log.display()))
    }
}

/// A file without a listener behind it was left by a daemon that was killed; a listener that closes
/// while a connection waits for it resets that one.
fn nobody_listens(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

/// A daemon that took the connection and nothing more: stopped, or stuck.
fn silent(settings: &Settings) -> Fault {
    let pid = runtime::daemon_pid(settings);
    let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    Fault::new(Code::DaemonUnreachable, format!("the daemon{process} doesn't answer within {HELLO_TIMEOUT_MS} ms"))
        .hint(pid.map_or_else(|| "look for it: `pgrep -af 'freehold serve'`, and end it".into(), by_force))
        .hint(format!("read its log: `tail {}`", settings.log_file().display()))
}

fn by_force(pid: u32) -> String {
    format!("end it by force: `kill -9 {pid}`; nothing on disk is lost")
}

/// How the running daemon differs from this command, in words.
fn difference(hello: &Hello, settings: &BTreeMap<String, String>) -> Option<String> {
    let own = runtime::VERSION;
    if hello.version == own && hello.build == runtime::BUILD {
        let differs = |(name, here): (&String, &String)| {
            let there = hello.settings.get(name)?;
            (there != here).then(|| format!("{name} is {there} there and {here} here"))
        };
        let differing: Vec<String> = settings.iter().filter_map(differs).collect();
        return (!differing.is_empty())
            .then(|| format!("the running daemon has other settings than this command: {}", differing.join(", ")));
    }
    if hello.version == own {
        return Some(format!("the running daemon is another build of Freehold {own} than this command"));
    }
    let age = if numbers(&hello.version) < numbers(own) { "older" } else { "newer" };
    Some(format!("the running daemon is Freehold {}, {age} than this command, which is {own}", hello.version))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// Asks on a terminal; elsewhere another build or setting is a fault, because answers may differ.
async fn wants_restart(context: &Context, link: &Link, difference: &str) -> Result<bool, Ending> {
    let screen = &context.screen;
    if !screen.can_ask() {
        let fault = Fault::new(Code::VersionMismatch, difference.to_string())
            .hint("restart it with this command: add `--restart`")
            .hint("or end it, and the next command starts the new one: `freehold stop`");
        return Err(fault.into());
    }
    screen.talk(&format!("{} {difference}.", screen.err.yellow("note:")))?;
    let running = link.get::<Status>("status").await.map_or(0, |status| status.asks_running);
    let cost = match running {
        0 => "nothing is running".to_string(),
        1 => "one answer is running and would be given 10 s to finish".to_string(),
        n => format!("{n} answers are running and would be given 10 s to finish"),
    };
    let question = format!("Restart it now ({cost})? [Y/n] ");
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut err = std::io::stderr().lock();
        err.write_all(question.as_bytes())?;
        err.flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
    })
    .await
    .map_err(|error| Fault::new(Code::Internal, "the question ended badly").cause(error))??;
    // The end of input is no consent.
    Ok(answer.is_some_and(|line| matches!(line.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")))
}

fn json<B: Serialize>(body: &B) -> Result<Bytes, Fault> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Fault::new(Code::Internal, "the request can't be written as JSON").cause(error))
}

/// An error with those below it: hyper's own sentence alone rarely says what happened.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(": ");
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}

/// Moves a connection's bytes until it is dropped, which closes the connection.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call that was answered with a status.
#[derive(Debug)]
struct Call {
    response: Response<Incoming>,
    log: PathBuf,
    _driver: Driver,
}

impl Call {
    async fn bytes(self) -> Result<Bytes, Fault> {
        let body = Limited::new(self.response.into_body(), REPLY_BYTES_MAX);
        body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| broken_off(&self.log, &*error))
    }

    async fn whole<T: DeserializeOwned>(self) -> Result<T, Fault> {
        serde_json::from_slice(&self.bytes().await?).map_err(|error| not_understood(&error))
    }

    async fn refusal(self) -> Fault {
        #[derive(serde::Deserialize)]
        struct Body {
            error: Inner,
        }
        #[derive(serde::Deserialize)]
        struct Inner {
            fault: Fault,
        }
        let status = self.response.status();
        let unknown = || {
            Fault::new(Code::VersionMismatch, format!("the daemon answered with status {status} and without a reason"))
                .hint("it may be of another version: `freehold stop`, then the same command")
        };
        match self.bytes().await {
            Ok(bytes) => serde_json::from_slice::<Body>(&bytes).map_or_else(|_| unknown(), |body| body.error.fault),
            Err(fault) => fault,
        }
    }
}

fn broken_off(log: &std::path::Path, error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::new(Code::DaemonUnreachable, "the daemon ended in the middle of its reply")
        .cause(chain(error))
        .hint("run the same command again: it starts a new daemon")
        .hint(format!("read the log: `tail {}`", log.display()))
}

fn not_understood(error: &serde_json::Error) -> Fault {
    Fault::new(Code::VersionMismatch, "the daemon's reply has a shape that this command doesn't know")
        .cause(error)
        .hint("they may be of different versions: `freehold stop`, then the same command")
}

/// The lines of a streamed reply. Dropping it cancels the work.
#[derive(Debug)]
pub(crate) struct Lines {
    call: Call,
    buffer: Vec<u8>,
    /// How far `buffer` was searched for a line's end.
    searched: usize,
}

impl Lines {
    /// The next event; `None` at the end of the reply.
    ///
    /// # Errors
    /// When the daemon is gone in the middle, or says what this command doesn't know.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(|error| not_understood(&error));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > REPLY_BYTES_MAX {
                return Err(Fault::new(Code::Internal, format!("an event has more than {REPLY_BYTES_MAX} bytes")));
            }
            match self.call.response.body_mut().frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(broken_off(&self.call.log, &error)),
            }
        }
    }

    /// A stream that ends before its last event.
    pub(crate) fn cut_short() -> Fault {
        Fault::new(Code::DaemonUnreachable, "the daemon ended its reply before the last word")
            .hint("run the same command again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(offline: &str) -> BTreeMap<String, String> {
        [("mirror", "true"), ("offline", offline)].map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    fn hello(version: &str, build: &str) -> Hello {
        let settings = settings("false");
        Hello { version: version.into(), build: build.into(), pid: 1, home: "/h".into(), settings }
    }

    #[test]
    fn another_build_is_told_from_another_version() {
        let differs = |hello| difference(&hello, &settings("false"));
        assert_eq!(differs(hello(runtime::VERSION, runtime::BUILD)), None);
        assert!(differs(hello(runtime::VERSION, "x")).expect("differs").contains("another build"));
        assert!(differs(hello("0.0.1", runtime::BUILD)).expect("differs").contains("older"));
        assert!(differs(hello("99.10.0-rc.1", runtime::BUILD)).expect("differs").contains("newer"));
    }

    #[test]
    fn other_settings_are_named_with_both_values() {
        let said = difference(&hello(runtime::VERSION, runtime::BUILD), &settings("true")).expect("differs");
        assert!(said.ends_with("this command: offline is false there and true here"), "{said}");
    }

    #[tokio::test]
    async fn a_listener_that_closes_on_a_waiting_connection_is_none() {
        let home = testkit::TempHome::new();
        let socket = home.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let link = Link { socket, log: PathBuf::new(), hello: hello("", "") };
        let mut asked = std::pin::pin!(link.hello());
        // The one poll connects; that the connection stands is learnt from a later one.
        let first = std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context))).await;
        assert!(first.is_pending());
        drop(listener);
        assert!(asked.await.expect("no fault").is_none());
    }
}
