//! Which of ggml's backend files this machine can trust, and which of those is fastest.
//!
//! A file is trusted only after a child process has multiplied matrices with it, correctly and at a
//! useful speed: a compiler's fault or a foreign processor then costs that child and nothing else.
//! [`judge`] and [`choose`] are pure; `Backends` runs the tests and remembers what they said.

mod trial;

pub(crate) use trial::{Backends, describe, worker_missing};

use base::{Code, Fault};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wire::SelfTest;

/// The backend that workers will load, and how every file fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendChoice {
    pub chosen: PathBuf,
    /// The processor's backend: `chosen` itself, or what stands beside a GPU's.
    pub cpu: PathBuf,
    pub gpu: bool,
    /// Devices and features of the chosen one, as it named them itself.
    pub devices: Vec<String>,
    pub features: Vec<String>,
    /// Processor backends first, each with the same order on every run.
    pub tried: Vec<Tried>,
}

/// How one backend file fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub file: String,
    pub verdict: Verdict,
    /// A sentence: the signal that ended it, the product that was wrong, or its figures.
    pub detail: String,
    pub devices: Vec<String>,
    pub features: Vec<String>,
    /// Giga-operations per second of the best product with weights of 8 bits or fewer; 0: none came.
    pub gops_packed: f64,
    /// The path in ggml that reached it: `CPU`, `AMX`, `CPU_REPACK` …
    pub path: String,
    /// `gops_packed` over that of the baseline build, where both are known: well above 1 only when the
    /// wide instructions are really in use.
    pub over_baseline: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Chosen,
    /// Right, and no reason to take it.
    Right,
    /// Right, but not faster than what it would replace.
    Slow,
    Wrong,
    /// Ended by a signal, or with an error and no result.
    Died,
    /// No result within the time.
    Hung,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Every processor of the architecture can run it.
    Baseline,
    Cpu,
    Gpu,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    pub(crate) file: String,
}

/// What a child's test came to, before it is compared with others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Reply(SelfTest),
    /// How it ended, in words.
    Died(String),
    Hung {
        limit_ms: u64,
    },
}

/// A variant that measures this much below the baseline build is left; less is noise.
const NOISE: f64 = 0.9;

/// The backend files among a folder's names: the processor's first.
pub(crate) fn candidates(names: &[String]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = names.iter().filter_map(|name| candidate(name)).collect();
    found.sort();
    found
}

fn candidate(name: &str) -> Option<Candidate> {
    let stem = ["so", "dylib", "dll"].iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))?;
    let stem = stem.strip_prefix("lib").unwrap_or(stem).strip_prefix("ggml-")?;
    let (family, variant) = stem.split_once('-').unwrap_or((stem, ""));
    let kind = match family {
        "cpu" if variant == "baseline" => Kind::Baseline,
        "cpu" => Kind::Cpu,
        "cuda" | "hip" | "vulkan" | "metal" => Kind::Gpu,
        _ => return None,
    };
    Some(Candidate { kind, file: name.to_owned() })
}

/// Takes the fastest trusted backend.
///
/// # Errors
/// [`Code::BackendFailed`] with every file's verdict when none passes.
pub(crate) fn choose(folder: &Path, outcomes: Vec<(Candidate, Outcome)>) -> Result<BackendChoice, Fault> {
    let mut rows: Vec<(Kind, Tried)> =
        outcomes.iter().map(|(candidate, outcome)| (candidate.kind, judge(&candidate.file, outcome))).collect();
    let fastest = |rows: &[(Kind, Tried)], gpu: bool| {
        let fit = rows
            .iter()
            .enumerate()
            .filter(|(_, (kind, tried))| (*kind == Kind::Gpu) == gpu && tried.verdict == Verdict::Right);
        fit.max_by(|(_, (_, a)), (_, (_, b))| a.gops_packed.total_cmp(&b.gops_packed)).map(|(place, _)| place)
    };
    let baseline = rows.iter().find(|(kind, tried)| *kind == Kind::Baseline && tried.verdict == Verdict::Right);
    let baseline = baseline.map(|(_, tried)| tried.gops_packed).filter(|gops| *gops > 0.0);
    for (kind, tried) in &mut rows {
        if tried.verdict != Verdict::Right {
            continue;
        }
        tried.over_baseline = baseline.map(|gops| tried.gops_packed / gops);
        if *kind == Kind::Cpu && tried.over_baseline.is_some_and(|factor| factor < NOISE) {
            slow(tried, "the baseline build", baseline.unwrap_or(0.0));
        }
    }
    let cpu = fastest(&rows, false);
    if let Some(cpu) = cpu {
        let best = rows[cpu].1.gops_packed;
        for (_, tried) in rows.iter_mut().filter(|(kind, tried)| *kind == Kind::Gpu && tried.verdict == Verdict::Right)
        {
            if tried.gops_packed <= best {
                slow(tried, "the processor", best);
            }
        }
    }
    // A GPU alone won't do: what it can't compute, the processor must.
    let Some(cpu) = cpu else { return Err(none_passed(folder, &rows)) };
    let gpu = fastest(&rows, true);
    let chosen = gpu.unwrap_or(cpu);
    rows[chosen].1.verdict = Verdict::Chosen;
    let taken = &rows[chosen].1;
    Ok(BackendChoice {
        chosen: folder.join(&taken.file),
        cpu: folder.join(&rows[cpu].1.file),
        gpu: gpu.is_some(),
        devices: taken.devices.clone(),
        features: taken.features.clone(),
        tried: rows.into_iter().map(|(_, tried)| tried).collect(),
    })
}

