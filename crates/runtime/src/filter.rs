//! From what a client sends to what the map is asked, and back. Pure.

use crate::view::{Alike, Filter, Reranked, SearchHit, Why, WhyPart};
use base::{Code, Fault, Label};
use map::fuse::Fusion;
use map::{Day, Hit};
use std::path::PathBuf;

/// LIMIT: values of one kind in one filter.
const VALUES_MAX: usize = 64;

/// # Errors
/// [`Code::InvalidAsk`] for a date that is none, a path that isn't absolute, or too many values.
pub(crate) fn filter(asked: &Filter) -> Result<map::Filter, Fault> {
    // Labels have chosen the maps already.
    let Filter { folders, types, after, before, authors, languages, labels } = asked;
    let lists = [folders, types, authors, languages].into_iter().map(Vec::len);
    let most = lists.chain([labels.len()]).max().unwrap_or(0);
    if most > VALUES_MAX {
        return Err(Fault::new(
            Code::InvalidAsk,
            format!("the filter has {most} values of one kind; {VALUES_MAX} are taken"),
        )
        .hint("name a folder that holds them all, or search several times"));
    }
    let day = |text: &Option<String>| text.as_deref().map(day).transpose();
    let folder = |path: &String| {
        let path = PathBuf::from(path);
        if path.is_absolute() {
            return Ok(path);
        }
        Err(Fault::new(Code::InvalidAsk, format!("`{}` is not an absolute path", path.display()))
            .hint("send the path from the root: the daemon has a working directory of its own"))
    };
    Ok(map::Filter {
        folders: folders.iter().map(folder).collect::<Result<_, _>>()?,
        paths: Vec::new(),
        types: types.iter().map(|kind| kind.trim_start_matches('.').to_owned()).collect(),
        titles: Vec::new(),
        authors: authors.clone(),
        languages: languages.clone(),
        after: day(after)?,
        before: day(before)?,
        also: Vec::new(),
    })
}

fn day(text: &str) -> Result<Day, Fault> {
    Day::parse(text).ok_or_else(|| {
        Fault::new(Code::InvalidAsk, format!("`{text}` is no date")).hint("write it like 2026-03-09, 2026-03 or 2026")
    })
}

pub(crate) fn shown(hit: Hit, map: String, label: Label) -> SearchHit {
    let (lexical, dense) = (hit.lexical, hit.dense);
    let why = hit.why.map(|why| Why {
        bm25: lexical,
        parts: why
            .parts
            .into_iter()
            .map(|part| WhyPart { word: part.word, field: part.field, score: part.score })
            .collect(),
        cosine: dense,
        lexical_rank: why.lexical_rank,
        vector_rank: why.vector_rank,
        fusion: match why.fusion {
            Fusion::Scores { dense } => format!("scores (vectors {dense})"),
            Fusion::Ranks { k } => format!("ranks (k {k})"),
        },
        lexical_share: why.lexical_share,
        vector_share: why.vector_share,
        reranked: why.reranked.map(|again| Reranked {
            score: again.score,
            rank_before: again.rank_before,
            joined: again.joined,
        }),
    });
    let alike = |(path, place): (PathBuf, _)| Alike { path: path.display().to_string(), place };
    SearchHit {
        map,
        label,
        path: hit.path.display().to_string(),
        place: hit.place,
        title: hit.title,
        heading: hit.heading,
        author: hit.about.author,
        date: hit.about.written.map(|day| day.to_string()),
        language: hit.about.language,
        text: hit.text,
        score: hit.score,
        highlights: hit.highlights,
        alike: hit.alike.into_iter().map(alike).collect(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_followed_is_refused_with_a_hint() {
        for bad in [
            Filter { folders: vec!["house".into()], ..Filter::default() },
            Filter { after: Some("yesterday".into()), ..Filter::default() },
            Filter { before: Some("2026-02-30".into()), ..Filter::default() },
            Filter { types: vec!["pdf".into(); VALUES_MAX + 1], ..Filter::default() },
            Filter { labels: vec![Label::Public; VALUES_MAX + 1], ..Filter::default() },
        ] {
            let fault = filter(&bad).expect_err("refused");
            assert!(fault.code == Code::InvalidAsk && !fault.hints.is_empty(), "{fault:?}");
        }
        let good = Filter { folders: vec!["/house".into()], types: vec![".md".into()], ..Filter::default() };
        assert_eq!(filter(&good).expect("good").types, ["md"]);
        assert!(filter(&Filter::default()).expect("good").is_empty());
        assert!(serde_json::from_str::<Filter>(r#"{"typ": ["pdf"]}"#).is_err(), "a misspelt filter must not admit all");
        assert!(serde_json::from_str::<Filter>(r#"{"label": ["work"]}"#).is_err(), "nor a label that there isn't");
    }
}
