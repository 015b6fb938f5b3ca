//! Where things lie: the repository, the cache outside it, cargo's target directory.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The repository's root. Cargo says where this package lies when it runs it; what was compiled in
/// would name another checkout where two of them share a target directory.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    let here = std::path::absolute(&here).unwrap_or(here);
    here.parent().expect("xtask lies one folder below the root").to_path_buf()
}

/// Downloads, peers and logs that a clean checkout can make again: `$FREEHOLD_CACHE_DIR`, else the
/// user's cache folder. `scripts/setup.sh` follows the same rule.
///
/// # Errors
/// When no home is set or the folder can't be made.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = match (set("FREEHOLD_CACHE_DIR"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(dir), _, _) => dir,
        (None, Some(dir), _) => dir.join("freehold-build"),
        (None, None, Some(home)) => home.join(".cache/freehold-build"),
        (None, None, None) => bail!("neither FREEHOLD_CACHE_DIR nor HOME is set"),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("can't make `{}`", dir.display()))?;
    Ok(dir)
}

/// What cargo tells the program that it runs about that program's own package.
const OWN_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// The cargo that started this chore, so that a toolchain chosen there is kept. What it said about
/// `xtask` is taken out again: some build scripts (ring's) watch these variables, and would run anew.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if OWN_PACKAGE.iter().any(|start| text.starts_with(start)) || text == "CARGO_PRIMARY_PACKAGE" {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// `cargo metadata` of the whole workspace; `platform` narrows the resolved graph to one target.
///
/// # Errors
/// When cargo can't resolve the workspace.
pub fn metadata(platform: Option<&str>) -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]);
    if let Some(platform) = platform {
        command.args(["--filter-platform", platform]);
    }
    let out = command.stderr(Stdio::inherit()).output().context("can't run cargo")?;
    if !out.status.success() {
        bail!("`cargo metadata --locked` failed; is Cargo.lock up to date?");
    }
    serde_json::from_slice(&out.stdout).context("`cargo metadata` printed something that isn't JSON")
}

/// Cargo's target directory, wherever the person has put it.
///
/// # Errors
/// When `cargo metadata` fails.
pub fn target() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        return std::path::absolute(dir).context("CARGO_TARGET_DIR");
    }
    let metadata = metadata(None)?;
    let dir = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(dir))
}

/// The first of `names` that is on PATH.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|file| file.is_file()))
}

/// Runs a program and gives back its standard output.
///
/// # Errors
/// When it can't be started or ends with another status than 0; the end of its stderr is told.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("can't run `{name}`"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("`{name}` failed ({}):\n{}", out.status, tail.join("\n"));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_name_both_starter_models_with_their_sums() {
        let script = format!("root='{}'; . \"$root/scripts/setup.sh\"; announce_models", root().display());
        let out = Command::new("bash").args(["-c", &script]).output().expect("bash");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let is_sum = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
        assert!(out.status.success(), "{said}");
        assert!(said.split_whitespace().filter(|word| is_sum(word)).count() >= 2, "{said}");
        assert_eq!(said.matches("from the Python package index: ").count(), 2, "{said}");
        assert_eq!(said.matches(" MB, apache-2.0").count(), 2, "{said}");
    }

    #[test]
    fn a_failing_program_brings_its_words() {
        let mut command = Command::new("sh");
        let error = output(command.args(["-c", "echo why >&2; exit 3"])).expect_err("it fails").to_string();
        assert!(error.contains("why"), "{error}");
        assert!(output(&mut Command::new("/nowhere/at/all")).is_err());
    }
}
