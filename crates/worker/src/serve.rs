//! `freehold-worker serve`: from the first frame to the last.

use crate::embed::Embedder;
use crate::ffi::{self, Model, Token};
use crate::generate::Generator;
use crate::link::{Inbox, Outbox};
use crate::load::{self, Loaded};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use wire::{Directive, JobId, Link, Receiver, Report, Sender, WireError, WireFault};

/// Why the work is over.
#[derive(Debug)]
pub(crate) enum Ending {
    Asked,
    /// The link can't be used further; in words.
    Broken(String),
}

/// Ends with 0 when asked to or when the daemon has gone, 1 after a fault that was reported, 2 when
/// it wasn't started by a daemon.
#[expect(clippy::print_stderr, reason = "without a link, standard error is the only place for a reason")]
pub(crate) fn run() -> ExitCode {
    let Some(descriptor) = ffi::inherited_socket(wire::WORKER_FD) else {
        eprintln!("freehold-worker serve needs a socket on descriptor {}; the daemon starts it so", wire::WORKER_FD);
        return ExitCode::from(2);
    };
    let sockets = descriptor.try_clone().and_then(|first| Ok([first, descriptor.try_clone()?]));
    match sockets.map_err(WireError::from).and_then(|sockets| Ok((sockets, Link::new(descriptor).split()?))) {
        Ok((sockets, (sender, receiver))) => speak(sender, receiver, sockets),
        Err(error) => {
            eprintln!("freehold-worker: {error}");
            ExitCode::from(2)
        }
    }
}

fn speak(mut sender: Sender, mut receiver: Receiver, [to_read, to_write]: [OwnedFd; 2]) -> ExitCode {
    ffi::install_log();
    let build = format!("{} llama.cpp {}", env!("CARGO_PKG_VERSION"), ffi::version());
    let hello = Report::Hello { version: wire::VERSION, build, pid: std::process::id() };
    let loaded = sender.send(&hello).map_err(load::Stop::Link).and_then(|()| load::load(&mut receiver, &mut sender));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(load::Stop::Link(WireError::Closed)) => return ExitCode::SUCCESS,
        Err(load::Stop::Link(error)) => return refuse(&mut sender, WireFault::Protocol(error.to_string())),
        Err(load::Stop::Fault(fault)) => return refuse(&mut sender, fault),
    };
    // Threads start only now: they inherit a confinement that is complete.
    let threads = Inbox::start(receiver, to_read).and_then(|inbox| Ok((inbox, Outbox::start(sender, to_write)?)));
    let Ok((inbox, outbox)) = threads else { return ExitCode::from(1) };
    outbox.send(Report::Ready(Box::new(loaded.ready.clone())));
    let ending = work(loaded, &inbox, &outbox);
    let code = match ending {
        Ending::Asked => 0,
        Ending::Broken(reason) => {
            outbox.send(Report::Failed { job: None, fault: WireFault::Protocol(reason) });
            1
        }
    };
    outbox.finish();
    // Not by returning: the reading thread may hold the link, and destructors of C++ wait for nobody.
    ffi::exit_now(code)
}

fn work(loaded: Loaded, inbox: &Inbox, outbox: &Outbox) -> Ending {
    match loaded.embed {
        Some(options) => Embedder::new(loaded, options, inbox, outbox).run(),
        None => Generator::new(loaded, inbox, outbox).run(),
    }
}

fn refuse(sender: &mut Sender, fault: WireFault) -> ExitCode {
    // When the daemon is gone nobody is left to tell.
    let _ = sender.send(&Report::Failed { job: None, fault });
    ExitCode::from(1)
}

/// Answers what both loops answer alike. The result, if any, ends the loop.
pub(crate) fn answer(directive: Directive, outbox: &Outbox) -> Option<Ending> {
    match directive {
        Directive::Ping { nonce } => outbox.send(Report::Pong { nonce }),
        Directive::Probe { job, attempt } => outbox.send(Report::Probed { job, errno: ffi::attempt(&attempt) }),
        Directive::Load(_) => return Some(Ending::Broken("a second model was to be loaded".into())),
        Directive::Shutdown => return Some(Ending::Asked),
        // An embedder's lists are short: one that is held goes on.
        Directive::Begin(_)
        | Directive::Embed { .. }
        | Directive::Rank { .. }
        | Directive::Count { .. }
        | Directive::Cancel { .. }
        | Directive::Hold { .. }
        | Directive::Resume { .. }
        | Directive::Resize { .. }
        | Directive::LeaveDraft
        | Directive::Rest
        | Directive::Found { .. }
        | Directive::Store { .. } => {}
        // Nothing is kept of vectors.
        Directive::Forget { .. } => outbox.send(Report::Forgotten { states: 0, bytes: 0 }),
    }
    None
}

/// The answer to `Count`.
pub(crate) fn counted(job: JobId, tokens: Result<Vec<Token>, WireFault>) -> Report {
    match tokens {
        Ok(tokens) => Report::Counted { job, tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX) },
        Err(fault) => Report::Failed { job: Some(job), fault },
    }
}

/// Tokens of a prompt in pieces; special tokens are recognised within a piece, never across two.
pub(crate) fn prompt_tokens(model: &Model, pieces: &[String], add_bos: bool) -> Result<Vec<Token>, WireFault> {
    let mut tokens = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        tokens.extend(model.tokens(piece, false, true).map_err(WireFault::Invalid)?);
    }
    if let (true, Some(begin)) = (add_bos, model.begin_token())
        && tokens.first() != Some(&begin)
    {
        tokens.insert(0, begin);
    }
    Ok(tokens)
}
