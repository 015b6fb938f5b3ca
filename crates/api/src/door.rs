//! Binding the two listeners and serving what comes in by them.
//!
//! LIMITS: connections per door, header bytes and time, bytes and time of a body, and time to
//! finish at the end. A stranger on TCP can fill only the TCP door; the person's own commands
//! come in by the other.

use crate::guard::{Door, admit};
use crate::peer::{self, Holder, Peer};
use crate::reply::{Refusal, fresh_id};
use crate::router::router;
use crate::stop::{Phase, Stop};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response};
use axum::response::IntoResponse;
use base::{Code, Fault};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::{Runtime, Settings};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Connections open at the same time, for each door.
const CONNECTIONS_MAX: usize = 256;
/// From the first to the last byte of a request's head, and how long an idle connection is kept.
const HEADER_TIMEOUT_MS: u64 = 30_000;
/// A request's head; also what is buffered of a body that is read slowly.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Running answers may finish for this long after the daemon was asked to stop.
const DRAIN_TIMEOUT_MS: u64 = 10_000;

/// Both listeners, bound and not yet serving.
#[derive(Debug)]
pub struct Doors {
    tcp: TcpListener,
    port: u16,
    unix: UnixListener,
    socket: PathBuf,
}

/// What is left when serving has ended: callers of `stop` who wait for the process to go. Keep it
/// until then.
#[derive(Debug)]
pub struct Watchers {
    _tasks: JoinSet<()>,
}

impl Doors {
    /// Binds 127.0.0.1 at the port of the settings, and the Unix socket for its owner alone.
    ///
    /// # Errors
    /// [`Code::PortBusy`] with who holds the port; the file errors of the socket.
    pub async fn bind(settings: &Settings) -> Result<Self, Fault> {
        let (tcp, port) = bind_tcp(settings.port).await?;
        let unix = bind_socket(&settings.socket)?;
        Ok(Self { tcp, port, unix, socket: settings.socket.clone() })
    }

    /// `http://127.0.0.1:7777`
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Serves both doors until the daemon is asked to stop and what ran has finished or was cut.
    pub async fn serve(self, runtime: Runtime, stop: Stop) -> Watchers {
        tracing::info!(address = self.address(), socket = %self.socket.display(), "serving");
        let router = router(runtime, stop.clone());
        let mut tasks = JoinSet::new();
        let tcp = Entry::new(Door::Tcp { port: self.port, socket: self.socket.clone() }, &router, &stop);
        let unix = Entry::new(Door::Socket, &router, &stop);
        let end = stop.asked();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, peer)) => tcp.take_tcp(&mut tasks, stream, peer).await,
                    Err(error) => accept_failed(&error).await,
                },
                accepted = self.unix.accept() => match accepted {
                    Ok((stream, _)) => unix.take_unix(&mut tasks, stream).await,
                    Err(error) => accept_failed(&error).await,
                },
                // Finished connections are forgotten as they end, not at the end of all.
                Some(_) = tasks.join_next() => {}
            }
        }
        drop((self.tcp, self.unix));
        drain(&mut tasks, &stop).await;
        Watchers { _tasks: tasks }
    }
}

async fn drain(tasks: &mut JoinSet<()>, stop: &Stop) {
    let deadline = tokio::time::sleep(Duration::from_millis(DRAIN_TIMEOUT_MS));
    let cut = stop.reached(Phase::Cutting);
    tokio::pin!(deadline, cut);
    while tasks.len() > stop.watchers() {
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            () = &mut cut => break,
            () = &mut deadline => {
                tracing::warn!("answers that still run after {DRAIN_TIMEOUT_MS} ms are cut");
                break;
            }
        }
    }
}

/// No descriptor left, mostly: trying again at once would only burn the processor.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "a connection can't be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that binds a listener")]
async fn bind_tcp(port: u16) -> Result<(TcpListener, u16), Fault> {
    let refused = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => port_busy(port, &peer::holder(port)),
        _ => Fault::new(Code::PortBusy, format!("port {port} of 127.0.0.1 can't be used"))
            .cause(error)
            .hint("choose another: `freehold serve --port 7778`"),
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}

