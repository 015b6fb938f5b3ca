//! The machine that figures come from, its lock, and whether it was quiet.
//!
//! Two benchmarks at once measure each other, so one machine-wide lock is held. A busy machine
//! is waited for, but not for ever: then the figures are taken all the same and say so.

use crate::place;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// Share of all processors' time that other programs may take on a quiet machine.
const QUIET_BUSY_MAX: f64 = 0.05;
const SAMPLE: Duration = Duration::from_millis(1000);
const GAP_SAMPLE: Duration = Duration::from_millis(250);
/// LIMIT: who is still at it then is what the figure tells of.
const SETTLE: Duration = Duration::from_secs(5);

/// What is printed with every result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Those features that decide how fast integer and float products are.
    pub(crate) features: Vec<String>,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// The compiler of the native code, once it is built.
    pub(crate) compiler: String,
}

/// How quiet the machine was, before and between the measurements.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Quiet {
    pub(crate) quiet: bool,
    pub(crate) waited_s: f64,
    /// Per cent of all processors' time, before the first measurement.
    pub(crate) busy_before_percent: f64,
    /// The same between measurements: the mean and the worst gap.
    pub(crate) busy_between_percent: f64,
    pub(crate) busy_between_worst_percent: f64,
    /// Taken away by the host of a virtual machine, over the whole run.
    pub(crate) stolen_percent: f64,
}

/// Holds the lock and watches the machine until the report is made.
#[derive(Debug)]
pub(crate) struct Watch {
    _lock: File,
    quiet: Quiet,
    gaps: Vec<f64>,
    start: Option<Times>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Times {
    idle: f64,
    stolen: f64,
    all: f64,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.split(':').next().is_some_and(|head| head.trim() == name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_string())
        };
        let flags = field("flags").or(field("Features")).unwrap_or_default();
        let features = flags.split(' ').filter(|flag| decides(flag)).map(str::to_string).collect();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: f64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0.0);
        let kernel =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| std::env::consts::OS.into());
        Self {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            features,
            memory_gib: (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: kernel.trim().to_string(),
            compiler: compiler().unwrap_or_else(|| "not built yet".into()),
        }
    }
}

/// Which of the processor's flags matter for products.
fn decides(flag: &str) -> bool {
    ["avx2", "fma", "f16c", "asimddp", "i8mm", "sve", "bf16"].contains(&flag)
        || ["avx512", "avx_vnni", "amx"].iter().any(|start| flag.starts_with(start))
}

fn compiler() -> Option<String> {
    let text = std::fs::read_to_string(place::target().ok()?.join("native/native.json")).ok()?;
    let native: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(native["compiler"]["version"].as_str()?.to_string())
}

impl Watch {
    /// Takes the lock, waiting for whoever holds it, then waits at most `patience` for quiet.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub(crate) fn start(patience: Duration) -> Result<Self> {
        let lock = lock(&std::env::temp_dir().join("freehold-bench.lock"))?;
        let mut quiet = Quiet::default();
        let start = Instant::now();
        while let Some(busy) = busy_during(SAMPLE) {
            quiet.busy_before_percent = percent(busy);
            quiet.quiet = busy <= QUIET_BUSY_MAX;
            if quiet.quiet || start.elapsed() >= patience {
                break;
            }
            if quiet.waited_s == 0.0 {
                eprintln!(
                    "waiting for a quiet machine ({:.0} % busy, at most {} s) …",
                    percent(busy),
                    patience.as_secs()
                );
            }
            quiet.waited_s = start.elapsed().as_secs_f64();
        }
        Ok(Self { _lock: lock, quiet, gaps: Vec::new(), start: times() })
    }

    /// Called between measurements, when nothing is asked of anybody: how busy is the machine then? What was measured last
    /// may be at it for a moment (llama.cpp's threads spin on, ours write down what they keep), and would take that from
    /// whoever comes next; so that is waited for.
    pub(crate) fn gap(&mut self) {
        let start = Instant::now();
        while let Some(busy) = busy_during(GAP_SAMPLE) {
            if busy <= QUIET_BUSY_MAX || start.elapsed() >= SETTLE {
                self.gaps.push(busy);
                break;
            }
        }
    }

    /// The lock is held on; what was seen is told.
    pub(crate) fn seen(&self) -> Quiet {
        let mut quiet = self.quiet.clone();
        if !self.gaps.is_empty() {
            let mean = self.gaps.iter().sum::<f64>() / self.gaps.len() as f64;
            quiet.busy_between_percent = percent(mean);
            quiet.busy_between_worst_percent = percent(self.gaps.iter().copied().fold(0.0, f64::max));
            quiet.quiet &= mean <= QUIET_BUSY_MAX;
        }
        if let (Some(start), Some(end)) = (self.start, times()) {
            quiet.stolen_percent = percent((end.stolen - start.stolen) / (end.all - start.all).max(1.0));
        }
        quiet
    }
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        // Another user's file can be locked by whoever can read it.
        .or_else(|_| File::open(path))
        .with_context(|| format!("can't open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another benchmark is running on this machine; waiting for it …");
            file.lock().context("can't take the machine's lock")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("can't take the machine's lock"),
    }
    Ok(file)
}

/// Share of all processors' time that was used during the sample; `None` where the system doesn't say.
fn busy_during(sample: Duration) -> Option<f64> {
    let before = times()?;
    std::thread::sleep(sample);
    let after = times()?;
    Some(busy(before, after))
}

fn busy(before: Times, after: Times) -> f64 {
    let all = after.all - before.all;
    if all <= 0.0 { 0.0 } else { (1.0 - (after.idle - before.idle) / all).clamp(0.0, 1.0) }
}

fn times() -> Option<Times> {
    parse_times(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// `cpu user nice system idle iowait irq softirq steal …`, in ticks since boot.
fn parse_times(stat: &str) -> Option<Times> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().take(8).filter_map(|tick| tick.parse().ok()).collect();
    let [_, _, _, idle, iowait, _, _, stolen] = ticks.as_slice() else { return None };
    Some(Times { idle: idle + iowait, stolen: *stolen, all: ticks.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle() {
        let before = parse_times("cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 1\n").expect("times");
        let after = parse_times("cpu  20 0 20 150 10 0 0 20 0 0\n").expect("times");
        assert_eq!(before.all, 120.0);
        assert!((busy(before, after) - 0.4).abs() < 1e-9);
        assert_eq!(after.stolen, 20.0);
        assert!(parse_times("intr 1 2 3").is_none());
    }

    #[test]
    fn the_lock_keeps_a_second_one_out() {
        let path = std::env::temp_dir().join(format!("freehold-lock-test-{}", std::process::id()));
        let first = lock(&path).expect("free");
        let second = File::open(&path).expect("there");
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        assert!(second.try_lock().is_ok());
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn features_that_matter_are_kept() {
        let kept: Vec<&str> =
            "fpu avx2 avx512_vnni amx_int8 sse2 fma avx_vnni".split(' ').filter(|f| decides(f)).collect();
        assert_eq!(kept, ["avx2", "avx512_vnni", "amx_int8", "fma", "avx_vnni"]);
    }
}
