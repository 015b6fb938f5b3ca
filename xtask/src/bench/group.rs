//! A control group of the benchmark's own: a share of the processors and a limit of memory, written
//! directly, in either version of the system's interface.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
/// Of the names of all groups that are made here.
const START: &str = "freehold-bench-";
const PERIOD_US: u64 = 100_000;
/// How long a group may take to be empty after its processes have been waited for.
const EMPTY: Duration = Duration::from_secs(10);
/// Enters every folder up to `--` and becomes the program behind it, which so is in the group from its
/// first instruction on.
const ENTER: &str =
    r#"while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@""#;

/// What a group grants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grant {
    /// `None`: all that there are.
    pub(super) cores: Option<f64>,
    pub(super) memory_bytes: u64,
}

/// Which interface the system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    /// A folder for each controller.
    One,
    /// One folder for all.
    Two,
}

/// A group; dropping it removes it.
#[derive(Debug)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
    /// Where memory's counts stand.
    memory: PathBuf,
    interface: Interface,
}

/// Files to write, by the folder that they stand in.
fn settings(interface: Interface, grant: Grant) -> Vec<(&'static str, &'static str, String)> {
    let memory = grant.memory_bytes.to_string();
    let mut all = vec![match interface {
        Interface::One => ("memory", "memory.limit_in_bytes", memory),
        Interface::Two => ("", "memory.max", memory),
    }];
    if let Some(cores) = grant.cores {
        let quota = (cores * PERIOD_US as f64).round() as u64;
        match interface {
            Interface::One => all.extend([
                ("cpu", "cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu", "cpu.cfs_quota_us", quota.to_string()),
            ]),
            Interface::Two => all.push(("", "cpu.max", format!("{quota} {PERIOD_US}"))),
        }
    }
    all
}

impl Group {
    /// Makes a group of that name, which is this process's own with its number behind.
    ///
    /// # Errors
    /// In words for a report, when the system has no groups or doesn't let us write them.
    pub(super) fn make(name: &str, grant: Grant) -> Result<Self> {
        let name = format!("{START}{name}-{}", std::process::id());
        let root = Path::new(ROOT);
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|one| one == name);
        let interface = if has("cpu") && has("memory") {
            write(&root.join("cgroup.subtree_control"), "+cpu +memory")?;
            Interface::Two
        } else if ["cpu", "memory"].iter().all(|one| root.join(one).join("cgroup.procs").is_file()) {
            Interface::One
        } else {
            bail!("no control groups for processors and memory under {ROOT}");
        };
        let folders: Vec<PathBuf> = match interface {
            Interface::One => ["cpu", "memory"].iter().map(|one| root.join(one).join(&name)).collect(),
            Interface::Two => vec![root.join(&name)],
        };
        let memory = folders.last().cloned().context("a group has a folder")?;
        folders.iter().filter_map(|folder| folder.parent()).for_each(sweep);
        // From here on dropping it removes what was made.
        let group = Self { folders, memory, interface };
        for folder in &group.folders {
            std::fs::create_dir(folder)
                .with_context(|| format!("can't make the control group `{}` (needs root)", folder.display()))?;
        }
        for (kind, file, value) in settings(interface, grant) {
            let folder = if kind.is_empty() { root.join(&name) } else { root.join(kind).join(&name) };
            write(&folder.join(file), &value)?;
        }
        Ok(group)
    }

    /// The same call, in this group from its beginning.
    pub(super) fn enter(&self, command: &Command) -> Command {
        let mut entering = Command::new("/bin/sh");
        entering.args(["-c", ENTER, "sh"]).args(&self.folders).arg("--");
        entering.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entering.env(name, value),
                None => entering.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            entering.current_dir(folder);
        }
        entering
    }

    /// Processes that were killed for want of memory.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(super) fn kills(&self) -> Result<u64> {
        let file = match self.interface {
            Interface::One => "memory.oom_control",
            Interface::Two => "memory.events",
        };
        let text = std::fs::read_to_string(self.memory.join(file))?;
        kills(&text).with_context(|| format!("`{file}` counts no kills"))
    }
}

/// Takes away what runs that were killed have left; a group with processes in it can't be removed.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(START) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn write(file: &Path, value: &str) -> Result<()> {
    std::fs::write(file, value).with_context(|| format!("can't write `{}` (needs root)", file.display()))
}

impl Drop for Group {
    fn drop(&mut self) {
        let start = Instant::now();
        // A folder can be removed once the last process in it is gone.
        for folder in &self.folders {
            while folder.is_dir() && std::fs::remove_dir(folder).is_err() && start.elapsed() < EMPTY {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant = Grant { cores: Some(1.5), memory_bytes: 6 << 30 };

    #[test]
    fn both_interfaces_are_written() {
        let two = settings(Interface::Two, GRANT);
        assert_eq!(two[0], ("", "memory.max", "6442450944".into()));
        assert_eq!(two[1], ("", "cpu.max", "150000 100000".into()));
        let one = settings(Interface::One, GRANT);
        assert_eq!(one[2], ("cpu", "cpu.cfs_quota_us", "150000".into()));
        assert_eq!((one[0].0, one[0].1), ("memory", "memory.limit_in_bytes"));
        assert_eq!(settings(Interface::One, Grant { cores: None, ..GRANT }).len(), 1);
    }

    #[test]
    fn only_empty_groups_of_ours_are_swept() {
        let parent = std::env::temp_dir().join(format!("freehold-sweep-test-{}", std::process::id()));
        for name in ["freehold-bench-sizes-1", "freehold-bench-bench-2/full", "other-1"] {
            std::fs::create_dir_all(parent.join(name)).expect("a folder");
        }
        sweep(&parent);
        let is = |name: &str| parent.join(name).is_dir();
        assert!(!is("freehold-bench-sizes-1") && is("freehold-bench-bench-2") && is("other-1"));
        std::fs::remove_dir_all(&parent).expect("removed");
    }

    #[test]
    fn kills_are_counted_in_both() {
        assert_eq!(kills("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), Some(0));
        assert_eq!(kills("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn a_call_keeps_its_words_and_its_environment() {
        let folder = std::env::temp_dir().join(format!("freehold-group-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let group = Group { folders: vec![folder.clone()], memory: folder.clone(), interface: Interface::Two };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo \"$1 $KEPT\"", "sh", "two words"]).env("KEPT", "yes");
        let out = group.enter(&command).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "two words yes\n");
        let entered = std::fs::read_to_string(folder.join("cgroup.procs")).expect("it entered");
        assert!(entered.trim().parse::<u32>().is_ok(), "{entered}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
