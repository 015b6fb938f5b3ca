//! What of the machine one worker gets: threads, and places on its GPUs.

use crate::backend::{BackendChoice, Backends};
use crate::machine;
use crate::offload::{self, Device, DeviceKind, Split};
use crate::plan::{self, Plan};
use base::{Bytes, Fault, ModelFacts};
use wire::{Offload, WireDevice, WireDeviceKind};

/// The part of a `Load` that the machine decides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Share {
    pub(super) threads: u32,
    pub(super) prompt_threads: u32,
    pub(super) quota_milli: u32,
    pub(super) offload: Offload,
    /// What goes where, for people; empty when all is with the processor.
    pub(super) placement: String,
}

/// Rows of activations that a step has at a time on each device, the widest of them several times as wide
/// as the model.
const ACTIVATION_ROWS: u64 = 32;

/// # Errors
/// When the devices can't be asked what is free on them now.
pub(super) fn decide(
    threads: Option<u32>,
    backends: &Backends,
    choice: &BackendChoice,
    facts: &ModelFacts,
    plan: &Plan,
) -> Result<Share, Fault> {
    let processors = machine::processors();
    let mut share = Share {
        threads: threads.unwrap_or_else(|| processors.threads()),
        prompt_threads: threads.unwrap_or_else(|| processors.prompt_threads()),
        quota_milli: processors.quota.map_or(0, |quota| (quota * 1000.0).round() as u32),
        ..Share::default()
    };
    if choice.gpu {
        // What was free when the backend was tested may be taken by now.
        let here = backends.devices(&choice.chosen)?;
        let here: Vec<(WireDevice, Device)> =
            here.into_iter().filter_map(|told| Some((told.clone(), device(told)?))).collect();
        let devices: Vec<Device> = here.iter().map(|(_, device)| device.clone()).collect();
        // For the pool that it begins with: a larger one must find its place beside, or is refused.
        let split = offload::split(&offload::sizes(facts, plan.first_tokens, compute_bytes(facts, plan)), &devices);
        share.placement = placement(facts, &split, &devices);
        share.offload = Offload {
            gpu_layers: split.gpu_layers,
            split: split.per_device,
            cpu_experts: split.cpu_experts,
            kv_on_gpu: split.kv_on_gpu,
        };
    }
    Ok(share)
}

/// The processor and its helpers take what is left and aren't asked.
fn device(told: WireDevice) -> Option<Device> {
    let kind = match told.kind {
        WireDeviceKind::Discrete => DeviceKind::Discrete,
        WireDeviceKind::Integrated => DeviceKind::Integrated,
        WireDeviceKind::Software => DeviceKind::Software,
        WireDeviceKind::Cpu | WireDeviceKind::Accelerator => return None,
    };
    Some(Device { name: told.name, kind, free: told.free_bytes })
}

fn compute_bytes(facts: &ModelFacts, plan: &Plan) -> u64 {
    let rows = u64::from(plan.batch_tokens) * 4 * ACTIVATION_ROWS;
    let scores = plan::score_rows(plan.sequences_max) * 4 * u64::from(facts.vocab_tokens);
    rows.saturating_mul(facts.embedding_length.into()).saturating_add(scores)
}

fn placement(facts: &ModelFacts, split: &Split, devices: &[Device]) -> String {
    if split.gpu_layers == 0 {
        return "no layer fits a graphics device; all on the processor".into();
    }
    // The output is counted as a layer.
    let all = facts.layers + 1;
    let parts = devices.iter().zip(split.per_device.iter().zip(&split.device_bytes));
    let used = parts.filter(|(_, (layers, _))| **layers > 0);
    let mut words: Vec<String> = used
        .map(|(device, (layers, bytes))| format!("{layers} of {all} layers on {} ({})", device.name, Bytes(*bytes)))
        .collect();
    if split.cpu_bytes > 0 {
        let experts = match split.cpu_experts.len() {
            0 => String::new(),
            count => format!(", the experts of {count} more"),
        };
        let kv = if split.kv_on_gpu { "" } else { ", keys and values" };
        let layers = all.saturating_sub(split.gpu_layers);
        words.push(format!("{layers}{experts}{kv} on the processor ({})", Bytes(split.cpu_bytes)));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_lies_where() {
        let facts = ModelFacts { layers: 32, ..testkit::model::facts("m", base::Modality::Chat) };
        let device = |name: &str| Device { name: name.into(), kind: DeviceKind::Discrete, free: 0 };
        let split = Split {
            gpu_layers: 30,
            per_device: vec![20, 0, 10],
            cpu_experts: vec![3, 4],
            kv_on_gpu: true,
            device_bytes: vec![5 << 30, 0, 2 << 30],
            cpu_bytes: 3 << 30,
        };
        assert_eq!(
            placement(&facts, &split, &["CUDA0", "CUDA1", "CUDA2"].map(device)),
            "20 of 33 layers on CUDA0 (5.0 GiB); 10 of 33 layers on CUDA2 (2.0 GiB); \
             3, the experts of 2 more on the processor (3.0 GiB)"
        );
        let none = placement(&facts, &Split::default(), &[device("CUDA0")]);
        assert!(none.contains("all on the processor"), "{none}");
    }
}
