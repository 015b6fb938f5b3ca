//! What is really in force, in a form for machines and one for people.

use serde::{Deserialize, Serialize};

/// What [`crate::apply`] achieved. Measured after the fact where the system lets us ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Version of Landlock in force; 0: none.
    pub landlock_abi: u32,
    pub no_new_privileges: bool,
    /// A system call filter is in force for all threads.
    pub seccomp: bool,
    /// Name of the filter, `none` without one.
    pub filter: String,
    /// How many system calls the filter leaves.
    #[serde(default)]
    pub calls: u32,
    /// No file can be opened any more.
    #[serde(default)]
    pub sealed: bool,
    pub core_dumps_off: bool,
    /// None of the superuser's special rights is left.
    #[serde(default)]
    pub capabilities_dropped: bool,
    /// What was asked for and isn't in force, one sentence each.
    pub missing: Vec<String>,
}

impl Protection {
    /// Everything that was asked for is in force.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// One line for each thing in force, then one for each that is missing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.landlock_abi > 0 {
            let files = if self.sealed { "opens no file" } else { "opens only the files of its rules" };
            lines.push(format!("Landlock ABI {}: {files}", self.landlock_abi));
        }
        if self.seccomp {
            lines.push(format!("seccomp: allow-list `{}` ({} calls)", self.filter, self.calls));
        }
        if self.no_new_privileges {
            lines.push("no new privileges".into());
        }
        if self.capabilities_dropped {
            lines.push("no capabilities".into());
        }
        if self.core_dumps_off {
            lines.push("core dumps off".into());
        }
        lines.extend(self.missing.iter().map(|what| format!("missing: {what}")));
        lines
    }
}
