//! `freehold doctor`

use crate::Context;
use crate::bar::{Bar, Unit};
use crate::ending::{Ending, Outcome};
use crate::flow::wrapped;
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::plural;
use runtime::view::{Check, Doctor, Verdict};

const EXAMPLES: &str = "\
Loads the default models and tries what a confined process must not be able
to do, so it takes a few seconds. Exit status 1 when a check is bad.

Examples:
  freehold doctor
  freehold doctor --json | jq '.checks[] | select(.verdict != \"good\")'";

/// Examine this machine: processor, backends, models, and the protection really in force
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let link = Link::open(&context).await?;
    let doctor = examined(&link, screen).await?;
    if args.json {
        screen.json(&doctor)?;
    } else {
        screen.data(&text(&doctor, screen))?;
        screen.talk(&screen.err.dim(&summary(&doctor)))?;
    }
    match doctor.checks.iter().any(|check| check.verdict == Verdict::Bad) {
        true => Err(Ending::Nothing),
        false => Ok(()),
    }
}

/// The examination says nothing until it is done, so the clock is all there is to show.
async fn examined(link: &Link, screen: &Screen) -> Result<Doctor, Ending> {
    let mut bar = Bar::new(screen);
    let examination = link.get("doctor");
    tokio::pin!(examination);
    let begun = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        tokio::select! {
            doctor = &mut examination => return Ok(doctor?),
            _ = tick.tick() => {
                bar.set("examining this machine", begun.elapsed().as_secs(), None, Unit::Seconds);
            }
        }
    }
}

fn text(doctor: &Doctor, screen: &Screen) -> String {
    let width = doctor.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = doctor.checks.iter().map(|check| line(check, width, screen)).collect();
    lines.join("\n")
}

fn line(check: &Check, width: usize, screen: &Screen) -> String {
    let paint = screen.out;
    let mark = match check.verdict {
        Verdict::Good => paint.green("good"),
        Verdict::Weak => paint.yellow("weak"),
        Verdict::Bad => paint.red("bad "),
    };
    let indent = " ".repeat(width + 8);
    let name = format!("{:width$}", check.name);
    let mut text =
        format!("{mark}  {}  {}", paint.bold(&name), wrapped(&clean(&check.detail), screen.out_width(), &indent));
    if let Some(hint) = &check.hint {
        text.push_str(&format!(
            "\n{indent}{}",
            wrapped(&format!("→ {}", clean(hint)), screen.out_width(), &format!("{indent}  "))
        ));
    }
    text
}

fn summary(doctor: &Doctor) -> String {
    let of = |verdict| doctor.checks.iter().filter(|check| check.verdict == verdict).count();
    let all = plural(doctor.checks.len() as u64, "check");
    match (of(Verdict::Weak), of(Verdict::Bad)) {
        (0, 0) => format!("{all}, all good"),
        (weak, 0) => format!("{all}: {weak} weak, none bad"),
        (weak, bad) => format!("{all}: {weak} weak, {bad} bad"),
    }
}
