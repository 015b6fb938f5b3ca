//! Words on pictures and scans, by tesseract: found on this system, confined, bounded, one process for each picture.
//!
//! It isn't ours and is written in C++, so it gets a picture on its standard input and nothing else: no file but its
//! libraries and language data, no network, nothing to write. What it says is data, and is checked as such. Start at
//! [`read`].

mod compose;
mod tsv;

use crate::document::Document;
use crate::extract::{Scan, Scanned};
use crate::reader::{Stops, Unread, Watch, libc_signal, signal};
use base::{Bytes, Code, Fault, Millis};
use compose::Outcome;
use jail::{Command, Filter, Io, Limits, Rules};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How words are recognised: the program, the languages, the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recogniser {
    /// A bare name is looked for where only an administrator installs programs.
    pub program: PathBuf,
    pub languages: Languages,
    pub limits: RecogniserLimits,
}

/// Names of tesseract's language data: `eng`, `deu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Languages {
    /// No word is recognised at all.
    Off,
    /// These, as far as they are installed.
    Wished(Vec<String>),
    /// All of these.
    Needed(Vec<String>),
}

/// Bounds of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecogniserLimits {
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
    /// Wall time.
    pub picture_ms: u64,
}

impl Default for RecogniserLimits {
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, cpu_seconds: 120, picture_ms: 180_000 }
    }
}

impl Default for Recogniser {
    fn default() -> Self {
        Self {
            program: "tesseract".into(),
            languages: Languages::Wished(vec!["eng".into()]),
            limits: RecogniserLimits::default(),
        }
    }
}

/// A recogniser that was found, and what it will look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub program: PathBuf,
    /// In use.
    pub languages: Vec<String>,
    /// Wished for and not installed.
    pub absent: Vec<String>,
    /// It finds out by itself which way up a page is.
    turns: bool,
}

impl Ready {
    /// The command that installs what is absent.
    pub fn remedy(&self) -> Option<String> {
        (!self.absent.is_empty()).then(|| install("data", &self.absent))
    }
}

/// Where language data lies besides the folders of libraries.
const LANGUAGE_DATA: [&str; 4] =
    ["/usr/share/tesseract-ocr", "/usr/share/tessdata", "/usr/share/tesseract", "/usr/local/share/tessdata"];
/// LIMIT: bytes of an answer: a page of the smallest print has a fraction of that.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// LIMIT: bytes of its own words that are looked at when it fails.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// Pictures that are recognised at a time, over all files: each may take its whole memory.
const AT_A_TIME_MAX: usize = 4;

/// How a run of the program ended.
enum Ended {
    Answered(Vec<u8>),
    /// A sentence part about this picture.
    Failed(String),
    Stopped,
    /// It can't be run at all.
    Unstarted(Fault),
}

impl Recogniser {
    /// Looks for the program and for the data of its languages, by asking it.
    ///
    /// # Errors
    /// [`Code::RecogniserMissing`] with the command that installs what is missing, [`Code::ConfinementFailed`].
    pub fn examine(&self) -> Result<Ready, Fault> {
        self.ready(&Stops::default())
    }

    pub(crate) fn ready(&self, stops: &Stops) -> Result<Ready, Fault> {
        let (wanted, all_needed) = match &self.languages {
            Languages::Off => {
                return Err(Fault::new(Code::RecogniserMissing, "recognition of words on pictures is switched off")
                    .hint("set `ocr_languages` in config.toml, for example to `\"eng\"`"));
            }
            Languages::Wished(wanted) => (wanted, false),
            Languages::Needed(wanted) => (wanted, true),
        };
        let program = self.found().ok_or_else(|| {
            Fault::new(Code::RecogniserMissing, "its words can only be recognised by tesseract, which isn't installed")
                .hint(format!("{} (Apache-2.0), then index again", install("", wanted)))
        })?;
        let answer = match self.run(&program, &["--list-langs".into()], &[], stops) {
            Ended::Answered(answer) => String::from_utf8_lossy(&answer).into_owned(),
            Ended::Unstarted(fault) => return Err(fault),
            Ended::Failed(why) => {
                return Err(Fault::new(Code::RecogniserMissing, "tesseract doesn't say which languages it has")
                    .cause(why)
                    .hint("`tesseract --list-langs` shows what is wrong"));
            }
            Ended::Stopped => return Err(Fault::new(Code::Cancelled, "indexing was stopped")),
        };
        let installed: Vec<&str> = answer.lines().skip(1).map(str::trim).filter(|name| !name.is_empty()).collect();
        chosen(program, wanted, all_needed, &installed)
    }

