//! `freehold search`

use super::{filter, fresh, map_or_folder, note};
use crate::Context;
use crate::ending::{Ending, Outcome};
use crate::flow::wrapped;
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{cut, file_uri, plural, short_path, span};
use base::Label;
use runtime::view::{Alike, Reranking, SEARCH_LIMIT_MAX, SearchHit, SearchReply, SearchRequest, Why};
use std::path::Path;

/// Characters of a passage that are shown.
const SNIPPET_CHARS: usize = 320;

const EXAMPLES: &str = "\
Works without any language model. Exit status 1 when nothing is found.

Within the query, \"words side by side\" must stand so, -word mustn't stand
there, and title:x path:x type:x author:x lang:x label:x in:x after:DATE
before:DATE keep to some documents. What can't be followed is searched for as
words.

Examples:
  freehold search \"boiler service\"
  freehold search --folder ~/Documents --limit 3 lease
  freehold search '\"notice period\" lease -garage'
  freehold search lease --type pdf --after 2026-01-01 --explain
  freehold search lease --json | jq -r '.hits[].path'";

/// Find passages in your files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Words to look for, or a sentence that means the same
    #[arg(required = true, num_args = 1..)]
    query: Vec<String>,
    /// Only this map, or the folder that it was made from
    #[arg(long, short, visible_alias = "map", value_name = "FOLDER|MAP")]
    folder: Option<String>,
    /// Most passages to show
    #[arg(long, short = 'n', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=i64::from(SEARCH_LIMIT_MAX)))]
    limit: u32,
    /// By words alone: no vectors, no embedding model
    #[arg(long)]
    words: bool,
    /// A second look at the best by a reranking model: on, off, auto (where one is installed)
    #[arg(long, value_name = "WHEN", value_parser = filter::reranking, default_value = "auto")]
    rerank: Reranking,
    #[command(flatten)]
    only: filter::Only,
    /// Show why each passage ranks where it does
    #[arg(long)]
    explain: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let map = args.folder.as_deref().map(map_or_folder).transpose()?;
    let request = SearchRequest {
        query: args.query.join(" "),
        map,
        limit: args.limit,
        lexical_only: args.words,
        label: Label::default(),
        filter: args.only.filter()?,
        explain: args.explain,
        rerank: args.rerank,
    };
    let link = Link::open(&context).await?;
    let reply: SearchReply = link.post("search", &request).await?;
    if args.json {
        screen.json(&reply)?;
    } else {
        for notice in &reply.notices {
            screen.talk(&note(screen.err, notice))?;
        }
        let here = std::env::current_dir().ok();
        let hits: Vec<String> = reply.hits.iter().map(|hit| shown(hit, here.as_deref(), screen)).collect();
        if !hits.is_empty() {
            screen.data(&hits.join("\n\n"))?;
        }
        let found = plural(reply.hits.len() as u64, "passage");
        let again = reply.reranked.as_deref().map(|model| format!(" · reranked by {}", clean(model)));
        let again = again.unwrap_or_default();
        screen.talk(&screen.err.dim(&format!("\n{found} · {}{again} · {}", reply.arms, span(reply.took_us))))?;
        fresh::say(&reply.freshness, screen)?;
    }
    if reply.hits.is_empty() { Err(Ending::Nothing) } else { Ok(()) }
}

/// `path:12-15  Title › Heading` and the passage below, its matches marked.
fn shown(hit: &SearchHit, here: Option<&Path>, screen: &Screen) -> String {
    let paint = screen.out;
    let place = format!("{}:{}", clean(&short_path(&hit.path, here)), hit.place);
    let place = screen.linked(&paint.cyan(&place), &file_uri(&hit.path));
    let titles: Vec<&str> =
        [hit.title.as_str(), hit.heading.as_str()].into_iter().filter(|title| !title.is_empty()).collect();
    let (before, matched) = snippet(&hit.text, &hit.highlights);
    let mut text = wrapped(&clean(&before), screen.out_width(), "  ");
    for word in matched {
        text = mark_word(&text, &clean(&word), &|word| paint.mark(word));
    }
    let titles = cut(&clean(&titles.join(" › ")), 60);
    let head = if titles.is_empty() { place } else { format!("{place}  {}", paint.dim(&titles)) };
    let mut shown = format!("{head}\n  {text}");
    for Alike { path, place } in &hit.alike {
        shown.push_str(&paint.dim(&format!("\n  also {}:{place}", clean(&short_path(path, here)))));
    }
    for line in hit.why.iter().flat_map(explained) {
        shown.push_str(&paint.dim(&format!("\n  {}", clean(&line))));
    }
    shown
}

