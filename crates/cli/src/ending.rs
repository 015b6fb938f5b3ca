//! How a command ends, and what it says then.

use crate::screen::{Screen, clean};
use base::{Code, Fault};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why a command didn't go on to its plain end.
#[derive(Debug)]
pub(crate) enum Ending {
    Failed(Fault),
    /// Everything worked, and there is nothing: no answer, no passage, a check that is bad.
    Nothing,
    /// Ctrl-C.
    Interrupted,
    /// Whoever read our output has seen enough.
    PipeClosed,
}

pub(crate) type Outcome = Result<(), Ending>;

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        Ending::Failed(fault)
    }
}

/// Errors of writing to stdout or stderr; all others are faults before they come here.
impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Ending::PipeClosed,
            _ => Ending::Failed(Fault::io("write", Path::new("the output"), &error)),
        }
    }
}

impl Ending {
    fn exit_code(&self) -> u8 {
        match self {
            Ending::Failed(fault) => fault.code.exit_code(),
            Ending::Nothing => 1,
            Ending::Interrupted => Code::Cancelled.exit_code(),
            Ending::PipeClosed => 0,
        }
    }
}

#[derive(Debug, Serialize)]
struct Failure<'a> {
    fault: &'a Fault,
}

/// Says what there is to say and gives the exit status. With `--json` the fault is the object
/// on stdout, so that there is always exactly one, after Ctrl-C too.
pub(crate) fn report(outcome: Outcome, screen: &Screen, json: bool) -> ExitCode {
    let Err(ending) = outcome else { return ExitCode::SUCCESS };
    // Nobody is left to hear that saying it failed.
    match &ending {
        Ending::Failed(fault) => {
            if json {
                let _ = screen.json(&Failure { fault });
            }
            let _ = screen.talk(&rendered(fault, screen));
        }
        Ending::Interrupted => {
            if json {
                let fault = &Fault::new(Code::Cancelled, "interrupted by Ctrl-C");
                let _ = screen.json(&Failure { fault });
            }
            let _ = screen.talk("");
        }
        Ending::Nothing | Ending::PipeClosed => {}
    }
    ExitCode::from(ending.exit_code())
}

/// `error[code]: message`, its cause, an empty line, and one line per hint.
pub(crate) fn rendered(fault: &Fault, screen: &Screen) -> String {
    let paint = screen.err;
    let mut text = format!(
        "{}{} {}",
        paint.red(&format!("error[{}]", fault.code.as_str())),
        paint.bold(":"),
        paint.bold(&clean(&fault.message))
    );
    if let Some(cause) = &fault.cause {
        for (n, line) in clean(cause).lines().enumerate() {
            text.push_str(if n == 0 { "\ncause: " } else { "\n       " });
            text.push_str(line);
        }
    }
    for (n, hint) in fault.hints.iter().enumerate() {
        text.push_str(if n == 0 { "\n\n" } else { "\n" });
        text.push_str(&paint.cyan("hint:"));
        text.push(' ');
        text.push_str(&clean(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_code_a_sentence_a_cause_and_hints() {
        let fault =
            Fault::new(Code::PortBusy, "port 7777 is held\u{1b}[31m by `x`").cause("address in use\nos error 98");
        let fault = fault.hint("use another").hint("or stop it");
        let text = rendered(&fault, &Screen::plain());
        let expected = "error[port_busy]: port 7777 is held�[31m by `x`\ncause: address in use\n       os error 98\n\n\
hint: use another\nhint: or stop it";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_ending_has_its_status() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        for (ending, code) in [
            (Ending::from(broken), 0),
            (Ending::from(full), 8),
            (Ending::Nothing, 1),
            (Ending::Interrupted, 130),
            (Ending::from(Fault::new(Code::ContextOverflow, "x")), 3),
        ] {
            assert_eq!(ending.exit_code(), code, "{ending:?}");
        }
    }
}
