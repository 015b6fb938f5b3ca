//! seccomp: which system calls stay. The lists are data in `filters/`, each entry with its reason;
//! here they become a program for the kernel.

use crate::{Filter, JailError};
use seccompiler::{BpfProgram, TargetArch, sock_filter};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const WORKER_CPU: &str = include_str!("../../filters/worker-cpu.json");
const WORKER_GPU: &str = include_str!("../../filters/worker-gpu.json");
const EXTRACT: &str = include_str!("../../filters/extract.json");
const RECOGNISE: &str = include_str!("../../filters/recognise.json");
const SEAL: &str = include_str!("../../filters/seal.json");
const FOREIGN: &str = include_str!("../../filters/foreign.json");

/// One file of `filters/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the file, and for its test"))]
    about: String,
    /// Only `worker-cpu` can be built upon, so that no list has to be read in more than two files.
    #[serde(default)]
    extends_worker_cpu: bool,
    #[serde(default)]
    allow: Vec<Entry>,
    #[serde(default)]
    refuse: Vec<Entry>,
}

/// A system call, or one use of it: all of `when` must hold. Several entries for one call are
/// alternatives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    call: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the file, and for its test"))]
    why: String,
    /// Architectures that have this call; all when absent.
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    when: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    arg: u8,
    is: Test,
}

/// Words are names joined by `|`, see [`number`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Test {
    Equals(String),
    /// None of these bits.
    Without(String),
    /// All of these bits.
    With(String),
    /// A pointer that points nowhere.
    Null,
}

/// A list, compiled.
struct Program {
    code: BpfProgram,
    /// Different system calls in the list.
    calls: u32,
}

/// Whether the kernel took a list.
pub(crate) enum Outcome {
    /// It binds all threads of this process, for good, and leaves so many calls.
    InForce(u32),
    /// Why this system has nothing that could take it.
    Unavailable(String),
}

/// Leaves the calls of the list and no other.
pub(crate) fn restrict(filter: Filter) -> Result<Outcome, JailError> {
    install(|arch| allow_list(filter, arch))
}

/// Takes the last rights away that are only needed before untrusted bytes are looked at.
pub(crate) fn seal() -> Result<Outcome, JailError> {
    install(|arch| refuse_list(SEAL, arch))
}

/// Takes what no program needs that isn't ours, and no list of whose calls exists.
pub(crate) fn restrict_foreign() -> Result<Outcome, JailError> {
    install(|arch| refuse_list(FOREIGN, arch))
}

fn allow_list(filter: Filter, arch: &str) -> Result<Program, JailError> {
    compile(&entries(filter)?, Kind::Allow, arch)
}

fn refuse_list(text: &str, arch: &str) -> Result<Program, JailError> {
    compile(&parse(text)?.refuse, Kind::Refuse, arch)
}

/// Said of `clone3`: there is no such call. Its flags lie in memory, where no filter can see them;
/// libraries then take `clone`, whose flags are an argument.
///
/// The number is the same for every architecture, so it can be looked at before the architecture is.
const CLONE3_IS_UNKNOWN: [sock_filter; 3] = [
    sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
    sock_filter { code: 0x15, jt: 0, jf: 1, k: 435 },
    sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | libc::ENOSYS as u32 },
];

fn entries(filter: Filter) -> Result<Vec<Entry>, JailError> {
    let text = match filter {
        Filter::None => return Err(failed("there is no list for no filter")),
        Filter::WorkerCpu => WORKER_CPU,
        Filter::WorkerGpu => WORKER_GPU,
        Filter::Extract => EXTRACT,
        Filter::Recognise => RECOGNISE,
    };
    let list = parse(text)?;
    let mut entries = if list.extends_worker_cpu { parse(WORKER_CPU)?.allow } else { Vec::new() };
    entries.extend(list.allow);
    Ok(entries)
}

fn parse(text: &str) -> Result<List, JailError> {
    serde_json::from_str(text).map_err(failed)
}

fn failed(reason: impl ToString) -> JailError {
    JailError::confine("seccomp", reason)
}

#[derive(Clone, Copy)]
enum Kind {
    /// What is listed is allowed, all else fails with `EPERM`.
    Allow,
    /// What is listed fails with `EPERM`, all else is left to the other filters.
    Refuse,
}

