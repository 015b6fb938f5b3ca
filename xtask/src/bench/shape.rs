//! The shapes of real models: which tensors they have, of which size, and what one token costs.
//!
//! Pure. Sizes are those of published models; weights are Q4_K with the wide ends in Q8_0, as
//! four-bit files of them are.

use super::gguf::{Header, Value};

/// What a tensor's numbers are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Q4K,
    Q8_0,
    F16,
    F32,
    /// Floats around one: what a norm multiplies with.
    Norm,
}

impl Kind {
    /// ggml's own number.
    pub(super) fn number(self) -> u32 {
        match self {
            Kind::F32 | Kind::Norm => 0,
            Kind::F16 => 1,
            Kind::Q8_0 => 8,
            Kind::Q4K => 12,
        }
    }

    pub(super) fn block_elements(self) -> u64 {
        match self {
            Kind::F32 | Kind::Norm | Kind::F16 => 1,
            Kind::Q8_0 => 32,
            Kind::Q4K => 256,
        }
    }

    pub(super) fn block_bytes(self) -> u64 {
        match self {
            Kind::F32 | Kind::Norm => 4,
            Kind::F16 => 2,
            Kind::Q8_0 => 34,
            Kind::Q4K => 144,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Fastest-varying dimension first.
    pub(super) shape: Vec<u64>,
}

impl Tensor {
    pub(super) fn new(name: &str, kind: Kind, shape: &[u64]) -> Self {
        Self { name: name.into(), kind, shape: shape.to_vec() }
    }

    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.elements() / self.kind.block_elements() * self.kind.block_bytes()
    }
}

/// How a family differs from the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Llama: dense, all layers alike.
    Dense,
    /// Qwen3 MoE: of `experts`, each token goes to `used`.
    Experts { experts: u64, used: u64 },
    /// Gemma 3: five of six layers see a sliding window.
    Sliding { window: u32 },
    /// LFM2: most layers are short convolutions, every third attends.
    Hybrid { kernel: u64 },
}

/// One model's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    family: Family,
    layers: u64,
    width: u64,
    /// Of one expert, where there are some.
    inner: u64,
    heads: u64,
    kv_heads: u64,
    head: u64,
    pub(super) vocabulary: u32,
    /// The output's weights are the embedding's.
    tied: bool,
}

pub(super) const SHAPES: [Shape; 5] = [
    Shape {
        name: "1B dense (Llama 3.2)",
        family: Family::Dense,
        layers: 16,
        width: 2048,
        inner: 8192,
        heads: 32,
        kv_heads: 8,
        head: 64,
        vocabulary: 128_256,
        tied: true,
    },
    Shape {
        name: "8B dense (Llama 3)",
        family: Family::Dense,
        layers: 32,
        width: 4096,
        inner: 14_336,
        heads: 32,
        kv_heads: 8,
        head: 128,
        vocabulary: 128_256,
        tied: false,
    },
    Shape {
        name: "30B-A3B experts (Qwen3)",
        family: Family::Experts { experts: 128, used: 8 },
        layers: 48,
        width: 2048,
        inner: 768,
        heads: 32,
        kv_heads: 4,
        head: 128,
        vocabulary: 151_936,
        tied: false,
    },
    Shape {
        name: "4B sliding window (Gemma 3)",
        family: Family::Sliding { window: 1024 },
        layers: 34,
        width: 2560,
        inner: 10_240,
        heads: 8,
        kv_heads: 4,
        head: 256,
        vocabulary: 262_144,
        tied: true,
    },
    Shape {
        name: "1.2B hybrid (LFM2)",
        family: Family::Hybrid { kernel: 3 },
        layers: 16,
        width: 2048,
        inner: 8192,
        heads: 32,
        kv_heads: 8,
        head: 64,
        vocabulary: 65_536,
        tied: true,
    },
];

/// Longest window that the files say they were made for.
const CONTEXT_TOKENS: u32 = 32_768;
/// Every so many layers of the hybrid one attend.
const HYBRID_EVERY: u64 = 3;

impl Shape {
    /// The same with few layers: to see that it works.
    pub(super) fn shortened(self) -> Self {
        Self { layers: self.layers.min(HYBRID_EVERY + 1), ..self }
    }

