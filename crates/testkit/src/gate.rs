//! A gate between a test and a scripted worker: a named pipe, so that both sides wait instead of sleeping.

use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Made by the test; a worker that reaches `Step::Wait` of its path reads one byte from it.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    /// Open for both directions, so that neither side blocks in `open` and bytes stay until read.
    pipe: File,
}

impl Gate {
    /// # Panics
    /// When the pipe can't be made: the test can't go on.
    pub fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.gate"));
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a test can make a named pipe");
        let pipe = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
            .expect("a test can open its own pipe");
        Self { path, pipe: File::from(pipe) }
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Lets `count` waits go on, those to come included.
    ///
    /// # Panics
    /// When the pipe is full, that is after thousands of releases that nobody took.
    pub fn release(&self, count: usize) {
        (&self.pipe).write_all(&vec![b'.'; count]).expect("a gate takes a few thousand releases");
    }
}
