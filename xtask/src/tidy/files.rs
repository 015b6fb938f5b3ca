//! The project's own files: what is checked, and what is not ours to check.

use anyhow::{Context, Result};
use std::path::Path;

/// One file: its path below the root with `/` between the parts, and its text.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// Tests, and programs for tests, may be long, start programs and read the environment.
    pub(super) fn is_test(&self) -> bool {
        let beside = ["/tests/", "/benches/", "/examples/"].iter().any(|folder| self.path.contains(folder));
        beside || self.path.ends_with("/tests.rs") || self.package() == "testkit"
    }

    /// The crate's folder name (`engine`), or `xtask`.
    pub(super) fn package(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            Some("fuzz") => "fuzz",
            Some("xtask") => "xtask",
            _ => "",
        }
    }
}

/// Folders that hold nothing of ours: build output, documents to be searched, stored data.
const NOT_OURS: [&str; 4] = ["target", "library", "node_modules", "corpus"];

/// Every `.rs`, `.md` and `.toml` file and every script, in the order of their paths.
///
/// # Errors
/// When a folder can't be read.
pub(super) fn collect(root: &Path) -> Result<Vec<File>> {
    let mut found = Vec::new();
    walk(root, root, &mut found)?;
    found.sort_by(|a: &File, b: &File| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<File>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("can't read `{}`", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        let hidden = name.starts_with('.') && !matches!(name.as_str(), ".config" | ".ci" | ".cargo");
        if hidden || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(root, &entry.path(), found)?;
            }
        } else if is_ours(&name) {
            let path = entry.path();
            let below = path.strip_prefix(root).context("a file outside the root")?;
            // Not UTF-8 means not a source; nothing of ours is written otherwise.
            if let Ok(text) = std::fs::read_to_string(&path) {
                found.push(File { path: below.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((_, end)) => matches!(end, "rs" | "md" | "toml" | "sh"),
        None => matches!(name, "try" | "check" | "run"),
    }
}
