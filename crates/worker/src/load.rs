//! From the `Load` directive to a context that is ready to compute, confined on the way.
//!
//! Backends are our own files and are loaded first. Then the process gives up files, sockets and
//! processes, and only then looks at the first byte of the model, which may be hostile. A model in
//! several parts and a GPU need one exception each, stated at [`confine`].

use crate::draft_model::DraftModel;
use crate::ffi::{
    Adapter, Backend, Batch, Context, ContextOptions, Decoded, Device, Model, ModelOptions, Pages, Pooling,
    copies_weights, memory_bytes,
};
use crate::link::micros;
use crate::room::{self, Rooms};
use crate::threads::{self, Threads};
use batch::crew::Phase;
use jail::{Filter, Rules};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wire::{
    Directive, KvCache, Load, Offload, Ready, Receiver, Report, Sender, WireDeviceKind, WireError, WireFault,
    WireProtection,
};

/// LIMIT: ggml's own, which it doesn't check.
const THREADS_MAX: u32 = 512;
/// LIMIT: memory for a step grows with it.
const BATCH_TOKENS_MAX: u32 = 1 << 16;
/// LIMIT: llama.cpp's own, for ids of sequences.
const SEQUENCES_MAX: u32 = 256;
/// LIMIT: texts in one computation of vectors.
const EMBED_SEQUENCES_MAX: u32 = 64;
/// More tokens at a time make vectors slower, because every token is compared with every other.
const EMBED_BATCH_TOKENS: u32 = 512;

/// Tokens of the second warm-up on a GPU: enough for the programs that read prompts.
const WARM_TOKENS: u32 = 64;

/// Ready to compute.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) context: Context,
    pub(crate) rooms: Rooms,
    pub(crate) ready: Ready,
    /// Most tokens in one step; of an embedder, in a step of several texts.
    pub(crate) batch_tokens: u32,
    pub(crate) threads: Threads,
    /// How the context was made, for a worker that makes vectors.
    pub(crate) embed: Option<ContextOptions>,
    /// In the order of the load, each with the reason where it doesn't suit the model.
    pub(crate) adapters: Vec<Result<Adapter, WireFault>>,
    /// For states of jobs that step back.
    pub(crate) park_bytes: u64,
    /// Whether answers may be drafted for: wanted, and possible with this model.
    pub(crate) drafts: bool,
    /// Guesses too.
    pub(crate) draft_model: Option<DraftModel>,
}

/// Why there is nothing to compute with.
#[derive(Debug)]
pub(crate) enum Stop {
    Link(WireError),
    Fault(WireFault),
}

impl From<WireFault> for Stop {
    fn from(fault: WireFault) -> Self {
        Self::Fault(fault)
    }
}

