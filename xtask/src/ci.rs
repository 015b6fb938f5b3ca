//! `cargo xtask ci`: everything that must hold, in one run; `./check` and the build server call it.
//!
//! A step is quiet while it goes well and shows what it said when it doesn't. A failure doesn't stop
//! the others, unless they need what failed. Start reading at [`Step`].

use crate::bench::daemon::{Freehold, Profile, Starter};
use crate::bench::soak;
use crate::licence::{self, advisory};
use crate::{native, place, tidy};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Names that a guard may cite as `ci: NAME`, in the order in which they run.
pub(crate) const STEPS: [&str; 12] = [
    "fmt",
    "tidy",
    "licences",
    "advisories",
    "clippy",
    "no-cxx",
    "native",
    "clippy-worker",
    "models",
    "tests",
    "tests-worker",
    "soak",
];

/// Lines of a failed step's output that are shown; all of it lies in its log.
const SHOWN_LINES_MAX: usize = 400;
/// Without a terminal a long step says now and then that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// What came of a step.
enum Ended {
    Good(String),
    Skipped(String),
    Bad(String),
}

struct Row {
    name: &'static str,
    ended: Ended,
    took: Duration,
}

/// What later steps need of earlier ones.
#[derive(Default)]
struct Made {
    native: Option<native::NativeDir>,
    starter: Option<Starter>,
    built: bool,
}

/// Runs all steps, or those that are named.
///
/// # Errors
/// When a named step doesn't exist. A step that fails is no error here but exit status 1.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    for arg in args {
        if !STEPS.contains(&arg.as_str()) {
            bail!("`{arg}` is no step; there are {}", STEPS.join(", "));
        }
    }
    let mut made = Made::default();
    let mut rows = Vec::new();
    let begun = Instant::now();
    for name in STEPS {
        if !args.is_empty() && !args.iter().any(|arg| arg == name) {
            continue;
        }
        let start = Instant::now();
        say(&format!("{name:<14} …"), false);
        let ended = step(name, &mut made).unwrap_or_else(|error| Ended::Bad(format!("{error:#}")));
        let took = start.elapsed();
        say(&line(name, &ended, took), true);
        if let Ended::Bad(why) = &ended {
            eprintln!("{why}\n");
        }
        rows.push(Row { name, ended, took });
    }
    Ok(summary(&rows, begun.elapsed()))
}

fn step(name: &str, made: &mut Made) -> Result<Ended> {
    match name {
        "fmt" => quietly(name, place::cargo().args(["fmt", "--all", "--check"])).map(nothing_to_say),
        "tidy" => {
            // Cargo says four hundred names while it does this.
            quietly(name, place::cargo().args(["fetch", "--locked"]))?;
            let found = tidy::findings()?;
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            Ok(if lines.is_empty() {
                good(format!("{} rules", tidy::RULES.len()))
            } else {
                Ended::Bad(lines.join("\n"))
            })
        }
        "licences" => {
            let found = licence::check()?;
            Ok(if found.is_empty() { good("all allowed".into()) } else { Ended::Bad(found.join("\n")) })
        }
        "advisories" => Ok(match advisory::check()? {
            advisory::Outcome::Skipped(why) => Ended::Skipped(format!("the database can't be reached ({why})")),
            found @ advisory::Outcome::Found { .. } => Ended::Bad(found.to_string()),
            clean => good(clean.to_string()),
        }),
        "clippy" => {
            let mut cargo = without_cxx();
            cargo.args(["clippy", "--locked", "--keep-going", "--all-targets", "--", "-D", "warnings"]);
            quietly(name, &mut cargo).map(nothing_to_say)
        }
        // Every default member, every program of it: with no C++ compiler and no cmake to be found.
        "no-cxx" => {
            quietly(name, without_cxx().args(["build", "--locked"]))?;
            made.built = true;
            Ok(good("default members build with CXX and CMAKE out of reach".into()))
        }
        "native" => {
            let native = native::ensure()?;
            let backends: Vec<&str> = native.backends.iter().map(|backend| backend.variant.as_str()).collect();
            let words = format!("{}; {}", native.compiler.version, backends.join(", "));
            made.native = Some(native);
            Ok(good(words))
        }
        "clippy-worker" => {
            let mut cargo = for_worker()?;
            cargo.args(["clippy", "--locked", "--release", "--package", "freehold-worker", "--all-targets", "--"]);
            quietly(name, cargo.args(["-D", "warnings"])).map(nothing_to_say)
        }
        "models" => models(made),
        "tests" => tests(name, made),
        "tests-worker" => tests_worker(name, made),
        _ => soaked(made),
    }
}

