//! The person's own files: index, search, ask.
//!
//! All of it runs on blocking threads. Whether the files hold an answer and what is cited is
//! decided here from retrieved evidence, never by a language model's word.

use crate::embedder::Embedder;
use crate::maps::Card;
use crate::stream::EventSender;
use crate::view::{
    AskEvent, AskFilesRequest, IndexEvent, IndexReport, Receipt, SearchHit, SearchReply, SearchRequest, SkippedFile,
};
use crate::{Inner, own_app};
use base::{Ask, Bytes, Citation, Code, Delta, Fault, Limits, Message, Millis, Modality, Role, Sampling, Usage};
use map::{Embed, Hit, IndexStep, Query};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

/// Passages that a language model gets to see.
const PASSAGES_MAX: usize = 3;
/// An answer from files is short; a small model that goes on only wanders off.
const ANSWER_TOKENS_MAX: u32 = 160;

pub(crate) fn index(inner: &Inner, folder: &Path, events: &EventSender<IndexEvent>) {
    let result = run_index(inner, folder, events);
    events.send(match result {
        Ok(report) => IndexEvent::Done { report },
        Err(fault) => IndexEvent::Failed { fault },
    });
}

fn run_index(inner: &Inner, folder: &Path, events: &EventSender<IndexEvent>) -> Result<IndexReport, Fault> {
    let started = Instant::now();
    let folder = std::fs::canonicalize(folder).map_err(|error| Fault::io("read", folder, &error))?;
    if !folder.is_dir() {
        return Err(Fault::new(Code::InvalidAsk, format!("`{}` is a file, not a folder", folder.display()))
            .hint(format!("index the folder it lies in: `freehold index {}`", folder.parent().unwrap_or(&folder).display())));
    }
    let _alone = inner.indexing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut card = inner.maps.for_folder(&folder)?;
    let map = inner.maps.open(&card.name)?;
    let embedder = embedder(inner);
    if embedder.is_none() {
        events.send(IndexEvent::Notice {
            text: "no embedding model yet, so passages are found by their words alone; `freehold pull starter` adds one".into(),
        });
    }
    let report = map.index(
        &folder,
        embedder.as_ref().map(|embedder| embedder as &dyn Embed),
        &mut |step| {
            events.send(match step {
                IndexStep::Progress { stage, done, total, path } => {
                    IndexEvent::Progress { stage: stage.to_string(), done, total, path: path.map(|path| path.display().to_string()) }
                }
                IndexStep::Skipped { path, fault } => IndexEvent::Skipped { path: path.display().to_string(), fault },
                IndexStep::Notice(text) => IndexEvent::Notice { text },
            });
        },
        &events.cancel,
    )?;
    card.indexed_at = Some(now_rfc3339());
    inner.maps.save(&card)?;
    Ok(IndexReport {
        map: card.name,
        folder: folder.display().to_string(),
        documents: report.documents,
        passages: report.passages,
        added: report.added,
        changed: report.changed,
        removed: report.removed,
        unchanged: report.unchanged,
        embedded: report.embedded,
        skipped: report
            .skipped
            .into_iter()
            .map(|(path, fault)| SkippedFile { path: path.display().to_string(), fault })
            .collect(),
        took_ms: Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        protection: report.protection,
    })
}

/// The embedder, when there is a model for it. Its absence is no fault: words alone work.
fn embedder(inner: &Inner) -> Option<Embedder> {
    let source = inner.model_for("", Modality::Embed).ok()?;
    Some(Embedder { engine: inner.engine.clone(), source })
}

fn now_rfc3339() -> String {
    time::OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

struct Retrieved {
    hits: Vec<Hit>,
    arms: String,
    notices: Vec<String>,
    took_us: u64,
    passages: u64,
}

/// Searches the chosen maps and merges their hits by score.
fn retrieve(inner: &Inner, cards: &[Card], text: &str, limit: u32, lexical_only: bool) -> Result<Retrieved, Fault> {
    let started = Instant::now();
    let embedder = if lexical_only { None } else { embedder(inner) };
    let mut found = Retrieved { hits: Vec::new(), arms: String::new(), notices: Vec::new(), took_us: 0, passages: 0 };
    for card in cards {
        let map = inner.maps.open(&card.name)?;
        let query = Query { text: text.to_string(), limit: limit as usize };
        let result = map.search(&query, embedder.as_ref().map(|embedder| embedder as &dyn Embed))?;
        found.hits.extend(result.hits);
        found.arms = result.arms;
        found.notices.extend(result.notices);
        found.passages += map.summary()?.passages;
    }
    found.hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.hits.truncate(limit as usize);
    found.took_us = micros(started);
    Ok(found)
}

pub(crate) fn search(inner: &Inner, request: &SearchRequest) -> Result<SearchReply, Fault> {
    if request.query.trim().is_empty() {
        return Err(Fault::new(Code::InvalidAsk, "the query is empty").hint("give some words: `freehold search \"boiler service\"`"));
    }
    let cards = inner.maps.select(request.map.as_deref())?;
    let found = retrieve(inner, &cards, &request.query, request.limit.clamp(1, 100), request.lexical_only)?;
    Ok(SearchReply {
        hits: found.hits.into_iter().map(search_hit).collect(),
        took_us: found.took_us,
        arms: found.arms,
        notices: found.notices,
    })
}

fn search_hit(hit: Hit) -> SearchHit {
    SearchHit {
        path: hit.path.display().to_string(),
        place: hit.place,
        title: hit.title,
        heading: hit.heading,
        text: hit.text,
        score: hit.score,
        highlights: hit.highlights,
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
