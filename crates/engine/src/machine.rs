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
    /// Threads that compute an answer without getting in each other's way. A spinning thread too many costs
    /// far more than one too few, so halves of a quota are rounded down.
    pub fn threads(&self) -> u32 {
        self.within(|quota| quota + 0.2)
    }

    /// Threads that read a prompt. Reading is bound by arithmetic, so that all that a quota pays for is of use,
    /// though it comes in portions: halves are rounded up.
    pub fn prompt_threads(&self) -> u32 {
        self.within(|quota| quota + 0.8)
    }

    fn within(&self, rounded: impl Fn(f64) -> f64) -> u32 {
        let by_quota = self.quota.map_or(u32::MAX, |quota| rounded(quota).floor().clamp(1.0, 4096.0) as u32);
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
    // Without this, groups of version 1 above ours don't count what we take.
    let flat = v1.first().and_then(|ours| number(read, &ours.join("memory.use_hierarchy"))) == Some(0);
    let v1 = v1.iter().take(if flat { 1 } else { usize::MAX });
    let groups = v2.iter().filter_map(|folder| left_in_group(read, folder, &GROUP_V2));
    let groups = groups.chain(v1.filter_map(|folder| left_in_group(read, folder, &GROUP_V1)));
    let of_group = groups.filter(|(limit, _)| *limit < total).map(|(_, left)| left).min();
    let available = of_group.map_or(of_machine, |left| left.min(of_machine));
    let bound_by_group = available < of_machine;
    Some(Memory { total: Bytes(total), available: Bytes(available), bound_by_group })
}

/// Where a version of control groups says what.
struct GroupFiles {
    /// Files with a limit. Above `memory.high` nobody is killed, but everybody is slowed down to a crawl.
    limits: &'static [&'static str],
    /// Lines of `memory.stat` with a limit: of version 1, where groups above may lie out of sight.
    limit_lines: &'static [&'static str],
    used: &'static str,
    /// Lines of `memory.stat` that count copies of files, whoever reads or maps them. Like the machine's
    /// `MemAvailable` this takes them as free: a model's weights are such copies, and are counted with the model.
    caches: [&'static str; 2],
}

const GROUP_V2: GroupFiles = GroupFiles {
    limits: &["memory.max", "memory.high"],
    limit_lines: &[],
    used: "memory.current",
    caches: ["inactive_file", "active_file"],
};
const GROUP_V1: GroupFiles = GroupFiles {
    // A soft limit binds nobody, and one with swap is never tighter.
    limits: &["memory.limit_in_bytes"],
    limit_lines: &["hierarchical_memory_limit"],
    used: "memory.usage_in_bytes",
    caches: ["total_inactive_file", "total_active_file"],
};

/// A group's limit, and what is left below it.
fn left_in_group(read: Read<'_>, folder: &Path, files: &GroupFiles) -> Option<(u64, u64)> {
    let stat = read(&folder.join("memory.stat")).unwrap_or_default();
    let line = |name: &str| {
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        fields.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let by_file = files.limits.iter().filter_map(|name| number(read, &folder.join(name)));
    let by_line = files.limit_lines.iter().filter_map(|name| line(name));
    let limit = by_file.chain(by_line).min()?;
    let used = number(read, &folder.join(files.used))?;
    let cache = files.caches.iter().filter_map(|name| line(name)).fold(0, u64::saturating_add);
    Some((limit, limit.saturating_sub(used.saturating_sub(cache))))
}

/// A file that holds one number; `max` is none.
fn number(read: Read<'_>, path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
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
    let found = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or(""));
        let fits = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|one| one == name),
            None => kind == "cgroup2",
        };
        fits.then(|| (PathBuf::from(unescaped(root)), PathBuf::from(unescaped(point))))
    });
    let Some(path) = ours.map(Path::new) else { return Vec::new() };
    // Of several mounts the one that shows us; else any.
    let mounts: Vec<(PathBuf, PathBuf)> = found.collect();
    let shows_us = mounts.iter().find(|(root, _)| path.starts_with(root));
    let Some((root, point)) = shows_us.or(mounts.first()) else { return Vec::new() };
    // Inside a container the path may be the host's while the mount shows the container's own root, or lead
    // out of what the mount shows.
    let inside = path.strip_prefix(root).unwrap_or(Path::new(""));
    let outside = inside.components().any(|part| part == std::path::Component::ParentDir);
    let inside = if outside { Path::new("") } else { inside };
    let mut found: Vec<PathBuf> = inside.ancestors().map(|part| point.join(part)).collect();
    if found.is_empty() {
        found.push(point.to_owned());
    }
    found
}

