//! One matrix product on a device, weights in each of its buffer types: the material of the self-test.

use super::{Device, sys, text};
use std::ptr::NonNull;
use std::time::Instant;

/// Kinds of weights that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatrixType {
    F32,
    Q4_1,
    Q8_0,
    Q4K,
}

impl MatrixType {
    pub(crate) const ALL: [Self; 4] = [Self::F32, Self::Q4_1, Self::Q8_0, Self::Q4K];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Q4_1 => "Q4_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
        }
    }

    fn code(self) -> sys::ggml_type {
        match self {
            Self::F32 => sys::GGML_TYPE_F32,
            Self::Q4_1 => sys::GGML_TYPE_Q4_1,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q4K => sys::GGML_TYPE_Q4_K,
        }
    }
}

/// A buffer type of the device. Its name tells which code computes: `CPU`, `AMX`, `CPU_REPACK` …
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    buffers: sys::ggml_backend_buffer_type_t,
}

impl Path {
    pub(crate) fn name(self) -> String {
        // SAFETY: buffer types are static parts of their backend.
        text(unsafe { sys::ggml_backend_buft_name(self.buffers) })
    }
}

/// A device made ready to compute.
#[derive(Debug)]
pub(crate) struct ProductBench {
    device: Device,
    backend: NonNull<sys::ggml_backend>,
}

/// Weights in the form that the device gets, and what they stand for.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) kind: MatrixType,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    packed: Vec<u8>,
    pub(crate) plain: Vec<f32>,
}

impl Weights {
    /// Packs `values` (row by row), and unpacks them again: what the type can't hold is no error of a product.
    pub(crate) fn pack(kind: MatrixType, rows: usize, depth: usize, values: &[f32]) -> Option<Self> {
        if values.len() != rows.checked_mul(depth)? {
            return None;
        }
        if kind == MatrixType::F32 {
            let packed = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            return Some(Self { kind, rows, depth, packed, plain: values.to_vec() });
        }
        let (row_count, row_length) = (i64::try_from(rows).ok()?, i64::try_from(depth).ok()?);
        // SAFETY: the depth is a multiple of the type's block (checked), so that a row takes `row_size`
        // bytes; both buffers have room for all rows, and the functions of the type are there for every
        // packed type that ggml knows.
        unsafe {
            if row_length % sys::ggml_blck_size(kind.code()) != 0 {
                return None;
            }
            let mut packed = vec![0_u8; sys::ggml_row_size(kind.code(), row_length) * rows];
            sys::ggml_quantize_chunk(
                kind.code(),
                values.as_ptr(),
                packed.as_mut_ptr().cast(),
                0,
                row_count,
                row_length,
                std::ptr::null(),
            );
            let unpack = (*sys::ggml_get_type_traits(kind.code())).to_float?;
            let mut plain = vec![0.0; values.len()];
            unpack(packed.as_ptr().cast(), plain.as_mut_ptr(), row_count * row_length);
            Some(Self { kind, rows, depth, packed, plain })
        }
    }
}

/// A product that was computed several times.
#[derive(Debug)]
pub(crate) struct Computed {
    /// Column by column, as ggml lays it out: `values[column * rows + row]`.
    pub(crate) values: Vec<f32>,
    /// The quickest of all runs.
    pub(crate) seconds: f64,
}

impl ProductBench {
    /// # Errors
    /// When the device doesn't start.
    pub(crate) fn new(device: Device, threads: u32) -> Result<Self, String> {
        // SAFETY: the device is alive; no parameters are passed.
        let backend = unsafe { sys::ggml_backend_dev_init(device.dev.as_ptr(), std::ptr::null()) };
        let backend = NonNull::new(backend).ok_or_else(|| format!("the device {} doesn't start", device.name()))?;
        if let Some(address) = device.backend().and_then(|b| b.function(c"ggml_backend_set_n_threads")) {
            // SAFETY: ggml documents this name with exactly this type.
            unsafe {
                let set: unsafe extern "C" fn(sys::ggml_backend_t, i32) = std::mem::transmute(address.as_ptr());
                set(backend.as_ptr(), i32::try_from(threads).unwrap_or(1));
            }
        }
        Ok(Self { device, backend })
    }

    /// Every buffer type in which the device takes weights, its own first.
    pub(crate) fn paths(&self) -> Vec<Path> {
        // SAFETY: the device is alive; the extra types come as a static list that ends with null.
        unsafe {
            let mut list = vec![Path { buffers: sys::ggml_backend_dev_buffer_type(self.device.dev.as_ptr()) }];
            let extra = self.device.backend().and_then(|b| b.function(c"ggml_backend_dev_get_extra_bufts"));
            if let Some(address) = extra {
                let get: unsafe extern "C" fn(sys::ggml_backend_dev_t) -> *const sys::ggml_backend_buffer_type_t =
                    std::mem::transmute(address.as_ptr());
                let mut next = get(self.device.dev.as_ptr());
                while !next.is_null() && !(*next).is_null() {
                    list.push(Path { buffers: *next });
                    next = next.add(1);
                }
            }
            list.retain(|path| !path.buffers.is_null());
            list
        }
    }

