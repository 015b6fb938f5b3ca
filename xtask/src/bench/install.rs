//! Other libraries, from the Python package index into environments of their own in the cache.
//!
//! Each is pinned: `xtask/peers/LIST.txt` names every package with its version and SHA-256, and nothing else
//! is installed. A peer that can't be had on this machine is left out, and the report says so.

use crate::place;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library, or some together, that one program of ours drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Name of its list, and of its environment.
    pub(super) list: &'static str,
    pub(super) name: &'static str,
    /// The packages that do the work, whose versions are told.
    pub(super) packages: &'static [&'static str],
    /// Of all packages that are installed for it.
    pub(super) licences: &'static str,
    pub(super) megabytes: u32,
}

/// A peer that is ready to run.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) known: Known,
    python: PathBuf,
    /// Its packages with their versions.
    pub(super) versions: String,
}

impl Peer {
    /// One of our programs beside the lists, with this peer's packages. `-I` keeps the person's own packages and
    /// variables out.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("-I").arg(folder().join(program));
        command
    }

    /// A file of one of its packages.
    ///
    /// # Errors
    /// When no package holds it.
    pub(super) fn file(&self, below: &str) -> Result<PathBuf> {
        let lib = self.python.with_file_name("../lib");
        let versions = std::fs::read_dir(&lib).with_context(|| format!("can't read `{}`", lib.display()))?;
        let mut files = versions.flatten().map(|version| version.path().join("site-packages").join(below));
        files.find(|path| path.is_file()).with_context(|| format!("{} has no `{below}`", self.known.name))
    }
}

fn folder() -> PathBuf {
    place::root().join("xtask/peers")
}

/// Installs a peer when it isn't there yet.
///
/// # Errors
/// When Python, or a package with the pinned sum, can't be had here.
pub(super) fn ensure(known: Known) -> Result<Peer> {
    let file = folder().join(format!("{}.txt", known.list));
    let pinned = std::fs::read_to_string(&file).with_context(|| format!("can't read `{}`", file.display()))?;
    let home = place::cache()?.join("peers").join(known.list);
    let (mark, python) = (home.join("installed.txt"), home.join("bin/python"));
    // Written last: an environment without it, or with another list, is made anew.
    if std::fs::read_to_string(&mark).ok().as_deref() != Some(&pinned) || !python.is_file() {
        install(known, &file, &home, &python)?;
        std::fs::write(&mark, &pinned)?;
    }
    Ok(Peer { known, python, versions: versions(known.packages, &pinned) })
}

fn install(known: Known, pinned: &Path, home: &Path, python: &Path) -> Result<()> {
    let system = place::on_path(&["python3", "python"]).context("python3 isn't here")?;
    eprintln!("fetching {} ({} MB, {}) from the Python package index …", known.name, known.megabytes, known.licences);
    if home.is_dir() {
        std::fs::remove_dir_all(home).with_context(|| format!("can't remove `{}`", home.display()))?;
    }
    place::output(Command::new(system).args(["-m", "venv"]).arg(home))?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    // Wheels alone: what is built here would have no sum of its own.
    pip.args(["--only-binary", ":all:", "-r"]).arg(pinned);
    place::output(&mut pip)?;
    Ok(())
}

/// `name version` of each package, as the pinned list has them.
fn versions(packages: &[&str], pinned: &str) -> String {
    let version = |package: &&str| {
        let start = format!("{package}==");
        let line = pinned.lines().find_map(|line| line.trim().strip_prefix(&start))?;
        Some(format!("{package} {}", line.split_whitespace().next()?))
    };
    packages.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{embed, map};

    #[test]
    fn every_package_is_pinned_by_its_sum() {
        for known in map::KNOWN.into_iter().chain(embed::KNOWN) {
            let file = folder().join(format!("{}.txt", known.list));
            let text = std::fs::read_to_string(&file).expect("a list of packages");
            let joined = text.replace("\\\n", " ");
            let lines: Vec<&str> =
                joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            assert!(!lines.is_empty());
            for line in lines {
                let words: Vec<&str> = line.split_whitespace().collect();
                assert!(words[0].contains("=="), "{line}");
                let sums: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix("--hash=sha256:")).collect();
                assert!(!sums.is_empty() && sums.iter().all(|sum| sum.len() == 64), "{line}");
            }
            assert_eq!(versions(known.packages, &text).split(", ").count(), known.packages.len(), "{text}");
        }
    }

    #[test]
    fn versions_are_those_of_the_list() {
        let pinned = "# x\na==1.2 \\\n    --hash=sha256:00\nab==3 --hash=sha256:11\n";
        assert_eq!(versions(&["ab", "a", "c"], pinned), "ab 3, a 1.2");
    }
}
