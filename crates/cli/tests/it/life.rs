//! The daemon's life as commands see it: started once, found again, replaced, ended.

use crate::home::{Home, Ran, alive, ended, kill, until_line};
use crate::http;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use testkit::{Gate, Script, Step, TestModel, until};

#[test]
fn status_and_stop_start_nothing() {
    let home = Home::new();
    let ran = home.done(&["status"]);
    assert!(ran.out.starts_with("Freehold isn't running.") && ran.err.is_empty(), "{ran:?}");
    assert_eq!(home.json(&["status", "--json"]), serde_json::json!({"running": false}));
    let ran = home.done(&["stop"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "Freehold isn't running.\n"));
    assert!(!home.was_touched());
}

#[test]
fn racing_commands_start_one_daemon() {
    let home = Home::new();
    let racing: Vec<_> = (0..10).map(|_| home.spawn(&["models", "--json"])).collect();
    let ended: Vec<Ran> = racing.into_iter().map(|child| ended(child.wait_with_output().expect("ends"))).collect();
    for ran in &ended {
        assert_eq!(ran.code, 0, "{ran:?}\n{}", home.log());
        assert_eq!(ran.json(), serde_json::json!({"models": []}));
    }
    let serving = home.log().lines().filter(|line| line.contains("serving")).count();
    assert_eq!(serving, 1, "{}", home.log());
}

#[test]
fn what_a_dead_daemon_left_behind_means_nothing() {
    let home = Home::new();
    home.done(&["models"]);
    let pid = home.pid();
    home.kill(Signal::KILL);
    until("the end of the daemon", || (!alive(pid)).then_some(()));
    assert!(home.home.join("run/daemon.sock").exists() && home.home.join("run/daemon.pid").exists());
    assert_eq!(home.json(&["status", "--json"]), serde_json::json!({"running": false}));
    home.done(&["models"]);
    assert_ne!(home.pid(), pid);
}

#[test]
fn a_foreign_file_in_the_sockets_place_is_replaced() {
    let home = Home::new();
    std::fs::create_dir_all(home.home.join("run")).expect("run");
    // A listener that is gone leaves its file.
    drop(UnixListener::bind(home.home.join("run/daemon.sock")).expect("bind"));
    std::fs::write(home.home.join("run/daemon.pid"), "1\n").expect("pid");
    home.done(&["models"]);
    assert_ne!(home.pid(), 1);
}

#[test]
fn stop_returns_when_the_daemon_has_gone() {
    let home = Home::new();
    home.done(&["models"]);
    let pid = home.pid();
    let ran = home.done(&["stop"]);
    assert_eq!(ran.err, format!("Freehold has stopped (process {pid}).\n"));
    assert!(!home.home.join("run/daemon.sock").exists() && !home.home.join("run/daemon.pid").exists());
    // The lock is free at once: nothing has to be waited for or tried again.
    home.done(&["models"]);
    assert_ne!(home.pid(), pid);
}

#[test]
fn signals_end_it_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        home.done(&["models"]);
        let pid = home.pid();
        home.kill(signal);
        until("the end of the daemon", || (!alive(pid)).then_some(()));
        assert!(!home.home.join("run/daemon.sock").exists(), "{signal:?} leaves nothing behind");
    }
}

