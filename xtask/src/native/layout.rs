//! Lays worker, libraries and backends side by side, where they find each other.

use super::{Compiler, Workspace, say, worker::Built};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A backend as a file that the worker loads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackendFile {
    /// Its name in the native folder.
    pub file: String,
    /// `cpu`, `cuda`, `vulkan`, `hip`, `metal`.
    pub kind: String,
    /// `zen4`, `baseline` …
    pub variant: String,
    /// CPU features that its code needs.
    pub features: Vec<String>,
    /// The options that it was built with.
    pub defines: Vec<(String, String)>,
    #[serde(skip)]
    pub(super) built: PathBuf,
}

/// The finished folder. The same facts lie in it as `native.json`.
#[derive(Debug, Clone, Serialize)]
pub struct NativeDir {
    #[serde(skip)]
    pub path: PathBuf,
    #[serde(skip)]
    pub worker: PathBuf,
    /// Version of the bindings, which names the llama.cpp tree in them.
    pub llama_cpp_sys: String,
    pub compiler: Compiler,
    /// Best first; the baseline is the last of its kind.
    pub backends: Vec<BackendFile>,
    /// What was looked for and not found, in words.
    pub notes: Vec<String>,
}

pub fn lay_out(
    workspace: &Workspace,
    compiler: &Compiler,
    built: &Built,
    backends: Vec<BackendFile>,
    notes: Vec<String>,
) -> Result<NativeDir> {
    let path = workspace.target.join("native");
    std::fs::create_dir_all(&path).with_context(|| format!("can't create {}", path.display()))?;
    let mut kept = Vec::new();
    for (name, source) in libraries(&built.out.join("lib"))? {
        place(&source, &path.join(&name))?;
        kept.push(name);
    }
    for backend in &backends {
        place(&backend.built, &path.join(&backend.file))?;
        kept.push(backend.file.clone());
    }
    let worker = path.join(if cfg!(windows) { "freehold-worker.exe" } else { "freehold-worker" });
    place(&built.worker, &worker)?;
    remove_strangers(&path, &kept);
    let native = NativeDir {
        path,
        worker,
        llama_cpp_sys: workspace.llama_version.clone(),
        compiler: compiler.clone(),
        backends,
        notes,
    };
    let text = serde_json::to_string_pretty(&native)?;
    let file = native.path.join("native.json");
    if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(native);
    }
    std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    Ok(native)
}

/// The shared libraries under the names that the loader asks for (`libllama.so.0`), with the real
/// file behind each. Upstream's helper library `common` isn't ours to ship.
fn libraries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut list = Vec::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_loader_name(&name) && !name.contains("common") {
            list.push((name, std::fs::canonicalize(entry.path())?));
        }
    }
    anyhow::ensure!(!list.is_empty(), "no llama.cpp library in {}", folder.display());
    Ok(list)
}

/// `libllama.so.0` and `libllama.0.dylib`, not `libllama.so` or `libllama.so.0.6.0`.
fn is_loader_name(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let linux = name.split_once(".so.").is_some_and(|(_, rest)| number(rest));
    let mac = name.strip_suffix(".dylib").and_then(|n| n.split_once('.')).is_some_and(|(_, rest)| number(rest));
    name.starts_with("lib") && (linux || mac)
}

/// Puts a copy in place by renaming, so that a worker that runs from the old file goes on.
fn place(source: &Path, target: &Path) -> Result<()> {
    let bytes = std::fs::read(source).with_context(|| format!("can't read {}", source.display()))?;
    if std::fs::read(target).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = target.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, &bytes).with_context(|| format!("can't write {}", partial.display()))?;
    executable(&partial)?;
    std::fs::rename(&partial, target).with_context(|| format!("can't write {}", target.display()))?;
    Ok(())
}

#[cfg(unix)]
fn executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).context("can't set permissions")
}

#[cfg(not(unix))]
fn executable(_: &Path) -> Result<()> {
    Ok(())
}

/// A backend of another build could be picked up by mistake.
fn remove_strangers(folder: &Path, kept: &[String]) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let library = name.starts_with("libggml") || name.starts_with("libllama");
        if library && !kept.contains(&name) {
            match std::fs::remove_file(entry.path()) {
                Ok(()) => say(&format!("removed {name} of an earlier build")),
                Err(error) => say(&format!("{name} of an earlier build can't be removed: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_names_are_told_from_the_others() {
        for (name, expected) in [
            ("libllama.so.0", true),
            ("libllama.so", false),
            ("libllama.so.0.6.0", false),
            ("libggml-base.so.0", true),
            ("libllama.0.dylib", true),
            ("libllama.dylib", false),
            ("cmake", false),
        ] {
            assert_eq!(is_loader_name(name), expected, "{name}");
        }
    }
}
