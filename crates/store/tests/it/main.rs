//! The store as others use it: real files, a hub of our own on the loopback interface, real kills.

mod add;
mod families;
mod headers;
mod hub;
mod pull;
mod server;

use freehold_store::{PullStep, Store};
use gateway::{Gateway, GivenBy, Policy, Timeouts};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A store and its gate in a folder of their own.
struct Home {
    dir: tempfile::TempDir,
    store: Store,
    gateway: Gateway,
    cancel: Arc<AtomicBool>,
}

impl Home {
    fn new(hub: &str) -> Self {
        Self::at(tempfile::tempdir().expect("a folder can be made"), hub)
    }

    fn at(dir: tempfile::TempDir, hub: &str) -> Self {
        let timeouts = Timeouts { connect_ms: 5_000, answer_ms: 2_000, stall_ms: 500 };
        let policy = Policy { hub: hub.to_owned(), timeouts, mirror: false, ..Policy::default() };
        let gateway = Gateway::open(dir.path(), policy).expect("the gate opens");
        let store = Store::open(dir.path()).expect("the store opens");
        Self { dir, store, gateway, cancel: Arc::default() }
    }

    /// The same folder, whose store has forgotten every model.
    fn without_index(self) -> Self {
        std::fs::remove_file(self.path("models/index.json")).expect("there is an index");
        let store = Store::open(self.dir.path()).expect("the store opens");
        Self { store, ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Pulls, and gives what was told on the way.
    fn pull(&self, what: &str) -> (Result<Vec<freehold_store::Entry>, base::Fault>, Vec<PullStep>) {
        let mut steps = Vec::new();
        let given_by = GivenBy::Command(format!("freehold pull {what}"));
        let result = self.store.pull(what, &self.gateway, given_by, &mut |step| steps.push(step), &self.cancel);
        (result, steps)
    }
}

fn notices(steps: &[PullStep]) -> String {
    let text = |step: &PullStep| match step {
        PullStep::Notice(text) => Some(text.clone()),
        _ => None,
    };
    steps.iter().filter_map(text).collect::<Vec<_>>().join("\n")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("the folder is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