#[test]
fn in_the_foreground_its_address_is_data() {
    let home = Home::new();
    let mut child = home.spawn(&["serve"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let port: u16 = line.trim().strip_prefix("http://127.0.0.1:").and_then(|port| port.parse().ok()).expect("address");
    assert_eq!(http::get(port, "/health").json()["status"], "ok");
    let second = home.run(&["serve"]);
    assert!(second.fails(13, "daemon_running").err.contains(&child.id().to_string()), "{second:?}");
    kill(i32::try_from(child.id()).expect("pid"), Signal::INT);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("Ctrl-C ends it"), "{ran:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test holds the port")]
fn a_busy_port_is_a_sentence_with_a_way_out() {
    let home = Home::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = holder.local_addr().expect("address").port().to_string();
    for args in [&["models"][..], &["serve"]] {
        let output = home.command(args).env("FREEHOLD_PORT", &port).output().expect("starts");
        let ran = ended(output);
        let text = &ran.fails(13, "port_busy").err;
        assert!(text.contains(&format!("port {port} of 127.0.0.1 is held by ")), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "the holder is named: {text}");
        assert!(text.contains("freehold serve --port "), "{text}");
    }
}

#[test]
fn a_long_home_is_no_obstacle() {
    let home = Home::deep(&format!("{}/{}", "a".repeat(120), "b".repeat(120)));
    home.done(&["models"]);
    let socket = home.socket();
    assert!(socket.as_os_str().len() < 108, "{}", socket.display());
    assert_eq!(mode(socket.parent().expect("folder")), 0o700);
    assert_eq!(mode(&socket), 0o600);
    home.done(&["stop"]);
    assert!(!socket.exists());
    std::fs::remove_dir_all(socket.parent().expect("folder")).expect("its folder was for this home alone");
}

#[test]
fn whatever_it_writes_is_its_owners_alone() {
    let home = Home::new();
    home.done(&["models"]);
    assert_eq!(mode(&home.home), 0o700);
    let mut seen = Vec::new();
    walk(&home.home, &mut |path| {
        // Written by the test, before there was a daemon.
        if !path.ends_with("config.toml") {
            assert_eq!(mode(path) & 0o077, 0, "{}", path.display());
            seen.push(path.to_path_buf());
        }
    });
    for name in ["run/daemon.sock", "run/daemon.pid", "run/daemon.lock", "run/daemon.log"] {
        assert!(seen.contains(&home.home.join(name)), "{name} is there");
    }
}

#[test]
fn what_was_asked_is_never_dumped() {
    let home = Home::new();
    home.done(&["models"]);
    core_dumps_are_off(home.pid());
    home.done(&["stop"]);
    let mut child = home.spawn(&["serve"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    core_dumps_are_off(home.pid());
    kill(home.pid(), Signal::TERM);
    child.wait().expect("ends");
}

fn core_dumps_are_off(pid: i32) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit on core files");
    // 1 is the kernel's word for "nothing to a program that collects dumps either".
    assert!(matches!(core.split_whitespace().nth(4), Some("0" | "1")), "{core}");
}

#[test]
fn a_daemon_of_another_build_is_named_and_replaced_when_asked() {
    let home = Home::new();
    let stand_in = StandIn::start(&home.home, "0.0.1");
    let ran = home.run(&["models"]);
    let text = &ran.fails(13, "version_mismatch").err;
    assert!(text.contains("0.0.1, older than this command"), "{text}");
    assert!(text.contains("--restart") && text.contains("freehold stop"), "{text}");
    home.done(&["models", "--restart"]);
    stand_in.join();
    assert_ne!(home.status()["hello"]["version"], "0.0.1");
}

#[test]
fn a_daemon_with_other_settings_is_named_and_replaced_when_asked() {
    let home = Home::new();
    home.done(&["models"]);
    let pid = home.pid();
    let with = |args: &[&str], name: &str, value: &str| {
        ended(home.command(args).env(name, value).output().expect("the program starts"))
    };
    let ran = with(&["models"], "FREEHOLD_OFFLINE", "0");
    let text = &ran.fails(13, "version_mismatch").err;
    assert!(text.contains("offline is true there and false here"), "{text}");
    assert!(text.contains("--restart") && text.contains("freehold stop"), "{text}");
    for (name, value) in [("FREEHOLD_PORT", "7999"), ("FREEHOLD_LOG", "debug"), ("PATH", "/bin"), ("NO_COLOR", "1")] {
        assert_eq!(with(&["models"], name, value).code, 0, "{name} is no reason for another daemon");
    }
    assert_eq!(with(&["status"], "FREEHOLD_OFFLINE", "0").code, 0, "looking is always possible");
    assert_eq!(home.pid(), pid);
    assert_eq!(with(&["models", "--restart"], "FREEHOLD_OFFLINE", "0").code, 0);
    assert_ne!(home.pid(), pid);
    assert_eq!(home.status()["hello"]["settings"]["offline"], "false");
}

#[test]
fn a_daemon_that_does_not_answer_is_named_within_bounds() {
    let home = Home::new();
    home.done(&["models"]);
    let pid = home.pid();
    home.kill(Signal::STOP);
    let waiting: Vec<_> = [&["status", "--json"][..], &["stop"], &["models"]].map(|args| home.spawn(args)).into();
    for child in waiting {
        let ran = ended(child.wait_with_output().expect("ends"));
        let text = &ran.fails(13, "daemon_unreachable").err;
        assert!(text.contains(&format!("(process {pid}) doesn't answer within 5000 ms")), "{text}");
        assert!(text.contains(&format!("kill -9 {pid}")), "{text}");
    }
    kill(pid, Signal::CONT);
    home.done(&["stop"]);
}

#[test]
fn a_socket_of_another_user_is_not_spoken_to() {
    let Some(mut impostor) = crate::guard::stranger("life::the_stranger_who_listens") else { return };
    let home = Home::deep(&"a".repeat(120));
    home.done(&["models"]);
    let socket = home.socket();
    let folder = socket.parent().expect("its folder").to_path_buf();
    home.done(&["stop"]);
    // For others the folder that all share is where they can be first.
    std::fs::remove_dir_all(&folder).expect("gone");
    writeln!(impostor.stdin.as_ref().expect("stdin"), "{}", socket.display()).expect("the path is told");
    let mut out = BufReader::new(impostor.stdout.take().expect("stdout"));
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert_ne!(out.read_line(&mut line).expect("a line"), 0, "the stranger ended");
    }
    for args in [&["status"][..], &["stop"], &["models"]] {
        let ran = home.run(args);
        let text = &ran.fails(13, "daemon_unreachable").err;
        assert!(text.contains("is answered by user 65534, and you are user 0"), "{text}");
    }
    drop(impostor.stdin.take());
    let mut heard = String::new();
    out.read_to_string(&mut heard).expect("its words");
    assert!(heard.lines().any(|line| line == "heard 0 bytes"), "{heard}");
    assert!(impostor.wait().expect("ends").success());
    // Without a listener the folder itself tells.
    home.run(&["models"]).fails(9, "file_unwritable");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
#[ignore = "the other user of the test above"]
#[expect(clippy::print_stdout, reason = "its words are what the test above reads")]
fn the_stranger_who_listens() {
    let mut lines = std::io::stdin().lines();
    let Some(Ok(socket)) = lines.next() else { return };
    let socket = Path::new(&socket);
    std::fs::create_dir(socket.parent().expect("a folder")).expect("made first");
    std::fs::set_permissions(socket.parent().expect("a folder"), PermissionsExt::from_mode(0o777)).expect("opened");
    let listener = UnixListener::bind(socket).expect("bind");
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o777)).expect("opened");
    println!("\nlistening");
    assert!(lines.next().is_none());
    let mut heard = Vec::new();
    listener.set_nonblocking(true).expect("set");
    while let Ok((mut stream, _)) = listener.accept() {
        stream.read_to_end(&mut heard).expect("read");
    }
    println!("heard {} bytes", heard.len());
}