/// Waits for `Load` and does it.
///
/// # Errors
/// When the link breaks, or with the fault to report.
pub(crate) fn load(receiver: &mut Receiver, sender: &mut Sender) -> Result<Loaded, Stop> {
    let (directive, mut parts) = receiver.recv::<Directive>().map_err(Stop::Link)?;
    let load = match directive {
        Directive::Load(load) => load,
        Directive::Shutdown => return Err(Stop::Link(WireError::Closed)),
        _ => return Err(WireFault::Protocol("the first directive must be Load".into()).into()),
    };
    let start = Instant::now();
    check(&load, &parts)?;
    let adapter_files = parts.split_off(parts.len() - load.adapters.len());
    let draft_file = if load.draft_model.is_some() { parts.pop() } else { None };
    let backends = load_backends(&load.backends)?;
    let cpu = backends.iter().copied().find(|backend| backend.name() == "CPU");
    let cpu = cpu.ok_or_else(|| WireFault::BackendFailed("no CPU backend is named; every model needs one".into()))?;
    let devices: Vec<_> = backends.iter().flat_map(|backend| backend.devices()).collect();
    let split = split(&load.offload, &devices)?;
    let gpu = !split.is_empty();
    // Opened now, read later: no path can be opened any more then.
    let (idle, resident, pages) = (threads::Meter::open(), room::Meter::open(), Pages::of(&parts));
    let draft_pages = Pages::of(draft_file.as_slice());
    let first = confine(&first_rules(gpu, &parts), load.confine)?;
    let several = parts.len() > 1;
    // Before the model, whose bytes are counted from its own beginning.
    let draft_model = match (&load.draft_model, draft_file) {
        (Some(_), _) if gpu => Some(Err("the model has layers on a graphics device".to_owned())),
        (Some(wanted), Some(file)) => Some(DraftModel::load(wanted, (file, &draft_pages), cpu, load.threads)),
        _ => None,
    };
    let model = load_model(&load, &split, cpu, (parts, &pages), sender)?;
    let adapters = load_adapters(&load.adapters, adapter_files, &model);
    let sizes = load.embed.then(|| EmbedSizes::of(&load, model.context_trained()));
    let (mut context, options) = make_context(&load, sizes, Arc::clone(&model))?;
    let embed = load.embed.then_some(options);
    let rooms = Rooms::new(options, &context, load.context_max, resident);
    let protection = if gpu || several {
        // A driver makes its programs when they are first used: those for one token, and those for many.
        let many = if gpu { WARM_TOKENS.min(load.batch_tokens) } else { 1 };
        warm_up(&mut context, load.embed, 1)?;
        warm_up(&mut context, load.embed, many)?;
        confine(&last_rules(&split), load.confine)?
    } else {
        first
    };
    let mut threads = Threads::new(&load, cpu, idle, !gpu);
    threads.begin(&mut context, Phase::Answer).map_err(WireFault::BackendFailed)?;
    warm_up(&mut context, load.embed, 1)?;
    let drafts = load.drafts && model.can_go_back();
    let draft_model = draft_model.map(|made| made.and_then(|draft| draft.begin_beside(&context, drafts)));
    let (draft_model, draft_refused) = match draft_model {
        Some(Ok(draft)) => (Some(draft), None),
        Some(Err(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let ready = Ready {
        context_tokens: sizes.map_or_else(|| context.window(), |sizes| sizes.window),
        sequences_max: if load.embed { EMBED_SEQUENCES_MAX } else { load.sequences_max },
        embedding_dimensions: model.embedding_dimensions(),
        devices: devices.iter().map(|device| device.name()).collect(),
        offload: load.offload.clone(),
        features: cpu.features(),
        threads: load.threads,
        load_us: micros(start.elapsed()),
        context_trained: model.context_trained(),
        room: rooms.report(Some(&context)),
        protection,
        draft_model: draft_model.as_ref().map(|draft| draft.name().to_owned()),
        draft_refused,
    };
    let batch_tokens = sizes.map_or(load.batch_tokens, |sizes| sizes.together);
    let park_bytes = load.park_bytes;
    Ok(Loaded { context, rooms, ready, batch_tokens, embed, adapters, park_bytes, drafts, threads, draft_model })
}

fn check(load: &Load, parts: &[OwnedFd]) -> Result<(), WireFault> {
    let wrong = |words: &str| Err(WireFault::Protocol(words.into()));
    if parts.len() <= load.adapters.len() + usize::from(load.draft_model.is_some()) {
        return wrong("Load brought no descriptor of a model, of its draft model, or of an adapter");
    }
    if load.backends.is_empty() {
        return wrong("Load names no backend");
    }
    if load.threads == 0
        || load.prompt_threads == 0
        || load.sequences_max == 0
        || load.batch_tokens < load.sequences_max
    {
        return wrong("Load needs at least one thread, one sequence, and a token in each batch for every sequence");
    }
    if load.threads.max(load.prompt_threads) > THREADS_MAX || load.batch_tokens > BATCH_TOKENS_MAX {
        return wrong("Load asks for more threads or larger batches than llama.cpp can handle");
    }
    Ok(())
}

/// Loads backend files from the folder of this program: nothing else is ever executed.
fn load_backends(names: &[String]) -> Result<Vec<Backend>, WireFault> {
    let failed = |words: String| WireFault::BackendFailed(words);
    let program = std::env::current_exe().map_err(|error| failed(format!("the program's own place: {error}")))?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let mut backends = Vec::new();
    for name in names {
        let file = folder.join(name);
        if file.parent() != Some(folder) {
            return Err(failed(format!("{name} doesn't lie beside the worker in {}", folder.display())));
        }
        let backend = Backend::load(&file).map_err(|reason| failed(format!("{}: {reason}", file.display())))?;
        backends.push(backend);
    }
    Ok(backends)
}

fn filter(gpu: bool) -> Filter {
    if gpu { Filter::WorkerGpu } else { Filter::WorkerCpu }
}

/// What stays within reach while the model is loaded. On a processor with a model in one part:
/// nothing at all. Parts are opened by their descriptor's name; a driver reads the system's libraries
/// and its device files.
pub(crate) fn first_rules(gpu: bool, parts: &[OwnedFd]) -> Rules {
    let mut rules = if gpu { gpu_rules() } else { Rules::default() };
    if parts.len() > 1 {
        rules.read.extend(parts.iter().map(|part| PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()))));
    }
    rules.with_filter(filter(gpu))
}

/// For drivers, while they start.
pub(crate) fn gpu_rules() -> Rules {
    let mut rules = Rules::system_read();
    let own = |name: &str| ["nvidia", "kfd", "dri"].iter().any(|prefix| name.starts_with(prefix));
    if let Ok(devices) = std::fs::read_dir("/dev") {
        let paths =
            devices.flatten().filter(|entry| own(&entry.file_name().to_string_lossy())).map(|entry| entry.path());
        rules.write.extend(paths);
    }
    rules
}

/// What stays once the model is loaded: nothing. A processor that plays a graphics device makes programs for
/// itself all the time, so code may still be mapped there; a rule with a path says so, and leads nowhere.
fn last_rules(split: &[(Device, u32)]) -> Rules {
    let rules = Rules::default().with_filter(filter(!split.is_empty()));
    let software = split.iter().any(|(device, _)| device.describe().kind == WireDeviceKind::Software);
    if software { rules.and_read(Path::new("/dev/null")) } else { rules }
}

/// Gives up everything but `rules`.
pub(crate) fn confine(rules: &Rules, required: bool) -> Result<WireProtection, WireFault> {
    let protection = match jail::apply(rules) {
        Ok(protection) => protection,
        Err(error) if required => return Err(WireFault::ConfinementFailed(error.to_string())),
        Err(error) => jail::Protection { missing: vec![error.to_string()], ..jail::Protection::default() },
    };
    if required && !protection.missing.is_empty() {
        return Err(WireFault::ConfinementFailed(protection.missing.join("; ")));
    }
    Ok(WireProtection {
        landlock_abi: protection.landlock_abi,
        no_new_privileges: protection.no_new_privileges,
        seccomp: protection.seccomp,
        filter: protection.filter,
        core_dumps_off: protection.core_dumps_off,
        missing: protection.missing,
    })
}

/// The devices that get layers, and how many.
fn split(offload: &Offload, devices: &[Device]) -> Result<Vec<(Device, u32)>, WireFault> {
    let gpus: Vec<Device> = devices.iter().copied().filter(|device| device.is_gpu()).collect();
    if offload.split.len() > gpus.len() {
        let (wanted, here) = (offload.split.len(), gpus.len());
        return Err(WireFault::BackendFailed(format!("layers are meant for {wanted} devices; {here} are here")));
    }
    Ok(gpus.into_iter().zip(offload.split.iter().copied()).filter(|(_, layers)| *layers > 0).collect())
}

fn load_model(
    load: &Load,
    split: &[(Device, u32)],
    cpu: Backend,
    (parts, pages): (Vec<OwnedFd>, &Pages),
    sender: &mut Sender,
) -> Result<Arc<Model>, Stop> {
    let (mut said, mut given_back) = (0, None);
    let mut broken = None;
    let mut progress = |share: f32| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
        let percent = (share * 100.0).clamp(0.0, 100.0) as u8;
        if given_back.replace(percent) != Some(percent) {
            let_go_of_copied(pages);
        }
        if percent > said && broken.is_none() {
            said = percent;
            broken = sender.send(&Report::Loading { percent }).err();
        }
        broken.is_none()
    };
    let cpu = cpu.devices().first().copied();
    let cpu = cpu.ok_or_else(|| WireFault::BackendFailed("the CPU backend has no device".into()))?;
    let cpu_experts = &load.offload.cpu_experts;
    let options = ModelOptions { split, cpu_experts, cpu, bytes: pages.bytes(), progress: &mut progress };
    let model = Model::load(parts, options);
    let_go_of_copied(pages);
    if let Some(error) = broken {
        return Err(Stop::Link(error));
    }
    let mut model = model.map_err(|reason| memory_or(reason, WireFault::LoadFailed))?;
    model.show(&load.shown);
    Ok(Arc::new(model))
}

