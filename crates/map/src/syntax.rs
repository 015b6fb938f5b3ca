//! What a person may write besides words: `"exact words"`, `-without`, `author:ada`. Pure.
//!
//! Any text is a query. What looks like syntax and isn't is searched for as words, and a note says so.

use crate::about::Day;
use crate::filter::Filter;
use crate::words;
use base::Label;
use std::path::PathBuf;

/// LIMIT: phrases and exclusions of one query; more are words.
const CONSTRAINTS_MAX: usize = 16;

/// A query, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// What is ranked by: all that is no filter and no exclusion.
    pub words: String,
    /// Words that must stand side by side in the passage.
    pub phrases: Vec<String>,
    /// Words, or words side by side, that mustn't stand in the passage.
    pub without: Vec<String>,
    pub filter: Filter,
    /// Labels to keep to. They choose among maps; within one map all passages have the same.
    pub labels: Vec<Label>,
    /// What was taken otherwise than it looks.
    pub notes: Vec<String>,
}

impl Parsed {
    /// Whether there is nothing but words.
    pub(crate) fn is_plain(&self) -> bool {
        self.phrases.is_empty() && self.without.is_empty() && self.filter.is_empty() && self.labels.is_empty()
    }
}

/// One piece between spaces, its quoted part apart.
struct Piece<'a> {
    /// As it was written.
    whole: &'a str,
    without: bool,
    field: Option<&'a str>,
    value: &'a str,
    quoted: bool,
}

pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        let (piece, after, unclosed) = next(rest);
        rest = after;
        if unclosed {
            parsed.notes.push("a quotation mark has no second one; its words were searched for in any order".into());
        }
        let full = parsed.phrases.len() + parsed.without.len() >= CONSTRAINTS_MAX;
        let wordless = words::words(piece.value).is_empty();
        match piece.field {
            Some(field) if take_field(&mut parsed, field, &piece) => {}
            _ if wordless => {}
            _ if full => kept.push(piece.value),
            None if piece.without => parsed.without.push(piece.value.to_owned()),
            None if piece.quoted => {
                parsed.phrases.push(piece.value.to_owned());
                kept.push(piece.value);
            }
            _ => kept.push(piece.whole),
        }
    }
    // A text without syntax stays as it was written.
    parsed.words = if parsed.is_plain() && parsed.notes.is_empty() { text.to_owned() } else { kept.join(" ") };
    parsed
}

/// The first piece of a text that doesn't begin with a space, the text after it, and whether a quotation mark stayed open.
fn next(text: &str) -> (Piece<'_>, &str, bool) {
    let without = text.starts_with('-') && text[1..].starts_with(|c: char| c.is_alphanumeric() || c == '"');
    let body = &text[usize::from(without)..];
    let bare = body.find(char::is_whitespace).unwrap_or(body.len());
    let colon =
        body[..bare].find(':').filter(|at| *at > 0 && body[..*at].bytes().all(|byte| byte.is_ascii_alphabetic()));
    let field = colon.map(|at| &body[..at]);
    let value_at = colon.map_or(0, |at| at + 1);
    let value = &body[value_at..];
    let offset = usize::from(without) + value_at;
    if let Some(inner) = value.strip_prefix('"') {
        if let Some(end) = inner.find('"') {
            let whole = &text[..offset + end + 2];
            let piece = Piece { whole, without, field, value: &inner[..end], quoted: true };
            return (piece, &text[whole.len()..], false);
        }
        let piece = Piece { whole: &text[..offset + 1], without: false, field: None, value: "", quoted: false };
        return (piece, inner, true);
    }
    let end = usize::from(without) + bare;
    let piece = Piece { whole: &text[..end], without, field, value: &body[value_at..bare], quoted: false };
    (piece, &text[end..], false)
}

