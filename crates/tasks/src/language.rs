//! Which language a text is in, and what languages are called.

mod words;

pub(crate) use words::is_little;

use crate::task::invalid;
use base::Fault;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use whatlang::{Detector, Info, Lang};

/// LIMIT: characters that are looked at.
const CHARS_MAX: usize = 8000;
/// LIMIT: languages that are named.
const LANGUAGES_MAX: usize = 8;
/// Enough has been named when the rest comes to no more than this.
const REST_MIN: f64 = 0.01;
/// Words of a language alone, or as much of shared ones, that make it likelier than not.
const VOTES_MIN: f64 = 1.0;
/// So many times as much as for the next one says it clearly.
const CLEAR_TIMES: f64 = 1.5;
/// What isn't known.
const UNDETERMINED: &str = "und";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DetectLanguage {
    pub text: String,
    /// Only these can be meant; all, when none is named.
    #[serde(default)]
    expected_input_languages: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Language {
    pub detected_language: String,
    pub confidence: f64,
}

/// The likeliest first; the last is always `und`, with what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Languages {
    pub languages: Vec<Language>,
}

impl DetectLanguage {
    pub(crate) fn run(&self) -> Languages {
        let expected: Vec<Lang> = self.expected_input_languages.iter().filter_map(|code| lang_of(code)).collect();
        Languages { languages: detect(&self.text, &expected) }
    }
}

fn detect(text: &str, expected: &[Lang]) -> Vec<Language> {
    let text: String = text.chars().take(CHARS_MAX).collect();
    let mut candidates: Vec<Lang> = if expected.is_empty() { Lang::all().to_vec() } else { expected.to_vec() };
    let mut found = by_words(&text, &candidates);
    let worded = found.first().map(|(_, share)| *share);
    let mut left = 1.0 - worded.unwrap_or(0.0);
    candidates.retain(|lang| found.iter().all(|(own, _)| own != lang));
    while found.len() < LANGUAGES_MAX && left > REST_MIN && !candidates.is_empty() {
        let Some(next) = Detector::with_allowlist(candidates.clone()).detect(&text) else { break };
        // A script of one language is found whether it is allowed or not.
        let Some(at) = candidates.iter().position(|lang| *lang == next.lang()) else { break };
        candidates.swap_remove(at);
        // What comes after the words' verdict was found without it, and is never surer.
        let share = (left * confidence(&next, found.len())).min(worded.unwrap_or(1.0));
        left -= share;
        found.push((next.lang(), share));
    }
    // As the drafts say: nothing that is less likely than not to be known at all.
    let mut languages: Vec<Language> = found
        .into_iter()
        .filter(|(_, share)| *share > 0.0 && *share >= left)
        .map(|(lang, confidence)| Language { detected_language: short(lang).to_owned(), confidence })
        .collect();
    languages.sort_by(|one, other| other.confidence.total_cmp(&one.confidence));
    languages.push(Language { detected_language: UNDETERMINED.to_owned(), confidence: left.max(0.0) });
    languages
}

/// Of a text that is too short for runs of letters to tell: what its little words say, when they agree.
fn by_words(text: &str, candidates: &[Lang]) -> Vec<(Lang, f64)> {
    let letters = whatlang::detect(text);
    if letters.as_ref().is_some_and(Info::is_reliable) {
        return Vec::new();
    }
    let votes: Vec<(Lang, f64)> =
        words::votes(text).into_iter().filter(|(lang, _)| candidates.contains(lang)).collect();
    let (first, second) = (votes.first(), votes.get(1).map_or(0.0, |(_, sum)| *sum));
    // Languages that share many little words are told apart by words and letters together, or clearly by words.
    let agrees = |lang: Lang| letters.as_ref().is_some_and(|info| info.lang() == lang);
    match first {
        Some((lang, sum)) if *sum >= VOTES_MIN && *sum > second && agrees(*lang) => {
            vec![(*lang, sum / (sum + VOTES_MIN))]
        }
        Some((lang, sum)) if *sum >= VOTES_MIN && *sum >= CLEAR_TIMES * second => {
            vec![(*lang, (sum - second / 2.0) / (sum + VOTES_MIN))]
        }
        Some(_) | None => Vec::new(),
    }
}