/// A process of another architecture than the one named is killed at its first call.
fn compile(entries: &[Entry], kind: Kind, arch: &str) -> Result<Program, JailError> {
    let target: TargetArch = arch.try_into().map_err(failed)?;
    let mut calls = BTreeSet::new();
    let mut bare = BTreeSet::new();
    let mut rules = Vec::new();
    for entry in entries.iter().filter(|entry| entry.only.is_empty() || entry.only.iter().any(|only| only == arch)) {
        let new = calls.insert(entry.call.as_str());
        if entry.when.is_empty() {
            bare.insert(entry.call.as_str());
        }
        // The compiler would silently let one of the two win.
        if !new && bare.contains(entry.call.as_str()) {
            return Err(failed(format!("`{}` is listed with and without a condition", entry.call)));
        }
        let conditions = entry.when.iter().map(|condition| condition.compile()).collect::<Result<Vec<_>, _>>()?;
        let mut rule = json!({ "syscall": entry.call });
        if !conditions.is_empty() {
            rule["args"] = Value::Array(conditions);
        }
        rules.push(rule);
    }
    let (hit, miss) = match kind {
        Kind::Allow => (json!("allow"), json!({ "errno": libc::EPERM })),
        Kind::Refuse => (json!({ "errno": libc::EPERM }), json!("allow")),
    };
    let source = json!({ "list": { "match_action": hit, "mismatch_action": miss, "filter": rules } });
    let mut compiled = seccompiler::compile_from_json(source.to_string().as_bytes(), target).map_err(failed)?;
    let mut code = CLONE3_IS_UNKNOWN.to_vec();
    code.append(&mut compiled.remove("list").ok_or_else(|| failed("the compiler lost the list"))?);
    Ok(Program { code, calls: u32::try_from(calls.len()).unwrap_or(u32::MAX) })
}

fn install(list: impl FnOnce(&str) -> Result<Program, JailError>) -> Result<Outcome, JailError> {
    let arch = std::env::consts::ARCH;
    if TargetArch::try_from(arch).is_err() {
        return Ok(Outcome::Unavailable(format!("seccomp: no list is made for {arch}")));
    }
    let program = list(arch)?;
    match seccompiler::apply_filter_all_threads(&program.code) {
        Ok(()) => Ok(Outcome::InForce(program.calls)),
        // The two answers of a kernel that was built without filters.
        Err(seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
        {
            Ok(Outcome::Unavailable("seccomp: this kernel has no system call filters".into()))
        }
        Err(error) => Err(failed(error)),
    }
}

impl Condition {
    fn compile(&self) -> Result<Value, JailError> {
        let (kind, op, value) = match &self.is {
            Test::Equals(words) => ("dword", json!("eq"), number(words)?),
            Test::Without(words) => ("dword", json!({ "masked_eq": number(words)? }), 0),
            Test::With(words) => ("dword", json!({ "masked_eq": number(words)? }), number(words)?),
            Test::Null => ("qword", json!("eq"), 0),
        };
        Ok(json!({ "index": self.arg, "type": kind, "op": op, "val": value }))
    }
}

/// Names as they stand in the kernel's headers. `OWN_PID` is this process.
fn number(words: &str) -> Result<u64, JailError> {
    words.split('|').map(str::trim).try_fold(0, |sum, word| {
        NAMES
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, value)| *value)
            .or_else(|| (word == "OWN_PID").then(|| u64::from(std::process::id())))
            .or_else(|| word.parse().ok())
            .map(|value| sum | value)
            .ok_or_else(|| failed(format!("`{word}` is no name that filters know")))
    })
}

/// Bits that are not in `libc` for every architecture are given as they are in the kernel.
const NAMES: &[(&str, u64)] = &[
    ("AF_UNIX", libc::AF_UNIX as u64),
    ("ARCH_GET_XCOMP_PERM", 0x1022),
    ("ARCH_GET_XCOMP_SUPP", 0x1021),
    ("ARCH_REQ_XCOMP_PERM", 0x1023),
    ("ARCH_SET_FS", 0x1002),
    ("CLONE_NEWUSER", libc::CLONE_NEWUSER as u64),
    ("CLONE_NEW_ANYTHING", 0x7e02_0080),
    ("CLONE_PTRACE", libc::CLONE_PTRACE as u64),
    ("CLONE_SIGHAND", libc::CLONE_SIGHAND as u64),
    ("CLONE_THREAD", libc::CLONE_THREAD as u64),
    ("CLONE_VFORK", libc::CLONE_VFORK as u64),
    ("CLONE_VM", libc::CLONE_VM as u64),
    ("F_DUPFD_CLOEXEC", libc::F_DUPFD_CLOEXEC as u64),
    ("F_GETFD", libc::F_GETFD as u64),
    ("F_GETFL", libc::F_GETFL as u64),
    ("F_SETFD", libc::F_SETFD as u64),
    ("F_SETFL", libc::F_SETFL as u64),
    ("O_APPEND", libc::O_APPEND as u64),
    ("O_CREAT", libc::O_CREAT as u64),
    ("O_RDWR", libc::O_RDWR as u64),
    ("O_TMPFILE_BIT", 0o20_000_000),
    ("O_TRUNC", libc::O_TRUNC as u64),
    ("O_WRONLY", libc::O_WRONLY as u64),
    ("PROT_EXEC", libc::PROT_EXEC as u64),
    ("PROT_WRITE", libc::PROT_WRITE as u64),
    ("PR_GET_DUMPABLE", libc::PR_GET_DUMPABLE as u64),
    ("PR_GET_NO_NEW_PRIVS", libc::PR_GET_NO_NEW_PRIVS as u64),
    ("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE as u64),
    ("PR_SET_NAME", libc::PR_SET_NAME as u64),
    ("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS as u64),
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    ("SECCOMP_SET_MODE_FILTER", libc::SECCOMP_SET_MODE_FILTER as u64),
    ("SOCK_DGRAM", libc::SOCK_DGRAM as u64),
    ("TIOCSTI", 0x5412),
];

#[cfg(test)]
mod tests;
