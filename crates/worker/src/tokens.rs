//! Long prompts become tokens in a thread of their own, and shapes are compiled there: a megabyte takes up to
//! seconds, in which no running answer may stand still.

use crate::aside::Aside;
use crate::ffi::{Model, Token};
use crate::guide::{Compiler, Guide};
use crate::link::Event;
use crate::serve;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Instant;
use wire::{Begin, JobId, WireFault};

/// LIMIT: prompts of this size and less are cut into tokens on the spot, which takes a few milliseconds.
const SHORT_BYTES_MAX: usize = 16 << 10;
/// LIMIT: long prompts that wait.
const WAITING_MAX: usize = 64;
/// Only used as far as it is needed: some vocabularies are cut by expressions that recurse, and what compiles a
/// schema recurses [`batch::schema::CHAIN_MAX`] deep, which takes some 5 MiB, and five times that in a debug build.
const THREAD_BYTES: usize = 32 << 20;

/// What a job begins with.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) tokens: Vec<Token>,
    pub(crate) guide: Guide,
    /// Of a job that scores.
    pub(crate) options: Vec<Vec<Token>>,
}

/// Makes tokens of what a job brings.
///
/// # Errors
/// What can't be tokens; an option that has none.
pub(crate) fn read(model: &Model, begin: &Begin, guide: Guide) -> Result<Read, WireFault> {
    let tokens = serve::prompt_tokens(model, &begin.prompt, begin.add_bos)?;
    let options = begin.score.iter().flat_map(|score| &score.options);
    let option = |text: &String| match model.tokens(text, false, false) {
        Ok(tokens) if tokens.is_empty() => Err(WireFault::Invalid(format!("the option `{text}` has no tokens"))),
        made => made.map_err(WireFault::Invalid),
    };
    Ok(Read { tokens, guide, options: options.map(option).collect::<Result<_, _>>()? })
}

/// Whether a prompt is for the thread.
pub(crate) fn is_long(prompt: &[String]) -> bool {
    prompt.iter().map(String::len).sum::<usize>() > SHORT_BYTES_MAX
}

/// What the thread is to do.
#[derive(Debug)]
pub(crate) enum Errand {
    /// An [`Event::Read`] follows.
    Begin(Box<Begin>, Instant),
    /// An [`Event::Counted`] follows.
    Count { job: JobId, prompt: Vec<String>, add_bos: bool },
}

/// The thread, which starts with the first long prompt.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    model: Arc<Model>,
    /// Where results go: to where directives arrive.
    results: SyncSender<Event>,
    queue: Option<SyncSender<Errand>>,
    aside: Aside,
}

impl Tokenizer {
    pub(crate) fn new(model: Arc<Model>, results: SyncSender<Event>, aside: Aside) -> Self {
        Self { model, results, queue: None, aside }
    }

    /// Takes a prompt; its event follows.
    ///
    /// # Errors
    /// When too many wait already, or the system gives no thread.
    pub(crate) fn take(&mut self, errand: Errand) -> Result<(), WireFault> {
        let queue = match &self.queue {
            Some(queue) => queue,
            None => {
                let started = self.start().map_err(|error| WireFault::DecodeFailed(error.to_string()))?;
                self.queue.insert(started)
            }
        };
        queue.try_send(errand).map_err(|error| match error {
            TrySendError::Full(_) => WireFault::Protocol(format!("{WAITING_MAX} long prompts are waiting already")),
            TrySendError::Disconnected(_) => WireFault::DecodeFailed("the thread for long prompts has ended".into()),
        })
    }

    fn start(&self) -> std::io::Result<SyncSender<Errand>> {
        let (queue, prompts) = sync_channel::<Errand>(WAITING_MAX);
        let (model, results) = (Arc::clone(&self.model), self.results.clone());
        let mut compiler = Compiler::new(Arc::clone(&self.model));
        let aside = self.aside.clone();
        std::thread::Builder::new().name("tokens".into()).stack_size(THREAD_BYTES).spawn(move || {
            for errand in prompts {
                let event = aside.count(|| match errand {
                    Errand::Begin(begin, received) => {
                        let guide = compiler.guide(&begin.shape, begin.reasoning.as_ref());
                        let read = guide.and_then(|guide| read(&model, &begin, guide));
                        Event::Read { received, begin, read }
                    }
                    Errand::Count { job, prompt, add_bos } => {
                        let tokens = serve::prompt_tokens(&model, &prompt, add_bos);
                        Event::Counted(serve::counted(job, tokens))
                    }
                });
                if results.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(queue)
    }
}