/// The second of two is what is left of the first; on its own it is never certain.
fn confidence(info: &Info, before: usize) -> f64 {
    let most = if before == 0 { 1.0 } else { 0.9 };
    info.confidence().clamp(0.0, most)
}

/// The language that a text is surely in, by its code.
pub(crate) fn code_of(text: &str) -> Option<String> {
    let text: String = text.chars().take(CHARS_MAX).collect();
    whatlang::detect(&text).filter(Info::is_reliable).map(|info| short(info.lang()).to_owned())
}

/// The language that a text is likelier in than not.
pub(crate) fn likely(text: &str) -> Option<String> {
    let found = detect(text, &[]);
    found.into_iter().next().map(|first| first.detected_language).filter(|code| code != UNDETERMINED)
}

/// Whether a text is in English, as far as one so short can show it: nothing speaks more for another language.
pub(crate) fn seems_english(text: &str) -> bool {
    if let Some(code) = code_of(text) {
        return code == "en";
    }
    let votes = words::votes(text);
    let most = votes.first().map_or(0.0, |(_, sum)| *sum);
    let own = votes.iter().find(|(lang, _)| *lang == Lang::Eng).map_or(0.0, |(_, sum)| *sum);
    own >= most && text.chars().all(|c| c.is_ascii() || !c.is_alphabetic())
}

/// What a language is called in English, from its BCP 47 tag.
pub(crate) fn name_of(option: &str, tag: &str) -> Result<Cow<'static, str>, Fault> {
    let mut parts = tag.split(['-', '_']);
    let base = parts.next().unwrap_or_default();
    let well_made = (2..=3).contains(&base.len())
        && tag
            .split(['-', '_'])
            .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
        && base.bytes().all(|b| b.is_ascii_alphabetic());
    if !well_made {
        let hint = "use a BCP 47 tag: `en`, `de-CH`, `pt-BR`, `zh-Hant`";
        return Err(invalid(option, &format!("is `{tag}`, which is no language tag"), hint));
    }
    let Some(lang) = lang_of(base) else { return Ok(Cow::Owned(format!("the language with the code {tag}"))) };
    let name = match short(lang) {
        "zh" => "Chinese",
        "nb" => "Norwegian",
        "fa" => "Persian",
        _ => lang.eng_name(),
    };
    let rest: Vec<&str> = parts.collect();
    if rest.is_empty() { Ok(Cow::Borrowed(name)) } else { Ok(Cow::Owned(format!("{name} ({})", rest.join("-")))) }
}

fn lang_of(tag: &str) -> Option<Lang> {
    let base = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let base = if base == "no" || base == "nn" { "nb".to_owned() } else { base };
    Lang::all().iter().copied().find(|lang| short(*lang) == base || lang.code() == base)
}