    /// The same family in small: to see what its marks do to the rest of Freehold.
    pub(super) fn tiny(self, vocabulary: u32) -> Self {
        let family = match self.family {
            Family::Experts { .. } => Family::Experts { experts: 8, used: 2 },
            other => other,
        };
        let Self { layers, .. } = self.shortened();
        Self { family, layers, width: 256, inner: 512, heads: 4, kv_heads: 2, head: 64, vocabulary, ..self }
    }

    pub(super) fn file_name(&self) -> String {
        let word = self.name.split(' ').next().unwrap_or(self.name);
        format!("random-{}-{}-layers.gguf", word.to_lowercase(), self.layers)
    }

    fn arch(&self) -> &'static str {
        match self.family {
            Family::Dense => "llama",
            Family::Experts { .. } => "qwen3moe",
            Family::Sliding { .. } => "gemma3",
            Family::Hybrid { .. } => "lfm2",
        }
    }

    fn attends(&self, layer: u64) -> bool {
        !matches!(self.family, Family::Hybrid { .. }) || layer % HYBRID_EVERY == HYBRID_EVERY - 1
    }

    /// All of a header but the tokenizer.
    pub(super) fn header(&self) -> Header {
        let arch = self.arch();
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let mut header = vec![
            ("general.architecture".to_string(), Value::text(arch)),
            ("general.name".to_string(), Value::text(&format!("random weights, {}", self.name))),
        ];
        let mut own = |key: &str, value: Value| header.push((format!("{arch}.{key}"), value));
        own("block_count", Value::u32(small(self.layers)));
        own("context_length", Value::u32(CONTEXT_TOKENS));
        own("embedding_length", Value::u32(small(self.width)));
        own("feed_forward_length", Value::u32(small(self.inner)));
        own("vocab_size", Value::u32(self.vocabulary));
        own("attention.head_count", Value::u32(small(self.heads)));
        own("attention.layer_norm_rms_epsilon", Value::f32(1e-6));
        own("attention.key_length", Value::u32(small(self.head)));
        own("attention.value_length", Value::u32(small(self.head)));
        own("rope.dimension_count", Value::u32(small(self.head)));
        own("rope.freq_base", Value::f32(1e6));
        let kv_heads: Vec<u32> =
            (0..self.layers).map(|layer| if self.attends(layer) { small(self.kv_heads) } else { 0 }).collect();
        match self.family {
            Family::Hybrid { kernel } => {
                own("attention.head_count_kv", Value::u32s(&kv_heads));
                own("shortconv.l_cache", Value::u32(small(kernel)));
            }
            _ => own("attention.head_count_kv", Value::u32(small(self.kv_heads))),
        }
        match self.family {
            Family::Experts { experts, used } => {
                own("expert_count", Value::u32(small(experts)));
                own("expert_used_count", Value::u32(small(used)));
                own("expert_feed_forward_length", Value::u32(small(self.inner)));
            }
            Family::Sliding { window } => own("attention.sliding_window", Value::u32(window)),
            Family::Dense | Family::Hybrid { .. } => {}
        }
        header
    }

    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let vocabulary = u64::from(self.vocabulary);
        let mut all = vec![Tensor::new("token_embd.weight", Kind::Q8_0, &[self.width, vocabulary])];
        let last_norm = if matches!(self.family, Family::Hybrid { .. }) { "token_embd_norm" } else { "output_norm" };
        all.push(Tensor::new(&format!("{last_norm}.weight"), Kind::Norm, &[self.width]));
        if !self.tied {
            all.push(Tensor::new("output.weight", Kind::Q8_0, &[self.width, vocabulary]));
        }
        for layer in 0..self.layers {
            self.layer(layer, &mut |name, kind, shape| {
                all.push(Tensor::new(&format!("blk.{layer}.{name}.weight"), kind, shape));
            });
        }
        all
    }

    fn layer(&self, layer: u64, add: &mut dyn FnMut(&str, Kind, &[u64])) {
        let Self { width, inner, heads, kv_heads, head, .. } = *self;
        add("attn_norm", Kind::Norm, &[width]);
        if self.attends(layer) {
            add("attn_q", Kind::Q4K, &[width, heads * head]);
            add("attn_k", Kind::Q4K, &[width, kv_heads * head]);
            add("attn_v", Kind::Q4K, &[width, kv_heads * head]);
            add("attn_output", Kind::Q4K, &[heads * head, width]);
            if self.family != Family::Dense {
                add("attn_q_norm", Kind::Norm, &[head]);
                add("attn_k_norm", Kind::Norm, &[head]);
            }
        } else if let Family::Hybrid { kernel } = self.family {
            add("shortconv.conv", Kind::F32, &[kernel, width]);
            add("shortconv.in_proj", Kind::Q4K, &[width, 3 * width]);
            add("shortconv.out_proj", Kind::Q4K, &[width, width]);
        }
        if matches!(self.family, Family::Sliding { .. }) {
            add("post_attention_norm", Kind::Norm, &[width]);
            add("post_ffw_norm", Kind::Norm, &[width]);
        }
        add("ffn_norm", Kind::Norm, &[width]);
        if let Family::Experts { experts, .. } = self.family {
            add("ffn_gate_inp", Kind::F32, &[width, experts]);
            add("ffn_gate_exps", Kind::Q4K, &[width, inner, experts]);
            add("ffn_up_exps", Kind::Q4K, &[width, inner, experts]);
            add("ffn_down_exps", Kind::Q4K, &[inner, width, experts]);
        } else {
            add("ffn_gate", Kind::Q4K, &[width, inner]);
            add("ffn_up", Kind::Q4K, &[width, inner]);
            add("ffn_down", Kind::Q4K, &[inner, width]);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.tensors().iter().map(Tensor::bytes).sum()
    }

    pub(super) fn parameters(&self) -> u64 {
        self.tensors().iter().map(Tensor::elements).sum()
    }

    /// Bytes of weights that generating one token reads.
    pub(super) fn bytes_per_token(&self) -> u64 {
        self.tensors().iter().map(|tensor| self.used(tensor, tensor.bytes(), true)).sum()
    }

    /// Operations of one prompt token in the layers: a multiply-add is two, and only a prompt's last
    /// token needs the output.
    pub(super) fn operations_per_prompt_token(&self) -> u64 {
        2 * self.tensors().iter().map(|tensor| self.used(tensor, tensor.elements(), false)).sum::<u64>()
    }

    /// The part of `whole` that one token needs: of experts those that it goes to, of an embedding one
    /// row, which is as good as nothing, unless it is the output too.
    fn used(&self, tensor: &Tensor, whole: u64, with_output: bool) -> u64 {
        match (tensor.name.as_str(), self.family) {
            ("token_embd.weight", _) => whole * u64::from(with_output && self.tied),
            ("output.weight", _) => whole * u64::from(with_output),
            (name, Family::Experts { experts, used }) if name.contains("_exps") => whole / experts * used,
            _ => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(start: &str) -> Shape {
        *SHAPES.iter().find(|shape| shape.name.starts_with(start)).expect("a shape of that name")
    }

    #[test]
    fn sizes_are_those_of_the_models() {
        let billions = |start: &str| shape(start).parameters() as f64 / 1e9;
        assert!((billions("1B") - 1.236).abs() < 0.01);
        assert!((billions("8B") - 8.03).abs() < 0.01);
        assert!((billions("30B") - 30.53).abs() < 0.01);
        assert!((billions("4B") - 3.88).abs() < 0.02);
        assert!((billions("1.2B") - 1.17).abs() < 0.01);
        assert!(shape("30B").bytes() < 18_000_000_000);
    }

    #[test]
    fn a_token_needs_only_its_experts_and_one_row_of_the_embedding() {
        let experts = shape("30B");
        let active = experts.operations_per_prompt_token() / 2;
        assert!((2_600_000_000..2_900_000_000).contains(&active), "{active}");
        assert!(experts.bytes_per_token() < experts.bytes() / 8);
        let tied = shape("1B");
        assert_eq!(tied.bytes_per_token(), tied.bytes());
        assert!(tied.operations_per_prompt_token() < 2 * tied.parameters());
    }

    #[test]
    fn rows_are_whole_blocks_and_names_their_own() {
        for shape in SHAPES.iter().flat_map(|shape| [*shape, shape.shortened()]) {
            let mut names = std::collections::BTreeSet::new();
            for tensor in shape.tensors() {
                assert_eq!(tensor.shape[0] % tensor.kind.block_elements(), 0, "{tensor:?}");
                assert!(names.insert(tensor.name.clone()), "{tensor:?} twice");
            }
            assert!((0..shape.layers).any(|layer| shape.attends(layer)), "{}", shape.name);
        }
        let names: std::collections::BTreeSet<_> = SHAPES.iter().map(Shape::file_name).collect();
        assert_eq!(names.len(), SHAPES.len());
    }
}
