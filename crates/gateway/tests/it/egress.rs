//! GET through the gate: what is recorded, counted, followed, refused and stopped.

use crate::server::{Server, reply};
use crate::{ledger_text, pass, policy};
use base::Code;
use freehold_gateway::{Gateway, Policy, Request, Secret};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

fn request<'a>(url: &'a str, cancel: &'a Arc<AtomicBool>) -> Request<'a> {
    Request { url, range_from: 0, if_range: None, cancel }
}

#[test]
fn the_entry_is_on_disk_before_the_first_byte_and_closes_with_the_socket_s_counts() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_path_buf();
    // What the ledger held when the request arrived.
    let at_arrival = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&at_arrival);
    let server = Server::start(move |_, stream| {
        *note.lock().unwrap() = ledger_text(&path);
        reply(stream, "200 OK", "ETag: \"v1\"\r\n", &[7; 100_000]);
    });
    let gateway = Gateway::open(home.path(), policy(&server.origin)).unwrap();
    let cancel = Arc::default();
    let url = format!("{}/model?signature=secret", server.origin);
    let pass = pass(&gateway, &server.origin);
    let mut download = gateway.get(&pass, &request(&url, &cancel)).unwrap();
    assert_eq!((download.status(), download.content_length()), (200, Some(100_000)));
    assert_eq!(download.etag(), Some("\"v1\""));
    let mut body = Vec::new();
    download.read_to_end(&mut body).unwrap();
    drop(download);
    assert_eq!(body, [7; 100_000]);

    let before = at_arrival.lock().unwrap().clone();
    assert!(before.contains("\"entry\":\"open\"") && before.contains("freehold pull test"), "{before}");
    assert!(before.contains("GET /model") && !before.contains("secret"), "{before}");
    assert!(!before.contains("\"entry\":\"close\""), "{before}");
    let entries = gateway.entries_since(0).unwrap();
    let close = entries[0].close.as_ref().unwrap();
    assert_eq!(close.outcome, "done");
    assert_eq!(close.sent, Some(server.seen()[0].bytes), "every byte of the request is counted");
    assert!(close.received > 100_000 && close.received < 100_400, "body and headers: {}", close.received);
    let totals = gateway.totals();
    assert_eq!((totals.bytes_sent, totals.bytes_received), (close.sent.unwrap(), close.received));
    drop(gateway);
    assert_eq!(Gateway::open(home.path(), policy(&server.origin)).unwrap().totals(), totals);
}

#[test]
fn without_a_pass_for_that_place_nothing_is_sent() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, stream| reply(stream, "200 OK", "", b"x"));
    let other = Server::start(|_, stream| reply(stream, "200 OK", "", b"x"));
    let gateway = Gateway::open(home.path(), policy(&server.origin)).unwrap();
    let cancel = Arc::default();
    let elsewhere = pass(&gateway, &other.origin);
    let url = format!("{}/x", server.origin);
    assert_eq!(gateway.get(&elsewhere, &request(&url, &cancel)).unwrap_err().code, Code::ConsentNeeded);
    for url in ["http://example.com/x", "ftp://127.0.0.1/x", "not an address"] {
        assert_eq!(gateway.get(&elsewhere, &request(url, &cancel)).unwrap_err().code, Code::InvalidAsk, "{url}");
    }
    assert_eq!(gateway.totals().crossings, 0);
    assert!(server.seen().is_empty() && other.seen().is_empty());
}

#[test]
fn offline_nothing_is_sent_and_the_fault_says_how_to_change_it() {
    let home = tempfile::tempdir().unwrap();
    let gateway = Gateway::open(home.path(), Policy { offline: true, ..Policy::default() }).unwrap();
    let given_by = freehold_gateway::GivenBy::Command("freehold pull test".into());
    let fault = gateway.consent(freehold_gateway::Purpose::ModelDownload, "https://huggingface.co", given_by);
    let fault = fault.unwrap_err();
    assert_eq!(fault.code, Code::ConsentNeeded);
    assert!(fault.hints.iter().any(|hint| hint.contains("offline = false")), "{:?}", fault.hints);
}

