//! What this machine, or the part of it that we may use, can give: processors and memory.
//!
//! The deciding parts are pure: they read through a function that maps a path to a file's text.
//! [`processors`] and [`memory`] hand them the real files.

use base::Bytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the deciding parts read from: a path's text, or `None` when it can't be read.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// Processors as the system shows them and as we may use them.
#[derive(Debug, Clone, PartialEq)]
pub struct Processors {
    /// As the processor names itself; empty when it isn't said.
    pub name: String,
    /// The instructions that it has, as the system lists them; empty when it doesn't.
    pub features: String,
    pub kernel: String,
    /// Processors that we may run on.
    pub allowed: u32,
    /// Cores behind them: two processors that share a core count once.
    pub cores: u32,
    /// What a control group grants, in processors; `None`: no limit.
    pub quota: Option<f64>,
}

impl Processors {
    /// Threads that compute without getting in each other's way. A spinning thread too many costs far
    /// more than one too few, so halves are rounded down.
    pub fn threads(&self) -> u32 {
        let by_quota = self.quota.map_or(u32::MAX, |quota| (quota + 0.2).floor().clamp(1.0, 4096.0) as u32);
        self.cores.min(self.allowed).min(by_quota).max(1)
    }
}

/// Memory that a new process could take without anybody being killed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total: Bytes,
    pub available: Bytes,
    /// Whether a control group's limit, not the machine's memory, is what bounds it.
    pub bound_by_group: bool,
}

/// The processors of this machine.
pub fn processors() -> Processors {
    let allowed = allowed();
    let mut found = decide_processors(&read, &allowed);
    found.kernel = kernel();
    found
}

/// `None` where the system doesn't say (then nothing can be checked against it).
pub fn memory() -> Option<Memory> {
    decide_memory(&read)
}

/// Resident memory of a process of ours.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/status")))?;
    kib_line(&text, "VmRSS:").map(|kib| kib * 1024)
}

/// Of that what isn't a file's pages: the system can't take it back by dropping it.
pub(crate) fn anonymous(pid: u32) -> Option<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/status")))?;
    kib_line(&text, "RssAnon:").map(|kib| kib * 1024)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(target_os = "linux")]
fn allowed() -> BTreeSet<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return counted() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).filter_map(|at| u32::try_from(at).ok()).collect()
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> BTreeSet<u32> {
    counted()
}

fn counted() -> BTreeSet<u32> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..u32::try_from(count).unwrap_or(1)).collect()
}

fn kernel() -> String {
    let names = rustix::system::uname();
    format!("{} {}", names.sysname().to_string_lossy(), names.release().to_string_lossy())
}

fn decide_processors(read: Read<'_>, allowed: &BTreeSet<u32>) -> Processors {
    let info = read(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let first = |keys: [&str; 2]| {
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| keys.contains(key))
    };
    let said = |keys| first(keys).map_or(String::new(), |(_, value)| value.to_owned());
    let siblings = |cpu: &u32| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        // Unknown siblings: a core of its own.
        read(Path::new(&path)).map_or_else(|| cpu.to_string(), |text| text.trim().to_owned())
    };
    let cores: BTreeSet<String> = allowed.iter().map(siblings).collect();
    let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX).max(1);
    Processors {
        name: said(["model name", "Model"]),
        features: said(["flags", "Features"]),
        kernel: String::new(),
        allowed: count(allowed.len()),
        cores: count(cores.len()),
        quota: quota(read),
    }
}

/// The smallest quota on the way from our control group to the root, versions 1 and 2.
fn quota(read: Read<'_>) -> Option<f64> {
    let v2 = |folder: &Path| {
        let text = read(&folder.join("cpu.max"))?;
        let (quota, period) = text.trim().split_once(' ')?;
        ratio(quota, period)
    };
    let v1 = |folder: &Path| {
        ratio(read(&folder.join("cpu.cfs_quota_us"))?.trim(), read(&folder.join("cpu.cfs_period_us"))?.trim())
    };
    let (new, old) = (folders(read, None), folders(read, Some("cpu")));
    new.iter().filter_map(|folder| v2(folder)).chain(old.iter().filter_map(|folder| v1(folder))).reduce(f64::min)
}

/// `max` and -1 mean no limit, and don't parse or aren't above zero.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn decide_memory(read: Read<'_>) -> Option<Memory> {
    let info = read(Path::new("/proc/meminfo"))?;
    let total = kib_line(&info, "MemTotal:")? * 1024;
    let of_machine = kib_line(&info, "MemAvailable:")? * 1024;
    let v2 = folders(read, None);
    let v1 = folders(read, Some("memory"));
    let groups = v2
        .iter()
        .filter_map(|folder| left_in_group(read, folder, ["memory.max", "memory.current", ""]))
        .chain(v1.iter().filter_map(|folder| {
            left_in_group(read, folder, ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_"])
        }));
    let of_group = groups.filter(|(limit, _)| *limit < total).map(|(_, left)| left).min();
    let available = of_group.map_or(of_machine, |left| left.min(of_machine));
    let bound_by_group = available < of_machine;
    Some(Memory { total: Bytes(total), available: Bytes(available), bound_by_group })
}

