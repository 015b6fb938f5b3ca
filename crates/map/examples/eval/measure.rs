//! What is measured: ranking, spans, evidence.

use super::collection::{Answered, Collection, Library, Question, Spans};
use super::resample::{Interval, difference};
use super::{Arm, Outcome, Report, Table, ask};
use base::Place;
use freehold_map::evidence::{self, Verdict};
use freehold_map::{Embed, Hit, Map, Tuning, verify};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// The shape that `cargo xtask` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) measured: f64,
    pub(crate) peer: Option<f64>,
    pub(crate) unit: String,
    pub(crate) goal: String,
    pub(crate) ratio: Option<f64>,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) met: bool,
}

fn goal(name: &str, measured: f64, peer: Option<f64>, least: f64) -> Goal {
    Goal {
        name: name.into(),
        measured,
        peer,
        unit: String::new(),
        goal: format!(">= {least}"),
        ratio: None,
        interval: None,
        met: measured >= least,
    }
}

/// A figure without a bound of its own: what is good depends on the collection.
pub(crate) fn figure(name: &str, values: &[f64]) -> Goal {
    Goal { goal: "is measured".into(), met: !values.is_empty(), ..goal(name, mean(values), None, 0.0) }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Documents of the hits, each once, in order, by their names in the collection. What was left out as alike stands
/// beside what it is alike to.
fn documents<'a>(collection: &'a Collection, hits: &[Hit]) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let paths = hits.iter().flat_map(|hit| std::iter::once(&hit.path).chain(hit.alike.iter().map(|(path, _)| path)));
    let number = |path: &std::path::PathBuf| path.file_stem()?.to_str()?.parse::<usize>().ok();
    paths
        .filter_map(number)
        .filter(|number| seen.insert(*number))
        .filter_map(|number| Some(collection.documents.get(number)?.0.as_str()))
        .collect()
}

fn ndcg(ranked: &[&str], relevant: &HashMap<String, u32>, depth: usize) -> f64 {
    let gain = |grade: u32, rank: usize| f64::from(grade) / (rank as f64 + 2.0).log2();
    let found: f64 =
        ranked.iter().take(depth).enumerate().filter_map(|(rank, name)| Some(gain(*relevant.get(*name)?, rank))).sum();
    let mut grades: Vec<u32> = relevant.values().copied().collect();
    grades.sort_unstable_by(|a, b| b.cmp(a));
    let ideal: f64 = grades.into_iter().take(depth).enumerate().map(|(rank, grade)| gain(grade, rank)).sum();
    if ideal > 0.0 { found / ideal } else { 0.0 }
}

/// What others measured here with the same library and a stemmer, over whole documents.
const CRANFIELD_STEMMED: f64 = 0.3643;

/// What one arm reached, query by query.
pub(crate) struct Reached {
    pub(crate) arm: &'static str,
    pub(crate) ndcgs: Vec<f64>,
    pub(crate) recalls: Vec<f64>,
}

/// Passages that are asked for to find a hundred documents.
const DEEP: usize = 400;