fn slow(tried: &mut Tried, than: &str, gops: f64) {
    tried.verdict = Verdict::Slow;
    tried.detail = format!("{}; {than} reaches {gops:.0}", tried.detail);
}

fn none_passed(folder: &Path, rows: &[(Kind, Tried)]) -> Fault {
    if rows.is_empty() {
        let folder = folder.display();
        return Fault::new(Code::BackendFailed, format!("no ggml backend lies in `{folder}`"))
            .hint("`./try` builds one for this machine");
    }
    let said: Vec<String> = rows.iter().map(|(_, tried)| format!("`{}` {}", tried.file, tried.detail)).collect();
    let count = rows.len();
    let words = format!("none of {count} ggml backends for the processor passed its self-test on this machine");
    Fault::new(Code::BackendFailed, words)
        .cause(said.join("; "))
        .hint("`freehold doctor` shows each; build them again with a checked compiler: `./try`")
}

/// One file's test by itself: right or not, and its figures.
pub(crate) fn judge(file: &str, outcome: &Outcome) -> Tried {
    let failed = |verdict, detail: String| Tried {
        file: file.to_owned(),
        verdict,
        detail,
        devices: Vec::new(),
        features: Vec::new(),
        gops_packed: 0.0,
        path: String::new(),
        over_baseline: None,
    };
    let reply = match outcome {
        Outcome::Died(how) => return failed(Verdict::Died, how.clone()),
        Outcome::Hung { limit_ms } => return failed(Verdict::Hung, format!("gave no result within {limit_ms} ms")),
        Outcome::Reply(reply) => reply,
    };
    let (devices, features) = (reply.devices.clone(), reply.features.clone());
    let sound = |gops: f64| gops.is_finite() && gops > 0.0;
    if let Some(bad) = reply.products.iter().find(|product| !product.correct || !product.error_relative.is_finite()) {
        let detail = format!(
            "multiplies {} weights wrongly on path {}: off by {:.1} %",
            bad.weights,
            bad.path,
            f64::from(bad.error_relative) * 100.0
        );
        return Tried { devices, features, ..failed(Verdict::Wrong, detail) };
    }
    let packed = |weights: &str| !matches!(weights, "F32" | "F16" | "BF16");
    let fastest = |wanted: &dyn Fn(&str) -> bool| {
        let fit = reply.products.iter().filter(|product| wanted(&product.weights) && sound(product.gops));
        fit.max_by(|a, b| a.gops.total_cmp(&b.gops))
    };
    let Some(best) = fastest(&packed).or_else(|| fastest(&|_| true)) else {
        return Tried { devices, features, ..failed(Verdict::Wrong, "multiplied nothing".into()) };
    };
    let plain = fastest(&|weights| weights == "F32").map(|product| format!(", F32 {:.0}", product.gops));
    let detail =
        format!("{:.0} GOPS with {} on path {}{}", best.gops, best.weights, best.path, plain.unwrap_or_default());
    Tried { devices, features, gops_packed: best.gops, path: best.path.clone(), ..failed(Verdict::Right, detail) }
}

#[cfg(test)]
mod tests;