    fn found(&self) -> Option<PathBuf> {
        let bare = self.program.components().count() == 1 && self.program.is_relative();
        let path = if bare { jail::find_program(self.program.to_str()?)? } else { self.program.clone() };
        // The rules name the program itself, not a link to it.
        std::fs::canonicalize(path).ok().filter(|path| path.is_file())
    }

    /// Runs the program with these bytes as its input, until it ends, overstays or is stopped.
    fn run(&self, program: &Path, args: &[String], input: &[u8], stops: &Stops) -> Ended {
        let limits = Limits {
            memory_bytes: Some(self.limits.memory_bytes),
            cpu_seconds: Some(self.limits.cpu_seconds),
            files_max: Some(64),
            file_bytes_max: Some(0),
        };
        let rules = LANGUAGE_DATA.iter().fold(Rules::program(program), |rules, folder| rules.and_read(folder.as_ref()));
        let unstarted = |cause: String| {
            let message = format!("`{}` can't be run in confinement", program.display());
            Ended::Unstarted(
                Fault::new(Code::ConfinementFailed, message)
                    .cause(cause)
                    .hint("run `freehold doctor`: it says what confinement this system allows"),
            )
        };
        let started = Command::new(program)
            .args(args.iter().cloned())
            // Several pictures are recognised at a time; each has one processor.
            .env("OMP_THREAD_LIMIT", "1")
            .stdin(Io::Pipe)
            .stdout(Io::Pipe)
            .stderr(Io::Pipe)
            .rules(rules.with_filter(Filter::Recognise))
            .limits(limits)
            .die_with_parent()
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return unstarted(error.to_string()),
        };
        let (Some(mut to), Some(from), Some(complaints)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return unstarted("it has no pipes".into());
        };
        let watch = match Watch::over(child) {
            Ok(watch) => watch,
            Err(error) => return unstarted(error.to_string()),
        };
        watch.set(Some(Duration::from_millis(self.limits.picture_ms)));
        stops.add(&watch);
        let (answer, complaint) = std::thread::scope(|scope| {
            // It may end without having read everything, which is seen by what it says.
            scope.spawn(move || to.write_all(input));
            let complaint = scope.spawn(move || drained(complaints, COMPLAINT_BYTES_MAX));
            let answer = drained(from, ANSWER_BYTES_MAX);
            (answer, complaint.join().unwrap_or_default())
        });
        let status = watch.ended();
        let over = watch.is_over();
        watch.close();
        if stops.stopped() {
            return Ended::Stopped;
        }
        if over {
            return Ended::Failed(format!("it took longer than {} and was stopped", Millis(self.limits.picture_ms)));
        }
        match status {
            Ok(status) if status.success() && answer.len() as u64 > ANSWER_BYTES_MAX => {
                Ended::Failed(format!("its answer is longer than {}", Bytes(ANSWER_BYTES_MAX)))
            }
            Ok(status) if status.success() => Ended::Answered(answer),
            Ok(status) if status.code().is_some_and(|code| UNSTARTED.contains(&code)) => {
                unstarted(last_line(&complaint))
            }
            Ok(status) if signal(status) == Some(libc_signal::CPU) => {
                Ended::Failed(format!("it took more than {} s of processor time", self.limits.cpu_seconds))
            }
            Ok(status) => Ended::Failed(format!("tesseract ended with {status}: {}", last_line(&complaint))),
            Err(error) => Ended::Failed(format!("tesseract was lost: {error}")),
        }
    }

    /// Recognises one picture.
    fn picture(&self, ready: &Ready, scan: &Scan, whole: &[u8], stops: &Stops) -> Result<Outcome, Unread> {
        let _turn = Turn::wait();
        if stops.stopped() {
            return Err(stopped());
        }
        let mut args: Vec<String> = ["stdin", "stdout", "-l"].map(String::from).to_vec();
        args.push(ready.languages.join("+"));
        // 1: find out which way up the page is; 3: take it as it is.
        args.extend(["--psm".into(), if ready.turns { "1" } else { "3" }.into()]);
        if let Some(dpi) = scan.dpi {
            args.extend(["--dpi".into(), dpi.to_string()]);
        }
        args.extend(["-c".into(), "tessedit_create_tsv=1".into()]);
        if scan.file.is_none() && scan.frame > 0 {
            args.extend(["-c".into(), format!("tessedit_page_number={}", scan.frame)]);
        }
        match self.run(&ready.program, &args, scan.file.as_deref().unwrap_or(whole), stops) {
            Ended::Answered(answer) => Ok(tsv::parse(&answer).map_err(Into::into)),
            Ended::Failed(why) => Ok(Err(why)),
            Ended::Stopped => Err(stopped()),
            Ended::Unstarted(fault) => Err(Unread::Lost(fault)),
        }
    }
}