/// nDCG@10 as a search gives it, and recall@100 of documents.
pub(crate) fn ranking(
    collection: &Collection,
    map: &Map,
    arms: &[Arm],
    embed: Option<&dyn Embed>,
    report: &mut Report,
) -> Outcome<Vec<Reached>> {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for arm in arms {
        let (mut ndcgs, mut recalls, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for query in &collection.queries {
            let found = ask(map, &query.text, 100, arm, embed)?;
            times.push(found.took_us as f64 / 1000.0);
            ndcgs.push(ndcg(&documents(collection, &found.hits), &query.relevant, 10));
            let deep = ask(map, &query.text, DEEP, arm, embed)?;
            let ranked = documents(collection, &deep.hits);
            let relevant = query.relevant.values().filter(|grade| **grade > 0).count().max(1);
            let is_relevant = |name: &&&str| query.relevant.get(**name).is_some_and(|grade| *grade > 0);
            recalls.push(ranked.iter().take(100).filter(is_relevant).count() as f64 / relevant as f64);
        }
        times.sort_by(f64::total_cmp);
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(0.0);
        rows.push(vec![
            arm.name.into(),
            format!("{:.4}", mean(&ndcgs)),
            format!("{:.4}", mean(&recalls)),
            format!("{p99:.1}"),
        ]);
        all.push(Reached { arm: arm.name, ndcgs, recalls });
    }
    let head = ["arm", "nDCG@10", "recall@100", "p99 ms"].map(str::to_owned).to_vec();
    report.tables.push(Table {
        title: format!("{}, {} queries", collection.name, collection.queries.len()),
        head,
        rows,
    });
    Ok(all)
}

pub(crate) fn cranfield(
    collection: &Collection,
    map: &Map,
    arms: &[Arm],
    embed: Option<&dyn Embed>,
    report: &mut Report,
) -> Outcome<()> {
    for reached in ranking(collection, map, arms, embed, report)? {
        let measured = mean(&reached.ndcgs);
        match reached.arm {
            "lexical" => {
                let stemmed = Some(CRANFIELD_STEMMED);
                report.goals.push(goal("Cranfield, words: nDCG@10", measured, stemmed, CRANFIELD_STEMMED));
            }
            "hybrid" => report.goals.push(goal("Cranfield, hybrid: nDCG@10", measured, None, 0.4)),
            _ => {}
        }
    }
    Ok(())
}

/// Arms with what each query reached by them.
pub(crate) type ByArm = Vec<(&'static str, Vec<f64>)>;

/// Hybrid against each of its arms, query by query, in each collection: better on average, significantly worse in none.
pub(crate) fn against_arms(what: &str, collections: &[(String, ByArm)], report: &mut Report) {
    let of =
        |reached: &ByArm, arm: &str| reached.iter().find(|(name, _)| *name == arm).map(|(_, values)| values.clone());
    let mut rows = Vec::new();
    for arm in ["lexical", "vector"] {
        let (mut means, mut worse) = (Vec::new(), 0.0);
        for (name, reached) in collections {
            let (Some(hybrid), Some(alone)) = (of(reached, "hybrid"), of(reached, arm)) else { continue };
            let Interval { mean, low, high } = difference(&hybrid, &alone);
            worse += f64::from(u8::from(high < 0.0));
            means.push(mean);
            rows.push(vec![name.clone(), arm.into(), format!("{mean:+.4}"), format!("{low:+.4} to {high:+.4}")]);
        }
        if means.is_empty() {
            continue;
        }
        report.goals.push(goal(&format!("{what}: hybrid above {arm} on average"), mean(&means), None, 0.0));
        let name = format!("{what}: collections where hybrid is significantly worse than {arm}");
        let none = Goal { goal: "= 0".into(), met: worse == 0.0, ..goal(&name, worse, None, 0.0) };
        report.goals.push(none);
    }
    if !rows.is_empty() {
        let head = ["collection", "against", "difference", "95 % by paired bootstrap"].map(str::to_owned).to_vec();
        report.tables.push(Table { title: format!("hybrid against its arms, {what}"), head, rows });
    }
}

/// Bytes that two sets of ranges share, and that the second has.
fn overlap(spans: &[Range<usize>], passages: &[Range<usize>]) -> usize {
    // Passages never overlap each other.
    passages
        .iter()
        .flat_map(|passage| {
            spans.iter().map(move |span| span.end.min(passage.end).saturating_sub(span.start.max(passage.start)))
        })
        .sum()
}

fn bytes_of(hit: &Hit) -> Range<usize> {
    match hit.place {
        Place::Lines { byte_start, byte_end, .. } => byte_start as usize..byte_end as usize,
        _ => 0..0,
    }
}

fn length(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(ExactSizeIterator::len).sum()
}

const TOP: usize = 5;

pub(crate) fn spans(
    collection: &Spans,
    maps: &[(String, Map)],
    arms: &[Arm],
    embed: Option<&dyn Embed>,
    report: &mut Report,
) -> Outcome<ByArm> {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for arm in arms {
        let (mut recalls, mut precisions) = (Vec::new(), Vec::new());
        let mut by_corpus: HashMap<&str, Vec<f64>> = HashMap::new();
        for question in &collection.questions {
            let Some((_, map)) = maps.iter().find(|(name, _)| *name == question.corpus) else { continue };
            let found = ask(map, &question.text, TOP, arm, embed)?;
            let passages: Vec<Range<usize>> = found.hits.iter().map(bytes_of).collect();
            let shared = overlap(&question.spans, &passages) as f64;
            let recall = shared / length(&question.spans).max(1) as f64;
            recalls.push(recall);
            by_corpus.entry(&question.corpus).or_default().push(recall);
            precisions.push(shared / length(&passages).max(1) as f64);
        }
        let mut row = vec![arm.name.to_owned(), format!("{:.4}", mean(&recalls)), format!("{:.4}", mean(&precisions))];
        row.extend(maps.iter().map(|(name, _)| {
            by_corpus.get(name.as_str()).map_or(String::new(), |values| format!("{:.3}", mean(values)))
        }));
        rows.push(row);
        match arm.name {
            "lexical" => report.goals.push(goal("spans, words: recall in the first 5", mean(&recalls), None, 0.85)),
            "hybrid" => report.goals.push(goal("spans, hybrid: recall in the first 5", mean(&recalls), None, 0.85)),
            _ => {}
        }
        all.push((arm.name, recalls));
    }
    let mut head = vec!["arm".to_owned(), "recall".into(), "precision".into()];
    head.extend(maps.iter().map(|(name, _)| name.clone()));
    report.tables.push(Table {
        title: format!("answer spans, {} questions, first {TOP} passages", collection.questions.len()),
        head,
        rows,
    });
    Ok(all)
}

#[derive(Serialize)]
struct Features<'a> {
    question: &'a str,
    corpus: &'a str,
    map: &'a str,
    answerable: bool,
    words: usize,
    unknown: f32,
    /// Coverage, with headings, together, dense, whether the passage holds the answer.
    hits: Vec<(f32, f32, f32, Option<f32>, bool)>,
}

/// Whether answerable questions are answered and others refused: each question is put to its own corpus
/// and to all others.
pub(crate) fn evidence(
    collection: &Spans,
    maps: &[(String, Map)],
    embed: Option<&dyn Embed>,
    features: Option<&Path>,
    report: &mut Report,
) -> Outcome<()> {
    let mut out = features.map(std::fs::File::create).transpose()?.map(std::io::BufWriter::new);
    let usual = Tuning { fusion: Some(super::TUNED), ..Tuning::default() };
    let mut arms = vec![Arm { name: "words", vectors: false, tuning: usual, again: None }];
    if embed.is_some() {
        arms.push(Arm { name: "words and vectors", vectors: true, tuning: usual, again: None });
    }
    let mut rows = Vec::new();
    for arm in &arms {
        let (mut answered, mut grounded, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for question in &collection.questions {
            for (name, map) in maps {
                let found = ask(map, &question.text, 8, arm, embed)?;
                let verdict = evidence::judge(&question.text, &found.hits);
                let answerable = *name == question.corpus;
                if answerable {
                    answered.push(f64::from(u8::from(matches!(verdict, Verdict::Found { .. }))));
                    grounded.push(f64::from(u8::from(holds_answer(&verdict, question, &found.hits))));
                } else {
                    refused.push(f64::from(u8::from(matches!(verdict, Verdict::NotFound { .. }))));
                }
                if let Some(out) = &mut out {
                    write_features(out, question, name, answerable, &found.hits)?;
                }
            }
        }
        let balanced = f64::midpoint(mean(&answered), mean(&refused));
        rows.push(vec![
            arm.name.into(),
            format!("{:.3}", mean(&answered)),
            format!("{:.3}", mean(&grounded)),
            format!("{:.3}", mean(&refused)),
            format!("{balanced:.3}"),
        ]);
        report.goals.push(goal(&format!("evidence, {}: balanced accuracy", arm.name), balanced, None, 0.95));
    }
    let head = ["by", "answerable: answered", "… from a passage with the answer", "unanswerable: refused", "balanced"];
    let title = format!(
        "evidence: {} answerable, {} unanswerable questions",
        collection.questions.len(),
        collection.questions.len() * (maps.len() - 1)
    );
    report.tables.push(Table { title, head: head.map(str::to_owned).to_vec(), rows });
    if let Some(mut out) = out {
        out.flush()?;
    }
    Ok(())
}

fn touches(question: &Question, hit: &Hit) -> bool {
    overlap(&question.spans, &[bytes_of(hit)]) > 0
}

fn holds_answer(verdict: &Verdict, question: &Question, hits: &[Hit]) -> bool {
    match verdict {
        Verdict::Found { used } => used.iter().any(|at| touches(question, &hits[*at])),
        Verdict::NotFound { .. } => false,
    }
}

fn write_features(out: &mut impl Write, question: &Question, map: &str, answerable: bool, hits: &[Hit]) -> Outcome<()> {
    let terms = hits.first().map(|hit| hit.terms.clone());
    let terms = terms.as_deref().unwrap_or_default();
    let all: f32 = terms.iter().map(|term| term.idf).sum();
    let unknown: f32 = terms.iter().filter(|term| term.passages == 0).map(|term| term.idf).sum();
    let hits = hits.iter().map(|hit| {
        let weight = evidence::weigh(hit);
        (
            weight.coverage,
            weight.covered_with_headings,
            weight.together,
            weight.dense,
            answerable && touches(question, hit),
        )
    });
    let features = Features {
        question: &question.text,
        corpus: &question.corpus,
        map,
        answerable,
        words: terms.len(),
        unknown: if all > 0.0 { unknown / all } else { 1.0 },
        hits: hits.collect(),
    };
    Ok(writeln!(out, "{}", serde_json::to_string(&features)?)?)
}

/// The sample library: whether the quotation holds the answer, and whether other questions are refused.
pub(crate) fn library(library: &Library, map: &Map, embed: Option<&dyn Embed>, report: &mut Report) -> Outcome<()> {
    let usual = Tuning { fusion: Some(super::TUNED), ..Tuning::default() };
    let mut arms = vec![Arm { name: "words", vectors: false, tuning: usual, again: None }];
    if embed.is_some() {
        arms.push(Arm { name: "words and vectors", vectors: true, tuning: usual, again: None });
    }
    let mut rows = Vec::new();
    for arm in &arms {
        let (mut quoted, mut refused) = (0usize, 0usize);
        for Answered { question, file, words } in &library.answered {
            let found = ask(map, question, 8, arm, embed)?;
            let used = match evidence::judge(question, &found.hits) {
                Verdict::Found { used } => used,
                Verdict::NotFound { .. } => Vec::new(),
            };
            let cited = verify::cite(question, &found.hits, &used).quoted;
            let right = cited.iter().any(|one| one.citation.path.ends_with(file) && one.citation.quote.contains(words));
            quoted += usize::from(right);
            if !right {
                let quotes: Vec<&str> = cited.iter().map(|one| one.citation.quote.as_str()).collect();
                report.notes.push(format!("{}: `{question}` is answered by {quotes:?}", arm.name));
            }
        }
        for question in &library.refused {
            let found = ask(map, question, 8, arm, embed)?;
            match evidence::judge(question, &found.hits) {
                Verdict::NotFound { .. } => refused += 1,
                Verdict::Found { used } => {
                    let place = &found.hits[used[0]];
                    report.notes.push(format!(
                        "{}: `{question}` isn't refused: {}:{}",
                        arm.name,
                        stem(place),
                        place.place
                    ));
                }
            }
        }
        rows.push(vec![
            arm.name.into(),
            format!("{quoted} of {}", library.answered.len()),
            format!("{refused} of {}", library.refused.len()),
        ]);
        let share = quoted as f64 / library.answered.len() as f64;
        report.goals.push(goal(&format!("library, {}: the quotation holds the answer", arm.name), share, None, 0.9));
    }
    let head = ["by", "quotation holds the answer", "other questions refused"].map(str::to_owned).to_vec();
    report.tables.push(Table { title: "sample library".into(), head, rows });
    Ok(())
}

fn stem(hit: &Hit) -> String {
    hit.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
