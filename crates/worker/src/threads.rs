//! The threads that compute: how many, by what the process got of the processors (`batch::crew` decides).
//!
//! The machine's idle time stands in a file that is opened before the confinement and read again through its
//! descriptor; processor time is asked of the system, without a file.

use crate::aside::Aside;
use crate::ffi::{Backend, Context, processor_time_us};
use crate::link::micros;
use batch::crew::{Bounds, Crew, Glance, Phase, Step};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use wire::Load;

/// How long a thread of the pool looks for work before it sleeps, in ggml's units of about 4 ms; see
/// `docs/decisions/0003-worker.md` for what others cost.
const POLL: u32 = 1;
/// What was seen of the machine before a pause of this length is old.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked who runs at this moment, and what lies between.
const GLANCES: u32 = 4;
const BETWEEN_GLANCES: Duration = Duration::from_micros(500);
/// The system counts idle time in hundredths of a second: a shorter look is too coarse.
const LOOK_MIN: Duration = Duration::from_millis(80);
/// LIMIT: bytes of the system's statistics that are looked at; a line for each processor comes first.
const STATISTICS_BYTES_MAX: usize = 64 << 10;
/// How often to look while all compute.
const LOOK_CALM: Duration = Duration::from_secs(1);
/// Microseconds in one tick of the statistics (100 per second on every Linux).
const TICK_US: f64 = 10_000.0;

/// Sets the number of threads before each step and learns from it.
#[derive(Debug)]
pub(crate) struct Threads {
    crew: Crew,
    meter: Meter,
    /// Where threads come from.
    cpu: Backend,
    /// With layers on a GPU the threads wait for it, and what they don't use isn't missing.
    learns: bool,
    aside: Aside,
    last_step: Option<Instant>,
}

/// A step that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    phase: Phase,
    threads: u32,
    at: Instant,
    cpu_us: Option<u64>,
    aside_us: u64,
}

impl Threads {
    /// `meter` was opened before the confinement. `learns`: nothing is on a GPU.
    pub(crate) fn new(load: &Load, cpu: Backend, meter: Meter, learns: bool) -> Self {
        let bounds = Bounds {
            threads: load.threads,
            prompt_threads: load.prompt_threads,
            quota: (load.quota_milli > 0).then(|| f64::from(load.quota_milli) / 1000.0),
            sees_free: meter.sees(),
        };
        Self { crew: Crew::new(bounds), meter, cpu, learns, aside: Aside::default(), last_step: None }
    }

    /// Makes the context compute its next step with as many threads as are of use.
    ///
    /// # Errors
    /// When the threads can't be started; the ones before go on then.
    pub(crate) fn begin(&mut self, context: &mut Context, phase: Phase) -> Result<Begun, String> {
        self.wake();
        let threads = self.crew.threads(phase);
        let used = context.use_threads(self.cpu, threads, POLL);
        used.map(|()| Begun {
            phase,
            threads,
            at: Instant::now(),
            cpu_us: self.learns.then(processor_time_us).flatten(),
            aside_us: self.aside.total_us(),
        })
    }

    /// Where other threads of ours count what they take.
    pub(crate) fn aside(&self) -> Aside {
        self.aside.clone()
    }

    /// Takes note of the step that ends now.
    pub(crate) fn end(&mut self, begun: Begun) {
        let (Some(before), Some(now)) = (begun.cpu_us, processor_time_us()) else { return };
        let wall_us = micros(begun.at.elapsed());
        self.last_step = Some(Instant::now());
        let aside_us = self.aside.total_us().saturating_sub(begun.aside_us);
        let cpu_us = now.saturating_sub(before).saturating_sub(aside_us);
        self.crew.observe(Step { phase: begun.phase, threads: begun.threads, wall_us, cpu_us });
        if self.crew.is_reduced() {
            if let Some(free) = self.meter.look(LOOK_MIN) {
                self.crew.note_free(free);
            }
        } else {
            // Not for now: to have something to compare with later.
            self.meter.look(LOOK_CALM);
        }
    }

    /// How long the next step may take when it only reads prompts.
    pub(crate) fn step_alone_us(&mut self) -> u32 {
        self.wake();
        self.crew.step_alone_us()
    }

    /// Before the first step after a pause: looks whether processors are taken.
    fn wake(&mut self) {
        if self.learns && self.last_step.is_none_or(|last| last.elapsed() > PAUSE) {
            self.last_step = Some(Instant::now());
            self.crew.wake(self.meter.glance());
        }
    }
}

/// How many processors are free for us: those that are idle and those that we use already.
#[derive(Debug)]
pub(crate) struct Meter {
    statistics: Option<File>,
    allowed: BTreeSet<usize>,
    last: Option<Sight>,
}

#[derive(Debug, Clone, Copy)]
struct Sight {
    at: Instant,
    idle_us: f64,
    used_us: u64,
    /// Processors of the machine, ours or not.
    processors: u32,
    /// Threads on the whole machine that run or want to, ours too.
    running: u32,
}

