//! What a model's cache keeps, layer by layer, as its header tells: all tokens, a window of them, or a state.
//!
//! llama.cpp decides by architecture, so this does too. An architecture that isn't listed here keeps every token in
//! every layer that has keys; that is the most it can be.

use super::ENCODERS;
use crate::gguf::{Header, Value};
use base::CacheShape;

/// Keeps a state in every layer, and no token.
const RECURRENT: [&str; 6] = ["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"];
/// Keeps a state in each layer whose keys have no head.
const STATE_WITHOUT_HEADS: [&str; 5] = ["jamba", "granitehybrid", "lfm2", "lfm2moe", "kimi-linear"];
/// Keeps a state in all layers but every so many.
const STATE_BETWEEN: [&str; 3] = ["qwen3next", "qwen35", "qwen35moe"];
const STATE_BETWEEN_EVERY: u64 = 4;
/// Bytes of a number in a state.
const STATE_NUMBER_BYTES: u64 = 4;
/// Tokens that Kimi's convolutions look back over, and RWKV's shifts, where the header doesn't say.
const KDA_LOOK_BACK: u64 = 3;
const TOKEN_SHIFTS: u64 = 2;

/// Which layers look back over a window only, where the file has no list of them.
struct Sliding {
    arch: &'static str,
    /// One of so many sees everything.
    every: u64,
    /// It is the first of them, else the last.
    first: bool,
    /// The window where the header doesn't say; 0: then there is none.
    window: u32,
    /// Whatever window the header names, it is this.
    fixed: Option<u32>,
}

const fn sliding(arch: &'static str, every: u64) -> Sliding {
    Sliding { arch, every, first: false, window: 0, fixed: None }
}

const SLIDING: [Sliding; 16] = [
    Sliding { window: 4096, ..sliding("gemma2", 2) },
    sliding("gemma3", 6),
    sliding("gemma3n", 5),
    sliding("gpt-oss", 2),
    sliding("cohere2", 4),
    Sliding { first: true, ..sliding("cohere2moe", 4) },
    Sliding { window: 128, ..sliding("exaone-moe", 4) },
    sliding("afmoe", 4),
    sliding("olmo2", 4),
    sliding("plamo3", 8),
    sliding("mellum", 4),
    sliding("muse-glimmer", 4),
    Sliding { first: true, ..sliding("laguna", 4) },
    Sliding { first: true, fixed: Some(4096), ..sliding("smallthinker", 4) },
    // Chunks instead of a window: they take the same room.
    Sliding { window: 8192, fixed: Some(8192), ..sliding("llama4", 4) },
    // All that attends slides.
    sliding("lfm2", 0),
];
/// The file lists which layers slide.
const SLIDING_BY_LIST: [&str; 6] = ["gemma4", "mimo2", "step35", "granite_swa", "spark2_5", "maple"];
/// Layers of Gemma 3n that keep keys and values; the others use theirs.
const GEMMA3N_KEEPING: u64 = 20;

/// One layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Layer {
    /// Bytes of one token's keys and values, at 16 bits.
    kv: u64,
    slides: bool,
    /// Bytes of a state, for each sequence.
    state: u64,
}

/// What all layers keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    layers: Vec<Layer>,
    window: u32,
}

impl Kept {
    /// `None` when the header doesn't say, and for encoders, which keep nothing.
    pub(super) fn read(header: &Header, arch: &str, layers: u32, embedding: u32) -> Option<Self> {
        if ENCODERS.contains(&arch) {
            return None;
        }
        let reader = Reader { header, arch, layers, embedding: embedding.into() };
        let window = reader.window();
        let kept = Self { layers: reader.kept(window)?, window };
        // Numbers beyond reason are none.
        let sum =
            |part: fn(&Layer) -> u64| kept.layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(part(layer)));
        (sum(|layer| layer.kv).is_some() && sum(|layer| layer.state).is_some()).then_some(kept)
    }

    /// Keys and values of each layer, as if all kept every token.
    pub(super) fn kv_bytes(&self) -> Vec<u64> {
        self.layers.iter().map(|layer| layer.kv).collect()
    }

    pub(super) fn shape(&self) -> CacheShape {
        let sum = |part: &dyn Fn(&Layer) -> u64| -> u64 { self.layers.iter().map(part).sum() };
        CacheShape {
            per_token: sum(&|layer| if layer.slides { 0 } else { layer.kv }),
            windowed_per_token: sum(&|layer| if layer.slides { layer.kv } else { 0 }),
            window_tokens: self.window,
            state: sum(&|layer| layer.state),
        }
    }
}

struct Reader<'a> {
    header: &'a Header,
    arch: &'a str,
    layers: u32,
    embedding: u64,
}