#[test]
fn ctrl_c_with_json_is_still_one_object() {
    let home = Home::new();
    let (gate, log) = (Gate::new(&home.folder("gates"), "half"), home.path("frames"));
    let script = Script::default().on("slow", vec![Step::Text("half".into()), Step::Wait(gate.path())]).logged(&log);
    home.chat_model("small", &script);
    let child = home.spawn(&["chat", "--json", "-m", "slow"]);
    until_line(&log, "slow");
    kill(i32::try_from(child.id()).expect("pid"), Signal::INT);
    let ran = ended(child.wait_with_output().expect("ends"));
    assert_eq!((ran.code, ran.json()["fault"]["code"].as_str()), (130, Some("cancelled")), "{ran:?}");
}

#[test]
fn what_nobody_counted_is_said_beside_the_sum() {
    let home = Home::new();
    let ledger = home.home.join("ledger");
    std::fs::create_dir_all(&ledger).expect("ledger");
    let carry =
        r#"{"entry":"carry","last_id":2,"totals":{"bytes_sent":0,"bytes_received":5,"crossings":2,"uncounted":2}}"#;
    std::fs::write(ledger.join("ledger.jsonl"), format!("{carry}\n")).expect("ledger");
    home.done(&["models"]);
    assert_eq!(home.status()["crossings_uncounted"], 2);
    let said = home.done(&["status"]).out;
    assert!(said.contains("0 B sent, 5 B received") && said.contains("plus 2 crossings whose sent bytes"), "{said}");
    let said = home.run(&["doctor"]).out;
    assert!(said.contains("plus 2 crossings"), "{said}");
}

#[test]
fn what_a_folder_held_beside_models_is_told() {
    let home = Home::new();
    let models = home.folder("models");
    TestModel::chat(&models, "good", &Script::default());
    std::fs::write(models.join("broken.gguf"), "not a model").expect("written");
    let folder = models.to_str().expect("utf-8");
    let ran = home.done(&["models", "add", folder]);
    assert!(ran.out.contains("good") && ran.err.contains("broken.gguf` was not added: "), "{ran:?}");
    let reply = home.json(&["models", "add", folder, "--json"]);
    assert_eq!(reply["refused"][0]["fault"]["code"], "model_invalid", "{reply}");
    assert!(reply["refused"][0]["path"].as_str().is_some_and(|path| path.ends_with("broken.gguf")), "{reply}");
    std::fs::remove_file(models.join("good.gguf")).expect("removed");
    home.run(&["models", "add", folder]).fails(5, "model_invalid");
}

/// Answers like the daemon of another version, until it is asked to stop.
pub(crate) struct StandIn(std::thread::JoinHandle<()>);

impl StandIn {
    pub(crate) fn start(home: &Path, version: &'static str) -> Self {
        let run = home.join("run");
        std::fs::create_dir_all(&run).expect("run");
        let listener = UnixListener::bind(run.join("daemon.sock")).expect("bind");
        let body = format!("{{\"version\":\"{version}\",\"build\":\"x\",\"pid\":1,\"home\":\"/\"}}");
        Self(std::thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().expect("accept");
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).expect("request");
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let stops = head.starts_with("POST /freehold/v1/stop ");
                let body = if stops { "{\"pid\":1,\"asks_running\":0}\n" } else { &body };
                let reply =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                stream.write_all(reply.as_bytes()).expect("reply");
                if stops {
                    return;
                }
            }
        }))
    }

    pub(crate) fn join(self) {
        self.0.join().expect("it was asked to stop");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        see(&entry.path());
        if entry.file_type().expect("type").is_dir() {
            walk(&entry.path(), see);
        }
    }
}