/// A group's limit, and what is left below it: page cache counts as free, recently used or not, because it
/// can be dropped. Mapped weights are such pages.
fn left_in_group(read: Read<'_>, folder: &Path, [limit, used, prefix]: [&str; 3]) -> Option<(u64, u64)> {
    let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
    let (limit, used) = (number(limit)?, number(used)?);
    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().filter_map(|line| {
        let (name, bytes) = line.strip_prefix(prefix)?.split_once(' ')?;
        ["active_file", "inactive_file"].contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
    });
    Some((limit, limit.saturating_sub(used.saturating_sub(cache.sum()))))
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// Folders of our control group and all above it; `controller` names one of version 1, `None` version 2.
fn folders(read: Read<'_>, controller: Option<&str>) -> Vec<PathBuf> {
    let (Some(groups), Some(mounts)) = (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo")))
    else {
        return Vec::new();
    };
    let ours = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let fits = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        fits.then_some(path)
    });
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or(""));
        let fits = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|one| one == name),
            None => kind == "cgroup2",
        };
        fits.then_some((root, point))
    });
    let (Some(path), Some((root, point))) = (ours, mount) else { return Vec::new() };
    // Inside a container the path may be the host's while the mount shows the container's own root.
    let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let point = Path::new(point);
    let mut found: Vec<PathBuf> = inside.ancestors().map(|part| point.join(part)).collect();
    if found.is_empty() {
        found.push(point.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const CGROUP_V2: (&str, &str) = ("/proc/self/cgroup", "0::/user.slice/app.scope\n");
    const MOUNT_V2: (&str, &str) =
        ("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    const MEMINFO: (&str, &str) =
        ("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:   8000000 kB\n");

    fn files(entries: &[(&str, &str)]) -> impl Fn(&Path) -> Option<String> + use<> {
        let map: BTreeMap<PathBuf, String> =
            entries.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        move |path| map.get(path).cloned()
    }

    #[track_caller]
    fn check_threads(entries: &[(&str, &str)], allowed: &[u32], threads: u32) {
        let read = files(entries);
        let found = decide_processors(&read, &allowed.iter().copied().collect());
        assert_eq!(found.threads(), threads, "{found:?}");
    }

    #[test]
    fn threads_follow_quota_affinity_and_cores() {
        check_threads(&[], &[0, 1, 2, 3], 4);
        check_threads(&[], &[], 1);
        let siblings = |cpu: u32, list: &'static str| {
            (format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), list)
        };
        let smt: Vec<(String, &str)> =
            vec![siblings(0, "0,2\n"), siblings(2, "0,2\n"), siblings(1, "1,3\n"), siblings(3, "1,3\n")];
        let smt: Vec<(&str, &str)> = smt.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        check_threads(&smt, &[0, 1, 2, 3], 2);
        check_threads(&smt, &[0, 2], 1);
        for (max, threads) in
            [("max 100000\n", 4), ("150000 100000\n", 1), ("190000 100000\n", 2), ("50000 100000\n", 1)]
        {
            let max = ("/sys/fs/cgroup/user.slice/cpu.max", max);
            check_threads(&[CGROUP_V2, MOUNT_V2, max], &[0, 1, 2, 3], threads);
        }
        let v1 = [
            ("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"),
            ("/proc/self/mountinfo", "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        check_threads(&v1, &[0, 1, 2, 3], 3);
        let unlimited = [v1[0], v1[1], ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), v1[3]];
        check_threads(&unlimited, &[0, 1, 2, 3], 4);
    }

    #[test]
    fn a_processor_is_known_by_its_name_and_its_instructions() {
        let x86 = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n\nmodel name\t: other\n";
        let arm = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU part\t: 0xd40\n";
        for (info, name, features) in [(x86, "AMD EPYC", "fpu avx2"), (arm, "", "fp asimd sve"), ("", "", "")] {
            let found = decide_processors(&files(&[("/proc/cpuinfo", info)]), &BTreeSet::new());
            assert_eq!((found.name.as_str(), found.features.as_str()), (name, features));
        }
    }

    #[test]
    fn memory_is_what_the_tightest_bound_leaves() {
        let group = |name: &str| format!("/sys/fs/cgroup/user.slice/app.scope/{name}");
        let (max, current, stat) = (group("memory.max"), group("memory.current"), group("memory.stat"));
        let all = |limit: &'static str, used: &'static str, cache: &'static str| {
            let entries =
                [CGROUP_V2, MOUNT_V2, MEMINFO, (max.as_str(), limit), (current.as_str(), used), (stat.as_str(), cache)];
            decide_memory(&files(&entries)).expect("the files say so")
        };
        let free = all("max\n", "5\n", "");
        assert_eq!((free.available, free.bound_by_group), (Bytes(8_000_000 * 1024), false));
        let tight = all(
            "4000000000\n",
            "1500000000\n",
            "anon 1\ninactive_file 300000000\nactive_file 200000000\ninactive_anon 9\n",
        );
        assert_eq!((tight.available, tight.bound_by_group), (Bytes(3_000_000_000), true));
        let over = all("1000\n", "5000\n", "");
        assert_eq!(over.available, Bytes(0));
        let none = decide_memory(&files(&[MEMINFO])).expect("the files say so");
        assert_eq!(none.available, Bytes(8_000_000 * 1024));
        assert_eq!(decide_memory(&files(&[])), None);
        // Version 1 writes an absurd number for `no limit`.
        let v1 = [
            MEMINFO,
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/proc/self/mountinfo", "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"),
            ("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/cg/memory/memory.usage_in_bytes", "1000\n"),
        ];
        assert!(!decide_memory(&files(&v1)).expect("the files say so").bound_by_group);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_something_of_everything() {
        let processors = processors();
        assert!(processors.threads() >= 1 && processors.threads() <= processors.allowed, "{processors:?}");
        let memory = memory().expect("Linux says so");
        assert!(memory.available.0 > 0 && memory.available <= memory.total, "{memory:?}");
        assert!(resident(std::process::id()).expect("we have memory") > 0);
    }
}
