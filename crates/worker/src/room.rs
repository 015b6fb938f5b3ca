//! How much room a generation has: the pool grows when a job needs more than it holds, and is given back
//! when nothing runs.
//!
//! llama.cpp can't resize a cache. So what it holds of the running sequences is copied out, another context
//! is made, and the copies are put back; what can't be copied is read again. The answers go on unbroken. Old
//! and new are never there at the same time: in between stands the least context that can be made, and it
//! stays while the worker rests.

use crate::ffi::{Buffers, Context, ContextOptions, memory_bytes, page_bytes};
use crate::load::{check_memory, memory_or};
use std::fs::File;
use std::os::unix::fs::FileExt;
use wire::{Room, WireFault};

/// Cells of a context that only keeps the place.
const RESTING_TOKENS: u32 = 256;
/// Tokens of its steps.
const RESTING_BATCH_TOKENS: u32 = 8;
/// The cache is laid out in blocks of so many cells.
const BLOCK_TOKENS: u32 = 256;

/// Measures this process, through a file that was opened before the confinement.
#[derive(Debug)]
pub(crate) struct Meter(Option<File>);

impl Meter {
    pub(crate) fn open() -> Self {
        Self(File::open("/proc/self/statm").ok())
    }

    /// Pages in memory now; 0 where the system doesn't say.
    fn resident_bytes(&self) -> u64 {
        let mut text = [0_u8; 128];
        let Some(Ok(length)) = self.0.as_ref().map(|file| file.read_at(&mut text, 0)) else { return 0 };
        let pages = std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        pages * page_bytes()
    }
}

/// What the pool is, was and may become.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// Of the pool as it is; while it rests, of the one that it begins with again.
    options: ContextOptions,
    first_tokens: u32,
    /// The largest window that may be asked for.
    limit_tokens: u32,
    resting: bool,
    /// What is there without any context.
    weights: Buffers,
    /// What the daemon was asked for and hasn't answered.
    asked: Option<u32>,
    meter: Meter,
}

impl Rooms {
    /// `limit_tokens`: as the daemon allows; the model's own training bounds it.
    pub(crate) fn new(options: ContextOptions, context: &Context, limit_tokens: u32, meter: Meter) -> Self {
        let cells = context.cells();
        let trained = context.model().context_trained();
        let limit_tokens = limit_tokens.min(if trained == 0 { cells } else { trained }).max(context.window());
        let weights = Buffers { cache: 0, compute: 0, ..context.buffers() };
        Self { options, first_tokens: cells, limit_tokens, resting: false, weights, asked: None, meter }
    }

    /// The largest window that a job may use, if the daemon grants it.
    pub(crate) fn limit_tokens(&self) -> u32 {
        self.limit_tokens
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting
    }

    /// What to ask the daemon for when a job needs `least` tokens: that, and what will do for a while.
    /// `None`: it has been asked already.
    pub(crate) fn want(&mut self, least: u32) -> Option<(u32, u32)> {
        if self.asked.is_some() {
            return None;
        }
        let least = blocks(least).min(self.limit_tokens);
        let wanted = least.max(blocks(self.options.context_tokens.saturating_mul(2))).min(self.limit_tokens);
        self.asked = Some(least);
        Some((least, wanted))
    }

    /// The daemon has answered. Gives back what it was asked for at least.
    pub(crate) fn answered(&mut self) -> Option<u32> {
        self.asked.take()
    }

    /// Ids of sequences, running and kept.
    pub(crate) fn sequences(&self) -> u32 {
        self.options.sequences()
    }

    pub(crate) fn first_tokens(&self) -> u32 {
        self.first_tokens
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// `None`: there is no context now, see [`Rooms::note_context`].
    pub(crate) fn report(&self, context: Option<&Context>) -> Room {
        let buffers = context.map_or(self.weights, Context::buffers);
        let context = context.filter(|_| !self.resting);
        Room {
            context_tokens: context.map_or(self.first_tokens, Context::window),
            resting: self.resting,
            mapped_bytes: buffers.mapped,
            copied_bytes: buffers.copied,
            cache_bytes: buffers.cache,
            compute_bytes: buffers.compute,
            resident_bytes: self.meter.resident_bytes(),
        }
    }

    /// For who keeps nothing between two jobs, and drops and makes the context itself: whether there is one now.
    pub(crate) fn note_context(&mut self, there: bool) {
        self.resting = !there;
    }

    /// Gives cache and room to compute back. Only when nothing runs: what the cache holds is gone.
    ///
    /// # Errors
    /// When not even the least context can be made; the one that was there stays.
    pub(crate) fn rest(&mut self, context: &mut Context) -> Result<(), WireFault> {
        if !self.resting {
            self.keep_place(context)?;
            self.options.context_tokens = self.first_tokens;
            self.resting = true;
            // Who it was for is gone, or it wouldn't rest.
            self.asked = None;
        }
        Ok(())
    }

    /// Another pool, with the states of `live` sequences carried over. The answer holds the places in `live`
    /// of those that couldn't be: they have to be read again.
    ///
    /// # Errors
    /// When the new pool can't be made. Then the old one is back, with everything in it, or, if even that
    /// can't be made any more, the worker rests: [`Rooms::is_resting`] tells.
    pub(crate) fn resize(
        &mut self,
        context: &mut Context,
        context_tokens: u32,
        live: &[i32],
    ) -> (Vec<usize>, Result<(), WireFault>) {
        let model = context.model();
        if let Err(fault) = check_memory(context_tokens, model.cache_bytes_per_token(), memory_bytes()) {
            return (Vec::new(), Err(fault));
        }
        let states: Vec<Option<Vec<u8>>> = live
            .iter()
            .map(|sequence| {
                let bytes = context.state_bytes(*sequence);
                context.save_state(*sequence, bytes)
            })
            .collect();
        let before = self.options.context_tokens;
        if !self.resting
            && let Err(fault) = self.keep_place(context)
        {
            return (Vec::new(), Err(fault));
        }
        let was_resting = std::mem::replace(&mut self.resting, true);
        let mut result = self.make(context, context_tokens);
        if result.is_err() && !was_resting && self.make(context, before).is_err() {
            result = result.map_err(|fault| out_of_memory(&fault));
        }
        let mut lost = Vec::new();
        for (place, (sequence, state)) in live.iter().zip(&states).enumerate() {
            let kept = !self.resting && state.as_ref().is_some_and(|state| context.restore_state(*sequence, state));
            if !kept {
                context.forget(*sequence, 0);
                lost.push(place);
            }
        }
        (lost, result)
    }

    fn keep_place(&self, context: &mut Context) -> Result<(), WireFault> {
        let least = ContextOptions {
            context_tokens: RESTING_TOKENS,
            batch_tokens: RESTING_BATCH_TOKENS,
            sequences_max: 1,
            sequences_kept: 0,
            judges: false,
            ..self.options
        };
        context.remake(least).map_err(short)
    }

    fn make(&mut self, context: &mut Context, context_tokens: u32) -> Result<(), WireFault> {
        let options = ContextOptions { context_tokens, ..self.options };
        context.remake(options).map_err(short)?;
        self.options = options;
        self.resting = false;
        Ok(())
    }
}

/// Whole blocks that hold so many tokens.
pub(crate) fn blocks(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS).saturating_mul(BLOCK_TOKENS)
}

fn short(reason: String) -> WireFault {
    memory_or(reason, |reason| WireFault::MemoryShort(format!("the context could not be made: {reason}")))
}

fn out_of_memory(fault: &WireFault) -> WireFault {
    WireFault::MemoryShort(format!("neither a larger context nor the one before could be made: {fault:?}"))
}
