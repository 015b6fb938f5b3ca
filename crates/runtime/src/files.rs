//! The person's own files: index, search, ask.
//!
//! All of it runs on blocking threads. Whether the files hold an answer and what is cited is
//! decided here from retrieved evidence, never by a language model's word.

use crate::embedder::Embedder;
use crate::filter;
use crate::maps::Card;
use crate::permission::Sight;
use crate::prompt::prompt;
use crate::reranker::{Reranker, reranker};
use crate::stream::{EventSender, Reader};
use crate::view::{
    AskEvent, AskFilesRequest, IndexEvent, IndexReport, Receipt, Reranking, SEARCH_LIMIT_MAX, SearchHit, SearchReply,
    SearchRequest, SkippedFile,
};
use crate::{Inner, own_app};
use base::{Ask, Bytes, Code, Delta, Fault, Finish, Label, Limits, Millis, Modality, Sampling, Usage};
use engine::ModelSource;
use map::cite::{Marker, Quoted};
use map::evidence::Verdict;
use map::rerank::{self, Weighing};
use map::{Embed, Hit, IndexStep, Query};
use std::path::Path;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Hits that the evidence is weighed over.
const HITS_MAX: usize = 12;
/// Passages that a language model gets to see.
const PASSAGES_MAX: usize = 3;
/// An answer from files is short; a small model that goes on only wanders off.
const ANSWER_TOKENS_MAX: u32 = 160;

pub(crate) fn index(inner: &Inner, folder: &Path, events: &EventSender<IndexEvent>) {
    last(run_index(inner, folder, events), events);
}

/// The last event of a run.
pub(crate) fn last(result: Result<IndexReport, Fault>, events: &EventSender<IndexEvent>) {
    events.send(match result {
        Ok(report) => IndexEvent::Done { report },
        Err(fault) => IndexEvent::Failed { fault },
    });
}

fn run_index(inner: &Inner, folder: &Path, events: &EventSender<IndexEvent>) -> Result<IndexReport, Fault> {
    let folder = std::fs::canonicalize(folder).map_err(|error| Fault::io("read", folder, &error))?;
    if !folder.is_dir() {
        let name = folder.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        return Err(Fault::new(Code::InvalidAsk, format!("`{}` is a file, not a folder", folder.display()))
            .hint(format!(
                "index the folder it lies in: `freehold index {}`",
                folder.parent().unwrap_or(&folder).display()
            ))
            .hint(format!("or make a map of single files: `freehold map add {name} {}`", folder.display())));
    }
    run_card(inner, inner.maps.for_folder(&folder), events)
}

/// Brings a map in step with all its sources. Its card is saved first: whatever ends the run, what it has read
/// belongs to these sources.
pub(crate) fn run_card(inner: &Inner, mut card: Card, events: &EventSender<IndexEvent>) -> Result<IndexReport, Fault> {
    let started = Instant::now();
    let _alone = turn(inner, events)?;
    let map = inner.maps.open(&card.name)?;
    inner.maps.save(&card)?;
    let embedder = embedder(inner, Some(&events.reader));
    if embedder.is_none() {
        events.send(IndexEvent::Notice {
            text:
                "no embedding model yet, so passages are found by their words alone; `freehold pull starter` adds one"
                    .into(),
        });
    }
    let scope = card.scope();
    let read = map
        .sync(
            &scope,
            embedder.as_ref().map(|embedder| embedder as &dyn Embed),
            &mut |step| match step {
                IndexStep::Progress { stage, done, total, path } => events.offer(IndexEvent::Progress {
                    stage: stage.to_string(),
                    done,
                    total,
                    path: path.map(|path| path.display().to_string()),
                }),
                // The report has all of them again.
                IndexStep::Skipped { path, fault } => {
                    events.offer(IndexEvent::Skipped { path: path.display().to_string(), fault });
                }
                IndexStep::Notice(text) => events.send(IndexEvent::Notice { text }),
            },
            &events.cancel,
        )
        .and_then(|report| if report.documents == 0 { Err(map::nothing_read(&scope, &report)) } else { Ok(report) });
    let report = match read {
        Ok(report) => report,
        Err(fault) => {
            // Sources that gave nothing are no map.
            if card.indexed_at.is_none() && map.summary().is_ok_and(|summary| summary.documents == 0) {
                drop(map);
                inner.maps.discard(&card.name)?;
            }
            return Err(fault);
        }
    };
    card.indexed_at = Some(now_rfc3339());
    inner.maps.save(&card)?;
    inner.fresh.maps_changed();
    let embedded = map.summary()?.embedded;
    Ok(IndexReport {
        map: card.name,
        folder: card.folder.display().to_string(),
        documents: report.documents,
        passages: report.passages,
        added: report.added,
        changed: report.changed,
        removed: report.removed,
        unchanged: report.unchanged,
        embedded,
        skipped: report
            .skipped
            .into_iter()
            .map(|(path, fault)| SkippedFile { path: path.display().to_string(), fault })
            .collect(),
        took_ms: Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
        protection: report.protection,
    })
}

