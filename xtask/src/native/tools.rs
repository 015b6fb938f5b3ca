//! Small things that every step needs: finding and running programs, hints, hashing.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command with the build's own variables taken out of the environment: a stray `GGML_CUDA=ON`
/// would go straight into llama.cpp's build.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["GGML_", "LLAMA_", "CMAKE_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Runs to the end and gives what was printed.
///
/// # Errors
/// When it can't start or ends badly, with the tail of what it said.
pub fn output(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("can't run {program}"))?;
    if !out.status.success() {
        let said = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&said);
        let tail: Vec<&str> = text.lines().rev().take(12).collect();
        bail!("{program} ended with {}: {}", out.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

pub fn first_line(program: &Path, args: &[&str]) -> Result<String> {
    let mut command = command(program);
    command.args(args);
    let text = output(command)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Looks for a program along PATH; a name with a slash is taken as it is.
pub fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// How to install something with the package tool that is here.
pub fn hint(apt: &str, dnf: &str, brew: &str) -> String {
    if find("apt-get").is_some() {
        format!("sudo apt-get install {apt}")
    } else if find("dnf").is_some() {
        format!("sudo dnf install {dnf}")
    } else if find("brew").is_some() {
        format!("brew install {brew}")
    } else {
        format!("the package {apt} (or your system's name for it)")
    }
}

/// FNV-1a over the parts with a separator: a cache key, not a secret.
pub fn hash(parts: &[&str]) -> String {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{state:016x}")
}

/// Where compilers keep what may be thrown away but shouldn't be for each clone anew.
pub fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        Some(if cfg!(target_os = "macos") { home.join("Library/Caches") } else { home.join(".cache") })
    });
    base.unwrap_or_else(std::env::temp_dir).join("freehold-build")
}

/// The directory with the library that reads C headers for Rust's bindings.
///
/// # Errors
/// When there is none, with the package that brings it.
pub fn libclang() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("LIBCLANG_PATH") {
        return Ok(given.into());
    }
    let mut places: Vec<PathBuf> = Vec::new();
    for version in ["19", "20", "21", "22", "18", "17", "16", "15", "14"] {
        places.push(format!("/usr/lib/llvm-{version}/lib").into());
    }
    for llvm_config in ["llvm-config-19", "llvm-config"] {
        if let Some(dir) = find(llvm_config).and_then(|program| first_line(&program, &["--libdir"]).ok()) {
            places.push(dir.into());
        }
    }
    for place in [
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/opt/homebrew/opt/llvm/lib",
        "/usr/local/opt/llvm/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
    ] {
        places.push(place.into());
    }
    let holds = |dir: &PathBuf| {
        std::fs::read_dir(dir)
            .is_ok_and(|entries| entries.flatten().any(|e| is_libclang(&e.file_name().to_string_lossy())))
    };
    places.into_iter().find(holds).with_context(|| {
        format!(
            "libclang isn't here; Rust's bindings to llama.cpp are made with it. Install it: {}",
            hint("libclang1-19", "clang-devel", "llvm")
        )
    })
}

fn is_libclang(name: &str) -> bool {
    let library = name.contains(".so") || name.ends_with(".dylib");
    (name.starts_with("libclang.") || name.starts_with("libclang-")) && library && !name.starts_with("libclang-cpp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_headers_is_told_from_its_neighbours() {
        for (name, expected) in [
            ("libclang-19.so.1", true),
            ("libclang.so.1", true),
            ("libclang.dylib", true),
            ("libclang-cpp.so.14", false),
            ("libclangAST.a", false),
        ] {
            assert_eq!(is_libclang(name), expected, "{name}");
        }
    }

    #[test]
    fn the_hash_knows_where_one_part_ends() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
    }
}
