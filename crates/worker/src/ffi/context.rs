//! A context: the cache of a model and the place where it computes.

use super::{Adapter, Backend, Buffers, Model, ThreadPool, Token, account, drain_log, sys};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use wire::KvCache;

/// How to set up a context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContextOptions {
    pub(crate) context_tokens: u32,
    pub(crate) sequences_max: u32,
    /// Ids for sequences that are kept beside the running ones.
    pub(crate) sequences_kept: u32,
    pub(crate) batch_tokens: u32,
    pub(crate) threads: u32,
    /// Keys and values lie beside their layers; else with the processor.
    pub(crate) kv_on_gpu: bool,
    pub(crate) kv_cache: KvCache,
    /// For vectors instead of text.
    pub(crate) embed: Option<Pooling>,
    /// With room for rows of scores and branches, as judging options takes.
    pub(crate) judges: bool,
    /// Layers with a window keep all tokens too, so that some can be taken back at any time.
    pub(crate) whole_windows: bool,
}

impl ContextOptions {
    /// Ids of sequences.
    pub(crate) fn sequences(&self) -> u32 {
        self.sequences_max.saturating_add(self.sequences_kept)
    }
}

/// How token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// As the model's file says.
    OfModel,
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// Rows of scores that one step gives at least when options are judged, and at most when tokens are drafted.
pub(crate) const ROWS: u32 = wire::BRANCHES;
/// Tokens that are computed at once; a larger step is cut by llama.cpp.
const AT_ONCE_TOKENS: u32 = 512;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoded {
    Done,
    /// No room in the cache; it is as it was.
    Full,
    /// The abort question was answered with yes; part of the batch may be in the cache.
    Aborted,
    Failed(String),
}

/// Asked between the operations of a graph: `true` ends it.
pub(crate) type AbortQuestion = dyn Fn() -> bool + Send + Sync;

/// A context and what it stands on, in the order in which they must be freed.
pub(crate) struct Context {
    context: NonNull<sys::llama_context>,
    /// One for each number of threads that was ever used. Freed after the context, which uses them.
    pools: Vec<Rc<ThreadPool>>,
    threads: u32,
    /// The address of this box is what the abort callback gets.
    abort: Option<Box<Arc<AbortQuestion>>>,
    buffers: Buffers,
    model: Arc<Model>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("context", &self.context).field("pools", &self.pools).finish_non_exhaustive()
    }
}