    /// Multiplies `weights` with `columns` columns of activations on one path, `runs` times.
    /// None: the device doesn't offer this product on this path.
    ///
    /// # Errors
    /// When memory is short or the device fails.
    pub(crate) fn multiply(
        &self,
        path: Path,
        weights: &Weights,
        activations: &[f32],
        runs: u32,
    ) -> Result<Option<Computed>, String> {
        let columns = activations.len() / weights.depth;
        // SAFETY: every object made here is freed by the guards below in reverse order; sizes given to
        // ggml are those of the tensors; nothing is written into a buffer that refused the product.
        unsafe {
            let shapes = Shapes::new(weights, columns).ok_or("ggml gives no memory for the shapes")?;
            if !self.offers(path, &shapes) {
                return Ok(None);
            }
            let store = Buffer(sys::ggml_backend_alloc_ctx_tensors_from_buft(shapes.weights_in.0, path.buffers));
            if store.0.is_null() {
                return Err(format!("{} has no memory for the weights", path.name()));
            }
            sys::ggml_backend_buffer_set_usage(store.0, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            let work = Buffer(sys::ggml_backend_alloc_ctx_tensors(shapes.work_in.0, self.backend.as_ptr()));
            if work.0.is_null() {
                return Err(format!("{} has no memory for the product", self.device.name()));
            }
            sys::ggml_backend_tensor_set(shapes.weights, weights.packed.as_ptr().cast(), 0, weights.packed.len());
            sys::ggml_backend_tensor_set(shapes.activations, activations.as_ptr().cast(), 0, size_of_val(activations));
            let graph = sys::ggml_new_graph(shapes.work_in.0);
            sys::ggml_build_forward_expand(graph, shapes.product);
            let mut seconds = f64::INFINITY;
            for _ in 0..runs.max(1) {
                let start = Instant::now();
                let status = sys::ggml_backend_graph_compute(self.backend.as_ptr(), graph);
                if status != sys::GGML_STATUS_SUCCESS {
                    return Err(format!("{} ends the product with status {status}", self.device.name()));
                }
                seconds = seconds.min(start.elapsed().as_secs_f64());
            }
            let mut values = vec![0.0_f32; weights.rows * columns];
            let bytes = size_of_val(values.as_slice());
            sys::ggml_backend_tensor_get(shapes.product, values.as_mut_ptr().cast(), 0, bytes);
            Ok(Some(Computed { values, seconds }))
        }
    }

    pub(super) fn device(&self) -> sys::ggml_backend_dev_t {
        self.device.dev.as_ptr()
    }

    pub(super) fn backend(&self) -> sys::ggml_backend_t {
        self.backend.as_ptr()
    }

    pub(crate) fn name(&self) -> String {
        self.device.name()
    }

    /// Asks with an empty buffer of the type, as llama.cpp does when it places weights.
    unsafe fn offers(&self, path: Path, shapes: &Shapes) -> bool {
        // SAFETY: the empty buffer lives during the question and is taken back from the tensor after it.
        unsafe {
            let probe = Buffer(sys::ggml_backend_buft_alloc_buffer(path.buffers, 0));
            (*shapes.weights).buffer = probe.0;
            let offered = sys::ggml_backend_dev_supports_op(self.device.dev.as_ptr(), shapes.product);
            (*shapes.weights).buffer = std::ptr::null_mut();
            offered
        }
    }
}

impl Drop for ProductBench {
    fn drop(&mut self) {
        // SAFETY: the backend is ours, and buffers made with it are gone.
        unsafe { sys::ggml_backend_free(self.backend.as_ptr()) }
    }
}

pub(super) struct Arena(pub(super) *mut sys::ggml_context);

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by `ggml_init` and owned here alone.
        unsafe { sys::ggml_free(self.0) }
    }
}

pub(super) struct Buffer(pub(super) sys::ggml_backend_buffer_t);

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by ggml and owned here alone; null is ignored.
        unsafe { sys::ggml_backend_buffer_free(self.0) }
    }
}

/// Tensors without data: weights in an arena of their own, because they go to another kind of buffer.
struct Shapes {
    weights_in: Arena,
    work_in: Arena,
    weights: *mut sys::ggml_tensor,
    activations: *mut sys::ggml_tensor,
    product: *mut sys::ggml_tensor,
}

impl Shapes {
    fn new(weights: &Weights, columns: usize) -> Option<Self> {
        let (rows, depth) = (i64::try_from(weights.rows).ok()?, i64::try_from(weights.depth).ok()?);
        let columns = i64::try_from(columns).ok()?;
        // SAFETY: the arenas hold only shapes (`no_alloc`) and are large enough for a handful of tensors
        // and a graph of the default size.
        unsafe {
            let arena = |bytes| {
                let params =
                    sys::ggml_init_params { mem_size: bytes, mem_buffer: std::ptr::null_mut(), no_alloc: true };
                let arena = Arena(sys::ggml_init(params));
                (!arena.0.is_null()).then_some(arena)
            };
            let weights_in = arena(4 * sys::ggml_tensor_overhead())?;
            let work_in = arena(8 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead())?;
            let weights = sys::ggml_new_tensor_2d(weights_in.0, weights.kind.code(), depth, rows);
            let activations = sys::ggml_new_tensor_2d(work_in.0, sys::GGML_TYPE_F32, depth, columns);
            let product = sys::ggml_mul_mat(work_in.0, weights, activations);
            Some(Self { weights_in, work_in, weights, activations, product })
        }
    }
}