/// Where all weights are used in their file, all of its pages are wanted.
fn let_go_of_copied(pages: &Pages) {
    if copies_weights() {
        pages.let_go();
    }
}

/// One that doesn't suit the model costs only the jobs that want it.
fn load_adapters(names: &[String], files: Vec<OwnedFd>, model: &Arc<Model>) -> Vec<Result<Adapter, WireFault>> {
    let load = |(name, file): (&String, OwnedFd)| {
        let unfit = |reason| WireFault::AdapterUnfit { adapter: name.clone(), reason };
        Adapter::load(model, file).map_err(unfit)
    };
    names.iter().zip(files).map(load).collect()
}

/// Sizes of an embedder's work, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EmbedSizes {
    /// The longest text.
    window: u32,
    /// What the context has memory for: the longest text, seen in one step.
    step: u32,
    /// Texts are put together in one step up to here.
    together: u32,
}

impl EmbedSizes {
    fn of(load: &Load, trained: u32) -> Self {
        let wanted = if load.context_tokens == 0 { trained } else { load.context_tokens.min(trained) };
        // The daemon has counted memory for so many tokens at once and no more.
        let window = wanted.min(load.batch_tokens).max(1);
        Self { window, step: window.max(EMBED_BATCH_TOKENS), together: load.batch_tokens.min(EMBED_BATCH_TOKENS) }
    }
}