/// LIMIT: milliseconds between two looks at whether another run has ended.
const TURN_CHECK_MS: u64 = 100;

/// Waits until no other run is under way, and says that it waits.
fn turn<'a>(inner: &'a Inner, events: &EventSender<IndexEvent>) -> Result<MutexGuard<'a, ()>, Fault> {
    let mut told = false;
    loop {
        match inner.indexing.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) if events.cancelled() => {
                return Err(Fault::new(Code::Cancelled, "cancelled before it began"));
            }
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    events.send(IndexEvent::Notice {
                        text: "another folder is being read; this one waits for it".into(),
                    });
                }
                std::thread::sleep(Duration::from_millis(TURN_CHECK_MS));
            }
        }
    }
}

/// The embedder, when there is a model for it. Its absence is no fault: words alone work.
pub(crate) fn embedder(inner: &Inner, reader: Option<&Reader>) -> Option<Embedder> {
    let source = inner.model_for("", Modality::Embed).ok()?;
    Some(Embedder { engine: inner.engine.clone(), source, reader: reader.cloned() })
}

/// The embedder whose vectors a map has: the default one, or the one before it while the default one isn't through.
fn embedder_of(inner: &Inner, map: &map::Map, default: Option<&Embedder>) -> Result<Option<Embedder>, Fault> {
    let Some(default) = default else { return Ok(None) };
    let serving = map.serving()?.filter(|serving| *serving != default.source.name.0);
    let before = serving.and_then(|serving| inner.model_for(&serving, Modality::Embed).ok());
    Ok(Some(match before {
        Some(source) => Embedder { source, ..default.clone() },
        None => default.clone(),
    }))
}

