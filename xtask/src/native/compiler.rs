//! Finds a C and C++ compiler that has passed a check on this very machine.
//!
//! The compiler decides more than anything else about speed on a CPU, and some get ggml wrong:
//! gcc 12 drops stores to the tile configuration of AMX as dead (the process dies), clang 14 knows
//! AMX by another macro (the code is silently left out). So each candidate compiles and runs
//! `probe.c` with the flags of the backend that it is to build.

use super::{cpu::Variant, tools};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A compiler pair that has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    pub cc: PathBuf,
    pub cxx: PathBuf,
    /// First line of `--version`.
    pub version: String,
    /// What the probe found: `AVX512_VNNI=right …`.
    pub found: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    key: String,
    compiler: Compiler,
}

const PROBE: &str = include_str!("probe.c");
const CLANG_MIN: u32 = 16;
const GCC_MIN: u32 = 13;

/// Newest known-good first; plain names last, they may be anything.
const CANDIDATES: &[(&str, &str)] = &[
    ("clang-19", "clang++-19"),
    ("clang-20", "clang++-20"),
    ("clang-21", "clang++-21"),
    ("clang-22", "clang++-22"),
    ("clang-18", "clang++-18"),
    ("clang-17", "clang++-17"),
    ("clang-16", "clang++-16"),
    ("clang", "clang++"),
    ("gcc-15", "g++-15"),
    ("gcc-14", "g++-14"),
    ("gcc-13", "g++-13"),
    ("gcc", "g++"),
    ("cc", "c++"),
];

/// The first candidate that passes for `variant` (none: only the baseline is built).
///
/// # Errors
/// When none passes: what was tried, why each failed, and what to install.
pub fn choose(variant: Option<&Variant>, scratch: &Path) -> Result<Compiler> {
    let memory = scratch.join("compiler.json");
    let mut failures = String::new();
    for (cc, cxx) in candidates() {
        let (Some(cc_path), Some(cxx_path)) = (tools::find(&cc), tools::find(&cxx)) else { continue };
        let key = key(&cc_path, &cxx_path, variant);
        if let Some(compiler) = recall(&memory, &key) {
            return Ok(compiler);
        }
        match check(&cc_path, &cxx_path, variant, scratch) {
            Ok(compiler) => {
                super::say(&format!("compiler {} passed: {}", compiler.version, compiler.found));
                let text = serde_json::to_string(&Remembered { key, compiler: compiler.clone() })?;
                std::fs::write(&memory, text).with_context(|| format!("can't write {}", memory.display()))?;
                return Ok(compiler);
            }
            Err(error) => {
                super::say(&format!("compiler {cc} is not used: {error:#}"));
                let _ = writeln!(failures, "  {cc}: {error:#}");
            }
        }
    }
    bail!(
        "no C++ compiler here builds llama.cpp rightly.\n{}Install one that does: {}",
        if failures.is_empty() { "  none was found\n" } else { &failures },
        tools::hint("clang-19", "clang", "llvm")
    )
}

/// What the person asked for comes first, and is checked like the rest.
fn candidates() -> Vec<(String, String)> {
    let mut list = Vec::new();
    if let (Ok(cc), Ok(cxx)) = (std::env::var("CC"), std::env::var("CXX")) {
        list.push((cc, cxx));
    }
    list.extend(CANDIDATES.iter().map(|(cc, cxx)| ((*cc).to_owned(), (*cxx).to_owned())));
    list
}

/// A compiler that was replaced, other flags or another processor make a new key.
fn key(cc: &Path, cxx: &Path, variant: Option<&Variant>) -> String {
    let stamp = |path: &Path| {
        let data = std::fs::metadata(path).ok();
        let modified =
            data.as_ref().and_then(|d| d.modified().ok()).and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        format!("{} {:?} {:?}", path.display(), data.map(|d| d.len()), modified)
    };
    let flags = variant.map(Variant::compiler_flags).unwrap_or_default();
    tools::hash(&[&stamp(cc), &stamp(cxx), &flags.join(" "), &super::cpu::detect().join(" "), PROBE])
}

fn recall(memory: &Path, key: &str) -> Option<Compiler> {
    let text = std::fs::read_to_string(memory).ok()?;
    let remembered: Remembered = serde_json::from_str(&text).ok()?;
    (remembered.key == key).then_some(remembered.compiler)
}