impl Reader<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        self.header.number(&format!("{}.{name}", self.arch))
    }

    fn or_none(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    fn per_layer(&self, name: &str) -> Option<Vec<u64>> {
        self.header.per_layer(&format!("{}.{name}", self.arch), self.layers)
    }

    fn is_list(&self, name: &str) -> bool {
        matches!(self.header.values.get(&format!("{}.{name}", self.arch)), Some(Value::Numbers(_)))
    }

    fn kept(&self, window: u32) -> Option<Vec<Layer>> {
        if RECURRENT.contains(&self.arch) {
            let layer = Layer { state: self.state(0)?, ..Layer::default() };
            return Some(vec![layer; self.layers as usize]);
        }
        let heads = self.per_layer("attention.head_count")?;
        let kv_heads = self.per_layer("attention.head_count_kv").unwrap_or_else(|| heads.clone());
        let most_heads = heads.iter().copied().max().filter(|heads| *heads > 0)?;
        let (whole, windowed) = (self.lengths("", most_heads), self.lengths("_swa", most_heads));
        let state = self.state(heads[0])?;
        let keeping = self.keeping();
        (0..u64::from(self.layers))
            .zip(kv_heads)
            .map(|(layer, kv_heads)| {
                if self.remembers(layer, kv_heads) {
                    return Some(Layer { state: if layer < keeping { state } else { 0 }, ..Layer::default() });
                }
                let slides = window > 0 && self.slides(layer);
                let (key, value) = if slides { windowed } else { whole };
                let kv = kv_heads.checked_mul(key.checked_add(value)?)?.checked_mul(2)?;
                Some(Layer { kv: if layer < keeping { kv } else { 0 }, slides, state: 0 })
            })
            .collect()
    }

    /// Numbers of one head's key and value.
    fn lengths(&self, end: &str, heads: u64) -> (u64, u64) {
        let length = |name: &str| {
            let own = self.number(&format!("attention.{name}_length{end}"));
            own.or_else(|| self.number(&format!("attention.{name}_length"))).unwrap_or(self.embedding / heads)
        };
        // Latent attention keeps one compressed vector, from which values are made as well.
        let latent = self.or_none("attention.key_length_mla") > 0;
        (length("key"), if latent { 0 } else { length("value") })
    }

    /// The first of so many layers keep something. Those that predict further tokens are of no use here, and some
    /// models' last layers share what earlier ones keep.
    fn keeping(&self) -> u64 {
        let layers = u64::from(self.layers);
        let ahead = self.or_none("nextn_predict_layers");
        let trunk = if ahead < layers { layers - ahead } else { layers };
        match self.arch {
            "gemma4" => layers.saturating_sub(self.or_none("attention.shared_kv_layers")).min(trunk),
            "gemma3n" => GEMMA3N_KEEPING,
            _ => trunk,
        }
    }

    /// Whether a layer keeps a state, not tokens.
    fn remembers(&self, layer: u64, kv_heads: u64) -> bool {
        if STATE_WITHOUT_HEADS.contains(&self.arch) {
            return kv_heads == 0;
        }
        if let Some(listed) = self.per_layer("attention.recurrent_layers") {
            return listed.get(layer as usize).is_some_and(|recurrent| *recurrent != 0);
        }
        let usual = STATE_BETWEEN.contains(&self.arch).then_some(STATE_BETWEEN_EVERY);
        let interval = self.number("full_attention_interval").or(usual).filter(|every| *every > 1);
        interval.is_some_and(|every| !(layer + 1).is_multiple_of(every))
    }

    /// Bytes of one layer's state for each sequence.
    fn state(&self, heads: u64) -> Option<u64> {
        let number = |name: &str| self.or_none(name);
        let numbers = if number("wkv.head_size") > 0 {
            let shifts = self.number("token_shift_count").unwrap_or(TOKEN_SHIFTS);
            shifts.checked_add(number("wkv.head_size"))?.checked_mul(self.embedding)?
        } else if number("shortconv.l_cache") > 0 {
            self.embedding.checked_mul(number("shortconv.l_cache") - 1)?
        } else if number("kda.head_dim") > 0 {
            let head = number("kda.head_dim");
            let inner = heads.checked_mul(head)?;
            let back = self.number("ssm.conv_kernel").map_or(KDA_LOOK_BACK, |kernel| kernel.saturating_sub(1));
            back.checked_mul(3)?.checked_add(head)?.checked_mul(inner)?
        } else {
            let (inner, state) = (number("ssm.inner_size"), number("ssm.state_size"));
            let mixed = number("ssm.group_count").checked_mul(state)?.checked_mul(2)?.checked_add(inner)?;
            let back = number("ssm.conv_kernel").saturating_sub(1);
            back.checked_mul(mixed)?.checked_add(inner.checked_mul(state)?)?
        };
        numbers.checked_mul(STATE_NUMBER_BYTES)
    }

    /// Tokens of the window that some layers look back over; 0: none does.
    fn window(&self) -> u32 {
        let said = self.number("attention.sliding_window").map(|window| u32::try_from(window).unwrap_or(u32::MAX));
        if SLIDING_BY_LIST.contains(&self.arch) {
            return said.filter(|_| self.is_list("attention.sliding_window_pattern")).unwrap_or(0);
        }
        let Some(known) = SLIDING.iter().find(|known| known.arch == self.arch) else { return 0 };
        match (said, known.fixed) {
            (Some(0), _) => 0,
            (Some(window), fixed) => fixed.unwrap_or(window),
            (None, _) => known.window,
        }
    }

    fn slides(&self, layer: u64) -> bool {
        const PATTERN: &str = "attention.sliding_window_pattern";
        if self.is_list(PATTERN) {
            let listed = self.per_layer(PATTERN).unwrap_or_default();
            return listed.get(layer as usize).is_some_and(|slides| *slides != 0);
        }
        let Some(known) = SLIDING.iter().find(|known| known.arch == self.arch) else { return false };
        let every = self.number(PATTERN).unwrap_or(known.every);
        every == 0 || layer % every != if known.first { 0 } else { every - 1 }
    }
}

#[cfg(test)]
mod tests;