fn freehold(made: &Made) -> Result<Freehold> {
    let native = native(made)?;
    if made.built { Freehold::built(Profile::Dev, native) } else { Freehold::build_beside(Profile::Dev, native) }
}

fn models(made: &mut Made) -> Result<Ended> {
    let starter = freehold(made)?.starter()?;
    let words = starter.chat.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    made.starter = Some(starter);
    Ok(good(words))
}

/// The native folder, built now when this run left its step out.
fn native(made: &Made) -> Result<native::NativeDir> {
    made.native.clone().map_or_else(native::ensure, Ok)
}

fn tests(name: &str, made: &mut Made) -> Result<Ended> {
    if made.starter.is_none() {
        models(made)?;
    }
    let mut cargo = without_cxx();
    let nextest = place::on_path(&["cargo-nextest"]).is_some();
    if nextest {
        cargo.args(["nextest", "run", "--locked", "--profile", "ci"]);
    } else {
        cargo.args(["test", "--locked", "--bins", "--lib", "--tests"]);
    }
    let said = quietly(name, real(&mut cargo, made)?)?;
    // Neither of the two above runs the examples in the documentation.
    quietly("tests-doc", without_cxx().args(["test", "--locked", "--doc"]))?;
    Ok(good(counted(&said)))
}

fn tests_worker(name: &str, made: &mut Made) -> Result<Ended> {
    if made.starter.is_none() {
        models(made)?;
    }
    let mut cargo = for_worker()?;
    cargo.args(["test", "--locked", "--release", "--package", "freehold-worker"]);
    quietly(name, real(&mut cargo, made)?).map(|said| good(counted(&said)))
}

/// Some hundreds of requests to the real programs, with cancels and killed workers.
fn soaked(made: &mut Made) -> Result<Ended> {
    if made.starter.is_none() {
        models(made)?;
    }
    let starter = made.starter.as_ref().context("the starter models aren't there")?;
    soak::short(&freehold(made)?, starter).map(good)
}

/// Shows the tests where the real worker and the starter models lie.
fn real<'a>(command: &'a mut Command, made: &Made) -> Result<&'a mut Command> {
    let native = native(made)?;
    let starter = made.starter.as_ref().context("the starter models aren't there")?;
    command.env("FREEHOLD_TEST_NATIVE", &native.path);
    command.env("FREEHOLD_TEST_MODEL", &starter.chat).env("FREEHOLD_TEST_EMBEDDER", &starter.embed);
    Ok(command)
}

/// Cargo for the default members. It can find neither a C++ compiler nor cmake, in every step alike:
/// a changed environment would make build scripts run again.
fn without_cxx() -> Command {
    let mut cargo = place::cargo();
    cargo.env("CXX", "/nonexistent/c++").env("CMAKE", "/nonexistent/cmake");
    cargo
}

/// Cargo for the worker, with the variables that its native build was made with.
fn for_worker() -> Result<Command> {
    let mut cargo = place::cargo();
    cargo.envs(native::environment()?);
    Ok(cargo)
}

fn good(words: String) -> Ended {
    Ended::Good(words)
}

fn nothing_to_say(_log: String) -> Ended {
    Ended::Good(String::new())
}

