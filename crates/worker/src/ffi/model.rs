//! A model in memory, loaded from descriptors, and its vocabulary.

use super::{Device, account, drain_log, sys};
use std::ffi::{CString, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

pub(crate) type Token = sys::llama_token;

/// A loaded model. Contexts keep it alive through an `Arc`.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) model: NonNull<sys::llama_model>,
    vocab: NonNull<sys::llama_vocab>,
    /// Special tokens whose names are part of the text.
    shown: Vec<Token>,
    /// Looked for when they are first asked for.
    ends: OnceLock<Vec<Token>>,
}

// SAFETY: a model doesn't change once it is loaded, and what is asked of it here only reads. llama.cpp says
// of tokenization that it may be called from several threads; contexts stay with the thread that made them.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

/// How to load.
pub(crate) struct ModelOptions<'a> {
    /// Devices for layers, with how many each gets; the last layers and the output.
    pub(crate) split: &'a [(Device, u32)],
    /// Layers whose experts stay with the processor.
    pub(crate) cpu_experts: &'a [u32],
    /// The processor, which takes everything else.
    pub(crate) cpu: Device,
    /// Of all files.
    pub(crate) bytes: u64,
    /// Told from 0 to 1; `false` ends the loading.
    pub(crate) progress: &'a mut dyn FnMut(f32) -> bool,
}

impl std::fmt::Debug for ModelOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelOptions")
            .field("split", &self.split)
            .field("cpu_experts", &self.cpu_experts)
            .field("bytes", &self.bytes)
            .finish()
    }
}

struct Progress<'a>(&'a mut dyn FnMut(f32) -> bool);

