//! Attention over a cache of halves on a device, as models of today ask for it: the rest of the self-test's material.

use super::product::{Arena, Buffer, Computed, ProductBench};
use super::sys;
use std::time::Instant;

/// Of what attention is computed. Every `shared` head of the cache serves `heads / shared` heads of the queries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) shared: usize,
    pub(crate) dim: usize,
    pub(crate) cells: usize,
}

/// Numbers of one computation. All are those that the device gets: what halves can't hold is no error of it.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `[tokens][heads][dim]`
    pub(crate) queries: Vec<f32>,
    /// `[cells][shared][dim]`
    pub(crate) keys: Vec<f32>,
    /// `[cells][shared][dim]`
    pub(crate) values: Vec<f32>,
    /// `[tokens][cells]`: whether the token looks at the cell.
    pub(crate) seen: Vec<bool>,
}

/// As halves, and what they stand for.
pub(crate) fn halves(values: &[f32]) -> (Vec<u16>, Vec<f32>) {
    let count = i64::try_from(values.len()).unwrap_or(0);
    let (mut packed, mut plain) = (vec![0_u16; values.len()], vec![0.0_f32; values.len()]);
    // SAFETY: all three have room for `count` elements.
    unsafe {
        sys::ggml_fp32_to_fp16_row(values.as_ptr(), packed.as_mut_ptr(), count);
        sys::ggml_fp16_to_fp32_row(packed.as_ptr(), plain.as_mut_ptr(), count);
    }
    (packed, plain)
}

impl ProductBench {
    /// Computes it `runs` times, each head's scores by 1/√dim. None: the device doesn't offer it.
    /// The values come as `[tokens][heads][dim]`.
    ///
    /// # Errors
    /// When memory is short or the device fails.
    pub(crate) fn attend(&self, of: Attention, inputs: &Inputs, runs: u32) -> Result<Option<Computed>, String> {
        let (keys, _) = halves(&inputs.keys);
        let (values, _) = halves(&inputs.values);
        let sees: Vec<f32> = inputs.seen.iter().map(|&seen| if seen { 0.0 } else { f32::NEG_INFINITY }).collect();
        let (masks, _) = halves(&sees);
        // SAFETY: as for products: the arena and the buffer are freed by their guards, and what is set has
        // the sizes of its tensors.
        unsafe {
            let shapes = Shapes::new(of).ok_or("ggml gives no memory for the shapes")?;
            if !sys::ggml_backend_dev_supports_op(self.device(), shapes.result) {
                return Ok(None);
            }
            let work = Buffer(sys::ggml_backend_alloc_ctx_tensors(shapes.arena.0, self.backend()));
            if work.0.is_null() {
                return Err(format!("{} has no memory for attention", self.name()));
            }
            let set =
                |tensor, data: *const std::ffi::c_void, bytes| sys::ggml_backend_tensor_set(tensor, data, 0, bytes);
            set(shapes.queries, inputs.queries.as_ptr().cast(), size_of_val(inputs.queries.as_slice()));
            set(shapes.keys, keys.as_ptr().cast(), size_of_val(keys.as_slice()));
            set(shapes.values, values.as_ptr().cast(), size_of_val(values.as_slice()));
            set(shapes.mask, masks.as_ptr().cast(), size_of_val(masks.as_slice()));
            let graph = sys::ggml_new_graph(shapes.arena.0);
            sys::ggml_build_forward_expand(graph, shapes.result);
            let mut seconds = f64::INFINITY;
            for _ in 0..runs.max(1) {
                let start = Instant::now();
                let status = sys::ggml_backend_graph_compute(self.backend(), graph);
                if status != sys::GGML_STATUS_SUCCESS {
                    return Err(format!("{} ends attention with status {status}", self.name()));
                }
                seconds = seconds.min(start.elapsed().as_secs_f64());
            }
            let mut values = vec![0.0_f32; of.tokens * of.heads * of.dim];
            let bytes = size_of_val(values.as_slice());
            sys::ggml_backend_tensor_get(shapes.result, values.as_mut_ptr().cast(), 0, bytes);
            Ok(Some(Computed { values, seconds }))
        }
    }
}

/// Tensors without data, laid out as in llama.cpp's cache: all heads of a cell beside each other.
struct Shapes {
    arena: Arena,
    queries: *mut sys::ggml_tensor,
    keys: *mut sys::ggml_tensor,
    values: *mut sys::ggml_tensor,
    mask: *mut sys::ggml_tensor,
    result: *mut sys::ggml_tensor,
}

impl Shapes {
    fn new(of: Attention) -> Option<Self> {
        let [tokens, heads, shared, dim, cells] =
            [of.tokens, of.heads, of.shared, of.dim, of.cells].map(|size| i64::try_from(size).unwrap_or(0));
        // SAFETY: the arena holds only shapes (`no_alloc`) and is large enough for a handful of tensors
        // and a graph of the default size.
        unsafe {
            let mem_size = 16 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead();
            let params = sys::ggml_init_params { mem_size, mem_buffer: std::ptr::null_mut(), no_alloc: true };
            let arena = Arena(sys::ggml_init(params));
            if arena.0.is_null() {
                return None;
            }
            let cells_of = |of_heads, count, kind| sys::ggml_new_tensor_3d(arena.0, kind, dim, of_heads, count);
            let queries = cells_of(heads, tokens, sys::GGML_TYPE_F32);
            let keys = cells_of(shared, cells, sys::GGML_TYPE_F16);
            let values = cells_of(shared, cells, sys::GGML_TYPE_F16);
            let mask = sys::ggml_new_tensor_2d(arena.0, sys::GGML_TYPE_F16, cells, tokens);
            let [q, k, v] = [queries, keys, values].map(|tensor| sys::ggml_permute(arena.0, tensor, 0, 2, 1, 3));
            #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
            let scale = 1.0 / (dim as f32).sqrt();
            let result = sys::ggml_flash_attn_ext(arena.0, q, k, v, mask, scale, 0.0, 0.0);
            Some(Self { arena, queries, keys, values, mask, result })
        }
    }
}