/// `17 tests` from what a test runner said; both runners' words are known.
fn counted(said: &str) -> String {
    let number_before = |line: &str, word: &str| -> Option<u64> {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == ';' || c == ',').collect();
        let at = words.iter().position(|found| *found == word)?;
        words[..at].iter().rev().find(|word| !word.is_empty())?.parse().ok()
    };
    let nextest = said.lines().rev().find(|line| line.trim_start().starts_with("Summary"));
    let sum = |word: &str| match nextest {
        Some(line) => number_before(line, word).unwrap_or(0),
        None => said
            .lines()
            .filter(|line| line.starts_with("test result:"))
            .filter_map(|line| number_before(line, word))
            .sum(),
    };
    let (passed, left_out) = (sum("passed"), sum("ignored") + sum("skipped"));
    if left_out == 0 { format!("{passed} passed") } else { format!("{passed} passed, {left_out} left out") }
}

/// Runs a command to its end with its output in a log. What it said comes back, or into the error.
fn quietly(name: &str, command: &mut Command) -> Result<String> {
    let folder = place::cache()?.join("logs");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("check-{name}.log"));
    let log = File::create(&path).with_context(|| format!("can't write `{}`", path.display()))?;
    let mut child =
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("can't run cargo")?;
    let start = Instant::now();
    let mut told = start;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        if std::io::stderr().is_terminal() {
            say(&format!("{name:<14} … {}", clock(start.elapsed())), false);
        } else if told.elapsed() >= ALIVE_EVERY {
            told = Instant::now();
            eprintln!("{name:<14} … {}", clock(start.elapsed()));
        }
    };
    let said = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    if status.success() {
        return Ok(said);
    }
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES_MAX);
    let cut = if from > 0 { format!("… {from} lines more in {}\n", path.display()) } else { String::new() };
    bail!("{cut}{}", lines[from..].join("\n"))
}

/// On a terminal a line is written over until it is final.
fn say(text: &str, last: bool) {
    let mut err = std::io::stderr().lock();
    let _ = match (err.is_terminal(), last) {
        (true, false) => write!(err, "\r\x1b[K{text}"),
        (true, true) => writeln!(err, "\r\x1b[K{text}"),
        (false, true) => writeln!(err, "{text}"),
        (false, false) => Ok(()),
    };
    let _ = err.flush();
}

fn line(name: &str, ended: &Ended, took: Duration) -> String {
    let (verdict, words) = match ended {
        Ended::Good(words) => ("ok", words.as_str()),
        Ended::Skipped(why) => ("skipped", why.as_str()),
        Ended::Bad(_) => ("FAILED", ""),
    };
    format!("{name:<14} {verdict:<8} {:>7}  {}", clock(took), words.lines().next().unwrap_or_default())
        .trim_end()
        .to_string()
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{:.1} s", time.as_secs_f64()) } else { format!("{}:{:02}", seconds / 60, seconds % 60) }
}

fn summary(rows: &[Row], took: Duration) -> ExitCode {
    println!();
    for row in rows {
        println!("{}", line(row.name, &row.ended, row.took));
    }
    let failed: Vec<&str> = rows.iter().filter(|row| matches!(row.ended, Ended::Bad(_))).map(|row| row.name).collect();
    if failed.is_empty() {
        println!("\nall good in {}", clock(took));
        return ExitCode::SUCCESS;
    }
    println!("\nFAILED after {}: {}", clock(took), failed.join(", "));
    println!("one step again: `cargo xtask ci {}`", failed[0]);
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_in_both_runners_words() {
        let cargo = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: ok. 4 passed; 0 failed; 0 ignored;\n";
        assert_eq!(counted(cargo), "7 passed, 1 left out");
        let nextest = "  Summary [   0.5s] 12 tests run: 12 passed, 0 skipped\n";
        assert_eq!(counted(nextest), "12 passed");
    }

    #[test]
    fn a_failing_command_brings_its_words_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why >&2; exit 3"]);
        let error = quietly("self-test", &mut command).expect_err("it fails").to_string();
        assert!(error.contains("out") && error.contains("why"), "{error}");
        let mut command = Command::new("sh");
        assert_eq!(quietly("self-test", command.args(["-c", "echo fine"])).expect("it works"), "fine\n");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(clock(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(clock(Duration::from_secs(61)), "1:01");
        let row = line("fmt", &Ended::Skipped("why\nmore".into()), Duration::from_secs(1));
        assert!(row.contains("skipped") && row.ends_with("why"), "{row}");
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(run(&["nothing".to_string()]).is_err());
    }
}
