//! Named maps: make and extend, look into, pause, rebuild, check, erase.

use crate::Inner;
use crate::files;
use crate::maps::Card;
use crate::permission::Sight;
use crate::stream::EventSender;
use crate::view::{ForgetReport, IndexEvent, MapDetails, MapForgot, MapSummary, MapVerified, PromptsForgot};
use base::{AppId, Code, Fault, Label, Modality};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

pub(crate) fn summary(inner: &Inner, card: Card) -> MapSummary {
    let counts = inner.maps.open(&card.name).and_then(|map| map.summary()).unwrap_or_default();
    MapSummary {
        folder: card.folder.display().to_string(),
        documents: counts.documents,
        passages: counts.passages,
        embedded: counts.embedded,
        bytes_on_disk: inner.maps.bytes_on_disk(&card.name),
        sources: card.sources.iter().map(|source| source.display().to_string()).collect(),
        label: card.label,
        freshness: inner.fresh.of(&card),
        indexed_at: card.indexed_at,
        name: card.name,
    }
}

pub(crate) fn summaries(inner: &Inner, sight: &Sight) -> Vec<MapSummary> {
    inner.maps.seen(sight).into_iter().map(|card| summary(inner, card)).collect()
}

/// Makes a map of these sources, or adds them to one that is there, and reads them.
pub(crate) fn add(
    inner: &Inner,
    name: &str,
    sources: &[PathBuf],
    label: Option<Label>,
    events: &EventSender<IndexEvent>,
) {
    let card = sources
        .iter()
        .map(|source| checked(inner, source))
        .collect::<Result<Vec<_>, _>>()
        .and_then(|sources| inner.maps.extended(name, sources));
    let result = card.and_then(|mut card| {
        card.label = label.unwrap_or(card.label);
        files::run_card(inner, card, events)
    });
    files::last(result, events);
}

