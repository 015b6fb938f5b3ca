//! A home with its own daemon, ended with the test.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use testkit::{Hello, Script, SelfTestScript, TempHome, TestModel, until, worker_that_says};

#[derive(Debug)]
pub(crate) struct Home {
    folder: TempHome,
    /// FREEHOLD_HOME; `folder` holds models and scripts too.
    pub(crate) home: PathBuf,
    worker: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = TempHome::new();
        let home = folder.join("home");
        Self::at(folder, home)
    }

    /// With FREEHOLD_HOME at another place in the folder.
    pub(crate) fn deep(below: &str) -> Self {
        let folder = TempHome::new();
        let home = folder.join(below);
        Self::at(folder, home)
    }

    /// With the real worker and the starter model, both where `cargo xtask ci` says that they are.
    #[expect(clippy::disallowed_methods, reason = "where the real worker lies is told to tests by the environment")]
    pub(crate) fn real() -> Self {
        let named = |variable: &str| {
            let path = std::env::var_os(variable).map(PathBuf::from);
            let path = path.unwrap_or_else(|| panic!("{variable} isn't set; `cargo xtask ci` sets it"));
            assert!(path.exists(), "{variable} names {}, which isn't there", path.display());
            path
        };
        let mut home = Self::new();
        home.worker = named("FREEHOLD_TEST_NATIVE").join("freehold-worker");
        home.done(&["models", "add", named("FREEHOLD_TEST_MODEL").to_str().expect("utf-8")]);
        home
    }

    fn at(folder: TempHome, home: PathBuf) -> Self {
        let worker = worker_that_says(&folder.folder("native"), &Hello::default());
        SelfTestScript::right(100.0).write(&folder.join("native/libggml-cpu-test.so"));
        std::fs::create_dir_all(&home).expect("home");
        // The scripted worker is under no confinement, and says so.
        std::fs::write(home.join("config.toml"), "confine = \"best-effort\"\n").expect("config");
        Self { folder, home, worker }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.folder(name)
    }

    #[expect(clippy::disallowed_methods, reason = "the tests start the program as a person would")]
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("FREEHOLD_HOME", &self.home)
            .env("FREEHOLD_PORT", "0")
            .env("FREEHOLD_OFFLINE", "1")
            .env("FREEHOLD_WORKER", &self.worker)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ended(self.command(args).output().expect("the program starts"))
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}\n{}", self.log());
        ran
    }

    /// The one JSON object that a command prints.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.done(args);
        ran.json()
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("the program starts")
    }

    /// Adds a chat model that plays `script`, and makes it the default.
    pub(crate) fn chat_model(&self, name: &str, script: &Script) {
        let models = self.folder("models");
        TestModel::chat(&models, name, script);
        let file = models.join(format!("{name}.gguf"));
        self.done(&["models", "add", file.to_str().expect("utf-8")]);
    }

    /// Adds a model that was written already.
    pub(crate) fn model(&self, model: &TestModel) {
        self.done(&["models", "add", model.path.to_str().expect("utf-8")]);
    }

    pub(crate) fn embed_model(&self, name: &str) {
        let models = self.folder("models");
        TestModel::embed(&models, name, &Script::default());
        let file = models.join(format!("{name}.gguf"));
        self.done(&["models", "add", file.to_str().expect("utf-8")]);
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// The port of the running daemon.
    pub(crate) fn port(&self) -> u16 {
        let status = self.status();
        let address = status["address"].as_str().unwrap_or_else(|| panic!("no address in {status}"));
        address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(self.status()["socket"].as_str().expect("socket"))
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        let pid = self.status()["hello"]["pid"].as_i64().expect("pid");
        i32::try_from(pid).expect("a pid")
    }

    pub(crate) fn kill(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("run/daemon.log")).unwrap_or_default()
    }

    /// Whether a command has tried to start a daemon here.
    pub(crate) fn was_touched(&self) -> bool {
        self.home.join("run").exists()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed may have left its daemon busy. Its word on who it is counts only while
        // such a process is there.
        let pid = std::fs::read_to_string(self.home.join("run/daemon.pid")).unwrap_or_default();
        let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if let (Ok(pid), true) = (pid.trim().parse(), cmdline.contains("serve")) {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Ran {
    /// stdout as exactly one JSON value on one line.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.matches('\n').count(), 1, "one line on stdout: {self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn fails(&self, code: i32, name: &str) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        let said = format!("error[{name}]: ");
        assert!(self.err.lines().any(|line| line.starts_with(&said)), "{self:?}");
        assert!(self.err.contains("\nhint: "), "no way out: {self:?}");
        self
    }
}

pub(crate) fn ended(output: Output) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code, out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) fn kill(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; nobody here is its parent.
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Waits until the file holds a line that has `text` in it.
pub(crate) fn until_line(path: &Path, text: &str) {
    until(&format!("`{text}` in {}", path.display()), || {
        std::fs::read_to_string(path).unwrap_or_default().lines().any(|line| line.contains(text)).then_some(())
    });
}
