//! The gate as others use it, against servers of our own on the loopback interface.

mod egress;
mod mirror;
mod server;

use freehold_gateway::{Gateway, GivenBy, Pass, Policy, Purpose, Timeouts};
use std::path::Path;

fn policy(hub: &str) -> Policy {
    let timeouts = Timeouts { connect_ms: 5_000, answer_ms: 5_000, stall_ms: 5_000 };
    Policy { hub: hub.to_owned(), timeouts, ..Policy::default() }
}

fn pass(gateway: &Gateway, destination: &str) -> Pass {
    let given_by = GivenBy::Command("freehold pull test".to_owned());
    gateway.consent(Purpose::ModelDownload, destination, given_by).expect("the policy allows it")
}

fn ledger_text(home: &Path) -> String {
    std::fs::read_to_string(home.join("ledger/ledger.jsonl")).expect("the ledger is there")
}
