//! A folder for one test, and waiting for a condition with a bound.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A home folder that is removed when the test ends.
#[derive(Debug)]
pub struct TempHome {
    folder: TempDir,
}

impl TempHome {
    /// # Panics
    /// When the system gives no temporary folder: the test can't go on.
    #[expect(clippy::new_without_default, reason = "it makes a folder: not what a default does")]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("freehold-test-").tempdir();
        Self { folder: folder.expect("the system gives a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder inside, made when it isn't there.
    ///
    /// # Panics
    /// When it can't be made: the test can't go on.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).expect("a test's folder can be made");
        path
    }
}

/// Asks again and again until `ready` answers, at most 30 seconds.
///
/// # Panics
/// With `what` when it never does.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < end, "waited 30 seconds for: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
