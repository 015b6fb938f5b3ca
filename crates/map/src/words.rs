//! The words of a text as the index sees them: split, folded, stemmed. Pure.
//!
//! One analysis for index, query, highlights, evidence and citations, so that they can't disagree.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, TextAnalyzer, TokenStream,
};

/// Longer words are data (hashes, base64), and nobody asks for them.
const WORD_BYTES_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Stemmed, lower case, without accents.
    pub stem: String,
    /// Bytes of the text that it was made from.
    pub span: Range<usize>,
}

/// The analysis under the name [`ANALYZER`].
pub(crate) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

pub(crate) const ANALYZER: &str = "words";

thread_local! {
    static SHARED: RefCell<TextAnalyzer> = RefCell::new(analyzer());
}

pub fn words(text: &str) -> Vec<Word> {
    SHARED.with_borrow_mut(|analyzer| {
        let mut stream = analyzer.token_stream(text);
        let mut found = Vec::new();
        while let Some(token) = stream.next() {
            found.push(Word { stem: token.text.clone(), span: token.offset_from..token.offset_to });
        }
        found
    })
}

/// Words that carry no subject: a passage isn't nearer to a question because it holds them.
const EMPTY: &str = "a about above after again against all also am an and any are aren as at be because been before being \
    below between both but by can cannot could couldn d did didn do does doesn doing don down during each ever every few for \
    from further get give given got had hadn has hasn have haven having he her here hers herself him himself his how i if in \
    into is isn it its itself just ll m may me might more most much must my myself need no nor not of off on once one only or \
    other our ours ourselves out over own please re s same shall she should shouldn so some such t tell than that the their \
    theirs them themselves then there these they this those through to too under until up upon us ve very was wasn we were \
    weren what when where which while who whom whose why will with won would wouldn you your yours yourself yourselves";

fn empty() -> &'static HashSet<String> {
    static STEMS: OnceLock<HashSet<String>> = OnceLock::new();
    STEMS.get_or_init(|| words(EMPTY).into_iter().map(|word| word.stem).collect())
}

pub fn is_empty_word(stem: &str) -> bool {
    empty().contains(stem)
}

/// Words that ask for a measure when they follow "how": `how long` says nothing about length.
const MEASURES: [&str; 6] = ["often", "long", "far", "soon", "mani", "much"];

/// Common words that carry a little of a subject: a passage without them may still answer, and one that
/// holds nothing else doesn't. How rare they are in a small map says nothing.
const LIGHT: &str = "able accord according add allow amount answer apply article ask base based become begin belong big bring \
    call case case certain change come concern consider contain count date day describe detail different discuss document do \
    does example exist explain express fact few file find first follow general get give go good great happen hold identify \
    important include indicate inform information involve keep key kind know large last late lead leave let like list little \
    long look lot main make many mean mention month much name need new number occur old order part particular people person \
    place point possible present provide purpose put question reason receive refer regard relate related report result role \
    say second see seem serve set several show significant similar small some sort specific specify stand start state stay \
    stop suggest take talk tell term text thing think time today try turn two type under use used using various want way week \
    well word work year";

fn light() -> &'static HashSet<String> {
    static STEMS: OnceLock<HashSet<String>> = OnceLock::new();
    STEMS.get_or_init(|| words(LIGHT).into_iter().map(|word| word.stem).collect())
}

pub fn is_light_word(stem: &str) -> bool {
    light().contains(stem)
}

/// The words of a text that carry its subject, each stem once, in order. All words when every one is empty.
pub fn content_words(text: &str) -> Vec<Word> {
    let all = words(text);
    let mut seen = HashSet::new();
    let measures = |at: usize| at > 0 && all[at - 1].stem == "how" && MEASURES.contains(&all[at].stem.as_str());
    let mut found: Vec<Word> = all
        .iter()
        .enumerate()
        .filter(|(at, word)| !is_empty_word(&word.stem) && !measures(*at) && seen.insert(word.stem.clone()))
        .map(|(_, word)| word.clone())
        .collect();
    if found.is_empty() {
        found = all.into_iter().filter(|word| seen.insert(word.stem.clone())).collect();
    }
    found
}

/// One content word of a question, with how rare it is in the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// As the person wrote it.
    pub word: String,
    pub stem: String,
    /// Passages that hold it.
    pub passages: u64,
    /// Inverse document frequency: 0 and up; the rarer, the higher.
    pub idf: f32,
}

/// The question's words as all hits of one search share them.
pub type Terms = Arc<[Term]>;

/// The weight of a word that `holding` of `all` passages hold, as BM25 has it.
pub fn idf(holding: u64, all: u64) -> f32 {
    let (holding, all) = (holding as f32, all.max(holding) as f32);
    (1.0 + (all - holding + 0.5) / (holding + 0.5)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_keep_their_place() {
        let text = "Der Café-Boilers were serviced";
        let found = words(text);
        let stems: Vec<&str> = found.iter().map(|word| word.stem.as_str()).collect();
        assert_eq!(stems, ["der", "cafe", "boiler", "were", "servic"]);
        assert_eq!(&text[found[1].span.clone()], "Café");
    }

    #[test]
    fn questions_keep_their_subject() {
        let stems = |text: &str| content_words(text).into_iter().map(|word| word.stem).collect::<Vec<_>>();
        assert_eq!(stems("How often must the boiler be serviced?"), ["boiler", "servic"]);
        assert_eq!(stems("How many of the long boats?"), ["long", "boat"]);
        assert_eq!(stems("who are you"), ["who", "are", "you"]);
        assert!(idf(1, 100) > idf(50, 100));
        assert!(idf(100, 100) > 0.0);
    }
}