impl Meter {
    /// Opens what it reads later; to be called before the confinement.
    pub(crate) fn open() -> Self {
        let mut meter = Self { statistics: File::open("/proc/stat").ok(), allowed: allowed(), last: None };
        meter.last = meter.sight();
        meter
    }

    fn sees(&self) -> bool {
        self.last.is_some()
    }

    /// Free processors since the last look, when that is at least `passed_min` ago.
    fn look(&mut self, passed_min: Duration) -> Option<f64> {
        let last = self.last?;
        let passed = last.at.elapsed();
        if passed < passed_min {
            return None;
        }
        let now = self.sight()?;
        self.last = Some(now);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one look are far below 2^53")]
        let used_us = now.used_us.saturating_sub(last.used_us) as f64;
        // Counters of single processors can go back a little.
        Some(((now.idle_us - last.idle_us).max(0.0) + used_us) / (passed.as_secs_f64() * 1e6))
    }

    /// Who ran since the last look may have gone. And who woke us may still run for a moment, so a processor that is taken
    /// now is looked at again.
    fn glance(&mut self) -> Option<Glance> {
        let past = self.look(LOOK_MIN)?;
        let processors = f64::from(self.last?.processors);
        let mut now = 0.0_f64;
        for again in 0..GLANCES {
            if again > 0 {
                std::thread::sleep(BETWEEN_GLANCES);
            }
            let others = self.sight()?.running.saturating_sub(1);
            now = now.max((processors - f64::from(others)).max(0.0));
            if now >= processors {
                break;
            }
        }
        Some(Glance { free: past.max(now), now })
    }

    fn sight(&self) -> Option<Sight> {
        let mut bytes = vec![0; STATISTICS_BYTES_MAX];
        let length = self.statistics.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(&bytes[..length]);
        let (ticks, processors) = idle_ticks(&text, &self.allowed)?;
        #[expect(clippy::cast_precision_loss, reason = "ticks since the start are far below 2^53")]
        let idle_us = ticks as f64 * TICK_US;
        Some(Sight { at: Instant::now(), idle_us, used_us: processor_time_us()?, processors, running: running(&text) })
    }
}

/// Processors that we may run on; empty where the system doesn't say, which stands for all.
fn allowed() -> BTreeSet<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).collect();
    }
    BTreeSet::new()
}

fn running(statistics: &str) -> u32 {
    statistics.lines().find_map(|line| line.strip_prefix("procs_running ")?.trim().parse().ok()).unwrap_or(0)
}

/// Idle time of the allowed processors, and time in which they waited for a disk; and how many there are on
/// the whole machine.
fn idle_ticks(statistics: &str, allowed: &BTreeSet<usize>) -> Option<(u64, u32)> {
    let (mut sum, mut processors) = (None, 0);
    for line in statistics.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(number) = fields.next().and_then(|name| name.strip_prefix("cpu")) else { break };
        // The first line sums up all processors and has no number.
        let Ok(number) = number.parse::<usize>() else { continue };
        processors += 1;
        if !allowed.is_empty() && !allowed.contains(&number) {
            continue;
        }
        // After user, nice and system.
        let idle: u64 = fields.skip(3).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        sum = Some(sum.unwrap_or(0) + idle);
    }
    sum.map(|sum| (sum, processors))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATISTICS: &str = "cpu  10 0 10 300 7 0 0 5 0 0\ncpu0 5 0 5 100 3 0 0 5 0 0\ncpu1 5 0 5 200 4 0 0 0 0 0\n\
                              intr 14663463 0 0\nctxt 1\nprocs_running 3\ncpu9 1 1 1 1 1\n";

    #[test]
    fn idle_time_is_that_of_the_processors_that_are_ours() {
        for (allowed, idle) in [(vec![], Some(307)), (vec![0, 1], Some(307)), (vec![1], Some(204)), (vec![7], None)] {
            let expected = idle.map(|idle| (idle, 2));
            assert_eq!(idle_ticks(STATISTICS, &allowed.into_iter().collect()), expected);
        }
        assert_eq!((running(STATISTICS), running("")), (3, 0));
        assert_eq!(idle_ticks("", &BTreeSet::new()), None);
        assert_eq!(idle_ticks("not what was expected", &BTreeSet::new()), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_says_what_is_free() {
        let mut meter = Meter::open();
        assert!(meter.sees());
        assert_eq!(meter.look(Duration::from_hours(1)), None, "not long enough ago");
        let first = meter.last.expect("there was a look");
        meter.last = Some(Sight { at: first.at.checked_sub(LOOK_MIN).expect("a clock that runs"), ..first });
        let Glance { free, now } = meter.glance().expect("long enough ago");
        assert!(free.is_finite() && now >= 0.0 && free >= now, "{free} {now}");
    }
}
