//! `bench first`: what keeping prompts costs those who never come back.
//!
//! Four hundred different prompts of a thousand words, from many programs, go to two daemons in turn: one keeps what it has
//! worked through, as it does by itself, within little room on the disk; the other keeps nothing. No prompt is ever sent
//! twice to either, so all that keeping can do here is cost time and room.

use super::chat::{Answer, Call, Client, Side};
use super::daemon::{Daemon, Freehold, Profile};
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::{Options, Watch, process, stat};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

const PROMPTS: u32 = 400;
const PROMPTS_QUICK: u32 = 8;
const PROMPT_WORDS: usize = 1000;
const ANSWER_TOKENS: u32 = 17;
const APPS: u32 = 20;
/// Keeping may cost so much of the speed.
const RATIO_MIN: f64 = 0.98;
/// Some ten states of such prompts.
const DISK_BYTES: u64 = 256 << 20;
/// A copy of a state takes longer.
const LOOK_EACH: Duration = Duration::from_millis(3);
/// Both daemons are killed and started after so many prompts.
const EACH: u32 = 20;

/// Seconds of first tokens, and answers' tokens per second.
#[derive(Debug, Default)]
struct Series {
    first_s: Vec<f64>,
    rate: Vec<f64>,
    cached: u32,
}

impl Series {
    fn take(&mut self, answer: &Answer) {
        self.first_s.push(answer.first_s());
        self.rate.push(f64::from(ANSWER_TOKENS - 1) / answer.rest_s());
        self.cached += answer.cached_tokens;
    }

    /// Prompts per second, so that more is better.
    fn prompts(&self) -> Vec<f64> {
        self.first_s.iter().map(|seconds| 1.0 / seconds).collect()
    }
}

/// What keeping took.
#[derive(Debug, Default)]
struct Taken {
    disk_bytes_max: u64,
    /// The largest state in a file.
    state_bytes_max: u64,
    /// The worker's peak, and what it was counted with.
    peak_bytes: u64,
    counted_bytes: u64,
    own: Arc<Own>,
}

/// The largest sum of a worker's own pages, which the system doesn't keep: it is looked at all the time.
#[derive(Debug, Default)]
struct Own {
    /// 0: nobody's.
    pid: AtomicU32,
    most: AtomicU64,
}

impl Own {
    /// Until everybody else has let go of it.
    fn watch(own: Weak<Self>) {
        while let Some(own) = own.upgrade() {
            let pid = own.pid.load(Relaxed);
            if let (1.., Ok(bytes)) = (pid, process::memory(pid, "RssAnon:")) {
                own.most.fetch_max(bytes, Relaxed);
            }
            drop(own);
            std::thread::sleep(LOOK_EACH);
        }
    }
}

impl Taken {
    /// What the worker has taken until now.
    fn look(&mut self, daemon: &Daemon<'_>, model: &Path) -> Result<()> {
        let loaded = daemon.loaded(model)?;
        // Pages of files are counted as they are at rest: a state that goes from the pool straight into its file is mapped
        // meanwhile, and its pages are the system's.
        let files = process::memory(loaded.number("pid")?, "RssFile:")?;
        self.peak_bytes = self.peak_bytes.max(self.own.most.load(Relaxed) + files);
        self.counted_bytes = loaded.facts["held_bytes"].as_u64().context("`status` tells no `held_bytes`")?;
        Ok(())
    }
}

/// Its number stands backwards in the system message: after the template's first words, no prompt of a program begins like another.
fn call(number: u32) -> Call {
    let app = format!("bench-app-{}", number % APPS);
    let backwards = (0..6).fold((0, number), |(made, rest), _| (made * 10 + rest % 10, rest / 10)).0;
    Call { tokens_max: ANSWER_TOKENS, ..Call::apart(PROMPT_WORDS, backwards) }.of(&app)
}

