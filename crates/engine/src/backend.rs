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
use wire::{Product, SelfTest, WireDevice};

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
    pub devices: Vec<WireDevice>,
    pub features: Vec<String>,
    /// One per weight type, on the fastest path; empty unless all were right.
    pub products: Vec<Timed>,
    /// Speed over that of the baseline build, over all packed weight types (geometric mean): well
    /// above 1 only when the wide instructions are really in use.
    pub over_baseline: Option<f64>,
}

/// The speed of one product, as the self-test measured it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    pub weights: String,
    /// The path in ggml: `CPU`, `AMX`, `CPU_REPACK` …
    pub path: String,
    /// Giga-operations per second; a multiply-add is two.
    pub gops: f64,
    /// Over the baseline build's product with the same weights.
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
    /// It found no device of its kind.
    NoDevice,
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

/// A variant that measures this far below the baseline build is left; less is noise, and a variant that
/// was built for the processor is to be believed then.
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

/// Joins two tests of one file. What else runs on the machine only ever makes a product slower, so the
/// faster of two counts; a test that fails once has failed.
pub(crate) fn merge(first: Outcome, second: Outcome) -> Outcome {
    match (first, second) {
        (Outcome::Reply(mut first), Outcome::Reply(second)) => {
            for product in second.products {
                let same = |known: &&mut Product| known.weights == product.weights && known.path == product.path;
                match first.products.iter_mut().find(same) {
                    Some(known) if known.correct && product.correct => known.gops = known.gops.max(product.gops),
                    Some(known) if known.correct => *known = product,
                    Some(_) => {}
                    None => first.products.push(product),
                }
            }
            Outcome::Reply(first)
        }
        (Outcome::Reply(_), failed) | (failed, _) => failed,
    }
}

/// Takes the fastest trusted backend.
///
/// # Errors
/// [`Code::BackendFailed`] with every file's verdict when none passes.
pub(crate) fn choose(folder: &Path, outcomes: &[(Candidate, Outcome)]) -> Result<BackendChoice, Fault> {
    let mut rows: Vec<Row> = outcomes.iter().map(|(candidate, outcome)| Row::new(candidate, outcome)).collect();
    let baseline = rows.iter().position(|row| row.kind == Kind::Baseline && row.is_right());
    if let Some(baseline) = baseline.map(|place| rows[place].tried.products.clone()) {
        for row in rows.iter_mut().filter(|row| row.is_right()) {
            row.compare(&baseline);
            if row.kind == Kind::Cpu && row.tried.over_baseline.is_some_and(|factor| factor < NOISE) {
                row.slow("the baseline build");
            }
        }
    }
    // A variant for this processor that isn't slow is better than the build for all, whatever noise says.
    let cpu = fastest(&rows, Kind::Cpu).or(baseline);
    if let Some(cpu) = cpu.map(|place| rows[place].tried.products.clone()) {
        for row in rows.iter_mut().filter(|row| row.kind == Kind::Gpu && row.is_right()) {
            if ratio(&row.tried.products, &cpu).is_none_or(|factor| factor <= 1.0) {
                row.slow("the processor");
            }
        }
    }
    // A GPU alone won't do: what it can't compute, the processor must.
    let Some(cpu) = cpu else { return Err(none_passed(folder, &rows)) };
    let gpu = fastest(&rows, Kind::Gpu);
    let chosen = gpu.unwrap_or(cpu);
    rows[chosen].tried.verdict = Verdict::Chosen;
    let taken = &rows[chosen].tried;
    Ok(BackendChoice {
        chosen: folder.join(&taken.file),
        cpu: folder.join(&rows[cpu].tried.file),
        gpu: gpu.is_some(),
        devices: taken.devices.iter().map(|device| device.name.clone()).collect(),
        features: taken.features.clone(),
        tried: rows.into_iter().map(|row| row.tried).collect(),
    })
}

/// One file on its way to a verdict.
struct Row {
    kind: Kind,
    tried: Tried,
}

impl Row {
    fn new(candidate: &Candidate, outcome: &Outcome) -> Self {
        Self { kind: candidate.kind, tried: judge(&candidate.file, outcome) }
    }

    fn is_right(&self) -> bool {
        self.tried.verdict == Verdict::Right
    }

    fn compare(&mut self, baseline: &[Timed]) {
        self.tried.over_baseline = ratio(&self.tried.products, baseline);
        for timed in &mut self.tried.products {
            let same = baseline.iter().find(|other| other.weights == timed.weights);
            timed.over_baseline = same.map(|other| timed.gops / other.gops);
        }
    }