/// The trampoline's words for a program that it couldn't confine or run.
const UNSTARTED: [i32; 2] = [125, 126];

fn stopped() -> Unread {
    Unread::Lost(Fault::new(Code::Cancelled, "indexing was stopped"))
}

/// What of the wanted languages is there, and whether that will do. Pure.
fn chosen(program: PathBuf, wanted: &[String], all_needed: bool, installed: &[&str]) -> Result<Ready, Fault> {
    let (languages, absent): (Vec<String>, Vec<String>) =
        wanted.iter().cloned().partition(|name| installed.contains(&name.as_str()));
    if languages.is_empty() || (all_needed && !absent.is_empty()) {
        let have = if installed.is_empty() { "none".into() } else { installed.join(", ") };
        let message = format!("tesseract has no data for the language {}; it has {have}", absent.join(", "));
        return Err(Fault::new(Code::RecogniserMissing, message)
            .hint(format!("{}, then index again", install("data", &absent)))
            .hint("or set `ocr_languages` in config.toml to those that it has"));
    }
    Ok(Ready { program, languages, absent, turns: installed.contains(&"osd") })
}

/// How this system installs tesseract (`data`: only what it knows about languages).
fn install(data: &str, languages: &[String]) -> String {
    let packs = |before: &str| -> String {
        languages.iter().map(|name| format!(" {before}{}", name.replace('_', "-"))).collect()
    };
    let program = data.is_empty();
    if jail::find_program("apt-get").is_some() {
        format!("`sudo apt-get install{}{}`", if program { " tesseract-ocr" } else { "" }, packs("tesseract-ocr-"))
    } else if jail::find_program("dnf").is_some() {
        format!("`sudo dnf install{}{}`", if program { " tesseract" } else { "" }, packs("tesseract-langpack-"))
    } else if cfg!(target_os = "macos") {
        format!("`brew install{}`", if program { " tesseract" } else { " tesseract-lang" })
    } else {
        "install tesseract with your package manager".into()
    }
}

/// Reads to the end, so that the writer never waits, and keeps the beginning: one byte more than the bound tells that
/// there was more.
fn drained(mut from: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    // A pipe that breaks ends here; how the program ended says why.
    let _ = from.by_ref().take(bytes_max + 1).read_to_end(&mut kept);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    kept
}