/// Blanks and the like stand in mount tables as three octal digits.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
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
        for (max, threads, reading) in [
            ("max 100000\n", 4, 4),
            ("150000 100000\n", 1, 2),
            ("190000 100000\n", 2, 2),
            ("110000 100000\n", 1, 1),
            ("50000 100000\n", 1, 1),
            ("900000 100000\n", 4, 4),
        ] {
            let files = [CGROUP_V2, MOUNT_V2, ("/sys/fs/cgroup/user.slice/cpu.max", max)];
            check_threads(&files, &[0, 1, 2, 3], threads);
            let found = decide_processors(&self::files(&files), &(0..4).collect());
            assert_eq!(found.prompt_threads(), reading, "{max}");
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

    /// Free bytes by the files of one group, beside a machine with 8 GB free.
    #[track_caller]
    fn check_group(name: &str, files_of_groups: &[(&str, &str)], available: u64) {
        let entries: Vec<(&str, &str)> = [MEMINFO].iter().chain(files_of_groups).copied().collect();
        let found = decide_memory(&files(&entries)).expect("the files say so");
        assert_eq!((found.available, found.bound_by_group), (Bytes(available), available < 8_000_000 * 1024), "{name}");
    }

    #[test]
    fn groups_are_read_as_the_kernel_means_them() {
        let (app, slice) = ("/sys/fs/cgroup/user.slice/app.scope", "/sys/fs/cgroup/user.slice");
        let file = |folder: &str, name: &str| format!("{folder}/{name}");
        let [max, high, current, stat] =
            ["memory.max", "memory.high", "memory.current", "memory.stat"].map(|name| file(app, name));
        let v2 = [CGROUP_V2, MOUNT_V2, (max.as_str(), "4000000000\n"), (current.as_str(), "3000000000\n")];
        check_group("a limit", &v2, 1_000_000_000);
        let warm = "anon 100\nfile 2500000000\ninactive_file 500000000\nactive_file 1500000000\nfile_mapped 9\n";
        check_group("copies of files are free", &[v2.as_slice(), &[(stat.as_str(), warm)]].concat(), 3_000_000_000);
        let similar = "total_inactive_file 7\ninactive_file_x 7\nzswap 5\nswap 5\n";
        check_group("nothing else is", &[v2.as_slice(), &[(stat.as_str(), similar)]].concat(), 1_000_000_000);
        let slow = [v2.as_slice(), &[(high.as_str(), "3500000000\n")]].concat();
        check_group("where it is slowed down", &slow, 500_000_000);
        let swap = file(app, "memory.swap.max");
        check_group("swap is no memory", &[v2.as_slice(), &[(swap.as_str(), "99000000000\n")]].concat(), 1_000_000_000);
        let (outer, outer_used) = (file(slice, "memory.max"), file(slice, "memory.current"));
        let nested = [v2.as_slice(), &[(outer.as_str(), "5000000000"), (outer_used.as_str(), "4800000000")]].concat();
        check_group("the tightest on the way up", &nested, 200_000_000);
        let loose = [CGROUP_V2, MOUNT_V2, (max.as_str(), "99000000000000\n"), (current.as_str(), "1\n")];
        check_group("a limit above what there is", &loose, 8_000_000 * 1024);
    }

    #[test]
    fn groups_are_found_in_containers_and_in_version_1() {
        let tight = |folder: &str| {
            let [limit, used] = ["memory.max", "memory.current"].map(|name| format!("{folder}/{name}"));
            [(limit, "2000000000\n"), (used, "500000000\n")]
        };
        let mount = |root: &str, point: &str| format!("30 23 0:26 {root} {point} rw - cgroup2 cgroup2 rw\n");
        for (name, path, mounts, folder) in [
            ("a namespace of its own", "/", mount("/", "/sys/fs/cgroup"), "/sys/fs/cgroup"),
            ("the host's path", "/docker/abc", mount("/docker/abc", "/sys/fs/cgroup"), "/sys/fs/cgroup"),
            ("a group in it", "/docker/abc/in", mount("/docker/abc", "/sys/fs/cgroup"), "/sys/fs/cgroup/in"),
            ("outside of what is shown", "/../other", mount("/", "/sys/fs/cgroup"), "/sys/fs/cgroup"),
            ("a blank", "/a", mount("/", r"/my\040groups"), "/my groups/a"),
            ("two mounts", "/b/c", mount("/a", "/other") + &mount("/b", "/right"), "/right/c"),
        ] {
            let group = format!("0::{path}\n");
            let entries = tight(folder);
            let entries: Vec<(&str, &str)> = entries.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            let ours = [("/proc/self/cgroup", group.as_str()), ("/proc/self/mountinfo", mounts.as_str())];
            check_group(name, &[ours.as_slice(), &entries].concat(), 1_500_000_000);
        }
        let v1 = [
            ("/proc/self/cgroup", "4:memory:/a/b\n"),
            ("/proc/self/mountinfo", "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"),
            ("/cg/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/cg/memory/a/b/memory.usage_in_bytes", "1000000000\n"),
        ];
        check_group("no limit", &v1, 8_000_000 * 1024);
        let stat = "hierarchical_memory_limit 3000000000\ntotal_inactive_file 100000000\ntotal_active_file 200000000\n";
        let stat = [v1.as_slice(), &[("/cg/memory/a/b/memory.stat", stat)]].concat();
        check_group("a limit above us, out of sight", &stat, 2_300_000_000);
        let above = [
            ("/cg/memory/a/memory.limit_in_bytes", "2000000000"),
            ("/cg/memory/a/memory.usage_in_bytes", "1900000000"),
        ];
        check_group("a limit above us", &[v1.as_slice(), &above].concat(), 100_000_000);
        let flat = [v1.as_slice(), &above, &[("/cg/memory/a/b/memory.use_hierarchy", "0\n")]].concat();
        check_group("that doesn't count us", &flat, 8_000_000 * 1024);
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
