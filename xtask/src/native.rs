//! `cargo xtask native`: builds the worker and ggml's backends with a checked compiler and lays
//! them side by side in `<target>/native/`.
//!
//! The worker and llama.cpp are built once, in the release profile, with flags that every machine
//! of this kind runs; the fast code is in backend files built apart, one for the processor at hand
//! and one for each GPU toolkit that is here. Why so: `docs/decisions/0002-native-build.md`. Start
//! reading at [`ensure`]; `compiler` checks, `backend` builds, `layout` copies.

#![expect(clippy::disallowed_methods, reason = "a chore of the build: it runs compilers and reads their variables")]

mod amend;
mod backend;
mod compiler;
mod cpu;
mod gpu;
mod layout;
mod tools;
mod worker;

pub use compiler::Compiler;
pub use layout::NativeDir;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::PathBuf;

const HELP: &str = "\
cargo xtask native [--all-variants] [--all-gpus] [--no-gpu] [--clean]
                                                 build and lay out <target>/native/
cargo xtask native exec COMMAND ARGS…            run a command with the build's environment, so that
                                                 e.g. `cargo clippy --release -p freehold-worker`
                                                 doesn't compile llama.cpp a second time
cargo xtask native compiler                      say which compiler is used and why
  --all-variants   every CPU variant and every GPU backend whose toolkit is here (releases)
  --all-gpus       every GPU backend whose toolkit is here, without a device too: software Vulkan has none
  --no-gpu         leave the GPU backends out
  --clean          forget the compiler's check and the backends built so far (the worker is cargo's)";

#[derive(Debug, Clone, Copy, Default)]
struct Options {
    all_variants: bool,
    all_gpus: bool,
    no_gpu: bool,
    clean: bool,
}

/// What `cargo metadata` says that matters here.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    /// The llama.cpp tree inside the source of its bindings.
    pub llama: PathBuf,
    pub llama_version: String,
}

/// Runs one command line.
///
/// # Errors
/// With a sentence that says what is missing or failed, and what to do.
pub fn run(args: &[String]) -> Result<()> {
    let mut options = Options::default();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exec", program, rest @ ..] => return exec(program, rest),
        ["compiler"] => {
            let compiler = compiler()?;
            println!("{}\n{}\n{}\n{}", compiler.version, compiler.cc.display(), compiler.cxx.display(), compiler.found);
            return Ok(());
        }
        ["-h" | "--help" | "help"] => {
            println!("{HELP}");
            return Ok(());
        }
        _ => {}
    }
    for word in words {
        match word {
            "--all-variants" => options.all_variants = true,
            "--all-gpus" => options.all_gpus = true,
            "--no-gpu" => options.no_gpu = true,
            "--clean" => options.clean = true,
            other => bail!("native doesn't know “{other}”\n{HELP}"),
        }
    }
    let native = build(options)?;
    say(&format!("ready in {}", native.path.display()));
    Ok(())
}

/// Builds what is missing for this machine; quick when nothing changed.
///
/// # Errors
/// As [`run`].
pub fn ensure() -> Result<NativeDir> {
    build(Options::default())
}

/// The compiler that passed for this machine's processor.
///
/// # Errors
/// When none passes.
pub fn compiler() -> Result<Compiler> {
    let workspace = workspace()?;
    let scratch = scratch(&workspace)?;
    compiler::choose(cpu::best(&cpu::detect()).as_ref(), &scratch)
}

/// The variables with which cargo and cmake build the worker and llama.cpp. Also removes what would
/// make the bindings' build script panic, should it run again.
///
/// # Errors
/// When no compiler passes or libclang is missing.
pub fn environment() -> Result<Vec<(String, String)>> {
    worker::remove_dangling_links(&workspace()?.target);
    worker::environment(&compiler()?)
}

fn build(options: Options) -> Result<NativeDir> {
    if tools::find("cmake").is_none() {
        bail!("cmake isn't here; llama.cpp is built with it. Install it: {}", tools::hint("cmake", "cmake", "cmake"));
    }
    let workspace = workspace()?;
    if options.clean {
        clean(&workspace)?;
    }
    let scratch = scratch(&workspace)?;
    let have = cpu::detect();
    let best = cpu::best(&have);
    let strictest = if options.all_variants { cpu::all().pop() } else { best.clone() };
    // A release also carries code that this machine can't run; its compiler is checked for what it can.
    let compiler = compiler::choose(best.as_ref(), &scratch)?;
    if let (true, Some(strictest)) = (options.all_variants, &strictest) {
        compiler::compiles(&compiler, strictest, &scratch)?;
    }
    let built = worker::build(&workspace, &compiler)?;
    let variants = if options.all_variants { cpu::all() } else { best.into_iter().collect() };
    let mut backends = Vec::new();
    let mut notes = Vec::new();
    for variant in variants.iter().rev() {
        backends.push(backend::cpu(&workspace, &compiler, &scratch, variant, !options.all_variants)?);
    }
    if variants.is_empty() {
        notes.push(format!("CPU: no tuned variant fits ({}); the baseline is used", have.join(" ")));
    }
    backends.push(worker::baseline(&built)?);
    if options.no_gpu {
        notes.push("GPU: left out on request".into());
    } else {
        for found in gpu::look(options.all_variants || options.all_gpus) {
            match found {
                gpu::Found::Toolkit(kit) => match backend::gpu(&workspace, &compiler, &scratch, &kit) {
                    Ok(backend) => backends.push(backend),
                    Err(error) => notes.push(format!("{}: not built: {error:#}", kit.name)),
                },
                gpu::Found::Nothing { name, why } => notes.push(format!("{name}: {why}")),
            }
        }
        backends.extend(worker::metal(&built));
    }
    for note in &notes {
        say(note);
    }
    layout::lay_out(&workspace, &compiler, &built, backends, notes)
}

fn clean(workspace: &Workspace) -> Result<()> {
    for folder in ["native", "native-build"].map(|name| workspace.target.join(name)) {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
        }
    }
    Ok(())
}

fn exec(program: &str, args: &[&str]) -> Result<()> {
    let mut command = tools::command(program);
    command.args(args).envs(environment()?).current_dir(&workspace()?.root);
    let status = command.status().with_context(|| format!("can't run {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}

fn scratch(workspace: &Workspace) -> Result<PathBuf> {
    let scratch = workspace.target.join("native-build");
    std::fs::create_dir_all(&scratch).with_context(|| format!("can't create {}", scratch.display()))?;
    Ok(scratch)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// # Errors
/// When cargo fails, or the bindings to llama.cpp aren't among the dependencies.
pub fn workspace() -> Result<Workspace> {
    let mut command = tools::command(cargo());
    command.args(["metadata", "--format-version", "1"]).current_dir(crate::place::root());
    let metadata: Metadata = serde_json::from_str(&tools::output(command)?).context("cargo metadata can't be read")?;
    let bindings = metadata
        .packages
        .into_iter()
        .find(|package| package.name == "llama-cpp-sys-2")
        .context("the bindings to llama.cpp (llama-cpp-sys-2) aren't among the dependencies")?;
    let source = bindings.manifest_path.parent().context("the bindings' manifest has no folder")?;
    Ok(Workspace {
        root: metadata.workspace_root,
        target: metadata.target_directory,
        llama: source.join("llama.cpp"),
        llama_version: bindings.version,
    })
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn say(line: &str) {
    eprintln!("native: {line}");
}