/// Of all files in a folder, and of the largest of them.
fn bytes_of(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes: Vec<u64> = entries.map(|entry| entry.metadata().map_or(0, |about| about.len())).collect();
    (sizes.iter().sum(), sizes.iter().copied().max().unwrap_or(0))
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("prompts that never come back, with and without what is kept");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let start = |kept: &[(&str, String)]| -> Result<Daemon<'_>> {
        let settings = [&[("FREEHOLD_CONTEXT", "8192".to_string())], kept].concat();
        Daemon::start_with(&freehold, &[&starter.chat], &settings)
    };
    let mut keeping = start(&[("FREEHOLD_CACHE_DISK", format!("{DISK_BYTES} B"))])?;
    let mut plain = start(&[("FREEHOLD_PREFIX_CACHE", "false".to_string())])?;
    let ready = |daemon: &Daemon<'_>, number: u32| -> Result<Client> {
        let client = Client { side: Side::Ours, address: daemon.address.clone() };
        // Loads the model.
        client.exact(&call(900_000 + number))?;
        Ok(client)
    };
    let (mut keeper, mut forgetter) = (ready(&keeping, 0)?, ready(&plain, 0)?);
    let prompts = if options.quick { PROMPTS_QUICK } else { PROMPTS };
    let (mut with, mut without, mut taken) = (Series::default(), Series::default(), Taken::default());
    let own = Arc::downgrade(&taken.own);
    std::thread::spawn(move || Own::watch(own));
    taken.own.pid.store(keeping.loaded(&starter.chat)?.number("pid")?, Relaxed);
    for number in 0..prompts {
        eprint!("\rprompt {} of {prompts} ", number + 1);
        if number % EACH == 0 {
            if number > 0 {
                taken.look(&keeping, &starter.chat)?;
                // What is on disk stays; where a process's memory happens to lie makes it faster or slower for as long as it lives.
                keeping.kill_and_start(&[])?;
                plain.kill_and_start(&[])?;
                (keeper, forgetter) = (ready(&keeping, number)?, ready(&plain, number)?);
                taken.own.pid.store(keeping.loaded(&starter.chat)?.number("pid")?, Relaxed);
            }
            watch.gap();
        }
        for keeps in [number % 2 == 0, number % 2 == 1] {
            let (client, series) = if keeps { (&keeper, &mut with) } else { (&forgetter, &mut without) };
            series.take(&client.exact(&call(number))?);
            let (all, largest) = bytes_of(&keeping.home().join("cache"));
            taken.disk_bytes_max = taken.disk_bytes_max.max(all);
            taken.state_bytes_max = taken.state_bytes_max.max(largest);
        }
    }
    eprintln!();
    taken.look(&keeping, &starter.chat)?;
    report.quiet = Some(watch.seen());
    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("work", format!("{prompts} prompts of {PROMPT_WORDS} words from {APPS} programs, order changing, daemons killed after each {EACH}"));
    report.setting("disk", format!("at most {:.0} MB for what is kept", DISK_BYTES as f64 / 1e6));
    report.tables.push(table(&with, &without, &taken));
    report.goals.extend(goals(&with, &without, &taken));
    Ok(report.finish(options.json))
}

fn table(with: &Series, without: &Series, taken: &Taken) -> Table {
    let mut table = Table::new("what was seen", &["", "keeping", "not keeping"]);
    let mut row = |name: &str, cells: [String; 2]| table.rows.push([vec![name.to_string()], cells.to_vec()].concat());
    row("first token, median s", [with, without].map(|series| figure(stat::median(&series.first_s))));
    row("answers, median tokens/s", [with, without].map(|series| figure(stat::median(&series.rate))));
    let mb = |bytes: u64| figure(bytes as f64 / 1e6);
    row("on disk at most, MB", [mb(taken.disk_bytes_max), "–".into()]);
    row("the largest state in a file, MB", [mb(taken.state_bytes_max), "–".into()]);
    row("the worker's memory at most, MB", [mb(taken.peak_bytes), "–".into()]);
    row("… and what it was counted with", [mb(taken.counted_bytes), "–".into()]);
    table
}

fn goals(with: &Series, without: &Series, taken: &Taken) -> Vec<Goal> {
    let beside = |name: &str, unit: &str, ours: &[f64], theirs: &[f64]| {
        let means = (stat::estimate(ours).mean, stat::estimate(theirs).mean);
        Goal::beside(name, means, unit, stat::ratio(ours, theirs), Bound::AtLeast(RATIO_MIN))
    };
    let at_most = |bytes: u64| Bound::AtMost(bytes as f64 / 1e6);
    vec![
        beside("prompts, beside keeping nothing", "/s", &with.prompts(), &without.prompts()),
        beside("answers, beside keeping nothing", "tokens/s", &with.rate, &without.rate),
        Goal::plain(
            "tokens that were found of prompts never sent",
            f64::from(with.cached),
            "tokens",
            Bound::Below(1.0),
        ),
        Goal::plain("on disk", taken.disk_bytes_max as f64 / 1e6, "MB", at_most(DISK_BYTES)),
        Goal::plain("in memory", taken.peak_bytes as f64 / 1e6, "MB", at_most(taken.counted_bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_begin_alike() {
        let system = |number| call(number).system.expect("a number");
        assert_eq!((system(1), system(25)), ("1 0 0 0 0 0".into(), "5 2 0 0 0 0".into()));
        let of_one = (0..PROMPTS)
            .filter(|number| call(*number).app == call(3).app)
            .map(|number| system(number)[..5].to_string());
        assert_eq!(of_one.collect::<std::collections::BTreeSet<_>>().len(), (PROMPTS / APPS) as usize);
        assert_eq!((call(3).app, call(23).app), (Some("bench-app-3".into()), Some("bench-app-3".into())));
        assert_eq!(call(7).tokens_max, ANSWER_TOKENS);
    }

    #[test]
    fn what_costs_more_than_a_fiftieth_or_grows_is_missed() {
        let series = |seconds: f64, cached| Series {
            first_s: vec![seconds, seconds * 1.001, seconds],
            rate: vec![100.0, 100.1, 100.0],
            cached,
        };
        let taken = Taken { disk_bytes_max: DISK_BYTES, peak_bytes: 9, counted_bytes: 9, ..Taken::default() };
        let met = |with: &Series, taken: &Taken| goals(with, &series(1.0, 0), taken).iter().all(|goal| goal.met);
        assert!(met(&series(1.01, 0), &taken));
        assert!(!met(&series(1.04, 0), &taken) && !met(&series(1.0, 1), &taken));
        assert!(!met(&series(1.0, 0), &Taken { disk_bytes_max: DISK_BYTES + 1, ..taken }));
        assert!(!met(
            &series(1.0, 0),
            &Taken { peak_bytes: 10, disk_bytes_max: 0, counted_bytes: 9, ..Taken::default() }
        ));
    }
}