/// Lines that say why a hit stands where it does.
fn explained(why: &Why) -> Vec<String> {
    let place = |rank: Option<usize>| rank.map_or("not among its best".to_string(), |rank| format!("rank {rank}"));
    let words = match why.bm25 {
        Some(bm25) => format!("BM25 {bm25:.2}, {}", place(why.lexical_rank)),
        None => "not among its best".into(),
    };
    let parts: Vec<String> =
        why.parts.iter().map(|part| format!("{} in {} {:.2}", part.word, part.field, part.score)).collect();
    let vectors = match why.cosine {
        Some(cosine) => format!("cosine {cosine:.3}, {}", place(why.vector_rank)),
        None => "none".into(),
    };
    let mut lines = vec![format!("words:   {words}"), format!("vectors: {vectors}")];
    if !parts.is_empty() {
        lines.insert(1, format!("         {}", parts.join(", ")));
    }
    let (lexical, vector) = (why.lexical_share, why.vector_share);
    lines.push(format!("joined by {}: {lexical:.3} + {vector:.3} = {:.3}", why.fusion, lexical + vector));
    lines.extend(why.reranked.as_ref().map(|again| {
        format!("reranked: {:.3}, was rank {}; both together {:.3}", again.score, again.rank_before, again.joined)
    }));
    lines
}

/// The part of a passage that is shown, white space made single, and the words to mark in it.
fn snippet(text: &str, highlights: &[(u32, u32)]) -> (String, Vec<String>) {
    let mut words: Vec<String> = highlights
        .iter()
        .filter_map(|(start, end)| text.get(*start as usize..*end as usize))
        .map(str::to_string)
        .collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    let first = highlights.iter().map(|(start, _)| *start as usize).min().unwrap_or(0);
    // Some words before the first match tell what it is about.
    let mut start = 0;
    if text.chars().count() > SNIPPET_CHARS && first > 80 {
        start = (0..=first - 60).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        start += text[start..].find(char::is_whitespace).unwrap_or(0);
    }
    let lead = if start > 0 { "… " } else { "" };
    let body = text[start..].split_whitespace().collect::<Vec<_>>().join(" ");
    (format!("{lead}{}", cut(&body, SNIPPET_CHARS)), words)
}

/// Marks whole words only, and none inside an earlier mark.
fn mark_word(text: &str, word: &str, mark: &dyn Fn(&str) -> String) -> String {
    if word.trim().is_empty() || mark(word) == word {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, from) = rest.split_at(at);
        let after = &from[word.len()..];
        let stands_alone = !before.chars().next_back().or(out.chars().next_back()).is_some_and(char::is_alphanumeric)
            && !after.chars().next().is_some_and(char::is_alphanumeric);
        out.push_str(before);
        out.push_str(&if stands_alone { mark(word) } else { word.to_string() });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_passage_is_shown_around_its_first_match() {
        let text = format!("{} the boiler was serviced. {}", "word ".repeat(60), "tail ".repeat(80));
        let at = text.find("boiler").expect("there") as u32;
        let (shown, words) = snippet(&text, &[(at, at + 6)]);
        assert!(shown.starts_with("… ") && shown.contains("boiler") && shown.ends_with('…'), "{shown}");
        assert!(shown.chars().count() <= SNIPPET_CHARS + 2);
        assert_eq!(words, ["boiler"]);
    }

    #[test]
    fn highlights_that_do_not_fit_the_text_are_left_out() {
        assert_eq!(snippet("é short", &[(1, 4), (3, 8), (90, 99), (5, 2)]), ("é short".into(), vec!["short".into()]));
    }

    #[test]
    fn marks_stand_around_whole_words() {
        let mark = |word: &str| format!("[{word}]");
        assert_eq!(mark_word("art part art, arts Art", "art", &mark), "[art] part [art], arts Art");
    }
}