/// BCP 47 wants the two letters, where a language has some.
fn short(lang: Lang) -> &'static str {
    match lang {
        Lang::Epo => "eo",
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Cmn => "zh",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Ben => "bn",
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Ukr => "uk",
        Lang::Kat => "ka",
        Lang::Ara => "ar",
        Lang::Hin => "hi",
        Lang::Jpn => "ja",
        Lang::Heb => "he",
        Lang::Yid => "yi",
        Lang::Pol => "pl",
        Lang::Amh => "am",
        Lang::Jav => "jv",
        Lang::Kor => "ko",
        Lang::Nob => "nb",
        Lang::Dan => "da",
        Lang::Swe => "sv",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Nld => "nl",
        Lang::Hun => "hu",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        Lang::Bul => "bg",
        Lang::Bel => "be",
        Lang::Mar => "mr",
        Lang::Kan => "kn",
        Lang::Ron => "ro",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Mkd => "mk",
        Lang::Lit => "lt",
        Lang::Lav => "lv",
        Lang::Est => "et",
        Lang::Tam => "ta",
        Lang::Vie => "vi",
        Lang::Urd => "ur",
        Lang::Tha => "th",
        Lang::Guj => "gu",
        Lang::Uzb => "uz",
        Lang::Pan => "pa",
        Lang::Aze => "az",
        Lang::Ind => "id",
        Lang::Tel => "te",
        Lang::Pes => "fa",
        Lang::Mal => "ml",
        Lang::Ori => "or",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Sin => "si",
        Lang::Khm => "km",
        Lang::Tuk => "tk",
        Lang::Aka => "ak",
        Lang::Zul => "zu",
        Lang::Sna => "sn",
        Lang::Afr => "af",
        Lang::Lat => "la",
        Lang::Slk => "sk",
        Lang::Cat => "ca",
        Lang::Tgl => "tl",
        Lang::Hye => "hy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str, expected: &[&str]) -> Vec<Language> {
        let expected_input_languages = expected.iter().map(ToString::to_string).collect();
        DetectLanguage { text: text.into(), expected_input_languages }.run().languages
    }

    #[test]
    fn languages_are_told_by_their_words() {
        for (text, code) in [
            ("The boiler must be serviced every year before the heating season begins.", "en"),
            ("Der Kessel muss jedes Jahr vor Beginn der Heizperiode gewartet werden.", "de"),
            ("La chaudière doit être entretenue chaque année avant la saison de chauffage.", "fr"),
            ("ボイラーは毎年点検しなければなりません。", "ja"),
            ("Котёл необходимо обслуживать каждый год.", "ru"),
        ] {
            let found = of(text, &[]);
            assert_eq!(found[0].detected_language, code, "{found:?}");
            assert_eq!(found.last().map(|last| last.detected_language.as_str()), Some(UNDETERMINED));
        }
        assert_eq!(of("12345 --", &[]), [Language { detected_language: UNDETERMINED.into(), confidence: 1.0 }]);
    }

    #[test]
    fn short_texts_are_told_by_their_little_words() {
        for (text, code) in [
            ("Good morning, how are you today?", "en"),
            ("Guten Morgen, wie geht es dir?", "de"),
            ("Je ne sais pas", "fr"),
            ("¿Qué hora es?", "es"),
            ("God morgon, hur mår du idag?", "sv"),
            ("Dobré ráno, jak se máte?", "cs"),
            ("Günaydın, bugün nasılsın?", "tr"),
            ("Goedemorgen allemaal", "nl"),
            ("Bom dia, tudo bem com você?", "pt"),
        ] {
            let found = of(text, &[]);
            assert_eq!(found[0].detected_language, code, "{text}: {found:?}");
        }
        assert_eq!(of("Boiler 12", &[])[0].detected_language, UNDETERMINED);
        assert!(seems_english("My brother works.") && seems_english("Boiler 12"));
        assert!(!seems_english("Der Kessel ist alt.") && !seems_english("Größe"));
        assert!(of("Je ne sais pas", &["de", "en"]).iter().all(|one| one.detected_language != "fr"));
    }

    #[test]
    fn only_what_is_expected_is_named() {
        let found = of("Der Kessel muss jedes Jahr gewartet werden.", &["nl", "de-CH"]);
        assert!(found.iter().all(|one| ["de", "nl", UNDETERMINED].contains(&one.detected_language.as_str())));
    }

    #[test]
    fn tags_have_names() {
        for (tag, name) in
            [("de", "German"), ("de-CH", "German (CH)"), ("zh-Hant", "Chinese (Hant)"), ("deu", "German")]
        {
            assert_eq!(name_of("x", tag).expect(tag), name);
        }
        assert!(name_of("x", "rm").expect("well made").contains("rm"));
        for bad in ["", "e", "german language", "de-", "1x"] {
            assert!(name_of("targetLanguage", bad).expect_err(bad).message.contains("targetLanguage"));
        }
    }

    proptest! {
        #[test]
        fn the_drafts_rules_hold(text in ".{0,120}") {
            let found = of(&text, &[]);
            let (last, named) = found.split_last().expect("und is always there");
            prop_assert_eq!(&last.detected_language, UNDETERMINED);
            prop_assert!(named.windows(2).all(|pair| pair[0].confidence >= pair[1].confidence));
            prop_assert!(named.iter().all(|one| one.confidence > 0.0 && one.confidence >= last.confidence));
            prop_assert!(found.iter().map(|one| one.confidence).sum::<f64>() < 1.0 + 1e-9);
        }
    }
}