fn make_context(
    load: &Load,
    sizes: Option<EmbedSizes>,
    model: Arc<Model>,
) -> Result<(Context, ContextOptions), WireFault> {
    let failed = |reason: String| memory_or(reason, WireFault::LoadFailed);
    let Some(EmbedSizes { step, .. }) = sizes else {
        let options = ContextOptions {
            context_tokens: load.context_tokens,
            sequences_max: load.sequences_max,
            sequences_kept: sequences_kept(load.sequences_max, &model),
            batch_tokens: load.batch_tokens,
            threads: load.threads,
            kv_on_gpu: load.offload.kv_on_gpu,
            kv_cache: load.kv_cache,
            embed: None,
            judges: true,
            whole_windows: false,
        };
        check_memory(load.context_tokens, model.cache_bytes_per_token(), memory_bytes())?;
        let context = Context::new(model, options).map_err(|reason| cache_or(reason, load.kv_cache))?;
        // A model that looks both ways keeps nothing of what it has read.
        if !context.has_cache() {
            return Err(WireFault::Unfit("this model makes vectors and can't generate text".into()));
        }
        return Ok((context, options));
    };
    let options = |pooling| ContextOptions {
        context_tokens: step,
        sequences_max: EMBED_SEQUENCES_MAX,
        sequences_kept: 0,
        batch_tokens: step,
        threads: load.threads,
        kv_on_gpu: load.offload.kv_on_gpu,
        kv_cache: KvCache::F16,
        embed: Some(pooling),
        judges: false,
        whole_windows: false,
    };
    let context = Context::new(Arc::clone(&model), options(Pooling::OfModel)).map_err(failed)?;
    if context.pools_text() {
        return Ok((context, options(Pooling::OfModel)));
    }
    // The file doesn't say how to make one vector of many: their mean.
    drop(context);
    let context = Context::new(model, options(Pooling::Mean)).map_err(failed)?;
    Ok((context, options(Pooling::Mean)))
}

/// Ids beside those of running sequences. A recurrent state or a window takes memory for each id, whoever has it:
/// such a model keeps sequences under ids that no job needs at the moment.
fn sequences_kept(running: u32, model: &Model) -> u32 {
    let most = SEQUENCES_MAX.saturating_sub(running).min(wire::KEPT_SEQUENCES);
    if model.holds_each_token() { most } else { 0 }
}

/// llama.cpp finds out that a context is far beyond the memory only after it has filled much of it.
pub(crate) fn check_memory(context_tokens: u32, token_bytes: u64, memory: Option<u64>) -> Result<(), WireFault> {
    /// Beyond what windows and recurrent layers save.
    const SPARING: u64 = 16;
    let Some(memory) = memory else { return Ok(()) };
    let least = u64::from(context_tokens) * token_bytes / SPARING;
    if least <= memory {
        return Ok(());
    }
    let gib = |bytes: u64| bytes >> 30;
    Err(WireFault::MemoryShort(format!(
        "a context of {context_tokens} tokens needs at least {} GiB; this machine has {}",
        gib(least),
        gib(memory)
    )))
}

