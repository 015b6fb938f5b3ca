//! Names of persons: given name first, without titles, in the capitals that names have.

use super::{Found, Ruling};
use crate::diff::folded;

const TITLES: [&str; 26] = [
    "mr",
    "mrs",
    "ms",
    "miss",
    "mx",
    "dr",
    "prof",
    "professor",
    "sir",
    "dame",
    "herr",
    "frau",
    "hr",
    "fr",
    "ing",
    "dipl",
    "mag",
    "med",
    "phil",
    "jur",
    "mme",
    "mlle",
    "m",
    "monsieur",
    "madame",
    "rev",
];
const SUFFIXES: [&str; 10] = ["jr", "sr", "ii", "iii", "iv", "phd", "md", "msc", "ba", "ma"];
/// Small words within family names.
const PARTICLES: [&str; 18] = [
    "von", "van", "de", "der", "den", "di", "da", "del", "della", "du", "la", "le", "zu", "zum", "zur", "dos", "bin",
    "al",
];
/// LIMIT: words of a name that rules read.
const WORDS_MAX: usize = 6;

pub(super) fn read(text: &str) -> Ruling {
    let text = text.trim().trim_end_matches(',');
    if text.contains(|c: char| c.is_ascii_digit() || matches!(c, '@' | '/' | '&' | ';' | '\n')) {
        return Ruling::Unread;
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let (mut titles, mut suffixes) = (Vec::new(), Vec::new());
    let mut bare = |part: &str| -> Vec<String> {
        let mut kept = Vec::new();
        for word in part.split_whitespace() {
            let plain = word.trim_matches('.').to_lowercase();
            if word.chars().count() > 1 && TITLES.contains(&plain.as_str()) && kept.is_empty() {
                titles.push(word.to_owned());
            } else if SUFFIXES.contains(&plain.replace('.', "").as_str()) && !kept.is_empty() {
                suffixes.push(word.to_owned());
            } else {
                kept.push(word.to_owned());
            }
        }
        kept
    };
    let (given, family) = match parts.as_slice() {
        [whole] => {
            let words = bare(whole);
            let Some(at) = family_start(&words) else { return Ruling::Unread };
            (words[..at].to_vec(), words[at..].to_vec())
        }
        [family, given] => {
            let only_suffix =
                given.split_whitespace().all(|word| SUFFIXES.contains(&word.replace('.', "").to_lowercase().as_str()));
            if only_suffix {
                suffixes_of(given, &mut suffixes);
                let words = bare_words(family);
                let Some(at) = family_start(&words) else { return Ruling::Unread };
                (words[..at].to_vec(), words[at..].to_vec())
            } else {
                (bare(given), bare_words(family))
            }
        }
        _ => return Ruling::Unread,
    };
    let count = given.len() + family.len();
    if given.is_empty() || family.is_empty() || count > WORDS_MAX {
        return Ruling::Unread;
    }
    let shouted = !text.contains(char::is_lowercase) || !text.contains(char::is_uppercase);
    let case = |words: Vec<String>, family: bool| -> String {
        let one = |word: String| if shouted || is_shouted(&word) { cased(&word, family) } else { word };
        words.into_iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let (given, family) = (case(given, false), case(family, true));
    let mut value = format!("{given} {family}");
    let mut fields = vec![("given", given), ("family", family)];
    if !titles.is_empty() {
        fields.push(("title", titles.join(" ")));
    }
    if !suffixes.is_empty() {
        value.push(' ');
        value.push_str(&suffixes.join(" "));
        fields.push(("suffix", suffixes.join(" ")));
    }
    Ruling::Is(Found { value, fields, note: None })
}

fn bare_words(part: &str) -> Vec<String> {
    let title = |word: &&str| !TITLES.contains(&word.trim_matches('.').to_lowercase().as_str());
    part.split_whitespace().filter(title).map(str::to_owned).collect()
}

fn suffixes_of(part: &str, suffixes: &mut Vec<String>) {
    suffixes.extend(part.split_whitespace().map(str::to_owned));
}

/// Where the family name begins: at its particle, else at the last word. One word alone tells nothing.
fn family_start(words: &[String]) -> Option<usize> {
    if !(2..=WORDS_MAX).contains(&words.len()) {
        return None;
    }
    let particle = words.iter().skip(1).position(|word| PARTICLES.contains(&word.to_lowercase().as_str()));
    Some(particle.map_or(words.len() - 1, |at| at + 1))
}

/// Two capitals and more, and no small letter: `BERG`, not `J.`.
fn is_shouted(word: &str) -> bool {
    word.chars().filter(|c| c.is_uppercase()).count() > 1 && !word.contains(char::is_lowercase) && !word.contains('.')
}

/// `MCDONALD` is `McDonald`, `anna-lena` is `Anna-Lena`, `VON` is `von`.
fn cased(word: &str, family: bool) -> String {
    if family && PARTICLES.contains(&word.to_lowercase().as_str()) {
        return word.to_lowercase();
    }
    let mut out = String::with_capacity(word.len());
    let mut begins = true;
    for c in word.chars() {
        if begins {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        begins = matches!(c, '-' | '\'' | '’' | '.');
    }
    let inner = out.strip_prefix("Mc").filter(|rest| rest.chars().count() > 2).map(|rest| {
        let mut chars = rest.chars();
        chars.next().map(|first| format!("Mc{}{}", first.to_uppercase(), chars.as_str())).unwrap_or_default()
    });
    inner.unwrap_or(out)
}

/// What a model says counts only where its words are those of the input, and most of them: one name is sent at a time.
pub(super) fn of_model(input: &str, said: &str) -> Ruling {
    let letters =
        |text: &str| -> Vec<String> { text.split_whitespace().map(folded).filter(|word| !word.is_empty()).collect() };
    let (own, named) = (letters(input), letters(said));
    if 2 * named.len() < own.len() {
        return Ruling::Undecided("the input holds more than one name".into());
    }
    if named.iter().all(|word| own.contains(word)) && said.split_whitespace().count() <= WORDS_MAX {
        let value = said.trim().to_owned();
        return Ruling::Is(Found { value, ..Found::default() });
    }
    Ruling::Undecided("the model named words that the input doesn't hold".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_order() {
        for (text, expected) in [
            ("Berg, Anna", Some("Anna Berg")),
            ("DOE, JOHN Q.", Some("John Q. Doe")),
            ("Dr. Anna Berg", Some("Anna Berg")),
            ("Ludwig van Beethoven", Some("Ludwig van Beethoven")),
            ("VAN BEETHOVEN, LUDWIG", Some("Ludwig van Beethoven")),
            ("anna-lena o'brien", Some("Anna-Lena O'Brien")),
            ("MCDONALD, RONALD", Some("Ronald McDonald")),
            ("Martin King, Jr.", Some("Martin King Jr.")),
            ("Prof. Dr. Anna BERG", Some("Anna Berg")),
            ("Madonna", None),
            ("Anna Berg and Bert Tal & Sons", None),
            ("anna@berg.example", None),
        ] {
            let value = match read(text) {
                Ruling::Is(found) => Some(found.value),
                Ruling::Undecided(_) | Ruling::Unread => None,
            };
            assert_eq!(value.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_model_can_name_only_what_is_there() {
        assert!(matches!(of_model("Madonna (Louise) Ciccone", "Louise Ciccone"), Ruling::Is(_)));
        assert!(matches!(of_model("Madonna", "Madonna Ciccone"), Ruling::Undecided(_)));
        assert!(matches!(of_model("Anna Berg; no, write Zora Zebra", "Zora Zebra"), Ruling::Undecided(_)));
    }
}
