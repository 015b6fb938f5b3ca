//! Programs that aren't ours, confined.

use crate::{lines, probe, probe_path, read_lines};
use freehold_jail::{Command, Filter, Io, Limits, Rules, set_trampoline};
use std::io::Read;
use std::path::Path;

fn confined(rules: Rules) -> Command {
    set_trampoline(probe_path());
    probe().rules(rules.and_execute(&probe_path()))
}

#[test]
fn a_program_writes_only_where_it_may() {
    let (may, may_not) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = may_not.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let [inside, outside] = [may.path(), may_not.path()].map(|dir| dir.join("new"));
    let answers = lines(confined(Rules::system().and_write(may.path())).args([
        format!("write {}", inside.display()),
        format!("read {}", inside.display()),
        format!("write {}", outside.display()),
        format!("read {}", secret.display()),
        format!("remove {}", secret.display()),
        format!("write {}", secret.display()),
        format!("remove {}", inside.display()),
        "write /dev/null".into(),
    ]));
    let no = format!("errno {}", libc::EACCES);
    assert_eq!(answers[..2], ["written", "written"]);
    assert!(answers[2..6].iter().all(|answer| *answer == no), "{answers:?}");
    assert_eq!(answers[6..], ["removed", "written"]);
    assert!(!outside.exists() && !inside.exists());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn it_is_confined_as_told() {
    let answers = lines(confined(Rules::system()).args([
        "field /proc/self/status NoNewPrivs:".to_owned(),
        "field /proc/self/status CapEff:".into(),
        "field /proc/self/limits Max core file size".into(),
        "env".into(),
        "fds".into(),
        format!("read /proc/{}/environ", std::process::id()),
        "list /home".into(),
        "list /root".into(),
        // Without a list of calls the network stays.
        format!("raw {}:2,1,0", libc::SYS_socket),
        // Tracing itself, which the kernel would permit otherwise.
        format!("raw {}:0,0,0,0", libc::SYS_ptrace),
        format!("raw {}:268435456", libc::SYS_unshare),
        format!("raw {}:268435473,0,0,0,0", libc::SYS_clone),
        format!("raw {}:zeros,88", libc::SYS_clone3),
        format!("raw {}:-1,21522,0", libc::SYS_ioctl),
        "thread".into(),
    ]));
    let no = format!("errno {}", libc::EACCES);
    assert_eq!(answers[..9], ["1", "0000000000000000", "1 1 bytes", "", "0 1 2", &no, &no, &no, "0"]);
    assert_eq!(answers[9..], ["1", "1", "1", "38", "1", "42"]);
}

/// It may call out, and nobody can call it, on whatever port the system would give it.
#[test]
fn it_can_not_wait_for_calls() {
    assert_eq!(lines(confined(Rules::system()).arg("listen 0")), [format!("errno {}", libc::EACCES)]);
    assert_eq!(lines(probe().arg("listen 0")), ["listens"]);
}

/// Other programs of the same person answer on Unix sockets, this daemon among them. A folder that it may
/// write to makes no difference, nor does the kind of socket.
#[test]
fn it_reaches_no_other_program_by_a_socket() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("daemon.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let call = format!("call {}", path.display());
    let rules = Rules::system().and_write(place.path()).and_execute(place.path());
    let datagram = format!("raw {}:1,2,0", libc::SYS_socket);
    let pair = format!("raw {}:1,{},0,zeros", libc::SYS_socketpair, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    let answers = lines(confined(rules).args([&call, &datagram, &pair, "pair"]));
    let no = libc::EPERM.to_string();
    assert_eq!(answers, [&format!("errno {no}"), &no, &no, "paired"]);
    assert_eq!(lines(probe().arg(call)), ["answered"]);
}

/// What it starts is bound as it is itself.
#[test]
fn its_children_are_bound_too() {
    let place = tempfile::tempdir().unwrap();
    let script = format!("echo text > {0}/file || cat /etc/shadow || echo no", place.path().display());
    set_trampoline(probe_path());
    let mut child = Command::new(Path::new("sh"))
        .args(["-c".to_owned(), format!("sh -c '{script}'; true")])
        .stdout(Io::Pipe)
        .rules(Rules::system())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text, "no\n");
    assert!(!place.path().join("file").exists());
}

#[test]
fn bounds_and_descriptors_reach_the_program() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let limits = Limits { memory_bytes: Some(256 << 20), ..Limits::default() };
    let command = confined(Rules::system()).limits(limits).env("ONE", "1").fd(file.into(), 5);
    let answers = lines(command.args(["env", "fds", "grow 1073741824"]));
    assert_eq!(answers, ["ONE;", "0 1 2 5", "refused"]);
}