    fn slow(&mut self, than: &str) {
        self.tried.verdict = Verdict::Slow;
        self.tried.detail = format!("no faster than {than}: {}", self.tried.detail);
    }
}

/// The fastest right one of a kind, over the weight types that all of them multiply.
fn fastest(rows: &[Row], kind: Kind) -> Option<usize> {
    let mut fit = rows.iter().enumerate().filter(|(_, row)| row.kind == kind && row.is_right());
    let first = fit.next()?;
    let best = fit.fold(first, |best, next| {
        let faster = ratio(&next.1.tried.products, &best.1.tried.products).is_some_and(|factor| factor > 1.0);
        if faster { next } else { best }
    });
    Some(best.0)
}

/// How much faster `a` is than `b`: the geometric mean over the packed weight types that both have, or
/// over all types when no packed one is shared. One type alone says little: kernels differ too much.
fn ratio(a: &[Timed], b: &[Timed]) -> Option<f64> {
    let mean = |wanted: &dyn Fn(&str) -> bool| {
        let shared = a.iter().filter(|timed| wanted(&timed.weights)).filter_map(|timed| {
            let other = b.iter().find(|other| other.weights == timed.weights)?;
            Some((timed.gops / other.gops).ln())
        });
        let logs: Vec<f64> = shared.collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    };
    mean(&is_packed).or_else(|| mean(&|_| true))
}

fn is_packed(weights: &str) -> bool {
    !matches!(weights, "F32" | "F16" | "BF16")
}

fn none_passed(folder: &Path, rows: &[Row]) -> Fault {
    if rows.is_empty() {
        let folder = folder.display();
        return Fault::new(Code::BackendFailed, format!("no ggml backend lies in `{folder}`"))
            .hint("`./try` builds one for this machine");
    }
    let said: Vec<String> = rows.iter().map(|row| format!("`{}` {}", row.tried.file, row.tried.detail)).collect();
    let count = rows.len();
    Fault::new(Code::BackendFailed, format!("none of {count} ggml backends passed its self-test on this machine"))
        .cause(said.join("; "))
        .hint("`freehold doctor` shows each; build them again with a checked compiler: `./try`")
}

/// One file's test by itself: right or not, and its figures.
pub(crate) fn judge(file: &str, outcome: &Outcome) -> Tried {
    let (reply, said) = match outcome {
        Outcome::Reply(reply) => (Some(reply), verdict_of(reply)),
        Outcome::Died(how) => (None, Err((Verdict::Died, how.clone()))),
        Outcome::Hung { limit_ms } => (None, Err((Verdict::Hung, format!("gave no result within {limit_ms} ms")))),
    };
    let (verdict, detail, products) = match said {
        Ok(products) => {
            let figure = |timed: &Timed| format!("{} {:.0} ({})", timed.weights, timed.gops, timed.path);
            let figures: Vec<String> = products.iter().map(figure).collect();
            (Verdict::Right, format!("GOPS: {}", figures.join(", ")), products)
        }
        Err((verdict, detail)) => (verdict, detail, Vec::new()),
    };
    Tried {
        file: file.to_owned(),
        verdict,
        detail,
        devices: reply.map(|reply| reply.devices.clone()).unwrap_or_default(),
        features: reply.map(|reply| reply.features.clone()).unwrap_or_default(),
        products,
        over_baseline: None,
    }
}

/// The fastest path of each weight type, or what is wrong.
fn verdict_of(reply: &SelfTest) -> Result<Vec<Timed>, (Verdict, String)> {
    if reply.devices.is_empty() {
        return Err((Verdict::NoDevice, "found no device here that it can use".into()));
    }
    let mut products: Vec<Timed> = Vec::new();
    for Product { weights, path, error_relative, correct, gops } in &reply.products {
        if !correct || !error_relative.is_finite() {
            let off = f64::from(*error_relative) * 100.0;
            let detail = format!("computes {weights} wrongly on path {path}: off by {off:.1} %");
            return Err((Verdict::Wrong, detail));
        }
        if !gops.is_finite() || *gops <= 0.0 {
            return Err((Verdict::Wrong, format!("claims {gops} GOPS for {weights} on path {path}")));
        }
        let timed = Timed { weights: weights.clone(), path: path.clone(), gops: *gops, over_baseline: None };
        match products.iter_mut().find(|known| known.weights == timed.weights) {
            Some(known) if known.gops < timed.gops => *known = timed,
            Some(_) => {}
            None => products.push(timed),
        }
    }
    if products.is_empty() {
        return Err((Verdict::Wrong, "multiplied nothing".into()));
    }
    Ok(products)
}

#[cfg(test)]
mod tests;