unsafe extern "C" fn ask_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` is the boxed question that the context owns, which outlives every computation.
    let question = unsafe { &*data.cast::<Arc<AbortQuestion>>() };
    question()
}

impl Context {
    /// # Errors
    /// With llama.cpp's reason; usually too little memory.
    pub(crate) fn new(model: Arc<Model>, options: ContextOptions) -> Result<Self, String> {
        let context = Self::make(&model, options)?;
        Ok(Self { context, pools: Vec::new(), threads: 0, abort: None, buffers: account::buffers(), model })
    }

    fn make(model: &Model, options: ContextOptions) -> Result<NonNull<sys::llama_context>, String> {
        // SAFETY: returns plain values.
        let mut params = unsafe { sys::llama_context_default_params() };
        let threads = i32::try_from(options.threads).unwrap_or(1);
        params.n_ctx = options.context_tokens;
        params.n_batch = options.batch_tokens;
        let branches = if options.judges && model.branches() { wire::BRANCHES } else { 0 };
        params.n_seq_max = options.sequences().saturating_add(branches);
        params.n_threads = threads;
        params.n_threads_batch = threads;
        params.no_perf = true;
        params.offload_kqv = options.kv_on_gpu;
        params.kv_unified = true;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_AUTO;
        params.type_k = ggml_type(options.kv_cache);
        params.type_v = params.type_k;
        match options.embed {
            None => {
                params.n_ubatch = options.batch_tokens.min(AT_ONCE_TOKENS);
                // Layers with a window keep the window of every sequence and one step, and not the whole pool: several
                // times less memory. Such a cache is gone on from exact ends only, or from the beginning.
                params.swa_full = options.whole_windows;
                // Only the last token of a sequence is looked at, and some more when options are judged or tokens are
                // drafted: a small buffer of scores.
                params.n_outputs_max = params.n_seq_max.max(if options.judges { ROWS } else { 1 });
            }
            Some(pooling) => {
                // A text must be seen whole by a model that looks both ways.
                params.n_ubatch = options.batch_tokens;
                params.embeddings = true;
                params.pooling_type = match pooling {
                    Pooling::OfModel => sys::LLAMA_POOLING_TYPE_UNSPECIFIED,
                    Pooling::Mean => sys::LLAMA_POOLING_TYPE_MEAN,
                    Pooling::Cls => sys::LLAMA_POOLING_TYPE_CLS,
                    Pooling::Last => sys::LLAMA_POOLING_TYPE_LAST,
                };
            }
        }
        account::begin_context();
        // SAFETY: the model is alive, and the caller keeps it so through its `Arc`.
        let context = unsafe { sys::llama_init_from_model(model.model.as_ptr(), params) };
        NonNull::new(context).ok_or_else(drain_log)
    }

    /// Takes another context in place of this one, which stays as it is when that fails. Nothing of what
    /// was in the cache comes along; threads and the abort question do. For a moment both are there.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub(crate) fn remake(&mut self, options: ContextOptions) -> Result<(), String> {
        let context = Self::make(&self.model, options)?;
        let old = std::mem::replace(&mut self.context, context);
        // SAFETY: the old context is ours alone, and no other reference to it is left.
        unsafe { sys::llama_free(old.as_ptr()) }
        self.buffers = account::buffers();
        // The next step attaches the threads.
        self.threads = 0;
        if let Some(question) = self.abort.take() {
            self.set_abort(*question);
        }
        Ok(())
    }

    /// What model and context take, by llama.cpp's own account.
    pub(crate) fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Computes with so many threads from now on. They are kept, and sleep while others compute.
    ///
    /// # Errors
    /// When they can't be started; the ones before go on then.
    pub(crate) fn use_threads(&mut self, cpu: Backend, threads: u32, poll: u32) -> Result<(), String> {
        if threads == self.threads {
            return Ok(());
        }
        let place = match self.pools.iter().position(|pool| pool.threads == threads) {
            Some(place) => place,
            None => {
                self.pools.push(Rc::new(ThreadPool::new(cpu, threads, poll)?));
                self.pools.len() - 1
            }
        };
        self.attach(place);
        Ok(())
    }

    /// Computes with the threads of another context from now on: theirs would look for work while these compute, and take
    /// processors from them. `false`: it has none yet.
    pub(crate) fn share_threads(&mut self, other: &Context) -> bool {
        let Some(shared) = other.pools.iter().find(|pool| pool.threads == other.threads) else { return false };
        let has = |pool: &Rc<ThreadPool>| Rc::ptr_eq(pool, shared);
        let place = self.pools.iter().position(has).unwrap_or_else(|| {
            self.pools.push(Rc::clone(shared));
            self.pools.len() - 1
        });
        if self.threads != shared.threads {
            self.attach(place);
        }
        true
    }

    fn attach(&mut self, place: usize) {
        let (pool, threads) = (self.pools[place].pool.as_ptr(), self.pools[place].threads);
        let count = i32::try_from(threads).unwrap_or(1);
        // SAFETY: context and pool are alive, and the pool is kept until after the context is freed. No
        // graph is being computed: that needs `&mut self` too.
        unsafe {
            sys::llama_attach_threadpool(self.context.as_ptr(), pool, pool);
            sys::llama_set_n_threads(self.context.as_ptr(), count, count);
        }
        self.threads = threads;
    }

    /// Computes with these adapters from now on. Cheap when they are those of the last time; else the next step
    /// plans its memory anew.
    ///
    /// # Errors
    /// When llama.cpp refuses them.
    pub(crate) fn use_adapters(&mut self, adapters: &[(&Adapter, f32)]) -> Result<(), String> {
        let mut pointers: Vec<_> = adapters.iter().map(|(adapter, _)| adapter.adapter.as_ptr()).collect();
        let mut scales: Vec<f32> = adapters.iter().map(|(_, scale)| *scale).collect();
        // SAFETY: the lists are as long as is said and outlive the call; the adapters are this model's and live as
        // long as it does. No graph is being computed: that needs `&mut self` too.
        let code = unsafe {
            sys::llama_set_adapters_lora(
                self.context.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                scales.as_mut_ptr(),
            )
        };
        if code == 0 { Ok(()) } else { Err(reason(code)) }
    }

    /// Asks `question` between operations on the processor.
    pub(crate) fn set_abort(&mut self, question: Arc<AbortQuestion>) {
        let boxed = Box::new(question);
        let data = std::ptr::from_ref::<Arc<AbortQuestion>>(&boxed).cast_mut().cast();
        // SAFETY: the box keeps its address and is dropped after the context.
        unsafe { sys::llama_set_abort_callback(self.context.as_ptr(), Some(ask_abort), data) };
        self.abort = Some(boxed);
    }

    /// For another thread, which may ask it of its vocabulary.
    pub(crate) fn shared_model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it can go on from what it has read, as generating needs.
    pub(crate) fn has_cache(&self) -> bool {
        // SAFETY: the context is alive as long as `self`.
        !unsafe { sys::llama_get_memory(self.context.as_ptr()) }.is_null()
    }

    /// Cells of the pool that all sequences share.
    pub(crate) fn cells(&self) -> u32 {
        // SAFETY: the context is alive as long as `self`.
        unsafe { sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// Window of one sequence.
    pub(crate) fn window(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::llama_n_ctx_seq(self.context.as_ptr()) }
    }

    /// Whether one vector of a whole text comes out, or its rank, and not one for each token.
    pub(crate) fn pools_text(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_pooling_type(self.context.as_ptr()) != sys::LLAMA_POOLING_TYPE_NONE }
    }

    /// What is really done, as a wish for the next context.
    pub(crate) fn pooling(&self) -> Pooling {
        // SAFETY: as above.
        match unsafe { sys::llama_pooling_type(self.context.as_ptr()) } {
            sys::LLAMA_POOLING_TYPE_MEAN => Pooling::Mean,
            sys::LLAMA_POOLING_TYPE_CLS => Pooling::Cls,
            sys::LLAMA_POOLING_TYPE_LAST => Pooling::Last,
            _ => Pooling::OfModel,
        }
    }

    /// Whether what comes out is the word of a classifier.
    pub(crate) fn ranks(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_pooling_type(self.context.as_ptr()) == sys::LLAMA_POOLING_TYPE_RANK }
    }

    /// Computes a batch with the cache.
    pub(crate) fn decode(&mut self, batch: &mut Batch) -> Decoded {
        let raw = batch.raw();
        // SAFETY: the batch's arrays are valid for its count and outlive the call; ids and positions are
        // checked by llama.cpp itself, which answers -1.
        match unsafe { sys::llama_decode(self.context.as_ptr(), raw) } {
            0 => Decoded::Done,
            1 => Decoded::Full,
            2 => Decoded::Aborted,
            code => Decoded::Failed(reason(code)),
        }
    }

    /// Computes vectors of texts, each a sequence of its own that starts at position 0.
    pub(crate) fn encode(&mut self, batch: &mut Batch) -> Decoded {
        // SAFETY: as in `decode`; a context without a cache has no memory, and only then null comes back.
        let memory = unsafe { sys::llama_get_memory(self.context.as_ptr()) };
        if memory.is_null() {
            let raw = batch.raw();
            // SAFETY: as in `decode`.
            return match unsafe { sys::llama_encode(self.context.as_ptr(), raw) } {
                0 => Decoded::Done,
                2 => Decoded::Aborted,
                code => Decoded::Failed(reason(code)),
            };
        }
        // SAFETY: the memory belongs to this context.
        unsafe { sys::llama_memory_clear(memory, false) };
        self.decode(batch)
    }

    /// Next-token scores after the batch's token `index`, which must have asked for them.
    pub(crate) fn logits(&mut self, index: usize) -> Option<&[f32]> {
        let index = i32::try_from(index).ok()?;
        let count = self.model.vocabulary_size();
        // SAFETY: llama.cpp answers null for a wrong index, else a row as long as the vocabulary that is
        // valid until the next batch, which needs `&mut self`.
        unsafe {
            let row = sys::llama_get_logits_ith(self.context.as_ptr(), index);
            if row.is_null() { None } else { Some(std::slice::from_raw_parts(row, count)) }
        }
    }

    /// Numbers in each row that [`Context::vector`] gives.
    pub(crate) fn dimensions(&self) -> u32 {
        if self.ranks() { self.model.classes() } else { self.model.embedding_dimensions() }
    }

    /// The vector of a sequence of the last encoded batch.
    pub(crate) fn vector(&mut self, sequence: i32) -> Option<&[f32]> {
        let count = usize::try_from(self.dimensions()).ok()?;
        // SAFETY: as in `logits`; pooled rows are as long as the model's output, ranks as its classes.
        unsafe {
            let row = sys::llama_get_embeddings_seq(self.context.as_ptr(), sequence);
            if row.is_null() { None } else { Some(std::slice::from_raw_parts(row, count)) }
        }
    }

    /// Most rows of scores that one step gives when options are judged: there is room for one of each sequence anyway.
    pub(crate) fn rows(&self) -> usize {
        // SAFETY: the context is alive as long as `self`.
        let (sequences, batch) =
            unsafe { (sys::llama_n_seq_max(self.context.as_ptr()), sys::llama_n_batch(self.context.as_ptr())) };
        sequences.max(ROWS).min(batch) as usize
    }

    /// Number of the sequence for a branch, of which there are [`wire::BRANCHES`] where the model has them.
    pub(crate) fn branch(&self, place: u32) -> i32 {
        // SAFETY: the context is alive as long as `self`.
        let count = unsafe { sys::llama_n_seq_max(self.context.as_ptr()) };
        i32::try_from(count.saturating_sub(1 + place)).unwrap_or(0)
    }

    /// Forgets a sequence from a position on; 0 forgets it all, which never fails. `false`: this kind
    /// of cache can't forget a part.
    pub(crate) fn forget(&mut self, sequence: i32, from: u32) -> bool {
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        // SAFETY: the memory belongs to this context; ids that don't exist are ignored.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            memory.is_null() || sys::llama_memory_seq_rm(memory, sequence, from, -1)
        }
    }
}

/// Leave to take a sequence apart. Only a cache that holds each token by itself gives it: of a recurrent state, and
/// of a window that has moved on, a part would be silently wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut(());

/// Sequences that share what they have in common.
impl Context {
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.model.holds_each_token().then_some(Cut(()))
    }

    /// Makes an empty sequence go on from the exact end of another one. Cells are shared, not copied; a recurrent
    /// state is copied when one of the two goes on.
    pub(crate) fn copy_whole(&mut self, from: i32, to: i32) {
        self.copy(from, to, -1);
    }

    /// The same from after its first `tokens`.
    pub(crate) fn copy_front(&mut self, _leave: Cut, from: i32, to: i32, tokens: u32) {
        self.copy(from, to, i32::try_from(tokens).unwrap_or(i32::MAX));
    }

    fn copy(&mut self, from: i32, to: i32, end: i32) {
        // SAFETY: the memory belongs to this context, which never lacks it here; both ids are below the number that
        // it was made with, which is what llama.cpp asserts.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_cp(memory, from, to, -1, end);
        }
    }

    /// Leaves only the first `tokens` of a sequence. `false`: it can't, and the sequence must be forgotten.
    pub(crate) fn forget_rest(&mut self, _leave: Cut, sequence: i32, tokens: u32) -> bool {
        self.forget(sequence, tokens)
    }
}

/// `LLAMA_STATE_SEQ_FLAGS_NONE`: all of a sequence, in this process's memory.
const WHOLE_STATE: sys::llama_state_seq_flags = 0;

/// States of whole sequences.
impl Context {
    /// Bytes that the state of a sequence takes.
    pub(crate) fn state_bytes(&mut self, sequence: i32) -> usize {
        // SAFETY: the context is alive; a sequence without tokens has a small state.
        unsafe { sys::llama_state_seq_get_size_ext(self.context.as_ptr(), sequence, WHOLE_STATE) }
    }

    /// The state, which takes `bytes`. `None` when memory or the cache doesn't give it.
    pub(crate) fn save_state(&mut self, sequence: i32, bytes: usize) -> Option<Vec<u8>> {
        let mut state: Vec<u8> = Vec::new();
        state.try_reserve_exact(bytes).ok()?;
        // SAFETY: the buffer has room for `bytes`.
        let written = unsafe { self.write_state(sequence, state.as_mut_ptr(), bytes) }?;
        // SAFETY: so many bytes were written, all of them within the capacity.
        unsafe { state.set_len(written) };
        Some(state)
    }

    /// The same, to a place that is as large as the state. `false`: the cache doesn't give it.
    pub(crate) fn save_state_to(&mut self, sequence: i32, place: &mut [u8]) -> bool {
        // SAFETY: the place has its length.
        let written = unsafe { self.write_state(sequence, place.as_mut_ptr(), place.len()) };
        written == Some(place.len())
    }

    /// # Safety
    /// There must be room for `bytes`.
    unsafe fn write_state(&mut self, sequence: i32, place: *mut u8, bytes: usize) -> Option<usize> {
        // SAFETY: there is room, as the caller promises, and llama.cpp writes no more than it is told; it answers how
        // many it has written, 0 after an error.
        let written =
            unsafe { sys::llama_state_seq_get_data_ext(self.context.as_ptr(), place, bytes, sequence, WHOLE_STATE) };
        if written == 0 || written > bytes {
            // What it says of the failure belongs to nobody's error.
            drop(drain_log());
            return None;
        }
        Some(written)
    }

    /// Fills an empty sequence. `false`: there is no place for it, and the sequence must be forgotten.
    pub(crate) fn restore_state(&mut self, sequence: i32, state: &[u8]) -> bool {
        // SAFETY: the bytes are valid for their length and were written by this very context's kind in this
        // process; llama.cpp checks what it reads against its cache and answers 0 when it doesn't fit.
        let read = unsafe {
            let (context, flags) = (self.context.as_ptr(), WHOLE_STATE);
            sys::llama_state_seq_set_data_ext(context, state.as_ptr(), state.len(), sequence, flags)
        };
        if read == 0 {
            drop(drain_log());
        }
        read == state.len()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and what it uses is dropped after it.
        unsafe { sys::llama_free(self.context.as_ptr()) }
    }
}

fn ggml_type(kv_cache: KvCache) -> sys::ggml_type {
    match kv_cache {
        KvCache::F16 => sys::GGML_TYPE_F16,
        KvCache::Q8_0 => sys::GGML_TYPE_Q8_0,
        KvCache::Q5_1 => sys::GGML_TYPE_Q5_1,
        KvCache::Q4_0 => sys::GGML_TYPE_Q4_0,
    }
}

fn reason(code: i32) -> String {
    let said = drain_log();
    if said.is_empty() { format!("llama.cpp gives code {code}") } else { said }
}

/// Tokens of several sequences for one step.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    tokens: Vec<Token>,
    positions: Vec<sys::llama_pos>,
    counts: Vec<i32>,
    sequences: Vec<sys::llama_seq_id>,
    pointers: Vec<*mut sys::llama_seq_id>,
    outputs: Vec<i8>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.counts.clear();
        self.sequences.clear();
        self.outputs.clear();
    }

    /// Adds a token and gives its index. `output`: its scores or vector will be asked for.
    pub(crate) fn add(&mut self, token: Token, position: u32, sequence: i32, output: bool) -> usize {
        self.tokens.push(token);
        self.positions.push(i32::try_from(position).unwrap_or(i32::MAX));
        self.counts.push(1);
        self.sequences.push(sequence);
        self.outputs.push(i8::from(output));
        self.tokens.len() - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Pointers into this batch, valid until it is changed.
    fn raw(&mut self) -> sys::llama_batch {
        self.pointers.clear();
        self.pointers.extend(self.sequences.iter_mut().map(std::ptr::from_mut));
        sys::llama_batch {
            n_tokens: i32::try_from(self.tokens.len()).unwrap_or(0),
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.pointers.as_mut_ptr(),
            logits: self.outputs.as_mut_ptr(),
        }
    }
}
