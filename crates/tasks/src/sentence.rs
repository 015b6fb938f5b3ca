//! Where sentences end, well enough to cut between them: it errs on the side of longer ones. Pure.

use std::ops::Range;

/// Words that a full stop follows without ending a sentence.
const SHORT: [&str; 24] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "no", "nr", "vs", "etc", "e.g", "i.e", "fig", "vol", "pp", "al", "inc",
    "ltd", "co", "jr", "sr", "z.b", "bzw", "ca",
];

/// The sentences of a text, each with the white space behind it: together they are the whole text.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？') {
            continue;
        }
        while chars.next_if(|(_, c)| matches!(c, '.' | '!' | '?' | '"' | '\'' | '”' | '’' | ')' | ']' | '»')).is_some()
        {
        }
        let end = chars.peek().map_or(text.len(), |(at, _)| *at);
        let wide = matches!(c, '。' | '！' | '？');
        let mut after = end;
        while let Some((at, c)) = chars.next_if(|(_, c)| c.is_whitespace()) {
            after = at + c.len_utf8();
        }
        let blank = after > end || end == text.len();
        if wide || (blank && ends(&text[start..at], c, &text[after..])) {
            found.push(start..after);
            start = after;
        }
    }
    if start < text.len() {
        found.push(start..text.len());
    }
    found
}

/// Whether the mark after `sentence` ends it.
fn ends(sentence: &str, mark: char, rest: &str) -> bool {
    if rest.starts_with(char::is_lowercase) {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let word = sentence.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    // `3. Add the flour`, `am 3. März`: a number before a full stop seldom ends a sentence.
    let counts = !word.is_empty() && word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    !(initial || counts || SHORT.contains(&word.to_lowercase().as_str()))
}

/// The first so many sentences, without what follows.
pub(crate) fn first(text: &str, count: usize) -> &str {
    let text = text.trim();
    let found = sentences(text);
    found.get(count.saturating_sub(1)).map_or(text, |last| text[..last.end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sentences_end_where_a_reader_says_so() {
        for (text, expected) in [
            ("One. Two! Three?", &["One. ", "Two! ", "Three?"][..]),
            ("Call Dr. Miller at 3.30 p.m. today. Then go.", &["Call Dr. Miller at 3.30 p.m. today. ", "Then go."]),
            ("He said \"stop.\" She did.", &["He said \"stop.\" ", "She did."]),
            ("Am 3. März kam er. Gut.", &["Am 3. März kam er. ", "Gut."]),
            ("See example.org for more", &["See example.org for more"]),
            ("漢字。漢字！", &["漢字。", "漢字！"]),
        ] {
            let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(first(" One. Two. Three.", 2), "One. Two.");
        assert_eq!(first("No end", 3), "No end");
    }

    proptest! {
        #[test]
        fn sentences_are_the_whole_text(text in "[a-zA-Z .!?\n\"ü漢。]{0,80}") {
            let joined: String = sentences(&text).into_iter().map(|range| &text[range]).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
