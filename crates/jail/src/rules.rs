//! What a confined process may still reach. Plain data, sent to the trampoline as JSON.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Files and system calls left to a confined process. The default reaches nothing.
///
/// A folder stands for all that lies beneath it. A path that doesn't exist is skipped: it can't
/// be reached then, and isn't reachable either if it appears later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Readable files and folders. `/proc/self/fd/N` stands for the file behind that descriptor.
    pub read: Vec<PathBuf>,
    /// Readable, writable, and, when folders, open to new and removed files.
    pub write: Vec<PathBuf>,
    /// Readable, and runnable as programs where the filter permits running any.
    pub execute: Vec<PathBuf>,
    pub filter: Filter,
}

/// Which system calls stay; each list is reviewed data in `filters/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// No list: only for programs that aren't ours. Landlock still holds; calling out over the network
    /// is possible, being called is not.
    #[default]
    None,
    /// A model on the processor.
    WorkerCpu,
    /// A model on a graphics processor: device files and `ioctl` besides.
    WorkerGpu,
    /// Reading documents.
    Extract,
    /// A program that isn't ours and recognises the words of one picture: it loads its libraries and runs offline.
    Recognise,
}

impl Filter {
    /// The name that people see, in `doctor` and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::WorkerCpu => "worker-cpu",
            Self::WorkerGpu => "worker-gpu",
            Self::Extract => "extract",
            Self::Recognise => "recognise",
        }
    }
}

/// Where programs and their libraries lie.
const SYSTEM_PROGRAMS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store"];
/// What ordinary dynamic programs read besides: names, certificates, time zones, the machine's make.
/// Of `/proc` only what tells nothing about other processes.
const SYSTEM_READ: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/mime.types",
    "/run/systemd/resolve/resolv.conf",
    "/run/systemd/resolve/stub-resolv.conf",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/filesystems",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/random",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Where libraries lie, and the loader that starts programs.
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/opt/homebrew",
    "/home/linuxbrew/.linuxbrew",
    "/nix/store",
];
/// What a program that only computes reads to start: where its libraries are, and the machine's make.
const LOADER_READ: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    "/dev/null",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
];

impl Rules {
    /// May run this one program with the system's libraries; reads nothing else and writes nothing.
    pub fn program(program: &Path) -> Self {
        let libraries = LIBRARIES.iter().map(PathBuf::from);
        Self {
            read: LOADER_READ.iter().map(PathBuf::from).collect(),
            // The loader is itself a program that the kernel runs.
            execute: libraries.chain([program.to_path_buf()]).collect(),
            ..Self::default()
        }
    }

    /// May read and run the programs and libraries of the system, and read what they need to start.
    /// No home folder, no other process, nothing to write but `/dev/null`.
    pub fn system() -> Self {
        let execute = SYSTEM_PROGRAMS.iter().map(PathBuf::from).collect();
        Self { execute, write: vec![PathBuf::from("/dev/null")], ..Self::system_read() }
    }

    /// May read the programs, libraries and settings of the system; runs and writes nothing.
    pub fn system_read() -> Self {
        let read = SYSTEM_PROGRAMS.iter().chain(SYSTEM_READ).map(PathBuf::from).collect();
        Self { read, ..Self::default() }
    }

    #[must_use]
    pub fn and_read(mut self, path: &Path) -> Self {
        self.read.push(path.into());
        self
    }

    #[must_use]
    pub fn and_write(mut self, path: &Path) -> Self {
        self.write.push(path.into());
        self
    }

    #[must_use]
    pub fn and_execute(mut self, path: &Path) -> Self {
        self.execute.push(path.into());
        self
    }

    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// A filter and not one path: see [`crate::apply`].
    #[cfg(target_os = "linux")]
    pub(crate) fn seals(&self) -> bool {
        self.filter != Filter::None && self.read.is_empty() && self.write.is_empty() && self.execute.is_empty()
    }
}
