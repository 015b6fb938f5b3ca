//! Small translations between the pillars' words and what the facade shows.

use crate::Inner;
use crate::settings::Settings;
use crate::stream::EventSender;
use crate::view::{Buffers, LoadedModel, MemoryUse, ModelRow, PullEvent};
use base::{Bytes, Millis, Modality};
use engine::Loaded;
use gateway::{GivenBy, MirrorEnv, Policy, Secret, Timeouts};
use store::{Entry, PullStep};

pub(crate) fn policy(settings: &Settings) -> Policy {
    Policy {
        offline: settings.offline,
        hub: settings.hub.clone(),
        mirror: settings.mirror,
        hub_token: settings.hub_token.clone().map(Secret::new),
        mirror_env: MirrorEnv {
            vars: settings.mirror_env.clone(),
            config_file: settings.mirror_config.clone(),
            python: settings.python.clone(),
        },
        timeouts: Timeouts::default(),
    }
}

/// Rows of some models, with those marked that are taken when none is named.
pub(crate) fn model_rows(inner: &Inner, entries: &[Entry]) -> Vec<ModelRow> {
    let defaults =
        [Modality::Chat, Modality::Embed, Modality::Rerank].map(|modality| inner.store.default_for(modality));
    let is_default = |entry: &Entry| defaults.iter().flatten().any(|default| default.name == entry.name);
    entries.iter().map(|entry| model_row(inner, entry, is_default(entry))).collect()
}

pub(crate) fn model_row(inner: &Inner, entry: &Entry, default: bool) -> ModelRow {
    let facts = &entry.facts;
    let source = inner.source_of(entry.clone());
    ModelRow {
        name: entry.name.0.clone(),
        kind: match facts.modality {
            Modality::Chat => "chat",
            Modality::Embed => "embed",
            Modality::Rerank => "rerank",
            Modality::Adapter => "adapter",
        }
        .into(),
        arch: facts.arch.clone(),
        quantization: facts.quantization.clone(),
        parameters: facts.parameters,
        bytes: entry.bytes,
        context_max: facts.context_max,
        context_tokens: inner.engine.window(&source).now,
        pinned: source.pinned,
        license: if entry.license.is_empty() { "unknown".into() } else { entry.license.clone() },
        source: entry.source.to_string(),
        path: entry.parts.first().map(|part| part.display().to_string()).unwrap_or_default(),
        sha256: entry.sha256.clone(),
        default,
        draft_model: inner
            .engine
            .loaded()
            .into_iter()
            .find(|loaded| loaded.name == entry.name.0)
            .and_then(|loaded| loaded.draft_model),
        problem: entry.problem(),
        template_notes: engine::template::notes(facts).into_iter().map(str::to_owned).collect(),
    }
}

pub(crate) fn memory_use(inner: &Inner) -> MemoryUse {
    let share = inner.engine.memory_share();
    MemoryUse { budget_bytes: share.budget, held_bytes: share.held }
}

pub(crate) fn loaded_row(loaded: Loaded) -> LoadedModel {
    let room = loaded.room;
    let state = match loaded.running {
        0 if room.resting => "resting",
        0 => "ready",
        _ => "running",
    };
    LoadedModel {
        name: loaded.name,
        pid: loaded.pid,
        devices: loaded.devices,
        placement: loaded.placement,
        features: loaded.features,
        threads: loaded.threads,
        state: state.into(),
        pinned: loaded.pinned,
        context_trained: loaded.context_trained,
        pool_tokens: room.context_tokens,
        buffers: Buffers {
            mapped_bytes: Bytes(room.mapped_bytes),
            copied_bytes: Bytes(room.copied_bytes),
            cache_bytes: Bytes(room.cache_bytes),
            compute_bytes: Bytes(room.compute_bytes),
        },
        draft_model: loaded.draft_model,
        held_bytes: Bytes(loaded.held_bytes),
        states_bytes_max: Bytes(loaded.states_bytes_max),
        context_tokens: loaded.context_tokens,
        sequences_max: loaded.sequences_max,
        kv_cache: loaded.kv_cache.as_str().into(),
        running: loaded.running,
        queued: loaded.queued,
        parked: loaded.parked,
        resident_bytes: Bytes(loaded.resident_bytes),
        load_ms: Millis(loaded.load_us / 1_000),
        idle_ms: Millis(loaded.idle_ms),
        protection: loaded.protection.lines(),
        protection_missing: loaded.protection.missing,
    }
}

pub(crate) fn pull(inner: &Inner, what: &str, events: &EventSender<PullEvent>) {
    let given_by = GivenBy::Command(format!("freehold pull {what}"));
    let result = inner.store.pull(
        what,
        &inner.gateway,
        given_by,
        &mut |step| {
            events.send(match step {
                PullStep::Plan { what, source, bytes, license, sha256 } => {
                    PullEvent::Plan { what, source, bytes, license, sha256 }
                }
                PullStep::Progress { what, done, total } => PullEvent::Progress { what, done, total },
                PullStep::Notice(text) => PullEvent::Notice { text },
            });
        },
        &events.cancel,
    );
    events.send(match result {
        Ok(entries) => PullEvent::Done { models: model_rows(inner, &entries) },
        Err(fault) => PullEvent::Failed { fault },
    });
}

/// Resident memory of this process, by the kernel's account; 0 where there is none.
pub(crate) fn resident_bytes() -> Bytes {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    Bytes(kib.unwrap_or(0) * 1024)
}
