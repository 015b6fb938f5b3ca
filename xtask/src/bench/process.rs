//! What the system tells of a process and of the room that is left.

use crate::place;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// A number of `/proc/PID/status`.
///
/// # Errors
/// When the process is gone or the system tells no such thing.
pub(super) fn status(pid: u32, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("only Linux tells that of a process")?;
    field(&text, name).with_context(|| format!("the system tells no `{name}` of process {pid}"))
}

/// Bytes that a process holds in memory now (`VmRSS:`), or held at most (`VmHWM:`).
///
/// # Errors
/// As [`status`].
pub(super) fn memory(pid: u32, name: &str) -> Result<u64> {
    Ok(status(pid, name)? * 1024)
}

/// The number behind a name, in lines of `Name: 12 kB`.
pub(super) fn field(lines: &str, name: &str) -> Option<u64> {
    lines.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Bytes of memory that programs can have without pushing others out.
pub(super) fn memory_available() -> Option<u64> {
    Some(field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")? * 1024)
}

/// Bytes that are free on the disk of a folder.
///
/// # Errors
/// When `df` fails or says something else than POSIX has it say.
pub(super) fn disk_free(folder: &Path) -> Result<u64> {
    let said = place::output(Command::new("df").arg("-Pk").arg(folder))?;
    free(&said).with_context(|| format!("`df` said nothing of `{}`", folder.display()))
}

/// The fourth column of the last line, in KiB.
fn free(df: &str) -> Option<u64> {
    Some(df.lines().last()?.split_whitespace().nth(3)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_read() {
        let status = "Name:\tx\nVmRSS:\t   12345 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(field(status, "VmRSS:"), Some(12345));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(2));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn free_space_is_the_fourth_column() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 264 57 38 60% /\n";
        assert_eq!(free(said), Some(38 * 1024));
        assert_eq!(free(""), None);
    }
}
