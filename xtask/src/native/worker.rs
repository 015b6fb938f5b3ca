//! Builds the worker binary with cargo, and llama.cpp's libraries with it, for any machine of this kind.

use super::layout::BackendFile;
use super::{Compiler, Workspace, cpu, say, tools};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What cargo made.
#[derive(Debug)]
pub struct Built {
    pub worker: PathBuf,
    /// Where the build script of the bindings put `lib/` and `bin/`.
    pub out: PathBuf,
}

/// The variables that decide how llama.cpp is built. Constant for a kind of machine but for the
/// compiler, so that the worker is the same everywhere and cargo finds it fresh.
pub fn environment(compiler: &Compiler) -> Result<Vec<(String, String)>> {
    let mut list: Vec<(String, String)> = vec![
        ("CC".into(), compiler.cc.display().to_string()),
        ("CXX".into(), compiler.cxx.display().to_string()),
        ("LIBCLANG_PATH".into(), tools::libclang()?.display().to_string()),
        ("GGML_BACKEND_DL".into(), "ON".into()),
        ("GGML_LLAMAFILE".into(), "ON".into()),
        ("GGML_CPU_REPACK".into(), "ON".into()),
        ("GGML_CCACHE".into(), "ON".into()),
        // Installed libraries find each other in their own folder.
        ("CMAKE_INSTALL_RPATH".into(), if cfg!(target_os = "macos") { "@loader_path" } else { "$ORIGIN" }.into()),
    ];
    list.extend(cpu::baseline_defines());
    list.extend(tool_environment());
    Ok(list)
}

/// What is true for every cmake run here: how many at a time, which generator, which cache.
pub fn tool_environment() -> Vec<(String, String)> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let mut list = vec![("CMAKE_BUILD_PARALLEL_LEVEL".to_owned(), jobs.to_string())];
    if tools::find("ninja").is_some() {
        list.push(("CMAKE_GENERATOR".into(), "Ninja".into()));
    }
    if std::env::var_os("CCACHE_DIR").is_none() {
        list.push(("CCACHE_DIR".into(), tools::cache_dir().join("ccache").display().to_string()));
    }
    list.push(("CCACHE_NOHASHDIR".into(), "1".into()));
    list
}

pub fn build(workspace: &Workspace, compiler: &Compiler) -> Result<Built> {
    remove_dangling_links(&workspace.target);
    let mut command = tools::command(super::cargo());
    command
        .args(["build", "--release", "--package", "freehold-worker", "--message-format", "json-render-diagnostics"])
        .current_dir(&workspace.root)
        .envs(environment(compiler)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let output = command.spawn().and_then(std::process::Child::wait_with_output).context("can't run cargo")?;
    if !output.status.success() {
        bail!("the worker doesn't build (cargo's words are above)");
    }
    from_messages(&String::from_utf8_lossy(&output.stdout))
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    out_dir: Option<PathBuf>,
    executable: Option<PathBuf>,
}

fn from_messages(text: &str) -> Result<Built> {
    let (mut worker, mut out) = (None, None);
    for message in text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
        match message.reason.as_str() {
            "compiler-artifact" if message.executable.is_some() => worker = message.executable,
            "build-script-executed" if message.package_id.contains("llama-cpp-sys-2") => out = message.out_dir,
            _ => {}
        }
    }
    Ok(Built {
        worker: worker.context("cargo named no worker binary")?,
        out: out.context("cargo named no folder of llama.cpp's libraries")?,
    })
}

/// The bindings' build script hard-links the development symlinks of its libraries into the target
/// folder, where they dangle, and panics when it runs again and finds them. Nothing uses them.
pub fn remove_dangling_links(target: &Path) {
    for folder in ["release", "release/deps", "release/examples"] {
        for name in ["libllama", "libggml", "libggml-base"] {
            for ending in ["so", "dylib"] {
                let link = target.join(folder).join(format!("{name}.{ending}"));
                if link.is_symlink() && std::fs::remove_file(&link).is_err() {
                    say(&format!("{} can't be removed; if cargo now panics, remove it", link.display()));
                }
            }
        }
    }
}

/// The CPU backend that any machine of this kind runs: the last resort.
pub fn baseline(built: &Built) -> Result<BackendFile> {
    let module = module(&built.out.join("bin"), "ggml-cpu").context("llama.cpp's build left no CPU backend")?;
    Ok(BackendFile {
        file: format!("libggml-cpu-baseline.{}", module.extension().and_then(|e| e.to_str()).unwrap_or("so")),
        kind: "cpu".into(),
        variant: "baseline".into(),
        features: if cfg!(target_arch = "x86_64") { vec!["SSE42".into()] } else { Vec::new() },
        defines: cpu::baseline_defines(),
        built: module,
    })
}

/// On Apple's machines the bindings build Metal along.
pub fn metal(built: &Built) -> Option<BackendFile> {
    let module = module(&built.out.join("bin"), "ggml-metal")?;
    Some(BackendFile {
        file: format!("libggml-metal.{}", module.extension().and_then(|e| e.to_str()).unwrap_or("so")),
        kind: "metal".into(),
        variant: "metal".into(),
        features: Vec::new(),
        defines: Vec::new(),
        built: module,
    })
}

/// A loadable module by its cmake name, whatever the system calls such files.
pub fn module(folder: &Path, name: &str) -> Option<PathBuf> {
    ["so", "dylib"].iter().map(|ending| folder.join(format!("lib{name}.{ending}"))).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_and_the_libraries_are_found_in_what_cargo_says() {
        let text = r#"{"reason":"compiler-artifact","package_id":"x","executable":null}
{"reason":"build-script-executed","package_id":"registry+https://example#llama-cpp-sys-2@0.1.161","out_dir":"/t/out"}
{"reason":"build-script-executed","package_id":"other","out_dir":"/t/wrong"}
{"reason":"compiler-artifact","package_id":"w","executable":"/t/release/freehold-worker"}
{"reason":"build-finished","success":true}"#;
        let built = from_messages(text).unwrap();
        assert_eq!(built.worker, Path::new("/t/release/freehold-worker"));
        assert_eq!(built.out, Path::new("/t/out"));
        assert!(from_messages("{}").is_err());
    }
}
