//! One table of codes; HTTP status, exit code and whether to retry derive from it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares the closed table of fault codes: variant, stable text, HTTP status, exit code, retry.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $http:literal, $exit:literal, $retry:literal;)*) => {
        /// A stable, closed list. The text form never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable text that programs match on.
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $text,)* } }

            /// The HTTP status of a reply that carries this code.
            pub fn http_status(self) -> u16 { match self { $(Code::$name => $http,)* } }

            /// The exit status of a command that fails with this code.
            pub fn exit_code(self) -> u8 { match self { $(Code::$name => $exit,)* } }

            /// Whether the same ask may succeed when sent again.
            pub fn may_retry(self) -> bool { match self { $(Code::$name => $retry,)* } }

            pub fn parse(text: &str) -> Option<Code> { match text { $($text => Some(Code::$name),)* _ => None } }
        }
    };
}

codes! {
    /// A defect of Freehold's own.
    Internal = "internal", 500, 70, false;
    /// A parameter is missing, of the wrong type or out of range.
    InvalidAsk = "invalid_ask", 400, 2, false;
    /// The prompt doesn't fit the window: both numbers stand in the message.
    ContextOverflow = "context_overflow", 400, 3, false;
    ModelMissing = "model_missing", 404, 4, false;
    /// The file isn't a model, is cut off, or its header contradicts itself.
    ModelInvalid = "model_invalid", 422, 5, false;
    /// The file is whole, but the engine couldn't load it.
    ModelLoadFailed = "model_load_failed", 500, 5, false;
    /// The model can't do what was asked (an embedder asked to chat, no chat template).
    ModelUnfit = "model_unfit", 400, 5, false;
    /// The chat template failed on these messages.
    TemplateFailed = "template_failed", 400, 5, false;
    /// The shape asks for something that can't be kept to token by token; the message has its path.
    ShapeUnsupported = "shape_unsupported", 400, 2, false;
    /// The shape could no longer be kept to in the middle of an answer, which was ended.
    ShapeFailed = "shape_failed", 500, 6, false;
    /// The worker process died; only its own asks are lost.
    WorkerDied = "worker_died", 502, 6, true;
    WorkerMissing = "worker_missing", 500, 6, false;
    /// No ggml backend passed its self-test.
    BackendFailed = "backend_failed", 500, 6, false;
    /// Asked-for protection isn't to be had, so the child wasn't started.
    ConfinementFailed = "confinement_failed", 500, 6, false;
    DeadlineExceeded = "deadline_exceeded", 504, 7, true;
    Cancelled = "cancelled", 499, 130, true;
    /// A queue is full.
    Busy = "busy", 429, 7, true;
    MemoryShort = "memory_short", 507, 8, false;
    DiskFull = "disk_full", 507, 8, true;
    /// The system refused to read or write; the message names the path.
    FileUnreadable = "file_unreadable", 400, 9, false;
    FileUnwritable = "file_unwritable", 500, 9, false;
    /// A file or folder isn't there.
    FileMissing = "file_missing", 404, 9, false;
    /// Nothing in the folder could be indexed.
    MapEmpty = "map_empty", 400, 10, false;
    /// No map of that name.
    MapMissing = "map_missing", 404, 10, false;
    /// The index on disk can't be used; it can be rebuilt from the files.
    MapDamaged = "map_damaged", 500, 10, false;
    /// A document couldn't be parsed.
    DocumentInvalid = "document_invalid", 422, 10, false;
    /// Words on pictures can't be recognised here: the program or its data for a language isn't installed.
    RecogniserMissing = "recogniser_missing", 422, 10, false;
    /// Bytes off the machine need a consent that isn't there.
    ConsentNeeded = "consent_needed", 403, 11, false;
    /// The far side can't be reached or answered wrongly.
    DownloadFailed = "download_failed", 502, 11, true;
    /// What came isn't what was promised: size or SHA-256 differ.
    ChecksumMismatch = "checksum_mismatch", 502, 11, true;
    /// Host or Origin isn't this machine's own.
    Forbidden = "forbidden", 403, 12, false;
    NotFound = "not_found", 404, 12, false;
    BodyTooLarge = "body_too_large", 413, 12, false;
    PortBusy = "port_busy", 500, 13, false;
    /// The daemon can't be reached or doesn't start.
    DaemonUnreachable = "daemon_unreachable", 503, 13, true;
    /// Another daemon of this user is running.
    DaemonRunning = "daemon_running", 409, 13, false;
    /// Command and daemon are of different versions.
    VersionMismatch = "version_mismatch", 409, 13, false;
    ConfigInvalid = "config_invalid", 500, 14, false;
    /// What the model answered can't be used for the task.
    TaskFailed = "task_failed", 422, 15, true;
    /// Of many inputs, some weren't done; the others are.
    InputsFailed = "inputs_failed", 422, 15, false;
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A newer daemon may know codes that this command doesn't.
        Ok(Code::parse(&text).unwrap_or(Code::Internal))
    }
}

/// A thing the person can do now; a command stands in backticks.
pub type Hint = String;

/// How much a prompt takes and how much there is, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The window that it would take, with one token for an answer.
    pub requested: u32,
    pub available: u32,
}

/// A code for programs, a sentence for people, hints for what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub code: Code,
    /// Lower case, no final period, with the number that the person needs.
    pub message: String,
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// The error below, as it was said there.
    #[serde(default)]
    pub cause: Option<String>,
    /// With [`Code::ContextOverflow`]: the numbers of the sentence, for programs.
    #[serde(default)]
    pub shortage: Option<Shortage>,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hints: Vec::new(), cause: None, shortage: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    #[must_use]
    pub fn shortage(mut self, requested: u32, available: u32) -> Self {
        self.shortage = Some(Shortage { requested, available });
        self
    }

    /// A fault for an I/O error on a named path: a full disk, a missing file and a refusal
    /// are told apart, because the person does different things about them.
    pub fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::new(Code::DiskFull, format!("no space left to {action} `{path}`"))
                    .hint("free some space and try again; nothing was lost")
            }
            ErrorKind::NotFound => Self::new(Code::FileMissing, format!("`{path}` does not exist"))
                .hint("check the path; names are case-sensitive"),
            ErrorKind::PermissionDenied => {
                let code = if action.starts_with("read") || action.starts_with("open") {
                    Code::FileUnreadable
                } else {
                    Code::FileUnwritable
                };
                Self::new(code, format!("not allowed to {action} `{path}`"))
                    .hint(format!("check who owns it: `ls -l {path}`"))
            }
            _ => Self::new(
                if action.starts_with("read") || action.starts_with("open") {
                    Code::FileUnreadable
                } else {
                    Code::FileUnwritable
                },
                format!("cannot {action} `{path}`"),
            )
            .cause(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips_and_is_unique() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(Code::ALL[i + 1..].iter().all(|other| other.as_str() != code.as_str()));
            assert!((400..=599).contains(&code.http_status()));
            assert_ne!(code.exit_code(), 0);
        }
    }

    #[test]
    fn io_errors_say_what_the_person_can_do() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let fault = Fault::io("write", std::path::Path::new("/x/y"), &full);
        assert_eq!(fault.code, Code::DiskFull);
        assert!(fault.message.contains("/x/y"));
        assert!(!fault.hints.is_empty());
    }
}
