//! Builds one backend of ggml as a file of its own, in a cmake folder of its own.

use super::layout::BackendFile;
use super::{Compiler, Workspace, amend, cpu::Variant, gpu::Toolkit, say, tools, worker};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

struct Module<'a> {
    /// `cpu-zen4`, `cuda`: names the folder and the file.
    name: String,
    /// cmake's target.
    target: &'a str,
    defines: Vec<(String, String)>,
    /// The processor that it is tuned for, if one.
    tuned_for: Option<String>,
    /// Built from the tree with our changes.
    amended: bool,
}

/// `tuned`: the order of instructions and the unrolling of loops are made for this processor. Which
/// instructions there are is the variant's alone, so that the file runs wherever its features are.
pub fn cpu(
    workspace: &Workspace,
    compiler: &Compiler,
    scratch: &Path,
    variant: &Variant,
    tuned: bool,
) -> Result<BackendFile> {
    let mut defines = variant.defines();
    // Both compilers know it on x86 only; elsewhere the variant's architecture implies a tuning.
    let tuned_for = (tuned && cfg!(target_arch = "x86_64")).then(super::cpu::model);
    if tuned_for.is_some() {
        defines.extend(["CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"].map(|name| (name.into(), "-mtune=native".into())));
    }
    let name = format!("cpu-{}", variant.name);
    let module = Module { name, target: "ggml-cpu", defines: defines.clone(), tuned_for, amended: true };
    let built = build(workspace, compiler, scratch, &module)
        .with_context(|| format!("the CPU backend {variant} doesn't build"))?;
    Ok(BackendFile {
        file: file_name(&module, &built),
        kind: "cpu".into(),
        variant: variant.name.into(),
        features: variant.features.iter().map(ToString::to_string).collect(),
        defines,
        built,
    })
}

pub fn gpu(workspace: &Workspace, compiler: &Compiler, scratch: &Path, kit: &Toolkit) -> Result<BackendFile> {
    say(&format!("{}: {}; building its backend (this can take many minutes once)", kit.name, kit.why));
    let mut defines = kit.defines.clone();
    defines.push(("GGML_NATIVE".into(), "OFF".into()));
    let (name, target) = (kit.kind.into(), kit.target);
    let module = Module { name, target, defines: defines.clone(), tuned_for: None, amended: false };
    let built = build(workspace, compiler, scratch, &module)?;
    Ok(BackendFile {
        file: file_name(&module, &built),
        kind: kit.kind.into(),
        variant: kit.kind.into(),
        features: Vec::new(),
        defines,
        built,
    })
}

fn file_name(module: &Module<'_>, built: &Path) -> String {
    format!("libggml-{}.{}", module.name, built.extension().and_then(|e| e.to_str()).unwrap_or("so"))
}

fn build(workspace: &Workspace, compiler: &Compiler, scratch: &Path, module: &Module<'_>) -> Result<PathBuf> {
    let defines = all_defines(compiler, module);
    let flat: Vec<String> = defines.iter().map(|(name, value)| format!("-D{name}={value}")).collect();
    let tuned_for = module.tuned_for.as_deref().unwrap_or_default();
    let (amends, tree) = if module.amended {
        (amend::key(), amend::tree(workspace, scratch)?)
    } else {
        (String::new(), workspace.llama.clone())
    };
    let parts = [&workspace.llama_version, &compiler.version, &flat.join(" "), module.target, tuned_for, &amends];
    let key = tools::hash(&parts);
    let folder = scratch.join(format!("{}-{key}", module.name));
    let done = folder.join("freehold-done");
    if done.is_file()
        && let Some(product) = worker::module(&folder.join("bin"), module.target)
    {
        return Ok(product);
    }
    remove_older(scratch, &module.name, &folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
    say(&format!("building {} with {}", module.name, compiler.version));
    let start = Instant::now();
    let log = folder.join("freehold-build.log");
    let mut configure = tools::command("cmake");
    configure.arg("-S").arg(&tree).arg("-B").arg(&folder).args(&flat);
    logged(configure, &log)?;
    let mut make = tools::command("cmake");
    make.arg("--build").arg(&folder).args(["--config", "Release", "--target", module.target]);
    logged(make, &log)?;
    let product = worker::module(&folder.join("bin"), module.target)
        .with_context(|| format!("cmake made no {} in {}", module.target, folder.display()))?;
    std::fs::write(&done, b"").with_context(|| format!("can't write {}", done.display()))?;
    say(&format!("built {} in {:.0} s", module.name, start.elapsed().as_secs_f64()));
    Ok(product)
}

/// Every option that matters is named, so that a changed default upstream changes nothing silently.
fn all_defines(compiler: &Compiler, module: &Module<'_>) -> Vec<(String, String)> {
    let rpath = if cfg!(target_os = "macos") { "@loader_path" } else { "$ORIGIN" };
    let fixed = [
        ("CMAKE_BUILD_TYPE", "Release"),
        ("CMAKE_BUILD_WITH_INSTALL_RPATH", "ON"),
        ("CMAKE_INSTALL_RPATH", rpath),
        ("BUILD_SHARED_LIBS", "ON"),
        ("GGML_BACKEND_DL", "ON"),
        // One persistent pool of threads is attached by the worker (docs/decisions/0003-worker.md).
        ("GGML_OPENMP", "OFF"),
        ("GGML_LLAMAFILE", "ON"),
        ("GGML_CPU_REPACK", "ON"),
        ("GGML_CCACHE", "ON"),
        // The bindings' package holds the tree without these.
        ("LLAMA_BUILD_TESTS", "OFF"),
        ("LLAMA_BUILD_EXAMPLES", "OFF"),
        ("LLAMA_BUILD_SERVER", "OFF"),
        ("LLAMA_BUILD_TOOLS", "OFF"),
        ("LLAMA_BUILD_APP", "OFF"),
        ("LLAMA_BUILD_COMMON", "OFF"),
        ("LLAMA_CURL", "OFF"),
    ];
    let mut list: Vec<(String, String)> = fixed.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    list.push(("CMAKE_C_COMPILER".into(), compiler.cc.display().to_string()));
    list.push(("CMAKE_CXX_COMPILER".into(), compiler.cxx.display().to_string()));
    list.extend(module.defines.iter().cloned());
    list
}

fn logged(mut command: std::process::Command, log: &Path) -> Result<()> {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("can't write {}", log.display()))?;
    command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file)).stdin(Stdio::null());
    command.envs(worker::tool_environment());
    let status = command.status().context("can't run cmake")?;
    if !status.success() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        bail!("{}\n(the whole log: {})", tail.into_iter().rev().collect::<Vec<_>>().join("\n"), log.display());
    }
    Ok(())
}

/// Folders of the same backend with other flags, or a build that was cut off, only fill the disk.
pub(super) fn remove_older(scratch: &Path, name: &str, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(scratch) else { return };
    for entry in entries.flatten() {
        let same = entry.file_name().to_string_lossy().rsplit_once('-').is_some_and(|(before, _)| before == name);
        if same && entry.path() != keep && std::fs::remove_dir_all(entry.path()).is_err() {
            say(&format!("{} can't be removed", entry.path().display()));
        }
    }
}