/// Computes some tokens, so that the first real one finds its memory touched, and what doesn't work
/// under the confinement shows now.
fn warm_up(context: &mut Context, embed: bool, tokens: u32) -> Result<(), WireFault> {
    let mut batch = Batch::default();
    for position in 0..tokens.min(context.window()) {
        batch.add(context.model().any_token(), position, 0, embed || position == 0);
    }
    let outcome = if embed { context.encode(&mut batch) } else { context.decode(&mut batch) };
    context.forget(0, 0);
    match outcome {
        Decoded::Done => Ok(()),
        Decoded::Failed(reason) => Err(WireFault::LoadFailed(format!("the first token can't be computed: {reason}"))),
        Decoded::Full | Decoded::Aborted => Err(WireFault::LoadFailed("the first token finds no room".into())),
    }
}

/// llama.cpp says in words too when a model can't have its keys and values in a packed type.
fn cache_or(reason: String, kv_cache: KvCache) -> WireFault {
    let lower = reason.to_lowercase();
    let about_cache = ["cache type", "quantized v cache", "flash_attn", "flash attention"];
    if kv_cache != KvCache::F16 && about_cache.iter().any(|words| lower.contains(words)) {
        WireFault::KvCacheUnfit { kv_cache, reason }
    } else {
        memory_or(reason, WireFault::LoadFailed)
    }
}

/// llama.cpp says in words when memory is short.
pub(crate) fn memory_or(reason: String, other: impl Fn(String) -> WireFault) -> WireFault {
    let short = ["failed to allocate", "unable to allocate", "out of memory", "cannot allocate", "bad_alloc"];
    if short.iter().any(|words| reason.to_lowercase().contains(words)) {
        WireFault::MemoryShort(reason)
    } else {
        other(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_memory_is_told_from_a_bad_model() {
        let other = WireFault::LoadFailed;
        let short =
            memory_or("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9".into(), other);
        assert!(matches!(short, WireFault::MemoryShort(_)));
        assert!(matches!(memory_or("invalid magic".into(), other), WireFault::LoadFailed(_)));
    }

    #[test]
    fn an_embedder_takes_no_more_at_once_than_the_daemon_has_counted() {
        let sizes = |context_tokens, batch_tokens, trained| {
            let load = Load {
                backends: Vec::new(),
                embed: true,
                context_tokens,
                context_max: 0,
                sequences_max: 1,
                batch_tokens,
                threads: 1,
                prompt_threads: 1,
                quota_milli: 0,
                offload: wire::Offload::default(),
                kv_cache: KvCache::F16,
                adapters: Vec::new(),
                park_bytes: 0,
                confine: true,
                shown: Vec::new(),
                drafts: true,
                draft_model: None,
            };
            let EmbedSizes { window, step, together } = EmbedSizes::of(&load, trained);
            (window, step, together)
        };
        assert_eq!(sizes(0, 512, 512), (512, 512, 512));
        // Long texts are seen whole, short ones are still put together in small steps.
        assert_eq!(sizes(0, 8192, 8192), (8192, 8192, 512));
        // A wish for a larger window than was counted with is not granted.
        assert_eq!(sizes(32_768, 8192, 32_768), (8192, 8192, 512));
        assert_eq!(sizes(100, 8192, 8192), (100, 512, 512));
        assert_eq!(sizes(0, 64, 8192), (64, 512, 64));
    }

    #[test]
    fn only_contexts_beyond_reason_are_refused_unseen() {
        let memory = Some(16 << 30);
        for (tokens, token_bytes, fits) in
            [(4096, 23_000, true), (1 << 20, 128 << 10, true), (200_000_000, 23_000, false), (u32::MAX, 0, true)]
        {
            assert_eq!(check_memory(tokens, token_bytes, memory).is_ok(), fits, "{tokens} × {token_bytes}");
        }
        assert!(check_memory(u32::MAX, 1 << 20, None).is_ok());
    }

    #[test]
    fn backends_lie_beside_the_worker_and_nowhere_else() {
        for name in ["/etc/passwd", "../libggml-cpu.so", "sub/libggml-cpu.so"] {
            let Err(WireFault::BackendFailed(words)) = load_backends(&[name.to_owned()]) else { panic!("{name}") };
            assert!(words.contains("beside the worker"), "{words}");
        }
    }

    #[test]
    fn a_processor_with_one_file_needs_no_path_at_all() {
        let rules = first_rules(false, &[]);
        assert!(rules.read.is_empty() && rules.write.is_empty() && rules.execute.is_empty());
        assert_eq!(rules.filter, Filter::WorkerCpu);
    }
}
