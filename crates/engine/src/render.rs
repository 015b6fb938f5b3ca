//! Running a model's chat template in a process of its own, `freehold render`.
//!
//! A template is a program that somebody else wrote. Its steps and its output are bounded where it runs,
//! but what it holds in between is not: a text that is doubled forty times would take all of the daemon's
//! memory. So it runs in a child that is confined, has an address space of bounded size, and is given up
//! after a bounded time. The child is started at the first prompt and lives as long as its worker.

use crate::template::{self, Moment, Prompt, Setting};
use base::{Bytes, Code, Fault, Message, Millis, ModelFacts};
use jail::{Command, Filter, Io, KillOnDrop, Limits, Protection, Rules};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use wire::{Link, Receiver, Sender, WireError};

/// LIMIT: address space of the child. A prompt of the largest size takes a few hundred megabytes.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// LIMIT: for one prompt. What is usual takes well below a millisecond.
const RENDER_MS_MAX: u64 = 20_000;

/// What the child says: `Ready` once, then one prompt for each question.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// What it runs under.
    Ready(Protection),
    Prompt(Result<Prompt, Fault>),
}

/// Renders the prompts of one model.
#[derive(Debug)]
pub(crate) struct Renderer {
    program: PathBuf,
    confine_required: bool,
    name: String,
    facts: Arc<ModelFacts>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    sender: Sender,
    receiver: Receiver,
    has_served: bool,
    /// Ended when this is let go.
    _child: KillOnDrop,
}

impl Renderer {
    pub(crate) fn new(program: PathBuf, confine_required: bool, name: String, facts: Arc<ModelFacts>) -> Self {
        Self { program, confine_required, name, facts, running: None }
    }

    /// As [`template::render`].
    ///
    /// # Errors
    /// As there; [`Code::TemplateFailed`] too when the template takes more memory or time than it may, and
    /// [`Code::ConfinementFailed`] when there is no child to run it in.
    pub(crate) fn render(&mut self, messages: &[Message], setting: &Setting, now: Moment) -> Result<Prompt, Fault> {
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start()?,
            };
            let had_served = running.has_served;
            match running.ask(messages, setting, now) {
                Ok(prompt) => {
                    self.running = Some(running);
                    return prompt;
                }
                Err(WireError::TooLarge(bytes)) => {
                    let most = Bytes(wire::FRAME_BYTES_MAX as u64);
                    let words = format!("the messages take {}; {most} is the most", Bytes(bytes as u64));
                    return Err(Fault::new(Code::InvalidAsk, words).hint("send less text"));
                }
                // It may have ended for a reason of its own, before this prompt: one more chance.
                Err(WireError::Closed) if had_served => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn start(&self) -> Result<Running, Fault> {
        let (mut running, protection) = Running::start(&self.program)?;
        if !protection.is_complete() {
            let missing = protection.missing.join("; ");
            if self.confine_required {
                return Err(unstarted(&self.program, missing));
            }
            tracing::warn!(missing, "a chat template runs with less protection than it should");
        }
        running.sender.send(&*self.facts).map_err(|error| unstarted(&self.program, error))?;
        Ok(running)
    }

    fn broken(&self, error: &WireError) -> Fault {
        let (name, memory) = (&self.name, Bytes(MEMORY_BYTES_MAX));
        let words = match error {
            WireError::Io(error) if error.kind() == ErrorKind::WouldBlock => {
                format!("the chat template of `{name}` took more than {}", Millis(RENDER_MS_MAX))
            }
            WireError::Closed => format!("the chat template of `{name}` took more than {memory} of memory, or crashed"),
            _ => format!("the chat template of `{name}` gave no prompt"),
        };
        Fault::new(Code::TemplateFailed, words)
            .cause(error)
            .hint("nothing else was harmed; use another file of this model, as this one's template isn't sound")
    }
}

/// What a child that runs templates is under; found out by starting one.
pub(crate) fn protection(program: &Path) -> Result<Protection, Fault> {
    Running::start(program).map(|(_, protection)| protection)
}

fn unstarted(program: &Path, cause: impl fmt::Display) -> Fault {
    let words = format!("`{} render`, which runs chat templates, doesn't start", program.display());
    Fault::new(Code::ConfinementFailed, words)
        .cause(cause)
        .hint("run `freehold doctor`: it says what confinement this system allows")
}

impl Running {
    fn start(program: &Path) -> Result<(Self, Protection), Fault> {
        let said = |error: WireError| unstarted(program, error);
        let (ours, theirs) = wire::pair().map_err(said)?;
        let limits = Limits {
            memory_bytes: Some(MEMORY_BYTES_MAX),
            files_max: Some(16),
            file_bytes_max: Some(0),
            ..Limits::default()
        };
        let child = Command::new(program)
            .arg("render")
            .stdin(Io::File(File::from(theirs.into_fd())))
            .limits(limits)
            .die_with_parent()
            .spawn()
            .map_err(|error| unstarted(program, error))?;
        let child = KillOnDrop(child);
        let ours = ours.into_fd();
        for side in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, side, Some(Duration::from_millis(RENDER_MS_MAX)))
                .map_err(|errno| unstarted(program, errno))?;
        }
        let (sender, mut receiver) = Link::new(ours).split().map_err(said)?;
        match receiver.recv::<Word>().map_err(said)? {
            (Word::Ready(protection), _) => {
                Ok((Self { sender, receiver, has_served: false, _child: child }, protection))
            }
            (Word::Prompt(_), _) => Err(unstarted(program, "it isn't Freehold's")),
        }
    }

    fn ask(
        &mut self,
        messages: &[Message],
        setting: &Setting,
        now: Moment,
    ) -> Result<Result<Prompt, Fault>, WireError> {
        self.sender.send(&(messages, setting, now))?;
        match self.receiver.recv::<Word>() {
            Ok((Word::Prompt(prompt), _)) => {
                self.has_served = true;
                Ok(prompt)
            }
            Ok((Word::Ready(_), _)) => Err(WireError::BadHeader),
            // It died while it wrote.
            Err(WireError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => Err(WireError::Closed),
            Err(error) => Err(error),
        }
    }
}

/// Entry of the hidden command `render`: confines this process before it reads a byte, then makes prompts
/// until its daemon lets go of it.
pub fn run_renderer() -> ExitCode {
    let link = std::io::stdin().as_fd().try_clone_to_owned().map_err(WireError::from);
    let served = link.and_then(|descriptor| Link::new(descriptor).split()).and_then(|(sender, receiver)| {
        let protection = jail::apply(&Rules::default().with_filter(Filter::WorkerCpu))
            .unwrap_or_else(|error| Protection { missing: vec![error.to_string()], ..Protection::default() });
        serve(sender, receiver, protection)
    });
    match served {
        Err(WireError::Closed) => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn serve(mut sender: Sender, mut receiver: Receiver, protection: Protection) -> Result<(), WireError> {
    sender.send(&Word::Ready(protection))?;
    let (facts, _) = receiver.recv::<ModelFacts>()?;
    loop {
        let ((messages, setting, now), _) = receiver.recv::<(Vec<Message>, Setting, Moment)>()?;
        let prompt = Word::Prompt(template::render(&facts, &messages, &setting, now));
        match sender.send(&prompt) {
            Err(WireError::TooLarge(bytes)) => {
                let words = format!("the prompt grew to {}", Bytes(bytes as u64));
                sender.send(&Word::Prompt(Err(Fault::new(Code::TemplateFailed, words))))?;
            }
            sent => sent?,
        }
    }
}
