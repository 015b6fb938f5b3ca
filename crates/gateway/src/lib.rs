//! The only way off this machine: policy, consent, ledger, then the byte.
//!
//! Owns every outward socket (`Gateway::get`) and the one child program that may
//! reach a package index (`Gateway::mirror_download`). A [`Pass`] is made by
//! [`Gateway::consent`] alone; each crossing is on disk in the ledger before its
//! first byte leaves. Never decides what is fetched: `store` does. Start with
//! [`Policy`], then [`Gateway`].

mod consent;
mod egress;
mod ledger;
mod mirror;
mod policy;
mod transport;

pub use consent::{GivenBy, Pass, Purpose};
pub use egress::{Download, Request};
pub use ledger::{Close, Entry, Open, Totals};
pub use mirror::Wanted;
pub use policy::{MirrorEnv, Origin, PACKAGE_INDEX, Policy, Secret, Timeouts};

use base::Fault;
use std::path::Path;
use std::sync::Arc;

/// A handle on the gate; clones share one ledger.
#[derive(Debug, Clone)]
pub struct Gateway {
    policy: Arc<Policy>,
    ledger: Arc<ledger::Ledger>,
}

impl Gateway {
    /// Opens (or starts) the ledger under `home/ledger`. One daemon at a time may hold it.
    pub fn open(home: &Path, policy: Policy) -> Result<Self, Fault> {
        policy.check()?;
        let ledger = ledger::Ledger::open(&home.join("ledger"))?;
        Ok(Self { policy: Arc::new(policy), ledger: Arc::new(ledger) })
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Records that a person asked for this, and gives the pass that every crossing needs.
    /// `destination` is an origin (`https://host`) or [`PACKAGE_INDEX`].
    pub fn consent(&self, purpose: Purpose, destination: &str, given_by: GivenBy) -> Result<Pass, Fault> {
        consent::judge(&self.policy, purpose, destination, given_by)
    }

    /// Everything that crossed since the ledger began.
    pub fn totals(&self) -> Totals {
        self.ledger.totals()
    }

    /// Crossings with an id above `after`, oldest first; `entries_since(0)` is the current ledger file whole.
    pub fn entries_since(&self, after: u64) -> Result<Vec<Entry>, Fault> {
        self.ledger.entries_since(after)
    }
}
