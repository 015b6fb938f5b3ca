//! What can go wrong when a process is started or confined.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JailError {
    #[error("`{0}` is not among the programs of this system")]
    ProgramMissing(PathBuf),
    #[error("`{program}` can't be started: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("two descriptors were asked for under the same number {0}")]
    DescriptorTwice(i32),
    #[error("descriptor number {0} can't be given to a child; 3 or more is possible")]
    DescriptorNumber(i32),
    #[error("`{0}` can't be started confined: the program that confines it isn't set")]
    NoTrampoline(PathBuf),
    #[error("the rules can't be handed over: {0}")]
    RulesText(#[from] serde_json::Error),
    #[error("confinement failed at {step}: {reason}")]
    Confine { step: &'static str, reason: String },
}

#[cfg(target_os = "linux")]
impl JailError {
    pub(crate) fn confine(step: &'static str, reason: impl ToString) -> Self {
        Self::Confine { step, reason: reason.to_string() }
    }
}
