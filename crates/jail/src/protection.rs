//! What is really in force, in a form for machines and one for people.

use serde::{Deserialize, Serialize};

/// What [`crate::apply`] achieved, read back where the system lets us ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Version of Landlock in force; 0: none.
    pub landlock_abi: u32,
    /// None can be gained, and of the superuser's special rights (capabilities) none is left.
    pub no_new_privileges: bool,
    /// A system call filter is in force for all threads.
    pub seccomp: bool,
    /// Name of the filter and what it comes to: `worker-cpu, 79 calls, sealed`. `none` without one.
    /// Sealed means that no call takes a path any more.
    pub filter: String,
    pub core_dumps_off: bool,
    /// What was asked for and isn't in force, one sentence each.
    pub missing: Vec<String>,
}

pub(crate) const SEALED: &str = "sealed";

impl Protection {
    /// Everything that was asked for is in force.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// No file can be opened any more.
    pub fn is_sealed(&self) -> bool {
        self.seccomp && self.filter.rsplit(", ").next() == Some(SEALED)
    }

    /// One line for each thing in force, then one for each that is missing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.landlock_abi > 0 {
            let files = if self.is_sealed() { "opens no file" } else { "opens only the files of its rules" };
            lines.push(format!("Landlock ABI {}: {files}", self.landlock_abi));
        }
        if self.seccomp {
            lines.push(format!("seccomp: allow-list {}", self.filter));
        }
        if self.no_new_privileges {
            lines.push("no new privileges, no capabilities".into());
        }
        if self.core_dumps_off {
            lines.push("core dumps off".into());
        }
        lines.extend(self.missing.iter().map(|what| format!("missing: {what}")));
        lines
    }
}