#[test]
fn redirects_are_followed_and_recorded_and_the_token_stays_at_the_hub() {
    let home = tempfile::tempdir().unwrap();
    let store = Server::start(|_, stream| reply(stream, "200 OK", "", b"bytes"));
    let target = format!("{}/blob?sig=1", store.origin);
    let hub = Server::start(move |seen, stream| match seen.path.as_str() {
        "/start" => reply(stream, "302 Found", "Location: /next\r\n", b""),
        _ => reply(stream, "307 Temporary Redirect", &format!("Location: {target}\r\n"), b"moved"),
    });
    let policy = Policy { hub_token: Some(Secret::new("hf_secret".into())), ..policy(&hub.origin) };
    let gateway = Gateway::open(home.path(), policy).unwrap();
    let pass = pass(&gateway, &hub.origin);
    let cancel = Arc::default();
    let url = format!("{}/start", hub.origin);
    let mut download = gateway.get(&pass, &request(&url, &cancel)).unwrap();
    assert_eq!(download.read_text(100).unwrap(), "bytes");
    drop(download);
    let authorized = |server: &Server| {
        server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(authorized(&hub), [Some("Bearer hf_secret".to_owned()), Some("Bearer hf_secret".to_owned())]);
    assert_eq!(authorized(&store), [None]);
    let entries = gateway.entries_since(0).unwrap();
    let to: Vec<_> = entries.iter().map(|entry| (entry.open.to.as_str(), entry.close.is_some())).collect();
    assert_eq!(to, [(hub.origin.as_str(), true), (hub.origin.as_str(), true), (store.origin.as_str(), true)]);
    assert!(!ledger_text(home.path()).contains("hf_secret"));
}

#[test]
fn circles_and_ways_into_the_clear_end() {
    let home = tempfile::tempdir().unwrap();
    let circle = Server::start(|seen, stream| match seen.path.as_str() {
        "/circle" => reply(stream, "302 Found", "Location: /circle\r\n", b""),
        "/clear" => reply(stream, "302 Found", "Location: http://example.com/x\r\n", b""),
        _ => reply(stream, "302 Found", "", b""),
    });
    let gateway = Gateway::open(home.path(), policy(&circle.origin)).unwrap();
    let pass = pass(&gateway, &circle.origin);
    let cancel = Arc::default();
    for (path, word) in
        [("/circle", "more than 5 times"), ("/clear", "in the clear"), ("/nowhere", "without saying where")]
    {
        let url = format!("{}{path}", circle.origin);
        let fault = gateway.get(&pass, &request(&url, &cancel)).unwrap_err();
        assert!(fault.message.contains(word), "{path}: {fault}");
    }
    assert_eq!(circle.seen().len(), 6 + 1 + 1);
}

#[test]
fn ranges_are_asked_for_with_the_version_that_they_belong_to() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, stream| {
        reply(stream, "206 Partial Content", "Content-Range: bytes 5-9/10\r\nETag: W/\"weak\"\r\n", b"56789");
    });
    let gateway = Gateway::open(home.path(), policy(&server.origin)).unwrap();
    let pass = pass(&gateway, &server.origin);
    let cancel = Arc::default();
    let url = format!("{}/m", server.origin);
    let ask = Request { url: &url, range_from: 5, if_range: Some("\"v1\""), cancel: &cancel };
    let download = gateway.get(&pass, &ask).unwrap();
    assert_eq!((download.status(), download.content_range()), (206, Some((5, Some(10)))));
    assert_eq!(download.etag(), None, "a weak mark can't vouch for bytes");
    let seen = server.seen();
    assert_eq!((seen[0].header("range"), seen[0].header("if-range")), (Some("bytes=5-"), Some("\"v1\"")));
}

#[test]
fn silence_ends_after_the_time_that_was_set() {
    let home = tempfile::tempdir().unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let server = Server::start(move |seen, stream| {
        if seen.path == "/body" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123");
        }
        let _ = held.lock().unwrap().recv();
    });
    let mut policy = policy(&server.origin);
    (policy.timeouts.answer_ms, policy.timeouts.stall_ms) = (300, 300);
    let gateway = Gateway::open(home.path(), policy).unwrap();
    let pass = pass(&gateway, &server.origin);
    let cancel = Arc::default();
    let url = format!("{}/answer", server.origin);
    let started = Instant::now();
    let fault = gateway.get(&pass, &request(&url, &cancel)).unwrap_err();
    assert_eq!(fault.code, Code::DownloadFailed);
    assert!(fault.message.contains("300 ms"), "{fault}");
    release.send(()).unwrap();

    let url = format!("{}/body", server.origin);
    let mut download = gateway.get(&pass, &request(&url, &cancel)).unwrap();
    let mut body = Vec::new();
    let error = download.read_to_end(&mut body).unwrap_err();
    assert_eq!((body.as_slice(), error.kind()), (b"123".as_slice(), std::io::ErrorKind::TimedOut), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4));
    drop(download);
    let entries = gateway.entries_since(0).unwrap();
    assert!(entries.iter().all(|entry| entry.close.as_ref().is_some_and(|close| close.outcome != "done")));
}

#[test]
fn a_cancel_is_noticed_while_the_far_side_is_silent() {
    let home = tempfile::tempdir().unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let (flag, (_release, held)) = (Arc::clone(&cancel), mpsc::channel::<()>());
    let held = Mutex::new(held);
    let server = Server::start(move |_, _| {
        flag.store(true, Ordering::Relaxed);
        let _ = held.lock().unwrap().recv();
    });
    let mut policy = policy(&server.origin);
    policy.timeouts.answer_ms = 60_000;
    policy.timeouts.stall_ms = 60_000;
    let gateway = Gateway::open(home.path(), policy).unwrap();
    let pass = pass(&gateway, &server.origin);
    let url = format!("{}/answer", server.origin);
    let started = Instant::now();
    let fault = gateway.get(&pass, &request(&url, &cancel)).unwrap_err();
    assert_eq!(fault.code, Code::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_closed_port_is_a_sentence() {
    let home = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "finds a port that nobody listens on")]
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = format!("http://127.0.0.1:{port}");
    let gateway = Gateway::open(home.path(), policy(&origin)).unwrap();
    let pass = pass(&gateway, &origin);
    let cancel = Arc::default();
    let fault = gateway.get(&pass, &request(&format!("{origin}/x"), &cancel)).unwrap_err();
    assert_eq!(fault.code, Code::DownloadFailed);
    assert!(fault.message.contains(&origin) && !fault.hints.is_empty(), "{fault}");
    assert_eq!(gateway.entries_since(0).unwrap().len(), 1);
}

#[test]
fn a_text_longer_than_allowed_isn_t_taken() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, stream| reply(stream, "200 OK", "", &[b'a'; 2000]));
    let gateway = Gateway::open(home.path(), policy(&server.origin)).unwrap();
    let pass = pass(&gateway, &server.origin);
    let cancel = Arc::default();
    let url = format!("{}/long", server.origin);
    let mut download = gateway.get(&pass, &request(&url, &cancel)).unwrap();
    assert!(download.read_text(1999).unwrap_err().to_string().contains("1999"));
    let mut download = gateway.get(&pass, &request(&url, &cancel)).unwrap();
    assert_eq!(download.read_text(2000).unwrap().len(), 2000);
}
