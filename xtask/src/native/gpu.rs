//! Which GPU backends can be built here: a toolkit and, outside releases, a device to run it.

use super::tools;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Toolkit {
    /// For people: `CUDA`.
    pub name: &'static str,
    /// For files: `cuda`.
    pub kind: &'static str,
    /// cmake's target.
    pub target: &'static str,
    pub defines: Vec<(String, String)>,
    /// What was found.
    pub why: String,
}

#[derive(Debug)]
pub enum Found {
    Toolkit(Toolkit),
    Nothing { name: &'static str, why: String },
}

/// Looks for every toolkit. With `without_device` one is enough; else the machine must have the
/// device too, because a backend that nothing here can run isn't worth its minutes.
pub fn look(without_device: bool) -> Vec<Found> {
    if cfg!(target_os = "macos") {
        return Vec::new();
    }
    vec![cuda(without_device), vulkan(without_device), hip(without_device)]
}

fn cuda(without_device: bool) -> Found {
    let name = "CUDA";
    let homes = ["CUDA_PATH", "CUDA_HOME"].iter().filter_map(|name| std::env::var_os(name).map(PathBuf::from));
    let nvcc = tools::find("nvcc")
        .or_else(|| homes.chain([PathBuf::from("/usr/local/cuda")]).map(|h| h.join("bin/nvcc")).find(|p| p.is_file()));
    let Some(nvcc) = nvcc else { return nothing(name, "no toolkit (nvcc) here, nothing built") };
    let device = Path::new("/dev/nvidiactl").exists() || Path::new("/dev/nvidia0").exists();
    if !device && !without_device {
        return nothing(name, &format!("{} is here, but no NVIDIA device; nothing built", nvcc.display()));
    }
    let mut defines = on(&["GGML_CUDA"]);
    defines.push(("GGML_CUDA_NCCL".into(), "OFF".into()));
    defines.push(("CMAKE_CUDA_COMPILER".into(), nvcc.display().to_string()));
    if device {
        defines.push(("CMAKE_CUDA_ARCHITECTURES".into(), "native".into()));
    }
    Found::Toolkit(Toolkit { name, kind: "cuda", target: "ggml-cuda", defines, why: nvcc.display().to_string() })
}

fn vulkan(without_device: bool) -> Found {
    let name = "Vulkan";
    let sdk = std::env::var_os("VULKAN_SDK").map(|sdk| PathBuf::from(sdk).join("include"));
    let header = sdk
        .into_iter()
        .chain([PathBuf::from("/usr/include"), PathBuf::from("/usr/local/include")])
        .map(|dir| dir.join("vulkan/vulkan.hpp"))
        .find(|file| file.is_file());
    let (Some(header), Some(glslc)) = (header, tools::find("glslc")) else {
        return nothing(name, "no toolkit (vulkan/vulkan.hpp and glslc) here, nothing built");
    };
    let device = std::fs::read_dir("/dev/dri")
        .is_ok_and(|list| list.flatten().any(|e| e.file_name().to_string_lossy().starts_with("renderD")));
    if !device && !without_device {
        return nothing(name, &format!("{} is here, but no graphics device; nothing built", header.display()));
    }
    let why = format!("{} and {}", header.display(), glslc.display());
    Found::Toolkit(Toolkit { name, kind: "vulkan", target: "ggml-vulkan", defines: on(&["GGML_VULKAN"]), why })
}

fn hip(without_device: bool) -> Found {
    let name = "ROCm";
    let hipcc = tools::find("hipcc").or_else(|| Some(PathBuf::from("/opt/rocm/bin/hipcc")).filter(|p| p.is_file()));
    let Some(hipcc) = hipcc else { return nothing(name, "no toolkit (hipcc) here, nothing built") };
    if !Path::new("/dev/kfd").exists() && !without_device {
        return nothing(name, &format!("{} is here, but no AMD device; nothing built", hipcc.display()));
    }
    let why = hipcc.display().to_string();
    Found::Toolkit(Toolkit { name, kind: "hip", target: "ggml-hip", defines: on(&["GGML_HIP"]), why })
}

fn nothing(name: &'static str, why: &str) -> Found {
    Found::Nothing { name, why: why.to_owned() }
}

fn on(options: &[&str]) -> Vec<(String, String)> {
    options.iter().map(|option| ((*option).to_owned(), "ON".to_owned())).collect()
}
