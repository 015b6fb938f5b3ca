//! Which part of a model lies on which device: layers on GPUs, experts that stay with the processor. Pure.
//!
//! A GPU is many times faster than a processor at what it holds, and nothing of what it doesn't hold. So as many
//! of a model's last layers as fit are put there, the output with them, the fastest device filled first: each
//! border between two devices costs a copy for every step. Of a model with experts, every layer's attention is put
//! there first, as it computes for every token, then the experts, of which a token needs a few.

use base::ModelFacts;

/// A device as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// ggml's name: `CUDA0`, `Vulkan1` …
    pub name: String,
    pub kind: DeviceKind,
    pub free: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// With memory of its own.
    Discrete,
    /// Shares the machine's memory with the processor.
    Integrated,
    /// A processor that plays a graphics device: never faster than the processor itself.
    Software,
}

/// What a model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// In their order.
    pub layers: Vec<Layer>,
    /// What turns the last layer's result into scores.
    pub output: u64,
    /// What each device needs to compute with, whatever lies on it.
    pub compute: u64,
}

/// One layer, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layer {
    /// Weights that every token needs.
    pub shared: u64,
    /// Weights of which a token needs a few; 0 in a model without experts.
    pub experts: u64,
    /// Keys and values of the whole window.
    pub kv: u64,
}

/// What lies where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// How many of the last layers are on GPUs; the output counts as one more. Never 1: an output alone
    /// isn't worth the way.
    pub gpu_layers: u32,
    /// How many of them each device has that was asked about.
    pub per_device: Vec<u32>,
    /// Layers on GPUs whose experts stay with the processor, ascending.
    pub cpu_experts: Vec<u32>,
    pub kv_on_gpu: bool,
    /// Bytes on each device.
    pub device_bytes: Vec<u64>,
    /// Bytes that stay with the processor, keys and values included.
    pub cpu_bytes: u64,
}

/// Drivers, fragments and other programs: what is free is never filled to the brim.
const MARGIN_BYTES_MIN: u64 = 256 << 20;
const MARGIN_SHARE: u64 = 16;

/// Puts as much as fits on the devices. They come in order of speed.
pub fn split(sizes: &Sizes, devices: &[Device]) -> Split {
    let rooms = rooms(sizes, devices);
    for kv_on_gpu in [true, false] {
        let all = sizes.layers.len() + 1;
        let place = |gpu_layers, with_experts| place(sizes, &rooms, gpu_layers, with_experts, kv_on_gpu);
        // More layers never fit where fewer don't, so that halving the range finds the border.
        let layers = most(all, |count| place(count, 0).is_some());
        let with_experts = if layers < all { 0 } else { most(sizes.layers.len(), |count| place(all, count).is_some()) };
        let found = place(layers, with_experts);
        // Without its keys and values beside it a layer is slower: only where nothing fits otherwise.
        if let Some(split) = found.filter(|split| split.gpu_layers > 1) {
            return split;
        }
    }
    Split {
        per_device: vec![0; devices.len()],
        device_bytes: vec![0; devices.len()],
        cpu_bytes: total(sizes),
        ..Split::default()
    }
}

/// What a model's header says, for a window of so many tokens.
pub fn sizes(facts: &ModelFacts, context_tokens: u32, compute: u64) -> Sizes {
    let tokens = u64::from(context_tokens);
    let mut layers: Vec<Layer> = Vec::new();
    for run in &facts.layer_runs {
        let layer = Layer {
            shared: run.bytes.saturating_sub(run.expert_bytes),
            experts: run.expert_bytes,
            kv: run.kv_bytes_per_token.saturating_mul(tokens),
        };
        layers.extend(std::iter::repeat_n(layer, run.layers as usize));
    }
    if layers.len() != facts.layers as usize {
        // A header that doesn't say: as if all were alike, and the output one of them.
        let parts = u64::from(facts.layers) + 1;
        let layer = Layer {
            shared: facts.weights_bytes.div_ceil(parts),
            experts: 0,
            kv: facts.kv_bytes_per_token.div_ceil(u64::from(facts.layers).max(1)).saturating_mul(tokens),
        };
        return Sizes { layers: vec![layer; facts.layers as usize], output: layer.shared, compute };
    }
    Sizes { layers, output: facts.output_bytes, compute }
}

fn total(sizes: &Sizes) -> u64 {
    let layers = sizes.layers.iter().map(|layer| layer.shared.saturating_add(layer.experts).saturating_add(layer.kv));
    layers.fold(sizes.output, u64::saturating_add)
}

/// What each device can take. Integrated ones only where nothing better is: they would slow the others down.
fn rooms(sizes: &Sizes, devices: &[Device]) -> Vec<u64> {
    let discrete = devices.iter().any(|device| device.kind == DeviceKind::Discrete);
    let room = |device: &Device| match device.kind {
        DeviceKind::Software => 0,
        DeviceKind::Integrated if discrete => 0,
        DeviceKind::Discrete | DeviceKind::Integrated => {
            let margin = MARGIN_BYTES_MIN.max(device.free / MARGIN_SHARE);
            device.free.saturating_sub(margin).saturating_sub(sizes.compute)
        }
    };
    devices.iter().map(room).collect()
}

/// The largest number up to `limit` for which `fits` holds, when it holds for all below. 0 is taken to fit.
fn most(limit: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// Puts the last `gpu_layers` on the devices, one after the other, of these the last `with_experts` with
/// their experts. `None`: they don't fit.
fn place(sizes: &Sizes, rooms: &[u64], gpu_layers: usize, with_experts: usize, kv_on_gpu: bool) -> Option<Split> {
    let count = sizes.layers.len();
    let first = (count + 1).saturating_sub(gpu_layers);
    let first_with_experts = count.saturating_sub(with_experts);
    let mut per_device = vec![0_u32; rooms.len()];
    let mut device_bytes = vec![0_u64; rooms.len()];
    let mut cpu_experts = Vec::new();
    let mut device = 0;
    for at in first..=count {
        let bytes = match sizes.layers.get(at) {
            None => sizes.output,
            Some(layer) => {
                let experts = if at >= first_with_experts { layer.experts } else { 0 };
                if layer.experts > experts {
                    cpu_experts.push(u32::try_from(at).ok()?);
                }
                let kv = if kv_on_gpu { layer.kv } else { 0 };
                layer.shared.saturating_add(experts).saturating_add(kv)
            }
        };
        while bytes > rooms.get(device)?.saturating_sub(device_bytes[device]) {
            device += 1;
        }
        per_device[device] += 1;
        device_bytes[device] += bytes;
    }
    let on_devices: u64 = device_bytes.iter().sum();
    let gpu_layers = u32::try_from(gpu_layers).ok()?;
    let cpu_bytes = total(sizes).saturating_sub(on_devices);
    Some(Split { gpu_layers, per_device, cpu_experts, kv_on_gpu, device_bytes, cpu_bytes })
}

#[cfg(test)]
mod tests;