unsafe extern "C" fn on_progress(share: f32, data: *mut c_void) -> bool {
    // SAFETY: `data` is the `Progress` that `load` keeps on its stack while llama.cpp loads, and nobody
    // else touches it meanwhile.
    let progress = unsafe { &mut *data.cast::<Progress<'_>>() };
    (progress.0)(share)
}

impl Model {
    /// Loads a model from its parts, in order. Nothing is opened by a path, except that several parts
    /// are opened anew through `/proc/self/fd`, because llama.cpp takes only paths for them.
    ///
    /// # Errors
    /// With llama.cpp's reason.
    pub(crate) fn load(parts: Vec<OwnedFd>, options: ModelOptions<'_>) -> Result<Self, String> {
        let placement = Placement::new(&options)?;
        account::begin_model(options.bytes);
        let mut progress = Progress(options.progress);
        // SAFETY: returns plain values.
        let mut params = unsafe { sys::llama_model_default_params() };
        placement.enter(&mut params);
        // Weights may be rearranged for faster products.
        params.use_extra_bufts = true;
        params.load_mode = sys::LLAMA_LOAD_MODE_MMAP;
        params.progress_callback = Some(on_progress);
        params.progress_callback_user_data = (&raw mut progress).cast();
        let model = if parts.len() == 1 { load_one(parts, params)? } else { load_parts(&parts, params)? };
        let model = NonNull::new(model).ok_or_else(|| {
            let said = drain_log();
            if said.is_empty() { "llama.cpp gives no reason".to_owned() } else { said }
        })?;
        // SAFETY: the model is alive; its vocabulary is part of it.
        let vocab = unsafe { sys::llama_model_get_vocab(model.as_ptr()) };
        let vocab = NonNull::new(vocab.cast_mut()).ok_or("the model has no vocabulary")?;
        Ok(Self { model, vocab, shown: Vec::new(), ends: OnceLock::new() })
    }

    /// Longest context that the model was trained for, in tokens.
    pub(crate) fn context_trained(&self) -> u32 {
        // SAFETY: the model is alive as long as `self`.
        u32::try_from(unsafe { sys::llama_model_n_ctx_train(self.model.as_ptr()) }).unwrap_or(0)
    }

    pub(crate) fn embedding_dimensions(&self) -> u32 {
        // SAFETY: as above.
        u32::try_from(unsafe { sys::llama_model_n_embd_out(self.model.as_ptr()) }).unwrap_or(0)
    }

    /// What the cache needs for one token if every layer keeps all of them, in bytes. Models with windows
    /// or recurrent layers need several times less.
    pub(crate) fn cache_bytes_per_token(&self) -> u64 {
        // SAFETY: as above.
        let [layers, heads, heads_kept, width] = unsafe {
            let model = self.model.as_ptr();
            [
                sys::llama_model_n_layer(model),
                sys::llama_model_n_head(model),
                sys::llama_model_n_head_kv(model),
                sys::llama_model_n_embd(model),
            ]
        }
        .map(|number| u64::try_from(number).unwrap_or(0));
        // Keys and values, two bytes each.
        layers * heads_kept * width.checked_div(heads).unwrap_or(0) * 4
    }

    /// Whether its cache holds each token by itself: no recurrent state, and no window that moves on.
    pub(crate) fn holds_each_token(&self) -> bool {
        let model = self.model.as_ptr();
        // SAFETY: as above.
        unsafe {
            !sys::llama_model_is_recurrent(model)
                && !sys::llama_model_is_hybrid(model)
                && sys::llama_model_n_swa(model) <= 0
        }
    }

    /// Bytes of all tensors.
    pub(crate) fn weights_bytes(&self) -> u64 {
        // SAFETY: as above.
        unsafe { sys::llama_model_size(self.model.as_ptr()) }
    }

    pub(crate) fn layers(&self) -> u32 {
        // SAFETY: as above.
        u32::try_from(unsafe { sys::llama_model_n_layer(self.model.as_ptr()) }).unwrap_or(0)
    }

    pub(crate) fn heads(&self) -> u32 {
        // SAFETY: as above.
        u32::try_from(unsafe { sys::llama_model_n_head(self.model.as_ptr()) }).unwrap_or(0)
    }

    pub(crate) fn vocabulary_size(&self) -> usize {
        // SAFETY: the vocabulary lives as long as the model.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocab.as_ptr()) }).unwrap_or(0)
    }

    /// Whether a token means the same here and in another model: the kinds of the vocabularies are equal, and so is the
    /// text of each token. At the end of the larger one may stand more that only fill it up.
    ///
    /// # Errors
    /// In words, with the first token that differs.
    pub(crate) fn speaks_as(&self, other: &Model) -> Result<(), String> {
        // SAFETY: both vocabularies live as long as their models.
        let kinds =
            unsafe { [sys::llama_vocab_type(self.vocab.as_ptr()), sys::llama_vocab_type(other.vocab.as_ptr())] };
        if kinds[0] != kinds[1] {
            return Err("its vocabulary is of another kind".into());
        }
        let (own, others) = (self.vocabulary_size(), other.vocabulary_size());
        let common = own.min(others);
        let differs = (0..common).find(|id| self.token_text(*id) != other.token_text(*id));
        if let Some(id) = differs {
            return Err(format!("its token {id} is another one"));
        }
        let longer = if own > others { self } else { other };
        let fills = |id: &usize| longer.token_text(*id).to_bytes() == format!("[PAD{id}]").as_bytes();
        match (common..own.max(others)).find(|id| !fills(id)) {
            Some(_) => Err(format!("it has {own} tokens and not {others}")),
            None => Ok(()),
        }
    }

    /// As it stands in the file. `id` is below the size of the vocabulary.
    fn token_text(&self, id: usize) -> &std::ffi::CStr {
        let Some(token) = Token::try_from(id).ok().filter(|_| id < self.vocabulary_size()) else { return c"" };
        // SAFETY: the token is in the vocabulary, which keeps its texts, each with a zero at its end.
        unsafe {
            let text = sys::llama_vocab_get_text(self.vocab.as_ptr(), token);
            if text.is_null() { c"" } else { std::ffi::CStr::from_ptr(text) }
        }
    }

    /// The token that begins every text, where the model wants one.
    pub(crate) fn begin_token(&self) -> Option<Token> {
        // SAFETY: as above.
        let (wanted, token) =
            unsafe { (sys::llama_vocab_get_add_bos(self.vocab.as_ptr()), sys::llama_vocab_bos(self.vocab.as_ptr())) };
        (wanted && token >= 0).then_some(token)
    }

    /// The token that ends every text, where the model wants one.
    pub(crate) fn end_token(&self) -> Option<Token> {
        // SAFETY: as above.
        let (wanted, end) =
            unsafe { (sys::llama_vocab_get_add_eos(self.vocab.as_ptr()), sys::llama_vocab_eos(self.vocab.as_ptr())) };
        if !wanted {
            return None;
        }
        if end >= 0 { Some(end) } else { self.separator() }
    }

    /// The token that stands between two texts, where the model wants one.
    pub(crate) fn separating_token(&self) -> Option<Token> {
        // SAFETY: as above.
        if unsafe { sys::llama_vocab_get_add_sep(self.vocab.as_ptr()) } { self.separator() } else { None }
    }

    fn separator(&self) -> Option<Token> {
        // SAFETY: as above.
        let token = unsafe { sys::llama_vocab_sep(self.vocab.as_ptr()) };
        (token >= 0).then_some(token)
    }

    /// How a query and a document are put together, where the file says it.
    pub(crate) fn rank_template(&self) -> Option<String> {
        // SAFETY: the model is alive; the text belongs to it and ends with a zero.
        unsafe {
            let text = sys::llama_model_chat_template(self.model.as_ptr(), c"rerank".as_ptr());
            if text.is_null() { None } else { Some(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()) }
        }
    }

    /// Numbers that the classifier gives for each text.
    pub(crate) fn classes(&self) -> u32 {
        // SAFETY: as above.
        unsafe { sys::llama_model_n_cls_out(self.model.as_ptr()) }
    }

    /// Some token that can stand alone, for a first warm-up.
    pub(crate) fn any_token(&self) -> Token {
        self.begin_token().unwrap_or(0)
    }

    /// Whether a sequence can forget its last tokens: a state of the whole past can't.
    pub(crate) fn can_go_back(&self) -> bool {
        // SAFETY: the model is alive as long as `self`.
        unsafe {
            let model = self.model.as_ptr();
            !sys::llama_model_is_recurrent(model) && !sys::llama_model_is_hybrid(model)
        }
    }

    /// Ends the turn, the text or the file.
    pub(crate) fn ends(&self, token: Token) -> bool {
        // SAFETY: as above; tokens come from this vocabulary.
        unsafe { sys::llama_vocab_is_eog(self.vocab.as_ptr(), token) }
    }

    /// All tokens that end the turn, the text or the file.
    pub(crate) fn end_tokens(&self) -> &[Token] {
        self.ends.get_or_init(|| {
            let count = Token::try_from(self.vocabulary_size()).unwrap_or(Token::MAX);
            (0..count).filter(|token| self.ends(*token)).collect()
        })
    }

    /// Stands for itself and not for the letters of its name: a control token, one that is unknown or unused, and
    /// one of the model's maker whose name stands in brackets, such as `<think>`.
    pub(crate) fn is_special(&self, token: Token) -> bool {
        // SAFETY: as above; tokens come from this vocabulary.
        let attributes = unsafe { sys::llama_vocab_get_attr(self.vocab.as_ptr(), token) };
        let always = sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN | sys::LLAMA_TOKEN_ATTR_UNUSED;
        if attributes & always != 0 {
            return true;
        }
        let mut name = Vec::new();
        if attributes & sys::LLAMA_TOKEN_ATTR_USER_DEFINED != 0 {
            self.whole_piece(token, &mut name);
        }
        matches!(name.as_slice(), [b'<', _, .., b'>'] | [b'[', _, .., b']'])
    }

    /// Whether the cache can hold several sequences that begin alike without keeping the beginning twice. Recurrent
    /// states can't, and the cache of a model that sees only a window of its context grows with every sequence.
    pub(crate) fn branches(&self) -> bool {
        // SAFETY: the model is alive.
        unsafe {
            let model = self.model.as_ptr();
            let recurrent = sys::llama_model_is_recurrent(model) || sys::llama_model_is_hybrid(model);
            !recurrent && sys::llama_model_n_swa(model) == 0
        }
    }

    /// Tokens that the model's file forbids to generate.
    pub(crate) fn suppressed(&self) -> Vec<Token> {
        let mut count = 0;
        // SAFETY: the list belongs to the vocabulary and holds `count` tokens.
        unsafe {
            let list = sys::llama_vocab_get_suppress_tokens(self.vocab.as_ptr(), &raw mut count);
            let count = usize::try_from(count).unwrap_or(0);
            if list.is_null() || count == 0 { Vec::new() } else { std::slice::from_raw_parts(list, count).to_vec() }
        }
    }

    /// Tokens of a text. `frame`: with the tokens that frame every text of this model;
    /// `special`: names of special tokens in the text become those tokens.
    ///
    /// # Errors
    /// When the text is too long for llama.cpp to count.
    pub(crate) fn tokens(&self, text: &str, frame: bool, special: bool) -> Result<Vec<Token>, String> {
        let length = i32::try_from(text.len()).map_err(|_| format!("{} bytes of text are too many", text.len()))?;
        // One token per byte is the most that a vocabulary makes, and a few more frame the text.
        let mut tokens: Vec<Token> = vec![0; text.len() + 8];
        loop {
            let room = i32::try_from(tokens.len()).map_err(|_| "the text has too many tokens".to_owned())?;
            // SAFETY: the text and the buffer are valid for the lengths given, and the vocabulary is alive.
            let count = unsafe {
                sys::llama_tokenize(
                    self.vocab.as_ptr(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    room,
                    frame,
                    special,
                )
            };
            if count == i32::MIN {
                return Err("the text has too many tokens".into());
            }
            if let Ok(count) = usize::try_from(count) {
                tokens.truncate(count);
                return Ok(tokens);
            }
            tokens.resize(usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX), 0);
        }
    }

    /// From now on these special tokens are part of the text. A name that is no token of this model is passed over.
    pub(crate) fn show(&mut self, names: &[String]) {
        let alone = |name: &String| match self.tokens(name, false, true).as_deref() {
            Ok([token]) => Some(*token),
            Ok(_) | Err(_) => None,
        };
        self.shown = names.iter().filter_map(alone).collect();
    }

    /// Appends the bytes of a token; a control token has none, unless it is shown.
    pub(crate) fn piece(&self, token: Token, bytes: &mut Vec<u8>) {
        self.render(token, self.shown.contains(&token), bytes);
    }

    /// Appends the bytes of a token, of a control token its name.
    pub(crate) fn whole_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        self.render(token, true, bytes);
    }

    /// A token as people are shown it; control tokens by their names.
    pub(crate) fn shown(&self, token: Token) -> String {
        let mut bytes = Vec::new();
        self.whole_piece(token, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn render(&self, token: Token, special: bool, bytes: &mut Vec<u8>) {
        let mut buffer = [0_u8; 128];
        let mut large = Vec::new();
        let mut room: &mut [u8] = &mut buffer;
        loop {
            let length = i32::try_from(room.len()).unwrap_or(i32::MAX);
            // SAFETY: the buffer is valid for its length, and the vocabulary is alive.
            let count = unsafe {
                sys::llama_token_to_piece(self.vocab.as_ptr(), token, room.as_mut_ptr().cast(), length, 0, special)
            };
            match usize::try_from(count) {
                Ok(count) => return bytes.extend_from_slice(&room[..count]),
                Err(_) => large.resize(usize::try_from(count.unsigned_abs()).unwrap_or(0), 0),
            }
            room = &mut large;
        }
    }
}

/// Which device takes what, in the form that llama.cpp reads while it loads.
struct Placement {
    layers: i32,
    /// Ends with null.
    devices: Vec<sys::ggml_backend_dev_t>,
    shares: Vec<f32>,
    /// What `overrides` points to.
    _patterns: Vec<CString>,
    /// Ends with a null pattern.
    overrides: Vec<sys::llama_model_tensor_buft_override>,
}

impl Placement {
    fn new(options: &ModelOptions<'_>) -> Result<Self, String> {
        let used: Vec<(Device, u32)> = options.split.iter().copied().filter(|(_, layers)| *layers > 0).collect();
        let layers: u32 = used.iter().map(|(_, layers)| layers).sum();
        let mut devices: Vec<_> = used.iter().map(|(device, _)| device.dev.as_ptr()).collect();
        devices.push(std::ptr::null_mut());
        #[expect(clippy::cast_precision_loss, reason = "numbers of layers are far below 2^24")]
        let mut shares: Vec<f32> = used.iter().map(|(_, layers)| *layers as f32).collect();
        // SAFETY: takes nothing and returns a number: llama.cpp reads so many shares.
        let most = unsafe { sys::llama_max_devices() };
        if shares.len() > most {
            return Err(format!("the model is divided between {} devices; llama.cpp takes {most}", shares.len()));
        }
        shares.resize(most, 0.0);
        let pattern = |layer: &u32| CString::new(format!(r"^blk\.{layer}\.ffn_.*_exps"));
        let patterns: Result<Vec<CString>, _> = options.cpu_experts.iter().map(pattern).collect();
        let patterns = patterns.map_err(|_| "a pattern has a zero byte".to_owned())?;
        // SAFETY: the processor's device is alive, as all are.
        let buft = unsafe { sys::ggml_backend_dev_buffer_type(options.cpu.dev.as_ptr()) };
        let to_cpu = |pattern| sys::llama_model_tensor_buft_override { pattern, buft };
        let mut overrides: Vec<_> = patterns.iter().map(|pattern| to_cpu(pattern.as_ptr())).collect();
        overrides.push(to_cpu(std::ptr::null()));
        let layers = i32::try_from(layers).map_err(|_| format!("{layers} layers are too many"))?;
        Ok(Self { layers, devices, shares, _patterns: patterns, overrides })
    }

    /// The parameters point into `self` from now on, which must outlive the loading.
    fn enter(&self, params: &mut sys::llama_model_params) {
        params.n_gpu_layers = self.layers;
        params.devices = self.devices.as_ptr().cast_mut();
        params.split_mode = sys::LLAMA_SPLIT_MODE_LAYER;
        params.tensor_split = self.shares.as_ptr();
        params.tensor_buft_overrides = self.overrides.as_ptr();
    }
}

/// An adapter of a model. It is freed with its model.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(super) adapter: NonNull<sys::llama_adapter_lora>,
    _model: Arc<Model>,
}

impl Adapter {
    /// Loads an adapter from its descriptor. Must happen before a context is made, which has room for the adapters
    /// that it finds.
    ///
    /// # Errors
    /// With llama.cpp's reason: another architecture, or tensors that don't suit the model.
    pub(crate) fn load(model: &Arc<Model>, fd: OwnedFd) -> Result<Self, String> {
        let stream = Stream::of(fd)?;
        // SAFETY: the model is alive and no context computes with it yet; the stream is open for reading, and
        // llama.cpp copies what it reads.
        let adapter =
            unsafe { sys::llama_adapter_lora_init_from_file_ptr(model.model.as_ptr(), stream.0.as_ptr().cast()) };
        let adapter = NonNull::new(adapter).ok_or_else(|| {
            let said = drain_log();
            if said.is_empty() { "llama.cpp gives no reason".to_owned() } else { said }
        })?;
        // SAFETY: the adapter was just loaded.
        if unsafe { sys::llama_adapter_get_alora_n_invocation_tokens(adapter.as_ptr()) } > 0 {
            return Err("it works from certain words of a text on only, and that isn't supported".into());
        }
        Ok(Self { adapter, _model: Arc::clone(model) })
    }
}

/// A descriptor as C reads it, closed when dropped.
struct Stream(NonNull<libc::FILE>);

impl Stream {
    fn of(fd: OwnedFd) -> Result<Self, String> {
        let raw = fd.into_raw_fd();
        // SAFETY: the descriptor is ours and open for reading; on success the stream owns it, and else it is closed
        // here.
        unsafe {
            let stream = libc::fdopen(raw, c"rb".as_ptr());
            let Some(stream) = NonNull::new(stream) else {
                let error = std::io::Error::last_os_error();
                libc::close(raw);
                return Err(format!("the descriptor can't be read: {error}"));
            };
            libc::rewind(stream.as_ptr());
            Ok(Self(stream))
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is ours and is closed once. Nobody keeps a reference to it.
        unsafe {
            libc::fclose(self.0.as_ptr());
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the model is ours; contexts hold an `Arc` to us, so none is left.
        unsafe { sys::llama_model_free(self.model.as_ptr()) }
    }
}

fn load_one(mut parts: Vec<OwnedFd>, params: sys::llama_model_params) -> Result<*mut sys::llama_model, String> {
    let stream = Stream::of(parts.pop().ok_or("no model was passed")?)?;
    // SAFETY: the stream is open for reading. llama.cpp reads from it and maps it during the call and keeps no
    // reference to it. A mapping stays valid without its descriptor.
    Ok(unsafe { sys::llama_model_load_from_file_ptr(stream.0.as_ptr().cast(), params) })
}

fn load_parts(parts: &[OwnedFd], params: sys::llama_model_params) -> Result<*mut sys::llama_model, String> {
    let paths: Result<Vec<CString>, _> =
        parts.iter().map(|fd| CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))).collect();
    let paths = paths.map_err(|_| "a path has a zero byte".to_owned())?;
    let mut pointers: Vec<_> = paths.iter().map(|path| path.as_ptr()).collect();
    // SAFETY: the list holds as many valid strings as it says, and all outlive the call.
    Ok(unsafe { sys::llama_model_load_from_splits(pointers.as_mut_ptr(), pointers.len(), params) })
}