/// Whether a piece was a filter that can be followed.
fn take_field(parsed: &mut Parsed, field: &str, piece: &Piece<'_>) -> bool {
    const FIELDS: [&str; 9] = ["title", "path", "type", "author", "lang", "label", "in", "after", "before"];
    let field = field.to_ascii_lowercase();
    if !FIELDS.contains(&field.as_str()) {
        return false;
    }
    let value = piece.value.trim();
    if value.is_empty() {
        parsed.notes.push(format!("`{}` names nothing and was left out", piece.whole));
        return true;
    }
    if piece.without {
        parsed.notes.push(format!("`{}`: only words can be excluded; it was searched for as words", piece.whole));
        return false;
    }
    let owned = value.to_owned();
    match field.as_str() {
        "title" => parsed.filter.titles.push(owned),
        "path" => parsed.filter.paths.push(owned),
        "type" => parsed.filter.types.push(owned),
        "author" => parsed.filter.authors.push(owned),
        "lang" => parsed.filter.languages.push(owned),
        "label" => {
            let Some(label) = Label::parse(&owned.to_ascii_lowercase()) else {
                parsed.notes.push(format!(
                    "`{}`: there are private, shareable and public; it was searched for as words",
                    piece.whole
                ));
                return false;
            };
            parsed.labels.push(label);
        }
        "in" if value.starts_with('/') => parsed.filter.folders.push(PathBuf::from(owned)),
        "in" => parsed.filter.paths.push(format!("/{}/", owned.trim_matches('/'))),
        _ => {
            let Some(day) = Day::parse(value) else {
                parsed.notes.push(format!(
                    "`{}` is no date like 2026-03-09, 2026-03 or 2026; it was searched for as words",
                    piece.whole
                ));
                return false;
            };
            let date = Filter {
                after: (field == "after").then_some(day),
                before: (field == "before").then_some(day),
                ..Filter::default()
            };
            parsed.filter = std::mem::take(&mut parsed.filter).and(date);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_phrases_exclusions_and_fields_are_told_apart() {
        let parsed =
            parse("boiler \"once a year\" -oil -\"hot water\" type:pdf author:\"Ada Lund\" after:2026-01 path:house");
        assert_eq!(parsed.words, "boiler once a year");
        assert_eq!(parsed.phrases, ["once a year"]);
        assert_eq!(parsed.without, ["oil", "hot water"]);
        let Filter { types, authors, after, paths, .. } = &parsed.filter;
        assert_eq!(
            (&types[..], &authors[..], &paths[..]),
            (&["pdf".to_owned()][..], &["Ada Lund".to_owned()][..], &["house".to_owned()][..])
        );
        assert_eq!((*after, parsed.notes.len()), (Day::parse("2026-01-01"), 0));
    }

    #[test]
    fn what_is_no_syntax_is_words() {
        for text in [
            "When was it? At 10:30, re: the boiler",
            "state-of-the-art - really",
            "https://example.org/a",
            "a:b c++",
            "-- --flag",
            "note: this",
        ] {
            let parsed = parse(text);
            assert_eq!((parsed.words.as_str(), parsed.is_plain()), (text, true), "{parsed:?}");
        }
        let broken = parse("\"never closed words");
        assert_eq!((broken.words.as_str(), broken.notes.len(), broken.is_plain()), ("never closed words", 1, true));
        let broken = parse("boiler before:tomorrow");
        assert_eq!((broken.words.as_str(), broken.notes.len()), ("boiler before:tomorrow", 1));
        let broken = parse("boiler -type:pdf");
        assert_eq!(
            (broken.words.as_str(), broken.notes.len(), broken.filter.is_empty()),
            ("boiler -type:pdf", 1, true)
        );
        let broken = parse("boiler label:work");
        assert_eq!((broken.words.as_str(), broken.notes.len()), ("boiler label:work", 1));
        let kept = parse("boiler label:public label:Private");
        assert_eq!((kept.words.as_str(), &kept.labels[..]), ("boiler", &[Label::Public, Label::Private][..]));
        assert_eq!(parse("in:house x").filter.paths, ["/house/"]);
        assert_eq!(parse("in:/home/a x").filter.folders, [PathBuf::from("/home/a")]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_query(text in "[-a-c:\" é/0-9]{0,40}") {
            let parsed = parse(&text);
            prop_assert!(parsed.phrases.len() + parsed.without.len() <= CONSTRAINTS_MAX);
        }
    }
}
