//! What a person sees on a terminal and a program doesn't: colour, lines, bars, a conversation.

use crate::home::{Home, kill, until_line};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use testkit::{Gate, Script, Step, until};

/// A terminal with a command on it.
struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn run(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("grant");
        unlockpt(&master).expect("unlock");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(master.as_fd(), size).expect("size");
        let name = ptsname(&master, Vec::new()).expect("name").into_string().expect("utf-8");
        let side = || File::options().read(true).write(true).open(&name).expect("the terminal's other side");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("the program starts");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (File::from(master), Arc::clone(&seen));
        let master = reader.try_clone().expect("another handle");
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal that nobody holds open any more gives an error: its end.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                sink.lock().expect("lock").extend_from_slice(&bytes[..count]);
            }
        });
        Self { master, child, seen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("lock")).replace("\r\n", "\n")
    }

    fn until(&self, text: &str) {
        until(&format!("{text:?} on the terminal, where there is {:?}", self.text()), || {
            self.text().contains(text).then_some(())
        });
    }

    fn type_line(&mut self, text: &str) {
        self.master.write_all(format!("{text}\n").as_bytes()).expect("type");
    }

    /// The exit status, and all that was seen, once `last` has been.
    fn end(mut self, last: &str) -> (i32, String) {
        let status = self.child.wait().expect("ends");
        self.until(last);
        (status.code().unwrap_or(-1), self.text())
    }
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let home = Home::new();
    home.chat_model("small", &Script::default());
    let (code, text) = Terminal::run(home.command(&["models"]), 80).end("in place");
    assert_eq!(code, 0);
    assert!(text.contains('\u{1b}'), "{text:?}");
    let mut plain = home.command(&["models"]);
    plain.env("NO_COLOR", "1");
    let (_, text) = Terminal::run(plain, 80).end("in place");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn what_a_model_says_cannot_steer_the_terminal() {
    let home = Home::new();
    let evil = "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[2Jdone";
    home.chat_model("small", &Script::default().on("evil", vec![Step::Text(evil.into())]));
    let (_, text) = Terminal::run(home.command(&["chat", "-m", "evil"]), 80).end("answer 1 token");
    assert!(text.contains("\u{fffd}]52;c;ZXZpbA==\u{fffd}\u{fffd}[2Jdone"), "{text:?}");
    // A program gets what was said.
    assert_eq!(home.done(&["chat", "-m", "evil"]).out, format!("{evil}\n"));
}

#[test]
fn lines_end_between_words() {
    let home = Home::new();
    let words = vec![Step::Repeat(12, "twelve words ".into())];
    home.chat_model("small", &Script::default().on("many", words));
    let mut command = home.command(&["chat", "-m", "many"]);
    command.env("NO_COLOR", "1");
    let (_, text) = Terminal::run(command, 40).end("answer 12 tokens");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("twelve")).collect();
    assert_eq!(lines.len(), 4, "{text:?}");
    for line in lines {
        assert!(line.chars().count() <= 40 && line.trim_end().ends_with("words"), "{line:?}");
    }
}

#[test]
fn ctrl_c_stops_an_answer_and_the_conversation_goes_on() {
    let home = Home::new();
    let (gate, log) = (Gate::new(&home.folder("gates"), "half"), home.path("frames"));
    let steps = vec![Step::Text("half an".into()), Step::Wait(gate.path())];
    home.chat_model(
        "small",
        &Script::default().on("a second question", vec![Step::Text("all of it".into())]).on("slow", steps).logged(&log),
    );
    let mut terminal = Terminal::run(home.command(&["chat"]), 80);
    terminal.until("> ");
    terminal.type_line("slow");
    terminal.until("half an");
    kill(i32::try_from(terminal.child.id()).expect("pid"), Signal::INT);
    terminal.until("stopped");
    until_line(&log, "cancel");
    terminal.type_line("a second question");
    terminal.until("all of it");
    let frames = std::fs::read_to_string(&log).expect("frames");
    let second = frames.lines().find(|line| line.contains("a second question")).expect("the second prompt");
    assert!(second.contains("slow") && second.contains("half an"), "what was said before is remembered: {second}");
    terminal.type_line("/exit");
    assert_eq!(terminal.end("").0, 0);
}

#[test]
fn a_conversation_that_outgrows_the_window_goes_on_and_says_so() {
    let home = Home::new();
    let log = home.path("frames");
    let script = Script::default().on("beta", vec![Step::Text("the second".into())]).windowed(30).logged(&log);
    home.chat_model("small", &script);
    let mut command = home.command(&["chat"]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::run(command, 200);
    terminal.until("> ");
    terminal.type_line("alpha with a dozen of words that all take their place here");
    terminal.until("one two three");
    terminal.type_line("beta with a dozen of words that all take their place too");
    terminal.until("the second");
    let text = terminal.text();
    let notice = text.find("the model isn't shown the oldest turn (2 messages,").unwrap_or_else(|| panic!("{text}"));
    assert!(text.find("the second").is_some_and(|answer| notice < answer), "{text}");
    let frames = std::fs::read_to_string(&log).expect("frames");
    let last = frames.lines().rfind(|line| line.starts_with("begin")).expect("a prompt");
    assert!(last.contains("beta") && !last.contains("alpha"), "{last}");
    terminal.type_line("/exit");
    assert_eq!(terminal.end("").0, 0);
}

#[test]
fn a_daemon_of_another_build_is_asked_about() {
    let home = Home::new();
    let stand_in = crate::life::StandIn::start(&home.home, "0.0.1");
    let mut terminal = Terminal::run(home.command(&["models"]), 100);
    terminal.until("Restart it now (nothing is running)? [Y/n] ");
    terminal.type_line("");
    let (code, text) = terminal.end("no model yet");
    assert_eq!(code, 0, "{text}");
    stand_in.join();
}