fn check(cc: &Path, cxx: &Path, variant: Option<&Variant>, scratch: &Path) -> Result<Compiler> {
    let version = tools::first_line(cc, &["--version"])?;
    new_enough(&version)?;
    let flags = variant.map(Variant::compiler_flags).unwrap_or_default();
    let mut found = String::new();
    for (compiler, name, language) in [(cc, "probe.c", "c"), (cxx, "probe.cpp", "c++")] {
        let source = scratch.join(name);
        let program = scratch.join(format!("{name}.bin"));
        std::fs::write(&source, PROBE).with_context(|| format!("can't write {}", source.display()))?;
        let mut command = tools::command(compiler);
        command.args(["-O3", "-x", language]).args(&flags).arg(&source).arg("-o").arg(&program);
        if language == "c++" {
            command.args(["-std=c++17", "-pthread"]);
        }
        tools::output(command).with_context(|| format!("the probe doesn't compile as {language}"))?;
        let line = tools::output(tools::command(&program))
            .with_context(|| format!("the probe, compiled as {language}, doesn't give the right products"))?;
        found = line.trim().to_owned();
        demand(&found, variant)?;
    }
    Ok(Compiler { cc: cc.to_owned(), cxx: cxx.to_owned(), version, found })
}

/// For releases: the compiler must know the instructions of variants that this machine can't run.
///
/// # Errors
/// When the probe doesn't compile with the variant's flags.
pub fn compiles(compiler: &Compiler, variant: &Variant, scratch: &Path) -> Result<()> {
    let source = scratch.join("probe.c");
    let mut command = tools::command(&compiler.cc);
    command.args(["-O3", "-x", "c", "-c"]).args(variant.compiler_flags()).arg(&source);
    command.arg("-o").arg(scratch.join("probe.o"));
    tools::output(command).with_context(|| format!("{} can't compile the variant {variant}", compiler.version))?;
    Ok(())
}

/// The flags must have had the effect that ggml's code looks for.
fn demand(found: &str, variant: Option<&Variant>) -> Result<()> {
    let checked = ["AVX2", "AVX_VNNI", "AVX512", "AVX512_VNNI", "AVX512_BF16", "AMX_INT8", "DOTPROD", "SVE"];
    for feature in variant.iter().flat_map(|v| &v.features).filter(|f| checked.contains(f)) {
        let there = found.split(' ').any(|word| word == format!("{feature}=on") || word == format!("{feature}=right"));
        if !there {
            bail!("{feature} is missing from what it compiles, though the flags ask for it");
        }
    }
    Ok(())
}

fn new_enough(version: &str) -> Result<()> {
    let number = version
        .split(|c: char| c.is_whitespace() || c == '-')
        .filter(|word| word.contains('.'))
        .find_map(|word| word.split('.').next()?.parse::<u32>().ok());
    let clang = version.to_lowercase().contains("clang");
    let least = if clang { CLANG_MIN } else { GCC_MIN };
    match number {
        Some(number) if number >= least => Ok(()),
        Some(number) => bail!("version {number} is too old, {least} is the first that gets ggml right"),
        None => bail!("its version can't be read from “{version}”"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_compilers_say() {
        let cases = [
            ("Debian clang version 19.1.7 (3~deb12u1)", true),
            ("Ubuntu clang version 14.0.0-1ubuntu1.1", false),
            ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", false),
            ("gcc-13 (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0", true),
            ("Apple clang version 16.0.0 (clang-1600.0.26.6)", true),
            ("tcc version", false),
        ];
        for (line, good) in cases {
            assert_eq!(new_enough(line).is_ok(), good, "{line}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_feature_that_the_compiler_left_out_is_noticed() {
        let all = super::super::cpu::all();
        let variant = all.iter().find(|v| v.name == "sapphirerapids");
        let silent = "AVX512=on AVX512_BF16=on AVX2=right AVX512_VNNI=right";
        assert!(demand(silent, variant).is_err());
        assert!(demand(&format!("{silent} AMX_INT8=right"), variant).is_ok());
        assert!(demand(&format!("{silent} AMX_INT8=wrong"), variant).is_err());
        assert!(demand("", None).is_ok());
    }
}