fn port_busy(port: u16, holder: &Holder) -> Fault {
    let other = if port == u16::MAX { port - 1 } else { port + 1 };
    Fault::new(Code::PortBusy, format!("port {port} of 127.0.0.1 is held by {holder}"))
        .hint(format!("use another port: `freehold serve --port {other}`"))
        .hint(format!("or for good: write `port = {other}` into config.toml, or set FREEHOLD_PORT={other}"))
}

fn bind_socket(path: &Path) -> Result<UnixListener, Fault> {
    let failed = |error: std::io::Error| Fault::io("listen on", path, &error);
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Its folder is its owner's alone already, so there is no moment in which others could connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// One door with what its connections need.
struct Entry {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

struct Shared {
    door: Door,
    router: Router,
    stop: Stop,
    own_uid: u32,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// The daemon's own user, or anybody at all where the system can't tell users apart.
    Owner,
    User(u32),
    /// The system tells users apart, and this connection has none.
    Unlisted,
}

impl Entry {
    fn new(door: Door, router: &Router, stop: &Stop) -> Self {
        let own_uid = rustix::process::geteuid().as_raw();
        Self {
            shared: Arc::new(Shared { door, router: router.clone(), stop: stop.clone(), own_uid }),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }

    async fn take_tcp(&self, tasks: &mut JoinSet<()>, mut stream: TcpStream, peer: std::net::SocketAddr) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return turn_away(&mut stream).await };
        // Tokens are small writes, and each should leave at once. A failure costs only time.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&self.shared);
        tasks.spawn(async move {
            let caller = match stream.local_addr().map(|own| peer::owner(peer, own)) {
                Ok(Peer::User(uid)) if uid != shared.own_uid => Caller::User(uid),
                Ok(Peer::Unlisted) => Caller::Unlisted,
                Ok(Peer::Gone) | Err(_) => return,
                Ok(Peer::User(_) | Peer::Unknown) => Caller::Owner,
            };
            serve_connection(shared, stream, caller, permit).await;
        });
    }

    async fn take_unix(&self, tasks: &mut JoinSet<()>, mut stream: UnixStream) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return turn_away(&mut stream).await };
        let shared = Arc::clone(&self.shared);
        let caller = match stream.peer_cred() {
            Ok(peer) if peer.uid() == shared.own_uid => Caller::Owner,
            Ok(peer) => Caller::User(peer.uid()),
            // Without knowing who it is, nobody is let in by this door.
            Err(_) => return,
        };
        tasks.spawn(serve_connection(shared, stream, caller, permit));
    }
}

/// All connections are taken: says so in the fewest bytes, without a task of its own.
async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S) {
    const REPLY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 72\r\n\r\n\
{\"error\":{\"message\":\"all connections are taken\",\"type\":\"server_error\"}}\n";
    // A fresh connection has room for this; one that hasn't is simply closed.
    let _ = tokio::time::timeout(Duration::from_millis(50), stream.write_all(REPLY)).await;
}

async fn serve_connection<S>(shared: Arc<Shared>, stream: S, caller: Caller, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = shared.stop.clone();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, caller, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_TIMEOUT_MS))
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.asked() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}

/// INVARIANT: every request of both doors passes here, and nothing is done for it before `admit`.
async fn answer(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_string();
    let admitted = match caller {
        Caller::Owner => admit(&shared.door, request.uri(), request.headers()),
        Caller::User(uid) => Err(Fault::new(Code::Forbidden, format!("this Freehold is not user {uid}'s"))
            .hint("start your own: `freehold serve --port 7778`")),
        Caller::Unlisted => Err(Fault::new(
            Code::Forbidden,
            "the kernel's table of connections doesn't say whose this one is, so it is refused",
        )
        .hint("call again on a new connection, from this machine itself")),
    };
    let mut response = match admitted {
        Ok(()) => {
            let service = TowerToHyperService::new(shared.router.clone());
            match service.call(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Err(fault) => Refusal::from(fault).into_response(),
    };
    let id = fresh_id("req-");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), id, "answered");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_its_holder_and_a_way_out() {
        let fault = port_busy(7777, &Holder::Program { name: "python3".into(), pid: 12 });
        assert_eq!(fault.message, "port 7777 of 127.0.0.1 is held by `python3` (process 12)");
        assert!(fault.hints[0].contains("--port 7778"), "{fault:?}");
        assert!(port_busy(u16::MAX, &Holder::Unknown).hints[0].contains("65534"));
    }
}