/// What a program complained of last, as a person may see it.
fn last_line(complaint: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    line.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}

/// The right to recognise one picture; given back when dropped.
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Turn {
        let (running, freed) = &RUNNING;
        let most = at_a_time();
        let mut count = running.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= most {
            count = freed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, freed) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        freed.notify_one();
    }
}

fn at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, AT_A_TIME_MAX)
}

/// Recognises all pictures of a document, several at a time, and joins them with the text that it has.
pub(crate) fn read(
    recogniser: &Recogniser,
    ready: &Ready,
    scanned: Scanned,
    bytes: &[u8],
    stops: &Stops,
) -> Result<Document, Unread> {
    let Scanned { document, scans, .. } = scanned;
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let outcomes: Vec<Mutex<Option<Outcome>>> = scans.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(scan) = scans.get(at) else { break };
            match recogniser.picture(ready, scan, bytes, stops) {
                Ok(outcome) => *outcomes[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome),
                Err(unread) => {
                    next.store(scans.len(), Ordering::Relaxed);
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_a_time().min(scans.len()) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(unread) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(unread);
    }
    let outcomes = outcomes.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    let done: Vec<(Scan, Outcome)> =
        scans.into_iter().zip(outcomes).filter_map(|(scan, outcome)| Some((scan, outcome?))).collect();
    let Some(mut composed) = compose::composed(&document, &done) else {
        return Err(Unread::Skipped(too_large()));
    };
    if composed.blocks.is_empty() {
        return Err(Unread::Skipped(
            Fault::new(Code::DocumentInvalid, compose::nothing(&done))
                .hint("a sharper scan, 300 dots per inch or more, is read best; a photo without words needs nothing"),
        ));
    }
    composed.notes.extend(compose::notes(&done));
    Ok(composed)
}

fn too_large() -> Fault {
    Fault::new(Code::DocumentInvalid, crate::extract::Refused::too_large().message).hint("split it into smaller files")
}

/// A document whose pictures can't be recognised here, with what is lost by that.
pub(crate) fn unrecognised(scanned: Scanned, missing: &Fault) -> Document {
    let Scanned { mut document, scans, .. } = scanned;
    let pages: std::collections::BTreeSet<u32> = scans.iter().map(|scan| scan.page).collect();
    let (count, first) = (pages.len(), pages.first().copied().unwrap_or_default());
    let pages =
        if count == 1 { format!("page {first}") } else { format!("{count} pages, the first of them page {first},") };
    let hint = missing.hints.first().map(String::as_str).unwrap_or_default();
    document.notes.push(format!(
        "{pages} can't be read without recognition: {}; {hint} with `freehold map rebuild`",
        missing.message
    ));
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn languages_are_taken_as_they_are_wished_or_needed() {
        let choose = |wanted: &[&str], all| chosen("t".into(), &names(wanted), all, &["deu", "eng", "osd"]);
        let ready = choose(&["eng", "fra"], false).expect("one will do");
        assert_eq!((ready.languages, ready.absent, ready.turns), (names(&["eng"]), names(&["fra"]), true));
        for fault in [choose(&["eng", "fra"], true), choose(&["fra"], false)].map(Result::unwrap_err) {
            assert_eq!(fault.code, Code::RecogniserMissing);
            assert!(fault.message.contains("fra; it has deu, eng, osd"), "{fault}");
            assert!(!fault.hints.is_empty());
        }
        assert!(choose(&["eng", "deu"], true).is_ok());
    }

    #[test]
    fn complaints_are_short_and_steer_no_terminal() {
        assert_eq!(last_line(b"Estimating\n\x1b[31mread_params_file: no\n\n"), "[31mread_params_file: no");
        assert_eq!(last_line(b""), "it says nothing");
        assert_eq!(drained(&b"12345"[..], 3), b"1234");
    }
}