/// A source as it is kept: absolute, without links, and none of those that are never read.
fn checked(inner: &Inner, source: &Path) -> Result<PathBuf, Fault> {
    let path = std::fs::canonicalize(source).map_err(|error| Fault::io("read", source, &error))?;
    let shown = path.display();
    if path.starts_with(&inner.settings.home) || inner.settings.home.starts_with(&path) && path.parent().is_none() {
        return Err(Fault::new(Code::InvalidAsk, format!("`{shown}` is Freehold's own folder"))
            .hint("name a folder with your documents"));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_file() && map::is_secret(&name) {
        return Err(Fault::new(Code::InvalidAsk, format!("`{shown}` is never read: its name says keys or secrets"))
            .hint("`freehold map show NAME` lists what is never read"));
    }
    Ok(path)
}

pub(crate) fn show(inner: &Inner, name: &str) -> Result<MapDetails, Fault> {
    let card = inner.maps.named(name)?;
    let map = inner.maps.open(name)?;
    Ok(MapDetails {
        skipped: map.summary()?.skipped,
        forgotten: card.forgotten.len() as u64,
        embedder: map.serving()?,
        never_read: map::never_read(),
        map: summary(inner, card),
    })
}

pub(crate) fn pause(inner: &Inner, name: &str, paused: bool) -> Result<MapSummary, Fault> {
    let mut card = inner.maps.named(name)?;
    card.paused = paused;
    inner.maps.save(&card)?;
    inner.fresh.maps_changed();
    Ok(summary(inner, card))
}

/// Throws away what is derived, has all files read again, and makes anew what is missing.
pub(crate) fn rebuild(inner: &Inner, name: &str, events: &EventSender<IndexEvent>) {
    let result = inner.maps.named(name).and_then(|card| {
        {
            let _turn = turn(inner);
            match inner.maps.open(name).and_then(|map| map.start_over()) {
                // A record that can't be used is thrown away as well: the files have it all.
                Err(fault) if fault.code == Code::MapDamaged => {
                    inner.maps.discard(name)?;
                    events
                        .send(IndexEvent::Notice { text: format!("the record was damaged and is made anew: {fault}") });
                }
                other => other?,
            }
        }
        files::run_card(inner, card, events)
    });
    files::last(result, events);
}

pub(crate) fn verify(inner: &Inner, name: &str) -> Result<MapVerified, Fault> {
    let card = inner.maps.named(name)?;
    let _turn = turn(inner);
    let inspection = inner.maps.open(name)?.inspect(&card.scope())?;
    Ok(MapVerified { map: card.name, inspection })
}

/// Removes a map with all that was read for it, and proves it.
pub(crate) fn remove(inner: &Inner, name: &str) -> Result<ForgetReport, Fault> {
    let card = inner.maps.named(name)?;
    let _turn = turn(inner);
    let forgot = remove_card(inner, &card)?;
    inner.fresh.maps_changed();
    let prompts = forget_prompts(inner, None, None);
    Ok(ForgetReport { maps: vec![forgot], unloaded: unload(inner), prompts })
}

fn remove_card(inner: &Inner, card: &Card) -> Result<MapForgot, Fault> {
    let map = inner.maps.open(&card.name)?;
    // The root holds every path: what lies in no source any more goes as well.
    let forgotten = map.forget(&[PathBuf::from("/")])?;
    drop(map);
    inner.maps.discard(&card.name)?;
    Ok(MapForgot { map: card.name.clone(), removed: true, forgotten })
}

/// Erases what was read of a path from every map. What is still there isn't read again.
pub(crate) fn forget(inner: &Inner, path: &Path) -> Result<ForgetReport, Fault> {
    // What was deleted can be forgotten as well; then its folder tells where it was.
    let path = std::fs::canonicalize(path).or_else(|error| match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok(std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into()).join(name)),
        _ => Err(Fault::io("find", path, &error)),
    })?;
    let _turn = turn(inner);
    let mut report = ForgetReport::default();
    for mut card in inner.maps.cards() {
        let is_source = card.sources.contains(&path);
        let inside = card.sources.iter().any(|source| path.starts_with(source));
        let above = card.sources.iter().any(|source| source.starts_with(&path));
        if !inside && !above {
            continue;
        }
        card.sources.retain(|source| !source.starts_with(&path));
        if card.sources.is_empty() {
            report.maps.push(remove_card(inner, &card)?);
            continue;
        }
        card.folder.clone_from(&card.sources[0]);
        // First it is kept from coming back, then it is erased.
        if inside && !is_source && path.exists() {
            card.forgotten.insert(map::scope::fingerprint(&path));
        }
        inner.maps.save(&card)?;
        let forgotten = inner.maps.open(&card.name)?.forget(std::slice::from_ref(&path))?;
        report.maps.push(MapForgot { map: card.name, removed: false, forgotten });
    }
    if report.maps.is_empty() {
        return Err(Fault::new(Code::MapMissing, format!("no map reads `{}`", path.display()))
            .hint("`freehold map list` shows what the maps read"));
    }
    inner.fresh.maps_changed();
    report.prompts = forget_prompts(inner, None, None);
    report.unloaded = unload(inner);
    Ok(report)
}

/// Lets go of what is kept of prompts. After an erasure of all of it: which prompts held passages of what was erased isn't
/// recorded, and any program may have sent the same text by itself.
pub(crate) fn forget_prompts(inner: &Inner, app: Option<&AppId>, model: Option<&str>) -> PromptsForgot {
    inner.baselines.forget(app, model);
    match inner.engine.forget_prompts(app, model) {
        Ok(gone) => PromptsForgot {
            states: gone.states,
            states_bytes: gone.states_bytes,
            files: gone.files,
            files_bytes: gone.files_bytes,
            left: gone.left,
            problem: None,
        },
        Err(fault) => PromptsForgot { problem: Some(fault.message), ..PromptsForgot::default() },
    }
}

/// Lets every loaded chat model go: it may keep prompts, and with them passages, in its memory.
fn unload(inner: &Inner) -> Vec<String> {
    let loaded = inner.engine.loaded().into_iter().map(|loaded| loaded.name);
    let names: Vec<String> = loaded.filter(|name| inner.model_for(name, Modality::Chat).is_ok()).collect();
    names.iter().for_each(|name| inner.engine.unload(name));
    names
}

fn turn(inner: &Inner) -> MutexGuard<'_, ()> {
    inner.indexing.lock().unwrap_or_else(PoisonError::into_inner)
}
