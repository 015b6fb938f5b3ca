//! A pass exists only because a person asked for something by name.

use crate::policy::{Origin, PACKAGE_INDEX, Policy};
use base::{Code, Fault};
use serde::{Deserialize, Serialize};

/// Why bytes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Listing a model's files at a hub and fetching them; nothing of the person's own is sent.
    ModelDownload,
}

/// The act by which consent was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenBy {
    /// The command as the person typed it, for example `freehold pull starter`.
    Command(String),
}

impl std::fmt::Display for GivenBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GivenBy::Command(line) => f.write_str(line),
        }
    }
}

/// Leave to cross, for one purpose and one destination. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Pass {
    purpose: Purpose,
    destination: Destination,
    given_by: GivenBy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Origin(Origin),
    PackageIndex,
}

impl Pass {
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub fn given_by(&self) -> &GivenBy {
        &self.given_by
    }

    pub(crate) fn covers(&self, destination: &Destination) -> bool {
        self.destination == *destination
    }
}

/// Pure: the policy and the wish in, a pass or the reason out.
pub(crate) fn judge(policy: &Policy, purpose: Purpose, destination: &str, given_by: GivenBy) -> Result<Pass, Fault> {
    if policy.offline {
        return Err(Fault::new(
            Code::ConsentNeeded,
            format!("`{destination}` would be asked, but this machine is set to stay offline"),
        )
        .hint("set `offline = false` in config.toml or unset FREEHOLD_OFFLINE, then run it again")
        .hint("a model file that is already on disk needs no network: `freehold models add FILE`"));
    }
    let destination = if destination == PACKAGE_INDEX {
        if !policy.mirror {
            return Err(Fault::new(
                Code::ConsentNeeded,
                "the package index would be asked, but mirrors are switched off",
            )
            .hint("set `mirror = true` in config.toml to allow it"));
        }
        Destination::PackageIndex
    } else {
        Destination::Origin(Origin::of(destination)?)
    };
    Ok(Pass { purpose, destination, given_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(policy: &Policy, destination: &str) -> Result<Pass, Fault> {
        judge(policy, Purpose::ModelDownload, destination, GivenBy::Command("freehold pull starter".into()))
    }

    #[test]
    fn offline_refuses_everything_and_says_how_on() {
        let offline = Policy { offline: true, ..Policy::default() };
        for destination in ["https://huggingface.co", PACKAGE_INDEX] {
            let fault = ask(&offline, destination).unwrap_err();
            assert_eq!(fault.code, Code::ConsentNeeded);
            assert!(!fault.hints.is_empty());
        }
    }

    #[test]
    fn a_pass_covers_its_destination_alone() {
        let pass = ask(&Policy::default(), "https://huggingface.co/some/path").unwrap();
        let origin = |url| Destination::Origin(Origin::of(url).unwrap());
        assert!(pass.covers(&origin("https://huggingface.co/other")));
        assert!(!pass.covers(&origin("https://huggingface.co:444/")));
        assert!(!pass.covers(&origin("https://elsewhere.example")));
        assert!(!pass.covers(&Destination::PackageIndex));
    }

    #[test]
    fn mirrors_can_be_switched_off_alone() {
        let policy = Policy { mirror: false, ..Policy::default() };
        assert_eq!(ask(&policy, PACKAGE_INDEX).unwrap_err().code, Code::ConsentNeeded);
        assert!(ask(&policy, "https://huggingface.co").is_ok());
    }
}