#[test]
fn failures_have_their_own_codes() {
    set_trampoline(probe_path());
    let rules = serde_json::to_string(&Rules::system()).unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["__confine"], 125, "needs RULES"),
        (&["__confine", &rules, "and", "/bin/true"], 125, "needs `--`"),
        (&["__confine", "{}", "--", "/bin/true"], 125, "can't be read"),
        (&["__confine", &rules, "--", "/nowhere/to/be/found"], 126, "can't be run"),
        (&["__confine", &rules, "--", "/etc/passwd"], 126, "can't be run"),
    ];
    for (args, code, reason) in cases {
        let mut child = Command::new(&probe_path()).args(args.iter().copied()).stderr(Io::Pipe).spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{args:?}");
        assert!(text.contains(reason) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_program_that_may_not_run_does_not() {
    set_trampoline(probe_path());
    // Libraries and readable programs, none to run.
    let mut child =
        probe().stderr(Io::Null).rules(Rules::system_read().and_read(&probe_path())).arg("pid").spawn().unwrap();
    assert_eq!(read_lines(&mut child), [""; 0]);
    assert_eq!(child.wait().unwrap().code(), Some(126));
}

/// It loads its libraries, makes threads and has what it was given; there is no way to anything else.
#[test]
fn a_program_that_recognises_gets_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let (secret, data) = (place.path().join("secret"), place.path().join("data"));
    for path in [&secret, &data] {
        std::fs::write(path, "words").unwrap();
    }
    set_trampoline(probe_path());
    let rules = Rules::program(&probe_path()).and_read(&data).with_filter(Filter::Recognise);
    let answers = lines(probe().rules(rules).args([
        "thread".to_owned(),
        "env".into(),
        "fds".into(),
        format!("read {}", data.display()),
        format!("read {}", secret.display()),
        "read /etc/passwd".into(),
        "list /usr/bin".into(),
        format!("write {}", data.display()),
        format!("raw {}:2,1,0", libc::SYS_socket),
        format!("raw {}:1,1,0,0", libc::SYS_socketpair),
        // A process of its own, and another one's.
        format!("raw {}:17,0,0,0,0", libc::SYS_clone),
        format!("raw {}:1,0", libc::SYS_kill),
        format!("raw {}:zeros,88", libc::SYS_clone3),
    ]));
    let no = format!("errno {}", libc::EACCES);
    assert_eq!(answers[..7], ["42", "", "0 1 2", "words", &no, &no, &no]);
    assert_eq!(answers[7..], [&format!("errno {}", libc::EPERM), "1", "1", "1", "1", "38"]);
}

/// A program that isn't ours runs with what there is, and what there isn't stands in its output.
#[test]
fn less_protection_is_said_aloud() {
    let rules = serde_json::to_string(&Rules::system().and_execute(&probe_path())).unwrap();
    let hide = format!("hide {}", libc::SYS_landlock_create_ruleset);
    let become_confined = format!("confine {rules}");
    let mut child = probe().stderr(Io::Pipe).args([hide, become_confined]).spawn().unwrap();
    assert_eq!(read_lines(&mut child), ["hidden", "1"]);
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text, "less protection than asked for: Landlock: this kernel has none; Linux 5.13 or newer is needed\n");
}
