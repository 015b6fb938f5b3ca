//! Who is refused, on every route of both doors.

use crate::home::Home;
use crate::http::{self, Line, exchange, request, tcp, unix};
use api::route::{Reach, TABLE};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];

/// Every path there is, and some that there aren't.
fn paths() -> Vec<String> {
    let listed = TABLE.iter().map(|route| route.path.replace("{*id}", "some/model"));
    listed.chain(["/", "/nothing", "/freehold/v1/nothing", "/index.html", "/metrics"].map(str::to_string)).collect()
}

#[test]
fn web_pages_and_rebound_names_are_refused_everywhere() {
    let home = Home::new();
    home.done(&["models"]);
    let (port, socket) = (home.port(), home.socket());
    let own = format!("127.0.0.1:{port}");
    let strangers: [&[(&str, &str)]; 6] = [
        &[("host", "evil.example")],
        &[("host", "0.0.0.0")],
        &[("host", &own), ("origin", "https://evil.example")],
        &[("host", &own), ("origin", "null")],
        &[("host", &own), ("sec-fetch-site", "cross-site")],
        &[("host", &own), ("host", &own)],
    ];
    for headers in strangers {
        let mut line = Line::new(tcp(port));
        for (method, path) in METHODS.iter().flat_map(|method| paths().into_iter().map(move |path| (method, path))) {
            let reply = line.ask(&request(method, &path, headers, ""));
            assert_eq!(reply.status, 403, "{method} {path} {headers:?}: {}", reply.text());
        }
    }
    // A browser can't open a Unix socket, and is refused there too.
    let mut line = Line::new(unix(&socket));
    for (method, path) in METHODS.iter().flat_map(|method| paths().into_iter().map(move |path| (method, path))) {
        let reply = line.ask(&request(method, &path, &[("host", "localhost"), ("origin", "https://evil.example")], ""));
        assert_eq!(reply.status, 403, "{method} {path} on the socket");
    }
    assert_eq!(home.status()["asks_done"], 0, "nothing was done for any of them");
}

#[test]
fn a_refusal_gives_a_page_nothing_to_read() {
    let home = Home::new();
    home.done(&["models"]);
    let port = home.port();
    let own = format!("localhost:{port}");
    let headers = [("host", own.as_str()), ("origin", "https://evil.example"), ("connection", "close")];
    let reply = exchange(tcp(port), &request("OPTIONS", "/v1/chat/completions", &headers, ""));
    assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{reply:?}");
    assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req-")), "{reply:?}");
    assert_eq!(reply.code(), "forbidden");
}

#[test]
fn every_route_of_the_table_is_served_at_its_door() {
    let home = Home::new();
    home.done(&["models"]);
    let (port, socket) = (home.port(), home.socket());
    let own = format!("[::1]:{port}");
    for route in TABLE {
        // `stop` would end the daemon, and is tried elsewhere.
        let path = route.path.replace("{*id}", "some/model");
        if path == "/freehold/v1/stop" || path == "/freehold/v1/doctor" {
            continue;
        }
        let body = if route.method == "POST" { "[]" } else { "" };
        let headers = [("content-type", "application/json"), ("connection", "close")];
        let over_socket = exchange(unix(&socket), &request(route.method.as_str(), &path, &headers, body));
        assert_ne!(over_socket.status, 403, "{path}");
        assert_ne!(over_socket.status, 405, "{path}");
        if over_socket.status >= 400 {
            assert_ne!(over_socket.code(), "not_found", "{path} has no handler");
        }
        let headers = [("host", own.as_str()), headers[0], headers[1]];
        let over_tcp = exchange(tcp(port), &request(route.method.as_str(), &path, &headers, body));
        match route.reach {
            Reach::Machine => assert_eq!(over_tcp.status, over_socket.status, "{path}"),
            Reach::Owner => {
                assert_eq!((over_tcp.status, over_tcp.code().as_str()), (403, "forbidden"), "{path}");
                assert!(over_tcp.text().contains("--unix-socket"), "the way is told: {}", over_tcp.text());
            }
        }
        let other = if route.method == "POST" { "GET" } else { "POST" };
        let reply = exchange(unix(&socket), &request(other, &path, &[("connection", "close")], ""));
        assert_eq!(reply.status, 405, "{other} {path}");
    }
}

#[test]
fn management_over_tcp_does_nothing() {
    let home = Home::new();
    home.done(&["models"]);
    let (port, pid) = (home.port(), home.pid());
    for (path, body) in
        [("stop", json!({})), ("index", json!({"folder": "/etc"})), ("models/add", json!({"path": "/x"}))]
    {
        let reply = http::post(port, &format!("/freehold/v1/{path}"), &body);
        assert_eq!(reply.status, 403, "{path}");
    }
    assert_eq!(home.pid(), pid);
    assert_eq!(home.status()["maps"], json!([]));
}