pub(crate) fn now_rfc3339() -> String {
    time::OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .ok()
        .and_then(|now| now.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

#[derive(Debug, Default)]
struct Retrieved {
    hits: Vec<Hit>,
    arms: String,
    /// The model that had a second look.
    reranked: Option<String>,
    notices: Vec<String>,
    took_us: u64,
    passages: u64,
}

/// Searches the chosen maps and merges their hits; where there is a reranker, the best of all maps together get a
/// second look.
fn retrieve(
    inner: &Inner,
    cards: &[Card],
    query: &Query,
    embedder: Option<&Embedder>,
    reranker: Option<&Reranker>,
) -> Result<Retrieved, Fault> {
    let started = Instant::now();
    let mut found = Retrieved::default();
    let weighing = Weighing::default();
    let wanted = query.limit;
    let deep = reranker.map_or(wanted, |_| wanted.max(weighing.candidates));
    let query = &Query { limit: deep, ..query.clone() };
    let (mut searched, mut arms) = (Vec::with_capacity(cards.len()), Vec::new());
    for card in cards {
        let map = inner.maps.open(&card.name)?;
        let own = embedder_of(inner, &map, embedder)?;
        let mut result = map.search(query, own.as_ref().map(|embedder| embedder as &dyn Embed))?;
        if !arms.contains(&result.arms) {
            arms.push(std::mem::take(&mut result.arms));
        }
        found.notices.append(&mut result.notices);
        let passages = map.passages()?;
        found.passages += passages;
        searched.push((result, passages));
    }
    found.hits = map::merge::merge(searched, query.limit);
    if let Some(reranker) = reranker {
        let mut outcome = rerank::rerank(&query.text, &mut found.hits, reranker, weighing);
        found.reranked = outcome.by;
        found.notices.append(&mut outcome.notices);
    }
    found.hits.truncate(wanted);
    found.arms = arms.join("; ");
    found.took_us = micros(started);
    Ok(found)
}

/// The maps to search: those that the request means, of those that its caller may see. No other is opened.
fn chosen(inner: &Inner, wanted: Option<&str>, sight: &Sight, labels: &[Label]) -> Result<Vec<Card>, Fault> {
    let mut cards = inner.maps.select(wanted, sight)?;
    cards.retain(|card| labels.contains(&card.label));
    if cards.is_empty() {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let said = if labels.is_empty() { "all that was asked for at once".into() } else { labels.join(" or ") };
        return Err(Fault::new(Code::MapMissing, format!("none of these maps is labelled {said}"))
            .hint("`freehold map list` shows the labels; `freehold map add NAME --label LABEL` sets one"));
    }
    Ok(cards)
}

/// The labels that each of the lists asks for, each once; an empty list asks for all.
fn labels(asked: [&[Label]; 2], least: Label) -> Vec<Label> {
    let wanted = |label: &Label| *label >= least && asked.iter().all(|list| list.is_empty() || list.contains(label));
    Label::ALL.into_iter().filter(wanted).collect()
}

pub(crate) fn search(inner: &Inner, request: &SearchRequest, sight: &Sight) -> Result<SearchReply, Fault> {
    if request.query.trim().is_empty() {
        return Err(Fault::new(Code::InvalidAsk, "the query is empty")
            .hint("give some words: `freehold search \"boiler service\"`"));
    }
    let parsed = map::syntax::parse(&request.query);
    let notes = parsed.notes.clone();
    let asked = [&request.filter.labels[..], &parsed.labels[..]];
    let cards = chosen(inner, request.map.as_deref(), sight, &labels(asked, request.label))?;
    let embedder = if request.lexical_only { None } else { embedder(inner, None) };
    // By words alone means without any model, unless one is asked for.
    let second =
        if request.lexical_only && request.rerank == Reranking::Auto { Reranking::Off } else { request.rerank };
    let reranker = reranker(inner, second, None)?;
    let mut query = Query::of(parsed, request.limit.clamp(1, SEARCH_LIMIT_MAX) as usize);
    query.filter = query.filter.and(filter::filter(&request.filter)?);
    query.explain = request.explain;
    let mut found = retrieve(inner, &cards, &query, embedder.as_ref(), reranker.as_ref())?;
    found.notices.splice(0..0, notes);
    Ok(SearchReply {
        hits: found.hits.into_iter().map(|hit| search_hit(hit, &cards)).collect(),
        took_us: found.took_us,
        arms: found.arms,
        reranked: found.reranked,
        notices: found.notices,
        freshness: cards.iter().map(|card| inner.fresh.of(card)).collect(),
    })
}

fn search_hit(hit: Hit, cards: &[Card]) -> SearchHit {
    let card = cards.iter().find(|card| card.sources.iter().any(|source| hit.path.starts_with(source)));
    let (map, label) = card.map(|card| (card.name.clone(), card.label)).unwrap_or_default();
    filter::shown(hit, map, label)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn ask(inner: &Inner, request: &AskFilesRequest, sight: &Sight, events: &EventSender<AskEvent>) {
    if let Err(fault) = run_ask(inner, request, sight, events) {
        events.send(AskEvent::Failed { fault });
    }
}

fn run_ask(
    inner: &Inner,
    request: &AskFilesRequest,
    sight: &Sight,
    events: &EventSender<AskEvent>,
) -> Result<(), Fault> {
    let started = Instant::now();
    let question = request.question.trim();
    if question.is_empty() {
        return Err(Fault::new(Code::InvalidAsk, "the question is empty")
            .hint("ask something: `freehold ask \"When does the lease end?\"`"));
    }
    let before = inner.gateway.totals();
    let wanted = labels([&request.filter.labels[..], &[]], Label::default());
    let cards = chosen(inner, request.map.as_deref(), sight, &wanted)?;
    // A missing model is said before the search, not after it.
    let source = if request.quotes { None } else { Some(inner.chat_model(&request.model)?) };
    let reranker = reranker(inner, request.rerank, Some(&events.reader))?;
    let embedder = embedder(inner, Some(&events.reader));
    // A question's quotation marks and colons are its own: only a search has a syntax.
    let filter = filter::filter(&request.filter)?;
    let filtered = !filter.is_empty() || !request.filter.labels.is_empty();
    let query = Query { text: question.to_owned(), limit: HITS_MAX, filter, ..Query::default() };
    let found = retrieve(inner, &cards, &query, embedder.as_ref(), reranker.as_ref())?;
    if events.cancelled() {
        return Err(Fault::new(Code::Cancelled, "nobody waits for this answer any more"));
    }
    for text in found.notices.iter().cloned() {
        events.send(AskEvent::Notice { text });
    }
    let mut receipt = Receipt {
        usage: None,
        devices: Vec::new(),
        search_us: found.took_us,
        total_us: 0,
        passages_searched: found.passages,
        bytes_sent: Bytes(0),
        crossings_uncounted: 0,
        freshness: cards.iter().map(|card| inner.fresh.of(card)).collect(),
    };
    match map::evidence::judge(question, &found.hits) {
        Verdict::NotFound { reason } if filtered => {
            events.send(AskEvent::NoAnswer { reason: format!("among the documents that the filter leaves: {reason}") });
        }
        Verdict::NotFound { reason } => events.send(AskEvent::NoAnswer { reason }),
        Verdict::Found { used } => {
            let used = &used[..used.len().min(PASSAGES_MAX)];
            let cited = map::verify::cite(question, &found.hits, used);
            for text in cited.notices {
                events.send(AskEvent::Notice { text });
            }
            if cited.quoted.is_empty() {
                let reason = "every passage that was found has changed since it was indexed".into();
                events.send(AskEvent::NoAnswer { reason });
            } else if let Some(source) = source {
                let name = source.name.0.clone();
                receipt.usage = answer(inner, &source, request, cited.quoted, events)?;
                let loaded = inner.engine.loaded().into_iter().find(|loaded| loaded.name == name);
                receipt.devices = loaded.map(|loaded| loaded.devices).unwrap_or_default();
            } else {
                send_passages(request, &cited.quoted, events);
                cited
                    .quoted
                    .into_iter()
                    .for_each(|quoted| events.send(AskEvent::Citation { citation: quoted.citation }));
            }
        }
    }
    receipt.total_us = micros(started);
    let now = inner.gateway.totals();
    receipt.bytes_sent = Bytes(now.bytes_sent.saturating_sub(before.bytes_sent));
    receipt.crossings_uncounted = now.uncounted.saturating_sub(before.uncounted);
    events.send(AskEvent::Done { receipt });
    Ok(())
}

/// Answers from as many of the quotations as the model's window holds, the strongest first.
fn answer(
    inner: &Inner,
    source: &ModelSource,
    request: &AskFilesRequest,
    mut quoted: Vec<Quoted>,
    events: &EventSender<AskEvent>,
) -> Result<Option<Usage>, Fault> {
    loop {
        match answer_from(inner, source, request, &quoted, events) {
            Err(fault) if fault.code == Code::ContextOverflow && quoted.len() > 1 => {
                let path = quoted.pop().map(|left| left.citation.path).unwrap_or_default();
                let text =
                    format!("a passage of `{path}` was left out, for the model's window can't hold it ({fault})");
                events.send(AskEvent::Notice { text });
            }
            other => return other,
        }
    }
}

/// Streams the model's sentences with the marks that the quotations support, then the quotations.
fn answer_from(
    inner: &Inner,
    source: &ModelSource,
    request: &AskFilesRequest,
    quoted: &[Quoted],
    events: &EventSender<AskEvent>,
) -> Result<Option<Usage>, Fault> {
    let sampling = Sampling { temperature: 0.0, repeat_penalty: 1.05, ..Sampling::default() };
    let limits = Limits { tokens_max: Some(request.tokens_max.unwrap_or(ANSWER_TOKENS_MAX)), deadline_ms: None };
    let messages = prompt(&request.question, quoted, source.facts.parameters);
    let ask = Ask::new(own_app(), request.model.clone(), messages, sampling, Vec::new(), limits)?;
    let mut answer = inner.engine.submit(source.clone(), ask);
    let mut marker = Marker::new(quoted);
    let mut usage = None;
    // Dropping the answer cancels it, queued or in the middle of its prefill.
    while let Some(Some(delta)) = events.reader.unless_gone(answer.next()) {
        match delta? {
            Delta::Progress(progress) => events.send(AskEvent::Progress { progress }),
            Delta::Text(text) => send_text(events, marker.push(&text)),
            Delta::Citation(citation) => events.send(AskEvent::Citation { citation }),
            // One question has no turns that could be left out, and no tools. What the model thought is no answer.
            Delta::Compacted(_) | Delta::Thought(_) | Delta::Call(_) => {}
            Delta::Notice(text) => events.send(AskEvent::Notice { text }),
            Delta::Usage(spent) => usage = Some(spent),
            Delta::Done(Finish::Length | Finish::StructureIncomplete) => {
                events.send(AskEvent::Notice { text: "the answer reached its limit of tokens and ends there".into() })
            }
            Delta::Done(Finish::Loop) => {
                events.send(AskEvent::Notice { text: "the answer began to repeat itself and was ended".into() })
            }
            Delta::Done(Finish::EndOfTurn | Finish::StopString | Finish::Cancelled | Finish::ToolCalls) => {}
        }
    }
    if events.cancelled() {
        return Ok(usage);
    }
    let (rest, supported) = marker.finish();
    send_text(events, rest);
    if supported.is_empty() {
        events.send(AskEvent::Notice {
            text: "no sentence of this answer could be matched with your files; rely on the quotations".into(),
        });
    }
    send_passages(request, quoted, events);
    quoted.iter().for_each(|quoted| events.send(AskEvent::Citation { citation: supported.citation(quoted) }));
    Ok(usage)
}

/// The passages that an answer is made from, when they were asked for.
fn send_passages(request: &AskFilesRequest, quoted: &[Quoted], events: &EventSender<AskEvent>) {
    for one in quoted.iter().filter(|_| request.passages) {
        events.send(AskEvent::Passage {
            number: one.citation.number,
            path: one.citation.path.clone(),
            heading: one.heading.clone(),
            text: one.passage.clone(),
        });
    }
}

fn send_text(events: &EventSender<AskEvent>, text: String) {
    if !text.is_empty() {
        events.send(AskEvent::Text { text });
    }
}
