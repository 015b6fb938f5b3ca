//! One kind of judgement alone: any collection in BEIR's layout, or the span set.

use super::collection::{Collection, Spans};
use super::{Arm, Only, Outcome, Report, Settings, Vectors, indexed, measure, print, write_texts};
use freehold_map::{Boosts, Embed, Map, Tuning};

pub(crate) fn run(
    settings: &Settings,
    only: Only,
    arms: &[Arm],
    vectors: Option<&Vectors>,
    mut report: Report,
) -> Outcome<()> {
    let embed = vectors.map(|vectors| vectors as &dyn Embed);
    let Boosts { title, heading, path, body, light } = Boosts::default();
    report.settings.push((
        "weights".into(),
        format!("body {body}, title {title}, headings {heading}, path {path}, common words {light}"),
    ));
    report
        .settings
        .push(("hybrid".into(), format!("{:?}, {} candidates an arm", super::TUNED, Tuning::default().candidates)));
    let work = tempfile::tempdir()?;
    match only {
        Only::Ir => {
            let mut reached = Vec::new();
            for collection in Collection::all(&settings.data, settings.quick)? {
                let map = indexed(&work.path().join(&collection.name), &collection.documents, embed, &mut report)?;
                if let (Some(vectors), Some(_)) = (vectors, &settings.texts) {
                    vectors.embed(&collection.queries.iter().map(|query| query.text.clone()).collect::<Vec<_>>())?;
                    continue;
                }
                let all = measure::ranking(&collection, &map, arms, embed, &mut report)?;
                for one in all.iter().filter(|one| matches!(one.arm, "lexical" | "hybrid" | "reranked")) {
                    report
                        .goals
                        .push(measure::figure(&format!("{}, {}: nDCG@10", collection.name, one.arm), &one.ndcgs));
                    report
                        .goals
                        .push(measure::figure(&format!("{}, {}: recall@100", collection.name, one.arm), &one.recalls));
                }
                reached.push((collection.name, all.into_iter().map(|one| (one.arm, one.ndcgs)).collect()));
            }
            measure::against_arms("nDCG@10", &reached, &mut report);
        }
        Only::Spans => {
            let spans = Spans::open(&settings.data, settings.quick)?;
            let indexed = |name: &String, text: &String, report: &mut Report| -> Outcome<(String, Map)> {
                let documents = [(format!("{name}.md"), text.clone())];
                Ok((name.clone(), indexed(&work.path().join(name), &documents, embed, report)?))
            };
            let maps = spans
                .corpora
                .iter()
                .map(|(name, text)| indexed(name, text, &mut report))
                .collect::<Outcome<Vec<_>>>()?;
            if let (Some(vectors), Some(_)) = (vectors, &settings.texts) {
                let questions: Vec<String> = spans.questions.iter().map(|question| question.text.clone()).collect();
                vectors.embed(&questions)?;
            } else {
                let reached = measure::spans(&spans, &maps, arms, embed, &mut report)?;
                measure::against_arms("recall in the first 5", &[("spans".into(), reached)], &mut report);
            }
        }
    }
    let ranks = arms.iter().find_map(|arm| arm.again.as_ref());
    if let (Some(path), Some(ranks)) = (&settings.pairs, ranks) {
        return ranks.write(path);
    }
    match (&settings.texts, vectors) {
        (Some(_), Some(vectors)) => write_texts(settings, vectors),
        _ => print(settings, &report),
    }
}