#[test]
fn unknown_paths_and_types_are_told_so() {
    let home = Home::new();
    home.done(&["models"]);
    let port = home.port();
    let reply = http::get(port, "/v2/anything");
    assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
    assert!(reply.json()["error"]["message"].as_str().is_some_and(|message| message.contains("/v1/chat/completions")));
    let own = format!("127.0.0.1:{port}");
    let headers = [("host", own.as_str()), ("content-type", "text/plain"), ("connection", "close")];
    let reply = exchange(tcp(port), &request("POST", "/v1/chat/completions", &headers, "{}"));
    assert_eq!((reply.status, reply.code().as_str()), (415, "invalid_ask"));
}

#[test]
fn a_body_that_is_too_large_is_refused_with_both_numbers() {
    let home = Home::new();
    home.done(&["models"]);
    let port = home.port();
    let own = format!("127.0.0.1:{port}");
    let (size, most) = ((33_usize << 20).to_string(), (32_usize << 20).to_string());
    let asks = [
        ("host", own.as_str()),
        ("content-type", "application/json"),
        ("expect", "100-continue"),
        ("content-length", &size),
    ];
    let reply = exchange(tcp(port), &request("POST", "/v1/embeddings", &asks, ""));
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    // A client that sends without asking hears the same.
    let headers = [("host", own.as_str()), ("content-type", "application/json")];
    let reply = exchange(tcp(port), &request("POST", "/v1/embeddings", &headers, &" ".repeat(33 << 20)));
    assert_eq!(reply.status, 413);
    let message = reply.json()["error"]["message"].as_str().expect("message").to_string();
    assert!(message.contains(&size) && message.contains(&most), "{message}");
}

#[test]
fn strangers_who_hold_every_connection_do_not_lock_the_owner_out() {
    let home = Home::new();
    home.done(&["models"]);
    let port = home.port();
    let own = format!("127.0.0.1:{port}");
    let mut held = Vec::new();
    for _ in 0..256 {
        // The first half of a request: the connection is known to be served, and never done.
        let mut stream = tcp(port);
        stream.write_all(format!("GET /health HTTP/1.1\r\nhost: {own}\r\n").as_bytes()).expect("send");
        held.push(stream);
    }
    let reply = http::read_head(&mut BufReader::new(tcp(port)));
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
    home.done(&["models"]);
    drop(held);
    testkit::until("a free connection", || {
        let mut stream = tcp(port);
        // The refusal may come before the request is out.
        let _ = stream.write_all(&request("GET", "/health", &[("host", &own), ("connection", "close")], ""));
        (http::read_head(&mut BufReader::new(stream)).status == 200).then_some(())
    });
}

/// What the system calls nobody: a user who owns nothing here.
const STRANGER: u32 = 65534;

/// A child of another user, which runs `test` of this file; `None` where this process may not start one.
#[expect(clippy::disallowed_methods, reason = "the test starts itself as another user")]
#[expect(clippy::print_stderr, reason = "a test that was skipped says so")]
pub(crate) fn stranger(test: &str) -> Option<std::process::Child> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start a program of another user");
        return None;
    }
    // By this way, for the folders above the program itself may be closed to the stranger.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).uid(STRANGER).gid(STRANGER);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Some(command.spawn().expect("a program of another user"))
}

#[test]
fn another_user_is_refused_from_any_address_and_port() {
    let Some(mut child) = stranger("guard::the_stranger_who_calls") else { return };
    let home = Home::new();
    home.done(&["models"]);
    writeln!(child.stdin.take().expect("stdin"), "{}", home.port()).expect("the port is told");
    let mut said = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut said).expect("its words");
    assert!(child.wait().expect("ends").success(), "{said}");
    let statuses: Vec<&str> = said.lines().filter(|line| line.starts_with("from ")).collect();
    assert_eq!(statuses.len(), 21, "{said}");
    assert!(statuses.iter().all(|line| line.ends_with(": 403")), "{statuses:#?}");
    // The owner comes in from there all the same.
    let reply = call_from(99, home.port(), home.port());
    assert_eq!(reply, 200);
}

/// Calls from 127.0.0.`last`, also from the port that the daemon itself has.
fn call_from(last: u8, from_port: u16, port: u16) -> u16 {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    use std::net::{SocketAddrV4, TcpStream};
    let at = |last, port| SocketAddrV4::new([127, 0, 0, last].into(), port);
    let line = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&line, &at(last, from_port)).expect("an address of this machine");
    connect(&line, &at(1, port)).expect("the daemon listens");
    let mut stream = TcpStream::from(line);
    let own = format!("127.0.0.1:{port}");
    let headers = [("host", own.as_str()), ("connection", "close")];
    stream.write_all(&request("GET", "/v1/models", &headers, "")).expect("send");
    http::read_head(&mut BufReader::new(stream)).status
}

#[test]
#[ignore = "the other user of the test above"]
#[expect(clippy::print_stdout, reason = "its words are what the test above reads")]
fn the_stranger_who_calls() {
    let mut port = String::new();
    std::io::stdin().lock().read_line(&mut port).expect("a line");
    let Ok(port) = port.trim().parse() else { return };
    println!("\nfrom any port: {}", call_from(1, 0, port));
    for last in 2..=21 {
        println!("from 127.0.0.{last}: {}", call_from(last, port, port));
    }
}
