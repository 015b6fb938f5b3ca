//! Long prompts become tokens in a thread of their own: a megabyte takes up to seconds, in which no
//! running answer may stand still.

use crate::ffi::Model;
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
/// Only used as far as it is needed: some vocabularies are cut by expressions that recurse.
const THREAD_BYTES: usize = 8 << 20;

/// Whether a prompt is for the thread.
pub(crate) fn is_long(prompt: &[String]) -> bool {
    prompt.iter().map(String::len).sum::<usize>() > SHORT_BYTES_MAX
}

/// What the thread is to do.
#[derive(Debug)]
pub(crate) enum Errand {
    /// An [`Event::Tokens`] follows.
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
}

impl Tokenizer {
    pub(crate) fn new(model: Arc<Model>, results: SyncSender<Event>) -> Self {
        Self { model, results, queue: None }
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
        std::thread::Builder::new().name("tokens".into()).stack_size(THREAD_BYTES).spawn(move || {
            for errand in prompts {
                let event = match errand {
                    Errand::Begin(begin, received) => {
                        let tokens = serve::prompt_tokens(&model, &begin.prompt, begin.add_bos);
                        Event::Tokens { received, begin, tokens }
                    }
                    Errand::Count { job, prompt, add_bos } => {
                        let tokens = serve::prompt_tokens(&model, &prompt, add_bos);
                        Event::Counted(serve::counted(job, tokens))
                    }
                };
                if results.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(queue)
    }
}
