//! Landlock: which files a process may reach, and no TCP, abstract sockets or signals beyond itself.

use crate::{Filter, JailError, Rules};
use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfAttr, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The newest version that we know; the kernel's own is used when it is older.
const NEWEST: ABI = ABI::V9;

pub(crate) struct Files {
    /// 0: nothing is in force.
    pub(crate) abi: u32,
    pub(crate) all_threads: bool,
    pub(crate) missing: Vec<String>,
}

pub(crate) fn restrict(rules: &Rules) -> Result<Files, JailError> {
    let failed = |error: RulesetError| JailError::confine("Landlock", error);
    let mut ruleset =
        Ruleset::default().handle_access(AccessFs::from_all(NEWEST)).and_then(|set| set.scope(Scope::from_all(NEWEST)));
    // Without a filter, a program may call out. None needs to be called.
    let network = if rules.filter == Filter::None { AccessNet::BindTcp.into() } else { AccessNet::from_all(NEWEST) };
    ruleset = ruleset.and_then(|set| set.handle_access(network));
    let mut created = ruleset.and_then(Ruleset::create).map_err(failed)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for (paths, access) in [(&rules.read, read), (&rules.write, writing()), (&rules.execute, read | AccessFs::Execute)]
    {
        for path in paths {
            created = allow(created, path, access)?;
        }
    }
    let status = created.all_threads(true).and_then(RulesetCreated::restrict_self).map_err(failed)?;
    Ok(judge(&status, rules.filter))
}

/// Everything but running programs and making device files, pipes and sockets.
fn writing() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::IoctlDev
        | AccessFs::ResolveUnix;
    AccessFs::from_all(NEWEST) & !never
}

fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, JailError> {
    let failed = |error: &dyn std::fmt::Display| JailError::confine("Landlock", format!("{}: {error}", path.display()));
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        // What can't be reached without Landlock can't be reached with it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(ruleset),
        Err(error) => return Err(failed(&error)),
    };
    let mut access = access;
    if !kind.is_dir() {
        access &= AccessFs::from_file(NEWEST);
    }
    let device = kind.is_char_device() || path.starts_with("/dev");
    if device && access.contains(AccessFs::WriteFile) {
        access |= AccessFs::IoctlDev;
    }
    let target = PathFd::new(path).map_err(|error| failed(&error))?;
    // A failed rule takes the whole set with it, so the question is asked on a copy of the handle.
    let copy = ruleset.try_clone().map_err(|error| failed(&error))?;
    match copy.add_rule(PathBeneath::new(target.as_fd(), access)) {
        Ok(_) => Ok(ruleset),
        // Pipes and files in memory lie in no folder: Landlock doesn't refuse them in the first place.
        Err(error) if lies_nowhere(&error) => Ok(ruleset),
        Err(error) => Err(failed(&error)),
    }
}

fn lies_nowhere(error: &RulesetError) -> bool {
    let RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })) = error else {
        return false;
    };
    source.raw_os_error() == Some(libc::EBADFD)
}

fn judge(status: &RestrictionStatus, filter: Filter) -> Files {
    let mut missing = Vec::new();
    let abi = match status.landlock {
        LandlockStatus::NotImplemented => {
            missing.push("Landlock: this kernel has none; Linux 5.13 or newer is needed".into());
            0
        }
        LandlockStatus::NotEnabled => {
            missing
                .push("Landlock: off in this kernel; it is turned on with `landlock` in the boot option `lsm=`".into());
            0
        }
        LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => {
            missing.push("Landlock: the kernel has it and doesn't enforce it".into());
            0
        }
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
    };
    // What an older version lacks and the system call filter refuses anyway isn't missing.
    if abi > 0 && filter == Filter::None {
        // Calls to other programs' Unix sockets, refused from 9 on, are `foreign.json`'s part.
        let lacks = [
            (3, "truncating files outside of the rules isn't refused"),
            (4, "waiting for calls from the network isn't refused"),
            (5, "commands to devices that are readable aren't refused"),
            (6, "signals to other processes and abstract sockets aren't refused"),
        ];
        for (since, what) in lacks {
            if abi < since {
                missing.push(format!("Landlock ABI {abi}: {what}"));
            }
        }
    }
    Files { abi, all_threads: status.all_threads, missing }
}
