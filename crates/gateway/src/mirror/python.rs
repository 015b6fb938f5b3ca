//! Which Python has a package client, and what that Python needs to read.

use super::{LIMITS, unstarted};
use crate::policy::MirrorEnv;
use base::{Code, Fault};
use jail::{Command, Io, KillOnDrop, Limits, Rules};
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const USUAL_PLACES: [&str; 4] =
    ["/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3", "/opt/local/bin/python3"];
const PROBE_MS_MAX: u64 = 20_000;
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Says where this Python lives and which pip it has, as one line of JSON.
const PROBE: &str = "import json,sys,pip; print(json.dumps({'executable': sys.executable, \
    'prefixes': sorted({sys.prefix, sys.base_prefix, sys.exec_prefix}), \
    'paths': [p for p in sys.path if p], 'pip_version': pip.__version__}))";

#[derive(Debug, Deserialize)]
pub(super) struct Python {
    pub(super) executable: PathBuf,
    pub(super) pip_version: String,
    prefixes: Vec<PathBuf>,
    paths: Vec<PathBuf>,
}

impl Python {
    /// The first interpreter that has pip. The one that a shell finds may be a script which starts
    /// another: it is asked for the real one, and only that is run later.
    pub(super) fn find(env: &MirrorEnv, work: &Path) -> Result<Self, Fault> {
        let mut last = None;
        for place in env.python.iter().cloned().chain(USUAL_PLACES.map(PathBuf::from)).filter(|place| place.exists()) {
            match probe(&place, work) {
                Ok(python) => return Ok(python),
                Err(fault) => last = Some(fault),
            }
        }
        let missing = Fault::new(Code::DownloadFailed, "no Python with pip was found, so the package index can't be asked")
            .hint("install it (`apt install python3-pip`, `dnf install python3-pip`, `brew install python`) and run the same command again");
        Err(match last {
            Some(fault) => missing.cause(fault),
            None => missing,
        })
    }

    /// The system, this Python, the registry settings; writes below `into` alone.
    pub(super) fn rules(&self, env: &MirrorEnv, into: &Path) -> Rules {
        let mut rules = Rules::system().and_write(into).and_read(Path::new("/etc/pip.conf"));
        for place in self.prefixes.iter().chain(&self.paths).filter(|place| place.as_path() != Path::new("/")) {
            rules = rules.and_execute(place);
        }
        // The interpreter may be a link into another folder.
        for program in [Some(self.executable.clone()), self.executable.canonicalize().ok()].into_iter().flatten() {
            rules = rules.and_execute(&program);
        }
        // Settings that name files (`PIP_CERT`, `PIP_FIND_LINKS`, …) are of no use unless those can be read.
        let named = env.vars.iter().flat_map(|(_, value)| value.split_whitespace()).map(Path::new);
        for path in named.chain(env.config_file.as_deref()).filter(|path| path.is_absolute() && path.exists()) {
            rules = rules.and_read(path);
        }
        rules
    }
}

/// Asks an interpreter about itself. It may read what the person may, and write nothing.
fn probe(place: &Path, work: &Path) -> Result<Python, Fault> {
    let unfit = |why: String| Fault::new(Code::DownloadFailed, format!("`{}` can't be used: {why}", place.display()));
    let root = Path::new("/");
    let child = Command::new(place)
        .args(["-c", PROBE])
        .env("PATH", PATH)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(work)
        .stdout(Io::Pipe)
        .limits(Limits { cpu_seconds: Some(20), ..LIMITS })
        .die_with_parent()
        .rules(Rules::default().and_execute(root).and_read(root).and_write(Path::new("/dev/null")))
        .spawn()
        .map_err(|error| unstarted(place, &error))?;
    let mut child = KillOnDrop(child);
    // The answer is far shorter than a pipe holds, so waiting first can't lock up.
    let status = child
        .wait_timeout(Duration::from_millis(PROBE_MS_MAX))
        .map_err(|error| unfit(error.to_string()))?
        .ok_or_else(|| unfit(format!("it did not answer within {PROBE_MS_MAX} ms")))?;
    if !status.success() {
        return Err(unfit("it has no pip".to_owned()));
    }
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(ANSWER_BYTES_MAX).read_to_end(&mut text).map_err(|error| unfit(error.to_string()))?;
    }
    serde_json::from_slice(&text).map_err(|_| unfit("it gave no answer about itself".to_owned()))
}
